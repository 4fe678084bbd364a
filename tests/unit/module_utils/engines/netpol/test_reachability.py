# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who reaches whom: each rule of networking.k8s.io/v1 once, then thousands of random worlds against a plain reading."""

from __future__ import annotations

import ipaddress
import random
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.netpol.reachability import (
    NetpolError,
    Verdict,
    World,
)


def pod(name: str, namespace: str = "a", ip: str = "", ports: Any = None, **labels: str) -> dict[str, Any]:
    spec = {"containers": [{"name": "main", "ports": ports or []}]}
    meta = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": {"podIP": ip}}


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def policy(name: str = "p", namespace: str = "a", **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def selector(**labels: str) -> dict[str, Any]:
    return {"matchLabels": labels}


HTTP = [{"name": "http", "containerPort": 8080}]
PODS = [
    namespace("a"),
    namespace("b", team="x"),
    pod("web", "a", "10.0.0.1", HTTP, app="web"),
    pod("db", "a", "10.0.0.2", [{"name": "http", "containerPort": 9090, "protocol": "UDP"}], app="db"),
    pod("web", "b", "10.0.1.1", [*HTTP, {"name": "alt", "containerPort": 8080}], app="web"),
    pod("six", "b", "fd00::1", app="six"),
    pod("bare", "nowhere"),
]


@pytest.mark.parametrize(
    ("spec", "flow", "allowed"),
    [
        # Nothing isolates: everything passes.
        (None, ("a/web", "b/web", 80), True),
        # Isolated for ingress alone, by default.
        ({"podSelector": {}}, ("b/web", "a/web", 80), False),
        ({"podSelector": {}}, ("a/web", "b/web", 80), True),
        ({}, ("b/web", "a/web", 80), False),
        # To itself always.
        ({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}, ("a/web", "a/web", 80), True),
        ({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}, ("10.0.0.1", "a/web", 80), True),
        # The types decide, not the rules.
        ({"policyTypes": ["Egress"], "ingress": [{}]}, ("b/web", "a/web", 80), True),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, ("a/web", "b/web", 80), False),
        ({"egress": [{}], "ingress": [{}]}, ("a/web", "b/web", 80), True),
        ({"egress": [{"ports": [{"port": 1}]}]}, ("a/web", "b/web", 80), False),
        ({"egress": []}, ("a/web", "b/web", 80), True),
        # Peers.
        ({"ingress": [{"from": [{"podSelector": selector(app="web")}]}]}, ("b/web", "a/db", 80), False),
        ({"ingress": [{"from": [{"podSelector": selector(app="web")}]}]}, ("a/web", "a/db", 80), True),
        ({"ingress": [{"from": [{"namespaceSelector": selector(team="x")}]}]}, ("b/web", "a/db", 80), True),
        ({"ingress": [{"from": [{"namespaceSelector": {}}]}]}, ("nowhere/bare", "a/db", 80), True),
        (
            {"ingress": [{"from": [{"namespaceSelector": {}, "podSelector": selector(app="six")}]}]},
            ("b/web", "a/db", 80),
            False,
        ),
        ({"ingress": [{"from": []}]}, ("192.0.2.1", "a/db", 80), True),
        ({"ingress": [{"from": [{"namespaceSelector": {}}]}]}, ("192.0.2.1", "a/db", 80), False),
        (
            {"ingress": [{"from": [{"namespaceSelector": selector(**{"kubernetes.io/metadata.name": "nowhere"})}]}]},
            ("nowhere/bare", "a/db", 80),
            True,
        ),
        # Blocks.
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]}, ("192.0.2.9", "a/db", 80), True),
        (
            {"ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.8/29"]}}]}]},
            ("192.0.2.9", "a/db", 80),
            False,
        ),
        (
            {
                "ingress": [
                    {
                        "from": [
                            {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.8/29"]}},
                            {"ipBlock": {"cidr": "192.0.2.9/32"}},
                        ]
                    }
                ]
            },
            ("192.0.2.9", "a/db", 80),
            True,
        ),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.1.0/24"}}]}]}, ("b/web", "a/db", 80), True),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}, ("b/six", "a/db", 80), False),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "::/0"}}]}]}, ("b/six", "a/db", 80), True),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}, ("nowhere/bare", "a/db", 80), False),
        # Ports.
        ({"ingress": [{"ports": [{"port": 80}]}]}, ("b/web", "a/db", 80), True),
        ({"ingress": [{"ports": [{"port": 80}]}]}, ("b/web", "a/db", 80, "UDP"), False),
        ({"ingress": [{"ports": [{"protocol": "UDP"}]}]}, ("b/web", "a/db", 53, "UDP"), True),
        ({"ingress": [{"ports": [{"protocol": "UDP"}]}]}, ("b/web", "a/db", 53), False),
        ({"ingress": [{"ports": [{"port": 80, "endPort": 90}]}]}, ("b/web", "a/db", 90), True),
        ({"ingress": [{"ports": [{"port": 80, "endPort": 90}]}]}, ("b/web", "a/db", 91), False),
        ({"ingress": [{"ports": [{"port": "http"}]}]}, ("b/web", "a/web", 8080), True),
        ({"ingress": [{"ports": [{"port": "http"}]}]}, ("b/web", "a/web", 80), False),
        # The name is looked up with the protocol of the rule.
        ({"ingress": [{"ports": [{"port": "http"}]}]}, ("b/web", "a/db", 9090), False),
        ({"ingress": [{"ports": [{"port": "http", "protocol": "UDP"}]}]}, ("b/web", "a/db", 9090, "UDP"), True),
        # On the way out it is the target's name, and nothing outside has one.
        ({"egress": [{"ports": [{"port": "alt"}]}]}, ("a/web", "b/web", 8080), True),
        ({"egress": [{"ports": [{"port": "alt"}]}]}, ("a/web", "nowhere/bare", 8080), False),
        ({"egress": [{"ports": [{"port": "alt"}]}]}, ("a/web", "192.0.2.1", 8080), False),
        ({"egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]}, ("a/web", "192.0.2.1", 8080), True),
        # An address of a pod is the pod.
        ({"ingress": [{"from": [{"podSelector": selector(app="web")}]}]}, ("10.0.0.1", "a/db", 80), True),
        (
            {"policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": selector(app="db")}]}]},
            ("a/web", "10.0.0.2", 80),
            True,
        ),
        # Between outsiders nothing decides.
        ({}, ("192.0.2.1", "192.0.2.2", 80), True),
    ],
)
def test_each_rule(spec: dict[str, Any] | None, flow: tuple[Any, ...], allowed: bool) -> None:
    world = World.of([*PODS, *([] if spec is None else [policy(**spec)])])
    assert world.allows(*flow) is allowed


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ({"key": "app", "operator": "In", "values": ["web", "db"]}, {"a/web", "a/db"}),
        ({"key": "app", "operator": "NotIn", "values": ["web"]}, {"a/db", "a/none"}),
        ({"key": "app", "operator": "Exists"}, {"a/web", "a/db"}),
        ({"key": "app", "operator": "DoesNotExist"}, {"a/none"}),
    ],
)
def test_expressions(expression: dict[str, Any], selected: set[str]) -> None:
    world = World.of([*PODS, pod("none"), policy(podSelector={"matchExpressions": [expression]})])
    isolated = {name for name in ("a/web", "a/db", "a/none") if not world.allows("b/web", name, 80)}
    assert isolated == selected


