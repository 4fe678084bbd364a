# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether NetworkPolicies let Argo Rollouts ask Prometheus: without it every analysis of a canary ends in Error."""

from __future__ import annotations

from collections.abc import Iterator

from ..netpol.reachability import NetpolError, World
from .facts import ERROR, Facts, Finding

_NAME, _COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"


def check_policies(facts: Facts) -> Iterator[Finding]:
    """The way from the controller's pods to Prometheus, by the policies as they are.

    Which of several ports of a Service is the one that is asked is not known where its pods have another number for it:
    so the way is closed when all of them are.
    """
    ways = [(source, target, port) for source in _controllers(facts) for target, port in facts.prometheus_pods]
    try:
        world = World.of(facts.network)
        verdicts = [(way, world.explain(*way)) for way in ways]
    except NetpolError:
        return  # a policy that the engine cannot read: nothing is known of the way
    if not verdicts or any(verdict.allowed for _way, verdict in verdicts):
        return
    (source, target, port), verdict = verdicts[0]
    yield Finding(
        "policy-blocks-prometheus",
        ERROR,
        "NetworkPolicies keep Argo Rollouts from Prometheus",
        f"Pod {source}",
        f"It does not reach port {port} of {target}, so that every analysis of a canary would end in Error.",
        [f"the {verdict.direction} is closed by {', '.join(verdict.policies)}"],
        [
            f"Declare the flow from {source.partition('/')[0]} to {target.partition('/')[0]}, and apply the policies "
            "with the role network_policies."
        ],
    )


def _controllers(facts: Facts) -> list[str]:
    """Of Argo Rollouts, at work. Its dashboard asks nobody."""
    found = []
    for pod in facts.network:
        labels = pod["metadata"].get("labels") or {}
        ours = labels.get(_NAME) == "argo-rollouts" and "dashboard" not in labels.get(_COMPONENT, "")
        if pod.get("kind") == "Pod" and ours and (pod.get("status") or {}).get("phase") == "Running":
            found.append(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}")
    return found
