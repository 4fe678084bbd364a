# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One gate: reads an analysis from where it stands, checks it, and runs it against Prometheus.

Everything that can be wrong with a template is said before anything is measured.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple
from urllib.parse import quote, quote_plus

from ansible.module_utils.basic import missing_required_lib

from ..adapters.kube.kinds import SECRET, Kind
from ..adapters.kube.session import Session
from ..adapters.prometheus import PrometheusError
from ..engines.analysis.expression import ExpressionError, Value
from ..engines.analysis.extensions import extend
from ..engines.analysis.field import read_field
from ..engines.analysis.golang import quote as go_quote
from ..engines.analysis.metric import ERROR, INCONCLUSIVE, SUCCESSFUL, Metric, TemplateError, format_value
from ..engines.analysis.phases import MARKS
from ..engines.analysis.run import Measurement, MetricResult, Run
from ..engines.analysis.template import (
    RE2_IMPORT_ERROR,
    check_retention,
    dry_run_names,
    dry_run_patterns,
    flatten,
    merge_args,
    read_spec,
)
from ..errors import AirgapError
from ..times import Clock, rfc3339
from .analysis_templates import Template, TemplateFile, collect, in_cluster

_TICK = 1.0
_WORD = re.compile(r"\w{4,}")
_REPORTED = (
    *("name", "phase", "dry_run", "count", "successful", "failed", "inconclusive", "error"),
    *("consecutive_error", "consecutive_failure", "consecutive_success", "message"),
)


class Secrets:
    """Values that no message may repeat, in any of the forms that they take in a query, a URL or quotes."""

    def __init__(self) -> None:
        self._forms: set[str] = set()

    def add(self, value: str) -> None:
        """From here on ``value`` is masked."""
        # An error in a condition or a query names the word that it does not understand.
        words = _WORD.findall(value)
        forms = {*words, value, value.strip(), go_quote(value)[1:-1], json.dumps(value)[1:-1], repr(value)[1:-1]}
        self._forms |= {form for each in forms for form in (each, quote(each), quote_plus(each)) if form}

    def mask(self, text: str) -> str:
        """``text`` with every value replaced, as Argo does in the messages of measurements."""
        for form in sorted(self._forms, key=len, reverse=True):
            text = text.replace(form, "*****")
        return text


@dataclass(frozen=True)
class GateSpec:
    """An analysis ready to run: checked, with all arguments in place."""

    name: str
    metrics: Sequence[Metric]
    dry_run: frozenset[str] = frozenset()
    secrets: Secrets = field(default_factory=Secrets)

    @property
    def outline(self) -> str:
        """What will be measured and when, for whoever is going to wait for it."""
        return "; ".join(f"{metric.name}, {_schedule(metric)}" for metric in self.metrics)

    @property
    def shortest(self) -> float:
        """Seconds that a successful run takes at least."""
        return max((_shortest(metric) for metric in self.metrics), default=0.0)


def _shortest(metric: Metric) -> float:
    checks = metric.consecutive_success_limit or _checks(metric)
    return (metric.initial_delay or 0.0) + (checks - 1) * (metric.interval or 0.0)


def _schedule(metric: Metric) -> str:
    checks = _checks(metric)
    text = "1 check" if checks == 1 else f"{checks} checks"
    if checks > 1 and metric.interval is not None:
        text += f" every {metric.interval:g} s"
    if metric.initial_delay:
        text += f", the first after {metric.initial_delay:g} s"
    extensions = str(metric.extensions)
    return f"{text}, {extensions}" if extensions else text


def _checks(metric: Metric) -> int:
    return max(metric.effective_count or 1, 1)


@dataclass(frozen=True)
class Check:
    """One measurement as it is made. ``str()`` is its line: ``check 2/5 success-rate 0.982 ✔``."""

    metric: str
    number: int
    of: int
    measurement: Measurement
    dry_run: bool = False

    def __str__(self) -> str:
        measurement = self.measurement
        shown = "" if measurement.value is None else f" {_rounded(measurement.value)}"
        line = f"check {self.number}/{self.of} {self.metric}{shown} {MARKS[measurement.phase]}"
        if measurement.message:
            line += f" {measurement.message}"
        return f"{line} (dry run)" if self.dry_run else line


