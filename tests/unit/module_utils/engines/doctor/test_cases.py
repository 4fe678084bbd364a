# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each case: that it is found, with its cause and remedy, and that what only looks like it is not."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.doctor import rollout as rollout_engine
from ansible_collections.lumen.airgap.plugins.module_utils.engines.doctor.facts import Facts, ImageAnswer, Unreached
from ansible_collections.lumen.airgap.tests.unit.module_utils.engines.doctor.conftest import (
    IMAGE,
    NOW,
    REGISTRY,
    application,
    at,
    codes,
    deployment,
    healthy,
    one,
    pipeline,
    pod,
    replica_set,
    rollout,
    run,
    runner,
)


def test_a_healthy_cluster_has_no_findings() -> None:
    assert codes(healthy()) == []


# Images and pods

BACK_OFF = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "…/lumen-api:v9"'}


def pulling(image: str = f"{IMAGE}:v9", **answers: Any) -> Facts:
    return healthy(pods=[pod("lumen-api-bbb-1", image=image, waiting=BACK_OFF)], images=answers.get("images", {}))


def test_an_image_that_the_registry_lacks() -> None:
    found = one(pulling(images={f"{IMAGE}:v9": ImageAnswer(False, ["v1.0.0", "v1.1.0"])}), "image-missing")
    assert found.cause == (f"The registry {REGISTRY} has no lumen-api:v9. Of lumen-api it has v1.0.0, v1.1.0.")
    assert found.subject == "Pod lumen/lumen-api-bbb-1"
    assert f"$ docker push {IMAGE}:v9" in found.remedy[0]


def test_a_repository_that_the_registry_lacks() -> None:
    found = one(pulling(images={f"{IMAGE}:v9": ImageAnswer(False, None)}), "image-missing")
    assert "has no repository lumen-api" in found.cause


def test_many_tags_are_not_all_told() -> None:
    tags = [f"v1.0.{number}" for number in range(20)]
    found = one(pulling(images={f"{IMAGE}:v9": ImageAnswer(False, tags)}), "image-missing")
    assert found.cause.endswith("v1.0.18, v1.0.19, and 12 more.")


def test_an_image_that_is_there_and_cannot_be_reached() -> None:
    found = one(pulling(images={f"{IMAGE}:v9": ImageAnswer(True, ["v9"])}), "image-unreachable")
    assert "the way from the node to it" in found.cause


@pytest.mark.parametrize("images", [{}, {f"{IMAGE}:v9": ImageAnswer(False, (), "no answer in time")}])
def test_a_registry_that_could_not_be_asked(images: dict[str, ImageAnswer]) -> None:
    assert "is not known" in one(pulling(images=images), "image-unknown").cause


def test_an_image_from_outside() -> None:
    assert "docker.io/redis:7 is not named after" in one(pulling("docker.io/redis:7"), "image-elsewhere").cause


def test_two_pods_with_the_same_image_are_one_finding() -> None:
    facts = healthy(pods=[pod(f"p{number}", image=f"{IMAGE}:v9", waiting=BACK_OFF) for number in (1, 2)])
    assert one(facts, "image-unknown").subject == "Pod lumen/p1 and 1 more"


def test_a_pod_that_is_only_starting_is_no_finding() -> None:
    assert codes(healthy(pods=[pod(waiting={"reason": "ContainerCreating"})])) == []


def test_a_pod_that_is_being_deleted_is_no_finding() -> None:
    leaving = pod(image=f"{IMAGE}:v9", waiting=BACK_OFF)
    leaving["metadata"]["deletionTimestamp"] = at(-1)
    assert codes(healthy(pods=[leaving])) == []


def test_a_pod_that_no_node_takes() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
    }
    waiting = pod("act-runner-2", "gitea", labels={"app": "act-runner"}, conditions=[condition])
    waiting["status"]["containerStatuses"] = []
    found = one(healthy(workload_pods=[waiting]), "pod-cannot-start")
    assert found.cause.startswith("0/2 nodes are available")
    assert "$ kubectl label node <node> <key>=<value>" in found.remedy[1]


def test_a_pod_that_crashes() -> None:
    found = one(healthy(pods=[pod(waiting={"reason": "CrashLoopBackOff", "message": "back-off"})]), "pod-cannot-start")
    assert "$ kubectl logs -n lumen lumen-api-aaa-1 --previous" in found.remedy[0]


