# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pipeline's token and files in a repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.gitea import (
    Gitea,
    GiteaError,
    NotFound,
    Refused,
    Unreachable,
)
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.modules import gitea_repository as module
from ansible_collections.lumen.airgap.tests.unit.fakes.gitea import TOKEN, URL, FakeGitea

CI = {
    "user": "lumen-ci",
    "email": None,
    "secret": "CI_TOKEN",
    "scopes": ["write:repository"],
    "permission": "write",
    "rotate": False,
}
PIPELINE = ".gitea/workflows/ci.yaml"


@pytest.fixture
def fake() -> FakeGitea:
    return FakeGitea()


def run(fake: FakeGitea, dry_run: bool = False, **params: Any) -> dict[str, Any]:
    given = {name: option.get("default") for name, option in module.ARGUMENT_SPEC.items()}
    given |= {"owner": "lumen", "name": "lumen", "ci_token": CI, **params}
    gitea = Gitea.connect({"url": URL, "token": TOKEN}, fake.session())
    return module.repository(given, gitea, dry_run)


def secret(fake: FakeGitea) -> dict[str, str]:
    found: dict[str, str] = fake.repositories["lumen/lumen"]["secrets"]["CI_TOKEN"]
    return found


def test_an_account_with_a_token_that_can_push_and_nothing_more(fake: FakeGitea) -> None:
    result = run(fake)
    assert result["actions"] == [
        "make the user lumen-ci",
        "let lumen-ci write",
        "make a token and write it to the secret CI_TOKEN",
    ]
    assert fake.users["lumen-ci"]["restricted"] is True
    assert fake.repositories["lumen/lumen"]["collaborators"] == {"lumen-ci": "write"}
    (token,) = fake.tokens["lumen-ci"]
    assert token["scopes"] == ["write:repository"]
    assert secret(fake)["data"] == token["sha1"]
    assert result["token"] == {
        "id": token["id"],
        "user": "lumen-ci",
        "scopes": ["write:repository"],
        "secret": "CI_TOKEN",
    }


def test_a_second_run_changes_nothing(fake: FakeGitea) -> None:
    first = run(fake)
    written = len(fake.written)
    second = run(fake)
    assert (second["changed"], second["token"], second["diff"]) == (False, first["token"], [])
    assert len(fake.written) == written


def test_no_result_has_the_token_or_the_password(fake: FakeGitea) -> None:
    said = json.dumps(run(fake))
    assert secret(fake)["data"] not in said
    assert fake.passwords["lumen-ci"][1] not in said
    assert len(fake.passwords["lumen-ci"][1]) > 40


def test_check_mode_predicts_and_touches_nothing(fake: FakeGitea) -> None:
    files = [{"path": PIPELINE, "content": "on: push\n"}]
    predicted = run(fake, dry_run=True, files=files)
    assert fake.written == []
    assert predicted["token"]["id"] == 0
    done = run(fake, files=files)
    assert predicted["actions"] == done["actions"]
    assert run(fake, dry_run=True, files=files)["changed"] is False


@pytest.mark.parametrize("damage", ["revoked", "scopes", "secret", "description"])
def test_what_is_not_current_is_made_again_and_the_old_token_goes(damage: str, fake: FakeGitea) -> None:
    old = run(fake)["token"]["id"]
    if damage == "revoked":
        fake.tokens["lumen-ci"].clear()
    elif damage == "scopes":
        fake.tokens["lumen-ci"][0]["scopes"] = ["read:repository"]
    elif damage == "secret":
        fake.repositories["lumen/lumen"]["secrets"].clear()
    else:
        secret(fake)["description"] = ""
    predicted = run(fake, dry_run=True)
    result = run(fake)
    assert result["actions"] == predicted["actions"]
    assert result["token"]["id"] != old
    assert [token["id"] for token in fake.tokens["lumen-ci"]] == [result["token"]["id"]]
    assert run(fake)["changed"] is False


def test_rotation_stores_the_new_token_before_the_old_one_goes(fake: FakeGitea) -> None:
    run(fake)
    del fake.requests[:]
    result = run(fake, ci_token={**CI, "rotate": True})
    assert result["actions"][0] == "make a token and write it to the secret CI_TOKEN"
    writes = [(method, path.rpartition("/")[2]) for method, path in fake.written]
    assert [method for method, _path in writes] == ["POST", "PUT", "DELETE"]
    assert len(fake.tokens["lumen-ci"]) == 1
    assert run(fake)["changed"] is False


def test_a_run_that_was_broken_off_is_taken_up(fake: FakeGitea) -> None:
    fake.break_with("PUT", "/actions/secrets/", (502, "x"), times=1)
    with pytest.raises(Unreachable):
        run(fake)
    assert len(fake.tokens["lumen-ci"]) == 1
    run(fake)
    assert len(fake.tokens["lumen-ci"]) == 1
    assert secret(fake)["data"] == fake.tokens["lumen-ci"][0]["sha1"]


