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

PAUSE_STEP = "CanaryPauseStep"
HASH_LABEL = "rollouts-pod-template-hash"
STEP_LABEL = "step-index"
REVISION_ANNOTATION = "rollout.argoproj.io/revision"
#: Of a ReplicaSet that has served more revisions than one.
HISTORY_ANNOTATION = "rollout.argoproj.io/revision-history"

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
    paused_since: str
    """When the pause of the step began, RFC 3339: tells it from that of another attempt. Empty without one."""
    run: str
    """Name of the current step's AnalysisRun; empty without one."""
    background: str
    """Name of the AnalysisRun that goes on beside the steps; empty without one."""
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
    canary, pauses = status.get("canary") or {}, status.get("pauseConditions") or ()
    run, background = (canary.get(f"current{which}AnalysisRunStatus") or {} for which in ("Step", "Background"))
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
        pauses=tuple(pause.get("reason", "") for pause in pauses),
        paused_since=next((p.get("startTime") or "" for p in pauses if p.get("reason") == PAUSE_STEP), ""),
        run=run.get("name") or "",
        background=background.get("name") or "",
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
    condition: str = ""
    """What the metric passes by; empty when it has no ``successCondition``."""


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
    metrics = {metric["name"]: metric for metric in spec.get("metrics") or ()}
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
                    of=str(metrics.get(result["name"], {}).get("count") or ""),
                    dry_run=bool(result.get("dryRun")),
                    condition=metrics.get(result["name"], {}).get("successCondition") or "",
                )
            )
    return found
