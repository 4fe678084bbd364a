# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands as argv lists, each with a deadline, and files of the host."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from .report import LabError

_running: set[subprocess.Popen[str]] = set()
_running_lock = threading.Lock()


def run(
    argv: Sequence[str],
    *,
    timeout: float = 60,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a command and return its standard output; LabError with the last lines of both streams when it fails."""
    done = attempt(argv, timeout=timeout, stdin=stdin, env=env, cwd=cwd)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + "\n" + done.stderr).strip().splitlines()[-15:])
        raise LabError(f"`{' '.join(argv)}` exited {done.returncode}:\n{tail}")
    return done.stdout


def attempt(
    argv: Sequence[str],
    *,
    timeout: float = 60,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command whose failure is an answer too."""
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, **env} if env else None,
            cwd=cwd,
        )
    except FileNotFoundError as error:
        raise LabError(f"`{argv[0]}` is not there; `make lab` installs what the lab needs") from error
    with _running_lock:
        _running.add(process)
    try:
        stdout, stderr = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{' '.join(argv)}` did not end within {timeout:.0f} s") from error
    finally:
        with _running_lock:
            _running.discard(process)
        _end(process)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def end_all() -> None:
    """End the commands that other threads are running: a terminated driver leaves no build behind."""
    with _running_lock:
        processes = list(_running)
    for process in processes:
        process.terminate()


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()


def write_atomically(path: Path, data: str, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    # Made with its mode: a secret is never readable for others, not even for a moment.
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as handle:
        handle.write(data)
    draft.chmod(mode)  # what the umask took away
    draft.replace(path)
