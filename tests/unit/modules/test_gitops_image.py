# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module gitops_image on a repository in a directory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import git
from ansible_collections.lumen.airgap.plugins.module_utils.entry import Task
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.options import check_ranges
from ansible_collections.lumen.airgap.plugins.modules import gitops_image as module
from ansible_collections.lumen.airgap.plugins.plugin_utils.streaming import ParentGone
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.git import Origin
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run

PATH = "manifests/app/03-lumen-api.yaml"
OLD, NEW, NEWER = (f"192.168.2.2:5000/lumen-api:v1.{minor}.0" for minor in range(3))
MANIFEST = f"""# the app
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: lumen-api}}
spec:
  template:
    spec:
      containers:
        - name: lumen-api
          image: "{OLD}"   # bumped by the pipeline\r
        - {{name: side, image: 'busybox:1'}}
"""
WORKFLOW = """on:
  push:
    branches: [main]
    tags: ['v*']
    paths: ['app/**']
jobs: {}
"""


class Site:
    """The module and its repository."""

    def __init__(self, directory: Path, workflow: str = WORKFLOW) -> None:
        self.origin = Origin(directory, {PATH: MANIFEST, ".gitea/workflows/ci.yaml": workflow, "app/main.go": "x"})
        self.clock = FakeClock()
        self.check: Callable[[], None] = lambda: None
        self._directory = directory
        self._runs = 0

    def __call__(self, dry_run: bool = False, **params: Any) -> dict[str, Any]:
        self._runs += 1
        directory = self._directory / f"run-{self._runs}"
        directory.mkdir()
        defaults = {name: copy.deepcopy(option.get("default")) for name, option in module.ARGUMENT_SPEC.items()}
        author = {"name": "lumen-ci", "email": "lumen-ci@noreply.invalid"}
        given = {**defaults, "author": author, "repo": self.origin.url, "path": PATH, **params}
        check_ranges(given, module.RANGES)
        return module.gitops_image(given, str(directory), self.clock, dry_run, self.check)

    def revert(self, commit: str, **params: Any) -> dict[str, Any]:
        return self(state="reverted", commit=commit, **params)

    def revert_image(self, image: str, **params: Any) -> dict[str, Any]:
        return self(state="reverted", image=image, **params)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_one_scalar_is_changed_by_a_commit_of_its_own(site: Site) -> None:
    before = site.origin.head
    done = site(image=NEW, container="lumen-api")
    assert done["changed"]
    assert done["attempts"] == 1
    assert site.origin.head == done["commit"] != before
    assert site.origin.text(PATH) == MANIFEST.replace(OLD, NEW)
    assert site.origin.git("rev-parse", "main^", at=site.origin.path) == before
    who = site.origin.git("log", "-1", "--format=%an %ae %cn %ce", at=site.origin.path)
    assert who == "lumen-ci lumen-ci@noreply.invalid lumen-ci lumen-ci@noreply.invalid"
    assert site.origin.git("diff-tree", "-r", "--name-only", "main^", "main", at=site.origin.path) == PATH
    assert [change["after"] for change in done["changes"]] == [NEW]
    assert done["diff"]["before"] == MANIFEST


def test_a_second_run_commits_nothing(site: Site) -> None:
    first = site(image=NEW)
    second = site(image=NEW)
    assert (second["changed"], second["commit"], second["message"]) == (False, first["commit"], "")


def test_check_mode_shows_the_change_and_pushes_nothing(site: Site) -> None:
    before = site.origin.head
    done = site(dry_run=True, image=NEW)
    assert done["changed"]
    assert done["commit"] == before == site.origin.head
    assert done["diff"]["after"] == MANIFEST.replace(OLD, NEW)


def test_a_digest_is_pinned(site: Site) -> None:
    digest = f"sha256:{'ab' * 32}"
    site(image=NEW, digest=digest)
    assert f'"{NEW}@{digest}"' in site.origin.text(PATH)


