# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last step of every module: one call, one exit, errors translated in one place."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager
from typing import Any, Callable, NamedTuple

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from .errors import AirgapError


def run_module(module: AnsibleModule, call: Callable[[], dict[str, Any]]) -> None:
    """Exit with what ``call`` returns; an ``AirgapError`` becomes a failure with its details beside the message.

    Does not return.
    """
    try:
        result = call()
    except AirgapError as error:
        module.fail_json(msg=error.message, **error.details)
    module.exit_json(**result)


class Task(NamedTuple):
    """What a module is asked, whether it runs by itself or in its action.

    ``params`` are validated, ``warn`` tells the user one line, and ``scratch`` makes an empty directory that is gone
    afterwards. In its action, ``tell`` prints a line at once, and ``check`` raises when ansible-playbook is gone: call
    it before each try of something that is tried again. A module by itself can neither print, nor tell by its parent,
    which may be a shell or sshd, whether somebody waits.
    """

    params: dict[str, Any]
    check_mode: bool
    warn: Callable[[str], None]
    scratch: Callable[[], AbstractContextManager[str]]
    tell: Callable[[str], None] = lambda line: None
    check: Callable[[], None] = lambda: None


def run_task(module: AnsibleModule, work: Callable[[Task], dict[str, Any]]) -> None:
    """``run_module`` for a module whose action can do its ``work`` as well. Does not return."""

    def scratch() -> AbstractContextManager[str]:
        return tempfile.TemporaryDirectory(prefix="airgap-", dir=module.tmpdir)

    run_module(module, lambda: work(Task(module.params, module.check_mode, module.warn, scratch)))


def need(name: str, traceback: str | None) -> None:
    """Raise AirgapError when the guarded import of the library ``name`` left a ``traceback``."""
    if traceback is not None:
        raise AirgapError(missing_required_lib(name), exception=traceback)


def missing(module: AnsibleModule, name: str, traceback: str | None) -> None:
    """Fail when the guarded import of the library ``name`` left a ``traceback``; do nothing when it left none."""
    if traceback is not None:
        module.fail_json(msg=missing_required_lib(name), exception=traceback)
