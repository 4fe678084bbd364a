# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an app's releases are doing, looked at once or followed. It only reads, by the identity of releases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Callable, NamedTuple, TypeVar

from ..adapters.kube.kinds import ANALYSIS_RUN, DEPLOYMENT, POD, REPLICA_SET, ROLLOUT
from ..adapters.kube.session import Forbidden, KubeError, Session
from ..adapters.kube.watcher import Observation, Subscription
from ..engines.argo.ownership import application_of
from ..engines.argo.status import describe, read
from ..engines.canary.follow import Follower, measurement_text
from ..engines.canary.journal import of_canary
from ..engines.canary.objects import read_run
from ..engines.canary.pair import StateError, canary_name, read_memory
from ..engines.canary.tree import pod_summary
from ..engines.release_status import ended_text, pods_line, screen
from ..engines.workloads.objects import images_of, owner_of
from ..errors import AirgapError
from ..times import Clock
from .argo_application import find
from .evidence import entry_text
from .evidence_chain import Store, inspect
from .live import Output, Watching
from .release_record import Standing, standing
from .rollout import statuses

_TICK = 1.0
_POLL = 2.0
_OVER = ("none", "ended")
_LOST = {
    "expired": "the Lease has expired: whoever released does not renew it; run the same release again to end it",
    "dead": "the process that released is dead: run the same release again to end it",
    "open": "nobody holds the release: run it again to end it",
}

T = TypeVar("T")
Object = Mapping[str, Any]


class Wanted(NamedTuple):
    """What is looked at. Without a ``directory`` the evidence is not, without ``argocd_namespace`` no Application."""

    app: str
    namespace: str
    argocd_namespace: str = ""
    directory: str = ""
    host: str = ""


class Status:
    """One app."""

    def __init__(self, session: Session, clock: Clock, wanted: Wanted) -> None:
        self.session = session
        self.clock = clock
        self.wanted = wanted
        self._problems: list[str] = []

    # -- once --------------------------------------------------------------------------------------------------------

    def look(self) -> dict[str, Any]:
        """Everything, with its ``text``. What cannot be read is among the ``problems``, and its part None."""
        self._problems = []
        app, namespace, now = self.wanted.app, self.wanted.namespace, self.clock.time()
        record = self.read("release record", self.standing)
        rollout = self.read("Rollout", self._rollout)
        deployments = [] if rollout else self.read("Deployments", self.deployments) or []
        application = self.read("Application", self._application) if self.wanted.argocd_namespace else None
        found: dict[str, Any] = {
            "app": app,
            "namespace": namespace,
            "release": _release(record) if record else None,
            "previous": record.previous if record else [],
            "rollout": rollout,
            "deployments": deployments,
            "checks": self.read("AnalysisRuns", self._checks) or [] if rollout else [],
            "application": application,
            "evidence": self.read("evidence", self._evidence) if self.wanted.directory else None,
            "problems": self._problems,
        }
        return {**found, "text": screen(found, now)}

    def read(self, what: str, call: Callable[[], T]) -> T | None:
        """What ``call`` returns; None when it cannot be read, which is then among the ``problems``."""
        try:
            return call()
        except AirgapError as error:
            self._problems.append(f"{what}: {error.message}")
            return None

    def standing(self) -> Standing:
        """How the release record stands."""
        return standing(self.session, self.clock, self.wanted.namespace, self.wanted.app)

    def _rollout(self) -> dict[str, Any] | None:
        try:
            found = statuses(self.session, self.wanted.namespace, [self.wanted.app], self.clock.time())
        except KubeError as error:
            if error.reason == "UnknownKind":  # a cluster without Argo Rollouts has Deployments
                return None
            raise
        return found[0] if found else None

    def deployments(self) -> list[dict[str, Any]]:
        """Stable and canary of an app without a Rollout: {role, name, replicas, images, pods, …}."""
        app, namespace = self.wanted.app, self.wanted.namespace
        pair = {"stable": app, "canary": canary_name(app)}
        there = {role: self.session.find(DEPLOYMENT, name, namespace) for role, name in pair.items()}
        if there["stable"] is None:
            return []
        sets = self.session.list(REPLICA_SET, namespace).items
        pods = self.session.list(POD, namespace).items
        return [_deployment(role, body, sets, pods) for role, body in there.items() if body is not None]

    def _application(self) -> dict[str, Any] | None:
        app, namespace = self.wanted.app, self.wanted.namespace
        for kind in (ROLLOUT, DEPLOYMENT):
            try:
                body = self.session.find(kind, app, namespace)
            except KubeError as error:
                if error.passing:
                    raise
                continue  # of the two, the identity may read what its driver moves
            name = application_of(body) if body else None
            if name:
                item = find(self.session, self.wanted.argocd_namespace, name)
                text = describe(read(item)) if item else f"not there, in {self.wanted.argocd_namespace}"
                return {"name": name, "text": text}
        return None

    def _checks(self) -> list[str]:
        """Of the analyses that run, each measurement."""
        runs = [
            read_run(obj)
            for obj in self.session.list(ANALYSIS_RUN, self.wanted.namespace).items
            if any(owner.get("name") == self.wanted.app for owner in obj["metadata"].get("ownerReferences") or ())
        ]
        going_on = [run for run in runs if not run.ended]
        return [f"{each.at[11:19]}  {measurement_text(each)}" for run in going_on for each in run.measurements]

    def _evidence(self) -> dict[str, Any]:
        wanted = self.wanted
        store = Store(self.session, wanted.namespace, wanted.app)
        report, _documents = inspect(wanted.directory, wanted.app, wanted.namespace, store, wanted.host)
        return report.as_dict()

    # -- live --------------------------------------------------------------------------------------------------------

    def follow(self, out: Output, watch: Callable[[Sequence[Subscription]], Watching], seconds: float) -> bool:
        """Print what happens, until a release has ended that was in progress or has begun since. False: in vain."""
        return _Follow(self, out, watch).run(seconds)


