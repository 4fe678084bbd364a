# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry in memory: mounted on a ``requests`` session, it answers as distribution version 3 does."""

from __future__ import annotations

import hashlib
import io
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
    """``requests`` holds (method, path) of what was asked; ``break_with`` makes requests that match fail."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[str, dict[str, tuple[str, bytes]]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.largest_chunk = 0
        self.mounts = True
        self.digest_header = True
        self._faults: list[tuple[str, str, Answer | Exception]] = []

    # --- what tests use --------------------------------------------------------------------------------------------

    def session(self) -> requests.Session:
        session = requests.Session()
        session.mount("http://", self)
        session.mount("https://", self)
        return session

    def break_with(self, method: str, pattern: str, fault: int | Exception, body: bytes = b"") -> None:
        answer = fault if isinstance(fault, Exception) else (fault, {}, body)
        self._faults.append((method, pattern, answer))

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
        fault = next((f for m, pattern, f in self._faults if m == method and re.search(pattern, url.path)), None)
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

    def _answer(self, method: str, path: str, query: dict[str, list[str]], request: requests.PreparedRequest) -> Answer:
        routes: list[tuple[str, Callable[..., Answer]]] = [
            (r"/v2/", lambda *_: (200, {}, b"{}")),
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

    def _manifest(self, method: str, query: Any, request: Any, repository: str, reference: str) -> Answer:
        if method == "PUT":
            return self._put_manifest(repository, reference, request)
        digest = self.tags.get(repository, {}).get(reference, reference)
        stored = self.manifests.get(repository, {}).get(digest)
        if stored is None:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        assert stored[0] in request.headers["Accept"]
        return 200, {"Content-Type": stored[0], **self._stated(digest)}, stored[1]

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
            return 202, {"Location": f"/v2/{repository}/blobs/uploads/1?_state=abc"}, b""
        assert query["_state"] == ["abc"], "the upload's own query has to come back"
        data = self._receive(request)
        digest = query["digest"][0]
        if digest_of(data) != digest:
            return _error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self.blobs.setdefault(repository, {})[digest] = data
        return 201, self._stated(digest), b""

    def _receive(self, request: Any) -> bytes:
        assert "Transfer-Encoding" not in request.headers
        data = b""
        body = request.body or b""
        if isinstance(body, bytes):
            return body
        while chunk := body.read(16384):
            self.largest_chunk = max(self.largest_chunk, len(chunk))
            data += chunk
        assert len(data) == int(request.headers["Content-Length"])
        return data

    def _blob(self, method: str, query: Any, request: Any, repository: str, digest: str) -> Answer:
        data = self.blobs.get(repository, {}).get(digest)
        if data is None:
            return _error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        return 200, self._stated(digest), data

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
