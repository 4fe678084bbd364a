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

from ...adapters.kube.kinds import DEPLOYMENT, Kind
from ...adapters.kube.session import Session
from ...engines.analysis import shapes
from ...engines.analysis.metric import TemplateError
from ...engines.analysis.template import references
from ...errors import AirgapError
from ...times import Clock
from ..analysis import App, Check, GateResult, GateSpec, load_gate, run_gate

_TURN_SECONDS = 0.5
"""How long queries may hold up a turn before it ends without them."""


def load_analysis(
    session: Session,
    namespace: str,
    name: str,
    analysis: Mapping[str, Any],
    hashes: Mapping[str, str],
    background: bool = False,
    failures_in_a_row: int = 0,
    kind: Kind = DEPLOYMENT,
) -> GateSpec:
    """The ``analysis`` of a step, or of the canary's ``background``, which may be endless: its templates as one run.

    ``kind`` and ``name`` are the app's; ``hashes`` gives the pod template hashes Latest and Stable;
    ``failures_in_a_row`` is our own limit, 0 for none.
    Raises ``AirgapError`` for what would make the run an error.
    """
    try:
        wanted = references(analysis, "analysis.templates")
        args = shapes.named(analysis.get("args"), "analysis.args", "name")
        rules = shapes.named(analysis.get("dryRun"), "analysis.dryRun", "metricName")
    except TemplateError as problem:
        raise AirgapError(str(problem)) from problem
    if not wanted:
        raise AirgapError("an analysis has no templates")
    options = {
        "references": wanted,
        "args": {arg["name"]: _given(arg) for arg in args},
        "dry_run": [rule["metricName"] for rule in rules],
        "endless": background,
        "consecutive_failure_limit": failures_in_a_row or None,
    }
    return load_gate(session, options, namespace, hashes, App(kind, name))


def _given(arg: Mapping[str, Any]) -> Any:
    return arg["value"] if "value" in arg else {key: value for key, value in arg.items() if key != "name"}


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