def test_tokens_of_others_stay(fake: FakeGitea) -> None:
    run(fake)
    fake.tokens["lumen-ci"].append({"id": 99, "name": "mine", "scopes": ["all"], "sha1": "c" * 40})
    fake.tokens["lumen-ci"].append({"id": 98, "name": "CI_TOKEN of lumen/other 1", "scopes": [], "sha1": "d" * 40})
    run(fake, ci_token={**CI, "rotate": True})
    assert {99, 98} < {token["id"] for token in fake.tokens["lumen-ci"]}


def test_rights_that_are_too_large_are_made_smaller(fake: FakeGitea) -> None:
    run(fake)
    fake.repositories["lumen/lumen"]["collaborators"]["lumen-ci"] = "admin"
    assert run(fake)["actions"] == ["let lumen-ci write"]
    assert fake.repositories["lumen/lumen"]["collaborators"]["lumen-ci"] == "write"


def test_the_owner_is_left_as_it_is(fake: FakeGitea) -> None:
    fake.users["lumen"] = {"login": "lumen", "active": True}
    fake.repositories["lumen/lumen"]["collaborators"]["lumen"] = "write"  # what the fake lets push
    assert run(fake, ci_token={**CI, "user": "lumen"})["actions"] == [
        "make a token and write it to the secret CI_TOKEN"
    ]


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"is_admin": True}, "is an administrator of Gitea"),
        ({"prohibit_login": True}, "may not log in"),
        ({"active": False}, "may not log in"),
    ],
)
def test_an_account_that_is_no_good_is_refused(user: dict[str, Any], message: str, fake: FakeGitea) -> None:
    fake.users["lumen-ci"] = {"login": "lumen-ci", **user}
    with pytest.raises(AirgapError, match=message):
        run(fake)
    assert fake.written == []


def test_a_token_that_cannot_push_is_not_stored(fake: FakeGitea) -> None:
    fake.users["lumen-ci"] = {"login": "lumen-ci", "active": True}
    fake.break_with("PUT", "/collaborators/", (204, None))  # as if a rule of the organization took the right away
    with pytest.raises(AirgapError, match="lumen-ci cannot push to lumen/lumen with its new token"):
        run(fake)
    assert fake.repositories["lumen/lumen"]["secrets"] == {}


def test_files_are_committed_and_compared(fake: FakeGitea) -> None:
    files = [{"path": PIPELINE, "content": "on: push\n"}, {"path": "README.md", "content": "é\n"}]
    first = run(fake, ci_token=None, files=files, commit_message="Install")
    assert first["actions"] == [f"commit {PIPELINE} to main", "commit README.md to main"]
    assert first["commits"] == {PIPELINE: "commit-1", "README.md": "commit-2"}
    assert first["diff"][0]["before"] == ""
    assert fake.repositories["lumen/lumen"]["messages"] == ["Install", "Install"]
    assert run(fake, ci_token=None, files=files)["changed"] is False
    files[0]["content"] = "on: pull_request\n"
    changed = run(fake, ci_token=None, files=files)
    assert changed["actions"] == [f"commit {PIPELINE} to main"]
    assert (changed["diff"][0]["before"], changed["diff"][0]["after"]) == ("on: push\n", "on: pull_request\n")


def test_somebody_who_commits_in_between_is_seen(fake: FakeGitea) -> None:
    files = [{"path": PIPELINE, "content": "on: push\n"}]
    fake.break_with("POST", "/contents/", (422, {"message": "repository file already exists"}), times=1)
    assert run(fake, ci_token=None, files=files)["changed"]
    fake.break_with("PUT", "/contents/", (422, {"message": "sha does not match"}))
    files[0]["content"] = "x"
    with pytest.raises(GiteaError, match="sha does not match"):
        run(fake, ci_token=None, files=files)


def test_a_branch_that_is_not_there(fake: FakeGitea) -> None:
    with pytest.raises(NotFound, match="there is no branch nowhere in lumen/lumen"):
        run(fake, ci_token=None, branch="nowhere", files=[{"path": PIPELINE, "content": ""}])


def test_faults(fake: FakeGitea) -> None:
    with pytest.raises(NotFound, match="there is no repository lumen/none"):
        run(fake, name="none")
    fake.owners[TOKEN] = ("admin", {"write:repository", "read:user"})
    with pytest.raises(Refused, match="refuses to create the user lumen-ci: the token lacks the scope write:admin"):
        run(fake)
    fake.owners[TOKEN] = ("admin", {"write:repository", "write:admin", "read:user"})
    with pytest.raises(Refused, match="lacks the scope write:user"):
        run(fake)


def test_absent(fake: FakeGitea) -> None:
    run(fake)
    predicted = run(fake, dry_run=True, state="absent")
    result = run(fake, state="absent")
    assert result["actions"] == predicted["actions"]
    assert result["changed"]
    assert fake.tokens["lumen-ci"] == []
    assert fake.repositories["lumen/lumen"]["secrets"] == {}
    assert fake.repositories["lumen/lumen"]["collaborators"] == {}
    assert run(fake, state="absent")["changed"] is False


def test_absent_where_nothing_ever_was(fake: FakeGitea) -> None:
    assert run(fake, state="absent")["changed"] is False
    fake.repositories.clear()
    fake.break_with("GET", "/repos/", (404, {"message": "not found"}))
    assert run(fake, state="absent")["changed"] is False


