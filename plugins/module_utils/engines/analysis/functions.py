# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The functions of the language, and Argo's: what they take and what they give.

Copies builtin/builtin.go and func.go of expr-lang 1.15.5, and utils/evaluate/evaluate.go of Argo Rollouts 1.8.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

from . import durations, gotypes, sorting, text
from .gotypes import ANY, ARRAY, BOOL, FLOAT, INT, STRING, STRINGS, MaybeType, Type, shown
from .lexer import ExpressionError
from .operators import asserted, fetch, length, less, limited, more, to_int, truncated, within, wrap
from .operators import text as string
from .values import (
    INTEGERS,
    NUMBERS,
    Duration,
    Function,
    Int64,
    Map,
    Pair,
    Slice,
    Uint8,
    decoded,
    is_nil,
    type_name,
    type_of,
)

# In Python a bool is an int, in the language it is not: types are compared exactly.
# pylint: disable=unidiomatic-typecheck

# Go's own way to sort is slow in Python.
MAX_TIES = 20_000

Types = Sequence[MaybeType]
Check = Callable[[Types], MaybeType]
Overload = tuple[tuple[Type, ...], Type]


class Builtin(NamedTuple):
    """A function of the language.

    ``check`` gives the type of a call from its arguments' types, or raises ExpressionError without a place. ``call``
    computes it; loops have none. ``fast`` ones have exactly one argument, and cannot be called through a variable.
    ``light`` ones take no longer for a longer argument.
    """

    name: str
    check: Check
    call: Callable[..., Any] | None
    fast: bool = False
    light: bool = False


# --- what arguments must be ---------------------------------------------------------------------------------------


def accepts(wanted: Type, given: MaybeType) -> bool:
    """Whether the checker lets an argument through: nil always, any always, an int for any other number."""
    if gotypes.is_integer(given) and (gotypes.is_float(wanted) or gotypes.is_integer(wanted)):
        return True
    return given is None or gotypes.assignable(given, wanted) or gotypes.is_any(given)


def check_arguments(name: str, ins: Sequence[Type], given: Types) -> str | None:
    """What is wrong with the arguments of a call, or None (checker.checkArguments)."""
    if len(given) != len(ins):
        return f"{'too many' if len(given) > len(ins) else 'not enough'} arguments to call {name}"
    for wanted, argument in zip(ins, given):
        if not accepts(wanted, argument):
            return f"cannot use {shown(argument)} as argument (type {wanted}) to call {name}"
    return None


def _overloads(name: str, *overloads: Overload) -> Check:
    """A check against several signatures: the first that fits."""

    def check(given: Types) -> MaybeType:
        wrong: str | None = None
        for ins, out in overloads:
            wrong = check_arguments(name, ins, given)
            if wrong is None:
                return out
        raise ExpressionError(wrong or "")

    return check


def _count(given: Types, *counts: int) -> None:
    if len(given) not in counts:
        expected = " or ".join(map(str, counts))
        raise ExpressionError(f"invalid number of arguments (expected {expected}, got {len(given)})")


def _number(name: str, out: MaybeType) -> Check:
    """A check for one number; the result is of the same type when ``out`` is None."""

    def check(given: Types) -> MaybeType:
        _count(given, 1)
        argument = given[0]
        if argument is None or not (gotypes.is_number(argument) or gotypes.is_any(argument)):
            raise ExpressionError(f"invalid argument for {name} (type {shown(argument)})")
        return out or argument

    return check


def _conversion(name: str, out: Type) -> Check:
    def check(given: Types) -> MaybeType:
        if len(given) == 1 and gotypes.is_string(given[0]):
            return out
        return _number(name, out)(given)

    return check


def _check_len(given: Types) -> MaybeType:
    _count(given, 1)
    if gotypes.kind(given[0]) not in ("array", "map", "slice", "string", "interface"):
        raise ExpressionError(f"invalid argument for len (type {shown(given[0])})")
    return INT


