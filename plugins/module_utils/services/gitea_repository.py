# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a pipeline needs of its repository in Gitea: a token of its own as an action secret, and files.

A secret cannot be read back. Its description, which can, says by number which token of which user it holds; as long as
Gitea has that token with the wanted scopes, the secret is taken to be current.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple

from ..adapters.gitea import Gitea, GiteaError, NotFound
from ..errors import AirgapError

_ATTEMPTS = 3


@dataclass(frozen=True)
class Token:
    """The pipeline's token: of which user, with which scopes and rights, under which secret."""

    user: str
    email: str
    scopes: Sequence[str]
    permission: str
    secret: str
    rotate: bool


class File(NamedTuple):
    """A file as it shall be on the branch."""

    path: str
    content: str


@dataclass
class Result:
    """What was done, or would be: ``actions`` in words, before and after for the diff."""

    actions: list[str] = field(default_factory=list)
    token: dict[str, Any] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    diff: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """What the module returns."""
        return {
            "changed": bool(self.actions),
            "actions": self.actions,
            "token": self.token,
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

    def present(self, token: Token | None, files: Sequence[File], branch: str, message: str) -> dict[str, Any]:
        """Have the secret and the files. Raises AirgapError."""
        self._gitea.repository(self._owner, self._name)
        if token is not None:
            self._token(token)
        for file in files:
            self._file(file, branch, message)
        return self._result.as_dict()

    def absent(self, token: Token) -> dict[str, Any]:
        """Revoke the token, remove the secret and the user's rights. The user and files stay."""
        if self._gitea.user(token.user) is not None:
            for old in self._tokens(token):
                self._revoke(token, old)
        try:
            there = self._secret(token)
            if there is not None:
                self._do(
                    f"remove the secret {token.secret}",
                    lambda: self._gitea.delete_secret(self._owner, self._name, token.secret),
                )
            if self._permission(token) not in ("none", "owner"):
                self._do(
                    f"take {token.user} off the repository",
                    lambda: self._gitea.remove_collaborator(self._owner, self._name, token.user),
                )
        except NotFound:  # with the repository its secrets are gone
            pass
        self._note({"present": bool(self._result.actions)}, {"present": False})
        return self._result.as_dict()

    # --- the token --------------------------------------------------------------------------------------------------

    def _token(self, wanted: Token) -> None:
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
        secret = self._secret(wanted)
        current = next((token for token in tokens if secret == _mark(wanted, token)), None)
        if current is not None and (wanted.rotate or set(current["scopes"]) != set(wanted.scopes)):
            current = None
        if current is not None:
            self._result.token = _shown(wanted, current)
        else:
            self._do(f"make a token and write it as {wanted.secret}", lambda: self._renew(wanted, tokens))
            self._result.token = self._result.token or _shown(wanted, {"id": 0})
        # What a run that was broken off has left, too.
        for old in tokens:
            if old is not current:
                self._revoke(wanted, old)
        self._note(
            {"user": user is not None, "permission": permission, "secret": secret},
            {
                "user": True,
                "permission": permission if permission == "owner" else wanted.permission,
                "secret": _mark(wanted, self._result.token) if self._result.token["id"] else "(a new token)",
            },
        )

    def _check_user(self, wanted: Token, user: dict[str, Any]) -> None:
        if user.get("is_admin"):
            raise AirgapError(
                f"{wanted.user} is an administrator of Gitea: a token of it reaches every repository. Name an account "
                "of the pipeline's own; one that does not exist is made"
            )
        if user.get("prohibit_login") or user.get("active") is False:
            raise AirgapError(f"{wanted.user} may not log in, so Gitea takes no token of it. Let it, or name another")

    def _make_user(self, wanted: Token) -> None:
        # Nobody is told: the account is used by its tokens alone. The end satisfies any rule of Gitea for passwords.
        password = secrets.token_urlsafe(32) + "aA1!"
        self._gitea.create_user(wanted.user, wanted.email, "Pipeline of lumen.airgap", password)

    def _renew(self, wanted: Token, old: Sequence[dict[str, Any]]) -> None:
        """The new token first, and in the secret, before the old one goes: a job that starts then gets a good one.

        A job that runs has the old one, which is revoked right after this: its push fails, and it has to run again.
        """
        number = 1 + max((int(token["name"].rpartition(" ")[2]) for token in old), default=0)
        made = self._gitea.create_token(wanted.user, f"{self._prefix(wanted)}{number}", list(wanted.scopes))
        value = made["sha1"]
        if wanted.permission != "read":
            seen = self._gitea.with_token(value).repository(self._owner, self._name)
            if not (seen.get("permissions") or {}).get("push"):
                raise AirgapError(f"{wanted.user} cannot push to {self._owner}/{self._name} with its new token")
        self._gitea.put_secret(self._owner, self._name, wanted.secret, value, _mark(wanted, made))
        self._result.token = _shown(wanted, made)

    def _revoke(self, wanted: Token, token: dict[str, Any]) -> None:
        number = int(token["id"])
        self._do(f"revoke the token {number}", lambda: self._gitea.delete_token(wanted.user, number))

    def _prefix(self, wanted: Token) -> str:
        return f"{wanted.secret} of {self._owner}/{self._name} "

    def _tokens(self, wanted: Token) -> list[dict[str, Any]]:
        """Those that were made here, in the order of their making."""
        prefix = self._prefix(wanted)
        found = [
            token
            for token in self._gitea.tokens(wanted.user)
            if token["name"].startswith(prefix) and token["name"][len(prefix) :].isdigit()
        ]
        return sorted(found, key=lambda token: int(token["id"]))

    def _secret(self, wanted: Token) -> str | None:
        """The description of the secret, None when there is no such secret."""
        for secret in self._gitea.secrets(self._owner, self._name):
            if secret["name"].upper() == wanted.secret.upper():
                return str(secret.get("description") or "")
        return None

    def _permission(self, wanted: Token) -> str:
        try:
            return self._gitea.permission(self._owner, self._name, wanted.user)
        except NotFound:
            return "none"

    # --- files ------------------------------------------------------------------------------------------------------

    def _file(self, file: File, branch: str, message: str) -> None:
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

    def _commit(self, file: File, branch: str, message: str, sha: str | None) -> None:
        if self._dry_run:
            return
        where = (self._owner, self._name, file.path, branch)
        self._result.commits[file.path] = self._gitea.put_content(*where, file.content.encode(), message, sha)

    # --- results ----------------------------------------------------------------------------------------------------

    def _do(self, action: str, call: Callable[[], Any]) -> None:
        if not self._dry_run:
            call()
        self._result.actions.append(action)

    def _note(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        if self._result.actions:
            header = f"{self._owner}/{self._name}: token of the pipeline"
            texts = [json.dumps(state, indent=2) + "\n" for state in (before, after)]
            self._result.diff.append(
                {"before_header": header, "after_header": header, "before": texts[0], "after": texts[1]}
            )


def _mark(wanted: Token, token: dict[str, Any]) -> str:
    """The secret's description. The number is no secret, and no other token ever has it."""
    return f"lumen.airgap: token {token['id']} of {wanted.user}"


def _shown(wanted: Token, token: dict[str, Any]) -> dict[str, Any]:
    return {"id": int(token["id"]), "user": wanted.user, "scopes": list(wanted.scopes), "secret": wanted.secret}
