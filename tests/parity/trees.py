# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kubectl plugin prints of a Rollout, one JSON line in, one out: see the engine ``canary/tree``.

In: ``{"id", "now": RFC 3339, "rollout": object, "replicaSets", "pods", "experiments", "analysisRuns": [objects]}``.
Out: ``{"id", "text"}``.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import _path  # noqa: F401  (puts the engines on sys.path)
from _lines import answer_lines
from engines.canary.tree import Parts, describe, render


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """One case."""
    parts = Parts(*(case.get(key) or () for key in ("replicaSets", "pods", "analysisRuns", "experiments")))
    now = datetime.fromisoformat(case["now"].replace("Z", "+00:00")).timestamp()
    return {"id": case.get("id"), "text": render(describe(case["rollout"], parts), now)}


def refusal(name: Any, reason: str) -> dict[str, Any]:
    """The output line of a case, or of a line, without an answer."""
    return {"id": name, "error": reason}


if __name__ == "__main__":
    answer_lines(sys.stdin.buffer, answer, refusal)
