# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a canary Deployment remembers has room in its annotation, whatever was measured."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.machine import Verdict
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.pair import (
    MEMORY_ANNOTATION,
    Memory,
    add_measurement,
    analysis_run,
    next_revision,
    read_memory,
)


def run(number: int, metrics: int, value: str | None, message: str) -> dict[str, Any]:
    made = analysis_run("api", "h", "2", number, "2026-01-01T00:00:00Z", [])
    for metric in range(metrics):
        for _time in range(12):
            measurement = {"phase": "Error", "value": value, "finishedAt": "2026-01-01T00:00:00Z", "message": message}
            add_measurement(made, f"m{metric}", False, measurement)
    made["status"].update(phase="Failed", message=message)
    return made


def memory(runs: list[dict[str, Any]], message: str = "") -> Memory:
    verdicts = {number: Verdict("Failed", message) for number in range(len(runs))}
    return Memory("api", "new", "old", "h0", "2", 4, [{"setWeight": 20}], None, 0.0, verdicts=verdicts, runs=runs)


def again(text: str) -> Memory:
    return read_memory({"metadata": {"annotations": {MEMORY_ANNOTATION: text}}})


def results(one: Memory) -> list[int]:
    return [len(result["measurements"]) for each in one.runs for result in each["status"]["metricResults"]]


@pytest.mark.parametrize("long", ["0.9823451234567891," * 1000, "\N{SNOWMAN}" * 20_000])
def test_long_values_and_messages_are_cut(long: str) -> None:
    told = memory([run(0, 1, long, long), run(1, 1, None, "")], long)
    text = told.as_text()
    assert len(text.encode()) < 50_000
    found = again(text)
    (measured,) = found.runs[0]["status"]["metricResults"]
    assert measured["count"] + measured["error"] == 12
    assert [each["value"] for each in measured["measurements"]] == [long[:200]] * 10
    assert measured["measurements"][0]["message"] == found.verdicts[0].message == long[:300]
    assert found.runs[1]["status"]["metricResults"][0]["measurements"][0]["value"] is None
    assert found.as_text() == text
    assert told.runs[0]["status"]["metricResults"][0]["measurements"][0]["value"] == long  # of this run, in full


def test_the_measurements_of_the_oldest_analyses_go_first_and_verdicts_stay() -> None:
    told = memory([run(number, 4, "1" * 200, "x" * 300) for number in range(20)], "too many")
    text = told.as_text()
    assert 150_000 < len(text.encode()) <= 200_000
    found = again(text)
    kept = results(found)
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (0, 10)
    assert found.verdicts == told.verdicts
    assert [each["metadata"] for each in found.runs] == [each["metadata"] for each in told.runs]


def test_a_revision_that_is_no_number_begins_anew() -> None:
    for text, revision in (("3", "4"), ("", "1"), ("\N{SUPERSCRIPT TWO}", "1")):
        meta = {"annotations": {"deployment.kubernetes.io/revision": text}}
        assert next_revision({"metadata": meta}) == revision
