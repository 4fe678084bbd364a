# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prometheus through the service proxy and through a URL: its answers, and all the ways it has not to answer."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import requests
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import prometheus
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.errors import KubeError, NotFound, Unreachable
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.prometheus import PrometheusError, connect
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
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
        (answer("vector", [{"metric": {}, "histogram": []}]), "malformed", "without values"),
        (answer("vector", [sample("many")]), "malformed", "without values"),
        (answer("string", [1, "a"]), "malformed", "gives a string"),
        (REFUSED.encode(), "query", "bad_data: parse error"),
        (KubeError("HTTP 400", 400, "", REFUSED), "query", "bad_data: parse error"),
        (KubeError("HTTP 500", 500, "", "internal server error"), "http", "HTTP 500: internal server error"),
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


class Answer:
    def __init__(self, status: int, body: bytes) -> None:
        self.status_code = status
        self.content = body
        self.text = body.decode()


def test_url(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def get(session: requests.Session, url: str, **options: Any) -> Answer:
        assert not session.trust_env  # proxies and .netrc of the environment
        asked.append((url, options))
        return Answer(200, answer("scalar", [1, "1"]))

    monkeypatch.setattr(requests.Session, "get", get)
    assert connect({**OPTIONS, "url": "http://prometheus:9090/"}, None).query("vector(1)") == 1.0
    assert asked == [("http://prometheus:9090/api/v1/query", {"params": {"query": "vector(1)"}, "timeout": 3.0})]


def test_url_down_and_500(monkeypatch: pytest.MonkeyPatch) -> None:
    server = connect({**OPTIONS, "url": "http://prometheus:9090"}, None)

    def down(*_url: str, **_options: Any) -> Answer:
        raise requests.ConnectionError("connection refused")

    monkeypatch.setattr(requests.Session, "get", down)
    with pytest.raises(PrometheusError, match="does not answer: connection refused") as caught:
        server.query("up")
    assert caught.value.reason == "unreachable"
    monkeypatch.setattr(requests.Session, "get", lambda *_url, **_options: Answer(500, b"boom"))
    with pytest.raises(PrometheusError, match="HTTP 500: boom"):
        server.query("up")


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
