# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random cases for the parity commands; the same cases for the same seed.

Usage: ``cases.py KIND N SEED`` writes N cases of a kind as JSON lines. Conditions and runs are cases of
``verdicts.py``: one measurement with a condition from the whole grammar, or whole runs with plain conditions. Templates
are cases of ``templates.py``, replicas of ``replicas.py``, trees of ``trees.py`` (made in ``objects.py``), and those of
``reachability.py`` come from ``policies.py``. Most of the first four make sense, and some are wrong in one place: what
Argo refuses counts too.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from random import Random
from typing import Any, NamedTuple, TypeVar

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
STRINGS = ("'a'", '"b"', "''", "'ab'", "'\\n'", "'a,b'", "' a '", "'0.95'", "'7'", "'Ä'", "'b'", "'1h30m'", "'NaN'")
ARITHMETIC = (*("+", "-", "*", "/") * 4, "%", "**", "**", "^")
COMPARISONS = (">", "<", ">=", "<=", "==", "!=")
VECTOR_OPERANDS = ("result[0]", "result[0]", "len(result)", "result[-1]", "result[1]")
VECTOR_TRUTHS = (
    *("true", "false", "len(result) == 0", "isNaN(result[0])", "result[9] > 1"),
    *("result[0] > 0.5", "any(result, # > 1)", "len(result) > 0 && result[-1] <= 1"),
)
SCALAR_TRUTHS = ("true", "false", "result > 0.5", "isNaN(result)")
LISTS = (
    "[]",
    "[1, 2, 3]",
    "[0.5, 0.95]",
    "['a', 'b']",
    "[1, 'a', nil, true]",
    "[[1, 2], [3]]",
    "1..3",
    "-1..2",
    "3..1",
)
MAPS = ("{}", "{a: 1, b: 2}", "{'a': 0.5, 'b': 'x'}", "{a: {b: 1}}", "{(string(1)): nil}", "{1: true, 'c': [1, 2]}")
PATTERNS = ("'a'", "'^a'", "'[ab]+$'", "'('", "'.'", "''", "'A|b'", "'(?i)B'", r"'\\\\d+'", r"'\\\\C'")
JSON = ("'1'", "'[1, 2.5, null]'", """'{"a": [1, {"b": true}]}'""", "'{'", "'nope'", """'"x"'""")
# Of one argument; what they take most of the time, and what they give.
NUMBERS_OF_NUMBER = ("abs", "ceil", "floor", "round", "int", "float", "asInt", "asFloat", "abs", "floor", "round")
NUMBERS_OF_LIST = ("len", "sum", "mean", "median", "first", "last")
TEXTS_OF_TEXT = ("upper", "lower", "trim", "trimPrefix", "trimSuffix", "toBase64", "fromBase64")
DURATIONS = ("'1h30m'", "'0'", "'1.5s'", "'-90ms'", "'1h'", "'x'", "'100us'")
DURATION_METHODS = (".Seconds()", ".Hours()", ".Milliseconds()", ".Abs()", ".Nanoseconds()", " * 2", ".Minutes()")
ORDERS = ("'asc'", "'desc'", "'up'")
PREDICATES = ("all", "any", "none", "one")
SEARCHES = ("count", "findIndex", "findLastIndex", "find", "findLast")
# What a slip of the hand puts into a condition.
SLIPS = (
    *"()[]{}#.,:?!&|=<>*/%^+-'\" 01ex_n;",
    *(
        "not ",
        "foo",
        "nil",
        "//",
        "/*",
        "*/",
        "&&",
        "==",
        "**",
        "..",
        "?.",
        "??",
        " in ",
        "let a = 1; ",
        "$env",
        "result",
    ),
)
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
        if self.random.random() < 0.08:
            text = self._declared(text)
        return self._slip(text) if self.random.random() < 0.12 else text

    def _any_of(self, *choices: str) -> str:
        return self.random.choice(choices)

    def truth(self, depth: int, loop: bool) -> str:
        """An expression that is true or false, if its parts allow."""
        if depth <= 0:
            return self._plain_truth(loop)
        any_of = self._any_of
        number = partial(self.number, depth - 1, loop)
        truth = partial(self.truth, depth - 1, loop)
        text = partial(self.text, depth - 1, loop)
        values = partial(self.values, depth - 1, loop)
        anything = partial(self.anything, depth - 1, loop)
        return weighted(
            self.random,
            (10, lambda: self._plain_truth(loop)),
            (30, lambda: f"{number()} {any_of(*COMPARISONS)} {number()}"),
            (17, lambda: f"{truth()} {any_of('&&', '||', 'and', 'or')} {truth()}"),
            (6, lambda: f"{any_of('!', 'not ', '! ')}({truth()})"),
            (2, lambda: any_of("!", "not ", "! ") + truth()),
            (7, lambda: f"({truth()})"),
            (5, lambda: f"{any_of('isNaN', 'isInf')}({number()})"),
            (3, lambda: f"isNil({number()})"),
            (8, lambda: self._loop(PREDICATES, depth - 1, loop)),
            (3, lambda: f"{truth()} ? {truth()} : {truth()}"),
            (1, lambda: f"{truth()} ?: {truth()}"),
            (2, lambda: f"{number()} not {any_of('>', '==', '<')} {number()}"),
            (3, lambda: f"{text()} {any_of('==', '<', '>', '!=', '>=')} {text()}"),
            (6, lambda: f"{number()} {any_of('in', 'in', 'not in')} {values()}"),
            (2, lambda: f"{anything()} {any_of('in', 'not in')} {any_of(*LISTS, *MAPS)}"),
            (2, lambda: f"{text()} {any_of('in', 'not in')} {any_of(*MAPS, *LISTS, self.mapping(depth - 1, loop))}"),
            (3, lambda: f"{text()} {any_of('contains', 'startsWith', 'endsWith', 'not contains')} {text()}"),
            (2, lambda: f"{text()} {any_of('matches', 'not matches')} {any_of(*PATTERNS)}"),
            (1, lambda: f"{text()} matches {text()}"),
            (3, lambda: f"{values()} {any_of('==', '!=')} {values()}"),
            (2, lambda: f"{anything()} {any_of('==', '!=')} {anything()}"),
            (1, lambda: f"{self.mapping(depth - 1, loop)} == {self.mapping(depth - 1, loop)}"),
            (2, lambda: f"{any_of('hasPrefix', 'hasSuffix')}({text()}, {text()})"),
            (2, lambda: f"({truth()} ?? {truth()})"),
            (2, lambda: f"({any_of('reduce')}({values()}, {self._closure(self.truth, depth - 1, '#acc')}, true))"),
            (1, lambda: f"[{truth()}, {truth()}][{any_of('0', '1', '-1', '2')}]"),
            (2, lambda: f"duration({text()}) {any_of(*COMPARISONS)} duration({any_of(*DURATIONS)})"),
            (1, lambda: f"{number()} | {any_of('isNaN()', 'isInf()', 'isNil()')}"),
        )()

    def number(self, depth: int, loop: bool) -> str:
        """An expression that is a number, most of the time."""
        if depth <= 0:
            return self._operand(loop)
        any_of = self._any_of
        number = partial(self.number, depth - 1, loop)
        values = partial(self.values, depth - 1, loop)
        text = partial(self.text, depth - 1, loop)
        return weighted(
            self.random,
            (30, lambda: self._operand(loop)),
            (30, lambda: f"{number()} {any_of(*ARITHMETIC)} {number()}"),
            (10, lambda: f"({number()})"),
            (7, lambda: any_of("-", "+", "- ", "--") + number()),
            (2, lambda: f"int({number()}) % {any_of('2', '3', 'len(result)')}"),
            (6, lambda: f"({self.truth(depth - 1, loop)} ? {number()} : {number()})"),
            (2, lambda: f"default({number()}, {number()})"),
            (1, lambda: f"default({number()}, {number()})[{number()}]"),
            (1, lambda: f"result[{number()}]"),
            (2, lambda: f"len({any_of(any_of(*STRINGS), 'result', 'default(result,0)')})"),
            (1, lambda: f"{text()}"),
            (2, lambda: any_of("nil", "true", f"{text()} + {text()}")),
            (8, lambda: f"{any_of(*NUMBERS_OF_NUMBER)}({number()})"),
            (1, lambda: f"{any_of(*NUMBERS_OF_NUMBER)}({text()})"),
            (8, lambda: f"{any_of(*NUMBERS_OF_LIST)}({values()})"),
            (4, lambda: f"{any_of('max', 'min')}({', '.join(number() for _ in range(self.random.randint(1, 3)))})"),
            (5, lambda: self._loop(SEARCHES, depth - 1, loop)),
            (3, lambda: f"{values()}[{any_of('0', '0', '-1', number())}]"),
            (2, lambda: f"{any_of('indexOf', 'lastIndexOf')}({text()}, {text()})"),
            (2, lambda: f"({number()} ?? {number()})"),
            (3, lambda: self._piped(depth - 1, loop)),
            (2, lambda: self._reduced(depth - 1, loop)),
            (3, lambda: self._member(depth - 1, loop)),
            (1, lambda: f"get({values()}, {number()})"),
            (1, lambda: f"fromJSON({any_of(*JSON)})"),
            (1, lambda: f"duration({any_of(*DURATIONS)}){any_of(*DURATION_METHODS)}"),
        )()

    def text(self, depth: int, loop: bool) -> str:
        """An expression that is a string, most of the time."""
        if depth <= 0:
            return self._any_of(*STRINGS)
        any_of = self._any_of
        text = partial(self.text, depth - 1, loop)
        number = partial(self.number, depth - 1, loop)
        values = partial(self.values, depth - 1, loop)
        return weighted(
            self.random,
            (30, lambda: any_of(*STRINGS)),
            (8, lambda: f"{text()} + {text()}"),
            (8, lambda: f"{any_of(*TEXTS_OF_TEXT)}({text()})"),
            (6, lambda: f"string({self._without_addresses(depth - 1, loop)})"),
            (4, lambda: f"type({self.anything(depth - 1, loop)})"),
            (4, lambda: f"toJSON({self.anything(depth - 1, loop)})"),
            (3, lambda: f"replace({text()}, {text()}, {text()}{any_of('', f', {number()}', ', 1')})"),
            (2, lambda: f"repeat({text()}, {any_of('2', '0', number())})"),
            (3, lambda: f"join({any_of(self._texts(depth - 1, loop), values())}{any_of('', f', {text()}')})"),
            (2, lambda: f"{any_of('trim', 'trimPrefix', 'trimSuffix')}({text()}, {text()})"),
            (3, lambda: f"({text()})[{any_of('', '0', '1', '-1')}:{any_of('', '1', '2', '-1')}]"),
            (1, lambda: f"{self._texts(depth - 1, loop)}[{any_of('0', '1', '-1')}]"),
            (1, lambda: f"({text()} ?? {text()})"),
            (1, lambda: any_of("nil", number())),
        )()

    def values(self, depth: int, loop: bool) -> str:
        """An expression that is a list, most of the time."""
        if depth <= 0:
            return self._any_of(
                *("result" if self.vector else "[result]",) * 8, *LISTS, *(("[#]", "[#, 1]") if loop else ())
            )
        any_of = self._any_of
        values = partial(self.values, depth - 1, loop)
        number = partial(self.number, depth - 1, loop)
        anything = partial(self.anything, depth - 1, loop)
        mapping = partial(self.mapping, depth - 1, loop)
        return weighted(
            self.random,
            (25, lambda: self.values(0, loop)),
            (8, lambda: f"[{', '.join(anything() for _ in range(self.random.randint(0, 3)))}{any_of('', '', ',')}]"),
            (8, lambda: f"[{', '.join(number() for _ in range(self.random.randint(1, 3)))}]"),
            (10, lambda: f"filter({values()}, {self._closure(self.truth, depth - 1)})"),
            (10, lambda: f"map({values()}, {self._closure(self.anything, depth - 1, '#index')})"),
            (6, lambda: f"{values()}[{any_of('', f'int({number()})', '1', '-1')}:{any_of('', '2', '-1', number())}]"),
            (4, lambda: f"sort({values()}{any_of('', '', ', ' + any_of(*ORDERS))})"),
            (2, lambda: f"sortBy([{mapping()}, {mapping()}], {any_of(*STRINGS)}{any_of('', ', ' + any_of(*ORDERS))})"),
            (3, lambda: f"{any_of('0', '1', number())}..{any_of('len(result)', '4', number())}"),
            (3, lambda: f"take({values()}, {any_of('1', '2', number())})"),
            (2, lambda: f"{any_of('keys', 'values', 'toPairs')}({self._single(depth - 1, loop)})"),
            (3, lambda: self._texts(depth - 1, loop)),
            (2, lambda: f"default(result, {number()})"),
            (2, lambda: f"({values()} ?? {values()})"),
            (2, lambda: f"({self.truth(depth - 1, loop)} ? {values()} : {values()})"),
            (2, lambda: f"groupBy({values()}, {self._closure(self.anything, depth - 1)})[{anything()}]"),
            (1, lambda: f"fromJSON({any_of(*JSON)})"),
            (3, lambda: self._mapped_filter(depth - 1, loop)),
            (1, lambda: any_of("$env", "nil", number())),
        )()

    def mapping(self, depth: int, loop: bool) -> str:
        """An expression that is a map, most of the time."""
        if depth <= 0:
            return self._any_of(*MAPS)
        any_of = self._any_of
        anything = partial(self.anything, depth - 1, loop)
        return weighted(
            self.random,
            (10, lambda: any_of(*MAPS)),
            (
                8,
                lambda: (
                    f"{{a: {anything()}, {any_of('b', 'a', '(' + self.text(depth - 1, loop) + ')')}: {anything()}}}"
                ),
            ),
            (3, lambda: f"groupBy({self.values(depth - 1, loop)}, {self._closure(self.anything, depth - 1)})"),
            (2, lambda: f"fromPairs([[{anything()}, {anything()}]])"),
            (1, lambda: f"fromPairs(toPairs({self.mapping(depth - 1, loop)}))"),
            (1, lambda: f"fromJSON({any_of(*JSON)})"),
            (1, lambda: "$env"),
        )()

    def anything(self, depth: int, loop: bool) -> str:
        kinds: tuple[tuple[float, Callable[[int, bool], str]], ...] = (
            (10, self.number),
            (4, self.text),
            (3, self.truth),
            (3, self.values),
            (2, self.mapping),
            (1, lambda depth, loop: self._any_of("nil", "len", "isNaN", "result", "$env.result", "duration('90s')")),
        )
        return weighted(self.random, *kinds)(depth, loop)

    def _without_addresses(self, depth: int, loop: bool) -> str:
        """Anything but functions, which as text are where they lie in memory."""
        return re.sub(r"isNaN(?!\()", "nil", self.anything(depth, loop).replace("$env", "{}"))

    def _single(self, depth: int, loop: bool) -> str:
        """A map whose order cannot be seen, most of the time."""
        return self._any_of("{}", f"{{a: {self.anything(depth, loop)}}}", f"groupBy([{self.anything(depth, loop)}], #)")

    def _texts(self, depth: int, loop: bool) -> str:
        text = partial(self.text, depth, loop)
        split = f"{self._any_of('split', 'splitAfter')}({text()}, {text()}{self._any_of('', '', ', 1', ', 2', ', 0')})"
        return self._any_of(
            "['a', 'b']", split, f"[{text()}, {text()}]", f"map(result, {self._closure(self.text, depth)})"
        )

    def _piped(self, depth: int, loop: bool) -> str:
        values = self.values(depth, loop)
        call = self._any_of(
            f"filter({self._closure(self.truth, depth)}) | len()",
            f"map({self._closure(self.number, depth)}) | sum()",
            "sort() | first()",
            f"count({self._closure(self.truth, depth)})",
            f"reduce({self._closure(self.number, depth, '#acc')}, 0)",
            f"{self._any_of('len', 'sum', 'mean', 'median', 'max', 'foo')}()",
        )
        return f"({values} | {call})"

    def _reduced(self, depth: int, loop: bool) -> str:
        initial = self._any_of("", ", 0", f", {self.number(depth, loop)}")
        closure = self._any_of("#acc + #", "#acc + #index", "{#acc * 2 + #}", self._closure(self.number, depth, "#acc"))
        return f"reduce({self.values(depth, loop)}, {closure}{initial})"

    def _member(self, depth: int, loop: bool) -> str:
        any_of = self._any_of
        member = any_of(".a", ".b", ".a.b", "?.a", "?.a.b", "?.b?.c", "['a']", "[nil]", ".in", ".a()", ".result")
        return (
            f"{any_of(self.mapping(depth, loop), self._single(depth, loop), '$env', '#' if loop else '$env')}{member}"
        )

    def _mapped_filter(self, depth: int, loop: bool) -> str:
        """What the optimizer rewrites."""
        inner = f"filter({self.values(depth, loop)}, {self._closure(self.truth, depth)})"
        outer = self._any_of(
            f"filter({inner}, {self._closure(self.truth, depth)})",
            f"map({inner}, {self._closure(self.anything, depth)})",
            f"[{inner}[0]]",
            f"[{inner}[-1]]",
            f"[{self._any_of('first', 'last', 'len')}({inner})]",
        )
        return f"[{self._any_of('first', 'last', 'len')}({outer})]" if self.random.random() < 0.3 else outer

    def _closure(self, part: Callable[[int, bool], str], depth: int, *also: str) -> str:
        closure = part(depth, True)
        for name in also:
            if self.random.random() < 0.5:
                closure = closure.replace("#", name, 1)
        return "{" + closure + "}" if self.random.random() < 0.3 else closure

    def _declared(self, text: str) -> str:
        """A condition that has one of its parts in a variable."""
        value = self.anything(self.random.choice((0, 1, 2)), loop=False)
        name = self._any_of(*("a", "x", "total") * 4, "result", "len")
        part = self._any_of("result[0]", "result", "0.5", "len(result)", "len")
        return f"let {name} = {self._any_of(value, part)}; {text.replace(part, name)}"

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

    def _loop(self, names: tuple[str, ...], depth: int, loop: bool) -> str:
        over = weighted(
            self.random,
            (6, lambda: "result" if self.vector else "[result, 1]"),
            (1, lambda: "default(result, 0)"),
            (3, lambda: self.values(depth, loop)),
            (1, lambda: self.number(depth, loop)),
        )()
        return f"{self.random.choice(names)}({over}, {self._closure(self.truth, depth)})"

    def _slip(self, text: str) -> str:
        at = self.random.randrange(len(text))
        slip = self.random.choice(SLIPS)
        kept = weighted(self.random, (2, text[at:]), (1, text[at + 1 :]))
        return text[:at] + weighted(self.random, (3, slip), (2, "")) + kept


