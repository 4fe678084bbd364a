# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting out an API server that restarts, for whoever asks it once and has no loop of its own that would ask again."""

from __future__ import annotations

from typing import Callable, TypeVar

from ...times import Clock
from .errors import Forbidden, KubeError

T = TypeVar("T")

_PAUSE = 1.0


class Patience:
    """How a request that got no answer is made again.

    A write is safe with it that goes by resourceVersion, or may be done twice: where only the answer was lost, the next
    try is a ``Conflict`` with oneself.
    """

    def __init__(
        self,
        clock: Clock,
        seconds: float,
        tell: Callable[[str], None] = lambda line: None,
        check: Callable[[], None] = lambda: None,
        known: bool = True,
    ) -> None:
        """``seconds`` for each request. ``tell`` gets a line when it lasts; ``check`` raises when nobody waits for it.

        ``known``: whether there is such a server. If not, nothing is waited for until it has answered once: what is
        wrong may be its address.
        """
        self._clock = clock
        self._seconds = seconds
        self._tell = tell
        self._check = check
        self._known = known

    def insist(self, ask: Callable[[], T]) -> T:
        """What ``ask`` returns. Raises its ``KubeError`` when that is not passing, or lasts."""
        until = self._clock.monotonic() + self._seconds
        tries = 0
        while True:
            try:
                answer = ask()
            except KubeError as error:
                # One that has just started may refuse everybody until it has read who may do what.
                passing = error.passing or (tries > 0 and isinstance(error, Forbidden))
                if not (passing and self._known and self._seconds):
                    raise
                tries += 1
                if self._clock.monotonic() >= until:
                    raise _waited(error, self._seconds) from error
                if tries == 2:
                    self._tell(f"{error.message}; it is asked again for up to {self._seconds:g} s")
            else:
                self._known = True
                return answer
            self._clock.sleep(_PAUSE)
            self._check()


def _waited(error: KubeError, seconds: float) -> KubeError:
    said = f"{error.message} (asked again for {seconds:g} s)"
    return type(error)(said, error.status, error.reason, error.body, **error.details)
