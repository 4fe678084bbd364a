# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds a bundle from a bundle.yml: what is in it is decided first, then it is compared with the bundle that is there,
and only a difference is fetched, packed and signed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any, BinaryIO, cast

from ...adapters import signature
from ...adapters.blob_cache import BlobCache
from ...adapters.layout import LayoutError
from ...adapters.store import StoreError, open_store
from ...engines.bundle import delta
from ...engines.bundle.manifest import (
    BLOBS,
    CHECKSUMS,
    CHECKSUMS_SIGNATURE,
    LAYOUT_FILES,
    MANIFEST,
    MANIFEST_LIMIT,
    SIGNATURE,
    Base,
    BundleError,
    BundleFile,
    BundleManifest,
    checksums,
    parse,
    seconds,
)
from ...engines.bundle.spec import parse_size
from ...engines.oci import image
from ...errors import AirgapError
from ...times import Clock, SystemClock, rfc3339
from . import space
from .meter import Meter
from .sources import Content, Gathering, Part, Progress, Tools, fetch
from .space import Need
from .specfile import SpecFile
from .verify import verify

DEFAULT_CACHE = "~/.cache/lumen-airgap/bundle"
DEFAULT_VALID_DAYS = 90
#: A bundle that has used up this much of its time is built again, though its content is the same.
WORN = 2 / 3
#: Volumes smaller than this are a mistake in the unit.
SMALLEST_VOLUME = 1024 * 1024
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_REF_NAME = image.NAME_ANNOTATIONS[0]
_CHUNK = 1 << 20
# Whose signature the builder looks for in the bundle that is there: its own.
_SIGNER = "builder"
_KEYGEN_DEADLINE = 30.0
_DAY = 86400


@dataclass(frozen=True)
class _Output:
    """Where the bundle goes: a tar when the path ends with .tar, a directory otherwise, which holds the volumes when
    there is a ``volume_size`` (bytes)."""

    path: str
    volume_size: int | None

    @property
    def is_tar(self) -> bool:
        return self.volume_size is None and self.path.endswith(".tar")

    @property
    def parent(self) -> str:
        return os.path.dirname(self.path)

    def hidden(self, kind: str) -> str:
        """The beginning of the names of drafts beside it."""
        return f".{os.path.basename(self.path)}.{kind}-"

    def files(self) -> list[str]:
        """What there is to carry, for the one who carries it."""
        if self.volume_size is None or not os.path.isdir(self.path):
            return [self.path]
        return sorted(os.path.join(self.path, name) for name in os.listdir(self.path))


@dataclass(frozen=True)
class _Previous:
    """The bundle that is at the output now."""

    manifest: BundleManifest
    body: bytes


@dataclass(frozen=True)
class _Plan:
    """A bundle that is decided in every byte but the signatures."""

    manifest: BundleManifest
    body: bytes
    sums: bytes
    parts: dict[str, Part]
    saved: int


