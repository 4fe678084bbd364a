# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting ends when everything is ready, at the deadline, or as soon as it is clear that it will not become ready."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import DEPLOYMENT, POD
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Forbidden, Unreachable
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.waiting import NotReady, wait_ready
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession

LABELS = {"app": "runner"}


def deployment(available: int = 0) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "runner", "namespace": "gitea", "generation": 1},
        "spec": {"replicas": 1, "selector": {"matchLabels": LABELS}},
        "status": {
            "observedGeneration": 1,
            "replicas": 1,
            "updatedReplicas": 1,
            "availableReplicas": available,
        },
    }


def pod(**status: Any) -> dict[str, Any]:
    metadata = {"name": "runner-1", "namespace": "gitea", "labels": LABELS}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}


def waiting(reason: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": "manifest unknown"}}
    return {"containerStatuses": [{"name": "main", "state": state}]}


def unschedulable(message: str) -> dict[str, Any]:
    return {"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": message}]}


def test_returns_as_soon_as_it_is_ready_and_says_what_it_waits_for() -> None:
    session, clock, lines = FakeSession(deployment()), FakeClock(), list[str]()
    clock.at(7.5, lambda: session.edit(DEPLOYMENT, "runner", "gitea", {"status": {"availableReplicas": 1}}))
    wait_ready(session, [deployment()], clock, 60, lines.append)
    assert clock.monotonic() == 8
    assert lines == ["waiting for Deployment gitea/runner: 1 of 1 updated, 0 available"]


def test_the_deadline_ends_it_with_what_was_seen_last() -> None:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e1", "namespace": "gitea"},
        "involvedObject": {"kind": "Pod", "name": "runner-1"},
        "message": "Readiness probe failed",
    }
    session, clock = FakeSession(deployment(), event), FakeClock()
    with pytest.raises(
        NotReady, match=r"Deployment gitea/runner is not ready after 60 s: 1 of 1 updated, 0 available"
    ) as e:
        wait_ready(session, [deployment()], clock, 60)
    assert clock.monotonic() == 60
    assert e.value.details["waiting"][0]["events"] == ["Pod runner-1: Readiness probe failed"]


def test_an_image_that_is_not_there_ends_it_within_seconds() -> None:
    session, clock = FakeSession(deployment(), pod(**waiting("ErrImagePull"))), FakeClock()
    with pytest.raises(NotReady, match="pod runner-1, container main: ErrImagePull: manifest unknown"):
        wait_ready(session, [deployment()], clock, 600)
    assert clock.monotonic() < 3


@pytest.mark.parametrize(
    ("message", "least", "most"),
    [
        ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.", 5, 8),
        # Room may be made: pods of the version before end.
        ("0/2 nodes are available: 2 Insufficient memory.", 60, 63),
    ],
)
def test_a_node_that_does_not_exist_is_waited_for_less_than_room(message: str, least: int, most: int) -> None:
    session, clock = FakeSession(deployment(), pod(**unschedulable(message))), FakeClock()
    with pytest.raises(NotReady, match="Unschedulable"):
        wait_ready(session, [deployment()], clock, 600)
    assert least <= clock.monotonic() <= most


def test_a_problem_that_goes_away_is_forgotten() -> None:
    message = "0/2 nodes are available: 2 Insufficient memory."
    session, clock = FakeSession(deployment(), pod(**unschedulable(message))), FakeClock()
    clock.at(50, lambda: session.edit(POD, "runner-1", "gitea", {"status": {"conditions": None}}))
    clock.at(55, lambda: session.edit(POD, "runner-1", "gitea", {"status": unschedulable(message)}))
    clock.at(100, lambda: session.edit(DEPLOYMENT, "runner", "gitea", {"status": {"availableReplicas": 1}}))
    wait_ready(session, [deployment()], clock, 600)


def test_an_api_server_that_is_away_is_waited_for() -> None:
    session, clock = FakeSession(deployment(1)), FakeClock()
    session.fail_next("get", Unreachable("no answer"), times=5)
    wait_ready(session, [deployment()], clock, 60)
    assert clock.monotonic() == 5


def test_who_may_not_read_it_is_told_at_once() -> None:
    session, clock = FakeSession(deployment()), FakeClock()
    session.fail_next("get", Forbidden("not you", 403))
    with pytest.raises(Forbidden):
        wait_ready(session, [deployment()], clock, 60)
    assert clock.monotonic() == 0


def test_what_does_not_exist_is_waited_for_and_named() -> None:
    with pytest.raises(NotReady, match="Deployment gitea/runner is not ready after 3 s: it does not exist"):
        wait_ready(FakeSession(), [deployment()], FakeClock(), 3)


def test_a_kind_without_a_rule_is_refused() -> None:
    body = {"apiVersion": "lumen.example/v1", "kind": "Thing", "metadata": {"name": "one"}}
    with pytest.raises(AirgapError, match="no rule for when a Thing is ready"):
        wait_ready(FakeSession(), [body], FakeClock(), 3)


def test_a_secret_that_another_pod_makes_is_waited_for() -> None:
    session, clock = FakeSession(deployment(), pod(**waiting("CreateContainerConfigError"))), FakeClock()
    clock.at(40, lambda: session.edit(POD, "runner-1", "gitea", {"status": {"containerStatuses": None}}))
    clock.at(45, lambda: session.edit(DEPLOYMENT, "runner", "gitea", {"status": {"availableReplicas": 1}}))
    wait_ready(session, [deployment()], clock, 600)
    session = FakeSession(deployment(), pod(**waiting("CreateContainerConfigError")))
    with pytest.raises(NotReady, match="CreateContainerConfigError"):
        wait_ready(session, [deployment()], FakeClock(), 600)


def replica_set(revision: int) -> dict[str, Any]:
    annotations = {"deployment.kubernetes.io/revision": str(revision)}
    labels = {**LABELS, "pod-template-hash": f"hash{revision}"}
    metadata = {"name": f"runner-{revision}", "namespace": "gitea", "labels": labels, "annotations": annotations}
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata}


def test_a_pod_of_the_version_before_that_cannot_start_is_about_to_go() -> None:
    old = pod(**waiting("CrashLoopBackOff"))
    old["metadata"]["labels"] = {**LABELS, "pod-template-hash": "hash9"}
    session, clock = FakeSession(deployment(), replica_set(9), replica_set(10), old), FakeClock()
    clock.at(20, lambda: session.edit(DEPLOYMENT, "runner", "gitea", {"status": {"availableReplicas": 1}}))
    wait_ready(session, [deployment()], clock, 60)
    assert clock.monotonic() == 20


def test_the_last_words_of_a_container_that_ends_are_told() -> None:
    sick = pod(**waiting("CrashLoopBackOff"))
    sick["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"exitCode": 20}}
    session = FakeSession(deployment(), sick)
    session.logs[("runner-1", "main")] = ["starting", "no agent to make a key"]
    with pytest.raises(NotReady, match=r"exit code 20 .*; last words: no agent to make a key") as caught:
        wait_ready(session, [deployment()], FakeClock(), 60)
    assert caught.value.details["waiting"][0]["logs"] == ["starting", "no agent to make a key"]
