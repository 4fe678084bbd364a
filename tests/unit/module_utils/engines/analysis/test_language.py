# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rest of the condition language: what expr-lang 1.15.5 and Argo say of each of these is recorded here."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis import operators
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.expression import (
    SCALAR,
    VECTOR,
    ExpressionError,
    NotSupportedError,
    compile_condition,
    lint,
    type_of,
)

NAN = math.nan


def judge(condition: str, value: Any) -> bool:
    return compile_condition(condition, type_of(value)).evaluate(value)


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        # Loops and what they are over.
        ("none(result, # > 3) && one(result, # > 1)", [1.0, 2.0]),
        ("count(result, {# > 1}) == 1", [1.0, 2.0]),
        ("filter(result, # > 1)[0] == 2 && len(filter(result, # > 9)) == 0", [1.0, 2.0]),
        ("map(result, # * 2)[1] == 4 && map(result, #index)[1] == 1", [1.0, 2.0]),
        ("map(filter(result, # > 1), # * 2)[0] == 4", [1.0, 2.0]),
        ("find(result, # > 1) == 2 && findIndex(result, # > 1) == 1", [1.0, 2.0]),
        ("findLast(result, # < 3) == 2", [1.0, 2.0, 3.0]),
        ("findLastIndex(result, # < 3) == 1", [1.0, 2.0, 3.0]),
        ("find(result, # > 9) == nil", [1.0]),
        ("reduce(result, #acc + #) == 6 && reduce(result, #acc + #index, 10) == 13", [1.0, 2.0, 3.0]),
        ("groupBy(result, # > 1)[true][0] == 2 && len(groupBy(result, # > 1)) == 2", [1.0, 2.0]),
        ("groupBy(result, #) == nil && groupBy(result, #)[1] == nil", []),
        ("all([{a: 1}, {a: 2}], .a > 0) && any([{a: {b: 1}}], {.a.b == 1})", 1.0),
        ("all([{'a': 1}][0], true)", 1.0),  # a map has a length, and its elements are not asked for
        ("filter(filter(result, # > 1), # < 3)[0] == 2", [1.0, 2.0, 3.0]),
        ("first(filter(result, # > 9)) == nil && last(filter(result, # > 1)) == 3", [1.0, 2.0, 3.0]),
        ("len(map(filter(result, true), [1][int(#)])) == 2", [0.0, 9.0]),  # a length does not map
        # Variables and pipes.
        ("let a = result[0]; let b = a * 2; b > a", [1.0]),
        ("let f = isNaN; !f(result)", 1.0),
        ("let f = max; f(result, 2) == 2", 1.0),
        ("result | filter(# > 1) | len() == 1", [1.0, 2.0]),
        ("result | map(# * 2) | sum() == 6", [1.0, 2.0]),
        ("'Ab' | upper() == 'AB' && (1.5 | isNaN()) == false", 1.0),
        # Slices.
        ("result[1:] == result[1:] && len(result[:1]) == 1 && len(result[-2:]) == 2", [1.0, NAN, 3.0]),
        ("len(result[5:]) == 0 && len(result[2:1]) == 0", [1.0, 2.0, 3.0]),
        ("result[0:1] == result[:1]", [NAN]),
        ("('abcd')[1:3] == 'bc' && len(('\u00e4')[:1]) == 1", 1.0),
        # Members.
        ("{a: 1}.a == 1 && {'a': 1}['a'] == 1 && {a: 1}.b == nil", 1.0),
        ("{a: nil}.a?.b == nil && $env?.foo?.bar == nil", 1.0),
        ("$env.result == result && !$env.isNaN(result) && 'result' in $env", 1.0),
        ("{f: isNaN}.f(result)", NAN),
        ("{'in': 1}.in == 1 && {a: 1, a: 2}.a == 1", 1.0),
        # in, ??, ranges, literals.
        ("2 in result && 3 not in result && not (4 in result)", [1.0, 2.0]),
        ("'a' in {a: 1} && 'b' not in {a: 1} && 'a' in ['a', 'b']", 1.0),
        ("len(result) in 1..3 && len(result) in [1, 2] && result[0] in 1..3", [1.0, 2.0]),
        ("nil in ['', 'a'] && !(nil in ['a'])", 1.0),
        ("(nil ?? 1) == 1 && (result ?? 2) == 1", 1.0),
        ("nil ?? true", 1.0),
        ("1..3 == 1..3 && len(3..1) == 0 && sum(1..4) == 10", 1.0),
        ("[1, 2,] == [1, 2] && [1] != [1.0] && {a: [1]} == {'a': [1]}", 1.0),
        ("result != [0.95] && map(result, #) == [0.95]", [0.95]),
        # Strings and regular expressions.
        ("'abc' contains 'b' && 'abc' startsWith 'a' && 'abc' endsWith 'c' && 'abc' not contains 'x'", 1.0),
        (r"'v1.2' matches '^v\\d+\\.\\d+$' && 'x' not matches '^v'", 1.0),
        ("'b' matches 'A|B' == false && 'b' matches '(?i)B'", 1.0),
        ("string(result) + 'x' matches 'x$'", 1.0),
        (r"'\\C' matches '\\Q\\C\\E'", 1.0),
        ("trim(' a ') == 'a' && trim('xax', 'x') == 'a' && trimPrefix('ab', 'a') == 'b'", 1.0),
        ("trimSuffix('a ') == 'a' && upper('\u00df\u00e4') == '\u00df\u00c4' && lower('\u0130') == 'i'", 1.0),
        ("split('a,b', ',') == split('a,b', ',') && join(split('a,b', ','), '-') == 'a-b'", 1.0),
        ("split('abc', '')[1] == 'b' && len(split('a,b,c', ',', 2)) == 2 && split('a', ',', 0) == nil", 1.0),
        ("splitAfter('a,b', ',')[0] == 'a,' && replace('aaa', 'a', 'b', 2) == 'bba'", 1.0),
        ("replace('ab', '', '-') == '-a-b-' && repeat('ab', 2) == 'abab'", 1.0),
        ("indexOf('abcb', 'b') == 1 && lastIndexOf('abcb', 'b') == 3 && hasPrefix('ab', 'a')", 1.0),
        ("fromBase64(toBase64('a')) == 'a' && toBase64('a') == 'YQ=='", 1.0),
        # Numbers.
        ("max(1, 3, 2) == 3 && min(result, 2) == 1", 1.0),
        ("sum(result) == 6 && mean(result) == 2 && median(result) == 2 && median([1, 2]) == 1.5", [1.0, 2.0, 3.0]),
        ("mean([]) == 0 && sum([]) == 0 && median([]) == 0", 1.0),
        ("abs(-1) == 1 && ceil(1.2) == 2 && floor(-1.2) == -2 && round(2.5) == 3 && round(-2.5) == -3", 1.0),
        ("int('7') == 7 && int(2.9) == 2 && float('0.5') == 0.5 && float('0x1p-2') == 0.25", 1.0),
        ("isInf(float('-inf')) && isNaN(float('NaN'))", 1.0),
        ("1.5 ** 1.5 == 1.8371173070873836", 1.0),  # one bit from the C library's
        ("asInt(result) == 1 && asInt('7') == 7 && asFloat(2) == 2 && asFloat('1e3') == 1000", 1.9),
        ("[asInt(1)] != [1] && asInt(1) in [1]", 1.0),
        ("int(result) == -9223372036854775807 - 1", 1e300),
        # Lists and maps.
        ("first(result) == 1 && last(result) == 2 && first([]) == nil", [1.0, 2.0]),
        ("get(result, 5) == nil && get(result, 0) == 1 && get({a: 1}, 'a') == 1", [1.0]),
        ("take(result, 1)[0] == 1 && len(take(result, 9)) == 2", [1.0, 2.0]),
        ("keys({a: 1}) == ['a'] && values({a: 1}) == [1]", 1.0),
        ("toPairs({a: 1})[0][1] == 1 && fromPairs([['a', 1]])['a'] == 1", 1.0),
        ("sort([3, 1, 2]) == [1, 2, 3] && sort(result, 'desc')[0] == 2", [1.0, 2.0]),
        ("sortBy([{a: 2}, {a: 1}], 'a')[0].a == 1", 1.0),
        ("type(result) == 'array' && type(nil) == 'nil' && type(1) == 'int' && type({}) == 'map'", [1.0]),
        # Text.
        ("string(result) == '[1 0.5 1e+06 NaN]'", [1.0, 0.5, 1e6, NAN]),
        ("string({b: 1, a: nil}) == 'map[a:<nil> b:1]' && string(true) == 'true'", 1.0),
        (r"""toJSON([1, {a: result}]) == '[\n  1,\n  {\n    "a": 1e+21\n  }\n]'""", 1e21),
        (r"""toJSON('<a') == '"\\u003ca"' && toJSON({}) == '{}'""", 1.0),
        ("""fromJSON('{"a": [1, null]}').a[0] == 1""", 1.0),
        ("fromJSON('1') == 1 && fromJSON('true')", 1.0),
        # Durations.
        ("duration('1h30m') > duration('89m') && duration('90s') == duration('1m30s')", 1.0),
        ("string(duration('1h') + duration('1.5s')) == '1h0m1.5s' && duration('90m').Hours() == 1.5", 1.0),
        ("duration('1h') * 2 == duration('2h') && -1 * duration('1ms').Milliseconds() == -1", 1.0),
        ("duration('1499ms').Round(duration('1s')).String() == '1s'", 1.0),
        # What is known before it runs.
        ("5 in 1..3 == false || true", 1.0),
        ("1 / 0.0 > 0 && isInf(1 / (-0.0))", 1.0),
        ("result / 0.0 > 0 && result / -0.0 > 0", 1.0),  # one constant for both zeros
        ("len(1..1000000) == 1000000", 1.0),
    ],
)
def test_true(condition: str, value: Any) -> None:
    assert judge(condition, value) is True


