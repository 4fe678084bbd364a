# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images into a registry: everything is looked up and decided first, then written, in one session.

A ``Delivery`` is one image on its way to one repository. Its two kinds differ in who sends the blobs: Docker itself
(its digests are what users of the daemon see), or we, from a layout or another registry, and then only what the
registry lacks. Blobs of all images are sent side by side, then each image's manifests: a tag never points to what is
not there yet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Protocol

from ..adapters.layout import Layout, VerifyingReader
from ..adapters.registry import Manifest, Registry
from ..adapters.registry_source import Registries, Repository
from ..adapters.registry_storage import RegistryStorage
from ..adapters.upload_journal import UploadJournal
from ..engines.oci import image, plan, references
from ..engines.oci.image import Descriptor
from ..engines.oci.plan import BlobPlan, Identity, Inventory, Published, TagPlan
from ..errors import AirgapError
from ..times import Clock, SystemClock
from . import registry_prune
from .parallel import each
from .transfer import Load, Transfers

if TYPE_CHECKING:
    from ..adapters.docker import Docker, Push

#: How many requests are under way at once.
WORKERS = 4


class Source(Protocol):
    """Where content comes from: a layout, or a repository of a registry."""

    def image(self, name: str) -> image.Image:
        """The image of that name."""

    def manifest(self, item: Descriptor) -> bytes:
        """The bytes of a manifest."""

    def open(self, item: Descriptor) -> VerifyingReader:
        """A blob, to be read once."""


@dataclass
class Delivery(ABC):
    """One image, its repository and its tags. What it finds out comes first, ``finish`` writes what was decided."""

    registry: Registry
    repository: str
    tags: tuple[str, ...]
    force: bool
    tag_plan: TagPlan = field(default=TagPlan((), ()), init=False)
    published: dict[str, Published | None] = field(default_factory=dict, init=False)
    digest: str | None = field(default=None, init=False)
    bytes_sent: int | None = field(default=0, init=False)
    blobs_skipped: int | None = field(default=0, init=False)
    mounted: int | None = field(default=0, init=False)
    # What a forced delivery sends whatever the registry says of it, and what of that was there and is no good.
    untrusted: set[str] = field(default_factory=set, init=False)
    damaged: list[str] = field(default_factory=list, init=False)

    @property
    @abstractmethod
    def identity(self) -> Identity:
        """What is known of the image before it is in the registry."""

    @abstractmethod
    def look_up(self, digest: str) -> Published:
        """What a tag with this digest is, in as much detail as ``identity`` has."""

    @abstractmethod
    def look_further(self) -> None:
        """Find out what the registry has besides tags."""

    @abstractmethod
    def stored(self) -> list[Descriptor]:
        """The manifests and blobs that a forced delivery makes sure of, as far as they are known."""

    @abstractmethod
    def finish(self) -> None:
        """Write manifests and tags; the results become what really happened."""

    @property
    def name(self) -> str:
        """The repository with the first tag."""
        return f"{self.repository}:{self.tags[0]}"

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.tag_plan.put or self.damaged)

    def decide(self, digests: dict[str, str | None]) -> None:
        """Decide about each tag by the digest it has. Raises AirgapError for a release tag of another image."""
        seen = {digest: self.look_up(digest) for digest in dict.fromkeys(digests.values()) if digest is not None}
        self.published = {tag: seen[digest] if digest else None for tag, digest in digests.items()}
        self.tag_plan = self._plan_tags(self.tags, self.published)

    def confirm(self) -> None:
        """Look at the release tags once more, just before they are written.

        A registry has no compare-and-swap, and what was decided may be minutes old. Raises AirgapError for one that
        somebody else has taken meanwhile.
        """
        releases = [tag for tag in self.tag_plan.put if references.is_release(tag)]
        if self.force or not releases:
            return
        digests = {tag: self.registry.manifest_digest(self.repository, tag) for tag in releases}
        self._plan_tags(releases, {tag: self.look_up(digest) if digest else None for tag, digest in digests.items()})

    def _plan_tags(self, tags: Sequence[str], published: dict[str, Published | None]) -> TagPlan:
        where = f"{self.registry.host}/{self.repository}"
        try:
            return plan.plan_tags(where, tags, self.identity, published, self.force)
        except plan.TagRefusedError as error:
            raise AirgapError(str(error)) from error

    def result(self) -> dict[str, Any]:
        """The entry of the module's return value."""
        return {
            "repository": self.repository,
            "digest": self.digest,
            "tags": list(self.tags),
            "bytes_sent": self.bytes_sent,
            "blobs_skipped": self.blobs_skipped,
            "mounted": self.mounted,
            "mended": self.damaged,
            "changed": self.changed,
        }

    def before(self) -> dict[str, str | None]:
        """Each name and the digest it had."""
        found = {tag: self.published[tag] for tag in self.tags}
        damaged = {f"{self.registry.host}/{self.repository}@{digest}": "damaged" for digest in self.damaged}
        return {**{self._name(tag): there.digest if there else None for tag, there in found.items()}, **damaged}

    def after(self) -> dict[str, str | None]:
        """Each name and the digest it has, or will have; the image ID where only Docker's push makes the digest."""
        mended = {f"{self.registry.host}/{self.repository}@{digest}": digest for digest in self.damaged}
        written = self.digest or str(self.identity)
        return {**self.before(), **mended, **{self._name(tag): written for tag in self.tag_plan.put}}

    def _name(self, tag: str) -> str:
        return f"{self.registry.host}/{self.repository}:{tag}"


