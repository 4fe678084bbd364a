# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parity command, run the way it is called: plain Python at the root of a checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
METRIC = {"name": "m", "interval": "1m", "count": 5, "failureLimit": 3, "successCondition": "result[0] >= 0.95"}


def verdicts(*cases: dict[str, Any], flags: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return ask(*(json.dumps(case).encode() for case in cases), flags=flags)


def ask(*lines: bytes, flags: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *flags, "tests/parity/verdicts.py"],
        cwd=ROOT,
        env=environment,
        input=b"\n".join(lines),
        capture_output=True,
        check=True,
        timeout=60,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_verdicts_with_the_standard_library_alone() -> None:
    good, bad, wrong, endless = verdicts(
        {"id": "good", "metrics": [METRIC], "results": {"m": [{"value": [0.99]}]}},
        {
            "id": "bad",
            "metrics": [METRIC],
            "results": {"m": [{"value": ["NaN"]}, {"error": "timeout"}, {"value": [0]}]},
        },
        {"id": "wrong", "metrics": [{**METRIC, "failureLimit": -1}], "results": {}},
        {"id": "endless", "metrics": [{"name": "m", "interval": "1s"}], "results": {"m": [{"value": 1}]}},
        flags=("-S",),
    )
    assert good["phase"] == "Successful"
    assert good["finishedAt"] == 240.0
    assert [one["at"] for one in good["metrics"]["m"]["measurements"]] == [0.0, 60.0, 120.0, 180.0, 240.0]
    assert bad["phase"] == "Failed"
    assert [one["phase"] for one in bad["metrics"]["m"]["measurements"]] == ["Failed", "Error", *["Failed"] * 3]
    assert bad["metrics"]["m"]["error"] == 1
    assert (wrong["phase"], wrong["metrics"], wrong["finishedAt"]) == ("Error", {}, None)
    assert "cannot both be disabled" in wrong["message"]
    assert (endless["phase"], endless["finishedAt"]) == ("Running", None)
    assert endless["metrics"]["m"]["count"] == 500


def test_a_condition_that_cannot_be_read_is_an_error_of_the_measurement() -> None:
    (verdict,) = verdicts(
        {"id": "c", "metrics": [{"name": "m", "successCondition": "result >"}], "results": {"m": [{"value": 1}]}}
    )
    assert verdict["phase"] == "Error"
    assert verdict["metrics"]["m"]["consecutiveError"] == 5
    assert verdict["finishedAt"] == 40.0


def test_dry_run() -> None:
    dry, none = verdicts(
        {"id": "d", "metrics": [{**METRIC, "failureLimit": 0}], "dryRun": ["m"], "results": {"m": [{"value": [0]}]}},
        {"id": "n", "metrics": [METRIC], "dryRun": ["*"], "results": {}},
    )
    assert (dry["phase"], dry["metrics"]["m"]["phase"], dry["finishedAt"]) == ("Successful", "Failed", 0.0)
    assert (none["phase"], none["metrics"]) == ("Error", {})


SCRIPTED: dict[str, Any] = {"id": "c", "metrics": [METRIC], "results": {"m": [{"value": 1}]}}
DEEP = b'{"id": "c", "x": ' + b"[" * 100_000


@pytest.mark.parametrize("line", [b"x", b"[]", b"null", b"5", b'"c"', b"\xff", DEEP, b'{"id": ' + b"9" * 5000 + b"}"])
def test_a_line_that_is_no_case_does_not_end_the_stream(line: bytes) -> None:
    bad, good = ask(
        line, json.dumps({"id": "g", "metrics": [{"name": "m"}], "results": {"m": [{"value": 1}]}}).encode()
    )
    assert bad.pop("message")
    assert bad == {"id": None, "phase": "Error", "metrics": {}, "finishedAt": None}
    assert (good["id"], good["phase"]) == ("g", "Successful")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"results": {"m": [5]}}, "results.m[0] must be a mapping with value or error, not 5"),
    ({"results": {"m": 5}}, "results.m must be a list, not 5"),
    ({"results": [5]}, "results must be a mapping, not [5]"),
    ({"results": {"m": [{"value": None}]}}, "results.m[0].value is not a number or a list of numbers"),
    ({"results": {"m": [{"value": 1}, {"value": ["abc"]}]}}, "results.m[1].value is not a number"),
    ({"results": {"m": [{"value": [[1]]}]}}, "results.m[0].value is not a number"),
    ({"results": {"m": [{"value": True}]}}, "results.m[0].value is not a number"),
    ({"results": {"m": [{"value": 10**500}]}}, "results.m[0].value is not a number"),
    ({"dryRun": [5]}, "dryRun[0] must be a string, not 5"),
    ({"dryRun": "m"}, "dryRun must be a list, not 'm'"),
    ({"metrics": "m"}, "metrics must be a list, not 'm'"),
    ({"metrics": [5]}, "metrics[0]: a metric must be a mapping, not 5"),
    ({"metrics": [{**METRIC, "count": 10**500}]}, "count is out of range"),
    ({"metrics": [{**METRIC, "name": 5}]}, "name must be a string, not 5"),
]


def test_a_malformed_case_is_an_error_with_the_place() -> None:
    got = verdicts(*({**SCRIPTED, "id": place, **fields} for place, (fields, _) in enumerate(WRONG)))
    assert [each["id"] for each in got] == list(range(len(WRONG)))
    for each, (_, reason) in zip(got, WRONG, strict=True):
        assert (each["phase"], each["metrics"], each["finishedAt"]) == ("Error", {}, None)
        assert reason in each["message"]


def test_each_answer_is_written_before_the_next_question() -> None:
    command = [sys.executable, str(ROOT / "tests" / "parity" / "verdicts.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (b"x", json.dumps(SCRIPTED).encode()):
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["phase"] in ("Error", "Successful")
