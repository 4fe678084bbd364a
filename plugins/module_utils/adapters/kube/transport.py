# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP to one API server: kubeconfig, credentials and TLS from the kubernetes library, requests by its urllib3.

The library takes half a second to import, so that happens in ``Transport.connect`` and nowhere else, but for actions:
they ``preload`` it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import ssl
import tempfile
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from .errors import KubeError

_CONNECTING = threading.Lock()


class TransportFailure(Exception):
    """No HTTP answer: refused, timed out, cut off, or TLS failed. The text says which."""


class Response(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes


def preload() -> None:
    """Import the library now: ansible-playbook loads an action before it forks a worker for each of its tasks."""
    with contextlib.suppress(ImportError):  # ``Transport.connect`` says what is missing
        importlib.import_module("kubernetes.config")


class Trust(NamedTuple):
    """How the server is known to be the right one. ``ca`` is PEM text, empty for the machine's own authorities."""

    ca: str = ""
    verify: bool = True
    server_name: str = ""


class LineStream:
    """The lines of an endless answer. ``close`` from another thread ends the iteration at once."""

    def __init__(self, response: Any, failures: tuple[type[BaseException], ...]) -> None:
        self._response = response
        self._failures = failures
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        buffer = b""
        try:
            for chunk in self._response.stream(amt=None):
                *lines, buffer = (buffer + chunk).split(b"\n")
                yield from (line for line in lines if line.strip())
        except self._failures as error:
            if not self._closed:
                raise TransportFailure(_text(error)) from error
        finally:
            self._response.close()

    def close(self) -> None:
        """End the iteration; the reading thread wakes up from its read."""
        self._closed = True
        # The connection may end by itself in this very moment: then nothing is left to wake up.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self._response.shutdown()


class Transport:
    """Connections to ``server``, pooled and usable from several threads."""

    def __init__(
        self,
        configuration: Any,
        pool: Any,
        failures: tuple[type[BaseException], ...],
        origin: str = "",
        trust: Trust | None = None,
    ) -> None:
        self.server: str = configuration.host
        self.trust = trust or Trust()
        self._origin = origin
        self._configuration = configuration
        self._pool = pool
        self._failures = failures
        self._lock = threading.Lock()

    @classmethod
    def connect(cls, kubeconfig: str | None = None, context: str | None = None) -> Transport:
        """Read the kubeconfig. Sends nothing yet. Raises ``KubeError`` for an unusable one."""
        try:
            import urllib3
            import yaml
            from kubernetes.client.configuration import Configuration
            from kubernetes.client.rest import RESTClientObject
            from kubernetes.config import ConfigException, load_kube_config
        except ImportError as error:
            raise KubeError(
                f"The Python library 'kubernetes' cannot be imported where this task runs: {error}. Install it there, "
                "or point ansible_python_interpreter at an environment that has it."
            ) from error

        path = _existing_kubeconfig(kubeconfig)
        try:
            with _scratch() as scratch:
                configuration = Configuration()
                load_kube_config(
                    path, context, client_configuration=configuration, persist_config=False, temp_file_path=scratch
                )
                rest = RESTClientObject(configuration)
                trust = _trust(configuration)
                if configuration.host.startswith("https"):
                    _load_tls_once(rest.pool_manager.connection_pool_kw, configuration)
        except (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise KubeError(f"kubeconfig {path}{_in_context(context)} cannot be used: {error}") from error
        origin = f"kubeconfig {path}, context {context or _current_context(path)}"
        return cls(configuration, rest.pool_manager, (urllib3.exceptions.HTTPError, OSError), origin, trust)

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout: float = 10.0,
    ) -> Response:
        """One request, whole answer, any status. ``timeout`` in seconds, for connecting and for each read."""
        try:
            response = self._send(method, path, query, body, content_type, timeout)
        except self._failures as error:
            # A kept connection that the server has closed meanwhile shows only now. Reading twice is harmless.
            if method == "GET" and type(error).__name__ == "ProtocolError":
                return self._again(path, query, timeout)
            raise self._failure(error) from error
        return Response(response.status, response.data)

    def _again(self, path: str, query: Mapping[str, Any] | None, timeout: float) -> Response:
        try:
            response = self._send("GET", path, query, None, "", timeout)
        except self._failures as error:
            raise self._failure(error) from error
        return Response(response.status, response.data)

    def stream(self, path: str, query: Mapping[str, Any], timeout: float, silence: float) -> Response | LineStream:
        """Start a GET whose answer is read line by line; any status but 200 comes back as a whole ``Response``.

        ``timeout`` limits connecting, ``silence`` each read after that, both in seconds.
        """
        try:
            response = self._send("GET", path, query, None, "", (timeout, silence), preload=False)
            if response.status != 200:
                return Response(response.status, response.read())
        except self._failures as error:
            raise self._failure(error) from error
        return LineStream(response, self._failures)

    def _failure(self, error: BaseException) -> TransportFailure:
        """What went wrong, whose address it was, and what to look at next."""
        return TransportFailure(f"{_text(error)} ({self._origin}). Is the API server running, and is this its address?")

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: bytes | None,
        content_type: str,
        timeout: Any,
        preload: bool = True,
    ) -> Any:
        from urllib3 import Timeout

        limit = Timeout(connect=timeout[0], read=timeout[1]) if isinstance(timeout, tuple) else Timeout(total=timeout)
        url = self.server + path + ("?" + urlencode(query, doseq=True) if query else "")
        headers = {"Accept": "application/json", "User-Agent": "lumen.airgap", **self._credentials()}
        if body is not None:
            headers["Content-Type"] = content_type
        return self._pool.request(
            method, url, body=body, headers=headers, timeout=limit, retries=False, preload_content=preload
        )

    def _credentials(self) -> dict[str, str]:
        with self._lock:  # the library may run a credential plugin here, when the token is about to expire
            setting = self._configuration.auth_settings().get("BearerToken")
        return {setting["key"]: setting["value"]} if setting and setting["value"] else {}


