# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Databases as Trivy has them, small: the parts of their formats that we look at, right to the byte."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.lumen.airgap.plugins.module_utils.engines.trivy.database import KINDS, Kind

from .layout import OCI_MANIFEST
from .registry import FakeRegistry, digest_of

PAGE = 4096
DB, JAVA_DB = KINDS["db"], KINDS["java_db"]


def fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def bolt(content: bytes = b"advisories", pages: int = 7, page_size: int = PAGE) -> bytes:
    """A bbolt file of so many pages, whose later meta page is the second one."""

    def meta(number: int, transaction: int) -> bytes:
        fields = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, page_size, 0, 5, 0, 2, pages, transaction)
        page = struct.pack("<QHHI", number, 4, 0, 0) + fields + struct.pack("<Q", fnv1a(fields))
        return page.ljust(page_size, b"\0")

    body = content.ljust((pages - 2) * page_size, b"\0")
    return meta(0, 8) + meta(1, 9) + body


def sqlite(content: bytes = b"jars", pages: int = 3) -> bytes:
    """A SQLite file of so many pages."""
    header = bytearray(100)
    header[:16] = b"SQLite format 3\0"
    header[16:18] = PAGE.to_bytes(2, "big")
    header[24:28] = header[92:96] = (3).to_bytes(4, "big")
    header[28:32] = pages.to_bytes(4, "big")
    return (bytes(header) + content).ljust(pages * PAGE, b"\0")


def metadata(updated: str = "2026-01-01T00:00:00.123456789Z", version: int = 2) -> bytes:
    document = {"Version": version, "NextUpdate": updated, "UpdatedAt": updated, "DownloadedAt": "0001-01-01T00:00:00Z"}
    return json.dumps(document).encode() + b"\n"


def files(kind: Kind = DB, content: bytes = b"one", **about: Any) -> dict[str, bytes]:
    """The two files of a database."""
    about.setdefault("version", kind.schema)
    body = bolt(content) if kind.key == "db" else sqlite(content)
    return {"metadata.json": metadata(**about), kind.file: body}


def directory(path: Path, kind: Kind = DB, content: bytes = b"one", **about: Any) -> Path:
    """A directory with a database."""
    path.mkdir(parents=True, exist_ok=True)
    for name, body in files(kind, content, **about).items():
        (path / name).write_bytes(body)
    return path


def archive(members: dict[str, bytes], more: Sequence[tarfile.TarInfo] = ()) -> bytes:
    """A tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
        for member in more:
            tar.addfile(member)
    return gzip.compress(buffer.getvalue(), mtime=0)


def artifact(fake: FakeRegistry, kind: Kind = DB, layer: bytes | None = None, **about: Any) -> str:
    """Put a database into a registry as Trivy's makers ship it; returns the digest of its layer."""
    body = archive(files(kind, **about)) if layer is None else layer
    config = b"{}"
    blobs = fake.blobs.setdefault(kind.name, {})
    blobs.update({digest_of(body): body, digest_of(config): config})
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.aquasec.trivy.config.v1+json",
            "digest": digest_of(config),
            "size": len(config),
        },
        "layers": [{"mediaType": kind.media_type, "digest": digest_of(body), "size": len(body)}],
    }
    fake.put(kind.name, str(kind.schema), OCI_MANIFEST, json.dumps(document).encode())
    return digest_of(body)
