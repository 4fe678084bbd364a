# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A way to the API server that can be cut: a port on loopback whose bytes go to the server and back."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import yaml

_PIECE = 65536


class Way:
    """While it is ``open``; a context manager, which ends it."""

    def __init__(self, kubeconfig: Path, directory: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        server = urlsplit(cluster["server"])
        self._target = (str(server.hostname), server.port or 443)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self.open = True
        port = self._listener.getsockname()[1]
        cluster.update(server=f"https://127.0.0.1:{port}", **{"tls-server-name": self._target[0]})
        self.kubeconfig = directory / "kubeconfig"
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(yaml.safe_dump(config))
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Way:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.cut()
        self._listener.close()

    def cut(self) -> None:
        """Everything that is on its way is lost, and whoever comes is sent away."""
        with self._lock:
            self.open = False
            for end in (end for pair in self._pairs for end in pair):
                _close(end)
            self._pairs.clear()

    def mend(self) -> None:
        """Let traffic through again."""
        self.open = True

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            with self._lock:
                if not self.open:
                    _close(near)
                    continue
                far = socket.create_connection(self._target, timeout=10)
                far.settimeout(None)
                self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=[source, sink], daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while piece := source.recv(_PIECE):
            sink.sendall(piece)
    except OSError:
        pass
    _close(source)
    _close(sink)


def _close(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()
