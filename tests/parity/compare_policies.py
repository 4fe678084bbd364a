# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks cyclonus' matcher and ``reachability.py`` the same random cases, and shows where they differ.

Needs cyclonus (``cyclonus/``) built; ``make parity-cyclonus`` does both. cyclonus 0.5.6 reads two selectors otherwise
than Kubernetes: NotIn does not match where the key is absent, and a label with an empty value matches there. So ours
are asked twice: what each case says as cyclonus reads it, where every answer must be equal, and what it says as
Kubernetes does, where the answers that differ are counted. Exits with 1 when one of the first differs. With
``--record``, cyclonus' answers to some of the cases are written to ``recorded/``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from cases import Case, generate
from compare import HERE, RECORDED, Answer, ask
from policies import LABELS, NAMESPACE_LABELS

CYCLONUS = HERE.parents[1] / "build" / "cyclonus" / "cyclonus"
RECORDING = RECORDED / "reachability.jsonl.gz"
COMPARED, KEPT = 5_000, 300
SHOWN = 5
KNOWN = {**LABELS, **NAMESPACE_LABELS}


def as_cyclonus_reads(value: Any) -> Any:
    """The case with selectors that mean in Kubernetes what cyclonus takes those of the case for."""
    if isinstance(value, list):
        return [as_cyclonus_reads(each) for each in value]
    if not isinstance(value, dict):
        return value
    read = {key: as_cyclonus_reads(each) for key, each in value.items()}
    if not {"matchLabels", "matchExpressions"} & read.keys():
        return read
    expressions = list(read.get("matchExpressions", []))
    for each in list(expressions):
        if each["operator"] == "NotIn":
            expressions.append({"key": each["key"], "operator": "Exists"})
    labels = dict(read.get("matchLabels", {}))
    for key in [key for key, value in labels.items() if value == ""]:
        del labels[key]
        others = [other for other in KNOWN[key] if other != ""]
        expressions.append({"key": key, "operator": "NotIn", "values": others})
    return {"matchLabels": labels, "matchExpressions": expressions}


def ask_cyclonus(cases: list[Case]) -> list[Answer]:
    return ask([str(CYCLONUS)], cases)


def ask_ours(cases: list[Case]) -> list[Answer]:
    return ask([sys.executable, str(HERE / "reachability.py")], cases)


def compare(seed: int) -> int:
    """Print what a comparison of fresh cases finds; the number of cases with a difference that has no reason."""
    cases = list(generate("reachability", COMPARED, seed))
    started = time.monotonic()
    theirs = ask_cyclonus(cases)
    took, started = time.monotonic() - started, time.monotonic()
    ours = ask_ours(cases)
    ours_took = time.monotonic() - started
    read = ask_ours([as_cyclonus_reads(case) for case in cases])
    found = [row for row in zip(cases, theirs, read, strict=True) if row[1] != row[2]]
    flows = [each for answer in theirs for each in answer["verdicts"]]
    departing = sum(
        one != other
        for answer, other_answer in zip(theirs, ours, strict=True)
        for one, other in zip(answer["verdicts"], other_answer["verdicts"], strict=True)
    )
    print(f"reachability: {len(cases)} cases, {len(found)} differ; cyclonus {took:.0f} s, ours {ours_took:.0f} s")
    print(f"  {len(flows)} flows, {flows.count('deny')} denied; {departing} differ by how cyclonus reads selectors")
    for case, one, other in found[:SHOWN]:
        print(f"  case: {json.dumps(case)}\n  cyclonus: {json.dumps(one)}\n  ours: {json.dumps(other)}")
    return len(found)


def record(seed: int) -> None:
    """Write some cases with cyclonus' answers."""
    cases = list(generate("reachability", KEPT, seed))
    rows = zip(cases, ask_cyclonus(cases), strict=True)
    lines = "".join(json.dumps({"case": case, "cyclonus": each}, separators=(",", ":")) + "\n" for case, each in rows)
    # The same cases make the same file: no time in it.
    RECORDING.write_bytes(gzip.compress(lines.encode(), mtime=0))
    print(f"reachability: {len(cases)} cases, {RECORDING.stat().st_size} bytes")


def read_recorded() -> Iterator[tuple[Case, Answer]]:
    """Recorded cases, each with cyclonus' answer."""
    with gzip.open(RECORDING, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield row["case"], row["cyclonus"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare reachability.py with cyclonus' matcher.")
    parser.add_argument("--seed", type=int, default=1, help="of the random cases (default: 1)")
    parser.add_argument("--record", action="store_true", help="write cyclonus' answers to recorded/ instead")
    options = parser.parse_args()
    if not CYCLONUS.is_file():
        parser.error(f"{CYCLONUS} is not built: make parity-cyclonus")
    if options.record:
        record(options.seed)
        return 0
    return 1 if compare(options.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
