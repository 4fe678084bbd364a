# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts as a healthy cluster gives them, and facts as a recorded cluster gave them at a moment."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.doctor.diagnosis import diagnose
from ansible_collections.lumen.airgap.plugins.module_utils.engines.doctor.facts import Facts, Finding, Pipeline
from ansible_collections.lumen.airgap.tests.unit.fixtures.recordings import load

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC).timestamp()
REGISTRY = "192.168.2.2:5000"
IMAGE = f"{REGISTRY}/lumen-api"
HASH = "rollouts-pod-template-hash"
REVISION = "rollout.argoproj.io/revision"
SYNC_OPTIONS = ["SkipDryRunOnMissingResource=true", "RespectIgnoreDifferences=true"]
IGNORED = {
    "group": "apiextensions.k8s.io",
    "kind": "CustomResourceDefinition",
    "jsonPointers": ["/spec/preserveUnknownFields", "/status"],
}


def at(seconds: float) -> str:
    """RFC 3339 of ``seconds`` after now."""
    return datetime.fromtimestamp(NOW + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rollout(version: str = "v1.0.0", **status: Any) -> dict[str, Any]:
    return {
        "kind": "Rollout",
        "metadata": {"name": "lumen-api", "namespace": "lumen", "generation": 3, "annotations": {REVISION: "1"}},
        "spec": {
            "replicas": 2,
            "template": {"spec": {"containers": [{"name": "lumen-api", "image": f"{IMAGE}:{version}"}]}},
            "strategy": {"canary": {"steps": [{"setWeight": 20}, {"pause": {}}, {"setWeight": 100}]}},
        },
        "status": {
            "observedGeneration": "3",
            "phase": "Healthy",
            "currentPodHash": "aaa",
            "stableRS": "aaa",
            "replicas": 2,
            "updatedReplicas": 2,
            "availableReplicas": 2,
            **status,
        },
    }


def replica_set(hash: str = "aaa", version: str = "v1.0.0", revision: str = "1") -> dict[str, Any]:
    return {
        "kind": "ReplicaSet",
        "metadata": {"name": f"lumen-api-{hash}", "labels": {HASH: hash}, "annotations": {REVISION: revision}},
        "spec": {"template": {"spec": {"containers": [{"name": "lumen-api", "image": f"{IMAGE}:{version}"}]}}},
    }


def pod(
    name: str = "lumen-api-aaa-1",
    namespace: str = "lumen",
    image: str = f"{IMAGE}:v1.0.0",
    waiting: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    conditions: Sequence[dict[str, str]] = (),
) -> dict[str, Any]:
    state = {"waiting": waiting} if waiting else {"running": {"startedAt": at(-600)}}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {"app": "lumen-api"}},
        "spec": {"containers": [{"name": "c", "image": image}]},
        "status": {
            "phase": "Pending" if waiting else "Running",
            "containerStatuses": [{"name": "c", "image": image, "state": state}],
            "conditions": list(conditions),
        },
    }


def deployment(name: str, namespace: str, available: int = 1, replicas: int = 1) -> dict[str, Any]:
    counts = {"replicas": replicas, "updatedReplicas": replicas, "availableReplicas": available}
    return {
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "generation": 1},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 1, **counts},
    }


def application(name: str = "lumen-app", **status: Any) -> dict[str, Any]:
    return {
        "kind": "Application",
        "metadata": {"name": name, "namespace": "argocd"},
        "spec": {
            "source": {"repoURL": "http://gitea-http.gitea.svc.cluster.local:3000/lumen/lumen.git", "path": "app"},
            "syncPolicy": {"automated": {"prune": True, "selfHeal": True}, "syncOptions": list(SYNC_OPTIONS)},
            "ignoreDifferences": [copy.deepcopy(IGNORED)],
        },
        "status": {
            "sync": {"status": "Synced", "revision": "c0ffee0" * 5},
            "health": {"status": "Healthy"},
            "reconciledAt": at(-120),
            "operationState": {
                "phase": "Succeeded",
                "finishedAt": at(-600),
                "syncResult": {"revision": "c0ffee0" * 5},
            },
            "resources": [
                {
                    "group": "argoproj.io",
                    "kind": "Rollout",
                    "namespace": "lumen",
                    "name": "lumen-api",
                    "status": "Synced",
                }
            ],
            **status,
        },
    }