def test_the_mode_of_the_file_stays(site: Site) -> None:
    site.origin.git("update-index", "--chmod=+x", PATH)
    site.origin.git("commit", "--quiet", "--message", "executable")
    site.origin.git("push", "--quiet", "origin", "HEAD:main")
    site(image=NEW)
    assert site.origin.git("ls-tree", "main", PATH, at=site.origin.path).startswith("100755")


# -- the marker ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workflow", "skip_ci", "marked"),
    [
        (WORKFLOW, "auto", False),
        (WORKFLOW, "always", True),
        (WORKFLOW.replace("'app/**'", "'**'"), "auto", True),
        (WORKFLOW.replace("'app/**'", "'**'"), "never", False),
        ("on: push", "auto", True),
        ("on: pull_request", "auto", False),
        ("on: {schedule: [{cron: '1 1 * * *'}]}", "auto", False),
        ("this: [is no yaml", "auto", True),
    ],
)
def test_the_marker_is_there_only_where_a_run_would_start(
    tmp_path: Path, workflow: str, skip_ci: str, marked: bool
) -> None:
    site = Site(tmp_path, workflow)
    site(image=NEW, skip_ci=skip_ci)
    assert ("[skip ci]" in site.origin.message()) is marked


def test_a_repository_without_workflows_needs_no_marker(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.origin.git("rm", "--quiet", ".gitea/workflows/ci.yaml")
    site.origin.git("commit", "--quiet", "--message", "no workflow")
    site.origin.git("push", "--quiet", "origin", "HEAD:main")
    assert site(image=NEW)["message"] == "chore: bump lumen-api to v1.1.0"


# -- others who push -------------------------------------------------------------------------------------------------


def before_push(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], times: int = 1) -> None:
    """Somebody acts between our fetch and our push."""
    push = git.Repository.push
    rest = [act] * times

    def late(self: git.Repository, commit: str, branch: str) -> None:
        if rest:
            rest.pop()()
        push(self, commit, branch)

    monkeypatch.setattr(git.Repository, "push", late)