def conditions(random: Random) -> Iterator[Case]:
    """Metrics that end with their only measurement."""
    while True:
        vector = random.random() < 0.65
        values = [random.choice(VALUES) for _ in range(random.choice((0, 1, 1, 2, 2, 3, 5)))]
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


class Shape(NamedTuple):
    """Conditions and results that go together, a pair of each kind of condition that leaves something open, too."""

    conditions: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    results: tuple[Case, ...]
    good: Case


VECTORS = Shape(
    conditions=(
        *("result[0] >= 0.95", "len(result) == 0 || result[0] >= 0.95", "result[0] > 1", "result[0] < 0.5"),
        *("isNaN(result[0])", "len(result) > 0 && !isNaN(result[0]) && result[0] >= 0.95", "all(result, {# > 0.5})"),
    ),
    pairs=(("result[0] >= 0.95", "result[0] < 0.5"), ("result[0] > 0.9", "len(result) > 1 || isNaN(result[0])")),
    results=tuple({"value": vector} for vector in ([0.99], [0.96], [0.9], [0.3], [], ["NaN"], [2, 3])),
    good={"value": [0.99]},
)
SCALARS = Shape(
    conditions=("result > 0.9", "result < 0.5", "result >= 0.95", "!isNaN(result)", "isInf(result) || result > 1"),
    pairs=(("result >= 0.95", "result < 0.5"), ("result > 0.9", "isNaN(result)")),
    results=tuple({"value": scalar} for scalar in (0.99, 0.96, 0.9, 0.3, "NaN", "+Inf")),
    good={"value": 0.99},
)
# What fits no result, or every one.
ANYWAY = ("true", "false", "result <", "")
FAILURE: Case = {"error": "timeout"}
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
    """Runs of one to five metrics with their scripted results."""
    while True:
        shapes = [random.choice((VECTORS, VECTORS, SCALARS)) for _number in range(random.choice((1, 1, 2, 2, 3, 4, 5)))]
        metrics = [_metric(random, f"m{number}", shape) for number, shape in enumerate(shapes, 1)]
        results = {metric["name"]: _results(random, shape) for metric, shape in zip(metrics, shapes, strict=True)}
        if random.random() < 0.01:
            metrics = []
        case: Case = {"metrics": metrics, "results": results}
        if random.random() < 0.35:
            case["dryRun"] = random.choices(DRY_RUN, k=random.choice((1, 1, 2)))
        yield case


