# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Namespaces, Pods and NetworkPolicies as they stand in YAML, read into what decides about traffic.

What the API server would refuse is refused, with the object and the field that is wrong, and so is an unknown field
of a policy: a misspelt ``from`` would open the rule to everybody. Null is absent, as in Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .intervals import Intervals, Range, address_number, block_range, without

PROTOCOLS = ("TCP", "UDP", "SCTP")
NAME_LABEL = "kubernetes.io/metadata.name"
INGRESS, EGRESS = "Ingress", "Egress"
DEFAULT_NAMESPACE = "default"

_GROUPS = {"Namespace": "v1", "Pod": "v1", "NetworkPolicy": "networking.k8s.io/v1"}
_PEERS = {INGRESS: "from", EGRESS: "to"}
_LAST_PORT = 65535
_SHOWN = 60

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")

Object = Mapping[str, Any]
Labels = dict[str, str]


class NetpolError(Exception):
    """An object, or an endpoint of a flow, that nothing can be decided with: which, and what is wrong with it."""


class Requirement(NamedTuple):
    """One requirement of a label selector; a ``matchLabels`` entry is In with one value."""

    key: str
    operator: str
    values: frozenset[str]


Selector = tuple[Requirement, ...]


class Peer(NamedTuple):
    """A peer by selectors. Without one for namespaces, the policy's own is meant."""

    pods: Selector
    namespaces: Selector | None


class PortSet(NamedTuple):
    """What a rule names of one protocol."""

    numbers: Intervals
    names: frozenset[str]


class Rule(NamedTuple):
    """Whom one rule lets through, and to which ports."""

    peers: tuple[Peer, ...] | None
    """None when everybody is meant, outside addresses too."""
    blocks: Intervals
    """Addresses of its ipBlocks; what they except is left out."""
    ports: dict[str, PortSet] | None
    """By protocol; None when all ports of every protocol are meant."""


class Policy(NamedTuple):
    """A NetworkPolicy. A direction that it does not isolate is not in ``rules``."""

    namespace: str
    name: str
    selector: Selector
    rules: dict[str, tuple[Rule, ...]]


class Pod(NamedTuple):
    """A Pod with the number of its address, and its container ports that have a name."""

    namespace: str
    name: str
    labels: Labels
    address: int | None
    ports: frozenset[tuple[str, str, int]]
    """Name, protocol, number."""


class Objects(NamedTuple):
    """Everything that decides: labels of namespaces by their name, pods, policies."""

    namespaces: dict[str, Labels]
    pods: list[Pod]
    policies: list[Policy]


def read_objects(objects: Iterable[Object]) -> Objects:
    """Namespaces, Pods and NetworkPolicies among the objects. Raises NetpolError."""
    found = Objects({}, [], [])
    seen: set[tuple[str, str, str]] = set()
    for place, each in enumerate(objects):
        field = Field(f"object {place + 1}", "", each)
        kind = field.mapping()["kind"].text()
        if _is_ours(kind, field):
            metadata = field.mapping()["metadata"].mapping()
            name = metadata["name"].matching(_DNS_LABEL if kind == "Namespace" else _SUBDOMAIN, "a name")
            namespace = "" if kind == "Namespace" else _namespace(metadata["namespace"])
            where = f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
            if (kind, namespace, name) in seen:
                raise NetpolError(f"{where} is given twice")
            seen.add((kind, namespace, name))
            _read(found, kind, namespace, name, Field(where, "", each))
    for pod in found.pods:
        found.namespaces.setdefault(pod.namespace, {NAME_LABEL: pod.namespace})
    return found


def _is_ours(kind: str, field: Field) -> bool:
    """Whether the object has a kind of ours; NetworkPolicies of other API groups are another kind."""
    if kind not in _GROUPS:
        return False
    version = field.mapping()["apiVersion"]
    if version.value is None or version.text() == _GROUPS[kind]:
        return True
    if version.text().rpartition("/")[0] == _GROUPS[kind].rpartition("/")[0]:
        raise version.wrong(_GROUPS[kind])
    return False


def _namespace(field: Field) -> str:
    return DEFAULT_NAMESPACE if field.value in (None, "") else field.matching(_DNS_LABEL, "the name of a namespace")


def _read(found: Objects, kind: str, namespace: str, name: str, field: Field) -> None:
    if kind == "Namespace":
        found.namespaces[name] = {NAME_LABEL: name, **_labels(field.mapping()["metadata"].mapping()["labels"])}
    elif kind == "Pod":
        found.pods.append(_pod(namespace, name, field))
    else:
        found.policies.append(_policy(namespace, name, field.mapping()["spec"]))


