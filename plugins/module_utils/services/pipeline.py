# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A version by the pipeline: its tag in Gitea, the run that the tag starts, and the bump that the run makes.

Killed and called again it takes up what is there: a tag on the same commit, a run in progress, or one that succeeded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Protocol, TypeVar

from ..adapters.gitea import Content, GiteaError, NotFound
from ..engines import gitops
from ..engines.actions import jobs as engine
from ..engines.doctor.pipeline import run_of_tag
from ..engines.workflow_triggers import silent
from ..errors import AirgapError
from ..times import Clock
from .live import Output

T = TypeVar("T")

_TICK = 1.0
_SHOWN = 10
#: How many commits after the bump, others among them, are looked at to find it: a request for each.
_COMMITS = 10
#: How long a tag may be there before its run is, in seconds: Gitea makes the run as it takes the tag.
_SETTLED = 15.0
_WHY_NONE = (
    "Has the repository Actions, and does a workflow in it run on this tag? `ansible-playbook -i INVENTORY "
    "lumen.airgap.doctor` looks for the cause."
)
_COMMIT = re.compile(r"[0-9A-Fa-f]{7,64}")


class Gitea(Protocol):
    """What is asked of ``adapters.gitea.Gitea``."""

    def tag(self, owner: str, name: str, tag: str) -> dict[str, Any] | None:
        """A tag."""

    def create_tag(self, owner: str, name: str, tag: str, target: str, message: str) -> dict[str, Any]:
        """Make one."""

    def commit(self, owner: str, name: str, ref: str) -> dict[str, Any]:
        """A commit."""

    def runs(self, owner: str, name: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Runs, newest first."""

    def run(self, owner: str, name: str, run_id: int) -> dict[str, Any]:
        """One."""

    def rerun(self, owner: str, name: str, run_id: int) -> None:
        """Its failed jobs again."""

    def run_jobs(self, owner: str, name: str, run_id: int) -> list[dict[str, Any]]:
        """Its jobs."""

    def job_log(self, owner: str, name: str, job_id: int) -> str:
        """The log of one."""

    def content(self, owner: str, name: str, path: str, branch: str) -> Content | None:
        """A file."""

    def last_commits(self, owner: str, name: str, branch: str, path: str, limit: int) -> list[dict[str, Any]]:
        """Who changed it last, newest first."""


class PipelineFailed(AirgapError):
    """The run ended badly; the details have its jobs and the last lines of the log."""


class Wanted(NamedTuple):
    """``target`` is a branch or a commit; ``manifest`` is empty where nothing is bumped. Deadlines in seconds."""

    owner: str
    name: str
    tag: str
    target: str = "main"
    message: str = ""
    branch: str = "main"
    manifest: str = ""
    image: str = ""
    retry: bool = False
    start_deadline: float = 60.0
    deadline: float = 1800.0


class Pipeline:
    """One version of one repository."""

    def __init__(self, gitea: Gitea, clock: Clock, out: Output, wanted: Wanted) -> None:
        self._gitea = gitea
        self._clock = clock
        self._out = out
        self._wanted = wanted
        self._where = (wanted.owner, wanted.name)
        self._tagged = False
        self._open = False
        self._ended_before = False

    @property
    def _title(self) -> str:
        return f"{self._wanted.owner}/{self._wanted.name}"

    def preview(self) -> dict[str, Any]:
        """Check mode: refuse what a run would refuse, and say what would be tagged."""
        tag, commit = self._look()
        # A run that was killed may have made the tag just now.
        run = self._appearing(commit, min(_SETTLED, self._wanted.start_deadline)) if tag else None
        if tag and run is None:
            raise AirgapError(
                f"The tag {self._wanted.tag} of {self._title} is there, on the commit {commit[:_SHOWN]}, and has "
                f"started no run. It will start none any more: release another version. {_WHY_NONE}"
            )
        done = run is not None and run.get("status") == "completed"
        going = not done or (self._wanted.retry and run is not None and run.get("conclusion") != engine.SUCCESS)
        return {"changed": going, "tag": self._wanted.tag, "commit": commit, "run": {}, "jobs": [], "bump": {}}

    def run(self) -> dict[str, Any]:
        """Tag, follow, and find the bump. Raises PipelineFailed, and AirgapError for what could not begin.

        The details of an error have ``running`` where a run goes on, or nobody knows that none does: whoever gives up
        there leaves one that bumps the manifest at its end.
        """
        return self._telling(self._from_tag_to_bump)

    def settle(self, wait: bool = True) -> dict[str, Any]:
        """Until no run of the tag goes on, however it ends; nothing is tagged or started. Raises as ``run`` does.

        A tag that has started no run within the deadline for that has none. Without ``wait``, what is there now.
        """
        return self._telling(lambda: self._to_the_end(wait))

    def _telling(self, what: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return what()
        except AirgapError as error:
            if self._open or (isinstance(error, GiteaError) and error.passing):
                error.details["running"] = True
            raise

    def _to_the_end(self, wait: bool) -> dict[str, Any]:
        self._open = True  # who may not ask does not know
        tag = self._soon(lambda: self._gitea.tag(*self._where, self._wanted.tag))
        commit = str(tag["commit"]["sha"]) if tag else ""
        self._open = tag is not None
        run = (self._appearing(commit) if wait else self._runs(commit)) if tag else None
        jobs: list[dict[str, Any]] = []
        if run is not None:
            jobs = self._jobs(run)
            if wait and not engine.over(run, jobs):
                self._tell(run)
                run, jobs = self._follow(run)
        self._open = False
        return {
            "changed": False,
            "tag": self._wanted.tag,
            "commit": commit,
            "run": _report(run) if run is not None else {},
            "jobs": engine.report(jobs),
            "bump": {},
        }

    def _from_tag_to_bump(self) -> dict[str, Any]:
        tag, commit = self._soon(self._look)
        if tag is None:
            self._gitea.create_tag(*self._where, self._wanted.tag, commit, self._wanted.message)
            self._tagged = True
            self._out.line(f"tag {self._wanted.tag} → {commit[:_SHOWN]} in {self._title}")
        else:
            self._out.line(f"tag {self._wanted.tag} is on {commit[:_SHOWN]} of {self._title} already")
        self._open = True
        run = self._started(commit)
        adopted = self._ended_well(run)
        run, jobs = (run, self._jobs(run)) if adopted else self._follow(run)
        self._open = False
        self._judge(run, jobs)
        return {
            "changed": self._tagged or not adopted,
            "tag": self._wanted.tag,
            "commit": commit,
            "run": _report(run),
            "jobs": engine.report(jobs),
            "bump": self._soon(lambda: self._bump(adopted)),
        }

    # -- the tag ---------------------------------------------------------------------------------------------------

    def _look(self) -> tuple[dict[str, Any] | None, str]:
        """The tag, if it is there, and the commit that it is on or will be on."""
        wanted = self._wanted
        tag = self._gitea.tag(*self._where, wanted.tag)
        found = self._gitea.commit(*self._where, str(tag["commit"]["sha"]) if tag else wanted.target)
        commit, message = str(found["sha"]), str(found["commit"]["message"])
        if silent(message) and not (tag and self._runs(commit)):
            raise AirgapError(
                f"The commit {commit[:_SHOWN]} of {self._title} says in its message that no pipeline shall run "
                f"({message.splitlines()[0]}), so the tag {wanted.tag} on it starts none, silently. "
                f"{self._instead(tag)}"
            )
        # A branch may have moved on since the tag was made of it.
        if tag and _COMMIT.fullmatch(wanted.target) and not commit.startswith(wanted.target.lower()):
            raise AirgapError(
                f"The tag {wanted.tag} of {self._title} is on the commit {commit[:_SHOWN]} already, not on "
                f"{wanted.target}. A version is built once: release another one."
            )
        return tag, commit

    @staticmethod
    def _instead(tag: Mapping[str, Any] | None) -> str:
        if tag:  # the input of the workflow is a tag that exists
            return "Start the pipeline by hand, with this tag as its ref and its input, or release another version."
        return (
            "Push a commit without these words, which may be empty (git commit --allow-empty), or name an earlier "
            "commit without them: -e target=<commit>."
        )

    # -- the run ---------------------------------------------------------------------------------------------------

    def _runs(self, commit: str) -> dict[str, Any] | None:
        found = run_of_tag(self._gitea.runs(*self._where, {"head_sha": commit}), self._wanted.tag)
        return dict(found) if found else None

    def _started(self, commit: str) -> dict[str, Any]:
        run = self._appearing(commit)
        if run is None:
            raise AirgapError(
                f"The tag {self._wanted.tag} of {self._title} has started no run within "
                f"{self._wanted.start_deadline:g} s. {_WHY_NONE}"
            )
        self._tell(run)
        return run

    def _appearing(self, commit: str, seconds: float | None = None) -> dict[str, Any] | None:
        """The run of the tag; None when there is none within ``seconds``, or else the deadline for that."""
        end = self._clock.monotonic() + (self._wanted.start_deadline if seconds is None else seconds)
        while True:
            run = self._insist(lambda: self._runs(commit), end)
            if run:
                return dict(run)
            if self._clock.monotonic() >= end:
                return None
            self._wait()

    def _tell(self, run: Mapping[str, Any]) -> None:
        self._out.line(f"run {run.get('run_number') or run['id']} of {self._title}: {run.get('html_url', '')}")

    def _ended_well(self, run: dict[str, Any]) -> bool:
        """Whether nothing is left to be followed. A run that failed is started again where that is wanted."""
        if run.get("status") != "completed":
            return False
        jobs, number = self._jobs(run), run.get("run_number") or run["id"]
        if not engine.over(run, jobs):
            return False
        if run.get("conclusion") == engine.SUCCESS and engine.failed(jobs) is None:
            self._out.line(f"run {number} has succeeded already")
            return True
        if self._wanted.retry:
            self._gitea.rerun(*self._where, int(run["id"]))
            self._out.line(f"run {number}: its failed jobs again")
            self._restarted(run)
        else:
            self._ended_before = True
        return False

    def _restarted(self, before: dict[str, Any]) -> None:
        """Until the run is not the one that has failed any more."""
        end = self._clock.monotonic() + self._wanted.start_deadline
        while self._clock.monotonic() < end:
            run = self._insist(lambda: self._gitea.run(*self._where, int(before["id"])), end)
            if run.get("status") != "completed" or run.get("run_attempt") != before.get("run_attempt"):
                return
            self._wait()

    def _follow(self, run: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        follower, number = engine.JobFollower(), int(run["id"])
        end = self._clock.monotonic() + self._wanted.deadline
        while True:
            jobs = self._insist(lambda: self._gitea.run_jobs(*self._where, number), end)
            for line in follower.see(jobs):
                self._out.line(line)
            run = self._insist(lambda: self._gitea.run(*self._where, number), end)
            if engine.over(run, jobs):
                return run, jobs
            if self._clock.monotonic() >= end:
                states = ", ".join(f"{job['name']}: {job.get('conclusion') or job.get('status')}" for job in jobs)
                raise PipelineFailed(
                    f"The pipeline of {self._wanted.tag} was not done after {self._wanted.deadline:g} s; last seen: "
                    f"{states or 'no job'}",
                    run=_report(run),
                    jobs=engine.report(jobs),
                )
            self._wait()

    def _jobs(self, run: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._gitea.run_jobs(*self._where, int(run["id"]))

    def _judge(self, run: dict[str, Any], jobs: Sequence[dict[str, Any]]) -> None:
        job = engine.failed(jobs)
        if job is None and run.get("conclusion") == engine.SUCCESS:
            return
        log = self._log(job) if job else []
        for line in log:
            self._out.line(f"  | {line}")
        where = f"its job {job['name']}" if job else "it"
        step = engine.failed_step(job) if job else ""
        at = f", step {step}" if step else ""
        ended = job.get("conclusion") if job else run.get("conclusion")
        last = f": {engine.headline(log)}" if log else ""
        when = " before, and nothing of it was run again" if self._ended_before else ""
        raise PipelineFailed(
            f"The pipeline of {self._wanted.tag} ended badly{when}: {where} ended in {ended}{at}{last}. Its log: "
            f"{run.get('html_url', '')}. Release a corrected version, or set retry to have its failed jobs run again.",
            run=_report(run),
            jobs=engine.report(jobs),
            log=log,
        )

    def _log(self, job: Mapping[str, Any]) -> list[str]:
        try:
            return engine.last_words(self._gitea.job_log(*self._where, int(job["id"])))
        except GiteaError as error:
            return [f"its log cannot be read: {error.message}"]

    # -- what it leaves --------------------------------------------------------------------------------------------

    def _bump(self, adopted: bool) -> dict[str, Any]:
        """The commit by which the manifest names the image: {commit, message}.

        Of a run that was ``adopted`` the bump may have been taken back since: empty then, and also where more was
        changed since than anybody looks through. Raises when the manifest does not name the image otherwise.
        """
        wanted = self._wanted
        if not wanted.manifest:
            return {}
        where = f"{wanted.manifest} on the branch {wanted.branch} of {self._title}"
        file = self._gitea.content(*self._where, wanted.manifest, wanted.branch)
        if file is None:
            raise AirgapError(f"There is no {where}, so that nobody knows what the pipeline has bumped")
        images = _images(file)
        if not any(_same(image, wanted.image) for image in images):
            if adopted:
                return {}
            named = ", ".join(images) or "none"
            raise AirgapError(
                f"{where} does not name {wanted.image} after its pipeline, but {named}. Was another version released "
                "meanwhile?"
            )
        commits = self._gitea.last_commits(*self._where, wanted.branch, wanted.manifest, _COMMITS)
        if not commits:
            raise NotFound(f"There is no commit of {where}")
        # Somebody may have changed something else in it since.
        for commit in commits:
            if not any(self._named_at(str(parent["sha"])) for parent in commit.get("parents") or ()):
                return {"commit": str(commit["sha"]), "message": str(commit["commit"]["message"]).strip()}
        return {}

    def _named_at(self, commit: str) -> bool:
        """Whether the manifest names the image there."""
        file = self._gitea.content(*self._where, self._wanted.manifest, commit)
        try:
            images = _images(file) if file else []
        except gitops.GitopsError:
            return False  # it was no manifest then
        return any(_same(image, self._wanted.image) for image in images)

    # -- waiting ---------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        self._out.check()
        self._clock.sleep(_TICK)

    def _soon(self, ask: Callable[[], T]) -> T:
        return self._insist(ask, self._clock.monotonic() + self._wanted.start_deadline)

    def _insist(self, ask: Callable[[], T], end: float) -> T:
        """Through a Gitea that is away for a while, until ``end``."""
        said = False
        while True:
            try:
                return ask()
            except GiteaError as error:
                if not error.passing or self._clock.monotonic() >= end:
                    raise
                if not said:
                    self._out.line(f"Gitea does not answer: {error.message}")
                    said = True
                self._wait()


def _images(manifest: Content) -> list[str]:
    return [found.image for found in gitops.find_images(manifest.data.decode("utf-8", "replace"))]


def _same(found: str, wanted: str) -> bool:
    """Whether it is that image, pinned to a digest or not."""
    return found == wanted or found.partition("@")[0] == wanted


def _report(run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": int(run["id"]),
        "url": str(run.get("html_url") or ""),
        "attempt": int(run.get("run_attempt") or 0),
        "conclusion": str(run.get("conclusion") or ""),
        "started_at": str(run.get("started_at") or ""),
        "completed_at": str(run.get("completed_at") or ""),
    }
