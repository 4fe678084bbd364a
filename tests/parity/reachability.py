# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which flows NetworkPolicies let through, one JSON line in, one out: see docs of the engine ``netpol/reachability``.

In: ``{"id", "resources": [Namespace, Pod, NetworkPolicy...], "flows": [{"from", "to", "port", "protocol"}]}``; an end
is ``namespace/pod`` or an IP address. Out: ``{"id", "verdicts": ["allow" | "deny"...]}``, or no verdicts and ``error``.
"""

from __future__ import annotations

import sys
from typing import Any

import _path  # noqa: F401  (puts the engines on sys.path)
from _lines import answer_lines
from engines.netpol.reachability import NetpolError, World


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """One case of the contract. Raises for an object or a flow that nothing can be decided with."""
    world = World.of(_list(case, "resources"))
    return {
        "id": case.get("id"),
        "verdicts": ["allow" if _allowed(world, flow) else "deny" for flow in _list(case, "flows")],
    }


def refusal(name: Any, reason: str) -> dict[str, Any]:
    """The output line of a case, or of a line, without an answer."""
    return {"id": name, "verdicts": [], "error": reason}


def _allowed(world: World, flow: Any) -> bool:
    if not isinstance(flow, dict) or not {"from", "to", "port"} <= flow.keys():
        raise NetpolError("a flow must be a mapping with from, to and port")
    protocol = flow.get("protocol")
    return world.allows(flow["from"], flow["to"], flow["port"], "TCP" if protocol is None else protocol)


def _list(case: dict[str, Any], name: str) -> list[Any]:
    given = case.get(name)
    if not isinstance(given, (list, type(None))):
        raise NetpolError(f"{name} must be a list")
    return given or []


if __name__ == "__main__":
    answer_lines(sys.stdin.buffer, answer, refusal)
