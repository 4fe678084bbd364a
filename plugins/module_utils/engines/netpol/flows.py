# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Declared flows to the NetworkPolicies that allow them, and nothing else, in namespaces that are denied by default.

Traffic between two pods needs egress at its source and ingress at its target. So a flow becomes a policy at each of its
ends that is in a denied namespace; other namespaces get none.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MANAGED_BY = "app.kubernetes.io/managed-by"
SET_LABEL = "lumen.airgap/policies"
MANAGER = "lumen.airgap"
NAMESPACE_LABEL = "kubernetes.io/metadata.name"
PROTOCOLS = ("TCP", "UDP", "SCTP")

POD, BLOCK, DNS, API_SERVER, NODES, ANYWHERE = "pods", "cidr", "dns", "apiserver", "nodes", "anywhere"
_WORDS = (DNS, API_SERVER, NODES, ANYWHERE)
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")

Object = dict[str, Any]


class FlowError(ValueError):
    """A flow that says nothing, or something that a NetworkPolicy cannot say."""


class Port(NamedTuple):
    """``port`` is a number, or a name that the target's containers declare; None: every port of the protocol."""

    port: int | str | None
    protocol: str = "TCP"
    end_port: int | None = None

    @property
    def rule(self) -> Object:
        """As it stands in a policy."""
        rule: Object = {"protocol": self.protocol}
        if self.port is not None:
            rule["port"] = self.port
        if self.end_port is not None:
            rule["endPort"] = self.end_port
        return rule


@dataclass(frozen=True)
class End:
    """One end of a flow: pods of a namespace, a block of addresses, or what one of the words stands for."""

    kind: str
    namespace: str = ""
    selector: Object = field(default_factory=dict)
    cidr: str = ""
    excepts: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind == POD:
            labels = ",".join(f"{key}={value}" for key, value in (self.selector.get("matchLabels") or {}).items())
            return f"{self.namespace}/{labels or '*'}"
        return self.cidr or self.kind


@dataclass(frozen=True)
class Flow:
    """Who may open connections to whom. Without ports: to every port."""

    name: str
    sources: tuple[End, ...]
    targets: tuple[End, ...]
    ports: tuple[Port, ...] = ()

    @property
    def ends(self) -> tuple[End, ...]:
        """All of them."""
        return self.sources + self.targets


