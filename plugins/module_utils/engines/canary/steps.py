# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a canary as data: what they are, what weight is in force, how many pods each means.

Validation follows Argo Rollouts 1.8 (pkg/apis/rollouts/validation/validation.go), the weight in force
GetCurrentSetWeight in utils/replicaset/canary.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .replicas import DEFAULT_FENCEPOST, Counts, IntOrPercent, Scale, goal, settle

SET_WEIGHT, PAUSE, ANALYSIS = "setWeight", "pause", "analysis"

FOLLOWED_ONLY = ("experiment", "plugin")
"""Kinds that the controller does by itself and that leave weight and pods of the canary alone: they are waited for,
under the deadline of every step, and not explained further."""

ROUTER_ONLY = ("setCanaryScale", "setHeaderRoute", "setMirrorRoute")
"""Kinds that Argo Rollouts takes only with a traffic router. They separate traffic from pods, so that neither the
planned counts nor the actual weight shown here would be true: refused."""

_DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))")


class StepError(ValueError):
    """A step that cannot be run or followed; the message names its place in spec.strategy.canary.steps."""


@dataclass(frozen=True)
class Step:
    """One step. ``weight`` is the one in force while it runs; ``duration`` (seconds) is None without an end."""

    index: int
    kind: str
    weight: int
    duration: float | None = None
    templates: tuple[tuple[str, bool], ...] = ()
    """Of an analysis: (name, cluster scope) of each AnalysisTemplate."""

    @property
    def indefinite(self) -> bool:
        """A ``pause: {}``: somebody has to decide."""
        return self.kind == PAUSE and self.duration is None

    @property
    def label(self) -> str:
        """``setWeight 20``, ``pause 30 s``, ``pause``, ``analysis success-rate``."""
        if self.kind == SET_WEIGHT:
            return f"{SET_WEIGHT} {self.weight}"
        if self.kind == PAUSE and self.duration is not None:
            return f"{PAUSE} {self.duration:g} s"
        return " ".join([self.kind, *(name for name, _cluster in self.templates)])


class Planned(NamedTuple):
    """A step with the pods it leads to, every pod being available."""

    step: Step
    counts: Counts


def read_steps(canary: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps of ``spec.strategy.canary``. Raises StepError."""
    if canary.get("trafficRouting"):
        raise StepError("spec.strategy.canary.trafficRouting: a canary behind a traffic router is not supported")
    given = canary.get("steps") or []
    if not isinstance(given, (list, tuple)):
        raise StepError("spec.strategy.canary.steps must be a list")
    steps: list[Step] = []
    weight = 0
    for index, raw in enumerate(given):
        step = _read_step(index, raw, weight)
        weight = step.weight
        steps.append(step)
    return tuple(steps)


def _read_step(index: int, raw: Any, weight: int) -> Step:
    where = f"spec.strategy.canary.steps[{index}]"
    raw = _mapping(where, raw, "{setWeight: 20}")
    kinds = [kind for kind in raw if raw[kind] is not None]
    if len(kinds) != 1:
        raise StepError(f"{where} must have exactly one kind, it has {', '.join(kinds) or 'none'}")
    kind = kinds[0]
    if kind == SET_WEIGHT:
        return Step(index, kind, _weight(where, raw[kind]))
    if kind == PAUSE:
        pause = _mapping(f"{where}.{kind}", raw[kind], "{duration: 10m}")
        return Step(index, kind, weight, duration=_duration(where, pause.get("duration")))
    if kind == ANALYSIS:
        analysis = _mapping(f"{where}.{kind}", raw[kind], "{templates: [{templateName: success-rate}]}")
        templates = analysis.get("templates") or []
        if not isinstance(templates, (list, tuple)):
            raise StepError(f"{where}.{kind}.templates must be a list such as [{{templateName: success-rate}}]")
        return Step(index, kind, weight, templates=tuple(_template(where, template) for template in templates))
    if kind in FOLLOWED_ONLY:
        return Step(index, kind, weight)
    if kind in ROUTER_ONLY:
        raise StepError(f"{where}: {kind} needs a traffic router, which is not supported")
    raise StepError(f"{where}: unknown kind of step {kind!r}")


def _mapping(where: str, value: Any, example: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise StepError(f"{where} is {value!r}; it must be a mapping such as {example}")
    return value


def _weight(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100:
        raise StepError(f"{where}: setWeight is {value!r}; it must be a whole number from 0 to 100")
    return value


def _template(where: str, template: Any) -> tuple[str, bool]:
    template = _mapping(f"{where}.{ANALYSIS}.templates", template, "{templateName: success-rate}")
    if not template.get("templateName"):
        raise StepError(f"{where}: an analysis template has no templateName")
    return str(template["templateName"]), bool(template.get("clusterScope"))


def _duration(where: str, value: Any) -> float | None:
    """Seconds of a pause: a number, a number in a string, or a Go duration (DurationSeconds in v1alpha1/types.go)."""
    if value is None:
        return None
    text = str(value)
    if re.fullmatch(r"\d+", text):
        return float(text)
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(part.group(0) for part in parts) != text:
        raise StepError(f"{where}: pause duration {value!r} is neither seconds nor a duration such as 1m30s")
    return float(int(sum(float(part.group(1)) * _DURATION_UNITS[part.group(2)] for part in parts)))


def plan(
    steps: Sequence[Step],
    replicas: int,
    max_surge: IntOrPercent = DEFAULT_FENCEPOST,
    max_unavailable: IntOrPercent = DEFAULT_FENCEPOST,
) -> list[Planned]:
    """Pods after each step, from a stable version with all its replicas. Raises ReplicaError."""
    planned: list[Planned] = []
    counts = Counts(0, replicas)
    for step in steps:
        wanted = goal(replicas, step.weight, max_surge, max_unavailable)
        counts = settle(wanted, Scale(counts.canary, counts.canary), Scale(counts.stable, counts.stable))
        planned.append(Planned(step, counts))
    return planned


def after_verdict(phase: str) -> str:
    """What a finished analysis means for the canary: ``promote``, or ``abort`` for anything but Successful.

    Argo Rollouts pauses on Inconclusive for a human; a release that runs by itself has nobody to ask, so it aborts.
    """
    return "promote" if phase == "Successful" else "abort"