def test_a_replica_set_that_may_make_no_pods() -> None:
    refused = replica_set()
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: q"}
    refused["status"] = {"conditions": [condition]}
    assert one(healthy(replica_sets=[refused]), "pods-refused").cause == "exceeded quota: q"


# Controllers


def test_a_controller_that_is_away() -> None:
    down = deployment("argo-rollouts", "argo-rollouts", available=0)
    found = one(healthy(workloads=[down]), "workload-down")
    assert found.subject == "Deployment argo-rollouts/argo-rollouts"
    assert "no Rollout moves without it" in found.cause


def test_a_controller_that_is_scaled_to_nothing() -> None:
    found = one(healthy(workloads=[deployment("argocd-repo-server", "argocd", 0, 0)]), "workload-down")
    assert "$ kubectl scale -n argocd deployment argocd-repo-server --replicas=1" in found.remedy[0]


def test_a_controller_that_was_never_installed() -> None:
    expected = [("argo-rollouts", "argo-rollouts"), ("argocd", "argocd-repo-server")]
    found = one(healthy(expected=expected), "workload-down")
    assert found.subject == "argocd/argocd-repo-server"


def test_what_nobody_needs_may_be_scaled_to_nothing() -> None:
    assert codes(healthy(workloads=[deployment("argo-rollouts-dashboard", "argo-rollouts", 0, 0)])) == []


# The runner


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"runners": [runner(status="offline")]}, "Every runner that Gitea knows is offline"),
        ({"runners": []}, "No runner is registered"),
        ({"runners": [runner(disabled=True)]}, "online and disabled"),
    ],
)
def test_no_runner(changes: dict[str, Any], says: str) -> None:
    queued = [{"id": 9, "display_title": "Release v1.0.1"}]
    found = one(healthy(pipeline=pipeline(queued=queued, **changes)), "runner-offline")
    assert says in found.cause
    assert "run 9 waits: Release v1.0.1" in found.evidence
    assert found.remedy


def test_runners_that_could_not_be_asked_for_are_not_judged() -> None:
    assert codes(healthy(pipeline=pipeline(runners=None))) == []


def test_the_pod_of_a_runner_that_is_offline_is_told() -> None:
    facts = healthy(pipeline=pipeline(runners=[runner(status="offline")]))
    found = one(facts, "runner-offline")
    assert "pod act-runner-1 is Running" in found.evidence
    assert "$ kubectl logs -n gitea -l app=act-runner --tail=50" in found.remedy[0]
    assert "app=act-runner" in one(replace(facts, runner_namespace=""), "runner-offline").remedy[0]
    gone = one(replace(facts, workload_pods=[]), "runner-offline")
    assert gone.remedy[0].startswith("There is no pod of it")
    scaled = one(
        replace(facts, workload_pods=[], workloads=[deployment("act-runner", "gitea", 0, 0)]), "runner-offline"
    )
    assert "--replicas=1" in scaled.remedy[0]


def test_a_dead_record_beside_a_runner_that_is_online_is_no_finding() -> None:
    assert codes(healthy(pipeline=pipeline(runners=[runner(id=1, status="offline"), runner(id=2)]))) == []


def test_a_busy_runner_is_no_finding() -> None:
    assert codes(healthy(pipeline=pipeline(runners=[runner(busy=True)]))) == []


def test_a_runner_without_the_label() -> None:
    jobs = [{"name": "release", "status": "queued", "labels": ["gpu"]}]
    facts = healthy(pipeline=pipeline(runs=[run(status="queued", conclusion="")], jobs=jobs))
    assert "A job runs on gpu" in one(facts, "runner-labels").cause
    assert codes(facts) == ["runner-labels"]


def test_a_job_that_waits_for_a_busy_runner_is_only_told() -> None:
    jobs = [{"name": "release", "status": "queued", "labels": ["ubuntu-latest"]}]
    facts = healthy(
        pipeline=pipeline(runs=[run(status="queued", conclusion="")], jobs=jobs, runners=[runner(busy=True)])
    )
    assert one(facts, "pipeline-waiting").severity == "info"
    assert "online and busy" in one(facts, "pipeline-waiting").cause


def test_who_may_not_see_the_runners_is_told_so_of_a_run_that_waits() -> None:
    jobs = [{"name": "test", "status": "waiting", "labels": ["ubuntu-latest"]}]
    waiting = pipeline(runs=[run(status="queued", conclusion="")], jobs=jobs, runners=None)
    assert "owners of the repository alone" in one(healthy(pipeline=waiting), "pipeline-waiting").cause


