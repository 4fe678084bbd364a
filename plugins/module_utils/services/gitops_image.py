# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image of a workload in Git: changed by a commit of its own, and that commit taken back.

A push is a compare and swap: when somebody else has pushed meanwhile, the change is made again on what is there now.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Protocol

from ..adapters.git import File, GitError, Person, Rejected, RemoteAway
from ..engines import gitops
from ..engines.workflow_triggers import MARKER, silent, starts_on_push
from ..errors import AirgapError
from ..times import Clock

YAML_IMPORT_ERROR: str | None = None
try:
    import yaml
except ImportError:
    YAML_IMPORT_ERROR = traceback.format_exc()

#: Where Gitea looks for workflows: the first of these that is there.
_WORKFLOWS = (".gitea/workflows", ".github/workflows")
_PAUSE = 1.0
_LONGEST_PAUSE = 5.0
_SHOWN = 10

AUTO, ALWAYS, NEVER = "auto", "always", "never"


class Repository(Protocol):
    """One branch of a remote repository (``adapters.git.Repository``)."""

    def fetch(self, branch: str, history: bool = False) -> str:
        """Its head."""

    def read(self, commit: str, path: str) -> File | None:
        """A file of a commit."""

    def names(self, commit: str, directory: str) -> list[str]:
        """Files below a directory."""

    def find(self, commit: str) -> str | None:
        """The full name of a commit."""

    def parents(self, commit: str) -> list[str]:
        """Its parents."""

    def history(self, head: str, path: str) -> list[tuple[str, list[str]]]:
        """The commits that made a file what it is, with those that each came after."""

    def contains(self, head: str, commit: str) -> bool:
        """Whether it is in the history of ``head``."""

    def changed(self, commit: str) -> list[str]:
        """What it changed."""

    def commit(self, parent: str, path: str, file: File, message: str, author: Person) -> str:
        """A new one."""

    def push(self, commit: str, branch: str) -> None:
        """Compare and swap."""


class Place(NamedTuple):
    """What image is meant: in which file of which branch, and of which container (see ``engines.gitops``)."""

    branch: str
    path: str
    container: str | None = None
    resource: str | None = None
    every: bool = False


class How(NamedTuple):
    """How it is committed. ``skip_ci``: auto, always or never; ``message`` may be empty.

    ``wait``: for how long, in seconds, it is tried again while the server does not answer. With 0 that is one of the
    ``attempts``.
    """

    author: Person
    message: str = ""
    skip_ci: str = AUTO
    attempts: int = 5
    wait: float = 0.0


class Done(NamedTuple):
    """``commit`` is the branch's head now, or in a dry run before; ``before`` and ``after`` are the file's text.

    ``undone`` is the commit that was taken back, if one was.
    """

    changed: bool
    commit: str
    message: str
    changes: Sequence[gitops.Change]
    before: str
    after: str
    attempts: int = 1
    undone: str = ""

    def as_dict(self, place: Place) -> dict[str, Any]:
        """What the module returns."""
        return {
            "changed": self.changed,
            "commit": self.commit,
            "undone": self.undone,
            "images": _named(self.after, place),
            "message": self.message,
            "changes": [change._asdict() for change in self.changes],
            "attempts": self.attempts,
            "diff": {
                "before": self.before,
                "after": self.after,
                "before_header": place.path,
                "after_header": place.path,
            },
        }


class _Planned(NamedTuple):
    edit: gitops.Edit
    subject: str = ""
    undone: str = ""


