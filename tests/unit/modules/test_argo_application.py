# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module argo_application on a cluster in memory, with a controller that a test plays."""

from __future__ import annotations

import base64
import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    APPLICATION,
    DEPLOYMENT,
    ROLLOUT,
    SECRET,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import (
    Conflict,
    Forbidden,
    Session,
    Unreachable,
)
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.argo_application import NotThere
from ansible_collections.lumen.airgap.plugins.modules import argo_application as module
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run

COMMIT, OLD = "b7dec754" + "0" * 32, "eebc8881" + "0" * 32
SOURCE = {"repo": "http://gitea/lumen.git", "path": "manifests/app", "revision": "main"}
DESTINATION = {"namespace": "lumen", "server": "https://kubernetes.default.svc"}
RESOURCES = [{"group": "argoproj.io", "kind": "Rollout", "namespace": "lumen", "name": "lumen-api", "status": "Synced"}]
TOKEN = "s3cret-t0ken"


class Cluster:
    """The module, and what a test lets Argo CD do."""

    def __init__(self, session: FakeSession, clock: FakeClock) -> None:
        self.session = session
        self.clock = clock

    def __call__(self, dry_run: bool = False, **params: Any) -> dict[str, Any]:
        defaults = {name: copy.deepcopy(option.get("default")) for name, option in module.ARGUMENT_SPEC.items()}
        given: dict[str, Any] = {
            "name": "lumen-app",
            "source": SOURCE,
            "destination": DESTINATION,
            "automated": {"prune": False, "self_heal": True},
        }
        return module.application({**defaults, **given, **params}, self.session, self.clock, dry_run)  # type: ignore[arg-type]

    def application(self) -> dict[str, Any]:
        return self.session.get(APPLICATION, "lumen-app", "argocd")

    image = "registry/lumen-api:v1"

    def syncs(self, revision: str = COMMIT, **more: Any) -> None:
        """Argo CD has looked at Git: the annotation is gone, and the status is about ``revision``."""
        operation = {
            "phase": "Succeeded",
            "message": "successfully synced",
            "operation": {"sync": {"revision": revision}},
            "syncResult": {"revision": revision},
        }
        status = {
            "sync": {"status": "Synced", "revision": revision},
            "health": {"status": "Healthy"},
            "operationState": operation,
            "resources": RESOURCES,
            **more,
        }
        patch = {"metadata": {"annotations": {"argocd.argoproj.io/refresh": None}}, "status": status}
        self.session.edit(APPLICATION, "lumen-app", "argocd", patch)

    def rollout(self, phase: str = "Healthy", message: str = "", **more: Any) -> None:
        status = {
            "observedGeneration": "1",
            "phase": phase,
            "message": message,
            "currentPodHash": "b",
            "stableRS": "b",
            **more,
        }
        self.session.put(
            {
                "apiVersion": ROLLOUT.api_version,
                "kind": "Rollout",
                "metadata": {"name": "lumen-api", "namespace": "lumen", "generation": 1},
                "spec": {
                    "selector": {"matchLabels": {"app": "lumen-api"}},
                    "strategy": {"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}},
                    "template": {"spec": {"containers": [{"name": "lumen-api", "image": self.image}]}},
                },
                "status": status,
            }
        )

    def writes(self) -> list[str]:
        return [method for method, *_ in self.session.calls if method in ("apply", "patch", "delete", "replace")]


@pytest.fixture
def cluster(session: FakeSession, clock: FakeClock) -> Cluster:
    found = Cluster(session, clock)
    found.rollout()
    return found


def test_made_synced_and_then_nothing(cluster: Cluster) -> None:
    cluster.clock.at(3, cluster.syncs)
    credential = {"username": "lumen", "token": TOKEN, "url": None}
    result = cluster(wave=3, sync_options=["SkipDryRunOnMissingResource=true"], credential=credential)
    assert result["changed"]
    assert (result["status"]["sync"], result["status"]["health"]) == ("Synced", "Healthy")
    assert result["status"]["revision"] == COMMIT
    spec = cluster.application()["spec"]
    assert spec["syncPolicy"]["syncOptions"] == ["SkipDryRunOnMissingResource=true"]
    secret = cluster.session.list(SECRET, "argocd").items[0]
    assert base64.b64decode(secret["data"]["password"]).decode() == TOKEN
    encoded = base64.b64encode(TOKEN.encode()).decode()
    assert TOKEN not in str(result)
    assert encoded not in str(result), "the token in the diff"

    cluster.clock.at(5, cluster.syncs)
    again = cluster(wave=3, sync_options=["SkipDryRunOnMissingResource=true"], credential=credential)
    assert not again["changed"]


def test_check_mode_touches_and_waits_for_nothing(cluster: Cluster) -> None:
    cluster.session.unknown_kinds.add(APPLICATION)
    result = cluster(dry_run=True)
    assert result["changed"]
    assert not result["objects"][0]["verified"]
    cluster.session.unknown_kinds.clear()
    assert cluster(dry_run=True)["status"] == {}
    assert cluster.session.find(APPLICATION, "lumen-app", "argocd") is None
    assert cluster.clock.monotonic() == FakeClock().monotonic()

    cluster(wait="none")
    cluster.syncs()
    cluster.session.calls.clear()
    finished = cluster(dry_run=True)
    assert not finished["changed"]
    assert finished["status"]["sync"] == "Synced"
    assert "patch" not in cluster.writes()


def test_a_refresh_alone_changes_nothing(cluster: Cluster) -> None:
    cluster(wait="none")
    cluster.syncs()
    cluster.clock.at(1, cluster.syncs)
    result = cluster(source=None, destination=None, refresh="hard")
    assert not result["changed"]
    assert {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "hard"}}} in cluster.session.bodies


