# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong between Git and the cluster, provoked with Applications of this test's own.

Their source is a repository of this test's own in the lab's Gitea, and they deploy into a namespace of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import prometheus
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.gitea import Gitea
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import ROLLOUT
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.node import Node
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry
from ansible_collections.lumen.airgap.plugins.module_utils.engines.doctor.facts import Finding
from ansible_collections.lumen.airgap.plugins.module_utils.engines.identity import Wanted as WantedIdentity
from ansible_collections.lumen.airgap.plugins.module_utils.services.doctor import Doctor, Wanted
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_identity import Identities
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock

from .conftest import eventually
from .probe import REGISTRY, tagged
from .test_doctor import ANALYSIS, APP, DAY, MISSING, PROMETHEUS, WEIGHT, rollout, template
from .test_doctor_pipeline import URL, api, token

GOOD, BAD = "argocd-good", "argocd-bad"
IN_CLUSTER = "http://gitea-http.gitea.svc.cluster.local:3000"
MANIFEST = "app/rollout.yaml"
OPTIONS = ["SkipDryRunOnMissingResource=true", "RespectIgnoreDifferences=true"]
IGNORED = {
    "group": "apiextensions.k8s.io",
    "kind": "CustomResourceDefinition",
    "jsonPointers": ["/spec/preserveUnknownFields", "/status"],
}


@dataclass
class Site:
    """A repository, an Application of it, and a doctor with the rights of a release."""

    namespace: str
    owner: str
    kubeconfig: str
    session: Session  # the administrator's

    @property
    def name(self) -> str:
        return f"doctor-{self.namespace}"

    @property
    def gitea(self) -> Gitea:
        return Gitea.connect({"url": URL, "token": token()})

    def commit(self, path: str, message: str, *objects: dict[str, Any]) -> None:
        """Bring objects into Git."""
        text = yaml.safe_dump_all(objects)
        there = self.gitea.content(self.owner, self.name, path, "main")
        self.gitea.put_content(
            self.owner, self.name, path, "main", text.encode(), message, there.sha if there else None
        )

    def application(self, path: str, name: str = "", **spec: Any) -> None:
        from driver.cluster import kubectl

        body = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {"name": name or self.name, "namespace": "argocd"},
            "spec": {
                "project": "default",
                "source": {
                    "repoURL": f"{IN_CLUSTER}/{self.owner}/{self.name}.git",
                    "path": path,
                    "targetRevision": "main",
                },
                "destination": {"server": "https://kubernetes.default.svc", "namespace": self.namespace},
                "syncPolicy": {"automated": {"prune": True, "selfHeal": True}, "syncOptions": OPTIONS},
                "ignoreDifferences": [IGNORED],
                **spec,
            },
        }
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(body))

    def refresh(self, name: str = "") -> None:
        from driver.cluster import kubectl

        words = ["annotate", "application", name or self.name, "-n", "argocd", "--overwrite"]
        kubectl(*words, "argocd.argoproj.io/refresh=normal")

    def settle(self, phase: str, image: str) -> None:
        def settled() -> bool:
            listed = self.session.list(ROLLOUT, self.namespace).items
            return any(
                (each.get("status") or {}).get("phase") == phase
                and str(each["status"].get("observedGeneration")) == str(each["metadata"]["generation"])
                and each["spec"]["template"]["spec"]["containers"][0]["image"].endswith(image)
                for each in listed
            )

        eventually(f"{image} is {phase}", settled, 90)

    def examine(self) -> list[Finding]:
        """The findings about what is ours; the lab's own Applications are another matter."""
        wanted = Wanted(
            APP,
            self.namespace,
            REGISTRY,
            gitea_namespace="",
            repository=f"{self.owner}/{self.name}",
            manifest=MANIFEST,
            image_repository="probe",
        )
        doctor = Doctor(
            lambda: Session.connect(self.kubeconfig),
            SystemClock(),
            wanted,
            prometheus=lambda session: prometheus.connect(PROMETHEUS, session).query,
            registry=lambda: Registry.connect({"host": REGISTRY, "scheme": "http"}),
            gitea=lambda: self.gitea,
        )
        report = doctor.examine()
        print("\n".join(report.lines))
        # Nobody runs a runner for this repository.
        return [each for each in report.findings if not each.code.startswith("runner-") and self._ours(each)]

    def _ours(self, finding: Finding) -> bool:
        return not finding.subject.startswith("Application ") or self.name in finding.subject

    def codes(self) -> list[str]:
        return [finding.code for finding in self.examine()]

    def finding(self, code: str, deadline: float = 90) -> Finding:
        found: list[Finding] = []

        def look() -> bool:
            found[:] = [finding for finding in self.examine() if finding.code == code]
            return bool(found)

        eventually(f"the doctor finds {code}", look, deadline)
        return found[0]


