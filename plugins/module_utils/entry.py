# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last step of every module: one call, one exit, errors translated in one place."""

from __future__ import annotations

from typing import Any, Callable

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


def missing(module: AnsibleModule, name: str, traceback: str | None) -> None:
    """Fail when the guarded import of the library ``name`` left a ``traceback``; do nothing when it left none."""
    if traceback is not None:
        module.fail_json(msg=missing_required_lib(name), exception=traceback)
