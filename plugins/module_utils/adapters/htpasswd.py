# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The users of a registry as a file of bcrypt hashes (htpasswd), the one form that the registry takes."""

from __future__ import annotations

import functools
import re
import traceback
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..errors import AirgapError

try:
    import bcrypt
except ImportError:
    BCRYPT_TRACEBACK: str | None = traceback.format_exc()
else:
    BCRYPT_TRACEBACK = None

# The registry hashes the password of every request again: 2^10 rounds are some 50 ms of CPU time, 2^12 four times that.
ROUNDS = 10
# bcrypt does not look at more of a password.
PASSWORD_LIMIT = 72
_NAME = re.compile(r"[^\s:#][^\s:]*")


class User(NamedTuple):
    """A name and its password."""

    name: str
    password: str


def check(users: Iterable[User]) -> None:
    """Refuse what the file cannot hold. Raises AirgapError that names the user."""
    seen = set()
    for user in users:
        if not _NAME.fullmatch(user.name):
            raise AirgapError(
                f"The option users has the name {user.name!r}: a name has no colon and no space, and no # at its start"
            )
        if user.name in seen:
            raise AirgapError(f"The option users names {user.name} twice: which password is it to be?")
        seen.add(user.name)
        length = len(user.password.encode())
        if not 0 < length <= PASSWORD_LIMIT or "\0" in user.password:
            raise AirgapError(
                f"The password of the user {user.name} has to have from 1 to {PASSWORD_LIMIT} bytes, none of them zero"
            )


def parse(text: str) -> dict[str, str]:
    """Names and hashes, read as the registry does; a line that is none is left out."""
    lines = (line.strip() for line in text.splitlines())
    entries = (line.partition(":") for line in lines if not line.startswith("#"))
    return {name: digest for name, colon, digest in entries if colon}


@functools.cache  # it is slow on purpose, and asked more than once in a run
def matches(digest: str, password: str) -> bool:
    """Whether a hash is one of this password."""
    try:
        return bcrypt.checkpw(password.encode(), digest.encode())
    except ValueError:
        return False  # a hash of another kind, which the registry takes as little as we do


def render(users: Iterable[User], known: Mapping[str, str]) -> str:
    """The file's text, with the hashes of ``known`` (name → hash) where they are given."""
    return "".join(f"{user.name}:{known.get(user.name) or _digest(user.password)}\n" for user in users)


def _digest(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode()
