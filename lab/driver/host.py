# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The machine around the lab: Docker engine, the internal network, blackhole routes, kernel settings.

What is changed on the machine is written down before it is changed, and put back by ``restore``.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .paths import CACHE, STATE
from .report import LabError, say, wait_for
from .shell import attempt, run, write_atomically

DOCKER = "/usr/bin/docker"  # Debian's own: a newer client ahead in PATH does not fit its engine
NETWORK = "lumen-airgap"
BRIDGE = "br-lumen"
LABEL = "lumen.airgap.lab"
SUBNET, HOST_IP = "192.168.2.0/24", "192.168.2.1"
NODES = {"node-1": "192.168.2.2", "node-2": "192.168.2.3"}
REGISTRY = "192.168.2.2:5000"

# No packet for the lab may leave the machine while its network is away; a connected route wins over these.
_BLACKHOLES = (SUBNET, "10.42.0.0/16", "10.43.0.0/16")
# Set for the lab, or by a kubelet that shares this kernel (the ones without a value).
_SYSCTLS: dict[str, str | None] = {
    "net.bridge.bridge-nf-call-iptables": "0",  # with 1, Docker's isolation rules drop traffic between pods
    "net.ipv4.ip_forward": None,
    "fs.inotify.max_user_instances": "1024",
    "fs.inotify.max_user_watches": "524288",
    "vm.overcommit_memory": None,
    "vm.panic_on_oom": None,
    "kernel.panic": None,
    "kernel.panic_on_oops": None,
    "kernel.keys.root_maxkeys": None,
    "kernel.keys.root_maxbytes": None,
}
_CGROUPS = Path("/sys/fs/cgroup")
RECORD = STATE / "host.json"
ENGINE_PID = STATE / "dockerd.pid"


def docker(*words: str, timeout: float = 60, stdin: str | None = None) -> str:
    """Run Debian's Docker client; LabError with its words when it fails."""
    return run([DOCKER, *words], timeout=timeout, stdin=stdin)


@contextlib.contextmanager
def lock(deadline: float = 900) -> Iterator[None]:
    """One driver at a time on this machine; the kernel lets go of the lock of a driver that died."""
    STATE.mkdir(parents=True, exist_ok=True)
    with open(STATE / "lock", "w", encoding="ascii") as handle:

        def taken() -> str | None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return "another lab command holds it"
            return None

        wait_for("the lab's lock", taken, deadline)
        yield


def cgroup_version() -> int:
    """1 where the controllers are mounted one by one (also hybrid), 2 where there is one tree."""
    return 2 if (_CGROUPS / "cgroup.controllers").exists() else 1


def prepare() -> None:
    """Routes first, then the engine, then the kernel settings. Refuses where the lab would cut something off."""
    _refuse_foreign_routes()
    record = _read_record()
    record.setdefault("sysctls", {name: value for name in _SYSCTLS if (value := _sysctl(name)) is not None})
    record.setdefault("routes", [route for route in _BLACKHOLES if not _blackhole(route)])
    write_atomically(RECORD, json.dumps(record, indent=2))
    ensure_blackholes()
    _ensure_engine()
    for name, value in _SYSCTLS.items():
        if value is not None and _sysctl(name) not in (None, value):
            _set_sysctl(name, value)


def ensure_blackholes() -> None:
    """Keep every packet for the lab on this machine while its network is away."""
    for route in _BLACKHOLES:
        if not _blackhole(route):
            run(["ip", "route", "add", "blackhole", route, "metric", "4000"])


def engine_answers() -> bool:
    """Whether a Docker engine answers on the default socket."""
    if not Path(DOCKER).exists():
        return False
    return attempt([DOCKER, "version", "--format", "{{.Server.Version}}"], timeout=20).returncode == 0


def ensure_network(content: str) -> None:
    """The internal network: no egress, so the airgap is real; its label names the lab's content."""
    if not network_exists():
        docker(
            *("network", "create", "--internal", "--subnet", SUBNET, "--gateway", HOST_IP),
            *("--opt", f"com.docker.network.bridge.name={BRIDGE}", "--label", f"{LABEL}={content}", NETWORK),
        )


def network_exists() -> bool:
    """Nothing may send a packet to the lab's addresses unless this is true."""
    return attempt([DOCKER, "network", "inspect", NETWORK], timeout=20).returncode == 0


def content_of_running() -> str | None:
    """The content hash that the lab on this machine was made of; None when there is no lab."""
    done = attempt([DOCKER, "network", "inspect", "--format", '{{index .Labels "' + LABEL + '"}}', NETWORK], timeout=20)
    return done.stdout.strip() if done.returncode == 0 else None


def clear_leftovers() -> None:
    """Before stopped nodes start again: what a dead engine left would hold them up for minutes.

    Old kubepods in a shared cgroup v1 tree cost the kubelet 3 s each, and an old veth on the bridge with the
    same address answers «connection refused».
    """
    for veth in sorted((Path("/sys/class/net") / BRIDGE / "brif").glob("*")):
        attempt(["ip", "link", "delete", veth.name])
    if cgroup_version() == 1:
        for hierarchy in _CGROUPS.iterdir():
            for name in ("kubepods", "node-2"):
                _remove_cgroup(hierarchy / name)


