#!/usr/bin/env python3
# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a million flows take: 1,000 pods in 50 namespaces under 200 policies, all pairs on one port.

The objects go to a process of its own, which reads them, decides every pair and looks at each answer; its time is
that from the objects to the answers, its memory the most that the whole process held. cyclonus' matcher gets the same
objects in the same run (``make bench`` builds it); it must come to the same number of allowed flows.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins" / "module_utils"))

from engines.netpol.reachability import World

CYCLONUS = Path(__file__).resolve().parents[2] / "build" / "cyclonus" / "cyclonus"
NAMESPACES, PODS, POLICIES, PORT = 50, 20, 4, 8080
SECONDS, MEBIBYTES = 3.0, 300
DEADLINE = 250.0  # seconds for either
APPS = ("api", "web", "db", "cache", "worker")


def cluster() -> list[dict[str, Any]]:
    """Pods of five apps, most of them the replicas of another; policies with every sort of peer and port."""
    values = random.Random(1)
    objects: list[dict[str, Any]] = []
    for number in range(NAMESPACES):
        namespace = f"team-{number}"
        labels = {"stage": values.choice(("prod", "test")), "unit": f"u{number % 7}"}
        objects.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
        for place in range(PODS):
            app = APPS[place % len(APPS)]
            port = {"name": "http" if values.random() < 0.7 else "web", "containerPort": PORT, "protocol": "TCP"}
            metadata = {
                "name": f"{app}-{place}",
                "namespace": namespace,
                "labels": {"app": app, "track": values.choice(("stable", "canary")), "pod": f"{app}-{place}"},
            }
            spec = {"containers": [{"name": app, "ports": [port]}]}
            status = {"podIP": f"10.42.{number}.{place + 1}"}
            objects.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
        for place in range(POLICIES):
            metadata = {"name": f"policy-{place}", "namespace": namespace}
            spec = policy(values, place)
            kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
            objects.append({**kind, "metadata": metadata, "spec": spec})
    return objects


def policy(values: random.Random, place: int) -> dict[str, Any]:
    if place == 0:
        return {"podSelector": {}, "policyTypes": ["Ingress"]}
    peers: list[dict[str, Any]] = [
        {"podSelector": {"matchLabels": {"app": values.choice(APPS)}}},
        {"namespaceSelector": {"matchExpressions": [{"key": "unit", "operator": "In", "values": ["u1", "u2"]}]}},
        {
            "namespaceSelector": {"matchLabels": {"stage": "prod"}},
            "podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": values.sample(APPS, 3)}]},
        },
        {"ipBlock": {"cidr": "10.42.0.0/16", "except": [f"10.42.{values.randrange(NAMESPACES)}.0/24"]}},
    ]
    ports = [
        {"port": PORT},
        {"port": "http"},
        {"port": 8000, "endPort": 9000},
        {"port": 53, "protocol": "UDP"},
    ]
    direction, ends = (("ingress", "from"), ("ingress", "from"), ("egress", "to"))[place - 1]
    rules = [{ends: values.sample(peers, 2), "ports": values.sample(ports, 2)} for _ in range(2)]
    selector = {"matchLabels": {"app": values.choice(APPS)}} if place > 1 else {}
    return {"podSelector": selector, "policyTypes": [direction.capitalize()], direction: rules}


def ours() -> dict[str, Any]:
    """What the child process measures of itself."""
    objects = json.load(sys.stdin)["resources"]
    started = time.perf_counter()
    flows = allowed = 0
    for _source, _target, verdict in World.of(objects).matrix(PORT):
        flows += 1
        allowed += verdict
    seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (peak,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return {"flows": flows, "allowed": allowed, "seconds": seconds, "peak": peak}


def run(command: list[str], case: str) -> dict[str, Any]:
    ended = subprocess.run(command, input=case, stdout=subprocess.PIPE, text=True, timeout=DEADLINE, check=True)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def main() -> int:
    case = json.dumps({"resources": cluster()})
    found = run([sys.executable, __file__, "child"], case)
    name = f"{found['flows']:,} flows, {found['allowed']:,} allowed"
    peer = run([str(CYCLONUS), "matrix", str(PORT)], case)
    seconds, memory = f"cyclonus: {peer['seconds']:.2f} s", f"cyclonus: {peer['peak'] / 1024:.0f} MiB"
    wrong = (peer["flows"], peer["allowed"]) != (found["flows"], found["allowed"])
    if wrong:
        print(f"cyclonus allows {peer['allowed']:,} of {peer['flows']:,} flows, ours is: {name}", file=sys.stderr)
    print(json.dumps({"name": name, "value": found["seconds"], "unit": "s", "limit": SECONDS, "peer": seconds}))
    peak = {"name": "memory of the whole process", "value": found["peak"] / 1024, "unit": "MiB", "limit": MEBIBYTES}
    print(json.dumps({**peak, "peer": memory}))
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["child"]:
        print(json.dumps(ours()))
        sys.exit()
    sys.exit(main())
