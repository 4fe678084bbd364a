# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random cases for the parity commands; the same cases for the same seed.

Usage: ``cases.py conditions|runs|replicas|trees|reachability N SEED`` writes N cases as JSON lines. Conditions and
runs are cases of ``verdicts.py``: one measurement with a condition from the whole grammar, or whole runs with plain
conditions. Replicas are cases of ``replicas.py``, trees of ``trees.py`` (made in ``objects.py``), and those of
``reachability.py`` come from ``policies.py``. Most of the first three make sense, and some are wrong in one place: what
Argo refuses counts too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from random import Random
from typing import Any, TypeVar

from objects import trees
from policies import reachability

Case = dict[str, Any]
T = TypeVar("T")


def weighted(random: Random, *choices: tuple[float, T]) -> T:
    """One of the second members, as often as the first ones weigh."""
    return random.choices([value for _weight, value in choices], [weight for weight, _value in choices])[0]


# --- conditions ---------------------------------------------------------------------------------------------------

NUMBERS = (
    *("0", "1", "2", "3", "7", "100", "-1", "0.5", "0.95", "1.5", "2.0", ".5", "-0.5", "1e3", "1e-3", "1e308"),
    *("0xFF", "1_000", "9223372036854775807"),
)
STRINGS = ("'a'", '"b"', "''", "'ab'", "'\\n'")
ARITHMETIC = ("+", "-", "*", "/", "+", "-", "*", "/", "%", "**", "^")
COMPARISONS = (">", "<", ">=", "<=", "==", "!=")
VECTOR_OPERANDS = ("result[0]", "result[0]", "len(result)", "result[-1]", "result[1]")
VECTOR_TRUTHS = ("true", "false", "result[0] > 0.5", "len(result) == 0", "isNaN(result[0])", "result[9] > 1")
SCALAR_TRUTHS = ("true", "false", "result > 0.5", "isNaN(result)")
# What a slip of the hand puts into a condition.
SLIPS = (*"()[]{}#.,:?!&|=<>*/%^+-'\" 01ex_n", "not ", "foo", "nil", "//", "/*", "*/", "&&", "==", "**")
VALUES = (0, 1, 0.5, 0.95, 0.96, 1.5, 2, 3, 7, 100, -1, 0.1, 1e300, "NaN", "+Inf", "-Inf")


class Grammar:
    """Writes conditions for a result that is a vector or a scalar.

    ``depth`` is how deep an expression may still nest, ``loop`` whether it stands in a closure, where ``#`` is.
    """

    def __init__(self, random: Random, vector: bool) -> None:
        self.random = random
        self.vector = vector

    def condition(self) -> str:
        """A condition; one in eight has a character too many, too few or another one."""
        text = self.truth(self.random.choice((1, 2, 2, 3, 3, 4)), loop=False)
        return self._slip(text) if self.random.random() < 0.12 else text

    def truth(self, depth: int, loop: bool) -> str:
        """An expression that is true or false, if its parts allow."""
        if depth <= 0:
            return self._plain_truth(loop)
        any_of = self.random.choice
        number = partial(self.number, depth - 1, loop)
        truth = partial(self.truth, depth - 1, loop)
        return weighted(
            self.random,
            (10, lambda: self._plain_truth(loop)),
            (35, lambda: f"{number()} {any_of(COMPARISONS)} {number()}"),
            (17, lambda: f"{truth()} {any_of(('&&', '||', 'and', 'or'))} {truth()}"),
            (8, lambda: any_of(("!", "not ", "! ")) + truth()),
            (7, lambda: f"({truth()})"),
            (5, lambda: f"{any_of(('isNaN', 'isInf'))}({number()})"),
            (3, lambda: f"isNil({number()})"),
            (7, lambda: self._quantifier(depth - 1, loop)),
            (3, lambda: f"{truth()} ? {truth()} : {truth()}"),
            (1, lambda: f"{truth()} ?: {truth()}"),
            (2, lambda: f"{number()} not {any_of(('>', '==', '<'))} {number()}"),
            (2, lambda: f"{any_of(STRINGS)} {any_of(('==', '<', '>', '!='))} {any_of(STRINGS)}"),
        )()

    def number(self, depth: int, loop: bool) -> str:
        """An expression that is a number, most of the time."""
        if depth <= 0:
            return self._operand(loop)
        any_of = self.random.choice
        number = partial(self.number, depth - 1, loop)
        return weighted(
            self.random,
            (25, lambda: self._operand(loop)),
            (35, lambda: f"{number()} {any_of(ARITHMETIC)} {number()}"),
            (10, lambda: f"({number()})"),
            (7, lambda: any_of(("-", "+", "- ", "--")) + number()),
            (6, lambda: f"({self.truth(depth - 1, loop)} ? {number()} : {number()})"),
            (5, lambda: f"default({number()}, {number()})"),
            (2, lambda: f"default({number()}, {number()})[{number()}]"),
            (4, lambda: f"result[{number()}]"),
            (2, lambda: f"len({any_of((any_of(STRINGS), 'result', 'default(result,0)'))})"),
            (2, lambda: any_of(STRINGS)),
            (2, lambda: any_of(("nil", "true", f"{any_of(STRINGS)} + {any_of(STRINGS)}"))),
        )()

    def _plain_truth(self, loop: bool) -> str:
        plain = VECTOR_TRUTHS if self.vector else SCALAR_TRUTHS
        return self.random.choice((*plain, "# > 0.5", "isNaN(#)") if loop else plain)

    def _operand(self, loop: bool) -> str:
        any_of = self.random.choice
        if self.random.random() < 0.04:
            operands: tuple[str, ...] = ("result", "result[0]", "result[9]")  # may not fit the type or the length
        elif self.vector:
            operands = (any_of(NUMBERS), any_of(NUMBERS), *VECTOR_OPERANDS)
        else:
            operands = (any_of(NUMBERS), "result")
        return any_of((*operands, *("#" * 4)) if loop else operands)

    def _quantifier(self, depth: int, loop: bool) -> str:
        over = weighted(
            self.random,
            (6, lambda: "result"),
            (1, lambda: "default(result, 0)"),
            (1, lambda: self.number(depth, loop)),
        )()
        closure = self.truth(depth, loop=True)
        if self.random.random() < 0.5:
            closure = "{" + closure + "}"
        return f"{self.random.choice(('all', 'any'))}({over}, {closure})"

    def _slip(self, text: str) -> str:
        at = self.random.randrange(len(text))
        slip = self.random.choice(SLIPS)
        kept = weighted(self.random, (2, text[at:]), (1, text[at + 1 :]))
        return text[:at] + weighted(self.random, (3, slip), (2, "")) + kept


