# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with an AnalysisTemplate, before anything is measured.

An *error* cannot do what it says: Argo's run would be an Error, or its verdict could not change. A *warning* does
something, and hardly what was meant. Each finding has a reason, and the text that puts it right where that can be
known. What each rule rests on is in Argo Rollouts 1.8: utils/analysis/factory.go (validation), analysis/analysis.go
(counting), utils/evaluate (conditions), metricproviders/prometheus.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import conditions, promql
from .duration import DurationError, parse_duration
from .expression import SCALAR, VECTOR
from .findings import ERROR, WARNING, Document, Edit, Finding, Path, path_text
from .gotypes import Type
from .metric import DEFAULT_CONSECUTIVE_ERROR_LIMIT, Metric, TemplateError, read_metric
from .metric import ERROR as ERROR_PHASE
from .metric import INCONCLUSIVE as INCONCLUSIVE_PHASE
from .metric import SUCCESSFUL as SUCCESSFUL_PHASE
from .promql import Matcher, Query, QueryError, Selector
from .run import ERROR_RETRY_INTERVAL
from .template import PROVIDERS, RE2_IMPORT_ERROR, dry_run_names

#: Seconds between two scrapes where nothing else is said: the default of kube-prometheus-stack.
DEFAULT_SCRAPE_INTERVAL = 30.0
#: The label that the seed's application is expected to carry its pod template hash in.
HASH_LABEL = "pod_template_hash"
HASH_ARGUMENT = "canary-hash"

_CONDITIONS = ("successCondition", "failureCondition")
_DEFAULT_INTERVAL, _DEFAULT_COUNT = "1m", 5
_LIMITS = {
    "count": _DEFAULT_COUNT,
    "failureLimit": 0,
    "inconclusiveLimit": 0,
    "consecutiveErrorLimit": DEFAULT_CONSECUTIVE_ERROR_LIMIT,
    "consecutiveSuccessLimit": 0,
}
_DURATIONS = ("interval", "initialDelay")
# A Prometheus that is away for longer than this is not waited for by anybody.
_LONGEST_OUTAGE = 300.0
# Windows that are put right get this many scrapes: rate() then stands one that is missed.
_SCRAPES = 4
_TAG = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_ROW = r"consecutive|in a row|back[- ]to[- ]back|подряд"
# A label's value that nobody has: a regular expression that matches it matches everything.
_NOBODY = "\N{SNOWMAN} nobody's"
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER_IN_A_ROW = re.compile(rf"\b(\d+|{'|'.join(_NUMBERS)})\b(?:\W+\w+){{0,3}}?\W+(?:{_ROW})", re.IGNORECASE)


@dataclass(frozen=True)
class Caller:
    """A ``templates`` reference of a Rollout: the object, the path of its ``analysis``, and the arguments it gives."""

    document: Document
    path: Path

    @property
    def args(self) -> list[Mapping[str, Any]]:
        """``args`` of the analysis; what is no mapping with a name is left out."""
        return _names(self.document.get((*self.path, "args")))

    @property
    def given(self) -> list[str]:
        """The names of its arguments."""
        return [arg["name"] for arg in self.args]


@dataclass(frozen=True)
class Context:
    """What is known around a template."""

    args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments given by hand: a value, or ``{valueFrom: ...}``."""
    callers: Sequence[Caller] = ()
    shared_args: Sequence[Mapping[str, Any]] = ()
    """Arguments that other templates of the same analysis declare: an analysis has one list for all of them."""
    used_elsewhere: frozenset[str] = frozenset()
    """Arguments that they use."""
    complete: bool = False
    """Whether nobody else gives arguments, so that one without a value is an error."""
    endless: bool = False
    """Whether it runs in the background, where a metric may go on for ever."""
    router: bool = False
    """Whether a traffic router splits the traffic, and not the number of pods."""
    scrape_interval: float = DEFAULT_SCRAPE_INTERVAL
    extensions: Mapping[str, Any] = field(default_factory=dict)
    """Our extensions of all metrics, as the options of a gate give them."""
    dry_run: Sequence[str] = ()
    """Regular expressions over metrics that do not decide, beside the template's own."""


def lint_template(document: Document, context: Context | None = None) -> list[Finding]:
    """The findings in one template; ``document`` holds ``spec`` as in an AnalysisTemplate."""
    return list(_Template(document, context or Context()).findings())


