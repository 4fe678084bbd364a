# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What befalls a release through Git, with the real controllers.

However it is disturbed, it ends promoted or on stable and never in between: Git and the cluster agree, there is one
commit that brought the version and at most one that took it back, and one evidence that says what happened.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.seen import is_ready

from .plays import Run
from .release_site import APP, Cluster, ReleaseSite, image_of, kubectl, standing_site, token, until_healthy

#: How long Gitea is away, and a node stands still: 50 s are what Kubernetes waits for a node, and 5 s our pods.
AWAY, STILL = 20.0, 65.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleaseSite]:
    with standing_site(tmp_path_factory.mktemp("faults"), "release-test", ["one"]) as site:
        yield site


class Stage:
    """The site before a test: ``before`` is the version that runs, ``version`` is a new one."""

    def __init__(self, site: ReleaseSite) -> None:
        self.site = site
        self.cluster: Cluster = site.clusters[0]
        self.before = site.in_git(self.cluster).rpartition(":")[2]
        site.settle(self.before, 150)
        self.version = site.version()
        site.verdict(self.cluster, good=True)

    def release(self, **variables: str) -> Run:
        return self.site.release(self.version, **variables)

    def ended(self, run: Run, outcome: str = "promoted") -> dict[str, Any]:
        """Assert that it has ended in this way; its evidence."""
        code, output = run.end()
        assert (code == 0) == (outcome == "promoted"), output[-6000:]
        return self.site.ended(self.cluster, self.version, self.before, outcome)

    def ended_somehow(self, run: Run) -> dict[str, Any]:
        """Assert that it has ended promoted or rolled back, whichever; its evidence."""
        code, output = run.end()
        outcome = "promoted" if code == 0 else "rolled_back"
        try:
            return self.site.ended(self.cluster, self.version, self.before, outcome)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{output[-6000:]}") from error


@pytest.fixture
def stage(site: ReleaseSite) -> Stage:
    return Stage(site)


# -- killed ------------------------------------------------------------------------------------------------------------

BUMP = [
    r"TASK \[Write down that the image is there",
    r"TASK \[Write down what Git says",
    r"TASK \[Have Argo CD bring it",
]
BACK = [r"TASK \[Write down that Git is back", r"TASK \[Have Argo CD bring back"]
END = [r"TASK \[Write the evidence", r"TASK \[Give the release back"]
CHECK = r"check 1/4"


@pytest.mark.parametrize(
    ("outcome", "phases"),
    [("promoted", [r"TASK \[Take the release", *BUMP, CHECK, *END]), ("rolled_back", [CHECK, *BACK, *END])],
    ids=["good", "bad"],
)
def test_killed_in_each_phase_and_run_again(stage: Stage, outcome: str, phases: list[str]) -> None:
    """One release, killed again and again: every second time its workers are left to find out."""
    stage.site.verdict(stage.cluster, good=outcome == "promoted")
    reached = []
    for number, phase in enumerate(phases):
        run = stage.release()
        if run.until(phase):
            run.kill(alone=number % 2 == 1)
            reached.append(phase)
        elif CHECK not in reached:
            pytest.fail(f"it has ended before {phase}:\n{run.text[-6000:]}")
    evidence = stage.ended(stage.release(), outcome)
    assert reached == phases
    resumed = [entry for entry in evidence["timeline"] if "taken up" in entry["text"]]
    print(len(resumed), [entry["text"] for entry in evidence["timeline"]])


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


def test_the_api_server_is_restarted(stage: Stage) -> None:
    from driver.cluster import unhealthy
    from driver.nodes import on

    run = stage.release()
    try:
        assert run.until(CHECK), run.text[-6000:]
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


