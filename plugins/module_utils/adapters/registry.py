# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP API of a registry (the OCI distribution specification), over one ``requests`` session.

A session may be used by several threads. Blobs are streamed, never held in memory. What fails for the moment (a lost
connection, HTTP 429 and 5xx) is tried again for a while, and an upload or download goes on where it broke off. Every
error names the registry, the repository and what to do next.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import ssl
import traceback
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Callable, NamedTuple, cast
from urllib.parse import urlencode, urljoin, urlsplit

from ..engines.oci import backoff, image, references
from ..engines.oci.image import Descriptor
from ..errors import AirgapError
from ..times import Clock, SystemClock
from .layout import MANIFEST_LIMIT, LayoutError, VerifyingReader
from .registry_login import Login
from .upload_journal import Entry, Unkept

try:
    import requests
except ImportError:
    REQUESTS_TRACEBACK: str | None = traceback.format_exc()
else:
    REQUESTS_TRACEBACK = None

# Seconds for a connection, and for the next bytes of an answer. A registry hashes a whole blob before it answers.
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 300.0
# Opening a session costs a registry nothing: one that takes longer to answer hangs.
OPEN_TIMEOUT = 20.0
# Seconds for which a request is tried again since it last got anywhere; opening a session is not worth as long.
PATIENCE = 60.0
CONNECT_PATIENCE = 5.0
# A manifest whose content is no JSON any more makes distribution answer 500, however often it is asked.
DAMAGE_PATIENCE = 2.0
# A larger block is fewer turns of the interpreter for the same bytes; each thread has one.
CHUNK = 512 * 1024
CONFIG_LIMIT = 8 * 1024 * 1024
_ACCEPT = ", ".join((*image.INDEX_TYPES, *image.MANIFEST_TYPES))
_DIGEST_HEADER = "Docker-Content-Digest"
# The digest is of the bytes themselves: nobody may compress them on the way.
_AS_IT_IS = {"Accept-Encoding": "identity"}
_LISTS = {"tags": "the list of tags", "repositories": "the catalog"}
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')


class RegistryError(AirgapError):
    """The registry could not be asked, or said no. ``status`` is the HTTP status, None without an answer."""

    def __init__(self, message: str, registry: str, repository: str | None = None, status: int | None = None) -> None:
        super().__init__(message, registry=registry, repository=repository, status=status)
        self.status = status


class LostError(RegistryError):
    """There was no answer, or not all of it: the connection could not be made, or broke."""


class CorruptError(RegistryError):
    """What the registry has under a digest is not what the digest says."""


