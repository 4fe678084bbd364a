# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""bundle.yml: what a bundle is made from, parsed and checked before anything is fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, TypeVar

from ..oci import references
from ..oci.references import Reference
from .manifest import check_image_name, check_name, check_path, seconds

SCHEMA = 1
#: Where an image lives whose reference names no registry, and the host that serves its API.
DEFAULT_REGISTRY = "docker.io"
DEFAULT_REGISTRY_HOST = "registry-1.docker.io"
WHEELHOUSES = ("node", "control")
SOURCES = ("registry", "daemon", "layout", "discover")
#: What the modules that run on node-1 import: its wheelhouse unless bundle.yml says otherwise.
NODE_REQUIREMENTS = ("bcrypt==5.0.0", "docker==7.2.0", "PyYAML==6.0.3", "requests==2.34.2")
TRIVY = {"db": ("trivy-db", "trivy-db"), "java_db": ("trivy-java-db", "trivy-java-db")}

_PYTHON = re.compile(r"3\.([0-9]{1,2})")
_PLATFORM = re.compile(r"(?:manylinux_2_(?P<minor>[0-9]{1,2})|manylinux(?P<year>1|2010|2014))_(?P<arch>[a-z0-9_]+)")
_OCI_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9.]+)?")
_MODE = re.compile(r"0[4-7][0-7][0-7]")
_SIZE = re.compile(r"([0-9]+) ?(|[KMGT]i?)B?")
_YEARS = {"1": 5, "2010": 12, "2014": 17}
_LEGACY = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
_UNITS = {"": 1, **{f"{unit}i": 1024**power for power, unit in enumerate("KMGT", 1)}}
_DECIMAL = {unit: 1000**power for power, unit in enumerate("KMGT", 1)}
_T = TypeVar("_T")

Where = tuple[Any, ...]


class SpecError(ValueError):
    """A bundle.yml that cannot be built. ``where`` is the path of keys and indexes to the value at fault."""

    def __init__(self, message: str, where: Where = ()) -> None:
        super().__init__(message)
        self.where = where


class Access(NamedTuple):
    """How a registry is spoken to. ``password_file`` is read when there is no ``password``."""

    host: str
    scheme: str = "https"
    ca_path: str | None = None
    username: str | None = None
    password: str | None = None
    password_file: str | None = None


class ImageSource(NamedTuple):
    """One image. ``origin`` is registry, daemon or layout; ``reference`` is the reference, the daemon's name for it, or
    the path of the layout, and ``ref`` the name within that. ``where`` says in which key it was asked for."""

    origin: str
    reference: str
    name: str
    where: Where
    ref: str | None = None
    platforms: tuple[str, ...] = ()
    kind: str = "image"


class Discovery(NamedTuple):
    """Images named by the Kubernetes objects in files. ``exclude`` are shell patterns of references."""

    patterns: tuple[str, ...]
    where: Where
    exclude: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    origin: str = "registry"


class FileSource(NamedTuple):
    """A file or a directory, and the path in the bundle; ``mode`` None keeps whether it is executable."""

    source: str
    path: str
    mode: str | None
    where: Where


class WheelSource(NamedTuple):
    """A wheelhouse: its target, and its requirements as lines or as the path of a file."""

    name: str
    python: str
    platforms: tuple[str, ...]
    requirements: tuple[str, ...]
    requirements_file: str | None
    where: Where


@dataclass(frozen=True)
class Spec:
    """A checked bundle.yml. Paths are as they are written there: relative to its directory, or absolute."""

    name: str
    number: int | None = None
    valid_days: int | None = None
    expires: str | None = None
    registry_image: str | None = None
    registries: tuple[Access, ...] = ()
    images: tuple[ImageSource, ...] = ()
    discoveries: tuple[Discovery, ...] = ()
    manifests: tuple[str, ...] = ()
    files: tuple[FileSource, ...] = ()
    collection: str | None = None
    wheels: tuple[WheelSource, ...] = ()

    def access(self, host: str) -> Access:
        """How this registry is spoken to; https without credentials when bundle.yml does not say."""
        return next((item for item in self.registries if item.host == host), Access(host))


