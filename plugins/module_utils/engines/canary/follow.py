# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Follows a canary from outside: observations in, a story and the state out. No clock, no client.

Feed `Follower.see` every object as a watch delivers it, in any order between kinds, as often as you like, beginning
anywhere. A follower that starts in mid-release reads from the objects what it did not see happen; only the times of
steps that were over before it looked stay unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from ..analysis.phases import MARKS
from ..workloads.objects import images_of
from ..workloads.problems import Problem, pod_problem, replica_set_problem
from .guard import tripped
from .objects import (
    HASH_LABEL,
    HISTORY_ANNOTATION,
    PAUSE_STEP,
    REVISION_ANNOTATION,
    Measurement,
    Object,
    RolloutView,
    RunView,
    read_rollout,
    read_run,
)
from .phase import epoch
from .replicas import Counts, Scale
from .steps import ANALYSIS, PAUSE, SET_WEIGHT, Step, StepError, read_steps

ABORTED, PROMOTED, SUPERSEDED, RUNNING = "aborted", "promoted", "superseded", "running"
PAUSE_INCONCLUSIVE = "InconclusiveAnalysisRun"

_ABORT_TEXT = "RolloutAborted: "
#: How much later than its end the beginning of a pause may be seen, in seconds, before it looks shorter than it was.
_LATE = 2.0


class Entry(NamedTuple):
    """One line of the story. ``kind``: observed, step_began, step_ended, pods, paused, measurement, analysis, warning,
    aborted, retried, promoted or superseded. ``at``: epoch seconds, when it was seen. ``pods``: of pods, how many are
    ready of canary and stable."""

    at: float
    kind: str
    text: str
    pods: Counts | None = None

    @property
    def line(self) -> str:
        """For a terminal: what belongs to a step is indented under it."""
        return ("  " if self.kind in ("measurement", "analysis", "pods") else "") + self.text


@dataclass
class StepRecord:
    """A step as it went. Times are epoch seconds, None when nobody watched."""

    step: Step
    started_at: float | None = None
    finished_at: float | None = None
    ended_by: str = ""
    """advance, unseen (over before anybody looked), full (promoted fully), aborted or superseded; empty: running."""
    run: str = ""
    counts: Counts | None = None
    """The pods when it ended; of one that was aborted, just before. None when nobody can know."""
    since: str = ""
    """Of a pause, when it began, as the Rollout says it."""
    watched: bool = False
    """Whether its beginning was seen, so that ``started_at`` is when it began."""


@dataclass
class Change:
    """One change of the pod template: what happened to one pod hash in one revision, retries included."""

    hash: str
    revision: str
    outcome: str = ""
    """aborted, promoted or superseded; empty while it goes on."""
    reason: str = ""
    steps: list[StepRecord] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    attempt: int = 1
    begun: int = 0
    """How many of ``steps`` are of attempts before this one."""


class State(NamedTuple):
    """Where the Rollout is, and what somebody has to decide.

    ``phase``: unknown, waiting (generation not observed yet), resting (on stable, nothing in progress), progressing,
    paused, aborted, promoted or superseded. ``decision``: empty, pause (an indefinite pause step waits), inconclusive
    (paused by an analysis that was so), good or bad. ``since``: when the step's pause began, as the Rollout says it.
    """

    phase: str
    step: Step | None
    canary_hash: str
    stable_hash: str
    decision: str = ""
    reason: str = ""
    revision: str = ""
    since: str = ""


