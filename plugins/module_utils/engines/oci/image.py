# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an image consists of: descriptors, manifests and indexes, in OCI's and Docker's media types.

Every function works on parsed JSON. ``read`` arguments return the parsed manifest of a descriptor; whoever passes
one has verified its digest, so a manifest cannot contain itself and the walk ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from . import references

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)

# Where tools write the name of an image in index.json: the specification's annotation, and containerd's
# (and Docker's), which holds the full reference.
NAME_ANNOTATIONS = ("org.opencontainers.image.ref.name", "io.containerd.image.name")


class ImageError(ValueError):
    """A layout or manifest that is not what the specification says."""


class Descriptor(NamedTuple):
    """A thing in a registry or layout: media type, digest, and size in bytes."""

    media_type: str
    digest: str
    size: int


class Image(NamedTuple):
    """A whole image: ``manifests`` in the order a registry takes them (children before their index, the root
    last), and the ``blobs`` (configs and layers) they refer to, each once."""

    root: Descriptor
    manifests: tuple[Descriptor, ...]
    blobs: tuple[Descriptor, ...]


def descriptor(data: Any) -> Descriptor:
    """Read a descriptor; raises ImageError for one without a usable media type, digest or size."""
    if not isinstance(data, Mapping):
        raise ImageError(f"a descriptor is expected, not {data!r}")
    digest, size, media_type = data.get("digest"), data.get("size"), data.get("mediaType")
    try:
        references.check_digest(str(digest))
    except references.InvalidReferenceError as error:
        raise ImageError(f"a descriptor has no usable digest: {error}") from error
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ImageError(f"the descriptor of {digest} has no usable size: {size!r}")
    if not isinstance(media_type, str) or not media_type:
        raise ImageError(f"the descriptor of {digest} has no media type")
    return Descriptor(media_type, str(digest), size)


def select(index: Any, name: str | None) -> Descriptor:
    """Find an image in a layout's index.json by its name annotation or digest.

    Without a name the layout must hold exactly one. Raises ImageError with the names there are.
    """
    entries = _entries(index, "manifests", "index.json")
    found = entries if name is None else [entry for entry in entries if name in _names(entry)]
    distinct = {str(entry.get("digest")): entry for entry in found}
    if len(distinct) == 1:
        return descriptor(next(iter(distinct.values())))
    there = ", ".join(sorted({known for entry in entries for known in _names(entry)})) or "none"
    if not distinct:
        raise ImageError(f"the layout has no image {name or ''}".rstrip() + f"; it has: {there}")
    wanted = f"{len(distinct)} images are named {name}" if name else f"the layout has {len(distinct)} images"
    raise ImageError(f"{wanted}: name one of them by ref ({there})")


def collect(root: Descriptor, read: Callable[[Descriptor], Any]) -> Image:
    """Walk an image from its root. Raises ImageError for a manifest of another kind than its descriptor says."""
    manifests: dict[str, Descriptor] = {}
    blobs: dict[str, Descriptor] = {}

    def visit(item: Descriptor) -> None:
        if item.digest in manifests:
            return
        children, own = parts(read(item), item.media_type)
        for child in children:
            visit(child)
        blobs.update({blob.digest: blob for blob in own})
        manifests[item.digest] = item

    visit(root)
    return Image(root, tuple(manifests.values()), tuple(blobs.values()))


def parts(manifest: Any, media_type: str) -> tuple[list[Descriptor], list[Descriptor]]:
    """Split what a manifest refers to into (child manifests, blobs); the config is the first of the blobs."""
    if not isinstance(manifest, Mapping):
        raise ImageError(f"a manifest of {media_type} is expected, not {type(manifest).__name__}")
    stated = manifest.get("mediaType", media_type)
    if stated != media_type:
        raise ImageError(f"a manifest says it is {stated}, its descriptor says {media_type}")
    if media_type in INDEX_TYPES:
        return [descriptor(entry) for entry in _entries(manifest, "manifests", "an index")], []
    if media_type in MANIFEST_TYPES:
        layers = [descriptor(entry) for entry in _entries(manifest, "layers", "a manifest")]
        return [], [descriptor(manifest.get("config")), *layers]
    raise ImageError(f"media type {media_type} is neither an image manifest nor an index (schema 2 or OCI)")


def runnable(index: Any) -> Descriptor:
    """The first child of an index that is an image for some platform (attestations say ``unknown``)."""
    for entry in _entries(index, "manifests", "an index"):
        if (entry.get("platform") or {}).get("os") != "unknown":
            return descriptor(entry)
    raise ImageError("the index has no image for any platform")


def _entries(document: Any, key: str, what: str) -> list[Mapping[str, Any]]:
    entries = document.get(key) if isinstance(document, Mapping) else None
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ImageError(f"{what} has no list of {key}")
    return entries


def _names(entry: Mapping[str, Any]) -> list[str]:
    annotations = entry.get("annotations") or {}
    return [str(annotations[key]) for key in NAME_ANNOTATIONS if key in annotations] + [str(entry.get("digest"))]
