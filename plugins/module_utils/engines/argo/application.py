# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects by which Argo CD is told what to deploy: Applications, projects and credentials of repositories."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..workloads.objects import MANAGED

API_VERSION = "argoproj.io/v1alpha1"
#: Makes the controller compare with Git now; it takes the annotation away when it has. Values: normal, hard.
REFRESH = "argocd.argoproj.io/refresh"
SYNC_WAVE = "argocd.argoproj.io/sync-wave"
#: With it, deleting an Application deletes what it has deployed.
CASCADE = "resources-finalizer.argocd.argoproj.io"
_CREDENTIAL_LABEL = "argocd.argoproj.io/secret-type"


def application(
    name: str,
    namespace: str,
    *,
    project: str,
    source: Mapping[str, Any],
    destination: Mapping[str, Any],
    wave: int | None = None,
    automated: Mapping[str, Any] | None = None,
    sync_options: Sequence[str] = (),
    ignore_differences: Sequence[Mapping[str, Any]] = (),
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """An Application. ``source`` has repo, path and revision, ``destination`` namespace and server.

    ``automated`` has prune and self_heal; without it nothing is synced by itself.
    """
    policy: dict[str, Any] = {}
    if automated is not None:
        said = {"prune": automated["prune"], "selfHeal": automated["self_heal"]}
        policy["automated"] = _filled(said)
    if sync_options:
        policy["syncOptions"] = list(sync_options)
    spec: dict[str, Any] = {
        "project": project,
        "source": {"repoURL": source["repo"], "path": source["path"], "targetRevision": source["revision"]},
        "destination": {"server": destination["server"], "namespace": destination["namespace"]},
        **({"syncPolicy": policy} if policy else {}),
        **({"ignoreDifferences": [_filled(each) for each in ignore_differences]} if ignore_differences else {}),
    }
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": {**MANAGED, **(labels or {})}}
    if wave is not None:
        metadata["annotations"] = {SYNC_WAVE: str(wave)}
    return {"apiVersion": API_VERSION, "kind": "Application", "metadata": metadata, "spec": spec}


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is false or empty: Argo CD writes the object again without it, and takes the field over by that."""
    return {name: value for name, value in values.items() if value}


def default_project(namespace: str) -> dict[str, Any]:
    """The AppProject ``default`` as argocd-server makes it: everything may go everywhere."""
    return {
        "apiVersion": API_VERSION,
        "kind": "AppProject",
        "metadata": {"name": "default", "namespace": namespace},
        "spec": {
            "sourceRepos": ["*"],
            "destinations": [{"namespace": "*", "server": "*"}],
            "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
        },
    }


def credential_name(url: str) -> str:
    """The name of the Secret of a repository: one for each URL, whoever writes it."""
    host = re.sub(r"[^a-z0-9]+", "-", re.sub(r"^[a-z+]+://", "", url.lower())).strip("-")
    return f"repo-{host[:40].strip('-')}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def credential(url: str, namespace: str, username: str, token: str) -> dict[str, Any]:
    """The Secret by which Argo CD reads a repository over HTTP with an API token as the password."""
    fields = {"type": "git", "url": url, "username": username, "password": token}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": credential_name(url),
            "namespace": namespace,
            "labels": {**MANAGED, _CREDENTIAL_LABEL: "repository"},
        },
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in fields.items()},
    }
