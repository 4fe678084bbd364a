# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The status of Applications: made up where a sentence is looked for, recorded where the order of writes matters."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.argo import status
from ansible_collections.lumen.airgap.plugins.module_utils.engines.argo.status import (
    DONE,
    FAILED,
    WAITING,
    Live,
    Resource,
)
from ansible_collections.lumen.airgap.tests.unit.fixtures import recordings

COMMIT, OLD = "b7dec754" + "0" * 32, "eebc8881" + "0" * 32
CRD = Resource("apiextensions.k8s.io", "CustomResourceDefinition", "", "rollouts.argoproj.io", "OutOfSync", False)
ROLLOUT = Resource("argoproj.io", "Rollout", "lumen", "lumen-api", "Synced", False)
NO_HUMAN = Resource("apps", "Deployment", "lumen", "web", "Synced", False)


def application(**status: Any) -> dict[str, Any]:
    operation = {
        "phase": "Succeeded",
        "message": "successfully synced (all tasks run)",
        "operation": {"sync": {"revision": COMMIT}},
        "syncResult": {"revision": COMMIT},
    }
    base = {
        "sync": {"status": "Synced", "revision": COMMIT},
        "health": {"status": "Healthy"},
        "operationState": operation,
    }
    spec = {"syncPolicy": {"automated": {"selfHeal": True}}}
    return {"metadata": {"name": "lumen-app"}, "spec": spec, "status": {**base, **status}}


def operation(phase: str, revision: str = COMMIT, **more: Any) -> dict[str, Any]:
    return {"phase": phase, "operation": {"sync": {"revision": revision}}, **more}


def judged(item: dict[str, Any], *lives: Live, **options: Any) -> status.Verdict:
    return status.judge(status.read(item), lives, **options)


def test_synced_and_healthy_at_the_commit() -> None:
    for revision in (None, COMMIT, COMMIT[:8]):
        assert judged(application(), Live(ROLLOUT, "Healthy", ""), revision=revision) == (DONE, ())


def test_one_that_nobody_has_looked_at_yet() -> None:
    verdict = judged({"metadata": {"name": "new"}, "spec": {}})
    assert verdict.state == WAITING


def test_what_was_asked_for_is_waited_for() -> None:
    refreshing = application()
    refreshing["metadata"]["annotations"] = {"argocd.argoproj.io/refresh": "normal"}
    requested = {**application(operationState=None), "operation": {"sync": {"revision": COMMIT}}}
    running = application(operationState=operation("Running"))
    ending = application(operationState=operation("Terminating"))
    for item in (refreshing, requested, running, ending):
        assert judged(item).state == WAITING


def test_another_commit_is_not_the_wanted_one() -> None:
    verdict = judged(application(), revision=OLD)
    assert verdict == (WAITING, ("Argo CD has compared with b7dec754, not with eebc8881",))


def test_a_healthy_application_waits_for_its_rollout() -> None:
    """The Application speaks of the generation before for a moment; its Rollout says so."""
    behind = status.live_of(ROLLOUT, rollout("Healthy", observed="3"))
    assert judged(application(), behind).state == WAITING
    assert judged(application(), behind, healthy=False) == (DONE, ())


def rollout(phase: str, message: str = "", observed: str = "4", **more: Any) -> dict[str, Any]:
    return {
        "kind": "Rollout",
        "metadata": {"name": "lumen-api", "generation": 4},
        "spec": {"strategy": {"canary": {"steps": [{"setWeight": 20}, {"pause": {}}, {"setWeight": 100}]}}},
        "status": {
            "observedGeneration": observed,
            "phase": phase,
            "message": message,
            "currentPodHash": "b",
            "stableRS": "b",
            **more,
        },
    }


def test_paused_and_degraded_are_told_apart() -> None:
    paused = status.live_of(ROLLOUT, rollout("Paused", "CanaryPauseStep", currentStepIndex=1))
    assert paused == (ROLLOUT, "Suspended", "paused at step 2 of 3 (CanaryPauseStep), waiting to be promoted")
    suspended = application(health={"status": "Suspended"})
    assert judged(suspended, paused).state == WAITING
    assert judged(suspended, paused, suspended=True).state == DONE

    aborted = status.live_of(ROLLOUT, rollout("Degraded", "RolloutAborted: Rollout aborted update to revision 3"))
    verdict = judged(application(health={"status": "Degraded"}), aborted, suspended=True)
    assert verdict == (
        FAILED,
        ("Rollout lumen/lumen-api is Degraded: RolloutAborted: Rollout aborted update to revision 3",),
    )


