# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A runner of Gitea's actions in the cluster: registered, online by Gitea's own word, and drained before it goes.

Its state is a file on its node, so a new pod is the same runner. The file's name has the id of the registration, which
is kept in the runner's Secret: a new id (the first run, or when Gitea has forgotten the runner) makes it register anew.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ..adapters.gitea import Gitea, GiteaError, Scope
from ..adapters.kube.kinds import DEPLOYMENT, POD, SECRET
from ..adapters.kube.session import KubeError, NotFound, Session
from ..engines.actions.runner import Runner, objects
from ..errors import AirgapError
from ..times import Clock
from .apply import apply, remove
from .waiting import NotReady, wait_ready

_PACE = 2.0
#: Gitea calls a runner offline this many seconds after its last word; a little more.
_OFFLINE = 75.0

Record = Mapping[str, Any]
Progress = Callable[[str], None]


class ActRunner:
    """One runner: its objects in the cluster and its records in Gitea."""

    def __init__(
        self,
        session: Session,
        gitea: Gitea,
        scope: Scope,
        runner: Runner,
        clock: Clock,
        progress: Progress = lambda line: None,
        dry_run: bool = False,
    ) -> None:
        runner.check()
        self._session = session
        self._gitea = gitea
        self._scope = scope
        self._runner = runner
        self._clock = clock
        self._progress = progress
        self._dry_run = dry_run

    # --- present ----------------------------------------------------------------------------------------------------

    def present(self, wait_timeout: float, new_id: Callable[[], str] = lambda: uuid.uuid4().hex[:8]) -> dict[str, Any]:
        """Have the runner online. ``wait_timeout`` in seconds. Raises AirgapError with what was last seen."""
        before = self._records()
        kept = self._kept()
        # Without any record Gitea has forgotten it: what the runner has on its node is of no use any more.
        again = not before or kept.get("identity") != self._identity or not kept.get("registration")
        registration = new_id() if again else kept["registration"]
        wanted = self._objects(registration, self._token(kept))
        outcome = apply(self._session, wanted, dry_run=self._dry_run, progress=self._progress, clock=self._clock)
        enabled = self._enable(before)
        if self._dry_run:
            online = _newest([record for record in before if self._is_right(record)])
            pruned = [record["id"] for record in before if _offline(record) and record is not online]
        else:
            until = self._clock.monotonic() + wait_timeout
            deployment = [item for item in wanted if item["kind"] == DEPLOYMENT.kind]
            try:
                wait_ready(self._session, deployment, self._clock, wait_timeout, self._progress)
            except NotReady as error:
                raise AirgapError(
                    f"{error.message.rstrip('.')}. {self._where_its_words_are()}", **error.details
                ) from error
            known = {record["id"] for record in before} if again else set()
            online = self._wait_online(until, wait_timeout, known)
            pruned = self._prune(online, known)
        return {
            "changed": outcome.changed or enabled or bool(pruned),
            "runner": _shown(online),
            "pruned": pruned,
            "changes": outcome.as_list(),
            "diff": outcome.diff,
        }

    def _token(self, kept: Mapping[str, str]) -> str:
        """The registration token. Asking for it may make one, so check mode takes the one that is in the Secret."""
        if self._dry_run:
            return kept.get("token") or "(minted in a run)"
        return self._gitea.registration_token(self._scope)

    def _kept(self) -> dict[str, str]:
        """What the Secret holds."""
        try:
            secret = self._session.find(SECRET, self._runner.name, self._runner.namespace)
        except NotFound:
            secret = None
        data = (secret or {}).get("data") or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def _objects(self, registration: str, token: str) -> list[dict[str, Any]]:
        return objects(self._runner, {"token": token, "registration": registration, "identity": self._identity})

    @property
    def _identity(self) -> str:
        """What a registration is good for."""
        return f"{self._runner.runner_name} of {self._scope.text} at {self._runner.instance_url}"

    def _records(self) -> list[dict[str, Any]]:
        """The runners of our name."""
        found = [r for r in self._gitea.runners(self._scope) if r["name"] == self._runner.runner_name]
        return sorted(found, key=lambda record: int(record["id"]))

    def _is_right(self, record: Record) -> bool:
        return not _offline(record) and _labels(record) == sorted(self._runner.label_names)

    def _enable(self, records: Sequence[Record]) -> bool:
        """A removal that was broken off has left the runner disabled."""
        disabled = [record["id"] for record in records if record.get("disabled")]
        for runner_id in disabled if not self._dry_run else []:
            self._gitea.disable_runner(self._scope, runner_id, False)
        return bool(disabled)

    def _wait_online(self, until: float, seconds: float, known: set[int]) -> Record:
        """The runner as Gitea sees it, once it is online with the right labels. Those ``known`` are of before."""
        said = ""
        while True:
            try:
                records = self._records()
                new = [record for record in records if record["id"] not in known]
                online = _newest([record for record in new if self._is_right(record)])
                if online is not None:
                    return online
                seen = "; ".join(map(_words, records)) or f"no runner of the name {self._runner.runner_name}"
            except GiteaError as error:
                if not error.passing:
                    raise
                records, seen = [], error.message
            if seen != said:
                self._progress(f"waiting until Gitea reports the runner online: {seen}")
                said = seen
            if self._clock.monotonic() >= until:
                wanted = ", ".join(sorted(self._runner.label_names))
                raise AirgapError(
                    f"Gitea ({self._gitea.url}) does not report the runner {self._runner.runner_name} of "
                    f"{self._scope} online with the labels {wanted} after {seconds:g} s. Last seen: {seen}. "
                    f"{self._where_its_words_are()}",
                    runners=[_shown(record) for record in records],
                )
            self._clock.sleep(_PACE)

    def _where_its_words_are(self) -> str:
        return f"What the runner says: kubectl --namespace {self._runner.namespace} logs deployment/{self._runner.name}"

    def _prune(self, online: Record, known: set[int]) -> list[int]:
        """Remove dead records of our name: all that are offline. Those ``known`` are ours, and die within a minute."""
        until = self._clock.monotonic() + _OFFLINE
        pruned = []
        while True:
            others = [record for record in self._records() if record["id"] != online["id"]]
            for record in filter(_offline, others):
                if self._gitea.delete_runner(self._scope, int(record["id"])):
                    self._progress(f"removed the dead record {record['id']} of {record['name']}")
                    pruned.append(int(record["id"]))
            dying = [record["id"] for record in others if not _offline(record) and record["id"] in known]
            if not dying or self._clock.monotonic() >= until:
                return pruned
            self._progress(f"waiting until Gitea calls the old record {dying[0]} offline")
            self._clock.sleep(_PACE)

    # --- absent -----------------------------------------------------------------------------------------------------

    def absent(self, drain_timeout: float) -> dict[str, Any]:
        """Let the runner finish its jobs, then remove it. ``drain_timeout`` in seconds."""
        wanted = self._objects("none", "none")
        deployment = [item for item in wanted if item["kind"] == DEPLOYMENT.kind]
        rest = [item for item in wanted if item["kind"] != DEPLOYMENT.kind]
        there = remove(self._session, wanted, dry_run=True)
        records = self._records()
        # With no pod of it at work in the cluster, one that is online is somebody else's: unless a removal that was
        # broken off has disabled it.
        online = [record for record in records if not _offline(record)]
        if not self._works():
            online = [record for record in online if record.get("disabled") and there.changed]
        ours = _newest(online)
        gone = [record for record in records if _offline(record) or record is ours]
        if not self._dry_run:
            if ours is not None:
                self._drain(ours, drain_timeout)
            remove(self._session, deployment, propagation="Foreground")
            self._wait_gone(drain_timeout)
            gone = [record for record in gone if self._gitea.delete_runner(self._scope, int(record["id"]))]
            # Last, for whoever takes this up when it is broken off: they say that the record is ours.
            remove(self._session, rest)
        return {
            "changed": there.changed or bool(gone),
            "runner": {},
            "pruned": [int(record["id"]) for record in gone],
            "changes": there.as_list(),
            "diff": there.diff,
        }

    def _works(self) -> bool:
        there = self._session.find(DEPLOYMENT, self._runner.name, self._runner.namespace)
        return bool(((there or {}).get("status") or {}).get("readyReplicas"))

    def _drain(self, record: Record, seconds: float) -> None:
        runner_id = int(record["id"])
        if not record.get("disabled"):
            self._gitea.disable_runner(self._scope, runner_id, True)
        until = self._clock.monotonic() + seconds
        said = ""
        while True:
            # A job that it took a moment ago shows among the jobs before the runner calls itself busy.
            jobs = [job for job in self._gitea.running_jobs(self._scope) if job.get("runner_id") == runner_id]
            busy = any(r["id"] == runner_id and r.get("busy") for r in self._records())
            if not jobs and not busy:
                return
            names = ", ".join(f"{job.get('name')} (job {job.get('id')})" for job in jobs) or "a job that has just ended"
            if names != said:
                self._progress(f"the runner takes no more jobs; waiting for {names}")
                said = names
            if self._clock.monotonic() >= until:
                raise AirgapError(
                    f"The runner {self._runner.runner_name} is still busy after {seconds:g} s with {names}. It is "
                    "disabled and takes no other job. Wait for its job or cancel it in Gitea, and run this again",
                    runners=[_shown(record)],
                )
            self._clock.sleep(_PACE)

    def _wait_gone(self, seconds: float) -> None:
        """Until no pod of it is left: it would make its record anew, or work on."""
        until = self._clock.monotonic() + seconds + 60.0
        while True:
            try:
                pods = self._session.list(POD, self._runner.namespace, f"app={self._runner.name}").items
            except KubeError as error:
                if not error.passing:
                    raise
            else:
                if not pods:
                    return
                if self._clock.monotonic() >= until:
                    raise AirgapError(
                        f"The pod {pods[0]['metadata']['name']} of the runner has not ended after {seconds + 60:g} s"
                    )
            self._clock.sleep(_PACE)


def _offline(record: Record) -> bool:
    return bool(record.get("status") != "online")


def _labels(record: Record) -> list[str]:
    return sorted(str(label["name"]) for label in record.get("labels") or [])


def _newest(records: Sequence[Record]) -> Record | None:
    return max(records, key=lambda record: int(record["id"]), default=None)


def _words(record: Record) -> str:
    return f"runner {record['id']} is {record.get('status')}, its labels are {', '.join(_labels(record)) or 'none'}"


def _shown(record: Record | None) -> dict[str, Any]:
    if record is None:
        return {}
    return {
        "id": int(record["id"]),
        "name": str(record["name"]),
        "status": str(record.get("status")),
        "labels": _labels(record),
    }
