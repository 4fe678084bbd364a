# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases of a plain Deployment against controllers in memory."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    ANALYSIS_TEMPLATE,
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    POD_DISRUPTION_BUDGET,
    REPLICA_SET,
    SERVICE,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Conflict, Unreachable
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.prometheus import PrometheusError
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.pair import (
    ALLOW_ANNOTATION,
    CANARY_LABEL,
    MEMORY_ANNOTATION,
    REPLICAS_ANNOTATION,
)
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_record import LeaseLost
from ansible_collections.lumen.airgap.tests.unit.fakes.canary_lab import (
    ANALYSIS,
    METRIC,
    NEW,
    OLD,
    OTHER,
    PAUSES,
    STEPS,
    TEMPLATE,
    Killed,
    Lab,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.deployments import (
    CANARY,
    DeploymentLab,
    new_deployment,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.rollouts import NAME, NAMESPACE

BACKGROUND = {"templates": [{"templateName": "success-rate"}], "startingStep": 1}
AT_ONCE = {**METRIC, "failureLimit": 0, "consecutiveErrorLimit": 0}
STRICT = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "metrics": [AT_ONCE]}}
TRACKED = "lumen-app:apps/Deployment:lumen/api"
INSTANCE = {"app.kubernetes.io/instance": "lumen-app"}
ARGO_CD = {"manager": "argocd-controller", "operation": "Update"}
OWNER = {"apiVersion": "shops/v1", "kind": "Shop", "name": "corner", "uid": "1", "controller": True}


def texts(result: dict[str, Any]) -> str:
    return "\n".join(entry["text"] for entry in result["timeline"])


def bare(deployment: dict[str, Any]) -> dict[str, Any]:
    """What somebody has written into it."""
    meta = {key: value for key, value in deployment["metadata"].items() if key not in ("resourceVersion", "generation")}
    return {**deployment, "metadata": meta, "status": None}


def edit(lab: DeploymentLab, name: str = NAME, **parts: Any) -> None:
    lab.session.edit(DEPLOYMENT, name, NAMESPACE, parts)


def nothing_left(lab: DeploymentLab, image: str, replicas: int = 2) -> None:
    assert not lab.has_canary()
    found = lab.deployment()
    expected = new_deployment(image, replicas)
    assert found["spec"] == expected["spec"]
    assert set(found["metadata"].get("annotations") or {}) == {"deployment.kubernetes.io/revision"}
    assert "labels" not in found["metadata"]


# -- endings ------------------------------------------------------------------------------------------------------


def test_a_good_version_is_promoted_and_nothing_is_left_behind() -> None:
    lab = DeploymentLab()
    result = lab.release().run()
    assert (result["outcome"], result["driver"], result["changed"]) == ("promoted", "deployment", True)
    assert [(s["index"], s["kind"], s["weight"], s["result"]) for s in result["steps"]] == [
        (0, "setWeight", 20, "completed"),
        (1, "analysis", 20, "Successful"),
        (2, "setWeight", 80, "completed"),
        (3, "analysis", 80, "Successful"),
        (4, "setWeight", 100, "completed"),
    ]
    assert len(result["measurements"]) == 6
    assert result["verified"]["endpoints"] == {NAME: ["api-hv110-0", "api-hv110-1"]}
    assert (lab.pods.most, lab.pods.fewest) == (3, 2)
    nothing_left(lab, NEW)


def test_a_second_time_nothing_is_done() -> None:
    lab = DeploymentLab()
    lab.release().run()
    lab.clock.sleep(5)
    lab.session.bodies.clear()
    result = lab.release().run()
    assert (result["outcome"], result["changed"], lab.session.bodies) == ("promoted", False, [])


def test_a_bad_version_is_taken_back_and_the_template_was_never_touched() -> None:
    lab = DeploymentLab(answers=[1.0, 0.5, 0.5])
    before, generation = bare(lab.deployment()), lab.deployment()["metadata"]["generation"]
    result = lab.release().run()
    assert result["outcome"] == "rolled_back"
    assert "failed (2) > failureLimit (1)" in result["reason"]
    assert result["verified"]["hash"] == "hv100"
    assert bare(lab.deployment()) == before
    assert lab.deployment()["metadata"]["generation"] == generation  # at 20 % of two pods all of them stay
    nothing_left(lab, OLD)


