# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rehearsal measures instead of a Prometheus: scripted answers, recorded ones, or samples of a past time.

A series is asked for a metric at a virtual time (seconds) and gives an `Answer`.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple, Protocol

from ..analysis.expression import Value

#: The name of a series that answers for every metric without one of its own.
ANY = ""
_WORDS = ("nan", "+inf", "-inf", "inf")


class SeriesError(ValueError):
    """A series cannot be read; the message says where in it."""


class Answer(NamedTuple):
    """What a query gave: a value, or None with the reason why there is none."""

    value: Value | None
    error: str = ""


class Series(Protocol):
    """Where measurements come from."""

    def answer(self, metric: str, at: float, query: str = "") -> Answer:
        """What the metric's query gives at a virtual time. Raises SeriesError without a series for it."""


def read_answer(given: Any, where: str) -> Answer:
    """An answer as people and reports write it. Raises SeriesError.

    A number, ``NaN``, ``+Inf`` or ``-Inf`` is what one series of a vector gives, and a list what several give; Argo's
    text of either (``[0.98]``, ``0.98``) is read as Argo wrote it. ``{value: ...}`` is a scalar or a list as it stands,
    ``{error: ...}`` a query that failed, ``[]`` and ``empty`` a vector without any element.
    """
    if isinstance(given, Mapping):
        if given.get("error"):
            return Answer(None, str(given["error"]))
        if "value" not in given:
            raise SeriesError(f"{where} must have value or error")
        value = given["value"]
        return Answer(_text(value, where) if isinstance(value, str) else _numbers(value, where))
    if given == "error":
        return Answer(None, "scripted error")
    if given == "empty":
        return Answer([])
    if isinstance(given, str) and given.strip().lower() not in _WORDS:
        return Answer(_text(given, where))
    value = _numbers(given, where)
    return Answer(value if isinstance(value, list) else [value])


def _numbers(value: Any, where: str) -> Value:
    return [_number(item, where) for item in value] if isinstance(value, list) else _number(value, where)


def _number(value: Any, where: str) -> float:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise SeriesError(f"{where} is {value!r}; it must be a number, NaN, a list of them, or an error")


def _text(text: str, where: str) -> Value:
    """A value as Argo writes it: ``[0.98,NaN]`` of a vector, ``0.98`` of a scalar."""
    inner = text.strip()
    if inner.startswith("[") and inner.endswith("]"):
        return [_number(item.strip(), where) for item in inner[1:-1].split(",") if item.strip()]
    return _number(inner, where)


class Scripted:
    """Answers that are used up in order, one a measurement; the last repeats."""

    def __init__(self, answers: Mapping[str, Sequence[Answer]]) -> None:
        self._answers = answers
        self._used: dict[str, int] = {}

    def answer(self, metric: str, at: float, query: str = "") -> Answer:
        """See `Series`."""
        answers = _find(self._answers, metric)
        place = self._used.get(metric, 0)
        self._used[metric] = place + 1
        return answers[min(place, len(answers) - 1)]


class Sample(NamedTuple):
    """An answer, and when it was given in epoch seconds (or in seconds of any clock, the same for all)."""

    at: float
    answer: Answer


class Timed:
    """Answers with their times; the one nearest in time is taken, the earlier of two.

    Virtual time 0 is ``origin``; without one, the first measurement that is asked for gets the first sample. Further
    than ``reach`` seconds from any sample there was no data: an empty vector.
    """

    def __init__(
        self, samples: Mapping[str, Sequence[Sample]], origin: float | None = None, reach: float | None = None
    ) -> None:
        self._samples = {name: sorted(each, key=lambda sample: sample.at) for name, each in samples.items()}
        self._times = {name: [sample.at for sample in each] for name, each in self._samples.items()}
        self._origin = origin
        self._reach = reach

    def answer(self, metric: str, at: float, query: str = "") -> Answer:
        """See `Series`."""
        samples, times = _find(self._samples, metric, self._reach is not None), _find(self._times, metric, True)
        if self._origin is None:
            self._origin = min(each[0] for each in self._times.values() if each) - at
        wanted = self._origin + at
        place = bisect.bisect_left(times, wanted)
        near = samples[max(0, place - 1) : place + 1]
        best = min(near, key=lambda sample: abs(sample.at - wanted), default=None)
        if best is None or (self._reach is not None and abs(best.at - wanted) > self._reach):
            return Answer([])
        return best.answer


