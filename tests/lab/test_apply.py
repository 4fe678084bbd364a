# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Batches of objects on a real API server: what is written, what is left alone, and who is told what."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    SERVICE,
    Kind,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import (
    Conflict,
    Forbidden,
    Invalid,
    KubeError,
    Session,
    Unreachable,
)
from ansible_collections.lumen.airgap.plugins.module_utils.services.apply import Prune, apply, remove
from ansible_collections.lumen.airgap.plugins.module_utils.services.network_policies import PolicySet, ensure
from ansible_collections.lumen.airgap.plugins.module_utils.services.waiting import NotReady

from .api_server import ApiServer

pytestmark = pytest.mark.loopback

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
LABELS = {"app": "api"}
CONTAINER = {
    "name": "api",
    "image": "registry.example:5000/api:v1",
    "ports": [{"containerPort": 8080}],
    "env": [{"name": "MODE", "value": "fast"}],
    "resources": {"requests": {"cpu": "0.5", "memory": "1024Ki"}},
}


@pytest.fixture(name="session")
def clean_session(server: ApiServer) -> Session:
    session = Session.connect(str(server.kubeconfig()))
    apply(session, [NAMESPACE])
    for kind in (CONFIG_MAP, NETWORK_POLICY, DEPLOYMENT, SERVICE):
        for obj in session.list(kind, "shop").items:
            session.delete(kind, obj["metadata"]["name"], "shop")
    return session


def meta(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "shop", "labels": LABELS, **more}


def objects() -> list[dict[str, Any]]:
    """One of each sort that a server changes on its way in: defaults, quantities, lists with keys, atomic lists."""
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER]}}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("settings"), "data": {"key": "value"}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": meta("token"),
            "stringData": {"token": "hunter2"},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta("api"),
            "spec": {"selector": LABELS, "ports": [{"port": 80, "targetPort": 8080}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta("api", finalizers=["lumen.example/keep"]),
            "spec": {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template},
        },
        policy("allow"),
    ]


def policy(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(name),
        "spec": {
            "podSelector": {},
            "ingress": [{"from": [{"podSelector": {"matchLabels": LABELS}}], "ports": [{"port": 80}]}],
            "egress": [],
        },
    }


def as_somebody_else(server: ApiServer, *words: str) -> None:
    from driver import build

    row = next(row for row in build.PROGRAMS if row.name == "kubectl")
    argv = [str(build._folder(row) / "kubectl"), f"--kubeconfig={server.kubeconfig()}", "--namespace=shop", *words]
    subprocess.run(argv, check=True, capture_output=True, timeout=30)


def test_the_second_time_is_found_by_reading(session: Session) -> None:
    first = apply(session, objects())
    assert {change.action for change in first.changes} == {"created"}
    written: list[str] = []
    second = apply(session, objects(), progress=written.append)
    assert {change.action for change in second.changes} == {"unchanged"}
    assert written == []
    before = [obj["metadata"]["resourceVersion"] for obj in session.list(DEPLOYMENT, "shop").items]
    apply(session, objects())
    assert [obj["metadata"]["resourceVersion"] for obj in session.list(DEPLOYMENT, "shop").items] == before
    session.patch(DEPLOYMENT, "api", "shop", {"metadata": {"finalizers": None}})


def test_reading_alone_tells_that_nothing_is_to_do(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(session, objects())

    def refuse(*_args: Any, **_options: Any) -> None:
        raise AssertionError("an apply was sent")

    monkeypatch.setattr(session, "apply", refuse)
    assert not apply(session, objects()).changed
    session.patch(DEPLOYMENT, "api", "shop", {"metadata": {"finalizers": None}})


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("scale", "deployment/api", "--replicas=5"), ".spec.replicas"),
        (("set", "env", "deployment/api", "MODE=slow"), "env"),
        (("label", "service/api", "app=other", "--overwrite"), ".metadata.labels"),
        (("patch", "networkpolicy/allow", "--type=merge", '--patch={"spec":{"ingress":[{}]}}'), ".spec.ingress"),
        (("patch", "configmap/settings", "--type=merge", '--patch={"data":{"key":"other"}}'), ".data.key"),
    ],
)
def test_what_somebody_changed_is_seen_named_and_put_back(
    session: Session, server: ApiServer, words: tuple[str, ...], field: str
) -> None:
    apply(session, objects())
    as_somebody_else(server, *words)
    with pytest.raises(Conflict, match=r"\(kubectl") as caught:
        apply(session, objects())
    assert field in caught.value.message
    predicted = apply(session, objects(), force=True, dry_run=True)
    done = apply(session, objects(), force=True)
    assert predicted.changes == done.changes
    assert [change.action for change in done.changes].count("updated") == 1
    assert not apply(session, objects()).changed
    session.patch(DEPLOYMENT, "api", "shop", {"metadata": {"finalizers": None}})


