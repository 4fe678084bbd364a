# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of ansible-playbook: to their end, or watched and killed on the way.

Deadlines are for a machine that does nothing else, as those of ``eventually`` are.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .conftest import LOAD, ROOT


class Run:
    """One run, read while it works. ``text`` is what it has printed so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: list[str] = []
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        return "".join(self._lines)

    def until(self, pattern: str, deadline: float = 90) -> bool:
        """Whether a line with ``pattern`` in it comes; False when the run ends without one."""
        deadline *= LOAD
        end, seen = time.monotonic() + deadline, 0
        while True:
            with self._said:
                fresh, seen = self._lines[seen:], len(self._lines)
                if any(re.search(pattern, line) for line in fresh):
                    return True
                if not fresh and not self._reader.is_alive():
                    return False
                assert time.monotonic() < end, f"no '{pattern}' within {deadline:g} s:\n{self.text[-6000:]}"
                self._said.wait(0.2)

    def kill(self, alone: bool = False) -> None:
        """SIGKILL: to it and all it has started, or to it ``alone``, whose workers are left to find out."""
        for pid in [self.process.pid] + ([] if alone else descendants(self.process.pid)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(10)

    def end(self, deadline: float = 300) -> tuple[int, str]:
        """Its exit code and what it has printed, once it has ended by itself."""
        deadline *= LOAD
        try:
            code = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"not ended within {deadline:g} s:\n{self.text[-6000:]}") from None
        self._reader.join(10)
        return code, self.text

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                with self._said:
                    self._lines.append(line)
                    self._said.notify_all()


class Plays:
    """``arguments`` and ``environment`` are what every run is given beside its playbook."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._argv = [str(Path(sys.executable).with_name("ansible-playbook")), *arguments]
        self._environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build"),
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self._runs: list[Run] = []

    def start(self, playbook: str, **variables: str) -> Run:
        words = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
        run = Run(
            subprocess.Popen(
                [*self._argv, *words, playbook],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        self._runs.append(run)
        return run

    def kill_all(self) -> None:
        """What a test that failed, or was interrupted, has left running."""
        for run in self._runs:
            if run.process.poll() is None:
                run.kill()

    def play(self, playbook: str, deadline: float = 300, **variables: str) -> tuple[int, str]:
        return self.start(playbook, **variables).end(deadline)

    def must_play(self, playbook: str, deadline: float = 300, **variables: str) -> str:
        code, output = self.play(playbook, deadline, **variables)
        assert code == 0, output[-6000:]
        return output


def descendants(pid: int) -> list[int]:
    """The processes that it has started, and theirs: ansible-playbook's workers are in groups of their own."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat = path.read_text()
        except OSError:
            continue  # it has ended
        children.setdefault(int(stat[stat.rindex(")") + 2 :].split()[1]), []).append(int(path.parent.name))
    found: list[int] = []
    rest = [pid]
    while rest:
        below = children.get(rest.pop(), [])
        found += below
        rest += below
    return found