def test_a_new_commit_is_a_change(cluster: Cluster) -> None:
    cluster(wait="none")
    cluster.syncs(OLD)
    cluster.clock.at(2, lambda: cluster.syncs(COMMIT))
    result = cluster(source=None, destination=None, revision=COMMIT[:8])
    assert result["changed"]
    assert result["status"]["revision"] == COMMIT


def test_an_application_that_is_not_there(cluster: Cluster) -> None:
    with pytest.raises(AirgapError, match=r"There is no Application argocd/lumen-app\. Give source"):
        cluster(source=None, destination=None)
    cluster.session.unknown_kinds.add(APPLICATION)
    with pytest.raises(AirgapError, match="There is no Application"):
        cluster(source=None, destination=None)


def test_a_commit_that_came_after_will_do_once_it_has_brought_the_image(cluster: Cluster) -> None:
    """Somebody has pushed after us, and Argo CD never looks at the commit between."""
    cluster(wait="none")
    cluster.rollout()
    cluster.syncs(OLD)
    for second in range(0, 60, 2):
        cluster.clock.at(second + 0.1, lambda: cluster.syncs(OLD))
    with pytest.raises(NotThere, match="is not Synced and Healthy at b7dec754"):
        cluster(revision=COMMIT, image="registry/lumen-api:v2", timeout=10.0)
    cluster.image = "registry/lumen-api:v2"
    cluster.clock.at(12, lambda: cluster.rollout(observedGeneration="2"))
    begin = cluster.clock.monotonic()
    assert cluster(revision=COMMIT, image="registry/lumen-api:v2", timeout=30.0)["status"]["revision"] == OLD
    assert cluster.clock.monotonic() - begin < 15


def test_a_commit_that_argo_cd_does_not_find_is_asked_for_again(cluster: Cluster) -> None:
    cluster(wait="none")
    for second in range(0, 60, 2):
        cluster.clock.at(second + 0.1, lambda: cluster.syncs(OLD))
    with pytest.raises(NotThere, match=r"is not Synced and Healthy at b7dec754 after 30 s\. It is Synced at eebc8881"):
        cluster(revision=COMMIT, timeout=30.0)
    asked = [body for body in cluster.session.bodies if "argocd.argoproj.io/refresh" in str(body)]
    assert 3 <= len(asked) <= 5


def test_an_argo_cd_that_does_not_react_is_said(cluster: Cluster) -> None:
    cluster(wait="none")
    cluster.syncs()
    with pytest.raises(NotThere, match="as it was asked to: is its application controller running"):
        cluster(timeout=20.0)


def test_pods_that_may_not_be_seen_are_no_reason_to_stop(cluster: Cluster) -> None:
    cluster(wait="none")
    cluster.rollout("Progressing", "more replicas need to be updated")
    cluster.clock.at(0.2, cluster.syncs)
    cluster.clock.at(5, cluster.rollout)
    cluster.session.fail_next("list", Forbidden("list Pod lumen: forbidden", status=403), times=4)
    assert cluster(source=None, destination=None)["status"]["workloads"][0]["health"] == "Healthy"


def test_an_aborted_rollout_ends_the_wait_at_once(cluster: Cluster) -> None:
    cluster(wait="none")
    cluster.rollout("Degraded", "RolloutAborted: Rollout aborted update to revision 3")
    cluster.clock.at(1, lambda: cluster.syncs(health={"status": "Degraded"}))
    with pytest.raises(NotThere) as failure:
        cluster(timeout=600.0)
    assert failure.value.details["reasons"] == [
        "Rollout lumen/lumen-api is Degraded: RolloutAborted: Rollout aborted update to revision 3"
    ]
    assert cluster.clock.monotonic() < FakeClock().monotonic() + 10


