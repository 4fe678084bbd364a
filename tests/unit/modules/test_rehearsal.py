# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module rehearsal through its arguments and results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    ANALYSIS_TEMPLATE,
    CLUSTER_ANALYSIS_TEMPLATE,
    ROLLOUT,
)
from ansible_collections.lumen.airgap.plugins.modules import rehearsal as module
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run

GOOD, BAD = 0.99, 0.4
QUERY = 'sum(rate(ok{pod_template_hash="{{args.canary-hash}}"}[2m]))'
METRIC = {
    "name": "success-rate",
    "initialDelay": "2m",
    "interval": "1m",
    "count": 3,
    "failureLimit": 1,
    "successCondition": "len(result) > 0 && result[0] >= 0.95",
    "provider": {"prometheus": {"query": QUERY}},
}
INLINE = {**METRIC, "provider": {"prometheus": {"query": QUERY.replace("{{args.canary-hash}}", "64bdf7c984")}}}
ARG = {"name": "canary-hash", "valueFrom": {"podTemplateHashValue": "Latest"}}
STEPS: list[dict[str, Any]] = [
    {"setWeight": 20},
    {"analysis": {"templates": [{"templateName": "t"}], "args": [ARG]}},
    {"setWeight": 100},
]


def template(name: str = "t", cluster: bool = False, **fields: Any) -> dict[str, Any]:
    kind = CLUSTER_ANALYSIS_TEMPLATE if cluster else ANALYSIS_TEMPLATE
    metadata = {"name": name} if cluster else {"name": name, "namespace": "lumen"}
    spec = {"args": [{"name": "canary-hash"}], "metrics": [{**METRIC, **fields}]}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}


def rollout(steps: list[dict[str, Any]] | None = None, **canary: Any) -> dict[str, Any]:
    strategy = {"canary": {"steps": STEPS if steps is None else steps, "maxSurge": 1, "maxUnavailable": 0, **canary}}
    return {
        "apiVersion": ROLLOUT.api_version,
        "kind": ROLLOUT.kind,
        "metadata": {"name": "api", "namespace": "lumen"},
        "spec": {"replicas": 5, "strategy": strategy},
        "status": {"currentPodHash": "new", "stableRS": "old"},
    }


def scripted(*answers: Any) -> dict[str, Any]:
    return {"scripted": {"success-rate": list(answers)}}


