# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The condition language, as expr-lang 1.15.5 and Argo's helpers judge it."""

from __future__ import annotations

import math

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.expression import (
    SCALAR,
    ExpressionError,
    compile_condition,
    lint,
    type_of,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.operators import power

NAN = math.nan


def judge(condition: str, value: list[float] | float) -> bool:
    return compile_condition(condition, type_of(value)).evaluate(value)


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        # The seed's condition, with and without traffic.
        ("len(result) == 0 || result[0] >= 0.95", [], True),
        ("len(result) == 0 || result[0] >= 0.95", [0.96], True),
        ("len(result) == 0 || result[0] >= 0.95", [NAN], False),
        ("len(result) > 0 && !isNaN(result[0]) && result[0] >= 0.95", [NAN], False),
        # Literals.
        ("result > .5", 0.6, True),
        ("result > 1_000", 1001.0, True),
        ("result == 0xFF", 255.0, True),
        ("result == 1e3", 1000.0, True),
        ("result == 007", 7.0, True),
        ("'a\\u0041' == \"aA\"", 1.0, True),
        ("'\\x41\\101\\n' == 'AA\\n'", 1.0, True),
        ("true && !false", 1.0, True),
        ("nil == nil", 1.0, True),
        ("result != nil", [], True),
        # Comments and white space.
        ("result > 1 // more\n&& /* not much */ result < 3", 2.0, True),
        # Indexing.
        ("result[-1] == 2", [1.0, 2.0], True),
        ("result[len(result) - 1] == 2", [1.0, 2.0], True),
        # Arithmetic and its precedence.
        ("1 + 2 * 3 == 7", 1.0, True),
        ("-2 ** 2 == -4", 1.0, True),
        ("2 ** 3 ** 2 == 512", 1.0, True),
        ("2 ^ 3 == 8", 1.0, True),
        ("7 % 3 == 1 && -7 % 3 == -1", 1.0, True),
        ("1 / 2 == 0.5", 1.0, True),
        ("1 / 0 > 1e308", 1.0, True),
        ("isInf(1 / 0) && isInf(-1 / 0)", 1.0, True),
        ("isNaN(0 / 0)", 1.0, True),
        ("result / 0 > 1", 1.0, True),
        ("(result + 1) * 2 - 1 == 5", 2.0, True),
        ("9223372036854775807 + 1 < 0", 1.0, True),
        ("'a' + 'b' == 'ab' && 'a' < 'b'", 1.0, True),
        # NaN compares false, but for !=.
        ("result > 0 || result <= 0 || result == result", NAN, False),
        ("result != result", NAN, True),
        ("result == result", [NAN], True),
        # Boolean operators in words and signs, short circuit.
        ("result > 1 and not (result > 3) or false", 2.0, True),
        ("len(result) > 0 && result[0] > 1", [], False),
        ("len(result) == 0 or result[0] > 1", [], True),
        ("result not > 3", 2.0, True),
        # Constants fold before anything is run.
        ("result[9] > 1 && false", [1.0], False),
        ("result[9] > 1 || true", [1.0], True),
        ("true || result[9] > 1", [1.0], True),
        # Conditional.
        ("len(result) > 0 ? result[0] > 1 : true", [], True),
        ("result > 1 ? true : result > 5 ? true : false", 0.0, False),
        ("result > 1 ?: false", 2.0, True),
        ("result > 1 ?: result < 9", 0.5, True),
        ("len('\u00e4') == 2 && '\ud800' != '\u00e4' && 'a' < '\ud800'", 1.0, True),
        # Loops.
        ("all(result, # > 1)", [2.0, 3.0], True),
        ("all(result, {# > 1})", [2.0, 1.0], False),
        ("all(result, # > 1)", [], True),
        ("any(result, {# > 2})", [2.0, 3.0], True),
        ("any(result, # > 2)", [], False),
        ("any(result, isNaN(#)) || all(result, any(result, # > 1))", [2.0], True),
        ("all(result, # > 1) && len(result) == 2", [2.0, 3.0], True),
        # Argo's helpers: default and isNil look at the whole result.
        ("default(result, 0) > 0.5", 0.6, True),
        ("default(result, 0)[0] > 0.5", [0.6], True),
        ("isNil(result)", [], False),
        ("!isNil(result[0])", [1.0], True),
        ("isNaN(1 + len(result))", [1.0], False),
        ("isNaN(1)", 1.0, False),
    ],
)
def test_value(condition: str, value: list[float] | float, expected: bool) -> None:
    assert judge(condition, value) is expected


