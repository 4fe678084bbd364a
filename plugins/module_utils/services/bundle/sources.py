# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the content of a bundle comes from: registries, layouts, the Docker daemon, wheels, the collection and files.

Everything is looked up first: names, digests and sizes. Layers of a registry are fetched only when they turn out to be
needed, so neither check mode nor a build that has nothing to do downloads them.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import io
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Callable, NamedTuple, cast

from ...adapters import collection, docker_archive
from ...adapters.blob_cache import BlobCache
from ...adapters.docker import Docker
from ...adapters.layout import Layout
from ...adapters.registry import Registry
from ...adapters.wheels import REQUIREMENTS, Wheels, inputs
from ...engines.bundle import discover
from ...engines.bundle.manifest import BLOBS, BundleFile, BundleImage, Wheelhouse
from ...engines.bundle.spec import DEFAULT_REGISTRY_HOST, Access, ImageSource, WheelSource, discovered, qualified
from ...engines.oci import image
from ...engines.oci.image import Descriptor, Image
from ...errors import AirgapError
from ...times import Clock
from .meter import Meter, size
from .specfile import SpecFile, documents

#: Blobs that are fetched at the same time.
WORKERS = 4
_CHUNK = 1 << 20
_WHEELS = "wheels"

Progress = Callable[[str], None]


class Part(NamedTuple):
    """A file of the bundle, how its content is read, and, where it is elsewhere still, how it is fetched before."""

    file: BundleFile
    open: Callable[[], BinaryIO]
    fetch: Callable[[], None] | None = None


@dataclass
class Tools:
    """What reaches outside; a test brings its own."""

    connect_docker: Callable[[], Docker] = Docker.connect
    connect_registry: Callable[[Mapping[str, Any]], Registry] = lambda options: Registry.connect(dict(options))
    wheels: Callable[[], Wheels] = Wheels
    build_collection: Callable[[str, str], str] = collection.build


@dataclass
class Content:
    """What was gathered. ``unknown`` is what check mode cannot foresee because it would have to be made first."""

    images: list[BundleImage] = field(default_factory=list)
    trees: list[tuple[str, Image]] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)
    wheelhouses: dict[str, Wheelhouse] = field(default_factory=dict)
    collection: str | None = None
    hints: dict[str, tuple[str, ...]] = field(default_factory=dict)
    found: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def add(self, part: Part) -> None:
        """Take a file in. Raises AirgapError when another one has its path."""
        other = self.parts.setdefault(part.file.path, part)
        if other.file != part.file:
            raise AirgapError(f"two files of the bundle would be {part.file.path}: give one of them another path")


