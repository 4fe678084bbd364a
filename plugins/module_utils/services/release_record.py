# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Lease and the journal of an app's releases: one release at a time, and a killed one is taken up by the next run.

Both objects are named ``<app>-release`` and stand in the app's namespace. The Lease says who works on which release;
its holder is ``<release id>/<run>``. The ConfigMap remembers what was done, in ``data.journal`` as JSON:

    {"number": 4,                      releases of the app so far
     "current": {"id", "version", "started_at", "finished_at", "outcome", "reason"},
     "entries": [{"phase", "at", "run", ...}],
     "previous": [like current],
     "abandoned": [like current, with its "entries": those whose evidence is not written yet]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from ..adapters.kube.kinds import LEASE
from ..adapters.kube.session import Conflict, NotFound, Session
from ..engines.canary.journal import STARTED, of_canary
from ..engines.release_progress import progress
from ..engines.workloads.objects import MANAGED
from ..errors import AirgapError
from ..times import Clock, parse_rfc3339, rfc3339, rfc3339_micro
from . import process as processes
from .own_config_map import OwnConfigMap

PROMOTED, ROLLED_BACK, FAILED = "promoted", "rolled_back", "failed"
OUTCOMES = (PROMOTED, ROLLED_BACK, FAILED)
#: A release that another one was put in place of by force.
ABANDONED = "abandoned"

_PROCESS_ANNOTATION = "lumen.airgap/process"
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ENTRIES = 500
_PREVIOUS = 20
_UNREPORTED = 5
_BYTES = 900_000  # a ConfigMap holds a mebibyte
_ATTEMPTS = 5


class LeaseLost(AirgapError):
    """Another run holds the release now. This one must stop and change nothing more."""


class Holder(NamedTuple):
    """Who holds the Lease, and until when (epoch seconds)."""

    release_id: str
    run: str
    renewed: float
    expires: float
    process: dict[str, Any]

    @property
    def identity(self) -> str:
        """As it stands in the Lease."""
        return f"{self.release_id}/{self.run}"

    def as_dict(self) -> dict[str, Any]:
        """What the module returns beside an error."""
        return {
            "holder": self.identity,
            "renewed_at": rfc3339(self.renewed),
            "expires_at": rfc3339(self.expires),
        }


class Standing(NamedTuple):
    """What the record of an app says, for whoever only looks.

    ``current`` and ``previous`` (newest first) as in the journal; ``state`` is none (no release yet), ended, running,
    or, of a release that has not ended and nobody works on: expired, dead (its process, on this host) or open (given
    back).
    """

    state: str
    current: dict[str, Any]
    entries: list[dict[str, Any]]
    previous: list[dict[str, Any]]
    holder: Holder | None


def standing(session: Session, clock: Clock, namespace: str, app: str) -> Standing:
    """Read both objects, and write nothing."""
    lock, book = _Lock(session, clock, namespace, app), _Book(session, namespace, app)
    book.read()
    holder = lock.read()
    current = book.current or {}
    if not current:
        state = "none"
    elif current.get("outcome"):
        state, holder = "ended", None
    elif holder is None or holder.release_id != current["id"]:
        state = "open"
    elif processes.alive(holder.process) is False:
        state = "dead"
    else:
        state = "running" if clock.time() < holder.expires else "expired"
    return Standing(state, current, book.entries, book.previous, holder)


class Record:
    """One release of an app as one run sees it.

    ``release_id`` (``<app>-<version>-<n>``, n counts the app's releases), ``run``, ``version``, ``started_at``,
    ``finished_at``, ``outcome`` and ``reason`` (None while it goes on), ``resumed`` (this run took it up from another),
    ``journal`` (list of {phase, at, run, …}), ``changed`` (acquiring wrote something), ``abandoned`` (releases that
    were given up and have no evidence yet, oldest first, each as ``as_dict`` tells one).
    """

    def __init__(
        self, session: Session, clock: Clock, namespace: str, app: str, run: str, current: Mapping[str, Any]
    ) -> None:
        self._lock = _Lock(session, clock, namespace, app)
        self._book = _Book(session, namespace, app)
        self._clock = clock
        self.namespace = namespace
        self.app = app
        self.run = run
        self.release_id: str = current["id"]
        self.version: str = current["version"]
        self.started_at: str = current["started_at"]
        self.finished_at: str | None = current.get("finished_at")
        self.outcome: str | None = current.get("outcome")
        self.reason: str | None = current.get("reason")
        self.resumed = False
        self.changed = False
        self.journal: list[dict[str, Any]] = []
        self.abandoned: list[dict[str, Any]] = []

    @classmethod
    def acquire(
        cls,
        session: Session,
        clock: Clock,
        namespace: str,
        app: str,
        version: str,
        run: str,
        process: Mapping[str, Any],
        force_unlock: bool = False,
        lease_seconds: int = 60,
        retry: bool = False,
        unmeasured: bool = False,
        dry_run: bool = False,
    ) -> Record:
        """Begin the release of ``version``, or take up the one that a run before has left.

        A version that was promoted, and after it no other one, is returned with that outcome and without the Lease:
        nothing is to be done, unless ``retry`` asks for another release of it. ``unmeasured``: the analyses of its
        canary are to be skipped, by whoever takes it up as well. ``process`` is ``services.process.find()``.
        ``dry_run`` decides and refuses in the same way, and writes nothing.

        Raises ``AirgapError`` when another run holds the Lease, naming it; where ``retry`` is not given, when the
        version was rolled back, or promoted before another one; and with ``unmeasured``, when it has reached the
        cluster and was never promoted, as far as is remembered.
        """
        if not _VERSION.fullmatch(version):
            raise AirgapError(f"'{version}' cannot be a version: only letters, digits, '.', '_' and '-', up to 128.")
        lock = _Lock(session, clock, namespace, app)
        book = _Book(session, namespace, app)
        tried: _Decision | None = None
        for _attempt in range(_ATTEMPTS):
            decision = _decide(lock, book, version, run, process, force_unlock, retry, unmeasured)
            if decision.step == "done" or dry_run:
                return cls._from(session, clock, namespace, app, decision, book)
            keep = decision.step == "own"
            if tried is not None and lock.holder is not None and lock.holder.identity == tried.identity:
                decision, keep = tried, True  # it was ourselves, and only the answer was lost
            try:
                lock.take(decision.identity, process, lease_seconds, keep)
            except Conflict:
                tried = decision
                continue  # somebody was faster: look again who, and decide anew
            record = cls._from(session, clock, namespace, app, decision, book)
            record._begin(decision, unmeasured)
            return record
        raise AirgapError(f"{lock.name}: others change the Lease all the time; try again.")

    @classmethod
    def attach(cls, session: Session, clock: Clock, namespace: str, app: str, release_id: str, run: str) -> Record:
        """The release that this run has acquired before. Raises ``LeaseLost`` when it holds it no longer."""
        book = _Book(session, namespace, app)
        book.read()
        _Lock(session, clock, namespace, app).demand(f"{release_id}/{run}")
        if book.current is None or book.current["id"] != release_id:
            raise LeaseLost(f"{namespace}/{app}-release has no journal of the release {release_id}.")
        record = cls(session, clock, namespace, app, run, book.current)
        record.journal = book.entries
        record.abandoned = record._given_up(book)
        record.resumed = any(entry["phase"] == "resumed" and entry.get("run") == run for entry in book.entries)
        return record

    @classmethod
    def read(cls, session: Session, clock: Clock, namespace: str, app: str) -> Record | None:
        """The latest release of the app, whoever works on it; None when there was none."""
        book = _Book(session, namespace, app)
        book.read()
        if book.current is None:
            return None
        holder = _Lock(session, clock, namespace, app).read()
        run = book.entries[-1].get("run", "") if book.entries else ""
        record = cls(session, clock, namespace, app, holder.run if holder else run, book.current)
        record.journal = book.entries
        return record

    @property
    def phase(self) -> str:
        """Of the last entry of the journal."""
        return self.journal[-1]["phase"] if self.journal else ""

    def renew(self, seconds: int = 60) -> None:
        """Hold the Lease for ``seconds`` from now. Raises ``LeaseLost``; ``Unreachable`` may be tried again."""
        self._lock.renew(self._identity, seconds)

    def note(self, phase: str, **data: Any) -> None:
        """Append to the journal, and renew the Lease for as long as it was held last. Raises ``LeaseLost``."""
        self._lock.renew(self._identity, None)
        self._update({"phase": phase, "at": rfc3339(self._clock.time()), "run": self.run, **data})

    def reported(self, release_id: str) -> bool:
        """The evidence of an abandoned release is written: its journal goes. False: it was so already.

        Raises ``LeaseLost``.
        """
        if not any(each["id"] == release_id for each in self.abandoned):
            return False
        self._lock.renew(self._identity, None)
        text = f"the evidence of {release_id}, which was given up, is written"
        entry = {"phase": "reported", "at": rfc3339(self._clock.time()), "run": self.run, "text": text}

        def drop(book: _Book) -> None:
            book.abandoned = [each for each in book.abandoned if each["id"] != release_id]

        self._update(entry, drop)
        return True

    def finish(self, outcome: str, reason: str = "") -> bool:
        """Write the outcome (promoted, rolled_back or failed) and give the Lease back. False: it was so already.

        Raises ``LeaseLost`` when another run holds the release and it has not ended in this way.
        """
        if outcome not in OUTCOMES:
            raise ValueError(outcome)
        changed = self.outcome != outcome
        if changed:
            self._lock.renew(self._identity, None)
            now = rfc3339(self._clock.time())
            ending: dict[str, Any] = {"outcome": outcome, "reason": reason, "finished_at": now}
            if outcome == FAILED and any(entry["phase"] == STARTED for entry in self.journal):
                ending["reached"] = True
            entry = {"phase": outcome, "at": now, "run": self.run, **({"reason": reason} if reason else {})}

            def end(book: _Book) -> None:
                book.current = {**(book.current or {}), **ending}

            self._update(entry, end)
            self.outcome, self.reason, self.finished_at = outcome, reason, now
        self._lock.release(self._identity)
        return changed

    def as_dict(self) -> dict[str, Any]:
        """What the module returns as ``release``."""
        return {
            "id": self.release_id,
            "run": self.run,
            "app": self.app,
            "namespace": self.namespace,
            "version": self.version,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "resumed": self.resumed,
            "phase": self.phase,
            "outcome": self.outcome,
            "reason": self.reason,
            "journal": self.journal,
            "progress": progress(self.journal),
        }

    def _given_up(self, book: _Book) -> list[dict[str, Any]]:
        where = {"app": self.app, "namespace": self.namespace}
        return [
            {
                **where,
                **{key: value for key, value in each.items() if key != "entries"},
                "journal": each["entries"],
                "progress": progress(each["entries"]),
            }
            for each in book.abandoned
        ]

    @property
    def _identity(self) -> str:
        return f"{self.release_id}/{self.run}"

    @classmethod
    def _from(
        cls, session: Session, clock: Clock, namespace: str, app: str, decision: _Decision, book: _Book
    ) -> Record:
        current: Mapping[str, Any] = {
            "id": decision.release_id,
            "version": decision.version,
            "started_at": rfc3339(clock.time()),
        }
        if decision.step != "new":
            current = book.release(decision.release_id) or current
        record = cls(session, clock, namespace, app, decision.run, current)
        # Of those before the newest one only how they ended is remembered.
        newest = book.current is not None and book.current["id"] == decision.release_id
        record.journal = book.entries if newest else []
        record.abandoned = record._given_up(book)
        record.resumed = decision.step == "resume" or (
            decision.step == "own"
            and any(entry["phase"] == "resumed" and entry.get("run") == decision.run for entry in book.entries)
        )
        record.changed = decision.step in ("new", "resume")
        return record

    def _begin(self, decision: _Decision, unmeasured: bool) -> None:
        """Write into the journal what acquiring has decided."""
        entry: dict[str, Any] = {"phase": "acquired", "at": rfc3339(self._clock.time()), "run": self.run}
        if decision.step == "own":
            return
        if decision.step == "resume":
            entry.update(phase="resumed", text=f"taken up by the run {self.run}")
        if decision.holder is not None:
            entry["taken_from"] = decision.holder.identity
        if unmeasured:
            entry["unmeasured"] = True

        def begin(book: _Book) -> None:
            if decision.step == "new":
                book.open(self.release_id, self.version, self.started_at)

        self._update(entry, begin)

    def _update(self, entry: dict[str, Any], change: Callable[[_Book], Any] = lambda book: None) -> None:
        """Read, change and write the journal, with one more entry; again when somebody wrote in between.

        That may have been ourselves: where the answer to a write was lost, the same write is a conflict the next time.
        """
        for attempt in range(_ATTEMPTS):
            self._book.read()
            if attempt == 0 or entry not in self._book.entries:
                change(self._book)
                self._book.entries.append(entry)
                try:
                    self._book.write()
                except Conflict:
                    continue
            self.journal = self._book.entries
            self.abandoned = self._given_up(self._book)
            return
        raise AirgapError(f"ConfigMap {self.namespace}/{self.app}-release: others change it all the time; try again.")


class _Decision(NamedTuple):
    """``step``: new, resume (of a run before), own (this run has it already), or done (promoted: nothing to do)."""

    step: str
    release_id: str
    version: str
    run: str
    holder: Holder | None  # from whom it is taken

    @property
    def identity(self) -> str:
        """As it stands in the Lease once it is taken."""
        return f"{self.release_id}/{self.run}"


def _decide(
    lock: _Lock,
    book: _Book,
    version: str,
    run: str,
    process: Mapping[str, Any],
    force_unlock: bool,
    retry: bool,
    unmeasured: bool,
) -> _Decision:
    holder = lock.read()
    book.read()
    current = book.current
    if holder is not None and current is not None and holder.release_id == current["id"] and current.get("outcome"):
        holder = None  # it died between writing the outcome and giving the Lease back
    going_on = current is not None and current["version"] == version and not current.get("outcome")
    release_id = current["id"] if current and going_on else f"{lock.app}-{version}-{book.number + 1}"

    if holder is not None:
        own = holder.release_id == release_id and (holder.run == run or (bool(process) and holder.process == process))
        if own:
            return _Decision("own" if going_on else "new", release_id, version, holder.run, None)
        if not force_unlock and not _may_take(holder, release_id, lock.now()):
            raise _refusal(lock, holder, version, release_id)
    if not going_on and not retry:
        promoted = book.last_promoted()
        if promoted is not None and promoted["version"] == version:
            return _Decision("done", promoted["id"], version, run, None)
        if promoted is not None and book.last_outcome(version) == PROMOTED:
            raise AirgapError(
                f"{version} of {lock.app} was promoted before{book.when(version)}, and {promoted['version']} after it. "
                f"Go back to it with playbooks/rollback.yml -e to={version}, or set retry to release it anew."
            )
    if going_on:
        return _Decision("resume", release_id, version, run, holder)
    last = book.last_outcome(version)
    if unmeasured and last is not None and not book.was_promoted(version):
        raise AirgapError(
            f"{version} of {lock.app} was never promoted, and {last.replace('_', ' ')} when it was released last"
            f"{book.when(version)}. Without its analyses nothing would show that it is bad. Name a version that was "
            "promoted, or have it measured: with playbooks/rollback.yml, -e analyse=true."
        )
    if last == ROLLED_BACK and not retry:
        raise AirgapError(
            f"{version} of {lock.app} was rolled back before{book.when(version)}. "
            "Release a corrected version, or set retry to try this one again."
        )
    return _Decision("new", release_id, version, run, holder)


def _may_take(holder: Holder, release_id: str, now: float) -> bool:
    if holder.release_id != release_id:
        return False
    return now >= holder.expires or processes.alive(holder.process) is False


def _refusal(lock: _Lock, holder: Holder, version: str, release_id: str) -> AirgapError:
    now = lock.now()
    where = f" (process {holder.process['pid']} on {holder.process['host']})" if holder.process else ""
    left = holder.expires - now
    state = f"held for another {left:.0f} s" if left > 0 else f"expired {-left:.0f} s ago"
    if holder.release_id != release_id and processes.alive(holder.process) is False:
        advice = (
            f"That process is dead, so nobody ends the release {holder.release_id}: run it again to finish it, or "
            "playbooks/abort.yml to take it back, or set force_unlock to give it up for this one."
        )
    elif holder.release_id == release_id:
        advice = "Wait until it has ended or its Lease has expired, or set force_unlock to take it over now."
    else:
        advice = (
            f"Wait until the release {holder.release_id} has ended; if its run was killed, run that release again to "
            "finish it, or set force_unlock to give it up."
        )
    return AirgapError(
        f"{version} of {lock.app} cannot be released: {lock.name} belongs to {holder.identity}{where}, "
        f"last renewed {now - holder.renewed:.0f} s ago at {rfc3339(holder.renewed)}, {state}. {advice}",
        **holder.as_dict(),
    )


class _Lock:
    """The Lease."""

    def __init__(self, session: Session, clock: Clock, namespace: str, app: str) -> None:
        self._session = session
        self._clock = clock
        self._namespace = namespace
        self.app = app
        self.holder: Holder | None = None
        self._object: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return f"Lease {self._namespace}/{self.app}-release"

    def now(self) -> float:
        return self._clock.time()

    def read(self) -> Holder | None:
        """Who holds it; None when nobody does. ``holder`` is that from then on."""
        self.holder = None
        self._object = self._session.find(LEASE, f"{self.app}-release", self._namespace)
        spec = (self._object or {}).get("spec") or {}
        identity = spec.get("holderIdentity") or ""
        if not identity:
            return None
        release_id, _slash, run = identity.partition("/")
        renewed = parse_rfc3339(spec["renewTime"]) if spec.get("renewTime") else 0.0
        expires = renewed + spec.get("leaseDurationSeconds", 0)
        self.holder = Holder(release_id, run, renewed, expires, self._process())
        return self.holder

    def take(self, identity: str, process: Mapping[str, Any], seconds: int, keep: bool) -> None:
        """Write ourselves into what ``read`` has seen. ``keep``: we hold it already. Raises ``Conflict``."""
        now = rfc3339_micro(self.now())
        body = self._object or self._new()
        spec = body.setdefault("spec", {})
        if not keep:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = spec.get("leaseTransitions", -1) + 1
        spec.update(holderIdentity=identity, leaseDurationSeconds=seconds, renewTime=now)
        annotations = body["metadata"].get("annotations") or {}
        body["metadata"]["annotations"] = {**annotations, _PROCESS_ANNOTATION: json.dumps(process, sort_keys=True)}
        self._object = self._session.replace(body) if self._object else self._session.create(body)

    def demand(self, identity: str) -> dict[str, Any]:
        """The Lease, which ``identity`` must hold. Raises ``LeaseLost``."""
        holder = self.read()
        if holder is None or holder.identity != identity or self._object is None:
            now = f"it belongs to {holder.identity} now" if holder else "nobody holds it now"
            details = holder.as_dict() if holder else {}
            raise LeaseLost(f"{self.name} is no longer held by {identity}: {now}. This run stops.", **details)
        return self._object

    def renew(self, identity: str, seconds: int | None) -> None:
        """Hold it from now on, for ``seconds`` or as long as last time."""

        def change(spec: dict[str, Any]) -> None:
            spec["renewTime"] = rfc3339_micro(self.now())
            if seconds is not None:
                spec["leaseDurationSeconds"] = seconds

        # As long as nobody else writes, what we wrote last is what stands there: one request, and a conflict if not.
        seen = self._object if ((self._object or {}).get("spec") or {}).get("holderIdentity") == identity else None
        self._write(lambda: self.demand(identity), change, seen)

    def release(self, identity: str) -> None:
        """Give it back, if ``identity`` holds it."""

        def ours() -> dict[str, Any] | None:
            holder = self.read()
            return self._object if holder is not None and holder.identity == identity else None

        self._write(ours, lambda spec: spec.pop("holderIdentity"))

    def _write(
        self,
        read: Callable[[], dict[str, Any] | None],
        change: Callable[[dict[str, Any]], Any],
        seen: dict[str, Any] | None = None,
    ) -> None:
        """Change ``seen`` or what ``read`` returns; read again when somebody wrote in between.

        The same run may write in two processes, an action and a module beside it.
        """
        for _attempt in range(_ATTEMPTS):
            body = seen or read()
            if body is None:
                return
            seen = None
            change(body["spec"])
            try:
                self._object = self._session.replace(body)
                return
            except (Conflict, NotFound):
                continue
        raise AirgapError(f"{self.name}: others change it all the time; try again.")

    def _process(self) -> dict[str, Any]:
        annotations = ((self._object or {}).get("metadata") or {}).get("annotations") or {}
        try:
            found: dict[str, Any] = json.loads(annotations.get(_PROCESS_ANNOTATION, "{}"))
            return found if {"host", "boot", "pid", "start"} <= found.keys() else {}
        except (ValueError, AttributeError):  # written by hand: then only time tells
            return {}

    def _new(self) -> dict[str, Any]:
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": f"{self.app}-release", "namespace": self._namespace, "labels": dict(MANAGED)},
        }


