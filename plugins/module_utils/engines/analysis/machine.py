# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a compiled condition: a stack, jumps and loops, no recursion, and a budget of steps.

Values are Go's seen from Python: int (64 bits, wraps), float, bool, str, None and list. What Go's
virtual machine panics on raises ExpressionError (vm/vm.go and vm/runtime of expr-lang 1.15.5).
"""

from __future__ import annotations

import math
from typing import Any, Callable

from .lexer import ExpressionError

# In Python a bool is an int, in the language it is not: types are compared exactly.
# pylint: disable=unidiomatic-typecheck

# A condition costs some ten steps, one over a thousand series some ten thousand. Argo has no such
# limit: nested loops over a long vector would keep it busy for hours.
MAX_STEPS = 1_000_000

(
    PUSH,
    RESULT,
    UNARY,
    BINARY,
    CALL,
    POP,
    JUMP,
    JUMP_IF_TRUE,
    JUMP_IF_FALSE,
    LOOP,
    JUMP_IF_END,
    NEXT,
    POINTER,
    END_LOOP,
) = range(14)

Code = list[tuple[int, Any]]


def run(code: Code, result: Any) -> Any:
    """Execute ``code`` over ``result`` (a list of floats, or a float) and return its value."""
    stack: list[Any] = []
    loops: list[list[Any]] = []
    at = 0
    steps = 0
    size = len(code)
    while at < size:
        steps += 1
        if steps > MAX_STEPS:
            raise ExpressionError(f"the condition takes more than {MAX_STEPS} steps over this result")
        op, arg = code[at]
        at += 1
        if op == PUSH:
            stack.append(arg)
        elif op == RESULT:
            stack.append(result)
        elif op == BINARY:
            right = stack.pop()
            stack[-1] = arg(stack[-1], right)
        elif op == UNARY:
            stack[-1] = arg(stack[-1])
        elif op == JUMP_IF_FALSE:
            if not boolean(stack[-1]):
                at += arg
        elif op == JUMP_IF_TRUE:
            if boolean(stack[-1]):
                at += arg
        elif op == POP:
            stack.pop()
        elif op == JUMP:
            at += arg
        elif op == POINTER:
            values, index = loops[-1]
            stack.append(values[index])
        elif op == JUMP_IF_END:
            values, index = loops[-1]
            if index >= len(values):
                at += arg
        elif op == NEXT:
            loops[-1][1] += 1
        elif op == LOOP:
            loops.append([elements(stack.pop()), 0])
        elif op == END_LOOP:
            loops.pop()
        else:
            function, count = arg
            stack[-count:] = [function(result, *stack[-count:])]
    return stack.pop()


def go_type(value: Any) -> str:
    """The Go name of a value's type, for messages."""
    if value is None:
        return "<nil>"
    if isinstance(value, list):
        return "[]float64"
    return {bool: "bool", int: "int", float: "float64", str: "string"}[type(value)]


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _mismatch(operator: str, *values: Any) -> ExpressionError:
    return ExpressionError(f"invalid operation: {f' {operator} '.join(go_type(value) for value in values)}")


def wrap(number: int) -> int:
    """An int of 64 bits, as Go overflows."""
    return (number + 2**63) % 2**64 - 2**63


def boolean(value: Any) -> bool:
    """What a jump or a ``not`` wants."""
    if type(value) is not bool:
        raise ExpressionError(f"interface conversion: interface {{}} is {go_type(value)}, not bool")
    return value


def elements(value: Any) -> list[Any]:
    """What a loop goes over; a string gives its bytes."""
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        return list(_bytes(value))
    raise ExpressionError(f"cannot loop over {go_type(value)}")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def length(value: Any) -> int:
    """The function len."""
    if isinstance(value, (list, str)):
        return len(elements(value))
    raise ExpressionError(f"invalid argument for len (type {go_type(value)})")


def fetch(base: Any, index: Any) -> Any:
    """``base[index]``; a negative index counts from the end."""
    if not isinstance(base, (list, str)):
        raise ExpressionError(f"cannot fetch {index} from {go_type(base)}")
    if not _is_number(index):
        raise ExpressionError(f"invalid operation: int({go_type(index)})")
    if not math.isfinite(index):
        raise ExpressionError("reflect: slice index out of range")
    values = elements(base)
    place = int(index)
    if place < 0:
        place += len(values)
    if not 0 <= place < len(values):
        raise ExpressionError(f"reflect: slice index out of range: [{index}] of {len(values)} values")
    return values[place]


def negate(value: Any) -> Any:
    """The sign ``-``."""
    if type(value) is int:
        return wrap(-value)
    if type(value) is float:
        return -value
    raise ExpressionError(f"invalid operation: - {go_type(value)}")


def invert(value: Any) -> bool:
    """The operators ``!`` and ``not``."""
    return not boolean(value)


def add(left: Any, right: Any) -> Any:
    """Numbers, or two strings."""
    if type(left) is str and type(right) is str:
        return left + right
    return _arithmetic("+", left, right, lambda a, b: a + b)


def subtract(left: Any, right: Any) -> Any:
    """Numbers."""
    return _arithmetic("-", left, right, lambda a, b: a - b)


def multiply(left: Any, right: Any) -> Any:
    """Numbers."""
    return _arithmetic("*", left, right, lambda a, b: a * b)


def _arithmetic(operator: str, left: Any, right: Any, compute: Callable[[Any, Any], Any]) -> Any:
    if type(left) is int and type(right) is int:
        return wrap(compute(left, right))
    if _is_number(left) and _is_number(right):
        return compute(float(left), float(right))
    raise _mismatch(operator, left, right)


