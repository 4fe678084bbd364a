# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One gate: reads an analysis from where it stands, checks it, and runs it against Prometheus.

Everything that can be wrong with a template is said before anything is measured.
"""

from __future__ import annotations

import functools
import math
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible.module_utils.basic import missing_required_lib

from ..adapters.kube.errors import NotFound
from ..adapters.kube.kinds import ANALYSIS_TEMPLATE, CLUSTER_ANALYSIS_TEMPLATE
from ..adapters.kube.session import Session
from ..adapters.prometheus import PrometheusError
from ..engines.analysis import shapes
from ..engines.analysis.expression import ExpressionError, Value
from ..engines.analysis.metric import ERROR, FAILED, INCONCLUSIVE, SUCCESSFUL, Metric, TemplateError, format_value
from ..engines.analysis.run import Measurement, MetricResult, Run
from ..engines.analysis.template import RE2_IMPORT_ERROR, dry_run_names, dry_run_patterns, merge_args, read_spec
from ..errors import AirgapError
from ..times import Clock, rfc3339

YAML_IMPORT_ERROR: str | None = None
try:
    import yaml
except ImportError:
    YAML_IMPORT_ERROR = traceback.format_exc()

_MARKS = {SUCCESSFUL: "\u2714", FAILED: "\u2716", INCONCLUSIVE: "?", ERROR: "\u26a0"}
_TICK = 1.0
_TEMPLATE_KINDS = (ANALYSIS_TEMPLATE.kind, CLUSTER_ANALYSIS_TEMPLATE.kind)


@dataclass(frozen=True)
class GateSpec:
    """An analysis ready to run: checked, with all arguments in place."""

    name: str
    metrics: Sequence[Metric]
    dry_run: frozenset[str] = frozenset()

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
    return text


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
        line = f"check {self.number}/{self.of} {self.metric}{shown} {_MARKS[measurement.phase]}"
        if measurement.phase == ERROR:
            line += f" {measurement.message}"
        return f"{line} (dry run)" if self.dry_run else line


@dataclass(frozen=True)
class GateResult:
    """How a gate ended.

    ``phase`` is Successful, Failed, Error or Inconclusive; ``metrics`` is a list of {name, phase, dry_run, count,
    successful, failed, inconclusive, error, message}, ``measurements`` of {metric, at, value, phase, message} in the
    order they were made, with RFC 3339 times and values as text (``[0.98]``, ``[NaN]``, None for an error).
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
    return ", ".join(f"{number:.4g}" for number in values) or "no value"


def load_gate(
    session: Session | None,
    options: Mapping[str, Any],
    namespace: str | None,
    hashes: Mapping[str, str] | None = None,
) -> GateSpec:
    """Read and check an analysis. Raises AirgapError for everything that would make Argo's run an error.

    ``options``: ``template`` (a name), ``cluster_template`` (bool), ``file`` (path of a manifest, ``template``
    then chooses one in it), ``metrics`` (inline, as in a template), ``args`` (name to value, or to
    ``{valueFrom: {podTemplateHashValue: Latest}}``), ``dry_run`` (regular expressions over metric names), ``endless``
    (bool: whether a metric may go on until it is stopped).
    ``hashes`` gives the pod template hashes Latest and Stable. ``session`` is only used to read a template.
    """
    name, found = _find_spec(session, options, namespace)
    try:
        spec = shapes.mapping(found, "spec")
        if spec.get("templates"):
            raise TemplateError("spec.templates is not supported: give each template its own gate")
        supplied = options.get("args") or {}
        declared = shapes.sequence(spec.get("args"), "spec.args")
        if options.get("metrics"):
            declared = [{"name": argument} for argument in supplied]
        metrics = read_spec(spec, merge_args(declared, supplied, hashes), bool(options.get("endless")))
        patterns = [*(options.get("dry_run") or []), *dry_run_patterns(spec)]
        if len(set(patterns)) < len(patterns):
            raise TemplateError("two dryRun rules have the same name")
        if patterns and RE2_IMPORT_ERROR:
            raise AirgapError(missing_required_lib("google-re2"), exception=RE2_IMPORT_ERROR)
        return GateSpec(name, metrics, frozenset(dry_run_names(patterns, metrics)))
    except TemplateError as problem:
        raise AirgapError(f"Analysis {name}: {problem}") from problem
    except RecursionError as problem:
        raise AirgapError(f"Analysis {name}: it is nested too deeply, or contains itself") from problem


def _find_spec(session: Session | None, options: Mapping[str, Any], namespace: str | None) -> tuple[str, Any]:
    template, file, metrics = options.get("template"), options.get("file"), options.get("metrics")
    if metrics and (template or file):
        raise AirgapError("An analysis is either inline metrics or a template, not both")
    if metrics:
        return "(inline)", {"metrics": metrics}
    if file:
        return _from_file(file, template)
    if not template:
        raise AirgapError("An analysis needs a template, a file or inline metrics")
    if session is None:
        raise AirgapError(f"The template {template!r} is in a cluster: give a kubeconfig, or a file")
    kind = CLUSTER_ANALYSIS_TEMPLATE if options.get("cluster_template") else ANALYSIS_TEMPLATE
    if kind is ANALYSIS_TEMPLATE and not namespace:
        raise AirgapError(f"The AnalysisTemplate {template!r} needs a namespace")
    where = None if kind is CLUSTER_ANALYSIS_TEMPLATE else namespace
    name = f"{kind.kind} {where}/{template}" if where else f"{kind.kind} {template}"
    try:
        return name, session.get(kind, template, where).get("spec")
    except NotFound as error:
        raise AirgapError(f"{name} does not exist: {error.message}") from error


