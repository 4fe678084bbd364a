# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""git and the certificates of an HTTPS server on loopback that has no repository."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import git
from ansible_collections.lumen.airgap.tests.unit.fakes import certificates

Serve = Callable[..., tuple[str, str]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a server with a certificate for a name, valid for some days; its URL and the certificate's file."""
    with ExitStack() as stack:

        def start(name: str, days: int = 1) -> tuple[str, str]:
            files = certificates.make(tmp_path / "tls", name, days)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files.certificate, files.key)
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            threading.Thread(target=answer, args=[listener, context], daemon=True).start()
            return f"https://localhost:{listener.getsockname()[1]}/x.git", files.certificate

        yield start


def answer(listener: socket.socket, context: ssl.SSLContext) -> None:
    """404 to whoever comes, until the listener is closed."""
    while True:
        try:
            connection = listener.accept()[0]
        except OSError:
            return
        try:
            with context.wrap_socket(connection, server_side=True) as stream:
                stream.recv(65536)
                stream.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        except OSError:  # whoever came does not trust us
            connection.close()


def fetch(directory: Path, remote: git.Remote) -> None:
    directory.mkdir()
    git.Repository(str(directory), remote, 30.0).fetch("main")


def test_a_certificate_that_nobody_signed(serve: Serve, tmp_path: Path) -> None:
    url, ca = serve("localhost")
    with pytest.raises(git.CertificateRefused, match="give the CA that signed it"):
        fetch(tmp_path / "unknown", git.Remote(url))
    # The same server with its certificate known, and not looked at: it has no repository.
    with pytest.raises(git.RepositoryMissing):
        fetch(tmp_path / "known", git.Remote(url, ca_path=ca))
    with pytest.raises(git.RepositoryMissing):
        fetch(tmp_path / "blind", git.Remote(url, validate_certs=False))


@pytest.mark.parametrize(("name", "days"), [("elsewhere", 1), ("localhost", -1)])
def test_a_certificate_of_somebody_else_or_of_yesterday(name: str, days: int, serve: Serve, tmp_path: Path) -> None:
    url, ca = serve(name, days)
    with pytest.raises(git.CertificateRefused):
        fetch(tmp_path / "run", git.Remote(url, ca_path=ca))