def test_what_somebody_took_out_is_put_back(session: Session, server: ApiServer) -> None:
    """Nobody owns what is gone, so there is no conflict."""
    apply(session, [policy("allow")])
    as_somebody_else(server, "patch", "networkpolicy/allow", "--type=merge", '--patch={"spec":{"ingress":null}}')
    assert apply(session, [policy("allow")], dry_run=True).changed
    assert [change.action for change in apply(session, [policy("allow")]).changes] == ["updated"]
    assert session.get(NETWORK_POLICY, "allow", "shop")["spec"]["ingress"] != []


def test_what_others_add_beside_ours_is_theirs(session: Session, server: ApiServer) -> None:
    apply(session, objects())
    as_somebody_else(server, "label", "service/api", "team=shop")
    as_somebody_else(server, "annotate", "deployment/api", "note=x")
    assert not apply(session, objects()).changed
    session.patch(DEPLOYMENT, "api", "shop", {"metadata": {"finalizers": None}})


def test_what_kubectl_applied_is_adopted(session: Session, server: ApiServer, tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(objects()[0]))
    as_somebody_else(server, "apply", f"--filename={path}")
    assert [change.action for change in apply(session, objects()[:1]).changes] == ["updated"]
    assert not apply(session, objects()[:1]).changed


def test_what_is_left_out_is_removed_and_pruned(session: Session) -> None:
    apply(session, [policy(name) for name in ("one", "two", "three")])
    prune = Prune([NETWORK_POLICY], "app=api")
    wanted = policy("one")
    del wanted["spec"]["ingress"]
    predicted = apply(session, [wanted], prune=prune, dry_run=True)
    assert len(session.list(NETWORK_POLICY, "shop").items) == 3
    done = apply(session, [wanted], prune=prune)
    assert predicted.changes == done.changes
    assert [obj["metadata"]["name"] for obj in session.list(NETWORK_POLICY, "shop").items] == ["one"]
    assert "ingress" not in session.get(NETWORK_POLICY, "one", "shop")["spec"]
    assert remove(session, [wanted]).changed
    assert not remove(session, [wanted]).changed


def test_a_dry_run_before_namespace_and_kind(session: Session) -> None:
    elsewhere = {**objects()[0], "metadata": {"name": "x", "namespace": "nowhere"}}
    thing = {"apiVersion": "lumen.example/v1", "kind": "Thing", "metadata": {"name": "x", "namespace": "shop"}}
    outcome = apply(session, [elsewhere, thing], dry_run=True)
    assert [(change.action, change.verified) for change in outcome.changes] == [("created", False)] * 2
    with pytest.raises(KubeError, match='namespaces "nowhere" not found'):
        apply(session, [elsewhere])
    with pytest.raises(KubeError, match="does not know the kind Thing"):
        apply(session, [thing])


def definition(kind: str, plural: str, group: str = "lumen.example") -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def test_a_definition_and_what_is_of_it_in_one_batch(session: Session) -> None:
    widget = {"apiVersion": "lumen.example/v1", "kind": "Widget", "metadata": meta("one"), "spec": {"size": 3}}
    assert apply(session, [widget, definition("Widget", "widgets")]).changed
    assert session.get(Kind("lumen.example/v1", "Widget"), "one", "shop")["spec"] == {"size": 3}
    assert not apply(session, [widget, definition("Widget", "widgets")]).changed


def test_a_definition_that_is_never_established(session: Session) -> None:
    apply(session, [definition("Gear", "gears")])
    with pytest.raises(NotReady, match="names are not accepted"):
        apply(session, [definition("Gear", "cogs")])


def test_what_the_server_refuses_is_told_with_what_was_done_before(session: Session) -> None:
    broken = copy.deepcopy(objects()[3])
    broken["spec"]["template"]["spec"]["containers"][0]["imge"] = "typo"
    with pytest.raises(Invalid, match="imge") as caught:
        apply(session, [objects()[0], broken])
    assert [entry["kind"] for entry in caught.value.details["applied"]] == ["ConfigMap"]


def test_a_default_deny_that_somebody_opened_is_named_and_closed(session: Session, server: ApiServer) -> None:
    """Nobody's apply takes out a field that it does not name, so this is looked for."""
    deny = PolicySet.of("deny", namespaces=["shop"], allow_dns_cut=True)
    ensure(session, deny)
    open_it = '--patch={"spec":{"ingress":[{}]}}'
    as_somebody_else(server, "patch", "networkpolicy/deny-default-deny", "--type=merge", open_it)
    with pytest.raises(Conflict, match=r"\.spec\.ingress \(kubectl-patch\)"):
        ensure(session, deny)
    assert ensure(session, dataclasses.replace(deny, force=True)).outcome.changed
    assert "ingress" not in session.get(NETWORK_POLICY, "deny-default-deny", "shop")["spec"]
    assert not ensure(session, deny).outcome.changed


def test_who_has_no_rights_is_told_which(server: ApiServer, session: Session) -> None:
    nobody = Session.connect(str(server.kubeconfig("nobody")))
    with pytest.raises(Forbidden, match='User "nobody" cannot get resource "configmaps"'):
        apply(nobody, objects()[:1])


def test_an_api_server_that_is_away(server: ApiServer, session: Session) -> None:
    server.stop()
    try:
        with pytest.raises(Unreachable, match="Is the API server running, and is this its address"):
            apply(session, objects())
    finally:
        server.start()
