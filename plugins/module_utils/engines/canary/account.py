# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the journal of a release keeps of the course of its canary, so that a run that takes it up can tell it.

Any entry of the canary may have ``seen``, what was learned since the one before: ``{hash, steps, pods, measurements,
conditions}``, each only when there is something new in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .follow import RUNNING
from .journal import ABORTING, GATE

Entries = Sequence[Mapping[str, Any]]

#: How much of each is kept in one journal: pods that come and go, and a background analysis, have no end.
LIMIT = 1000


class Account:
    """What the entries of a journal tell of the canary."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        seen = _once([entry["seen"] for entry in entries if entry.get("seen")])
        self.pods: list[dict[str, Any]] = [each for part in seen for each in part.get("pods") or ()]
        self.measurements: list[dict[str, Any]] = [each for part in seen for each in part.get("measurements") or ()]
        self.conditions: dict[str, str] = {}
        self._steps: dict[str, dict[int, dict[str, Any]]] = {}
        for part in seen:
            self.conditions.update(part.get("conditions") or {})
            for step in part.get("steps") or ():
                self._steps.setdefault(str(part.get("hash") or ""), {})[int(step["index"])] = step

    def steps(self, hash: str) -> dict[int, dict[str, Any]]:
        """Those that were over, as they were known last, by their index."""
        return dict(self._steps.get(hash, {}))

    def all_steps(self) -> list[dict[str, Any]]:
        """Those of the newest template, for whoever does not see the canary any more. An abort tells them in full."""
        aborted = [entry["steps"] for entry in self._entries if entry["phase"] == ABORTING and entry.get("steps")]
        if aborted:
            return list(aborted[0])
        newest = list(self._steps)[-1:]
        return [step for hash in newest for _index, step in sorted(self._steps[hash].items())]

    def all_measurements(self) -> list[dict[str, Any]]:
        """With those of our own gates."""
        gates = [entry for entry in self._entries if entry["phase"] == GATE]
        found = [*self.measurements, *gate_measurements(gates)]
        return sorted(found, key=lambda each: str(each["at"]))

    def news(
        self,
        hash: str,
        steps: Iterable[Mapping[str, Any]],
        pods: Sequence[Mapping[str, Any]],
        measurements: Iterable[Mapping[str, Any]],
        conditions: Mapping[str, str],
    ) -> dict[str, Any]:
        """``seen`` of the next entry; empty when nothing is new. ``pods`` go on from those that are known."""
        known = self.steps(hash)
        over = {int(step["index"]): dict(step) for step in steps if step["result"] != RUNNING}
        room = max(0, LIMIT - len(self.measurements))
        found = {
            "steps": [step for index, step in over.items() if known.get(index) != step] if hash else [],
            "pods": [dict(each) for each in pods[len(self.pods) : LIMIT]],
            "measurements": beyond(self.measurements, measurements)[:room],
            "conditions": {name: text for name, text in conditions.items() if self.conditions.get(name) != text},
        }
        news: dict[str, Any] = {name: value for name, value in found.items() if value}
        return {"hash": hash, **news} if news else {}


def by_hand(steps: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What somebody has promoted: ``{index, kind, what}`` of each step, ``what`` being skipped or ended."""
    return [
        {"index": step["index"], "kind": step["kind"], "what": "skipped" if step["result"] == "skipped" else "ended"}
        for step in steps
        if step.get("by_hand")
    ]


def told_by_hand(promoted: Iterable[Mapping[str, Any]]) -> str:
    """In words: ``step 2 (analysis) skipped, step 4 (pause) ended``."""
    return ", ".join(f"step {int(each['index']) + 1} ({each['kind']}) {each['what']}" for each in promoted)


def _once(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what stands there twice in a row: written, and written again because the answer was lost."""
    return [part for number, part in enumerate(parts) if number == 0 or part != parts[number - 1]]


def beyond(known: Iterable[Mapping[str, Any]], found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What is ``found`` and not ``known``: times are whole seconds and values repeat, so that they are counted."""
    left = Counter(_key(each) for each in known)
    more = []
    for each in found:
        key = _key(each)
        if left[key] > 0:
            left[key] -= 1
        else:
            more.append(dict(each))
    return more


def gate_measurements(gates: Entries) -> list[dict[str, Any]]:
    """Of entries about our own gates, each with the name of its run."""
    return [
        {"run": f"gate-{gate['hash']}-{gate['index']}", **check} for gate in gates for check in gate["measurements"]
    ]


def _key(measurement: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(measurement.get(name)) for name in ("run", "metric", "at", "value", "phase"))
