# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A version by the pipeline, on a Gitea in memory whose runner a test plays."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.gitea import Gitea, Refused, Unreachable
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.pipeline import Pipeline, PipelineFailed, Wanted
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.gitea import TOKEN, URL, FakeGitea

HEAD, OTHER = "a" * 40, "b" * 40
MANIFEST = "manifests/app.yaml"
IMAGE = "r:5000/lumen-api:v1.1.0"
NAMES = ("test", "build-push", "release")


def manifest(image: str, replicas: int = 3) -> str:
    containers = f"[{{name: a, image: '{image}'}}]"
    return f"kind: Rollout\nspec: {{replicas: {replicas}, template: {{spec: {{containers: {containers}}}}}}}\n"


class Out:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def check(self) -> None:
        pass


class Site:
    """A Gitea whose pipeline takes some seconds for each job."""

    def __init__(self) -> None:
        self.gitea = FakeGitea()
        self.clock = FakeClock()
        self.out = Out()
        self.repository = self.gitea.repositories["lumen/lumen"]
        self.repository["commits"] = {HEAD: "feat: more\n", OTHER: "fix: less\n"}
        self.repository["heads"] = {"main": HEAD}
        self.gitea.tagged = self.start
        self.ends: dict[str, str] = {"test": "success", "build-push": "skipped", "release": "success"}

    def start(self, tag: str, sha: str) -> dict[str, Any]:
        number = len(self.repository["runs"]) + 1
        run = {
            "id": number,
            "run_number": number,
            "run_attempt": 1,
            "html_url": f"{URL}/lumen/lumen/actions/runs/{number}",
            "path": f"ci.yaml@refs/tags/{tag}",
            "head_sha": sha,
            "status": "queued",
        }
        self.repository["runs"].insert(0, run)
        self.play(run)
        return run

    def play(self, run: dict[str, Any]) -> None:
        """The jobs one after the other; between two of them the run looks completed for a moment."""
        jobs = [{"id": run["id"] * 10 + i, "name": name, "status": "blocked"} for i, name in enumerate(NAMES)]
        self.repository["jobs"][run["id"]] = jobs
        now = self.clock.monotonic()
        for place, job in enumerate(jobs):
            self.clock.at(now + 5 + 10 * place, lambda job=job: self._begin(run, job))
            self.clock.at(now + 12 + 10 * place, lambda job=job: self._end(run, job))

    def _begin(self, run: dict[str, Any], job: dict[str, Any]) -> None:
        run.update(status="in_progress", conclusion="")
        job.update(status="in_progress", runner_name="act-runner")

    def _end(self, run: dict[str, Any], job: dict[str, Any]) -> None:
        conclusion = self.ends[job["name"]]
        times = {"started_at": "2026-01-01T00:00:10Z", "completed_at": "2026-01-01T00:00:17Z"}
        steps = [{"number": 1, "name": "Do it", "status": "completed", "conclusion": conclusion, **times}]
        job.update(status="completed", conclusion=conclusion, steps=steps, **times)
        bad = conclusion == "failure"
        ended = [each.get("conclusion") for each in self.repository["jobs"][run["id"]]]
        run.update(status="completed", conclusion="failure" if "failure" in ended else "success", **times)
        if bad:
            self.repository["logs"][job["id"]] = (
                "2026-01-01T00:00:11Z go test ./...\n2026-01-01T00:00:12Z --- FAIL: TestHealth\n"
                "2026-01-01T00:00:13Z ❌  Failure - Main Test\n2026-01-01T00:00:14Z 🏁  Job failed\n"
            )
        if job["name"] == "release" and not bad:
            self.commit(manifest(IMAGE), "chore: bump a to v1.1.0")

    def commit(self, text: str, message: str) -> str:
        """The manifest on main. Returns the commit."""
        self.repository["branches"]["main"][MANIFEST] = text.encode()
        self.repository["messages"].append(message)
        name = f"{len(self.repository['messages']):040x}"
        self.repository["versions"][name] = {MANIFEST: text.encode()}
        return name

    def pipeline(self, **wanted: Any) -> Pipeline:
        gitea = Gitea(URL, token=TOKEN, session=self.gitea.session())
        return Pipeline(
            gitea, self.clock, self.out, Wanted(**{"owner": "lumen", "name": "lumen", "tag": "v1", **wanted})
        )


