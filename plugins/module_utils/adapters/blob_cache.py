# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blobs on disk by their digest, and notes about what they were made from: what one build has fetched or compressed,
the next one does not.

A blob stands under its name only when it is whole. Nobody trusts it for that: whoever packs one hashes it again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from ..errors import AirgapError
from ..times import Clock

#: Seconds for which what no build has used stays.
KEEP = 30 * 86400
#: Seconds to wait for another build that uses the same cache.
LOCK_DEADLINE = 1800.0


class CacheError(AirgapError):
    """The cache could not be read or written."""


class Blob(NamedTuple):
    """A blob of the cache: digest, and size in bytes."""

    digest: str
    size: int


class BlobCache:
    """``path`` is a directory of its own; it is made when it is not there."""

    def __init__(self, path: str) -> None:
        self.path = path

    # --- blobs -----------------------------------------------------------------------------------------------------

    def blob_path(self, digest: str) -> str:
        """Where a blob lies, or would lie."""
        return os.path.join(self.path, "blobs", *digest.split(":"))

    def has(self, digest: str, size: int | None = None) -> bool:
        """True when the blob is here, in this size; it counts as used now."""
        try:
            found = os.stat(self.blob_path(digest)).st_size
            if size is not None and found != size:
                return False
            os.utime(self.blob_path(digest))
        except OSError:
            return False
        return True

    def open(self, digest: str) -> BinaryIO:
        """Open a blob that is here."""
        try:
            return open(self.blob_path(digest), "rb")
        except OSError as error:
            raise CacheError(f"{self.blob_path(digest)} cannot be read: {error.strerror}") from error

    def read(self, digest: str) -> bytes:
        """A small blob as a whole."""
        with self.open(digest) as file:
            return file.read()

    def draft(self) -> Draft:
        """A new blob to be written; ``commit`` gives it its name."""
        return Draft(self, self._temporary())

    def put(self, body: bytes) -> Blob:
        """Store a small blob."""
        with self.draft() as draft:
            draft.write(body)
            return draft.commit()

    def forget(self, digest: str) -> None:
        """Remove a blob that turned out to be corrupt."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.blob_path(digest))

    # --- notes -----------------------------------------------------------------------------------------------------

    def note(self, kind: str, key: str) -> dict[str, Any] | None:
        """What was remembered under a hexadecimal key, None when nothing was."""
        path = self._note(kind, key)
        try:
            with open(path, "rb") as file:
                content = json.loads(file.read())
            os.utime(path)
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def remember(self, kind: str, key: str, content: dict[str, Any]) -> None:
        """Write a note."""
        temporary = self._temporary()
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(content, file, sort_keys=True)
        self.adopt(temporary, self._note(kind, key))

    # --- the directory ---------------------------------------------------------------------------------------------

    def _note(self, kind: str, key: str) -> str:
        return os.path.join(self.path, kind, f"{key}.json")

    def _temporary(self) -> str:
        return os.path.join(self.scratch(), "draft")

    def scratch(self) -> str:
        """A new directory for work under way, in the same file system; ``open`` removes what killed builds left."""
        folder = os.path.join(self.path, "tmp")
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            return tempfile.mkdtemp(dir=folder)
        except OSError as error:
            raise CacheError(f"the cache {self.path} cannot be written: {error.strerror}") from error

    def adopt(self, source: str, target: str) -> None:
        """Give something that was written in a scratch directory its place, and remove that directory."""
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        os.replace(source, target)
        shutil.rmtree(os.path.dirname(source), ignore_errors=True)

    @contextlib.contextmanager
    def locked(self, clock: Clock) -> Iterator[None]:
        """Hold the cache for one build; waits for another one. Removes what killed builds left, and what is old."""
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            handle = os.open(os.path.join(self.path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CacheError(f"the cache {self.path} cannot be written: {error.strerror}") from error
        try:
            self._lock(handle, clock)
            shutil.rmtree(os.path.join(self.path, "tmp"), ignore_errors=True)
            self._prune(clock.time() - KEEP)
            yield
        finally:
            os.close(handle)

    def _lock(self, handle: int, clock: Clock) -> None:
        deadline = clock.monotonic() + LOCK_DEADLINE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise CacheError(f"the cache {self.path} cannot be locked: {error.strerror}") from error
            else:
                return
            if clock.monotonic() >= deadline:
                raise CacheError(
                    f"another build has used the cache {self.path} for {LOCK_DEADLINE:.0f} s: "
                    "wait until it is done, or give this one a cache_path of its own"
                )
            clock.sleep(1.0)

    def _prune(self, before: float) -> None:
        for folder, _directories, files in os.walk(self.path):
            for name in files:
                path = os.path.join(folder, name)
                if name != "lock" and os.stat(path).st_mtime < before:
                    os.unlink(path)


class Draft:
    """A blob on its way into the cache. Left without ``commit`` it is gone."""

    def __init__(self, cache: BlobCache, path: str) -> None:
        self._cache = cache
        self._path = path
        self._hash = hashlib.sha256()
        self._size = 0
        self._file = open(path, "wb")  # noqa: SIM115 - closed by __exit__

    def write(self, data: bytes) -> None:
        """Add bytes."""
        try:
            self._file.write(data)
        except OSError as error:
            raise CacheError(f"the cache {self._cache.path} cannot be written: {error.strerror}") from error
        self._hash.update(data)
        self._size += len(data)

    def commit(self) -> Blob:
        """Close the blob and give it the name of its content."""
        try:
            self._file.close()
            blob = Blob(f"sha256:{self._hash.hexdigest()}", self._size)
            self._cache.adopt(self._path, self._cache.blob_path(blob.digest))
        except OSError as error:
            raise CacheError(f"the cache {self._cache.path} cannot be written: {error.strerror}") from error
        return blob

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        shutil.rmtree(os.path.dirname(self._path), ignore_errors=True)
