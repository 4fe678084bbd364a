# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The identity of releases on the real API server: what it can do, what it cannot, and how its tokens end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import prometheus
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    CONFIG_MAP,
    LEASE,
    POD,
    ROLLOUT,
    SECRET,
    SERVICE_ACCOUNT,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import (
    Forbidden,
    Invalid,
    KubeError,
    Session,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.node import Node
from ansible_collections.lumen.airgap.plugins.module_utils.engines.identity import Wanted, forbidden
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_identity import Identities, granted
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock

from .conftest import command, eventually

PROMETHEUS = ("monitoring", "kube-prometheus-stack-prometheus", 9090)
DAY = 86400.0


@pytest.fixture
def identities() -> Identities:
    from driver.cluster import KUBECONFIG

    return Identities(Session.connect(str(KUBECONFIG)), Node(), SystemClock())


@pytest.fixture
def wanted(namespace: str, identities: Identities, tmp_path: Path) -> Iterator[Wanted]:
    made = Wanted("lumen-api", namespace, prometheus=PROMETHEUS, observed=("argo-rollouts",))
    yield made
    identities.absent(made, str(tmp_path / "kubeconfig"))


@pytest.fixture
def path(wanted: Wanted, identities: Identities, tmp_path: Path) -> str:
    file = str(tmp_path / "kubeconfig")
    assert identities.present(wanted, file, 90 * DAY, 30 * DAY).verified
    return file


def can(path: str, attributes: Mapping[str, str]) -> bool:
    """What ``kubectl auth can-i`` says."""
    from driver.cluster import LOCAL

    resource, _slash, subresource = attributes["resource"].partition("/")
    group = f".{attributes['group']}" if attributes.get("group") else ""
    name = f"/{attributes['name']}" if attributes.get("name") else ""
    argv = [str(LOCAL / "bin" / "kubectl"), f"--kubeconfig={path}", "auth", "can-i"]
    argv += [attributes["verb"], f"{resource}{group}{name}"]
    argv += [f"--subresource={subresource}"] if subresource else []
    argv += [f"--namespace={attributes['namespace']}"] if attributes.get("namespace") else []
    return command(argv).stdout.strip() == "yes"


def test_kubectl_says_that_it_can_do_all_that_releases_need(path: str, wanted: Wanted) -> None:
    needed = list(granted(wanted))
    assert len(needed) > 25
    assert [each for each in needed if not can(path, each)] == []


def test_kubectl_says_that_it_can_do_nothing_else(path: str, wanted: Wanted) -> None:
    denied = list(forbidden(wanted))
    assert len(denied) > 25
    assert [each for each in denied if can(path, each)] == []


def test_it_is_shown_by_doing_it(path: str, wanted: Wanted) -> None:
    session, here = Session.connect(path), wanted.namespace
    metadata = {"name": "lumen-api-release", "namespace": here}
    lease: dict[str, Any] = {
        "apiVersion": LEASE.api_version,
        "kind": "Lease",
        "metadata": metadata,
        "spec": {"holderIdentity": "a"},
    }
    made = session.create(lease)
    session.replace({**made, "spec": {"holderIdentity": "b"}})
    assert session.list(POD, here).items == []
    assert session.find(ROLLOUT, "lumen-api", here) is None
    options = {
        "namespace": PROMETHEUS[0],
        "service": PROMETHEUS[1],
        "port": PROMETHEUS[2],
        "url": None,
        "timeout": 10.0,
    }
    assert prometheus.connect(options, session).query("vector(1)") == [1.0]

    others = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other", "namespace": here}}
    session.create(others)  # RBAC cannot limit the name of what is created
    with pytest.raises(Forbidden, match="configmaps"):
        session.replace(others)
    for refused in (
        lambda: session.list(SECRET, here),
        lambda: session.get(CONFIG_MAP, "kube-root-ca.crt", here),
        lambda: session.list(POD, "kube-system"),
        lambda: session.list(POD),
        lambda: session.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": here}}),
        lambda: session.request_token("airgap-release", here, 600),
        lambda: session.service_proxy("kube-system", "kube-dns", 9153, "metrics"),
        lambda: session.service_proxy(PROMETHEUS[0], PROMETHEUS[1], 9091, "metrics"),
    ):
        with pytest.raises(Forbidden):
            refused()


def app(namespace: str) -> dict[str, Any]:
    labels = {"app": "lumen-api"}
    container = {"name": "lumen-api", "image": "192.168.2.2:5000/probe:lab", "args": ["serve", ":8080"]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "lumen-api", "namespace": namespace},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": template,
            "strategy": {"canary": {"steps": [{"setWeight": 50}]}},
        },
    }


