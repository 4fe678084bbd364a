# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The script of the lab's actions/checkout, with Git's own files in Gitea's place."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

ACTION = Path(__file__).resolve().parents[3] / "lab" / "actions" / "checkout" / "action.yml"
WHO = {f"GIT_{who}_{what}": "a@lumen.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class Job:
    """A server with lumen/lumen: v1.0.0 on its first commit, main on its second; and the workspace of a job."""

    def __init__(self, place: Path) -> None:
        self.workspace = place / "workspace"
        self.env = {"PATH": os.environ["PATH"], "HOME": str(place), "GIT_CONFIG_NOSYSTEM": "1", **WHO}
        bare = place / "lumen" / "lumen.git"
        source = place / "source"
        for folder in (self.workspace, source):
            folder.mkdir()
        self.git(source, "init", "--quiet", "--initial-branch=main")
        self.commits = []
        for version in ("v1.0.0", "v1.1.0"):
            (source / "version").write_text(version)
            self.git(source, "add", "--all")
            self.git(source, "commit", "--quiet", f"--message={version}")
            self.commits.append(self.git(source, "rev-parse", "HEAD"))
        self.git(source, "tag", "v1.0.0", self.commits[0])
        self.git(source, "clone", "--quiet", "--bare", ".", str(bare))
        self.git(bare, "config", "uploadpack.allowAnySHA1InWant", "true")  # as Gitea does
        self.server = f"file://{place}"

    def git(self, folder: Path, *words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=folder, env=self.env, capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout.strip()

    def check_out(self, run_ref: str, run_sha: str, **inputs: str) -> subprocess.CompletedProcess[str]:
        action = yaml.safe_load(ACTION.read_text())
        given = {name: inputs.get(name.replace("-", "_"), spec["default"]) for name, spec in action["inputs"].items()}
        env = {
            "SERVER": self.server + "/",
            "REPOSITORY": given["repository"] or "lumen/lumen",
            "OWN_REPOSITORY": "lumen/lumen",
            "TOKEN": "t0ken",
            "RUN_REF": run_ref,
            "RUN_SHA": run_sha,
            "REF": given["ref"],
            "DIRECTORY": given["path"],
            "DEPTH": given["fetch-depth"],
            "PERSIST": given["persist-credentials"],
        }
        (step,) = action["runs"]["steps"]
        assert set(step["env"]) == set(env), "what the action hands to its script"
        done = subprocess.run(
            ["bash", "-c", step["run"]],
            cwd=self.workspace,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert "t0ken" not in done.stdout + done.stderr
        return done

    def at(self) -> tuple[str, str]:
        """The commit and the branch that are checked out."""
        return self.git(self.workspace, "rev-parse", "HEAD"), self.git(self.workspace, "branch", "--show-current")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_the_commit_of_a_tag(job: Job) -> None:
    assert job.check_out("refs/tags/v1.0.0", job.commits[0]).returncode == 0
    assert job.at() == (job.commits[0], "")
    assert (job.workspace / "version").read_text() == "v1.0.0"


def test_the_commit_of_a_run_also_when_its_branch_has_moved_on(job: Job) -> None:
    assert job.check_out("refs/heads/main", job.commits[0]).returncode == 0
    assert job.at() == (job.commits[0], "main")


@pytest.mark.parametrize("ref", ["main", "refs/heads/main"])
def test_a_branch_that_a_later_step_pushes_to(job: Job, ref: str) -> None:
    assert job.check_out("refs/tags/v1.0.0", job.commits[0], ref=ref).returncode == 0
    assert job.at() == (job.commits[1], "main")
    job.git(job.workspace, "commit", "--quiet", "--allow-empty", "--message=bump")
    job.git(job.workspace, "push", "--quiet", "origin", "main")
    assert job.git(job.workspace, "ls-remote", "origin", "refs/heads/main").startswith(job.at()[0])


def test_another_tag_and_another_commit(job: Job) -> None:
    for ref in ("v1.0.0", "refs/tags/v1.0.0", job.commits[0]):
        assert job.check_out("refs/heads/main", job.commits[1], ref=ref).returncode == 0
        assert job.at() == (job.commits[0], "")


@pytest.mark.parametrize(("depth", "count"), [("1", "1"), ("0", "2")])
def test_history(job: Job, depth: str, count: str) -> None:
    assert job.check_out("refs/heads/main", job.commits[1], fetch_depth=depth).returncode == 0
    assert job.git(job.workspace, "rev-list", "--count", "HEAD") == count
    assert job.git(job.workspace, "tag", "--list") == ("v1.0.0" if depth == "0" else "")


def test_another_repository_below_the_workspace(job: Job) -> None:
    job.git(job.workspace.parent, "clone", "--quiet", "--bare", "lumen/lumen.git", "lumen/other.git")
    assert job.check_out("refs/heads/main", job.commits[1], repository="lumen/other", path="other").returncode == 0
    assert (job.workspace / "other" / "version").read_text() == "v1.1.0"


@pytest.mark.parametrize("persist", ["true", "false"])
def test_the_token_stays_for_later_steps_once_and_for_its_owner_alone(job: Job, persist: str) -> None:
    for _again in range(2):
        assert job.check_out("refs/heads/main", job.commits[1], persist_credentials=persist).returncode == 0
    config = job.workspace / ".git" / "config"
    assert config.read_text().lower().count("extraheader = authorization: basic") == (1 if persist == "true" else 0)
    assert persist == "false" or config.stat().st_mode & 0o777 == 0o600


def test_what_is_not_there(job: Job) -> None:
    assert job.check_out("refs/heads/main", job.commits[1], ref="v9.9.9").returncode != 0
    assert job.check_out("refs/heads/main", job.commits[1], repository="lumen/nothing").returncode != 0
