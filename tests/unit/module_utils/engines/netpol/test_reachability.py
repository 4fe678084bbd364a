# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of NetworkPolicies one by one, what is refused, and input that is meant to hurt."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.netpol.intervals import Intervals, without
from ansible_collections.lumen.airgap.plugins.module_utils.engines.netpol.reachability import (
    NetpolError,
    Verdict,
    World,
)


def pod(name: str, namespace: str = "a", address: str | None = None, **fields: Any) -> dict[str, Any]:
    ports = fields.pop("ports", [])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}, **fields},
        "spec": {"containers": [{"name": "c", "ports": ports}]},
        "status": {"podIP": address},
    }


def policy(spec: Any, name: str = "n", namespace: str = "a") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


HTTP = {"name": "http", "containerPort": 80}
# Two names for a number, a number with two protocols.
PORTS = [HTTP, {"name": "web", "containerPort": 80}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]
X = pod("x", address="10.0.0.1")
Y = pod("y", address="10.0.0.2", ports=PORTS)
Z = pod("z", "b", "fd00::3")
BARE = pod("bare", "c")
PODS = [namespace("a", team="red"), namespace("b", team="blue"), X, Y, Z, BARE]


def ingress(*rules: Any, **spec: Any) -> dict[str, Any]:
    return policy({"podSelector": {}, "ingress": list(rules), **spec})


def allowed_from(source: str, *rules: Any, port: int = 80, protocol: str = "TCP") -> bool:
    """Whether a source reaches a/y through a policy with these rules; the row of a matrix says the same."""
    world = World.of([*PODS, ingress(*rules)])
    allowed = world.allows(source, "a/y", port, protocol)
    assert list(world.matrix(port, protocol, [source], ["a/y"])) == [(source, "a/y", allowed)]
    return allowed


def test_without_policies_everything_is_allowed() -> None:
    world = World.of(PODS)
    assert world.pods == ["a/x", "a/y", "b/z", "c/bare"]
    assert world.explain("a/x", "b/z", 80) == Verdict(True)
    assert world.matrix(80).allowed == len(world.matrix(80)) == 16


@pytest.mark.parametrize(
    ("peer", "sources"),
    [
        (None, "a/x b/z c/bare 9.9.9.9 10.0.0.1"),
        ({"podSelector": {}}, "a/x 10.0.0.1"),
        ({"namespaceSelector": {}}, "a/x b/z c/bare 10.0.0.1"),
        ({"podSelector": {"matchLabels": {"app": "z"}}}, ""),
        ({"podSelector": {"matchLabels": {"app": "z"}}, "namespaceSelector": {}}, "b/z"),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "c"}}}, "c/bare"),
        ({"namespaceSelector": {"matchLabels": {"team": "blue"}}}, "b/z"),
        ({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}, "a/x b/z 10.0.0.1"),
        ({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}}, "c/bare"),
        (
            {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["blue"]}]}},
            "a/x c/bare 10.0.0.1",
        ),
        ({"ipBlock": {"cidr": "0.0.0.0/0"}}, "a/x 9.9.9.9 10.0.0.1"),
        ({"ipBlock": {"cidr": "10.0.0.9/24", "except": ["10.0.0.0/31"]}}, ""),
        ({"ipBlock": {"cidr": "::/0"}}, "b/z"),
        ({"ipBlock": {"cidr": "::ffff:9.9.9.0/120"}}, "9.9.9.9"),
    ],
)
def test_peers(peer: Any, sources: str) -> None:
    rule = {} if peer is None else {"from": [peer]}
    asked = ("a/x", "b/z", "c/bare", "9.9.9.9", "10.0.0.1")
    assert [each for each in asked if allowed_from(each, rule)] == sources.split()


