# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The screen, of data as the service makes it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.release_status import pods_line, screen
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import EPOCH

NOW = EPOCH + 90


def release(**changes: Any) -> dict[str, Any]:
    return {
        "id": "api-v2-2",
        "version": "v2",
        "started_at": "2026-01-01T00:00:00Z",
        "finished_at": None,
        "outcome": None,
        "reason": None,
        "state": "running",
        "phase": "step 2/5 analysis",
        "phase_at": "2026-01-01T00:01:20Z",
        "holder": {"run": "r1", "host": "control-1", "pid": 7, "renewed": NOW - 2, "expires": NOW + 58},
        **changes,
    }


def status(**changes: Any) -> dict[str, Any]:
    return {
        "app": "api",
        "namespace": "lumen",
        "release": release(),
        "previous": [],
        "rollout": {"tree": "Name:            api\nStatus:          Paused\n"},
        "deployments": [],
        "checks": [],
        "application": None,
        "evidence": None,
        "problems": [],
        **changes,
    }


def test_a_release_in_progress() -> None:
    previous = [{"version": "v1", "outcome": "rolled_back", "reason": "why", "finished_at": "2026-01-01T00:00:00Z"}]
    more = {
        "previous": previous * 2,
        "application": {"name": "lumen-app", "text": "Synced at 0b9f7c02, Healthy"},
        "evidence": {"line": "intact: 1 of 1"},
        "problems": ["AnalysisRuns: refused"],
        "checks": [f"00:00:0{number}  check {number}" for number in range(8)],
    }
    assert screen(status(**more), NOW) == [
        "api in lumen",
        "  release   v2 (api-v2-2) in progress",
        "  phase     step 2/5 analysis, 10s ago; begun 90s ago",
        "  held by   run r1, process 7 on control-1, renewed 2 s ago, for another 58 s",
        "  Argo CD   Application lumen-app: Synced at 0b9f7c02, Healthy",
        "  evidence  intact: 1 of 1",
        "  before    2026-01-01 00:00:00  v1  rolled back: why",
        "            2026-01-01 00:00:00  v1  rolled back: why",
        "  not read  AnalysisRuns: refused",
        "  measured",
        "    … 2 before",
        *(f"    00:00:0{number}  check {number}" for number in range(2, 8)),
        "",
        "Name:            api",
        "Status:          Paused",
    ]


@pytest.mark.parametrize("state", ["expired", "dead", "open"])
def test_one_that_nobody_works_on(state: str) -> None:
    holder = {"run": "r1", "host": "", "pid": 0, "renewed": NOW - 70, "expires": NOW - 10}
    told = screen(status(release=release(state=state, holder=holder)), NOW)
    assert "NOT in progress" in told[1]
    assert "run the same release again" in told[1]
    assert told[3] == "  held by   run r1, renewed 70 s ago, expired 10 s ago"


def test_one_that_has_ended() -> None:
    ended = release(state="ended", outcome="rolled_back", reason="why", finished_at="2026-01-01T00:01:00Z", holder={})
    assert screen(status(release=ended), NOW)[1] == "  release   v2 (api-v2-2) rolled back 30s ago: why"


def test_nothing_yet() -> None:
    told = screen(status(release={"state": "none"}, rollout=None), NOW)
    assert told == [
        "api in lumen",
        "  release   none yet",
        "  evidence  not looked at",
        "",
        "No Rollout and no Deployment api in lumen.",
    ]
    assert screen(status(release=None), NOW)[1] == "  evidence  not looked at"
    unread = screen(status(rollout=None, problems=["Rollouts: refused"]), NOW)[-1]
    assert unread == "No Rollout and no Deployment api in lumen, as far as could be read."


def test_deployments() -> None:
    pod = {"name": "api-1", "phase": "Running", "ready": 1, "containers": 1, "restarts": 2}
    stable = {
        "name": "api",
        "role": "stable",
        "replicas": 3,
        "available": 3,
        "updated": 3,
        "images": ["a:v1"],
        "step": None,
        "pods": [pod],
    }
    canary = {**stable, "name": "api-canary", "role": "canary", "step": {"index": 1, "count": 4}, "pods": []}
    made = status(rollout=None, deployments=[stable, canary])
    assert screen(made, NOW)[-5:] == [
        "Deployment api (stable): 3/3 available, 3 updated",
        "  a:v1",
        "  pod api-1  Running  ready:1/1, restarts:2",
        "Deployment api-canary (canary, step 2/4): 3/3 available, 3 updated",
        "  a:v1",
    ]
    assert pods_line(made) == "pods available: stable 3/3, canary at step 2/4 3/3"
    assert pods_line(status()) == ""
