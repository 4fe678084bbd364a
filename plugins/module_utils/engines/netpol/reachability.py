# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who reaches whom under NetworkPolicies (networking.k8s.io/v1), decided from plain objects.

Every set of pods is a number with a bit for each pod, so a selector is a few operations on numbers, and so is what all
pairs are answered with: a policy is looked at once, not once for each pair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .objects import (
    NAME_LABEL,
    PROTOCOLS,
    Address,
    Namespace,
    NetpolError,
    Peer,
    Pod,
    Policy,
    PortRange,
    Rule,
    Selector,
    read_address,
    read_object,
)

__all__ = ["Matrix", "NetpolError", "Verdict", "World"]

Ports = tuple[int, str]


class Verdict(NamedTuple):
    """``direction`` is the first that denies (egress before ingress), with the policies that isolate there."""

    allowed: bool
    direction: str = ""
    policies: tuple[str, ...] = ()


class Matrix:
    """The answers for all pairs of pods on one port. ``pods`` gives the order of rows and columns."""

    def __init__(self, pods: Sequence[str], rows: Sequence[int]) -> None:
        self.pods = pods
        self._rows = rows

    def __iter__(self) -> Iterator[tuple[str, str, bool]]:
        """Every pair: source, target, whether it is allowed."""
        for source, row in zip(self.pods, self._rows):
            for target in self.pods:
                yield source, target, bool(row & 1)
                row >>= 1

    @property
    def allowed(self) -> int:
        """How many pairs are allowed, each pod to itself among them."""
        return sum(bin(row).count("1") for row in self._rows)


