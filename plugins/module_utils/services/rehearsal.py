# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rehearsal: reads an analysis and a canary from where they stand, lints them, and runs them on a virtual clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible.module_utils.basic import missing_required_lib

from ..adapters.kube.kinds import ROLLOUT
from ..adapters.kube.session import Session
from ..engines.analysis import promql, shapes
from ..engines.analysis.findings import ERROR, WARNING, Document, Finding, path_text
from ..engines.analysis.metric import ERROR as ERROR_PHASE
from ..engines.analysis.metric import Metric, TemplateError, format_value
from ..engines.analysis.template import RE2_IMPORT_ERROR, dry_run_names
from ..engines.canary.lint import CANARY, Reference, lint_rollout, referenced
from ..engines.canary.objects import read_rollout
from ..engines.canary.rehearsal import ABORTED, Analysis, Canary, Event, Outcome, RehearsalError, rehearse, samples_of
from ..engines.canary.replicas import DEFAULT_FENCEPOST, ReplicaError
from ..engines.canary.series import (
    ANY,
    Answer,
    ByQuery,
    Sample,
    Series,
    SeriesError,
    Timed,
    read_recording,
    read_script,
)
from ..engines.canary.steps import ANALYSIS, Step, StepError, read_steps
from ..errors import AirgapError
from ..times import parse_rfc3339
from .analysis import App, Check, GateSpec, load_gate, metric_report
from .lint import cluster_templates, file_templates, gate_context, lint_gate, read_documents

QueryRange = Callable[[str, float, float, float], Sequence["tuple[float, list[float]]"]]
"""Expression, start, end (epoch seconds) and step (seconds) to times and values."""

#: Stand for the hashes of a Rollout that nobody has asked about.
_HASHES = {"Latest": "latest", "Stable": "stable"}
#: Prometheus answers with 11,000 points of a series at most.
_MOST_POINTS = 10_000
#: Seconds of history beyond what a run needs that goes well: failed queries and pods take time.
_SLACK = 120.0