def _extreme(name: str) -> Check:
    """A check of max and min: the first argument that may be anything ends it."""

    def check(given: Types) -> MaybeType:
        if not given:
            raise ExpressionError(f"not enough arguments to call {name}")
        for argument in given:
            if gotypes.is_any(argument):
                return ANY
            if not gotypes.is_number(argument):
                raise ExpressionError(f"invalid argument for {name} (type {shown(argument)})")
        return given[0]

    return check


def _is_list_or_any(type_: MaybeType) -> bool:
    return gotypes.is_list(type_) or gotypes.is_any(type_)


def _listed(verb: str, out: Type, *counts: int) -> Check:
    """A check for a list, which may be followed by strings."""

    def check(given: Types) -> MaybeType:
        _count(given, *counts)
        if not _is_list_or_any(given[0]):
            raise ExpressionError(f"cannot {verb} {shown(given[0])}")
        for argument in given[1:]:
            if not (gotypes.is_string(argument) or gotypes.is_any(argument)):
                raise ExpressionError(f"invalid argument for sort (expected string, got {shown(argument)})")
        return out

    return check


def _check_end(given: Types) -> Type:
    """A check of first and last."""
    _count(given, 1)
    argument = given[0]
    if argument is None or not _is_list_or_any(argument):
        raise ExpressionError(f"cannot get an element from {shown(argument)}")
    return argument.elem or ANY


def _check_take(given: Types) -> MaybeType:
    _count(given, 2)
    values, count = given
    if values is None or not _is_list_or_any(values):
        raise ExpressionError(f"cannot take from {shown(values)}")
    if gotypes.kind(count) not in ("int", "int64", "interface"):
        raise ExpressionError(f"cannot take {shown(count)} elements")
    return values


def _mapped(what: str) -> Check:
    def check(given: Types) -> MaybeType:
        _count(given, 1)
        if not (gotypes.is_map(given[0]) or gotypes.is_any(given[0])):
            raise ExpressionError(f"cannot get {what} from {shown(given[0])}")
        return ARRAY

    return check


def _anything(_given: Types) -> Type:
    return ANY


# --- numbers ------------------------------------------------------------------------------------------------------


def _abs(value: Any) -> Any:
    if type(value) not in NUMBERS:
        raise ExpressionError(f"invalid argument for abs (type {type_name(value)})")
    if type(value) is float or value >= 0:
        return -value if value < 0 else value
    return type(value)(wrap(-value))


def _rounded(name: str, compute: Callable[[float], float]) -> Callable[[Any], float]:
    def call(value: Any) -> float:
        if type(value) not in NUMBERS:
            raise ExpressionError(f"invalid argument for {name} (type {type_name(value)})")
        number = float(value)
        # Whole already, infinite or NaN. A zero keeps its sign, as in Go.
        if type(value) is not float or not math.isfinite(number) or abs(number) >= 2.0**52:
            return number
        return math.copysign(compute(number), number)

    return call


def _half_away(number: float) -> float:
    whole = math.floor(abs(number))
    return math.copysign(whole + (abs(number) - whole >= 0.5), number)


def _int(value: Any) -> int:
    if type(value) is not bytes:
        return to_int(value)
    number = text.read_int(value)
    if number is None:
        raise ExpressionError(f"invalid operation: int({decoded(value)})")
    return number


def _float(value: Any) -> float:
    number = text.read_float(value) if type(value) is bytes else float(value) if type(value) in NUMBERS else None
    if number is None:
        shown_ = decoded(value) if type(value) is bytes else type_name(value)
        raise ExpressionError(f"invalid operation: float({shown_})")
    return number


def _max(*values: Any) -> Any:
    best = None
    for value in values:
        if best is None or less(best, value):
            best = value
    return best


def _min(*values: Any) -> Any:
    best = None
    for value in values:
        if best is None or more(best, value):
            best = value
    return best


def _elements(verb: str, values: Any) -> Sequence[Any]:
    if not isinstance(values, (Slice, Pair)):
        raise ExpressionError(f"cannot {verb} {type_name(values)}")
    return values


def _numbers(verb: str, values: Any) -> Sequence[Any]:
    """The elements of a list, all of them signed ints or floats."""
    numbers = _elements(verb, values)
    for value in numbers:
        if type(value) not in _SUMMABLE:
            raise ExpressionError(f"cannot {verb} {type_name(value)}")
    return numbers


