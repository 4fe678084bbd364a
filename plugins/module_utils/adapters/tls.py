# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server's certificate and key, as files of this machine, with the standard library alone."""

from __future__ import annotations

import re
import ssl

from ..errors import AirgapError

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# ssl.VERIFY_X509_PARTIAL_CHAIN has its name since Python 3.10, OpenSSL has the flag for longer.
_PARTIAL_CHAIN = ssl.VerifyFlags(0x80000)


class CertificateError(AirgapError):
    """A certificate or its key is not what a server can use."""


def client_context(certificate: str) -> ssl.SSLContext:
    """What a client trusts that knows the server's certificate itself (a path; the first one in the file).

    The server has to have this certificate and its key, and the certificate has to be valid now. The name in it and
    who signed it do not matter: they are for clients that know less.
    """
    try:
        with open(certificate, encoding="ascii") as file:
            leaf = _PEM.search(file.read())
        if leaf is None:
            raise CertificateError(f"{certificate} holds no certificate in PEM form")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= _PARTIAL_CHAIN
        context.load_verify_locations(cadata=leaf.group())
    except ssl.SSLError as error:
        raise CertificateError(f"{certificate} holds no certificate that can be read: {_words(error)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CertificateError(f"the certificate {certificate} cannot be read: {error}") from error
    return context


def check_pair(certificate: str, key: str) -> None:
    """Make sure that a server can use them (paths): they belong together, need no passphrase, and are valid now.

    Raises CertificateError.
    """
    client = client_context(certificate)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def passphrase() -> str:
        raise CertificateError(f"the key {key} is encrypted, and the registry has no passphrase for it")

    try:
        server.load_cert_chain(certificate, key, passphrase)
    except ssl.SSLError as error:
        raise CertificateError(
            f"the certificate {certificate} and the key {key} do not belong together, or one of them is damaged: "
            f"{_words(error)}"
        ) from error
    except OSError as error:
        raise CertificateError(f"the key {key} cannot be read: {error.strerror}") from error
    try:
        _handshake(server, client)
    except ssl.SSLError as error:
        raise CertificateError(f"no client would take the certificate {certificate}: {_words(error)}") from error


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Let the two meet in memory: OpenSSL has no other way to check a certificate that Python can reach."""
    upwards, downwards = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(downwards, upwards), server.wrap_bio(upwards, downwards, server_side=True)]
    for _turn in range(10):  # a few suffice, and one that fails says so
        for side in tuple(sides):
            try:
                side.do_handshake()
                sides.remove(side)
            except ssl.SSLWantReadError:
                pass


def _words(error: ssl.SSLError) -> str:
    """``certificate has expired`` rather than OpenSSL's whole line, where there are such words."""
    return str(getattr(error, "verify_message", "") or error.reason or error).replace("_", " ").lower()
