# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action of the module canary: one release of an app by a canary, streamed as it happens."""

from __future__ import annotations

from typing import Any, ClassVar

from ..module_utils.adapters import prometheus
from ..module_utils.adapters.kube.kinds import DEPLOYMENT, ROLLOUT
from ..module_utils.adapters.kube.session import Session
from ..module_utils.adapters.kube.watcher import Watcher
from ..module_utils.engines.analysis.findings import Finding
from ..module_utils.errors import AirgapError
from ..module_utils.options import (
    GATE_CONSTRAINTS,
    GATE_OPTIONS,
    KUBE_OPTIONS,
    PROMETHEUS_OPTIONS,
    PROMETHEUS_RANGES,
    SECONDS,
    Range,
    check_ranges,
)
from ..module_utils.query import QUERY_OPTIONS, compile_query
from ..module_utils.services.analysis import App, load_gate
from ..module_utils.services.canary.deployment import DeploymentDriver
from ..module_utils.services.canary.driver import Driver, Strategy
from ..module_utils.services.canary.release import FAILED, Options, OwnGate, Release
from ..module_utils.services.canary.rollout import RolloutDriver
from ..module_utils.services.lint import gate_context, lint_gate, refuse_errors
from ..module_utils.services.release_record import Record
from ..module_utils.times import Clock, SystemClock
from ..plugin_utils.streaming import Stream, StreamingAction

_LIMIT = Range("0 for none, or a number of failures in a row", lambda value: value >= 0)
_RANGES = {
    "step_deadline": SECONDS,
    "scrape_interval": SECONDS,
    "consecutive_failure_limit": _LIMIT,
    **PROMETHEUS_RANGES,
}


class ActionModule(StreamingAction):
    """Arguments to a release, release to result."""

    ARGUMENT_SPEC: ClassVar[dict[str, Any]] = {
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "image": {"type": "str"},
        "container": {"type": "str"},
        "digest": {"type": "str"},
        "service": {"type": "str"},
        "driver": {"type": "str", "choices": ["rollout", "deployment"], "default": "rollout"},
        "steps": {"type": "list", "elements": "dict"},
        "analysis": {"type": "dict"},
        "gate": {"type": "dict", "options": GATE_OPTIONS, **GATE_CONSTRAINTS},
        "step_deadline": {"type": "float", "default": 900.0},
        "scrape_interval": {"type": "float", "default": 30.0},
        "on_failure": {"type": "str", "choices": ["rollback", "leave"], "default": "rollback"},
        "on_inconclusive": {"type": "str", "choices": ["abort", "pause"], "default": "abort"},
        "consecutive_failure_limit": {"type": "int", "default": 0},
        "promote_full": {"type": "bool", "default": False},
        "release": {
            "type": "dict",
            "options": {"id": {"type": "str", "required": True}, "run": {"type": "str", "required": True}},
        },
        "quiet": {"type": "bool", "default": False},
        **QUERY_OPTIONS,
        **KUBE_OPTIONS,
        **PROMETHEUS_OPTIONS,
    }

    clock: Clock = SystemClock()

    def run_streaming(self, args: dict[str, Any], out: Stream) -> dict[str, Any]:
        """Release; in check mode say what a release would do."""
        check_ranges(args, _RANGES)
        if args["promote_full"] and args["driver"] != RolloutDriver.name:
            raise AirgapError("promote_full is for Rollouts: a Deployment has no steps but those that are given.")
        shape = compile_query(args["query"])
        session = Session.connect(args["kubeconfig"], args["context"])
        driver = self._driver(session, args)
        options = Options(
            args["image"] or "",
            args["digest"] or "",
            args["step_deadline"],
            args["on_failure"],
            args["on_inconclusive"],
            args["promote_full"],
        )
        record = None if self.check_mode else self._record(session, args)
        release = Release(
            driver,
            lambda wanted: Watcher(session, wanted),
            self.clock,
            out,
            options,
            own_gate(session, args, driver),
            record,
        )
        try:
            return shape(release.preview() if self.check_mode else release.run())
        except AirgapError as error:
            # What was refused, or could not be finished: the release has failed, and the report says so.
            error.details = {"outcome": FAILED, "driver": driver.name, "reason": error.message, **error.details}
            raise

    def _driver(self, session: Session, args: dict[str, Any]) -> Driver:
        strategy = Strategy(args["steps"], args["analysis"])
        app: dict[str, Any] = {key: args[key] for key in ("namespace", "name", "container", "service")}
        app.update(failures_in_a_row=args["consecutive_failure_limit"], scrape_interval=args["scrape_interval"])
        if args["driver"] == RolloutDriver.name:
            return RolloutDriver(session, **app, strategy=strategy)
        query = prometheus.connect(args["prometheus"], session).query
        return DeploymentDriver(session, self.clock, query, **app, strategy=strategy)

    def _record(self, session: Session, args: dict[str, Any]) -> Record | None:
        release = args["release"]
        if not release:
            return None
        return Record.attach(session, self.clock, args["namespace"], args["name"], release["id"], release["run"])


_APPS = {"rollout": ROLLOUT, "deployment": DEPLOYMENT}
"""What each driver drives, by its name."""


def own_gate(session: Session, args: dict[str, Any], driver: Driver) -> OwnGate | None:
    """The gate that is run at every ``pause: {}``."""
    gate = args["gate"]
    if not gate:
        return None
    app = App(_APPS[driver.name], args["name"])
    server = prometheus.connect(args["prometheus"], session)

    def lint() -> list[Finding]:
        findings = lint_gate(session, gate, args["namespace"], gate_context(gate, args["scrape_interval"]))
        refuse_errors(findings)
        return findings

    return OwnGate(lambda hashes: load_gate(session, gate, args["namespace"], hashes, app), server.query, lint)