class World:
    """Namespaces, pods and policies as they are, or would be."""

    def __init__(self, namespaces: Iterable[Namespace], pods: Sequence[Pod], policies: Sequence[Policy]) -> None:
        self._pods = pods
        self.pods = [f"{pod.namespace}/{pod.name}" for pod in pods]
        self.policies = [f"{policy.namespace}/{policy.name}" for policy in policies]
        self._numbers = _numbered(self.pods, "Pod")
        _numbered(self.policies, "NetworkPolicy")
        self._by_address: dict[Address, int] = {}
        for number, pod in enumerate(pods):
            if pod.address is not None:
                self._by_address.setdefault(pod.address, number)
        self._everyone = (1 << len(pods)) - 1
        self._labels = _Index((pod.labels for pod in pods), len(pods))
        self._in_namespace: dict[str, int] = defaultdict(int)
        for number, pod in enumerate(pods):
            self._in_namespace[pod.namespace] |= 1 << number
        known = {namespace.name: namespace for namespace in namespaces}
        names = sorted({*known, *self._in_namespace})
        self._namespaces = [known.get(name) or Namespace(name, {NAME_LABEL: name}) for name in names]
        self._namespace_labels = _Index((namespace.labels for namespace in self._namespaces), len(names))
        self._named: dict[tuple[str, str, int], int] = defaultdict(int)
        for number, pod in enumerate(pods):
            for port in pod.ports:
                self._named[port] |= 1 << number
        self._peers: dict[tuple[str, Peer], int] = {}
        self._policies = policies
        # For each pod the numbers of the policies that isolate it.
        self._isolating: dict[str, list[list[int]]] = {way: [[] for _pod in pods] for way in ("ingress", "egress")}
        for number, policy in enumerate(policies):
            selected = self._in_namespace.get(policy.namespace, 0) & self._labels.select(policy.pods)
            for way, isolating in self._isolating.items():
                if getattr(policy, way) is not None:
                    for pod_number in _bits(selected):
                        isolating[pod_number].append(number)
        self._reached: dict[tuple[str, tuple[int, ...], Ports, int], int] = {}
        # For each port and each pod whom it may send to and whom it may hear, as far as it was asked.
        self._answers: dict[Ports, tuple[list[Any], list[Any]]] = {}

    @classmethod
    def of(cls, objects: Iterable[Any]) -> World:
        """Read Namespace, Pod and NetworkPolicy objects; others are left out. Raises ``NetpolError``."""
        found: dict[type, list[Any]] = {Namespace: [], Pod: [], Policy: []}
        for number, obj in enumerate(objects, start=1):
            value = read_object(obj, number)
            if value is not None:
                found[type(value)].append(value)
        _numbered([namespace.name for namespace in found[Namespace]], "Namespace")
        return cls(found[Namespace], found[Pod], found[Policy])

    def allows(self, source: str, target: str, port: int, protocol: str = "TCP") -> bool:
        """Whether ``source`` reaches ``port`` of ``target``: ``namespace/pod``, or an IP address.

        An address that a pod has is that pod. Raises ``NetpolError`` for an unknown pod, or what is no address or port.
        """
        ports = (port, protocol)
        if isinstance(port, bool) or not isinstance(port, int):  # 80.0 and True are equal to a number
            return self.explain(source, target, port, protocol).allowed
        try:
            of, to = self._numbers[source], self._numbers[target]
            outgoing, incoming = self._answers[ports]
        except (KeyError, TypeError):  # an end that is no pod, or the first question about this port
            return self.explain(source, target, port, protocol).allowed
        if outgoing[of] is None:
            outgoing[of] = self._let_through("egress", of, ports)
        if incoming[to] is None:
            incoming[to] = self._let_through("ingress", to, ports)
        return of == to or bool(outgoing[of] >> to & incoming[to] >> of & 1)

    def explain(self, source: str, target: str, port: int, protocol: str = "TCP") -> Verdict:
        """The answer of ``allows`` with its reason."""
        _check_port(port, protocol)
        self._answers.setdefault((port, protocol), ([None] * len(self._pods), [None] * len(self._pods)))
        ends = self._end(source), self._end(target)
        if ends[0] == ends[1]:
            return Verdict(True)
        for way, of, other in (("egress", ends[0], ends[1]), ("ingress", ends[1], ends[0])):
            if isinstance(of, Address):
                continue  # nothing isolates what is outside
            policies = self._isolating[way][of]
            if policies and not self._passes(way, tuple(policies), of, other, (port, protocol)):
                return Verdict(False, way, tuple(self.policies[number] for number in policies))
        return Verdict(True)

    def matrix(self, port: int, protocol: str = "TCP") -> Matrix:
        """The answers for all pairs of pods."""
        _check_port(port, protocol)
        ports = (port, protocol)
        # Pods that the same policies isolate answer alike; on the way in their named ports count too.
        incoming: dict[int, int] = defaultdict(int)
        for number in range(len(self._pods)):
            incoming[self._let_through("ingress", number, ports)] |= 1 << number
        rows = []
        for number in range(len(self._pods)):
            bit, row = 1 << number, 0
            for sources, targets in incoming.items():
                if sources & bit:
                    row |= targets
            rows.append(row & self._let_through("egress", number, ports) | bit)
        return Matrix(self.pods, rows)

    def _end(self, text: str) -> int | Address:
        """The number of a pod, or an address outside."""
        if not isinstance(text, str):
            raise NetpolError(f"{text!r} is neither namespace/pod nor an IP address")
        if "/" in text:
            try:
                return self._numbers[text]
            except KeyError:
                raise NetpolError(f"there is no pod {text}") from None
        address = read_address(text, "an end of a flow")
        return self._by_address.get(address, address)

    def _passes(self, way: str, policies: tuple[int, ...], of: int, other: int | Address, ports: Ports) -> bool:
        if isinstance(other, int):
            return bool(self._admitted(way, policies, of, ports) >> other & 1)
        inside = of if way == "ingress" else None
        return any(
            self._fits_outside(rule, other) and self._fits_ports(rule, inside, ports)
            for number in policies
            for rule in getattr(self._policies[number], way)
        )

    def _let_through(self, way: str, of: int, ports: Ports) -> int:
        """The pods on the other end that what isolates the pod ``of`` lets through."""
        policies = self._isolating[way][of]
        return self._admitted(way, tuple(policies), of, ports) if policies else self._everyone

    def _admitted(self, way: str, policies: tuple[int, ...], of: int, ports: Ports) -> int:
        """The pods on the other end that these policies let through to or from the pod ``of``."""
        key = (way, policies, ports, of if way == "ingress" and self._pods[of].ports else -1)
        if key not in self._reached:
            admitted = 0
            for number in policies:
                policy = self._policies[number]
                for rule in getattr(policy, way):
                    admitted |= self._pods_of(policy.namespace, rule) & self._on_port(rule, way, of, ports)
            self._reached[key] = admitted
        return self._reached[key]

    def _pods_of(self, namespace: str, rule: Rule) -> int:
        if rule.peers is None:
            return self._everyone
        found = 0
        for peer in rule.peers:
            found |= self._peer(namespace, peer)
        return found

    def _on_port(self, rule: Rule, way: str, of: int, ports: Ports) -> int:
        """Of the pods on the other end those for which the port fits: a name means what the target calls so."""
        if way == "ingress":
            return self._everyone if self._fits_ports(rule, of, ports) else 0
        if rule.ports is None:
            return self._everyone
        found = 0
        for entry in rule.ports:
            if isinstance(entry.first, str):
                if entry.protocol == ports[1]:
                    found |= self._named.get((entry.first, ports[1], ports[0]), 0)
            elif _fits(entry, ports):
                return self._everyone
        return found

    def _fits_ports(self, rule: Rule, target: int | None, ports: Ports) -> bool:
        """``target`` is the pod whose names count; None outside, where no name does."""
        if rule.ports is None:
            return True
        return any(
            entry.protocol == ports[1]
            and target is not None
            and (entry.first, ports[1], ports[0]) in self._pods[target].ports
            if isinstance(entry.first, str)
            else _fits(entry, ports)
            for entry in rule.ports
        )

    @staticmethod
    def _fits_outside(rule: Rule, address: Address) -> bool:
        return rule.peers is None or any(peer.block is not None and peer.block.has(address) for peer in rule.peers)

    def _peer(self, namespace: str, peer: Peer) -> int:
        key = (namespace if peer.namespaces is None else "", peer)
        if key not in self._peers:
            self._peers[key] = self._read_peer(namespace, peer)
        return self._peers[key]

    def _read_peer(self, namespace: str, peer: Peer) -> int:
        if peer.block is not None:
            inside = 0
            for address, number in self._addresses():
                if peer.block.has(address):
                    inside |= 1 << number
            return inside
        if peer.namespaces is None:
            found = self._in_namespace.get(namespace, 0)
        else:
            found = 0
            for number in _bits(self._namespace_labels.select(peer.namespaces)):
                found |= self._in_namespace.get(self._namespaces[number].name, 0)
        return found if peer.pods is None else found & self._labels.select(peer.pods)

    def _addresses(self) -> Iterator[tuple[Address, int]]:
        return ((pod.address, number) for number, pod in enumerate(self._pods) if pod.address is not None)


