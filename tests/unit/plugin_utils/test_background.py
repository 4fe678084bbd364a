# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A job is followed to its end, its result is the module's own, and whatever interrupts it ends it."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.plugin_utils import background
from ansible_collections.lumen.airgap.plugins.plugin_utils.background import (
    Answer,
    BackgroundAction,
    Interrupted,
    Job,
    interrupts,
    parse,
)
from ansible_collections.lumen.airgap.plugins.plugin_utils.streaming import ParentGone
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream

RESULT = '{"changed": true}'


# What the scripts print


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("m running\n\nm\n", Answer("running", [], "")),
        ("m running\na\nb\n\nm\n", Answer("running", ["a", "b"], "")),
        ("m running\na\nhal\nm\n", Answer("running", ["a"], "")),
        ("m running\na\n\n\nm\n", Answer("running", ["a", ""], "")),
        ("Last login: today\nm 0\na\n\nm\n{}\n", Answer("0", ["a"], "{}\n")),
        ("m running\r\na\r\n\r\nm\r\n", Answer("running", ["a"], "")),
        ("m 0\n\nm\nm 1\n\nm\n", Answer("0", [], "m 1\n\nm\n")),
        ("", None),
        ("mkdir: cannot create directory", None),
        ("m running\na\n", None),
    ],
)
def test_an_answer_is_told_from_everything_else(text: str, answer: Answer | None) -> None:
    assert parse(text, "m") == answer


# A job


