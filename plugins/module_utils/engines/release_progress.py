# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a release has come, by its journal: what the playbooks, the next run and the evidence go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .canary.journal import ENDED, STARTED, of_canary

#: What playbooks/tasks note. The phases of a canary are in ``canary.journal``.
BUILDING, PUSHED, FOUND, SCANNED = "building", "pushed", "found", "scanned"
BUMPED, FAILING, REVERTED = "bumped", "failing", "reverted"

Entry = Mapping[str, Any]


def progress(journal: Sequence[Entry]) -> dict[str, Any]:
    """What a journal (entries {phase, at, run, …}, oldest first) says, in the shape that release_record returns.

    ``unmeasured``: its steps are skipped, for it goes back to what is known. ``building``: the image was begun.
    ``image``: the entry about the one that is in the registry; empty before.
    ``scan``: what Trivy has found in it, a number for each severity, or {failed: why}; empty before.
    ``failing``: why it is on its way back, where that was decided before a canary; empty otherwise.
    ``canary``: {begun, ended, outcome, driver}. ``stable``: {image, hash} of what was stable when it began.
    ``git``: {bump, revert}, the commits, each if there is one.
    """
    begun, scan = _newest(journal, STARTED), _newest(journal, SCANNED).get("scan")
    last = next((entry for entry in reversed(journal) if of_canary(entry)), {})
    return {
        "unmeasured": any(entry.get("unmeasured") for entry in journal),
        "building": bool(_newest(journal, BUILDING)),
        "image": dict(_newest(journal, PUSHED, FOUND)),
        "scan": dict(scan) if isinstance(scan, Mapping) else {},
        "failing": str(_newest(journal, FAILING).get("reason") or ""),
        "canary": {
            "begun": bool(begun),
            "ended": last.get("phase") == ENDED,
            "outcome": str(_newest(journal, ENDED).get("outcome") or ""),
            "driver": str(begun.get("driver") or ""),
        },
        "stable": _stable(journal),
        "git": _git(journal),
    }


def _newest(journal: Sequence[Entry], *phases: str) -> Entry:
    """The last entry of one of these phases; empty when there is none."""
    return next((entry for entry in reversed(journal) if entry["phase"] in phases), {})


def _stable(journal: Sequence[Entry]) -> dict[str, str]:
    # The first one: a run that takes the canary up may find stable moved.
    begun = next((entry for entry in journal if entry.get("stable_image")), None)
    return {} if begun is None else {"image": begun["stable_image"], "hash": str(begun.get("stable_hash") or "")}


def _git(journal: Sequence[Entry]) -> dict[str, str]:
    commits = {BUMPED: "bump", REVERTED: "revert"}
    # Whoever notes by hand may leave anything out.
    return {commits[entry["phase"]]: str(entry.get("commit") or "") for entry in journal if entry["phase"] in commits}
