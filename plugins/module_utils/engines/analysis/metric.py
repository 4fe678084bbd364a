# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One metric of an analysis: its limits, and the verdict on one measured value.

Copies the Metric of Argo Rollouts 1.8 (pkg/apis/rollouts/v1alpha1/analysis_types.go), its validation
(utils/analysis/factory.go, ValidateMetric) and EvaluateResult (utils/evaluate/evaluate.go).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .duration import DurationError, parse_duration
from .expression import Value, compile_condition, type_of
from .extensions import NO_EXTENSIONS, Extensions, read_extensions
from .phases import ERROR, FAILED, INCONCLUSIVE, RUNNING, SUCCESSFUL
from .shapes import TemplateError
from .window import RangeQuery

__all__ = [
    "DEFAULT_CONSECUTIVE_ERROR_LIMIT",
    "ERROR",
    "FAILED",
    "INCONCLUSIVE",
    "RUNNING",
    "SUCCESSFUL",
    "Metric",
    "TemplateError",
    "format_value",
    "read_metric",
]

DEFAULT_CONSECUTIVE_ERROR_LIMIT = 4


@dataclass(frozen=True)
class Metric:
    """A metric's limits; durations in seconds, None where the template says nothing."""

    name: str
    interval: float | None = None
    initial_delay: float | None = None
    count: int = 0
    failure_limit: int = 0
    inconclusive_limit: int = 0
    consecutive_error_limit: int = DEFAULT_CONSECUTIVE_ERROR_LIMIT
    consecutive_success_limit: int = 0
    success_condition: str = ""
    failure_condition: str = ""
    query: str = ""
    range: RangeQuery | None = None
    extensions: Extensions = NO_EXTENSIONS

    @property
    def effective_count(self) -> int | None:
        """How many measurements without an error end the metric; None runs for ever."""
        if self.count == 0:
            return 1 if self.interval is None else None
        return self.count

    def judge(self, value: Value) -> str:
        """The phase of a measurement. Raises ExpressionError, which makes the measurement an Error.

        Both conditions are always evaluated; the failure condition wins. An extension that has a verdict on the value
        goes before them.
        """
        verdict, _reason = self.extensions.verdict(value)
        if verdict:
            return verdict
        kind = type_of(value)
        passed = failed = False
        if self.success_condition:
            passed = compile_condition(self.success_condition, kind).evaluate(value)
        if self.failure_condition:
            failed = compile_condition(self.failure_condition, kind).evaluate(value)
        if not self.success_condition:
            return FAILED if failed else SUCCESSFUL
        if failed or not (passed or self.failure_condition):
            return FAILED
        return SUCCESSFUL if passed else INCONCLUSIVE


def read_metric(data: Mapping[str, Any]) -> Metric:
    """A Metric from a template's (resolved) dict, providers left aside. Raises TemplateError."""
    if not isinstance(data, Mapping):
        raise TemplateError(f"a metric must be a mapping, not {data!r}")
    metric = Metric(
        name=_text(data, "name"),
        interval=_duration(data, "interval"),
        initial_delay=_duration(data, "initialDelay"),
        count=_number(data, "count", 0),
        failure_limit=_number(data, "failureLimit", 0),
        inconclusive_limit=_number(data, "inconclusiveLimit", 0),
        consecutive_error_limit=_number(data, "consecutiveErrorLimit", DEFAULT_CONSECUTIVE_ERROR_LIMIT),
        consecutive_success_limit=_number(data, "consecutiveSuccessLimit", 0),
        success_condition=_text(data, "successCondition"),
        failure_condition=_text(data, "failureCondition"),
        extensions=read_extensions(data),
    )
    _validate(metric)
    return metric


def _text(data: Mapping[str, Any], field: str) -> str:
    value = data.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TemplateError(f"{field} must be a string, not {value!r}")
    return value


def _duration(data: Mapping[str, Any], field: str) -> float | None:
    text = _text(data, field)
    if not text:
        return None
    try:
        return parse_duration(text)
    except DurationError as problem:
        raise TemplateError(f"{field}: {problem}") from problem


def _number(data: Mapping[str, Any], field: str, default: int) -> int:
    """An IntOrString: a string that is no number counts as 0, as in Kubernetes' IntValue."""
    value = data.get(field)
    if value is None:
        return default
    if isinstance(value, str):
        digits = value[1:] if value[:1] in ("-", "+") else value
        number = int(value) if digits.isascii() and digits.isdigit() else 0
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        raise TemplateError(f"{field} must be a whole number, not {value!r}")
    if not -(2**31) <= number < 2**31:
        raise TemplateError(f"{field} is out of range: {value!r}")
    return number


def _validate(metric: Metric) -> None:
    successes, failures, count = metric.consecutive_success_limit, metric.failure_limit, metric.count
    if successes < 0:
        raise TemplateError("consecutiveSuccessLimit must be >= 0")
    if failures < -1:
        raise TemplateError("failureLimit must be >= 0, or -1 to be disabled")
    if successes == 0 and failures == -1:
        raise TemplateError("failureLimit and consecutiveSuccessLimit cannot both be disabled")
    if metric.inconclusive_limit < 0:
        raise TemplateError("inconclusiveLimit must be >= 0")
    if metric.consecutive_error_limit < 0:
        raise TemplateError("consecutiveErrorLimit must be >= 0")
    if count > 0:
        if count < max(failures, 0) + successes:
            limits = f"failureLimit + consecutiveSuccessLimit ({failures} + {successes})"
            raise TemplateError(f"count ({count}) must be >= {limits if failures >= 0 else 'consecutiveSuccessLimit'}")
        if count < metric.inconclusive_limit:
            raise TemplateError(f"count ({count}) must be >= inconclusiveLimit ({metric.inconclusive_limit})")
    if count > 1 and metric.interval is None:
        raise TemplateError("interval must be specified when count > 1")


def format_value(value: Value) -> str:
    """A measurement as Argo writes it: ``[0.98,1]`` for a vector, ``0.98`` for a scalar, and NaN, +Inf, -Inf."""
    if isinstance(value, list):
        return f"[{','.join(format_value(item) for item in value)}]"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = format(Decimal(repr(float(value))), "f")
    return text[:-2] if text.endswith(".0") else text
