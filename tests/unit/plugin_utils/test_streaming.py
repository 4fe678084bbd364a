# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Arguments in, lines and a result out, and what happens when the parent dies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.plugin_utils import streaming
from ansible_collections.lumen.airgap.plugins.plugin_utils.streaming import (
    ParentGone,
    Stream,
    StreamingAction,
    plain,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream


class Text(str):
    """As the tagged and unsafe strings of ansible-core."""

    def __str__(self) -> str:
        return self


class Number(int):
    pass


class Real(float):
    pass


class Mapping(dict):  # type: ignore[type-arg]
    pass


class Vaulted:
    __ENCRYPTED__ = True

    def __str__(self) -> str:
        return "decrypted"


def types(value: Any) -> Any:
    if isinstance(value, dict):
        return {type(key): types(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [types(item) for item in value]
    return type(value)


def test_plain_makes_exact_types_of_everything() -> None:
    value = Mapping({Text("a"): [Text("b"), Number(1), Real(1.5), True, None, Vaulted(), (Text("c"),), b"x"]})
    result = plain(value)
    assert result == {"a": ["b", 1, 1.5, True, None, "decrypted", ("c",), b"x"]}
    assert type(result) is dict
    assert types(result) == {str: [str, int, float, bool, type(None), str, [str], bytes]}
    assert type(next(iter(plain({Text("s")})))) is str


def test_plain_untags_what_ansible_core_tags() -> None:
    datatag = pytest.importorskip("ansible.module_utils.datatag")
    tagged = datatag.deprecate_value("text", "old", version="9.9.9", collection_name="lumen.airgap")
    assert type(tagged) is not str
    assert type(plain(tagged)) is str
    number = datatag.deprecate_value([7], "old", version="9.9.9", collection_name="lumen.airgap")
    assert type(plain(number)) is list


def test_lines_are_written_at_once_with_prefix_and_without_secrets() -> None:
    lines: list[str] = []
    stream = Stream(lines.append, prefix="[lab] ", secrets=frozenset({"hunter2"}), getppid=lambda: 1)
    stream.line("password hunter2")
    assert lines == ["[lab] password ********"]


def test_quiet_writes_nothing_but_still_watches_the_parent() -> None:
    pids = [7, 7, 1]
    stream = Stream(lambda _text: pytest.fail("written"), quiet=True, getppid=lambda: pids.pop(0))
    stream.line("x")
    with pytest.raises(ParentGone):
        stream.line("y")


def test_the_fake_dies_too(stream: FakeStream) -> None:
    stream.line("x")
    stream.die()
    with pytest.raises(ParentGone, match="process 1000"):
        stream.check()
    assert stream.lines == ["x"]


# The action


class Greeter(StreamingAction):
    ARGUMENT_SPEC: ClassVar[dict[str, Any]] = {
        "name": {"type": "str", "required": True},
        "password": {"type": "str", "no_log": True},
        "count": {"type": "int", "default": 2},
        "quiet": {"type": "bool", "default": False},
        "options": {"type": "dict"},
    }
    call: Any = None

    def run_streaming(self, args: dict[str, Any], out: Stream) -> dict[str, Any]:
        return self.call(self, args, out)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    written: list[str] = []
    monkeypatch.setattr(streaming, "Display", lambda: SimpleNamespace(display=written.append))
    return written


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> Any:
    """Run a Greeter: act(call, args, transport=…, check=…, task_vars=…)."""
    monkeypatch.setattr(ActionBase, "run", lambda self, tmp=None, task_vars=None: {})

    def run(call: Any, args: dict[str, Any], transport: str = "local", check: bool = False, **task_vars: Any) -> Any:
        task = SimpleNamespace(args=args, check_mode=check, diff=False, action="lumen.airgap.greeter", async_val=0)
        action = Greeter.__new__(Greeter)
        action._task = task
        action._connection = SimpleNamespace(transport=transport)
        action._load_name = "greeter"
        action.call = lambda _self, given, out: call(action, given, out)
        return action.run(None, task_vars)

    return run


def test_arguments_are_validated_with_defaults_and_plain(act: Any) -> None:
    seen: dict[str, Any] = {}

    def call(_action: Any, args: dict[str, Any], _out: Stream) -> dict[str, Any]:
        seen.update(args)
        return {"changed": True}

    assert act(call, {"name": Text("x"), "options": Mapping({Text("a"): Text("b")})}) == {"changed": True}
    assert seen == {"name": "x", "count": 2, "quiet": False, "password": None, "options": {"a": "b"}}
    assert types(seen["options"]) == {str: str}
    assert type(seen["name"]) is str


def test_a_wrong_argument_is_refused(act: Any) -> None:
    with pytest.raises(AnsibleActionFail, match="missing required arguments: name"):
        act(lambda *_: {}, {})
    with pytest.raises(AnsibleActionFail, match="nonsense"):
        act(lambda *_: {}, {"name": "x", "nonsense": 1})


def test_an_error_fails_the_task_with_its_details(act: Any) -> None:
    def call(_action: Any, _args: Any, _out: Stream) -> dict[str, Any]:
        raise AirgapError("no such Rollout", conditions=["x"])

    assert act(call, {"name": "x"}) == {"failed": True, "msg": "no such Rollout", "conditions": ["x"]}


def test_secrets_reach_neither_result_nor_screen(act: Any, lines: list[str]) -> None:
    def call(_action: Any, args: dict[str, Any], out: Stream) -> dict[str, Any]:
        out.line(f"using {args['password']}")
        return {"password": args["password"], "said": f"it is {args['password']}", "args": args}

    result = act(call, {"name": "x", "password": "hunter2"})
    assert "hunter2" not in str(result) + str(lines)
    assert result["said"] == "it is ********"
    assert result["args"]["password"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


def test_another_connection_is_refused(act: Any) -> None:
    result = act(lambda *_: pytest.fail("called"), {"name": "x"}, transport="ssh")
    assert result["failed"]
    assert "cannot use the connection 'ssh'" in result["msg"]
    assert "ansible_connection: local" in result["msg"]


def test_quiet_and_check_mode_are_passed_on(act: Any, lines: list[str]) -> None:
    def call(action: Any, _args: Any, out: Stream) -> dict[str, Any]:
        out.line("x")
        return {"check": action.check_mode, "diff": action.diff_mode}

    assert act(call, {"name": "x", "quiet": True}, check=True) == {"check": True, "diff": False}
    assert lines == []


def test_the_host_is_named_when_there_are_several(act: Any, lines: list[str]) -> None:
    def call(_action: Any, _args: Any, out: Stream) -> dict[str, Any]:
        out.line("x")
        return {}

    act(call, {"name": "x"}, ansible_play_batch=["a"], inventory_hostname="a")
    act(call, {"name": "x"}, ansible_play_batch=["a", "b"], inventory_hostname="b")
    assert lines == ["x", "[b] x"]


def test_a_dead_parent_ends_the_action(act: Any) -> None:
    def call(_action: Any, _args: Any, _out: Stream) -> dict[str, Any]:
        raise ParentGone("ansible-playbook (process 7) is gone")

    assert act(call, {"name": "x"}) == {"failed": True, "msg": "ansible-playbook (process 7) is gone"}