def conditions(random: Random) -> Iterator[Case]:
    """Metrics that end with their only measurement."""
    while True:
        vector = random.random() < 0.65
        values = [random.choice(VALUES) for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3)))]
        grammar = Grammar(random, vector)
        metric = {
            "name": "m",
            "consecutiveErrorLimit": 0,
            "inconclusiveLimit": 1,
            "successCondition": grammar.condition(),
        }
        if random.random() < 0.15:
            metric["failureCondition"] = grammar.condition()
        value = values if vector else random.choice(VALUES)
        yield {"metrics": [metric], "results": {"m": [{"value": value}]}}


# --- runs ---------------------------------------------------------------------------------------------------------

CONDITIONS = (
    *("result[0] >= 0.95", "len(result) == 0 || result[0] >= 0.95", "result > 0.9", "result[0] > 1", "result[0] < 0.5"),
    *("isNaN(result[0])", "result < 0.5", "true", "result <", ""),
)
GOOD: Case = {"value": [0.99]}
RESULTS: tuple[Case, ...] = (
    *({"value": vector} for vector in ([0.99], [0.96], [0.9], [0.3], [], ["NaN"], [2, 3])),
    *({"value": scalar} for scalar in (0.99, 0.3)),
    {"error": "timeout"},
    {"error": "timeout"},
)
# Values that Argo refuses, or understands in a way of its own.
ODD: dict[str, tuple[Any, ...]] = {
    "name": ("m1", "m2", "m10", "err"),
    "interval": ("0s", "0", "", "1m30s", "-5s", "abc"),
    "initialDelay": ("0s", "", "-3s", "abc"),
    "count": (0, -1, 2, "3", "x"),
    "failureLimit": (-2, -1, 9, "1"),
    "inconclusiveLimit": (-1, 3, 9, "1"),
    "consecutiveErrorLimit": (-1, 8, "1"),
    "consecutiveSuccessLimit": (-1, 4, 9, "1"),
}
# Most match a metric, if not all of them do in a run of one.
DRY_RUN = (*("m", "m1", "^m1$", "m[12]", "m1|m2", ".*", "x?", "\\d") * 2, "m2", "m3", "m10", "*", "(")


