#!/usr/bin/env python3
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which flows NetworkPolicies let through, one JSON line in, one out.

In: ``{"id", "resources": [Namespace, Pod and NetworkPolicy objects], "flows": [{"from", "to", "port", "protocol"}]}``;
an end of a flow is ``namespace/pod`` or an IP address. Out: ``{"id", "verdicts": ["allow" | "deny", ...]}``, or
``{"id", "error", "verdicts": []}`` for an unknown pod or an invalid object.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import _path  # noqa: F401  (makes engines importable)
from _lines import answer_lines
from engines.netpol.reachability import NetpolError, World

# From this many bytes on the flows of a line are read piece by piece: a million of them as objects take half a GiB.
LONG = 1 << 20
PIECE = 1 << 16


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """One case of the contract. Raises for what the API server would refuse."""
    world = World.of(_list(case, "resources"))
    return {"id": case.get("id"), "verdicts": [_verdict(world, flow) for flow in _list(case, "flows")]}


def answer_long(line: bytes) -> dict[str, Any] | None:
    """The same for a long line of the usual form; None for any other, which is then read as a whole."""
    begin = re.search(rb'"flows"\s*:\s*\[', line) if len(line) >= LONG and line.count(b'"flows"') == 1 else None
    end = line.find(b"]", begin.end()) if begin else -1
    if begin is None or end < 0:
        return None
    case = json.loads(line[: begin.end()] + line[end:])
    if not isinstance(case, dict) or case.get("flows") != []:
        return None
    world = World.of(_list(case, "resources"))
    return {"id": case.get("id"), "verdicts": [_verdict(world, flow) for flow in _pieces(line, begin.end(), end)]}


def _pieces(line: bytes, begin: int, end: int) -> Iterator[Any]:
    while begin < end:
        cut = line.find(b"}", begin + PIECE, end) + 1 or end
        yield from json.loads(b"[" + line[begin:cut].strip().lstrip(b",") + b"]")
        begin = cut


def _verdict(world: World, flow: Any) -> str:
    if not isinstance(flow, dict):
        raise NetpolError(f"a flow is a mapping, not {flow!r}")
    source, target, port, protocol = (flow.get(name) for name in ("from", "to", "port", "protocol"))
    asked: tuple[Any, ...] = (source, target, port, "TCP" if protocol is None else protocol)
    return "allow" if world.allows(*asked) else "deny"


def _list(case: dict[str, Any], name: str) -> list[Any]:
    value = case.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise NetpolError(f"{name} is no list")
    return value


def refusal(name: Any, reason: str) -> dict[str, Any]:
    """The output line of a case, or of a line, without an answer."""
    return {"id": name, "error": reason.removeprefix("NetpolError: "), "verdicts": []}


if __name__ == "__main__":
    answer_lines(sys.stdin.buffer, answer, refusal, answer_long)
