# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images that Kubernetes objects name: in manifests, and in what a chart renders to.

A container is found wherever it stands (Pod, Deployment, CronJob, Rollout, List, a custom resource), by the lists that
hold containers in every pod spec. An image in an argument, in the environment or in a field of a custom resource is
only a guess: it becomes a hint, and somebody decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ..oci import references
from .spec import qualified

CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
# A reference in free text: a registry with a dot or a port, a path, and a tag or digest.
_LIKELY = re.compile(
    r"(?<![\w/.@:-])((?:[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::[0-9]+)?|localhost(?::[0-9]+)?|[a-z0-9-]+:[0-9]+)"
    r"/[a-z0-9._/-]+(?::[A-Za-z0-9_][A-Za-z0-9._-]*)?(?:@sha256:[0-9a-f]{64})?)(?![\w/:])"
)
# Their schemas describe fields named image, and hold no pod.
_SKIPPED = ("CustomResourceDefinition",)


class DiscoverError(ValueError):
    """A document that names an image no registry accepts."""


class Document(NamedTuple):
    """A parsed document of a file: ``number`` counts from 1 within it."""

    file: str
    number: int
    content: Any


class Found(NamedTuple):
    """Images and where each was seen (``file, document 2: Deployment web, spec.template.spec.containers[0]``)."""

    images: dict[str, tuple[str, ...]]
    hints: dict[str, tuple[str, ...]]


def images(documents: Iterable[Document]) -> Found:
    """Every image that the documents name, in the order of the references; raises DiscoverError for an invalid one."""
    found: dict[str, list[str]] = {}
    hints: dict[str, list[str]] = {}
    for document in documents:
        for item in _objects(document.content):
            where = f"{document.file}, document {document.number}: {_title(item)}"
            if item.get("kind") in _SKIPPED:
                continue
            for path, reference, certain in _walk(item, ""):
                place = f"{where}, {path}"
                if certain:
                    _check(reference, place)
                places = (found if certain else hints).setdefault(reference, [])
                if place not in places:
                    places.append(place)
    return Found(
        {reference: tuple(found[reference]) for reference in sorted(found)},
        {reference: tuple(hints[reference]) for reference in sorted(hints) if reference not in found},
    )


def _objects(content: Any) -> Iterator[Mapping[str, Any]]:
    """The objects of a document: itself, or the items of a List."""
    if isinstance(content, Mapping):
        items = content.get("items")
        if str(content.get("kind", "")).endswith("List") and isinstance(items, list):
            for item in items:
                yield from _objects(item)
        else:
            yield content
    elif isinstance(content, list):
        for item in content:
            yield from _objects(item)


def _title(item: Mapping[str, Any]) -> str:
    metadata = item.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, Mapping) else ""
    return f"{item.get('kind', 'object')} {name}".strip()


def _walk(node: Any, path: str) -> Iterator[tuple[str, str, bool]]:
    """(path, reference, whether a kubelet will pull it) of everything below a node."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            below = f"{path}.{key}" if path else str(key)
            if key in CONTAINERS and isinstance(value, list):
                yield from _containers(value, below)
            elif key == "volumes" and isinstance(value, list):
                yield from _volumes(value, below)
            elif key == "image" and isinstance(value, str) and value:
                yield below, value, False
            else:
                yield from _walk(value, below)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _walk(value, f"{path}[{index}]")


def _containers(items: list[Any], path: str) -> Iterator[tuple[str, str, bool]]:
    for index, item in enumerate(items):
        below = f"{path}[{index}]"
        if not isinstance(item, Mapping):
            continue
        image = item.get("image")
        if isinstance(image, str) and image:
            yield f"{below}.image", image, True
        for key in ("command", "args", "env"):
            for text in _texts(item.get(key)):
                for match in _LIKELY.finditer(text):
                    if _named(match[1]):
                        yield f"{below}.{key}", match[1], False


def _volumes(items: list[Any], path: str) -> Iterator[tuple[str, str, bool]]:
    """An image may be a volume too (KEP-4639)."""
    for index, item in enumerate(items):
        image = item.get("image") if isinstance(item, Mapping) else None
        reference = image.get("reference") if isinstance(image, Mapping) else None
        if isinstance(reference, str) and reference:
            yield f"{path}[{index}].image.reference", reference, True


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _texts(item)
    elif isinstance(node, Mapping):
        yield from _texts(node.get("value"))


def _named(text: str) -> bool:
    """A path on a host may be anything; with a tag or digest it is likely an image."""
    try:
        reference = references.parse(text)
    except references.InvalidReferenceError:
        return False
    return bool(reference.tag or reference.digest)


def _check(text: str, place: str) -> None:
    try:
        qualified(text)
    except references.InvalidReferenceError as error:
        raise DiscoverError(f"{place}: {text!r} is not an image: {error}") from error
