# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mirrors on a node: what its files have to be, written and taken up by the runtime."""

from __future__ import annotations

import posixpath
from typing import Any, Callable, NamedTuple, Protocol

from ..engines.mirrors import containerd, k3s
from ..engines.mirrors.options import Mirror, MirrorError, address
from ..errors import AirgapError

#: The units that read registries.yaml; a node has one of them.
K3S_UNITS = ("k3s", "k3s-agent")
CONTAINERD_UNITS = ("containerd",)
# Says that a file was written and the restart that goes with it did not happen yet. Gone with a reboot, as it may be.
PENDING = "/run/lumen-airgap/registry_mirrors-{runtime}.pending"
_PRIVATE, _PUBLIC, _DIRECTORY = 0o600, 0o644, 0o755


class Node(Protocol):
    """The machine whose files these are. Everything raises AirgapError."""

    def mode(self, path: str) -> int | None:
        """Permissions of what is at the path; None when nothing is."""

    def read(self, path: str) -> str:
        """The text of a file that is there."""

    def entries(self, path: str) -> list[str]:
        """Names of everything in a directory that is there."""

    def make_directory(self, path: str, mode: int) -> None:
        """The directory with its parents, unless it is there."""

    def write(self, path: str, text: str, mode: int) -> None:
        """The whole file at once, or nothing of it."""

    def remove(self, path: str) -> None:
        """A file, or a directory that is empty."""

    def unit(self, names: tuple[str, ...]) -> str | None:
        """The first of the units of systemd that is installed."""

    def restart(self, unit: str) -> None:
        """Restart a unit, and fail with its reason when it does not start."""


class Settings(NamedTuple):
    """What is wanted; ``runtime`` is containerd, k3s or auto."""

    mirrors: tuple[Mirror, ...]
    present: bool
    runtime: str
    certs_path: str
    config_path: str
    registries_path: str
    restart: bool


class Change(NamedTuple):
    """A file before and after, None where there is none; ``shown`` are both as a diff may show them."""

    path: str
    before: str | None
    after: str | None
    mode: int
    shown: tuple[str, str]
    restarts: bool


def apply(settings: Settings, node: Node, check_mode: bool = False) -> dict[str, Any]:
    """Bring the node's files to the settings; in check mode say what would be done.

    Returns ``changed``, ``diff``, ``runtime``, ``files`` (paths that change) and ``restarted`` (a unit or None).
    Raises AirgapError before anything is written when an option or a file makes no sense.
    """
    runtime = _runtime(settings, node)
    try:
        plan = _plan_k3s(settings, node) if runtime == "k3s" else _plan_containerd(settings, node)
    except MirrorError as error:
        raise AirgapError(str(error)) from None
    marker = PENDING.format(runtime=runtime)
    unit = None
    if settings.restart and (any(change.restarts for change in plan) or node.mode(marker) is not None):
        unit = node.unit(K3S_UNITS if runtime == "k3s" else CONTAINERD_UNITS)
    if not check_mode:
        _carry_out(plan, unit, marker, node)
    return {
        "changed": bool(plan) or unit is not None,
        "diff": [_diff(change) for change in plan],
        "runtime": runtime,
        "files": [change.path for change in plan],
        "restarted": unit,
    }


def _runtime(settings: Settings, node: Node) -> str:
    if settings.runtime != "auto":
        return settings.runtime
    for runtime, units in (("k3s", K3S_UNITS), ("containerd", CONTAINERD_UNITS)):
        if node.unit(units):
            return runtime
    raise AirgapError(
        "The node has no unit k3s, k3s-agent or containerd: install one first, or say by 'runtime' whose files to write"
    )


def _carry_out(plan: list[Change], unit: str | None, marker: str, node: Node) -> None:
    if unit:
        node.make_directory(posixpath.dirname(marker), _DIRECTORY)
        node.write(marker, f"{unit} has to be restarted\n", _PRIVATE)
    for change in plan:
        if change.after is None:
            node.remove(change.path)
        else:
            node.make_directory(posixpath.dirname(change.path), _DIRECTORY)
            node.write(change.path, change.after, change.mode)
    # A directory without hosts.toml would still hide _default from containerd.
    for directory in {posixpath.dirname(change.path) for change in plan if change.after is None}:
        if posixpath.basename(directory) not in ("", "k3s") and not node.entries(directory):
            node.remove(directory)
    if unit:
        node.restart(unit)
        node.remove(marker)


