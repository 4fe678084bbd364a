# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Go's values in Python.

nil is None, bool is bool, int is int (64 bits), float64 is float, string is bytes, for Go counts and cuts bytes.
What Python lacks has a class here. The type of a value decides what it equals and what it can be used for, so it is
always compared exactly: int64 is an int in Python, and is none in Go.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import gotypes
from .gotypes import MaybeType, Type
from .lexer import ExpressionError

# In Python a bool is an int, in the language it is not: types are compared exactly.
# pylint: disable=unidiomatic-typecheck


class Int64(int):
    """Go's int64: what asInt gives."""


class Uint8(int):
    """Go's uint8: a byte of a string."""


class Duration(int):
    """Go's time.Duration, in nanoseconds."""


INTEGERS = frozenset([int, Int64, Uint8])
NUMBERS = INTEGERS | {float}


class Slice(list[Any]):
    """A slice, and where it begins in the one that it was cut from: two of the same place are equal unseen."""

    __slots__ = ("nil", "origin", "start", "type")

    def __init__(self, items: Iterable[Any], type_: Type, nil: bool = False) -> None:
        super().__init__(items)
        self.type = type_
        self.nil = nil
        self.origin: Slice | None = None
        self.start = 0

    def part(self, start: int, end: int) -> Slice:
        """Go's ``slice[start:end]``."""
        cut = Slice(self[start:end], self.type, self.nil)
        cut.origin = self.origin or self
        cut.start = self.start + start
        return cut

    def same(self, other: Slice) -> bool:
        """Whether both are the same piece of memory."""
        return (self.origin or self) is (other.origin or other) and self.start == other.start


class Pair(tuple[Any, ...]):
    """Go's [2]any: what toPairs gives."""


class Map:
    """A map; ``entries`` has a key and a value under what Go tells keys apart by."""

    __slots__ = ("entries", "nil", "type")

    def __init__(self, type_: Type, pairs: Iterable[tuple[Any, Any]] = (), nil: bool = False) -> None:
        self.type = type_
        self.nil = nil
        self.entries: dict[Any, tuple[Any, Any]] = {}
        for key, value in pairs:
            self.put(key, value)

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, key: Any, value: Any) -> None:
        self.entries[_identity(key)] = (key, value)

    def find(self, key: Any) -> tuple[Any, Any] | None:
        """The entry of a key, or None. Raises ExpressionError for a key that the map's type does not allow."""
        wanted = self.type.key
        if key is None:
            key = _ZEROS.get(wanted)
        elif wanted is not gotypes.ANY and type_of(key) is not wanted:
            name = gotypes.shown(type_of(key))
            raise ExpressionError(f"reflect.Value.MapIndex: value of type {name} is not assignable to type {wanted}")
        return self.entries.get(_identity(key))

    def missing(self) -> Any:
        """What Go reads where nothing is: a nil slice from a map of slices."""
        elem = self.type.elem
        return Slice((), elem, nil=True) if elem is gotypes.ARRAY else None


_FLOATS = {float}
_PLAIN_NUMBERS = {float, int}
_SURROGATES = re.compile("[\ud800-\udfff]")
_ZEROS: dict[MaybeType, Any] = {gotypes.STRING: b"", gotypes.INT: 0}


def _identity(key: Any) -> Any:
    """What Go tells keys of a map apart by: the type, too; NaN is never found again."""
    if type(key) is bytes:
        return key
    if isinstance(key, (Slice, Map, Function)):
        raise ExpressionError(f"runtime error: hash of unhashable type {type_of(key)}")
    if isinstance(key, Pair):
        return (Pair, *(_identity(each) for each in key))
    nan = type(key) is float and math.isnan(key)
    return object() if nan else (type(key), key)


class Function:
    """A function as a value; ``call`` gets the whole result first, as Argo's helpers do."""

    __slots__ = ("call", "name", "type")

    def __init__(self, name: str, ins: Sequence[Type], out: Type, call: Callable[..., Any]) -> None:
        self.name = name
        self.type = gotypes.function(ins, out)
        self.call = call

    def called(self, result: Any, arguments: Sequence[Any]) -> Any:
        """The value for arguments whose types nobody has checked (reflect.Value.Call)."""
        ins = self.type.ins
        if len(arguments) != len(ins):
            raise ExpressionError(f"reflect: Call with too {'many' if len(arguments) > len(ins) else 'few'} arguments")
        for argument, wanted in zip(arguments, ins):
            if wanted is not gotypes.ANY and type_of(argument) is not wanted:
                raise ExpressionError(f"reflect: Call using {gotypes.shown(type_of(argument))} as type {wanted}")
        return self.call(result, *arguments)


_TYPES: dict[type, MaybeType] = {
    type(None): None,
    bool: gotypes.BOOL,
    int: gotypes.INT,
    Int64: gotypes.INT64,
    Uint8: gotypes.UINT8,
    Duration: gotypes.DURATION,
    float: gotypes.FLOAT,
    bytes: gotypes.STRING,
    Pair: gotypes.PAIR,
}


def type_of(value: Any) -> MaybeType:
    """The Go type of a value; None of nil."""
    if isinstance(value, (Slice, Map, Function)):
        return value.type
    return _TYPES[type(value)]


def type_name(value: Any) -> str:
    """Go's ``%T``, for messages."""
    return gotypes.shown(type_of(value))


def is_nil(value: Any) -> bool:
    """nil itself, and a nil slice or map."""
    return value is None or (isinstance(value, (Slice, Map)) and value.nil)


def characters(text: str) -> str:
    """Text as Go's JSON reads it: half a surrogate pair is U+FFFD."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def decoded(text: bytes) -> str:
    """The runes of a string; each byte that belongs to none is U+FFFD, as Go ranges over it."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        runes = text.decode("utf-8", "surrogateescape")
        return "".join("\ufffd" if "\udc80" <= rune <= "\udcff" else rune for rune in runes)


def from_python(value: Any) -> Any:
    """A measurement as Argo's providers give it: a list of numbers is a []float64, of anything else a []any."""
    if type(value) is float:
        return value
    if isinstance(value, list):
        kinds = set(map(type, value))
        if kinds <= _FLOATS:
            return Slice(value, gotypes.FLOATS)
        if kinds <= _PLAIN_NUMBERS:
            return Slice(map(float, value), gotypes.FLOATS)
    return _inner(value)


def _inner(value: Any) -> Any:
    if isinstance(value, list):
        return Slice(map(_inner, value), gotypes.ARRAY)
    if isinstance(value, dict):
        return Map(gotypes.OBJECT, ((characters(key).encode(), _inner(each)) for key, each in value.items()))
    return characters(value).encode() if isinstance(value, str) else value
