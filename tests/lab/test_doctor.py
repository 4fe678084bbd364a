# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each thing that can hold up a release, provoked on the real cluster, and what the doctor says of it.

The doctor looks with the rights of releases alone, at an app of this test's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import prometheus
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

APP = "doctor-app"
GOOD, BAD, MISSING = "doctor-good", "doctor-bad", "doctor-missing"
PROMETHEUS = {
    "namespace": "monitoring",
    "service": "kube-prometheus-stack-prometheus",
    "port": 9090,
    "url": None,
    "timeout": 10.0,
}
ADDRESS = "http://kube-prometheus-stack-prometheus.monitoring.svc.cluster.local:9090"
DAY = 86400.0


@pytest.fixture(scope="module")
def versions() -> Iterator[None]:
    """Two tags of the lab's probe, which stand for a good and a bad version of the app."""
    with tagged(GOOD, BAD):
        yield


@dataclass
class App:
    """A Rollout of one pod, and a doctor for it."""

    namespace: str
    kubeconfig: str
    wanted: Wanted
    session: Session  # the administrator's

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        from driver.cluster import kubectl

        return kubectl("-n", self.namespace, *words, stdin=stdin)

    def apply(self, *objects: dict[str, Any]) -> None:
        content = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(content))

    def deploy(self, tag: str, *steps: dict[str, Any]) -> None:
        """Bring the version and the steps into the spec, as a sync would."""
        self.apply(rollout(self.namespace, tag, list(steps)))

    def patch_status(self, status: dict[str, Any]) -> None:
        """What the verbs of the kubectl plugin do."""
        patch = json.dumps({"status": status})
        self.kubectl("patch", "rollout", APP, "--subresource=status", "--type=merge", "-p", patch)

    def status(self) -> dict[str, Any]:
        found = self.session.get(ROLLOUT, APP, self.namespace)
        status: dict[str, Any] = found.get("status") or {}
        observed = str(status.get("observedGeneration")) == str(found["metadata"]["generation"])
        return status if observed else {}

    def settle(self, phase: str, deadline: float = 60) -> None:
        eventually(f"the Rollout is {phase}", lambda: self.status().get("phase") == phase, deadline)

    def examine(self) -> list[Finding]:
        doctor = Doctor(
            lambda: Session.connect(self.kubeconfig),
            SystemClock(),
            self.wanted,
            prometheus=lambda session: prometheus.connect(PROMETHEUS, session).query,
            registry=lambda: Registry.connect({"host": REGISTRY, "scheme": "http"}),
        )
        report = doctor.examine()
        print("\n".join(report.lines))
        return report.findings

    def codes(self) -> list[str]:
        return [finding.code for finding in self.examine()]

    def finding(self, code: str, deadline: float = 60) -> Finding:
        """The finding, once it is there."""
        found: list[Finding] = []

        def look() -> bool:
            found[:] = [finding for finding in self.examine() if finding.code == code]
            return bool(found)

        eventually(f"the doctor finds {code}", look, deadline)
        return found[0]


def rollout(namespace: str, tag: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    labels = {"app": APP}
    container = {"name": APP, "image": f"{REGISTRY}/probe:{tag}", "args": ["serve", ":8080"]}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": APP, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
            },
            "strategy": {"canary": {"steps": steps}},
        },
    }


def template(namespace: str, query: str) -> dict[str, Any]:
    """An analysis that decides at its first measurement."""
    provider = {"prometheus": {"address": ADDRESS, "query": query}}
    metric = {"name": "success-rate", "successCondition": "result[0] >= 0.95", "provider": provider}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": {"name": "success-rate", "namespace": namespace},
        "spec": {"metrics": [metric]},
    }


WEIGHT: dict[str, Any] = {"setWeight": 50}
ANALYSIS: dict[str, Any] = {"analysis": {"templates": [{"templateName": "success-rate"}]}}


