# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which tags and manifests a registry can do without: the last N of a pattern stay, and whatever they are made of.

The order of "last": semantic versions by their precedence, everything else by the creation time that its image states
(then by name); where a pattern takes both kinds, a version counts as newer than what is none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from . import references

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)")


class Rule(NamedTuple):
    """In each repository that matches, of the tags that match, the last ``keep`` stay. Globs; ``*`` takes ``/`` too."""

    repository: str
    tags: str
    keep: int


class Tag(NamedTuple):
    """A tag, and the creation time of its image in epoch seconds: 0 when the image does not say."""

    name: str
    created: float = 0.0


class Deletion(NamedTuple):
    """``tags`` to remove, and ``manifests`` that nothing refers to then, each index before its children."""

    tags: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()


class KeptError(ValueError):
    """A manifest that something else still needs."""


def divide(rules: Sequence[Rule], repository: str, tags: Iterable[str]) -> list[tuple[Rule, list[str]]]:
    """The tags that each rule decides about, which is the first rule that matches a tag; the others stay."""
    parts: list[tuple[Rule, list[str]]] = [(rule, []) for rule in rules if fnmatchcase(repository, rule.repository)]
    for tag in tags:
        mine = next((found for rule, found in parts if fnmatchcase(tag, rule.tags)), None)
        if mine is not None:
            mine.append(tag)
    return parts


def surplus(keep: int, tags: Sequence[Tag]) -> list[str]:
    """The names of all but the last ``keep`` tags, oldest first."""
    ordered = sorted(tags, key=_age)
    return [tag.name for tag in ordered[: max(0, len(ordered) - keep)]]


def epoch(created: Any) -> float:
    """The creation time in an image's config as epoch seconds, 0 for one that cannot be read."""
    match = _MOMENT.fullmatch(created) if isinstance(created, str) else None
    if match is None:
        return 0.0
    try:
        moment = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    return moment.astimezone(timezone.utc).timestamp() + float(match[2] or 0)


def plan(tags: Mapping[str, str], removed: Collection[str], children: Mapping[str, Sequence[str]]) -> Deletion:
    """What goes with the tags ``removed``. ``tags`` has the digest of every tag, ``children`` those of every index.

    A manifest stays when another tag has it, or an index that stays.
    """
    live = _closure((digest for tag, digest in tags.items() if tag not in removed), children)
    gone = [tag for tag in tags if tag in removed]
    dead = _closure((tags[tag] for tag in gone), children)
    return Deletion(tuple(gone), tuple(digest for digest in dead if digest not in live))


def plan_digest(digest: str, tags: Mapping[str, str], children: Mapping[str, Sequence[str]], force: bool) -> Deletion:
    """What goes with one manifest. Raises KeptError when an index has it, or a tag unless ``force`` takes that too."""
    named = [tag for tag, target in tags.items() if target == digest]
    if named and not force:
        raise KeptError(f"{', '.join(named)} points to it: delete the tag, or set force to delete both")
    for tag, target in tags.items():
        if target != digest and digest in _closure([target], children):
            raise KeptError(f"it is a part of the index {target} ({tag}), which would be broken without it")
    left = {tag: target for tag, target in tags.items() if target != digest}
    live = _closure(left.values(), children)
    return Deletion(tuple(named), tuple(item for item in _closure([digest], children) if item not in live))


def _closure(roots: Iterable[str], children: Mapping[str, Sequence[str]]) -> dict[str, None]:
    """The roots and all below them, parents before children."""
    found: dict[str, None] = {}
    waiting = list(roots)
    while waiting:
        digest = waiting.pop(0)
        # Seen again further down: it moves behind the parent that was met last.
        found.pop(digest, None)
        found[digest] = None
        waiting.extend(children.get(digest, ()))
    return found


def _age(tag: Tag) -> tuple[Any, ...]:
    if references.is_release(tag.name):
        return (1, references.precedence(tag.name), tag.created, tag.name)
    return (0, tag.created, tag.name)
