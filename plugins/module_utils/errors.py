# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one exception that adapters and services raise towards a user."""

from __future__ import annotations

from typing import Any


class AirgapError(Exception):
    """Something went wrong that the user can act on.

    ``message`` says what was wrong, where, and what to do next, in one or two sentences.
    ``details`` are returned beside the message (last conditions seen, log lines, numbers).
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details
