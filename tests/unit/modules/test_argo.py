# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module argo with a registry and a cluster in memory: what it writes, in which order, and what it refuses."""

from __future__ import annotations

import base64
import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    APPLICATION,
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    NAMESPACE,
    POD,
    SECRET,
    SERVICE,
    Kind,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import (
    Conflict,
    Forbidden,
    Session,
    Unreachable,
)
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.waiting import NotReady
from ansible_collections.lumen.airgap.plugins.modules import argo as module
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, FakeRegistry
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run

PROJECT = Kind("argoproj.io/v1alpha1", "AppProject")
TRACKING = "argocd.argoproj.io/tracking-id"

MANIFEST = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rollouts.argoproj.io}
spec: {group: argoproj.io, scope: Namespaced, names: {kind: Rollout, plural: rollouts}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: argo-rollouts}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: argo-rollouts}
subjects: [{kind: ServiceAccount, name: argo-rollouts, namespace: argo-rollouts}]
---
apiVersion: v1
kind: Service
metadata: {name: metrics}
spec: {ports: [{port: 8090}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: argo-rollouts}
spec:
  replicas: 1
  selector: {matchLabels: {app: argo-rollouts}}
  template:
    metadata: {labels: {app: argo-rollouts}}
    spec:
      containers:
        - {name: main, image: "quay.io/argoproj/argo-rollouts:latest", imagePullPolicy: Always}
"""
CORE = """
apiVersion: v1
kind: Secret
metadata: {name: argocd-secret}
type: Opaque
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: argocd-repo-server}
spec:
  replicas: 1
  selector: {matchLabels: {app: argocd}}
  template:
    spec: {containers: [{name: main, image: "quay.io/argoproj/argocd:v3.1.9"}]}
