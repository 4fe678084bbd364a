# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The release loop: refuse, change the image, follow, gate, promote or take back, verify.

Everything that is going to be done is written into the journal before it is done, so that a run that was killed is
taken up by the next one wherever it stopped: at the same pod hash, step and AnalysisRun, without a second promotion,
and between abort and restoring too. What happens in the cluster is reacted to when it is seen, not when a timer ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Protocol

from ...adapters.kube.errors import Unreachable
from ...adapters.kube.watcher import Observation, Subscription
from ...engines.canary.follow import ABORTED, SUPERSEDED, Entry, State
from ...engines.canary.steps import after_verdict
from ...errors import AirgapError
from ...times import Clock, rfc3339
from ..analysis import GateResult, GateSpec, run_gate
from ..release_record import Record
from .driver import Driver, Situation, Verification

PROMOTED, ROLLED_BACK, FAILED = "promoted", "rolled_back", "failed"
ROLLBACK, LEAVE = "rollback", "leave"

_TICK = 1.0
_RENEW_EVERY = 5.0
_VERIFY_SECONDS = 60.0
"""How long EndpointSlices and pods may take to follow a Rollout that is where it should be."""
_CATCH_UP_SECONDS, _QUIET_SECONDS = 3.0, 0.5

# Journal entries of this loop.
STARTED, OBSERVED, STEP, PROMOTING = "canary_started", "canary_observed", "canary_step", "canary_promoting"
ABORTING, RESTORING, ENDED = "canary_aborting", "canary_restoring", "canary_ended"


class Output(Protocol):
    """Where progress goes, and who says when nobody listens any more."""

    def line(self, text: str) -> None:
        """Print one line."""

    def check(self) -> None:
        """Raise when this run has to stop without touching anything more."""


class Watching(Protocol):
    """A `Watcher`."""

    def start(self) -> None:
        """Begin with all existing objects."""

    def stop(self) -> None:
        """End."""

    def next(self, timeout: float) -> Observation | None:
        """The next observation, or None after ``timeout`` seconds."""


@dataclass(frozen=True)
class Options:
    """What the user asked for. Durations in seconds."""

    image: str = ""
    digest: str = ""
    step_deadline: float = 900.0
    on_failure: str = ROLLBACK


class OwnGate(NamedTuple):
    """Our gate at ``pause: {}``. ``load`` takes the pod template hashes Latest and Stable."""

    load: Callable[[Mapping[str, str]], GateSpec]
    query: Callable[[str], Any]


class _Verdict(NamedTuple):
    """How following ended: good, bad (to be taken back) or lost (it is not our change any more)."""

    kind: str
    reason: str


