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

ROOT = Path(__file__).resolve().parents[3]
METRIC = {"name": "m", "interval": "1m", "count": 5, "failureLimit": 3, "successCondition": "result[0] >= 0.95"}


def verdicts(*cases: dict[str, Any], flags: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *flags, "tests/parity/verdicts.py"],
        cwd=ROOT,
        env=environment,
        input="\n".join(json.dumps(case) for case in cases),
        capture_output=True,
        text=True,
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
