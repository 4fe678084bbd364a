# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP API against a registry in memory."""

from __future__ import annotations

import io
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
import requests
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import registry as registry_module
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.layout import LayoutError, VerifyingReader
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import (
    CONFIG_LIMIT,
    LostError,
    Manifest,
    Registry,
    RegistryError,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.upload_journal import Unkept, UploadJournal
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci.image import Descriptor
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, MANIFEST, FakeRegistry, digest_of
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import MaxRetryError, NewConnectionError

DATA = b"x" * 100_000
BLOB = Descriptor("layer", digest_of(DATA), len(DATA))


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "CHUNK", 16 * 1024)


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def registry(fake: FakeRegistry) -> Registry:
    return Registry(HOST, session=fake.session(), clock=FakeClock(), jitter=lambda: 1.0)


def opener(data: bytes = DATA):  # type: ignore[no-untyped-def]
    return lambda item: VerifyingReader(io.BytesIO(data), item, "/layout/blob")


# --- the session


def test_connect_asks_for_the_api(fake: FakeRegistry) -> None:
    Registry.connect({"host": HOST, "scheme": "http"}, fake.session(), FakeClock())
    assert fake.requests == [("GET", "/v2/")]


def test_connect_refuses_an_address_with_a_scheme(fake: FakeRegistry) -> None:
    with pytest.raises(AirgapError, match="give host:port"):
        Registry.connect({"host": "http://x:5000", "scheme": "http"}, fake.session(), FakeClock())


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
        Registry.connect({"host": HOST, "scheme": "http"}, fake.session(), FakeClock())
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
    assert registry.upload("app", BLOB, opener()) == len(DATA)
    assert fake.blobs["app"][BLOB.digest] == DATA
    assert fake.largest_chunk < len(DATA)
    assert fake.written == [("POST", "/v2/app/blobs/uploads/"), ("PUT", "/v2/app/blobs/uploads/1")]


def test_upload_of_an_empty_blob(registry: Registry, fake: FakeRegistry) -> None:
    empty = Descriptor("layer", digest_of(b""), 0)
    assert registry.upload("app", empty, opener(b"")) == 0
    assert fake.blobs["app"][empty.digest] == b""


def test_a_corrupt_blob_breaks_its_own_upload(registry: Registry, fake: FakeRegistry) -> None:
    with pytest.raises(LayoutError, match="/layout/blob is corrupt"):
        registry.upload("app", BLOB, opener(DATA[:-1] + b"y"))
    assert BLOB.digest not in fake.blobs.get("app", {})


def test_a_mount_sends_nothing(registry: Registry, fake: FakeRegistry) -> None:
    fake.blobs["base"] = {BLOB.digest: DATA}
    assert registry.upload("app", BLOB, opener(), mount_from="base") is None
    assert fake.blobs["app"][BLOB.digest] == DATA
    assert not fake.asked("PUT")


def test_a_declined_mount_becomes_an_upload(registry: Registry, fake: FakeRegistry) -> None:
    fake.mounts = False
    fake.blobs["base"] = {BLOB.digest: DATA}
    assert registry.upload("app", BLOB, opener(), mount_from="base") == len(DATA)
    assert fake.blobs["app"][BLOB.digest] == DATA


@pytest.mark.parametrize(("method", "what"), [("POST", "start the upload"), ("PUT", "upload the blob")])
def test_an_upload_that_is_refused(registry: Registry, fake: FakeRegistry, method: str, what: str) -> None:
    fake.break_with(method, "blobs", 507, b"no space left on device")
    with pytest.raises(RegistryError, match=f"HTTP 507 when asked to {what}.*no space left.*free space"):
        registry.upload("app", BLOB, opener())


def test_a_registry_that_stays_away_ends_an_upload(registry: Registry, fake: FakeRegistry) -> None:
    fake.break_with("PUT", "blobs", requests.exceptions.ConnectionError("Connection aborted"))
    with pytest.raises(RegistryError, match=r"cannot be reached \(PUT for app\): Connection aborted"):
        registry.upload("app", BLOB, opener())


