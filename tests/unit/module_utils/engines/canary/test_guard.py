# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures in a row within an AnalysisRun of the controller."""

from __future__ import annotations

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.guard import tripped
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.objects import Measurement

PHASES = {"S": "Successful", "F": "Failed", "I": "Inconclusive", "E": "Error"}


def measured(letters: str, metric: str = "m", dry_run: bool = False) -> list[Measurement]:
    return [
        Measurement("run-1", metric, ordinal, "2026-01-01T00:00:00Z", PHASES[letter], "[1]", "", "9", dry_run)
        for ordinal, letter in enumerate(letters)
    ]


@pytest.mark.parametrize(
    ("letters", "limit", "trips"),
    [
        ("FFF", 3, True),
        ("FF", 3, False),
        ("FSFF", 3, False),
        ("FIFF", 3, False),
        ("FEFEEF", 3, True),  # the check that failed to measure is taken again
        ("EEEE", 3, False),
        ("SSFFFS", 3, True),
        ("F", 1, True),
        ("FFF", 0, False),
        ("", 1, False),
    ],
)
def test_a_row(letters: str, limit: int, trips: bool) -> None:
    assert bool(tripped(measured(letters), limit)) is trips


def test_rows_are_of_one_metric_each_and_dry_runs_do_not_count() -> None:
    assert not tripped([*measured("FF", "a"), *measured("FF", "b")], 3)
    assert not tripped(measured("FFFF", dry_run=True), 3)
    assert "of run-1 assessed Failed due to consecutiveFailures (3)" in tripped(list(reversed(measured("FFF"))), 3)
