# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action of the module pipeline: a tag, and the run that it starts, streamed as it happens."""

from __future__ import annotations

from typing import Any, ClassVar

from ..module_utils.adapters.gitea import Gitea
from ..module_utils.options import GITEA_OPTIONS, GITEA_RANGES, SECONDS, check_ranges
from ..module_utils.query import QUERY_OPTIONS, compile_query
from ..module_utils.services.pipeline import Pipeline, Wanted
from ..module_utils.times import Clock, SystemClock
from ..plugin_utils.streaming import Stream, StreamingAction

_RANGES = {"deadline": SECONDS, "start_deadline": SECONDS, **GITEA_RANGES}


class ActionModule(StreamingAction):
    """Arguments to a pipeline, pipeline to result."""

    ARGUMENT_SPEC: ClassVar[dict[str, Any]] = {
        "owner": {"type": "str", "required": True},
        "name": {"type": "str", "required": True},
        "tag": {"type": "str", "required": True},
        "target": {"type": "str"},
        "tag_message": {"type": "str"},
        "branch": {"type": "str", "default": "main"},
        "manifest": {"type": "str"},
        "image": {"type": "str"},
        "state": {"type": "str", "choices": ["succeeded", "over"], "default": "succeeded"},
        "retry": {"type": "bool", "default": False},
        "start_deadline": {"type": "float", "default": 60.0},
        "deadline": {"type": "float", "default": 1800.0},
        "quiet": {"type": "bool", "default": False},
        **QUERY_OPTIONS,
        **GITEA_OPTIONS,
    }
    CONSTRAINTS: ClassVar[dict[str, Any]] = {"required_together": [["manifest", "image"]]}

    clock: Clock = SystemClock()

    def run_streaming(self, args: dict[str, Any], out: Stream) -> dict[str, Any]:
        """Tag and follow; in check mode say what would be tagged."""
        check_ranges(args, _RANGES)
        shape = compile_query(args["query"])
        wanted = Wanted(
            owner=args["owner"],
            name=args["name"],
            tag=args["tag"],
            target=args["target"] or args["branch"],
            message=args["tag_message"] or "",
            branch=args["branch"],
            manifest=args["manifest"] or "",
            image=args["image"] or "",
            retry=args["retry"],
            start_deadline=args["start_deadline"],
            deadline=args["deadline"],
        )
        pipeline = Pipeline(Gitea.connect(args["gitea"]), self.clock, out, wanted)
        if args["state"] == "over":
            # It changes nothing, but waits, which in check mode nobody wants.
            return shape(pipeline.settle(wait=not self.check_mode))
        return shape(pipeline.preview() if self.check_mode else pipeline.run())