def used_arguments(document: Document) -> frozenset[str]:
    """The names in ``{{args.name}}`` of a template's metrics."""
    return frozenset(_used(document.get(("spec", "metrics"))))


def _used(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        for tag in _TAG.findall(value):
            kind, _dot, name = tag.strip().partition(".")
            if kind == "args":
                yield name
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _used(item)
    elif isinstance(value, list):
        for item in value:
            yield from _used(item)


def _names(entries: Any) -> list[Mapping[str, Any]]:
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, Mapping) and isinstance(entry.get("name"), str)]


class _Template:
    def __init__(self, document: Document, context: Context) -> None:
        self.document = document
        self.context = context
        self.declared = _names(document.get(("spec", "args")))
        self.all_declared = [*_names(list(context.shared_args)), *self.declared]
        self.values, self.hashes, self.given = self._arguments()
        self.watched = self._dry_run_names()

    def _arguments(self) -> tuple[dict[str, str], set[str], set[str]]:
        """Values that are known; names that stand for a pod template hash; names that somebody gives."""
        sources: list[tuple[str, Any]] = [(arg["name"], arg) for arg in self.all_declared]
        sources += [(arg["name"], arg) for caller in self.context.callers for arg in caller.args]
        sources += [
            (name, source if isinstance(source, Mapping) else {"value": source})
            for name, source in self.context.args.items()
        ]
        values: dict[str, str] = {}
        hashes = {name for name, _source in sources if "hash" in name.lower()}
        given: set[str] = set()
        for name, source in sources:
            from_ = source.get("valueFrom")
            if source.get("value") is not None:
                values[name] = str(source["value"])
                given.add(name)
            elif from_:
                values.pop(name, None)
                given.add(name)
                if isinstance(from_, Mapping) and from_.get("podTemplateHashValue"):
                    hashes.add(name)
        return values, hashes, given

    def _dry_run_names(self) -> frozenset[str]:
        """Metrics that are measured and do not decide."""
        metrics = [Metric(metric["name"]) for metric in _names(self.document.get(("spec", "metrics")))]
        rules = self.document.get(("spec", "dryRun"))
        patterns = [str(rule.get("metricName")) for rule in rules if isinstance(rule, Mapping)] if rules else []
        found: set[str] = set()
        for pattern in [*patterns, *self.context.dry_run]:
            try:
                found |= dry_run_names([pattern], metrics)
            except TemplateError:
                pass  # it matches none, which is a finding of its own
        return frozenset(found)

    def find(self, rule: str, severity: str, path: Path, reason: str, *edits: Edit, metric: str = "") -> Finding:
        line, column = self.document.place(path)
        return Finding(rule, severity, self.document.name, path, reason, edits, metric, line, column)

    def edit(self, path: Path, value: Any) -> Edit:
        return Edit(self.document.name, path, value)

    def findings(self) -> Iterator[Finding]:
        metrics = self.document.get(("spec", "metrics"))
        if not metrics and self.document.get(("spec", "templates")):
            return
        path: Path = ("spec", "metrics")
        if not isinstance(metrics, list) or not metrics:
            yield self.find("no-metrics", ERROR, path, "the analysis has no metrics: Argo refuses it")
            return
        seen: set[str] = set()
        for place, data in enumerate(metrics):
            if not isinstance(data, Mapping):
                yield self.find("invalid", ERROR, (*path, place), f"a metric must be a mapping, not {data!r}")
                continue
            yield from self._name(data, (*path, place), seen)
            found = list(_Metric(self, data, (*path, place)).findings())
            yield from found
            if not any(finding.severity == ERROR for finding in found):
                yield from self._refused(data, (*path, place))
        yield from self._arguments_used()
        yield from self._dry_run()

    def _name(self, data: Mapping[str, Any], path: Path, seen: set[str]) -> Iterator[Finding]:
        name = str(data.get("name") or "")
        if not isinstance(data.get("name"), str) or not name:
            yield self.find("invalid", ERROR, (*path, "name"), "a metric must have a name, which is a string")
            return
        if name in seen:
            free = [f"{name}-{number}" for number in range(2, len(seen) + 3) if f"{name}-{number}" not in seen]
            reason = f"two metrics are named {name!r}: Argo refuses the template"
            yield self.find("duplicate-name", ERROR, (*path, "name"), reason, self.edit((*path, "name"), free[0]))
        seen.add(name)

    def _refused(self, data: Mapping[str, Any], path: Path) -> Iterator[Finding]:
        """What Argo refuses and no rule of ours has said."""
        limits = {name: data[name] for name in (*_LIMITS, *_DURATIONS) if data.get(name) is not None}
        text = {name: self.known(value) for name, value in limits.items()}
        if any("{{" in str(value) for value in text.values()):
            return
        try:
            read_metric(text)
        except TemplateError as problem:
            yield self.find("invalid", ERROR, path, str(problem), metric=str(data.get("name") or ""))

    def known(self, value: Any) -> Any:
        """A value with the arguments in it that are known; the others stay."""
        if not isinstance(value, str):
            return value

        def replaced(tag: re.Match[str]) -> str:
            name = tag[1].strip().partition(".")[2]
            return self.values.get(name, tag[0])

        return _TAG.sub(replaced, value)

    def _arguments_used(self) -> Iterator[Finding]:
        path: Path = ("spec", "args")
        declared = [arg["name"] for arg in self.all_declared]
        used = sorted(used_arguments(self.document))
        inline = self.document.get(("kind",)) is None
        for name in used:
            if name not in declared and not (inline and name in self.given):
                reason = f"{{{{args.{name}}}}} is used, and the template declares no such argument"
                yield self.find("unresolved-argument", ERROR, path, reason, *self.declare(name))
            elif self.missing(name):
                reason = f"the argument {name} has no value: neither the template nor {self.missing(name)} gives one"
                yield self.find("unresolved-argument", ERROR, path, reason, *self.supply(name))
        if self.document.get(("spec", "templates")):
            return
        entries = self.document.get(path)
        for place, arg in enumerate(entries if isinstance(entries, list) else ()):
            name = str(arg.get("name") or "") if isinstance(arg, Mapping) else ""
            if name and name not in used and name not in self.context.used_elsewhere:
                reason = f"the argument {name} is declared, and no metric uses it"
                yield self.find("unused-argument", WARNING, (*path, place), reason, self.edit((*path, place), None))
        for name in self.context.args:
            if name not in used and name not in declared:
                there = ", ".join(declared if not inline else used) or "none"
                reason = f"the argument {name} is given, and the analysis has no such argument (it has {there})"
                yield self.find("unused-argument", WARNING, path, reason)

    def missing(self, name: str) -> str:
        """Who uses the template and does not give an argument that it leaves open; empty when nobody has to."""
        valued = [arg["name"] for arg in self.all_declared if arg.get("value") is not None or arg.get("valueFrom")]
        if name in valued or name in self.context.args:
            return ""
        lacking = [caller for caller in self.context.callers if name not in caller.given]
        if lacking:
            return f"{lacking[0].document.name} at {path_text(lacking[0].path)}"
        return "who runs it" if self.context.complete and not self.context.callers else ""

    def declare(self, name: str) -> list[Edit]:
        """The edits that declare an argument, and give it where the template is used."""
        found = self.document.get(("spec", "args"))
        entries = list(found) if isinstance(found, list) else []
        if any(arg["name"] == name for arg in self.all_declared):
            return []
        return [self.edit(("spec", "args"), [*entries, {"name": name}]), *self.supply(name)]

    def supply(self, name: str) -> list[Edit]:
        """The edits that give an argument where the template is used; in the template itself when nobody uses it."""
        value: dict[str, Any] = {"value": "..."}
        if "hash" in name.lower():
            value = {"valueFrom": {"podTemplateHashValue": "Latest"}}
        argument = {"name": name, **value}
        edits = [
            Edit(caller.document.name, (*caller.path, "args"), [*caller.args, argument])
            for caller in self.context.callers
            if name not in caller.given
        ]
        if edits or not self.context.complete or name not in [arg["name"] for arg in self.declared]:
            return edits
        entries = [{**arg, "value": "..."} if arg["name"] == name else arg for arg in self.declared]
        return [self.edit(("spec", "args"), entries)]

    def _dry_run(self) -> Iterator[Finding]:
        metrics = [Metric(metric["name"]) for metric in _names(self.document.get(("spec", "metrics")))]
        entries = self.document.get(("spec", "dryRun"))
        for place, rule in enumerate(entries if isinstance(entries, list) and not RE2_IMPORT_ERROR else ()):
            path: Path = ("spec", "dryRun", place)
            try:
                dry_run_names([str(rule.get("metricName")) if isinstance(rule, Mapping) else rule], metrics)
            except TemplateError as problem:
                reason = str(problem).partition(": ")[2] or str(problem)
                yield self.find("dry-run-unmatched", ERROR, path, f"dryRun {reason}", self.edit(path, None))