class _Index:
    """Which of some labelled things a selector selects."""

    def __init__(self, labels: Iterable[Mapping[str, str]], count: int) -> None:
        self._everything = (1 << count) - 1
        self._with: dict[tuple[str, str], int] = defaultdict(int)
        self._having: dict[str, int] = defaultdict(int)
        for number, each in enumerate(labels):
            for key, value in each.items():
                self._with[key, value] |= 1 << number
                self._having[key] |= 1 << number

    def select(self, selector: Selector) -> int:
        found = self._everything
        for key, operator, values in selector:
            if operator in ("Exists", "DoesNotExist"):
                matching = self._having.get(key, 0)
            else:
                matching = 0
                for value in values:
                    matching |= self._with.get((key, value), 0)
            found &= matching if operator in ("In", "Exists") else ~matching
        return found


def _fits(entry: PortRange, ports: Ports) -> bool:
    number, protocol = ports
    return entry.protocol == protocol and (
        entry.first is None or (isinstance(entry.first, int) and entry.first <= number <= entry.last)
    )


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _check_port(port: Any, protocol: Any) -> None:
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise NetpolError(f"{port!r} is no port from 1 to 65535")
    if protocol not in PROTOCOLS:
        raise NetpolError(f"{protocol!r} is none of the protocols {', '.join(PROTOCOLS)}")


def _numbered(names: Sequence[str], kind: str) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for number, name in enumerate(names):
        if name in numbers:
            raise NetpolError(f"{kind} {name} comes twice")
        numbers[name] = number
    return numbers
