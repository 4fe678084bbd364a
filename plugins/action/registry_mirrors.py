# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action of the module registry_mirrors: files of the node, merged where ansible-playbook runs.

Nodes have Python's standard library alone, and neither YAML nor comments in TOML can be kept with that. So the files
come here by modules of Ansible, and go back by them.
"""

from __future__ import annotations

import base64
import posixpath
from typing import Any, ClassVar

from ansible.errors import AnsibleError
from ansible.module_utils.basic import missing_required_lib
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase

from ..module_utils.engines.mirrors.containerd import TOMLKIT_IMPORT_ERROR
from ..module_utils.engines.mirrors.k3s import RUAMEL_IMPORT_ERROR
from ..module_utils.engines.mirrors.options import MirrorError, parse
from ..module_utils.errors import AirgapError
from ..module_utils.options import ABSOLUTE, check_ranges
from ..module_utils.services.registry_mirrors import Settings, apply
from ..plugin_utils.streaming import plain

_UNIT_PATHS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")


class ActionModule(ActionBase):
    """Options to files, files to result."""

    ARGUMENT_SPEC: ClassVar[dict[str, Any]] = {
        "mirrors": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "registry": {"type": "str", "required": True},
                "endpoints": {"type": "list", "elements": "str", "required": True},
                "server": {"type": "str"},
                "capabilities": {"type": "list", "elements": "str", "choices": ["pull", "resolve", "push"]},
                "ca_path": {"type": "str"},
                "ca_content": {"type": "str"},
                "client_cert_path": {"type": "str"},
                "client_key_path": {"type": "str"},
                "skip_verify": {"type": "bool"},
                "username": {"type": "str"},
                "password": {"type": "str", "no_log": True},
                "rewrite": {
                    "type": "list",
                    "elements": "dict",
                    "options": {
                        "pattern": {"type": "str", "required": True},
                        "replacement": {"type": "str", "required": True},
                    },
                },
            },
            "mutually_exclusive": [["ca_path", "ca_content"]],
            "required_together": [["client_cert_path", "client_key_path"], ["username", "password"]],
        },
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "runtime": {"type": "str", "choices": ["auto", "containerd", "k3s"], "default": "auto"},
        "certs_path": {"type": "str", "default": "/etc/containerd/certs.d"},
        "config_path": {"type": "str", "default": "/etc/containerd/config.toml"},
        "registries_path": {"type": "str", "default": "/etc/rancher/k3s/registries.yaml"},
        "restart": {"type": "bool", "default": True},
    }
    TRANSFERS_FILES = True
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Called by Ansible."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        validation, arguments = self.validate_argument_spec(self.ARGUMENT_SPEC)
        secrets = frozenset(plain(validation._no_log_values))
        try:
            settings = settings_of(plain(arguments))
            done = apply(settings, ModuleNode(self, task_vars or {}), bool(self._task.check_mode))
            if not self._task.diff:
                del done["diff"]
            # What basic authentication makes of a password is as good as the password.
            secrets |= {mirror.basic for mirror in settings.mirrors if mirror.basic is not None}
            result.update(done)
        except AirgapError as error:
            result.update(error.details, failed=True, msg=error.message)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        shown: dict[str, Any] = remove_values(result, secrets)
        return shown


def settings_of(args: dict[str, Any]) -> Settings:
    """Checked settings of the validated arguments. Raises AirgapError."""
    for name, error in (("tomlkit", TOMLKIT_IMPORT_ERROR), ("ruamel.yaml", RUAMEL_IMPORT_ERROR)):
        if error is not None:
            raise AirgapError(missing_required_lib(name))
    paths = ("certs_path", "config_path", "registries_path")
    check_ranges(args, dict.fromkeys(paths, ABSOLUTE))
    try:
        mirrors = parse(args["mirrors"])
    except MirrorError as error:
        raise AirgapError(str(error)) from None
    return Settings(
        mirrors=mirrors,
        present=args["state"] == "present",
        runtime=args["runtime"],
        **{name: posixpath.normpath(args[name]) for name in paths},
        restart=args["restart"],
    )


class ModuleNode:
    """The node of the task, reached by modules of Ansible: its connection, its become, its interpreter.

    Each module costs up to a second of the node, so that what was asked once is remembered until it is written.
    """

    def __init__(self, action: ActionModule, task_vars: dict[str, Any]) -> None:
        self._action = action
        self._vars = task_vars
        self._modes: dict[str, int | None] = {}

    def mode(self, path: str) -> int | None:
        """Permissions of what is at the path; None when nothing is."""
        if path not in self._modes:
            found = self._module("stat", path=path, follow=True, get_checksum=False, get_mime=False)["stat"]
            self._modes[path] = int(found["mode"], 8) if found["exists"] else None
        return self._modes[path]

    def read(self, path: str) -> str:
        """The text of a file that is there."""
        content = base64.b64decode(self._module("slurp", src=path)["content"])
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise AirgapError(f"{path} on the node is not text in UTF-8: mend or remove it") from None

    def entries(self, path: str) -> list[str]:
        """Names of everything in a directory that is there."""
        found = self._module("find", paths=[path], file_type="any", hidden=True)["files"]
        return sorted(posixpath.basename(entry["path"]) for entry in found)

    def make_directory(self, path: str, mode: int) -> None:
        """The directory with its parents, unless it is there."""
        if self.mode(path) is None:
            self._module("file", path=path, state="directory", mode=f"{mode:04o}")
            self._modes.clear()

    def write(self, path: str, text: str, mode: int) -> None:
        """The whole file at once, by the action copy; what is in it is in no log."""
        self._modes.clear()
        task = self._action._task.copy()
        task.args = {"content": text, "dest": path, "mode": f"{mode:04o}", "follow": True}
        task.no_log, task.diff, task.check_mode = True, False, False
        copy = self._action._shared_loader_obj.action_loader.get(
            "ansible.builtin.copy",
            task=task,
            connection=self._action._connection,
            play_context=self._action._play_context,
            loader=self._action._loader,
            templar=self._action._templar,
            shared_loader_obj=self._action._shared_loader_obj,
        )
        try:
            result = copy.run(task_vars=self._vars)
        except AnsibleError as error:
            raise AirgapError(f"Could not write {path} on the node: {error}") from None
        if result.get("failed"):
            raise AirgapError(f"Could not write {path} on the node: {result.get('msg')}")

    def remove(self, path: str) -> None:
        """A file, or a directory that is empty."""
        self._modes.clear()
        self._module("file", path=path, state="absent")

    def unit(self, names: tuple[str, ...]) -> str | None:
        """The first of the units of systemd that is installed."""
        files = {f"{name}.service": name for name in names}
        # A directory that is not there is skipped.
        found = self._module("find", paths=list(_UNIT_PATHS), patterns=list(files), file_type="any")["files"]
        there = {posixpath.basename(entry["path"]) for entry in found}
        return next((name for file, name in files.items() if file in there), None)

    def restart(self, unit: str) -> None:
        """Restart a unit, and fail with its reason when it does not start."""
        self._module("systemd_service", name=unit, state="restarted", daemon_reload=False)

    def _module(self, module: str, **args: Any) -> dict[str, Any]:
        name = f"ansible.builtin.{module}"
        result: dict[str, Any] = self._action._execute_module(
            module_name=name, module_args=args, task_vars=self._vars, wrap_async=False
        )
        if result.get("failed"):
            what = args.get("path") or args.get("src") or args.get("name") or args.get("paths")
            raise AirgapError(f"{name} failed for {what} on the node: {result.get('msg')}")
        return result