def test_a_run_between_two_jobs_is_no_finding() -> None:
    jobs = [
        {"name": "test", "status": "completed", "conclusion": "success", "labels": ["ubuntu-latest"]},
        {"name": "release", "status": "waiting", "labels": ["ubuntu-latest"]},
    ]
    assert codes(healthy(pipeline=pipeline(runs=[run(status="queued", conclusion="")], jobs=jobs))) == []


# The tag


def test_a_tag_that_gitea_does_not_have() -> None:
    found = one(healthy(pipeline=pipeline(tag="v1.0.1", sha="", runs=[])), "tag-missing")
    assert found.remedy == ["Push it:\n$ git push gitea v1.0.1"]


@pytest.mark.parametrize("words", ["[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]"])
def test_a_tag_on_a_commit_that_says_skip_ci(words: str) -> None:
    message = f"chore: bump lumen-api to v1.0.0\n\n{words}\n"
    facts = healthy(pipeline=pipeline(tag="v1.0.1", message=message, runs=[]))
    found = one(facts, "tag-skip-ci")
    assert found.title == f"The tag is on a commit that says {words}"
    assert "v1.0.1 is commit abc1234: chore: bump lumen-api to v1.0.0" in found.evidence
    assert "git commit --allow-empty" in found.remedy[0]
    assert codes(facts) == ["tag-skip-ci"]


def test_a_tag_on_such_a_commit_that_was_dispatched_is_no_finding() -> None:
    dispatched = run(event="workflow_dispatch")
    assert codes(healthy(pipeline=pipeline(message="bump [skip ci]", runs=[dispatched]))) == []


def test_a_run_of_the_branch_is_none_of_the_tag() -> None:
    facts = healthy(pipeline=pipeline(runs=[run(path="ci.yaml@refs/heads/main")]))
    found = one(facts, "tag-not-picked-up")
    assert "$ git push gitea :refs/tags/v1.0.0 && git push gitea v1.0.0" in found.remedy[0]


def test_a_tag_of_a_commit_without_a_workflow() -> None:
    assert codes(healthy(pipeline=pipeline(runs=[], workflows=[]))) == ["tag-no-workflow"]


def test_a_tag_whose_image_is_there_needs_no_run() -> None:
    built = {f"{IMAGE}:v1.0.0": ImageAnswer(True, ["v1.0.0"])}
    assert codes(healthy(pipeline=pipeline(runs=[], message="bump [skip ci]"), images=built)) == []


def test_a_repository_without_actions() -> None:
    assert codes(healthy(pipeline=pipeline(actions=False, runs=[]))) == ["actions-off"]


def test_without_tags_nothing_is_said_of_them() -> None:
    assert codes(healthy(pipeline=pipeline(tag="", sha="", runs=[], jobs=[]))) == []


def test_a_pipeline_that_failed() -> None:
    jobs = [{"name": "test", "status": "completed", "conclusion": "failure", "labels": ["ubuntu-latest"]}]
    facts = healthy(
        pipeline=pipeline(runs=[run(conclusion="failure")], jobs=jobs, log=["--- FAIL: TestHealth", "FAIL"])
    )
    found = one(facts, "pipeline-failed")
    assert found.cause == "test ended with failure; nothing was pushed and the manifest is as before."
    assert "log: --- FAIL: TestHealth" in found.evidence
    assert "tag a new version" in found.remedy[0]


def test_a_pipeline_that_failed_after_the_push() -> None:
    jobs = [{"name": "release", "status": "completed", "conclusion": "failure", "labels": ["ubuntu-latest"]}]
    images = {f"{IMAGE}:v1.0.0": ImageAnswer(True, ["v1.0.0"])}
    failed = pipeline(runs=[run(conclusion="failure")], jobs=jobs)
    found = one(healthy(pipeline=failed, images=images), "pipeline-failed")
    assert found.cause == "release ended with failure; the image is in the registry, and the manifest was not bumped."
    assert "run the job again" in found.remedy[0]
    missing = {f"{IMAGE}:v1.0.0": ImageAnswer(False, [])}
    found = one(healthy(pipeline=failed, images=missing), "pipeline-failed")
    assert "nothing was pushed" in found.cause


def test_the_last_run_of_a_tag_decides() -> None:
    runs = [run(id=7, conclusion="failure"), run(id=8)]
    assert codes(healthy(pipeline=pipeline(runs=runs))) == []


