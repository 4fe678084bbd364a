# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run: counting, limits, scheduling and phases, as Argo's controller does them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.expression import ExpressionError
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.metric import Metric, read_metric
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.run import Measurement, Run

S, F, N, E = "Successful", "Failed", "Inconclusive", "Error"
LETTERS = {"S": S, "F": F, "I": N, "E": E}
RECORDED = Path(__file__).parents[3] / "fixtures" / "analysis" / "recorded_runs.json"


def script(phases: dict[str, str], clock: list[float]) -> Callable[[Metric], Measurement]:
    """Measurements from letters; the last repeats."""
    left = {name: list(letters) for name, letters in phases.items()}

    def measure(metric: Metric) -> Measurement:
        letters = left[metric.name]
        return Measurement(LETTERS[letters.pop(0) if len(letters) > 1 else letters[0]], clock[0])

    return measure


def play(metrics: list[dict[str, Any]], phases: dict[str, str], dry_run: tuple[str, ...] = (), steps: int = 100) -> Run:
    run = Run([read_metric(metric) for metric in metrics], dry_run)
    clock = [0.0]
    measure = script(phases, clock)
    for _step in range(steps):
        run.step(clock[0], measure)
        if run.completed:
            break
        clock[0] = run.next_at(clock[0])
    return run


def one(letters: str, **fields: Any) -> Run:
    return play([{"name": "m", "interval": "1m", "count": 5, **fields}], {"m": letters})


def times(run: Run, name: str = "m") -> list[float]:
    return [measurement.at for measurement in run.results[name].measurements]


@pytest.mark.parametrize(
    ("letters", "fields", "phase", "taken"),
    [
        ("S", {}, S, 5),
        # failureLimit is a total, and must be exceeded: the seed's five checks with three failures pass.
        ("FFFSS", {"failureLimit": 3}, S, 5),
        ("FFFSF", {"failureLimit": 3}, F, 5),
        ("FFFF", {"failureLimit": 3}, F, 4),
        ("F", {}, F, 1),
        ("ISSSS", {"inconclusiveLimit": 1}, S, 5),
        ("I", {}, N, 1),
        # Errors in a row only, and they use up no count.
        ("EEEEE", {}, E, 5),
        ("EEEESEEEESSSS", {}, S, 13),
        ("EE", {"consecutiveErrorLimit": 1}, E, 2),
        ("E", {"consecutiveErrorLimit": 0}, E, 1),
        # consecutiveSuccessLimit ends it early, or leaves it open.
        ("FSS", {"failureLimit": 2, "consecutiveSuccessLimit": 2}, S, 3),
        ("SFSFS", {"failureLimit": 2, "consecutiveSuccessLimit": 2}, N, 5),
        ("SFSFS", {"failureLimit": -1, "consecutiveSuccessLimit": 2}, F, 5),
        ("SESES", {"consecutiveSuccessLimit": 2}, S, 6),
        # A negative count ends it after one measurement, an error included.
        ("S", {"count": -1}, S, 1),
        ("E", {"count": -1}, S, 1),
        # Endless, until a limit is exceeded.
        ("SSSSSSSF", {"count": 0}, F, 8),
    ],
)
def test_one_metric(letters: str, fields: dict[str, Any], phase: str, taken: int) -> None:
    run = one(letters, **fields)
    assert (run.phase, run.results["m"].phase, run.taken) == (phase, phase, taken)


def test_worst_of_several_violations_of_one_metric() -> None:
    metric = Metric("m", interval=60, count=5, failure_limit=0, inconclusive_limit=0, consecutive_error_limit=0)
    for letters, phase in (("F", F), ("I", N), ("E", E)):
        run = Run([metric])
        run.step(0, script({"m": letters}, [0.0]))
        assert run.phase == phase


def test_message_is_argos() -> None:
    assert one("FFFF", failureLimit=3).message == 'Metric "m" assessed Failed due to failed (4) > failureLimit (3)'
    run = Run([Metric("m", consecutive_error_limit=0)])
    run.step(0, lambda metric: Measurement(E, 0, message="boom"))
    assert run.message == (
        'Metric "m" assessed Error due to consecutiveErrors (1) > consecutiveErrorLimit (0): "Error Message: boom"'
    )


def test_interval_counts_from_the_end_of_a_measurement() -> None:
    run = Run([Metric("m", interval=60, count=2)])
    run.step(100.0, lambda metric: Measurement(S, 107.0))
    assert run.next_at(107.0) == 167.0
    assert not run.due(166.9)
    assert run.due(167.0)


def test_times_are_whole_seconds_so_that_fractions_drift() -> None:
    run = Run([Metric("m", interval=5, count=3)])
    run.step(100.9, lambda metric: Measurement(S, 100.9))
    assert run.next_at(100.9) == 105.0


def test_errors_are_retried_after_ten_seconds_whatever_the_interval() -> None:
    assert times(one("ESESSSS")) == [0, 10, 70, 80, 140, 200, 260]
    assert times(play([{"name": "m"}], {"m": "ES"})) == [0, 10]


def test_initial_delay_counts_from_the_start_of_the_run() -> None:
    run = play([{"name": "m"}, {"name": "n", "initialDelay": "30s"}], {"m": "S", "n": "S"})
    assert (times(run, "m"), times(run, "n"), run.finished_at) == ([0], [30], 30)


