# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Namespace, Pod and NetworkPolicy objects read into plain values, and refused where the API server would refuse them.

The rules are those of networking.k8s.io/v1 (Kubernetes, pkg/apis/networking/validation).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

PROTOCOLS = ("TCP", "UDP", "SCTP")
#: The label that every namespace has.
NAME_LABEL = "kubernetes.io/metadata.name"

_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?\Z")
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
_LABEL_PREFIX = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z")
_PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*\Z")
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


class NetpolError(Exception):
    """An object, or what is asked about it, is not valid; the text says which and why."""


class Requirement(NamedTuple):
    """One condition of a selector; all of them have to hold."""

    key: str
    operator: str
    values: tuple[str, ...]


Selector = tuple[Requirement, ...]
"""Without requirements it selects everything."""


class Address(NamedTuple):
    """An address as a number, with the version of IP it belongs to."""

    version: int
    value: int


class Block(NamedTuple):
    """A range of addresses of one version without the ranges in ``but``: (first, last) each, both included."""

    version: int
    first: int
    last: int
    but: tuple[tuple[int, int], ...]

    def has(self, address: Address) -> bool:
        """Whether the address is in it; one of the other version never is."""
        value = address.value
        if address.version != self.version or not self.first <= value <= self.last:
            return False
        return not any(first <= value <= last for first, last in self.but)


class Peer(NamedTuple):
    """Either a block, or pods: of the policy's own namespace when there is no selector of namespaces."""

    block: Block | None
    namespaces: Selector | None
    pods: Selector | None


class PortRange(NamedTuple):
    """``first`` is a number, a name, or None for all ports of the protocol."""

    protocol: str
    first: int | str | None
    last: int


class Rule(NamedTuple):
    """None: no limit."""

    peers: tuple[Peer, ...] | None
    ports: tuple[PortRange, ...] | None


class Policy(NamedTuple):
    """``ingress`` and ``egress`` are None where the policy does not isolate in that direction."""

    namespace: str
    name: str
    pods: Selector
    ingress: tuple[Rule, ...] | None
    egress: tuple[Rule, ...] | None


