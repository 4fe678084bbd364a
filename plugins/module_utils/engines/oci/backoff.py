# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a request that failed is asked again: what is worth it, and how long to wait before."""

from __future__ import annotations

from datetime import timezone
from email.utils import parsedate_to_datetime

# Seconds before the second try, doubled for each one after, up to the longest.
FIRST, LONGEST = 0.5, 15.0


def is_transient(status: int) -> bool:
    """Whether an HTTP status may be another one in a moment. Not implemented (501) and storage full (507) stay."""
    return status == 429 or (status >= 500 and status not in (501, 507))


def delay(attempt: int, jitter: float) -> float:
    """Seconds to wait after failure number ``attempt`` (from 0); ``jitter`` from 0 to 1 spreads those who wait."""
    return float(min(LONGEST, FIRST * 2 ** min(attempt, 16)) * (0.5 + 0.5 * jitter))


def retry_after(header: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for (a number or a date), None when it asks for nothing usable."""
    text = (header or "").strip()
    if text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    return max(0.0, moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp() - now)