class _Book:
    """The ConfigMap with the journal."""

    def __init__(self, session: Session, namespace: str, app: str) -> None:
        self._config_map = OwnConfigMap(session, namespace, f"{app}-release")
        self.number = 0
        self.current: dict[str, Any] | None = None
        self.entries: list[dict[str, Any]] = []
        self.previous: list[dict[str, Any]] = []
        self.abandoned: list[dict[str, Any]] = []

    def read(self) -> None:
        text = (self._config_map.read() or {}).get("journal") or "{}"
        try:
            data = json.loads(text)
            self.number = data.get("number", 0)
            self.current = data.get("current")
            self.entries = data.get("entries", [])
            self.previous = data.get("previous", [])
            self.abandoned = data.get("abandoned", [])
        except (ValueError, AttributeError) as error:
            raise AirgapError(
                f"{self._config_map.title}: data.journal is not what was written there: {error}. "
                "Repair it, or delete the ConfigMap to begin a new journal."
            ) from error

    def open(self, release_id: str, version: str, started_at: str) -> None:
        """Begin a release; the one before becomes a line of ``previous``.

        Of one that has not ended the entries are kept too, until its evidence is written.
        """
        if self.current is not None:
            if not self.current.get("outcome"):
                why = f"given up for {release_id}"
                self.current.update(outcome=ABANDONED, reason=why, finished_at=started_at)
                self.abandoned = [*self.abandoned, {**self.current, "entries": self.entries}][-_UNREPORTED:]
            self.previous = [self.current, *self.previous][:_PREVIOUS]
        self.number += 1
        self.current = {
            "id": release_id,
            "version": version,
            "started_at": started_at,
            "finished_at": None,
            "outcome": None,
            "reason": None,
        }
        self.entries = []

    def last_outcome(self, version: str) -> str | None:
        """Of the latest release of ``version`` that has reached the cluster; None when none is remembered."""
        release = self._last(version)
        return release.get("outcome") if release else None

    def _last(self, version: str) -> dict[str, Any] | None:
        of_it = (release for release in self._releases() if release["version"] == version)
        return next((release for release in of_it if _reached(release)), None)

    def was_promoted(self, version: str) -> bool:
        """Whether any release of ``version`` was."""
        return any(each["version"] == version and each.get("outcome") == PROMOTED for each in self._releases())

    def last_promoted(self) -> dict[str, Any] | None:
        """The latest release that was promoted; None where nobody knows what one after it has left in the cluster."""
        for release in self._releases():
            if release.get("outcome") != ROLLED_BACK and _reached(release):
                return release if release.get("outcome") == PROMOTED else None
        return None

    def release(self, release_id: str) -> dict[str, Any] | None:
        """One of those that are remembered."""
        return next((release for release in self._releases() if release["id"] == release_id), None)

    def when(self, version: str) -> str:
        """When, in which and why the release ended that ``last_outcome`` tells of, as a part of a sentence."""
        release = self._last(version)
        if release is None:
            return ""
        reason = f": {release['reason']}" if release.get("reason") else ""
        return f", at {release.get('finished_at')} ({release['id']}{reason})"

    def write(self) -> None:
        """Raises ``Conflict`` when somebody else has written since ``read``."""
        self._config_map.write({"journal": self._text()})

    def _releases(self) -> list[dict[str, Any]]:
        return [*([self.current] if self.current else []), *self.previous]

    def _text(self) -> str:
        self.entries = _newest(self.entries, _ENTRIES)
        while True:
            abandoned = {"abandoned": self.abandoned} if self.abandoned else {}
            text = json.dumps(
                {
                    "number": self.number,
                    "current": self.current,
                    "entries": self.entries,
                    "previous": self.previous,
                    **abandoned,
                },
                indent=1,
            )
            if len(text) <= _BYTES:
                return text
            # What was given up goes first: the next run goes by what this one has written.
            shorter = [_shorten(each) for each in self.abandoned]
            if any(shorter):
                continue
            current = {"entries": self.entries}
            if not _shorten(current):
                return text
            self.entries = current["entries"]


def _reached(release: Mapping[str, Any]) -> bool:
    """Whether it may have left something in the cluster: one that failed before its canary has not."""
    return release.get("outcome") != FAILED or bool(release.get("reached"))


def _shorten(release: dict[str, Any]) -> bool:
    """Give up half of what may be given up of its entries, the oldest first. False: nothing was left of that."""
    entries = release["entries"]
    # A large measurement must not stop a release, nor cost what the next run goes by: only the evidence goes by this.
    telling = [entry for entry in entries if "seen" in entry]
    for entry in telling[: (len(telling) + 1) // 2]:
        del entry["seen"]
    if telling:
        return True
    release["entries"] = _newest(entries, len(entries) // 2)
    return len(release["entries"]) < len(entries)


def _newest(entries: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """``count`` entries, or more: what a canary has noted is never given up, the next run goes by it."""
    surplus = len(entries) - count
    kept = []
    for entry in entries:
        if surplus > 0 and not of_canary(entry):
            surplus -= 1
        else:
            kept.append(entry)
    return kept
