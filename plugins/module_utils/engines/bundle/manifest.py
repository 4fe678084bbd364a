# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a bundle says about itself: bundle.json, the checksums, and the rules by which a bundle is let in or refused.

A bundle has a name, a number that rises and a time at which it expires, after the threats that The Update Framework
lists. Everything here works on parsed data; times are epoch seconds that the caller passes in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Callable, NamedTuple, TypeVar

from ..oci import references

SCHEMA = 1
#: Names of the files that bundle.json cannot list, because it would have to contain its own hash.
MANIFEST = "bundle.json"
SIGNATURE = "bundle.json.sig"
CHECKSUMS = "SHA256SUMS"
CHECKSUMS_SIGNATURE = "SHA256SUMS.sig"
HEAD = (MANIFEST, SIGNATURE, CHECKSUMS, CHECKSUMS_SIGNATURE)
#: Files of the image layout, which stay in the bundle when the rest is unpacked.
LAYOUT_FILES = ("index.json", "oci-layout")
BLOBS = "blobs/sha256/"

#: Bytes; what is larger is not read. 64 MiB of bundle.json are some 300 000 files.
MANIFEST_LIMIT = 64 * 1024 * 1024
KINDS = ("image", "trivy-db", "trivy-java-db")
#: Seconds by which the clocks of the two sides may differ before it is worth a refusal.
CLOCK_TOLERANCE = 86400

_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_NAME_LIMIT = 64
_PATH_LIMIT = 1024
_HEX = re.compile(r"[0-9a-f]{64}")
_MODE = re.compile(r"0[4-7][0-7][0-7]")
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_LARGEST = 2**53
_T = TypeVar("_T")


class BundleError(ValueError):
    """A bundle.json or inventory that is not what it should be; the message says where."""


class RefusedError(ValueError):
    """A sound bundle that must not be let in now. ``reasons`` are sentences, one for each rule that says so."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(". ".join(reasons))
        self.reasons = tuple(reasons)


class BundleFile(NamedTuple):
    """A file of the bundle: path with slashes, hex digest, bytes, and permissions as four octal digits."""

    path: str
    sha256: str
    size: int
    mode: str = "0644"


class BundleImage(NamedTuple):
    """An image or artifact: ``name`` is ``repository:tag``, ``digest`` that of its manifest or index."""

    name: str
    digest: str
    media_type: str
    source: str = ""
    kind: str = "image"

    @property
    def repository(self) -> str:
        """The part of the name before the tag."""
        return self.name.rpartition(":")[0]

    @property
    def tag(self) -> str:
        """The part of the name after the repository."""
        return self.name.rpartition(":")[2]


class AbsentBlob(NamedTuple):
    """A config or layer that a delta leaves out, and the repositories that had it when the inventory was taken."""

    digest: str
    size: int
    repositories: tuple[str, ...]


class Base(NamedTuple):
    """The inventory that a delta was built against: its registry, its time, and the hex digest of its file."""

    registry: str
    taken: str
    sha256: str


class Wheelhouse(NamedTuple):
    """Wheels under ``path``, resolved for this Python version and these platform tags."""

    python: str
    platforms: tuple[str, ...]
    path: str


class Imported(NamedTuple):
    """An entry of the history: a bundle that was let in. ``sha256`` is that of its bundle.json."""

    name: str
    number: int
    created: str
    imported_at: str
    by: str
    sha256: str
    forced: bool = False


@dataclass(frozen=True)
class BundleManifest:
    """The content of bundle.json; see ``parse`` for what holds of it. Times are RFC 3339 in UTC."""

    name: str
    number: int
    created: str
    expires: str
    images: tuple[BundleImage, ...] = ()
    files: tuple[BundleFile, ...] = ()
    base: Base | None = None
    registry_image: str | None = None
    wheelhouses: Mapping[str, Wheelhouse] | None = None
    collection: str | None = None
    absent_blobs: tuple[AbsentBlob, ...] = ()
    absent_files: tuple[BundleFile, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """The JSON object, lists in the order that does not depend on who built it."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "number": self.number,
            "created": self.created,
            "expires": self.expires,
            "base": self.base._asdict() if self.base else None,
            "images": [image._asdict() for image in self.images],
            "registry_image": self.registry_image,
            "wheelhouses": {
                name: {**house._asdict(), "platforms": list(house.platforms)}
                for name, house in (self.wheelhouses or {}).items()
            },
            "collection": self.collection,
            "files": [file._asdict() for file in sorted(self.files)],
            "absent": {
                "blobs": [
                    {**blob._asdict(), "repositories": sorted(blob.repositories)} for blob in sorted(self.absent_blobs)
                ],
                "files": [file._asdict() for file in sorted(self.absent_files)],
            },
        }

    def to_bytes(self) -> bytes:
        """Canonical bytes: the same content is the same file. Raises BundleError for what ``parse`` would refuse."""
        body = canonical(self.to_document())
        _checked(self)
        return body

    @property
    def unpacked(self) -> tuple[BundleFile, ...]:
        """Every file that is written out on the inside, whether it is packed or absent: all but the image layout."""
        return tuple(sorted(file for file in (*self.files, *self.absent_files) if not in_layout(file.path)))

    @property
    def packed_bytes(self) -> int:
        """Sizes of all packed files together."""
        return sum(file.size for file in self.files)