@dataclass
class Rehearsal:
    """One rehearsal. ``options`` are those of the module; ``session`` is only used for what is in a cluster."""

    session: Session | None
    options: Mapping[str, Any]
    query_range: QueryRange | None = None
    documents: list[Document] = field(init=False)
    rollout: Document = field(init=False)
    """Whose steps are rehearsed; its body is empty when there are none."""

    def __post_init__(self) -> None:
        path = self.options["file"]
        self.documents = read_documents(path) if path else []
        self.rollout = self._find_rollout()

    def run(self) -> dict[str, Any]:
        """Lint, and rehearse when there is a series. Raises AirgapError as the options fail_on and expect say."""
        findings = self.lint()
        report: dict[str, Any] = {
            "changed": False,
            "lint": [finding.as_dict() for finding in findings],
            "verdict": None,
        }
        refused = {"error": (ERROR,), "warning": (ERROR, WARNING), "never": ()}[self.options["fail_on"]]
        told = [f"{finding.severity} {finding}" for finding in findings if finding.severity in refused]
        if told:
            raise AirgapError("The lint has found " + "; ".join(told), **report)
        if self.options["series"]:
            report.update(self._rehearsed(report))
            self._expected(report)
        return report

    def _expected(self, report: Mapping[str, Any]) -> None:
        expect, verdict = self.options["expect"], report["verdict"]
        if expect and verdict["phase"] != expect:
            said = f": {verdict['message']}" if verdict["message"] else ""
            raise AirgapError(f"The verdict is {verdict['phase']}, and {expect} was expected{said}", **report)

    # -- what is rehearsed --

    def _find_rollout(self) -> Document:
        """The Rollout whose steps are rehearsed: of the file if it is there, of the cluster, or made of ``steps``."""
        name, namespace = self.options["rollout"], self.options["namespace"]
        if self.options["steps"]:
            return Document("The option steps", {"spec": {"strategy": {"canary": {"steps": self.options["steps"]}}}})
        if not name:
            return Document("", {})
        for document in self.documents:
            if document.body["kind"] == ROLLOUT.kind and document.get(("metadata", "name")) == name:
                return self._canary_of(document)
        if self.session is None:
            raise AirgapError(f"The Rollout {name!r} is not in the file, and there is no cluster to read it from")
        body = self.session.find(ROLLOUT, name, namespace)
        if body is None:
            raise AirgapError(f"Rollout {namespace}/{name} does not exist.")
        return self._canary_of(Document(f"Rollout {namespace}/{name}", body))

    def _canary_of(self, document: Document) -> Document:
        if not isinstance(document.get(CANARY), Mapping):
            raise AirgapError(f"{document.name} has no spec.strategy.canary, which is what is rehearsed")
        return document

    @property
    def _has_analysis(self) -> bool:
        """Whether an analysis is named, and not only a Rollout that names those it needs."""
        named = self.options["template"] or self.options["metrics"] is not None
        return bool(named) or bool(self.options["file"] and not self._has_own_analyses)

    @property
    def _has_own_analyses(self) -> bool:
        return any(referenced(self.rollout.get(path)) for path in self._paths)

    @property
    def _paths(self) -> list[Any]:
        steps = self.rollout.get((*CANARY, "steps"))
        places = [(*CANARY, "steps", place, ANALYSIS) for place in range(len(steps or ()))]
        return [*places, (*CANARY, ANALYSIS)]

    # -- lint --

    def lint(self) -> list[Finding]:
        """The findings in the analysis and in the Rollout, each object once."""
        options = self.options
        findings: list[Finding] = []
        if self.rollout.body:
            findings += lint_rollout(self.rollout, self._templates(), options["scrape_interval"])
        if self._has_analysis:
            context = dataclasses.replace(
                gate_context(options, options["scrape_interval"]),
                complete=bool(options["series"]),
                router=bool(self.rollout.get((*CANARY, "trafficRouting"))),
            )
            known = {finding.document for finding in findings}
            own = lint_gate(self.session, options, options["namespace"], context)
            findings += [finding for finding in own if finding.document not in known]
        return findings

    def _templates(self) -> dict[Reference, Document]:
        found = file_templates(self.documents)
        if self.session is not None and self.options["namespace"]:
            found = {**cluster_templates(self.session, self.options["namespace"], self.rollout), **found}
        if self.options["metrics"]:
            # Every analysis of the steps runs the metrics that are given here.
            inline = Document("Analysis (inline)", {"spec": {"metrics": self.options["metrics"]}})
            found = {reference: inline for path in self._paths for reference in referenced(self.rollout.get(path))}
        return found

    # -- the run --

    def _rehearsed(self, report: Mapping[str, Any]) -> dict[str, Any]:
        try:
            canary, specs = self._canary()
        except AirgapError as error:
            if not report["lint"]:
                raise
            # What Argo would start all the same, and end at once in an Error.
            return {"verdict": {"phase": ERROR_PHASE, "message": error.message}, **_nothing()}
        try:
            outcome = rehearse(canary, self._series(canary, specs))
        except (RehearsalError, ReplicaError, SeriesError) as error:
            raise AirgapError(f"The rehearsal cannot be run: {error}", **report) from error
        return _report(outcome, _masking(specs))

    def _canary(self) -> tuple[Canary, list[GateSpec]]:
        options = self.options
        strategy: Mapping[str, Any] = self.rollout.get(CANARY) or {}
        try:
            steps = read_steps(strategy)
        except StepError as error:
            raise AirgapError(f"{error}.") from error
        specs: list[GateSpec] = []
        analyses = {
            step.index: self._analysis((*CANARY, "steps", step.index, ANALYSIS), specs)
            for step in steps
            if step.kind == ANALYSIS
        }
        background = self._analysis((*CANARY, ANALYSIS), specs) if strategy.get(ANALYSIS) else None
        self._refuse_arguments()
        gate = None
        if self._has_analysis:
            spec = load_gate(self.session, options, options["namespace"], self._hashes, self._app)
            specs.append(spec)
            gate = Analysis(spec.name, spec.metrics, spec.dry_run)
        replicas = options["replicas"]
        if replicas is None:
            replicas = self.rollout.get(("spec", "replicas"))
        limits = {
            "max_surge": options["max_surge"] or strategy.get("maxSurge", DEFAULT_FENCEPOST),
            "max_unavailable": options["max_unavailable"] or strategy.get("maxUnavailable", DEFAULT_FENCEPOST),
        }
        canary = Canary(
            steps,
            analyses,
            background,
            gate,
            1 if replicas is None else replicas,
            **{name: _pods(value) for name, value in limits.items()},
            pod_ready_seconds=options["pod_ready_seconds"],
        )
        return canary, specs

    def _analysis(self, path: Any, specs: list[GateSpec]) -> Analysis:
        """What one analysis of the Rollout measures: its templates together, with its arguments."""
        found = []
        given = {arg["name"]: arg for arg in self.rollout.get((*path, "args")) or ()}
        args = {name: arg if arg.get("valueFrom") else arg.get("value") for name, arg in given.items()}
        for reference in referenced(self.rollout.get(path)):
            options = {**self.options, "args": {**args, **self.options["args"]}, "endless": path == (*CANARY, ANALYSIS)}
            if not options["metrics"]:
                here = reference in file_templates(self.documents)
                options |= {"template": reference.name, "cluster_template": reference.cluster}
                options["file"] = self.options["file"] if here else None
            options["args"] = {name: value for name, value in options["args"].items() if self._takes(reference, name)}
            found.append(load_gate(self.session, options, self.options["namespace"], self._hashes, self._app))
            if options["metrics"]:
                break
        if not found:
            raise AirgapError(f"{self.rollout.name}: {path_text(path)} has no templates, and Argo refuses it")
        specs += found
        metrics = [metric for spec in found for metric in spec.metrics]
        dry_run = self._watched(path, metrics).union(*(spec.dry_run for spec in found))
        return Analysis(", ".join(spec.name for spec in found), metrics, dry_run)

    def _watched(self, path: Any, metrics: Sequence[Metric]) -> frozenset[str]:
        """The metrics that the Rollout's own ``dryRun`` keeps from deciding, over all templates of the analysis."""
        try:
            rules = shapes.named(self.rollout.get((*path, "dryRun")), f"{path_text(path)}.dryRun", "metricName")
            if rules and RE2_IMPORT_ERROR:
                raise AirgapError(missing_required_lib("google-re2"), exception=RE2_IMPORT_ERROR)
            return frozenset(dry_run_names([rule["metricName"] for rule in rules], metrics))
        except TemplateError as error:
            raise AirgapError(f"{self.rollout.name}: {error}") from error

    def _takes(self, reference: Reference, name: str) -> bool:
        """Whether a template declares an argument; Argo leaves aside what a Rollout gives beyond that."""
        if self.options["metrics"]:
            return True
        template = self._templates().get(reference)
        declared = template.get(("spec", "args")) if template else None
        nested = bool(template and template.get(("spec", "templates")))
        return nested or any(arg.get("name") == name for arg in declared or () if isinstance(arg, Mapping))

    def _refuse_arguments(self) -> None:
        """Each analysis gets those of ``args`` that it declares; one that none declares is misspelt."""
        if self._has_analysis:
            return  # which reads its own arguments strictly
        asked = [reference for path in self._paths for reference in referenced(self.rollout.get(path))]
        lost = [name for name in self.options["args"] if not any(self._takes(each, name) for each in asked)]
        if lost:
            raise AirgapError(
                f"The option args has {', '.join(lost)}, which no template of {self.rollout.name} declares"
            )

    @property
    def _hashes(self) -> dict[str, str]:
        if not self.rollout.get(("status",)):
            return _HASHES
        view = read_rollout(self.rollout.body)
        return {"Latest": view.hash or "latest", "Stable": view.stable or "stable"}

    @property
    def _app(self) -> App | None:
        return App(ROLLOUT, self.options["rollout"]) if self.options["rollout"] and self.session else None

    # -- the series --

    def _series(self, canary: Canary, specs: Sequence[GateSpec]) -> Series:
        series = self.options["series"]
        metrics = [metric for spec in specs for metric in spec.metrics]
        if series.get("scripted") is not None:
            names = {each for metric in metrics for each in (metric.name, samples_of(metric.name))}
            unknown = sorted(set(series["scripted"]) - names)
            if unknown:
                there = ", ".join(metric.name for metric in metrics)
                raise SeriesError(f"series.scripted has {', '.join(unknown)}, and the metrics are {there}")
            return read_script(series["scripted"])
        if series.get("recorded"):
            return _recorded(series["recorded"])
        return self._history(series["history"], canary, specs)

    def _history(self, history: Mapping[str, Any], canary: Canary, specs: Sequence[GateSpec]) -> Series:
        """The answers that Prometheus would have given from a past moment on."""
        if self.query_range is None:
            raise AirgapError("A series of history needs a Prometheus")
        start = _moment("series.history.start", history["start"])
        end = _moment("series.history.end", history["end"]) if history.get("end") else start + _needed(canary, specs)
        if end <= start:
            raise AirgapError(f"series.history.end ({history['end']}) must be after series.history.start")
        metrics = [metric for spec in specs for metric in spec.metrics]
        step = history.get("step") or _step(metrics)
        step = max(step, (end - start) / _MOST_POINTS)
        found: dict[str, Series] = {}
        for query in dict.fromkeys(query for metric in metrics for query in _queries(metric)):
            points = self.query_range(query, start, end, step)
            scalar = _is_scalar(query)
            samples = [Sample(at, Answer(values[0] if scalar else values)) for at, values in points]
            found[query] = Timed({ANY: samples}, start, reach=0.51 * step)
        return ByQuery(found)


