# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every image of some manifests to the site's registry, pinned by digest.

Two steps, so that nothing is rewritten before the registry was asked: ``plan`` says which image each one becomes,
``rewrite`` puts the references there once their digests are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..bundle import discover
from ..bundle.spec import default_name, qualified
from ..oci import references
from ..oci.references import InvalidReferenceError, Reference
from .manifests import Object


class ImageError(ValueError):
    """An image, or a mapping of one, that cannot be."""


class Planned(NamedTuple):
    """``target`` is what an image becomes, without the digest to pin; ``places`` is where the manifests name it."""

    target: Reference
    places: tuple[str, ...]

    @property
    def reference(self) -> str:
        """What the registry is asked for: the digest of the target, or its tag."""
        return self.target.digest or str(self.target.tag)


def plan(items: Iterable[Object], mapping: Mapping[str, str], host: str) -> dict[str, Planned]:
    """What each image of the objects becomes in the registry ``host``, by the text that the manifests have for it.

    ``mapping`` has the image in the registry (``name:tag``) by the published reference, or by its repository for
    whatever tag it has. An image that is not in it keeps its repository and tag, as a bundle names it. One of the
    registry itself stays. Images in arguments and the environment count when a container has the same repository.

    Raises ImageError.
    """
    rules = {_key(source): _target(source, name, host) for source, name in mapping.items()}
    documents = [discover.Document("", 0, item) for item in items]
    try:
        found = discover.images(documents)
    except discover.DiscoverError as error:
        raise ImageError(str(error).replace(", document 0: ", "")) from error
    planned = {text: Planned(_planned(text, rules, host), _cleaned(places)) for text, places in found.images.items()}
    known = {repository for repository, _tag in rules} | {_repository(text) for text in found.images}
    for text, places in found.hints.items():
        if _is_image(text) and _repository(text) in known:
            planned[text] = Planned(_planned(text, rules, host), _cleaned(places))
    return planned


def rewrite(items: Iterable[Object], images: Mapping[str, str]) -> list[Object]:
    """Copies of the objects with the references of ``images``, {what stands there: what shall stand there}.

    A container whose image is pinned by a digest need not be asked for at each start: Always becomes IfNotPresent.
    """
    return [_Rewriter(images).node(item, "") if item.get("kind") not in _SKIPPED else item for item in items]


_SKIPPED = ("CustomResourceDefinition",)


class _Rewriter:
    def __init__(self, images: Mapping[str, str]) -> None:
        self._images = images
        # A reference may be a part of another one: the longest is looked for first.
        self._texts = sorted(images, key=len, reverse=True)

    def node(self, value: Any, key: str) -> Any:
        if isinstance(value, Mapping):
            return {name: self.node(item, str(name)) for name, item in value.items()}
        if isinstance(value, list):
            return [self._item(item, key) for item in value]
        return value

    def _item(self, item: Any, key: str) -> Any:
        if key in discover.CONTAINERS:
            return self._container(item)
        return self._volume(item) if key == "volumes" else self.node(item, "")

    def _container(self, container: Any) -> Any:
        if not isinstance(container, Mapping):
            return container
        changed = {name: self.node(item, str(name)) for name, item in container.items()}
        image = container.get("image")
        if isinstance(image, str) and image in self._images:
            changed["image"] = self._images[image]
            if changed.get("imagePullPolicy") == "Always" and "@" in changed["image"]:
                changed["imagePullPolicy"] = "IfNotPresent"
        for name in ("command", "args"):
            if isinstance(container.get(name), list):
                changed[name] = [self._text(item) for item in container[name]]
        if isinstance(container.get("env"), list):
            changed["env"] = [
                {**item, "value": self._text(item["value"])} if isinstance(item, Mapping) and "value" in item else item
                for item in container["env"]
            ]
        return changed

    def _volume(self, volume: Any) -> Any:
        image = volume.get("image") if isinstance(volume, Mapping) else None
        reference = image.get("reference") if isinstance(image, Mapping) else None
        if not isinstance(image, Mapping) or not isinstance(reference, str) or reference not in self._images:
            return self.node(volume, "")
        return {**volume, "image": {**image, "reference": self._images[reference]}}

    def _text(self, value: Any) -> Any:
        """An argument is an image, or ends in one: ``--image=…``."""
        if isinstance(value, str):
            for text in self._texts:
                if value == text or value.endswith(("=" + text, "," + text)):
                    return value[: -len(text)] + self._images[text]
        return value


def _key(source: str) -> tuple[str, str]:
    """Repository with its registry, and tag or digest; empty when the source is any of the repository."""
    try:
        bare = references.parse(source)
        return _name(qualified(source)), bare.digest or bare.tag or ""
    except InvalidReferenceError as error:
        raise ImageError(f"the option images has {source!r}, which is not an image: {error}") from error


def _target(source: str, name: str, host: str) -> Reference:
    try:
        target = references.parse(name)
    except InvalidReferenceError as error:
        raise ImageError(f"the option images has {name!r} for {source}, which is not an image: {error}") from error
    if target.host not in (None, host):
        raise ImageError(f"the option images has {name} for {source}, which is not in the registry {host}")
    return target._replace(host=host)


def _planned(text: str, rules: Mapping[tuple[str, str], Reference], host: str) -> Reference:
    source = qualified(text)
    for wanted in (source.digest, source.tag, ""):
        rule = rules.get((_name(source), wanted)) if wanted is not None else None
        if rule is not None:
            return rule if rule.tag or rule.digest else rule._replace(tag=source.tag, digest=source.digest)
    if source.host == host:
        return source
    # The digest of the published image need not be that of what was brought: a bundle may have one platform of it.
    return references.parse(f"{host}/{default_name(source)}")


def _name(reference: Reference) -> str:
    return f"{reference.host}/{reference.repository}"


def _repository(text: str) -> str:
    return _name(qualified(text))


def _is_image(text: str) -> bool:
    try:
        qualified(text)
    except InvalidReferenceError:
        return False
    return True


def _cleaned(places: Iterable[str]) -> tuple[str, ...]:
    """Without the file and number of a document, which objects do not have any more."""
    return tuple(place.removeprefix(", document 0: ") for place in places)