class Gathering:
    """One build's look at all sources. Nothing outside the cache is written, and in check mode not even that."""

    def __init__(
        self, specfile: SpecFile, cache: BlobCache, tools: Tools, check_mode: bool, progress: Progress, clock: Clock
    ) -> None:
        self._file = specfile
        self._spec = specfile.spec
        self._cache = cache
        self._tools = tools
        self._check_mode = check_mode
        self._progress = progress
        self._clock = clock
        self._content = Content()
        self._registries: dict[str, Registry] = {}

    def gather(self) -> Content:
        """Everything that bundle.yml asks for. Raises AirgapError that names the line which asked."""
        sources = self._image_sources()
        daemon = [source for source in sources if source.origin == "daemon"]
        # What is cheap to refuse comes before what takes long.
        for file in self._spec.files:
            with self._file.blamed(file.where):
                self._plain(self._file.resolve(file.source), f"files/{file.path}", file.mode)
        for index, pattern in enumerate(self._spec.manifests):
            for path in self._file.match(pattern, ("manifests", index)):
                with self._file.blamed(("manifests", index)):
                    below = self._file.relative(path)
                    # A directory of that name beside bundle.yml is the same one, not one more.
                    self._plain(path, below if below.startswith("manifests/") else f"manifests/{below}", "0644")
        for number, source in enumerate(sources, 1):
            if source.origin == "daemon":
                continue
            self._progress(f"{number} of {len(sources)} images: looking up {source.reference}")
            with self._file.blamed(source.where):
                (self._from_registry if source.origin == "registry" else self._from_layout)(source)
        self._from_daemon(daemon)
        self._add_collection()
        for wheels in self._spec.wheels:
            with self._file.blamed(wheels.where):
                self._add_wheels(wheels)
        self._content.images.sort()
        return self._content

    # --- images ----------------------------------------------------------------------------------------------------

    def _image_sources(self) -> list[ImageSource]:
        sources = {source.name: source for source in self._spec.images}
        asked = set(sources)
        for discovery in self._spec.discoveries:
            paths = [path for item in discovery.patterns for path in self._file.match(item, discovery.where)]
            with self._file.blamed(discovery.where):
                found = discover.images(document for path in paths for document in documents(path))
                self._content.hints.update(found.hints)
                for reference, places in found.images.items():
                    if any(fnmatch.fnmatchcase(reference, pattern) for pattern in discovery.exclude):
                        continue
                    source = discovered(discovery, reference)
                    if source.name in asked:
                        continue
                    other = sources.setdefault(source.name, source)
                    if other.reference != source.reference:
                        raise AirgapError(
                            f"{other.reference} and {source.reference} ({places[0]}) would both be {source.name} "
                            "in the bundle: exclude one of them and name it as an image of its own"
                        )
                    self._content.found[reference] = places
        wanted = self._spec.registry_image
        if wanted is not None and wanted not in sources:
            where = self._file.at(("registry_image",))
            raise AirgapError(f"{where}: {wanted} is not the name of one of the images ({', '.join(sorted(sources))})")
        return list(sources.values())

    def _from_registry(self, source: ImageSource) -> None:
        reference = qualified(source.reference)
        registry = self._registry(str(reference.host))
        repository = reference.repository

        root, body = self._manifest(registry, repository, reference.digest or str(reference.tag))
        root, body = self._narrowed(source, root, body, registry, repository)
        bodies = {root.digest: body}

        def read(item: Descriptor) -> Any:
            if item.digest not in bodies:
                bodies[item.digest] = self._manifest(registry, repository, item.digest)[1]
            return json.loads(bodies[item.digest])

        tree = image.collect(root, read)
        for item in tree.manifests:
            self._add_bytes(item, bodies[item.digest])
        for blob in tree.blobs:
            self._add_blob(blob, functools.partial(self._fetch, registry, repository, blob))
        self._add_image(source, tree)

    def _narrowed(
        self, source: ImageSource, root: Descriptor, body: bytes, registry: Registry, repository: str
    ) -> tuple[Descriptor, bytes]:
        """The image of the one platform that is wanted. An index for several stays as it is: without some of its
        children it would have another digest than everybody else's."""
        if not source.platforms:
            return root, body
        document = json.loads(body)
        if root.media_type in image.INDEX_TYPES:
            there = {_platform(entry): entry for entry in document.get("manifests") or [] if "platform" in entry}
            missing = [platform for platform in source.platforms if _matching(there, platform) is None]
            if missing:
                raise AirgapError(
                    f"{source.reference} has no image for {', '.join(missing)}; it has {', '.join(sorted(there))}"
                )
            if len(source.platforms) > 1:
                return root, body
            return self._manifest(registry, repository, str(_matching(there, source.platforms[0])["digest"]))
        config = registry.read_config(repository, image.parts(document, root.media_type)[1][0].digest)
        found = _platform({"platform": config})
        if _matching({found: config}, source.platforms[0]) is None or len(source.platforms) > 1:
            raise AirgapError(f"{source.reference} is for {found} alone, not for {', '.join(source.platforms)}")
        return root, body

    def _manifest(self, registry: Registry, repository: str, reference: str) -> tuple[Descriptor, bytes]:
        """A manifest by tag or digest; one that the cache has under its digest is not asked for again."""
        note = self._cache.note("manifests", reference.partition(":")[2]) if reference.startswith("sha256:") else None
        if note and self._cache.has(reference):
            body = self._cache.read(reference)
            if f"sha256:{hashlib.sha256(body).hexdigest()}" == reference:
                return Descriptor(str(note["media_type"]), reference, len(body)), body
        found = registry.manifest(repository, reference)
        if found is None:
            tags = registry.tags(repository)
            there = (
                f"it has the tags {', '.join(tags[-20:])}" if tags else "it has no tags, or there is no such repository"
            )
            raise AirgapError(f"{registry.host}/{repository} has no {reference}: {there}")
        if not self._check_mode:
            blob = self._cache.put(found.body)
            self._cache.remember("manifests", blob.digest.partition(":")[2], {"media_type": found.media_type})
        return Descriptor(found.media_type, found.digest, len(found.body)), found.body

    def _fetch(self, registry: Registry, repository: str, blob: Descriptor) -> None:
        if self._cache.has(blob.digest, blob.size):
            return
        with registry.open_blob(repository, blob) as reader, self._cache.draft() as draft:
            for data in reader:
                draft.write(data)
            draft.commit()

    def _registry(self, host: str) -> Registry:
        if host not in self._registries:
            access = self._spec.access("docker.io" if host == DEFAULT_REGISTRY_HOST else host)
            self._registries[host] = self._tools.connect_registry(self._options(access, host))
        return self._registries[host]

    def _options(self, access: Access, host: str) -> dict[str, Any]:
        """The ``registry`` options of a session."""
        password = access.password
        if access.password_file and not password:
            path = self._file.resolve(access.password_file)
            try:
                password = Path(path).read_text(encoding="utf-8").rstrip("\n")
            except OSError as error:
                raise AirgapError(f"the password file {path} cannot be read: {error.strerror}") from error
        return {
            "host": host,
            "scheme": access.scheme,
            "ca_path": self._file.resolve(access.ca_path) if access.ca_path else None,
            "username": access.username,
            "password": password,
        }

    def _from_layout(self, source: ImageSource) -> None:
        layout = Layout(self._file.resolve(source.reference))
        tree = layout.image(source.ref)
        for item in tree.manifests:
            self._add_bytes(item, layout.manifest(item))
        for blob in tree.blobs:
            opener = cast("Callable[[], BinaryIO]", functools.partial(layout.open, blob))
            self._content.add(Part(_blob_file(blob.digest, blob.size), opener))
        self._add_image(source, tree)

    def _from_daemon(self, sources: list[ImageSource]) -> None:
        if not sources:
            return
        docker = self._tools.connect_docker()
        there: dict[str, dict[str, Any]] = {}
        for source in sources:
            with self._file.blamed(source.where):
                found = docker.image(source.reference)
                if found is None:
                    raise AirgapError(
                        f"the image {source.reference} is not in the Docker daemon at {docker.url}: "
                        "build or load it there (docker images lists what it has)"
                    )
                there[source.reference] = found
        missing = {name: about for name, about in there.items() if self._saved(str(about["Id"])) is None}
        if self._check_mode:
            self._content.unknown += [source.name for source in sources if source.reference in missing]
        elif missing:
            self._save(docker, missing)
        for source in sources:
            root = self._saved(str(there[source.reference]["Id"]))
            if root is not None:
                self._add_saved(source, root)

    def _save(self, docker: Docker, images: Mapping[str, Mapping[str, Any]]) -> None:
        """Bring images of the daemon into the cache. Those that share layers come in one stream, so no layer comes
        twice; and while one stream is read, Docker already prepares the next."""
        # Layers that several images have are counted with each here: the end comes early, never late.
        total = sum(int(about.get("Size") or 0) for about in images.values())
        self._progress(f"reading {len(images)} images ({size(total)} or less) from Docker")
        meter = Meter(f"reading {len(images)} images from Docker", total, self._progress, self._clock)
        saved = docker_archive.convert(
            _ahead([functools.partial(docker.save, names) for names in sharing(images)]),
            self._cache,
            lambda count: meter.add(count, "layers are compressed meanwhile"),
        )
        by_name = {name: item for item in saved for name in (item.identity, *item.names)}
        for name, about in images.items():
            identity = str(about["Id"])
            # With containerd's store Docker's image ID is no config: there the name has to do.
            found = by_name.get(identity) or by_name.get(name) or by_name.get(f"{name}:latest")
            if found is None:
                raise AirgapError(f"{name} changed in Docker while it was saved: run again")
            self._cache.remember("images", _image_key(identity), found.root._asdict())

    def _saved(self, identity: str) -> Descriptor | None:
        """The manifest of an image of the daemon that an earlier build has converted, with all its blobs."""
        note = self._cache.note("images", _image_key(identity))
        if note is None:
            return None
        root = Descriptor(**note)
        if not self._cache.has(root.digest, root.size):
            return None
        _children, blobs = image.parts(json.loads(self._cache.read(root.digest)), root.media_type)
        return root if all(self._cache.has(blob.digest, blob.size) for blob in blobs) else None

    def _add_saved(self, source: ImageSource, root: Descriptor) -> None:
        tree = image.collect(root, lambda item: json.loads(self._cache.read(item.digest)))
        for item in (*tree.manifests, *tree.blobs):
            self._add_blob(item, None)
        self._add_image(source, tree)

    def _add_image(self, source: ImageSource, tree: Image) -> None:
        root = tree.root
        text = f"{source.origin} {source.reference}" + (f" {source.ref}" if source.ref else "")
        self._content.images.append(BundleImage(source.name, root.digest, root.media_type, text, source.kind))
        self._content.trees.append((source.name, tree))

    def _add_blob(self, blob: Descriptor, fetch: Callable[[], None] | None) -> None:
        file = _blob_file(blob.digest, blob.size)
        self._content.add(Part(file, lambda: self._cache.open(blob.digest), fetch))

    def _add_bytes(self, item: Descriptor, body: bytes) -> None:
        self._content.add(Part(_blob_file(item.digest, item.size), lambda: io.BytesIO(body)))

    # --- what is no image ------------------------------------------------------------------------------------------

    def _plain(self, source: str, path: str, mode: str | None) -> None:
        """A file, or everything below a directory."""
        if os.path.isdir(source):
            below = [os.path.join(folder, name) for folder, _directories, names in os.walk(source) for name in names]
            if not below:
                raise AirgapError(f"the directory {source} is empty")
            for item in sorted(below):
                self._plain(item, f"{path}/{os.path.relpath(item, source)}", mode)
            return
        digest, size = _hashed(source)
        permissions = mode or ("0755" if os.access(source, os.X_OK) else "0644")
        self._content.add(Part(BundleFile(path, digest, size, permissions), functools.partial(_open, source)))

    def _add_collection(self) -> None:
        wanted = self._spec.collection
        if wanted is None:
            return
        with self._file.blamed(("collection",)):
            path = self._file.resolve(wanted)
            if os.path.isdir(path):
                self._progress(f"building the collection of {path}")
                # A temporary directory of the system: in check mode the cache stays as it is.
                body, name = _built(self._tools.build_collection, path)
                file = BundleFile(f"collections/{name}", hashlib.sha256(body).hexdigest(), len(body))
                self._content.add(Part(file, lambda: io.BytesIO(body)))
                self._content.collection = file.path
            elif path.endswith(".tar.gz"):
                self._plain(path, f"collections/{os.path.basename(path)}", "0644")
                self._content.collection = f"collections/{os.path.basename(path)}"
            else:
                raise AirgapError(f"{path} is neither the checkout of a collection nor a tar.gz that was built")

    def _add_wheels(self, source: WheelSource) -> None:
        house = Wheelhouse(source.python, source.platforms, f"{_WHEELS}/{source.name}")
        folder = self._wheelhouse(source)
        if folder is None:
            self._content.unknown.append(house.path)
            return
        self._content.wheelhouses[source.name] = house
        for name in sorted(os.listdir(folder)):
            self._plain(os.path.join(folder, name), f"{house.path}/{name}", "0644")

    def _wheelhouse(self, source: WheelSource) -> str | None:
        """The directory of the cache with these wheels; None in check mode when they would have to be fetched."""
        if source.requirements_file is not None:
            requirements = self._file.resolve(source.requirements_file)
            key = inputs(source, requirements)
        else:
            key = hashlib.sha256(repr(source._replace(where=())).encode()).hexdigest()
        target = os.path.join(self._cache.path, _WHEELS, key)
        if os.path.isfile(os.path.join(target, REQUIREMENTS)):
            for name in os.listdir(target):
                os.utime(os.path.join(target, name))
            return target
        if self._check_mode:
            return None
        scratch = self._cache.scratch()
        self._progress(f"fetching the wheels of {source.name} for Python {source.python}")
        if source.requirements_file is None:
            requirements = os.path.join(scratch, "requirements.in")
            Path(requirements).write_text("".join(f"{line}\n" for line in source.requirements), encoding="utf-8")
        folder = os.path.join(scratch, _WHEELS)
        os.mkdir(folder)
        self._tools.wheels().fetch(source, requirements, folder)
        shutil.rmtree(target, ignore_errors=True)
        self._cache.adopt(folder, target)
        return target


