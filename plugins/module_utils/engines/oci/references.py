# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Image references: parsing and validation by the grammar of the distribution project (reference/regexp.go)."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_DOMAIN}(?:\.{_DOMAIN})*|\[[0-9A-Fa-f:]+\])(?::(?P<port>[0-9]+))?")
_NUMBER = r"(?:0|[1-9][0-9]*)"
_RELEASE = re.compile(rf"v?{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-[0-9A-Za-z.-]+)?")
_REPOSITORY_LIMIT = 255


class InvalidReferenceError(ValueError):
    """A reference, or a part of one, that no registry accepts."""


class Reference(NamedTuple):
    """``host/repository:tag@digest``; what the text did not say is None."""

    host: str | None
    repository: str
    tag: str | None
    digest: str | None

    def __str__(self) -> str:
        host = f"{self.host}/" if self.host else ""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{host}{self.repository}{tag}{digest}"


def parse(text: str) -> Reference:
    """Parse a reference as Docker does: the first component is a host when it has a dot, a colon or is localhost.

    Unlike Docker's command line it adds nothing: no docker.io, no library/, no :latest.
    Raises InvalidReferenceError that names the part at fault.
    """
    rest, at, digest = text.partition("@")
    if at:
        check_digest(digest)
    host, rest = _split_host(rest)
    repository, tag = _split_tag(rest)
    if host is not None:
        check_host(host)
    check_repository(repository)
    if tag is not None:
        check_tag(tag)
    return Reference(host, repository, tag, digest if at else None)


def check_host(host: str) -> str:
    """Return ``host[:port]`` as it is, or raise InvalidReferenceError."""
    match = _HOST.fullmatch(host)
    if match is None or (match["port"] is not None and not 0 < int(match["port"]) < 65536):
        raise InvalidReferenceError(f"'{host}' is no address of a registry: give host:port, without scheme or path")
    return host


def check_repository(repository: str) -> str:
    """Return the repository as it is, or raise InvalidReferenceError."""
    if not _REPOSITORY.fullmatch(repository) or len(repository) > _REPOSITORY_LIMIT:
        raise InvalidReferenceError(
            f"'{repository}' is not a repository: lower-case letters, digits and single separators . _ - "
            f"in components divided by /, at most {_REPOSITORY_LIMIT} characters"
        )
    return repository


def check_tag(tag: str) -> str:
    """Return the tag as it is, or raise InvalidReferenceError."""
    if not _TAG.fullmatch(tag):
        raise InvalidReferenceError(
            f"'{tag}' is not a tag: letters, digits, . _ and -, not starting with . or -, at most 128 characters"
        )
    return tag


def check_digest(digest: str) -> str:
    """Return the digest as it is, or raise InvalidReferenceError."""
    if not _DIGEST.fullmatch(digest):
        raise InvalidReferenceError(f"'{digest}' is not a digest: sha256: and 64, or sha512: and 128, hex digits")
    return digest


def is_release(tag: str) -> bool:
    """True for a semantic version (v1.2.3, 1.2.3, v1.2.3-rc.1): such a tag never moves to another digest."""
    return _RELEASE.fullmatch(tag) is not None


def precedence(tag: str) -> tuple[Any, ...]:
    """A key that sorts semantic versions as their specification does: a pre-release comes before its release."""
    core, dash, pre = tag[1:].partition("-") if tag.startswith("v") else tag.partition("-")
    numbers = tuple(int(number) for number in core.split("."))
    # Numeric identifiers come before the others, and fewer before more.
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in pre.split("."))
    return (*numbers, not dash, parts)


def _split_host(text: str) -> tuple[str | None, str]:
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return None, text


def _split_tag(text: str) -> tuple[str, str | None]:
    repository, colon, tag = text.rpartition(":")
    return (repository, tag) if colon else (text, None)