def _from_file(path: str, template: str | None) -> tuple[str, Any]:
    if YAML_IMPORT_ERROR:
        raise AirgapError(missing_required_lib("PyYAML"), exception=YAML_IMPORT_ERROR)
    try:
        with open(path, encoding="utf-8") as stream:
            documents = list(yaml.safe_load_all(stream))
    except OSError as error:
        raise AirgapError(f"Cannot read the file {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a time such as 2026-13-01 is a ValueError
        raise AirgapError(f"The file {path} is not YAML: {error}") from error
    found = _templates(path, documents)
    if template is None and len(found) == 1:
        template = next(iter(found))
    if template is None:
        raise AirgapError(f"The file {path} holds {len(found)} analysis templates: name one with template")
    if template not in found:
        raise AirgapError(
            f"The file {path} has no analysis template {template!r} (it has {', '.join(found) or 'none'})"
        )
    return f"{template} in {path}", found[template].get("spec")


def _templates(path: str, documents: Sequence[Any]) -> dict[str, Mapping[str, Any]]:
    """The analysis templates among the documents of a file, by name."""
    found: dict[str, Mapping[str, Any]] = {}
    for number, document in enumerate(documents, 1):
        if not isinstance(document, dict) or document.get("kind") not in _TEMPLATE_KINDS:
            continue
        metadata = document.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not isinstance(name, str):
            raise AirgapError(f"The file {path}, document {number} ({document['kind']}): metadata.name is missing")
        found[name] = document
    return found


class _Overdue(Exception):
    """The deadline has passed without a verdict."""


@dataclass
class _Gate:
    """A run in progress: what the engine decides, asked of Prometheus."""

    spec: GateSpec
    query: Callable[[str], Value]
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
        with ThreadPoolExecutor(max_workers=max(1, len(self.spec.metrics))) as pool:
            while True:
                now = self.clock.time()
                due = self.run.due(now)
                # Argo asks all queries of a step at the same time.
                answers = self._answers({metric.name: pool.submit(self._measure, metric) for metric in due})
                self.run.step(now, functools.partial(self._measured, answers))
                if self.run.completed:
                    return
                self._wait_until(self.run.next_at(self.clock.time()))

    def _answers(self, futures: dict[str, Future[Measurement]]) -> dict[str, Measurement]:
        waiting = set(futures.values())
        while waiting:
            self._tick()
            _done, waiting = wait(waiting, timeout=_TICK)
        return {name: future.result() for name, future in futures.items()}

    def _measure(self, metric: Metric) -> Measurement:
        value: Value | None = None
        try:
            value = self.query(metric.query)
            return Measurement(metric.judge(value), self.clock.time(), value)
        except PrometheusError as error:
            return Measurement(ERROR, self.clock.time(), value, error.message)
        except ExpressionError as error:
            return Measurement(ERROR, self.clock.time(), value, str(error))
        except Exception as error:
            # Nobody takes a canary back when its gate dies of one odd answer; a row of errors ends in a verdict.
            return Measurement(ERROR, self.clock.time(), value, f"{type(error).__name__}: {error}")

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
    query: Callable[[str], Value],
    clock: Clock,
    report: Callable[[Check], None],
    tick: Callable[[], None] = _nothing,
    deadline: float = math.inf,
) -> GateResult:
    """Measure until the analysis has a verdict, which is returned at once.

    ``query`` asks Prometheus (an exception makes that measurement an Error) and is called from threads;
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
        metrics=[_metric_report(result) for result in gate.run.results.values()],
        measurements=[_measurement_report(name, measurement) for name, measurement in gate.order],
        started_at=rfc3339(started),
        finished_at=rfc3339(clock.time()),
    )


def _metric_report(result: MetricResult) -> dict[str, Any]:
    names = ("name", "phase", "dry_run", "count", "successful", "failed", "inconclusive", "error", "message")
    return {name: getattr(result, name) for name in names}


def _measurement_report(name: str, measurement: Measurement) -> dict[str, Any]:
    return {
        "metric": name,
        "at": rfc3339(measurement.at),
        "value": None if measurement.value is None else format_value(measurement.value),
        "phase": measurement.phase,
        "message": measurement.message,
    }


def ask_once(spec: GateSpec, query: Callable[[str], Value]) -> list[dict[str, Any]]:
    """Check mode: ask each query once, without a verdict. A list of {metric, query, value}; raises PrometheusError."""
    return [
        {"metric": metric.name, "query": metric.query, "value": format_value(query(metric.query))}
        for metric in spec.metrics
    ]
