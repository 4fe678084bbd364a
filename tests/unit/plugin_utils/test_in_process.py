# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work of a module in ansible-playbook itself, and when it is left to the module."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.lumen.airgap.plugins.module_utils.entry import Task
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.plugin_utils import in_process
from ansible_collections.lumen.airgap.plugins.plugin_utils.in_process import InProcessAction
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream

ROOT = Path(__file__).resolve().parents[3]
HERE = {"ansible_python_interpreter": sys.executable}
BY_THE_MODULE = {"by": "the module"}


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch, printed: list[str]) -> list[str]:
    written: list[str] = []
    monkeypatch.setattr(in_process, "Display", lambda: SimpleNamespace(warning=written.append, display=printed.append))
    return written


@pytest.fixture
def printed() -> list[str]:
    return []


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch, warnings: list[str]) -> Any:
    """Run ``work`` as an action: act(work, args, task_vars, connection={…}, **task)."""
    monkeypatch.setattr(ActionBase, "run", lambda self, tmp=None, task_vars=None: {})
    monkeypatch.setattr(ActionBase, "_execute_module", lambda self, **_given: dict(BY_THE_MODULE))
    monkeypatch.setattr(ActionBase, "_remove_tmp_path", lambda self, _path: None)

    def run(
        work: Callable[[Task], dict[str, Any]],
        args: dict[str, Any],
        task_vars: dict[str, Any] | None = None,
        connection: dict[str, Any] | None = None,
        **task: Any,
    ) -> dict[str, Any]:
        action = type("ActionModule", (InProcessAction,), {"work": staticmethod(work)}).__new__(InProcessAction)
        action.work = work
        action.SPEC = {
            "argument_spec": {
                "name": {"type": "str"},
                "path": {"type": "path"},
                "count": {"type": "int", "default": 2},
                "token": {"type": "str", "no_log": True},
            },
            "mutually_exclusive": [("name", "path")],
        }
        plain_task = {"args": args, "check_mode": False, "async_val": 0, "environment": [], "delegate_to": None}
        plain_task["no_log"] = False
        action._task = SimpleNamespace(**{**plain_task, **task})
        shell = SimpleNamespace(tmpdir=None)
        action._connection = SimpleNamespace(
            **{"transport": "local", "become": None, "_shell": shell, **(connection or {})}
        )
        action._templar = SimpleNamespace(template=lambda value: value)
        action._load_name = "example"
        return dict(action.run(None, HERE if task_vars is None else task_vars))

    return run


def never(_task: Task) -> dict[str, Any]:
    pytest.fail("done here")


def test_it_is_done_here_with_what_a_module_would_be_given(act: Any, warnings: list[str]) -> None:
    seen: list[Task] = []
    made: list[Path] = []

    def work(task: Task) -> dict[str, Any]:
        seen.append(task)
        task.warn("careful")
        with task.scratch() as directory:
            made.append(Path(directory))
            assert list(made[0].iterdir()) == []
        return {"changed": True}

    assert act(work, {"name": "x"}, check_mode=True) == {"changed": True}
    assert seen[0].params == {"name": "x", "path": None, "count": 2, "token": None}
    assert seen[0].check_mode
    assert warnings == ["careful"]
    assert not made[0].exists()


@pytest.mark.parametrize(
    "other",
    [
        {"connection": {"transport": "ssh"}},
        {"connection": {"become": object()}},
        {"async_val": 60},
        {"environment": [{"KUBECONFIG": "/elsewhere"}]},
        {"task_vars": {"ansible_python_interpreter": "/usr/bin/another-python"}},
        {"task_vars": {}},
        {"delegate_to": "b", "task_vars": {**HERE, "ansible_delegated_vars": {"b": {}}}},
    ],
)
def test_whatever_asks_for_more_is_left_to_the_module(act: Any, other: dict[str, Any]) -> None:
    assert act(never, {"name": "x"}, **other) == BY_THE_MODULE


def test_delegated_it_is_the_python_there_that_counts(act: Any) -> None:
    task_vars = {"ansible_delegated_vars": {"b": HERE}}
    assert act(lambda _task: {"changed": False}, {}, task_vars, delegate_to="b") == {"changed": False}


def test_an_empty_environment_asks_for_nothing(act: Any) -> None:
    assert act(lambda _task: {"changed": False}, {}, environment=[{}, None]) == {"changed": False}


def test_wrong_arguments_are_refused(act: Any) -> None:
    with pytest.raises(AnsibleActionFail, match="mutually exclusive"):
        act(never, {"name": "x", "path": "/y"})
    with pytest.raises(AnsibleActionFail, match="nonsense"):
        act(never, {"nonsense": 1})


def test_an_error_fails_the_task_with_its_details(act: Any) -> None:
    def work(_task: Task) -> dict[str, Any]:
        raise AirgapError("the Lease is held", holder="somebody")

    assert act(work, {}) == {"failed": True, "msg": "the Lease is held", "holder": "somebody"}


def test_secrets_do_not_reach_the_result(act: Any) -> None:
    def work(task: Task) -> dict[str, Any]:
        raise AirgapError(f"refused with {task.params['token']}", asked=task.params)

    result = act(work, {"token": "hunter2"})
    assert "hunter2" not in str(result)
    assert result["msg"] == "refused with ********"


def test_it_tells_what_it_waits_for_without_secrets(act: Any, printed: list[str]) -> None:
    def work(task: Task) -> dict[str, Any]:
        task.tell(f"no answer to {task.params['token']}")
        return {}

    both = {**HERE, "inventory_hostname": "a", "ansible_play_batch": ["a", "b"]}
    act(work, {"token": "hunter2"}, both)
    assert printed == ["[a] no answer to ********"]
    act(work, {"token": "hunter2"}, both, no_log=True)
    assert len(printed) == 1


def test_left_behind_by_a_parent_that_died_it_stops(
    act: Any, monkeypatch: pytest.MonkeyPatch, stream: FakeStream, printed: list[str]
) -> None:
    monkeypatch.setattr(in_process, "Stream", lambda *_args: stream)

    def work(task: Task) -> dict[str, Any]:
        task.check()
        stream.die()
        task.check()
        pytest.fail("went on")

    assert act(work, {}) == {"failed": True, "msg": "ansible-playbook (process 1000) is gone"}


def users() -> list[str]:
    actions = (ROOT / "plugins" / "action").glob("*.py")
    return sorted(path.stem for path in actions if "InProcessAction" in path.read_text())


@pytest.mark.parametrize("name", users())
def test_every_such_action_is_its_module(name: str) -> None:
    plugins = "ansible_collections.lumen.airgap.plugins"
    action = importlib.import_module(f"{plugins}.action.{name}").ActionModule
    module = importlib.import_module(f"{plugins}.modules.{name}")
    assert issubclass(action, InProcessAction)
    assert (action.SPEC, action.work) == (module.SPEC, module.work)
    # Arguments of the validator alone: AnsibleModule is given these as well.
    assert action.SPEC.keys() <= {"argument_spec", "required_if", "required_by", "mutually_exclusive"}
