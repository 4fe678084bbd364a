# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the recordings do not hold: pods that cannot start, more than ten measurements, stalls, superseding."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.follow import Follower, show_value

LABEL = "rollouts-pod-template-hash"
STEPS = [{"setWeight": 20}, {"pause": {}}, {"analysis": {"templates": [{"templateName": "t"}]}}, {"setWeight": 100}]


def rollout(version: int = 1, **status: Any) -> dict[str, Any]:
    base = {"observedGeneration": "2", "currentPodHash": "new", "stableRS": "old", "currentStepIndex": 0}
    return {
        "metadata": {
            "name": "api",
            "uid": "ro",
            "generation": 2,
            "resourceVersion": str(version),
            "annotations": {"rollout.argoproj.io/revision": "2"},
        },
        "spec": {"replicas": 2, "strategy": {"canary": {"steps": STEPS}}},
        "status": {**base, "phase": "Progressing", **status},
    }


def pod(reason: str = "", message: str = "", **extra: Any) -> dict[str, Any]:
    waiting = {"waiting": {"reason": reason, "message": message}} if reason else {"running": {}}
    return {
        "metadata": {"name": "api-new-1", "uid": "p1", "labels": {LABEL: "new"}, **extra.pop("metadata", {})},
        "status": {"containerStatuses": [{"name": "api", "state": waiting, **extra}]},
    }


def following() -> Follower:
    follower = Follower("api")
    follower.see("Rollout", rollout(), 100.0)
    return follower


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ErrImagePull", "failed to resolve reference: manifest unknown: not found"),
        ("ImagePullBackOff", 'Back-off pulling image "api:v9"'),
        ("CrashLoopBackOff", "back-off 10s restarting failed container"),
        ("CreateContainerConfigError", 'configmap "settings" not found'),
        ("InvalidImageName", "couldn't parse image name"),
    ],
)
def test_a_pod_that_cannot_start_counts_at_once(reason: str, message: str) -> None:
    follower = following()
    entries = follower.see("Pod", pod(reason, message), 101.0)
    assert [entry.kind for entry in entries] == ["warning"]
    problem = follower.problem(101.0)
    assert problem is not None
    assert str(problem) == f"pod api-new-1, container api: {reason}: {message}"


def test_a_silent_registry_gets_ten_seconds() -> None:
    follower = following()
    follower.see("Pod", pod("ErrImagePull", "dial tcp 192.0.2.1:5000: connect: connection refused"), 101.0)
    assert follower.problem(1.0) is None
    assert follower.problem(10.0) is None
    assert follower.problem(11.0) is not None
    follower.see("Pod", pod(metadata={"resourceVersion": "2"}), 106.0)
    assert follower.problem(12.0) is None


def test_the_events_answer_is_added_to_a_back_off() -> None:
    follower = following()
    event = {
        "metadata": {"uid": "e"},
        "type": "Warning",
        "involvedObject": {"kind": "Pod", "name": "api-new-1"},
        "message": 'Failed to pull image "api:v9": not found',
    }
    follower.see("Event", event, 101.0)
    follower.see("Pod", pod("ImagePullBackOff", "Back-off pulling image"), 102.0)
    assert "not found" in str(follower.problem(102.0))
    assert follower.warnings() == ['api-new-1: Failed to pull image "api:v9": not found']


def test_crash_tells_the_exit_code() -> None:
    follower = following()
    crashed = pod("CrashLoopBackOff", "back-off", lastState={"terminated": {"exitCode": 2, "reason": "Error"}})
    follower.see("Pod", crashed, 101.0)
    assert "exit code 2 (Error)" in str(follower.problem(101.0))


def test_unschedulable_and_replica_failure_have_patience() -> None:
    follower = following()
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}
    unschedulable = pod()
    unschedulable["status"] = {"conditions": [condition]}
    follower.see("Pod", unschedulable, 101.0)
    assert follower.problem(102.0) is None
    assert follower.problem(161.0) is None
    assert "Unschedulable: 0/2 nodes" in str(follower.problem(162.0))
    follower = following()
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    replica_set = {
        "metadata": {"name": "api-new", "uid": "r", "labels": {LABEL: "new"}},
        "status": {"conditions": [failure]},
    }
    follower.see("ReplicaSet", replica_set, 101.0)
    assert follower.problem(102.0) is None
    assert "FailedCreate: exceeded quota" in str(follower.problem(162.0))


def test_a_problem_that_went_away_and_comes_back_is_a_new_one() -> None:
    follower = following()
    blip = "dial tcp 192.0.2.1:5000: connect: connection refused"
    follower.see("Pod", pod("ErrImagePull", blip), 101.0)
    assert follower.problem(1.0) is None
    follower.see("Pod", pod(metadata={"resourceVersion": "2"}), 102.0)
    assert follower.problem(2.0) is None
    follower.see("Pod", pod("ErrImagePull", blip, metadata={"resourceVersion": "3"}), 103.0)
    assert follower.problem(12.0) is None
    assert follower.problem(22.0) is not None


