# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A runner of Gitea's actions as Kubernetes objects: Secret, ConfigMap, Deployment.

The runner is started by a script of ours, not by its image's: upstream's puts the registration token on a command line,
and the images of gitea-runner and of act_runner differ in more than the name of the program.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..workloads.objects import MANAGED

_LABEL = re.compile(r"[A-Za-z0-9_.-]+(?::(?:host|docker://\S+))?")
_NODE = "kubernetes.io/hostname"
_HASH = "lumen.airgap/config-hash"
_STATE, _CONFIG, _TOKEN = "/data", "/etc/act-runner", "/etc/act-runner-token"
_SOCKET = "/var/run/docker.sock"
#: Seconds between the end of the last job's time and the kill.
_GRACE = 15
#: Seconds for the new pod to come up, beside those that the old one may take to end.
_PROGRESS = 300

# POSIX sh, for the shells of Debian's and of Alpine's images.
_START = """\
#!/bin/sh
# Registers the runner unless it has done so, and runs it. A Gitea that is away is waited for here, every 5 s, and not
# by the kubelet with its growing pauses.
set -u
state=$1
cd /data || exit 1

# What another registration left: its record in Gitea is gone.
for file in /data/registration-*.json; do
    [ "$file" = "$state" ] || rm -f "$file"
done

child=
stopped=
trap 'stopped=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT
# Wait for the child, also when a signal ends the wait first: a runner that is told to stop finishes its jobs.
await() {
    wait "$child"
    while kill -0 "$child" 2>/dev/null; do wait "$child"; done
    child=
    [ -z "$stopped" ] || exit 0
}

until [ -s "$state" ]; do
    rm -f "$state"
    # It asks for address, token and name. On a command line everybody on the node could read the token.
    { echo "$GITEA_INSTANCE_URL"; cat /etc/act-runner-token/token; echo; echo "$GITEA_RUNNER_NAME"; } \\
        | "$RUNNER_BINARY" register --config "$CONFIG_FILE" &
    child=$!
    await
    [ -s "$state" ] || { echo "act-runner: not registered; once more in 5 s" >&2; sleep 5 & child=$!; await; }
done

while true; do
    "$RUNNER_BINARY" daemon --config "$CONFIG_FILE" &
    child=$!
    # One that cannot start ends at once; ready is who lives for a moment.
    { sleep 2; kill -0 "$child" 2>/dev/null && : >/tmp/ready; } &
    await
    rm -f /tmp/ready
    echo "act-runner: the runner ended; once more in 5 s" >&2
    sleep 5 &
    child=$!
    await
done
"""


class RunnerError(ValueError):
    """The runner cannot be as it is described; the message names the option."""


@dataclass(frozen=True)
class Runner:
    """How the runner shall be. Paths are of the node, times in seconds."""

    name: str
    namespace: str
    image: str
    binary: str
    node: str
    instance_url: str
    runner_name: str
    labels: Sequence[str]
    capacity: int
    job_timeout: int
    drain_timeout: int
    state_path: str
    trivy_cache: str
    network: str
    insecure: bool

    def check(self) -> None:
        """Raise RunnerError for what a runner could not work with."""
        if not self.labels:
            raise RunnerError("labels is empty: a runner without labels is given no job")
        for label in self.labels:
            if not _LABEL.fullmatch(label):
                raise RunnerError(f"'{label}' in labels is none: give name, name:host or name:docker://image")
        names = self.label_names
        if len(set(names)) < len(names):
            raise RunnerError(f"labels names {', '.join(sorted({n for n in names if names.count(n) > 1}))} twice")
        host = (urlsplit(self.instance_url).hostname or "").rstrip(".")
        # An IPv6 address has no dot either; a name without one is this machine's, or a Service's.
        local = host == "::1" if ":" in host else "." not in host or host.startswith("127.")
        if local or host.endswith((".svc", ".cluster.local")):
            raise RunnerError(
                f"instance_url {self.instance_url} leads nowhere from a job: it becomes GITHUB_SERVER_URL in the job's "
                "container, which Docker runs beside the cluster. Give the URL of Gitea's NodePort"
            )

    @property
    def label_names(self) -> list[str]:
        """As Gitea shows them: without how a job is run."""
        return [label.partition(":")[0] for label in self.labels]


