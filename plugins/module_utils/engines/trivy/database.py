# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trivy's two databases: what they are called, what their metadata says, whether they are whole, and how old they are.

Trivy 0.58 checks little of it. With its updates skipped it never looks at the age; a file that is empty, or damaged at
its beginning, is a database in which nothing is vulnerable; and one that is cut short is removed, and then is that.
"""

from __future__ import annotations

import json
import re
import struct
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

#: The file that says what a database is, beside it.
METADATA = "metadata.json"
#: Bytes. What Trivy writes has some two hundred.
METADATA_LIMIT = 64 * 1024
#: Seconds by which the clocks of two machines may differ without a word.
CLOCK_TOLERANCE = 3600
DAY = 86400

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)")
# What Go's zero time is written as: nobody has set it.
_NEVER = "0001-01-01T00:00:00Z"


class Kind(NamedTuple):
    """One of the two: ``name`` in a registry, ``directory`` in the cache, the ``schema`` that Trivy wants (since 0.23
    and 0.37, and until now), the media type of the layer that it is shipped as."""

    key: str
    name: str
    directory: str
    file: str
    schema: int
    media_type: str

    def reference(self) -> str:
        """What Trivy calls it in a registry."""
        return f"{self.name}:{self.schema}"


KINDS = {
    kind.key: kind
    for kind in (
        Kind("db", "trivy-db", "db", "trivy.db", 2, "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"),
        Kind(
            *("java_db", "trivy-java-db", "java-db", "trivy-java.db", 1),
            "application/vnd.aquasec.trivy.javadb.layer.v1.tar+gzip",
        ),
    )
}


class DatabaseError(ValueError):
    """A database, or its metadata, that Trivy should not be given. The text goes on a sentence that names the file."""


class Metadata(NamedTuple):
    """What metadata.json says; times are epoch seconds, None when nobody has set them."""

    version: int
    updated_at: float | None
    next_update: float | None
    downloaded_at: float | None


class Gate(NamedTuple):
    """After how many days a database is worth a warning, and after how many it is refused; 0 is never."""

    warn_days: float
    fail_days: float


class Age(NamedTuple):
    """How old a database is: ``days`` (None when that cannot be told), ``verdict`` (``fresh``, ``aging``, ``old`` or
    ``unknown``) and a ``reason`` for every verdict but fresh."""

    days: float | None
    verdict: str
    reason: str


def parse_time(text: Any) -> float | None:
    """Epoch seconds of what Go writes for a time, nanoseconds and zones included; None for its zero time."""
    found = _RFC3339.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise DatabaseError(f"{text!r} is not a time like 2026-01-31T12:00:00.123456789Z")
    if text.startswith(_NEVER[:10]):
        return None
    zone = "+00:00" if found[3] in "Zz" else found[3]
    try:
        moment = datetime.fromisoformat(found[1].upper() + zone)
    except ValueError as error:
        raise DatabaseError(f"{text!r} is not a time: {error}") from None
    return moment.timestamp() + float(f"0.{found[2] or 0}")


def parse_metadata(body: bytes) -> Metadata:
    """Read metadata.json. Raises DatabaseError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DatabaseError(f"is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise DatabaseError("is not a JSON object")
    version = document.get("Version", 0)
    if not isinstance(version, int) or isinstance(version, bool):
        raise DatabaseError(f"has a Version that is no number: {version!r}")

    def moment(key: str) -> float | None:
        try:
            return parse_time(document.get(key, _NEVER))
        except DatabaseError as error:
            raise DatabaseError(f"has a {key} that is none: {error}") from None

    return Metadata(version, moment("UpdatedAt"), moment("NextUpdate"), moment("DownloadedAt"))


def check_schema(kind: Kind, metadata: Metadata, wanted: int) -> None:
    """Raise DatabaseError when Trivy would refuse the schema, saying which of the two has to be replaced."""
    if metadata.version == wanted:
        return
    advice = (
        "bring a newer Trivy, or a database made for this one"
        if metadata.version > wanted
        else f"bring a database of the schema that this Trivy reads ({kind.name}:{wanted})"
    )
    raise DatabaseError(f"has schema {metadata.version}, but Trivy reads schema {wanted}: {advice}")


def age(kind: Kind, metadata: Metadata, now: float, gate: Gate) -> Age:
    """How old the content is, by UpdatedAt: when it was brought here makes it no younger."""
    if metadata.updated_at is None:
        return Age(None, "unknown", f"{kind.name} does not say when it was made (no UpdatedAt in {METADATA})")
    days = (now - metadata.updated_at) / DAY
    made = f"{kind.name} was made at {text(metadata.updated_at)}"
    if now + CLOCK_TOLERANCE < metadata.updated_at:
        return Age(
            None,
            "unknown",
            f"{made}, but the clock of this machine says {text(now)}: its age cannot be told. Set the clock",
        )
    days = max(days, 0.0)
    old = f"{made}, {days:.1f} days ago"
    if gate.fail_days and days > gate.fail_days:
        return Age(
            days, "old", f"{old}, and may have {gate.fail_days:g}: bring a newer one, what is known since is not in it"
        )
    if gate.warn_days and days > gate.warn_days:
        return Age(days, "aging", f"{old}: a newer one is due after {gate.warn_days:g}")
    return Age(days, "fresh", "")


def refused(found: Age, gate: Gate) -> bool:
    """Whether the gate lets nobody use it: too old, or of an age that nobody can tell."""
    return found.verdict == "old" or (found.verdict == "unknown" and gate.fail_days > 0)


def check_gate(gate: Gate, name: str) -> None:
    """Raise DatabaseError for thresholds that make no sense. ``name`` is of the options."""
    if gate.warn_days < 0 or gate.fail_days < 0:
        raise DatabaseError(f"{name}.warn_days and {name}.fail_days are days, 0 for never, not less")
    if gate.fail_days and gate.warn_days > gate.fail_days:
        raise DatabaseError(
            f"{name}.warn_days ({gate.warn_days:g}) is more than {name}.fail_days ({gate.fail_days:g}): "
            "it would never warn"
        )


def text(moment: float) -> str:
    """Epoch seconds as RFC 3339 in UTC, whole seconds."""
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=int(moment))).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- whether the file is a whole database ----------------------------------------------------------------------------

