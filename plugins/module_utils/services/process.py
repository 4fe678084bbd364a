# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which ansible-playbook we belong to, and whether the one that a Lease names still runs.

A release outlives neither its ansible-playbook nor its machine. A Lease that names the process lets the next run take
over at once where waiting would only cost a minute.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

_PROC = Path("/proc")
_MACHINE_ID = Path("/etc/machine-id")


class _Process(NamedTuple):
    parent: int
    state: str
    start: int
    argv: tuple[str, ...]


def find(pid: int | None = None, proc: Path = _PROC, machine_id: Path = _MACHINE_ID) -> dict[str, Any]:
    """The ansible-playbook process above ``pid`` (default: this one).

    ``{host, boot, pid, start}``: host name, boot id, process id and its start in clock ticks since boot, and
    ``{machine, namespace}``: machine id and process-id namespace, without which equal host names would mislead.
    Empty when none is found, as in an asynchronous job: nothing can be said about its life then.
    """
    process_id = os.getpid() if pid is None else pid
    process = _read(proc, process_id)
    while process is not None and not _is_ansible(process.argv):
        process_id = process.parent
        process = _read(proc, process_id)
    if process is None:
        return {}
    # Above a worker stands the ansible-playbook that forked it; above that something that merely started it.
    above = _read(proc, process.parent)
    while above is not None and _is_ansible(above.argv):
        process_id, process = process.parent, above
        above = _read(proc, process.parent)
    return {
        "host": socket.gethostname(),
        "boot": _text(proc / "sys/kernel/random/boot_id"),
        "pid": process_id,
        "start": process.start,
        "machine": _text(machine_id),
        "namespace": _namespace(proc),
    }


def alive(process: Mapping[str, Any], proc: Path = _PROC, machine_id: Path = _MACHINE_ID) -> bool | None:
    """Whether ``process`` (from ``find``) still runs; None when that cannot be told from here."""
    machine = _text(machine_id)
    if not process or not machine or process["host"] != socket.gethostname() or process.get("machine") != machine:
        return None
    if process["boot"] != _text(proc / "sys/kernel/random/boot_id"):
        return False
    if process.get("namespace") != _namespace(proc):
        return None
    now = _read(proc, int(process["pid"]))
    return now is not None and now.start == int(process["start"]) and now.state not in "ZX"


def _is_ansible(argv: tuple[str, ...]) -> bool:
    """``ansible-playbook …`` or ``python … ansible-playbook …``; not the shell, module or runner around it."""
    names = [os.path.basename(argument) for argument in argv[:4]]
    if not names:
        return False
    candidates = names[1:] if names[0].startswith("python") else names[:1]
    return any(name.startswith("ansible") and name != "ansible-runner" for name in candidates)


def _read(proc: Path, pid: int) -> _Process | None:
    if pid < 1:
        return None
    try:
        stat = (proc / str(pid) / "stat").read_text(errors="replace")
        argv = (proc / str(pid) / "cmdline").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    arguments = tuple(argument.decode(errors="replace") for argument in argv.split(b"\0") if argument)
    return _Process(parent=int(fields[1]), state=fields[0], start=int(fields[19]), argv=arguments)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _namespace(proc: Path) -> str:
    try:
        return os.readlink(proc / "self/ns/pid")
    except OSError:
        return ""