"""
IMAGES = {"quay.io/argoproj/argo-rollouts:latest": "argo-rollouts:v1.8.5", "quay.io/argoproj/argocd": "argocd"}


class Cluster:
    """The module on a cluster whose controllers do their work a moment later."""

    def __init__(self, session: FakeSession, registry: FakeRegistry, clock: FakeClock) -> None:
        self.session = session
        self.registry = registry
        self.clock = clock
        self.works = True
        self.digest = registry.add_image("argo-rollouts", "v1.8.5", [b"rollouts"])
        registry.add_image("argocd", "v3.1.9", [b"argocd"])
        for second in range(400):
            clock.at(second + 0.5, self._settle)

    def __call__(self, dry_run: bool = False, **params: Any) -> dict[str, Any]:
        defaults = {name: copy.deepcopy(option.get("default")) for name, option in module.ARGUMENT_SPEC.items()}
        given: dict[str, Any] = {
            "component": "rollouts",
            "content": [MANIFEST],
            "images": IMAGES,
            "registry": {"host": HOST, "scheme": "http"},
        }
        return module.argo({**defaults, **given, **params}, self.clock, dry_run)

    def get(self, kind: Kind, name: str, namespace: str | None = "argo-rollouts") -> dict[str, Any]:
        return self.session.get(kind, name, namespace)

    def writes(self) -> list[tuple[str, str]]:
        changing = ("apply", "patch", "create", "replace", "delete")
        return [(method, name) for method, _kind, _namespace, name in self.session.calls if method in changing]

    def _settle(self) -> None:
        for item in self.session.list(CUSTOM_RESOURCE_DEFINITION).items:
            established = {"conditions": [{"type": "Established", "status": "True"}]}
            self.session.edit(CUSTOM_RESOURCE_DEFINITION, item["metadata"]["name"], None, {"status": established})
        for item in self.session.list(DEPLOYMENT).items:
            metadata = item["metadata"]
            status = {
                "observedGeneration": metadata["generation"],
                "replicas": 1,
                "updatedReplicas": 1,
                "availableReplicas": 1 if self.works else 0,
            }
            self.session.edit(DEPLOYMENT, metadata["name"], metadata["namespace"], {"status": status})


@pytest.fixture
def cluster(
    session: FakeSession, fake_registry: FakeRegistry, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> Cluster:
    monkeypatch.setattr(Session, "connect", lambda *_: session)
    return Cluster(session, fake_registry, clock)


def test_install_and_then_nothing(cluster: Cluster) -> None:
    result = cluster()
    assert result["changed"]
    assert not result["taken_over"]
    pinned = f"{HOST}/argo-rollouts:v1.8.5@{cluster.digest}"
    assert result["images"] == [
        {"source": "quay.io/argoproj/argo-rollouts:latest", "image": pinned, "digest": cluster.digest}
    ]
    container = cluster.get(DEPLOYMENT, "argo-rollouts")["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["imagePullPolicy"]) == (pinned, "IfNotPresent")
    assert cluster.get(NAMESPACE, "argo-rollouts", None)
    order = [name for _method, name in cluster.writes()]
    assert set(order[:2]) == {"argo-rollouts", "rollouts.argoproj.io"}, "the definition before what may need it"
    assert order[-1] == "argo-rollouts"

    cluster.session.calls.clear()
    again = cluster()
    assert not again["changed"]
    assert {entry["action"] for entry in again["objects"]} == {"unchanged"}
    assert cluster.writes() == []


def test_another_namespace_takes_its_subjects_along(cluster: Cluster) -> None:
    cluster(namespace="argo-test")
    binding = cluster.get(Kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"), "argo-rollouts", None)
    assert binding["subjects"][0]["namespace"] == "argo-test"
    assert cluster.get(DEPLOYMENT, "argo-rollouts", "argo-test")


def test_what_the_registry_lacks_stops_everything(cluster: Cluster) -> None:
    """All that is missing, each with who wants it; and nothing was written."""
    with pytest.raises(AirgapError) as failure:
        cluster(content=[MANIFEST, CORE], images={})
    assert f"{HOST}/argoproj/argo-rollouts:latest (for quay.io/argoproj/argo-rollouts:latest" in failure.value.message
    assert f"{HOST}/argoproj/argocd:v3.1.9" in failure.value.message
    assert "Deployment argo-rollouts, spec.template.spec.containers[0].image" in failure.value.message
    assert len(failure.value.details["missing"]) == 2
    assert cluster.session.calls == []


def test_a_registry_that_does_not_answer_stops_everything(cluster: Cluster) -> None:
    cluster.registry.break_with("HEAD", "manifests", 404)
    cluster.registry.break_with("GET", "/v2/$", 503)
    with pytest.raises(AirgapError, match=HOST):
        cluster()
    assert cluster.session.calls == []


def test_without_pins_the_tag_is_kept_and_still_has_to_be_there(cluster: Cluster) -> None:
    assert cluster(pin=False)["images"][0]["image"] == f"{HOST}/argo-rollouts:v1.8.5"
    with pytest.raises(AirgapError, match="does not have"):
        cluster(pin=False, images={})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: [", r"content\[0\] is not YAML"),
        ("just text", r"content\[0\]: a document is no Kubernetes object but str"),
        ("", r"there is no object in content\[0\]"),
        (MANIFEST + "---" + MANIFEST, "comes twice"),
        (MANIFEST.replace("quay.io/argoproj/argo-rollouts:latest", "Not An Image"), "'Not An Image' is not an image"),
    ],
)
def test_manifests_that_are_none(content: str, says: str, cluster: Cluster) -> None:
    with pytest.raises(AirgapError, match=says):
        cluster(content=[content])
    assert cluster.session.calls == []


def test_a_file_that_is_not_there(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(AirgapError, match=r"there is no manifest .*nothing\.yaml"):
        cluster(manifests=[str(tmp_path / "nothing.yaml")])


def test_an_object_that_is_merged_in_must_be_one(cluster: Cluster) -> None:
    with pytest.raises(AirgapError, match="objects: Deployment has no apiVersion"):
        cluster(objects=[{"kind": "Deployment", "metadata": {"name": "argo-rollouts"}}])


def test_objects_of_the_site_are_merged_in(cluster: Cluster) -> None:
    change = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "argo-rollouts"},
        "spec": {"template": {"spec": {"nodeSelector": {"role": "platform"}}}},
    }
    cluster(objects=[change])
    pod = cluster.get(DEPLOYMENT, "argo-rollouts")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"role": "platform"}
    assert pod["containers"][0]["image"].startswith(HOST)


def test_what_no_manifest_has_any_more_is_deleted(cluster: Cluster) -> None:
    extra = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dashboard"}, "spec": {}}
    stranger = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "theirs", "namespace": "argo-rollouts"}}
    cluster.session.put(stranger)
    cluster(objects=[extra])
    result = cluster()
    assert [(e["name"], e["action"]) for e in result["objects"] if e["action"] != "unchanged"] == [
        ("dashboard", "deleted")
    ]
    assert cluster.session.find(SERVICE, "theirs", "argo-rollouts")


def test_check_mode_on_an_empty_cluster(cluster: Cluster) -> None:
    cluster.session.namespaces = set()
    result = cluster(dry_run=True)
    assert result["changed"]
    verified = {(entry["kind"], entry["name"]): entry["verified"] for entry in result["objects"]}
    assert {entry["action"] for entry in result["objects"]} == {"created"}
    assert not verified["Deployment", "argo-rollouts"]
    assert verified["CustomResourceDefinition", "rollouts.argoproj.io"]
    assert cluster.session.list(DEPLOYMENT).items == []
    assert cluster.session.list(NAMESPACE).items == []


def test_check_mode_on_a_finished_one_shows_nothing(cluster: Cluster) -> None:
    cluster()
    result = cluster(dry_run=True)
    assert not result["changed"]
    assert result["diff"] == []


def test_a_definition_that_is_not_established_stops_the_rest_also_the_second_time(cluster: Cluster) -> None:
    def reject(*_: Any) -> None:
        taken = {"type": "NamesAccepted", "status": "False", "message": '"rollouts" is already in use'}
        cluster.session.edit(
            CUSTOM_RESOURCE_DEFINITION, "rollouts.argoproj.io", None, {"status": {"conditions": [taken]}}
        )

    cluster._settle = reject  # type: ignore[method-assign]
    cluster.clock._plan.clear()
    for second in range(100):
        cluster.clock.at(second + 0.5, reject)
    for _time in range(2):
        with pytest.raises(NotReady, match='names are not accepted: "rollouts" is already in use'):
            cluster()
        assert cluster.session.list(DEPLOYMENT).items == []


def test_a_pod_that_fits_no_node_is_told_within_seconds(cluster: Cluster) -> None:
    cluster.works = False
    message = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    cluster.session.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "argo-rollouts-1", "namespace": "argo-rollouts", "labels": {"app": "argo-rollouts"}},
            "status": {"phase": "Pending", "conditions": [unschedulable]},
        }
    )
    started = cluster.clock.monotonic()
    with pytest.raises(NotReady, match="didn't match Pod's node affinity"):
        cluster(timeout=180.0)
    assert cluster.clock.monotonic() - started < 15
    assert cluster.session.find(POD, "argo-rollouts-1", "argo-rollouts")


def test_a_deadline_is_kept_and_says_what_was_seen(cluster: Cluster) -> None:
    cluster.works = False
    started = cluster.clock.monotonic()
    with pytest.raises(NotReady, match="Deployment argo-rollouts/argo-rollouts is not ready after") as failure:
        cluster(timeout=20.0)
    assert 18 <= cluster.clock.monotonic() - started <= 22
    assert failure.value.details["waiting"][0]["name"] == "argo-rollouts"


@pytest.mark.parametrize(
    "error",
    [
        Forbidden("get Deployment argo-rollouts/argo-rollouts: https://fake:6443 answered 403 Forbidden", status=403),
        Unreachable("get Deployment argo-rollouts/argo-rollouts: no answer from https://fake:6443"),
    ],
)
def test_an_api_server_that_says_no_is_told(error: Exception, cluster: Cluster) -> None:
    cluster.session.fail_next("find", error)
    with pytest.raises(AirgapError, match="https://fake:6443"):
        cluster()
    assert cluster.writes() == []


def test_a_field_of_somebody_else_is_not_taken(cluster: Cluster) -> None:
    cluster()
    cluster.session.owns("kubectl-edit", DEPLOYMENT, "argo-rollouts", "argo-rollouts", {"spec": {"replicas": 3}})
    with pytest.raises(Conflict, match=r"\.spec\.replicas \(kubectl-edit\)"):
        cluster()


# ---- one owner at a time ----


def as_applied_by(cluster: Cluster, manager: str, **annotations: str) -> dict[str, Any]:
    """What somebody else has applied: an older image, a label of its own, and perhaps the mark of an Application."""
    for name, kind in (("argo-rollouts", DEPLOYMENT), ("metrics", SERVICE)):
        body = next(doc for doc in yaml.safe_load_all(MANIFEST) if doc["kind"] == kind.kind)
        metadata = {"name": name, "namespace": "argo-rollouts", "labels": {"theirs": "yes"}}
        if annotations:
            metadata["annotations"] = dict(annotations)
        cluster.session.apply({**body, "metadata": metadata}, manager)
    return cluster.get(DEPLOYMENT, "argo-rollouts")


@pytest.mark.parametrize("manager", ["kubectl", "argocd-controller"])
def test_what_was_left_is_taken_over_whole(manager: str, cluster: Cluster) -> None:
    mark = {TRACKING: "argo-rollouts:apps/Deployment:argo-rollouts/argo-rollouts"} if "argo" in manager else {}
    before = as_applied_by(cluster, manager, **mark)
    assert cluster(dry_run=True)["taken_over"]
    assert cluster.get(DEPLOYMENT, "argo-rollouts") == before, "check mode has written"

    result = cluster()
    assert result["taken_over"]
    for kind, name in ((DEPLOYMENT, "argo-rollouts"), (SERVICE, "metrics")):
        after = cluster.get(kind, name)
        owners = [entry["manager"] for entry in after["metadata"]["managedFields"]]
        assert owners == ["lumen.airgap"]
        assert "theirs" not in after["metadata"]["labels"], "nobody would remove it any more"
        assert TRACKING not in after["metadata"].get("annotations", {})
    assert cluster.get(DEPLOYMENT, "argo-rollouts")["metadata"]["uid"] == before["metadata"]["uid"]
    again = cluster()
    assert not again["changed"]
    assert not again["taken_over"]


def test_an_application_that_exists_is_the_owner(cluster: Cluster) -> None:
    as_applied_by(cluster, "argocd-controller", **{TRACKING: "argo-rollouts:apps/Deployment:argo-rollouts/x"})
    cluster.session.put(
        {
            "apiVersion": APPLICATION.api_version,
            "kind": "Application",
            "metadata": {"name": "argo-rollouts", "namespace": "argocd"},
        }
    )
    cluster.session.calls.clear()
    for state in ("present", "absent"):
        with pytest.raises(AirgapError, match="belongs to the Application argocd/argo-rollouts") as failure:
            cluster(state=state)
        assert failure.value.details["application"] == "argocd/argo-rollouts"
    assert cluster.writes() == []
    # It is removed by a task before this one, which in check mode has not happened.
    assert cluster(dry_run=True, replaces="argocd/argo-rollouts")["taken_over"]
    with pytest.raises(AirgapError, match="belongs to the Application"):
        cluster(replaces="argocd/argo-rollouts")


def test_what_kubectl_has_applied_is_handed_to_argo_cd_too(cluster: Cluster) -> None:
    as_applied_by(cluster, "kubectl")
    assert cluster(state="released")["changed"]
    owners = [entry["manager"] for entry in cluster.get(SERVICE, "metrics")["metadata"]["managedFields"]]
    assert owners == ["argocd-controller"]


def test_released_to_argo_cd_and_back(cluster: Cluster) -> None:
    cluster()
    before = cluster.get(DEPLOYMENT, "argo-rollouts")
    predicted = cluster(dry_run=True, state="released")
    assert cluster.get(DEPLOYMENT, "argo-rollouts") == before, "check mode has written"
    released = cluster(state="released")
    assert released["changed"]
    assert released["content"] == cluster(state="rendered")["content"]
    assert [entry["name"] for entry in predicted["objects"]] == [entry["name"] for entry in released["objects"]]
    after = cluster.get(DEPLOYMENT, "argo-rollouts")
    assert [entry["manager"] for entry in after["metadata"]["managedFields"]] == ["argocd-controller"]
    assert (after["spec"], after["metadata"]["uid"]) == (before["spec"], before["metadata"]["uid"])
    assert not cluster(state="released")["changed"]
    assert cluster()["taken_over"]


def test_others_that_write_in_between_are_read_again(cluster: Cluster) -> None:
    as_applied_by(cluster, "kubectl")
    cluster.session.fail_next("patch", Conflict("modified", status=409, reason="Conflict"), times=2)
    assert cluster()["taken_over"]


# ---- Argo CD ----


def test_a_core_installation_gets_its_project_and_its_key_once(cluster: Cluster) -> None:
    result = cluster(component="argocd", content=[CORE])
    assert ("AppProject", "default") in [(entry["kind"], entry["name"]) for entry in result["objects"]]
    key = cluster.get(SECRET, "argocd-secret", "argocd")["data"]["server.secretkey"]
    assert len(base64.b64decode(key)) >= 32
    assert key not in str(result), "a secret in the result"

    # Others write into the same Secret; that is no change of ours.
    cluster.session.owns("argocd-server", SECRET, "argocd-secret", "argocd", {"data": {"admin.password": "eA=="}})
    again = cluster(component="argocd", content=[CORE])
    assert not again["changed"]
    assert cluster.get(SECRET, "argocd-secret", "argocd")["data"] == {"server.secretkey": key, "admin.password": "eA=="}


def test_a_project_of_somebody_else_is_left_alone(cluster: Cluster) -> None:
    cluster.session.put(
        {
            "apiVersion": PROJECT.api_version,
            "kind": "AppProject",
            "metadata": {"name": "default", "namespace": "argocd"},
            "spec": {"sourceRepos": ["http://gitea/*"]},
        }
    )
    cluster(component="argocd", content=[CORE])
    assert cluster.get(PROJECT, "default", "argocd")["spec"] == {"sourceRepos": ["http://gitea/*"]}


def test_a_full_installation_makes_them_itself(cluster: Cluster) -> None:
    cluster(component="argocd", content=[CORE.replace("argocd-repo-server", "argocd-server")])
    assert cluster.session.find(PROJECT, "default", "argocd") is None
    assert "data" not in cluster.get(SECRET, "argocd-secret", "argocd")


# ---- absent, rendered, and the module around it ----


def test_absent_keeps_the_definitions_unless_asked(cluster: Cluster) -> None:
    cluster()
    predicted = cluster(dry_run=True, state="absent")
    assert cluster.session.find(DEPLOYMENT, "argo-rollouts", "argo-rollouts")
    removed = cluster(state="absent")
    assert removed["objects"] == predicted["objects"]
    assert cluster.session.find(DEPLOYMENT, "argo-rollouts", "argo-rollouts") is None
    assert cluster.session.find(NAMESPACE, "argo-rollouts", None)
    assert cluster.session.find(CUSTOM_RESOURCE_DEFINITION, "rollouts.argoproj.io", None)
    assert not cluster(state="absent")["changed"]
    assert cluster(state="absent", purge_definitions=True)["changed"]
    assert cluster.session.find(CUSTOM_RESOURCE_DEFINITION, "rollouts.argoproj.io", None) is None


def test_rendered_writes_what_would_be_applied_and_asks_no_cluster(cluster: Cluster, tmp_path: Path) -> None:
    dest = tmp_path / "argo-rollouts" / "install.yaml"
    assert cluster(dry_run=True, state="rendered", dest=str(dest))["changed"]
    assert not dest.exists()
    result = cluster(state="rendered", dest=str(dest))
    assert result["changed"]
    documents = list(yaml.safe_load_all(dest.read_text()))
    assert [doc["kind"] for doc in documents] == [
        "CustomResourceDefinition",
        "ServiceAccount",
        "ClusterRoleBinding",
        "Service",
        "Deployment",
    ]
    image = documents[-1]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"{HOST}/argo-rollouts:v1.8.5@{cluster.digest}"
    assert not cluster(state="rendered", dest=str(dest))["changed"]
    returned = cluster(state="rendered")
    assert not returned["changed"]
    assert returned["content"] == dest.read_text()
    assert cluster.session.calls == []


def test_the_module_itself(run: Run, cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "install.yaml"
    path.write_text(MANIFEST)
    arguments: dict[str, Any] = {
        "component": "rollouts",
        "manifests": [str(path)],
        "images": IMAGES,
        "registry": {"host": HOST},
    }
    predicted = run(module, check=True, **arguments)
    assert predicted["changed"]
    assert "diff" not in predicted, "nobody asked for it"
    failed = run(module, check=True, **{**arguments, "images": {}})
    assert failed["failed"]
    assert failed["missing"][0]["image"] == f"{HOST}/argoproj/argo-rollouts:latest"
    assert run(module, **{**arguments, "timeout": 0})["msg"].startswith("The option timeout must be more than 0")
    assert "argo-rollouts:v1.8.5@sha256" in run(module, **arguments, state="rendered")["content"]


def test_return_and_options_are_documented(cluster: Cluster) -> None:
    documented = yaml.safe_load(module.RETURN)
    result = cluster()
    assert set(result) - {"changed", "diff"} <= set(documented)
    assert set(result["objects"][0]) == set(documented["objects"]["contains"])
    assert set(result["images"][0]) == set(documented["images"]["contains"])
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    shared = {"kubeconfig", "context", "registry", "progress_path", "quiet"}
    assert set(options) | shared == set(module.ARGUMENT_SPEC)
