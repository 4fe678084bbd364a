# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images into a registry: everything is looked up and decided first, then written, in one session.

A ``Delivery`` is one image on its way to one repository. Its two kinds differ in who sends the blobs: Docker itself
(its digests are what users of the daemon see), or we, from a layout, and then only what the registry lacks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

from ..adapters.docker import Docker, Push
from ..adapters.layout import Layout
from ..adapters.registry import Manifest, Registry
from ..engines.oci import image, plan, references
from ..engines.oci.plan import BlobPlan, Identity, Inventory, Published, TagPlan
from ..errors import AirgapError


@dataclass
class Delivery(ABC):
    """One image, its repository and its tags. ``plan`` looks and decides, ``deliver`` writes what was decided."""

    registry: Registry
    repository: str
    tags: tuple[str, ...]
    force: bool
    tag_plan: TagPlan = field(default=TagPlan((), ()), init=False)
    published: dict[str, Published | None] = field(default_factory=dict, init=False)
    digest: str | None = field(default=None, init=False)
    bytes_sent: int | None = field(default=0, init=False)
    blobs_skipped: int | None = field(default=0, init=False)

    @property
    @abstractmethod
    def identity(self) -> Identity:
        """What is known of the image before it is in the registry."""

    @abstractmethod
    def look_up(self, digest: str) -> Published:
        """What a tag with this digest is, in as much detail as ``identity`` has."""

    @abstractmethod
    def plan_content(self, inventory: Inventory) -> None:
        """Decide what has to be sent besides tags; fills ``digest``, ``bytes_sent``, ``blobs_skipped`` as foreseen."""

    @abstractmethod
    def deliver(self) -> None:
        """Send content and tags; the results become what really happened."""

    def plan(self, inventory: Inventory) -> None:
        """Look up the tags and decide. Raises AirgapError for a release tag of another image."""
        seen: dict[str, Published] = {}
        for tag in self.tags:
            digest = self.registry.manifest_digest(self.repository, tag)
            if digest is not None and digest not in seen:
                seen[digest] = self.look_up(digest)
            self.published[tag] = seen[digest] if digest else None
        where = f"{self.registry.host}/{self.repository}"
        try:
            self.tag_plan = plan.plan_tags(where, self.tags, self.identity, self.published, self.force)
        except plan.TagRefusedError as error:
            raise AirgapError(str(error)) from error
        self.plan_content(inventory)

    def result(self) -> dict[str, Any]:
        """The entry of the module's return value."""
        return {
            "repository": self.repository,
            "digest": self.digest,
            "tags": list(self.tags),
            "bytes_sent": self.bytes_sent,
            "blobs_skipped": self.blobs_skipped,
            "changed": bool(self.tag_plan.put),
        }

    def before(self) -> dict[str, str | None]:
        """Each name and the digest it had."""
        found = {tag: self.published[tag] for tag in self.tags}
        return {self._name(tag): there.digest if there else None for tag, there in found.items()}

    def after(self) -> dict[str, str | None]:
        """Each name and the digest it has, or will have; the image ID where only Docker's push makes the digest."""
        kept = self.before()
        written = self.digest or str(self.identity)
        return {**kept, **{self._name(tag): written for tag in self.tag_plan.put}}

    def _name(self, tag: str) -> str:
        return f"{self.registry.host}/{self.repository}:{tag}"


