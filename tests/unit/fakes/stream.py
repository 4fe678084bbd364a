# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The screen of an action, remembered."""

from __future__ import annotations

from ansible_collections.lumen.airgap.plugins.plugin_utils.streaming import Stream


class FakeStream(Stream):
    """``lines`` holds what was printed; after ``die()`` the parent is gone."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._pid = 1000
        super().__init__(self.lines.append, getppid=lambda: self._pid)

    def die(self) -> None:
        self._pid = 1
