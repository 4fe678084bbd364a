# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Queries to Prometheus, of an instant or a range, through the API server's service proxy or a URL of its own."""

from __future__ import annotations

import base64
import json
import os
import re
import time
import traceback
from collections.abc import Mapping
from typing import Any, Callable, Protocol, TypeVar
from urllib.parse import urlsplit

from ansible.module_utils.basic import missing_required_lib

from ..engines.analysis.window import Window
from ..errors import AirgapError
from .http import machine_cas, reason
from .kube.errors import KubeError
from .kube.session import Session

REQUESTS_IMPORT_ERROR: str | None = None
try:
    import requests
    import urllib3
except ImportError:
    REQUESTS_IMPORT_ERROR = traceback.format_exc()

_PATH = "/api/v1/query"
_RANGE_PATH = "/api/v1/query_range"
_T = TypeVar("_T")
#: How much of an answer that makes no sense is repeated in a message.
_HEAD = 200
_PIECE = 64 * 1024
_MOST = 32 * 1024 * 1024
#: What a bearer token is made of, and more (RFC 6750); nothing that would end the header.
_TOKEN = re.compile(r"[!-~]+")


class PrometheusError(AirgapError):
    """A query has no usable answer. ``reason``: unreachable, http, query or malformed."""

    def __init__(self, message: str, reason: str, **details: Any) -> None:
        super().__init__(message, **details)
        self.reason = reason


class _Transport(Protocol):
    name: str

    def get(self, path: str, query: Mapping[str, str]) -> bytes:
        """The body of the answer with status 200; PrometheusError otherwise."""


class _ServiceProxy:
    def __init__(self, session: Session, namespace: str, service: str, port: int, timeout: float) -> None:
        self.name = f"Service {namespace}/{service}:{port}"
        self._session = session
        self._where = (namespace, service, port)
        self._timeout = timeout

    def get(self, path: str, query: Mapping[str, str]) -> bytes:
        try:
            return self._session.service_proxy(*self._where, path, query, timeout=self._timeout)
        except KubeError as error:
            # Without a body it is the API server that answered, and not Prometheus.
            if error.status is None or not error.body:
                raise PrometheusError(f"Prometheus cannot be reached: {error.message}", "unreachable") from error
            raise _http_error(self.name, error.status, error.body) from error


class _Url:
    """``options`` are the suboptions of PROMETHEUS_OPTIONS, with ``url``."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        if REQUESTS_IMPORT_ERROR:
            raise AirgapError(missing_required_lib("requests"), exception=REQUESTS_IMPORT_ERROR)
        self.name = _checked_url(options["url"])
        self._timeout = options["timeout"]
        self._token_path = options.get("token_path")
        self._session = requests.Session()
        # Proxies and credentials of the process' environment are for other hosts than one inside the airgap.
        self._session.trust_env = False
        self._session.verify = _verification(options)
        certificate = _file(options, "client_cert_path")
        if certificate:
            key = _file(options, "client_key_path")
            self._session.cert = (certificate, key) if key else certificate
        self._token = options.get("token") or ""
        self._password = options.get("password") or ""
        pair = f"{options.get('username')}:{self._password}".encode()
        self._basic = base64.b64encode(pair).decode() if self._password else ""
        self._headers()  # a token that cannot be used is said before anything is asked

    def get(self, path: str, query: Mapping[str, str]) -> bytes:
        end = time.monotonic() + self._timeout
        try:
            answer = self._session.get(
                self.name + path,
                params=dict(query),
                headers=self._headers(),
                timeout=urllib3.Timeout(total=self._timeout),  # type: ignore[arg-type]  # which requests takes as it is
                allow_redirects=False,
                stream=True,
            )
            with answer:
                body = self._read(answer, end)
        except requests.exceptions.SSLError as error:
            raise self._unreachable(f"is not trusted, or does not speak TLS: {reason(error)}") from error
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise self._too_slow() from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(f"does not answer: {reason(error)}") from error
        if answer.is_redirect:
            where = urlsplit(answer.headers.get("Location", "")).hostname or "another path"
            raise PrometheusError(
                f"Prometheus ({self.name}) redirects to {where} (HTTP {answer.status_code}), which is not followed: "
                "credentials are for the address in prometheus.url. Give the one that answers itself",
                "http",
            )
        if answer.status_code != 200:
            raise _http_error(self.name, answer.status_code, self._masked(body.decode("utf-8", "replace")))
        return body

    def _read(self, answer: requests.Response, end: float) -> bytes:
        """The whole body; the library's own timeout is one for each read."""
        body = b""
        while piece := answer.raw.read1(_PIECE, decode_content=True):
            body += piece
            if time.monotonic() > end:
                raise self._too_slow()
            if len(body) > _MOST:
                raise PrometheusError(f"Prometheus ({self.name}) gives more than {_MOST >> 20} MiB", "malformed")
        return body

    def _headers(self) -> dict[str, str]:
        """A token in a file may be another one by now."""
        token = self._token
        if self._token_path:
            try:
                with open(self._token_path, encoding="utf-8") as file:
                    token = self._token = file.read().strip()
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "it is not text"
                raise AirgapError(f"prometheus.token_path: {self._token_path} cannot be read: {why}") from error
        if self._basic:
            return {"Authorization": f"Basic {self._basic}"}
        if not token:
            return {}
        if not _TOKEN.fullmatch(token):
            raise AirgapError("the token for Prometheus has characters that no HTTP header may have")
        return {"Authorization": f"Bearer {token}"}

    def _masked(self, text: str) -> str:
        """A server may answer with what it was sent."""
        for secret in (self._token, self._password, self._basic):
            text = text.replace(secret, "*****") if secret else text
        return text

    def _unreachable(self, text: str) -> PrometheusError:
        return PrometheusError(f"Prometheus ({self.name}) {self._masked(text)}", "unreachable")

    def _too_slow(self) -> PrometheusError:
        return self._unreachable(f"does not answer within {self._timeout:g} s (prometheus.timeout)")


