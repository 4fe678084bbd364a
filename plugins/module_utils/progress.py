# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module that runs for minutes says while it works: lines in a file, which its action reads and prints.

A service takes ``progress: Callable[[str], None]`` and calls it with one line for each step of work; its module gives
it ``progress_to(module.params["progress_path"])``.
"""

from __future__ import annotations

import os
from typing import Callable


def progress_to(path: str | None) -> Callable[[str], None]:
    """What appends a line to the file ``path`` at once, and does nothing without a path. Threads may share it.

    The file is made with mode 0600 when it is not there. A line that cannot be written is lost: a full disk or a
    directory that somebody removed must not stop the work that the line is about.
    """
    if path is None:
        return lambda line: None
    file = path

    def append(line: str) -> None:
        # A single write to a file opened for appending: lines of threads do not mix.
        data = (" ".join(line.splitlines()) + "\n").encode("utf-8", "replace")
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return
        try:
            os.write(descriptor, data)
        except OSError:
            pass
        finally:
            os.close(descriptor)

    return append
