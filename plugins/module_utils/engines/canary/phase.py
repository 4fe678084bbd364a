# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The phase of a Rollout as its clients say it, and whether it may be believed yet.

`client_phase` follows Argo Rollouts 1.8 (GetRolloutPhase and CalculateRolloutPhase in utils/rollout/rolloututil.go) and
is what the kubectl plugin prints. It is not enough to wait by: a verb changes the status alone, which has no
generation, so that the phase is of before the verb until the controller has looked. `judge` knows that.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from .objects import Object, read_rollout

HEALTHY, PAUSED, PROGRESSING, DEGRADED = "Healthy", "Paused", "Progressing", "Degraded"
ABORTED, PROMOTED = "aborted", "promoted"
GOALS = (HEALTHY, PAUSED, PROGRESSING, DEGRADED, ABORTED, PROMOTED)
"""What can be waited for: Argo's phases, and two ends of a change. ``promoted`` is Healthy with the newest template,
``aborted`` is Degraded by an abort."""

_ABORT_REASON = "RolloutAborted"
_WORKLOAD_GENERATION = "rollout.argoproj.io/workload-generation"


class Phase(NamedTuple):
    """A phase and what is said about it."""

    phase: str
    message: str = ""


class Judgement(NamedTuple):
    """``settled``: the controller has looked at the spec and at the last verb. ``ends``: those of `GOALS` that hold."""

    settled: bool
    ends: frozenset[str]
    why: str
    """What is waited for while it is not settled; else what the Rollout says."""


def client_phase(rollout: Object) -> Phase:
    """What a client of Argo Rollouts shows."""
    status = rollout.get("status") or {}
    if not _generation_observed(rollout, status):
        return Phase(PROGRESSING, "waiting for rollout spec update to be observed")
    if unpausing(rollout):
        return Phase(PROGRESSING, "waiting for rollout to unpause")
    if not _workload_observed(rollout, status):
        return Phase(PROGRESSING, "waiting for rollout spec update to be observed for the reference workload")
    if status.get("phase"):
        return Phase(status["phase"], status.get("message") or "")
    return _calculated(rollout["spec"], status)


def unpausing(rollout: Object) -> bool:
    """A promotion has cleared the pause, and the controller has not reacted yet."""
    status = rollout.get("status") or {}
    return bool(status.get("controllerPause")) and not status.get("pauseConditions")


def _generation_observed(rollout: Object, status: Object) -> bool:
    # A hash in place of a number is a controller before 0.10, of which nothing can be said.
    observed = _integer(status.get("observedGeneration"))
    return observed is None or observed >= int(rollout["metadata"].get("generation") or 0)


def _workload_observed(rollout: Object, status: Object) -> bool:
    if not rollout["spec"].get("workloadRef"):
        return True
    wanted = _integer((rollout["metadata"].get("annotations") or {}).get(_WORKLOAD_GENERATION))
    observed = _integer(status.get("workloadObservedGeneration"))
    return wanted is None or observed is None or wanted == observed


def _integer(text: object) -> int | None:
    try:
        return int(str(text))
    except ValueError:
        return None


def _calculated(spec: Object, status: Object) -> Phase:
    """For a status without a phase: the controller has not written one yet, or is older than 1.0."""
    for condition in status.get("conditions") or ():
        kind, reason, message = (condition.get(key) or "" for key in ("type", "reason", "message"))
        if kind == "InvalidSpec":
            return Phase(DEGRADED, f"{kind}: {message}")
        if reason in (_ABORT_REASON, "ProgressDeadlineExceeded"):
            return Phase(DEGRADED, f"{reason}: {message}")
    if spec.get("paused"):
        return Phase(PAUSED, "manually paused")
    for pause in status.get("pauseConditions") or ():
        return Phase(PAUSED, pause.get("reason") or "")
    waiting = _waiting(spec, status)
    return Phase(PROGRESSING, waiting) if waiting else Phase(HEALTHY)


def _waiting(spec: Object, status: Object) -> str:
    replicas = 1 if spec.get("replicas") is None else spec["replicas"]
    updated, available = status.get("updatedReplicas") or 0, status.get("availableReplicas") or 0
    stable, current = status.get("stableRS") or "", status.get("currentPodHash") or ""
    strategy = spec.get("strategy") or {}
    canary = strategy.get("canary")
    restarted = status.get("restartedAt")
    if spec.get("restartAt") and (not restarted or epoch(spec["restartAt"]) != epoch(restarted)):
        return "rollout is restarting"
    if updated < replicas:
        return "more replicas need to be updated"
    if available < updated:
        return "updated replicas are still becoming available"
    if strategy.get("blueGreen") is not None:
        return _waiting_blue_green(strategy["blueGreen"], status.get("blueGreen") or {}, stable, current)
    if canary is not None and not canary.get("trafficRouting") and (status.get("replicas") or 0) > updated:
        return "old replicas are pending termination"
    if canary is not None and (not stable or stable != current):
        return "waiting for all steps to complete"
    return ""


def _waiting_blue_green(spec: Object, status: Object, stable: str, current: str) -> str:
    active = status.get("activeSelector") or ""
    if not active or active != current:
        return "active service cutover pending"
    if stable and stable == current:
        return ""
    run = (status.get("postPromotionAnalysisRunStatus") or {}).get("status") or ""
    if spec.get("postPromotionAnalysis") is not None and run not in ("Successful", "Failed", "Error", "Inconclusive"):
        return "waiting for analysis to complete"
    return "waiting for post-promotion verification to complete"


def epoch(moment: str) -> float:
    """Epoch seconds of RFC 3339 in any zone. Raises ValueError."""
    return datetime.fromisoformat(moment[:-1] + "+00:00" if moment.endswith("Z") else moment).timestamp()


def judge(rollout: Object) -> Judgement:
    """What has come true of a Rollout. Nothing has while the controller has not looked at the last change or verb."""
    view, status = read_rollout(rollout), rollout.get("status") or {}
    phase, message = client_phase(rollout)
    why = f"{phase} {message}".strip()
    if not view.observed:
        generation = rollout["metadata"].get("generation")
        return Judgement(False, frozenset(), f"the controller has not looked at generation {generation} yet")
    if not _workload_observed(rollout, status) or unpausing(rollout):
        return Judgement(False, frozenset(), why)
    by_abort = phase == DEGRADED and message.startswith(_ABORT_REASON)
    if view.aborted != by_abort and (by_abort or view.hash != view.stable):
        verb = "retry" if by_abort else "abort"
        return Judgement(False, frozenset(), f"the controller has not reacted to the {verb} yet ({why})")
    if view.full and phase == PAUSED:
        return Judgement(False, frozenset(), f"the controller has not reacted to the full promotion yet ({why})")
    ends = {phase} & set(GOALS)
    if phase == HEALTHY and view.hash != view.stable:
        ends.discard(HEALTHY)
    if HEALTHY in ends:
        ends.add(PROMOTED)
    if by_abort:
        ends.add(ABORTED)
    return Judgement(True, frozenset(ends), why)


def hopeless(ends: Collection[str], wanted: Collection[str]) -> bool:
    """Whether a change that was aborted can never come to what is wanted of it. A revert makes it Healthy, though."""
    return ABORTED in ends and not set(wanted) & {ABORTED, DEGRADED, HEALTHY}
