# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images of a bundle into the registry, straight out of the bundle; what a delta leaves out is mounted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from ...adapters.docker import Docker
from ...adapters.registry import Registry
from ...adapters.registry_storage import RegistryStorage
from ...adapters.upload_journal import UploadJournal
from ...engines.bundle.manifest import AbsentBlob, BundleImage
from ...engines.oci.image import Image
from ...engines.oci.plan import Inventory
from ...errors import AirgapError
from ..registry_image import WORKERS, publish
from .verify import Bundle


@dataclass
class ImageImport:
    """``plan`` asks the registry what it lacks, ``deliver`` sends that.

    ``force`` also replaces release tags, and mends blobs that are damaged in ``storage_path``, where the registry keeps
    its data (which may be on another machine). ``workers`` is how many requests are under way at once.
    """

    registry: Registry
    force: bool = False
    storage_path: str | None = None
    workers: int = WORKERS
    progress: Callable[[str], None] = lambda line: None
    result: dict[str, Any] = field(default_factory=dict, init=False)
    _known: set[tuple[str, str]] = field(default_factory=set, init=False)

    @property
    def changed(self) -> bool:
        """Whether the registry lacks anything."""
        return bool(self.result["changed"])

    @property
    def bytes_to_send(self) -> int:
        """The sizes of what has to be sent, together."""
        return sum(item["bytes_sent"] for item in self.result["images"])

    def plan(self, bundle: Bundle, images: Mapping[str, Image]) -> None:
        """Find what a delta leaves out, then decide for every image. Raises AirgapError for a missing base, and for a
        release tag that another image has."""
        absent = {blob.digest: blob for blob in bundle.manifest.absent_blobs}
        if absent:
            for item in bundle.manifest.images:
                self._find_base(bundle, item, images[item.name], absent)
        self._publish(bundle, None)

    def deliver(self, bundle: Bundle, uploads: str) -> None:
        """Send what ``plan`` found lacking; ``result`` becomes what really happened. The directory ``uploads``
        remembers what is under way, for the run after a killed one."""
        self._publish(bundle, UploadJournal(uploads))

    def _find_base(self, bundle: Bundle, item: BundleImage, image: Image, absent: Mapping[str, AbsentBlob]) -> None:
        """Where the registry has the absent blobs of an image, so that they are mounted from there."""
        wanted = [absent[blob.digest] for blob in image.blobs if blob.digest in absent]
        # A registry that has the manifest has what it refers to.
        if not wanted or self.registry.manifest_digest(item.repository, item.digest) is not None:
            return
        for blob in wanted:
            holders = dict.fromkeys((item.repository, *blob.repositories))
            holder = next((name for name in holders if (name, blob.digest) in self._known), None)
            holder = holder or next((name for name in holders if self.registry.has_blob(name, blob.digest)), None)
            if holder is None:
                base = bundle.manifest.base
                raise AirgapError(
                    f"{bundle} leaves out {blob.digest} ({blob.size} bytes) of {item.name}, because "
                    f"{', '.join(blob.repositories)} of {base.registry if base else 'the inside'} had it at "
                    f"{base.taken if base else 'the inventory'}, but {self.registry.host} does not have it: "
                    "build a full bundle, or one against a fresh inventory. Nothing was written",
                    image=item.name,
                    digest=blob.digest,
                )
            self._known.add((holder, blob.digest))

    def _publish(self, bundle: Bundle, journal: UploadJournal | None) -> None:
        layout = bundle.layout()
        inventory = Inventory()
        for repository, digest in sorted(self._known):
            inventory.add(repository, digest)
        self.result = publish(
            [self._entry(bundle, item) for item in bundle.manifest.images],
            self.registry,
            _no_docker,
            check_mode=journal is None,
            open_layout=lambda path: layout,
            inventory=inventory,
            progress=self.progress,
            workers=self.workers,
            journal=journal,
            storage=RegistryStorage(str(self.storage_path)) if self.force and self._has_storage() else None,
        )

    def _has_storage(self) -> bool:
        return self.storage_path is not None and os.path.isdir(os.path.join(self.storage_path, "docker", "registry"))

    def _entry(self, bundle: Bundle, item: BundleImage) -> dict[str, Any]:
        return {
            "source": {"layout": bundle.store.where, "ref": item.name},
            "repository": item.repository,
            "tags": [item.tag],
            "force": self.force,
        }


def _no_docker() -> Docker:
    raise AssertionError("a bundle has no images of a Docker daemon")