class _Follow:
    """What was told already."""

    def __init__(self, status: Status, out: Output, watch: Callable[[Sequence[Subscription]], Watching]) -> None:
        self._status = status
        self._session, self._clock, self._wanted = status.session, status.clock, status.wanted
        self._out = out
        self._watch = watch
        self._follower = Follower(self._wanted.app)
        self._release = ""
        self._state = ""
        self._journal: list[dict[str, Any]] = []
        self._pods = ""
        self._away = False
        self._watcher: Watching | None = None

    def run(self, seconds: float) -> bool:
        """See ``Status.follow``."""
        end = self._clock.monotonic() + seconds
        self._watcher = self._started()
        try:
            self._begin()
            due = self._clock.monotonic() + _POLL
            while self._clock.monotonic() < end:
                self._tick()
                self._out.check()
                if self._clock.monotonic() < due:
                    continue
                due = self._clock.monotonic() + _POLL
                if self._poll():
                    return True
        finally:
            if self._watcher is not None:
                self._watcher.stop()
        self._say(f"nothing more within {seconds:g} s")
        return False

    def _begin(self) -> None:
        """What the first screen has shown is not told again."""
        record = self._status.standing()
        self._take(record)
        if record.state in _OVER:
            self._say("no release is in progress: waiting for one to begin")
        self._pods = pods_line({"deployments": self._deployments()})

    def _take(self, record: Standing) -> None:
        self._state = record.state
        self._release = str(record.current.get("id", ""))
        self._journal = record.entries

    def _started(self) -> Watching | None:
        """The watch of a Rollout; None where there is none, and a Deployment is asked now and then."""
        if self._status.read("Rollout", self._there) is None:
            return None
        namespace, now = self._wanted.namespace, self._clock.time()
        subscriptions = [
            Subscription(ROLLOUT, namespace, field_selector=f"metadata.name={self._wanted.app}"),
            *(Subscription(kind, namespace) for kind in (REPLICA_SET, POD, ANALYSIS_RUN)),
        ]
        for subscription in subscriptions:
            for item in self._session.list(*subscription).items:
                self._follower.see(subscription.kind.kind, item, now)
        watcher = self._watch(subscriptions)
        watcher.start()
        return watcher

    def _there(self) -> dict[str, Any] | None:
        return self._session.find(ROLLOUT, self._wanted.app, self._wanted.namespace)

    def _tick(self) -> None:
        if self._watcher is None:
            self._clock.sleep(_TICK)
            return
        observation = self._watcher.next(_TICK)
        while observation is not None:
            self._see(observation)
            observation = self._watcher.next(0.0)

    def _see(self, observation: Observation) -> None:
        if observation.outage:
            self._say(observation.outage)
            return
        kind, deleted = observation.kind.kind, observation.type == "DELETED"
        for entry in self._follower.see(kind, observation.object, observation.at, deleted):
            self._say(entry.line)

    def _poll(self) -> bool:
        """The record, which cannot be watched, and Deployments. True: the release has ended."""
        try:
            record = self._status.standing()
            deployments = self._deployments()
        except KubeError as error:
            if not error.passing:
                raise
            if not self._away:
                self._say(f"the record cannot be read: {error.message}")
            self._away = True
            return False
        self._away = False
        self._say_pods(deployments)
        return self._say_record(record)

    def _deployments(self) -> list[dict[str, Any]]:
        if self._watcher is not None:
            return []
        try:
            return self._status.deployments()
        except Forbidden:  # of the two, the identity may read what its driver moves
            return []

    def _say_pods(self, deployments: list[dict[str, Any]]) -> None:
        line = pods_line({"deployments": deployments})
        if line != self._pods:
            self._say(f"  {line}")
        self._pods = line

    def _say_record(self, record: Standing) -> bool:
        before, told, release = self._state, self._journal, self._release
        self._take(record)
        if not record.current:
            return False
        if self._release != release:
            told = []
            self._say(f"release {self._release} begins")
        for entry in record.entries:
            # Of a Rollout, the objects themselves say what its canary notes.
            if entry not in told and not self._shown(entry):
                self._say(entry_text(entry))
        if record.state != before and record.state in _LOST:
            self._say(_LOST[record.state])
        ended = record.state == "ended" and (self._release != release or before != "ended")
        if ended:
            self._say(f"{record.current['version']} of {self._wanted.app} {ended_text(record.current)}")
        return ended

    def _shown(self, entry: Mapping[str, Any]) -> bool:
        return self._follower.rollout is not None and of_canary(entry)

    def _say(self, text: str) -> None:
        at = datetime.fromtimestamp(self._clock.time(), timezone.utc).strftime("%H:%M:%S")
        self._out.line(f"{at}  {text}")


