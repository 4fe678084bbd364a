# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module as Ansible calls it, with Gitea in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
import yaml
from ansible_collections.lumen.airgap.plugins.modules import gitea_commit_status as module
from ansible_collections.lumen.airgap.tests.unit.fakes.gitea import TOKEN, URL, FakeGitea
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run

SHA = "b" * 40
WHERE = {"gitea": {"url": URL, "token": TOKEN}, "owner": "lumen", "name": "lumen", "commit": SHA}
NOTE = {"tag": "v1.1.0"}
CONTEXT = "lumen.airgap/release"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeGitea:
    fake = FakeGitea()
    fake.repositories["lumen/lumen"]["commits"] = {SHA: "the app"}
    fake.repositories["lumen/lumen"]["heads"] = {"main": SHA}
    fake.repositories["lumen/lumen"]["tags"] = {"v1.1.0": {"sha": SHA, "message": "the app"}}
    session = fake.session()
    monkeypatch.setattr(requests, "Session", lambda: session)
    return fake


def statuses(fake: FakeGitea) -> list[tuple[str, str, str]]:
    found = fake.repositories["lumen/lumen"]["statuses"].get(SHA, [])
    return [(each["status"], each["context"], each["description"]) for each in found]


def test_from_pending_to_a_verdict(fake: FakeGitea, run: Run) -> None:
    assert run(module, **WHERE, state="pending")["changed"]
    done = run(module, **WHERE, state="failure", description="rolled_back: too\n  many", target_url="http://x/y")
    assert done["commit"] == SHA
    assert done["status"] == {
        "state": "failure",
        "context": CONTEXT,
        "description": "rolled_back: too many",
        "target_url": "http://x/y",
    }
    assert done["diff"][0]["before"]["state"] == "pending"
    assert done["diff"][0]["after"] == done["status"]
    assert statuses(fake) == [("pending", CONTEXT, ""), ("failure", CONTEXT, "rolled_back: too many")]
    assert TOKEN not in json.dumps(done)


def test_a_second_run_writes_nothing(fake: FakeGitea, run: Run) -> None:
    given = {**WHERE, "state": "success", "description": "x", "target_url": "http://x/", "note": NOTE}
    first = run(module, **given)
    written = len(fake.written)
    second = run(module, **given)
    assert (second["changed"], second["diff"], second["note"]) == (False, [], first["note"])
    assert len(fake.written) == written


@pytest.mark.parametrize("other", [{"state": "failure"}, {"description": "y"}, {"target_url": "http://y/"}])
def test_whatever_is_different_is_written(other: dict[str, Any], fake: FakeGitea, run: Run) -> None:
    given = {**WHERE, "state": "success", "description": "x", "target_url": "http://x/"}
    run(module, **given)
    assert run(module, **{**given, **other})["changed"]
    # It is the newest that counts: what was there before has to be written again.
    assert run(module, **given)["changed"]
    assert len(statuses(fake)) == 3


def test_statuses_of_others_do_not_count_and_their_order_does_not(fake: FakeGitea, run: Run) -> None:
    run(module, **WHERE, state="pending")
    run(module, **WHERE, state="success")
    run(module, **WHERE, state="failure", context="ci/test")
    fake.repositories["lumen/lumen"]["statuses"][SHA].reverse()
    assert not run(module, **WHERE, state="success")["changed"]


def test_the_newest_is_found_behind_the_first_page(fake: FakeGitea, run: Run) -> None:
    for number in range(120):
        run(module, **WHERE, state="pending", description=str(number))
    assert not run(module, **WHERE, state="pending", description="119")["changed"]
    assert run(module, **WHERE, state="pending", description="3")["changed"]


def test_a_long_reason_is_cut_and_still_the_same(fake: FakeGitea, run: Run) -> None:
    done = run(module, **WHERE, state="failure", description="ü" * 300)
    assert done["status"]["description"] == "ü" * 254 + "…"
    assert not run(module, **WHERE, state="failure", description="ü" * 300)["changed"]
    run(module, **WHERE, state="failure", description="ü" * 255)
    assert statuses(fake)[-1][2] == "ü" * 255


def test_a_branch_or_a_tag_stands_for_its_commit(fake: FakeGitea, run: Run) -> None:
    assert run(module, **{**WHERE, "commit": "main"}, state="success")["commit"] == SHA


def test_check_mode_predicts_and_writes_nothing(fake: FakeGitea, run: Run) -> None:
    given = {**WHERE, "state": "success", "note": NOTE}
    predicted = run(module, check=True, **given)
    assert fake.written == []
    done = run(module, **given)
    assert (predicted["changed"], predicted["diff"]) == (True, done["diff"])
    assert (predicted["note"]["url"], predicted["note"]["body"]) == ("", done["note"]["body"])
    assert run(module, check=True, **given)["changed"] is False


def test_a_note_is_made_and_changed(fake: FakeGitea, run: Run) -> None:
    done = run(module, **WHERE, state="pending", note={**NOTE, "title": "One"})
    (release,) = fake.repositories["lumen/lumen"]["releases"]
    assert (release["name"], release["body"]) == ("One", done["note"]["body"])
    assert "**under way**" in release["body"]
    assert done["note"]["url"] == f"{URL}/lumen/lumen/releases/tag/v1.1.0"
    release["body"] = f"What is new\n\n{release['body']}"
    run(module, **WHERE, state="failure", description="why", note={**NOTE, "title": "Two"})
    assert release["name"] == "One"
    assert release["body"].startswith("What is new\n\n<!-- lumen.airgap/release -->\n**not promoted**: why\n<!--")
    assert "under way" not in release["body"]
    run(module, **WHERE, state="failure", description="why", note={**NOTE, "body": "| a | table |"})
    assert "| a | table |" in release["body"]


def test_a_tag_that_is_not_there_is_not_made(fake: FakeGitea, run: Run) -> None:
    failed = run(module, **WHERE, state="success", note={"tag": "v9"})
    assert "There is no tag v9 in lumen/lumen" in failed["msg"]
    assert fake.written == []


def test_faults(fake: FakeGitea, run: Run) -> None:
    assert "there is no commit cccc" in run(module, **{**WHERE, "commit": "cccc"}, state="success")["msg"]
    assert "context must be" in run(module, **WHERE, state="success", context=" ")["msg"]
    assert "target_url must be" in run(module, **WHERE, state="success", target_url="javascript:x")["msg"]
    fake.owners[TOKEN] = ("admin", {"read:repository"})
    assert "lacks the scope write:repository" in run(module, **WHERE, state="success")["msg"]


def test_every_option_and_value_is_documented(fake: FakeGitea, run: Run) -> None:
    documentation = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert set(documentation) | {"gitea"} == set(module.ARGUMENT_SPEC)
    returned = set(run(module, **WHERE, state="success")) - {"changed", "diff", "invocation"}
    assert returned == set(yaml.safe_load(module.RETURN))
