# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's Gitea as its administrator sees it, and repositories in it that are a test's own."""

from __future__ import annotations

import json
import secrets
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

URL = "http://192.168.2.2:30300"
_FILE = Path(__file__).resolve().parents[2] / ".lab" / "gitea" / "token"
TOKEN = _FILE.read_text() if _FILE.exists() else ""


def api(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{URL}/api/v1{path}", method=method, headers=headers, data=data)
    with urllib.request.urlopen(request, timeout=20) as answer:
        text = answer.read()
    return json.loads(text) if text else None


@contextmanager
def own_repository() -> Iterator[str]:
    """A private repository with one commit on its branch main, gone afterwards; its full name."""
    name = f"test-{secrets.token_hex(4)}"
    api("POST", "/user/repos", {"name": name, "private": True, "auto_init": True, "default_branch": "main"})
    full = f"{api('GET', '/user')['login']}/{name}"
    try:
        yield full
    finally:
        api("DELETE", f"/repos/{full}")