class Node:
    """Answers the scripts of a job: ``tell(...)`` plans what the next look finds, an exception is raised."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.plan: list[Any] = []
        self.calls: list[list[str]] = []
        self.input: list[bytes | None] = []
        self.lines_of_others = "0"
        self.at_the_end: Exception | None = None

    def tell(self, *plan: Any) -> None:
        self.plan += plan

    def execute(self, command: str, in_data: bytes | None = None) -> dict[str, Any]:
        words = shlex.split(command)
        self.calls.append(words)
        if words[0] == "wc":
            return result(self.lines_of_others)
        script, mark, first = words[2], words[5], int(words[7])
        if script == background._END:
            if self.at_the_end:
                raise self.at_the_end
            return result("")
        self.input.append(in_data)
        step = self.plan.pop(0)
        if isinstance(step, BaseException):
            raise step
        if callable(step):
            step = step()
        if isinstance(step, str):
            return result(step)
        state, lines, *output = step
        self.said += lines
        printed = "".join(f"{line}\n" for line in self.said[first - 1 :])
        return result(f"{mark} {state}\n{printed}\n{mark}\n" + "".join(output))

    @property
    def ended(self) -> bool:
        """Whether the last thing that was asked of the node was to end the job."""
        return self.calls[-1][2] == background._END


def result(stdout: str) -> dict[str, Any]:
    return {"rc": 0, "stdout": stdout, "stdout_lines": stdout.splitlines(), "stderr": "", "stderr_lines": []}


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def job(node: Node, stream: FakeStream, clock: FakeClock) -> Job:
    return Job(node.execute, stream, clock, "/var/tmp/x", None)


def test_a_quick_job_is_one_round_trip(node: Node, job: Job, stream: FakeStream, clock: FakeClock) -> None:
    node.tell(("0", ["all there"], RESULT))
    assert job.run("python3", b"import this") == result(RESULT)
    assert stream.lines == ["all there"]
    assert node.input == [b"import this"]
    assert len(node.calls) == 1
    assert clock.monotonic() == 0
    assert node.calls[0][4] == "/var/tmp/x"
    assert node.calls[0][8:] == ["python3", "input"]


def test_a_command_that_reads_no_input_is_given_none(node: Node, job: Job) -> None:
    node.tell(("0", [], RESULT))
    job.run("python3 /tmp/module", None)
    assert node.calls[0][8:] == ["python3 /tmp/module"]


def test_lines_are_printed_once_and_when_they_come(node: Node, job: Job, stream: FakeStream, clock: FakeClock) -> None:
    seen: list[list[str]] = []
    node.tell(
        ("running", ["1"]),
        lambda: seen.append(list(stream.lines)) or ("running", []),
        ("running", ["2", "3"]),
        lambda: seen.append(list(stream.lines)) or ("7", ["4"], RESULT),
    )
    assert job.run("python3", b"")["rc"] == 7
    assert seen == [["1"], ["1", "2", "3"]]
    assert stream.lines == ["1", "2", "3", "4"]
    assert clock.monotonic() == pytest.approx(0.2 + 0.4 + 0.8, abs=0.001)
    assert not node.ended


def test_lines_that_were_in_a_given_file_are_not_printed(node: Node, stream: FakeStream, clock: FakeClock) -> None:
    node.said = ["of another run"]
    node.lines_of_others = "1\n"
    node.tell(("running", ["1"]), ("0", ["2"], RESULT))
    job = Job(node.execute, stream, clock, "/var/tmp/x", "/srv/import log")
    job.run("python3", b"")
    assert stream.lines == ["1", "2"]
    assert node.calls[0] == ["wc", "-l", "</srv/import log", "2>/dev/null"]
    assert {call[6] for call in node.calls[1:]} == {"/srv/import log"}


def test_what_cannot_be_started_is_for_ansible_to_report(node: Node, job: Job) -> None:
    node.tell("mkdir: cannot create directory '/var/tmp/x': No space left on device")
    assert "No space left" in job.run("python3", b"")["stdout"]
    assert node.ended


def test_a_job_that_vanishes_is_an_error(node: Node, job: Job, stream: FakeStream) -> None:
    node.tell(("running", ["1"]), ("lost", ["2"]))
    with pytest.raises(AirgapError, match="it was killed, or the node was started again"):
        job.run("python3", b"")
    assert stream.lines == ["1", "2"]
    assert node.ended


def test_a_connection_that_comes_back_is_waited_for(node: Node, job: Job, stream: FakeStream) -> None:
    node.tell(("running", ["1"]), *[AnsibleConnectionFailure("gone")] * 20, "sudo: try again", ("0", ["2"], RESULT))
    assert job.run("python3", b"")["stdout"] == RESULT
    assert stream.lines == ["1", "2"]


def test_a_connection_that_stays_away_is_reported(node: Node, job: Job, clock: FakeClock) -> None:
    node.tell(("running", []), *[AnsibleConnectionFailure("gone")] * 100)
    with pytest.raises(AnsibleConnectionFailure, match="gone"):
        job.run("python3", b"")
    assert 30 < clock.monotonic() <= 32
    assert node.ended


def test_a_node_that_answers_nonsense_is_reported(node: Node, job: Job, clock: FakeClock) -> None:
    node.tell(("running", []), *["sudo: a password is required"] * 100)
    with pytest.raises(AirgapError, match="It answers: sudo: a password is required"):
        job.run("python3", b"")
    assert 30 < clock.monotonic() <= 32


def test_no_job_lasts_for_ever(node: Node, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "LIMIT", 7200.0)
    node.tell(*[("running", [])] * 10_000)
    with pytest.raises(AirgapError, match="not ended within 2 hours"):
        job.run("python3", b"")
    assert node.ended


@pytest.mark.parametrize("end", [KeyboardInterrupt(), Interrupted(signal.SIGTERM), OSError("broken")])
def test_whatever_interrupts_it_ends_the_job(node: Node, job: Job, end: BaseException) -> None:
    node.tell(("running", []), end)
    with pytest.raises(type(end)):
        job.run("python3", b"")
    assert node.ended


def test_a_dead_parent_ends_the_job(node: Node, job: Job, stream: FakeStream) -> None:
    node.tell(("running", ["1"]), lambda: stream.die() or ("running", []))
    with pytest.raises(ParentGone):
        job.run("python3", b"")
    assert node.ended


def test_a_job_that_cannot_be_ended_hides_no_error(node: Node, job: Job) -> None:
    node.tell(("running", []), OSError("broken"))
    node.at_the_end = AnsibleConnectionFailure("gone too")
    with pytest.raises(OSError, match="broken"):
        job.run("python3", b"")
    assert node.ended


# Signals


@pytest.fixture
def handled() -> Any:
    """What reaches the handler that was there before."""
    got: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, _frame: got.append(number))
    yield got
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_cleaning_up(handled: list[int], number: int) -> None:
    steps: list[Any] = []

    def work() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # Impatience changes nothing.
            steps.append(list(handled))

    with pytest.raises(Interrupted), interrupts():
        work()
    assert steps == [[]]
    assert handled == [number]


def test_without_a_signal_everything_is_as_before(handled: list[int]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    assert handled == []


# The action


class Action:
    """A BackgroundAction on an ActionBase that runs a module by one sudoable command, as Ansible's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, node: Node, clock: FakeClock) -> None:
        self.args: dict[str, Any] = {}
        self.commands: list[tuple[str, bool]] = []
        self.printed: list[str] = []
        self.returned: dict[str, Any] = {"changed": True}
        self.wrapped: list[bool] = []
        self.clock = clock

        def low_level(_self: Any, cmd: str, sudoable: bool = True, in_data: bytes | None = None) -> dict[str, Any]:
            self.commands.append((cmd, sudoable))
            return node.execute(cmd, in_data=in_data) if cmd.startswith("/bin/sh -c") else result("{}")

        def execute_module(
            this: Any, module_args: Any = None, task_vars: Any = None, wrap_async: bool = False
        ) -> dict[str, Any]:
            self.args = this._task.args if module_args is None else module_args
            self.wrapped.append(wrap_async)
            this._low_level_execute_command("mkdir", sudoable=False)
            this._low_level_execute_command("python3", sudoable=True, in_data=b"module")
            return self.returned

        monkeypatch.setattr(ActionBase, "run", lambda self, tmp=None, task_vars=None: {})
        monkeypatch.setattr(ActionBase, "_low_level_execute_command", low_level)
        monkeypatch.setattr(ActionBase, "_execute_module", execute_module)
        monkeypatch.setattr(ActionBase, "get_shell_option", lambda self, name: {"system_tmpdirs": ["/var/tmp"]}[name])
        screen = SimpleNamespace(display=self.printed.append, vvv=lambda _text: None)
        monkeypatch.setattr(background, "Display", lambda: screen)

    def run(self, args: dict[str, Any] | None = None, hosts: int = 1, **task: Any) -> dict[str, Any]:
        given = {"check_mode": False, "no_log": False, "async_val": 0, "args": args or {}, **task}
        action = BackgroundAction.__new__(BackgroundAction)
        action._task = SimpleNamespace(**given)
        action._connection = SimpleNamespace(has_native_async=False)
        action.clock = self.clock
        return action.run(None, {"ansible_play_batch": ["node-1"] * hosts, "inventory_hostname": "node-1"})


