# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kubernetes on the nodes: kubeadm, Calico, CoreDNS, Prometheus, Gitea, and whether all of it lives."""

from __future__ import annotations

import base64
import datetime
import json
from typing import Any

from . import bundle, host
from .build import Builder, version_of
from .host import NODES, REGISTRY
from .nodes import on, started_at, state, unit_log, write
from .paths import LAB, LOCAL
from .report import LabError, step, wait_for
from .shell import attempt, run, write_atomically

API = f"https://{NODES['node-1']}:6443"
GITEA = f"http://{NODES['node-1']}:30300"
KUBECONFIG = LOCAL / "kubeconfig"
GITEA_TOKEN = LOCAL / "gitea" / "token"
_WORKLOADS = {
    ("kube-system", "daemonset/kube-proxy"),
    ("kube-system", "daemonset/calico-felix"),
    ("kube-system", "deployment/coredns"),
    ("monitoring", "deployment/prometheus"),
    ("gitea", "deployment/gitea"),
}
# Files in the order of their names, each a document of its own.
_CAT = 'find "$@" -name "*.yaml" | sort | while read -r path; do echo "---"; cat "$path"; echo; done'
_DONE = "/etc/kubernetes/lumen-done"


def bring_up(builder: Builder) -> None:
    """From two booted nodes to a cluster with everything in it; each part is skipped when it is there."""
    with step("a signed bundle of all images and manifests"):
        bundle.build(builder)
    with step("the bundle imported on node-1, and its registry up", lambda: unit_log("node-1", "docker")):
        _ensure_registry()
    with step("kubeadm init on node-1", lambda: unit_log("node-1", "kubelet")):
        _init()
    _local_files(builder)
    with step("Calico and CoreDNS"):
        _apply_network()
    with step("kubeadm join on node-2", lambda: unit_log("node-2", "kubelet")):
        _join()
    with step("routes between the pods of the nodes"):
        _route_pods()
    with step("Prometheus"):
        _apply(_manifest("prometheus"))
    with step("Gitea and what it holds", _what_is_wrong):
        bundle.play("lab/playbooks/gitea.yml", timeout=600)
    with step("everything live", _what_is_wrong):
        wait_for("the cluster", unhealthy, deadline=240, every=1)
    if not _take_token():
        raise LabError("lab/playbooks/gitea.yml has run, but the Secret gitea-admin is not marked as complete")


def adopt(builder: Builder) -> bool:
    """Give this clone its kubeconfig and kubectl of a live cluster; False when there is none to adopt."""
    if not _exists("node-1", _DONE):
        return False
    _local_files(builder)
    return unhealthy() is None and _take_token()


def kubectl(*words: str, timeout: float = 60, stdin: str | None = None) -> str:
    """Run the lab's kubectl as its admin."""
    return run([str(LOCAL / "bin" / "kubectl"), *words], timeout=timeout, stdin=stdin)


def unhealthy() -> str | None:
    """What is missing to a live cluster, or None.

    Right after a restart the API still shows the old Ready states, so only live signals count: a lease renewed
    by each kubelet since its node started, and containers that started after it.
    """
    for name in NODES:
        if state(name) != "running":
            return f"{name} is {state(name) or 'not there'}"
    if attempt([str(LOCAL / "bin" / "kubectl"), "get", "--raw", "/readyz"], timeout=20).returncode != 0:
        return "the API server is not ready"
    now = datetime.datetime.now(datetime.UTC)
    started = {name: _time(started_at(name)) for name in NODES}
    answers = json.loads(kubectl("get", "nodes,leases", "-n", "kube-node-lease", "-o", "json", timeout=20))["items"]
    ready = {item["metadata"]["name"] for item in answers if item["kind"] == "Node" and _is_ready(item)}
    renewed = {i["metadata"]["name"]: _time(i["spec"]["renewTime"]) for i in answers if i["kind"] == "Lease"}
    for name in NODES:
        if name not in ready:
            return f"{name} is not Ready"
        if name not in renewed or renewed[name] < started[name] or (now - renewed[name]).total_seconds() > 40:
            return f"the kubelet of {name} has not renewed its lease"
    return _workloads_missing(started) or registry_silent() or gitea_silent()