def in_layout(path: str) -> bool:
    """True for the files of the image layout: they go into a registry, not into a directory."""
    return path in LAYOUT_FILES or path.startswith(BLOBS)


def parse(body: bytes) -> BundleManifest:
    """Read bundle.json. Raises BundleError for an unknown schema, a field that is missing or wrong, an unsafe or
    repeated path, references between its parts that lead nowhere, and for anything that is not in canonical form."""
    document = load(body, MANIFEST, SCHEMA)
    reader = Reader(document, MANIFEST)
    absent = reader.child("absent")
    houses = reader.child("wheelhouses")
    manifest = BundleManifest(
        name=reader.text("name"),
        number=reader.number("number"),
        created=reader.text("created"),
        expires=reader.text("expires"),
        base=_base(reader.child("base")) if document.get("base") is not None else None,
        images=tuple(reader.each("images", _image)),
        registry_image=reader.optional("registry_image"),
        wheelhouses={name: _wheelhouse(houses.child(name)) for name in houses.data},
        collection=reader.optional("collection"),
        files=tuple(reader.each("files", _file)),
        absent_blobs=tuple(absent.each("blobs", _absent_blob)),
        absent_files=tuple(absent.each("files", _file)),
    )
    # Also what nobody asked for: a field of another version, or one that stands there twice.
    if manifest.to_bytes() != body:
        raise BundleError(f"{MANIFEST} is not in its canonical form: it was not written by this collection's bundle")
    return manifest


