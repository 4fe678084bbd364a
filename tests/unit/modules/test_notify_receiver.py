# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module notify as Ansible calls it, with a real receiver on loopback that checks what the documentation says."""

from __future__ import annotations

import json
import logging
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.modules import notify as module
from ansible_collections.lumen.airgap.tests.unit.fakes import certificates
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run
from urllib3.exceptions import InsecureRequestWarning

PAGE = Path(__file__).parents[3] / "docs" / "notifications.md"
SECRET = "k3y-of-the-hook"
PATH = "/hooks/hidden-part?token=hidden-token"
DOCUMENT = {"version": "v1.1.0", "outcome": "rolled_back", "reason": "zu viele Fehler: ≥ 3"}


def documented() -> Callable[..., bool]:
    """The receiver's check, exactly as the page has it."""
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(lines, str(PAGE), "exec"), names)
    check: Callable[..., bool] = names["accepted"]
    return check


class Receiver(ThreadingHTTPServer):
    """Answers with each of ``answers`` in turn, the last one for ever; ``got`` is what came, headers and body."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = [204]
        self.got: list[tuple[Message, bytes]] = []
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.server_address[1]}{PATH}"

    def secure(self, files: certificates.Files) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "https"

    def handle_error(self, *_args: Any) -> None:
        """Whoever does not trust us hangs up."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Receiver

    def do_POST(self) -> None:
        self.server.got.append((self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
        answers = self.server.answers
        status = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", f"{self.server.url}/elsewhere")
        body = b"" if status < 400 else f"no {self.path} with {SECRET}".encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=[0.05], daemon=True)
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join(10)


@pytest.fixture
def send(run: Run, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The module; its pauses between attempts take no time, and its clock is the real one's."""
    monkeypatch.setattr(module, "SystemClock", lambda: FakeClock(time.time()))

    def call(**params: Any) -> dict[str, Any]:
        given = {"url": receiver.url, "document": DOCUMENT, "secret": SECRET, "timeout": 10, **params}
        return run(module, **given)

    return call


Send = Callable[..., dict[str, Any]]


def test_what_arrives_passes_the_check_of_the_documentation(receiver: Receiver, send: Send) -> None:
    done = send(id="lumen-api-v1.1.0-1")
    ((headers, body),) = receiver.got
    assert (done["status"], done["attempts"], done["delivery"]) == (204, 1, headers["X-Lumen-Delivery"])
    assert documented()(headers, body, SECRET.encode(), set())
    assert json.loads(body) == DOCUMENT
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("part", ["body", "X-Lumen-Event", "X-Lumen-Delivery", "X-Lumen-Timestamp", "secret"])
def test_what_somebody_has_changed_does_not_pass(part: str, receiver: Receiver, send: Send) -> None:
    send()
    ((headers, body),) = receiver.got
    secret = SECRET.encode()
    if part == "body":
        body = body.replace(b"rolled_back", b"promoted")
    elif part == "secret":
        secret = b"another"
    else:
        headers.replace_header(part, f"{headers[part]}0")
    with pytest.raises(ValueError, match="has signed"):
        documented()(headers, body, secret, set())


def test_what_is_not_signed_does_not_pass(receiver: Receiver, send: Send) -> None:
    send(secret=None)
    ((headers, body),) = receiver.got
    assert "X-Lumen-Signature" not in headers
    assert "X-Hub-Signature-256" not in headers
    with pytest.raises(ValueError, match="has signed"):
        documented()(headers, body, b"", set())


def test_what_was_recorded_is_refused_later(receiver: Receiver, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SystemClock", lambda: FakeClock(time.time() - 301))
    send()
    ((headers, body),) = receiver.got
    with pytest.raises(ValueError, match="long ago"):
        documented()(headers, body, SECRET.encode(), set())


def test_who_was_killed_and_sends_again_is_dropped_by_the_receiver(receiver: Receiver, send: Send) -> None:
    send(id="lumen-api-v1.1.0-1")
    send(id="lumen-api-v1.1.0-1", document={**DOCUMENT, "finished_at": "later"})
    send(id="lumen-api-v1.1.0-2")
    send(id="lumen-api-v1.1.0-2", event="incident")
    check, seen = documented(), set[str]()
    assert [check(headers, body, SECRET.encode(), seen) for headers, body in receiver.got] == [True, False, True, True]


def test_an_error_that_passes_is_tried_again_and_signed_anew(receiver: Receiver, send: Send) -> None:
    receiver.answers = [500, 503, 200]
    done = send(id="one")
    assert (done["status"], done["attempts"]) == (200, 3)
    check, seen = documented(), set[str]()
    assert [check(headers, body, SECRET.encode(), seen) for headers, body in receiver.got] == [True, False, False]
    stamps = [int(headers["X-Lumen-Timestamp"]) for headers, _body in receiver.got]
    assert stamps[0] < stamps[-1]


def test_a_redirect_is_not_followed(receiver: Receiver, send: Send) -> None:
    receiver.answers = [307]
    failed = send()
    assert failed["failed"]
    assert "HTTP 307, it sends elsewhere" in failed["msg"]
    assert len(receiver.got) == 1


def test_nobody_who_listens(receiver: Receiver, send: Send) -> None:
    with Receiver() as gone:
        url = gone.url
    failed = send(url=url, attempts=2)
    assert "did not take the release, 2 times: no answer" in failed["msg"]


def test_no_secret_is_shown(
    receiver: Receiver, send: Send, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syslog.syslog", lambda *said: logging.getLogger("syslog").info("%s", said))
    caplog.set_level(logging.DEBUG, "syslog")
    receiver.answers = [204, 400]
    for result in (send(), send(), send(url=receiver.url.replace("http://", "https://"))):
        said = json.dumps(result, ensure_ascii=False)
        for hidden in (SECRET, "hidden-part", "hidden-token"):
            assert hidden not in said
            assert hidden not in caplog.text
    assert len(receiver.got) == 2


def test_whom_it_trusts(receiver: Receiver, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = certificates.make(tmp_path / "tls", "localhost")
    receiver.secure(files)
    failed = send()
    assert "is not trusted" in failed["msg"]
    assert receiver.got == []
    assert send(ca_path=files.certificate)["status"] == 204
    with pytest.warns(InsecureRequestWarning):
        assert send(validate_certs=False)["status"] == 204
    # The machine's own CAs, where OpenSSL looks for them.
    monkeypatch.setenv("SSL_CERT_FILE", files.certificate)
    assert send()["status"] == 204


def test_a_certificate_of_somebody_else_is_refused(receiver: Receiver, send: Send, tmp_path: Path) -> None:
    files = certificates.make(tmp_path / "tls", "elsewhere")
    receiver.secure(files)
    assert "is not trusted" in send(ca_path=files.certificate)["msg"]
    assert receiver.got == []
