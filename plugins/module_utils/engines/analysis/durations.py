# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Go's time.Duration: its text and its methods."""

from __future__ import annotations

import re
from typing import Any, Callable

from . import gotypes
from .gotypes import DURATION, FLOAT, INT64, Type
from .lexer import ExpressionError
from .values import Duration, Function, Int64, decoded

_MAX = 2**63 - 1
_MILLISECOND = 1_000_000
_SECOND = 1_000_000_000
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE

_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": _MILLISECOND, "s": _SECOND, "m": _MINUTE, "h": _HOUR}


def read(text: bytes) -> Duration:
    """Go's time.ParseDuration. Raises ExpressionError."""
    wrong = ExpressionError(f'time: invalid duration "{decoded(text)}"')
    left = decoded(text)
    negative = left.startswith("-")
    if left[:1] in ("-", "+"):
        left = left[1:]
    if left == "0":
        return Duration(0)
    if not left:
        raise wrong
    total = 0
    while left:
        part = _PART.match(left)
        if not part or not (part[1] or part[2]):
            raise wrong
        unit = _UNITS[part[3]]
        whole = part[1].lstrip("0")
        if len(whole) > 19 or int(whole or "0") > 2**63 // unit:
            raise wrong
        total += int(whole or "0") * unit + _fraction(part[2] or "", unit)
        if total > 2**63:
            raise wrong
        left = left[part.end() :]
    if total > _MAX and not negative:
        raise wrong
    return Duration(-total if negative else total)


def _fraction(digits: str, unit: int) -> int:
    """As many digits as fit into an int; Go computes with a float."""
    value, scale = 0, 1.0
    for digit in digits:
        more = value * 10 + int(digit)
        if value > _MAX // 10 or more > 2**63:
            break
        value, scale = more, scale * 10
    return int(float(value) * (float(unit) / scale))


def show(value: int) -> str:
    """A duration as Go writes it, such as ``1h0m0.5s``."""
    if not value:
        return "0s"
    sign, left = ("-" if value < 0 else ""), abs(value)
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", _MILLISECOND)):
        if left < size * 1000:
            return f"{sign}{_decimal(left, size)}{unit}"
    minutes, seconds = divmod(left, _MINUTE)
    text = f"{_decimal(seconds, _SECOND)}s"
    if minutes:
        text = f"{minutes % 60}m{text}"
    if minutes >= 60:
        text = f"{minutes // 60}h{text}"
    return sign + text


def _decimal(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    if not rest:
        return str(whole)
    fraction = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{fraction}"


# --- methods ------------------------------------------------------------------------------------------------------


def _units(unit: int) -> Callable[[int], float]:
    def convert(value: int) -> float:
        whole = _quotient(value, unit)
        return float(whole) + float(value - whole * unit) / float(unit)

    return convert


def _quotient(dividend: int, divisor: int) -> int:
    """Go's division, which cuts towards zero."""
    whole = abs(dividend) // divisor
    return -whole if dividend < 0 else whole


def _truncate(value: int, step: int) -> Duration:
    return Duration(value if step <= 0 else _quotient(value, step) * step)


def _round(value: int, step: int) -> Duration:
    """The nearest multiple, halves away from zero; what does not fit is the largest or the smallest."""
    if step <= 0:
        return Duration(value)
    rest = abs(value) % step
    nearest = abs(value) - rest + (step if rest * 2 >= step else 0)
    return Duration(max(-nearest, -(2**63)) if value < 0 else min(nearest, _MAX))


_METHODS: dict[str, tuple[tuple[Type, ...], Type, Callable[..., Any]]] = {
    "Hours": ((), FLOAT, _units(_HOUR)),
    "Minutes": ((), FLOAT, _units(_MINUTE)),
    "Seconds": ((), FLOAT, _units(_SECOND)),
    "Milliseconds": ((), INT64, lambda value: Int64(_quotient(value, _MILLISECOND))),
    "Microseconds": ((), INT64, lambda value: Int64(_quotient(value, 1_000))),
    "Nanoseconds": ((), INT64, Int64),
    "Abs": ((), DURATION, lambda value: Duration(min(abs(value), _MAX))),
    "Round": ((DURATION,), DURATION, _round),
    "Truncate": ((DURATION,), DURATION, _truncate),
    "String": ((), gotypes.STRING, lambda value: show(value).encode()),
}


def method_type(name: str) -> Type | None:
    """The type of a method, without the duration that it is of; None where there is no such method."""
    if name not in _METHODS:
        return None
    ins, out, _compute = _METHODS[name]
    return gotypes.function(ins, out)


def method(value: Duration, name: str) -> Function | None:
    """A method bound to a duration; None where there is no such method."""
    if name not in _METHODS:
        return None
    ins, out, compute = _METHODS[name]
    return Function(name, ins, out, lambda _result, *arguments: compute(value, *arguments))