def default_binary(image: str) -> str:
    """The program in the image: the project changed its name, and with it the image's."""
    repository = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return "act_runner" if repository == "act_runner" else "gitea-runner"


def objects(runner: Runner, kept: Mapping[str, str]) -> list[dict[str, Any]]:
    """The objects. ``kept`` is what the Secret holds: the ``token``, and the ``registration``.

    That names the registration: with another one the runner registers again.
    """
    registration = kept["registration"]
    files = {"config.yaml": _config(runner, registration), "start.sh": _START}
    state = _state_file(registration)
    environment = {
        "CONFIG_FILE": f"{_CONFIG}/config.yaml",
        "GITEA_INSTANCE_URL": runner.instance_url,
        "GITEA_RUNNER_NAME": runner.runner_name,
        "HOME": _STATE,
        "RUNNER_BINARY": runner.binary,
    }
    volumes: dict[str, tuple[str, dict[str, Any]]] = {
        "config": (_CONFIG, {"configMap": {"name": runner.name}}),
        "token": (
            _TOKEN,
            {
                "secret": {
                    "secretName": runner.name,
                    "defaultMode": 0o400,
                    "items": [{"key": "token", "path": "token"}],
                }
            },
        ),
        "state": (_STATE, {"hostPath": {"path": runner.state_path, "type": "DirectoryOrCreate"}}),
        "docker": (_SOCKET, {"hostPath": {"path": _SOCKET, "type": "Socket"}}),
        "trivy-cache": (
            runner.trivy_cache,
            {"hostPath": {"path": runner.trivy_cache, "type": "DirectoryOrCreate"}},
        ),
        "tmp": ("/tmp", {"emptyDir": {}}),  # noqa: S108 - a volume of the pod's own
    }
    read_only = {"config", "token", "trivy-cache"}
    container = {
        "name": "runner",
        "image": runner.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", f"{_CONFIG}/start.sh", state],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 2},  # noqa: S108
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        # Root, or it could not use the socket of Docker; of root's powers none is needed for that.
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsUser": 0,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": name, "mountPath": path, **({"readOnly": True} if name in read_only else {})}
            for name, (path, _source) in volumes.items()
        ],
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "nodeSelector": {_NODE: runner.node},
        # Jobs that run when the pod is told to end are finished first.
        "terminationGracePeriodSeconds": runner.drain_timeout + _GRACE,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": name, **source} for name, (_path, source) in volumes.items()],
    }
    labels = {"app": runner.name}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(runner),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 1,
            # Two at once would be one runner for Gitea: they share the state.
            "strategy": {"type": "Recreate"},
            # The pod before may finish its jobs first.
            "progressDeadlineSeconds": runner.drain_timeout + _PROGRESS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels, "annotations": {_HASH: _hash(files)}}, "spec": pod},
        },
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(runner),
        "type": "Opaque",
        "stringData": dict(kept),
    }
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(runner), "data": files}
    return [secret, config_map, deployment]


def _config(runner: Runner, registration: str) -> str:
    """The runner's configuration. It is YAML, and so is JSON."""
    config = {
        "log": {"level": "info"},
        "runner": {
            "file": _state_file(registration),
            "capacity": runner.capacity,
            "timeout": f"{runner.job_timeout}s",
            "shutdown_timeout": f"{runner.drain_timeout}s",
            "insecure": runner.insecure,
            "labels": list(runner.labels),
        },
        # The address of this server would be the pod's, which jobs beside the cluster do not reach.
        "cache": {"enabled": False},
        "container": {
            "network": runner.network,
            # The builder's tag moves: yesterday's may be on the node.
            "force_pull": True,
            "options": f"--volume={runner.trivy_cache}:{runner.trivy_cache}",
            "valid_volumes": [runner.trivy_cache],
        },
    }
    return json.dumps(config, indent=2) + "\n"


def _state_file(registration: str) -> str:
    return f"{_STATE}/registration-{registration}.json"


def _metadata(runner: Runner) -> dict[str, Any]:
    return {
        "name": runner.name,
        "namespace": runner.namespace,
        "labels": {"app": runner.name, **MANAGED},
    }


def _hash(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]
