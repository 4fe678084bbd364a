# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a pipeline and releases need of their repository in Gitea: a token each, of an account of its own, and files.

The pipeline's token is an action secret, which cannot be read back. Its description, which can, says by number which
token of which user it holds. The token of releases is a file, whose last characters Gitea shows of each token. As long
as Gitea has that token with the wanted scopes, it is taken to be current.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple, Protocol, TypeVar

from ..adapters.gitea import Gitea, GiteaError, NotFound
from ..adapters.node import Node
from ..errors import AirgapError

T = TypeVar("T")

#: What a token is for.
PIPELINE, RELEASES = "the pipeline", "releases"

_ATTEMPTS = 3
_MODE = "0600"

GiteaToken = Mapping[str, Any]
"""As Gitea tells one: id, name, scopes, token_last_eight."""


@dataclass(frozen=True)
class Token:
    """A token that is wanted: for whom, of which user, with which scopes and rights, and where it is kept."""

    purpose: str
    user: str
    email: str
    scopes: Sequence[str]
    permission: str
    rotate: bool
    place: Place


class Place(Protocol):
    """Where the value of a token is kept, and by what one can tell which token that is."""

    name: str
    """Names the tokens that are made for it, so that those of other places are left alone."""
    title: str

    def state(self) -> str | None:
        """What is there, without the token; None when nothing is."""

    def holds(self, state: str, user: str, token: GiteaToken) -> bool:
        """Whether what is there, of this ``state``, is this token."""

    def put(self, user: str, made: GiteaToken) -> None:
        """Keep a token that was just made, with its ``sha1``."""

    def remove(self) -> None:
        """Keep none any more."""

    def shown(self) -> dict[str, str]:
        """As a result tells it."""


class Secret:
    """An action secret of a repository. Its description says which token it holds."""

    def __init__(self, gitea: Gitea, owner: str, repository: str, name: str) -> None:
        self.name, self.title = name, f"the secret {name}"
        self._gitea = gitea
        self._where = (owner, repository)

    def state(self) -> str | None:
        """Its description."""
        for secret in self._gitea.secrets(*self._where):
            if secret["name"].upper() == self.name.upper():
                return str(secret.get("description") or "")
        return None

    def holds(self, state: str, user: str, token: GiteaToken) -> bool:
        """By its number, which is no secret, and no other token ever has it."""
        return state == self._mark(user, token)

    def put(self, user: str, made: GiteaToken) -> None:
        """Written with the description."""
        self._gitea.put_secret(*self._where, self.name, made["sha1"], self._mark(user, made))

    def remove(self) -> None:
        """The secret with its value."""
        self._gitea.delete_secret(*self._where, self.name)

    def shown(self) -> dict[str, str]:
        """The name of the secret."""
        return {"secret": self.name}

    @staticmethod
    def _mark(user: str, token: GiteaToken) -> str:
        return f"lumen.airgap: token {token['id']} of {user}"


class File:
    """A file of this machine, which its owner alone reads. ``host`` names the machine: another one has its own."""

    def __init__(self, node: Node, path: str, host: str) -> None:
        self.name, self.title = f"releases from {host}:{path}", path
        self._node = node
        self._path = path

    def state(self) -> str | None:
        """Its mode."""
        return self._node.mode(self._path)

    def holds(self, state: str, user: str, token: GiteaToken) -> bool:
        """By its last characters, unless others can read it."""
        value = (self._node.read(self._path) or "").strip()
        known = token.get("token_last_eight")
        return bool(known) and value.endswith(str(known)) and state == _MODE

    def put(self, user: str, made: GiteaToken) -> None:
        """Nobody sees it with another mode."""
        self._node.write(self._path, f"{made['sha1']}\n", int(_MODE, 8))

    def remove(self) -> None:
        """The file."""
        self._node.remove(self._path)

    def shown(self) -> dict[str, str]:
        """Where it is."""
        return {"path": self._path}


class Content(NamedTuple):
    """A file as it shall be on the branch."""

    path: str
    content: str


@dataclass
class Result:
    """What was done, or would be: ``actions`` in words, before and after for the diff."""

    actions: list[str] = field(default_factory=list)
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    diff: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """What the module returns."""
        return {
            "changed": bool(self.actions),
            "actions": self.actions,
            "token": self.tokens.get(PIPELINE, {}),
            "release_token": self.tokens.get(RELEASES, {}),
            "commits": self.commits,
            "diff": self.diff,
        }


