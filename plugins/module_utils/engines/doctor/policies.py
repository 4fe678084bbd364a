# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether NetworkPolicies let Argo Rollouts ask Prometheus: without it every analysis of a canary ends in Error."""

from __future__ import annotations

from collections.abc import Iterator

from ..netpol.reachability import NetpolError, World
from .facts import ERROR, Facts, Finding

_CONTROLLER = ("app.kubernetes.io/name", "argo-rollouts")


def check_policies(facts: Facts) -> Iterator[Finding]:
    """The way from the controller's pods to each pod of Prometheus, by the policies as they are."""
    ways = [(source, target, port) for source in _controllers(facts) for target, port in facts.prometheus_pods]
    if not ways:
        return
    try:
        world = World.of(facts.network)
        verdicts = [(way, world.explain(*way)) for way in ways]
    except NetpolError:
        return  # a policy that the engine cannot read: nothing is known of the way
    for (source, target, port), verdict in verdicts:
        if not verdict.allowed:
            side = f"leave {source}" if verdict.direction == "egress" else f"come to {target}"
            yield Finding(
                "policy-blocks-prometheus",
                ERROR,
                "NetworkPolicies keep Argo Rollouts from Prometheus",
                f"Pod {source}",
                f"It does not reach port {port} of {target}: none of the policies there lets it {side}, so that every "
                "analysis of a canary would end in Error.",
                [f"the {verdict.direction} is closed by {', '.join(verdict.policies)}"],
                ["Declare the flow, and apply the policies with the role network_policies."],
            )
            return


def _controllers(facts: Facts) -> list[str]:
    key, value = _CONTROLLER
    return [
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in facts.network
        if pod.get("kind") == "Pod" and (pod["metadata"].get("labels") or {}).get(key) == value
    ]
