# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two nodes: systemd containers on the internal network, and what brings them back after an accident."""

from __future__ import annotations

from .build import Builder
from .host import DOCKER, LABEL, NETWORK, NODES, cgroup_version, clear_leftovers, docker, network_exists
from .images import node_image
from .report import LabError, wait_for
from .shell import attempt, run


def ensure_nodes(builder: Builder, content: str) -> None:
    """Both nodes run and have booted; stopped ones are started, missing ones made."""
    states = {name: state(name) for name in NODES}
    if "running" not in states.values():
        clear_leftovers()
    for name, address in NODES.items():
        if states[name] is None:
            _create(name, address, node_image(builder), content)
        elif states[name] != "running":
            docker("start", name, timeout=60)
    for name in NODES:
        wait_for(f"{name} to boot", lambda name=name: _booting(name), deadline=90, every=0.2)  # type: ignore[misc]


def state(name: str) -> str | None:
    """What Docker says of a node: running, exited …; None when there is none.

    Raises LabError for a container of that name that is not the lab's.
    """
    form = '{{.State.Status}} {{index .Config.Labels "' + LABEL + '"}}'
    done = attempt([DOCKER, "container", "inspect", "--format", form, name], timeout=20)
    if done.returncode != 0:
        return None
    status, *label = done.stdout.split()
    if not label:
        raise LabError(f"there is a container {name} on this machine that is not the lab's; rename it or remove it")
    return status


def started_at(name: str) -> str:
    """When the node was last started (RFC 3339): what its pods say from before is out of date."""
    return docker("inspect", "--format", "{{.State.StartedAt}}", name).strip()


def on(node: str, *argv: str, timeout: float = 60, stdin: str | None = None) -> str:
    """Run a command on a node and return what it prints."""
    return run([DOCKER, "exec", "--interactive", node, *argv], timeout=timeout, stdin=stdin)


def write(node: str, path: str, content: str) -> None:
    """Write a small file on a node; its text never shows in a process list."""
    on(node, "sh", "-c", 'umask 077; mkdir -p "$(dirname "$1")"; cat >"$1"', "sh", path, stdin=content)


def unit_log(node: str, unit: str, lines: int = 25) -> str:
    """The last log lines of a unit, for the message of a failed step."""
    argv = ["journalctl", "--no-pager", "--output=cat", f"--lines={lines}", f"--unit={unit}"]
    return f"last lines of {unit} on {node}:\n{on(node, *argv, timeout=20)}"


def remove_nodes() -> None:
    """Remove both nodes with their volumes, and the network; what is not there needs no removal."""
    for name in NODES:
        if state(name) is not None:
            docker("rm", "--force", "--volumes", name, timeout=120)
        if attempt([DOCKER, "volume", "inspect", _volume(name)]).returncode == 0:
            docker("volume", "rm", _volume(name))
    if network_exists():
        docker("network", "rm", NETWORK)


def _create(name: str, address: str, image: str, content: str) -> None:
    cgroups = ["--cgroupns=private"]
    if cgroup_version() == 1:
        cgroups = ["--cgroupns=host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"]
    docker(
        *("run", "--detach", "--name", name, "--hostname", name, "--network", NETWORK, "--ip", address),
        # Everything but SYS_RESOURCE, which a machine may not have to give; the other locks would stop a kubelet.
        *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--security-opt", "seccomp=unconfined"),
        *("--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined"),
        *("--device-cgroup-rule", "a *:* rwm", "--device", "/dev/kmsg", "--device", "/dev/fuse"),
        *("--tmpfs", "/run", "--tmpfs", "/tmp:exec", *cgroups, "--volume", f"{_volume(name)}:/var"),
        *("--label", f"{LABEL}={content}", image),
        timeout=120,
    )


def _booting(name: str) -> str | None:
    answer = attempt([DOCKER, "exec", name, "systemctl", "is-system-running"], timeout=20).stdout.strip()
    if answer != "degraded":
        return None if answer == "running" else (answer or state(name) or "no answer")
    lines = on(name, "systemctl", "list-units", "--failed", "--plain", "--no-legend").splitlines()
    failed = [line.split()[0] for line in lines if line.split()]
    # A unit that gave up, such as a Docker that was killed too often, gets another chance each time we look.
    on(name, "systemctl", "reset-failed")
    attempt([DOCKER, "exec", name, "systemctl", "start", "--no-block", *failed])
    return f"failed units {', '.join(failed)}"


def _volume(name: str) -> str:
    return f"lumen-{name}"