def test_an_upload_goes_on_where_the_connection_broke(registry: Registry, fake: FakeRegistry) -> None:
    fake.cut = [30_000, 40_000]
    counted: list[int] = []
    assert registry.upload("app", BLOB, opener(), sent=counted.append) == len(DATA)
    assert fake.blobs["app"][BLOB.digest] == DATA
    assert fake.received == len(DATA)
    assert len(fake.asked("POST")) == 1
    assert sum(counted) <= len(DATA)


def test_an_upload_that_the_registry_forgot_starts_over(registry: Registry, fake: FakeRegistry) -> None:
    fake.cut = [30_000]
    fake.break_with("GET", "uploads", 404)
    assert registry.upload("app", BLOB, opener()) == len(DATA)
    assert (fake.blobs["app"][BLOB.digest], fake.received) == (DATA, 30_000 + len(DATA))


def test_an_upload_whose_answer_got_lost_is_done(registry: Registry, fake: FakeRegistry) -> None:
    fake.break_with("PUT", "blobs", requests.exceptions.ReadTimeout("Read timed out."), times=1)
    fake.break_with("GET", "uploads", 404)
    fake.blobs["app"] = {BLOB.digest: DATA}
    assert registry.upload("app", BLOB, opener()) == len(DATA)
    assert len(fake.asked("PUT")) == 1


@pytest.mark.parametrize("status", [416, 500, 503, 429])
def test_an_upload_that_fails_for_the_moment(registry: Registry, fake: FakeRegistry, status: int) -> None:
    fake.break_with("PUT", "blobs", status, times=2)
    assert registry.upload("app", BLOB, opener()) == len(DATA)
    assert fake.blobs["app"][BLOB.digest] == DATA


def test_an_upload_of_another_run_is_continued(registry: Registry, fake: FakeRegistry, tmp_path: Path) -> None:
    journal = UploadJournal(str(tmp_path / "uploads"))
    fake.uploads["7"] = bytearray(DATA[:60_000])
    with journal.entry(HOST, "app", BLOB.digest) as entry:
        entry.save(f"http://{HOST}/v2/app/blobs/uploads/7?_state=old")
    with journal.entry(HOST, "app", BLOB.digest) as entry:
        assert registry.upload("app", BLOB, opener(), entry=entry) == 40_000
    assert (fake.blobs["app"][BLOB.digest], fake.received) == (DATA, 40_000)
    assert fake.asked("POST") == []
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.parametrize("there", [b"", b"x", b"other" * 20_000, b"x" * 100_001, DATA], ids=len)
def test_what_another_run_left_may_be_of_no_use(registry: Registry, fake: FakeRegistry, there: bytes) -> None:
    """Nothing, one byte (which reads as nothing), something else, too much: all end with the blob."""
    entry = Unkept()
    entry.location = f"http://{HOST}/v2/app/blobs/uploads/7?_state=old"
    fake.uploads["7"] = bytearray(there)
    registry.upload("app", BLOB, opener(), entry=entry)
    assert fake.blobs["app"][BLOB.digest] == DATA


def test_an_upload_is_continued_with_its_own_registry_alone(registry: Registry, fake: FakeRegistry) -> None:
    entry = Unkept()
    entry.location = "http://elsewhere.test/v2/app/blobs/uploads/7"
    assert registry.upload("app", BLOB, opener(), entry=entry) == len(DATA)
    assert fake.asked("GET") == []


def test_a_corrupt_source_is_not_continued(registry: Registry, fake: FakeRegistry, tmp_path: Path) -> None:
    with (
        UploadJournal(str(tmp_path)).entry(HOST, "app", BLOB.digest) as entry,
        pytest.raises(LayoutError, match="is corrupt"),
    ):
        registry.upload("app", BLOB, opener(DATA[:-1] + b"y"), entry=entry)
    assert (fake.uploads, list(tmp_path.iterdir())) == ({}, [])


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


def test_a_blob_is_read_through_broken_connections(registry: Registry, fake: FakeRegistry) -> None:
    for fake.ranges in (True, False):
        fake.blobs["app"] = {BLOB.digest: DATA}
        with registry.open_blob("app", BLOB) as reader:
            first = reader.read(20_000)
            # The body of this answer is over, the blob is not.
            reader._file._blocks = iter([b""])  # type: ignore[attr-defined]
            rest = b"".join(reader)
        assert first + rest == DATA
    assert registry.damage("app", BLOB) is None


