# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action of the module analysis: one Prometheus-gated analysis, streamed measurement by measurement."""

from __future__ import annotations

from typing import Any, ClassVar

from ..module_utils.adapters import prometheus
from ..module_utils.adapters.kube.errors import NotFound
from ..module_utils.adapters.kube.kinds import DEPLOYMENT, ROLLOUT
from ..module_utils.adapters.kube.session import Session
from ..module_utils.errors import AirgapError
from ..module_utils.options import (
    GATE_CONSTRAINTS,
    GATE_OPTIONS,
    KUBE_OPTIONS,
    PROMETHEUS_OPTIONS,
    PROMETHEUS_RANGES,
    SECONDS,
    check_ranges,
)
from ..module_utils.query import QUERY_OPTIONS, compile_query
from ..module_utils.services.analysis import App, GateResult, GateSpec, ask_once, load_gate, run_gate
from ..module_utils.times import Clock, SystemClock
from ..plugin_utils.streaming import Stream, StreamingAction

_RANGES = {"deadline": SECONDS, **PROMETHEUS_RANGES}


class ActionModule(StreamingAction):
    """Arguments to gate, gate to result."""

    ARGUMENT_SPEC: ClassVar[dict[str, Any]] = {
        **GATE_OPTIONS,
        "namespace": {"type": "str"},
        "rollout": {"type": "str"},
        "deployment": {"type": "str"},
        "deadline": {"type": "float", "default": 3600.0},
        "quiet": {"type": "bool", "default": False},
        **QUERY_OPTIONS,
        **KUBE_OPTIONS,
        **PROMETHEUS_OPTIONS,
    }
    CONSTRAINTS: ClassVar[dict[str, Any]] = {
        **GATE_CONSTRAINTS,
        "mutually_exclusive": [*GATE_CONSTRAINTS["mutually_exclusive"], ["rollout", "deployment"]],
        "required_by": {"rollout": ["namespace"], "deployment": ["namespace"]},
    }

    clock: Clock = SystemClock()

    def run_streaming(self, args: dict[str, Any], out: Stream) -> dict[str, Any]:
        """Lint, measure, and judge; in check mode ask each query once."""
        check_ranges(args, _RANGES)
        shape = compile_query(args["query"])
        session = self._session(args)
        spec = load_gate(session, args, args["namespace"], pod_hashes(session, args), app(args))
        check_duration(spec, args["deadline"])
        server = prometheus.connect(args["prometheus"], session)
        if self.check_mode:
            checked = with_warnings(check_result(spec, server, self.clock.time()), server, spec)
            for answer in checked["answers"]:
                out.line(f"{answer['metric']} is {answer['value']} now (check mode: no verdict)")
            return shape(checked)
        out.line(f"analysis {spec.name}: {spec.outline}")
        result = run_gate(
            spec, server.query, self.clock, lambda check: out.line(str(check)), out.check, args["deadline"]
        )
        out.line(f"analysis {spec.name}: {result.phase}")
        return shape(with_warnings(gate_report(spec, result), server, spec))

    def _session(self, args: dict[str, Any]) -> Session | None:
        in_cluster = args["namespace"] or (args["template"] and not args["file"])
        if not in_cluster and args["prometheus"]["url"]:
            return None
        return Session.connect(args["kubeconfig"], args["context"])


def app(args: dict[str, Any]) -> App | None:
    """Whose fields arguments may ask for."""
    if args["rollout"]:
        return App(ROLLOUT, args["rollout"])
    return App(DEPLOYMENT, args["deployment"]) if args["deployment"] else None


def with_warnings(result: dict[str, Any], server: prometheus.Prometheus, spec: GateSpec) -> dict[str, Any]:
    """``result`` with what Prometheus has warned of, which Ansible shows."""
    warnings = [f"Prometheus warns: {spec.secrets.mask(text)}" for text in server.warnings]
    return {**result, "warnings": warnings} if warnings else result


def pod_hashes(session: Session | None, args: dict[str, Any]) -> dict[str, str] | None:
    """The pod template hashes Latest and Stable of the Rollout in ``rollout``, from its status."""
    if not args["rollout"] or session is None:
        return None
    try:
        status = session.get(ROLLOUT, args["rollout"], args["namespace"]).get("status") or {}
    except NotFound as error:
        raise AirgapError(
            f"The Rollout {args['namespace']}/{args['rollout']} does not exist: {error.message}"
        ) from error
    return {"Latest": status.get("currentPodHash", ""), "Stable": status.get("stableRS", "")}


def check_duration(spec: GateSpec, deadline: float) -> None:
    """Refuse at once what would only be waited for in vain."""
    if spec.shortest >= deadline:
        raise AirgapError(
            f"Analysis {spec.name} needs {spec.shortest:g} s to be Successful, and the option deadline gives it "
            f"{deadline:g} s"
        )


def check_result(spec: GateSpec, server: prometheus.Prometheus, now: float) -> dict[str, Any]:
    """What check mode returns: the present answer to each query, and no verdict."""
    return {"changed": False, "name": spec.name, "phase": None, "answers": ask_once(spec, server.query, now)}


def gate_report(spec: GateSpec, result: GateResult) -> dict[str, Any]:
    """The result of the task; it fails unless the analysis was Successful."""
    report = {
        "changed": False,
        "name": spec.name,
        "phase": result.phase,
        "message": result.message,
        "started_at": result.started_at,
        "finished_at": result.finished_at,
        "metrics": result.metrics,
        "measurements": result.measurements,
    }
    if not result.passed:
        report.update(
            failed=True, msg=f"Analysis {spec.name} ended {result.phase}: {result.message}. {_numbers(result)}"
        )
    return report


def _numbers(result: GateResult) -> str:
    lines = []
    for metric in result.metrics:
        measured = [one for one in result.measurements if one["metric"] == metric["name"]]
        values = ", ".join("error" if one["phase"] == "Error" else one["value"] for one in measured)
        lines.append(f"{metric['name']} measured {values}")
    return "; ".join(lines)