@pytest.fixture
def app(namespace: str, versions: None, tmp_path: Path) -> Iterator[App]:
    """The good version runs, and the doctor has nothing to say."""
    from driver.cluster import KUBECONFIG

    where = tuple(PROMETHEUS[key] for key in ("namespace", "service", "port"))
    identity = WantedIdentity(APP, namespace, prometheus=where, observed=("argo-rollouts",))  # type: ignore[arg-type]
    session = Session.connect(str(KUBECONFIG))
    identities = Identities(session, Node(), SystemClock())
    path = str(tmp_path / "kubeconfig")
    identities.present(identity, path, 90 * DAY, 30 * DAY)
    wanted = Wanted(APP, namespace, REGISTRY, argocd_namespace="", gitea_namespace="", image_repository="probe")
    made = App(namespace, path, wanted, session)
    made.deploy(GOOD, WEIGHT)
    made.settle("Healthy")
    assert made.codes() == []
    yield made
    identities.absent(identity, path)


def test_an_image_that_is_not_in_the_registry(app: App) -> None:
    app.deploy(MISSING, WEIGHT)
    found = app.finding("image-missing")
    assert f"has no probe:{MISSING}" in found.cause
    assert GOOD in found.cause
    assert found.subject.startswith(f"Pod {app.namespace}/{APP}-")
    assert f"$ docker push {REGISTRY}/probe:{MISSING}" in found.remedy[0]
    app.deploy(GOOD, WEIGHT)
    app.settle("Healthy")
    eventually("nothing is wrong", lambda: app.codes() == [], 30)


def test_a_pod_that_no_node_takes(app: App) -> None:
    nowhere = rollout(app.namespace, BAD, [WEIGHT])
    nowhere["spec"]["template"]["spec"]["nodeSelector"] = {"doctor": "nowhere"}
    app.apply(nowhere)
    found = app.finding("pod-cannot-start")
    assert found.title == "A pod cannot start: Unschedulable"
    assert "didn't match" in found.cause


def test_a_pause_waits_for_somebody(app: App) -> None:
    app.deploy(BAD, WEIGHT, {"pause": {"duration": "1h"}})
    app.settle("Paused")
    assert app.codes() == []
    app.deploy(BAD, WEIGHT, {"pause": {}})
    found = app.finding("rollout-paused")
    assert (found.severity, "at step 2, a pause without an end" in found.cause) == ("info", True)
    assert f"1 of 2 pods run {REGISTRY}/probe:{BAD}" in found.evidence
    app.patch_status({"pauseConditions": None})
    app.settle("Healthy")
    assert app.codes() == []


def test_a_rollout_that_was_paused_by_hand(app: App) -> None:
    app.kubectl("patch", "rollout", APP, "--type=merge", "-p", '{"spec":{"paused":true}}')
    assert any("last written by kubectl-patch" in line for line in app.finding("rollout-stopped").evidence)


def aborted(app: App, query: str) -> None:
    app.apply(template(app.namespace, query))
    app.deploy(BAD, WEIGHT, ANALYSIS)
    app.settle("Degraded")


def test_a_bad_version_from_its_abort_to_stable(app: App) -> None:
    """The analysis fails; the spec is touched, and the bad version comes again; it is taken back."""
    aborted(app, "vector(0.4)")
    assert app.codes() == ["analysis-failed", "aborted-not-reverted"]
    analysis, left = app.examine()
    assert "success-rate measured [0.4] (Failed)" in analysis.evidence
    assert "success-rate is [0.4] now" in analysis.evidence
    assert f"the spec has {REGISTRY}/probe:{BAD}, stable pods run {REGISTRY}/probe:{GOOD}" in left.evidence
    assert f'"value": "{REGISTRY}/probe:{GOOD}"' in left.remedy[0]

    # A pause where the analysis was, so that it stays long enough to be looked at.
    app.deploy(BAD, WEIGHT, {"pause": {}})
    touched = app.finding("restarted-after-abort")
    assert (touched.severity, "Its spec was touched" in touched.cause) == ("error", True)
    assert any("last written by kubectl at" in line for line in touched.evidence)

    app.patch_status({"abort": True})
    app.settle("Degraded")
    assert "aborted-not-reverted" in app.codes()
    app.deploy(GOOD, WEIGHT, {"pause": {}})
    app.settle("Healthy")
    assert app.codes() == []


