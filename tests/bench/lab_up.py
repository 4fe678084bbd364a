# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a developer waits for: the lab from the build cache, the lab that is up already, the memory it takes.

Removes the lab of this machine and brings it up again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "lab"))

from driver.status import memory_in_use  # noqa: E402


def seconds_of(*argv: str) -> float:
    """How long a command of the lab takes; a failure ends the benchmark with what it printed."""
    begin = time.monotonic()
    subprocess.run([sys.executable, str(ROOT / "lab" / "lab.py"), *argv], check=True, stdout=sys.stderr)
    return time.monotonic() - begin


def show(name: str, value: float, unit: str, limit: float) -> None:
    """One measurement for the runner."""
    print(json.dumps({"name": name, "value": value, "unit": unit, "limit": limit}), flush=True)


def main() -> int:
    """Measure, in the order of a developer's day."""
    seconds_of("down")
    show("lab from the build cache", seconds_of("up"), "s", 180)
    show("lab that is up already", seconds_of("up"), "s", 10)
    show("memory in use on the machine", memory_in_use(), "GiB", 6)
    return 0


if __name__ == "__main__":
    sys.exit(main())