def _verification(options: Mapping[str, Any]) -> Any:
    if not options.get("validate_certs", True):
        return False
    return _file(options, "ca_path") or machine_cas()


def _file(options: Mapping[str, Any], name: str) -> str | None:
    path = options.get(name)
    if path and not os.path.isfile(path):
        raise AirgapError(f"there is no file {path}, which is named as prometheus.{name}")
    return path


def _checked_url(url: str) -> str:
    """The URL as it is shown and used. A password in it would be, too, so it is refused without being repeated."""
    if "@" in url:
        raise AirgapError(
            "prometheus.url has a user or a password in it: credentials do not belong into a URL, where messages and "
            "logs repeat them. Give prometheus.username and prometheus.password."
        )
    if not url.startswith(("http://", "https://")):
        raise AirgapError(f"prometheus.url must begin with http:// or https://, not {url!r}")
    return url.rstrip("/")


def _http_error(name: str, status: int, body: str) -> PrometheusError:
    """What Prometheus says about a query it cannot answer is JSON; a proxy's answer may be anything."""
    try:
        answer = json.loads(body)
        if answer["status"] == "error":
            return _refused(name, answer)
    except (ValueError, KeyError, TypeError):
        pass
    hint = "; are its credentials in prometheus.token or prometheus.username right?" if status in (401, 403) else ""
    return PrometheusError(f"Prometheus ({name}) answered with HTTP {status}: {body[:_HEAD].strip()}{hint}", "http")


def _refused(name: str, answer: Mapping[str, Any]) -> PrometheusError:
    return PrometheusError(
        f"Prometheus ({name}) refuses the query: {answer.get('errorType')}: {answer.get('error')}", "query"
    )


class Prometheus:
    """One Prometheus; ``query`` may be called from several threads."""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport
        self._warnings: dict[str, None] = {}

    @property
    def name(self) -> str:
        """Where it is, for messages."""
        return self._transport.name

    @property
    def warnings(self) -> list[str]:
        """What it has warned of so far, each text once."""
        return list(self._warnings)

    def query(self, expression: str, window: Window | None = None) -> list[float] | float:
        """The value now, or the values of a window, as Argo reads it (metricproviders/prometheus of Argo Rollouts 1.8).

        A vector is a list of its values in its order, a scalar a float, and a matrix a list of all its samples. A
        sample that is a native histogram is 0 in a vector, and is left out of a matrix. Raises PrometheusError.
        """
        if window is None:
            return self._asked(_PATH, {"query": expression}, _values)
        limits = {name: f"{seconds:.3f}" for name, seconds in window._asdict().items()}
        return self._asked(_RANGE_PATH, {"query": expression, **limits}, _values)

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[tuple[float, list[float]]]:
        """What ``query`` would have answered from ``start`` to ``end`` (epoch seconds), every ``step`` seconds.

        A time without any value is left out. A scalar is a list of one. Raises PrometheusError.
        """
        query = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        return self._asked(_RANGE_PATH, query, _samples)

    def _asked(self, path: str, query: Mapping[str, str], read: Callable[[str, Any], _T]) -> _T:
        body = self._transport.get(path, query)
        try:
            answer = json.loads(body)
            if answer["status"] != "success":
                raise _refused(self.name, answer)
            value = read(answer["data"]["resultType"], answer["data"]["result"])
            self._warnings.update(dict.fromkeys(map(str, answer.get("warnings") or ())))
            return value
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            head = body[:_HEAD].decode("utf-8", "replace").strip()
            raise PrometheusError(
                f"Prometheus ({self.name}) gave an answer without values: {head}", "malformed"
            ) from error


def _samples(kind: str, result: Any) -> list[tuple[float, list[float]]]:
    if kind != "matrix":
        raise PrometheusError(f"The query gives a {kind} over a range, and not a matrix", "malformed")
    found: dict[float, list[float]] = {}
    for series in result:
        for at, value in series.get("values") or ():
            found.setdefault(float(at), []).append(_number(value))
    return sorted(found.items())


def _values(kind: str, result: Any) -> list[float] | float:
    if kind == "vector":
        return [_sample(sample) for sample in result if sample is not None]
    if kind == "scalar":
        return _number(result[1])
    if kind == "matrix":
        return [_number(value) for series in result if series for _at, value in series.get("values") or ()]
    raise PrometheusError(f"The query gives a {kind}, and not numbers", "malformed")


def _sample(sample: Mapping[str, Any]) -> float:
    return 0.0 if "histogram" in sample and "value" not in sample else _number(sample["value"][1])


def _number(text: Any) -> float:
    if not isinstance(text, str):
        raise TypeError("sample value must be a quoted string")
    return float(text)


def connect(options: Mapping[str, Any], session: Session | None) -> Prometheus:
    """A Prometheus from PROMETHEUS_OPTIONS; ``session`` may be None when ``url`` is given. Asks nothing yet."""
    if options.get("url"):
        return Prometheus(_Url(options))
    if session is None:
        raise AirgapError("Prometheus needs prometheus.url, or a cluster to reach its Service through")
    where = (options["namespace"], options["service"], options["port"], options["timeout"])
    return Prometheus(_ServiceProxy(session, *where))
