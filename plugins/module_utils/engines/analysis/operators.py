# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The operators of the language over values: what Go's machine panics on raises ExpressionError.

Copies vm/runtime/runtime.go and generated.go of expr-lang 1.15.5.
"""

from __future__ import annotations

import functools
import math
import re
from typing import Any, Callable

from . import durations, gomath
from .lexer import ExpressionError
from .values import (
    INTEGERS,
    NUMBERS,
    Duration,
    Function,
    Map,
    Pair,
    Slice,
    Uint8,
    decoded,
    is_nil,
    type_name,
    type_of,
)

try:
    import re2
except ImportError as problem:
    RE2_IMPORT_ERROR: ImportError | None = problem
else:
    RE2_IMPORT_ERROR = None

# In Python a bool is an int, in the language it is not: types are compared exactly.
# pylint: disable=unidiomatic-typecheck

# Argo has no such limit, and would take all the memory there is.
MAX_STRING = 4 * 1024 * 1024

_MIN_INT = -(2**63)
# What is ordered among its own kind as in Python.
_ORDERED = frozenset([float, int, bytes, Duration])


def wrap(number: int) -> int:
    """An int of 64 bits, as Go overflows."""
    return (number + 2**63) % 2**64 - 2**63


def truncated(number: float) -> int:
    """Go's conversion of a float to an int on amd64: what does not fit is the smallest int."""
    if math.isfinite(number) and -(2.0**63) <= number < 2.0**63:
        return int(number)
    return _MIN_INT


def to_int(value: Any) -> int:
    """What an index or the end of a range is taken for: any number."""
    kind = type(value)
    if kind is float:
        return truncated(value)
    if kind in INTEGERS:
        return int(value)
    raise ExpressionError(f"invalid operation: int({type_name(value)})")


def limited(text: bytes) -> bytes:
    """A string that has grown, if it has not grown too large."""
    within(len(text))
    return text


def within(size: int) -> None:
    if size > MAX_STRING:
        raise ExpressionError(f"a string of {size} bytes; at most {MAX_STRING} are kept")


def _mismatch(operator: str, *values: Any) -> ExpressionError:
    return ExpressionError(f"invalid operation: {f' {operator} '.join(map(type_name, values))}")


def asserted(value: Any, kind: type, name: str) -> Any:
    """Go's type assertion ``value.(name)``."""
    if type(value) is not kind:
        raise ExpressionError(f"interface conversion: interface {{}} is {type_name(value)}, not {name}")
    return value


def boolean(value: Any) -> bool:
    """What a jump or a ``not`` wants."""
    return bool(asserted(value, bool, "bool"))


def text(value: Any) -> bytes:
    """What an operator or a function over strings wants."""
    return bytes(asserted(value, bytes, "string"))


# --- arithmetic ---------------------------------------------------------------------------------------------------


def negate(value: Any) -> Any:
    """The sign ``-``."""
    kind = type(value)
    if kind is float:
        return -value
    if kind is Uint8:
        return Uint8(-value % 256)
    if kind in INTEGERS:
        return kind(wrap(-value))
    raise ExpressionError(f"invalid operation: - {type_name(value)}")


def invert(value: Any) -> bool:
    """The operators ``!`` and ``not``."""
    return not (value if type(value) is bool else boolean(value))


def add(left: Any, right: Any) -> Any:
    """Numbers, two strings or two durations."""
    kinds = (type(left), type(right))
    if kinds == (bytes, bytes):
        return limited(left + right)
    if kinds == (Duration, Duration):
        return Duration(wrap(left + right))
    return _arithmetic("+", left, right, lambda a, b: a + b)


def subtract(left: Any, right: Any) -> Any:
    """Numbers or two durations."""
    if type(left) is type(right) is Duration:
        return Duration(wrap(left - right))
    return _arithmetic("-", left, right, lambda a, b: a - b)


def multiply(left: Any, right: Any) -> Any:
    """Numbers, and durations with them."""
    kinds = {type(left), type(right)}
    if Duration in kinds and kinds <= NUMBERS | {Duration}:
        return float(left) * float(right) if float in kinds else Duration(wrap(left * right))
    return _arithmetic("*", left, right, lambda a, b: a * b)