@pytest.fixture
def site() -> Site:
    return Site()


def test_from_the_tag_to_the_bump(site: Site) -> None:
    done = site.pipeline(manifest=MANIFEST, image=IMAGE).run()
    assert done["changed"]
    assert done["commit"] == HEAD
    assert done["run"] == {
        "id": 1,
        "url": f"{URL}/lumen/lumen/actions/runs/1",
        "attempt": 1,
        "conclusion": "success",
        "started_at": "2026-01-01T00:00:10Z",
        "completed_at": "2026-01-01T00:00:17Z",
    }
    assert [job["conclusion"] for job in done["jobs"]] == ["success", "skipped", "success"]
    assert done["bump"]["message"] == "chore: bump a to v1.1.0"
    assert site.out.lines == [
        "tag v1 → aaaaaaaaaa in lumen/lumen",
        f"run 1 of lumen/lumen: {URL}/lumen/lumen/actions/runs/1",
        "test waits for another job",
        "build-push waits for another job",
        "release waits for another job",
        "test runs on act-runner",
        "  test › Do it ✔ 7 s",
        "test ✔ 7 s",
        "build-push runs on act-runner",
        "build-push – 7 s",
        "release runs on act-runner",
        "  release › Do it ✔ 7 s",
        "release ✔ 7 s",
    ]


def test_a_second_call_starts_nothing(site: Site) -> None:
    site.pipeline().run()
    written = list(site.gitea.written)
    again = site.pipeline(manifest=MANIFEST, image=IMAGE).run()
    assert not again["changed"]
    assert again["bump"]["commit"]
    assert site.gitea.written == written


def test_a_run_in_progress_is_taken_up(site: Site) -> None:
    site.repository["tags"]["v1"] = {"sha": HEAD, "message": "feat: more"}
    site.start("v1", HEAD)
    done = site.pipeline().run()
    assert done["changed"]
    assert site.gitea.written == []


def test_a_job_that_fails_is_told_with_its_last_words(site: Site) -> None:
    site.ends = {"test": "failure", "build-push": "skipped", "release": "skipped"}
    with pytest.raises(PipelineFailed, match=r"job test ended in failure, step Do it: --- FAIL: TestHealth") as failed:
        site.pipeline().run()
    assert failed.value.details["log"] == ["go test ./...", "--- FAIL: TestHealth", "❌  Failure - Main Test"]
    assert failed.value.details["run"]["conclusion"] == "failure"
    assert "  | --- FAIL: TestHealth" in site.out.lines
    assert "running" not in failed.value.details


def test_what_failed_is_run_again_only_when_that_is_wanted(site: Site) -> None:
    site.ends = {"test": "failure", "build-push": "skipped", "release": "skipped"}
    for _again in range(2):
        with pytest.raises(PipelineFailed):
            site.pipeline().run()
    assert len(site.gitea.written) == 1
    site.ends = {"test": "success", "build-push": "skipped", "release": "success"}
    run = site.repository["runs"][0]
    site.clock.at(site.clock.monotonic() + 2, lambda: site.play(run))
    done = site.pipeline(retry=True).run()
    assert done["run"]["attempt"] == 2
    assert done["run"]["conclusion"] == "success"


def test_a_tag_that_would_start_nothing_is_not_made(site: Site) -> None:
    site.repository["commits"][HEAD] = "chore: bump [skip ci]"
    for call in (site.pipeline().run, site.pipeline().preview):
        with pytest.raises(AirgapError, match=r"chore: bump \[skip ci\]\), so the tag v1 on it starts none") as caught:
            call()
        assert "-e target=<commit>" in caught.value.message
        assert "by hand" not in caught.value.message  # its input would be this tag
    assert site.gitea.written == []
    site.repository["tags"]["v1"] = {"sha": HEAD, "message": "chore: bump [skip ci]"}
    with pytest.raises(AirgapError, match="Start the pipeline by hand, with this tag as its ref and its input"):
        site.pipeline().run()


