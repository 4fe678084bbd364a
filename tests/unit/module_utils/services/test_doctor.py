# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is collected from where, and what happens when somebody does not answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.gitea import Gitea
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    ANALYSIS_RUN,
    APPLICATION,
    DEPLOYMENT,
    LEASE,
    POD,
    REPLICA_SET,
    ROLLOUT,
    Kind,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Forbidden, Unreachable
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import RegistryError
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.doctor import (
    Doctor,
    Report,
    Wanted,
    by_version,
    image_in,
    newest,
    tail,
    token_of,
)
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_record import Record
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import EPOCH, FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.gitea import TOKEN, URL, FakeGitea
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.fakes.tokens import token

HOST = "192.168.2.2:5000"
IMAGE = f"{HOST}/lumen-api"
MANIFEST = "manifests/03-lumen-api.yaml"
WANTED = Wanted("lumen-api", "lumen", HOST, repository="lumen/lumen", manifest=MANIFEST)
DESTINATION = {"destination": {"namespace": "lumen"}}
HASH = "rollouts-pod-template-hash"


def thing(kind: Kind, name: str, namespace: str = "lumen", **parts: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, **parts.pop("metadata", {})}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **parts}


def template(version: str) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "lumen-api", "image": f"{IMAGE}:{version}"}]}}


def workload(name: str, namespace: str) -> dict[str, Any]:
    counts = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
    return thing(DEPLOYMENT, name, namespace, spec={"replicas": 1}, status={"observedGeneration": 1, **counts})


class FakeRegistryReader:
    def __init__(self) -> None:
        self.repositories: dict[str, list[str]] = {"lumen-api": ["v1.0.0", "latest"]}
        self.error: AirgapError | None = None

    def __call__(self) -> FakeRegistryReader:
        if self.error:
            raise self.error
        return self

    def tags(self, repository: str) -> list[str] | None:
        return self.repositories.get(repository)

    def manifest_digest(self, repository: str, reference: str) -> str | None:
        return "sha256:0" if reference in self.repositories[repository] else None


class Site:
    """A cluster, a registry and a Gitea on which all is well."""

    def __init__(self, session: FakeSession, clock: FakeClock) -> None:
        self.session = session
        self.clock = clock
        self.registry = FakeRegistryReader()
        self.gitea = FakeGitea()
        self.answers: Callable[[str], Any] = lambda query: [0.99]
        self.token = ""
        labels = {"app": "lumen-api"}
        session.put(
            thing(
                ROLLOUT,
                "lumen-api",
                spec={"replicas": 1, "selector": {"matchLabels": labels}, "template": template("v1.0.0")},
                status={"observedGeneration": "1", "phase": "Healthy", "currentPodHash": "a", "stableRS": "a"},
            )
        )
        session.put(
            thing(REPLICA_SET, "a", metadata={"labels": {**labels, HASH: "a"}}, spec={"template": template("v1.0.0")})
        )
        for name in ("argocd-application-controller", "argocd-repo-server"):
            session.put(workload(name, "argocd"))
        session.put(workload("argo-rollouts", "argo-rollouts"))
        session.put(thing(APPLICATION, "lumen-app", "argocd", spec=DESTINATION, status={"sync": {"status": "Synced"}}))
        repository = self.gitea.repositories["lumen/lumen"]
        repository["tags"] = {"v1.0.0": {"sha": "a" * 40, "message": "v1.0.0"}}
        path = "ci.yaml@refs/tags/v1.0.0"
        repository["runs"] = [
            {"id": 1, "path": path, "head_sha": "a" * 40, "status": "completed", "conclusion": "success"}
        ]
        repository["branches"]["main"] = {MANIFEST: f"      - image: {IMAGE}:v1.0.0 # now\n".encode()}
        repository["branches"]["a" * 40] = {".gitea/workflows/ci.yaml": b""}
        self.repository = repository
        self.runner = self.gitea.add_runner(labels=[{"name": "ubuntu-latest"}])

    def examine(self, wanted: Wanted = WANTED) -> Report:
        return Doctor(
            lambda: self.session,  # type: ignore[arg-type,return-value]
            self.clock,
            wanted,
            prometheus=lambda session: self.answers,
            registry=self.registry,
            gitea=lambda: Gitea.connect({"url": URL, "token": TOKEN}, self.gitea.session()),
            token=self.token,
        ).examine()

    def codes(self, wanted: Wanted = WANTED) -> list[str]:
        return [finding.code for finding in self.examine(wanted).findings]