#: Bytes from the beginning of a file that are enough to know whether it is whole.
HEAD = 128 * 1024


def check_file(kind: Kind, size: int, head: bytes) -> None:
    """Raise DatabaseError unless a file of ``size`` bytes that begins with ``head`` is a database of its kind, ends
    where it says, and holds anything.

    That finds what is empty, cut short, or something else; a hash finds the rest.
    """
    if size == 0:
        raise DatabaseError("is empty: Trivy would find nothing vulnerable with it")
    if kind.key == "db":
        _check_bolt(size, head)
    else:
        _check_sqlite(size, head)


_BOLT_META = struct.Struct("<IIIIQQQQQQ")
_BOLT_PAGE = 16  # bytes of a page's own header
_BOLT_MAGIC = 0xED0CDAED
#: Two meta pages, a list of free pages and a bucket without anything in it.
_BOLT_EMPTY = 4


def _check_bolt(size: int, head: bytes) -> None:
    """bbolt: two meta pages, of which the one with the later transaction counts.

    bbolt goes back to the other when one of them is damaged: to an earlier state, of which nobody would be told.
    """
    first = _bolt_meta(head, 0)
    second = _bolt_meta(head, first[2]) if first else ()
    if not first or not second:
        raise DatabaseError("is no database of Trivy (a bbolt file), or its first pages are damaged")
    _magic, _version, page_size, _flags, root, _sequence, _free, pages, _transaction, _sum = max(
        first, second, key=lambda meta: meta[8]
    )
    if size < pages * page_size:
        raise DatabaseError(f"is cut short: it has {size} of {pages * page_size} bytes")
    if pages <= _BOLT_EMPTY or root >= pages:
        raise DatabaseError("holds nothing: Trivy would find nothing vulnerable with it")


def _bolt_meta(head: bytes, page: int) -> tuple[int, ...]:
    """The fields of the meta page at this offset, empty when it is not valid."""
    begin = page + _BOLT_PAGE
    if len(head) < begin + _BOLT_META.size:
        return ()
    fields = _BOLT_META.unpack_from(head, begin)
    checked = head[begin : begin + _BOLT_META.size - 8]
    if fields[0] != _BOLT_MAGIC or fields[1] != 2 or fields[9] != _fnv1a(checked):
        return ()
    return fields


def _fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def _check_sqlite(size: int, head: bytes) -> None:
    """SQLite: https://www.sqlite.org/fileformat2.html, the database header."""
    header = head[:100]
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise DatabaseError("is no Java database of Trivy (a SQLite file)")
    page_size = int.from_bytes(header[16:18], "big")
    page_size = 65536 if page_size == 1 else page_size
    pages = int.from_bytes(header[28:32], "big")
    # The number of pages counts only when it is of the last change.
    if header[24:28] == header[92:96] and size != pages * page_size:
        raise DatabaseError(f"is cut short or has grown: it has {size} bytes instead of {pages * page_size}")
    if pages < 2:
        raise DatabaseError("holds nothing: Trivy would know no jar by it")


# --- what may be in the archive that it comes as ---------------------------------------------------------------------


def check_member(kind: Kind, name: str, regular: bool, directory: bool, seen: set[str]) -> str | None:
    """The file that a member of the archive is, None for its root directory. Raises DatabaseError for all else.

    Nothing but the two files has a place in it, so a way out of the archive, a link or a device has none either.
    """
    path = name[2:] if name.startswith("./") else name
    if directory and path in ("", "."):
        return None
    if path not in (METADATA, kind.file):
        raise DatabaseError(f"has {name!r}, but a {kind.name} holds {METADATA} and {kind.file} alone")
    if not regular:
        raise DatabaseError(f"has {name!r}, which is no plain file")
    if path in seen:
        raise DatabaseError(f"has {name!r} twice")
    seen.add(path)
    return path
