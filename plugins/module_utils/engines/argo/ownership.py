# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who owns the fields of an object, and how they pass from one manager to another without being touched.

Server-side apply remembers for each manager which fields it has applied (``metadata.managedFields``). Whoever takes an
object over and leaves that as it is meets conflicts, and fields that the one before had set stay for ever. Here its
entries become those of the new owner, before that one applies: no field changes, so no pod restarts, and the next
apply removes what the new owner does not declare. kubectl does the same when it moves from its client-side apply
(client-go/util/csaupgrade).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

#: Field managers of kubectl: server-side, client-side, and what was there before anybody applied server-side.
KUBECTL = ("kubectl", "kubectl-client-side-apply", "before-first-apply")
#: Field manager of Argo CD (common.ArgoCDSSAManager), of its client-side apply too.
ARGO_CD = "argocd-controller"
#: What Argo CD writes on an object that an Application has: <application>:<group>/<kind>:<namespace>/<name>.
TRACKING = "argocd.argoproj.io/tracking-id"
#: What Argo CD writes where it tracks by label, and Helm on everything: the name of the application.
INSTANCE_LABEL = "app.kubernetes.io/instance"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def application_of(item: Mapping[str, Any]) -> str | None:
    """The Application that an object says it belongs to, as ``name`` or ``namespace_name``; None without one."""
    annotations = item["metadata"].get("annotations") or {}
    tracked: str = annotations.get(TRACKING, "")
    return tracked.partition(":")[0] or None


def keeper(item: Mapping[str, Any]) -> str:
    """The Application by which Argo CD keeps an object as it stands in Git; empty when it keeps it by none.

    The annotation has to name the object itself: on a copy of one that is kept it says nothing, as for Argo CD
    (isSelfReferencedObj in controller/state.go). The label is Helm's as well; it is Argo CD's where that has applied.
    """
    meta = item["metadata"]
    application, _colon, itself = str((meta.get("annotations") or {}).get(TRACKING, "")).partition(":")
    group, _slash, _version = str(item["apiVersion"]).rpartition("/")
    if itself == f"{group}/{item['kind']}:{meta.get('namespace', '')}/{meta['name']}":
        return application
    return str((meta.get("labels") or {}).get(INSTANCE_LABEL, "")) if ARGO_CD in managers(item) else ""


def controller_of(item: Mapping[str, Any]) -> str:
    """The object that a controller has made this one for, as ``kind name``; empty when it stands for itself."""
    owners = item["metadata"].get("ownerReferences") or ()
    return next((f"{each['kind']} {each['name']}" for each in owners if each.get("controller")), "")


def managers(item: Mapping[str, Any]) -> list[str]:
    """Those who have set fields of an object, in order and once; controllers that write its status alone left out."""
    return list(dict.fromkeys(entry["manager"] for entry in _entries(item) if not entry.get("subresource")))


def transfer(item: Mapping[str, Any], sources: Collection[str], target: str) -> list[dict[str, Any]] | None:
    """A JSON patch that makes ``target`` the one who has applied what ``sources`` have set; None when they set nothing.

    Entries of a subresource stay: a status is nobody's declaration.
    """
    old = _entries(item)
    giving = [entry for entry in old if entry.get("manager") in sources and not entry.get("subresource")]
    if not giving:
        return None
    taking = [entry for entry in old if _applied_by(entry, target)]
    rest = [entry for entry in old if entry not in giving and entry not in taking]
    fields: dict[str, Any] = {}
    for entry in (*taking, *giving):
        fields = _union(fields, entry.get("fieldsV1") or {})
    annotations = item["metadata"].get("annotations") or {}
    if _LAST_APPLIED in annotations:
        # Written by a client-side apply. Once owned it goes away with the next apply, which does not have it.
        fields = _union(fields, {"f:metadata": {"f:annotations": {f"f:{_LAST_APPLIED}": {}}}})
    entry = {
        "manager": target,
        "operation": "Apply",
        "apiVersion": giving[0].get("apiVersion", item["apiVersion"]),
        "time": giving[0].get("time"),
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    entry = {key: value for key, value in entry.items() if value is not None}
    return [
        # The entries are those of this version of the object: a change in between is a conflict, and read again.
        {"op": "replace", "path": "/metadata/resourceVersion", "value": item["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/metadata/managedFields", "value": [*rest, entry]},
    ]


def _entries(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(item["metadata"].get("managedFields") or ())


def _applied_by(entry: Mapping[str, Any], manager: str) -> bool:
    return (entry.get("manager"), entry.get("operation"), entry.get("subresource") or "") == (manager, "Apply", "")


def _union(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both trees of FieldsV1 in one: a field is a key, and what is below it a tree again."""
    result = dict(first)
    for key, value in second.items():
        result[key] = _union(result.get(key) or {}, value or {})
    return result
