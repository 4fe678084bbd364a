# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP API of Gitea (1.26), over one ``requests`` session: plain dictionaries in and out.

Every request has a timeout. An error says what was asked, what Gitea answered and what to do, and never repeats a
token or a password.
"""

from __future__ import annotations

import base64
import json
import os
import re
import traceback
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from ansible.module_utils.basic import missing_required_lib

from ..errors import AirgapError
from .http import machine_cas, reason

REQUESTS_IMPORT_ERROR: str | None = None
try:
    import requests
except ImportError:
    REQUESTS_IMPORT_ERROR = traceback.format_exc()

_PAGE = 50  # Gitea gives no more at once, whatever is asked for
#: How much of an answer that makes no sense is repeated in a message.
_HEAD = 200
_REQUIRED_SCOPES = re.compile(r"required=\[([^\]]*)\]")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class GiteaError(AirgapError):
    """A request failed. ``status`` is the HTTP status, None when there was no answer."""

    def __init__(self, message: str, status: int | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed a little later."""
        return isinstance(self, Unreachable)


class NotFound(GiteaError):
    """There is no such thing, or whoever asks may not see it (404)."""


class Refused(GiteaError):
    """The credentials were refused, or do not allow this (401, 403)."""


class Unreachable(GiteaError):
    """Gitea did not answer, or cannot at the moment (429, 5xx)."""


class Content(NamedTuple):
    """A file of a repository, and the hash that a change of it has to name."""

    data: bytes
    sha: str


class Scope:
    """Whose runners and jobs: the whole instance's, an organization's, or a repository's."""

    def __init__(self, text: str) -> None:
        """``text`` is ``instance``, the name of an organization, or ``owner/repository``."""
        parts = text.split("/")
        if len(parts) > 2 or not all(_NAME.fullmatch(part) for part in parts):
            raise AirgapError(f"'{text}' is no scope: give instance, an organization, or owner/repository")
        self.text = text
        if text == "instance":
            self.path, self.name = "/admin", "this Gitea"
        elif len(parts) == 1:
            self.path, self.name = f"/orgs/{text}", f"the organization {text}"
        else:
            self.path, self.name = f"/repos/{text}", f"the repository {text}"

    def __str__(self) -> str:
        return self.name


