# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Room on the disk, asked before anything is made: a pod that cannot pull its image for want of it says so late."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from .paths import CACHE
from .report import LabError, say

GIB = 1 << 30
#: What all programs take that are still to be built, sources and Go's own cache included, and what a lab takes beside
#: its programs: images on this machine and on both nodes, and the bundle. Bytes, as measured, with some room.
PROGRAMS, NODES = 26 * GIB, 16 * GIB


def demand(missing: float, nodes: bool, keep: Collection[Path]) -> None:
    """Have room for the share ``missing`` of all programs (0 to 1) and, if ``nodes``, for a lab that is not there yet.

    Where there is too little, programs that other versions of the lab have left in the cache go, but for ``keep``, the
    folders of this one's. Raises LabError when that does not help.
    """
    needed = int(missing * PROGRAMS) + nodes * NODES
    if not needed or _free() >= needed:
        return
    for folder in sorted(_programs() - set(keep)):
        say(f"  there is little room on the disk: {folder.name}, of another version of the lab, is removed")
        shutil.rmtree(folder, ignore_errors=True)
    if (free := _free()) < needed:
        raise LabError(
            f"{free / GIB:.1f} GiB are free on the disk of {CACHE}, and the lab needs {needed / GIB:.1f}. Make room: "
            "the lab's own cache is there, and Go's is removed by `go clean -cache -modcache`"
        )


def _programs() -> set[Path]:
    folder = CACHE / "programs"
    return {path for path in folder.iterdir() if path.is_dir()} if folder.exists() else set()


def _free() -> int:
    there = next(path for path in (CACHE, *CACHE.parents) if path.exists())
    return shutil.disk_usage(there).free