def test_a_tag_of_another_commit_is_refused(site: Site) -> None:
    site.repository["tags"]["v1"] = {"sha": OTHER, "message": "fix: less"}
    with pytest.raises(AirgapError, match="is on the commit bbbbbbbbbb already, not on aaaa"):
        site.pipeline(target=HEAD).run()


def test_a_branch_that_has_moved_on_since_its_tag_is_taken_up(site: Site) -> None:
    Gitea(URL, token=TOKEN, session=site.gitea.session()).create_tag("lumen", "lumen", "v1", OTHER, "")
    assert site.pipeline(target="release-1.x").preview()["commit"] == OTHER
    assert site.pipeline(target=OTHER.upper()).preview()["commit"] == OTHER


def test_a_tag_that_starts_no_run_is_not_waited_for_long(site: Site) -> None:
    site.gitea.tagged = lambda name, sha: None
    with pytest.raises(AirgapError, match="has started no run within 20 s") as late:
        site.pipeline(start_deadline=20.0).run()
    assert late.value.details["running"] is True  # a busy Gitea may start it yet
    assert 20 <= site.clock.monotonic() < 23


def test_a_tag_from_before_that_has_no_run_is_refused_before_anything_waits_for_it(site: Site) -> None:
    site.gitea.tagged = lambda name, sha: None
    site.repository["tags"]["v1"] = {"sha": OTHER, "message": "fix: less"}
    with pytest.raises(AirgapError, match=r"on the commit bbbbbbbbbb, and has started no run\. .* another version"):
        site.pipeline(start_deadline=60.0).preview()
    # One that a killed run has just made is given the time to have one.
    assert 15 <= site.clock.monotonic() < 18


def test_a_run_that_takes_too_long_says_what_was_seen_last(site: Site) -> None:
    with pytest.raises(
        PipelineFailed, match=r"not done after 10 s; last seen: test: in_progress, build-push: blocked"
    ) as late:
        site.pipeline(deadline=10.0).run()
    assert late.value.details["running"] is True  # it bumps the manifest at its end, and somebody has to look


def test_a_gitea_that_is_away_for_a_minute_is_waited_for(site: Site) -> None:
    site.gitea.break_with("GET", "/actions/runs/1$", requests.exceptions.ConnectionError("gone"), times=12)
    assert site.pipeline().run()["run"]["conclusion"] == "success"
    assert len([line for line in site.out.lines if "does not answer" in line]) == 1


def test_a_gitea_that_stays_away_and_one_that_refuses_end_it(site: Site) -> None:
    site.gitea.break_with("GET", "/actions/runs/1$", (503, {"message": "no"}))
    with pytest.raises(Unreachable) as away:
        site.pipeline(deadline=60.0).run()
    assert away.value.details["running"] is True
    site.gitea.break_with("GET", "/jobs$", (403, {"message": "no"}))
    with pytest.raises(Refused):
        site.pipeline().run()


@pytest.mark.parametrize(("method", "path"), [("GET", "/tags/"), ("POST", "/tags$"), ("GET", "/contents/")])
def test_who_cannot_ask_gitea_does_not_claim_that_nothing_runs(site: Site, method: str, path: str) -> None:
    site.gitea.break_with(method, path, (503, {"message": "no"}))
    with pytest.raises(Unreachable) as away:
        site.pipeline(manifest=MANIFEST, image=IMAGE).run()
    assert away.value.details["running"] is True


def test_a_gitea_that_restarts_before_the_tag_and_behind_the_run_is_waited_for(site: Site) -> None:
    gone = requests.exceptions.ConnectionError("gone")
    for path in ("/tags/", "/contents/"):
        site.gitea.break_with("GET", path, gone, times=12)
    assert site.pipeline(manifest=MANIFEST, image=IMAGE).run()["bump"]["commit"]


def test_a_manifest_that_names_another_version_is_said(site: Site) -> None:
    with pytest.raises(AirgapError, match=r"does not name r:5000/lumen-api:v9.9.9 after its pipeline, but r:5000"):
        site.pipeline(manifest=MANIFEST, image="r:5000/lumen-api:v9.9.9").run()


