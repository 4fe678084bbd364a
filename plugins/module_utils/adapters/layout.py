# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An OCI image layout in a directory or a bundle: every byte that is read is checked against its digest and size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Any, BinaryIO

from ..engines.oci import image
from ..engines.oci.image import Descriptor
from ..errors import AirgapError
from .store import DirectoryStore, Store

# The limit that registries put on a manifest (distribution, registry/handlers/manifests.go).
MANIFEST_LIMIT = 4 * 1024 * 1024


#: Bytes. An index.json has some 300 for each image.
INDEX_LIMIT = 16 * 1024 * 1024


class LayoutError(AirgapError):
    """A directory that is no layout, or whose content is not what its digests say."""


class Layout:
    """``path`` is what holds ``index.json`` and ``blobs/``: a directory, unless ``store`` says otherwise.

    ``absent`` are digests of configs and layers that are known not to be there, as in a delta. ``index`` is what counts
    instead of index.json, for who knows the images from a source that is trusted more than a file.
    """

    def __init__(self, path: str, store: Store | None = None, absent: Collection[str] = (), index: Any = None) -> None:
        self.path = path
        self._index = index
        # A layout that a user names is trusted to be built of links; what comes from outside gets its own store.
        self._store: Store = store or DirectoryStore(path, links=True)
        self._absent = absent

    def index(self) -> Any:
        """The parsed index.json, or what counts instead of it."""
        if self._index is not None:
            return self._index
        size = self._store.size("index.json")
        if size is None:
            raise LayoutError(f"{self.path} is not an OCI layout: it has no index.json")
        if size > INDEX_LIMIT:
            raise LayoutError(f"{self.path}/index.json has {size} bytes, more than {INDEX_LIMIT}")
        try:
            with self._store.open("index.json") as file:
                return json.loads(file.read(size))
        except (OSError, ValueError) as error:
            raise LayoutError(f"{self.path}/index.json cannot be read: {error}") from error

    def manifest(self, item: Descriptor) -> bytes:
        """The bytes of a manifest or index, verified."""
        if item.size > MANIFEST_LIMIT:
            raise LayoutError(
                f"manifest {item.digest} of {self.path} has {item.size} bytes, more than a registry takes"
            )
        with self.open(item) as file:
            # To its end: one that was cut since its size was looked at would not be compared with its digest otherwise.
            return b"".join(file)

    def parsed(self, item: Descriptor) -> Any:
        """The parsed manifest or index."""
        try:
            return json.loads(self.manifest(item))
        except ValueError as error:
            raise LayoutError(f"manifest {item.digest} of {self.path} is not JSON: {error}") from error

    def image(self, name: str | None) -> image.Image:
        """Find an image by its name and check that all of it is here in the right size."""
        try:
            found = image.collect(image.select(self.index(), name), self.parsed)
        except image.ImageError as error:
            raise LayoutError(f"{self.path}: {error}") from error
        for blob in found.blobs:
            self._check_size(blob)
        return found

    def open(self, item: Descriptor) -> VerifyingReader:
        """Open a blob or manifest for one reading from start to end."""
        if item.digest in self._absent:
            raise LayoutError(
                f"{item.digest} ({item.media_type}) was left out of {self.path}, and the registry does not have it: "
                "build a full bundle, or one against a fresh inventory"
            )
        self._check_size(item)
        return VerifyingReader(self._store.open(_name(item)), item, f"{self.path}/{_name(item)}")

    def _check_size(self, item: Descriptor) -> None:
        if item.digest in self._absent:
            return
        size = self._store.size(_name(item))
        if size is None:
            raise LayoutError(f"{item.digest} ({item.media_type}) is missing in {self.path}: copy it again")
        if size != item.size:
            raise LayoutError(
                f"{self.path}/{_name(item)} has {size} bytes, its descriptor says {item.size}: copy it again"
            )


class VerifyingReader:
    """A file that raises LayoutError instead of handing out its last bytes when the digest is not the expected one.

    So a corrupt blob breaks the upload that reads it, before a registry could have taken it.
    """

    def __init__(self, file: BinaryIO, item: Descriptor, name: str) -> None:
        self._file = file
        self._item = item
        self._name = name
        self._hash = hashlib.new(item.digest.partition(":")[0])
        self._read = 0

    def __len__(self) -> int:
        """The whole size in bytes: what an HTTP client sends as Content-Length."""
        return self._item.size

    def read(self, size: int = -1) -> bytes:
        """The next bytes; raises LayoutError in place of the last ones when the content is not what it should be."""
        data = self._file.read(size)
        self._hash.update(data)
        self._read += len(data)
        if self._read >= self._item.size or not data:
            self._verify()
        return data

    def __iter__(self) -> Iterator[bytes]:
        while True:
            data = self.read(1 << 20)
            if not data:
                return
            yield data

    def __enter__(self) -> VerifyingReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _verify(self) -> None:
        found = f"{self._hash.name}:{self._hash.hexdigest()}"
        if found != self._item.digest:
            raise LayoutError(f"{self._name} is corrupt: its content is {found}. Nothing of it was published")


def _name(item: Descriptor) -> str:
    return "/".join(("blobs", *item.digest.split(":")))
