# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What following costs, and whether an event of fifty Rollouts is lost; beside a client that asks every second.

The API server is the lab's own on loopback, without a controller: this program writes what one would write, in the
same order and at the pace of a real release, while a follower and its peer look on at the same time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "build"), str(ROOT / "lab")]

from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (  # noqa: E402
    ANALYSIS_RUN,
    ANALYSIS_TEMPLATE,
    CUSTOM_RESOURCE_DEFINITION,
    POD,
    REPLICA_SET,
    ROLLOUT,
    Kind,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import (  # noqa: E402
    NotFound,
    Session,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.objects import (  # noqa: E402
    HASH_LABEL,
    REVISION_ANNOTATION,
)
from ansible_collections.lumen.airgap.tests.lab.api_server import ApiServer  # noqa: E402

FLEET = 50
MEASUREMENTS = 5
PAUSE = 2.0  # seconds between two rounds of events
SHARE_LIMIT, RSS_LIMIT = 5.0, 120.0  # percent of a core, MiB
DEADLINE = 240.0
STEPS: list[dict[str, Any]] = [
    {"setWeight": 20},
    {"analysis": {"templates": [{"templateName": "success-rate"}]}},
    {"setWeight": 80},
    {"analysis": {"templates": [{"templateName": "success-rate"}]}},
    {"setWeight": 100},
]
_LABELS = {"app": "api"}


class Took(NamedTuple):
    """What a follower has said."""

    share: float
    """Percent of a core."""
    rss: float
    lost: int


class Site:
    """A namespace with Rollouts on their way to a new template, and what their controller writes."""

    def __init__(self, session: Session, namespace: str, count: int) -> None:
        self.session = session
        self.namespace = namespace
        self.names = [f"app-{number}" for number in range(count)]
        self.written: set[str] = set()
        session.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        metrics = [{"name": "success-rate", "successCondition": "result[0] >= 0.95"}]
        meta = self._meta("success-rate")
        api = {"apiVersion": ANALYSIS_TEMPLATE.api_version, "kind": ANALYSIS_TEMPLATE.kind}
        session.create({**api, "metadata": meta, "spec": {"metrics": metrics}})
        for name in self.names:
            session.create(self._rollout(name))
            self._status(name, phase="Progressing", currentStepIndex=0, stableRS="old", message="so far")
            for hash in ("old", "new"):
                session.create(self._replica_set(name, hash))
        self._pods()
        self.written.clear()

    def _meta(self, name: str, owner: tuple[str, str] | None = None, **more: Any) -> dict[str, Any]:
        meta: dict[str, Any] = {"name": name, "namespace": self.namespace, **more}
        if owner is not None:
            kind, of = owner
            meta["ownerReferences"] = [{"apiVersion": "v1", "kind": kind, "name": of, "uid": f"uid-of-{of}"}]
        return meta

    def _rollout(self, name: str) -> dict[str, Any]:
        template = {"metadata": {"labels": _LABELS}, "spec": {"containers": [{"name": "api", "image": "api:v2"}]}}
        spec = {"replicas": 2, "selector": {"matchLabels": _LABELS}, "strategy": {"canary": {"steps": STEPS}}}
        meta = self._meta(name, annotations={REVISION_ANNOTATION: "2"})
        return {
            "apiVersion": ROLLOUT.api_version,
            "kind": "Rollout",
            "metadata": meta,
            "spec": {**spec, "template": template},
        }

    def _replica_set(self, name: str, hash: str) -> dict[str, Any]:
        labels = {**_LABELS, HASH_LABEL: hash}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "api", "image": f"api:{hash}"}]}}
        meta = self._meta(f"{name}-{hash}", ("Rollout", name), labels=labels)
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        return {"apiVersion": REPLICA_SET.api_version, "kind": "ReplicaSet", "metadata": meta, "spec": spec}

    def _pods(self) -> None:
        """Two ready ones of the new template, for who verifies the end."""
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        for number in range(2):
            meta = self._meta(f"app-0-new-{number}", ("ReplicaSet", "app-0-new"), labels={**_LABELS, HASH_LABEL: "new"})
            spec = {"containers": [{"name": "api", "image": "api:v2"}]}
            self.session.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
            self.session.patch(POD, meta["name"], self.namespace, {"status": ready}, subresource="status")

    def _status(self, name: str, **status: Any) -> None:
        body = {"observedGeneration": "1", "currentPodHash": "new", "replicas": 3, "availableReplicas": 3, **status}
        self._note(self.session.patch(ROLLOUT, name, self.namespace, {"status": body}, subresource="status"))

    def _note(self, written: dict[str, Any]) -> None:
        self.written.add(written["metadata"]["resourceVersion"])

    def events(self) -> Iterator[None]:
        """Writes what happens to all of them; after each round it yields."""
        for index, step in enumerate(STEPS):
            canary = (
                {"currentStepAnalysisRunStatus": {"name": "run", "status": "Running"}} if "analysis" in step else None
            )
            for name in self.names:  # a real controller writes several times within 100 ms as well
                self._status(name, currentStepIndex=index, canary=canary)
                self._status(name, updatedReplicas=index + 1, canary=canary)
            yield
            for number in range(MEASUREMENTS if canary else 0):
                for name in self.names:
                    self._measure(name, index, number)
                yield
        for name in self.names:
            self._status(name, currentStepIndex=len(STEPS), phase="Healthy", stableRS="new", message=None)

    def _measure(self, name: str, index: int, number: int) -> None:
        run = f"{name}-new-2-{index}"
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        one = {"phase": "Successful", "value": "[0.98]", "startedAt": at, "finishedAt": at}
        phase = "Successful" if number + 1 == MEASUREMENTS else "Running"
        results = [{"name": "success-rate", "phase": phase, "count": number + 1, "measurements": [one] * (number + 1)}]
        status = {"phase": phase, "metricResults": results}
        if number:
            self._note(self.session.patch(ANALYSIS_RUN, run, self.namespace, {"status": status}))
            return
        labels = {HASH_LABEL: "new", "step-index": str(index)}
        meta = self._meta(run, ("Rollout", name), labels=labels, annotations={REVISION_ANNOTATION: "2"})
        spec = {"metrics": [{"name": "success-rate", "count": MEASUREMENTS}]}
        api = {"apiVersion": ANALYSIS_RUN.api_version, "kind": "AnalysisRun"}
        self._note(self.session.create({**api, "metadata": meta, "spec": spec, "status": status}))


