# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Time that passes only when somebody sleeps."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

#: 2026-01-01T00:00:00Z
EPOCH = 1767225600.0


class FakeClock:
    """``time()`` in epoch seconds. ``at(offset, call)`` lets something happen ``offset`` seconds after the start.

    ``jump(seconds)`` is somebody setting the clock: ``monotonic()`` does not see it.
    """

    def __init__(self, start: float = EPOCH) -> None:
        self.start = start
        self._now = start
        self._passed = 0.0
        self._number = itertools.count()
        self._plan: list[tuple[float, int, Callable[[], Any]]] = []

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._passed

    def jump(self, seconds: float) -> None:
        self._now += seconds

    def at(self, offset: float, call: Callable[[], Any]) -> None:
        """Plan ``call``; several at the same moment happen in the order they were planned."""
        heapq.heappush(self._plan, (self.start + offset, next(self._number), call))

    def sleep(self, seconds: float) -> None:
        """Let the time pass, and what is planned in it happen."""
        end = self._now + seconds
        while self.step(end):
            pass

    def step(self, end: float) -> bool:
        """Go to the next planned moment before or at ``end`` and let it happen; without one, go to ``end``: False."""
        if not self._plan or self._plan[0][0] > end:
            self._go(end)
            return False
        moment, _number, call = heapq.heappop(self._plan)
        self._go(moment)
        call()
        return True

    def _go(self, moment: float) -> None:
        self._passed += max(0.0, moment - self._now)
        self._now = max(self._now, moment)
