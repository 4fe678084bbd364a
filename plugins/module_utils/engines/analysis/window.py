# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Range queries: ``rangeQuery`` of a Prometheus metric (PrometheusRangeQueryArgs, EvalTime of Argo Rollouts 1.8).

Argo reads start and end as expressions. Of those, ``now()`` and durations from it are read here: a gate looks back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from . import shapes
from .duration import DurationError, parse_duration
from .shapes import TemplateError

_DURATION = r"""duration\(\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*\)"""
_MOMENT = re.compile(rf"\s*now\(\s*\)((?:\s*[-+]\s*{_DURATION})*)\s*")
_SHIFT = re.compile(rf"([-+])\s*{_DURATION}")


class Window(NamedTuple):
    """From when to when, in epoch seconds, and how many seconds between two samples."""

    start: float
    end: float
    step: float


class RangeQuery(NamedTuple):
    """Seconds from now to start and end, negative for what is past, and the step in seconds."""

    start: float
    end: float
    step: float

    def at(self, now: float) -> Window:
        """What is asked for at ``now``, in epoch seconds."""
        return Window(now + self.start, now + self.end, self.step)


def read_range(data: Any, path: str) -> RangeQuery:
    """A ``rangeQuery`` with its arguments in place. Raises TemplateError."""
    fields = shapes.mapping(data, path, " with start, end and step")
    start, end = (_moment(fields, name, path) for name in ("start", "end"))
    step = _seconds(shapes.text(fields.get("step"), f"{path}.step"), f"{path}.step")
    if step <= 0:
        raise TemplateError(f"{path}.step must be more than 0")
    if end < start:
        raise TemplateError(f"{path}: the end is before the start")
    return RangeQuery(start, end, step)


def _moment(fields: Mapping[str, Any], name: str, path: str) -> float:
    text = shapes.text(fields.get(name), f"{path}.{name}")
    moment = _MOMENT.fullmatch(text)
    if not moment:
        raise TemplateError(
            f'{path}.{name}: {text!r} is not read, only now() and durations from it: now() - duration("1h")'
        )
    shifts = ((each[1], each[2] or each[3] or "") for each in _SHIFT.finditer(moment[1]))
    return sum((-1 if sign == "-" else 1) * _seconds(length, f"{path}.{name}") for sign, length in shifts)


def _seconds(text: str, path: str) -> float:
    try:
        return parse_duration(text)
    except DurationError as problem:
        raise TemplateError(f"{path}: {problem}") from problem
