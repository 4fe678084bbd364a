#!/usr/bin/env python3
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verdicts of the analysis engine on scripted measurements, one JSON line in, one out.

In: ``{"id", "metrics": [...], "dryRun": [...], "results": {metric: [{"value": ...} | {"error": ...}]}}``,
metrics with the fields of an AnalysisTemplate. Results are used up in order, the last repeats; a
measurement takes no time. Out: the run's phase, its metrics with their counts and measurements, and
``finishedAt``; times in seconds since the run's start.
"""

from __future__ import annotations

import sys
from typing import Any

import _path  # noqa: F401  (makes engines importable)
from _lines import answer_lines
from engines.analysis import shapes
from engines.analysis.expression import ExpressionError
from engines.analysis.metric import ERROR, Metric, TemplateError
from engines.analysis.run import Measurement, MetricResult, Run
from engines.analysis.template import dry_run_names, read_metrics

# A run that has taken so many measurements without an end is Running.
MAX_MEASUREMENTS = 500


class Script:
    """Answers measurements from the scripted results on a virtual clock."""

    def __init__(self, results: Any) -> None:
        self.results = {
            name: [
                _answer(answer, f"results.{name}[{place}]")
                for place, answer in enumerate(shapes.sequence(each, f"results.{name}"))
            ]
            for name, each in shapes.mapping(results, "results").items()
        }
        self.used: dict[str, int] = {}
        self.now = 0.0

    def measure(self, metric: Metric) -> Measurement:
        scripted = self.results.get(metric.name) or [{"error": "no result is scripted"}]
        place = self.used.get(metric.name, 0)
        self.used[metric.name] = place + 1
        answer = scripted[min(place, len(scripted) - 1)]
        if "value" not in answer:
            return Measurement(ERROR, self.now, message=str(answer.get("error", "")))
        value = answer["value"]
        try:
            return Measurement(metric.judge(value), self.now, value)
        except ExpressionError as problem:
            return Measurement(ERROR, self.now, value, str(problem))


def _answer(answer: Any, path: str) -> dict[str, Any]:
    """A scripted result with its value as floats."""
    entry = dict(shapes.mapping(answer, path, " with value or error"))
    if "value" in entry:
        value = entry["value"]
        entry["value"] = [_float(item, path) for item in value] if isinstance(value, list) else _float(value, path)
    return entry


def _float(value: Any, path: str) -> float:
    try:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise TemplateError(f"{path}.value is not a number or a list of numbers")


def verdict(case: dict[str, Any]) -> dict[str, Any]:
    """The output line of one case."""
    try:
        metrics = read_metrics(case.get("metrics") or [])
        dry_run = dry_run_names(case.get("dryRun") or [], metrics)
        script = Script(case.get("results"))
    except TemplateError as problem:
        return refusal(case.get("id"), str(problem))
    run = Run(metrics, dry_run)
    while True:
        run.step(script.now, script.measure)
        if run.completed or run.taken >= MAX_MEASUREMENTS:
            break
        script.now = run.next_at(script.now)
    return {
        "id": case.get("id"),
        "phase": run.phase,
        "message": run.message,
        "metrics": {name: report(result) for name, result in run.results.items()},
        "finishedAt": run.finished_at,
    }


def refusal(name: Any, reason: str) -> dict[str, Any]:
    """The output line of a case, or of a line, that cannot be run."""
    return {"id": name, "phase": ERROR, "message": reason, "metrics": {}, "finishedAt": None}


def report(result: MetricResult) -> dict[str, Any]:
    return {
        "phase": result.phase,
        "count": result.count,
        "successful": result.successful,
        "failed": result.failed,
        "inconclusive": result.inconclusive,
        "error": result.error,
        "consecutiveError": result.consecutive_error,
        "consecutiveSuccess": result.consecutive_success,
        "measurements": [{"phase": measurement.phase, "at": measurement.at} for measurement in result.measurements],
    }


if __name__ == "__main__":
    answer_lines(sys.stdin.buffer, verdict, refusal)
