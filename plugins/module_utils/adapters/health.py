# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the registry of this machine answers: one request to the loopback address.

Not the client of ``adapters.registry``: that one speaks to a registry by its name and with a user of it, and tries
again by itself. Here the address is always 127.0.0.1, which no certificate has to name, users may be unknown to
whoever runs the node, and the one that waits counts the attempts.
"""

from __future__ import annotations

import http.client
import ssl

from ..errors import AirgapError

SECONDS = 2.0
_ADDRESS = "127.0.0.1"


class HealthError(AirgapError):
    """The registry does not answer, or something else does."""


def ask(port: int, context: ssl.SSLContext | None, users: bool) -> None:
    """Ask /v2/, over TLS when there is a ``context``. Raises HealthError that says what came instead.

    A registry with ``users`` has to ask for a name and a password, and one without must not.
    """
    url = f"{'https' if context else 'http'}://{_ADDRESS}:{port}/v2/"
    connection = (
        http.client.HTTPSConnection(_ADDRESS, port, timeout=SECONDS, context=context)
        if context
        else http.client.HTTPConnection(_ADDRESS, port, timeout=SECONDS)
    )
    try:
        connection.request("GET", "/v2/")
        answer = connection.getresponse()
    except ssl.SSLCertVerificationError as error:
        raise HealthError(
            f"{url} does not have the certificate that it was given ({error.verify_message}): something else answers"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise HealthError(f"{url} cannot be reached: {getattr(error, 'strerror', None) or error}") from error
    finally:
        connection.close()
    challenge = answer.headers.get("WWW-Authenticate", "")
    if users and answer.status == 200:
        raise HealthError(f"{url} lets everybody in, although there are users")
    if answer.status != (401 if users else 200) or (users and not challenge.startswith("Basic ")):
        raise HealthError(f"{url} answered HTTP {answer.status} {answer.reason}")