def test_the_node_of_the_canary_stands_still(stage: Stage) -> None:
    """For longer than Kubernetes waits for a node: the canary's pod is put elsewhere, or comes back."""
    from driver.cluster import unhealthy
    from driver.host import docker

    try:
        kubectl("cordon", "node-1")
        run = stage.release()
        assert run.until(CHECK), run.text[-6000:]
        kubectl("uncordon", "node-1")
        canary = [pod for pod in stage.site.pods(stage.cluster) if image_of(pod).endswith(f":{stage.version}")]
        assert [pod["spec"]["nodeName"] for pod in canary] == ["node-2"]
        docker("pause", "node-2")
        time.sleep(STILL)
        docker("unpause", "node-2")
        code, output = run.end()
    finally:
        if docker("inspect", "--format", "{{.State.Paused}}", "node-2").strip() == "true":
            docker("unpause", "node-2")
        until_healthy("node-1", lambda: kubectl("uncordon", "node-1") and None)
        until_healthy("the lab", unhealthy)
    print(output[-3000:])
    version = stage.version if code == 0 else stage.before
    # Pods of a node that was lost are replaced once more after it is back.
    stage.site.settle(version)
    stage.site.ended(stage.cluster, stage.version, stage.before, "promoted" if code == 0 else "rolled_back")


# -- aborted by hand ---------------------------------------------------------------------------------------------------


def test_what_was_killed_before_its_canary_is_aborted_and_not_released(stage: Stage) -> None:
    run = stage.release()
    assert run.until(r"TASK \[Write down what Git says"), run.text[-6000:]
    run.kill()
    output = stage.site.must_play("playbooks/abort.yml")
    evidence = stage.site.ended(stage.cluster, stage.version, stage.before, "failed")
    assert "aborted by hand" in evidence["reason"], output[-3000:]


def test_the_run_that_works_takes_back_what_is_aborted(stage: Stage) -> None:
    run = stage.release()
    assert run.until(CHECK), run.text[-6000:]
    assert "is at work: it takes" in " ".join(stage.site.must_play("playbooks/abort.yml").split())
    assert stage.ended(run, "rolled_back")["reason"] == "somebody has aborted it"


# -- two at once -------------------------------------------------------------------------------------------------------


def test_of_two_at_once_one_is_refused_and_told_whose_turn_it_is(stage: Stage) -> None:
    runs = [stage.release(), stage.release()]
    codes = sorted(run.end()[0] for run in runs)
    texts = [run.text for run in runs if run.process.returncode != 0]
    assert codes[0] == 0, runs[0].text[-3000:] + runs[1].text[-3000:]
    assert codes[1] != 0
    assert re.search(rf"belongs to {APP}-{re.escape(stage.version)}-\d+/", texts[0].replace("\n", " ")), texts[0]
    stage.site.ended(stage.cluster, stage.version, stage.before, "promoted")


# -- the login of the repository ---------------------------------------------------------------------------------------

WATCH = """
import base64, os, sys, time
token = sys.stdin.read().strip()
secrets = [token.encode(), base64.b64encode(f"git:{token}".encode())]
files, seen, end = set(), set(), time.time() + 600
while time.time() < end and not os.path.exists("/tmp/seen-enough"):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                text = open(f"/proc/{pid}/{name}", "rb").read()
            except OSError:
                continue
            if any(secret in text for secret in secrets):
                seen.add(name)
    if os.path.exists(sys.argv[1]):
        files.add(oct(os.stat(sys.argv[1]).st_mode & 0o777))
    time.sleep(0.01)
print(sorted(seen), sorted(files))
"""


def test_the_login_of_the_repository_is_seen_by_nobody_and_not_left_behind(stage: Stage) -> None:
    from driver.nodes import on

    login = f"/var/cache/lumen-airgap/build/{stage.site.name}-{stage.cluster.host}.gitconfig"
    argv = ["docker", "exec", "-i", "node-1", "python3", "-c", WATCH, login]
    on("node-1", "rm", "-f", "/tmp/seen-enough")
    watcher = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert watcher.stdin is not None
    watcher.stdin.write(token())
    watcher.stdin.close()
    watcher.stdin = None
    try:
        run = stage.release()
        stage.ended(run)
    finally:
        on("node-1", "touch", "/tmp/seen-enough")
        said = watcher.communicate(timeout=30)[0]
        on("node-1", "rm", "-f", "/tmp/seen-enough")
    assert said.strip() == "[] ['0o600']"
    assert token() not in run.text
    assert base64.b64encode(f"git:{token()}".encode()).decode() not in run.text
    assert on("node-1", "sh", "-c", f"ls {login} 2>/dev/null || true").strip() == ""


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