@dataclass
class ContentDelivery(Delivery):
    """An image of a layout or a registry, sent by us."""

    source: Source
    ref: Any
    content: image.Image = field(init=False)
    blobs: BlobPlan = field(default=BlobPlan(), init=False)
    complete: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.content = self.source.image(self.ref)
        self.digest = self.content.root.digest

    @property
    def identity(self) -> Identity:
        """The digest of the manifest."""
        return Identity(digest=self.content.root.digest)

    def look_up(self, digest: str) -> Published:
        """The digest says it all."""
        return Published(digest)

    def look_further(self) -> None:
        """A registry takes a manifest only when it has what the manifest refers to, so the root stands for all."""
        root = self.content.root.digest
        if self.force:
            self.complete = False
        elif self.tag_plan.keep or not self.tag_plan.put:
            self.complete = True
        else:
            self.complete = self.registry.manifest_digest(self.repository, root) is not None

    def stored(self) -> list[Descriptor]:
        """All of it."""
        return [*self.content.manifests, *self.content.blobs]

    def plan_blobs(self, inventory: Inventory) -> None:
        """Decide how each blob gets there; fills the counts as foreseen."""
        if self.complete:
            for blob in self.content.blobs:
                inventory.note(self.repository, blob.digest)
        self.blobs = plan.plan_blobs(self.repository, self.content, inventory, self.untrusted)
        self.bytes_sent = self.blobs.bytes_to_send
        self.mounted = len(self.blobs.mount)
        self.blobs_skipped = len(self.blobs.skip) + self.mounted

    def count(self, sent: Sequence[int | None]) -> None:
        """Count again what was sent (bytes, None where it was mounted): a registry may decline to mount."""
        self.bytes_sent = sum(size or 0 for size in sent)
        self.mounted = sum(size is None for size in sent)
        self.blobs_skipped = len(self.content.blobs) - len(sent) + self.mounted

    def finish(self) -> None:
        """Children, then the root under each tag; a damaged root also under its own name, for the tags that stay."""
        if not self.changed:
            return
        if not self.complete:
            for manifest in self.content.manifests[:-1]:
                self._put(manifest.digest, manifest)
        if self.content.root.digest in self.damaged:
            self._put(self.content.root.digest, self.content.root)
        self.confirm()
        for tag in self.tag_plan.put:
            self._put(tag, self.content.root)

    def _put(self, reference: str, item: Descriptor) -> None:
        manifest = Manifest(item.digest, item.media_type, self.source.manifest(item))
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

    def look_further(self) -> None:
        """Look for the image in the repository: a push is needed only when it is not there under any name."""
        self.source = self._published_source()
        if self.source is None:
            # What Docker will make of the image is known only once it has compressed the layers.
            self.digest = self.bytes_sent = self.blobs_skipped = self.mounted = None
        else:
            self.digest = self.source.digest
            self.blobs_skipped = len(_blobs_of(self.source))

    def stored(self) -> list[Descriptor]:
        """What the registry has of it; nothing before Docker has pushed it once."""
        return _blobs_of(self.source) if self.source else []

    def finish(self) -> None:
        """Let Docker push the first tag when it has to; every other tag is a copy of the manifest."""
        pending = list(self.tag_plan.put)
        if self.damaged:
            self._push(self.tags[0])
        if not pending:
            return
        self.confirm()
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
        push = self.docker.push(target, tag, self.registry.login)
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
        self.mounted = 0

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
    registries: Registries | None = None,
    inventory: Inventory | None = None,
    progress: Callable[[str], None] = lambda line: None,
    workers: int = WORKERS,
    journal: UploadJournal | None = None,
    storage: RegistryStorage | None = None,
    prune: Sequence[dict[str, Any]] = (),
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Bring a list of images into a registry, then take away what is to be absent or is beyond what rules keep.

    ``images`` and ``prune`` have the shapes of the module's options. Everything is looked up and every refusal raised
    (AirgapError) before the first byte is written. Returns ``changed``, ``images`` (one result each, in order),
    ``pruned`` and ``diff``.

    ``open_layout`` opens the layout at a path. ``registries`` are the sessions with those that images come from.
    ``inventory`` may name blobs that repositories of this registry are known to have: those are mounted instead of
    sent. ``progress`` is called with a line for each step. ``workers`` is how many requests are under way at once.
    ``journal`` remembers uploads, so that the next run continues what this one was interrupted in. ``storage`` is where
    the registry keeps its blobs, which a forced delivery may have to mend.
    """
    inventory = Inventory() if inventory is None else inventory
    registries = registries or Registries((), known=[registry])
    wanted = [item for item in images if item.get("state") != "absent"]
    removals = registry_prune.removals(registry, [item for item in images if item.get("state") == "absent"])
    rules = registry_prune.rules(prune)
    deliveries = _deliveries(wanted, registry, connect_docker, open_layout, registries, inventory)
    _check_batch(deliveries, removals, registry.host)
    if deliveries:
        progress(f"looking up {len(deliveries)} image{'s' * (len(deliveries) > 1)} in {registry.host}")
    _plan(deliveries, inventory, workers, storage)
    for removal in removals:
        removal.plan(workers)
    foreseen = registry_prune.Foreseen()
    if check_mode:
        for item in deliveries:
            children = (
                [manifest.digest for manifest in item.content.manifests] if isinstance(item, ContentDelivery) else []
            )
            foreseen.add(item.repository, item.tag_plan.put, str(item.digest), children)
        for removal in removals:
            foreseen.remove(removal.repository, removal.deletion.tags)
    else:
        _deliver(deliveries, Transfers(registry, workers, progress, journal, clock or SystemClock()), storage, workers)
        for removal in removals:
            removal.deliver()
    pruned = registry_prune.surplus(registry, rules, foreseen, workers)
    for removal in pruned:
        if not check_mode:
            progress(f"deleting {len(removal.deletion.tags)} tags of {removal.repository}")
            removal.deliver()
    present, absent = iter(deliveries), iter(removals)
    steps = [next(absent) if item.get("state") == "absent" else next(present) for item in images]
    everything = (*steps, *pruned)
    return {
        "changed": any(step.changed for step in everything),
        "images": [step.result() for step in steps],
        "pruned": [removal.pruned() for removal in pruned],
        "diff": {
            "before": {name: digest for step in everything for name, digest in step.before().items()},
            "after": {name: digest for step in everything for name, digest in step.after().items()},
        },
    }


def _plan(deliveries: Sequence[Delivery], inventory: Inventory, workers: int, storage: RegistryStorage | None) -> None:
    """Look everything up, side by side, and decide in order."""
    content = [delivery for delivery in deliveries if isinstance(delivery, ContentDelivery)]
    daemon = [delivery for delivery in deliveries if isinstance(delivery, DaemonDelivery)]
    _inspect(content, storage, workers)
    # A registry cannot answer for a manifest that is damaged.
    asked = [(item, tag) for item in deliveries for tag in item.tags if item.digest not in item.damaged]
    found = each(workers, lambda ask: ask[0].registry.manifest_digest(ask[0].repository, ask[1]), asked)
    digests = {(id(item), tag): digest for (item, tag), digest in zip(asked, found)}
    each(workers, lambda item: item.decide({tag: digests.get((id(item), tag)) for tag in item.tags}), deliveries)
    each(workers, lambda item: item.look_further(), deliveries)
    _inspect(daemon, storage, workers)
    for pushed in daemon:
        for blob in () if pushed.damaged else pushed.stored():
            inventory.note(pushed.repository, blob.digest)
    _look_up_blobs([item for item in content if not item.complete], inventory, workers)
    if storage is None:
        _refuse_damage([item for item in deliveries if item.force], inventory, workers)
    for item in content:
        item.plan_blobs(inventory)


def _look_up_blobs(deliveries: Sequence[ContentDelivery], inventory: Inventory, workers: int) -> None:
    asked = {
        (item.repository, blob.digest): item.registry
        for item in deliveries
        for blob in item.content.blobs
        if blob.digest not in item.untrusted and not inventory.has(item.repository, blob.digest)
    }
    found = each(workers, lambda ask: asked[ask].has_blob(*ask), list(asked))
    for (repository, digest), there in zip(asked, found):
        if there:
            inventory.note(repository, digest)


def _inspect(deliveries: Sequence[Delivery], storage: RegistryStorage | None, workers: int) -> None:
    """Hash what forced deliveries are made of where the registry keeps it.

    A registry remembers what it had, so what is missing there is not asked for either. It counts as damage when the
    image's own manifest is there.
    """
    forced = [item for item in deliveries if item.force]
    if storage is None or not forced:
        return
    digests = list({stored.digest for item in forced for stored in item.stored()})
    states = dict(zip(digests, each(workers, storage.state, digests)))
    for item in forced:
        here = {stored.digest: states[stored.digest] for stored in item.stored()}
        item.untrusted = {digest for digest, state in here.items() if state != "whole"}
        known = states.get(str(item.digest), "whole") != "missing"
        item.damaged = [
            digest for digest, state in here.items() if state == "damaged" or (known and state == "missing")
        ]


def _refuse_damage(forced: Sequence[Delivery], inventory: Inventory, workers: int) -> None:
    """Without the storage at hand damage can be found, but not mended."""
    asked = {(item.repository, stored): item.registry for item in forced for stored in item.stored()}

    def look(ask: tuple[str, Descriptor]) -> str | None:
        repository, stored = ask
        if stored.media_type in (*image.INDEX_TYPES, *image.MANIFEST_TYPES):
            found = asked[ask].read_back(repository, stored.digest)
            # One that is missing is written in any case.
            return found if isinstance(found, str) and found != "is missing" else None
        return asked[ask].damage(repository, stored) if inventory.has(repository, stored.digest) else None

    found = each(workers, look, list(asked))
    bad = [f"{repository}@{stored.digest} {said}" for (repository, stored), said in zip(asked, found) if said]
    if bad:
        raise AirgapError(
            f"{forced[0].registry.host}: damaged in the registry's storage: {', '.join(bad)}. A registry does not "
            "overwrite what it has: run the task on the registry's node, with storage_path",
            damaged=bad,
        )


def _deliver(
    deliveries: Sequence[Delivery], transfers: Transfers, storage: RegistryStorage | None, workers: int
) -> None:
    pending = [item for item in deliveries if item.changed]
    content = [item for item in pending if isinstance(item, ContentDelivery)]
    for item in pending:
        for digest in item.damaged:
            if storage is not None:
                storage.remove_damaged(digest)
    sent = transfers.run([Load(item.name, item.repository, item.source.open, item.blobs) for item in content])
    for item, sizes in zip(content, sent):
        item.count(sizes)
    each(workers, lambda item: item.finish(), content)
    for item in pending:
        if isinstance(item, DaemonDelivery):
            transfers.say(f"Docker pushes {item.name}")
            item.finish()
    still = sorted(
        {digest for item in pending for digest in item.damaged if storage and storage.state(digest) != "whole"}
    )
    if still:
        raise AirgapError(
            f"{pending[0].registry.host}: {', '.join(still)} could not be mended: the damaged content is removed, but "
            "nobody sent it again, for the registry remembers that it had it. Restart the registry and run again"
        )


def _deliveries(
    images: Sequence[dict[str, Any]],
    registry: Registry,
    connect_docker: Callable[[], Docker],
    open_layout: Callable[[str], Layout],
    registries: Registries,
    inventory: Inventory,
) -> list[Delivery]:
    docker: Docker | None = None
    layouts: dict[str, Layout] = {}
    deliveries: list[Delivery] = []
    for item in images:
        repository, tags = _target(item)
        source, common = item["source"], (registry, repository, tags, bool(item.get("force")))
        if source.get("daemon"):
            docker = docker or connect_docker()
            deliveries.append(DaemonDelivery(*common, docker, source["daemon"]))
        elif source.get("registry"):
            reference = _reference(source["registry"], registry.host)
            origin = registries.session(str(reference.host))
            delivery = ContentDelivery(
                *common, Repository(origin, reference.repository), reference.digest or str(reference.tag)
            )
            if origin is registry:
                for blob in delivery.content.blobs:
                    inventory.add(reference.repository, blob.digest)
            deliveries.append(delivery)
        else:
            path = source["layout"]
            layouts[path] = layouts.get(path) or open_layout(path)
            deliveries.append(ContentDelivery(*common, layouts[path], source.get("ref")))
    return deliveries


def _target(item: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    try:
        repository = references.check_repository(item["repository"])
        tags = tuple(dict.fromkeys(references.check_tag(tag) for tag in item.get("tags") or []))
    except references.InvalidReferenceError as error:
        raise AirgapError(str(error)) from error
    if not tags:
        raise AirgapError(f"{repository} has no tags: an image without one cannot be pulled by name")
    return repository, tags


def _reference(name: str, host: str) -> references.Reference:
    """The reference of a source; without a host it is in the registry that is published to."""
    try:
        reference = references.parse(name)
    except references.InvalidReferenceError as error:
        raise AirgapError(f"{name}: {error}") from error
    if not reference.tag and not reference.digest:
        raise AirgapError(f"{name} has neither tag nor digest: say which one is meant, nothing is assumed")
    return reference if reference.host else reference._replace(host=host)


def _check_batch(deliveries: Sequence[Delivery], removals: Sequence[registry_prune.Removal], host: str) -> None:
    wanted = {(delivery.repository, tag) for delivery in deliveries for tag in delivery.tags}
    for removal in removals:
        for tag in removal.tags:
            if (removal.repository, tag) in wanted:
                raise AirgapError(f"{host}/{removal.repository}:{tag} is wanted, and is to be absent")
    try:
        plan.check_batch(
            (f"{host}/{delivery.repository}", tag, delivery.identity)
            for delivery in deliveries
            for tag in delivery.tags
        )
    except plan.TagRefusedError as error:
        raise AirgapError(str(error)) from error


def _blobs_of(manifest: Manifest) -> list[Descriptor]:
    """Config and layers; empty for an index, whose blobs belong to its children."""
    try:
        return image.parts(manifest.parsed(), manifest.media_type)[1]
    except (image.ImageError, ValueError) as error:
        raise AirgapError(f"the registry's manifest {manifest.digest} cannot be understood: {error}") from error


def _config_of(manifest: Manifest) -> str | None:
    blobs = _blobs_of(manifest)
    return blobs[0].digest if blobs else None
