# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Gitea in memory: mounted on a ``requests`` session, it answers as version 1.26 does."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import requests
from requests.adapters import BaseAdapter

URL = "http://gitea.test:30300"
TOKEN = "a" * 40
PASSWORD = "pass-of-the-admin"

Answer = tuple[int, Any]

#: Methods that need the scope to write.
_WRITES = {"POST", "PUT", "PATCH", "DELETE"}


class FakeGitea(BaseAdapter):
    """``requests`` holds (method, path, body) of what was asked; ``break_with`` makes requests that match fail.

    The admin is let in with TOKEN, which has all scopes unless ``scopes`` of it is set, or with PASSWORD.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._numbers = itertools.count(1)
        self.owners: dict[str, tuple[str, set[str]]] = {TOKEN: ("admin", {"all"})}
        self.passwords: dict[str, tuple[str, str]] = {"admin": ("admin", PASSWORD)}
        self.users: dict[str, dict[str, Any]] = {"admin": {"login": "admin", "is_admin": True, "active": True}}
        self.tokens: dict[str, list[dict[str, Any]]] = {}
        self.repositories: dict[str, dict[str, Any]] = {}
        self.registration: dict[str, str] = {}
        self.runners: list[dict[str, Any]] = []
        self.jobs: list[dict[str, Any]] = []
        self._faults: list[list[Any]] = []
        #: Called with the name and the commit of a tag that is made.
        self.tagged: Callable[[str, str], object] = lambda name, sha: None
        self.add_repository("lumen/lumen")

    # --- what tests use --------------------------------------------------------------------------------------------

    def session(self) -> requests.Session:
        session = requests.Session()
        session.mount("http://", self)
        session.mount("https://", self)
        return session

    def add_repository(self, name: str) -> dict[str, Any]:
        self.repositories[name] = {
            "secrets": {},
            "collaborators": {},
            "branches": {"main": {}},
            "messages": [],
            "has_actions": True,
            # name -> {sha, message}, newest first; runs and jobs as the API sends them, logs by the job's id.
            "tags": {},
            # Hash -> message of more commits, and branch -> hash of its head.
            "commits": {},
            "heads": {},
            "runs": [],
            "jobs": {},
            "logs": {},
            # Hash -> files of that commit; nothing of others.
            "versions": {},
            # Hash -> statuses in the order in which they came; release notes.
            "statuses": {},
            "releases": [],
        }
        return self.repositories[name]

    def add_runner(self, scope: str = "lumen/lumen", **values: Any) -> dict[str, Any]:
        runner = {
            "id": next(self._numbers),
            "name": "act-runner",
            "status": "online",
            "busy": False,
            "disabled": False,
            "labels": [],
            "scope": scope,
            **values,
        }
        self.runners.append(runner)
        return runner

    def break_with(self, method: str, pattern: str, fault: Any, times: int = 1_000_000) -> None:
        """``fault`` is an exception, or (status, body) with a body that is text or becomes JSON."""
        self._faults.append([method, pattern, fault, times])

    @property
    def written(self) -> list[tuple[str, str]]:
        return [(method, path) for method, path, _body in self.requests if method != "GET"]

    # --- the adapter -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        pass

    def send(self, request: requests.PreparedRequest, *_args: Any, **_options: Any) -> requests.Response:
        parts = urlsplit(str(request.url))
        path = unquote(parts.path.removeprefix("/api/v1"))
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        body = json.loads(request.body) if request.body else None
        method = str(request.method)
        self.requests.append((method, path, body))
        self.headers.append(dict(request.headers))
        status, answer = self._answer(method, path, query, body, dict(request.headers))
        response = requests.Response()
        response.status_code = status
        response.request = request
        response.url = str(request.url)
        text = answer if isinstance(answer, str) else "" if answer is None else json.dumps(answer)
        response.raw = io.BytesIO(text.encode())
        response.headers["Location"] = "https://elsewhere.test/"
        return response

    def _answer(self, method: str, path: str, query: dict[str, str], body: Any, headers: dict[str, str]) -> Answer:
        for fault in self._faults:
            if fault[0] == method and re.search(fault[1], path) and fault[3] > 0:
                fault[3] -= 1
                if isinstance(fault[2], Exception):
                    raise fault[2]
                return fault[2]  # type: ignore[no-any-return]
        user, scopes, basic = self._who(headers)
        if user is None:
            return 401, {"message": "invalid username, password or token"}
        category = next(
            name
            for name, pattern in (
                ("admin", "^/admin/"),
                ("user", "^/users/"),
                ("organization", "^/orgs/"),
                ("repository", ""),
            )
            if re.search(pattern, path)
        )
        wanted = f"{'write' if method in _WRITES else 'read'}:{category}"
        if not scopes & {"all", wanted, f"write:{category}"}:
            said = f"token does not have at least one of required scope(s), required=[{wanted}], token scope="
            return 403, {"message": said + ",".join(sorted(scopes))}
        for pattern, handler in self._routes():
            match = re.fullmatch(pattern, path)
            if match:
                if "/tokens" in path and not basic:
                    return 401, {"message": "auth required"}
                return handler(method, match.groupdict(), query, body, user)
        return 404, {"message": "not found"}

    def _who(self, headers: dict[str, str]) -> tuple[str | None, set[str], bool]:
        kind, _space, value = headers.get("Authorization", "").partition(" ")
        basic = kind == "Basic"
        secret = base64.b64decode(value).decode().partition(":")[2] if basic else value
        if secret in self.owners:
            return (*self.owners[secret], basic)
        if basic:
            name = base64.b64decode(value).decode().partition(":")[0]
            if self.passwords.get(name, ("", None))[1] == secret:
                return name, {"all"}, True
        return None, set(), basic

    def _routes(self) -> list[tuple[str, Callable[..., Answer]]]:
        scope = r"(?P<scope>/admin|/orgs/[^/]+|/repos/[^/]+/[^/]+)"
        repository = r"/repos/(?P<repository>[^/]+/[^/]+)"
        return [
            (rf"{scope}/actions/runners/registration-token", self._registration),
            (rf"{scope}/actions/runners", self._runners),
            (rf"{scope}/actions/runners/(?P<id>\d+)", self._runner),
            (rf"{scope}/actions/jobs", self._jobs),
            (repository, self._repository),
            (rf"{repository}/tags", self._tags),
            (rf"{repository}/tags/(?P<tag>[^/]+)", self._tag),
            (rf"{repository}/git/commits/(?P<sha>[^/]+)", self._commit),
            (rf"{repository}/commits", self._commits),
            (rf"{repository}/actions/runs", self._runs),
            (rf"{repository}/actions/runs/(?P<id>\d+)", self._run),
            (rf"{repository}/actions/runs/(?P<id>\d+)/rerun-failed-jobs", self._rerun),
            (rf"{repository}/actions/runs/(?P<id>\d+)/jobs", self._run_jobs),
            (rf"{repository}/actions/jobs/(?P<id>\d+)/logs", self._log),
            (rf"{repository}/actions/secrets", self._secrets),
            (rf"{repository}/actions/secrets/(?P<secret>[^/]+)", self._secret),
            (rf"{repository}/commits/(?P<sha>[^/]+)/statuses", self._statuses),
            (rf"{repository}/statuses/(?P<sha>[^/]+)", self._statuses),
            (rf"{repository}/releases", self._releases),
            (rf"{repository}/releases/tags/(?P<tag>.+)", self._release_of_tag),
            (rf"{repository}/releases/(?P<id>\d+)", self._release),
            (rf"{repository}/collaborators/(?P<user>[^/]+)/permission", self._permission),
            (rf"{repository}/collaborators/(?P<user>[^/]+)", self._collaborator),
            (rf"{repository}/contents/(?P<path>.+)", self._contents),
            (r"/users/(?P<user>[^/]+)", self._user),
            (r"/users/(?P<user>[^/]+)/tokens", self._tokens),
            (r"/users/(?P<user>[^/]+)/tokens/(?P<id>\d+)", self._token),
            (r"/admin/users", self._users),
        ]

    # --- runners

    def _scope(self, found: dict[str, str]) -> str | None:
        scope = found["scope"].removeprefix("/repos/")
        if found["scope"].startswith("/repos/") and scope not in self.repositories:
            return None
        return "instance" if scope == "/admin" else scope.removeprefix("/orgs/")

    def _registration(self, method: str, found: dict[str, str], *_rest: Any) -> Answer:
        scope = self._scope(found)
        if scope is None:
            return 404, {"message": "not found"}
        if method != "POST":
            return 405, ""
        return 200, {"token": self.registration.setdefault(scope, f"minted-token-{next(self._numbers)}")}

    def _runners(self, _method: str, found: dict[str, str], query: dict[str, str], *_rest: Any) -> Answer:
        scope = self._scope(found)
        if scope is None:
            return 404, {"message": "not found"}
        ours = [runner for runner in self.runners if runner["scope"] == scope]
        return 200, {"total_count": len(ours), "runners": _page(ours, query)}

    def _runner(self, method: str, found: dict[str, str], _query: Any, body: Any, _user: str) -> Answer:
        runner = next((runner for runner in self.runners if runner["id"] == int(found["id"])), None)
        if runner is None:
            return 404, {"message": "Runner not found"}
        if method == "DELETE":
            self.runners.remove(runner)
            return 204, None
        if method == "PATCH":
            runner["disabled"] = body["disabled"]
        return 200, runner

    def _jobs(self, _method: str, _found: dict[str, str], query: dict[str, str], *_rest: Any) -> Answer:
        assert query["status"] == "in_progress"
        return 200, {"total_count": len(self.jobs), "jobs": _page(self.jobs, query)}

    # --- repositories

    def _repository(self, _method: str, found: dict[str, str], _query: Any, _body: Any, user: str) -> Answer:
        repository = self.repositories.get(found["repository"])
        if repository is None:
            return 404, {"message": "not found"}
        push = user == "admin" or repository["collaborators"].get(user) in ("write", "admin")
        permissions = {"push": push}
        return 200, {
            "full_name": found["repository"],
            "permissions": permissions,
            "has_actions": repository["has_actions"],
        }

    def _secrets(self, _method: str, found: dict[str, str], query: dict[str, str], *_rest: Any) -> Answer:
        secrets = self.repositories[found["repository"]]["secrets"]
        return 200, _page([{"name": n, "description": s["description"]} for n, s in secrets.items()], query)

    def _secret(self, method: str, found: dict[str, str], _query: Any, body: Any, _user: str) -> Answer:
        secrets = self.repositories[found["repository"]]["secrets"]
        name = found["secret"].upper()
        there = name in secrets
        if method == "DELETE":
            return (204, None) if secrets.pop(name, None) else (404, {"message": "not found"})
        secrets[name] = {"data": body["data"], "description": body["description"]}
        return (204 if there else 201), None

    def _permission(self, _method: str, found: dict[str, str], *_rest: Any) -> Answer:
        if found["user"] not in self.users:
            return 404, {"message": "user does not exist"}
        owner = found["repository"].partition("/")[0]
        given = self.repositories[found["repository"]]["collaborators"].get(found["user"], "none")
        return 200, {"permission": "owner" if found["user"] == owner else given}

    def _collaborator(self, method: str, found: dict[str, str], _query: Any, body: Any, _user: str) -> Answer:
        if found["user"] not in self.users:
            return 422, {"message": "user does not exist"}
        collaborators = self.repositories[found["repository"]]["collaborators"]
        if method == "PUT":
            collaborators[found["user"]] = body["permission"]
        else:
            collaborators.pop(found["user"], None)
        return 204, None

    def _contents(self, method: str, found: dict[str, str], query: dict[str, str], body: Any, _user: str) -> Answer:
        repository = self.repositories[found["repository"]]
        branch = query.get("ref") or body["branch"]
        versions = {**repository["versions"], **repository["branches"]}
        if branch not in versions:
            return 404, {"message": "unable to find a git ref"}
        files = versions[branch]
        data = files.get(found["path"])
        if method == "GET":
            inside = sorted(path for path in files if path.startswith(f"{found['path']}/"))
            if inside:
                return 200, [{"type": "file", "name": path.rpartition("/")[2]} for path in inside]
            if data is None:
                return 404, {"message": "not found"}
            return 200, {"type": "file", "content": base64.b64encode(data).decode(), "sha": _sha(data)}
        if method == "POST" and data is not None:
            return 422, {"message": "repository file already exists"}
        if method == "PUT" and (data is None or body["sha"] != _sha(data)):
            return 422, {"message": "sha does not match"}
        files[found["path"]] = base64.b64decode(body["content"])
        repository["messages"].append(body["message"])
        return 201, {"commit": {"sha": f"commit-{len(repository['messages'])}"}}

    # --- tags and runs

    def _tags(self, method: str, found: dict[str, str], query: dict[str, str], body: Any, _user: str) -> Answer:
        repository = self.repositories[found["repository"]]
        tags = repository["tags"]
        if method == "POST":
            made = {"sha": body["target"], "message": self._message(repository, body["target"])}
            tags[body["tag_name"]] = made
            self.tagged(body["tag_name"], body["target"])
            return 201, {"name": body["tag_name"], "commit": {"sha": made["sha"]}}
        return 200, _page([{"name": name, "commit": {"sha": tag["sha"]}} for name, tag in tags.items()], query)

    def _tag(self, _method: str, found: dict[str, str], *_rest: Any) -> Answer:
        tag = self.repositories[found["repository"]]["tags"].get(found["tag"])
        if tag is None:
            return 404, {"message": f"tag doesn't exist: {found['tag']}"}
        return 200, {"name": found["tag"], "commit": {"sha": tag["sha"]}}

    def _commit(self, _method: str, found: dict[str, str], *_rest: Any) -> Answer:
        repository = self.repositories[found["repository"]]
        sha = repository["heads"].get(found["sha"], found["sha"])
        message = self._message(repository, sha)
        if message is None:
            return 404, {"message": "object does not exist"}
        return 200, {"sha": sha, "commit": {"message": message}}

    @staticmethod
    def _message(repository: dict[str, Any], sha: str) -> str | None:
        of_tags = {tag["sha"]: tag.get("message") for tag in repository["tags"].values()}
        message: str | None = {**of_tags, **repository["commits"]}.get(sha)
        return message

    def _run(self, _method: str, found: dict[str, str], *_rest: Any) -> Answer:
        runs = self.repositories[found["repository"]]["runs"]
        run = next((run for run in runs if run["id"] == int(found["id"])), None)
        return (200, run) if run else (404, {"message": "not found"})

    def _rerun(self, _method: str, found: dict[str, str], *_rest: Any) -> Answer:
        _status, run = self._run("GET", found)
        run.update(status="queued", conclusion="", run_attempt=run.get("run_attempt", 1) + 1)
        return 201, None

    def _commits(self, _method: str, found: dict[str, str], *_rest: Any) -> Answer:
        """All of them, whatever the limit, as Gitea does for those of a file."""
        messages = self.repositories[found["repository"]]["messages"]
        made = [
            {"sha": f"{number:040x}", "commit": {"message": message}, "parents": [{"sha": f"{number - 1:040x}"}]}
            for number, message in enumerate(messages, 1)
        ]
        return 200, made[::-1]

    def _runs(self, _method: str, found: dict[str, str], query: dict[str, str], *_rest: Any) -> Answer:
        runs = self.repositories[found["repository"]]["runs"]
        asked = {key: query[key] for key in ("status", "head_sha", "event") if key in query}
        return 200, {"workflow_runs": _page([run for run in runs if asked.items() <= run.items()], query)}

    def _run_jobs(self, _method: str, found: dict[str, str], query: dict[str, str], *_rest: Any) -> Answer:
        return 200, {"jobs": _page(self.repositories[found["repository"]]["jobs"].get(int(found["id"]), []), query)}

    def _log(self, _method: str, found: dict[str, str], *_rest: Any) -> Answer:
        log = self.repositories[found["repository"]]["logs"].get(int(found["id"]))
        return (200, log) if log else (404, {"message": "logs have been cleaned up"})

    # --- what is said of commits and tags

    def _statuses(self, method: str, found: dict[str, str], query: dict[str, str], body: Any, _user: str) -> Answer:
        statuses = self.repositories[found["repository"]]["statuses"].setdefault(found["sha"], [])
        if method == "GET":
            return 200, _page(statuses, query)
        status = {"id": next(self._numbers), "status": body["state"], **body}
        del status["state"]
        statuses.append(status)
        return 201, status

    def _releases(self, _method: str, found: dict[str, str], _query: Any, body: Any, _user: str) -> Answer:
        repository = self.repositories[found["repository"]]
        if any(release["tag_name"] == body["tag_name"] for release in repository["releases"]):
            return 409, {"message": "Release is has no Tag"}
        repository["tags"].setdefault(body["tag_name"], {"sha": "made by Gitea"})
        page = f"{URL}/{found['repository']}/releases/tag/{body['tag_name']}"
        release = {"id": next(self._numbers), "html_url": page, **body}
        repository["releases"].append(release)
        return 201, release

    def _release_of_tag(self, _method: str, found: dict[str, str], *_rest: Any) -> Answer:
        releases = self.repositories[found["repository"]]["releases"]
        release = next((each for each in releases if each["tag_name"] == found["tag"]), None)
        return (200, release) if release else (404, {"message": "not found"})

    def _release(self, _method: str, found: dict[str, str], _query: Any, body: Any, _user: str) -> Answer:
        releases = self.repositories[found["repository"]]["releases"]
        release = next((each for each in releases if each["id"] == int(found["id"])), None)
        if release is None:
            return 404, {"message": "not found"}
        release.update(body)
        return 200, release

    # --- users

    def _user(self, _method: str, found: dict[str, str], *_rest: Any) -> Answer:
        user = self.users.get(found["user"])
        return (200, user) if user else (404, {"message": "user redirect does not exist"})

    def _users(self, _method: str, _found: Any, _query: Any, body: Any, _user: str) -> Answer:
        self.users[body["username"]] = {"login": body["username"], "active": True, "restricted": body["restricted"]}
        self.passwords[body["username"]] = (body["username"], body["password"])
        return 201, self.users[body["username"]]

    def _tokens(self, method: str, found: dict[str, str], query: dict[str, str], body: Any, _user: str) -> Answer:
        tokens = self.tokens.setdefault(found["user"], [])
        if method == "GET":
            shown = ("id", "name", "scopes", "token_last_eight")
            return 200, _page([{key: token.get(key) for key in shown} for token in tokens], query)
        if any(token["name"] == body["name"] for token in tokens):
            return 400, {"message": "access token name has been used already"}
        token = {"id": next(self._numbers), "name": body["name"], "scopes": body["scopes"]}
        token["sha1"] = f"{int(token['id']):040x}"
        token["token_last_eight"] = token["sha1"][-8:]
        self.owners[token["sha1"]] = (found["user"], set(body["scopes"]))
        tokens.append(token)
        return 201, token

    def _token(self, _method: str, found: dict[str, str], *_rest: Any) -> Answer:
        tokens = self.tokens.get(found["user"], [])
        for token in tokens:
            if token["id"] == int(found["id"]):
                tokens.remove(token)
                del self.owners[token["sha1"]]
                return 204, None
        return 404, {"message": "not found"}


def _page(items: list[Any], query: dict[str, str]) -> list[Any]:
    page, limit = int(query.get("page", 1)), min(int(query.get("limit", 30)), 50)
    return items[(page - 1) * limit : page * limit]


def _sha(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
