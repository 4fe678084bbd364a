# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A site whose releases through Git take seconds: a repository, Applications and Rollouts of the tests' own.

Its images are the lab's probe under other digests. They are in the registry already, with the label of the commit that
their tags name, so that a release by the registry node finds them built.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.errors import KubeError
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    APPLICATION,
    CONFIG_MAP,
    ENDPOINT_SLICE,
    LEASE,
    POD,
    ROLLOUT,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.seen import is_ready

from .conftest import LOAD, ROOT, eventually
from .plays import Plays, Run

REGISTRY = "192.168.2.2:5000"
GITEA = "http://192.168.2.2:30300"
INSIDE = "http://gitea-http.gitea.svc.cluster.local:3000"
PROMETHEUS = "http://kube-prometheus-stack-prometheus.monitoring.svc.cluster.local:9090"
APP = "fault-app"
FIRST = "v0.0.1"
REPLICAS = 2
RELEASE = "playbooks/release.yml"
REVISION = "org.opencontainers.image.revision"
SOURCE_IN_GIT = "01-connected-zone/app"
SOURCE = ROOT / "lab" / "app" / SOURCE_IN_GIT
KUBECONFIG = ROOT / ".lab" / "kubeconfig"
APPLICATIONS = """
- name: Applications of the tests
  hosts: clusters
  gather_facts: false
  tasks:
    - name: There, or gone
      lumen.airgap.argo_application:
        kubeconfig: "{{ airgap_kubeconfig }}"
        name: "{{ airgap_application }}"
        state: "{{ state }}"
        source:
          repo: "{{ airgap_gitops_url }}"
          path: "{{ airgap_gitops_manifest | dirname }}"
        destination:
          namespace: "{{ airgap_app_namespace }}"
        automated:
          self_heal: true
        credential:
          username: "{{ airgap_gitea.owner }}"
          token: "{{ airgap_gitea_token }}"
        timeout: 120
"""


class Cluster(NamedTuple):
    """One host of the inventory: where its app runs, and what is of it alone."""

    host: str
    namespace: str

    @property
    def manifest(self) -> str:
        return f"{self.host}/app.yaml"


def token() -> str:
    """Of the administrator of the lab's Gitea."""
    return (ROOT / ".lab" / "gitea" / "token").read_text().strip()