class _Interrupted(Exception):
    """The canary went on without our gate."""


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
        self._started = clock.time()
        self._renewed = self._started
        self._timeline: list[dict[str, str]] = []
        self._gates: dict[tuple[str, int], GateResult] = {}
        self._promoting: set[tuple[str, int]] = set()
        self._waiting_said: set[tuple[str, int]] = set()
        self._journal = _Journal(record)
        self._watcher: Watching | None = None
        self._deadline = 0.0
        self._marker: tuple[Any, ...] = ()

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
        changed = bool(self._options.image) and situation.image != self._options.image
        return {"changed": changed, "driver": self._driver.name, "planned": steps, "image": self._image(situation)}

    def run(self) -> dict[str, Any]:
        """Do it. Returns what the action returns; raises AirgapError for what was refused before anything began."""
        situation = self._preflight()
        if self._nothing_to_do(situation):
            return self._already_running(situation)
        self._driver.follow(self._target(situation), self._journal.revision)
        watcher = self._watch(self._driver.subscriptions())
        watcher.start()
        self._watcher = watcher
        try:
            return {**self._drive(situation), "changed": True}
        finally:
            watcher.stop()

    def _drive(self, situation: Situation) -> dict[str, Any]:
        if self._journal.has(STARTED):
            self._catch_up()
        if self._journal.has(ABORTING):
            self._say(f"taking up the roll-back of a run before: {self._journal.reason}")
            return self._take_back(situation, self._journal.reason)
        self._begin(situation)
        verdict = self._follow()
        if verdict.kind == "good":
            return self._promoted(situation, verdict.reason)
        if verdict.kind == "lost":
            return self._lost(situation, verdict.reason)
        return self._take_back(situation, verdict.reason)

    # -- before --------------------------------------------------------------------------------------------------

    def _preflight(self) -> Situation:
        situation = self._driver.inspect()
        if self._journal.has(ABORTING):
            return situation  # nothing but going back is left to do
        ours = self._journal.has(STARTED) or self._journal.has(OBSERVED)
        if situation.aborted and situation.changing and not ours:
            raise AirgapError(
                f"The canary {situation.image} is already aborted ({situation.message or 'no reason given'}). Set the "
                f"stable image {situation.stable_image} again, or retry it by setting status.abort to false, and "
                "release then."
            )
        other = situation.changing and situation.image != self._options.image
        if self._options.image and other and not ours:
            raise AirgapError(
                f"Another change is in progress: {situation.image} (hash {situation.hash}, stable "
                f"{situation.stable_image}). Wait until it has ended, or abort it and go back to stable first."
            )
        self._driver.lint(situation)
        if self._gate is not None:
            latest, stable = situation.hash or "latest", situation.stable_hash or "stable"
            self._gate.load({"Latest": latest, "Stable": stable})
        return situation

    def _nothing_to_do(self, situation: Situation) -> bool:
        wanted = self._options.image or situation.image
        resting = situation.stable_hash == situation.hash and not situation.changing and situation.healthy
        return resting and situation.image == wanted and not self._journal.has(STARTED)

    def _already_running(self, situation: Situation) -> dict[str, Any]:
        reason = "already running" if self._options.image else "no change in progress"
        self._say(f"{situation.image} is {reason}")
        verification = self._driver.verify(situation.stable_hash, restored=True, digest=self._options.digest)
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
        if not self._journal.has(STARTED):
            stable = {"stable_hash": situation.stable_hash, "stable_image": situation.stable_image}
            self._note(STARTED, f"canary of {image or situation.image}", image=image or situation.image, **stable)
        if image and situation.image != image and not self._journal.hash:
            self._say(f"image {situation.image} → {image}")
            self._insist(lambda: self._driver.set_image(image))
        elif situation.changing:
            self._say(f"following the change to {situation.image} that is in progress")

    # -- following -----------------------------------------------------------------------------------------------

    def _follow(self) -> _Verdict:
        self._restart_deadline()
        while True:
            verdict = self._judge()
            if verdict is not None:
                return verdict
            self._pump(_TICK)

    def _judge(self) -> _Verdict | None:
        state = self._driver.state()
        if state.decision == "good":
            return _Verdict("good", state.reason)
        if state.decision == "bad":
            return _Verdict("lost" if state.phase == SUPERSEDED else "bad", self._why(state))
        problem = self._driver.problem(self._clock.time())
        if problem is not None:
            return _Verdict("bad", str(problem))
        if state.phase == "resting" and self._options.image and self._driver.arrived(self._options.image):
            return _Verdict("good", "stable runs this image already")
        late = self._late(state)
        if late:
            return _Verdict("bad", late)
        if state.decision == "pause" and state.step is not None:
            return self._at_pause(state, state.step.index)
        return None

    def _why(self, state: State) -> str:
        return state.reason or ("aborted without a reason" if state.phase == ABORTED else state.phase)

    def _late(self, state: State) -> str:
        marker = self._driver.marker()
        if marker != self._marker:
            self._marker = marker
            self._restart_deadline((state.step.duration or 0.0) if state.step else 0.0)
        if self._clock.time() < self._deadline:
            return ""
        what = f"step {state.step.index + 1} ({state.step.label})" if state.step else "the controller's reaction"
        return f"{what} took longer than {self._options.step_deadline:g} s; last seen: {self._driver.last_seen()}"

    def _restart_deadline(self, more: float = 0.0) -> None:
        self._deadline = self._clock.time() + self._options.step_deadline + more

    def _pump(self, seconds: float) -> None:
        """Take in one observation, or let ``seconds`` pass; then do what every tick needs."""
        if self._watcher is None:
            self._clock.sleep(seconds)
        else:
            observation = self._watcher.next(seconds)
            if observation is not None:
                self._take_in(observation)
        self._tick()

    def _catch_up(self) -> None:
        """Before a verdict about what somebody else has watched: take in what is there, until it is quiet."""
        end = self._clock.time() + _CATCH_UP_SECONDS
        while self._watcher is not None and self._clock.time() < end:
            observation = self._watcher.next(_QUIET_SECONDS)
            if observation is None:
                return
            self._take_in(observation)

    def _take_in(self, observation: Observation) -> None:
        if observation.type in ("LOST", "BACK"):
            what = "does not answer" if observation.type == "LOST" else "answers again"
            self._say(f"the API server {what}: {observation.object['message']}")
            return
        for entry in self._driver.see(observation):
            self._tell(entry)

    def _tell(self, entry: Entry) -> None:
        self._say(("  " if entry.kind in ("measurement", "analysis", "pods") else "") + entry.text)
        state = self._driver.state()
        hash = state.canary_hash
        if hash and hash != self._journal.hash:
            self._note(OBSERVED, f"following {hash}", hash=hash, revision=state.revision)
        if entry.kind == "step_ended" and hash:
            ended = [step for step in self._steps() if step["finished_at"]]
            if ended:
                self._note(STEP, entry.text, hash=hash, **ended[-1])

    def _tick(self) -> None:
        self._out.check()
        now = self._clock.time()
        if self._record is not None and now - self._renewed >= _RENEW_EVERY:
            self._renewed = now
            try:
                self._record.renew()
            except Unreachable:
                pass  # said by the watcher; the Lease lasts a minute, and the next tick tries again

    # -- our gate ------------------------------------------------------------------------------------------------

    def _at_pause(self, state: State, index: int) -> _Verdict | None:
        key = (state.canary_hash, index)
        if key in self._promoting:
            return None  # the controller has been told
        if self._journal.promoting(*key):
            self._say("this pause has passed its gate in a run before")
            self._end_pause(key, index)
            return None
        if self._gate is None:
            if key not in self._waiting_said:
                self._waiting_said.add(key)
                self._say(f"no gate is given: waits {self._options.step_deadline:g} s for somebody to promote it")
            return None
        try:
            result = self._run_gate(self._gate, state)
        except _Interrupted:
            return None
        self._gates[key] = result
        self._say(f"gate {result.phase}")
        if after_verdict(result.phase) == "promote":
            self._end_pause(key, index)
            return None
        return _Verdict("bad", f"gate at step {index + 1}: {result.phase}: {result.message}")

    def _run_gate(self, gate: OwnGate, state: State) -> GateResult:
        spec = gate.load({"Latest": state.canary_hash, "Stable": state.stable_hash})
        self._say(f"gate {spec.name}: {spec.outline}")
        return run_gate(
            spec, gate.query, _PumpingClock(self), lambda check: self._say(f"  {check}"), lambda: self._still_at(state)
        )

    def _still_at(self, state: State) -> None:
        self._tick()
        now = self._driver.state()
        if (now.decision, now.step) != ("pause", state.step) or self._driver.problem(self._clock.time()):
            raise _Interrupted
        if self._clock.time() >= self._deadline:
            raise _Interrupted

    def _end_pause(self, key: tuple[str, int], index: int) -> None:
        if not self._journal.promoting(*key):
            self._note(PROMOTING, f"promoting step {index + 1}", hash=key[0], index=index)
        self._promoting.add(key)
        if self._insist(lambda: self._driver.promote(index)):
            self._say(f"step {index + 1} promoted")

    # -- endings -------------------------------------------------------------------------------------------------

    def _promoted(self, situation: Situation, reason: str) -> dict[str, Any]:
        hash = self._driver.state().stable_hash
        verification = self._verified(hash, restored=True)
        if verification.missing:
            return self._result(FAILED, " ".join(verification.missing), situation, verification)
        self._say(f"verified: {hash} alone is behind {', '.join(verification.endpoints) or 'no Service'}")
        return self._result(PROMOTED, reason, situation, verification)

    def _lost(self, situation: Situation, reason: str) -> dict[str, Any]:
        """The template is somebody else's now: nothing of it is touched; back on stable counts as rolled back."""
        stable = self._journal.stable_hash or situation.stable_hash
        now = self._driver.inspect()
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
        self._insist(self._driver.abort)
        self._await_abort()
        if self._options.image:
            self._note(RESTORING, f"restoring {image}", image=image)
            self._say(f"image → {image} (stable)")
            self._insist(lambda: self._driver.set_image(image))
        verification = self._verified(stable, restored=bool(self._options.image), seconds=self._options.step_deadline)
        if verification.missing:
            why = f"{reason}; stable could not be verified: {' '.join(verification.missing)}"
            return self._result(FAILED, why, situation, verification)
        self._say(f"verified: {stable} (stable) alone is behind {', '.join(verification.endpoints) or 'no Service'}")
        return self._result(ROLLED_BACK, reason, situation, verification)

    def _await_abort(self) -> None:
        """Until the controller has acted on it. A template that it has not looked at yet needs no abort."""
        deadline = self._clock.time() + self._options.step_deadline
        while self._driver.state().phase in ("unknown", "progressing", "paused"):
            if self._clock.time() >= deadline:
                self._say("the controller has not reacted to the abort")
                return
            self._pump(_TICK)

    def _verified(self, hash: str, restored: bool, seconds: float = _VERIFY_SECONDS) -> Verification:
        digest = self._options.digest if hash == self._driver.state().canary_hash else ""
        deadline = self._clock.time() + seconds
        while True:
            verification = self._insist(lambda: self._driver.verify(hash, restored, digest))
            if not verification.missing or self._clock.time() >= deadline:
                return verification
            self._pump(_TICK)

    def _stable_image(self, situation: Situation) -> str:
        return self._journal.stable_image or situation.stable_image

    def _image(self, situation: Situation) -> str:
        return self._options.image or situation.image

    # -- telling and remembering ---------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        now = self._clock.time()
        minutes, seconds = divmod(int(now - self._started), 60)
        self._timeline.append({"at": rfc3339(now), "text": text.strip()})
        self._out.line(f"{minutes:02d}:{seconds:02d} {text}")

    def _note(self, phase: str, text: str, **data: Any) -> None:
        record = self._record
        if record is not None:
            self._insist(lambda: record.note(phase, text=text, **data))
            self._journal.read(record)

    def _insist(self, call: Callable[[], Any]) -> Any:
        """Do it, through an API server that is away for a while, until a step's deadline."""
        deadline = self._clock.time() + self._options.step_deadline
        while True:
            try:
                return call()
            except Unreachable:
                if self._clock.time() >= deadline:
                    raise
                self._pump(_TICK)

    def _steps(self) -> list[dict[str, Any]]:
        """The driver's steps with times as text, our gates' verdicts, and what a run before has seen of them."""
        if self._journal.steps:
            return self._journal.steps  # an abort takes the Rollout back to step 0: what went before is only here
        hash = self._driver.state().canary_hash
        steps = []
        for step in self._driver.steps():
            step = {**step, "started_at": _time(step["started_at"]), "finished_at": _time(step["finished_at"])}
            gate = self._gates.get((hash, step["index"]))
            if gate is not None:
                step["result"] = gate.phase
            before = self._journal.step(hash, step["index"]) or {}
            unknown = [key for key in ("started_at", "finished_at") if step[key] is None]
            unknown += ["result"] if step["result"] == "passed" else []
            steps.append({**step, **{key: before[key] for key in unknown if before.get(key)}})
        return steps

    def _measurements(self) -> list[dict[str, Any]]:
        found = self._driver.measurements()
        for (hash, index), gate in self._gates.items():
            for each in gate.measurements:
                kept = {key: each[key] for key in ("metric", "at", "value", "phase")}
                found.append({"run": f"gate-{hash}-{index}", **kept})
        return sorted(found, key=lambda each: str(each["at"]))

    def _result(self, outcome: str, reason: str, situation: Situation, verification: Verification) -> dict[str, Any]:
        self._catch_up()
        self._say(outcome + (f": {reason}" if reason else ""))
        self._note(ENDED, f"{outcome}: {reason}", outcome=outcome)
        state = self._driver.state()
        result = {
            "changed": False,
            "outcome": outcome,
            "driver": self._driver.name,
            "reason": reason,
            "stable_hash": state.stable_hash or situation.stable_hash,
            "canary_hash": state.canary_hash,
            "revision": state.revision or situation.revision,
            "image": self._image(situation),
            "started_at": rfc3339(self._started),
            "finished_at": rfc3339(self._clock.time()),
            "steps": self._steps(),
            "measurements": self._measurements(),
            "timeline": self._timeline,
            "verified": verification.as_dict(),
        }
        if outcome != PROMOTED:
            result.update(failed=True, msg=f"{outcome}: {reason}")
        return result


class _PumpingClock:
    """A clock for the gate whose waiting is the loop's: watching, renewing and looking for the parent go on."""

    def __init__(self, release: Release) -> None:
        self._release = release

    def time(self) -> float:
        return self._release._clock.time()

    def sleep(self, seconds: float) -> None:
        end = self.time() + seconds
        while self.time() < end:
            self._release._pump(end - self.time())


class _Journal:
    """What runs before, and this one, have written about this canary."""

    def __init__(self, record: Record | None) -> None:
        self._entries: list[dict[str, Any]] = []
        if record is not None:
            self.read(record)

    def read(self, record: Record) -> None:
        self._entries = [entry for entry in record.journal if str(entry.get("phase", "")).startswith("canary_")]

    def has(self, phase: str) -> bool:
        return any(entry["phase"] == phase for entry in self._entries)

    def promoting(self, hash: str, index: int) -> bool:
        return any((e["phase"], e.get("hash"), e.get("index")) == (PROMOTING, hash, index) for e in self._entries)

    def step(self, hash: str, index: int) -> dict[str, Any] | None:
        of = (STEP, hash, index)
        return next((e for e in reversed(self._entries) if (e["phase"], e.get("hash"), e.get("index")) == of), None)

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


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)
