# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collects what the doctor judges. It only reads, and what it cannot read is told beside the rest.

Whoever does not answer is asked once: then everything else of theirs is left out, so that a run ends after one timeout
for each of them at most.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Protocol, TypeVar

from ..adapters.gitea import NotFound as GiteaNotFound
from ..adapters.gitea import Scope
from ..adapters.kube.kinds import (
    ANALYSIS_RUN,
    APPLICATION,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    NAMESPACE,
    NETWORK_POLICY,
    POD,
    REPLICA_SET,
    ROLLOUT,
    STATEFUL_SET,
    Kind,
)
from ..adapters.kube.session import Forbidden, KubeError, NotFound, Session, Unreachable
from ..engines.analysis.metric import format_value
from ..engines.canary.objects import HASH_LABEL
from ..engines.doctor.analysis import queries_of
from ..engines.doctor.application import unknown_kinds
from ..engines.doctor.diagnosis import diagnose, text
from ..engines.doctor.facts import Facts, Finding, ImageAnswer, Pipeline, Unreached
from ..engines.doctor.pipeline import run_of_tag
from ..engines.doctor.pods import waiting_images
from ..engines.identity import claims
from ..errors import AirgapError
from ..times import Clock
from .release_record import standing

_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?")
_LOG_LINES = 15
_QUERIES = 5
# What reading an object of an unexpected shape may raise.
_ODD = (AttributeError, LookupError, TypeError, ValueError)
T = TypeVar("T")


class RegistryReader(Protocol):
    """A registry."""

    def tags(self, repository: str) -> list[str] | None:
        """See ``adapters.registry.Registry``."""

    def manifest_digest(self, repository: str, reference: str) -> str | None:
        """See ``adapters.registry.Registry``."""


