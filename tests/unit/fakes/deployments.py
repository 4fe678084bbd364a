# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controllers of Deployments, ReplicaSets and EndpointSlices for a ``FakeSession``, as far as a release sees them.

They look at the cluster every 100 ms of the fake clock. ``broken`` holds images whose pods do not start, and why.
``most`` and ``fewest`` remember the extremes of pods that were there, and of pods that were available.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    ANALYSIS_TEMPLATE,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    POD,
    REPLICA_SET,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.pair import DEPLOYMENT_REVISION, POD_HASH
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.deployment import DeploymentDriver
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.driver import Strategy
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.release import Options, OwnGate, Release
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_record import Record

from .canary_lab import NEW, OLD, STEPS, TEMPLATE
from .canary_lab import Lab as RolloutLab
from .clock import FakeClock
from .kube import FakeSession
from .rollouts import NAME, NAMESPACE, _is_ready, _pod, hash_of
from .stream import FakeStream

CANARY = f"{NAME}-canary"
_LOOK = 0.1


def new_deployment(image: str = OLD, replicas: int = 2, **spec: Any) -> dict[str, Any]:
    """A Deployment whose pods the controllers make at once."""
    container = {"name": NAME, "image": image, "readinessProbe": {"httpGet": {"path": "/healthz", "port": 80}}}
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": NAME}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": NAME}}, "spec": {"containers": [container]}},
            **spec,
        },
    }


class FakeDeployments:
    """The controllers; ``running`` False freezes them."""

    def __init__(self, session: FakeSession, clock: FakeClock) -> None:
        self.session = session
        self.clock = clock
        self.broken: dict[str, str] = {}
        self.running = True
        self.most, self.fewest = 0, 10**6
        service = {"name": NAME, "namespace": NAMESPACE}
        session.put({"apiVersion": "v1", "kind": "Service", "metadata": service, "spec": {"selector": {"app": NAME}}})
        self._reconcile()
        self._again()

    def _again(self) -> None:
        self.clock.at(self.clock.time() - self.clock.start + _LOOK, self._look)

    def _look(self) -> None:
        if self.running:
            self._reconcile()
        self._again()

    def _reconcile(self) -> None:
        for key, body in list(self.session._objects.items()):
            if key[0] == DEPLOYMENT:
                self._deployment(body)
        for key, body in list(self.session._objects.items()):
            owners = body["metadata"].get("ownerReferences") or [{}]
            if key[0] == REPLICA_SET and owners[0].get("uid") not in self._uids():
                self._scale(key[2], 0)
                self.session.remove(*_ref(key))
        self._route()

    def _uids(self) -> set[str]:
        return {body["metadata"]["uid"] for key, body in self.session._objects.items() if key[0] == DEPLOYMENT}

    def _deployment(self, body: dict[str, Any]) -> None:
        meta, spec = body["metadata"], body["spec"]
        image = spec["template"]["spec"]["containers"][0]["image"]
        name = f"{meta['name']}-{hash_of(image)}"
        for key in [key for key in self.session._objects if key[0] == REPLICA_SET]:
            owners = self.session._objects[key]["metadata"]["ownerReferences"]
            if owners[0]["uid"] == meta["uid"] and key[2] != name:
                self._scale(key[2], 0)
        if (REPLICA_SET, NAMESPACE, name) not in self.session._objects:
            self._new_set(body, name, image)
        revision = self.session._objects[(REPLICA_SET, NAMESPACE, name)]["metadata"]["annotations"]
        self.session.edit(DEPLOYMENT, meta["name"], NAMESPACE, {"metadata": {"annotations": revision}})
        ready = self._scale(name, spec["replicas"])
        status = {"replicas": spec["replicas"], "updatedReplicas": spec["replicas"], "availableReplicas": ready}
        self.session.edit(
            DEPLOYMENT, meta["name"], NAMESPACE, {"status": {**status, "observedGeneration": meta["generation"]}}
        )

    def _new_set(self, body: dict[str, Any], name: str, image: str) -> None:
        meta, spec = body["metadata"], body["spec"]
        owned = [key for key in self.session._objects if key[0] == REPLICA_SET and key[2].startswith(f"{NAME}-h")]
        labels = {**spec["template"]["metadata"]["labels"], POD_HASH: hash_of(image)}
        number = str(len(owned) + 1 if meta["name"] == NAME else 1)
        owner = {"kind": "Deployment", "name": meta["name"], "uid": meta["uid"]}
        self.session.put(
            {
                "apiVersion": REPLICA_SET.api_version,
                "kind": REPLICA_SET.kind,
                "metadata": {
                    "name": name,
                    "namespace": NAMESPACE,
                    "labels": labels,
                    "annotations": {DEPLOYMENT_REVISION: number},
                    "ownerReferences": [owner],
                },
                "spec": {"replicas": 0, "template": spec["template"]},
                "status": {},
            }
        )

    def _scale(self, name: str, count: int) -> int:
        """Makes pods come and go; how many of them are ready."""
        body = self.session._objects[(REPLICA_SET, NAMESPACE, name)]
        image, labels = body["spec"]["template"]["spec"]["containers"][0]["image"], body["metadata"]["labels"]
        pods = sorted(key for key in self.session._objects if key[0] == POD and key[2].startswith(f"{name}-"))
        for key in pods[count:]:
            self.session.remove(POD, key[2], NAMESPACE)
        for number in range(len(pods), count):
            owner = body["metadata"]["uid"]
            pod = _pod(f"{name}-{number}", labels, owner, hash_of(image), self.broken.get(image, ""))
            self.session.put(pod)
        there = [pod for key, pod in self.session._objects.items() if key[0] == POD and key[2].startswith(f"{name}-")]
        ready = sum(_is_ready(pod) for pod in there)
        self.session.edit(REPLICA_SET, name, NAMESPACE, {"spec": {"replicas": count}})
        self.session.edit(REPLICA_SET, name, NAMESPACE, {"status": {"readyReplicas": ready}})
        return ready

    def _route(self) -> None:
        pods = [body for key, body in sorted(self.session._objects.items(), key=lambda e: e[0][2]) if key[0] == POD]
        ready = [{"targetRef": {"name": pod["metadata"]["name"]}} for pod in pods if _is_ready(pod)]
        self.most, self.fewest = max(self.most, len(pods)), min(self.fewest, len(ready))
        labels = {"kubernetes.io/service-name": NAME}
        metadata = {"name": f"{NAME}-1", "namespace": NAMESPACE, "labels": labels}
        body = {"apiVersion": ENDPOINT_SLICE.api_version, "kind": ENDPOINT_SLICE.kind, "metadata": metadata}
        self.session.put({**body, "endpoints": ready})


