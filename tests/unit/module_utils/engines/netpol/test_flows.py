# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flows as users write them, and the policies that they become."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.netpol.flows import (
    FlowError,
    Port,
    Surroundings,
    parse_flows,
    parse_port,
    render,
    uses,
)

AROUND = Surroundings(api_server=["192.168.2.2"], nodes=["192.168.2.2", "fd00::3"])
ANALYSIS = {
    "name": "analysis",
    "from": {"namespace": "argo-rollouts", "pods": {"matchLabels": {"app": "controller"}}},
    "to": {"namespace": "monitoring"},
    "ports": [{"port": 9090}],
}


def rendered(*entries: dict[str, Any], denied: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """Spec of each policy but the denying ones, by namespace/name."""
    found = render("site", denied, parse_flows(entries), AROUND).policies
    return {
        f"{policy['metadata']['namespace']}/{policy['metadata']['name']}": policy["spec"]
        for policy in found
        if not policy["metadata"]["name"].endswith("default-deny")
    }


def test_denied_namespaces_deny_everything() -> None:
    policies, unused = render("site", ["lumen", "gitea", "lumen"], [], AROUND)
    assert [policy["metadata"]["namespace"] for policy in policies] == ["lumen", "gitea"]
    assert policies[0] == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": "site-default-deny",
            "namespace": "lumen",
            "labels": {"app.kubernetes.io/managed-by": "lumen.airgap", "lumen.airgap/policies": "site"},
        },
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    assert unused == []


def test_a_flow_is_allowed_at_both_ends() -> None:
    specs = rendered(ANALYSIS, denied=("argo-rollouts", "monitoring"))
    port = [{"protocol": "TCP", "port": 9090}]
    source = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "argo-rollouts"}},
        "podSelector": {"matchLabels": {"app": "controller"}},
    }
    assert specs == {
        "argo-rollouts/site-analysis-egress": {
            "podSelector": {"matchLabels": {"app": "controller"}},
            "policyTypes": ["Egress"],
            "egress": [
                {
                    "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
                    "ports": port,
                }
            ],
        },
        "monitoring/site-analysis-ingress": {
            "podSelector": {},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [source], "ports": port}],
        },
    }


def test_a_namespace_that_is_not_denied_gets_no_policy() -> None:
    assert list(rendered(ANALYSIS, denied=("monitoring",))) == ["monitoring/site-analysis-ingress"]
    flows = parse_flows([ANALYSIS])
    assert render("site", ["lumen"], flows, AROUND).unused == ["analysis"]


def test_words() -> None:
    pods = {"namespace": "lumen"}
    specs = rendered(
        {"name": "dns", "from": pods, "to": "dns"},
        {"name": "api", "from": pods, "to": "apiserver"},
        {"name": "node", "from": "nodes", "to": pods, "ports": [{"port": "http"}]},
        {"name": "open", "from": "anywhere", "to": pods, "ports": [{"port": 80, "end_port": 90, "protocol": "UDP"}]},
        {"name": "out", "from": pods, "to": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
        denied=("lumen",),
    )
    assert specs["lumen/site-dns-egress"]["egress"] == [
        {
            "to": [
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
                }
            ],
            "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
        }
    ]
    assert specs["lumen/site-api-egress"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": "192.168.2.2/32"}}], "ports": [{"protocol": "TCP", "port": 6443}]}
    ]
    assert specs["lumen/site-node-ingress"]["ingress"] == [
        {
            "from": [{"ipBlock": {"cidr": "192.168.2.2/32"}}, {"ipBlock": {"cidr": "fd00::3/128"}}],
            "ports": [{"protocol": "TCP", "port": "http"}],
        }
    ]
    assert specs["lumen/site-open-ingress"]["ingress"] == [{"ports": [{"protocol": "UDP", "port": 80, "endPort": 90}]}]
    assert specs["lumen/site-out-egress"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}
    ]


def test_several_ends_are_several_policies_here_and_several_rules_there() -> None:
    flow = {
        "name": "pull",
        "from": [{"namespace": "a", "pods": {"matchLabels": {"app": "x"}}}, {"namespace": ["a", "b"]}],
        "to": [{"namespace": "c"}, "apiserver"],
        "ports": [{"port": 80}],
    }
    specs = rendered(flow, denied=("a", "b", "c"))
    assert sorted(specs) == [
        "a/site-pull-egress",
        "a/site-pull-egress-2",
        "b/site-pull-egress",
        "c/site-pull-ingress",
    ]
    assert len(specs["b/site-pull-egress"]["egress"]) == 2
    assert len(specs["c/site-pull-ingress"]["ingress"]) == 3