def _queries(metric: Metric) -> Iterator[str]:
    yield metric.query
    if metric.extensions.min_samples:
        yield metric.extensions.min_samples.query


def _is_scalar(query: str) -> bool:
    """Prometheus answers a range of a scalar with the same kind of matrix as that of a vector."""
    try:
        return promql.read_query(query).type == promql.SCALAR
    except promql.QueryError:
        return False


def _step(metrics: Sequence[Metric]) -> float:
    """Fine enough to have a sample near every measurement."""
    intervals = [metric.interval for metric in metrics if metric.interval] or [60.0]
    return max(1.0, min(min(intervals) / 4, 15.0))


def _needed(canary: Canary, specs: Sequence[GateSpec]) -> float:
    pauses = sum(step.duration or 0.0 for step in canary.steps)
    pods = 4 * canary.pod_ready_seconds * max(1, len(canary.steps))
    pause_gates = sum(1 for step in canary.steps if step.indefinite) or 1
    return sum(spec.shortest for spec in specs) * pause_gates + pauses + pods + _SLACK


def _moment(option: str, text: str) -> float:
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise AirgapError(f"The option {option} must be a time such as 2026-01-01T00:00:00Z, not {text!r}") from error


def _recorded(path: str) -> Series:
    try:
        with open(path, encoding="utf-8") as stream:
            return read_recording(stream.read())
    except (OSError, UnicodeDecodeError) as error:
        raise AirgapError(f"Cannot read the recording {path}: {error}") from error
    except SeriesError as error:
        raise AirgapError(f"The recording {path} cannot be used: {error}") from error


