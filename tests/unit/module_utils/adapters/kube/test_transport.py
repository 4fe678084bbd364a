# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kubeconfig, credentials, and what becomes of broken connections. Nothing is connected here."""

from __future__ import annotations

import base64
import datetime
import os
import ssl
import tempfile
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.errors import KubeError
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.transport import (
    LineStream,
    Response,
    Transport,
    TransportFailure,
    Trust,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class FakeAnswer:
    def __init__(self, status: int = 200, chunks: tuple[Any, ...] = (b"{}",)) -> None:
        self.status = status
        self.chunks = chunks
        self.closed = self.shut = False

    @property
    def data(self) -> bytes:
        return b"".join(self.chunks)

    def read(self) -> bytes:
        return self.data

    def stream(self, amt: Any) -> Any:
        for chunk in self.chunks:
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk

    def shutdown(self) -> None:
        self.shut = True

    def close(self) -> None:
        self.closed = True


class FakePool:
    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, str, dict[str, Any]]] = []

    def request(self, method: str, url: str, **options: Any) -> Any:
        self.requests.append((method, url, options))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Configuration:
    host = "https://192.168.2.2:6443"

    def __init__(self, token: str | None = None) -> None:
        self.token = token

    def auth_settings(self) -> dict[str, Any]:
        return {"BearerToken": {"key": "authorization", "value": f"Bearer {self.token}"}} if self.token else {}


FAILURES = (urllib3.exceptions.HTTPError, OSError)


def transport(*answers: Any, token: str | None = None) -> tuple[Transport, FakePool]:
    pool = FakePool(*answers)
    return Transport(Configuration(token), pool, FAILURES, "kubeconfig /k, context lab"), pool


def test_a_request_carries_credentials_and_a_timeout_and_is_not_retried() -> None:
    sut, pool = transport(FakeAnswer(201, (b"x",)), token="secret")
    assert sut.request("POST", "/api", {"a": "b c"}, b"{}", "application/json", 4.0) == Response(201, b"x")
    method, url, options = pool.requests[0]
    assert (method, url) == ("POST", "https://192.168.2.2:6443/api?a=b+c")
    assert options["headers"]["authorization"] == "Bearer secret"
    assert options["headers"]["Content-Type"] == "application/json"
    assert options["timeout"].total == 4.0
    assert options["retries"] is False


def test_a_read_on_a_connection_that_was_closed_is_repeated_once() -> None:
    broken = urllib3.exceptions.ProtocolError("Connection aborted.")
    sut, _pool = transport(broken, FakeAnswer())
    assert sut.request("GET", "/api").status == 200
    sut, _pool = transport(broken, broken)
    with pytest.raises(TransportFailure, match="Connection aborted"):
        sut.request("GET", "/api")


def test_a_write_is_never_repeated() -> None:
    sut, pool = transport(urllib3.exceptions.ProtocolError("Connection aborted."))
    with pytest.raises(TransportFailure):
        sut.request("PATCH", "/api", None, b"{}")
    assert len(pool.requests) == 1


def test_a_failure_is_told_without_object_addresses() -> None:
    sut, _pool = transport(
        urllib3.exceptions.NewConnectionError(
            urllib3.connection.HTTPSConnection("127.0.0.1"), "Failed to establish a new connection: refused"
        )
    )
    with pytest.raises(TransportFailure) as caught:
        sut.request("GET", "/api")
    assert str(caught.value) == (
        "Failed to establish a new connection: refused (kubeconfig /k, context lab). "
        "Is the API server running, and is this its address?"
    )


def test_a_stream_is_cut_into_lines_wherever_the_chunks_end() -> None:
    answer = FakeAnswer(chunks=(b'{"a"', b": 1}\n\n{", b'"b": 2}\n', b"rest"))
    sut, pool = transport(answer)
    lines = sut.stream("/api", {"watch": "true"}, 3.0, 40.0)
    assert isinstance(lines, LineStream)
    assert list(lines) == [b'{"a": 1}', b'{"b": 2}']
    assert answer.closed
    assert (pool.requests[0][2]["timeout"].connect_timeout, pool.requests[0][2]["timeout"].read_timeout) == (3.0, 40.0)


def test_a_stream_that_is_refused_comes_back_whole() -> None:
    sut, _pool = transport(FakeAnswer(410, (b"too old",)))
    assert sut.stream("/api", {}, 3.0, 40.0) == Response(410, b"too old")


