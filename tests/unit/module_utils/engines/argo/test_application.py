# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Applications, the default project and credentials as Argo CD reads them."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.argo import application

SOURCE = {"repo": "http://gitea/lumen.git", "path": "manifests/app", "revision": "main"}
DESTINATION = {"server": "https://kubernetes.default.svc", "namespace": "lumen"}


def test_an_application_with_everything() -> None:
    ignored = [{"group": "apiextensions.k8s.io", "kind": "CustomResourceDefinition", "jsonPointers": ["/status"]}]
    found = application.application(
        "argo-rollouts",
        "argocd",
        project="default",
        source=SOURCE,
        destination=DESTINATION,
        wave=2,
        automated={"prune": True, "self_heal": False},
        sync_options=["ServerSideApply=true"],
        ignore_differences=[*ignored, {"group": "", "kind": "Service", "jsonPointers": ["/spec"]}],
        labels={"team": "platform"},
    )
    assert found == {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {
            "name": "argo-rollouts",
            "namespace": "argocd",
            "labels": {"app.kubernetes.io/managed-by": "lumen.airgap", "team": "platform"},
            "annotations": {"argocd.argoproj.io/sync-wave": "2"},
        },
        "spec": {
            "project": "default",
            "source": {"repoURL": "http://gitea/lumen.git", "path": "manifests/app", "targetRevision": "main"},
            "destination": DESTINATION,
            "syncPolicy": {
                "automated": {"prune": True},
                "syncOptions": ["ServerSideApply=true"],
            },
            "ignoreDifferences": [*ignored, {"kind": "Service", "jsonPointers": ["/spec"]}],
        },
    }


def test_nothing_is_written_that_was_not_asked_for() -> None:
    found = application.application("a", "argocd", project="default", source=SOURCE, destination=DESTINATION)
    assert "annotations" not in found["metadata"]
    assert set(found["spec"]) == {"project", "source", "destination"}


def test_automated_with_nothing_else_is_automated() -> None:
    automated = {"prune": False, "self_heal": False}
    found = application.application(
        "a", "argocd", project="default", source=SOURCE, destination=DESTINATION, automated=automated
    )
    assert found["spec"]["syncPolicy"] == {"automated": {}}


def test_a_credential() -> None:
    found = application.credential("http://gitea/lumen.git", "argocd", "lumen", "t0ken")
    assert found["metadata"]["labels"]["argocd.argoproj.io/secret-type"] == "repository"
    data = {key: base64.b64decode(value).decode() for key, value in found["data"].items()}
    assert data == {"type": "git", "url": "http://gitea/lumen.git", "username": "lumen", "password": "t0ken"}


@pytest.mark.parametrize(
    "url", ["http://gitea-http.gitea.svc.cluster.local:3000/lumen/lumen.git", "http://G/Ü_x", "//"]
)
def test_the_name_of_a_credential_is_one_of_kubernetes(url: str) -> None:
    name = application.credential_name(url)
    assert name == application.credential_name(url)
    assert name != application.credential_name(url + "/")
    assert len(name) <= 63
    assert name.strip("-") == name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_the_default_project_allows_everything() -> None:
    spec = application.default_project("argocd")["spec"]
    assert spec["sourceRepos"] == ["*"]
    assert spec["destinations"] == [{"namespace": "*", "server": "*"}]
