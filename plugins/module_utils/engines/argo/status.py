# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the status of an Application says, and what it does not: whether a revision is there, and if not, why.

Written from what Argo CD 3.1 was seen to write, in its order: the operation may run before OutOfSync appears, and have
succeeded while sync still says OutOfSync and health still speaks of the revision before; ``operationState`` is null in
between; the health of a resource is not kept, so Rollouts and Deployments are read themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..canary.objects import read_rollout
from .application import REFRESH

DONE, WAITING, FAILED = "done", "waiting", "failed"
SUSPENDED, DEGRADED, HEALTHY = "Suspended", "Degraded", "Healthy"
_RUNNING = ("Running", "Terminating")
_UNSUCCESSFUL = ("Failed", "Error")
#: Conditions that say that something is wrong; the others are warnings.
_ERRORS = ("ComparisonError", "InvalidSpecError", "SyncError", "UnknownError", "DeletionError")
_NO_KIND = ("no matches for kind", "could not find the requested resource", "ensure CRDs are installed first")
_SHORT = 8


class Resource(NamedTuple):
    """An object that the Application has. ``status`` is Synced, OutOfSync or Unknown."""

    group: str
    kind: str
    namespace: str
    name: str
    status: str
    pruning: bool
    message: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Operation:
    """A sync that runs or has ended. ``retries`` counts how often it has failed and was begun again."""

    phase: str
    revision: str
    message: str
    retries: int
    failed: tuple[Resource, ...]

    @property
    def running(self) -> bool:
        return self.phase in _RUNNING


@dataclass(frozen=True)
class View:
    """The status of an Application in plain values."""

    sync: str
    revision: str
    """The commit that sync and resources speak of."""
    health: str
    operation: Operation | None
    requested: str | None
    """The revision of an operation that was asked for and has not begun, None without one."""
    refreshing: bool
    automated: bool
    conditions: tuple[tuple[str, str], ...]
    resources: tuple[Resource, ...]

    @property
    def busy(self) -> bool:
        """Something has been asked for and is not finished: what the status says is about to change."""
        return self.refreshing or self.requested is not None or bool(self.operation and self.operation.running)

    @property
    def errors(self) -> tuple[str, ...]:
        return tuple(f"{kind}: {_line(message)}" for kind, message in self.conditions if kind in _ERRORS)


class Live(NamedTuple):
    """What a Rollout, Deployment, StatefulSet or DaemonSet of the Application says itself.

    ``health`` in Argo CD's words: Healthy, Progressing, Suspended, Degraded, Missing. A paused Rollout is Suspended.
    """

    resource: Resource
    health: str
    message: str


class Verdict(NamedTuple):
    """``state`` is DONE, WAITING or FAILED; ``reasons`` say what is missing."""

    state: str
    reasons: tuple[str, ...]


def read(item: Mapping[str, Any]) -> View:
    """Read an Application; one that no controller has seen yet has empty values."""
    status = item.get("status") or {}
    sync = status.get("sync") or {}
    requested = item.get("operation")
    policy = (item.get("spec") or {}).get("syncPolicy") or {}
    automated = policy.get("automated")
    return View(
        sync=sync.get("status") or "Unknown",
        revision=sync.get("revision") or "",
        health=(status.get("health") or {}).get("status") or "Unknown",
        operation=_operation(status.get("operationState")),
        requested=(((requested or {}).get("sync") or {}).get("revision") or "") if requested else None,
        refreshing=REFRESH in (item["metadata"].get("annotations") or {}),
        automated=automated is not None and automated.get("enabled") is not False,
        conditions=tuple((c.get("type", ""), c.get("message", "")) for c in status.get("conditions") or ()),
        resources=tuple(_resource(entry) for entry in status.get("resources") or ()),
    )


def live_of(resource: Resource, item: Mapping[str, Any] | None) -> Live:
    """What an object of the Application says; None when it does not exist."""
    if item is None:
        return Live(resource, "Missing", "does not exist")
    if resource.kind == "Rollout":
        return Live(resource, *_rollout(item))
    return Live(resource, *_workload(item))


