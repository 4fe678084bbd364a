# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules for a Rollout, and for what passes between it and its templates."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.findings import (
    ERROR,
    WARNING,
    Document,
    Finding,
    apply,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.lint import Reference, lint_rollout

METRIC = {
    "name": "m",
    "initialDelay": "2m",
    "interval": "1m",
    "count": 5,
    "successCondition": "len(result) > 0 && result[0] >= 0.95",
    "provider": {"prometheus": {"query": 'rate(ok{pod_template_hash="{{args.canary-hash}}"}[2m])'}},
}
LATEST = {"name": "canary-hash", "valueFrom": {"podTemplateHashValue": "Latest"}}
ANALYSIS = {"analysis": {"templates": [{"templateName": "t"}], "args": [LATEST]}}
STEPS = [{"setWeight": 20}, ANALYSIS, {"setWeight": 80}, {"pause": {"duration": "1m"}}]
BASE = "spec.strategy.canary."


def rollout(steps: Any = None, **canary: Any) -> Document:
    return Document("rollout", {"spec": {"strategy": {"canary": {"steps": steps or STEPS, **canary}}}})


def template(metric: dict[str, Any] | None = None, name: str = "t", **spec: Any) -> Document:
    found = {"args": [{"name": "canary-hash"}], "metrics": [metric or METRIC], **spec}
    return Document(name, {"kind": "AnalysisTemplate", "metadata": {"name": name}, "spec": found})


def lint(app: Document, *templates: Document) -> list[Finding]:
    there = templates or (template(),)
    return lint_rollout(app, {Reference(each.name, False): each for each in there})


def rules(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.rule, finding.where) for finding in found]


def with_analysis(**fields: Any) -> list[dict[str, Any]]:
    return [{"setWeight": 20}, {"analysis": {**ANALYSIS["analysis"], **fields}}]


def test_nothing_to_find() -> None:
    assert lint(rollout()) == []


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (rollout(stableService="s", canaryService="c"), (WARNING, "service-without-router", "stableService")),
        (rollout(canaryService="c"), (WARNING, "service-without-router", "canaryService")),
        (rollout([{"setWeight": 120}]), (ERROR, "weight-out-of-range", "steps[0].setWeight")),
        (rollout([{"setWeight": 20}, {"setWeight": -1}]), (ERROR, "weight-out-of-range", "steps[1].setWeight")),
        (rollout([{"setWeight": "20"}]), (ERROR, "weight-out-of-range", "steps[0].setWeight")),
        (rollout([{"setWeight": 50}, {"setWeight": 20}]), (ERROR, "weight-goes-down", "steps[1].setWeight")),
        (rollout([{"analysis": {}}]), (ERROR, "no-templates", "steps[0].analysis.templates")),
        (rollout(with_analysis(templates=[])), (ERROR, "no-templates", "steps[1].analysis.templates")),
        (
            rollout(with_analysis(args=[LATEST, {"name": "other", "value": "1"}])),
            (WARNING, "unused-argument", "steps[1].analysis.args"),
        ),
    ],
)
def test_one_rule_and_its_correction(app: Document, expected: tuple[str, str, str]) -> None:
    (finding,) = lint(app)
    severity, rule, where = expected
    assert rules([finding]) == [(severity, rule, BASE + where)]
    there = apply([app, template()], finding.edits)
    rest = lint(*there)
    assert rule not in [each.rule for each in rest]
    while rest:
        there = apply(there, rest[0].edits)
        rest = lint(*there)


@pytest.mark.parametrize(
    ("weight", "right"),
    [("20", 20), ("5", 10), ("120", 100), (120, 100), (-1, 10), ("a fifth", None), (20.5, None), (True, None)],
)
def test_a_weight_that_is_no_percentage(weight: Any, right: int | None) -> None:
    (finding,) = lint(rollout([{"setWeight": 10}, {"setWeight": weight}]))
    assert finding.rule == "weight-out-of-range"
    assert [edit.value for edit in finding.edits] == ([] if right is None else [right])