def _arithmetic(operator: str, left: Any, right: Any, compute: Callable[[Any, Any], Any]) -> Any:
    kinds = (type(left), type(right))
    if kinds[0] in NUMBERS and kinds[1] in NUMBERS:
        if float in kinds:
            return compute(float(left), float(right))
        return wrap(compute(int(left), int(right)))
    raise _mismatch(operator, left, right)


def divide(left: Any, right: Any) -> float:
    """Always a float; division by zero is an infinity or NaN."""
    if type(left) not in NUMBERS or type(right) not in NUMBERS:
        raise _mismatch("/", left, right)
    dividend, divisor = float(left), float(right)
    if divisor:
        return dividend / divisor
    if dividend == 0 or math.isnan(dividend) or math.isnan(divisor):
        return math.nan
    return math.copysign(math.inf, dividend) * math.copysign(1.0, divisor)


def modulo(left: Any, right: Any) -> int:
    """Integers only; the sign is the dividend's."""
    if type(left) not in INTEGERS or type(right) not in INTEGERS:
        raise _mismatch("%", left, right)  # pylint: disable=raising-format-tuple
    if right == 0:
        raise ExpressionError("integer divide by zero")
    rest = abs(left) % abs(right)
    return -rest if left < 0 else rest


def power(left: Any, right: Any) -> float:
    """The operators ``**`` and ``^``: always a float."""
    for value in (left, right):
        if type(value) not in NUMBERS:
            raise ExpressionError(f"invalid operation: float({type_name(value)})")
    return gomath.power(float(left), float(right))


# --- comparison ---------------------------------------------------------------------------------------------------


def equal(left: Any, right: Any) -> bool:
    """Any two values: numbers by value, everything else only when the types are the same, too."""
    kinds = (type(left), type(right))
    if kinds[0] in NUMBERS and kinds[1] in NUMBERS:
        return float(left) == float(right) if float in kinds else bool(left == right)
    if is_nil(left) and is_nil(right):
        return True
    return same(left, right)


def same(left: Any, right: Any) -> bool:
    """Go's reflect.DeepEqual: no number equals one of another type, and a list does not equal itself read anew."""
    if type(left) is not type(right) or type_of(left) is not type_of(right):
        return False
    if isinstance(left, Slice):
        if len(left) != len(right) or left.nil != right.nil:
            return False
        return left.same(right) or all(map(same, left, right))
    if isinstance(left, Pair):
        return all(map(same, left, right))
    if isinstance(left, Map):
        return _same_maps(left, right)
    if isinstance(left, Function):
        return False
    return bool(left == right)


def _same_maps(left: Map, right: Map) -> bool:
    if left is right:
        return True
    if len(left) != len(right) or left.nil != right.nil:
        return False
    for identity, (_key, value) in left.entries.items():
        other = right.entries.get(identity)
        if other is None or not same(value, other[1]):
            return False
    return True


def equal_typed(kind: type, name: str) -> Callable[[Any, Any], bool]:
    """The comparison the compiler picks when both sides are known as int, or both as string."""

    def compare(left: Any, right: Any) -> bool:
        return bool(asserted(left, kind, name) == asserted(right, kind, name))

    return compare


equal_ints = equal_typed(int, "int")
equal_strings = equal_typed(bytes, "string")


def _ordered(operator: str, left: Any, right: Any) -> tuple[Any, Any]:
    kinds = (type(left), type(right))
    if kinds[0] in NUMBERS and kinds[1] in NUMBERS:
        return (float(left), float(right)) if float in kinds else (left, right)
    if kinds[0] is kinds[1] and kinds[0] in (bytes, Duration):
        return left, right
    raise _mismatch(operator, left, right)


def less(left: Any, right: Any) -> bool:
    """Two numbers, strings or durations."""
    if type(left) is not type(right) or type(left) not in _ORDERED:
        left, right = _ordered("<", left, right)
    return bool(left < right)


def more(left: Any, right: Any) -> bool:
    """Two numbers, strings or durations."""
    if type(left) is not type(right) or type(left) not in _ORDERED:
        left, right = _ordered(">", left, right)
    return bool(left > right)