def test_the_counts_of_many_pods_are_given_back() -> None:
    lab = DeploymentLab([{"setWeight": 50}, ANALYSIS], answers=[0.5, 0.5], deployment=new_deployment(replicas=8))
    assert lab.release().run()["outcome"] == "rolled_back"
    assert lab.pods.most <= 10
    assert lab.pods.fewest >= 6
    nothing_left(lab, OLD, 8)


@pytest.mark.parametrize("reason", ["ErrImagePull: not found", "CrashLoopBackOff: back-off"])
def test_pods_that_cannot_start_end_the_release_within_seconds(reason: str) -> None:
    lab = DeploymentLab()
    lab.pods.broken[NEW] = reason
    result = lab.release().run()
    assert result["outcome"] == "rolled_back"
    assert reason in result["reason"]
    assert lab.clock.monotonic() < 5
    nothing_left(lab, OLD)


def test_pods_that_start_no_more_when_the_template_was_changed() -> None:
    """The canary passed everything; then nothing of it starts any more, and the image is put back."""
    lab = DeploymentLab([{"setWeight": 100}])

    def break_it() -> None:
        if lab.image() == NEW:
            lab.pods.broken[NEW] = "CrashLoopBackOff: back-off"
        else:
            lab.after(0.01, break_it)

    lab.after(0.2, break_it)
    result = lab.release(step_deadline=60).run()
    assert result["outcome"] == "rolled_back"
    assert "CrashLoopBackOff" in result["reason"]
    nothing_left(lab, OLD)


def test_a_step_has_a_deadline() -> None:
    lab = DeploymentLab([{"setWeight": 20}, {"pause": {}}])
    result = lab.release(step_deadline=30).run()
    assert result["outcome"] == "rolled_back"
    assert "step 2 (pause) took longer than 30 s; last seen: canary: 1 of 1 pods" in result["reason"]
    nothing_left(lab, OLD)


def test_left_as_it_is_when_asked_for_and_taken_back_by_the_next_run() -> None:
    lab = DeploymentLab(answers=[0.5, 0.5])
    assert lab.release(on_failure="leave").run()["outcome"] == "failed"
    assert lab.has_canary()
    with pytest.raises(AirgapError, match="Another change is in progress"):
        lab.release(OTHER).run()
    result = lab.release().run()
    assert result["outcome"] == "rolled_back"
    assert "failed (2) > failureLimit (1)" in result["reason"]
    nothing_left(lab, OLD)


# -- analyses ------------------------------------------------------------------------------------------------------


def test_the_canary_is_measured_by_its_own_hash() -> None:
    lab = DeploymentLab()
    lab.release().run()
    assert set(lab.queries) == {'rate{hash="hv110"}'}


def test_what_is_measured_in_the_background_ends_the_release() -> None:
    lab = DeploymentLab([{"setWeight": 20}, {"pause": {"duration": 60}}], [1.0, 0.5, 0.5], analysis=BACKGROUND)
    result = lab.release().run()
    assert result["outcome"] == "rolled_back"
    assert "failed (2) > failureLimit (1)" in result["reason"]
    assert {each["run"] for each in result["measurements"]} == {"api-hv110-2"}
    nothing_left(lab, OLD)


def test_a_background_analysis_is_terminated_by_the_promotion() -> None:
    endless = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "metrics": [{**METRIC, "count": 0}]}}
    lab = DeploymentLab([{"setWeight": 20}, {"pause": {"duration": 12}}], analysis=BACKGROUND, template=endless)
    result = lab.release().run()
    assert result["outcome"] == "promoted"
    assert len(result["measurements"]) >= 3
    assert "analysis api-hv110-2 terminated" in texts(result)


def test_a_slow_verdict_of_one_analysis_does_not_hold_up_the_other() -> None:
    lab = DeploymentLab([{"setWeight": 20}, ANALYSIS], analysis={**BACKGROUND, "startingStep": 0})
    result = lab.release().run()
    assert result["outcome"] == "promoted"
    assert {each["run"] for each in result["measurements"]} == {"api-hv110-2", "api-hv110-2-1"}


def test_three_failures_in_a_row_are_our_own_limit() -> None:
    patient = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "metrics": [{**METRIC, "count": 10, "failureLimit": 9}]}}
    lab = DeploymentLab(answers=[0.5, 1.0] + [0.5] * 8, template=patient, failures_in_a_row=3)
    result = lab.release().run()
    assert result["outcome"] == "rolled_back"
    assert len(result["measurements"]) == 5
    assert "(ours)" in result["reason"]


