# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fields pass from one manager to another, and nothing else of the object changes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.argo import ownership

OURS = "lumen.airgap"
ITSELF = "lumen:apps/Deployment:shop/x"


def entry(manager: str, operation: str, fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsV1": fields, **more}


def deployment(*entries: dict[str, Any], **annotations: str) -> dict[str, Any]:
    metadata = {"name": "x", "resourceVersion": "7", "annotations": annotations, "managedFields": list(entries)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}


def written(patch: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    assert patch is not None
    assert patch[0] == {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}
    assert [operation["path"] for operation in patch] == ["/metadata/resourceVersion", "/metadata/managedFields"]
    entries: list[dict[str, Any]] = patch[1]["value"]
    return entries


def test_the_fields_of_both_become_those_of_the_new_owner() -> None:
    status = entry("kube-controller-manager", "Update", {"f:status": {}}, subresource="status")
    own = entry(OURS, "Apply", {"f:spec": {"f:replicas": {}}})
    kubectl = entry("kubectl", "Apply", {"f:spec": {"f:replicas": {}, "f:paused": {}}}, time="2026-01-01T00:00:00Z")
    entries = written(ownership.transfer(deployment(status, kubectl, own), ownership.KUBECTL, OURS))
    assert entries == [
        status,
        entry(
            OURS,
            "Apply",
            {"f:spec": {"f:replicas": {}, "f:paused": {}}},
            time="2026-01-01T00:00:00Z",
            fieldsType="FieldsV1",
        ),
    ]


def test_a_client_side_apply_becomes_an_apply_with_its_annotation() -> None:
    last = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    seen = deployment(entry("kubectl-client-side-apply", "Update", {"f:spec": {"f:replicas": {}}}), **last)
    entries = written(ownership.transfer(seen, ownership.KUBECTL, OURS))
    assert entries[0]["operation"] == "Apply"
    assert entries[0]["fieldsV1"] == {
        "f:spec": {"f:replicas": {}},
        "f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/last-applied-configuration": {}}},
    }


def test_nothing_to_take_is_no_patch() -> None:
    status = entry("kubectl", "Update", {"f:status": {}}, subresource="status")
    other = entry("kubectl-rollout", "Update", {"f:spec": {}})
    assert ownership.transfer(deployment(status, other), ownership.KUBECTL, OURS) is None
    assert ownership.transfer(deployment(), ownership.KUBECTL, OURS) is None


def test_an_update_of_the_same_name_is_not_an_apply() -> None:
    """What we have patched by hand (a generated key) stays that: the next apply must not take it away."""
    patched = entry(OURS, "Update", {"f:data": {"f:server.secretkey": {}}})
    kubectl = entry("kubectl", "Apply", {"f:type": {}})
    entries = written(ownership.transfer(deployment(patched, kubectl), ownership.KUBECTL, OURS))
    assert entries[0] == patched
    assert entries[1]["fieldsV1"] == {"f:type": {}}


def test_there_and_back() -> None:
    fields = {"f:spec": {"f:replicas": {}}}
    there = written(ownership.transfer(deployment(entry(OURS, "Apply", fields)), [OURS], ownership.ARGO_CD))
    back = written(ownership.transfer(deployment(*there), [ownership.ARGO_CD], OURS))
    assert [(each["manager"], each["fieldsV1"]) for each in back] == [(OURS, fields)]


def test_who_has_written_and_which_application_tracks() -> None:
    seen = deployment(
        entry("kubectl", "Apply", {}),
        entry("kubectl", "Update", {}),
        entry("controller", "Update", {}, subresource="status"),
        **{"argocd.argoproj.io/tracking-id": "argo-rollouts:apps/Deployment:argo-rollouts/x"},
    )
    assert ownership.managers(seen) == ["kubectl"]
    assert ownership.application_of(seen) == "argo-rollouts"
    assert ownership.application_of(deployment()) is None


@pytest.mark.parametrize(
    ("tracking", "label", "manager", "application"),
    [
        (ITSELF, "", "kubectl", "lumen"),
        ("lumen:apps/Deployment:shop/y", "", ownership.ARGO_CD, ""),  # copied with the manifest of another
        ("lumen:apps/Deployment:other/x", "", ownership.ARGO_CD, ""),
        ("lumen:extensions/Deployment:shop/x", "", ownership.ARGO_CD, ""),
        ("lumen:apps/StatefulSet:shop/x", "", ownership.ARGO_CD, ""),
        ("lumen", "", ownership.ARGO_CD, ""),
        ("", "lumen", ownership.ARGO_CD, "lumen"),
        ("", "lumen", "helm", ""),
        ("lumen:apps/Deployment:shop/y", "other", ownership.ARGO_CD, "other"),
        ("", "", ownership.ARGO_CD, ""),
    ],
)
def test_which_application_keeps_it(tracking: str, label: str, manager: str, application: str) -> None:
    seen = deployment(entry(manager, "Update", {}), **{ownership.TRACKING: tracking})
    seen["metadata"].update(namespace="shop", labels={ownership.INSTANCE_LABEL: label})
    assert ownership.keeper(seen) == application


def test_what_a_controller_has_made() -> None:
    owned = deployment()
    assert ownership.controller_of(owned) == ""
    owned["metadata"]["ownerReferences"] = [
        {"kind": "Note", "name": "n"},
        {"kind": "Shop", "name": "s", "controller": True},
    ]
    assert ownership.controller_of(owned) == "Shop s"