def _workloads_missing(started: dict[str, datetime.datetime]) -> str | None:
    kinds = "deployments.apps,daemonsets.apps,pods"
    items = json.loads(kubectl("get", kinds, "-A", "-o", "json", timeout=20))["items"]
    there = set()
    for item in items:
        namespace, name, status = item["metadata"]["namespace"], item["metadata"]["name"], item.get("status", {})
        if item["kind"] == "Deployment" and status.get("availableReplicas", 0) >= item["spec"]["replicas"]:
            there.add((namespace, f"deployment/{name}"))
        if item["kind"] == "DaemonSet" and status.get("numberReady", 0) >= len(NODES):
            there.add((namespace, f"daemonset/{name}"))
    for namespace, name in sorted(_WORKLOADS - there):
        return f"{namespace} {name} is not available"
    for item in items:
        if item["kind"] != "Pod" or not _is_ours(item["metadata"]["namespace"], item["metadata"]["name"]):
            continue
        for container in item.get("status", {}).get("containerStatuses", []):
            since = container.get("state", {}).get("running", {}).get("startedAt")
            # Kubernetes keeps whole seconds.
            node = started[item["spec"]["nodeName"]].replace(microsecond=0)
            if since is None or not container["ready"] or _time(since) < node:
                return f"pod {item['metadata']['name']} is not ready"
    return None


def _is_ours(namespace: str, pod: str) -> bool:
    """Whether a pod is part of the lab: what else runs beside it may be broken, and the lab is up."""
    names = [name.partition("/")[2] for place, name in _WORKLOADS if place == namespace]
    return namespace == "kube-system" or any(pod.startswith(f"{name}-") for name in names)


def _ensure_registry() -> None:
    """Start the registry and fill it as a user does: by site.yml, from the bundle."""
    on("node-1", "systemctl", "enable", "--now", "docker", timeout=120)
    bundle.import_()
    wait_for("the registry", registry_silent, deadline=30)


def registry_silent() -> str | None:
    """None when node-1's registry answers."""
    return None if _answers(f"http://{REGISTRY}/v2/") else "the registry does not answer on /v2/"


def gitea_silent() -> str | None:
    """None when Gitea answers where its users find it."""
    return None if _answers(f"{GITEA}/api/healthz") else f"Gitea does not answer on {GITEA}"


def _answers(url: str) -> bool:
    argv = ["curl", "--silent", "--output", "/dev/null", "--fail", "--max-time", "5", url]
    return attempt(argv, timeout=10).returncode == 0


def _init() -> None:
    for name in NODES:
        # Without it pods hang in ContainerCreating, and deletes hang too; no newline at its end.
        write(name, "/var/lib/calico/nodename", name)
    if _exists("node-1", _DONE):
        return
    _begin_again("node-1")
    config = (LAB / "nodes" / "kubeadm-init.yaml").read_text()
    config = config.replace("@KUBERNETES_VERSION@", version_of("kubernetes"))
    write("node-1", "/etc/lumen-lab/kubeadm.yaml", config)
    argv = ["kubeadm", "init", "--config", "/etc/lumen-lab/kubeadm.yaml", "--ignore-preflight-errors=all"]
    on("node-1", *argv, "--skip-token-print", timeout=300)
    on("node-1", "touch", _DONE)


def _join() -> None:
    if _exists("node-2", _DONE):
        return
    _begin_again("node-2")
    command = on("node-1", "kubeadm", "token", "create", "--ttl", "10m", "--print-join-command").split()
    config = (LAB / "nodes" / "kubeadm-join.yaml").read_text()
    config = config.replace("@TOKEN@", command[command.index("--token") + 1])
    config = config.replace("@CA_HASH@", command[command.index("--discovery-token-ca-cert-hash") + 1])
    write("node-2", "/etc/lumen-lab/kubeadm.yaml", config)
    if host.cgroup_version() == 1:
        write("node-2", "/etc/default/kubelet", 'KUBELET_EXTRA_ARGS="--cgroup-root=/node-2"\n')
    argv = ["kubeadm", "join", "--config", "/etc/lumen-lab/kubeadm.yaml", "--ignore-preflight-errors=all"]
    on("node-2", *argv, timeout=180)
    on("node-2", "touch", _DONE)


def _begin_again(node: str) -> None:
    """Undo what a kubeadm began that was cut off; on the node it goes on when its caller is killed."""
    attempt([host.DOCKER, "exec", node, "pkill", "--exact", "kubeadm"])
    wait_for(f"the end of an earlier kubeadm on {node}", lambda: _pids(node, "kubeadm") or None, deadline=30)
    if on(node, "sh", "-c", "ls -A /etc/kubernetes 2>/dev/null || true").strip():
        on(node, "kubeadm", "reset", "--force", timeout=120)


def _pids(node: str, program: str) -> str:
    return attempt([host.DOCKER, "exec", node, "pgrep", "--exact", program]).stdout.strip()


