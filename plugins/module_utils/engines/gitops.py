# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image of a workload in a manifest: found by structure, changed in the text, everything else kept byte for byte.

The parser says where the one scalar stands that holds the image, and only that is replaced. Nothing is loaded and
dumped again, so comments, order, quotes, anchors and line ends stay.

This file is also a script, for pipelines; it needs ruamel.yaml and no other file of ours:

    gitops.py set --file 03-lumen-api.yaml --image 192.168.2.2:5000/lumen-api:v1.5.4 [--container lumen-api]
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

RUAMEL_IMPORT_ERROR: ImportError | None
try:
    from ruamel.yaml import YAML
    from ruamel.yaml import events as yaml_events
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
except ImportError as error:
    RUAMEL_IMPORT_ERROR = error
else:
    RUAMEL_IMPORT_ERROR = None

_COMPONENT = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
_REPOSITORY = re.compile(rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")

_POD_TEMPLATE = ("spec", "template", "spec")
#: Where the pod's specification stands in each kind that has one.
_POD_SPECS = {
    "Pod": ("spec",),
    "PodTemplate": ("template", "spec"),
    "CronJob": ("spec", "jobTemplate", *_POD_TEMPLATE),
    **dict.fromkeys(
        (
            "DaemonSet",
            "Deployment",
            "Job",
            "ReplicaSet",
            "ReplicationController",
            "Rollout",
            "StatefulSet",
        ),
        _POD_TEMPLATE,
    ),
}
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
# Properties of a node that stand before its text: an anchor and a tag, in either order.
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")
# Without quotes these would be another type than text for one of the parsers that read manifests.
_RESERVED = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


class GitopsError(ValueError):
    """The manifest cannot be edited as asked; the message says where and what to do."""


class Image(NamedTuple):
    """``repository:tag@digest`` as a container names it; what it does not say is None."""

    repository: str
    tag: str | None
    digest: str | None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"

    def meets(self, wanted: Image) -> bool:
        """Whether it is what ``wanted`` says; a digest of which ``wanted`` says nothing may be any."""
        same = (self.repository, self.tag) == (wanted.repository, wanted.tag)
        return same and wanted.digest in (None, self.digest)

    @classmethod
    def split(cls, text: str) -> Image:
        """The parts of whatever stands in a manifest."""
        rest, _at, digest = text.partition("@")
        repository, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:  # that colon is the port of a host
            repository, tag = rest, ""
        return cls(repository, tag or None, digest or None)

    @classmethod
    def parse(cls, text: str) -> Image:
        """The same of an image to be written, checked. Raises GitopsError."""
        image = cls.split(text)
        if not _REPOSITORY.fullmatch(image.repository):
            raise GitopsError(f"'{text}' names no image: '{image.repository}' is not [host[:port]/]repository")
        if image.tag is None and image.digest is None:
            raise GitopsError(f"'{text}' has neither a tag nor a digest")
        if image.tag is not None and not _TAG.fullmatch(image.tag):
            raise GitopsError(f"'{text}' names no image: '{image.tag}' is not a tag")
        if image.digest is not None and not _DIGEST.fullmatch(image.digest):
            raise GitopsError(f"'{text}' names no image: '{image.digest}' is not sha256: and 64 hex digits")
        return image


class Change(NamedTuple):
    """One scalar: its line, what it belongs to, what it was and is."""

    line: int
    place: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.place}: {self.before} -> {self.after}"


class Edit(NamedTuple):
    """``text`` is the manifest as it should be; without ``changes`` it is the one that was given."""

    text: str
    changes: list[Change]


class Found(NamedTuple):
    """An image that a manifest names."""

    line: int
    place: str
    container: str
    image: str
    resource: str


def set_image(
    text: str, image: str, *, container: str | None = None, resource: str | None = None, every: bool = False
) -> Edit:
    """Let the manifest name ``image``, as ``repository:tag``, ``repository@digest`` or both.

    The place is the container named ``container``, or without that name the one whose image has the same repository.
    ``resource`` (``Kind/name``) narrows it to one object. More than one place is refused unless ``every`` is set.
    Raises GitopsError.
    """
    wanted = Image.parse(image)
    documents, events = _compose(text)
    places = [place for document in documents for place in _places(document)]
    chosen = [place for place in places if place.matches(wanted, container, resource)]
    if not chosen:
        raise GitopsError(_nothing(places, wanted, container, resource))
    if len(chosen) > 1 and not every:
        raise GitopsError(
            f"{_target(wanted, container, resource)} is {len(chosen)} places: {_listed(chosen)}. "
            "Name the container or the resource, or ask for every one of them"
        )
    edits: dict[int, tuple[_Scalar, str]] = {}
    uses: dict[int, int] = {}
    changes = []
    for place in chosen:
        for scalar, after in place.edits(wanted):
            if scalar.value == after:
                continue
            place.check(scalar)
            uses[scalar.start] = uses.get(scalar.start, 0) + 1
            if scalar.start not in edits:
                edits[scalar.start] = (scalar, after)
                changes.append(Change(scalar.line, place.name, scalar.value, after))
    for start, (scalar, _after) in edits.items():
        if scalar.uses != uses[start]:
            raise GitopsError(
                f"line {scalar.line}: the anchor &{scalar.anchor} is used elsewhere too, and that would change with "
                "it. Write the image out where it is meant"
            )
    return Edit(_splice(text, events, list(edits.values())), changes)


