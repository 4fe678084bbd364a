# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person sees while the lab is made: one line a step, what it waits for, and why it failed."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

_started = time.monotonic()
_print_lock = threading.Lock()


class LabError(Exception):
    """A step cannot be done; the message says what, where and what to do next."""


def say(text: str) -> None:
    """Print one line with the minutes and seconds since the program started."""
    seconds = int(time.monotonic() - _started)
    with _print_lock:
        sys.stdout.write(f"{seconds // 60:02d}:{seconds % 60:02d}  {text}\n")
        sys.stdout.flush()


@contextlib.contextmanager
def step(what: str, diagnose: Callable[[], str] | None = None) -> Iterator[None]:
    """Name a step, time it and, when it fails, print what ``diagnose`` finds (a unit's or a pod's last lines)."""
    begin = time.monotonic()
    try:
        yield
    except LabError as error:
        evidence = ""
        if diagnose is not None:
            with contextlib.suppress(Exception):
                evidence = "\n" + diagnose().rstrip()
        raise LabError(f"step «{what}» failed: {error}{evidence}") from error
    took = time.monotonic() - begin
    if took >= 0.5:
        say(f"{what} ({took:.1f} s)")


def wait_for(what: str, probe: Callable[[], str | None], deadline: float, every: float = 0.5) -> None:
    """Call ``probe`` until it answers None; what it answers otherwise is what is still missing.

    Raises LabError with the last answer after ``deadline`` seconds. A line is printed every 15 s of waiting.
    """
    begin = time.monotonic()
    said = begin
    while True:
        missing = probe()
        now = time.monotonic()
        if missing is None:
            return
        if now - begin > deadline:
            raise LabError(f"{what}: still not there after {deadline:.0f} s; last seen: {missing}")
        if now - said >= 15:
            say(f"  waiting for {what}: {missing}")
            said = now
        time.sleep(every)
