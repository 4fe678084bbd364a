# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pipeline of the role act_runner: its jobs, and its steps run by a shell with a real Git and a fake Docker."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles" / "act_runner"
OLD, NEW = "192.168.2.2:5000/lumen-api:v1.0.0", "192.168.2.2:5000/lumen-api:v1.1.0"
MANIFEST = "03-airgap-zone/manifests/app/03-lumen-api.yaml"
ROLLOUT = f"""\
kind: Rollout
metadata: {{name: lumen-api}}
spec:
  template:
    spec:
      containers:
        - name: lumen-api
          image: {OLD}  # the release
"""
REVISION = "0123456789abcdef0123456789abcdef01234567"


def rendered(**variables: Any) -> dict[str, Any]:
    """The file with the role's defaults, as the role renders it."""
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    plain = jinja2.Environment()
    values: dict[str, Any] = {"act_runner_gitea": {"url": "http://192.168.2.2:30300"}}
    for name, value in defaults.items():
        if name in values:
            continue
        is_text = isinstance(value, str) and "{{" in value
        values[name] = plain.from_string(value).render(values) if is_text else value
    brackets = jinja2.Environment(
        variable_start_string="[[", variable_end_string="]]", trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    text = brackets.from_string((ROLE / "templates" / "ci.yaml.j2").read_text()).render({**values, **variables})
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def step(job: str, name: str, **variables: Any) -> dict[str, Any]:
    (found,) = [step for step in rendered(**variables)["jobs"][job]["steps"] if step.get("name") == name]
    return found  # type: ignore[no-any-return]


def test_the_events_are_the_seed_s() -> None:
    events = rendered()[True]  # YAML 1.1 takes the key `on` for a boolean
    assert events["push"] == {"branches": ["main"], "tags": ["v*"], "paths": ["01-connected-zone/app/**"]}
    assert events["pull_request"] == {"branches": ["main"]}
    assert set(events["workflow_dispatch"]["inputs"]) == {"version"}


def test_what_runs_when_is_the_seed_s() -> None:
    jobs = rendered()["jobs"]
    assert list(jobs) == ["test", "build-push", "release"]
    assert "if" not in jobs["test"]
    for name in ("build-push", "release"):
        assert jobs[name]["needs"] == "test"
    assert jobs["build-push"]["if"] == (
        "github.event_name == 'workflow_dispatch' || (github.event_name == 'push' && github.ref == 'refs/heads/main')"
    )
    assert jobs["release"]["if"] == (
        "startsWith(github.ref, 'refs/tags/v') "
        "|| (github.event_name == 'workflow_dispatch' && github.event.inputs.version != '')"
    )


def test_the_order_of_the_steps() -> None:
    jobs = rendered()["jobs"]
    names = {job: [step.get("name", step.get("uses")) for step in jobs[job]["steps"]] for job in jobs}
    assert names == {
        "test": ["actions/checkout@v4", "Test"],
        "build-push": ["actions/checkout@v4", "Build", "Scan", "Push"],
        "release": ["actions/checkout@v4", "Build", "Scan", "Push", "Bump the manifest"],
    }
    assert step("test", "Test")["run"] == "go test ./... -v -count=1"
    for job in jobs.values():
        assert job["steps"][0]["with"]["github-server-url"] == "http://192.168.2.2:30300"


def test_the_scan_is_offline_and_stops_nothing_unless_asked_to() -> None:
    scan = step("release", "Scan")["run"]
    for option in ("--skip-db-update", "--skip-java-db-update", "--offline-scan", "--network none", "--exit-code 0"):
        assert option in scan
    assert "|| echo '::warning::" in scan
    gate = step("release", "Scan", act_runner_pipeline_gate=True, act_runner_pipeline_gate_fixed_only=True)["run"]
    assert "--ignore-unfixed --exit-code 1" in gate
    assert "||" not in gate
    without = rendered(act_runner_pipeline_scan=False)["jobs"]["release"]["steps"]
    assert "Scan" not in [step.get("name") for step in without]


@pytest.mark.parametrize(
    ("days", "head", "fail_days", "said"),
    [
        (1, b"\0" * 16 + bytes.fromhex("edda0ced"), 90, ""),
        (91, b"\0" * 16 + bytes.fromhex("edda0ced"), 90, "is 91 days old"),
        (91, b"\0" * 16 + bytes.fromhex("edda0ced"), 0, ""),
        (1, b"\0" * 20, 90, "is damaged"),
        (1, b"", 90, "is damaged"),
        (None, b"", 90, "has no database"),
    ],
)
def test_a_database_that_would_find_nothing_is_not_scanned_with(
    days: int | None, head: bytes, fail_days: int, said: str, tmp_path: Path
) -> None:
    """Trivy itself calls an image clean with a database that is old, empty or damaged."""
    if days is not None:
        updated = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days, minutes=1)
        (tmp_path / "metadata.json").write_text(
            json.dumps({"UpdatedAt": updated.strftime("%Y-%m-%dT%H:%M:%S.123456789Z")})
        )
        (tmp_path / "trivy.db").write_bytes(head)
    scan = step("release", "Scan", act_runner_pipeline_scan_fail_days=fail_days)
    assert 'python3 -c "$CHECK_DATABASE"' in scan["run"]
    check = scan["env"]["CHECK_DATABASE"].replace("/cache/db", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (said == "")
    assert said in done.stderr


def test_every_step_is_posix_sh() -> None:
    for gate in (False, True):
        for job in rendered(act_runner_pipeline_gate=gate, act_runner_pipeline_pin_digest=gate)["jobs"].values():
            for one in job["steps"]:
                if "run" in one:
                    subprocess.run(["/bin/sh", "-n"], input=one["run"], text=True, check=True)


# --- the steps at work --------------------------------------------------------------------------------------------


class Job:
    """A job's container: a workspace, an environment file, and programs that stand for Docker."""

    def __init__(self, there: Path) -> None:
        self.there = there
        self.tools = there / "tools"
        self.tools.mkdir()
        (self.tools / "python3").symlink_to(sys.executable)
        self.program("sleep", "exit 0")
        self.environment_file = there / "environment"
        self.environment_file.touch()

    def program(self, name: str, script: str) -> None:
        path = self.tools / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.there}/calls\n{script}\n')
        path.chmod(0o755)

    def run(self, script: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = {
            # Not python3 through the link alone: it finds its packages by its own place.
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            "HOME": str(self.there),
            "TMPDIR": str(self.there),
            "GITHUB_ENV": str(self.environment_file),
            "IMAGE": "192.168.2.2:5000/lumen-api",
            "BUILDER": "192.168.2.2:5000/lumen-api:builder",
            "APP": "01-connected-zone/app",
            **environment,
        }
        return subprocess.run(
            ["/bin/sh", "-e", "-c", script],
            env=environment,
            cwd=cwd or self.there,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @property
    def calls(self) -> list[str]:
        file = self.there / "calls"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def docker(pulled: str, revision: str = REVISION) -> str:
    """``docker`` whose pull ends as told."""
    return f'case $1 in\n    pull) {pulled} ;;\n    image) echo "{revision}" ;;\nesac'


NOT_THERE = 'echo "Error response from daemon: manifest unknown: manifest unknown" >&2; exit 1'


def build(job: Job, pulled: str, tag: str = "v1.1.0", revision: str = REVISION) -> subprocess.CompletedProcess[str]:
    job.program("docker", docker(pulled, revision))
    job.program("git", f"echo {REVISION}")
    return job.run(step("release", "Build")["run"], GITHUB_REF_NAME=tag, REQUESTED="")


def test_a_version_is_built_and_named_by_its_commit(job: Job) -> None:
    done = build(job, NOT_THERE)
    assert done.returncode == 0, done.stderr
    (built,) = [call for call in job.calls if call.startswith("docker build")]
    assert f"--build-arg REVISION={REVISION}" in built
    assert f"--tag {NEW} 01-connected-zone/app" in built
    assert job.environment_file.read_text() == "PUSH=yes\nSHA=0123456\nVERSION=v1.1.0\n"


def test_a_version_that_was_built_from_this_commit_is_not_built_again(job: Job) -> None:
    done = build(job, "exit 0")
    assert done.returncode == 0
    assert not [call for call in job.calls if call.startswith("docker build")]
    assert "PUSH=no" in job.environment_file.read_text()


@pytest.mark.parametrize(
    ("pulled", "revision", "message"),
    [
        ("exit 0", "f" * 40, f"built from commit {'f' * 40}, not {REVISION}"),
        ("exit 0", "", "built from commit unknown"),
        ('echo "connection refused" >&2; exit 1', REVISION, "does not say whether it has"),
    ],
)
def test_what_cannot_be_released_stops(pulled: str, revision: str, message: str, job: Job) -> None:
    done = build(job, pulled, revision=revision)
    assert done.returncode == 1
    assert message in done.stdout
    assert not [call for call in job.calls if call.startswith("docker build")]


@pytest.mark.parametrize("tag", ["main", "v1", "v1.2", "v1.02.3", "vnext", "v1.2.3+x", "v1.2.3 x"])
def test_a_tag_that_is_no_version_stops(tag: str, job: Job) -> None:
    done = build(job, NOT_THERE, tag)
    assert done.returncode == 1
    assert "is no version" in done.stdout


@pytest.mark.parametrize("tag", ["v0.1.0", "v10.20.30", "v1.2.3-rc.1"])
def test_versions(tag: str, job: Job) -> None:
    assert build(job, NOT_THERE, tag).returncode == 0


def test_three_tags_are_pushed_and_the_version_last(job: Job) -> None:
    job.program("docker", "")
    job.run(step("release", "Push")["run"], PUSH="yes", SHA="0123456", VERSION="v1.1.0")
    assert [call for call in job.calls if " push " in call] == [
        "docker push --quiet 192.168.2.2:5000/lumen-api:0123456",
        "docker push --quiet 192.168.2.2:5000/lumen-api:latest",
        "docker push --quiet 192.168.2.2:5000/lumen-api:v1.1.0",
    ]


def test_a_push_that_fails_fails_the_step(job: Job) -> None:
    job.program("docker", "case $1 in push) exit 1 ;; esac")
    assert job.run(step("release", "Push")["run"], PUSH="yes", SHA="0", VERSION="v1").returncode == 1
    assert not [call for call in job.calls if call.endswith(":v1")][1:]


def git(cwd: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t.invalid", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A bare repository ``lumen/lumen.git`` with the manifest on main."""
    work = tmp_path / "work"
    (work / MANIFEST).parent.mkdir(parents=True)
    (work / MANIFEST).write_text(ROLLOUT)
    git(work, "init", "--quiet")
    git(work, "add", ".")
    git(work, "commit", "--quiet", "--message=first")
    bare = tmp_path / "lumen" / "lumen.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(work), str(bare))
    return bare


def bump(job: Job, repository: Path, token: str = "token-of-ci", **variables: Any) -> subprocess.CompletedProcess[str]:
    one = step("release", "Bump the manifest", **variables)
    assert one["env"]["CI_TOKEN"] == "${{ secrets.CI_TOKEN }}"
    return job.run(
        one["run"].replace("python3 ", f"{sys.executable} "),
        CI_TOKEN=token,
        CONTAINER=one["env"]["CONTAINER"],
        MANIFEST=one["env"]["MANIFEST"],
        GITOPS=str(ROOT / "plugins/module_utils/engines/gitops.py"),
        BRANCH="main",
        SERVER=f"file://{repository.parents[1]}",
        GITHUB_REPOSITORY="lumen/lumen",
        VERSION="v1.1.0",
    )


def test_the_manifest_is_bumped_in_one_commit_that_starts_no_run(job: Job, repository: Path) -> None:
    done = bump(job, repository)
    assert done.returncode == 0, done.stderr
    assert f"{OLD} -> {NEW}" in done.stdout
    assert git(repository, "show", f"main:{MANIFEST}") == ROLLOUT.replace(OLD, NEW).rstrip("\n")
    assert git(repository, "log", "--format=%s|%an", "main").splitlines() == [
        "chore: bump lumen-api to v1.1.0 [skip ci]|lumen-ci",
        "first|t",
    ]
    assert "token-of-ci" not in done.stdout + done.stderr


def test_a_manifest_that_is_right_gets_no_commit(job: Job, repository: Path) -> None:
    bump(job, repository)
    before = git(repository, "rev-parse", "main")
    assert bump(job, repository).returncode == 0
    assert git(repository, "rev-parse", "main") == before


RACE = """\
#!/bin/sh
# While the first push is under way somebody else commits.
[ -e raced ] && exit 0
: >raced
commit=$(GIT_AUTHOR_NAME=o GIT_AUTHOR_EMAIL=o@o GIT_COMMITTER_NAME=o GIT_COMMITTER_EMAIL=o@o \\
    env -u GIT_QUARANTINE_PATH git commit-tree 'main^{tree}' -p main -m other)
env -u GIT_QUARANTINE_PATH git update-ref refs/heads/main "$commit"
"""


def test_a_push_that_comes_too_late_is_made_again_on_what_is_there_now(job: Job, repository: Path) -> None:
    hook = repository / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(RACE)
    hook.chmod(0o755)
    done = bump(job, repository)
    assert done.returncode == 0, done.stderr
    assert (repository / "raced").exists()
    subjects = git(repository, "log", "--format=%s", "main").splitlines()
    assert subjects == ["chore: bump lumen-api to v1.1.0 [skip ci]", "other", "first"]


def test_a_push_that_is_always_refused_fails_with_git_s_words(job: Job, repository: Path) -> None:
    hook = repository / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho main is protected >&2\nexit 1\n")
    hook.chmod(0o755)
    done = bump(job, repository)
    assert done.returncode == 1
    assert "could not be pushed to main in 5 attempts" in done.stdout
    assert done.stderr.count("main is protected") == 5


def test_without_the_secret_it_says_so(job: Job, repository: Path) -> None:
    done = bump(job, repository, token="")
    assert done.returncode == 1
    assert "has no secret CI_TOKEN" in done.stdout


def test_a_manifest_that_cannot_be_edited_fails_the_step(job: Job, repository: Path, tmp_path: Path) -> None:
    work = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", str(repository), str(work))
    (work / MANIFEST).write_text(ROLLOUT.replace("name: lumen-api\n          image", "name: renamed\n          image"))
    git(work, "commit", "--quiet", "--all", "--message=rename")
    git(work, "push", "--quiet", "origin", "main")
    done = bump(job, repository)
    assert done.returncode == 1
    assert "the container lumen-api is not in this manifest" in done.stderr


def test_a_digest_is_pinned_when_asked_for(job: Job, repository: Path) -> None:
    digest = "sha256:" + "ab" * 32
    job.program("docker", f"printf 'other/x@sha256:00\\n192.168.2.2:5000/lumen-api@{digest}\\n\\n'")
    done = bump(job, repository, act_runner_pipeline_pin_digest=True)
    assert done.returncode == 0, done.stderr
    assert f"image: {NEW}@{digest}  # the release" in git(repository, "show", f"main:{MANIFEST}")