class _Metric:
    """The rules of one metric."""

    def __init__(self, template: _Template, data: Mapping[str, Any], path: Path) -> None:
        self.template = template
        self.context = template.context
        self.data = data
        self.path = path
        self.name = str(data.get("name") or "")
        self.decides = self.name not in template.watched
        self.query: Query | None = None
        self.limits: dict[str, int | None] = {}
        self.broken: set[Path] = set()

    def find(self, rule: str, severity: str, field_: str, reason: str, *edits: Edit) -> Finding:
        path = (*self.path, *field_.split("."))
        return self.template.find(rule, severity, path, reason, *edits, metric=self.name)

    def edit(self, field_: str, value: Any) -> Edit:
        return self.template.edit((*self.path, *field_.split(".")), value)

    def extended(self, name: str) -> bool:
        """Whether one of our extensions is on for this metric."""
        return bool(self.data.get(name) or self.context.extensions.get(name))

    def findings(self) -> Iterator[Finding]:
        yield from self._tags(self.data, ())
        yield from self._durations()
        yield from self._numbers()
        yield from self._count()
        if self.decides:
            yield from self._limits()
            yield from self._in_a_row()
        yield from self._provider()
        provider = self.data.get("provider")
        prometheus = provider.get("prometheus") if isinstance(provider, Mapping) else None
        if not isinstance(prometheus, Mapping) or prometheus.get("rangeQuery"):
            return  # what is measured has a shape that is not known here
        self.text = str(prometheus.get("query") or "")
        yield from self._read_query()
        if self.query:
            yield from self._windows(self.query)
            yield from self._blend(self.query)
        yield from self._conditions()

    def _provider(self) -> Iterator[Finding]:
        """What measures: one provider, Prometheus or one that the controller alone can ask."""
        provider = self.data.get("provider")
        if provider is not None and not isinstance(provider, Mapping):
            yield self.find("invalid", ERROR, "provider", f"provider must be a mapping, not {provider!r}")
            return
        given = {name: each for name, each in (provider or {}).items() if name in PROVIDERS and each is not None}
        plugins = (provider or {}).get("plugin")
        if isinstance(plugins, Mapping):
            given.update({f"plugin {name}": each for name, each in plugins.items()})
        if len(given) != 1:
            found = ", ".join(map(str, provider or ())) or "none"
            reason = f"a metric must have one provider, such as prometheus, and it has {found}: Argo refuses it"
            yield self.find("invalid", ERROR, "provider", reason)
            return
        [(name, data)] = given.items()
        if not isinstance(data, Mapping) and not name.startswith("plugin "):
            yield self.find("invalid", ERROR, f"provider.{name}", f"provider.{name} must be a mapping, not {data!r}")

    def _tags(self, value: Any, path: Path) -> Iterator[Finding]:
        """Tags that Argo cannot resolve, whatever arguments there are."""
        if isinstance(value, Mapping):
            for key, item in value.items():
                yield from self._tags(item, (*path, key))
        elif isinstance(value, list):
            for place, item in enumerate(value):
                yield from self._tags(item, (*path, place))
        elif isinstance(value, str):
            where = (*self.path, *path)
            if "{{" in _TAG.sub("", value):
                right = self.template.edit(where, re.sub(r"\{\{([^{}]*)\}(?!\})", r"{{\1}}", value))
                self.broken.add(path)
                reason = f"cannot find the end of a {{{{tag}}}} in {value!r}"
                yield self.template.find("unresolved-argument", ERROR, where, reason, right, metric=self.name)
            for tag in _TAG.findall(value):
                if not re.fullmatch(r"\s*args\..+", tag):
                    self.broken.add(path)
                    reason = f"{{{{{tag}}}}} is not resolved: only {{{{args.name}}}} is"
                    right = self.template.edit(where, value.replace(f"{{{{{tag}}}}}", f"{{{{args.{tag.strip()}}}}}"))
                    yield self.template.find("unresolved-argument", ERROR, where, reason, right, metric=self.name)

    # -- numbers and durations --

    def _durations(self) -> Iterator[Finding]:
        self.seconds: dict[str, float] = {}
        for name, default in zip(_DURATIONS, (_DEFAULT_INTERVAL, None)):
            value = self.template.known(self.data.get(name))
            if value in (None, "") or "{{" in str(value):
                continue
            try:
                self.seconds[name] = parse_duration(str(value))
            except DurationError as problem:
                right = self.edit(name, _meant_duration(value) or default)
                yield self.find("invalid-duration", ERROR, name, str(problem), right)

    def _numbers(self) -> Iterator[Finding]:
        for name, default in _LIMITS.items():
            value = self.template.known(self.data.get(name))
            self.limits[name] = None if value is None else _whole(value)
            if value is None or "{{" in str(value):
                continue
            lowest = -1 if name == "failureLimit" else 0
            number = self.limits[name]
            if number is None:
                reason = f"{name} is {value!r}: what is no whole number counts as 0, in silence"
            elif number < lowest:
                reason = f"{name} is {number}: it must not be less than {lowest}"
            else:
                continue
            self.limits[name] = None
            yield self.find("invalid-limit", ERROR, name, reason, self.edit(name, default))

    def _count(self) -> Iterator[Finding]:
        count = self.limits["count"] or 0
        interval = self.data.get("interval")
        if count > 1 and not interval:
            reason = f"count is {count} without an interval: Argo refuses more than one measurement without it"
            right = self.edit("interval", _DEFAULT_INTERVAL)
            yield self.find("count-without-interval", ERROR, "interval", reason, right)
        elif interval and not self.data.get("count") and not self.context.endless:
            reason = "an interval without a count runs for ever: Argo takes that in the background alone"
            severity = ERROR if self.context.callers or self.context.complete else WARNING
            yield self.find("interval-without-count", severity, "count", reason, self.edit("count", _DEFAULT_COUNT))

    @property
    def checks(self) -> int | None:
        """How many measurements end the metric; None without an end, or when that is not known."""
        if self.data.get("count") is None:
            return None if self.data.get("interval") else 1
        return self.limits["count"] or None

    def _limits(self) -> Iterator[Finding]:
        checks = self.checks
        if checks is None:
            yield from self._errors()
            return
        in_a_row = self.limits["consecutiveSuccessLimit"] or 0
        failures = self.limits["failureLimit"]
        if failures is not None and failures >= max(checks, 1):
            reason = (
                f"failureLimit {failures} can never trip: a metric fails when more than {failures} of its "
                f"{checks} measurements do"
            )
            right = self.edit("failureLimit", max(0, checks - 1 - in_a_row))
            edits = [right] if checks > in_a_row else [right, *self._counted(in_a_row + 1)]
            yield self.find("limit-never-trips", ERROR, "failureLimit", reason, *edits)
        elif checks < max(failures or 0, 0) + in_a_row:
            reason = f"count {checks} is less than failureLimit + consecutiveSuccessLimit: Argo refuses the template"
            if not self.limits["count"]:
                reason = f"{in_a_row} successes in a row are asked for, and without a count there is one measurement"
            edits = self._counted(max(failures or 0, 0) + in_a_row)
            yield self.find("count-too-small", ERROR, "count", reason, *edits)
        inconclusive = self.limits["inconclusiveLimit"] or 0
        if inconclusive >= checks and inconclusive:
            reason = f"inconclusiveLimit {inconclusive} can never trip: there are only {checks} measurements"
            # Argo refuses the one, and not the other.
            severity = ERROR if self.limits["count"] and inconclusive > checks else WARNING
            possible = all(self.data.get(name) for name in _CONDITIONS)
            right = self.edit("inconclusiveLimit", max(0, checks - 1) if possible else None)
            yield self.find("limit-never-trips", severity, "inconclusiveLimit", reason, right)
        elif inconclusive and not all(self.data.get(name) for name in _CONDITIONS):
            reason = (
                f"inconclusiveLimit {inconclusive} can never trip: a measurement is Inconclusive only when there are "
                "two conditions and neither is true"
            )
            right = self.edit("inconclusiveLimit", None)
            yield self.find("limit-never-trips", WARNING, "inconclusiveLimit", reason, right)
        yield from self._errors()

    def _counted(self, count: int) -> list[Edit]:
        """The edits that make so many measurements; more than one needs an interval."""
        edits = [self.edit("count", count)]
        if count > 1 and not self.data.get("interval"):
            edits.append(self.edit("interval", _DEFAULT_INTERVAL))
        return edits

    def _errors(self) -> Iterator[Finding]:
        errors = self.limits["consecutiveErrorLimit"] or 0
        if errors * ERROR_RETRY_INTERVAL > _LONGEST_OUTAGE:
            reason = (
                f"consecutiveErrorLimit {errors} as good as never trips: failed queries are repeated every "
                f"{ERROR_RETRY_INTERVAL:g} s, so that a Prometheus that is gone holds the canary for "
                f"{errors * ERROR_RETRY_INTERVAL:g} s"
            )
            right = self.edit("consecutiveErrorLimit", DEFAULT_CONSECUTIVE_ERROR_LIMIT)
            yield self.find("limit-never-trips", WARNING, "consecutiveErrorLimit", reason, right)

    def _in_a_row(self) -> Iterator[Finding]:
        limit = self.limits["failureLimit"] or 0
        meant = self._meant_in_a_row(limit)
        if not meant or limit < meant or self.extended("consecutive_failure_limit"):
            return
        reason = (
            f"{meant} failures in a row are meant, and failureLimit counts failures in total and trips at more than "
            f"{limit} of them: {limit} pass, in a row or not. With {meant - 1} the failure number {meant} ends it; "
            f"consecutive_failure_limit of the module analysis counts in a row"
        )
        right = self.edit("failureLimit", meant - 1)
        yield self.find("consecutive-meant", WARNING, "failureLimit", reason, right)

    def _meant_in_a_row(self, limit: int) -> int:
        """The number of failures in a row that a comment, a name or an annotation promises; 0 when none does."""
        document = self.template.document
        beside = document.comments.get((*self.path, "failureLimit"), "")
        annotations = document.get(("metadata", "annotations"))
        texts = [beside, self.name, str(document.get(("metadata", "name")) or "")]
        texts += [str(text) for text in annotations.values()] if isinstance(annotations, Mapping) else []
        for text in texts:
            found = _NUMBER_IN_A_ROW.search(text.replace("-", " ").replace("_", " "))
            if found:
                word = found[1].lower()
                return int(word) if word.isdigit() else _NUMBERS.index(word)
        return limit if re.search(_ROW, beside, re.IGNORECASE) else 0

    # -- the query --

    def _read_query(self) -> Iterator[Finding]:
        path = "provider.prometheus.query"
        if not self.text.strip():
            yield self.find("invalid-query", ERROR, path, "the query is empty")
            return
        try:
            self.query = promql.read_query(self.text, self.template.values)
        except QueryError as problem:
            # A grammar that is younger than ours must not stop a release.
            reason = f"the query does not read as PromQL at character {problem.at + 1}: {problem.reason}"
            yield self.find("invalid-query", WARNING, path, reason)
            return
        if self.query.type == promql.STRING:
            yield self.find("invalid-query", ERROR, path, "the query gives a text, and not numbers")
        by_zero = [division for division in self.query.divisions if division.constant == 0]
        if by_zero:
            text = self.text
            for division in reversed(by_zero):
                text = text[: division.at].rstrip() + text[division.end :]
            reason = "the query divides by zero: it gives +Inf, -Inf or NaN, whatever is measured"
            yield self.find("division-by-zero", ERROR, path, reason, self.edit(path, text))

    def _windows(self, query: Query) -> Iterator[Finding]:
        scrape = self.context.scrape_interval
        short = [
            window
            for window in query.windows
            if not window.subquery and window.seconds is not None and window.seconds < 2 * scrape
        ]
        path = "provider.prometheus.query"
        delay = self.seconds.get("initialDelay", 0.0)
        if short:
            text = self.text
            wanted = promql.duration_text(_SCRAPES * scrape)
            for window in reversed(short):
                text = f"{text[: window.at]}{wanted}{text[window.end :]}"
            edits = [self.edit(path, text)]
            if 0 < delay < _SCRAPES * scrape:
                edits.append(self.edit("initialDelay", wanted))
            reason = (
                f"the window [{short[0].text}] is shorter than two scrapes (one every {scrape:g} s): rate() and its "
                "like need two samples in it, and give nothing without"
            )
            yield self.find("window-too-short", WARNING, path, reason, *edits)
        delay_unknown = bool(self.data.get("initialDelay")) and "initialDelay" not in self.seconds
        if query.selectors and delay < query.reach and not delay_unknown:
            given = f"initialDelay {delay:g} s" if delay else "no initialDelay"
            reason = (
                f"{given} with a window of {query.reach:g} s: the first measurements look at the time before the "
                "canary, when nothing of it was there, or still see the attempt before"
            )
            right = self.edit("initialDelay", promql.duration_text(query.reach))
            yield self.find("initial-delay-too-short", WARNING, "initialDelay", reason, right)

    def _blend(self, query: Query) -> Iterator[Finding]:
        blended = [selector for selector in query.selectors if not self._scoped(selector)]
        if self.context.router or not blended:
            return
        path = "provider.prometheus.query"
        name = next((name for name in sorted(self.template.hashes)), HASH_ARGUMENT)
        text = self.text
        for selector in sorted(blended, key=lambda selector: selector.at, reverse=True):
            matcher = f'{HASH_LABEL}="{{{{args.{name}}}}}"'
            added = f"{{{matcher}}}" if selector.joint == "{" else f"{selector.joint}{matcher}"
            text = text[: selector.at] + added + text[selector.at :]
        edits = [self.edit(path, text), *self.template.declare(name)]
        reason = (
            f"{blended[0].name or 'the query'} is measured over all pods, stable and canary: without a traffic router "
            "a bad stable version aborts a good canary, and a small canary hides in the traffic of the others. Where "
            f"the metric carries the pod template hash (here as label {HASH_LABEL}), ask for the canary's alone"
        )
        yield self.find("blended-query", WARNING, path, reason, *edits)

    def _scoped(self, selector: Selector) -> bool:
        """Whether a selector asks for the pods of one version."""
        for matcher in selector.matchers:
            if not self._selects(matcher):
                continue
            if "hash" in matcher.label.lower() or "canary" in matcher.value.lower():
                return True
            if any(name in self.template.hashes for name in _used(matcher.value)):
                return True
        # Whole matchers, or the metric's name, may come from an argument.
        return any(name in self.template.hashes for name in _used(selector.name))

    def _selects(self, matcher: Matcher) -> bool:
        """Whether a matcher picks some series out, and does not only leave some, or none, aside."""
        value = self.template.known(matcher.value)
        if matcher.operator == "=":
            return bool(value)
        if matcher.operator != "=~" or not value:
            return False
        try:
            return re.fullmatch(_TAG.sub("x", value), _NOBODY) is None
        except re.error:
            return True

    # -- conditions --

    def _conditions(self) -> Iterator[Finding]:
        given = {name: self.data[name] for name in _CONDITIONS if self.data.get(name)}
        for name, text in list(given.items()):
            if not isinstance(text, str):
                reason = f"{name} must be a string, not {text!r}"
                yield self.find("invalid-condition", ERROR, name, reason, self.edit(name, str(text)))
                return
        masked = {name: conditions.Masked(self.template.known(text)) for name, text in given.items()}
        texts = {name: each.text for name, each in masked.items()}
        kind = self._kind()
        if not given:
            if self.decides:
                reason = "without a condition every answer is a success: only a query that fails can stop the canary"
                right = self.edit("successCondition", conditions.example(kind or VECTOR))
                yield self.find("no-condition", WARNING, "successCondition", reason, right)
            return
        sound = True
        for name, text in texts.items():
            if (name,) in self.broken:
                sound = False
                continue
            found = list(self._compiles(name, text, masked[name], kind))
            sound = sound and not found
            yield from found
        if not sound or kind is None:
            return
        if not any(conditions.mentions(text, "result") for text in texts.values()):
            if self.decides:
                reason = "the condition does not look at the result: its verdict is the same whatever is measured"
                name, *_others = texts
                right = self.edit(name, conditions.example(kind, name == "failureCondition"))
                yield self.find("constant-condition", ERROR, name, reason, right)
            return
        yield from self._nothing_measured(texts, kind)

    def _kind(self) -> Type | None:
        if self.query is None:
            return None
        return SCALAR if self.query.type == promql.SCALAR else VECTOR

    def _compiles(self, name: str, text: str, masked: conditions.Masked, kind: Type | None) -> Iterator[Finding]:
        kinds = [kind] if kind else [VECTOR, SCALAR]
        problems = [conditions.problem_with(text, each) for each in kinds]
        if all(problems):
            yield self._wrong(name, text, masked, kind or VECTOR, str(problems[0]))
            return
        if conditions.zero_division(text):
            edit = self.edit(name, masked.unmask(conditions.without_zero_divisions(text)))
            yield self.find("division-by-zero", ERROR, name, "the condition divides by zero", edit)

    def _wrong(self, name: str, text: str, masked: conditions.Masked, kind: Type, problem: str) -> Finding:
        other = SCALAR if kind == VECTOR else VECTOR
        failure = name == "failureCondition"
        right = conditions.fitted(text, kind)
        if right and not conditions.mentions(right, "isNaN"):
            right = conditions.guarded(right, kind, failure)
        if not right and not conditions.compares(text):
            right = conditions.example(kind, failure)
        edits = [self.edit(name, masked.unmask(right))] if right else []
        is_a = "a vector, which is a list" if kind == VECTOR else "a single number"
        if conditions.problem_with(text, other) is None or re.search(r"\bdefault\(", text):
            reason = f"the query gives {is_a}, and the condition is written for another type: {problem}"
            if re.search(r"\bdefault\(", text):
                reason += "; default() looks at the whole result, and never at an element of it"
            return self.find("type-mismatch", ERROR, name, reason, *edits)
        rule = "not-boolean" if problem.startswith("expected bool") else "invalid-condition"
        return self.find(rule, ERROR, name, f"the condition is an error at every measurement: {problem}", *edits)

    def _nothing_measured(self, texts: Mapping[str, str], kind: Type) -> Iterator[Finding]:
        """What the metric makes of NaN, and of an empty answer."""
        if conditions.only_length(texts.values()) or re.match(r"\s*absent(?:_over_time)?\s*\(", self.text):
            return  # an answer without any element is what is asked for
        success, failure = (texts.get(name, "") for name in _CONDITIONS)
        nan = float("nan")
        on_nan = conditions.verdict(success, failure, [nan] if kind == VECTOR else nan)
        on_empty = conditions.verdict(success, failure, []) if kind == VECTOR else ""
        length_only = conditions.mentions(success, "len") and on_empty == SUCCESSFUL_PHASE
        guarded = any(conditions.mentions(text, "isNaN") for text in texts.values())
        edits = self._guards(texts, kind)
        field_, *_others = texts
        nan_possible = self.query is not None and bool(self.query.selectors) and self.query.may_be_nan
        guarded = guarded or self.extended("on_nan")
        unguarded = nan_possible and not guarded and on_nan not in (INCONCLUSIVE_PHASE, ERROR_PHASE)
        if self.extended("on_empty"):
            pass
        elif length_only and nan_possible:
            reason = (
                "len(result) == 0 is no guard against a time without traffic: zero divided by zero is NaN, and the "
                f"vector has one element then, which ends {on_nan}. An answer without any element, because the "
                "metric's name is wrong or its target gone, passes"
            )
            yield self.find("length-is-no-guard", WARNING, field_, reason, *edits)
        elif on_empty == SUCCESSFUL_PHASE:
            reason = "an answer without data passes: a metric that is gone, or misspelt, promotes every canary"
            yield self.find("empty-passes", WARNING, field_, reason, *edits)
        if unguarded:
            what = "passes" if on_nan == SUCCESSFUL_PHASE else f"counts as {on_nan}"
            reason = (
                f"the query can give NaN, as zero divided by zero does without traffic, and NaN {what}: comparisons "
                "with NaN are false, and nothing here asks for isNaN"
            )
            yield self.find("nan-unguarded", WARNING, field_, reason, *edits)

    def _guards(self, texts: Mapping[str, str], kind: Type) -> list[Edit]:
        """The edits that guard the conditions; none when nothing would pass then."""
        edits: list[Edit] = []
        guarded = dict(texts)
        for name in _CONDITIONS:
            if texts.get(name) and conditions.mentions(texts[name], "result"):
                failure = name == "failureCondition"
                guarded[name] = conditions.guarded(texts[name], kind, failure)
                as_written = conditions.Masked(self.data[name])
                right = as_written.unmask(conditions.guarded(as_written.text, kind, failure))
                edits.append(self.edit(name, right))
        success, failure_ = (guarded.get(name, "") for name in _CONDITIONS)
        return edits if conditions.passes(success, failure_, kind) else []


def _meant_duration(value: Any) -> str:
    """A number without a unit as seconds, and days, which Go has not, as hours; empty for anything else."""
    number = re.fullmatch(r"([0-9]+)(d?)", str(value))
    if not number:
        return ""
    return f"{24 * int(number[1])}h" if number[2] else f"{number[1]}s"


def _whole(value: Any) -> int | None:
    """A limit as Argo reads it, from an int or a string of digits; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
