# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A release through Git that is killed in each of its phases and run again: it ends as if nobody had killed it."""

from __future__ import annotations

import pytest

from .release_stage import CHECK, Stage, site, stage

__all__ = ["site", "stage"]


BEFORE = [
    r"TASK \[Take the release",
    r"TASK \[Examine what the release stands on",
    r"TASK \[Ask Git which commit the version is",
]
BUMP = [
    r"TASK \[Write down that the image is there",
    r"TASK \[Write down what Git says",
    r"TASK \[Have Argo CD bring it",
]
BACK = [r"TASK \[Write down that Git is back", r"TASK \[Have Argo CD bring back"]
END = [r"TASK \[Write the evidence", r"TASK \[Give the release back"]


@pytest.mark.parametrize(
    ("outcome", "phases"),
    [("promoted", [*BEFORE, *BUMP, CHECK, *END]), ("rolled_back", [CHECK, *BACK, *END])],
    ids=["good", "bad"],
)
def test_killed_in_each_phase_and_run_again(stage: Stage, outcome: str, phases: list[str]) -> None:
    """One release, killed again and again: every second time its workers are left to find out."""
    stage.site.verdict(stage.cluster, good=outcome == "promoted")
    reached = []
    for number, phase in enumerate(phases):
        run = stage.release()
        if run.until(phase):
            run.kill(alone=number % 2 == 1)
            reached.append(phase)
        elif CHECK not in reached:
            pytest.fail(f"it has ended before {phase}:\n{run.text[-6000:]}")
    evidence = stage.ended(stage.release(), outcome)
    assert reached == phases
    assert set(evidence["git"]) == ({"bump"} if outcome == "promoted" else {"bump", "revert"})
    assert any("taken up by the run" in entry["text"] for entry in evidence["timeline"]), evidence["timeline"]