class GiteaReader(Protocol):
    """A Gitea, only read; see ``adapters.gitea.Gitea``. Dictionaries are as its API sends them."""

    url: str

    def repository(self, owner: str, name: str) -> dict[str, Any]:
        """The repository."""

    def runners(self, scope: Scope) -> list[dict[str, Any]]:
        """The runners that are registered there; of the instance all that there are, whoever's they are."""

    def tags(self, owner: str, name: str) -> list[dict[str, Any]]:
        """The newest tags."""

    def tag(self, owner: str, name: str, tag: str) -> dict[str, Any] | None:
        """One tag."""

    def commit_message(self, owner: str, name: str, sha: str) -> str:
        """The whole message of a commit."""

    def last_commit(self, owner: str, name: str, branch: str, path: str) -> dict[str, Any] | None:
        """The last commit of the branch that changed the path."""

    def files(self, owner: str, name: str, directory: str, ref: str) -> list[str]:
        """Names of the files in a directory; none when it is not there."""

    def content(self, owner: str, name: str, path: str, branch: str) -> tuple[bytes, str] | None:
        """What a file holds, and its hash."""

    def runs(self, owner: str, name: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """The newest workflow runs that match ``query``."""

    def run_jobs(self, owner: str, name: str, run_id: int) -> list[dict[str, Any]]:
        """The jobs of a run."""

    def job_log(self, owner: str, name: str, job_id: int) -> str:
        """The log of a job."""


@dataclass(frozen=True)
class Wanted:
    """What is looked at. A part that is empty is left out."""

    app: str
    namespace: str
    registry: str
    version: str = ""
    """A tag; empty for the newest version."""
    rollouts_namespace: str = "argo-rollouts"
    argocd_namespace: str = "argocd"
    gitea_namespace: str = "gitea"
    repository: str = ""
    """``owner/name`` in Gitea."""
    branch: str = "main"
    manifest: str = ""
    """Path of the app's manifest in it."""
    runner_scope: str = ""
    """Where the runner is registered, as ``adapters.gitea.Scope``; empty for wherever it may be."""
    image_repository: str = ""
    """The app's repository in the registry; empty for its name."""
    prometheus: tuple[str, str, int] = ("", "", 0)
    """Namespace, name and port of its Service; empty where it is asked by another way."""


@dataclass
class Report:
    """What was found, and what was looked at for it."""

    head: str
    findings: list[Finding]
    looked_at: list[str]
    facts: Facts

    @property
    def lines(self) -> list[str]:
        """For a terminal."""
        return text(self.head, self.findings, self.looked_at)


@dataclass
class Doctor:
    """``connect``, ``registry`` and ``gitea`` open a session when they are called; None when there is nobody to ask."""

    connect: Callable[[], Session]
    clock: Clock
    wanted: Wanted
    prometheus: Callable[[Session], Callable[[str], Any]] | None = None
    """Gives what asks a query."""
    registry: Callable[[], RegistryReader] | None = None
    gitea: Callable[[], GiteaReader] | None = None
    token: str = ""
    """The token of the kubeconfig in use, for when it ends."""
    _unreached: list[Unreached] = field(default_factory=list)
    _looked_at: list[str] = field(default_factory=list)
    _cluster: bool = True
    """False once the API server did not answer."""
    _session: Session | None = None

    @property
    def session(self) -> Session:
        """The API server, where ``_cluster`` is true."""
        if self._session is None:
            raise AirgapError("there is no session with the API server")
        return self._session

    def examine(self) -> Report:
        """Collect and judge. Raises nothing for what cannot be reached."""
        facts = Facts(self.wanted.app, self.wanted.namespace, self.wanted.registry, self.clock.time())
        try:
            self._session = self.connect()
        except AirgapError as error:  # a kubeconfig that cannot be used
            self._cluster = False
            self._unreached.append(Unreached("The API server", error.message))
        stages: Sequence[tuple[str, Callable[[Facts], Facts]]] = (
            ("The Rollout", self._read_rollout),
            ("The app's objects", self._read_app),
            ("Argo CD", self._read_applications),
            ("The controllers", self._read_workloads),
            ("The way to Prometheus", self._read_network),
            ("The release", self._read_release),
            ("Gitea", lambda facts: replace(facts, pipeline=self._read_gitea())),
            ("The registry", self._read_registry),
            ("Prometheus", self._ask_prometheus),
        )
        for part, stage in stages:
            try:
                facts = stage(facts)
            except _ODD as error:
                self._unreached.append(Unreached(part, f"it holds something else than expected: {error!r}"))
        said = claims(self.token)
        facts = replace(
            facts,
            now=self.clock.time(),
            unreached=list(self._unreached),
            identity_expires=said.expires if said else 0.0,
        )
        server = f" ({self._session.server})" if self._session else ""
        head = f"{self.wanted.app} in {self.wanted.namespace}{server}"
        return Report(head, diagnose(facts), self._looked_at, facts)

    # -- the cluster ---------------------------------------------------------------------------------------------

    def _in_cluster(self, part: str, read: Callable[[], T], default: T) -> T:
        """What ``read`` returns; when it cannot be read, why is noted."""
        if not self._cluster:
            return default
        try:
            found = read()
        except Unreachable as error:
            if error.status is None:
                self._cluster = False
                self._unreached.append(Unreached("The API server", error.message))
            else:
                self._unreached.append(Unreached(part, error.message))
            return default
        except Forbidden as error:
            if error.status == 401:
                self._cluster = False
                self._unreached.append(Unreached("The API server", error.message, forbidden=True))
            else:
                self._unreached.append(Unreached(part, error.message, forbidden=True))
            return default
        except AirgapError as error:
            self._unreached.append(Unreached(part, error.message))
            return default
        except _ODD as error:
            self._unreached.append(Unreached(part, f"it holds something else than expected: {error!r}"))
            return default
        self._looked_at.append(part)
        return found

    def _read_rollout(self, facts: Facts) -> Facts:
        known = True

        def read() -> dict[str, Any] | None:
            nonlocal known
            try:
                return self.session.find(ROLLOUT, facts.app, facts.namespace)
            except NotFound as error:
                if error.reason != "UnknownKind":
                    raise
                known = False
                return None

        before = len(self._looked_at)
        rollout = self._in_cluster(f"Rollout {facts.namespace}/{facts.app}", read, None)
        return replace(facts, rollout=rollout, rollouts_known=known, looked=len(self._looked_at) > before)

    def _read_app(self, facts: Facts) -> Facts:
        here = facts.namespace
        if facts.rollout is not None:
            labels = ((facts.rollout.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
            selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or HASH_LABEL
            facts = replace(
                facts,
                pods=self._list(POD, here, selector),
                replica_sets=self._list(REPLICA_SET, here, selector),
                runs=self._list(ANALYSIS_RUN, here),
            )
        return facts

    def _read_applications(self, facts: Facts) -> Facts:
        if not self.wanted.argocd_namespace:
            return facts
        found = self._list(APPLICATION, self.wanted.argocd_namespace)
        places = {facts.namespace, self.wanted.rollouts_namespace}
        facts = replace(facts, applications=[each for each in found if deploys_into(each, places)])
        kinds = {kind for each in facts.applications for kind in unknown_kinds(each)}
        return replace(facts, kinds={kind: self._known(*kind) for kind in kinds} if self._cluster else {})

    def _read_release(self, facts: Facts) -> Facts:
        found = self._in_cluster(
            "the journal of releases", lambda: standing(self.session, self.clock, facts.namespace, facts.app), None
        )
        if found is None or not found.current:
            return facts
        last, holder = found.entries[-1] if found.entries else {}, found.holder
        run = holder.run if holder else last.get("run", "")
        # Of a process that is dead on this machine, the Lease says no more that somebody works.
        working = holder if found.state == "running" else None
        return replace(
            facts,
            record={**found.current, "phase": last.get("phase", ""), "run": run},
            lease_expires=working.expires if working else 0.0,
        )

    def _list(self, kind: Kind, namespace: str, selector: str | None = None) -> list[dict[str, Any]]:
        plural = {"StatefulSet": "StatefulSets", "AnalysisRun": "AnalysisRuns", "NetworkPolicy": "NetworkPolicies"}.get(
            kind.kind, f"{kind.kind}s"
        )
        part = f"{plural} in {namespace}"
        return self._in_cluster(part, lambda: self.session.list(kind, namespace, selector).items, [])

    def _known(self, group: str, kind: str) -> bool:
        for version in ("v1", "v1beta1", "v1alpha1"):
            with contextlib.suppress(KubeError):
                self.session.namespaced(Kind(f"{group}/{version}", kind))
                return True
        return False

    def _read_workloads(self, facts: Facts) -> Facts:
        wanted = self.wanted
        expected = [
            (wanted.rollouts_namespace, "argo-rollouts"),
            (wanted.argocd_namespace, "argocd-application-controller"),
            (wanted.argocd_namespace, "argocd-repo-server"),
        ]
        workloads: list[dict[str, Any]] = []
        pods: list[dict[str, Any]] = []
        seen: set[str] = set()
        for namespace in dict.fromkeys((wanted.rollouts_namespace, wanted.argocd_namespace, wanted.gitea_namespace)):
            if not namespace:
                continue
            before = len(self._unreached)
            for kind in (DEPLOYMENT, STATEFUL_SET):
                workloads += self._list(kind, namespace)
            if self._cluster and len(self._unreached) == before:
                seen.add(namespace)
            if namespace != facts.namespace:
                pods += self._list(POD, namespace)
        return replace(
            facts,
            workloads=workloads,
            workload_pods=pods,
            runner_namespace=wanted.gitea_namespace if wanted.gitea_namespace in seen else "",
            # Without the kind there is a finding already, and it says more.
            expected=[
                each for each in expected if each[0] in seen and facts.rollouts_known and self._installed(each[0])
            ],
        )

    def _read_network(self, facts: Facts) -> Facts:
        """What decides whether Argo Rollouts reaches Prometheus."""
        rollouts, (monitoring, service, port) = self.wanted.rollouts_namespace, self.wanted.prometheus
        if not (rollouts and monitoring and facts.rollouts_known):
            return facts
        before = len(self._unreached)
        network: list[dict[str, Any]] = []
        for name in dict.fromkeys((rollouts, monitoring)):
            network += [*self._namespace(name), *self._list(POD, name), *self._list(NETWORK_POLICY, name)]
        slices = self._list(ENDPOINT_SLICE, monitoring, f"kubernetes.io/service-name={service}")
        if not self._cluster or len(self._unreached) > before:
            return facts
        return replace(facts, network=network, prometheus_pods=_behind(slices, port))

    def _namespace(self, name: str) -> list[dict[str, Any]]:
        def read() -> list[dict[str, Any]]:
            found = self.session.find(NAMESPACE, name)
            return [] if found is None else [found]

        return self._in_cluster(f"The namespace {name}", read, [])

    def _installed(self, namespace: str) -> bool:
        """Argo CD's controllers are not missed where its Applications are not known, which is told by itself."""
        return namespace != self.wanted.argocd_namespace or f"Applications in {namespace}" in self._looked_at

    # -- the others ----------------------------------------------------------------------------------------------

    def _read_gitea(self) -> Pipeline | None:
        if self.gitea is None or not self.wanted.repository:
            return None
        owner, _slash, name = self.wanted.repository.partition("/")
        try:
            gitea = self.gitea()
            repository = gitea.repository(owner, name)
        except AirgapError as error:
            self._unreached.append(Unreached("Gitea", error.message, _refused(error)))
            return None
        self._looked_at.append(f"Gitea {self.wanted.repository}")
        found = Pipeline(gitea.url, self.wanted.repository, actions=repository.get("has_actions", True) is not False)
        for read in (self._read_runners, self._read_tag, self._read_manifest):
            try:
                found = read(gitea, owner, name, found)
            except AirgapError as error:
                part = {"_read_runners": "runners of Gitea", "_read_tag": "tags and runs in Gitea"}
                shown = part.get(read.__name__, "the manifest in Gitea")
                self._unreached.append(Unreached(shown, error.message, _refused(error)))
                if read == self._read_runners:
                    found = replace(found, runners=None)
            except _ODD as error:
                self._unreached.append(Unreached("Gitea", f"it answered with something else than expected: {error!r}"))
        return found

    def _read_runners(self, gitea: GiteaReader, owner: str, name: str, found: Pipeline) -> Pipeline:
        return replace(
            found,
            runners=self._runners(gitea, owner, name),
            queued=gitea.runs(owner, name, {"status": "queued"}),
        )

    def _runners(self, gitea: GiteaReader, owner: str, name: str) -> list[dict[str, Any]]:
        """Those that may take a job of the repository.

        Of the whole instance's, Gitea does not tell which are another repository's, so that they are the last resort.
        """
        if self.wanted.runner_scope:
            return gitea.runners(Scope(self.wanted.runner_scope))
        found = gitea.runners(Scope(f"{owner}/{name}"))
        with contextlib.suppress(GiteaNotFound):  # an owner that is a user: only that user can list them
            found += gitea.runners(Scope(owner))
        if not any(runner.get("status") == "online" for runner in found):
            found += gitea.runners(Scope("instance"))
        return list({runner["id"]: runner for runner in found}.values())

    def _read_tag(self, gitea: GiteaReader, owner: str, name: str, found: Pipeline) -> Pipeline:
        tag = self.wanted.version or newest([str(each["name"]) for each in gitea.tags(owner, name)])
        if not tag:
            return found
        found = replace(found, tag=tag)
        there = gitea.tag(owner, name, tag)
        if there is None:
            return found
        sha = str(there["commit"]["sha"])
        runs = gitea.runs(owner, name, {"head_sha": sha})
        found = replace(
            found,
            sha=sha,
            message=gitea.commit_message(owner, name, sha),
            runs=runs,
            workflows=gitea.files(owner, name, ".gitea/workflows", sha),
        )
        run = run_of_tag(runs, tag)
        if run is None or run.get("conclusion") == "success":
            return found
        jobs = gitea.run_jobs(owner, name, int(run["id"]))
        log: list[str] = []
        for job in jobs:
            if job.get("conclusion") == "failure":
                with contextlib.suppress(AirgapError):  # the log may be gone; that the job failed is known anyway
                    log = tail(gitea.job_log(owner, name, int(job["id"])))
                break
        return replace(found, jobs=jobs, log=log)

    def _read_manifest(self, gitea: GiteaReader, owner: str, name: str, found: Pipeline) -> Pipeline:
        path, branch = self.wanted.manifest, self.wanted.branch
        if not path:
            return found
        content = gitea.content(owner, name, path, branch)
        commit = gitea.last_commit(owner, name, branch, path) or {}
        first = str((commit.get("commit") or {}).get("message", "")).strip().partition("\n")[0]
        return replace(
            found,
            manifest_path=path,
            manifest_image=image_in(content[0] if content else b"", f"{self.wanted.registry}/{self._image_repository}"),
            manifest_commit=f"{str(commit.get('sha', ''))[:10]} {first}".strip(),
        )

    @property
    def _image_repository(self) -> str:
        return self.wanted.image_repository or self.wanted.app

    def _read_registry(self, facts: Facts) -> Facts:
        if self.registry is None:
            return facts
        host = self.wanted.registry
        images = [
            image for image in waiting_images([*facts.pods, *facts.workload_pods]) if image.startswith(f"{host}/")
        ]
        if facts.pipeline and facts.pipeline.tag:
            images.append(f"{host}/{self._image_repository}:{facts.pipeline.tag}")
        answers: dict[str, ImageAnswer] = {}
        error = ""
        try:
            registry = self.registry()
            for image in dict.fromkeys(images):
                answers[image] = _ask_registry(registry, image.removeprefix(f"{host}/"))
        except AirgapError as failure:
            error = failure.message
            self._unreached.append(Unreached("The registry", error, _refused(failure)))
        else:
            self._looked_at.append("the registry")
        rest = {image: ImageAnswer(False, (), error) for image in images if image not in answers}
        return replace(facts, images={**answers, **rest})

    def _ask_prometheus(self, facts: Facts) -> Facts:
        """What the queries of the version in the spec give now, when an analysis of it has ended badly."""
        if self.prometheus is None or not self._cluster or facts.rollout is None:
            return facts
        hash = (facts.rollout.get("status") or {}).get("currentPodHash")
        bad = [
            run
            for run in facts.runs
            if (run["metadata"].get("labels") or {}).get(HASH_LABEL) == hash
            and (run.get("status") or {}).get("phase") in ("Failed", "Error", "Inconclusive")
        ]
        queries = list(dict.fromkeys(query for run in bad for query in queries_of(run).values()))[-_QUERIES:]
        answers: dict[str, str] = {}
        for query in queries:
            try:
                answers[query] = format_value(self.prometheus(self.session)(query))
            except AirgapError as error:
                return replace(facts, queries=answers, queries_failed=error.message)
        if queries:
            self._looked_at.append("Prometheus")
        return replace(facts, queries=answers)


def _behind(slices: Sequence[Mapping[str, Any]], wanted: int) -> list[tuple[str, int]]:
    """The pods of EndpointSlices with the ``wanted`` port, or where none has that number, with each of their ports."""
    found = [
        (f"{target['namespace']}/{target['name']}", int(port["port"]))
        for piece in slices
        for endpoint in piece.get("endpoints") or ()
        for port in piece.get("ports") or ()
        if (target := endpoint.get("targetRef") or {}).get("kind") == "Pod" and port.get("port")
    ]
    return [way for way in found if way[1] == wanted] or found


def deploys_into(application: Mapping[str, Any], namespaces: set[str]) -> bool:
    """Whether an Application has to do with one of these namespaces. Others on the same Argo CD are not ours."""
    destination = ((application.get("spec") or {}).get("destination") or {}).get("namespace")
    resources = (application.get("status") or {}).get("resources") or ()
    return bool(namespaces & {destination, *(each.get("namespace") for each in resources)})


def newest(tags: Sequence[str]) -> str:
    """The highest version among tags; empty without one."""
    found = [(match, tag) for tag in tags if (match := _VERSION.fullmatch(tag))]

    def order(entry: tuple[re.Match[str], str]) -> tuple[Any, ...]:
        match = entry[0]
        return (*(int(match[part]) for part in (1, 2, 3)), match[4] is None, match[4] or "")

    return max(found, key=order)[1] if found else ""


def image_in(content: bytes, repository: str) -> str:
    """The image of this repository that a manifest names; empty when it names none, or several."""
    text = content.decode("utf-8", "replace")
    pattern = rf"^[\s-]*image:\s*[\"']?({re.escape(repository)}[:@][^\s\"'#]+)"
    found = set(re.findall(pattern, text, re.MULTILINE))
    return str(found.pop()) if len(found) == 1 else ""


def tail(log: str) -> list[str]:
    """The last lines of a job's log, without the time that Gitea puts before each, and without empty ones."""
    lines = [re.sub(r"^\d{4}-\d\d-\d\dT[\d:.]+Z ?", "", line).rstrip() for line in log.splitlines()]
    return [line for line in lines if line][-_LOG_LINES:]


def token_of(kubeconfig: str | None, context: str | None, read: Callable[[str], str | None]) -> str:
    """The token that a kubeconfig of ours holds; empty for any other."""
    content = read(kubeconfig) if kubeconfig else None
    try:
        parsed = json.loads(content or "")
        users = {each["name"]: each["user"] for each in parsed["users"]}
        contexts = {each["name"]: each["context"] for each in parsed["contexts"]}
        return str(users[contexts[context or parsed["current-context"]]["user"]]["token"])
    except (ValueError, LookupError, TypeError):
        return ""


def _ask_registry(registry: RegistryReader, name: str) -> ImageAnswer:
    repository, digest = (name.partition("@")[0], name.partition("@")[2])
    if ":" in repository:
        repository, _colon, tag = repository.rpartition(":")
    else:
        tag = "" if digest else "latest"
    tags = registry.tags(repository)
    exists = registry.manifest_digest(repository, digest or tag) is not None if tags is not None else False
    return ImageAnswer(exists, by_version(tags))


def by_version(tags: Sequence[str] | None) -> list[str] | None:
    """Versions in their order at the end, since those are what is meant; None stays None."""
    if tags is None:
        return None

    def order(tag: str) -> tuple[Any, ...]:
        match = _VERSION.fullmatch(tag)
        return (1, *(int(match[part]) for part in (1, 2, 3)), tag) if match else (0, 0, 0, 0, tag)

    return sorted(tags, key=order)


def _refused(error: AirgapError) -> bool:
    return getattr(error, "status", None) in (401, 403)
