# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of the lint: what each finds, that it finds nothing else, and that its correction passes the lint."""

from __future__ import annotations

import random
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis import conditions
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.expression import VECTOR
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.findings import (
    ERROR,
    WARNING,
    Document,
    Edit,
    Finding,
    apply,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.lint import Context, lint_template
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.template import (
    TemplateError,
    merge_args,
    read_spec,
)

CANARY = '{pod_template_hash="{{args.canary-hash}}"}'
ONE_RATE = f"sum(rate(ok{CANARY}[2m]))"
RATIO = f"{ONE_RATE} / sum(rate(all{CANARY}[2m]))"
GUARDED = "len(result) > 0 && !isNaN(result[0]) && result[0] >= 0.95"
SEED = {
    "name": "success-rate",
    "interval": "1m",
    "count": 5,
    "successCondition": "len(result) == 0 || result[0] >= 0.95",
    "failureLimit": 3,
    "provider": {
        "prometheus": {
            "query": 'sum(rate(http_requests_total{app="lumen-api",status!~"5.."}[2m]))\n/\n'
            'sum(rate(http_requests_total{app="lumen-api"}[2m]))\n'
        }
    },
}
LIMIT = ("spec", "metrics", 0, "failureLimit")


def document(metric: dict[str, Any], **spec: Any) -> Document:
    body = {"metadata": {"name": "success-rate"}, "kind": "AnalysisTemplate", "spec": {"metrics": [metric], **spec}}
    return Document("template", body)


def sound(query: str = RATIO, **fields: Any) -> Document:
    """A template without a finding, but for what ``fields`` (None takes one away) put in."""
    metric = {
        "name": "m",
        "initialDelay": "2m",
        "interval": "1m",
        "count": 5,
        "failureLimit": 1,
        "successCondition": GUARDED,
        "provider": {"prometheus": {"query": query}},
        **fields,
    }
    args = [{"name": "canary-hash"}] if "canary-hash" in query else []
    return document({name: value for name, value in metric.items() if value is not None}, args=args)


def rules(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.rule, finding.where) for finding in found]


def corrected(documents: list[Document], finding: Finding) -> list[Document]:
    return apply(documents, finding.edits)


def test_nothing_to_find() -> None:
    assert lint_template(sound()) == []


def test_the_seed_gives_warnings_alone_and_is_right_when_all_are_put_right() -> None:
    seed = document(SEED)
    seed = Document(seed.name, seed.body, comments={LIMIT: "3 consecutive failures → rollback"})
    found = lint_template(seed)
    assert {finding.severity for finding in found} == {WARNING}
    assert {finding.rule for finding in found} == {
        "consecutive-meant",
        "initial-delay-too-short",
        "blended-query",
        "length-is-no-guard",
        "nan-unguarded",
    }
    rounds = 0
    while found:
        rounds += 1
        assert rounds < 10
        (seed,) = corrected([seed], found[0])
        found = lint_template(seed)
    metric = seed.body["spec"]["metrics"][0]
    assert metric["failureLimit"] == 2
    assert metric["initialDelay"] == "2m"
    assert metric["successCondition"] == GUARDED
    assert metric["provider"]["prometheus"]["query"].count('pod_template_hash="{{args.canary-hash}}"') == 2
    assert seed.body["spec"]["args"] == [{"name": "canary-hash"}]


