# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Canary and stable pod counts, one JSON line in, one out: see docs of the engine ``canary/replicas``."""

from __future__ import annotations

import json
import sys
from typing import Any

import _path  # noqa: F401  (puts the engines on sys.path)
from engines.canary.replicas import DEFAULT_FENCEPOST, Counts, ReplicaError, Scale, goal, settle, step


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """One case of the contract; a case that Argo would refuse answers with ``error``."""
    try:
        wanted = goal(
            case["replicas"],
            case["weight"],
            case.get("maxSurge", DEFAULT_FENCEPOST),
            case.get("maxUnavailable", DEFAULT_FENCEPOST),
        )
        counts = _counts(case, wanted)
    except (KeyError, TypeError, ReplicaError) as error:
        return {"id": case.get("id"), "error": f"{type(error).__name__}: {error}"}
    return {"id": case.get("id"), "canary": counts.canary, "stable": counts.stable}


def _counts(case: dict[str, Any], wanted: Any) -> Counts:
    stable = _scale(case.get("stable"), Scale(wanted.replicas, wanted.replicas))
    canary = _scale(case.get("canary"), Scale(0, 0))
    if not {"stable", "canary", "older"} & case.keys():
        return settle(wanted, canary, stable)
    return step(wanted, canary, stable, [Scale(**scale) for scale in case.get("older") or []])


def _scale(given: dict[str, int] | None, default: Scale) -> Scale:
    return default if given is None else Scale(given["spec"], given["available"])


def main() -> None:
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(answer(json.loads(line))))


if __name__ == "__main__":
    main()