def undecided() -> dict[str, Any]:
    between = {**METRIC, "successCondition": "result[0] > 0.95", "failureCondition": "result[0] < 0.5"}
    return {**TEMPLATE, "spec": {**TEMPLATE["spec"], "metrics": [between]}}


def test_what_is_inconclusive_aborts_or_waits_for_somebody() -> None:
    lab = DeploymentLab(answers=[0.7], template=undecided())
    result = lab.release().run()
    assert (result["outcome"], result["reason"]) == ("rolled_back", "the analysis was inconclusive")
    nothing_left(lab, OLD)
    lab = DeploymentLab(answers=[0.7], template=undecided())
    lab.after(20, lambda: edit(lab, CANARY, metadata={"annotations": {ALLOW_ANNOTATION: "2"}}))
    result = lab.release(on_inconclusive="pause").run()
    assert result["outcome"] == "promoted"
    assert "paused: the analysis was inconclusive" in texts(result)
    assert [step["result"] for step in result["steps"]][1] == "Inconclusive"


def test_an_inconclusive_background_analysis_is_let_pass_once_and_measures_anew() -> None:
    once = {**undecided()["spec"]["metrics"][0], "count": 1, "failureLimit": 0}
    lab = DeploymentLab(
        [{"setWeight": 20}, {"pause": {"duration": 3}}, {"setWeight": 50}, {"pause": {"duration": 3}}],
        answers=[0.7, 1.0],
        template={**TEMPLATE, "spec": {**TEMPLATE["spec"], "metrics": [once]}},
        analysis={"templates": [{"templateName": "success-rate"}]},
    )
    lab.after(20, lambda: edit(lab, CANARY, metadata={"annotations": {ALLOW_ANNOTATION: "1"}}))
    result = lab.release(on_inconclusive="pause", step_deadline=60).run()
    assert result["outcome"] == "promoted"
    assert [(each["run"], each["phase"]) for each in result["measurements"]] == [
        ("api-hv110-2", "Inconclusive"),
        ("api-hv110-2.1", "Successful"),
    ]


def test_templates_of_one_analysis_are_one_run() -> None:
    other = {"name": "errors", "provider": {"prometheus": {"query": "errors"}}}
    both = {"analysis": {"templates": [{"templateName": "success-rate"}, {"templateName": "errors"}]}}
    lab = DeploymentLab([{"setWeight": 20}, both])
    metadata = {"name": "errors", "namespace": NAMESPACE}
    lab.session.put({**TEMPLATE, "metadata": metadata, "spec": {"metrics": [other]}})
    result = lab.release().run()
    assert result["outcome"] == "promoted"
    assert {(each["run"], each["metric"]) for each in result["measurements"]} == {
        ("api-hv110-2-1", "success-rate"),
        ("api-hv110-2-1", "errors"),
    }


def test_our_gate_at_a_pause_decides() -> None:
    for value, outcome in ((1.0, "promoted"), (0.5, "rolled_back")):
        lab = DeploymentLab(PAUSES)
        lab.value = lambda value=value: [value]  # type: ignore[misc]
        result = lab.release(gate=True).run()
        assert result["outcome"] == outcome
        nothing_left(lab, NEW if outcome == "promoted" else OLD)


def test_without_a_gate_somebody_lets_it_pass_by_an_annotation() -> None:
    lab = DeploymentLab([{"setWeight": 20}, {"pause": {}}, {"setWeight": 60}])
    lab.after(20, lambda: edit(lab, CANARY, metadata={"annotations": {ALLOW_ANNOTATION: "2"}}))
    result = lab.release().run()
    assert result["outcome"] == "promoted"
    assert 20 < lab.clock.monotonic() < 25


def test_a_step_let_pass_in_advance_does_not_hold_up_our_gate() -> None:
    lab = DeploymentLab([{"setWeight": 20}, {"pause": {}}, {"setWeight": 60}, {"pause": {}}])
    lab.after(1, lambda: edit(lab, CANARY, metadata={"annotations": {ALLOW_ANNOTATION: "4"}}))
    result = lab.release(gate=True, step_deadline=60).run()
    assert result["outcome"] == "promoted"
    assert len(lab.queries) == 3  # step 4 was not asked for


