# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""k3s: ``registries.yaml``, read when k3s or k3s-agent starts.

Documents go in and come out as text, so that comments and what others wrote stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from .options import DEFAULT, HIDDEN, Mirror, MirrorError, address

RUAMEL_IMPORT_ERROR: ImportError | None
try:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
except ImportError as error:
    RUAMEL_IMPORT_ERROR = error
else:
    RUAMEL_IMPORT_ERROR = None

_SECRETS = ("password", "auth", "identity_token")


def merge(text: str | None, mirrors: tuple[Mirror, ...], ca_paths: Mapping[str, str], path: str) -> str:
    """The registries.yaml ``text`` (None: there is no file) with the mirrors.

    ``ca_paths`` has the CA's file on the node by registry. Endpoints of others stay and keep their place.
    Raises MirrorError that names ``path``, or the endpoint that two mirrors speak to in two ways.
    """
    document = _parse(text, path)
    before = _plain(document)
    _refuse_contradictions(mirrors, ca_paths)
    for mirror in mirrors:
        _merge_mirror(document, mirror, path)
        for host in sorted({address(endpoint) for endpoint in mirror.endpoints}):
            wanted = _config(mirror, ca_paths.get(mirror.registry))
            if wanted:
                config = _child(_child(document, "configs", path), host, path)
                for section, values in wanted.items():
                    _child(config, section, path).update(values)
    if text is not None and _plain(document) == before:
        return text
    # A file of comments alone is no document, and they would be lost.
    comments = text.rstrip("\n") + "\n" if text and text.strip() and not before else ""
    return (comments if comments.lstrip().startswith("#") else "") + _text(document)


def remove(text: str, mirrors: tuple[Mirror, ...], path: str) -> str | None:
    """The text without the mirrors' endpoints and, when nobody else uses these, how they are spoken to.

    None when nothing is left.
    """
    document = _parse(text, path)
    before = _plain(document)
    entries = document.get("mirrors") or {}
    gone: set[str] = set()
    for mirror in mirrors:
        entry = entries.get(_name(mirror))
        if entry is None:
            continue
        stays = [url for url in entry.get("endpoint") or [] if url.rstrip("/") not in mirror.endpoints]
        if len(stays) == len(entry.get("endpoint") or []):
            continue
        gone.update(address(endpoint) for endpoint in mirror.endpoints)
        if stays:
            entry["endpoint"][:] = stays
        else:
            del entries[_name(mirror)]
    used = {address(url) for entry in entries.values() for url in (entry or {}).get("endpoint") or []}
    configs = document.get("configs") or {}
    for host in gone - used:
        configs.pop(host, None)
    if _plain(document) == before:
        return text
    for section in ("mirrors", "configs"):
        if section in document and not document[section]:
            del document[section]
    return _text(document) if document else None


def redact(text: str | None) -> str:
    """``text`` as a diff may show it: passwords and tokens hidden. The text is known to be YAML."""
    if not text:
        return ""
    document = _parse(text, "registries.yaml")
    return _text(document) if _hide(document) else text


def has_secrets(text: str) -> bool:
    """Whether the text has something that ``redact`` hides."""
    return _hide(_parse(text, "registries.yaml"))


def _hide(document: Any) -> bool:
    entries = [(config or {}).get("auth") for config in (document.get("configs") or {}).values()]
    entries += (document.get("auths") or {}).values()
    found = False
    for entry in entries:
        for key in _SECRETS:
            if entry and entry.get(key):
                entry[key] = HIDDEN
                found = True
    return found


def _merge_mirror(document: Any, mirror: Mirror, path: str) -> None:
    entry = _child(_child(document, "mirrors", path), _name(mirror), path)
    endpoints = entry.get("endpoint")
    if endpoints is None:
        entry["endpoint"] = list(mirror.endpoints)
    else:
        there = {url.rstrip("/") for url in endpoints}
        endpoints.extend(url for url in mirror.endpoints if url not in there)
    if mirror.rewrite:
        _child(entry, "rewrite", path).update(dict(mirror.rewrite))


def _config(mirror: Mirror, ca_path: str | None) -> dict[str, dict[str, Any]]:
    auth = {"username": mirror.username, "password": mirror.password}
    tls = {
        "ca_file": ca_path,
        "cert_file": mirror.client_cert_path,
        "key_file": mirror.client_key_path,
        "insecure_skip_verify": mirror.skip_verify,
    }
    sections: dict[str, dict[str, Any]] = {"auth": auth, "tls": tls}
    given = {name: {key: value for key, value in part.items() if value is not None} for name, part in sections.items()}
    return {name: part for name, part in given.items() if part}


def _refuse_contradictions(mirrors: tuple[Mirror, ...], ca_paths: Mapping[str, str]) -> None:
    """k3s has one entry for each address, whatever registry it is a mirror of."""
    said: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {}
    for mirror in mirrors:
        # A CA that is given counts by its content: two may go to one file, or one to two.
        ca = ca_paths.get(mirror.registry) if mirror.ca_content is None else mirror.ca_content.strip()
        config = _config(mirror, ca)
        if not config:
            continue
        for host in {address(endpoint) for endpoint in mirror.endpoints}:
            registry, other = said.setdefault(host, (mirror.registry, config))
            if other != config:
                raise MirrorError(
                    f"The mirrors of {registry} and {mirror.registry} speak to {host} with different TLS (such as "
                    "another CA) or credentials, and k3s has one entry for it: give both the same"
                )


def _name(mirror: Mirror) -> str:
    return "*" if mirror.registry == DEFAULT else mirror.registry


def _child(table: Any, key: str, path: str) -> Any:
    if table.get(key) is None:
        table[key] = {}
    if not isinstance(table[key], MutableMapping):
        raise MirrorError(f"{path} has a '{key}' that is no mapping: mend or remove it")
    return table[key]


def _yaml() -> Any:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    # As the documentation of k3s writes it.
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _parse(text: str | None, path: str) -> Any:
    try:
        document = _yaml().load(text or "{}")
    except YAMLError as error:
        # The error quotes the line, and that may be a password.
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise MirrorError(f"{path} is not YAML{line}, and nothing was changed: mend or remove it") from None
    if document is None:
        document = _yaml().load("{}")
    if not isinstance(document, MutableMapping):
        raise MirrorError(f"{path} has no mapping at its top: mend or remove it")
    if hasattr(document, "fa"):
        document.fa.set_block_style()
    return document


def _plain(value: Any) -> Any:
    """A copy of the data without what it looks like."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _text(document: Any) -> str:
    sink = _Sink()
    _yaml().dump(document, sink)
    return b"".join(sink.parts).decode()


class _Sink:
    """What ruamel.yaml writes to: an engine has no streams."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, part: bytes) -> None:
        self.parts.append(part)