@dataclass
class LayoutDelivery(Delivery):
    """An image of an OCI layout, sent by us."""

    layout: Layout
    ref: str | None
    content: image.Image = field(init=False)
    blobs: BlobPlan = field(default=BlobPlan(), init=False)
    manifests: tuple[image.Descriptor, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        self.content = self.layout.image(self.ref)
        self.digest = self.content.root.digest

    @property
    def identity(self) -> Identity:
        """The digest of the layout's manifest."""
        return Identity(digest=self.content.root.digest)

    def look_up(self, digest: str) -> Published:
        """The digest says it all."""
        return Published(digest)

    def plan_content(self, inventory: Inventory) -> None:
        """Ask for every blob, unless the registry has the manifest: then it has them too."""
        complete = self._registry_has_it()
        for blob in self.content.blobs:
            if inventory.has(self.repository, blob.digest):
                continue
            if complete or self.registry.has_blob(self.repository, blob.digest):
                inventory.add(self.repository, blob.digest)
        self.blobs = plan.plan_blobs(self.repository, self.content, inventory)
        self.manifests = () if complete else self.content.manifests[:-1]
        self.bytes_sent = self.blobs.bytes_to_send
        self.blobs_skipped = len(self.blobs.skip) + len(self.blobs.mount)

    def deliver(self) -> None:
        """Blobs, then children, then the root under each tag: a tag never points to what is not there yet."""
        if not self.tag_plan.put:
            return
        mounts = dict(self.blobs.mount)
        # Counted again: a registry may decline to mount, and then the blob is sent after all.
        sent = [
            blob
            for blob in (*self.blobs.upload, *mounts)
            if self.registry.upload(self.repository, blob, self.layout.open, mounts.get(blob))
        ]
        self.bytes_sent = sum(blob.size for blob in sent)
        self.blobs_skipped = len(self.content.blobs) - len(sent)
        for manifest in self.manifests:
            self._put(manifest.digest, manifest)
        for tag in self.tag_plan.put:
            self._put(tag, self.content.root)

    def _registry_has_it(self) -> bool:
        """A registry takes a manifest only when it has what the manifest refers to, so the root stands for all."""
        if self.tag_plan.keep or not self.tag_plan.put:
            return True
        return self.registry.manifest_digest(self.repository, self.content.root.digest) is not None

    def _put(self, reference: str, item: image.Descriptor) -> None:
        manifest = Manifest(item.digest, item.media_type, self.layout.manifest(item))
        self.registry.put_manifest(self.repository, reference, manifest)


@dataclass
class DaemonDelivery(Delivery):
    """An image of the node's Docker daemon, pushed by the daemon under one tag; the other tags are ours to set."""

    docker: Docker
    ref: str
    local: dict[str, Any] = field(init=False)
    source: Manifest | None = field(default=None, init=False)
    read: dict[str, Manifest] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        found = self.docker.image(self.ref)
        if found is None:
            raise AirgapError(
                f"the image {self.ref} is not in the Docker daemon at {self.docker.url}: "
                "build or load it there (docker images lists what it has)"
            )
        self.local = found

    @property
    def identity(self) -> Identity:
        """Docker's image ID."""
        return Identity(config=str(self.local["Id"]))

    def look_up(self, digest: str) -> Published:
        """The manifest names the config, which is what Docker's image ID can be compared with."""
        manifest = self.read[digest] = self._read(digest)
        return Published(digest, _config_of(manifest))

    def plan_content(self, inventory: Inventory) -> None:
        """Look for the image in the repository: a push is needed only when it is not there under any name."""
        self.source = self._published_source()
        if self.source is None:
            # What Docker will make of the image is known only once it has compressed the layers.
            self.digest = self.bytes_sent = self.blobs_skipped = None
        else:
            self.digest = self.source.digest
            self.blobs_skipped = len(_blobs_of(self.source))

    def deliver(self) -> None:
        """Let Docker push the first tag when it has to; every other tag is a copy of the manifest."""
        pending = list(self.tag_plan.put)
        if not pending:
            return
        if self.source is None:
            self.source = self._push(pending.pop(0))
        for tag in pending:
            self.registry.put_manifest(self.repository, tag, self.source)

    def _published_source(self) -> Manifest | None:
        """The image's manifest when the repository has it: under a wanted tag, or by a digest Docker remembers."""
        for tag in self.tag_plan.keep:
            there = self.published[tag]
            if there is not None:
                return self.read[there.digest]
        prefix = f"{self.registry.host}/{self.repository}@"
        for name in self.local.get("RepoDigests") or []:
            digest = name[len(prefix) :] if name.startswith(prefix) else None
            manifest = self.registry.manifest(self.repository, digest) if digest else None
            if manifest and self.identity.matches(Published(manifest.digest, _config_of(manifest))):
                return manifest
        return None

    def _push(self, tag: str) -> Manifest:
        target = f"{self.registry.host}/{self.repository}"
        self.docker.tag(str(self.local["Id"]), target, tag)
        push = self.docker.push(target, tag)
        manifest = self._read(tag)
        if manifest.digest != push.digest:
            raise AirgapError(
                f"{target}:{tag} was pushed as {push.digest} but reads back as {manifest.digest}: "
                "somebody else writes the same tag, or Docker pushed to another registry than the one that was asked"
            )
        self._count(push, manifest)
        return manifest

    def _count(self, push: Push, manifest: Manifest) -> None:
        """Docker reports sizes before compression; what it sent is in the manifest, layer by layer."""
        self.digest = manifest.digest
        blobs = _blobs_of(manifest)
        layers = blobs[1:]
        diffs = (self.local.get("RootFS") or {}).get("Layers") or []
        sent = [blob for blob, diff in zip(layers, diffs) if diff.partition(":")[2][:12] in push.sent]
        self.bytes_sent = sum(blob.size for blob in sent)
        self.blobs_skipped = len(layers) - len(sent)

    def _read(self, reference: str) -> Manifest:
        manifest = self.registry.manifest(self.repository, reference)
        if manifest is None:
            where = f"{self.registry.host}/{self.repository}"
            raise AirgapError(f"{where}: {reference} was there a moment ago and is gone: somebody deletes, run again")
        return manifest


def publish(
    images: Sequence[dict[str, Any]],
    registry: Registry,
    connect_docker: Callable[[], Docker],
    check_mode: bool = False,
    *,
    open_layout: Callable[[str], Layout] = Layout,
    inventory: Inventory | None = None,
    progress: Callable[[str], None] = lambda line: None,
    workers: int = 4,
) -> dict[str, Any]:
    """Bring a list of images into a registry.

    ``images`` has the shape of the module's option. ``open_layout`` opens the layout at a path. ``inventory`` may name
    blobs that repositories of this registry are known to have: those are mounted. ``progress`` is called with a line
    for each step. ``workers`` is how many requests are under way at once. Everything is looked up and every refusal raised (AirgapError)
    before the first byte is written. Returns ``changed``, ``images`` (one result each, in order) and ``diff``.
    """
    deliveries = _deliveries(images, registry, connect_docker, open_layout)
    _check_batch(deliveries, registry.host)
    inventory = Inventory() if inventory is None else inventory
    for delivery in deliveries:
        delivery.plan(inventory)
    if not check_mode:
        for delivery in deliveries:
            delivery.deliver()
    return {
        "changed": any(delivery.tag_plan.put for delivery in deliveries),
        "images": [delivery.result() for delivery in deliveries],
        "diff": {
            "before": {name: digest for delivery in deliveries for name, digest in delivery.before().items()},
            "after": {name: digest for delivery in deliveries for name, digest in delivery.after().items()},
        },
    }


def describe(names: Sequence[str], registry: Registry) -> list[dict[str, Any]]:
    """What the registry has under each ``repository:tag`` (or ``repository@digest``): the info module's results."""
    return [_describe(_reference(name, registry.host), registry) for name in names]


def _describe(reference: references.Reference, registry: Registry) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": str(reference._replace(host=registry.host)),
        "repository": reference.repository,
        "tag": reference.tag,
        "exists": False,
        "digest": None,
        "media_type": None,
        "labels": {},
        "message": None,
    }
    manifest = registry.manifest(reference.repository, reference.digest or str(reference.tag))
    if manifest is None:
        return {**result, "message": _missing(result["name"], reference, registry)}
    return {
        **result,
        "exists": True,
        "digest": manifest.digest,
        "media_type": manifest.media_type,
        "labels": _labels(manifest, reference.repository, registry),
    }


