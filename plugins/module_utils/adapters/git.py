# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One branch of a remote repository: read, committed to and pushed to, without a working tree.

The program git does it, in a bare repository of this process' own. Nothing of the repository is checked out, so that
no hook, filter or symbolic link of it is followed. Neither the user's nor the system's configuration of git is read.
Credentials are in the environment of git alone: not in the URL, the arguments or a file.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Callable, NamedTuple

from ..errors import AirgapError

_PROTOCOLS = "http:https:ssh:file"
_SCP = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9._\[\]:-]+:(?!//).+")
_URL = re.compile(r"(?P<scheme>https?|ssh|file)://(?P<rest>.+)")
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_FILE_MODES = ("100644", "100755")
#: Lines of git that tell nothing.
_EMPTY = re.compile(r"|hint:.*|To \S+|Done|remote:(?: error:)?|error: failed to push some refs to .*")
_LINES = 5
_TEXT = 400
_TICK = 1.0


class GitError(AirgapError):
    """git could not do what was asked of it."""


class CertificateRefused(GitError):
    """The server's certificate is not one that we trust."""


class HostKeyRefused(GitError):
    """The server's SSH key is not one that is known: another one than it had, or never seen."""


class AccessDenied(GitError):
    """The server does not let us in, or not to this repository."""


class RepositoryMissing(GitError):
    """The server has no such repository, or does not show it to us."""


class BranchMissing(GitError):
    """The repository has no such branch."""


class Rejected(GitError):
    """Somebody else pushed to the branch meanwhile: fetch, and try again."""


class BranchProtected(GitError):
    """The branch is protected, or a hook of the server refuses the commit."""


class RemoteAway(GitError):
    """The server could not be reached, or did not answer in time. Whether a push arrived is not known."""


class Remote(NamedTuple):
    """Where a repository is, and as whom we come."""

    url: str
    username: str = ""
    token: str = ""
    ca_path: str = ""
    validate_certs: bool = True
    key_path: str = ""
    known_hosts_path: str = ""


class Person(NamedTuple):
    """Author and committer."""

    name: str
    email: str


class File(NamedTuple):
    """A file of a commit. ``mode`` as git writes it: 100644 or 100755."""

    text: str
    mode: str


class Repository:
    """``directory`` is empty and belongs to this process; ``timeout`` is for one command of git, in seconds.

    ``check`` raises when nobody waits for this any more. It is asked before each command and each second of it, and
    ends it: one that waits for a server would push whenever that comes back.
    """

    def __init__(
        self, directory: str, remote: Remote, timeout: float = 60.0, check: Callable[[], None] = lambda: None
    ) -> None:
        check_url(remote.url)
        self._directory = directory
        self._remote = remote
        self._timeout = timeout
        self._check = check
        self._git("init", "--quiet", "--bare", "--template=", ".")

    # -- reading ---------------------------------------------------------------------------------------------------

    def fetch(self, branch: str, history: bool = False) -> str:
        """The commit at the head of the branch, fetched; with all that came before it when ``history`` is asked for."""
        here = "refs/heads/fetched"
        depth = ["--depth=1"]
        if history:
            depth = ["--unshallow"] if os.path.exists(os.path.join(self._directory, "shallow")) else []
        self._git("fetch", "--quiet", "--no-tags", *depth, "--", self._remote.url, f"+refs/heads/{branch}:{here}")
        return self._git("rev-parse", "--verify", f"{here}^{{commit}}").strip()

    def read(self, commit: str, path: str) -> File | None:
        """A file of a commit; None when it is not there. Raises GitError when it is no file of text."""
        entry = self._git("ls-tree", "-z", "--full-tree", commit, "--", path)
        if not entry:
            return None
        mode, _kind, name = entry.split("\t", 1)[0].split(" ")
        if mode not in _FILE_MODES:
            raise GitError(f"{path} in {self._remote.url} is no file: its mode is {mode}")
        try:
            return File(self._run("cat-file", "blob", name).stdout.decode("utf-8"), mode)
        except UnicodeDecodeError as error:
            raise GitError(f"{path} in {self._remote.url} is not text in UTF-8: {error}") from error

    def names(self, commit: str, directory: str) -> list[str]:
        """Paths of the files below a directory of a commit."""
        listed = self._git("ls-tree", "-r", "-z", "--full-tree", commit, "--", f"{directory.rstrip('/')}/")
        entries = (entry.split("\t", 1) for entry in listed.split("\0") if entry)
        return [path for attributes, path in entries if attributes.split(" ")[0] in _FILE_MODES]

    def find(self, commit: str) -> str | None:
        """The full name of a commit, None when the history that was fetched does not have it."""
        done = self._run("rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}", ok=(0, 1, 128))
        name = done.stdout.decode().strip()
        return name if done.returncode == 0 and _HASH.fullmatch(name) else None

    def parents(self, commit: str) -> list[str]:
        """Its parents; of a merge there are two."""
        return self._git("rev-list", "--parents", "--max-count=1", commit).split()[1:]

    def history(self, head: str, path: str) -> list[tuple[str, list[str]]]:
        """The commits that made a file what it is in ``head``, each before those that it came after.

        Beside each are the ones that it came after, of these; of a merge that mixed two versions there are several.
        """
        listed = self._git("rev-list", "--topo-order", "--parents", head, "--", path)
        return [(name, before) for name, *before in (line.split() for line in listed.splitlines())]

    def contains(self, head: str, commit: str) -> bool:
        """Whether ``commit`` is in the history of ``head``."""
        return self._run("merge-base", "--is-ancestor", commit, head, ok=(0, 1)).returncode == 0

    def changed(self, commit: str) -> list[str]:
        """Paths that a commit changed against its first parent."""
        listed = self._git("diff-tree", "-r", "-z", "--no-commit-id", "--name-only", "--no-renames", commit)
        return [path for path in listed.split("\0") if path]

    # -- writing ---------------------------------------------------------------------------------------------------

    def commit(self, parent: str, path: str, file: File, message: str, author: Person) -> str:
        """A commit upon ``parent`` that changes this file and nothing else. Returns its name."""
        blob = self._git("hash-object", "-w", "--stdin", stdin=file.text).strip()
        index = {"GIT_INDEX_FILE": os.path.join(self._directory, "one-commit.index")}
        self._git("read-tree", parent, env=index)
        self._git("update-index", "--cacheinfo", f"{file.mode},{blob},{path}", env=index)
        tree = self._git("write-tree", env=index).strip()
        parts = {"NAME": author.name, "EMAIL": author.email}
        who = {f"GIT_{role}_{part}": text for role in ("AUTHOR", "COMMITTER") for part, text in parts.items()}
        return self._git("commit-tree", tree, "-p", parent, stdin=message, env=who).strip()

    def push(self, commit: str, branch: str) -> None:
        """Make the commit the branch's head, if the branch is still what was fetched. Raises Rejected."""
        self._git("push", "--quiet", "--porcelain", "--", self._remote.url, f"{commit}:refs/heads/{branch}")

    # -- git -------------------------------------------------------------------------------------------------------

    def _git(self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
        return self._run(*arguments, stdin=stdin, env=env).stdout.decode("utf-8", "surrogateescape")

    def _run(
        self,
        *arguments: str,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        ok: Sequence[int] = (0,),
    ) -> subprocess.CompletedProcess[bytes]:
        self._check()
        try:
            process = subprocess.Popen(
                ["git", *arguments],
                cwd=self._directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**environment(self._remote), **(env or {})},
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise GitError("The program git is not installed here") from error
        try:
            output, errors = self._outcome(process, stdin.encode("utf-8"))
        except subprocess.TimeoutExpired as error:
            raise RemoteAway(
                f"git {arguments[0]} of {self._remote.url} was not done after {self._timeout:g} s"
            ) from error
        finally:
            _end(process)
        if process.returncode not in ok:
            raise explained(arguments[0], self._remote.url, (errors + output).decode("utf-8", "replace"))
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def _outcome(self, process: subprocess.Popen[bytes], stdin: bytes | None) -> tuple[bytes, bytes]:
        """What it prints until it ends. Raises ``TimeoutExpired``."""
        left = self._timeout
        while True:
            tick = min(_TICK, left)
            try:
                return process.communicate(stdin, tick)
            except subprocess.TimeoutExpired:
                left -= tick
                if left <= 0:
                    raise
            stdin = None  # it has all of it already
            self._check()


def _end(process: subprocess.Popen[bytes]) -> None:
    """With its helpers: one that speaks HTTP would go on pushing for a git that is gone."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def check_url(url: str) -> None:
    """Refuse what is no address of a repository, and one with a password in it. Raises GitError."""
    found = _URL.fullmatch(url)
    if found is None and not _SCP.fullmatch(url):
        shown = url.rsplit("@", maxsplit=1)[-1]
        raise GitError(f"'{shown}' is no repository: give http://, https://, ssh://, file:// or user@host:path")
    userinfo = found["rest"].split("/", 1)[0].rpartition("@")[0] if found else ""
    if found and userinfo and (found["scheme"] != "ssh" or ":" in userinfo):
        raise GitError(
            f"The address of the repository {found['scheme']}://{found['rest'].split('@', 1)[-1]} has a login in it, "
            "which everybody can read in the list of processes. Give the login in the option for it"
        )


def environment(remote: Remote) -> dict[str, str]:
    """What git is started with: this configuration and no other, and the credentials."""
    settings = {"gc.auto": "0", "protocol.version": "2", "core.quotePath": "false"}
    if remote.url.startswith(("http://", "https://")):
        # A redirect could send the credentials elsewhere.
        settings["http.followRedirects"] = "false"
        settings["http.sslVerify"] = "true" if remote.validate_certs else "false"
        if remote.ca_path:
            settings["http.sslCAInfo"] = remote.ca_path
        if remote.token:
            pair = base64.b64encode(f"{remote.username or 'git'}:{remote.token}".encode()).decode()
            settings[f"http.{remote.url}.extraHeader"] = f"Authorization: Basic {pair}"
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "SSH_AUTH_SOCK", "TMPDIR")}
    return {
        **kept,
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": _PROTOCOLS,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_SSH_COMMAND": _ssh(remote),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_COUNT": str(len(settings)),
        **{f"GIT_CONFIG_KEY_{place}": name for place, name in enumerate(settings)},
        **{f"GIT_CONFIG_VALUE_{place}": value for place, value in enumerate(settings.values())},
    }


def _ssh(remote: Remote) -> str:
    argv = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"]
    if remote.known_hosts_path:
        argv += ["-o", f"UserKnownHostsFile={remote.known_hosts_path}", "-o", "GlobalKnownHostsFile=/dev/null"]
    if remote.key_path:
        argv += ["-o", "IdentitiesOnly=yes", "-i", remote.key_path]
    return shlex.join(argv)


class _Cause(NamedTuple):
    error: type[GitError]
    signs: re.Pattern[str]
    advice: str


def _cause(error: type[GitError], advice: str, *signs: str) -> _Cause:
    return _Cause(error, re.compile("|".join(signs), re.IGNORECASE), advice)


# In this order: a protected branch is a rejected push too, and an unknown host key ends in a lost connection.
_CAUSES = (
    _cause(
        BranchProtected,
        "The branch is protected, or a hook of the server refused the commit: let this user push to it",
        "protected branch",
        "pre-receive hook declined",
        "update hook declined",
        "not allowed to push",
    ),
    _cause(
        CertificateRefused,
        "The server's certificate is not trusted: give the CA that signed it",
        "certificate",
        "SSL: no alternative",
        "unable to get local issuer",
        "SSL routines",
    ),
    _cause(
        HostKeyRefused,
        "The server has another host key than the one that is known. Somebody may be in between: ask who runs it, and "
        "replace the key that is known only then",
        "remote host identification has changed",
    ),
    _cause(
        HostKeyRefused,
        "The host key is not among those that are known: check it, and add it to them",
        "host key verification failed",
    ),
    _cause(
        Rejected,
        "Somebody else pushed to the branch meanwhile",
        r"\[rejected\]",
        "fetch first",
        "non-fast-forward",
        "cannot lock ref",
        "failed to update ref",
    ),
    _cause(BranchMissing, "The repository has no such branch", "couldn't find remote ref"),
    _cause(
        RepositoryMissing,
        "There is no such repository, or this user does not see it",
        "repository .* not found",
        "does not appear to be a git repository",
        "does not exist",
        "error: 404",
        "cannot find repository",
    ),
    _cause(
        AccessDenied,
        "The server does not let this user in: check the user, the token and what it may do",
        "authentication failed",
        "could not read username",
        "could not read password",
        "permission denied",
        "error: 40[13]",
        "access denied",
        "unauthorized",
        "forbidden",
    ),
    _cause(
        RemoteAway,
        "The server does not answer: is it there, and does the way to it lie open?",
        "could not resolve",
        "failed to connect",
        "couldn't connect",
        "connection (?:refused|reset|timed out|closed)",
        "no route to host",
        "network is unreachable",
        "early eof",
        "hung up unexpectedly",
        "empty reply",
        "error: 5[0-9][0-9]",
        "unable to look up",
        "operation timed out",
    ),
)


def _without_names(said: str, url: str) -> str:
    """What the server, the repository or the branch is called is no sign of anything."""
    scheme, _separator, rest = url.rpartition("://")
    place, _separator, path = rest.partition("/" if scheme else ":")
    host = place.rpartition("@")[2].partition(":")[0]
    for name in (url, url.removesuffix(".git"), path, path.removesuffix(".git"), host):
        if name:
            said = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", "", said)
    return re.sub(r"refs/\S+", "", said)


def explained(command: str, url: str, said: str) -> GitError:
    """The error for what git printed: by its cause where that is known, with git's own words."""
    lines = [line.strip() for line in said.splitlines()]
    words = "; ".join([line for line in lines if not _EMPTY.fullmatch(line)][-_LINES:])[:_TEXT] or "it said nothing"
    signs = _without_names(said, url)
    for cause in _CAUSES:
        if cause.signs.search(signs):
            return cause.error(f"git {command} of {url}: {cause.advice}. git says: {words}")
    return GitError(f"git {command} of {url} failed: {words}")
