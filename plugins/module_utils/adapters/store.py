# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Named files of a directory, a tar, or a tar cut into volumes, read where they lie; nothing is extracted.

What may lead out of its place is refused: absolute paths, "..", links, devices, and members that come twice.
"""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol

from ..engines.bundle.manifest import MANIFEST, BundleError, check_path
from ..errors import AirgapError

_VOLUME = re.compile(r"(?P<stem>.+\.tar)\.(?P<number>[0-9]{3,})")
_BLOCK = tarfile.BLOCKSIZE
_BUFFER = 256 * 1024
# An extended header holds a long path or a large size. One without limit would be read into memory before any
# signature has been looked at.
_EXTENDED_LIMIT = 64 * 1024
# Digits of a number in an extended header: Python refuses to read one of thousands.
_DIGITS = 20
# More than any bundle has, and what still fits into memory: the members are counted before they are known to be good.
_MEMBERS_LIMIT = 1_000_000
_TYPES = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a named pipe",
}
# Times and owners of an extended header, which nobody here asks for.
_IGNORED_KEYS = {"mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment"}


class StoreError(AirgapError):
    """A directory or tar that cannot be read, or that holds what must not be in it."""


class Store(Protocol):
    """Named files; names are relative paths with slashes. ``where`` is what errors call it."""

    where: str

    def names(self) -> Iterator[str]:
        """Every file there is. Raises StoreError for what is no plain file inside."""

    def size(self, name: str) -> int | None:
        """Bytes of a file, None when it is not there."""

    def open(self, name: str) -> BinaryIO:
        """A seekable stream of its own. Raises StoreError when there is no such file."""

    def close(self) -> None:
        """Give back what is open; streams must not be read after that."""

    def __enter__(self) -> Store: ...

    def __exit__(self, *_exception: object) -> None: ...


class DirectoryStore:
    """The files under a directory. ``links`` also follows symbolic links: for a directory that is trusted."""

    def __init__(self, path: str, links: bool = False) -> None:
        self.where = path
        self._links = links

    def names(self) -> Iterator[str]:
        """Every file, in no order."""
        return self._walk("")

    def size(self, name: str) -> int | None:
        """Bytes of a file, None when it is not there."""
        path = self._path(name)
        try:
            found = os.stat(path) if self._links else os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        self._check_kind(path, found.st_mode)
        return found.st_size

    def open(self, name: str) -> BinaryIO:
        """A stream of the file."""
        path = self._path(name)
        try:
            # A named pipe would wait here for its other end.
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if self._links else os.O_NOFOLLOW))
        except FileNotFoundError:
            raise StoreError(f"{name} is missing in {self.where}") from None
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        try:
            self._check_kind(path, os.fstat(handle).st_mode)
            return os.fdopen(handle, "rb", _BUFFER)
        except BaseException:
            os.close(handle)
            raise

    def close(self) -> None:
        """Nothing is kept open."""

    def __enter__(self) -> DirectoryStore:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _path(self, name: str) -> str:
        checked = _checked(name, self.where)
        if not self._links:
            # The last part is looked at where it is opened; no part above it may be a link either.
            parts = checked.split("/")
            for end in range(1, len(parts)):
                above = os.path.join(self.where, *parts[:end])
                if os.path.islink(above):
                    raise StoreError(f"{above} is a symbolic link: a bundle holds plain files and directories alone")
        return os.path.join(self.where, checked)

    def _walk(self, below: str) -> Iterator[str]:
        directory = os.path.join(self.where, below)
        try:
            with os.scandir(directory) as found:
                entries = list(found)
        except OSError as error:
            raise StoreError(f"{directory} cannot be read: {error.strerror}") from error
        for entry in entries:
            name = _checked(f"{below}/{entry.name}" if below else entry.name, self.where)
            if entry.is_dir(follow_symlinks=self._links):
                yield from self._walk(name)
            else:
                self._check_kind(entry.path, entry.stat(follow_symlinks=self._links).st_mode)
                yield name

    @staticmethod
    def _check_kind(path: str, mode: int) -> None:
        if not stat.S_ISREG(mode):
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "a directory" if stat.S_ISDIR(mode) else "a device"
            raise StoreError(f"{path} is {kind}, where a plain file is expected")


class _Member(NamedTuple):
    offset: int
    size: int


class TarStore:
    """The members of a plain tar that lies in one file, or in volumes that follow each other."""

    def __init__(self, parts: Sequence[str]) -> None:
        self.where = parts[0] if len(parts) == 1 else f"{parts[0]} to {os.path.basename(parts[-1])}"
        self._file = _Volumes(parts)
        try:
            self._members = dict(self._read_members())
        except BaseException:
            self.close()
            raise

    def names(self) -> Iterator[str]:
        """Every file, in the order of the tar."""
        return iter(self._members)

    def size(self, name: str) -> int | None:
        """Bytes of a file, None when it is not there."""
        member = self._members.get(name)
        return None if member is None else member.size

    def open(self, name: str) -> BinaryIO:
        """A stream of the file; several may be read at once, also by several threads."""
        member = self._members.get(name)
        if member is None:
            raise StoreError(f"{name} is missing in {self.where}")
        return io.BufferedReader(_Window(self._file, member), _BUFFER)

    def close(self) -> None:
        """Close the volumes."""
        self._file.close()

    def __enter__(self) -> TarStore:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _read_members(self) -> Iterator[tuple[str, _Member]]:
        """Read the headers alone. tarfile would do it too, but follows links and believes every size."""
        seen: set[str] = set()
        offset = 0
        extended: dict[str, str] = {}
        while True:
            header = self._header(offset)
            if header is None:
                return
            offset += _BLOCK
            if header.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
                extended = {**extended, **self._extended(header, offset)}
                offset += _blocks(header.size)
                continue
            size, name = self._applied(header, extended)
            extended = {}
            if name or header.type != tarfile.DIRTYPE:
                if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
                    kind = _TYPES.get(header.type, f"of the type {header.type!r}")
                    raise StoreError(f"{self.where}: {name} is {kind}, where a plain file is expected")
                _checked(name, self.where)
            if header.type != tarfile.DIRTYPE:
                if name in seen:
                    raise StoreError(f"{self.where} has {name} twice: which of the two is meant cannot be told")
                if offset + size > self._file.size:
                    raise self._truncated(f"{name} ends at byte {offset + size}")
                seen.add(name)
                if len(seen) > _MEMBERS_LIMIT:
                    raise StoreError(f"{self.where} has more than {_MEMBERS_LIMIT} files: no bundle has")
                yield name, _Member(offset, size)
                offset += _blocks(size)

    def _header(self, offset: int) -> tarfile.TarInfo | None:
        """The header at ``offset``; None at the end of the archive."""
        block = self._file.read_at(offset, _BLOCK)
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            return None
        except (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError):  # type: ignore[attr-defined]
            raise self._truncated("it has no end of archive") from None
        except tarfile.HeaderError as error:
            kind = "compressed, or no tar" if offset == 0 else "corrupt"
            raise StoreError(
                f"{self.where} is {kind} (byte {offset}: {error}). A bundle is a plain tar: copy it again"
            ) from None

    def _applied(self, header: tarfile.TarInfo, extended: dict[str, str]) -> tuple[int, str]:
        """Size and name of a member, without the ``./`` that ``tar -C directory .`` writes."""
        name = extended.get("path", header.name)
        while name.startswith("./"):
            name = name[2:]
        size = extended.get("size", str(header.size))
        if not size.isdecimal() or len(size) > _DIGITS:
            raise StoreError(f"{self.where}: the size of {name} is {size[:_DIGITS]}")
        if header.isdir():
            name = "" if name == "." else name.rstrip("/")
        return int(size), name

    def _extended(self, header: tarfile.TarInfo, offset: int) -> dict[str, str]:
        """What an extended header says of the member that follows it: ``path`` and ``size``, when it says them."""
        if not 0 <= header.size <= _EXTENDED_LIMIT:
            raise StoreError(f"{self.where}: byte {offset} begins a header of {header.size} bytes")
        body = self._file.read_at(offset, header.size)
        if len(body) < header.size:
            raise self._truncated("a header is cut")
        if header.type == tarfile.GNUTYPE_LONGNAME:
            return {"path": body.rstrip(b"\0").decode(errors="surrogateescape")}
        found: dict[str, str] = {}
        while body:
            length, _space, _rest = body.partition(b" ")
            end = int(length) if length.isdigit() and len(length) <= _DIGITS else 0
            key, equals, value = body[len(length) + 1 : end].partition(b"=")
            if not equals or value[-1:] != b"\n" or end > len(body):
                raise StoreError(f"{self.where}: the extended header at byte {offset} cannot be understood")
            name = key.decode(errors="replace")
            if name in ("path", "size"):
                found[name] = value[:-1].decode(errors="surrogateescape")
            elif name not in _IGNORED_KEYS:
                raise StoreError(f"{self.where}: the extended header at byte {offset} has the unknown key {name!r}")
            body = body[end:]
        return found

    def _truncated(self, what: str) -> StoreError:
        return StoreError(f"{self.where} is truncated: {what}, its size is {self._file.size} bytes{self._file.advice}")


class _Volumes:
    """Files one after the other, read by position: no reader disturbs another."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts: list[tuple[int, int, int]] = []  # begin, end, file descriptor
        self.size = 0
        match = _VOLUME.fullmatch(parts[-1])
        missing = f"{match['stem']}.{int(match['number']) + 1:03d}" if match else None
        self.advice = f". Is {missing} missing? Or copy it again" if missing else ". Copy it again"
        try:
            for part in parts:
                handle = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                found = os.fstat(handle)
                self._parts.append((self.size, self.size + found.st_size, handle))
                self.size += found.st_size
                if not stat.S_ISREG(found.st_mode):
                    raise StoreError(f"{part} is no plain file")
        except OSError as error:
            self.close()
            raise StoreError(f"{part} cannot be read: {error.strerror}") from error
        except StoreError:
            self.close()
            raise
        self._check_sizes(parts)

    def read_at(self, offset: int, size: int) -> bytes:
        """Bytes from a position, fewer at the end."""
        buffer = bytearray(size)
        return bytes(buffer[: self.read_into(memoryview(buffer), offset)])

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from a position; returns how far, less than all only at the end."""
        done = 0
        for begin, end, handle in self._parts:
            position = offset + done
            while begin <= position < end and done < len(buffer):
                count = os.preadv(handle, [buffer[done : done + end - position]], position - begin)
                if count == 0:
                    return done
                done += count
                position += count
        return done

    def close(self) -> None:
        """Close all files."""
        while self._parts:
            os.close(self._parts.pop()[2])

    def _check_sizes(self, parts: Sequence[str]) -> None:
        """A volume that is cut would shift all that follows: it is better named than found as a corrupt header."""
        sizes = [end - begin for begin, end, _handle in self._parts]
        for part, size in zip(parts[:-1], sizes[:-1]):
            if size != max(sizes):
                self.close()
                raise StoreError(f"{part} has {size} bytes, its neighbours have {max(sizes)}: copy it again")


class _Window(io.RawIOBase):
    """One member of the volumes as a file."""

    def __init__(self, file: _Volumes, member: _Member) -> None:
        super().__init__()
        self._file = file
        self._member = member
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._member.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        left = max(0, self._member.size - self._position)
        count = self._file.read_into(view[:left], self._member.offset + self._position)
        self._position += count
        return count


def open_store(path: str) -> DirectoryStore | TarStore:
    """The bundle at ``path``: a directory, a tar, any volume of one, or the directory that the tar or volumes lie in.

    Raises StoreError when there is none, when it cannot be told which one is meant, or when a volume is missing.
    """
    if os.path.isdir(path):
        return _open_directory(path)
    match = _VOLUME.fullmatch(path)
    if match:
        return TarStore(_volumes(match["stem"]))
    if not os.path.exists(path):
        volumes = _volumes(path) if os.path.exists(f"{path}.001") else None
        if volumes is None:
            raise StoreError(f"there is no bundle at {path}: give its directory, its tar, or a volume of it")
        return TarStore(volumes)
    return TarStore([path])


def _open_directory(path: str) -> DirectoryStore | TarStore:
    if os.path.lexists(os.path.join(path, MANIFEST)):
        return DirectoryStore(path)
    names = sorted(os.listdir(path))
    stems = sorted({match["stem"] for name in names if (match := _VOLUME.fullmatch(name))})
    found = stems + [name for name in names if name.endswith(".tar")]
    if len(found) != 1:
        there = f"bundles of several names: {', '.join(found)}. Give the path of one" if found else "no bundle"
        raise StoreError(f"{path} has no {MANIFEST}, and holds {there}")
    chosen = os.path.join(path, found[0])
    return TarStore(_volumes(chosen) if stems else [chosen])


def _volumes(stem: str) -> list[str]:
    """The paths of all volumes of ``stem``, which ends with .tar; raises StoreError that names a missing one."""
    directory, base = os.path.split(stem)
    numbers: dict[int, str] = {}
    try:
        names = os.listdir(directory or ".")
    except OSError as error:
        raise StoreError(f"{directory} cannot be read: {error.strerror}") from error
    for name in names:
        match = _VOLUME.fullmatch(name)
        if match and match["stem"] == base:
            numbers[int(match["number"])] = os.path.join(directory, name)
    for number in range(1, max(numbers, default=1) + 1):
        if number not in numbers:
            raise StoreError(f"the volume {stem}.{number:03d} is missing: copy it to the others")
    return [numbers[number] for number in sorted(numbers) if number]


def _blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _checked(name: str, where: str) -> str:
    try:
        return check_path(name)
    except (BundleError, UnicodeEncodeError) as error:
        raise StoreError(f"{where}: {error}") from None
