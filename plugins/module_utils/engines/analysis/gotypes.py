# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Go's types, as far as a condition can meet them (reflect.Type, and checker/types.go of expr-lang 1.15.5).

A type is one object: two are the same type when they are the same object. None stands for the type of nil.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional


class Type:
    """One Go type: its kind, its name as Go prints it, and what it is made of.

    ``elem`` is of slices, arrays and maps, ``key`` of maps; ``ins``, ``out`` and ``variadic`` are of functions.
    ``named`` tells a type declared in a package (time.Duration) from Go's own.
    """

    __slots__ = ("elem", "ins", "key", "kind", "name", "named", "out", "variadic")

    def __init__(
        self,
        kind: str,
        name: str,
        elem: Type | None = None,
        key: Type | None = None,
        ins: Sequence[Type] = (),
        out: Type | None = None,
        variadic: bool = False,
        named: bool = False,
    ) -> None:
        self.kind = kind
        self.name = name
        self.elem = elem
        self.key = key
        self.ins = tuple(ins)
        self.out = out
        self.variadic = variadic
        self.named = named

    def __str__(self) -> str:
        return self.name


MaybeType = Optional[Type]

_KNOWN: dict[str, Type] = {}


def _one(made: Type) -> Type:
    return _KNOWN.setdefault(made.name, made)


def slice_of(elem: Type) -> Type:
    return _one(Type("slice", f"[]{elem}", elem=elem))


def map_of(key: Type, elem: Type) -> Type:
    return _one(Type("map", f"map[{key}]{elem}", key=key, elem=elem))


def function(ins: Sequence[Type], out: Type, variadic: bool = False) -> Type:
    """A function type. A variadic one has the type of each further argument as its last."""
    dots = "..." if variadic else ""
    names = [str(each) for each in ins]
    if variadic:
        names[-1] = dots + names[-1]
    return _one(Type("func", f"func({', '.join(names)}) {out}", ins=ins, out=out, variadic=variadic))


ANY = _one(Type("interface", "interface {}"))
BOOL = _one(Type("bool", "bool"))
INT = _one(Type("int", "int"))
INT64 = _one(Type("int64", "int64"))
UINT8 = _one(Type("uint8", "uint8"))
FLOAT = _one(Type("float64", "float64"))
STRING = _one(Type("string", "string"))
EMPTY = _one(Type("struct", "struct {}"))
DURATION = _one(Type("int64", "time.Duration", named=True))
ARRAY = slice_of(ANY)
FLOATS = slice_of(FLOAT)
INTS = slice_of(INT)
STRINGS = slice_of(STRING)
PAIR = _one(Type("array", "[2]interface {}", elem=ANY))
PAIRS = slice_of(PAIR)
OBJECT = map_of(STRING, ANY)
ANY_MAP = map_of(ANY, ANY)
GROUPS = map_of(ANY, ARRAY)
INT_SET = map_of(INT, EMPTY)
STRING_SET = map_of(STRING, EMPTY)
FUNCTION = function([ANY], ANY, variadic=True)

_INTEGERS = frozenset(["int", "int64", "uint8"])


def kind(type_: MaybeType) -> str:
    return "invalid" if type_ is None else type_.kind


def is_any(type_: MaybeType) -> bool:
    return kind(type_) == "interface"


def is_integer(type_: MaybeType) -> bool:
    return kind(type_) in _INTEGERS


def is_float(type_: MaybeType) -> bool:
    return kind(type_) == "float64"


def is_number(type_: MaybeType) -> bool:
    return is_integer(type_) or is_float(type_)


def is_bool(type_: MaybeType) -> bool:
    return kind(type_) == "bool"


def is_string(type_: MaybeType) -> bool:
    return kind(type_) == "string"


def is_list(type_: MaybeType) -> bool:
    return kind(type_) in ("slice", "array")


def is_map(type_: MaybeType) -> bool:
    return kind(type_) == "map"


def assignable(type_: Type, to: Type) -> bool:
    return type_ is to or to is ANY


def comparable(left: MaybeType, right: MaybeType) -> bool:
    """What ``==`` and ``in`` take."""
    if left is None or right is None or left.kind == right.kind:
        return True
    return (is_number(left) and is_number(right)) or is_any(left) or is_any(right)


def combined(left: MaybeType, right: MaybeType) -> MaybeType:
    """The type that the checker expects of arithmetic on two numbers."""
    if kind(left) == kind(right):
        return left
    return FLOAT if is_float(left) or is_float(right) else INT


def shown(type_: MaybeType) -> str:
    """A type in a message."""
    return "<nil>" if type_ is None else type_.name
