# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP API against a registry in memory."""

from __future__ import annotations

import io
import json

import pytest
import requests
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.layout import LayoutError, VerifyingReader
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import (
    CONFIG_LIMIT,
    Manifest,
    Registry,
    RegistryError,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci.image import Descriptor
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, MANIFEST, FakeRegistry, digest_of
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import MaxRetryError, NewConnectionError

DATA = b"x" * 100_000
BLOB = Descriptor("layer", digest_of(DATA), len(DATA))


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def registry(fake: FakeRegistry) -> Registry:
    return Registry(HOST, session=fake.session())


def opener(data: bytes = DATA):  # type: ignore[no-untyped-def]
    return lambda item: VerifyingReader(io.BytesIO(data), item, "/layout/blob")


# --- the session


def test_connect_asks_for_the_api(fake: FakeRegistry) -> None:
    Registry.connect({"host": HOST, "scheme": "http"}, fake.session())
    assert fake.requests == [("GET", "/v2/")]


def test_connect_refuses_an_address_with_a_scheme(fake: FakeRegistry) -> None:
    with pytest.raises(AirgapError, match="give host:port"):
        Registry.connect({"host": "http://x:5000", "scheme": "http"}, fake.session())


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (
            401,
            b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}',
            "UNAUTHORIZED .*credentials",
        ),
        (404, b"404 page not found", "HTTP 404 .*404 page not found.*Is this the address of a registry"),
        (503, b"", "HTTP 503 .*docker logs"),
        (400, b"Client sent an HTTP request to an HTTPS server.", "Client sent an HTTP request"),
        (502, b'["no object"]', "HTTP 502"),
    ],
)
def test_connect_tells_what_answered(fake: FakeRegistry, status: int, body: bytes, message: str) -> None:
    fake.break_with("GET", r"/v2/$", status, body)
    with pytest.raises(RegistryError, match=message) as error:
        Registry.connect({"host": HOST, "scheme": "http"}, fake.session())
    assert error.value.details == {"registry": HOST, "repository": None, "status": status}


def test_a_registry_that_is_down(registry: Registry, fake: FakeRegistry) -> None:
    fake.break_with("HEAD", "manifests", requests.exceptions.ConnectionError(ConnectionRefusedError(111, "refused")))
    with pytest.raises(RegistryError, match=rf"http://{HOST} cannot be reached \(HEAD for app\): refused. Is its cont"):
        registry.manifest_digest("app", "v1")


def test_the_reason_is_the_innermost(registry: Registry, fake: FakeRegistry) -> None:
    """As requests and urllib3 wrap it: ConnectionError(MaxRetryError(NewConnectionError from ConnectionRefused))."""
    refused = NewConnectionError(HTTPConnection("registry.test"), "Failed to establish a new connection")
    refused.__cause__ = ConnectionRefusedError(111, "Connection refused")
    wrapped = requests.exceptions.ConnectionError(MaxRetryError(HTTPConnectionPool("registry.test"), "/v2/", refused))
    fake.break_with("GET", r"/v2/$", wrapped)
    with pytest.raises(RegistryError, match=r"cannot be reached: Connection refused\."):
        registry.ping()


def test_a_timeout_and_a_certificate(registry: Registry, fake: FakeRegistry) -> None:
    fake.break_with("GET", "tags", requests.exceptions.ReadTimeout("Read timed out."))
    with pytest.raises(RegistryError, match=r"Read timed out"):
        registry.tags("app")
    fake.break_with("GET", r"/v2/$", requests.exceptions.SSLError("certificate verify failed"))
    with pytest.raises(RegistryError, match=r"certificate verify failed.*knows the CA"):
        registry.ping()


# --- manifests


def test_the_digest_of_a_tag(registry: Registry, fake: FakeRegistry) -> None:
    digest = fake.add_image("team/app", "v1", [b"layer"])
    assert registry.manifest_digest("team/app", "v1") == digest
    assert registry.manifest_digest("team/app", digest) == digest
    assert registry.manifest_digest("team/app", "v2") is None
    assert registry.manifest_digest("other", "v1") is None


