# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base of actions whose module is short, and is asked often on the machine where ansible-playbook runs.

A module is a Python of its own that is packed, started, and imports all of its libraries: more than a second for a
request of some milliseconds. Where that Python would be the one that runs already, the work is done in it instead.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils.entry import Task
from ..module_utils.errors import AirgapError
from .streaming import ParentGone, Stream, host_prefix, plain, validated


class InProcessAction(ActionBase):
    """Base class: a subclass gives ``SPEC``, keyword arguments of AnsibleModule, and ``work``, both of its module.

    The module runs as any other does, where something asks for more than its arguments: another connection, another
    Python, another user, an environment, or a job in the background. Here it learns when ansible-playbook dies, which
    would leave it behind: the next run takes the release over at once, and nothing may be changed behind its back.
    """

    SPEC: ClassVar[dict[str, Any]]
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = True

    @staticmethod
    def work(task: Task) -> dict[str, Any]:
        """From the task to its result. May raise ``AirgapError``; lets ``ParentGone`` pass."""
        raise NotImplementedError

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Called by Ansible."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            if self._is_here(task_vars or {}):
                result.update(self._work(task_vars or {}))
            else:
                result.update(self._execute_module(task_vars=task_vars, wrap_async=self._task.async_val))
        finally:
            if not self._task.async_val:
                self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _is_here(self, task_vars: Mapping[str, Any]) -> bool:
        task, connection = self._task, self._connection
        if connection.transport != "local" or connection.become is not None:
            return False
        if task.async_val or any(task.environment or ()):
            return False
        host = task_vars.get("ansible_delegated_vars", {}).get(task.delegate_to, {}) if task.delegate_to else task_vars
        python = plain(self._templar.template(host.get("ansible_python_interpreter")))
        # A link to another Python tells which libraries it has, so that it is not followed.
        return bool(python) and os.path.abspath(str(python)) == os.path.abspath(sys.executable)

    def _work(self, task_vars: Mapping[str, Any]) -> dict[str, Any]:
        spec = {**self.SPEC}
        args, secrets = validated(self, spec.pop("argument_spec"), spec)
        out = Stream(Display().display, bool(self._task.no_log), host_prefix(task_vars), secrets)
        task = Task(args, bool(self._task.check_mode), Display().warning, _scratch, out.line, out.check)
        try:
            result = self.work(task)
        except AirgapError as error:
            result = {**error.details, "failed": True, "msg": error.message}
        except ParentGone as error:
            result = {"failed": True, "msg": str(error)}
        # Nobody else scrubs them for an action.
        shown: dict[str, Any] = remove_values(result, secrets)
        return shown


def _scratch() -> AbstractContextManager[str]:
    return tempfile.TemporaryDirectory(prefix="airgap-")
