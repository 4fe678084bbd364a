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
import json
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

from . import shapes
from .expression import ExpressionError, lint
from .golang import quote
from .lexer import NUMBER, OPERATOR, tokenize
from .metric import Metric, TemplateError, read_metric
from .window import read_range

RE2_IMPORT_ERROR: str | None = None
try:
    import re2
except ImportError:
    RE2_IMPORT_ERROR = traceback.format_exc()

__all__ = [
    "RE2_IMPORT_ERROR",
    "TemplateError",
    "check_retention",
    "dry_run_names",
    "dry_run_patterns",
    "flatten",
    "merge_args",
    "read_metrics",
    "read_spec",
    "references",
    "substitute",
]

_TAG = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_ZERO = re.compile(r"0(?:[xob][0_]*|[0_]*\.?[0_]*(?:[eE].*)?)|\.0[0_]*(?:[eE].*)?", re.IGNORECASE)
_WHOLE = re.compile(r"[-+]?[0-9]+")
_LIMITS = ("count", "failureLimit", "inconclusiveLimit", "consecutiveErrorLimit", "consecutiveSuccessLimit")
PROVIDERS = (
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


def flatten(specs: Sequence[Any]) -> dict[str, Any]:
    """One ``spec`` of those of several templates, which Argo merges before it looks at any (FlattenTemplates).

    ``specs`` are in Argo's order: AnalysisTemplates, then ClusterAnalysisTemplates. Raises TemplateError for what two
    of them say differently.
    """
    metrics: list[Any] = []
    args: list[Mapping[str, Any]] = []
    rules: dict[str, list[Mapping[str, Any]]] = {"dryRun": [], "measurementRetention": []}
    for spec in specs:
        data = shapes.mapping(spec, "spec")
        metrics += shapes.sequence(data.get("metrics"), "spec.metrics")
        for kind, entries in rules.items():
            entries += shapes.named(data.get(kind), f"spec.{kind}", "metricName")
        for arg in shapes.named(data.get("args"), "spec.args", "name"):
            _add_arg(args, arg)
    _refuse_twice("metrics", [metric.get("name") for metric in metrics if isinstance(metric, Mapping)])
    for kind, entries in rules.items():
        _refuse_twice(f"{kind} rules", [rule["metricName"] for rule in entries])
    return {"metrics": metrics, "args": args, **rules}


def _refuse_twice(what: str, names: Sequence[Any]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise TemplateError(f"two {what} have the same name {name!r}")


def _add_arg(args: list[Mapping[str, Any]], arg: Mapping[str, Any]) -> None:
    """The first that gives a value decides; another value is a contradiction."""
    for place, other in enumerate(args):
        if other["name"] != arg["name"]:
            continue
        mine, its = arg.get("value"), other.get("value")
        if mine is not None and its is not None and mine != its:
            raise TemplateError(f"args.{arg['name']} is given several times with different values: {its!r}, {mine!r}")
        if its is None:
            args[place] = arg
        return
    args.append(arg)


def references(spec: Any, path: str = "spec.templates") -> list[tuple[str, bool]]:
    """The templates that a template refers to: names, and whether each is a ClusterAnalysisTemplate."""
    entries = shapes.named(shapes.mapping(spec, "spec").get("templates"), path, "templateName")
    return [(entry["templateName"], bool(entry.get("clusterScope"))) for entry in entries]


def merge_args(
    declared: Sequence[Mapping[str, Any]],
    supplied: Mapping[str, Any],
    hashes: Mapping[str, str] | None = None,
    field: Callable[[str], str] | None = None,
    secret: Callable[[str, str], str] | None = None,
) -> dict[str, str]:
    """The value of every argument a template declares.

    ``declared`` is the template's ``spec.args``; ``supplied`` maps a name to a value, or to ``{valueFrom: ...}``, and
    goes first. What ``valueFrom`` names is taken from ``hashes`` (podTemplateHashValue: Latest and Stable), ``field``
    (fieldRef: path → text) and ``secret`` (secretKeyRef: name, key → text), which are only asked for what is needed.
    Raises TemplateError for one that is left open, or is not the template's.
    """
    names = [arg["name"] for arg in shapes.named(declared, "spec.args", "name")]
    for name in supplied:
        if name not in names:
            raise TemplateError(f"args.{name}: the template has no such argument (it has {', '.join(names) or 'none'})")
    sources = _Sources(hashes or {}, field, secret)
    values = {}
    for name, arg in zip(names, declared):
        given = supplied.get(name)
        if given is None:
            source: Mapping[str, Any] = arg
        else:
            source = given if isinstance(given, Mapping) else {"value": given}
        values[name] = sources.value(name, source)
    return values


@dataclass(frozen=True)
class _Sources:
    """Where the values of arguments come from; see merge_args."""

    hashes: Mapping[str, str]
    field: Callable[[str], str] | None
    secret: Callable[[str, str], str] | None

    def value(self, name: str, source: Mapping[str, Any]) -> str:
        value_from = shapes.mapping(source.get("valueFrom"), f"args.{name}.valueFrom")
        value = source.get("value")
        # A Secret goes before a value that stands beside it.
        if value is not None and value_from.get("secretKeyRef") is None:
            return _arg_text(name, value)
        readers = {"podTemplateHashValue": self._hash, "fieldRef": self._field, "secretKeyRef": self._secret}
        for kind, read in readers.items():
            if value_from.get(kind) is not None:
                return read(name, value_from[kind])
        kinds = ", ".join(map(str, value_from))
        hint = f"valueFrom.{kinds} is not known" if kinds else "give it a value in args"
        raise TemplateError(f"args.{name} was not resolved: {hint}")

    def _hash(self, name: str, which: Any) -> str:
        if which not in ("Latest", "Stable"):
            raise TemplateError(f"args.{name}: podTemplateHashValue is Latest or Stable, not {which!r}")
        if not self.hashes.get(which):
            raise TemplateError(f"args.{name} was not resolved: no Rollout gives the {which} pod template hash")
        return self.hashes[which]

    def _field(self, name: str, reference: Any) -> str:
        where = f"args.{name}.valueFrom.fieldRef"
        path = shapes.text(shapes.mapping(reference, where).get("fieldPath"), f"{where}.fieldPath")
        if self.field is None:
            raise TemplateError(f"args.{name} was not resolved: no Rollout or Deployment gives the field {path}")
        try:
            return self.field(path)
        except TemplateError as problem:
            raise TemplateError(f"args.{name}: {problem}") from problem

    def _secret(self, name: str, reference: Any) -> str:
        where = f"args.{name}.valueFrom.secretKeyRef"
        data = shapes.mapping(reference, where)
        secret, key = (shapes.text(data.get(part), f"{where}.{part}") for part in ("name", "key"))
        if self.secret is None:
            raise TemplateError(f"args.{name} was not resolved: no cluster gives the Secret {secret}")
        try:
            return self.secret(secret, key)
        except TemplateError as problem:
            raise TemplateError(f"args.{name}: {problem}") from problem


def _arg_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)):
        raise TemplateError(f"args.{name} must be a string or a number, not {value!r}")
    return str(value)


