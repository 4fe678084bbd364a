# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random Rollouts with all that belongs to them, for ``trees.py``: in any state, the impossible ones too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any

Object = dict[str, Any]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("api", "lumen-api", "a-rather-long-name-of-a-rollout")
IMAGES = ("registry/api:v1.0.0", "registry/api:v1.1.0", "registry/side:v2", "registry/api:v1.2.0-bad")
HASHES = ("6bb5c5698b", "b67698557", "64bdf7c984", "")
AGES = (-90, -1, 0, 1, 59, 119, 120, 185, 599, 660, 10799, 10800, 30000, 86400, 200000, 700000, 5 * 10**7, 3 * 10**8)
PHASES = ("Progressing", "Paused", "Healthy", "Degraded", "Error", "")
ANALYSIS_PHASES = ("Pending", "Running", "Successful", "Failed", "Error", "Inconclusive", "")
POD_PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")
REASONS = ("CrashLoopBackOff", "ErrImagePull", "ImagePullBackOff", "ContainerCreating", "PodInitializing", "OOMKilled")
ENDS = ("Completed", "Error", "", "OOMKilled")


class Maker:
    """Objects of one Rollout."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.number = count()
        self.name = random.choice(NAMES)

    def maybe(self, chance: float = 0.5) -> bool:
        return self.random.random() < chance

    def moment(self) -> str:
        at = NOW - timedelta(seconds=self.random.choice(AGES))
        return at.strftime("%Y-%m-%dT%H:%M:%SZ")

    def meta(self, name: str, owner: Object | None = None, **more: Any) -> Object:
        meta = {"name": name, "namespace": "lumen", "uid": f"uid-{next(self.number)}", **more}
        meta["creationTimestamp"] = self.moment()
        if owner is not None:
            meta["ownerReferences"] = [
                {"apiVersion": "v1", "kind": owner["kind"], "name": self.name, "uid": owner["metadata"]["uid"]}
            ]
        return meta

    def revision(self) -> Object:
        return {"rollout.argoproj.io/revision": str(self.random.randint(1, 4))} if self.maybe(0.95) else {}

    def rollout(self) -> Object:
        generation = self.random.randint(1, 12)
        observed = self.random.choice([str(generation)] * 6 + [str(generation - 1), "58b949649c", ""])
        spec: Object = {"strategy": self.strategy(), "template": {"spec": {"containers": []}}, "selector": {}}
        if self.maybe(0.9):
            spec["replicas"] = self.random.choice([0, 1, 2, 5])
        if self.maybe(0.1):
            spec["restartAt"] = self.moment()
        if self.maybe(0.1):
            spec["paused"] = True
        return {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Rollout",
            "metadata": self.meta(self.name, generation=generation),
            "spec": spec,
            "status": {**self.status(), "observedGeneration": observed},
        }

    def strategy(self) -> Object:
        if self.maybe(0.2):
            blue_green: Object = {"activeService": "a", "previewService": "p"}
            if self.maybe(0.3):
                blue_green["postPromotionAnalysis"] = {"templates": [{"templateName": "t"}]}
            return {"blueGreen": blue_green}
        canary: Object = {}
        if self.maybe(0.9):
            canary["steps"] = [self.step() for _ in range(self.random.randint(0, 6))]
        if self.maybe(0.15):
            canary["trafficRouting"] = (
                {"maxTrafficWeight": 1000} if self.maybe(0.3) else {"nginx": {"stableIngress": "i"}}
            )
        if self.maybe(0.1):
            canary["pingPong"] = {"pingService": "ping", "pongService": "pong"}
        return {"canary": canary}

    def step(self) -> Object:
        return self.random.choice(
            [
                {"setWeight": self.random.choice([0, 5, 20, 50, 80, 100])},
                {"pause": {}},
                {"pause": {"duration": "30s"}},
                {"analysis": {"templates": [{"templateName": "success-rate"}]}},
            ]
        )

    def status(self) -> Object:
        random = self.random
        status: Object = {
            "phase": random.choice(PHASES),
            "stableRS": random.choice(HASHES),
            "currentPodHash": random.choice(HASHES),
            "abort": self.maybe(0.2),
            "controllerPause": self.maybe(0.2),
            "canary": {"stablePingPong": random.choice(["ping", "pong", ""])},
            "blueGreen": {"activeSelector": random.choice(HASHES), "previewSelector": random.choice(HASHES)},
        }
        for name in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"):
            if self.maybe(0.9):
                status[name] = random.randint(0, 6)
        if self.maybe(0.8):
            status["currentStepIndex"] = random.randint(0, 7)
        if self.maybe(0.5):
            status["message"] = random.choice(["more replicas need to be updated", "RolloutAborted: Rollout aborted"])
        if self.maybe(0.3):
            status["pauseConditions"] = [{"reason": "CanaryPauseStep", "startTime": self.moment()}]
        if self.maybe(0.2):
            status["canary"]["weights"] = {"canary": {"weight": 30}, "stable": {"weight": 70}}
        if self.maybe(0.2):
            kind, reason = random.choice(
                [
                    ("InvalidSpec", "InvalidSpec"),
                    ("Progressing", "RolloutAborted"),
                    ("Progressing", "ProgressDeadlineExceeded"),
                    ("Healthy", "x"),
                ]
            )
            status["conditions"] = [{"type": kind, "status": "True", "reason": reason, "message": "said"}]
        if self.maybe(0.1):
            status["restartedAt"] = self.moment()
        return status

    def replica_set(self, owner: Object) -> Object:
        random = self.random
        annotations = self.revision()
        if self.maybe(0.15):
            annotations["scale-down-deadline"] = random.choice([self.moment(), "soon", ""])
        if self.maybe(0.3):
            annotations["experiment.argoproj.io/template-name"] = "baseline"
        hash = random.choice(HASHES)
        containers = [{"name": f"c{n}", "image": random.choice(IMAGES)} for n in range(random.randint(1, 2))]
        status: Object = {"observedGeneration": random.randint(1, 2)}
        for name in ("replicas", "availableReplicas"):
            status[name] = random.randint(0, 3)
        if self.maybe(0.1):
            status["conditions"] = [{"type": "ReplicaFailure", "status": random.choice(["True", "False"])}]
        return {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": self.meta(
                f"{self.name}-{random.choice('abcdef')}{next(self.number)}",
                owner,
                generation=random.randint(1, 2),
                annotations=annotations,
                labels={"rollouts-pod-template-hash": hash} if hash else {},
            ),
            "spec": {
                "replicas": random.randint(0, 3),
                "selector": {},
                "template": {"spec": {"containers": containers}},
            },
            "status": status,
        }

    def pod(self, owner: Object) -> Object:
        random = self.random
        inits = [{"name": f"i{n}", "image": "i"} for n in range(random.choice([0, 0, 0, 1, 2]))]
        for each in inits:
            if self.maybe(0.3):
                each["restartPolicy"] = "Always"
        containers = [{"name": f"c{n}", "image": "c"} for n in range(random.randint(1, 2))]
        status: Object = {
            "phase": random.choice(POD_PHASES),
            "initContainerStatuses": [self.container(each["name"]) for each in inits if self.maybe(0.8)],
            "containerStatuses": [self.container(each["name"]) for each in containers if self.maybe(0.8)],
        }
        if self.maybe(0.1):
            status["reason"] = random.choice(["Evicted", "NodeLost"])
        meta = self.meta(f"{owner['metadata']['name']}-{random.choice('xyz')}{next(self.number)}", owner)
        if self.maybe(0.1):
            meta["deletionTimestamp"] = self.moment()
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta,
            "spec": {"initContainers": inits, "containers": containers},
            "status": status,
        }

    def container(self, name: str) -> Object:
        random = self.random
        ended = {
            "exitCode": random.choice([0, 0, 1, 137]),
            "reason": random.choice(ENDS),
            "signal": random.choice([0, 9]),
        }
        state = random.choice(
            [
                {"running": {}},
                {"running": {}},
                {"waiting": {"reason": random.choice([*REASONS, ""])}},
                {"terminated": ended},
                {},
            ]
        )
        return {
            "name": name,
            "image": "",
            "imageID": "",
            "ready": self.maybe(0.7),
            "started": self.maybe(0.7),
            "restartCount": random.choice([0, 0, 0, 1, 12]),
            "state": state,
            "lastState": {},
        }

    def analysis_run(self, owner: Object) -> Object:
        random = self.random
        results = []
        for number in range(random.randint(0, 2)):
            counts = {key: random.randint(0, 3) for key in ("successful", "failed", "inconclusive", "error")}
            result: Object = {"name": f"m{number}", "phase": "Running", **counts}
            if self.maybe(0.2):
                job = {"phase": random.choice(ANALYSIS_PHASES), "metadata": {"job-name": f"job-{next(self.number)}"}}
                result["measurements"] = [{**job, "startedAt": self.moment()} if self.maybe(0.8) else job]
            results.append(result)
        name = f"{self.name}-{random.choice('abc')}{next(self.number)}"
        return {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "AnalysisRun",
            "metadata": self.meta(name, owner, annotations=self.revision()),
            "spec": {"metrics": []},
            "status": {"phase": random.choice(ANALYSIS_PHASES), "metricResults": results},
        }

    def experiment(self, owner: Object) -> Object:
        status = {"phase": self.random.choice(ANALYSIS_PHASES)}
        meta = self.meta(f"{self.name}-exp", owner, annotations=self.revision())
        api = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Experiment"}
        return {**api, "metadata": meta, "spec": {"templates": []}, "status": status}


def trees(random: Random) -> Iterator[Object]:
    """Cases of ``trees.py``, without end."""
    while True:
        make = Maker(random)
        rollout = make.rollout()
        sets = [make.replica_set(rollout) for _ in range(random.randint(0, 4))]
        experiments = [make.experiment(rollout)] if make.maybe(0.2) else []
        sets += [make.replica_set(each) for each in experiments for _ in range(random.randint(0, 2))]
        stranger = {"kind": "Rollout", "metadata": {"uid": "another"}}
        runs = [make.analysis_run(random.choice([rollout] * 4 + [stranger])) for _ in range(random.randint(0, 5))]
        runs += [make.analysis_run(each) for each in experiments if make.maybe()]
        pods = [make.pod(each) for each in sets for _ in range(random.randint(0, 3))]
        yield {
            "now": NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "rollout": rollout,
            "replicaSets": sets,
            "pods": pods,
            "experiments": experiments,
            "analysisRuns": runs,
        }
