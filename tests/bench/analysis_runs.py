#!/usr/bin/env python3
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long 10,000 virtual runs of a five-check analysis take; exits with 1 above the limit."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins" / "module_utils"))

from engines.analysis.metric import Metric
from engines.analysis.run import Measurement, Run
from engines.analysis.template import read_metrics

RUNS = 10_000
LIMIT = 10.0
# The seed's analysis.
METRIC = {
    "name": "success-rate",
    "interval": "1m",
    "count": 5,
    "successCondition": "len(result) == 0 || result[0] >= 0.95",
    "failureLimit": 3,
}


def virtual_run(values: random.Random) -> Run:
    run = Run(read_metrics([METRIC]))
    now = 0.0

    def measure(metric: Metric) -> Measurement:
        value = [values.uniform(0.9, 1.0)]
        return Measurement(metric.judge(value), now, value)

    while not run.completed:
        run.step(now, measure)
        now = run.next_at(now)
    return run


def main() -> int:
    values = random.Random(1)
    started = time.perf_counter()
    measurements = sum(virtual_run(values).taken for _run in range(RUNS))
    seconds = time.perf_counter() - started
    name = f"{RUNS:,} virtual runs, {measurements:,} measurements"
    print(json.dumps({"name": name, "value": round(seconds, 2), "unit": "s", "limit": LIMIT}))
    return 0 if seconds < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
