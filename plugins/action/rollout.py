# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action of the module rollout: a verb on Rollouts, and a wait that is streamed as it happens."""

from __future__ import annotations

from typing import Any, ClassVar

from ..module_utils.adapters.kube.session import Session
from ..module_utils.adapters.kube.watcher import Watcher
from ..module_utils.engines.canary.phase import GOALS, epoch
from ..module_utils.errors import AirgapError
from ..module_utils.options import KUBE_OPTIONS, SECONDS, Range, check_ranges
from ..module_utils.query import QUERY_OPTIONS, compile_query
from ..module_utils.services.rollout import Act, Request, Rollouts, Wanted, statuses
from ..module_utils.times import Clock, SystemClock, rfc3339
from ..plugin_utils.streaming import Stream, StreamingAction

_INDEX = Range("the index of a step, from 0", lambda value: value >= 0)


def _is_moment(text: str) -> bool:
    try:
        return "T" in text and bool(epoch(text))
    except ValueError:
        return False


_RANGES = {
    "timeout": SECONDS,
    "at_step": _INDEX,
    "wait_step": _INDEX,
    "restart_at": Range("a time as in RFC 3339, such as 2026-01-01T00:00:00Z", _is_moment),
}


class ActionModule(StreamingAction):
    """Arguments to Rollouts, what was done and is there to result."""

    ARGUMENT_SPEC: ClassVar[dict[str, Any]] = {
        "name": {"type": "str"},
        "names": {"type": "list", "elements": "str"},
        "namespace": {"type": "str", "required": True},
        "verb": {"type": "str", "choices": ["promote", "promote_full", "abort", "retry", "restart"]},
        "at_step": {"type": "int"},
        "restart_at": {"type": "str"},
        "wait": {"type": "list", "elements": "str", "choices": list(GOALS), "default": []},
        "wait_step": {"type": "int"},
        "image": {"type": "str"},
        "timeout": {"type": "float", "default": 300.0},
        "quiet": {"type": "bool", "default": False},
        **QUERY_OPTIONS,
        **KUBE_OPTIONS,
    }
    CONSTRAINTS: ClassVar[dict[str, Any]] = {
        "mutually_exclusive": [["name", "names"]],
        "required_one_of": [["name", "names"]],
    }

    clock: Clock = SystemClock()

    def run_streaming(self, args: dict[str, Any], out: Stream) -> dict[str, Any]:
        """Do it, wait, and say what is there."""
        check_ranges(args, _RANGES)
        names = args["names"] or ([args["name"]] if args["name"] else [])
        if not all(names) or not names:
            raise AirgapError("names must name at least one Rollout")
        shape, request, wanted = compile_query(args["query"]), self._request(args), _wanted(args)
        if request is None and wanted is None:
            raise AirgapError("there is nothing to do: give verb, wait or wait_step")
        session = Session.connect(args["kubeconfig"], args["context"])
        rollouts = Rollouts(session, args["namespace"], names, self.clock, out)
        acts = rollouts.act(request, args["timeout"], self.check_mode) if request else []
        over = bool(acts) and all(act.patch.over for act in acts)
        try:
            if wanted is not None and not over and not self.check_mode:
                rollouts.wait(wanted, args["timeout"], lambda wanted: Watcher(session, wanted))
        except AirgapError as error:
            error.details = {**self._result(session, args, names, acts), **error.details}
            raise
        return shape(self._result(session, args, names, acts))

    def _request(self, args: dict[str, Any]) -> Request | None:
        if args["at_step"] is not None and args["verb"] != "promote":
            raise AirgapError("at_step is for the verb promote")
        if args["restart_at"] and args["verb"] != "restart":
            raise AirgapError("restart_at is for the verb restart")
        if not args["verb"]:
            return None
        at = epoch(args["restart_at"]) if args["restart_at"] else self.clock.time()
        return Request(args["verb"], args["at_step"], rfc3339(at))

    def _result(self, session: Session, args: dict[str, Any], names: list[str], acts: list[Act]) -> dict[str, Any]:
        done = {act.name: act.as_dict() for act in acts}
        try:
            found = statuses(session, args["namespace"], names, self.clock.time())
        except AirgapError:  # what failed before it says more
            found = []
        nothing = {"changed": False, "message": "", "skipped_steps": []}
        rollouts = [
            {"status": status, **{key: done.get(status["name"], nothing)[key] for key in nothing}} for status in found
        ]
        result: dict[str, Any] = {"changed": any(act.changed for act in acts), "rollouts": rollouts}
        if self.diff_mode:
            result["diff"] = [_diff(act) for act in acts if act.changed]
        return result


def _wanted(args: dict[str, Any]) -> Wanted | None:
    if not args["wait"] and args["wait_step"] is None:
        if args["image"]:
            raise AirgapError("image is for a wait: give wait or wait_step as well")
        return None
    return Wanted(frozenset(args["wait"]), args["wait_step"], args["image"] or "")


def _diff(act: Act) -> dict[str, Any]:
    return {"before_header": act.name, "after_header": act.name, "before": act.before, "after": act.after}