_SUMMABLE = (INTEGERS - {Uint8}) | {float, Duration}


def _sum(values: Any) -> Any:
    """An int as long as ints come, a float from the first float on."""
    total: Any = 0
    for value in _numbers("sum", values):
        total = total + value if type(value) is float or type(total) is float else wrap(total + int(value))
    return total


def _mean(values: Any) -> float:
    numbers = _numbers("mean", values)
    total = 0.0
    for number in numbers:
        total += float(number)
    return total / len(numbers) if numbers else 0.0


def _median(values: Any) -> float:
    numbers = sorted(map(float, _numbers("median", values)), key=lambda number: (not math.isnan(number), number))
    size = len(numbers)
    if not size:
        return 0.0
    return numbers[size // 2] if size % 2 else (numbers[size // 2 - 1] + numbers[size // 2]) / 2


# --- strings ------------------------------------------------------------------------------------------------------


def _trim(value: Any, *characters: Any) -> bytes:
    return text.trim(string(value), string(*characters)) if characters else text.trim_spaces(string(value))


def _trim_prefix(value: Any, prefix: Any = b" ") -> bytes:
    value, prefix = string(value), string(prefix)
    return value[len(prefix) :] if value.startswith(prefix) else value


def _trim_suffix(value: Any, suffix: Any = b" ") -> bytes:
    value, suffix = string(value), string(suffix)
    return value[: len(value) - len(suffix)] if value.endswith(suffix) else value


def _split(value: Any, separator: Any, most: Any = -1) -> Slice:
    return _pieces(string(value), string(separator), to_int(most), b"")


def _split_after(value: Any, separator: Any, most: Any = -1) -> Slice:
    separator = string(separator)
    return _pieces(string(value), separator, to_int(most), separator)


def _pieces(value: bytes, separator: bytes, most: int, kept: bytes) -> Slice:
    """Go's strings.genSplit: ``most`` pieces, none for 0, all when it is negative."""
    if most == 0:
        return Slice((), STRINGS, nil=True)
    if not separator:
        pieces = text.runes(value)
        if 0 < most < len(pieces):
            pieces[most - 1 :] = [b"".join(pieces[most - 1 :])]
        return Slice(pieces, STRINGS)
    pieces = value.split(separator, most - 1 if most > 0 else -1)
    return Slice([*(piece + kept for piece in pieces[:-1]), pieces[-1]], STRINGS)


def _replace(value: Any, old: Any, new: Any, most: Any = -1) -> bytes:
    value, old, new, count = string(value), string(old), string(new), to_int(most)
    if old:
        times = value.count(old) if count < 0 else min(count, value.count(old))
        within(len(value) + times * (len(new) - len(old)))
        return value.replace(old, new, count)
    # Before each rune, and at the end.
    pieces = [*text.runes(value), b""]
    times = len(pieces) if count < 0 else min(count, len(pieces))
    within(len(value) + times * len(new))
    return b"".join((new if place < times else b"") + piece for place, piece in enumerate(pieces))


def _repeat(value: Any, times: Any) -> bytes:
    count = to_int(times)
    if count > 1_000_000:
        raise ExpressionError("memory budget exceeded")
    if count < 0:
        raise ExpressionError("strings: negative Repeat count")
    within(len(string(value)) * count)
    return string(value) * count


def _join(values: Any, glue: Any = b"") -> bytes:
    glue = string(glue)
    if not isinstance(values, Slice) or values.type not in (ARRAY, STRINGS):
        raise ExpressionError(f"invalid argument for join (type {type_name(values)})")
    within(sum(len(string(value)) + len(glue) for value in values))
    return glue.join(values)


_BASE64 = re.compile(rb"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def _from_base64(value: Any) -> bytes:
    packed = string(value).replace(b"\r", b"").replace(b"\n", b"")
    if not _BASE64.fullmatch(packed):
        raise ExpressionError("illegal base64 data")
    return base64.b64decode(packed)


# --- lists and maps -----------------------------------------------------------------------------------------------


def _type(value: Any) -> bytes:
    if value is None:
        return b"nil"
    if type(value) is Duration:
        return b"time.Duration"
    return _TYPE_NAMES[gotypes.kind(type_of(value))]


_TYPE_NAMES = {
    "bool": b"bool",
    "int": b"int",
    "int64": b"int",
    "uint8": b"uint",
    "float64": b"float",
    "string": b"string",
    "slice": b"array",
    "array": b"array",
    "map": b"map",
    "func": b"func",
}


def _get(*arguments: Any) -> Any:
    """``base[index]``, or nil where that would be an error."""
    try:
        base, index = arguments[:2]
        return fetch(base, index)
    except ValueError:
        return None


def _take(values: Any, count: Any) -> Any:
    elements = _elements("take from", values)
    if type(count) not in (int, Int64, Duration):
        raise ExpressionError(f"cannot take {type_name(count)} elements")
    if count > len(elements):
        return values
    if count < 0 or not isinstance(values, Slice):
        raise ExpressionError("reflect.Value.Slice: slice index out of bounds")
    return values.part(0, int(count))


def _keys(value: Any) -> Slice:
    """The keys of a map. Go gives them in any order, this is the one they were put in."""
    return Slice([key for key, _value in _entries("keys", value)], ARRAY)


def _values(value: Any) -> Slice:
    return Slice([each for _key, each in _found_entries("values", value)], ARRAY)


def _to_pairs(value: Any) -> Slice:
    return Slice(map(Pair, _found_entries("pairs", value)), gotypes.PAIRS)


def _entries(what: str, value: Any) -> list[tuple[Any, Any]]:
    if not isinstance(value, Map):
        raise ExpressionError(f"cannot get {what} from {type_name(value)}")
    return list(value.entries.values())


def _found_entries(what: str, value: Any) -> list[tuple[Any, Any]]:
    """The entries of a map that Go looks up by their keys: NaN is never found."""
    entries = _entries(what, value)
    if any(value.find(key) is None for key, _value in entries):
        raise ExpressionError("reflect: call of reflect.Value.Interface on zero Value")
    return entries


def _from_pairs(pairs: Any) -> Map:
    made = Map(gotypes.ANY_MAP)
    for pair in _elements("transform from pairs", pairs):
        if not isinstance(pair, (Slice, Pair)) or len(pair) != 2:
            raise ExpressionError(f"invalid pair {type_name(pair)}")
        made.put(*pair)
    return made


def _sort(values: Any, direction: Any = b"asc") -> Slice:
    return _sorted(values, b"", direction)


def _sort_by(values: Any, field: Any, direction: Any = b"asc") -> Slice:
    return _sorted(values, string(field), direction)


def _sorted(values: Any, field: bytes, direction: Any) -> Slice:
    """A list in order of its elements, or of what maps in it have under ``field``."""
    elements = _elements("sort", values)
    if direction not in (b"asc", b"desc"):
        raise ExpressionError('invalid argument for sort (expected "asc" or "desc")')
    keys = [_sort_key(element, field) for element in elements]
    for key in keys[1:]:
        if type_of(key) is not type_of(keys[0]):
            raise ExpressionError("cannot sort array of different types")
    if len(keys) > 1 and type(keys[0]) not in (int, Int64, Duration, float, bytes):
        raise ExpressionError(f"sort: unsupported type {type_name(keys[0])}")
    falling = direction == b"desc"
    if _alike(elements, keys):
        return Slice(sorted(elements, reverse=falling), ARRAY)
    if len(keys) > MAX_TIES:
        raise ExpressionError(f"sort: more than {MAX_TIES} elements, of which some are equal or NaN")
    places = sorting.order(keys, lambda one, other: bool(one > other if falling else one < other))
    return Slice([elements[place] for place in places], ARRAY)


def _alike(elements: Sequence[Any], keys: Sequence[Any]) -> bool:
    """Whether elements that are equal are the same, so that any way to sort gives the same."""
    if any(isinstance(element, Map) for element in elements):
        return False
    return not keys or type(keys[0]) is not float or not any(math.isnan(key) or key == 0 for key in keys)


def _sort_key(element: Any, field: bytes) -> Any:
    if not isinstance(element, Map):
        return element
    entry = element.find(field)
    if entry is None:
        raise ExpressionError("cannot deref <invalid Value>")
    return entry[1]


# --- Argo's -------------------------------------------------------------------------------------------------------


def _as_int(_result: Any, value: Any) -> Int64:
    """Argo's asInt."""
    number = text.read_int(value) if type(value) is bytes else _plain_number(value)
    if number is None:
        raise ExpressionError(f"asInt() not supported on {type_name(value)} {_shown(value)}")
    return Int64(truncated(number) if type(number) is float else number)


def _as_float(_result: Any, value: Any) -> float:
    """Argo's asFloat."""
    number = text.read_float(value) if type(value) is bytes else _plain_number(value)
    if number is None:
        raise ExpressionError(f"asFloat() not supported on {type_name(value)} {_shown(value)}")
    return float(number)


def _plain_number(value: Any) -> Any:
    return value if type(value) in NUMBERS else None


def _shown(value: Any) -> str:
    return decoded(value) if type(value) is bytes else ""


def _is_nan(_result: Any, value: Any) -> bool:
    return math.isnan(value if type(value) is float else asserted(value, float, "float64"))


def _is_inf(_result: Any, value: Any) -> bool:
    """Argo's isInf, of either sign."""
    return math.isinf(asserted(value, float, "float64"))


def _is_nil(result: Any, _value: Any) -> bool:
    """Argo's isNil looks at the whole result, whatever its argument."""
    return is_nil(result)


def _default(result: Any, _value: Any, fallback: Any) -> Any:
    """Argo's default looks at the whole result, too: an empty vector is not nil."""
    return fallback if is_nil(result) else result


HELPERS = {
    function.name: function
    for function in (
        Function("asInt", (ANY,), gotypes.INT64, _as_int),
        Function("asFloat", (ANY,), FLOAT, _as_float),
        Function("isNaN", (FLOAT,), BOOL, _is_nan),
        Function("isInf", (FLOAT,), BOOL, _is_inf),
        Function("isNil", (ANY,), BOOL, _is_nil),
        Function("default", (ANY, ANY), ANY, _default),
    )
}
RESULT = "result"
ENVIRONMENT = "$env"


def environment(result: Any) -> Map:
    """All that a condition can name, as ``$env``."""
    entries = [(RESULT.encode(), result), *((name.encode(), helper) for name, helper in HELPERS.items())]
    return Map(gotypes.OBJECT, entries)


# --- the table ----------------------------------------------------------------------------------------------------

_PREDICATE = gotypes.function([ANY], BOOL)
_MAPPING = gotypes.function([ANY], ANY)
_LOOPS: dict[str, Overload] = {
    "all": ((ARRAY, _PREDICATE), BOOL),
    "none": ((ARRAY, _PREDICATE), BOOL),
    "any": ((ARRAY, _PREDICATE), BOOL),
    "one": ((ARRAY, _PREDICATE), BOOL),
    "filter": ((ARRAY, _PREDICATE), ARRAY),
    "map": ((ARRAY, _MAPPING), ARRAY),
    "find": ((ARRAY, _PREDICATE), ANY),
    "findIndex": ((ARRAY, _PREDICATE), INT),
    "findLast": ((ARRAY, _PREDICATE), ANY),
    "findLastIndex": ((ARRAY, _PREDICATE), INT),
    "count": ((ARRAY, _PREDICATE), INT),
    "groupBy": ((ARRAY, _MAPPING), gotypes.GROUPS),
    "reduce": ((ARRAY, gotypes.function([ANY, ANY], ANY), ANY), ANY),
}
LOOPS = frozenset(_LOOPS)
# Functions of Argo's that are not read here: they need a clock, or a calendar.
LEFT_OUT = frozenset(["now", "date"])


def _plain(name: str, call: Callable[..., Any], *overloads: Overload) -> Builtin:
    return Builtin(name, _overloads(name, *overloads), call)


def _left_out(name: str) -> Builtin:
    return Builtin(name, _anything, None)


_ALL = (
    *(Builtin(name, _overloads(name, signature), None) for name, signature in _LOOPS.items()),
    *map(_left_out, sorted(LEFT_OUT)),
    Builtin("len", _check_len, length, fast=True, light=True),
    Builtin("type", _overloads("type", ((ANY,), STRING)), _type, fast=True, light=True),
    Builtin("abs", _number("abs", None), _abs, fast=True, light=True),
    Builtin("ceil", _number("ceil", FLOAT), _rounded("ceil", math.ceil), fast=True, light=True),
    Builtin("floor", _number("floor", FLOAT), _rounded("floor", math.floor), fast=True, light=True),
    Builtin("round", _number("floor", FLOAT), _rounded("round", _half_away), fast=True, light=True),
    Builtin("int", _conversion("int", INT), _int, fast=True),
    Builtin("float", _conversion("float", FLOAT), _float, fast=True),
    Builtin("string", _overloads("string", ((ANY,), STRING)), text.show, fast=True),
    _plain("trim", _trim, ((STRING,), STRING), ((STRING, STRING), STRING)),
    _plain("trimPrefix", _trim_prefix, ((STRING, STRING), STRING), ((STRING,), STRING)),
    _plain("trimSuffix", _trim_suffix, ((STRING, STRING), STRING), ((STRING,), STRING)),
    Builtin("upper", _overloads("upper", ((STRING,), STRING)), lambda value: text.upper(string(value)), fast=True),
    Builtin("lower", _overloads("lower", ((STRING,), STRING)), lambda value: text.lower(string(value)), fast=True),
    _plain("split", _split, ((STRING, STRING), STRINGS), ((STRING, STRING, INT), STRINGS)),
    _plain("splitAfter", _split_after, ((STRING, STRING), STRINGS), ((STRING, STRING, INT), STRINGS)),
    _plain("replace", _replace, ((STRING, STRING, STRING, INT), STRING), ((STRING, STRING, STRING), STRING)),
    _plain("repeat", _repeat, ((STRING, INT), STRING)),
    _plain(
        "join",
        _join,
        ((STRINGS, STRING), STRING),
        ((ARRAY, STRING), STRING),
        ((ARRAY,), STRING),
        ((STRINGS,), STRING),
    ),
    _plain("indexOf", lambda value, part: string(value).find(string(part)), ((STRING, STRING), INT)),
    _plain("lastIndexOf", lambda value, part: string(value).rfind(string(part)), ((STRING, STRING), INT)),
    _plain("hasPrefix", lambda value, part: string(value).startswith(string(part)), ((STRING, STRING), BOOL)),
    _plain("hasSuffix", lambda value, part: string(value).endswith(string(part)), ((STRING, STRING), BOOL)),
    Builtin("max", _extreme("max"), _max),
    Builtin("min", _extreme("min"), _min),
    Builtin("sum", _listed("sum", ANY, 1), _sum),
    Builtin("mean", _listed("mean", FLOAT, 1), _mean),
    Builtin("median", _listed("median", FLOAT, 1), _median),
    _plain("toJSON", text.to_json, ((ANY,), STRING)),
    _plain("fromJSON", lambda value: text.from_json(string(value)), ((STRING,), ANY)),
    _plain("toBase64", lambda value: limited(base64.b64encode(string(value))), ((STRING,), STRING)),
    _plain("fromBase64", _from_base64, ((STRING,), STRING)),
    _plain("duration", lambda value: durations.read(string(value)), ((STRING,), gotypes.DURATION)),
    Builtin("first", _check_end, lambda values: _get(values, 0), light=True),
    Builtin("last", _check_end, lambda values: _get(values, -1), light=True),
    Builtin("get", _anything, _get, light=True),
    Builtin("take", _check_take, _take),
    Builtin("keys", _mapped("keys"), _keys),
    Builtin("values", _mapped("values"), _values),
    Builtin("toPairs", _mapped("pairs"), _to_pairs),
    Builtin("fromPairs", _listed("transform from pairs", gotypes.ANY_MAP, 1), _from_pairs),
    Builtin("sort", _listed("sort", ARRAY, 1, 2), _sort),
    Builtin("sortBy", _listed("sort", ARRAY, 2, 3), _sort_by),
)
BUILTINS = {builtin.name: builtin for builtin in _ALL}
