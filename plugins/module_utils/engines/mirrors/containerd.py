# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""containerd: ``certs.d/<registry>/hosts.toml``, read at each pull, and ``config_path`` in its config.toml.

Documents go in and come out as text, so that comments and what others wrote stay as they are.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, MutableMapping
from typing import Any

from .options import HIDDEN, Mirror, MirrorError, address

TOMLKIT_IMPORT_ERROR: ImportError | None
try:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError
except ImportError as error:
    TOMLKIT_IMPORT_ERROR = error
else:
    TOMLKIT_IMPORT_ERROR = None

HOSTS = "hosts.toml"
CA_NAME = "lumen-airgap-ca.pem"
# What a mirror may do unless told: pushes go where the image's name says.
CAPABILITIES = ("pull", "resolve")
# The CRI plugin by the version of config.toml: containerd 1.0's names, 1.3's, and 2.0's.
_SECTIONS = {1: "cri", 2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.images"}
_TABLE = MutableMapping


def directories(registry: str) -> tuple[str, ...]:
    """Names under certs.d in which containerd looks for a registry, the one that wins first."""
    host, colon, port = registry.rpartition(":")
    return (f"{host}_{port}_", registry) if colon and host else (registry,)


def merge(text: str | None, mirror: Mirror, ca_path: str | None, path: str) -> str:
    """The hosts.toml ``text`` (None: there is no file) with the mirror's endpoints.

    Endpoints of others stay and keep their place; an endpoint of ours gets what the options give, and keeps the rest.
    ``ca_path`` is the CA's file on the node, if any. Raises MirrorError that names ``path``.
    """
    document = _parse(text, path)
    server = mirror.server or next((url for url in mirror.endpoints if address(url) == mirror.registry), None)
    if server is not None and (mirror.server or "server" not in document):
        _set_server(document, server)
    hosts = _table(document, "host", path)
    for endpoint in mirror.endpoints:
        url = _url(endpoint, mirror)
        key = _key(hosts, url) or url
        if key not in hosts:
            hosts[key] = _new_host(mirror)
        _fill(hosts[key], mirror, ca_path)
    return _text(document)


def remove(text: str, mirror: Mirror, path: str) -> str | None:
    """The hosts.toml ``text`` without the mirror's endpoints; None when nothing is left that means anything."""
    document = _parse(text, path)
    hosts = _table(document, "host", path)
    ours = [key for key in (_key(hosts, _url(endpoint, mirror)) for endpoint in mirror.endpoints) if key]
    for key in ours:
        del hosts[key]
    servers = {mirror.server, *mirror.endpoints}
    if not hosts and set(document) <= {"server", "host"} and document.get("server") in {None, *servers}:
        return None
    if not hosts and ours:
        del document["host"]
    return _text(document) if ours else text


def configure(text: str | None, certs_path: str, path: str) -> str:
    """The config.toml ``text`` with ``config_path`` set; the same text when it is set already.

    Raises MirrorError when it names another directory, or beside what containerd refuses with it.
    """
    document = _parse(text, path)
    if text is None:
        document["version"] = 2
    version = document.get("version", 1)
    if version not in _SECTIONS:
        raise MirrorError(f"{path} has version {version}, and only 1 to 3 are known: set config_path there yourself")
    plugins = document.get("plugins", {})
    for name in _SECTIONS.values():
        _refuse_conflicts(plugins.get(name, {}).get("registry", {}), name, path)
    name = _SECTIONS[version]
    if version == 3 and name not in plugins and _SECTIONS[2] in plugins:
        # containerd 2 reads the old section of a file of version 3 no more.
        raise MirrorError(f'{path} has version 3 and the section "{_SECTIONS[2]}" of version 2: migrate it first')
    set_to = plugins.get(name, {}).get("registry", {}).get("config_path")
    if set_to:
        if posixpath.normpath(certs_path) not in {posixpath.normpath(entry) for entry in set_to.split(":") if entry}:
            raise MirrorError(
                f"{path} has containerd look for mirrors in {set_to}, not in {certs_path}: give that as certs_path"
            )
        return _text(document)
    registry = document
    for part in ("plugins", name, "registry"):
        registry = _section(registry, part, leaf=part == "registry")
    registry["config_path"] = certs_path
    return _text(document)


def redact(text: str | None) -> str:
    """``text`` as a diff may show it: headers and credentials hidden. The text is known to be TOML."""
    if not text:
        return ""
    document = tomlkit.parse(text)
    _hide(document, lambda parents, key: "header" in parents or "headers" in parents or _is_credential(parents, key))
    return _text(document)


def has_secrets(text: str) -> bool:
    """Whether the text has something that ``redact`` hides."""
    return redact(text) != _text(tomlkit.parse(text))


def _is_credential(parents: tuple[str, ...], key: str) -> bool:
    return bool({"auth", "auths"} & set(parents)) and key in ("password", "auth", "identitytoken")


def _hide(table: Any, secret: Callable[[tuple[str, ...], str], bool], parents: tuple[str, ...] = ()) -> None:
    for key in list(table):
        if isinstance(table[key], MutableMapping):
            _hide(table[key], secret, (*parents, key))
        elif secret(parents, key):
            table[key] = HIDDEN


def _parse(text: str | None, path: str) -> Any:
    try:
        return tomlkit.parse(text or "")
    except TOMLKitError as error:
        raise MirrorError(f"{path} is not TOML, and nothing was changed: {error}. Mend or remove it") from None


def _text(document: Any) -> str:
    text: str = tomlkit.dumps(document)
    return text


def _table(document: Any, key: str, path: str) -> Any:
    if key not in document:
        document[key] = tomlkit.table(is_super_table=True)
    if not isinstance(document[key], MutableMapping):
        raise MirrorError(f"{path} has a '{key}' that is no table: mend or remove it")
    return document[key]


def _section(table: Any, key: str, leaf: bool) -> Any:
    if key not in table:
        table[key] = tomlkit.table(is_super_table=not leaf)
    return table[key]


def _set_server(document: Any, server: str) -> None:
    if "server" in document:
        if document["server"] != server:
            document["server"] = server
        return
    # Behind a table it would be a key of that table. tomlkit puts a plain key in front of the tables.
    document.add("server", server)


def _url(endpoint: str, mirror: Mirror) -> str:
    prefix = mirror.prefix
    return f"{endpoint.removesuffix('/v2')}/v2/{prefix}" if prefix else endpoint


def _key(hosts: Any, url: str) -> str | None:
    return next((key for key in hosts if key.rstrip("/") == url), None)


def _new_host(mirror: Mirror) -> Any:
    host = tomlkit.table()
    host["capabilities"] = list(mirror.capabilities or CAPABILITIES)
    return host


def _fill(host: Any, mirror: Mirror, ca_path: str | None) -> None:
    client: Any = None
    if mirror.client_cert_path:
        client = [[mirror.client_cert_path, mirror.client_key_path]]
    wanted = {
        "capabilities": None if mirror.capabilities is None else list(mirror.capabilities),
        "ca": ca_path,
        "client": client,
        "skip_verify": mirror.skip_verify,
        "override_path": True if mirror.prefix else None,
    }
    for key, value in wanted.items():
        if value is not None and host.get(key) != value:
            host[key] = value
    if mirror.basic is not None:
        if "header" not in host:
            host["header"] = tomlkit.table()
        header = host["header"]
        value = f"Basic {mirror.basic}"
        if header.get("Authorization") not in (value, [value]):
            header["Authorization"] = value


def _refuse_conflicts(registry: Any, section: str, path: str) -> None:
    """What containerd's CRI plugin does not start with once config_path is set."""
    configs = registry.get("configs", {})
    tls = [host for host, config in configs.items() if "tls" in config]
    for key, found in (("mirrors", list(registry.get("mirrors", {}))), ("configs", tls)):
        if found:
            what = "mirrors" if key == "mirrors" else "configs with tls"
            raise MirrorError(
                f'{path} has {what} of {", ".join(found)} under [plugins."{section}".registry], and containerd\'s CRI '
                "plugin does not start with these beside config_path. Give them here as mirrors, take them out of "
                "that file, and run this again"
            )
