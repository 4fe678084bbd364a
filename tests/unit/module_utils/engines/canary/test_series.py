# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rehearsal measures: scripts, recordings in every form, and samples with their times."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.series import (
    ANY,
    Answer,
    ByQuery,
    Sample,
    SeriesError,
    Timed,
    read_answer,
    read_recording,
    read_script,
)


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (0.98, Answer([0.98])),
        ("+Inf", Answer([math.inf])),
        ([0.98, 1], Answer([0.98, 1.0])),
        ([], Answer([])),
        ("empty", Answer([])),
        ("[0.98,1]", Answer([0.98, 1.0])),
        ("0.98", Answer(0.98)),
        ({"value": 0.98}, Answer(0.98)),
        ({"value": [0.98]}, Answer([0.98])),
        ({"value": "[0.98]"}, Answer([0.98])),
        ({"error": "timeout"}, Answer(None, "timeout")),
        ("error", Answer(None, "scripted error")),
    ],
)
def test_answers(given: Any, answer: Answer) -> None:
    assert read_answer(given, "m[0]") == answer


def test_nan() -> None:
    for given in ("NaN", ["NaN"], "[NaN]", {"value": ["NaN"]}):
        value = read_answer(given, "m[0]").value
        assert isinstance(value, list)
        assert math.isnan(value[0])


@pytest.mark.parametrize("given", [None, True, "much", ["much"], {}, {"value": None}, {"value": [[1]]}])
def test_what_is_no_answer(given: Any) -> None:
    with pytest.raises(SeriesError, match=r"m\[0\]"):
        read_answer(given, "m[0]")


def test_a_script_is_used_up_in_order_and_its_last_answer_repeats() -> None:
    script = read_script({"m": [1, 2], "n": 3})
    assert [script.answer("m", at).value for at in (0, 60, 120)] == [[1.0], [2.0], [2.0]]
    assert script.answer("n", 0).value == [3.0]
    with pytest.raises(SeriesError, match=r"no series for the metric 'o' \(there are m, n\)"):
        script.answer("o", 0)


def test_samples_are_taken_by_their_time() -> None:
    samples = [Sample(100.0 + 60 * number, Answer([float(number)])) for number in range(3)]
    first = Timed({ANY: samples})
    assert [first.answer("m", at).value for at in (12, 70, 131, 133, 9999)] == [[0.0], [1.0], [2.0], [2.0], [2.0]]
    exact = Timed({ANY: samples}, origin=100.0, reach=5.0)
    assert [exact.answer("m", at).value for at in (0, 4, 30, 64, 126)] == [[0.0], [0.0], [], [1.0], []]
    assert Timed({ANY: []}, origin=0.0, reach=5.0).answer("m", 0).value == []
    assert ByQuery({"q": exact}).answer("m", 60, "q").value == [1.0]


LINES = """{"metric": "m", "at": "2026-01-01T00:00:00Z", "value": 0.9}

{"metric": "m", "at": "2026-01-01T00:01:00Z", "error": "timeout"}
"""
REPORT = {
    "outcome": "promoted",
    "measurements": [
        {"run": "r", "metric": "m", "at": "2026-01-01T00:00:00Z", "value": "[0.9]", "phase": "Failed"},
        {
            "run": "r",
            "metric": "m",
            "at": "2026-01-01T00:01:00Z",
            "value": None,
            "phase": "Error",
            "message": "timeout",
        },
    ],
}
RUN = {
    "kind": "AnalysisRun",
    "status": {
        "metricResults": [
            {
                "name": "m",
                "measurements": [
                    {"finishedAt": "2026-01-01T00:00:00Z", "value": "[0.9]", "phase": "Failed"},
                    {"finishedAt": "2026-01-01T00:01:00Z", "phase": "Error", "message": "timeout"},
                ],
            }
        ]
    },
}


@pytest.mark.parametrize(
    "text",
    [LINES, json.dumps(REPORT), json.dumps(RUN), json.dumps({"kind": "List", "items": [RUN]}), json.dumps([RUN])],
    ids=["lines", "report", "run", "list", "array"],
)
def test_recordings(text: str) -> None:
    series = read_recording(text)
    assert [series.answer("m", at) for at in (0, 60)] == [Answer([0.9]), Answer(None, "timeout")]


def test_a_recording_without_times_or_names() -> None:
    series = read_recording('{"value": 1}\n{"value": "[2]"}\n')
    assert [series.answer("any", 0).value for _ in range(3)] == [[1.0], [2.0], [2.0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no measurement"),
        ("{", "line 1 is not JSON"),
        ("[1]", "entry 1 must be an object"),
        ('{"at": 1}', "entry 1 must have value or error"),
        ('{"at": "noon", "value": 1}', "neither seconds nor RFC 3339"),
        ('{"at": 1, "value": 1}\n{"value": 1}', "others have none"),
        ('{"value": "much"}', "entry 1 is 'much'"),
    ],
)
def test_recordings_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(SeriesError, match=message):
        read_recording(text)


def test_a_script_may_come_from_a_template_that_makes_text_of_numbers() -> None:
    script = read_script({"m": ["0.99", "NaN", "1e3", {"value": "0.99"}, "[1,2]", "empty"], "n": "0.5", "none": []})
    answers = [script.answer("m", 0).value for _measurement in range(6)]
    assert answers[0] == [0.99]
    assert math.isnan(answers[1][0])  # type: ignore[index]
    assert answers[2:] == [[1000.0], 0.99, [1.0, 2.0], []]
    assert (script.answer("n", 0).value, script.answer("none", 0).value) == ([0.5], [])
