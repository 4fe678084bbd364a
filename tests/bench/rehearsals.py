# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long rehearsals and lints take, beside Argo's own controller code on the same runs.

A rehearsal is the seed's canary, two analyses of five checks each among its steps, or one analysis of five checks
alone. Seconds are those of a processor, which other work on the machine does not change much. The peer runs the one
analysis through the reconciler of Argo Rollouts on a virtual clock (``make oracle``); its runs are fewer, and the time
is counted up.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins" / "module_utils"))

from engines.analysis.findings import Document
from engines.analysis.lint import lint_template
from engines.analysis.template import read_metrics
from engines.canary.rehearsal import Analysis, Canary, rehearse
from engines.canary.series import read_script
from engines.canary.steps import read_steps

ORACLE = Path(__file__).resolve().parents[2] / "build" / "oracle" / "oracle"
RUNS, PEER_RUNS = 10_000, 500
LIMIT = 10.0
DEADLINE = 300.0
# The seed's analysis and steps.
METRIC = {
    "name": "success-rate",
    "interval": "1m",
    "count": 5,
    "successCondition": "len(result) == 0 || result[0] >= 0.95",
    "failureLimit": 3,
}
QUERY = 'sum(rate(ok{app="lumen-api"}[2m])) / sum(rate(all{app="lumen-api"}[2m]))'
ANALYSIS = {"analysis": {"templates": [{"templateName": "success-rate"}]}}
STEPS = [{"setWeight": 20}, ANALYSIS, {"setWeight": 80}, ANALYSIS, {"setWeight": 100}]


def scripts(count: int) -> list[list[float]]:
    """What each run measures: a third of it below the limit."""
    values = random.Random(1)
    return [[values.uniform(0.925, 1.0) for _check in range(10)] for _run in range(count)]


def timed(what: Callable[[], Any]) -> float:
    started = time.process_time()
    what()
    return time.process_time() - started


def gates() -> None:
    """One analysis each, from the template on."""
    for script in scripts(RUNS):
        rehearse(Canary(gate=Analysis("t", read_metrics([METRIC]))), read_script({"success-rate": script}))


def canaries() -> None:
    """The whole canary each."""
    steps = read_steps({"steps": STEPS})
    analysis = Analysis("t", read_metrics([METRIC]))
    canary = Canary(steps, {1: analysis, 3: analysis}, replicas=2, pod_ready_seconds=5)
    for script in scripts(RUNS):
        rehearse(canary, read_script({"success-rate": script}))


def lints() -> None:
    metric = {**METRIC, "provider": {"prometheus": {"query": QUERY}}}
    for _run in range(1000):
        lint_template(Document("t", {"spec": {"metrics": [metric]}}))


def peer() -> str:
    """Argo's reconciler over some of the same runs."""
    if not ORACLE.is_file():
        return "Argo's code is not built: make oracle"
    lines = [
        json.dumps(
            {"id": str(place), "metrics": [METRIC], "results": {"success-rate": [{"value": [v]} for v in script]}}
        )
        for place, script in enumerate(scripts(RUNS)[:PEER_RUNS])
    ]
    command = [str(ORACLE), "verdicts"]
    text = "\n".join(lines) + "\n"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=DEADLINE, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    ours = [_phase(script) for script in scripts(RUNS)[:PEER_RUNS]]
    theirs = [json.loads(line)["phase"] for line in done.stdout.splitlines()]
    if ours != theirs:
        sys.exit("Argo's verdicts are others")
    return f"Argo's reconciler: {seconds * RUNS / PEER_RUNS:.0f} s, counted up from {PEER_RUNS}; same verdicts"


def _phase(script: list[float]) -> str:
    gate = Canary(gate=Analysis("t", read_metrics([METRIC])))
    return rehearse(gate, read_script({"success-rate": script})).phase


def main() -> None:
    beside = peer()
    for name, what, limit, other in (
        (f"{RUNS:,} rehearsals of a five-check run", gates, LIMIT, beside),
        (f"{RUNS:,} rehearsals of a canary with two", canaries, None, ""),
        ("1,000 lints of the seed's template", lints, None, ""),
    ):
        row = {"name": name, "value": round(timed(what), 2), "unit": "s", "limit": limit, "peer": other}
        print(json.dumps({key: value for key, value in row.items() if value is not None}))


if __name__ == "__main__":
    main()
