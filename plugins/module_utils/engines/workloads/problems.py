# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keeps pods from starting, read from Pod and ReplicaSet objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Object = Mapping[str, Any]


class Problem(NamedTuple):
    """Why a pod cannot start."""

    subject: str
    """``pod NAME`` with the container where there is one, or ``ReplicaSet NAME``."""
    reason: str
    message: str
    patience: float = 0.0
    """Seconds that it may last before it counts: what often goes away by itself gets some."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}" + (f": {self.message}" if self.message else "")


_BLIP = 10.0
"""A registry that is briefly silent."""
_ROOM = 60.0
"""A full node or quota: pods of stable may take their grace period to make room."""

_PULL = ("ErrImagePull", "ImagePullBackOff")
_WAITING = (
    *_PULL,
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
)
_FLEETING = (
    "connection refused",
    "i/o timeout",
    "deadline exceeded",
    "no route to host",
    "503",
    "502",
    "tls handshake",
)


def pod_problem(pod: Object) -> Problem | None:
    """What keeps this pod from starting, or None."""
    meta, status = pod["metadata"], pod.get("status") or {}
    if meta.get("deletionTimestamp"):
        return None
    for each in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (each.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _WAITING:
            return _waiting_problem(meta["name"], each, waiting["reason"], waiting.get("message") or "")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return Problem(f"pod {meta['name']}", "Unschedulable", condition.get("message") or "", _ROOM)
    return None


def _waiting_problem(pod: str, container: Object, reason: str, message: str) -> Problem:
    subject = f"pod {pod}, container {container.get('name')}"
    last = (container.get("lastState") or {}).get("terminated")
    if last and reason == "CrashLoopBackOff":
        message = f"exit code {last.get('exitCode')} ({last.get('reason')}); {message}"
    fleeting = reason in _PULL and any(sign in message.lower() for sign in _FLEETING)
    return Problem(subject, reason, message, _BLIP if fleeting else 0.0)


def replica_set_problem(replica_set: Object) -> Problem | None:
    """A ReplicaSet that cannot even create its pods (a quota, an admission webhook), or None."""
    for condition in (replica_set.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            name = replica_set["metadata"]["name"]
            return Problem(f"ReplicaSet {name}", condition.get("reason") or "", condition.get("message") or "", _ROOM)
    return None
