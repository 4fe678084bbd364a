# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes a small OCI layout: the images one and two, which share a layer, and the index both."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def layer(name: str, content: bytes) -> bytes:
    """A tar with one file, the same bytes each time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def blob(layout: Path, data: bytes, media_type: str) -> dict[str, Any]:
    """Store bytes, return their descriptor."""
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def image(layout: Path, architecture: str, layers: list[bytes]) -> dict[str, Any]:
    """Store an image, return the descriptor of its manifest."""
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Labels": {"org.opencontainers.image.revision": architecture}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(layout, json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [blob(layout, data, "application/vnd.oci.image.layer.v1.tar") for data in layers],
    }
    descriptor = blob(layout, json.dumps(manifest).encode(), MANIFEST)
    return {**descriptor, "platform": {"os": "linux", "architecture": architecture}}


def main(layout: Path) -> None:
    """Write the layout."""
    (layout / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    base = layer("base", b"0123456789abcdef" * 65536)
    one = image(layout, "amd64", [base, layer("payload", b"one")])
    two = image(layout, "arm64", [base, layer("payload", b"two")])
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [one, two]}
    both = blob(layout, json.dumps(document).encode(), INDEX)
    names = {"one": one, "two": two, "both": both}
    entries = [
        {**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}} for name, descriptor in names.items()
    ]
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
