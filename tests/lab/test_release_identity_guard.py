# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The policy that holds the identity of releases, on an API server of this test's own."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import APPLICATION, ROLLOUT, Kind
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Invalid, NotFound, Session
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.node import Node
from ansible_collections.lumen.airgap.plugins.module_utils.engines.identity import Wanted
from ansible_collections.lumen.airgap.plugins.module_utils.services.apply import apply
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_identity import Identities
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock

from .api_server import ApiServer
from .conftest import eventually

pytestmark = pytest.mark.loopback

WANTED = Wanted("lumen-api", "lumen", argocd_namespace="argocd", applications=("lumen-app",))
NAMES = {ROLLOUT: ("lumen-api", "lumen"), APPLICATION: ("lumen-app", "argocd")}
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}
FINALIZER = "resources-finalizer.argocd.argoproj.io"
IMAGE = "/spec/template/spec/containers/0/image"
DIGEST = f"sha256:{'0a' * 32}"


def definition(kind: Kind) -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    singular = kind.kind.lower()
    names = {"kind": kind.kind, "plural": f"{singular}s", "singular": singular, "listKind": f"{kind.kind}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.argoproj.io"},
        "spec": {"group": "argoproj.io", "scope": "Namespaced", "names": names, "versions": [version]},
    }


@pytest.fixture(scope="module")
def admin(server: ApiServer) -> Session:
    session = Session.connect(str(server.kubeconfig()))
    namespaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}} for n in ("lumen", "argocd")]
    apply(session, [*namespaces, *map(definition, NAMES)])
    container = {"name": "lumen-api", "image": "192.168.2.2:5000/lumen-api:v1"}
    specs = {
        ROLLOUT: {"replicas": 1, "template": {"spec": {"containers": [container]}}},
        APPLICATION: {"project": "default"},
    }

    def served() -> bool:
        try:
            return all(session.list(kind, "lumen").items == [] for kind in NAMES)
        except NotFound:
            return False

    eventually("both kinds are served", served, 20)
    for kind, (name, namespace) in NAMES.items():
        metadata = {"name": name, "namespace": namespace, "finalizers": ["lumen.example/keep"]}
        session.create({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": specs[kind]})
    return session


@pytest.fixture(scope="module")
def session(admin: Session, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """The identity's own, once its policy is in force."""
    path = str(tmp_path_factory.mktemp("identity") / "kubeconfig")
    Identities(admin, Node(), SystemClock()).present(WANTED, path, 86400.0, 3600.0)
    made = Session.connect(path)

    replicas = count(2)

    def in_force() -> bool:
        try:
            patch(made, ROLLOUT, "add", "/spec/replicas", next(replicas))  # the same one again would change nothing
        except Invalid:
            return True
        return False

    eventually("the policy is in force", in_force, 30)
    return made


def patch(session: Session, kind: Kind, operation: str, where: str, value: Any = None) -> None:
    session.patch(kind, *NAMES[kind], [{"op": operation, "path": where, "value": value}], "json")


@pytest.mark.parametrize(
    "image",
    [
        "192.168.2.2:5000/lumen-api:v2",
        f"192.168.2.2:5000/lumen-api:v2@{DIGEST}",
        f"192.168.2.2:5000/lumen-api@{DIGEST}",
        "192.168.2.2:5000/lumen-api:v1",
    ],
)
def test_another_version_is_let_through(session: Session, image: str) -> None:
    patch(session, ROLLOUT, "replace", IMAGE, image)


@pytest.mark.parametrize(
    "image",
    [
        "192.168.2.2:5000/trivy:v1",
        f"192.168.2.2:5000/trivy@{DIGEST}",
        "192.168.2.2:5000/lumen-api-builder:v1",
        "192.168.2.2:5000/lumen-api/other:v1",
        "192.168.2.2:5000/other/lumen-api:v1",
        "192.168.2.2:5001/lumen-api:v1",
        "lumen-api:v1",
        "",
    ],
)
def test_another_repository_is_refused(session: Session, image: str) -> None:
    with pytest.raises(Invalid, match="no more of it than tag and digest"):
        patch(session, ROLLOUT, "replace", IMAGE, image)


@pytest.mark.parametrize("kind", list(NAMES), ids=lambda kind: kind.kind)
def test_owners_and_finalizers_are_held(session: Session, admin: Session, kind: Kind) -> None:
    patch(session, kind, "add", "/metadata/annotations", {"argocd.argoproj.io/refresh": "normal"})
    for field, value in (("ownerReferences", [OWNER]), ("finalizers", [FINALIZER])):
        with pytest.raises(Invalid, match=f"releases change no {field}"):
            patch(session, kind, "add", f"/metadata/{field}", value)
    with pytest.raises(Invalid, match="releases change no finalizers"):
        patch(session, kind, "add", "/metadata/finalizers/-", FINALIZER)
    with pytest.raises(Invalid, match="releases change no finalizers"):
        patch(session, kind, "remove", "/metadata/finalizers")
    # None there before, either.
    patch(admin, kind, "remove", "/metadata/finalizers")
    patch(session, kind, "add", "/metadata/annotations", {})
    with pytest.raises(Invalid, match="releases change no finalizers"):
        patch(session, kind, "add", "/metadata/finalizers", [FINALIZER])
