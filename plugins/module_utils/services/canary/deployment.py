# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The driver for plain Deployments: no controller does the steps, so we do them.

A canary Deployment stands beside the one that is released, behind the same Service. What to do next is decided by
`engines.canary.machine`; how far it is stands in the canary Deployment itself, which goes when everything is over.
Every change is made only to what was read before: whoever else writes in between is noticed, and looked at first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Callable

from ...adapters.kube.kinds import (
    DEPLOYMENT,
    EVENT,
    HORIZONTAL_POD_AUTOSCALER,
    POD,
    POD_DISRUPTION_BUDGET,
    REPLICA_SET,
    ROLLOUT,
    SERVICE,
)
from ...adapters.kube.session import Conflict, KubeError, NotFound, Session
from ...adapters.kube.watcher import Observation, Subscription
from ...engines.analysis.findings import Finding
from ...engines.analysis.lint import DEFAULT_SCRAPE_INTERVAL
from ...engines.analysis.metric import format_value
from ...engines.argo.ownership import keeper
from ...engines.canary import machine
from ...engines.canary.follow import (
    PAUSE_INCONCLUSIVE,
    PROMOTED,
    SUPERSEDED,
    Entry,
    Follower,
    State,
)
from ...engines.canary.machine import BACKGROUND, Action, Course, Pods, Verdict
from ...engines.canary.objects import PAUSE_STEP, STEP_LABEL
from ...engines.canary.pair import MEMORY_ANNOTATION as MEMORY
from ...engines.canary.pair import (
    POD_HASH,
    REPLICAS_ANNOTATION,
    Look,
    Memory,
    StateError,
    add_measurement,
    analysis_run,
    as_rollout,
    canary_name,
    canary_of,
    containers,
    full_replicas,
    hash_of,
    image_of,
    is_canary_of,
    is_complete,
    is_observed,
    is_settled,
    labelled,
    mark_of,
    next_revision,
    read_memory,
    replicas_of,
    same_but_image,
    scale_of,
)
from ...engines.canary.replicas import DEFAULT_FENCEPOST, ReplicaError
from ...engines.canary.steps import ANALYSIS, FOLLOWED_ONLY, PAUSE, Planned, StepError, plan, read_steps
from ...engines.netpol.prediction import selects
from ...engines.workloads.problems import Problem
from ...errors import AirgapError
from ...times import Clock, rfc3339
from ..analysis import Check, GateSpec
from ..lint import lint_release, refuse_errors
from .driver import THE_APPS_OWN, Deleted, Expected, NotOurs, Situation, Strategy, Verification, refuse_owned
from .followed import Followed
from .seen import digest_missing, digests_of, hashes_of, is_ready, pods_missing, sends_to, version_of
from .stepped import SteppedGate, load_analysis

_CANARY = ("spec", "strategy", "canary")
_ABORTED = "RolloutAborted: Rollout aborted update to revision"


