# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the identity is granted, and when its kubeconfig is written anew."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.identity import (
    REPOSITORY,
    Server,
    Wanted,
    claims,
    forbidden,
    kubeconfig,
    objects,
    rights,
    stale,
    token_of,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.tokens import token

WANTED = Wanted(
    app="api",
    namespace="lumen",
    prometheus=("monitoring", "prom", 9090),
    argocd_namespace="argocd",
    applications=("lumen-app",),
    observed=("argocd", "gitea", "gitea", ""),
)
SERVER = Server("https://192.168.2.2:6443", "-----BEGIN CERTIFICATE-----\n")
NOW, DAY = 1_000_000.0, 86400.0


def rules(wanted: Wanted = WANTED) -> list[dict[str, Any]]:
    return [rule for each in objects(wanted) if each["kind"] in ("Role", "ClusterRole") for rule in each["rules"]]


def test_nothing_is_granted_by_wildcard_and_nothing_can_be_deleted() -> None:
    for rule in rules():
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"], *rule.get("resourceNames", [])]
        assert not {"delete", "deletecollection", "escalate", "bind", "impersonate"} & set(rule["verbs"])
        assert "secrets" not in rule["resources"]


def test_a_deployment_needs_its_own_rights_and_no_rollout() -> None:
    plain = rules(replace(WANTED, drivers=("deployment",)))
    assert not any("rollouts" in resource for rule in plain for resource in rule["resources"])
    (deleting,) = [rule for rule in plain if "delete" in rule["verbs"]]
    assert (deleting["resources"], deleting["resourceNames"]) == (["deployments"], ["api-canary"])
    writing = [rule for rule in plain if {"update", "patch"} & set(rule["verbs"])]
    assert all(rule["resourceNames"] for rule in writing)
    both = rules(replace(WANTED, drivers=("rollout", "deployment")))
    assert all(rule in both for rule in [*plain, *rules()])


def test_a_deployment_is_guarded_by_a_policy_of_its_own() -> None:
    made = {each["metadata"]["name"]: each for each in objects(replace(WANTED, drivers=("deployment",)))}
    assert made["airgap-release.lumen.deployments"]["spec"]["validationActions"] == ["Deny"]
    unguarded = objects(replace(WANTED, drivers=("deployment",), guard=False))
    assert not [each for each in unguarded if each["kind"].startswith("ValidatingAdmission")]


def test_what_is_written_is_named_wherever_kubernetes_allows_it() -> None:
    writing = [rule for rule in rules() if {"update", "patch"} & set(rule["verbs"])]
    assert len(writing) == 6
    assert all(rule["resourceNames"] for rule in writing)
    maps = [rule for rule in writing if rule["resources"] == ["configmaps"]]
    assert [(rule["verbs"], rule["resourceNames"]) for rule in maps] == [
        (["get", "update"], ["api-release"]),
        (["get", "update"], ["api-evidence"]),
    ]
    created = [resource for rule in rules() if "create" in rule["verbs"] for resource in rule["resources"]]
    assert created == ["leases", "configmaps"]


def test_the_service_proxy_leads_to_prometheus_alone() -> None:
    proxies = [rule for rule in rules() if "services/proxy" in rule["resources"]]
    assert [(rule["verbs"], rule["resourceNames"]) for rule in proxies] == [(["get"], ["prom:9090"])]


def test_each_namespace_has_one_role_bound_to_the_account_alone() -> None:
    made = objects(WANTED)
    roles = [each["metadata"]["namespace"] for each in made if each["kind"] == "Role"]
    assert roles == ["lumen", "monitoring", "gitea", "argocd"]
    for binding in (each for each in made if each["kind"].endswith("RoleBinding")):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "airgap-release", "namespace": "lumen"}]
        assert binding["roleRef"]["name"] == "airgap-release.lumen"
    assert all(each["metadata"]["labels"]["lumen.airgap/identity"] == "airgap-release.lumen" for each in made)


def test_the_guard_is_for_this_identity_alone() -> None:
    policy = next(each for each in objects(WANTED) if each["kind"] == "ValidatingAdmissionPolicy")
    (condition,) = policy["spec"]["matchConditions"]
    assert condition["expression"] == "request.userInfo.username == 'system:serviceaccount:lumen:airgap-release'"
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert "ValidatingAdmissionPolicy" not in str(objects(replace(WANTED, guard=False)))