def test_an_exception_narrows_its_own_block_alone() -> None:
    blocks = [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/24"]}}, {"ipBlock": {"cidr": "10.0.0.1/32"}}]
    assert allowed_from("a/x", {"from": blocks})
    assert not allowed_from("10.0.0.7", {"from": blocks})


@pytest.mark.parametrize(
    ("ports", "port", "protocol", "allowed"),
    [
        ([], 80, "SCTP", True),
        ([{}], 80, "TCP", True),
        ([{}], 80, "UDP", False),
        ([{"protocol": "UDP"}], 80, "UDP", True),
        ([{"port": 80}], 80, "TCP", True),
        ([{"port": 80}], 80, "UDP", False),
        ([{"port": 80}], 81, "TCP", False),
        ([{"port": 70, "endPort": 80}], 80, "TCP", True),
        ([{"port": 70, "endPort": 79}], 80, "TCP", False),
        ([{"port": "http"}], 80, "TCP", True),
        ([{"port": "web"}], 80, "TCP", True),
        ([{"port": "http"}], 80, "UDP", False),
        ([{"port": "http", "protocol": "UDP"}], 80, "UDP", False),
        ([{"port": "dns", "protocol": "UDP"}], 53, "UDP", True),
        ([{"port": "dns"}], 53, "UDP", False),
        ([{"port": "metrics"}], 80, "TCP", False),
        ([{"port": 1}, {"port": "metrics"}, {"port": 80}], 80, "TCP", True),
    ],
)
def test_ports(ports: Any, port: int, protocol: str, allowed: bool) -> None:
    assert allowed_from("a/x", {"ports": ports}, port=port, protocol=protocol) is allowed


def test_a_port_name_is_looked_up_at_the_destination_and_never_matches_outside() -> None:
    world = World.of([*PODS, policy({"egress": [{"ports": [{"port": "http"}]}], "policyTypes": ["Egress"]})])
    assert world.allows("a/x", "a/y", 80)
    assert not world.allows("a/y", "a/x", 80)
    assert not world.allows("a/x", "9.9.9.9", 80)
    assert not world.matrix(80, targets=["9.9.9.9"]).allows("a/x", "9.9.9.9")


@pytest.mark.parametrize(
    ("spec", "sends", "receives"),
    [
        ({}, True, False),
        ({"policyTypes": []}, True, False),
        ({"egress": []}, True, False),
        ({"egress": [{}]}, True, False),
        ({"egress": [{"ports": [{"port": 1}]}]}, False, False),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, False, True),
        ({"policyTypes": ["Ingress"], "egress": [{}], "ingress": [{}]}, True, True),
        ({"policyTypes": ["Ingress", "Egress"]}, False, False),
        (None, True, False),
    ],
)
def test_policy_types(spec: Any, sends: bool, receives: bool) -> None:
    world = World.of([*PODS, policy(spec)])
    assert (world.allows("a/x", "9.9.9.9", 80), world.allows("9.9.9.9", "a/x", 80)) == (sends, receives)
    assert world.allows("a/x", "a/x", 80), "a pod always reaches itself"
    assert world.allows("a/x", "10.0.0.1", 80), "by its address too"
    assert world.allows("9.9.9.9", "8.8.8.8", 80)


def test_a_denial_says_where_and_by_whom() -> None:
    out = policy({"podSelector": {"matchLabels": {"app": "x"}}, "policyTypes": ["Egress"]}, "out")
    other = policy({"podSelector": {"matchLabels": {"app": "y"}}}, "other")
    world = World.of([*PODS, ingress(), out, other])
    assert world.explain("a/x", "a/y", 80) == Verdict(False, "egress", ("a/out",))
    assert world.explain("b/z", "a/y", 80) == Verdict(False, "ingress", ("a/n", "a/other"))
    assert world.explain("b/z", "c/bare", 80) == Verdict(True)


