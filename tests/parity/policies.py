# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random cases for ``reachability.py``; the same cases for the same seed.

Labels, addresses and ports come from small sets, so that policies often meet pods, and flows often meet rules. All
objects are valid. Every pod has an address, which cyclonus cannot do without.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

Case = dict[str, Any]

LABELS = {"app": ("a", "b", "c"), "tier": ("web", "db", ""), "x.io/zone": ("1", "2")}
NAMESPACE_LABELS = {"team": ("red", "blue"), "env": ("prod", "test", "")}
NAME_LABEL = "kubernetes.io/metadata.name"
PORTS = (53, 80, 81, 443, 8080)
PORT_NAMES = ("http", "web", "dns", "metrics")
PROTOCOLS = ("TCP", "TCP", "TCP", "UDP", "SCTP")
BLOCKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("0.0.0.0/0", ("10.0.0.0/8", "10.0.1.0/24", "203.0.113.0/25", "10.0.0.3/32")),
    ("10.0.0.0/16", ("10.0.1.0/24", "10.0.0.0/30", "10.0.0.4/31", "10.0.1.7/32")),
    ("10.0.1.9/24", ("10.0.1.0/25", "10.0.1.4/30")),
    ("203.0.113.0/24", ("203.0.113.7/32", "203.0.113.128/25")),
    ("203.0.113.7/32", ()),
    ("::/0", ("fd00::/16", "2001:db8::/64")),
    ("fd00::/64", ("fd00::2/127", "fd00::4/128")),
)
OUTSIDE = ("203.0.113.7", "203.0.113.200", "8.8.8.8", "10.0.1.200", "2001:db8::7", "fd00::ff")


class Generator:
    """Writes the objects of one case."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def case(self) -> Case:
        names = self.random.sample(("default", "red", "blue", "green"), self.random.randint(1, 3))
        resources = [self.namespace(name) for name in names if self.chance(0.75)]
        pods = [self.pod(name, place) for name in names for place in range(self.random.randint(1, 4))]
        resources += pods
        resources += [self.policy(place, self.random.choice(names)) for place in range(self.random.randint(0, 6))]
        self.random.shuffle(resources)
        return {"resources": resources, "flows": [self.flow(pods) for _ in range(12)]}

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def labels(self, known: dict[str, tuple[str, ...]]) -> dict[str, str]:
        return {key: self.random.choice(values) for key, values in known.items() if self.chance(0.6)}

    def metadata(self, namespace: str, name: str) -> dict[str, Any]:
        if namespace == "default" and self.chance(0.5):
            return {"name": name}
        return {"name": name, "namespace": namespace}

    def namespace(self, name: str) -> Case:
        labels = self.labels(NAMESPACE_LABELS) | ({NAME_LABEL: name} if self.chance(0.5) else {})
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}

    def pod(self, namespace: str, place: int) -> Case:
        # Addresses of namespaces are next to each other, so that blocks cut through them.
        number = {"default": 0, "red": 4, "blue": 260, "green": 264}[namespace] + place
        address = f"10.0.{number // 256}.{number % 256}" if self.chance(0.8) else f"fd00::{number:x}"
        containers = [
            {"name": f"c{each}", "ports": self.container_ports()} for each in range(self.random.randint(1, 2))
        ]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": self.metadata(namespace, f"p{place}") | {"labels": self.labels(LABELS)},
            "spec": {"containers": containers},
            "status": {"podIP": address},
        }

    def container_ports(self) -> list[Case]:
        ports = []
        for name in self.random.sample(PORT_NAMES, self.random.randint(0, 3)):
            port: Case = {"containerPort": self.random.choice(PORTS)}
            if self.chance(0.85):
                port["name"] = name
            if self.chance(0.5):
                port["protocol"] = self.random.choice(PROTOCOLS)
            ports.append(port)
        return ports

    def policy(self, place: int, namespace: str) -> Case:
        spec: Case = {}
        if self.chance(0.9):
            spec["podSelector"] = self.selector(LABELS, often_empty=0.4)
        if self.chance(0.6):
            spec["policyTypes"] = self.random.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"], []))
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            if self.chance(0.7):
                spec[direction] = [self.rule(peers) for _ in range(self.random.choice((0, 1, 1, 1, 2, 3)))]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": self.metadata(namespace, f"n{place}"),
            "spec": spec,
        }

    def rule(self, peers: str) -> Case:
        rule: Case = {}
        if self.chance(0.8):
            rule[peers] = [self.peer() for _ in range(self.random.choice((0, 1, 1, 1, 2, 3)))]
        if self.chance(0.6):
            rule["ports"] = [self.port() for _ in range(self.random.choice((0, 1, 1, 2, 3)))]
        return rule

    def peer(self) -> Case:
        if self.chance(0.35):
            cidr, inside = self.random.choice(BLOCKS)
            block: Case = {"cidr": cidr}
            if inside and self.chance(0.5):
                block["except"] = self.random.sample(inside, self.random.randint(1, len(inside)))
            return {"ipBlock": block}
        known = self.random.choice((("podSelector",), ("namespaceSelector",), ("podSelector", "namespaceSelector")))
        labels = {
            "podSelector": LABELS,
            "namespaceSelector": NAMESPACE_LABELS | {NAME_LABEL: ("default", "red", "blue")},
        }
        return {name: self.selector(labels[name], often_empty=0.25) for name in known}

    def port(self) -> Case:
        port: Case = {}
        kind = self.random.random()
        if kind < 0.35:
            port["port"] = self.random.choice(PORTS)
        elif kind < 0.65:
            port["port"] = self.random.choice(PORT_NAMES)
        elif kind < 0.85:
            port["port"] = self.random.choice(PORTS)
            port["endPort"] = port["port"] + self.random.choice((0, 1, 400, 9000))
        if self.chance(0.5):
            port["protocol"] = self.random.choice(PROTOCOLS)
        return port

    def selector(self, known: dict[str, tuple[str, ...]], often_empty: float) -> Case:
        if self.chance(often_empty):
            return {}
        selector: Case = {}
        key = self.random.choice(list(known))
        if self.chance(0.6):
            selector["matchLabels"] = {key: self.random.choice(known[key])}
        if not selector or self.chance(0.3):
            selector["matchExpressions"] = [self.expression(known) for _ in range(self.random.choice((1, 1, 2)))]
        return selector

    def expression(self, known: dict[str, tuple[str, ...]]) -> Case:
        key = self.random.choice(list(known))
        operator = self.random.choice(("In", "NotIn", "Exists", "DoesNotExist"))
        expression: Case = {"key": key, "operator": operator}
        if operator.endswith("In"):
            expression["values"] = self.random.sample(known[key], self.random.randint(1, len(known[key])))
        return expression

    def flow(self, pods: list[Case]) -> Case:
        flow: Case = {"from": self.end(pods), "to": self.end(pods), "port": self.random.choice(PORTS)}
        if self.chance(0.5):
            flow["protocol"] = self.random.choice(PROTOCOLS)
        return flow

    def end(self, pods: list[Case]) -> str:
        if self.chance(0.2):
            return self.random.choice(OUTSIDE)
        pod = self.random.choice(pods)
        if self.chance(0.1):
            return str(pod["status"]["podIP"])
        return f"{pod['metadata'].get('namespace', 'default')}/{pod['metadata']['name']}"


def reachability(random: Random) -> Iterator[Case]:
    """Cases of ``reachability.py``."""
    while True:
        yield Generator(random).case()
