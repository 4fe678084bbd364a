# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Publishing into a real registry while things go wrong: a process of the lab's own program on loopback."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry, RegistryError
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry_storage import RegistryStorage
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry_contents import describe
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry_image import publish
from ansible_collections.lumen.airgap.tests.unit.fakes.layout import LayoutBuilder
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .conftest import ROOT, eventually
from .registry_process import RegistryProcess

pytestmark = pytest.mark.loopback

MIB = 1 << 20
SIZE = 48 * MIB
# What one run of the module does, in a process that can be killed: arguments are the address, a layout, a journal.
PUSH = """
import json, sys
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.upload_journal import UploadJournal
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry_image import publish
host, layout, journal = sys.argv[1:]
image = {"source": {"layout": layout, "ref": "app"}, "repository": "app", "tags": ["v1.0.0"]}
registry = Registry.connect({"host": host, "scheme": "http"})
print(json.dumps(publish([image], registry, None, journal=UploadJournal(journal))["images"][0]))
"""


class Proxy:
    """A TCP proxy that counts what goes to the registry.

    It stops forwarding after ``hold_after`` bytes until ``released`` is set, and answers the next ``failures``
    connections with HTTP 500 itself.
    """

    def __init__(self, target: str) -> None:
        self.target = ("127.0.0.1", int(target.split(":")[1]))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.forwarded = 0
        self.hold_after: int | None = None
        self.held = threading.Event()
        self.released = threading.Event()
        self.failures = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self.listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self.failures:
                self.failures -= 1
                client.recv(65536)
                client.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with socket.create_connection(self.target, 10) as server:
                back = threading.Thread(target=self._pump, args=(server, client, False), daemon=True)
                back.start()
                self._pump(client, server, True)
                back.join(10)

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(64 * 1024):
                if counted:
                    if self.hold_after is not None and self.forwarded >= self.hold_after:
                        self.held.set()
                        self.released.wait(30)
                    self.forwarded += len(data)
                sink.sendall(data)
        except OSError:
            pass  # one end is gone: so is the connection
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryProcess]:
    found = RegistryProcess(tmp_path)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def proxy(server: RegistryProcess) -> Iterator[Proxy]:
    found = Proxy(server.host)
    yield found
    found.close()


@pytest.fixture
def layout(tmp_path: Path) -> LayoutBuilder:
    """An image of one large layer that cannot be compressed, and a small one."""
    builder = LayoutBuilder(tmp_path / "layout")
    builder.add("app", builder.manifest([random.Random(1).randbytes(SIZE), b"small"]))
    return builder


class Push:
    """One run in a process of its own."""

    def __init__(self, host: str, layout: LayoutBuilder, journal: Path) -> None:
        argv = [sys.executable, "-c", PUSH, host, str(layout.path), str(journal)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "build")}
        self.process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def result(self) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=10)


def assert_whole(server: RegistryProcess, name: str = "app:v1.0.0") -> None:
    (image,) = describe([name], session(server), verify=True)
    assert (image["exists"], image["corrupt"]) == (True, [])


def session(server: RegistryProcess) -> Registry:
    return Registry.connect({"host": server.host, "scheme": "http"})


def app(layout: LayoutBuilder, force: bool = False) -> dict[str, Any]:
    source = {"layout": str(layout.path), "ref": "app"}
    return {"source": source, "repository": "app", "tags": ["v1.0.0"], "force": force}


def no_docker() -> Any:
    raise AssertionError("nobody asked for Docker")