@dataclass(frozen=True)
class Surroundings:
    """What the words in flows stand for in this cluster."""

    api_server: Sequence[str] = ()
    """Addresses without a prefix."""
    api_server_ports: Sequence[int] = (6443,)
    nodes: Sequence[str] = ()
    dns_namespace: str = "kube-system"
    dns_labels: Mapping[str, str] = field(default_factory=lambda: {"k8s-app": "kube-dns"})

    @property
    def dns(self) -> End:
        """The pods that answer."""
        return End(POD, self.dns_namespace, {"matchLabels": dict(self.dns_labels)})

    def ports_of(self, flow: Flow, target: End) -> tuple[Port, ...]:
        """The flow's own, or those that the word for its target brings."""
        if not flow.ports and target.kind == DNS:
            return Port(53, "UDP"), Port(53, "TCP")
        if not flow.ports and target.kind == API_SERVER:
            return tuple(Port(number) for number in self.api_server_ports)
        return flow.ports

    def peers(self, end: End) -> list[Object]:
        """An end as the peers of a rule; empty: everybody, since a rule without peers allows all."""
        if end.kind == ANYWHERE:
            return []
        if end.kind == DNS:
            return self.peers(self.dns)
        if end.kind == BLOCK:
            return [{"ipBlock": {"cidr": end.cidr, **({"except": list(end.excepts)} if end.excepts else {})}}]
        if end.kind in (API_SERVER, NODES):
            addresses = self.api_server if end.kind == API_SERVER else self.nodes
            if not addresses:
                raise FlowError(f"no address is known for {end.kind}")
            return [{"ipBlock": {"cidr": host_block(address)}} for address in addresses]
        peer: Object = {"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: end.namespace}}}
        return [{**peer, "podSelector": end.selector} if end.selector else peer]


class Rendered(NamedTuple):
    """``unused`` are the names of flows that no denied namespace has a part in."""

    policies: list[Object]
    unused: list[str]


def parse_flows(entries: Iterable[Mapping[str, Any]]) -> list[Flow]:
    """Flows of what a user wrote: ``{name, from, to, ports}``. Raises FlowError."""
    flows = [_flow(entry, number) for number, entry in enumerate(entries, 1)]
    names = [flow.name for flow in flows]
    for name in names:
        if names.count(name) > 1:
            raise FlowError(f"two flows are named {name}")
    return flows


def parse_ends(value: Any, where: str) -> tuple[End, ...]:
    """One end, or a list of them. Raises FlowError, which names ``where``."""
    entries = value if isinstance(value, (list, tuple)) else [value]
    if not entries:
        raise FlowError(f"{where} is an empty list")
    return tuple(end for entry in entries for end in _ends(entry, where))


def parse_port(entry: Any, where: str) -> Port:
    """A port of a flow. Raises FlowError, which names ``where``."""
    entry = {"port": entry} if isinstance(entry, (int, str)) else entry
    _keys(entry, {"port", "protocol", "end_port"}, where)
    protocol = entry.get("protocol") or "TCP"
    if protocol not in PROTOCOLS:
        raise FlowError(f"{where}: the protocol is one of {', '.join(PROTOCOLS)}, not {protocol!r}")
    port, end = _number(entry.get("port")), _number(entry.get("end_port"))
    if isinstance(port, str) and not _PORT_NAME.fullmatch(port):
        raise FlowError(f"{where}: {port!r} is neither a number nor a name of a port")
    for number in (port, end):
        if isinstance(number, int) and not 1 <= number <= 65535:
            raise FlowError(f"{where}: a port is from 1 to 65535, not {number}")
    if end is not None and not (isinstance(port, int) and isinstance(end, int) and end >= port):
        raise FlowError(f"{where}: end_port is a number not below port, which is then a number, too")
    return Port(port, protocol, end if isinstance(end, int) else None)


def uses(flows: Iterable[Flow], word: str) -> bool:
    """Whether an address has to be known for the word."""
    return any(end.kind == word for flow in flows for end in flow.ends)


def labels(set_name: str) -> dict[str, str]:
    """What every policy of a set carries, so that pruning finds it."""
    return {MANAGED_BY: MANAGER, SET_LABEL: set_name}


def render(set_name: str, denied: Sequence[str], flows: Sequence[Flow], surroundings: Surroundings) -> Rendered:
    """The policies of a set: everything denied in these namespaces, then what the flows allow. Raises FlowError."""
    if not _LABEL.fullmatch(set_name):
        raise FlowError(f"a set of policies is named by lower case letters, digits and '-', not {set_name!r}")
    for namespace in denied:
        _namespace(namespace, "namespaces")
    policies = [_policy(set_name, f"{set_name}-default-deny", name, {}, None, []) for name in dict.fromkeys(denied)]
    unused = []
    for flow in flows:
        try:
            allowing = [*_side(set_name, denied, flow, surroundings, "egress")]
            allowing += _side(set_name, denied, flow, surroundings, "ingress")
        except FlowError as error:
            raise FlowError(f"flow {flow.name}: {error}") from None
        policies += allowing
        if not allowing:
            unused.append(flow.name)
    return Rendered(policies, unused)


def host_block(address: str) -> str:
    """An address as a block of one. Raises FlowError."""
    try:
        return str(ipaddress.ip_network(address))
    except ValueError:
        raise FlowError(f"{address!r} is no address") from None


def _side(
    set_name: str, denied: Sequence[str], flow: Flow, surroundings: Surroundings, direction: str
) -> Iterable[Object]:
    """The policies at one side of a flow, one for each of its ends there that is in a denied namespace."""
    here, there = (flow.sources, flow.targets) if direction == "egress" else (flow.targets, flow.sources)
    counts: dict[str, int] = {}
    for end in here:
        own = surroundings.dns if end.kind == DNS else end
        if own.kind != POD or own.namespace not in denied:
            continue
        counts[own.namespace] = number = counts.get(own.namespace, 0) + 1
        name = f"{set_name}-{flow.name}-{direction}" + (f"-{number}" if number > 1 else "")
        rules = [_rule(flow, end, other, surroundings, direction) for other in there]
        yield _policy(set_name, name, own.namespace, own.selector, direction, rules)


def _rule(flow: Flow, here: End, there: End, surroundings: Surroundings, direction: str) -> Object:
    target = there if direction == "egress" else here
    peers = surroundings.peers(there)
    ports = [port.rule for port in surroundings.ports_of(flow, target)]
    return {
        **({"to" if direction == "egress" else "from": peers} if peers else {}),
        **({"ports": ports} if ports else {}),
    }


def _policy(
    set_name: str, name: str, namespace: str, selector: Object, direction: str | None, rules: list[Object]
) -> Object:
    spec: Object = {
        "podSelector": selector,
        "policyTypes": [direction.capitalize()] if direction else ["Ingress", "Egress"],
    }
    if direction:
        spec[direction] = rules
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "labels": labels(set_name)},
        "spec": spec,
    }