@pytest.fixture
def action(monkeypatch: pytest.MonkeyPatch, node: Node, clock: FakeClock) -> Action:
    return Action(monkeypatch, node, clock)


def test_the_modules_command_alone_is_followed(action: Action, node: Node) -> None:
    node.tell(("running", ["1"]), ("0", ["2"], RESULT))
    assert action.run({"images": []}) == {"changed": True}
    assert [command for command, sudoable in action.commands if not sudoable] == ["mkdir"]
    assert all(sudoable for command, sudoable in action.commands[1:])
    assert node.calls[0][8:] == ["python3", "input"]
    assert action.printed == ["1", "2"]
    directory = node.calls[0][4]
    assert directory.startswith("/var/tmp/lumen-airgap-")
    assert action.args == {"images": [], "progress_path": f"{directory}/progress"}


def test_the_host_is_named_when_there_are_several(action: Action, node: Node) -> None:
    node.tell(("0", ["1"], RESULT))
    action.run(hosts=2)
    assert action.printed == ["[node-1] 1"]


def test_the_result_does_not_show_the_temporary_file(action: Action, node: Node) -> None:
    action.returned = {"invocation": {"module_args": {"name": "x", "progress_path": "/var/tmp/x/progress"}}}
    node.tell(("0", [], RESULT))
    assert action.run() == {"invocation": {"module_args": {"name": "x", "progress_path": None}}}


def test_a_given_file_is_the_modules(action: Action, node: Node) -> None:
    action.returned = {"invocation": {"module_args": {"progress_path": "/srv/log"}}}
    node.tell(("0", ["1"], RESULT))
    assert action.run({"progress_path": "/srv/log"})["invocation"]["module_args"]["progress_path"] == "/srv/log"
    assert action.args == {"progress_path": "/srv/log"}
    assert action.printed == ["1"]


def test_a_relative_file_is_refused(action: Action) -> None:
    failed = action.run({"progress_path": "log"})
    assert failed == {"failed": True, "msg": "The option progress_path must be an absolute path, not 'log'"}
    assert action.commands == []


@pytest.mark.parametrize(
    ("args", "task"),
    [({"quiet": True}, {}), ({"quiet": "yes"}, {}), ({}, {"check_mode": True}), ({}, {"no_log": True})],
)
def test_what_prints_nothing_runs_as_any_module(action: Action, args: dict[str, Any], task: dict[str, Any]) -> None:
    assert action.run(args, **task) == {"changed": True}
    assert [command for command, _ in action.commands] == ["mkdir", "python3"]
    assert action.args == args
    assert action.wrapped == [False]


def test_a_task_with_async_is_left_to_ansible(action: Action) -> None:
    action.run(async_val=60)
    assert action.wrapped == [True]
    assert [command for command, _ in action.commands] == ["mkdir", "python3"]


def test_a_lost_job_fails_the_task(action: Action, node: Node) -> None:
    node.tell(("lost", []))
    failed = action.run()
    assert failed["failed"]
    assert "run the task again" in failed["msg"]


def test_a_dead_parent_fails_the_task(
    action: Action, node: Node, monkeypatch: pytest.MonkeyPatch, stream: FakeStream
) -> None:
    monkeypatch.setattr(background, "Stream", lambda *_, **__: stream)
    plan: list[Callable[[], Any]] = [lambda: stream.die() or ("running", [])]
    node.tell(*plan)
    assert action.run() == {"failed": True, "msg": "ansible-playbook (process 1000) is gone"}
    assert node.ended
