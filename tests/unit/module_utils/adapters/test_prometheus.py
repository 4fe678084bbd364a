# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prometheus through the service proxy and through a URL: its answers, and all the ways it has not to answer."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import prometheus
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.errors import KubeError, NotFound, Unreachable
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.prometheus import PrometheusError, connect
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.window import Window
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.options import PROMETHEUS_OPTIONS
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession

OPTIONS = {"namespace": "monitoring", "service": "prom", "port": 9090, "url": None, "timeout": 3.0}
SERVICE_ASKED = ("monitoring", "prom", 9090, "/api/v1/query")


def answer(kind: str, result: Any) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode()


def through_proxy(body: bytes | BaseException) -> tuple[prometheus.Prometheus, list[Any]]:
    session = FakeSession()
    asked: list[Any] = []

    def proxy(*request: Any) -> bytes:
        asked.append(request)
        if isinstance(body, BaseException):
            raise body
        return body

    session.proxy = proxy
    return connect(OPTIONS, session), asked  # type: ignore[arg-type]


def sample(value: str) -> dict[str, Any]:
    return {"metric": {"app": "a"}, "value": [1767225600.1, value]}


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (answer("vector", []), []),
        (answer("vector", [sample("0.98"), sample("1")]), [0.98, 1.0]),
        (answer("vector", [sample("+Inf"), sample("-Inf")]), [math.inf, -math.inf]),
        (answer("scalar", [1767225600, "0.5"]), 0.5),
        (answer("matrix", [{"values": [[1, "1"], [2, "2"]]}, {"values": [[1, "3"]]}]), [1.0, 2.0, 3.0]),
        (answer("matrix", []), []),
        # What Argo makes of native histograms, and of nothing.
        (answer("vector", [{"metric": {}, "histogram": [1, {}]}, sample("2"), None]), [0.0, 2.0]),
        (answer("matrix", [{"histograms": [[1, {}]]}, {"values": [[1, "3"]]}, None]), [3.0]),
    ],
)
def test_values(body: bytes, value: Any) -> None:
    server, asked = through_proxy(body)
    assert server.query("up > 0") == value
    assert asked == [(*SERVICE_ASKED, {"query": "up > 0"})]


def test_nan() -> None:
    server, _asked = through_proxy(answer("vector", [sample("NaN")]))
    value = server.query("up")
    assert isinstance(value, list)
    assert math.isnan(value[0])


PROXIED = "proxy Service monitoring/prom:9090:"
REFUSED = json.dumps({"status": "error", "errorType": "bad_data", "error": "parse error: unexpected end"})


@pytest.mark.parametrize(
    ("body", "reason", "text"),
    [
        (b"", "malformed", "without values"),
        (b"<html>login</html>", "malformed", "login"),
        (b"[]", "malformed", "without values"),
        (b'{"status": "success", "data": {}}', "malformed", "without values"),
        (answer("vector", [{"metric": {}}]), "malformed", "without values"),
        (answer("vector", [{"metric": {}, "value": [1, 0.5]}]), "malformed", "without values"),
        (answer("vector", ["up"]), "malformed", "without values"),
        (answer("scalar", [1]), "malformed", "without values"),
        (answer("matrix", [{"values": [["1"]]}]), "malformed", "without values"),
        (answer("vector", [sample("many")]), "malformed", "without values"),
        (answer("string", [1, "a"]), "malformed", "gives a string"),
        (REFUSED.encode(), "query", "bad_data: parse error"),
        (KubeError("HTTP 400", 400, "", REFUSED), "query", "bad_data: parse error"),
        (KubeError("HTTP 500", 500, "", "internal server error"), "http", "HTTP 500: internal server error"),
        (KubeError("HTTP 302", 302, "", "Found"), "http", "HTTP 302: Found"),
        # The API server's own words about the Service are not an answer of Prometheus.
        (KubeError(f"{PROXIED} no endpoints available", 503, "ServiceUnavailable"), "unreachable", "no endpoints"),
        (NotFound(f'{PROXIED} services "prom" not found', 404, "NotFound"), "unreachable", "cannot be reached: proxy"),
        (Unreachable(f"{PROXIED} does not answer"), "unreachable", "does not answer"),
    ],
)
def test_no_usable_answer(body: bytes | BaseException, reason: str, text: str) -> None:
    server, _asked = through_proxy(body)
    with pytest.raises(PrometheusError, match=text) as caught:
        server.query("up")
    assert caught.value.reason == reason
    assert "monitoring/prom:9090" in caught.value.message or reason == "malformed"


