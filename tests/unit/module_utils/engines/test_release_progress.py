# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a release has come, by journals as runs leave them: whole, killed in between, taken up."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.release_progress import progress

NOTHING = {
    "unmeasured": False,
    "building": False,
    "image": {},
    "scan": {},
    "failing": "",
    "canary": {"begun": False, "ended": False, "outcome": "", "driver": ""},
    "stable": {},
    "git": {},
}
BUILDING = {"phase": "building"}
PUSHED = {"phase": "pushed", "image": "r/app:v2", "digest": "sha256:2", "commit": "c2"}
FOUND = {"phase": "found", "image": "r/app:v2", "digest": "sha256:2", "commit": "c2"}
BUMPED = {"phase": "bumped", "commit": "b2"}
STARTED = {"phase": "canary_started", "driver": "rollout", "stable_image": "r/app:v1", "stable_hash": "h1"}
ENDED = {"phase": "canary_ended", "outcome": "rolled_back"}
REVERTED = {"phase": "reverted", "commit": "b3"}


@pytest.mark.parametrize("journal", [[], [{"phase": "acquired"}], [{"phase": "acquired"}, {"phase": "resumed"}]])
def test_nothing_was_done_yet(journal: list[dict[str, Any]]) -> None:
    assert progress(journal) == NOTHING


def test_a_release_that_was_rolled_back_says_all_of_it() -> None:
    scanned = {"phase": "scanned", "scan": {"HIGH": 1}}
    assert progress([BUILDING, PUSHED, BUMPED, scanned, STARTED, ENDED, REVERTED]) == {
        "unmeasured": False,
        "building": True,
        "image": PUSHED,
        "scan": {"HIGH": 1},
        "failing": "",
        "canary": {"begun": True, "ended": True, "outcome": "rolled_back", "driver": "rollout"},
        "stable": {"image": "r/app:v1", "hash": "h1"},
        "git": {"bump": "b2", "revert": "b3"},
    }


def test_that_its_steps_are_skipped_stays_so_when_it_is_taken_up() -> None:
    assert progress([{"phase": "acquired", "unmeasured": True}, {"phase": "resumed"}])["unmeasured"]


def test_the_image_is_the_last_one_that_was_made_or_found() -> None:
    assert progress([BUILDING])["image"] == {}
    assert progress([BUILDING, PUSHED])["image"] == PUSHED
    assert progress([BUILDING, PUSHED, FOUND])["image"] == FOUND


def test_a_canary_that_was_taken_up_again_has_not_ended() -> None:
    assert not progress([STARTED])["canary"]["ended"]
    assert progress([STARTED, ENDED])["canary"]["ended"]
    # A run that took it up found it begun anew; how it had ended before is still known.
    again = progress([STARTED, ENDED, {"phase": "resumed"}, {"phase": "canary_step"}])["canary"]
    assert (again["begun"], again["ended"], again["outcome"]) == (True, False, "rolled_back")


def test_what_was_stable_is_what_the_first_run_saw() -> None:
    moved = {**STARTED, "stable_image": "r/app:v9", "stable_hash": "h9"}
    assert progress([STARTED, moved])["stable"] == {"image": "r/app:v1", "hash": "h1"}
    # Of a cluster whose stable version nobody knew.
    assert progress([{**STARTED, "stable_image": ""}])["stable"] == {}


def test_why_it_goes_back_is_said_once_and_what_git_said_last_counts() -> None:
    bumps = [BUMPED, REVERTED, {"phase": "bumped", "commit": "b4"}]
    found = progress([BUILDING, {"phase": "failing", "reason": "the tests failed"}, *bumps])
    assert (found["failing"], found["git"]) == ("the tests failed", {"bump": "b4", "revert": "b3"})


def test_what_somebody_notes_by_hand_does_not_stop_it() -> None:
    found = progress([{"phase": "bumped"}, {"phase": "scanned", "scan": "none"}, {"phase": "failing"}])
    assert (found["git"], found["scan"], found["failing"]) == ({"bump": ""}, {}, "")


def test_a_scan_that_could_not_be_done_is_told_and_a_later_one_replaces_it() -> None:
    failed = {"phase": "scanned", "scan": {"failed": "no database"}}
    assert progress([failed])["scan"] == {"failed": "no database"}
    assert progress([failed, {"phase": "scanned", "scan": {"LOW": 2}}])["scan"] == {"LOW": 2}
