# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gate: where an analysis comes from, what is refused, what a run reports, and when it waits."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.prometheus import PrometheusError
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services import analysis
from ansible_collections.lumen.airgap.plugins.module_utils.services.analysis import (
    Check,
    GateResult,
    GateSpec,
    ask_once,
    load_gate,
    run_gate,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import EPOCH, FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession

SEED = "len(result) == 0 || result[0] >= 0.95"
HASHES = {"Latest": "64bdf7c984", "Stable": "b67698557"}


def metric(name: str = "success-rate", **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "interval": "1m",
        "count": 5,
        "failureLimit": 3,
        "successCondition": SEED,
        "provider": {"prometheus": {"address": "http://ignored:9090", "query": f"rate({name})"}},
        **fields,
    }


def template(name: str = "success-rate", kind: str = "AnalysisTemplate", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name} if kind == "ClusterAnalysisTemplate" else {"name": name, "namespace": "lumen"}
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": kind, "metadata": metadata}
    return {**body, "spec": {"metrics": [metric()], **spec}}


def load(session: FakeSession | None = None, namespace: str | None = "lumen", **options: Any) -> GateSpec:
    return load_gate(session, options, namespace, HASHES)  # type: ignore[arg-type]


def test_a_template_in_the_cluster() -> None:
    spec = load(FakeSession(template()), template="success-rate")
    assert spec.name == "AnalysisTemplate lumen/success-rate"
    assert [one.query for one in spec.metrics] == ["rate(success-rate)"]


def test_a_cluster_template() -> None:
    session = FakeSession(template(kind="ClusterAnalysisTemplate"))
    assert load(session, template="success-rate", cluster_template=True).name == "ClusterAnalysisTemplate success-rate"


def test_args_and_dry_run() -> None:
    query = {"prometheus": {"query": 'rate({hash="{{args.hash}}",app="{{args.app}}"})'}}
    body = template(
        metrics=[metric(provider=query), metric("other")],
        args=[{"name": "hash"}, {"name": "app", "value": "lumen-api"}],
        dryRun=[{"metricName": "oth"}],
    )
    args = {"hash": {"valueFrom": {"podTemplateHashValue": "Latest"}}}
    spec = load(FakeSession(body), template="success-rate", args=args)
    assert spec.metrics[0].query == 'rate({hash="64bdf7c984",app="lumen-api"})'
    assert spec.dry_run == {"other"}


def test_inline_metrics_take_any_args() -> None:
    inline = metric(provider={"prometheus": {"query": "{{args.a}}"}})
    assert load(metrics=[inline], args={"a": "up"}, dry_run=["s"]).metrics[0].query == "up"


TWO = """
kind: AnalysisTemplate
metadata: {name: one}
spec: {metrics: [{name: m, provider: {prometheus: {query: up}}}]}
---
kind: ConfigMap
metadata: {name: three}
---
kind: ClusterAnalysisTemplate
metadata: {name: two}
spec: {metrics: [{name: n, provider: {prometheus: {query: down}}}]}
"""


@pytest.mark.parametrize(
    ("timing", "outline"),
    [
        ({"interval": "1m", "count": 5}, "5 checks every 60 s"),
        ({"interval": "1m", "count": 5, "initialDelay": "12s"}, "5 checks every 60 s, the first after 12 s"),
        ({"interval": "1m", "count": 1, "failureLimit": 0}, "1 check"),
        ({"interval": None, "count": None, "initialDelay": "0s"}, "1 check"),
    ],
)
def test_outline(timing: dict[str, Any], outline: str) -> None:
    one = {key: value for key, value in {**metric(), **timing}.items() if value is not None}
    spec = load(metrics=[one, {**one, "name": "latency"}])
    assert spec.outline == f"success-rate, {outline}; latency, {outline}"


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "templates.yaml"
    path.write_text(TWO, encoding="utf-8")
    assert load(file=str(path), template="two").metrics[0].name == "n"
    with pytest.raises(AirgapError, match="holds 2 analysis templates"):
        load(file=str(path))
    with pytest.raises(AirgapError, match=r"no analysis template 'three' \(it has one, two\)"):
        load(file=str(path), template="three")
    path.write_text(TWO.split("---", maxsplit=1)[0], encoding="utf-8")
    assert load(file=str(path)).metrics[0].name == "m"
    path.write_text("a: [", encoding="utf-8")
    with pytest.raises(AirgapError, match="is not YAML"):
        load(file=str(path))
    with pytest.raises(AirgapError, match="No such file"):
        load(file=str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("text", "spec must be a mapping, not 'text'"),
        ({"dryRun": ["m"]}, r"spec.dryRun[0] must be a mapping with metricName, not 'm'"),
        ({"dryRun": [{"metricName": 5}]}, r"spec.dryRun[0].metricName must be a string, not 5"),
        ({"dryRun": "m"}, "spec.dryRun must be a list, not 'm'"),
        ({"args": ["x"]}, "spec.args[0] must be a mapping with name, not 'x'"),
        ({"args": {"x": 1}}, "spec.args must be a list"),
        ({"args": [{"name": "x", "valueFrom": "y"}]}, "args.x.valueFrom must be a mapping, not 'y'"),
        ({"args": [{"name": "x", "value": [1]}]}, "args.x must be a string or a number, not [1]"),
        ({"metrics": {"m": 1}}, "spec.metrics must be a list"),
        ({"metrics": ["m"]}, "metrics[0]: a metric must be a mapping"),
        ({"metrics": [metric(provider=["x"])]}, "spec.metrics[0].provider must be a mapping, not ['x']"),
        ({"metrics": [metric(provider={"prometheus": "x"})]}, "provider.prometheus must be a mapping with query"),
        ({"metrics": [metric(provider={"plugin": "x"})]}, "provider.plugin must be a mapping"),
        ({"metrics": [metric(name=5)]}, "name must be a string, not 5"),
    ],
)
def test_a_malformed_template_is_refused_with_the_place(spec: Any, reason: str, tmp_path: Path) -> None:
    body = template()
    body["spec"] = {"metrics": [metric()], **spec} if isinstance(spec, dict) else spec
    path = tmp_path / "t.yaml"
    path.write_text(json.dumps(body), encoding="utf-8")
    for name, options in (
        (f"success-rate in {path}", {"file": str(path)}),
        ("AnalysisTemplate lumen/success-rate", {"template": "success-rate"}),
    ):
        with pytest.raises(AirgapError) as caught:
            load(FakeSession(body), **options)
        assert caught.value.message.startswith(f"Analysis {name}: ")
        assert reason in caught.value.message