def _ref(key: Any) -> tuple[Any, str, str]:
    return key[0], key[2], key[1]


class DeploymentLab(RolloutLab):
    """A cluster with one Deployment, its controllers, and a way to run releases of it.

    ``answers`` are the values of the success rate, one for each measurement; then it is 1.
    """

    def __init__(
        self,
        steps: list[dict[str, Any]] | None = None,
        answers: list[float] | None = None,
        deployment: dict[str, Any] | None = None,
        analysis: dict[str, Any] | None = None,
        template: dict[str, Any] = TEMPLATE,
        failures_in_a_row: int = 0,
    ) -> None:
        assert template["kind"] == ANALYSIS_TEMPLATE.kind
        self.session = FakeSession(deployment or new_deployment(), template)
        self.clock = FakeClock()
        self.pods = FakeDeployments(self.session, self.clock)
        self.strategy = Strategy(STEPS if steps is None else steps, analysis)
        self.failures_in_a_row = failures_in_a_row
        self.queries: list[str] = []
        self.answers = list(answers or [])
        self.value: Callable[[], list[float]] = lambda: [self.answers.pop(0) if self.answers else 1.0]
        self.out = FakeStream()
        self.runs = 0

    def driver(self) -> DeploymentDriver:  # type: ignore[override]
        asked = {"failures_in_a_row": self.failures_in_a_row, "strategy": self.strategy}
        return DeploymentDriver(self.session, self.clock, self._query, NAMESPACE, NAME, **asked)

    def release(  # type: ignore[override]
        self,
        image: str = NEW,
        gate: bool = False,
        record: Record | None = None,
        driver: DeploymentDriver | None = None,
        **options: Any,
    ) -> Release:
        self.out = FakeStream()
        own = OwnGate(self._load, self._query) if gate else None
        chosen = Options(image, **options)
        return Release(driver or self.driver(), self.watch, self.clock, self.out, chosen, own, record)

    def deployment(self, name: str = NAME) -> dict[str, Any]:
        return self.session.get(DEPLOYMENT, name, NAMESPACE)

    def image(self) -> str:
        return str(self.deployment()["spec"]["template"]["spec"]["containers"][0]["image"])

    def has_canary(self) -> bool:
        return (DEPLOYMENT, NAMESPACE, CANARY) in self.session._objects
