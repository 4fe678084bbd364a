# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle is what its signer made: signature first, then what it lists against what is there, then every hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Callable

from ...adapters import signature
from ...adapters.layout import INDEX_LIMIT, Layout
from ...adapters.store import Store
from ...engines.bundle import manifest as engine
from ...engines.bundle.manifest import BundleError, BundleFile, BundleImage, BundleManifest
from ...engines.oci import image
from ...errors import AirgapError
from ...times import Clock
from .meter import Meter

_BUFFER = 1024 * 1024
# hashlib lets go of the interpreter while it hashes, so a second thread uses the second core.
_WORKERS = 2
_REF_NAME = image.NAME_ANNOTATIONS[0]


class VerificationError(AirgapError):
    """The bundle is not whole, or not what was signed."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose bundle.json (``sha256``) is signed by ``signer``, an allowed one. Its files are not yet hashed."""

    store: Store
    manifest: BundleManifest
    sha256: str
    signer: str

    def __str__(self) -> str:
        return f"bundle {self.manifest.name} {self.manifest.number}"

    def layout(self) -> Layout:
        """The images as bundle.json names them, which is signed: index.json may have changed since it was checked."""
        absent = frozenset(blob.digest for blob in self.manifest.absent_blobs)
        sizes = {file.path: file.size for file in self.manifest.files}
        entries = [
            {
                "mediaType": item.media_type,
                "digest": item.digest,
                "size": sizes[engine.BLOBS + item.digest.partition(":")[2]],
                "annotations": {_REF_NAME: item.name},
            }
            for item in self.manifest.images
        ]
        return Layout(self.store.where, self.store, absent, {"manifests": entries})

    def summary(self) -> dict[str, Any]:
        """What a module returns of it."""
        return {
            "name": self.manifest.name,
            "number": self.manifest.number,
            "created": self.manifest.created,
            "expires": self.manifest.expires,
            "sha256": self.sha256,
            "signer": self.signer,
            "path": self.store.where,
            "images": [item._asdict() for item in self.manifest.images],
            "wheelhouses": {name: house.path for name, house in (self.manifest.wheelhouses or {}).items()},
            "collection": self.manifest.collection,
            "file_count": len(self.manifest.files),
            "bytes_packed": self.manifest.packed_bytes,
            "absent_blobs": len(self.manifest.absent_blobs),
            "absent_files": len(self.manifest.absent_files),
        }


def authenticate(store: Store, allowed_signers: str, signer: str = "*", name: str | None = None) -> Bundle:
    """Read bundle.json only after its signature was found good; ``name`` is the one that the bundle has to have.

    Both signatures are checked, so that who checks by hand comes to the same end. Raises AirgapError.
    """
    body = _head(store, engine.MANIFEST, engine.MANIFEST_LIMIT)
    sums = _head(store, engine.CHECKSUMS, engine.MANIFEST_LIMIT)
    signed_by = ""
    for what, content, sig in (
        (engine.CHECKSUMS, sums, engine.CHECKSUMS_SIGNATURE),
        (engine.MANIFEST, body, engine.SIGNATURE),
    ):
        given = _head(store, sig, signature.SIGNATURE_LIMIT)
        signed_by = signature.verify(content, given, allowed_signers, f"{what} of {store.where}", signer)
    try:
        manifest = engine.parse(body)
    except BundleError as error:
        raise VerificationError(f"{store.where}: {error}") from error
    if name is not None and manifest.name != name:
        raise VerificationError(
            f"{store.where} is the bundle {manifest.name}, but {name} is expected: give the path of that one"
        )
    if sums != engine.checksums(manifest, body, hashlib.sha256):
        raise VerificationError(
            f"{store.where}: {engine.CHECKSUMS} and {engine.MANIFEST} are of two different bundles: copy it again"
        )
    return Bundle(store, manifest, hashlib.sha256(body).hexdigest(), signed_by)


def check_files(bundle: Bundle) -> None:
    """Compare what is there with what is signed, by names and sizes, and index.json by its content as well.

    Reads little: after it, images can be looked up and planned, and every byte that is read later is checked then.
    Raises VerificationError.
    """
    store, manifest = bundle.store, bundle.manifest
    listed = {file.path for file in manifest.files}
    extra = sorted(set(store.names()) - listed - set(engine.HEAD))
    if extra:
        raise VerificationError(
            f"{store.where} has {_some(extra)}, which {engine.MANIFEST} does not list: "
            "somebody put it there after the bundle was signed. Remove it, or copy the bundle again"
        )
    for file in manifest.files:
        _check_size(bundle, file)
    if manifest.images:
        _check_index(bundle)


def check_hashes(bundle: Bundle, progress: Callable[[str], None], clock: Clock) -> None:
    """Read every byte of every file and compare it with what is signed. Raises VerificationError."""
    meter = Meter(f"checking {bundle}", bundle.manifest.packed_bytes, progress, clock)
    by_path = {file.path: file for file in bundle.manifest.files}
    # In the order in which they lie there: what carries a bundle may be slow to seek.
    files = [by_path[name] for name in bundle.store.names() if name in by_path]
    with ThreadPoolExecutor(_WORKERS) as pool:
        # The first that fails ends the loop, and what has not begun then never does.
        for _none in pool.map(lambda file: _check_hash(bundle, file, meter), files):
            pass