def _release(record: Standing) -> dict[str, Any]:
    last = record.entries[-1] if record.entries else {}
    holder = record.holder
    held = (
        {
            "run": holder.run,
            "host": holder.process.get("host", ""),
            "pid": holder.process.get("pid", 0),
            "renewed": holder.renewed,
            "expires": holder.expires,
        }
        if holder
        else {}
    )
    current = record.current
    return {
        **{key: current.get(key) for key in ("id", "version", "started_at", "finished_at", "outcome", "reason")},
        "state": record.state,
        "phase": entry_text(last) if last else "begun",
        "phase_at": last.get("at") or current.get("started_at") or "",
        "holder": held,
    }


def _deployment(role: str, body: Object, sets: Sequence[Object], pods: Sequence[Object]) -> dict[str, Any]:
    owned = {each["metadata"]["name"] for each in sets if owner_of(each, "Deployment") == body["metadata"]["name"]}
    status = body.get("status") or {}
    return {
        "name": body["metadata"]["name"],
        "role": role,
        "replicas": body["spec"].get("replicas", 1),
        "available": status.get("availableReplicas") or 0,
        "updated": status.get("updatedReplicas") or 0,
        "images": list(images_of(body)),
        "step": _step(body) if role == "canary" else None,
        "pods": [pod_summary(pod) for pod in pods if owner_of(pod, "ReplicaSet") in owned],
    }


def _step(canary: Object) -> dict[str, int] | None:
    try:
        memory = read_memory(canary)
    except StateError:  # somebody else's Deployment of that name
        return None
    return {"index": min(memory.index, max(0, len(memory.steps) - 1)), "count": len(memory.steps)}
