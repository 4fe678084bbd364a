# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a registry has: look-ups by name, and whether what it has is whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..adapters.registry import Manifest, Registry
from ..engines.oci import image, references
from ..engines.oci.image import Descriptor
from ..errors import AirgapError
from .parallel import each


def describe(names: Sequence[str], registry: Registry, verify: bool = False, workers: int = 4) -> list[dict[str, Any]]:
    """What the registry has under each ``repository:tag`` (or ``repository@digest``): the info module's results.

    With ``verify`` every manifest and blob is read back, and what is damaged is named under ``corrupt``.
    """
    wanted = [_reference(name, registry.host) for name in names]
    if not verify:
        return each(workers, lambda reference: _describe(reference, registry), wanted)
    # One after the other: it is the blobs of each that are read side by side.
    return [_verify(reference, registry, workers) for reference in wanted]


def _verify(reference: references.Reference, registry: Registry, workers: int) -> dict[str, Any]:
    """Describe an image and read all of it. Damage is an answer, not a failure."""
    repository, name = reference.repository, reference.digest or str(reference.tag)
    corrupt: list[dict[str, str]] = []
    blobs: dict[str, Descriptor] = {}

    def read(digest: str) -> None:
        manifest = registry.read_back(repository, digest)
        if isinstance(manifest, str):
            corrupt.append({"digest": digest, "reason": manifest})
            return
        try:
            children, own = image.parts(manifest.parsed(), manifest.media_type)
        except (image.ImageError, ValueError) as error:
            raise AirgapError(f"{registry.host}/{repository}@{digest} cannot be understood: {error}") from error
        blobs.update({blob.digest: blob for blob in own})
        for child in children:
            read(child.digest)

    digest = registry.manifest_digest(repository, name)
    if digest is None:
        return {**_describe(reference, registry), "corrupt": []}
    read(digest)
    wanted = list(blobs.values())
    damage = each(workers, lambda blob: registry.damage(repository, blob), wanted)
    corrupt += [{"digest": blob.digest, "reason": said} for blob, said in zip(wanted, damage) if said]
    if corrupt:
        known = {"exists": True, "digest": digest, "message": _damaged(reference, registry, len(corrupt))}
        return {**_blank(reference, registry), **known, "corrupt": corrupt}
    return {**_describe(reference, registry), "corrupt": []}


def _damaged(reference: references.Reference, registry: Registry, count: int) -> str:
    return (
        f"{reference._replace(host=registry.host)} is damaged in the registry's storage ({count} of its parts): "
        "publish it again on the registry's node, with force and storage_path"
    )


def _blank(reference: references.Reference, registry: Registry) -> dict[str, Any]:
    return {
        "name": str(reference._replace(host=registry.host)),
        "repository": reference.repository,
        "tag": reference.tag,
        "exists": False,
        "digest": None,
        "media_type": None,
        "labels": {},
        "message": None,
        "corrupt": None,
    }


def _describe(reference: references.Reference, registry: Registry) -> dict[str, Any]:
    result = _blank(reference, registry)
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
