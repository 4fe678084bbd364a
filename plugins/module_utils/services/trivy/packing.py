# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Databases packed for the way across the gap: the artifacts that Trivy knows, in an OCI layout that a bundle takes
(``trivy`` in bundle.yml), or one of them as a tar.gz."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

from ...adapters.layout import Layout, LayoutError
from ...engines.oci import image
from ...engines.oci.image import OCI_INDEX, OCI_MANIFEST, ImageError
from ...engines.trivy import database
from ...engines.trivy.database import KINDS, Age, Kind
from ...errors import AirgapError
from ...times import Clock
from ..bundle.meter import Meter
from ..bundle.state import TEMPORARY, make_directory, replacing
from . import content
from .content import Content
from .databases import Wanted, describe, judged
from .sources import Source, Tools, digest_of, open_source

#: How the file of one database ends.
ARCHIVE = ".tar.gz"
_IDENTITY = "lumen.airgap.trivy.identity"
_CONFIG = "application/vnd.aquasec.trivy.config.v1+json"
_NAME = "org.opencontainers.image.ref.name"
_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}\n'


class _Read(NamedTuple):
    item: Wanted
    source: Source
    content: Content
    age: Age


def pack(
    path: str,
    items: Sequence[Wanted],
    tools: Tools,
    clock: Clock,
    progress: Callable[[str], None],
    force: bool = False,
    check_mode: bool = False,
) -> dict[str, Any]:
    """Pack the databases to ``path``: a tar.gz of one when it is called so, a layout otherwise.

    What is there with the same content stays. ``force`` also packs what is too old. Raises AirgapError.
    """
    one = path.endswith(ARCHIVE)
    if one and len(items) != 1:
        raise AirgapError(f"{path} holds one database, but {len(items)} are asked for: give a directory for a layout")
    target: _Archive | _Layout = _Archive(path, items[0].kind) if one else _Layout(path)
    before = target.identities()
    found = [_read(item, tools, clock, progress, force) for item in items]
    after = {read.item.kind.key: read.content.identity for read in found}
    changed = before != after
    if changed and not check_mode:
        target.write(found, before, clock, progress)
    return {
        "changed": changed,
        "output": path,
        "databases": {read.item.kind.key: _described(read, path) for read in found},
        "reasons": [read.age.reason for read in found if read.age.reason],
        "diff": {"before": before, "after": after},
    }


def _read(item: Wanted, tools: Tools, clock: Clock, progress: Callable[[str], None], force: bool) -> _Read:
    source = open_source(item.kind, item.options, tools)
    progress(f"reading {item.kind.name} from {source.where}")
    meter = Meter(f"reading {item.kind.name}", source.size, progress, clock)
    found = source.read(None, lambda count: meter.add(count, "unpacked"))
    age = judged(item, found.metadata, source.where, clock.time())
    if database.refused(age, item.gate) and not force:
        raise AirgapError(f"{age.reason}. Nothing was packed; force packs it all the same")
    return _Read(item, source, found, age)


def _described(read: _Read, path: str) -> dict[str, Any]:
    found, source = read.content, read.source
    return describe(
        *(read.item.kind, found.metadata, read.age, path, found.size),
        sha256=found.sha256,
        digest=source.digest,
        source=source.where,
    )


def _write_layer(read: _Read, target: str, clock: Clock, progress: Callable[[str], None]) -> None:
    """The tar.gz of a database in a new file, whose content is what was read and judged."""
    kind = read.item.kind
    meter = Meter(f"packing {kind.name}", read.source.size, progress, clock)
    read.source.write_layer(target, lambda count: meter.add(count, "packed"))
    with open(target, "rb") as stream:
        if content.from_archive(kind, stream, target).identity != read.content.identity:
            raise AirgapError(f"{read.source.where} was changed while it was packed: run again")


class _Archive:
    def __init__(self, path: str, kind: Kind) -> None:
        self._path = path
        self._kind = kind

    def identities(self) -> dict[str, str]:
        """The content of what is there, by database; nothing when it is none."""
        try:
            with open(self._path, "rb") as stream:
                return {self._kind.key: content.from_archive(self._kind, stream, self._path).identity}
        except FileNotFoundError:
            return {}
        except AirgapError:
            return {}
        except OSError as error:
            raise AirgapError(f"{self._path} cannot be read: {error.strerror}") from error

    def write(
        self, found: Sequence[_Read], before: Mapping[str, str], clock: Clock, progress: Callable[[str], None]
    ) -> None:
        directory = os.path.dirname(self._path) or "."
        make_directory(directory)
        draft = os.path.join(directory, f"{TEMPORARY}{secrets.token_hex(8)}")
        try:
            _write_layer(found[0], draft, clock, progress)
            os.replace(draft, self._path)
        except OSError as error:
            raise AirgapError(f"{self._path} cannot be written: {error.strerror}") from error
        finally:
            _remove(draft)