@pytest.fixture
def manifests(tmp_path: Path) -> Any:
    def write(*bodies: dict[str, Any]) -> str:
        path = tmp_path / "manifests.yml"
        path.write_text(yaml.safe_dump_all(bodies), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def cluster(session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    monkeypatch.setattr(module.Session, "connect", lambda kubeconfig=None, context=None: session)
    for body in (template(), template("u", cluster=True), rollout()):
        session.put(body)
    return session


@pytest.fixture(autouse=True)
def no_cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "cluster" not in request.fixturenames:

        def refuse(kubeconfig: str | None = None, context: str | None = None) -> None:
            pytest.fail("a rehearsal of what is in files needs no cluster")

        monkeypatch.setattr(module.Session, "connect", refuse)


def test_inline_metrics(run: Run) -> None:
    result = run(module, metrics=[INLINE], series=scripted(GOOD, BAD, GOOD))
    assert (result["changed"], result["lint"]) == (False, [])
    assert result["verdict"] == {"phase": "Successful", "message": ""}
    assert (result["outcome"], result["duration"], result["pods"]) == ("analysed", 240.0, [])
    assert [row["text"] for row in result["timeline"]] == [
        "check 1/3 success-rate 0.99 ✔",
        "check 2/3 success-rate 0.4 ✖",
        "check 3/3 success-rate 0.99 ✔",
        "(inline): Successful",
        "analysed",
    ]
    assert result["measurements"][1] == {
        "analysis": "(inline)",
        "metric": "success-rate",
        "at": 180.0,
        "value": "[0.4]",
        "phase": "Failed",
        "message": "",
    }
    assert {name: result["metrics"][0][name] for name in ("phase", "count", "failed")} == {
        "phase": "Successful",
        "count": 3,
        "failed": 1,
    }


def test_the_second_run_and_check_mode_are_the_same(run: Run, manifests: Any) -> None:
    given = {"file": manifests(template(), rollout()), "rollout": "api", "series": scripted(GOOD), "query": "outcome"}
    first = run(module, **given)
    again, check = run(module, **given), run(module, check=True, **given)
    assert first["query_result"] == "promoted"
    for each in (again, check):
        assert {**each, "invocation": None} == {**first, "invocation": None}


def test_a_rollout_in_a_file(run: Run, manifests: Any) -> None:
    result = run(
        module,
        file=manifests(template(), template("u"), rollout()),
        rollout="api",
        pod_ready_seconds=4,
        series=scripted(GOOD, BAD, BAD),
        expect="Failed",
    )
    assert result["verdict"]["message"] == 'Metric "success-rate" assessed Failed due to failed (2) > failureLimit (1)'
    assert (result["outcome"], result["duration"]) == ("aborted", 4 + 240 + 4)
    assert [(row["at"], row["canary"], row["stable"], row["weight"]) for row in result["pods"]] == [
        (0.0, 1, 5, 20),
        (4.0, 1, 4, 20),
        (244.0, 1, 5, 0),
        (248.0, 0, 5, 0),
    ]


def test_steps_and_replicas_by_hand(run: Run, manifests: Any) -> None:
    result = run(
        module,
        file=manifests(template()),
        args={"canary-hash": "x"},
        steps=[{"setWeight": 50}, {"pause": {}}, {"setWeight": 100}],
        replicas=4,
        max_surge="0",
        max_unavailable="50%",
        series=scripted(GOOD),
    )
    assert result["outcome"] == "promoted"
    assert "promoted by its gate" in [row["text"] for row in result["timeline"]]
    assert [(row["canary"], row["stable"]) for row in result["pods"]][-1] == (4, 0)
    assert max(row["canary"] + row["stable"] for row in result["pods"]) == 4


def test_inline_metrics_stand_in_for_the_templates_of_the_steps(run: Run) -> None:
    result = run(module, metrics=[INLINE], steps=STEPS, series=scripted(BAD))
    assert result["outcome"] == "aborted"
    assert {row["rule"] for row in result["lint"]} == {"unused-argument"}


def test_a_pause_without_a_gate(run: Run, manifests: Any) -> None:
    steps = [*STEPS[:2], {"pause": {}}, {"setWeight": 100}]
    result = run(module, file=manifests(template(), rollout(steps)), rollout="api", series=scripted(GOOD))
    assert "somebody promotes it" in [row["text"] for row in result["timeline"]]


def test_the_background_needs_no_end(run: Run, manifests: Any) -> None:
    beside = {"templates": [{"templateName": "t"}], "args": [ARG]}
    steps = [{"setWeight": 20}, {"pause": {"duration": "10m"}}, {"setWeight": 100}]
    path = manifests(template(count=None), rollout(steps, analysis=beside))
    good = run(module, file=path, rollout="api", series=scripted(GOOD))
    assert (good["outcome"], good["duration"], len(good["measurements"])) == ("promoted", 600, 9)
    bad = run(module, file=path, rollout="api", series=scripted(GOOD, GOOD, BAD))
    assert (bad["outcome"], bad["duration"]) == ("aborted", 120 + 3 * 60)


def test_what_is_in_the_cluster(run: Run, cluster: FakeSession) -> None:
    result = run(module, namespace="lumen", rollout="api", series=scripted(GOOD))
    assert (result["outcome"], result["lint"]) == ("promoted", [])
    assert result["pods"][0] == {"at": 0.0, "weight": 20, "canary": 1, "stable": 5, "actual_weight": 17}
    alone = run(module, template="u", cluster_template=True, args={"canary-hash": "x"}, series=scripted(BAD))
    assert alone["verdict"]["phase"] == "Failed"
    assert alone["measurements"][0]["analysis"] == "ClusterAnalysisTemplate u"
    assert {method for method, *_ in cluster.calls} <= {"find", "get"}


def test_last_tuesday(run: Run, cluster: FakeSession) -> None:
    asked = []

    def proxy(namespace: str, service: str, port: int, path: str, query: dict[str, str]) -> bytes:
        asked.append((path, query))
        start, step = float(query["start"]), float(query["step"])
        values = [[start + step * number, str(GOOD if number * step < 180 else BAD)] for number in range(30)]
        result = {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}
        return json.dumps({"status": "success", "data": result}).encode()

    cluster.proxy = proxy
    history = {"start": "2026-01-06T14:00:00Z"}
    result = run(module, namespace="lumen", rollout="api", series={"history": history})
    assert [row["phase"] for row in result["measurements"]] == ["Successful", "Failed", "Failed"]
    assert result["outcome"] == "aborted"
    ((path, query),) = asked
    assert path == "/api/v1/query_range"
    assert query == {
        "query": QUERY.replace("{{args.canary-hash}}", "new"),
        "start": "1767708000.000",
        "end": f"{1767708000 + 240 + 120}.000",
        "step": "15.000",
    }
    short = run(module, namespace="lumen", rollout="api", series={"history": {**history, "end": history["start"]}})
    assert "must be after" in short["msg"]
    wrong = run(module, namespace="lumen", rollout="api", series={"history": {"start": "Tuesday"}})
    assert "The option series.history.start must be a time" in wrong["msg"]


def test_a_scalar_of_the_past_is_a_scalar(run: Run, cluster: FakeSession) -> None:
    values = [[1767708000 + 15 * number, "0.99"] for number in range(30)]
    body = {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}}
    cluster.proxy = lambda *_request: json.dumps(body).encode()
    metric = {
        **INLINE,
        "successCondition": "!isNaN(result) && result > 0.9",
        "provider": {"prometheus": {"query": 'scalar(up{pod_template_hash="x"})'}},
    }
    result = run(module, metrics=[metric], series={"history": {"start": "2026-01-06T14:00:00Z", "step": 15}})
    assert [row["value"] for row in result["measurements"]] == ["0.99", "0.99", "0.99"]


def test_a_recording(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    rows = [
        {"run": "r", "metric": "success-rate", "at": f"2026-01-01T00:0{minute}:00Z", "value": f"[{value}]"}
        for minute, value in enumerate((GOOD, BAD, BAD))
    ]
    path.write_text(json.dumps({"outcome": "promoted", "measurements": rows}), encoding="utf-8")
    assert run(module, metrics=[INLINE], series={"recorded": str(path)})["verdict"]["phase"] == "Failed"
    path.write_text("{", encoding="utf-8")
    assert "cannot be used: line 1 is not JSON" in run(module, metrics=[INLINE], series={"recorded": str(path)})["msg"]
    path.unlink()
    assert "Cannot read the recording" in run(module, metrics=[INLINE], series={"recorded": str(path)})["msg"]


def test_the_lint_alone(run: Run, manifests: Any) -> None:
    path = manifests(template(successCondition="len(result) == 0 || result[0] >= 0.95"))
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    (line,) = [number for number, text in enumerate(lines, 1) if "successCondition" in text]
    result = run(module, file=path)
    assert (result["verdict"], "timeline" in result) == (None, False)
    (found,) = result["lint"]
    assert (found["rule"], found["severity"], found["line"]) == ("empty-passes", "warning", line)


def test_findings_fail_the_task(run: Run, manifests: Any) -> None:
    path = manifests(template(successCondition="result >= 0.95"))
    refused = run(module, file=path, args={"canary-hash": "x"}, series=scripted(GOOD))
    assert refused["failed"]
    assert "error type-mismatch: AnalysisTemplate t in " in refused["msg"]
    assert [row["rule"] for row in refused["lint"]] == ["type-mismatch"]
    never = run(module, file=path, args={"canary-hash": "x"}, series=scripted(GOOD), fail_on="never", expect="Error")
    assert not never.get("failed")
    assert never["verdict"]["phase"] == "Error"
    odd = manifests(template(initialDelay="1m"))
    assert not run(module, file=odd).get("failed")
    assert run(module, file=odd, fail_on="warning")["failed"]


def test_what_argo_refuses_is_an_error_at_once(run: Run) -> None:
    refused = {name: value for name, value in INLINE.items() if name != "interval"}
    result = run(module, metrics=[refused], series=scripted(GOOD), fail_on="never")
    assert (result["verdict"]["phase"], result["timeline"]) == ("Error", [])
    assert "interval must be specified when count > 1" in result["verdict"]["message"]


def test_another_verdict_than_expected(run: Run) -> None:
    result = run(module, metrics=[INLINE], series=scripted(BAD), expect="Successful")
    assert result["failed"]
    assert result["msg"].startswith('The verdict is Failed, and Successful was expected: Metric "success-rate"')
    assert result["timeline"]


def test_our_extensions(run: Run) -> None:
    limits = {"consecutive_failure_limit": 2, "extensions": {"success-rate": {"on_nan": "inconclusive"}}}
    lax = {**INLINE, "count": 5, "failureLimit": 4}
    assert run(module, metrics=[lax], series=scripted(GOOD, BAD, BAD), **limits)["duration"] == 240
    doubtful = run(module, metrics=[lax], series=scripted("NaN"), **limits)
    assert doubtful["verdict"]["phase"] == "Inconclusive"
    few = {"min_samples": {"query": "n", "at_least": 10}}
    series = {"scripted": {"success-rate": GOOD, "success-rate.min_samples": 5}}
    assert run(module, metrics=[lax], series=series, **few)["verdict"]["phase"] == "Inconclusive"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": [INLINE], "series": {"scripted": {"latency": 1}}}, "series.scripted has latency, and the metrics"),
        ({"metrics": [INLINE], "series": {"scripted": {}}}, "no series for the metric 'success-rate'"),
        ({"metrics": [INLINE], "series": {"scripted": {"success-rate": ["much"]}}}, "success-rate[0] is 'much'"),
        ({"metrics": [INLINE], "pod_ready_seconds": -1}, "The option pod_ready_seconds must be"),
        ({"metrics": [INLINE], "scrape_interval": 0}, "The option scrape_interval must be"),
        ({"metrics": [INLINE], "query": "["}, "query is not a JMESPath expression"),
        ({"metrics": [INLINE], "expect": "Failed"}, "missing parameter"),
        ({"metrics": [INLINE], "steps": [{"setWeight": 200}]}, "setWeight is 200"),
        ({"metrics": [INLINE], "steps": STEPS, "replicas": -1, "series": scripted(GOOD)}, "replicas is -1"),
        ({"file": "/nowhere.yml"}, "Cannot read the file"),
        ({}, "one of the following is required"),
    ],
)
def test_refused(run: Run, options: dict[str, Any], message: str) -> None:
    result = run(module, **options)
    assert result["failed"]
    assert message in result["msg"]