def _metric(random: Random, name: str, shape: Shape) -> Case:
    """A metric that Argo takes, with some of the fields; one in twelve has an odd field."""
    count = random.choice((1, 2, 3, 4, 5, 5, 6, 8, 12)) if random.random() < 0.8 else None
    most = count or 4
    successes = random.randint(1, min(4, most)) if random.random() < 0.45 else 0
    failures = random.randint(0, min(3, most - successes))
    if successes and random.random() < 0.25:
        failures = -1  # no limit: a row of successes ends it
    # Without a count an interval makes a run that may never end; each costs as much as a hundred others.
    interval_share = 0.15 if count is None else 0.5 if count == 1 else 1.0
    success, failure = _conditions(random, shape)
    fields: dict[str, tuple[float, Any]] = {
        "interval": (interval_share, random.choice(("1s", "3s", "5s", "7s", "10s", "20s", "1m"))),
        "count": (1.0 if count else 0.0, count),
        "initialDelay": (0.35, random.choice(("0s", "1s", "5s", "10s", "17s", "1m"))),
        "failureLimit": (1.0 if failures < 0 else 0.7, failures),
        "inconclusiveLimit": (0.5, random.randint(0, min(3, most))),
        "consecutiveErrorLimit": (0.4, random.choice((0, 1, 2, 4))),
        "consecutiveSuccessLimit": (1.0 if successes else 0.1, successes),
        "successCondition": (1.0 if success else 0.1, success),
        "failureCondition": (1.0 if failure else 0.1, failure),
    }
    metric = {"name": name, **{field: value for field, (share, value) in fields.items() if random.random() < share}}
    if random.random() < 0.08:
        field = random.choice(list(ODD))
        metric[field] = random.choice(ODD[field])
    return metric


