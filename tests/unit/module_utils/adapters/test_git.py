# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What git is started with, and what is made of what it prints."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import git
from ansible_collections.lumen.airgap.plugins.plugin_utils.streaming import ParentGone
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream

URL = "https://gitea.example/lumen/lumen.git"


class Git:
    """Stands in for the process: what it was started with, and an answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[list[str], dict[str, Any]]] = []
        monkeypatch.setattr(subprocess, "Popen", self._start)

    def _start(self, argv: list[str], **options: Any) -> Git:
        self.calls.append((argv, options))
        self.args, self.returncode = argv, 0
        return self

    def communicate(self, _data: bytes, _timeout: float) -> tuple[bytes, bytes]:
        return b"0" * 40, b""

    def poll(self) -> int:
        return 0


def test_the_token_is_in_the_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = Git(monkeypatch)
    repository = git.Repository(str(tmp_path), git.Remote(URL, "ci", "s3cret"))
    repository.fetch("main")
    repository.push("0" * 40, "main")
    assert len(started.calls) == 4
    for argv, options in started.calls:
        assert "s3cret" not in " ".join(argv)
        assert "Y2k6czNjcmV0" not in " ".join(argv)
        values = [value for name, value in options["env"].items() if name.startswith("GIT_CONFIG_VALUE_")]
        assert "Authorization: Basic Y2k6czNjcmV0" in values
    assert list(tmp_path.iterdir()) == []


def test_nobody_elses_configuration_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_SSL_NO_VERIFY", "1")
    monkeypatch.setenv("GIT_TRACE_CURL", "1")
    environment = git.environment(git.Remote(URL, "ci", "s3cret", ca_path="/ca.pem"))
    assert "GIT_SSL_NO_VERIFY" not in environment
    assert "GIT_TRACE_CURL" not in environment
    count = int(environment["GIT_CONFIG_COUNT"])
    found = {environment[f"GIT_CONFIG_KEY_{i}"]: environment[f"GIT_CONFIG_VALUE_{i}"] for i in range(count)}
    assert found["http.followRedirects"] == "false"
    assert found["http.sslVerify"] == "true"
    assert found["http.sslCAInfo"] == "/ca.pem"
    assert environment["GIT_TERMINAL_PROMPT"] == "0"


def test_ssh_asks_nobody_and_trusts_no_unknown_host() -> None:
    environment = git.environment(git.Remote("ssh://git@gitea/x.git", key_path="/k e y", known_hosts_path="/known"))
    command = environment["GIT_SSH_COMMAND"]
    assert "BatchMode=yes" in command
    assert "StrictHostKeyChecking=yes" in command
    assert "-i '/k e y'" in command
    assert "UserKnownHostsFile=/known" in command
    assert not any("Authorization" in value for value in environment.values())


@pytest.mark.parametrize("url", [URL, "http://h:3000/x", "ssh://git@h:22/x.git", "git@h:x/y.git", "file:///srv/x.git"])
def test_addresses_that_are_taken(url: str) -> None:
    git.check_url(url)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("fatal: unable to access 'U': SSL certificate problem: self-signed certificate", git.CertificateRefused),
        ("fatal: unable to access 'U': server certificate verification failed. CAfile: x", git.CertificateRefused),
        ("fatal: unable to access 'U': SSL: no alternative certificate subject name matches", git.CertificateRefused),
        ("fatal: Authentication failed for 'U'", git.AccessDenied),
        ("fatal: could not read Username for 'U': terminal prompts disabled", git.AccessDenied),
        ("remote: Forbidden\nfatal: unable to access 'U': The requested URL returned error: 403", git.AccessDenied),
        ("git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.", git.AccessDenied),
        ("Host key verification failed.\nfatal: Could not read from remote repository.", git.HostKeyRefused),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            git.HostKeyRefused,
        ),
        ("remote: Not found.\nfatal: repository 'U' not found", git.RepositoryMissing),
        ("fatal: couldn't find remote ref refs/heads/x", git.BranchMissing),
        ("! abc:refs/heads/main [rejected] (fetch first)\nerror: failed to push some refs", git.Rejected),
        ("! abc:refs/heads/main [rejected] (non-fast-forward)", git.Rejected),
        (
            "remote: error:\nremote: error: Not allowed to push to protected branch main\n"
            "! abc:refs/heads/main [remote rejected] (pre-receive hook declined)",
            git.BranchProtected,
        ),
        (
            "! a:refs/heads/main [remote rejected] (cannot lock ref 'refs/heads/main': is at b but expected c)",
            git.Rejected,
        ),
        ("fatal: unable to access 'U': Failed to connect to h port 1: Connection refused", git.RemoteAway),
        ("fatal: unable to access 'U': Could not resolve host: h", git.RemoteAway),
        ("fatal: the remote end hung up unexpectedly", git.RemoteAway),
        ("fatal: unable to access 'U': The requested URL returned error: 502", git.RemoteAway),
    ],
)
def test_causes_are_told_apart(said: str, error: type[git.GitError]) -> None:
    found = git.explained("push", URL, said)
    assert type(found) is error
    assert URL in found.message


@pytest.mark.parametrize("url", ["http://certificate/forbidden/certificates.git", "git@certificate:certificates.git"])
def test_names_are_no_signs(url: str) -> None:
    rejected = f"To {url}\n! abc:refs/heads/unauthorized [rejected] (fetch first)\nerror: failed to push to '{url}'"
    assert type(git.explained("push", url, rejected)) is git.Rejected
    away = f"fatal: unable to access '{url}/': Failed to connect to certificate port 80: Connection refused"
    assert type(git.explained("push", url, away)) is git.RemoteAway
    missing = f"fatal: '{url.removesuffix('.git')}' does not appear to be a git repository"
    assert type(git.explained("fetch", url, missing)) is git.RepositoryMissing


def test_what_is_not_known_is_shown_in_gits_own_words() -> None:
    found = git.explained("push", URL, "hint: not this\nfatal: something new\n")
    assert type(found) is git.GitError
    assert found.message == f"git push of {URL} failed: fatal: something new"


def test_a_command_that_takes_too_long_is_ended_with_its_helpers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes: a git that waits for a helper of its own."""
    helper = tmp_path / "helper"
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n[ $1 = init ] && exit 0\nsleep 60 &\necho $! >{helper}\nwait\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (tmp_path / "repository").mkdir()
    repository = git.Repository(str(tmp_path / "repository"), git.Remote(URL), timeout=0.5)
    with pytest.raises(git.RemoteAway, match=r"git fetch .* was not done after 0.5 s"):
        repository.fetch("main")
    status = Path("/proc") / helper.read_text().strip() / "stat"
    end = time.monotonic() + 10  # a signal that was sent takes a moment on a busy machine
    while not ended(status):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_nothing_is_started_for_a_parent_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: FakeStream
) -> None:
    started = Git(monkeypatch)
    repository = git.Repository(str(tmp_path), git.Remote(URL), check=stream.check)
    repository.fetch("main")
    before = len(started.calls)
    stream.die()
    with pytest.raises(ParentGone):
        repository.push("0" * 40, "main")
    assert len(started.calls) == before


def test_a_push_that_waits_for_its_server_ends_with_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: FakeStream
) -> None:
    class Waiting(Git):
        """It has been given what it reads, prints nothing, and runs until it is killed."""

        pid = 7
        given: ClassVar[list[tuple[bytes | None, float]]] = []

        def communicate(self, data: bytes | None = None, timeout: float = 0) -> tuple[bytes, bytes]:
            if self.args[1] != "push" or self.returncode == -9:
                return super().communicate(b"", 0)
            self.given.append((data, timeout))
            if len(self.given) == 3:
                stream.die()
            raise subprocess.TimeoutExpired(self.args, timeout)

        def poll(self) -> Any:
            return None if self.args[1] == "push" else 0

    waiting = Waiting(monkeypatch)
    killed: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda pid, _signal: (killed.append(pid), setattr(waiting, "returncode", -9)))
    with pytest.raises(ParentGone):
        git.Repository(str(tmp_path), git.Remote(URL), check=stream.check).push("0" * 40, "main")
    assert waiting.given == [(b"", 1.0), (None, 1.0), (None, 1.0)]
    assert killed == [7]


def ended(status: Path) -> bool:
    try:
        return status.read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
