# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One queue of everything that happens to some kinds of objects, through lost connections and restarts.

One thread for each subscription lists, then watches from there. A broken watch goes on from the last resource version;
when the API server no longer has it (410), the objects are listed again, and what has vanished meanwhile is reported
as DELETED.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Union

from .kinds import Kind
from .session import Forbidden, Gone, Invalid, KubeError, NotFound, Session, Watch

#: Seconds that one watch request lasts. Short enough that a server that went silent is noticed.
_WATCH_SECONDS = 30.0
#: Seconds between two requests of one subscription, at least; and the longest wait while the API server is away.
_PACE = 1.0
_LONGEST_WAIT = 5.0


class Subscription(NamedTuple):
    """What to follow; without a namespace, in all of them."""

    kind: Kind
    namespace: str | None = None
    label_selector: str | None = None
    field_selector: str | None = None


class Observation(NamedTuple):
    """Something was seen ``at`` (epoch seconds).

    ``type`` is ADDED, MODIFIED or DELETED with the object; LOST when the API server stopped answering and BACK when
    everything is followed again, with ``object`` = {"message": what was said}.
    """

    kind: Kind
    type: str
    object: dict[str, Any]
    at: float

    @property
    def outage(self) -> str:
        """Of LOST and BACK a line that says so; empty of everything else."""
        if self.type not in ("LOST", "BACK"):
            return ""
        what = "does not answer" if self.type == "LOST" else "answers again"
        return f"the API server {what}: {self.object['message']}"


Emit = Callable[[Union[Observation, BaseException]], None]


class Reachability:
    """Makes one LOST and one BACK out of what several followers meet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away: set[Subscription] = set()

    def lost(self, subscription: Subscription) -> bool:
        """Whether this is the first follower to lose the API server."""
        with self._lock:
            first = not self._away
            self._away.add(subscription)
            return first

    def back(self, subscription: Subscription) -> bool:
        """Whether this is the last follower to find it again."""
        with self._lock:
            was_away = bool(self._away)
            self._away.discard(subscription)
            return was_away and not self._away


class Follower:
    """Follows one subscription; ``run`` is the body of its thread.

    ``wait(seconds)`` waits and says whether to stop.
    """

    def __init__(
        self,
        session: Session,
        subscription: Subscription,
        emit: Emit,
        reachability: Reachability,
        now: Callable[[], float],
        wait: Callable[[float], bool],
    ) -> None:
        self._session = session
        self._subscription = subscription
        self._emit = emit
        self._reachability = reachability
        self._now = now
        self._wait = wait
        self._known: dict[tuple[str, str], dict[str, Any]] = {}
        self._version = ""
        self._listed_once = False
        self._watch: Watch | None = None
        self._stopped = False

    def run(self) -> None:
        """List and watch until stopped. An error that waiting cannot cure is emitted and ends it."""
        failures = 0
        while not self._stopped:
            started = self._now()
            try:
                self._once()
                failures = 0
            except Gone:
                self._version = ""
            except KubeError as error:
                if not self._listed_once and isinstance(error, (Forbidden, Invalid, NotFound)):
                    self._emit(error)  # no permission, or no such kind: it was never right
                    return
                failures += 1
                self._say_lost(error)
            except Exception as error:
                self._emit(error)  # ours to fix, and not to be lost in a thread
                return
            if self._wait(self._pause(failures, self._now() - started)):
                return

    def stop(self) -> None:
        """Wake up ``run`` from reading."""
        self._stopped = True
        watch = self._watch
        if watch is not None:
            watch.close()

    def _once(self) -> None:
        subscription = self._subscription
        if not self._version:
            self._list()
        self._watch = self._session.watch(
            subscription.kind,
            subscription.namespace,
            self._version,
            subscription.label_selector,
            subscription.field_selector,
            timeout=_WATCH_SECONDS,
        )
        if self._stopped:  # stop() came between the two
            self._watch.close()
        self._say_back()
        for event in self._watch:
            self._version = event.object["metadata"]["resourceVersion"]
            if event.type != "BOOKMARK":
                self._remember(event.type, event.object)

    def _list(self) -> None:
        listing = self._session.list(*self._subscription)
        seen = {_key(item): item for item in listing.items}
        for key in self._known.keys() - seen.keys():
            self._remember("DELETED", self._known[key])
        for key, item in seen.items():
            known = self._known.get(key)
            if known is not None and known["metadata"]["uid"] != item["metadata"]["uid"]:
                self._remember("DELETED", known)
                known = None
            if known is None:
                self._remember("ADDED", item)
            elif known["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                self._remember("MODIFIED", item)
        self._version = listing.resource_version
        self._listed_once = True

    def _remember(self, type: str, item: dict[str, Any]) -> None:
        if type == "DELETED":
            self._known.pop(_key(item), None)
        else:
            self._known[_key(item)] = item
        self._say(type, item)

    def _say_lost(self, error: KubeError) -> None:
        if self._reachability.lost(self._subscription) and not self._stopped:
            self._say("LOST", {"message": error.message})

    def _say_back(self) -> None:
        if self._reachability.back(self._subscription):
            self._say("BACK", {"message": f"{self._session.server} answers again"})

    def _say(self, type: str, item: dict[str, Any]) -> None:
        self._emit(Observation(self._subscription.kind, type, item, self._now()))

    @staticmethod
    def _pause(failures: int, spent: float) -> float:
        if failures:
            return min(_PACE * 2.0 ** (failures - 1), _LONGEST_WAIT)
        return min(_PACE, max(0.0, _PACE - spent))


class Watcher:
    """Follows ``subscriptions`` in threads. Use ``start``, ``next`` in a loop, ``stop``; or a ``with`` statement."""

    def __init__(
        self, session: Session, subscriptions: Sequence[Subscription], now: Callable[[], float] = time.time
    ) -> None:
        self._queue: queue.Queue[Observation | BaseException] = queue.Queue()
        self._stop = threading.Event()
        reachability = Reachability()
        self._followers = [
            Follower(session, subscription, self._queue.put, reachability, now, self._stop.wait)
            for subscription in subscriptions
        ]
        self._threads = [
            threading.Thread(target=follower.run, name="airgap-watch", daemon=True) for follower in self._followers
        ]

    def start(self) -> None:
        """Begin. First come all existing objects as ADDED."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all threads. One that is stuck in connecting is left to end by itself."""
        self._stop.set()
        for follower in self._followers:
            follower.stop()
        deadline = time.monotonic() + 2.0
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def next(self, timeout: float) -> Observation | None:
        """The next observation, or None after ``timeout`` seconds.

        Raises ``KubeError`` when a subscription cannot be followed at all (no permission, no such kind).
        """
        try:
            item = self._queue.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, BaseException):
            raise item
        return item

    def __enter__(self) -> Watcher:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


def _key(item: dict[str, Any]) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