def divide(left: Any, right: Any) -> float:
    """Always a float; division by zero is an infinity or NaN."""
    if not (_is_number(left) and _is_number(right)):
        raise _mismatch("/", left, right)
    dividend, divisor = float(left), float(right)
    if divisor:
        return dividend / divisor
    if dividend == 0 or math.isnan(dividend) or math.isnan(divisor):
        return math.nan
    return math.copysign(math.inf, dividend) * math.copysign(1.0, divisor)


def modulo(left: Any, right: Any) -> int:
    """Integers only; the sign is the dividend's."""
    if type(left) is not int or type(right) is not int:
        raise _mismatch("%", left, right)  # pylint: disable=raising-format-tuple
    if right == 0:
        raise ExpressionError("integer divide by zero")
    rest = abs(left) % abs(right)
    return -rest if left < 0 else rest


def power(left: Any, right: Any) -> float:
    """The operators ``**`` and ``^``: always a float."""
    for value in (left, right):
        if not _is_number(value):
            raise ExpressionError(f"invalid operation: float({go_type(value)})")
    return _pow(float(left), float(right))


def _pow(base: float, exponent: float) -> float:
    """Go's math.Pow: repeated squaring, whose last bit differs from the C library's."""
    if exponent == 0 or base == 1:
        return 1.0
    if exponent == 1:
        return base
    if math.isnan(base) or math.isnan(exponent):
        return math.nan
    if base == 0 or math.isinf(base) or math.isinf(exponent):
        return _pow_of_extremes(base, exponent)
    if abs(exponent) == 0.5 and base > 0:
        return math.sqrt(base) if exponent > 0 else 1 / math.sqrt(base)
    fraction, whole = math.modf(abs(exponent))
    if fraction and base < 0:
        return math.nan
    if whole >= 2**63:
        return 1.0 if base == -1 else (0.0 if (abs(base) < 1) == (exponent > 0) else math.inf)
    mantissa, scale = 1.0, 0
    if fraction:
        if fraction > 0.5:
            fraction -= 1
            whole += 1
        mantissa = math.exp(fraction * math.log(base))
    square, shift = math.frexp(base)
    bits = int(whole)
    while bits:
        if not -(1 << 12) <= shift <= 1 << 12:
            scale += shift
            break
        if bits & 1:
            mantissa *= square
            scale += shift
        square *= square
        shift <<= 1
        if square < 0.5:
            square += square
            shift -= 1
        bits >>= 1
    if exponent < 0:
        mantissa, scale = 1 / mantissa, -scale
    try:
        return math.ldexp(mantissa, scale)
    except OverflowError:
        return math.copysign(math.inf, mantissa)


def _pow_of_extremes(base: float, exponent: float) -> float:
    """Zeros and infinities: the C library agrees with Go, where Python raises."""
    try:
        return math.pow(base, exponent)
    except ValueError:
        odd = exponent % 2 == 1
        return math.copysign(math.inf, base) if odd else math.inf


def equal(left: Any, right: Any) -> bool:
    """Any two values; numbers by value, other types never equal each other."""
    if _is_number(left) and _is_number(right):
        return float(left) == float(right) if float in (type(left), type(right)) else left == right
    if isinstance(left, list) or isinstance(right, list):
        # The only list is the result itself: Go sees the same slice and does not look at a NaN in it.
        return left is right
    return type(left) is type(right) and left == right


def unequal(left: Any, right: Any) -> bool:
    """The operator ``!=``: true for NaN."""
    return not equal(left, right)


def equal_typed(kind: type) -> Callable[[Any, Any], bool]:
    """The comparison the compiler picks when both sides are known as int, or both as string."""

    def compare(left: Any, right: Any) -> bool:
        for value in (left, right):
            if type(value) is not kind:
                raise ExpressionError(f"interface conversion: interface {{}} is {go_type(value)}, not {kind.__name__}")
        return bool(left == right)

    return compare


def _ordered(operator: str, left: Any, right: Any) -> tuple[Any, Any]:
    if type(left) is type(right) and type(left) in (int, str):
        # Go compares strings by their bytes.
        return (_bytes(left), _bytes(right)) if type(left) is str else (left, right)
    if _is_number(left) and _is_number(right):
        return float(left), float(right)
    raise _mismatch(operator, left, right)


def less(left: Any, right: Any) -> bool:
    """Two numbers or two strings."""
    left, right = _ordered("<", left, right)
    return bool(left < right)


def more(left: Any, right: Any) -> bool:
    """Two numbers or two strings."""
    left, right = _ordered(">", left, right)
    return bool(left > right)


def less_or_equal(left: Any, right: Any) -> bool:
    """Two numbers or two strings."""
    left, right = _ordered("<=", left, right)
    return bool(left <= right)


def more_or_equal(left: Any, right: Any) -> bool:
    """Two numbers or two strings."""
    left, right = _ordered(">=", left, right)
    return bool(left >= right)


def _float_argument(value: Any) -> float:
    if type(value) is not float:
        raise ExpressionError(f"interface conversion: interface {{}} is {go_type(value)}, not float64")
    return value


def is_nan(_result: Any, value: Any) -> bool:
    """The function isNaN, of a float."""
    return math.isnan(_float_argument(value))


def is_inf(_result: Any, value: Any) -> bool:
    """The function isInf, of a float, either sign."""
    return math.isinf(_float_argument(value))


def is_nil(result: Any, _value: Any) -> bool:
    """Argo's isNil looks at the whole result, whatever its argument (utils/evaluate/evaluate.go)."""
    return result is None


def default(result: Any, _value: Any, fallback: Any) -> Any:
    """Argo's default looks at the whole result too: an empty vector is not nil."""
    return fallback if result is None else result