class Repository:
    """One repository, ``owner/name``."""

    def __init__(self, gitea: Gitea, owner: str, name: str, dry_run: bool = False) -> None:
        self._gitea = gitea
        self._owner = owner
        self._name = name
        self._dry_run = dry_run
        self._result = Result()

    def present(self, tokens: Sequence[Token], files: Sequence[Content], branch: str, message: str) -> dict[str, Any]:
        """Have the tokens and the files. Raises AirgapError."""
        if len({(token.user, token.permission) for token in tokens}) > len({token.user for token in tokens}):
            raise AirgapError(
                f"{tokens[0].user} cannot have two permissions in {self._owner}/{self._name}: name another user"
            )
        self._gitea.repository(self._owner, self._name)
        for token in tokens:
            self._token(token)
        for file in files:
            self._file(file, branch, message)
        return self._result.as_dict()

    def absent(self, tokens: Sequence[Token]) -> dict[str, Any]:
        """Revoke the tokens where they are kept too, and take their users' rights. The users and files stay."""
        revoked: set[int] = set()
        for token in tokens:
            self._remove(token, revoked)
        return self._result.as_dict()

    # --- tokens -----------------------------------------------------------------------------------------------------

    def _token(self, wanted: Token) -> None:
        before = len(self._result.actions)
        user = self._gitea.user(wanted.user)
        if user is None:
            self._do(f"make the user {wanted.user}", lambda: self._make_user(wanted))
        else:
            self._check_user(wanted, user)
        # Somebody whose account is only predicted has neither rights nor tokens.
        permission = self._permission(wanted) if user or not self._dry_run else "none"
        if permission not in (wanted.permission, "owner"):
            self._do(
                f"let {wanted.user} {wanted.permission}",
                lambda: self._gitea.set_permission(self._owner, self._name, wanted.user, wanted.permission),
            )
        tokens = self._tokens(wanted) if user or not self._dry_run else []
        state = wanted.place.state()
        held = next(
            (token for token in tokens if state is not None and wanted.place.holds(state, wanted.user, token)), None
        )
        current = held
        if current is not None and (wanted.rotate or set(current["scopes"]) != set(wanted.scopes)):
            current = None
        made: GiteaToken | None = None
        if current is None:
            what = f"make a token and write it to {wanted.place.title}"
            made = self._do(what, lambda: self._renew(wanted, tokens))
        shown = _shown(wanted, current or made or {"id": 0})
        self._result.tokens[wanted.purpose] = shown
        # What a run that was broken off has left, too.
        for old in tokens:
            if old is not current:
                self._revoke(wanted, old)
        if len(self._result.actions) > before:
            self._note(
                wanted,
                {
                    "user": user is not None,
                    "permission": permission,
                    "kept": f"token {held['id']}" if held else state and "(no token of it)",
                },
                {
                    "user": True,
                    "permission": permission if permission == "owner" else wanted.permission,
                    "kept": f"token {shown['id']}" if shown["id"] else "(a new token)",
                },
            )

    def _remove(self, token: Token, revoked: set[int]) -> None:
        """``revoked`` are the tokens of which this run has done so; those of ``token`` are added."""
        before = len(self._result.actions)
        others = False
        if self._gitea.user(token.user) is not None:
            mine = self._tokens(token)
            revoked |= {each["id"] for each in mine}
            others = any(each["id"] not in revoked for each in self._all_tokens(token.user))
            for old in mine:
                self._revoke(token, old)
        try:
            if token.place.state() is not None:
                self._do(f"remove {token.place.title}", token.place.remove)
            # Another machine's releases may have the same account.
            if not others and self._permission(token) not in ("none", "owner"):
                self._do(
                    f"take {token.user} off the repository",
                    lambda: self._gitea.remove_collaborator(self._owner, self._name, token.user),
                )
        except NotFound:  # with the repository its secrets are gone
            pass
        if len(self._result.actions) > before:
            self._note(token, {"present": True}, {"present": False})

    def _check_user(self, wanted: Token, user: dict[str, Any]) -> None:
        if user.get("is_admin"):
            raise AirgapError(
                f"{wanted.user} is an administrator of Gitea: a token of it reaches every repository. Name an account "
                f"of its own for {wanted.purpose}; one that does not exist is made"
            )
        if user.get("prohibit_login") or user.get("active") is False:
            raise AirgapError(f"{wanted.user} may not log in, so Gitea takes no token of it. Let it, or name another")

    def _make_user(self, wanted: Token) -> None:
        # Nobody is told: the account is used by its tokens alone. The end satisfies any rule of Gitea for passwords.
        password = secrets.token_urlsafe(32) + "aA1!"
        name = f"{wanted.purpose.removeprefix('the ').capitalize()} of lumen.airgap"
        self._gitea.create_user(wanted.user, wanted.email, name, password)

    def _renew(self, wanted: Token, old: Sequence[GiteaToken]) -> GiteaToken:
        """The new token first, and where it is kept, before the old one goes: who begins then gets a good one.

        Who works has the old one, which is revoked right after this: a push fails, and has to be done again.
        """
        number = 1 + max((int(token["name"].rpartition(" ")[2]) for token in old), default=0)
        made = self._gitea.create_token(wanted.user, f"{wanted.place.name}{self._suffix}{number}", list(wanted.scopes))
        if wanted.permission != "read":
            seen = self._gitea.with_token(made["sha1"]).repository(self._owner, self._name)
            if not (seen.get("permissions") or {}).get("push"):
                raise AirgapError(f"{wanted.user} cannot push to {self._owner}/{self._name} with its new token")
        wanted.place.put(wanted.user, made)
        return made

    def _revoke(self, wanted: Token, token: GiteaToken) -> None:
        number = int(token["id"])
        self._do(f"revoke the token {number}", lambda: self._gitea.delete_token(wanted.user, number))

    def _tokens(self, wanted: Token) -> list[GiteaToken]:
        """Those that were made for this place, in the order of their making."""
        prefix = f"{wanted.place.name}{self._suffix}"
        return [token for token in self._all_tokens(wanted.user) if token["name"].startswith(prefix)]

    def _all_tokens(self, user: str) -> list[GiteaToken]:
        """Those that were made here, for whatever place: ``<place> of <repository> <number>``."""
        found = [
            token
            for token in self._gitea.tokens(user)
            if self._suffix in token["name"] and token["name"].rpartition(self._suffix)[2].isdigit()
        ]
        return sorted(found, key=lambda token: int(token["id"]))

    @property
    def _suffix(self) -> str:
        return f" of {self._owner}/{self._name} "

    def _permission(self, wanted: Token) -> str:
        try:
            return self._gitea.permission(self._owner, self._name, wanted.user)
        except NotFound:
            return "none"

    # --- files ------------------------------------------------------------------------------------------------------

    def _file(self, file: Content, branch: str, message: str) -> None:
        data = file.content.encode()
        for attempt in range(_ATTEMPTS):
            there = self._gitea.content(self._owner, self._name, file.path, branch)
            if there is not None and there.data == data:
                return
            try:
                self._commit(file, branch, message, there.sha if there else None)
            except GiteaError as error:
                # Somebody committed in between: look again.
                if error.status != 422 or attempt == _ATTEMPTS - 1:
                    raise
                continue
            self._result.actions.append(f"commit {file.path} to {branch}")
            self._result.diff.append(
                {
                    "before_header": f"{self._owner}/{self._name}: {file.path} ({branch})",
                    "after_header": f"{self._owner}/{self._name}: {file.path} ({branch})",
                    "before": there.data.decode("utf-8", "replace") if there else "",
                    "after": file.content,
                }
            )
            return

    def _commit(self, file: Content, branch: str, message: str, sha: str | None) -> None:
        if self._dry_run:
            return
        where = (self._owner, self._name, file.path, branch)
        self._result.commits[file.path] = self._gitea.put_content(*where, file.content.encode(), message, sha)

    # --- results ----------------------------------------------------------------------------------------------------

    def _do(self, action: str, call: Callable[[], T]) -> T | None:
        """What ``call`` returns; None in check mode."""
        done = None if self._dry_run else call()
        self._result.actions.append(action)
        return done

    def _note(self, token: Token, before: dict[str, Any], after: dict[str, Any]) -> None:
        header = f"{self._owner}/{self._name}: token of {token.purpose}"
        texts = [json.dumps(state, indent=2) + "\n" for state in (before, after)]
        self._result.diff.append(
            {"before_header": header, "after_header": header, "before": texts[0], "after": texts[1]}
        )


def _shown(wanted: Token, token: GiteaToken) -> dict[str, Any]:
    return {"id": int(token["id"]), "user": wanted.user, "scopes": list(wanted.scopes), **wanted.place.shown()}
