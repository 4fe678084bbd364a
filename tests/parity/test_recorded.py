# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our answers are those that Argo Rollouts' own code once gave; ``compare.py --record`` wrote them down."""

from __future__ import annotations

import pytest
from compare import KINDS, ask_ours, differences, read_recorded

ARGO = {"id": "c", "phase": "Failed", "message": "failed (1) > failureLimit (0)", "finishedAt": 0.0}


@pytest.mark.parametrize("kind", KINDS)
def test_ours_equal_the_recorded_answers(kind: str) -> None:
    recorded = list(read_recorded(kind))
    assert len(recorded) == KINDS[kind].recorded
    cases, argo = zip(*recorded, strict=True)
    assert [str(found) for found in differences(cases, argo, ask_ours(kind, list(cases)))] == []


def test_recorded_verdicts_are_of_every_phase() -> None:
    phases = {answer["phase"] for kind in ("conditions", "runs") for _case, answer in read_recorded(kind)}
    assert phases == {"Successful", "Failed", "Error", "Inconclusive"}


@pytest.mark.parametrize(
    ("changed", "differs"),
    [({}, False), ({"message": "in other words"}, False), ({"phase": "Error"}, True), ({"finishedAt": None}, True)],
)
def test_what_is_a_difference(changed: dict[str, object], differs: bool) -> None:
    assert bool(differences([{"id": "c"}], [ARGO], [{**ARGO, **changed}])) is differs


def test_a_missing_answer_is_no_agreement() -> None:
    with pytest.raises(ValueError, match="shorter"):
        differences([{"id": "c"}], [ARGO], [])
