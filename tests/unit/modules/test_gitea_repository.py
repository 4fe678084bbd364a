# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module as Ansible calls it, and its docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from ansible_collections.lumen.airgap.plugins.modules import gitea_repository as module
from ansible_collections.lumen.airgap.tests.unit.fakes.gitea import PASSWORD, TOKEN, URL, FakeGitea
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run

WHERE = {"gitea": {"url": URL, "token": TOKEN}, "owner": "lumen", "name": "lumen"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeGitea:
    fake = FakeGitea()
    session = fake.session()
    monkeypatch.setattr(requests, "Session", lambda: session)
    return fake


def test_a_run_and_a_second_one(fake: FakeGitea, run: Run) -> None:
    arguments: dict[str, Any] = {**WHERE, "ci_token": {}, "files": [{"path": "a", "content": "b"}]}
    predicted = run(module, check=True, **arguments)
    first = run(module, **arguments)
    assert first["changed"]
    assert predicted["actions"] == first["actions"]
    assert TOKEN not in json.dumps(first)
    assert fake.tokens["lumen-ci"][0]["sha1"] not in json.dumps(first)
    assert run(module, **arguments)["changed"] is False


def test_a_failure_is_a_message(fake: FakeGitea, run: Run) -> None:
    result = run(module, **{**WHERE, "name": "none"})
    assert result["failed"]
    assert "there is no repository lumen/none" in result["msg"]


@pytest.mark.parametrize(
    ("gitea", "message"),
    [
        ({"url": URL}, "one of the following is required: token, password"),
        ({"url": URL, "token": TOKEN, "username": "a", "password": PASSWORD}, "mutually exclusive: token|password"),
        ({"url": URL, "password": "b"}, "username"),
        ({"url": URL, "token": "x", "timeout": 0}, "gitea.timeout must be more than 0"),
    ],
)
def test_credentials_that_are_no_pair(gitea: dict[str, Any], message: str, run: Run) -> None:
    result = run(module, **{**WHERE, "gitea": gitea})
    assert result["failed"]
    assert message in result["msg"]


def test_absent_has_to_say_which_token(fake: FakeGitea, run: Run) -> None:
    assert "ci_token" in run(module, **WHERE, state="absent")["msg"]
    assert run(module, **WHERE, state="absent", ci_token={})["changed"] is False


def test_every_option_and_value_is_documented(fake: FakeGitea, run: Run) -> None:
    documentation = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert set(documentation) | {"gitea"} == set(module.ARGUMENT_SPEC)
    returned = set(run(module, **WHERE, ci_token={})) - {"changed", "diff", "invocation"}
    assert returned == set(yaml.safe_load(module.RETURN))


def test_the_file_of_releases_has_a_place_of_its_own(
    fake: FakeGitea, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("socket.gethostname", lambda: "control-1")
    result = run(module, **WHERE, release_token={"path": "~/token"})
    assert result["release_token"]["path"] == str(tmp_path / "token")
    value = (tmp_path / "token").read_text().strip()
    assert value == fake.tokens["lumen-release"][0]["sha1"]
    assert value not in json.dumps(result)
    assert fake.tokens["lumen-release"][0]["name"].startswith(f"releases from control-1:{tmp_path}")
    refused = run(module, **WHERE, release_token={"path": "token"})
    assert "release_token.path must be an absolute path" in refused["msg"]
    assert "ci_token, release_token" in run(module, **WHERE, state="absent")["msg"]
