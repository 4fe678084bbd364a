# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An Application of Argo CD: written, asked to look at Git now, waited for, and removed with or without what it has.

A wait asks three things, for each alone is true too early: sync speaks of the wanted commit, no operation is on its
way, and each Rollout and Deployment says of its own present generation that it is healthy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

from ..adapters.kube.kinds import APPLICATION, DAEMON_SET, DEPLOYMENT, POD, ROLLOUT, STATEFUL_SET
from ..adapters.kube.session import Conflict, Forbidden, KubeError, NotFound, Session
from ..engines.argo import status
from ..engines.argo.application import CASCADE, REFRESH
from ..engines.argo.status import DONE, FAILED, Live, Resource, View
from ..engines.workloads.objects import images_of
from ..engines.workloads.problems import pod_problem
from ..errors import AirgapError
from ..times import Clock
from .apply import DELETED, Change, Outcome

_PACE = 0.5
#: Seconds after which Argo CD is asked again to look at Git, while it does not speak of the wanted commit.
_ASK_AGAIN = 10.0
#: Seconds that a look at Git may take before it is told that it has not come.
_PATIENCE = 5.0
#: Seconds that an error of Argo CD may last: a repo-server that has just started says several.
_ERROR_PATIENCE = 30.0
_KINDS = {kind.kind: kind for kind in (ROLLOUT, DEPLOYMENT, STATEFUL_SET, DAEMON_SET)}

Progress = Callable[[str], None]


class NotThere(AirgapError):
    """The Application is not what was waited for; ``reasons`` and what was seen last are in the details."""


class Wanted(NamedTuple):
    """What is waited for; without a revision any commit will do."""

    revision: str | None = None
    healthy: bool = True
    suspended: bool = False
    image: str = ""
    """What a workload's template has once the revision, or one that came after it, was brought."""

    def __str__(self) -> str:
        state = "Synced and Healthy" if self.healthy else "Synced"
        return f"{state} at {self.revision[:8]}" if self.revision else state


def find(session: Session, namespace: str, name: str) -> dict[str, Any] | None:
    """The Application, None when it is not there or the cluster does not know Applications."""
    try:
        return session.find(APPLICATION, name, namespace)
    except NotFound:
        return None


def refresh(session: Session, namespace: str, name: str, how: str) -> None:
    """Have Argo CD compare with Git now; ``how`` is normal, or hard to render the manifests anew as well."""
    session.patch(APPLICATION, name, namespace, {"metadata": {"annotations": {REFRESH: how}}})


