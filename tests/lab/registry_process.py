# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's own registry program as a plain process on loopback, for tests and benchmarks that need a real one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))

DEADLINE = 20.0  # seconds from the start to the first connection


class RegistryProcess:
    """A registry that keeps its storage under ``path``: ``start`` after ``stop`` finds what was stored.

    ``http`` is added to that part of its configuration; ``auth`` is the part of that name.
    """

    def __init__(self, path: Path, auth: dict[str, Any] | None = None, **http: Any) -> None:
        from driver import build

        row = next(row for row in build.PROGRAMS if row.name == "registry")
        self._program = build._folder(row) / "registry"
        if not self._program.exists():
            raise FileNotFoundError(f"{self._program} is not built: `make lab` builds it")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self.host = f"127.0.0.1:{self._port}"
        self.storage = path / "storage"
        self._config = path / "config.yml"
        settings = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "cache": {"blobdescriptor": "inmemory"},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.host, **http},
            **({"auth": auth} if auth else {}),
        }
        self._config.write_text(json.dumps(settings))  # which is YAML
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [str(self._program), "serve", str(self._config)],
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + DEADLINE
        while not self._listens():
            assert self._process.poll() is None, "the registry ended by itself"
            assert time.monotonic() < end, f"the registry does not listen on {self.host}"
            time.sleep(0.05)

    def stop(self) -> None:
        """As a power cut would: nothing is finished."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
            return True
        return False
