# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parity command against answers of Argo Rollouts 1.8.5 itself, and against input that nobody could answer.

The fixture holds 3,000 random cases with what CalculateReplicaCountsForBasicCanary (utils/replicaset) returned.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[2]
ANSWERS = TESTS / "unit" / "fixtures" / "replicas" / "argo-1.8.5.jsonl.gz"


def ask(lines: list[bytes]) -> list[dict[str, Any]]:
    command = [sys.executable, str(TESTS / "parity" / "replicas.py")]
    done = subprocess.run(command, input=b"\n".join(lines), capture_output=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


def answers(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return ask([json.dumps(case).encode() for case in cases])


def test_equals_argo() -> None:
    with gzip.open(ANSWERS, "rt", encoding="utf-8") as lines:
        known = [json.loads(line) for line in lines]
    assert answers([each["case"] for each in known]) == [each["answer"] for each in known]


def test_impossible_cases_are_answered_with_an_error() -> None:
    cases = [
        {"id": "a", "replicas": 2, "weight": 101},
        {"id": "b", "weight": 20},
        {"id": "c", "replicas": 2, "weight": 20},
    ]
    got = answers(cases)
    assert [each["id"] for each in got] == ["a", "b", "c"]
    assert "weight is 101" in got[0]["error"]
    assert "replicas" in got[1]["error"]
    assert (got[2]["canary"], got[2]["stable"]) == (1, 2)


@pytest.mark.parametrize("line", [b"x", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"replicas": ' + b"9" * 5000 + b"}"])
def test_a_line_that_is_no_case_does_not_end_the_stream(line: bytes) -> None:
    bad, good = ask([line, b'{"id": "c", "replicas": 2, "weight": 20}'])
    assert (bad["id"], set(bad)) == (None, {"id", "error"})
    assert good == {"id": "c", "canary": 1, "stable": 2}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 1.5}, "replicas is 1.5"),
    ({"replicas": True}, "replicas is True"),
    ({"replicas": "10"}, "replicas is '10'"),
    ({"replicas": 10**12}, "replicas is 1000000000000"),
    ({"replicas": -1}, "replicas is -1"),
    ({"weight": 20.5}, "weight is 20.5"),
    ({"weight": None}, "weight is None"),
    ({"weight": False}, "weight is False"),
    ({"maxSurge": None}, "maxSurge is None"),
    ({"maxSurge": 25.0}, "maxSurge is 25.0"),
    ({"maxSurge": True}, "maxSurge is True"),
    ({"maxSurge": "1_0%"}, "maxSurge is '1_0%'"),
    ({"maxSurge": " 10%"}, "maxSurge is ' 10%'"),
    ({"maxSurge": "٢٥%"}, "maxSurge is"),
    ({"maxSurge": "9" * 5000}, "maxSurge is"),
    ({"maxUnavailable": 2**31}, "maxUnavailable is"),
    ({"stable": 5}, "stable is 5; it must be {spec, available}"),
    ({"stable": {"spec": 10}}, "stable is {'spec': 10}; it must be {spec, available}"),
    ({"canary": {"spec": 1.0, "available": 1}}, "canary.spec is 1.0"),
    ({"canary": {"spec": 1, "available": True}}, "canary.available is True"),
    ({"older": {}}, "older must be a list"),
    ({"older": [5]}, "older[0] is 5"),
    ({"older": [{"spec": 1, "available": 1, "x": 1}]}, "older[0] is"),
]


def test_counts_that_are_none_are_answered_with_an_error() -> None:
    got = answers([{"id": place, "replicas": 10, "weight": 20, **fields} for place, (fields, _) in enumerate(WRONG)])
    assert [each["id"] for each in got] == list(range(len(WRONG)))
    for each, (_, reason) in zip(got, WRONG, strict=True):
        assert reason in each["error"]