def test_the_guard_holds_owners_and_finalizers() -> None:
    policy = next(each for each in objects(WANTED) if each["kind"] == "ValidatingAdmissionPolicy")
    expressions = [each["expression"] for each in policy["spec"]["validations"]]
    for kind in ("Rollout", "Application"):
        for field in ("metadata.ownerReferences", "metadata.finalizers"):
            same = f"has(object.{field}) == has(oldObject.{field})"
            same += f" && (!has(object.{field}) || object.{field} == oldObject.{field})"
            assert f"object.kind != '{kind}' || ({same})" in expressions


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("192.168.2.2:5000/lumen-api:v1", "192.168.2.2:5000/lumen-api"),
        ("192.168.2.2:5000/lumen-api:v1@sha256:0a", "192.168.2.2:5000/lumen-api"),
        ("192.168.2.2:5000/lumen-api@sha256:0a", "192.168.2.2:5000/lumen-api"),
        ("192.168.2.2:5000/lumen-api", "192.168.2.2:5000/lumen-api"),
        ("192.168.2.2:5000/lumen-api-builder:v1", "192.168.2.2:5000/lumen-api-builder"),
        ("192.168.2.2:5000/gitea/runner:1", "192.168.2.2:5000/gitea/runner"),
        ("lumen-api:v1", "lumen-api"),
        ("", ""),
    ],
)
def test_the_repository_of_an_image(image: str, repository: str) -> None:
    found = re.search(REPOSITORY, image)
    assert found is not None
    assert found.group() == repository


def test_what_is_not_there_is_not_granted() -> None:
    bare = Wanted(app="api", namespace="lumen")
    assert {right.namespace for right in rights(bare)} == {"lumen", ""}
    assert [each["resource"] for each in forbidden(bare) if each["resource"] == "applications"] == []


def test_nothing_that_is_granted_is_forbidden() -> None:
    for denied in forbidden(WANTED):
        for right in rights(WANTED):
            covered = (
                right.namespace in ("", denied.get("namespace", ""))
                and right.group == denied.get("group", "")
                and denied["resource"] in right.resources
                and denied["verb"] in right.verbs
                and (not right.names or denied.get("name", "") in right.names)
            )
            assert not covered, (denied, right)


def test_a_kubeconfig_says_where_and_who() -> None:
    content = json.loads(kubeconfig(WANTED, replace_server(verify=False, tls_name="api"), "abc"))
    cluster = content["clusters"][0]["cluster"]
    assert cluster["server"] == "https://192.168.2.2:6443"
    assert cluster["tls-server-name"] == "api"
    assert cluster["insecure-skip-tls-verify"] is True
    assert "certificate-authority-data" not in cluster
    assert content["contexts"][0]["context"]["namespace"] == "lumen"
    assert content["current-context"] == content["contexts"][0]["name"]


def replace_server(**changes: Any) -> Server:
    return SERVER._replace(ca="", **changes)


def test_claims() -> None:
    said = claims(token("system:serviceaccount:lumen:airgap-release", "u1", NOW))
    assert said is not None
    assert (said.user, said.uid, said.expires) == ("system:serviceaccount:lumen:airgap-release", "u1", NOW)


@pytest.mark.parametrize("text", ["", "a.b", "a.!.c", "a.bm90IGpzb24.c", "a.W10.c", "a.bnVsbA.c"])
def test_what_is_no_token(text: str) -> None:
    assert claims(text) is None


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"users": [{}]}', "clusters: []"])
def test_what_is_no_kubeconfig_of_ours(text: str | None) -> None:
    assert token_of(text) == ""


def file(
    uid: str = "u1", expires: float = NOW + 90 * DAY, wanted: Wanted = WANTED, server: Server = SERVER, user: str = ""
) -> str:
    return kubeconfig(wanted, server, token(user or wanted.user, uid, expires))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (file(), ""),
        (file(expires=NOW + 30 * DAY), ""),
        (None, "there is none yet"),
        ("something else", "it is another one than it should be"),
        (file(server=SERVER._replace(url="https://other:6443")), "it is another one than it should be"),
        (file(server=SERVER._replace(ca="other")), "it is another one than it should be"),
        (file(wanted=replace(WANTED, account="other")), "it is another one than it should be"),
        (file(user="system:serviceaccount:lumen:default"), "its token is of another ServiceAccount"),
        (file(uid="u0"), "its token is of another ServiceAccount"),
        (file(expires=NOW + 30 * DAY - 1), "its token is near its end"),
        (file(expires=NOW - 1), "its token has expired"),
    ],
)
def test_when_it_is_written_anew(text: str | None, reason: str) -> None:
    assert stale(text, WANTED, SERVER, "u1", NOW, 30 * DAY) == reason


def test_the_page_lists_every_right_and_no_other() -> None:
    page = (Path(__file__).parents[4] / "docs" / "security.md").read_text(encoding="utf-8")
    seed = Wanted(
        app="lumen-api",
        namespace="lumen",
        prometheus=("monitoring", "kube-prometheus-stack-prometheus", 9090),
        argocd_namespace="argocd",
        applications=("lumen-app",),
        observed=("argocd", "argo-rollouts", "gitea"),
    )
    rows = []
    for right in rights(seed):
        group = f".{right.group}" if right.group else ""
        resources = ", ".join(f"`{resource}{group}`" for resource in right.resources)
        names = ", ".join(f"`{name}`" for name in right.names) or "all"
        rows.append(
            f"| {right.namespace or '(cluster)'} | {resources} | {', '.join(right.verbs)} | {names} | {right.why} |"
        )
    head = "| namespace | resources | verbs | objects | for |\n|---|---|---|---|---|\n"
    assert head + "\n".join(rows) + "\n\n" in page
