# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules rollout and rollout_info in plays, on an API server without a controller, with and without a status
subresource, and following fifty Rollouts that this test moves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    ANALYSIS_RUN,
    CUSTOM_RESOURCE_DEFINITION,
    ROLLOUT,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import NotFound, Session
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.watcher import Watcher
from ansible_collections.lumen.airgap.plugins.module_utils.services.rollout import Rollouts, Wanted
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock

from .api_server import ApiServer
from .conftest import ROOT

pytestmark = pytest.mark.loopback

STEPS = [{"setWeight": 20}, {"pause": {}}, {"setWeight": 100}]
PAUSED = {"phase": "Paused", "controllerPause": True, "pauseConditions": [{"reason": "CanaryPauseStep"}]}
FLEET = 50


@pytest.fixture(scope="module", params=["with a status subresource", "without"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server that knows Rollouts; those of Argo Rollouts before 0.10 had no status subresource."""
    server = ApiServer(tmp_path_factory.mktemp("rollouts"))
    try:
        server.start()
        session = Session.connect(str(server.kubeconfig()))
        define(session, "rollouts", "Rollout", status=request.param != "without")
        define(session, "analysisruns", "AnalysisRun", status=False)
        yield server
    finally:
        server.stop()


def define(session: Session, plural: str, kind: str, status: bool) -> None:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version: dict[str, Any] = {"name": "v1alpha1", "served": True, "storage": True, "schema": schema}
    if status:
        version["subresources"] = {"status": {}}
    names = {"plural": plural, "singular": plural[:-1], "kind": kind, "listKind": f"{kind}List"}
    session.create(
        {
            "apiVersion": CUSTOM_RESOURCE_DEFINITION.api_version,
            "kind": CUSTOM_RESOURCE_DEFINITION.kind,
            "metadata": {"name": f"{plural}.argoproj.io"},
            "spec": {"group": "argoproj.io", "scope": "Namespaced", "names": names, "versions": [version]},
        }
    )
    end = time.monotonic() + 30
    while True:
        try:
            session.list(ROLLOUT if kind == "Rollout" else ANALYSIS_RUN, "default")
            return
        except NotFound:
            assert time.monotonic() < end
            time.sleep(0.2)


def make(session: Session, name: str, **status: Any) -> None:
    """A Rollout in the middle of a change."""
    spec = {"strategy": {"canary": {"steps": STEPS}}, "template": {"spec": {"containers": [{"name": "api"}]}}}
    body = {"apiVersion": ROLLOUT.api_version, "kind": "Rollout", "metadata": {"name": name, "namespace": "default"}}
    session.create({**body, "spec": spec})
    move(session, name, currentPodHash="new", stableRS="old", **status)


def move(session: Session, name: str, **status: Any) -> None:
    """What the controller does. Without a status subresource each status makes a new generation."""
    for _attempt in range(2):
        found = session.get(ROLLOUT, name, "default")
        body = {"status": {"observedGeneration": str(found["metadata"]["generation"]), **status}}
        try:
            session.patch(ROLLOUT, name, "default", body, subresource="status")
            return
        except NotFound:
            body["status"]["observedGeneration"] = str(found["metadata"]["generation"] + 1)
            session.patch(ROLLOUT, name, "default", body)
            return


def play(server: ApiServer, *words: str, **task: Any) -> dict[str, Any]:
    """Runs one task and returns its result."""
    module = task.pop("module")
    arguments = {"namespace": "default", "kubeconfig": str(server.kubeconfig()), **task}
    content = [{"hosts": "localhost", "gather_facts": False, "tasks": [{f"lumen.airgap.{module}": arguments}]}]
    path = server.kubeconfig().with_name("play.json")
    path.write_text(json.dumps(content), encoding="utf-8")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [str(program), str(path), *words], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    text = done.stdout[done.stdout.index("{\n") :]
    result: dict[str, Any] = json.loads(text)["plays"][0]["tasks"][0]["hosts"]["localhost"]
    return {**result, "printed": done.stdout[: done.stdout.index("{\n")]}


def test_verbs_in_a_play(cluster: ApiServer) -> None:
    session = Session.connect(str(cluster.kubeconfig()))
    make(session, "api", currentStepIndex=1, **PAUSED)
    predicted = play(cluster, "--check", "--diff", module="rollout", name="api", verb="promote")
    assert predicted["changed"] is True
    assert predicted["diff"][0]["before"] == {"status": {"pauseConditions": PAUSED["pauseConditions"]}}
    first = play(cluster, module="rollout", name="api", verb="promote")
    assert (first["changed"], first["rollouts"][0]["message"]) == (True, "ends the pause at step 2/3 pause")
    assert "ends the pause at step 2/3 pause" in first["printed"]
    assert not session.get(ROLLOUT, "api", "default")["status"].get("pauseConditions")
    move(session, "api", controllerPause=None, currentStepIndex=2, phase="Progressing")
    move(session, "api", currentStepIndex=3, phase="Healthy", stableRS="new")
    again = play(cluster, module="rollout", names=["api"], verb="promote", wait=["promoted"], at_step=1)
    assert (again["changed"], again["rollouts"][0]["status"]["phase"]) == (False, "Healthy")
    missing = play(cluster, module="rollout", name="other", verb="abort")
    assert "Rollout default/other does not exist" in missing["msg"]


def test_shown_in_a_play(cluster: ApiServer) -> None:
    session = Session.connect(str(cluster.kubeconfig()))
    make(session, "shown", currentStepIndex=1, **PAUSED)
    found = play(cluster, "--check", module="rollout_info", names=["shown", "other"])
    assert (found["changed"], found["missing"]) == (False, ["other"])
    assert found["rollouts"][0]["tree"].splitlines()[2] == "Status:          ॥ Paused"


def test_fifty_over_one_watch_without_losing_an_event(cluster: ApiServer) -> None:
    session = Session.connect(str(cluster.kubeconfig()))
    names = [f"fleet-{number}" for number in range(FLEET)]
    for name in names:
        make(session, name, currentStepIndex=0, phase="Progressing")
    lines: list[str] = []

    class Screen:
        """What was told."""

        def line(self, text: str) -> None:
            lines.append(text)

        def check(self) -> None:
            """Somebody listens."""

    def go_on() -> None:
        for index in range(1, len(STEPS)):
            for name in names:
                move(session, name, currentStepIndex=index)
        for name in names:
            move(session, name, currentStepIndex=len(STEPS), phase="Healthy", stableRS="new")

    controller = threading.Timer(3.0, go_on)
    controller.start()
    rollouts = Rollouts(session, "default", names, SystemClock(), Screen())
    try:
        rollouts.wait(Wanted(frozenset({"promoted"})), 90.0, lambda wanted: Watcher(session, wanted))
    finally:
        controller.join()
    for name in names:
        mine = [line.partition("] ")[2] for line in lines if line.startswith(f"[{name}] ")]
        assert [line for line in mine if line.startswith("step ")] == [
            "step 1/3 setWeight 20",
            "step 2/3 pause",
            "step 3/3 setWeight 100",
        ]
        assert mine[-2:] == ["promoted: new is stable", "is Healthy"]
