# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests as published, brought into a namespace and put in order."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.argo import manifests
from ansible_collections.lumen.airgap.plugins.module_utils.engines.argo.manifests import ManifestError


def thing(kind: str, name: str, api: str = "v1", **more: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **more}


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def test_lists_are_taken_apart_and_empty_documents_left_out() -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [thing("Service", "a"), thing("Service", "b")]}
    assert names(manifests.objects([("x", None), ("x", listed), ("y", thing("Secret", "a"))])) == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("text", "install.yaml: a document is no Kubernetes object but str"),
        ({"kind": "Service", "metadata": {"name": "a"}}, "install.yaml: Service has no apiVersion"),
        ({"apiVersion": "v1", "metadata": {"name": "a"}}, "install.yaml: a document has no kind"),
        ({"apiVersion": "v1", "kind": "Service"}, "install.yaml: Service has no metadata.name"),
        ({"apiVersion": "v1", "kind": "Service", "metadata": "a"}, "install.yaml: Service has no metadata.name"),
        ({"apiVersion": "v1", "kind": "Service", "metadata": {"generateName": "a-"}}, "has no metadata.name"),
        ({"apiVersion": "v1", "kind": 7, "metadata": {"name": "a"}}, "has no kind"),
    ],
)
def test_what_is_no_object_is_named_with_its_file(document: Any, says: str) -> None:
    with pytest.raises(ManifestError, match=says.replace(".", r"\.")):
        manifests.objects([("install.yaml", document)])


def test_an_object_that_comes_twice_is_named_with_both_files() -> None:
    twice = [("a.yaml", thing("Role", "r", "rbac/v1")), ("b.yaml", thing("Role", "r", "rbac/v1beta1"))]
    with pytest.raises(ManifestError, match=r"b\.yaml: Role r comes twice, it is in a\.yaml already"):
        manifests.objects(twice)


def test_a_namespace_is_given_to_what_has_one_and_names_none() -> None:
    cluster = thing("CustomResourceDefinition", "c", spec={"scope": "Cluster", "names": {"kind": "Wide"}})
    own = thing("Service", "own")
    own["metadata"]["namespace"] = "elsewhere"
    items = [thing("Service", "a"), own, thing("ClusterRole", "r"), cluster, thing("Wide", "w", "x/v1")]
    moved = manifests.in_namespace(items, "argocd")
    assert [item["metadata"].get("namespace") for item in moved] == ["argocd", "elsewhere", None, None, None]
    assert "namespace" not in items[0]["metadata"], "the manifest itself was changed"


def test_subjects_follow_their_service_account() -> None:
    """Published bindings name the namespace of the default installation; others' accounts are not ours to move."""
    subjects = [
        {"kind": "ServiceAccount", "name": "controller", "namespace": "argocd"},
        {"kind": "ServiceAccount", "name": "stranger", "namespace": "argocd"},
        {"kind": "User", "name": "controller"},
    ]
    items = [thing("ServiceAccount", "controller"), thing("ClusterRoleBinding", "b", "rbac/v1", subjects=subjects)]
    moved = manifests.in_namespace(items, "argo-test")
    assert [subject.get("namespace") for subject in moved[1]["subjects"]] == ["argo-test", "argocd", None]


def test_changes_are_merged_and_the_rest_is_added() -> None:
    items = [thing("ConfigMap", "cm", data={"a": "1", "b": "2"}), thing("Service", "s")]
    changes = [thing("ConfigMap", "cm", data={"b": None, "c": "3"}), thing("Secret", "new"), thing("Secret", "new")]
    changed = manifests.overlaid(items, changes)
    assert changed[0]["data"] == {"a": "1", "c": "3"}
    assert names(changed) == ["cm", "s", "new"]
    assert items[0]["data"] == {"a": "1", "b": "2"}


def test_what_others_need_comes_first() -> None:
    kinds = ["Deployment", "IngressRoute", "Rollout", "Service", "ClusterRole", "CustomResourceDefinition", "Namespace"]
    placed = manifests.ordered([thing(kind, kind.lower()) for kind in kinds])
    assert [item["kind"] for item in placed] == [
        "Namespace",
        "CustomResourceDefinition",
        "ClusterRole",
        "Service",
        "Rollout",
        "Deployment",
        "IngressRoute",
    ]


def test_workloads_are_those_of_the_apps_group() -> None:
    items = [thing("Deployment", "a", "apps/v1"), thing("Deployment", "b", "other/v1"), thing("Service", "c")]
    assert names(manifests.workloads(items)) == ["a"]
