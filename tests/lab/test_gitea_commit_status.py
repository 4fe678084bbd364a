# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verdicts on commits and tags of a repository in the lab's Gitea."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.gitea import Gitea, NotFound, Refused
from ansible_collections.lumen.airgap.plugins.modules import gitea_commit_status as module

from .gitea import TOKEN, URL, api, own_repository

CONTEXT = "lumen.airgap/release"


@pytest.fixture
def repository() -> Iterator[str]:
    """A repository with one commit."""
    with own_repository() as full:
        yield full


def run(full_name: str, dry_run: bool = False, token: str = TOKEN, **params: Any) -> dict[str, Any]:
    owner, name = full_name.split("/")
    defaults = {key: option.get("default") for key, option in module.ARGUMENT_SPEC.items()}
    given = {**defaults, "owner": owner, "name": name, "commit": "main", **params}
    if given["note"]:
        given["note"] = {"title": None, "body": None, **given["note"]}
    return module.commit_status(given, Gitea.connect({"url": URL, "token": token}), dry_run)


@pytest.fixture
def writer() -> Iterator[tuple[str, str]]:
    """An account that is no administrator, and a token of it for repositories alone."""
    name, password = f"writer-{secrets.token_hex(4)}", secrets.token_urlsafe(24) + "aA1!"
    account = {"username": name, "email": f"{name}@noreply.invalid", "password": password, "restricted": True}
    api("POST", "/admin/users", {**account, "must_change_password": False})
    try:
        gitea = Gitea(URL, login=(name, password))
        yield name, gitea.create_token(name, "verdicts", ["write:repository"])["sha1"]
    finally:
        api("DELETE", f"/admin/users/{name}?purge=true")


def head(full_name: str) -> str:
    return str(api("GET", f"/repos/{full_name}/commits?limit=1")[0]["sha"])


def test_a_status_as_gitea_shows_it(repository: str) -> None:
    sha = head(repository)
    assert run(repository, dry_run=True, state="pending")["changed"]
    assert api("GET", f"/repos/{repository}/commits/{sha}/status")["statuses"] is None
    for state, description in (("pending", ""), ("failure", "ü" * 300), ("success", "promoted")):
        given = {"state": state, "description": description, "target_url": "http://x/y"}
        done = run(repository, **given)
        assert (done["changed"], done["commit"]) == (True, sha)
        assert not run(repository, **{**given, "commit": sha[:12]})["changed"]
    run(repository, state="failure", context="ci/other")
    shown = {each["context"]: each for each in api("GET", f"/repos/{repository}/commits/{sha}/status")["statuses"]}
    newest = shown[CONTEXT]
    assert (newest["status"], newest["description"], newest["target_url"]) == ("success", "promoted", "http://x/y")
    assert shown["ci/other"]["status"] == "failure"
    assert len(api("GET", f"/repos/{repository}/commits/{sha}/statuses")) == 4


def test_a_note_of_a_tag_that_keeps_the_words_of_others(repository: str) -> None:
    with pytest.raises(NotFound, match=r"There is no tag v1\.1\.0"):
        run(repository, state="pending", note={"tag": "v1.1.0"})
    assert api("GET", f"/repos/{repository}/tags") == []
    api("POST", f"/repos/{repository}/tags", {"tag_name": "v1.1.0", "target": head(repository)})
    assert run(repository, state="pending", note={"tag": "v1.1.0"})["changed"]
    release = api("GET", f"/repos/{repository}/releases/tags/v1.1.0")
    assert release["name"] == "v1.1.0"
    theirs = f"# What is new\r\n\r\n{release['body']}"
    api("PATCH", f"/repos/{repository}/releases/{release['id']}", {"body": theirs})
    given = {"state": "success", "description": "4 of 4 passed", "note": {"tag": "v1.1.0"}}
    done = run(repository, **given)
    assert done["note"]["url"].endswith(f"{repository}/releases/tag/v1.1.0")
    body = api("GET", f"/repos/{repository}/releases/tags/v1.1.0")["body"]
    assert body == done["note"]["body"]
    assert body.startswith("# What is new")
    assert "**promoted**: 4 of 4 passed" in body
    assert "under way" not in body
    assert not run(repository, **given)["changed"]
    assert len(api("GET", f"/repos/{repository}/tags")) == 1


def test_a_writer_with_a_token_for_repositories_is_enough_and_a_reader_is_not(
    repository: str, writer: tuple[str, str]
) -> None:
    name, token = writer
    api("POST", f"/repos/{repository}/tags", {"tag_name": "v1.1.0", "target": head(repository)})
    given = {"state": "success", "note": {"tag": "v1.1.0"}, "token": token}
    with pytest.raises(NotFound, match="may not see it"):
        run(repository, **given)
    api("PUT", f"/repos/{repository}/collaborators/{name}", {"permission": "read"})
    with pytest.raises(Refused, match="lacks the right"):
        run(repository, **given)
    api("PUT", f"/repos/{repository}/collaborators/{name}", {"permission": "write"})
    assert run(repository, **given)["changed"]
    assert not run(repository, **given)["changed"]
