# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of a database: read out of an archive or a directory in one pass, checked, hashed, and kept where that
is wanted."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, Callable, NamedTuple, cast

from ...engines.trivy.database import (
    HEAD,
    METADATA,
    METADATA_LIMIT,
    DatabaseError,
    Kind,
    Metadata,
    check_file,
    check_member,
    parse_metadata,
)
from ...errors import AirgapError
from ..bundle import space

_BUFFER = 1024 * 1024
#: Bytes. The databases of 2026 have less than two thousand million; an archive that says more is none of them.
LIMIT = 32 * 1024**3
# What may follow the last member of a tar: zeroes up to a whole record.
_PADDING = 4 * 1024 * 1024


class Content(NamedTuple):
    """What a database holds: ``identity`` is a hash of both files, ``sha256`` and ``size`` are of the larger."""

    metadata: Metadata
    identity: str
    sha256: str
    size: int


class _File(NamedTuple):
    sha256: str
    size: int
    head: bytes


def from_archive(
    kind: Kind, stream: Any, where: str, target: str | None = None, read: Callable[[int], None] = lambda count: None
) -> Content:
    """Read the tar.gz that ``stream`` gives, to its end, so that whatever verifies it has seen all of it.

    With ``target`` the files are written to that directory. ``read`` is called with the bytes of each piece. Raises
    AirgapError, naming ``where`` it comes from; what was written until then is for the caller to remove.
    """
    seen: set[str] = set()
    body: bytes | None = None
    file: _File | None = None
    try:
        # The checksum at its end is compared by GzipFile, not by a tarfile that unpacks by itself.
        with gzip.GzipFile(fileobj=stream) as plain:
            with tarfile.open(fileobj=plain, mode="r|") as archive:
                for member in archive:
                    name = check_member(kind, member.name, member.isreg(), member.isdir(), seen)
                    if name is None:
                        continue
                    source = archive.extractfile(member)
                    if source is None:
                        raise DatabaseError(f"has {member.name!r}, which is no plain file")
                    if name == METADATA:
                        body = _metadata(source, member.size)
                    else:
                        file = _copy(source, member.size, target and os.path.join(target, name), read)
            padding = plain.read(_PADDING + 1)
            if len(padding) > _PADDING or padding.strip(b"\0"):
                raise DatabaseError("goes on behind its end")
        while stream.read(_BUFFER):
            pass
        if body is None or file is None:
            raise DatabaseError(f"has no {METADATA if body is None else kind.file}: it is no {kind.name}")
        content = _content(kind, body, file, lambda name: f"{name} in {where}")
    except DatabaseError as error:
        raise AirgapError(f"{where} {error}") from None
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise AirgapError(f"{where} is no whole tar.gz: {error}. Copy it again") from error
    except OSError as error:
        raise AirgapError(f"{where} cannot be unpacked: {error.strerror or error}") from error
    if target is not None:
        write(os.path.join(target, METADATA), body)
    return content


