# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Follows Rollouts in a process of its own until all are promoted, and says what that took and what it has seen.

Usage: ``_follower.py canary|rollout|poll KUBECONFIG NAMESPACE NAME...``. ``canary`` and ``rollout`` are what the
actions of these names do, with Ansible imported as in a worker; ``poll`` asks every second with the plain client.
The first line it prints is ``begun``, the second ``{"cpu", "wall": seconds, "rss": MiB, "seen": [...]}`` with the
resource versions of Rollouts and AnalysisRuns.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "build"))


class Screen:
    """What a task prints on; nobody reads it."""

    def line(self, text: str) -> None:
        """Print one line."""

    def check(self) -> None:
        """Somebody always listens."""


class Seen:
    """Resource versions that were seen, and how long following has taken."""

    def __init__(self) -> None:
        self.versions: set[str] = set()
        self._began: tuple[float, float] | None = None

    def add(self, obj: dict[str, Any]) -> None:
        self.versions.add(obj["metadata"]["resourceVersion"])

    def begin(self) -> None:
        if self._began is None:
            self._began = time.monotonic(), time.process_time()
            print("begun", flush=True)

    def report(self) -> str:
        assert self._began is not None
        wall, cpu = time.monotonic() - self._began[0], time.process_time() - self._began[1]
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return json.dumps({"cpu": cpu, "wall": wall, "rss": rss, "seen": sorted(self.versions)})


def watched(mode: str, kubeconfig: str, namespace: str, names: list[str], seen: Seen) -> None:
    """As the actions do it."""
    from ansible_collections.lumen.airgap.plugins.action import canary, rollout  # noqa: F401  (what a worker has)
    from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import ANALYSIS_RUN, ROLLOUT
    from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session
    from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.watcher import Observation, Watcher
    from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.release import Options, Release
    from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.rollout import RolloutDriver
    from ansible_collections.lumen.airgap.plugins.module_utils.services.rollout import Rollouts, Wanted
    from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock

    class Counted(Watcher):
        """Notes what it delivers."""

        def next(self, timeout: float) -> Observation | None:
            found = super().next(timeout)
            seen.begin()
            if found is not None and found.kind in (ROLLOUT, ANALYSIS_RUN):
                seen.add(found.object)
            return found

    session, clock, screen = Session.connect(kubeconfig, None), SystemClock(), Screen()
    if mode == "canary":
        driver = RolloutDriver(session, namespace, names[0])
        release = Release(driver, lambda wanted: Counted(session, wanted), clock, screen, Options())
        result = release.run()
        assert result["outcome"] == "promoted", result["reason"]
    else:
        rollouts = Rollouts(session, namespace, names, clock, screen)
        rollouts.wait(Wanted(frozenset({"promoted"})), 300.0, lambda wanted: Counted(session, wanted))


def polled(kubeconfig: str, namespace: str, names: list[str], seen: Seen) -> None:
    """As a loop over a task that asks would see it, without that task's own start."""
    from kubernetes import client, config

    config.load_kube_config(kubeconfig)
    api = client.CustomObjectsApi()
    while True:
        found = {}
        for plural in ("analysisruns", "rollouts"):
            listing = api.list_namespaced_custom_object("argoproj.io", "v1alpha1", namespace, plural)
            for item in listing["items"]:
                seen.add(item)
                found[item["metadata"]["name"]] = item
        seen.begin()
        statuses = [found[name]["status"] for name in names]
        if all(s["phase"] == "Healthy" and s["stableRS"] == s["currentPodHash"] == "new" for s in statuses):
            return
        time.sleep(1)


def main() -> None:
    mode, kubeconfig, namespace, *names = sys.argv[1:]
    seen = Seen()
    if mode == "poll":
        polled(kubeconfig, namespace, names, seen)
    else:
        watched(mode, kubeconfig, namespace, names, seen)
    print(seen.report(), flush=True)


if __name__ == "__main__":
    main()