# Applications


def out_of_sync(kind: str, group: str, **changes: Any) -> dict[str, Any]:
    resource = {"group": group, "kind": kind, "name": "rollouts.argoproj.io", "status": "OutOfSync", "version": "v1"}
    return application(
        "argo-rollouts",
        sync={"status": "OutOfSync", "revision": "c0ffee0" * 5},
        resources=[resource],
        **changes,
    )


CRD = ("CustomResourceDefinition", "apiextensions.k8s.io")


def test_ignore_differences_that_are_missing() -> None:
    app = out_of_sync(*CRD)
    del app["spec"]["ignoreDifferences"]
    found = one(healthy(applications=[app]), "ignore-differences-missing")
    assert "CustomResourceDefinition rollouts.argoproj.io" in found.evidence
    assert "it lacks: ignoreDifferences /spec/preserveUnknownFields, ignoreDifferences /status" in found.evidence
    assert "role applications" in found.remedy[0]


def test_ignore_differences_that_are_not_respected() -> None:
    app = out_of_sync(*CRD)
    app["spec"]["syncPolicy"]["syncOptions"].remove("RespectIgnoreDifferences=true")
    assert "it lacks: RespectIgnoreDifferences=true" in (
        one(healthy(applications=[app]), "ignore-differences-missing").evidence
    )


def test_definitions_that_differ_in_spite_of_them_are_another_finding() -> None:
    assert codes(healthy(applications=[out_of_sync(*CRD)])) == ["out-of-sync"]


def test_other_kinds_that_differ_are_another_finding() -> None:
    app = out_of_sync("Deployment", "apps")
    del app["spec"]["ignoreDifferences"]
    assert codes(healthy(applications=[app])) == ["out-of-sync"]


def test_out_of_sync_for_a_moment_is_no_finding() -> None:
    app = out_of_sync(*CRD)
    del app["spec"]["ignoreDifferences"]
    app["status"]["operationState"]["finishedAt"] = at(-1)
    assert codes(healthy(applications=[app])) == []
    app["status"]["operationState"] = {"phase": "Running", "startedAt": at(-5)}
    assert codes(healthy(applications=[app])) == []


def test_self_heal_that_begins_again_and_again_is_no_moment() -> None:
    app = out_of_sync(*CRD)
    del app["spec"]["ignoreDifferences"]
    app["status"]["operationState"].update(finishedAt=at(-1), operation={"sync": {"autoHealAttemptsCount": 2}})
    assert codes(healthy(applications=[app])) == ["ignore-differences-missing"]


def test_what_nobody_has_synced() -> None:
    app = out_of_sync("Deployment", "apps", operationState=None)
    del app["spec"]["syncPolicy"]["automated"]
    assert codes(healthy(applications=[app])) == ["not-synced"]


def test_what_git_no_longer_has() -> None:
    app = out_of_sync("Deployment", "apps", operationState=None)
    app["status"]["resources"][0]["requiresPruning"] = True
    app["spec"]["syncPolicy"]["automated"]["prune"] = False
    assert codes(healthy(applications=[app])) == ["not-pruned"]


def test_a_sync_that_does_not_begin() -> None:
    app = out_of_sync("Deployment", "apps", operationState=None)
    assert codes(healthy(applications=[app])) == ["sync-stuck"]
    app["status"]["reconciledAt"] = at(-3)
    assert codes(healthy(applications=[app])) == []


NO_ROLLOUT = (
    "The Kubernetes API could not find argoproj.io/Rollout for requested resource lumen/lumen-api. Make sure the "
    '"Rollout" CRD is installed on the destination cluster.'
)


def sync_failed(message: str = NO_ROLLOUT, phase: str = "Failed", **changes: Any) -> dict[str, Any]:
    resource = {
        "group": "argoproj.io",
        "kind": "Rollout",
        "namespace": "lumen",
        "name": "lumen-api",
        "status": "SyncFailed",
        "message": message,
    }
    state = {
        "phase": phase,
        "message": "one or more synchronization tasks are not valid",
        "syncResult": {"revision": "c0ffee0" * 5, "resources": [resource]},
        **changes,
    }
    return application(sync={"status": "OutOfSync", "revision": "c0ffee0" * 5}, operationState=state)