@pytest.mark.parametrize(
    ("condition", "value", "reason"),
    [
        # Types.
        ("filter(result, #)", [1.0], r"predicate should return boolean \(got float64\) \(1:16\)"),
        ("map(1, #)", 1.0, "takes only array"),
        ("map(result, nil)", [1.0], "closure cannot be nil"),
        ("reduce(result, #acc + #foo)", [1.0], "unknown pointer #foo"),
        ("count(result, #index > 0) > 0", [1.0], "unknown pointer #index"),
        ("let result = 1; true", 1.0, r"cannot redeclare result \(1:5\)"),
        ("let len = 1; true", 1.0, "cannot redeclare len"),
        ("let a = 1; let a = 2; true", 1.0, "cannot redeclare a"),
        ("let a = 1, true", 1.0, "unexpected token"),
        ("a | foo()", 1.0, "unknown name"),
        ("result | foo() == 1", 1.0, "unknown name foo"),
        ("result ?? 1 > 0", 1.0, "cannot be mixed"),
        ("'a' in result", [1.0], "cannot use string as type float64 in array"),
        ("1 in ['a']", 1.0, "cannot use int as type string in array"),
        ("1 in {a: 1}", 1.0, "cannot use int as type string in map key"),
        ("result.Name() == 'hi'", True, "is undefined"),
        ("result.a > 0", [1.0], "only be selected using an integer"),
        ("$env.foo == 1", 1.0, "unknown name foo"),
        ("{a: 1}[1] == 1", 1.0, "cannot use int to get an element"),
        ("result[:1] > 0", 1.0, "cannot slice float64"),
        ("result['a':] == nil", [1.0], "non-integer slice index"),
        ("max(result) > 1", [1.0], r"invalid argument for max \(type \[\]float64\)"),
        ("sum(1) > 0", 1.0, "cannot sum int"),
        ("upper(1) == ''", 1.0, "cannot use int as argument"),
        ("join(result) == ''", [1.0], "cannot use"),
        ("abs('a') > 0", 1.0, "invalid argument for abs"),
        ("'a' matches '('", 1.0, "error parsing regexp"),
        (r"'a' matches '\\&\\C'", 1.0, "error parsing regexp"),
        ("1 matches 'a'", 1.0, "mismatched types"),
        ("1.5..3 == nil", 1.0, "mismatched types"),
        ("{[1]: 1} == nil", 1.0, "a map key must be"),
        ("split('a') == nil", 1.0, "not enough arguments"),
        ("take(result, 'a') == nil", [1.0], "cannot take string elements"),
        ("get(result) == 1", [1.0], "number of arguments"),
        ("len(result, 1) == 1", [1.0], "number of arguments"),
        ("nil.a == 1", 1.0, "unexpected token"),
        ("(nil).a == 1", 1.0, "has no field a"),
        ("result?.[0] == 1", [1.0], "expected name"),
        ("'abc'[0] == 97", 1.0, "unexpected token"),
        # Found when it runs.
        ("filter(result, # > 9)[0] > 1", [1.0], "out of range"),
        ("reduce(result, #acc + #) > 0", [], "out of range"),
        ("findIndex(result, # > 9) == 0", [1.0], "is <nil>, not int"),
        ("1 + findLast(result, # > 1) > 0", [2.0], r"bool \+ float64"),  # it leaves a truth on the stack
        ("max(1, 2.5) == 3", 1.0, "is float64, not int"),
        ("values(groupBy(result, #)) == nil", [NAN], "zero Value"),
        ("groupBy(result, [#]) == nil", [1.0], "unhashable"),
        ("sort([1, 'a']) == nil", 1.0, "different types"),
        ("sort([true, false]) == nil", 1.0, "unsupported type"),
        ("sort(result, 'up') == nil", [1.0], "asc"),
        ("int('1.5') > 0", 1.0, r"int\(1.5\)"),
        ("float('1e999') > 0", 1.0, "float"),
        ("asInt('1.1') == 1", 1.0, "asInt"),
        ("asFloat(nil) == 1", 1.0, "asFloat"),
        ("toJSON(result) == ''", NAN, "unsupported value: NaN"),
        ("toJSON(groupBy(result, #)) == ''", [1.0], "unsupported type"),
        ("fromJSON('nope') == 1", 1.0, "invalid JSON"),
        ("fromJSON('1e999') == 1", 1.0, "out of range"),
        ("fromBase64('%') == ''", 1.0, "base64"),
        ("duration('1') > duration('2')", 1.0, "invalid duration"),
        ("duration('1h') > 1", 1.0, "time.Duration > int"),
        ("repeat('a', 1000001) == ''", 1.0, "memory budget"),
        ("repeat('a', -1) == ''", 1.0, "negative"),
        ("len(1..100000000) > 0", 1.0, "memory budget exceeded"),
        ("len(map(1..1000000, #)) > 0", 1.0, "memory budget exceeded"),
        ("{f: isNaN}.f(1)", 1.0, "Call using int as type float64"),
        ("{f: len}.f(1)", 1.0, "call of a function on <nil>"),
        ("let f = len; f('a') == 1", 1.0, "nil pointer"),
        ("{(1)  : 2} == nil", 1.0, "not string"),
        ("toPairs({a: 1})[0][:1] == nil", 1.0, "unaddressable"),
        ("take(result, -1) == nil", [1.0], "out of bounds"),
        ("1 in default(result, 0)", 1.0, "not defined on float64"),
        ("let s = string(result); 'a' matches '(' + s", 1.0, "error parsing regexp"),
    ],
)
def test_error(condition: str, value: Any, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason) as caught:
        judge(condition, value)
    assert not isinstance(caught.value, NotSupportedError)