def test_any_initial_delay_skips_the_first_step() -> None:
    run = play([{"name": "m"}, {"name": "n", "initialDelay": "0s"}], {"m": "F", "n": "S"})
    assert run.phase == F
    assert "n" not in run.results
    run = play([{"name": "m"}, {"name": "n", "initialDelay": "0s"}], {"m": "S", "n": "S"})
    assert (times(run, "n"), run.phase) == ([0], S)


def test_a_bad_metric_ends_the_others_at_that_moment() -> None:
    metrics: list[dict[str, Any]] = [
        {"name": "bad", "interval": "30s", "count": 5},
        {"name": "running", "interval": "20s", "count": 9},
        {"name": "erring", "interval": "1h", "count": 9},
        {"name": "later", "initialDelay": "1h"},
    ]
    run = play(metrics, {"bad": "SF", "running": "S", "erring": "E", "later": "S"})
    assert (run.phase, run.finished_at) == (F, 30)
    assert {name: result.phase for name, result in run.results.items()} == {"bad": F, "running": S, "erring": S}
    assert times(run, "running") == [0, 20]


def test_all_due_metrics_are_measured_before_any_is_assessed() -> None:
    run = play([{"name": "bad"}, {"name": "also"}], {"bad": "F", "also": "I"})
    assert (run.phase, run.results["also"].phase) == (F, N)


@pytest.mark.parametrize(
    ("one_phase", "other", "worst"), [("F", "E", F), ("E", "I", E), ("I", "S", N), ("S", "S", S), ("E", "F", F)]
)
def test_run_phase_is_the_worst(one_phase: str, other: str, worst: str) -> None:
    fields = {"consecutiveErrorLimit": 0}
    run = play([{"name": "a", **fields}, {"name": "b", **fields}], {"a": one_phase, "b": other})
    assert run.phase == worst


def test_dry_run_never_decides_and_keeps_the_run_open() -> None:
    metrics: list[dict[str, Any]] = [{"name": "m"}, {"name": "dry", "interval": "10s", "count": 3, "failureLimit": 1}]
    run = play(metrics, {"m": "S", "dry": "SFF"}, ("dry",))
    assert (run.phase, run.finished_at, run.results["dry"].phase) == (S, 20, F)
    assert run.results["dry"].message == "Metric assessed Failed due to failed (2) > failureLimit (1)"
    assert run.message == ""


def test_dry_run_alone_is_successful() -> None:
    assert play([{"name": "dry"}], {"dry": "F"}, ("dry",)).phase == S


def test_a_bad_metric_ends_a_dry_run_too() -> None:
    metrics: list[dict[str, Any]] = [{"name": "m"}, {"name": "dry", "interval": "10s", "count": 3}]
    run = play(metrics, {"m": "F", "dry": "S"}, ("dry",))
    assert (run.phase, run.finished_at, run.results["dry"].phase) == (F, 0, S)


def recorded() -> list[Any]:
    """The runs that came to their own end: one that was terminated says nothing about the verdict."""
    runs = json.loads(RECORDED.read_text(encoding="utf-8"))
    return [pytest.param(run, id=run["name"]) for run in runs if not run["spec"]["terminate"]]


@pytest.mark.parametrize("recording", recorded())
def test_recorded_runs(recording: dict[str, Any]) -> None:
    """What a real controller measured, judged again: same phases, counts, message and, nearly, times."""
    status = recording["status"]
    values = [m for result in status["metricResults"] for m in result["measurements"]]
    assert len(status["metricResults"]) == 1
    run = Run([read_metric(metric) for metric in recording["spec"]["metrics"]])
    now = float(seconds(status["startedAt"]))
    if not run.due(now):  # an initial delay: the first step only starts the run
        run.step(now, script({}, [now]))
    for value in values:

        def measure(metric: Metric, value: dict[str, Any] = value) -> Measurement:
            at = float(seconds(value["finishedAt"]))
            if "value" not in value:
                return Measurement(E, at, message=value["message"])
            numbers = [float(text) for text in value["value"].strip("[]").split(",") if text]
            try:
                return Measurement(metric.judge(numbers), at, numbers)
            except ExpressionError as problem:
                return Measurement(E, at, numbers, str(problem))

        assert run.due(seconds(value["finishedAt"])), "the controller measured, the engine would wait"
        now = float(seconds(value["finishedAt"]))
        run.step(now, measure)
    result, theirs = next(iter(run.results.values())), status["metricResults"][0]
    assert (run.phase, run.message) == (status["phase"], status["message"])
    assert result.phase == theirs["phase"]
    assert [m.phase for m in result.measurements] == [m["phase"] for m in values]
    for field in ("count", "successful", "failed", "inconclusive", "error"):
        assert getattr(result, field) == theirs.get(field, 0)
    assert result.consecutive_error == theirs.get("consecutiveError", 0)
    assert result.consecutive_success == theirs.get("consecutiveSuccess", 0)


def seconds(text: str) -> int:
    """Seconds within the day of a recorded time."""
    hours, minutes, rest = text[11:19].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + int(rest)