@pytest.mark.parametrize(
    "message",
    [
        NO_ROLLOUT,
        "the server could not find the requested resource",
        'no matches for kind "Rollout" in version "argoproj.io/v1alpha1"',
    ],
)
def test_a_kind_that_the_cluster_does_not_know(message: str) -> None:
    app = sync_failed(message)
    app["spec"]["syncPolicy"]["syncOptions"].remove("SkipDryRunOnMissingResource=true")
    found = one(healthy(applications=[app]), "crd-missing")
    assert "does not know Rollout (argoproj.io)" in found.cause
    assert "without SkipDryRunOnMissingResource=true the dry run stops the whole sync" in found.cause
    assert any("Install Argo Rollouts first" in line for line in found.remedy)
    assert any(line.startswith("Add SkipDryRunOnMissingResource=true") for line in found.remedy)


def test_with_the_option_it_is_not_advised() -> None:
    found = one(healthy(applications=[sync_failed()]), "crd-missing")
    assert not any("Add SkipDryRun" in line for line in found.remedy)


def test_a_kind_that_the_cluster_knows_by_now() -> None:
    app = sync_failed()
    found = one(healthy(applications=[app], kinds={("argoproj.io", "Rollout"): True}), "crd-missing")
    assert found.cause.endswith("It does now.")
    assert '{"operation":{"sync":{}}}' in found.remedy[0]


def test_a_sync_that_is_tried_again() -> None:
    found = one(healthy(applications=[sync_failed(phase="Running", retryCount=2)]), "crd-missing")
    assert '"phase":"Terminating"' in found.remedy[-1]
    assert codes(healthy(applications=[sync_failed(phase="Running")])) == []


def test_a_sync_that_fails_for_another_reason() -> None:
    facts = healthy(applications=[sync_failed("Rollout.argoproj.io is invalid: spec.replicas: must be >= 0")])
    assert "is invalid" in one(facts, "sync-failed").cause
    assert codes(facts) == ["sync-failed"]


def test_a_sync_that_failed_before_git_was_corrected() -> None:
    """Git says what is there already: Argo CD begins no other sync, and keeps how the last one ended."""
    failed = sync_failed("Rollout.argoproj.io is invalid: spec.replicas: must be >= 0")
    failed["status"]["sync"]["status"] = "Synced"
    assert codes(healthy(applications=[failed])) == []


def test_an_application_that_cannot_read_git() -> None:
    condition = {"type": "ComparisonError", "message": "authentication required", "lastTransitionTime": at(-60)}
    found = one(healthy(applications=[application(conditions=[condition])]), "application-error")
    assert found.cause == "authentication required"


def test_a_warning_of_argo_cd_is_no_finding() -> None:
    condition = {"type": "OrphanedResourceWarning", "message": "2 orphaned"}
    assert codes(healthy(applications=[application(conditions=[condition])])) == []


# The Rollout

ABORTED = {
    "phase": "Degraded",
    "abort": True,
    "abortedAt": at(-60),
    "message": "RolloutAborted: Rollout aborted update to revision 2",
    "currentPodHash": "bbb",
}
SETS = [replica_set(), replica_set("bbb", "v1.1.0", "2")]


def aborted(**changes: Any) -> Facts:
    facts = healthy(
        rollout=rollout("v1.1.0", **ABORTED),
        replica_sets=SETS,
        pipeline=pipeline(manifest_image=f"{IMAGE}:v1.1.0", manifest_commit="feed123 bump to v1.1.0 [skip ci]"),
    )
    facts.rollout["metadata"]["annotations"]["rollout.argoproj.io/revision"] = "2"  # type: ignore[index]
    return replace(facts, **changes)


def test_aborted_and_not_reverted() -> None:
    found = one(aborted(), "aborted-not-reverted")
    assert codes(aborted()) == ["aborted-not-reverted"]
    assert "still in Git" in found.cause
    assert f"Git has {IMAGE}:v1.1.0 in 03-airgap-zone/manifests/app/03-lumen-api.yaml" in found.evidence
    assert "that was brought by feed123 bump to v1.1.0 [skip ci]" in found.evidence
    assert "$ git revert --no-commit feed123" in found.remedy[0]
    assert any("so does retry" in line for line in found.remedy)


def test_aborted_where_git_is_not_in_charge() -> None:
    found = one(aborted(applications=[], pipeline=None), "aborted-not-reverted")
    assert "still in the spec" in found.cause
    assert "$ kubectl patch rollout lumen-api -n lumen --type=json -p '[" in found.remedy[0]
    assert f'"path": "/spec/template/spec/containers/0/image", "value": "{IMAGE}:v1.0.0"' in found.remedy[0]