def canonical(document: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys, one space of indent and a newline at the end."""
    return (json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def check_path(path: str) -> str:
    """Return a relative path that stays inside, with slashes; raises BundleError for any other."""
    parts = path.split("/")
    if not path or len(path.encode()) > _PATH_LIMIT or any(part in ("", ".", "..") for part in parts):
        raise BundleError(f"the path {path!r} is not a relative path inside the bundle, or is longer than 1024 bytes")
    # SHA256SUMS would need to escape these, and a terminal would obey some.
    if "\\" in path or not path.isprintable():
        raise BundleError(f"the path {path!r} has a backslash or a character that cannot be printed")
    return path


def checksums(manifest: BundleManifest, body: bytes, sha256: Callable[[bytes], Any]) -> bytes:
    """SHA256SUMS as coreutils writes it: bundle.json (``body``) and every packed file, by path."""
    sums = {MANIFEST: str(sha256(body).hexdigest()), **{file.path: file.sha256 for file in manifest.files}}
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items())).encode()


def check(
    manifest: BundleManifest, sha256: str, history: Sequence[Imported], now: float, force: bool = False
) -> tuple[str, ...]:
    """Whether a verified bundle may be let in: ``sha256`` of its bundle.json, ``history`` with the last import last.

    Raises RefusedError with every rule that forbids it; with ``force`` returns those reasons instead. Empty: it may.
    """
    reasons = [*_clock_reasons(manifest, now), *_history_reasons(manifest, sha256, history)]
    if reasons and not force:
        raise RefusedError(reasons)
    return tuple(reasons)


def last_import(name: str, history: Iterable[Imported]) -> Imported | None:
    """The entry of the bundle of this name that was let in last."""
    return next((entry for entry in reversed([*history]) if entry.name == name), None)


def _clock_reasons(manifest: BundleManifest, now: float) -> list[str]:
    here = datetime.fromtimestamp(now, timezone.utc).strftime(_TIME)
    name = f"bundle {manifest.name} {manifest.number}"
    if seconds(manifest.created) > now + CLOCK_TOLERANCE:
        return [
            f"{name} was created at {manifest.created}, but the clock of this machine says {here}: one of the two "
            "clocks is wrong. Set this one, or build the bundle again"
        ]
    if seconds(manifest.expires) <= now:
        return [
            f"{name} expired at {manifest.expires}, and the clock of this machine says {here}: bring a newer bundle "
            "(whoever delivers only old ones keeps security fixes from this side), or set the clock if it is wrong"
        ]
    return []


def _history_reasons(manifest: BundleManifest, sha256: str, history: Sequence[Imported]) -> list[str]:
    last = last_import(manifest.name, history)
    if last is None or last.sha256 == sha256:
        return []
    was = f"number {last.number} (created {last.created}) was imported at {last.imported_at} by {last.by}"
    if manifest.number < last.number:
        return [
            f"bundle {manifest.name} {manifest.number} (created {manifest.created}) is a rollback: {was}. "
            "Bring a newer bundle"
        ]
    if manifest.number == last.number:
        return [
            f"bundle {manifest.name} {manifest.number} has another content than the one of that number that is here: "
            f"{was} with {last.sha256[:12]}, this one is {sha256[:12]}. A bundle with another content needs a higher "
            "number"
        ]
    return []


def seconds(text: str) -> float:
    """Epoch seconds of an RFC 3339 time in UTC with whole seconds. Raises BundleError."""
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
        if moment.strftime(_TIME) != text:
            raise ValueError(text)
    except ValueError:
        raise BundleError(f"{text!r} is not a time like 2026-01-31T12:00:00Z") from None
    return moment.timestamp()


# --- reading JSON ----------------------------------------------------------------------------------------------------


def load(body: bytes, what: str, schema: int) -> dict[str, Any]:
    """Parse a JSON object whose field ``schema`` is the one that is known here. Raises BundleError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{what} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise BundleError(f"{what} is not a JSON object")
    found = document.get("schema")
    if found != schema or isinstance(found, bool):
        raise BundleError(
            f"{what} has schema {found!r}, this version of the collection knows schema {schema}: "
            "use the collection that the bundle brings, or a newer one"
        )
    return document


class Reader:
    """Typed access to a JSON object; ``where`` names it in errors. Every method raises BundleError."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise BundleError(f"{where} is not an object")
        self.data: dict[str, Any] = data
        self.where = where

    def text(self, key: str) -> str:
        return self._typed(key, str, "a text")

    def optional(self, key: str) -> str | None:
        return None if self.data.get(key, "") is None else self.text(key)

    def texts(self, key: str) -> tuple[str, ...]:
        values = self._typed(key, list, "a list")
        if not all(isinstance(value, str) for value in values):
            raise BundleError(f"{self.where}: {key} is not a list of texts")
        return tuple(values)

    def number(self, key: str) -> int:
        value = self._typed(key, int, "a number")
        if isinstance(value, bool) or not 0 <= value <= _LARGEST:
            raise BundleError(f"{self.where}: {key} is {value!r}, not a number from 0 to 2^53")
        return value

    def child(self, key: str) -> Reader:
        return Reader(self._typed(key, dict, "an object"), f"{self.where}: {key}")

    def each(self, key: str, read: Callable[[Reader], _T]) -> list[_T]:
        values = self._typed(key, list, "a list")
        return [read(Reader(value, f"{self.where}: {key}[{index}]")) for index, value in enumerate(values)]

    def _typed(self, key: str, kind: type[_T], what: str) -> _T:
        value = self.data.get(key)
        if not isinstance(value, kind):
            raise BundleError(
                f"{self.where}: {key} is not {what}" if key in self.data else f"{self.where} has no {key}"
            )
        return value


def _base(reader: Reader) -> Base:
    return Base(reader.text("registry"), reader.text("taken"), reader.text("sha256"))


def _image(reader: Reader) -> BundleImage:
    return BundleImage(
        reader.text("name"),
        reader.text("digest"),
        reader.text("media_type"),
        reader.text("source"),
        reader.text("kind"),
    )


def _wheelhouse(reader: Reader) -> Wheelhouse:
    return Wheelhouse(reader.text("python"), reader.texts("platforms"), reader.text("path"))


def _file(reader: Reader) -> BundleFile:
    return BundleFile(reader.text("path"), reader.text("sha256"), reader.number("size"), reader.text("mode"))


def _absent_blob(reader: Reader) -> AbsentBlob:
    return AbsentBlob(reader.text("digest"), reader.number("size"), reader.texts("repositories"))


# --- what holds of every bundle --------------------------------------------------------------------------------------


def check_name(name: str) -> str:
    """Return a bundle's name, which is the name of its directory on the inside; raises BundleError for any other."""
    if not _NAME.fullmatch(name) or len(name) > _NAME_LIMIT:
        raise BundleError(
            f"{name!r} cannot be the name of a bundle: lower-case letters and digits, with single . _ - "
            f"between them, at most {_NAME_LIMIT}"
        )
    return name


def check_hex(text: str, where: str) -> str:
    """Return a sha256 in lower-case hex, or raise BundleError that says where it stands."""
    if not _HEX.fullmatch(text):
        raise BundleError(f"{where}: {text!r} is not a sha256 in 64 lower-case hex digits")
    return text


def check_image_name(name: str) -> str:
    """Return ``repository:tag``, or raise BundleError."""
    repository, _colon, tag = name.rpartition(":")
    try:
        references.check_repository(repository)
        references.check_tag(tag)
    except references.InvalidReferenceError as error:
        raise BundleError(f"the image {name!r} is not named repository:tag: {error}") from error
    return name


def _checked(manifest: BundleManifest) -> None:
    check_name(manifest.name)
    if manifest.number < 1:
        raise BundleError(f"{MANIFEST}: number is {manifest.number}, the first bundle of a name has number 1")
    if seconds(manifest.created) >= seconds(manifest.expires):
        raise BundleError(f"{MANIFEST}: it expires at {manifest.expires}, before it was created ({manifest.created})")
    _check_paths(manifest)
    _check_absent(manifest)
    _check_images(manifest)
    present = {file.path for file in (*manifest.files, *manifest.absent_files)}
    if manifest.collection is not None and manifest.collection not in present:
        raise BundleError(f"{MANIFEST}: the collection {manifest.collection} is not among its files")
    for name, house in (manifest.wheelhouses or {}).items():
        check_path(house.path)
        if not any(path.startswith(f"{house.path}/") for path in present):
            raise BundleError(f"{MANIFEST}: the wheelhouse {name} has no files under {house.path}")


def _check_paths(manifest: BundleManifest) -> None:
    seen: set[str] = set()
    for file in (*manifest.files, *manifest.absent_files):
        check_path(file.path)
        check_hex(file.sha256, f"{MANIFEST}: {file.path}")
        if not _MODE.fullmatch(file.mode):
            raise BundleError(f"{MANIFEST}: {file.path} has mode {file.mode!r}, not four octal digits like 0644")
        if file.path in seen:
            raise BundleError(f"{MANIFEST} lists {file.path} twice")
        if file.path in HEAD:
            raise BundleError(f"{MANIFEST} lists {file.path}, which is never one of its files")
        if file.path.startswith("blobs/") and file.path != BLOBS + file.sha256:
            raise BundleError(f"{MANIFEST}: {file.path} is not named after its content, {file.sha256}")
        seen.add(file.path)
    for path in seen:
        parts = path.split("/")
        for end in range(1, len(parts)):
            if "/".join(parts[:end]) in seen:
                raise BundleError(f"{MANIFEST} lists {'/'.join(parts[:end])} as a file and as a directory of {path}")


def _check_absent(manifest: BundleManifest) -> None:
    if (manifest.absent_blobs or manifest.absent_files) and manifest.base is None:
        raise BundleError(f"{MANIFEST} leaves files out but names no base that would have them")
    if manifest.base is not None:
        seconds(manifest.base.taken)
        check_hex(manifest.base.sha256, f"{MANIFEST}: base")
    packed = {file.path for file in manifest.files}
    seen: set[str] = set()
    for blob in manifest.absent_blobs:
        path = BLOBS + check_hex(blob.digest.partition("sha256:")[2], f"{MANIFEST}: absent blob {blob.digest}")
        if path in packed or path in seen:
            raise BundleError(f"{MANIFEST}: the blob {blob.digest} is left out and there, or left out twice")
        if not blob.repositories:
            raise BundleError(f"{MANIFEST}: no repository is named that has the absent blob {blob.digest}")
        for repository in blob.repositories:
            check_image_name(f"{repository}:tag")
        seen.add(path)
    for file in manifest.absent_files:
        if in_layout(file.path):
            raise BundleError(f"{MANIFEST}: {file.path} is part of the image layout, only its blobs may be absent")


def _check_images(manifest: BundleManifest) -> None:
    packed = {file.path for file in manifest.files}
    seen: set[str] = set()
    for image in manifest.images:
        if check_image_name(image.name) in seen:
            raise BundleError(f"{MANIFEST} names the image {image.name} twice")
        seen.add(image.name)
        if image.kind not in KINDS:
            raise BundleError(f"{MANIFEST}: {image.name} has kind {image.kind!r}, known are {', '.join(KINDS)}")
        if BLOBS + check_hex(image.digest.partition("sha256:")[2], f"{MANIFEST}: {image.name}") not in packed:
            raise BundleError(f"{MANIFEST}: the manifest {image.digest} of {image.name} is not among its files")
    if manifest.images and not packed.issuperset(LAYOUT_FILES):
        raise BundleError(f"{MANIFEST} has images, but not {' and '.join(LAYOUT_FILES)} among its files")
    if manifest.registry_image is not None and manifest.registry_image not in seen:
        raise BundleError(f"{MANIFEST}: the registry's image {manifest.registry_image} is not among its images")