def test_a_rollout_that_is_not_there(run: Run, manifests: Any, cluster: FakeSession) -> None:
    assert "Rollout lumen/gone does not exist" in run(module, namespace="lumen", rollout="gone")["msg"]
    lost = run(module, file=manifests(template()), rollout="api", series=scripted(GOOD))
    assert "is not in the file, and there is no cluster" in lost["msg"]
    cluster.put({**rollout(), "spec": {"strategy": {"blueGreen": {}}}})
    assert "has no spec.strategy.canary" in run(module, namespace="lumen", rollout="api")["msg"]


def test_an_analysis_without_templates_is_an_error_and_not_endless(run: Run, manifests: Any) -> None:
    result = run(
        module,
        file=manifests(template(), rollout([{"setWeight": 20}, {"analysis": {}}])),
        rollout="api",
        fail_on="never",
        series=scripted(GOOD),
    )
    assert result["verdict"]["phase"] == "Error"
    assert result["verdict"]["message"].endswith("steps[1].analysis has no templates, and Argo refuses it")


@pytest.mark.parametrize(("pattern", "outcome"), [("success-.*", "promoted"), ("other", "aborted")])
def test_a_dry_run_of_a_step_does_not_decide(run: Run, manifests: Any, pattern: str, outcome: str) -> None:
    other = template("u")
    other["spec"]["metrics"][0] = {**METRIC, "name": "other"}
    templates = [{"templateName": "t"}, {"templateName": "u"}]
    steps = [{"analysis": {"templates": templates, "args": [ARG], "dryRun": [{"metricName": pattern}]}}]
    result = run(
        module,
        file=manifests(template(), other, rollout(steps)),
        rollout="api",
        series={"scripted": {"success-rate": BAD, "other": GOOD}},
    )
    assert (result["outcome"], result["verdict"]["phase"]) == (
        outcome,
        "Successful" if outcome == "promoted" else "Failed",
    )