class Follower:
    """One of ``_follower.py``, from when it has begun."""

    def __init__(self, mode: str, kubeconfig: Path, site: Site) -> None:
        program = [sys.executable, str(Path(__file__).with_name("_follower.py"))]
        self._process = subprocess.Popen(
            [*program, mode, str(kubeconfig), site.namespace, *site.names], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "begun\n":
            raise RuntimeError("the follower has not begun")

    def stop(self) -> None:
        """End it, if it goes on."""
        self._process.kill()
        self._process.wait()

    def end(self, site: Site) -> Took:
        """What it took, once it has ended."""
        out, _err = self._process.communicate(timeout=DEADLINE)
        if self._process.returncode:
            raise RuntimeError(f"the follower ended with {self._process.returncode}")
        said = json.loads(out)
        return Took(100 * said["cpu"] / said["wall"], said["rss"], len(site.written - set(said["seen"])))


def define(session: Session, plural: str, kind: Kind, status: bool) -> None:
    """A CustomResourceDefinition that takes anything."""
    group, version = kind.api_version.split("/")
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    served: dict[str, Any] = {"name": version, "served": True, "storage": True, "schema": schema}
    if status:
        served["subresources"] = {"status": {}}
    names = {"plural": plural, "singular": plural[:-1], "kind": kind.kind, "listKind": f"{kind.kind}List"}
    session.create(
        {
            "apiVersion": CUSTOM_RESOURCE_DEFINITION.api_version,
            "kind": CUSTOM_RESOURCE_DEFINITION.kind,
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [served]},
        }
    )
    end = time.monotonic() + 30
    while True:
        try:
            session.list(kind, "default")
            return
        except NotFound:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def follow(mode: str, kubeconfig: Path, session: Session, namespace: str, count: int) -> tuple[Took, Took, int]:
    """A follower and its peer beside the same events: (ours, peer's, events)."""
    site = Site(session, namespace, count)
    ours, peer = Follower(mode, kubeconfig, site), Follower("poll", kubeconfig, site)
    try:
        time.sleep(PAUSE)
        for _round in site.events():
            time.sleep(PAUSE)
        return ours.end(site), peer.end(site), len(site.written)
    finally:
        ours.stop()
        peer.stop()


def say(name: str, value: float, unit: str, limit: float, peer: str) -> None:
    print(json.dumps({"name": name, "value": round(value, 2), "unit": unit, "limit": limit, "peer": peer}))


def main() -> int:
    """Measure both, and print a line for each thing."""
    with tempfile.TemporaryDirectory(prefix="bench-follow-") as folder:
        server = ApiServer(Path(folder))
        try:
            server.start()
            kubeconfig = server.kubeconfig()
            session = Session.connect(str(kubeconfig), None)
            define(session, "rollouts", ROLLOUT, status=True)
            define(session, "analysisruns", ANALYSIS_RUN, status=False)
            define(session, "analysistemplates", ANALYSIS_TEMPLATE, status=False)
            one, polling, events = follow("canary", kubeconfig, session, "one", 1)
            what = "one release followed"
            asked = "asking every second"
            say(f"{what}, share of a core", one.share, "%", SHARE_LIMIT, f"{asked}: {polling.share:.1f} %")
            say(f"{what}, peak memory", one.rss, "MiB", RSS_LIMIT, f"{asked}: {polling.rss:.0f} MiB")
            say(f"{what}, {events} events, lost", one.lost, "events", 0, f"{asked}: {polling.lost} lost")
            fleet, polling, events = follow("rollout", kubeconfig, session, "fleet", FLEET)
            what = f"{FLEET} Rollouts followed by one task"
            say(f"{what}, {events} events, lost", fleet.lost, "events", 0, f"{asked}: {polling.lost} lost")
            say(f"{what}, share of a core", fleet.share, "%", SHARE_LIMIT, f"{asked}: {polling.share:.1f} %")
            say(f"{what}, peak memory", fleet.rss, "MiB", RSS_LIMIT, f"{asked}: {polling.rss:.0f} MiB")
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