def _plan_containerd(settings: Settings, node: Node) -> list[Change]:
    changes: list[Change | None] = []
    for mirror in settings.mirrors:
        names = containerd.directories(mirror.registry)
        found = [name for name in names if node.mode(posixpath.join(settings.certs_path, name)) is not None]
        # containerd takes the first that is there, whatever is in it.
        directory = posixpath.join(settings.certs_path, (found or [mirror.registry])[0])
        path, ca = posixpath.join(directory, containerd.HOSTS), posixpath.join(directory, containerd.CA_NAME)
        text = _read(node, path)
        if settings.present:
            if mirror.ca_content is not None:
                changes.append(_change(node, ca, _read(node, ca), _pem(mirror.ca_content)))
            ca_path = ca if mirror.ca_content is not None else mirror.ca_path
            changes.append(_change(node, path, text, containerd.merge(text, mirror, ca_path, path), containerd))
        elif text is not None:
            after = containerd.remove(text, mirror, path)
            changes.append(_change(node, path, text, after, containerd))
            if after is None or ca not in after:
                changes.append(_change(node, ca, _read(node, ca), None))
    if settings.present:
        text = _read(node, settings.config_path)
        after = containerd.configure(text, settings.certs_path, settings.config_path)
        changes.append(_change(node, settings.config_path, text, after, containerd, restarts=True))
    return [change for change in changes if change is not None]


def _plan_k3s(settings: Settings, node: Node) -> list[Change]:
    path = settings.registries_path
    text = _read(node, path)
    changes: list[Change | None] = []
    if settings.present:
        ca_paths: dict[str, str] = {}
        for mirror in settings.mirrors:
            if mirror.ca_content is not None:
                ca = _k3s_ca(path, mirror)
                ca_paths[mirror.registry] = ca
                changes.append(_change(node, ca, _read(node, ca), _pem(mirror.ca_content), restarts=True))
            elif mirror.ca_path is not None:
                ca_paths[mirror.registry] = mirror.ca_path
        merged = k3s.merge(text, settings.mirrors, ca_paths, path)
        changes.append(_change(node, path, text, merged, k3s, restarts=True))
    elif text is not None:
        after = k3s.remove(text, settings.mirrors, path)
        changes.append(_change(node, path, text, after, k3s, restarts=True))
        for ca in sorted({_k3s_ca(path, mirror) for mirror in settings.mirrors}):
            if after is None or ca not in after:
                changes.append(_change(node, ca, _read(node, ca), None))
    unique = {change.path: change for change in changes if change is not None}
    return list(unique.values())


def _k3s_ca(path: str, mirror: Mirror) -> str:
    """One CA for each first endpoint: k3s knows TLS by address."""
    host = address(mirror.endpoints[0]).replace(":", "_").strip("[]")
    return posixpath.join(posixpath.dirname(path), f"lumen-airgap-ca-{host}.pem")


def _pem(content: str) -> str:
    return content.strip() + "\n"


def _read(node: Node, path: str) -> str | None:
    return None if node.mode(path) is None else node.read(path)


def _change(
    node: Node, path: str, before: str | None, after: str | None, engine: Any = None, restarts: bool = False
) -> Change | None:
    """None when nothing changes. A file with secrets is root's alone, and one that is stricter already stays so."""
    current = node.mode(path)
    private = bool(engine and after and engine.has_secrets(after))
    mode = (_PUBLIC if current is None else current) & (_PRIVATE if private else 0o7777)
    if before == after and (current is None or mode == current):
        return None
    show: Callable[[str | None], str] = engine.redact if engine else (lambda text: text or "")
    return Change(path, before, after, mode, (show(before), show(after)), restarts and before != after)


def _diff(change: Change) -> dict[str, str]:
    before, after = change.shown
    note = " (secrets are not shown)" if before == after and change.before != change.after else ""
    return {
        "before_header": change.path,
        "after_header": change.path + note,
        "before": before,
        "after": after,
    }
