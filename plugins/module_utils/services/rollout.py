# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rollouts of a namespace: read, promoted, aborted and so on, and waited for, many over one shared watch.

A verb reads the Rollout, writes only what follows from what it has read (the resource version guards it), and reads it
again when somebody else was faster. It is refused for all Rollouts before it is done to the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple

from ..adapters.kube.kinds import ANALYSIS_RUN, EXPERIMENT, POD, REPLICA_SET, ROLLOUT
from ..adapters.kube.session import Conflict, Forbidden, KubeError, NotFound, Session
from ..adapters.kube.watcher import Observation, Subscription
from ..engines.canary import verbs
from ..engines.canary.follow import Entry, Follower
from ..engines.canary.objects import read_rollout
from ..engines.canary.phase import ABORTED, GOALS, PROMOTED, Judgement, hopeless, judge
from ..engines.canary.tree import Parts, describe, render
from ..engines.canary.verbs import Patch, VerbError
from ..engines.workloads.objects import images_of, owner_of
from ..errors import AirgapError
from ..times import Clock
from .live import Output, Watching
from .reaction import Reaction

_TICK = 1.0
_REACTION_TICK = 0.2
_ATTEMPTS = 5
_OBSERVE_SECONDS = 60.0
"""How long the controller may take to look at a change before a verb: half a minute of silence is normal."""

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """A verb, with what `verbs.plan` wants to know."""

    verb: str
    at_step: int | None = None
    restart_at: str = ""


@dataclass(frozen=True)
class Wanted:
    """What is waited for: any of ``ends`` (of `GOALS`), or that the step with this index has begun or is over."""

    ends: frozenset[str] = frozenset()
    step: int | None = None
    image: str = ""
    """What the template has to hold as well, in any of its containers."""

    def __str__(self) -> str:
        what = [end for end in GOALS if end in self.ends]
        what += [] if self.step is None else [f"at step {self.step + 1}"]
        return " or ".join(what) + (f" with {self.image}" if self.image else "")

    def reached(self, rollout: Object, found: Judgement) -> bool:
        """Whether that is so."""
        if not found.settled or (self.image and self.image not in images_of(rollout)):
            return False
        if self.ends & found.ends:
            return True
        view = read_rollout(rollout)
        return (
            self.step is not None and ABORTED not in found.ends and view.index is not None and view.index >= self.step
        )


@dataclass
class Act:
    """What was done to one Rollout, or would be."""

    name: str
    patch: Patch
    changed: bool = False
    before: dict[str, Any] = field(default_factory=dict)

    @property
    def after(self) -> dict[str, Any]:
        """The fields of ``before`` as they are written."""
        return {part: dict(fields) for part, fields in self.patch.unified.items()} if self.changed else {}

    def as_dict(self) -> dict[str, Any]:
        """What a module returns of it."""
        return {
            "name": self.name,
            "changed": self.changed,
            "message": self.patch.text,
            "skipped_steps": [dict(step) for step in self.patch.skipped] if self.changed else [],
        }


class NotThere(AirgapError):
    """A Rollout is not what was waited for."""


