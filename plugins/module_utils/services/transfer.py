# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blobs of many images on their way into one registry, side by side, with one account of how far they are."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Sequence
from typing import Callable, NamedTuple

from ..adapters.layout import VerifyingReader
from ..adapters.registry import Registry
from ..adapters.upload_journal import UploadJournal
from ..engines.oci.image import Descriptor
from ..engines.oci.plan import BlobPlan
from ..times import Clock
from .parallel import each

#: Smaller blobs are sent again sooner than they are looked for.
JOURNAL_FROM = 1 << 20
#: Seconds between two lines of progress in a long transfer.
INTERVAL = 2.0
_MIB = 1 << 20


class Load(NamedTuple):
    """What one image needs: its name for the reader, the repository, where blobs come from, and what is planned."""

    name: str
    repository: str
    open: Callable[[Descriptor], VerifyingReader]
    blobs: BlobPlan


class Transfers:
    """Sends and mounts. ``say`` takes a line of progress."""

    def __init__(
        self,
        registry: Registry,
        workers: int,
        say: Callable[[str], None],
        journal: UploadJournal | None,
        clock: Clock,
    ) -> None:
        self.say = say
        self._registry = registry
        self._workers = workers
        self._journal = journal
        self._clock = clock
        self._lock = threading.Lock()
        self._stopped = False
        self._sent = self._total = 0
        self._open: list[int] = []  # blobs still to send, of each image
        self._said_at = clock.monotonic()

    def run(self, loads: Sequence[Load]) -> list[list[int | None]]:
        """Bring every blob there. Returns for each load what was sent of each blob, None for one that was mounted."""
        # The largest first, so that none is left over for one thread at the end.
        uploads = sorted(
            ((number, blob) for number, load in enumerate(loads) for blob in load.blobs.upload),
            key=lambda item: -item[1].size,
        )
        mounts = [(number, blob, holder) for number, load in enumerate(loads) for blob, holder in load.blobs.mount]
        self._open = [len(load.blobs.upload) for load in loads]
        self._total = sum(load.blobs.bytes_to_send for load in loads)
        results: list[list[int | None]] = [[] for _load in loads]

        def upload(item: tuple[int, Descriptor]) -> None:
            number, blob = item
            results[number].append(self._upload(loads[number], blob, None))
            self._ended(number, loads[number])

        def mount(item: tuple[int, Descriptor, str]) -> None:
            number, blob, holder = item
            results[number].append(self._upload(loads[number], blob, holder))

        try:
            each(self._workers, upload, uploads)
            each(self._workers, mount, mounts)
        finally:
            self._stopped = True
        return results

    def _upload(self, load: Load, blob: Descriptor, holder: str | None) -> int | None:
        try:
            if self._journal is None or blob.size < JOURNAL_FROM:
                return self._registry.upload(load.repository, blob, load.open, holder, sent=self._count(load))
            with self._journal.entry(self._registry.host, load.repository, blob.digest) as entry:
                return self._registry.upload(
                    load.repository, blob, load.open, holder, entry=entry, sent=self._count(load)
                )
        except BaseException:
            self._stopped = True
            raise

    def _count(self, load: Load) -> Callable[[int], None]:
        def sent(size: int) -> None:
            if self._stopped:
                # Given up because of another one, whose failure is what the user has to know.
                raise concurrent.futures.CancelledError
            with self._lock:
                self._sent += size
                if self._clock.monotonic() - self._said_at >= INTERVAL:
                    self._say(load)

        return sent

    def _ended(self, number: int, load: Load) -> None:
        with self._lock:
            self._open[number] -= 1
            if not self._open[number]:
                self._say(load)

    def _say(self, load: Load) -> None:
        self._said_at = self._clock.monotonic()
        done = sum(not left for left in self._open)
        sizes = f"{min(self._sent, self._total) // _MIB} of {self._total // _MIB} MiB"
        self.say(f"{done} of {len(self._open)} images, {sizes}, {load.name}")