def test_a_dry_run_of_a_step_that_matches_nothing(run: Run, manifests: Any) -> None:
    steps = [{"analysis": {**STEPS[1]["analysis"], "dryRun": [{"metricName": "gone"}]}}]
    path = manifests(template(), rollout(steps))
    result = run(module, file=path, rollout="api", fail_on="never", series=scripted(GOOD))
    assert result["failed"]
    assert "gone" in result["msg"]


def test_no_metrics_at_all(run: Run) -> None:
    result = run(module, metrics=[])
    assert result["failed"]
    assert "no-metrics" in result["msg"]


def test_a_misspelt_argument(run: Run, manifests: Any) -> None:
    path = manifests(template(), rollout())
    result = run(module, file=path, rollout="api", args={"canary-hsah": "x"}, series=scripted(GOOD))
    assert result["failed"]
    assert "The option args has canary-hsah, which no template of Rollout api in" in result["msg"]
    lint = run(module, file=manifests(template()), args={"canary-hsah": "x"})["lint"]
    assert [finding["rule"] for finding in lint] == ["unused-argument"]


def test_what_is_no_finite_number_is_printed_as_argo_writes_it(run: Run) -> None:
    result = run(module, metrics=[INLINE], series=scripted(["NaN", "-Inf"], "+Inf"))
    assert [row["text"] for row in result["timeline"]][:2] == [
        "check 1/3 success-rate NaN, -Inf ✖",
        "check 2/3 success-rate +Inf ✔",
    ]
