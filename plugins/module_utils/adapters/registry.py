# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP API of a registry (the OCI distribution specification), over one ``requests`` session.

Blobs are streamed, never held in memory. Every error names the registry, the repository and what to do next.
"""

from __future__ import annotations

import hashlib
import json
import os
import traceback
from typing import Any, Callable, NamedTuple
from urllib.parse import urlencode, urljoin

from ..engines.oci import image, references
from ..engines.oci.image import Descriptor
from ..errors import AirgapError
from .layout import MANIFEST_LIMIT, VerifyingReader

try:
    import requests
except ImportError:
    REQUESTS_TRACEBACK: str | None = traceback.format_exc()
else:
    REQUESTS_TRACEBACK = None

# Seconds for a connection, and for the next bytes of an answer. A registry hashes a whole blob before it answers.
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 300.0
CONFIG_LIMIT = 8 * 1024 * 1024
_ACCEPT = ", ".join((*image.INDEX_TYPES, *image.MANIFEST_TYPES))
_DIGEST_HEADER = "Docker-Content-Digest"


class RegistryError(AirgapError):
    """The registry could not be asked, or said no. ``status`` is the HTTP status, None without an answer."""

    def __init__(self, message: str, registry: str, repository: str | None = None, status: int | None = None) -> None:
        super().__init__(message, registry=registry, repository=repository, status=status)
        self.status = status


class Manifest(NamedTuple):
    """A manifest as the registry stores it: ``body`` is what its digest is the digest of."""

    digest: str
    media_type: str
    body: bytes

    def parsed(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Registry:
    """One session with one registry. ``host`` is ``name:port``, ``scheme`` http or https."""

    def __init__(
        self,
        host: str,
        scheme: str = "http",
        session: Any = None,
        read_timeout: float = READ_TIMEOUT,
        *,
        ca_path: str | None = None,
        login: tuple[str, str] | None = None,
    ) -> None:
        self.host = host
        self._ca = ca_path or True
        self._login = login
        self._timeout = (min(CONNECT_TIMEOUT, read_timeout), read_timeout)
        self._base = f"{scheme}://{host}"
        self._session = session or requests.Session()
        # Proxies and credentials of the process' environment are for other hosts than one inside the airgap.
        self._session.trust_env = False

    @classmethod
    def connect(cls, options: dict[str, Any], session: Any = None) -> Registry:
        """Open a session from the ``registry`` options and make sure that a registry answers."""
        try:
            host = references.check_host(options["host"])
        except references.InvalidReferenceError as error:
            raise AirgapError(str(error)) from error
        ca_path = options.get("ca_path")
        if ca_path and not os.path.isfile(ca_path):
            raise AirgapError(f"the CA file of the registry {host} is not there: {ca_path}")
        username = options.get("username")
        login = (username, options.get("password") or "") if username else None
        registry = cls(host, options["scheme"], session, ca_path=ca_path, login=login)
        registry.ping()
        return registry

    def ping(self) -> None:
        """Ask /v2/; raises RegistryError unless a registry answers that lets us in."""
        answer = self._send("GET", "/v2/", None)
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

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """Read a manifest by tag or digest and verify it, None when it is not there."""
        path = _manifest(repository, reference)
        answer = self._send("GET", path, repository, headers={"Accept": _ACCEPT}, stream=True)
        with answer:
            if answer.status_code == 404:
                return None
            if answer.status_code != 200:
                raise self._refusal(answer, f"read the manifest {reference}", repository)
            body = self._bounded(answer, MANIFEST_LIMIT, f"manifest {reference}", repository)
        stated = answer.headers.get(_DIGEST_HEADER) or (reference if ":" in reference else None)
        digest = self._verified(body, stated, f"manifest {reference}", repository)
        return Manifest(digest, answer.headers.get("Content-Type", "").partition(";")[0], body)

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
        answer = self._send("GET", f"/v2/{repository}/tags/list", repository)
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise self._refusal(answer, "list the tags", repository)
        return sorted(self._object(answer.content, "the list of tags", repository).get("tags") or [])

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

    def upload(
        self,
        repository: str,
        blob: Descriptor,
        open_blob: Callable[[Descriptor], VerifyingReader],
        mount_from: str | None = None,
    ) -> bool:
        """Bring a blob into the repository; True when it was sent, False when it was mounted from another one."""
        query = {"mount": blob.digest, "from": mount_from} if mount_from else {}
        path = f"/v2/{repository}/blobs/uploads/" + (f"?{urlencode(query)}" if query else "")
        answer = self._send("POST", path, repository)
        if answer.status_code == 201 and mount_from:
            return False
        location = answer.headers.get("Location")
        if answer.status_code != 202 or not location:
            raise self._refusal(answer, f"start the upload of {blob.digest}", repository)
        self._put_blob(repository, blob, urljoin(answer.url, location), open_blob)
        return True

    def _put_blob(
        self, repository: str, blob: Descriptor, location: str, open_blob: Callable[[Descriptor], VerifyingReader]
    ) -> None:
        separator = "&" if "?" in location else "?"
        url = f"{location}{separator}{urlencode({'digest': blob.digest})}"
        with open_blob(blob) as reader:
            # An empty body object would be sent chunked, which the specification does not ask registries to take.
            body = reader if blob.size else reader.read()
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
            answer = self._send("PUT", url, repository, headers=headers, data=body)
        if answer.status_code != 201:
            raise self._refusal(answer, f"upload the blob {blob.digest} ({blob.size} bytes)", repository)
        stored = answer.headers.get(_DIGEST_HEADER, blob.digest)
        if stored != blob.digest:
            raise self._error(f"{self.host}/{repository}: blob {blob.digest} was stored as {stored}", repository)

    # --- transport -------------------------------------------------------------------------------------------------

    def _send(self, method: str, path: str, repository: str | None, **request: Any) -> Any:
        try:
            return self._session.request(method, urljoin(self._base, path), timeout=self._timeout, **request)
        except requests.exceptions.SSLError as error:
            raise self._error(
                f"{self._base} is not trusted or does not speak TLS ({_cause(error)}). "
                "Check the scheme, and that this host knows the CA of the registry",
                repository,
            ) from error
        except requests.exceptions.RequestException as error:
            where = f" ({method} for {repository})" if repository else ""
            raise self._error(
                f"the registry {self._base} cannot be reached{where}: {_cause(error)}. "
                "Is its container running? The module lumen.airgap.registry starts it, docker logs says why it stopped",
                repository,
            ) from error

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
            raise self._error(
                f"{self.host}/{repository}: {what} is corrupt in the registry's storage: "
                f"it should be {digest}, its content is {found}. Publish the image again",
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
            message = f"{self.host}/{repository}: the connection broke while reading {what}: {_cause(error)}"
            raise self._error(message, repository) from error
        return bytes(body)

    def _object(self, body: bytes, what: str, repository: str) -> dict[str, Any]:
        try:
            data = json.loads(body)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise self._error(f"{self.host}/{repository}: {what} is no JSON object", repository)
        return data


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


def _cause(error: BaseException) -> str:
    """The innermost reason of an exception of requests, whose own text is mostly the names of its layers."""
    seen: BaseException = error
    while True:
        wrapped = (getattr(seen, "reason", None), *seen.args, seen.__cause__)
        inner = next((item for item in wrapped if isinstance(item, BaseException)), None)
        if inner is None:
            return str(getattr(seen, "strerror", None) or seen)
        seen = inner
