# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mirrors as the options give them, and a node in memory."""

from __future__ import annotations

import posixpath
from typing import Any

from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError

REGISTRY = "192.168.2.2:5000"
ENDPOINT = f"http://{REGISTRY}"
CA = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
_NAMES = ("server", "capabilities", "ca_path", "ca_content", "client_cert_path", "client_key_path", "skip_verify")


def option(registry: str = REGISTRY, *endpoints: str, **given: Any) -> dict[str, Any]:
    """One entry of the option ``mirrors`` after validation: what is not given is None."""
    absent = dict.fromkeys((*_NAMES, "username", "password", "rewrite"))
    return {**absent, "registry": registry, "endpoints": list(endpoints or [ENDPOINT]), **given}


class FakeNode:
    """Files by path with text and mode, units that are installed, and what was done in order."""

    def __init__(self, units: tuple[str, ...] = ("containerd",), **files: str) -> None:
        self.units = units
        self.files = {path: (text, 0o644) for path, text in files.items()}
        self.done: list[str] = []
        self.restart_fails = False

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        self.files[path] = (text, mode)

    def _children(self, path: str) -> set[str]:
        return {other[len(path) + 1 :].split("/")[0] for other in self.files if other.startswith(path + "/")}

    def mode(self, path: str) -> int | None:
        if path in self.files:
            return self.files[path][1]
        return 0o755 if self._children(path) else None

    def read(self, path: str) -> str:
        return self.files[path][0]

    def entries(self, path: str) -> list[str]:
        return sorted(self._children(path))

    def make_directory(self, path: str, mode: int) -> None:
        assert posixpath.isabs(path)
        assert mode == 0o755

    def write(self, path: str, text: str, mode: int) -> None:
        self.done.append(f"write {path}")
        self.files[path] = (text, mode)

    def remove(self, path: str) -> None:
        self.done.append(f"remove {path}")
        self.files.pop(path, None)

    def unit(self, names: tuple[str, ...]) -> str | None:
        return next((name for name in names if name in self.units), None)

    def restart(self, unit: str) -> None:
        self.done.append(f"restart {unit}")
        if self.restart_fails:
            raise AirgapError(f"{unit} does not start")
