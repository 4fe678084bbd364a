# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster with one app, its controller, and a way to run releases of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import ANALYSIS_TEMPLATE, ROLLOUT
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.watcher import Subscription
from ansible_collections.lumen.airgap.plugins.module_utils.services.analysis import load_gate
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.release import Options, OwnGate, Release
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.rollout import RolloutDriver
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_record import Record

from .clock import FakeClock
from .kube import FakeSession
from .rollouts import NAME, NAMESPACE, FakeRollouts, new_rollout
from .stream import FakeStream
from .watcher import FakeWatcher

OLD, NEW, OTHER = "registry/api:v1.0.0", "registry/api:v1.1.0", "registry/api:v1.2.0"
ANALYSIS = {"analysis": {"templates": [{"templateName": "success-rate"}]}}
STEPS: list[dict[str, Any]] = [{"setWeight": 20}, ANALYSIS, {"setWeight": 80}, ANALYSIS, {"setWeight": 100}]
PAUSES: list[dict[str, Any]] = [{"setWeight": 20}, {"pause": {}}, {"setWeight": 80}, {"pause": {"duration": 5}}]
METRIC = {
    "name": "success-rate",
    "interval": "5s",
    "count": 3,
    "failureLimit": 1,
    "successCondition": "result[0] >= 0.95",
    "provider": {"prometheus": {"query": 'rate{hash="{{args.hash}}"}'}},
}
TEMPLATE = {
    "apiVersion": ANALYSIS_TEMPLATE.api_version,
    "kind": ANALYSIS_TEMPLATE.kind,
    "metadata": {"name": "success-rate", "namespace": NAMESPACE},
    "spec": {
        "args": [{"name": "hash", "valueFrom": {"podTemplateHashValue": "Latest"}}],
        "metrics": [METRIC],
    },
}


class Killed(BaseException):
    """The process is gone: nothing of the run is executed any more."""


class Lab:
    """A cluster with one app, its controller, and a way to run releases of it."""

    def __init__(self, steps: list[dict[str, Any]] | None = None, answers: list[str] | None = None) -> None:
        self.session = FakeSession(new_rollout(OLD, steps or STEPS), TEMPLATE)
        self.clock = FakeClock()
        self.controller = FakeRollouts(self.session, self.clock, answers)
        self.queries: list[str] = []
        self.value: Callable[[], list[float]] = lambda: [1.0]
        self.out = FakeStream()
        self.runs = 0

    def after(self, seconds: float, call: Callable[[], Any]) -> None:
        self.clock.at(self.clock.time() - self.clock.start + seconds, call)

    def driver(self) -> RolloutDriver:
        return RolloutDriver(self.session, NAMESPACE, NAME)

    def watch(self, wanted: Sequence[Subscription]) -> FakeWatcher:
        return FakeWatcher(self.session, wanted, self.clock)

    def release(
        self,
        image: str = NEW,
        gate: bool = False,
        record: Record | None = None,
        driver: RolloutDriver | None = None,
        watch: Callable[[Sequence[Subscription]], FakeWatcher] | None = None,
        **options: Any,
    ) -> Release:
        self.out = FakeStream()
        own = OwnGate(self._load, self._query) if gate else None
        return Release(
            driver or self.driver(),
            watch or self.watch,
            self.clock,
            self.out,
            Options(image, **options),
            own,
            record,
        )

    def _load(self, hashes: Any) -> Any:
        return load_gate(self.session, {"template": "success-rate"}, NAMESPACE, hashes)

    def _query(self, expression: str) -> list[float]:
        self.queries.append(expression)
        return self.value()

    def record(self, force: bool = False) -> Record:
        self.runs += 1
        run = f"run-{self.runs}"
        held = Record.acquire(self.session, self.clock, NAMESPACE, NAME, "v1.1.0", run, {}, force_unlock=force)
        return Record.attach(self.session, self.clock, NAMESPACE, NAME, held.release_id, run)

    def image(self) -> str:
        rollout = self.session.get(ROLLOUT, NAME, NAMESPACE)
        return str(rollout["spec"]["template"]["spec"]["containers"][0]["image"])

    def writes(self) -> list[tuple[str, Any]]:
        return [(method, kind) for method, kind, _ns, _name in self.session.calls if method in ("patch", "create")]

    def statuses(self) -> list[Any]:
        """Bodies that were patched into the Rollout."""
        return [body for body in self.session.bodies if isinstance(body, list) or "status" in body]


def bump(lab: Lab, image: str = NEW) -> None:
    containers = {"containers": [{"name": NAME, "image": image}]}
    lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"spec": {"template": {"spec": containers}}})
