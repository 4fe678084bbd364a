# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is checked of the analyses that the controller will run: conditions and limits of Prometheus metrics.

The controller can do more than our own gate (endless background analyses, arguments from Secrets, range queries,
templates of templates), so that nothing else is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...adapters.kube.kinds import ANALYSIS_TEMPLATE, CLUSTER_ANALYSIS_TEMPLATE
from ...adapters.kube.session import Session
from ...engines.analysis.expression import ExpressionError, lint
from ...engines.analysis.metric import TemplateError, read_metric
from ...engines.analysis.template import substitute
from ...errors import AirgapError

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
    exist, and for a condition or a limit that would make the controller's run an error.
    """
    found: dict[str, Mapping[str, Any]] = {}
    _collect(session, namespace, analysis.get("templates") or (), found)
    args: dict[str, str] = {}
    # Templates of one analysis share their arguments; what the Rollout gives goes first.
    for declared in [*(spec.get("args") or () for spec in found.values()), analysis.get("args") or ()]:
        for arg in declared:
            value = _value(arg, hashes)
            if value != _UNKNOWN or arg.get("valueFrom") or arg["name"] not in args:
                args[arg["name"]] = value
    for name, spec in found.items():
        for metric in spec.get("metrics") or ():
            try:
                _lint_metric(metric, args)
            except TemplateError as problem:
                raise AirgapError(f"Analysis {name}: metric {metric.get('name')!r}: {problem}") from problem


def _collect(
    session: Session, namespace: str, references: Sequence[Mapping[str, Any]], found: dict[str, Mapping[str, Any]]
) -> None:
    for reference in references:
        template, cluster = reference["templateName"], bool(reference.get("clusterScope"))
        kind, where = (CLUSTER_ANALYSIS_TEMPLATE, None) if cluster else (ANALYSIS_TEMPLATE, namespace)
        name = f"{kind.kind} {where}/{template}" if where else f"{kind.kind} {template}"
        if name in found:
            continue
        body = session.find(kind, template, where)
        if body is None:
            raise AirgapError(f"{name} does not exist.")
        found[name] = body.get("spec") or {}
        _collect(session, namespace, found[name].get("templates") or (), found)


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