def test_what_only_a_person_can_know() -> None:
    gone = [{"analysis": {"templates": [{"templateName": "gone"}]}}]
    assert rules(lint(rollout(gone))) == [(ERROR, "missing-template", BASE + "steps[0].analysis.templates[0]")]
    assert rules(lint(rollout([{"setWeight": 20, "pause": {}}]))) == [(ERROR, "invalid-step", BASE + "steps")]
    assert rules(lint(rollout([{"setHeaderRoute": {}}]))) == [(ERROR, "invalid-step", BASE + "steps")]
    for steps in (["x"], [{"pause": "10s"}]):
        assert rules(lint(rollout(steps))) == [(ERROR, "invalid-step", BASE + "steps")]


def test_a_router_separates_traffic_from_pods() -> None:
    blend = {**METRIC, "provider": {"prometheus": {"query": "rate(ok[2m])"}}}
    routed = rollout(trafficRouting={"nginx": {}}, canaryService="c", stableService="s")
    assert [finding.rule for finding in lint(routed, template(blend, args=[]))] == ["unused-argument"]


def test_an_argument_that_one_step_does_not_give() -> None:
    app = rollout([*STEPS, {"analysis": {"templates": [{"templateName": "t"}]}}])
    (finding,) = lint(app)
    assert rules([finding]) == [(ERROR, "unresolved-argument", "spec.args")]
    assert "steps[4].analysis" in finding.reason
    (right, _template) = apply([app, template()], finding.edits)
    assert right.get(("spec", "strategy", "canary", "steps", 4, "analysis", "args")) == [LATEST]
    assert lint(right) == []


def test_a_blend_is_put_right_in_template_and_rollout() -> None:
    app = rollout([{"analysis": {"templates": [{"templateName": "t"}]}}])
    blended = template({**METRIC, "provider": {"prometheus": {"query": "rate(ok[2m])"}}}, args=[])
    (finding,) = lint(app, blended)
    assert finding.rule == "blended-query"
    assert finding.corrected == (
        'query: "rate(ok{pod_template_hash=\\"{{args.canary-hash}}\\"}[2m])"\n'
        "# spec\n"
        "args: [{name: canary-hash}]\n"
        "# rollout, spec.strategy.canary.steps[0].analysis\n"
        "args: [{name: canary-hash, valueFrom: {podTemplateHashValue: Latest}}]"
    )
    assert lint(*apply([app, blended], finding.edits)) == []


def test_only_the_background_may_go_on_for_ever() -> None:
    endless = {name: value for name, value in METRIC.items() if name != "count"}
    beside = rollout([{"setWeight": 20}], analysis=ANALYSIS["analysis"])
    assert lint(beside, template(endless)) == []
    assert rules(lint(rollout(), template(endless))) == [(ERROR, "interval-without-count", "spec.metrics[0].count")]


def test_templates_of_templates_share_their_arguments() -> None:
    outer = template(name="t", metrics=None, templates=[{"templateName": "inner"}], args=[{"name": "canary-hash"}])
    inner = template({**METRIC, "successCondition": "result >= 1"}, name="inner", args=[])
    found = lint(rollout(), outer, inner)
    assert [(finding.document, finding.rule) for finding in found] == [("inner", "type-mismatch")]


def test_templates_that_cannot_be_merged() -> None:
    twice = rollout(with_analysis(templates=[{"templateName": "t"}, {"templateName": "u"}]))
    (finding,) = lint(twice, template(), template(name="u"))
    assert rules([finding]) == [(ERROR, "cannot-be-merged", BASE + "steps[1].analysis.templates")]


def test_metrics_that_the_rollout_only_watches_may_have_any_limit() -> None:
    lax = template({**METRIC, "failureLimit": 5})
    assert [finding.rule for finding in lint(rollout(), lax)] == ["limit-never-trips"]
    assert lint(rollout(with_analysis(dryRun=[{"metricName": "m"}])), lax) == []
