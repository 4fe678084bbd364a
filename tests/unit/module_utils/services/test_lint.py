# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where what is linted comes from: lines and comments of files, templates of a cluster, options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.findings import Document
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.lint import Context, lint_template
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.lint import Reference
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.lint import (
    cluster_templates,
    file_templates,
    lint_gate,
    lint_release,
    read_documents,
    refuse_errors,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession

ROOT = Path(__file__).parents[4]
MANIFESTS = ROOT / "lab" / "app" / "03-airgap-zone" / "manifests" / "app"
SEED = """\
# The seed's.
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata:
  name: success-rate
spec:
  metrics:
    - name: success-rate
      interval: 1m       # evaluate every 1 minute
      count: 5
      successCondition: "len(result) == 0 || result[0] >= 0.95"
      failureLimit: 3    # 3 consecutive failures → rollback
      provider:
        prometheus:
          query: |
            sum(rate(http_requests_total{app="lumen-api",status!~"5.."}[2m]))
            /
            sum(rate(http_requests_total{app="lumen-api"}[2m]))
---
kind: ConfigMap
metadata: {name: other}
---
kind: Rollout
metadata: {name: lumen-api}
spec:
  strategy:
    canary:
      canaryService: c
      steps:
        - analysis:
            templates: [{templateName: success-rate}]
---
kind: ClusterAnalysisTemplate
metadata: {name: everywhere}
spec: {metrics: [{name: m, successCondition: 'result > 1', provider: {prometheus: {query: up}}}]}
"""


@pytest.fixture
def manifests(tmp_path: Path) -> str:
    path = tmp_path / "manifests.yml"
    path.write_text(SEED, encoding="utf-8")
    return str(path)


def test_the_findings_of_a_file_have_their_lines(manifests: str) -> None:
    template, rollout, everywhere = read_documents(manifests)
    assert (template.name, rollout.name) == (
        f"AnalysisTemplate success-rate in {manifests}",
        f"Rollout lumen-api in {manifests}",
    )
    assert {finding.rule: (finding.line, finding.column) for finding in lint_template(template)} == {
        "consecutive-meant": (12, 21),
        "initial-delay-too-short": (8, 7),
        "blended-query": (15, 18),
        "length-is-no-guard": (11, 25),
        "nan-unguarded": (11, 25),
    }
    assert template.comments == {
        ("apiVersion",): "The seed's.",
        ("spec", "metrics", 0, "interval"): "evaluate every 1 minute",
        ("spec", "metrics", 0, "failureLimit"): "3 consecutive failures → rollback",
    }
    assert rollout.place(("spec", "strategy", "canary", "canaryService")) == (28, 22)
    assert set(file_templates([template, rollout, everywhere])) == {
        Reference("success-rate", False),
        Reference("everywhere", True),
    }


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "is not YAML"), ("a: 2026-13-01", "is not YAML"), (None, "Cannot read")]
)
def test_files_that_cannot_be_read(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "f.yml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(AirgapError, match=message):
        read_documents(str(path))


def in_cluster(name: str, kind: str = "AnalysisTemplate", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name} if kind == "ClusterAnalysisTemplate" else {"name": name, "namespace": "lumen"}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def test_the_templates_of_a_release() -> None:
    session = FakeSession(
        in_cluster("a", templates=[{"templateName": "b", "clusterScope": True}]),
        in_cluster(
            "b",
            "ClusterAnalysisTemplate",
            templates=[{"templateName": "a"}],
            metrics=[{"name": "m", "count": 3, "provider": {"job": {}}}],
        ),
    )
    steps = [{"analysis": {"templates": [{"templateName": "a"}, {"templateName": "gone"}]}}]
    rollout = {"spec": {"strategy": {"canary": {"steps": steps}}}}
    found = cluster_templates(session, "lumen", Document("r", rollout))  # type: ignore[arg-type]
    assert [document.name for document in found.values()] == ["AnalysisTemplate lumen/a", "ClusterAnalysisTemplate b"]
    findings = lint_release(session, "lumen", rollout, "Rollout lumen/r", 30.0)  # type: ignore[arg-type]
    assert [(finding.document, finding.rule) for finding in findings] == [
        ("Rollout lumen/r", "missing-template"),
        ("ClusterAnalysisTemplate b", "count-without-interval"),
    ]
    with pytest.raises(
        AirgapError, match=r"count-without-interval: ClusterAnalysisTemplate b, spec.metrics\[0\]"
    ) as raised:
        refuse_errors(findings)
    assert "(corrected: interval: 1m)" in raised.value.message
    assert len(raised.value.details["lint"]) == 2
    refuse_errors([])


def test_a_gate(manifests: str) -> None:
    bad = {"name": "m", "successCondition": "result > 1", "provider": {"prometheus": {"query": "up"}}}
    session = FakeSession(in_cluster("a", metrics=[bad]), in_cluster("a", "ClusterAnalysisTemplate", metrics=[]))

    def found(**options: Any) -> list[str]:
        findings = lint_gate(session, options, "lumen", Context(router=True))  # type: ignore[arg-type]
        return [finding.rule for finding in findings]

    assert found(metrics=[bad]) == ["type-mismatch"]
    assert found(template="a") == ["type-mismatch"]
    assert found(template="a", cluster_template=True) == ["no-metrics"]
    assert found(file=manifests, template="everywhere") == ["type-mismatch"]
    for options, message in (
        ({"file": manifests}, "has 2 analysis templates: name one"),
        ({"file": manifests, "template": "b"}, "has 0 analysis templates 'b'"),
        ({"template": "b"}, "AnalysisTemplate lumen/b does not exist"),
        ({}, "needs a template"),
    ):
        with pytest.raises(AirgapError, match=message):
            found(**options)


ANALYSIS = {"interval": "1m", "count": 5, "window": "2m", "failure_limit": 1, "template": "success-rate-canary"}
VALUES = {
    "airgap_app": "lumen-api",
    "airgap_app_namespace": "lumen",
    "airgap_app_replicas": 2,
    "app_image": "192.168.2.2:5000/lumen-api:v1.0.0",
    "airgap_prometheus": {"namespace": "monitoring", "service": "prometheus", "port": 9090},
}


def test_the_manifests_of_the_lab_are_as_good_as_their_comments_say(tmp_path: Path) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(MANIFESTS), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    names = ("03-lumen-api.yaml.j2", "05-analysis-template.yaml.j2", "06-analysis-template-canary.yaml.j2")
    texts = [environment.get_template(name).render(**VALUES, airgap_app_analysis=ANALYSIS) for name in names]
    path = tmp_path / "app.yml"
    path.write_text("\n---\n".join(texts), encoding="utf-8")
    rollout, seed, canary = read_documents(str(path))
    assert lint_template(canary) == []
    assert {finding.severity for finding in lint_template(seed)} == {"warning"}
    session = FakeSession(*(yaml.safe_load(text) for text in texts[1:]))
    found = lint_release(session, "lumen", rollout.body, "Rollout lumen/lumen-api", 30.0)  # type: ignore[arg-type]
    assert [finding.rule for finding in found] == ["service-without-router"]