# --- fields -------------------------------------------------------------------------------------------------------


class Field:
    """A value, and where it stands: its object, and its path in it."""

    __slots__ = ("path", "value", "where")

    def __init__(self, where: str, path: str, value: Any) -> None:
        self.where = where
        self.path = path
        self.value = value

    def wrong(self, wanted: str) -> NetpolError:
        """The error that says what should be here."""
        return self.error(f"must be {wanted}, not {shown(self.value)}")

    def error(self, problem: str) -> NetpolError:
        return NetpolError(f"{self.where}: {self.path} {problem}" if self.path else f"{self.where} {problem}")

    def mapping(self, known: frozenset[str] | None = None) -> Fields:
        """The fields of a mapping; others than the known ones are refused."""
        value = {} if self.value is None else self.value
        if not isinstance(value, Mapping):
            raise self.wrong("a mapping")
        if known is not None:
            for key in value:
                if key not in known:
                    raise self.error(f"has an unknown field: {shown(key)}")
        return Fields(self, value)

    def items(self) -> Iterator[Field]:
        """The entries of a list."""
        if self.value is None:
            return
        if not isinstance(self.value, (list, tuple)):
            raise self.wrong("a list")
        for place, value in enumerate(self.value):
            yield Field(self.where, f"{self.path}[{place}]", value)

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("a string")
        return self.value

    def matching(self, pattern: re.Pattern[str], wanted: str) -> str:
        if not (isinstance(self.value, str) and pattern.fullmatch(self.value)):
            raise self.wrong(wanted)
        return self.value

    def one_of(self, choices: tuple[str, ...]) -> str:
        if not (isinstance(self.value, str) and self.value in choices):
            raise self.wrong(" or ".join(choices))
        return self.value

    def port(self) -> int:
        if not is_port(self.value):
            raise self.wrong(f"a port number from 1 to {_LAST_PORT}")
        number: int = self.value
        return number


class Fields:
    """The fields of a mapping, each with its path."""

    __slots__ = ("field", "values")

    def __init__(self, field: Field, values: Mapping[str, Any]) -> None:
        self.field = field
        self.values = values

    def __getitem__(self, key: str) -> Field:
        path = f"{self.field.path}.{key}" if self.field.path else key
        return Field(self.field.where, path, self.values.get(key))


