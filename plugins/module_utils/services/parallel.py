# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls side by side in threads: what they do is wait for the network and hash, which both free the interpreter."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Sequence
from typing import Callable, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(workers: int, call: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The results of ``call`` for each item, in their order; at most ``workers`` at once.

    The first exception is raised as soon as those under way have ended; nothing more is started then. A call that gives
    up because another one failed raises CancelledError.
    """
    if workers <= 1 or len(items) <= 1:
        return [call(item) for item in items]
    failed = threading.Event()

    def guarded(item: Item) -> Result:
        if failed.is_set():
            raise concurrent.futures.CancelledError
        try:
            return call(item)
        except BaseException:
            failed.set()
            raise

    with concurrent.futures.ThreadPoolExecutor(min(workers, len(items))) as pool:
        futures = [pool.submit(guarded, item) for item in items]
        try:
            concurrent.futures.wait(futures)
        except BaseException:  # such as an interrupt from the keyboard
            failed.set()
            raise
    raised = [error for error in (future.exception() for future in futures) if error is not None]
    for error in raised:
        if not isinstance(error, concurrent.futures.CancelledError):
            raise error
    return [future.result() for future in futures]
