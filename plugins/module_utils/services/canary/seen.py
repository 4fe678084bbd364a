# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What both drivers read from pods and Services, and how they report what the follower saw."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ...adapters.kube.kinds import ENDPOINT_SLICE
from ...adapters.kube.session import Session
from ...engines.canary.follow import Change, Follower
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


def step_rows(follower: Follower, change: Change | None) -> list[dict[str, Any]]:
    """``Driver.steps`` of a change."""
    return [
        {
            "index": record.step.index,
            "kind": record.step.kind,
            "weight": record.step.weight,
            "started_at": record.started_at,
            "finished_at": record.finished_at,
            "result": follower.result(record),
        }
        for record in (change.steps if change else ())
    ]


def conditions_of(change: Change | None) -> dict[str, str]:
    """``Driver.conditions`` of a change."""
    return {each.metric: each.condition for each in (change.measurements if change else ()) if each.condition}


def measurement_rows(change: Change | None) -> list[dict[str, Any]]:
    """``Driver.measurements`` of a change."""
    return [
        {"run": each.run, "metric": each.metric, "at": each.at, "value": each.value, "phase": each.phase}
        for each in (change.measurements if change else ())
    ]