class _Attempts:
    """The attempts at one change: ``number`` is that of the current one, ``pushed`` what the last push would have done.

    Somebody who was faster uses one up; a server that does not answer uses up the time to wait for it instead.
    """

    def __init__(self, clock: Clock, how: How) -> None:
        self._clock = clock
        self._how = how
        self._begun = clock.monotonic()
        self._used = 0
        self.number = 1
        self.pushed: Done | None = None

    def again(self, error: Rejected | RemoteAway) -> None:
        """Pause before the next one. Raises the error, with what was tried, when there is none left."""
        if isinstance(error, RemoteAway) and self._how.wait:
            over = self._clock.monotonic() - self._begun >= self._how.wait
            tried = f"tried {self.number} times within {self._how.wait:g} s"
        else:
            self._used += 1
            over = self._used >= self._how.attempts
            tried = f"tried {self.number} times"
        if over:
            raise type(error)(f"{error.message} ({tried})", **error.details) from error
        self._clock.sleep(min(_PAUSE * self.number, _LONGEST_PAUSE))
        self.number += 1


class GitopsImage:
    """``repository`` is fetched anew for each attempt."""

    def __init__(self, repository: Repository, clock: Clock) -> None:
        self._repository = repository
        self._clock = clock

    def set(self, place: Place, image: str, how: How, dry_run: bool = False) -> Done:
        """Let the manifest name ``image``. Nothing is committed when it does."""

        def plan(head: str, file: File) -> _Planned:
            edit = gitops.set_image(
                file.text, image, container=place.container, resource=place.resource, every=place.every
            )
            return _Planned(edit, f"chore: bump {self._what(place, image)} to {_version(image)}")

        return self._swap(place, how, plan, dry_run, history=False)

    def revert(self, place: Place, commit: str, how: How, dry_run: bool = False) -> Done:
        """Take back what ``commit`` changed, whatever came after it, unless the image has moved on since."""

        def plan(head: str, file: File) -> _Planned:
            name = self._repository.find(commit)
            if name is None or not self._repository.contains(head, name):
                raise GitError(f"The branch {place.branch} has no commit {commit}")
            return self._undoing(name, place, file)

        return self._swap(place, how, plan, dry_run, history=True)

    def revert_image(self, place: Place, image: str, how: How, dry_run: bool = False, to: str = "") -> Done:
        """Take back the commit that brought ``image``. Nothing is committed when the manifest does not name it.

        With ``to``, an image, it names that one afterwards, wherever undoing the commit alone would lead; nothing is
        committed when it is ``image`` itself.
        """

        def plan(head: str, file: File) -> _Planned:
            found = gitops.find_image(file.text, image, container=place.container, resource=place.resource)
            if not found or _same_tag(image, to):
                return _Planned(gitops.Edit(file.text, []))
            try:
                undoing = self._undoing(self._origin(head, place, image, found), place, file)
            except (AirgapError, gitops.GitopsError):
                if not to:
                    raise
                undoing = None
            if undoing is not None and (not to or all(_same_tag(each.after, to) for each in undoing.edit.changes)):
                return undoing
            instead = _with(file.text, [(each, to) for each in found])
            return _Planned(instead, f"revert: {self._back(instead, place)}")

        return self._swap(place, how, plan, dry_run, history=True)

    # -- one commit ------------------------------------------------------------------------------------------------

    def _swap(
        self, place: Place, how: How, plan: Callable[[str, File], _Planned], dry_run: bool, history: bool
    ) -> Done:
        attempts = _Attempts(self._clock, how)
        while True:
            try:
                return self._attempt(place, how, plan, dry_run, history, attempts)
            except (Rejected, RemoteAway) as error:
                attempts.again(error)

    def _attempt(
        self,
        place: Place,
        how: How,
        plan: Callable[[str, File], _Planned],
        dry_run: bool,
        history: bool,
        so_far: _Attempts,
    ) -> Done:
        head = self._repository.fetch(place.branch, history)
        file = self._file(head, place)
        planned = self._planned(plan, head, file, place)
        edit = planned.edit
        if not edit.changes:
            if so_far.pushed is not None and self._arrived(place.branch, so_far.pushed.commit):
                return so_far.pushed._replace(attempts=so_far.number)
            return Done(False, head, "", (), file.text, file.text, so_far.number)
        message = self._message(head, place, how, planned.subject)
        done = Done(True, head, message, edit.changes, file.text, edit.text, so_far.number, planned.undone)
        if dry_run:
            return done
        pushed = self._repository.commit(head, place.path, File(edit.text, file.mode), message, how.author)
        so_far.pushed = done._replace(commit=pushed)
        self._repository.push(pushed, place.branch)
        return so_far.pushed

    def _arrived(self, branch: str, pushed: str) -> bool:
        """Whether a push whose answer was lost has arrived all the same."""
        return self._repository.contains(self._repository.fetch(branch, history=True), pushed)

    def _file(self, head: str, place: Place) -> File:
        file = self._repository.read(head, place.path)
        if file is None:
            raise GitError(f"There is no {place.path} on the branch {place.branch} (commit {head[:_SHOWN]})")
        return file

    def _planned(self, plan: Callable[[str, File], _Planned], head: str, file: File, place: Place) -> _Planned:
        try:
            return plan(head, file)
        except gitops.GitopsError as error:
            raise AirgapError(f"{place.path} on the branch {place.branch}: {error}") from error

    # -- messages --------------------------------------------------------------------------------------------------

    def _message(self, head: str, place: Place, how: How, subject: str) -> str:
        message = how.message or subject
        if how.skip_ci == ALWAYS or (how.skip_ci == AUTO and self._starts(head, place)):
            return message if silent(message) else f"{message} {MARKER}"
        return message

    def _starts(self, head: str, place: Place) -> bool:
        """Whether this commit would start a run."""
        for directory in _WORKFLOWS:
            names = self._repository.names(head, directory)
            if names:
                texts = [name for name in names if name.endswith((".yml", ".yaml"))]
                return any(starts_on_push(self._workflow(head, name), place.branch, [place.path]) for name in texts)
        return False

    def _workflow(self, head: str, name: str) -> Any:
        if YAML_IMPORT_ERROR:
            return None  # unread, it counts as one that starts
        try:
            file = self._repository.read(head, name)
            return yaml.safe_load(file.text) if file else None
        except (GitError, yaml.YAMLError, ValueError, RecursionError):
            return None

    @staticmethod
    def _what(place: Place, image: str) -> str:
        return place.container or gitops.Image.split(image).repository.rpartition("/")[2]

    def _back(self, undone: gitops.Edit, place: Place) -> str:
        if not undone.changes:
            return "nothing"
        change = undone.changes[0]
        return f"{self._what(place, change.after)} back to {_version(change.after)} from {_version(change.before)}"

    # -- reverting -------------------------------------------------------------------------------------------------

    def _origin(self, head: str, place: Place, image: str, found: Sequence[gitops.Found]) -> str:
        """The commit that brought ``image`` to where ``head`` has it."""
        history = self._repository.history(head, place.path)
        origins = {each.place: self._brought(history, place, image, each) for each in found}
        if len(set(origins.values())) > 1:
            where = "; ".join(f"{name} by {commit[:_SHOWN]}" for name, commit in origins.items())
            raise AirgapError(
                f"{place.path}: several commits brought {image} ({where}). Name the container or the resource whose "
                "commit is meant"
            )
        return origins[found[0].place]

    def _brought(self, history: Sequence[tuple[str, list[str]]], place: Place, image: str, found: gitops.Found) -> str:
        """The newest commit that has ``image`` in this place and came after none that has."""
        led_here = {history[0][0]}
        for name, before in history:
            if name in led_here:
                having = [commit for commit in before if self._has(commit, place, image, found)]
                if not having:
                    return name
                led_here.update(having)
        raise GitError(f"The history of {place.path} on the branch {place.branch} is not whole")

    def _has(self, commit: str, place: Place, image: str, found: gitops.Found) -> bool:
        file = self._repository.read(commit, place.path)
        try:
            there = gitops.find_image(file.text, image) if file else []
        except gitops.GitopsError:
            return False  # it was no manifest then
        return any((each.resource, each.place) == (found.resource, found.place) for each in there)

    def _undoing(self, name: str, place: Place, file: File) -> _Planned:
        undone = self._undo(name, place, file)
        return _Planned(undone, f"revert: {self._back(undone, place)}, undoing {name[:_SHOWN]}", name)

    def _bump(self, name: str, place: Place) -> tuple[str, str]:
        """The manifest before a commit and after it. Refuses what cannot be the change of an image alone."""
        short = name[:_SHOWN]
        parents = self._repository.parents(name)
        if len(parents) > 1:
            raise GitError(f"The commit {short} is a merge: revert it by hand")
        before = self._repository.read(parents[0], place.path) if parents else None
        after = self._repository.read(name, place.path)
        if before is None and after is not None:
            raise GitError(f"The commit {short} made the file {place.path}: there is no image before it to go back to")
        changed = self._repository.changed(name)
        if before is None or after is None or changed != [place.path]:
            raise GitError(
                f"The commit {short} did not change {place.path} alone, but {', '.join(changed) or 'nothing'}: "
                "it is no bump of an image. Revert it by hand"
            )
        return before.text, after.text

    def _undo(self, name: str, place: Place, file: File) -> gitops.Edit:
        """The manifest with the images that the commit took out, in the places where it put others."""
        before, after = self._bump(name, place)
        moved = _bumped(before, after)
        if not moved:
            raise GitError(f"The commit {name[:_SHOWN]} changed more of {place.path} than images: revert it by hand")
        now = {(found.resource, found.place): found.image for found in gitops.find_images(file.text)}
        images = [(now.get((found.resource, found.place), "no image"), old, new) for found, old, new in moved]
        if all(here == old for here, old, _new in images):
            return gitops.Edit(file.text, [])  # it is back already
        for (found, _old, _new), (here, _was, made) in zip(moved, images):
            if here != made:
                raise AirgapError(
                    f"{place.path}: {found.place} has {here} now, not {made} of the commit {name[:_SHOWN]}: the image "
                    "has moved on since, and is left as it is"
                )
        return _with(file.text, [(found, old) for found, old, _new in moved])


