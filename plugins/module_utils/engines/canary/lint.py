# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with the canary strategy of a Rollout, and with the analyses that it runs.

Errors and warnings are meant as in engines/analysis/lint.py. Paths begin at ``spec.strategy.canary``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..analysis.findings import ERROR, WARNING, Document, Edit, Finding, Path
from ..analysis.lint import DEFAULT_SCRAPE_INTERVAL, Caller, Context, lint_template, used_arguments
from ..analysis.metric import TemplateError
from ..analysis.template import flatten
from .steps import ANALYSIS, SET_WEIGHT, StepError, read_steps

CANARY: Path = ("spec", "strategy", "canary")


class Reference(NamedTuple):
    """Which template an analysis asks for."""

    name: str
    cluster: bool


def referenced(analysis: Any) -> list[Reference]:
    """The templates of an ``analysis``, or of a template's own ``spec.templates``."""
    templates = analysis.get("templates") if isinstance(analysis, Mapping) else None
    entries = templates if isinstance(templates, list) else []
    return [
        Reference(str(entry["templateName"]), bool(entry.get("clusterScope")))
        for entry in entries
        if isinstance(entry, Mapping) and entry.get("templateName")
    ]


def analyses(document: Document) -> list[Path]:
    """The paths of the analyses of a Rollout: of its steps, and the one in the background."""
    steps = document.get((*CANARY, "steps"))
    paths: list[Path] = []
    for place, step in enumerate(steps if isinstance(steps, list) else ()):
        if isinstance(step, Mapping) and step.get(ANALYSIS) is not None:
            paths.append((*CANARY, "steps", place, ANALYSIS))
    return [*paths, (*CANARY, ANALYSIS)] if document.get((*CANARY, ANALYSIS)) else paths


def lint_rollout(
    document: Document,
    templates: Mapping[Reference, Document],
    scrape_interval: float = DEFAULT_SCRAPE_INTERVAL,
) -> list[Finding]:
    """The findings in a Rollout and in its templates, each template once. ``templates`` holds all that are there."""
    strategy = _Strategy(document, templates, scrape_interval)
    return [*strategy.findings(), *strategy.template_findings()]


def _weight(given: Any) -> int | None:
    """The whole number that is meant, also by a string of digits; None for anything else."""
    if isinstance(given, str) and given.isascii() and given.isdigit():
        return int(given)
    return given if isinstance(given, int) and not isinstance(given, bool) else None


