# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known when the causes are looked for. Objects are dictionaries as their servers send them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

ERROR, WARNING, INFO = "error", "warning", "info"
SEVERITIES = (ERROR, WARNING, INFO)
"""Something is broken; something is going to be; somebody is waited for."""

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """One cause. ``code`` names the kind of it for programs, everything else is for people."""

    code: str
    severity: str
    title: str
    subject: str
    cause: str
    evidence: Sequence[str] = ()
    remedy: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """As the module returns it."""
        return {
            "code": self.code,
            "severity": self.severity,
            "title": self.title,
            "subject": self.subject,
            "cause": self.cause,
            "evidence": list(self.evidence),
            "remedy": list(self.remedy),
        }


class Unreached(NamedTuple):
    """A part that could not be looked at."""

    part: str
    """What it is, for people: ``Gitea``, ``pods in lumen``."""
    why: str
    forbidden: bool = False
    """The answer was that we may not, and not that nobody is there."""


@dataclass(frozen=True)
class ImageAnswer:
    """What the registry says of an image. ``tags`` is None when it has no such repository."""

    exists: bool
    tags: Sequence[str] | None = ()
    error: str = ""
    """Why it could not be asked; the rest is empty then."""


@dataclass(frozen=True)
class Pipeline:
    """What Gitea says, as its API says it. ``tag`` is the version that is looked at, empty without any."""

    url: str
    repository: str
    tag: str = ""
    sha: str = ""
    """The commit that the tag points at; empty when Gitea does not have the tag."""
    message: str = ""
    """Of that commit."""
    runs: Sequence[Object] = ()
    """Runs of that commit."""
    jobs: Sequence[Object] = ()
    """Jobs of the tag's last run."""
    log: Sequence[str] = ()
    """The last lines of its job that failed."""
    queued: Sequence[Object] = ()
    """Runs that wait for a runner, of any commit."""
    runners: Sequence[Object] | None = ()
    """None when it could not be asked for all of them."""
    actions: bool = True
    """Whether the repository has Actions."""
    workflows: Sequence[str] | None = None
    """The workflow files in the tag's commit; None when nobody asked."""
    manifest_path: str = ""
    manifest_commit: str = ""
    """The commit that changed it last, and the first line of its message."""
    manifest_image: str = ""
    """The app's image in the manifest at the branch's head; empty when it is not known."""


@dataclass(frozen=True)
class Facts:
    """Everything that was collected. A part that is not there, or could not be reached, is empty."""

    app: str
    namespace: str
    registry: str
    """``host:port`` as it stands in names of images."""
    now: float
    rollout: Object | None = None
    rollouts_known: bool = True
    """Whether the cluster knows the kind Rollout."""
    looked: bool = True
    """Whether the Rollout could be asked for at all."""
    pods: Sequence[Object] = ()
    replica_sets: Sequence[Object] = ()
    runs: Sequence[Object] = ()
    applications: Sequence[Object] = ()
    kinds: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    """(group, kind) → whether the cluster knows it, for kinds that a failed sync has named."""
    workloads: Sequence[Object] = ()
    """Deployments and StatefulSets of the namespaces that CI/CD runs in."""
    workload_pods: Sequence[Object] = ()
    runner_namespace: str = ""
    """Where the runner's pod has to be among them; empty when that could not be looked at."""
    expected: Sequence[tuple[str, str]] = ()
    """(namespace, name) of workloads that have to be among them."""
    images: Mapping[str, ImageAnswer] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)
    """A metric's query → what Prometheus answers now, as text."""
    queries_failed: str = ""
    """Why Prometheus could not be asked."""
    network: Sequence[Object] = ()
    """Namespaces, pods and NetworkPolicies of Argo Rollouts and of Prometheus; empty when not all could be read."""
    prometheus_pods: Sequence[tuple[str, int]] = ()
    """(``namespace/pod``, port) of those behind its Service."""
    pipeline: Pipeline | None = None
    record: Object = field(default_factory=dict)
    """The latest release of the app."""
    lease_expires: float = 0.0
    """When nobody holds that release any more."""
    identity_expires: float = 0.0
    """When the token of the kubeconfig in use ends; 0 when it has no end, or none that is known."""
    unreached: Sequence[Unreached] = ()

    def application(self) -> Object | None:
        """The Application that deploys the Rollout."""
        for each in self.applications:
            for resource in (each.get("status") or {}).get("resources") or ():
                wanted = ("Rollout", self.namespace, self.app)
                if (resource.get("kind"), resource.get("namespace"), resource.get("name")) == wanted:
                    return each
        return None

    @property
    def container_image(self) -> str:
        """The image in the Rollout's spec; empty without one."""
        return image_of(self.rollout, self.app)

    @property
    def stable_image(self) -> str:
        """The image that stable pods run; empty when it is not known."""
        stable = ((self.rollout or {}).get("status") or {}).get("stableRS")
        for each in self.replica_sets:
            if stable and (each["metadata"].get("labels") or {}).get("rollouts-pod-template-hash") == stable:
                return image_of(each, self.app)
        return ""


def how(sentence: str, *commands: str) -> str:
    """A way out with its commands, each on a line of its own so that it can be copied from a terminal."""
    return "\n".join([sentence, *(f"$ {command}" for command in commands)])


def refresh(application: Object) -> str:
    """The command that lets Argo CD look at Git now."""
    meta = application["metadata"]
    return (
        f"kubectl annotate application {meta['name']} -n {meta.get('namespace', 'argocd')} "
        "argocd.argoproj.io/refresh=normal --overwrite"
    )


def image_of(obj: Object | None, app: str) -> str:
    """The image of an object's pod template: of the container named like the app, or the first."""
    containers = (((obj or {}).get("spec") or {}).get("template") or {}).get("spec", {}).get("containers") or []
    named = [each for each in containers if each.get("name") == app] or containers[:1]
    return str(named[0].get("image", "")) if named else ""