@dataclass(frozen=True)
class GateResult:
    """How a gate ended.

    ``phase`` is Successful, Failed, Error or Inconclusive; ``metrics`` is a list of {name, phase, dry_run, count,
    successful, failed, inconclusive, error, consecutive_error, consecutive_failure, consecutive_success, message},
    ``measurements`` of {metric, at, value, phase, message} in the order they were made, with RFC 3339 times and values
    as text (``[0.98]``, ``[NaN]``, None for an error).
    """

    phase: str
    message: str
    metrics: list[dict[str, Any]]
    measurements: list[dict[str, Any]]
    started_at: str = ""
    finished_at: str = ""

    @property
    def passed(self) -> bool:
        """Whether the release may go on."""
        return self.phase == SUCCESSFUL


def _rounded(value: Value) -> str:
    values = value if isinstance(value, list) else [value]
    return ", ".join(_digits(number) for number in values) or "no value"


def _digits(number: float) -> str:
    return f"{number:.4g}" if math.isfinite(number) else format_value(number)


class App(NamedTuple):
    """What an analysis is about: a Rollout or a Deployment, whose fields arguments may ask for."""

    kind: Kind
    name: str


def load_gate(
    session: Session | None,
    options: Mapping[str, Any],
    namespace: str | None,
    hashes: Mapping[str, str] | None = None,
    app: App | None = None,
) -> GateSpec:
    """Read and check an analysis. Raises AirgapError for everything that would make Argo's run an error.

    ``options`` are GATE_OPTIONS. For the analysis of a canary they may have ``references`` to its templates (name and
    cluster scope) in place of one, and ``endless`` when a metric may go on until it is stopped. ``hashes`` gives the
    pod template hashes Latest and Stable. ``session`` is only used to read what is in a cluster: templates, and for
    arguments the ``app`` and Secrets, all in ``namespace``.
    """
    name, templates = _templates(session, options, namespace)
    sources = _Sources(session, namespace, app)
    try:
        spec = flatten([template.spec for template in templates])
        supplied = options.get("args") or {}
        declared = [{"name": argument} for argument in supplied] if options.get("metrics") else spec["args"]
        args = merge_args(declared, supplied, hashes, sources.field if app else None, sources.secret)
        extended = extend(spec["metrics"], options, options.get("extensions") or {})
        metrics = read_spec({"metrics": extended}, args, bool(options.get("endless")))
        patterns = dry_run_patterns(spec, options.get("dry_run") or [])
        if (patterns or spec["measurementRetention"]) and RE2_IMPORT_ERROR:
            raise AirgapError(missing_required_lib("google-re2"), exception=RE2_IMPORT_ERROR)
        dry_run = dry_run_names(patterns, metrics)
        check_retention(spec, metrics)
    except TemplateError as problem:
        raise AirgapError(sources.secrets.mask(f"Analysis {name}: {problem}")) from problem
    except RecursionError as problem:
        raise AirgapError(f"Analysis {name}: it is nested too deeply, or contains itself") from problem
    for metric in metrics:
        if sources.secrets.mask(metric.name) != metric.name:
            raise AirgapError(f"Analysis {name}: the name of a metric has the value of a Secret in it")
    return GateSpec(name, metrics, frozenset(dry_run), sources.secrets)


def _templates(
    session: Session | None, options: Mapping[str, Any], namespace: str | None
) -> tuple[str, Sequence[Template]]:
    """Where the analysis comes from, and all its templates."""
    template, file, metrics = options.get("template"), options.get("file"), options.get("metrics")
    if metrics and (template or file):
        raise AirgapError("An analysis is either inline metrics or a template, not both")
    if metrics:
        return "(inline)", [Template("(inline)", {"metrics": metrics})]
    find = in_cluster(session, namespace)
    if file:
        manifests = TemplateFile(file)
        chosen, find = [manifests.choose(template)], manifests.find(find)
    elif template:
        chosen = [(template, bool(options.get("cluster_template")))]
    elif options.get("references"):
        chosen = list(options["references"])
    else:
        raise AirgapError("An analysis needs a template, a file or inline metrics")
    find = functools.lru_cache(maxsize=None)(find)
    return ", ".join(find(*each).title for each in chosen), collect(find, chosen)