@pytest.fixture
def site(session: FakeSession, clock: FakeClock) -> Site:
    return Site(session, clock)


def test_all_is_well(site: Site) -> None:
    report = site.examine()
    assert report.findings == []
    assert report.lines[0] == "lumen-api in lumen (https://fake:6443): nothing is wrong"
    assert {"Rollout lumen/lumen-api", "Pods in lumen", "Applications in argocd", "the registry"} <= set(
        report.looked_at
    )
    assert "Gitea lumen/lumen" in report.looked_at
    assert all(method in ("get", "list", "find", "namespaced") for method, *_rest in site.session.calls)
    assert site.gitea.written == []


def test_an_image_is_asked_for_in_the_registry(site: Site, session: FakeSession) -> None:
    waiting = {"reason": "ErrImagePull", "message": "not found"}
    session.put(
        thing(
            POD,
            "p",
            metadata={"labels": {"app": "lumen-api"}},
            spec={"containers": [{"name": "c", "image": f"{IMAGE}:v9.9.9"}]},
            status={"containerStatuses": [{"name": "c", "image": "short", "state": {"waiting": waiting}}]},
        )
    )
    site.registry.repositories["lumen-api"] = ["v1.10.0", "v1.9.0", "builder"]
    found = site.examine().findings
    assert [finding.code for finding in found] == ["image-missing"]
    assert found[0].cause.endswith("it has builder, v1.9.0, v1.10.0.")
    site.registry.error = RegistryError("the registry does not answer", HOST)
    assert site.codes() == ["not-reached", "image-unknown"]