@pytest.mark.parametrize("metadata", ["", "text", "[]", "{}", "{name: 5}"])
def test_a_template_in_a_file_needs_a_name(metadata: str, tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(f"---\n---\nkind: AnalysisTemplate\nmetadata: {metadata}\nspec: {{}}\n", encoding="utf-8")
    with pytest.raises(AirgapError, match=rf"{path}, document 2 \(AnalysisTemplate\): metadata.name is missing"):
        load(file=str(path))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("at: 2026-13-01", "is not YAML"),
        ("[" * 2000, "is not YAML"),
        ("kind: AnalysisTemplate\nmetadata: {name: a}\nspec: {metrics: &m [*m]}", "contains itself"),
    ],
)
def test_a_file_that_yaml_cannot_make_a_tree_of(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AirgapError, match=reason):
        load(file=str(path))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "needs a template, a file or inline metrics"),
        ({"template": "a", "metrics": [metric()]}, "not both"),
        ({"template": "unknown"}, "AnalysisTemplate lumen/unknown does not exist"),
        ({"template": "unknown", "cluster_template": True}, "ClusterAnalysisTemplate unknown does not exist"),
        ({"metrics": [metric(successCondition="result >")]}, "success-rate.*unexpected token EOF"),
        ({"metrics": [metric(successCondition="result[0]")]}, "expected bool"),
        ({"metrics": [metric(failureLimit=6)]}, r"count \(5\) must be >= failureLimit"),
        ({"metrics": [metric(failureLimit=-2)]}, "failureLimit must be >= 0"),
        ({"metrics": [metric(successCondition="result > {{args.min}}")]}, r"failed to resolve \{\{args.min\}\}"),
        ({"metrics": [metric()], "dry_run": ["x+"]}, "matches no metric"),
        ({"metrics": [metric()], "dry_run": ["s", "s"]}, "same name"),
        ({"template": "success-rate", "args": {"nope": 1}}, "no such argument"),
        ({"template": "referring"}, "spec.templates is not supported"),
    ],
)
def test_refused(options: dict[str, Any], reason: str) -> None:
    session = FakeSession(template(), template("referring", templates=[{"templateName": "success-rate"}]))
    with pytest.raises(AirgapError, match=reason):
        load(session, **options)


