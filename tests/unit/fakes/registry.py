# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry in memory: mounted on a ``requests`` session, it answers as distribution version 3 does."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from requests.adapters import BaseAdapter

HOST = "registry.test:5000"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

Answer = tuple[int, dict[str, str], bytes]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class FakeRegistry(BaseAdapter):
    """``requests`` holds (method, path) of what was asked; ``break_with`` makes requests that match fail.

    ``cut`` has, for each of the next uploads, after how many bytes its connection breaks; ``received`` counts what
    uploads have brought. ``users`` are (name, password) that are let in, with a token when ``token`` is set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[str, dict[str, tuple[str, bytes]]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.largest_chunk = 0
        self.mounts = True
        self.digest_header = True
        self.deletes = True
        self.ranges = True
        self.page = 1000
        self.uploads: dict[str, bytearray] = {}
        self._numbers = itertools.count(1)
        self.cut: list[int] = []
        self.received = 0
        self.user: tuple[str, str] | None = None
        self.token: str | None = None
        self.headers: list[dict[str, str]] = []
        self._faults: list[list[Any]] = []

    # --- what tests use --------------------------------------------------------------------------------------------

    def session(self) -> requests.Session:
        session = requests.Session()
        session.mount("http://", self)
        session.mount("https://", self)
        return session

    def break_with(
        self,
        method: str,
        pattern: str,
        fault: int | Exception,
        body: bytes = b"",
        times: int = 1_000_000,
        headers: dict[str, str] | None = None,
    ) -> None:
        answer = fault if isinstance(fault, Exception) else (fault, headers or {}, body)
        self._faults.append([method, pattern, answer, times])

    def add_image(self, repository: str, tag: str, layers: list[bytes], **config: Any) -> str:
        """Store a whole image; returns the digest of its manifest."""
        raw = json.dumps({"config": config, "layers": len(layers)}).encode()
        for blob in (raw, *layers):
            self.blobs.setdefault(repository, {})[digest_of(blob)] = blob
        body = json.dumps(docker_manifest(raw, layers)).encode()
        return self.put(repository, tag, MANIFEST, body)

    def put(self, repository: str, reference: str, media_type: str, body: bytes) -> str:
        digest = digest_of(body)
        self.manifests.setdefault(repository, {})[digest] = (media_type, body)
        if ":" not in reference:
            self.tags.setdefault(repository, {})[reference] = digest
        return digest

    def asked(self, method: str) -> list[str]:
        return [path for used, path in self.requests if used == method]

    @property
    def written(self) -> list[tuple[str, str]]:
        return [(method, path) for method, path in self.requests if method not in ("GET", "HEAD")]

    # --- the adapter -----------------------------------------------------------------------------------------------

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        method, url = str(request.method), urlsplit(str(request.url))
        self.requests.append((method, url.path))
        self.headers.append(dict(request.headers))
        fault = self._fault(method, url.path) or self._unknown(url, request)
        if isinstance(fault, Exception):
            raise fault
        status, headers, body = fault or self._answer(method, url.path, parse_qs(url.query), request)
        response = requests.Response()
        response.status_code, response.url, response.request = status, str(request.url), request
        response.headers.update(headers)
        response.raw = io.BytesIO(b"" if method == "HEAD" else body)
        return response

    def close(self) -> None:
        pass

    def _fault(self, method: str, path: str) -> Answer | Exception | None:
        for fault in self._faults:
            if fault[0] == method and fault[3] and re.search(fault[1], path):
                fault[3] -= 1
                found: Answer | Exception = fault[2]
                return found
        return None

    def _unknown(self, url: Any, request: Any) -> Answer | None:
        """The answer to somebody who may not come in."""
        if self.user is None:
            return None
        basic = "Basic " + base64.b64encode(":".join(self.user).encode()).decode()
        given = request.headers.get("Authorization")
        if url.path == "/token":
            return (200, {}, json.dumps({"token": self.token}).encode()) if given == basic else _error(401, "NO", "no")
        if given == (f"Bearer {self.token}" if self.token else basic):
            return None
        asks = f'Bearer realm="http://{HOST}/token",service="test",scope="all"' if self.token else "Basic realm=test"
        status, _headers, body = _error(401, "UNAUTHORIZED", "authentication required")
        return status, {"WWW-Authenticate": asks}, body

    def _answer(self, method: str, path: str, query: dict[str, list[str]], request: requests.PreparedRequest) -> Answer:
        routes: list[tuple[str, Callable[..., Answer]]] = [
            (r"/v2/", lambda *_: (200, {}, b"{}")),
            (r"/v2/_catalog", self._catalog),
            (r"/v2/(.+)/tags/list", self._tags),
            (r"/v2/(.+)/manifests/(.+)", self._manifest),
            (r"/v2/(.+)/blobs/uploads/(\d*)", self._upload),
            (r"/v2/(.+)/blobs/(sha256:.+)", self._blob),
        ]
        for pattern, handler in routes:
            match = re.fullmatch(pattern, path)
            if match:
                return handler(method, query, request, *match.groups())
        return 404, {}, b"404 page not found"

    def _tags(self, method: str, query: Any, request: Any, repository: str) -> Answer:
        if repository not in self.manifests:
            return _error(404, "NAME_UNKNOWN", "repository name not known to registry")
        return 200, {}, json.dumps({"name": repository, "tags": list(self.tags.get(repository, {}))}).encode()

    def _catalog(self, method: str, query: dict[str, list[str]], request: Any) -> Answer:
        names = sorted(name for name in self.manifests if name > query.get("last", [""])[0])
        page = names[: self.page]
        more = {"Link": f'</v2/_catalog?last={page[-1]}>; rel="next"'} if len(names) > len(page) else {}
        return 200, more, json.dumps({"repositories": page}).encode()

    def _manifest(self, method: str, query: Any, request: Any, repository: str, reference: str) -> Answer:
        if method == "PUT":
            return self._put_manifest(repository, reference, request)
        if method == "DELETE":
            return self._delete(repository, reference)
        digest = self.tags.get(repository, {}).get(reference, reference)
        stored = self.manifests.get(repository, {}).get(digest)
        if stored is None:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        assert stored[0] in request.headers["Accept"]
        return 200, {"Content-Type": stored[0], **self._stated(digest)}, stored[1]

    def _delete(self, repository: str, reference: str) -> Answer:
        if not self.deletes:
            return _error(405, "UNSUPPORTED", "The operation is unsupported.")
        tags = self.tags.get(repository, {})
        if ":" not in reference:
            return (202, {}, b"") if tags.pop(reference, None) else _error(404, "MANIFEST_UNKNOWN", "unknown")
        if self.manifests.get(repository, {}).pop(reference, None) is None:
            return _error(404, "MANIFEST_UNKNOWN", "unknown")
        self.tags[repository] = {tag: digest for tag, digest in tags.items() if digest != reference}
        return 202, {}, b""

    def _put_manifest(self, repository: str, reference: str, request: Any) -> Answer:
        data = json.loads(request.body)
        wanted = [item["digest"] for item in (data.get("config"), *data.get("layers", [])) if item]
        missing = [digest for digest in wanted if digest not in self.blobs.get(repository, {})]
        children = [item["digest"] for item in data.get("manifests", [])]
        missing += [digest for digest in children if digest not in self.manifests.get(repository, {})]
        if missing:
            return _error(400, "MANIFEST_BLOB_UNKNOWN", f"blob unknown to registry: {missing[0]}")
        digest = self.put(repository, reference, request.headers["Content-Type"], request.body)
        return 201, self._stated(digest), b""

    def _upload(self, method: str, query: dict[str, list[str]], request: Any, repository: str, number: str) -> Answer:
        if method == "POST":
            digest, source = query.get("mount", [""])[0], query.get("from", [""])[0]
            if self.mounts and digest in self.blobs.get(source, {}):
                self.blobs.setdefault(repository, {})[digest] = self.blobs[source][digest]
                return 201, self._stated(digest), b""
            number = str(next(self._numbers))
            self.uploads[number] = bytearray()
            return 202, {"Location": f"/v2/{repository}/blobs/uploads/{number}?_state=abc"}, b""
        if number not in self.uploads:
            return _error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        if method == "GET":
            end = max(0, len(self.uploads[number]) - 1)
            return 204, {"Range": f"0-{end}", "Location": f"/v2/{repository}/blobs/uploads/{number}?_state=abc"}, b""
        if method == "DELETE":
            del self.uploads[number]
            return 204, {}, b""
        assert query["_state"] == ["abc"], "the upload's own query has to come back"
        start = int(request.headers.get("Content-Range", f"{len(self.uploads[number])}-").partition("-")[0])
        if start != len(self.uploads[number]):
            return _error(416, "RANGE_INVALID", "invalid content range")
        self._receive(request, self.uploads[number])
        data = bytes(self.uploads.pop(number))
        digest = query["digest"][0]
        if digest_of(data) != digest:
            return _error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self.blobs.setdefault(repository, {})[digest] = data
        return 201, self._stated(digest), b""

    def _receive(self, request: Any, upload: bytearray) -> None:
        assert "Transfer-Encoding" not in request.headers
        body = request.body or b""
        before, end = len(upload), self.cut.pop(0) if self.cut else None
        for chunk in [body] if isinstance(body, bytes) else body:
            self.largest_chunk = max(self.largest_chunk, len(chunk))
            taken = chunk if end is None else chunk[: before + end - len(upload)]
            upload += taken
            self.received += len(taken)
            if len(taken) < len(chunk):
                raise requests.exceptions.ConnectionError(ConnectionResetError(104, "Connection reset by peer"))
        assert len(upload) - before == int(request.headers["Content-Length"])

    def _blob(self, method: str, query: Any, request: Any, repository: str, digest: str) -> Answer:
        data = self.blobs.get(repository, {}).get(digest)
        if data is None:
            return _error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        start = int(re.sub(r"\D", "", request.headers.get("Range", "0"))) if self.ranges else 0
        return 206 if start else 200, self._stated(digest), data[start:]

    def _stated(self, digest: str) -> dict[str, str]:
        return {"Docker-Content-Digest": digest} if self.digest_header else {}


def docker_manifest(config: bytes, layers: list[bytes]) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor("application/vnd.docker.container.image.v1+json", config),
        "layers": [_descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", layer) for layer in layers],
    }


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def _error(status: int, code: str, message: str) -> Answer:
    return status, {}, json.dumps({"errors": [{"code": code, "message": message}]}).encode()
