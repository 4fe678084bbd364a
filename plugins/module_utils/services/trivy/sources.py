# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a database comes from: an artifact of a registry or an OCI layout, an archive, or a directory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Protocol

from ...adapters.layout import Layout
from ...adapters.registry import Registry
from ...engines.oci import image, references
from ...engines.oci.image import Descriptor, ImageError
from ...engines.oci.references import InvalidReferenceError
from ...engines.trivy.database import Kind
from ...errors import AirgapError
from . import content
from .content import Content

#: Options of a database that name a source, of which one is given.
OPTIONS = ("image", "layout", "archive", "directory")
_BUFFER = 1024 * 1024

Count = Callable[[int], None]


class Source(Protocol):
    """``digest`` names the content without reading it as a whole where that is possible, and is empty where not."""

    where: str
    digest: str
    size: int

    def read(self, target: str | None, count: Count) -> Content:
        """Check the content, and write it to the directory ``target`` when that is given. Raises AirgapError."""

    def write_layer(self, target: str, count: Count) -> None:
        """Write the tar.gz that it is, or that is made of it, to a new file. Raises AirgapError."""


class _Artifact:
    """The one layer of an artifact."""

    def __init__(self, kind: Kind, where: str, layer: Descriptor, open_layer: Callable[[Descriptor], Any]) -> None:
        self._kind = kind
        self.where = where
        self.digest = layer.digest
        self.size = layer.size
        self._layer = layer
        self._open = open_layer

    def read(self, target: str | None, count: Count) -> Content:
        with self._open(self._layer) as stream:
            return content.from_archive(self._kind, stream, self.where, target, count)

    def write_layer(self, target: str, count: Count) -> None:
        with self._open(self._layer) as stream:
            content.copy(stream, target, count)


class _Archive:
    def __init__(self, kind: Kind, path: str, checksum: str | None) -> None:
        self._kind = kind
        self._path = path
        self.where = path
        self.digest, self.size = digest_of(path)
        if checksum is not None and self.digest != f"sha256:{checksum.rpartition(':')[2].lower()}":
            raise AirgapError(f"{path} is {self.digest}, not {checksum}: it is corrupt, or another one. Copy it again")

    def read(self, target: str | None, count: Count) -> Content:
        with _opened(self._path) as stream:
            return content.from_archive(self._kind, stream, self.where, target, count)

    def write_layer(self, target: str, count: Count) -> None:
        with _opened(self._path) as stream:
            content.copy(stream, target, count)


class _Directory:
    def __init__(self, kind: Kind, path: str) -> None:
        self._kind = kind
        # The directory itself, or a cache with the directory in it.
        inner = os.path.join(path, kind.directory)
        self._path = inner if os.path.isdir(inner) else path
        self.where = self._path
        self.digest = ""
        self.size = content.look(kind, self._path)[1]

    def read(self, target: str | None, count: Count) -> Content:
        return content.from_directory(self._kind, self._path, target, count)

    def write_layer(self, target: str, count: Count) -> None:
        content.pack(self._kind, self._path, target, count)


class Tools(NamedTuple):
    """What a source may need: a session with the registry, opened when it is asked for."""

    registry: Callable[[], Registry]


def open_source(kind: Kind, options: Mapping[str, Any], tools: Tools) -> Source:
    """The source that the options of a database name; without any, its artifact in the registry. Raises AirgapError."""
    given = [name for name in OPTIONS if options.get(name)]
    if len(given) > 1:
        raise AirgapError(f"{kind.key}: give one of {' and '.join(given)}, for it comes from one place")
    if options.get("directory"):
        return _Directory(kind, options["directory"])
    if options.get("archive"):
        return _Archive(kind, options["archive"], options.get("checksum"))
    if options.get("layout"):
        return _of_layout(kind, options["layout"], options.get("ref") or kind.reference())
    return _of_registry(kind, options.get("image") or kind.reference(), tools.registry())


def _of_layout(kind: Kind, path: str, ref: str) -> _Artifact:
    layout = Layout(path)
    where = f"{ref} in {path}"
    try:
        root = image.select(layout.index(), ref)
        layer = _layer(kind, where, layout.parsed(root), root.media_type)
    except ImageError as error:
        raise AirgapError(f"{path}: {error}") from error
    return _Artifact(kind, where, layer, layout.open)


def _of_registry(kind: Kind, name: str, registry: Registry) -> _Artifact:
    try:
        parsed = references.parse(name)
    except InvalidReferenceError as error:
        raise AirgapError(f"{kind.key}.image: {error}") from error
    reference = parsed.digest or parsed.tag
    if parsed.host is not None or reference is None:
        raise AirgapError(f"{kind.key}.image is repository:tag in the registry that registry.host names, not {name!r}")
    where = f"{registry.host}/{name}"
    manifest = registry.manifest(parsed.repository, reference)
    if manifest is None:
        there = registry.tags(parsed.repository)
        raise AirgapError(
            f"{where} does not exist; the registry has "
            + (f"{parsed.repository} with the tags {', '.join(there)}" if there else f"no {parsed.repository}")
            + ". Import a bundle that brings the database (trivy in bundle.yml), or name the place it has come to"
        )
    try:
        layer = _layer(kind, where, manifest.parsed(), manifest.media_type)
    except (ImageError, ValueError) as error:
        raise AirgapError(f"{where}: {error}") from error
    return _Artifact(kind, where, layer, lambda item: registry.open_blob(parsed.repository, item))


def _layer(kind: Kind, where: str, manifest: Any, media_type: str) -> Descriptor:
    children, blobs = image.parts(manifest, media_type)
    layers = blobs[1:]
    if children or len(layers) != 1 or layers[0].media_type != kind.media_type:
        found = ", ".join(layer.media_type for layer in layers) or "none"
        raise AirgapError(
            f"{where} is no {kind.name}: that has one layer of {kind.media_type}, this has {found}. "
            f"Is it the artifact that ghcr.io/aquasecurity/{kind.reference()} is?"
        )
    return layers[0]


def digest_of(path: str) -> tuple[str, int]:
    """Digest and size of a file. Raises AirgapError."""
    digest, size = hashlib.sha256(), 0
    with _opened(path) as file:
        while data := file.read(_BUFFER):
            digest.update(data)
            size += len(data)
    return f"sha256:{digest.hexdigest()}", size


def _opened(path: str) -> Any:
    try:
        return open(path, "rb")
    except OSError as error:
        raise AirgapError(f"{path} cannot be read: {error.strerror}") from error