def is_workload(resource: Resource) -> bool:
    """Whether the resource's own status says more than the Application's."""
    kinds = {"argoproj.io": ("Rollout",), "apps": ("Deployment", "StatefulSet", "DaemonSet")}
    return resource.kind in kinds.get(resource.group, ())


def judge(
    view: View, lives: Sequence[Live], revision: str | None = None, healthy: bool = True, suspended: bool = False
) -> Verdict:
    """Whether the Application is Synced, at ``revision``, and Healthy if asked for; ``suspended`` takes a pause too.

    FAILED is what waiting does not change: a sync that was given up, a Rollout that was aborted, an Application that
    nobody syncs.
    """
    there = reached(view, revision)
    why = reasons(view, lives, revision)
    if view.busy or view.sync == "Unknown" or not there:
        return Verdict(WAITING, why)
    operation = view.operation
    if view.sync != "Synced":
        if operation and operation.phase in _UNSUCCESSFUL and operation.revision == view.revision:
            return Verdict(FAILED, why)
        return Verdict(WAITING if view.automated else FAILED, why)
    if not healthy:
        return Verdict(DONE, ())
    allowed = (HEALTHY, SUSPENDED) if suspended else (HEALTHY,)
    settled = [live for live in lives if live.health not in allowed]
    if view.health in allowed and not settled:
        return Verdict(DONE, why)
    # Argo CD's word may be the one of before; that of the object itself is about its present generation.
    if view.health == DEGRADED and any(live.health == DEGRADED for live in lives):
        return Verdict(FAILED, why)
    return Verdict(WAITING, why)


def reached(view: View, revision: str | None) -> bool:
    """Whether sync speaks of the wanted commit; a short hash is one too."""
    return revision is None or (bool(view.revision) and view.revision.startswith(revision))


def stale_operation(view: View, revision: str | None) -> Operation | None:
    """The sync of another commit that fails and is tried again and again, while the wanted one has to wait for it."""
    operation = view.operation
    if revision is None or operation is None or operation.phase != "Running" or not operation.retries:
        return None
    return None if not operation.revision or operation.revision.startswith(revision) else operation


def reasons(view: View, lives: Sequence[Live], revision: str | None = None) -> tuple[str, ...]:
    """Why the Application is not Synced and Healthy, the cause before what follows from it."""
    return tuple(dict.fromkeys((*view.errors, *_of_sync(view, revision), *_of_health(view, lives))))


def describe(view: View) -> str:
    """One line: sync, commit, health."""
    at = f" at {view.revision[:_SHORT]}" if view.revision else ""
    return f"{view.sync}{at}, {view.health}"


def _of_sync(view: View, revision: str | None) -> Iterable[str]:
    operation = view.operation
    if view.refreshing:
        yield "Argo CD has not looked at Git yet, as it was asked to: is its application controller running?"
    if operation and operation.running and operation.retries:
        yield (
            f"the sync of {operation.revision[:_SHORT]} fails and is tried again ({operation.retries} so far): "
            f"{_line(operation.message)}"
        )
    elif operation and operation.running:
        said = _line(operation.message) or "no message"
        yield f"the sync of {operation.revision[:_SHORT]} is {operation.phase}: {said}"
    elif operation and operation.phase in _UNSUCCESSFUL and view.sync != "Synced":
        yield f"the sync of {operation.revision[:_SHORT]} ended in {operation.phase}: {_line(operation.message)}"
    if operation and (operation.retries or operation.phase in _UNSUCCESSFUL) and view.sync != "Synced":
        for resource in operation.failed:
            yield f"{resource}: {_line(resource.message)}"
        if any(text in operation.message + str(operation.failed) for text in _NO_KIND):
            yield (
                "a kind that the cluster does not know: is its CustomResourceDefinition installed by an Application of "
                "an earlier wave? The sync option SkipDryRunOnMissingResource=true lets one come with its definition"
            )
    if not reached(view, revision):
        seen = view.revision[:_SHORT] if view.revision else "nothing"
        yield f"Argo CD has compared with {seen}, not with {str(revision)[:_SHORT]}"
    if view.sync == "OutOfSync":
        yield from _out_of_sync(view)


