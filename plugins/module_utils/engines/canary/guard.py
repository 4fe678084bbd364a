# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our limit of failures in a row, kept over measurements that Argo Rollouts takes: it has no such limit itself."""

from __future__ import annotations

from collections.abc import Iterable

from .objects import Measurement

OURS = "(ours)"


def tripped(measurements: Iterable[Measurement], limit: int) -> str:
    """Why the run of these measurements has failed by our limit; empty when it has not, or ``limit`` is 0.

    Counted over the measurements of each metric in their order: anything but a failure ends a row, and a dry-run metric
    never decides.
    """
    rows: dict[str, int] = {}
    for each in sorted(measurements, key=lambda one: one.ordinal) if limit else ():
        if each.dry_run:
            continue
        rows[each.metric] = rows.get(each.metric, 0) + 1 if each.phase == "Failed" else 0
        if rows[each.metric] >= limit:
            why = f"consecutiveFailures ({rows[each.metric]}) >= consecutive_failure_limit ({limit}) {OURS}"
            return f'Metric "{each.metric}" of {each.run} assessed Failed due to {why}'
    return ""