def test_when_somebody_was_faster_the_change_is_made_again_on_theirs(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = MANIFEST.replace("busybox:1", "busybox:2")
    before_push(monkeypatch, lambda: site.origin.push({PATH: theirs}, "theirs"))
    done = site(image=NEW)
    assert done["attempts"] == 2
    assert site.origin.text(PATH) == theirs.replace(OLD, NEW)


def test_when_somebody_made_the_same_change_there_is_none_of_ours(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before_push(monkeypatch, lambda: site.origin.push({PATH: MANIFEST.replace(OLD, NEW)}, "theirs"))
    done = site(image=NEW)
    assert not done["changed"]
    assert site.origin.message() == "theirs"


def test_it_gives_up_after_the_attempts_it_was_given(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    number = iter(range(100))
    before_push(monkeypatch, lambda: site.origin.push({"other": str(next(number))}, "theirs"), times=100)
    with pytest.raises(git.Rejected, match=r"Somebody else pushed .* \(tried 3 times\)"):
        site(image=NEW, attempts=3)
    assert site.origin.text(PATH) == MANIFEST


def test_a_push_whose_answer_was_lost_has_arrived(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    push = git.Repository.push

    def lost(self: git.Repository, commit: str, branch: str) -> None:
        push(self, commit, branch)
        site.origin.push({"other": "later"}, "somebody is upon it already")
        raise git.RemoteAway("the connection broke")

    monkeypatch.setattr(git.Repository, "push", lost)
    done = site(image=NEW)
    assert done["changed"]
    assert done["commit"] == site.origin.git("rev-parse", "main^", at=site.origin.path)


# -- a server that is away -------------------------------------------------------------------------------------------


def away(monkeypatch: pytest.MonkeyPatch, site: Site, until: float, error: type[git.GitError] = git.RemoteAway) -> None:
    """Nothing can be fetched until so many seconds after the start."""
    fetch = git.Repository.fetch

    def late(self: git.Repository, branch: str, history: bool = False) -> str:
        if site.clock.monotonic() < until:
            raise error("the server does not answer")
        return fetch(self, branch, history)

    monkeypatch.setattr(git.Repository, "fetch", late)


def test_a_server_that_is_away_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    away(monkeypatch, site, until=90)
    bump = site(image=NEW, wait=120.0, attempts=1)
    assert bump["changed"]
    assert bump["attempts"] > 5
    assert 90 <= site.clock.monotonic() < 100
    away(monkeypatch, site, until=site.clock.monotonic() + 90)
    assert site.revert(bump["commit"], wait=120.0)["changed"]
    assert site.origin.text(PATH) == MANIFEST


def test_it_is_not_waited_for_longer_than_was_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    away(monkeypatch, site, until=1000)
    with pytest.raises(git.RemoteAway, match=r"does not answer \(tried \d+ times within 60 s\)"):
        site(image=NEW, wait=60.0)
    assert 60 <= site.clock.monotonic() <= 65


def test_without_a_time_to_wait_it_is_tried_as_often_as_was_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    away(monkeypatch, site, until=1000)
    with pytest.raises(git.RemoteAway, match=r"\(tried 3 times\)"):
        site(image=NEW, attempts=3)
    assert site.clock.monotonic() == 3


@pytest.mark.parametrize("error", [git.AccessDenied, git.BranchProtected, git.BranchMissing, git.CertificateRefused])
def test_what_the_server_refuses_is_not_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: type[git.GitError]
) -> None:
    away(monkeypatch, site, until=1000, error=error)
    with pytest.raises(error):
        site(image=NEW, wait=60.0)
    assert site.clock.monotonic() == 0


# -- an ansible-playbook that is gone ----------------------------------------------------------------------------------


def test_an_orphan_does_not_bump_when_the_server_is_back(
    site: Site, monkeypatch: pytest.MonkeyPatch, stream: FakeStream
) -> None:
    away(monkeypatch, site, until=60)
    site.check = stream.check
    site.clock.at(30, stream.die)
    before = site.origin.head
    with pytest.raises(ParentGone):
        site(image=NEW, wait=120.0)
    assert site.origin.head == before


def test_an_orphan_does_not_push_what_it_has_prepared(
    site: Site, monkeypatch: pytest.MonkeyPatch, stream: FakeStream
) -> None:
    commit = git.Repository.commit

    def last(self: git.Repository, *args: Any) -> str:
        made = commit(self, *args)
        stream.die()
        return made

    monkeypatch.setattr(git.Repository, "commit", last)
    site.check = stream.check
    before = site.origin.head
    with pytest.raises(ParentGone):
        site(image=NEW)
    assert site.origin.head == before


def test_the_action_passes_on_whether_its_parent_lives(site: Site, stream: FakeStream, tmp_path: Path) -> None:
    defaults = {name: copy.deepcopy(option.get("default")) for name, option in module.ARGUMENT_SPEC.items()}
    author = {"name": "lumen-ci", "email": "lumen-ci@noreply.invalid"}
    given = {**defaults, "author": author, "repo": site.origin.url, "path": PATH, "image": NEW}
    stream.die()
    with pytest.raises(ParentGone):
        module.work(Task(given, False, stream.line, lambda: nullcontext(str(tmp_path)), stream.line, stream.check))


# -- reverting ---------------------------------------------------------------------------------------------------------


def test_exactly_that_commit_is_undone_also_when_others_came_after_it(site: Site) -> None:
    bump = site(image=NEW)["commit"]
    site.origin.push({"other": "y", PATH: site.origin.text(PATH).replace("# the app", "# our app")}, "later")
    done = site.revert(bump[:12])
    assert done["changed"]
    assert done["commit"] == site.origin.head
    assert site.origin.text(PATH) == MANIFEST.replace("# the app", "# our app")
    assert site.origin.text("other") == "y"
    assert site.origin.message() == f"revert: lumen-api back to v1.0.0 from v1.1.0, undoing {bump[:10]}"


def test_a_revert_repeats_no_marker(site: Site) -> None:
    bump = site(image=NEW, skip_ci="always")["commit"]
    site.revert(bump)
    assert "skip ci" not in site.origin.message()


def test_a_second_revert_changes_nothing(site: Site) -> None:
    bump = site(image=NEW)["commit"]
    site.revert(bump)
    assert not site.revert(bump)["changed"]


def test_a_revert_is_refused_when_the_image_has_moved_on(site: Site) -> None:
    bump = site(image=NEW)["commit"]
    newer = site(image=NEWER)["commit"]
    with pytest.raises(AirgapError, match=r"has .*v1.2.0 now, not .*v1.1.0 .* moved on since"):
        site.revert(bump)
    assert site.origin.head == newer


def test_a_revert_is_made_again_when_somebody_was_faster(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bump = site(image=NEW)["commit"]
    before_push(monkeypatch, lambda: site.origin.push({"other": "z"}, "theirs"))
    assert site.revert(bump)["attempts"] == 2
    assert site.origin.text(PATH) == MANIFEST


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({PATH: MANIFEST.replace(OLD, NEW), "other": "x"}, "did not change .* alone, but"),
        ({PATH: MANIFEST.replace(OLD, NEW).replace("the app", "an app")}, "changed more of .* than images"),
        ({PATH: MANIFEST.replace("the app", "an app")}, "changed more of .* than images"),
        ({"other": "x"}, "did not change"),
    ],
)
def test_what_is_no_bump_is_not_reverted(site: Site, files: dict[str, str], why: str) -> None:
    commit = site.origin.push(files, "by hand")
    with pytest.raises(AirgapError, match=why):
        site.revert(commit)


def test_a_commit_that_made_the_file_is_not_reverted(site: Site) -> None:
    commit = site.origin.push({"new.yaml": MANIFEST}, "by hand")
    with pytest.raises(AirgapError, match="made the file"):
        site.revert(commit, path="new.yaml")


def test_a_merge_is_not_reverted(site: Site) -> None:
    merge = site.origin.merge([{"a": "x"}], {"b": "x"}, {PATH: MANIFEST.replace(OLD, NEW)})
    with pytest.raises(AirgapError, match="is a merge"):
        site.revert(merge)


def test_a_commit_of_elsewhere_is_not_reverted(site: Site) -> None:
    with pytest.raises(AirgapError, match="has no commit abcdef0"):
        site.revert("abcdef0")


# -- reverting what brought an image -----------------------------------------------------------------------------------


def pinned(image: str) -> str:
    return f"{image}@sha256:{'ab' * 32}"


def test_the_commit_that_brought_an_image_is_found_and_undone(site: Site) -> None:
    bump = site(image=NEW, skip_ci="always")["commit"]
    site.origin.push({"other": "y"}, "later, elsewhere")
    later = site.origin.text(PATH).replace("# the app", "# our app").replace("busybox:1", "busybox:2")
    site.origin.push({PATH: later}, "later, in other lines")
    done = site.revert_image(NEW, container="lumen-api")
    assert (done["changed"], done["undone"], done["commit"]) == (True, bump, site.origin.head)
    assert done["images"] == [OLD]
    assert site.origin.text(PATH) == later.replace(NEW, OLD)
    assert site.origin.message() == f"revert: lumen-api back to v1.0.0 from v1.1.0, undoing {bump[:10]}"


def test_an_image_that_is_not_named_has_nothing_to_take_back(site: Site) -> None:
    bump = site(image=NEW)["commit"]
    for image in (NEWER, "192.168.2.2:5000/another:v1.1.0"):
        done = site.revert_image(image, container="lumen-api")
        assert (done["changed"], done["undone"], done["commit"], done["message"]) == (False, "", bump, "")
        assert done["images"] == [NEW]


def test_taken_back_once_it_is_not_taken_back_again(site: Site) -> None:
    site(image=NEW)
    reverted = site.revert_image(NEW)["commit"]
    again = site.revert_image(NEW)
    assert (again["changed"], again["undone"], site.origin.head) == (False, "", reverted)


def test_check_mode_says_what_would_be_undone(site: Site) -> None:
    bump = site(image=NEW)["commit"]
    done = site.revert_image(NEW, dry_run=True)
    assert (done["changed"], done["undone"], done["commit"]) == (True, bump, bump)
    assert done["diff"]["after"] == MANIFEST
    assert site.origin.head == bump


def test_a_digest_in_the_manifest_is_compared_only_when_one_is_given(site: Site) -> None:
    bump = site(image=NEW, digest=f"sha256:{'ab' * 32}")["commit"]
    assert not site.revert_image(NEW, digest=f"sha256:{'cd' * 32}")["changed"]
    assert site.revert_image(NEW, dry_run=True, digest=f"sha256:{'ab' * 32}")["undone"] == bump
    assert site.revert_image(NEW)["undone"] == bump
    assert site.origin.text(PATH) == MANIFEST


def test_of_several_commits_that_brought_it_the_newest_is_undone(site: Site) -> None:
    site(image=NEW)
    site.revert_image(NEW)
    newest = site(image=NEW)["commit"]
    assert site.revert_image(NEW)["undone"] == newest


def test_the_image_before_is_what_was_there_and_not_the_last_but_one_version(site: Site) -> None:
    site(image=NEWER)
    site(image=NEW)
    site.revert_image(NEW)
    assert site.origin.text(PATH) == MANIFEST.replace(OLD, NEWER)


def test_the_commit_is_found_behind_a_merge(site: Site) -> None:
    other = MANIFEST.replace("# the app", "# our app")
    site.origin.merge([{PATH: MANIFEST.replace(OLD, NEW)}], {PATH: other})
    bump = site.origin.git("rev-parse", "main^2", at=site.origin.path)
    assert site.revert_image(NEW)["undone"] == bump
    assert site.origin.text(PATH) == other


def test_a_side_that_had_it_once_and_gave_it_up_did_not_bring_it(site: Site) -> None:
    bump, commented = MANIFEST.replace(OLD, NEW), MANIFEST.replace("# the app", "# our app")
    site.origin.merge([{PATH: bump}, {PATH: commented}], {PATH: bump})
    ours = site.origin.git("rev-parse", "main^1", at=site.origin.path)
    assert site.revert_image(NEW)["undone"] == ours
    assert site.origin.text(PATH) == commented


def test_a_file_that_was_no_manifest_once_did_not_have_it(site: Site) -> None:
    site.origin.push({PATH: f"a: [{NEW}"}, "broken")
    site.origin.push({PATH: MANIFEST.replace(OLD, NEW)}, "mended")
    with pytest.raises(AirgapError, match=r"changed more of .* than images"):
        site.revert_image(NEW)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({PATH: MANIFEST.replace(OLD, NEW), "other": "x"}, "did not change .* alone, but .*other"),
        ({PATH: MANIFEST.replace(OLD, NEW).replace("the app", "an app")}, "changed more of .* than images"),
        (
            {PATH: MANIFEST.replace(OLD, NEW).replace("name: lumen-api}", "name: api}")},
            "changed more of .* than images",
        ),
    ],
)
def test_an_image_that_came_with_other_changes_is_not_taken_back(site: Site, files: dict[str, str], why: str) -> None:
    head = site.origin.push(files, "by hand")
    with pytest.raises(AirgapError, match=why):
        site.revert_image(NEW)
    assert site.origin.head == head