def test_rules_of_all_policies_add_up() -> None:
    open_to_z = policy({"ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}}]}]}, "other")
    world = World.of([*PODS, ingress(), open_to_z])
    assert world.allows("b/z", "a/x", 80)
    assert not world.allows("c/bare", "a/x", 80)


def test_matrix_of_some() -> None:
    rule = {"from": [{"ipBlock": {"cidr": "9.9.9.0/24"}}, {"podSelector": {"matchLabels": {"app": "x"}}}]}
    matrix = World.of([*PODS, ingress(rule)]).matrix(
        443, sources=["9.9.9.9", "b/z", "10.0.0.1", "8.8.8.8"], targets=["a/y", "8.8.8.8", "c/bare"]
    )
    assert [matrix.row(source) for source in matrix.sources] == [
        [True, True, True],
        [False, True, True],
        [True, True, True],
        [False, True, True],
    ]
    assert matrix.targets == ["a/y", "8.8.8.8", "c/bare"]
    assert (matrix.allowed, len(matrix)) == (10, 12)
    assert not matrix.allows("8.8.8.8", "a/y")


def test_other_kinds_are_ignored() -> None:
    others = [
        {"apiVersion": "apps/v1", "kind": "Deployment"},
        {"apiVersion": "crd.projectcalico.org/v1", "kind": "NetworkPolicy", "spec": {"selector": "all()"}},
    ]
    assert World.of([*PODS, *others]).allows("b/z", "a/x", 80)


def test_absent_namespace_is_default() -> None:
    objects = [
        {"kind": "Pod", "metadata": {"name": "p"}},
        {"kind": "NetworkPolicy", "metadata": {"name": "n", "namespace": ""}},
    ]
    world = World.of(objects)
    assert world.pods == ["default/p"]
    assert world.explain("9.9.9.9", "default/p", 1) == Verdict(False, "ingress", ("default/n",))


# --- what is refused ----------------------------------------------------------------------------------------------


def peer(**fields: Any) -> dict[str, Any]:
    return {"ingress": [{"from": [fields]}]}


def block(cidr: Any, *holes: Any) -> dict[str, Any]:
    return peer(ipBlock={"cidr": cidr, "except": list(holes)})


def port(**fields: Any) -> dict[str, Any]:
    return {"ingress": [{"ports": [fields]}]}


def expression(**fields: Any) -> dict[str, Any]:
    return {"podSelector": {"matchExpressions": [fields]}}


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ([], "spec must be a mapping, not a list"),
        ({"podSelector": "app=x"}, "spec.podSelector must be a mapping, not 'app=x'"),
        ({"podSelector": {"app": "x"}}, "spec.podSelector has an unknown field: 'app'"),
        ({"podSelector": {"matchLabels": {"app": 1}}}, "spec.podSelector.matchLabels.app must be"),
        ({"podSelector": {"matchLabels": {"a b": "x"}}}, "spec.podSelector.matchLabels has a key"),
        ({"podSelector": {"matchLabels": {1: "x"}}}, "spec.podSelector.matchLabels has a key"),
        ({"podSelector": {"matchExpressions": {}}}, "spec.podSelector.matchExpressions must be a list"),
        (expression(key="app", operator="in", values=["x"]), "matchExpressions[0].operator must be In or"),
        (expression(key="app", operator="In"), "matchExpressions[0].values must be given with In"),
        (expression(key="app", operator="Exists", values=["x"]), "values must not be given with Exists"),
        (expression(key="app", operator="In", values="x"), "matchExpressions[0].values must be a list"),
        (expression(key="app", operator="In", values=[None]), "matchExpressions[0].values[0] must be"),
        (expression(operator="Exists"), "matchExpressions[0].key must be the key of a label, not nothing"),
        ({"policyTypes": ["ingress"]}, "spec.policyTypes[0] must be Ingress or Egress, not 'ingress'"),
        ({"policyTypes": "Ingress"}, "spec.policyTypes must be a list"),
        ({"policyTypes": [["Ingress"]]}, "spec.policyTypes[0] must be Ingress or Egress, not a list"),
        ({"ingres": []}, "spec has an unknown field: 'ingres'"),
        ({"ingress": {}}, "spec.ingress must be a list, not a mapping"),
        ({"ingress": [{"to": []}]}, "spec.ingress[0] has an unknown field: 'to'"),
        ({"ingress": [[]]}, "spec.ingress[0] must be a mapping"),
        # Rules of a direction that is not listed are refused too.
        ({"egress": [{"from": []}], "policyTypes": ["Ingress"]}, "spec.egress[0] has an unknown field: 'from'"),
        (peer(), "spec.ingress[0].from[0] must have either selectors or an ipBlock"),
        (peer(podSelector=None), "spec.ingress[0].from[0] must have either"),
        (peer(podSelector={}, ipBlock={"cidr": "0.0.0.0/0"}), "spec.ingress[0].from[0] must have either"),
        (peer(podSelectors={}), "spec.ingress[0].from[0] has an unknown field: 'podSelectors'"),
        (peer(ipBlock={}), "spec.ingress[0].from[0].ipBlock.cidr must be a string, not nothing"),
        (block("10.0.0.0"), "ipBlock.cidr must be a CIDR, not '10.0.0.0'"),
        (block("10.0.0.0/33"), "ipBlock.cidr must be a CIDR"),
        (block("10.0.0.0/255.0.0.0"), "ipBlock.cidr must be a CIDR"),
        (block("10.0.0/8"), "ipBlock.cidr must be a CIDR"),
        (block("fe80::1%eth0/64"), "ipBlock.cidr must be a CIDR"),
        (block(" 10.0.0.0/8"), "ipBlock.cidr must be a CIDR"),
        (block("10.0.0.0/8", "11.0.0.0/24"), "ipBlock.except[0] must be a strict part of 10.0.0.0/8"),
        (block("10.0.0.0/8", "10.0.0.0/8"), "ipBlock.except[0] must be a strict part of 10.0.0.0/8"),
        (block("10.0.0.0/8", "0.0.0.0/0"), "ipBlock.except[0] must be a strict part of 10.0.0.0/8"),
        (block("0.0.0.0/0", "fd00::/64"), "ipBlock.except[0] must be a strict part of 0.0.0.0/0"),
        (block("0.0.0.0/0", "x"), "ipBlock.except[0] must be a CIDR"),
        (block(["0.0.0.0/0"]), "ipBlock.cidr must be a string, not a list"),
        (port(port=0), "ports[0].port must be a port number"),
        (port(port=65536), "ports[0].port must be a port number"),
        (port(port=True), "ports[0].port must be a port number"),
        (port(port=80.0), "ports[0].port must be a port number"),
        (port(port="80"), "ports[0].port must be the name or number of a port, not '80'"),
        (port(port="no_name"), "ports[0].port must be the name"),
        (port(port=10**5000), "ports[0].port must be a port number from 1 to 65535, not a huge number"),
        (port(port=80, endPort=79), "ports[0].endPort must not be below port"),
        (port(port=80, endPort="90"), "ports[0].endPort must be a port number"),
        (port(port="http", endPort=90), "ports[0].endPort needs a port that is a number"),
        (port(endPort=90), "ports[0].endPort needs a port that is a number"),
        (port(protocol="tcp"), "ports[0].protocol must be TCP or UDP or SCTP, not 'tcp'"),
        (port(protocol="ICMP"), "ports[0].protocol must be TCP or UDP or SCTP"),
        (port(protocol=["TCP"]), "ports[0].protocol must be TCP or UDP or SCTP, not a list"),
    ],
)
def test_invalid_policies(spec: Any, where: str) -> None:
    with pytest.raises(NetpolError) as refused:
        World.of([*PODS, policy(spec)])
    assert str(refused.value).startswith("NetworkPolicy a/n: ")
    assert where in str(refused.value)


