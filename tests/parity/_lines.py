# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON lines in, one out for each, in order: a line that cannot be answered says why and does not end the stream."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any


def answer_lines(
    lines: Iterable[bytes],
    answer: Callable[[dict[str, Any]], dict[str, Any]],
    refuse: Callable[[Any, str], Any],
    short_cut: Callable[[bytes], dict[str, Any] | None] = lambda line: None,
) -> None:
    """Print ``answer(case)``, or ``refuse(id, reason)`` with the id of the case, None when it has none.

    ``short_cut`` answers lines that it can read by itself; None, or an exception, leaves a line to ``answer``.
    """
    for line in lines:
        if line.strip():
            sys.stdout.write(json.dumps(_tried(line, short_cut) or _answered(line, answer, refuse)) + "\n")
            sys.stdout.flush()  # who asks line by line waits for it


def _tried(line: bytes, short_cut: Callable[[bytes], Any]) -> Any:
    try:
        return short_cut(line)
    except Exception:
        return None


def _answered(line: bytes, answer: Callable[[dict[str, Any]], Any], refuse: Callable[[Any, str], Any]) -> Any:
    name = None
    try:
        case = json.loads(line.decode())
        if not isinstance(case, dict):
            raise ValueError("a case must be a JSON object")
        name = case.get("id")
        return answer(case)
    except Exception as problem:
        return refuse(name, f"{type(problem).__name__}: {problem}")
