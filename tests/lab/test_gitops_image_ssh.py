# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image of a workload in a repository behind SSH: a real sshd on loopback, of this test's own."""

from __future__ import annotations

import os
import pwd
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import git
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock
from ansible_collections.lumen.airgap.plugins.modules import gitops_image as module
from ansible_collections.lumen.airgap.tests.unit.fakes.git import Origin

from .conftest import eventually

pytestmark = pytest.mark.loopback

SSHD = "/usr/sbin/sshd"
#: Where an sshd that root starts has to be able to lock itself up. The service makes it when it starts.
PRIVSEP = Path("/run/sshd")
PATH = "app.yaml"
OLD, NEW = "192.168.2.2:5000/lumen-api:v1.0.0", "192.168.2.2:5000/lumen-api:v1.1.0"
MANIFEST = f"""kind: Deployment
metadata: {{name: app}}
spec:
  template:
    spec:
      containers:
        - {{name: lumen-api, image: {OLD}}} # here
"""


def key(path: Path) -> Path:
    """A private key, with its public one beside it."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, timeout=20)
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


class Site:
    """An sshd that lets one key in, the repository behind it, and the module that is pointed at both."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.origin = Origin(directory, {PATH: MANIFEST})
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.port = free_port()
        self.client = key(directory / "client")
        self.known = directory / "known_hosts"
        self.known.write_text(self.line(key(directory / "host")))
        self._process: subprocess.Popen[bytes] | None = None

    def line(self, host_key: Path) -> str:
        """What known_hosts has for a host with this key."""
        return f"[127.0.0.1]:{self.port} {host_key.with_suffix('.pub').read_text()}"

    def start(self) -> None:
        config = self.directory / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.directory / 'host'}\nPidFile none\n"
            f"AuthorizedKeysFile {self.client.with_suffix('.pub')}\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            "PermitUserRC no\nAllowTcpForwarding no\nX11Forwarding no\n"
        )
        if os.getuid() == 0:
            PRIVSEP.mkdir(mode=0o755, exist_ok=True)
        with (self.directory / "sshd.log").open("wb") as log:
            argv = [SSHD, "-D", "-e", "-f", str(config)]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually("sshd answers", self._answers, 20)

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(20)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def __call__(self, **params: Any) -> dict[str, Any]:
        own = self.directory / f"run-{len(list(self.directory.glob('run-*')))}"
        own.mkdir()
        given = {
            **{name: option.get("default") for name, option in module.ARGUMENT_SPEC.items()},
            "author": {"name": "lumen-ci", "email": "lumen-ci@noreply.invalid"},
            "repo": f"ssh://{self.user}@127.0.0.1:{self.port}{self.origin.path}",
            "path": PATH,
            "image": NEW,
            "key_path": str(self.client),
            "known_hosts_path": str(self.known),
            "attempts": 1,
            "timeout": 30.0,
            **params,
        }
        return module.gitops_image(given, str(own), SystemClock(), False)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    site = Site(tmp_path)
    site.start()
    yield site
    site.stop()


def test_bumped_and_reverted(site: Site) -> None:
    bump = site()
    assert (bump["changed"], bump["commit"]) == (True, site.origin.head)
    assert site.origin.text(PATH) == MANIFEST.replace(OLD, NEW)
    assert not site()["changed"]
    assert site(state="reverted")["undone"] == bump["commit"]
    assert site.origin.text(PATH) == MANIFEST


def test_a_host_that_nobody_knows_is_refused_and_stays_unknown(site: Site) -> None:
    site.known.write_text("")
    with pytest.raises(git.HostKeyRefused, match="The host key is not among those that are known"):
        site()
    assert site.known.read_text() == ""
    assert site.origin.text(PATH) == MANIFEST


def test_a_host_with_another_key_than_it_had_is_said_to_be_that(site: Site, tmp_path: Path) -> None:
    site.known.write_text(site.line(key(tmp_path / "another")))
    with pytest.raises(git.HostKeyRefused, match="has another host key than the one that is known"):
        site()
    assert site.origin.text(PATH) == MANIFEST


def test_a_key_that_is_not_let_in(site: Site, tmp_path: Path) -> None:
    with pytest.raises(git.AccessDenied, match=r"does not let this user in.*Permission denied"):
        site(key_path=str(key(tmp_path / "strange")))


def test_a_key_that_is_not_there(site: Site, tmp_path: Path) -> None:
    with pytest.raises(git.AccessDenied, match="nowhere"):
        site(key_path=str(tmp_path / "nowhere"))


def test_a_hook_that_refuses_is_a_protected_branch(site: Site) -> None:
    site.origin.hook("pre-receive", "echo 'main is protected' >&2; exit 1")
    with pytest.raises(git.BranchProtected, match="main is protected"):
        site()
    assert site.origin.text(PATH) == MANIFEST


def test_somebody_who_was_faster_is_a_rejected_push(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    push = git.Repository.push

    def late(self: git.Repository, commit: str, branch: str) -> None:
        site.origin.push({"other": "x"}, "theirs")
        push(self, commit, branch)

    monkeypatch.setattr(git.Repository, "push", late)
    with pytest.raises(git.Rejected):
        site()


def test_a_repository_that_is_not_there(site: Site) -> None:
    with pytest.raises(git.RepositoryMissing):
        site(repo=f"ssh://{site.user}@127.0.0.1:{site.port}{site.directory}/not.git")


def test_nobody_who_listens(site: Site) -> None:
    with pytest.raises(git.RemoteAway, match="Connection refused"):
        site(repo=f"ssh://{site.user}@127.0.0.1:{free_port()}/x.git")


def test_somebody_who_listens_and_says_nothing_is_left_in_time(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(git.RemoteAway, match="was not done after 2 s"):
            site(repo=f"ssh://{site.user}@127.0.0.1:{port}/x.git", timeout=2.0)
        assert time.monotonic() - started < 10
        assert not [line for line in processes() if re.search(rf"\b{port}\b", line)]


def test_no_key_is_in_the_list_of_processes(site: Site) -> None:
    site.origin.hook("pre-receive", "sleep 1")
    pusher = threading.Thread(target=site)
    pusher.start()
    seen: set[str] = set()
    while pusher.is_alive():
        seen.update(processes())
        time.sleep(0.05)
    pusher.join()
    assert site.origin.text(PATH) == MANIFEST.replace(OLD, NEW)
    assert any(line.startswith("ssh ") and str(site.client) in line for line in seen)
    secret = "".join(site.client.read_text().splitlines()[1:-1])
    assert not [line for line in seen if secret[:40] in line or secret[-40:] in line]


def processes() -> list[str]:
    """The command lines of all processes, as everybody on the machine can see them."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue  # it is gone
    return lines