def test_set_image_and_back_brings_the_bad_version_again(app: App) -> None:
    """What happens when somebody tries another image by hand, and selfHeal takes it back."""
    aborted(app, "vector(0.4)")
    app.apply(template(app.namespace, "vector(1)"))
    app.deploy(MISSING, WEIGHT, {"pause": {}})
    eventually("another version is under way", lambda: app.status().get("phase") == "Progressing", 30)
    app.deploy(BAD, WEIGHT, {"pause": {}})
    found = app.finding("restarted-after-abort")
    assert "Its spec was touched" in found.cause
    assert any("ended Failed" in line for line in found.evidence)


def test_a_retry_is_told_from_a_touch(app: App) -> None:
    aborted(app, "vector(0.4)")
    slow = template(app.namespace, "vector(1)")
    slow["spec"]["metrics"][0].update(interval="30s", count=2)
    app.apply(slow)
    app.patch_status({"abort": False})
    found = app.finding("restarted-after-abort")
    assert (found.severity, "retry" in found.cause) == ("warning", True)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("vector(0) / vector(0)", "analysis-no-traffic"),
        ('sum(rate(http_requests_total{app="nobody"}[1m]))', "analysis-no-traffic"),  # [] has no result[0]: an Error
        ("no such language", "analysis-error"),
    ],
)
def test_an_analysis_that_says_nothing_of_the_version(app: App, query: str, code: str) -> None:
    bad = template(app.namespace, query)
    bad["spec"]["metrics"][0]["consecutiveErrorLimit"] = 0
    app.apply(bad)
    app.deploy(BAD, WEIGHT, ANALYSIS)
    app.settle("Degraded", 90)
    assert app.codes() == [code, "aborted-not-reverted"]


def test_a_prometheus_that_the_controller_does_not_reach(app: App) -> None:
    away = template(app.namespace, "vector(1)")
    away["spec"]["metrics"][0]["consecutiveErrorLimit"] = 0
    away["spec"]["metrics"][0]["provider"]["prometheus"]["address"] = "http://nobody.monitoring.svc.cluster.local:9090"
    app.apply(away)
    app.deploy(BAD, WEIGHT, ANALYSIS)
    app.settle("Degraded", 90)
    found = app.finding("analysis-unreachable")
    assert "There is no host of that name" in found.cause


def test_a_verdict_that_is_none(app: App) -> None:
    unsure = template(app.namespace, "vector(0.9)")
    unsure["spec"]["metrics"][0]["failureCondition"] = "result[0] < 0.5"
    app.apply(unsure)
    app.deploy(BAD, WEIGHT, ANALYSIS)
    app.settle("Paused")
    assert app.codes() == ["analysis-inconclusive"]


def test_what_is_not_there(app: App) -> None:
    app.kubectl("delete", "rollout", APP)
    assert app.codes() == ["rollout-absent"]


def test_what_it_may_not_see_is_told(app: App) -> None:
    role = f"airgap-release.{app.namespace}"
    rules = json.loads(app.kubectl("get", "role", role, "-o", "json"))["rules"]
    kept = [rule for rule in rules if "pods" not in rule["resources"] and "analysisruns" not in rule["resources"]]
    app.kubectl("patch", "role", role, "--type=merge", "-p", json.dumps({"rules": kept}))

    def told() -> bool:
        return [(finding.code, finding.subject) for finding in app.examine()] == [
            ("not-allowed", f"Pods in {app.namespace}"),
            ("not-allowed", f"AnalysisRuns in {app.namespace}"),
        ]

    eventually("both are told", told, 20)
