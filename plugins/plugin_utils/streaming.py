# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base of actions that run for minutes and print what they see while it happens."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Callable, ClassVar

from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils.errors import AirgapError


class ParentGone(Exception):
    """ansible-playbook died and left this worker behind: nobody waits for an answer, so nothing more may be changed.

    Not an ``AirgapError``, so that no error handling of a release mistakes it for a failure to roll back from.
    """


class Stream:
    """Where an action prints its progress, and where it learns that nobody listens any more."""

    def __init__(
        self,
        write: Callable[[str], None],
        quiet: bool = False,
        prefix: str = "",
        secrets: frozenset[str] = frozenset(),
        getppid: Callable[[], int] = os.getppid,
    ) -> None:
        self._write = write
        self._quiet = quiet
        self._prefix = prefix
        self._secrets = secrets
        self._getppid = getppid
        self._parent = getppid()

    def line(self, text: str) -> None:
        """Print one line at once. Raises ``ParentGone``: a line to a dead parent would block when its pipe is full."""
        self.check()
        if not self._quiet:
            self._write(self._prefix + remove_values(text, self._secrets))

    def check(self) -> None:
        """Raise ``ParentGone`` when the process that started this worker no longer exists. Call it every tick."""
        if self._getppid() != self._parent:
            raise ParentGone(f"ansible-playbook (process {self._parent}) is gone")


def plain(value: Any) -> Any:
    """``value`` as plain Python, recursively.

    ansible-core 2.19 hands out tagged subclasses of str, int, dict and so on, and 2.17 and 2.18 their own subclasses
    of str; YAML, JSON and client libraries want the plain types. Unbound methods of the base types make exact copies
    whatever a subclass overrides.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__add__(value, 0)
    if isinstance(value, float):
        return float.__add__(value, 0.0)
    if isinstance(value, bytes):
        return bytes.__add__(value, b"")
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, (set, frozenset)):
        return {plain(item) for item in value}
    if getattr(value, "__ENCRYPTED__", False):  # a vaulted value up to ansible-core 2.18: str() decrypts it
        return str(value)
    return value


def validated(
    action: ActionBase, spec: Mapping[str, Any], constraints: Mapping[str, Any]
) -> tuple[dict[str, Any], frozenset[str]]:
    """The arguments of a task with their defaults, as plain Python, and those of their values that nobody may see."""
    validation, arguments = action.validate_argument_spec(spec, **constraints)
    return plain(arguments), frozenset(plain(validation._no_log_values))


class StreamingAction(ActionBase):
    """Base class: a subclass gives ``ARGUMENT_SPEC`` and ``run_streaming``.

    Arguments arrive validated, with defaults, and as plain Python. ``check_mode`` and ``diff_mode`` are set before
    ``run_streaming``. What it returns is the result of the task; an ``AirgapError`` fails the task with its details.
    Values of ``no_log`` options never reach the result or the screen: nobody scrubs them for an action.
    """

    ARGUMENT_SPEC: ClassVar[dict[str, Any]] = {}
    #: Keyword arguments of ``validate_argument_spec``: mutually_exclusive, required_one_of, and so on.
    CONSTRAINTS: ClassVar[dict[str, Any]] = {}
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    check_mode = False
    diff_mode = False

    def run_streaming(self, args: dict[str, Any], out: Stream) -> dict[str, Any]:
        """Do the work and return the result. May raise ``AirgapError``; lets ``ParentGone`` pass."""
        raise NotImplementedError

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Called by Ansible."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args, secrets = validated(self, self.ARGUMENT_SPEC, self.CONSTRAINTS)
        self.check_mode = bool(self._task.check_mode)
        self.diff_mode = bool(self._task.diff)
        out = Stream(Display().display, bool(args.get("quiet")), host_prefix(task_vars or {}), secrets)
        try:
            self._refuse_other_connections()
            result.update(self.run_streaming(args, out))
        except AirgapError as error:
            result.update(error.details, failed=True, msg=error.message)
        except ParentGone as error:
            result.update(failed=True, msg=str(error))
        shown: dict[str, Any] = remove_values(result, secrets)
        return shown

    def _refuse_other_connections(self) -> None:
        transport = getattr(self._connection, "transport", "local")
        if transport != "local":
            raise AirgapError(
                f"The action {self._task.action} runs where ansible-playbook runs and cannot use the connection "
                f"'{transport}'. Run it on a host of the group 'clusters', or set 'ansible_connection: local'."
            )


def host_prefix(task_vars: Mapping[str, Any]) -> str:
    """Name the host in front of each line when several run at the same time."""
    if len(task_vars.get("ansible_play_batch") or ()) > 1:
        return f"[{plain(task_vars.get('inventory_hostname', ''))}] "
    return ""
