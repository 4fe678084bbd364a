# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The release loop: refuse, change the image, follow, gate, promote or take back, verify.

Everything that is going to be done is written into the journal before it is done, so that a run that was killed is
taken up by the next one wherever it stopped: at the same pod hash, step and AnalysisRun, without a second promotion,
and between abort and restoring too. What happens in the cluster is reacted to when it is seen, not when a timer ends.
Whatever goes wrong once the change is made ends in taking it back; the exceptions are a lost Lease, an app that was
deleted, a template that is somebody else's by now, and an API server that stays away. Waiting is measured on a clock
that does not jump.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple

from ...adapters.kube.errors import Forbidden, KubeError, Unreachable
from ...adapters.kube.watcher import Observation, Subscription
from ...engines.analysis.findings import Finding
from ...engines.analysis.metric import format_value
from ...engines.canary.account import Account, beyond, by_hand, gate_measurements, told_by_hand
from ...engines.canary.follow import ABORTED, RUNNING, SUPERSEDED, Entry, State
from ...engines.canary.journal import (
    ABORTING,
    ENDED,
    GATE,
    OBSERVED,
    PROMOTING,
    RESTORING,
    STARTED,
    STEP,
    of_canary,
)
from ...engines.canary.steps import after_verdict
from ...engines.release_progress import BUMPED
from ...errors import AirgapError
from ...times import Clock, rfc3339
from ..analysis import Check, GateResult, GateSpec, run_gate
from ..live import Output, Watching
from ..release_record import FAILED, PROMOTED, ROLLED_BACK, LeaseLost, Record
from .driver import Deleted, Driver, Expected, NotOurs, Situation, Verification
from .seen import hashes_of

ROLLBACK, LEAVE = "rollback", "leave"
ABORT, PAUSE = "abort", "pause"
"""What an inconclusive analysis or gate means: it has failed, or somebody has to decide, as Argo Rollouts does it."""

_TICK = 1.0
_RENEW_EVERY, _LEASE_SECONDS = 5.0, 60
_OBSERVE_SECONDS = 5.0
"""How long the controller may take to look at a change that was made just before the release."""
_VERIFY_SECONDS = 60.0
"""How long EndpointSlices and pods may take to follow a Rollout that is where it should be."""
_CATCH_UP_SECONDS, _QUIET_SECONDS = 3.0, 0.5

_SUCCESSFUL, _INCONCLUSIVE = "Successful", "Inconclusive"

