# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a session proves who it is to a registry: a user's password, or the token that such a user gets for it."""

from __future__ import annotations

import base64
import re
import threading
from typing import Any, Callable

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Login:
    """``user`` is (name, password) or None. ``get`` fetches a URL with headers and query, returns parsed JSON or None.

    A password goes to the registry itself and to the token service that the registry names, nowhere else.
    """

    def __init__(self, user: tuple[str, str] | None, get: Callable[[str, dict[str, str], dict[str, str]], Any]) -> None:
        self._get = get
        self._basic = (
            {} if user is None else {"Authorization": "Basic " + base64.b64encode(":".join(user).encode()).decode()}
        )
        self._tokens: dict[str | None, str] = {}
        self._lock = threading.Lock()

    def headers(self, repository: str | None) -> dict[str, str]:
        """What a request that concerns this repository carries."""
        token = self._tokens.get(repository)
        return {"Authorization": f"Bearer {token}"} if token else self._basic

    def answer(self, challenge: str | None, repository: str | None, used: dict[str, str]) -> bool:
        """Get a token when the registry's WWW-Authenticate asks for one; True when the request is worth another try.

        ``used`` is what ``headers`` gave to the request that was refused.
        """
        scheme, _space, rest = (challenge or "").partition(" ")
        asked = dict(_PARAMETER.findall(rest))
        if scheme.lower() != "bearer" or "realm" not in asked:
            return False
        with self._lock:
            if self.headers(repository) != used:
                return True  # another thread was here in the meantime
            query = {key: asked[key] for key in ("service", "scope") if key in asked}
            found = self._get(asked["realm"], self._basic, query)
            token = (found.get("token") or found.get("access_token")) if isinstance(found, dict) else None
            if not isinstance(token, str) or token == self._tokens.get(repository):
                return False
            self._tokens[repository] = token
            return True