CASES: list[tuple[str, Document, tuple[str, str, str], Any]] = [
    # what is odd, the template, the one finding, and what its correction puts there
    (
        "NaN fails",
        sound(successCondition="len(result) > 0 && result[0] >= 0.95"),
        (WARNING, "nan-unguarded", "successCondition"),
        GUARDED,
    ),
    (
        "NaN passes",
        sound(successCondition=None, failureCondition="result[0] < 0.95"),
        (WARNING, "nan-unguarded", "failureCondition"),
        "len(result) == 0 || isNaN(result[0]) || result[0] < 0.95",
    ),
    (
        "all of nothing",
        sound(ONE_RATE, successCondition="all(result, # >= 0.95)"),
        (WARNING, "empty-passes", "successCondition"),
        "len(result) > 0 && !any(result, isNaN(#)) && all(result, # >= 0.95)",
    ),
    (
        "default looks at the vector",
        sound(successCondition="default(result, 1.0) >= 0.95"),
        (ERROR, "type-mismatch", "successCondition"),
        GUARDED,
    ),
    (
        "default of an element looks at the vector",
        sound(successCondition="default(result[0], 0) > 0.5"),
        (ERROR, "type-mismatch", "successCondition"),
        "len(result) > 0 && !isNaN(result[0]) && result[0] > 0.5",
    ),
    (
        "a vector compared",
        sound(successCondition="result >= 0.95"),
        (ERROR, "type-mismatch", "successCondition"),
        GUARDED,
    ),
    (
        "an element of a scalar",
        sound(f"scalar({RATIO})", successCondition="result[0] >= 0.95"),
        (ERROR, "type-mismatch", "successCondition"),
        "!isNaN(result) && result >= 0.95",
    ),
    (
        "the length of a scalar",
        sound(f"scalar({RATIO})", successCondition="len(result) == 0 || result[0] >= 0.95"),
        (ERROR, "type-mismatch", "successCondition"),
        "!isNaN(result) && result >= 0.95",
    ),
    (
        "with an argument in it",
        sound(successCondition="result >= {{args.canary-hash}}"),
        (ERROR, "type-mismatch", "successCondition"),
        "len(result) > 0 && !isNaN(result[0]) && result[0] >= {{args.canary-hash}}",
    ),
    (
        "half a condition",
        sound(successCondition="result[0] >= 0.95 &&"),
        (ERROR, "invalid-condition", "successCondition"),
        GUARDED,
    ),
    (
        "gibberish",
        sound(successCondition="better than before"),
        (ERROR, "invalid-condition", "successCondition"),
        GUARDED,
    ),
    (
        "a number",
        sound(successCondition="result[0]"),
        (ERROR, "not-boolean", "successCondition"),
        "len(result) > 0 && !isNaN(result[0]) && result[0] > 0",
    ),
    (
        "nothing of the result",
        sound(successCondition="1 == 1"),
        (ERROR, "constant-condition", "successCondition"),
        GUARDED,
    ),
    ("no condition", sound(successCondition=None), (WARNING, "no-condition", "successCondition"), GUARDED),
    (
        "a condition by zero",
        sound(ONE_RATE, successCondition="len(result) > 0 && result[0] / 0 > 1"),
        (ERROR, "division-by-zero", "successCondition"),
        "len(result) > 0 && result[0] > 1",
    ),
    (
        "a query by zero",
        sound(f"{ONE_RATE} / 0"),
        (ERROR, "division-by-zero", "provider.prometheus.query"),
        ONE_RATE,
    ),
    ("a limit of all", sound(failureLimit=5), (ERROR, "limit-never-trips", "failureLimit"), 4),
    ("a limit beyond all", sound(failureLimit=7), (ERROR, "limit-never-trips", "failureLimit"), 4),
    (
        "a limit of one measurement",
        sound(count=None, interval=None, failureLimit=1),
        (ERROR, "limit-never-trips", "failureLimit"),
        0,
    ),
    (
        "as inconclusive as it gets",
        sound(inconclusiveLimit=5, failureCondition="len(result) == 0 || isNaN(result[0]) || result[0] < 0.5"),
        (WARNING, "limit-never-trips", "inconclusiveLimit"),
        4,
    ),
    ("never inconclusive", sound(inconclusiveLimit=2), (WARNING, "limit-never-trips", "inconclusiveLimit"), None),
    ("errors for ever", sound(consecutiveErrorLimit=1000), (WARNING, "limit-never-trips", "consecutiveErrorLimit"), 4),
    ("successes that do not fit", sound(consecutiveSuccessLimit=5), (ERROR, "count-too-small", "count"), 6),
    (
        "consecutive by name",
        sound(name="3-failures-in-a-row", failureLimit=3),
        (WARNING, "consecutive-meant", "failureLimit"),
        2,
    ),
    ("no interval", sound(interval=None), (ERROR, "count-without-interval", "interval"), "1m"),
    ("no count", sound(count=None), (WARNING, "interval-without-count", "count"), 5),
    ("a limit in words", sound(failureLimit="three"), (ERROR, "invalid-limit", "failureLimit"), 0),
    ("a negative limit", sound(failureLimit=-2), (ERROR, "invalid-limit", "failureLimit"), 0),
    ("a negative count", sound(count=-1), (ERROR, "invalid-limit", "count"), 5),
    ("half a limit", sound(failureLimit=1.5), (ERROR, "invalid-limit", "failureLimit"), 0),
    ("parsecs", sound(interval="5 parsecs"), (ERROR, "invalid-duration", "interval"), "1m"),
    ("no unit", sound(initialDelay=120), (ERROR, "invalid-duration", "initialDelay"), "120s"),
    ("a number as text", sound(interval="60"), (ERROR, "invalid-duration", "interval"), "60s"),
    ("days", sound(interval="1d"), (ERROR, "invalid-duration", "interval"), "24h"),
    (
        "successes in a row of one",
        sound(count=None, interval=None, failureLimit=0, consecutiveSuccessLimit=3),
        (ERROR, "count-too-small", "count"),
        3,
    ),
    (
        "a short window",
        sound(RATIO.replace("2m", "45s")),
        (WARNING, "window-too-short", "provider.prometheus.query"),
        RATIO,
    ),
    ("no delay", sound(initialDelay=None), (WARNING, "initial-delay-too-short", "initialDelay"), "2m"),
    ("a short delay", sound(initialDelay="1m"), (WARNING, "initial-delay-too-short", "initialDelay"), "2m"),
    (
        "stable and canary",
        sound(RATIO.replace(CANARY, "")),
        (WARNING, "blended-query", "provider.prometheus.query"),
        RATIO,
    ),
    (
        "an end that is missing",
        sound(successCondition=GUARDED.replace("0.95", "{{args.canary-hash}")),
        (ERROR, "unresolved-argument", "successCondition"),
        GUARDED.replace("0.95", "{{args.canary-hash}}"),
    ),
    (
        "an argument of another kind",
        sound(successCondition=GUARDED.replace("0.95", "{{canary-hash}}")),
        (ERROR, "unresolved-argument", "successCondition"),
        GUARDED.replace("0.95", "{{args.canary-hash}}"),
    ),
]


