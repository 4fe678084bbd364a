# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What befalls a release through Git, with the real controllers.

However it is disturbed, it ends promoted or on stable and never in between: Git and the cluster agree, there is one
commit that brought the version and at most one that took it back, and one evidence that says what happened.
"""

from __future__ import annotations

import json
import re
import threading
import time

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.seen import is_ready

from .release_site import image_of, kubectl, until_healthy
from .release_stage import CHECK, Stage, site, stage
from .test_lifecycle import up

__all__ = ["site", "stage"]
pytestmark = pytest.mark.alone

#: How long Gitea is away, and a node is stopped: 50 s are what Kubernetes waits for a node, and 5 s our pods.
AWAY, STILL = 20.0, 65.0


# -- restarted ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespace", "selector", "phase"),
    [
        ("argocd", "app.kubernetes.io/name=argocd-application-controller", r"TASK \[Have Argo CD bring it"),
        ("argo-rollouts", "app.kubernetes.io/name=argo-rollouts", CHECK),
    ],
    ids=["argocd", "rollouts"],
)
def test_a_controller_is_restarted(stage: Stage, namespace: str, selector: str, phase: str) -> None:
    run = stage.release()
    try:
        assert run.until(phase), run.text[-6000:]
        kubectl("-n", namespace, "delete", "pod", "-l", selector, "--wait=false")
        stage.ended(run)
    finally:
        until_healthy(f"the controller in {namespace}", lambda: not_ready(namespace, selector))


@pytest.mark.parametrize("phase", [r"TASK \[Write down what Git says", CHECK], ids=["bump", "canary"])
def test_the_api_server_is_restarted(stage: Stage, phase: str) -> None:
    from driver.cluster import unhealthy
    from driver.nodes import on

    run = stage.release()
    try:
        assert run.until(phase), run.text[-6000:]
        on("node-1", "pkill", "-KILL", "-x", "kube-apiserver")
        stage.ended(run)
    finally:
        until_healthy("the lab", unhealthy)


# -- away --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["promoted", "rolled_back"])
def test_gitea_is_away_when_git_is_to_change(stage: Stage, outcome: str) -> None:
    """At the bump, or at the revert: it is waited for."""
    stage.site.verdict(stage.cluster, good=outcome == "promoted")
    run = stage.release()
    back = threading.Timer(AWAY, scale_gitea, [1])
    try:
        assert run.until(r"TASK \[Write down that the image is there" if outcome == "promoted" else CHECK)
        scale_gitea(0)
        back.start()
        code, output = run.end()
        back.join()
        until_healthy("Gitea", lambda: not_ready("gitea", "app=gitea"))
    finally:
        back.cancel()
        scale_gitea(1)
        until_healthy("Gitea", gitea_away)
    assert (code == 0) == (outcome == "promoted"), output[-6000:]
    stage.site.ended(stage.cluster, stage.version, stage.before, outcome)


@pytest.mark.parametrize("away", [5.0, 600.0], ids=["for a moment", "for good"])
def test_the_registry_is_away_when_the_canary_is_pulled(stage: Stage, away: float) -> None:
    from driver.cluster import registry_silent
    from driver.nodes import on

    run = stage.release()
    back = threading.Timer(away, on, ["node-1", "docker", "start", "registry"])
    try:
        assert run.until(r"TASK \[Have the manifest name the image"), run.text[-6000:]
        on("node-1", "docker", "stop", "--time=1", "registry")
        back.start()
        evidence = stage.ended_somehow(run)
    finally:
        back.cancel()
        on("node-1", "docker", "start", "registry")
        until_healthy("the registry", registry_silent)
    print(evidence["outcome"], evidence["reason"])
    if away > 60:
        assert evidence["outcome"] == "rolled_back"
        assert re.search("ErrImagePull|ImagePullBackOff", evidence["reason"]), evidence["reason"]


def test_the_node_of_the_canary_is_stopped(stage: Stage) -> None:
    """As by a power cut, and for longer than Kubernetes waits for a node: the canary's pod is put elsewhere."""
    from driver import nodes
    from driver.host import docker

    try:
        kubectl("cordon", "node-1")
        run = stage.release()
        assert run.until(CHECK), run.text[-6000:]
        kubectl("uncordon", "node-1")
        canary = [pod for pod in stage.site.pods(stage.cluster) if image_of(pod).endswith(f":{stage.version}")]
        assert [pod["spec"]["nodeName"] for pod in canary] == ["node-2"]
        docker("kill", "node-2")
        time.sleep(STILL)
        up()
        code, output = run.end()
    finally:
        until_healthy("node-1", lambda: kubectl("uncordon", "node-1") and None)
        if nodes.state("node-2") != "running":
            up()
    print(output[-3000:])
    version = stage.version if code == 0 else stage.before
    # Pods of a node that was lost are replaced once more after it is back.
    stage.site.settle(version)
    stage.site.ended(stage.cluster, stage.version, stage.before, "promoted" if code == 0 else "rolled_back")


def not_ready(namespace: str, selector: str) -> str | None:
    """Unless one pod is there, ready and not on its way out."""
    items = json.loads(kubectl("-n", namespace, "get", "pods", "-l", selector, "-o", "json"))["items"]
    staying = [pod for pod in items if not pod["metadata"].get("deletionTimestamp")]
    return None if len(staying) == len(items) == 1 and is_ready(staying[0]) else f"{len(items)} pods of {selector}"


def scale_gitea(replicas: int) -> None:
    kubectl("-n", "gitea", "scale", "deployment", "gitea", f"--replicas={replicas}")


def gitea_away() -> str | None:
    from driver.cluster import gitea_silent

    return gitea_silent() or not_ready("gitea", "app=gitea")