def test_steps_that_cannot_be_followed_are_bad_and_the_abort_is_still_seen() -> None:
    follower = following()
    steps = {"strategy": {"canary": {"steps": [{"setCanaryScale": {"replicas": 1}}]}}}
    changed = rollout()
    changed["spec"] = {**changed["spec"], **steps}
    changed["metadata"] = {**changed["metadata"], "resourceVersion": "900"}
    follower.see("Rollout", changed, 101.0)
    assert follower.state().decision == "bad"
    assert "setCanaryScale" in follower.state().reason
    gone = {**changed, "metadata": {**changed["metadata"], "resourceVersion": "901"}}
    gone["status"] = {**changed["status"], "abort": True, "phase": "Degraded"}
    follower.see("Rollout", gone, 102.0)
    assert follower.state().phase == "aborted"


def test_pods_of_others_and_pods_on_their_way_out_do_not_count() -> None:
    follower = following()
    foreign = pod("ErrImagePull", "not found")
    foreign["metadata"]["labels"] = {LABEL: "old"}
    assert follower.see("Pod", foreign, 101.0) == []
    assert follower.problem(200.0) is None
    leaving = pod("ErrImagePull", "not found", metadata={"deletionTimestamp": "now", "uid": "p2"})
    follower.see("Pod", leaving, 102.0)
    assert follower.problem(200.0) is None
    gone = pod("ErrImagePull", "not found", metadata={"uid": "p3", "resourceVersion": "1"})
    follower.see("Pod", gone, 103.0)
    assert follower.problem(103.0) is not None
    follower.see("Pod", gone, 104.0, deleted=True)
    assert follower.problem(200.0) is None


def test_pods_line_changes_with_the_replica_sets() -> None:
    follower = following()

    def replica_set(of: str, ready: int, wanted: int, version: int) -> dict[str, Any]:
        return {
            "metadata": {"name": f"api-{of}", "uid": of, "resourceVersion": str(version), "labels": {LABEL: of}},
            "spec": {"replicas": wanted},
            "status": {"readyReplicas": ready},
        }

    texts = [
        entry.text
        for each in (replica_set("old", 2, 2, 1), replica_set("new", 0, 1, 2), replica_set("new", 1, 1, 3))
        for entry in follower.see("ReplicaSet", each, 101.0)
    ]
    assert texts == [  # nothing before both were seen
        "pods ready: canary 0/1, stable 2/2",
        "pods ready: canary 1/1, stable 2/2",
    ]


def run(first: int, last: int, version: int, phase: str = "Running") -> dict[str, Any]:
    kept = [
        {"phase": "Successful", "finishedAt": f"2026-11-23T12:00:{n:02d}Z", "value": "[1]"} for n in range(first, last)
    ]
    return {
        "metadata": {
            "name": "api-new-2-2",
            "uid": "ar",
            "resourceVersion": str(version),
            "labels": {LABEL: "new", "step-index": "2"},
            "annotations": {"rollout.argoproj.io/revision": "2"},
            "ownerReferences": [{"kind": "Rollout", "name": "api"}],
        },
        "spec": {"metrics": [{"name": "m", "count": 30}]},
        "status": {"phase": phase, "metricResults": [{"name": "m", "count": last, "measurements": kept}]},
    }


def test_measurements_beyond_the_ten_that_are_kept_are_remembered() -> None:
    follower = following()
    for last in range(1, 26):
        follower.see("AnalysisRun", run(max(0, last - 10), last, last), 100.0 + last)
    change = follower.change
    assert change is not None
    assert [measurement.ordinal for measurement in change.measurements] == list(range(25))


def test_an_older_version_of_an_object_changes_nothing() -> None:
    follower = following()
    follower.see("Rollout", rollout(5, currentStepIndex=1), 101.0)
    assert follower.see("Rollout", rollout(4, currentStepIndex=0), 102.0) == []
    assert follower.state().step is not None
    assert follower.state().step.index == 1  # type: ignore[union-attr]


def test_inconclusive_stalled_and_invalid_are_bad() -> None:
    follower = following()
    pauses = [{"reason": "InconclusiveAnalysisRun"}]
    follower.see("Rollout", rollout(2, phase="Paused", pauseConditions=pauses), 101.0)
    assert follower.state()[4:6] == ("inconclusive", "the analysis was inconclusive")
    follower.see("Rollout", rollout(3, phase="Degraded", message="ProgressDeadlineExceeded: no progress"), 102.0)
    assert follower.state()[4:6] == ("bad", "ProgressDeadlineExceeded: no progress")


def test_a_pause_that_is_being_resumed_asks_no_more() -> None:
    follower = following()
    pauses = [{"reason": "CanaryPauseStep"}]
    follower.see("Rollout", rollout(2, phase="Paused", currentStepIndex=1, pauseConditions=pauses), 101.0)
    assert follower.state().decision == "pause"
    follower.see("Rollout", rollout(3, phase="Paused", currentStepIndex=1, controllerPause=True), 102.0)
    assert follower.state()[:1] + follower.state()[4:5] == ("progressing", "")


