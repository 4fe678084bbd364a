# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting until objects are ready: by the rule of their kind, with a deadline, and with what keeps their pods down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ..adapters.kube.kinds import EVENT, POD, REPLICA_SET, Kind
from ..adapters.kube.session import Forbidden, Invalid, KubeError, NotFound, Session
from ..engines.workloads.problems import Problem, pod_problem
from ..engines.workloads.readiness import Readiness, has_rule, is_observed, readiness
from ..errors import AirgapError
from ..times import Clock

_PACE = 1.0
_HASH = "pod-template-hash"
_GENERATION = "deprecated.daemonset.template.generation"
_LINES = 10
#: Seconds that no node may fit a pod before that counts, whatever else a pod's problem is given.
_UNSCHEDULABLE = 5.0
#: Seconds for a Secret or ConfigMap that is not there: what makes it may be starting beside the pod, as in Argo CD.
_REFERENCE = 60.0
#: What the scheduler says when it is not a matter of room: waiting does not make such a node.
_NO_SUCH_NODE = ("didn't match Pod's node affinity/selector", "had untolerated taint")


class NotReady(AirgapError):
    """Something is not ready by the deadline, or cannot become so."""


def wait_ready(
    session: Session,
    objects: Sequence[Mapping[str, Any]],
    clock: Clock,
    deadline: float,
    progress: Callable[[str], None] = lambda line: None,
) -> None:
    """Return once all ``objects`` (kind, name and namespace are read) are ready; ``deadline`` in seconds from now.

    Deployments, StatefulSets and DaemonSets fail within seconds when a pod of theirs cannot start. An API server that
    does not answer is waited for. Raises ``NotReady`` with ``waiting`` (list of {kind, namespace, name, message,
    problems, events, logs}) in its details, and ``AirgapError`` for a kind that has no rule.
    """
    for obj in objects:
        if not has_rule(obj["kind"]):
            raise AirgapError(
                f"{_named(obj)}: there is no rule for when a {obj['kind']} is ready, so it is not waited for"
            )
    waits = [_Wait(session, obj, clock) for obj in objects]
    until = clock.monotonic() + deadline
    told = ""
    while True:
        waits = [wait for wait in waits if not wait.look()]
        if not waits:
            return
        line = f"waiting for {waits[0]}" + (f", and {len(waits) - 1} more" if len(waits) > 1 else "")
        if line != told:
            progress(line)
            told = line
        hopeless = [wait for wait in waits if wait.hopeless()]
        if hopeless or clock.monotonic() >= until:
            raise _not_ready(session, hopeless or waits, "" if hopeless else f" after {deadline:g} s")
        clock.sleep(_PACE)


class _Wait:
    """One object that is waited for, and what was seen of it last."""

    def __init__(self, session: Session, obj: Mapping[str, Any], clock: Clock) -> None:
        self.object = obj
        self.problems: list[Problem] = []
        self.sick: list[dict[str, Any]] = []
        self._session = session
        self._clock = clock
        self._last = Readiness(False, "not asked yet")
        self._since: dict[tuple[str, str], float] = {}

    def __str__(self) -> str:
        return f"{_named(self.object)}: {self.message}"

    @property
    def message(self) -> str:
        return "; ".join([self._last.message, *(str(problem) for problem in self.problems)])

    def look(self) -> bool:
        """Whether it is ready now."""
        try:
            return self._look()
        except (Forbidden, Invalid):
            raise
        except NotFound as error:
            # A kind that was defined a moment ago is served a moment later.
            self._last = Readiness(False, "it does not exist" if error.reason != "UnknownKind" else error.message)
        except KubeError as error:
            if not error.passing:
                raise
            self._last = Readiness(False, error.message)
        return False

    def _look(self) -> bool:
        meta = self.object["metadata"]
        live = self._session.get(Kind.of(self.object), meta["name"], meta.get("namespace"))
        self._last = readiness(live)
        self.problems = [] if self._last.ready else self._pod_problems(live)
        return self._last.ready

    def _pod_problems(self, live: Mapping[str, Any]) -> list[Problem]:
        selector = ((live.get("spec") or {}).get("selector") or {}).get("matchLabels")
        namespace = live["metadata"].get("namespace")
        if not selector or not namespace or not is_observed(live):
            return []
        labels = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
        newest = self._newest(live, namespace, labels)
        pods = [pod for pod in self._session.list(POD, namespace, labels).items if newest(pod)]
        found = {pod["metadata"]["name"]: problem for pod in pods if (problem := pod_problem(pod)) is not None}
        now = self._clock.monotonic()
        self._since = {key: self._since.get(key, now) for key in map(_key, found.values())}
        self.sick = [pod for pod in pods if pod["metadata"]["name"] in found]
        return list(found.values())

    def _newest(self, live: Mapping[str, Any], namespace: str, labels: str) -> Callable[[Mapping[str, Any]], bool]:
        """Whether a pod is of the newest template: one of an older that cannot start is about to go."""
        if live["kind"] == "Deployment":
            sets = self._session.list(REPLICA_SET, namespace, labels).items
            current = max(sets, key=_revision, default=None)
            name, value = _HASH, (current or {"metadata": {}})["metadata"].get("labels", {}).get(_HASH)
        elif live["kind"] == "StatefulSet":
            name, value = "controller-revision-hash", (live.get("status") or {}).get("updateRevision")
        else:
            name, value = "pod-template-generation", (live["metadata"].get("annotations") or {}).get(_GENERATION)
        return lambda pod: value is None or (pod["metadata"].get("labels") or {}).get(name) == value

    def hopeless(self) -> bool:
        """Whether it will not become ready by itself."""
        now = self._clock.monotonic()
        lasting = [problem for problem in self.problems if now - self._since[_key(problem)] >= _patience(problem)]
        return self._last.hopeless or bool(lasting)


