# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An AnalysisRun as a state machine: scheduling, counting, limits and phases, without a clock.

Copies analysis/analysis.go of Argo Rollouts 1.8: in each step all metrics that are due are measured,
then all are assessed. When one that is not a dry run has ended badly the run ends in that step: Argo
does it in the reconciliation that its own status change sets off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Callable

from .metric import ERROR, FAILED, INCONCLUSIVE, RUNNING, SUCCESSFUL, Metric

# Seconds between a failed query and the next, whatever the interval.
ERROR_RETRY_INTERVAL = 10.0

# From best to worst (utils/analysis/helpers.go).
_ORDER = (SUCCESSFUL, INCONCLUSIVE, ERROR, FAILED)
_BAD = (FAILED, ERROR, INCONCLUSIVE)


@dataclass(frozen=True)
class Measurement:
    """One completed measurement; ``at`` is when it was finished, on the caller's clock in seconds."""

    phase: str
    at: float
    value: list[float] | float | None = None
    message: str = ""


@dataclass
class MetricResult:
    """What a metric has measured so far, and its phase."""

    name: str
    dry_run: bool = False
    phase: str = RUNNING
    message: str = ""
    count: int = 0
    successful: int = 0
    failed: int = 0
    inconclusive: int = 0
    error: int = 0
    consecutive_error: int = 0
    consecutive_success: int = 0
    consecutive_failure: int = 0
    measurements: list[Measurement] = field(default_factory=list)

    @property
    def completed(self) -> bool:
        """Whether it has ended."""
        return self.phase != RUNNING

    def add(self, measurement: Measurement) -> None:
        """Count a measurement. An error uses up no count, and breaks a row of successes."""
        self.measurements.append(measurement)
        phase = measurement.phase
        self.consecutive_success = self.consecutive_success + 1 if phase == SUCCESSFUL else 0
        if phase == ERROR:
            self.error += 1
            self.consecutive_error += 1
            return
        self.consecutive_error = 0
        self.consecutive_failure = self.consecutive_failure + 1 if phase == FAILED else 0
        self.count += 1
        if phase == SUCCESSFUL:
            self.successful += 1
        elif phase == FAILED:
            self.failed += 1
        else:
            self.inconclusive += 1


def violation(metric: Metric, result: MetricResult) -> tuple[str, str]:
    """The phase and the reason of a violated limit, or two empty strings. Error beats the others."""
    if result.consecutive_error > metric.consecutive_error_limit:
        limit = metric.consecutive_error_limit
        return ERROR, f"consecutiveErrors ({result.consecutive_error}) > consecutiveErrorLimit ({limit})"
    if result.inconclusive > metric.inconclusive_limit:
        return INCONCLUSIVE, f"inconclusive ({result.inconclusive}) > inconclusiveLimit ({metric.inconclusive_limit})"
    if 0 <= metric.failure_limit < result.failed:
        return FAILED, f"failed ({result.failed}) > failureLimit ({metric.failure_limit})"
    reason = metric.extensions.violated(result.consecutive_failure)
    return (FAILED, reason) if reason else ("", "")


def metric_phase(metric: Metric, result: MetricResult, terminating: bool) -> str:
    """The phase of a metric with at least one measurement (assessMetricStatus)."""
    if result.completed:
        return result.phase
    phase, _reason = violation(metric, result)
    if phase:
        return phase
    wanted = metric.consecutive_success_limit
    if 0 < wanted <= result.consecutive_success:
        return SUCCESSFUL
    count = metric.effective_count
    if count is not None and result.count >= count:
        if not wanted:
            return SUCCESSFUL
        return INCONCLUSIVE if metric.failure_limit >= 0 else FAILED
    return SUCCESSFUL if terminating else RUNNING


class Run:
    """A run over ``metrics``; the names in ``dry_run`` are measured but do not decide.

    Call ``step`` at ``next_at()`` until ``completed``; the first step starts the run.
    """

    def __init__(self, metrics: Sequence[Metric], dry_run: Iterable[str] = ()) -> None:
        self.metrics = list(metrics)
        self.dry_run = frozenset(dry_run)
        self.results: dict[str, MetricResult] = {}
        self.phase = RUNNING
        self.message = ""
        self.started_at: float | None = None
        self.finished_at: float | None = None

    @property
    def completed(self) -> bool:
        """Whether the run has ended."""
        return self.phase != RUNNING

    @property
    def taken(self) -> int:
        """Measurements over all metrics."""
        return sum(len(result.measurements) for result in self.results.values())

    def due(self, now: float) -> list[Metric]:
        """The metrics to measure in a step at ``now``, in the order of the template."""
        if self.completed or self._terminating:
            return []
        moments = ((metric, self._due_at(metric, now)) for metric in self.metrics)
        return [metric for metric, at in moments if at is not None and at <= now]

    def next_at(self, now: float) -> float:
        """When the next step is due, seen after a step at ``now``: then, or later."""
        moments = (self._due_at(metric, now) for metric in self.metrics)
        return max(now, min((at for at in moments if at is not None), default=now))

    def _due_at(self, metric: Metric, now: float) -> float | None:
        result = self.results.get(metric.name)
        if result is None:
            if metric.initial_delay is None:
                return now
            # Any initial delay waits for the run's start, which the first step sets.
            return None if self.started_at is None else self.started_at + metric.initial_delay
        if result.completed:
            return None
        last = result.measurements[-1]
        interval = ERROR_RETRY_INTERVAL if last.phase == ERROR or metric.interval is None else metric.interval
        # Argo stores whole seconds. With an interval below one it would measure without a pause.
        finished = math.floor(last.at) if interval >= 1 else last.at
        return finished + interval

    @property
    def _terminating(self) -> bool:
        return any(result.phase in _BAD for result in self.results.values() if not result.dry_run)

    def step(self, now: float, measure: Callable[[Metric], Measurement]) -> None:
        """Measure what is due at ``now``, assess all, and end the run if that decides it."""
        for metric in self.due(now):
            measurement = measure(metric)
            result = self.results.get(metric.name)
            if result is None:
                result = self.results[metric.name] = MetricResult(metric.name, metric.name in self.dry_run)
            result.add(measurement)
            now = max(now, measurement.at)
        if self.started_at is None:
            self.started_at = now
        self._assess(now)
        if not self.completed and self._terminating:
            self._assess(now)

    def _assess(self, now: float) -> None:
        terminating = self._terminating
        worst = ""
        message = ""
        unfinished = False
        for metric in self.metrics:
            result = self.results.get(metric.name)
            if result is None:
                unfinished = True
                continue
            phase = metric_phase(metric, result, terminating)
            if phase != result.phase:
                result.phase = phase
                result.message = result.measurements[-1].message
            if not result.completed:
                unfinished = True
                continue
            reason = violation(metric, result)[1]
            if result.dry_run:
                worst = worst or SUCCESSFUL
                if reason:
                    result.message = f"Metric assessed {phase} due to {reason}"
            elif not worst or _ORDER.index(phase) > _ORDER.index(worst):
                worst = phase
                if reason:
                    message = f'Metric "{metric.name}" assessed {phase} due to {reason}'
                    if result.message:
                        message += f': "Error Message: {result.message}"'
        if terminating or (worst and not unfinished):
            self._end(worst, message, now)

    def _end(self, phase: str, message: str, now: float) -> None:
        self.phase = phase
        self.message = message
        self.finished_at = now
