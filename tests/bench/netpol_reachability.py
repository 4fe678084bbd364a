# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A million flows: 1,000 pods in 50 namespaces under 200 policies, all pairs on one port, ours and cyclonus' matcher.

Both read the same JSON and decide every pair, each as a process of its own, its memory as the kernel counts it.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CYCLONUS = ROOT / "tests" / "parity" / "cyclonus"
PORT = 80

OURS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from engines.netpol.reachability import World
world = World.of(json.load(open(sys.argv[2]))["resources"])
allowed = sum(allowed for _source, _target, allowed in world.matrix(80))
print(allowed, next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def main() -> int:
    """Measure both on the same world and hold their answers against each other."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "world.json"
        path.write_text(json.dumps({"resources": world(), "port": PORT}))
        begin = time.monotonic()
        utils = str(ROOT / "plugins" / "module_utils")
        ours = run([sys.executable, "-c", OURS, utils, str(path)])
        seconds = time.monotonic() - begin
        allowed, kilobytes = (int(word) for word in ours.split())
        peer = cyclonus(Path(folder), path)
        theirs, their_seconds, their_kilobytes = peer
    if theirs != allowed:
        print(f"ours allow {allowed} flows, cyclonus {theirs}", file=sys.stderr)
        return 1
    show("a million flows decided, reading included", seconds, "s", 3, f"cyclonus: {their_seconds:.1f} s")
    show("peak memory of it", kilobytes / 1024, "MiB", 300, f"cyclonus: {their_kilobytes / 1024:.0f} MiB")
    return 0


def cyclonus(folder: Path, world_path: Path) -> tuple[int, float, int]:
    """Allowed flows, seconds and KiB of cyclonus' matcher, built with the pins beside its program."""
    program = folder / "cyclonus"
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "-mod=readonly",
    }
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=CYCLONUS, env=environment, check=True, timeout=400)
    begin = time.monotonic()
    answer = run([str(program), "matrix", str(world_path)])
    seconds = time.monotonic() - begin
    found = re.fullmatch(r"(\d+) (\d+)\s*", answer)
    if not found:
        sys.exit(f"cyclonus answered {answer!r}")
    return int(found[1]), seconds, int(found[2])


def world(seed: int = 1) -> list[dict[str, Any]]:
    """Namespaces of some teams, pods of some applications, four policies of usual forms in each namespace."""
    dice = random.Random(seed)
    objects: list[dict[str, Any]] = []
    for number in range(50):
        labels = {"team": f"t{number % 7}", "kubernetes.io/metadata.name": f"ns{number}"}
        objects.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"ns{number}", "labels": labels}})
    for number in range(1000):
        meta = {
            "name": f"pod{number}",
            "namespace": f"ns{number % 50}",
            "labels": {"app": f"a{dice.randrange(12)}", "tier": dice.choice(["front", "back"]), "pod": f"p{number}"},
        }
        spec = {"containers": [{"name": "main", "ports": [{"name": "http", "containerPort": PORT}]}]}
        status = {"podIP": f"10.42.{number // 250}.{number % 250 + 1}"}
        objects.append({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status})
    for number in range(200):
        meta = {"name": f"policy{number}", "namespace": f"ns{number % 50}"}
        body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta}
        objects.append({**body, "spec": _spec(number // 50, dice)})
    return objects


def _spec(form: int, dice: random.Random) -> dict[str, Any]:
    app = {"matchLabels": {"app": f"a{dice.randrange(12)}"}}
    team = {"matchLabels": {"team": f"t{dice.randrange(7)}"}}
    block = {"ipBlock": {"cidr": "10.42.0.0/23", "except": ["10.42.1.0/25"]}}
    if form == 0:
        return {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if form == 1:
        peers = [{"namespaceSelector": team, "podSelector": app}, {"podSelector": {}}]
        return {"podSelector": app, "policyTypes": ["Ingress"], "ingress": [{"from": peers, "ports": [{"port": PORT}]}]}
    if form == 2:
        ports = [{"port": "http"}, {"port": 8000, "endPort": 9000}]
        rule = {"from": [{"namespaceSelector": team}, block], "ports": ports}
        return {"podSelector": {"matchLabels": {"tier": "back"}}, "policyTypes": ["Ingress"], "ingress": [rule]}
    return {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"namespaceSelector": {}}, block]}]}


def run(argv: list[str]) -> str:
    """What a command printed."""
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=300, check=True
    ).stdout


def show(name: str, value: float, unit: str, limit: float, peer: str) -> None:
    """One measurement, as run.py reads it."""
    print(json.dumps({"name": name, "value": value, "unit": unit, "limit": limit, "peer": peer}))


if __name__ == "__main__":
    sys.exit(main())