def wait(
    session: Session,
    namespace: str,
    name: str,
    wanted: Wanted,
    clock: Clock,
    deadline: float,
    terminate: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Return the Application's status (see ``summary``) once it is as wanted.

    ``terminate`` ends a sync of another commit that fails again and again, for the wanted one has to wait for it.
    Raises ``NotThere`` at the deadline (seconds from now), or as soon as waiting is of no use.
    """
    waiting = _Wait(session, namespace, name, wanted, clock, terminate, progress)
    until = clock.monotonic() + deadline
    while not waiting.look():
        if clock.monotonic() >= until:
            raise waiting.failure(f" after {deadline:g} s")
        clock.sleep(_PACE)
    return waiting.summary()


class _Wait:
    """What was seen of an Application that is waited for, and what was done about it."""

    def __init__(
        self,
        session: Session,
        namespace: str,
        name: str,
        wanted: Wanted,
        clock: Clock,
        terminate: bool,
        progress: Progress,
    ) -> None:
        self._session = session
        self._where = (namespace, name)
        self._wanted = wanted
        self._clock = clock
        self._terminate = terminate
        self._progress = progress
        self._view: View | None = None
        self._lives: list[Live] = []
        self._images: set[str] = set()
        self._reasons: tuple[str, ...] = ("it was not asked yet",)
        self._began = self._asked = self._well = clock.monotonic()
        self._told = ""
        self._ended: set[str] = set()

    def look(self) -> bool:
        """Whether it is as wanted now. Raises ``NotThere`` when it will not become so by itself."""
        try:
            return self._look()
        except KubeError as error:
            if not error.passing:
                raise
            self._reasons = (error.message,)
            return False

    def _look(self) -> bool:
        namespace, name = self._where
        view = self._view = status.read(self._session.get(APPLICATION, name, namespace))
        seen = _look(self._session, view)
        self._lives = [each.live for each in seen]
        self._images = {image for each in seen for image in each.images}
        revision = None if self._overtaken(view) else self._wanted.revision
        verdict = status.judge(view, self._lives, revision, self._wanted.healthy, self._wanted.suspended)
        self._reasons = verdict.reasons
        if verdict.state == DONE:
            return True
        now = self._clock.monotonic()
        if not view.refreshing or now - self._began >= _PATIENCE:  # a look at Git takes a moment
            self._tell(f"{name}: {status.describe(view)}" + "".join(f"; {reason}" for reason in verdict.reasons[:1]))
        if not view.errors:
            self._well = now
        if verdict.state == FAILED or now - self._well >= _ERROR_PATIENCE:
            raise self.failure()
        self._help(view, now)
        return False

    def _overtaken(self, view: View) -> bool:
        """Whether a commit was brought that somebody has pushed after the wanted one: the image is there."""
        image = self._wanted.image
        if not image or view.refreshing or status.reached(view, self._wanted.revision):
            return False
        return image in self._images

    def _help(self, view: View, now: float) -> None:
        """Do what brings the wanted commit nearer."""
        namespace, name = self._where
        stale = status.stale_operation(view, self._wanted.revision) if self._terminate else None
        if stale is not None and stale.revision not in self._ended:
            self._ended.add(stale.revision)
            self._tell(f"{name}: ending the sync of {stale.revision[:8]}, which keeps {self._wanted.revision} waiting")
            body = {"status": {"operationState": {"phase": "Terminating"}}}
            self._session.patch(APPLICATION, name, namespace, body)
        behind = bool(view.errors) or not status.reached(view, self._wanted.revision)
        if behind and not view.busy and now - self._asked >= _ASK_AGAIN:
            self._asked = now
            refresh(self._session, namespace, name, "normal")

    def summary(self) -> dict[str, Any]:
        """What was seen last."""
        return summary(self._view, self._lives, self._wanted.revision) if self._view is not None else {}

    def failure(self, when: str = "") -> NotThere:
        """The error that says why it is not as wanted."""
        seen = f" It is {status.describe(self._view)}." if self._view is not None else ""
        why = f" {'; '.join(self._reasons)}" if self._reasons else ""
        return NotThere(
            f"The Application {'/'.join(self._where)} is not {self._wanted}{when}.{seen}{why}",
            reasons=list(self._reasons),
            status=self.summary(),
        )

    def _tell(self, line: str) -> None:
        if line != self._told:
            self._told = line
            self._progress(line)


def look(session: Session, view: View) -> list[Live]:
    """What the Rollouts, Deployments and so on of the Application say themselves, with what keeps their pods down.

    Of those that may not be read, the Application's own word has to do.
    """
    return [seen.live for seen in _look(session, view)]


class _Seen(NamedTuple):
    """A workload, and the images of its template."""

    live: Live
    images: tuple[str, ...]


def _look(session: Session, view: View) -> list[_Seen]:
    found = []
    for resource in filter(status.is_workload, view.resources):
        try:
            found.append(_seen(session, resource))
        except Forbidden:
            continue
    return found


def summary(view: View, lives: Sequence[Live], revision: str | None = None) -> dict[str, Any]:
    """The status as a module returns it."""
    operation = view.operation
    return {
        "sync": view.sync,
        "revision": view.revision,
        "health": view.health,
        "operation": {"phase": operation.phase, "revision": operation.revision, "message": operation.message}
        if operation
        else None,
        "resources": [
            {"kind": each.kind, "namespace": each.namespace, "name": each.name, "status": each.status}
            for each in view.resources
        ],
        "workloads": [
            {
                "kind": live.resource.kind,
                "namespace": live.resource.namespace,
                "name": live.resource.name,
                "health": live.health,
                "message": live.message,
            }
            for live in lives
        ],
        "reasons": list(status.reasons(view, lives, revision)),
    }


def delete(
    session: Session,
    namespace: str,
    name: str,
    cascade: bool,
    clock: Clock,
    deadline: float,
    dry_run: bool,
    progress: Progress,
) -> Outcome:
    """Delete the Application: with ``cascade`` what it has deployed goes first, without it that stays as it is.

    Returns when it is gone. Raises ``NotThere`` when it is still there at the deadline.
    """
    outcome = Outcome()
    item = find(session, namespace, name)
    if item is None:
        return outcome
    outcome.add(Change("Application", namespace, name, DELETED), _shown(item), None)
    if dry_run:
        return outcome
    _set_cascade(session, item, cascade)
    try:
        session.delete(APPLICATION, name, namespace)
    except NotFound:
        return outcome
    until = clock.monotonic() + deadline
    while True:
        item = find(session, namespace, name)
        if item is None:
            return outcome
        view = status.read(item)
        if clock.monotonic() >= until:
            left = ", ".join(str(resource) for resource in view.resources) or "nothing that it names"
            raise NotThere(
                f"The Application {namespace}/{name} is being deleted and still there after {deadline:g} s. "
                f"Left of it: {left}. {'; '.join(view.errors) or 'Is the application controller of Argo CD running?'}",
                status=summary(view, []),
            )
        progress(f"{name}: {len(view.resources)} objects left")
        clock.sleep(_PACE)


def _seen(session: Session, resource: Resource) -> _Seen:
    try:
        item = session.find(_KINDS[resource.kind], resource.name, resource.namespace)
    except NotFound:  # its kind is not there yet
        item = None
    live = status.live_of(resource, item)
    return _Seen(live, ()) if item is None else _Seen(_explained(session, resource, item, live), images_of(item))


def _explained(session: Session, resource: Resource, item: Mapping[str, Any], live: Live) -> Live:
    """With what keeps its pods down."""
    if live.health not in ("Progressing", status.DEGRADED):
        return live
    labels = ((item.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    try:
        pods = session.list(POD, resource.namespace, selector).items if selector else []
    except Forbidden:  # who may not see pods is told what their owner says
        pods = []
    problems = [str(problem) for problem in map(pod_problem, pods) if problem is not None]
    return live._replace(message="; ".join([live.message, *problems]))


def _set_cascade(session: Session, item: Mapping[str, Any], cascade: bool) -> None:
    """A finalizer says whether the controller deletes what the Application has; one of ``/background`` is one too."""
    metadata = item["metadata"]
    old = list(metadata.get("finalizers") or ())
    ours = [each for each in old if each.partition("/")[0] == CASCADE.partition("/")[0]]
    new = [each for each in old if each not in ours] + ([CASCADE] if cascade else [])
    if new == old:
        return
    body = {"metadata": {"finalizers": new, "resourceVersion": metadata["resourceVersion"]}}
    try:
        session.patch(APPLICATION, metadata["name"], metadata["namespace"], body)
    except Conflict:
        again = find(session, metadata["namespace"], metadata["name"])
        if again is not None:
            _set_cascade(session, again, cascade)


def _shown(item: Mapping[str, Any]) -> dict[str, Any]:
    metadata = item["metadata"]
    named = {"name": metadata["name"], "namespace": metadata["namespace"]}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": named, "spec": item.get("spec") or {}}
