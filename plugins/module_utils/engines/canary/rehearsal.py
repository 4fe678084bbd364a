# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A canary on a virtual clock: steps, pods and analyses, as they would go with given measurements.

The analyses are run by engines/analysis/run.py and the pods counted by replicas.py, so that a rehearsal differs from a
release in its clock alone. What takes time is a pod until it is ready, a pause, and an analysis; nothing else does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..analysis.expression import ExpressionError
from ..analysis.metric import ERROR, INCONCLUSIVE, SUCCESSFUL, Metric
from ..analysis.run import Measurement, MetricResult, Run
from .replicas import DEFAULT_FENCEPOST, Counts, Goal, IntOrPercent, Scale, goal, step
from .series import Answer, Series, SeriesError
from .steps import ANALYSIS, PAUSE, Step, after_verdict

PROMOTED, ABORTED, PAUSED, ANALYSED = "promoted", "aborted", "paused", "analysed"

#: A rehearsal that has measured, or looked whether to, so often without an end is going round in circles.
MAX_MEASUREMENTS = 100_000


class RehearsalError(ValueError):
    """A canary that cannot be rehearsed."""


@dataclass(frozen=True)
class Analysis:
    """Metrics that are measured together; the names in ``dry_run`` do not decide."""

    name: str
    metrics: Sequence[Metric]
    dry_run: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Canary:
    """What is rehearsed. Without ``steps`` the ``gate`` alone is run."""

    steps: Sequence[Step] = ()
    analyses: Mapping[int, Analysis] = field(default_factory=dict)
    """Of the steps that are analyses, by index."""
    background: Analysis | None = None
    """Runs beside the steps until they have ended."""
    gate: Analysis | None = None
    """Runs at every pause without a duration, and decides it. Without one, somebody promotes at once."""
    replicas: int = 1
    max_surge: IntOrPercent = DEFAULT_FENCEPOST
    max_unavailable: IntOrPercent = DEFAULT_FENCEPOST
    pod_ready_seconds: float = 0.0


