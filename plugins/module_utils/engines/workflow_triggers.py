# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which workflows a push would start, by their own filters.

Copies matchPushEvent of Gitea 1.26 (modules/actions/workflows.go) and the patterns of act (pkg/workflowpattern). What
cannot be read counts as one that starts: saying so without need costs a marker in a message, the other way round a run
that nobody asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MARKER = "[skip ci]"
#: What Gitea looks for in a commit's message (SKIP_WORKFLOW_STRINGS, services/actions/notifier_helper.go).
MARKERS = ("[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]")
_BRANCHES, _TAGS, _PATHS = ("branches", "branches-ignore"), ("tags", "tags-ignore"), ("paths", "paths-ignore")


def silent(message: str) -> bool:
    """Whether Gitea starts no run for a commit with this message, nor for a tag on it (SKIP_WORKFLOW_STRINGS)."""
    return any(marker in message for marker in MARKERS)


def starts_on_push(workflow: Any, branch: str, paths: Sequence[str]) -> bool:
    """Whether a push to ``branch`` that changes ``paths`` starts ``workflow``, a file of YAML as loaded."""
    if not isinstance(workflow, Mapping):
        return True
    # YAML 1.1 takes the key `on` for the truth.
    events = workflow.get("on", workflow.get(True))
    if isinstance(events, str):
        return events == "push"
    if isinstance(events, Sequence):
        return "push" in events
    if not isinstance(events, Mapping):
        return True
    if "push" not in events:
        return False
    filters = events["push"]
    if filters is None:
        return True
    return not isinstance(filters, Mapping) or _matches(filters, branch, paths)


def _matches(filters: Mapping[str, Any], branch: str, paths: Sequence[str]) -> bool:
    given = {name: _patterns(filters[name]) for name in (*_BRANCHES, *_TAGS, *_PATHS) if name in filters}
    readable = {name: patterns for name, patterns in given.items() if patterns is not None}
    if len(readable) < len(given):
        return True
    about_branches, about_tags = (any(name in given for name in names) for names in (_BRANCHES, _TAGS))
    if about_tags and not about_branches:
        return False
    return all(
        _passes(name, patterns, [branch] if name in _BRANCHES else paths)
        for name, patterns in readable.items()
        if name not in _TAGS
    )


def _passes(name: str, patterns: Sequence[_Pattern], inputs: Sequence[str]) -> bool:
    if not patterns:
        return True
    if name.endswith("-ignore"):
        return not all(any(pattern.matches(text) != pattern.negative for pattern in patterns) for text in inputs)
    return any(_included(patterns, text) for text in inputs)


def _included(patterns: Sequence[_Pattern], text: str) -> bool:
    """The last pattern that fits decides."""
    fitting = [pattern for pattern in patterns if pattern.matches(text)]
    return bool(fitting) and not fitting[-1].negative


class _Pattern(NamedTuple):
    regex: re.Pattern[str]
    negative: bool

    def matches(self, text: str) -> bool:
        return self.regex.fullmatch(text) is not None


def _patterns(value: Any) -> list[_Pattern] | None:
    """None for what cannot be read."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        return None
    try:
        return [_Pattern(re.compile(_regex(text[text.startswith("!") :])), text.startswith("!")) for text in texts]
    except (re.error, IndexError, ValueError):
        return None


def _regex(glob: str) -> str:
    """``*`` within a name, ``**`` across them, ``?`` and ``+`` of the character before, ``[ ]``, ``\\`` quotes."""
    made = ""
    at = 0
    while at < len(glob):
        char = glob[at]
        if glob.startswith("**/", at):
            made += "(?:.+/)?"
            at += 3
        elif glob.startswith("**", at):
            made += ".*"
            at += 2
        elif char == "*":
            made += "[^/]*"
            at += 1
        elif char in "?+":
            made += char if at else re.escape(char)
            at += 1
        elif char == "[":
            end = glob.index("]", at)
            made += f"[{_range(glob[at + 1 : end])}]"
            at = end + 1
        elif char == "\\":
            made += re.escape(glob[at + 1])
            at += 2
        else:
            made += re.escape(char)
            at += 1
    return made


def _range(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise ValueError(f"no range: {text!r}")
    return text
