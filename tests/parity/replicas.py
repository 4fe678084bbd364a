# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Canary and stable pod counts, one JSON line in, one out: see docs of the engine ``canary/replicas``."""

from __future__ import annotations

import sys
from typing import Any

import _path  # noqa: F401  (puts the engines on sys.path)
from _lines import answer_lines
from engines.canary.replicas import DEFAULT_FENCEPOST, Counts, ReplicaError, Scale, goal, read_scale, settle, step


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """One case of the contract. Raises for what Argo would refuse."""
    missing = {"replicas", "weight"} - case.keys()
    if missing:
        raise ReplicaError(f"{' and '.join(sorted(missing))} must be given")
    wanted = goal(
        case["replicas"],
        case["weight"],
        case.get("maxSurge", DEFAULT_FENCEPOST),
        case.get("maxUnavailable", DEFAULT_FENCEPOST),
    )
    counts = _counts(case, wanted)
    return {"id": case.get("id"), "canary": counts.canary, "stable": counts.stable}


def refusal(name: Any, reason: str) -> dict[str, Any]:
    """The output line of a case, or of a line, without an answer."""
    return {"id": name, "error": reason}


def _counts(case: dict[str, Any], wanted: Any) -> Counts:
    stable = _scale("stable", case.get("stable"), Scale(wanted.replicas, wanted.replicas))
    canary = _scale("canary", case.get("canary"), Scale(0, 0))
    if not {"stable", "canary", "older"} & case.keys():
        return settle(wanted, canary, stable)
    older = case.get("older")
    if not isinstance(older, (list, type(None))):
        raise ReplicaError(f"older must be a list, not {older!r}")
    return step(wanted, canary, stable, [read_scale(f"older[{i}]", scale) for i, scale in enumerate(older or [])])


def _scale(name: str, given: Any, default: Scale) -> Scale:
    return default if given is None else read_scale(name, given)


if __name__ == "__main__":
    answer_lines(sys.stdin.buffer, answer, refusal)
