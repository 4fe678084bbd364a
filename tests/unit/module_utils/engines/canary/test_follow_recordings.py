# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a real cluster said, replayed whole, cut at every event, doubled and interleaved otherwise."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.follow import Change, Entry, Follower
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.objects import read_rollout, read_run
from ansible_collections.lumen.airgap.tests.unit.fixtures.recordings import NAMES, Seen, load

FAILED_4 = 'Metric "success-rate" assessed Failed due to failed (4) > failureLimit (3)'
FAILED_3 = 'Metric "success-rate" assessed Failed due to failed (3) > failureLimit (2)'
THROUGH = "completed Successful completed Successful completed"

# (hash, revision, outcome, reason or its beginning, measurements, results of the last attempt's steps)
STORIES: dict[str, list[tuple[str, str, str, str, int, str]]] = {
    "rollout-promoted": [("b67698557", "2", "promoted", "", 10, THROUGH)],
    "rollout-aborted-by-analysis": [("64bdf7c984", "3", "", "", 12, "completed skipped completed running")],
    "rollout-abort-retry-promote": [
        ("64bdf7c984", "3", "promoted", "", 15, "completed skipped skipped skipped skipped"),
        ("6bcb9b5648", "4", "", "", 1, "completed running"),
    ],
    "controller-killed": [("6bcb9b5648", "4", "aborted", FAILED_4, 4, "completed Failed")],
    "argocd-bumps-and-reverts": [
        ("b67698557", "2", "promoted", "", 10, THROUGH),
        ("64bdf7c984", "3", "aborted", FAILED_4, 9, "completed Successful completed Failed"),
        (
            "79cbf49887",
            "4",
            "superseded",
            "the Rollout was changed to 192.168.2.2:5000/lumen-api:v1.4.0-bad, hash 64bdf7c984",
            0,
            "superseded",
        ),
        ("64bdf7c984", "5", "aborted", FAILED_4, 9, "completed Successful completed Failed"),
        ("6bcb9b5648", "7", "superseded", "the Rollout went back to stable b67698557", 4, "completed superseded"),
        ("6bcb9b5648", "9", "aborted", FAILED_4, 4, "completed Failed"),
        ("6bcb9b5648", "11", "aborted", 'Metric "success-rate" assessed Error', 5, "completed Error"),
        ("79cbf49887", "12", "promoted", "", 0, "completed completed completed completed completed"),
        ("74fdd55c56", "13", "promoted", "", 10, THROUGH),
    ],
    "canary-scoped-analysis": [
        ("74f9746ffb", "14", "promoted", "", 10, THROUGH),
        ("b55c7c545", "15", "aborted", FAILED_3, 3, "completed Failed"),
    ],
}


def replay(seen: Iterable[Seen], follower: Follower | None = None) -> tuple[Follower, list[Entry]]:
    follower = follower or Follower("lumen-api")
    entries: list[Entry] = []
    for each in seen:
        entries += follower.see(each.kind, each.object, each.at)
    return follower, entries


def last_attempt(follower: Follower, change: Change) -> list[tuple[int, str, str]]:
    """(index, kind, result) of each step since the last time the steps began."""
    steps = [(record.step.index, record.step.kind, follower.result(record)) for record in change.steps]
    starts = [position for position, step in enumerate(steps) if step[0] == 0]
    return steps[starts[-1] :] if starts else steps


def summary(follower: Follower, change: Change) -> dict[str, Any]:
    return {
        "hash": change.hash,
        "revision": change.revision,
        "outcome": change.outcome,
        "reason": change.reason,
        "measurements": set(map(str, change.measurements)),
        "steps": last_attempt(follower, change),
    }


@pytest.mark.parametrize("name", NAMES)
def test_whole(name: str) -> None:
    follower, _entries = replay(load(name))
    told = [
        (
            change.hash,
            change.revision,
            change.outcome,
            change.reason,
            len(change.measurements),
            " ".join(result for _index, _kind, result in last_attempt(follower, change)),
        )
        for change in follower.changes
    ]
    assert len(told) == len(STORIES[name])
    for got, expected in zip(told, STORIES[name], strict=True):
        assert got[3].startswith(expected[3])
        assert got[:3] + got[4:] == expected[:3] + expected[4:]


@pytest.mark.parametrize("name", NAMES)
def test_every_measurement_is_told_once(name: str) -> None:
    seen = load(name)
    follower, entries = replay(seen)
    told = [m for change in follower.changes for m in change.measurements]
    assert len({(m.run, m.metric, m.ordinal, m.at) for m in told}) == len(told)
    assert sum(entry.kind == "measurement" for entry in entries) == len(told)