def test_a_pause_is_no_failure(cluster: Cluster) -> None:
    cluster(wait="none")
    cluster.rollout("Paused", "CanaryPauseStep", currentStepIndex=1)
    paused = {"health": {"status": "Suspended"}}
    cluster.syncs(**paused)
    cluster.clock.at(1, lambda: cluster.syncs(**paused))
    result = cluster(accept_suspended=True)
    assert result["status"]["health"] == "Suspended"
    assert result["status"]["workloads"][0]["message"].startswith("paused at step 2 of 2 (CanaryPauseStep)")
    cluster.clock.at(3, lambda: cluster.syncs(**paused))
    with pytest.raises(NotThere, match=r"after 20 s.*is Suspended: paused at step 2 of 2"):
        cluster(timeout=20.0)


def test_an_error_of_argo_cd_is_given_half_a_minute(cluster: Cluster) -> None:
    broken = {
        "sync": {"status": "Unknown"},
        "conditions": [{"type": "ComparisonError", "message": "rpc error: authentication required"}],
    }
    cluster(wait="none")
    for second in range(0, 100, 3):
        cluster.clock.at(second + 0.2, lambda: cluster.syncs(**broken))
    with pytest.raises(NotThere, match="ComparisonError: rpc error: authentication required"):
        cluster(timeout=600.0)
    waited = cluster.clock.monotonic() - FakeClock().monotonic()
    assert 28 <= waited <= 40


def test_a_repo_server_that_has_just_started_is_waited_for(cluster: Cluster) -> None:
    broken = {"sync": {"status": "Unknown"}, "conditions": [{"type": "ComparisonError", "message": "refused"}]}
    cluster(wait="none")
    cluster.syncs(**broken)
    cluster.clock.at(1, lambda: cluster.syncs(**broken))
    cluster.clock.at(15, lambda: cluster.syncs(conditions=[]))
    assert cluster()["status"]["sync"] == "Synced"


def test_a_sync_of_another_commit_that_is_tried_again_is_ended(cluster: Cluster) -> None:
    cluster(wait="none")
    retried = {
        "phase": "Running",
        "retryCount": 2,
        "message": "one or more objects failed to apply. Retrying attempt #3",
        "operation": {"sync": {"revision": OLD}},
        "syncResult": None,
    }
    out = {"sync": {"status": "OutOfSync", "revision": OLD}, "operationState": retried}
    cluster.syncs(**out)
    cluster.session.bodies.clear()
    cluster.clock.at(0.7, lambda: cluster.syncs(**out))
    cluster.clock.at(4, cluster.syncs)
    assert cluster(revision=COMMIT)["status"]["revision"] == COMMIT
    ended = {"status": {"operationState": {"phase": "Terminating"}}}
    assert cluster.session.bodies.count(ended) == 1

    cluster.session.bodies.clear()
    cluster.syncs(**out)
    cluster.clock.at(6, lambda: cluster.syncs(**out))
    with pytest.raises(NotThere, match="the sync of eebc8881 fails and is tried again"):
        cluster(revision=COMMIT, terminate=False, timeout=8.0)
    assert ended not in cluster.session.bodies


def test_pods_that_cannot_start_are_told(cluster: Cluster) -> None:
    cluster(wait="none")
    cluster.session.put(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "lumen", "generation": 1},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}},
            "status": {"observedGeneration": 1},
        }
    )
    waiting = {"reason": "ErrImagePull", "message": "192.168.2.2:5000/web:v9: not found"}
    cluster.session.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web-1", "namespace": "lumen", "labels": {"app": "web"}},
            "status": {"containerStatuses": [{"name": "web", "state": {"waiting": waiting}}]},
        }
    )
    web = {"group": "apps", "kind": "Deployment", "namespace": "lumen", "name": "web", "status": "Synced"}
    cluster.clock.at(1, lambda: cluster.syncs(health={"status": "Progressing"}, resources=[web]))
    with pytest.raises(NotThere, match=r"ErrImagePull: 192\.168\.2\.2:5000/web:v9: not found"):
        cluster(timeout=5.0)
    assert cluster.session.find(DEPLOYMENT, "web", "lumen")


def test_an_api_server_that_restarts_before_the_wait_is_asked_again(cluster: Cluster, tmp_path: Path) -> None:
    cluster(wait="none")
    away = Unreachable("no answer from https://fake:6443")
    for method in ("find", "patch"):
        cluster.session.fail_next(method, away, times=20)
    cluster.clock.at(42, cluster.syncs)
    progress = tmp_path / "progress"
    given = {"source": None, "destination": None, "wait": "synced", "progress_path": str(progress)}
    assert cluster(**given)["status"]["sync"] == "Synced"
    assert "no answer from https://fake:6443; it is asked again for up to 60 s" in progress.read_text()
    cluster.session.fail_next("find", away)
    with pytest.raises(Unreachable):
        cluster(**given, patience=0.0)