def runner(name: str = "act-runner", **changes: Any) -> dict[str, Any]:
    labels = [{"id": 0, "name": "ubuntu-latest", "type": "custom"}]
    return {"id": 1, "name": name, "status": "online", "busy": False, "disabled": False, "labels": labels, **changes}


def run(**changes: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "path": "ci.yaml@refs/tags/v1.0.0",
        "event": "push",
        "head_sha": "abc1234def",
        "status": "completed",
        "conclusion": "success",
        "html_url": "http://192.168.2.2:30300/lumen/lumen/actions/runs/7",
        "completed_at": at(-300),
        **changes,
    }


def pipeline(**changes: Any) -> Pipeline:
    healthy = Pipeline(
        url="http://192.168.2.2:30300",
        repository="lumen/lumen",
        tag="v1.0.0",
        sha="abc1234def",
        message="lumen-api v1.0.0\n",
        runs=[run()],
        jobs=[{"name": "release", "status": "completed", "conclusion": "success", "labels": ["ubuntu-latest"]}],
        runners=[runner()],
        workflows=["ci.yaml"],
        manifest_path="03-airgap-zone/manifests/app/03-lumen-api.yaml",
        manifest_commit="feed123 chore: bump lumen-api to v1.0.0 [skip ci]",
        manifest_image=f"{IMAGE}:v1.0.0",
    )
    return replace(healthy, **changes)


def healthy(**changes: Any) -> Facts:
    """A cluster on which nothing is wrong."""
    facts = Facts(
        app="lumen-api",
        namespace="lumen",
        registry=REGISTRY,
        now=NOW,
        rollout=rollout(),
        pods=[pod()],
        replica_sets=[replica_set()],
        applications=[application(), application("argo-rollouts", resources=[])],
        workloads=[deployment("argo-rollouts", "argo-rollouts"), deployment("act-runner", "gitea")],
        workload_pods=[pod("act-runner-1", "gitea", f"{REGISTRY}/gitea/runner:1", labels={"app": "act-runner"})],
        runner_namespace="gitea",
        pipeline=pipeline(),
    )
    return replace(facts, **changes)


def codes(facts: Facts) -> list[str]:
    return [finding.code for finding in diagnose(facts)]


def one(facts: Facts, code: str) -> Finding:
    """The finding of that code, which is to be there exactly once."""
    found = [finding for finding in diagnose(facts) if finding.code == code]
    assert len(found) == 1, codes(facts)
    return found[0]


def recorded(name: str) -> list[Facts]:
    """The facts after each event of a recording; ReplicaSets are made from what the Rollout had."""
    state: dict[tuple[str, str], dict[str, Any]] = {}
    sets: dict[str, dict[str, Any]] = {}
    found: list[Facts] = []
    for seen in load(name):
        state[(seen.kind, seen.object["metadata"]["name"])] = seen.object
        rollouts = [each for (kind, _name), each in state.items() if kind == "Rollout"]
        if not rollouts:
            continue
        each = rollouts[0]
        status, meta = each.get("status") or {}, each["metadata"]
        if str(status.get("observedGeneration")) == str(meta["generation"]) and status.get("currentPodHash"):
            hash = status["currentPodHash"]
            sets[hash] = {
                "kind": "ReplicaSet",
                "metadata": {
                    "name": hash,
                    "labels": {HASH: hash},
                    "annotations": {REVISION: meta["annotations"][REVISION]},
                },
                "spec": {"template": each["spec"]["template"]},
            }
        found.append(
            Facts(
                app=meta["name"],
                namespace=meta["namespace"],
                registry=REGISTRY,
                now=seen.at,
                rollout=each,
                replica_sets=list(sets.values()),
                runs=[one for (kind, _name), one in state.items() if kind == "AnalysisRun"],
                applications=[one for (kind, _name), one in state.items() if kind == "Application"],
            )
        )
    return found


@pytest.fixture
def moment_of() -> Callable[[str, str], Facts]:
    """The facts at HH:MM:SS.mmm of a recording."""

    def find(name: str, time: str) -> Facts:
        wanted = datetime.fromisoformat(f"2026-11-23T{time}").replace(tzinfo=UTC).timestamp()
        return [facts for facts in recorded(name) if facts.now <= wanted + 0.0005][-1]

    return find