def restore() -> None:
    """Stop the engine if we started it, take the routes away, put the settings back."""
    record = _read_record()
    _stop_engine()
    attempt(["ip", "link", "delete", BRIDGE])
    clear_leftovers()
    for route in record.get("routes", []):
        if _blackhole(route):
            run(["ip", "route", "delete", "blackhole", route, "metric", "4000"])
    for name, value in record.get("sysctls", {}).items():
        # Another engine that still runs needs what it set.
        if _sysctl(name) != value and not (name == "net.ipv4.ip_forward" and engine_answers()):
            _set_sysctl(name, value)
    RECORD.unlink(missing_ok=True)


def _ensure_engine() -> None:
    if engine_answers():
        if not _lives(ENGINE_PID):
            _check_foreign_engine()
        return
    if not Path("/usr/sbin/dockerd").exists():
        raise LabError("there is no Docker engine at /usr/sbin/dockerd; `make lab` installs Debian's docker.io")
    log = STATE / "dockerd.log"
    # A dead engine leaves its pid files, and a new one refuses to start when the number lives again elsewhere.
    for stale in (ENGINE_PID, Path("/run/docker/containerd/containerd.pid")):
        if not _lives(stale):
            stale.unlink(missing_ok=True)
    argv = [
        *("dockerd", "--bridge=none", "--dns", "127.0.0.1", "--storage-driver", "overlay2"),
        *("--exec-opt", "native.cgroupdriver=cgroupfs", "--insecure-registry", REGISTRY),
        *("--data-root", str(CACHE / "docker"), "--pidfile", str(ENGINE_PID), "--live-restore"),
    ]
    with open(log, "a", encoding="utf-8") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )

    def answering() -> str | None:
        if process.poll() is not None:
            return f"dockerd exited {process.returncode}"
        return None if engine_answers() else "no answer yet"

    try:
        wait_for("the Docker engine", answering, deadline=60)
    except LabError as error:
        raise LabError(f"{error}\nlast lines of {log}:\n" + "\n".join(log.read_text().splitlines()[-15:])) from error
    say("started the Docker engine")


def _check_foreign_engine() -> None:
    """An engine that somebody else started has to be able to push to node-1's registry."""
    info = json.loads(docker("info", "--format", "{{json .}}"))
    registries = info.get("RegistryConfig") or {}
    if REGISTRY not in registries.get("IndexConfigs", {}) and SUBNET not in registries.get("InsecureRegistryCIDRs", []):
        raise LabError(
            f"the Docker engine of this machine would speak TLS to {REGISTRY}: add "
            f'"insecure-registries": ["{REGISTRY}"] to its daemon.json, or stop it: the lab starts its own then'
        )
    if info.get("Driver") != "overlay2":
        raise LabError(f"the Docker engine of this machine stores by {info.get('Driver')}; the lab needs overlay2")


def _refuse_foreign_routes() -> None:
    """The lab's addresses may be somebody's real ones: a blackhole would cut them off."""
    for line in run(["ip", "-4", "route", "show"]).splitlines():
        words = line.split()
        if words[0] not in ("default", "blackhole") and BRIDGE not in words and _overlaps(words[0]):
            raise LabError(
                f"this machine reaches {words[0]} by another way ({line.strip()}), and the lab needs "
                f"{', '.join(_BLACKHOLES)} for itself: run it on another machine"
            )


def _overlaps(network: str) -> bool:
    try:
        real = ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False  # a word of `ip`, such as unreachable
    return any(real.overlaps(ipaddress.ip_network(mine)) for mine in _BLACKHOLES)


def _stop_engine() -> None:
    """Only the engine that wrote our pid file is ours to stop."""
    if not _lives(ENGINE_PID):
        return
    pid = int(ENGINE_PID.read_text())
    os.kill(pid, signal.SIGTERM)
    wait_for("the end of the Docker engine", lambda: "still running" if _lives(ENGINE_PID) else None, deadline=60)


def _lives(pidfile: Path) -> bool:
    """Whether the process of a pid file runs and is a Docker program, not a stranger with the same number."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(pidfile.read_text())
        return _name_of(pid) in ("dockerd", "containerd")
    return False


def _name_of(pid: int) -> str:
    stat = Path(f"/proc/{pid}/stat").read_text()
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    return "" if stat[stat.rindex(")") + 2] == "Z" else name


def _blackhole(route: str) -> bool:
    return f"blackhole {route}" in run(["ip", "route", "show", "type", "blackhole"])


def _sysctl(name: str) -> str | None:
    path = Path("/proc/sys") / name.replace(".", "/")
    return path.read_text().strip() if path.exists() else None


def _set_sysctl(name: str, value: str) -> None:
    (Path("/proc/sys") / name.replace(".", "/")).write_text(value)


def _remove_cgroup(path: Path) -> None:
    if not path.is_dir():
        return
    for folder, _children, _files in os.walk(path, topdown=False):
        # A directory is busy for a moment after its last process ended.
        for _try in range(10):
            try:
                os.rmdir(folder)
                break
            except OSError:
                time.sleep(0.05)


def _read_record() -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        return dict(json.loads(RECORD.read_text()))
    return {}
