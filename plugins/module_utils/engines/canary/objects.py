# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Rollout, AnalysisRun, Pod and ReplicaSet objects say, read into plain values.

Fields and their meaning are those of Argo Rollouts 1.8 (pkg/apis/rollouts/v1alpha1) and Kubernetes core.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

HASH_LABEL = "rollouts-pod-template-hash"
STEP_LABEL = "step-index"
REVISION_ANNOTATION = "rollout.argoproj.io/revision"

FINISHED = ("Successful", "Failed", "Inconclusive", "Error")
"""Phases in which a measurement, a metric and a run have ended."""

Object = Mapping[str, Any]


@dataclass(frozen=True)
class RolloutView:
    """A Rollout's status, and whether it already speaks of the spec beside it."""

    observed: bool
    """False while the controller has not seen this generation: everything else is then about the spec before."""
    hash: str
    stable: str
    revision: str
    index: int | None
    phase: str
    message: str
    aborted: bool
    full: bool
    pauses: tuple[str, ...]
    run: str
    """Name of the current step's AnalysisRun; empty without one."""
    replicas: int
    updated: int
    available: int

    @property
    def resuming(self) -> bool:
        """A promotion has cleared the pause and the controller has not reacted yet."""
        return self.phase == "Paused" and not self.pauses


def read_rollout(obj: Object) -> RolloutView:
    """Read a Rollout. ``status.observedGeneration`` is a string and lags behind ``metadata.generation``."""
    meta, status = obj["metadata"], obj.get("status") or {}
    run = (status.get("canary") or {}).get("currentStepAnalysisRunStatus") or {}
    return RolloutView(
        observed=str(status.get("observedGeneration")) == str(meta.get("generation")),
        hash=status.get("currentPodHash") or "",
        stable=status.get("stableRS") or "",
        revision=(meta.get("annotations") or {}).get(REVISION_ANNOTATION, ""),
        index=status.get("currentStepIndex"),
        phase=status.get("phase") or "",
        message=status.get("message") or "",
        aborted=bool(status.get("abort")),
        full=bool(status.get("promoteFull")),
        pauses=tuple(pause.get("reason", "") for pause in status.get("pauseConditions") or ()),
        run=run.get("name") or "",
        replicas=status.get("replicas") or 0,
        updated=status.get("updatedReplicas") or 0,
        available=status.get("availableReplicas") or 0,
    )


class Measurement(NamedTuple):
    """One finished measurement of an AnalysisRun.

    ``ordinal`` counts all measurements of the metric in its run from 0, errors included: times are whole seconds and
    values repeat, so that nothing else tells two of them apart. ``at`` is RFC 3339, UTC.
    ``value`` is Argo's text (``[0.98]``, ``[NaN]``); None without one.
    """

    run: str
    metric: str
    ordinal: int
    at: str
    phase: str
    value: str | None
    message: str
    of: str
    """The metric's ``count`` as the template gives it; empty when it has none."""
    dry_run: bool


class RunView(NamedTuple):
    """An AnalysisRun."""

    name: str
    hash: str
    revision: str
    step: int | None
    created: str
    phase: str
    message: str
    terminated: bool
    """Somebody ended it (promotion or abort): it says Successful whatever it had measured."""
    measurements: tuple[Measurement, ...]

    @property
    def ended(self) -> bool:
        """Whether it takes no more measurements."""
        return self.phase in FINISHED

    @property
    def passed(self) -> bool:
        """Successful by its own measurements."""
        return self.phase == "Successful" and not self.terminated


def read_run(obj: Object) -> RunView:
    """Read an AnalysisRun. Measurements are the ones it still keeps (ten a metric by default)."""
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    labels = meta.get("labels") or {}
    step = labels.get(STEP_LABEL, "")
    return RunView(
        name=meta["name"],
        hash=labels.get(HASH_LABEL, ""),
        revision=(meta.get("annotations") or {}).get(REVISION_ANNOTATION, ""),
        step=int(step) if step.isdigit() else None,
        created=meta.get("creationTimestamp") or "",
        phase=status.get("phase") or "",
        message=status.get("message") or "",
        terminated=bool(spec.get("terminate")) or status.get("message") == "Run Terminated",
        measurements=tuple(_measurements(meta["name"], spec, status)),
    )


def _measurements(run: str, spec: Object, status: Object) -> list[Measurement]:
    counts = {metric["name"]: metric.get("count") for metric in spec.get("metrics") or ()}
    found: list[Measurement] = []
    for result in status.get("metricResults") or ():
        finished = [each for each in result.get("measurements") or () if each.get("phase") in FINISHED]
        # `count` leaves errors out; together they number the last measurement even when the first are forgotten.
        taken = (result.get("count") or 0) + (result.get("error") or 0)
        first = max(0, taken - len(finished))
        for ordinal, each in enumerate(finished, start=first):
            found.append(
                Measurement(
                    run=run,
                    metric=result["name"],
                    ordinal=ordinal,
                    at=each.get("finishedAt") or each.get("startedAt") or "",
                    phase=each["phase"],
                    value=each.get("value"),
                    message=each.get("message") or "",
                    of=str(counts.get(result["name"]) or ""),
                    dry_run=bool(result.get("dryRun")),
                )
            )
    return found


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