def test_dns_that_is_denied_itself_is_let_in() -> None:
    specs = rendered({"name": "dns", "from": {"namespace": "a"}, "to": "dns"}, denied=("kube-system",))
    assert specs["kube-system/site-dns-ingress"]["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    assert {port["protocol"] for port in specs["kube-system/site-dns-ingress"]["ingress"][0]["ports"]} == {"TCP", "UDP"}


def test_an_address_that_nobody_knows() -> None:
    flows = parse_flows([{"name": "api", "from": {"namespace": "a"}, "to": "apiserver"}])
    assert uses(flows, "apiserver")
    assert not uses(flows, "nodes")
    with pytest.raises(FlowError, match="flow api: no address is known for apiserver"):
        render("site", ["a"], flows, Surroundings())


def test_ports() -> None:
    assert parse_port(80, "x") == parse_port("80", "x") == parse_port({"port": "80"}, "x") == Port(80)
    assert parse_port("http", "x") == Port("http")
    assert parse_port({"protocol": "UDP"}, "x") == Port(None, "UDP")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "No Good"}, "flow 1: its name is made of"),
        ({"name": None}, "flow 1: its name"),
        ({"too": 1}, "too is none of from, name, ports, to"),
        ({"to": None}, "flow analysis has no 'to'"),
        ({"to": []}, "flow analysis, to is an empty list"),
        ({"to": "monitoring"}, "'monitoring' is none of dns, apiserver, nodes, anywhere; pods are {namespace: monitor"),
        ({"to": {"pods": {}}}, "None is no name of a namespace"),
        ({"to": {"namespace": "kube.system"}}, "'kube.system' is no name of a namespace"),
        ({"to": {"namespace": "x", "pods": {"app": "x"}}}, "app is none of matchExpressions, matchLabels"),
        ({"to": {"namespace": "x", "pods": {"matchLabels": {"v": 1}}}}, "the label v has the value 1, which is not"),
        ({"to": {"namespace": []}}, "[] is no name of a namespace"),
        ({"to": {"namespace": ["x", None]}}, "None is no name of a namespace"),
        (
            {"to": {"namespace": "x", "pods": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}},
            "is no requirement",
        ),
        (
            {"to": {"namespace": "x", "pods": {"matchExpressions": [{"key": "a", "operator": "In"}]}}},
            "is no requirement",
        ),
        ({"to": {"namespace": "x", "cidr": "10.0.0.0/8"}}, "namespace is none of cidr, except"),
        ({"to": {"cidr": "10.0.0.1/8"}}, "10.0.0.1/8 has host bits set"),
        ({"to": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/9"]}}, "11.0.0.0/9 is not a part of 10.0.0.0/8"),
        ({"to": {"cidr": "10.0.0.0/8", "except": ["fd00::/8"]}}, "fd00::/8 is not a part"),
        ({"to": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}, "is not a part"),
        ({"to": 5}, "5 is no dictionary"),
        ({"ports": [{"port": 0}]}, "flow analysis, ports: a port is from 1 to 65535, not 0"),
        ({"ports": [70000]}, "not 70000"),
        ({"ports": ["Not-A-Name"]}, "is neither a number nor a name"),
        ({"ports": ["a-name-that-is-too-long"]}, "is neither a number nor a name"),
        ({"ports": [{"port": 1, "protocol": "ICMP"}]}, "the protocol is one of TCP, UDP, SCTP, not 'ICMP'"),
        ({"ports": [{"port": 9, "end_port": 8}]}, "end_port is a number not below port"),
        ({"ports": [{"port": "http", "end_port": 8}]}, "end_port is a number"),
        ({"ports": [None]}, "None is no dictionary"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FlowError) as caught:
        parse_flows([{**ANALYSIS, **change}])
    assert message in str(caught.value)


def test_names_are_used_once() -> None:
    with pytest.raises(FlowError, match="two flows are named analysis"):
        parse_flows([ANALYSIS, ANALYSIS])


@pytest.mark.parametrize(("name", "denied"), [("A set", ["a"]), ("site", ["Not"]), ("x" * 64, ["a"])])
def test_names_that_kubernetes_would_refuse(name: str, denied: list[str]) -> None:
    with pytest.raises(FlowError):
        render(name, denied, [], AROUND)
