# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a metric can have beyond Argo's."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis import extensions
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.extensions import MinSamples, extend
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.metric import (
    Metric,
    TemplateError,
    read_metric,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.run import Measurement, Run

S, F, N, E = "Successful", "Failed", "Inconclusive", "Error"
LETTERS = {"S": S, "F": F, "I": N, "E": E}


def play(letters: str, **fields: Any) -> Run:
    """A run of one metric with measurements by letters."""
    fields = {"interval": "1m", "count": 5, "failureLimit": 5, "inconclusiveLimit": 5, **fields}
    run, clock, left = Run([read_metric({"name": "m", **fields})]), [0.0], list(letters)
    while not run.completed:
        run.step(clock[0], lambda _metric: Measurement(LETTERS[left.pop(0)], clock[0]))
        clock[0] = run.next_at(clock[0])
    assert not left
    return run


@pytest.mark.parametrize(
    ("letters", "phase"),
    [
        ("FFF", F),
        ("SFFF", F),
        ("SSFFF", F),
        ("FFSFF", S),
        ("FSFSF", S),
        ("FFIFF", S),
        # An error is measured again, and leaves the row as it is.
        ("FFEF", F),
        ("FEFEF", F),
        ("FEFESFF", S),
    ],
)
def test_three_failures_in_a_row(letters: str, phase: str) -> None:
    run = play(letters, consecutive_failure_limit=3)
    assert (run.phase, run.results["m"].phase) == (phase, phase)


def test_the_message_says_whose_limit_it_is() -> None:
    assert play("FFF", consecutive_failure_limit=3).message == (
        'Metric "m" assessed Failed due to consecutiveFailures (3) >= consecutive_failure_limit (3) (ours)'
    )
    # Argo's own limit is named when it is violated, too.
    assert play("FFF", consecutive_failure_limit=3, failureLimit=2).message.endswith("failed (3) > failureLimit (2)")


def test_off_unless_asked_for() -> None:
    assert play("FFFFF").phase == S
    metric = read_metric({"name": "m", "successCondition": "result[0] > 1"})
    assert metric.extensions == extensions.NO_EXTENSIONS
    assert str(metric.extensions) == ""
    assert metric.judge([math.nan]) == F


def test_a_dry_run_does_not_decide() -> None:
    run = Run([read_metric({"name": "m", "consecutive_failure_limit": 1, "failureLimit": 1})], ("m",))
    run.step(0, lambda metric: Measurement(F, 0))
    assert (run.phase, run.results["m"].phase) == (S, F)


@pytest.mark.parametrize(("choice", "phase"), [("pass", S), ("fail", F), ("inconclusive", N), ("error", E)])
def test_on_empty_and_on_nan(choice: str, phase: str) -> None:
    # The condition is not asked: it would be an error on an empty result.
    for field, value in (("on_empty", []), ("on_nan", [0.99, math.nan]), ("on_nan", math.nan)):
        metric = read_metric({"name": "m", "successCondition": "result[0] > 1", field: choice})
        assert metric.judge(value) == phase
        assert metric.extensions.verdict(value)[1].endswith(f"{field}: {choice} (ours)")
        assert metric.judge([2.0]) == S
        assert metric.extensions.verdict([2.0]) == ("", "")


def test_min_samples() -> None:
    least = MinSamples("sum(increase(requests[2m]))", 50)
    assert least.missing([50.0]) == least.missing(51.0) == least.missing([30.0, 20.0]) == ""
    assert least.missing([12.0]) == "12 samples, min_samples wants 50 (ours)"
    for nothing in ([], [math.nan], 0.0, math.nan):
        assert least.missing(nothing)


def test_outline() -> None:
    fields = {"consecutive_failure_limit": "3", "on_nan": "fail", "min_samples": {"query": "x", "at_least": "50"}}
    shown = str(read_metric({"name": "m", **fields}).extensions)
    assert shown == "consecutive_failure_limit: 3, on_nan: fail, min_samples: 50 (ours)"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"consecutive_failure_limit": -1}, "must be a whole number >= 0, not -1"),
        ({"consecutive_failure_limit": 1.5}, "must be a whole number"),
        ({"consecutive_failure_limit": "many"}, "must be a number, not 'many'"),
        ({"consecutive_failure_limit": True}, "must be a number"),
        ({"consecutive_failure_limit": [3]}, "must be a number"),
        ({"on_nan": "pause"}, "on_nan must be one of pass, fail, inconclusive, error, not 'pause'"),
        ({"on_empty": 5}, "on_empty must be one of"),
        ({"min_samples": 50}, "min_samples must be a mapping with query and at_least"),
        ({"min_samples": {"at_least": 5}}, "min_samples.query is empty"),
        ({"min_samples": {"query": " ", "at_least": 5}}, "min_samples.query is empty"),
        ({"min_samples": {"query": "x"}}, "min_samples.at_least must be more than 0"),
        ({"min_samples": {"query": "x", "at_least": "inf"}}, "min_samples.at_least must be a number"),
    ],
)
def test_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        read_metric({"name": "m", **fields})


def test_extend() -> None:
    metrics = [{"name": "a"}, {"name": "b", "on_nan": "pass"}]
    everywhere = {"on_nan": "fail", "on_empty": None, "other": 1}
    assert extend(metrics, everywhere, {"a": {"on_empty": "pass"}}) == [
        {"name": "a", "on_nan": "fail", "on_empty": "pass"},
        {"name": "b", "on_nan": "pass"},
    ]
    assert extend(metrics, {}, {"b": {"on_nan": "error"}})[1] == {"name": "b", "on_nan": "error"}
    with pytest.raises(TemplateError, match=r"extensions.c: there is no such metric \(there are a, b\)"):
        extend(metrics, {}, {"c": {}})
    with pytest.raises(TemplateError, match=r"extensions\.a\.on_zero: unknown"):
        extend(metrics, {}, {"a": {"on_zero": "fail"}})


def test_an_error_of_ours_counts_as_one() -> None:
    run = Run([Metric("m", consecutive_error_limit=0)])
    metric = read_metric({"name": "m", "on_empty": "error"})
    run.step(0, lambda _metric: Measurement(metric.judge([]), 0))
    assert run.phase == E