class DeploymentDriver(Followed):
    """Drives one Deployment. ``query`` asks Prometheus; ``container`` and ``service`` as for a Rollout, and
    ``failures_in_a_row``: our own limit for every analysis."""

    name = "deployment"
    moves_pods = True
    busy = True

    def __init__(
        self,
        session: Session,
        clock: Clock,
        query: Callable[[str], Any],
        namespace: str,
        name: str,
        container: str | None = None,
        service: str | None = None,
        failures_in_a_row: int = 0,
        scrape_interval: float = DEFAULT_SCRAPE_INTERVAL,
        strategy: Strategy = THE_APPS_OWN,
    ) -> None:
        self._session = session
        self._clock = clock
        self._query = query
        self._namespace = namespace
        self._name = name
        self._strategy = strategy
        self._container = container
        self._service = service
        self._failures_in_a_row = failures_in_a_row
        self._scrape_interval = scrape_interval
        self._stable: dict[str, Any] = {}
        self._canary: dict[str, Any] | None = None
        self._memory: Memory | None = None
        self._written = ""
        self._removed: set[str] = set()
        self._sets: dict[str, dict[str, Any]] = {}
        self._follower = Follower(name)
        self._following = False
        self._hash = self._image = ""
        self._replicas: int | None = None
        self._taken_over = ""
        """Why the template is somebody else's; empty while it is not."""
        self._gates: dict[int, SteppedGate] = {}
        self._runs: dict[int, dict[str, Any]] = {}
        self._version = 0
        self._untold: list[Entry] = []

    @property
    def _title(self) -> str:
        return f"Deployment {self._namespace}/{self._name}"

    @property
    def _canary_title(self) -> str:
        return f"Deployment {self._namespace}/{canary_name(self._name)}"

    # -- before --------------------------------------------------------------------------------------------------

    def inspect(self) -> Situation:
        """See `Driver`."""
        stable = self._session.find(DEPLOYMENT, self._name, self._namespace)
        if stable is None:
            raise AirgapError(f"{self._title} does not exist.")
        self._stable = stable
        self._keep_canary(self._session.find(DEPLOYMENT, canary_name(self._name), self._namespace))
        self._refuse()
        self._reread_sets()
        container = self._find_container()
        return self._at_rest(container) if self._canary is None else self._in_progress(container)

    def _refuse(self) -> None:
        spec = self._stable["spec"]
        if (spec.get("strategy") or {}).get("type") == "Recreate":
            raise AirgapError(
                f"{self._title} has the strategy Recreate, which never runs two versions beside each other."
            )
        if spec["selector"].get("matchExpressions"):
            raise AirgapError(f"{self._title} selects its pods by matchExpressions; only matchLabels are supported.")

    def _at_rest(self, container: str) -> Situation:
        hash, image = self._stable_hash(), image_of(self._stable, container)
        return Situation(
            container=container,
            image=image,
            stable_image=image,
            hash=hash,
            stable_hash=hash,
            revision=next_revision(self._stable),
            observed=bool(hash),
            healthy=is_complete(self._stable) and not mark_of(self._stable),
            aborted=False,
            message="",
            planned=self._planned(),
        )

    def _in_progress(self, container: str) -> Situation:
        memory, hash = self._remembered(), self._canary_hash()
        return Situation(
            container=container,
            image=memory.image,
            stable_image=memory.stable_image,
            hash=hash,
            stable_hash=memory.stable_hash,
            revision=memory.revision,
            observed=bool(hash),
            healthy=False,
            aborted=False,  # what is left of taking it back is done by whoever comes next
            message="",
            planned=self._planned(),
        )

    def _find_container(self) -> str:
        return str(self._released_of(containers(self._stable))["name"])

    def _plan(self) -> list[Planned]:
        course = self._course()
        try:
            return plan(course.steps, course.replicas, course.max_surge, course.max_unavailable)
        except ReplicaError as error:
            raise AirgapError(f"{self._title}: {error}.") from error

    def _course(self) -> Course:
        """What was begun with, or what is asked for now."""
        rolling = (self._stable["spec"].get("strategy") or {}).get("rollingUpdate") or {}
        memory = self._memory
        try:
            return Course(
                read_steps({"steps": self._raw()[0]}),
                memory.replicas if memory else full_replicas(self._stable),
                rolling.get("maxSurge", DEFAULT_FENCEPOST),
                rolling.get("maxUnavailable", DEFAULT_FENCEPOST),
            )
        except StepError as error:
            raise AirgapError(f"{self._title}: {_ours(error)}.") from error

    def _selector(self) -> str:
        labels = self._stable["spec"]["selector"].get("matchLabels") or {}
        return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))

    # -- what is refused, and what is said -----------------------------------------------------------------------

    def lint(self, situation: Situation) -> Sequence[Finding | str]:
        """See `Driver`."""
        self._refuse_owners()
        self._refuse_state()
        steps = self._course().steps
        if not steps:
            raise AirgapError(f"{self._title}: a Deployment has no steps of its own. Give them with 'steps'.")
        self._plan()
        for step in steps:
            if step.kind in FOLLOWED_ONLY:
                raise AirgapError(f"{self._title}: steps[{step.index}]: {step.kind} needs the controller of a Rollout.")
        findings = self._lint_strategy()
        self._lint_analyses(situation)
        return [*findings, *self._lint_probe(situation), *self._lint_service(), *self._lint_budgets()]

    def _lint_strategy(self) -> list[Finding]:
        """Steps and templates, as those of a Rollout."""
        steps, background = self._raw()
        canary = {"steps": list(steps), **({ANALYSIS: background} if background else {})}
        rollout = {"kind": ROLLOUT.kind, "spec": {"strategy": {"canary": canary}}}
        found = lint_release(self._session, self._namespace, rollout, self._title, self._scrape_interval)
        findings = [_about_steps(finding) for finding in found]
        refuse_errors(findings)
        return findings

    def _refuse_owners(self) -> None:
        application = keeper(self._stable)
        if application:
            raise AirgapError(
                f"{self._title} is kept by Argo CD's Application {application}, which would take every change of its "
                "pods back. Make it a Rollout, and release it by Git."
            )
        refuse_owned(self._title, self._stable)
        for scaler in self._session.list(HORIZONTAL_POD_AUTOSCALER, self._namespace).items:
            target = scaler["spec"].get("scaleTargetRef") or {}
            if (target.get("kind"), target.get("name")) == (DEPLOYMENT.kind, self._name):
                raise AirgapError(
                    f"{self._title} is scaled by the HorizontalPodAutoscaler {scaler['metadata']['name']}, which would "
                    "count and change the pods that the canary counts. Delete it for the time of the release."
                )

    def _refuse_state(self) -> None:
        if self._stable["spec"].get("paused"):
            raise AirgapError(f"{self._title} is paused. Set spec.paused to false first.")
        if self._memory is None and not self._stable_hash():
            raise AirgapError(
                f"{self._title}: the ReplicaSet of its template is not there, so that the hash of its pods is not "
                "known. Wait until its controller has made it."
            )
        if self._memory is None and not (is_observed(self._stable) and is_settled(self._stable)):
            raise AirgapError(
                f"{self._title} is still rolling out another change ({self._counts(self._stable)}). Wait until it has "
                "ended, or undo it, first."
            )

    def _lint_analyses(self, situation: Situation) -> None:
        hashes = hashes_of(situation)
        for where, analysis in self._analyses():
            try:
                self._load(analysis, hashes, background=where == ANALYSIS)
            except KubeError:
                raise
            except AirgapError as error:
                raise AirgapError(f"{self._title}: {where}: {error.message}", **error.details) from error

    def longest_analysis(self, situation: Situation) -> tuple[float, str]:
        """See `Driver`."""
        hashes = hashes_of(situation)
        found = [
            (self._load(analysis, hashes, background=False).shortest, where)
            for where, analysis in self._analyses()
            if where != ANALYSIS
        ]
        return max(found, default=(0.0, ""))

    def _load(self, analysis: Mapping[str, Any], hashes: Mapping[str, str], background: bool) -> GateSpec:
        where = (self._session, self._namespace, self._name)
        return load_analysis(*where, analysis, hashes, background, self._failures_in_a_row)

    def _analyses(self) -> list[tuple[str, Mapping[str, Any]]]:
        steps, background = self._raw()
        found = [(f"steps[{index}]", step[ANALYSIS]) for index, step in enumerate(steps) if ANALYSIS in step]
        return found + ([(ANALYSIS, background)] if background else [])

    def _raw(self) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, Any] | None]:
        memory = self._memory
        return (memory.steps, memory.analysis) if memory else (self._strategy.steps or (), self._strategy.analysis)

    def _lint_probe(self, situation: Situation) -> list[str]:
        container = next(each for each in containers(self._stable) if each["name"] == situation.container)
        if container.get("readinessProbe"):
            return []
        return [f"container {container['name']} has no readinessProbe: its pods count as available once they run"]

    def _lint_service(self) -> list[str]:
        name = self._common()
        if name is None:
            return [f"there is no Service {self._name}: whether traffic comes to the canary is not looked at"]
        service = self._session.find(SERVICE, name, self._namespace)
        if service is None:
            raise AirgapError(f"The Service {self._namespace}/{name} does not exist.")
        selector, labels = service["spec"].get("selector") or {}, self._pod_labels()
        if not selector or not selects({"matchLabels": selector}, labels):
            raise AirgapError(
                f"The Service {self._namespace}/{name} does not select the pods of {self._title}: neither they nor the "
                "canary would get its traffic."
            )
        return []

    def _lint_budgets(self) -> list[str]:
        return [
            f"PodDisruptionBudget {each['metadata']['name']} counts the canary's pods as well while they are there"
            for each in self._session.list(POD_DISRUPTION_BUDGET, self._namespace).items
            if selects(each["spec"].get("selector") or {}, self._pod_labels())
        ]

    def _pod_labels(self) -> Mapping[str, str]:
        labels: Mapping[str, str] = (self._stable["spec"]["template"].get("metadata") or {}).get("labels") or {}
        return labels

    # -- following -----------------------------------------------------------------------------------------------

    def subscriptions(self) -> list[Subscription]:
        """See `Driver`."""
        names = (self._name, canary_name(self._name))
        return [
            *(Subscription(DEPLOYMENT, self._namespace, field_selector=f"metadata.name={name}") for name in names),
            Subscription(REPLICA_SET, self._namespace, label_selector=self._selector()),
            Subscription(POD, self._namespace, label_selector=self._selector()),
            Subscription(EVENT, self._namespace, field_selector="involvedObject.kind=Pod"),
        ]

    def follow(self, target: str, revision: str, image: str) -> None:
        """See `Driver`."""
        self._follower = Follower(self._name, target, revision)
        self._hash, self._image, self._following = target, image, True
        for run in self._memory.runs if self._memory else ():
            self._show_run(run, self._clock.time())

    def see(self, observation: Observation) -> list[Entry]:
        """See `Driver`."""
        kind, obj, at = observation.kind, observation.object, observation.at
        deleted = observation.type == "DELETED"
        if kind == DEPLOYMENT:
            self._keep(obj, deleted)
        elif kind == REPLICA_SET:
            self._sets[obj["metadata"]["uid"]] = obj
            if deleted:
                del self._sets[obj["metadata"]["uid"]]
        entries = []
        if kind in (REPLICA_SET, POD) and not (kind == REPLICA_SET and self._is_new_stable(obj)):
            entries = self._follower.see(kind.kind, labelled(obj, self._aliases()), at, deleted)
        elif kind == EVENT:
            entries = self._follower.see(kind.kind, obj, at, deleted)
        return [*entries, *self._show(at)]

    def refresh(self, at: float) -> list[Entry]:
        """See `Driver`."""
        self._reread()
        self._reread_sets()
        return self._show(at)

    def _reread_sets(self) -> None:
        sets = self._session.list(REPLICA_SET, self._namespace, label_selector=self._selector()).items
        self._sets = {each["metadata"]["uid"]: each for each in sets}

    def _reread(self) -> None:
        try:
            self._keep(self._session.get(DEPLOYMENT, self._name, self._namespace), False)
        except NotFound as error:
            raise self._deleted() from error
        self._keep_canary(self._session.find(DEPLOYMENT, canary_name(self._name), self._namespace))

    def _deleted(self) -> Deleted:
        return Deleted(f"{self._title} was deleted during the release.")

    def _keep(self, obj: dict[str, Any], deleted: bool) -> None:
        if obj["metadata"]["name"] == self._name:
            if deleted:
                raise self._deleted()
            if version_of(obj) >= version_of(self._stable):
                self._stable = obj
        elif obj["metadata"]["name"] == canary_name(self._name):
            old = self._canary
            if deleted:
                if old is not None and old["metadata"]["uid"] == obj["metadata"]["uid"]:
                    self._keep_canary(None)
            elif obj["metadata"].get("uid") not in self._removed and (
                old is None or version_of(obj) >= version_of(old)
            ):
                self._keep_canary(obj)

    def _keep_canary(self, canary: dict[str, Any] | None) -> None:
        if canary is None or canary["metadata"].get("deletionTimestamp"):
            if self._canary is not None:
                self._removed.add(self._canary["metadata"].get("uid", ""))
            self._canary = None
            return
        try:
            if not is_canary_of(canary, self._name):
                raise StateError("it is not labelled as its canary")
            memory = read_memory(canary)
        except StateError as error:
            raise AirgapError(
                f"{self._canary_title} is in the way of the canary: {error}. Delete or rename it first."
            ) from error
        text = canary["metadata"]["annotations"][MEMORY]
        if self._memory is None or text != self._written:
            # Gates that run here are ahead of what is written; nobody else writes while the Lease is held.
            self._memory, self._written = memory, text
        self._canary, self._replicas = canary, memory.replicas

    def _remembered(self) -> Memory:
        if self._memory is None:
            raise AirgapError(f"{self._canary_title} does not exist (any more).")
        return self._memory

    # -- what is there -------------------------------------------------------------------------------------------

    def _stable_hash(self) -> str:
        return hash_of(self._stable, self._sets.values())

    def _canary_hash(self) -> str:
        return hash_of(self._canary, self._sets.values())

    def _moved(self) -> bool:
        memory = self._memory
        return memory is not None and image_of(self._stable, memory.container) == memory.image

    def _is_new_stable(self, replica_set: Mapping[str, Any]) -> bool:
        """Whether this is the Deployment's own ReplicaSet of the new version: the canary's is the one that is shown."""
        hash = (replica_set["metadata"].get("labels") or {}).get(POD_HASH, "")
        return self._moved() and hash == self._stable_hash()

    def _aliases(self) -> dict[str, str]:
        """Pods of the new version in the Deployment itself are the canary's as well."""
        own = self._stable_hash()
        return {own: self._hash} if own and self._hash and self._moved() else {}

    def _pods(self) -> Pods:
        settled = is_settled(self._canary) and is_settled(self._stable)
        foreign = bool(self._taken_over or self._change_of_others())
        return Pods(scale_of(self._canary), scale_of(self._stable), self._moved(), settled, foreign)

    def _change_of_others(self) -> str:
        """What somebody else has made of the template, while this canary is on its way."""
        memory, canary = self._memory, self._canary
        if memory is None or canary is None:
            return ""
        image = image_of(self._stable, memory.container)
        if image not in (memory.image, memory.stable_image):
            return f"the Deployment was changed to {image or 'another container'} meanwhile"
        if not same_but_image(self._stable, canary, memory.container):
            return "the Deployment's template was changed meanwhile"
        return ""

    # -- telling -------------------------------------------------------------------------------------------------

    def _show(self, at: float) -> list[Entry]:
        if not self._following or self._taken_over:
            return []
        if not self._hash:
            self._hash = self._canary_hash()
        look = self._look()
        if look is None:
            return []
        self._version += 1
        shown = as_rollout(self._name, self._raw()[0], look, self._version)
        return [self._in_our_words(entry) for entry in self._follower.see("Rollout", shown, at)]

    def _in_our_words(self, entry: Entry) -> Entry:
        text = _about_ours(entry.text)
        if entry.kind == PROMOTED:
            text = f"promoted: {self._stable_hash()} is stable"
        return entry._replace(text=text)

    def _look(self) -> Look | None:
        """None while the controller has not made the canary's ReplicaSet."""
        memory = self._memory if self._canary is not None else None
        canary, rest = scale_of(self._canary), scale_of(self._stable)
        if memory is not None:
            return self._look_between(memory, canary, rest) if self._hash else None
        hash = self._stable_hash()
        if not hash:
            return None
        if self._hash and self._image and image_of(self._stable, self._find_container()) == self._image:
            hash = self._hash  # the version that was followed, in the Deployment itself
        elif self._memory is not None and not self._memory.aborted:
            return self._look_aborted(self._memory, "the canary Deployment was deleted", canary, rest)
        revision = self._change.revision if self._change and hash == self._hash else next_revision(self._stable)
        return Look(hash, hash, revision, len(self._raw()[0]), "Healthy", canary, rest)

    def _look_between(self, memory: Memory, canary: Any, rest: Any) -> Look:
        if memory.aborted:
            return self._look_aborted(memory, memory.reason, canary, rest)
        phase, message, pauses = "Progressing", "more replicas need to be updated", []
        reason = self._pause_reason()
        if reason:
            phase, message, pauses = "Paused", reason, [reason]
        run = self._runs.get(memory.index) or {"metadata": {"name": ""}}
        name = run["metadata"]["name"]
        return Look(
            self._hash,
            memory.stable_hash,
            memory.revision,
            memory.index,
            phase,
            canary,
            rest,
            message,
            pauses=pauses,
            since=str(memory.since),
            run=name,
        )

    def _look_aborted(self, memory: Memory, reason: str, canary: Any, rest: Any) -> Look:
        message = f"{_ABORTED} {memory.revision}" + (f": {reason}" if reason else "")
        return Look(self._hash, memory.stable_hash, memory.revision, 0, "Degraded", canary, rest, message, aborted=True)

    def _pause_reason(self) -> str:
        """What a Rollout would say that it is paused for; empty: it is not."""
        action = self._next(self._clock.time())
        reasons = {"pause": PAUSE_STEP, "inconclusive": PAUSE_INCONCLUSIVE}
        return reasons.get(action.reason, "") if action.kind == machine.WAIT else ""

    def state(self) -> State:
        """See `Driver`."""
        if self._taken_over:
            memory, change = self._remembered(), self._change
            revision = change.revision if change else ""
            if self._canary is not None:
                return State("progressing", None, self._hash, memory.stable_hash, revision=revision)
            return State(SUPERSEDED, None, self._hash, memory.stable_hash, "bad", self._taken_over, revision)
        if self._memory is not None and self._canary is not None and not self._hash:
            return State("waiting", None, "", self._memory.stable_hash)
        state = self._follower.state()
        state = state._replace(reason=_about_ours(state.reason))
        return state._replace(stable_hash=self._stable_hash()) if state.phase == PROMOTED else state

    def arrived(self, image: str) -> bool:
        """See `Driver`."""
        there = self._canary is None and is_complete(self._stable)
        return there and image_of(self._stable, self._find_container()) == image

    def problem(self, now: float) -> Problem | None:
        """See `Driver`."""
        memory = self._memory
        return None if memory is None or memory.aborted else self._follower.problem(now)

    def digests(self) -> list[str]:
        """See `Driver`."""
        ready = [pod for pod in self._follower.canary_pods() if is_ready(pod)]
        return digests_of(ready, self._find_container())

    def last_seen(self) -> str:
        """See `Driver`."""
        counts = [f"stable: {self._counts(self._stable)}"]
        if self._canary is not None:
            counts.insert(0, f"canary: {self._counts(self._canary)}")
        return "; ".join([*counts, *self._follower.warnings()])

    @staticmethod
    def _counts(deployment: Mapping[str, Any]) -> str:
        status = deployment.get("status") or {}
        there, updated = status.get("replicas") or 0, status.get("updatedReplicas") or 0
        return (
            f"{there} of {replicas_of(deployment)} pods, {updated} of its template, "
            f"{scale_of(deployment).available} available"
        )

    # -- the steps -----------------------------------------------------------------------------------------------

    def work(self, at: float) -> list[Entry]:
        """See `Driver`. One thing at a time: what comes of it is seen before the next."""
        if not self._following:
            return []
        memory = self._memory
        try:
            if self._canary is None:
                self._give_back(memory)
            elif memory is not None and (self._hash or memory.aborted):
                self._untold += self._notice_others(memory, at)
                self._untold += self._measure(memory, at)
                self._write()
                self._do(self._next(at), memory, at)
            else:
                return []
        except (Conflict, NotFound):
            self._reread()  # somebody wrote in between
        # Where the API server was away half-way, what was seen before is told the next time.
        told, self._untold = [*self._untold, *self._show(at)], []
        return told

    def rest(self, at: float) -> float:
        """See `Driver`."""
        memory = self._memory
        if memory is None or self._canary is None:
            return math.inf
        waits = [gate.rest() for gate in self._gates.values()]
        steps = self._course().steps
        step = steps[memory.index] if memory.index < len(steps) else None
        if step is not None and step.kind == PAUSE and step.duration is not None:
            waits.append(max(0.0, memory.since + step.duration - at))
        return max(0.05, min(waits, default=math.inf))

    def _next(self, at: float) -> Action:
        try:
            return machine.decide(self._course(), self._remembered().place(self._canary), self._pods(), at)
        except ReplicaError as error:
            raise AirgapError(f"{self._title}: {error}.") from error

    def _notice_others(self, memory: Memory, at: float) -> list[Entry]:
        reason = self._change_of_others()
        if not reason or self._taken_over:
            return []
        self._taken_over = reason
        if not memory.aborted:
            memory.aborted, memory.reason = True, reason
        return [Entry(at, SUPERSEDED, f"superseded: {reason}")]

    def _give_back(self, memory: Memory | None) -> None:
        """The Deployment gets its pods back when somebody has deleted the canary, before this run or during it."""
        own = full_replicas(self._stable)
        self._scale_stable(max(own, memory.replicas) if memory else own)

    def _do(self, action: Action, memory: Memory, at: float) -> None:
        if action.kind == machine.SCALE and action.counts is not None:
            if self._canary is not None:
                self._scale(self._canary, action.counts.canary)
            self._scale_stable(action.counts.stable, memory.replicas)
        elif action.kind == machine.ADVANCE:
            memory.advance(at)
            self._write()
        elif action.kind == machine.MEASURE:
            self._begin_gate(memory, memory.index, memory.steps[memory.index][ANALYSIS], at)
        elif action.kind == machine.ABORT:
            memory.aborted, memory.reason = True, action.reason
            self._write()
        elif action.kind == machine.MOVE:
            self._put_image(memory.container, memory.image)
        elif action.kind == machine.RESTORE:
            self._put_image(memory.container, memory.stable_image)
        elif action.kind == machine.REMOVE:
            self._scale_stable(replicas_of(self._stable))
            self._session.delete(DEPLOYMENT, canary_name(self._name), self._namespace, only=self._canary)
            self._keep_canary(None)

    def _scale(self, deployment: Mapping[str, Any], replicas: int) -> None:
        if replicas_of(deployment) != replicas:
            self._patch(deployment, {"spec": {"replicas": replicas}})

    def _scale_stable(self, replicas: int, own: int = 0) -> None:
        """While it has fewer than its ``own``, it says so: the canary, which knows it, may be deleted meanwhile."""
        mark = str(own) if replicas < own else ""
        if (replicas_of(self._stable), mark_of(self._stable)) != (replicas, mark):
            annotations = {REPLICAS_ANNOTATION: mark or None}
            self._patch(self._stable, {"spec": {"replicas": replicas}, "metadata": {"annotations": annotations}})

    def _write(self) -> None:
        """How far it is, into the canary Deployment; nothing when it is there already."""
        memory = self._remembered()
        text = memory.as_text()
        if text != self._written and self._canary is not None:
            self._patch(self._canary, {"metadata": {"annotations": {MEMORY: text}}}, text)

    def _patch(self, deployment: Mapping[str, Any], body: dict[str, Any], text: str = "") -> None:
        meta = deployment["metadata"]
        metadata = {**body.get("metadata", {}), "resourceVersion": meta["resourceVersion"]}
        patched = self._session.patch(DEPLOYMENT, meta["name"], self._namespace, {**body, "metadata": metadata})
        self._written = text or self._written
        self._keep(patched, False)

    def _put_image(self, container: str, image: str) -> None:
        """The resource version makes sure that nothing is overwritten that was not looked at."""
        names = [each["name"] for each in containers(self._stable)]
        patch = [
            {
                "op": "replace",
                "path": "/metadata/resourceVersion",
                "value": self._stable["metadata"]["resourceVersion"],
            },
            {"op": "replace", "path": f"/spec/template/spec/containers/{names.index(container)}/image", "value": image},
        ]
        self._keep(self._session.patch(DEPLOYMENT, self._name, self._namespace, patch, patch_type="json"), False)

    # -- analyses ------------------------------------------------------------------------------------------------

    def _measure(self, memory: Memory, at: float) -> list[Entry]:
        if memory.aborted or self._moved():
            return [entry for index in list(self._gates) for entry in self._terminate(index, at)]
        self._begin_background(memory, at)
        entries = []
        for index, gate in list(self._gates.items()):
            run = self._runs[index]
            for check in gate.turn():
                add_measurement(run, check.metric, check.dry_run, _measured(check))
                entries += self._show_run(run, at)
            if gate.result is not None:
                run["status"].update(phase=gate.result.phase, message=gate.result.message)
                entries += self._show_run(run, at)
                memory.verdicts[index] = Verdict(gate.result.phase, gate.result.message)
                memory.runs.append(run)
                del self._gates[index]
        return entries

    def _begin_background(self, memory: Memory, at: float) -> None:
        analysis = memory.analysis
        begun = BACKGROUND in memory.verdicts or BACKGROUND in self._gates
        if analysis and not begun and memory.index >= (analysis.get("startingStep") or 0):
            self._begin_gate(memory, BACKGROUND, analysis, at)

    def _begin_gate(self, memory: Memory, index: int, analysis: Mapping[str, Any], at: float) -> None:
        if index in self._gates:
            return
        hashes = {"Latest": self._hash, "Stable": memory.stable_hash}
        spec = self._load(analysis, hashes, background=index == BACKGROUND)
        self._gates[index] = SteppedGate(spec, self._query, self._clock)
        metrics = [(metric.name, metric.count, metric.success_condition) for metric in spec.metrics]
        step = None if index == BACKGROUND else index
        again = sum(run["metadata"]["labels"][STEP_LABEL] == ("" if step is None else str(step)) for run in memory.runs)
        self._runs[index] = analysis_run(self._name, self._hash, memory.revision, step, rfc3339(at), metrics, again)

    def _terminate(self, index: int, at: float) -> list[Entry]:
        self._gates.pop(index).stop()
        run = self._runs[index]
        run["spec"]["terminate"] = True
        run["status"].update(phase="Successful", message="Run Terminated")
        return self._show_run(run, at)

    def _show_run(self, run: dict[str, Any], at: float) -> list[Entry]:
        self._version += 1
        meta = {**run["metadata"], "uid": run["metadata"]["name"], "resourceVersion": str(self._version)}
        return self._follower.see("AnalysisRun", {**run, "metadata": meta}, at)

    # -- verbs ---------------------------------------------------------------------------------------------------

    def _demand(self, expected: Expected) -> None:
        memory = self._memory
        image = memory.image if memory and self._canary else image_of(self._stable, self._find_container())
        if image not in expected.images:
            raise NotOurs(f"the Deployment was changed to {image} meanwhile")
        others = self._taken_over or self._change_of_others()
        if others:
            raise NotOurs(others)

    def set_image(self, image: str, expected: Expected) -> None:
        """See `Driver`. The canary Deployment is made, still without pods; taking it back restores the image too."""
        self._reread()
        container = self._find_container()
        memory = self._memory if self._canary is not None else None
        if memory is not None and (image == memory.image or (memory.aborted and image == memory.stable_image)):
            return
        if memory is None and image_of(self._stable, container) == image:
            return
        self._demand(expected)
        if memory is not None:
            raise AirgapError(f"{self._canary_title} is the canary of {memory.image}: {image} has to wait.")
        steps, analysis = self._raw()
        now = self._clock.time()
        made = Memory(
            container=container,
            image=image,
            stable_image=image_of(self._stable, container),
            stable_hash=self._stable_hash(),
            revision=next_revision(self._stable),
            replicas=full_replicas(self._stable),
            steps=[dict(step) for step in steps],
            analysis=dict(analysis) if analysis else None,
            started=now,
            since=now,
        )
        try:
            self._keep_canary(self._session.create(canary_of(self._stable, made)))
        except Conflict:
            self._reread()  # made by this very request, whose answer was lost
            if self._memory is None or self._memory.image != image:
                raise

    def promote(self, index: int, expected: Expected) -> bool:
        """See `Driver`. A pause after an inconclusive analysis is ended in the same way."""
        self._reread()
        if self._canary is None or self._memory is None:
            return False
        self._demand(expected)
        if self._memory.index != index or self._memory.aborted or not self._pause_reason():
            return False
        self._memory.allowed = index + 1
        try:
            self._write()
        except Conflict:
            self._reread()  # `work` writes it
        return True

    def promote_fully(self, expected: Expected) -> bool:
        """See `Driver`. There is nothing to skip: who wants no steps gives none but the last."""
        return True

    def abort(self, expected: Expected) -> None:
        """See `Driver`. What it takes is done by ``work``."""
        self._reread()
        if self._canary is None or self._memory is None or self._memory.aborted:
            return
        if self._memory.image not in expected.images:
            raise NotOurs(f"{self._canary_title} is the canary of {self._memory.image}")
        self._memory.aborted = True
        try:
            self._write()
        except Conflict:
            self._reread()  # `work` writes it

    # -- after ---------------------------------------------------------------------------------------------------

    def verify(self, hash: str, restored: bool, digest: str = "", image: str = "") -> Verification:
        """See `Driver`. ``hash`` may be the canary's: its version has another one in the Deployment itself."""
        self._reread()
        self._reread_sets()
        container = self._find_container()
        now, wanted = self._stable_hash(), replicas_of(self._stable)
        missing = self._missing(hash, now, container, image)
        pods = self._session.list(POD, self._namespace, label_selector=self._selector()).items
        pods = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        ours = [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(POD_HASH) == now]
        others = sorted(pod["metadata"]["name"] for pod in pods if pod not in ours)
        if others:
            missing.append(f"Pods of another version are left: {', '.join(others)}.")
        ready = [pod for pod in ours if is_ready(pod)]
        missing += pods_missing(ready, wanted, now)
        endpoints = self._endpoints({pod["metadata"]["name"] for pod in ours}, wanted, missing)
        digests = digests_of(ready, container)
        missing += digest_missing(digests, digest if wanted else "")
        return Verification(now, endpoints, digests, missing)

    def _missing(self, hash: str, now: str, container: str, image: str) -> list[str]:
        missing = []
        if self._canary is not None:
            missing.append(f"{self._canary_title} is still there ({self._counts(self._canary)}).")
        if not is_complete(self._stable):
            missing.append(f"{self._title} has {self._counts(self._stable)}.")
        before = full_replicas(self._stable) if self._replicas is None else self._replicas
        if replicas_of(self._stable) != before:
            missing.append(f"{self._title} asks for {replicas_of(self._stable)} pods; it had {before}.")
        runs = image_of(self._stable, container)
        if image and runs != image:
            missing.append(f"{self._title} has the image {runs}, not {image}.")
        promoted = hash == self._hash and runs == self._image
        if hash != now and not promoted:
            missing.append(f"{self._title}: the hash is {now or 'not known yet'}, not {hash}.")
        return missing

    def _endpoints(self, pods: set[str], wanted: int, missing: list[str]) -> dict[str, list[str]]:
        service = self._common()
        if service is None:
            return {}
        sent_to = sends_to(self._session, self._namespace, service)
        foreign = sorted(sent_to - pods)
        if foreign:
            missing.append(f"Service {service} still sends to {', '.join(foreign)}.")
        if not sent_to and wanted:
            missing.append(f"Service {service} sends to no pod.")
        return {service: sorted(sent_to)}


def _about_steps(finding: Finding) -> Finding:
    """The same of steps that were given: the linted Rollout is none."""
    depth = len(_CANARY)
    if finding.path[:depth] != _CANARY:
        return finding
    edits = tuple(edit._replace(path=edit.path[depth:]) for edit in finding.edits)
    return replace(finding, path=finding.path[depth:], edits=edits)


def _ours(error: StepError) -> str:
    """Steps that were given are no part of a Rollout."""
    return str(error).replace("spec.strategy.canary.", "")


def _about_ours(text: str) -> str:
    """What is shown as a Rollout is told of as what it is."""
    return text.replace("the Rollout", "the Deployment")


def _measured(check: Check) -> dict[str, Any]:
    made = check.measurement
    value = None if made.value is None else format_value(made.value)
    return {"phase": made.phase, "value": value, "finishedAt": rfc3339(made.at), "message": made.message}
