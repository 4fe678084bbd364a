# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes small images as `docker save` does: with a Debian package of which the lab's database knows something, with
one that is mended, and with a Java archive that only its Java database can name."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

RELEASE = b'NAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n'


def jar() -> bytes:
    """The same bytes each time: lab/trivydb/content.json has their hash."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        entry = zipfile.ZipInfo("demo.txt", (1980, 1, 1, 0, 0, 0))
        archive.writestr(entry, b"nothing\n")
    return buffer.getvalue()


def debian(version: str) -> dict[str, bytes]:
    """A Debian 12 with one package."""
    package = f"Package: lumen-demo\nStatus: install ok installed\nArchitecture: all\nVersion: {version}\n\n"
    return {"etc/os-release": RELEASE, "etc/debian_version": b"12.8\n", "var/lib/dpkg/status": package.encode()}


def tar(files: dict[str, bytes]) -> bytes:
    """A tar with these files, the same bytes each time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(body), 0o755
            archive.addfile(member, io.BytesIO(body))
    return buffer.getvalue()


def image(name: str, files: dict[str, bytes]) -> bytes:
    """An image of one layer."""
    layer = tar(files)
    diff = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff]},
        "history": [{"created_by": "make_images.py"}],
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    parts = {"config.json": json.dumps(config), "manifest.json": json.dumps(manifest)}
    return tar({"layer.tar": layer, **{part: text.encode() for part, text in parts.items()}})


IMAGES = {
    "finding": debian("1.0-1"),
    # What has a fix is fixed; what has none stays.
    "unfixed": debian("2.0-1"),
    "clean": {"etc/os-release": RELEASE, "etc/debian_version": b"12.8\n", "var/lib/dpkg/status": b""},
    "java": {"opt/app.jar": jar()},
}


def main(directory: Path) -> None:
    """Write them all."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, files in IMAGES.items():
        (directory / f"{name}.tar").write_bytes(image(f"molecule-trivy:{name}", files))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