@pytest.mark.parametrize("text", ["\N{SUPERSCRIPT TWO}", "two", "-2"])
def test_what_is_no_number_lets_nothing_pass(text: str) -> None:
    lab = DeploymentLab([{"setWeight": 20}, {"pause": {}}])
    lab.after(1, lambda: edit(lab, CANARY, metadata={"annotations": {ALLOW_ANNOTATION: text}}))
    result = lab.release(step_deadline=30).run()
    assert result["outcome"] == "rolled_back"
    assert "step 2 (pause) took longer than 30 s" in result["reason"]


# -- the same story ------------------------------------------------------------------------------------------------


def no_answer() -> list[float]:
    raise PrometheusError("no answer")


def story(result: dict[str, Any]) -> list[str]:
    """Without counts of pods on their way, which depend on how fast a controller looks, Services and warnings."""
    others = ("pods ready", "warning: ")
    told = [entry["text"] for entry in result["timeline"] if not entry["text"].startswith(others)]
    told = [re.sub(r" due to .*| behind .*", "", text) for text in told]
    return [text for text in told if "image \N{RIGHTWARDS ARROW}" not in text]


@pytest.mark.parametrize(
    "phases",
    [
        [],
        ["Failed"],
        ["Successful", "Failed"],
        ["Successful"] * 3 + ["Failed"],
        ["Successful"] * 5 + ["Failed"],
    ],
)
def test_both_drivers_tell_the_same_of_the_same_traffic(phases: list[str]) -> None:
    values = {"Successful": 1.0, "Failed": 0.5}
    rollout = Lab(answers=list(phases)).release().run()
    deployment = DeploymentLab(answers=[values[phase] for phase in phases], template=STRICT).release().run()
    assert deployment["outcome"] == rollout["outcome"] == ("rolled_back" if phases else "promoted")
    assert story(deployment) == story(rollout)
    for result in (deployment, rollout):
        assert set(result["conditions"]) == {each["metric"] for each in result["measurements"]}
        assert max(each["stable"] for each in result["pods"]) > 0
        assert max(each["canary"] for each in result["pods"]) > 0
        assert [each["at"] for each in result["pods"]] == sorted(each["at"] for each in result["pods"])
    kept = ("index", "kind", "weight", "result")
    assert [[step[key] for key in kept] for step in deployment["steps"]] == [
        [step[key] for key in kept] for step in rollout["steps"]
    ]
    assert [(m["run"], m["metric"], m["value"], m["phase"]) for m in deployment["measurements"]] == [
        (m["run"], m["metric"], m["value"], m["phase"]) for m in rollout["measurements"]
    ]
    assert set(deployment) == set(rollout)
    assert (deployment["stable_hash"], deployment["revision"]) == (rollout["stable_hash"], rollout["revision"])


def test_both_drivers_tell_the_same_of_a_prometheus_that_is_gone() -> None:
    rollout = Lab(answers=["Successful", "Error"]).release().run()
    lab = DeploymentLab(template=STRICT)
    lab.value = lambda: [1.0] if len(lab.queries) < 2 else no_answer()
    deployment = lab.release().run()
    assert deployment["outcome"] == rollout["outcome"] == "rolled_back"
    assert [each["phase"] for each in deployment["measurements"]] == [each["phase"] for each in rollout["measurements"]]


