# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong between us and the API server."""

from __future__ import annotations

from typing import Any

from ...errors import AirgapError


class KubeError(AirgapError):
    """A request failed.

    ``status`` is the HTTP status (None: there was no answer), ``reason`` the reason of the Status object or of the
    transport, ``body`` the head of an answer that is not a Status (what a proxied service said).
    """

    def __init__(
        self, message: str, status: int | None = None, reason: str = "", body: str = "", **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.status = status
        self.reason = reason
        self.body = body

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed a little later."""
        return isinstance(self, Unreachable) or BY_STATUS.get(self.status or 0) is Unreachable


class NotFound(KubeError):
    """The object, or its kind, does not exist (404)."""


class Conflict(KubeError):
    """Somebody else changed or created the object first (409), or owns an applied field."""


class Forbidden(KubeError):
    """The credentials were refused, or do not allow this (401, 403)."""


class Invalid(KubeError):
    """The API server refuses the object (400, 422)."""


class Gone(KubeError):
    """The resource version is too old; list again (410)."""


class Unreachable(KubeError):
    """The API server did not answer, or cannot at the moment (408, 429, 500, 502, 503, 504). Try again later.

    500 is among them because an API server says it for its etcd electing a leader and for a webhook that is away.
    """


BY_STATUS: dict[int, type[KubeError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    408: Unreachable,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: Unreachable,
    500: Unreachable,
    502: Unreachable,
    503: Unreachable,
    504: Unreachable,
}