class Pod(NamedTuple):
    """``ports`` are the named ones: (name, protocol, number)."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    address: Address | None
    ports: frozenset[tuple[str, str, int]]


class Namespace(NamedTuple):
    """With the label of its name."""

    name: str
    labels: Mapping[str, str]


def read_object(obj: Any, number: int) -> Namespace | Pod | Policy | None:
    """Read one object, the ``number``-th; None for another kind. Raises ``NetpolError``."""
    body = _mapping(obj, f"object {number}")
    wanted = _READERS.get(str(body.get("kind")))
    if wanted is None or body.get("apiVersion", wanted[0]) != wanted[0]:
        return None
    meta = _mapping(body.get("metadata"), f"{body['kind']}: metadata")
    name, namespace = meta.get("name"), meta.get("namespace")
    namespace = "default" if namespace in (None, "") else namespace
    if not isinstance(name, str) or not name or not isinstance(namespace, str):
        raise NetpolError(f"{body['kind']}: metadata needs a name, and a namespace of text")
    title = f"{body['kind']} {name}" if body["kind"] == "Namespace" else f"{body['kind']} {namespace}/{name}"
    try:
        found: Namespace | Pod | Policy = wanted[1](body, meta, namespace, name)
    except NetpolError as error:
        raise NetpolError(f"{title}: {error}") from None
    return found


def _namespace(body: Mapping[str, Any], meta: Mapping[str, Any], _namespace: str, name: str) -> Namespace:
    return Namespace(name, {NAME_LABEL: name, **_labels(meta.get("labels"), "metadata.labels")})


def _pod(body: Mapping[str, Any], meta: Mapping[str, Any], namespace: str, name: str) -> Pod:
    status = _mapping(_given(body, "status"), "status")
    ip = status.get("podIP")
    address = read_address(ip, "status.podIP") if ip else None
    spec = _mapping(_given(body, "spec"), "spec")
    ports = set()
    for number, container in enumerate(_list(spec.get("containers"), "spec.containers")):
        where = f"spec.containers[{number}]"
        for index, port in enumerate(_list(_mapping(container, where).get("ports"), f"{where}.ports")):
            entry = _mapping(port, f"{where}.ports[{index}]")
            named = entry.get("name")
            if named is None or named == "":
                continue
            if not isinstance(named, str):
                raise NetpolError(f"{where}.ports[{index}].name is no text")
            protocol = _protocol(entry.get("protocol"), f"{where}.ports[{index}]")
            ports.add((named, protocol, _number(entry.get("containerPort"), f"{where}.ports[{index}].containerPort")))
    return Pod(namespace, name, _labels(meta.get("labels"), "metadata.labels"), address, frozenset(ports))


def _policy(body: Mapping[str, Any], meta: Mapping[str, Any], namespace: str, name: str) -> Policy:
    spec = _known(_given(body, "spec"), "spec", "podSelector", "policyTypes", "ingress", "egress")
    ingress, egress = (_rules(spec, direction, peers) for direction, peers in (("ingress", "from"), ("egress", "to")))
    types = _list(spec.get("policyTypes"), "spec.policyTypes")
    if len(types) > 2:
        raise NetpolError("spec.policyTypes: there are two, so three are one too many")
    for each in types:
        if each not in ("Ingress", "Egress"):
            raise NetpolError(f"spec.policyTypes: {each!r} is neither Ingress nor Egress")
    if not types:
        types = ["Ingress", "Egress"] if egress else ["Ingress"]
    return Policy(
        namespace,
        name,
        _selector(_given(spec, "podSelector"), "spec.podSelector"),
        ingress if "Ingress" in types else None,
        egress if "Egress" in types else None,
    )


_READERS: dict[str, tuple[str, Any]] = {
    "Namespace": ("v1", _namespace),
    "Pod": ("v1", _pod),
    "NetworkPolicy": ("networking.k8s.io/v1", _policy),
}


def _rules(spec: Mapping[str, Any], direction: str, peers: str) -> tuple[Rule, ...]:
    rules = []
    for number, entry in enumerate(_list(spec.get(direction), f"spec.{direction}")):
        where = f"spec.{direction}[{number}]"
        rule = _known(entry if entry is not None else {}, where, peers, "ports")
        found = tuple(
            _peer(peer, f"{where}.{peers}[{index}]")
            for index, peer in enumerate(_list(rule.get(peers), f"{where}.{peers}"))
        )
        ports = tuple(
            _port(port, f"{where}.ports[{index}]")
            for index, port in enumerate(_list(rule.get("ports"), f"{where}.ports"))
        )
        rules.append(Rule(found or None, ports or None))
    return tuple(rules)


def _peer(entry: Any, where: str) -> Peer:
    peer = _known(entry, where, "ipBlock", "namespaceSelector", "podSelector")
    block, namespaces, pods = (peer.get(name) for name in ("ipBlock", "namespaceSelector", "podSelector"))
    if block is not None:
        if namespaces is not None or pods is not None:
            raise NetpolError(f"{where} has an ipBlock and a selector; only one of them may be there")
        return Peer(_block(_known(block, f"{where}.ipBlock", "cidr", "except"), f"{where}.ipBlock"), None, None)
    if namespaces is None and pods is None:
        raise NetpolError(f"{where} names nobody: it needs an ipBlock, a namespaceSelector or a podSelector")
    return Peer(
        None,
        None if namespaces is None else _selector(namespaces, f"{where}.namespaceSelector"),
        None if pods is None else _selector(pods, f"{where}.podSelector"),
    )


def _block(entry: Mapping[str, Any], where: str) -> Block:
    version, first, last = _network(entry.get("cidr"), f"{where}.cidr")
    but = []
    for number, each in enumerate(_list(entry.get("except"), f"{where}.except")):
        inner_version, inner_first, inner_last = _network(each, f"{where}.except[{number}]")
        inside = inner_version == version and first <= inner_first and inner_last <= last
        if not inside or (inner_first, inner_last) == (first, last):
            raise NetpolError(f"{where}.except[{number}]: {each} is no part of {entry['cidr']}")
        but.append((inner_first, inner_last))
    return Block(version, first, last, tuple(but))


def _network(text: Any, where: str) -> tuple[int, int, int]:
    if not isinstance(text, str) or "%" in text or not text.rpartition("/")[2].isdecimal() or "/" not in text:
        raise NetpolError(f"{where}: {text!r} is no network such as 10.0.0.0/8")
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise NetpolError(f"{where}: {text!r} is no network such as 10.0.0.0/8") from None
    return network.version, int(network.network_address), int(network.broadcast_address)


def read_address(text: Any, where: str) -> Address:
    """An address written as text. Raises ``NetpolError``."""
    try:
        address = ipaddress.ip_address(text if isinstance(text, str) else "")
    except ValueError:
        raise NetpolError(f"{where}: {text!r} is no IP address") from None
    return Address(address.version, int(address))


def _port(entry: Any, where: str) -> PortRange:
    port = _known(entry, where, "protocol", "port", "endPort")
    protocol = _protocol(port.get("protocol"), where)
    first, end = port.get("port"), port.get("endPort")
    if isinstance(first, str):
        if not _PORT_NAME.match(first):
            raise NetpolError(f"{where}.port: {first!r} is neither a number nor the name of a port")
    elif first is not None:
        first = _number(first, f"{where}.port")
    if end is None:
        return PortRange(protocol, first, first if isinstance(first, int) else 0)
    if not isinstance(first, int):
        raise NetpolError(f"{where}.endPort needs a number in port")
    last = _number(end, f"{where}.endPort")
    if last < first:
        raise NetpolError(f"{where}.endPort: {last} is below the port {first}")
    return PortRange(protocol, first, last)


def _protocol(value: Any, where: str) -> str:
    if value is None or value == "":
        return "TCP"
    if value not in PROTOCOLS:
        raise NetpolError(f"{where}.protocol: {value!r} is none of {', '.join(PROTOCOLS)}")
    return str(value)


def _number(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise NetpolError(f"{where}: {value!r} is no number from 1 to 65535")
    return value


def _selector(entry: Any, where: str) -> Selector:
    selector = _known(entry, where, "matchLabels", "matchExpressions")
    found = [
        Requirement(key, "In", (value,))
        for key, value in _labels(selector.get("matchLabels"), f"{where}.matchLabels").items()
    ]
    for number, each in enumerate(_list(selector.get("matchExpressions"), f"{where}.matchExpressions")):
        found.append(
            _requirement(_mapping(each, f"{where}.matchExpressions[{number}]"), f"{where}.matchExpressions[{number}]")
        )
    return tuple(found)


def _requirement(entry: Mapping[str, Any], where: str) -> Requirement:
    key, operator = entry.get("key"), entry.get("operator")
    values = _list(entry.get("values"), f"{where}.values")
    _check_key(key, where)
    if operator not in _OPERATORS:
        raise NetpolError(f"{where}.operator: {operator!r} is none of {', '.join(_OPERATORS)}")
    if bool(values) != (operator in ("In", "NotIn")):
        raise NetpolError(f"{where}: {operator} {'takes no' if values else 'needs'} values")
    for value in values:
        _check_value(value, where)
    return Requirement(str(key), str(operator), tuple(values))


def _labels(entry: Any, where: str) -> dict[str, str]:
    labels = _mapping(entry if entry is not None else {}, where)
    for key, value in labels.items():
        _check_key(key, where)
        _check_value(value, where)
    return dict(labels)


def _check_key(key: Any, where: str) -> None:
    prefix, slash, name = key.rpartition("/") if isinstance(key, str) else ("", "", "")
    if not _LABEL_NAME.match(name) or (slash and not _LABEL_PREFIX.match(prefix)):
        raise NetpolError(f"{where}: {key!r} is no key of a label")


def _check_value(value: Any, where: str) -> None:
    if not isinstance(value, str) or not _LABEL_VALUE.match(value):
        raise NetpolError(f"{where}: {value!r} is no value of a label")


def _given(body: Mapping[str, Any], name: str) -> Any:
    """What is absent or null is empty; what is there has to be of its type, empty or not."""
    value = body.get(name)
    return {} if value is None else value


def _known(value: Any, where: str, *fields: str) -> Mapping[str, Any]:
    """A mapping without other fields: a ``from`` that is misspelt would open its rule to everybody."""
    found = _mapping(value, where)
    for name in found:
        if name not in fields:
            raise NetpolError(f"{where} has a field {name!r}; it may have {', '.join(fields)}")
    return found


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise NetpolError(f"{where} is no mapping")
    return value


def _list(value: Any, where: str) -> Sequence[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise NetpolError(f"{where} is no list")
    return value
