# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registries that images come from, and their repositories read as if each was an OCI layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Callable

from ..engines.oci import image
from ..engines.oci.image import Descriptor
from ..errors import AirgapError
from .layout import VerifyingReader
from .registry import Manifest, Registry


class Registries:
    """Sessions by host, each opened when it is first asked for.

    ``options`` is what the option ``registries`` holds; a host that is not in it is spoken to over HTTPS. ``known`` are
    sessions that are open already.
    """

    def __init__(
        self,
        options: Sequence[dict[str, Any]],
        known: Sequence[Registry] = (),
        connect: Callable[[dict[str, Any]], Registry] = Registry.connect,
    ) -> None:
        self._options = {item["host"]: item for item in options}
        self._connect = connect
        self._sessions = {registry.host: registry for registry in known}

    def session(self, host: str) -> Registry:
        """The session with a registry. Raises AirgapError when it cannot be opened."""
        if host not in self._sessions:
            self._sessions[host] = self._connect(self._options.get(host, {"host": host, "scheme": "https"}))
        return self._sessions[host]


class Repository:
    """One repository of a registry, with what an OCI layout offers: ``image``, ``manifest``, ``open``."""

    def __init__(self, registry: Registry, name: str) -> None:
        self.registry = registry
        self.name = name
        self._manifests: dict[str, Manifest] = {}

    def image(self, reference: str) -> image.Image:
        """The whole image that a tag or digest names. Raises AirgapError with the tags there are when it is none."""
        try:
            return image.collect(self._read(reference), self._parsed)
        except (image.ImageError, ValueError) as error:
            where = f"{self.registry.host}/{self.name}"
            raise AirgapError(f"{where}: {reference} cannot be understood: {error}") from error

    def manifest(self, item: Descriptor) -> bytes:
        """The bytes of a manifest or index, verified."""
        self._read(item.digest)
        return self._manifests[item.digest].body

    def open(self, item: Descriptor) -> VerifyingReader:
        """Open a blob for one reading from start to end."""
        return self.registry.open_blob(self.name, item)

    def _parsed(self, item: Descriptor) -> Any:
        return json.loads(self.manifest(item))

    def _read(self, reference: str) -> Descriptor:
        found = self._manifests.get(reference) or self.registry.manifest(self.name, reference)
        if found is None:
            where = f"{self.registry.host}/{self.name}{'@' if ':' in reference else ':'}{reference}"
            tags = self.registry.tags(self.name)
            there = "it has no such repository" if tags is None else f"there is {', '.join(tags) or 'no tag'}"
            raise AirgapError(f"{where} is not in its registry ({there})")
        self._manifests[found.digest] = found
        return Descriptor(found.media_type, found.digest, len(found.body))