def test_what_somebody_pushes_right_after_the_bump_is_not_the_bump(site: Site) -> None:
    site.commit(manifest("r:5000/lumen-api:v1.0.0"), "chore: bump a to v1.0.0")
    site.pipeline().run()
    site.commit(manifest(IMAGE, replicas=5), "feat: more replicas")
    site.commit(manifest(IMAGE, replicas=6), "feat: one more")
    done = site.pipeline(manifest=MANIFEST, image=IMAGE).run()
    assert done["bump"] == {"commit": f"{2:040x}", "message": "chore: bump a to v1.1.0"}


def test_a_bump_of_long_ago_is_not_looked_for(site: Site) -> None:
    site.pipeline().run()
    for replicas in range(10, 20):
        site.commit(manifest(IMAGE, replicas), f"feat: {replicas}")
    before = len(site.gitea.requests)
    assert site.pipeline(manifest=MANIFEST, image=IMAGE).run()["bump"] == {}
    assert len(site.gitea.requests) - before < 20


def test_what_was_no_manifest_before_did_not_name_the_image(site: Site) -> None:
    site.commit("a: [", "oops")
    site.pipeline().run()
    assert site.pipeline(manifest=MANIFEST, image=IMAGE).run()["bump"]["commit"] == f"{2:040x}"


def test_a_pinned_image_is_the_same_image(site: Site) -> None:
    done = site.pipeline()
    done.run()
    files = site.repository["branches"]["main"]
    files[MANIFEST] = files[MANIFEST].replace(IMAGE.encode(), f"{IMAGE}@sha256:{'c' * 64}".encode())
    assert site.pipeline(manifest=MANIFEST, image=IMAGE).run()["bump"]["commit"]


def test_check_mode_tags_nothing(site: Site) -> None:
    seen = site.pipeline().preview()
    assert (seen["changed"], seen["commit"]) == (True, HEAD)
    assert site.gitea.written == []


# -- until nothing goes on ---------------------------------------------------------------------------------------------


def test_a_run_that_goes_on_is_waited_for_and_its_end_is_not_judged(site: Site) -> None:
    site.ends["test"] = "failure"
    Gitea(URL, token=TOKEN, session=site.gitea.session()).create_tag("lumen", "lumen", "v1", HEAD, "")
    tags = len([asked for asked in site.gitea.requests if asked[0] == "POST"])
    done = site.pipeline().settle()
    assert done["run"]["conclusion"] == "failure"
    assert not done["changed"]
    assert all(job["conclusion"] for job in done["jobs"])
    assert len([asked for asked in site.gitea.requests if asked[0] == "POST"]) == tags


def test_without_a_tag_or_a_run_nothing_goes_on(site: Site) -> None:
    assert site.pipeline().settle()["commit"] == ""
    site.gitea.tagged = lambda tag, sha: None
    Gitea(URL, token=TOKEN, session=site.gitea.session()).create_tag("lumen", "lumen", "v1", HEAD, "")
    before = site.clock.monotonic()
    done = site.pipeline(start_deadline=30).settle()
    assert (done["commit"], done["run"]) == (HEAD, {})
    assert site.clock.monotonic() - before >= 30


def test_a_run_that_does_not_end_in_time_goes_on(site: Site) -> None:
    Gitea(URL, token=TOKEN, session=site.gitea.session()).create_tag("lumen", "lumen", "v1", HEAD, "")
    with pytest.raises(PipelineFailed, match="not done after 3 s") as caught:
        site.pipeline(deadline=3).settle()
    assert caught.value.details["running"]


def test_who_only_looks_waits_for_nothing(site: Site) -> None:
    Gitea(URL, token=TOKEN, session=site.gitea.session()).create_tag("lumen", "lumen", "v1", HEAD, "")
    before = site.clock.monotonic()
    assert site.pipeline().settle(wait=False)["run"]["id"] == 1
    assert site.clock.monotonic() == before


def test_who_may_not_ask_does_not_know_that_nothing_goes_on(site: Site) -> None:
    site.gitea.owners.clear()
    with pytest.raises(AirgapError) as caught:
        site.pipeline().settle()
    assert caught.value.details["running"]