def find_images(text: str) -> list[Found]:
    """Every image that the manifest names, in its order. Raises GitopsError."""
    documents, _events = _compose(text)
    return [_found(place) for document in documents for place in _places(document) if place.current is not None]


def find_image(text: str, image: str, *, container: str | None = None, resource: str | None = None) -> list[Found]:
    """Where the manifest names ``image``; empty when other images stand there.

    A digest beside the tag is compared only when ``image`` has one. Raises GitopsError, also when ``container`` or
    ``resource`` are given and nothing in the manifest is called so.
    """
    wanted = Image.parse(image)
    documents, _events = _compose(text)
    places = [place for document in documents for place in _places(document)]
    called = [place for place in places if place.called(container, resource)]
    if not called and (container is not None or resource is not None):
        raise GitopsError(_nothing(places, wanted, container, resource))
    return [_found(place) for place in called if place.current is not None and place.current.meets(wanted)]


# --- the document as nodes that know where they stand ---------------------------------------------------------------


class _Scalar:
    def __init__(self, event: Any, index: int, text: str) -> None:
        begin, self.end = event.start_mark.index, event.end_mark.index
        properties = _PROPERTIES.match(text, begin, self.end)
        self.start: int = properties.end() if properties else begin
        self.index = index
        self.value: str = event.value
        self.style: str = event.style or ""
        self.anchor: str | None = event.anchor
        self.line: int = event.start_mark.line + 1
        self.one_line = "\n" not in text[self.start : self.end] and self.style not in ("|", ">")
        self.uses = 1


class _Mapping:
    def __init__(self, event: Any) -> None:
        self.line: int = event.start_mark.line + 1
        self.anchor: str | None = event.anchor
        self.pairs: list[tuple[Any, Any]] = []
        self.uses = 1

    def own(self, key: str) -> Any:
        """The value of the key, None without one. A key that comes twice is refused: parsers differ on it."""
        found = [value for name, value in self.pairs if isinstance(name, _Scalar) and name.value == key]
        if len(found) > 1:
            raise GitopsError(f"line {found[1].line}: the key {key} comes twice, at line {found[0].line} already")
        return found[0] if found else None

    def merged(self) -> Iterator[_Mapping]:
        """What merge keys bring in."""
        value = self.own("<<")
        for node in value.items if isinstance(value, _Sequence) else [value]:
            if isinstance(node, _Mapping):
                yield node


class _Sequence:
    def __init__(self, event: Any) -> None:
        self.line: int = event.start_mark.line + 1
        self.anchor: str | None = event.anchor
        self.items: list[Any] = []
        self.uses = 1


