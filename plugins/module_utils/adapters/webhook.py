# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A document posted to a webhook: signed, and sent again while its receiver is away.

The signature is that of GitHub's and Gitea's webhooks, HMAC-SHA256 over the body as it is sent. A document always has
the same delivery id, so that a receiver that got it twice can tell.
"""

from __future__ import annotations

import hashlib
import hmac
import json
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

SIGNATURE, DELIVERY, EVENT = "X-Hub-Signature-256", "X-Lumen-Delivery", "X-Lumen-Event"
_SHOWN = 200


class WebhookError(AirgapError):
    """A document could not be delivered."""


class Target(NamedTuple):
    """Where to. ``verify``: a file of CAs, or whether to check the certificate at all. Seconds for one attempt."""

    url: str
    secret: str = ""
    verify: str | bool = True
    timeout: float = 10.0
    attempts: int = 5


class Delivery(NamedTuple):
    """How it went: the receiver's HTTP status, the delivery id, and how often it was sent."""

    status: int
    id: str
    attempts: int


def body_of(document: Mapping[str, Any]) -> bytes:
    """The bytes that are sent and signed."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode("utf-8")


def signature(secret: str, body: bytes) -> str:
    """``sha256=`` and the HMAC of the body in hexadecimal digits."""
    return f"sha256={hmac.new(secret.encode('utf-8'), body, hashlib.sha256).hexdigest()}"


def check_url(url: str) -> None:
    """Refuse what is no webhook. Raises WebhookError, without path and query, which may be the secret."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WebhookError(f"'{_shown(url)}' is no webhook: give http://host/path or https://host/path")
    if parts.username or parts.password:
        raise WebhookError(f"The webhook {_shown(url)} has a login in its URL. Sign with a secret instead")


def post(target: Target, event: str, document: Mapping[str, Any], clock: Clock, session: Any = None) -> Delivery:
    """Send a document until somebody takes it. Raises WebhookError.

    Sent again when nobody answers, and for HTTP statuses that pass; any other refusal is final.
    """
    if REQUESTS_IMPORT_ERROR:
        raise AirgapError(missing_required_lib("requests"), exception=REQUESTS_IMPORT_ERROR)
    check_url(target.url)
    body = body_of(document)
    delivery = hashlib.sha256(event.encode("utf-8") + b"\n" + body).hexdigest()[:32]
    headers = {"Content-Type": "application/json", DELIVERY: delivery, EVENT: event, "User-Agent": "lumen.airgap"}
    if target.secret:
        headers[SIGNATURE] = signature(target.secret, body)
    session = session or requests.Session()
    session.trust_env = False  # proxies and logins of the environment are for other hosts
    for attempt in range(1, target.attempts + 1):
        status, said = _send(session, target, body, headers)
        if status is not None and status < 300:
            return Delivery(status, delivery, attempt)
        if not (status is None or backoff.is_transient(status)) or attempt == target.attempts:
            times = "" if attempt == 1 else f", {attempt} times"
            raise WebhookError(f"The webhook {_shown(target.url)} did not take the {event}{times}: {said}")
        clock.sleep(backoff.delay(attempt - 1, 1.0))
    raise WebhookError("at least one attempt is needed")


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
            # The status is all that counts. Of the text the first piece is enough, however slowly the rest would come.
            return _read(answer.status_code, next(answer.iter_content(_SHOWN), b""))
    except requests.exceptions.SSLError as error:
        raise WebhookError(
            f"The webhook {_shown(target.url)} is not trusted, or does not speak TLS. Give the CA that signed its "
            f"certificate ({type(error).__name__})"
        ) from error
    except requests.RequestException as error:
        return None, f"no answer ({type(error).__name__})"


def _read(status: int, piece: bytes) -> tuple[int, str]:
    if 300 <= status < 400:
        return status, f"HTTP {status}, it sends elsewhere. Give the address that it means"
    text = " ".join(piece.decode("utf-8", "replace").split())
    return status, f"HTTP {status}{f': {text}' if text else ''}"


def _shown(url: str) -> str:
    """Whose it is. Of many chats the path is the secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"
