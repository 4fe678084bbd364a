# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The registry's own image for a Docker that has no registry yet: out of the layout, as ``docker load`` takes it."""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from ...adapters.layout import Layout
from ...engines.oci import image
from ...engines.oci.image import Descriptor, Image, ImageError
from ...errors import AirgapError
from .content import hash_file
from .meter import Meter
from .state import State, replacing
from .verify import Bundle

#: Go's name of this machine's architecture, as platforms of images have it.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


@dataclass(frozen=True)
class ArchivePlan:
    """The archive to write: ``name`` is what Docker will call the image, ``blobs`` its config and then its layers."""

    name: str
    digest: str
    blobs: tuple[Descriptor, ...]
    before: str | None

    @property
    def bytes_to_write(self) -> int:
        """The size of the archive, without its headers."""
        return sum(blob.size for blob in self.blobs)


def plan(bundle: Bundle, state: State, images: dict[str, Image], machine: str | None = None) -> ArchivePlan | None:
    """What has to be written, None when the archive is right or the bundle brings no such image.

    ``machine`` is what ``uname -m`` says, by default here. Raises AirgapError when a delta leaves out what is needed.
    """
    name = bundle.manifest.registry_image
    if name is None:
        return None
    record = state.archive_record()
    digest = images[name].root.digest
    if (record.get("image"), record.get("digest")) == (name, digest) and _intact(state.registry_archive, record):
        return None
    layout = bundle.layout()
    blobs = _blobs(layout, images[name].root, name, machine or os.uname().machine)
    absent = {blob.digest for blob in bundle.manifest.absent_blobs}
    for blob in blobs:
        if blob.digest in absent:
            raise AirgapError(
                f"{bundle} leaves out {blob.digest} of the registry's image {name}, of which {state.registry_archive} "
                "has to be made anew: build a full bundle, or one against a fresh inventory"
            )
    before = f"{record.get('image')} {record.get('digest')}" if os.path.exists(state.registry_archive) else None
    return ArchivePlan(name, digest, tuple(blobs), before)


def write(bundle: Bundle, state: State, todo: ArchivePlan, meter: Meter) -> None:
    """Write the archive and the record of what it was made from. The same image makes the same bytes."""
    layout = bundle.layout()
    config, *layers = todo.blobs
    entry = {
        "Config": _path(config),
        "RepoTags": [todo.name],
        "Layers": [_path(layer) for layer in layers],
    }
    with (
        replacing(state.registry_archive, sync=True) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for blob in dict.fromkeys(todo.blobs):
            with layout.open(blob) as reader:
                tar.addfile(_member(_path(blob), blob.size), reader)
            meter.add(blob.size, todo.name)
        body = json.dumps([entry]).encode()
        tar.addfile(_member("manifest.json", len(body)), BytesIO(body))
    state.write_archive_record(
        {
            "image": todo.name,
            "digest": todo.digest,
            "size": os.stat(state.registry_archive).st_size,
            "sha256": hash_file(state.registry_archive),
        }
    )


def _intact(path: str, record: dict[str, Any]) -> bool:
    try:
        return os.stat(path).st_size == record.get("size") and hash_file(path) == record.get("sha256")
    except OSError:
        return False


def _blobs(layout: Layout, root: Descriptor, name: str, machine: str) -> list[Descriptor]:
    """Config and layers of the image, of an index those for this machine."""
    try:
        manifest = layout.parsed(root)
        if root.media_type in image.INDEX_TYPES:
            architecture = ARCHITECTURES.get(machine, machine)
            child = next((entry for entry in manifest["manifests"] if _is_for(entry, architecture)), None)
            if child is None:
                there = sorted({_platform(entry) for entry in manifest["manifests"]})
                raise AirgapError(
                    f"the registry's image {name} has nothing for linux/{architecture}, which this machine is: "
                    f"it has {', '.join(there) or 'nothing'}. Build the bundle with that platform"
                )
            root = image.descriptor(child)
            manifest = layout.parsed(root)
        return image.parts(manifest, root.media_type)[1]
    except ImageError as error:
        raise AirgapError(f"the registry's image {name} cannot be understood: {error}") from error


def _is_for(entry: dict[str, Any], architecture: str) -> bool:
    platform = entry.get("platform") or {}
    return platform.get("os") == "linux" and platform.get("architecture") == architecture


def _platform(entry: dict[str, Any]) -> str:
    platform = entry.get("platform") or {}
    return f"{platform.get('os')}/{platform.get('architecture')}"


def _path(blob: Descriptor) -> str:
    # Where Docker's own archives have them since version 25; older ones take any path that the manifest names.
    return "blobs/" + blob.digest.replace(":", "/")


def _member(path: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.size = size
    member.mode = 0o644
    return member