def runs(random: Random) -> Iterator[Case]:
    """Runs of one to four metrics with their scripted results."""
    while True:
        metrics = [_metric(random, f"m{number + 1}") for number in range(random.choice((1, 1, 2, 2, 3, 4)))]
        if random.random() < 0.01:
            metrics = []
        case: Case = {"metrics": metrics, "results": {metric["name"]: _results(random) for metric in metrics}}
        if random.random() < 0.3:
            case["dryRun"] = random.choices(DRY_RUN, k=random.choice((1, 1, 2)))
        yield case


def _metric(random: Random, name: str) -> Case:
    """A metric that Argo takes, with some of the fields; one in ten has an odd field."""
    count = random.choice((1, 2, 3, 4, 5, 5, 6, 8, 12)) if random.random() < 0.8 else None
    most = count or 4
    failures = random.randint(0, min(3, most))
    successes = random.randint(0, min(4, most - failures))
    if successes and random.random() < 0.1:
        failures = -1  # no limit: a row of successes ends it
    # Without a count an interval makes a run that may never end; each costs as much as a hundred others.
    interval_share = 0.15 if count is None else 0.5 if count == 1 else 1.0
    fields: dict[str, tuple[float, Any]] = {
        "interval": (interval_share, random.choice(("1s", "3s", "5s", "7s", "10s", "20s"))),
        "count": (1.0 if count else 0.0, count),
        "initialDelay": (0.3, random.choice(("0s", "1s", "5s", "10s", "17s"))),
        "failureLimit": (1.0 if failures < 0 else 0.6, failures),
        "inconclusiveLimit": (0.35, random.randint(0, min(2, most))),
        "consecutiveErrorLimit": (0.4, random.choice((0, 1, 2, 4))),
        "consecutiveSuccessLimit": (1.0 if failures < 0 else 0.4, successes),
        "successCondition": (0.9, random.choice(CONDITIONS)),
        "failureCondition": (0.4, random.choice(CONDITIONS)),
    }
    metric = {"name": name, **{field: value for field, (share, value) in fields.items() if random.random() < share}}
    if random.random() < 0.1:
        field = random.choice(list(ODD))
        metric[field] = random.choice(ODD[field])
    return metric


def _results(random: Random) -> list[Case]:
    """What is measured: anything, or good results with something else between them."""
    results = random.choices(RESULTS, k=random.randint(1, 12))
    if random.random() < 0.5:
        return results
    return [GOOD if random.random() < 0.7 else result for result in results]


# --- replicas -----------------------------------------------------------------------------------------------------


def replicas(random: Random) -> Iterator[Case]:
    """Where the counts settle, or one step from ReplicaSets in any state."""
    while True:
        wanted = random.choice((0, 1, 1, 2, 2, 3, 4, 5, 7, 10, random.randint(0, 60), random.randint(0, 300)))
        weight = random.choice((0, 1, 5, 20, 50, 80, 99, 100, random.randint(0, 100)))
        case: Case = {"replicas": wanted, "weight": weight}
        for limit in ("maxSurge", "maxUnavailable"):
            if random.random() < 0.9:
                case[limit] = _limit(random)
        if random.random() < 0.6:
            for name in ("stable", "canary"):
                if random.random() < 0.9:
                    case[name] = _scale(random, wanted + 4)
            if random.random() < 0.4:
                case["older"] = [_scale(random, 3) for _ in range(random.randint(0, 2))]
        yield case


def _limit(random: Random) -> int | str:
    choices: tuple[tuple[float, int | str], ...] = (
        (8, random.randint(0, 6)),
        (2, random.randint(0, 40)),
        (10, f"{random.randint(0, 130)}%"),
    )
    return weighted(random, *choices)


def _scale(random: Random, most: int) -> Case:
    """A ReplicaSet; one that is being scaled down may have more pods available than it wants."""
    spec = random.randint(0, most)
    return {"spec": spec, "available": random.randint(0, spec + (2 if random.random() < 0.2 else 0))}


# --- the command --------------------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[Random], Iterator[Case]]] = {
    "conditions": conditions,
    "runs": runs,
    "replicas": replicas,
    "trees": trees,
    "reachability": reachability,
}


def generate(kind: str, count: int, seed: int) -> Iterator[Case]:
    """``count`` cases of a kind, with ids such as ``runs-7-12``: the seed, and the place among its cases."""
    for place, case in enumerate(islice(KINDS[kind](Random(seed)), count)):
        yield {"id": f"{kind}-{seed}-{place}", **case}


def main() -> None:
    if len(sys.argv) != 4 or sys.argv[1] not in KINDS:
        sys.exit(f"usage: cases.py {'|'.join(KINDS)} N SEED")
    for case in generate(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])):
        print(json.dumps(case))


if __name__ == "__main__":
    main()