def test_an_image_that_came_with_the_file_is_not_taken_back(site: Site) -> None:
    with pytest.raises(AirgapError, match=r"made the file .*: there is no image before it"):
        site.revert_image(OLD)


def test_an_image_that_came_with_a_merge_is_not_taken_back(site: Site) -> None:
    site.origin.merge([{"a": "x"}], {"b": "x"}, {PATH: MANIFEST.replace(OLD, NEW)})
    with pytest.raises(AirgapError, match="is a merge"):
        site.revert_image(NEW)


def test_an_image_that_was_pinned_later_has_moved_on(site: Site) -> None:
    site(image=NEW)
    site.origin.push({PATH: MANIFEST.replace(OLD, pinned(NEW))}, "pinned")
    with pytest.raises(AirgapError, match="moved on since"):
        site.revert_image(NEW)


def test_two_places_that_got_it_from_two_commits_are_told_apart(site: Site) -> None:
    site.origin.push({PATH: MANIFEST.replace("busybox:1", OLD)}, "the same image twice")
    first = site(image=NEW, container="lumen-api")["commit"]
    site(image=NEW, container="side")
    with pytest.raises(AirgapError, match=r"several commits brought .*container lumen-api by .*container side by"):
        site.revert_image(NEW)
    assert site.revert_image(NEW, container="lumen-api")["undone"] == first


