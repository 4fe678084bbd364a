# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cases of Argo Rollouts' own tests: analysis/analysis_test.go, utils/analysis/{factory,helpers}_test.go (1.8)."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.metric import (
    Metric,
    TemplateError,
    read_metric,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.run import (
    Measurement,
    MetricResult,
    Run,
    metric_phase,
    violation,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.template import (
    dry_run_names,
    dry_run_patterns,
    flatten,
    merge_args,
    read_metrics,
    read_spec,
    references,
)

S, F, N, E, R = "Successful", "Failed", "Inconclusive", "Error", "Running"
PROMETHEUS = {"prometheus": {"query": "up"}}


def result(**counts: Any) -> MetricResult:
    return MetricResult("success-rate", measurements=[Measurement(F, 0.0)], **counts)


ROWS = {"failure_limit": 4, "consecutive_success_limit": 4}
NO_LIMIT = {"failure_limit": -1}
THREE = {"failed": 3, "successful": 4, "consecutive_success": 3, "count": 7}


@pytest.mark.parametrize(
    ("limits", "counts", "running", "terminating"),
    [
        # TestAssessMetricStatusFailureLimit
        ({"failure_limit": 2}, {"failed": 3, "count": 3}, F, F),
        ({"failure_limit": 3}, {"failed": 3, "count": 3}, R, S),
        # TestAssessMetricStatusConsecutiveSuccessLimit
        ({**NO_LIMIT, "consecutive_success_limit": 3}, THREE, S, S),
        ({**NO_LIMIT, "consecutive_success_limit": 5}, THREE, R, S),
        ({**NO_LIMIT, "consecutive_success_limit": 5, "count": 7}, THREE, F, F),
        ({**NO_LIMIT, "consecutive_success_limit": 3, "count": 7}, THREE, S, S),
        ({**NO_LIMIT, "consecutive_success_limit": 3, "count": 9}, THREE, S, S),
        ({**NO_LIMIT, "consecutive_success_limit": 5, "count": 9}, THREE, R, S),
        # TestAssessMetricStatusFailureLimitAndConsecutiveSuccessLimit
        (ROWS, THREE, R, S),
        (ROWS, {"failed": 5, "successful": 9, "count": 9, "consecutive_success": 0}, F, F),
        (ROWS, {"failed": 3, "successful": 5, "count": 8, "consecutive_success": 4}, S, S),
        (ROWS, {"failed": 5, "successful": 5, "count": 10, "consecutive_success": 4}, F, F),
        ({**ROWS, "count": 10}, {"failed": 4, "successful": 6, "count": 10, "consecutive_success": 3}, N, N),
        ({**ROWS, "count": 10}, {"failed": 5, "successful": 5, "count": 10, "consecutive_success": 3}, F, F),
        ({**ROWS, "count": 10}, {"failed": 4, "successful": 6, "count": 10, "consecutive_success": 4}, S, S),
        ({**ROWS, "count": 10}, {"failed": 5, "successful": 5, "count": 10, "consecutive_success": 4}, F, F),
        ({**ROWS, "count": 10}, {"failed": 3, "successful": 5, "count": 8, "consecutive_success": 3}, R, S),
        ({**ROWS, "count": 10}, {"failed": 5, "successful": 3, "count": 8, "consecutive_success": 3}, F, F),
        ({**ROWS, "count": 10}, {"failed": 3, "successful": 5, "count": 8, "consecutive_success": 4}, S, S),
        ({**ROWS, "count": 10}, {"failed": 5, "successful": 4, "count": 9, "consecutive_success": 4}, F, F),
        # TestAssessMetricStatusInconclusiveLimit
        ({"inconclusive_limit": 2}, {"inconclusive": 3, "count": 3}, N, N),
        ({"inconclusive_limit": 3}, {"inconclusive": 3, "count": 3}, R, S),
        # TestAssessMetricStatusConsecutiveErrors
        ({}, {"consecutive_error": 5, "count": 5}, E, E),
        ({}, {"consecutive_error": 4, "count": 5}, R, S),
        # TestAssessMetricStatusCountReached
        ({"count": 10}, {"successful": 10, "count": 10}, S, S),
        ({"count": 10}, {"successful": 5, "inconclusive": 5, "count": 10}, N, N),
    ],
)
def test_assess_metric_status(limits: dict[str, Any], counts: dict[str, Any], running: str, terminating: str) -> None:
    metric = Metric("success-rate", interval=60.0, **limits)
    assert metric_phase(metric, result(**counts), terminating=False) == running
    assert metric_phase(metric, result(**counts), terminating=True) == terminating


@pytest.mark.parametrize(
    ("counts", "phase", "message"),
    [
        ({"failed": 1}, F, "failed (1) > failureLimit (0)"),
        ({"inconclusive": 1}, N, "inconclusive (1) > inconclusiveLimit (0)"),
        ({"consecutive_error": 5}, E, "consecutiveErrors (5) > consecutiveErrorLimit (4)"),
    ],
)
def test_assess_metric_failure_inconclusive_or_error(counts: dict[str, Any], phase: str, message: str) -> None:
    assert violation(Metric("m"), result(**counts)) == (phase, message)
    assert metric_phase(Metric("m"), result(**counts), terminating=True) == phase


def measured(metric: Metric, phase: str, at: float) -> Run:
    run = Run([metric])
    run.step(at, lambda _metric: Measurement(phase, at))
    return run


def test_generate_metric_tasks() -> None:
    """TestGenerateMetricTasks{Interval,NoIntervalOrCount,Error}, TestCalculateNextReconcile{TimeInterval,UponError}."""
    run = measured(Metric("m", interval=60.0), S, 0.0)
    assert (run.next_at(0.0), run.due(50.0), len(run.due(61.0))) == (60.0, [], 1)
    assert Run([Metric("m")]).due(0.0)
    assert not measured(Metric("m"), S, 0.0).due(100.0)
    run = measured(Metric("m"), E, 0.0)
    assert (run.next_at(0.0), run.due(9.0), len(run.due(11.0))) == (10.0, [], 1)
    run = measured(Metric("m", interval=61.0), E, 0.0)
    assert run.next_at(0.0) == 10.0


def test_initial_delay() -> None:
    """TestGenerateMetricTasksHonorInitialDelay, TestCalculateNextReconcileTimeInitialDelay."""
    run = Run([Metric("now", interval=10.0), Metric("later", initial_delay=40.0)])
    run.step(0.0, lambda _metric: Measurement(S, 0.0))
    assert run.next_at(0.0) == 10.0
    assert [metric.name for metric in run.due(39.0)] == ["now"]
    assert [metric.name for metric in run.due(40.0)] == ["now", "later"]


def test_the_earliest_metric_is_next() -> None:
    """TestCalculateNextReconcileEarliestMetric."""
    run = Run([Metric("m", interval=60.0), Metric("n", interval=20.0)])
    run.step(0.0, lambda _metric: Measurement(S, 0.0))
    assert run.next_at(0.0) == 20.0


def test_siblings_end_after_a_failure() -> None:
    """TestReconcileAnalysisRunTerminateSiblingAfterFail."""
    run = Run([Metric("forever", interval=60.0), Metric("failed")])
    run.step(0.0, lambda metric: Measurement(F if metric.name == "failed" else S, 0.0))
    assert {name: each.phase for name, each in run.results.items()} == {"forever": S, "failed": F}
    assert (run.phase, run.message) == (F, 'Metric "failed" assessed Failed due to failed (1) > failureLimit (0)')


def test_a_good_measurement_ends_a_row_of_errors() -> None:
    """TestRunMeasurementsResetConsecutiveErrorCounter."""
    one = result(consecutive_error=4, error=4)
    one.add(Measurement(S, 0.0))
    assert (one.consecutive_error, one.error, one.successful) == (0, 4, 1)


def test_the_message_of_a_provider_is_in_the_runs() -> None:
    """TestAssessRunStatusErrorMessageFromProvider, and InDryRunMode."""
    run = Run([Metric("failed-metric")])
    run.step(0.0, lambda _metric: Measurement(F, 0.0, message="Provider Error"))
    assert run.message == (
        'Metric "failed-metric" assessed Failed due to failed (1) > failureLimit (0): "Error Message: Provider Error"'
    )
    run = Run([Metric("failed-metric")], ("failed-metric",))
    run.step(0.0, lambda _metric: Measurement(F, 0.0, message="Provider Error"))
    assert (run.phase, run.message) == (S, "")
    assert run.results["failed-metric"].message == "Metric assessed Failed due to failed (1) > failureLimit (0)"


def test_mixed_metrics() -> None:
    """TestAssessRunStatusWithMixedMetrics: the dry run fails, the other one decides."""
    run = Run([Metric("success-rate"), Metric("dry")], ("dry",))
    run.step(0.0, lambda metric: Measurement(F if metric.name == "dry" else S, 0.0))
    assert (run.phase, run.message) == (S, "")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        # TestValidateMetrics
        ({"count": 1, "failureLimit": 2}, r"count \(1\) must be >= failureLimit \+ consecutiveSuccessLimit \(2 \+ 0\)"),
        ({"count": 1, "inconclusiveLimit": 2}, "count .* must be >= inconclusiveLimit"),
        ({"count": 2, "interval": "60s-typo"}, "interval: .*s-typo"),
        ({"count": 2, "interval": "60s", "initialDelay": "60s-typo"}, "initialDelay: .*s-typo"),
        ({"count": 2}, "interval must be specified when count > 1"),
        ({"failureLimit": -2}, "failureLimit must be >= 0, or -1 to be disabled"),
        ({"inconclusiveLimit": -1}, "inconclusiveLimit must be >= 0"),
        ({"consecutiveErrorLimit": -1}, "consecutiveErrorLimit must be >= 0"),
        ({"consecutiveSuccessLimit": -1}, "consecutiveSuccessLimit must be >= 0"),
        ({"consecutiveSuccessLimit": 0, "failureLimit": -1}, "cannot both be disabled"),
    ],
)
def test_validate_metrics(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        read_metrics([{"name": "success-rate", "provider": PROMETHEUS, **fields}])


def test_count_zero_is_no_count() -> None:
    for limit in ("failureLimit", "inconclusiveLimit"):
        assert read_metric({"name": "m", "count": 0, limit: 2}).count == 0
    assert read_metric({"name": "m", "count": 2, "interval": "60s", "failureLimit": 2}).interval == 60


def test_providers_and_names() -> None:
    with pytest.raises(TemplateError, match="no metrics specified"):
        read_metrics([])
    with pytest.raises(TemplateError, match="duplicate name 'success-rate'"):
        read_metrics([{"name": "success-rate"}] * 2)
    with pytest.raises(TemplateError, match="no provider specified"):
        read_spec({"metrics": [{"name": "m", "count": 1}]}, {})
    with pytest.raises(TemplateError, match="multiple providers specified"):
        read_spec({"metrics": [{"name": "m", "provider": {**PROMETHEUS, "job": {}, "kayenta": {}}}]}, {})


def test_resolve_metric_args() -> None:
    """TestResolveMetricArgs, TestResolveMetricArgsWithQuotes."""
    args = {"metric-name": "success-rate", "rate": 'foo "bar" baz'}
    metrics = [
        {"name": "m", "successCondition": "result > {{args.metric-name}}"},
        {"name": "n", "successCondition": "{{args.rate}}"},
    ]
    assert [each.success_condition for each in read_metrics(metrics, args)] == ["result > success-rate", args["rate"]]


def spec(*metrics: str, args: Any = None, **rules: Any) -> dict[str, Any]:
    return {"metrics": [{"name": name} for name in metrics], "args": args, **rules}


def rules(name: str) -> dict[str, Any]:
    return {"dryRun": [{"metricName": name}], "measurementRetention": [{"metricName": name}]}


def test_flatten_templates() -> None:
    """TestFlattenTemplates."""
    assert flatten([]) == {"metrics": [], "args": [], "dryRun": [], "measurementRetention": []}
    merged = flatten([spec("foo", **rules("foo")), spec("bar", **rules("bar"))])
    assert [metric["name"] for metric in merged["metrics"]] == ["foo", "bar"]
    assert dry_run_patterns(merged) == ["foo", "bar"]
    foo, bare, bar = {"name": "foo", "value": "true"}, {"name": "foo"}, {"name": "bar", "value": "true"}
    assert flatten([spec(args=[foo]), spec(args=[bar])])["args"] == [foo, bar]
    for args in ([foo], [bare]), ([bare], [foo]), ([foo], [foo]):
        assert flatten([spec(args=one) for one in args])["args"] == [foo]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([spec("foo"), spec("foo")], "two metrics have the same name 'foo'"),
        ([spec("foo", dryRun=rules("foo")["dryRun"]), spec("bar", dryRun=rules("foo")["dryRun"])], "two dryRun rules"),
        ([spec("a", **rules("x")), spec("b", **{**rules("x"), "dryRun": []})], "two measurementRetention rules"),
        (
            [spec(args=[{"name": "foo", "value": "true"}]), spec(args=[{"name": "foo", "value": "false"}])],
            "args.foo is given several times with different values: 'true', 'false'",
        ),
    ],
)
def test_templates_that_do_not_fit_together(specs: list[Any], message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        flatten(specs)


def test_merge_args() -> None:
    """TestMergeArgs; an argument that the template does not have is a slip of the hand, and refused here."""
    assert merge_args([], {}) == {}
    assert merge_args([{"name": "foo", "value": "bar"}], {}) == {"foo": "bar"}
    assert merge_args([{"name": "foo", "value": "bar"}], {"foo": "overwrite"}) == {"foo": "overwrite"}
    with pytest.raises(TemplateError, match=r"args\.foo was not resolved"):
        merge_args([{"name": "foo"}], {"foo": None})


def test_dry_run_metrics() -> None:
    """TestGetDryRunMetrics."""
    metrics = [Metric("success-rate"), Metric("latency-p95")]
    assert dry_run_names([], metrics) == set()
    assert dry_run_names([".*"], metrics) == {"success-rate", "latency-p95"}
    assert dry_run_names(["latency.*", "rate$"], metrics) == {"success-rate", "latency-p95"}
    with pytest.raises(TemplateError, match=r"dryRun\[0\]: 'error-rate' matches no metric"):
        dry_run_names(["error-rate"], metrics)
    with pytest.raises(TemplateError, match=r"matches no metric"):
        dry_run_names([".*", "*"], metrics)
    with pytest.raises(TemplateError, match="two dryRun rules have the same name 'a'"):
        dry_run_patterns({"dryRun": [{"metricName": "a"}]}, ["a"])


def test_references() -> None:
    templates = [{"templateName": "a"}, {"templateName": "b", "clusterScope": True}]
    assert references({"templates": templates}) == [("a", False), ("b", True)]
    assert references({}) == references(None) == []
    with pytest.raises(TemplateError, match=r"spec.templates\[0\] must be a mapping with templateName"):
        references({"templates": ["a"]})