class Rollouts:
    """Some Rollouts of a namespace."""

    def __init__(self, session: Session, namespace: str, names: Sequence[str], clock: Clock, out: Output) -> None:
        self._session = session
        self._namespace = namespace
        self._names = list(dict.fromkeys(names))
        self._clock = clock
        self._out = out

    def _say(self, name: str, text: str) -> None:
        self._out.line(f"[{name}] {text}" if len(self._names) > 1 else text)

    def _title(self, name: str) -> str:
        return f"Rollout {self._namespace}/{name}"

    def _get(self, name: str) -> dict[str, Any]:
        found = self._session.find(ROLLOUT, name, self._namespace)
        if found is None:
            raise AirgapError(f"{self._title(name)} does not exist.")
        return found

    def _patiently(self, name: str, end: float) -> dict[str, Any]:
        """The Rollout, through an API server that is away until ``end``."""
        while True:
            try:
                return self._get(name)
            except KubeError as error:
                if not error.passing or self._clock.monotonic() >= end:
                    raise
                self._pause()

    # -- verbs -------------------------------------------------------------------------------------------------------

    def act(self, request: Request, seconds: float, dry_run: bool = False) -> list[Act]:
        """Do it to each, for at most ``seconds`` while the API server is away. Raises AirgapError."""
        end = self._clock.monotonic() + seconds
        there = {name: self._observed(name, end) for name in self._names}
        patches = {name: self._plan(request, rollout) for name, rollout in there.items()}
        acts = []
        for name, patch in patches.items():
            self._say(name, patch.text)
            before = verbs.shown(there[name], patch)
            if dry_run or not patch.changed:
                acts.append(Act(name, patch, patch.changed, before))
            else:
                acts.append(self._do(request, there[name], patch, end))
        return acts

    def _observed(self, name: str, patience: float) -> dict[str, Any]:
        """The Rollout once the controller has looked at its spec: what a verb does depends on the status."""
        end, told = self._clock.monotonic() + _OBSERVE_SECONDS, False
        while True:
            rollout = self._patiently(name, patience)
            if read_rollout(rollout).observed:
                return rollout
            generation = rollout["metadata"].get("generation")
            if self._clock.monotonic() >= end:
                raise AirgapError(
                    f"{self._title(name)}: the controller has not looked at generation {generation} for "
                    f"{_OBSERVE_SECONDS:g} s. Is Argo Rollouts running?"
                )
            if not told:
                self._say(name, f"waiting for the controller to look at generation {generation}")
                told = True
            self._pause()

    def _plan(self, request: Request, rollout: Object) -> Patch:
        try:
            return verbs.plan(request.verb, rollout, request.at_step, request.restart_at)
        except VerbError as error:
            raise AirgapError(f"{self._title(rollout['metadata']['name'])}: {error}.") from error

    def _do(self, request: Request, rollout: dict[str, Any], patch: Patch, end: float) -> Act:
        """Write it. A promotion that was perhaps written when the API server went away is not written again."""
        name, basis = rollout["metadata"]["name"], _basis(rollout)
        lost, attempts = False, 0
        while True:
            act = Act(name, patch, True, verbs.shown(rollout, patch))
            try:
                written = self._write(rollout, patch)
                self._answered(name, written)
                return act
            except Conflict as error:
                attempts += 1
                if attempts >= _ATTEMPTS:
                    said = f"{self._title(name)} changes all the time; {request.verb} was not done: {error.message}"
                    raise AirgapError(said) from error
            except KubeError as error:
                if not error.passing or self._clock.monotonic() >= end:
                    raise
                lost = True
                self._say(name, f"tried again: {error.message}")
                self._pause()
            rollout = self._patiently(name, end)
            if lost and request.verb == verbs.PROMOTE and _basis(rollout) != basis:
                return act  # a promotion alone would do more when it is done twice
            patch, basis = self._plan(request, rollout), _basis(rollout)
            if not patch.changed:
                return act if lost else Act(name, patch)

    def _answered(self, name: str, written: Object) -> None:
        """Until the controller has written after the verb, nudged where it is silent."""
        reaction = Reaction(self._session, self._namespace, name)
        reaction.expect(written)
        while reaction.awaited:
            self._out.check()
            self._clock.sleep(_REACTION_TICK)
            try:
                reaction.see(self._get(name))
            except AirgapError:
                return  # the verb is written; who waits for what comes of it will say that nobody answers
            if reaction.insist(self._clock.time()):
                self._say(name, "the controller was silent: nudged")

    def _pause(self) -> None:
        self._out.check()
        self._clock.sleep(_TICK)

    def _write(self, rollout: Mapping[str, Any], patch: Patch) -> Object:
        """Returns the Rollout as it was written."""
        if not patch.status:
            return self._patch(rollout, {"spec": dict(patch.spec)})
        try:
            changed = self._patch(rollout, {"status": dict(patch.status)}, "status")
        except NotFound:
            # Argo Rollouts before 0.10 has no status subresource.
            return self._patch(rollout, patch.unified)
        for _attempt in range(_ATTEMPTS):
            if not patch.spec or verbs.shown(changed, patch)["spec"] == patch.spec:
                return changed
            try:
                return self._patch(changed, {"spec": dict(patch.spec)})
            except Conflict:
                changed = self._get(rollout["metadata"]["name"])
        raise AirgapError(
            f"{self._title(rollout['metadata']['name'])} changes all the time; it is still paused by hand."
        )

    def _patch(self, rollout: Mapping[str, Any], body: Mapping[str, Any], subresource: str | None = None) -> Object:
        meta = rollout["metadata"]
        guarded = {"metadata": {"resourceVersion": meta["resourceVersion"]}, **body}
        return self._session.patch(ROLLOUT, meta["name"], self._namespace, guarded, subresource=subresource)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait(self, wanted: Wanted, seconds: float, watch: Callable[[Sequence[Subscription]], Watching]) -> None:
        """Return once every Rollout has been as wanted. Raises NotThere at the deadline, or when one cannot become so.

        One watch of each kind serves all of them, and what happens to them is told as it happens.
        """
        end = self._clock.monotonic() + seconds
        for name in self._names:
            self._patiently(name, end)
        fleet = _Fleet(self._names, wanted, self._say)
        watcher = watch(self._subscriptions())
        watcher.start()
        try:
            self._follow(fleet, watcher, end, seconds)
        finally:
            watcher.stop()

    def _follow(self, fleet: _Fleet, watcher: Watching, end: float, seconds: float) -> None:
        while fleet.waiting:
            observation = watcher.next(_TICK)
            self._out.check()
            if observation is not None:
                self._take_in(fleet, observation)
            now = self._clock.monotonic()
            if now >= end and fleet.waiting:
                self._look(fleet)
                if fleet.waiting:
                    raise self._failure(fleet, fleet.waiting, f"after {seconds:g} s")
            if fleet.vain:
                raise self._failure(fleet, fleet.vain, "and will not become so, for it was aborted")

    def _take_in(self, fleet: _Fleet, observation: Observation) -> None:
        if observation.outage:
            self._out.line(observation.outage)
            return
        if observation.kind == ROLLOUT and observation.type == "DELETED":
            name = observation.object["metadata"]["name"]
            if name in self._names:
                raise NotThere(f"{self._title(name)} was deleted while it was waited for.")
        fleet.see(observation)

    def _look(self, fleet: _Fleet) -> None:
        """Before a verdict: the watch can have been silent for other reasons than that nothing has happened."""
        try:
            for name in list(fleet.waiting):
                fleet.see(Observation(ROLLOUT, "MODIFIED", self._get(name), self._clock.time()))
        except KubeError as error:
            if not error.passing:
                raise

    def _failure(self, fleet: _Fleet, names: Sequence[str], when: str) -> NotThere:
        now = self._clock.monotonic()
        seen = [
            f"{self._title(name)} is not {fleet.wanted} {when}; last seen: {fleet.last_seen(name, now)}"
            for name in names
        ]
        return NotThere(". ".join(seen), waiting=list(names))

    def _subscriptions(self) -> list[Subscription]:
        only = f"metadata.name={self._names[0]}" if len(self._names) == 1 else None
        kinds = (ANALYSIS_RUN, REPLICA_SET, POD)
        return [
            Subscription(ROLLOUT, self._namespace, field_selector=only),
            *(Subscription(kind, self._namespace) for kind in kinds),
        ]


