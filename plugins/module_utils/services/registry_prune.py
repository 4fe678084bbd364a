# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What leaves a registry: tags and manifests by name, and what rules do not keep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..adapters.registry import Manifest, Registry
from ..engines.oci import image, prune, references
from ..engines.oci.prune import Deletion, Rule, Tag
from ..errors import AirgapError
from .parallel import each


@dataclass
class Contents:
    """The tags of a repository with their digests, and the manifests that they lead to."""

    tags: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    children: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, registry: Registry, repository: str, workers: int) -> Contents:
        """Read every tag and every index below."""
        contents = cls()
        names = registry.tags(repository) or []
        for name, manifest in zip(names, each(workers, lambda tag: registry.manifest(repository, tag), names)):
            # One that was deleted since it was listed is none.
            if manifest is not None:
                contents.tags[name] = manifest.digest
                contents.manifests[manifest.digest] = manifest
        waiting = list(contents.manifests.values())
        while waiting:
            manifest = waiting.pop()
            below = _children(manifest, f"{registry.host}/{repository}")
            contents.children[manifest.digest] = below
            for digest in below:
                child = None if digest in contents.manifests else registry.manifest(repository, digest)
                if child is not None:
                    contents.manifests[digest] = child
                    waiting.append(child)
        return contents


@dataclass
class Foreseen:
    """What a run in check mode would have written before it prunes."""

    put: dict[str, dict[str, str]] = field(default_factory=dict)
    gone: dict[str, set[str]] = field(default_factory=dict)
    children: dict[str, list[str]] = field(default_factory=dict)

    def add(self, repository: str, tags: Iterable[str], digest: str, manifests: Sequence[str]) -> None:
        """Tags that would point to an image, which consists of these manifests."""
        self.put.setdefault(repository, {}).update(dict.fromkeys(tags, digest))
        self.children[digest] = [item for item in manifests if item != digest]

    def remove(self, repository: str, tags: Iterable[str]) -> None:
        """Tags that would be gone."""
        self.gone.setdefault(repository, set()).update(tags)

    def apply(self, repository: str, contents: Contents) -> None:
        """Change what was read into what would be there."""
        for tag in self.gone.get(repository, ()):
            contents.tags.pop(tag, None)
        contents.tags.update(self.put.get(repository, {}))
        contents.children.update(self.children)


@dataclass
class Removal:
    """Tags, or a manifest, of one repository on their way out."""

    registry: Registry
    repository: str
    tags: tuple[str, ...] = ()
    digest: str | None = None
    force: bool = False
    deletion: Deletion = field(default=Deletion(), init=False)
    had: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def changed(self) -> bool:
        """Whether anything of it is there."""
        return bool(self.deletion.tags or self.deletion.manifests)

    def plan(self, workers: int) -> None:
        """See what is there. Raises AirgapError for a manifest that something else needs."""
        if self.digest is None:
            contents = Contents.read(self.registry, self.repository, workers)
            self.had = contents.tags
            # A manifest without a tag is listed by no registry: left behind, nobody would ever find it again.
            self.deletion = prune.plan(contents.tags, set(self.tags), contents.children)
            return
        if self.registry.manifest_digest(self.repository, self.digest) is None:
            return
        contents = Contents.read(self.registry, self.repository, workers)
        try:
            self.deletion = prune.plan_digest(self.digest, contents.tags, contents.children, self.force)
        except prune.KeptError as error:
            raise AirgapError(
                f"{self.registry.host}/{self.repository}@{self.digest} is not deleted: {error}"
            ) from error
        self.had = contents.tags

    def deliver(self) -> None:
        """Tags first, then each index before its children: what is left is whole at any moment."""
        for tag in self.deletion.tags:
            self.registry.delete_tag(self.repository, tag)
        for digest in self.deletion.manifests:
            self.registry.delete_manifest(self.repository, digest)

    def result(self) -> dict[str, Any]:
        """The entry of the module's return value."""
        return {
            "repository": self.repository,
            "digest": self.digest,
            "tags": list(self.deletion.tags),
            "bytes_sent": 0,
            "blobs_skipped": 0,
            "mounted": 0,
            "mended": [],
            "changed": self.changed,
        }

    def pruned(self) -> dict[str, Any]:
        """The entry of what rules have removed."""
        return {
            "repository": self.repository,
            "tags": list(self.deletion.tags),
            "manifests": list(self.deletion.manifests),
        }

    def before(self) -> dict[str, str | None]:
        """Each name that goes, and the digest it had."""
        where = f"{self.registry.host}/{self.repository}"
        tags = {f"{where}:{tag}": self.had.get(tag) for tag in self.deletion.tags}
        return {**tags, **{f"{where}@{digest}": digest for digest in self.deletion.manifests}}

    def after(self) -> dict[str, str | None]:
        """The same names, with nothing."""
        return dict.fromkeys(self.before())


