# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a developer's day does to the lab, and that the next `lab.py up` brings it back by itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from .conftest import ROOT, command, eventually


def up(root: Path = ROOT, deadline: float = 420) -> float:
    """Run `lab.py up` of a clone; return its seconds, or fail with what it printed."""
    begin = time.monotonic()
    done = command([sys.executable, str(root / "lab" / "lab.py"), "up"], timeout=deadline)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - begin


def test_with_the_cluster_up_it_takes_seconds() -> None:
    """The limit that a developer feels each time."""
    up()
    assert up() < 10


def test_a_second_clone_adopts_the_running_lab(tmp_path: Path) -> None:
    """Same content, another place: nothing is rebuilt, and the clone gets its kubeconfig, kubectl and token."""
    from driver import paths
    from driver.nodes import started_at

    before = {name: started_at(name) for name in ("node-1", "node-2")}
    for name in paths.CONTENT:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, tmp_path / name)
    shutil.copyfile(ROOT / "lab" / "lab.py", tmp_path / "lab" / "lab.py")
    up(tmp_path)
    assert {name: started_at(name) for name in before} == before
    nodes = command([str(tmp_path / ".lab" / "bin" / "kubectl"), "get", "nodes", "-o", "name"])
    assert nodes.stdout.split() == ["node/node-1", "node/node-2"], nodes.stderr
    token = tmp_path / ".lab" / "gitea" / "token"
    assert token.read_text() == (ROOT / ".lab" / "gitea" / "token").read_text()
    assert token.stat().st_mode & 0o777 == 0o600


def test_a_killed_engine_leaves_the_cluster_running() -> None:
    """dockerd alone is killed: containers stay, and the next engine takes them over as they are."""
    from driver.nodes import started_at

    before = {name: started_at(name) for name in ("node-1", "node-2")}
    os.kill(_engine(), signal.SIGKILL)
    assert up() < 60
    assert {name: started_at(name) for name in before} == before


def test_everything_killed_comes_back() -> None:
    """As after a power cut: engine, shims and every process in the nodes are gone; data and identity stay."""
    from driver.cluster import gitea_silent, kubectl
    from driver.host import NODES, docker

    kubectl("create", "configmap", "survivor", "-n", "default", "--from-literal=is=here")
    try:
        inits = [int(docker("inspect", "--format", "{{.State.Pid}}", name)) for name in NODES]
        containerd = int(Path("/run/docker/containerd/containerd.pid").read_text())
        for pid in (_engine(), containerd, *(_parent(pid) for pid in inits), *inits):
            os.kill(pid, signal.SIGKILL)
        assert up() < 400
        survivor = json.loads(kubectl("get", "configmap", "survivor", "-n", "default", "-o", "json"))
        assert survivor["data"] == {"is": "here"}
        assert gitea_silent() is None
    finally:
        kubectl("delete", "configmap", "survivor", "-n", "default", "--ignore-not-found")


def _engine() -> int:
    """The process of the engine that the lab started; never another one."""
    from driver.host import ENGINE_PID

    pid = int(ENGINE_PID.read_text())
    assert Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd"
    return pid


def _parent(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat[stat.rindex(")") + 2 :].split()[1])


def test_down_puts_the_machine_back_and_half_a_lab_is_continued() -> None:
    """Routes, settings and engine as they were before; nothing left but the cache and the reports."""
    from driver import host, nodes

    record = json.loads(host.RECORD.read_text())
    done = command([sys.executable, str(ROOT / "lab" / "lab.py"), "down"], timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    routes = command(["ip", "route", "show"]).stdout
    assert not [route for route in record["routes"] if route in routes]
    now = {name: (Path("/proc/sys") / name.replace(".", "/")).read_text().strip() for name in record["sysctls"]}
    assert now == record["sysctls"]
    assert not host.engine_answers()
    assert not Path(f"/sys/class/net/{host.BRIDGE}").exists()
    assert not (ROOT / ".lab" / "kubeconfig").exists()
    assert not (ROOT / ".lab" / "gitea").exists()

    # Killed in the middle: the nodes are there, the cluster is not. The next run continues with them.
    victim = subprocess.Popen([sys.executable, str(ROOT / "lab" / "lab.py"), "up"], stdout=subprocess.DEVNULL)
    eventually("kubeadm begins", _kubeadm_runs, 240)
    victim.kill()
    victim.wait(timeout=10)
    before = {name: nodes.started_at(name) for name in host.NODES}
    up()
    assert {name: nodes.started_at(name) for name in host.NODES} == before


def _kubeadm_runs() -> bool:
    return command(["/usr/bin/docker", "exec", "node-1", "test", "-e", "/etc/kubernetes/admin.conf"]).returncode == 0
