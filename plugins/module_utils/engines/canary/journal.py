# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The phases of a canary in the journal of its release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STARTED, OBSERVED, STEP, PROMOTING = "canary_started", "canary_observed", "canary_step", "canary_promoting"
ABORTING, RESTORING, ENDED = "canary_aborting", "canary_restoring", "canary_ended"
GATE = "canary_gate"


def of_canary(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is about the canary, and not about what comes before and after it."""
    return str(entry.get("phase", "")).startswith("canary_")
