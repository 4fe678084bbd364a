# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the release loop asks of whatever moves the pods: Argo Rollouts, or somebody else behind the same interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...adapters.kube.watcher import Observation, Subscription
from ...engines.analysis.findings import Finding
from ...engines.argo.ownership import controller_of
from ...engines.canary.follow import Entry, State
from ...engines.canary.steps import Planned
from ...engines.workloads.problems import Problem
from ...errors import AirgapError


class NotOurs(AirgapError):
    """The app's template is somebody else's by now: nothing of it may be touched."""


class Deleted(AirgapError):
    """The app itself is gone."""


@dataclass(frozen=True)
class Strategy:
    """What was asked for, in the form of a Rollout's ``spec.strategy.canary``; None: nothing."""

    steps: Sequence[Mapping[str, Any]] | None = None
    analysis: Mapping[str, Any] | None = None


THE_APPS_OWN = Strategy()


@dataclass(frozen=True)
class Expected:
    """What a verb may act on. Without ``hashes`` the image alone decides."""

    images: frozenset[str]
    hashes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Situation:
    """An app before a release touches it. Hashes are pod template hashes; images those of the released container."""

    container: str
    image: str
    """In the template now."""
    stable_image: str
    """What stable pods run; empty at a first deployment."""
    hash: str
    stable_hash: str
    revision: str
    observed: bool
    healthy: bool
    aborted: bool
    message: str
    planned: Sequence[Planned] = ()
    kept_by: str = ""
    """The Argo CD Application that keeps the app as it stands in Git; empty without one."""

    @property
    def changing(self) -> bool:
        """Whether another template than stable's is on its way. The image tells before the controller has looked."""
        if not self.observed:
            return self.image != self.stable_image
        return bool(self.stable_hash) and self.hash != self.stable_hash


@dataclass(frozen=True)
class Verification:
    """What is really there. ``missing`` says what is not as it should be, in sentences; empty: verified."""

    hash: str = ""
    endpoints: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Service → names of the pods it sends to."""
    digests: Sequence[str] = ()
    missing: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """What the action returns as ``verified``; a part that could not be verified is empty."""
        if self.missing:
            return {"hash": "", "endpoints": {}, "digests": list(self.digests), "missing": list(self.missing)}
        endpoints = {service: list(pods) for service, pods in self.endpoints.items()}
        return {"hash": self.hash, "endpoints": endpoints, "digests": list(self.digests), "missing": []}


def refuse_owned(title: str, app: Mapping[str, Any]) -> None:
    """Raises ``AirgapError`` for an app that a controller keeps as another object says."""
    owner = controller_of(app)
    if owner:
        raise AirgapError(
            f"{title} belongs to {owner}, whose controller would take every change of it back. Change the image there."
        )


class Driver(Protocol):
    """Raises ``AirgapError`` for what it refuses, ``KubeError`` for what the cluster refuses, and ``Deleted``.

    The verbs read the app before they write, and write only what they have read: ``NotOurs`` when the template there
    is none of those that are expected.
    """

    name: str
    """``rollout`` or ``deployment``."""
    moves_pods: bool
    """Whether nobody does the steps but ``work``."""

    @property
    def busy(self) -> bool:
        """Whether ``work`` has anything to do at all."""

    def inspect(self) -> Situation:
        """Read the app; refuse what is no app for a canary. Writes nothing."""

    def lint(self, situation: Situation) -> Sequence[Finding | str]:
        """Refuse what could not be released as it is now, analyses included, before anything is changed.

        Returns what somebody should know who releases it all the same: findings, or sentences.
        """

    def longest_analysis(self, situation: Situation) -> tuple[float, str]:
        """Seconds that the longest analysis of a step takes when it is successful, and where it is, ``steps[1]``.

        After ``inspect``. What only the controller can know of an analysis is not counted.
        """

    def subscriptions(self) -> list[Subscription]:
        """What to watch. After ``inspect``."""

    def follow(self, target: str, revision: str, image: str) -> None:
        """Begin to follow the change to ``image``; ``target`` is its hash when that is known from before, else empty.
        Without it the first new template with that image is taken for ours, and any other for somebody else's."""

    def see(self, observation: Observation) -> list[Entry]:
        """Take in what was watched, and tell what is new in it."""

    def refresh(self, at: float) -> list[Entry]:
        """Read the app now instead of waiting for the watch; as ``see``."""

    def work(self, at: float) -> list[Entry]:
        """Do what is next, of a driver that is ``busy``, and tell what is new by it; ``at`` in epoch seconds. Called
        while the release goes on and while it is taken back, always with its Lease held."""

    def rest(self, at: float) -> float:
        """Seconds until ``work`` has something to do even if nothing is seen."""

    def state(self) -> State:
        """Where the canary is, and what has to be decided."""

    def arrived(self, image: str) -> bool:
        """Whether ``image`` is what stable runs, with nothing left to do."""

    def problem(self, now: float) -> Problem | None:
        """Why the canary's pods cannot start. ``now``: seconds of a clock that does not jump."""

    def digests(self) -> list[str]:
        """What the canary's ready pods that were seen run, of the released container."""

    def marker(self) -> tuple[Any, ...]:
        """Changes whenever a step begins, and when the last has ended."""

    def last_seen(self) -> str:
        """The last words about the step in progress, for the message of a deadline."""

    def set_image(self, image: str, expected: Expected) -> None:
        """Change the container's image in the template. Nothing happens when it is there already."""

    def promote(self, index: int, expected: Expected) -> bool:
        """End the pause at step ``index``; False when it is not paused there (any more, or for the moment)."""

    def promote_fully(self, expected: Expected) -> bool:
        """Skip all steps that are left; False when the controller has not looked at the change yet."""

    def abort(self, expected: Expected) -> None:
        """Send the canary back; its pods go, stable stays. Nothing happens when it is so already."""

    def verify(self, hash: str, restored: bool, digest: str = "", image: str = "") -> Verification:
        """Whether ready pods, Services and running digests are those of ``hash`` alone.

        ``restored``: the template is back as well (or was promoted), with ``image`` when that is given; without it an
        aborted canary is fine.
        """

    def steps(self) -> list[dict[str, Any]]:
        """``{index, kind, weight, actual_weight, started_at, finished_at, result, pushed, watched}``, times in epoch
        seconds or None. ``pushed``: it was promoted; ``watched``: it was not over before anybody looked."""

    def measurements(self) -> list[dict[str, Any]]:
        """``{run, metric, at, value, phase}`` with RFC 3339 times."""

    def conditions(self) -> dict[str, str]:
        """What each metric that was measured passes by."""