class _Fleet:
    """What was seen of the Rollouts that are waited for."""

    def __init__(self, names: Sequence[str], wanted: Wanted, say: Callable[[str, str], None]) -> None:
        self.wanted = wanted
        self.waiting = list(names)
        self.vain: list[str] = []
        self._say = say
        self._followers = {name: Follower(name) for name in names}
        self._began_aborted: dict[str, bool] = {}
        self._sets: dict[str, str] = {}
        """ReplicaSet → Rollout; empty for one that is none of these Rollouts'."""
        self._homeless: dict[str, dict[str, Observation]] = {}

    def see(self, observation: Observation) -> None:
        """Give it to whom it belongs; a pod waits until its ReplicaSet is known."""
        obj = observation.object
        if observation.kind == ROLLOUT:
            if obj["metadata"]["name"] in self._followers:
                self._rollout(obj["metadata"]["name"], observation)
        elif observation.kind == POD:
            self._pod(owner_of(obj, REPLICA_SET.kind), observation)
        else:
            self._part(observation)

    def _pod(self, owner: str, observation: Observation) -> None:
        if owner in self._sets:
            if self._sets[owner]:
                self._tell(self._sets[owner], observation)
        elif owner:
            waiting, uid = self._homeless.setdefault(owner, {}), observation.object["metadata"].get("uid", "")
            waiting[uid] = observation
            if observation.type == "DELETED":
                del waiting[uid]

    def _part(self, observation: Observation) -> None:
        name = owner_of(observation.object, ROLLOUT.kind)
        ours = name in self._followers
        if ours:
            self._tell(name, observation)
        if observation.kind == REPLICA_SET:
            replica_set = observation.object["metadata"]["name"]
            self._sets[replica_set] = name if ours else ""
            for pod in self._homeless.pop(replica_set, {}).values():
                self._pod(replica_set, pod)

    def _rollout(self, name: str, observation: Observation) -> None:
        self._tell(name, observation)
        if self._followers[name].rollout is not observation.object:
            return  # it is older than what was seen before
        found = judge(observation.object)
        self._began_aborted.setdefault(name, ABORTED in found.ends)
        if name not in self.waiting:
            return
        if self.wanted.reached(observation.object, found):
            self.waiting.remove(name)
            self._say(name, f"is {found.why}")
        elif self._in_vain(name, found):
            self.vain.append(name)

    def _in_vain(self, name: str, found: Judgement) -> bool:
        """A revert makes what was aborted before Healthy; what is aborted while we look has failed for good."""
        wanted = set(self.wanted.ends) | ({PROMOTED} if self.wanted.step is not None else set())
        if hopeless(found.ends, wanted):
            return True
        return ABORTED in found.ends and not self._began_aborted[name] and not wanted & found.ends

    def _tell(self, name: str, observation: Observation) -> None:
        deleted = observation.type == "DELETED"
        entries: list[Entry] = self._followers[name].see(
            observation.kind.kind, observation.object, observation.at, deleted
        )
        for entry in entries:
            self._say(name, entry.line)

    def last_seen(self, name: str, now: float) -> str:
        """The last words about it."""
        rollout = self._followers[name].rollout
        if rollout is None:
            return "nothing, the API server has not answered"
        view = read_rollout(rollout)
        said = [judge(rollout).why, f"{view.updated} updated of {view.replicas} pods, {view.available} available"]
        problem = self._followers[name].problem(now)
        return "; ".join([*said, *([str(problem)] if problem else [])])


