# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What both drivers do alike: they name an app, and report what the follower saw of the change that is ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...adapters.kube.kinds import SERVICE
from ...adapters.kube.session import Session
from ...engines.canary.follow import Change, Follower
from ...engines.canary.steps import Planned
from ...errors import AirgapError


class Followed:
    """The half of a `Driver` that does not ask who moves the pods. A subclass sets these, and knows its plan."""

    _session: Session
    _namespace: str
    _name: str
    _container: str | None
    _service: str | None
    _follower: Follower
    _hash: str

    @property
    def _title(self) -> str:
        raise NotImplementedError

    def _plan(self) -> list[Planned]:
        """Raises AirgapError."""
        raise NotImplementedError

    def _planned(self) -> list[Planned]:
        """Empty for steps that cannot be released with: ``lint`` says why, and going back needs none."""
        try:
            return self._plan()
        except AirgapError:
            return []

    def _released_of(self, containers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The container that is released: the one that was named, the only one, or the one named like the app."""
        wanted = self._container or (containers[0]["name"] if len(containers) == 1 else self._name)
        for container in containers:
            if container["name"] == wanted:
                return container
        names = ", ".join(container["name"] for container in containers)
        raise AirgapError(f"{self._title} has no container '{wanted}'; it has {names}. Say which with 'container'.")

    def _common(self) -> str | None:
        if self._service:
            return self._service
        return self._name if self._session.find(SERVICE, self._name, self._namespace) else None

    @property
    def _change(self) -> Change | None:
        """Ours: the one that was to be followed, or the first that is not from before."""
        return next((change for change in reversed(self._follower.changes) if change.hash == self._hash), None)

    def marker(self) -> tuple[Any, ...]:
        """See `Driver`."""
        change = self._change
        if change is None:
            return ()
        over = bool(change.steps) and bool(change.steps[-1].ended_by)
        return (change.hash, change.revision, change.attempt, len(change.steps), over)

    def steps(self) -> list[dict[str, Any]]:
        """See `Driver`."""
        change = self._change
        if change is None:
            return []
        return [
            {
                "index": record.step.index,
                "kind": record.step.kind,
                "weight": record.step.weight,
                "actual_weight": record.counts.weight if record.counts else None,
                "started_at": began,
                "finished_at": ended,
                "result": self._follower.result(record),
                "pushed": self._follower.pushed(record),
                "watched": record.ended_by != "unseen",
            }
            for record, (began, ended) in zip(change.steps, self._follower.times(change))
        ]

    def measurements(self) -> list[dict[str, Any]]:
        """See `Driver`."""
        change = self._change
        return [
            {"run": each.run, "metric": each.metric, "at": each.at, "value": each.value, "phase": each.phase}
            for each in (change.measurements if change else ())
        ]

    def conditions(self) -> dict[str, str]:
        """See `Driver`."""
        change = self._change
        return {each.metric: each.condition for each in (change.measurements if change else ()) if each.condition}
