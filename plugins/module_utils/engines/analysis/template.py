# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From an AnalysisTemplate's spec and arguments to metrics that can be measured.

Copies utils/template, utils/analysis/factory.go and helpers.go of Argo Rollouts 1.8: arguments are
substituted in every string of a metric, then the metrics are validated. Where Argo would start a run
that errs at once, this raises TemplateError before anything is measured.
"""

from __future__ import annotations

import dataclasses
import re
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from . import shapes
from .expression import ExpressionError, lint
from .metric import Metric, TemplateError, read_metric

RE2_IMPORT_ERROR: str | None = None
try:
    import re2
except ImportError:
    RE2_IMPORT_ERROR = traceback.format_exc()

__all__ = [
    "RE2_IMPORT_ERROR",
    "TemplateError",
    "dry_run_names",
    "dry_run_patterns",
    "merge_args",
    "read_metrics",
    "read_spec",
    "substitute",
]

_TAG = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PROVIDERS = (
    "prometheus",
    "job",
    "web",
    "wavefront",
    "kayenta",
    "datadog",
    "newRelic",
    "cloudWatch",
    "graphite",
    "influxdb",
    "skywalking",
)


def merge_args(
    declared: Sequence[Mapping[str, Any]],
    supplied: Mapping[str, Any],
    hashes: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The value of every argument a template declares.

    ``declared`` is the template's ``spec.args``; ``supplied`` maps a name to a value, or to
    ``{valueFrom: {podTemplateHashValue: Latest | Stable}}``, and goes first. ``hashes`` holds those two
    pod template hashes. Raises TemplateError for one that is left open, or is not the template's.
    """
    names = [arg["name"] for arg in shapes.named(declared, "spec.args", "name")]
    for name in supplied:
        if name not in names:
            raise TemplateError(f"args.{name}: the template has no such argument (it has {', '.join(names) or 'none'})")
    values = {}
    for name, arg in zip(names, declared):
        given = supplied.get(name)
        if given is None:
            source: Mapping[str, Any] = arg
        else:
            source = given if isinstance(given, Mapping) else {"value": given}
        values[name] = _arg_value(name, source, hashes or {})
    return values


def _arg_value(name: str, source: Mapping[str, Any], hashes: Mapping[str, str]) -> str:
    value = source.get("value")
    if value is not None:
        if isinstance(value, bool):
            return "true" if value else "false"
        if not isinstance(value, (str, int, float)):
            raise TemplateError(f"args.{name} must be a string or a number, not {value!r}")
        return str(value)
    value_from = shapes.mapping(source.get("valueFrom"), f"args.{name}.valueFrom")
    which = value_from.get("podTemplateHashValue")
    if which is None:
        kind = next(iter(value_from), None)
        hint = f"valueFrom.{kind} is not read here; give its value in args" if kind else "give it a value in args"
        raise TemplateError(f"args.{name} was not resolved: {hint}")
    if which not in ("Latest", "Stable"):
        raise TemplateError(f"args.{name}: podTemplateHashValue is Latest or Stable, not {which!r}")
    if not hashes.get(which):
        raise TemplateError(f"args.{name} was not resolved: no Rollout gives the {which} pod template hash")
    return hashes[which]


def substitute(value: Any, args: Mapping[str, str]) -> Any:
    """``value`` with ``{{args.name}}`` replaced in every string of it. Raises TemplateError."""
    if isinstance(value, str):
        text = _TAG.sub(lambda tag: _resolved(tag[1], args), value)
        if "{{" in _TAG.sub("", value):
            raise TemplateError(f"cannot find the end of a {{{{tag}}}} in {value!r}")
        return text
    if isinstance(value, Mapping):
        return {key: substitute(item, args) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, args) for item in value]
    return value


def _resolved(tag: str, args: Mapping[str, str]) -> str:
    kind, _dot, name = tag.strip().partition(".")
    if kind != "args" or name not in args:
        raise TemplateError(f"failed to resolve {{{{{tag}}}}}")
    return args[name]


