# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where interrupted uploads can be continued, kept on the node that uploads: one small file for each.

The name of a file is the hash of what is uploaded where. Whoever uploads holds a lock on it, which the kernel frees
when the process is killed; a second run at the same time finds it locked and uploads on its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from typing import Protocol

from ..errors import AirgapError

# What a registry forgets after a week (distribution's upload purging) is not worth keeping longer.
_KEPT = 7 * 86400.0
_READ = 64 * 1024


class Entry(Protocol):
    """What is kept of one upload."""

    @property
    def location(self) -> str | None:
        """The URL that the registry gave to an upload that was interrupted, None when there is none."""

    def save(self, location: str) -> None:
        """Keep the URL of the upload that begins now."""

    def done(self) -> None:
        """Forget it."""


class Unkept:
    """An upload that nobody can continue."""

    location: str | None = None

    def save(self, location: str) -> None:
        """Nothing is kept."""

    def done(self) -> None:
        """Nothing was kept."""


class _File:
    """An entry in a file that is open and locked.

    It is written in place, for the lock belongs to the file: one that a kill cut short is no JSON and counts as none.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        try:
            self.location: str | None = json.loads(os.pread(descriptor, _READ, 0))["location"]
        except (ValueError, KeyError, TypeError):
            self.location = None

    def save(self, location: str) -> None:
        """Keep the URL of the upload that begins now."""
        data = json.dumps({"location": location}).encode()
        os.pwrite(self._descriptor, data, 0)
        os.ftruncate(self._descriptor, len(data))

    def done(self) -> None:
        """Forget it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


class UploadJournal:
    """A directory that only its user may enter; it is made when the first entry is."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    @contextlib.contextmanager
    def entry(self, host: str, repository: str, digest: str) -> Iterator[Entry]:
        """The entry of one blob on its way to one repository, for as long as the block runs."""
        name = hashlib.sha256(f"{host}/{repository}@{digest}".encode()).hexdigest()
        path = os.path.join(self._directory, f"{name}.json")
        descriptor = self._claim(path)
        try:
            yield Unkept() if descriptor is None else _File(path, descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _claim(self, path: str) -> int | None:
        """Open and lock the file; None when another process has it."""
        while True:
            try:
                os.makedirs(self._directory, 0o700, exist_ok=True)
                self._forget_old()
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise AirgapError(
                    f"interrupted uploads cannot be noted in {self._directory}: {error.strerror}. "
                    "Name a directory that this user may write in journal_path"
                ) from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return None
            if os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)  # its last holder was done with it, and removed it

    def _forget_old(self) -> None:
        """Remove what nobody came back for. One that is being written was touched when it was begun."""
        for item in os.scandir(self._directory):
            with contextlib.suppress(OSError):
                if item.name.endswith(".json") and time.time() - item.stat(follow_symlinks=False).st_mtime > _KEPT:
                    os.unlink(item.path)
