# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How modules end."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.entry import Task, missing, run_module, run_task
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError


class Left(Exception):
    """The module has ended."""


class FakeModule:
    def exit_json(self, **result: Any) -> None:
        raise Left("exit", result)

    def fail_json(self, **result: Any) -> None:
        raise Left("fail", result)


def test_a_result_is_the_exit() -> None:
    with pytest.raises(Left) as caught:
        run_module(FakeModule(), lambda: {"changed": True})  # type: ignore[arg-type]
    assert caught.value.args == ("exit", {"changed": True})


def test_an_error_is_a_failure_with_its_details() -> None:
    def call() -> dict[str, Any]:
        raise AirgapError("broken", lines=["a"])

    with pytest.raises(Left) as caught:
        run_module(FakeModule(), call)  # type: ignore[arg-type]
    assert caught.value.args == ("fail", {"msg": "broken", "lines": ["a"]})


def test_a_module_by_itself_does_not_go_by_its_parent() -> None:
    """It may be started by sshd or a shell, and those may end first."""
    module = FakeModule()
    module.params, module.check_mode, module.tmpdir = {}, False, None  # type: ignore[attr-defined]
    module.warn = lambda _line: None  # type: ignore[attr-defined]

    def work(task: Task) -> dict[str, Any]:
        task.check()
        task.tell("nobody can read this")
        return {"changed": False}

    with pytest.raises(Left) as caught:
        run_task(module, work)  # type: ignore[arg-type]
    assert caught.value.args == ("exit", {"changed": False})


def test_a_missing_library_is_named() -> None:
    missing(FakeModule(), "docker", None)  # type: ignore[arg-type]
    with pytest.raises(Left) as caught:
        missing(FakeModule(), "docker", "Traceback")  # type: ignore[arg-type]
    assert "docker" in caught.value.args[1]["msg"]
    assert caught.value.args[1]["exception"] == "Traceback"
