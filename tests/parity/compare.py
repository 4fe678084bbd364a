# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks Argo Rollouts' own code and the parity commands the same random cases, and shows where they differ.

Needs the oracle (``oracle/``) built; ``make parity-argo`` does both. Exits with 1 when an answer differs, texts of
messages excepted. With ``--record``, Argo's answers to smaller sets of cases are written to ``recorded/`` instead,
where ``test_recorded.py`` compares with them on every machine.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from cases import Case, generate

HERE = Path(__file__).resolve().parent
RECORDED = HERE / "recorded"
ORACLE = HERE.parents[1] / "build" / "oracle" / "oracle"

Answer = dict[str, Any]


class Kind(NamedTuple):
    """How cases of a kind are answered, and how many are compared and recorded."""

    command: str
    compared: int
    recorded: int


KINDS = {
    "conditions": Kind("verdicts", compared=20_000, recorded=3_000),
    "runs": Kind("verdicts", compared=4_000, recorded=500),
    "templates": Kind("templates", compared=10_000, recorded=1_000),
    "replicas": Kind("replicas", compared=20_000, recorded=2_000),
    "trees": Kind("trees", compared=4_000, recorded=250),
}
DEADLINE = 900.0  # seconds; a command that takes longer hangs
SHOWN = 5  # differences of a kind
MOST_RECORDED_MEASUREMENTS = 30


class Difference(NamedTuple):
    """A case with two answers."""

    case: Case
    argo: Answer
    ours: Answer

    def __str__(self) -> str:
        return "\n".join(f"  {name}: {json.dumps(value)}" for name, value in self._asdict().items())


def ask(argv: list[str], cases: list[Case]) -> list[Answer]:
    """A command's answers, one a case."""
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    done = subprocess.run(argv, input=lines, stdout=subprocess.PIPE, text=True, timeout=DEADLINE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def ask_argo(kind: str, cases: list[Case]) -> list[Answer]:
    return ask([str(ORACLE), KINDS[kind].command], cases)


def ask_ours(kind: str, cases: list[Case]) -> list[Answer]:
    return ask([sys.executable, str(HERE / f"{KINDS[kind].command}.py")], cases)


def differences(cases: Iterable[Case], argo: Iterable[Answer], ours: Iterable[Answer]) -> list[Difference]:
    """The cases whose answers differ in more than the message. ValueError when there are not two for each case."""
    answered = (Difference(*row) for row in zip(cases, argo, ours, strict=True))
    return [row for row in answered if _compared(row.argo) != _compared(row.ours)]


def _compared(answer: Answer) -> Answer:
    return {name: value for name, value in answer.items() if name != "message"}


def compare(kind: str, seed: int) -> int:
    """Print what a comparison of fresh cases finds; the number of differences."""
    cases = list(generate(kind, KINDS[kind].compared, seed))
    started = time.monotonic()
    argo = ask_argo(kind, cases)
    argo_took, started = time.monotonic() - started, time.monotonic()
    ours = ask_ours(kind, cases)
    ours_took = time.monotonic() - started
    found = differences(cases, argo, ours)
    print(f"{kind}: {len(cases)} cases, {len(found)} differ; Argo {argo_took:.0f} s, ours {ours_took:.0f} s")
    phases = Counter(answer["phase"] for answer in argo if "phase" in answer)
    if phases:
        print("  Argo's: " + ", ".join(f"{number} {phase}" for phase, number in phases.most_common()))
    for difference in found[:SHOWN]:
        print(difference)
    return len(found)


def record(kind: str, seed: int) -> None:
    """Write as many cases as are kept of a kind, with Argo's answers, without long runs."""
    cases = list(generate(kind, 2 * KINDS[kind].recorded, seed))
    short = (row for row in zip(cases, ask_argo(kind, cases), strict=True) if _is_short(row[1]))
    kept = list(islice(short, KINDS[kind].recorded))
    lines = "".join(json.dumps({"case": case, "argo": argo}, separators=(",", ":")) + "\n" for case, argo in kept)
    # The same cases make the same file: no time in it.
    recorded_at(kind).write_bytes(gzip.compress(lines.encode(), mtime=0))
    print(f"{kind}: {len(kept)} cases, {recorded_at(kind).stat().st_size} bytes")


def _is_short(answer: Answer) -> bool:
    if "phase" not in answer:
        return True
    taken = sum(len(metric["measurements"]) for metric in answer["metrics"].values())
    return taken <= MOST_RECORDED_MEASUREMENTS


def recorded_at(kind: str) -> Path:
    return RECORDED / f"{kind}.jsonl.gz"


def read_recorded(kind: str) -> Iterator[tuple[Case, Answer]]:
    """Recorded cases, each with Argo's answer."""
    with gzip.open(recorded_at(kind), "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield row["case"], row["argo"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the parity commands with Argo Rollouts' own code.")
    parser.add_argument("--seed", type=int, default=1, help="of the random cases (default: 1)")
    parser.add_argument("--record", action="store_true", help="write Argo's answers to recorded/ instead")
    options = parser.parse_args()
    if not ORACLE.is_file():
        parser.error(f"{ORACLE} is not built: make parity-argo")
    if options.record:
        for kind in KINDS:
            record(kind, options.seed)
        return 0
    return 1 if sum(compare(kind, options.seed) for kind in KINDS) else 0


if __name__ == "__main__":
    sys.exit(main())