@pytest.mark.parametrize("name", NAMES)
def test_doubled_and_repeated_observations_say_nothing_new(name: str) -> None:
    seen = load(name)
    plain, entries = replay(seen)
    doubled, entries_doubled = replay(each for one in seen for each in (one, one))
    assert entries_doubled == entries
    _again, nothing = replay(seen, doubled)
    assert nothing == []
    assert [summary(doubled, c) for c in doubled.changes] == [summary(plain, c) for c in plain.changes]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("skew", ["runs first", "runs last", 1, 2, 3, 4, 5])
def test_any_interleaving_of_the_watches_tells_the_same(name: str, skew: str | int) -> None:
    seen = load(name)
    rollouts = [each for each in seen if each.kind == "Rollout"]
    others = [each for each in seen if each.kind != "Rollout"]
    if skew == "runs first":
        mixed = others + rollouts
    elif skew == "runs last":
        mixed = rollouts + others
    else:
        chance = random.Random(skew)
        mixed, left, right = [], list(rollouts), list(others)
        while left or right:
            mixed.append((left if not right or (left and chance.random() < 0.5) else right).pop(0))
    plain, _entries = replay(seen)
    follower, _entries = replay(mixed)
    assert [summary(follower, c) for c in follower.changes] == [summary(plain, c) for c in plain.changes]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rollout_first", [True, False])
def test_cut_at_every_event_and_taken_up_again(name: str, rollout_first: bool) -> None:
    """A second follower that gets the objects as they are at the cut, and then the rest.

    Every change that the Rollout shows (observed) at or after the cut ends with the same outcome and reason, the same
    set of measurements with nothing lost or doubled as far as the runs still hold them, and the same steps. Only a
    step that was over before the cut may say `passed`, and an aborted attempt that was over before has no steps.
    """
    seen = load(name)
    whole, _entries = replay(seen)
    kept = kept_by_the_runs(seen)
    expected = {(change.hash, change.revision): summary(whole, change) for change in whole.changes}
    before = Follower("lumen-api")
    for cut in range(1, len(seen)):
        replay(seen[cut - 1 : cut], before)
        target = before.change.hash if before.change and not before.change.outcome else ""
        restarted = Follower("lumen-api", target)
        now = objects_now(seen[:cut], rollout_first)
        replay(now, restarted)
        replay(seen[cut:], restarted)
        shown = visible(whole, [each for each in now if each.kind == "Rollout"] + seen[cut:], target)
        got = {(change.hash, change.revision): summary(restarted, change) for change in restarted.changes}
        assert [key for key in got if key[1]] == shown, (cut, target)
        for key in shown:
            same_story(got[key], expected[key], kept, cut)


def objects_now(seen: list[Seen], rollout_first: bool) -> list[Seen]:
    latest = {each.object["metadata"]["uid"]: each for each in seen}
    return sorted(latest.values(), key=lambda each: (each.kind == "Rollout") != rollout_first)


def visible(whole: Follower, seen: list[Seen], target: str) -> list[tuple[str, str]]:
    """Changes that a follower beginning with these observations can know of."""
    known = [(change.hash, change.revision) for change in whole.changes]
    shown: list[tuple[str, str]] = []
    for each in seen:
        if each.kind != "Rollout":
            continue
        view = read_rollout(each.object)
        key = (view.hash, view.revision)
        if view.observed and key in known and key not in shown and (view.hash != view.stable or view.hash == target):
            shown.append(key)
        if view.observed:
            target = ""
    return shown


def kept_by_the_runs(seen: list[Seen]) -> set[str]:
    runs = {each.object["metadata"]["uid"]: each.object for each in seen if each.kind == "AnalysisRun"}
    return {str(measurement) for run in runs.values() for measurement in read_run(run).measurements}


def same_story(got: dict[str, Any], expected: dict[str, Any], kept: set[str], cut: int) -> None:
    assert (got["outcome"], got["reason"]) == (expected["outcome"], expected["reason"]), cut
    assert got["measurements"] <= expected["measurements"], cut
    assert expected["measurements"] - got["measurements"] <= expected["measurements"] - kept, cut
    if not got["steps"]:
        assert got["outcome"] == "aborted", cut
        return
    assert len(got["steps"]) == len(expected["steps"]), cut
    for mine, theirs in zip(got["steps"], expected["steps"], strict=True):
        assert mine == theirs or mine == (*theirs[:2], "passed"), cut


def test_a_measurement_that_the_controller_took_back_is_remembered() -> None:
    seen = load("rollout-abort-retry-promote")
    follower, _entries = replay(seen)
    forgotten = {str(m) for change in follower.changes for m in change.measurements} - kept_by_the_runs(seen)
    assert len(forgotten) == 1
    assert "0.8814833935393476" in forgotten.pop()