class _Strategy:
    def __init__(self, document: Document, templates: Mapping[Reference, Document], scrape_interval: float) -> None:
        self.document = document
        self.templates = templates
        self.scrape_interval = scrape_interval
        self.router = bool(document.get((*CANARY, "trafficRouting")))

    def find(self, rule: str, severity: str, path: Path, reason: str, *edits: Edit) -> Finding:
        line, column = self.document.place(path)
        return Finding(rule, severity, self.document.name, path, reason, edits, "", line, column)

    def edit(self, path: Path, value: Any) -> Edit:
        return Edit(self.document.name, path, value)

    def findings(self) -> Iterator[Finding]:
        yield from self._services()
        found = list(self._steps())
        yield from found
        if not found and not self.router:
            try:
                read_steps(self.document.get(CANARY) or {})
            except StepError as problem:
                yield self.find("invalid-step", ERROR, (*CANARY, "steps"), str(problem))
        for path in analyses(self.document):
            yield from self._analysis(path)

    def _services(self) -> Iterator[Finding]:
        names = [name for name in ("stableService", "canaryService") if self.document.get((*CANARY, name))]
        if self.router or not names:
            return
        reason = (
            f"{' and '.join(names)} split no traffic without trafficRouting: only the number of pods behind the common "
            "Service does, and whoever calls the stable Service keeps traffic from the canary"
        )
        edits = [self.edit((*CANARY, name), None) for name in names]
        yield self.find("service-without-router", WARNING, (*CANARY, names[0]), reason, *edits)

    def _steps(self) -> Iterator[Finding]:
        steps = self.document.get((*CANARY, "steps"))
        highest = 0
        for place, step in enumerate(steps if isinstance(steps, list) else ()):
            weight = step.get(SET_WEIGHT) if isinstance(step, Mapping) else None
            if weight is None:
                continue
            path = (*CANARY, "steps", place, SET_WEIGHT)
            if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= 100:
                meant = _weight(weight)
                edits = [] if meant is None else [self.edit(path, min(100, max(highest, meant)))]
                reason = f"setWeight is {weight!r}; it must be a whole number from 0 to 100"
                yield self.find("weight-out-of-range", ERROR, path, reason, *edits)
            elif weight < highest:
                reason = f"setWeight goes down from {highest} to {weight}: a canary that goes on gets more"
                yield self.find("weight-goes-down", ERROR, path, reason, self.edit(path, highest))
            else:
                highest = weight

    def _analysis(self, path: Path) -> Iterator[Finding]:
        analysis = self.document.get(path)
        asked = referenced(analysis)
        if not asked:
            known = sorted(self.templates)
            entry: dict[str, Any] = {"templateName": known[0].name if known else "success-rate"}
            if known and known[0].cluster:
                entry["clusterScope"] = True
            right = self.edit((*path, "templates"), [entry])
            reason = "an analysis without templates measures nothing: Argo refuses it"
            yield self.find("no-templates", ERROR, (*path, "templates"), reason, right)
            return
        for place, reference in enumerate(asked):
            if reference not in self.templates:
                kind = "ClusterAnalysisTemplate" if reference.cluster else "AnalysisTemplate"
                reason = f"the {kind} {reference.name} does not exist"
                yield self.find("missing-template", ERROR, (*path, "templates", place), reason)
        wanted = self._wanted(asked)
        declared = {
            arg.get("name")
            for reference in wanted
            for arg in self.templates[reference].get(("spec", "args")) or ()
            if isinstance(arg, Mapping)
        }
        try:
            flatten([self.templates[reference].get(("spec",)) for reference in wanted])
        except TemplateError as problem:
            yield self.find("cannot-be-merged", ERROR, (*path, "templates"), f"its templates do not fit: {problem}")
        caller = Caller(self.document, path)
        for name in caller.given:
            if wanted and name not in declared:
                reason = f"the argument {name} is given, and no template of the analysis declares it"
                others = [arg for arg in caller.args if arg["name"] != name]
                right = self.edit((*path, "args"), others or None)
                yield self.find("unused-argument", WARNING, (*path, "args"), reason, right)

    def _wanted(self, asked: Sequence[Reference]) -> list[Reference]:
        """The templates that are there, with those that they refer to."""
        found: list[Reference] = []
        waiting = list(asked)
        while waiting:
            reference = waiting.pop(0)
            if reference in self.templates and reference not in found:
                found.append(reference)
                waiting += referenced(self.templates[reference].get(("spec",)))
        return found

    def template_findings(self) -> Iterator[Finding]:
        callers: dict[Reference, list[Caller]] = {}
        together: dict[Reference, set[Reference]] = {}
        for path in analyses(self.document):
            wanted = self._wanted(referenced(self.document.get(path)))
            for reference in wanted:
                callers.setdefault(reference, []).append(Caller(self.document, path))
                together.setdefault(reference, set()).update(other for other in wanted if other != reference)
        for reference, found in callers.items():
            patterns = [
                rule["metricName"]
                for caller in found
                for rule in self.document.get((*caller.path, "dryRun")) or ()
                if isinstance(rule, Mapping) and isinstance(rule.get("metricName"), str)
            ]
            others = [self.templates[other] for other in sorted(together[reference])]
            context = Context(
                callers=found,
                shared_args=[arg for other in others for arg in other.get(("spec", "args")) or ()],
                used_elsewhere=frozenset(name for other in others for name in used_arguments(other)),
                complete=True,
                endless=all(caller.path == (*CANARY, ANALYSIS) for caller in found),
                router=self.router,
                scrape_interval=self.scrape_interval,
                dry_run=patterns,
            )
            yield from lint_template(self.templates[reference], context)
