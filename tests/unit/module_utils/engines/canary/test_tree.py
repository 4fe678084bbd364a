# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tree against what the kubectl plugin printed of a real cluster; its every corner is in tests/parity."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.objects import HASH_LABEL, REVISION_ANNOTATION
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.tree import (
    Parts,
    describe,
    human_duration,
    render,
)
from ansible_collections.lumen.airgap.plugins.module_utils.times import rfc3339
from ansible_collections.lumen.airgap.tests.unit.fixtures.recordings import NAMES, load

TREES = Path(__file__).resolve().parents[3] / "fixtures" / "trees"
IMAGE = "192.168.2.2:5000/lumen-api"
IMAGES = {"b67698557": f"{IMAGE}:v1.1.0", "64bdf7c984": f"{IMAGE}:v1.4.0-bad", "6bb5c5698b": f"{IMAGE}:v1.0.0"}
_UNITS = {"s": 1, "m": 60}


def moment(clock: str) -> float:
    return datetime.fromisoformat(f"2026-11-23T{clock}").replace(tzinfo=UTC).timestamp()


def seconds(age: str) -> int:
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([sm])", age))


def printed(text: str, now: float, owner: str) -> Parts:
    """The ReplicaSets and pods that are in a printed tree; the recording has only Rollout and AnalysisRuns."""
    sets: list[dict[str, Any]] = []
    pods: list[dict[str, Any]] = []
    revision = ""
    for line in text.splitlines():
        if found := re.search(r"# revision:(\d+)", line):
            revision = found[1]
        elif found := re.search(r"⧉ (\S+) +ReplicaSet +. (\w+) +(\w+)", line):
            sets.append(replica_set(found[1], revision, rfc3339(now - seconds(found[3])), owner))
        elif found := re.search(r"□ (\S+) +Pod +. Running +(\w+) +ready:1/1", line):
            pods.append(pod(found[1], rfc3339(now - seconds(found[2])), sets[-1]))
            for place in (("spec", "replicas"), ("status", "replicas"), ("status", "availableReplicas")):
                sets[-1][place[0]][place[1]] += 1
    return Parts(sets, pods)


def replica_set(name: str, revision: str, created: str, owner: str) -> dict[str, Any]:
    hash = name.rpartition("-")[2]
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "creationTimestamp": created,
            "labels": {HASH_LABEL: hash},
            "annotations": {REVISION_ANNOTATION: revision},
            "ownerReferences": [{"uid": owner}],
        },
        "spec": {"replicas": 0, "template": {"spec": {"containers": [{"image": IMAGES[hash]}]}}},
        "status": {"replicas": 0, "availableReplicas": 0},
    }


def pod(name: str, created: str, owner: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "creationTimestamp": created, "ownerReferences": [owner["metadata"]]},
        "spec": {"containers": [{"name": "api"}]},
        "status": {"phase": "Running", "containerStatuses": [{"ready": True, "state": {"running": {}}}]},
    }


@pytest.mark.parametrize(("name", "at"), [("aborted", "12:58:47"), ("during-analysis", "12:58:06")])
def test_equal_to_what_the_plugin_printed(name: str, at: str) -> None:
    text = (TREES / f"plugin-tree-{name}.txt").read_text(encoding="utf-8")
    now = moment(at)
    seen = {each.object["metadata"]["uid"]: each for each in load("rollout-aborted-by-analysis") if each.at <= now}
    rollout = next(each.object for each in seen.values() if each.kind == "Rollout")
    parts = printed(text, now, rollout["metadata"]["uid"])
    runs = [each.object for each in seen.values() if each.kind == "AnalysisRun"]
    assert render(describe(rollout, parts._replace(analysis_runs=runs)), now) == text


def test_a_terminated_run_did_not_pass() -> None:
    """The plugin prints Successful; the data say what it was worth."""
    seen = {each.object["metadata"]["uid"]: each for each in load("rollout-abort-retry-promote")}
    rollout = next(each.object for each in seen.values() if each.kind == "Rollout")
    runs = [each.object for each in seen.values() if each.kind == "AnalysisRun"]
    status = describe(rollout, Parts(analysis_runs=runs))
    terminated = [run for run in status["analysis_runs"] if run["terminated"]]
    assert terminated
    assert {(run["phase"], run["passed"]) for run in terminated} == {("Successful", False)}
    assert any(run["failed"] for run in terminated)


@pytest.mark.parametrize("name", NAMES)
def test_every_moment_of_the_recordings_can_be_shown(name: str) -> None:
    now: dict[str, dict[str, Any]] = {}
    for each in load(name):
        now[each.object["metadata"]["uid"]] = each.object
        runs = [obj for obj in now.values() if obj["kind"] == "AnalysisRun"]
        for rollout in (obj for obj in now.values() if obj["kind"] == "Rollout"):
            text = render(describe(rollout, Parts(analysis_runs=runs)), each.at)
            assert text.count("AnalysisRun ") == len(runs)


def test_a_rollout_that_nobody_has_looked_at() -> None:
    rollout = {"metadata": {"name": "api", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {}}
    status = describe(rollout, Parts())
    assert (status["phase"], status["strategy"], status["step"]) == ("Progressing", "", None)
    assert status["replicas"] == {"desired": 1, "current": 0, "updated": 0, "ready": 0, "available": 0}
    assert "Status:          ◌ Progressing" in render(status, moment("00:00:00"))


@pytest.mark.parametrize(
    ("duration", "text"),
    [(-2, "<invalid>"), (-1, "0s"), (119, "119s"), (120, "2m"), (599, "9m59s"), (600, "10m"), (3600 * 7.5, "7h30m")],
)
def test_durations(duration: float, text: str) -> None:
    assert human_duration(duration) == text


def test_the_images_of_the_newest_and_the_stable_template_are_named_without_pods_too() -> None:
    rollout = {
        "metadata": {"name": "api", "namespace": "lumen", "uid": "u"},
        "spec": {"strategy": {"canary": {}}, "template": {"spec": {"containers": []}}},
        "status": {"currentPodHash": "64bdf7c984", "stableRS": "b67698557"},
    }
    sets = [replica_set(f"api-{hash}", "1", "2026-01-01T00:00:00Z", "u") for hash in IMAGES]
    found = describe(rollout, Parts(sets))
    assert (found["newest_images"], found["stable_images"]) == ([f"{IMAGE}:v1.4.0-bad"], [f"{IMAGE}:v1.1.0"])
    # A ReplicaSet may have no hash, and so may a Rollout that its controller has not looked at.
    del rollout["status"], sets[0]["metadata"]["labels"]
    unknown = describe(rollout, Parts(sets))
    assert (unknown["newest_images"], unknown["stable_images"]) == ([], [])
