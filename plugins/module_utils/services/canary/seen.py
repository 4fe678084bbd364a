# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What both drivers read from pods and Services."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ...adapters.kube.kinds import ENDPOINT_SLICE
from ...adapters.kube.session import Session
from .driver import Situation


def hashes_of(situation: Situation) -> dict[str, str]:
    """For the arguments of analyses, before the canary's own is known."""
    return {"Latest": situation.hash or "latest", "Stable": situation.stable_hash or "stable"}


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a Service sends to it."""
    status = pod.get("status") or {}
    conditions = {each.get("type"): each.get("status") for each in status.get("conditions") or ()}
    return status.get("phase") == "Running" and conditions.get("Ready") == "True"


def version_of(obj: Mapping[str, Any]) -> int:
    """Resource versions of one object grow; one that is no number is taken for the newest."""
    text = str((obj.get("metadata") or {}).get("resourceVersion", "0"))
    return int(text) if text.isdigit() else sys.maxsize


def digests_of(pods: Sequence[Mapping[str, Any]], container: str) -> list[str]:
    """Of all ``pods``; one that reports none is left out."""
    found = {
        str(status.get("imageID", "")).rpartition("@")[2]
        for pod in pods
        for status in (pod.get("status") or {}).get("containerStatuses") or ()
        if status.get("name") == container and status.get("imageID")
    }
    return sorted(found)


def pods_missing(ready: Sequence[Mapping[str, Any]], wanted: int, hash: str) -> list[str]:
    """For ``Verification.missing``: pods of a version that are not ready."""
    return [f"{len(ready)} of {wanted} pods of {hash} are ready."] if len(ready) < wanted else []


def digest_missing(digests: Sequence[str], wanted: str) -> list[str]:
    """For ``Verification.missing``: pods that run something else; nothing is missing where nothing is ``wanted``."""
    if not wanted or digests == [wanted]:
        return []
    return [f"Pods run the digest {', '.join(digests) or 'that is not reported'}, not {wanted}."]


def sends_to(session: Session, namespace: str, service: str) -> set[str]:
    """Names of the pods that a Service sends to; an address where that is no pod."""
    selector = f"kubernetes.io/service-name={service}"
    slices = session.list(ENDPOINT_SLICE, namespace, label_selector=selector).items
    return {
        (endpoint.get("targetRef") or {}).get("name") or ", ".join(endpoint.get("addresses") or ())
        for piece in slices
        for endpoint in piece.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
    }
