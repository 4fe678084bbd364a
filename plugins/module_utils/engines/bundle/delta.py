# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a delta bundle may leave out: the inventory of one inside, and the split of a bundle against it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..oci.image import Image
from .manifest import (
    BLOBS,
    AbsentBlob,
    BundleError,
    BundleFile,
    Reader,
    canonical,
    check_hex,
    check_image_name,
    check_name,
    check_path,
    in_layout,
    load,
    seconds,
)

SCHEMA = 1
#: Bytes; what is larger is not read.
INVENTORY_LIMIT = 64 * 1024 * 1024
_WHAT = "the inventory"


class HeldBlob(NamedTuple):
    """A blob of the registry: bytes, and the repositories that have it."""

    size: int
    repositories: tuple[str, ...]


class HeldFile(NamedTuple):
    """A file that a bundle left on the inside: hex digest and bytes."""

    sha256: str
    size: int


class HeldBundle(NamedTuple):
    """The bundle of this name that was imported last; ``sha256`` is that of its bundle.json."""

    name: str
    number: int
    sha256: str


@dataclass(frozen=True)
class Inventory:
    """What one inside holds. Keys: of ``blobs`` digests, of ``images`` ``repository:tag`` (values are digests), of
    ``files`` ``<bundle name>/<path>``. ``taken`` is RFC 3339 in UTC."""

    registry: str
    taken: str
    bundles: tuple[HeldBundle, ...] = ()
    blobs: Mapping[str, HeldBlob] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, HeldFile] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Canonical bytes of the document."""
        return canonical(
            {
                "schema": SCHEMA,
                "registry": self.registry,
                "taken": self.taken,
                "bundles": [bundle._asdict() for bundle in sorted(self.bundles)],
                "blobs": {
                    digest: {"size": blob.size, "repositories": sorted(blob.repositories)}
                    for digest, blob in self.blobs.items()
                },
                "images": dict(self.images),
                "files": {path: file._asdict() for path, file in self.files.items()},
            }
        )


class Split(NamedTuple):
    """A bundle divided by an inventory: what is packed, what is left out, and how many bytes that saves."""

    packed: tuple[BundleFile, ...]
    absent_blobs: tuple[AbsentBlob, ...]
    absent_files: tuple[BundleFile, ...]
    saved: int


def parse(body: bytes) -> Inventory:
    """Read an inventory document. Raises BundleError that says what is wrong with it."""
    reader = Reader(load(body, _WHAT, SCHEMA), _WHAT)
    seconds(reader.text("taken"))
    blobs, files, images = reader.child("blobs"), reader.child("files"), reader.child("images")
    return Inventory(
        registry=reader.text("registry"),
        taken=reader.text("taken"),
        bundles=tuple(reader.each("bundles", _bundle)),
        blobs={_digest(digest): _blob(blobs.child(digest)) for digest in blobs.data},
        images={check_image_name(name): _digest(images.text(name)) for name in images.data},
        files={_held_path(path): _file(files.child(path)) for path in files.data},
    )


def leavable(images: Iterable[tuple[str, Image]], registry_image: str | None, inventory: Inventory) -> frozenset[str]:
    """The digests that a delta may leave out when the inventory has them: configs and layers, never manifests.

    Those of the registry's own image stay, unless the inside has that very image: it is loaded into Docker from the
    bundle, before there is a registry that could be asked. ``images`` are (``repository:tag``, image).
    """
    may: set[str] = set()
    stay: set[str] = set()
    for name, image in images:
        changed = name == registry_image and inventory.images.get(name) != image.root.digest
        (stay if changed else may).update(blob.digest for blob in image.blobs)
        stay.update(manifest.digest for manifest in image.manifests)
    return frozenset(may - stay)


def split(name: str, files: Iterable[BundleFile], blobs: Collection[str], inventory: Inventory) -> Split:
    """Divide the files of the bundle ``name``: ``blobs`` are the digests that may be left out (``leavable``).

    A blob is left out when a repository of the inside has it, another file when the last bundle of that name left it
    there under the same path with the same content.
    """
    packed: list[BundleFile] = []
    absent_blobs: list[AbsentBlob] = []
    absent_files: list[BundleFile] = []
    for file in sorted(files):
        digest = f"sha256:{file.sha256}"
        held_blob = inventory.blobs.get(digest) if file.path == BLOBS + file.sha256 and digest in blobs else None
        if held_blob and held_blob.size == file.size and held_blob.repositories:
            absent_blobs.append(AbsentBlob(digest, file.size, held_blob.repositories))
        elif not in_layout(file.path) and inventory.files.get(f"{name}/{file.path}") == (file.sha256, file.size):
            absent_files.append(file)
        else:
            packed.append(file)
    saved = sum(blob.size for blob in absent_blobs) + sum(file.size for file in absent_files)
    return Split(tuple(packed), tuple(absent_blobs), tuple(absent_files), saved)


def _bundle(reader: Reader) -> HeldBundle:
    sha256 = check_hex(reader.text("sha256"), reader.where)
    return HeldBundle(check_name(reader.text("name")), reader.number("number"), sha256)


def _blob(reader: Reader) -> HeldBlob:
    repositories = reader.texts("repositories")
    for repository in repositories:
        check_image_name(f"{repository}:tag")
    return HeldBlob(reader.number("size"), repositories)


def _file(reader: Reader) -> HeldFile:
    return HeldFile(check_hex(reader.text("sha256"), reader.where), reader.number("size"))


def _digest(digest: str) -> str:
    # A registry may hold blobs of another algorithm; a bundle has none, so they are of no use to a delta.
    if not digest.startswith("sha256:"):
        raise BundleError(f"{_WHAT}: {digest!r} is not a sha256 digest")
    check_hex(digest.partition(":")[2], _WHAT)
    return digest


def _held_path(path: str) -> str:
    name, _slash, rest = path.partition("/")
    check_name(name)
    check_path(rest)
    return path
