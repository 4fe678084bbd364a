# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests of a component as plain objects: read, brought into a namespace, changed in places, and put in order."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Object = dict[str, Any]

# Kinds that have no namespace, whatever group version they are of. Those of CustomResourceDefinitions among the
# objects are asked for their scope.
_CLUSTER_SCOPED = frozenset(
    {
        "APIService",
        "CSIDriver",
        "CertificateSigningRequest",
        "ClusterAnalysisTemplate",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "FlowSchema",
        "IngressClass",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PriorityClass",
        "PriorityLevelConfiguration",
        "RuntimeClass",
        "StorageClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
    }
)
# What others need comes before them; what is not named here comes after the configuration and before the workloads.
_FIRST = (
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "NetworkPolicy",
    "ConfigMap",
    "Secret",
    "PersistentVolumeClaim",
    "Service",
)
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
_LAST = (*WORKLOADS, "Job", "CronJob", "Ingress", "IngressRoute")


class ManifestError(ValueError):
    """A document that is not what a manifest may contain."""


def objects(documents: Iterable[tuple[str, Any]]) -> list[Object]:
    """The objects of parsed documents, each with the name of the file it is from. Lists are taken apart.

    Raises ManifestError for what is no object, and for one that comes twice.
    """
    found: list[Object] = []
    files: dict[tuple[str, str, str, str], str] = {}
    for file, document in documents:
        for item in _flat(document, file):
            if identity(item) in files:
                raise ManifestError(f"{file}: {title(item)} comes twice, it is in {files[identity(item)]} already")
            files[identity(item)] = file
            found.append(item)
    return found


def identity(item: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """What makes an object this one: group, kind, namespace and name. Versions of a group are the same objects."""
    group, slash, _version = str(item["apiVersion"]).rpartition("/")
    metadata = item["metadata"]
    return group if slash else "", str(item["kind"]), metadata.get("namespace") or "", metadata["name"]


def title(item: Mapping[str, Any]) -> str:
    """How an object is called in a message."""
    _group, kind, namespace, name = identity(item)
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def in_namespace(items: Iterable[Object], namespace: str) -> list[Object]:
    """Copies in ``namespace``: published manifests leave it to whoever applies them.

    An object that names a namespace keeps it. A subject of a binding follows its ServiceAccount: published manifests
    write the namespace of the default installation there.
    """
    moved = [copy.deepcopy(item) for item in items]
    cluster_scoped = _CLUSTER_SCOPED | _cluster_scoped_of(moved)
    for item in moved:
        if item["kind"] not in cluster_scoped and not item["metadata"].get("namespace"):
            item["metadata"]["namespace"] = namespace
    accounts = {i["metadata"]["name"]: i["metadata"]["namespace"] for i in moved if i["kind"] == "ServiceAccount"}
    for item in moved:
        if item["kind"] in ("ClusterRoleBinding", "RoleBinding"):
            for subject in item.get("subjects") or ():
                if subject.get("kind") == "ServiceAccount" and subject.get("name") in accounts:
                    subject["namespace"] = accounts[subject["name"]]
    return moved


def overlaid(items: Sequence[Object], changes: Iterable[Object]) -> list[Object]:
    """``items`` with ``changes`` merged into the objects that they name, after RFC 7386; new objects are added."""
    result = list(items)
    place = {identity(item): index for index, item in enumerate(result)}
    for change in changes:
        index = place.get(identity(change))
        if index is None:
            place[identity(change)] = len(result)
            result.append(copy.deepcopy(change))
        else:
            result[index] = _merge(result[index], change)
    return result


def ordered(items: Iterable[Object]) -> list[Object]:
    """What others need first, workloads last; otherwise in the order of the manifests."""
    return sorted(items, key=lambda item: _rank(item["kind"]))


def workloads(items: Iterable[Object]) -> list[Object]:
    """What has pods that keep running."""
    return [item for item in items if item["kind"] in WORKLOADS and str(item["apiVersion"]).startswith("apps/")]


def definitions(items: Iterable[Object]) -> list[Object]:
    """The CustomResourceDefinitions."""
    return [item for item in items if item["kind"] == "CustomResourceDefinition"]


def _flat(document: Any, file: str) -> Iterable[Object]:
    if document is None:
        return
    if not isinstance(document, Mapping):
        raise ManifestError(f"{file}: a document is no Kubernetes object but {type(document).__name__}")
    if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _flat(item, file)
        return
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    missing = [key for key in ("apiVersion", "kind") if not isinstance(document.get(key), str) or not document[key]]
    if not isinstance(name, str) or not name:
        missing.append("metadata.name")
    if missing:
        what = document.get("kind") or "a document"
        raise ManifestError(f"{file}: {what} has no {', '.join(missing)}; every object needs apiVersion, kind and name")
    yield dict(document)


def _cluster_scoped_of(items: Iterable[Object]) -> frozenset[str]:
    return frozenset(
        item["spec"]["names"]["kind"]
        for item in definitions(items)
        if (item.get("spec") or {}).get("scope") == "Cluster"
    )


def _rank(kind: str) -> int:
    if kind in _FIRST:
        return _FIRST.index(kind)
    return len(_FIRST) + (1 + _LAST.index(kind) if kind in _LAST else 0)


def _merge(target: Any, change: Any) -> Any:
    if not isinstance(change, Mapping):
        return copy.deepcopy(change)
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge(result.get(key), value)
    return result