@pytest.mark.parametrize(
    ("given", "where"),
    [
        (None, "object 1: kind must be a string"),
        ([], "object 1 must be a mapping, not a list"),
        ("x", "object 1 must be a mapping, not 'x'"),
        ({"kind": "Pod"}, "object 1: metadata.name must be a name, not nothing"),
        ({"kind": "Pod", "metadata": []}, "object 1: metadata must be a mapping"),
        ({"kind": "Pod", "metadata": {"name": "A"}}, "metadata.name must be a name, not 'A'"),
        ({"kind": "Pod", "metadata": {"name": "x\n"}}, "metadata.name must be a name"),
        ({"kind": "Pod", "metadata": {"name": "a/b"}}, "metadata.name must be a name"),
        ({"kind": "Namespace", "metadata": {"name": "a.b"}}, "metadata.name must be a name"),
        ({"kind": "Pod", "metadata": {"name": "a", "namespace": 1}}, "metadata.namespace must be the name"),
        ({"kind": "Namespace", "metadata": {"name": "a", "labels": ["x"]}}, "Namespace a: metadata.labels must be"),
        (pod("x", address="10.0.0.300"), "Pod a/x: status.podIP must be an IP address"),
        (pod("x", ports=[{}]), "Pod a/x: spec.containers[0].ports[0].containerPort must be a port number"),
        (pod("x", ports=[{"containerPort": 80, "protocol": "X"}]), "ports[0].protocol must be TCP"),
        (pod("x", ports=[{"containerPort": 80, "name": "80"}]), "ports[0].name must be the name of a port"),
        ({**policy({}), "apiVersion": "networking.k8s.io/v2"}, "apiVersion must be networking.k8s.io/v1"),
        ({**policy({}), "apiVersion": 1}, "apiVersion must be a string"),
    ],
)
def test_invalid_objects(given: Any, where: str) -> None:
    with pytest.raises(NetpolError) as refused:
        World.of([given])
    assert where in str(refused.value)


def test_the_same_object_twice_is_refused() -> None:
    with pytest.raises(NetpolError, match="Pod a/x is given twice"):
        World.of([X, X])


