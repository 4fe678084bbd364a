# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a bundle in a directory of the inside, as one: the next content is made beside the present one, of links
to what stays and of what the bundle brings, and takes its place at once."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ...engines.bundle.manifest import BundleFile
from ...errors import AirgapError
from .meter import Meter
from .state import State, make_directory, replacing
from .verify import Bundle, corrupt

_BUFFER = 1024 * 1024


class Found(NamedTuple):
    """A file that is there: hex digest, bytes, permissions as four octal digits."""

    sha256: str
    size: int
    mode: str


@dataclass(frozen=True)
class ContentPlan:
    """What becomes of the content: ``before`` and ``after`` say what the paths have that differ, ``write`` comes out of
    the bundle. ``source`` is the directory of what can be kept (``usable``), ``staged`` what a killed run has made."""

    before: dict[str, str]
    after: dict[str, str]
    write: tuple[BundleFile, ...]
    source: str
    usable: dict[str, Found]
    staged: dict[str, Found]

    @property
    def changed(self) -> bool:
        """Whether anything differs."""
        return self.before != self.after

    @property
    def bytes_to_write(self) -> int:
        """The sizes of what comes out of the bundle, together."""
        return sum(file.size for file in self.write)

    @property
    def removed(self) -> int:
        """How many files go away."""
        return len(self.before.keys() - self.after.keys())


def plan(bundle: Bundle, state: State, continued: bool) -> ContentPlan:
    """Compare the content with what the bundle wants; ``continued`` when what is staged is of this very bundle.

    Raises AirgapError when a file that a delta leaves out is not here.
    """
    present = scan(state.content)
    # Killed between its two renames, a run has left the content of before under the other name.
    source = state.content if os.path.isdir(state.content) else state.retired
    usable = present or scan(source)
    staged = scan(state.staged) if continued else {}
    absent = {file.path for file in bundle.manifest.absent_files}
    write: list[BundleFile] = []
    wanted: dict[str, Found] = {}
    for file in bundle.manifest.unpacked:
        wanted[file.path] = Found(file.sha256, file.size, file.mode)
        if _same(usable.get(file.path), file) or _same(staged.get(file.path), file):
            continue
        if file.path in absent:
            raise AirgapError(
                f"{bundle} leaves out {file.path} ({file.sha256}), which should be in {state.content}, but that has "
                f"{usable[file.path].sha256 if file.path in usable else 'no such file'}: "
                "build a full bundle, or one against a fresh inventory"
            )
        write.append(file)
    different = sorted(path for path in {**present, **wanted} if present.get(path) != wanted.get(path))
    return ContentPlan(
        before={path: _text(present[path]) for path in different if path in present},
        after={path: _text(wanted[path]) for path in different if path in wanted},
        write=tuple(write),
        source=source,
        usable=usable,
        staged=staged,
    )


def stage(bundle: Bundle, state: State, todo: ContentPlan, meter: Meter) -> None:
    """Make the next content. What a killed run has already made of it is kept when it is right."""
    wanted = {file.path: file for file in bundle.manifest.unpacked}
    for path, found in todo.staged.items():
        if path not in wanted or not _same(found, wanted[path]):
            os.unlink(os.path.join(state.staged, path))
    make_directory(state.staged)
    for path, file in wanted.items():
        target = os.path.join(state.staged, path)
        if not _same(todo.staged.get(path), file):
            if _same(todo.usable.get(path), file):
                _link(os.path.join(todo.source, path), target)
            else:
                _write(bundle, file, target, meter)
        _chmod(target, file)


def scan(directory: str) -> dict[str, Found]:
    """Every file under a directory with its hash; what is no plain file has an empty one, so that it is replaced.

    Raises AirgapError when the directory is a link: what is written to it would land elsewhere.
    """
    if os.path.islink(directory):
        raise AirgapError(
            f"{directory} is a symbolic link, and is replaced as a whole by an import: remove the link. To have the "
            "bundles on another disk, mount it there, or give its path as state_path"
        )
    return {os.path.relpath(path, directory): _hashed(path) for path in _walk(directory)}


def hash_file(path: str) -> str:
    """The sha256 of a file as hex."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_BUFFER))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def _walk(directory: str) -> Iterator[str]:
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        raise AirgapError(f"{directory} cannot be read: {error.strerror}") from error
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        else:
            yield entry.path


def _hashed(path: str) -> Found:
    try:
        status = os.lstat(path)
        return Found(
            hash_file(path) if stat.S_ISREG(status.st_mode) else "",
            status.st_size,
            f"{stat.S_IMODE(status.st_mode):04o}",
        )
    except OSError as error:
        raise AirgapError(f"{path} cannot be read: {error.strerror}") from error


def _same(found: Found | None, file: BundleFile) -> bool:
    return found is not None and (found.sha256, found.size) == (file.sha256, file.size)


def _text(found: Found) -> str:
    return f"sha256:{found.sha256} {found.mode}"


def _link(source: str, target: str) -> None:
    make_directory(os.path.dirname(target))
    try:
        os.link(source, target)
    except OSError as error:
        raise AirgapError(f"{target} cannot be made: {error.strerror}") from error


def _write(bundle: Bundle, file: BundleFile, target: str, meter: Meter) -> None:
    """Out of the bundle, hashed once more on the way: the medium may have been changed since."""
    digest = hashlib.sha256()
    with bundle.store.open(file.path) as source, replacing(target) as copy:
        # Not to the end of the source, which may have grown without limit since its size was looked at.
        left = file.size
        while data := source.read(min(left, _BUFFER)):
            digest.update(data)
            copy.write(data)
            meter.add(len(data), file.path)
            left -= len(data)
        if digest.hexdigest() != file.sha256:
            raise corrupt(bundle, file, digest.hexdigest())


def _chmod(path: str, file: BundleFile) -> None:
    try:
        os.chmod(path, int(file.mode, 8))
    except OSError as error:
        raise AirgapError(f"{path} cannot get the mode {file.mode}: {error.strerror}") from error
