# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster as it will be: what breaks, what opens, and who reaches whom, with and without pods."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.netpol.flows import (
    FlowError,
    Surroundings,
    parse_flows,
    render,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.netpol.prediction import (
    FORBIDDEN,
    OUTSIDE,
    REQUIRED,
    Prediction,
)

AROUND = Surroundings(api_server=["192.168.2.2"], nodes=["192.168.2.2", "192.168.2.3"])
DNS = {"name": "dns", "from": {"namespace": "lumen"}, "to": "dns"}
SCRAPE = {
    "name": "scrape",
    "from": {"namespace": "monitoring", "pods": {"matchLabels": {"app": "prometheus"}}},
    "to": {"namespace": "lumen", "pods": {"matchLabels": {"app": "api"}}},
    "ports": [8080],
}


def pod(namespace: str, app: str, address: str, name: str = "", **spec: Any) -> dict[str, Any]:
    ports = [{"containerPort": 8080}] if app == "api" else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name or f"{app}-1", "labels": {"app": app, "k8s-app": app}},
        "spec": {"containers": [{"name": app, "ports": ports}], **spec},
        "status": {"podIP": address, "phase": "Running"},
    }


PODS = [
    pod("lumen", "api", "10.42.0.2"),
    pod("lumen", "api", "10.42.0.3", "api-2"),
    pod("lumen", "loadgen", "10.42.0.4"),
    pod("monitoring", "prometheus", "10.42.0.5"),
    pod("kube-system", "kube-dns", "10.42.0.6"),
]


def predicted(*flows: dict[str, Any], denied: tuple[str, ...] = ("lumen",), pods: Any = PODS) -> Prediction:
    policies = render("site", denied, parse_flows(flows), AROUND).policies
    return Prediction([], pods, policies, AROUND)


def told(prediction: Prediction, rule: str, *flows: dict[str, Any]) -> list[str]:
    return [str(violation) for violation in prediction.violations(rule, parse_flows(flows))]


def test_a_required_flow_that_is_cut_names_policy_and_direction() -> None:
    assert told(predicted(SCRAPE), REQUIRED, SCRAPE) == []
    assert told(predicted(DNS), REQUIRED, SCRAPE) == [
        f"required flow scrape would be cut: monitoring/prometheus-1 → lumen/{name}:8080/TCP, "
        "ingress denied by lumen/site-default-deny"
        for name in ("api-1", "api-2")
    ]
    (first, _second) = predicted(denied=("monitoring",)).violations(REQUIRED, parse_flows([SCRAPE]))
    assert (first.direction, first.policies) == ("egress", ("monitoring/site-default-deny",))


def test_a_message_names_some_policies_and_counts_the_rest() -> None:
    others = [{**SCRAPE, "name": f"other-{number}", "ports": [number + 1]} for number in range(4)]
    assert told(predicted(*others), REQUIRED, SCRAPE)[0].endswith(
        "ingress denied by lumen/site-default-deny, lumen/site-other-0-ingress, lumen/site-other-1-ingress and 2 more"
    )


def test_a_forbidden_flow_that_is_open_names_what_allows_it() -> None:
    wanted = {**SCRAPE, "from": "anywhere"}
    assert told(predicted(), FORBIDDEN, wanted) == []
    assert told(predicted(SCRAPE), FORBIDDEN, SCRAPE)[0] == (
        "forbidden flow scrape would be open: monitoring/prometheus-1 → lumen/api-1:8080/TCP, "
        "allowed by lumen/site-scrape-ingress (ingress)"
    )
    opened = told(predicted(denied=()), FORBIDDEN, wanted)
    assert "forbidden flow scrape would be open: outside → lumen/api-1:8080/TCP, no policy denies it" in opened
    # Each of the other four pods and the outside, to each of the two.
    assert len(opened) == 10


def test_where_nothing_runs_a_pod_stands_in() -> None:
    assert told(predicted(SCRAPE, pods=[]), REQUIRED, SCRAPE) == []
    (line,) = told(predicted(pods=[]), REQUIRED, SCRAPE)
    assert line.startswith("required flow scrape would be cut: monitoring/(app=prometheus) → lumen/(app=api):8080/TCP")
    expressions = [
        {"key": "app", "operator": "In", "values": ["api", "web"]},
        {"key": "tier", "operator": "Exists"},
        {"key": "old", "operator": "DoesNotExist"},
    ]
    picky = {**SCRAPE, "to": {"namespace": "lumen", "pods": {"matchExpressions": expressions}}}
    assert "lumen/(app=api,tier=)" in told(predicted(pods=[]), REQUIRED, picky)[0]