def _pods(value: Any) -> Any:
    """A number of pods that came as text, which Ansible's options and templates like to make of it."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


# -- the report ------------------------------------------------------------------------------------------------------


def _nothing() -> dict[str, Any]:
    return {"outcome": ABORTED, "duration": 0.0, "timeline": [], "pods": [], "metrics": [], "measurements": []}


def _masking(specs: Sequence[GateSpec]) -> Callable[[str], str]:
    def mask(text: str) -> str:
        for spec in specs:
            text = spec.secrets.mask(text)
        return text

    return mask


def _report(outcome: Outcome, mask: Callable[[str], str]) -> dict[str, Any]:
    return {
        "verdict": {"phase": outcome.phase, "message": mask(outcome.message)},
        "outcome": outcome.outcome,
        "duration": outcome.finished_at,
        "timeline": [{"at": event.at, "event": event.kind, "text": mask(_text(event))} for event in outcome.events],
        "pods": [_pods_row(event) for event in outcome.events if event.kind == "pods"],
        "metrics": [{"analysis": name, **metric_report(result)} for name, result in outcome.results],
        "measurements": [_measurement(event, mask) for event in outcome.events if event.kind == "measurement"],
    }


def _text(event: Event) -> str:
    detail = event.detail
    if event.kind == "step":
        return _label(detail["step"])
    if event.kind == "pods":
        counts = detail["counts"]
        return f"{counts.canary} canary / {counts.stable} stable ({counts.weight} % actual)"
    if event.kind == "measurement":
        return str(_check(event))
    if event.kind == "pause":
        return "promoted by its gate" if detail["by"] == "gate" else "somebody promotes it"
    if event.kind == "analysis":
        return f"{detail['analysis']}: {detail['phase']}" + (f", {detail['message']}" if detail["message"] else "")
    return str(detail["outcome"])


def _label(step: Step) -> str:
    return f"step {step.index}: {step.label}"


def _check(event: Event) -> Check:
    detail = event.detail
    checks = max(detail["metric"].effective_count or 1, 1)
    return Check(detail["metric"].name, detail["number"], checks, detail["measurement"], detail["dry_run"])


def _pods_row(event: Event) -> dict[str, Any]:
    counts = event.detail["counts"]
    return {
        "at": event.at,
        "weight": event.detail["weight"],
        "canary": counts.canary,
        "stable": counts.stable,
        "actual_weight": counts.weight,
    }


def _measurement(event: Event, mask: Callable[[str], str]) -> dict[str, Any]:
    measurement = event.detail["measurement"]
    return {
        "analysis": event.detail["analysis"],
        "metric": event.detail["metric"].name,
        "at": event.at,
        "value": None if measurement.value is None else format_value(measurement.value),
        "phase": measurement.phase,
        "message": mask(measurement.message),
    }