def parse(document: Any) -> Spec:
    """Check a parsed bundle.yml. Raises SpecError at the first thing that is wrong."""
    top = _Node(document, ())
    top.only(
        *("schema", "name", "number", "valid_days", "expires", "registry_image", "registries", "images", "trivy"),
        *("manifests", "files", "collection", "wheels"),
    )
    if top.value.get("schema") != SCHEMA:
        raise SpecError(
            f"schema is {top.value.get('schema')!r}, this version of the collection reads {SCHEMA}",
            ("schema",) if "schema" in top.value else (),
        )
    # The short form: all that the manifests in the bundle name.
    every = top.value.get("images") == "discover"
    images = [] if every else top.each("images")
    spec = Spec(
        name=top.checked("name", check_name),
        number=top.integer("number"),
        valid_days=top.integer("valid_days"),
        expires=top.optional("expires", _time),
        registry_image=top.optional("registry_image", check_image_name),
        registries=tuple(_access(node) for node in top.each("registries")),
        images=(
            *(_image(node) for node in images if "discover" not in node.value),
            *_trivy(top),
        ),
        discoveries=(
            (Discovery(top.texts("manifests"), ("images",)),)
            if every
            else tuple(_discovery(node) for node in images if "discover" in node.value)
        ),
        manifests=top.texts("manifests"),
        files=tuple(_file(node) for node in top.each("files")),
        collection=top.optional("collection"),
        wheels=_wheels(top),
    )
    if every and not spec.manifests:
        raise SpecError("images: discover looks into the manifests of the bundle, and there are none", ("images",))
    if spec.valid_days is not None and spec.expires is not None:
        raise SpecError("valid_days and expires both say how long the bundle is valid: give one", ("expires",))
    _check_names(spec)
    return spec


def qualified(text: str) -> Reference:
    """A reference as container runtimes read it: without a registry it is one of Docker Hub.

    Raises InvalidReferenceError.
    """
    reference = references.parse(text)
    if reference.host in (None, DEFAULT_REGISTRY, DEFAULT_REGISTRY_HOST, "index.docker.io"):
        repository = reference.repository
        library = repository if "/" in repository else f"library/{repository}"
        reference = reference._replace(host=DEFAULT_REGISTRY_HOST, repository=library)
    if reference.tag is None and reference.digest is None:
        reference = reference._replace(tag="latest")
    return reference


def discovered(discovery: Discovery, reference: str) -> ImageSource:
    """The image that a manifest names; its name in the bundle is the reference without the registry."""
    name = check_image_name(default_name(_named(discovery.origin, reference)))
    return ImageSource(discovery.origin, reference, name, discovery.where, platforms=discovery.platforms)


def default_name(reference: Reference) -> str:
    """``repository:tag`` of the bundle for an image that is not given a name; a digest alone becomes a tag."""
    return f"{reference.repository}:{reference.tag or str(reference.digest).replace(':', '-')}"


