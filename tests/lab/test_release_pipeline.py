# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A release whose image the site's own pipeline makes, killed while that pipeline works: given up, or run again."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from .plays import Plays
from .release_site import until_healthy
from .test_release_faults import AWAY, gitea_away, scale_gitea
from .test_site import URL, gitea, in_git, kubectl_json, next_version, run_of, token, wait

#: It releases what the site itself is made of, by the site's only runner.
pytestmark = pytest.mark.alone


@pytest.fixture
def plays() -> Iterator[Plays]:
    plays = Plays(["-i", "inventories/lab"])
    yield plays
    plays.kill_all()


def test_aborted_while_its_pipeline_works_it_is_not_brought_out_afterwards(plays: Plays) -> None:
    before, version = in_git(), next_version()
    plays.must_play("lab/playbooks/demo-version.yml", version=version, error_rate="0")
    release = plays.start("playbooks/release.yml", version=version)
    assert release.until(r"^run \d+ of lumen/lumen", deadline=180), release.text[-6000:]
    release.kill()
    assert run_of(version)["status"] != "completed"

    output = plays.must_play("playbooks/abort.yml", deadline=500)

    run, record = run_of(version), journal()
    assert (record["version"], record["outcome"]) == (version, "failed"), output[-6000:]
    assert "aborted by hand" in record["reason"]
    # What the pipeline has pushed at its end was there to be taken back.
    assert (run["status"], run["conclusion"]) == ("completed", "success")
    assert run["completed_at"] <= record["finished_at"]
    assert in_git() == before
    rollout = kubectl_json("get", "rollout", "lumen-api", "-n", "lumen")
    assert rollout["spec"]["template"]["spec"]["containers"][0]["image"] == before
    assert rollout["status"]["stableRS"] == rollout["status"]["currentPodHash"]
    assert kubectl_json("get", "lease", "lumen-api-release", "-n", "lumen")["spec"].get("holderIdentity") is None


def test_killed_while_its_pipeline_works_and_run_again_it_is_promoted(plays: Plays) -> None:
    version = next_version()
    plays.must_play("lab/playbooks/demo-version.yml", version=version, error_rate="0")
    release = plays.start("playbooks/release.yml", version=version)
    assert release.until(r"^run \d+ of lumen/lumen", deadline=180), release.text[-6000:]
    release.kill()

    output = plays.must_play("playbooks/release.yml", deadline=500, version=version)

    assert f"run {run_of(version)['run_number']} of lumen/lumen" in output
    assert (journal()["version"], journal()["outcome"]) == (version, "promoted"), output[-6000:]
    assert in_git().endswith(f":{version}")
    rollout = kubectl_json("get", "rollout", "lumen-api", "-n", "lumen")
    assert rollout["status"]["stableRS"] == rollout["status"]["currentPodHash"]


def test_gitea_is_away_while_the_pipeline_makes_its_image_and_back_for_its_bump(plays: Plays) -> None:
    """The job goes on without it, and its bump waits."""
    version = next_version()
    plays.must_play("lab/playbooks/demo-version.yml", version=version, error_rate="0")
    release = plays.start("playbooks/release.yml", version=version)
    back = threading.Timer(AWAY, scale_gitea, [1])
    try:
        assert release.until(r"^run \d+ of lumen/lumen", deadline=180), release.text[-6000:]
        begun = functools.partial(step, version, "release", "Build")
        wait(f"the build of {version}", begun, functools.partial(run_of, version), 120)
        scale_gitea(0)
        back.start()
        code, output = release.end()
    finally:
        back.cancel()
        scale_gitea(1)
        until_healthy("Gitea", gitea_away)

    assert code == 0, output[-6000:]
    # Its clone was refused, and made again: otherwise the bump has not met what this is about.
    assert "unable to access" in log(version, "release")
    assert (journal()["version"], journal()["outcome"]) == (version, "promoted"), output[-6000:]
    assert in_git().endswith(f":{version}")
    assert run_of(version)["conclusion"] == "success"


def step(version: str, job: str, name: str) -> bool:
    """Whether this step of its run has begun."""
    steps = job_of(version, job).get("steps") or []
    # One that has not begun has begun in 1970.
    return any(each["name"] == name and not each["started_at"].startswith("1970") for each in steps)


def job_of(version: str, name: str) -> dict[str, Any]:
    """A job of its run; empty while there is none."""
    number = run_of(version).get("id")
    jobs = gitea("GET", f"actions/runs/{number}/jobs")["jobs"] if number else []
    return next((each for each in jobs if each["name"] == name), {})


def log(version: str, job: str) -> str:
    """What a job of its run has said."""
    url = f"{URL}/api/v1/repos/lumen/lumen/actions/jobs/{job_of(version, job)['id']}/logs"
    return requests.get(url, headers={"Authorization": f"token {token()}"}, timeout=20).text


def journal() -> dict[str, Any]:
    """The newest release of the app."""
    data = kubectl_json("get", "configmap", "lumen-api-release", "-n", "lumen")["data"]
    current: dict[str, Any] = json.loads(data["journal"])["current"]
    return current
