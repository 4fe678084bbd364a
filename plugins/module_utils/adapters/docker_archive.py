# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``docker save`` writes, read as a stream and turned into OCI images whose blobs lie in the cache.

Docker saves layers uncompressed, in one of two shapes: up to 24 a directory for each layer (``<id>/layer.tar``, a link
where two images share one), from 25 an OCI layout; both say at the end, in manifest.json, which image has which. Layers
are compressed here, always to the same bytes, so an image has one digest however often it is built into a bundle. The
manifests are OCI's: every containerd, Docker since 17.12, skopeo and crane take them, and an OCI layout may hold
nothing else.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, Callable, NamedTuple, cast

from ..engines.oci import image
from ..engines.oci.image import Descriptor
from ..errors import AirgapError
from .blob_cache import Blob, BlobCache

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
#: Measured on the programs and Debian packages that images are made of: level 1 packs 84 MB/s on one core to 41 %, the
#: usual 6 only 22 MB/s to 38 %.
LEVEL = 1
#: zlib lets other threads run while it works.
WORKERS = 2
DOCUMENT_LIMIT = 8 * 1024 * 1024
_CHUNK = 1 << 20
_MAGIC = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}


class ArchiveError(AirgapError):
    """An archive that is not what ``docker save`` writes, or is cut off."""


class SavedImage(NamedTuple):
    """An image of the archive, whole in the cache. ``identity`` is the digest of its config: Docker's image ID."""

    identity: str
    names: tuple[str, ...]
    root: Descriptor


class _Layer(NamedTuple):
    """A layer as it came: the digest of that, and where its blob is or will be."""

    digest: str
    suffix: str
    blob: Future[Blob]


def convert(archives: Iterable[Iterable[bytes]], cache: BlobCache, progress: Callable[[int], None]) -> list[SavedImage]:
    """Read whole archives, one after the other, each in chunks. ``progress`` is given the bytes of each.

    Raises ArchiveError; the blobs that were finished by then stay in the cache.
    """
    scratch = cache.scratch()
    with ThreadPoolExecutor(WORKERS) as pool:
        layers = _Layers(cache, scratch, pool)
        readers = []
        try:
            for chunks in archives:
                stream = _Stream(chunks, progress)
                reader = _Reader(cache, layers)
                with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|", bufsize=_CHUNK) as archive:
                    for member in archive:
                        reader.take(archive, member)
                readers.append(reader)
            return [item for reader in readers for item in reader.images()]
        except (tarfile.TarError, EOFError) as error:
            raise ArchiveError(f"the images that Docker sends are cut off or no archive: {error}. Run again") from error
        except OSError as error:
            raise ArchiveError(f"layers cannot be kept in {cache.path}: {error}") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            shutil.rmtree(scratch, ignore_errors=True)