def substitute(value: Any, args: Mapping[str, str]) -> Any:
    """``value`` with ``{{args.name}}`` replaced in every string of it. Raises TemplateError.

    Argo replaces in the JSON of a metric, so that a value may hold what JSON can (ResolveQuotedArgs).
    """
    text = json.dumps(value, ensure_ascii=False, check_circular=False, default=str)
    replaced = _TAG.sub(lambda tag: _resolved(tag[1], args), text)
    if "{{" in _TAG.sub("", text):
        raise TemplateError(f"cannot find the end of a {{{{tag}}}} in {_TAG.sub('', text).partition('{{')[2][:60]!r}")
    try:
        return json.loads(replaced)
    except ValueError as problem:
        raise TemplateError("the value of an argument has characters that a template cannot hold") from problem


def _resolved(tag: str, args: Mapping[str, str]) -> str:
    kind, _dot, name = tag.strip().partition(".")
    if kind != "args" or name not in args:
        raise TemplateError(f"failed to resolve {{{{{tag}}}}}")
    return quote(args[name])[1:-1]


def read_metrics(metrics: Sequence[Mapping[str, Any]], args: Mapping[str, str] | None = None) -> list[Metric]:
    """Metrics with their limits, validated as Argo does, providers and conditions left aside."""
    return [metric for metric, _data in _read(metrics, args or {})]


def _read(metrics: Sequence[Any], args: Mapping[str, str]) -> list[tuple[Metric, Mapping[str, Any]]]:
    """Each metric with its data, arguments in place."""
    entries = [substitute(data, args) for data in shapes.sequence(metrics, "metrics")]
    if not entries:
        raise TemplateError("no metrics specified")
    result: list[tuple[Metric, Mapping[str, Any]]] = []
    for place, data in enumerate(entries):
        try:
            metric = read_metric(data)
        except TemplateError as problem:
            raise TemplateError(f"metrics[{place}]: {problem}") from problem
        if any(metric.name == other.name for other, _data in result):
            raise TemplateError(f"metrics[{place}]: duplicate name {metric.name!r}")
        result.append((metric, data))
    return result


def read_spec(spec: Mapping[str, Any], args: Mapping[str, str], endless: bool = False) -> list[Metric]:
    """Metrics ready to be measured by Prometheus, from a template's ``spec``; conditions are linted.

    More is refused here than Argo does when it reads a template: a condition that can only be an error or divides by
    zero, a limit that is no number, a time that runs backwards, a provider that is not Prometheus, and unless
    ``endless`` a metric that never ends.
    """
    data = shapes.sequence(spec.get("metrics"), "spec.metrics")
    return [
        _measurable(metric, source, f"spec.metrics[{place}]", endless)
        for place, (metric, source) in enumerate(_read(data, args))
    ]