def check_images(bundle: Bundle) -> dict[str, image.Image]:
    """Every image by its name, with all its manifests and blobs in the bundle or said to be absent."""
    layout = bundle.layout()
    return {item.name: layout.image(item.name) for item in bundle.manifest.images}


def verify(
    store: Store,
    allowed_signers: str,
    signer: str,
    name: str | None,
    progress: Callable[[str], None],
    clock: Clock,
) -> Bundle:
    """All of the above in its order."""
    bundle = authenticate(store, allowed_signers, signer, name)
    progress(f"{bundle}, created {bundle.manifest.created}, is signed by {bundle.signer}")
    check_files(bundle)
    check_hashes(bundle, progress, clock)
    check_images(bundle)
    return bundle


def _head(store: Store, name: str, limit: int) -> bytes:
    """A file that is read before anything is known to be good: bounded."""
    size = store.size(name)
    if size is None:
        if name in (engine.SIGNATURE, engine.CHECKSUMS_SIGNATURE):
            raise VerificationError(f"{store.where} is not signed: it has no {name}. Nothing of it was used")
        raise VerificationError(f"{store.where} is not a bundle: it has no {name}")
    if size > limit:
        raise VerificationError(f"{store.where}: {name} has {size} bytes, more than the {limit} that are read")
    with store.open(name) as file:
        return file.read(size)


def _check_size(bundle: Bundle, file: BundleFile) -> None:
    size = bundle.store.size(file.path)
    if size is None:
        raise VerificationError(f"{bundle.store.where} lacks {file.path}, which its bundle.json lists: copy it again")
    if size != file.size:
        raise VerificationError(
            f"{file.path} of {bundle.store.where} has {size} bytes instead of {file.size}: copy it again"
        )


def _check_hash(bundle: Bundle, file: BundleFile, meter: Meter) -> None:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(_BUFFER, file.size or 1)))
    left = file.size
    with bundle.store.open(file.path) as stream:
        while left:
            try:
                count = stream.readinto(buffer[:left])  # type: ignore[attr-defined]
            except OSError as error:
                raise VerificationError(f"{file.path} of {bundle.store.where} cannot be read: {error}") from error
            if not count:
                raise VerificationError(f"{file.path} of {bundle.store.where} ends too early: copy it again")
            digest.update(buffer[:count])
            left -= count
            meter.add(count, file.path)
    if digest.hexdigest() != file.sha256:
        raise corrupt(bundle, file, digest.hexdigest())


def corrupt(bundle: Bundle, file: BundleFile, found: str) -> VerificationError:
    """The error for a file whose content is not the signed one."""
    return VerificationError(
        f"{file.path} of {bundle.store.where} is corrupt: its sha256 is {found}, "
        f"bundle.json says {file.sha256}. Copy it again"
    )


def _check_index(bundle: Bundle) -> None:
    """index.json says what bundle.json says: the tools that read the layout see the same images."""
    (listed,) = (file for file in bundle.manifest.files if file.path == "index.json")
    if listed.size > INDEX_LIMIT:
        raise VerificationError(f"{bundle.store.where}: index.json has {listed.size} bytes, more than {INDEX_LIMIT}")
    with bundle.store.open("index.json") as file:
        body = file.read(listed.size)
    found = hashlib.sha256(body).hexdigest()
    if found != listed.sha256:
        raise corrupt(bundle, listed, found)
    try:
        entries = [(_ref_name(entry), image.descriptor(entry)) for entry in json.loads(body)["manifests"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise VerificationError(f"{bundle.store.where}: index.json is no index of images: {error}") from error
    wanted = {item.name: item for item in bundle.manifest.images}
    if len(entries) != len(wanted):
        _check_names(bundle, [name for name, _item in entries], list(wanted))
    for name, item in entries:
        _check_entry(bundle, name, item, wanted.get(name))


def _check_names(bundle: Bundle, there: Sequence[str], wanted: Sequence[str]) -> None:
    different = sorted(set(there) ^ set(wanted)) or sorted({name for name in there if there.count(name) > 1})
    raise VerificationError(
        f"{bundle.store.where}: {_some(different)} is in one of index.json and bundle.json and not in the other"
    )


def _check_entry(bundle: Bundle, name: str, item: image.Descriptor, wanted: BundleImage | None) -> None:
    if wanted is None:
        raise VerificationError(
            f"{bundle.store.where}: index.json names the image {name}, which bundle.json does not have"
        )
    if (item.digest, item.media_type) != (wanted.digest, wanted.media_type):
        raise VerificationError(
            f"{bundle.store.where}: index.json has {item.digest} ({item.media_type}) as {name}, "
            f"bundle.json has {wanted.digest} ({wanted.media_type})"
        )


def _ref_name(entry: Any) -> str:
    return str((entry.get("annotations") or {}).get(_REF_NAME))


def _some(found: Sequence[str]) -> str:
    shown = ", ".join(found[:5])
    return shown if len(found) <= 5 else f"{shown} and {len(found) - 5} more"