@pytest.fixture(scope="module")
def versions() -> Iterator[None]:
    """A good and a bad version of the app."""
    with tagged(GOOD, BAD):
        yield


@pytest.fixture
def site(namespace: str, versions: None, tmp_path: Path) -> Iterator[Site]:
    from driver.cluster import KUBECONFIG, kubectl

    where = tuple(PROMETHEUS[key] for key in ("namespace", "service", "port"))
    name = f"doctor-{namespace}"
    identity = WantedIdentity(
        APP,
        namespace,
        prometheus=where,  # type: ignore[arg-type]
        argocd_namespace="argocd",
        applications=(name,),
        observed=("argo-rollouts", "argocd"),
    )
    session = Session.connect(str(KUBECONFIG))
    identities = Identities(session, Node(), SystemClock())
    path = str(tmp_path / "kubeconfig")
    identities.present(identity, path, 90 * DAY, 30 * DAY)
    owner = api("GET", "/user")["login"]
    api("POST", "/user/repos", {"name": name, "private": False, "auto_init": True, "default_branch": "main"})
    yield Site(namespace, owner, path, session)
    kubectl("delete", "applications", "-n", "argocd", name, f"{name}-2", "--ignore-not-found", timeout=90)
    identities.absent(identity, path)
    api("DELETE", f"/repos/{owner}/{name}")


def app_of(site: Site, tag: str, message: str, *steps: dict[str, Any]) -> None:
    site.commit(MANIFEST, message, rollout(site.namespace, tag, list(steps)))


def test_a_bad_version_from_git_and_back(site: Site) -> None:
    """Bumped, aborted, touched by hand (selfHeal takes that back, and the bad version comes again), reverted."""
    from driver.cluster import kubectl

    site.commit("app/template.yaml", "Add the analysis", template(site.namespace, "vector(0.4)"))
    app_of(site, GOOD, "First version", WEIGHT, ANALYSIS)
    site.application("app")
    site.settle("Healthy", GOOD)
    eventually("nothing is wrong", lambda: site.codes() == [], 60)

    app_of(site, BAD, "chore: bump to bad [skip ci]", WEIGHT, ANALYSIS)
    ahead = site.finding("git-ahead", 20)
    assert f"Git: {REGISTRY}/probe:{BAD}" in ahead.evidence
    site.refresh()
    site.settle("Degraded", BAD)
    eventually("Git is told", lambda: site.codes() == ["analysis-failed", "aborted-not-reverted"], 60)
    left = site.finding("aborted-not-reverted")
    assert "still in Git" in left.cause
    assert f"Git has {REGISTRY}/probe:{BAD} in {MANIFEST}" in left.evidence
    assert any("chore: bump to bad [skip ci]" in line for line in left.evidence)
    assert any("selfHeal sees no difference" in line for line in left.evidence)

    # The analysis takes its time from here on, so that there is something to see.
    slow = template(site.namespace, "vector(1)")
    slow["spec"]["metrics"][0].update(interval="60s", count=2)
    site.commit("app/template.yaml", "A slower analysis", slow)
    site.refresh()
    eventually("the analysis is changed", lambda: "60s" in kubectl("get", "analysistemplates", "-n", site.namespace, "-o", "json"), 60)  # fmt: skip  # noqa: E501
    patch = [
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": f"{REGISTRY}/probe:{MISSING}"}
    ]
    kubectl("patch", "rollout", APP, "-n", site.namespace, "--type=json", "-p", json.dumps(patch))
    again = site.finding("restarted-after-abort")
    assert (again.severity, "Its spec was touched" in again.cause) == ("error", True)

    app_of(site, GOOD, "Take it back", WEIGHT, ANALYSIS)
    site.refresh()
    site.settle("Healthy", GOOD)
    eventually("nothing is wrong", lambda: site.codes() == [], 60)


