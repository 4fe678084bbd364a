# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ansible-playbook above us, found in a /proc of our own."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.services.process import alive, find

PLAYBOOK = ("/usr/bin/python3.11", "/opt/venv/bin/ansible-playbook", "release.yml")


class Machine:
    """A /proc and an /etc/machine-id."""

    def __init__(self, root: Path) -> None:
        self.proc = root / "proc"
        self.machine_id = root / "machine-id"
        self.machine_id.write_text("m1\n")
        self.boot("b1")
        (self.proc / "self/ns").mkdir(parents=True)
        os.symlink("pid:[1]", self.proc / "self/ns/pid")

    def boot(self, boot: str) -> None:
        path = self.proc / "sys/kernel/random"
        path.mkdir(parents=True, exist_ok=True)
        (path / "boot_id").write_text(boot + "\n")

    def process(self, pid: int, parent: int, *argv: str, start: int = 100, state: str = "S") -> None:
        path = self.proc / str(pid)
        path.mkdir(parents=True, exist_ok=True)
        fields = " ".join(["0"] * 17)
        (path / "stat").write_text(f"{pid} (a (strange) name) {state} {parent} {fields} {start} 0 0\n")
        (path / "cmdline").write_bytes(b"".join(argument.encode() + b"\0" for argument in argv))

    def find(self, pid: int) -> dict[str, Any]:
        return find(pid, self.proc, self.machine_id)

    def alive(self, process: dict[str, Any]) -> bool | None:
        return alive(process, self.proc, self.machine_id)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """ansible-playbook (10) under make (5), with a worker (20), and a module (22) under a shell (21)."""
    machine = Machine(tmp_path)
    machine.process(1, 0, "/sbin/init")
    machine.process(5, 1, "make", "demo", "ansible-playbook")
    machine.process(10, 5, *PLAYBOOK, start=1000)
    machine.process(20, 10, *PLAYBOOK, start=2000)
    machine.process(21, 20, "/bin/sh", "-c", "/usr/bin/python3 /home/a/.ansible/tmp/AnsiballZ_x.py")
    machine.process(22, 21, "/usr/bin/python3", "/home/a/.ansible/tmp/AnsiballZ_x.py")
    return machine


@pytest.mark.parametrize("pid", [10, 20, 21, 22])
def test_finds_the_ansible_playbook_above(machine: Machine, pid: int) -> None:
    assert machine.find(pid) == {
        "host": socket.gethostname(),
        "boot": "b1",
        "pid": 10,
        "start": 1000,
        "machine": "m1",
        "namespace": "pid:[1]",
    }


@pytest.mark.parametrize(
    "starter",
    [
        ("/bin/bash", "-c", "ansible-playbook release.yml; echo done"),
        ("timeout", "100", "ansible-playbook", "release.yml"),
        ("/usr/bin/python3", "/usr/bin/ansible-runner", "run"),
        ("/usr/bin/python3", "/usr/bin/molecule", "converge"),
    ],
)
def test_what_merely_started_it_is_not_it(machine: Machine, starter: tuple[str, ...]) -> None:
    machine.process(5, 1, *starter)
    assert machine.find(22)["pid"] == 10


def test_a_playbook_within_a_playbook_is_the_inner_one(machine: Machine) -> None:
    machine.process(30, 22, *PLAYBOOK, start=3000)
    assert machine.find(30)["pid"] == 30


def test_none_is_found_where_there_is_none(machine: Machine) -> None:
    machine.process(40, 1, "/usr/bin/python3", "/home/a/.ansible/tmp/AnsiballZ_x.py")
    assert machine.find(40) == {}
    assert machine.find(999) == {}


def test_lives(machine: Machine) -> None:
    assert machine.alive(machine.find(22)) is True


def test_dead_when_its_number_is_gone_or_belongs_to_another_or_to_a_zombie(machine: Machine) -> None:
    process = machine.find(22)
    assert machine.alive({**process, "pid": 99}) is False
    machine.process(10, 5, *PLAYBOOK, start=9000)
    assert machine.alive(process) is False
    machine.process(10, 5, *PLAYBOOK, start=1000, state="Z")
    assert machine.alive(process) is False


def test_dead_after_a_reboot(machine: Machine) -> None:
    process = machine.find(22)
    machine.boot("b2")
    assert machine.alive(process) is False


@pytest.mark.parametrize("other", [{"host": "elsewhere"}, {"machine": "m2"}, {"namespace": "pid:[2]"}])
def test_nothing_is_said_about_other_machines_and_containers(machine: Machine, other: dict[str, str]) -> None:
    assert machine.alive({**machine.find(22), **other, "pid": 99}) is None


def test_nothing_is_said_without_a_machine_id(machine: Machine) -> None:
    machine.machine_id.unlink()
    assert machine.alive({**machine.find(22), "boot": "b2"}) is None


def test_nothing_is_said_about_an_unknown_process(machine: Machine) -> None:
    assert machine.alive({}) is None


def test_the_real_proc_is_understood() -> None:
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    me = {
        "host": socket.gethostname(),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "pid": os.getpid(),
        "start": int(stat[19]),
        "machine": Path("/etc/machine-id").read_text().strip() if Path("/etc/machine-id").exists() else "",
        "namespace": os.readlink("/proc/self/ns/pid"),
    }
    assert alive(me) is True
    assert alive({**me, "start": 1}) is False
