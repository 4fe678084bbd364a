# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the benchmarks beside this file and prints what they measured against their limits.

Usage: ``run.py [NAME...]``; without names, all of them. A benchmark is a program in this directory that prints one
JSON line for each thing it measured, and exits with 0 when it could measure::

    {"name": "10,000 virtual runs", "value": 3.2, "unit": "s", "limit": 10, "peer": "kubectl apply: 0.6 s"}

``value`` must not exceed ``limit``; both are in ``unit``. ``limit`` and ``peer`` (what another tool needs for the
same, as text) may be left out. Other lines are for the reader of the program itself. Exits with 1 when a limit was
exceeded or a benchmark failed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
DEADLINE = 600.0  # seconds; a benchmark that takes longer hangs


@dataclass
class Row:
    """One measurement, or one benchmark that could not measure."""

    bench: str
    name: str
    measured: str = ""
    limit: str = ""
    peer: str = ""
    failure: str = ""

    @property
    def cells(self) -> list[str]:
        """What the table shows of it."""
        return [self.bench, self.name, self.measured, self.limit, self.failure or "ok", self.peer]


def read(bench: str, line: str) -> Row | None:
    """The measurement a line of output holds; None for a line that holds none."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or not {"name", "value", "unit"} <= set(found):
        return None
    value, unit, limit = found["value"], found["unit"], found.get("limit")
    return Row(
        bench,
        found["name"],
        f"{value:.3g} {unit}",
        "" if limit is None else f"{limit:g} {unit}",
        found.get("peer") or "",
        "" if limit is None or value <= limit else "too slow" if unit in ("s", "ms") else "over the limit",
    )


def measure(program: Path) -> list[Row]:
    """Run one benchmark; what it wrote is shown only when it failed."""
    command = [sys.executable, str(program)]
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
    except subprocess.TimeoutExpired:
        return [Row(program.stem, "", failure=f"no end after {DEADLINE:g} s")]
    rows = [row for row in (read(program.stem, line) for line in ended.stdout.splitlines()) if row]
    if ended.returncode != 0:
        print(ended.stdout + ended.stderr, file=sys.stderr)
        rows.append(Row(program.stem, "", failure=f"exit code {ended.returncode}"))
    elif not rows:
        rows.append(Row(program.stem, "", failure="measured nothing"))
    return rows


def table(rows: list[Row]) -> str:
    """The rows under their headings, in columns as wide as they need."""
    lines = [["bench", "what", "measured", "limit", "verdict", "peer"], *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def main(names: list[str]) -> int:
    """Run what was asked for and print the table."""
    there = {path.stem: path for path in sorted(HERE.glob("*.py")) if path != Path(__file__) and path.stem[0] != "_"}
    unknown = set(names) - set(there)
    if unknown or not there:
        print(f"no such benchmark: {', '.join(sorted(unknown)) or 'there is none'}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in names or there:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += measure(there[name])
    print(table(rows))
    return 1 if any(row.failure for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
