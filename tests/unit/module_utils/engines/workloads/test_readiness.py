# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When an object is ready, for each kind."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.workloads.readiness import has_rule, readiness


def thing(kind: str, spec: dict[str, Any] | None = None, generation: int = 2, **status: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x", "generation": generation}, "spec": spec or {}, "status": status}


def condition(kind: str, status: str, **more: str) -> dict[str, Any]:
    return {"type": kind, "status": status, **more}


READY: list[dict[str, Any]] = [
    thing("Deployment", observedGeneration=2, replicas=1, updatedReplicas=1, availableReplicas=1),
    thing("Deployment", {"replicas": 0}, observedGeneration=2),
    thing("StatefulSet", observedGeneration=2, readyReplicas=1, updatedReplicas=1),
    thing("StatefulSet", {"replicas": 0}, observedGeneration=2, currentRevision="a", updateRevision="a"),
    thing("DaemonSet", observedGeneration=2, desiredNumberScheduled=2, numberAvailable=2, updatedNumberScheduled=2),
    thing(
        "CustomResourceDefinition", conditions=[condition("NamesAccepted", "True"), condition("Established", "True")]
    ),
    thing("Pod", phase="Running", conditions=[condition("Ready", "True")]),
    thing("Namespace", phase="Active"),
]

NOT_READY: list[tuple[dict[str, Any], str]] = [
    # Everything is there, but it is that of the generation before.
    (thing("Deployment", observedGeneration=1, replicas=1, updatedReplicas=1, availableReplicas=1), "has not seen"),
    (thing("Deployment", observedGeneration=2, replicas=2, updatedReplicas=1, availableReplicas=2), "1 of 1 updated"),
    (thing("Deployment", {"replicas": 2}, observedGeneration=2, updatedReplicas=2, availableReplicas=1), "1 available"),
    (
        thing("Deployment", observedGeneration=2, conditions=[condition("ReplicaFailure", "True", message="quota")]),
        "quota",
    ),
    (thing("StatefulSet", observedGeneration=2), "0 of 1 ready"),
    (
        thing("StatefulSet", observedGeneration=2, readyReplicas=1, currentRevision="a", updateRevision="b"),
        "0 updated",
    ),
    (thing("DaemonSet", observedGeneration=2, desiredNumberScheduled=2, numberAvailable=1), "1 available"),
    (thing("DaemonSet"), "has not seen"),
    (thing("CustomResourceDefinition"), "not Established"),
    (thing("Pod", phase="Pending"), "it is Pending"),
    (thing("Namespace", phase="Odd"), "it is Odd"),
]

HOPELESS: list[tuple[dict[str, Any], str]] = [
    (
        thing(
            "Deployment",
            observedGeneration=2,
            conditions=[condition("Progressing", "False", reason="ProgressDeadlineExceeded", message="timed out")],
        ),
        "timed out",
    ),
    (
        thing("CustomResourceDefinition", conditions=[condition("NamesAccepted", "False", message="in use")]),
        "in use",
    ),
    (thing("Pod", phase="Failed"), "Failed"),
    (thing("Namespace", phase="Terminating"), "Terminating"),
]


@pytest.mark.parametrize("obj", READY, ids=lambda obj: obj["kind"])
def test_ready(obj: dict[str, Any]) -> None:
    assert readiness(obj).ready


@pytest.mark.parametrize(("obj", "text"), NOT_READY)
def test_not_ready_yet(obj: dict[str, Any], text: str) -> None:
    found = readiness(obj)
    assert (found.ready, found.hopeless) == (False, False)
    assert text in found.message


@pytest.mark.parametrize(("obj", "text"), HOPELESS)
def test_hopeless(obj: dict[str, Any], text: str) -> None:
    found = readiness(obj)
    assert (found.ready, found.hopeless) == (False, True)
    assert text in found.message


def test_kinds_without_a_rule() -> None:
    assert not has_rule("Thing")
    assert has_rule("Deployment")
