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

TESTS = Path(__file__).resolve().parents[2]
ANSWERS = TESTS / "unit" / "fixtures" / "replicas" / "argo-1.8.5.jsonl.gz"


def answers(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    command = [sys.executable, str(TESTS / "parity" / "replicas.py")]
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


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