class _Stream:
    """Chunks as the file that tarfile reads."""

    def __init__(self, chunks: Iterable[bytes], progress: Callable[[int], None]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self._progress = progress

    def read(self, size: int) -> bytes:
        parts = []
        wanted = size
        while wanted:
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
                self._progress(len(chunk))
            parts.append(self._rest[:wanted])
            self._rest = self._rest[wanted:]
            wanted -= len(parts[-1])
        return b"".join(parts)


class _Layers:
    """Turns layers into blobs of the cache, in the background. One that comes under two names is compressed once."""

    def __init__(self, cache: BlobCache, scratch: str, pool: ThreadPoolExecutor) -> None:
        self._cache = cache
        self._scratch = scratch
        self._pool = pool
        self._count = itertools.count()
        self._blobs: dict[str, Future[Blob]] = {}

    def take(self, head: bytes, file: IO[bytes]) -> _Layer:
        """Write a layer down to learn its digest; what is known by that is not compressed again."""
        suffix = next((suffix for magic, suffix in _MAGIC.items() if head.startswith(magic)), "")
        spool = os.path.join(self._scratch, str(next(self._count)))
        content = hashlib.sha256()
        with open(spool, "wb") as target:
            data = head
            while data:
                target.write(data)
                content.update(data)
                data = file.read(_CHUNK)
        digest = f"sha256:{content.hexdigest()}"
        if digest not in self._blobs:
            self._blobs[digest] = self._pool.submit(self._store, spool, digest, bool(suffix))
        else:
            os.unlink(spool)
        return _Layer(digest, suffix, self._blobs[digest])

    def _store(self, spool: str, digest: str, compressed: bool) -> Blob:
        try:
            known = compressed_layer(self._cache, digest)
            if known:
                return known
            with self._cache.draft() as draft, open(spool, "rb") as source:
                # Of the header only the time of writing could differ; zlib leaves it 0.
                packer = None if compressed else zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
                while True:
                    data = source.read(_CHUNK)
                    if not data:
                        break
                    draft.write(packer.compress(data) if packer else data)
                if packer:
                    draft.write(packer.flush())
                blob = draft.commit()
            if not compressed:
                self._cache.remember("layers", _key(digest), blob._asdict())
            return blob
        finally:
            os.unlink(spool)


class _Reader:
    """The documents, layers and links of one archive."""

    def __init__(self, cache: BlobCache, layers: _Layers) -> None:
        self._cache = cache
        self._store = layers
        self._documents: dict[str, bytes] = {}
        self._layers: dict[str, _Layer] = {}
        self._links: dict[str, str] = {}

    def take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Read one member of the archive."""
        name = _inside(member.name, member.name)
        if member.issym():
            self._links[name] = _inside(posixpath.join(posixpath.dirname(name), member.linkname), name)
        elif member.islnk():
            self._links[name] = _inside(member.linkname, name)
        elif member.isfile():
            file = cast("IO[bytes]", archive.extractfile(member))
            head = file.read(512)
            if name.endswith("/layer.tar") or _is_layer(name, head):
                self._layers[name] = self._store.take(head, file)
            elif name.endswith(".json") or name.startswith("blobs/"):
                if member.size > DOCUMENT_LIMIT:
                    raise ArchiveError(f"{name} in Docker's archive has {member.size} bytes: that is no document")
                self._documents[name] = head + file.read()
        elif not member.isdir():
            raise ArchiveError(f"{name} in Docker's archive is neither a file nor a link")

    def images(self) -> list[SavedImage]:
        """The images that manifest.json names."""
        listed = self._parsed("manifest.json")
        if not isinstance(listed, list):
            raise ArchiveError("Docker's archive has a manifest.json that is no list")
        return [self._image(entry) for entry in listed]

    def _image(self, entry: Any) -> SavedImage:
        try:
            name, layer_names = entry["Config"], entry["Layers"]
            config = self._documents[self._resolved(name)]
            layers = [self._layers[self._resolved(layer)] for layer in layer_names]
            diffs = json.loads(config)["rootfs"]["diff_ids"]
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError(f"Docker's archive lacks what its manifest.json names: {error}") from error
        # A layer that came compressed is not unpacked to be hashed: its digest is not the one of its content.
        if len(layers) != len(diffs) or any(
            not layer.suffix and layer.digest != diff for layer, diff in zip(layers, diffs)
        ):
            raise ArchiveError(f"the layers of {entry.get('RepoTags')} in Docker's archive are not those of its config")
        manifest = {
            "schemaVersion": 2,
            "mediaType": image.OCI_MANIFEST,
            "config": _descriptor(CONFIG, self._cache.put(config)),
            "layers": [_descriptor(LAYER + (layer.suffix or "+gzip"), layer.blob.result()) for layer in layers],
        }
        blob = self._cache.put(json.dumps(manifest, separators=(",", ":")).encode())
        identity = f"sha256:{hashlib.sha256(config).hexdigest()}"
        return SavedImage(
            identity, tuple(entry.get("RepoTags") or ()), Descriptor(image.OCI_MANIFEST, blob.digest, blob.size)
        )

    def _parsed(self, name: str) -> Any:
        try:
            return json.loads(self._documents[name])
        except KeyError:
            raise ArchiveError(
                f"Docker's archive has no {name}: it is cut off, or not what docker save writes"
            ) from None
        except ValueError as error:
            raise ArchiveError(f"{name} in Docker's archive is not JSON: {error}") from error

    def _resolved(self, name: str) -> str:
        """The name behind links; a circle of them ends where it is not found."""
        for _step in range(len(self._links) + 1):
            if name not in self._links:
                break
            name = self._links[name]
        return name


def compressed_layer(cache: BlobCache, diff: str) -> Blob | None:
    """The compressed form of a layer with this diff ID that an earlier build left in the cache."""
    note = cache.note("layers", _key(diff))
    if note is None or not cache.has(note.get("digest", ""), note.get("size")):
        return None
    return Blob(note["digest"], note["size"])


def _key(digest: str) -> str:
    # Another level gives other bytes, so an image would have another digest.
    return f"{digest.partition(':')[2]}-{LEVEL}"


def _is_layer(name: str, head: bytes) -> bool:
    if not name.startswith("blobs/"):
        return False
    return head[257:262] == b"ustar" or head.startswith(tuple(_MAGIC)) or not head.lstrip().startswith(b"{")


def _descriptor(media_type: str, blob: Blob) -> Mapping[str, Any]:
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}


def _inside(name: str, member: str) -> str:
    path = posixpath.normpath(name)
    if path.startswith(("/", "../")) or path == "..":
        raise ArchiveError(f"{member} in Docker's archive leads out of it: {name}")
    return path
