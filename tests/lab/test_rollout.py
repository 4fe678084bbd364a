# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verbs, waits and the following of what Git has brought, with the real controller and an app of this test's own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import ANALYSIS_RUN, ROLLOUT
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.watcher import Subscription, Watcher
from ansible_collections.lumen.airgap.plugins.module_utils.engines.argo.ownership import TRACKING
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.objects import read_run
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.release import Options, Release
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.rollout import RolloutDriver
from ansible_collections.lumen.airgap.plugins.module_utils.services.rollout import (
    Act,
    NotThere,
    Request,
    Rollouts,
    Wanted,
    statuses,
)
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock, rfc3339

from .probe import REGISTRY, tagged
from .way import Way

APP = "rollout-app"
FIRST, SECOND = "rollout-first", "rollout-second"
ADDRESS = "http://kube-prometheus-stack-prometheus.monitoring.svc.cluster.local:9090"
WEIGHT: dict[str, Any] = {"setWeight": 50}
PAUSE: dict[str, Any] = {"pause": {}}
ANALYSIS: dict[str, Any] = {"analysis": {"templates": [{"templateName": "verdict"}]}}
DEADLINE = 90.0
AWAY = 60.0


class Screen:
    """What was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        print(text)
        self.lines.append(text)

    def check(self) -> None:
        """Somebody listens."""


@dataclass
class App:
    """A Rollout of two pods, deployed as Argo CD would do it: server-side, with its mark."""

    namespace: str
    session: Session
    names: Sequence[str] = (APP,)
    out: Screen = field(default_factory=Screen)

    def deploy(self, tag: str, *steps: dict[str, Any]) -> None:
        self.apply(*(rollout(self.namespace, name, tag, list(steps)) for name in self.names))

    def apply(self, *objects: dict[str, Any]) -> None:
        from driver.cluster import kubectl

        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        kubectl("-n", self.namespace, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=content)

    @property
    def rollouts(self) -> Rollouts:
        return Rollouts(self.session, self.namespace, self.names, SystemClock(), self.out)

    def act(self, verb: str, **more: Any) -> list[Act]:
        """Within milliseconds of what the controller has written, whose cache can lose it."""
        return self.rollouts.act(Request(verb, **more), DEADLINE)

    def wait(self, *ends: str, **more: Any) -> None:
        self.rollouts.wait(Wanted(frozenset(ends), **more), DEADLINE, self.watch)

    def watch(self, wanted: Sequence[Subscription]) -> Watcher:
        return Watcher(self.session, wanted)

    def object(self) -> dict[str, Any]:
        return self.session.get(ROLLOUT, APP, self.namespace)

    def status(self) -> dict[str, Any]:
        return statuses(self.session, self.namespace, [APP], SystemClock().time())[0]

    def release(self, failures_in_a_row: int = 0, **options: Any) -> dict[str, Any]:
        driver = RolloutDriver(self.session, self.namespace, APP, failures_in_a_row=failures_in_a_row)
        return Release(driver, self.watch, SystemClock(), self.out, Options(step_deadline=DEADLINE, **options)).run()


def rollout(namespace: str, name: str, tag: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    labels = {"app": name}
    tracked = {TRACKING: f"nobody:argoproj.io/Rollout:{namespace}/{name}"}
    container = {"name": name, "image": f"{REGISTRY}/probe:{tag}", "args": ["serve", ":8080"]}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": name, "namespace": namespace, "annotations": tracked},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
            },
            "strategy": {"canary": {"steps": steps}},
        },
    }


def verdict(namespace: str, query: str) -> dict[str, Any]:
    """An analysis of five checks that allows for four failures, over a query that always says the same."""
    metric = {
        "name": "success-rate",
        "interval": "2s",
        "count": 5,
        "failureLimit": 4,
        "successCondition": "result[0] >= 0.95",
        "failureCondition": "result[0] < 0.5",
        "provider": {"prometheus": {"address": ADDRESS, "query": query}},
    }
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": {"name": "verdict", "namespace": namespace},
        "spec": {"metrics": [metric]},
    }


@pytest.fixture(scope="module")
def versions() -> Iterator[None]:
    """Two tags of the lab's probe, which stand for two versions."""
    with tagged(FIRST, SECOND):
        yield


@pytest.fixture
def app(namespace: str, versions: None) -> App:
    """The first version runs."""
    from driver.cluster import KUBECONFIG

    made = App(namespace, Session.connect(str(KUBECONFIG)))
    made.apply(verdict(namespace, "vector(1)"))
    made.deploy(FIRST, WEIGHT)
    made.wait("Healthy", image=f"{REGISTRY}/probe:{FIRST}")
    return made


def test_promoted_step_by_step(app: App) -> None:
    app.deploy(SECOND, WEIGHT, PAUSE, {"setWeight": 100})
    app.wait("Paused", "Healthy")  # Healthy of the first version is not the answer
    status = app.status()
    assert (status["phase"], status["step"], status["set_weight"]) == ("Paused", {"index": 1, "count": 3}, 50)
    assert [image["tags"] for image in status["images"]] == [["stable"], ["canary"]]
    print(status["tree"])
    first, second = app.act("promote", at_step=1) + app.act("promote", at_step=1)
    assert (first.changed, second.changed) == (True, False)
    app.wait("promoted")
    assert app.act("promote")[0].patch.text.startswith("nothing to promote")
    assert app.status()["images"] == [{"image": f"{REGISTRY}/probe:{SECOND}", "tags": ["stable"]}]


