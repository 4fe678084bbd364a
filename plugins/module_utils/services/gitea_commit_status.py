# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Gitea says of a commit and of its tag: the verdict of whoever released it."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..adapters.gitea import Gitea, NotFound
from ..engines.release_note import verdict, with_part

#: Characters of a description that Gitea's pages have room for.
LONGEST = 255


class Status(NamedTuple):
    """A verdict. ``state``: pending, success, failure or error; ``context`` tells it from those of others."""

    state: str
    context: str
    description: str = ""
    target_url: str = ""

    def as_gitea(self) -> dict[str, str]:
        """What Gitea is sent and gives back, on one line and not too long."""
        line = " ".join(self.description.split())
        short = line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
        return {**self._asdict(), "description": short}


class Note(NamedTuple):
    """The note of a tag. Without ``body`` it is the verdict in words; ``title`` is for a note that is not there yet."""

    tag: str
    title: str = ""
    body: str = ""


class CommitStatus:
    """The verdicts on one repository's commits."""

    def __init__(self, gitea: Gitea, owner: str, name: str, dry_run: bool = False) -> None:
        self._gitea = gitea
        self._where = (owner, name)
        self._dry_run = dry_run
        self._diff: list[dict[str, Any]] = []

    def set(self, commit: str, status: Status, note: Note | None = None) -> dict[str, Any]:
        """Have this verdict on a commit, and in the note of a tag. Raises NotFound when either is not there.

        Returns what the module returns.
        """
        sha = str(self._gitea.commit(*self._where, commit)["sha"])
        if note:  # before anything is written
            self._demand_tag(note.tag)
        shown = self._status(sha, status)
        written = self._note(note, status) if note else {}
        return {"changed": bool(self._diff), "commit": sha, "status": shown, "note": written, "diff": self._diff}

    def _status(self, sha: str, status: Status) -> dict[str, str]:
        wanted = status.as_gitea()
        # Gitea keeps them all, in no order that it promises; the newest of a context is the one that counts.
        ours = [each for each in self._gitea.statuses(*self._where, sha) if each.get("context") == status.context]
        newest = max(ours, key=lambda each: int(each["id"]), default={})
        there = {key: str(newest.get("status" if key == "state" else key) or "") for key in wanted}
        if there != wanted:
            self._changed(f"status of {sha}", there if newest else {}, wanted)
            if not self._dry_run:
                self._gitea.add_status(*self._where, sha, wanted)
        return wanted

    def _demand_tag(self, tag: str) -> None:
        """Gitea would make a tag that it does not find, on whatever is newest, and start what a new tag starts."""
        if self._gitea.tag(*self._where, tag) is None:
            owner, name = self._where
            raise NotFound(f"There is no tag {tag} in {owner}/{name}, and a release note needs one", 404)

    def _note(self, note: Note, status: Status) -> dict[str, Any]:
        there = self._gitea.release(*self._where, note.tag)
        before = str(there["body"]) if there else ""
        text = note.body or verdict(status.state, status.as_gitea()["description"], status.target_url)
        after = with_part(before, status.context, text)
        if before != after:
            self._changed(f"note of {note.tag}", before, after)
            if not self._dry_run and there:
                there = self._gitea.edit_release(*self._where, int(there["id"]), {"body": after})
            elif not self._dry_run:
                there = self._gitea.create_release(*self._where, note.tag, note.title or note.tag, after)
        return {"tag": note.tag, "url": str((there or {}).get("html_url", "")), "body": after}

    def _changed(self, what: str, before: Any, after: Any) -> None:
        self._diff.append({"before": before, "after": after, "before_header": what, "after_header": what})
