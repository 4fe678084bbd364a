# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Instant queries to Prometheus, through the API server's service proxy or a URL of its own."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from typing import Any, Protocol

from ansible.module_utils.basic import missing_required_lib

from ..errors import AirgapError
from .kube.errors import KubeError
from .kube.session import Session

REQUESTS_IMPORT_ERROR: str | None = None
try:
    import requests
except ImportError:
    REQUESTS_IMPORT_ERROR = traceback.format_exc()

_PATH = "/api/v1/query"
#: How much of an answer that makes no sense is repeated in a message.
_HEAD = 200


class PrometheusError(AirgapError):
    """A query has no usable answer. ``reason``: unreachable, http, query or malformed."""

    def __init__(self, message: str, reason: str, **details: Any) -> None:
        super().__init__(message, **details)
        self.reason = reason


class _Transport(Protocol):
    name: str

    def get(self, query: Mapping[str, str]) -> bytes:
        """The body of the answer with status 200; PrometheusError otherwise."""


class _ServiceProxy:
    def __init__(self, session: Session, namespace: str, service: str, port: int, timeout: float) -> None:
        self.name = f"Service {namespace}/{service}:{port}"
        self._session = session
        self._where = (namespace, service, port)
        self._timeout = timeout

    def get(self, query: Mapping[str, str]) -> bytes:
        try:
            return self._session.service_proxy(*self._where, _PATH, query, timeout=self._timeout)
        except KubeError as error:
            # Without a body it is the API server that answered, and not Prometheus.
            if error.status is None or not error.body:
                raise PrometheusError(f"Prometheus cannot be reached: {error.message}", "unreachable") from error
            raise _http_error(self.name, error.status, error.body) from error


class _Url:
    def __init__(self, url: str, timeout: float) -> None:
        if REQUESTS_IMPORT_ERROR:
            raise AirgapError(missing_required_lib("requests"), exception=REQUESTS_IMPORT_ERROR)
        self.name = _checked_url(url)
        self._timeout = timeout
        self._session = requests.Session()
        # Proxies and credentials of the process' environment are for other hosts than one inside the airgap.
        self._session.trust_env = False

    def get(self, query: Mapping[str, str]) -> bytes:
        try:
            answer = self._session.get(self.name + _PATH, params=dict(query), timeout=self._timeout)
        except requests.RequestException as error:
            raise PrometheusError(f"Prometheus ({self.name}) does not answer: {error}", "unreachable") from error
        if answer.status_code != 200:
            raise _http_error(self.name, answer.status_code, answer.text)
        return answer.content


def _checked_url(url: str) -> str:
    """The URL as it is shown and used. A password in it would be, too, so it is refused without being repeated."""
    if "@" in url:
        raise AirgapError(
            "prometheus.url has a user or a password in it: credentials do not belong into a URL, where messages and "
            "logs repeat them. Give the address alone."
        )
    if not url.startswith(("http://", "https://")):
        raise AirgapError(f"prometheus.url must begin with http:// or https://, not {url!r}")
    return url.rstrip("/")


def _http_error(name: str, status: int, body: str) -> PrometheusError:
    """What Prometheus says about a query it cannot answer is JSON; a proxy's answer may be anything."""
    try:
        answer = json.loads(body)
        if answer["status"] == "error":
            return PrometheusError(
                f"Prometheus ({name}) refuses the query: {answer.get('errorType')}: {answer.get('error')}", "query"
            )
    except (ValueError, KeyError, TypeError):
        pass
    return PrometheusError(f"Prometheus ({name}) answered with HTTP {status}: {body[:_HEAD].strip()}", "http")


class Prometheus:
    """One Prometheus; ``query`` may be called from several threads."""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport

    @property
    def name(self) -> str:
        """Where it is, for messages."""
        return self._transport.name

    def query(self, expression: str) -> list[float] | float:
        """The value now: a vector's values in its order, a scalar's float (metricproviders/prometheus of Argo).

        A matrix is read as Argo does, all its samples in one list. Raises PrometheusError.
        """
        body = self._transport.get({"query": expression})
        try:
            answer = json.loads(body)
            if answer["status"] != "success":
                raise PrometheusError(
                    f"Prometheus ({self.name}) refuses the query: {answer.get('errorType')}: {answer.get('error')}",
                    "query",
                )
            return _values(answer["data"]["resultType"], answer["data"]["result"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            head = body[:_HEAD].decode("utf-8", "replace").strip()
            raise PrometheusError(
                f"Prometheus ({self.name}) gave an answer without values: {head}", "malformed"
            ) from error


def _values(kind: str, result: Any) -> list[float] | float:
    if kind == "vector":
        return [float(sample["value"][1]) for sample in result]
    if kind == "scalar":
        return float(result[1])
    if kind == "matrix":
        return [float(value) for series in result for _at, value in series["values"]]
    raise PrometheusError(f"The query gives a {kind}, and not numbers", "malformed")


def connect(options: Mapping[str, Any], session: Session | None) -> Prometheus:
    """A Prometheus from PROMETHEUS_OPTIONS; ``session`` may be None when ``url`` is given. Asks nothing yet."""
    if options.get("url"):
        return Prometheus(_Url(options["url"], options["timeout"]))
    if session is None:
        raise AirgapError("Prometheus needs prometheus.url, or a cluster to reach its Service through")
    where = (options["namespace"], options["service"], options["port"], options["timeout"])
    return Prometheus(_ServiceProxy(session, *where))