def test_a_blob_that_stays_short(registry: Registry, fake: FakeRegistry) -> None:
    fake.blobs["app"] = {BLOB.digest: DATA[:-10]}
    assert registry.damage("app", BLOB) == "ends after 99990 of 100000 bytes"
    with registry.open_blob("app", BLOB) as reader, pytest.raises(LostError, match="ends after 99990 of 100000"):
        b"".join(reader)
    with pytest.raises(RegistryError, match="HTTP 404 when asked to read the blob"):
        registry.open_blob("other", BLOB)


# --- what fails for the moment


@pytest.mark.parametrize("fault", [500, 502, 429, requests.exceptions.ConnectionError("reset")])
def test_a_request_is_tried_again(registry: Registry, fake: FakeRegistry, fault: int | Exception) -> None:
    digest = fake.add_image("app", "v1", [b"layer"])
    fake.break_with("HEAD", "manifests", fault, times=3)
    assert registry.manifest_digest("app", "v1") == digest
    assert len(fake.requests) == 4


def test_it_waits_longer_each_time_and_not_for_ever(fake: FakeRegistry) -> None:
    clock = FakeClock()
    fake.break_with("HEAD", "manifests", 500)
    with pytest.raises(RegistryError, match="HTTP 500"):
        Registry(HOST, session=fake.session(), clock=clock, jitter=lambda: 1.0).manifest_digest("app", "v1")
    assert len(fake.requests) == 8  # after 0.5, 1, 2, 4, 8, 15 and 15 seconds
    assert clock.monotonic() == 45.5


def test_it_waits_as_long_as_the_registry_asks(fake: FakeRegistry) -> None:
    clock = FakeClock()
    digest = fake.add_image("app", "v1", [b"layer"])
    registry = Registry(HOST, session=fake.session(), clock=clock)
    fake.break_with("HEAD", "manifests", 429, times=1, headers={"Retry-After": "17"})
    assert registry.manifest_digest("app", "v1") == digest
    assert clock.monotonic() == 17
    fake.break_with("HEAD", "manifests", 429, times=1, headers={"Retry-After": "3600"})
    with pytest.raises(RegistryError, match="HTTP 429"):
        registry.manifest_digest("app", "v1")
    assert clock.monotonic() == 17


@pytest.mark.parametrize("status", [400, 403, 501, 507])
def test_what_will_not_change_is_asked_once(registry: Registry, fake: FakeRegistry, status: int) -> None:
    fake.break_with("HEAD", "manifests", status)
    with pytest.raises(RegistryError, match=f"HTTP {status}"):
        registry.manifest_digest("app", "v1")
    assert len(fake.requests) == 1


def test_connect_gives_up_within_seconds_and_ping_at_once(fake: FakeRegistry) -> None:
    clock = FakeClock()
    fake.break_with("GET", r"/v2/$", requests.exceptions.ConnectionError("refused"))
    with pytest.raises(RegistryError, match="cannot be reached"):
        Registry.connect({"host": HOST, "scheme": "http"}, fake.session(), clock, lambda: 0.0)
    assert 0 < clock.monotonic() <= 5
    fake.requests.clear()
    with pytest.raises(RegistryError, match="cannot be reached"):
        Registry(HOST, session=fake.session()).ping()
    assert len(fake.requests) == 1


def test_a_registry_that_hangs_is_noticed_when_the_session_is_opened() -> None:
    session = FakeRegistry().session()
    waits: list[Any] = []
    ask = session.request

    def request(*args: Any, timeout: Any, **more: Any) -> Any:
        waits.append(timeout)
        return ask(*args, timeout=timeout, **more)

    session.request = request  # type: ignore[method-assign]
    registry = Registry.connect({"host": HOST, "scheme": "http"}, session, FakeClock())
    registry.tags("app")
    Registry(HOST, session=session, read_timeout=2.0).ping()
    # Once it is open, a registry may take its time: it hashes a whole blob before it answers.
    assert waits == [(10.0, 20.0), (10.0, 300.0), (2.0, 2.0)]


