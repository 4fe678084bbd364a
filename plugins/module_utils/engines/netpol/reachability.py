# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who reaches whom through NetworkPolicies, by the rules of networking.k8s.io/v1.

A set of pods is one big integer with a bit for each pod. What a policy selects and whom a rule lets through is worked
out once, from an index of labels, so that the flows of a million pairs are a few operations on such integers. The
pods are numbered in the order of their addresses: those in a block are then one run of bits.

Pods of a host's network are decided like others, which a network plugin may not do; so is every pod, running or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from operator import or_
from typing import NamedTuple

from .intervals import Intervals, address_number, places
from .objects import (
    EGRESS,
    INGRESS,
    PROTOCOLS,
    Labels,
    NetpolError,
    Object,
    Objects,
    Peer,
    Pod,
    Policy,
    PortSet,
    Selector,
    is_port,
    read_objects,
    shown,
)

__all__ = ["Matrix", "NetpolError", "Verdict", "World"]


class Verdict(NamedTuple):
    """Whether a flow is allowed; if not, in which direction it is denied, and who isolates in it."""

    allowed: bool
    direction: str = ""
    """``egress`` or ``ingress``; egress when both deny."""
    policies: tuple[str, ...] = ()
    """``namespace/name`` of each policy that isolates the pod in that direction and does not let the flow through."""


class _Rule(NamedTuple):
    """A rule whose peers have been looked up: a set of pods, and addresses outside. None is everybody."""

    pods: int | None
    blocks: Intervals
    ports: dict[str, PortSet] | None

    def passes(self, endpoint: _Endpoint) -> bool:
        if self.pods is None:
            return True
        if endpoint.pod is not None:
            return bool(self.pods >> endpoint.number & 1)
        return endpoint.address is not None and endpoint.address in self.blocks

    def opens(self, target: _Endpoint, port: int, protocol: str) -> bool:
        if self.ports is None:
            return True
        ports = self.ports.get(protocol)
        if ports is None:
            return False
        if port in ports.numbers:
            return True
        return target.pod is not None and any((name, protocol, port) in target.pod.ports for name in ports.names)


class _Policy(NamedTuple):
    name: str
    selected: int
    rules: dict[str, tuple[_Rule, ...]]


class _Endpoint(NamedTuple):
    """One end of a flow: a pod with its number, or an address outside with a number behind those of the pods."""

    number: int
    pod: Pod | None
    address: int | None


class World:
    """The pods and policies of a cluster."""

    def __init__(self, objects: Objects) -> None:
        self._in_order = [f"{pod.namespace}/{pod.name}" for pod in objects.pods]
        # Pods without an address come last: they are in no block.
        pods = sorted(objects.pods, key=lambda pod: (pod.address is None, pod.address or 0))
        self._endpoints = {
            f"{pod.namespace}/{pod.name}": _Endpoint(number, pod, pod.address) for number, pod in enumerate(pods)
        }
        self._at: dict[int, list[_Endpoint]] = {}
        for endpoint in self._endpoints.values():
            if endpoint.address is not None:
                self._at.setdefault(endpoint.address, []).append(endpoint)
        # Of each namespace and direction, the policies that isolate.
        self._policies: dict[tuple[str, str], list[_Policy]] = {}
        pool = _Pool(pods, objects.namespaces)
        for policy in objects.policies:
            made = pool.policy(policy)
            for direction in made.rules:
                self._policies.setdefault((policy.namespace, direction), []).append(made)

    @classmethod
    def of(cls, objects: Iterable[Object]) -> World:
        """The Namespaces, Pods and NetworkPolicies among the objects. Raises NetpolError for one that is invalid."""
        return cls(read_objects(objects))

    @property
    def pods(self) -> Sequence[str]:
        """``namespace/pod`` of every pod, in the order they were given."""
        return self._in_order

    def allows(self, source: str, target: str, port: int, protocol: str = "TCP") -> bool:
        """Whether a flow gets through. An end is ``namespace/pod`` or an IP address; raises NetpolError."""
        return self.explain(source, target, port, protocol).allowed

    def explain(self, source: str, target: str, port: int, protocol: str = "TCP") -> Verdict:
        """Whether a flow gets through, and if not, who stops it."""
        _check_port(port, protocol)
        start, end = self._endpoint(source), self._endpoint(target)
        if start.pod is not None and start.pod is end.pod:
            return Verdict(True)
        for direction, at, peer in ((EGRESS, start, end), (INGRESS, end, start)):
            isolating = self.isolating(at, direction)
            if isolating and not any(
                rule.passes(peer) and rule.opens(end, port, protocol)
                for policy in isolating
                for rule in policy.rules[direction]
            ):
                return Verdict(False, direction.lower(), tuple(policy.name for policy in isolating))
        return Verdict(True)

    def matrix(
        self,
        port: int,
        protocol: str = "TCP",
        sources: Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
    ) -> Matrix:
        """Every flow to one port: from the sources to the targets, each all pods if not given."""
        _check_port(port, protocol)
        outside: dict[int, int] = {}
        starts = self._ends(sources, outside)
        ends = self._ends(targets, outside)
        rows = _Rows(self, list(self._endpoints.values()), outside, port, protocol)
        received = rows.received(ends.values())
        return Matrix({name: rows.row(end, received) for name, end in starts.items()}, ends)

    def _ends(self, names: Sequence[str] | None, outside: dict[int, int]) -> dict[str, _Endpoint]:
        """The endpoints by their names. Addresses outside are numbered in their order, behind the pods."""
        found = {}
        for name in self._in_order if names is None else names:
            end = self._endpoint(name)
            if end.address is not None and end.pod is None:
                end = end._replace(number=outside.setdefault(end.address, len(self._endpoints) + len(outside)))
            found[name] = end
        return found

    def _endpoint(self, name: str) -> _Endpoint:
        try:
            known = self._endpoints.get(name)
            if known is not None:
                return known
            if "/" in name:
                raise NetpolError(f"there is no pod {shown(name)}")
            address = address_number(name)
        except (TypeError, ValueError):  # it may be anything
            raise NetpolError(f"an end of a flow is namespace/pod or an IP address, not {shown(name)}") from None
        pods = self._at.get(address, [])
        if len(pods) > 1:
            raise NetpolError(f"{name} is the address of several pods, {len(pods)} in all")
        return pods[0] if pods else _Endpoint(len(self._endpoints), None, address)

    def isolating(self, at: _Endpoint, direction: str) -> tuple[_Policy, ...]:
        """The policies that isolate an end in a direction; none an address outside."""
        if at.pod is None:
            return ()
        policies = self._policies.get((at.pod.namespace, direction), ())
        return tuple(policy for policy in policies if policy.selected >> at.number & 1)