def read_metrics(metrics: Sequence[Mapping[str, Any]], args: Mapping[str, str] | None = None) -> list[Metric]:
    """Metrics with their limits, validated as Argo does, providers and conditions left aside."""
    entries = shapes.sequence(metrics, "metrics")
    if not entries:
        raise TemplateError("no metrics specified")
    result: list[Metric] = []
    for place, data in enumerate(substitute(entries, args or {})):
        try:
            metric = read_metric(data)
        except TemplateError as problem:
            raise TemplateError(f"metrics[{place}]: {problem}") from problem
        if any(metric.name == other.name for other in result):
            raise TemplateError(f"metrics[{place}]: duplicate name {metric.name!r}")
        result.append(metric)
    return result


def read_spec(spec: Mapping[str, Any], args: Mapping[str, str], endless: bool = False) -> list[Metric]:
    """Metrics ready to be measured by Prometheus, from a template's ``spec``; conditions are linted.

    More is refused here than Argo does when it reads a template: a condition that can only be an
    error, a provider that is not Prometheus, and unless ``endless`` a metric that never ends.
    """
    data = shapes.sequence(spec.get("metrics"), "spec.metrics")
    metrics = read_metrics(data, args)
    return [
        _measurable(metric, substitute(source, args), f"spec.metrics[{place}]", endless)
        for place, (metric, source) in enumerate(zip(metrics, data))
    ]


def _measurable(metric: Metric, data: Mapping[str, Any], path: str, endless: bool) -> Metric:
    where = f"metric {metric.name!r}"
    for field, condition in (
        ("successCondition", metric.success_condition),
        ("failureCondition", metric.failure_condition),
    ):
        if condition:
            try:
                lint(condition)
            except ExpressionError as problem:
                raise TemplateError(f"{where}: {field} {condition!r}: {problem}") from problem
    if metric.effective_count is None and not endless:
        raise TemplateError(f"{where} runs indefinitely: give it a count")
    provider = shapes.mapping(data.get("provider"), f"{path}.provider")
    return dataclasses.replace(metric, query=_query(where, provider, f"{path}.provider"))


def _query(where: str, provider: Mapping[str, Any], path: str) -> str:
    given = [name for name in _PROVIDERS if provider.get(name) is not None]
    given.extend(f"plugin {name}" for name in shapes.mapping(provider.get("plugin"), f"{path}.plugin"))
    if len(given) != 1:
        raise TemplateError(f"{where}: {'multiple providers' if given else 'no provider'} specified")
    if given[0] != "prometheus":
        raise TemplateError(f"{where}: provider {given[0]} is not supported, only prometheus is")
    prometheus = shapes.mapping(provider["prometheus"], f"{path}.prometheus", " with query")
    if prometheus.get("rangeQuery"):
        raise TemplateError(f"{where}: rangeQuery is not supported, only instant queries are")
    query = prometheus.get("query")
    if not isinstance(query, str) or not query.strip():
        raise TemplateError(f"{where}: provider.prometheus.query is empty")
    return query


def dry_run_patterns(spec: Mapping[str, Any]) -> list[str]:
    """The regular expressions of a template's ``spec.dryRun``."""
    return [rule["metricName"] for rule in shapes.named(spec.get("dryRun"), "spec.dryRun", "metricName")]


def dry_run_names(patterns: Sequence[str], metrics: Sequence[Metric]) -> set[str]:
    """The metrics that entries of dryRun cover: unanchored Go regular expressions over their names."""
    names: set[str] = set()
    for place, pattern in enumerate(shapes.sequence(patterns, "dryRun")):
        shapes.text(pattern, f"dryRun[{place}]")
        matching = [metric.name for metric in metrics if _matches(pattern, metric.name)]
        if not matching:
            raise TemplateError(f"dryRun[{place}]: {pattern!r} matches no metric")
        names.update(matching)
    return names


def _matches(pattern: str, name: str) -> bool:
    if RE2_IMPORT_ERROR:
        raise TemplateError("dryRun needs the Python library google-re2")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.search(pattern, name, options) is not None
    except re2.error:
        # Argo takes an expression that does not compile for one that matches nothing.
        return False
