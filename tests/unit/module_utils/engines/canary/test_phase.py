# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a Rollout's phase may be believed."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.phase import client_phase, hopeless, judge
from ansible_collections.lumen.airgap.tests.unit.fixtures.recordings import NAMES, load


def rollouts(name: str) -> list[dict[str, Any]]:
    return [each.object for each in load(name) if each.kind == "Rollout"]


def rollout(status: dict[str, Any], generation: int = 3, **spec: Any) -> dict[str, Any]:
    known = {"observedGeneration": "3", "phase": "Healthy", "currentPodHash": "new", "stableRS": "new"}
    meta = {"name": "api", "generation": generation}
    return {"metadata": meta, "spec": {"strategy": {"canary": {}}, **spec}, "status": {**known, **status}}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_true_before_the_generation_is_observed(name: str) -> None:
    behind = 0
    for each in rollouts(name):
        if each["status"]["observedGeneration"] != str(each["metadata"]["generation"]):
            behind += 1
            assert judge(each)[:2] == (False, frozenset())
    assert behind or name == "controller-killed"


@pytest.mark.parametrize("name", NAMES)
def test_healthy_is_of_the_newest_template_alone(name: str) -> None:
    healthy = [each["status"] for each in rollouts(name) if "Healthy" in judge(each).ends]
    assert healthy or name == "controller-killed"
    assert all(status["currentPodHash"] == status["stableRS"] for status in healthy)


def test_the_verbs_of_a_recording() -> None:
    """Between a verb and the controller's reaction nothing is true."""
    told: list[str] = []
    for each in rollouts("rollout-abort-retry-promote"):
        found = judge(each)
        said = ", ".join(sorted(found.ends)) if found.settled else found.why.partition(" (")[0]
        if not told or told[-1] != said:
            told.append(said)
    retried = "the controller has not reacted to the retry yet"
    assert told[:7] == [
        "Degraded, aborted",
        retried,
        "Progressing",
        "the controller has not reacted to the abort yet",
        "Degraded, aborted",
        retried,
        "Progressing",
    ]
    assert "Healthy, promoted" in told


@pytest.mark.parametrize(
    ("obj", "ends"),
    [
        (rollout({}), {"Healthy", "promoted"}),
        (rollout({}, generation=4), set()),
        (rollout({"observedGeneration": "58b949649c"}), set()),
        (rollout({"currentPodHash": "newer"}), set()),
        (rollout({"phase": "Paused", "pauseConditions": [{"reason": "CanaryPauseStep"}]}), {"Paused"}),
        (rollout({"phase": "Paused", "controllerPause": True}), set()),
        (rollout({"phase": "Paused", "promoteFull": True}), set()),
        (rollout({"phase": "Degraded", "message": "ProgressDeadlineExceeded: late"}), {"Degraded"}),
        (rollout({"phase": "Degraded", "message": "RolloutAborted: so"}), set()),
        (rollout({"phase": "Degraded", "message": "RolloutAborted: so", "abort": True}), {"Degraded", "aborted"}),
        (rollout({"phase": "Paused", "abort": True, "currentPodHash": "newer"}), set()),
    ],
)
def test_what_has_come_true(obj: dict[str, Any], ends: set[str]) -> None:
    found = judge(obj)
    assert found.ends == ends
    assert found.settled is bool(ends) or not found.settled or obj["status"]["currentPodHash"] == "newer"


def test_a_template_from_elsewhere_is_observed_too() -> None:
    obj = rollout({"workloadObservedGeneration": "1"}, workloadRef={"name": "api"})
    obj["metadata"]["annotations"] = {"rollout.argoproj.io/workload-generation": "2"}
    assert judge(obj).settled is False
    assert "reference workload" in client_phase(obj).message


@pytest.mark.parametrize(
    ("ends", "wanted", "vain"),
    [
        ({"aborted", "Degraded"}, {"promoted"}, True),
        ({"aborted", "Degraded"}, {"Paused"}, True),
        ({"aborted", "Degraded"}, {"Healthy"}, False),
        ({"aborted", "Degraded"}, {"aborted"}, False),
        ({"Progressing"}, {"promoted"}, False),
    ],
)
def test_what_cannot_come_any_more(ends: set[str], wanted: set[str], vain: bool) -> None:
    assert hopeless(ends, wanted) is vain
