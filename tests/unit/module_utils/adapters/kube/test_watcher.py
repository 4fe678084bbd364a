# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Followers without threads, and the watcher's threads without waiting."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import POD, ROLLOUT
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import (
    Event,
    Forbidden,
    Gone,
    KubeError,
    Listing,
    Unreachable,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.watcher import (
    Follower,
    Observation,
    Reachability,
    Subscription,
    Watcher,
)


def pod(name: str, version: int, uid: str = "") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "lumen", "resourceVersion": str(version), "uid": uid or name}}


def bookmark(version: int) -> Event:
    return Event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


class Stream:
    def __init__(self, *entries: Any) -> None:
        self.entries = entries
        self.closed = False

    def __iter__(self) -> Any:
        for entry in self.entries:
            if isinstance(entry, BaseException):
                raise entry
            yield entry

    def close(self) -> None:
        self.closed = True


class ScriptedSession:
    """Lists and watches from two scripts; ``asked`` has the resource version of each watch, or "list"."""

    server = "https://fake:6443"

    def __init__(self, lists: list[Any], watches: list[Any]) -> None:
        self.lists = lists
        self.watches = watches
        self.asked: list[str] = []

    def list(self, *_subscription: Any) -> Listing:
        self.asked.append("list")
        return self._next(self.lists)

    def watch(self, _kind: Any, _namespace: Any, version: str, *_selectors: Any, timeout: float) -> Any:
        self.asked.append(version)
        return self._next(self.watches)

    @staticmethod
    def _next(script: Any) -> Any:
        entry = script.pop(0)
        if isinstance(entry, BaseException):
            raise entry
        return entry


class Run:
    """Runs one follower until the script of its watches is used up."""

    def __init__(self, session: ScriptedSession, seconds_each: float = 0.0) -> None:
        self.seen: list[Any] = []
        self.waits: list[float] = []
        self.now = 0.0
        self.session = session
        self.seconds_each = seconds_each
        follower = Follower(
            session,  # type: ignore[arg-type]
            Subscription(POD, "lumen"),
            self.seen.append,
            Reachability(),
            self._time,
            self._wait,
        )
        follower.run()

    def _time(self) -> float:
        self.now += self.seconds_each
        return self.now

    def _wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        return not self.session.watches

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(entry.type, entry.object.get("metadata", {}).get("name", "")) for entry in self.seen]


def test_lists_then_watches_from_there() -> None:
    session = ScriptedSession([Listing([pod("a", 3)], "5")], [Stream(Event("MODIFIED", pod("a", 6)))])
    run = Run(session)
    assert run.told == [("ADDED", "a"), ("MODIFIED", "a")]
    assert session.asked == ["list", "5"]
    assert isinstance(run.seen[0], Observation)
    assert run.seen[0].kind == POD


def test_goes_on_from_the_last_event_or_bookmark() -> None:
    session = ScriptedSession(
        [Listing([], "5")],
        [Stream(Event("ADDED", pod("a", 6))), Stream(bookmark(40)), Stream(Event("DELETED", pod("a", 41)))],
    )
    run = Run(session)
    assert session.asked == ["list", "5", "6", "40"]
    assert run.told == [("ADDED", "a"), ("DELETED", "a")]


def test_lists_again_when_the_version_is_gone_and_tells_what_was_missed() -> None:
    before = [pod("stays", 1), pod("changes", 2), pod("vanishes", 3), pod("replaced", 4, uid="old")]
    after = [pod("stays", 1), pod("changes", 12), pod("replaced", 14, uid="new"), pod("appears", 15)]
    session = ScriptedSession([Listing(before, "5"), Listing(after, "20")], [Gone("too old", 410), Stream()])
    run = Run(session)
    assert session.asked == ["list", "5", "list", "20"]
    assert run.told[4:] == [
        ("DELETED", "vanishes"),
        ("MODIFIED", "changes"),
        ("DELETED", "replaced"),
        ("ADDED", "replaced"),
        ("ADDED", "appears"),
    ]


