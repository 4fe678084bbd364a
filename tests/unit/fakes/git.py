# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bare repository in a directory, and somebody who works in a clone of it with the program git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_{what}": f"{role}@x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


class Origin:
    """``files`` are the first commit of its branch main."""

    def __init__(self, directory: Path, files: dict[str, str]) -> None:
        self.path = directory / "origin.git"
        self._clone = directory / "clone"
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.path), at=directory)
        self.git("clone", "--quiet", str(self.path), str(self._clone), at=directory)
        self.push(files, "first")

    @property
    def url(self) -> str:
        return f"file://{self.path}"

    def git(self, *arguments: str, at: Path | None = None) -> str:
        argv = ["git", "-C", str(at or self._clone), *arguments]
        return subprocess.run(argv, env=_ENVIRONMENT, check=True, capture_output=True, text=True).stdout.strip()

    def push(self, files: dict[str, str], message: str) -> str:
        """Somebody's commit; returns its name."""
        if self.git("for-each-ref", at=self.path):
            self.git("fetch", "--quiet", "origin")
            self.git("reset", "--quiet", "--hard", "origin/main")
        for name, text in files.items():
            (self._clone / name).parent.mkdir(parents=True, exist_ok=True)
            (self._clone / name).write_bytes(text.encode())
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("push", "--quiet", "origin", "HEAD:main")
        return self.head

    def merge(self, theirs: list[dict[str, str]], ours: dict[str, str], both: dict[str, str] | None = None) -> str:
        """Commits of two sides, and their merge, with ``both`` changed in it. Returns the merge's name."""
        base = self.head
        for files in theirs:
            self.push(files, "on a side branch")
        side = self.head
        self.git("reset", "--quiet", "--hard", base)
        self.git("push", "--quiet", "--force", "origin", "HEAD:main")
        self.push(ours, "meanwhile on main")
        self.git("merge", "--quiet", "--no-ff", "--no-commit", side)
        for name, text in (both or {}).items():
            (self._clone / name).write_bytes(text.encode())
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "merge")
        self.git("push", "--quiet", "origin", "HEAD:main")
        return self.head

    @property
    def head(self) -> str:
        return self.git("rev-parse", "main", at=self.path)

    def text(self, path: str, commit: str = "main") -> str:
        argv = ["git", "-C", str(self.path), "cat-file", "blob", f"{commit}:{path}"]
        return subprocess.run(argv, env=_ENVIRONMENT, check=True, capture_output=True).stdout.decode()

    def message(self, commit: str = "main") -> str:
        return self.git("log", "-1", "--format=%B", commit, at=self.path)

    def hook(self, name: str, script: str) -> None:
        """A hook of the server."""
        file = self.path / "hooks" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