def _measurable(metric: Metric, data: Mapping[str, Any], path: str, endless: bool) -> Metric:
    where = f"metric {metric.name!r}"
    _refuse_conditions(metric, where)
    _refuse_limits(metric, data, where)
    if metric.effective_count is None and not endless:
        raise TemplateError(f"{where} runs indefinitely: give it a count")
    provider = shapes.mapping(data.get("provider"), f"{path}.provider")
    prometheus = _prometheus(where, provider, f"{path}.provider")
    query = prometheus.get("query")
    if not isinstance(query, str) or not query.strip():
        raise TemplateError(f"{where}: provider.prometheus.query is empty")
    if prometheus.get("rangeQuery") is None:
        return dataclasses.replace(metric, query=query)
    return dataclasses.replace(
        metric, query=query, range=read_range(prometheus["rangeQuery"], f"{where}: provider.prometheus.rangeQuery")
    )


def _refuse_conditions(metric: Metric, where: str) -> None:
    for field, condition in (
        ("successCondition", metric.success_condition),
        ("failureCondition", metric.failure_condition),
    ):
        if not condition:
            continue
        try:
            lint(condition)
        except ExpressionError as problem:
            raise TemplateError(f"{where}: {field} {condition!r}: {problem}") from problem
        if _divides_by_zero(condition):
            raise TemplateError(f"{where}: {field} {condition!r}: division by zero, which gives +Inf or NaN")


def _divides_by_zero(condition: str) -> bool:
    """Whether a literal zero stands behind a division. Zeros in what is measured are seen when it is."""
    tokens = tokenize(condition)
    return any(
        before.kind == OPERATOR and before.text in ("/", "%") and token.kind == NUMBER and _ZERO.fullmatch(token.text)
        for before, token in zip(tokens, tokens[1:])
    )


def _refuse_limits(metric: Metric, data: Mapping[str, Any], where: str) -> None:
    for field in _LIMITS:
        limit = data.get(field)
        if isinstance(limit, str) and not _WHOLE.fullmatch(limit):
            raise TemplateError(f"{where}: {field} must be a whole number, not {limit!r} (which Argo takes for 0)")
    if metric.count < 0:
        raise TemplateError(f"{where}: count must be >= 0, not {metric.count}")
    for field, seconds in (("interval", metric.interval), ("initialDelay", metric.initial_delay)):
        if seconds is not None and seconds < 0:
            raise TemplateError(f"{where}: {field} must not be negative")


def _prometheus(where: str, provider: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    given = [name for name in PROVIDERS if provider.get(name) is not None]
    given.extend(f"plugin {name}" for name in shapes.mapping(provider.get("plugin"), f"{path}.plugin"))
    if len(given) != 1:
        raise TemplateError(f"{where}: {'multiple providers' if given else 'no provider'} specified")
    if given[0] != "prometheus":
        raise TemplateError(f"{where}: provider {given[0]} is not supported, only prometheus is")
    return shapes.mapping(provider["prometheus"], f"{path}.prometheus", " with query")


def dry_run_patterns(spec: Mapping[str, Any], supplied: Sequence[str] = ()) -> list[str]:
    """The regular expressions of ``supplied`` and of a template's ``spec.dryRun``; none may be there twice."""
    own = [rule["metricName"] for rule in shapes.named(spec.get("dryRun"), "spec.dryRun", "metricName")]
    patterns = [*supplied, *own]
    _refuse_twice("dryRun rules", patterns)
    return patterns


def check_retention(spec: Mapping[str, Any], metrics: Sequence[Metric]) -> None:
    """Refuse a ``spec.measurementRetention`` as Argo does; nothing else of it matters, all measurements are kept."""
    rules = shapes.named(spec.get("measurementRetention"), "spec.measurementRetention", "metricName")
    _matching("measurementRetention", [rule["metricName"] for rule in rules], metrics)


def dry_run_names(patterns: Sequence[str], metrics: Sequence[Metric]) -> set[str]:
    """The metrics that entries of dryRun cover: unanchored Go regular expressions over their names."""
    return _matching("dryRun", patterns, metrics)


def _matching(kind: str, patterns: Sequence[str], metrics: Sequence[Metric]) -> set[str]:
    names: set[str] = set()
    for place, pattern in enumerate(shapes.sequence(patterns, kind)):
        shapes.text(pattern, f"{kind}[{place}]")
        matching = [metric.name for metric in metrics if _matches(pattern, metric.name)]
        if not matching:
            raise TemplateError(f"{kind}[{place}]: {pattern!r} matches no metric")
        names.update(matching)
    return names


def _matches(pattern: str, name: str) -> bool:
    if RE2_IMPORT_ERROR:
        raise TemplateError("dryRun and measurementRetention need the Python library google-re2")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.search(pattern, name, options) is not None
    except re2.error:
        # Argo takes an expression that does not compile for one that matches nothing.
        return False
