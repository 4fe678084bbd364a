# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is checked of the analyses that the controller will run: conditions and limits of Prometheus metrics.

The controller can do more than our own gate (endless background analyses, arguments from Secrets, range queries,
templates of templates), so that nothing else is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...adapters.kube.session import Session
from ...engines.analysis.expression import ExpressionError, lint
from ...engines.analysis.metric import TemplateError, read_metric
from ...engines.analysis.template import flatten, references, substitute
from ...errors import AirgapError
from ..analysis_templates import Template, collect, in_cluster

_CONDITIONS = ("successCondition", "failureCondition")
_LIMITS = (
    "interval",
    "initialDelay",
    "count",
    "failureLimit",
    "inconclusiveLimit",
    "consecutiveErrorLimit",
    "consecutiveSuccessLimit",
)
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""Stands for an argument that only the controller can read; a field with it is not checked."""


def lint_analysis(session: Session, namespace: str, analysis: Mapping[str, Any], hashes: Mapping[str, str]) -> None:
    """Check the templates that an ``analysis`` of a Rollout refers to, and those that they refer to.

    ``hashes`` gives the pod template hashes Latest and Stable. Raises ``AirgapError`` for a template that does not
    exist, for a condition or a limit that would make the controller's run an error, and for templates that it cannot
    merge.
    """
    found = [(template.title, template.spec or {}) for template in _collect(session, namespace, analysis)]
    args: dict[str, str] = {}
    # Templates of one analysis share their arguments; what the Rollout gives goes first.
    for declared in [*(spec.get("args") or () for _name, spec in found), analysis.get("args") or ()]:
        for arg in declared:
            value = _value(arg, hashes)
            if value != _UNKNOWN or arg.get("valueFrom") or arg["name"] not in args:
                args[arg["name"]] = value
    for name, spec in found:
        for metric in spec.get("metrics") or ():
            try:
                _lint_metric(metric, args)
            except TemplateError as problem:
                raise AirgapError(f"Analysis {name}: metric {metric.get('name')!r}: {problem}") from problem
    try:
        flatten([spec for _name, spec in found])
    except TemplateError as problem:
        raise AirgapError(f"Analysis {', '.join(name for name, _spec in found)}: {problem}") from problem


def _collect(session: Session, namespace: str, analysis: Mapping[str, Any]) -> list[Template]:
    try:
        return collect(in_cluster(session, namespace), references(analysis, "analysis.templates"))
    except TemplateError as problem:
        raise AirgapError(f"Its analysis: {problem}") from problem


def _value(arg: Mapping[str, Any], hashes: Mapping[str, str]) -> str:
    if arg.get("value") is not None:
        return str(arg["value"])
    return hashes.get((arg.get("valueFrom") or {}).get("podTemplateHashValue", ""), "") or _UNKNOWN


def _lint_metric(metric: Mapping[str, Any], args: Mapping[str, str]) -> None:
    prometheus = (metric.get("provider") or {}).get("prometheus")
    if not prometheus or prometheus.get("rangeQuery"):
        return  # what is measured has a shape that we do not know
    conditions = substitute({key: metric[key] for key in _CONDITIONS if metric.get(key)}, args)
    for key, condition in conditions.items():
        if _UNKNOWN in str(condition):
            continue
        try:
            lint(condition)
        except ExpressionError as problem:
            raise TemplateError(f"{key} {condition!r}: {problem}") from problem
    limits = substitute({key: metric[key] for key in _LIMITS if metric.get(key) is not None}, args)
    if not any(_UNKNOWN in str(limit) for limit in limits.values()):
        read_metric(limits)