def test_an_api_server_that_is_away_is_waited_for_and_one_that_forbids_is_not(cluster: Cluster) -> None:
    cluster(wait="none")
    away = Unreachable("get Application: no answer from https://fake:6443")
    cluster.clock.at(0.2, lambda: cluster.session.fail_next("get", away, times=3))
    cluster.clock.at(3, cluster.syncs)
    assert cluster(source=None, destination=None, refresh="none", wait="synced")["status"]["sync"] == "Synced"
    assert cluster.session._failures["get"] == []
    cluster.session.fail_next("list", Forbidden("list: forbidden", status=403))
    cluster.session.fail_next("find", Forbidden("find: forbidden", status=403))
    with pytest.raises(Forbidden):
        cluster()


def test_a_field_of_somebody_else_is_not_taken(cluster: Cluster) -> None:
    cluster(wait="none")
    theirs = {"spec": {"source": {"targetRevision": "hotfix"}}}
    cluster.session.owns("kubectl-edit", APPLICATION, "lumen-app", "argocd", theirs)
    with pytest.raises(Conflict, match=r"targetRevision \(kubectl-edit\)"):
        cluster(wait="none")


# ---- absent ----


@pytest.mark.parametrize(("cascade", "finalizers"), [(True, ["resources-finalizer.argocd.argoproj.io"]), (False, [])])
def test_absent_says_by_a_finalizer_what_becomes_of_the_rest(
    cascade: bool, finalizers: list[str], cluster: Cluster
) -> None:
    cluster(wait="none")
    if not cascade:
        old = ["resources-finalizer.argocd.argoproj.io/background", "theirs.example/keep"]
        cluster.session.edit(APPLICATION, "lumen-app", "argocd", {"metadata": {"finalizers": old}})
    assert cluster(dry_run=True, state="absent", cascade=cascade)["changed"]
    assert cluster.application()
    result = cluster(state="absent", cascade=cascade)
    assert result["objects"][0]["action"] == "deleted"
    patched = [body["metadata"]["finalizers"] for body in cluster.session.bodies if "finalizers" in str(body)]
    assert patched == [finalizers or ["theirs.example/keep"]]
    assert cluster.session.find(APPLICATION, "lumen-app", "argocd") is None
    assert not cluster(state="absent", cascade=cascade)["changed"]


def test_absent_takes_the_credential_along_when_it_is_named(cluster: Cluster) -> None:
    credential = {"username": "lumen", "token": TOKEN, "url": None}
    cluster(wait="none", credential=credential)
    cluster(state="absent")
    assert cluster.session.list(SECRET, "argocd").items
    result = cluster(state="absent", credential=credential)
    assert result["changed"]
    assert TOKEN not in str(result)
    assert cluster.session.list(SECRET, "argocd").items == []


def test_what_does_not_go_away_is_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(wait="none")
    cluster.syncs()
    monkeypatch.setattr(cluster.session, "delete", lambda *_a, **_k: None)  # its finalizer is never taken away
    with pytest.raises(NotThere, match=r"still there after 10 s\. Left of it: Rollout lumen/lumen-api"):
        cluster(state="absent", cascade=True, timeout=10.0)


def test_a_credential_without_a_repository_is_refused(cluster: Cluster) -> None:
    with pytest.raises(AirgapError, match="needs its url"):
        cluster(source=None, destination=None, credential={"username": "lumen", "token": TOKEN, "url": None})


# ---- the module around it ----


def test_the_module_itself(run: Run, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "connect", lambda *_: cluster.session)
    base: dict[str, Any] = {"name": "lumen-app", "source": SOURCE, "destination": DESTINATION}
    credential = {"username": "lumen", "token": TOKEN}
    result = run(module, check=True, **base, credential=credential)
    assert result["changed"]
    assert TOKEN not in str(result)
    assert "destination" in run(module, name="a", source=SOURCE)["msg"]
    assert run(module, **base, revision="HEAD")["msg"].startswith("The option revision must be a commit")
    assert run(module, **base, timeout=-1)["msg"].startswith("The option timeout must be more than 0")


def test_return_and_options_are_documented(cluster: Cluster) -> None:
    documented = yaml.safe_load(module.RETURN)
    cluster.clock.at(1, cluster.syncs)
    result = cluster()
    assert set(result) - {"changed", "diff"} <= set(documented)
    assert set(result["status"]) == set(documented["status"]["contains"])
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert set(options) | {"kubeconfig", "context", "patience", "progress_path", "quiet"} == set(module.ARGUMENT_SPEC)