class Follower:
    """The story of one Rollout. ``target`` and ``revision`` are the pod hash to follow and its revision, when they are
    known from before. ``failures_in_a_row``, when it is not 0, is our own limit for an AnalysisRun: see `guard`."""

    def __init__(self, name: str, target: str = "", revision: str = "", failures_in_a_row: int = 0) -> None:
        self.name = name
        self._failures_in_a_row = failures_in_a_row
        self.changes: list[Change] = []
        self.view: RolloutView | None = None
        self.rollout: Object | None = None
        self._target = target
        self._revision = revision
        self._steps: tuple[Step, ...] = ()
        self._unreadable = ""
        self._objects: dict[str, Object] = {}
        self._kinds: dict[str, dict[str, Object]] = {"AnalysisRun": {}, "Pod": {}, "ReplicaSet": {}}
        self._heard: dict[str, list[Measurement]] = {}
        self._position: int | None = None
        self._paused_at: int | None = None
        self._told: set[tuple[str, ...]] = set()
        self._pods_line = ""
        self._share: Counts | None = None
        self._troubled_since: dict[str, float] = {}
        self._warnings: dict[str, str] = {}

    @property
    def change(self) -> Change | None:
        """The change in progress or ended last; None when nothing was seen but a Rollout at rest."""
        return self.changes[-1] if self.changes else None

    # -- observations --------------------------------------------------------------------------------------------

    def see(self, kind: str, obj: Object, at: float, deleted: bool = False) -> list[Entry]:
        """Take in one object of ``kind``; what is old, doubled or foreign changes nothing."""
        if self._stale(obj) and not deleted:
            return []
        if kind == "Rollout":
            return [] if deleted or obj["metadata"]["name"] != self.name else self._rollout(obj, at)
        if kind == "AnalysisRun":
            # A deleted run has said all it had to say; what it said is kept.
            return [] if deleted or not self._ours(obj) else self._analysis_run(obj, at)
        if kind in ("Pod", "ReplicaSet"):
            return self._pods(kind, obj, at, deleted)
        if kind == "Event":
            return self._event(obj, at)
        return []

    def _stale(self, obj: Object) -> bool:
        meta = obj["metadata"]
        uid, before = meta.get("uid", ""), self._objects.get(meta.get("uid", ""))
        if before is not None:
            old, new = before["metadata"].get("resourceVersion", ""), meta.get("resourceVersion", "")
            if old == new or (old.isdigit() and new.isdigit() and int(new) < int(old)):
                return True
        self._objects[uid] = obj
        return False

    def _ours(self, obj: Object) -> bool:
        return any(
            owner.get("kind") == "Rollout" and owner.get("name") == self.name
            for owner in obj["metadata"].get("ownerReferences") or ()
        )

    # -- the Rollout ---------------------------------------------------------------------------------------------

    def _rollout(self, obj: Object, at: float) -> list[Entry]:
        self.rollout = obj
        view = self.view = read_rollout(obj)
        if not view.observed:
            return []
        try:
            self._steps = read_steps((obj["spec"].get("strategy") or {}).get("canary") or {})
            self._unreadable = ""
        except StepError as error:
            # Whoever sends the canary back has to be able to go on watching it.
            self._unreadable = f"its steps were changed to what cannot be followed: {error}"
        entries = self._which_change(view, at)
        change = self._current()
        if change is None:
            return entries
        if view.aborted or (change.outcome == ABORTED and view.phase == "Degraded"):
            return entries + self._aborted(change, view, at)
        if change.outcome == ABORTED or self._went_back(view):
            entries += self._retried(change, at)
        entries += self._advance(change, view, at)
        entries += self._pause(view, at)
        self._share = _share(view)
        if view.stable == change.hash and view.phase == "Healthy" and not change.outcome:
            self._close(change, at, "advance")
            change.outcome = PROMOTED
            entries.append(Entry(at, PROMOTED, f"promoted: {change.hash} is stable"))
        return entries + self._pods_entry(at)

    def _current(self) -> Change | None:
        """The change the Rollout is at now, unless it is at rest or has gone on to another template."""
        change, view = self.change, self.view
        if change is None or view is None or (change.hash, change.revision) != (view.hash, view.revision):
            return None
        return None if change.outcome in (PROMOTED, SUPERSEDED) else change

    def _which_change(self, view: RolloutView, at: float) -> list[Entry]:
        change = self.change
        if change is not None and (change.hash, change.revision) == (view.hash, view.revision):
            return []
        if change is None and self._target and self._target != view.hash:
            change = Change(self._target, self._revision)
            self.changes.append(change)
            for run in self._runs(change):
                self._measure(run, at)
        entries = self._superseded(change, view, at) if change is not None and not change.outcome else []
        if view.hash == view.stable and view.hash != self._target:
            return entries
        self._target = ""
        self.changes.append(Change(view.hash, view.revision))
        self._position = self._paused_at = None
        entries.append(
            Entry(at, "observed", f"canary {view.hash} of revision {view.revision}, stable {view.stable or 'none'}")
        )
        for run in self._runs(self.changes[-1]):
            entries += self._measure(run, at)
        return entries

    def _superseded(self, change: Change, view: RolloutView, at: float) -> list[Entry]:
        self._close(change, at, SUPERSEDED)
        if view.hash == view.stable:
            what = "went back to stable"
        else:
            what = f"was changed to {', '.join(images_of(self.rollout or {}))}, hash"
        change.outcome, change.reason = SUPERSEDED, f"the Rollout {what} {view.hash}"
        return [Entry(at, SUPERSEDED, f"superseded: {change.reason}")]

    def _aborted(self, change: Change, view: RolloutView, at: float) -> list[Entry]:
        if view.phase != "Degraded":
            return []  # asked for; the controller has not acted on it yet
        reason = _abort_reason(view.message)
        if change.outcome == ABORTED:
            change.reason = change.reason or reason
            return self._pods_entry(at)
        running = _open(change)
        if running is not None:
            running.counts = self._share
        self._close(change, at, ABORTED)
        change.outcome, change.reason = ABORTED, reason
        self._position = None
        return [Entry(at, ABORTED, "aborted" + (f": {reason}" if reason else "")), *self._pods_entry(at)]

    def _went_back(self, view: RolloutView) -> bool:
        return self._position is not None and view.index is not None and view.index < self._position

    def _retried(self, change: Change, at: float) -> list[Entry]:
        self._close(change, at, ABORTED)
        change.outcome, change.reason = "", ""
        change.attempt += 1
        change.begun = len(change.steps)
        self._position = None
        return [Entry(at, "retried", f"retried: the steps of {change.hash} begin again")]

    # -- steps ---------------------------------------------------------------------------------------------------

    def _advance(self, change: Change, view: RolloutView, at: float) -> list[Entry]:
        if view.index is None or not self._steps:
            return []
        entries: list[Entry] = []
        index = min(view.index, len(self._steps))
        first_look = self._position is None
        if first_look or index != self._position:
            entries += self._move(change, view, index, at, watched=not first_look)
        record = _open(change)
        if record is not None and record.step.kind == ANALYSIS and view.run:
            record.run = view.run
        if record is not None and record.step.kind == PAUSE and view.paused_since:
            record.since = view.paused_since
        return entries

    def _move(self, change: Change, view: RolloutView, index: int, at: float, watched: bool) -> list[Entry]:
        entries: list[Entry] = []
        record = _open(change)
        if record is not None:
            record.counts = _share(view)
            entries.append(Entry(at, "step_ended", self._ended_text(record)))
            self._end(record, at, "full" if view.full else "advance", change)
        start = (self._position + 1) if self._position is not None else 0
        for missed in self._steps[start:index]:
            jumped = StepRecord(missed, at if watched else None)
            change.steps.append(jumped)
            self._end(jumped, at if watched else None, "full" if view.full and watched else "unseen", change)
        self._share_of_unseen(change, view)
        self._position = index
        if index < len(self._steps):
            step = self._steps[index]
            change.steps.append(StepRecord(step, at, watched=watched))
            entries.append(Entry(at, "step_began", f"step {index + 1}/{len(self._steps)} {step.label}"))
        return entries

    def _share_of_unseen(self, change: Change, view: RolloutView) -> None:
        """A weight that was set before anybody looked is still the one there is, unless the step now sets another.

        Behind the last step all pods are on their way, whatever was set before."""
        step = self._step(view)
        if step is not None and step.kind == SET_WEIGHT:
            return
        weights = [record for record in change.steps[change.begun :] if record.step.kind == SET_WEIGHT]
        if step is None and weights and weights[-1].step.weight != 100:
            return
        if weights and weights[-1].ended_by == "unseen" and weights[-1].counts is None:
            weights[-1].counts = _share(view)

    def _ended_text(self, record: StepRecord) -> str:
        counts = record.counts
        if record.step.kind != SET_WEIGHT or counts is None:
            return f"{record.step.label} over"
        return f"{record.step.label} → {counts.canary} canary / {counts.stable} stable ({counts.weight} % actual)"

    def _end(self, record: StepRecord, at: float | None, how: str, change: Change) -> None:
        record.finished_at, record.ended_by = at, how
        record.run = self._run_of(record, change)

    def _run_of(self, record: StepRecord, change: Change) -> str:
        """The run of an analysis; of one that was over before it was seen, the newest that no other step has."""
        if record.run or record.step.kind != ANALYSIS or record.ended_by not in ("advance", "unseen"):
            return record.run
        claimed = {each.run for each in change.steps}
        runs = [run for run in self._runs(change) if run.step == record.step.index and run.name not in claimed]
        return max(runs, key=lambda run: (run.created, run.name)).name if runs else ""

    def _close(self, change: Change, at: float, how: str) -> None:
        record = _open(change)
        if record is not None:
            self._end(record, at, how, change)

    def result(self, record: StepRecord) -> str:
        """How a step went: running, completed, the analysis' own phase, skipped, passed, aborted or superseded.

        ``passed``: it was over before anybody looked, or its analysis has not said more. An analysis that was
        terminated says Successful and is ``skipped`` here.
        """
        run = self._run_named(record.run) if record.run else None
        if run is not None and run.ended and not (run.phase == "Successful" and run.terminated):
            return run.phase
        if not record.ended_by:
            return RUNNING
        if record.ended_by in (ABORTED, SUPERSEDED):
            return record.ended_by
        if record.ended_by == "full" or (run is not None and run.terminated):
            return "skipped"
        return "passed" if record.ended_by == "unseen" or record.step.kind == ANALYSIS else "completed"

    def pushed(self, record: StepRecord) -> bool:
        """Whether somebody has promoted it: a pause without an end or before its end, an analysis that was terminated
        or had no verdict, or all steps that were left."""
        if record.ended_by in ("", ABORTED, SUPERSEDED):
            return False
        if record.step.kind == PAUSE and (record.step.indefinite or _cut_short(record)):
            return True
        return self.result(record) in ("skipped", "Inconclusive")

    def times(self, change: Change) -> list[tuple[float | None, float | None]]:
        """When each step began and ended, in epoch seconds. Of one whose beginning, or end, nobody watched, what the
        objects of the cluster tell: it ended when the next one began. None where nothing does."""
        return [
            (self._began(change, record), self._began(change, following) if following else None)
            if record.ended_by == "unseen"
            else (self._started(change, record), record.finished_at)
            for record, following in zip(change.steps, [*change.steps[1:], None])
        ]

    def _started(self, change: Change, record: StepRecord) -> float | None:
        """An analysis begins with its run, also where the Rollout says so late. Another step had begun before it was
        first seen, unless that was watched."""
        run = self._run_named(record.run) if record.run else None
        if run is not None and run.created:
            return min(epoch(run.created), record.started_at or math.inf)
        told = None if record.watched else self._began(change, record)
        return record.started_at if told is None else told

    def _began(self, change: Change, record: StepRecord) -> float | None:
        runs = [run for run in self._runs(change) if run.step is not None]
        if change.attempt > 1 or len({run.step for run in runs}) < len(runs):
            return None  # what is there may be of another attempt
        if record.step.kind == ANALYSIS:
            return next((epoch(run.created) for run in runs if run.step == record.step.index and run.created), None)
        if record.step.index == 0:
            return self._made(change)
        return _moment(record.since) if record.since else None

    def _made(self, change: Change) -> float | None:
        """When the canary began: its ReplicaSet was made for it, and is not one of a version that comes back."""
        for obj in self._kinds["ReplicaSet"].values():
            meta = obj["metadata"]
            notes = meta.get("annotations") or {}
            ours = (meta.get("labels") or {}).get(HASH_LABEL) == change.hash
            new = notes.get(REVISION_ANNOTATION) == change.revision and not notes.get(HISTORY_ANNOTATION)
            if ours and new and meta.get("creationTimestamp"):
                return epoch(meta["creationTimestamp"])
        return None

    def _pause(self, view: RolloutView, at: float) -> list[Entry]:
        if PAUSE_INCONCLUSIVE in view.pauses and self._first_time("inconclusive", view.hash, view.revision, view.run):
            return [Entry(at, "paused", "paused: the analysis was inconclusive")]
        if PAUSE_STEP not in view.pauses or self._paused_at == view.index:
            return []
        self._paused_at = view.index
        step = self._step(view)
        return [Entry(at, "paused", "paused: waits for a decision" if step and step.indefinite else "paused")]

    # -- analysis ------------------------------------------------------------------------------------------------

    def _analysis_run(self, obj: Object, at: float) -> list[Entry]:
        self._kinds["AnalysisRun"][obj["metadata"].get("uid") or obj["metadata"]["name"]] = obj
        run = read_run(obj)
        heard = self._heard.setdefault(run.name, [])
        # A run forgets old measurements, and a controller with an old cache has been seen taking the newest back.
        heard += [each for each in run.measurements if each not in heard]
        return self._measure(run, at)

    def _guarded(self, change: Change, view: RolloutView) -> str:
        """Why our own limit ends this attempt: by a run that was its own, and did not end otherwise.

        A run of an attempt before was aborted, or terminated; it may stand there for ever with its row of failures.
        """
        if not self._failures_in_a_row:
            return ""
        names = {self._run_of(record, change) for record in change.steps[change.begun :]} | {view.run, view.background}
        for run in self._runs(change):
            ours = run.name in names and not run.terminated and run.phase not in ("Failed", "Error")
            reason = tripped(self._heard[run.name], self._failures_in_a_row) if ours else ""
            if reason:
                return reason
        return ""

    def _runs(self, change: Change) -> list[RunView]:
        runs = [read_run(obj) for obj in self._kinds["AnalysisRun"].values()]
        ours = [run for run in runs if (run.hash, run.revision) == (change.hash, change.revision)]
        return sorted(ours, key=lambda run: (run.created, run.name))

    def _run_named(self, name: str) -> RunView | None:
        return next((read_run(o) for o in self._kinds["AnalysisRun"].values() if o["metadata"]["name"] == name), None)

    def _measure(self, run: RunView, at: float) -> list[Entry]:
        change = next((c for c in reversed(self.changes) if (c.hash, c.revision) == (run.hash, run.revision)), None)
        if change is None:
            return []
        entries: list[Entry] = []
        for measurement in self._heard[run.name]:
            if measurement not in change.measurements:
                change.measurements.append(measurement)
                entries.append(Entry(at, "measurement", measurement_text(measurement)))
        if run.ended and self._first_time("analysis", run.name):
            verdict = "terminated" if run.phase == "Successful" and run.terminated else run.phase
            detail = f": {run.message}" if run.message and verdict != "terminated" else ""
            entries.append(Entry(at, "analysis", f"analysis {run.name} {verdict}{detail}"))
        return entries

    def _first_time(self, *key: str) -> bool:
        if key in self._told:
            return False
        self._told.add(key)
        return True

    # -- pods ----------------------------------------------------------------------------------------------------

    def _pods(self, kind: str, obj: Object, at: float, deleted: bool) -> list[Entry]:
        uid = obj["metadata"].get("uid") or obj["metadata"]["name"]
        if deleted:
            self._kinds[kind].pop(uid, None)
            return self._pods_entry(at)
        self._kinds[kind][uid] = obj
        found = pod_problem(obj) if kind == "Pod" else replica_set_problem(obj)
        entries = self._pods_entry(at)
        if found is not None and self._of_canary(obj) and self._first_time("problem", uid, found.reason):
            entries.append(Entry(at, "warning", str(self._explained(obj, found))))
        return entries

    def _of_canary(self, obj: Object) -> bool:
        change = self.change
        return change is not None and (obj["metadata"].get("labels") or {}).get(HASH_LABEL) == change.hash

    def _explained(self, obj: Object, problem: Problem) -> Problem:
        """A back-off alone says nothing: add the event's answer."""
        answer = self._warnings.get(obj["metadata"]["name"], "")
        if not answer or answer in problem.message:
            return problem
        return problem._replace(message=f"{problem.message} ({answer})" if problem.message else answer)

    def problem(self, now: float) -> Problem | None:
        """Why the canary's pods cannot start, once that is sure: at once, or when it has lasted longer than it may.

        Ask every second or so: ``now``, in seconds of any clock that does not jump, is how long is counted.
        """
        troubled: dict[str, float] = {}
        sure: Problem | None = None
        for kind, read in (("Pod", pod_problem), ("ReplicaSet", replica_set_problem)):
            for uid, obj in self._kinds[kind].items():
                found = read(obj) if self._of_canary(obj) else None
                if found is None:
                    continue
                since = troubled[uid] = self._troubled_since.get(uid, now)
                if sure is None and now - since >= found.patience:
                    sure = self._explained(obj, found)
        self._troubled_since = troubled
        return sure

    def canary_pods(self) -> list[Object]:
        """The pods of the change in progress, or ended last, that are there."""
        return [obj for obj in self._kinds["Pod"].values() if self._of_canary(obj)]

    def warnings(self) -> list[str]:
        """Last warning events of the canary's pods: for the message of a deadline."""
        names = {obj["metadata"]["name"] for obj in self.canary_pods()}
        return [f"{name}: {text}" for name, text in sorted(self._warnings.items()) if name in names]

    def _event(self, obj: Object, at: float) -> list[Entry]:
        about = obj.get("involvedObject") or obj.get("regarding") or {}
        if obj.get("type") == "Warning" and about.get("kind") == "Pod":
            self._warnings[about.get("name", "")] = obj.get("message") or obj.get("note") or obj.get("reason") or ""
        return []

    def _pods_entry(self, at: float) -> list[Entry]:
        change, view = self.change, self.view
        if change is None or view is None or change.outcome in (PROMOTED, SUPERSEDED):
            return []
        canary = "" if change.hash == view.stable else change.hash
        scales = {name: self._scale(of) for name, of in (("canary", canary), ("stable", view.stable)) if of}
        known = {name: scale for name, scale in scales.items() if scale is not None}
        if not known or len(known) < len(scales):
            return []  # objects come one by one, and what has not come yet is not none
        line = ", ".join(f"{name} {scale.available}/{scale.spec}" for name, scale in known.items())
        if line == self._pods_line:
            return []
        self._pods_line = line
        ready = Counts(*(known[name].available if name in known else 0 for name in ("canary", "stable")))
        return [Entry(at, "pods", f"pods ready: {line}", ready)]

    def _scale(self, of: str) -> Scale | None:
        """How many pods the ReplicaSet of a hash asks for, and how many are ready; None before it was seen."""
        for obj in self._kinds["ReplicaSet"].values():
            if (obj["metadata"].get("labels") or {}).get(HASH_LABEL) == of:
                ready = (obj.get("status") or {}).get("readyReplicas") or 0
                return Scale((obj.get("spec") or {}).get("replicas") or 0, ready)
        return None

    # -- state ---------------------------------------------------------------------------------------------------

    def _step(self, view: RolloutView) -> Step | None:
        return self._steps[view.index] if view.index is not None and view.index < len(self._steps) else None

    def state(self) -> State:
        """Where the Rollout is now."""
        view, change = self.view, self.change
        if view is None:
            return State("unknown", None, "", "")
        if not view.observed:
            return State("waiting", None, change.hash if change else "", view.stable)
        if change is None:
            return State("resting", None, "", view.stable)
        step = self._step(view) if not change.outcome else None
        phase, decision, reason = self._verdict(change, view, step)
        return State(phase, step, change.hash, view.stable, decision, reason, change.revision, view.paused_since)

    def _verdict(self, change: Change, view: RolloutView, step: Step | None) -> tuple[str, str, str]:
        if change.outcome:
            return change.outcome, "good" if change.outcome == PROMOTED else "bad", change.reason
        if self._unreadable:
            return "progressing", "bad", self._unreadable
        guarded = self._guarded(change, view)
        if guarded:
            return "progressing", "bad", guarded
        if view.phase == "Paused" and not view.resuming:
            if PAUSE_INCONCLUSIVE in view.pauses:
                return "paused", "inconclusive", "the analysis was inconclusive"
            waits = PAUSE_STEP in view.pauses and step is not None and step.indefinite
            return "paused", "pause" if waits else "", ""
        if view.phase == "Degraded" and not view.message.startswith(_ABORT_TEXT):
            return "progressing", "bad", view.message
        return "progressing", "", ""


