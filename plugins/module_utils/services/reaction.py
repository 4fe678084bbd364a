# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sees that the controller looks at a verb.

Argo Rollouts 1.8 puts what it has written over the newer object in its cache (``writeBackToInformer``). A verb that is
written within milliseconds of such a write is in the object, and yet nothing happens until the Rollout's next event,
or the resync after a quarter of an hour. So there is one more event: an annotation, which no strategy, no template and
no Git repository knows of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..adapters.kube.kinds import ROLLOUT
from ..adapters.kube.session import KubeError, Session
from ..times import rfc3339_micro
from .canary.seen import version_of

NUDGED = "lumen.airgap/nudged-at"

_SECONDS = 2.0
"""Of silence until it is nudged: the controller answers a verb within milliseconds, under load within a second."""
_NUDGES = 3


class Reaction:
    """The controller's, to what was written last into one Rollout."""

    def __init__(self, session: Session, namespace: str, name: str) -> None:
        self._session = session
        self._namespace = namespace
        self._name = name
        self._version = 0
        self._silent_since: float | None = None
        self._left = 0

    @property
    def awaited(self) -> bool:
        """Whether it is still to come. After the last nudge it is not waited for: the controller may be away."""
        return self._left > 0

    def expect(self, written: Mapping[str, Any]) -> None:
        """``written`` is the Rollout as the API server has returned it for the verb."""
        self._version, self._silent_since, self._left = version_of(written), None, _NUDGES

    def see(self, rollout: Mapping[str, Any]) -> None:
        """Whatever was written after the verb was written by a controller that gets it with the next event."""
        if version_of(rollout) > self._version:
            self._left = 0

    def insist(self, now: float) -> bool:
        """Nudge the controller when it has been silent for too long; True when that was done. ``now``: epoch seconds.

        Raises nothing: the verb is written, and an API server that is away makes the controller read anew anyway.
        """
        if not self.awaited:
            return False
        if self._silent_since is None:
            self._silent_since = now
        if now - self._silent_since < _SECONDS:
            return False
        self._left -= 1
        self._silent_since = now
        body = {"metadata": {"annotations": {NUDGED: rfc3339_micro(now)}}}
        try:
            self._version = version_of(self._session.patch(ROLLOUT, self._name, self._namespace, body))
        except KubeError:
            return False
        return True
