# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Go's math.Pow to the last bit, in which it differs from the C library's (math/pow.go, and log and exp of amd64)."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_L1, _L3, _L5, _L7 = (
    6.666666666666735130e-01,
    2.857142874366239149e-01,
    1.818357216161805012e-01,
    1.479819860511658591e-01,
)
_L2, _L4, _L6 = 3.999999999940941908e-01, 2.222219843214978396e-01, 1.531383769920937332e-01

_LOG2_E = 1.4426950408889634073599246810018920
_LN2_UPPER = 0.69314718055966295651160180568695068359375
_LN2_LOWER = 0.28235290563031577122588448175013436025525412068e-12
_TAYLOR = (
    2.4801587301587301587e-5,
    1.9841269841269841270e-4,
    1.3888888888888888889e-3,
    8.3333333333333333333e-3,
    4.1666666666666666667e-2,
    1.6666666666666666667e-1,
    0.5,
    1.0,
)


def power(base: float, exponent: float) -> float:
    """Go's math.Pow: repeated squaring, whose last bit differs from the C library's."""
    if exponent == 0 or base == 1:
        return 1.0
    if exponent == 1:
        return base
    if math.isnan(base) or math.isnan(exponent):
        return math.nan
    if base == 0 or math.isinf(base) or math.isinf(exponent):
        return _power_of_extremes(base, exponent)
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
        mantissa = exp(fraction * log(base))
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


def _power_of_extremes(base: float, exponent: float) -> float:
    """Zeros and infinities: the C library agrees with Go, where Python raises."""
    try:
        return math.pow(base, exponent)
    except ValueError:
        odd = exponent % 2 == 1
        return math.copysign(math.inf, base) if odd else math.inf


def log(number: float) -> float:
    """The natural logarithm of a positive finite number (math/log_amd64.s)."""
    (bits,) = struct.unpack(">q", struct.pack(">d", number))
    (mantissa,) = struct.unpack(">d", struct.pack(">q", bits & 0xFFFFFFFFFFFFF | 0x3FE0000000000000))
    exponent = float((bits >> 52) - 0x3FE)
    if mantissa < math.sqrt(2) / 2:
        mantissa *= 2
        exponent -= 1
    f = mantissa - 1
    s = f / (2 + f)
    s2 = s * s
    s4 = s2 * s2
    rest = s2 * (_L1 + s4 * (_L3 + s4 * (_L5 + s4 * _L7))) + s4 * (_L2 + s4 * (_L4 + s4 * _L6))
    half = 0.5 * f * f
    return exponent * _LN2_HIGH - ((half - (s * (half + rest) + exponent * _LN2_LOW)) - f)


def exp(number: float) -> float:
    """e to a power that neither over- nor underflows (math/exp_amd64.s, with fused multiplication and addition)."""
    exponent = round(number * _LOG2_E)
    x = _fused(-float(exponent), _LN2_UPPER, number)
    x = _fused(-float(exponent), _LN2_LOWER, x) * 0.0625
    series = _TAYLOR[0]
    for term in _TAYLOR[1:]:
        series = _fused(x, series, term)
    x *= series
    for _square in range(3):
        x *= x + 2.0
    return math.ldexp(_fused(x + 2.0, x, 1.0), exponent)


def _fused(one: float, other: float, more: float) -> float:
    """``one * other + more``, rounded once."""
    return float(Fraction(one) * Fraction(other) + Fraction(more))