def less_or_equal(left: Any, right: Any) -> bool:
    """Two numbers, strings or durations."""
    if type(left) is not type(right) or type(left) not in _ORDERED:
        left, right = _ordered("<=", left, right)
    return bool(left <= right)


def more_or_equal(left: Any, right: Any) -> bool:
    """Two numbers, strings or durations."""
    if type(left) is not type(right) or type(left) not in _ORDERED:
        left, right = _ordered(">=", left, right)
    return bool(left >= right)


# --- lists, maps and strings --------------------------------------------------------------------------------------


def length(value: Any) -> int:
    """The function len; a string has bytes."""
    if isinstance(value, (Slice, Pair, Map, bytes)):
        return len(value)
    raise ExpressionError(f"invalid argument for len (type {type_name(value)})")


def fetch(base: Any, index: Any) -> Any:
    """``base[index]`` and ``base.index``; a negative index counts from the end."""
    if isinstance(base, (Slice, Pair, bytes)):
        place = to_int(index)
        size = len(base)
        if place < 0:
            place += size
        if not 0 <= place < size:
            raise ExpressionError(f"reflect: slice index out of range: [{index}] of {size} values")
        return Uint8(base[place]) if type(base) is bytes else base[place]
    if isinstance(base, Map):
        entry = base.find(index)
        return entry[1] if entry else base.missing()
    if type(base) is Duration and type(index) is bytes:
        method = durations.method(base, decoded(index))
        if method is not None:
            return method
    raise ExpressionError(f"cannot fetch {decoded(index) if type(index) is bytes else index} from {type_name(base)}")


def cut(base: Any, end: Any, start: Any) -> Any:
    """``base[start:end]``; what lies outside is not there."""
    if not isinstance(base, (Slice, Pair, bytes)):
        raise ExpressionError(f"cannot slice {type_name(base)}")
    size = len(base)
    first, last = to_int(start), to_int(end)
    if first < 0:
        first = max(size + first, 0)
    if last < 0:
        last = max(size + last, 0)
    last = min(last, size)
    first = min(first, last)
    if isinstance(base, Slice):
        return base.part(first, last)
    if type(base) is bytes:
        return base[first:last]
    raise ExpressionError("reflect.Value.Slice: slice of unaddressable array")


def contained(needle: Any, values: Any) -> bool:
    """The operator ``in``: among the elements of a list, or the keys of a map."""
    if values is None:
        return False
    if isinstance(values, (Slice, Pair)):
        return any(equal(value, needle) for value in values)
    if isinstance(values, Map):
        return values.find(needle) is not None
    raise ExpressionError(f'operator "in" not defined on {type_name(values)}')


def contains(left: Any, right: Any) -> bool:
    """The operator ``contains``, of strings."""
    right = text(right)
    return right in text(left)


def starts_with(left: Any, right: Any) -> bool:
    """The operator ``startsWith``, of strings."""
    return text(left).startswith(text(right))


def ends_with(left: Any, right: Any) -> bool:
    """The operator ``endsWith``, of strings."""
    return text(left).endswith(text(right))


# RE2 knows \C, Go's syntax does not. Between \Q and \E it is text.
_PATTERN_PARTS = re.compile(r"\\Q.*?(?:\\E|\Z)|\\.|[^\\]+", re.DOTALL)


@functools.lru_cache(maxsize=256)
def regular_expression(pattern: bytes) -> Any:
    """A compiled regular expression of Go's syntax, which is RE2's. Raises ExpressionError."""
    options = re2.Options()
    options.log_errors = False
    try:
        source = pattern.decode()
        if r"\C" in _PATTERN_PARTS.findall(source):
            raise ExpressionError(r"error parsing regexp: invalid escape sequence: `\C`")
        return re2.compile(source, options)
    except (re2.error, UnicodeDecodeError) as problem:
        raise ExpressionError(f"error parsing regexp: {problem}") from None


def matches(left: Any, right: Any) -> bool:
    """The operator ``matches``: an unanchored regular expression."""
    return regular_expression(text(right)).search(decoded(text(left))) is not None


def matches_constant(pattern: bytes) -> Callable[[Any], bool]:
    """``matches`` with an expression that is known, and right, beforehand."""
    expression = regular_expression(pattern)
    return lambda left: expression.search(decoded(text(left))) is not None
