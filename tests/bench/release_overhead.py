# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What release.yml adds to a release through Git, beside the time of the pipeline, of Argo CD and of the canary.

Usage: ``release_overhead.py [REPORT]``: the evidence of a promoted release that is still stable on the lab, by default
the newest. From its timestamps, and from when the canary's ReplicaSet was made:

    before   the Lease was taken → the tag is in Gitea, and the jobs of its run wait for a runner
    pipeline they wait → the run is over
    between  the run is over → Git is known to name the image
    Argo CD  Git names it → the canary's ReplicaSet is made
    canary   its ReplicaSet is made → it is stable
    after    it is stable → the end of the release
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "lab"))

from demo import gitea  # noqa: E402

LIMIT = 15


def main(argv: list[str]) -> int:
    paths = [Path(argv[0])] if argv else sorted((ROOT / ".lab" / "reports").glob("*.json"), key=_changed)[::-1]
    report = next((found for found in map(_load, paths) if found["outcome"] == "promoted" and found["pipeline"]), None)
    if report is None:
        print("no release by the pipeline was promoted: `make demo` makes one", file=sys.stderr)
        return 1
    parts = split(report, queued(report["pipeline"]["id"]), made(report))
    for name, seconds in parts.items():
        print(f"{name:>8}  {seconds:5.0f} s")
    ours = parts["before"] + parts["between"] + parts["after"]
    row = {"name": f"added to a release ({report['release']})", "value": ours, "unit": "s", "limit": LIMIT}
    print(json.dumps({**row, "peer": f"pipeline, Argo CD and canary: {sum(parts.values()) - ours:.0f} s"}))
    return 0


def split(report: dict[str, Any], tag: float, began: float) -> dict[str, float]:
    """Seconds of each part; ``tag`` is when Gitea had the tag, ``began`` when the canary's ReplicaSet was made."""
    git = next(_at(entry) for entry in report["timeline"] if entry["text"].startswith("Git names "))
    stable = next(_at(entry) for entry in report["timeline"] if entry["text"].startswith("promoted: "))
    over = _seconds(report["pipeline"]["completed_at"])
    return {
        "before": tag - _seconds(report["started_at"]),
        "pipeline": over - tag,
        "between": git - over,
        "Argo CD": began - git,
        "canary": stable - began,
        "after": _seconds(report["finished_at"]) - stable,
    }


def queued(run: int) -> float:
    """When Gitea had made the jobs of the run, which it does with the tag."""
    return min(_seconds(job["created_at"]) for job in json.loads(gitea(f"actions/runs/{run}/jobs"))["jobs"])


def made(report: dict[str, Any]) -> float:
    selector = f"--selector=rollouts-pod-template-hash={report['verified']['hash']}"
    argv = [str(ROOT / ".lab/bin/kubectl"), f"--kubeconfig={ROOT / '.lab/kubeconfig'}", "get", "replicasets"]
    argv += [f"--namespace={report['namespace']}", selector, "--output=json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    return _seconds(json.loads(done.stdout)["items"][0]["metadata"]["creationTimestamp"])


def _load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"pipeline": {}, **json.loads(path.read_text(encoding="utf-8"))}
    return found


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


def _at(entry: dict[str, Any]) -> float:
    return _seconds(entry["at"])


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
