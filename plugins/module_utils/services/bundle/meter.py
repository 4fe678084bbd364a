# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a long work on bytes has come, as lines for people."""

from __future__ import annotations

import threading
from typing import Callable

from ...times import Clock

#: Seconds between two lines at least.
EVERY = 2.0


class Meter:
    """Counts bytes towards a total. ``progress`` gets a line now and then; threads may share a meter."""

    def __init__(self, doing: str, total: int, progress: Callable[[str], None], clock: Clock) -> None:
        self._doing = doing
        self._total = total
        self._done = 0
        self._progress = progress
        self._clock = clock
        self._said = clock.monotonic()
        self._lock = threading.Lock()

    def add(self, count: int, what: str) -> None:
        """Note that ``count`` more bytes are done, of ``what``."""
        with self._lock:
            self._done += count
            now = self._clock.monotonic()
            if now - self._said < EVERY:
                return
            self._said = now
            line = f"{self._doing}: {size(self._done)} of {size(self._total)}, {what}"
        self._progress(line)


def size(count: float) -> str:
    """Bytes for people: 412 MiB."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