def test_aborted_and_reverted_but_not_synced() -> None:
    facts = aborted(pipeline=pipeline())
    assert codes(facts) == ["abort-revert-pending"]
    assert "argocd.argoproj.io/refresh=normal" in one(facts, "abort-revert-pending").remedy[0]


def test_aborted_and_reverted_is_no_finding() -> None:
    back = rollout("v1.0.0", abort=True)
    assert codes(healthy(rollout=back)) == []


def analysis_run(
    revision: str = "2",
    phase: str = "Failed",
    values: tuple[str, ...] = ("[0.4]", "[0.5]"),
    step: str = "1",
    message: str = "",
    completed: float = -120,
) -> dict[str, Any]:
    one_phase = "Error" if phase == "Error" else phase
    measurements = [
        {"phase": one_phase, "value": value or None, "message": message, "finishedAt": at(completed)}
        for value in values
    ]
    provider = {"prometheus": {"query": "sum(x)"}}
    return {
        "kind": "AnalysisRun",
        "metadata": {
            "name": f"lumen-api-bbb-{revision}-{step}",
            "creationTimestamp": at(completed - 60),
            "labels": {"rollouts-pod-template-hash": "bbb", "step-index": step},
            "annotations": {"rollout.argoproj.io/revision": revision},
            "ownerReferences": [{"kind": "Rollout", "name": "lumen-api"}],
        },
        "spec": {"metrics": [{"name": "rate", "provider": provider, "successCondition": "result[0] >= 0.95"}]},
        "status": {
            "phase": phase,
            "message": f'Metric "rate" assessed {phase}',
            "completedAt": at(completed),
            "metricResults": [{"name": "rate", "phase": phase, "measurements": measurements}],
        },
    }


def restarted(revision: str = "2", runs: Any = None, written: float | None = None, **changes: Any) -> Facts:
    going = rollout("v1.1.0", phase="Progressing", currentPodHash="bbb", currentStepIndex=1)
    going["metadata"]["annotations"]["rollout.argoproj.io/revision"] = revision
    if written is not None:
        fields = {"manager": "kubectl-edit", "operation": "Update", "time": at(written), "fieldsV1": {"f:spec": {}}}
        going["metadata"]["managedFields"] = [fields]
    sets = [replica_set(), replica_set("bbb", "v1.1.0", revision)]
    return healthy(rollout=going, replica_sets=sets, runs=runs or [analysis_run()], pipeline=None, **changes)


def test_a_spec_that_was_touched_while_it_was_aborted() -> None:
    found = one(restarted("4"), "restarted-after-abort")
    assert found.severity == "error"
    assert "Its spec was touched" in found.cause
    assert "$ ansible-playbook -i INVENTORY lumen.airgap.abort" in found.remedy[0]


def test_steps_that_were_touched_leave_the_revision() -> None:
    found = one(restarted(written=-60), "restarted-after-abort")
    assert "Its spec was touched" in found.cause
    assert any(line.startswith("its spec was last written by kubectl-edit at") for line in found.evidence)


def test_a_touch_within_the_second_of_the_abort_is_no_retry() -> None:
    """The API server and the controller tell whole seconds."""
    found = one(restarted(written=-120), "restarted-after-abort")
    assert (found.severity, "Its spec was touched" in found.cause) == ("error", True)


def test_a_retry_leaves_the_spec() -> None:
    found = one(restarted(written=-600), "restarted-after-abort")
    assert (found.severity, "retry" in found.cause) == ("warning", True)


def test_a_version_that_is_released_again_on_purpose_is_no_finding() -> None:
    facts = restarted("4")
    sets = [replica_set(revision="3"), replica_set("bbb", "v1.1.0", "4")]  # stable was back in between
    assert codes(replace(facts, replica_sets=sets)) == []


@pytest.mark.parametrize("phase", ["Successful", "Running", "Inconclusive"])
def test_a_version_that_has_not_failed_is_no_finding(phase: str) -> None:
    assert codes(restarted("4", [analysis_run(phase=phase)])) == []


def test_the_moment_between_verdict_and_abort_is_no_finding() -> None:
    assert codes(restarted(runs=[analysis_run(completed=-1)])) == []


def test_a_version_that_failed_and_is_stable_now_is_no_finding() -> None:
    stable = rollout("v1.1.0", currentPodHash="bbb", stableRS="bbb")
    assert codes(healthy(rollout=stable, runs=[analysis_run()], pipeline=None)) == []


