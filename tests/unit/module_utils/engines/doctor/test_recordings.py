# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that a real cluster went through, diagnosed after each event."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import groupby

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.doctor.facts import Facts
from ansible_collections.lumen.airgap.tests.unit.module_utils.engines.doctor.conftest import codes, one, recorded

# When what was found changed, to the second.
STORIES = {
    "argocd-bumps-and-reverts": [
        ("13:28:30", []),
        ("13:30:47", ["analysis-failed", "aborted-not-reverted"]),  # a bad bump
        ("13:31:54", []),  # a sync without a difference: seen, and nothing has changed
        ("13:31:54", ["analysis-failed", "aborted-not-reverted"]),
        ("13:32:05", []),  # set image by hand
        ("13:32:06", ["restarted-after-abort"]),  # and selfHeal takes it back
        ("13:32:43", []),
        ("13:32:43", ["analysis-failed", "aborted-not-reverted"]),
        ("13:32:59", []),  # the revert
        ("13:34:38", ["analysis-no-traffic", "aborted-not-reverted"]),
        ("13:35:18", []),
        ("13:36:09", ["analysis-unreachable", "aborted-not-reverted"]),  # Prometheus away
        ("13:37:05", []),
        ("13:37:07", ["rollout-paused"]),
        ("13:37:16", []),  # promoted; the pause of 5 s at 13:37:18 is none that anybody waits for
    ],
    "rollout-abort-retry-promote": [
        ("12:59:12", ["aborted-not-reverted"]),
        ("12:59:12", ["analysis-failed", "aborted-not-reverted"]),
        ("12:59:14", ["restarted-after-abort"]),  # retry
        ("12:59:30", ["analysis-failed", "aborted-not-reverted"]),  # abort by hand
        ("12:59:39", ["restarted-after-abort"]),  # retry
        ("12:59:49", []),  # promoted in full
    ],
    "rollout-promoted": [("12:55:47", [])],
    "canary-scoped-analysis": [
        ("13:58:41", ["application-error"]),  # its project was not there yet
        ("13:59:20", []),
        ("14:02:03", ["analysis-failed", "aborted-not-reverted"]),
        ("14:02:06", []),
    ],
}


@pytest.mark.parametrize("name", STORIES)
def test_what_is_found_when(name: str) -> None:
    told = [
        (datetime.fromtimestamp(next(group).now, UTC).strftime("%H:%M:%S"), found)
        for found, group in groupby(recorded(name), key=codes)
    ]
    assert told == STORIES[name]


def test_numbers_and_the_way_out_of_a_bad_version(moment_of: Callable[[str, str], Facts]) -> None:
    facts = moment_of("argocd-bumps-and-reverts", "13:30:49.977")
    analysis = one(facts, "analysis-failed")
    assert analysis.cause == (
        "lumen-api:v1.4.0-bad does not keep the condition 'len(result) == 0 || result[0] >= 0.95'."
    )
    assert "success-rate measured [0.848] (Failed), [0.788] (Failed), [0.744] (Failed), [0.704] (Failed)" in (
        analysis.evidence
    )
    aborted = one(facts, "aborted-not-reverted")
    assert "the spec has 192.168.2.2:5000/lumen-api:v1.4.0-bad, stable pods run 192.168.2.2:5000/lumen-api:v1.1.0" in (
        aborted.evidence
    )
    assert "Application lumen-app is synced to e8fc8cb: selfHeal sees no difference" in aborted.evidence
    assert "git revert --no-commit" in aborted.remedy[0]


def test_a_touch_is_told_from_a_retry(moment_of: Callable[[str, str], Facts]) -> None:
    touched = one(moment_of("argocd-bumps-and-reverts", "13:32:08.273"), "restarted-after-abort")
    assert (touched.severity, "Its spec was touched" in touched.cause) == ("error", True)
    assert "now revision 5, Progressing at step 2, with the same pods (64bdf7c984)" in touched.evidence
    retried = one(moment_of("rollout-abort-retry-promote", "12:59:14.017"), "restarted-after-abort")
    assert (retried.severity, "retry" in retried.cause) == ("warning", True)


def test_no_traffic_is_told_from_a_bad_version(moment_of: Callable[[str, str], Facts]) -> None:
    found = one(moment_of("argocd-bumps-and-reverts", "13:34:38.771"), "analysis-no-traffic")
    assert "success-rate measured [NaN] (Failed) 4 times" in found.evidence


def test_a_pause_is_what_argo_cd_calls_suspended(moment_of: Callable[[str, str], Facts]) -> None:
    found = one(moment_of("argocd-bumps-and-reverts", "13:37:07.543"), "rollout-paused")
    assert found.severity == "info"
    assert "Argo CD shows the Application lumen-app as Suspended, its word for a pause" in found.evidence
    assert "$ ansible-playbook -i INVENTORY lumen.airgap.promote" in found.remedy[0]
