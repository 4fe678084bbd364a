# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One screen of the lab: nodes, pods, addresses, memory."""

from __future__ import annotations

import json
from pathlib import Path

from . import cluster, host
from .nodes import state
from .paths import ROOT, content_hash
from .shell import attempt


def screen() -> str:
    """What `make lab-status` prints; says plainly when there is no lab."""
    if not host.engine_answers() or not host.network_exists():
        return "no lab is up; `make lab` brings it up"
    running, ours = host.content_of_running(), content_hash()
    lines = [f"lab content {running}" + ("" if running == ours else f" (this clone's is {ours}: make lab rebuilds)")]
    lines.append(f"control groups v{host.cgroup_version()}; memory in use {memory_in_use():.1f} GiB on this machine\n")
    lines += [f"{name}  {address}  {state(name)}" for name, address in host.NODES.items()]
    if not cluster.KUBECONFIG.exists():
        return "\n".join([*lines, "\nthis clone has no kubeconfig of it yet: `make lab` adopts it"])
    missing = cluster.unhealthy()
    lines.append(f"\ncluster: {'live' if missing is None else missing}")
    lines.append(_pods())
    lines += [
        f"API server  {cluster.API}  (KUBECONFIG={cluster.KUBECONFIG.relative_to(ROOT)})",
        f"Gitea       {cluster.GITEA}  (the admin's token: {cluster.GITEA_TOKEN.relative_to(ROOT)})",
        f"registry    http://{host.REGISTRY}/v2/_catalog",
        "Prometheus  kubectl get --raw "
        "'/api/v1/namespaces/monitoring/services/kube-prometheus-stack-prometheus:9090/proxy/api/v1/query?query=up'",
    ]
    return "\n".join(lines)


def _pods() -> str:
    done = attempt([str(cluster.LOCAL / "bin" / "kubectl"), "get", "pods", "-A", "-o", "json"], timeout=20)
    if done.returncode != 0:
        return "pods: the API server did not answer\n"
    rows = []
    for item in json.loads(done.stdout)["items"]:
        statuses = item.get("status", {}).get("containerStatuses", [])
        ready = f"{sum(status['ready'] for status in statuses)}/{len(item['spec']['containers'])}"
        meta = item["metadata"]
        where = item["spec"].get("nodeName", "unscheduled")
        rows.append((meta["namespace"], meta["name"], ready, item["status"].get("phase", "?"), where))
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in sorted(rows)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def memory_in_use() -> float:
    """Memory that this machine cannot give away, in GiB."""
    words = [line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines()]
    values = {name.rstrip(":"): int(value) for name, value, *_unit in words}
    return (values["MemTotal"] - values["MemAvailable"]) / (1 << 20)