def _missing(name: str, reference: references.Reference, registry: Registry) -> str:
    tags = registry.tags(reference.repository)
    if tags is None:
        there = f"the registry has no repository {reference.repository}"
    else:
        there = f"{reference.repository} has the tags {', '.join(tags)}" if tags else "the repository has no tags"
    return (
        f"{name} is not in the registry ({there}): a pod that wants it gets ErrImagePull. "
        f"Push it from the registry's node: docker push {name}, or lumen.airgap.registry_image"
    )


def _labels(manifest: Manifest, repository: str, registry: Registry) -> dict[str, str]:
    """The labels of the image's config; of an index those of its first image."""
    try:
        while manifest.media_type in image.INDEX_TYPES:
            child = registry.manifest(repository, image.runnable(manifest.parsed()).digest)
            if child is None:
                return {}
            manifest = child
        _children, blobs = image.parts(manifest.parsed(), manifest.media_type)
    except (image.ImageError, ValueError) as error:
        raise AirgapError(f"{registry.host}/{repository}: {manifest.digest} cannot be understood: {error}") from error
    config = registry.read_config(repository, blobs[0].digest)
    return dict((config.get("config") or {}).get("Labels") or {})


def _deliveries(
    images: Sequence[dict[str, Any]],
    registry: Registry,
    connect_docker: Callable[[], Docker],
    open_layout: Callable[[str], Layout],
) -> list[Delivery]:
    docker: Docker | None = None
    deliveries: list[Delivery] = []
    for item in images:
        repository, tags = _target(item)
        source, common = item["source"], (registry, repository, tags, bool(item.get("force")))
        if source.get("daemon"):
            docker = docker or connect_docker()
            deliveries.append(DaemonDelivery(*common, docker, source["daemon"]))
        else:
            deliveries.append(LayoutDelivery(*common, open_layout(source["layout"]), source.get("ref")))
    return deliveries