def test_runs_of_another_rollout_are_none_of_ours() -> None:
    other = analysis_run()
    other["metadata"]["ownerReferences"] = [{"kind": "Rollout", "name": "other"}]
    assert codes(restarted("4", [other])) == []


def paused(**changes: Any) -> Facts:
    status = {
        "phase": "Paused",
        "message": "CanaryPauseStep",
        "currentPodHash": "bbb",
        "currentStepIndex": 1,
        "updatedReplicas": 1,
        "pauseConditions": [{"reason": "CanaryPauseStep", "startTime": at(-300)}],
    }
    return healthy(rollout=rollout("v1.1.0", **{**status, **changes}), replica_sets=SETS, pipeline=None)


def test_a_rollout_that_waits_to_be_promoted() -> None:
    found = one(paused(), "rollout-paused")
    assert found.severity == "info"
    assert f"paused since {at(-300)}" in found.evidence
    assert any(f"{IMAGE}:v1.0.0" in line for line in found.remedy)


def test_a_pause_that_ends_by_itself_is_no_finding() -> None:
    facts = paused()
    facts.rollout["spec"]["strategy"]["canary"]["steps"][1] = {"pause": {"duration": "10m"}}  # type: ignore[index]
    assert codes(facts) == []


def test_a_pause_that_was_just_ended_is_no_finding() -> None:
    assert codes(paused(pauseConditions=[])) == []


def test_a_rollout_that_was_paused_by_hand() -> None:
    facts = paused(pauseConditions=[])
    facts.rollout["spec"]["paused"] = True  # type: ignore[index]
    assert one(facts, "rollout-stopped").severity == "error"
    assert """'{"spec": {"paused": false}}'""" in one(facts, "rollout-stopped").remedy[0]


def unseen(written: float | None) -> Facts:
    changed = rollout(observedGeneration="2")
    if written is not None:
        changed["metadata"]["managedFields"] = [
            {"manager": "argocd-controller", "time": at(written), "fieldsV1": {"f:spec": {}}},
            {"manager": "rollouts", "time": at(0), "subresource": "status", "fieldsV1": {"f:status": {}, "f:spec": {}}},
        ]
    return healthy(rollout=changed)


def test_a_controller_that_does_not_react() -> None:
    found = one(unseen(-40), "rollout-unseen")
    assert "generation 3, seen by the controller: 2" in found.evidence
    assert f"its spec was last written by argocd-controller at {at(-40)}" in found.evidence


@pytest.mark.parametrize("written", [-20, None])
def test_a_controller_that_may_be_electing_a_leader_is_no_finding(written: float | None) -> None:
    assert codes(unseen(written)) == []


def test_no_rollout_and_no_rollouts() -> None:
    assert codes(healthy(rollout=None)) == ["rollout-absent"]
    assert codes(healthy(rollout=None, rollouts_known=False)) == ["rollouts-missing"]
    assert codes(healthy(rollout=None, looked=False)) == []


# Analyses


def analysed(run_object: dict[str, Any], **changes: Any) -> Facts:
    return aborted(runs=[run_object], **changes)


def test_an_analysis_that_failed() -> None:
    facts = analysed(analysis_run(), queries={"sum(x)": "[0.97]"})
    found = one(facts, "analysis-failed")
    assert found.cause == "lumen-api:v1.1.0 does not keep the condition 'result[0] >= 0.95'."
    assert "rate measured [0.4] (Failed), [0.5] (Failed)" in found.evidence
    assert "rate is [0.97] now" in found.evidence
    assert codes(facts) == ["analysis-failed", "aborted-not-reverted"]


@pytest.mark.parametrize("values", [("[NaN]", "[NaN]"), ("[]",), ("NaN",), ("[]", "[NaN]")])
def test_an_analysis_without_traffic(values: tuple[str, ...]) -> None:
    assert codes(analysed(analysis_run(values=values)))[0] == "analysis-no-traffic"


def test_an_empty_answer_is_an_error_of_the_condition_and_no_traffic_all_the_same() -> None:
    run_object = analysis_run(phase="Error", values=("",), message="reflect: slice index out of range")
    assert codes(analysed(run_object))[0] == "analysis-no-traffic"


def test_some_traffic_is_traffic() -> None:
    assert codes(analysed(analysis_run(values=("[NaN]", "[0.4]"))))[0] == "analysis-failed"


