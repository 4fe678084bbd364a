# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Go durations such as ``1m30s`` (time.ParseDuration)."""

from __future__ import annotations

import re

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,
    "\u03bcs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^.0-9]+)")
_MAX = 2**63


class DurationError(ValueError):
    """A string is not a Go duration."""


def parse_duration(text: str) -> float:
    """Seconds of a Go duration; ``0`` needs no unit, a sign is allowed. Raises DurationError."""
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0.0
    total = 0
    place = 0
    while place < len(rest):
        part = _PART.match(rest, place)
        if not part or not (part[1] or part[2]):
            raise DurationError(f"invalid duration {text!r}: a number with a unit is expected, as in 30s, 5m or 1h30m")
        if part[3] not in _UNITS:
            raise DurationError(f"invalid duration {text!r}: unknown unit {part[3]!r}; use ms, s, m or h")
        unit = _UNITS[part[3]]
        fraction = part[2] or ""
        total += int(part[1] or "0") * unit
        total += int(fraction or "0") * unit // 10 ** len(fraction)
        place = part.end()
    if not rest:
        raise DurationError("invalid duration: it is empty")
    if total >= _MAX:
        raise DurationError(f"invalid duration {text!r}: too long")
    seconds = total / 1_000_000_000
    return -seconds if text[0] == "-" else seconds