def _local_files(builder: Builder) -> None:
    """The fixed places of a clone: .lab/bundle, .lab/kubeconfig, and .lab/bin/kubectl, which uses that one."""
    bundle.link()
    config = on("node-1", "cat", "/etc/kubernetes/admin.conf")
    if not KUBECONFIG.exists() or KUBECONFIG.read_text() != config:
        write_atomically(KUBECONFIG, config, mode=0o600)
    lines = [
        "#!/bin/sh",
        "# The lab's own kubectl; without KUBECONFIG it speaks to the lab.",
        f'export KUBECONFIG="${{KUBECONFIG:-{KUBECONFIG}}}"',
        f'exec {builder.need("kubectl")} "$@"',
    ]
    write_atomically(LOCAL / "bin" / "kubectl", "\n".join(lines) + "\n", mode=0o755)


def _manifest(*names: str) -> str:
    """Manifests as they came with the bundle, from where node-1 keeps them."""
    folder = f"/var/lib/lumen-airgap/bundles/{bundle.NAME}/content/manifests"
    return on("node-1", "sh", "-c", _CAT, "sh", *(f"{folder}/{name}" for name in names))


def _apply(manifest: str, *words: str) -> None:
    kubectl("apply", "--server-side", "--force-conflicts", *words, "-f", "-", stdin=manifest, timeout=120)


def _apply_network() -> None:
    crds = _manifest("calico-crds")
    _apply(crds)
    kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", "-", stdin=crds, timeout=90)
    _apply(_manifest("coredns.yaml", "calico.yaml"))

    token = ""

    def no_token() -> str | None:
        nonlocal token
        secret = json.loads(kubectl("get", "secret", "-n", "kube-system", "calico-cni-token", "-o", "json"))
        token = secret.get("data", {}).get("token", "")
        return None if token else "the token is not there yet"

    wait_for("the token of the CNI plugin", no_token, deadline=30)
    config = _cni_kubeconfig(base64.b64decode(token).decode())
    for name in NODES:
        write(name, "/etc/cni/net.d/calico-kubeconfig", config)


def _cni_kubeconfig(token: str) -> str:
    cluster = json.loads(kubectl("config", "view", "--raw", "-o", "json"))["clusters"][0]
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [cluster],
            "users": [{"name": "calico-cni", "user": {"token": token}}],
            "contexts": [{"name": "cni", "context": {"cluster": cluster["name"], "user": "calico-cni"}}],
            "current-context": "cni",
        }
    )


def _route_pods() -> None:
    """Each node reaches the pods of the other through it: there is no overlay and no routing daemon."""
    networks: dict[str, str] = {}

    def without_network() -> str | None:
        items = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
        networks.update({i["metadata"]["name"]: i["spec"]["podCIDR"] for i in items if i["spec"].get("podCIDR")})
        return ", ".join(sorted(set(NODES) - set(networks))) or None

    wait_for("a pod network for each node", without_network, deadline=60)
    for name in NODES:
        lines = [f"{networks[other]} {NODES[other]}\n" for other in NODES if other != name]
        write(name, "/etc/lumen-lab/pod-routes", "".join(lines))
        on(name, "systemctl", "restart", "lumen-network")


def _take_token() -> bool:
    """The token of Gitea's admin into .lab/gitea/token; False when Gitea has not got all that the lab puts there."""
    argv = ["get", "secret", "gitea-admin", "--namespace=gitea", "--ignore-not-found", "--output=json"]
    secret = json.loads(kubectl(*argv) or "{}")
    if "lumen.airgap/complete" not in secret.get("metadata", {}).get("labels", {}):
        return False
    token = base64.b64decode(secret["data"]["token"]).decode()
    if not GITEA_TOKEN.exists() or GITEA_TOKEN.read_text() != token:
        write_atomically(GITEA_TOKEN, token, mode=0o600)
    return True


def _what_is_wrong() -> str:
    """Events and the last lines of the pods that are not ready."""
    items = json.loads(kubectl("get", "pods", "-A", "-o", "json", timeout=20))["items"]
    lines = []
    for item in items:
        if _is_ready(item):
            continue
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        lines.append(f"pod {namespace}/{name}:")
        lines.append(kubectl("get", "events", "-n", namespace, "--field-selector", f"involvedObject.name={name}"))
        lines.append(attempt([str(LOCAL / "bin" / "kubectl"), "logs", "-n", namespace, name, "--tail=10"]).stdout)
    return "\n".join(lines)


def _exists(node: str, path: str) -> bool:
    return attempt([host.DOCKER, "exec", node, "test", "-e", path]).returncode == 0


def _is_ready(item: dict[str, Any]) -> bool:
    conditions = item.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _time(text: str) -> datetime.datetime:
    # Docker writes nanoseconds, which Python 3.11 cuts off by itself.
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