REFUSED = 'Post "http://prometheus:9090/api/v1/query": dial tcp 10.43.1.1:9090: connect: connection refused'


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"queries": {"sum(x)": "[1]"}}, "a NetworkPolicy is between"),
        ({"queries_failed": "no answer"}, "does not answer now either: no answer"),
        ({}, "when it measured."),
    ],
)
def test_a_prometheus_that_was_not_reached(changes: dict[str, Any], says: str) -> None:
    facts = analysed(analysis_run(phase="Error", values=("", ""), message=REFUSED), **changes)
    assert says in one(facts, "analysis-unreachable").cause


def test_a_prometheus_of_a_name_that_nobody_has() -> None:
    said = "dial tcp: lookup nobody on 10.43.0.10:53: no such host"
    facts = analysed(analysis_run(phase="Error", values=("",), message=said), queries={"sum(x)": "[1]"})
    assert "the template's address is wrong" in one(facts, "analysis-unreachable").cause


def test_a_condition_that_does_not_fit() -> None:
    facts = analysed(analysis_run(phase="Error", values=("",), message="invalid operation: > (mismatched types)"))
    assert codes(facts)[0] == "analysis-error"


def test_an_analysis_without_a_verdict() -> None:
    facts = paused(pauseConditions=[{"reason": "InconclusiveAnalysisRun", "startTime": at(-30)}])
    facts = replace(facts, runs=[analysis_run(phase="Inconclusive")])
    assert codes(facts) == ["analysis-inconclusive"]


def test_a_run_that_was_ended_by_a_promotion_is_no_finding() -> None:
    ended = analysis_run(phase="Successful")
    ended["spec"]["terminate"] = True
    ended["status"]["message"] = "Run Terminated"
    assert codes(analysed(ended)) == ["aborted-not-reverted"]


def test_metrics_that_are_only_watched_do_not_count() -> None:
    watched = analysis_run(values=("[0.4]",))
    dry = copy.deepcopy(watched["status"]["metricResults"][0])
    dry.update(name="watched", dryRun=True)
    dry["measurements"] = [{"phase": "Failed", "value": "[NaN]", "finishedAt": at(-100)}]
    watched["status"]["metricResults"].append(dry)
    found = one(analysed(watched), "analysis-failed")
    assert not any("watched" in line for line in found.evidence)


# Git, the release, the identity


def test_git_is_ahead_of_the_cluster() -> None:
    facts = healthy(pipeline=pipeline(manifest_image=f"{IMAGE}:v1.1.0"))
    assert f"Git: {IMAGE}:v1.1.0" in one(facts, "git-ahead").evidence
    syncing = application(operationState={"phase": "Running"})
    assert codes(replace(facts, applications=[syncing])) == []
    assert codes(replace(facts, applications=[])) == []


def test_a_release_that_nobody_works_on() -> None:
    record = {"id": "lumen-api-v1.1.0-3", "run": "r", "version": "v1.1.0", "phase": "canary_step", "outcome": None}
    found = one(healthy(record=record, lease_expires=NOW - 1), "release-open")
    assert "$ ansible-playbook -i INVENTORY lumen.airgap.release -e version=v1.1.0" in found.remedy[0]
    assert codes(healthy(record=record, lease_expires=NOW + 30)) == []
    assert codes(healthy(record={**record, "outcome": "promoted"})) == []


def test_a_token_that_is_near_its_end() -> None:
    assert one(healthy(identity_expires=NOW + 2 * 86400), "identity-ends").cause.startswith(
        "Its token ends in 2.0 days"
    )
    assert codes(healthy(identity_expires=NOW + 30 * 86400)) == []
    assert codes(healthy(identity_expires=0.0)) == []


# What could not be looked at


def test_what_could_not_be_looked_at_is_a_finding() -> None:
    unreached = [Unreached("Gitea", "no answer in time"), Unreached("pods in argocd", "may not list", forbidden=True)]
    facts = healthy(pipeline=None, unreached=unreached)
    assert codes(facts) == ["not-reached", "not-allowed"]
    assert "release_identity" in one(facts, "not-allowed").remedy[0]


def test_no_remedy_asks_for_the_plugin_of_kubectl() -> None:
    engines = Path(rollout_engine.__file__).parent
    assert [path.name for path in engines.glob("*.py") if "kubectl argo" in path.read_text(encoding="utf-8")] == []