def test_a_stream_that_breaks_is_a_failure_but_not_when_it_was_closed() -> None:
    broken = urllib3.exceptions.ProtocolError("Connection broken")
    answer = FakeAnswer(chunks=(b"1\n", broken))
    sut, _pool = transport(answer)
    stream = sut.stream("/api", {}, 3.0, 40.0)
    with pytest.raises(TransportFailure, match="Connection broken"):
        list(stream)

    answer = FakeAnswer(chunks=(b"1\n", broken))
    sut, _pool = transport(answer)
    stream = sut.stream("/api", {}, 3.0, 40.0)
    assert isinstance(stream, LineStream)
    stream.close()
    assert answer.shut
    assert list(stream) == [b"1"]


def test_closing_a_stream_that_has_just_ended_is_fine() -> None:
    answer = FakeAnswer()
    answer.shutdown = lambda: (_ for _ in ()).throw(RuntimeError("released"))  # type: ignore[method-assign]
    LineStream(answer, FAILURES).close()


# Kubeconfig


@pytest.fixture(scope="module")
def pem() -> tuple[str, str]:
    """Certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day + datetime.timedelta(days=3650))
    authority = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = authority.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def data(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def kubeconfig(directory: Path, cluster: dict[str, Any], user: dict[str, Any]) -> str:
    path = directory / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "admin"}}],
        "clusters": [{"name": "lab", "cluster": {"server": "https://192.168.2.2:6443", **cluster}}],
        "users": [{"name": "admin", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_certificates_are_read_into_the_tls_context_and_leave_no_file(
    tmp_path: Path, pem: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    certificate, key = pem
    path = kubeconfig(
        tmp_path,
        {"certificate-authority-data": data(certificate)},
        {"client-certificate-data": data(certificate), "client-key-data": data(key)},
    )
    for _again in range(2):  # the library remembers the files that we have removed
        sut = Transport.connect(path)
        options = sut._pool.connection_pool_kw
        assert options["ssl_context"].verify_mode == ssl.CERT_REQUIRED
        assert options["ssl_context"].check_hostname
        assert len(options["ssl_context"].get_ca_certs()) == 1
        assert "key_file" not in options
        assert list(scratch.iterdir()) == []
    assert sut.server == "https://192.168.2.2:6443"
    assert sut.trust == Trust(certificate)


def test_a_token_and_no_verification(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {"insecure-skip-tls-verify": True}, {"token": "abc"})
    sut = Transport.connect(path, "lab")
    assert sut._credentials() == {"authorization": "Bearer abc"}
    assert sut.trust == Trust(verify=False)
    assert sut._pool.connection_pool_kw["ssl_context"].verify_mode == ssl.CERT_NONE


def test_the_environment_names_the_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(["/nowhere", kubeconfig(tmp_path, {}, {"token": "abc"})]))
    assert Transport.connect().server == "https://192.168.2.2:6443"


@pytest.mark.parametrize("given", [True, False])
def test_an_api_server_that_is_away_is_told_with_whose_address_it_was(
    given: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kubeconfig(tmp_path, {}, {"token": "abc"})
    paths = f"/nowhere{os.pathsep}{path}"
    monkeypatch.setenv("KUBECONFIG", paths)
    sut = Transport.connect(path, "lab") if given else Transport.connect()
    refused = urllib3.exceptions.ProtocolError("Connection refused")
    sut._pool = FakePool(refused, refused, refused)
    where = rf"Connection refused \(kubeconfig {path if given else paths}, context lab\)\. Is the API server running"
    with pytest.raises(TransportFailure, match=where):
        sut.request("GET", "/api")
    with pytest.raises(TransportFailure, match=where):
        sut.stream("/api", {}, 3.0, 40.0)


def test_a_kubeconfig_that_does_not_exist() -> None:
    with pytest.raises(KubeError, match=r"kubeconfig /nowhere/config does not exist\. Set the option kubeconfig"):
        Transport.connect("/nowhere/config")


def test_a_context_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(KubeError, match=r"kubeconfig .* \(context other\) cannot be used"):
        Transport.connect(kubeconfig(tmp_path, {}, {"token": "abc"}), "other")


@pytest.mark.parametrize("content", ["", "just text", "{unclosed", "apiVersion: v1\nkind: Config\n"])
def test_a_kubeconfig_that_is_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(KubeError, match="cannot be used"):
        Transport.connect(str(path))


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {"certificate-authority-data": data("no certificate")}, {"token": "abc"})
    with pytest.raises(KubeError, match="cannot be used"):
        Transport.connect(path)


def test_the_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kubernetes.config", None)
    with pytest.raises(KubeError, match="library 'kubernetes' cannot be imported"):
        Transport.connect(kubeconfig(tmp_path, {}, {"token": "abc"}))
