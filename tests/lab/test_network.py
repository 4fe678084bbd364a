# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The airgap and the NetworkPolicies are real: proved with listeners and pods of our own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .conftest import command, eventually

OUTSIDE = "172.30.99.0/24"
LISTENER = "172.30.99.2"
PROBE = "192.168.2.2:5000/probe:lab"


def pod(namespace: str, name: str, node: str) -> dict[str, object]:
    """A pod that answers on 8080 and stays, pinned to a node."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "probe", "image": PROBE, "args": ["serve", ":8080"]}],
        },
    }


@pytest.fixture
def pods(namespace: str) -> dict[str, str]:
    """Two pods on different nodes and a Service before the server: {"namespace", "pod", "service"} addresses."""
    from driver.cluster import kubectl

    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "server", "namespace": namespace},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    items = [pod(namespace, "server", "node-1"), pod(namespace, "client", "node-2"), service]
    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/server", "pod/client", "--timeout=60s", timeout=90)
    answer = json.loads(kubectl("get", "-n", namespace, "pod/server", "service/server", "-o", "json"))["items"]
    return {
        "namespace": namespace,
        "pod": f"http://{answer[0]['status']['podIP']}:8080",
        "service": f"http://{answer[1]['spec']['clusterIP']}",
        "name": f"http://server.{namespace}.svc.cluster.local",
    }


def reaches(namespace: str, url: str) -> bool:
    """Whether the client pod gets an answer from ``url``."""
    from driver.cluster import KUBECONFIG, LOCAL

    argv = [str(LOCAL / "bin" / "kubectl"), f"--kubeconfig={KUBECONFIG}", "exec", "-n", namespace, "client", "--"]
    return command([*argv, "probe", "get", url, "2s"]).returncode == 0


def test_policies_are_enforced_across_nodes(pods: dict[str, str]) -> None:
    """Open, then denied, then allowed: by pod address and by Service address, between node-2 and node-1."""
    from driver.cluster import kubectl

    namespace = pods["namespace"]
    targets = (pods["pod"], pods["service"], pods["name"])
    for url in targets:
        eventually(f"{url} open without a policy", lambda url=url: reaches(namespace, url), 20)

    deny = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]},
    }
    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(deny))
    for url in targets:
        eventually(f"{url} denied", lambda url=url: not reaches(namespace, url), 20)

    allow = {
        **deny,
        "metadata": {"name": "allow", "namespace": namespace},
        "spec": {
            "podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [
                {
                    "from": [{"podSelector": {"matchLabels": {"app": "client"}}}],
                    "ports": [{"port": 8080, "protocol": "TCP"}],
                }
            ],
        },
    }
    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(allow))
    for url in targets:
        eventually(f"{url} allowed again", lambda url=url: reaches(namespace, url), 20)


@pytest.fixture
def listener() -> Iterator[str]:
    """A listener of our own on another Docker network of this machine, proved to answer there."""
    from driver.build import Builder
    from driver.host import DOCKER, docker
    from driver.images import IMAGES, build_image

    builder = Builder()
    image = build_image(next(row for row in IMAGES if row.name == "probe"), builder)
    builder.stop()
    docker("network", "create", "--subnet", OUTSIDE, "lumen-outside")
    try:
        docker("run", "--detach", "--name", "lumen-listener", "--network", "lumen-outside", "--ip", LISTENER, image,
               "serve", ":8080")  # fmt: skip
        url = f"http://{LISTENER}:8080"
        argv = [DOCKER, "run", "--rm", "--network", "lumen-outside", image, "get", url, "2s"]
        eventually("the listener answers on its own network", lambda: command(argv).returncode == 0, 15)
        yield url
    finally:
        command([DOCKER, "rm", "--force", "lumen-listener"])
        command([DOCKER, "network", "rm", "lumen-outside"])


def test_nothing_inside_reaches_outside(listener: str, pods: dict[str, str]) -> None:
    """Neither nodes nor pods reach the listener, also when a node is given a route to it via the host."""
    from driver.host import HOST_IP, NODES
    from driver.nodes import on

    def get(node: str) -> str:
        argv = ["sh", "-c", f"curl --silent --show-error --max-time 3 {listener} 2>&1; echo exit $?"]
        return on(node, *argv)

    for node in NODES:
        assert "exit 0" not in get(node), f"{node} reaches outside"
    assert not reaches(pods["namespace"], listener), "a pod reaches outside"

    for node in NODES:
        on(node, "ip", "route", "add", OUTSIDE, "via", HOST_IP)
    try:
        for node in NODES:
            assert "exit 28" in get(node), f"{node} with a route: not dropped by the host"
        assert not reaches(pods["namespace"], listener), "a pod reaches outside over a node's route"
    finally:
        for node in NODES:
            on(node, "ip", "route", "delete", OUTSIDE)


def test_names_from_outside_are_answered_at_once(pods: dict[str, str]) -> None:
    """CoreDNS has no upstream: a foreign name is refused in milliseconds, not asked of anybody."""
    from driver.nodes import on

    script = (
        "import socket,struct,time;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(3);"
        "q=struct.pack('>6H',7,256,1,0,0,0)+b'\\x07example\\x07invalid\\x00'+struct.pack('>2H',1,1);"
        "t=time.time();s.sendto(q,('10.43.0.10',53));a=s.recv(512);print(a[3]&15,time.time()-t)"
    )
    code, seconds = on("node-2", "python3", "-c", script).split()
    assert int(code) in (2, 3, 5), "CoreDNS resolved a foreign name"
    assert float(seconds) < 1