def test_retries_keep_each_attempt_and_skip_what_was_promoted() -> None:
    follower, entries = replay(load("rollout-abort-retry-promote"))
    change = follower.changes[0]
    assert change.attempt == 3
    assert [entry.kind for entry in entries if entry.kind in ("aborted", "retried", "promoted")] == [
        "aborted",
        "retried",
        "aborted",
        "retried",
        "promoted",
    ]
    assert {m.run for m in change.measurements} == {
        f"lumen-api-64bdf7c984-3-{run}" for run in ("1", "3", "1.1", "3.1", "1.2")
    }


def test_half_a_minute_of_silence_is_not_an_end() -> None:
    seen = load("controller-killed")
    silence = next(k for k in range(1, len(seen)) if seen[k].at - seen[k - 1].at > 20 and k > 10)
    follower, _entries = replay(seen[:silence])
    assert follower.state()[:1] == ("progressing",)
    assert follower.state().decision == ""


def test_actual_weight_beside_the_set_one() -> None:
    _follower, entries = replay(load("rollout-promoted"))
    assert [entry.text for entry in entries if entry.kind == "step_ended" and "→" in entry.text] == [
        "setWeight 20 → 1 canary / 2 stable (33 % actual)",
        "setWeight 80 → 2 canary / 1 stable (67 % actual)",
        "setWeight 100 → 2 canary / 0 stable (100 % actual)",
    ]


def test_decisions_along_the_way() -> None:
    """Indefinite pause asks; a pause with a duration does not; nothing is decided before the spec is observed."""
    follower = Follower("lumen-api")
    told: list[tuple[str, str]] = []
    for each in load("argocd-bumps-and-reverts"):
        follower.see(each.kind, each.object, each.at)
        if follower.change and follower.change.revision == "12" and each.kind == "Rollout":
            state = follower.state()
            if not told or told[-1] != (state.phase, state.decision):
                told.append((state.phase, state.decision))
    assert told[:6] == [
        ("progressing", ""),
        ("paused", "pause"),
        ("progressing", ""),
        ("paused", ""),
        ("progressing", ""),
        ("promoted", "good"),
    ]


# What our limit of three failures in a row says of each recording: (hash, revision) -> the run that it ends.
GUARDED = {
    "rollout-promoted": {},
    "rollout-aborted-by-analysis": {("64bdf7c984", "3"): "lumen-api-64bdf7c984-3-1"},
    "rollout-abort-retry-promote": {},
    "controller-killed": {("6bcb9b5648", "4"): "lumen-api-6bcb9b5648-4-1"},
    "argocd-bumps-and-reverts": {
        ("64bdf7c984", "3"): "lumen-api-64bdf7c984-3-3",
        ("64bdf7c984", "5"): "lumen-api-64bdf7c984-5-1",  # 2 good and 3 failed: Successful for Argo
        ("6bcb9b5648", "9"): "lumen-api-6bcb9b5648-9-1",
    },
    "canary-scoped-analysis": {},  # the third failure is Argo's verdict too
}


def guard(follower: Follower) -> tuple[str, str, str] | None:
    """The change that our limit ends now, and why."""
    state = follower.state()
    ours = state.decision == "bad" and "(ours)" in state.reason
    return (state.canary_hash, state.revision, state.reason) if ours else None


@pytest.mark.parametrize("name", NAMES)
def test_three_failures_in_a_row_by_our_limit(name: str) -> None:
    follower, ended = Follower("lumen-api", failures_in_a_row=3), {}
    for each in load(name):
        follower.see(each.kind, each.object, each.at)
        found = guard(follower)
        if found is not None:
            ended.setdefault(found[:2], found[2])
    assert {key: reason.split()[3] for key, reason in ended.items()} == GUARDED[name]


@pytest.mark.parametrize("name", NAMES)
def test_our_limit_says_the_same_wherever_it_is_cut(name: str) -> None:
    seen = load(name)
    whole, told = Follower("lumen-api", failures_in_a_row=3), []
    for each in seen:
        whole.see(each.kind, each.object, each.at)
        told.append(guard(whole))
    before = Follower("lumen-api")
    for cut in range(1, len(seen)):
        replay(seen[cut - 1 : cut], before)
        target = before.change.hash if before.change and not before.change.outcome else ""
        restarted, _entries = replay(
            objects_now(seen[:cut], rollout_first=True), Follower("lumen-api", target, failures_in_a_row=3)
        )
        got = [guard(restarted)]
        for each in seen[cut:]:
            restarted.see(each.kind, each.object, each.at)
            got.append(guard(restarted))
        assert got == told[cut - 1 :], cut