def test_a_template_needs_a_cluster_and_a_namespace() -> None:
    with pytest.raises(AirgapError, match="give a kubeconfig"):
        load(template="a")
    with pytest.raises(AirgapError, match="needs a namespace"):
        load(FakeSession(), None, template="a")


def test_missing_re2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "RE2_IMPORT_ERROR", "Traceback")
    with pytest.raises(AirgapError, match="google-re2"):
        load(metrics=[metric()], dry_run=["s"])


class Prometheus:
    """Answers from a list; the last repeats; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def query(self, expression: str) -> Any:
        self.asked.append(expression)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def gate(prometheus: Prometheus, *metrics: dict[str, Any], **options: Any) -> tuple[GateResult, list[str], FakeClock]:
    clock, lines = FakeClock(), []
    spec = load(metrics=list(metrics) or [metric()], **options)

    def report(check: Check) -> None:
        lines.append(str(check))

    return run_gate(spec, prometheus.query, clock, report), lines, clock


def test_a_good_release() -> None:
    result, lines, clock = gate(Prometheus([0.98213], [1.0]))
    assert (result.phase, result.message, result.passed) == ("Successful", "", True)
    assert lines[:2] == ["check 1/5 success-rate 0.9821 \u2714", "check 2/5 success-rate 1 \u2714"]
    assert len(lines) == 5
    assert result.measurements[1] == {
        "metric": "success-rate",
        "at": "2026-01-01T00:01:00Z",
        "value": "[1]",
        "phase": "Successful",
        "message": "",
    }
    assert clock.time() == EPOCH + 240
    assert (result.started_at, result.finished_at) == ("2026-01-01T00:00:00Z", "2026-01-01T00:04:00Z")


def test_a_bad_release_stops_at_the_deciding_measurement() -> None:
    result, lines, clock = gate(Prometheus([0.43]))
    assert result.message == 'Metric "success-rate" assessed Failed due to failed (4) > failureLimit (3)'
    assert (result.phase, result.passed, clock.time() - EPOCH) == ("Failed", False, 180)
    assert lines[-1] == "check 4/5 success-rate 0.43 \u2716"
    assert result.metrics[0]["failed"] == 4


def test_prometheus_down() -> None:
    down = PrometheusError("Prometheus (x) does not answer", "unreachable")
    result, lines, clock = gate(Prometheus(down))
    assert (result.phase, clock.time() - EPOCH) == ("Error", 40)
    assert lines == ["check 1/5 success-rate \u26a0 Prometheus (x) does not answer"] * 5
    assert "Prometheus (x) does not answer" in result.message
    assert result.measurements[0]["value"] is None


def test_prometheus_back_in_time() -> None:
    down = PrometheusError("down", "unreachable")
    result, lines, _clock = gate(Prometheus(down, down, [1.0]))
    assert result.phase == "Successful"
    assert lines[1:3] == ["check 1/5 success-rate \u26a0 down", "check 1/5 success-rate 1 \u2714"]


def test_no_traffic() -> None:
    result, lines, _clock = gate(Prometheus([math.nan]))
    assert (result.phase, lines[0]) == ("Failed", "check 1/5 success-rate nan \u2716")
    result, lines, _clock = gate(Prometheus([]))
    assert (result.phase, lines[0]) == ("Successful", "check 1/5 success-rate no value \u2714")


def test_a_condition_that_does_not_fit_the_answer_is_an_error() -> None:
    result, lines, _clock = gate(Prometheus(0.98))
    assert result.phase == "Error"
    assert lines[0].startswith("check 1/5 success-rate 0.98 \u26a0 invalid argument for len")


def test_inconclusive_and_dry_run() -> None:
    both = metric(successCondition="result > 0.95", failureCondition="result < 0.9")
    result, lines, _clock = gate(Prometheus(0.93), both)
    assert (result.phase, lines) == ("Inconclusive", ["check 1/5 success-rate 0.93 ?"])
    result, lines, _clock = gate(Prometheus(0.93), metric("m", successCondition="true"), both, dry_run=["success"])
    assert result.phase == "Successful"
    assert lines[1] == "check 1/5 success-rate 0.93 ? (dry run)"


def test_a_deadline_ends_it_with_what_was_seen_last() -> None:
    clock = FakeClock()
    result = run_gate(load(metrics=[metric()]), Prometheus([0.98]).query, clock, lambda _check: None, deadline=90)
    assert (result.phase, result.passed, clock.time() - EPOCH) == ("Error", False, 90)
    assert result.message == (
        "no verdict within the deadline of 90 s; last seen: success-rate [0.98] (Successful) at 2026-01-01T00:01:00Z"
    )
    assert len(result.measurements) == 2
    result = run_gate(
        load(metrics=[metric(initialDelay="5m")]), Prometheus([1.0]).query, clock, lambda _check: None, deadline=9
    )
    assert (result.phase, result.message) == (
        "Error",
        "no verdict within the deadline of 9 s; last seen: no measurement",
    )


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 240),
        ({"initialDelay": "10s"}, 250),
        ({"count": 1, "failureLimit": 0}, 0),
        ({"count": 5, "failureLimit": 1, "consecutiveSuccessLimit": 3}, 120),
    ],
)
def test_what_a_success_takes_at_least(fields: dict[str, Any], seconds: float) -> None:
    assert load(metrics=[metric(**fields), metric("other", count=2, failureLimit=0, interval="1s")]).shortest == max(
        seconds, 1
    )


def test_ticks_every_second_of_waiting_and_may_stop() -> None:
    clock = FakeClock()
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(clock.time())
        if clock.time() > EPOCH + 90:
            raise KeyboardInterrupt

    spec = load(metrics=[metric()])
    with pytest.raises(KeyboardInterrupt):
        run_gate(spec, Prometheus([1.0]).query, clock, lambda _check: None, tick)
    assert max(later - before for before, later in itertools.pairwise(ticks)) <= 1


def test_an_exception_that_nobody_expects_is_an_error_of_the_measurement() -> None:
    result, lines, _clock = gate(Prometheus(ZeroDivisionError("odd"), [1.0]))
    assert result.phase == "Successful"
    assert lines[:2] == [
        "check 1/5 success-rate \u26a0 ZeroDivisionError: odd",
        "check 1/5 success-rate 1 \u2714",
    ]


def test_ask_once() -> None:
    spec = load(metrics=[metric(), metric("other")])
    prometheus = Prometheus([0.5], 1.0)
    assert ask_once(spec, prometheus.query) == [
        {"metric": "success-rate", "query": "rate(success-rate)", "value": "[0.5]"},
        {"metric": "other", "query": "rate(other)", "value": "1"},
    ]
    with pytest.raises(PrometheusError):
        ask_once(spec, Prometheus(PrometheusError("down", "unreachable")).query)
