#!/usr/bin/env python3
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Templates and arguments of a Rollout's analysis made into metrics, one JSON line in, one out.

In: ``{"id", "templates": [spec], "clusterTemplates": [spec], "args": [as in a Rollout], "dryRun": [{"metricName"}],
"measurementRetention": [...], "rollout": {...}, "stable": hash, "latest": hash}``. Out: whether Argo would refuse them,
and the metrics with their arguments in place.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import _path  # noqa: F401  (makes engines importable)
from _lines import answer_lines
from engines.analysis.field import read_field
from engines.analysis.metric import Metric, TemplateError
from engines.analysis.template import (
    check_retention,
    dry_run_names,
    dry_run_patterns,
    flatten,
    merge_args,
    read_metrics,
)


def resolve(case: dict[str, Any]) -> dict[str, Any]:
    """The output line of one case."""
    try:
        rules = {kind: case.get(kind) for kind in ("dryRun", "measurementRetention")}
        spec = flatten([*case["templates"], *case["clusterTemplates"], rules])
        hashes = {"Latest": case["latest"], "Stable": case["stable"]}
        declared = [arg["name"] for arg in spec["args"]]
        supplied = {arg["name"]: arg for arg in case["args"]}
        # Argo reads all that is supplied, and then passes over what no template declares.
        more = [{"name": name} for name in supplied if name not in declared]
        values = merge_args([*spec["args"], *more], supplied, hashes, partial(read_field, case["rollout"]))
        args = {name: values[name] for name in declared}
        metrics = read_metrics(spec["metrics"], args)
        dry_run = dry_run_names(dry_run_patterns(spec), metrics)
        check_retention(spec, metrics)
    except TemplateError as problem:
        return refusal(case.get("id"), str(problem))
    return {
        "id": case["id"],
        "message": "",
        "refused": False,
        "metrics": [report(metric) for metric in metrics],
        "dryRun": sorted(dry_run),
    }


def refusal(name: Any, reason: str) -> dict[str, Any]:
    """The output line of a case that is refused."""
    return {"id": name, "message": reason, "refused": True, "metrics": [], "dryRun": []}


def report(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "successCondition": metric.success_condition,
        "failureCondition": metric.failure_condition,
        "count": metric.count,
        "failureLimit": metric.failure_limit,
    }


if __name__ == "__main__":
    answer_lines(sys.stdin.buffer, resolve, refusal)
