# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Metrics: limits that Argo allows, and the verdict on a value."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.expression import ExpressionError
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.metric import (
    Metric,
    TemplateError,
    format_value,
    read_metric,
)


def test_defaults() -> None:
    metric = read_metric({"name": "m"})
    assert metric == Metric("m")
    assert (metric.failure_limit, metric.inconclusive_limit, metric.consecutive_error_limit) == (0, 0, 4)
    assert metric.effective_count == 1


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 1),
        ({"interval": "1m"}, None),
        ({"interval": "1m", "count": 0}, None),
        ({"count": 0}, 1),
        ({"interval": "1m", "count": 5}, 5),
        ({"interval": "1m", "count": "5"}, 5),
        ({"interval": "1m", "count": -1}, -1),
        ({"interval": "1m", "count": "many"}, None),
    ],
)
def test_effective_count(fields: dict[str, Any], count: int | None) -> None:
    assert read_metric({"name": "m", **fields}).effective_count == count


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"failureLimit": -2}, "failureLimit must be >= 0, or -1"),
        ({"failureLimit": -1}, "cannot both be disabled"),
        ({"inconclusiveLimit": -1}, "inconclusiveLimit must be >= 0"),
        ({"consecutiveErrorLimit": -1}, "consecutiveErrorLimit must be >= 0"),
        ({"consecutiveSuccessLimit": -1}, "consecutiveSuccessLimit must be >= 0"),
        ({"count": 2}, "interval must be specified when count > 1"),
        ({"count": 3, "interval": "1m", "failureLimit": 4}, r"count \(3\) must be >= failureLimit"),
        ({"count": 3, "interval": "1m", "failureLimit": 2, "consecutiveSuccessLimit": 2}, r"\(2 \+ 2\)"),
        (
            {"count": 3, "interval": "1m", "failureLimit": -1, "consecutiveSuccessLimit": 4},
            "must be >= consecutiveSuccessLimit",
        ),
        ({"count": 1, "inconclusiveLimit": 2}, "must be >= inconclusiveLimit"),
        ({"interval": "1 minute"}, "interval: invalid duration"),
        ({"initialDelay": "5"}, "initialDelay: invalid duration"),
        ({"interval": 5}, "interval must be a string"),
        ({"count": 1.5}, "count must be a whole number"),
        ({"count": True}, "count must be a whole number"),
        ({"count": 2**40}, "out of range"),
        ({"successCondition": True}, "successCondition must be a string"),
    ],
)
def test_invalid(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        read_metric({"name": "m", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"count": 3, "interval": "1m", "failureLimit": 3},
        {"count": 4, "interval": "1m", "failureLimit": 2, "consecutiveSuccessLimit": 2},
        {"interval": "1m", "failureLimit": 9},
        {"failureLimit": -1, "consecutiveSuccessLimit": 1},
    ],
)
def test_valid(fields: dict[str, Any]) -> None:
    read_metric({"name": "m", **fields})


GOOD, BAD = "result > 0.9", "result < 0.5"


@pytest.mark.parametrize(
    ("success", "failure", "value", "phase"),
    [
        ("", "", 0.1, "Successful"),
        (GOOD, "", 1.0, "Successful"),
        (GOOD, "", 0.1, "Failed"),
        ("", BAD, 0.1, "Failed"),
        ("", BAD, 1.0, "Successful"),
        (GOOD, BAD, 1.0, "Successful"),
        (GOOD, BAD, 0.1, "Failed"),
        (GOOD, BAD, 0.7, "Inconclusive"),
        ("true", "true", 0.7, "Failed"),
        (GOOD, "", math.nan, "Failed"),
    ],
)
def test_judge(success: str, failure: str, value: float, phase: str) -> None:
    assert Metric("m", success_condition=success, failure_condition=failure).judge(value) == phase


def test_both_conditions_are_always_evaluated() -> None:
    with pytest.raises(ExpressionError):
        Metric("m", success_condition="true", failure_condition="result[3] > 1").judge([1.0])
    with pytest.raises(ExpressionError):
        Metric("m", success_condition="result[3] > 1", failure_condition="true").judge([1.0])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], "[]"),
        ([1.0, 0.98], "[1,0.98]"),
        (0.5, "0.5"),
        ([math.nan, math.inf, -math.inf], "[NaN,+Inf,-Inf]"),
        (1e21, "1000000000000000000000"),
        (1e-7, "0.0000001"),
        (0.4117647058823529, "0.4117647058823529"),
    ],
)
def test_format_value(value: list[float] | float, text: str) -> None:
    assert format_value(value) == text
