# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each verb writes into a Rollout in each state."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.verbs import VerbError, plan, shown
from ansible_collections.lumen.airgap.tests.unit.fixtures.recordings import load

STEPS = [{"setWeight": 20}, {"analysis": {"templates": [{"templateName": "t"}]}}, {"pause": {}}, {"setWeight": 100}]
PAUSED = {"phase": "Paused", "controllerPause": True, "pauseConditions": [{"reason": "CanaryPauseStep"}]}
STABLE = {"stableRS": "new", "phase": "Healthy", "currentStepIndex": 4}
NOW = "2026-01-01T00:00:00Z"


def rollout(
    status: dict[str, Any] | None = None, strategy: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    known = {"observedGeneration": "1", "currentPodHash": "new", "stableRS": "old", "phase": "Progressing"}
    return {
        "metadata": {"name": "api", "generation": 1},
        "spec": {"strategy": strategy or {"canary": {"steps": STEPS}}, **spec},
        "status": {**known, "currentStepIndex": 1, **(status or {})},
    }


def at(index: int, **more: Any) -> dict[str, Any]:
    return rollout({"currentStepIndex": index, **more})


@pytest.mark.parametrize(
    ("verb", "obj", "status", "text"),
    [
        ("promote", at(2, **PAUSED), {"pauseConditions": None}, "ends the pause at step 3/4 pause"),
        ("promote", at(1), {"pauseConditions": None, "currentStepIndex": 2}, "skips step 2/4 analysis"),
        ("promote", at(0), {"pauseConditions": None, "currentStepIndex": 1}, "skips step 1/4 setWeight"),
        ("promote", at(4), {}, "nothing to promote: no step is left"),
        (
            "promote",
            at(2, phase="Paused", controllerPause=True),
            {},
            "it has been promoted already, and the controller",
        ),
        ("promote", at(4, **STABLE), {}, "nothing to promote: new is stable"),
        ("promote", at(1, promoteFull=True), {}, "it is being promoted fully already"),
        ("promote_full", at(1), {"promoteFull": True}, "promotes fully, and skips 3 of 4 steps"),
        ("promote_full", at(1, promoteFull=True), {}, "it is being promoted fully already"),
        ("promote_full", at(4, **STABLE), {}, "nothing to promote: new is stable"),
        ("abort", at(1), {"abort": True}, "aborts new"),
        ("abort", at(0, abort=True, phase="Degraded"), {}, "it is aborted already"),
        ("abort", at(4, **STABLE), {}, "nothing to abort: new is stable"),
        ("retry", at(0, abort=True, phase="Degraded"), {"abort": False}, "tries new again from its first step"),
        ("retry", at(1), {}, "nothing to retry: it is not aborted"),
        ("retry", at(4, **STABLE), {}, "nothing to retry: it is not aborted"),
    ],
)
def test_what_is_written(verb: str, obj: dict[str, Any], status: dict[str, Any], text: str) -> None:
    patch = plan(verb, obj)
    assert (patch.status, patch.spec, patch.changed) == (status, {}, bool(status))
    assert patch.text.startswith(text)


def test_an_abort_of_nothing_leaves_nothing_to_wait_for() -> None:
    assert plan("abort", at(4, **{**STABLE, "phase": "Degraded"})).over
    assert not plan("abort", at(1)).over
    assert not plan("abort", at(0, abort=True, phase="Degraded")).over


def test_what_a_promotion_skips() -> None:
    run = {"canary": {"currentStepAnalysisRunStatus": {"name": "api-new-2-1", "status": "Running"}}}
    assert plan("promote", at(1, **run)).skipped == ({"index": 1, "kind": "analysis", "run": "api-new-2-1"},)
    assert plan("promote", at(2, **PAUSED)).skipped == ()
    assert [(step["index"], step["run"]) for step in plan("promote_full", at(1, **run)).skipped] == [
        (1, "api-new-2-1"),
        (2, ""),
        (3, ""),
    ]


def test_past_an_inconclusive_analysis() -> None:
    run = {"canary": {"currentStepAnalysisRunStatus": {"name": "run", "status": "Inconclusive"}}}
    patch = plan("promote", at(1, **PAUSED, **run))
    assert patch.status == {"pauseConditions": None, "controllerPause": False, "currentStepIndex": 2}
    assert patch.text == "goes on past step 2/4 analysis, which was inconclusive"


def test_paused_by_hand() -> None:
    patch = plan("promote", rollout({"currentStepIndex": 2, **PAUSED}, paused=True))
    assert (patch.status, patch.spec) == ({"pauseConditions": None}, {"paused": False})
    assert patch.unified == {"spec": {"paused": False}, "status": {"pauseConditions": None}}
    assert plan("promote", rollout(STABLE, paused=True)).spec == {"paused": False}


def test_blue_green() -> None:
    strategy = {"blueGreen": {"activeService": "api"}}
    waiting = {**PAUSED, "pauseConditions": [{"reason": "BlueGreenPause"}]}
    assert plan("promote", rollout(waiting, strategy)).status == {"pauseConditions": None}
    assert plan("promote", rollout({"currentStepIndex": None}, strategy)).changed is False


def test_for_one_step_alone() -> None:
    assert plan("promote", at(2, **PAUSED), at_step=2).changed
    done = plan("promote", at(3), at_step=2)
    assert (done.changed, done.text) == (False, "it is past step 3 already")
    assert plan("promote", at(4, **STABLE), at_step=2).changed is False
    with pytest.raises(VerbError, match="it is at step 2 of 4, not at step 3"):
        plan("promote", at(1), at_step=2)
    with pytest.raises(VerbError, match="it has no step with the index 4; it has 4 steps"):
        plan("promote", at(1), at_step=4)


def test_restarted() -> None:
    patch = plan("restart", at(4, **STABLE), restart_at=NOW)
    assert (patch.status, patch.spec) == ({}, {"restartAt": NOW})
    again = rollout(STABLE, restartAt="2026-01-01T01:00:00+01:00")
    assert plan("restart", again, restart_at=NOW).changed is False
    assert plan("restart", again, restart_at="2026-01-01T00:00:01Z").changed is True


@pytest.mark.parametrize("verb", ["promote", "promote_full", "restart"])
def test_what_was_aborted_is_left_alone(verb: str) -> None:
    with pytest.raises(VerbError, match=r"it is aborted, and cannot be \w+: retry it, or have Git go back"):
        plan(verb, at(0, abort=True, phase="Degraded"), restart_at=NOW)


def test_the_diff() -> None:
    obj = at(2, **PAUSED)
    assert shown(obj, plan("promote", obj)) == {"status": {"pauseConditions": PAUSED["pauseConditions"]}}


def test_the_verbs_of_a_recording_are_those_of_the_plugin() -> None:
    """Each verb of the recording, planned from the Rollout just before it."""
    verbs = {
        "12:59:23.023": ("promote", {"pauseConditions": None, "currentStepIndex": 2}),
        "12:59:30.396": ("abort", {"abort": True}),
        "12:59:38.866": ("retry", {"abort": False}),
        "12:59:46.365": ("promote_full", {"promoteFull": True}),
    }
    seen = [each for each in load("rollout-abort-retry-promote") if each.kind == "Rollout"]
    day = seen[0].at - seen[0].at % 86400
    for clock, (verb, status) in verbs.items():
        hours, minutes, seconds = (float(part) for part in clock.split(":"))
        before = [each for each in seen if each.at < day + hours * 3600 + minutes * 60 + seconds - 0.05]
        assert plan(verb, before[-1].object).status == status