def _bumped(before: str, after: str) -> list[tuple[gitops.Found, str, str]]:
    """Where the image differs, with both images; empty when more than images does."""
    try:
        moved = _moved(gitops.find_images(before), gitops.find_images(after))
    except gitops.GitopsError:
        return []  # one of them is no manifest
    return moved if _with(before, [(found, new) for found, _old, new in moved]).text == after else []


def _moved(before: Sequence[gitops.Found], after: Sequence[gitops.Found]) -> list[tuple[gitops.Found, str, str]]:
    """Where the image differs, with both images."""
    new = {(found.resource, found.place): found.image for found in after}
    there = ((found, new.get((found.resource, found.place), found.image)) for found in before)
    return [(found, found.image, image) for found, image in there if image != found.image]


def _with(text: str, images: Sequence[tuple[gitops.Found, str]]) -> gitops.Edit:
    """The manifest with these images in these places."""
    changes: list[gitops.Change] = []
    for found, image in images:
        edit = gitops.set_image(text, image, container=found.container or None, resource=found.resource)
        text = edit.text
        changes += edit.changes
    return gitops.Edit(text, changes)


def _named(text: str, place: Place) -> list[str]:
    """The images of the containers, and the resources, that are meant."""
    found = gitops.find_images(text)
    if place.resource:
        found = [each for each in found if each.resource == place.resource]
    if place.container:
        found = [each for each in found if each.container in ("", place.container)]
    return list(dict.fromkeys(each.image for each in found))


def _same_tag(image: str, other: str) -> bool:
    """Whether both are the same version, pinned or not."""
    return gitops.Image.split(image)[:2] == gitops.Image.split(other)[:2]


def _version(image: str) -> str:
    parts = gitops.Image.split(image)
    return parts.tag or parts.digest or image
