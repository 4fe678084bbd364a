# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether there is room for what is to be written, before any of it is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from ...errors import AirgapError
from .meter import size

#: Of every sum that is asked for: directories, whole blocks, and what others write meanwhile.
_MARGIN = 1.02


class Need(NamedTuple):
    """``amount`` bytes somewhere under ``path``, for ``what``."""

    path: str
    amount: int
    what: str


def check(needs: Iterable[Need]) -> None:
    """Raise AirgapError when a file system has less room than is needed on it, all needs of one together."""
    by_device: dict[int, list[Need]] = {}
    for need in needs:
        if need.amount:
            by_device.setdefault(os.stat(_existing(need.path)).st_dev, []).append(need)
    for asked in by_device.values():
        found = os.statvfs(_existing(asked[0].path))
        free = found.f_bavail * found.f_frsize
        wanted = sum(need.amount for need in asked) * _MARGIN
        if wanted > free:
            parts = ", ".join(f"{size(need.amount)} for {need.what} under {need.path}" for need in asked)
            raise AirgapError(
                f"not enough space: {size(wanted)} are needed and {size(free)} are free where {asked[0].path} lies "
                f"({parts}). Nothing was written. Free {size(wanted - free)} more, or give another path",
                needed_bytes=int(wanted),
                free_bytes=free,
            )


def _existing(path: str) -> str:
    """The path, or the nearest directory above it that exists."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