def _conditions(random: Random, shape: Shape) -> tuple[str, str]:
    """Of success and of failure, either may be empty. Some are of the other shape, or of none."""
    conditions = shape.conditions if random.random() < 0.95 else (*VECTORS.conditions, *SCALARS.conditions, *ANYWAY)
    any_of = random.choice
    return weighted(
        random,
        (40, lambda: (any_of(conditions), "")),
        (15, lambda: ("", any_of(conditions))),
        (25, lambda: any_of(shape.pairs)),
        (15, lambda: (any_of(conditions), any_of(conditions))),
        (5, lambda: (any_of(ANYWAY), any_of(ANYWAY))),
    )()


def _results(random: Random, shape: Shape) -> list[Case]:
    """What is measured: anything, or good results with something else between them."""
    other = random.choice(SCALARS.results if shape is VECTORS else VECTORS.results)
    choices = ((8, lambda: random.choice(shape.results)), (2, lambda: FAILURE), (0.2, lambda: other))
    results = [weighted(random, *choices)() for _result in range(random.randint(1, 14))]
    good = random.choice((0.0, 0.0, 0.4, 0.7, 0.9))
    return [shape.good if random.random() < good else result for result in results]


# --- templates ----------------------------------------------------------------------------------------------------

ROLLOUT: Case = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Rollout",
    "metadata": {
        "name": "api",
        "namespace": "lumen",
        "uid": "0f1e",
        "labels": {"app": "api", "example.com/team": "a b"},
        "annotations": {"rollout.argoproj.io/revision": "7", "Note": 'say "a"\n\tb'},
    },
    "spec": {
        "replicas": 3,
        "progressDeadlineSeconds": 1000000,
        "minReadySeconds": 1234567,
        "paused": True,
        "template": {"spec": {"containers": [{"name": "api", "image": "registry/api:v1"}]}},
        "strategy": {"canary": {"maxSurge": "25%", "steps": [{"setWeight": 20}, {"pause": {"duration": "1h"}}]}},
    },
    "status": {"pauseConditions": [{"reason": "BlueGreenPause", "startTime": None}]},
}
PATHS = (
    *("metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations"),
    *("metadata.labels['app']", "metadata.labels['example.com/team']", "metadata.labels['none']"),
    *("metadata.annotations['Note']", "metadata.annotations['rollout.argoproj.io/revision']"),
    *("spec.replicas", "spec.progressDeadlineSeconds", "spec.minReadySeconds", "spec.paused"),
    *(
        "spec.template.spec.containers[0].image",
        "spec.template.spec.containers.0.name",
        "spec.strategy.canary.maxSurge",
    ),
    *("spec.strategy.canary.steps[0].setWeight", "spec.strategy.canary.steps[1].pause.duration"),
    *("status.pauseConditions[0].reason", "metadata.annotations['X/y']"),
)
WRONG_PATHS = (
    *("metadata.labels['a b']", "metadata.labels['']", "metadata.labels.app", "metadata.name['x']", "metadata.labels["),
    *("metadata.labels['X/y']", "metadata.generation", "metadata", "spec.nothing", "spec.replicas.more"),
    *("spec.strategy.canary.steps[9].setWeight", "spec.strategy.canary.steps[x]", "spec.strategy.canary.steps[+1]"),
    *("spec.template", "status..[0]", ".", "status.pauseConditions[0].startTime", "status.pauseConditions[0]"),
)
ARG_NAMES = ("a", "b", "app", "min-rate")
ARG_VALUES = (
    *(
        "",
        "1",
        "0.95",
        "true",
        "lumen api",
        'say "x"',
        "back\\slash",
        "tab\tline\nend",
        "<&>",
        "\u00e9\u20ac\U0001f600",
    ),
    *("\u2028", "\u200b", "\x01", "\x07", "\x7f", "{{args.a}}", "{{", "}}", "\\n", "'"),
)
TEXTS = (
    *(
        "result[0] > {{args.a}}",
        "{{ args.b }}",
        "{{args.app}}{{args.a}}",
        "x {{  args.min-rate  }} y",
        "plain",
        "",
        "}}",
    ),
    *("{{args.a}}", "{{args.b}}", "{{args.a", "{{args.nope}}", "{{\nargs.a}}", "{{{args.a}}}", "{{args.a}}}}", "{{}}"),
    *("{{\u00a0args.a}}", '"{{args.a}}"', "<{{args.b}}>&", "{{inputs.a}}"),
)