def test_an_error_while_it_runs_tells_its_place_too() -> None:
    with pytest.raises(ExpressionError) as caught:
        judge("true &&\n  result[3] > 1", [1.0])
    assert (caught.value.line, caught.value.column) == (2, 9)


@pytest.mark.parametrize("condition", ["now() == nil", "date('2026-01-01') == nil", "let f = now; f() == nil"])
def test_what_needs_a_clock_is_refused_when_it_is_read(condition: str) -> None:
    with pytest.raises(NotSupportedError, match="not supported"):
        compile_condition(condition, VECTOR)
    with pytest.raises(NotSupportedError, match="not supported"):
        lint(condition)


def test_regular_expressions_need_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "RE2_IMPORT_ERROR", ImportError("no re2"))
    with pytest.raises(NotSupportedError, match="google-re2"):
        lint("string(result) matches 'without re2'")
    assert lint("string(result) contains 'without re2'") == "vector or scalar"


def test_a_name_of_the_language_that_is_not_called_is_nil() -> None:
    assert judge("len == nil && now == nil", 1.0)


# --- Argo's own tests (utils/evaluate/evaluate_test.go) -----------------------------------------------------------

APDEX = {"service_apdex": {"label": None, "values": {"values": [2.0, 2.0]}}}


@pytest.mark.parametrize(
    ("value", "condition", "expected"),
    [
        (True, "true", True),
        (True, "false", False),
        (True, "result == true", True),
        (True, "result == false", False),
        (APDEX, "all(result.service_apdex.values.values, {# > 1})", True),
        ([2.0, 2.0], "2 in result", True),
        (5.0, "result > 1", True),
        ("1", "asInt(result) == 1", True),
        (1, "asInt(result) == 1", True),
        (1.123, "asInt(result) == 1", True),
        ("1.1", "asFloat(result) == 1.1", True),
        ("1.1", "asFloat(result) >= 1.1", True),
        ("1.1", "asFloat(result) <= 1.1", True),
        (1.1, "asFloat(result) == 1.1", True),
        (1, "asFloat(result) == 1", True),
        (1, "asFloat(result) >= 1", True),
        (None, "default(result, 0) == 0", True),
        (None, "default(result, 2) == 2", True),
        (1.0, "default(result, 0) == 1", True),
        (None, "isNil(result)", True),
        (1.0, "isNil(result)", False),
        (["hi", "hello"], "isNil(result)", False),
        (1, "isNil(1)", False),
        (False, "isNil(false)", False),
        (math.inf, "isInf(result)", True),
        (0.0, "isInf(result)", False),
    ],
)
def test_argos_own_conditions(value: Any, condition: str, expected: bool) -> None:
    assert judge(condition, value) is expected


@pytest.mark.parametrize(
    ("value", "condition", "reason"),
    [
        (True, "a == true", "unknown name a"),
        (True, "1", "expected bool, but got int"),
        (True, "invalidVariable", "unknown name invalidVariable"),
        (True, "result.Name() == 'hi'", r"type bool\[string\] is undefined"),
        ("1.1", "asInt(result) == 1.1", "asInt"),
        ("notint", "asInt(result) == 1", "asInt"),
        ("NotANum", "asFloat(result) == 1.1", "NotANum"),
        ("1.1", 'asFloat(result) == "1.1"', r"invalid operation: == \(mismatched types float64 and string\)"),
    ],
)
def test_argos_own_errors(value: Any, condition: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason):
        judge(condition, value)


def test_lint_knows_what_fits() -> None:
    assert lint("sum(result) > 1") == "vector"
    assert lint("max(result, 1) > 1") == "scalar"
    assert compile_condition("result[0] ?? 1.0", VECTOR).type is SCALAR