class Manifest(NamedTuple):
    """A manifest as the registry stores it: ``body`` is what its digest is the digest of."""

    digest: str
    media_type: str
    body: bytes

    def parsed(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class _Place(NamedTuple):
    """Where an upload goes on: the URL to send to, and how many bytes the registry has already."""

    location: str
    offset: int


class _Patience:
    """How long one thing is tried again: ``seconds`` from its making, waiting longer each time."""

    def __init__(self, clock: Clock, jitter: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._jitter = jitter
        self._end = clock.monotonic() + seconds
        self._attempt = 0

    def again(self, retry_after: str | None = None) -> bool:
        """Wait until the next try; False, at once, when that would be after the end."""
        asked = backoff.retry_after(retry_after, self._clock.time())
        wait = max(asked or 0.0, backoff.delay(self._attempt, self._jitter()))
        if self._clock.monotonic() + wait > self._end:
            return False
        self._attempt += 1
        self._clock.sleep(wait)
        return True


class _Body:
    """The rest of a blob in large blocks. Without ``read``, for HTTP clients would use small ones with it."""

    def __init__(self, reader: VerifyingReader, place: _Place, size: int, sent: Callable[[int], None]) -> None:
        self._reader = reader
        self._offset = place.offset
        self._size = size
        self._sent = sent

    def __len__(self) -> int:
        return self._size - self._offset

    def __iter__(self) -> Iterator[bytes]:
        # What the registry has is read all the same: the digest is of the whole.
        left = self._offset
        while left:
            left -= len(self._reader.read(min(left, CHUNK)))
        while data := self._reader.read(CHUNK):
            yield data
            self._sent(len(data))


class Registry:
    """One session with one registry. ``host`` is ``name:port``, ``scheme`` http or https.

    ``ca_path`` names a PEM file (without it, the machine's CAs count), ``login`` is (user, password). ``jitter`` gives
    numbers from 0 to 1, ``patience`` is how many seconds something that fails for the moment is tried again.
    """

    def __init__(
        self,
        host: str,
        scheme: str = "http",
        session: Any = None,
        read_timeout: float = READ_TIMEOUT,
        *,
        ca_path: str | None = None,
        login: tuple[str, str] | None = None,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
        patience: float = PATIENCE,
    ) -> None:
        self.host = host
        self._timeout = (min(CONNECT_TIMEOUT, read_timeout), read_timeout)
        self._base = f"{scheme}://{host}"
        self._ca = ca_path or _machine_cas()
        #: (user, password), for whoever speaks to the same registry for us.
        self.login = login
        self._login = Login(login, self._fetch_token)
        self._clock = clock or SystemClock()
        self._jitter = jitter
        self._seconds = patience
        self._session = session or requests.Session()
        # Proxies and credentials of the process' environment are for other hosts than one inside the airgap.
        self._session.trust_env = False

    @classmethod
    def connect(
        cls,
        options: dict[str, Any],
        session: Any = None,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> Registry:
        """Open a session from the ``registry`` options and make sure that a registry answers, within seconds."""
        try:
            host = references.check_host(options["host"])
        except references.InvalidReferenceError as error:
            raise AirgapError(str(error)) from error
        ca_path = options.get("ca_path")
        if ca_path and not os.path.isfile(ca_path):
            raise AirgapError(f"there is no file {ca_path}, which is named as the CA of the registry {host}")
        login = (options["username"], options.get("password") or "") if options.get("username") else None
        registry = cls(host, options["scheme"], session, ca_path=ca_path, login=login, clock=clock, jitter=jitter)
        registry._open(registry._patience(CONNECT_PATIENCE))
        return registry

    def ping(self) -> None:
        """Ask /v2/ once; raises RegistryError unless a registry answers that lets us in."""
        self._open(None)

    def _open(self, patience: _Patience | None) -> None:
        connecting, reading = self._timeout
        answer = self._persistent("GET", "/v2/", None, patience, timeout=(connecting, min(reading, OPEN_TIMEOUT)))
        if answer.status_code != 200:
            raise self._refusal(answer, "open a session", None)

    # --- manifests -------------------------------------------------------------------------------------------------

    def manifest_digest(self, repository: str, reference: str) -> str | None:
        """The digest that a tag (or digest) has now, None when it is not there."""
        answer = self._send("HEAD", _manifest(repository, reference), repository, headers={"Accept": _ACCEPT})
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise self._refusal(answer, f"look up {reference}", repository)
        stated = answer.headers.get(_DIGEST_HEADER)
        if stated:
            return self._checked_digest(stated, repository)
        # The header is optional in the specification; without it the body has to be hashed.
        manifest = self.manifest(repository, reference)
        return manifest.digest if manifest else None

    def manifest(self, repository: str, reference: str, patience: float | None = None) -> Manifest | None:
        """Read a manifest by tag or digest and verify it, None when it is not there."""
        path, limit = _manifest(repository, reference), self._patience(patience)
        answer = self._persistent("GET", path, repository, limit, headers={"Accept": _ACCEPT}, stream=True)
        with answer:
            if answer.status_code == 404:
                return None
            if answer.status_code != 200:
                raise self._refusal(answer, f"read the manifest {reference}", repository)
            body = self._bounded(answer, MANIFEST_LIMIT, f"manifest {reference}", repository)
        stated = answer.headers.get(_DIGEST_HEADER) or (reference if ":" in reference else None)
        digest = self._verified(body, stated, f"manifest {reference}", repository)
        return Manifest(digest, answer.headers.get("Content-Type", "").partition(";")[0], body)

    def read_back(self, repository: str, digest: str) -> Manifest | str:
        """Read a manifest to see whether it is whole; otherwise what is wrong with it in a few words."""
        try:
            manifest = self.manifest(repository, digest, DAMAGE_PATIENCE)
        except CorruptError:
            return "is no longer what its digest says"
        except RegistryError as error:
            if error.status is None or not backoff.is_transient(error.status):
                raise
            return f"cannot be read (HTTP {error.status})"
        return "is missing" if manifest is None else manifest

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        """Write a manifest under a tag or its digest, then read back what ``reference`` is now."""
        headers = {"Content-Type": manifest.media_type}
        answer = self._send("PUT", _manifest(repository, reference), repository, headers=headers, data=manifest.body)
        if answer.status_code not in (201, 202):
            raise self._refusal(answer, f"write the manifest {reference}", repository)
        found = self.manifest_digest(repository, reference)
        if found != manifest.digest:
            raise self._error(
                f"{self.host}/{repository}: {reference} was written as {manifest.digest} but reads back as {found}. "
                "Somebody else writes the same tag, or the registry is not the one that was written to",
                repository,
            )

    def tags(self, repository: str) -> list[str] | None:
        """The tags of a repository, sorted; None when the repository does not exist."""
        found = self._listed(f"/v2/{repository}/tags/list", "tags", "list the tags", repository)
        return None if found is None else sorted(found)

    def repositories(self) -> list[str]:
        """The names of all repositories, sorted; one that was emptied may still be among them."""
        found = self._listed("/v2/_catalog", "repositories", "list the repositories", None)
        if found is None:
            raise self._error(f"{self.host}: the registry keeps no catalog of its repositories", None, 404)
        return sorted(found)

    def delete_tag(self, repository: str, tag: str) -> bool:
        """Remove a tag; its manifest stays. False when it was not there."""
        return self._delete(repository, references.check_tag(tag))

    def delete_manifest(self, repository: str, digest: str) -> bool:
        """Remove a manifest, and with it every tag that points to it. False when it was not there."""
        return self._delete(repository, references.check_digest(digest))

    def _delete(self, repository: str, reference: str) -> bool:
        answer = self._send("DELETE", _manifest(repository, reference), repository)
        if answer.status_code == 405:
            raise self._error(
                f"{self.host}/{repository}: the registry does not delete {reference}: deleting is disabled in its "
                "configuration (storage.delete.enabled), or it is read-only at the moment. "
                "The module lumen.airgap.registry enables it",
                repository,
                answer.status_code,
            )
        if answer.status_code not in (200, 202, 404):
            raise self._refusal(answer, f"delete {reference}", repository)
        return bool(answer.status_code != 404)

    def _listed(self, path: str | None, key: str, what: str, repository: str | None) -> list[str] | None:
        """A list that may come in pages, None when there is none."""
        found: list[str] = []
        while path:
            answer = self._send("GET", path, repository)
            if answer.status_code == 404:
                return None
            if answer.status_code != 200:
                raise self._refusal(answer, what, repository)
            found += self._object(answer.content, _LISTS[key], repository).get(key) or []
            following = _NEXT.search(answer.headers.get("Link", ""))
            path = urljoin(answer.url, following[1]) if following else None
        return found

    # --- blobs -----------------------------------------------------------------------------------------------------

    def has_blob(self, repository: str, digest: str) -> bool:
        """True when this repository (not only the registry) has the blob."""
        answer = self._send("HEAD", _blob(repository, digest), repository)
        if answer.status_code not in (200, 404):
            raise self._refusal(answer, f"look up the blob {digest}", repository)
        return bool(answer.status_code == 200)

    def read_config(self, repository: str, digest: str) -> dict[str, Any]:
        """Read and verify the config of an image: the one blob that is small and JSON."""
        answer = self._send("GET", _blob(repository, digest), repository, stream=True)
        with answer:
            if answer.status_code != 200:
                raise self._refusal(answer, f"read the config {digest}", repository)
            body = self._bounded(answer, CONFIG_LIMIT, f"config {digest}", repository)
        self._verified(body, digest, f"config {digest}", repository)
        return self._object(body, f"config {digest}", repository)

    def open_blob(self, repository: str, item: Descriptor) -> VerifyingReader:
        """Open a blob for one reading from start to end. A connection that breaks is made again, and read on."""
        # The reader asks for no more of a file than this.
        file = cast(BinaryIO, _Download(self, repository, item))
        return VerifyingReader(file, item, f"{self.host}/{repository}@{item.digest}")

    def damage(self, repository: str, item: Descriptor) -> str | None:
        """Read a blob back. None when it is whole, otherwise what is wrong with it in a few words."""
        found, size = hashlib.new(item.digest.partition(":")[0]), 0
        answer = self._send("GET", _blob(repository, item.digest), repository, stream=True, headers=_AS_IT_IS)
        with answer:
            if answer.status_code == 404:
                return "is missing"
            if answer.status_code != 200:
                raise self._refusal(answer, f"read the blob {item.digest}", repository)
            try:
                for data in answer.iter_content(CHUNK):
                    found.update(data)
                    size += len(data)
            except requests.exceptions.RequestException:
                pass  # a registry whose file is too short, or gone, can only end the answer early
        if size < item.size:
            return f"ends after {size} of {item.size} bytes"
        content = f"{found.name}:{found.hexdigest()}"
        return None if content == item.digest else f"has the content {content}"

    def upload(
        self,
        repository: str,
        blob: Descriptor,
        open_blob: Callable[[Descriptor], VerifyingReader],
        mount_from: str | None = None,
        *,
        entry: Entry | None = None,
        sent: Callable[[int], None] = lambda size: None,
    ) -> int | None:
        """Bring a blob into the repository; returns how many bytes it lacked, None when it was mounted.

        ``entry`` remembers the upload beyond this process, and continues one that was interrupted. ``sent`` is called
        with the size of each block that has left.
        """
        entry = entry or Unkept()
        place = self._place(repository, entry.location, blob) if entry.location else None
        place = place or self._begin(repository, blob, mount_from)
        if place is None:
            return None
        kept, patience = place.offset, self._patience()
        while True:
            entry.save(place.location)
            try:
                failure, retry_after = self._try_upload(repository, blob, place, open_blob, sent)
            except LayoutError:
                # The source is corrupt: what the registry has of it must not be continued.
                entry.done()
                with contextlib.suppress(RegistryError):
                    self._persistent("DELETE", place.location, repository, None)
                raise
            if failure is None:
                entry.done()
                return blob.size - kept
            if not patience.again(retry_after):
                raise failure
            there = self._place(repository, place.location, blob)
            if there is not None and there.offset > place.offset:
                patience = self._patience()
            elif there is None and self.has_blob(repository, blob.digest):
                # It was the answer that got lost.
                entry.done()
                return blob.size - kept
            if there is None or failure.status == 400:
                there, kept = cast("_Place", self._begin(repository, blob, None)), 0
            place = there

    def _begin(self, repository: str, blob: Descriptor, mount_from: str | None) -> _Place | None:
        """Start an upload; None when the blob was mounted."""
        query = {"mount": blob.digest, "from": mount_from} if mount_from else {}
        path = f"/v2/{repository}/blobs/uploads/" + (f"?{urlencode(query)}" if query else "")
        answer = self._send("POST", path, repository)
        if answer.status_code == 201 and mount_from:
            return None
        location = answer.headers.get("Location")
        if answer.status_code != 202 or not location:
            raise self._refusal(answer, f"start the upload of {blob.digest}", repository)
        return _Place(urljoin(answer.url, location), 0)

    def _place(self, repository: str, location: str, blob: Descriptor) -> _Place | None:
        """Ask how far an upload got; None when the registry has forgotten it, or has nothing worth continuing."""
        if not self._is_own(location):
            return None
        answer = self._send("GET", location, repository)
        end = re.fullmatch(r"(?:bytes=)?0-([0-9]+)", answer.headers.get("Range", ""))
        # "0-0" says one byte or none.
        if answer.status_code not in (200, 202, 204) or end is None or not 0 < int(end[1]) < blob.size:
            return None
        return _Place(urljoin(answer.url, answer.headers.get("Location", location)), int(end[1]) + 1)

    def _try_upload(
        self,
        repository: str,
        blob: Descriptor,
        place: _Place,
        open_blob: Callable[[Descriptor], VerifyingReader],
        sent: Callable[[int], None],
    ) -> tuple[RegistryError | None, str | None]:
        """Send what is missing and finish. Returns (None, None), or what failed for the moment and Retry-After."""
        separator = "&" if "?" in place.location else "?"
        url = f"{place.location}{separator}{urlencode({'digest': blob.digest})}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size - place.offset)}
        if 0 < place.offset < blob.size:
            # In the form of the distribution specification, which is not that of HTTP.
            headers["Content-Range"] = f"{place.offset}-{blob.size - 1}"
        try:
            with open_blob(blob) as reader:
                # An empty body object would be sent chunked, which the specification does not ask registries to take.
                body = _Body(reader, place, blob.size, sent) if place.offset < blob.size else b""
                answer = self._once("PUT", url, repository, headers=headers, data=body)
        except LostError as lost:
            return lost, None
        status = answer.status_code
        if status == 201:
            stored = answer.headers.get(_DIGEST_HEADER, blob.digest)
            if stored != blob.digest:
                raise self._error(f"{self.host}/{repository}: blob {blob.digest} was stored as {stored}", repository)
            return None, None
        refusal = self._refusal(answer, f"upload the blob {blob.digest} ({blob.size} bytes)", repository)
        # 404: it forgot the upload. 416: it has more or less than it said. 400: what it had was not ours.
        passing = backoff.is_transient(status) or status in (404, 416) or (status == 400 and place.offset > 0)
        if not passing:
            raise refusal
        return refusal, answer.headers.get("Retry-After")

    # --- transport -------------------------------------------------------------------------------------------------

    def _send(self, method: str, path: str, repository: str | None, **request: Any) -> Any:
        """One request, tried again while it fails for the moment."""
        return self._persistent(method, path, repository, self._patience(), **request)

    def _persistent(
        self, method: str, path: str, repository: str | None, patience: _Patience | None, **request: Any
    ) -> Any:
        while True:
            retry_after = None
            try:
                answer = self._once(method, path, repository, **request)
            except LostError:
                if patience is None or not patience.again():
                    raise
                continue
            if backoff.is_transient(answer.status_code):
                retry_after = answer.headers.get("Retry-After")
                if patience is not None and patience.again(retry_after):
                    answer.close()
                    continue
            return answer

    def _once(self, method: str, path: str, repository: str | None, **request: Any) -> Any:
        """One request, with what proves who we are when it goes to this registry and not elsewhere."""
        url = urljoin(self._base, path)
        headers = request.pop("headers", {})
        proof = self._login.headers(repository) if self._is_own(url) else {}
        answer = self._ask(method, url, repository, headers={**headers, **proof}, **request)
        if answer.status_code != 401 or not self._is_own(url) or isinstance(request.get("data"), _Body):
            return answer
        if not self._login.answer(answer.headers.get("WWW-Authenticate"), repository, proof):
            return answer
        answer.close()
        return self._ask(method, url, repository, headers={**headers, **self._login.headers(repository)}, **request)

    def _ask(self, method: str, url: str, repository: str | None, **request: Any) -> Any:
        try:
            return self._session.request(method, url, **{"timeout": self._timeout, "verify": self._ca, **request})
        except requests.exceptions.RequestException as error:
            raise self._lost(error, method, repository) from error

    def _lost(self, error: Exception, method: str, repository: str | None) -> RegistryError:
        """What an exception of ``requests`` means."""
        cause = _innermost(error)
        if isinstance(error, requests.exceptions.SSLError) and not isinstance(
            cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)
        ):
            return self._error(
                f"{self._base} is not trusted or does not speak TLS ({_reason(cause)}). "
                "Check the scheme, and that this host knows the CA of the registry, or name its file in ca_path",
                repository,
            )
        where = f" ({method} for {repository})" if repository else ""
        return LostError(
            f"the registry {self._base} cannot be reached{where}: {_reason(cause)}. "
            "Is its container running? The module lumen.airgap.registry starts it, docker logs says why it stopped",
            self.host,
            repository,
        )

    def _fetch_token(self, realm: str, proof: dict[str, str], query: dict[str, str]) -> Any:
        """Ask the token service that the registry named. Without TLS it gets no password that the registry got with."""
        if self._base.startswith("https:") and not realm.startswith("https:"):
            proof = {}
        answer = self._ask("GET", realm, None, headers=proof, params=query)
        return self._object(answer.content, "the token", None) if answer.status_code == 200 else None

    def _is_own(self, url: str) -> bool:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}" == self._base

    def _patience(self, seconds: float | None = None) -> _Patience:
        return _Patience(self._clock, self._jitter, self._seconds if seconds is None else seconds)

    def _refusal(self, answer: Any, what: str, repository: str | None) -> RegistryError:
        status = answer.status_code
        where = f"{self.host}/{repository}" if repository else self.host
        said = _said(answer)
        message = f"{where}: the registry answered HTTP {status} when asked to {what}" + (f": {said}" if said else "")
        return self._error(f"{message}. {_advice(status)}", repository, status)

    def _error(self, message: str, repository: str | None, status: int | None = None) -> RegistryError:
        return RegistryError(message, self.host, repository, status)

    def _checked_digest(self, digest: str, repository: str) -> str:
        try:
            return references.check_digest(digest)
        except references.InvalidReferenceError as error:
            raise self._error(f"{self.host}/{repository}: the registry names no digest: {error}", repository) from error

    def _verified(self, body: bytes, digest: str | None, what: str, repository: str) -> str:
        algorithm = self._checked_digest(digest, repository).partition(":")[0] if digest else "sha256"
        found = f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"
        if digest and found != digest:
            raise CorruptError(
                f"{self.host}/{repository}: {what} is corrupt in the registry's storage: it should be {digest}, "
                f"its content is {found}. Publish the image again with force, on the registry's node",
                self.host,
                repository,
            )
        return found

    def _bounded(self, answer: Any, limit: int, what: str, repository: str) -> bytes:
        body = bytearray()
        try:
            for chunk in answer.iter_content(64 * 1024):
                body += chunk
                if len(body) > limit:
                    raise self._error(f"{self.host}/{repository}: {what} has more than {limit} bytes", repository)
        except requests.exceptions.RequestException as error:
            reason = _reason(_innermost(error))
            message = f"{self.host}/{repository}: the connection broke while reading {what}: {reason}"
            raise LostError(message, self.host, repository) from error
        return bytes(body)

    def _object(self, body: bytes, what: str, repository: str | None) -> dict[str, Any]:
        try:
            data = json.loads(body)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            where = f"{self.host}/{repository}" if repository else self.host
            raise self._error(f"{where}: {what} is no JSON object", repository)
        return data


class _Download:
    """A blob on its way from a registry, as a file to read once. When the connection breaks, the next one goes on."""

    def __init__(self, registry: Registry, repository: str, item: Descriptor) -> None:
        self._registry = registry
        self._repository = repository
        self._item = item
        self._got = 0
        self._left = b""
        self._patience = registry._patience()
        self._begin()

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, fewer when no more are there yet; all of them without a size; none at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if not self._left:
            self._left = self._block()
        data, self._left = self._left[:size], self._left[size:]
        return data

    def close(self) -> None:
        """Give the connection back."""
        self._answer.close()

    def _block(self) -> bytes:
        size = self._item.size
        while self._got < size:
            try:
                data: bytes = next(self._blocks, b"")
                said = f"ends after {self._got} of {size} bytes"
            except requests.exceptions.RequestException as error:
                data, said = b"", f"broke off after {self._got} of {size} bytes ({_reason(_innermost(error))})"
            if data:
                self._got += len(data)
                self._patience = self._registry._patience()
                return data
            self._answer.close()
            if not self._patience.again():
                where = f"{self._registry.host}/{self._repository}"
                raise LostError(f"{where}: the blob {self._item.digest} {said}", self._registry.host, self._repository)
            self._begin()
        return b""

    def _begin(self) -> None:
        registry, repository, digest = self._registry, self._repository, self._item.digest
        headers = {**_AS_IT_IS, **({"Range": f"bytes={self._got}-"} if self._got else {})}
        answer = registry._send("GET", _blob(repository, digest), repository, stream=True, headers=headers)
        if answer.status_code not in (200, 206):
            raise registry._refusal(answer, f"read the blob {digest}", repository)
        # A registry that knows no ranges begins anew.
        self._blocks = _after(self._got if answer.status_code == 200 else 0, answer.iter_content(CHUNK))
        self._answer = answer


def _after(skip: int, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks without their first ``skip`` bytes."""
    for data in blocks:
        if skip < len(data):
            yield data[skip:]
        skip = max(0, skip - len(data))


def _manifest(repository: str, reference: str) -> str:
    return f"/v2/{repository}/manifests/{reference}"


def _blob(repository: str, digest: str) -> str:
    return f"/v2/{repository}/blobs/{digest}"


def _said(answer: Any) -> str:
    """The errors of a registry's answer as text; the head of the body when it is something else's answer."""
    try:
        errors = answer.json()["errors"]
        return "; ".join(" ".join(filter(None, (item.get("code"), item.get("message")))) for item in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        return str(answer.text or "")[:200].strip()


def _advice(status: int) -> str:
    if status in (401, 403):
        return "It wants credentials that it was not given, or that may not do this"
    if status == 404:
        return "Is this the address of a registry, without a path?"
    if status == 405:
        return "The registry may be read-only at the moment"
    if status == 429 or status >= 500:
        return "Look at the registry's own log (docker logs) and at the free space of its storage, then run again"
    return "Run again when that is mended"


def _innermost(error: BaseException) -> BaseException:
    """The reason behind an exception of requests, whose own text is mostly the names of its layers."""
    seen: BaseException = error
    while True:
        wrapped = (getattr(seen, "reason", None), *seen.args, seen.__cause__)
        inner = next((item for item in wrapped if isinstance(item, BaseException)), None)
        if inner is None:
            return seen
        seen = inner


def _reason(cause: BaseException) -> str:
    return str(getattr(cause, "strerror", None) or cause)


def _machine_cas() -> str | bool:
    """Where this machine keeps the CAs that it trusts; True lets ``requests`` use its own list where it keeps none."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True
