# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small OCI layout on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .registry import digest_of

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


class LayoutBuilder:
    """Writes blobs, manifests and index.json under ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = path / "blobs" / "sha256"
        self.blobs.mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self._entries: list[dict[str, Any]] = []

    def blob(self, data: bytes, media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip") -> dict[str, Any]:
        digest = digest_of(data)
        self.file(digest).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def file(self, digest: str) -> Path:
        return self.blobs / digest.partition(":")[2]

    def manifest(self, layers: list[bytes], labels: dict[str, str] | None = None) -> dict[str, Any]:
        config = json.dumps({"config": {"Labels": labels or {}}, "layers": len(layers)}).encode()
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.blob(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [self.blob(layer) for layer in layers],
        }
        return self.blob(json.dumps(document).encode(), OCI_MANIFEST)

    def index(self, children: list[dict[str, Any]]) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
        return self.blob(json.dumps(document).encode(), OCI_INDEX)

    def add(self, name: str, descriptor: dict[str, Any]) -> str:
        """Name an image in index.json; returns its digest."""
        self._entries.append({**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}})
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self._entries}))
        return str(descriptor["digest"])