@pytest.mark.parametrize(
    ("condition", "value", "reason"),
    [
        # Types are checked before anything runs, also behind a short circuit and in a folded branch.
        ("len(result) == 1 || result > 1", [1.0], r"mismatched types \[\]float64 and int\) \(1:28\)"),
        ("true || foo", 1.0, r"unknown name foo \(1:9\)"),
        ("false && result[0] > 'a'", [1.0], "mismatched types float64 and string"),
        ("not result[0] > 1", [0.5], "invalid operation: not"),
        ("result[0] > 1", 1.0, "is undefined"),
        ("len(result) > 0", 1.0, "invalid argument for len"),
        ("result % 2 == 0", 2.0, "mismatched types float64 and int"),
        ("result['a'] > 1", [1.0], "only be selected using an integer"),
        ("result[0.5] > 1", [1.0], "only be selected using an integer"),
        ("result[nil] > 1", [1.0], "only be selected using an integer"),
        ("all(result, #)", [1.0], "predicate should return boolean"),
        ("all(1, # > 1)", [1.0], "takes only array"),
        ("# > 1", [1.0], "outside closure"),
        ("any(result, #index > 1)", [1.0], "unknown pointer"),
        ("isNaN('a')", 1.0, "cannot use string"),
        ("isNaN()", 1.0, "not enough arguments"),
        ("isNaN(1, 2)", 1.0, "too many arguments"),
        ("len()", 1.0, "number of arguments"),
        ("result(1)", 1.0, "not callable"),
        ("1 ? true : false", 1.0, "non-bool expression"),
        ("5 % 0 == 1", 1.0, "integer divide by zero"),
        ("false && 5 % 0 == 1", 1.0, "integer divide by zero"),
        ("-'a' == 1", 1.0, "invalid operation: -"),
        ("nil && true", 1.0, "mismatched types"),
        # Found when it runs.
        ("result[0] > 1", [], "out of range"),
        ("result[-2] > 1", [1.0], "out of range"),
        ("1 % len(result) == 0", [], "integer divide by zero"),
        ("isNaN(len(result))", [1.0], "not float64"),
        ("isNaN(7 % 2)", [1.0], "not float64"),
        ("isNaN(nil)", [1.0], "not float64"),
        ("default(result[0], 0) > 0.5", [0.9], r"\[\]float64 > float64"),
        ("default(result[0], 0) > 0.5", [], "out of range"),
        ("default(result, 0) ? true : false", 1.0, "not bool"),
        ("!default(result, 0)", 1.0, "not bool"),
        ("all(default(result, 0), # > 1)", 1.0, "invalid argument for len"),
        ("len(default(result, 0)) > 1", 1.0, "invalid argument for len"),
        ("default(result, 0)['a'] > 1", [1.0], "int\\(string\\)"),
        ("(result > 1 ? nil : 1) == 1", 2.0, "not int"),
        # Not a boolean.
        ("result", 1.0, "expected bool, but got float64"),
        ("result", [1.0], r"expected bool, but got \[\]float64"),
        ("len(result)", [], "expected bool, but got int"),
        ("nil", 1.0, "expected bool, but got <nil>"),
        ("'a'", 1.0, "expected bool, but got string"),
        # Syntax, with the place.
        ("", 1.0, "unexpected token EOF"),
        ("result >", 1.0, r"unexpected token EOF \(1:8\)"),
        ("result[0", [1.0], "unexpected token EOF"),
        ("(result > 1", 1.0, "unexpected token EOF"),
        ("result > 1)", 1.0, r"unexpected token Bracket\(\"\)\"\)"),
        ("result\n  >> 1", 1.0, r"\(2:4\)"),
        ("result = 1", 1.0, "unexpected token"),
        ("result >= 1 &", 1.0, "unexpected token"),
        ("result === 1", 1.0, "unexpected token"),
        ("result > 1 ;", 1.0, "unexpected token"),
        ("1[0] > 1", 1.0, "unexpected token"),
        ("result > 1 ? true", 1.0, "unexpected token EOF"),
        ("all(result # > 1)", [1.0], "unexpected token"),
        ("all(result, {# > 1)", [1.0], "unexpected token"),
        ("result > 1a", 1.0, "bad number syntax"),
        ("result > 1e", 1.0, "invalid float literal"),
        ("result > 1e999", 1.0, "out of range"),
        ("result > 0b11", 1.0, "invalid integer literal"),
        ("result > 0x", 1.0, "invalid hex literal"),
        ("result > 9223372036854775808", 1.0, "too large"),
        ("result > 99999999999999999999999", 1.0, "invalid integer literal"),
        ("'abc", 1.0, "literal not terminated"),
        ("'\\q' == 'q'", 1.0, "invalid char escape"),
        ("'\\x4' == 'q'", 1.0, "invalid char escape"),
        ("'\\U00110000' == 'q'", 1.0, "unable to unescape"),
        ("result > 1 /* half", 1.0, "unclosed comment"),
        ("result > 1 @", 1.0, "unrecognized character"),
    ],
)
def test_error(condition: str, value: list[float] | float, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason):
        judge(condition, value)


def test_an_error_tells_its_place() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_condition("result > 1 &&\n  foo", SCALAR)
    assert (caught.value.line, caught.value.column) == (2, 3)


def test_lint_takes_a_condition_that_fits_one_type_of_result() -> None:
    assert lint("result[0] > 1") == "vector"
    assert lint("result > 1") == "scalar"
    assert lint("true") == "vector or scalar"
    assert lint("default(result, 0) > 1") == "vector or scalar"


@pytest.mark.parametrize(
    ("condition", "reason"),
    [("result[0] >", "EOF"), ("result[0]", "expected bool, but got float64"), ("foo > 1", "unknown name")],
)
def test_lint_refuses_what_can_only_be_an_error(condition: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason):
        lint(condition)


@pytest.mark.parametrize(
    ("base", "exponent", "expected"),
    [
        (0, 0, 1.0),
        (NAN, 0, 1.0),
        (2, NAN, NAN),
        (-8, 1 / 3, NAN),
        (0.0, -1, math.inf),
        (-0.0, -1, -math.inf),
        (-0.0, -2, math.inf),
        (-2, 3, -8.0),
        (10, 400, math.inf),
        (-10, 401, -math.inf),
        (10, -400, 0.0),
        (4, 0.5, 2.0),
        (4, -0.5, 0.5),
        (2, 10.5, 1448.1546878700494),
        (-1, 2.0**70, 1.0),
        (0.5, 2.0**70, 0.0),
        (2, 2.0**70, math.inf),
        (math.inf, -1, 0.0),
        (1e300, 2.0**62, math.inf),
    ],
)
def test_power_is_gos(base: float, exponent: float, expected: float) -> None:
    result = power(base, exponent)
    assert result == pytest.approx(expected, rel=1e-15, nan_ok=True)
    assert math.isnan(expected) or math.copysign(1, result) == math.copysign(1, expected)
