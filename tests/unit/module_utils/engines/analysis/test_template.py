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
        ([{"name": "t", "valueFrom": {"secretKeyRef": {}}}], {}, "args.t was not resolved: valueFrom.secretKeyRef"),
        ([{"name": "t", "valueFrom": {"fieldRef": {}}}], {}, "args.t was not resolved: valueFrom.fieldRef"),
        ([{"name": "h"}], {"h": {"valueFrom": {"podTemplateHashValue": "Newest"}}}, "Latest or Stable"),
    ],
)
def test_args_left_open(declared: list[dict[str, Any]], supplied: dict[str, Any], reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        merge_args(declared, supplied, HASHES)


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
        ({"provider": {}}, "no provider specified"),
        ({"provider": {"web": {}}}, "provider web is not supported"),
        ({"provider": {"plugin": {"a/b": {}}}}, "provider plugin a/b is not supported"),
        ({"provider": {"web": {}, "prometheus": {"query": "up"}}}, "multiple providers"),
        ({"provider": {"prometheus": {"query": " "}}}, "query is empty"),
        ({"provider": {"prometheus": {"query": "up", "rangeQuery": {"start": "now()"}}}}, "rangeQuery"),
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