class Gitea:
    """One session with one Gitea."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        login: tuple[str, str] | None = None,
        verify: Any = True,
        timeout: float = 10.0,
        session: Any = None,
    ) -> None:
        if REQUESTS_IMPORT_ERROR:
            raise AirgapError(missing_required_lib("requests"), exception=REQUESTS_IMPORT_ERROR)
        self.url = _checked_url(url)
        self._token = token
        self._login = login
        self._verify = verify
        self._timeout = timeout
        self._session = session or requests.Session()
        # Proxies and credentials of the process' environment are for other hosts than one inside the airgap.
        self._session.trust_env = False

    @classmethod
    def connect(cls, options: Mapping[str, Any], session: Any = None) -> Gitea:
        """A session from GITEA_OPTIONS. Asks nothing yet."""
        ca_path = options.get("ca_path")
        if ca_path and not os.path.isfile(ca_path):
            raise AirgapError(f"there is no file {ca_path}, which is named as gitea.ca_path")
        login = (options["username"], options.get("password") or "") if options.get("password") else None
        made = cls(
            options["url"],
            token=options.get("token"),
            login=login,
            verify=(ca_path or machine_cas()) if options.get("validate_certs", True) else False,
            timeout=options.get("timeout") or 10.0,
            session=session,
        )
        if not (options.get("token") or login):
            raise AirgapError(
                "gitea.token is empty. The inventory has it as airgap_gitea_token or airgap_release_gitea_token: is "
                "the file there that it is read from?"
            )
        return made

    def with_token(self, token: str) -> Gitea:
        """The same Gitea as the owner of ``token`` sees it."""
        return Gitea(self.url, token=token, verify=self._verify, timeout=self._timeout, session=self._session)

    # --- runners ---------------------------------------------------------------------------------------------------

    def registration_token(self, scope: Scope) -> str:
        """The token that a runner registers with. Gitea keeps one and gives it every time."""
        what = f"give the registration token of {scope}"
        answer = self._json("POST", f"{scope.path}/actions/runners/registration-token", what, about=str(scope))
        return str(answer["token"])

    def runners(self, scope: Scope) -> list[dict[str, Any]]:
        """All runners of the scope: id, name, status (online, offline), busy, disabled, labels ({name}, …)."""
        what = f"list the runners of {scope}"
        return self._pages(f"{scope.path}/actions/runners", what, "runners", about=str(scope))

    def disable_runner(self, scope: Scope, runner_id: int, disabled: bool) -> None:
        """Let the runner take jobs no more, or again."""
        path = f"{scope.path}/actions/runners/{runner_id}"
        what = f"{'disable' if disabled else 'enable'} the runner {runner_id}"
        self._send("PATCH", path, what, {"disabled": disabled}, about=f"the runner {runner_id}")

    def delete_runner(self, scope: Scope, runner_id: int) -> bool:
        """Remove the record of a runner. False: there was none."""
        path = f"{scope.path}/actions/runners/{runner_id}"
        return self._delete(path, f"delete the runner {runner_id}")

    def running_jobs(self, scope: Scope) -> list[dict[str, Any]]:
        """The jobs that run now: id, name, runner_id, runner_name."""
        what = f"list the jobs of {scope}"
        return self._pages(
            f"{scope.path}/actions/jobs", what, "jobs", about=str(scope), query={"status": "in_progress"}
        )

    # --- repositories ----------------------------------------------------------------------------------------------

    def repository(self, owner: str, name: str) -> dict[str, Any]:
        """Raises NotFound with the name."""
        return dict(
            self._json("GET", _repo(owner, name), f"read the repository {owner}/{name}", about=_of(owner, name))
        )

    def secrets(self, owner: str, name: str) -> list[dict[str, Any]]:
        """The action secrets of the repository: name and description. What they hold cannot be read."""
        path = f"{_repo(owner, name)}/actions/secrets"
        return self._pages(path, f"list the secrets of {owner}/{name}", None, about=_of(owner, name))

    def put_secret(self, owner: str, name: str, secret: str, value: str, description: str) -> None:
        """Make an action secret, or give it another value."""
        path = f"{_repo(owner, name)}/actions/secrets/{quote(secret, safe='')}"
        body = {"data": value, "description": description}
        self._send(
            "PUT", path, f"write the secret {secret} of {owner}/{name}", body, about=_of(owner, name), hide=value
        )

    def delete_secret(self, owner: str, name: str, secret: str) -> bool:
        """Remove an action secret. False: there was none."""
        path = f"{_repo(owner, name)}/actions/secrets/{quote(secret, safe='')}"
        return self._delete(path, f"delete the secret {secret} of {owner}/{name}")

    def permission(self, owner: str, name: str, user: str) -> str:
        """What the user may do in the repository: none, read, write, admin or owner."""
        path = f"{_repo(owner, name)}/collaborators/{quote(user, safe='')}/permission"
        answer = self._json("GET", path, f"read what {user} may do in {owner}/{name}", about=f"the user {user}")
        return str(answer["permission"])

    def set_permission(self, owner: str, name: str, user: str, permission: str) -> None:
        """Make the user a collaborator who may read, write or admin."""
        path = f"{_repo(owner, name)}/collaborators/{quote(user, safe='')}"
        what = f"let {user} {permission} in {owner}/{name}"
        self._send("PUT", path, what, {"permission": permission}, about=_of(owner, name))

    def remove_collaborator(self, owner: str, name: str, user: str) -> bool:
        """False: the user was none, or does not exist."""
        path = f"{_repo(owner, name)}/collaborators/{quote(user, safe='')}"
        what = f"take {user} off {owner}/{name}"
        answer = self._ask("DELETE", path, None)
        if answer.status_code in (404, 422):  # 422: no such user
            return False
        self._check(answer, "DELETE", path, what, _of(owner, name))
        return True

    def content(self, owner: str, name: str, path: str, branch: str) -> Content | None:
        """A file of the branch, or of a commit; None when it has none of that name."""
        url = f"{_repo(owner, name)}/contents/{quote(path)}"
        what = f"read {path} of {owner}/{name}"
        try:
            answer = self._json("GET", url, what, query={"ref": branch}, about=f"{path} on {branch}")
        except NotFound:
            return None
        if not isinstance(answer, dict) or answer.get("type") != "file":
            raise GiteaError(f"{path} of {owner}/{name} on {branch} is no file")
        return Content(base64.b64decode(answer["content"] or ""), str(answer["sha"]))

    def put_content(
        self, owner: str, name: str, path: str, branch: str, data: bytes, message: str, sha: str | None
    ) -> str:
        """Commit the file; returns the commit. ``sha`` is that of the content it replaces, None for a new file.

        Raises GiteaError with status 422 when somebody changed it in between.
        """
        body = {"branch": branch, "message": message, "content": base64.b64encode(data).decode()}
        if sha is not None:
            body["sha"] = sha
        url = f"{_repo(owner, name)}/contents/{quote(path)}"
        what = f"commit {path} to {branch} of {owner}/{name}"
        about = f"branch {branch} in {owner}/{name}"
        answer = self._json("POST" if sha is None else "PUT", url, what, body=body, about=about)
        return str(answer["commit"]["sha"])

    # --- tags, and the runs that they start ------------------------------------------------------------------------

    def tags(self, owner: str, name: str) -> list[dict[str, Any]]:
        """The newest tags, newest first: name, commit.sha."""
        path = f"{_repo(owner, name)}/tags"
        what = f"list the tags of {owner}/{name}"
        return list(self._json("GET", path, what, query={"limit": _PAGE}, about=_of(owner, name)))

    def tag(self, owner: str, name: str, tag: str) -> dict[str, Any] | None:
        """A tag, None when there is none of that name."""
        path = f"{_repo(owner, name)}/tags/{quote(tag, safe='')}"
        try:
            return dict(self._json("GET", path, f"read the tag {tag} of {owner}/{name}"))
        except NotFound:
            return None

    def create_tag(self, owner: str, name: str, tag: str, target: str, message: str = "") -> dict[str, Any]:
        """Tag a commit. With a message it is an annotated tag."""
        body = {"tag_name": tag, "target": target, **({"message": message} if message else {})}
        what = f"tag {target} of {owner}/{name} as {tag}"
        return dict(self._json("POST", f"{_repo(owner, name)}/tags", what, body=body, about=_of(owner, name)))

    def commit(self, owner: str, name: str, ref: str) -> dict[str, Any]:
        """The commit of a branch, a tag or a hash: sha, commit.message. Raises NotFound."""
        path = f"{_repo(owner, name)}/git/commits/{quote(ref, safe='')}"
        query = {"stat": "false", "verification": "false", "files": "false"}
        what = f"read the commit {ref} of {owner}/{name}"
        return dict(self._json("GET", path, what, query=query, about=f"commit {ref}"))

    def commit_message(self, owner: str, name: str, sha: str) -> str:
        """The whole message of a commit."""
        return str(self.commit(owner, name, sha)["commit"]["message"])

    def last_commit(self, owner: str, name: str, branch: str, path: str) -> dict[str, Any] | None:
        """The last commit of the branch that changed the file: sha, commit.message. None when there is none."""
        return next(iter(self.last_commits(owner, name, branch, path, 1)), None)

    def last_commits(self, owner: str, name: str, branch: str, path: str, limit: int) -> list[dict[str, Any]]:
        """The last ones of the branch that changed the file, newest first: sha, commit.message, parents (of sha)."""
        query = {"sha": branch, "path": path, "limit": limit, "stat": "false"}
        query |= {"verification": "false", "files": "false"}
        what = f"list the commits of {path} in {owner}/{name}"
        try:
            found = self._json("GET", f"{_repo(owner, name)}/commits", what, query=query)
        except NotFound:
            return []
        return [dict(each) for each in (found or [])[:limit]]  # of a file, Gitea lists whole pages

    def files(self, owner: str, name: str, directory: str, ref: str) -> list[str]:
        """The names of the files in a directory of a branch, tag or commit; none when it is not there."""
        path = f"{_repo(owner, name)}/contents/{quote(directory)}"
        try:
            found = self._json("GET", path, f"list {directory} of {owner}/{name}", query={"ref": ref})
        except NotFound:
            return []
        return [str(each["name"]) for each in found if each.get("type") == "file"] if isinstance(found, list) else []

    def runs(self, owner: str, name: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """The newest workflow runs, filtered by status, head_sha, event or branch: id, path, status, conclusion, …"""
        path = f"{_repo(owner, name)}/actions/runs"
        what = f"list the runs of {owner}/{name}"
        answer = self._json("GET", path, what, query={**query, "limit": _PAGE}, about=_of(owner, name))
        return list(answer.get("workflow_runs") or [])

    def run(self, owner: str, name: str, run_id: int) -> dict[str, Any]:
        """One run: id, run_number, run_attempt, html_url, path, head_sha, status, conclusion."""
        path = f"{_repo(owner, name)}/actions/runs/{run_id}"
        return dict(self._json("GET", path, f"read the run {run_id}", about=f"the run {run_id}"))

    def rerun(self, owner: str, name: str, run_id: int) -> None:
        """Run the failed jobs of a run again, and those that wait for them."""
        path = f"{_repo(owner, name)}/actions/runs/{run_id}/rerun-failed-jobs"
        self._send("POST", path, f"run the failed jobs of run {run_id} again", about=f"the run {run_id}")

    def run_jobs(self, owner: str, name: str, run_id: int) -> list[dict[str, Any]]:
        """The jobs of a run: id, name, status, conclusion, labels."""
        path = f"{_repo(owner, name)}/actions/runs/{run_id}/jobs"
        return self._pages(path, f"list the jobs of run {run_id}", "jobs", about=f"the run {run_id}")

    def job_log(self, owner: str, name: str, job_id: int) -> str:
        """The log of a job."""
        path = f"{_repo(owner, name)}/actions/jobs/{job_id}/logs"
        answer = self._send("GET", path, f"read the log of job {job_id}", about=f"the job {job_id}")
        return str(answer.content.decode("utf-8", "replace"))

    # --- what is said of commits and tags ----------------------------------------------------------------------------

    def statuses(self, owner: str, name: str, sha: str) -> list[dict[str, Any]]:
        """All statuses that a commit ever got, in no certain order: id, status, context, description, target_url."""
        path = f"{_repo(owner, name)}/commits/{quote(sha, safe='')}/statuses"
        return self._pages(path, f"list the statuses of {sha} in {owner}/{name}", None, about=f"commit {sha}")

    def add_status(self, owner: str, name: str, sha: str, status: Mapping[str, str]) -> None:
        """Give a commit another status: state, context, description, target_url."""
        path = f"{_repo(owner, name)}/statuses/{quote(sha, safe='')}"
        what = f"write the status of {sha} in {owner}/{name}"
        self._send("POST", path, what, dict(status), about=_of(owner, name))

    def release(self, owner: str, name: str, tag: str) -> dict[str, Any] | None:
        """The release note of a tag: id, name, body, html_url. None when it has none."""
        path = f"{_repo(owner, name)}/releases/tags/{quote(tag, safe='')}"
        try:
            return dict(self._json("GET", path, f"read the release note of {tag} in {owner}/{name}"))
        except NotFound:
            return None

    def create_release(self, owner: str, name: str, tag: str, title: str, body: str) -> dict[str, Any]:
        """Give a tag a release note. Makes the tag when it is not there."""
        what = f"write the release note of {tag} in {owner}/{name}"
        given = {"tag_name": tag, "name": title, "body": body}
        return dict(self._json("POST", f"{_repo(owner, name)}/releases", what, body=given, about=_of(owner, name)))

    def edit_release(self, owner: str, name: str, release_id: int, values: Mapping[str, str]) -> dict[str, Any]:
        """Change a release note: body, or name."""
        path = f"{_repo(owner, name)}/releases/{release_id}"
        what = f"write the release note {release_id} of {owner}/{name}"
        return dict(self._json("PATCH", path, what, body=dict(values), about=f"release note {release_id}"))

    # --- users and their tokens ------------------------------------------------------------------------------------

    def user(self, name: str) -> dict[str, Any] | None:
        """An account, None when there is none of that name."""
        try:
            return dict(self._json("GET", f"/users/{quote(name, safe='')}", f"read the user {name}"))
        except NotFound:
            return None

    def create_user(self, name: str, email: str, full_name: str, password: str) -> None:
        """Make a restricted account: it sees only what it is a collaborator of."""
        body = {
            "username": name,
            "email": email,
            "full_name": full_name,
            "password": password,
            "must_change_password": False,
            "restricted": True,
            "visibility": "private",
        }
        self._send("POST", "/admin/users", f"create the user {name}", body, hide=password)

    def tokens(self, user: str) -> list[dict[str, Any]]:
        """The access tokens of a user: id, name, scopes, token_last_eight; not the tokens themselves."""
        path = f"/users/{quote(user, safe='')}/tokens"
        return self._pages(path, f"list the tokens of {user}", None, about=f"the user {user}", basic=True)

    def create_token(self, user: str, name: str, scopes: list[str]) -> dict[str, Any]:
        """Make an access token: id, and ``sha1``, which is the token itself and is never shown again."""
        path = f"/users/{quote(user, safe='')}/tokens"
        body = {"name": name, "scopes": scopes}
        what = f"create the token {name} of {user}"
        return dict(self._json("POST", path, what, body=body, about=f"the user {user}", basic=True))

    def delete_token(self, user: str, token_id: int) -> bool:
        """Revoke an access token. False: there was none."""
        path = f"/users/{quote(user, safe='')}/tokens/{token_id}"
        return self._delete(path, f"delete the token {token_id} of {user}", basic=True)

    # --- requests --------------------------------------------------------------------------------------------------

    def _pages(
        self,
        path: str,
        what: str,
        key: str | None,
        about: str = "",
        query: Mapping[str, Any] | None = None,
        basic: bool = False,
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        page = 0
        while True:
            page += 1
            query = {**(query or {}), "page": page, "limit": _PAGE}
            answer = self._json("GET", path, what, query=query, about=about, basic=basic)
            items = answer if key is None else answer.get(key)
            found += items or []
            if not items or len(items) < _PAGE:
                return found

    def _delete(self, path: str, what: str, basic: bool = False) -> bool:
        try:
            self._send("DELETE", path, what, basic=basic)
        except NotFound:
            return False
        return True

    def _json(
        self,
        method: str,
        path: str,
        what: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        about: str = "",
        basic: bool = False,
    ) -> Any:
        answer = self._send(method, path, what, body, query, about, basic)
        try:
            return json.loads(answer.content)
        except ValueError as error:
            head = self._without_secrets(answer.text[:_HEAD].strip())
            raise GiteaError(
                f"{self.url} did not answer with JSON when asked to {what}; is it a Gitea? It says: {head}",
                answer.status_code,
            ) from error

    def _send(
        self,
        method: str,
        path: str,
        what: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        about: str = "",
        basic: bool = False,
        hide: str = "",
    ) -> Any:
        answer = self._ask(method, path, body, query, basic)
        self._check(answer, method, path, what, about, hide)
        return answer

    def _ask(
        self, method: str, path: str, body: Any, query: Mapping[str, Any] | None = None, basic: bool = False
    ) -> Any:
        headers, auth = {"Accept": "application/json"}, self._login
        if auth is None and self._token:
            if basic:
                # Tokens are made with basic authentication alone, in which a token may stand for the password.
                auth = ("token", self._token)
            else:
                headers["Authorization"] = f"token {self._token}"
        try:
            return self._session.request(
                method,
                f"{self.url}/api/v1{path}",
                params=dict(query) if query else None,
                json=body,
                headers=headers,
                auth=auth,
                timeout=self._timeout,
                verify=self._verify,
                allow_redirects=False,
            )
        except requests.exceptions.SSLError as error:
            raise Unreachable(
                f"Gitea ({self.url}) is not trusted or does not speak TLS: {reason(error)}. Check the scheme, and "
                "that this host knows its CA, or name the CA's file in gitea.ca_path"
            ) from error
        except requests.RequestException as error:
            raise Unreachable(
                f"Gitea ({self.url}) does not answer: {reason(error)}. Does its pod run, and is this the URL of its "
                "NodePort?"
            ) from error

    def _check(self, answer: Any, method: str, path: str, what: str, about: str, hide: str = "") -> None:
        """Raise what a bad answer means."""
        status: int = answer.status_code
        if status < 300:
            return
        said = self._without_secrets(_said(answer), hide)
        where = f"Gitea ({self.url})"
        if status < 400:
            raise GiteaError(f"{where} sends elsewhere, to {answer.headers.get('Location')}: use that URL", status)
        if status == 401:
            who = f"the password of {self._login[0]}" if self._login else "the token" if self._token else ""
            refusal = f"does not take {who}" if who else "wants a token or a password, and was given none"
            raise Refused(f"{where} {refusal}, when asked to {what}: {said}", status)
        if status == 403:
            raise Refused(f"{where} refuses to {what}: {self._lack(said)}", status)
        if status == 404:
            thing = f"there is no {about.removeprefix('the ')}" if about else "not found"
            raise NotFound(
                f"{where} cannot {what}: {thing}, or {self._who()} may not see it ({method} {path}: {said})", status
            )
        if status == 429 or status >= 500:
            raise Unreachable(f"{where} cannot {what} now: HTTP {status}: {said}", status)
        raise GiteaError(f"{where} cannot {what}: HTTP {status}: {said}", status)

    def _lack(self, said: str) -> str:
        scopes = _REQUIRED_SCOPES.search(said)
        if scopes:
            return f"the token lacks the scope {scopes[1].replace(' ', ', ')}. Make one that has it"
        return f"{self._who()} lacks the right: {said}"

    def _who(self) -> str:
        return f"the user {self._login[0]}" if self._login else "the token's owner"

    def _without_secrets(self, text: str, *more: str) -> str:
        for secret in (self._token, self._login[1] if self._login else None, *more):
            if secret:
                text = text.replace(secret, "********")
        return text


def _repo(owner: str, name: str) -> str:
    return f"/repos/{quote(owner, safe='')}/{quote(name, safe='')}"


def _of(owner: str, name: str) -> str:
    return f"the repository {owner}/{name}"


def _said(answer: Any) -> str:
    """What Gitea says about it, in its own words."""
    try:
        message = json.loads(answer.content)["message"]
        return str(message).strip()
    except (ValueError, KeyError, TypeError):
        return str(answer.text)[:_HEAD].strip() or "(nothing)"


def _checked_url(url: str) -> str:
    """The URL as it is shown and used. A password in it would be, too, so it is refused without being repeated."""
    if "@" in url:
        raise AirgapError(
            "gitea.url has a user or a password in it: credentials do not belong into a URL, where messages and logs "
            "repeat them. Give gitea.token, or gitea.username and gitea.password"
        )
    if not url.startswith(("http://", "https://")) or not urlsplit(url).hostname:
        raise AirgapError(f"gitea.url must be http://host or https://host, not {url!r}")
    return url.rstrip("/")
