# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values as text and back, as Go writes and reads them: fmt's ``%v``, encoding/json, strconv and strings."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NoReturn

from . import durations, gotypes
from .lexer import ExpressionError
from .operators import limited, within
from .values import Duration, Function, Map, Pair, Slice, characters, decoded, type_name

# In Python a bool is an int, in the language it is not: types are compared exactly.
# pylint: disable=unidiomatic-typecheck

MAX_JSON_DEPTH = 200

_INT = re.compile(rb"[+-]?[0-9]+")
_FLOAT = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_HEX_FLOAT = re.compile(rb"[+-]?0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+")
_FLOAT_WORD = re.compile(rb"[+-]?inf(inity)?|nan", re.IGNORECASE)
# Underscores count only behind the prefix of a hexadecimal number, each between two digits.
_HEX_GROUPS = re.compile(rb"(?<=[0-9a-fA-FxX])_(?=[0-9a-fA-F])")


# --- numbers ------------------------------------------------------------------------------------------------------


def read_int(text: bytes) -> int | None:
    """Go's strconv.Atoi; None where it fails."""
    if not _INT.fullmatch(text) or len(text.lstrip(b"+-").lstrip(b"0")) > 19:
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def read_float(text: bytes) -> float | None:
    """Go's strconv.ParseFloat; None where it fails, which a number too large does, too."""
    if _FLOAT_WORD.fullmatch(text):
        return float(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
    else:
        text = _HEX_GROUPS.sub(b"", text) if text.lstrip(b"+-")[:2] in (b"0x", b"0X") else text
        if not _HEX_FLOAT.fullmatch(text):
            return None
        try:
            number = float.fromhex(text.decode())
        except OverflowError:
            return None
    return None if math.isinf(number) else number


def _digits(number: float) -> tuple[str, str, int]:
    """Sign, the shortest digits that are this number again, and its exponent."""
    sign, digits, exponent = Decimal(repr(number)).as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    shortest = text.rstrip("0")
    exponent = len(text) + int(exponent) - 1 if shortest else 0
    return "-" if sign else "", shortest or "0", exponent


def _scientific(digits: str, exponent: int, width: int) -> str:
    point = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{point}e{'-' if exponent < 0 else '+'}{abs(exponent):0{width}d}"


def _plain(digits: str, exponent: int) -> str:
    if exponent < 0:
        return f"0.{'0' * (-exponent - 1)}{digits}"
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    return f"{whole}.{digits[exponent + 1 :]}" if len(digits) > exponent + 1 else whole


def _float(number: float) -> str:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    sign, digits, exponent = _digits(number)
    return sign + (_scientific(digits, exponent, 2) if not -4 <= exponent < 6 else _plain(digits, exponent))


def _json_float(number: float) -> str:
    if not math.isfinite(number):
        raise ExpressionError(f"json: unsupported value: {_float(number)}")
    sign, digits, exponent = _digits(number)
    return sign + (_scientific(digits, exponent, 1) if not -6 <= exponent < 21 else _plain(digits, exponent))


# --- any value ----------------------------------------------------------------------------------------------------


def show(value: Any) -> bytes:
    """The function string: fmt's ``%v``."""
    if type(value) is bytes:
        return value
    return _joined(_shown(value))


def _joined(parts: Iterator[bytes]) -> bytes:
    kept: list[bytes] = []
    size = 0
    for part in parts:
        size += len(part)
        within(size)
        kept.append(part)
    return b"".join(kept)


def _shown(value: Any) -> Iterator[bytes]:
    if isinstance(value, (Slice, Pair)):
        yield b"["
        for place, each in enumerate(value):
            if place:
                yield b" "
            yield from _shown(each)
        yield b"]"
    elif isinstance(value, Map):
        yield b"map["
        for place, (key, each) in enumerate(_in_order(value)):
            if place:
                yield b" "
            yield from _shown(key)
            yield b":"
            yield from _shown(each)
        yield b"]"
    elif type(value) is bytes:
        yield value
    elif type(value) is float:
        yield _float(value).encode()
    elif type(value) is Duration:
        yield durations.show(value).encode()
    elif value is None:
        yield b"<nil>"
    elif isinstance(value, Function):
        yield b"0x0"  # an address
    else:
        yield str(value).lower().encode() if type(value) is bool else str(int(value)).encode()


def _in_order(value: Map) -> list[tuple[Any, Any]]:
    """The entries of a map as fmt sorts them: nil, then each type's keys; NaN first among floats."""

    def rank(entry: tuple[Any, Any]) -> Any:
        key = entry[0]
        if key is None:
            return ("", 0, 0)
        if type(key) is float and math.isnan(key):
            return ("float64", 0, 0)
        comparable = key if isinstance(key, (int, float, bytes)) else 0
        return (type_name(key), 1, comparable)

    return sorted(value.entries.values(), key=rank)


# --- JSON ---------------------------------------------------------------------------------------------------------

_JSON_ESCAPED = re.compile('["\\\\<>&\x00-\x1f\u2028\u2029]')
_JSON_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def to_json(value: Any) -> bytes:
    """The function toJSON: json.MarshalIndent with two spaces."""
    return _joined(_json(value, b"\n"))


def _json(value: Any, newline: bytes) -> Iterator[bytes]:
    inner = newline + b"  "
    if isinstance(value, (Slice, Map)) and value.nil and value.type is not gotypes.GROUPS:
        yield b"null"
    elif isinstance(value, (Slice, Pair)):
        yield b"["
        for place, each in enumerate(value):
            yield b"," + inner if place else inner
            yield from _json(each, inner)
        yield newline + b"]" if value else b"]"
    elif isinstance(value, Map):
        if value.type.key is not gotypes.STRING:
            raise ExpressionError(f"json: unsupported type: {value.type}")
        yield b"{"
        for place, (key, each) in enumerate(sorted(value.entries.values(), key=lambda entry: entry[0])):
            yield b"," + inner if place else inner
            yield _json_string(key) + b": "
            yield from _json(each, inner)
        yield newline + b"}" if value.entries else b"}"
    else:
        yield _json_scalar(value)


def _json_scalar(value: Any) -> bytes:
    if value is None:
        return b"null"
    if type(value) is bytes:
        return _json_string(value)
    if type(value) is float:
        return _json_float(value).encode()
    if isinstance(value, Function):
        raise ExpressionError(f"json: unsupported type: {value.type}")
    return str(value).lower().encode() if type(value) is bool else str(int(value)).encode()


def _json_string(text: bytes) -> bytes:
    def escaped(found: re.Match[str]) -> str:
        return _JSON_SHORT.get(found[0]) or f"\\u{ord(found[0]):04x}"

    # An invalid byte is written as an escape, U+FFFD itself is not.
    runes = text.decode("utf-8", "surrogateescape")
    runes = _JSON_ESCAPED.sub(escaped, runes)
    return re.sub("[\udc80-\udcff]", r"\\ufffd", runes).join('""').encode()


def from_json(text: bytes) -> Any:
    """The function fromJSON: every number is a float."""
    source = decoded(text)
    if _json_depth(source) > MAX_JSON_DEPTH:
        raise ExpressionError(f"JSON nested more than {MAX_JSON_DEPTH} deep")
    try:
        return _from_json(json.loads(source, parse_int=_json_number, parse_float=_json_number, parse_constant=_refuse))
    except ValueError as problem:
        raise ExpressionError(f"invalid JSON: {problem}") from None


def _json_depth(source: str) -> int:
    """How deep brackets nest, those in strings included."""
    depth = deepest = 0
    for char in source:
        if char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def _json_number(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"number {digits} is out of range")
    return number


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return Slice(map(_from_json, value), gotypes.ARRAY)
    if isinstance(value, dict):
        return Map(gotypes.OBJECT, ((characters(key).encode(), _from_json(each)) for key, each in value.items()))
    return characters(value).encode() if isinstance(value, str) else value


# --- strings ------------------------------------------------------------------------------------------------------

# What unicode.IsSpace takes.
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def trim_spaces(text: bytes) -> bytes:
    """Go's strings.TrimSpace."""
    return _kept(text).strip(_SPACES).encode("utf-8", "surrogateescape")


def trim(text: bytes, characters_: bytes) -> bytes:
    """Go's strings.Trim: both are taken as runes."""
    return _kept(text).strip(_kept(characters_)).encode("utf-8", "surrogateescape") if characters_ else text


def _kept(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def upper(text: bytes) -> bytes:
    """Go's strings.ToUpper: rune by rune, so that none becomes two."""
    return text.upper() if text.isascii() else limited("".join(map(_upper, decoded(text))).encode())


def _upper(rune: str) -> str:
    for other in (rune.upper(), rune.title()):
        if len(other) == 1:
            return other
    return rune


def lower(text: bytes) -> bytes:
    """Go's strings.ToLower."""
    return text.lower() if text.isascii() else limited("".join(map(_lower, decoded(text))).encode())


def _lower(rune: str) -> str:
    return rune.lower()[0]


def runes(text: bytes) -> list[bytes]:
    """The runes of a string, each as a string of its own."""
    return [rune.encode("utf-8", "surrogateescape") for rune in _kept(text)]
