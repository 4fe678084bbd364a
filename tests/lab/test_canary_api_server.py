# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases of a plain Deployment by the identity of releases, on an API server of this test's own.

No controller runs there: the test plays it, so that everything the driver sends is taken, defaulted and authorized by a
real API server, and nothing waits for pods.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    DEPLOYMENT,
    ENDPOINT_SLICE,
    NAMESPACE,
    POD,
    REPLICA_SET,
    SERVICE,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import (
    Conflict,
    Forbidden,
    Invalid,
    KubeError,
    NotFound,
    Session,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.watcher import Watcher
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.node import Node
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.pair import (
    DEPLOYMENT_REVISION,
    POD_HASH,
    Memory,
    canary_of,
    is_canary_of,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.identity import Wanted
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.deployment import DeploymentDriver
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.driver import Strategy
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.release import Options, Release
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_identity import Identities
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_record import Record
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock

from .api_server import ApiServer
from .conftest import eventually

pytestmark = pytest.mark.loopback

NAME, WHERE = "lumen-api", "lumen"
OLD, NEW, BROKEN = (f"192.168.2.2:5000/lumen-api:{version}" for version in ("v1", "v2", "v3"))
WANTED = Wanted(NAME, WHERE, drivers=("deployment",))
STEPS = [{"setWeight": 20}, {"pause": {"duration": 1}}, {"setWeight": 80}]


def deployment(name: str = NAME, image: str = OLD) -> dict[str, Any]:
    container = {
        "name": NAME,
        "image": image,
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": {"name": name, "namespace": WHERE},
        "spec": {"replicas": 4, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


class Controllers:
    """What Kubernetes' controllers and kubelets would do: ReplicaSets, pods that are ready, and one EndpointSlice."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Controllers:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            try:
                self.reconcile()
            except (Conflict, NotFound, Invalid):
                pass  # somebody else was faster; the next look is soon

    def reconcile(self) -> None:
        deployments = self.session.list(DEPLOYMENT, WHERE).items
        sets = self.session.list(REPLICA_SET, WHERE).items
        uids = {each["metadata"]["uid"] for each in deployments}
        for each in sets:
            if each["metadata"]["ownerReferences"][0]["uid"] not in uids:
                self._pods(each, 0)
                self.session.delete(REPLICA_SET, each["metadata"]["name"], WHERE)
        for each in deployments:
            if each["metadata"]["name"] in (NAME, f"{NAME}-canary"):
                self._deployment(each, sets)
        ready = [pod["metadata"]["name"] for pod in self.session.list(POD, WHERE).items]
        endpoints = [{"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": name}} for name in ready]
        self.session.patch(ENDPOINT_SLICE, NAME, WHERE, {"endpoints": endpoints})

    def _deployment(self, body: dict[str, Any], sets: list[dict[str, Any]]) -> None:
        meta, spec = body["metadata"], body["spec"]
        image = spec["template"]["spec"]["containers"][0]["image"]
        hash, name = image.rpartition(":")[2], f"{meta['name']}-{image.rpartition(':')[2]}"
        own = [each for each in sets if each["metadata"]["ownerReferences"][0]["uid"] == meta["uid"]]
        for each in own:
            if each["metadata"]["name"] != name:
                self._pods(each, 0)
        current = next((each for each in own if each["metadata"]["name"] == name), None)
        if current is None:
            current = self._new_set(body, name, hash, str(len(own) + 1))
        revision = {DEPLOYMENT_REVISION: current["metadata"]["annotations"][DEPLOYMENT_REVISION]}
        patched = self.session.patch(DEPLOYMENT, meta["name"], WHERE, {"metadata": {"annotations": revision}})
        self._pods(current, spec["replicas"])
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), spec["replicas"])
        status = {"status": {**counts, "observedGeneration": patched["metadata"]["generation"]}}
        if patched["metadata"]["generation"] == meta["generation"]:
            self.session.patch(DEPLOYMENT, meta["name"], WHERE, status, subresource="status")

    def _new_set(self, body: dict[str, Any], name: str, hash: str, revision: str) -> dict[str, Any]:
        meta, template = body["metadata"], copy.deepcopy(body["spec"]["template"])
        labels = {**template["metadata"]["labels"], POD_HASH: hash}
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"], "uid": meta["uid"]}
        template["metadata"]["labels"] = labels
        return self.session.create(
            {
                "apiVersion": REPLICA_SET.api_version,
                "kind": REPLICA_SET.kind,
                "metadata": {
                    "name": name,
                    "namespace": WHERE,
                    "labels": labels,
                    "annotations": {DEPLOYMENT_REVISION: revision},
                    "ownerReferences": [{**owner, "controller": True}],
                },
                "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
            }
        )

    def _pods(self, replica_set: dict[str, Any], count: int) -> None:
        meta = replica_set["metadata"]
        hash = meta["labels"][POD_HASH]
        own = [
            pod["metadata"]["name"]
            for pod in self.session.list(POD, WHERE, label_selector=f"{POD_HASH}={hash}").items
            if pod["metadata"]["name"].rpartition("-")[0] == meta["name"]
        ]
        for name in sorted(own)[count:]:
            self.session.delete(POD, name, WHERE)
        for number in range(len(own), count):
            self._pod(f"{meta['name']}-{number}", replica_set, hash)
        if replica_set["spec"]["replicas"] != count:
            self.session.patch(REPLICA_SET, meta["name"], WHERE, {"spec": {"replicas": count}})

    def _pod(self, name: str, replica_set: dict[str, Any], hash: str) -> None:
        template = replica_set["spec"]["template"]
        # There is no kubelet to end a pod with a grace period.
        spec = {**template["spec"], "terminationGracePeriodSeconds": 0}
        labels = template["metadata"]["labels"]
        metadata = {"name": name, "namespace": WHERE, "labels": labels}
        try:
            self.session.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        except Conflict:
            pass
        state = {"running": {}}
        if hash == "v3":
            state = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}  # type: ignore[dict-item]
        container = {"name": NAME, "state": state, "ready": hash != "v3", "restartCount": 0, "image": "", "imageID": ""}
        status = {"phase": "Running", "containerStatuses": [container]}
        if hash != "v3":
            status["conditions"] = [{"type": "Ready", "status": "True"}]  # type: ignore[list-item]
        self.session.patch(POD, name, WHERE, {"status": status}, subresource="status")


@pytest.fixture(scope="module")
def admin(server: ApiServer) -> Session:
    session = Session.connect(str(server.kubeconfig()))
    session.create({"apiVersion": "v1", "kind": NAMESPACE.kind, "metadata": {"name": WHERE}})
    for name in (NAME, "another"):
        session.create(deployment(name))
    metadata = {"name": NAME, "namespace": WHERE}
    ports = [{"port": 80, "targetPort": "http"}]
    service = {"apiVersion": "v1", "kind": SERVICE.kind, "metadata": metadata}
    session.create({**service, "spec": {"selector": {"app": NAME}, "ports": ports}})
    labels = {"kubernetes.io/service-name": NAME}
    session.create(
        {
            "apiVersion": ENDPOINT_SLICE.api_version,
            "kind": ENDPOINT_SLICE.kind,
            "metadata": {**metadata, "labels": labels},
            "addressType": "IPv4",
            "endpoints": [],
        }
    )
    return session


@pytest.fixture(scope="module")
def session(admin: Session, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """The identity's own, once its policies are in force."""
    path = str(tmp_path_factory.mktemp("identity") / "kubeconfig")
    Identities(admin, Node(), SystemClock()).present(WANTED, path, 86400.0, 3600.0)
    made = Session.connect(path)

    def in_force() -> bool:
        try:
            made.create(deployment("nobody"))
        except Invalid:
            return True
        except Forbidden as error:
            return "ValidatingAdmissionPolicy" in error.message
        admin.delete(DEPLOYMENT, "nobody", WHERE)
        return False

    eventually("the policies are in force", in_force, 30)
    return made


@pytest.fixture
def controllers(admin: Session) -> Iterator[Controllers]:
    with Controllers(admin) as running:
        yield running


def memory(image: str = NEW) -> Memory:
    return Memory(NAME, image, OLD, "v1", "2", 4, list(STEPS), None, 0.0)


def edited(change: Callable[[dict[str, Any]], Any], stable: dict[str, Any]) -> dict[str, Any]:
    body = canary_of(stable, memory())
    change(body)
    return body


# -- what the identity may do --------------------------------------------------------------------------------------


def test_it_may_make_scale_and_remove_the_canary(session: Session) -> None:
    stable = session.get(DEPLOYMENT, NAME, WHERE)
    made = session.create(canary_of(stable, memory()))
    assert is_canary_of(made, NAME)
    session.patch(DEPLOYMENT, f"{NAME}-canary", WHERE, {"spec": {"replicas": 2}})
    session.patch(DEPLOYMENT, NAME, WHERE, {"spec": {"replicas": 3}})
    session.delete(DEPLOYMENT, f"{NAME}-canary", WHERE)
    session.patch(DEPLOYMENT, NAME, WHERE, {"spec": {"replicas": 4}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: body["metadata"].update(name="nobody"), "releases make lumen-api-canary alone"),
        (lambda body: body["metadata"].pop("ownerReferences"), "belongs to lumen-api"),
        (lambda body: body["metadata"].update(finalizers=["lumen.example/keep"]), "belongs to lumen-api"),
        (lambda body: body["spec"]["selector"]["matchLabels"].pop("lumen.airgap/canary"), "no pods but its own"),
    ],
)
def test_another_canary_is_refused(session: Session, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    with pytest.raises(KubeError, match=message):
        session.create(edited(change, session.get(DEPLOYMENT, NAME, WHERE)))


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"spec": {"paused": True}}, "replicas and images alone"),
        ({"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}, "replicas and images alone"),
        ({"spec": {"template": {"spec": {"hostPID": True}}}}, "replicas and images alone"),
        ({"metadata": {"finalizers": ["lumen.example/keep"]}}, "releases change no finalizers"),
    ],
)
def test_another_change_of_the_deployment_is_refused(session: Session, patch: dict[str, Any], message: str) -> None:
    with pytest.raises(KubeError, match=message):
        session.patch(DEPLOYMENT, NAME, WHERE, patch)


def test_another_deployment_is_not_reached_at_all(session: Session) -> None:
    for call in (
        lambda: session.patch(DEPLOYMENT, "another", WHERE, {"spec": {"replicas": 0}}),
        lambda: session.delete(DEPLOYMENT, "another", WHERE),
        lambda: session.delete(DEPLOYMENT, NAME, WHERE),
        lambda: session.list(DEPLOYMENT, WHERE),
    ):
        with pytest.raises(Forbidden):
            call()


# -- releases with it ----------------------------------------------------------------------------------------------


class Told:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def check(self) -> None:
        pass


def release(session: Session, image: str) -> dict[str, Any]:
    clock = SystemClock()
    held = Record.acquire(session, clock, WHERE, NAME, image.rpartition(":")[2], "run", {}, retry=True)
    record = Record.attach(session, clock, WHERE, NAME, held.release_id, "run")
    driver = DeploymentDriver(session, clock, lambda _query: [1.0], WHERE, NAME, strategy=Strategy(STEPS))
    options = Options(image, step_deadline=30)
    run = Release(driver, lambda wanted: Watcher(session, wanted), clock, Told(), options, None, record)
    result = run.run()
    record.finish(result["outcome"], result["reason"])
    return result


@pytest.mark.usefixtures("controllers")
def test_releases_need_nothing_that_the_identity_has_not(session: Session, admin: Session) -> None:
    eventually("its pods run", lambda: len(admin.list(POD, WHERE).items) == 4, 20)
    bad = release(session, BROKEN)
    assert (bad["outcome"], bad["driver"]) == ("rolled_back", "deployment")
    assert "ErrImagePull" in bad["reason"]
    good = release(session, NEW)
    assert (good["outcome"], good["reason"]) == ("promoted", "")
    assert [step["result"] for step in good["steps"]] == ["completed"] * 3
    found = admin.get(DEPLOYMENT, NAME, WHERE)
    assert found["spec"]["replicas"] == 4
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == NEW
    assert set(found["metadata"]["annotations"]) == {DEPLOYMENT_REVISION}
    names = {each["metadata"]["name"] for each in admin.list(DEPLOYMENT, WHERE).items}
    assert names == {NAME, "another"}