def test_without_the_digest_header_the_body_is_hashed(registry: Registry, fake: FakeRegistry) -> None:
    digest = fake.add_image("app", "v1", [b"layer"])
    fake.digest_header = False
    assert registry.manifest_digest("app", "v1") == digest


def test_a_digest_header_that_is_none(registry: Registry, fake: FakeRegistry) -> None:
    fake.add_image("app", "v1", [b"layer"])
    fake._stated = lambda digest: {"Docker-Content-Digest": "md5:1"}  # type: ignore[method-assign]
    with pytest.raises(RegistryError, match="the registry names no digest: 'md5:1'"):
        registry.manifest_digest("app", "v1")


def test_a_manifest_is_verified(registry: Registry, fake: FakeRegistry) -> None:
    digest = fake.add_image("app", "v1", [b"layer"])
    manifest = registry.manifest("app", "v1")
    assert manifest is not None
    assert (manifest.digest, manifest.media_type) == (digest, MANIFEST)
    assert manifest.parsed()["layers"][0]["size"] == 5
    fake.manifests["app"][digest] = (MANIFEST, b'{"config": "tampered"}')
    with pytest.raises(RegistryError, match=f"corrupt in the registry's storage: it should be {digest}"):
        registry.manifest("app", "v1")


def test_a_missing_manifest_and_a_broken_lookup(registry: Registry, fake: FakeRegistry) -> None:
    assert registry.manifest("app", "v1") is None
    fake.break_with("GET", "manifests", 500)
    fake.break_with("HEAD", "manifests", 500)
    with pytest.raises(RegistryError, match="read the manifest v1"):
        registry.manifest("app", "v1")
    with pytest.raises(RegistryError, match=f"{HOST}/app: .*HTTP 500 when asked to look up v1"):
        registry.manifest_digest("app", "v1")


def test_a_written_manifest_is_read_back(registry: Registry, fake: FakeRegistry) -> None:
    body = json.dumps({"layers": []}).encode()
    registry.put_manifest("app", "v1", Manifest(digest_of(body), MANIFEST, body))
    assert fake.tags["app"]["v1"] == digest_of(body)
    assert fake.requests[-1] == ("HEAD", "/v2/app/manifests/v1")


def test_a_manifest_that_reads_back_otherwise(registry: Registry, fake: FakeRegistry) -> None:
    other = fake.add_image("app", "v1", [b"other"])
    fake.break_with("PUT", "manifests", 201)
    with pytest.raises(RegistryError, match=f"written as {digest_of(b'{}')} but reads back as {other}"):
        registry.put_manifest("app", "v1", Manifest(digest_of(b"{}"), MANIFEST, b"{}"))


def test_a_read_only_registry(registry: Registry, fake: FakeRegistry) -> None:
    fake.break_with("PUT", "manifests", 405, b'{"errors":[{"code":"UNSUPPORTED","message":"unsupported"}]}')
    with pytest.raises(RegistryError, match=r"UNSUPPORTED unsupported.*read-only"):
        registry.put_manifest("app", "v1", Manifest(digest_of(b"{}"), MANIFEST, b"{}"))


def test_tags(registry: Registry, fake: FakeRegistry) -> None:
    fake.add_image("app", "v2", [b"2"])
    fake.add_image("app", "v1", [b"1"])
    assert registry.tags("app") == ["v1", "v2"]
    assert registry.tags("other") is None
    fake.break_with("GET", "tags", 200, b"<html>")
    with pytest.raises(RegistryError, match="the list of tags is no JSON object"):
        registry.tags("app")


# --- blobs


def test_upload_streams(registry: Registry, fake: FakeRegistry) -> None:
    assert registry.upload("app", BLOB, opener()) is True
    assert fake.blobs["app"][BLOB.digest] == DATA
    assert fake.largest_chunk < len(DATA)
    assert fake.written == [("POST", "/v2/app/blobs/uploads/"), ("PUT", "/v2/app/blobs/uploads/1")]