def test_a_container_that_is_not_there_is_no_success(site: Site) -> None:
    with pytest.raises(AirgapError, match="container nobody is not in this manifest"):
        site.revert_image(NEW, container="nobody")


def test_it_is_taken_back_again_when_somebody_was_faster(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bump = site(image=NEW)["commit"]
    before_push(monkeypatch, lambda: site.origin.push({"other": "z"}, "theirs"))
    done = site.revert_image(NEW)
    assert (done["attempts"], done["undone"]) == (2, bump)
    assert site.origin.text(PATH) == MANIFEST


def test_nothing_is_left_when_somebody_took_it_back_meanwhile(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site(image=NEW)
    before_push(monkeypatch, lambda: site.origin.push({PATH: MANIFEST}, "theirs"))
    done = site.revert_image(NEW)
    assert (done["changed"], done["undone"], site.origin.message()) == (False, "", "theirs")


def test_a_lost_answer_still_says_what_was_undone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bump = site(image=NEW)["commit"]
    push = git.Repository.push

    def lost(self: git.Repository, commit: str, branch: str) -> None:
        push(self, commit, branch)
        raise git.RemoteAway("the connection broke")

    monkeypatch.setattr(git.Repository, "push", lost)
    done = site.revert_image(NEW)
    assert (done["changed"], done["undone"], done["commit"]) == (True, bump, site.origin.head)


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_the_branch_and_the_file_have_to_be_there(site: Site) -> None:
    with pytest.raises(git.BranchMissing, match="no such branch"):
        site(image=NEW, branch="nothing")
    with pytest.raises(git.GitError, match=r"There is no nowhere.yaml on the branch main"):
        site(image=NEW, path="nowhere.yaml")
    with pytest.raises(git.RepositoryMissing):
        site(image=NEW, repo=f"{site.origin.url}-not")


def test_a_symbolic_link_is_not_followed(site: Site, tmp_path: Path) -> None:
    (tmp_path / "clone" / "link.yaml").symlink_to("/etc/passwd")
    site.origin.push({}, "a link")
    with pytest.raises(git.GitError, match="is no file: its mode is 120000"):
        site(image=NEW, path="link.yaml")


def test_the_manifest_says_what_it_has(site: Site) -> None:
    with pytest.raises(AirgapError, match=r"03-lumen-api.yaml on the branch main: .*container nobody"):
        site(image=NEW, container="nobody")


def test_a_protected_branch_is_told_from_a_rejected_push(site: Site) -> None:
    site.origin.hook("pre-receive", "echo 'Not allowed to push to protected branch main' >&2; exit 1")
    with pytest.raises(git.BranchProtected, match=r"is protected, or a hook .* protected branch main"):
        site(image=NEW)
    assert site.clock.monotonic() == 0


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"repo": "https://u:secret@gitea/x.git"}, "login in it"),
        ({"repo": "http://token@gitea/x.git"}, "login in it"),
        ({"repo": "ext::sh -c date"}, "is no repository"),
        ({"repo": "--upload-pack=date"}, "is no repository"),
        ({"repo": "/srv/git"}, "is no repository"),
        ({"path": "../x"}, "without .. in it"),
        ({"path": "/etc/passwd"}, "without .. in it"),
        ({"branch": "-x"}, "name of a branch"),
        ({"commit": "main"}, "a commit"),
        ({"timeout": 0.0}, "more than 0"),
        ({"attempts": 0}, "from 1 to 100"),
    ],
)
def test_what_makes_no_sense_is_refused(site: Site, params: dict[str, Any], why: str) -> None:
    with pytest.raises(AirgapError, match=why) as refused:
        site(**{"image": NEW, **params})
    assert "secret" not in str(refused.value)
    assert "token@" not in str(refused.value)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({}, "state is present but all of the following are missing: image"),
        ({"state": "reverted"}, "state is reverted but any of the following are missing: commit, image"),
        ({"state": "reverted", "commit": "a" * 40, "image": NEW}, "mutually exclusive: commit|image"),
        ({"state": "reverted", "commit": "a" * 40, "digest": "sha256:x"}, "required by 'digest': image"),
        ({"state": "reverted", "commit": "a" * 40, "to": OLD}, "required by 'to': image"),
    ],
)
def test_options_that_do_not_go_together_are_refused(params: dict[str, Any], why: str, run: Run) -> None:
    assert why in run(module, repo="https://gitea.test/x.git", path=PATH, **params)["msg"]


