# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases of a plain Deployment with real pods, real traffic and Prometheus.

The application, its versions and its namespace are those of the scenario canary, made as a Deployment: nothing of it is
left afterwards but images. What releases it has no rights but its identity's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.errors import KubeError
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import DEPLOYMENT, POD
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.pair import (
    DEPLOYMENT_REVISION,
    MEMORY_ANNOTATION,
)
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.seen import is_ready

from .conftest import ROOT
from .plays import Plays

SCENARIO = ROOT / "molecule" / "canary"
NAMESPACE, NAME = "canary-test", "lumen-api"
CANARY, IMAGE = f"{NAME}-canary", "192.168.2.2:5000/canary-test"
REPLICAS, SURGE = 3, 1
GOOD, BAD, FIRST = "v0.0.2", "v0.0.3", "v0.0.1"
ANALYSIS = {
    "templates": [{"templateName": "success-rate-canary"}],
    "args": [{"name": "canary-hash", "valueFrom": {"podTemplateHashValue": "Latest"}}],
}
STEPS = [{"setWeight": 20}, {"analysis": ANALYSIS}, {"setWeight": 80}, {"analysis": ANALYSIS}, {"setWeight": 100}]
CANARY_PLAY = """
- name: A canary by itself
  hosts: clusters
  gather_facts: false
  tasks:
    - name: Bring it out
      lumen.airgap.canary:
        kubeconfig: "{{ airgap_release_kubeconfig }}"
        name: lumen-api
        namespace: canary-test
        driver: deployment
        steps: "{{ airgap_canary_steps }}"
        image: "{{ image }}"
        prometheus: "{{ airgap_prometheus }}"
        step_deadline: 600
"""


class Site(Plays):
    """The application, and how it is released."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.session = Session.connect(str(ROOT / ".lab" / "kubeconfig"))
        variables = {
            "driver": "deployment",
            "release_identity_drivers": ["deployment"],
            "airgap_app_replicas": REPLICAS,
            "airgap_canary_steps": STEPS,
        }
        arguments = ["-i", "inventories/lab", "-e", f"@{SCENARIO / 'vars' / 'lab.yml'}", "-e", json.dumps(variables)]
        super().__init__(arguments, {"MOLECULE_EPHEMERAL_DIRECTORY": str(path)})

    def release(self, version: str, **variables: str) -> tuple[dict[str, Any], str]:
        """The evidence of release.yml, and what was printed."""
        code, output = self.play("playbooks/release.yml", version=version, **variables)
        reports = sorted((self.path / "reports").glob(f"*-{version}-*.json"), key=lambda path: path.stat().st_mtime_ns)
        assert reports, output[-6000:]
        report: dict[str, Any] = json.loads(reports[-1].read_text(encoding="utf-8"))
        assert (code == 0) == (report["outcome"] == "promoted"), output[-6000:]
        return report, output

    def deployment(self) -> dict[str, Any]:
        return self.session.get(DEPLOYMENT, NAME, NAMESPACE)

    def canary(self) -> dict[str, Any] | None:
        return self.session.find(DEPLOYMENT, CANARY, NAMESPACE)

    def nothing_is_left(self, version: str) -> None:
        """Only the Deployment with all its pods of one version, and nothing that a release has written into it."""
        found = self.deployment()
        assert self.canary() is None
        assert found["spec"]["replicas"] == REPLICAS
        assert {name for name in found["metadata"]["annotations"] if "lumen" in name} == set()
        assert found["spec"]["template"]["spec"]["containers"][0]["image"] == f"{IMAGE}:{version}"
        assert {pod["spec"]["containers"][0]["image"] for pod in self.pods()} == {f"{IMAGE}:{version}"}
        assert len(self.pods()) == REPLICAS

    def pods(self) -> list[dict[str, Any]]:
        found = self.session.list(POD, NAMESPACE, label_selector=f"app={NAME}").items
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


class Counting:
    """Looks at the pods all the time: the most there were, and the fewest that were ready."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.most, self.fewest = 0, REPLICAS

    def __enter__(self) -> Counting:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join(15)

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            try:
                pods = self._site.pods()
            except KubeError:
                continue
            self.most = max(self.most, len(pods))
            self.fewest = min(self.fewest, sum(is_ready(pod) for pod in pods))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("canary"))
    try:
        made.must_play(str(SCENARIO / "prepare.yml"), deadline=600)
        yield made
    finally:
        made.must_play(str(SCENARIO / "destroy.yml"))