def test_addresses() -> None:
    out = {"name": "out", "from": {"namespace": "lumen"}, "to": {"cidr": "203.0.113.0/24"}, "ports": [443]}
    half = {**out, "to": {"cidr": "203.0.113.0/25"}}
    assert len(told(predicted(half, pods=[]), FORBIDDEN, out)) == 1
    assert len(told(predicted(half, pods=[]), REQUIRED, out)) == 1
    web = {"name": "web", "from": "apiserver", "to": {"namespace": "lumen"}, "ports": [443]}
    assert told(predicted(web, pods=[]), REQUIRED, web) == []
    assert len(told(predicted(web, pods=[]), REQUIRED, {**web, "from": "nodes"})) == 1
    api = {"name": "api", "from": {"namespace": "lumen"}, "to": "apiserver"}
    assert "192.168.2.2:6443/TCP, egress denied" in told(predicted(pods=[]), REQUIRED, api)[0]


def test_a_flow_without_numbers_cannot_be_asked_for() -> None:
    for ports in ([], ["http"], [{"port": 1, "end_port": 9}]):
        with pytest.raises(FlowError, match="each port of a required or forbidden flow is one number"):
            told(predicted(), REQUIRED, {**SCRAPE, "ports": ports})


def test_pods_that_lose_their_dns_by_ours() -> None:
    ours = ["lumen/site-default-deny", "lumen/site-dns-egress"]
    assert predicted(DNS).cut_off(["lumen"], ours) == []
    lost = predicted().cut_off(["lumen"], ours)
    assert [violation.source for violation in lost] == ["lumen/api-1", "lumen/api-2", "lumen/loadgen-1"]
    assert str(lost[0]) == (
        "DNS would be cut: lumen/api-1 → kube-system/kube-dns-1:53/UDP, egress denied by lumen/site-default-deny"
    )
    assert predicted().cut_off(["lumen"], ["others"]) == []


def test_an_empty_namespace_can_lose_its_dns() -> None:
    (lost,) = predicted(pods=[]).cut_off(["lumen"], ["lumen/site-default-deny"])
    assert (lost.source, lost.target) == ("lumen/(any pod)", "kube-system/(k8s-app=kube-dns)")
    assert predicted(DNS, pods=[]).cut_off(["lumen"], ["lumen/site-default-deny"]) == []


def test_what_is_no_party_to_policies_is_left_out() -> None:
    pods = [
        pod("lumen", "node-exporter", "192.168.2.2", hostNetwork=True),
        {**pod("lumen", "job", "10.42.0.9"), "status": {"phase": "Succeeded", "podIP": "10.42.0.9"}},
        {**pod("lumen", "waits", ""), "status": {"phase": "Pending"}},
    ]
    assert predicted(pods=pods).pods("lumen") == ["lumen/waits-1"]


def test_the_matrix_groups_pods_by_app() -> None:
    rows = predicted(SCRAPE).matrix(["lumen"])
    assert rows == [
        {"to": "lumen/api", "port": 8080, "protocol": "TCP", "from": ["monitoring/prometheus"], "some": []},
    ]
    everybody = predicted(denied=()).matrix(["lumen"])[0]["from"]
    assert everybody == ["kube-system/kube-dns", "lumen/api", "lumen/loadgen", "monitoring/prometheus", "outside"]


def test_the_matrix_says_where_a_group_is_of_two_minds() -> None:
    canary = pod("monitoring", "prometheus", "10.42.0.7", "prometheus-2")
    canary["metadata"]["labels"] = {"app": "prometheus", "track": "canary"}
    flow = {**SCRAPE, "from": {"namespace": "monitoring", "pods": {"matchLabels": {"track": "canary"}}}}
    (row,) = predicted(flow, pods=[*PODS, canary]).matrix(["lumen"])
    assert (row["from"], row["some"]) == ([], ["monitoring/prometheus"])


def test_the_address_that_stands_for_outside_is_kept_for_documentation() -> None:
    assert OUTSIDE.startswith("203.0.113.")
