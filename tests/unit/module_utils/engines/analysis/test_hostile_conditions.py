# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No condition of up to 64 KiB crashes or hangs the engine: it is judged, or is an ExpressionError.

Deadlines are of processor time, which other work on the machine does not use up.
"""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.expression import (
    MAX_SOURCE,
    SCALAR,
    VECTOR,
    Condition,
    ExpressionError,
    type_of,
)

DEADLINE = 10.0  # seconds of the processor; what is here takes three at most
RESULTS: tuple[Any, ...] = ([0.97, 0.5], [], 0.97)
SEEDS = range(5)


def judged(condition: str, result: Any) -> bool | ExpressionError:
    """The verdict, or the error that it is; nothing else may come of it, and it may not take long."""
    started = time.process_time()
    try:
        return Condition(condition[:MAX_SOURCE], type_of(result)).evaluate(result)
    except ExpressionError as problem:
        return problem
    finally:
        assert time.process_time() - started < DEADLINE


VALID = (
    "len(result) > 0 && !isNaN(result[0]) && result[0] >= 0.95",
    "all(result, # > 0.5) || any(result, {isNaN(#)}) ? none(result, # < 0) : one([1, 2], # == 1)",
    "let a = filter(result, # not in 1..3); sum(map(a, # * 2 ** -1)) / len(a) < 1.5",
    "result | map({a: #, 'b': [#index]}) | sortBy('a', 'desc') | first() == nil ?? false",
    '{a: {b: nil}}.a?.b?.c == nil and (result ?? [])[0:-1] != fromJSON(\'[1, {"x": "\\u00e4"}]\')',
    "reduce(1..10, #acc + #, 0) > 0x1F && groupBy([1, 2.5], # > 2)[true] == [2.5] // the end",
    "'a,b' matches '^[ab,]+$' && split(upper('a,b'), ',')[-1] + string(result) startsWith \"B\" /* so */",
    "duration('1h').Minutes() == 60 && toJSON({x: result}) contains 'x' && $env.result == result",
)
ALPHABET = [
    *"()[]{}#.,:;?|&!<>=+-*/%^\"'\\_ \t\n\r09aexXb$\u00e4\u2028\ud800\x00",
    *(" in ", " not ", "let ", "..", "?.", "??", "**", "//", "/*", "*/", "result", "filter(", "map(", "reduce("),
    *("#acc", "#index", "len(", "default(", "nil", "true", "1e9", "matches", "{#", "'(?i)'", "1..9", "sort(", "isNaN"),
]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_text(seed: int) -> None:
    chance = random.Random(seed)
    for size in [*(chance.randint(0, 60) for _ in range(300)), 2_000, 20_000, MAX_SOURCE]:
        judged("".join(chance.choice(ALPHABET) for _ in range(size)), chance.choice(RESULTS))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_bytes(seed: int) -> None:
    chance = random.Random(seed)
    for size in [*(chance.randint(0, 200) for _ in range(100)), MAX_SOURCE]:
        judged(chance.randbytes(size).decode("utf-8", chance.choice(("replace", "surrogateescape"))), [0.5])


@pytest.mark.parametrize("seed", SEEDS)
def test_valid_conditions_with_a_few_changes(seed: int) -> None:
    chance = random.Random(seed)
    verdicts = 0
    for _case in range(400):
        text = chance.choice(VALID)
        for _change in range(chance.choice((0, 1, 1, 2, 4))):
            at, until = sorted((chance.randint(0, len(text)), chance.randint(0, len(text))))
            part = chance.choice((chance.choice(ALPHABET), text[at:until], chance.choice(VALID)))
            text = text[:at] + part + text[chance.choice((at, at + 1, until)) :]
        verdicts += isinstance(judged(text, chance.choice(RESULTS)), bool)
    assert verdicts > 20


@pytest.mark.parametrize(
    "condition",
    [
        "(" * 30000 + "result" + ")" * 30000,
        "[" * 60000,
        "[" * 30000 + "]" * 30000 + " == nil",
        "{a:" * 20000,
        "{" * 60000,
        "!" * 65000 + "true",
        "not " * 16000 + "true",
        "-" * 65000 + "1 > 0",
        "result[" * 9000,
        "result[:" * 8000,
        "isNaN(" * 10000,
        "any(result, " * 5000,
        "map(result, {" * 4500,
        "result | filter(" * 4000,
        "2 ** " * 13000 + "1 > 0",
        "true ? " * 9000 + "true",
        "true?true:" * 6000 + "true",
        "a?b:" * 16000,
        "let a = 1; " * 5900 + "true",
        "1 + (" * 13000,
        "?" * 65000,
        "." * 65000,
        "#" * 65000,
        "/*" * 32000,
        "'" * 64999,
        "\\" * 65000,
        "fromJSON('" + "[" * 60000 + "') == nil",
    ],
)
def test_deep_nesting_is_an_error(condition: str) -> None:
    for result in RESULTS:
        assert isinstance(judged(condition, result), ExpressionError)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("result > 1 && " * 4600 + "true", True),
        ("1 + " * 16000 + "1 == 16001", True),
        ("result" + " + result" * 7200 + " == 14402", True),
        ("(" * 90 + "false" + " ?: false)" * 90 + " ?: true", True),
        ("result" + " > 0 ? true : result" * 90 + " > 0", True),
        ("nil ?? " * 9000 + "true", True),
        ("[result]" + "[:]" * 15000 + "[0] == 2", True),
        ("{a: nil}.a" + "?.a" * 15000 + " == nil", True),
        ("result" + " | abs()" * 7500 + " == 2", True),
        ("['a'" + ", 'a'" * 10000 + "][-1] == 'a'", True),
        ("'a" + "\u00e4" * 60000 + "' != ''", True),
        (" " * 65000 + "true", True),
        ("true // " + "x" * 65000, True),
        ("(" * 98 + "true" + ")" * 98, True),
    ],
)
def test_long_conditions_are_read_and_run_in_no_time(condition: str, expected: bool) -> None:
    assert judged(condition, 2.0) is expected


DOUBLED = "let a0 = [1, result]; " + "".join(f"let a{n + 1} = [a{n}, a{n}]; " for n in range(90))
STRINGS = "let a0 = 'aaaaaaaa'; " + "".join(f"let a{n + 1} = a{n} + a{n}; " for n in range(90))


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("all(result, " * 6 + "# > 1" + ")" * 6, "steps"),
        ("all(1..1000000, any(1..1000000, # > 999999))", "steps"),
        ("all(1..100000, string(#) matches string(#))", "steps"),
        ("all(1..100000, sum(1..100000) > 0)", "steps"),
        ("len(sort(map(1..900000, (# * 7919) % 900001))) > 0 && len(sort(map(1..90000, #))) > 0", "steps|memory"),
        ("len(sort(map(1..30000, # % 2 * 1.0))) > 0", "equal or NaN"),
        ("len(groupBy(1..900000, #)) > 0", "steps"),
        (f"{DOUBLED} len(toJSON(a90)) > 0", "steps"),
        (f"{DOUBLED} len(string(a90)) > 0", "steps"),
        (f"{DOUBLED} a90 == a89", "steps"),
        (f"{STRINGS} a90 == ''", "at most|steps"),
        ("len(repeat(repeat('a', 1000000), 1000000)) > 0", "at most"),
        ("len(replace(repeat('a', 100000), '', repeat('a', 100000))) > 0", "at most"),
        ("len(join(map(1..1000, repeat('a', 10000)))) > 0", "at most|steps"),
        ("reduce(1..100000, #acc + repeat('a', 100), '') == ''", "at most|steps"),
        ("len(string(reduce(1..100000, [#acc], 0))) > 0", "200 deep"),
        ("[reduce(1..100000, [#acc], 0)] == []", "200 deep"),
        ("len(1..100000000) > 0", "memory budget"),
        ("len(map(1..600000, #)) + len(map(1..600000, #)) > 0", "memory budget"),
    ],
)
def test_what_would_take_for_ever_is_an_error(condition: str, reason: str) -> None:
    problem = judged(condition, [2.0] * 1000)
    assert isinstance(problem, ExpressionError)
    assert any(word in problem.reason for word in reason.split("|")), problem.reason


def test_what_argo_has_room_for_is_judged() -> None:
    assert judged("all(1..1000000, # > 0)", 1.0) is True
    assert judged("len(map(1..999999, #)) == 999999", 1.0) is True
    assert judged("all(result, any(result, # > 0.5))", [1.0] * 1000) is True


def test_too_long_a_condition_is_an_error() -> None:
    with pytest.raises(ExpressionError, match="characters long"):
        Condition("true" + " " * 65536, SCALAR)
    assert Condition("true" + " " * 65532, VECTOR).evaluate([]) is True
