# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trivy's cache directory with versions of its databases in it.

<cache>/db          → .versions/db/<identity>, a relative link, so that it also holds where the cache is mounted
        java-db     → .versions/java-db/<identity>
        .versions/db/<identity>/trivy.db, metadata.json    one content, never written again
                                delivery.json              where it came from, and when
        .versions/lock                                     held while a run writes

A link is replaced by renaming: whoever opens the database finds the old one or the new one, both files of one version.
A scan that is under way has its files open; the version before is kept, so that it also finds what it opens later.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ...engines.trivy.database import Kind, Metadata
from ...errors import AirgapError
from ..bundle.state import locked, make_directory, read_json, remove_tree, write_json
from . import content
from .content import Content

CACHE_PATH = "/var/cache/trivy"
_VERSIONS = ".versions"
_RECORD = "delivery.json"
#: How the names of versions begin that a killed run was making, and of links.
_DRAFT = ".new-"
#: Digits of the identity in a version's name.
_DIGITS = 16


class Version(NamedTuple):
    """A content of the cache. ``path`` has no links in it. What is not known of one that somebody else brought is
    empty: ``digest`` of the source, ``sha256``, ``delivered_at``."""

    kind: Kind
    path: str
    metadata: Metadata
    size: int
    sha256: str = ""
    identity: str = ""
    digest: str = ""
    source: str = ""
    delivered_at: str = ""

    @property
    def file(self) -> str:
        """The database itself."""
        return os.path.join(self.path, self.kind.file)


class Cache:
    """The directory ``path``."""

    def __init__(self, path: str = CACHE_PATH) -> None:
        self.path = path

    # --- what is there ------------------------------------------------------------------------------------------------

    def present(self, kind: Kind) -> str | None:
        """The directory that Trivy would read, without links; None when there is none."""
        path = os.path.join(self.path, kind.directory)
        if not os.path.isdir(path):
            return None
        return os.path.realpath(path)

    def version(self, kind: Kind, path: str, deep: bool = False) -> Version:
        """What is in a directory, whole as far as can be seen from its size and times; with ``deep``, by its hash.

        Raises AirgapError when it is not what was brought, or no database at all.
        """
        record = self._record(path)
        metadata, size = content.look(kind, path)
        if not record:
            found = content.from_directory(kind, path) if deep else None
            return Version(kind, path, metadata, size, found.sha256 if found else "", found.identity if found else "")
        if deep or _stamp(os.path.join(path, kind.file)) != record.get("stamp"):
            found = content.from_directory(kind, path)
            if found.identity != record.get("identity"):
                raise AirgapError(
                    f"{path} is not what was brought there at {record.get('delivered_at')}: {kind.file} is now "
                    f"sha256:{found.sha256}, and was sha256:{record.get('sha256')}. Bring it again: state "
                    "delivered, with force"
                )
        texts = {key: str(record.get(key, "")) for key in ("sha256", "identity", "digest", "source", "delivered_at")}
        return Version(kind, path, metadata, size, **texts)

    def kept(self, kind: Kind, deep: bool = False) -> list[Version]:
        """The versions that were brought and are whole, the latest delivery last."""
        found = []
        for name in _names(self._versions(kind)):
            if not name.startswith(_DRAFT):
                try:
                    found.append(self.version(kind, os.path.join(self._versions(kind), name), deep))
                except AirgapError:
                    continue  # damaged: nobody goes back to it, and the next delivery removes it
        return sorted(found, key=lambda version: (version.delivered_at, version.path))

    # --- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self, holder: str) -> Iterator[None]:
        """Hold the cache for one delivery. Raises AirgapError that names whoever else holds it."""
        make_directory(os.path.join(self.path, _VERSIONS))
        with locked(os.path.join(self.path, _VERSIONS, "lock"), self.path, holder):
            yield

    def draft(self, kind: Kind) -> str:
        """A new directory beside the versions; what killed runs left of theirs goes."""
        versions = self._versions(kind)
        make_directory(versions)
        for name in _names(versions):
            if name.startswith(_DRAFT):
                remove_tree(os.path.join(versions, name))
        path = os.path.join(versions, f"{_DRAFT}{secrets.token_hex(8)}")
        make_directory(path)
        return path

    def planned(self, kind: Kind, found: Content) -> str:
        """Where a content has its place."""
        return os.path.join(self._versions(kind), found.identity[:_DIGITS])

    def keep(self, kind: Kind, draft: str, found: Content, **about: str) -> None:
        """Make the draft a version. ``about`` is digest, source and delivered_at."""
        self._write_record(kind, draft, found, **about)
        self._rename(draft, self.planned(kind, found))

    def switch(self, kind: Kind, path: str) -> None:
        """Let Trivy read this version from now on. A directory in place of the link becomes a version as well, when
        it is a database; that exchange, once in a cache's life, leaves a moment in which there is none."""
        link = os.path.join(self.path, kind.directory)
        if os.path.isdir(link) and not os.path.islink(link):
            self._take_over(kind, link)
        temporary = os.path.join(self._versions(kind), f"{_DRAFT}{secrets.token_hex(8)}")
        try:
            os.symlink(os.path.relpath(path, os.path.realpath(self.path)), temporary)
            os.replace(temporary, link)
        except OSError as error:
            raise AirgapError(f"{link} cannot be replaced: {error.strerror}") from error

    def prune(self, kind: Kind, keep: set[str]) -> list[str]:
        """Remove every version but those; returns what is gone."""
        versions = self._versions(kind)
        gone = [path for path in (os.path.join(versions, name) for name in _names(versions)) if path not in keep]
        for path in gone:
            remove_tree(path)
        return gone

    def _take_over(self, kind: Kind, directory: str) -> None:
        try:
            found = content.from_directory(kind, directory)
        except AirgapError:
            remove_tree(directory)  # Trivy could not use it either
            return
        name = self.planned(kind, found)
        if os.path.isdir(name):
            remove_tree(directory)
            return
        self._write_record(kind, directory, found, source="found in the cache")
        self._rename(directory, name)

    def _rename(self, source: str, target: str) -> None:
        try:
            if os.path.lexists(target):
                remove_tree(target)  # damaged, or it would not be made again
            os.rename(source, target)
        except OSError as error:
            raise AirgapError(f"{source} cannot become {target}: {error.strerror}") from error

    def _versions(self, kind: Kind) -> str:
        return os.path.join(os.path.realpath(self.path), _VERSIONS, kind.directory)

    def _write_record(self, kind: Kind, directory: str, found: Content, **about: str) -> None:
        stamp = _stamp(os.path.join(directory, kind.file))
        record = {"sha256": found.sha256, "identity": found.identity, "stamp": stamp, **about}
        write_json(os.path.join(directory, _RECORD), record)

    def _record(self, path: str) -> dict[str, Any]:
        try:
            record = read_json(os.path.join(path, _RECORD))
        except AirgapError:
            return {}
        return record if isinstance(record, dict) else {}


def _stamp(path: str) -> list[int]:
    """What changes when a file is written to."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise AirgapError(f"{path} cannot be looked at: {error.strerror}") from error
    return [found.st_size, found.st_mtime_ns]


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AirgapError(f"{directory} cannot be read: {error.strerror}") from error
