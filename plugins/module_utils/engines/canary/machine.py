# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a canary executed: what is to be done next, from where the canary is and what its pods are like.

Pure: one answer to one look. Whoever drives the pods looks, does the one thing, writes down the new place, and looks
again; it may be killed between any two of these. The counts are those of `replicas.step`, one reconciliation at a
time, so that there are never more pods than replicas and surge, and no pod is taken away that is needed to keep the
available ones at the floor.

Without a controller that knows both versions, the new image has to end in the workload that was stable. Promotion
brings the canary to 100 %, changes the stable workload's template while it has no pods, and then moves the pods over
as another weight would. Taking back is a weight of 0; when the template was changed already, it is changed back first.
When somebody else has changed it, the canary goes, and the template stays theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .replicas import Counts, Goal, IntOrPercent, Scale, goal, weighted
from .replicas import step as reconcile
from .steps import ANALYSIS, PAUSE, SET_WEIGHT, Step, after_verdict

WAIT, SCALE, ADVANCE, MEASURE, ABORT, MOVE, RESTORE, REMOVE = (
    "wait",
    "scale",
    "advance",
    "measure",
    "abort",
    "move",
    "restore",
    "remove",
)


@dataclass(frozen=True)
class Course:
    """What was asked for. ``limits``: maxSurge and maxUnavailable, pods or percentages."""

    steps: Sequence[Step]
    replicas: int
    max_surge: IntOrPercent
    max_unavailable: IntOrPercent

    def goal(self, weight: int) -> Goal:
        """The goal of a weight. Raises ReplicaError."""
        return goal(self.replicas, weight, self.max_surge, self.max_unavailable)


class Verdict(NamedTuple):
    """How an analysis ended: its phase and what it says of it."""

    phase: str
    message: str = ""


@dataclass(frozen=True)
class Place:
    """How far a canary is. ``index``: the step in progress, the number of steps once all are over."""

    index: int = 0
    since: float = 0.0
    """When that step began, in epoch seconds."""
    aborted: bool = False
    allowed: frozenset[int] = frozenset()
    """Numbers of the steps (from 1) that somebody has let pass, whatever they wait for."""
    verdicts: Mapping[int, Verdict] = field(default_factory=dict)
    """Of the analyses that have ended, by step; ``BACKGROUND`` for the one beside the steps."""


BACKGROUND = -1


@dataclass(frozen=True)
class Pods:
    """What is there. ``moved``: the stable workload's template has the new image already."""

    canary: Scale
    stable: Scale
    moved: bool = False
    settled: bool = True
    """Whether what was asked for before has been looked at, and no pod beyond it is left."""
    foreign: bool = False
    """Whether the stable workload's template is somebody else's by now."""


class Action(NamedTuple):
    """The one thing to do next. ``counts`` of SCALE; ``reason`` of ABORT, and what WAIT waits for."""

    kind: str
    counts: Counts | None = None
    reason: str = ""


def decide(course: Course, place: Place, pods: Pods, now: float) -> Action:
    """What to do next. ``now`` in epoch seconds. Raises ReplicaError for a course that cannot be."""
    if pods.foreign:
        return _leave(course, pods)
    if not pods.settled:
        return Action(WAIT, reason="pods")
    if place.aborted:
        return _back(course, pods)
    failed = _failed(place, BACKGROUND)
    if failed and not pods.moved:
        return failed
    if _inconclusive(place, BACKGROUND) and not pods.moved:
        return Action(WAIT, reason="inconclusive")
    if place.index >= len(course.steps):
        return _promote(course, pods)
    step = course.steps[place.index]
    scale = _towards(course.goal(step.weight), pods)
    if scale is not None:
        return scale
    return _step(course, step, place, pods, now)


def _step(course: Course, step: Step, place: Place, pods: Pods, now: float) -> Action:
    if step.kind == SET_WEIGHT:
        return Action(ADVANCE) if _there(course.goal(step.weight), pods) else Action(WAIT, reason="pods")
    if step.kind == PAUSE:
        over = step.duration is not None and now - place.since >= step.duration
        return Action(ADVANCE) if over or _let_pass(place) else Action(WAIT, reason="pause")
    if step.kind == ANALYSIS:
        verdict = place.verdicts.get(place.index)
        if verdict is None:
            return Action(MEASURE)
        if after_verdict(verdict.phase) == "promote" or (verdict.phase == "Inconclusive" and _let_pass(place)):
            return Action(ADVANCE)
        return _failed(place, place.index) or Action(WAIT, reason="inconclusive")
    return Action(WAIT, reason=step.kind)


def _let_pass(place: Place) -> bool:
    return place.index + 1 in place.allowed


def _inconclusive(place: Place, index: int) -> bool:
    """Whether an analysis waits for somebody, who has not let the step in progress pass yet."""
    return index in place.verdicts and place.verdicts[index].phase == "Inconclusive" and not _let_pass(place)


def _failed(place: Place, index: int) -> Action | None:
    if index not in place.verdicts or place.verdicts[index].phase not in ("Failed", "Error"):
        return None
    return Action(ABORT, reason=place.verdicts[index].message)


def _promote(course: Course, pods: Pods) -> Action:
    if pods.moved:
        return _reach(course.goal(0), pods, Action(REMOVE))
    return _reach(course.goal(100), pods, Action(MOVE))


def _leave(course: Course, pods: Pods) -> Action:
    """Their template, and how it is rolled out, is theirs: that may be stuck for ever. Only our own pods go."""
    counts = Counts(0, max(course.replicas, pods.stable.spec))
    return Action(REMOVE) if counts == Counts(pods.canary.spec, pods.stable.spec) else Action(SCALE, counts)


def _back(course: Course, pods: Pods) -> Action:
    if not pods.moved:
        return _reach(course.goal(0), pods, Action(REMOVE))
    # The workload rolls its pods back by itself, whether the new version can still start or not. No more than replicas
    # to begin with, its own surge is within ours. What does not serve is in the way.
    canary, stable = (min(scale.spec, scale.available) for scale in (pods.canary, pods.stable))
    canary -= min(canary, max(0, canary + stable - course.replicas))
    stable = min(stable, course.replicas)
    counts = Counts(canary, stable)
    return Action(RESTORE) if counts == Counts(pods.canary.spec, pods.stable.spec) else Action(SCALE, counts)


def _reach(wanted: Goal, pods: Pods, then: Action) -> Action:
    scale = _towards(wanted, pods)
    if scale is not None:
        return scale
    return then if _there(wanted, pods) else Action(WAIT, reason="pods")


def _towards(wanted: Goal, pods: Pods) -> Action | None:
    counts = reconcile(wanted, pods.canary, pods.stable)
    return None if counts == Counts(pods.canary.spec, pods.stable.spec) else Action(SCALE, counts)


def _there(wanted: Goal, pods: Pods) -> bool:
    """Whether the weight has its pods, all of them available."""
    target = weighted(wanted.replicas, wanted.weight, wanted.limits.surge)
    counted = Counts(pods.canary.spec, pods.stable.spec)
    ready = pods.canary.available >= target.canary and pods.stable.available >= target.stable
    return counted == target and ready
