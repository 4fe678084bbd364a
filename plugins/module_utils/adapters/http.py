# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What adapters over ``requests`` share: whom they trust, and what an exception of it says in a few words."""

from __future__ import annotations

import ssl
from typing import Any

try:
    import requests
except ImportError:
    pass  # whoever wants to connect says so


def machine_cas() -> Any:
    """Where this machine keeps the CAs that it trusts; True lets ``requests`` use its own list where it keeps none."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True


def reason(error: BaseException) -> str:
    """The few words at the bottom of what requests raises."""
    bottom = getattr(error.args[0], "reason", error.args[0]) if error.args else error
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    text = str(bottom)
    if isinstance(error, requests.exceptions.SSLError):
        return text.rpartition("] ")[2]
    return text.rpartition(": ")[2]
