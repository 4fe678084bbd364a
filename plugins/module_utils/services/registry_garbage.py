# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Frees what no manifest of a registry refers to any more.

The registry's own collector does it, in the container, while the registry takes no writes: a blob that is uploaded
while it looks would be taken for garbage. Read-only is a configuration like any other, so a run that is killed in
the middle leaves a registry that the next run finds different from what it should be and makes right; making it
again also ends a collector that is still at it.

The collector's ``--delete-untagged`` is not used. In version 3.1.2 it spares the children of a tagged index, but
not their layers when another repository has the same index without these children (it takes a child that it has
marked once for one whose layers it has marked too). It deletes what is deployed by digest alone, and in a repository
that never had a tag it deletes the blobs of all images. Without it every manifest that a repository holds is alive,
with all it refers to, children of an index above all; which manifests are to go is for
``lumen.airgap.registry_image`` to say, that knows an index from its children.

A registry that went on after its blobs were deleted would remember them, and tell the next push that they need not
be sent: that it is made again afterwards is part of the collection.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Callable, NamedTuple

from ..adapters.docker import Docker, Execution
from ..adapters.node import Node
from ..errors import AirgapError
from .registry import COMMAND, CONFIG_INSIDE, LOG_LINES, Settings, stored

_ELIGIBLE = re.compile(r"^blob eligible for deletion: (\w+):(\w+)$", re.MULTILINE)

# Brings the container into the state started with these settings; the result of RegistryContainer.ensure.
Ensure = Callable[[Settings], dict[str, Any]]


class Garbage(NamedTuple):
    """Blobs that nothing refers to, and the bytes in them."""

    blobs: int
    size: int


@contextlib.contextmanager
def _sigterm_raised() -> Iterator[None]:
    """The signal that ends a task that is interrupted or out of time, as an exception that lets us tidy up."""

    def end(number: int, frame: Any) -> None:
        raise AirgapError("the collection of garbage was ended by SIGTERM")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Collection:
    """One garbage collection of a registry, which is brought into the declared state first and last.

    ``timeout`` is in seconds, for each run of the collector.
    """

    def __init__(
        self,
        settings: Settings,
        ensure: Ensure,
        docker: Docker,
        node: Node,
        timeout: float,
        check_mode: bool,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._settings = settings
        self._ensure = ensure
        self._docker = docker
        self._node = node
        self._timeout = timeout
        self._check_mode = check_mode
        self._progress = progress

    def run(self) -> dict[str, Any]:
        """Collect, and return the result of ``ensure`` with ``garbage``: ``{blobs, bytes}``, what was freed.

        In check mode what would be; None when the registry does not run as it should, and cannot be asked.
        """
        result = self._ensure(self._settings)
        garbage = self._look(result["diff"]["before"])
        if garbage is None or not garbage.blobs:
            return {**result, "garbage": garbage and {"blobs": 0, "bytes": 0}}
        self._progress(f"{garbage.blobs} blobs, {garbage.size} bytes, are referred to by nothing")
        actions = list(result["actions"])
        freed = garbage.size
        switch = not self._settings.read_only
        actions += ["switch to read-only", "collect", "switch back"] if switch else ["collect"]
        if not self._check_mode:
            freed = self._collect()
            self._progress(f"{freed} bytes freed; switching back")
            result["container"] = self._ensure(self._settings)["container"]
        diff = {
            "before": {**result["diff"]["before"], "garbage": {"blobs": garbage.blobs, "bytes": garbage.size}},
            "after": {**result["diff"]["after"], "garbage": {"blobs": 0, "bytes": 0}},
        }
        return {
            **result,
            "changed": True,
            "actions": actions,
            "diff": diff,
            "garbage": {"blobs": garbage.blobs, "bytes": freed},
        }

    def _look(self, before: dict[str, Any]) -> Garbage | None:
        """What a collection would free now, without stopping anybody's work."""
        as_it_is = before.get("state") == "running" and before.get("storage_path") == self._settings.storage_path
        if self._check_mode and not as_it_is:
            return None
        # The collector takes a storage that nothing was ever pushed to for a broken one.
        if not self._node.exists(os.path.join(self._data, "repositories")):
            return Garbage(0, 0)
        found = _ELIGIBLE.findall(self._execute("--dry-run").output)
        size = sum(self._node.size(os.path.join(self._blobs, kind, name[:2], name, "data")) for kind, name in found)
        return Garbage(len(found), size)

    def _collect(self) -> int:
        """Collect while nobody can write; returns the bytes that the storage holds less."""
        with _sigterm_raised():
            try:
                self._progress("read-only while they are collected")
                self._ensure(replace(self._settings, read_only=True))
                before = self._node.size(self._blobs)
                self._execute()
                return before - self._node.size(self._blobs)
            # Whatever ends it, also an interrupt: a registry that takes nothing is worse than garbage.
            except BaseException as error:
                self._switch_back(error)
                raise

    def _switch_back(self, reason: BaseException) -> None:
        try:
            self._ensure(self._settings)
        except AirgapError as error:
            raise AirgapError(
                f"{reason}. The registry {self._settings.name} could not be brought back into its declared "
                f"state after that: {error.message}. Run the module again when that is mended",
                **error.details,
            ) from reason

    def _execute(self, *flags: str) -> Execution:
        name = self._settings.name
        container = self._docker.container(name)
        if container is None:
            raise AirgapError(f"the container {name} was removed by somebody else while its garbage was collected")
        # The image's entrypoint, whatever it is, in front of what we gave it to run.
        program = [container["Path"], *container["Args"][: -len(COMMAND)]]
        done = self._docker.execute(name, [*program, "garbage-collect", *flags, CONFIG_INSIDE], self._timeout)
        if done.exit_code:
            said = done.errors.splitlines() or done.output.splitlines()
            killed = ". Killed: is the option memory too small for it?" if done.exit_code == 137 else ""
            raise AirgapError(
                f"the garbage collection in the container {name} failed with exit code {done.exit_code}: "
                f"{said[-1] if said else 'it said nothing'}{killed}",
                log=said[-LOG_LINES:],
            )
        return done

    @property
    def _data(self) -> str:
        return os.path.join(stored(self._settings.storage_path), "v2")

    @property
    def _blobs(self) -> str:
        return os.path.join(self._data, "blobs")
