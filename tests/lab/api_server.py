# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's own API server as plain processes on loopback, with an empty etcd behind it.

For faults that nobody wants on a cluster that others use, and for what an empty cluster says. No controller runs: what
is created stays as it was created.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))

DEADLINE = 60.0  # seconds from the start until it is ready
_TOKENS = {"admin": "token-of-admin", "nobody": "token-of-nobody"}


class ApiServer:
    """``start`` after ``stop`` finds what was stored. Its users are ``admin`` and ``nobody``, who has no rights."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ports = _free_ports(3)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.url = f"https://127.0.0.1:{self._ports[0]}"
        (path / "tokens.csv").write_text(
            f"{_TOKENS['admin']},admin,1,system:masters\n{_TOKENS['nobody']},nobody,2\n", encoding="ascii"
        )
        key = ["openssl", "genrsa", "-out", str(path / "accounts.key"), "2048"]
        subprocess.run(key, check=True, capture_output=True, timeout=30)

    def kubeconfig(self, user: str = "admin") -> Path:
        """The kubeconfig of a user; the certificate that the server made for itself is its own CA."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "loopback",
                    "cluster": {"server": self.url, "certificate-authority": str(self._path / "apiserver.crt")},
                }
            ],
            "users": [{"name": user, "user": {"token": _TOKENS[user]}}],
            "contexts": [{"name": user, "context": {"cluster": "loopback", "user": user}}],
            "current-context": user,
        }
        path = self._path / f"kubeconfig-{user}"
        path.write_text(json.dumps(document), encoding="ascii")  # which is YAML
        path.chmod(0o600)
        return path

    def start(self) -> None:
        etcd, peer = (f"http://127.0.0.1:{port}" for port in self._ports[1:])
        self._run(
            "etcd",
            f"--data-dir={self._path / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            "--unsafe-no-fsync",
        )
        self._run(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--secure-port={self._ports[0]}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={self._path}",
            f"--token-auth-file={self._path / 'tokens.csv'}",
            f"--service-account-key-file={self._path / 'accounts.key'}",
            f"--service-account-signing-key-file={self._path / 'accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.43.0.0/16",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
        )
        end = time.monotonic() + DEADLINE
        while not self._ready():
            for process in self._processes:
                assert process.poll() is None, f"{process.args!r} ended by itself: see {self._path}"
            assert time.monotonic() < end, f"the API server is not ready on {self.url}: see {self._path}"
            time.sleep(0.2)

    def stop(self) -> None:
        """End both as a power cut would."""
        for process in reversed(self._processes):
            process.kill()
            process.wait(10)
        self._processes.clear()

    def _run(self, name: str, *words: str) -> None:
        from driver import build

        row = next(row for row in build.PROGRAMS if row.name == name)
        program = build._folder(row) / name
        if not program.exists():
            raise FileNotFoundError(f"{program} is not built: `make lab` builds it")
        with (self._path / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([str(program), *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._processes.append(process)

    def _ready(self) -> bool:
        import ssl

        certificate = self._path / "apiserver.crt"
        if not certificate.exists():
            return False
        request = urllib.request.Request(f"{self.url}/readyz", headers={"Authorization": f"Bearer {_TOKENS['admin']}"})
        try:
            context = ssl.create_default_context(cafile=str(certificate))
            with urllib.request.urlopen(request, timeout=2, context=context) as answer:
                return bool(answer.status == 200)
        except (OSError, ssl.SSLError):
            return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _number in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
