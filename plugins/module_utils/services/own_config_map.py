# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A ConfigMap in which the collection remembers something, written by compare-and-swap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..adapters.kube.kinds import CONFIG_MAP
from ..adapters.kube.session import Session
from ..engines.workloads.objects import MANAGED


class OwnConfigMap:
    """One of them, as it was read or written last."""

    def __init__(self, session: Session, namespace: str, name: str) -> None:
        self._session = session
        self._namespace = namespace
        self._name = name
        self._object: dict[str, Any] | None = None

    @property
    def title(self) -> str:
        """For messages."""
        return f"ConfigMap {self._namespace}/{self._name}"

    def read(self) -> dict[str, str] | None:
        """Its data; None where there is none yet. Raises KubeError."""
        self._object = self._session.find(CONFIG_MAP, self._name, self._namespace)
        return None if self._object is None else dict(self._object.get("data") or {})

    def write(self, data: Mapping[str, str]) -> None:
        """Other keys stay. Raises ``Conflict`` when somebody else has written since ``read``, and KubeError."""
        body = self._object or {
            "apiVersion": CONFIG_MAP.api_version,
            "kind": CONFIG_MAP.kind,
            "metadata": {"name": self._name, "namespace": self._namespace, "labels": dict(MANAGED)},
        }
        body["data"] = {**(body.get("data") or {}), **data}
        self._object = self._session.replace(body) if self._object else self._session.create(body)
