# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a metric can have beyond Argo's: off unless it is asked for, and marked ``(ours)`` in every message.

Argo counts failures over the whole metric, and leaves what there is no traffic for to the condition. These say it
directly: so many failures *in a row*, and what an empty result, a NaN or too few samples mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import shapes
from .expression import Value
from .phases import ERROR, FAILED, INCONCLUSIVE, SUCCESSFUL
from .shapes import TemplateError

OURS = "(ours)"
VERDICTS = {"pass": SUCCESSFUL, "fail": FAILED, "inconclusive": INCONCLUSIVE, "error": ERROR}
FIELDS = ("consecutive_failure_limit", "on_empty", "on_nan", "min_samples")


@dataclass(frozen=True)
class MinSamples:
    """A companion query that tells how much there is to judge by, and how much is enough."""

    query: str
    at_least: float

    def missing(self, answer: Value) -> str:
        """Why ``answer``, summed over its series, is too little to judge by; empty when it is enough."""
        found = math.fsum(answer) if isinstance(answer, list) else answer
        if found >= self.at_least:
            return ""
        return f"{found:g} samples, min_samples wants {self.at_least:g} {OURS}"


@dataclass(frozen=True)
class Extensions:
    """The extensions of one metric. ``on_empty`` and ``on_nan`` are keys of VERDICTS, or empty: nothing is special."""

    consecutive_failure_limit: int = 0
    """The metric fails at so many failed measurements in a row. An error, which is measured again, leaves the row as
    it is; a success and an inconclusive measurement end it. 0: off."""
    on_empty: str = ""
    on_nan: str = ""
    min_samples: MinSamples | None = None

    def verdict(self, value: Value) -> tuple[str, str]:
        """The phase of a measurement that no condition is asked about, and why; two empty strings for any other."""
        if self.on_empty and value == []:
            return VERDICTS[self.on_empty], f"the result is empty, on_empty: {self.on_empty} {OURS}"
        if self.on_nan and any(math.isnan(each) for each in (value if isinstance(value, list) else [value])):
            return VERDICTS[self.on_nan], f"NaN in the result, on_nan: {self.on_nan} {OURS}"
        return "", ""

    def violated(self, failures: int) -> str:
        """Why so many failures in a row are too many, or an empty string."""
        if not 0 < self.consecutive_failure_limit <= failures:
            return ""
        limit = self.consecutive_failure_limit
        return f"consecutiveFailures ({failures}) >= consecutive_failure_limit ({limit}) {OURS}"

    def __str__(self) -> str:
        """What is on, for whoever reads what is going to be measured; empty without any."""
        parts = []
        if self.consecutive_failure_limit:
            parts.append(f"consecutive_failure_limit: {self.consecutive_failure_limit}")
        parts += [f"{name}: {given}" for name in ("on_empty", "on_nan") if (given := getattr(self, name))]
        if self.min_samples:
            parts.append(f"min_samples: {self.min_samples.at_least:g}")
        return f"{', '.join(parts)} {OURS}" if parts else ""


NO_EXTENSIONS = Extensions()


def read_extensions(data: Mapping[str, Any]) -> Extensions:
    """The extensions among the fields of a metric, other fields left aside. Raises TemplateError."""
    return Extensions(
        consecutive_failure_limit=_limit(data.get("consecutive_failure_limit")),
        on_empty=_choice(data, "on_empty"),
        on_nan=_choice(data, "on_nan"),
        min_samples=_min_samples(data.get("min_samples")),
    )


def _limit(value: Any) -> int:
    number = _number(value, "consecutive_failure_limit")
    if number < 0 or number != int(number):
        raise TemplateError(f"consecutive_failure_limit must be a whole number >= 0, not {value!r}")
    return int(number)


def _choice(data: Mapping[str, Any], field: str) -> str:
    value = data.get(field) or ""
    if value and value not in VERDICTS:
        raise TemplateError(f"{field} must be one of {', '.join(VERDICTS)}, not {value!r}")
    return str(value)


def _min_samples(value: Any) -> MinSamples | None:
    if value is None:
        return None
    data = shapes.mapping(value, "min_samples", " with query and at_least")
    query, at_least = data.get("query"), _number(data.get("at_least"), "min_samples.at_least")
    if not isinstance(query, str) or not query.strip():
        raise TemplateError("min_samples.query is empty")
    if at_least <= 0:
        raise TemplateError(f"min_samples.at_least must be more than 0, not {data.get('at_least')!r}")
    return MinSamples(query, at_least)


def _number(value: Any, field: str) -> float:
    """A number, also as text, which is what arguments are. Absent is 0."""
    if value is None:
        return 0.0
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise TemplateError(f"{field} must be a number, not {value!r}")
    return number


def extend(
    metrics: Sequence[Any], everywhere: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]]
) -> list[Any]:
    """The metrics of a template with extensions put in.

    ``everywhere`` holds for all of them, a metric's own fields go before it, and those that ``by_name`` has under the
    metric's name go first. Raises TemplateError for a name or a field that there is not.
    """
    names = [metric.get("name") for metric in metrics if isinstance(metric, Mapping)]
    for name, fields in by_name.items():
        if name not in names:
            raise TemplateError(f"extensions.{name}: there is no such metric (there are {', '.join(map(str, names))})")
        for field in shapes.mapping(fields, f"extensions.{name}"):
            if field not in FIELDS:
                raise TemplateError(f"extensions.{name}.{field}: unknown, there are {', '.join(FIELDS)}")
    given = {field: everywhere[field] for field in FIELDS if everywhere.get(field) is not None}
    return [
        {**given, **metric, **(by_name.get(str(metric.get("name"))) or {})} if isinstance(metric, Mapping) else metric
        for metric in metrics
    ]
