# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the inside keeps of its bundles: one directory for each name, with history, journal, content and a lock.

<state path>/<name>/history.json    what was imported, when and by whom; the last import last
                    journal.json    the run under way, or the one that was killed
                    content/        every file of the bundle but the image layout
                    content.new/    the next content while it is made
                    registry.tar    the registry's own image for ``docker load``, described by registry.json
                    lock            held while a run writes; its text says who
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from ...adapters.node import Node
from ...engines.bundle.manifest import BundleError, Imported, Reader, canonical, check_name
from ...errors import AirgapError

#: How the names of files begin that a killed run may leave behind.
TEMPORARY = ".lumen-"
_DIRECTORY_MODE = 0o755
#: Bytes. A history of ten thousand imports has some 3 MB.
_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True)
class Journal:
    """A run that writes: whose bundle (``sha256`` of its bundle.json), and since when.

    It begins once all hashes were found right. What was written since needs no entry: every step looks at what is
    there before it writes.
    """

    sha256: str
    started_at: str


class State:
    """The directory of the bundle ``name`` under ``path``."""

    def __init__(self, path: str, name: str) -> None:
        self.name = name
        self.path = os.path.join(path, name)
        self.content = os.path.join(self.path, "content")
        self.staged = os.path.join(self.path, "content.new")
        self.retired = os.path.join(self.path, "content.old")
        self.uploads = os.path.join(self.path, "uploads")
        self.registry_archive = os.path.join(self.path, "registry.tar")
        self._history = os.path.join(self.path, "history.json")
        self._journal = os.path.join(self.path, "journal.json")
        self._archive_record = os.path.join(self.path, "registry.json")

    # --- history and journal ----------------------------------------------------------------------------------------

    def history(self) -> list[Imported]:
        """Every import of this name, the last one last."""
        document = read_json(self._history)
        if document is None:
            return []
        try:
            return [_imported(Reader(entry, f"{self._history}[{index}]")) for index, entry in enumerate(document)]
        except (ValueError, TypeError) as error:
            raise AirgapError(
                f"{self._history} is damaged: {error}. It says which bundles may still come in: restore it from a "
                "backup, or remove it to begin anew"
            ) from error

    def add_to_history(self, entry: Imported) -> None:
        """Append an import."""
        write_json(self._history, [item._asdict() for item in (*self.history(), entry)])

    def journal(self, sha256: str) -> Journal | None:
        """The journal of a killed run of this very bundle."""
        document = read_json(self._journal)
        try:
            found = Journal(**document)
        except TypeError:
            return None  # none, or of a version that kept something else: the run begins anew
        return found if found.sha256 == sha256 else None

    def write_journal(self, journal: Journal) -> None:
        """Note how far the run is."""
        write_json(self._journal, asdict(journal))

    def finish(self) -> None:
        """The run has come to its end: nothing is left of it, nor of one that was killed."""
        remove_tree(self.staged)
        remove_tree(self.retired)
        remove_tree(self.uploads)
        Node().remove(self._journal)

    # --- the archive of the registry's image ------------------------------------------------------------------------

    def archive_record(self) -> dict[str, Any]:
        """What registry.tar was made from, empty when that is not known."""
        document = read_json(self._archive_record)
        return document if isinstance(document, dict) else {}

    def write_archive_record(self, record: dict[str, Any]) -> None:
        """Note what registry.tar was made from."""
        write_json(self._archive_record, record)

    # --- content ----------------------------------------------------------------------------------------------------

    def swap_content(self) -> None:
        """Let the staged content take the place of the one before. Killed in between, it can be done again."""
        try:
            if os.path.isdir(self.content):
                remove_tree(self.retired)
                os.rename(self.content, self.retired)
            os.rename(self.staged, self.content)
        except OSError as error:
            raise AirgapError(f"{self.content} cannot be replaced: {error}") from error
        remove_tree(self.retired)

    # --- the lock ---------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self, holder: str) -> Iterator[None]:
        """Hold the directory for one run. Raises AirgapError that names whoever else holds it."""
        make_directory(self.path)
        with locked(os.path.join(self.path, "lock"), self.path, holder):
            self._remove_temporary()
            yield

    def _remove_temporary(self) -> None:
        for name in os.listdir(self.path):
            if name.startswith(TEMPORARY):
                Node().remove(os.path.join(self.path, name))


def names(path: str) -> list[str]:
    """The names of the bundles that have a directory under ``path``."""
    try:
        with os.scandir(path) as found:
            return sorted(entry.name for entry in found if entry.is_dir(follow_symlinks=False) and _is_name(entry.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AirgapError(f"{path} cannot be read: {error.strerror}") from error


def read_json(path: str) -> Any:
    """The parsed file, None when it is not there."""
    try:
        with open(path, "rb") as file:
            return json.loads(file.read(_LIMIT))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise AirgapError(f"{path} cannot be read: {error}") from error


def write_json(path: str, document: Any) -> None:
    """Replace a file as a whole, and have it on the disk before going on."""
    with replacing(path, sync=True) as file:
        file.write(canonical(document))


@contextmanager
def replacing(path: str, mode: int = 0o644, sync: bool = False) -> Iterator[BinaryIO]:
    """A temporary file that takes the place of ``path`` at the end, or goes away when something fails.

    ``sync`` has it on the disk before that: for what nothing else would notice to be missing.
    """
    make_directory(os.path.dirname(path))
    try:
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=TEMPORARY)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fchmod(handle, mode)
                if sync:
                    os.fsync(handle)
            os.replace(temporary, path)
        except Exception:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise AirgapError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def locked(path: str, what: str, holder: str) -> Iterator[None]:
    """Hold the lock ``path`` while ``what`` is written. Raises AirgapError that names whoever else holds it."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise AirgapError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.pread(handle, 4096, 0).decode(errors="replace").strip() or "another run"
            raise AirgapError(f"{what} is being written by {other}: wait for it to end, then run again") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{holder}\n".encode(), 0)
        yield
    finally:
        os.close(handle)  # and with it goes the lock; the file stays, or two runs could hold two of them


def make_directory(path: str) -> None:
    """Make a directory and those above it, with mode 0755 whatever the umask; one that is there stays as it is."""
    try:
        if not os.path.isdir(path):
            make_directory(os.path.dirname(path))
            os.mkdir(path)
            os.chmod(path, _DIRECTORY_MODE)
    except FileExistsError:
        if not os.path.isdir(path):
            raise AirgapError(f"{path} cannot be made: a file has its name") from None
    except OSError as error:
        raise AirgapError(f"{path} cannot be made: {error.strerror}") from error


def remove_tree(path: str) -> None:
    """Remove a directory with everything in it, when it is there; of a link the link alone."""
    if os.path.islink(path):
        Node().remove(path)
        return
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AirgapError(f"{path} cannot be removed: {error}") from error


def _is_name(name: str) -> bool:
    try:
        return bool(check_name(name))
    except BundleError:
        return False


def _imported(reader: Reader) -> Imported:
    return Imported(
        name=reader.text("name"),
        number=reader.number("number"),
        created=reader.text("created"),
        imported_at=reader.text("imported_at"),
        by=reader.text("by"),
        sha256=reader.text("sha256"),
        forced=bool(reader.data.get("forced")),
    )
