# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The analyses of a canary that no controller runs: read as Argo Rollouts reads them, and run beside everything else.

The gate itself is `run_gate`, which waits for its intervals. Here it waits in a thread of its own that only goes on
while somebody gives it a turn, so that measurements come where they are told, and nothing runs at the same time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any, Callable

from ...adapters.kube.kinds import ANALYSIS_TEMPLATE, CLUSTER_ANALYSIS_TEMPLATE
from ...adapters.kube.session import Session
from ...errors import AirgapError
from ...times import Clock
from ..analysis import Check, GateResult, GateSpec, load_gate, run_gate

_TURN_SECONDS = 0.5
"""How long queries may hold up a turn before it ends without them."""


def load_analysis(
    session: Session, namespace: str, analysis: Mapping[str, Any], hashes: Mapping[str, str], background: bool = False
) -> GateSpec:
    """The ``analysis`` of a step, or of the canary's ``background``, which may be endless: its templates as one run.

    ``hashes`` gives the pod template hashes Latest and Stable. Raises ``AirgapError`` for what would make the run an
    error.
    """
    references = analysis.get("templates") or []
    if not references:
        raise AirgapError("an analysis has no templates")
    args = {arg["name"]: _given(arg) for arg in analysis.get("args") or ()}
    dry_run = [str(rule["metricName"]) for rule in analysis.get("dryRun") or ()]
    specs: list[GateSpec] = []
    for reference in references:
        options = {
            "template": reference["templateName"],
            "cluster_template": bool(reference.get("clusterScope")),
            "args": args if len(references) == 1 else _declared(session, namespace, reference, args),
            "dry_run": dry_run if len(references) == 1 else [],
            "endless": background,
        }
        specs.append(load_gate(session, options, namespace, hashes))
    if len(specs) == 1:
        return specs[0]
    if dry_run:
        raise AirgapError("dryRun is not supported for an analysis of several templates: write it into the templates")
    metrics = [metric for spec in specs for metric in spec.metrics]
    if len({metric.name for metric in metrics}) < len(metrics):
        raise AirgapError("two of its templates have a metric of the same name")
    return GateSpec(
        ", ".join(spec.name for spec in specs), metrics, frozenset().union(*(spec.dry_run for spec in specs))
    )


def _given(arg: Mapping[str, Any]) -> Any:
    return arg["value"] if "value" in arg else {key: value for key, value in arg.items() if key != "name"}


def _declared(
    session: Session, namespace: str, reference: Mapping[str, Any], args: Mapping[str, Any]
) -> dict[str, Any]:
    """Templates of one analysis share its arguments: each takes its own."""
    cluster = bool(reference.get("clusterScope"))
    kind, where = (CLUSTER_ANALYSIS_TEMPLATE, None) if cluster else (ANALYSIS_TEMPLATE, namespace)
    body = session.find(kind, reference["templateName"], where) or {}
    names = {each.get("name") for each in (body.get("spec") or {}).get("args") or ()}
    return {name: value for name, value in args.items() if name in names}


class _Stopped(BaseException):
    """Nobody waits for the verdict any more."""


class SteppedGate:
    """A gate that goes on by turns. ``result`` is None until it has a verdict, and stays None when it was stopped."""

    def __init__(self, spec: GateSpec, query: Callable[[str], Any], clock: Clock) -> None:
        self.spec = spec
        self.result: GateResult | None = None
        self._query = query
        self._clock = clock
        self._ahead = clock.time() - clock.monotonic()
        self._made: list[Check] = []
        self._failed: BaseException | None = None
        self._due = -math.inf
        self._turn_began = 0.0
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._stopped = self._over = False
        self._thread = threading.Thread(target=self._run, name="airgap-gate", daemon=True)

    def turn(self) -> list[Check]:
        """Let it go on until it has to wait; the measurements that it has made. Raises what made it fail."""
        if not self._over:
            self._turn_began = self._clock.monotonic()
            if self._thread.ident is None:
                self._thread.start()
            self._go.release()
            self._back.acquire()
        if self._failed is not None:
            raise self._failed
        made = list(self._made)
        self._made.clear()
        return made

    def rest(self) -> float:
        """Seconds until the next turn has something to do."""
        return 0.0 if self._over else max(0.0, self._due - self.time())

    def stop(self) -> None:
        """End it without a verdict, and without waiting for a query that is on its way."""
        self._stopped = self._over = True
        self._go.release()

    def _run(self) -> None:
        self._go.acquire()
        try:
            self.result = run_gate(self.spec, self._query, self, self._made.append, self._tick)
        except _Stopped:
            pass
        except BaseException as error:  # told to whoever gives the next turn
            self._failed = error
        finally:
            self._over = True
            self._back.release()

    def _wait(self) -> None:
        self._back.release()
        self._go.acquire()
        if self._stopped:
            raise _Stopped

    def _tick(self) -> None:
        if self._stopped:
            raise _Stopped
        if self.monotonic() - self._turn_began >= _TURN_SECONDS:
            self._due = self.time()
            self._wait()

    # The clock of the gate: its waiting ends the turn.

    def time(self) -> float:
        """Epoch seconds as of when it was made: nobody's setting of the clock makes it measure early or late."""
        return self.monotonic() + self._ahead

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for turns, until it is over."""
        self._due = self.time() + seconds
        while self.time() < self._due:
            self._wait()