def _flow(entry: Any, number: int) -> Flow:
    where = f"flow {number}"
    _keys(entry, {"name", "from", "to", "ports"}, where)
    name = entry.get("name")
    if not isinstance(name, str) or not _LABEL.fullmatch(name):
        raise FlowError(f"{where}: its name is made of lower case letters, digits and '-', not {name!r}")
    where = f"flow {name}"
    for key in ("from", "to"):
        if entry.get(key) is None:
            raise FlowError(f"{where} has no '{key}'")
    ports = tuple(parse_port(port, f"{where}, ports") for port in entry.get("ports") or ())
    return Flow(name, parse_ends(entry["from"], f"{where}, from"), parse_ends(entry["to"], f"{where}, to"), ports)


def _ends(entry: Any, where: str) -> list[End]:
    if isinstance(entry, str):
        if entry not in _WORDS:
            raise FlowError(f"{where}: {entry!r} is none of {', '.join(_WORDS)}; pods are {{namespace: {entry}}}")
        return [End(entry)]
    if isinstance(entry, Mapping) and entry.get("cidr") is not None:
        _keys(entry, {"cidr", "except"}, where)
        return [_block(entry, where)]
    _keys(entry, {"namespace", "pods"}, where)
    names = entry.get("namespace")
    selector = _selector(entry.get("pods") or {}, where)
    names = names if isinstance(names, list) and names else [names]
    for name in names:
        _namespace(name, where)
    return [End(POD, name, selector) for name in names]


def _block(entry: Mapping[str, Any], where: str) -> End:
    try:
        block = ipaddress.ip_network(entry["cidr"])
        holes = [ipaddress.ip_network(text) for text in entry.get("except") or ()]
    except ValueError as error:
        raise FlowError(f"{where}: {error}") from None
    for hole in holes:
        if hole.version != block.version or not hole.subnet_of(block) or hole == block:  # type: ignore[arg-type]
            raise FlowError(f"{where}: {hole} is not a part of {block}, so nothing is excepted by it")
    return End(BLOCK, cidr=str(block), excepts=tuple(map(str, holes)))


def _selector(value: Any, where: str) -> Object:
    _keys(value, {"matchLabels", "matchExpressions"}, f"{where}, pods")
    if not isinstance(value.get("matchLabels") or {}, Mapping):
        raise FlowError(f"{where}: matchLabels is no dictionary of labels and their values")
    for key, text in (value.get("matchLabels") or {}).items():
        if not isinstance(text, str):
            raise FlowError(f"{where}: the label {key} has the value {text!r}, which is not text: quote it")
    for each in value.get("matchExpressions") or ():
        _keys(each, {"key", "operator", "values"}, f"{where}, matchExpressions")
        if each.get("operator") not in _OPERATORS or bool(each.get("values")) != (each["operator"] in _OPERATORS[:2]):
            raise FlowError(
                f"{where}: {dict(each)} is no requirement: In and NotIn have values, Exists and DoesNotExist none"
            )
    return {key: each for key, each in value.items() if each}


def _namespace(name: Any, where: str) -> None:
    if not isinstance(name, str) or not _LABEL.fullmatch(name):
        raise FlowError(f"{where}: {name!r} is no name of a namespace")


def _number(value: Any) -> int | str | None:
    """What a template made text of is a number all the same."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _keys(entry: Any, known: set[str], where: str) -> None:
    if not isinstance(entry, Mapping):
        raise FlowError(f"{where}: {entry!r} is no dictionary with {', '.join(sorted(known))}")
    unknown = sorted(set(map(str, entry)) - known)
    if unknown:
        raise FlowError(f"{where}: {', '.join(unknown)} is none of {', '.join(sorted(known))}")