def removals(registry: Registry, items: Sequence[dict[str, Any]]) -> list[Removal]:
    """What entries with the state absent ask for. Raises AirgapError for one that names nothing."""
    return [_removal(registry, item) for item in items]


def rules(items: Sequence[dict[str, Any]]) -> list[Rule]:
    """The rules of the option. Raises AirgapError for one that would keep a negative number."""
    for item in items:
        if item["keep"] < 0:
            raise AirgapError(f"prune keeps a number of tags from 0 on, not {item['keep']}")
    return [Rule(item["repository"], item["tags"], item["keep"]) for item in items]


def surplus(registry: Registry, wanted: Sequence[Rule], foreseen: Foreseen, workers: int) -> list[Removal]:
    """What the rules do not keep, one entry for each repository that has such."""
    if not wanted:
        return []
    names = sorted({*registry.repositories(), *foreseen.put})
    found = []
    for repository in names:
        if any(prune.divide(wanted, repository, ())):
            removal = _surplus(registry, repository, wanted, foreseen, workers)
            if removal.changed:
                found.append(removal)
    return found


def _surplus(registry: Registry, repository: str, wanted: Sequence[Rule], foreseen: Foreseen, workers: int) -> Removal:
    contents = Contents.read(registry, repository, workers)
    there = dict(contents.tags)
    foreseen.apply(repository, contents)
    goes: set[str] = set()
    for rule, tags in prune.divide(wanted, repository, contents.tags):
        if len(tags) > rule.keep:
            # What is only foreseen is made now, by this run.
            made = {tag: _created(registry, repository, contents, contents.tags[tag]) for tag in tags if tag in there}
            goes.update(prune.surplus(rule.keep, [Tag(tag, made.get(tag, float("inf"))) for tag in tags]))
    removal = Removal(registry, repository)
    removal.had = contents.tags
    removal.deletion = prune.plan(contents.tags, goes, contents.children)
    return removal


def _created(registry: Registry, repository: str, contents: Contents, digest: str) -> float:
    """When an image says it was made; of an index, its first image."""
    manifest = contents.manifests.get(digest)
    try:
        while manifest is not None and manifest.media_type in image.INDEX_TYPES:
            manifest = contents.manifests.get(image.runnable(manifest.parsed()).digest)
        if manifest is None:
            return 0.0
        _children_of_it, blobs = image.parts(manifest.parsed(), manifest.media_type)
    except (image.ImageError, ValueError):
        return 0.0  # an artifact that is no image, and says nothing of its age
    return prune.epoch(registry.read_config(repository, blobs[0].digest).get("created"))


def _children(manifest: Manifest, where: str) -> list[str]:
    if manifest.media_type not in image.INDEX_TYPES:
        return []
    try:
        return [child.digest for child in image.parts(manifest.parsed(), manifest.media_type)[0]]
    except (image.ImageError, ValueError) as error:
        raise AirgapError(f"{where}: the index {manifest.digest} cannot be understood: {error}") from error


def _removal(registry: Registry, item: dict[str, Any]) -> Removal:
    try:
        repository = references.check_repository(item["repository"])
        tags = tuple(dict.fromkeys(references.check_tag(tag) for tag in item.get("tags") or []))
        digest = references.check_digest(item["digest"]) if item.get("digest") else None
    except references.InvalidReferenceError as error:
        raise AirgapError(str(error)) from error
    if bool(tags) == bool(digest):
        raise AirgapError(f"{repository}: what is to be absent is named by tags or by a digest, by one of them")
    return Removal(registry, repository, tags, digest, bool(item.get("force")))
