# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prometheus behind a URL, over real sockets on loopback: TLS, client certificates, timeouts, redirects."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.prometheus import (
    Prometheus,
    PrometheusError,
    connect,
)
from ansible_collections.lumen.airgap.tests.unit.fakes import certificates

pytestmark = pytest.mark.loopback

ANSWER = json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [1, "0.98"]}}).encode()

Behaviour = Callable[[http.server.BaseHTTPRequestHandler], None]


def answers(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(ANSWER)))
    handler.end_headers()
    handler.wfile.write(ANSWER)


def hangs(_handler: http.server.BaseHTTPRequestHandler) -> None:
    time.sleep(3)


def drips(handler: http.server.BaseHTTPRequestHandler) -> None:
    """A byte now and then: no read of it takes long, and all of them would."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _byte in range(30):
        handler.wfile.write(b" ")
        time.sleep(0.1)


@contextmanager
def server(behave: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Its URL, and the headers of what it was asked."""
    asked: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append({"path": self.path, **dict(self.headers)})
            try:
                behave(self)
            except ConnectionError:
                pass  # who asked has not waited

        def log_message(self, format: str, *args: Any) -> None:
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        listening.socket = tls.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://localhost:{listening.server_port}", asked
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def at(url: str, **options: Any) -> Prometheus:
    return connect({"timeout": 5.0, "url": url, **options}, None)


def context(files: certificates.Files, client: certificates.Files | None = None) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    if client:
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_verify_locations(client.certificate)
    return tls


def test_tls_is_verified(tmp_path: Path) -> None:
    files = certificates.make(tmp_path / "server", "localhost")
    other = certificates.make(tmp_path / "other", "localhost")
    with server(answers, context(files)) as (url, asked):
        assert at(url, ca_path=files.certificate, token="s3cr3t").query("up") == 0.98
        assert asked[0]["Authorization"] == "Bearer s3cr3t"
        for options in ({}, {"ca_path": other.certificate}):
            with pytest.raises(PrometheusError, match=r"is not trusted.*certificate verify failed") as caught:
                at(url, token="s3cr3t", **options).query('up{token="hunter2"}')
            assert not [text for text in ("s3cr3t", "hunter2") if text in caught.value.message]
        assert len(asked) == 1
        with pytest.warns(match="Unverified HTTPS request"):
            assert at(url, validate_certs=False).query("up") == 0.98


def test_the_certificate_has_to_be_for_this_name(tmp_path: Path) -> None:
    files = certificates.make(tmp_path, "elsewhere")
    wrong = pytest.raises(PrometheusError, match=r"is not trusted.*(doesn't match|mismatch)")
    with server(answers, context(files)) as (url, _asked), wrong:
        at(url, ca_path=files.certificate).query("up")


def test_a_client_certificate(tmp_path: Path) -> None:
    files, client = certificates.make(tmp_path / "s", "localhost"), certificates.make(tmp_path / "c", "client")
    with server(answers, context(files, client)) as (url, _asked):
        ours = {"client_cert_path": client.certificate, "client_key_path": client.key}
        assert at(url, ca_path=files.certificate, **ours).query("up") == 0.98
        with pytest.raises(PrometheusError) as caught:
            at(url, ca_path=files.certificate).query("up")
        assert caught.value.reason == "unreachable"


def test_plain_http_where_tls_is_expected() -> None:
    with server(answers) as (url, _asked), pytest.raises(PrometheusError, match="does not speak TLS"):
        at(url.replace("http:", "https:")).query("up")


@pytest.mark.parametrize("behave", [hangs, drips])
def test_a_slow_server_is_not_waited_for(behave: Behaviour) -> None:
    with server(behave) as (url, _asked):
        began = time.monotonic()
        with pytest.raises(PrometheusError, match=r"does not answer within 0.5 s"):
            at(url, timeout=0.5).query("up")
        assert time.monotonic() - began < 1.5


def test_credentials_do_not_follow_a_redirect() -> None:
    with server(answers) as (elsewhere, theirs):

        def redirects(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(307)
            handler.send_header("Location", elsewhere + handler.path)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        refused = pytest.raises(PrometheusError, match=r"redirects to localhost .HTTP 307., which is not followed")
        with server(redirects) as (url, asked), refused:
            at(url, username="me", password="s3cr3t").query("up")
        assert (len(asked), theirs) == (1, [])


def test_nobody_listens() -> None:
    with server(answers) as (url, _asked):
        pass
    with pytest.raises(PrometheusError, match=r"Connection refused") as caught:
        at(url).query('up{token="hunter2"}')
    assert "hunter2" not in caught.value.message


def test_a_connection_that_ends_in_the_middle() -> None:
    def breaks(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(ANSWER)

    with server(breaks) as (url, _asked):
        with pytest.raises(PrometheusError) as caught:
            at(url).query("up")
        assert caught.value.reason == "unreachable"
