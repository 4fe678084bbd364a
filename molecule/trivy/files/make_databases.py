# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes variants of the lab's database: a newer one, one that is a year old, and what nobody should take."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

DB = "trivy.db"
METADATA = "metadata.json"


def read(layout: Path) -> dict[str, bytes]:
    """The files of the database in an OCI layout."""

    def blob(item: dict[str, Any]) -> bytes:
        return (layout / "blobs" / "sha256" / item["digest"].partition(":")[2]).read_bytes()

    names = "org.opencontainers.image.ref.name"
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    (entry,) = [entry for entry in entries if entry["annotations"][names] == "trivy-db:2"]
    (layer,) = json.loads(blob(entry))["layers"]
    with tarfile.open(fileobj=io.BytesIO(blob(layer))) as archive:
        return {name: archive.extractfile(name).read() for name in (METADATA, DB)}  # type: ignore[union-attr]


def archive(path: Path, files: dict[str, bytes]) -> None:
    """A tar.gz."""
    with tarfile.open(path, "w:gz") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))


def main(layout: Path, out: Path) -> None:
    """Write an archive for each variant."""
    out.mkdir(parents=True, exist_ok=True)
    files = read(layout)
    about = json.loads(files[METADATA])
    now = datetime.now(UTC)

    def made(**fields: Any) -> dict[str, bytes]:
        return {**files, METADATA: json.dumps({**about, **fields}).encode()}

    def at(**ago: float) -> str:
        return (now - timedelta(**ago)).strftime("%Y-%m-%dT%H:%M:%SZ")

    variants = {
        "newer": made(UpdatedAt=at(seconds=1)),
        "older": made(UpdatedAt=at(days=40)),
        "year": made(UpdatedAt=at(days=365), DownloadedAt=at(seconds=1)),
        "future": made(UpdatedAt=at(days=-3)),
        "schema": made(Version=1),
        "empty": {**files, DB: b""},
        "short": {**files, DB: files[DB][:20_000]},
        "else": {**files, DB: b"<html>not found</html>" * 1000},
        "escape": {**files, "../escape": b"x"},
    }
    for name, content in variants.items():
        archive(out / f"{name}.tar.gz", content)
    whole = (out / "newer.tar.gz").read_bytes()
    (out / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
