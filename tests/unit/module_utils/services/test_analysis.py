# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gate: where an analysis comes from, what is refused, what a run reports, and when it waits."""

from __future__ import annotations

import base64
import itertools
import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import DEPLOYMENT, ROLLOUT, SECRET
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.prometheus import PrometheusError
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services import analysis
from ansible_collections.lumen.airgap.plugins.module_utils.services.analysis import (
    App,
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


def names(spec: GateSpec) -> list[str]:
    return [one.name for one in spec.metrics]


def refer(name: str, cluster: bool = False) -> dict[str, Any]:
    return {"templateName": name, "clusterScope": cluster} if cluster else {"templateName": name}


def test_templates_of_templates() -> None:
    """Each once, AnalysisTemplates first, in a circle too; arguments and dry runs are merged."""
    session = FakeSession(
        template("top", metrics=[metric("top")], templates=[refer("all", True), refer("left")], args=[{"name": "a"}]),
        template(
            "left", metrics=[metric("left")], templates=[refer("top"), refer("right")], dryRun=[{"metricName": "l"}]
        ),
        template("right", metrics=[metric("right")], args=[{"name": "a", "value": "1"}]),
        template(
            "all", "ClusterAnalysisTemplate", metrics=[metric("all")], templates=[refer("right"), refer("all", True)]
        ),
    )
    spec = load(session, template="top")
    assert (spec.name, names(spec)) == ("AnalysisTemplate lumen/top", ["top", "right", "left", "all"])
    assert spec.dry_run == {"left", "all"}
    assert len(session.calls) == 4
    spec = load(session, template="all", cluster_template=True)
    assert (spec.name, names(spec)) == ("ClusterAnalysisTemplate all", ["right", "all"])


def test_templates_of_templates_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "templates.yaml"
    documents = [
        template("top", metrics=[], templates=[refer("two", True), refer("one")]),
        template("one", metrics=[metric("one")]),
    ]
    path.write_text("\n---\n".join(json.dumps(document) for document in documents), encoding="utf-8")
    session = FakeSession(template("two", "ClusterAnalysisTemplate", metrics=[metric("two")]))
    assert names(load(session, file=str(path), template="top")) == ["one", "two"]
    with pytest.raises(AirgapError, match="The template 'two' is in a cluster"):
        load(file=str(path), template="top")


def secret(**data: bytes) -> dict[str, Any]:
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    metadata = {"name": "prometheus", "namespace": "lumen"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}


HUNTER = 'hunter2 "&\u00e9'
FROM_SECRET = {"valueFrom": {"secretKeyRef": {"name": "prometheus", "key": "token"}}}
WITH_SECRET = {"prometheus": {"query": 'up{token="{{args.token}}"}'}}


def test_a_secret_is_read_and_never_repeated() -> None:
    session = FakeSession(secret(token=HUNTER.encode()))
    spec = load(session, metrics=[metric(count=1, failureLimit=0, provider=WITH_SECRET)], args={"token": FROM_SECRET})
    assert spec.metrics[0].query == f'up{{token="{HUNTER}"}}'
    forms = (HUNTER, "hunter2%20%22%26%C3%A9", "hunter2+%22%26%C3%A9", 'hunter2 \\"&\u00e9', 'hunter2 \\"&\\u00e9')
    odd = PrometheusError(f"parse error near {' or '.join(forms)}", "query")
    clock = FakeClock()
    lines: list[str] = []
    result = run_gate(spec, Prometheus(odd).query, clock, lambda check: lines.append(str(check)))
    assert result.phase == "Error"
    told = [*lines, str(result), spec.outline, str(ask_once(spec, Prometheus([1.0]).query, EPOCH))]
    with pytest.raises(PrometheusError, match=r"parse error near \*{5} or") as caught:
        ask_once(spec, Prometheus(odd).query, EPOCH)
    told.append(caught.value.message)
    assert not [text for text in told if "hunter2" in text]


def test_a_secret_in_a_condition_or_a_name_is_not_repeated_when_it_is_refused() -> None:
    session = FakeSession(secret(token=b"hunter2 >"))
    for fields in ({"successCondition": "result[0] > {{args.token}}"}, {"name": "m {{args.token}}"}):
        with pytest.raises(AirgapError) as caught:
            load(session, metrics=[metric(**fields)], args={"token": FROM_SECRET})
        assert "hunter2" not in caught.value.message + str(caught.value.details)


def test_a_secret_is_read_only_when_it_is_needed() -> None:
    body = template(args=[{"name": "token", **FROM_SECRET}])
    session = FakeSession(body, secret(other=b"x"))
    assert load(session, template="success-rate", args={"token": "given"})
    assert not [call for call in session.calls if call[1] == SECRET]
    with pytest.raises(AirgapError, match=r"args\.token: Secret lumen/prometheus has no key 'token'"):
        load(session, template="success-rate")
    with pytest.raises(AirgapError, match=r"args\.token: Secret lumen/prometheus does not exist"):
        load(FakeSession(body), template="success-rate")
    with pytest.raises(AirgapError, match=r"Secret lumen/prometheus, key 'token': the value is not text"):
        load(FakeSession(body, secret(token=b"\xff")), template="success-rate")
    with pytest.raises(AirgapError, match=r"no cluster gives|give a kubeconfig"):
        load(metrics=[metric()], args={"token": FROM_SECRET})


@pytest.mark.parametrize("kind", [ROLLOUT, DEPLOYMENT])
def test_fields_of_the_app(kind: Any) -> None:
    metadata = {"name": "lumen-api", "namespace": "lumen", "labels": {"team": "a"}}
    app = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": {"replicas": 3}}
    session = FakeSession(app)
    fields = {"team": "metadata.labels['team']", "replicas": "spec.replicas"}
    args = {name: {"valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()}
    query = {"prometheus": {"query": "{{args.team}}/{{args.replicas}}"}}
    options = {"metrics": [metric(provider=query)], "args": args}
    spec = load_gate(session, options, "lumen", HASHES, App(kind, "lumen-api"))  # type: ignore[arg-type]
    assert spec.metrics[0].query == "a/3"
    assert len(session.calls) == 1
    with pytest.raises(AirgapError, match="no Rollout or Deployment gives the field"):
        load(session, **options)
    with pytest.raises(AirgapError, match=f"{kind.kind} lumen/other does not exist"):
        load_gate(session, options, "lumen", HASHES, App(kind, "other"))  # type: ignore[arg-type]


def test_extensions_everywhere_inline_and_by_name() -> None:
    spec = load(
        FakeSession(template(metrics=[metric("a"), metric("b")], args=[{"name": "q", "value": "up"}])),
        template="success-rate",
        consecutive_failure_limit=3,
        on_nan=None,
        min_samples={"query": "sum({{args.q}})", "at_least": 50.0},
        extensions={"b": {"consecutive_failure_limit": 2, "on_empty": "pass"}},
    )
    assert [one.extensions.consecutive_failure_limit for one in spec.metrics] == [3, 2]
    assert [one.extensions.on_empty for one in spec.metrics] == ["", "pass"]
    assert spec.metrics[0].extensions.min_samples.query == "sum(up)"  # type: ignore[union-attr]
    assert spec.outline == (
        "a, 5 checks every 60 s, consecutive_failure_limit: 3, min_samples: 50 (ours); "
        "b, 5 checks every 60 s, consecutive_failure_limit: 2, on_empty: pass, min_samples: 50 (ours)"
    )
    assert load(metrics=[metric(on_nan="fail")], on_nan="pass").metrics[0].extensions.on_nan == "fail"


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
        ({"template": "referring"}, "two metrics have the same name 'success-rate'"),
        ({"template": "dangling"}, "AnalysisTemplate lumen/nowhere does not exist"),
        ({"template": "open"}, "args.app was not resolved"),
        ({"metrics": [metric(successCondition="result[0] / 0 > 1")]}, "division by zero"),
        ({"metrics": [metric(count="five")]}, "count must be a whole number, not 'five'"),
        ({"metrics": [metric(count=None)]}, "runs indefinitely: give it a count"),
        ({"metrics": [metric()], "on_nan": "x"}, "on_nan must be one of"),
        ({"metrics": [metric()], "extensions": {"rate": {}}}, "extensions.rate: there is no such metric"),
        ({"metrics": [metric(min_samples={"query": "{{args.q}}", "at_least": 1})]}, "failed to resolve"),
    ],
)
def test_refused(options: dict[str, Any], reason: str) -> None:
    session = FakeSession(
        template(),
        template("referring", templates=[{"templateName": "success-rate"}]),
        template("dangling", templates=[{"templateName": "nowhere"}]),
        template("open", args=[{"name": "app"}]),
    )
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
    assert (result.phase, lines[0]) == ("Failed", "check 1/5 success-rate NaN \u2716")
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
    assert ask_once(spec, prometheus.query, EPOCH) == [
        {"metric": "success-rate", "query": "rate(success-rate)", "value": "[0.5]"},
        {"metric": "other", "query": "rate(other)", "value": "1"},
    ]
    with pytest.raises(PrometheusError):
        ask_once(spec, Prometheus(PrometheusError("down", "unreachable")).query, EPOCH)


def test_three_in_a_row_end_it_at_the_third() -> None:
    result, lines, clock = gate(Prometheus([0.99], [0.5]), metric(consecutive_failure_limit=3))
    assert (result.phase, len(lines), clock.time() - EPOCH) == ("Failed", 4, 180)
    assert result.message.endswith("consecutiveFailures (3) >= consecutive_failure_limit (3) (ours)")
    assert result.metrics[0]["consecutive_failure"] == 3
    result, lines, _clock = gate(Prometheus([0.5], [0.5], [0.99], [0.5], [0.99]), metric(consecutive_failure_limit=3))
    assert (result.phase, len(lines)) == ("Successful", 5)


def test_what_an_extension_decided_is_shown_as_ours() -> None:
    _result, lines, _clock = gate(Prometheus([math.nan]), metric(on_nan="pass"))
    assert lines[0] == "check 1/5 success-rate NaN \u2714 NaN in the result, on_nan: pass (ours)"
    result, lines, _clock = gate(Prometheus([]), metric(on_empty="inconclusive"))
    assert result.phase == "Inconclusive"
    assert lines == ["check 1/5 success-rate no value ? the result is empty, on_empty: inconclusive (ours)"]
    assert result.measurements[0]["message"].endswith("(ours)")


LEAST = {"query": "sum(increase(requests[2m]))", "at_least": 50}


def test_too_few_samples_are_inconclusive() -> None:
    prometheus = Prometheus([0.2], [12.0], [0.99], [80.0], [0.99], [50.0])
    one = metric(count=3, failureLimit=0, inconclusiveLimit=1, min_samples=LEAST)
    result, lines, _clock = gate(prometheus, one)
    assert result.phase == "Successful"
    assert lines[0] == "check 1/3 success-rate 0.2 ? 12 samples, min_samples wants 50 (ours)"
    assert prometheus.asked == ["rate(success-rate)", LEAST["query"]] * 3
    result, _lines, _clock = gate(Prometheus([0.99], []), one)
    assert result.phase == "Inconclusive"


def test_a_companion_query_that_fails_is_an_error() -> None:
    down = PrometheusError("down", "unreachable")
    prometheus = Prometheus([0.99], down, [0.99], [80.0])
    result, lines, _clock = gate(prometheus, metric(count=1, failureLimit=0, min_samples=LEAST))
    assert result.phase == "Successful"
    assert lines == ["check 1/1 success-rate 0.99 \u26a0 down", "check 1/1 success-rate 0.99 \u2714"]


def test_check_mode_asks_the_companion_query_too() -> None:
    asked = ask_once(load(metrics=[metric(min_samples=LEAST)]), Prometheus([0.5], [7.0]).query, EPOCH)
    assert asked[1] == {"metric": "success-rate min_samples", "query": LEAST["query"], "value": "[7]"}


def test_the_verdict_is_there_with_the_deciding_measurement() -> None:
    """No time passes between the measurement that decides and the end, also with others that wait for theirs."""
    for metrics, answers, decided in (
        ([metric()], [[0.43]], 180),
        ([metric(consecutive_failure_limit=2)], [[0.43]], 60),
        ([metric(), metric("slow", interval="1h", count=9)], [[0.43]], 180),
        ([metric(count=2, failureLimit=0)], [[0.99]], 60),
    ):
        clock = FakeClock()
        seen: list[float] = []
        result = run_gate(
            load(metrics=metrics),
            Prometheus(*answers).query,
            clock,
            lambda _check, seen=seen, clock=clock: seen.append(clock.time()),
        )
        assert result.phase in ("Failed", "Successful")
        assert (seen[-1] - EPOCH, clock.time() - seen[-1]) == (decided, 0)


def test_whoever_stops_the_gate_does_not_wait_for_a_query_that_hangs() -> None:
    released = threading.Event()

    def hang(_query: str) -> float:
        released.wait(30)
        return 1.0

    def stop() -> None:
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            run_gate(load(metrics=[metric()]), hang, FakeClock(), lambda _check: None, stop)
        assert not released.is_set()
    finally:
        released.set()


def test_a_range_query_looks_back_from_now() -> None:
    asked: list[Any] = []

    def query(expression: str, window: Any = None) -> list[float]:
        asked.append((expression, window))
        return [0.99, 0.98]

    window = {"start": "now() - duration('{{args.back}}')", "end": "now()", "step": "30s"}
    provider = {"prometheus": {"query": "up", "rangeQuery": window}}
    one = metric(count=2, failureLimit=0, successCondition="all(result, {# > 0.9})", provider=provider)
    spec = load(metrics=[one], args={"back": "5m"})
    assert run_gate(spec, query, FakeClock(), lambda _check: None).phase == "Successful"
    assert asked == [("up", (EPOCH - 300, EPOCH, 30)), ("up", (EPOCH - 240, EPOCH + 60, 30))]
    assert ask_once(spec, query, EPOCH)[0]["value"] == "[0.99,0.98]"
