# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Templates: arguments, validation, what is refused when one is read."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.metric import Metric, TemplateError
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.template import (
    dry_run_names,
    merge_args,
    read_metrics,
    read_spec,
    substitute,
)

HASHES = {"Latest": "64bdf7c984", "Stable": "b67698557"}
SECRET = {"secretKeyRef": {"name": "token", "key": "value"}}
FIELD = {"fieldRef": {"fieldPath": "metadata.name"}}


def metric(**fields: Any) -> dict[str, Any]:
    return {"name": "m", "provider": {"prometheus": {"query": "up"}}, **fields}


def test_args_come_from_the_template_and_from_the_caller() -> None:
    declared = [{"name": "app", "value": "a"}, {"name": "limit"}, {"name": "on"}, {"name": "hash"}]
    supplied = {"limit": 0.95, "on": True, "hash": {"valueFrom": {"podTemplateHashValue": "Latest"}}}
    assert merge_args(declared, supplied, HASHES) == {"app": "a", "limit": "0.95", "on": "true", "hash": "64bdf7c984"}


def test_a_template_may_ask_for_the_stable_hash_itself() -> None:
    declared = [{"name": "hash", "valueFrom": {"podTemplateHashValue": "Stable"}}]
    assert merge_args(declared, {}, HASHES) == {"hash": "b67698557"}
    assert merge_args(declared, {"hash": "x"}, HASHES) == {"hash": "x"}


