# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong between a tag and its image, provoked in the lab's Gitea, and what the doctor says of it.

In a repository of this test's own, which no runner serves but one that this test plays: Gitea judges, and nobody is
disturbed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.gitea import Gitea, Scope
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session
from ansible_collections.lumen.airgap.plugins.module_utils.engines.doctor.facts import Finding
from ansible_collections.lumen.airgap.plugins.module_utils.services.doctor import Doctor, Wanted
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock

from .conftest import eventually

URL = "http://192.168.2.2:30300"
WORKFLOW = """\
on:
  push:
    tags: ["v*"]
jobs:
  release:
    runs-on: ubuntu-latest
    steps:
      - run: "true"
"""


def token() -> str:
    from driver.cluster import LOCAL

    return (LOCAL / "gitea" / "token").read_text(encoding="utf-8").strip()


def api(method: str, path: str, body: Any = None) -> Any:
    headers = {"Authorization": f"token {token()}"}
    answer = requests.request(method, f"{URL}/api/v1{path}", json=body, headers=headers, timeout=20)
    answer.raise_for_status()
    return answer.json() if answer.content else None


class Runner:
    """As much of a runner as Gitea sees: it registers, shows that it lives, takes a task and ends it."""

    def __init__(self, registration: str, *labels: str) -> None:
        self._headers: dict[str, str] = {}
        self._labels = list(labels)
        body = {"name": "doctor", "token": registration, "labels": self._labels, "version": "v1.0.8"}
        made = self.call("Register", body)["runner"]
        self._headers = {"x-runner-uuid": made["uuid"], "x-runner-token": made["token"]}

    def call(self, name: str, body: Any) -> Any:
        url = f"{URL}/api/actions/runner.v1.RunnerService/{name}"
        answer = requests.post(url, json=body, headers=self._headers, timeout=20)
        answer.raise_for_status()
        return answer.json()

    def live(self) -> None:
        """Gitea calls it online for the next minute."""
        self.call("Declare", {"version": "v1.0.8", "labels": self._labels})

    def fail_the_next_task(self, line: str) -> None:
        task: dict[str, Any] = {}

        def fetched() -> bool:
            task.update(self.call("FetchTask", {"tasksVersion": 0}).get("task") or {})
            return bool(task)

        eventually("there is a task", fetched, 20)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        number = task["id"]
        self.call("UpdateLog", {"taskId": number, "index": 0, "rows": [{"time": now, "content": line}], "noMore": True})
        ended = {"id": number, "result": "RESULT_FAILURE", "startedAt": now, "stoppedAt": now, "steps": []}
        self.call("UpdateTask", {"state": ended})