def _share(view: RolloutView) -> Counts:
    return Counts(view.updated, view.replicas - view.updated)


def _open(change: Change) -> StepRecord | None:
    return change.steps[-1] if change.steps and not change.steps[-1].ended_by else None


def _cut_short(record: StepRecord) -> bool:
    """Whether a pause with a duration, whose beginning and end were seen, was over before that."""
    if record.step.duration is None or record.ended_by != "advance" or not record.watched:
        return False
    if record.started_at is None or record.finished_at is None:
        return False
    return record.finished_at - record.started_at < record.step.duration - _LATE


def _moment(text: str) -> float:
    """The pauses of a plain Deployment have epoch seconds."""
    try:
        return float(text)
    except ValueError:
        return epoch(text)


def _abort_reason(message: str) -> str:
    """``RolloutAborted: Rollout aborted update to revision 3: Metric …`` → ``Metric …``; empty when aborted by hand."""
    text = message[len(_ABORT_TEXT) :] if message.startswith(_ABORT_TEXT) else message
    return text.partition(": ")[2]


def measurement_text(measurement: Measurement) -> str:
    """``check 2/5 success-rate 0.982 ✔``."""
    failed_to_measure = measurement.phase == "Error"  # errors are tried again and do not use up the count
    of = f"/{measurement.of}" if measurement.of and not failed_to_measure else ""
    value = measurement.message if failed_to_measure else show_value(measurement.value)
    dry = " (dry run)" if measurement.dry_run else ""
    return f"check {measurement.ordinal + 1}{of} {measurement.metric} {value} {MARKS[measurement.phase]}{dry}"


def show_value(text: str | None) -> str:
    """A value to read: ``[0.98224]`` → ``0.982``, ``[1,NaN]`` → ``1, nan``; what is no number stays as it is."""
    if text is None:
        return ""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return ", ".join(f"{float(part):.4g}" for part in inner.split(",")) if inner else "no value"
    except ValueError:
        return text