def templates(random: Random) -> Iterator[Case]:
    """Templates of a Rollout's analysis with their arguments; most fit together."""
    while True:
        names = iter(random.sample(("m1", "m2", "m3", "m4", "m5", "m6"), 6))
        specs = [_template(random, names) for _number in range(random.choice((1, 1, 2, 2, 3)))]
        cluster = [random.random() < 0.35 for _spec in specs]
        # Argo forgets a field it could not read when it reads another one after it.
        with_field = random.choice(ARG_NAMES) if random.random() < 0.6 else ""
        yield {
            "templates": [spec for spec, of_cluster in zip(specs, cluster, strict=True) if not of_cluster],
            "clusterTemplates": [spec for spec, of_cluster in zip(specs, cluster, strict=True) if of_cluster],
            "args": [
                _supplied(random, name, field=name == with_field)
                for name in random.sample((*ARG_NAMES, "extra"), weighted(random, (8, 5), (1, 4), (1, 3)))
            ],
            "dryRun": _rules(random, 0.2),
            "measurementRetention": _rules(random, 0.1),
            "rollout": ROLLOUT,
            "stable": "b67698557",
            "latest": "64bdf7c984",
        }


def _template(random: Random, names: Iterator[str]) -> Case:
    metrics: list[Case] = []
    for _number in range(random.choice((0, 1, 1, 1, 2, 2))):
        metric: Case = {"name": next(names) if random.random() < 0.97 else "m1"}
        for field in ("successCondition", "failureCondition"):
            if random.random() < 0.6:
                metric[field] = random.choice(TEXTS if random.random() < 0.15 else TEXTS[:7])
        if random.random() < 0.2:
            metric["count"] = random.choice((1, "1", "{{args.a}}", "{{args.b}}", 0))
        if random.random() < 0.2:
            metric["failureLimit"] = random.choice((0, "{{args.a}}", "1"))
        metrics.append(metric)
    args = [{"name": name, "value": _declared(random)} for name in ARG_NAMES if random.random() < 0.85]
    template: Case = {"metrics": metrics, "args": [{k: v for k, v in arg.items() if v is not None} for arg in args]}
    for kind in ("dryRun", "measurementRetention"):
        template[kind] = _rules(random, 0.1)
    return template


def _declared(random: Random) -> str | None:
    """Few values, so that templates agree about some of them."""
    return weighted(random, (5, None), (4, "1"), (0.1, "2"))


def _supplied(random: Random, name: str, field: bool) -> Case:
    if field:
        return {
            "name": name,
            "valueFrom": {"fieldRef": {"fieldPath": random.choice(PATHS if random.random() < 0.8 else WRONG_PATHS)}},
        }
    if random.random() < 0.3:
        return {"name": name, "valueFrom": {"podTemplateHashValue": random.choice(("Latest", "Stable"))}}
    return {"name": name, "value": random.choice(ARG_VALUES)}


def _rules(random: Random, share: float) -> list[Case]:
    names = random.choices(DRY_RUN, k=random.choice((1, 1, 2))) if random.random() < share else []
    return [{"metricName": name} for name in names]


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
    "templates": templates,
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
