# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Gitea 1.26 and its runner have said of a test that failed, as they said it."""

from __future__ import annotations

from typing import Any

from ansible_collections.lumen.airgap.plugins.module_utils.engines.actions.jobs import (
    JobFollower,
    failed,
    failed_step,
    headline,
    last_words,
)

TIMES = {"started_at": "2026-01-01T00:00:10Z", "completed_at": "2026-01-01T00:00:12Z"}


def step(name: str, number: int, conclusion: str) -> dict[str, Any]:
    return {"name": name, "number": number, "status": "completed", "conclusion": conclusion, **TIMES}


JOB = {
    "id": 17,
    "name": "test",
    "status": "completed",
    "conclusion": "failure",
    "steps": [step("Run actions/checkout@v4", 0, "failure"), step("Test", 1, "failure"), step("Push", 2, "skipped")],
    **TIMES,
}
LOG = """2026-01-01T00:00:11.0000000Z --- FAIL: TestHealth (0.00s)
2026-01-01T00:00:11.0000000Z FAIL\tlumen.example/lumen-api\t0.020s
2026-01-01T00:00:11.0000000Z FAIL
2026-01-01T00:00:11.0000000Z ##[error]Process completed with exit code 1.
2026-01-01T00:00:11.0000000Z Run Post actions/checkout@v4
2026-01-01T00:00:11.0000000Z docker cp src=/data/.cache dst=/var/run/act
2026-01-01T00:00:11.0000000Z Success - Post actions/checkout@v4
2026-01-01T00:00:11.0000000Z Job 'test' failed
"""


def test_an_action_that_tidies_up_at_the_end_has_not_failed() -> None:
    assert failed([JOB]) is JOB
    assert failed_step(JOB) == "Test"
    assert JobFollower().see([JOB]) == [
        "  test › Run actions/checkout@v4 ✔ 2 s",
        "  test › Test ✖ 2 s",
        "test ✖ 2 s",
    ]


def test_the_first_step_can_fail_as_well() -> None:
    steps = [step("Run actions/checkout@v4", 0, "failure"), step("Test", 1, "skipped")]
    assert failed_step({**JOB, "steps": steps}) == "Run actions/checkout@v4"


def test_a_job_that_ended_before_its_steps_has_failed_in_none_of_them() -> None:
    """Its container was there, and the server that has the action of its first step was not."""
    never = {"started_at": "1970-01-01T00:00:00Z", "completed_at": "1970-01-01T00:00:00Z"}
    steps = [{**step(name, number, "failure"), **never} for number, name in enumerate(["checkout", "Build", "Push"])]
    job = {**JOB, "steps": steps}
    assert (failed([job]), failed_step(job)) == (job, "")
    assert JobFollower().see([job]) == ["test ✖ 2 s"]


def test_the_last_words_are_those_before_the_runner_tidies_up() -> None:
    assert last_words(LOG)[-1] == "FAIL"
    assert len(last_words(LOG)) == 3
    assert headline(last_words(LOG)) == "--- FAIL: TestHealth (0.00s)"
    assert (headline(["a", "b"]), headline([])) == ("b", "")


def test_an_error_that_a_workflow_tells_is_its_last_word() -> None:
    told = LOG.replace("Process completed with exit code 1.", "v1 is no version")
    assert headline(last_words(told)) == last_words(told)[-1] == "##[error]v1 is no version"
