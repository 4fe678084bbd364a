# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each verb writes into a Rollout, read from the Rollout as it is: promote, promote fully, abort, retry, restart.

The patches are those of the kubectl plugin of Argo Rollouts 1.8 (pkg/kubectl-argo-rollouts/cmd). Unlike it, a verb that
is done already, or that would do harm, writes nothing: the plugin promotes past the next step when the promotion before
has not been acted on yet, and aborts what has nothing in progress.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from .objects import Object, read_rollout
from .phase import epoch, unpausing

PROMOTE, PROMOTE_FULL, ABORT, RETRY, RESTART = "promote", "promote_full", "abort", "retry", "restart"

_INCONCLUSIVE = "Inconclusive"


class VerbError(ValueError):
    """The verb may not be done to this Rollout as it is; the message says why, and what can be."""


@dataclass(frozen=True)
class Patch:
    """What to write: merge patches of the status subresource and of the object. Without either, nothing is to do.

    ``unified`` goes to the object in place of both when there is no status subresource (Argo Rollouts before 0.10).
    """

    text: str
    """What it does, or why there is nothing to do."""
    status: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[Mapping[str, Any], ...] = ()
    """Steps that are not run to their end: {index, kind, run}."""
    over: bool = False
    """Whether what the verb would end has ended, so that there is nothing to wait for."""

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.status or self.spec)

    @property
    def unified(self) -> dict[str, Any]:
        """Both in one."""
        return {key: value for key, value in (("spec", self.spec), ("status", self.status)) if value}


def plan(verb: str, rollout: Object, at_step: int | None = None, restart_at: str = "") -> Patch:
    """What ``verb`` writes.

    ``at_step``: a promotion is only for the step with this index, and done when the Rollout is past it.
    ``restart_at``: RFC 3339, UTC. Raises VerbError.
    """
    if verb == PROMOTE:
        return _promote(rollout, at_step)
    if verb == RESTART:
        return _restart(rollout, restart_at)
    verbs: dict[str, Callable[[Object], Patch]] = {PROMOTE_FULL: _promote_full, ABORT: _abort, RETRY: _retry}
    return verbs[verb](rollout)


def _promote(rollout: Object, at_step: int | None) -> Patch:
    spec, view, steps = rollout["spec"], read_rollout(rollout), _steps(rollout)
    index = view.index or 0
    if view.aborted:
        raise VerbError(_aborted("promoted"))
    if at_step is not None and at_step >= len(steps):
        raise VerbError(f"it has no step with the index {at_step}; it has {len(steps)} steps")
    if _done(rollout) and not spec.get("paused"):
        return Patch(f"nothing to promote: {view.hash} is stable")
    if view.full:
        return Patch("it is being promoted fully already")
    if at_step is not None and index > at_step:
        return Patch(f"it is past step {at_step + 1} already")
    if at_step is not None and index < at_step:
        raise VerbError(f"it is at step {index + 1} of {len(steps)}, not at step {at_step + 1}")
    if unpausing(rollout):
        return Patch("it has been promoted already, and the controller has not reacted yet")
    unpaused = {"paused": False} if spec.get("paused") else {}
    if view.pauses:
        return _end_pause(rollout, index, unpaused)
    if not steps or index >= len(steps):
        return Patch("ends the pause by hand" if unpaused else "nothing to promote: no step is left", spec=unpaused)
    skipped = _skipped(rollout, index)
    text = f"skips step {_place(index, steps)}"
    return Patch(text, {"pauseConditions": None, "currentStepIndex": index + 1}, unpaused, (skipped,))


def _end_pause(rollout: Object, index: int, unpaused: Mapping[str, Any]) -> Patch:
    status, steps = rollout.get("status") or {}, _steps(rollout)
    run = (status.get("canary") or {}).get("currentStepAnalysisRunStatus") or {}
    if run.get("status") == _INCONCLUSIVE and status.get("controllerPause") and index < len(steps):
        # Without the step after it, the controller would pause again for the same run.
        patch = {"pauseConditions": None, "controllerPause": False, "currentStepIndex": index + 1}
        text = f"goes on past step {_place(index, steps)}, which was inconclusive"
        return Patch(text, patch, unpaused, (_skipped(rollout, index),))
    where = f" at step {_place(index, steps)}" if index < len(steps) else ""
    return Patch(f"ends the pause{where}", {"pauseConditions": None}, unpaused)


def _promote_full(rollout: Object) -> Patch:
    view, steps = read_rollout(rollout), _steps(rollout)
    if view.aborted:
        raise VerbError(_aborted("promoted"))
    if _done(rollout):
        return Patch(f"nothing to promote: {view.hash} is stable")
    if view.full:
        return Patch("it is being promoted fully already")
    left = tuple(_skipped(rollout, index) for index in range(view.index or 0, len(steps)))
    text = "promotes fully" + (f", and skips {len(left)} of {len(steps)} steps" if left else "")
    return Patch(text, {"promoteFull": True}, skipped=left)


def _abort(rollout: Object) -> Patch:
    view = read_rollout(rollout)
    if view.aborted:
        return Patch("it is aborted already")
    if _done(rollout):
        return Patch(f"nothing to abort: {view.hash} is stable", over=True)
    return Patch(f"aborts {view.hash}", {"abort": True})


def _retry(rollout: Object) -> Patch:
    view = read_rollout(rollout)
    if not view.aborted:
        return Patch("nothing to retry: it is not aborted")
    return Patch(f"tries {view.hash} again from its first step", {"abort": False})


def _restart(rollout: Object, restart_at: str) -> Patch:
    there = rollout["spec"].get("restartAt") or ""
    if there and epoch(there) >= epoch(restart_at):
        return Patch(f"it is to be restarted at {there} already")
    if read_rollout(rollout).aborted:
        raise VerbError(_aborted("restarted"))
    return Patch(f"restarts all pods that are older than {restart_at}", spec={"restartAt": restart_at})


def _aborted(done: str) -> str:
    return (
        f"it is aborted, and cannot be {done}: retry it, or have Git go back to the stable version. Until then nothing "
        "may touch its spec"
    )


def _done(rollout: Object) -> bool:
    """Nothing is in progress: the newest template is stable. A change that is not observed yet is in progress."""
    view = read_rollout(rollout)
    return view.observed and bool(view.hash) and view.hash == view.stable


def _steps(rollout: Object) -> list[Mapping[str, Any]]:
    canary = (rollout["spec"].get("strategy") or {}).get("canary") or {}
    return list(canary.get("steps") or ())


def _kind(step: Mapping[str, Any]) -> str:
    return next((kind for kind, value in step.items() if value is not None), "")


def _place(index: int, steps: list[Mapping[str, Any]]) -> str:
    return f"{index + 1}/{len(steps)} {_kind(steps[index])}"


def _skipped(rollout: Object, index: int) -> dict[str, Any]:
    view = read_rollout(rollout)
    run = view.run if index == (view.index or 0) else ""
    return {"index": index, "kind": _kind(_steps(rollout)[index]), "run": run}


def shown(rollout: Object, patch: Patch) -> dict[str, Any]:
    """The fields that ``patch`` writes as they are in ``rollout``: beside ``patch.unified``, the diff."""
    return {part: {key: (rollout.get(part) or {}).get(key) for key in fields} for part, fields in patch.unified.items()}