# What reading, judging and changing may raise: an object of an unexpected shape must not end a release half-way.
_ERRORS = (AirgapError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Options:
    """What the user asked for. Durations in seconds."""

    image: str = ""
    digest: str = ""
    step_deadline: float = 900.0
    on_failure: str = ROLLBACK
    on_inconclusive: str = ABORT
    promote_full: bool = False
    """Whether to skip the steps as soon as the change is there."""


class OwnGate(NamedTuple):
    """Our gate at ``pause: {}``. ``load`` takes the pod template hashes Latest and Stable."""

    load: Callable[[Mapping[str, str]], GateSpec]
    query: Callable[[str], Any]
    lint: Callable[[], Sequence[Finding]] = tuple
    """Refuses what is an error in it; returns what is only odd."""


class _Verdict(NamedTuple):
    """How following ended: good, bad (to be taken back) or lost (it is not our change any more)."""

    kind: str
    reason: str


class _Interrupted(Exception):
    """The canary went on without our gate, or its time is over."""


@dataclass(frozen=True)
class _Pause:
    """A step's pause. A version that is tried again comes to the same step, but not to the same pause."""

    hash: str
    index: int
    since: str


class Release:
    """One run of one release. ``record`` is None without a Lease and a journal."""

    def __init__(
        self,
        driver: Driver,
        watch: Callable[[Sequence[Subscription]], Watching],
        clock: Clock,
        out: Output,
        options: Options,
        gate: OwnGate | None = None,
        record: Record | None = None,
    ) -> None:
        self._driver = driver
        self._watch = watch
        self._clock = clock
        self._out = out
        self._options = options
        self._gate = gate
        self._record = record
        self._lint: list[dict[str, Any]] = []
        self._started = clock.time()
        self._began = self._tried = clock.monotonic()
        self._renewed, self._renewed_at = self._began, self._started
        self._timeline: list[dict[str, str]] = []
        self._gates: dict[_Pause, GateResult] = {}
        self._conditions: dict[str, str] = {}
        self._checks: dict[_Pause, list[dict[str, Any]]] = {}
        self._passed: set[_Pause] = set()
        self._promoting: set[_Pause] = set()
        self._promoted_fully = False
        self._by_hand_said: set[int] = set()
        self._waiting_said: set[_Pause] = set()
        self._journal = _Journal(record)
        self._gates_before = self._journal.gates
        self._pods: list[dict[str, Any]] = list(self._journal.account.pods)
        self._watcher: Watching | None = None
        self._deadline = 0.0
        self._marker: tuple[Any, ...] = ()
        self._found = ""
        self._advice = ""

    # -- the whole way -------------------------------------------------------------------------------------------

    def preview(self) -> dict[str, Any]:
        """Check mode: refuse as a run would, and say what it would do. Touches nothing."""
        situation = self._preflight()
        for planned in situation.planned:
            self._out.line(f"{planned.step.label} → {planned.counts.canary} canary / {planned.counts.stable} stable")
        steps = [
            {
                "index": planned.step.index,
                "kind": planned.step.kind,
                "weight": planned.step.weight,
                "canary": planned.counts.canary,
                "stable": planned.counts.stable,
                "actual_weight": planned.counts.weight,
            }
            for planned in situation.planned
        ]
        changed, image = not self._nothing_to_do(situation), self._image(situation)
        return {"changed": changed, "driver": self._driver.name, "planned": steps, "image": image, "lint": self._lint}

    def run(self) -> dict[str, Any]:
        """Do it. Returns what the action returns; raises AirgapError for what was refused before anything began."""
        situation = self._preflight()
        if self._nothing_to_do(situation):
            return self._already_running(situation)
        self._driver.follow(self._target(situation), self._journal.revision, self._our_image())
        watcher = self._watch(self._driver.subscriptions())
        watcher.start()
        self._watcher = watcher
        try:
            return {**self._drive(situation), "changed": True}
        except AirgapError as error:
            error.details = {**self._seen(situation), **error.details}
            raise
        finally:
            watcher.stop()

    def _drive(self, situation: Situation) -> dict[str, Any]:
        # Who comes later sees everything before it judges anything; who may not see it is told before any change.
        self._catch_up()
        if self._journal.has(ABORTING):
            self._say(f"taking up the roll-back of a run before: {self._journal.reason}")
            return self._end(situation, _Verdict("bad", self._journal.reason))
        try:
            self._begin(situation)
            verdict = self._follow_to_the_end()
        except NotOurs as error:
            verdict = _Verdict("lost", error.message)
        return self._end(situation, verdict)

    def _follow_to_the_end(self) -> _Verdict:
        try:
            return self._follow()
        except (LeaseLost, Deleted, NotOurs):
            raise
        except KubeError as error:
            if error.passing:
                raise  # the API server has been away beyond the deadline: nothing can be taken back
            return _Verdict("bad", error.message)
        except _ERRORS as error:
            return _Verdict("bad", _said(error))

    def _end(self, situation: Situation, verdict: _Verdict) -> dict[str, Any]:
        endings = {"good": self._promoted, "lost": self._lost, "bad": self._take_back}
        try:
            return endings[verdict.kind](situation, verdict.reason)
        except LeaseLost:
            raise
        except NotOurs as error:
            return self._end(situation, _Verdict("lost", f"{verdict.reason}; {error.message}"))
        except _ERRORS as error:
            missing = _said(error)
            why = f"{verdict.reason}; {missing}" if verdict.reason else missing
            return self._result(FAILED, why, situation, Verification(missing=[missing]), reachable=False)

    # -- before --------------------------------------------------------------------------------------------------

    def _preflight(self) -> Situation:
        situation = self._inspect()
        self._found = situation.image
        if self._journal.has(ABORTING):
            return situation  # nothing but going back is left to do
        # What was noted before the change was made says nothing about whose change is there now.
        begun = self._journal.has(STARTED) and situation.image == self._our_image()
        ours = self._journal.has(OBSERVED) or begun
        if situation.aborted and situation.changing and not ours:
            # What this release has brought by Git can fail before anybody looks.
            if self._journal.bumped and situation.image == self._options.image:
                return situation
            raise AirgapError(_already_aborted(situation))
        other = situation.changing and situation.image != self._options.image
        if self._options.image and other and not ours:
            raise AirgapError(
                f"Another change is in progress: {situation.image} (hash {situation.hash}, stable "
                f"{situation.stable_image}). Wait until it has ended, or abort it and go back to stable first."
            )
        if ours and situation.changing:
            return situation  # too late to refuse: what cannot go on is taken back
        if situation.kept_by and self._options.image not in ("", situation.image):
            # It would take the change back within seconds, and both changes start again what was aborted before.
            raise AirgapError(
                f"The Argo CD Application {situation.kept_by} keeps {situation.image} as it stands in Git, so "
                f"{self._options.image} cannot be set here. Change the image in Git, and release what comes of it."
            )
        stable = situation.observed and situation.hash == situation.stable_hash
        if self._options.promote_full or (stable and self._options.image == situation.image):
            return situation  # nothing will be measured
        for warning in self._driver.lint(situation):
            self._warn(warning)
        longest, where = self._driver.longest_analysis(situation)
        self._refuse_long(longest, f"The analysis of {where}")
        if self._gate is not None:
            for warning in self._gate.lint():
                self._warn(warning)
            spec = self._gate.load(hashes_of(situation))
            self._refuse_long(spec.shortest, f"The gate {spec.name}")
        return situation

    def _refuse_long(self, seconds: float, what: str) -> None:
        """A good version would be taken back for being late."""
        deadline = self._options.step_deadline
        if seconds >= deadline:
            raise AirgapError(
                f"{what} takes {seconds:g} s when all is well, and a step may take {deadline:g} s: give a "
                f"'step_deadline' well above {seconds:g}, or measure less."
            )

    def _warn(self, warning: Finding | str) -> None:
        self._say(f"warning: {warning}")
        if isinstance(warning, Finding):
            self._lint.append(warning.as_dict())

    def _inspect(self) -> Situation:
        end = self._clock.monotonic() + _OBSERVE_SECONDS
        while True:
            begun = self._journal.has(STARTED)  # what was begun is not given up for a moment of silence
            situation: Situation = self._insist(self._driver.inspect) if begun else self._driver.inspect()
            if situation.observed or self._clock.monotonic() >= end:
                return situation
            self._out.check()
            self._clock.sleep(_QUIET_SECONDS)

    def _nothing_to_do(self, situation: Situation) -> bool:
        wanted = self._options.image or situation.image
        resting = situation.stable_hash == situation.hash and not situation.changing and situation.healthy
        return resting and situation.observed and situation.image == wanted and not self._journal.begun

    def _already_running(self, situation: Situation) -> dict[str, Any]:
        reason = "already running" if self._options.image else "no change in progress"
        self._say(f"{situation.image} is stable: {reason}")
        verification = self._verified(
            situation.stable_hash, restored=True, digest=self._options.digest, image=self._options.image
        )
        outcome = FAILED if verification.missing else PROMOTED
        return self._result(outcome, " ".join(verification.missing) or reason, situation, verification)

    def _target(self, situation: Situation) -> str:
        """The hash to follow, when it is known before the first observation."""
        if self._journal.hash:
            return self._journal.hash
        taken_up = not self._options.image or situation.image == self._options.image
        return situation.hash if taken_up and situation.observed else ""

    def _begin(self, situation: Situation) -> None:
        image = self._options.image
        if self._must_note_start(situation):
            stable = {"stable_hash": situation.stable_hash, "stable_image": situation.stable_image}
            begun, driver = image or situation.image, self._driver.name
            self._note(STARTED, f"canary of {begun}", image=begun, driver=driver, **stable)
        if image and situation.image != image and not self._journal.hash:
            self._say(f"image {situation.image} → {image}")
            before = Expected(frozenset({situation.image}), frozenset({situation.hash}))
            # Who may not do this is told at once; nothing has been changed yet.
            self._act(lambda: self._driver.set_image(image, before), patient=False)
        elif situation.changing:
            self._say(f"following the change to {situation.image} that is in progress")

    def _must_note_start(self, situation: Situation) -> bool:
        if not self._journal.has(STARTED):
            return True
        # Where a run before has not come to the change, what was true then may not be so any more.
        wanted = self._options.image or situation.image
        return not self._journal.has(OBSERVED) and not wanted == situation.image == self._journal.image

    # -- following -----------------------------------------------------------------------------------------------

    def _follow(self) -> _Verdict:
        self._restart_deadline()
        while True:
            self._work()
            self._promote_fully()
            verdict = self._judge()
            if verdict is not None:
                return verdict
            self._pump(min(_TICK, self._driver.rest(self._clock.time())))

    def _work(self) -> None:
        if not self._driver.busy:
            return
        for entry in self._act(lambda: self._driver.work(self._clock.time())):
            self._tell(entry)

    def _promote_fully(self) -> None:
        state = self._driver.state()
        on_its_way = state.phase in ("progressing", "paused") and state.canary_hash not in ("", state.stable_hash)
        if not self._options.promote_full or self._promoted_fully or not on_its_way:
            return
        expected = Expected(frozenset({self._our_image()}), frozenset({state.canary_hash}))
        if self._act(lambda: self._driver.promote_fully(expected)):
            self._promoted_fully = True
            self._say("promoted fully: the steps that are left are skipped")

    def _judge(self) -> _Verdict | None:
        verdict = self._decided()
        if verdict is None and self._trouble() is not None:
            # What was seen may be old: the watch can hang, and this process can have been stopped for a while.
            self._look_again()
            verdict = self._decided() or self._trouble()
        if verdict is not None:
            return verdict
        state = self._driver.state()
        if state.decision == "pause" and state.step is not None:
            return self._at_pause(state, state.step.index)
        if state.decision == "inconclusive" and state.step is not None:
            self._leave_to_somebody(_Pause(state.canary_hash, state.step.index, state.since), state.reason)
        return None

    def _decided(self) -> _Verdict | None:
        state = self._driver.state()
        if state.decision == "good":
            return _Verdict("good", state.reason)
        if state.decision == "inconclusive" and self._options.on_inconclusive == ABORT:
            return _Verdict("bad", state.reason)
        if state.decision == "bad":
            return _Verdict("lost" if state.phase == SUPERSEDED else "bad", self._why(state))
        if state.phase == "resting" and self._options.image and self._driver.arrived(self._options.image):
            return _Verdict("good", "stable runs this image already")
        wrong = self._wrong_digest()
        return _Verdict("bad", wrong) if wrong else None

    def _wrong_digest(self) -> str:
        """What the canary's pods run that is not what was asked for; empty while none is known to."""
        wanted, state = self._options.digest, self._driver.state()
        going_on = wanted and state.canary_hash != state.stable_hash
        others = [digest for digest in self._driver.digests() if digest != wanted] if going_on else []
        return f"the canary's pods run the digest {', '.join(others)}, not {wanted}" if others else ""

    def _trouble(self) -> _Verdict | None:
        problem = self._driver.problem(self._clock.monotonic())
        late = "" if problem else self._late(self._driver.state())
        return _Verdict("bad", str(problem) if problem else late) if problem or late else None

    def _look_again(self) -> None:
        self._catch_up()
        self._refresh()

    def _refresh(self) -> None:
        for entry in self._insist(lambda: self._driver.refresh(self._clock.time())):
            self._tell(entry)

    def _why(self, state: State) -> str:
        return state.reason or ("somebody has aborted it" if state.phase == ABORTED else state.phase)

    def _late(self, state: State) -> str:
        marker = self._driver.marker()
        if marker != self._marker:
            self._marker = marker
            self._restart_deadline((state.step.duration or 0.0) if state.step else 0.0)
        if self._clock.monotonic() < self._deadline:
            return ""
        what = "the controller's reaction"
        if state.step:
            what = f"step {state.step.index + 1} ({state.step.label})"
        elif state.canary_hash and state.phase == "progressing":
            what = "the last scale-up"
        return f"{what} took longer than {self._options.step_deadline:g} s; last seen: {self._driver.last_seen()}"

    def _restart_deadline(self, more: float = 0.0) -> None:
        self._deadline = self._clock.monotonic() + self._options.step_deadline + more

    def _pump(self, seconds: float) -> bool:
        """Take in one observation, or let ``seconds`` pass (False); then do what every tick needs."""
        observation = None
        if self._watcher is None:
            self._clock.sleep(seconds)
        else:
            observation = self._watcher.next(seconds)
            if observation is not None:
                self._take_in(observation)
        self._tick()
        return observation is not None

    def _catch_up(self) -> None:
        """Before a verdict about what somebody else has watched: take in what is there, until it is quiet."""
        end = self._clock.monotonic() + _CATCH_UP_SECONDS
        while self._watcher is not None and self._clock.monotonic() < end:
            observation = self._watcher.next(_QUIET_SECONDS)
            if observation is None:
                return
            self._take_in(observation)

    def _take_in(self, observation: Observation) -> None:
        if observation.outage:
            self._say(observation.outage)
            return
        for entry in self._driver.see(observation):
            self._tell(entry)

    def _tell(self, entry: Entry) -> None:
        self._say(entry.line)
        if entry.pods is not None:
            self._pods.append({"at": rfc3339(entry.at), "canary": entry.pods.canary, "stable": entry.pods.stable})
        state = self._driver.state()
        hash = state.canary_hash
        if hash and hash != self._journal.hash:
            self._note(OBSERVED, f"following {hash}", hash=hash, revision=state.revision)
        if entry.kind == "step_ended" and hash:
            self._note(STEP, entry.text)
        if entry.kind in ("step_ended", "step_began", "analysis"):
            self._say_by_hand()

    def _say_by_hand(self) -> None:
        new = [each for each in by_hand(self._steps()) if each["index"] not in self._by_hand_said]
        if new:
            self._by_hand_said.update(each["index"] for each in new)
            self._say(f"promoted by hand: {told_by_hand(new)}")

    def _tick(self) -> None:
        self._out.check()
        now = self._clock.monotonic()
        if self._record is None or now - self._renewed < _RENEW_EVERY or now - self._tried < _TICK:
            return
        self._tried = now
        try:
            self._renew(self._record)
        except LeaseLost:
            raise
        except AirgapError as error:
            # An API server that is away is said by the watcher, and no verb is done without the Lease.
            passing = isinstance(error, KubeError) and error.passing
            if not passing and self._lease_age() >= _LEASE_SECONDS:
                raise

    def _renew(self, record: Record) -> None:
        asked, asked_at = self._clock.monotonic(), self._clock.time()
        record.renew(_LEASE_SECONDS)
        self._renewed, self._renewed_at = asked, asked_at

    def _lease_age(self) -> float:
        """Seconds. Both clocks are asked: one stands still while the machine is suspended, the other may be set."""
        return max(self._clock.monotonic() - self._renewed, self._clock.time() - self._renewed_at)

    # -- our gate ------------------------------------------------------------------------------------------------

    def _at_pause(self, state: State, index: int) -> _Verdict | None:
        key = _Pause(state.canary_hash, index, state.since)
        if key in self._promoting:
            return None  # the controller has been told
        known = self._gate_phase(key.hash, key.index, key.since)
        if key not in self._passed and (known == _SUCCESSFUL or self._journal.promoting(key)):
            self._say("this pause has passed its gate in a run before")
            self._passed.add(key)
        if key in self._passed:
            self._end_pause(key)
            return None
        if known == _INCONCLUSIVE and self._options.on_inconclusive == PAUSE:
            self._leave_to_somebody(key, "the gate was inconclusive")
            return None
        if known:
            return _Verdict("bad", f"gate at step {index + 1}: {known} (in a run before)")
        if self._gate is None:
            self._leave_to_somebody(key, "no gate is given")
            return None
        try:
            result = self._run_gate(self._gate, state, key)
        except _Interrupted:
            return None
        self._gates[key] = result
        self._say(f"gate {result.phase}")
        if after_verdict(result.phase) == "promote":
            self._passed.add(key)
            self._end_pause(key)
            return None
        if result.phase == _INCONCLUSIVE and self._options.on_inconclusive == PAUSE:
            return None
        return _Verdict("bad", f"gate at step {index + 1}: {result.phase}: {result.message}")

    def _leave_to_somebody(self, key: _Pause, why: str) -> None:
        """Nobody here decides: the step's whole time is left to whoever does."""
        if key in self._waiting_said:
            return
        self._waiting_said.add(key)
        self._restart_deadline()
        self._say(f"{why}: waits {self._options.step_deadline:g} s for somebody to promote it or to abort it")

    def _run_gate(self, gate: OwnGate, state: State, key: _Pause) -> GateResult:
        spec: GateSpec = self._insist(lambda: gate.load({"Latest": state.canary_hash, "Stable": state.stable_hash}))
        self._say(f"gate {spec.name}: {spec.outline}")
        self._conditions.update((each.name, each.success_condition) for each in spec.metrics if each.success_condition)
        checks = self._checks.setdefault(key, [])
        known = len(checks)

        def report(check: Check) -> None:
            checks.append(_measured(check))
            self._say(f"  {check}")

        phase = ""
        try:
            result = run_gate(spec, gate.query, _PumpingClock(self), report, lambda: self._still_at(state))
            phase = result.phase
        except _Interrupted:
            self._note_gate(key, "interrupted", checks[known:])
            raise
        self._note_gate(key, phase, checks[known:])
        return result

    def _note_gate(self, key: _Pause, phase: str, checks: list[dict[str, Any]]) -> None:
        text = f"gate at step {key.index + 1}: {phase}"
        self._note(GATE, text, **vars(key), result=phase, measurements=checks)

    def _still_at(self, state: State) -> None:
        self._tick()
        self._work()
        now = self._driver.state()
        # A change that the controller has not looked at yet may be none of the template (an autoscaler's).
        waits = now.phase == "waiting" and now.canary_hash == state.canary_hash
        if not waits and (now.decision, now.step) != ("pause", state.step):
            raise _Interrupted
        now_seconds = self._clock.monotonic()
        if self._wrong_digest() or self._driver.problem(now_seconds) or now_seconds >= self._deadline:
            raise _Interrupted

    def _end_pause(self, key: _Pause) -> None:
        """Tried again at the next tick when the Rollout is not at the pause for the moment."""
        expected = Expected(frozenset({self._our_image()}), frozenset({key.hash}))
        if not self._journal.promoting(key):
            self._note(PROMOTING, f"promoting step {key.index + 1}", **vars(key))
        if self._act(lambda: self._driver.promote(key.index, expected)):
            self._promoting.add(key)
            self._say(f"step {key.index + 1} promoted")

    # -- endings -------------------------------------------------------------------------------------------------

    def _promoted(self, situation: Situation, reason: str) -> dict[str, Any]:
        state = self._driver.state()
        hash = state.canary_hash or state.stable_hash
        verification = self._verified(hash, True, digest=self._options.digest, image=self._options.image)
        if verification.missing:
            return self._result(FAILED, " ".join(verification.missing), situation, verification)
        self._say(f"verified: {verification.hash} alone is behind {', '.join(verification.endpoints) or 'no Service'}")
        self._catch_up()
        self._say_by_hand()
        skipped = told_by_hand(by_hand(self._steps()))
        why = "; ".join(part for part in (reason, f"by hand: {skipped}" if skipped else "") if part)
        return self._result(PROMOTED, why, situation, verification)

    def _lost(self, situation: Situation, reason: str) -> dict[str, Any]:
        """The template is somebody else's now: nothing of it is touched; back on stable counts as rolled back."""
        stable = self._journal.stable_hash or situation.stable_hash
        now = self._insist(self._driver.inspect)
        if now.hash == now.stable_hash == stable:
            verification = self._verified(stable, restored=True)
            if not verification.missing:
                return self._result(ROLLED_BACK, reason, situation, verification)
        return self._result(FAILED, reason, situation, Verification(missing=[reason]))

    def _take_back(self, situation: Situation, reason: str) -> dict[str, Any]:
        self._say(f"failed: {reason}")
        stable, image = self._journal.stable_hash or situation.stable_hash, self._stable_image(situation)
        if self._options.on_failure == LEAVE:
            return self._result(FAILED, reason, situation, Verification(missing=["left as it is (on_failure)"]))
        if not stable:
            why = f"{reason}; there is no stable version to go back to"
            return self._result(FAILED, why, situation, Verification(missing=["no stable version"]))
        if not self._journal.has(ABORTING):
            self._note(ABORTING, f"aborting: {reason}", reason=reason, steps=self._steps())
        expected = self._expected(situation)
        self._act(lambda: self._driver.abort(expected))
        self._await_abort()
        # Git would take back a change of ours at once, and any touch of the spec starts what was aborted again.
        ours = self._driver.moves_pods or (bool(self._options.image) and not situation.kept_by)
        if self._journal.bumped and situation.kept_by:
            # Who has bumped it takes it back next: nobody else is to be sent there.
            self._say(
                f"Git still has {self._our_image()} (Application {situation.kept_by}): it is taken back there next"
            )
        elif not ours:
            self._advice = _go_back(situation, self._our_image(), image)
            self._say(self._advice)
        else:
            self._note(RESTORING, f"restoring {image}", image=image)
            self._say(f"image → {image} (stable)")
            expected = self._expected(situation)
            self._act(lambda: self._driver.set_image(image, expected))
        verification = self._verified(stable, restored=ours, seconds=self._options.step_deadline)
        if self._advice and self._insist(self._driver.inspect).hash == stable:
            self._advice = ""  # somebody has gone back meanwhile
        if verification.missing:
            why = f"{reason}; stable could not be verified: {' '.join(verification.missing)}"
            return self._result(FAILED, why, situation, verification)
        self._say(f"verified: {stable} (stable) alone is behind {', '.join(verification.endpoints) or 'no Service'}")
        return self._result(ROLLED_BACK, reason, situation, verification)

    def _await_abort(self) -> None:
        """Until the controller has acted on it. A template that it has not looked at yet needs no abort."""
        deadline = self._clock.monotonic() + self._options.step_deadline
        while self._driver.state().phase in ("unknown", "progressing", "paused"):
            if self._clock.monotonic() >= deadline:
                self._say("the controller has not reacted to the abort")
                return
            if not self._pump(_TICK):
                self._refresh()

    def _expected(self, situation: Situation) -> Expected:
        """What may be sent back: our change, or stable itself."""
        stable = self._journal.stable_hash or situation.stable_hash
        hash = self._journal.hash or self._driver.state().canary_hash
        images = {self._our_image(), self._options.image, self._stable_image(situation)} - {""}
        return Expected(frozenset(images), frozenset({hash, stable}) if hash else frozenset())

    def _verified(
        self, hash: str, restored: bool, seconds: float = _VERIFY_SECONDS, digest: str = "", image: str = ""
    ) -> Verification:
        deadline = self._clock.monotonic() + seconds
        while True:
            verification: Verification = self._insist(lambda: self._driver.verify(hash, restored, digest, image))
            if not verification.missing or self._clock.monotonic() >= deadline:
                return verification
            self._work()
            self._pump(_TICK)

    def _stable_image(self, situation: Situation) -> str:
        return self._journal.stable_image or situation.stable_image

    def _our_image(self) -> str:
        """What this release changes the template to, or found there when it began to follow."""
        return self._journal.image or self._options.image or self._found

    def _image(self, situation: Situation) -> str:
        return self._options.image or situation.image

    # -- telling and remembering ---------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        now = self._clock.time()
        minutes, seconds = divmod(int(self._clock.monotonic() - self._began), 60)
        self._timeline.append({"at": rfc3339(now), "text": text.strip()})
        self._out.line(f"{minutes:02d}:{seconds:02d} {text}")

    def _note(self, phase: str, text: str, **data: Any) -> None:
        """Into the journal, and with it what was learned since: a run that takes this release up has not seen it."""
        record = self._record
        if record is not None:
            self._insist(lambda: record.note(phase, text=text, **data, **self._learned()))
            self._journal.read(record)

    def _learned(self) -> dict[str, Any]:
        measurements, conditions = self._driver.measurements(), {**self._driver.conditions(), **self._conditions}
        seen = self._journal.account.news(self._followed(), self._steps(), self._pods, measurements, conditions)
        return {"seen": seen} if seen else {}

    def _followed(self) -> str:
        return self._driver.state().canary_hash or self._journal.hash

    def _act(self, call: Callable[[], Any], patient: bool = True) -> Any:
        """One of the driver's verbs: done only while the Lease is ours for some time to come."""

        def held() -> Any:
            if self._record is not None and self._lease_age() >= _LEASE_SECONDS / 2:
                self._renew(self._record)
            return call()

        return self._insist(held, patient)

    def _insist(self, call: Callable[[], Any], patient: bool = True) -> Any:
        """Do it, through an API server that is away for a while, until a step's deadline.

        The app could be read when the release began, so that refused credentials are taken for something that goes
        away too, such as a server whose authorizer has not started yet; unless not ``patient``.
        """
        deadline = self._clock.monotonic() + self._options.step_deadline
        said = ""
        while True:
            try:
                return call()
            except KubeError as error:
                passing = error.passing or (patient and isinstance(error, Forbidden))
                if not passing or self._clock.monotonic() >= deadline:
                    raise
                if not isinstance(error, Unreachable) and error.message != said:
                    said = error.message
                    self._say(f"tried again: {said}")
                self._pump(_TICK)

    def _steps(self) -> list[dict[str, Any]]:
        """The driver's steps with times as text, our gates' verdicts, and what a run before has seen of them."""
        if self._journal.steps:
            return self._journal.steps  # an abort takes the Rollout back to step 0: what went before is only here
        hash = self._followed()
        known = self._journal.account.steps(hash)
        steps = []
        for step in self._driver.steps():
            step = {**step, "started_at": _time(step["started_at"]), "finished_at": _time(step["finished_at"])}
            phase = self._gate_phase(hash, step["index"])
            if phase:
                step["result"] = phase
            watched = step.pop("watched")
            step["by_hand"] = step.pop("pushed") and not self._is_promoted_by_us(hash, step["index"])
            if step["result"] == RUNNING:
                steps.append(step)  # what is known of it is of an attempt before
                continue
            before = known.pop(step["index"], {})
            if not watched:
                keys = [
                    "started_at",
                    "finished_at",
                    "actual_weight",
                    *(["result"] if step["result"] == "passed" else []),
                ]
                step.update({key: before[key] for key in keys if before.get(key) is not None})
                step["by_hand"] = step["by_hand"] or bool(before.get("by_hand"))
            steps.append(step)
        return [*known.values(), *steps]

    def _is_promoted_by_us(self, hash: str, index: int) -> bool:
        ours = any((key.hash, key.index) == (hash, index) for key in self._promoting)
        return ours or self._options.promote_full or self._journal.promoted(hash, index)

    def _measurements(self) -> list[dict[str, Any]]:
        found = self._driver.measurements()
        # The controller forgets old measurements, and runs.
        found += beyond(found, self._journal.account.measurements)
        gates = [*self._gates_before]
        gates += [{"hash": key.hash, "index": key.index, "measurements": made} for key, made in self._checks.items()]
        return sorted([*found, *gate_measurements(gates)], key=lambda each: str(each["at"]))

    def _gate_phase(self, hash: str, index: int, since: str | None = None) -> str:
        """The last verdict at a step's pause that began then, or at any of the step's without ``since``."""
        known = [(_pause_of(entry), entry["result"]) for entry in self._gates_before]
        known += [(key, result.phase) for key, result in self._gates.items()]
        for key, phase in reversed(known):
            if (key.hash, key.index) == (hash, index) and since in (None, key.since) and phase != "interrupted":
                return str(phase)
        return ""

    def _result(
        self,
        outcome: str,
        reason: str,
        situation: Situation,
        verification: Verification,
        reachable: bool = True,
    ) -> dict[str, Any]:
        if reachable:
            self._catch_up()
        self._say(outcome + (f": {reason}" if reason else ""))
        if reachable:
            self._note_end(outcome, reason)
        result = {
            "changed": False,
            "outcome": outcome,
            "reason": reason,
            "lint": self._lint,
            **self._seen(situation),
            "verified": verification.as_dict(),
            "advice": self._advice,
        }
        if outcome != PROMOTED:
            result.update(failed=True, msg=f"{outcome}: {reason}" + (f". {self._advice}" if self._advice else ""))
        return result

    def _note_end(self, outcome: str, reason: str) -> None:
        try:
            self._note(ENDED, f"{outcome}: {reason}", outcome=outcome)
        except KubeError as error:
            self._say(f"the journal could not be written: {error.message}")  # the outcome is what it is

    def _seen(self, situation: Situation) -> dict[str, Any]:
        """What is known of the release, however it ended."""
        state = self._driver.state()
        return {
            "driver": self._driver.name,
            "stable_hash": state.stable_hash or situation.stable_hash,
            "canary_hash": state.canary_hash,
            "revision": state.revision or situation.revision,
            "image": self._image(situation),
            "started_at": rfc3339(self._started),
            "finished_at": rfc3339(self._clock.time()),
            "steps": self._steps(),
            "measurements": self._measurements(),
            "conditions": {**self._journal.account.conditions, **self._driver.conditions(), **self._conditions},
            "pods": self._pods,
            "timeline": self._timeline,
        }


class _PumpingClock:
    """A clock for the gate whose waiting is the loop's: watching, renewing and looking for the parent go on."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._ahead = release._clock.time() - release._clock.monotonic()

    def time(self) -> float:
        """Epoch seconds as of when the gate began: nobody's setting of the clock makes it measure early or late."""
        return self.monotonic() + self._ahead

    def monotonic(self) -> float:
        return self._release._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        end = self.monotonic() + seconds
        while self.monotonic() < end:
            self._release._pump(end - self.monotonic())


class _Journal:
    """What runs before, and this one, have written about this canary."""

    def __init__(self, record: Record | None) -> None:
        self._entries: list[dict[str, Any]] = []
        self._brought = self.bumped = False
        self.account = Account([])
        if record is not None:
            self.read(record)

    def read(self, record: Record) -> None:
        phases = [str(entry.get("phase", "")) for entry in record.journal]
        self._entries = [entry for entry in record.journal if of_canary(entry)]
        self.account = Account(self._entries)
        # Git names the image, and from then on it comes by itself.
        self.bumped = BUMPED in phases
        self._brought = record.resumed and self.bumped

    def has(self, phase: str) -> bool:
        return any(entry["phase"] == phase for entry in self._entries)

    @property
    def begun(self) -> bool:
        """Whether there was a canary: its end, also one that nobody watched, is told and not only found."""
        return any(self.has(phase) for phase in (STARTED, OBSERVED)) or self._brought

    def promoting(self, key: _Pause) -> bool:
        return any(entry["phase"] == PROMOTING and _pause_of(entry) == key for entry in self._entries)

    def promoted(self, hash: str, index: int) -> bool:
        """Whether a pause of this step was, or was about to be, promoted by a run of this release."""
        told = [_pause_of(entry) for entry in self._entries if entry["phase"] == PROMOTING]
        return any((key.hash, key.index) == (hash, index) for key in told)

    @property
    def gates(self) -> list[dict[str, Any]]:
        return [entry for entry in self._entries if entry["phase"] == GATE]

    @property
    def image(self) -> str:
        return self._last(STARTED, "image")

    @property
    def hash(self) -> str:
        return self._last(OBSERVED, "hash")

    @property
    def revision(self) -> str:
        return self._last(OBSERVED, "revision")

    @property
    def reason(self) -> str:
        return self._last(ABORTING, "reason")

    @property
    def steps(self) -> list[dict[str, Any]]:
        return next((entry.get("steps") or [] for entry in self._entries if entry["phase"] == ABORTING), [])

    @property
    def stable_hash(self) -> str:
        return self._last(STARTED, "stable_hash")

    @property
    def stable_image(self) -> str:
        return self._last(STARTED, "stable_image")

    def _last(self, phase: str, key: str) -> str:
        values = [str(entry.get(key) or "") for entry in self._entries if entry["phase"] == phase]
        return values[-1] if values else ""


def _pause_of(entry: Mapping[str, Any]) -> _Pause:
    """Without a beginning it may be the pause of another attempt, and is no known one."""
    return _Pause(str(entry.get("hash")), int(entry.get("index", -1)), str(entry.get("since") or ""))


def _already_aborted(situation: Situation) -> str:
    said = f"The canary {situation.image} is already aborted ({situation.message or 'no reason given'})."
    if situation.kept_by:
        back = f"Revert in Git the commit that brought it (Application {situation.kept_by})"
    else:
        back = f"Set the stable image {situation.stable_image} again"
    return f"{said} {back}, or try it again with the verb retry of lumen.airgap.rollout, and release then."


def _go_back(situation: Situation, image: str, stable: str) -> str:
    """What is left to do when the template is not ours to restore."""
    if situation.kept_by:
        what = f"Git still has {image} (Application {situation.kept_by}): revert the commit that brought it"
    else:
        what = f"The template still has {image}: set it back to {stable}"
    return f"{what}. Nothing else may touch the Rollout's spec before, for that starts the aborted version again"


def _measured(check: Check) -> dict[str, Any]:
    made = check.measurement
    value = None if made.value is None else format_value(made.value)
    return {"metric": check.metric, "at": rfc3339(made.at), "value": value, "phase": made.phase}


def _said(error: Exception) -> str:
    if isinstance(error, AirgapError):
        return error.message
    return f"what the cluster says was not understood ({type(error).__name__}: {error})"


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)
