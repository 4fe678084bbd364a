# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paired probes: what each end of the pods means, and that nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import JOB, POD
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Invalid, Unreachable
from ansible_collections.lumen.airgap.plugins.module_utils.engines.netpol.flows import (
    Surroundings,
    parse_flows,
    render,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.netpol.prediction import Prediction
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.network_probe import (
    ENFORCED,
    NOT_ENFORCED,
    PROBE_LABEL,
    UNKNOWN,
    Finding,
    choose,
    overall,
    probe,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession

SCRAPE: dict[str, Any] = {
    "name": "scrape",
    "from": {"namespace": "monitoring", "pods": {"matchLabels": {"app": "prometheus"}}},
    "to": {"namespace": "lumen", "pods": {"matchLabels": {"app": "api"}}},
    "ports": [8080],
}
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
TIMEOUT = 'Get "http://10.42.0.9:18080": context deadline exceeded (Client.Timeout exceeded)'


def ended(code: int, message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message}}


class Cluster(FakeSession):
    """Starts a pod for each Job, with the states that a test gives it; deletes it with its Job."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = ended(0)
        self.closed = ended(1, TIMEOUT)
        self.served: dict[str, Any] = RUNNING
        self.jobs: list[dict[str, Any]] = []
        self.sticky = False
        self.on_create: Callable[[], None] = lambda: None

    def create(self, body: Any) -> dict[str, Any]:
        self.on_create()
        job = super().create(body)
        self.jobs.append(job)
        metadata = job["metadata"]
        labels = {**job["spec"]["template"]["metadata"]["labels"], "job-name": metadata["name"]}
        pod: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{metadata['name']}-x", "namespace": metadata["namespace"], "labels": labels},
            "spec": {"nodeName": "node-1" if metadata["name"].endswith("server") else "node-2"},
            "status": {"phase": "Running", "podIP": "10.42.0.9"},
        }
        if metadata["name"].endswith("server"):
            pod["status"]["containerStatuses"] = [{"name": name, "state": self.served} for name in ("a", "b")]
        else:
            pod["status"]["initContainerStatuses"] = [{"name": "open", "state": self.opened}]
            pod["status"]["containerStatuses"] = [{"name": "closed", "state": self.closed}]
        self.put(pod)
        return job

    def delete(self, kind: Any, name: str, namespace: Any = None, *args: Any, **options: Any) -> None:
        if self.sticky:
            return
        super().delete(kind, name, namespace, *args, **options)
        if kind == JOB and super().find(POD, f"{name}-x", namespace):
            self.remove(POD, f"{name}-x", namespace)

    @property
    def left(self) -> list[str]:
        return [obj["metadata"]["name"] for kind in (JOB, POD) for obj in self.list(kind).items]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def prediction(*flows: dict[str, Any], denied: tuple[str, ...] = ("lumen",)) -> Prediction:
    around = Surroundings()
    policies = render("site", denied, parse_flows(flows), around).policies
    return Prediction([], [], policies, around)


def find(cluster: Cluster, clock: FakeClock, flow: dict[str, Any] | None = None, **options: Any) -> Finding:
    flow = flow or SCRAPE
    predicted = prediction(flow, **options)
    (finding,) = probe(cluster, clock, predicted, parse_flows([flow]), "probe:lab", 60)  # type: ignore[arg-type]
    return finding


def test_the_network_enforces(cluster: Cluster, clock: FakeClock) -> None:
    finding = find(cluster, clock)
    assert finding == (
        "scrape",
        ENFORCED,
        "port 8080 answered and port 18080 did not, from node-2 to node-1",
    )
    assert cluster.left == []
    server, client = cluster.jobs
    assert (server["metadata"]["namespace"], client["metadata"]["namespace"]) == ("lumen", "monitoring")
    assert server["spec"]["template"]["metadata"]["labels"]["app"] == "api"
    assert client["spec"]["template"]["metadata"]["labels"]["app"] == "prometheus"
    spec = client["spec"]["template"]["spec"]
    assert spec["initContainers"][0]["args"] == ["get", "http://10.42.0.9:8080", "20s"]
    assert spec["containers"][0]["args"] == ["get", "http://10.42.0.9:18080", "4s"]
    arguments = [container["args"] for container in server["spec"]["template"]["spec"]["containers"]]
    assert arguments == [["serve", ":8080"], ["serve", ":18080"]]


def test_pods_that_nobody_adopts_sends_traffic_to_or_has_to_clean_up(cluster: Cluster, clock: FakeClock) -> None:
    find(cluster, clock)
    for job in cluster.jobs:
        spec = job["spec"]
        assert spec["ttlSecondsAfterFinished"] <= 60
        assert spec["activeDeadlineSeconds"] == 70
        assert spec["template"]["spec"]["readinessGates"] == [{"conditionType": "lumen.airgap/never"}]
        assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_the_network_does_not_enforce(cluster: Cluster, clock: FakeClock) -> None:
    cluster.closed = ended(0)
    finding = find(cluster, clock)
    assert finding.verdict == NOT_ENFORCED
    assert "port 18080, which no policy allows, answered" in finding.message
    assert cluster.left == []


def test_what_is_allowed_does_not_pass(cluster: Cluster, clock: FakeClock) -> None:
    cluster.opened = ended(1, TIMEOUT)
    cluster.closed = {"waiting": {"reason": "PodInitializing"}}
    finding = find(cluster, clock)
    assert finding.verdict == UNKNOWN
    assert "port 8080, which is allowed, did not answer from node-2 to node-1: Get" in finding.message


def test_a_server_that_ended_proves_nothing(cluster: Cluster, clock: FakeClock) -> None:
    real = cluster.create

    def create(body: Any) -> Any:
        job = real(body)
        if body["metadata"]["name"].endswith("client"):
            (server,) = cluster.list(POD, "lumen").items
            states = [{"name": name, "state": ended(1)} for name in ("a", "b")]
            cluster.edit(POD, server["metadata"]["name"], "lumen", {"status": {"containerStatuses": states}})
        return job

    cluster.create = create  # type: ignore[method-assign]
    finding = find(cluster, clock)
    assert (finding.verdict, cluster.left) == (UNKNOWN, [])
    assert "the server ended before port 18080 was asked" in finding.message


def test_an_image_that_is_missing_is_told_at_once(cluster: Cluster, clock: FakeClock) -> None:
    cluster.served = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    began = clock.monotonic()
    finding = find(cluster, clock)
    assert finding.verdict == UNKNOWN
    assert "ErrImagePull: not found" in finding.message
    assert clock.monotonic() - began < 5
    assert cluster.left == []


def test_a_pod_that_never_starts_is_given_up(cluster: Cluster, clock: FakeClock) -> None:
    cluster.served = {"waiting": {"reason": "ContainerCreating"}}
    finding = find(cluster, clock)
    assert finding.verdict == UNKNOWN
    assert "the server in lumen was not ready after 60 s: its pod is Running" in finding.message
    assert cluster.left == []


def test_a_quota_says_why_there_is_no_pod(cluster: Cluster, clock: FakeClock) -> None:
    real = cluster.create

    def create(body: Any) -> Any:
        job = real(body)
        name, space = job["metadata"]["name"], job["metadata"]["namespace"]
        cluster.remove(POD, f"{name}-x", space)
        cluster.put(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": "e", "namespace": space},
                "involvedObject": {"name": name},
                "type": "Warning",
                "message": "exceeded quota",
            }
        )
        return job

    cluster.create = create  # type: ignore[method-assign]
    assert find(cluster, clock).message.startswith("the server in lumen was not created: exceeded quota")


def test_an_api_server_that_is_away_for_a_moment(cluster: Cluster, clock: FakeClock) -> None:
    cluster.fail_next("list", Unreachable("list Pod: no answer"), times=3)
    assert find(cluster, clock).verdict == ENFORCED


def test_a_pod_that_is_refused(cluster: Cluster, clock: FakeClock) -> None:
    cluster.fail_next("create", Invalid("create Job: refused", status=422))
    assert find(cluster, clock) == ("scrape", UNKNOWN, "create Job: refused")


def test_an_interrupt_leaves_nothing(cluster: Cluster, clock: FakeClock) -> None:
    def interrupt() -> None:
        if cluster.jobs:
            raise KeyboardInterrupt

    cluster.on_create = interrupt
    with pytest.raises(KeyboardInterrupt):
        find(cluster, clock)
    assert cluster.left == []


def test_what_cannot_be_removed_is_named(cluster: Cluster, clock: FakeClock) -> None:
    cluster.sticky = True
    finding = find(cluster, clock)
    assert finding.verdict == ENFORCED
    assert "not removed yet: Job lumen/airgap-probe-" in finding.message


def test_everything_carries_the_label_that_cleaning_up_goes_by(cluster: Cluster, clock: FakeClock) -> None:
    find(cluster, clock)
    for job in cluster.jobs:
        assert job["metadata"]["labels"][PROBE_LABEL] == job["spec"]["template"]["metadata"]["labels"][PROBE_LABEL]


def test_a_port_below_1024_needs_a_capability(cluster: Cluster, clock: FakeClock) -> None:
    find(cluster, clock, {**SCRAPE, "ports": [80]})
    context = cluster.jobs[0]["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    assert context["capabilities"]["add"] == ["NET_BIND_SERVICE"]
    assert "runAsUser" not in context


def test_where_nothing_is_denied_there_is_nothing_to_prove(cluster: Cluster, clock: FakeClock) -> None:
    finding = find(cluster, clock, {**SCRAPE, "ports": []})
    assert (finding.verdict, cluster.jobs) == (UNKNOWN, [])
    assert "deny nothing between its ends" in finding.message
    assert find(cluster, clock, denied=()).verdict == UNKNOWN


def test_a_flow_that_other_policies_cut(cluster: Cluster, clock: FakeClock) -> None:
    predicted = prediction(denied=("lumen",))
    (finding,) = probe(cluster, clock, predicted, parse_flows([SCRAPE]), "probe", 60)  # type: ignore[arg-type]
    assert (finding.verdict, cluster.jobs) == (UNKNOWN, [])


def test_which_flows_are_proved() -> None:
    dns = {"name": "dns", "from": {"namespace": "lumen"}, "to": "dns"}
    named = {**SCRAPE, "name": "named", "ports": ["http"]}
    udp = {**SCRAPE, "name": "udp", "ports": [{"port": 1, "protocol": "UDP"}]}
    flows = parse_flows([dns, named, udp, SCRAPE])
    assert [flow.name for flow in choose(flows, [])] == ["scrape"]
    assert choose(flows[:3], []) == []
    assert [flow.name for flow in choose(flows, ["scrape"])] == ["scrape"]
    for name in ("dns", "named", "udp"):
        with pytest.raises(AirgapError, match=f"probe_flows has {name}, which cannot be proved"):
            choose(flows, [name])
    with pytest.raises(AirgapError, match="probe_flows has x, which is no flow of this set"):
        choose(flows, ["x"])


def test_the_worst_verdict_counts() -> None:
    assert overall([]) == UNKNOWN
    assert overall([Finding("a", ENFORCED, "")]) == ENFORCED
    assert overall([Finding("a", ENFORCED, ""), Finding("b", UNKNOWN, "")]) == UNKNOWN
    assert overall([Finding("a", NOT_ENFORCED, ""), Finding("b", UNKNOWN, "")]) == NOT_ENFORCED
