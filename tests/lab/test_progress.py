# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real runs of ansible-playbook on this machine: what a slow module says is seen while it works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.loopback

ROOT = Path(__file__).resolve().parents[2]
PLAY = Path(__file__).parent / "progress" / "play.yml"
DEADLINE = 15.0


@pytest.fixture(scope="session", autouse=True)
def lab() -> None:
    """These tests need no lab: instead of the fixture in conftest.py."""


class Site:
    """One run of the play, with a directory where a step waits for the file of its name."""

    def __init__(self, directory: Path) -> None:
        self.gates = directory / "gates"
        self.temporary = directory / "tmp"
        self.gates.mkdir(parents=True)
        self.temporary.mkdir()
        self.process: subprocess.Popen[str] | None = None

    def play(self, *arguments: str, **variables: Any) -> subprocess.Popen[str]:
        """Start ansible-playbook."""
        given = {"gates": str(self.gates), "ansible_system_tmpdirs": [str(self.temporary)], **variables}
        argv = [
            str(ROOT / ".venv/bin/ansible-playbook"),
            "--inventory",
            "localhost,",
            "--extra-vars",
            json.dumps(given),
        ]
        paths = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build")}
        self.process = subprocess.Popen(
            [*argv, *arguments, str(PLAY)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **paths},
        )
        return self.process

    def module_has_ended(self) -> bool:
        return not (Path("/proc") / (self.gates / "pid").read_text()).exists()

    def is_tidy(self) -> bool:
        return not list(self.temporary.iterdir())

    def close(self) -> None:
        """Leave nothing running."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.communicate(timeout=DEADLINE)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    """Make a Site."""
    made: list[Site] = []

    def make(name: str) -> Site:
        made.append(Site(tmp_path / name))
        return made[-1]

    yield make
    for one in made:
        one.close()


def eventually(what: str, probe: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not probe():
        assert time.monotonic() < end, f"{what}: not within {DEADLINE:g} s"
        time.sleep(0.05)


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    """Read the play's output up to a line."""
    assert process.stdout is not None
    seen = []
    for text in process.stdout:
        seen.append(text)
        if text.rstrip() == line:
            return
    pytest.fail(f"{line!r} was not printed: {''.join(seen)}")


def test_lines_are_seen_while_the_module_works(site: Callable[[str], Site]) -> None:
    here = site("here")
    running = here.play(steps=["one", "two"])
    wait_for(running, "working on one")
    (here.gates / "one").touch()
    wait_for(running, "working on two")
    assert running.poll() is None
    (here.gates / "two").touch()
    output, _ = running.communicate(timeout=DEADLINE)
    assert running.returncode == 0, output
    assert "changed=1" in output
    assert here.is_tidy()


def test_whatever_ends_the_task_ends_the_module(site: Callable[[str], Site]) -> None:
    """Signals to ansible-playbook, its death without a word, and the timeout of the task."""
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGKILL}
    sites = {number: site(number.name) for number in numbers}
    late = site("late")
    late_run = late.play(steps=["never"], task_timeout=5)
    wait_for(late_run, "working on never")
    runs = {number: one.play(steps=["never"]) for number, one in sites.items()}
    for number, running in runs.items():
        wait_for(running, "working on never")
        running.send_signal(number)
    for number, one in sites.items():
        eventually(f"{number.name} ends the module", one.module_has_ended)
        eventually(f"{number.name} leaves nothing behind", one.is_tidy)
    output, _ = late_run.communicate(timeout=DEADLINE)
    assert late_run.returncode == 2
    assert "Timed out after 5 second(s)" in output
    assert late.module_has_ended()
    assert late.is_tidy()


def test_the_result_is_that_of_an_ordinary_run(site: Callable[[str], Site], tmp_path: Path) -> None:
    here = site("here")
    gates = here.gates
    (gates / "kept").touch()
    (gates / "lines").write_text("of another run\n")
    report = tmp_path / "report"
    running = here.play("--tags", "compare", report=str(report))
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 0, output
    seen = json.loads(report.read_text())

    for quiet, followed in (seen["succeeded"]["results"], seen["failed"]["results"]):
        assert (quiet.pop("item"), followed.pop("item")) == (True, False)
        for one in (quiet, followed):
            one.get("invocation", {}).get("module_args", {}).pop("quiet", None)
        assert quiet == followed
    done, refused = seen["succeeded"]["results"][1], seen["failed"]["results"][1]
    assert done["said"] == "the password is ********"
    assert done["diff"] == {"before": "", "after": "größe\n"}
    assert done["home"] == f"{gates}/home"
    assert refused["msg"] == "as it was told"
    assert "hunter2" not in output + report.read_text()

    assert (gates / "lines").read_text() == "of another run\nworking on kept\n"
    assert output.count("working on kept\n") == 1, "what is not quiet, hidden, checked or asynchronous"
    assert "of another run" not in output
    assert seen["checked"]["check"]
    assert seen["left"]["finished"]
    assert here.is_tidy()
