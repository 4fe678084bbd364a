# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Argo Rollouts' controller for a ``FakeSession``: basic canary, as far as a release sees it.

It looks at the cluster every 100 ms of the fake clock and does one thing at a time, like the real one. ``answers``
scripts the phases that an AnalysisRun measures; ``broken`` holds images whose pods cannot be pulled.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    ANALYSIS_RUN,
    ENDPOINT_SLICE,
    POD,
    REPLICA_SET,
    ROLLOUT,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.objects import (
    HASH_LABEL,
    REVISION_ANNOTATION,
    STEP_LABEL,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.replicas import Scale, goal, settle
from ansible_collections.lumen.airgap.plugins.module_utils.times import rfc3339

from .clock import FakeClock
from .kube import FakeSession

NAMESPACE, NAME = "lumen", "api"
SERVICES = ("api", "api-stable", "api-canary")
_LOOK = 0.1


def hash_of(image: str) -> str:
    return "h" + image.rpartition(":")[2].replace(".", "")


def new_rollout(image: str, steps: list[dict[str, Any]], replicas: int = 2, **spec: Any) -> dict[str, Any]:
    """A Rollout that is healthy on ``image``."""
    status = {"observedGeneration": "1", "currentPodHash": hash_of(image), "stableRS": hash_of(image)}
    canary = {"steps": steps, "stableService": "api-stable", "canaryService": "api-canary"}
    return {
        "apiVersion": ROLLOUT.api_version,
        "kind": ROLLOUT.kind,
        "metadata": {"name": NAME, "namespace": NAMESPACE, "annotations": {REVISION_ANNOTATION: "1"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": NAME}},
            "strategy": {"canary": canary},
            "template": {"spec": {"containers": [{"name": NAME, "image": image}]}},
            **spec,
        },
        "status": {**status, "phase": "Healthy", "currentStepIndex": len(steps), **_pods_status(0, replicas)},
    }


class FakeRollouts:
    """The controller; ``running`` False freezes it."""

    def __init__(self, session: FakeSession, clock: FakeClock, answers: list[str] | None = None) -> None:
        self.session = session
        self.clock = clock
        self.answers = list(answers or [])
        self.broken: dict[str, str] = {}
        self.running = True
        self.measure_every = 5.0
        self.failure_limit = 0
        self._paused_at = 0.0
        self._unseen = ""
        rollout = self._rollout()
        if rollout["status"].get("stableRS"):
            self._scale(rollout, rollout["status"]["stableRS"], rollout["spec"]["replicas"])
        for service in SERVICES:
            session.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": service, "namespace": NAMESPACE}})
        self._route()
        self._again()

    def _again(self) -> None:
        self.clock.at(self.clock.time() - self.clock.start + _LOOK, self._look)

    def lose_next_verb(self) -> None:
        """What the next patch of the status writes is not in this controller's cache until the next event."""
        patch = self.session.patch

        def lose(kind: Any, *args: Any, **more: Any) -> dict[str, Any]:
            written = patch(kind, *args, **more)
            if more.get("subresource") == "status":
                self._unseen = written["metadata"]["resourceVersion"]
                self.session.patch = patch  # type: ignore[method-assign]
            return written

        self.session.patch = lose  # type: ignore[method-assign]

    def _look(self) -> None:
        there = self.session._objects.get((ROLLOUT, NAMESPACE, NAME))
        if self.running and there and there["metadata"]["resourceVersion"] != self._unseen:
            self._reconcile()
            self._route()
        self._again()

    def _rollout(self) -> dict[str, Any]:
        return self.session._objects[(ROLLOUT, NAMESPACE, NAME)]

    def _status(self, **status: Any) -> None:
        self.session.edit(ROLLOUT, NAME, NAMESPACE, {"status": status})

    def _reconcile(self) -> None:
        rollout = self._rollout()
        spec, status = rollout["spec"], rollout["status"]
        image = spec["template"]["spec"]["containers"][0]["image"]
        if status.get("observedGeneration") != str(rollout["metadata"]["generation"]):
            self._observe(rollout, image)
        elif status.get("abort"):
            self._abort(rollout)
        elif status["currentPodHash"] != status.get("stableRS"):
            self._step(rollout, image)

    def _observe(self, rollout: dict[str, Any], image: str) -> None:
        status, steps = rollout["status"], rollout["spec"]["strategy"]["canary"]["steps"]
        old, new, stable = status.get("currentPodHash"), hash_of(image), status.get("stableRS")
        fresh: dict[str, Any] = {"observedGeneration": str(rollout["metadata"]["generation"]), "currentPodHash": new}
        if old == new:
            self._status(**fresh)
            return
        revision = str(int(rollout["metadata"]["annotations"][REVISION_ANNOTATION]) + 1)
        self.session.edit(ROLLOUT, NAME, NAMESPACE, {"metadata": {"annotations": {REVISION_ANNOTATION: revision}}})
        if old and old != stable:
            self._scale(rollout, old, 0)
        fresh.update(abort=None, pauseConditions=None, controllerPause=None, canary={})
        if new == stable:
            self._scale(rollout, new, rollout["spec"]["replicas"])
            counts = _pods_status(0, rollout["spec"]["replicas"])
            self._status(**fresh, phase="Healthy", message=None, currentStepIndex=len(steps), **counts)
            return
        index = 0 if stable else len(steps)
        self._status(**fresh, phase="Progressing", message="more replicas need to be updated", currentStepIndex=index)

    def _abort(self, rollout: dict[str, Any], why: str = "") -> None:
        if rollout["status"]["phase"] == "Degraded":
            return
        revision = rollout["metadata"]["annotations"][REVISION_ANNOTATION]
        message = f"RolloutAborted: Rollout aborted update to revision {revision}" + (f": {why}" if why else "")
        replicas = rollout["spec"]["replicas"]
        self._scale(rollout, rollout["status"]["currentPodHash"], 0)
        self._scale(rollout, rollout["status"]["stableRS"], replicas)
        degraded = {"abort": True, "phase": "Degraded", "message": message, "currentStepIndex": 0}
        self._status(**degraded, pauseConditions=None, controllerPause=None, **_pods_status(0, replicas))

    def _step(self, rollout: dict[str, Any], image: str) -> None:
        if rollout["status"].get("promoteFull"):
            self._status(currentStepIndex=len(rollout["spec"]["strategy"]["canary"]["steps"]))
        steps, status = rollout["spec"]["strategy"]["canary"]["steps"], rollout["status"]
        index = status.get("currentStepIndex", 0)
        retried = status["phase"] == "Degraded"
        if retried or (status["phase"] == "Paused" and not status.get("controllerPause")):
            self._status(phase="Progressing", message="more replicas need to be updated")
        elif index >= len(steps):
            self._finish(rollout, image)
        elif "setWeight" in steps[index]:
            if self._weigh(rollout, image, steps[index]["setWeight"]):
                self._status(currentStepIndex=index + 1)
        elif "analysis" in steps[index]:
            self._analyse(rollout, index)
        else:
            self._pause(rollout, index, steps[index]["pause"])

    def _weigh(self, rollout: dict[str, Any], image: str, weight: int) -> bool:
        replicas = rollout["spec"]["replicas"]
        counts = settle(goal(replicas, weight), Scale(0, 0), Scale(replicas, replicas))
        hash, stable = hash_of(image), rollout["status"].get("stableRS")
        ready = self._scale(rollout, hash, counts.canary, image)
        if ready and stable:
            self._scale(rollout, stable, counts.stable)
        available = counts.stable + (counts.canary if ready else 0)
        self._status(replicas=counts.canary + counts.stable, updatedReplicas=counts.canary, availableReplicas=available)
        return ready

    def _finish(self, rollout: dict[str, Any], image: str) -> None:
        if self._weigh(rollout, image, 100):
            done: dict[str, Any] = {"phase": "Healthy", "message": None, "promoteFull": None, "pauseConditions": None}
            self._status(**done, controllerPause=None, stableRS=hash_of(image))

    def _pause(self, rollout: dict[str, Any], index: int, pause: dict[str, Any]) -> None:
        status = rollout["status"]
        now = self.clock.time()
        if status.get("pauseConditions"):
            if "duration" in pause and now - self._paused_at >= pause["duration"]:
                self._status(pauseConditions=None)
        elif status.get("controllerPause"):
            self._status(controllerPause=None, phase="Progressing", message="", currentStepIndex=index + 1)
        else:
            self._paused_at = now
            self._paused("CanaryPauseStep")

    def _paused(self, reason: str, **status: Any) -> None:
        condition = {"reason": reason, "startTime": rfc3339(self.clock.time())}
        self._status(phase="Paused", message=reason, controllerPause=True, pauseConditions=[condition], **status)

    def _analyse(self, rollout: dict[str, Any], index: int) -> None:
        hash, revision = rollout["status"]["currentPodHash"], rollout["metadata"]["annotations"][REVISION_ANNOTATION]
        name = f"{NAME}-{hash}-{revision}-{index}"
        run = self.session._objects.get((ANALYSIS_RUN, NAMESPACE, name))
        if run is None:
            self.session.put(self._new_run(name, hash, revision, index))
            self._status(canary={"currentStepAnalysisRunStatus": {"name": name, "status": "Running"}})
            return
        self._measure(rollout, run, index)

    def _new_run(self, name: str, hash: str, revision: str, index: int) -> dict[str, Any]:
        return {
            "apiVersion": ANALYSIS_RUN.api_version,
            "kind": ANALYSIS_RUN.kind,
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "labels": {HASH_LABEL: hash, STEP_LABEL: str(index)},
                "annotations": {REVISION_ANNOTATION: revision},
                "creationTimestamp": rfc3339(self.clock.time()),
                "ownerReferences": [{"kind": "Rollout", "name": NAME}],
            },
            "spec": {"metrics": [{"name": "success-rate", "count": 3, "successCondition": "result[0] >= 0.95"}]},
            "status": {"phase": "Running", "metricResults": []},
        }

    def _measure(self, rollout: dict[str, Any], run: dict[str, Any], index: int) -> None:
        if run["status"]["phase"] == "Inconclusive":
            return  # somebody has to decide
        results = run["status"]["metricResults"]
        kept = list(results[0]["measurements"]) if results else []
        last = kept[-1]["at"] if kept else -self.measure_every
        if self.clock.time() - last < self.measure_every:
            return
        phase = self.answers.pop(0) if self.answers else "Successful"
        now = self.clock.time()
        value = {"Successful": "[1]", "Failed": "[0.5]", "Inconclusive": "[0.9]", "Error": None}[phase]
        kept.append({"phase": phase, "value": value, "finishedAt": rfc3339(now), "at": now})
        failed = sum(each["phase"] == "Failed" for each in kept)
        bad = phase if phase in ("Error", "Inconclusive") else "Failed" if failed > self.failure_limit else ""
        over = bad or ("Successful" if len(kept) == 3 else "")
        counters = {"count": sum(each["phase"] != "Error" for each in kept)}
        counters["error"] = len(kept) - counters["count"]
        result = {"name": "success-rate", "phase": over or "Running", "measurements": kept, **counters}
        message = f'Metric "success-rate" assessed {bad}' if bad else ""
        patch = {"status": {"phase": over or "Running", "message": message, "metricResults": [result]}}
        self.session.edit(ANALYSIS_RUN, run["metadata"]["name"], NAMESPACE, patch)
        if bad == "Inconclusive":
            canary = {"currentStepAnalysisRunStatus": {"name": run["metadata"]["name"], "status": bad}}
            self._paused("InconclusiveAnalysisRun", canary=canary)
        elif bad:
            self._abort(rollout, message)
        elif over:
            self._status(currentStepIndex=index + 1, canary={"currentStepAnalysisRunStatus": None})

    def _scale(self, rollout: dict[str, Any], hash: str, count: int, image: str = "") -> bool:
        """Makes pods come and go; whether all of them are ready."""
        reason = self.broken.get(image, "")
        image = image or rollout["spec"]["template"]["spec"]["containers"][0]["image"]
        name = f"{NAME}-{hash}"
        old = self.session._objects.get((REPLICA_SET, NAMESPACE, name))
        template = old["spec"]["template"] if old else {"spec": {"containers": [{"name": NAME, "image": image}]}}
        labels = {"app": NAME, HASH_LABEL: hash}
        body: dict[str, Any] = {
            "apiVersion": REPLICA_SET.api_version,
            "kind": REPLICA_SET.kind,
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "labels": labels,
                "ownerReferences": [{"kind": "Rollout", "name": NAME, "uid": rollout["metadata"]["uid"]}],
            },
            "spec": {"replicas": count, "template": template},
            "status": {"replicas": count, "readyReplicas": 0 if reason else count},
        }
        owner = self.session.put(body)["metadata"]["uid"]
        pods = [key for key in self.session._objects if key[0] == POD and key[2].startswith(f"{name}-")]
        for key in pods[count:]:
            self.session.remove(POD, key[2], NAMESPACE)
        for number in range(len(pods), count):
            self.session.put(_pod(f"{name}-{number}", labels, owner, hash, reason))
        return not reason

    def _route(self) -> None:
        status = self._rollout()["status"]
        for service in SERVICES:
            wanted = {"api-stable": status.get("stableRS"), "api-canary": status.get("currentPodHash")}.get(service)
            pods = [
                body
                for key, body in sorted(self.session._objects.items(), key=lambda entry: entry[0][2])
                if key[0] == POD and wanted in (None, body["metadata"]["labels"][HASH_LABEL])
            ]
            self.session.put(
                {
                    "apiVersion": ENDPOINT_SLICE.api_version,
                    "kind": ENDPOINT_SLICE.kind,
                    "metadata": {
                        "name": f"{service}-1",
                        "namespace": NAMESPACE,
                        "labels": {"kubernetes.io/service-name": service},
                    },
                    "endpoints": [{"targetRef": {"name": pod["metadata"]["name"]}} for pod in pods if _is_ready(pod)],
                }
            )


def _is_ready(pod: dict[str, Any]) -> bool:
    return "running" in pod["status"]["containerStatuses"][0]["state"]


def _pod(name: str, labels: dict[str, str], owner: str, hash: str, reason: str) -> dict[str, Any]:
    kind, _colon, message = reason.partition(": ")
    state: dict[str, Any] = {"waiting": {"reason": kind, "message": message}} if reason else {"running": {}}
    container = {"name": NAME, "state": state, "imageID": "" if reason else f"registry/api@sha256:{hash}"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": dict(labels),
            "ownerReferences": [{"kind": "ReplicaSet", "name": f"{NAME}-{hash}", "uid": owner}],
        },
        "status": {
            "phase": "Pending" if reason else "Running",
            "conditions": [{"type": "Ready", "status": "False" if reason else "True"}],
            "containerStatuses": [container],
        },
    }


def _pods_status(canary: int, stable: int) -> dict[str, int]:
    return {"replicas": canary + stable, "updatedReplicas": canary, "availableReplicas": canary + stable}
