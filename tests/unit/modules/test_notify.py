# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module notify, with a receiver in memory."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
from pathlib import Path
from typing import Any

import pytest
import requests
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.webhook import WebhookError
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.options import check_ranges
from ansible_collections.lumen.airgap.plugins.modules import notify as module
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from requests.adapters import BaseAdapter

DOCUMENT = {"version": "v1.1.0", "outcome": "promoted", "reason": "ein Übel"}
URL = "https://chat.test/hooks/hidden?token=hidden"


class Receiver(BaseAdapter):
    """Answers with each of ``answers`` in turn, the last one for ever: a status, or an exception."""

    def __init__(self, *answers: int | Exception) -> None:
        super().__init__()
        self.answers = list(answers)
        self.requests: list[requests.PreparedRequest] = []
        self.options: list[dict[str, Any]] = []

    def close(self) -> None:
        pass

    def send(self, request: requests.PreparedRequest, *_args: Any, **options: Any) -> requests.Response:
        self.requests.append(request)
        self.options.append(options)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.status_code = answer
        response.raw = io.BytesIO(b"no\n  way")
        response.request = request
        response.url = str(request.url)
        return response


def run(receiver: Receiver, clock: FakeClock | None = None, dry_run: bool = False, **params: Any) -> dict[str, Any]:
    session = requests.Session()
    session.mount("https://", receiver)
    session.mount("http://", receiver)
    defaults = {name: option.get("default") for name, option in module.ARGUMENT_SPEC.items()}
    given = {**defaults, "url": URL, "document": DOCUMENT, **params}
    check_ranges(given, module.RANGES)
    return module.notify(given, clock or FakeClock(), dry_run, session)


def test_it_is_signed_as_it_is_sent() -> None:
    receiver = Receiver(204)
    done = run(receiver, secret="k3y")
    (request,) = receiver.requests
    assert isinstance(request.body, bytes)
    assert json.loads(request.body) == DOCUMENT
    made = hmac.new(b"k3y", request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Hub-Signature-256"] == f"sha256={made}"
    assert request.headers["X-Lumen-Event"] == "release"
    assert done == {"changed": True, "status": 204, "delivery": request.headers["X-Lumen-Delivery"], "attempts": 1}


def test_without_a_secret_there_is_no_signature() -> None:
    receiver = Receiver(200)
    run(receiver)
    assert "X-Hub-Signature-256" not in receiver.requests[0].headers


def test_the_same_document_has_the_same_delivery_id() -> None:
    first, second = run(Receiver(200)), run(Receiver(200), document=dict(reversed(list(DOCUMENT.items()))))
    assert first["delivery"] == second["delivery"]
    assert run(Receiver(200), document={})["delivery"] != first["delivery"]


def test_it_is_sent_again_while_the_receiver_is_away() -> None:
    clock = FakeClock()
    receiver = Receiver(requests.ConnectionError("x"), 503, 429, 200)
    assert run(receiver, clock)["attempts"] == 4
    assert clock.monotonic() == 3.5
    assert len({request.headers["X-Lumen-Delivery"] for request in receiver.requests}) == 1


def test_it_gives_up_and_says_what_was_answered() -> None:
    with pytest.raises(WebhookError, match=r"https://chat.test/… did not take the release, 3 times: HTTP 500: no way$"):
        run(Receiver(500), attempts=3)
    with pytest.raises(WebhookError, match=r"no answer \(ReadTimeout\)"):
        run(Receiver(requests.ReadTimeout("x")), attempts=1)


@pytest.mark.parametrize("status", [301, 400, 401, 404])
def test_a_refusal_is_final(status: int) -> None:
    clock = FakeClock()
    with pytest.raises(WebhookError, match=f"HTTP {status}") as refused:
        run(Receiver(status), clock)
    assert clock.monotonic() == 0
    assert "hidden" not in refused.value.message


def test_a_certificate_that_is_not_trusted_is_final() -> None:
    with pytest.raises(WebhookError, match="is not trusted") as refused:
        run(Receiver(requests.exceptions.SSLError("x")))
    assert "hidden" not in refused.value.message


def test_the_ca_is_used(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("x")
    receiver = Receiver(200)
    run(receiver, ca_path=str(ca))
    assert receiver.options[0]["verify"] == str(ca)
    with pytest.raises(AirgapError, match="There is no file"):
        run(receiver, ca_path=str(tmp_path / "nothing"))


def test_check_mode_sends_nothing() -> None:
    receiver = Receiver(200)
    assert run(receiver, dry_run=True)["changed"]
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"url": "https://u:hidden@chat.test/"}, "login in its URL"),
        ({"url": "ftp://chat.test/"}, "no webhook"),
        ({"url": "https:///x"}, "no webhook"),
        ({"event": "a b"}, "a word of letters"),
        ({"event": "a\nX: y"}, "a word of letters"),
        ({"attempts": 0}, "from 1 to 100"),
        ({"timeout": -1.0}, "more than 0"),
    ],
)
def test_what_makes_no_sense_is_refused(params: dict[str, Any], why: str) -> None:
    with pytest.raises(AirgapError, match=why) as refused:
        run(Receiver(200), dry_run=True, **params)
    assert "hidden" not in refused.value.message
