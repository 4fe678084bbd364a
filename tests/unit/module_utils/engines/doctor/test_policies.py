# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether Argo Rollouts reaches Prometheus, by the policies of both sides."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.doctor.facts import Facts
from ansible_collections.lumen.airgap.plugins.module_utils.engines.doctor.policies import check_policies

CONTROLLER, PROMETHEUS = "argo-rollouts/argo-rollouts-1", "monitoring/prometheus-0"
LABELS = {"app.kubernetes.io/name": "argo-rollouts"}


def pod(name: str, address: str, **labels: str) -> dict[str, Any]:
    namespace, _, name = name.partition("/")
    metadata = {"namespace": namespace, "name": name, "labels": labels}
    ports = [{"containerPort": 9090}]
    container = {"name": "main", "ports": ports}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [container]},
        "status": {"podIP": address, "phase": "Running"},
    }


def namespace(name: str) -> dict[str, Any]:
    labels = {"kubernetes.io/metadata.name": name}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def policy(where: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": where, "name": f"deny-{'-'.join(spec)}"},
        "spec": {"podSelector": {}, "policyTypes": [each.capitalize() for each in spec], **spec},
    }


def facts(*policies: dict[str, Any], **more: Any) -> Facts:
    network = [
        namespace("argo-rollouts"),
        namespace("monitoring"),
        pod(CONTROLLER, "10.42.0.5", **LABELS),
        pod(PROMETHEUS, "10.42.0.6", app="prometheus"),
        *policies,
    ]
    known: dict[str, Any] = {"network": network, "prometheus_pods": [(PROMETHEUS, 9090)], **more}
    return Facts("api", "lumen", "registry:5000", 0.0, **known)


def test_without_policies_and_with_ones_that_let_it_through_nothing_is_found() -> None:
    to = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    opened = policy("argo-rollouts", egress=[{"to": to, "ports": [{"port": 9090}]}])
    assert list(check_policies(facts())) == []
    assert list(check_policies(facts(opened))) == []


@pytest.mark.parametrize(
    ("closed", "says"),
    [
        (policy("argo-rollouts", egress=[]), "the egress is closed by argo-rollouts/deny-egress"),
        (policy("monitoring", ingress=[]), "the ingress is closed by monitoring/deny-ingress"),
        (
            policy("monitoring", ingress=[{"ports": [{"port": 80}]}]),
            "the ingress is closed by monitoring/deny-ingress",
        ),
    ],
    ids=["egress", "ingress", "another port"],
)
def test_the_side_that_is_closed_is_named(closed: dict[str, Any], says: str) -> None:
    [finding] = check_policies(facts(closed))
    assert (finding.code, finding.severity) == ("policy-blocks-prometheus", "error")
    assert list(finding.evidence) == [says]
    assert f"{PROMETHEUS}" in finding.cause


def test_one_open_port_of_several_is_enough_and_a_dashboard_is_no_controller() -> None:
    opened = policy("monitoring", ingress=[{"ports": [{"port": 9090}]}])
    assert list(check_policies(facts(opened, prometheus_pods=[(PROMETHEUS, 8080), (PROMETHEUS, 9090)]))) == []
    dashboard = pod("argo-rollouts/board-1", "10.42.0.9", **LABELS, **{"app.kubernetes.io/component": "dashboard"})
    closed = policy("argo-rollouts", egress=[])
    network = [namespace("argo-rollouts"), namespace("monitoring"), dashboard, pod(PROMETHEUS, "10.42.0.6"), closed]
    assert list(check_policies(facts(network=network))) == []


def test_what_could_not_be_read_is_not_judged() -> None:
    closed = policy("argo-rollouts", egress=[])
    assert list(check_policies(facts(closed, prometheus_pods=()))) == []
    assert list(check_policies(facts(closed, network=()))) == []
    broken = {**closed, "spec": {"podSelector": {}, "egress": "all"}}
    assert list(check_policies(facts(broken))) == []