@pytest.mark.parametrize(
    ("source", "target", "number", "protocol", "reason"),
    [
        ("a/no", "a/x", 80, "TCP", "there is no pod 'a/no'"),
        ("a/x", "x", 80, "TCP", "namespace/pod or an IP address, not 'x'"),
        ("a/x", "10.0.0.0/8", 80, "TCP", "there is no pod"),
        ("a/x", None, 80, "TCP", "namespace/pod or an IP address, not nothing"),
        ("a/x", 167772161, 80, "TCP", "namespace/pod or an IP address, not 167772161"),
        ("a/x", ["a/x"], 80, "TCP", "namespace/pod or an IP address, not a list"),
        ("a/x", "fe80::1%eth0", 80, "TCP", "namespace/pod or an IP address"),
        ("a/x", "a/y", 0, "TCP", "the port of a flow"),
        ("a/x", "a/y", "80", "TCP", "the port of a flow"),
        ("a/x", "a/y", True, "TCP", "the port of a flow"),
        ("a/x", "a/y", 80, "tcp", "the protocol of a flow is TCP or UDP or SCTP, not 'tcp'"),
        ("a/x", "a/y", 80, None, "the protocol of a flow"),
    ],
)
def test_invalid_flows(source: Any, target: Any, number: Any, protocol: Any, reason: str) -> None:
    world = World.of(PODS)
    with pytest.raises(NetpolError) as refused:
        world.allows(source, target, number, protocol)
    assert reason in str(refused.value)
    with pytest.raises(NetpolError):
        world.matrix(number, protocol, [source], [target])


def test_an_address_of_several_pods_means_none_of_them() -> None:
    world = World.of([X, pod("twin", address="10.0.0.1")])
    assert world.allows("a/x", "a/twin", 80)
    with pytest.raises(NetpolError, match=r"10\.0\.0\.1 is the address of several pods"):
        world.allows("a/x", "10.0.0.1", 80)


# --- what is meant to hurt ----------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize("spec", [peer(podSelector=nested(100_000)), port(port=nested(100_000)), nested(100_000)])
def test_deep_nesting_is_refused(spec: Any) -> None:
    with pytest.raises(NetpolError):
        World.of([policy(spec)])


def test_long_lists_are_read_and_asked_in_seconds() -> None:
    before = time.monotonic()
    rule = {
        "from": [
            *({"ipBlock": {"cidr": f"10.{n >> 8 & 255}.{n & 255}.0/24"}} for n in range(0, 40_000, 2)),
            *({"podSelector": {"matchLabels": {"app": f"a{n}"}}} for n in range(20_000)),
            {"ipBlock": {"cidr": "11.0.0.0/8", "except": [f"11.{n >> 8}.{n & 255}.0/32" for n in range(20_000)]}},
        ],
        "ports": [*({"port": 1 + n % 65_000} for n in range(20_000)), *({"port": f"p{n}"} for n in range(20_000))],
    }
    values = [f"v{n}" for n in range(50_000)]
    other = policy(expression(key="app", operator="NotIn", values=values), "other")
    world = World.of([*PODS, ingress(rule), other])
    for n in range(2_000):
        world.allows(f"10.0.{n % 256}.9", "a/y", 1 + n)
    assert world.allows("11.0.0.1", "a/y", 80)
    assert not world.allows("11.0.0.0", "a/y", 80)
    assert time.monotonic() - before < 20


def test_many_pods_under_many_policies() -> None:
    before = time.monotonic()
    pods = [pod(f"p{n}", f"n{n % 20}", f"10.1.{n >> 8}.{n & 255}") for n in range(2_000)]
    some = [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "p7"}}}]
    policies = [policy({"ingress": [{"from": some}]}, f"n{n}", f"n{n % 20}") for n in range(2_000)]
    matrix = World.of([*pods, *policies]).matrix(80)
    assert matrix.allowed == 2 * 2_000 - 1
    assert time.monotonic() - before < 20


# --- ranges -------------------------------------------------------------------------------------------------------


def test_intervals() -> None:
    assert list(Intervals([(5, 7), (1, 2), (3, 3), (6, 9), (20, 20)])) == [(1, 3), (5, 9), (20, 20)]
    found = Intervals([(5, 7), (1, 2), (20, 20)])
    assert [number for number in range(25) if number in found] == [1, 2, 5, 6, 7, 20]
    assert 1 not in Intervals()
    assert list(without((1, 10), [(1, 2), (4, 4), (4, 6), (10, 10)])) == [(3, 3), (7, 9)]
    assert list(without((1, 2), [(1, 1), (2, 2)])) == []
