# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What counts as an answer of our registry."""

from __future__ import annotations

import http.client
import ssl
from email.message import Message
from typing import Any, ClassVar

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import health
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.health import HealthError

BASIC = 'Basic realm="registry"'


class FakeConnection:
    """Answers the next request with ``answer`` (status and challenge), or raises it."""

    answer: ClassVar[Any] = (200, None)
    asked: ClassVar[list[Any]] = []

    def __init__(self, host: str, port: int, **options: Any) -> None:
        self.asked.append((host, port, options))

    def request(self, method: str, path: str) -> None:
        assert (method, path) == ("GET", "/v2/")
        if isinstance(self.answer, BaseException):
            raise self.answer

    def getresponse(self) -> Any:
        status, challenge = self.answer
        headers = Message()
        if challenge:
            headers["WWW-Authenticate"] = challenge
        return type("Answer", (), {"status": status, "reason": "Reason", "headers": headers})

    def close(self) -> None:
        self.asked.append("closed")


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch) -> type[FakeConnection]:
    monkeypatch.setattr(FakeConnection, "asked", [])
    monkeypatch.setattr(http.client, "HTTPConnection", FakeConnection)
    monkeypatch.setattr(http.client, "HTTPSConnection", FakeConnection)
    return FakeConnection


@pytest.mark.parametrize(("users", "answer"), [(False, (200, None)), (True, (401, BASIC))])
def test_an_answer(
    connection: type[FakeConnection], monkeypatch: pytest.MonkeyPatch, users: bool, answer: tuple[int, str | None]
) -> None:
    monkeypatch.setattr(connection, "answer", answer)
    health.ask(5000, None, users)
    assert connection.asked == [("127.0.0.1", 5000, {"timeout": health.SECONDS}), "closed"]


@pytest.mark.parametrize(
    ("users", "answer", "words"),
    [
        (False, (401, BASIC), "answered HTTP 401 Reason"),
        (False, (503, None), "answered HTTP 503 Reason"),
        (True, (200, None), "lets everybody in, although there are users"),
        (True, (401, "Bearer realm=x"), "answered HTTP 401"),
        (True, (401, None), "answered HTTP 401"),
        (False, ConnectionRefusedError(111, "Connection refused"), "cannot be reached: Connection refused"),
        (False, TimeoutError("timed out"), "cannot be reached: timed out"),
        (False, http.client.BadStatusLine("nonsense"), "cannot be reached: nonsense"),
    ],
)
def test_no_answer(
    connection: type[FakeConnection], monkeypatch: pytest.MonkeyPatch, users: bool, answer: Any, words: str
) -> None:
    monkeypatch.setattr(connection, "answer", answer)
    with pytest.raises(HealthError, match=f"^http://127.0.0.1:5000/v2/ {words}"):
        health.ask(5000, None, users)
    assert connection.asked[-1] == "closed"


def test_somebody_elses_certificate(connection: type[FakeConnection], monkeypatch: pytest.MonkeyPatch) -> None:
    error = ssl.SSLCertVerificationError(1, "failed")
    error.verify_message = "self-signed certificate"
    monkeypatch.setattr(connection, "answer", error)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(HealthError, match=r"^https://.* not have the certificate .* \(self-signed certificate\)"):
        health.ask(5000, context, False)
    assert connection.asked[0][2]["context"] is context