def test_the_reason_names_the_direction_and_its_policies() -> None:
    world = World.of(
        [*PODS, policy("in"), policy("out", egress=[{"ports": [{"port": 1}]}], podSelector=selector(app="web"))]
    )
    assert world.explain("a/web", "a/db", 80) == Verdict(False, "egress", ("a/out",))
    assert world.explain("a/web", "a/db", 1) == Verdict(False, "ingress", ("a/in",))
    assert world.explain("a/web", "b/web", 1) == Verdict(True)


def test_other_kinds_are_left_out() -> None:
    calico = {"apiVersion": "crd.projectcalico.org/v1", "kind": "NetworkPolicy", "metadata": {}}
    world = World.of([*PODS, calico, {"apiVersion": "v1", "kind": "Service"}])
    assert world.allows("a/web", "b/web", 80)


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ("text", "no mapping"),
        ({"kind": "Pod", "apiVersion": "v1"}, "metadata is no mapping"),
        (pod(""), "needs a name"),
        (pod("x", ip="10.0.0"), "no IP address"),
        (pod("x", ports=[{"name": "http", "containerPort": 0}]), "from 1 to 65535"),
        (pod("x", ports=[{"name": "http", "containerPort": 1, "protocol": "ICMP"}]), "ICMP"),
        ({**pod("x"), "metadata": {"name": "x", "labels": {"app": 1}}}, "no value of a label"),
        (policy(policyTypes=["ingress"]), "neither Ingress nor Egress"),
        (policy(policyTypes=["Ingress", "Egress", "Ingress"]), "one too many"),
        (policy(ingress=[{"form": [{"podSelector": {}}]}]), r"spec.ingress\[0\] has a field 'form'"),
        (policy(ingress={}), "no list"),
        (policy(ingress=[{"from": [{}]}]), "names nobody"),
        (policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}]), "only one of them"),
        (policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.1"}}]}]), "no network"),
        (policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]), "no network"),
        (policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]), "no part of"),
        (policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}]), "no part of"),
        (policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/255.0.0.0"}}]}]), "no network"),
        (policy(ingress=[{"from": [{"ipBlock": {"cidr": "fe80::%eth0/64"}}]}]), "no network"),
        (policy(podSelector=[]), "spec.podSelector is no mapping"),
        ({**policy(), "spec": ""}, "spec is no mapping"),
        ({**pod("x"), "metadata": {"name": "x", "namespace": 0}}, "a namespace of text"),
        (policy(ingress=[{"ports": [{"port": "80"}]}]), "name of a port"),
        (policy(ingress=[{"ports": [{"port": 70000}]}]), "from 1 to 65535"),
        (policy(ingress=[{"ports": [{"port": True}]}]), "from 1 to 65535"),
        (policy(ingress=[{"ports": [{"port": "http", "endPort": 90}]}]), "needs a number"),
        (policy(ingress=[{"ports": [{"port": 90, "endPort": 80}]}]), "below the port"),
        (policy(ingress=[{"ports": [{"port": 90, "protocol": "tcp"}]}]), "tcp"),
        (policy(podSelector={"matchLabels": {"-": "x"}}), "no key of a label"),
        (policy(podSelector={"matchExpressions": [{"key": "a", "operator": "in", "values": ["b"]}]}), "'in' is none"),
        (policy(podSelector={"matchExpressions": [{"key": "a", "operator": "In"}]}), "needs values"),
        (policy(podSelector={"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}), "no values"),
    ],
)
def test_what_the_api_server_would_refuse_is_refused(broken: Any, text: str) -> None:
    with pytest.raises(NetpolError, match=text):
        World.of([*PODS, broken])


@pytest.mark.parametrize(
    "flow",
    [
        ("a/none", "a/web", 80),
        ("a/web", "web", 80),
        ("a/web", "b/web", 0),
        ("a/web", "b/web", "80"),
        ("a/web", "b/web", 80, "ICMP"),
        (None, "b/web", 80),
        (167772161, "b/web", 80),
        (["a/web"], "b/web", 80),
        ("a/web", "b/web", [80]),
        ("a/web", "b/web", 80, ["TCP"]),
    ],
)
def test_what_cannot_be_asked_is_refused(flow: Any) -> None:
    with pytest.raises(NetpolError):
        World.of(PODS).allows(*flow)


def test_names_are_unique() -> None:
    for twice in (PODS[0], PODS[2], policy()):
        with pytest.raises(NetpolError, match="comes twice"):
            World.of([*PODS, policy(), twice])


# -- random worlds against a plain reading of the rules -----------------------------------------------------------


class Plain:
    """One flow at a time, one policy at a time, as the specification says it."""

    def __init__(self, objects: list[dict[str, Any]]) -> None:
        self.spaces = {o["metadata"]["name"]: o["metadata"]["labels"] for o in objects if o["kind"] == "Namespace"}
        self.pods = {(o["metadata"]["namespace"], o["metadata"]["name"]): o for o in objects if o["kind"] == "Pod"}
        self.policies = [o for o in objects if o["kind"] == "NetworkPolicy"]

    def end(self, text: str) -> Any:
        if "/" in text:
            return self.pods[tuple(text.split("/"))]  # type: ignore[index]
        for each in self.pods.values():
            if each["status"]["podIP"] == text:
                return each
        return text

    def allows(self, source: str, target: str, port: int, protocol: str) -> bool:
        ends = self.end(source), self.end(target)
        if ends[0] is ends[1]:
            return True
        return self.way("Egress", ends[0], ends[1], ends[1], port, protocol) and self.way(
            "Ingress", ends[1], ends[0], ends[1], port, protocol
        )

    def way(self, way: str, of: Any, other: Any, target: Any, port: int, protocol: str) -> bool:
        if isinstance(of, str):
            return True
        isolated = False
        for each in self.policies:
            spec = each["spec"]
            types = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
            same = each["metadata"]["namespace"] == of["metadata"]["namespace"]
            if way not in types or not same or not self.selects(spec.get("podSelector", {}), of["metadata"]["labels"]):
                continue
            isolated = True
            for rule in spec.get(way.lower(), []):
                peers = rule.get("from" if way == "Ingress" else "to", [])
                space = each["metadata"]["namespace"]
                if (not peers or any(self.peer(p, space, other) for p in peers)) and self.ports(
                    rule.get("ports", []), target, port, protocol
                ):
                    return True
        return not isolated

    def peer(self, peer: dict[str, Any], space: str, other: Any) -> bool:
        if "ipBlock" in peer:
            text = other if isinstance(other, str) else other["status"]["podIP"]
            if not text:
                return False
            address, block = ipaddress.ip_address(text), peer["ipBlock"]
            if address not in ipaddress.ip_network(block["cidr"], strict=False):
                return False
            return not any(address in ipaddress.ip_network(e, strict=False) for e in block.get("except", []))
        if isinstance(other, str):
            return False
        where = other["metadata"]["namespace"]
        if "namespaceSelector" in peer:
            labels = {"kubernetes.io/metadata.name": where, **self.spaces.get(where, {})}
            if not self.selects(peer["namespaceSelector"], labels):
                return False
        elif where != space:
            return False
        return self.selects(peer.get("podSelector", {}), other["metadata"]["labels"])

    def ports(self, ports: list[dict[str, Any]], target: Any, port: int, protocol: str) -> bool:
        for each in ports:
            if each.get("protocol", "TCP") != protocol:
                continue
            wanted = each.get("port")
            if wanted is None or (isinstance(wanted, int) and wanted <= port <= each.get("endPort", wanted)):
                return True
            if isinstance(wanted, str) and not isinstance(target, str):
                for named in target["spec"]["containers"][0]["ports"]:
                    if (named["name"], named.get("protocol", "TCP"), named["containerPort"]) == (
                        wanted,
                        protocol,
                        port,
                    ):
                        return True
        return not ports

    def selects(self, selector: dict[str, Any], labels: dict[str, str]) -> bool:
        if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
            return False
        for each in selector.get("matchExpressions", []):
            there, value = each["key"] in labels, labels.get(each["key"])
            holds = {
                "In": value in each.get("values", []),
                "NotIn": value not in each.get("values", []),
                "Exists": there,
                "DoesNotExist": not there,
            }[each["operator"]]
            if not holds:
                return False
        return True


ADDRESSES = [*(f"10.0.0.{number}" for number in range(1, 7)), *(f"fd00::{number}" for number in range(1, 4))]
OUTSIDE = ["192.0.2.1", "10.0.0.200", "fd00::99"]


class Dice:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def maybe(self, value: Any, chance: float = 0.5) -> bool:
        return bool(value) and self.random.random() < chance

    def labels(self) -> dict[str, str]:
        return {key: self.one("1", "2") for key in ("x", "y") if self.random.random() < 0.6}

    def selector(self) -> dict[str, Any]:
        if self.random.random() < 0.3:
            return {}
        if self.random.random() < 0.5:
            return {"matchLabels": self.labels()}
        operator = self.one("In", "NotIn", "Exists", "DoesNotExist")
        values = {"values": [self.one("1", "2")]} if operator in ("In", "NotIn") else {}
        return {"matchExpressions": [{"key": self.one("x", "y"), "operator": operator, **values}]}

    def peer(self) -> dict[str, Any]:
        roll = self.random.random()
        if roll < 0.3:
            return {
                "ipBlock": self.one(
                    {"cidr": "10.0.0.0/24"},
                    {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/30"]},
                    {"cidr": "fd00::/16", "except": ["fd00::2/128"]},
                    {"cidr": "10.0.0.3/29"},
                )
            }
        if roll < 0.6:
            return {"podSelector": self.selector()}
        return {"namespaceSelector": self.selector(), **({"podSelector": self.selector()} if roll < 0.8 else {})}

    def port(self) -> dict[str, Any]:
        entry: dict[str, Any] = self.one(
            {}, {"port": 80}, {"port": 79, "endPort": 81}, {"port": "http"}, {"port": "alt"}
        )
        return {**entry, **({"protocol": self.one("TCP", "UDP", "SCTP")} if self.random.random() < 0.5 else {})}

    def rules(self, peers: str) -> list[dict[str, Any]]:
        return [
            {
                **({peers: [self.peer() for _n in range(self.one(0, 1, 2))]} if self.random.random() < 0.8 else {}),
                **({"ports": [self.port() for _n in range(self.one(0, 1, 2))]} if self.random.random() < 0.6 else {}),
            }
            for _rule in range(self.one(0, 1, 1, 2))
        ]

    def world(self) -> list[dict[str, Any]]:
        spaces = ["a", "b", "c"]
        found = [namespace(name, **self.labels()) for name in spaces[:2]]
        for number, ip in enumerate(ADDRESSES):
            ports = [
                {"name": name, "containerPort": self.one(80, 81), "protocol": self.one("TCP", "UDP")}
                for name in ("http", "alt")
                if self.random.random() < 0.5
            ]
            found.append(pod(f"p{number}", self.one(*spaces), self.one(ip, ip, ""), ports, **self.labels()))
        for number in range(self.one(0, 1, 3, 6)):
            spec: dict[str, Any] = {}
            if self.random.random() < 0.9:
                spec["podSelector"] = self.selector()
            if self.random.random() < 0.7:
                spec["policyTypes"] = self.one(["Ingress"], ["Egress"], ["Ingress", "Egress"], [])
            if self.random.random() < 0.7:
                spec["ingress"] = self.rules("from")
            if self.random.random() < 0.7:
                spec["egress"] = self.rules("to")
            found.append(policy(f"n{number}", self.one(*spaces), **spec))
        self.random.shuffle(found)
        return found


@pytest.mark.parametrize("seed", range(150))
def test_random_worlds_are_read_as_the_specification_says(seed: int) -> None:
    dice = Dice(seed)
    objects = dice.world()
    world, plain = World.of(objects), Plain(objects)
    port, protocol = dice.one(79, 80, 81, 443), dice.one("TCP", "UDP", "SCTP")
    ends = [*world.pods, *OUTSIDE]
    for source in ends:
        for target in ends:
            expected = plain.allows(source, target, port, protocol)
            assert world.allows(source, target, port, protocol) is expected, (source, target, port, protocol, objects)
    pairs = {(source, target): allowed for source, target, allowed in world.matrix(port, protocol)}
    assert pairs == {
        (source, target): plain.allows(source, target, port, protocol) for source in world.pods for target in world.pods
    }
    assert world.matrix(port, protocol).allowed == sum(pairs.values())