# The token of releases


def releases(path: Path, **changed: Any) -> dict[str, Any]:
    return {**CI, "user": "lumen-release", "path": str(path), "host": "control-1", **changed}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lumen-airgap" / "release-gitea-token"


def test_releases_have_an_account_of_their_own_and_a_file_that_only_its_owner_reads(
    fake: FakeGitea, path: Path
) -> None:
    predicted = run(fake, dry_run=True, release_token=releases(path))
    assert not path.exists()
    result = run(fake, release_token=releases(path))
    assert predicted["actions"] == result["actions"]
    assert result["actions"][3:] == [
        "make the user lumen-release",
        "let lumen-release write",
        f"make a token and write it to {path}",
    ]
    (token,) = fake.tokens["lumen-release"]
    assert (path.read_text(), path.stat().st_mode & 0o777) == (token["sha1"] + "\n", 0o600)
    assert token["name"] == f"releases from control-1:{path} of lumen/lumen 1"
    assert result["release_token"] == {
        "id": token["id"],
        "user": "lumen-release",
        "scopes": ["write:repository"],
        "path": str(path),
    }
    assert token["sha1"] not in json.dumps(result)
    assert run(fake, release_token=releases(path))["changed"] is False


@pytest.mark.parametrize("damage", ["gone", "another", "empty", "mode", "revoked", "scopes"])
def test_a_file_that_is_not_as_it_should_be_is_written_with_a_new_token(
    damage: str, fake: FakeGitea, path: Path
) -> None:
    old = run(fake, release_token=releases(path))["release_token"]["id"]
    if damage == "gone":
        path.unlink()
    elif damage == "another":
        path.write_text("another")
    elif damage == "empty":
        path.write_text("")
    elif damage == "mode":
        path.chmod(0o640)
    elif damage == "revoked":
        fake.tokens["lumen-release"].clear()
    else:
        fake.tokens["lumen-release"][0]["scopes"] = ["all"]
    result = run(fake, release_token=releases(path))
    assert result["actions"][0] == f"make a token and write it to {path}"
    assert result["token"]["id"] == fake.tokens["lumen-ci"][0]["id"]
    assert [token["id"] for token in fake.tokens["lumen-release"]] == [result["release_token"]["id"]] != [old]
    assert path.stat().st_mode & 0o777 == 0o600
    assert run(fake, release_token=releases(path))["changed"] is False


def test_each_machine_has_a_token_of_its_own_and_loses_it_alone(fake: FakeGitea, path: Path, tmp_path: Path) -> None:
    other = releases(tmp_path / "other", host="control-2")
    run(fake, release_token=releases(path))
    second = run(fake, release_token=other)["release_token"]["id"]
    assert len(fake.tokens["lumen-release"]) == 2
    assert run(fake, release_token=releases(path))["changed"] is False
    result = run(fake, state="absent", ci_token=None, release_token=other)
    assert result["actions"] == [f"revoke the token {second}", "remove " + other["path"]]
    assert fake.repositories["lumen/lumen"]["collaborators"]["lumen-release"] == "write"
    assert [token["name"] for token in fake.tokens["lumen-release"]] == [
        f"releases from control-1:{path} of lumen/lumen 1"
    ]
    assert path.exists()
    assert not Path(other["path"]).exists()
    last = run(fake, state="absent", ci_token=None, release_token=releases(path))
    assert "take lumen-release off the repository" in last["actions"]
    assert run(fake, state="absent", ci_token=None, release_token=releases(path))["changed"] is False


def test_two_people_on_one_machine_do_not_take_each_others_token(fake: FakeGitea, path: Path, tmp_path: Path) -> None:
    hers = releases(tmp_path / "alice" / "token")
    run(fake, release_token=hers)
    run(fake, release_token=releases(path))
    assert run(fake, release_token=hers)["changed"] is False


def test_one_account_for_both_is_taken_off_with_its_last_token(fake: FakeGitea, path: Path) -> None:
    both = {"ci_token": CI, "release_token": releases(path, user="lumen-ci")}
    run(fake, **both)
    assert run(fake, **both)["changed"] is False
    predicted = run(fake, dry_run=True, state="absent", **both)
    result = run(fake, state="absent", **both)
    assert predicted["actions"] == result["actions"]
    assert result["actions"][-1] == "take lumen-ci off the repository"
    with pytest.raises(AirgapError, match="lumen-ci cannot have two permissions in lumen/lumen"):
        run(fake, ci_token=CI, release_token=releases(path, user="lumen-ci", permission="admin"))


def test_a_diff_names_tokens_by_their_numbers(fake: FakeGitea, path: Path) -> None:
    number = run(fake, release_token=releases(path))["release_token"]["id"]
    fake.repositories["lumen/lumen"]["collaborators"]["lumen-release"] = "read"
    (diff,) = run(fake, release_token=releases(path))["diff"]
    before, after = json.loads(diff["before"]), json.loads(diff["after"])
    assert before == {"user": True, "permission": "read", "kept": f"token {number}"}
    assert after == {"user": True, "permission": "write", "kept": f"token {number}"}
