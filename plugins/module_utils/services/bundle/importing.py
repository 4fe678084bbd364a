# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle comes in: signature, rules, plan, every hash, free space, and only then writes, under a lock and a journal.

Every step looks at what is there before it writes, so that a run after a killed one continues, and a run after a
complete one writes nothing.
"""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Callable

from ...adapters.store import Store, open_store
from ...engines.bundle import manifest as engine
from ...engines.bundle.manifest import Imported, RefusedError
from ...errors import AirgapError
from ...times import Clock, rfc3339
from . import content, docker_load, space
from .images import ImageImport
from .meter import Meter
from .state import Journal, State, remove_tree
from .verify import Bundle, authenticate, check_files, check_hashes, check_images, verify

STATE_PATH = "/var/lib/lumen-airgap/bundles"


@dataclass(frozen=True)
class Request:
    """What is asked for: ``path`` of the bundle, ``allowed_signers`` (path or content), ``signer`` a pattern of who may
    have signed, ``name`` the bundle that is expected, ``by`` who imports."""

    path: str
    allowed_signers: str
    signer: str = "*"
    name: str | None = None
    state_path: str = STATE_PATH
    force: bool = False
    by: str = ""


def verified(request: Request, progress: Callable[[str], None], clock: Clock) -> dict[str, Any]:
    """Check signature and hashes, and say what the rules would say to an import. Writes nothing."""
    with open_store(request.path) as store:
        bundle = verify(store, request.allowed_signers, request.signer, request.name, progress, clock)
        history = State(request.state_path, bundle.manifest.name).history()
        reasons = engine.check(bundle.manifest, bundle.sha256, history, clock.time(), force=True)
        return {"changed": False, "bundle": bundle.summary(), "refusals": list(reasons)}


def bring_in(
    request: Request,
    progress: Callable[[str], None],
    clock: Clock,
    check_mode: bool = False,
    images: ImageImport | None = None,
) -> dict[str, Any]:
    """Unpack a bundle; with ``images`` import it: bring them into the registry too, and note it in the history.

    Raises AirgapError before anything is written, for every reason that can be known before.
    """
    with open_store(request.path) as store:
        return _Run(request, store, progress, clock, check_mode, images).run()


class _Run:
    def __init__(
        self,
        request: Request,
        store: Store,
        progress: Callable[[str], None],
        clock: Clock,
        check_mode: bool,
        images: ImageImport | None,
    ) -> None:
        self._request = request
        self._progress = progress
        self._clock = clock
        self._check_mode = check_mode
        self._images = images
        self._by = request.by or _user()
        self._started = rfc3339(clock.time())
        self._bundle: Bundle = authenticate(store, request.allowed_signers, request.signer, request.name)
        self._state = State(request.state_path, self._bundle.manifest.name)

    def run(self) -> dict[str, Any]:
        bundle = self._bundle
        self._progress(f"{bundle}, created {bundle.manifest.created}, is signed by {bundle.signer}")
        holder = f"{self._by}, process {os.getpid()} on {socket.gethostname()}, since {self._started}"
        # Check mode writes nothing, not even the file of a lock.
        with nullcontext() if self._check_mode else self._state.locked(holder):
            return self._locked()

    def _locked(self) -> dict[str, Any]:
        bundle, state = self._bundle, self._state
        last = engine.last_import(bundle.manifest.name, state.history())
        again = last is not None and last.sha256 == bundle.sha256
        reasons = engine.check(bundle.manifest, bundle.sha256, state.history(), self._clock.time(), force=True)
        if not again:
            self._refuse(reasons)
        check_files(bundle)
        found = check_images(bundle)
        journal = state.journal(bundle.sha256)
        self._files = content.plan(bundle, state, continued=journal is not None)
        self._archive = docker_load.plan(bundle, state, found)
        if self._images is not None:
            self._images.plan(bundle, found)
        changed = self._anything_lacks() or (self._images is not None and not again)
        before = last if self._images is not None else None
        if changed:
            # A bundle that has expired since it came in may stay, but nothing more is taken from it.
            self._refuse(reasons)
            self._bring(journal, reasons)
        elif not self._check_mode:
            state.finish()
        return self._result(changed, reasons, before)

    def _refuse(self, reasons: tuple[str, ...]) -> None:
        if reasons and not self._request.force:
            raise AirgapError(
                f"{RefusedError(reasons)}. Nothing was written; force lets it in all the same", refusals=list(reasons)
            )

    def _anything_lacks(self) -> bool:
        return self._files.changed or self._archive is not None or (self._images is not None and self._images.changed)

    def _bring(self, journal: Journal | None, reasons: tuple[str, ...]) -> None:
        bundle, state = self._bundle, self._state
        if journal is None:
            check_hashes(bundle, self._progress, self._clock)
        else:
            self._progress(f"continuing the run of {journal.started_at}, whose hashes were right")
        space.check(self._needs())
        if self._check_mode:
            return
        if journal is None:
            remove_tree(state.staged)
            state.write_journal(Journal(bundle.sha256, self._started))
        self._write_files()
        if self._images is not None:
            self._images.deliver(bundle, state.uploads)
        # The history comes first: from the moment that the new content is in its place, the old bundle is a rollback.
        if self._images is not None and not (journal is not None and self._noted()):
            state.add_to_history(self._entry(reasons))
        if self._files.changed:
            state.swap_content()
        state.finish()

    def _noted(self) -> bool:
        """Whether the run that is continued came as far as the history."""
        last = engine.last_import(self._bundle.manifest.name, self._state.history())
        return last is not None and last.sha256 == self._bundle.sha256

    def _write_files(self) -> None:
        written = self._files.bytes_to_write + (self._archive.bytes_to_write if self._archive else 0)
        meter = Meter(f"unpacking {self._bundle}", written, self._progress, self._clock)
        if self._files.changed:
            content.stage(self._bundle, self._state, self._files, meter)
        if self._archive is not None:
            docker_load.write(self._bundle, self._state, self._archive, meter)

    def _needs(self) -> list[space.Need]:
        needs = [space.Need(self._state.path, self._files.bytes_to_write, "files")]
        if self._archive is not None:
            needs.append(space.Need(self._state.path, self._archive.bytes_to_write, "the registry's image"))
        if self._images is not None:
            storage = self._images.storage_path
            if storage and os.path.isdir(storage):
                needs.append(space.Need(storage, self._images.bytes_to_send, "images"))
            else:
                self._progress(f"the registry's storage {storage} is not on this machine: its free space is not known")
        return needs

    def _entry(self, reasons: tuple[str, ...]) -> Imported:
        manifest = self._bundle.manifest
        return Imported(
            name=manifest.name,
            number=manifest.number,
            created=manifest.created,
            imported_at=rfc3339(self._clock.time()),
            by=self._by,
            sha256=self._bundle.sha256,
            forced=bool(reasons),
        )

    def _result(self, changed: bool, reasons: tuple[str, ...], last: Imported | None) -> dict[str, Any]:
        files, archive, images = self._files, self._archive, self._images
        before: dict[str, Any] = {"files": files.before}
        after: dict[str, Any] = {"files": files.after}
        if archive is not None:
            before["registry_archive"], after["registry_archive"] = archive.before, f"{archive.name} {archive.digest}"
        if images is not None:
            before["images"], after["images"] = images.result["diff"]["before"], images.result["diff"]["after"]
            before["imported"] = f"{last.name} {last.number} {last.sha256}" if last else None
            after["imported"] = f"{self._bundle.manifest.name} {self._bundle.manifest.number} {self._bundle.sha256}"
        return {
            "changed": changed,
            "bundle": self._bundle.summary(),
            "content": self._state.content,
            "registry_archive": self._state.registry_archive if self._bundle.manifest.registry_image else None,
            "files_written": len(files.write) if files.changed else 0,
            "files_removed": files.removed,
            "bytes_written": (files.bytes_to_write if files.changed else 0)
            + (archive.bytes_to_write if archive else 0),
            "images": images.result["images"] if images is not None else [],
            "bytes_sent": sum(item["bytes_sent"] for item in images.result["images"]) if images is not None else 0,
            "refusals": list(reasons),
            "diff": {"before": before, "after": after},
        }


def _user() -> str:
    """Who runs this: through sudo or Ansible's become, who asked for it."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"