def _existing_kubeconfig(kubeconfig: str | None) -> str:
    path = os.path.expanduser(kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config")
    if not any(os.path.isfile(part) for part in path.split(os.pathsep)):
        raise KubeError(
            f"kubeconfig {path} does not exist. Set the option kubeconfig, or the environment variable KUBECONFIG."
        )
    return path


def _current_context(path: str) -> str:
    from kubernetes.config import list_kube_config_contexts

    return str(list_kube_config_contexts(path)[1]["name"])


def _in_context(context: str | None) -> str:
    return f" (context {context})" if context else ""


def _trust(configuration: Any) -> Trust:
    ca = configuration.ca_cert_data or ""
    if not ca and configuration.ssl_ca_cert:
        with open(configuration.ssl_ca_cert, encoding="ascii") as file:
            ca = file.read()
    text = ca.decode("ascii") if isinstance(ca, bytes) else ca
    return Trust(text, bool(configuration.verify_ssl), configuration.tls_server_name or "")


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """Where the library puts key and certificate of the user for the moments until the TLS context has read them.

    By itself it writes them to /tmp and removes them at exit; an Ansible worker ends without such cleanup. It remembers
    where it has put them for all threads of a process, so that they take turns.
    """
    with _CONNECTING:
        path = tempfile.mkdtemp(prefix="airgap-kube-")
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _load_tls_once(pool_options: dict[str, Any], configuration: Any) -> None:
    """Give the connection pool a ready TLS context in place of the files to make one from."""
    tls = ssl.create_default_context(
        cafile=configuration.ssl_ca_cert or None, cadata=configuration.ca_cert_data or None
    )
    if configuration.cert_file:
        tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    for name in ("ca_certs", "ca_cert_data", "cert_file", "key_file"):
        pool_options.pop(name, None)
    pool_options["ssl_context"] = tls


def _text(error: BaseException) -> str:
    """What urllib3 says, without the connection object it says it of."""
    text = str(error)
    return re.sub(r"^\S*Connection(Pool)?\(.*?\): ", "", text) or type(error).__name__
