# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases when the cluster, other people, the clock or this process do not behave."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    ANALYSIS_TEMPLATE,
    POD,
    ROLLOUT,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import (
    Forbidden,
    Invalid,
    KubeError,
    Unreachable,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.watcher import Observation
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.driver import Deleted, Expected
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_record import LeaseLost, Record
from ansible_collections.lumen.airgap.tests.unit.fakes.canary_lab import (
    ANALYSIS,
    NEW,
    OLD,
    OTHER,
    PAUSES,
    TEMPLATE,
    Killed,
    Lab,
    bump,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.deployments import DeploymentLab
from ansible_collections.lumen.airgap.tests.unit.fakes.rollouts import NAME, NAMESPACE
from ansible_collections.lumen.airgap.tests.unit.fakes.watcher import FakeWatcher

LEADER_CHANGED = KubeError("etcdserver: leader changed", status=500)


def edit(lab: Lab, **parts: Any) -> None:
    lab.session.edit(ROLLOUT, NAME, NAMESPACE, parts)


def observe(lab: Lab) -> None:
    """As if the controller had looked at the Rollout and found nothing to do."""
    generation = lab.session.get(ROLLOUT, NAME, NAMESPACE)["metadata"]["generation"]
    edit(lab, status={"observedGeneration": str(generation)})


def verbs(lab: Lab) -> list[Any]:
    return [body["status"] for body in lab.statuses() if isinstance(body, dict)]


def dies(*_args: Any) -> None:
    raise Killed


class Hanging(FakeWatcher):
    """Says nothing any more once a gate has asked Prometheus."""

    lab: Lab

    def next(self, timeout: float) -> Observation | None:
        if self.lab.queries:
            self.lab.clock.sleep(timeout)
            return None
        return super().next(timeout)


def hanging(lab: Lab) -> Any:
    def watch(wanted: Any) -> Hanging:
        watcher = Hanging(lab.session, wanted, lab.clock)
        watcher.lab = lab
        return watcher

    return watch


# -- an API server that errs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [LEADER_CHANGED, Forbidden("not yet", status=403), Invalid("what?", status=422)])
def test_a_failing_renewal_is_tried_again(error: KubeError) -> None:
    lab = Lab()
    record = lab.record()
    lab.after(6, lambda: lab.session.fail_next("replace", error))
    assert lab.release(record=record).run()["outcome"] == "promoted"


def test_what_argo_cd_keeps_is_not_changed_beside_it() -> None:
    lab = Lab()
    tracking = "lumen-app:argoproj.io/Rollout:lumen/api"
    edit(lab, metadata={"annotations": {"argocd.argoproj.io/tracking-id": tracking}})
    record = lab.record()
    with pytest.raises(AirgapError, match="Application lumen-app keeps"):
        lab.release(record=record).run()
    assert "canary_started" not in str(record.as_dict()["journal"])
    assert lab.session.get(ROLLOUT, NAME, NAMESPACE)["spec"]["template"]["spec"]["containers"][0]["image"] == OLD


def test_no_right_to_the_lease_ends_the_release_when_it_would_have_expired() -> None:
    lab = Lab(PAUSES)
    record = lab.record()
    lab.after(6, lambda: lab.session.fail_next("replace", Invalid("no", status=422), times=10_000))
    result = lab.release(record=record).run()
    assert result["outcome"] == "failed"
    assert 55 < lab.clock.monotonic() < 90
    assert verbs(lab) == []


@pytest.mark.parametrize("error", [LEADER_CHANGED, Forbidden("not yet", status=403)])
def test_an_abort_that_fails_is_tried_again_and_said(error: KubeError) -> None:
    lab = Lab(PAUSES)
    lab.value = lambda: [0.5]
    release = lab.release(gate=True)
    lab.after(4, lambda: lab.session.fail_next("patch", error))
    result = release.run()
    assert result["outcome"] == "rolled_back"
    assert any("tried again" in entry["text"] for entry in result["timeline"])


def test_a_change_that_is_forbidden_is_told_at_once() -> None:
    lab = Lab()
    lab.session.fail_next("patch", Forbidden("may not patch", status=403))
    with pytest.raises(Forbidden) as caught:
        lab.release().run()
    assert lab.clock.monotonic() < 5
    assert caught.value.details["timeline"]


# -- errors in mid-release ----------------------------------------------------------------------------------------


def test_what_may_not_be_watched_is_told_before_anything_is_changed() -> None:
    lab = Lab()

    class Refused(FakeWatcher):
        def next(self, timeout: float) -> Observation | None:
            self.next = super().next  # type: ignore[method-assign]
            raise Forbidden("list Event: 403", status=403)

    with pytest.raises(Forbidden):
        lab.release(watch=lambda wanted: Refused(lab.session, wanted, lab.clock)).run()
    assert (lab.image(), lab.session.bodies) == (OLD, [])


def test_an_api_server_that_is_away_when_a_release_is_taken_up() -> None:
    lab = Lab(PAUSES)
    lab.value = dies  # type: ignore[assignment]
    with pytest.raises(Killed):
        lab.release(gate=True, record=lab.record()).run()
    lab.value = lambda: [1.0]
    release = lab.release(gate=True, record=lab.record(force=True))
    lab.session.fail_next("get", Unreachable("503", status=503), times=3)
    assert release.run()["outcome"] == "promoted"


def test_a_gate_that_cannot_be_read_for_a_moment() -> None:
    lab = Lab(PAUSES)
    release = lab.release(gate=True)
    lab.after(1, lambda: lab.session.fail_next("get", Unreachable("away"), times=3))
    assert release.run()["outcome"] == "promoted"


def test_a_gate_that_is_deleted_in_mid_release_takes_back() -> None:
    lab = Lab(PAUSES)
    lab.after(0.2, lambda: lab.session.remove(ANALYSIS_TEMPLATE, "success-rate", NAMESPACE))
    result = lab.release(gate=True).run()
    assert result["outcome"] == "rolled_back"
    assert "success-rate does not exist" in result["reason"]
    assert lab.image() == OLD


def test_steps_that_become_unreadable_take_back() -> None:
    lab = Lab(PAUSES)
    steps = [{"setWeight": 20}, {"pause": {}}, {"setCanaryScale": {"replicas": 1}}]
    lab.after(6, lambda: edit(lab, spec={"strategy": {"canary": {"steps": steps}}}))
    result = lab.release(gate=True).run()
    assert result["outcome"] == "rolled_back"
    assert "setCanaryScale" in result["reason"]
    assert lab.image() == OLD


def test_a_deleted_rollout_fails_with_what_was_seen() -> None:
    lab = Lab()
    lab.after(9, lambda: lab.session.remove(ROLLOUT, NAME, NAMESPACE))
    with pytest.raises(Deleted, match="was deleted during the release") as caught:
        lab.release().run()
    assert len(caught.value.details["measurements"]) == 2
    assert caught.value.details["steps"][0]["result"] == "completed"


def test_an_object_of_an_unexpected_shape_takes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(PAUSES)
    driver = lab.driver()
    see = driver.see

    def broken(observation: Observation) -> Any:
        if lab.clock.monotonic() > 3 and lab.image() == NEW and not verbs(lab):
            raise KeyError("status")
        return see(observation)

    monkeypatch.setattr(driver, "see", broken)
    lab.after(4, lambda: edit(lab, metadata={"labels": {"touched": "yes"}}))
    result = lab.release(driver=driver).run()
    assert result["outcome"] == "rolled_back"
    assert "KeyError" in result["reason"]


def test_a_restore_that_is_refused_is_read_again() -> None:
    lab = Lab(answers=["Failed"])
    lab.after(0.65, lambda: lab.session.fail_next("patch", Invalid("conflicting webhook", status=422)))
    assert lab.release().run()["outcome"] == "rolled_back"
    assert lab.image() == OLD


def test_an_error_while_taking_back_is_told_with_everything_seen() -> None:
    lab = Lab(answers=["Failed"])
    lab.after(0.65, lambda: lab.session.fail_next("patch", Invalid("no such image", status=422), times=100))
    result = lab.release().run()
    assert result["outcome"] == "failed"
    assert result["reason"].startswith('Metric "success-rate" assessed Failed; ')
    assert "no such image" in result["reason"]
    assert result["steps"]
    assert result["measurements"]


def test_a_resumed_release_whose_gate_is_gone_takes_back() -> None:
    lab = Lab(PAUSES)
    release = lab.release(gate=True, record=lab.record())
    lab.value = dies  # type: ignore[assignment]
    with pytest.raises(Killed):
        release.run()
    lab.session.remove(ANALYSIS_TEMPLATE, "success-rate", NAMESPACE)
    lab.clock.sleep(100)
    assert lab.release(gate=True, record=lab.record()).run()["outcome"] == "rolled_back"


# -- what belongs to somebody else --------------------------------------------------------------------------------


def test_a_change_between_reading_and_writing_is_not_overwritten() -> None:
    lab = Lab()

    def watch(wanted: Any) -> FakeWatcher:
        bump(lab, OTHER)
        lab.clock.sleep(3)
        return lab.watch(wanted)

    result = lab.release(watch=watch).run()
    assert (result["outcome"], lab.image()) == ("failed", OTHER)


def test_a_fix_forward_is_not_overwritten_by_a_resumed_roll_back(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(answers=["Failed"])
    release = lab.release(record=lab.record())
    monkeypatch.setattr(release, "_await_abort", dies)
    with pytest.raises(Killed):
        release.run()
    bump(lab, OTHER)
    lab.clock.sleep(300)
    result = lab.release(record=lab.record()).run()
    assert (result["outcome"], lab.image()) == ("failed", OTHER)


def test_a_fix_forward_during_the_abort_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(PAUSES)
    lab.value = lambda: [0.5]
    driver = lab.driver()
    abort = driver.abort

    def aborted(expected: Expected) -> None:
        abort(expected)
        bump(lab, OTHER)

    monkeypatch.setattr(driver, "abort", aborted)
    result = lab.release(gate=True, driver=driver).run()
    assert (result["outcome"], lab.image()) == ("failed", OTHER)


@pytest.mark.parametrize("value", [1.0, 0.5])
def test_neither_promotion_nor_abort_hit_somebody_elses_canary(value: float) -> None:
    lab = Lab(PAUSES)
    lab.value = lambda: [value]
    lab.after(5, lambda: bump(lab, OTHER))
    result = lab.release(gate=True, watch=hanging(lab), step_deadline=60.0).run()
    assert (result["outcome"], lab.image(), verbs(lab)) == ("failed", OTHER, [])


def test_what_was_begun_and_not_done_does_not_make_another_change_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    driver = lab.driver()
    monkeypatch.setattr(driver, "set_image", dies)
    with pytest.raises(Killed):
        lab.release(record=lab.record(), driver=driver).run()
    bump(lab, OTHER)
    lab.clock.sleep(3)
    with pytest.raises(AirgapError, match="Another change is in progress"):
        lab.release(record=lab.record(force=True)).run()
    assert lab.image() == OTHER


def test_what_became_stable_since_is_what_is_gone_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    driver = lab.driver()
    monkeypatch.setattr(driver, "set_image", dies)
    with pytest.raises(Killed):
        lab.release(record=lab.record(), driver=driver).run()
    bump(lab, OTHER)
    lab.clock.sleep(100)
    lab.controller.answers = ["Failed"]
    assert lab.release(record=lab.record(force=True)).run()["outcome"] == "rolled_back"
    assert lab.image() == OTHER


def test_another_image_is_never_taken_for_ours() -> None:
    lab = Lab()
    lab.controller.running = False
    lab.after(2, lambda: bump(lab, OTHER))
    lab.after(4, lambda: setattr(lab.controller, "running", True))
    result = lab.release().run()
    assert (result["outcome"], lab.image()) == ("failed", OTHER)


def test_a_run_that_was_cut_off_does_nothing_after_another_took_over(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(PAUSES)
    lab.value = lambda: [0.5]
    record, driver = lab.record(), lab.driver()
    abort, renew = driver.abort, record.renew
    state = {"cut": 0.0, "taken": 0.0, "acted": 0.0}

    def cut_off() -> bool:
        return bool(state["cut"]) and lab.clock.monotonic() - state["cut"] < 76

    def aborting(expected: Expected) -> None:
        state["cut"] = state["cut"] or lab.clock.monotonic()
        if cut_off():
            raise Unreachable("cut off")
        state["acted"] = 1
        abort(expected)

    def renewing(seconds: int = 60) -> None:
        if cut_off():
            raise Unreachable("cut off")
        renew(seconds)

    monkeypatch.setattr(driver, "abort", aborting)
    monkeypatch.setattr(record, "renew", renewing)
    lab.after(80.5, lambda: (state.update(taken=1), lab.record()))
    with pytest.raises(LeaseLost):
        lab.release(gate=True, record=record, driver=driver).run()
    assert (state["taken"], state["acted"]) == (1, 0)


# -- time -----------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_changes_nothing() -> None:
    lab = Lab()
    lab.after(3, lambda: lab.clock.jump(7200))
    assert lab.release().run()["outcome"] == "promoted"


def test_a_process_that_was_stopped_reads_before_it_judges() -> None:
    lab = Lab()

    class Stopped(FakeWatcher):
        stopped = False

        def next(self, timeout: float) -> Observation | None:
            if lab.clock.monotonic() > 3 and not self.stopped:
                self.stopped = True
                lab.clock.sleep(300)
                return None
            return super().next(timeout)

    result = lab.release(watch=lambda wanted: Stopped(lab.session, wanted, lab.clock), step_deadline=180.0).run()
    assert (result["outcome"], lab.image()) == ("promoted", NEW)


def test_the_last_scale_up_has_a_deadline_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab([{"setWeight": 20}, {"setWeight": 80}, ANALYSIS])
    finish, began = lab.controller._finish, []

    def slow(rollout: Any, image: str) -> None:
        began.append(lab.clock.monotonic())
        if lab.clock.monotonic() - began[0] >= 10:
            finish(rollout, image)

    monkeypatch.setattr(lab.controller, "_finish", slow)
    assert lab.release(step_deadline=15.0).run()["outcome"] == "promoted"
    lab = Lab([{"setWeight": 20}])
    monkeypatch.setattr(lab.controller, "_finish", lambda *_args: None)
    assert lab.release(step_deadline=15.0).run()["reason"].startswith("the last scale-up took longer than 15 s")


def test_a_pod_may_wait_for_another_that_ends() -> None:
    lab = Lab(PAUSES)

    def pending(conditions: list[dict[str, str]]) -> None:
        pod = lab.session.get(POD, "api-hv110-0", NAMESPACE)
        pod["status"]["conditions"] = conditions
        lab.session.put(pod)

    full = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}
    lab.after(1, lambda: pending([full]))
    lab.after(21, lambda: pending([{"type": "Ready", "status": "True"}]))
    assert lab.release(gate=True).run()["outcome"] == "promoted"


# -- the gate -------------------------------------------------------------------------------------------------------


def test_a_spec_that_is_touched_during_the_gate_does_not_interrupt_it() -> None:
    lab = Lab(PAUSES)

    def touch() -> None:
        lab.controller.running = False
        edit(lab, spec={"minReadySeconds": 1})

    lab.after(9, touch)
    lab.after(9.5, lambda: setattr(lab.controller, "running", True))
    result = lab.release(gate=True).run()
    assert (result["outcome"], len(lab.queries), len(result["measurements"])) == ("promoted", 3, 3)


def test_a_promotion_waits_for_the_controller_to_have_looked() -> None:
    lab = Lab(PAUSES)

    def touch() -> None:
        lab.controller.running = False
        edit(lab, spec={"minReadySeconds": 1})

    lab.after(10, touch)
    lab.after(13, lambda: setattr(lab.controller, "running", True))
    result = lab.release(gate=True).run()
    assert (result["outcome"], len(lab.queries)) == ("promoted", 3)
    assert verbs(lab) == [{"pauseConditions": None}]


def test_measurements_of_an_interrupted_gate_are_kept() -> None:
    lab = Lab(PAUSES)
    record = lab.record()
    lab.after(9, lambda: edit(lab, status={"abort": True}))
    result = lab.release(gate=True, record=record).run()
    assert len(result["measurements"]) == len(lab.queries) == 2
    assert [entry["result"] for entry in record.journal if entry["phase"] == "canary_gate"] == ["interrupted"]


def test_measurements_of_a_run_that_was_killed_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(PAUSES)
    driver = lab.driver()
    monkeypatch.setattr(driver, "promote", dies)
    with pytest.raises(Killed):
        lab.release(gate=True, record=lab.record(), driver=driver).run()
    lab.clock.sleep(100)
    result = lab.release(gate=True, record=lab.record()).run()
    assert (result["outcome"], len(lab.queries), len(result["measurements"])) == ("promoted", 3, 3)
    assert result["steps"][1]["result"] == "Successful"


def dies_noting(record: Record, phase: str) -> Record:
    """The process is gone before it writes this into the journal."""
    note = record.note

    def noting(what: str, **data: Any) -> None:
        if what == phase:
            raise Killed
        note(what, **data)

    record.note = noting  # type: ignore[method-assign]
    return record


@pytest.mark.parametrize("lab", [Lab(PAUSES), DeploymentLab(PAUSES)], ids=["rollout", "deployment"])
def test_a_verdict_of_a_run_that_was_killed_stands(lab: Lab) -> None:
    lab.value = lambda: [0.5]
    with pytest.raises(Killed):
        lab.release(gate=True, record=dies_noting(lab.record(), "canary_aborting")).run()
    lab.value = lambda: [1.0]
    asked = len(lab.queries)
    result = lab.release(gate=True, record=lab.record(force=True)).run()
    assert (result["outcome"], result["reason"]) == ("rolled_back", "gate at step 2: Failed (in a run before)")
    assert len(lab.queries) == asked


def test_a_good_verdict_of_a_run_that_was_killed_stands_too() -> None:
    lab = Lab(PAUSES)
    with pytest.raises(Killed):
        lab.release(gate=True, record=dies_noting(lab.record(), "canary_promoting")).run()
    result = lab.release(gate=True, record=lab.record(force=True)).run()
    assert (result["outcome"], len(lab.queries)) == ("promoted", 3)


def test_what_is_tried_again_is_measured_again() -> None:
    lab = Lab([{"setWeight": 20}, {"pause": {}}, {"setWeight": 80}, {"pause": {"duration": 60}}])
    lab.after(20, dies)
    with pytest.raises(Killed):
        lab.release(gate=True, record=lab.record()).run()
    assert len(lab.queries) == 3
    edit(lab, status={"abort": True})
    lab.clock.sleep(2)
    edit(lab, status={"abort": None})
    lab.clock.sleep(2)
    lab.value = lambda: [0.5]
    result = lab.release(gate=True, record=lab.record(force=True)).run()
    assert (result["outcome"], len(lab.queries)) == ("rolled_back", 5)
    assert result["reason"].startswith("gate at step 2: Failed: ")


# -- before and after -----------------------------------------------------------------------------------------------


def test_an_autoscaler_just_before_the_release_is_no_other_change() -> None:
    lab = Lab()
    lab.controller.running = False
    edit(lab, spec={"replicas": 3})
    assert lab.release().preview()["changed"] is True


@pytest.mark.parametrize("make", [Lab, DeploymentLab])
def test_check_mode_says_that_what_is_in_progress_will_go_on(make: type[Lab]) -> None:
    lab = make(PAUSES)
    lab.value = dies  # type: ignore[assignment]
    with pytest.raises(Killed):
        lab.release(gate=True).run()
    assert lab.release(gate=True).preview()["changed"] is True
    lab.value = lambda: [1.0]
    assert lab.release(gate=True).run()["changed"] is True
    assert lab.release(gate=True).preview()["changed"] is False


@pytest.mark.parametrize("what", ["endless", "secret", "range", "nested", "shared", "field"])
def test_analyses_that_the_controller_runs_well_are_not_refused(what: str) -> None:
    lab = Lab()
    template = copy.deepcopy(TEMPLATE)
    template["metadata"]["name"] = "more"
    metric = template["spec"]["metrics"][0]
    analysis: dict[str, Any] = {"templates": [{"templateName": "more"}]}
    if what == "endless":
        del metric["count"]
    elif what == "secret":
        source = {"secretKeyRef": {"name": "s", "key": "k"}}
        template["spec"]["args"].append({"name": "limit", "valueFrom": source})
        metric["successCondition"] = "result[0] >= {{args.limit}}"
        metric["count"] = "{{args.limit}}"
    elif what == "range":
        metric["provider"]["prometheus"]["rangeQuery"] = {"start": "now()-1h", "end": "now()", "step": "1m"}
        metric["successCondition"] = "all(result, {# > 0.9})"
    elif what == "nested":
        template["spec"] = {"templates": [{"templateName": "success-rate"}, {"templateName": "more"}]}
    elif what == "shared":
        template["spec"]["args"] = [{"name": "hash"}]
        metric["name"] = "other"
        analysis["templates"].append({"templateName": "success-rate"})
    else:
        analysis["args"] = [{"name": "hash", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    lab.session.put(template)
    edit(lab, spec={"strategy": {"canary": {"analysis": analysis}}})
    observe(lab)
    lab.release().preview()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"successCondition": "result[0] >= {{args.hash}"}, "cannot find the end"),
        ({"failureCondition": "result[0"}, "failureCondition"),
        ({"count": 2, "failureLimit": 5}, "failureLimit 5 can never trip"),
        ({"interval": "5 parsecs"}, "interval"),
    ],
)
def test_conditions_and_limits_are_linted_in_templates_of_templates(change: dict[str, Any], message: str) -> None:
    lab = Lab()
    bad = copy.deepcopy(TEMPLATE)
    bad["metadata"]["name"] = "bad"
    bad["spec"]["metrics"][0].update(change)
    lab.session.put(bad)
    lab.session.edit(ANALYSIS_TEMPLATE, "success-rate", NAMESPACE, {"spec": {"templates": [{"templateName": "bad"}]}})
    with pytest.raises(AirgapError, match=f"AnalysisTemplate lumen/bad, .*{message}"):
        lab.release().preview()


@pytest.mark.parametrize("make", [Lab, DeploymentLab])
@pytest.mark.parametrize("gate", [False, True])
def test_an_analysis_that_is_longer_than_a_step_may_take_is_refused(make: type[Lab], gate: bool) -> None:
    lab = make(PAUSES) if gate else make()
    metric = {**TEMPLATE["spec"]["metrics"][0], "interval": "5m", "count": 4}  # type: ignore[index]
    lab.session.edit(ANALYSIS_TEMPLATE, "success-rate", NAMESPACE, {"spec": {"metrics": [metric]}})
    where = "gate AnalysisTemplate lumen/success-rate" if gate else r"analysis of .*steps\[3\]"
    for attempt in (lab.release(gate=gate).run, lab.release(gate=gate).preview):
        with pytest.raises(AirgapError, match=rf"The {where} takes 900 s .* may take 900 s: give a 'step_deadline'"):
            attempt()
    assert (lab.image(), lab.session.bodies) == (OLD, [])
    assert lab.release(gate=gate, step_deadline=901.0).preview()["changed"] is True


def test_templates_that_the_controller_cannot_merge_are_refused() -> None:
    lab = Lab()
    same = copy.deepcopy(TEMPLATE)
    same["metadata"]["name"] = "same"
    lab.session.put(same)
    lab.session.edit(ANALYSIS_TEMPLATE, "success-rate", NAMESPACE, {"spec": {"templates": [{"templateName": "same"}]}})
    with pytest.raises(AirgapError, match="two metrics have the same name 'success-rate'"):
        lab.release().preview()


def test_an_abort_is_verified_as_strictly_as_a_restored_template() -> None:
    lab = Lab()
    bump(lab)
    lab.clock.sleep(2)
    driver = lab.driver()
    driver.inspect()
    bump(lab, OLD)
    lab.clock.sleep(3)
    assert driver.verify("hv100", restored=False).missing == []
    edit(lab, status={"phase": "Degraded", "availableReplicas": 0})
    assert driver.verify("hv100", restored=False).missing


def test_pods_count_when_they_are_ready_and_digests_when_they_are_told() -> None:
    lab = Lab()
    lab.release().run()
    driver = lab.driver()
    driver.inspect()
    assert driver.verify("hv110", True, "sha256:hv110", NEW).missing == []
    assert driver.verify("hv110", True, "sha256:hv110", OTHER).missing
    for number in range(2):
        pod = lab.session.get(POD, f"api-hv110-{number}", NAMESPACE)
        pod["status"]["containerStatuses"][0]["imageID"] = ""
        lab.session.put(pod)
    assert driver.verify("hv110", True).missing == []
    assert driver.verify("hv110", True, "sha256:hv110").missing
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    lab.session.put(pod)
    assert driver.verify("hv110", True).missing == ["1 of 2 pods of hv110 are ready."]
