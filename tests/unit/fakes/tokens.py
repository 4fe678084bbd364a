# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tokens of ServiceAccounts, signed by nobody."""

from __future__ import annotations

import base64
import json
from typing import Any


def token(user: str, uid: str, expires: float) -> str:
    """A token as a TokenRequest gives it; ``expires`` in epoch seconds."""
    namespace, name = user.split(":")[-2:]
    payload = {
        "sub": user,
        "exp": expires,
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
    }
    return ".".join([_part({"alg": "RS256"}), _part(payload), "signature"])


def _part(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
