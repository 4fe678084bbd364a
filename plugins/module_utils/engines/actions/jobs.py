# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The jobs of a run as Gitea's API gives them (1.26, modules/structs/repo_actions.go), followed from outside.

A run is over when each of its jobs is: between two jobs Gitea may call it completed for a moment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

Job = Mapping[str, Any]

SUCCESS, SKIPPED = "success", "skipped"
_MARKS = {SUCCESS: "✔", "failure": "✖", "cancelled": "✖", SKIPPED: "–"}
_WAITING = {"queued": "waits for a runner", "waiting": "waits for a runner", "blocked": "waits for another job"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z ?")
#: What the runner says after a step has failed.
_TIDYING = re.compile(
    r".*(?:Cleaning up|Job failed|Job '.*' failed|skipping post step|exitcode '\d+': failure|Job succeeded"
    r"|##\[error\]Process completed with exit code \d+\.).*"
)
#: Where a step has failed. After it the runner does what every job ends with.
_ERROR = "##[error]"
_LOG_LINES = 50
#: What tests of most languages say of one that fails.
_FAILURE = re.compile(r"\s*(?:--- FAIL: |FAILED |not ok |Error: ).*")


class JobFollower:
    """Tells what is new in the jobs of one run; feed it as often as you like."""

    def __init__(self) -> None:
        self._said: dict[Any, str] = {}

    def see(self, jobs: Sequence[Job]) -> list[str]:
        """Lines such as ``test ✔ 12 s`` and ``test › Build ✔ 9 s``."""
        lines = []
        for job in jobs:
            for step in _steps(job):
                if step.get("conclusion") and step["conclusion"] != SKIPPED:
                    lines += self._new((job["id"], step.get("number")), f"  {job['name']} › {_text(step)}")
            lines += self._new(job["id"], _text(job))
        return lines

    def _new(self, key: Any, text: str) -> list[str]:
        if self._said.get(key) == text:
            return []
        self._said[key] = text
        return [text]


def over(run: Mapping[str, Any], jobs: Sequence[Job]) -> bool:
    """Whether the run and all of its jobs have ended."""
    return run.get("status") == "completed" and bool(jobs) and all(job.get("conclusion") for job in jobs)


def failed(jobs: Sequence[Job]) -> Job | None:
    """The first job that ended badly."""
    return next((job for job in jobs if job.get("conclusion") not in (SUCCESS, SKIPPED, None, "")), None)


def failed_step(job: Job) -> str:
    """The name of the step that it failed in; empty when Gitea does not say."""
    bad = [step for step in _steps(job) if step.get("conclusion") not in (SUCCESS, SKIPPED, None, "")]
    return str(bad[0].get("name") or "") if bad else ""


def _steps(job: Job) -> list[Job]:
    """Its steps, each with its own conclusion.

    Of an action that tidies up at the end of the job, such as a checkout, Gitea 1.26 says how the job ended. But after
    a step that has failed no other one is run. Where the job ended before its steps, Gitea says of each that it failed,
    and that it began in 1970.
    """
    steps = [
        {**step, "conclusion": SKIPPED} if step.get("started_at") and not _moment(step["started_at"]) else step
        for step in job.get("steps") or ()
    ]
    ran = [number for number, step in enumerate(steps) if step.get("conclusion") not in (SKIPPED, None, "")]
    return [
        {**step, "conclusion": SUCCESS} if number in ran[:-1] and step.get("conclusion") == "failure" else step
        for number, step in enumerate(steps)
    ]


def last_words(log: str) -> list[str]:
    """The last lines of a job's log before the runner tidies up, without their times."""
    lines = [_TIME.sub("", line, count=1).rstrip() for line in log.splitlines()]
    errors = [number for number, line in enumerate(lines) if line.startswith(_ERROR)]
    lines = lines[: errors[-1] + 1] if errors else lines
    told = [line for line in lines if line and not _TIDYING.fullmatch(line)]
    return told[-_LOG_LINES:]


def headline(words: Sequence[str]) -> str:
    """The one of the last words that says most; empty without any."""
    told = [line for line in words if line.startswith(_ERROR)] or [line for line in words if _FAILURE.fullmatch(line)]
    return (told or list(words[-1:]) or [""])[-1].strip()


def report(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """What is returned of each job: {name, conclusion, started_at, completed_at}."""
    keys = ("name", "conclusion", "started_at", "completed_at")
    return [{key: str(job.get(key) or "") for key in keys} for job in jobs]


def _text(what: Mapping[str, Any]) -> str:
    conclusion = str(what.get("conclusion") or "")
    name = str(what.get("name") or "")
    if conclusion:
        return f"{name} {_MARKS.get(conclusion, conclusion)}{_lasted(what)}"
    status = str(what.get("status") or "")
    runner = str(what.get("runner_name") or "")
    running = f"runs on {runner}" if runner else "runs"
    return f"{name} {running if status == 'in_progress' else _WAITING.get(status, status)}"


def _lasted(what: Mapping[str, Any]) -> str:
    begin, end = (_moment(what.get(key)) for key in ("started_at", "completed_at"))
    if begin is None or end is None or end < begin:
        return ""
    return f" {(end - begin).total_seconds():.0f} s"


def _moment(text: Any) -> datetime | None:
    """None for a time that Gitea leaves empty, which it writes as the year 1 or 1970."""
    try:
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.year > 1970 else None
