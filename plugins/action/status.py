# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action of the module status: one screen of an app's releases, and what happens after it."""

from __future__ import annotations

from typing import Any, ClassVar

from ..module_utils.adapters.kube.session import Session
from ..module_utils.adapters.kube.watcher import Watcher
from ..module_utils.options import KUBE_OPTIONS, SECONDS, check_ranges
from ..module_utils.services.evidence import ran_by
from ..module_utils.services.status import Status, Wanted
from ..module_utils.times import Clock, SystemClock
from ..plugin_utils.streaming import Stream, StreamingAction


class ActionModule(StreamingAction):
    """Arguments to a screen, and what was seen to result."""

    ARGUMENT_SPEC: ClassVar[dict[str, Any]] = {
        "app": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "argocd_namespace": {"type": "str", "default": "argocd"},
        "directory": {"type": "path"},
        "host": {"type": "str"},
        "watch": {"type": "bool", "default": False},
        "deadline": {"type": "float", "default": 3600.0},
        "quiet": {"type": "bool", "default": False},
        **KUBE_OPTIONS,
    }

    clock: Clock = SystemClock()

    def run_streaming(self, args: dict[str, Any], out: Stream) -> dict[str, Any]:
        """Look; with ``watch``, follow and look again."""
        check_ranges(args, {"deadline": SECONDS})
        session = Session.connect(args["kubeconfig"], args["context"])
        wanted = Wanted(
            app=args["app"],
            namespace=args["namespace"],
            argocd_namespace=args["argocd_namespace"],
            directory=args["directory"] or "",
            host=ran_by({"host": args["host"]})["host"],
        )
        status = Status(session, self.clock, wanted)
        found = self._show(status, out)
        ended = False
        if args["watch"] and not self.check_mode:
            ended = status.follow(out, lambda kinds: Watcher(session, kinds), args["deadline"])
            found = self._show(status, out) if ended else status.look()
        return {"changed": False, "ended": ended, **found}

    @staticmethod
    def _show(status: Status, out: Stream) -> dict[str, Any]:
        found = status.look()
        for line in found["text"]:
            out.line(line)
        return found