CONTAINER = "/spec/template/spec/containers/0"


def test_of_a_rollout_it_changes_the_image_alone(path: str, wanted: Wanted) -> None:
    from driver.cluster import kubectl

    here = wanted.namespace
    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(app(here)))
    session = Session.connect(path)

    def patch(operation: str, where: str, value: Any = None, dry_run: bool = False) -> None:
        change = [{"op": operation, "path": where, "value": value}]
        session.patch(ROLLOUT, "lumen-api", here, change, "json", dry_run=dry_run)

    def refused() -> bool:
        try:  # dry, for an image that was let in before the policy is in force would be no change after it
            patch("replace", f"{CONTAINER}/image", "elsewhere.example/probe:lab", dry_run=True)
        except Invalid:
            return True
        return False

    eventually("the policy is in force", refused, 20)
    patch("replace", f"{CONTAINER}/image", "192.168.2.2:5000/probe:other")
    session.patch(ROLLOUT, "lumen-api", here, {"status": {"abort": True}}, subresource="status")
    for operation, where, value in (
        ("replace", f"{CONTAINER}/image", "192.168.2.2:5000/other/probe:lab"),
        ("replace", f"{CONTAINER}/args", ["serve", ":9090"]),
        ("remove", f"{CONTAINER}/args", None),
        ("add", f"{CONTAINER}/envFrom", [{"secretRef": {"name": "any"}}]),
        ("add", "/spec/template/spec/containers/-", {"name": "more", "image": "192.168.2.2:5000/probe:lab"}),
        ("add", "/spec/template/spec/initContainers", [{"name": "i", "image": "192.168.2.2:5000/probe:lab"}]),
        ("add", "/spec/template/spec/hostNetwork", True),
        ("add", "/spec/template/spec/serviceAccountName", "default"),
        ("add", "/spec/template/metadata/annotations", {"a": "b"}),
        ("replace", "/spec/replicas", 9),
        ("replace", "/spec/strategy/canary/steps", []),
        ("add", "/spec/paused", True),
    ):
        with pytest.raises(Invalid, match="releases change"):
            patch(operation, where, value)


def test_the_guard_is_nobody_elses(path: str, wanted: Wanted) -> None:
    from driver.cluster import kubectl

    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(app(wanted.namespace)))
    kubectl("scale", "rollout", "lumen-api", "-n", wanted.namespace, "--replicas=0")
    patch = json.dumps({"spec": {"paused": True}})
    kubectl("patch", "rollout", "lumen-api", "-n", wanted.namespace, "--type=merge", "-p", patch)


def test_roles_that_are_given_away_are_refused(path: str, wanted: Wanted) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "mine", "namespace": wanted.namespace},
        "rules": [],
    }
    with pytest.raises(Forbidden):
        Session.connect(path).create(role)


def test_a_second_run_changes_nothing_and_fewer_namespaces_take_roles_away(
    path: str, wanted: Wanted, identities: Identities
) -> None:
    assert not identities.present(wanted, path, 90 * DAY, 30 * DAY).changed
    assert not identities.present(wanted, path, 90 * DAY, 30 * DAY, dry_run=True).changed
    fewer = Wanted("lumen-api", wanted.namespace, prometheus=PROMETHEUS)
    done = identities.present(fewer, path, 90 * DAY, 30 * DAY)
    deleted = [str(change) for change in done.objects.changes if change.action == "deleted"]
    assert deleted == [
        f"RoleBinding argo-rollouts/airgap-release.{wanted.namespace} deleted",
        f"Role argo-rollouts/airgap-release.{wanted.namespace} deleted",
    ]
    assert not can(path, {"verb": "list", "resource": "pods", "namespace": "argo-rollouts"})


