# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Canaries on a virtual clock: what happens when, with how many pods, and how it ends."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.run import Run
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.template import read_metrics
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.rehearsal import (
    ABORTED,
    ANALYSED,
    PAUSED,
    PROMOTED,
    Analysis,
    Canary,
    Outcome,
    RehearsalError,
    rehearse,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.series import SeriesError, read_script
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.steps import plan, read_steps

METRIC = {
    "name": "m",
    "interval": "1m",
    "count": 5,
    "successCondition": "result[0] >= 0.95",
    "failureLimit": 3,
}
STEPS = [
    {"setWeight": 20},
    {"analysis": {"templates": [{"templateName": "t"}]}},
    {"setWeight": 80},
    {"analysis": {"templates": [{"templateName": "t"}]}},
    {"setWeight": 100},
]
GOOD, BAD = 0.99, 0.4


def analysis(name: str = "t", **fields: Any) -> Analysis:
    return Analysis(name, read_metrics([{**METRIC, **fields}]))


def canary(steps: list[dict[str, Any]] | None = None, **fields: Any) -> Canary:
    found = read_steps({"steps": STEPS if steps is None else steps})
    analyses = {step.index: fields.pop("analysis", analysis()) for step in found if step.kind == "analysis"}
    return Canary(found, analyses, **fields)


def pods(outcome: Outcome) -> list[tuple[float, int, int]]:
    return [(event.at, *event.detail["counts"]) for event in outcome.events if event.kind == "pods"]


def kinds(outcome: Outcome, kind: str) -> list[float]:
    return [event.at for event in outcome.events if event.kind == kind]


def test_a_good_version_goes_all_the_way() -> None:
    outcome = rehearse(canary(replicas=2, pod_ready_seconds=4), read_script({"m": GOOD}))
    assert (outcome.outcome, outcome.phase, outcome.message) == (PROMOTED, "Successful", "")
    assert kinds(outcome, "step") == [0, 4, 244, 248, 488]
    assert kinds(outcome, "measurement") == [4, 64, 124, 184, 244, 248, 308, 368, 428, 488]
    assert pods(outcome) == [(0, 1, 2), (244, 1, 1), (244, 2, 1), (488, 2, 0)]
    assert outcome.finished_at == 488
    assert [name for name, _result in outcome.results] == ["t", "t"]


def test_a_bad_version_is_taken_back_at_the_failure_that_decides() -> None:
    outcome = rehearse(canary(replicas=2, pod_ready_seconds=4), read_script({"m": [*[GOOD] * 5, BAD]}))
    assert outcome.outcome == ABORTED
    assert outcome.message == 'Metric "m" assessed Failed due to failed (4) > failureLimit (3)'
    assert kinds(outcome, "measurement")[-1] == 248 + 3 * 60
    assert pods(outcome)[-1] == (432, 0, 2)
    assert outcome.events[-1].detail["outcome"] == ABORTED


@pytest.mark.parametrize("replicas", [1, 2, 3, 5, 10, 33])
@pytest.mark.parametrize("ready", [0.0, 7.0])
def test_the_pods_of_each_step_are_the_planned_ones(replicas: int, ready: float) -> None:
    steps = [{"setWeight": weight} for weight in (5, 20, 50, 80, 99)]
    outcome = rehearse(canary(steps, replicas=replicas, pod_ready_seconds=ready), read_script({}))
    seen: list[Any] = []
    for event in outcome.events:
        if event.kind == "step":
            seen.append(None)
        elif event.kind == "pods" and event.detail["weight"] != 100:
            seen[-1] = event.detail["counts"]
    planned = [each.counts for each in plan(read_steps({"steps": steps}), replicas)]
    before: Any = None
    for place, counts in enumerate(seen):
        before = counts or before
        assert before is None or before == planned[place]
    assert outcome.events[-2].detail["counts"] == (replicas, 0)


def test_no_replicas_at_all() -> None:
    assert rehearse(canary([{"setWeight": 50}], replicas=0), read_script({})).outcome == PROMOTED


def test_inconclusive_waits_for_somebody() -> None:
    doubtful = analysis(failureCondition="result[0] < 0.5")
    outcome = rehearse(canary(analysis=doubtful), read_script({"m": 0.7}))
    assert (outcome.outcome, outcome.phase) == (PAUSED, "Inconclusive")
    assert len(kinds(outcome, "measurement")) == 1


def test_queries_that_fail_are_repeated_after_ten_seconds() -> None:
    outcome = rehearse(canary(), read_script({"m": "error"}))
    assert (outcome.outcome, outcome.phase) == (ABORTED, "Error")
    assert kinds(outcome, "measurement") == [0, 10, 20, 30, 40]
    odd = rehearse(canary(analysis=analysis(successCondition="result[3] > 0")), read_script({"m": 1}))
    assert odd.phase == "Error"
    assert "index out of range" in odd.events[-4].detail["measurement"].message


@pytest.mark.parametrize(
    ("gate", "script", "outcome"),
    [(None, 0, PROMOTED), ("t", GOOD, PROMOTED), ("t", BAD, ABORTED), ("t", 0.7, ABORTED)],
)
def test_pauses(gate: str | None, script: float, outcome: str) -> None:
    steps = [{"setWeight": 20}, {"pause": {"duration": "90s"}}, {"pause": {}}]
    own = analysis(gate, failureCondition="result[0] < 0.5", count=1, failureLimit=0) if gate else None
    found = rehearse(canary(steps, gate=own), read_script({"m": script}))
    assert found.outcome == outcome
    assert found.finished_at == 90
    assert [event.detail["by"] for event in found.events if event.kind == "pause"] == (
        [] if outcome == ABORTED else ["gate" if gate else "somebody"]
    )


def test_a_gate_alone() -> None:
    outcome = rehearse(Canary(gate=analysis(initialDelay="30s")), read_script({"m": [GOOD, BAD, GOOD]}))
    assert (outcome.outcome, outcome.phase) == (ANALYSED, "Successful")
    assert kinds(outcome, "measurement") == [30, 90, 150, 210, 270]


def test_the_background_goes_on_beside_the_steps_and_may_end_them() -> None:
    steps = [{"setWeight": 20}, {"pause": {"duration": "10m"}}, {"setWeight": 80}, {"pause": {"duration": "10m"}}]
    beside = analysis("beside", count=1000, failureLimit=1)
    good = rehearse(canary(steps, background=beside), read_script({"m": GOOD}))
    assert good.outcome == PROMOTED
    assert kinds(good, "measurement") == [60.0 * number for number in range(21)]
    bad = rehearse(canary(steps, background=beside), read_script({"m": [*[GOOD] * 12, BAD]}))
    assert (bad.outcome, bad.phase) == (ABORTED, "Failed")
    assert bad.finished_at == 13 * 60
    assert pods(bad)[-1] == (780, 0, 1)


def test_our_extensions() -> None:
    row = rehearse(Canary(gate=analysis(consecutive_failure_limit=2)), read_script({"m": [BAD, GOOD, BAD]}))
    assert row.phase == "Failed"
    assert kinds(row, "measurement") == [0, 60, 120, 180]
    empty = rehearse(Canary(gate=analysis(on_empty="inconclusive")), read_script({"m": "empty"}))
    assert empty.phase == "Inconclusive"
    few = analysis(min_samples={"query": "n", "at_least": 10})
    thin = rehearse(Canary(gate=few), read_script({"m": GOOD, "m.min_samples": [50, 9]}))
    assert thin.phase == "Inconclusive"
    assert "9 samples" in thin.events[1].detail["measurement"].message
    with pytest.raises(SeriesError, match="min_samples of m asks for"):
        rehearse(Canary(gate=few), read_script({"m": GOOD}))


def test_what_cannot_be_rehearsed() -> None:
    with pytest.raises(SeriesError, match="no series for the metric 'm'"):
        rehearse(canary(), read_script({}))
    endless = Canary(gate=Analysis("t", read_metrics([{"name": "m", "interval": "1s"}])))
    with pytest.raises(RehearsalError, match="no end after"):
        rehearse(endless, read_script({"m": GOOD}))


def test_thousands_of_rehearsals_cost_little() -> None:
    gate = Canary(gate=analysis())
    started = time.process_time()
    for _run in range(1000):
        rehearse(gate, read_script({"m": [GOOD, 0.98, BAD, GOOD, 1]}))
    # Ten thousand in under 10 s is what is promised; this machine may be a slow one.
    assert time.process_time() - started < 4.0


def test_an_analysis_without_metrics_has_no_end_and_is_refused() -> None:
    with pytest.raises(RehearsalError, match="the analysis 't' has no metrics"):
        rehearse(canary(analysis=Analysis("t", [])), read_script({}))


def test_turns_without_a_measurement_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "due", lambda _self, _now: [])
    with pytest.raises(RehearsalError, match="no end after 100000 turns"):
        rehearse(canary(), read_script({"m": GOOD}))
