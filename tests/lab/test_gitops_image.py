# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image of a workload in a repository of the lab's Gitea, over HTTP, and what Gitea refuses."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import git
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock
from ansible_collections.lumen.airgap.plugins.modules import gitops_image as module

from .gitea import TOKEN, URL, api, own_repository

PATH = "app.yaml"
IMAGE = "192.168.2.2:5000/lumen-api"
CONTAINERS = ("lumen-api", "side")
MANIFEST = f"""# two containers
kind: Deployment
metadata: {{name: app}}
spec:
  template:
    spec:
      containers:
        - {{name: lumen-api, image: {IMAGE}:v1.0.0}} # here
        - {{name: side, image: {IMAGE}:v1.0.0}}
"""


@pytest.fixture
def repository() -> Iterator[str]:
    """A private repository with the manifest; its full name."""
    with own_repository() as full:
        content = base64.b64encode(MANIFEST.encode()).decode()
        api("POST", f"/repos/{full}/contents/{PATH}", {"content": content, "branch": "main", "message": "the app"})
        yield full


def run(directory: Path, repository: str, **params: Any) -> dict[str, Any]:
    """The module, in a directory of its own below ``directory``."""
    own = directory / f"run-{len(list(directory.iterdir()))}"
    own.mkdir()
    defaults = {name: option.get("default") for name, option in module.ARGUMENT_SPEC.items()}
    given = {
        **defaults,
        "author": {"name": "lumen-ci", "email": "lumen-ci@noreply.invalid"},
        "repo": f"{URL}/{repository}.git",
        "path": PATH,
        "token": TOKEN,
        "container": "lumen-api",
        "timeout": 30.0,
    }
    return module.gitops_image({**given, **params}, str(own), SystemClock(), False)


def text(repository: str) -> str:
    return base64.b64decode(api("GET", f"/repos/{repository}/contents/{PATH}")["content"]).decode()


def test_bumped_and_reverted(repository: str, tmp_path: Path) -> None:
    done = run(tmp_path, repository, image=f"{IMAGE}:v1.1.0")
    head = api("GET", f"/repos/{repository}/commits?limit=1")[0]
    assert head["sha"] == done["commit"]
    assert head["commit"]["message"].strip() == "chore: bump lumen-api to v1.1.0"
    assert text(repository) == MANIFEST.replace("v1.0.0} # here", "v1.1.0} # here")
    assert not run(tmp_path, repository, image=f"{IMAGE}:v1.1.0")["changed"]
    run(tmp_path, repository, container="side", image=f"{IMAGE}:v1.2.0")
    run(tmp_path, repository, state="reverted", commit=done["commit"], container=None)
    assert text(repository) == MANIFEST.replace("v1.0.0}\n", "v1.2.0}\n")


def test_the_commit_that_brought_an_image_is_found_and_undone(repository: str, tmp_path: Path) -> None:
    bump = run(tmp_path, repository, image=f"{IMAGE}:v1.1.0", skip_ci="always")
    assert bump["message"] == "chore: bump lumen-api to v1.1.0 [skip ci]"
    run(tmp_path, repository, container="side", image=f"{IMAGE}:v1.2.0")
    done = run(tmp_path, repository, state="reverted", image=f"{IMAGE}:v1.1.0")
    assert (done["changed"], done["undone"]) == (True, bump["commit"])
    assert text(repository) == MANIFEST.replace("v1.0.0}\n", "v1.2.0}\n")
    again = run(tmp_path, repository, state="reverted", image=f"{IMAGE}:v1.1.0")
    assert (again["changed"], again["undone"], again["commit"]) == (False, "", done["commit"])


def test_two_at_once_both_arrive(repository: str, tmp_path: Path) -> None:
    results: dict[str, Any] = {}

    def bump(container: str) -> None:
        own = tmp_path / container
        own.mkdir()
        results[container] = run(own, repository, container=container, image=f"{IMAGE}:v2.0.0", attempts=10)

    threads = [threading.Thread(target=bump, args=[container]) for container in CONTAINERS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert {container: results[container]["changed"] for container in CONTAINERS} == dict.fromkeys(CONTAINERS, True)
    assert text(repository) == MANIFEST.replace("v1.0.0", "v2.0.0")
    assert len(api("GET", f"/repos/{repository}/commits")) == 4


def test_a_token_that_is_wrong_and_a_repository_that_is_not_there(repository: str, tmp_path: Path) -> None:
    with pytest.raises(git.AccessDenied):
        run(tmp_path, repository, image=f"{IMAGE}:v1.1.0", token="nobodys")
    with pytest.raises(git.GitError) as missing:
        run(tmp_path, f"{repository}-not", image=f"{IMAGE}:v1.1.0")
    assert type(missing.value) is git.RepositoryMissing
    assert TOKEN not in missing.value.message


def test_a_protected_branch_is_said_to_be_one(repository: str, tmp_path: Path) -> None:
    api("POST", f"/repos/{repository}/branch_protections", {"rule_name": "main", "enable_push": False})
    with pytest.raises(git.BranchProtected, match="protected branch"):
        run(tmp_path, repository, image=f"{IMAGE}:v1.1.0")
    assert text(repository) == MANIFEST


def test_a_gitea_that_is_away_is_said_to_be_so(repository: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(git.RemoteAway):
        run(tmp_path, repository, image=f"{IMAGE}:v1.1.0", repo=f"http://127.0.0.1:{port}/x.git", attempts=1)
