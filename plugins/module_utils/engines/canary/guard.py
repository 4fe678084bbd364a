# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our limit of failures in a row, kept over measurements that Argo Rollouts takes: it has no such limit itself."""

from __future__ import annotations

from collections.abc import Iterable

from ..analysis.extensions import Extensions
from ..analysis.phases import ERROR, FAILED
from .objects import Measurement


def tripped(measurements: Iterable[Measurement], limit: int) -> str:
    """Why the run of these measurements has failed by our limit; empty when it has not, or ``limit`` is 0.

    Counted as a gate of ours counts (see `Extensions`), over the measurements of each metric in their order. A dry-run
    metric never decides.
    """
    extensions = Extensions(consecutive_failure_limit=limit)
    rows: dict[str, int] = {}
    for each in sorted(measurements, key=lambda one: one.ordinal) if limit else ():
        if each.dry_run or each.phase == ERROR:
            continue
        rows[each.metric] = rows.get(each.metric, 0) + 1 if each.phase == FAILED else 0
        why = extensions.violated(rows[each.metric])
        if why:
            return f'Metric "{each.metric}" of {each.run} assessed Failed due to {why}'
    return ""