def test_a_range() -> None:
    server, asked = through_proxy(answer("matrix", [{"values": [[1, "1"], [2, "2"]]}]))
    assert server.query("up", Window(1767225600.25, 1767225900, 30)) == [1.0, 2.0]
    limits = {"start": "1767225600.250", "end": "1767225900.000", "step": "30.000"}
    assert asked == [("monitoring", "prom", 9090, "/api/v1/query_range", {"query": "up", **limits})]


def test_warnings_are_kept_once() -> None:
    body = json.loads(answer("scalar", [1, "1"]))
    server, _asked = through_proxy(json.dumps({**body, "warnings": ["slow", "partial"]}).encode())
    assert server.warnings == []
    server.query("up")
    server.query("up")
    assert server.warnings == ["slow", "partial"]


URL = "http://prometheus:9090"


def respond(status: int, body: bytes, **headers: str) -> requests.Response:
    response = requests.Response()
    response.status_code, response.headers = status, requests.structures.CaseInsensitiveDict(headers)
    response.raw = urllib3.HTTPResponse(io.BytesIO(body), headers=headers, status=status, preload_content=False)
    return response


class Wire:
    """Stands in for the network under ``requests``: what was sent, and what comes back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: requests.Response | BaseException) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[requests.PreparedRequest, dict[str, Any]]] = []
        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", self.send)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        self.sent.append((request, options))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        answer.request = request
        return answer


ONE = answer("scalar", [1, "1"])


def test_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://elsewhere:3128")
    wire = Wire(monkeypatch, respond(200, ONE))
    assert connect({**OPTIONS, "url": f"{URL}/"}, None).query("vector(1) + 1") == 1.0
    request, options = wire.sent[0]
    assert request.url == f"{URL}/api/v1/query?query=vector%281%29+%2B+1"
    assert (options["timeout"].total, dict(options["proxies"]), "Authorization" in request.headers) == (3.0, {}, False)


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ({"token": "s3cr3t"}, "Bearer s3cr3t"),
        ({"username": "me", "password": "s3cr3t"}, f"Basic {base64.b64encode(b'me:s3cr3t').decode()}"),
    ],
)
def test_credentials(given: dict[str, str], header: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(monkeypatch, respond(200, ONE), respond(401, f"{given} {header}".encode()))
    server = connect({**OPTIONS, "url": URL, **given}, None)
    server.query("up")
    assert wire.sent[0][0].headers["Authorization"] == header
    with pytest.raises(PrometheusError, match=r"HTTP 401: .* are its credentials in prometheus.token or") as caught:
        server.query("up")
    assert not [text for text in ("s3cr3t", header.split()[1]) if text in caught.value.message]


def test_a_token_file_is_read_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(monkeypatch, respond(200, ONE), respond(200, ONE))
    path = tmp_path / "token"
    path.write_text("first\n", encoding="ascii")
    server = connect({**OPTIONS, "url": URL, "token_path": str(path)}, None)
    server.query("up")
    path.write_text("second\n", encoding="ascii")
    server.query("up")
    assert [request.headers["Authorization"] for request, _options in wire.sent] == ["Bearer first", "Bearer second"]
    path.unlink()
    with pytest.raises(AirgapError, match=r"prometheus\.token_path: .* cannot be read: No such file"):
        server.query("up")


@pytest.mark.parametrize("token", ["with space", "two\nlines", "\u00e9"])
def test_a_token_that_no_header_can_have_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(AirgapError, match="the token for Prometheus has characters") as caught:
        connect({**OPTIONS, "url": URL, "token": token}, None)
    assert token not in caught.value.message


@pytest.mark.parametrize("name", ["ca_path", "client_cert_path", "client_key_path", "token_path"])
def test_files_that_are_not_there(name: str, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    options = {**OPTIONS, "url": URL, "client_cert_path": str(tmp_path / "there"), name: str(tmp_path / "nowhere")}
    with pytest.raises(AirgapError, match=f"nowhere.*prometheus.{name}|prometheus.{name}.*nowhere"):
        connect(options, None)


@pytest.mark.parametrize(
    ("location", "named"),
    [("https://evil.example/api?token=x", "evil.example"), ("/login", "another path"), ("", "HTTP 302:")],
)
def test_a_redirect_is_not_followed(location: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"Location": location} if location else {}
    wire = Wire(monkeypatch, respond(302, b"", **headers))
    with pytest.raises(PrometheusError, match=named) as caught:
        connect({**OPTIONS, "url": URL, "token": "s3cr3t"}, None).query("up")
    assert (len(wire.sent), caught.value.reason) == (1, "http")


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (requests.ConnectionError("connection refused"), "does not answer: connection refused"),
        (requests.ReadTimeout("read timed out"), r"does not answer within 3 s \(prometheus.timeout\)"),
        (requests.ConnectTimeout("slow"), "does not answer within 3 s"),
        (
            requests.exceptions.SSLError("[SSL] bad certificate"),
            "is not trusted, or does not speak TLS: bad certificate",
        ),
        (OSError("no such device"), "does not answer: no such device"),
    ],
)
def test_url_down(problem: BaseException, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Wire(monkeypatch, problem)
    with pytest.raises(PrometheusError, match=text) as caught:
        connect({**OPTIONS, "url": URL}, None).query("up")
    assert caught.value.reason == "unreachable"


def test_url_500(monkeypatch: pytest.MonkeyPatch) -> None:
    Wire(monkeypatch, respond(500, b"boom"), respond(422, REFUSED.encode()))
    server = connect({**OPTIONS, "url": URL}, None)
    with pytest.raises(PrometheusError, match="HTTP 500: boom"):
        server.query("up")
    with pytest.raises(PrometheusError, match="refuses the query: bad_data: parse error"):
        server.query("up")


def test_an_answer_has_a_time_and_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    Wire(monkeypatch, respond(200, ONE), respond(200, b" " * 100 + ONE))
    server = connect({**OPTIONS, "url": URL}, None)
    monkeypatch.setattr(prometheus, "_MOST", 100)
    assert server.query("up") == 1.0
    with pytest.raises(PrometheusError, match="gives more than"):
        server.query("up")
    seconds = iter(range(0, 100, 4))
    monkeypatch.setattr(prometheus.time, "monotonic", lambda: next(seconds))
    Wire(monkeypatch, respond(200, ONE))
    with pytest.raises(PrometheusError, match="does not answer within 3 s"):
        server.query("up")


def test_tls_options(tmp_path: Path) -> None:
    for name in ("ca.crt", "me.crt", "me.key"):
        (tmp_path / name).touch()
    ca, cert, key = (str(tmp_path / name) for name in ("ca.crt", "me.crt", "me.key"))

    def session(**given: Any) -> requests.Session:
        return connect({**OPTIONS, "url": "https://prometheus", **given}, None)._transport._session  # type: ignore

    assert (session(ca_path=ca).verify, session(ca_path=ca, validate_certs=False).verify) == (ca, False)
    assert session().verify
    assert session(client_cert_path=cert).cert == cert
    assert session(client_cert_path=cert, client_key_path=key).cert == (cert, key)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"token": "x"}, "missing parameter.*url"),
        ({"url": URL, "password": "x"}, "required together.*username, password|username.*password"),
        ({"url": URL, "token": "x", "token_path": "y"}, "mutually exclusive"),
        ({"url": URL, "token": "x", "username": "me", "password": "y"}, "mutually exclusive"),
        ({"url": URL, "client_key_path": "/k"}, "client_cert_path"),
        ({"ca_path": "/ca"}, "url"),
    ],
)
def test_options_that_do_not_fit_together(given: dict[str, str], error: str) -> None:
    messages = ArgumentSpecValidator(PROMETHEUS_OPTIONS).validate({"prometheus": given}).error_messages
    assert re.search(error, " ".join(messages))
    assert not ArgumentSpecValidator(PROMETHEUS_OPTIONS).validate({"prometheus": {"port": 1}}).error_messages


def test_neither_cluster_nor_url() -> None:
    with pytest.raises(AirgapError, match=r"prometheus\.url"):
        connect(OPTIONS, None)
    with pytest.raises(AirgapError, match="must begin with http"):
        connect({**OPTIONS, "url": "prometheus:9090"}, None)


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "REQUESTS_IMPORT_ERROR", "Traceback")
    with pytest.raises(AirgapError, match="requests"):
        connect({**OPTIONS, "url": "http://prometheus:9090"}, None)


@pytest.mark.parametrize(
    "url", ["http://user:hunter2@prometheus:9090", "user:hunter2@prometheus", "https://u:hunter2/x@prometheus:9090"]
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(AirgapError, match="credentials do not belong into a URL") as caught:
        connect({**OPTIONS, "url": url}, None)
    assert "hunter2" not in caught.value.message + str(caught.value.details)