def _compose(text: str) -> tuple[list[Any], list[Any]]:
    """The documents as nodes, and the events they were made from. Aliases are the very node they stand for."""
    if RUAMEL_IMPORT_ERROR is not None:
        raise GitopsError(f"the Python library ruamel.yaml is missing: {RUAMEL_IMPORT_ERROR}")
    try:
        events = list(YAML(typ="safe", pure=True).parse(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise GitopsError(f"{where}this is no YAML: {error.problem or error.context}") from error
    except YAMLError as error:
        raise GitopsError(f"this is no YAML: {error}") from error
    return list(_nodes(events, text)), events


def _nodes(events: list[Any], text: str) -> Iterator[Any]:
    anchors: dict[str, Any] = {}
    open_nodes: list[Any] = []
    keys: list[Any] = []  # beside open_nodes: the key that waits for its value, or None
    for index, event in enumerate(events):
        if isinstance(event, yaml_events.DocumentStartEvent):
            anchors = {}
            continue
        if isinstance(event, yaml_events.CollectionEndEvent):
            open_nodes.pop()
            keys.pop()
            continue
        node: Any
        if isinstance(event, yaml_events.AliasEvent):
            if event.anchor not in anchors:
                raise GitopsError(f"line {event.start_mark.line + 1}: the alias *{event.anchor} has no anchor")
            node = anchors[event.anchor]
            node.uses += 1
            if node in open_nodes:
                raise GitopsError(f"line {event.start_mark.line + 1}: the alias *{event.anchor} is inside its anchor")
        elif isinstance(event, yaml_events.ScalarEvent):
            node = _Scalar(event, index, text)
        elif isinstance(event, yaml_events.MappingStartEvent):
            node = _Mapping(event)
        elif isinstance(event, yaml_events.SequenceStartEvent):
            node = _Sequence(event)
        else:
            continue
        if getattr(event, "anchor", None) and not isinstance(event, yaml_events.AliasEvent):
            anchors[event.anchor] = node
        if not open_nodes:
            yield node  # filled while the events go on; the caller takes all of them first
        elif isinstance(open_nodes[-1], _Sequence):
            open_nodes[-1].items.append(node)
        elif keys[-1] is None:
            keys[-1] = node
        else:
            open_nodes[-1].pairs.append((keys[-1], node))
            keys[-1] = None
        if isinstance(event, yaml_events.CollectionStartEvent):
            open_nodes.append(node)
            keys.append(None)


class _Path:
    """A node, and the first collection on the way to it that stands in more than one place."""

    def __init__(self, node: Any, shared: Any = None) -> None:
        self.node = node
        self.shared = shared

    def get(self, *keys: str) -> _Path:
        here = self
        for key in keys:
            here = here._one(key)
        return here

    def items(self) -> list[_Path]:
        if not isinstance(self.node, _Sequence):
            return []
        return [_Path(item, self._sharing()) for item in self.node.items]

    def text(self) -> str:
        return self.node.value if isinstance(self.node, _Scalar) else ""

    def _one(self, key: str) -> _Path:
        if not isinstance(self.node, _Mapping):
            return _Path(None)
        value = self.node.own(key)
        if value is not None:
            return _Path(value, self._sharing())
        for merged in self.node.merged():
            found = _Path(merged, self.shared or merged)._one(key)
            if found.node is not None:
                return found
        return _Path(None)

    def _sharing(self) -> Any:
        return self.shared or (self.node if self.node.uses > 1 else None)


# --- the places that name an image ------------------------------------------------------------------------------------


class _Place:
    """A container, or an entry of a kustomization's ``images``."""

    def __init__(self, resource: str, name: str, container: str, entry: _Path) -> None:
        self.resource = resource
        self.name = name
        self.container = container
        self.entry = entry

    @property
    def line(self) -> int:
        node = self.entry.get("image").node or self.entry.node
        line: int = node.line
        return line

    @property
    def current(self) -> Image | None:
        text = self.entry.get("image").text()
        return Image.split(text) if text else None

    def called(self, container: str | None, resource: str | None) -> bool:
        return resource in (None, self.resource) and container in (None, self.container)

    def matches(self, wanted: Image, container: str | None, resource: str | None) -> bool:
        if not self.called(container, resource):
            return False
        return container is not None or (self.current is not None and self.current.repository == wanted.repository)

    def edits(self, wanted: Image) -> Iterator[tuple[_Scalar, str]]:
        yield self._scalar("image"), str(wanted)

    def check(self, scalar: _Scalar) -> None:
        """Refuse what cannot be changed without changing more, or without rewriting it."""
        shared = next((path.shared for path in self._paths() if path.node is scalar), None)
        if shared is not None:
            raise GitopsError(
                f"line {scalar.line}: {self.name} has its image from the anchor &{shared.anchor} (line {shared.line}), "
                "which stands for other places too. Write the image out where it is meant"
            )
        if not scalar.one_line:
            raise GitopsError(
                f"line {scalar.line}: the image of {self.name} goes over several lines or is a block (| or >). "
                "Write it on one line"
            )

    def _paths(self) -> list[_Path]:
        return [self.entry.get("image")]

    def _scalar(self, key: str) -> _Scalar:
        node = self.entry.get(key).node
        if not isinstance(node, _Scalar) or not node.value:
            raise GitopsError(f"line {self.line}: {self.name} has no text as its {key} that could be changed")
        return node


class _Override(_Place):
    """An entry of a kustomization's ``images``: newTag and digest are scalars of their own."""

    _FIELDS = ("newTag", "digest")

    @property
    def current(self) -> Image | None:
        repository = self.entry.get("newName").text() or self.entry.get("name").text()
        if not repository:
            return None
        return Image(repository, self.entry.get("newTag").text() or None, self.entry.get("digest").text() or None)

    def matches(self, wanted: Image, container: str | None, resource: str | None) -> bool:
        return container is None and super().matches(wanted, None, resource)

    def edits(self, wanted: Image) -> Iterator[tuple[_Scalar, str]]:
        for key, value in zip(self._FIELDS, (wanted.tag, wanted.digest)):
            has = self.entry.get(key).node is not None
            if value is not None and has:
                yield self._scalar(key), value
            elif value is not None or has:
                lack = f"has no {key}, and {wanted} needs one" if value else f"has a {key}, and {wanted} has none"
                raise GitopsError(f"line {self.line}: {self.name} {lack}. Keys are not added or removed here")

    def _paths(self) -> list[_Path]:
        return [self.entry.get(key) for key in self._FIELDS]


def _found(place: _Place) -> Found:
    return Found(place.line, place.name, place.container, str(place.current), place.resource)


def _places(document: Any) -> Iterator[_Place]:
    yield from _of_object(_Path(document))


def _of_object(item: _Path) -> Iterator[_Place]:
    kind, name = item.get("kind").text(), item.get("metadata", "name").text()
    if kind.endswith("List") and item.get("items").node is not None:
        for each in item.get("items").items():
            yield from _of_object(each)
    elif kind in _POD_SPECS:
        pod = item.get(*_POD_SPECS[kind])
        for group in _CONTAINERS:
            for container in pod.get(group).items():
                if isinstance(container.node, _Mapping):
                    called = container.get("name").text()
                    yield _Place(f"{kind}/{name}", f"{kind} {name}, container {called}", called, container)
    elif kind in ("Kustomization", "Component", ""):
        # A kustomization may do without kind and apiVersion.
        for entry in item.get("images").items():
            if isinstance(entry.node, _Mapping):
                called = entry.get("name").text()
                yield _Override(f"Kustomization/{name}", f"Kustomization, image {called}", "", entry)


# --- messages and text ------------------------------------------------------------------------------------------------


def _target(wanted: Image, container: str | None, resource: str | None) -> str:
    what = f"the container {container}" if container is not None else f"an image of {wanted.repository}"
    return f"{what} of {resource}" if resource is not None else what


def _listed(places: Sequence[_Place]) -> str:
    return "; ".join(f"line {place.line}: {place.name} ({place.current or 'no image'})" for place in places)


def _nothing(places: Sequence[_Place], wanted: Image, container: str | None, resource: str | None) -> str:
    there = f"There are: {_listed(places)}" if places else "No object in it has containers"
    return f"{_target(wanted, container, resource)} is not in this manifest. {there}"


def _splice(text: str, before: list[Any], edits: list[tuple[_Scalar, str]]) -> str:
    """Put the new values in place, and make sure that a parser sees these changes and no other."""
    result = text
    for scalar, after in sorted(edits, key=lambda edit: edit[0].start, reverse=True):
        result = result[: scalar.start] + _written(after, scalar.style) + result[scalar.end :]
    _documents, now = _compose(result)
    new = {scalar.index: after for scalar, after in edits}
    wanted = [_meaning(event, new.get(index)) for index, event in enumerate(before)]
    if [_meaning(event, None) for event in now] != wanted:
        raise GitopsError(f"line {edits[0][0].line}: the image cannot be replaced here without changing more than it")
    return result


def _meaning(event: Any, value: str | None) -> tuple[Any, ...]:
    own = getattr(event, "value", None)
    return type(event), own if value is None else value, getattr(event, "anchor", None)


def _written(value: str, style: str) -> str:
    """The value in the quotes that were there; with quotes of its own where it would not be text without."""
    if style in ("'", '"'):
        return f"{style}{value}{style}"
    text_anyway = "/" in value or (value[0].isalpha() and value.lower() not in _RESERVED)
    return value if text_anyway else f'"{value}"'


# --- the script -------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Edit one file. 0: it names the image now; 1: it could not be edited, and is as it was."""
    parser = argparse.ArgumentParser(prog="gitops.py", description="Change the image in a manifest, and nothing else.")
    commands = parser.add_subparsers(dest="command", required=True)
    change = commands.add_parser("set", help="let the manifest name this image")
    change.add_argument("--file", required=True, help="the manifest, changed in place")
    change.add_argument("--image", required=True, help="repository:tag")
    change.add_argument("--digest", help="pin it: sha256:…")
    change.add_argument(
        "--container", help="name of the container; without it, the one with an image of the repository"
    )
    change.add_argument("--resource", help="Kind/name of the object")
    change.add_argument("--all", action="store_true", help="change all places that fit instead of refusing them")
    given = parser.parse_args(arguments)
    image = f"{given.image}@{given.digest}" if given.digest else given.image
    try:
        with open(given.file, encoding="utf-8", newline="") as file:
            text = file.read()
        edit = set_image(text, image, container=given.container, resource=given.resource, every=given.all)
        if edit.changes:
            with open(given.file, "w", encoding="utf-8", newline="") as file:
                file.write(edit.text)
    except (GitopsError, OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"{given.file}: {error}\n")
        return 1
    for line in [str(change) for change in edit.changes] or [f"unchanged: it names {image} already"]:
        sys.stdout.write(f"{given.file}: {line}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