def test_killed_in_mid_upload_and_run_again(
    server: RegistryProcess, proxy: Proxy, layout: LayoutBuilder, tmp_path: Path
) -> None:
    """The second run sends what the first one did not, and leaves nothing in the journal."""
    proxy.hold_after = 20 * MIB
    first = Push(proxy.host, layout, tmp_path / "journal")
    assert proxy.held.wait(30)
    (entry,) = (tmp_path / "journal").iterdir()
    assert (entry.stat().st_mode & 0o777, entry.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    first.kill()
    proxy.released.set()
    upload = next((server.storage / "docker/registry/v2/repositories/app/_uploads").iterdir())
    eventually("the registry has seen the end", (upload / "hashstates").exists, 10)
    before, proxy.hold_after = proxy.forwarded, None
    result = Push(proxy.host, layout, tmp_path / "journal").result()
    assert 20 * MIB <= before < SIZE
    assert proxy.forwarded < SIZE + MIB, "something was sent twice"
    assert result["bytes_sent"] < SIZE - 19 * MIB
    assert list((tmp_path / "journal").iterdir()) == []
    assert_whole(server)


def test_the_registry_is_restarted_in_mid_push(
    server: RegistryProcess, proxy: Proxy, layout: LayoutBuilder, tmp_path: Path
) -> None:
    proxy.hold_after = 20 * MIB
    push = Push(proxy.host, layout, tmp_path / "journal")
    assert proxy.held.wait(30)
    server.stop()
    proxy.hold_after = None
    proxy.released.set()
    server.start()
    assert push.result()["changed"]
    # What lay in the buffers of connections is lost, what the registry had is not sent again.
    assert proxy.forwarded < SIZE + 16 * MIB
    assert_whole(server)


def test_a_proxy_that_fails_for_a_while(
    server: RegistryProcess, proxy: Proxy, layout: LayoutBuilder, tmp_path: Path
) -> None:
    proxy.failures = 3
    assert Push(proxy.host, layout, tmp_path / "journal").result()["changed"]
    assert proxy.failures == 0
    assert_whole(server)


def test_two_runs_at_once(server: RegistryProcess, layout: LayoutBuilder, tmp_path: Path) -> None:
    runs = [Push(server.host, layout, tmp_path / "journal") for _number in range(2)]
    digests = {run.result()["digest"] for run in runs}
    assert len(digests) == 1
    assert_whole(server)
    assert list((tmp_path / "journal").iterdir()) == []
    assert not Push(server.host, layout, tmp_path / "journal").result()["changed"]


@pytest.mark.parametrize("what", ["layer", "layer gone", "layer cut", "manifest", "manifest unreadable"])
def test_damage_is_found_and_mended_by_a_forced_push(server: RegistryProcess, tmp_path: Path, what: str) -> None:
    layout = LayoutBuilder(tmp_path / "layout")
    layer = random.Random(2).randbytes(2 * MIB)
    child = layout.manifest([layer, b"small"])
    layout.add("app", layout.index([child]))
    registry = session(server)
    publish([app(layout)], registry, no_docker)
    assert_whole(server)
    digest = child["digest"] if what.startswith("manifest") else f"sha256:{hashlib.sha256(layer).hexdigest()}"
    stored = Path(RegistryStorage(str(server.storage)).path(digest))
    content = stored.read_bytes()
    if what == "layer gone":
        stored.unlink()
    elif what == "layer cut":
        stored.write_bytes(content[:-5])
    else:
        # The first byte of a manifest makes it no JSON, a digit makes it another one.
        at = 0 if what == "manifest unreadable" else content.index(b'"size": ') + 8 if what == "manifest" else 4711
        stored.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])

    (found,) = describe(["app:v1.0.0"], registry, verify=True)
    assert [entry["digest"] for entry in found["corrupt"]] == [digest]
    assert not publish([app(layout)], registry, no_docker)["changed"]
    with pytest.raises(AirgapError, match=rf"{digest} .*run the task on the registry's node, with storage_path"):
        publish([app(layout, force=True)], registry, no_docker)
    storage = RegistryStorage(str(server.storage))
    damaged = stored.read_bytes() if stored.exists() else None
    foreseen = publish([app(layout, force=True)], registry, no_docker, check_mode=True, storage=storage)
    assert (stored.read_bytes() if stored.exists() else None) == damaged
    result = publish([app(layout, force=True)], registry, no_docker, storage=storage)
    assert result["images"][0]["mended"] == foreseen["images"][0]["mended"] == [digest]
    assert result["changed"]
    assert_whole(server)
    assert not publish([app(layout, force=True)], registry, no_docker, storage=storage)["changed"]


def test_tls_and_users(tmp_path: Path) -> None:
    """The CA is the one named, a password lets in, and each refusal says what is wrong."""
    certificate, key = self_signed(tmp_path)
    users = tmp_path / "htpasswd"
    users.write_bytes(b"ann:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)) + b"\n")
    server = RegistryProcess(
        tmp_path,
        tls={"certificate": str(certificate), "key": str(key)},
        auth={"htpasswd": {"realm": "lab", "path": str(users)}},
    )
    server.start()
    options = {"host": server.host, "scheme": "https", "username": "ann", "password": "secret"}
    try:
        Registry.connect({**options, "ca_path": str(certificate)})
        with pytest.raises(RegistryError, match="is not trusted or does not speak TLS"):
            Registry.connect(options)
        with pytest.raises(RegistryError, match=r"HTTP 401.*wants credentials"):
            Registry.connect({**options, "ca_path": str(certificate), "password": "wrong"})
        with pytest.raises(RegistryError, match=r"HTTP 400.*Client sent an HTTP request to an HTTPS server"):
            Registry.connect({**options, "scheme": "http"})
    finally:
        server.stop()
    with pytest.raises(RegistryError, match="cannot be reached: Connection refused"):
        Registry.connect({**options, "ca_path": str(certificate)})


def test_deleting_and_pruning(server: RegistryProcess, tmp_path: Path) -> None:
    """What an index that stays is made of survives, what nothing refers to is gone."""
    layout = LayoutBuilder(tmp_path / "layout")
    shared, alone = layout.manifest([b"shared"]), layout.manifest([b"alone"])
    for number, parts in enumerate(([shared, alone], [shared])):
        layout.add(f"v{number}", layout.index(parts))
    registry = session(server)
    images = [
        {"source": {"layout": str(layout.path), "ref": f"v{number}"}, "repository": "app", "tags": [f"v{number}.0.0"]}
        for number in range(2)
    ]
    publish(images, registry, no_docker)
    rule = {"repository": "*", "tags": "v*", "keep": 1}
    foreseen = publish([], registry, no_docker, check_mode=True, prune=[rule])
    result = publish([], registry, no_docker, prune=[rule])
    assert result == foreseen
    assert registry.tags("app") == ["v1.0.0"]
    assert registry.manifest_digest("app", shared["digest"]) == shared["digest"]
    assert registry.manifest_digest("app", alone["digest"]) is None
    assert not publish([], registry, no_docker, prune=[rule])["changed"]
    with pytest.raises(AirgapError, match="it is a part of the index"):
        publish([{"repository": "app", "digest": shared["digest"], "state": "absent"}], registry, no_docker)
    gone = publish([{"repository": "app", "tags": ["v1.0.0", "v7"], "state": "absent"}], registry, no_docker)
    assert (gone["images"][0]["tags"], registry.tags("app")) == (["v1.0.0"], [])
    assert publish(images, registry, no_docker)["changed"]
    assert_whole(server, "app:v0.0.0")


def self_signed(path: Path) -> tuple[Path, Path]:
    """A certificate of this machine's loopback address, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = path / "tls.crt", path / "tls.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem, old, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(pem, old, plain))
    return files