@pytest.mark.parametrize(
    ("template", "expected", "value"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_one_rule(template: Document, expected: tuple[str, str, str], value: Any) -> None:
    found = lint_template(template)
    severity, rule, where = expected
    assert rules(found) == [(severity, rule, f"spec.metrics[0].{where}")]
    finding = found[0]
    assert finding.reason
    assert finding.corrected
    (right,) = corrected([template], finding)
    assert right.get(finding.path) == value
    assert lint_template(right) == []


@pytest.mark.parametrize(
    ("condition", "right"),
    [
        ("result[0] > 0,95", "len(result) > 0 && !isNaN(result[0]) && result[0] > 0.95"),
        ("result >= 0,995", "len(result) > 0 && !isNaN(result[0]) && result[0] >= 0.995"),
        ("len(result) > 0 && result[0] ≥ 0.95", GUARDED),
        ("len(result) == 0 || rate ≤ 2", "len(result) > 0 && !isNaN(result[0]) && result[0] <= 2"),
        ("result[0] * 100 ≥ 95", "len(result) > 0 && !isNaN(result[0]) && result[0] * 100 >= 95"),
        ("result[0] > 1,000", None),
        ("len(result) > 0 && better", GUARDED),
        ("better(result) > 0.9", None),
        ("result[0] > 0.9 && worse(result) > 0.5", None),
        ("result[0] >= 0.95 percent", None),
    ],
)
def test_a_correction_keeps_the_threshold_or_is_none(condition: str, right: str | None) -> None:
    template = sound(successCondition=condition)
    (finding,) = lint_template(template)
    assert (finding.severity, finding.path[-1]) == (ERROR, "successCondition")
    assert [edit.value for edit in finding.edits] == ([right] if right else [])
    assert lint_template(apply([template], finding.edits)[0]) == ([] if right else [finding])


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        (f"absent(up{CANARY})", "len(result) == 0"),
        (f"absent(up{CANARY})", "len(result) == 0 || result[0] != 1"),
        (f"absent_over_time(up{CANARY}[2m])", "len(result) == 0 || result[0] != 1"),
        (f"up{CANARY} == 0", "len(result) == 0"),
        (f"up{CANARY} == 0", "len(result) < 3"),
    ],
)
def test_an_empty_answer_may_be_what_is_asked_for(query: str, condition: str) -> None:
    assert lint_template(sound(query, successCondition=condition)) == []


