# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tasks that tell others how a release goes: the lab's Gitea, and a webhook on loopback."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, command
from .gitea import TOKEN, URL, api, own_repository

SECRET = "k3y-of-the-hook"
DOCUMENT = {"release": "lumen-api-v1.1.0-1", "version": "v1.1.0", "outcome": "rolled_back", "reason": "too many"}


class Hook(ThreadingHTTPServer):
    """A receiver: what came, and the status that it answers with."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 204
        self.got: list[tuple[dict[str, str], Any]] = []


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as hook:
        thread = threading.Thread(target=hook.serve_forever, args=[0.05], daemon=True)
        thread.start()
        yield hook
        hook.shutdown()
        thread.join(10)


@pytest.fixture
def repository() -> Iterator[str]:
    """A repository whose one commit is tagged v1.1.0."""
    with own_repository() as full:
        head = api("GET", f"/repos/{full}/commits?limit=1")[0]["sha"]
        api("POST", f"/repos/{full}/tags", {"tag_name": "v1.1.0", "target": head})
        yield full


def tell(directory: Path, monkeypatch: pytest.MonkeyPatch, full_name: str, hook: Hook, **told: Any) -> str:
    """Run the tasks in a play of their own; what ansible-playbook printed."""
    owner, name = full_name.split("/")
    variables = {
        "ansible_python_interpreter": sys.executable,
        "told_version": "v1.1.0",
        "told_progress": {"building": True},
        "release_git": True,
        "release_gitea": {"url": URL, "token": TOKEN},
        "airgap_gitea": {"owner": owner, "repository": name},
        "airgap_release_status": True,
        "airgap_release_note": True,
        "airgap_release_by": "pipeline",
        "airgap_release_webhook": {"url": f"http://127.0.0.1:{hook.server_address[1]}/hidden", "secret": SECRET},
        **told,
    }
    include = {"name": "Tell", "ansible.builtin.include_tasks": str(ROOT / "playbooks" / "tasks" / "tell.yml")}
    play = {"name": "Tell", "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [include]}
    (directory / "play.yml").write_text(json.dumps([play]))
    (directory / "vars.json").write_text(json.dumps(variables))
    monkeypatch.setenv("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(ROOT / "build"))
    playbook = Path(sys.executable).with_name("ansible-playbook")
    argv = [str(playbook), "-i", "localhost,", "-vvv", "-e", f"@{directory / 'vars.json'}", str(directory / "play.yml")]
    done = command(argv, 120)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert TOKEN not in said
    assert SECRET not in said
    assert "hidden" not in said
    return said


def test_a_release_that_goes_and_ends(
    repository: str, hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(tmp_path, monkeypatch, repository, hook, told_state="pending", told_why="The canary is on its way")
    assert hook.got == []
    ended = {"told_state": "failure", "told_why": "rolled back: too many", "told_document": DOCUMENT}
    assert "changed=2" in tell(tmp_path, monkeypatch, repository, hook, **ended)
    (status,) = api("GET", f"/repos/{repository}/commits/v1.1.0/status")["statuses"]
    assert (status["status"], status["description"]) == ("failure", "rolled back: too many")
    assert "**not promoted**" in api("GET", f"/repos/{repository}/releases/tags/v1.1.0")["body"]
    ((headers, document),) = hook.got
    assert document == DOCUMENT
    assert headers["X-Lumen-Signature"].startswith("sha256=")
    # Killed and run again: Gitea has it, and the receiver can tell.
    tell(tmp_path, monkeypatch, repository, hook, **ended)
    assert hook.got[1][0]["X-Lumen-Delivery"] == headers["X-Lumen-Delivery"]
    assert len(api("GET", f"/repos/{repository}/commits/v1.1.0/statuses")) == 2


def test_gitea_is_told_nothing_of_a_version_that_was_refused_before_its_tag(
    repository: str, hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = {"told_state": "failure", "told_why": "another release is in progress", "told_document": DOCUMENT}
    said = tell(tmp_path, monkeypatch, repository, hook, **refused, told_progress={"building": False})
    assert "Gitea does not show it" not in said
    assert api("GET", f"/repos/{repository}/commits/v1.1.0/statuses") == []
    assert len(hook.got) == 1


def test_nobody_who_listens_holds_it_up(
    repository: str, hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.status = 500
    ended = {"told_state": "success", "told_why": "promoted", "told_document": DOCUMENT}
    said = tell(tmp_path, monkeypatch, f"{repository}-not", hook, **ended)
    assert "Gitea does not show it: " in said
    assert "did not take the release, 4 times: HTTP 500" in said
    assert "failed=0" in said
    assert len(hook.got) == 4