def gitea(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """An answer of Gitea's API."""
    headers = {"Authorization": f"token {token()}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{GITEA}/api/v1{path}", method=method, headers=headers, data=data)
    with urllib.request.urlopen(request, timeout=20) as answer:
        text = answer.read()
    return json.loads(text) if text else None


class Images:
    """Images that differ from the lab's probe by their labels alone."""

    def __init__(self, repository: str) -> None:
        self._repository = repository
        self._tags: set[str] = set()

    def add(self, tag: str, **labels: str) -> None:
        base = json.loads(self._ask("GET", "probe/manifests/lab"))
        for layer in base["layers"]:
            self._ask("POST", f"{self._repository}/blobs/uploads/?mount={layer['digest']}&from=probe")
        config = json.loads(self._ask("GET", f"probe/blobs/{base['config']['digest']}"))
        config["config"]["Labels"] = {"version": tag, **labels}
        blob = json.dumps(config).encode()
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        self._ask("POST", f"{self._repository}/blobs/uploads/?digest={digest}", blob, "application/octet-stream")
        base["config"].update(digest=digest, size=len(blob))
        manifest = json.dumps(base).encode()
        self._ask("PUT", f"{self._repository}/manifests/{tag}", manifest, base["mediaType"])
        self._tags.add(tag)

    def come(self, *tags: str) -> None:
        """Of what somebody else pushes, if it does."""
        self._tags.update(tags)

    def remove(self) -> None:
        for tag in self._tags:
            try:
                self._ask("DELETE", f"{self._repository}/manifests/{tag}")
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise

    @staticmethod
    def _ask(method: str, path: str, body: bytes | None = None, kind: str = "") -> bytes:
        headers = {"Accept": "application/vnd.oci.image.manifest.v1+json", **({"Content-Type": kind} if kind else {})}
        url = f"http://{REGISTRY}/v2/{path}"
        with urllib.request.urlopen(
            urllib.request.Request(url, method=method, headers=headers, data=body), timeout=20
        ) as answer:
            if method == "POST" and answer.status == 202 and body is not None:
                # This registry takes a blob only in a second request.
                digest = path.rpartition("digest=")[2]
                place = urljoin(url, answer.headers["Location"])
                place = f"{place}{'&' if '?' in place else '?'}digest={digest}"
                put = urllib.request.Request(place, method="PUT", headers=headers, data=body)
                with urllib.request.urlopen(put, timeout=20) as stored:
                    return bytes(stored.read())
            return bytes(answer.read())


class ReleaseSite(Plays):
    """``make`` it, release on it, ``remove`` it. Each release wants a version of its own: ``version()``."""

    def __init__(self, path: Path, name: str, hosts: Sequence[str]) -> None:
        self.path, self.name = path, name
        self.reports = path / "reports"
        self.clusters = [Cluster(host, f"{name}-{host}") for host in hosts]
        self.session = Session.connect(str(KUBECONFIG))
        self.owner: str = gitea("GET", "/user")["login"]
        self.repository = f"{self.owner}/{name}"
        self.images = Images(name)
        # Nodes keep the images of the versions of a run before.
        self._number = int(time.time())
        self._commit = ""
        (path / "group_vars").symlink_to(ROOT / "inventories" / "lab" / "group_vars")
        (path / "hosts.yml").write_text(yaml.safe_dump(self._inventory()))
        (path / "variables.json").write_text(json.dumps({"lab_root": str(ROOT)}))
        super().__init__(["-i", str(path / "hosts.yml"), "-e", f"@{path / 'variables.json'}"])

    # -- made and removed ------------------------------------------------------------------------------------------

    def make(self) -> None:
        gitea("POST", "/user/repos", {"name": self.name, "private": True, "auto_init": True, "default_branch": "main"})
        for cluster in self.clusters:
            content = encoded(yaml.safe_dump_all(objects(cluster, self.image(FIRST))))
            added = {"content": content, "branch": "main", "message": f"the app of {cluster.host}"}
            gitea("POST", f"/repos/{self.repository}/contents/{cluster.manifest}", added)
        self._commit = gitea("GET", f"/repos/{self.repository}/branches/main")["commit"]["id"]
        # The same bytes in every run: the nodes keep it, and its name is not new.
        self.images.add(FIRST)
        for cluster in self.clusters:
            kubectl("create", "namespace", cluster.namespace)
            self.verdict(cluster, good=True)
        self._applications("present")
        self.settle(FIRST)

    def remove(self) -> None:
        """Everything but evidence; what is not there any more is not missed."""
        self.kill_all()
        failures = []
        removals: list[Callable[[], object]] = [lambda: self._applications("absent")]
        removals += [
            lambda cluster=cluster: kubectl(  # type: ignore[misc]
                "delete", "namespace", cluster.namespace, "--wait=false", "--ignore-not-found"
            )
            for cluster in self.clusters
        ]
        removals += [lambda: gitea("DELETE", f"/repos/{self.repository}"), self.images.remove]
        for remove in removals:
            try:
                remove()
            except Exception as error:  # the rest goes all the same
                failures.append(error)
        assert not failures, failures

    def _applications(self, state: str) -> None:
        play = self.path / "applications.yml"
        play.write_text(APPLICATIONS)
        self.must_play(str(play), state=state)

    def _inventory(self) -> dict[str, Any]:
        hosts = {cluster.host: self._variables(cluster) for cluster in self.clusters}
        return {
            "all": {
                "children": {
                    "clusters": {"hosts": hosts},
                    "nodes": {"hosts": {"node-1": None, "node-2": None}},
                    "registry_node": {"hosts": {"node-1": None}},
                }
            }
        }

    def _variables(self, cluster: Cluster) -> dict[str, Any]:
        return {
            "airgap_kubeconfig": str(KUBECONFIG),
            "airgap_release_kubeconfig": str(KUBECONFIG),
            "airgap_release_gitea_token": token(),
            "airgap_registry_node": "node-1",
            "airgap_app": APP,
            "airgap_app_namespace": cluster.namespace,
            "airgap_app_image_repository": self.name,
            "airgap_app_repository": f"{GITEA}/{self.repository}.git",
            "airgap_application": f"{self.name}-{cluster.host}",
            "airgap_gitea": {"url": GITEA, "owner": self.owner, "repository": self.name, "namespace": "gitea"},
            "airgap_gitops_url": f"{INSIDE}/{self.repository}.git",
            "airgap_gitops_manifest": cluster.manifest,
            "airgap_release_by": "direct",
            "airgap_release_scan": False,
            "airgap_reports_dir": str(self.reports),
            "airgap_step_deadline": 150,
        }

    # -- versions and releases -------------------------------------------------------------------------------------

    def image(self, version: str) -> str:
        return f"{REGISTRY}/{self.name}:{version}"

    def version(self) -> str:
        """A new one: its tag in Git, and its image."""
        self._number += 1
        version = f"v0.{self._number}.0"
        gitea("POST", f"/repos/{self.repository}/tags", {"tag_name": version, "target": self._commit})
        self.images.add(version, **{REVISION: self._commit})
        return version

    def unbuilt(self, **changed: str) -> str:
        """A new version of the lab's own app, some of its files ``changed``: its tag in Git, and no image yet."""
        self._number += 1
        version = f"v0.{self._number}.0"
        source = {path.name: path.read_text() for path in SOURCE.iterdir()}
        files = [
            {"operation": "upload", "path": f"{SOURCE_IN_GIT}/{name}", "content": encoded(text)}
            for name, text in {**source, **changed}.items()
        ]
        body = {"files": files, "branch": "main", "message": f"the app, {version}"}
        commit = gitea("POST", f"/repos/{self.repository}/contents", body)["commit"]["sha"]
        gitea("POST", f"/repos/{self.repository}/tags", {"tag_name": version, "target": commit})
        self.images.come(version, "latest", commit[:7])
        return version

    def verdict(self, cluster: Cluster, good: bool, checks: int = 4) -> None:
        """What analyses in this cluster say from now on, each after so many ``checks``."""
        kubectl("-n", cluster.namespace, "apply", "-f", "-", stdin=json.dumps(template(good, checks)))

    def release(self, version: str, **variables: str) -> Run:
        return self.start(RELEASE, version=version, **variables)

    # -- what there is now -----------------------------------------------------------------------------------------

    def evidence(self, version: str) -> list[dict[str, Any]]:
        """All of a version."""
        found = sorted(self.reports.glob(f"*{version}-*.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in found]

    def commits(self, version: str) -> tuple[int, int]:
        """How many commits brought the version, and how many took it back."""
        every = gitea("GET", f"/repos/{self.repository}/commits?limit=50&stat=false&files=false")
        subjects = [each["commit"]["message"].splitlines()[0] for each in every]
        bumps = [each for each in subjects if re.fullmatch(rf"chore: bump .* to {re.escape(version)}.*", each)]
        reverts = [each for each in subjects if re.match(rf"revert: .* from {re.escape(version)},", each)]
        return len(bumps), len(reverts)

    def in_git(self, cluster: Cluster) -> str:
        """The image in the manifest."""
        answer = gitea("GET", f"/repos/{self.repository}/contents/{cluster.manifest}")
        documents = yaml.safe_load_all(base64.b64decode(answer["content"]))
        [rollout] = [each for each in documents if each["kind"] == "Rollout"]
        return str(rollout["spec"]["template"]["spec"]["containers"][0]["image"])

    def by_hand(self, cluster: Cluster, image: str) -> None:
        """Somebody has the manifest name an image, and Argo CD look at it."""
        path = f"/repos/{self.repository}/contents/{cluster.manifest}"
        there = gitea("GET", path)
        content = encoded(base64.b64decode(there["content"]).decode().replace(self.in_git(cluster), image))
        gitea("PUT", path, {"content": content, "sha": there["sha"], "branch": "main", "message": "by hand"})
        refresh = "argocd.argoproj.io/refresh=normal"
        kubectl("-n", "argocd", "annotate", "--overwrite", "application", f"{self.name}-{cluster.host}", refresh)

    def rollout(self, cluster: Cluster) -> dict[str, Any]:
        return self.session.get(ROLLOUT, APP, cluster.namespace)

    def pods(self, cluster: Cluster) -> list[dict[str, Any]]:
        found = self.session.list(POD, cluster.namespace, label_selector=f"app={APP}").items
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def endpoints(self, cluster: Cluster) -> list[str]:
        """Addresses that the Service sends traffic to."""
        selector = f"kubernetes.io/service-name={APP}"
        found = self.session.list(ENDPOINT_SLICE, cluster.namespace, label_selector=selector).items
        every = [endpoint for item in found for endpoint in item.get("endpoints") or []]
        return sorted(address for each in every if each["conditions"].get("ready") for address in each["addresses"])

    def application(self, cluster: Cluster) -> str:
        """Its sync status and its health."""
        status = self.session.get(APPLICATION, f"{self.name}-{cluster.host}", "argocd").get("status") or {}
        return " ".join((status.get(part) or {}).get("status", "") for part in ("sync", "health"))

    def holder(self, cluster: Cluster) -> str | None:
        """Of the Lease; None when there is no Lease, and empty when it is free."""
        lease = self.session.find(LEASE, f"{APP}-release", cluster.namespace)
        return None if lease is None else str(lease["spec"].get("holderIdentity") or "")

    def journal(self, cluster: Cluster) -> dict[str, Any] | None:
        """The ConfigMap of the releases; None when nobody has made one."""
        return self.session.find(CONFIG_MAP, f"{APP}-release", cluster.namespace)

    def unsettled(self, cluster: Cluster, image: str) -> str:
        """What is missing to this image alone being there, in Git, in the cluster and behind the Service."""
        rollout = self.rollout(cluster)
        status = rollout.get("status") or {}
        stable = status.get("stableRS")
        pods = self.pods(cluster)
        parts = {
            "Git": (self.in_git(cluster), image),
            "Rollout": (image_of(rollout["spec"]["template"]), image),
            "phase": (status.get("phase"), "Healthy"),
            "aborted": (bool(status.get("abort")), False),
            "hash": (status.get("currentPodHash"), stable),
            "pods": ([image_of(pod) for pod in pods], [image] * REPLICAS),
            "ready": ([is_ready(pod) for pod in pods], [True] * REPLICAS),
            "hashes": ({pod["metadata"]["labels"]["rollouts-pod-template-hash"] for pod in pods}, {stable}),
            "endpoints": (self.endpoints(cluster), sorted(pod["status"].get("podIP", "") for pod in pods)),
            "Application": (self.application(cluster), "Synced Healthy"),
        }
        return "; ".join(f"{name}: {is_!r}, not {meant!r}" for name, (is_, meant) in parts.items() if is_ != meant)

    def settle(self, version: str, deadline: float = 90) -> None:
        """Wait until this version alone is there, in all clusters."""
        for cluster in self.clusters:
            missing = ""

            def settled(cluster: Cluster = cluster) -> bool:
                nonlocal missing
                try:
                    missing = self.unsettled(cluster, self.image(version))
                except (KubeError, OSError) as error:
                    missing = str(error)
                return not missing

            try:
                eventually(f"{version} in {cluster.host}", settled, deadline)
            except AssertionError as error:
                raise AssertionError(f"{error}: {missing}") from None

    def ended(self, cluster: Cluster, version: str, before: str, outcome: str) -> dict[str, Any]:
        """Assert that a release has ended in this way and in no other; returns its evidence."""
        now = version if outcome == "promoted" else before
        missing = self.unsettled(cluster, self.image(now))
        assert not missing, missing
        assert self.holder(cluster) == ""
        [evidence] = self.evidence(version)
        assert evidence["outcome"] == outcome, evidence["reason"]
        assert self.commits(version) == ((1, 0) if outcome == "promoted" else (1, 1))
        return evidence


@contextmanager
def standing_site(path: Path, name: str, hosts: Sequence[str]) -> Iterator[ReleaseSite]:
    """A site that is made, and removed whatever comes of it. No other one may have its ``name`` meanwhile."""
    made = ReleaseSite(path, name, hosts)
    try:
        made.make()
        yield made
    finally:
        made.remove()


def template(good: bool, checks: int = 4) -> dict[str, Any]:
    """An analysis of seconds that says what a test wants."""
    metric = {
        "name": "verdict",
        "interval": "2s",
        "count": checks,
        "failureLimit": 1,
        "successCondition": "result[0] >= 0.95",
        "provider": {"prometheus": {"address": PROMETHEUS, "query": f"vector({int(good)})"}},
    }
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": {"name": "verdict"},
        "spec": {"metrics": [metric]},
    }


def objects(cluster: Cluster, image: str) -> list[dict[str, Any]]:
    """The manifest in Git. A pod leaves a node that is lost after seconds."""
    labels = {"app": APP}
    lost = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
        for key in ("not-ready", "unreachable")
    ]
    container = {"name": APP, "image": image, "args": ["serve", ":8080"], "ports": [{"containerPort": 8080}]}
    pod = {"containers": [container], "terminationGracePeriodSeconds": 0, "tolerations": lost}
    steps: list[dict[str, Any]] = [{"setWeight": 50}, {"analysis": {"templates": [{"templateName": "verdict"}]}}]
    rollout = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": APP, "namespace": cluster.namespace},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            "strategy": {"canary": {"steps": steps}},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": APP, "namespace": cluster.namespace},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    return [service, rollout]


def encoded(text: str) -> str:
    """As Gitea takes a file."""
    return base64.b64encode(text.encode()).decode()


def image_of(holder: dict[str, Any]) -> str:
    """Of a pod or its template."""
    return str(holder["spec"]["containers"][0]["image"])


def kubectl(*words: str, stdin: str | None = None) -> str:
    """The lab's, as its administrator."""
    from driver.cluster import kubectl as run

    try:
        return run(*words, stdin=stdin)
    except Exception as error:
        raise OSError(str(error)) from error


def until_healthy(what: str, probe: Callable[[], str | None], deadline: float = 180) -> None:
    """Wait until ``probe`` has nothing to say; it may raise while what it asks is away."""
    said: str | None = ""

    def healthy() -> bool:
        nonlocal said
        try:
            said = probe()
        except Exception as error:  # whatever it asks is not there yet
            said = str(error)
        return not said

    end = time.monotonic() + deadline * LOAD
    while not healthy():
        assert time.monotonic() < end, f"{what}: {said}"
        time.sleep(1)