class _Sources:
    """Where arguments with ``valueFrom`` are read, each when it is asked for."""

    def __init__(self, session: Session | None, namespace: str | None, app: App | None) -> None:
        self._session = session
        self._namespace = namespace
        self._app = app
        self._object: Mapping[str, Any] | None = None
        self.secrets = Secrets()

    def field(self, path: str) -> str:
        """A field of the app."""
        if self._object is None:
            self._object = self._read(self._app) if self._app else {}
        return read_field(self._object, path)

    def _read(self, app: App) -> Mapping[str, Any]:
        title = f"{app.kind.kind} {self._namespace}/{app.name}"
        if self._session is None:
            raise TemplateError(f"{title} is in a cluster: give a kubeconfig")
        body = self._session.find(app.kind, app.name, self._namespace)
        if body is None:
            raise TemplateError(f"{title} does not exist")
        return body

    def secret(self, name: str, key: str) -> str:
        """A value of a Secret, which no message repeats from here on."""
        if self._session is None or not self._namespace:
            raise TemplateError(f"the Secret {name} is in a cluster: give a kubeconfig, and its namespace")
        title = f"Secret {self._namespace}/{name}"
        body = self._session.find(SECRET, name, self._namespace)
        if body is None:
            raise TemplateError(f"{title} does not exist")
        encoded = (body.get("data") or {}).get(key)
        if encoded is None:
            raise TemplateError(f"{title} has no key {key!r}")
        try:
            value = base64.b64decode(encoded).decode("utf-8")
        except ValueError as error:
            raise TemplateError(f"{title}, key {key!r}: the value is not text") from error
        self.secrets.add(value)
        return value


def ask(metric: Metric, query: Callable[..., Value], now: float) -> Value:
    """What the query of a metric gives at ``now``, epoch seconds, or in its window until then."""
    return query(metric.query) if metric.range is None else query(metric.query, metric.range.at(now))


class _Overdue(Exception):
    """The deadline has passed without a verdict."""