def _target(item: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    try:
        repository = references.check_repository(item["repository"])
        tags = tuple(dict.fromkeys(references.check_tag(tag) for tag in item["tags"]))
    except references.InvalidReferenceError as error:
        raise AirgapError(str(error)) from error
    if not tags:
        raise AirgapError(f"{repository} has no tags: an image without one cannot be pulled by name")
    return repository, tags


def _reference(name: str, host: str) -> references.Reference:
    try:
        reference = references.parse(name)
    except references.InvalidReferenceError as error:
        raise AirgapError(f"{name}: {error}") from error
    if reference.host not in (None, host):
        raise AirgapError(f"{name} names the registry {reference.host}, but {host} is the one that is asked")
    if not reference.tag and not reference.digest:
        raise AirgapError(f"{name} has neither tag nor digest: say which one is meant, nothing is assumed")
    return reference


def _check_batch(deliveries: Sequence[Delivery], host: str) -> None:
    try:
        plan.check_batch(
            (f"{host}/{delivery.repository}", tag, delivery.identity)
            for delivery in deliveries
            for tag in delivery.tags
        )
    except plan.TagRefusedError as error:
        raise AirgapError(str(error)) from error


def _blobs_of(manifest: Manifest) -> list[image.Descriptor]:
    """Config and layers; empty for an index, whose blobs belong to its children."""
    try:
        return image.parts(manifest.parsed(), manifest.media_type)[1]
    except (image.ImageError, ValueError) as error:
        raise AirgapError(f"the registry's manifest {manifest.digest} cannot be understood: {error}") from error


def _config_of(manifest: Manifest) -> str | None:
    blobs = _blobs_of(manifest)
    return blobs[0].digest if blobs else None