def test_gone_in_the_middle_of_a_watch() -> None:
    session = ScriptedSession(
        [Listing([], "5"), Listing([], "20")], [Stream(Event("ADDED", pod("a", 6)), Gone("old", 410)), Stream()]
    )
    assert Run(session).told == [("ADDED", "a"), ("DELETED", "a")]


def test_an_api_server_that_goes_away_is_told_once_and_its_return_too() -> None:
    away = Unreachable("no answer")
    session = ScriptedSession([Listing([], "5")], [Stream(Event("ADDED", pod("a", 6)), away), away, away, Stream()])
    run = Run(session)
    assert run.told == [("ADDED", "a"), ("LOST", ""), ("BACK", "")]
    assert run.seen[1].object == {"message": "no answer"}
    assert session.asked == ["list", "5", "6", "6", "6"]


def test_waits_longer_each_time_but_not_longer_than_five_seconds() -> None:
    session = ScriptedSession([Listing([], "5")], [Unreachable("away")] * 6 + [Stream()])
    assert Run(session).waits == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 1.0]


@pytest.mark.parametrize("away", [Unreachable("away"), KubeError("starting", 500)])
def test_an_api_server_that_is_away_at_first(away: KubeError) -> None:
    session = ScriptedSession([away, Listing([pod("a", 1)], "5")], [Stream()])
    assert Run(session).told == [("LOST", ""), ("ADDED", "a"), ("BACK", "")]


def test_never_asks_faster_than_once_a_second() -> None:
    session = ScriptedSession([Listing([], "5")], [Stream(), Stream(), Stream()])
    assert Run(session).waits == [1.0, 1.0, 1.0]


def test_does_not_wait_after_a_watch_that_took_its_time() -> None:
    session = ScriptedSession([Listing([], "5")], [Stream(), Stream()])
    assert Run(session, seconds_each=30.0).waits == [0.0, 0.0]


def test_what_was_never_allowed_is_handed_on() -> None:
    refused = Forbidden("cannot list pods", 403)
    run = Run(ScriptedSession([refused], [Stream()]))
    assert run.seen == [refused]


def test_what_was_allowed_before_is_tried_again() -> None:
    session = ScriptedSession([Listing([], "5")], [Forbidden("not now", 403), KubeError("oops", 500), Stream()])
    assert Run(session).told == [("LOST", ""), ("BACK", "")]


def test_our_own_mistakes_are_not_lost_in_a_thread() -> None:
    mistake = KeyError("x")
    assert Run(ScriptedSession([mistake], [Stream()])).seen == [mistake]


def test_one_lost_and_one_back_for_several_followers() -> None:
    one, two = Subscription(POD), Subscription(ROLLOUT)
    reachability = Reachability()
    assert [reachability.lost(one), reachability.lost(two), reachability.lost(one)] == [True, False, False]
    assert [reachability.back(one), reachability.back(two), reachability.back(two)] == [False, True, False]


class BlockingStream:
    """As a watch without events: reading waits until it is closed."""

    def __init__(self) -> None:
        self._closed = threading.Event()
        self.reading = threading.Event()

    def __iter__(self) -> Any:
        self.reading.set()
        assert self._closed.wait(10)
        return iter(())

    def close(self) -> None:
        self._closed.set()


def test_stop_ends_threads_that_read() -> None:
    stream = BlockingStream()
    session = ScriptedSession([Listing([pod("a", 1)], "5")], [stream])
    with Watcher(session, [Subscription(POD, "lumen")], now=lambda: 7.0) as watcher:  # type: ignore[arg-type]
        assert watcher.next(5) == Observation(POD, "ADDED", pod("a", 1), 7.0)
        assert watcher.next(0) is None
        assert stream.reading.wait(5)
    assert not any(thread.is_alive() for thread in watcher._threads)


def test_next_raises_what_cannot_be_followed() -> None:
    session = ScriptedSession([Forbidden("cannot list pods", 403)], [])
    with (
        Watcher(session, [Subscription(POD, "lumen")]) as watcher,  # type: ignore[arg-type]
        pytest.raises(Forbidden, match="cannot list pods"),
    ):
        watcher.next(5)
