# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watcher over a ``FakeSession``: no threads, and waiting lets a ``FakeClock`` go on."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.watcher import Observation, Subscription

from .clock import FakeClock
from .kube import FakeSession


class FakeWatcher:
    """``next`` returns what is there, or lets planned things happen until something is there or the time is over."""

    def __init__(self, session: FakeSession, subscriptions: Sequence[Subscription], clock: FakeClock) -> None:
        self._session = session
        self._subscriptions = list(subscriptions)
        self._clock = clock
        self._since: dict[Subscription, str] = {}
        self._ready: list[Observation] = []
        self.running = False

    def start(self) -> None:
        self.running = True
        for subscription in self._subscriptions:
            listing = self._session.list(*subscription)
            self._since[subscription] = listing.resource_version
            self._ready += [Observation(subscription.kind, "ADDED", item, self._clock.time()) for item in listing.items]

    def stop(self) -> None:
        self.running = False

    def say(self, type: str, message: str = "") -> None:
        """Make an observation LOST or BACK."""
        self._ready.append(Observation(self._subscriptions[0].kind, type, {"message": message}, self._clock.time()))

    def next(self, timeout: float) -> Observation | None:
        end = self._clock.time() + timeout
        self._collect()
        while not self._ready and self._clock.step(end):
            self._collect()
        return self._ready.pop(0) if self._ready else None

    def _collect(self) -> None:
        found: list[tuple[int, Observation]] = []
        for subscription in self._subscriptions:
            for event in self._session.watch(
                subscription.kind,
                subscription.namespace,
                self._since[subscription],
                subscription.label_selector,
                subscription.field_selector,
            ):
                version = event.object["metadata"]["resourceVersion"]
                self._since[subscription] = version
                found.append(
                    (int(version), Observation(subscription.kind, event.type, event.object, self._clock.time()))
                )
        self._ready += [observation for _version, observation in sorted(found, key=lambda entry: entry[0])]
