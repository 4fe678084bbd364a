# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What this inside holds, for a delta to be built against: the registry's images and what bundles have left here."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Callable

from ...adapters.registry import Registry
from ...engines.bundle import delta
from ...engines.bundle import manifest as engine
from ...engines.bundle.delta import HeldBlob, HeldBundle, HeldFile, Inventory
from ...engines.bundle.manifest import BundleError
from ...engines.oci import image
from ...times import Clock, rfc3339
from .content import scan
from .state import State, names, replacing


def write(
    registry: Registry,
    state_path: str,
    path: str,
    progress: Callable[[str], None],
    clock: Clock,
    check_mode: bool = False,
) -> dict[str, Any]:
    """Write the inventory document to ``path``; one that says the same already stays as it is, with its time."""
    taken = take(registry, state_path, progress, clock)
    before = _read(path)
    changed = before is None or replace(before, taken=taken.taken) != taken
    if changed and not check_mode:
        with replacing(path) as file:
            file.write(taken.to_bytes())
    return {
        "changed": changed,
        "inventory": path,
        "taken": taken.taken if changed or before is None else before.taken,
        "held": {
            "images": len(taken.images),
            "blobs": len(taken.blobs),
            "files": len(taken.files),
            "bytes": sum(item.size for held in (taken.blobs, taken.files) for item in held.values()),
        },
        "diff": {"before": _lines(before), "after": _lines(taken)},
    }


def take(registry: Registry, state_path: str, progress: Callable[[str], None], clock: Clock) -> Inventory:
    """Read the registry through its tags (what has none may be collected as garbage at any time) and hash the files."""
    images: dict[str, str] = {}
    blobs: dict[str, dict[str, int]] = {}
    repositories = registry.repositories()
    for number, repository in enumerate(repositories, 1):
        progress(f"{number} of {len(repositories)} repositories: {repository}")
        _read_repository(registry, repository, images, blobs, progress)
    bundles, files = _held(state_path)
    return Inventory(
        registry=registry.host,
        taken=rfc3339(clock.time()),
        bundles=bundles,
        blobs={
            digest: HeldBlob(next(iter(sizes.values())), tuple(sorted(sizes)))
            for digest, sizes in sorted(blobs.items())
        },
        images=dict(sorted(images.items())),
        files=files,
    )


def _read_repository(
    registry: Registry,
    repository: str,
    images: dict[str, str],
    blobs: dict[str, dict[str, int]],
    progress: Callable[[str], None],
) -> None:
    seen: set[str] = set()
    for tag in registry.tags(repository) or ():
        digest = registry.manifest_digest(repository, tag)
        # A tag that was deleted meanwhile, or that is of another algorithm than a bundle's, is of no use to a delta.
        if digest is None or not digest.startswith("sha256:"):
            continue
        images[f"{repository}:{tag}"] = digest
        pending = [digest]
        while pending:
            wanted = pending.pop()
            manifest = None if wanted in seen else registry.manifest(repository, wanted)
            if manifest is None:
                continue  # an index may name images that were never brought here
            seen.add(wanted)
            try:
                children, own = image.parts(manifest.parsed(), manifest.media_type)
            except ValueError as error:
                progress(f"{repository}@{wanted} is left out of the inventory: {error}")
                continue
            pending.extend(child.digest for child in children)
            for blob in own:
                if blob.digest.startswith("sha256:"):
                    blobs.setdefault(blob.digest, {})[repository] = blob.size


def _held(state_path: str) -> tuple[tuple[HeldBundle, ...], dict[str, HeldFile]]:
    bundles: list[HeldBundle] = []
    files: dict[str, HeldFile] = {}
    for name in names(state_path):
        state = State(state_path, name)
        last = engine.last_import(name, state.history())
        if last is not None:
            bundles.append(HeldBundle(name, last.number, last.sha256))
        for path, found in scan(state.content).items():
            if found.sha256 and _is_path(path):
                files[f"{name}/{path}"] = HeldFile(found.sha256, found.size)
    return tuple(bundles), dict(sorted(files.items()))


def _is_path(path: str) -> bool:
    """False for what no bundle could have brought, so that no delta can leave it out."""
    try:
        return bool(engine.check_path(path))
    except (BundleError, UnicodeEncodeError):
        return False


def _read(path: str) -> Inventory | None:
    """The inventory of before, None when there is none that can be read: it is written anew then."""
    try:
        if os.path.getsize(path) > delta.INVENTORY_LIMIT:
            return None
        with open(path, "rb") as file:
            return delta.parse(file.read())
    except (OSError, BundleError):
        return None


def _lines(inventory: Inventory | None) -> str:
    """What a diff shows: names, not the thousands of digests under them."""
    if inventory is None:
        return ""
    lines = [f"bundle {bundle.name} {bundle.number} {bundle.sha256}" for bundle in inventory.bundles]
    lines += [f"image {name} {digest}" for name, digest in inventory.images.items()]
    lines += [f"file {path} sha256:{file.sha256}" for path, file in inventory.files.items()]
    return "\n".join((*lines, ""))