def test_a_token_that_is_near_its_end_is_renewed(path: str, wanted: Wanted, identities: Identities) -> None:
    before = Path(path).read_text()
    assert identities.present(wanted, path, 200 * DAY, 100 * DAY).written == "its token is near its end"
    assert Path(path).read_text() != before
    assert not identities.present(wanted, path, 200 * DAY, 100 * DAY).changed


def test_tokens_end_with_their_service_account(path: str, wanted: Wanted, identities: Identities) -> None:
    from driver.cluster import kubectl

    kubectl("delete", "serviceaccount", wanted.account, "-n", wanted.namespace)

    def refused() -> bool:
        try:
            Session.connect(path).list(POD, wanted.namespace)
        except Forbidden as error:
            return error.status == 401
        return False

    # The API server remembers for some seconds that a token was good.
    eventually("the old token is refused", refused, 30)
    done = identities.present(wanted, path, 90 * DAY, 30 * DAY)
    assert done.written == "its token is of another ServiceAccount"
    assert not refused()


def test_somebody_who_grants_more_is_noticed(path: str, wanted: Wanted, identities: Identities) -> None:
    from driver.cluster import kubectl

    user = f"{wanted.namespace}:{wanted.account}"
    name = f"too-much-{wanted.namespace}"
    kubectl("create", "rolebinding", name, "-n", wanted.namespace, "--clusterrole=admin", f"--serviceaccount={user}")
    with pytest.raises(AirgapError, match="may get secrets"):
        identities.present(wanted, path, 90 * DAY, 30 * DAY)
    kubectl("delete", "rolebinding", name, "-n", wanted.namespace)


def test_a_namespace_that_is_not_there(identities: Identities, tmp_path: Path) -> None:
    missing = Wanted("lumen-api", "doctor-is-not-there")
    file = str(tmp_path / "kubeconfig")
    assert identities.present(missing, file, 90 * DAY, 30 * DAY, dry_run=True).changed
    with pytest.raises(AirgapError, match="There is no namespace doctor-is-not-there"):
        identities.present(missing, file, 90 * DAY, 30 * DAY)
    assert not Path(file).exists()
    assert not identities.absent(missing, file).changed


def test_it_cannot_make_itself_anew(path: str, wanted: Wanted) -> None:
    """Whoever has only this kubeconfig gets neither a new token nor another right."""
    own = Identities(Session.connect(path), Node(), SystemClock())
    with pytest.raises(Forbidden):
        own.present(wanted, path, 90 * DAY, 30 * DAY)
    assert can(path, {"verb": "get", "resource": "services", "namespace": wanted.namespace})


def test_an_api_server_that_is_away(wanted: Wanted, tmp_path: Path) -> None:
    cluster = {"server": "https://127.0.0.1:1"}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": cluster}],
        "users": [{"name": "a", "user": {"token": "none"}}],
    }
    (tmp_path / "away").write_text(json.dumps(content))
    away = Identities(Session.connect(str(tmp_path / "away")), Node(), SystemClock())
    with pytest.raises(KubeError, match=r"no answer from https://127\.0\.0\.1:1"):
        away.present(wanted, str(tmp_path / "made"), 90 * DAY, 30 * DAY)
    assert not (tmp_path / "made").exists()


def test_absent_leaves_nothing(path: str, wanted: Wanted, identities: Identities) -> None:
    from driver.cluster import kubectl

    assert identities.absent(wanted, path).changed
    assert not Path(path).exists()
    selector = f"--selector=lumen.airgap/identity={wanted.owner}"
    kinds = "serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,validatingadmissionpolicies"
    kinds += ",validatingadmissionpolicybindings"
    assert json.loads(kubectl("get", kinds, "-A", selector, "-o", "json"))["items"] == []
    assert not identities.absent(wanted, path).changed


def test_it_is_one_service_account(path: str, wanted: Wanted) -> None:
    from driver.cluster import KUBECONFIG

    account = Session.connect(str(KUBECONFIG)).get(SERVICE_ACCOUNT, wanted.account, wanted.namespace)
    assert account["automountServiceAccountToken"] is False
    assert not account.get("secrets")