def sharing(images: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The names of inspected images in groups that have no layer in common, the largest group first."""
    groups: list[tuple[list[str], set[str], int]] = []
    for name, about in images.items():
        names, layers = [name], set((about.get("RootFS") or {}).get("Layers") or ())
        size = int(about.get("Size") or 0)
        for group in [group for group in groups if group[1] & layers]:
            groups.remove(group)
            names, layers, size = group[0] + names, group[1] | layers, group[2] + size
        groups.append((names, layers, size))
    return [names for names, _layers, _size in sorted(groups, key=lambda group: -group[2])]


def _ahead(requests: list[Callable[[], Iterator[bytes]]]) -> Iterator[Iterator[bytes]]:
    """The streams of the requests in order; each is asked for while the one before is read."""

    def begin(request: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
        stream = request()
        return itertools.chain([next(stream, b"")], stream)

    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(begin, request) for request in requests[:1]]
        for index in range(len(requests)):
            stream = coming[index].result()
            coming += [pool.submit(begin, request) for request in requests[index + 1 : index + 2]]
            yield stream


def fetch(parts: Sequence[Part], progress: Progress, clock: Clock) -> None:
    """Bring what has to be fetched into the cache, several at a time."""
    meter = Meter(f"fetching {len(parts)} blobs", sum(part.file.size for part in parts), progress, clock)

    def bring(part: Part) -> None:
        if part.fetch:
            part.fetch()
        meter.add(part.file.size, part.file.path)

    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            list(pool.map(bring, parts))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _blob_file(digest: str, size: int) -> BundleFile:
    algorithm, _colon, sha256 = digest.partition(":")
    if algorithm != "sha256":
        raise AirgapError(f"{digest} is no sha256: a bundle holds no other digests")
    return BundleFile(BLOBS + sha256, sha256, size)


def _image_key(identity: str) -> str:
    return f"{identity.partition(':')[2]}-{docker_archive.LEVEL}"


def _platform(entry: Mapping[str, Any]) -> str:
    platform = entry.get("platform") or {}
    parts = (platform.get("os"), platform.get("architecture"), platform.get("variant"))
    return "/".join(str(part) for part in parts if part)


def _matching(there: Mapping[str, Any], wanted: str) -> Any:
    """The entry of a platform; ``linux/arm64`` also finds ``linux/arm64/v8``, as every runtime does."""
    if wanted in there:
        return there[wanted]
    return next((there[name] for name in sorted(there) if name.startswith(f"{wanted}/")), None)


def _open(path: str) -> BinaryIO:
    return open(path, "rb")


def _hashed(path: str) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            while True:
                data = file.read(_CHUNK)
                if not data:
                    return digest.hexdigest(), size
                digest.update(data)
                size += len(data)
    except OSError as error:
        raise AirgapError(f"{path} cannot be read: {error.strerror}") from error


def _built(build: Callable[[str, str], str], checkout: str) -> tuple[bytes, str]:
    with tempfile.TemporaryDirectory(prefix="lumen-airgap-") as folder:
        path = Path(build(checkout, folder))
        return path.read_bytes(), path.name