def test_a_target_that_is_gone_was_superseded() -> None:
    follower = Follower("api", target="gone")
    entries = follower.see("Rollout", rollout(), 100.0)
    assert [entry.kind for entry in entries][:2] == ["superseded", "observed"]


def test_first_deployment_is_promoted_without_steps() -> None:
    follower = Follower("api")
    follower.see("Rollout", rollout(1, stableRS="", currentStepIndex=4), 100.0)
    follower.see("Rollout", rollout(2, stableRS="new", currentStepIndex=4, phase="Healthy"), 103.0)
    assert follower.state().phase == "promoted"


def test_nothing_seen_is_unknown_and_an_unobserved_spec_waits() -> None:
    follower = Follower("api")
    assert follower.state().phase == "unknown"
    follower.see("Rollout", rollout(1, observedGeneration="1", phase="Healthy"), 100.0)
    assert follower.state().phase == "waiting"
    other = rollout()
    other["metadata"].update(name="other", uid="other")
    assert follower.see("Rollout", other, 101.0) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [("[0.98224]", "0.9822"), ("[0.5,NaN]", "0.5, nan"), ("[]", "no value"), (None, ""), ("abc", "abc"), ("1", "1")],
)
def test_values_to_read(text: str | None, shown: str) -> None:
    assert show_value(text) == shown


def test_the_share_of_a_step_that_nobody_saw_and_of_one_that_was_aborted() -> None:
    follower = Follower("api")
    follower.see("Rollout", rollout(1, currentStepIndex=1, updatedReplicas=1, replicas=3), 100.0)
    gone = rollout(2, currentStepIndex=0, updatedReplicas=0, replicas=2, abort=True, phase="Degraded")
    follower.see("Rollout", gone, 101.0)
    assert follower.change is not None
    told = [(each.step.kind, each.ended_by, each.counts and each.counts.weight) for each in follower.change.steps]
    assert told == [("setWeight", "unseen", 33), ("pause", "aborted", 33)]


def made(history: str = "") -> dict[str, Any]:
    notes = {
        "rollout.argoproj.io/revision": "2",
        **({"rollout.argoproj.io/revision-history": history} if history else {}),
    }
    labels = {"rollouts-pod-template-hash": "new"}
    meta = {"name": "api-new", "uid": "rs", "annotations": notes, "labels": labels}
    return {"metadata": {**meta, "creationTimestamp": "1970-01-01T00:01:00Z"}, "spec": {"replicas": 1}}


@pytest.mark.parametrize(("history", "began"), [("", 60.0), ("1", None)])
def test_the_first_step_was_over_before_anybody_looked(history: str, began: float | None) -> None:
    follower = Follower("api")
    paused = [{"reason": "CanaryPauseStep", "startTime": "1970-01-01T00:01:30Z"}]
    follower.see("Rollout", rollout(1, currentStepIndex=1, phase="Paused", pauseConditions=paused), 100.0)
    follower.see("ReplicaSet", made(history), 101.0)
    assert follower.change is not None
    first, second = follower.times(follower.change)
    assert first == (began, 90.0)
    assert second == (90.0, None)  # as the Rollout says of its pause
    follower.change.attempt = 2
    assert follower.times(follower.change) == [(None, None), (100.0, None)]  # as they were seen


def test_an_analysis_that_is_taken_up_began_with_its_run() -> None:
    """Not after its first measurements, when somebody began to look."""
    follower = Follower("api")
    follower.see("Rollout", rollout(1, currentStepIndex=2), 100.0)
    begun = run(0, 1, 1)
    begun["metadata"]["creationTimestamp"] = "1970-01-01T00:01:30Z"
    follower.see("AnalysisRun", begun, 100.0)
    assert follower.change is not None
    assert follower.times(follower.change)[2] == (90.0, None)
    follower.see("Rollout", rollout(2, currentStepIndex=3), 120.0)
    assert follower.times(follower.change)[2:] == [(90.0, 120.0), (120.0, None)]


@pytest.mark.parametrize(
    ("first", "over", "cut_short"),
    [(0, 130.0, False), (0, 110.0, True), (1, 110.0, False)],
    ids=["whole", "promoted", "its beginning was not seen"],
)
def test_a_pause_that_did_not_last_was_promoted(first: int, over: float, cut_short: bool) -> None:
    def at_step(version: int, index: int, **status: Any) -> dict[str, Any]:
        found = rollout(version, currentStepIndex=index, **status)
        found["spec"]["strategy"]["canary"]["steps"] = [{"setWeight": 20}, {"pause": {"duration": 30}}, STEPS[2]]
        return found

    follower = Follower("api")
    follower.see("Rollout", at_step(1, first), 99.0)
    follower.see("Rollout", at_step(2, 1, phase="Paused", pauseConditions=[{"reason": "CanaryPauseStep"}]), 100.0)
    follower.see("Rollout", at_step(3, 2), over)
    assert follower.change is not None
    pause = follower.change.steps[1]
    assert (pause.step.kind, follower.pushed(pause)) == ("pause", cut_short)
