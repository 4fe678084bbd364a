# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of NetworkPolicies once more, as they are told: valid objects alone, each flow from the start, slowly.

Shares nothing with the engine, so that they can only agree by both being right or wrong in the same way.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

NAME_LABEL = "kubernetes.io/metadata.name"


def naive_verdicts(case: dict[str, Any]) -> list[str]:
    """``allow`` or ``deny`` for each flow of a case of ``reachability.py``."""
    return ["allow" if _passes(case["resources"], flow) else "deny" for flow in case["flows"]]


def _passes(objects: list[Any], flow: Any) -> bool:
    source, target = (_end(objects, flow[name]) for name in ("from", "to"))
    if isinstance(source, dict) and source is target:
        return True
    port, protocol = flow["port"], flow.get("protocol", "TCP")
    return all(
        _open(objects, direction, at, peer, target, port, protocol)
        for direction, at, peer in (("Egress", source, target), ("Ingress", target, source))
    )


def _end(objects: list[Any], name: str) -> Any:
    """A Pod, or the address itself."""
    for pod in objects:
        if pod["kind"] == "Pod":
            if name == f"{_namespace(pod)}/{pod['metadata']['name']}":
                return pod
            address = pod.get("status", {}).get("podIP")
            if "/" not in name and address and ip_address(address) == ip_address(name):
                return pod
    assert "/" not in name, name
    return name


def _open(objects: list[Any], direction: str, at: Any, peer: Any, target: Any, port: int, protocol: str) -> bool:
    if not isinstance(at, dict):
        return True
    isolating = [
        each
        for each in objects
        if each["kind"] == "NetworkPolicy"
        and _namespace(each) == _namespace(at)
        and _matches(each["spec"].get("podSelector", {}), at["metadata"].get("labels", {}))
        and direction in _types(each["spec"])
    ]
    if not isolating:
        return True
    for policy in isolating:
        for rule in policy["spec"].get(direction.lower(), []):
            peers = rule.get("from" if direction == "Ingress" else "to")
            ports = rule.get("ports")
            if (not peers or any(_is_peer(objects, each, _namespace(policy), peer) for each in peers)) and (
                not ports or any(_is_port(each, target, port, protocol) for each in ports)
            ):
                return True
    return False


def _types(spec: Any) -> list[str]:
    return spec.get("policyTypes") or ["Ingress", "Egress"][: 2 if spec.get("egress") else 1]


def _is_peer(objects: list[Any], given: Any, namespace: str, peer: Any) -> bool:
    if "ipBlock" in given:
        address = peer.get("status", {}).get("podIP") if isinstance(peer, dict) else peer
        block = given["ipBlock"]
        return (
            bool(address)
            and _inside(address, block["cidr"])
            and not any(_inside(address, each) for each in block.get("except", []))
        )
    if not isinstance(peer, dict):
        return False
    if "namespaceSelector" in given:
        if not _matches(given["namespaceSelector"], _namespace_labels(objects, _namespace(peer))):
            return False
    elif _namespace(peer) != namespace:
        return False
    return _matches(given.get("podSelector", {}), peer["metadata"].get("labels", {}))


def _inside(address: str, cidr: str) -> bool:
    return ip_address(address) in ip_network(cidr, strict=False)


def _is_port(given: Any, target: Any, port: int, protocol: str) -> bool:
    if given.get("protocol", "TCP") != protocol:
        return False
    if "port" not in given:
        return True
    if isinstance(given["port"], int):
        return given["port"] <= port <= given.get("endPort", given["port"])
    if not isinstance(target, dict):
        return False
    return any(
        each.get("name") == given["port"] and each.get("protocol", "TCP") == protocol and each["containerPort"] == port
        for container in target.get("spec", {}).get("containers", [])
        for each in container.get("ports", [])
    )


def _matches(selector: Any, labels: dict[str, str]) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for each in selector.get("matchExpressions", []):
        has, among = each["key"] in labels, labels.get(each["key"]) in each.get("values", [])
        wanted = {"In": has and among, "NotIn": not (has and among), "Exists": has, "DoesNotExist": not has}
        if not wanted[each["operator"]]:
            return False
    return True


def _namespace(thing: Any) -> str:
    return str(thing["metadata"].get("namespace", "default"))


def _namespace_labels(objects: list[Any], name: str) -> dict[str, str]:
    for each in objects:
        if each["kind"] == "Namespace" and each["metadata"]["name"] == name:
            return {NAME_LABEL: name, **each["metadata"].get("labels", {})}
    return {NAME_LABEL: name}