def is_port(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LAST_PORT


def shown(value: Any) -> str:
    """A value for a message; what nests, or is long, is not shown in full."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"
    if value is None:
        return "nothing"
    text = repr(value[:_SHOWN] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


# --- labels and selectors -----------------------------------------------------------------------------------------


def _is_label_key(key: Any) -> bool:
    if not isinstance(key, str):
        return False
    prefix, slash, name = key.rpartition("/")
    return bool(_LABEL_NAME.fullmatch(name)) and (not slash or bool(_SUBDOMAIN.fullmatch(prefix)))


def _is_label_value(value: Any) -> bool:
    return isinstance(value, str) and (value == "" or bool(_LABEL_NAME.fullmatch(value)))


def _labels(field: Field) -> Labels:
    labels: Labels = {}
    for key, value in field.mapping().values.items():
        if not _is_label_key(key):
            raise field.error(f"has a key that no label can have: {shown(key)}")
        if not _is_label_value(value):
            raise Field(field.where, f"{field.path}.{key[:_SHOWN]}", value).wrong("the value of a label")
        labels[key] = value
    return labels


_SELECTOR = frozenset(("matchLabels", "matchExpressions"))
_EXPRESSION = frozenset(("key", "operator", "values"))


def _selector(field: Field) -> Selector:
    fields = field.mapping(_SELECTOR)
    labels = _labels(fields["matchLabels"])
    return (
        *(Requirement(key, "In", frozenset((value,))) for key, value in labels.items()),
        *(_expression(each) for each in fields["matchExpressions"].items()),
    )


def _expression(field: Field) -> Requirement:
    fields = field.mapping(_EXPRESSION)
    key = fields["key"]
    if not _is_label_key(key.value):
        raise key.wrong("the key of a label")
    operator = fields["operator"].one_of(("In", "NotIn", "Exists", "DoesNotExist"))
    values = []
    for value in fields["values"].items():
        if not _is_label_value(value.value):
            raise value.wrong("the value of a label")
        values.append(value.value)
    if bool(values) != operator.endswith("In"):
        raise fields["values"].error(f"must {'' if not values else 'not '}be given with {operator}")
    return Requirement(key.value, operator, frozenset(values))


# --- pods ---------------------------------------------------------------------------------------------------------


def _pod(namespace: str, name: str, field: Field) -> Pod:
    fields = field.mapping()
    address = fields["status"].mapping()["podIP"]
    ports = frozenset(
        named
        for container in fields["spec"].mapping()["containers"].items()
        for port in container.mapping()["ports"].items()
        for named in _container_port(port)
    )
    labels = _labels(fields["metadata"].mapping()["labels"])
    return Pod(namespace, name, labels, None if address.value in (None, "") else _address(address), ports)


def _container_port(field: Field) -> Iterator[tuple[str, str, int]]:
    fields = field.mapping()
    number = fields["containerPort"].port()
    protocol = _protocol(fields["protocol"])
    if fields["name"].value not in (None, ""):
        yield fields["name"].matching(_PORT_NAME, "the name of a port"), protocol, number


def _protocol(field: Field) -> str:
    return PROTOCOLS[0] if field.value is None else field.one_of(PROTOCOLS)


def _address(field: Field) -> int:
    try:
        return address_number(field.text())
    except ValueError:
        raise field.wrong("an IP address") from None


# --- policies -----------------------------------------------------------------------------------------------------

_SPEC = frozenset(("podSelector", "policyTypes", "ingress", "egress"))
_PEER = frozenset(("podSelector", "namespaceSelector", "ipBlock"))
_BLOCK = frozenset(("cidr", "except"))
_PORT = frozenset(("port", "endPort", "protocol"))


def _policy(namespace: str, name: str, spec: Field) -> Policy:
    fields = spec.mapping(_SPEC)
    rules = {
        direction: tuple(_rule(each, direction) for each in fields[direction.lower()].items())
        for direction in (INGRESS, EGRESS)
    }
    types = {each.one_of((INGRESS, EGRESS)) for each in fields["policyTypes"].items()}
    if not types:
        types = {INGRESS, EGRESS} if rules[EGRESS] else {INGRESS}
    isolated = {direction: rules[direction] for direction in (INGRESS, EGRESS) if direction in types}
    return Policy(namespace, name, _selector(fields["podSelector"]), isolated)


def _rule(field: Field, direction: str) -> Rule:
    fields = field.mapping(frozenset((_PEERS[direction], "ports")))
    peers: list[Peer] = []
    ranges: list[Range] = []
    given = list(fields[_PEERS[direction]].items())
    for each in given:
        _peer(each, peers, ranges)
    return Rule(tuple(peers) if given else None, Intervals(ranges), _ports(fields["ports"]))


def _peer(field: Field, peers: list[Peer], ranges: list[Range]) -> None:
    """Add what one peer means to the peers by selectors, or to the ranges of addresses."""
    fields = field.mapping(_PEER)
    pods, namespaces, block = fields["podSelector"], fields["namespaceSelector"], fields["ipBlock"]
    by_selector = pods.value is not None or namespaces.value is not None
    if by_selector == (block.value is not None):
        raise field.error("must have either selectors or an ipBlock")
    if by_selector:
        peers.append(Peer(_selector(pods), None if namespaces.value is None else _selector(namespaces)))
    else:
        ranges.extend(_block(block))


def _block(field: Field) -> Iterator[Range]:
    fields = field.mapping(_BLOCK)
    first, last = _cidr(fields["cidr"])
    holes = []
    for each in fields["except"].items():
        start, end = _cidr(each)
        if not (first <= start and end <= last) or (start, end) == (first, last):
            raise each.error(f"must be a strict part of {fields['cidr'].value}, and {shown(each.value)} is not")
        holes.append((start, end))
    return without((first, last), holes)


def _cidr(field: Field) -> Range:
    try:
        return block_range(field.text())
    except ValueError:
        raise field.wrong("a CIDR") from None


def _ports(field: Field) -> dict[str, PortSet] | None:
    given = list(field.items())
    if not given:
        return None
    numbers: dict[str, list[Range]] = {}
    names: dict[str, set[str]] = {}
    for each in given:
        fields = each.mapping(_PORT)
        protocol = _protocol(fields["protocol"])
        port, end = fields["port"], fields["endPort"]
        numbers.setdefault(protocol, [])
        names.setdefault(protocol, set())
        if end.value is not None and not isinstance(port.value, int):
            raise end.error("needs a port that is a number")
        if port.value is None:
            numbers[protocol].append((0, _LAST_PORT))
        elif isinstance(port.value, str):
            names[protocol].add(port.matching(_PORT_NAME, "the name or number of a port"))
        else:
            first = port.port()
            last = first if end.value is None else end.port()
            if last < first:
                raise end.error(f"must not be below port, and {last} is below {first}")
            numbers[protocol].append((first, last))
    return {each: PortSet(Intervals(numbers[each]), frozenset(names[each])) for each in numbers}