def test_both_drivers_tell_the_same_of_our_gate() -> None:
    for value in (1.0, 0.5):
        stories = []
        for lab in (Lab(PAUSES), DeploymentLab(PAUSES)):
            lab.value = lambda value=value: [value]  # type: ignore[misc]
            stories.append(story(lab.release(gate=True).run()))
        assert stories[0] == stories[1]


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": TRACKED}}},
            "lumen-app",
        ),
        ({"metadata": {"labels": INSTANCE, "managedFields": [ARGO_CD]}}, "Argo CD's Application lumen-app"),
        ({"metadata": {"ownerReferences": [OWNER]}}, "Deployment lumen/api belongs to Shop corner"),
        ({"spec": {"paused": True}}, "is paused"),
        ({"spec": {"strategy": {"type": "Recreate"}}}, "strategy Recreate"),
        ({"spec": {"selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}}, "matchExpressions"),
        ({"spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}}}, "has no container 'api'"),
    ],
)
def test_refusals_touch_nothing(parts: dict[str, Any], message: str) -> None:
    lab = DeploymentLab()
    lab.pods.running = False
    edit(lab, **parts)
    edit(lab, status={"observedGeneration": lab.deployment()["metadata"]["generation"]})
    with pytest.raises(AirgapError, match=re.escape(message)):
        lab.release().run()
    assert lab.session.bodies == []


def test_a_deployment_whose_hash_is_not_known_is_refused() -> None:
    lab = DeploymentLab()
    lab.pods.running = False
    lab.session.remove(REPLICA_SET, f"{NAME}-hv100", NAMESPACE)
    with pytest.raises(AirgapError, match="the ReplicaSet of its template is not there"):
        lab.release().run()
    assert lab.session.bodies == []


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "Give them with 'steps'"),
        ([{"setWeight": 101}], "steps[0]: setWeight is 101; it must be a whole number from 0 to 100"),
        ([{"setWeight": 50}, {"setWeight": 20}], "steps[1].setWeight: setWeight goes down from 50 to 20"),
        ([{"setWeight": 20}, {"analysis": {}}], "steps[1].analysis.templates: an analysis without templates"),
        ([{"analysis": {"templates": [{"templateName": "nobody"}]}}], "nobody does not exist"),
        ([{"pause": 30}], "steps[0].pause is 30; it must be a mapping such as {duration: 10m}"),
        ([{"analysis": "success-rate"}], "steps[0].analysis is 'success-rate'; it must be a mapping"),
        ([{"experiment": {}}], "experiment needs the controller of a Rollout"),
        ([{"setHeaderRoute": {}}], "needs a traffic router"),
    ],
)
def test_steps_that_cannot_be_done_are_refused_before_anything(steps: list[dict[str, Any]], message: str) -> None:
    lab = DeploymentLab(steps)
    with pytest.raises(AirgapError, match=re.escape(message)):
        lab.release().run()
    assert lab.session.bodies == []


def test_a_deployment_that_is_rolling_is_left_alone() -> None:
    lab = DeploymentLab()
    lab.pods.running = False
    edit(lab, status={"updatedReplicas": 1})
    with pytest.raises(AirgapError, match="still rolling out another change \\(2 of 2 pods, 1 of its template"):
        lab.release().run()