def from_directory(
    kind: Kind, directory: str, target: str | None = None, read: Callable[[int], None] = lambda count: None
) -> Content:
    """Read the two files of a directory; with ``target`` they are copied there. Raises AirgapError."""
    path = os.path.join(directory, kind.file)
    try:
        body = read_metadata(directory)
        with open(path, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            file = _copy(source, size, target and os.path.join(target, kind.file), read)
    except FileNotFoundError as error:
        raise AirgapError(f"there is no {error.filename}: {directory} holds no {kind.name}") from None
    except DatabaseError as error:
        raise AirgapError(f"{path} {error}") from None
    except OSError as error:
        raise AirgapError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    if target is not None:
        write(os.path.join(target, METADATA), body)
    return _content(kind, body, file, lambda name: os.path.join(directory, name))


def look(kind: Kind, directory: str) -> tuple[Metadata, int]:
    """What a directory holds by its metadata and its beginning, without reading all of it. Raises AirgapError."""
    path = os.path.join(directory, kind.file)
    try:
        body = read_metadata(directory)
        with open(path, "rb") as source:
            size, head = os.fstat(source.fileno()).st_size, source.read(HEAD)
    except FileNotFoundError as error:
        raise AirgapError(f"there is no {error.filename}: {directory} holds no {kind.name}") from None
    except OSError as error:
        raise AirgapError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    found = _content(kind, body, _File("", size, head), lambda name: os.path.join(directory, name))
    return found.metadata, size


def read_metadata(directory: str) -> bytes:
    """The bytes of metadata.json. Raises OSError, or AirgapError for one that is too long."""
    path = os.path.join(directory, METADATA)
    with open(path, "rb") as file:
        body = file.read(METADATA_LIMIT + 1)
    if len(body) > METADATA_LIMIT:
        raise AirgapError(f"{path} has more than {METADATA_LIMIT} bytes: it is no {METADATA} of Trivy")
    return body


def write(path: str, body: bytes) -> None:
    """Write a new file of mode 0644, on the disk when this returns. Raises AirgapError."""
    try:
        with _new(path) as file:
            file.write(body)
    except OSError as error:
        raise AirgapError(f"{path} cannot be written: {error.strerror}") from error


def pack(kind: Kind, directory: str, target: str, read: Callable[[int], None]) -> None:
    """Write the tar.gz of a directory's two files: the same bytes for the same content, whoever packs it.

    Raises AirgapError.
    """
    try:
        with _new(target) as raw, gzip.GzipFile("", "wb", 6, raw, 0) as packed, _tar(packed) as archive:
            for name in (METADATA, kind.file):
                with open(os.path.join(directory, name), "rb") as file:
                    member = tarfile.TarInfo(name)
                    member.size = os.fstat(file.fileno()).st_size
                    archive.addfile(member, cast("IO[bytes]", _Counted(file, read)))
    except OSError as error:
        raise AirgapError(f"{directory} cannot be packed into {target}: {error.strerror or error}") from error


def digest(body: bytes) -> str:
    """The digest of bytes, as a registry calls them."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _tar(packed: Any) -> tarfile.TarFile:
    return tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT)


def copy(source: Any, target: str, read: Callable[[int], None]) -> None:
    """Write all that ``source`` gives to a new file. Raises AirgapError."""
    try:
        with _new(target) as file:
            while data := source.read(_BUFFER):
                file.write(data)
                read(len(data))
    except OSError as error:
        raise AirgapError(f"{target} cannot be written: {error.strerror or error}") from error


class _Counted:
    """A file that tells how much of it was read."""

    def __init__(self, file: IO[bytes], read: Callable[[int], None]) -> None:
        self._file = file
        self._read = read

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._read(len(data))
        return data


def _metadata(source: IO[bytes], size: int) -> bytes:
    if size > METADATA_LIMIT:
        raise DatabaseError(f"has a {METADATA} of {size} bytes, which is none of Trivy's")
    return source.read(size)


def _copy(source: IO[bytes], size: int, target: str | None, read: Callable[[int], None]) -> _File:
    """Read ``size`` bytes, into ``target`` when that is given."""
    if size > LIMIT:
        raise DatabaseError(f"has a database of {size} bytes, more than {LIMIT}")
    if target is not None:
        space.check([space.Need(target, size, "the database")])
    hashed = hashlib.sha256()
    head = b""
    left = size
    with _new(target) if target is not None else contextlib.nullcontext() as copy:
        while left and (data := source.read(min(left, _BUFFER))):
            hashed.update(data)
            if len(head) < HEAD:
                head += data[: HEAD - len(head)]
            if copy is not None:
                copy.write(data)
            left -= len(data)
            read(len(data))
    if left:
        raise DatabaseError(f"ends {left} bytes too early")
    return _File(hashed.hexdigest(), size, head)


@contextlib.contextmanager
def _new(path: str) -> Iterator[IO[bytes]]:
    """A file that was not there before, on the disk afterwards."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, 0o644)
        yield file
        file.flush()
        os.fsync(handle)


def _content(kind: Kind, body: bytes, file: _File, named: Callable[[str], str]) -> Content:
    """The content of two files that were read; ``named`` says how an error calls one of them."""
    try:
        metadata = parse_metadata(body)
    except DatabaseError as error:
        raise AirgapError(f"{named(METADATA)} {error}") from None
    try:
        check_file(kind, file.size, file.head)
    except DatabaseError as error:
        raise AirgapError(f"{named(kind.file)} {error}") from None
    both = hashlib.sha256(body).hexdigest() + file.sha256
    return Content(metadata, hashlib.sha256(both.encode()).hexdigest(), file.sha256, file.size)
