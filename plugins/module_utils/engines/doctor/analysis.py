# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Analyses: what was measured, and what that says of the version, the traffic or the way to Prometheus."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from ..canary.objects import Measurement, RunView, read_rollout
from .facts import ERROR, WARNING, Facts, Finding, Object, how
from .rollout import PROMOTE, runs_of, title

_NO_NUMBER = re.compile(r"\s*\[?\s*(NaN)?\s*\]?\s*")
"""``[NaN]``, ``[]``: nothing was there to measure."""
_NO_ITEM = "index out of range"
_AWAY = ("connection refused", "i/o timeout", "deadline exceeded", "no such host", "no route to host", "EOF")


def check_analysis(facts: Facts) -> Iterator[Finding]:
    """The analysis that stopped the version in the spec. Those of versions that came through, or are gone, are past."""
    if facts.rollout is None:
        return
    view = read_rollout(facts.rollout)
    if not view.observed or view.hash == view.stable or not (view.aborted or "InconclusiveAnalysisRun" in view.pauses):
        return
    bad = [
        run for run in runs_of(facts, view) if run.phase in ("Failed", "Error", "Inconclusive") and not run.terminated
    ]
    bad = [run for run in bad if run.revision == view.revision] or bad
    if bad:
        yield _finding(facts, bad[-1])


def _finding(facts: Facts, run: RunView) -> Finding:
    bad = [each for each in run.measurements if each.phase != "Successful" and not each.dry_run]
    metrics = list(dict.fromkeys(each.metric for each in bad))
    evidence = [f"AnalysisRun {run.name}: {run.message}", *(_numbers(run, metric) for metric in metrics)]
    evidence += _now(facts, run.name, metrics)
    nothing = bool(bad) and all(_is_nothing(each) for each in bad)
    if run.phase == "Error" and not nothing:
        return _error(facts, run, bad, evidence)
    if nothing:
        return Finding(
            "analysis-no-traffic",
            ERROR,
            "The analysis failed because there was nothing to measure",
            title(facts),
            "Every measurement that failed is NaN or empty: no requests came in the query's window, or none of the "
            "pods that it asks for, or its labels match nothing. It says nothing about the version.",
            evidence,
            [
                f"Let traffic reach the app, some requests for each window of the query, and release {_version(facts)} "
                "again.",
                "See that Prometheus scrapes the pods: its page Targets, and the metric alone without the division.",
                "len(result) == 0 in a condition does not catch 0/0: isNaN(result[0]) does.",
            ],
        )
    if run.phase == "Inconclusive":
        return Finding(
            "analysis-inconclusive",
            WARNING,
            "The analysis came to no verdict, and the canary waits",
            title(facts),
            "Neither condition of the metric was true often enough, so that Argo Rollouts pauses and asks somebody.",
            evidence,
            [
                how("Promote it:", PROMOTE),
                "Or take it back: revert its commit in Git.",
            ],
        )
    return Finding(
        "analysis-failed",
        ERROR,
        "The analysis found the version bad",
        title(facts),
        f"{_version(facts)} does not keep the condition {_condition(facts, run.name, metrics)}.",
        evidence,
        [
            how(
                "Find out why in its log:",
                f"kubectl logs -n {facts.namespace} -l app={facts.app} --prefix --since=1h",
            ),
            "Release a corrected version. The same one again measures the same.",
            "If stable is bad as well, look at the query: without the canary's pod hash it measures all pods together.",
        ],
    )


def _is_nothing(each: Measurement) -> bool:
    """NaN, or an empty answer, of which ``result[0]`` is an Error."""
    if each.phase == "Error":
        return _NO_ITEM in each.message
    return bool(_NO_NUMBER.fullmatch(each.value or ""))


def _error(facts: Facts, run: RunView, bad: list[Measurement], evidence: list[str]) -> Finding:
    said = next((each.message for each in reversed(bad) if each.message), run.message)
    evidence = [*evidence, *([f"it was told: {said}"] if said and said not in run.message else [])]
    if any(sign in said for sign in _AWAY):
        cause = "The Rollouts controller did not reach Prometheus when it measured."
        if "no such host" in said:
            cause += " There is no host of that name: the template's address is wrong, or the cluster's DNS is away."
        elif facts.queries:
            cause += (
                " Prometheus answers now, asked through the API server: it was away, or a NetworkPolicy is between."
            )
        elif facts.queries_failed:
            cause += f" It does not answer now either: {facts.queries_failed}"
        return Finding(
            "analysis-unreachable",
            ERROR,
            "The analysis could not ask Prometheus",
            title(facts),
            cause,
            evidence,
            [
                how("See that Prometheus runs:", "kubectl get pods -n monitoring"),
                "See that NetworkPolicies let argo-rollouts reach monitoring:9090: egress there, ingress here.",
                f"Then release {_version(facts)} again: it was not measured.",
            ],
        )
    return Finding(
        "analysis-error",
        ERROR,
        "The analysis itself is wrong",
        title(facts),
        "What came back could not be judged: the query, or the condition over its result, does not fit.",
        evidence,
        [
            "Correct the AnalysisTemplate in Git; lumen.airgap.analysis runs one from a file, without a release.",
        ],
    )


def _version(facts: Facts) -> str:
    return facts.container_image.rpartition("/")[2] or "the version"


def _numbers(run: RunView, metric: str) -> str:
    found = [each for each in run.measurements if each.metric == metric and not each.dry_run]
    values = [(value, len(list(same))) for value, same in groupby(f"{_value(each)} ({each.phase})" for each in found)]
    return f"{metric} measured " + ", ".join(
        f"{value} {times} times" if times > 1 else value for value, times in values
    )


def _value(each: Measurement) -> str:
    return re.sub(r"\d+\.\d+", lambda match: f"{float(match[0]):.3g}", each.value) if each.value else "nothing"


def _metrics(facts: Facts, name: str) -> list[Object]:
    for each in facts.runs:
        if each["metadata"]["name"] == name:
            return list((each.get("spec") or {}).get("metrics") or ())
    return []


def queries_of(run: Object) -> dict[str, str]:
    """Metric → query of an AnalysisRun, with its arguments in place."""
    results = (run.get("status") or {}).get("metricResults") or ()
    resolved = {each["name"]: (each.get("metadata") or {}).get("ResolvedPrometheusQuery", "") for each in results}
    for metric in (run.get("spec") or {}).get("metrics") or ():
        query = ((metric.get("provider") or {}).get("prometheus") or {}).get("query", "")
        if query and not resolved.get(metric["name"]) and "{{" not in query:
            resolved[metric["name"]] = query
    return {name: query for name, query in resolved.items() if query}


def _now(facts: Facts, name: str, metrics: list[str]) -> list[str]:
    run = next((each for each in facts.runs if each["metadata"]["name"] == name), {})
    queries = queries_of(run)
    return [
        f"{metric} is {facts.queries[queries[metric]]} now"
        for metric in metrics
        if queries.get(metric) in facts.queries
    ]


def _condition(facts: Facts, name: str, metrics: list[str]) -> str:
    for metric in _metrics(facts, name):
        if metric["name"] in metrics:
            success, failure = metric.get("successCondition"), metric.get("failureCondition")
            return f"'{success}'" if success else f"not '{failure}'"
    return "of its analysis"