def test_a_good_version_is_promoted(site: Site) -> None:
    before = int(site.deployment()["metadata"]["annotations"][DEPLOYMENT_REVISION])
    with Counting(site) as counted:
        report, output = site.release(GOOD)
    assert (report["outcome"], report["driver"]) == ("promoted", "deployment"), output[-6000:]
    results = [(step["kind"], step["weight"], step["result"]) for step in report["steps"]]
    assert results == [
        ("setWeight", 20, "completed"),
        ("analysis", 20, "Successful"),
        ("setWeight", 80, "completed"),
        ("analysis", 80, "Successful"),
        ("setWeight", 100, "completed"),
    ]
    assert {each["value"] for each in report["measurements"]} == {"[1]"}
    assert counted.most <= REPLICAS + SURGE
    assert counted.fewest >= REPLICAS  # a quarter of three may be unavailable: none
    assert int(site.deployment()["metadata"]["annotations"][DEPLOYMENT_REVISION]) == before + 1
    site.nothing_is_left(GOOD)


def test_a_version_that_answers_500_is_taken_back(site: Site) -> None:
    before = site.deployment()
    with Counting(site) as counted:
        report, output = site.release(BAD)
    assert (report["outcome"], report["driver"]) == ("rolled_back", "deployment"), output[-6000:]
    assert "assessed Failed due to failed (2) > failureLimit (1)" in report["reason"]
    values = [float(each["value"].strip("[]")) for each in report["measurements"]]
    assert min(values) < 0.8
    assert counted.most <= REPLICAS + SURGE
    assert counted.fewest >= REPLICAS
    assert site.deployment()["spec"]["template"] == before["spec"]["template"]
    site.nothing_is_left(GOOD)


def test_an_image_that_does_not_exist_is_taken_back_within_seconds(site: Site, tmp_path: Path) -> None:
    play = tmp_path / "canary.yml"
    play.write_text(CANARY_PLAY, encoding="utf-8")
    code, output = site.play(str(play), deadline=60, image=f"{IMAGE}:v9.9.9")
    assert code != 0
    assert "rolled_back" in output
    assert "ErrImagePull" in output
    site.nothing_is_left(GOOD)


def test_killed_in_mid_step_and_taken_up_again(site: Site) -> None:
    before = site.deployment()
    revision = int(before["metadata"]["annotations"][DEPLOYMENT_REVISION])

    def index() -> int:
        canary = site.canary()
        return -1 if canary is None else int(json.loads(canary["metadata"]["annotations"][MEMORY_ANNOTATION])["index"])

    run = site.start("playbooks/release.yml", version=FIRST)
    try:
        # Told once the step before is written down, which the cluster shows a moment earlier.
        assert run.until("step 4/5 analysis", 120), run.text[-6000:]
        assert index() == 3
    finally:
        # This process alone: its workers are left to find out, as when a machine runs out of memory.
        run.kill(alone=True)
    killed = site.canary()
    assert killed is not None
    report, output = site.release(FIRST)
    assert (report["outcome"], report["driver"]) == ("promoted", "deployment"), output[-6000:]
    texts = "\n".join(entry["text"] for entry in report["timeline"])
    assert "step 4/5 analysis" in texts
    assert [step["result"] for step in report["steps"]] == [
        "completed",
        "Successful",
        "completed",
        "Successful",
        "completed",
    ]
    assert report["steps"][0]["started_at"]
    assert int(site.deployment()["metadata"]["annotations"][DEPLOYMENT_REVISION]) == revision + 1
    site.nothing_is_left(FIRST)


def test_killed_and_aborted(site: Site) -> None:
    """By abort.yml: nobody but the next run takes the canary of a Deployment back."""
    run = site.start("playbooks/rollback.yml", to=GOOD, analyse="true")
    try:
        assert run.until("step 4/5 analysis", 120), run.text[-6000:]
    finally:
        run.kill()
    output = site.must_play("playbooks/abort.yml")
    assert "rolled_back" in output, output[-6000:]
    assert "aborted by hand" in output, output[-6000:]
    site.nothing_is_left(FIRST)


def test_what_is_promoted_and_not_verified_goes_back(site: Site) -> None:
    """A pod that is nobody's gets traffic of the Service until then."""
    site.session.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "stranger", "namespace": NAMESPACE, "labels": {"app": NAME}},
            "spec": site.deployment()["spec"]["template"]["spec"],
        }
    )
    try:
        run = site.start("playbooks/rollback.yml", to=GOOD)
        assert run.until("TASK \\[See that stable alone is running", 180), run.text[-6000:]
    finally:
        site.session.delete(POD, "stranger", NAMESPACE)
    code, output = run.end()
    assert code != 0
    assert f"{GOOD} of {NAME} in lab: rolled back" in " ".join(output.split())
    assert "Pods of another version are left: stranger" in " ".join(output.split())
    site.nothing_is_left(FIRST)