def test_a_guard_that_nothing_passes_is_not_offered() -> None:
    (finding,) = lint_template(sound(f"up{CANARY}", successCondition="len(result) == 0 && !any(result, # > 1)"))
    assert (finding.rule, finding.edits) == ("empty-passes", ())
    (finding,) = lint_template(sound(f"up{CANARY}", successCondition="all(result, # > 5000)"))
    assert finding.corrected


def test_a_pipe_is_guarded_in_parentheses() -> None:
    template = sound(f"up{CANARY}", successCondition="result | all(# > 1)")
    (finding,) = lint_template(template)
    (right,) = corrected([template], finding)
    assert right.get(finding.path) == "len(result) > 0 && !any(result, isNaN(#)) && (result | all(# > 1))"
    assert lint_template(right) == []


def test_divisions_by_zero_go_at_once() -> None:
    template = sound(f"up{CANARY}", successCondition="len(result) > 0 && result[0] / 0 / 0 < 1")
    (finding,) = lint_template(template)
    (right,) = corrected([template], finding)
    assert right.get(finding.path) == "len(result) > 0 && result[0] < 1"
    assert lint_template(right) == []


def test_arguments() -> None:
    query = ONE_RATE.replace("ok{", 'ok{app="{{args.app}}",')
    undeclared = lint_template(sound(query))
    assert rules(undeclared) == [(ERROR, "unresolved-argument", "spec.args")]
    assert lint_template(corrected([sound(query)], undeclared[0])[0]) == []

    template = sound(query)
    template = apply([template], [Edit("template", ("spec", "args"), [{"name": "canary-hash"}, {"name": "app"}])])[0]
    assert lint_template(template) == [], "who uses it may give the value"
    assert rules(lint_template(template, Context({"canary-hash": "x"}, complete=True))) == [
        (ERROR, "unresolved-argument", "spec.args")
    ]
    assert lint_template(template, Context({"canary-hash": "x", "app": "y"}, complete=True)) == []

    unused = apply([sound()], [Edit("template", ("spec", "args"), [{"name": "canary-hash"}, {"name": "app"}])])[0]
    (finding,) = lint_template(unused)
    assert rules([finding]) == [(WARNING, "unused-argument", "spec.args[1]")]
    assert finding.corrected == "# without args[1]"
    assert lint_template(corrected([unused], finding)[0]) == []


def test_arguments_that_are_given_and_not_there() -> None:
    found = lint_template(sound(), Context({"canary-hash": "x", "canary-hsah": "y"}))
    assert rules(found) == [(WARNING, "unused-argument", "spec.args")]
    assert "canary-hsah is given" in found[0].reason
    inline = Document("Analysis (inline)", {"spec": {"metrics": sound().body["spec"]["metrics"]}})
    assert lint_template(inline, Context({"canary-hash": "x"})) == []
    found = lint_template(inline, Context({"canary-hash": "x", "other": "y"}))
    assert rules(found) == [(WARNING, "unused-argument", "spec.args")]


