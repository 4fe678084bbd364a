# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How soon a verdict is known after the measurement that decides it, on the lab's Prometheus; how long a demo takes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "build"))

from ansible_collections.lumen.airgap.plugins.module_utils.adapters import prometheus  # noqa: E402
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session  # noqa: E402
from ansible_collections.lumen.airgap.plugins.module_utils.options import PROMETHEUS_OPTIONS  # noqa: E402
from ansible_collections.lumen.airgap.plugins.module_utils.services.analysis import load_gate, run_gate  # noqa: E402
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock  # noqa: E402

QUERY = "vector(1)"
METRIC = {
    "name": "always",
    "interval": "1s",
    "count": 5,
    "successCondition": "result[0] < 1",
    "failureLimit": 2,
    "provider": {"prometheus": {"query": QUERY}},
}


def verdict_delay() -> float:
    """Seconds between Prometheus' answer to the deciding query and the verdict of the gate."""
    session = Session.connect(str(ROOT / ".lab" / "kubeconfig"))
    defaults = {name: option.get("default") for name, option in PROMETHEUS_OPTIONS["prometheus"]["options"].items()}
    answers: list[float] = []
    source = prometheus.connect(defaults, session)

    def query(expression: str) -> list[float] | float:
        value = source.query(expression)
        answers.append(time.monotonic())
        return value

    gate = run_gate(load_gate(session, {"metrics": [METRIC]}, "default"), query, SystemClock(), lambda check: None)
    delay = time.monotonic() - answers[-1]
    if (gate.phase, len(answers)) != ("Failed", 3):
        raise SystemExit(f"the gate ended {gate.phase} after {len(answers)} measurements: {gate.message}")
    return delay


def demo_seconds() -> float:
    """How long two releases take on a lab that is up, one promoted and one rolled back."""
    begin = time.monotonic()
    subprocess.run([sys.executable, str(ROOT / "lab" / "demo.py")], check=True, stdout=sys.stderr)
    return time.monotonic() - begin


def show(name: str, value: float, limit: float) -> None:
    """One measurement in seconds for the runner."""
    print(json.dumps({"name": name, "value": value, "unit": "s", "limit": limit}), flush=True)


def main() -> int:
    """The delay is the worst of five verdicts."""
    show("verdict after the deciding measurement", max(verdict_delay() for _run in range(5)), 1)
    show("demo on a running lab", demo_seconds(), 300)
    return 0


if __name__ == "__main__":
    sys.exit(main())