@dataclass(frozen=True)
class Event:
    """Something that happens at a virtual time (seconds). ``detail`` depends on the kind.

    step: {step}; pods: {counts, weight}; measurement: {analysis, metric, number, measurement, dry_run}; analysis:
    {analysis, phase, message}; pause: {step, by}; end: {outcome, message}.
    """

    at: float
    kind: str
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How it ended: PROMOTED, ABORTED, PAUSED (Argo waits for somebody) or ANALYSED (there were no steps).

    ``phase`` and ``message`` are those of the analysis that decided; ``results`` the metrics of all, in order.
    """

    outcome: str
    phase: str
    message: str
    finished_at: float
    events: Sequence[Event]
    results: Sequence[tuple[str, MetricResult]]


class _Ended(Exception):
    """The canary goes no further."""

    def __init__(self, outcome: str, phase: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.phase = phase
        self.message = message


def rehearse(canary: Canary, series: Series) -> Outcome:
    """Run it. Raises RehearsalError, ReplicaError, and SeriesError for a metric without a series."""
    return _Rehearsal(canary, series).run()


class _Rehearsal:
    def __init__(self, canary: Canary, series: Series) -> None:
        self.canary = canary
        self.series = series
        self.now = 0.0
        self.turns = 0
        self.taken = 0
        self.events: list[Event] = []
        self.results: list[tuple[str, MetricResult]] = []
        self.counts = Counts(0, canary.replicas)
        self.background: _Running | None = None

    def run(self) -> Outcome:
        try:
            if not self.canary.steps and self.canary.gate is not None:
                run = self.analyse(self.canary.gate)
                return self.end(ANALYSED, run.phase, run.message)
            self.walk()
            return self.end(PROMOTED, SUCCESSFUL, "")
        except _Ended as ended:
            if ended.outcome == ABORTED:
                self.background = None
                self.scale(0)
            return self.end(ended.outcome, ended.phase, ended.message)

    def end(self, outcome: str, phase: str, message: str) -> Outcome:
        self.tell("end", outcome=outcome, message=message)
        return Outcome(outcome, phase, message, self.now, self.events, self.results)

    def tell(self, kind: str, **detail: Any) -> None:
        self.events.append(Event(self.now, kind, detail))

    # -- steps --

    def walk(self) -> None:
        if self.canary.background is not None:
            self.background = _Running(self, self.canary.background)
            self.background.begin()
        for each in self.canary.steps:
            self.tell("step", step=each)
            if each.kind == PAUSE:
                self.pause(each)
            elif each.kind == ANALYSIS:
                self.decide(self.analyse(self.canary.analyses[each.index]), by_hand=True)
            else:
                self.scale(each.weight)
        self.scale(100)

    def pause(self, each: Step) -> None:
        if each.duration is not None:
            self.wait(self.now + each.duration)
        elif self.canary.gate is None:
            self.tell("pause", step=each, by="somebody")
        else:
            self.decide(self.analyse(self.canary.gate), by_hand=False)
            self.tell("pause", step=each, by="gate")

    def decide(self, run: Run, by_hand: bool) -> None:
        """Argo waits for somebody when an analysis of its own is Inconclusive; our gate aborts then."""
        if by_hand and run.phase == INCONCLUSIVE:
            raise _Ended(PAUSED, run.phase, run.message)
        if after_verdict(run.phase) == "abort":
            raise _Ended(ABORTED, run.phase, run.message)

    # -- pods --

    def scale(self, weight: int) -> None:
        """Pods to a weight, in waves: those that were made are waited for before others go."""
        wanted = goal(self.canary.replicas, weight, self.canary.max_surge, self.canary.max_unavailable)
        available = self.counts
        seen = set()
        while (self.counts, available) not in seen:
            seen.add((self.counts, available))
            before = self.counts
            self.counts = _next(wanted, before, available)
            if self.counts != before:
                self.tell("pods", counts=self.counts, weight=weight)
                available = Counts(*map(min, available, self.counts))
            elif available != self.counts:
                self.wait(self.now + self.canary.pod_ready_seconds)
                available = self.counts

    # -- time and measurements --

    def wait(self, until: float) -> None:
        """Let time pass; what runs in the background measures meanwhile, and may end everything."""
        running = self.background
        while running is not None and not running.run.completed and running.next_at <= until:
            self.now = max(self.now, running.next_at)
            running.step()
        self.now = max(self.now, until)

    def analyse(self, analysis: Analysis) -> Run:
        running = _Running(self, analysis)
        running.step()
        while not running.run.completed:
            self.wait(running.next_at)
            running.step()
        return running.run


class _Running:
    """An analysis in progress."""

    def __init__(self, rehearsal: _Rehearsal, analysis: Analysis) -> None:
        if not analysis.metrics:
            raise RehearsalError(f"the analysis {analysis.name!r} has no metrics, and would never end")
        self.rehearsal = rehearsal
        self.analysis = analysis
        self.run = Run(analysis.metrics, analysis.dry_run)
        self.next_at = rehearsal.now

    def begin(self) -> None:
        self.step()

    def step(self) -> None:
        """Measure what is due now, and tell the verdict when that was the last."""
        rehearsal = self.rehearsal
        rehearsal.turns += 1
        if rehearsal.turns > MAX_MEASUREMENTS:
            raise RehearsalError(f"no end after {MAX_MEASUREMENTS} turns")
        self.run.step(rehearsal.now, self.measure)
        self.next_at = self.run.next_at(rehearsal.now)
        if not self.run.completed:
            return
        name, phase, message = self.analysis.name, self.run.phase, self.run.message
        rehearsal.results += [(name, result) for result in self.run.results.values()]
        rehearsal.tell("analysis", analysis=name, phase=phase, message=message)
        if self is rehearsal.background and phase != SUCCESSFUL:
            raise _Ended(PAUSED if phase == INCONCLUSIVE else ABORTED, phase, message)

    def measure(self, metric: Metric) -> Measurement:
        rehearsal = self.rehearsal
        rehearsal.taken += 1
        if rehearsal.taken > MAX_MEASUREMENTS:
            raise RehearsalError(f"no end after {MAX_MEASUREMENTS} measurements")
        measurement = _judged(metric, rehearsal.series, rehearsal.now)
        result = self.run.results.get(metric.name)
        rehearsal.tell(
            "measurement",
            analysis=self.analysis.name,
            metric=metric,
            number=(result.count if result else 0) + 1,
            measurement=measurement,
            dry_run=metric.name in self.analysis.dry_run,
        )
        return measurement


def _judged(metric: Metric, series: Series, now: float) -> Measurement:
    answer = series.answer(metric.name, now, metric.query)
    if answer.value is None:
        return Measurement(ERROR, now, None, answer.error)
    enough = metric.extensions.min_samples
    if enough is not None:
        samples = _samples(series, metric.name, enough.query, now)
        if samples.value is None:
            return Measurement(ERROR, now, answer.value, samples.error)
        lacking = enough.missing(samples.value)
        if lacking:
            return Measurement(INCONCLUSIVE, now, answer.value, lacking)
    try:
        return Measurement(metric.judge(answer.value), now, answer.value, metric.extensions.verdict(answer.value)[1])
    except ExpressionError as problem:
        return Measurement(ERROR, now, answer.value, str(problem))


def _samples(series: Series, metric: str, query: str, now: float) -> Answer:
    name = samples_of(metric)
    try:
        return series.answer(name, now, query)
    except SeriesError as problem:
        raise SeriesError(f"{problem}; {name} is what min_samples of {metric} asks for") from problem


def samples_of(metric: str) -> str:
    """The name of the series that answers the ``min_samples`` query of a metric."""
    return f"{metric}.min_samples"


def _next(wanted: Goal, counts: Counts, available: Counts) -> Counts:
    return step(wanted, Scale(counts.canary, available.canary), Scale(counts.stable, available.stable))
