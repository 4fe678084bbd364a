# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to move to bring images into a registry: tags, blobs and manifests, computed before anything is sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from . import references
from .image import Descriptor, Image


class Identity(NamedTuple):
    """What is known of an image without its being in the registry.

    A layout knows the manifest's ``digest``. Docker knows only the image ID, which is the ``config``'s digest
    (or, with containerd's image store, the manifest's): the manifest is made when Docker pushes.
    """

    digest: str | None = None
    config: str | None = None

    def __str__(self) -> str:
        return self.digest or f"image ID {self.config}"

    def matches(self, published: Published) -> bool:
        """True when ``published`` is this image."""
        if self.digest is not None and self.digest == published.digest:
            return True
        return self.config is not None and self.config in (published.config, published.digest)


class Published(NamedTuple):
    """What a tag of the registry points to: the manifest's digest and, when it was read, its config's."""

    digest: str
    config: str | None = None

    def __str__(self) -> str:
        return f"{self.digest} (image ID {self.config})" if self.config else self.digest


class TagRefusedError(ValueError):
    """A tag that must not be written."""


class TagPlan(NamedTuple):
    """``put``: tags to write, in the order given; ``keep``: tags that are right already."""

    put: tuple[str, ...]
    keep: tuple[str, ...]


class BlobPlan(NamedTuple):
    """``upload``: to send; ``mount``: (blob, repository of the same registry that has it); ``skip``: there already."""

    upload: tuple[Descriptor, ...] = ()
    mount: tuple[tuple[Descriptor, str], ...] = ()
    skip: tuple[Descriptor, ...] = ()

    @property
    def bytes_to_send(self) -> int:
        """The sizes of the blobs to upload, together."""
        return sum(blob.size for blob in self.upload)


class Inventory:
    """Which repository of one registry has which blob.

    What was heard of it (``add``) is good for a try to mount; what is certain (``note``) also saves sending.
    """

    def __init__(self) -> None:
        self._repositories: dict[str, list[str]] = {}
        self._certain: set[tuple[str, str]] = set()

    def add(self, repository: str, digest: str) -> None:
        """The repository is said to have the blob."""
        holders = self._repositories.setdefault(digest, [])
        if repository not in holders:
            holders.append(repository)

    def note(self, repository: str, digest: str) -> None:
        """The repository has the blob, or will have it when this session comes to use it."""
        self._certain.add((repository, digest))
        holders = self._repositories.setdefault(digest, [])
        if repository in holders:
            holders.remove(repository)
        holders.insert(0, repository)

    def has(self, repository: str, digest: str) -> bool:
        """True when the repository certainly has the blob."""
        return (repository, digest) in self._certain

    def holder(self, digest: str) -> str | None:
        """A repository that has the blob, a certain one if there is one; None when none is known."""
        return next(iter(self._repositories.get(digest, ())), None)


def plan_tags(
    repository: str,
    tags: Iterable[str],
    wanted: Identity,
    published: Mapping[str, Published | None],
    force: bool = False,
) -> TagPlan:
    """Decide which tags are written. A release tag with another image is refused unless ``force``."""
    put, keep = [], []
    for tag in tags:
        there = published.get(tag)
        if there is not None and wanted.matches(there):
            keep.append(tag)
            continue
        if there is not None and references.is_release(tag) and not force:
            raise TagRefusedError(
                f"{repository}:{tag} is a release and does not move: the registry has {there}, the source is {wanted}. "
                "Publish the change under a new version, or set force to replace the release"
            )
        put.append(tag)
    return TagPlan(tuple(put), tuple(keep))


def check_batch(wanted: Iterable[tuple[str, str, Identity]]) -> None:
    """Refuse a list of (repository, tag, image) that gives one tag to two images."""
    claims: dict[tuple[str, str], Identity] = {}
    for repository, tag, identity in wanted:
        other = claims.setdefault((repository, tag), identity)
        if other != identity:
            raise TagRefusedError(f"{repository}:{tag} is wanted for two images, {other} and {identity}")


def plan_blobs(repository: str, image: Image, inventory: Inventory, broken: Collection[str] = frozenset()) -> BlobPlan:
    """Decide how each blob gets into the repository, and note in the inventory that it will be there.

    A ``broken`` blob is sent whatever is known of it, once: then it is whole for all repositories.
    """
    upload, mount, skip = [], [], []
    for blob in image.blobs:
        holder = inventory.holder(blob.digest)
        if inventory.has(repository, blob.digest):
            skip.append(blob)
        elif holder is not None and (blob.digest not in broken or inventory.has(holder, blob.digest)):
            mount.append((blob, holder))
        else:
            upload.append(blob)
        inventory.note(repository, blob.digest)
    return BlobPlan(tuple(upload), tuple(mount), tuple(skip))
