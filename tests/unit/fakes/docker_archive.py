# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives as ``docker save`` writes them, and a daemon that has images to save."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .registry import digest_of


def layer(**files: str) -> bytes:
    """A layer: a tar of files."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return target.getvalue()


def config_of(layers: Sequence[bytes], **more: Any) -> bytes:
    return json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest_of(item) for item in layers]}, **more}).encode()


class Archive:
    """Members of an archive, in the order they are added."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w")

    def file(self, name: str, body: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(body)
        self._tar.addfile(info, io.BytesIO(body))

    def link(self, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        self._tar.addfile(info)

    def bytes(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


def legacy(images: Mapping[str, Sequence[bytes]]) -> bytes:
    """Docker up to 24: a directory for each layer, links where two images share one, manifest.json at the end."""
    archive, seen, listed = Archive(), {}, []
    for name, layers in images.items():
        names = []
        for number, body in enumerate(layers):
            folder = hashlib.sha256(f"{name} {number}".encode()).hexdigest()
            names.append(f"{folder}/layer.tar")
            archive.file(f"{folder}/VERSION", b"1.0")
            archive.file(f"{folder}/json", b"{}")
            if body in seen:
                archive.link(names[-1], f"../{seen[body]}/layer.tar")
            else:
                archive.file(names[-1], body)
                seen[body] = folder
        config = config_of(layers, of=name)
        config_name = f"{digest_of(config)[7:]}.json"
        archive.file(config_name, config)
        listed.append({"Config": config_name, "RepoTags": [name], "Layers": names})
    archive.file("manifest.json", json.dumps(listed).encode())
    archive.file("repositories", b"{}")
    return archive.bytes()


def modern(images: Mapping[str, Sequence[bytes]]) -> bytes:
    """Docker from 25: an OCI layout, manifest.json for older readers."""
    archive, seen, listed = Archive(), set(), []

    def blob(body: bytes) -> str:
        name = f"blobs/sha256/{digest_of(body)[7:]}"
        if name not in seen:
            seen.add(name)
            archive.file(name, body)
        return name

    for name, layers in images.items():
        names = [blob(body) for body in layers]
        listed.append({"Config": blob(config_of(layers, of=name)), "RepoTags": [name], "Layers": names})
    archive.file("index.json", b'{"schemaVersion": 2, "manifests": []}')
    archive.file("manifest.json", json.dumps(listed).encode())
    archive.file("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    return archive.bytes()


def chunks(body: bytes, size: int = 700) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


class Daemon:
    """What the bundle asks of Docker. ``saved`` are the names of each request."""

    url = "unix:///test.sock"

    def __init__(self, images: Mapping[str, Sequence[bytes]]) -> None:
        self.images = dict(images)
        self.saved: list[list[str]] = []

    def image(self, name: str) -> dict[str, Any] | None:
        if name not in self.images:
            return None
        layers = self.images[name]
        identity = digest_of(config_of(layers, of=name))
        return {
            "Id": identity,
            "Size": sum(map(len, layers)),
            "RootFS": {"Layers": [digest_of(body) for body in layers]},
        }

    def save(self, names: Sequence[str]) -> Iterator[bytes]:
        self.saved.append(list(names))
        return chunks(legacy({name: self.images[name] for name in names}))
