# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When an object is ready, for each kind that somebody waits for.

A kind without a rule is refused: a wait that passes at once is worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

Object = Mapping[str, Any]


class Readiness(NamedTuple):
    """``message`` says what is missing; ``hopeless`` that it will not come by itself."""

    ready: bool
    message: str = ""
    hopeless: bool = False


def has_rule(kind: str) -> bool:
    """Whether ``readiness`` knows this kind."""
    return kind in _RULES


def readiness(obj: Object) -> Readiness:
    """What the object's status says of the spec beside it. Raises KeyError for a kind without a rule."""
    return _RULES[obj["kind"]](obj)


def _deployment(obj: Object) -> Readiness:
    wanted, status = obj["spec"].get("replicas", 1), obj.get("status") or {}
    if not is_observed(obj):
        return Readiness(False, "its controller has not seen it yet")
    progressing = _condition(obj, "Progressing")
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return Readiness(False, progressing.get("message") or "its progress deadline is exceeded", hopeless=True)
    failure = _condition(obj, "ReplicaFailure")
    counts = {name: status.get(f"{name}Replicas", 0) for name in ("updated", "available", "ready")}
    if counts["updated"] >= wanted and counts["available"] >= wanted and status.get("replicas", 0) <= wanted:
        return Readiness(True)
    why = f": {failure.get('message')}" if failure.get("status") == "True" else ""
    return Readiness(False, f"{counts['updated']} of {wanted} updated, {counts['available']} available{why}")


def _stateful_set(obj: Object) -> Readiness:
    wanted, status = obj["spec"].get("replicas", 1), obj.get("status") or {}
    if not is_observed(obj):
        return Readiness(False, "its controller has not seen it yet")
    ready, updated = status.get("readyReplicas", 0), status.get("updatedReplicas", 0)
    current = status.get("currentRevision") == status.get("updateRevision")
    if ready >= wanted and (current or updated >= wanted):
        return Readiness(True)
    return Readiness(False, f"{ready} of {wanted} ready, {updated} updated")


def _daemon_set(obj: Object) -> Readiness:
    status = obj.get("status") or {}
    wanted = status.get("desiredNumberScheduled", 0)
    if not is_observed(obj):
        return Readiness(False, "its controller has not seen it yet")
    available, updated = status.get("numberAvailable", 0), status.get("updatedNumberScheduled", 0)
    return Readiness(available >= wanted and updated >= wanted, f"{updated} of {wanted} updated, {available} available")


def _definition(obj: Object) -> Readiness:
    names, established = _condition(obj, "NamesAccepted"), _condition(obj, "Established")
    if names.get("status") == "False":
        return Readiness(False, f"its names are not accepted: {names.get('message')}", hopeless=True)
    if established.get("status") == "True":
        return Readiness(True)
    return Readiness(False, established.get("message") or "it is not Established yet")


def _pod(obj: Object) -> Readiness:
    ready = _condition(obj, "Ready")
    phase = (obj.get("status") or {}).get("phase") or "Pending"
    if ready.get("status") == "True":
        return Readiness(True)
    return Readiness(False, ready.get("message") or f"it is {phase}", hopeless=phase in ("Failed", "Succeeded"))


def _namespace(obj: Object) -> Readiness:
    phase = (obj.get("status") or {}).get("phase")
    return Readiness(phase == "Active", f"it is {phase}", hopeless=phase == "Terminating")


_RULES: dict[str, Callable[[Object], Readiness]] = {
    "CustomResourceDefinition": _definition,
    "DaemonSet": _daemon_set,
    "Deployment": _deployment,
    "Namespace": _namespace,
    "Pod": _pod,
    "StatefulSet": _stateful_set,
}


def is_observed(obj: Object) -> bool:
    """Whether the status is of this generation."""
    return (obj.get("status") or {}).get("observedGeneration", 0) >= obj["metadata"].get("generation", 0)


def _condition(obj: Object, kind: str) -> Object:
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == kind:
            found: Object = condition
            return found
    return {}