def parse_size(text: str) -> int:
    """Bytes of ``4294967296``, ``4GiB``, ``4Gi`` or ``4GB`` (powers of ten). Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size: give bytes, or a number with KiB, MiB, GiB, TiB, KB, MB, GB or TB")
    return int(match[1]) * {**_UNITS, **_DECIMAL}[match[2]]


def architecture(platforms: tuple[str, ...]) -> str:
    """The architecture of platform tags, as Python spells it: ``x86_64``. Raises ValueError when there are several."""
    found = {match["arch"] for match in map(_PLATFORM.fullmatch, platforms) if match}
    if len(found) != 1:
        raise ValueError(f"platforms are of one architecture, not of {', '.join(sorted(found)) or 'none'}")
    return found.pop()


def libc_minor(platforms: tuple[str, ...]) -> int:
    """The newest glibc 2.x that the platform tags name."""
    return max(_minor(match) for match in map(_PLATFORM.fullmatch, platforms) if match)


def expand_platforms(platforms: tuple[str, ...]) -> tuple[str, ...]:
    """Every tag that a machine with the newest of these installs, the newest first (PEP 600): an index has wheels for
    an older glibc under the older tag, and pip compares tags as text."""
    arch = architecture(platforms)
    tags = []
    for minor in range(libc_minor(platforms), 4, -1):
        tags.append(f"manylinux_2_{minor}_{arch}")
        if minor in _LEGACY:
            tags.append(f"{_LEGACY[minor]}_{arch}")
    return (*tags, f"linux_{arch}")


def _minor(match: re.Match[str]) -> int:
    return int(match["minor"]) if match["minor"] else _YEARS[match["year"]]


class _Node:
    """A mapping of bundle.yml with the path of keys that leads to it."""

    def __init__(self, value: Any, where: Where) -> None:
        if not isinstance(value, Mapping):
            raise SpecError(f"a mapping is expected, not {_kind(value)}", where)
        self.value = value
        self.where = where

    def only(self, *known: str) -> None:
        for key in self.value:
            if key not in known:
                raise SpecError(f"the key {key!r} is not known; known are {', '.join(known)}", (*self.where, key))

    def text(self, key: str) -> str:
        value = self.value.get(key)
        if value is None:
            raise SpecError(f"{key} is missing", self.where)
        if not isinstance(value, str) or not value:
            raise SpecError(f"{key} is a text, not {_kind(value)}", (*self.where, key))
        return value

    def checked(self, key: str, check: Callable[[str], _T]) -> _T:
        try:
            return check(self.text(key))
        except SpecError:
            raise
        except ValueError as error:
            raise SpecError(str(error), (*self.where, key)) from error

    def optional(self, key: str, check: Callable[[str], str] = str) -> str | None:
        return None if self.value.get(key) is None else self.checked(key, check)

    def integer(self, key: str) -> int | None:
        value = self.value.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SpecError(f"{key} is a number from 1, not {value!r}", (*self.where, key))
        return value

    def items(self, key: str) -> list[Any]:
        value = self.value.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise SpecError(f"{key} is a list, not {_kind(value)}", (*self.where, key))
        return value

    def each(self, key: str) -> list[_Node]:
        return [_Node(item, (*self.where, key, index)) for index, item in enumerate(self.items(key))]

    def texts(self, key: str, check: Callable[[str], str] = str) -> tuple[str, ...]:
        found = []
        for index, item in enumerate(self.items(key)):
            where = (*self.where, key, index)
            if not isinstance(item, str) or not item:
                raise SpecError(f"{key} is a list of texts, not of {_kind(item)}", where)
            try:
                found.append(check(item))
            except ValueError as error:
                raise SpecError(str(error), where) from error
        return tuple(found)

    def child(self, key: str) -> _Node | None:
        return None if self.value.get(key) is None else _Node(self.value[key], (*self.where, key))


def _access(node: _Node) -> Access:
    node.only("host", "scheme", "ca_path", "username", "password", "password_file")
    scheme = node.optional("scheme") or "https"
    if scheme not in ("http", "https"):
        raise SpecError(f"scheme is http or https, not {scheme!r}", (*node.where, "scheme"))
    access = Access(
        node.checked("host", references.check_host),
        scheme,
        *(node.optional(key) for key in ("ca_path", "username", "password", "password_file")),
    )
    if access.username and not (access.password or access.password_file):
        raise SpecError("a username needs a password or a password_file", (*node.where, "username"))
    return access


def _image(node: _Node) -> ImageSource:
    origins = [key for key in SOURCES if key in node.value]
    if len(origins) != 1:
        # A source that is spelled wrong is named rather than missed.
        node.only(*SOURCES, "ref", "name", "platforms", "exclude", "from")
        raise SpecError(f"an image has exactly one source of {', '.join(SOURCES)}", node.where)
    origin = origins[0]
    node.only(origin, "name", "platforms", *(("ref",) if origin == "layout" else ()))
    reference = node.text(origin)
    if origin == "registry":
        node.checked(origin, qualified)
    name = node.optional("name", check_image_name) or _derived_name(node, origin)
    return ImageSource(origin, reference, name, node.where, node.optional("ref"), _platforms(node))


def _derived_name(node: _Node, origin: str) -> str:
    try:
        if origin == "layout":
            return check_image_name(node.optional("ref") or "")
        return check_image_name(default_name(_named(origin, node.text(origin))))
    except ValueError as error:
        raise SpecError(f"a name (repository:tag) is needed here: {error}", node.where) from error


def _named(origin: str, text: str) -> Reference:
    if origin == "registry":
        return qualified(text)
    reference = references.parse(text)
    if reference.repository == "sha256":
        raise references.InvalidReferenceError(f"{text} is an ID, not repository:tag")
    return reference if reference.tag else reference._replace(tag="latest")


def _trivy(top: _Node) -> list[ImageSource]:
    node = top.child("trivy")
    if node is None:
        return []
    node.only(*TRIVY)
    found = []
    for key, (kind, repository) in TRIVY.items():
        value = node.value.get(key)
        if value is None:
            continue
        # The short form is the reference alone.
        entry = _Node({"registry": value} if isinstance(value, str) else value, (*node.where, key))
        source = _image(_Node({"name": f"{repository}:{_schema_of(entry)}", **entry.value}, entry.where))
        found.append(source._replace(kind=kind))
    return found


def _schema_of(entry: _Node) -> str:
    """The tag of a Trivy database is the version of its schema, which is what Trivy looks for."""
    text = entry.value.get("registry") or entry.value.get("ref") or ""
    tag = str(text).partition("@")[0].rpartition(":")[2]
    return tag if tag.isdigit() else "2" if entry.where[-1] == "db" else "1"


def _discovery(node: _Node) -> Discovery:
    node.only("discover", "exclude", "platforms", "from")
    patterns = node.texts("discover")
    if not patterns:
        raise SpecError("discover is a list of files or patterns", (*node.where, "discover"))
    origin = node.optional("from") or "registry"
    if origin not in ("registry", "daemon"):
        raise SpecError(f"discovered images come from a registry or a daemon, not {origin!r}", (*node.where, "from"))
    return Discovery(patterns, node.where, node.texts("exclude"), _platforms(node), origin)


def _platforms(node: _Node) -> tuple[str, ...]:
    return node.texts("platforms", _platform)


def _platform(text: str) -> str:
    if not _OCI_PLATFORM.fullmatch(text):
        raise SpecError(f"{text!r} is not a platform like linux/amd64")
    return text


def _file(node: _Node) -> FileSource:
    node.only("source", "path", "mode")
    mode = node.optional("mode")
    if mode is not None and not _MODE.fullmatch(mode):
        raise SpecError(f"mode is four octal digits in quotes like '0644', not {mode!r}", (*node.where, "mode"))
    source = node.text("source")
    path = node.optional("path", check_path) or source.rstrip("/").rpartition("/")[2]
    return FileSource(source, path, mode, node.where)


def _wheels(top: _Node) -> tuple[WheelSource, ...]:
    node = top.child("wheels")
    if node is None:
        return ()
    node.only(*WHEELHOUSES)
    return tuple(_wheel(name, child) for name in WHEELHOUSES for child in [node.child(name)] if child is not None)


def _wheel(name: str, node: _Node) -> WheelSource:
    node.only("python", "platforms", "requirements")
    python = node.text("python")
    if not _PYTHON.fullmatch(python):
        raise SpecError(
            f"python is the version of the target in quotes like '3.11', not {python!r}", (*node.where, "python")
        )
    platforms = node.texts("platforms", _wheel_platform)
    try:
        architecture(platforms)
    except ValueError as error:
        raise SpecError(
            f"{error}; name tags of the target like manylinux_2_36_x86_64",
            (*node.where, "platforms") if "platforms" in node.value else node.where,
        ) from error
    listed = isinstance(node.value.get("requirements"), list)
    requirements = node.texts("requirements") if listed else ()
    file = None if listed or "requirements" not in node.value else node.text("requirements")
    if not requirements and file is None and name == "node" and "requirements" not in node.value:
        requirements = NODE_REQUIREMENTS
    if not requirements and file is None:
        raise SpecError("requirements is a list that is not empty, or the path of a file", node.where)
    return WheelSource(name, python, platforms, requirements, file, node.where)


def _wheel_platform(text: str) -> str:
    if not _PLATFORM.fullmatch(text):
        raise SpecError(f"{text!r} is not a platform tag like manylinux_2_36_x86_64 or manylinux2014_x86_64")
    return text


def _time(text: str) -> str:
    seconds(text)
    return text


def _check_names(spec: Spec) -> None:
    seen: dict[str, Where] = {}
    for image in spec.images:
        other = seen.setdefault(image.name, image.where)
        if other != image.where:
            raise SpecError(f"{image.name} is the name of two images, also of {dotted(other)}", image.where)
    paths: dict[str, Where] = {}
    for file in spec.files:
        other = paths.setdefault(file.path, file.where)
        if other != file.where:
            raise SpecError(f"{file.path} is the path of two files, also of {dotted(other)}", file.where)


def dotted(where: Where) -> str:
    """``('images', 2, 'name')`` as ``images[2].name``."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", int: "a number", bool: "true or false"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)