class _Layout:
    def __init__(self, path: str) -> None:
        self._path = path
        self._blobs = os.path.join(path, "blobs", "sha256")

    def identities(self) -> dict[str, str]:
        """The content of the databases that are there whole. Raises AirgapError for a directory of something else."""
        names = set(os.listdir(self._path)) if os.path.isdir(self._path) else set()
        names = {name for name in names if not name.startswith(TEMPORARY)}
        if not names:
            return {}
        if "oci-layout" not in names:
            raise AirgapError(f"{self._path} is not empty, and no OCI layout: give another directory")
        entries = (Layout(self._path).index() or {}).get("manifests") or []
        known = {kind.reference(): kind for kind in KINDS.values()}
        strange = [name for name in map(_name_of, entries) if name.rpartition(":")[0] not in _NAMES]
        if strange:
            raise AirgapError(f"{self._path} holds {strange[0]}, and is no place for databases alone: give another")
        found = {known[name].key: self._identity(name) for name in map(_name_of, entries) if name in known}
        return {key: identity for key, identity in found.items() if identity}

    def _identity(self, name: str) -> str:
        layout = Layout(self._path)
        try:
            root = image.select(layout.index(), name)
            manifest = layout.parsed(root)
            layout.image(name)  # whether all of it is there, in its size
            return str((manifest.get("annotations") or {}).get(_IDENTITY, ""))
        except (ImageError, LayoutError):
            return ""

    def write(
        self, found: Sequence[_Read], before: Mapping[str, str], clock: Clock, progress: Callable[[str], None]
    ) -> None:
        make_directory(self._blobs)
        kept = {read.item.kind.reference() for read in found if before.get(read.item.kind.key) == read.content.identity}
        entries = [entry for entry in self._entries() if _name_of(entry) in kept]
        for read in found:
            if read.item.kind.reference() not in kept:
                entries.append(self._add(read, clock, progress))
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": sorted(entries, key=_name_of),
        }
        for name, body in (("oci-layout", _LAYOUT), ("index.json", _json(index))):
            with replacing(os.path.join(self._path, name), sync=True) as file:
                file.write(body)
        self._remove_others(entries)

    def _entries(self) -> list[dict[str, Any]]:
        if not os.path.exists(os.path.join(self._path, "index.json")):
            return []
        entries: list[dict[str, Any]] = (Layout(self._path).index() or {}).get("manifests") or []
        return entries

    def _add(self, read: _Read, clock: Clock, progress: Callable[[str], None]) -> dict[str, Any]:
        kind = read.item.kind
        draft = os.path.join(self._path, f"{TEMPORARY}{secrets.token_hex(8)}")
        try:
            _write_layer(read, draft, clock, progress)
            digest, size = digest_of(draft)
            os.replace(draft, os.path.join(self._blobs, digest.partition(":")[2]))
        except OSError as error:
            raise AirgapError(f"{draft} cannot be written: {error.strerror}") from error
        finally:
            _remove(draft)
        layer = {"mediaType": kind.media_type, "digest": digest, "size": size}
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._blob(b"{}", _CONFIG),
            "layers": [{**layer, "annotations": {"org.opencontainers.image.title": f"{kind.directory}{ARCHIVE}"}}],
            "annotations": {_IDENTITY: read.content.identity},
        }
        return {**self._blob(_json(manifest), OCI_MANIFEST), "annotations": {_NAME: kind.reference()}}

    def _blob(self, body: bytes, media_type: str) -> dict[str, Any]:
        digest, size = content.digest(body), len(body)
        with replacing(os.path.join(self._blobs, digest.partition(":")[2])) as file:
            file.write(body)
        return {"mediaType": media_type, "digest": digest, "size": size}

    def _remove_others(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Remove blobs of databases that are gone, and what killed runs left."""
        layout = Layout(self._path)
        images = [layout.image(_name_of(entry)) for entry in entries]
        wanted = {item.digest.partition(":")[2] for found in images for item in (*found.manifests, *found.blobs)}
        for directory, keep in ((self._blobs, wanted), (self._path, None)):
            for name in os.listdir(directory):
                if name.startswith(TEMPORARY) or (keep is not None and name not in keep):
                    _remove(os.path.join(directory, name))


_NAMES = {kind.name for kind in KINDS.values()}


def _name_of(entry: Mapping[str, Any]) -> str:
    return str((entry.get("annotations") or {}).get(_NAME, entry.get("digest", "")))


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AirgapError(f"{path} cannot be removed: {error.strerror}") from error