class ByQuery:
    """Series of queries instead of metrics: two analyses may have metrics of one name and ask for different things."""

    def __init__(self, series: Mapping[str, Series]) -> None:
        self._series = series

    def answer(self, metric: str, at: float, query: str = "") -> Answer:
        """See `Series`."""
        return self._series[query].answer(ANY, at)


def _find(series: Mapping[str, Sequence[Any]], metric: str, may_be_empty: bool = False) -> Sequence[Any]:
    found = series.get(metric, series.get(ANY))
    if found is None or not (found or may_be_empty):
        raise SeriesError(f"there is no series for the metric {metric!r} (there are {', '.join(series) or 'none'})")
    return found


def read_script(script: Mapping[str, Any]) -> Scripted:
    """``{metric: [answer, ...]}``, or one answer for all times; ``[]`` is an empty vector at all times.

    A number is what one series gives, also as text, which Ansible's templates like to make of it. Raises SeriesError.
    """
    answers = {name: given if isinstance(given, list) and given else [given] for name, given in script.items()}
    return Scripted(
        {
            name: [read_answer(_untemplated(each), f"{name}[{place}]") for place, each in enumerate(given)]
            for name, given in answers.items()
        }
    )


def _untemplated(given: Any) -> Any:
    try:
        return float(given) if isinstance(given, str) else given
    except ValueError:
        return given


def read_recording(text: str) -> Series:
    """A recording, in one of the forms that there are. Raises SeriesError.

    JSON lines of ``{metric, at, value}`` or ``{metric, at, error}``, where ``at`` is in seconds or RFC 3339 and one
    metric needs no name; a report of a release with its ``measurements``; AnalysisRuns, one, several or a List, as
    ``kubectl get analysisruns -o json`` prints them. Without ``at`` the answers are used up in order.
    """
    rows = [row for number, entry in enumerate(_entries(text), 1) for row in _rows(entry, f"entry {number}")]
    if not rows:
        raise SeriesError("there is no measurement in it")
    timed: dict[str, list[Sample]] = {}
    scripted: dict[str, list[Answer]] = {}
    for metric, at, answer in rows:
        if at is None:
            scripted.setdefault(metric, []).append(answer)
        else:
            timed.setdefault(metric, []).append(Sample(at, answer))
    if scripted and timed:
        raise SeriesError("some of its measurements have a time, and others have none")
    return Timed(timed) if timed else Scripted(scripted)


def _entries(text: str) -> list[Any]:
    """One JSON document, or one for each line."""
    try:
        whole = json.loads(text)
        return whole if isinstance(whole, list) else [whole]
    except ValueError:
        pass
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                entries.append(json.loads(line))
            except ValueError as problem:
                raise SeriesError(f"line {number} is not JSON: {problem}") from problem
    return entries


_Row = tuple[str, "float | None", Answer]


def _rows(entry: Any, where: str) -> Iterable[_Row]:
    if not isinstance(entry, Mapping):
        raise SeriesError(f"{where} must be an object, not {entry!r}")
    if isinstance(entry.get("items"), list):
        return [row for item in entry["items"] for row in _rows(item, where)]
    if entry.get("kind") == "AnalysisRun" or "metricResults" in (entry.get("status") or {}):
        results = (entry.get("status") or {}).get("metricResults") or []
        return [
            (str(result.get("name")), _time(each.get("finishedAt"), where), _measured(each, where))
            for result in results
            for each in result.get("measurements") or []
        ]
    if isinstance(entry.get("measurements"), list):
        return [
            (str(each.get("metric") or ANY), _time(each.get("at"), where), _measured(each, where))
            for each in entry["measurements"]
        ]
    return [(str(entry.get("metric") or ANY), _time(entry.get("at"), where), _line(entry, where))]


def _measured(measurement: Mapping[str, Any], where: str) -> Answer:
    """A measurement as Argo and our reports keep it; its phase was another template's verdict."""
    value = measurement.get("value")
    if value in (None, ""):
        return Answer(None, str(measurement.get("message") or "recorded as an error"))
    return read_answer({"value": value}, where)


def _line(entry: Mapping[str, Any], where: str) -> Answer:
    if entry.get("value") is None and entry.get("error") is None:
        raise SeriesError(f"{where} must have value or error")
    return read_answer(entry if entry.get("error") else entry["value"], where)


def _time(at: Any, where: str) -> float | None:
    if at is None:
        return None
    if isinstance(at, (int, float)) and not isinstance(at, bool):
        return float(at)
    try:
        moment = datetime.fromisoformat(str(at).replace("Z", "+00:00"))
    except ValueError as problem:
        raise SeriesError(f"{where}: at is {at!r}, neither seconds nor RFC 3339") from problem
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