def test_arguments_whose_value_is_known_are_put_in() -> None:
    template = sound(failureLimit="{{args.limit}}", successCondition=GUARDED.replace("0.95", "{{args.lowest}}"))
    args = [{"name": "canary-hash"}, {"name": "limit", "value": "5"}, {"name": "lowest", "value": "'much'"}]
    template = apply([template], [Edit("template", ("spec", "args"), args)])[0]
    assert rules(lint_template(template)) == [
        (ERROR, "limit-never-trips", "spec.metrics[0].failureLimit"),
        (ERROR, "invalid-condition", "spec.metrics[0].successCondition"),
    ]
    given = Context({"limit": 1, "lowest": 0.9})
    assert lint_template(template, given) == []
    secret = Context({"limit": {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, "lowest": 0.9})
    assert lint_template(template, secret) == []


@pytest.mark.parametrize(
    "context",
    [
        Context(router=True),
        Context(callers=(), dry_run=["never"]),
    ],
)
def test_a_router_makes_a_blend_impossible_and_nothing_else(context: Context) -> None:
    blended = sound(RATIO.replace(CANARY, ""))
    found = rules(lint_template(blended, context))
    assert found == (
        [] if context.router else [(WARNING, "blended-query", "spec.metrics[0].provider.prometheus.query")]
    )


def test_metrics_that_do_not_decide_may_have_any_limit() -> None:
    watched = sound(failureLimit=5, successCondition=None)
    assert len(lint_template(watched)) == 2
    assert lint_template(watched, Context(dry_run=["^m$"])) == []
    ruled = apply([watched], [Edit("template", ("spec", "dryRun"), [{"metricName": "m"}])])[0]
    assert lint_template(ruled) == []


def test_a_dry_run_rule_that_matches_nothing() -> None:
    template = apply([sound()], [Edit("template", ("spec", "dryRun"), [{"metricName": "^other$"}])])[0]
    (finding,) = lint_template(template)
    assert rules([finding]) == [(ERROR, "dry-run-unmatched", "spec.dryRun[0]")]
    assert lint_template(corrected([template], finding)[0]) == []


def test_names_that_are_taken() -> None:
    template = sound()
    metric = template.body["spec"]["metrics"][0]
    twice = apply([template], [Edit("template", ("spec", "metrics"), [metric, metric])])[0]
    (finding,) = lint_template(twice)
    assert rules([finding]) == [(ERROR, "duplicate-name", "spec.metrics[1].name")]
    assert lint_template(corrected([twice], finding)[0]) == []


def test_what_only_a_person_can_know() -> None:
    assert rules(lint_template(document(SEED, metrics=[]))) == [(ERROR, "no-metrics", "spec.metrics")]
    assert rules(lint_template(sound("rate(up[2m]", args=[]))) == [
        (WARNING, "invalid-query", "spec.metrics[0].provider.prometheus.query")
    ]
    assert rules(lint_template(sound(" "))) == [(ERROR, "invalid-query", "spec.metrics[0].provider.prometheus.query")]
    both_off = sound(failureLimit=-1)
    assert rules(lint_template(both_off)) == [(ERROR, "invalid", "spec.metrics[0]")]


def test_our_extensions_say_what_a_condition_need_not() -> None:
    bare = "result[0] >= 0.95"
    assert lint_template(sound(successCondition=bare, on_nan="inconclusive")) == []
    assert lint_template(sound(successCondition=bare), Context(extensions={"on_nan": "fail"})) == []
    row = sound(name="3 failures in a row", failureLimit=3, consecutive_failure_limit=3)
    assert lint_template(row) == []


QUERIES = (
    *("up", "scalar(up)", RATIO, "1", "vector(1)", "a / 0", "sum(a", "rate(a[30s])", "rate(a[{{args.w}}])", '"x"', ""),
    *("max_over_time(rate(a[1m])[10m:30s])", "histogram_quantile(0.9, rate(a[5m]))", "scalar(a / b)", "a / (b > 0)"),
)
CONDITIONS = (
    *("", "len(result) == 0 || result[0] >= 0.95", "result >= 0.95", "default(result, 1.0) >= 0.95", "result[0]"),
    *(
        "result[0] >= {{args.n}}",
        "all(result, # > 1)",
        "true",
        "isNaN(result) || result < 1",
        "result[1] > 2",
        "1 / 0 > 1",
    ),
    *(
        "result[0] / 0 > 1",
        "x",
        "{{args.w}}",
        "any(result, isNaN(#)) || result[0] < 1",
        "result[0] > {{n}}",
        "'a' == 'a'",
    ),
)
FIELDS: dict[str, tuple[Any, ...]] = {
    "interval": (None, "1m", "5s", "", "x", 5),
    "initialDelay": (None, "0s", "2m", "10m", "x", "{{args.w}}"),
    "count": (None, 0, 1, 3, 5, "5", "x", -1, "{{args.n}}"),
    "failureLimit": (None, 0, 1, 3, 5, 7, -1, "x", "{{args.n}}"),
    "inconclusiveLimit": (None, None, 0, 2, 5, 9),
    "consecutiveErrorLimit": (None, 4, 100),
    "consecutiveSuccessLimit": (None, None, 0, 2, 5),
    "successCondition": CONDITIONS,
    "failureCondition": CONDITIONS,
}
ARGS = [{"name": "canary-hash", "value": "x"}, {"name": "w", "value": "30s"}, {"name": "n", "value": "2"}]


def any_template(chance: random.Random) -> Document:
    fields = {name: chance.choice(values) for name, values in FIELDS.items()}
    metric = {"name": "m", **{name: value for name, value in fields.items() if value is not None}}
    provider = {"prometheus": {"query": chance.choice(QUERIES)}}
    return document({**metric, "provider": provider}, args=ARGS)


def nothing_passes(metric: dict[str, Any]) -> bool:
    """Whether guards would leave nothing that passes: the two conditions contradict each other."""
    success, failure = (metric.get(name, "") for name in ("successCondition", "failureCondition"))
    guards = conditions.guarded(success, VECTOR, False), conditions.guarded(failure or "false", VECTOR, True)
    return not conditions.passes(*guards, VECTOR)


def test_every_correction_makes_its_finding_go_away_and_the_last_leaves_what_only_a_person_can_know() -> None:
    chance = random.Random(20)
    for _case in range(150):
        template = any_template(chance)
        for _round in range(30):
            mended = [finding for finding in lint_template(template) if finding.edits]
            if not mended:
                break
            (template,) = apply([template], mended[0].edits)
        assert mended == [], template.body["spec"]
        left = {finding.rule for finding in lint_template(template)}
        metric = template.body["spec"]["metrics"][0]
        if nothing_passes(metric):
            left -= {"nan-unguarded", "empty-passes", "length-is-no-guard"}
        assert left <= {"invalid-query", "invalid"}, template.body["spec"]


def refusal(spec: dict[str, Any]) -> str:
    """Why a gate would not run a template; empty when it would."""
    try:
        read_spec(spec, merge_args(spec["args"], {}, None))
    except TemplateError as problem:
        return str(problem)
    return ""


def test_what_a_gate_refuses_is_an_error_of_the_lint() -> None:
    chance = random.Random(21)
    refused = 0
    for _case in range(300):
        template = any_template(chance)
        errors = [finding for finding in lint_template(template, Context(complete=True)) if finding.severity == ERROR]
        reason = refusal(template.body["spec"])
        refused += bool(reason)
        assert errors or not reason, template.body["spec"]
    assert refused > 100


@pytest.mark.parametrize("text", ["3 consecutive", "three failures in a row", "3 раза подряд", "back-to-back"])
def test_a_comment_promises_a_row(text: str) -> None:
    template = sound(failureLimit=3)
    template = Document(template.name, template.body, comments={LIMIT: text})
    (finding,) = lint_template(template)
    assert rules([finding]) == [(WARNING, "consecutive-meant", "spec.metrics[0].failureLimit")]
    assert corrected([template], finding)[0].get(LIMIT) == 2


@pytest.mark.parametrize(
    "query",
    [
        'rate(x{pod_template_hash="{{args.canary-hash}}"}[2m])',
        'rate(x{rollouts_pod_template_hash=~"{{args.canary-hash}}|0"}[2m])',
        'rate(x{service="lumen-api-canary"}[2m])',
        'rate(x{pod=~"api-{{args.canary-hash}}-.*"}[2m])',
    ],
)
def test_queries_that_ask_for_one_version(query: str) -> None:
    assert "blended-query" not in [finding.rule for finding in lint_template(sound(query))]


@pytest.mark.parametrize(
    "matcher",
    [
        'pod_template_hash!="{{args.canary-hash}}"',
        'pod_template_hash!~"{{args.canary-hash}}.*"',
        'pod_template_hash=~".*"',
        'pod_template_hash=~".+|{{args.canary-hash}}"',
        'pod_template_hash=""',
        'service!="lumen-api-canary"',
    ],
)
def test_queries_that_ask_for_all_or_all_but_one_version(matcher: str) -> None:
    template = sound(f"sum(rate(x{{{matcher}}}[2m]))")
    (template,) = apply([template], [Edit("template", ("spec", "args"), [{"name": "canary-hash"}])])
    found = [finding for finding in lint_template(template) if finding.rule != "unused-argument"]
    assert [finding.rule for finding in found] == ["blended-query"]
    assert lint_template(apply([template], found[0].edits)[0]) == []


@pytest.mark.parametrize(
    ("provider", "where", "reason"),
    [
        (None, "provider", "it has none"),
        ({}, "provider", "it has none"),
        ({"promtheus": {"query": "up"}}, "provider", "it has promtheus"),
        ({"prometheus": {"query": "1"}, "job": {}}, "provider", "it has prometheus, job"),
        ({"plugin": {"a/b": {}, "c/d": {}}}, "provider", "it has plugin"),
        ("prometheus", "provider", "provider must be a mapping, not 'prometheus'"),
        ({"prometheus": "up"}, "provider.prometheus", "provider.prometheus must be a mapping, not 'up'"),
    ],
)
def test_one_provider(provider: Any, where: str, reason: str) -> None:
    template = sound("1", successCondition="result > 0", provider=provider)
    found = lint_template(template)
    assert rules(found) == [(ERROR, "invalid", f"spec.metrics[0].{where}")]
    assert reason in found[0].reason
    plugin = {"plugin": {"a/b": {"any": 1}}}
    assert lint_template(sound("1", provider=plugin)) == []


@pytest.mark.parametrize("name", [None, "", 3])
def test_a_metric_needs_a_name(name: Any) -> None:
    assert rules(lint_template(sound(name=name))) == [(ERROR, "invalid", "spec.metrics[0].name")]


@pytest.mark.parametrize(
    "query",
    [f"clamp_min({RATIO}, 0)", f"{RATIO} and on() (count(up{CANARY}) > 0)", f"({RATIO}) != 0", f"sqrt({ONE_RATE})"],
)
def test_queries_that_may_be_nan(query: str) -> None:
    (finding,) = lint_template(sound(query, successCondition="len(result) > 0 && result[0] >= 0.95"))
    assert finding.rule == "nan-unguarded"


@pytest.mark.parametrize(
    "query",
    [
        "a / (b > 0)",
        "a / clamp_min(b, 1)",
        "a / b < 2",
        "count(up == 1) / count(up)",
        "vector(1) / vector(0.5)",
        "sum(rate(a[2m]))",
        "a / 100",
    ],
)
def test_queries_that_cannot_be_nan(query: str) -> None:
    template = sound(query, successCondition="len(result) > 0 && result[0] > 1")
    assert "nan-unguarded" not in [finding.rule for finding in lint_template(template)]


def test_what_the_controller_alone_measures_is_not_judged() -> None:
    job = {"job": {"spec": {}}}
    assert lint_template(sound(provider=job, successCondition=None, initialDelay=None, args=[])) == [
        *lint_template(sound(provider=job, successCondition=None, initialDelay=None, args=[]))
    ]
    ranged = {"prometheus": {"query": "up", "rangeQuery": {"start": "now()-1h"}}}
    assert lint_template(document({"name": "m", "successCondition": "all(result, # > 1)", "provider": ranged})) == []


def test_a_finding_says_what_where_and_what_next() -> None:
    template = Document("T in f.yml", sound(failureLimit=5).body, places={LIMIT: (12, 21), ("spec",): (6, 1)})
    (finding,) = lint_template(template)
    assert str(finding).startswith(
        "limit-never-trips: T in f.yml, line 12, spec.metrics[0].failureLimit: failureLimit 5"
    )
    assert finding.as_dict() == {
        "rule": "limit-never-trips",
        "severity": "error",
        "object": "T in f.yml",
        "where": "spec.metrics[0].failureLimit",
        "line": 12,
        "column": 21,
        "metric": "m",
        "reason": "failureLimit 5 can never trip: a metric fails when more than 5 of its 5 measurements do",
        "corrected": "failureLimit: 4",
    }
    absent = Document("T", sound(interval=None).body, places={("spec", "metrics", 0): (8, 7)})
    assert (lint_template(absent)[0].line, lint_template(absent)[0].column) == (8, 7)


@pytest.mark.parametrize(
    "spec",
    [
        {"metrics": [None]},
        {"metrics": ["x"]},
        {"metrics": {"a": 1}},
        {"metrics": [{}]},
        {"metrics": [{"name": 3, "provider": 7}], "args": 5, "dryRun": {"a": 1}},
        {"metrics": [{"name": "m", "provider": {"prometheus": {"query": 5}}, "successCondition": 7, "count": []}]},
        {"metrics": [{"name": "m", "successCondition": "(" * 300, "provider": {"prometheus": {"query": "up"}}}]},
        {"metrics": [{"name": "m"}], "args": [None, {"name": None}, {"nom": 1}], "dryRun": [None, {"metricName": 3}]},
    ],
)
def test_any_shape_is_looked_at(spec: dict[str, Any]) -> None:
    for finding in lint_template(Document("t", {"spec": spec})):
        assert finding.reason
        assert finding.as_dict()