class _Basis(NamedTuple):
    """What a promotion changes: when it is another, the promotion has been done."""

    hash: str
    step: int | None
    pauses: tuple[str, ...]


def _basis(rollout: Object) -> _Basis:
    view = read_rollout(rollout)
    return _Basis(view.hash, view.index, view.pauses)


# -- status ----------------------------------------------------------------------------------------------------------


def statuses(session: Session, namespace: str, names: Sequence[str], now: float) -> list[dict[str, Any]]:
    """The status of each Rollout as data, with its ``tree``; of all in the namespace without names.

    A Rollout that does not exist is left out.
    """
    found = _read(session, namespace, names)
    parts = (
        Parts(
            session.list(REPLICA_SET, namespace).items,
            session.list(POD, namespace).items,
            session.list(ANALYSIS_RUN, namespace).items,
            _experiments(session, namespace),
        )
        if found
        else Parts()
    )
    described = [describe(rollout, parts) for rollout in found]
    return [{**status, "tree": render(status, now)} for status in described]


def _read(session: Session, namespace: str, names: Sequence[str]) -> list[dict[str, Any]]:
    if len(names) == 1:  # who may see this one need not be allowed to list them
        found = session.find(ROLLOUT, names[0], namespace)
        return [] if found is None else [found]
    items = {item["metadata"]["name"]: item for item in session.list(ROLLOUT, namespace).items}
    return [items[name] for name in dict.fromkeys(names) if name in items] if names else list(items.values())


def _experiments(session: Session, namespace: str) -> list[dict[str, Any]]:
    try:
        return session.list(EXPERIMENT, namespace).items
    except (Forbidden, NotFound):  # few have any, and the rest of the tree is as true without
        return []