@dataclass
class Project:
    owner: str
    name: str
    seen_by: Gitea | None = None

    @property
    def path(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def gitea(self) -> Gitea:
        return self.seen_by or Gitea.connect({"url": URL, "token": token()})

    def commit(self, path: str, text: str, message: str) -> None:
        there = self.gitea.content(self.owner, self.name, path, "main")
        sha = there.sha if there else None
        self.gitea.put_content(self.owner, self.name, path, "main", text.encode(), message, sha)

    def tag(self, name: str) -> None:
        api("POST", f"/repos/{self.path}/tags", {"tag_name": name, "target": "main"})

    def runner(self, *labels: str) -> Runner:
        return Runner(self.gitea.registration_token(Scope(self.path)), *labels)

    def examine(self, version: str = "") -> list[Finding]:
        """What is found in Gitea; there is no app of this name, which is another matter."""
        from driver.cluster import KUBECONFIG

        wanted = Wanted(
            "doctor-app",
            "doctor-nowhere",
            "192.168.2.2:5000",
            version,
            rollouts_namespace="",
            argocd_namespace="",
            gitea_namespace="",
            repository=self.path,
            runner_scope=self.path,
        )
        doctor = Doctor(lambda: Session.connect(str(KUBECONFIG)), SystemClock(), wanted, gitea=lambda: self.gitea)
        report = doctor.examine()
        print("\n".join(report.lines))
        return [finding for finding in report.findings if finding.code != "rollout-absent"]

    def codes(self, version: str = "") -> list[str]:
        return [finding.code for finding in self.examine(version)]


@pytest.fixture
def project() -> Iterator[Project]:
    owner = api("GET", "/user")["login"]
    made = Project(owner, f"doctor-{secrets.token_hex(4)}")
    api("POST", "/user/repos", {"name": made.name, "private": True, "auto_init": True, "default_branch": "main"})
    yield made
    api("DELETE", f"/repos/{made.path}")


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, [finding.code for finding in findings]
    return findings[0]


def test_a_tag_on_a_commit_that_says_skip_ci(project: Project) -> None:
    project.commit(".gitea/workflows/ci.yaml", WORKFLOW, "Add the pipeline")
    project.runner("ubuntu-latest").live()
    project.commit("manifest.yaml", "image: x:v1.0.0\n", "chore: bump to v1.0.0 [skip ci]")
    project.tag("v1.0.1")
    found = only(project.examine())
    assert found.code == "tag-skip-ci"
    assert any("chore: bump to v1.0.0 [skip ci]" in line for line in found.evidence)
    # The way out that it names.
    project.commit("empty", "", "Release v1.0.2")
    project.tag("v1.0.2")
    eventually("the other tag has a run", lambda: project.codes() in ([], ["pipeline-waiting"]), 20)


def test_a_tag_that_was_not_pushed(project: Project) -> None:
    project.runner("ubuntu-latest").live()
    assert project.codes() == []
    assert project.codes("v7.0.0") == ["tag-missing"]


def test_a_tag_without_a_workflow_and_one_that_no_workflow_wants(project: Project) -> None:
    project.runner("ubuntu-latest").live()
    project.tag("v1.0.0")
    assert project.codes() == ["tag-no-workflow"]
    project.commit(".gitea/workflows/ci.yaml", WORKFLOW.replace('["v*"]', '["release-*"]'), "Add the pipeline")
    project.tag("v1.0.1")
    assert project.codes() == ["tag-not-picked-up"]


def test_no_runner_one_that_is_offline_and_one_without_the_label(project: Project) -> None:
    project.commit(".gitea/workflows/ci.yaml", WORKFLOW, "Add the pipeline")
    project.tag("v1.0.0")
    eventually("a run waits", lambda: any("waits" in line for each in project.examine() for line in each.evidence), 20)
    assert "No runner is registered" in only(project.examine()).cause

    other = project.runner("another-label")
    found = only(project.examine())
    assert (found.code, "is offline" in found.cause) == ("runner-offline", True)
    assert found.evidence[0] == "runner doctor is offline, labels another-label"
    assert sum(line.startswith("runner ") for line in found.evidence) == 1

    other.live()
    assert only(project.examine()).code == "runner-labels"

    project.runner("ubuntu-latest").live()
    assert project.codes() in ([], ["pipeline-waiting"])


def test_a_runner_that_is_disabled(project: Project) -> None:
    project.runner("ubuntu-latest").live()
    scope = Scope(project.path)
    project.gitea.disable_runner(scope, project.gitea.runners(scope)[0]["id"], True)
    found = only(project.examine())
    assert (found.code, "disabled" in found.cause) == ("runner-offline", True)


def test_a_pipeline_that_failed_with_its_last_words(project: Project) -> None:
    project.commit(".gitea/workflows/ci.yaml", WORKFLOW, "Add the pipeline")
    project.tag("v1.0.0")
    runner = project.runner("ubuntu-latest")
    runner.live()
    runner.fail_the_next_task("--- FAIL: TestHealth (0.00s)")
    eventually("the run has ended", lambda: project.codes() == ["pipeline-failed"], 20)
    found = only(project.examine())
    assert found.cause.startswith("release ended with failure")
    assert any("--- FAIL: TestHealth" in line for line in found.evidence)


def test_a_repository_without_actions(project: Project) -> None:
    api("PATCH", f"/repos/{project.path}", {"has_actions": False})
    assert project.codes() == ["actions-off"]


def test_a_token_that_may_not_see_the_runners(project: Project) -> None:
    name = f"doctor-{project.name}"
    auth = ("token", token())
    base = f"{URL}/api/v1/users/{project.owner}/tokens"
    made = requests.post(base, json={"name": name, "scopes": ["read:user"]}, auth=auth, timeout=20)
    made.raise_for_status()
    project.seen_by = Gitea.connect({"url": URL, "token": made.json()["sha1"]})
    try:
        assert project.codes() == ["not-allowed"]
    finally:
        requests.delete(f"{base}/{name}", auth=auth, timeout=20)


def test_a_gitea_that_is_not_there(project: Project) -> None:
    from driver.cluster import KUBECONFIG

    wanted = Wanted("doctor-app", "doctor-nowhere", "192.168.2.2:5000", repository=project.path, argocd_namespace="")
    away = Gitea.connect({"url": "http://192.168.2.2:30399", "token": "x", "timeout": 5})
    report = Doctor(lambda: Session.connect(str(KUBECONFIG)), SystemClock(), wanted, gitea=lambda: away).examine()
    assert [finding.subject for finding in report.findings if finding.code == "not-reached"] == ["Gitea"]
    assert "Pods in argo-rollouts" in report.looked_at
