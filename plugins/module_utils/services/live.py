# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What something that goes on for minutes is given: where it prints, and a watch."""

from __future__ import annotations

from typing import Protocol

from ..adapters.kube.watcher import Observation


class Output(Protocol):
    """Where progress goes, and who says when nobody listens any more."""

    def line(self, text: str) -> None:
        """Print one line."""

    def check(self) -> None:
        """Raise when this run has to stop without touching anything more."""


class Watching(Protocol):
    """A `Watcher`."""

    def start(self) -> None:
        """Begin with all existing objects."""

    def stop(self) -> None:
        """End."""

    def next(self, timeout: float) -> Observation | None:
        """The next observation, or None after ``timeout`` seconds."""