def test_degraded_of_before_is_not_believed() -> None:
    """Health is of the revision before for some 20 ms after a sync."""
    healthy = status.live_of(ROLLOUT, rollout("Healthy"))
    assert healthy == (ROLLOUT, "Healthy", "")
    assert judged(application(health={"status": "Degraded"}), healthy).state == WAITING
    assert judged(application(health={"status": "Degraded"})) == (WAITING, ("health is Degraded",))


def test_a_rollout_is_healthy_once_its_new_pods_are_the_stable_ones() -> None:
    live = status.live_of(ROLLOUT, rollout("Healthy", stableRS="a"))
    assert live.health == "Progressing"
    assert "b are not the stable ones" in live.message


@pytest.mark.parametrize(
    ("found", "health"),
    [
        ({"observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": 2}, "Progressing"),
        ({"observedGeneration": 2, "updatedReplicas": 1, "availableReplicas": 2}, "Progressing"),
        ({"observedGeneration": 2, "updatedReplicas": 2}, "Progressing"),
        ({"observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 2}, "Healthy"),
        (
            {
                "observedGeneration": 2,
                "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}],
            },
            "Degraded",
        ),
        (None, "Missing"),
    ],
)
def test_a_deployment(found: dict[str, Any] | None, health: str) -> None:
    item = {"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": found}
    assert status.live_of(NO_HUMAN, item if found is not None else None).health == health


def test_a_daemon_set() -> None:
    resource = NO_HUMAN._replace(kind="DaemonSet")
    seen = {"desiredNumberScheduled": 2, "numberAvailable": 1, "updatedNumberScheduled": 2}
    live = status.live_of(resource, {"kind": "DaemonSet", "metadata": {}, "status": seen})
    assert live == (resource, "Progressing", "1 of 2 pods are available, 2 of them updated")


def test_a_sync_that_was_given_up_says_what_failed() -> None:
    failed = {"group": "apps", "kind": "Deployment", "namespace": "lumen", "name": "web", "status": "SyncFailed"}
    item = application(
        sync={"status": "OutOfSync", "revision": COMMIT},
        operationState=operation(
            "Failed",
            message="one or more objects failed to apply",
            syncResult={"revision": COMMIT, "resources": [{**failed, "message": "spec.replicas:\n must be >= 0"}]},
        ),
        resources=[{**failed, "status": "OutOfSync"}],
    )
    verdict = judged(item)
    assert verdict.state == FAILED
    assert verdict.reasons == (
        "the sync of b7dec754 ended in Failed: one or more objects failed to apply",
        "Deployment lumen/web: spec.replicas: must be >= 0",
        "Deployment lumen/web is OutOfSync",
    )


def test_a_sync_that_is_tried_again_keeps_the_wanted_commit_waiting() -> None:
    message = "one or more objects failed to apply, reason: no matches for kind. Retrying attempt #2 at 1:33PM."
    item = application(
        sync={"status": "OutOfSync", "revision": OLD},
        operationState=operation("Running", OLD, retryCount=2, message=message),
    )
    verdict = judged(item, revision=COMMIT)
    assert verdict.state == WAITING
    assert verdict.reasons[0].startswith("the sync of eebc8881 fails and is tried again (2 so far): one or more")
    assert "SkipDryRunOnMissingResource=true" in verdict.reasons[1]
    stale = status.stale_operation(status.read(item), COMMIT)
    assert stale is not None
    assert stale.revision == OLD
    assert status.stale_operation(status.read(item), OLD) is None
    assert status.stale_operation(status.read(item), None) is None
    once = application(operationState=operation("Running", OLD))
    assert status.stale_operation(status.read(once), COMMIT) is None, "it may still succeed"


def test_only_definitions_differ_after_a_sync() -> None:
    item = application(
        sync={"status": "OutOfSync", "revision": COMMIT},
        resources=[{"group": CRD.group, "kind": CRD.kind, "name": CRD.name, "status": "OutOfSync"}],
    )
    reasons = judged(item).reasons
    assert reasons[0] == "CustomResourceDefinition rollouts.argoproj.io is OutOfSync"
    assert "ignoreDifferences" in reasons[1]


def test_what_left_git_and_is_not_pruned() -> None:
    left = {"kind": "ConfigMap", "namespace": "lumen", "name": "old", "status": "OutOfSync", "requiresPruning": True}
    item = application(sync={"status": "OutOfSync", "revision": COMMIT}, resources=[left])
    assert judged(item).reasons == ("ConfigMap lumen/old is OutOfSync (it is not in Git any more, and pruning is off)",)


def test_without_automated_sync_nothing_happens_by_itself() -> None:
    item = application(sync={"status": "OutOfSync", "revision": COMMIT}, operationState=None)
    item["spec"] = {}
    verdict = judged(item)
    assert verdict.state == FAILED
    assert verdict.reasons == ("the Application has no automated sync, and nobody has asked for one",)
    item["spec"] = {"syncPolicy": {"automated": {"enabled": False}}}
    assert judged(item).state == FAILED


def test_conditions_come_first_and_warnings_are_left_out() -> None:
    conditions = [
        {"type": "OrphanedResourceWarning", "message": "3 orphaned"},
        {"type": "ComparisonError", "message": "Failed to load target state:\n authentication required"},
    ]
    item = application(sync={"status": "Unknown"}, conditions=conditions)
    verdict = judged(item, revision=COMMIT)
    assert verdict.state == WAITING
    assert verdict.reasons == (
        "ComparisonError: Failed to load target state: authentication required",
        "Argo CD has compared with nothing, not with b7dec754",
    )
    assert status.describe(status.read(item)) == "Unknown, Healthy"


# ---- the recording ----

PUSHES = [
    ("13:28:33.331", "b7dec754", "13:29:22.126", DONE),
    ("13:30:06.148", "e8fc8cb8", "13:30:47.560", FAILED),
    ("13:32:56.777", "4b565c1c", "13:32:59.851", DONE),
    ("13:33:28.888", "aae7f17a", None, WAITING),
    ("13:33:45.687", "0c12b5e2", "13:33:48.561", DONE),
    ("13:34:19.735", "a81f546b", "13:34:38.219", FAILED),
    ("13:35:25.989", "34878dd4", "13:36:09.462", FAILED),
    ("13:37:03.948", "63c5aab4", "13:37:23.840", DONE),
]


def followed(since: str, revision: str, until: str) -> list[tuple[str, str]]:
    """The verdict at every event from ``since`` to ``until``, as somebody would have reached it who waits."""
    seen: dict[str, dict[str, Any]] = {}
    verdicts = []
    for event in recordings.load("argocd-bumps-and-reverts"):
        seen[event.kind] = event.object
        at = recordings_time(event.at)
        if since <= at < until and {"Application", "Rollout"} <= seen.keys():
            view = status.read(seen["Application"])
            resources = [each for each in view.resources if status.is_workload(each)]
            lives = [status.live_of(each, seen["Rollout"]) for each in resources]
            verdicts.append((at, status.judge(view, lives, revision).state))
    return verdicts


def recordings_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:12]


@pytest.mark.parametrize(("since", "revision", "at", "state"), PUSHES, ids=[push[1] for push in PUSHES])
def test_pushes_as_recorded(since: str, revision: str, at: str | None, state: str) -> None:
    """Nothing is said too early, and it is said at the first event that shows it."""
    later = [push[0] for push in PUSHES if push[0] > since]
    verdicts = followed(since, revision, min([*later, "13:43:00"]))
    first = next(((when, verdict) for when, verdict in verdicts if verdict != WAITING), (None, WAITING))
    assert first == (at, state)


def test_a_pause_is_said_while_it_lasts() -> None:
    seen: dict[str, Any] = {}
    said = set()
    for event in recordings.load("argocd-bumps-and-reverts"):
        seen[event.kind] = copy.deepcopy(event.object)
        if "Rollout" in seen and "Application" in seen:
            view = status.read(seen["Application"])
            lives = [status.live_of(each, seen["Rollout"]) for each in view.resources if status.is_workload(each)]
            said |= {live.message for live in lives if live.health == "Suspended"}
            if view.health == "Suspended" and any(live.health == "Suspended" for live in lives):
                assert status.judge(view, lives, "63c5aab4", suspended=True).state == DONE
    assert said == {
        "paused at step 2 of 5 (CanaryPauseStep), waiting to be promoted",
        "paused at step 4 of 5 (CanaryPauseStep), waiting to be promoted",
    }