def test_an_analysis_is_skipped_and_never_passed(app: App) -> None:
    app.apply(verdict(app.namespace, "vector(0)"))
    app.deploy(SECOND, WEIGHT, ANALYSIS, PAUSE)
    app.wait(step=1)
    runs = ANALYSIS_RUN, app.namespace
    while not any(read_run(run).measurements for run in app.session.list(*runs).items):
        SystemClock().sleep(0.2)
    [act] = app.act("promote")
    assert [(step["kind"], bool(step["run"])) for step in act.as_dict()["skipped_steps"]] == [("analysis", True)]
    app.wait("Paused")
    [run] = app.status()["analysis_runs"]
    assert (run["phase"], run["terminated"], run["passed"]) == ("Successful", True, False)
    assert run["failed"] >= 1


def test_aborted_retried_and_promoted_fully(app: App) -> None:
    app.deploy(SECOND, WEIGHT, PAUSE)
    app.wait("Paused")
    assert [act.changed for act in app.act("abort") + app.act("abort")] == [True, False]
    with pytest.raises(NotThere, match="will not become so, for it was aborted"):
        app.wait("promoted")
    app.wait("aborted")
    with pytest.raises(AirgapError, match="it is aborted, and cannot be restarted"):
        app.act("restart", restart_at="2026-01-01T00:00:00Z")
    assert app.act("retry")[0].changed is True
    app.wait("Paused", "Degraded")
    assert app.status()["phase"] == "Paused"
    [act] = app.act("promote_full")
    assert (act.changed, len(act.patch.skipped)) == (True, 1)
    app.wait("promoted")
    assert app.act("promote_full")[0].changed is False


def test_restarted(app: App) -> None:
    before = pods(app)
    now = rfc3339(SystemClock().time())
    assert app.act("restart", restart_at=now)[0].changed is True
    app.wait("Healthy")
    assert len(pods(app)) == 2
    assert not pods(app) & before
    assert app.act("restart", restart_at=now)[0].changed is False


def pods(app: App) -> set[str]:
    every = [pod for each in app.status()["replica_sets"] for pod in each["pods"]]
    return {pod["name"] for pod in every if pod["phase"] == "Running"}


def test_several_over_one_watch(app: App) -> None:
    several = App(app.namespace, app.session, names=[f"fleet-{number}" for number in range(4)])
    several.deploy(FIRST, WEIGHT)
    several.wait("Healthy", image=f"{REGISTRY}/probe:{FIRST}")
    several.out.lines.clear()
    several.deploy(SECOND, WEIGHT, {"pause": {"duration": 2}})
    several.wait("promoted", image=f"{REGISTRY}/probe:{SECOND}")
    for name in several.names:
        mine = [line for line in several.out.lines if line.startswith(f"[{name}] step ")]
        assert [line.split("] ")[1] for line in mine] == ["step 1/2 setWeight 50", "step 2/2 pause 2 s"]


def test_our_limit_ends_a_run_that_argo_would_go_on_with(app: App) -> None:
    """Under Git: aborted at the second failure in a row, the spec left alone, and whole again after the revert."""
    app.apply(verdict(app.namespace, "vector(0)"))
    app.deploy(SECOND, WEIGHT, ANALYSIS)
    time.sleep(1.5)  # the controller writes defaults into a new template
    before = app.object()["spec"]
    result = app.release(failures_in_a_row=2, image=f"{REGISTRY}/probe:{SECOND}")
    assert result["outcome"] == "rolled_back"
    assert "consecutiveFailures (2) >= consecutive_failure_limit (2) (ours)" in result["reason"]
    assert len(result["measurements"]) == 2
    assert "revert the commit that brought it" in result["advice"]
    assert app.object()["spec"] == before
    [run] = app.status()["analysis_runs"]
    assert run["passed"] is False
    app.deploy(FIRST, WEIGHT, ANALYSIS)
    app.wait("Healthy", image=f"{REGISTRY}/probe:{FIRST}")
    assert app.status()["aborted"] is False


def test_inconclusive_is_left_to_somebody(app: App) -> None:
    app.apply(verdict(app.namespace, "vector(0.7)"))
    app.deploy(SECOND, WEIGHT, ANALYSIS)
    told = app.out.line

    def promote(text: str) -> None:
        told(text)
        if "waits 90 s for somebody" in text:
            Rollouts(app.session, app.namespace, [APP], SystemClock(), Screen()).act(Request("promote"), DEADLINE)

    app.out.line = promote  # type: ignore[method-assign]
    result = app.release(on_inconclusive="pause")
    assert result["outcome"] == "promoted"
    assert [step["result"] for step in result["steps"]] == ["completed", "Inconclusive"]


def test_an_api_server_that_is_away_for_a_while_does_not_lose_the_release(app: App, tmp_path: Path) -> None:
    """Cut off at the first measurement, for longer than the analysis takes: the controller goes on, and so do we."""
    from driver.cluster import KUBECONFIG

    app.deploy(SECOND, WEIGHT, ANALYSIS, {"setWeight": 100})
    told = app.out.line
    with Way(KUBECONFIG, tmp_path) as way:

        def cut(text: str) -> None:
            told(text)
            if "check 1/5" in text and way.open:
                way.cut()
                threading.Timer(AWAY, way.mend).start()

        app.out.line = cut  # type: ignore[method-assign]
        app.session = Session.connect(str(way.kubeconfig))
        result = app.release()
    assert result["outcome"] == "promoted"
    assert [each["phase"] for each in result["measurements"]] == ["Successful"] * 5
    lines = " ".join(app.out.lines)
    assert "the API server does not answer" in lines
    assert "the API server answers again" in lines
