# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a release leaves behind for people and auditors: one JSON file, and the same as lines to read."""

from __future__ import annotations

import errno
import json
import os
import pwd
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from ..adapters.node import Node
from ..engines.canary.account import Account, by_hand
from ..engines.canary.journal import of_canary
from ..engines.evidence_page import render
from ..engines.release_progress import progress
from ..errors import AirgapError
from ..times import parse_rfc3339, rfc3339
from .release_record import ABANDONED, FAILED, OUTCOMES, PROMOTED, ROLLED_BACK

# What release_record makes ids of. A separator would lead out of the directory.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,239}")
_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d+)")


def build(
    release: Mapping[str, Any],
    result: Mapping[str, Any],
    now: float,
    outcome: str | None = None,
    image: str | None = None,
    digest: str | None = None,
    commit: str | None = None,
    who: Mapping[str, Any] | None = None,
    scan: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The document, without its link. ``release`` is what release_record returned, ``result`` what the canary returned
    or how the task failed that ended the release before it; empty when nothing is known. ``who``: {user, host};
    ``scan``: findings of each severity, and whatever else the caller says of the scan.

    What is not said stands in the journal, as far as a run of this release has known it."""
    journal = release.get("journal") or []
    account, reached = Account(journal), progress(journal)
    made = reached["image"]
    steps = list(result.get("steps") or account.all_steps())
    verdict = _outcome(release, result, outcome)
    started = release.get("started_at") or result.get("started_at") or rfc3339(now)
    return {
        "release": release["id"],
        "app": release["app"],
        "namespace": release["namespace"],
        "version": release["version"],
        "outcome": verdict,
        "reason": _reason(release, result, verdict),
        "driver": result.get("driver") or reached["canary"]["driver"] or "rollout",
        "started_at": started,
        "finished_at": release.get("finished_at") or _last(release, result) or rfc3339(now),
        "image": image or result.get("image") or made.get("image"),
        "digest": digest or made.get("digest"),
        "commit": commit or made.get("commit"),
        "pipeline": dict(made.get("pipeline") or {}),
        "git": reached["git"],
        "before": reached["stable"],
        "who": dict(who or {}),
        "scan": dict(scan or reached["scan"]),
        "steps": steps,
        "by_hand": by_hand(steps),
        "measurements": list(result.get("measurements") or account.all_measurements()),
        "conditions": dict(result.get("conditions") or account.conditions),
        "pods": list(result.get("pods") or account.pods),
        "timeline": _timeline(release, result),
        "verified": dict(result.get("verified") or {}),
        "chain": {},
    }


def ran_by(said: Mapping[str, Any] | None) -> dict[str, str]:
    """Who ran this, and where: what was ``said`` of {user, host}, and the rest from this process."""
    said = said or {}
    return {"user": said.get("user") or _user(), "host": said.get("host") or socket.gethostname()}


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run with a number that has no name
        return str(os.getuid())


def text(evidence: Mapping[str, Any]) -> list[str]:
    """The timeline as aligned lines: minutes and seconds since the start, and what happened."""
    start = parse_rfc3339(evidence["started_at"])
    rows = [(_since(start, entry["at"]), entry["text"]) for entry in evidence["timeline"]]
    width = max((len(time) for time, _what in rows), default=0)
    head = (
        f"{evidence['app']} {evidence['version']}: {evidence['outcome']} "
        f"after {_since(start, evidence['finished_at'])} ({evidence['release']})"
    )
    lines = [head]
    if evidence["reason"]:
        lines.append(f"reason: {evidence['reason']}")
    return lines + [f"  {time:>{width}}  {what}" for time, what in rows]


def write(directory: str, evidence: Mapping[str, Any], dry_run: bool = False) -> tuple[str, bool]:
    """Write ``<release id>.json``, or with the next free number when that name is taken by something else.

    Returns the path and whether a file was (with ``dry_run``: would be) written; the same document is not written
    twice. Nothing is ever overwritten.
    """
    name = checked_id(evidence)
    directory = os.path.abspath(directory)  # an inventory's path may go up and down again
    content = as_bytes(evidence)
    try:
        if not dry_run:
            os.makedirs(directory, exist_ok=True)
        for path in names(directory, name):
            if _same(path, content):
                return path, False
            if dry_run:
                if not os.path.lexists(path):
                    return path, True
            elif _create(path, content):
                return path, True
    except OSError as error:
        raise AirgapError(f"The evidence cannot be written to {directory}: {error}") from error
    raise AssertionError("numbers do not end")


def checked_id(evidence: Mapping[str, Any]) -> str:
    """The release's id, which names the file. Raises AirgapError for one that would lead elsewhere."""
    name = evidence["release"]
    if not (isinstance(name, str) and _ID.fullmatch(name)):
        raise AirgapError(
            f"The release's id {name!r} cannot be a file's name: letters, digits, '.', '_' and '-' can. "
            "Give what release_record returned."
        )
    return name


def as_bytes(evidence: Mapping[str, Any]) -> bytes:
    """The file of a document."""
    return (json.dumps(evidence, indent=2, ensure_ascii=False) + "\n").encode()


def write_page(path: str, evidence: Mapping[str, Any], dry_run: bool = False) -> tuple[str, bool]:
    """Write the page beside the document at ``path``; returns its path, and whether it was (or would be) written.

    It is made of the document alone, so one that says something else is written anew.
    """
    page = f"{path.removesuffix('.json')}.html"
    content, node = render(evidence), Node()
    if node.read(page) == content:
        return page, False
    if not dry_run:
        node.write(page, content)
    return page, True


def _outcome(release: Mapping[str, Any], result: Mapping[str, Any], outcome: str | None) -> str:
    """``rolled_back`` only when stable was verified; ``failed`` for all that cannot be shown."""
    if not outcome and not result and release.get("outcome") == ABANDONED:
        return ABANDONED
    claimed = outcome or result.get("outcome") or release.get("outcome")
    if claimed not in OUTCOMES:
        return FAILED
    # The hash is empty when anything that was asked for could not be verified; endpoints may be empty without Services.
    if outcome is None and claimed == ROLLED_BACK and not (result.get("verified") or {}).get("hash"):
        return FAILED
    return str(claimed)


def _last(release: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
    """When the last thing happened, of which the way back in Git comes after the canary's end."""
    if not result.get("finished_at"):
        return None
    times = [result["finished_at"], *(entry["at"] for entry in release.get("journal") or [])]
    return str(max(times, key=parse_rfc3339))


def _reason(release: Mapping[str, Any], result: Mapping[str, Any], outcome: str) -> str:
    reason = result.get("reason") or release.get("reason")
    if not reason and outcome != PROMOTED:
        reason = result.get("msg")
    return str(reason or "")


def _timeline(release: Mapping[str, Any], result: Mapping[str, Any]) -> list[dict[str, str]]:
    """The journal and the canary's own timeline in one; of the canary, while it ran, its own says it better."""
    told = [{"at": entry["at"], "text": entry["text"]} for entry in result.get("timeline") or []]
    times = [parse_rfc3339(entry["at"]) for entry in told]
    for entry in release.get("journal") or []:
        at = parse_rfc3339(entry["at"])
        if not of_canary(entry) or not times or at < min(times) or at > max(times):
            told.append({"at": entry["at"], "text": entry_text(entry)})
    return sorted(told, key=lambda entry: parse_rfc3339(entry["at"]))


def entry_text(entry: Mapping[str, Any]) -> str:
    """An entry of the journal in words."""
    if entry.get("text"):
        return str(entry["text"])
    data = ", ".join(f"{key} {value}" for key, value in entry.items() if key not in ("phase", "at", "run", "seen"))
    return f"{entry['phase']}: {data}" if data else str(entry["phase"])


def _since(start: float, at: str) -> str:
    seconds = max(0, round(parse_rfc3339(at) - start))
    return f"{seconds // 60}:{seconds % 60:02d}"


def names(directory: str, release_id: str) -> Iterator[str]:
    """Paths that a release's document may have, without an end: ``<id>.json``, and with the next numbers."""
    match = _NUMBERED.fullmatch(release_id)
    stem, number = (match["stem"], int(match["number"])) if match else (release_id, 1)
    yield os.path.join(directory, f"{release_id}.json")
    while True:
        number += 1
        yield os.path.join(directory, f"{stem}-{number}.json")


def _same(path: str, content: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read() == content
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EISDIR):
            return False
        raise


def _create(path: str, content: bytes) -> bool:
    """False when the name is taken. A file that could not be written whole is taken away again."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError:
        os.unlink(path)
        raise
    os.chmod(path, 0o644)  # whatever the umask
    return True
