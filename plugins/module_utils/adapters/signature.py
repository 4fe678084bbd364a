# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SSH signatures of a bundle, made and checked by OpenSSH's own ssh-keygen (8.2 or later)."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatchcase

from ..errors import AirgapError

#: What a signature of this project is for; one that was made for something else (a Git commit, a file) does not count.
NAMESPACE = "lumen-airgap-bundle"
#: Bytes; what is larger is no signature.
SIGNATURE_LIMIT = 64 * 1024
#: Seconds. A key on a hardware token waits for a finger.
DEADLINE = 60.0


class SignatureError(AirgapError):
    """There is no signature that counts, or none could be made."""


def sign(body: bytes, key: str, program: str = "ssh-keygen", deadline: float = DEADLINE) -> bytes:
    """The armoured signature of ``body`` by a private key file, or by the agent for the public key file ``key``."""
    if not os.path.isfile(key):
        raise SignatureError(f"there is no signing key at {key}: ssh-keygen -t ed25519 -f {key} makes one")
    # ssh-keygen says of such a file that it found no private key.
    if not os.access(key, os.R_OK):
        raise SignatureError(f"the signing key {key} cannot be read by this user: build as its owner")
    done = _run([program, "-Y", "sign", "-q", "-f", key, "-n", NAMESPACE], body, deadline)
    if done.returncode != 0 or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise SignatureError(
            f"{key} made no signature: {_said(done)}. A key with a passphrase has to be in the agent (ssh-add), "
            "and its public key file named instead"
        )
    return done.stdout


def verify(
    body: bytes,
    signature: bytes,
    allowed_signers: str,
    what: str,
    signer: str = "*",
    program: str = "ssh-keygen",
    deadline: float = DEADLINE,
) -> str:
    """Check that ``signature`` of ``body`` was made by an allowed signer, and return who that is.

    ``allowed_signers`` is the path of such a file (``ssh-keygen(1)``, ALLOWED SIGNERS) or its content; ``signer`` a
    pattern (``*`` and ``?``) that the principal has to match; ``what`` names the signed file in errors.
    Raises SignatureError.
    """
    with tempfile.TemporaryDirectory(prefix="lumen-airgap-") as directory:
        allowed = _allowed(allowed_signers, directory)
        file = os.path.join(directory, "signature")
        with open(file, "wb") as handle:
            handle.write(signature)
        found = _run([program, "-Y", "find-principals", "-f", allowed, "-s", file], b"", deadline)
        principals = found.stdout.decode(errors="replace").split("\n") if found.returncode == 0 else []
        known = [principal for principal in principals if principal]
        if not known:
            raise SignatureError(
                f"the signature of {what} is by a key that is not among the allowed signers, or it is damaged: "
                f"{_said(found)}. Was the bundle built with another key? Nothing of it was used"
            )
        accepted = [principal for principal in known if fnmatchcase(principal, signer)]
        if not accepted:
            raise SignatureError(
                f"{what} is signed by {', '.join(known)}, an allowed signer, but {signer} is wanted here"
            )
        check = [program, "-Y", "verify", "-f", allowed, "-n", NAMESPACE, "-s", file, "-I"]
        for principal in accepted:
            done = _run([*check, principal], body, deadline)
            if done.returncode == 0:
                return principal
    raise SignatureError(
        f"the signature of {what} is wrong: {_said(done)}. It was changed after {accepted[0]} signed it, "
        f"or signed for something else than {NAMESPACE}. Nothing of it was used"
    )


def _allowed(given: str, directory: str) -> str:
    """The path of the allowed signers file; a text that is no path is written to one."""
    if given.startswith(("/", "~", ".")):
        path = os.path.expanduser(given)
        if not os.path.isfile(path):
            raise SignatureError(f"there is no allowed signers file at {path}: without it no signature counts")
        return path
    if " " not in given:
        raise SignatureError(
            f"{given!r} is neither the path of an allowed signers file (absolute, or beginning with ~ or .) "
            "nor its content (a line is: name, type of key, key)"
        )
    path = os.path.join(directory, "allowed_signers")
    with open(path, "w", encoding="utf-8") as file:
        file.write(given if given.endswith("\n") else given + "\n")
    return path


def _run(argv: Sequence[str], given: bytes, deadline: float) -> subprocess.CompletedProcess[bytes]:
    try:
        # Away from the terminal: nobody is there to answer a question.
        return subprocess.run(
            argv, input=given, capture_output=True, timeout=deadline, start_new_session=True, check=False
        )
    except FileNotFoundError:
        raise SignatureError(
            f"{argv[0]} is not installed here, so no signature can be made or checked: "
            "install Debian's package openssh-client"
        ) from None
    except subprocess.TimeoutExpired:
        raise SignatureError(f"{argv[0]} {argv[1]} {argv[2]} did not answer within {deadline:.0f} s") from None


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    text = (done.stderr or done.stdout).decode(errors="replace").strip()
    return " ".join(text.split()).rstrip(".") or f"ssh-keygen ended with {done.returncode}"