def test_pods_of_others_are_not_looked_at(site: Site, session: FakeSession) -> None:
    waiting = {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ErrImagePull"}}}]}
    session.put(thing(POD, "other", metadata={"labels": {"app": "other"}}, spec={"containers": []}, status=waiting))
    assert site.codes() == []


def test_a_cluster_without_rollouts(site: Site, session: FakeSession) -> None:
    session.unknown_kinds.add(ROLLOUT)
    assert site.codes() == ["rollouts-missing"]


def test_a_cluster_without_argo_cd(site: Site, session: FakeSession) -> None:
    session.unknown_kinds.add(APPLICATION)
    report = site.examine()
    assert [(finding.code, finding.subject) for finding in report.findings] == [
        ("not-reached", "Applications in argocd")
    ]
    assert site.codes(Wanted("lumen-api", "lumen", HOST, argocd_namespace="")) == []


def test_the_kind_that_a_sync_lacks_is_looked_up(site: Site, session: FakeSession) -> None:
    resource = {
        "group": "argoproj.io",
        "kind": "Rollout",
        "status": "SyncFailed",
        "message": "the server could not find the requested resource",
    }
    state = {"phase": "Failed", "syncResult": {"resources": [resource]}}
    session.put(thing(APPLICATION, "lumen-app", "argocd", spec=DESTINATION, status={"operationState": state}))
    finding = next(finding for finding in site.examine().findings if finding.code == "crd-missing")
    assert "It does now" in finding.cause


def test_applications_of_others_are_not_looked_at(site: Site, session: FakeSession) -> None:
    failed = {"operationState": {"phase": "Failed", "message": "no"}}
    session.put(thing(APPLICATION, "other", "argocd", spec={"destination": {"namespace": "other"}}, status=failed))
    assert site.codes() == []
    session.put(
        thing(APPLICATION, "rollouts", "argocd", spec={"destination": {"namespace": "argo-rollouts"}}, status=failed)
    )
    assert site.codes() == ["sync-failed"]
    resources = [{"kind": "Service", "namespace": "lumen", "name": "s"}]
    session.put(thing(APPLICATION, "rollouts", "argocd", spec={}, status={**failed, "resources": resources}))
    assert site.codes() == ["sync-failed"]


def test_objects_of_an_odd_shape_do_not_end_it(site: Site, session: FakeSession) -> None:
    session.put(thing(APPLICATION, "odd", "argocd", spec=["?"]))
    session.put(thing(POD, "p", metadata={"labels": {"app": "lumen-api"}}, spec="?", status={"containerStatuses": 7}))
    session.put(thing(ANALYSIS_RUN, "r", metadata={"labels": "?"}))
    report = site.examine()
    assert {finding.code for finding in report.findings} == {"not-reached", "not-understood"}
    assert "Gitea lumen/lumen" in report.looked_at


def test_an_api_server_that_is_away_is_asked_once(site: Site, session: FakeSession) -> None:
    session.fail_next("find", Unreachable("no answer", reason="NoAnswer"), times=100)
    session.fail_next("get", Unreachable("no answer", reason="NoAnswer"), times=100)
    session.fail_next("list", Unreachable("no answer", reason="NoAnswer"), times=100)
    report = site.examine()
    assert [(finding.code, finding.subject) for finding in report.findings] == [("not-reached", "The API server")]
    assert session.calls == []
    assert "Gitea lumen/lumen" in report.looked_at


def test_a_kubeconfig_that_cannot_be_used(site: Site, clock: FakeClock) -> None:
    def connect() -> Any:
        raise AirgapError("kubeconfig /nowhere does not exist")

    report = Doctor(connect, clock, WANTED, registry=site.registry).examine()
    assert [(finding.code, finding.cause) for finding in report.findings] == [
        ("not-reached", "kubeconfig /nowhere does not exist")
    ]
    assert report.lines[0] == "lumen-api in lumen: 1 error"
    assert report.looked_at == ["the registry"]


def test_credentials_that_are_refused_are_refused_once(site: Site, session: FakeSession) -> None:
    session.fail_next("find", Forbidden("answered 401 Unauthorized", status=401), times=100)
    session.fail_next("list", Forbidden("answered 401 Unauthorized", status=401), times=100)
    assert site.codes() == ["not-allowed"]


def test_what_is_forbidden_is_told_part_by_part(site: Site, session: FakeSession) -> None:
    session.fail_next("list", Forbidden("pods is forbidden", status=403), times=2)
    report = site.examine()
    assert [(finding.code, finding.subject) for finding in report.findings] == [
        ("not-allowed", "Pods in lumen"),
        ("not-allowed", "ReplicaSets in lumen"),
    ]
    assert "AnalysisRuns in lumen" in report.looked_at


def test_a_controller_that_may_not_be_seen_is_not_missed(site: Site, session: FakeSession) -> None:
    session.remove(DEPLOYMENT, "argo-rollouts", "argo-rollouts")
    assert site.codes() == ["workload-down"]
    real = session.list

    def forbid(kind: Kind, namespace: str | None = None, *rest: Any) -> Any:
        if namespace == "argo-rollouts":
            raise Forbidden("forbidden", status=403)
        return real(kind, namespace, *rest)

    session.list = forbid  # type: ignore[method-assign]
    assert set(site.codes()) == {"not-allowed"}


def test_a_gitea_that_is_away(site: Site) -> None:
    site.gitea.break_with("GET", "", (503, "starting"))
    report = site.examine()
    assert [(finding.code, finding.subject) for finding in report.findings] == [("not-reached", "Gitea")]
    assert len(site.gitea.requests) == 1


def test_a_token_of_gitea_that_is_not_good(site: Site) -> None:
    site.gitea.owners.clear()
    assert site.codes() == ["not-allowed"]


def test_a_repository_that_is_not_there(site: Site) -> None:
    found = site.examine(Wanted("lumen-api", "lumen", HOST, repository="lumen/other")).findings
    assert [finding.code for finding in found] == ["not-reached"]
    assert "lumen/other" in found[0].cause


def test_runners_that_may_not_be_listed_are_no_runners_that_are_missing(site: Site) -> None:
    site.gitea.runners.clear()
    site.gitea.owners[TOKEN] = ("admin", {"read:repository", "read:organization"})
    found = site.examine().findings
    assert [(finding.code, finding.subject) for finding in found] == [("not-allowed", "runners of Gitea")]


def test_runners_are_asked_for_where_they_may_be(site: Site) -> None:
    site.runner["status"] = "offline"
    assert site.codes() == ["runner-offline"]
    other = site.gitea.add_runner("lumen", labels=[{"name": "ubuntu-latest"}])
    assert site.codes() == []
    other["scope"] = "instance"
    assert site.codes() == []
    asked = Wanted("lumen-api", "lumen", HOST, repository="lumen/lumen", runner_scope="lumen/lumen")
    assert site.codes(asked) == ["runner-offline"]


def test_an_owner_that_is_no_organization_has_no_runners_that_others_see(site: Site) -> None:
    site.gitea.break_with("GET", "^/orgs/", (404, {"message": "user redirect does not exist"}))
    assert site.codes() == []


def test_the_whole_gitea_is_not_asked_while_one_of_ours_is_online(site: Site) -> None:
    site.gitea.owners[TOKEN] = ("admin", {"read:repository", "read:organization"})
    assert site.codes() == []


def test_a_gitea_that_answers_oddly(site: Site) -> None:
    site.gitea.break_with("GET", "/tags$", (200, [{"commit": None}]))
    assert site.codes() == ["not-reached"]


def test_a_tag_without_a_run(site: Site) -> None:
    site.repository["tags"] = {"v1.0.1": {"sha": "b" * 40, "message": "bump [skip ci]"}, **site.repository["tags"]}
    assert site.codes() == ["tag-skip-ci"]
    site.repository["tags"]["v1.0.1"]["message"] = "plain"
    assert site.codes() == ["tag-no-workflow"]
    site.registry.repositories["lumen-api"].append("v1.0.1")
    assert site.codes() == []


def test_the_version_that_is_asked_for(site: Site) -> None:
    asked = Wanted("lumen-api", "lumen", HOST, "v7.0.0", repository="lumen/lumen")
    assert site.codes(asked) == ["tag-missing"]


def test_the_log_of_a_failed_job(site: Site) -> None:
    site.repository["runs"][0]["conclusion"] = "failure"
    jobs = [{"id": 4, "name": "lint", "conclusion": "success"}, {"id": 5, "name": "test", "conclusion": "failure"}]
    site.repository["jobs"] = {1: jobs}
    assert "log:" not in str(site.examine().findings[0].evidence)
    site.repository["logs"] = {5: "2026-01-01T10:00:00.1234567Z --- FAIL: TestHealth\n\n2026-01-01T10:00:00Z FAIL\n"}
    found = site.examine().findings
    assert [finding.code for finding in found] == ["pipeline-failed"]
    assert "log: --- FAIL: TestHealth" in found[0].evidence


def test_a_runner_that_is_offline(site: Site) -> None:
    site.runner["status"] = "offline"
    site.repository["runs"].append({"id": 2, "status": "queued", "display_title": "v1.0.1", "head_sha": "x"})
    found = site.examine().findings
    assert [finding.code for finding in found] == ["runner-offline"]
    assert "run 2 waits: v1.0.1" in found[0].evidence


def aborted(site: Site, phase: str = "Failed", values: tuple[str | None, ...] = ("[0.5]",)) -> None:
    site.session.edit(
        ROLLOUT,
        "lumen-api",
        "lumen",
        {"spec": {"template": template("v1.1.0")}, "status": {"abort": True, "phase": "Degraded"}},
    )
    site.session.edit(ROLLOUT, "lumen-api", "lumen", {"status": {"observedGeneration": "2", "currentPodHash": "b"}})
    measurements = [{"phase": phase, "value": value, "finishedAt": "2026-01-01T00:00:00Z"} for value in values]
    site.session.put(
        thing(
            ANALYSIS_RUN,
            "lumen-api-b-2-1",
            metadata={"labels": {HASH: "b"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
            spec={"metrics": [{"name": "rate", "provider": {"prometheus": {"query": "sum(x)"}}}]},
            status={"phase": phase, "metricResults": [{"name": "rate", "measurements": measurements}]},
        )
    )


def test_prometheus_is_asked_what_it_says_now(site: Site) -> None:
    aborted(site)
    found = {finding.code: finding for finding in site.examine().findings}
    assert "rate is [0.99] now" in found["analysis-failed"].evidence
    assert "Git has" not in str(found["abort-revert-pending"].cause)

    def away(query: str) -> Any:
        raise AirgapError("Prometheus cannot be reached")

    site.answers = away
    assert "now" not in str(next(f for f in site.examine().findings if f.code == "analysis-failed").evidence)


def test_prometheus_is_left_alone_when_nothing_failed(site: Site) -> None:
    def fail(query: str) -> Any:
        raise AssertionError

    site.answers = fail
    assert site.codes() == []


def test_git_still_has_what_was_aborted(site: Site) -> None:
    aborted(site)
    site.repository["branches"]["main"][MANIFEST] = f"image: '{IMAGE}:v1.1.0'\n".encode()
    site.repository["messages"] = ["bump lumen-api to v1.1.0 [skip ci]\n\nmore"]
    finding = next(finding for finding in site.examine().findings if finding.code == "aborted-not-reverted")
    assert "that was brought by 0000000000 bump lumen-api to v1.1.0 [skip ci]" in finding.evidence
    assert f"Git has {IMAGE}:v1.1.0 in {MANIFEST}" in finding.evidence


def test_a_release_that_nobody_works_on(site: Site, session: FakeSession, clock: FakeClock) -> None:
    Record.acquire(session, clock, "lumen", "lumen-api", "v1.1.0", "run", {})  # type: ignore[arg-type]
    assert site.codes() == []
    clock.sleep(61)
    assert site.codes() == ["release-open"]
    session.edit(LEASE, "lumen-api-release", "lumen", {"spec": {"renewTime": "?"}})
    found = site.examine().findings
    assert [(finding.code, finding.subject) for finding in found] == [("not-reached", "the journal of releases")]


def test_the_end_of_the_token(site: Site) -> None:
    site.token = token("system:serviceaccount:lumen:airgap-release", "u", EPOCH + 86400)
    assert site.codes() == ["identity-ends"]


def test_the_newest_version() -> None:
    assert newest(["v1.9.0", "v1.10.0", "v1.10.0-rc1", "latest", "v2"]) == "v1.10.0"
    assert newest(["nightly"]) == ""


def test_tags_in_the_order_of_their_versions() -> None:
    assert by_version(["v1.10.0", "latest", "v1.9.0"]) == ["latest", "v1.9.0", "v1.10.0"]
    assert by_version(None) is None


@pytest.mark.parametrize(
    ("content", "image"),
    [
        (f"- image: {IMAGE}:v1.0.0", f"{IMAGE}:v1.0.0"),
        (f'  image: "{IMAGE}@sha256:abc" # pinned', f"{IMAGE}@sha256:abc"),
        (f"# image: {IMAGE}:v0\n  image: {IMAGE}:v1", f"{IMAGE}:v1"),
        (f"image: {IMAGE}-other:v1", ""),
        (f"image: {IMAGE}:v1\nimage: {IMAGE}:v2", ""),
        ("", ""),
    ],
)
def test_the_image_in_a_manifest(content: str, image: str) -> None:
    assert image_in(content.encode(), IMAGE) == image


def test_the_tail_of_a_log() -> None:
    assert len(tail("\n".join(f"line {number}" for number in range(100)))) == 15


def test_the_token_of_a_kubeconfig() -> None:
    content = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"user": "u"}}, {"name": "d", "context": {"user": "none"}}],
        "users": [{"name": "u", "user": {"token": "abc"}}],
    }
    files = {"/kube": json.dumps(content), "/yaml": "users: []"}
    assert token_of("/kube", None, files.get) == "abc"
    assert token_of("/kube", "d", files.get) == ""
    assert token_of("/yaml", None, files.get) == ""
    assert token_of(None, None, files.get) == ""
