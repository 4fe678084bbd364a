# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The directory in which a registry (distribution, with its file system driver) keeps its blobs.

A registry never overwrites a blob that it has, so a damaged one has to be taken away before it can be sent again.
"""

from __future__ import annotations

import hashlib
import os

from ..errors import AirgapError

_CHUNK = 1 << 20


class RegistryStorage:
    """``path`` is what is mounted at /var/lib/registry in the registry's container."""

    def __init__(self, path: str) -> None:
        self._blobs = os.path.join(path, "docker", "registry", "v2", "blobs")
        if not os.path.isdir(self._blobs):
            raise AirgapError(
                f"{path} is not the storage of a registry: it has no docker/registry/v2/blobs. "
                "The task has to run on the registry's node, and storage_path is the registry's own"
            )

    def path(self, digest: str) -> str:
        """The file that holds a blob or manifest."""
        algorithm, _colon, name = digest.partition(":")
        return os.path.join(self._blobs, algorithm, name[:2], name, "data")

    def state(self, digest: str) -> str:
        """``whole``, ``damaged`` (the content is not what the digest says), or ``missing``."""
        found = hashlib.new(digest.partition(":")[0])
        try:
            with open(self.path(digest), "rb") as file:
                while data := file.read(_CHUNK):
                    found.update(data)
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            raise AirgapError(f"{self.path(digest)} cannot be read: {error.strerror}") from error
        return "whole" if found.hexdigest() == digest.partition(":")[2] else "damaged"

    def remove_damaged(self, digest: str) -> bool:
        """Take away content that is not what its digest says; True when there was such. Whole content is never touched.

        It is hashed here and now, whatever was found before.
        """
        if self.state(digest) != "damaged":
            return False
        try:
            os.unlink(self.path(digest))
        except OSError as error:
            raise AirgapError(
                f"the damaged {self.path(digest)} cannot be removed: {error.strerror}. Run the task with become"
            ) from error
        return True