def _out_of_sync(view: View) -> Iterable[str]:
    differing = [resource for resource in view.resources if resource.status != "Synced"]
    for resource in differing:
        left = " (it is not in Git any more, and pruning is off)" if resource.pruning else ""
        yield f"{resource} is {resource.status}{left}"
    operation = view.operation
    synced = operation is not None and operation.phase == "Succeeded" and operation.revision == view.revision
    if synced and differing and all(resource.kind == "CustomResourceDefinition" for resource in differing):
        yield (
            "the sync has succeeded and only CustomResourceDefinitions differ: the API server fills fields in; "
            "ignoreDifferences with /spec/preserveUnknownFields and /status is missing"
        )
    if not view.automated and not view.busy:
        yield "the Application has no automated sync, and nobody has asked for one"


def _of_health(view: View, lives: Sequence[Live]) -> Iterable[str]:
    said = False
    for live in lives:
        if live.health != HEALTHY:
            said = True
            yield f"{live.resource} is {live.health}: {live.message}"
    if view.health not in (HEALTHY, "Unknown") and not said:
        yield f"health is {view.health}"


def _rollout(item: Mapping[str, Any]) -> tuple[str, str]:
    seen = read_rollout(item)
    if not seen.observed:
        return "Progressing", "its controller has not seen the new spec yet"
    if seen.phase == "Paused":
        steps = ((item["spec"].get("strategy") or {}).get("canary") or {}).get("steps") or ()
        at = f" at step {seen.index + 1} of {len(steps)}" if seen.index is not None and steps else ""
        return SUSPENDED, f"paused{at} ({seen.message or 'spec.paused'}), waiting to be promoted"
    if seen.phase == HEALTHY and seen.stable != seen.hash:
        return "Progressing", f"the pods of {seen.hash} are not the stable ones yet"
    if seen.phase == HEALTHY:
        return HEALTHY, ""
    return seen.phase or "Progressing", _line(seen.message) or "no message"


def _workload(item: Mapping[str, Any]) -> tuple[str, str]:
    status, meta, spec = item.get("status") or {}, item["metadata"], item.get("spec") or {}
    if (status.get("observedGeneration") or 0) < (meta.get("generation") or 0):
        return "Progressing", "its controller has not seen the new spec yet"
    for condition in status.get("conditions") or ():
        if condition.get("reason") == "ProgressDeadlineExceeded" and condition.get("status") == "False":
            return DEGRADED, _line(condition.get("message") or "it has exceeded its progress deadline")
    if item["kind"] == "DaemonSet":
        wanted, ready = status.get("desiredNumberScheduled") or 0, status.get("numberAvailable") or 0
        updated = status.get("updatedNumberScheduled") or 0
    else:
        wanted = spec.get("replicas", 1)
        ready = status.get("availableReplicas", status.get("readyReplicas")) or 0
        updated = status.get("updatedReplicas") or 0
    if updated < wanted or ready < wanted:
        return "Progressing", f"{ready} of {wanted} pods are available, {updated} of them updated"
    return HEALTHY, ""


def _operation(state: Mapping[str, Any] | None) -> Operation | None:
    if not state:
        return None
    result = state.get("syncResult") or {}
    asked = ((state.get("operation") or {}).get("sync") or {}).get("revision")
    failed = [entry for entry in result.get("resources") or () if entry.get("status") == "SyncFailed"]
    return Operation(
        phase=state.get("phase") or "",
        revision=result.get("revision") or asked or "",
        message=state.get("message") or "",
        retries=state.get("retryCount") or 0,
        failed=tuple(_resource(entry) for entry in failed),
    )


def _resource(entry: Mapping[str, Any]) -> Resource:
    return Resource(
        group=entry.get("group") or "",
        kind=entry.get("kind") or "",
        namespace=entry.get("namespace") or "",
        name=entry.get("name") or "",
        status=entry.get("status") or "Unknown",
        pruning=bool(entry.get("requiresPruning")),
        message=entry.get("message") or "",
    )


def _line(text: str) -> str:
    return " ".join(text.split())