def test_upload_of_an_empty_blob(registry: Registry, fake: FakeRegistry) -> None:
    empty = Descriptor("layer", digest_of(b""), 0)
    assert registry.upload("app", empty, opener(b"")) is True
    assert fake.blobs["app"][empty.digest] == b""


def test_a_corrupt_blob_breaks_its_own_upload(registry: Registry, fake: FakeRegistry) -> None:
    with pytest.raises(LayoutError, match="/layout/blob is corrupt"):
        registry.upload("app", BLOB, opener(DATA[:-1] + b"y"))
    assert BLOB.digest not in fake.blobs.get("app", {})


def test_a_mount_sends_nothing(registry: Registry, fake: FakeRegistry) -> None:
    fake.blobs["base"] = {BLOB.digest: DATA}
    assert registry.upload("app", BLOB, opener(), mount_from="base") is False
    assert fake.blobs["app"][BLOB.digest] == DATA
    assert not fake.asked("PUT")


def test_a_declined_mount_becomes_an_upload(registry: Registry, fake: FakeRegistry) -> None:
    fake.mounts = False
    fake.blobs["base"] = {BLOB.digest: DATA}
    assert registry.upload("app", BLOB, opener(), mount_from="base") is True
    assert fake.blobs["app"][BLOB.digest] == DATA


@pytest.mark.parametrize(("method", "what"), [("POST", "start the upload"), ("PUT", "upload the blob")])
def test_an_upload_that_is_refused(registry: Registry, fake: FakeRegistry, method: str, what: str) -> None:
    fake.break_with(method, "blobs", 507, b"no space left on device")
    with pytest.raises(RegistryError, match=f"HTTP 507 when asked to {what}.*no space left.*free space"):
        registry.upload("app", BLOB, opener())


def test_a_connection_lost_in_an_upload(registry: Registry, fake: FakeRegistry) -> None:
    fake.break_with("PUT", "blobs", requests.exceptions.ConnectionError("Connection aborted"))
    with pytest.raises(RegistryError, match=r"cannot be reached \(PUT for app\): Connection aborted"):
        registry.upload("app", BLOB, opener())


def test_a_blob_that_was_stored_as_another(registry: Registry, fake: FakeRegistry) -> None:
    fake._stated = lambda digest: {"Docker-Content-Digest": digest_of(b"other")}  # type: ignore[method-assign]
    with pytest.raises(RegistryError, match=f"{BLOB.digest} was stored as {digest_of(b'other')}"):
        registry.upload("app", BLOB, opener())


def test_has_blob_is_about_one_repository(registry: Registry, fake: FakeRegistry) -> None:
    fake.blobs["app"] = {BLOB.digest: DATA}
    assert registry.has_blob("app", BLOB.digest)
    assert not registry.has_blob("other", BLOB.digest)
    fake.break_with("HEAD", "blobs", 500)
    with pytest.raises(RegistryError, match="look up the blob"):
        registry.has_blob("app", BLOB.digest)


def test_a_config_is_verified_and_bounded(registry: Registry, fake: FakeRegistry) -> None:
    good, large = b'{"config": {}}', b"[" * (CONFIG_LIMIT + 1)
    fake.blobs["app"] = {
        digest_of(good): good,
        digest_of(large): large,
        digest_of(b"{"): b"other",
        digest_of(b"x"): b"x",
    }
    assert registry.read_config("app", digest_of(good)) == {"config": {}}
    for digest, message in [
        (digest_of(large), "has more than 8388608 bytes"),
        (digest_of(b"{"), "corrupt in the registry's storage"),
        (digest_of(b"x"), "is no JSON object"),
        (digest_of(b"none"), "HTTP 404"),
    ]:
        with pytest.raises(RegistryError, match=message):
            registry.read_config("app", digest)
