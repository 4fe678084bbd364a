# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A document posted to a webhook: signed, and sent again while its receiver is away.

There are two signatures, both HMAC-SHA256: that of GitHub's and Gitea's webhooks over the body, which many receivers
know, and ours over the moment, the event and the delivery id too, so that what somebody has recorded is worth nothing
later. A delivery id is the same whoever sends the same thing again, also with other words after a kill.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import traceback
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ansible.module_utils.basic import missing_required_lib

from ..engines.oci import backoff
from ..errors import AirgapError
from ..times import Clock

REQUESTS_IMPORT_ERROR: str | None = None
try:
    import requests
except ImportError:
    REQUESTS_IMPORT_ERROR = traceback.format_exc()

HUB_SIGNATURE, SIGNATURE, TIMESTAMP = "X-Hub-Signature-256", "X-Lumen-Signature", "X-Lumen-Timestamp"
DELIVERY, EVENT = "X-Lumen-Delivery", "X-Lumen-Event"
_SHOWN = 200
# Shorter parts of an address are words, and hiding them would garble what a receiver says.
_SECRET_LENGTH = 8


class WebhookError(AirgapError):
    """A document could not be delivered."""


class Target(NamedTuple):
    """Where to. ``verify``: a file or directory of CAs, or whether to check the certificate at all.

    ``timeout`` is for one attempt, in seconds.
    """

    url: str
    secret: str = ""
    verify: Any = True
    timeout: float = 10.0
    attempts: int = 5


class Message(NamedTuple):
    """What is posted. ``id`` is what it is about, once for each event; without it, the document itself is."""

    event: str
    document: Mapping[str, Any]
    id: str = ""

    @property
    def body(self) -> bytes:
        """The bytes that are sent and signed."""
        text = json.dumps(self.document, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        return text.encode("utf-8")

    @property
    def delivery(self) -> str:
        """The delivery id."""
        about = self.id.encode("utf-8") if self.id else self.body
        return hashlib.sha256(self.event.encode("utf-8") + b"\n" + about).hexdigest()[:32]


class Delivery(NamedTuple):
    """How it went: the receiver's HTTP status, the delivery id, and how often it was sent."""

    status: int
    id: str
    attempts: int


def signature(secret: str, body: bytes) -> str:
    """``sha256=`` and the HMAC of the bytes in hexadecimal digits."""
    return f"sha256={hmac.new(secret.encode('utf-8'), body, hashlib.sha256).hexdigest()}"


def check_url(url: str) -> None:
    """Refuse what is no webhook. Raises WebhookError, without path and query, which may be the secret."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WebhookError(f"'{_shown(url)}' is no webhook: give http://host/path or https://host/path")
    if parts.username or parts.password:
        raise WebhookError(f"The webhook {_shown(url)} has a login in its URL. Sign with a secret instead")


def post(target: Target, message: Message, clock: Clock, session: Any = None) -> Delivery:
    """Send a message until somebody takes it. Raises WebhookError.

    Sent again when nobody answers, and for HTTP statuses that pass; any other refusal is final.
    """
    if REQUESTS_IMPORT_ERROR:
        raise AirgapError(missing_required_lib("requests"), exception=REQUESTS_IMPORT_ERROR)
    check_url(target.url)
    session = session or requests.Session()
    session.trust_env = False  # proxies and logins of the environment are for other hosts
    for attempt in range(1, target.attempts + 1):
        # Signed anew: a receiver takes the moment of this attempt, not of the first one.
        status, said = _send(session, target, message.body, _headers(target.secret, message, int(clock.time())))
        if status is not None and status < 300:
            return Delivery(status, message.delivery, attempt)
        if not (status is None or backoff.is_transient(status)) or attempt == target.attempts:
            times = "" if attempt == 1 else f", {attempt} times"
            raise WebhookError(f"The webhook {_shown(target.url)} did not take the {message.event}{times}: {said}")
        clock.sleep(backoff.delay(attempt - 1, 1.0))
    raise WebhookError("at least one attempt is needed")


def _headers(secret: str, message: Message, now: int) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "lumen.airgap",
        DELIVERY: message.delivery,
        EVENT: message.event,
        TIMESTAMP: str(now),
    }
    if secret:
        signed = "\n".join([str(now), message.event, message.delivery, ""]).encode("utf-8") + message.body
        headers[SIGNATURE] = signature(secret, signed)
        headers[HUB_SIGNATURE] = signature(secret, message.body)
    return headers


def _send(session: Any, target: Target, body: bytes, headers: Mapping[str, str]) -> tuple[int | None, str]:
    """The status, None when nobody answered, and what is to be said of it."""
    try:
        with session.post(
            target.url,
            data=body,
            headers=dict(headers),
            timeout=target.timeout,
            verify=target.verify,
            allow_redirects=False,
            stream=True,
        ) as answer:
            status = answer.status_code
            if status < 300:
                return status, ""
            if status < 400:
                return status, f"HTTP {status}, it sends elsewhere. Give the address that it means"
            # Of the text the first piece is enough, however slowly the rest would come.
            return status, _said(target, status, next(answer.iter_content(_SHOWN), b""))
    # What requests raises has the whole address in it, so it is no cause that a traceback could show.
    except requests.exceptions.SSLError as error:
        raise WebhookError(
            f"The webhook {_shown(target.url)} is not trusted, or does not speak TLS. Give the CA that signed its "
            f"certificate ({type(error).__name__})"
        ) from None
    except requests.RequestException as error:
        return None, f"no answer ({type(error).__name__})"


def _said(target: Target, status: int, piece: bytes) -> str:
    """The receiver's own words, without what it repeats of the address and the secret."""
    text = " ".join(piece.decode("utf-8", "replace").split())
    parts = urlsplit(target.url)
    for hidden in (target.secret, *re.split(r"[/?&=]", f"{parts.path}?{parts.query}")):
        if hidden and (hidden == target.secret or len(hidden) >= _SECRET_LENGTH):
            text = text.replace(hidden, "…")
    return f"HTTP {status}{f': {text}' if text else ''}"


def _shown(url: str) -> str:
    """Whose it is. Of many chats the path is the secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"