def test_it_is_back_on_what_is_stable_wherever_the_commit_came_from(site: Site) -> None:
    """Gone back from a bad version, and that has failed as well: the commit before it brought the bad one."""
    site(image=NEWER)
    site(image=NEW)
    done = site.revert_image(NEW, to=OLD)
    assert (done["changed"], done["undone"], done["changes"][0]["after"]) == (True, "", OLD)
    assert done["message"] == "revert: lumen-api back to v1.0.0 from v1.1.0"
    assert site.origin.text(PATH) == MANIFEST


def test_the_commit_is_undone_where_that_leads_to_what_is_stable(site: Site) -> None:
    bump = site(image=NEW)["commit"]
    done = site.revert_image(NEW, to=f"{OLD}@sha256:{'ab' * 32}")
    assert (done["undone"], site.origin.text(PATH)) == (bump, MANIFEST)


def test_what_is_stable_is_not_taken_back(site: Site) -> None:
    bump = site(image=NEW)["commit"]
    kept = site.revert_image(NEW, to=f"{NEW}@sha256:{'ab' * 32}")
    assert (kept["changed"], kept["undone"], kept["commit"]) == (False, "", bump)


def test_a_commit_that_cannot_be_undone_does_not_keep_it_from_what_is_stable(site: Site) -> None:
    site(image=NEW)
    site(image=NEW, digest=f"sha256:{'ab' * 32}")  # the first one brought it, and does not fit any more
    with pytest.raises(AirgapError, match="moved on"):
        site.revert_image(NEW)
    assert site.revert_image(NEW, to=OLD)["changes"][0]["after"] == OLD


def test_as_ansible_calls_it(site: Site, run: Run) -> None:
    given = {"repo": site.origin.url, "path": PATH}
    bump = run(module, **given, image=NEW)
    done = run(module, **given, state="reverted", image=NEW)
    assert (done["changed"], done["undone"]) == (True, bump["commit"])
    assert run(module, **given, state="reverted", image=NEW)["changed"] is False
    assert set(done) - {"changed", "diff", "invocation"} == set(yaml.safe_load(module.RETURN))