def test_a_pause_is_suspended(site: Site) -> None:
    app_of(site, GOOD, "First version", WEIGHT, {"pause": {}})
    site.application("app")
    site.settle("Healthy", GOOD)
    app_of(site, BAD, "Next version", WEIGHT, {"pause": {}})
    site.refresh()
    site.settle("Paused", BAD)
    suspended = f"Argo CD shows the Application {site.name} as Suspended, its word for a pause"
    eventually("Argo CD says so", lambda: suspended in site.finding("rollout-paused").evidence, 30)


def widget(namespace: str) -> dict[str, Any]:
    metadata = {"name": "w", "namespace": namespace}
    return {"apiVersion": "doctor.lumen.example/v1", "kind": "Widget", "metadata": metadata, "spec": {}}


@pytest.mark.parametrize("skips", [False, True])
def test_a_kind_that_the_cluster_does_not_know(site: Site, skips: bool) -> None:
    app_of(site, GOOD, "First version", WEIGHT)
    site.application("app")
    site.settle("Healthy", GOOD)
    site.commit("widgets/w.yaml", "A widget", widget(site.namespace))
    policy = {"automated": {}, "syncOptions": OPTIONS if skips else OPTIONS[1:], "retry": {"limit": 0}}
    site.application("widgets", f"{site.name}-2", syncPolicy=policy)
    found = site.finding("crd-missing")
    assert "does not know Widget (doctor.lumen.example)" in found.cause
    assert ("without SkipDryRunOnMissingResource=true" in found.cause) is not skips
    assert any("SkipDryRunOnMissingResource=true to spec.syncPolicy" in line for line in found.remedy) is not skips


def definition(group: str) -> dict[str, Any]:
    """What the API server does not keep is ``preserveUnknownFields: false``."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gadgets.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": "Gadget", "plural": "gadgets", "singular": "gadget", "listKind": "GadgetList"},
            "scope": "Namespaced",
            "preserveUnknownFields": False,
            "versions": [version],
        },
    }


def test_definitions_that_are_out_of_sync_for_ever(site: Site) -> None:
    from driver.cluster import kubectl

    group = f"d{int(time.time())}.lumen.example"
    app_of(site, GOOD, "First version", WEIGHT)
    site.application("app")
    site.settle("Healthy", GOOD)
    site.commit("crds/gadget.yaml", "A definition", definition(group))
    second = f"{site.name}-2"
    try:
        site.application("crds", second, ignoreDifferences=[])
        found = site.finding("ignore-differences-missing", 60)
        assert f"CustomResourceDefinition gadgets.{group}" in found.evidence
        assert "it lacks: ignoreDifferences /spec/preserveUnknownFields, ignoreDifferences /status" in found.evidence
        # The way out that it names.
        site.application("crds", second)
        site.refresh(second)
        eventually("it is Synced", lambda: site.codes() == [], 60)
    finally:
        kubectl("delete", "application", second, "-n", "argocd", timeout=60)
        kubectl("delete", "crd", f"gadgets.{group}", "--ignore-not-found", timeout=60)


def test_an_application_that_cannot_read_git(site: Site) -> None:
    source = {"repoURL": f"{IN_CLUSTER}/{site.owner}/nobody-has-this.git", "path": "app", "targetRevision": "main"}
    site.application("app", source=source)
    found = site.finding("application-error")
    assert "nobody-has-this" in str(found.evidence)