@dataclass
class _Gate:
    """A run in progress: what the engine decides, asked of Prometheus."""

    spec: GateSpec
    query: Callable[..., Value]
    clock: Clock
    report: Callable[[Check], None]
    tick: Callable[[], None]
    end: float = math.inf
    run: Run = field(init=False)
    order: list[tuple[str, Measurement]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.run = Run(self.spec.metrics, self.spec.dry_run)

    def execute(self) -> None:
        """Until the run has a verdict. Raises _Overdue."""
        pool = ThreadPoolExecutor(max_workers=max(1, len(self.spec.metrics)))
        try:
            while True:
                now = self.clock.time()
                due = self.run.due(now)
                # Argo asks all queries of a step at the same time.
                answers = self._answers({metric.name: pool.submit(self._measure, metric) for metric in due})
                self.run.step(now, functools.partial(self._measured, answers))
                if self.run.completed:
                    return
                self._wait_until(self.run.next_at(self.clock.time()))
        finally:
            # Whoever stops the gate does not wait for a query that hangs.
            pool.shutdown(wait=False, cancel_futures=True)

    def _answers(self, futures: dict[str, Future[Measurement]]) -> dict[str, Measurement]:
        waiting = set(futures.values())
        while waiting:
            self._tick()
            _done, waiting = wait(waiting, timeout=_TICK)
        return {name: future.result() for name, future in futures.items()}

    def _measure(self, metric: Metric) -> Measurement:
        value: Value | None = None
        try:
            value = ask(metric, self.query, self.clock.time())
            phase, message = self._judge(metric, value)
        except (PrometheusError, ExpressionError) as error:
            phase, message = ERROR, str(error)
        except Exception as error:
            # Nobody takes a canary back when its gate dies of one odd answer; a row of errors ends in a verdict.
            phase, message = ERROR, f"{type(error).__name__}: {error}"
        return Measurement(phase, self.clock.time(), value, self.spec.secrets.mask(message))

    def _judge(self, metric: Metric, value: Value) -> tuple[str, str]:
        least = metric.extensions.min_samples
        missing = least.missing(self.query(least.query)) if least else ""
        if missing:
            return INCONCLUSIVE, missing
        return metric.judge(value), metric.extensions.verdict(value)[1]

    def _measured(self, answers: Mapping[str, Measurement], metric: Metric) -> Measurement:
        measurement = answers[metric.name]
        self.order.append((metric.name, measurement))
        result = self.run.results.get(metric.name)
        number = (result.count if result else 0) + 1
        self.report(Check(metric.name, number, _checks(metric), measurement, metric.name in self.spec.dry_run))
        return measurement

    def _wait_until(self, moment: float) -> None:
        while True:
            self._tick()
            rest = moment - self.clock.time()
            if rest <= 0:
                return
            self.clock.sleep(min(rest, _TICK))

    def _tick(self) -> None:
        self.tick()
        if self.clock.time() >= self.end:
            raise _Overdue

    @property
    def last_seen(self) -> str:
        """The last measurement, for the message of a deadline."""
        if not self.order:
            return "no measurement"
        name, measurement = self.order[-1]
        shown = measurement.message if measurement.value is None else format_value(measurement.value)
        return f"{name} {shown} ({measurement.phase}) at {rfc3339(measurement.at)}"


def _nothing() -> None:
    pass


def run_gate(
    spec: GateSpec,
    query: Callable[..., Value],
    clock: Clock,
    report: Callable[[Check], None],
    tick: Callable[[], None] = _nothing,
    deadline: float = math.inf,
) -> GateResult:
    """Measure until the analysis has a verdict, which is returned at once.

    ``query`` is that of a `Prometheus` (an exception makes that measurement an Error) and is called from threads;
    ``report`` is called for each measurement; ``tick`` at least every second of waiting, and may raise to stop.
    Without a verdict after ``deadline`` seconds the phase is Error.
    """
    started = clock.time()
    gate = _Gate(spec, query, clock, report, tick, started + deadline)
    phase = message = ""
    try:
        gate.execute()
    except _Overdue:
        phase, message = ERROR, f"no verdict within the deadline of {deadline:g} s; last seen: {gate.last_seen}"
    return GateResult(
        phase=phase or gate.run.phase,
        message=message or gate.run.message,
        metrics=[metric_report(result) for result in gate.run.results.values()],
        measurements=[_measurement_report(name, measurement) for name, measurement in gate.order],
        started_at=rfc3339(started),
        finished_at=rfc3339(clock.time()),
    )


def metric_report(result: MetricResult) -> dict[str, Any]:
    """A metric as results show it: {name, phase, dry_run, count, successful, ...}."""
    return {name: getattr(result, name) for name in _REPORTED}


def _measurement_report(name: str, measurement: Measurement) -> dict[str, Any]:
    return {
        "metric": name,
        "at": rfc3339(measurement.at),
        "value": None if measurement.value is None else format_value(measurement.value),
        "phase": measurement.phase,
        "message": measurement.message,
    }


def ask_once(spec: GateSpec, query: Callable[..., Value], now: float) -> list[dict[str, Any]]:
    """Check mode: ask each query once, without a verdict. A list of {metric, query, value}; raises PrometheusError.

    The companion query of min_samples is asked, too.
    """
    answers = []
    try:
        for metric in spec.metrics:
            answers.append(_answer(spec, metric.name, metric.query, ask(metric, query, now)))
            least = metric.extensions.min_samples
            if least:
                answers.append(_answer(spec, f"{metric.name} min_samples", least.query, query(least.query)))
    except PrometheusError as error:
        raise PrometheusError(spec.secrets.mask(error.message), error.reason) from None
    return answers


def _answer(spec: GateSpec, metric: str, query: str, value: Value) -> dict[str, Any]:
    return {"metric": metric, "query": spec.secrets.mask(query), "value": format_value(value)}
