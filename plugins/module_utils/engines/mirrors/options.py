# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mirror of a registry, as the options say it: checked, and the same for both runtimes."""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

#: The registry that stands for every one without an entry of its own, in containerd's words.
DEFAULT = "_default"
#: What diffs show instead of a secret.
HIDDEN = "********"

_REGISTRY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](?::[0-9]{1,5})?")
# The one rewrite that a path in the endpoint can stand for: everything, with something in front.
_WHOLE = {"(.*)", "^(.*)", "(.*)$", "^(.*)$"}
_PREFIX = re.compile(r"([a-z0-9][a-z0-9._/-]*)/(?:\$1|\$\{1\})")


class MirrorError(ValueError):
    """Options, or a file of the node, that no mirror can be made of; the message names the part and what to do."""


class Rewrite(NamedTuple):
    """A regular expression over repositories, in Go's syntax, and what replaces it (``$1`` for a group)."""

    pattern: str
    replacement: str


class Mirror(NamedTuple):
    """The endpoints of a registry and how they are spoken to. None says: leave what is in the file."""

    registry: str
    endpoints: tuple[str, ...]
    server: str | None = None
    capabilities: tuple[str, ...] | None = None
    ca_path: str | None = None
    ca_content: str | None = None
    client_cert_path: str | None = None
    client_key_path: str | None = None
    skip_verify: bool | None = None
    username: str | None = None
    password: str | None = None
    rewrite: tuple[Rewrite, ...] = ()

    @property
    def basic(self) -> str | None:
        """User and password as HTTP's basic authentication has them, without the word Basic."""
        if self.username is None:
            return None
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @property
    def prefix(self) -> str | None:
        """What the rewrite puts in front of every repository; None without a rewrite. Raises MirrorError."""
        if not self.rewrite:
            return None
        match = _PREFIX.fullmatch(self.rewrite[0].replacement)
        if len(self.rewrite) > 1 or self.rewrite[0].pattern not in _WHOLE or match is None:
            raise MirrorError(
                f"The rewrite of {self.registry} cannot be said to containerd, which can only put a path in front of "
                "every repository: use one rewrite with pattern '^(.*)$' and replacement 'path/$1', or name the "
                "repositories in the registry as the images say"
            )
        return match[1]


def parse(options: Iterable[Mapping[str, Any]]) -> tuple[Mirror, ...]:
    """The mirrors that the option ``mirrors`` lists. Raises MirrorError that names the registry at fault."""
    mirrors: list[Mirror] = []
    for given in options:
        mirror = Mirror(
            registry=given["registry"],
            endpoints=tuple(endpoint.rstrip("/") for endpoint in given["endpoints"]),
            server=given["server"],
            capabilities=None if given["capabilities"] is None else tuple(given["capabilities"]),
            **{
                name: given[name]
                for name in (
                    "ca_path",
                    "ca_content",
                    "client_cert_path",
                    "client_key_path",
                    "skip_verify",
                    "username",
                    "password",
                )
            },
            rewrite=tuple(Rewrite(rule["pattern"], rule["replacement"]) for rule in given["rewrite"] or ()),
        )
        _check(mirror)
        if any(other.registry == mirror.registry for other in mirrors):
            raise MirrorError(f"The registry {mirror.registry} is listed twice: name all its endpoints in one entry")
        mirrors.append(mirror)
    return tuple(mirrors)


def address(endpoint: str) -> str:
    """The ``host:port`` of an endpoint, as k3s names it under ``configs``."""
    return urlsplit(endpoint).netloc


def _check(mirror: Mirror) -> None:
    where = f"the mirror of {mirror.registry}"
    if mirror.registry != DEFAULT and not _REGISTRY.fullmatch(mirror.registry):
        raise MirrorError(
            f"'{mirror.registry}' is no registry: give host or host:port as images name it, or {DEFAULT} for the others"
        )
    if not mirror.endpoints:
        raise MirrorError(f"{where} has no endpoints: name at least one URL")
    for url in (*mirror.endpoints, *([mirror.server] if mirror.server is not None else [])):
        _check_url(url, where)
    if len(set(mirror.endpoints)) < len(mirror.endpoints):
        raise MirrorError(f"{where} names an endpoint twice")
    if mirror.ca_content is not None and "-----BEGIN CERTIFICATE-----" not in mirror.ca_content:
        raise MirrorError(
            f"ca_content of {where} is no certificate in PEM: it has to begin -----BEGIN CERTIFICATE-----"
        )
    for name in ("ca_path", "client_cert_path", "client_key_path"):
        path = getattr(mirror, name)
        if path is not None and not posixpath.isabs(path):
            raise MirrorError(f"{name} of {where} is '{path}': give an absolute path on the node")
    for rule in mirror.rewrite:
        try:
            re.compile(rule.pattern)
        except re.error as error:
            raise MirrorError(f"The rewrite '{rule.pattern}' of {where} is no regular expression: {error}") from None
    if mirror.username is not None and ":" in mirror.username:
        raise MirrorError(f"The username of {where} has a colon, which basic authentication cannot carry")


def _check_url(url: str, where: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        parts, valid = SplitResult("", "", "", "", ""), False
    if parts.username is not None or parts.password is not None:
        raise MirrorError(f"A URL of {where} has credentials in it: give them as username and password")
    if not valid or parts.query or parts.fragment:
        raise MirrorError(f"'{url}' of {where} is no endpoint: give a URL such as http://192.168.2.2:5000")