def _check_port(port: int, protocol: str) -> None:
    if not is_port(port):
        raise NetpolError(f"the port of a flow is a number from 1 to 65535, not {shown(port)}")
    if not (isinstance(protocol, str) and protocol in PROTOCOLS):
        raise NetpolError(f"the protocol of a flow is {' or '.join(PROTOCOLS)}, not {shown(protocol)}")


# --- sets of pods -------------------------------------------------------------------------------------------------


def _bits(numbers: Iterable[int], size: int) -> int:
    """The set of these numbers; built in bytes, since an integer is copied for each bit that is added to it."""
    found = bytearray(size // 8 + 1)
    for number in numbers:
        found[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(found, "little")


class _Index:
    """Which pods have a label, their own or their namespace's."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._numbers: dict[str, dict[str, list[int]]] = {}
        self._sets: dict[tuple[str, str | None], int] = {}

    def add(self, labels: Labels, numbers: Iterable[int]) -> None:
        for key, value in labels.items():
            self._numbers.setdefault(key, {}).setdefault(value, []).extend(numbers)

    def select(self, selector: Selector) -> int:
        everybody = (1 << self._size) - 1
        found = everybody
        for key, operator, values in selector:
            by_value = operator in ("In", "NotIn")
            has = reduce(or_, (self._with(key, value) for value in values), 0) if by_value else self._with(key, None)
            found &= has if operator in ("In", "Exists") else everybody & ~has
        return found

    def _with(self, key: str, value: str | None) -> int:
        """Pods that have the label with this value, or with any."""
        known = self._sets.get((key, value))
        if known is not None:
            return known
        values = self._numbers.get(key, {})
        lists = values.values() if value is None else (values.get(value, ()),)
        made = _bits((number for numbers in lists for number in numbers), self._size)
        # What no pod has is not kept: there may be as much of it as there is input.
        if made:
            self._sets[(key, value)] = made
        return made


class _Pool:
    """Looks up which pods policies and rules mean."""

    def __init__(self, pods: Sequence[Pod], namespaces: dict[str, Labels]) -> None:
        self._by_pod = _Index(len(pods))
        self._by_namespace = _Index(len(pods))
        self._addresses = [pod.address for pod in pods if pod.address is not None]
        members: dict[str, list[int]] = {}
        for number, pod in enumerate(pods):
            self._by_pod.add(pod.labels, (number,))
            members.setdefault(pod.namespace, []).append(number)
        for namespace, numbers in members.items():
            self._by_namespace.add(namespaces[namespace], numbers)
        self._members = {namespace: _bits(numbers, len(pods)) for namespace, numbers in members.items()}

    def policy(self, policy: Policy) -> _Policy:
        own = self._members.get(policy.namespace, 0)
        return _Policy(
            f"{policy.namespace}/{policy.name}",
            own & self._by_pod.select(policy.selector),
            {
                direction: tuple(
                    _Rule(
                        None if rule.peers is None else self._pods(rule.peers, own, rule.blocks),
                        rule.blocks,
                        rule.ports,
                    )
                    for rule in rules
                )
                for direction, rules in policy.rules.items()
            },
        )

    def _pods(self, peers: Iterable[Peer], own: int, blocks: Intervals) -> int:
        found = 0
        for peer in peers:
            among = own if peer.namespaces is None else self._by_namespace.select(peer.namespaces)
            found |= among & self._by_pod.select(peer.pods)
        for first, end in places(self._addresses, blocks):
            found |= (1 << end) - (1 << first)
        return found


# --- all flows to one port ----------------------------------------------------------------------------------------


class _Rows:
    """Works out the rows of one port; pods that the same policies isolate share what they come to."""

    def __init__(
        self, world: World, pods: Sequence[_Endpoint], outside: dict[int, int], port: int, protocol: str
    ) -> None:
        self._world = world
        self._outside = outside
        self._port = port
        self._protocol = protocol
        self._everybody = (1 << len(pods) + len(outside)) - 1
        # Of each pod, and of each name, what the port is called.
        self._names: dict[int, frozenset[str]] = {}
        self._named: dict[str, int] = {}
        for end in pods:
            ports = end.pod.ports if end.pod is not None else ()
            names = frozenset(name for name, *known in ports if known == [protocol, port])
            if names:
                self._names[end.number] = names
            for name in names:
                self._named[name] = self._named.get(name, 0) | 1 << end.number
        # Keys hold ids: the world keeps its policies, so that these stay theirs.
        self._rules: dict[tuple[int, str], list[tuple[int, int]]] = {}
        self._sent: dict[tuple[int, ...], int] = {}
        self._received: dict[tuple[tuple[int, ...], frozenset[str]], int] = {}

    def row(self, source: _Endpoint, received: dict[int, int]) -> int:
        """The ends that a source reaches, of those that ``received`` is about."""
        found = 0
        for senders, targets in received.items():
            if senders >> source.number & 1:
                found |= targets
        return found & self._sent_by(source) | 1 << source.number

    def received(self, targets: Iterable[_Endpoint]) -> dict[int, int]:
        """Sets of targets by the set of sources that they let in."""
        found: dict[int, int] = {}
        for target in targets:
            senders = self._senders(target)
            found[senders] = found.get(senders, 0) | 1 << target.number
        return found

    def _sent_by(self, source: _Endpoint) -> int:
        policies = self._world.isolating(source, EGRESS)
        if not policies:
            return self._everybody
        key = tuple(map(id, policies))
        if key not in self._sent:
            rules = (rule for policy in policies for rule in self._looked_up(policy, EGRESS))
            self._sent[key] = reduce(or_, (peers & opened for peers, opened in rules), 0)
        return self._sent[key]

    def _senders(self, target: _Endpoint) -> int:
        policies = self._world.isolating(target, INGRESS)
        if not policies:
            return self._everybody
        key = tuple(map(id, policies)), self._names.get(target.number, frozenset())
        if key not in self._received:
            rules = (rule for policy in policies for rule in self._looked_up(policy, INGRESS))
            self._received[key] = reduce(or_, (peers for peers, opened in rules if opened >> target.number & 1), 0)
        return self._received[key]

    def _looked_up(self, policy: _Policy, direction: str) -> list[tuple[int, int]]:
        """Of each rule, the set of its peers and the set of targets whose port it opens."""
        key = id(policy), direction
        if key not in self._rules:
            self._rules[key] = [(self._peers(rule), self._opened(rule)) for rule in policy.rules[direction]]
        return self._rules[key]

    def _peers(self, rule: _Rule) -> int:
        if rule.pods is None:
            return self._everybody
        return reduce(
            or_, (1 << number for address, number in self._outside.items() if address in rule.blocks), rule.pods
        )

    def _opened(self, rule: _Rule) -> int:
        if rule.ports is None:
            return self._everybody
        ports = rule.ports.get(self._protocol)
        if ports is None:
            return 0
        if self._port in ports.numbers:
            return self._everybody
        return reduce(or_, (bits for name, bits in self._named.items() if name in ports.names), 0)


class Matrix:
    """Which source reaches which target on one port: a row of bits for each source."""

    def __init__(self, rows: dict[str, int], ends: dict[str, _Endpoint]) -> None:
        self._rows = rows
        self._numbers = {name: end.number for name, end in ends.items()}

    @property
    def sources(self) -> Sequence[str]:
        """The sources in the order they were asked for, each once."""
        return list(self._rows)

    @property
    def targets(self) -> Sequence[str]:
        """The targets in the order they were asked for, each once."""
        return list(self._numbers)

    def __len__(self) -> int:
        return len(self._rows) * len(self._numbers)

    def __iter__(self) -> Iterator[tuple[str, str, bool]]:
        """Source, target and whether the flow is allowed, row by row."""
        for source in self._rows:
            for target, allowed in zip(self._numbers, self.row(source)):
                yield source, target, allowed

    def row(self, source: str) -> list[bool]:
        """Whether the source reaches each target, in their order. KeyError for a source that is not of the matrix."""
        # A digit is found faster in a text than a bit in an integer.
        digits = format(self._rows[source], "b")[::-1]
        last = len(digits)
        return [number < last and digits[number] == "1" for number in self._numbers.values()]

    def allows(self, source: str, target: str) -> bool:
        """Whether one flow is allowed. KeyError for an end that is not of the matrix."""
        return bool(self._rows[source] >> self._numbers[target] & 1)

    @property
    def allowed(self) -> int:
        """How many of the flows are allowed."""
        return sum(sum(self.row(source)) for source in self._rows)