def build(
    spec_path: str,
    output: str,
    key: str,
    *,
    number: int | None = None,
    volume_size: str | int | None = None,
    base: str | None = None,
    cache_path: str | None = None,
    check_mode: bool = False,
    progress: Progress = lambda line: None,
    tools: Tools | None = None,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Build the bundle that ``spec_path`` describes at ``output``: a tar when that ends with .tar, otherwise a
    directory, with volumes of ``volume_size`` (bytes or text like 4GiB) in it when that is given.

    ``key`` is a private SSH key without a passphrase, or the public key of one in the agent; ``base`` the inventory of
    the inside that a delta is built against; ``number`` wins over bundle.yml's, and without either the bundle at
    ``output`` (and the inventory) is counted on. Returns ``changed``, ``bundle`` (name, number, created, expires, path,
    files, images, bytes packed and saved), ``hints``, ``unknown`` (what check mode cannot foresee) and ``diff``.
    Raises AirgapError.
    """
    clock = clock or SystemClock()
    where = _output(output, volume_size)
    specfile = SpecFile(spec_path)
    inventory = _inventory(base)
    cache = BlobCache(os.path.expanduser(cache_path or DEFAULT_CACHE))
    if not os.path.isfile(os.path.expanduser(key)):
        raise AirgapError(f"there is no signing key at {key}: ssh-keygen -t ed25519 -N '' -f {key} makes one")
    key = os.path.expanduser(key)
    with contextlib.ExitStack() as stack:
        if not check_mode:
            stack.enter_context(cache.locked(clock))
            _tidy(where)
        previous = _previous(where)
        content = Gathering(specfile, cache, tools or Tools(), check_mode, progress, clock).gather()
        with _refused(specfile):
            plan = _plan(specfile, content, inventory, previous, number, clock.time())
        same = previous is not None and plan.body == previous.body and not content.unknown
        changed = not (same and _sound(where, plan, _public_key(key), progress, clock))
        if changed and not check_mode:
            _write(where, plan, key, cache.path, progress, clock)
        return _result(where, plan, content, previous, changed)


# --- what is decided -------------------------------------------------------------------------------------------------


def _output(path: str, volume_size: str | int | None) -> _Output:
    # Through links: what is renamed over a link onto a medium would never reach it.
    path = os.path.realpath(os.path.expanduser(path))
    if volume_size is None:
        return _Output(path, None)
    try:
        size = parse_size(str(volume_size))
    except ValueError as error:
        raise AirgapError(f"volume_size: {error}") from error
    if size < SMALLEST_VOLUME:
        raise AirgapError(f"volume_size is {size} bytes: give at least 1MiB")
    if path.endswith(".tar"):
        raise AirgapError(f"volumes go into a directory of their own, but the output {path} is named like one tar")
    return _Output(path, size)


def _inventory(path: str | None) -> tuple[delta.Inventory, Base] | None:
    if path is None:
        return None
    path = os.path.expanduser(path)
    try:
        with open(path, "rb") as file:
            body = file.read(delta.INVENTORY_LIMIT + 1)
        if len(body) > delta.INVENTORY_LIMIT:
            raise BundleError(f"it has more than {delta.INVENTORY_LIMIT} bytes")
        inventory = delta.parse(body)
    except OSError as error:
        raise AirgapError(
            f"the base of the delta, the inventory {path}, cannot be read: {error.strerror}. "
            "lumen.airgap.bundle with state inventoried writes it on the inside"
        ) from error
    except BundleError as error:
        raise AirgapError(f"the base of the delta, {path}, is no inventory: {error}") from error
    return inventory, Base(inventory.registry, inventory.taken, hashlib.sha256(body).hexdigest())


def _previous(where: _Output) -> _Previous | None:
    """The bundle at the output. Raises AirgapError for something else there: it would be replaced."""
    if not os.path.lexists(where.path) or (os.path.isdir(where.path) and not os.listdir(where.path)):
        return None
    try:
        with open_store(where.path) as store, store.open(MANIFEST) as file:
            body = file.read(MANIFEST_LIMIT)
        return _Previous(parse(body), body)
    except (StoreError, BundleError) as error:
        raise AirgapError(
            f"{where.path} is there and no sound bundle ({error}): it is not replaced. "
            "Remove it, or name another output"
        ) from error


@contextlib.contextmanager
def _refused(specfile: SpecFile) -> Iterator[None]:
    try:
        yield
    except BundleError as error:
        raise AirgapError(f"{specfile.path}: {error}") from error


def _plan(
    specfile: SpecFile,
    content: Content,
    inventory: tuple[delta.Inventory, Base] | None,
    previous: _Previous | None,
    number: int | None,
    now: float,
) -> _Plan:
    if content.images:
        for name, body in (("index.json", _index(content)), ("oci-layout", _LAYOUT)):
            content.add(_bytes_part(name, body))
    files = tuple(part.file for part in content.parts.values())
    split = delta.Split(files, (), (), 0)
    if inventory is not None:
        may = delta.leavable(content.trees, specfile.spec.registry_image, inventory[0])
        split = delta.split(specfile.spec.name, files, may, inventory[0])
    wanted = specfile.spec.registry_image
    draft = BundleManifest(
        name=specfile.spec.name,
        number=1,
        created=rfc3339(now),
        expires=_expires(specfile, now),
        images=tuple(content.images),
        files=tuple(sorted(split.packed)),
        base=inventory[1] if inventory else None,
        # In check mode it may be one of those that are made first.
        registry_image=wanted if wanted in {item.name for item in content.images} else None,
        wheelhouses=content.wheelhouses,
        collection=content.collection,
        absent_blobs=tuple(sorted(split.absent_blobs)),
        absent_files=tuple(sorted(split.absent_files)),
    )
    manifest = _numbered(draft, specfile, inventory and inventory[0], previous, number, now)
    body = manifest.to_bytes()
    sums = checksums(manifest, body, hashlib.sha256)
    packed = {file.path: content.parts[file.path] for file in manifest.files}
    return _Plan(manifest, body, sums, packed, split.saved)


def _expires(specfile: SpecFile, now: float) -> str:
    spec = specfile.spec
    expires = spec.expires or rfc3339(now + (spec.valid_days or DEFAULT_VALID_DAYS) * _DAY)
    if seconds(expires) <= now:
        raise AirgapError(f"{specfile.at(('expires',))}: {expires} is past: nobody could import the bundle")
    return expires


def _numbered(
    draft: BundleManifest,
    specfile: SpecFile,
    inventory: delta.Inventory | None,
    previous: _Previous | None,
    number: int | None,
    now: float,
) -> BundleManifest:
    """The bundle with its number: the very one that is there when nothing else differs and its time is not used up."""
    wanted = number if number is not None else specfile.spec.number
    source = "the option number" if number is not None else specfile.at(("number",))
    if wanted is not None and wanted < 1:
        raise AirgapError(f"{source}: {wanted} is no number of a bundle: they count from 1, or leave it out")
    old = previous.manifest if previous and previous.manifest.name == draft.name else None
    if old is not None:
        kept = replace(draft, number=old.number, created=old.created, expires=old.expires)
        same = previous is not None and kept.to_bytes() == previous.body
        worn = _worn(old, now) if specfile.spec.expires is None else old.expires != draft.expires
        if same and not worn and wanted in (None, old.number):
            return old
        if wanted is not None and wanted <= old.number:
            what = "the same content, but expires soon or at another time" if same else "another content"
            raise AirgapError(
                f"{source}: number {wanted} does not rise above {old.number}, that of the bundle at the output, which "
                f"has {what}. Raise it to {old.number + 1} or more, or leave it out to have it counted"
            )
    inside = (
        max((bundle.number for bundle in inventory.bundles if bundle.name == draft.name), default=0) if inventory else 0
    )
    if wanted is not None and wanted <= inside:
        raise AirgapError(
            f"{source}: number {wanted} does not rise above {inside}, which was imported by the time of the inventory: "
            "the inside would refuse it as a rollback"
        )
    return replace(draft, number=wanted or max(inside, old.number if old else 0) + 1)


def _worn(old: BundleManifest, now: float) -> bool:
    created, expires = seconds(old.created), seconds(old.expires)
    return now > created + (expires - created) * WORN


def _index(content: Content) -> bytes:
    """index.json: each image under its name, in the order of the names."""
    roots = {name: tree.root for name, tree in content.trees}
    entries = [
        {
            "mediaType": item.media_type,
            "digest": item.digest,
            "size": roots[item.name].size,
            "annotations": {_REF_NAME: item.name},
        }
        for item in sorted(content.images)
    ]
    document = {"schemaVersion": 2, "mediaType": image.OCI_INDEX, "manifests": entries}
    return (json.dumps(document, indent=1) + "\n").encode()


def _bytes_part(path: str, body: bytes) -> Part:
    return Part(BundleFile(path, hashlib.sha256(body).hexdigest(), len(body)), lambda: io.BytesIO(body))


# --- what is there ---------------------------------------------------------------------------------------------------


def _sound(where: _Output, plan: _Plan, public_key: str, progress: Progress, clock: Clock) -> bool:
    """Whether the output holds exactly this bundle: its form, both signatures by our key, and every byte."""
    try:
        if not _right_form(where):
            return False
        with open_store(where.path) as store:
            there = verify(store, f"{_SIGNER} {public_key}", _SIGNER, plan.manifest.name, progress, clock)
            return there.manifest == plan.manifest
    except AirgapError as error:
        progress(f"the bundle that is there is written again: {error.message}")
        return False


def _right_form(where: _Output) -> bool:
    if where.volume_size is None:
        return where.is_tar or os.path.exists(os.path.join(where.path, MANIFEST))
    sizes = [os.path.getsize(path) for path in where.files()]
    return all(size == where.volume_size for size in sizes[:-1]) and sizes[-1] <= where.volume_size


def _public_key(key: str) -> str:
    """Type and body of the public half of the signing key."""
    for path in (key, f"{key}.pub"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                fields = file.readline().split()
        except OSError:
            continue
        if len(fields) >= 2 and fields[0].startswith(("ssh-", "sk-", "ecdsa-")):
            return " ".join(fields[:2])
    argv = ["ssh-keygen", "-y", "-P", "", "-f", key]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_KEYGEN_DEADLINE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AirgapError(f"the public half of {key} cannot be read: {error}") from error
    if done.returncode:
        raise AirgapError(
            f"{key} cannot be used to sign: {' '.join(done.stderr.split())}. A key with a passphrase has to be in the "
            "agent (ssh-add), and its public key file named instead"
        )
    return " ".join(done.stdout.split()[:2])


# --- what is written -------------------------------------------------------------------------------------------------


def _write(where: _Output, plan: _Plan, key: str, cache_path: str, progress: Progress, clock: Clock) -> None:
    """Sign, fetch, pack under a hidden name, and give the whole its name at last."""
    body, sums = plan.body, plan.sums
    head = {
        MANIFEST: body,
        SIGNATURE: signature.sign(body, key),
        CHECKSUMS: sums,
        CHECKSUMS_SIGNATURE: signature.sign(sums, key),
    }
    parts = [*(_bytes_part(name, content) for name, content in head.items()), *_ordered(plan.parts)]
    size = sum(part.file.size + 1024 for part in parts)
    try:
        os.makedirs(where.parent, mode=0o755, exist_ok=True)
        fetched = [part for part in parts if part.fetch]
        space.check(
            [
                Need(where.parent, size, "the bundle"),
                Need(cache_path, sum(part.file.size for part in fetched), "what is fetched for it"),
            ]
        )
        fetch(fetched, progress, clock)
        draft = os.path.join(tempfile.mkdtemp(prefix=where.hidden("draft"), dir=where.parent), "bundle")
        pack = _Packing(parts, Meter("packing", size, progress, clock))
        if where.is_tar:
            with open(draft, "wb") as file:
                pack.tar(file)
                os.fchmod(file.fileno(), 0o644)
        elif where.volume_size is None:
            pack.directory(draft)
        else:
            stem = f"{plan.manifest.name}-{plan.manifest.number}.tar"
            with _Volumes(draft, stem, where.volume_size) as volumes:
                pack.tar(cast("BinaryIO", volumes))
        _place(draft, where)
    except OSError as error:
        raise AirgapError(f"the bundle cannot be written to {where.path}: {error.strerror or error}") from error
    finally:
        _tidy(where)


def _ordered(parts: dict[str, Part]) -> list[Part]:
    """As a bundle is read: the index of the layout, what it leads to, and the rest."""
    return [parts[path] for path in sorted(parts, key=lambda path: (path not in LAYOUT_FILES, path))]


class _Packing:
    """Writes the files of a bundle; each is hashed once more on its way, so that what is signed is what is written."""

    def __init__(self, parts: Sequence[Part], meter: Meter) -> None:
        self._parts = parts
        self._meter = meter

    def tar(self, target: BinaryIO) -> None:
        """One plain tar, the same for the same files."""
        with tarfile.TarFile(fileobj=target, mode="w", format=tarfile.PAX_FORMAT, copybufsize=_CHUNK) as archive:
            for part in self._parts:
                info = tarfile.TarInfo(part.file.path)
                info.size, info.mode = part.file.size, int(part.file.mode, 8)
                with self._opened(part) as source:
                    archive.addfile(info, cast("IO[bytes]", source))
                    source.check()

    def directory(self, target: str) -> None:
        """A tree of files."""
        os.mkdir(target, 0o755)
        for part in self._parts:
            path = os.path.join(target, *part.file.path.split("/"))
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            with self._opened(part) as source, open(path, "wb") as file:
                shutil.copyfileobj(source, file, _CHUNK)
                source.check()
                os.fchmod(file.fileno(), int(part.file.mode, 8))

    @contextlib.contextmanager
    def _opened(self, part: Part) -> Iterator[_Checked]:
        with part.open() as file:
            yield _Checked(file, part.file, self._meter)


class _Checked:
    """A file on its way into the bundle."""

    def __init__(self, file: BinaryIO, wanted: BundleFile, meter: Meter) -> None:
        self._file = file
        self._wanted = wanted
        self._meter = meter
        self._hash = hashlib.sha256()
        self._size = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        try:
            data = self._file.read(size)
        except LayoutError as error:
            raise AirgapError(f"{error.message}. The bundle was not built") from error
        self._hash.update(data)
        self._size += len(data)
        self._meter.add(len(data), self._wanted.path)
        return data

    def check(self) -> None:
        """Raises AirgapError unless exactly what was hashed before has been read now."""
        if self._hash.hexdigest() != self._wanted.sha256 or self._file.read(1):
            raise AirgapError(
                f"{self._wanted.path} is not what it was when it was hashed: it changed while the bundle was built, or "
                f"its copy in the cache is corrupt ({getattr(self._file, 'name', 'a stream')}: remove it). Run again"
            )


class _Volumes:
    """A file that is cut into parts of one size."""

    def __init__(self, directory: str, stem: str, size: int) -> None:
        os.mkdir(directory, 0o755)
        self._stem = os.path.join(directory, stem)
        self._size = size
        self._number = 0
        self._room = 0
        self._position = 0
        self._file: IO[bytes] | None = None

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:
            if self._file is None or not self._room:
                self._next()
            written = cast("IO[bytes]", self._file).write(rest[: self._room])
            self._room -= written
            rest = rest[written:]
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def _next(self) -> None:
        if self._file is not None:
            self._file.close()
        self._number += 1
        self._file = open(f"{self._stem}.{self._number:03d}", "wb")  # noqa: SIM115 - closed by __exit__
        self._room = self._size

    def __enter__(self) -> _Volumes:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._file is not None:
            self._file.close()


def _place(draft: str, where: _Output) -> None:
    """Put the draft where the bundle was. A directory cannot be replaced in one step: ``_tidy`` brings the old one back
    when a build is killed between the two."""
    if os.path.isdir(where.path):
        old = tempfile.mkdtemp(prefix=where.hidden("old"), dir=where.parent)
        os.rename(where.path, os.path.join(old, "bundle"))
    os.rename(draft, where.path)


def _tidy(where: _Output) -> None:
    """Remove what killed builds left beside the output."""
    if not os.path.isdir(where.parent):
        return
    for name in os.listdir(where.parent):
        path = os.path.join(where.parent, name)
        if name.startswith(where.hidden("old")):
            kept = os.path.join(path, "bundle")
            if os.path.exists(kept) and not os.path.lexists(where.path):
                os.rename(kept, where.path)
            shutil.rmtree(path, ignore_errors=True)
        elif name.startswith(where.hidden("draft")):
            shutil.rmtree(path, ignore_errors=True)


# --- what is said ----------------------------------------------------------------------------------------------------


def _result(where: _Output, plan: _Plan, content: Content, previous: _Previous | None, changed: bool) -> dict[str, Any]:
    manifest = plan.manifest
    sizes = {name: _bytes_of(tree) for name, tree in content.trees}
    return {
        "changed": changed,
        "bundle": {
            "name": manifest.name,
            "number": manifest.number,
            "created": manifest.created,
            "expires": manifest.expires,
            "path": where.path,
            "files": where.files(),
            "sha256": hashlib.sha256(plan.body).hexdigest(),
            "images": [{**item._asdict(), "size": sizes[item.name]} for item in manifest.images],
            "wheelhouses": {name: house.path for name, house in (manifest.wheelhouses or {}).items()},
            "collection": manifest.collection,
            "file_count": len(manifest.files),
            "bytes_packed": manifest.packed_bytes,
            "bytes_saved": plan.saved,
            "absent_blobs": len(manifest.absent_blobs),
            "absent_files": len(manifest.absent_files),
        },
        "hints": {reference: list(places) for reference, places in content.hints.items()},
        "unknown": list(content.unknown),
        "diff": {
            "before": _shown(previous.manifest) if previous else {},
            "after": _shown(manifest, content.unknown),
        },
    }


def _bytes_of(tree: image.Image) -> int:
    return sum(item.size for item in (*tree.manifests, *tree.blobs))


def _shown(manifest: BundleManifest, unknown: Sequence[str] = ()) -> dict[str, Any]:
    """A bundle in a diff: images by digest, files by hash; blobs are in their images."""
    shown = {
        "name": manifest.name,
        "number": manifest.number,
        "images": {item.name: item.digest for item in manifest.images},
        "files": {
            file.path: file.sha256
            for file in (*manifest.files, *manifest.absent_files)
            if not file.path.startswith(BLOBS) and file.path not in LAYOUT_FILES
        },
    }
    return {**shown, "made_by_the_build": list(unknown)} if unknown else shown