def _key(problem: Problem) -> tuple[str, str]:
    return problem.subject, problem.reason


def _revision(replica_set: Mapping[str, Any]) -> int:
    return int((replica_set["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision", 0))


def _patience(problem: Problem) -> float:
    if problem.reason == "CreateContainerConfigError":
        return _REFERENCE
    no_such_node = any(sign in problem.message for sign in _NO_SUCH_NODE)
    return min(problem.patience, _UNSCHEDULABLE) if no_such_node else problem.patience


def _not_ready(session: Session, waits: Sequence[_Wait], when: str) -> NotReady:
    seen = [
        {
            "kind": wait.object["kind"],
            "namespace": wait.object["metadata"].get("namespace"),
            "name": wait.object["metadata"]["name"],
            "message": wait.message,
            "problems": [str(problem) for problem in wait.problems],
            "events": _events(session, wait.object),
            "logs": [line for pod in wait.sick for line in _last_words(session, pod)],
        }
        for wait in waits
    ]
    said = "".join(f"; last words: {each['logs'][-1]}" for each in seen if each["logs"])
    text = "; ".join(f"{_named(wait.object)} is not ready{when}: {wait.message}" for wait in waits)
    return NotReady(text + said, waiting=seen)


def _last_words(session: Session, pod: Mapping[str, Any]) -> list[str]:
    """What containers that ended have written last, of each the end."""
    lines: list[str] = []
    meta, status = pod["metadata"], pod.get("status") or {}
    for each in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        if (each.get("lastState") or {}).get("terminated"):
            try:
                lines += session.pod_log(meta["namespace"], meta["name"], each["name"], _LINES, previous=True)
            except KubeError:  # the message already says why the wait failed
                continue
    return lines


def _events(session: Session, obj: Mapping[str, Any]) -> list[str]:
    """The last things that were said of it and of what has its name in front, such as its pods."""
    namespace, name = obj["metadata"].get("namespace"), obj["metadata"]["name"]
    if not namespace:
        return []
    try:
        items = session.list(EVENT, namespace).items
    except KubeError:  # the message above already says why the wait failed
        return []
    ours = [item for item in items if (item.get("involvedObject") or {}).get("name", "").startswith(name)]
    ours.sort(key=lambda item: item.get("lastTimestamp") or item.get("eventTime") or "")
    return [
        f"{item['involvedObject'].get('kind')} {item['involvedObject']['name']}: {item.get('message')}" for item in ours
    ][-5:]


def _named(obj: Mapping[str, Any]) -> str:
    namespace = obj["metadata"].get("namespace")
    return f"{obj['kind']} {namespace + '/' if namespace else ''}{obj['metadata']['name']}"