@pytest.mark.parametrize(
    ("declared", "supplied", "reason"),
    [
        ([{"name": "app"}], {}, "args.app was not resolved"),
        ([{"name": "app", "value": "a"}], {"ap": "b"}, "no such argument"),
        (
            [{"name": "t", "valueFrom": {"secretKeyRef": {}}}],
            {},
            r"args.t.valueFrom.secretKeyRef.name must be a string",
        ),
        ([{"name": "t", "valueFrom": SECRET}], {}, "args.t was not resolved: no cluster gives the Secret token"),
        ([{"name": "t", "valueFrom": {"fieldRef": {}}}], {}, "args.t.valueFrom.fieldRef.fieldPath must be a string"),
        ([{"name": "t", "valueFrom": FIELD}], {}, "args.t was not resolved: no Rollout or Deployment gives the field"),
        ([{"name": "t", "valueFrom": {"configMapRef": {}}}], {}, "not resolved: valueFrom.configMapRef is not known"),
        ([{"name": "h"}], {"h": {"valueFrom": {"podTemplateHashValue": "Newest"}}}, "Latest or Stable"),
    ],
)
def test_args_left_open(declared: list[dict[str, Any]], supplied: dict[str, Any], reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        merge_args(declared, supplied, HASHES)


def test_fields_and_secrets_are_asked_for_when_they_are_needed() -> None:
    asked: list[str] = []

    def field(path: str) -> str:
        asked.append(path)
        return "lumen-api"

    def secret(name: str, key: str) -> str:
        asked.append(f"{name}/{key}")
        return "hunter2"

    declared = [{"name": "app", "valueFrom": FIELD}, {"name": "token", "value": "x", "valueFrom": SECRET}]
    assert merge_args(declared, {}, {}, field, secret) == {"app": "lumen-api", "token": "hunter2"}
    assert asked == ["metadata.name", "token/value"]
    assert merge_args(declared, {"app": "a", "token": "b"}, {}, field, secret) == {"app": "a", "token": "b"}
    assert merge_args([{"name": "x"}], {"x": {"valueFrom": FIELD}}, {}, field) == {"x": "lumen-api"}
    assert asked == ["metadata.name", "token/value", "metadata.name"]


def test_what_a_source_refuses_names_the_argument() -> None:
    def refuse(*_asked: str) -> str:
        raise TemplateError("there is no such thing")

    for source in (FIELD, SECRET):
        with pytest.raises(TemplateError, match=r"args\.x: there is no such thing"):
            merge_args([{"name": "x", "valueFrom": source}], {}, {}, refuse, refuse)


def test_a_hash_needs_a_rollout() -> None:
    with pytest.raises(TemplateError, match="no Rollout gives the Latest"):
        merge_args([{"name": "h", "valueFrom": {"podTemplateHashValue": "Latest"}}], {})


def test_substitution_reaches_every_string() -> None:
    data = metric(count="{{args.count}}", interval="{{ args.every }}", successCondition="result[0] > {{args.min}}")
    data["provider"]["prometheus"]["query"] = 'up{hash="{{args.hash}}"}'
    read = read_spec({"metrics": [data]}, {"count": "3", "every": "1m", "min": "0.9", "hash": "abc"})[0]
    assert (read.count, read.interval, read.success_condition) == (3, 60, "result[0] > 0.9")
    assert read.query == 'up{hash="abc"}'


@pytest.mark.parametrize("text", ["{{args.other}}", "{{inputs.a}}", "{{a}}", "{{args.a", "{{{args.a}}"])
def test_unresolved(text: str) -> None:
    with pytest.raises(TemplateError, match=r"resolve|end of"):
        substitute(text, {"a": "1"})


def test_values_are_not_substituted_twice() -> None:
    assert substitute("{{args.a}}", {"a": "{{args.b"}) == "{{args.b"


@pytest.mark.parametrize("value", ['say "a"', "a\\b", "tab\tline\n", "\u00e9\u2028", "{{args.b}}", ""])
def test_values_arrive_as_they_are(value: str) -> None:
    assert substitute({"query": "x{{ args.a }}y"}, {"a": value}) == {"query": f"x{value}y"}


@pytest.mark.parametrize("value", ["\x01", "\a", "\U000e0001"])
def test_a_value_that_argos_json_cannot_hold(value: str) -> None:
    with pytest.raises(TemplateError, match="characters that a template cannot hold"):
        substitute("{{args.a}}", {"a": value})


@pytest.mark.parametrize("tag", ["{{\nargs.a}}", "{{args. a}}", "{{ARGS.a}}", "{{args.a\t}}", "{{}}", "{{args.}}"])
def test_tags_that_argo_does_not_know(tag: str) -> None:
    with pytest.raises(TemplateError, match="failed to resolve"):
        substitute(tag, {"a": "1"})


def test_a_tag_ends_at_the_first_braces() -> None:
    assert substitute("{{args.a}}}} {{  args.a  }}", {"a": "1"}) == "1}} 1"


def test_no_metrics_and_duplicates() -> None:
    with pytest.raises(TemplateError, match="no metrics specified"):
        read_metrics([])
    with pytest.raises(TemplateError, match=r"metrics\[1\]: duplicate name 'm'"):
        read_metrics([metric(), metric()])
    with pytest.raises(TemplateError, match=r"metrics\[0\]: failureLimit"):
        read_metrics([metric(failureLimit=-2)])
    with pytest.raises(TemplateError, match="mapping"):
        read_metrics(["m"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"successCondition": "result[0] >"}, r"metric 'm': successCondition 'result\[0\] >': unexpected token EOF"),
        ({"failureCondition": "result[0]"}, "failureCondition .*expected bool, but got float64"),
        ({"successCondition": "result > 1 && now() != nil"}, "now is not supported"),
        ({"interval": "1m"}, "runs indefinitely"),
        ({"successCondition": "result[0] / 0 > 1"}, "division by zero"),
        ({"failureCondition": "len(result) % 0.0 == 1"}, r"'len\(result\) % 0.0 == 1'"),
        ({"successCondition": "1 / 0x0 > result[0]"}, "division by zero"),
        ({"count": "many"}, "count must be a whole number, not 'many'"),
        ({"failureLimit": "1.5"}, "failureLimit must be a whole number"),
        ({"failureLimit": 1.5}, "failureLimit must be a whole number"),
        ({"consecutiveErrorLimit": "25%"}, "consecutiveErrorLimit must be a whole number"),
        ({"inconclusiveLimit": ""}, "inconclusiveLimit must be a whole number"),
        ({"consecutiveSuccessLimit": [1]}, "consecutiveSuccessLimit must be a whole number"),
        ({"count": -1}, "count must be >= 0"),
        ({"failureLimit": -2}, "failureLimit must be >= 0"),
        ({"interval": "-5s", "count": 2}, "interval must not be negative"),
        ({"initialDelay": "-5s"}, "initialDelay must not be negative"),
        ({"on_empty": "ignore"}, "on_empty must be one of pass, fail, inconclusive, error"),
        ({"provider": {}}, "no provider specified"),
        ({"provider": {"web": {}}}, "provider web is not supported"),
        ({"provider": {"plugin": {"a/b": {}}}}, "provider plugin a/b is not supported"),
        ({"provider": {"web": {}, "prometheus": {"query": "up"}}}, "multiple providers"),
        ({"provider": {"prometheus": {"query": " "}}}, "query is empty"),
        (
            {"provider": {"prometheus": {"query": "up", "rangeQuery": {"start": "now()"}}}},
            "rangeQuery.end must be a string",
        ),
    ],
)
def test_refused_before_anything_is_measured(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        read_spec({"metrics": [metric(**fields)]}, {})


METRICS = [Metric("m1"), Metric("m10"), Metric("other")]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [([], set()), (["m1"], {"m1", "m10"}), (["^m1$", "oth"], {"m1", "other"}), ([".*"], {"m1", "m10", "other"})],
)
def test_dry_run_is_an_unanchored_expression(patterns: list[str], names: set[str]) -> None:
    assert dry_run_names(patterns, METRICS) == names


@pytest.mark.parametrize(
    ("patterns", "reason"), [("m1", "dryRun must be a list, not 'm1'"), ([5], r"dryRun\[0\] must be a string, not 5")]
)
def test_dry_run_is_a_list_of_strings(patterns: Any, reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        dry_run_names(patterns, METRICS)


@pytest.mark.parametrize("pattern", ["*", "m2", "(", "(?=m1)"])
def test_dry_run_that_matches_nothing(pattern: str) -> None:
    with pytest.raises(TemplateError, match=r"dryRun\[0\]: .* matches no metric"):
        dry_run_names([pattern], METRICS)


@pytest.mark.parametrize("condition", ["result[0] / 0.5 > 1", "result[0] / 10 > 0", "0 / len(result) > 1"])
def test_no_division_by_zero(condition: str) -> None:
    assert read_spec({"metrics": [metric(successCondition=condition)]}, {})[0].success_condition == condition