def test_a_connection_that_tls_cut_is_tried_again(registry: Registry, fake: FakeRegistry) -> None:
    cut = requests.exceptions.SSLError(MaxRetryError(HTTPConnectionPool("x"), "/v2/", ssl.SSLEOFError(8, "EOF")))
    fake.break_with("GET", r"tags", cut, times=1)
    assert registry.tags("none") is None


# --- who asks


def test_a_password_is_sent_to_the_registry_alone(fake: FakeRegistry) -> None:
    fake.user = ("ann", "secret")
    options = {"host": HOST, "scheme": "http", "username": "ann", "password": "secret"}
    registry = Registry.connect(options, fake.session(), FakeClock())
    entry = Unkept()
    entry.location = "http://elsewhere.test/v2/app/blobs/uploads/7"
    registry.upload("app", BLOB, opener(), entry=entry)
    registry._once("GET", "http://elsewhere.test/", None)
    assert all("Authorization" in headers for headers in fake.headers[:-1])
    assert "Authorization" not in fake.headers[-1]


def test_without_the_password_the_registry_says_what_it_wants(fake: FakeRegistry) -> None:
    fake.user = ("ann", "secret")
    with pytest.raises(RegistryError, match=r"UNAUTHORIZED .*wants credentials"):
        Registry.connect({"host": HOST, "scheme": "http"}, fake.session(), FakeClock())


def test_a_password_is_changed_for_a_token(fake: FakeRegistry) -> None:
    fake.user, fake.token = ("ann", "secret"), "t0ken"
    fake.add_image("app", "v1", [b"layer"])
    options = {"host": HOST, "scheme": "http", "username": "ann", "password": "secret"}
    registry = Registry.connect(options, fake.session(), FakeClock())
    assert registry.tags("app") == registry.tags("app") == ["v1"]
    assert fake.asked("GET").count("/token") == 2  # one for the session, one for the repository
    with pytest.raises(RegistryError, match="HTTP 401"):
        Registry.connect({**options, "password": "wrong"}, fake.session(), FakeClock())


def test_a_ca_that_is_not_there(fake: FakeRegistry, tmp_path: Path) -> None:
    with pytest.raises(AirgapError, match=f"there is no file {tmp_path}/ca.pem, which is named as the CA of"):
        Registry.connect({"host": HOST, "scheme": "https", "ca_path": str(tmp_path / "ca.pem")}, fake.session())


def test_the_ca_is_what_connections_are_verified_with(fake: FakeRegistry, tmp_path: Path) -> None:
    seen: list[Any] = []
    fake.send, send = lambda request, **about: seen.append(about["verify"]) or send(request), fake.send  # type: ignore
    ca = tmp_path / "ca.pem"
    ca.write_text("PEM")
    Registry.connect({"host": HOST, "scheme": "https", "ca_path": str(ca)}, fake.session())
    Registry.connect({"host": HOST, "scheme": "https"}, fake.session())
    assert seen[0] == str(ca)
    assert seen[1] is not False


# --- lists and deletion


def test_the_catalog_comes_in_pages(registry: Registry, fake: FakeRegistry) -> None:
    for name in ("c", "a", "b/x"):
        fake.add_image(name, "v1", [b"layer"])
    fake.page = 1
    assert registry.repositories() == ["a", "b/x", "c"]
    fake.break_with("GET", "_catalog", 404)
    with pytest.raises(RegistryError, match="keeps no catalog"):
        registry.repositories()


def test_tags_and_manifests_are_deleted(registry: Registry, fake: FakeRegistry) -> None:
    digest = fake.add_image("app", "v1", [b"layer"])
    fake.tags["app"]["latest"] = digest
    assert registry.delete_tag("app", "v1")
    assert not registry.delete_tag("app", "v1")
    assert (registry.tags("app"), digest in fake.manifests["app"]) == (["latest"], True)
    assert registry.delete_manifest("app", digest)
    assert not registry.delete_manifest("app", digest)
    assert registry.tags("app") == []


def test_a_registry_that_does_not_delete(registry: Registry, fake: FakeRegistry) -> None:
    fake.add_image("app", "v1", [b"layer"])
    fake.deletes = False
    with pytest.raises(RegistryError, match=r"does not delete v1: deleting is disabled .*storage\.delete\.enabled"):
        registry.delete_tag("app", "v1")