def test_an_autoscaler_of_the_deployment_is_refused() -> None:
    lab = DeploymentLab()
    scaler = {"metadata": {"name": "busy", "namespace": NAMESPACE}, "spec": {}}
    kind = {"apiVersion": HORIZONTAL_POD_AUTOSCALER.api_version, "kind": HORIZONTAL_POD_AUTOSCALER.kind}
    lab.session.put({**kind, **scaler, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": NAME}}})
    with pytest.raises(AirgapError, match="HorizontalPodAutoscaler busy"):
        lab.release().run()


def test_services_that_cannot_work_are_refused() -> None:
    lab = DeploymentLab()
    lab.session.edit(SERVICE, NAME, NAMESPACE, {"spec": {"selector": {"app": "another"}}})
    with pytest.raises(AirgapError, match="does not select the pods"):
        lab.release().run()
    lab = DeploymentLab()
    driver = lab.driver()
    driver._service = "nobody"
    with pytest.raises(AirgapError, match="The Service lumen/nobody does not exist"):
        lab.release(driver=driver).run()


def test_what_somebody_should_know_is_said_and_does_not_stop_it() -> None:
    deployment = new_deployment()
    del deployment["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    lab = DeploymentLab([{"setWeight": 50}], deployment=deployment)
    lab.session.remove(SERVICE, NAME, NAMESPACE)
    kind = {"apiVersion": POD_DISRUPTION_BUDGET.api_version, "kind": POD_DISRUPTION_BUDGET.kind}
    budget = {"name": "keep", "namespace": NAMESPACE}
    lab.session.put({**kind, "metadata": budget, "spec": {"selector": {"matchLabels": {"app": NAME}}}})
    result = lab.release().run()
    assert result["outcome"] == "promoted"
    warnings = [entry["text"] for entry in result["timeline"] if entry["text"].startswith("warning: ")]
    assert [re.sub("^warning: ", "", text).partition(":")[0] for text in warnings] == [
        "container api has no readinessProbe",
        "there is no Service api",
        "PodDisruptionBudget keep counts the canary's pods as well while they are there",
    ]


def test_a_deployment_that_is_in_the_way_is_not_touched() -> None:
    lab = DeploymentLab()
    foreign = copy.deepcopy(new_deployment())
    foreign["metadata"]["name"] = CANARY
    lab.session.put(foreign)
    with pytest.raises(AirgapError, match="Deployment lumen/api-canary is in the way"):
        lab.release().run()
    assert lab.session.bodies == []


def test_check_mode_shows_steps_and_pods_and_touches_nothing() -> None:
    lab = DeploymentLab()
    planned = lab.release().preview()
    assert (planned["driver"], planned["changed"]) == ("deployment", True)
    assert [(step["weight"], step["canary"], step["stable"]) for step in planned["planned"]] == [
        (20, 1, 2),
        (20, 1, 2),
        (80, 2, 1),
        (80, 2, 1),
        (100, 2, 0),
    ]
    assert lab.session.bodies == []


# -- others --------------------------------------------------------------------------------------------------------


def test_the_canary_has_a_selector_of_its_own_and_goes_with_its_deployment() -> None:
    lab = DeploymentLab([{"setWeight": 20}, {"pause": {"duration": 5}}])
    seen: list[dict[str, Any]] = []
    lab.after(3, lambda: seen.append(lab.deployment(CANARY)))
    lab.release().run()
    assert seen[0]["spec"]["selector"] == {"matchLabels": {"app": NAME, CANARY_LABEL: NAME}}
    assert seen[0]["spec"]["template"]["metadata"]["labels"] == {"app": NAME, CANARY_LABEL: NAME}
    assert seen[0]["metadata"]["ownerReferences"][0]["name"] == NAME
    assert set(seen[0]["metadata"]["annotations"]) == {MEMORY_ANNOTATION, "deployment.kubernetes.io/revision"}


def test_somebody_changes_the_image_in_between() -> None:
    lab = DeploymentLab([{"setWeight": 60}, {"pause": {"duration": 60}}], deployment=new_deployment(replicas=4))

    def bump() -> None:
        container = {**new_deployment()["spec"]["template"]["spec"]["containers"][0], "image": OTHER}
        edit(lab, spec={"template": {"spec": {"containers": [container]}}})

    lab.after(10, bump)
    result = lab.release().run()
    assert result["outcome"] == "failed"
    assert result["reason"] == f"the Deployment was changed to {OTHER} meanwhile"
    nothing_left(lab, OTHER, 4)


def test_a_change_of_somebody_else_that_gets_stuck_keeps_no_canary() -> None:
    lab = DeploymentLab([{"setWeight": 60}, {"pause": {"duration": 60}}], deployment=new_deployment(replicas=4))
    write = lab.session.edit

    def stuck(kind: Any, name: str, namespace: str | None, patch: Any) -> Any:
        if name == NAME and "status" in patch and lab.image() == OTHER:
            there = lab.deployment()["spec"]["replicas"]
            rolling = {"replicas": there + 1, "updatedReplicas": 1, "availableReplicas": there}
            patch = {"status": {**patch["status"], **rolling}}
        return write(kind, name, namespace, patch)

    lab.session.edit = stuck  # type: ignore[method-assign]
    lab.after(10, lambda: edit(lab, spec={"template": {"spec": {"containers": [_container(OTHER)]}}}))
    result = lab.release(step_deadline=120).run()
    assert (result["outcome"], lab.has_canary(), lab.image()) == ("failed", False, OTHER)
    assert result["reason"] == f"the Deployment was changed to {OTHER} meanwhile"
    assert lab.deployment()["spec"]["replicas"] == 4


def _container(image: str, **fields: Any) -> dict[str, Any]:
    return {**new_deployment(image)["spec"]["template"]["spec"]["containers"][0], **fields}


def test_a_template_that_somebody_changes_after_the_move_stays_as_it_is() -> None:
    lab = DeploymentLab([{"setWeight": 50}], deployment=new_deployment(replicas=4))
    theirs = _container(NEW, env=[{"name": "LEVEL", "value": "debug"}])
    patch = lab.session.patch

    def patched(*args: Any, **kwargs: Any) -> Any:
        answer = patch(*args, **kwargs)
        if kwargs.get("patch_type") == "json" and args[3][-1]["value"] == NEW:
            edit(lab, spec={"template": {"spec": {"containers": [theirs]}}})
        return answer

    lab.session.patch = patched  # type: ignore[method-assign]
    result = lab.release().run()
    assert (result["outcome"], lab.has_canary()) == ("failed", False)
    assert result["reason"] == "the Deployment's template was changed meanwhile"
    assert lab.deployment()["spec"]["template"]["spec"]["containers"] == [theirs]
    assert lab.deployment()["spec"]["replicas"] == 4


def test_a_canary_that_changes_as_it_is_removed_is_looked_at_again() -> None:
    lab = DeploymentLab([{"setWeight": 20}])
    delete, refused = lab.session.delete, []

    def racing(*args: Any, **kwargs: Any) -> None:
        if not refused:
            edit(lab, CANARY, metadata={"labels": {"seen": "by-somebody"}})
        try:
            delete(*args, **kwargs)
        except Conflict as error:
            refused.append(error)
            raise

    lab.session.delete = racing  # type: ignore[method-assign]
    assert lab.release().run()["outcome"] == "promoted"
    assert len(refused) == 1
    nothing_left(lab, NEW)


def test_somebody_deletes_the_canary_in_between() -> None:
    lab = DeploymentLab([{"setWeight": 60}, {"pause": {"duration": 60}}], deployment=new_deployment(replicas=4))
    lab.after(10, lambda: lab.session.remove(DEPLOYMENT, CANARY, NAMESPACE))
    result = lab.release().run()
    assert result["outcome"] == "rolled_back"
    assert result["reason"] == "the canary Deployment was deleted"
    nothing_left(lab, OLD, 4)


def test_a_canary_that_is_deleted_while_nobody_looks_costs_no_replicas() -> None:
    lab = DeploymentLab([{"setWeight": 60}, {"pause": {"duration": 60}}], deployment=new_deployment(replicas=4))
    with pytest.raises(Killed):
        lab.release(driver=_dying_after(lab, 10)).run()
    assert lab.deployment()["metadata"]["annotations"][REPLICAS_ANNOTATION] == "4"
    lab.session.remove(DEPLOYMENT, CANARY, NAMESPACE)
    lab.clock.sleep(5)
    assert lab.deployment()["spec"]["replicas"] == 2
    assert lab.release().run()["outcome"] == "promoted"
    nothing_left(lab, NEW, 4)


@pytest.mark.parametrize("journal", [True, False])
def test_pods_come_back_when_the_canary_was_deleted_before_the_run(journal: bool) -> None:
    """Taken up again, or told to stay at the version that is stable: neither makes a canary that would know of them."""
    lab = DeploymentLab([{"setWeight": 60}, {"pause": {"duration": 60}}], deployment=new_deployment(replicas=4))
    record = lab.record() if journal else None
    with pytest.raises(Killed):
        lab.release(driver=_dying_after(lab, 10), record=record).run()
    lab.session.remove(DEPLOYMENT, CANARY, NAMESPACE)
    lab.clock.sleep(5)
    assert lab.deployment()["spec"]["replicas"] == 2
    if journal:
        result = lab.release(record=lab.record(force=True)).run()
        assert (result["outcome"], result["reason"]) == ("failed", "the Deployment went back to stable hv100")
    else:
        result = lab.release(OLD).run()
        assert (result["outcome"], result["changed"]) == ("promoted", True)
    nothing_left(lab, OLD, 4)


@pytest.mark.parametrize("answers", [[], [0.5, 0.5]])
def test_a_mark_that_was_left_behind_takes_no_pods_away(answers: list[float]) -> None:
    stale = new_deployment(replicas=8)
    stale["metadata"]["annotations"] = {REPLICAS_ANNOTATION: "2"}
    lab = DeploymentLab([{"setWeight": 10}, ANALYSIS], answers, deployment=stale)
    assert lab.release().run()["outcome"] == ("rolled_back" if answers else "promoted")
    assert lab.pods.fewest >= 6
    nothing_left(lab, OLD if answers else NEW, 8)


def _dying_after(lab: DeploymentLab, seconds: float) -> Any:
    driver = lab.driver()
    work = driver.work

    def dies(at: float) -> Any:
        return work(at) if lab.clock.monotonic() < seconds else _dies()

    driver.work = dies  # type: ignore[method-assign]
    return driver


def test_a_template_that_is_deleted_in_mid_release_takes_back() -> None:
    lab = DeploymentLab([{"setWeight": 20}, {"pause": {"duration": 5}}, ANALYSIS])
    lab.after(3, lambda: lab.session.remove(ANALYSIS_TEMPLATE, "success-rate", NAMESPACE))
    result = lab.release().run()
    assert result["outcome"] == "rolled_back"
    assert "success-rate does not exist" in result["reason"]
    nothing_left(lab, OLD)


def test_a_run_that_lost_its_lease_stops_and_touches_nothing_more() -> None:
    lab = DeploymentLab([{"setWeight": 20}, {"pause": {}}])
    record = lab.record()
    lab.after(4, lambda: lab.record(force=True))
    with pytest.raises(LeaseLost):
        lab.release(record=record).run()
    assert lab.has_canary()


def test_an_api_server_that_is_away_for_a_minute() -> None:
    lab = DeploymentLab()
    away = Unreachable("no answer", reason="NoAnswer")
    for method in ("patch", "get", "create", "delete"):
        lab.after(0.05, lambda method=method: lab.session.fail_next(method, away, times=60))  # type: ignore[misc]
        lab.after(11, lambda method=method: lab.session.fail_next(method, away, times=60))  # type: ignore[misc]
    result = lab.release(record=lab.record()).run()
    assert result["outcome"] == "promoted"
    assert len(result["measurements"]) == 6
    nothing_left(lab, NEW)


# -- death ---------------------------------------------------------------------------------------------------------


def kill_at(lab: DeploymentLab, number: int) -> Callable[[], int]:
    """The process dies at its ``number``-th write, before or after it is done in turn."""
    count = 0
    original = {name: getattr(lab.session, name) for name in ("patch", "replace", "create", "delete")}

    def dying(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                if number % 2:
                    original[name](*args, **kwargs)
                raise Killed
            return original[name](*args, **kwargs)

        return call

    for name in original:
        setattr(lab.session, name, dying(name))
    return lambda: count


@pytest.mark.parametrize(
    ("steps", "answers", "gate", "outcome", "journal"),
    [
        (PAUSES, [], True, "promoted", True),
        (PAUSES, [0.5] * 9, True, "rolled_back", True),
        (STEPS, [], False, "promoted", False),
        (STEPS, [1.0] * 4 + [0.5] * 9, False, "rolled_back", True),
    ],
)
def test_killed_at_any_write_and_taken_up_again(
    steps: list[dict[str, Any]], answers: list[float], gate: bool, outcome: str, journal: bool
) -> None:
    """The next run comes to the same end; what a finished analysis has found is not asked again."""
    for number in [*range(1, 8), *range(8, 200, 3)]:  # before and after a write in turn
        lab = DeploymentLab(steps, answers, deployment=new_deployment(replicas=4))
        first = lab.record() if journal else None
        originals = [(name, getattr(lab.session, name)) for name in ("patch", "replace", "create", "delete")]
        count = kill_at(lab, number)
        try:
            lab.release(gate=gate, record=first).run()
        except Killed:
            pass
        if count() < number:
            break
        for name, method in originals:
            setattr(lab.session, name, method)
        lab.clock.sleep(number % 7)
        result = lab.release(gate=gate, record=lab.record(force=True) if journal else None).run()
        # Without a journal, a release that was killed when all was taken back begins again.
        assert result["outcome"] == outcome, number
        assert lab.pods.most <= 5, number
        assert lab.pods.fewest >= 3, number
        if not gate and outcome == "promoted":
            assert len(lab.queries) <= 6 + 3, number  # at most one analysis was not finished
        nothing_left(lab, NEW if outcome == "promoted" else OLD, 4)
    else:
        pytest.fail("more than 200 writes")
    assert number > 5


def test_a_run_taken_up_is_at_the_same_hash_and_step() -> None:
    lab = DeploymentLab(STEPS)
    first = lab.record()
    lab.after(14, lambda: setattr(lab, "value", _dies))
    with pytest.raises(Killed):
        lab.release(record=first).run()
    lab.value = lambda: [1.0]
    result = lab.release(record=lab.record(force=True)).run()
    assert (result["outcome"], result["canary_hash"], result["revision"]) == ("promoted", "hv110", "2")
    assert "step 4/5 analysis success-rate" in texts(result)
    assert "step 2/5" not in texts(result)
    assert [step["result"] for step in result["steps"]] == [
        "completed",
        "Successful",
        "completed",
        "Successful",
        "completed",
    ]
    assert all(step["started_at"] for step in result["steps"])


def _dies() -> list[float]:
    raise Killed
