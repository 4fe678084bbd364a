# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small signed bundles on disk: directory, tar or volumes."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path
from typing import Any

from ansible_collections.lumen.airgap.plugins.module_utils.adapters import signature
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle import manifest as engine
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle.manifest import (
    AbsentBlob,
    Base,
    BundleFile,
    BundleImage,
    BundleManifest,
)

from .clock import EPOCH
from .keys import Key
from .layout import LayoutBuilder

DAY = 86400.0


def at(days: float) -> str:
    """The time so many days after the clock of the tests begins."""
    return str(engine.datetime.fromtimestamp(EPOCH + days * DAY, engine.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"))


class BundleBuilder:
    """Fill it by ``layout``, ``image`` and ``file``, then ``seal`` it; ``resign`` after tampering with bundle.json."""

    def __init__(self, path: Path, key: Key, name: str = "lumen", number: int = 1) -> None:
        self.path = path
        self.key = key
        self.layout = LayoutBuilder(path)
        self.images: list[BundleImage] = []
        self.absent_blobs: list[AbsentBlob] = []
        self.absent_files: list[BundleFile] = []
        self.fields: dict[str, Any] = {"name": name, "number": number, "created": at(-1), "expires": at(90)}

    def image(self, name: str, layers: list[bytes]) -> str:
        """Add an image of one platform; returns the digest of its manifest."""
        return self.named(name, self.layout.manifest(layers))

    def named(self, name: str, descriptor: dict[str, Any]) -> str:
        """Add what is in the layout already as an image."""
        digest = self.layout.add(name, descriptor)
        self.images.append(BundleImage(name, digest, descriptor["mediaType"], f"test {name}"))
        return digest

    def file(self, path: str, data: bytes, mode: str = "0644") -> None:
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(int(mode, 8))

    def leave_out(self, digest: str, *repositories: str) -> None:
        """Make it a delta that does not have this blob."""
        blob = self.layout.file(digest)
        self.absent_blobs.append(AbsentBlob(digest, blob.stat().st_size, repositories))
        blob.unlink()
        self._delta()

    def leave_out_file(self, path: str) -> None:
        """Make it a delta that does not have this file."""
        self.absent_files.append(described(self.path, path))
        (self.path / path).unlink()
        self._delta()

    def seal(self) -> Path:
        """Write bundle.json, the checksums and the signatures."""
        if not self.images:
            (self.path / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
        found = sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file())
        files = tuple(described(self.path, path) for path in found if path not in engine.HEAD)
        manifest = BundleManifest(
            images=tuple(self.images),
            files=files,
            absent_blobs=tuple(self.absent_blobs),
            absent_files=tuple(self.absent_files),
            **self.fields,
        )
        body = manifest.to_bytes()
        (self.path / engine.CHECKSUMS).write_bytes(engine.checksums(manifest, body, hashlib.sha256))
        (self.path / engine.MANIFEST).write_bytes(body)
        self.resign()
        return self.path

    def resign(self, key: Key | None = None) -> None:
        """Sign what is there, whatever it is."""
        private = (key or self.key).private
        for what, sig in ((engine.MANIFEST, engine.SIGNATURE), (engine.CHECKSUMS, engine.CHECKSUMS_SIGNATURE)):
            (self.path / sig).write_bytes(signature.sign((self.path / what).read_bytes(), private))

    def _delta(self) -> None:
        self.fields["base"] = Base("registry.test:5000", at(-2), "0" * 64)


def described(root: Path, path: str) -> BundleFile:
    data = (root / path).read_bytes()
    return BundleFile(path, hashlib.sha256(data).hexdigest(), len(data), f"{os.stat(root / path).st_mode & 0o777:04o}")


def to_tar(directory: Path, target: Path) -> Path:
    """The bundle as one tar, its head first."""
    found = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    with tarfile.open(target, "w") as tar:
        for name in [*(name for name in engine.HEAD if name in found), *sorted(found - set(engine.HEAD))]:
            tar.add(directory / name, name)
    return target


def cut(tar: Path, size: int) -> list[Path]:
    """The tar as volumes of this size; the tar itself goes away."""
    body = tar.read_bytes()
    parts = [tar.with_name(f"{tar.name}.{number + 1:03d}") for number in range(-(-len(body) // size))]
    for number, part in enumerate(parts):
        part.write_bytes(body[number * size : (number + 1) * size])
    tar.unlink()
    return parts


def tree(root: Path) -> dict[str, tuple[str, bytes]]:
    """Mode and content of every file under a directory."""
    return {
        str(path.relative_to(root)): (f"{path.stat().st_mode & 0o777:04o}", path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
