# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases against a controller in memory: endings, refusals, and runs that are killed and taken up again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    ANALYSIS_RUN,
    ANALYSIS_TEMPLATE,
    LEASE,
    ROLLOUT,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Unreachable
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.prometheus import PrometheusError
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.account import Account
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_record import LeaseLost, Record
from ansible_collections.lumen.airgap.tests.unit.fakes.canary_lab import (
    ANALYSIS,
    METRIC,
    NEW,
    OLD,
    OTHER,
    PAUSES,
    STEPS,
    Killed,
    Lab,
    bump,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.deployments import DeploymentLab
from ansible_collections.lumen.airgap.tests.unit.fakes.rollouts import NAME, NAMESPACE


def texts(result: dict[str, Any]) -> str:
    return "\n".join(entry["text"] for entry in result["timeline"])


# -- endings ------------------------------------------------------------------------------------------------------


def test_a_good_version_is_promoted() -> None:
    lab = Lab()
    result = lab.release().run()
    assert (result["outcome"], result["changed"]) == ("promoted", True)
    assert "failed" not in result
    assert [(s["index"], s["kind"], s["weight"], s["result"]) for s in result["steps"]] == [
        (0, "setWeight", 20, "completed"),
        (1, "analysis", 20, "Successful"),
        (2, "setWeight", 80, "completed"),
        (3, "analysis", 80, "Successful"),
        (4, "setWeight", 100, "completed"),
    ]
    assert all(step["started_at"] and step["finished_at"] for step in result["steps"])
    assert len(result["measurements"]) == 6
    assert set(result["measurements"][0]) == {"run", "metric", "at", "value", "phase"}
    assert (result["stable_hash"], result["canary_hash"], result["revision"]) == ("hv110", "hv110", "2")
    assert result["verified"] == {
        "hash": "hv110",
        "endpoints": {service: ["api-hv110-0", "api-hv110-1"] for service in ("api-stable", "api-canary", "api")},
        "digests": ["sha256:hv110"],
        "missing": [],
    }
    assert "setWeight 20 → 1 canary / 2 stable (33 % actual)" in texts(result)
    assert any(line.endswith("  check 2/3 success-rate 1 ✔") for line in lab.out.lines)


def test_a_second_time_nothing_is_done() -> None:
    lab = Lab()
    lab.release().run()
    before = len(lab.session.bodies)
    result = lab.release().run()
    assert (result["outcome"], result["changed"], result["reason"]) == ("promoted", False, "already running")
    assert result["verified"]["hash"] == "hv110"
    assert len(lab.session.bodies) == before


def test_what_runs_already_is_given_time_to_be_verified() -> None:
    """As in the moment after a promotion, when a Service still sends to a pod that is going."""
    lab = Lab()
    lab.release().run()
    release, asked = lab.release(), []
    verify = release._driver.verify

    def late(*args: Any, **kwargs: Any) -> Any:
        asked.append(args)
        found = verify(*args, **kwargs)
        return found if len(asked) > 2 else replace(found, missing=["Service api still sends to api-hv100-0."])

    release._driver.verify = late
    assert release.run()["outcome"] == "promoted"


def test_where_nothing_is_measured_nothing_is_linted() -> None:
    """A template that is not there keeps nobody from going back."""
    lab = Lab()
    lab.release().run()
    lab.session.remove(ANALYSIS_TEMPLATE, "success-rate", NAMESPACE)
    with pytest.raises(AirgapError, match="success-rate"):
        lab.release(image=OLD).run()
    with pytest.raises(AirgapError, match="success-rate"):
        lab.release(image="").preview()  # before a release through Git
    assert lab.release(image=NEW).run()["reason"] == "already running"
    assert lab.release(image=OLD, promote_full=True).run()["outcome"] == "promoted"


def test_a_bad_version_is_taken_back_and_stable_verified() -> None:
    lab = Lab(answers=["Successful", "Failed"])
    result = lab.release().run()
    assert (result["outcome"], result["failed"]) == ("rolled_back", True)
    assert result["reason"] == 'Metric "success-rate" assessed Failed'
    assert result["steps"][-1]["result"] == "Failed"
    assert [each["phase"] for each in result["measurements"]] == ["Successful", "Failed"]
    assert lab.image() == OLD
    assert (result["verified"]["hash"], result["stable_hash"]) == ("hv100", "hv100")
    assert lab.session.get(ROLLOUT, NAME, NAMESPACE)["status"]["phase"] == "Healthy"


def test_the_verdict_comes_within_a_second_of_the_deciding_measurement() -> None:
    lab = Lab(answers=["Failed"])
    lab.release().run()
    texts = lab.out.lines
    failed = next(i for i, line in enumerate(texts) if "failed: Metric" in line)
    measured = next(i for i, line in enumerate(texts) if "check 1/3" in line)
    assert texts[failed][:5] == texts[measured][:5]


def test_left_as_it_is_when_asked_for() -> None:
    lab = Lab(answers=["Failed"])
    result = lab.release(on_failure="leave").run()
    assert result["outcome"] == "failed"
    assert lab.image() == NEW


def test_prometheus_gone_in_the_controllers_analysis() -> None:
    lab = Lab(answers=["Error"])
    result = lab.release().run()
    assert (result["outcome"], result["reason"]) == ("rolled_back", 'Metric "success-rate" assessed Error')


@pytest.mark.parametrize(
    "reason",
    [
        "ErrImagePull: failed to pull: registry/api:v1.1.0: not found",
        "ImagePullBackOff: Back-off pulling image",
        "CrashLoopBackOff: back-off 10s restarting",
        "CreateContainerConfigError: secret not found",
    ],
)
def test_pods_that_cannot_start_end_the_release_within_seconds(reason: str) -> None:
    lab = Lab()
    lab.controller.broken[NEW] = reason
    started = lab.clock.time()
    result = lab.release().run()
    assert lab.clock.time() - started < 5
    assert result["outcome"] == "rolled_back"
    assert reason in result["reason"]
    assert lab.image() == OLD


def test_a_step_has_a_deadline() -> None:
    lab = Lab(PAUSES)
    result = lab.release(step_deadline=30.0).run()
    assert result["outcome"] == "rolled_back"
    late = "step 2 (pause) took longer than 30 s; last seen: Paused CanaryPauseStep; 1 canary"
    assert result["reason"].startswith(late)


def test_a_controller_that_never_reacts() -> None:
    lab = Lab()
    lab.controller.running = False
    result = lab.release(step_deadline=30.0).run()
    assert result["outcome"] == "failed"
    assert "the controller's reaction took longer than 30 s" in result["reason"]
    assert lab.image() == OLD
    assert not any(isinstance(body, dict) and "abort" in body.get("status", {}) for body in lab.session.bodies)


def test_a_controller_that_is_silent_for_half_a_minute() -> None:
    lab = Lab()

    def freeze(running: bool) -> None:
        lab.controller.running = running

    lab.after(3, lambda: freeze(False))
    lab.after(33, lambda: freeze(True))
    assert lab.release().run()["outcome"] == "promoted"


def test_a_first_deployment_has_nothing_to_go_back_to() -> None:
    lab = Lab()
    lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"status": {"stableRS": None}})
    assert lab.release(OLD).run()["outcome"] == "promoted"
    lab = Lab()
    lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"status": {"stableRS": None}})
    lab.controller.broken[NEW] = "ErrImagePull: not found"
    result = lab.release().run()
    assert result["outcome"] == "failed"
    assert "no stable version to go back to" in result["reason"]


@pytest.mark.parametrize("make", [Lab, DeploymentLab])
@pytest.mark.parametrize("gate", [False, True])
def test_another_digest_is_taken_back_before_anything_is_measured(make: type[Lab], gate: bool) -> None:
    lab = make(PAUSES if gate else STEPS)
    result = lab.release(gate=gate, digest="sha256:other").run()
    assert result["reason"] == "the canary's pods run the digest sha256:hv110, not sha256:other"
    assert (result["outcome"], lab.image(), result["measurements"]) == ("rolled_back", OLD, [])
    assert make().release(digest="sha256:hv110").run()["outcome"] == "promoted"


def test_what_arrived_before_has_the_digest_too() -> None:
    """The controller had not looked at the Rollout, or it was not healthy, when the release began."""
    for patch in ({"spec": {"minReadySeconds": 1}}, {"status": {"phase": "Progressing"}}):
        for digest, outcome in (("sha256:other", "failed"), ("sha256:hv100", "promoted")):
            lab = Lab()
            lab.controller.running = False
            lab.session.edit(ROLLOUT, NAME, NAMESPACE, patch)
            lab.after(7, partial(setattr, lab.controller, "running", True))
            lab.after(8, partial(lab.session.edit, ROLLOUT, NAME, NAMESPACE, {"status": {"phase": "Healthy"}}))
            result = lab.release(OLD, digest=digest).run()
            assert (result["outcome"], lab.statuses()) == (outcome, [])
            assert outcome == "promoted" or "not sha256:other" in result["reason"]


def test_somebody_changes_the_image_in_between() -> None:
    lab = Lab()
    containers = {"containers": [{"name": NAME, "image": OTHER}]}
    lab.after(3, lambda: lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"spec": {"template": {"spec": containers}}}))
    result = lab.release().run()
    assert (result["outcome"], result["reason"]) == (
        "failed",
        "the Rollout was changed to registry/api:v1.2.0, hash hv120",
    )
    assert lab.image() == OTHER


def test_somebody_reverts_in_between() -> None:
    lab = Lab()
    containers = {"containers": [{"name": NAME, "image": OLD}]}
    lab.after(3, lambda: lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"spec": {"template": {"spec": containers}}}))
    result = lab.release().run()
    assert (result["outcome"], result["reason"]) == ("rolled_back", "the Rollout went back to stable hv100")


# -- following what somebody else has changed --------------------------------------------------------------------


def test_following_touches_no_template() -> None:
    lab = Lab()
    bump(lab)
    result = lab.release("").run()
    assert (result["outcome"], result["image"]) == ("promoted", NEW)
    assert lab.statuses() == []


def test_following_a_bad_change_aborts_and_leaves_the_template_to_its_owner() -> None:
    lab = Lab(PAUSES)
    bump(lab)
    lab.value = lambda: [0.5]
    result = lab.release("", gate=True).run()
    assert result["outcome"] == "rolled_back"
    assert result["verified"]["hash"] == "hv100"
    assert (lab.image(), [body["status"] for body in lab.statuses()]) == (NEW, [{"abort": True}])


def test_nothing_in_progress() -> None:
    result = Lab().release("").run()
    assert (result["outcome"], result["changed"], result["reason"]) == ("promoted", False, "no change in progress")


def test_the_same_image_in_progress_is_taken_up() -> None:
    lab = Lab()
    bump(lab)
    lab.clock.sleep(4)
    result = lab.release().run()
    assert result["outcome"] == "promoted"
    assert len(result["measurements"]) == 6
    assert lab.statuses() == []


def test_a_version_that_is_known_to_be_good_skips_the_steps() -> None:
    lab = Lab(PAUSES)
    result = lab.release(promote_full=True).run()
    assert result["outcome"] == "promoted"
    assert [body["status"] for body in lab.statuses() if isinstance(body, dict)] == [{"promoteFull": True}]
    assert "promoted fully: the steps that are left are skipped" in [entry["text"] for entry in result["timeline"]]


# -- our gate -----------------------------------------------------------------------------------------------------


def test_our_gate_at_a_pause_promotes() -> None:
    lab = Lab(PAUSES)
    result = lab.release(gate=True).run()
    assert result["outcome"] == "promoted"
    assert lab.queries == ['rate{hash="hv110"}'] * 3
    assert [each["run"] for each in result["measurements"]] == ["gate-hv110-1"] * 3
    assert [step["result"] for step in result["steps"]] == ["completed", "Successful", "completed", "completed"]
    promotions = [body for body in lab.statuses() if isinstance(body, dict)]
    assert [body["status"] for body in promotions] == [{"pauseConditions": None}]
    assert "gate AnalysisTemplate lumen/success-rate: success-rate, 3 checks every " in texts(result)


def test_our_gate_at_a_pause_aborts() -> None:
    lab = Lab(PAUSES)
    lab.value = lambda: [0.5]
    result = lab.release(gate=True).run()
    assert result["outcome"] == "rolled_back"
    assert result["reason"].startswith("gate at step 2: Failed: ")
    assert result["steps"][-1]["result"] == "Failed"
    assert lab.image() == OLD


def test_a_promotion_that_the_controller_has_lost_on_its_cache_is_seen_to_the_end() -> None:
    lab = Lab(PAUSES)
    lab.controller.lose_next_verb()
    result = lab.release(gate=True).run()
    assert result["outcome"] == "promoted"
    assert "nudged" not in " ".join(lab.out.lines)  # nothing that a person needs to know


def test_an_abort_that_the_controller_has_lost_on_its_cache_is_seen_to_the_end() -> None:
    lab = Lab(PAUSES)
    lab.value = lambda: [0.5]
    lab.controller.lose_next_verb()
    result = lab.release(gate=True).run()
    assert (result["outcome"], lab.image()) == ("rolled_back", OLD)
    assert not any("has not reacted" in line for line in lab.out.lines)


def test_prometheus_gone_at_our_gate() -> None:
    def gone() -> list[float]:
        raise PrometheusError("connection refused", reason="unreachable")

    lab = Lab(PAUSES)
    lab.value = gone
    result = lab.release(gate=True).run()
    assert result["outcome"] == "rolled_back"
    assert "Error" in result["reason"]
    assert {each["phase"] for each in result["measurements"]} == {"Error"}


def test_somebody_promotes_during_our_gate() -> None:
    lab = Lab(PAUSES)
    lab.after(3, lambda: lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"status": {"pauseConditions": None}}))
    result = lab.release(gate=True).run()
    assert result["outcome"] == "promoted"
    assert len(lab.queries) < 3


def test_somebody_aborts_during_our_gate() -> None:
    lab = Lab(PAUSES)
    lab.after(3, lambda: lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"status": {"abort": True}}))
    result = lab.release(gate=True).run()
    assert (result["outcome"], result["reason"]) == ("rolled_back", "somebody has aborted it")


def test_without_a_gate_somebody_else_promotes() -> None:
    lab = Lab(PAUSES)
    lab.after(20, lambda: lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"status": {"pauseConditions": None}}))
    result = lab.release().run()
    assert result["outcome"] == "promoted"
    assert "no gate is given" in texts(result)


# -- refusals -----------------------------------------------------------------------------------------------------


def strategy(**canary: Any) -> dict[str, Any]:
    return {"spec": {"strategy": {"canary": canary}}}


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"spec": {"strategy": {"canary": None, "blueGreen": {}}}}, "has the strategy blueGreen; only"),
        ({"spec": {"strategy": {"canary": None}}}, r"has no spec\.strategy\.canary"),
        ({"spec": {"paused": True}}, "was paused by hand"),
        (strategy(steps=[{"setWeight": 120}]), r"steps\[0\].setWeight: setWeight is 120"),
        (strategy(maxSurge="lots"), "maxSurge"),
        (strategy(trafficRouting={"nginx": {}}), "traffic router"),
        (
            strategy(steps=[{"analysis": {"templates": [{"templateName": "gone"}]}}]),
            "gone does not exist",
        ),
        ({"status": {"currentPodHash": "x", "abort": True, "phase": "Degraded"}}, "is already aborted"),
        ({"status": {"currentPodHash": "x", "phase": "Progressing"}}, "Another change is in progress"),
        ({"spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}}}, "it has a, b"),
        ({"spec": {"template": None, "workloadRef": {"name": "x"}}}, "spec.workloadRef"),
    ],
)
def test_refusals_touch_nothing(patch: dict[str, Any], message: str) -> None:
    lab = Lab()
    lab.session.edit(ROLLOUT, NAME, NAMESPACE, patch)
    observed = str(lab.session.get(ROLLOUT, NAME, NAMESPACE)["metadata"]["generation"])
    lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"status": {"observedGeneration": observed}})
    for attempt in (lab.release().run, lab.release().preview):
        with pytest.raises(AirgapError, match=message):
            attempt()
    assert lab.session.bodies == []


def test_a_rollout_that_does_not_exist() -> None:
    lab = Lab()
    lab.session.remove(ROLLOUT, NAME, NAMESPACE)
    with pytest.raises(AirgapError, match="Rollout lumen/api does not exist"):
        lab.release().run()


def test_a_condition_that_does_not_parse_is_refused_before_anything() -> None:
    lab = Lab()
    bad = {"spec": {"metrics": [{**METRIC, "successCondition": "result[0] >="}]}}
    lab.session.edit(ANALYSIS_TEMPLATE, "success-rate", NAMESPACE, bad)
    with pytest.raises(AirgapError, match=r"lumen/success-rate, spec.metrics\[0\].success"):
        lab.release().run()
    assert lab.image() == OLD


def test_a_gate_that_does_not_exist_is_refused_before_anything() -> None:
    lab = Lab(PAUSES)
    lab.session.remove(ANALYSIS_TEMPLATE, "success-rate", NAMESPACE)
    with pytest.raises(AirgapError, match="success-rate does not exist"):
        lab.release(gate=True).run()
    assert lab.image() == OLD


def test_check_mode_shows_steps_and_pods_and_touches_nothing() -> None:
    lab = Lab()
    result = lab.release().preview()
    assert [(p["weight"], p["canary"], p["stable"], p["actual_weight"]) for p in result["planned"]] == [
        (20, 1, 2, 33),
        (20, 1, 2, 33),
        (80, 2, 1, 67),
        (80, 2, 1, 67),
        (100, 2, 0, 100),
    ]
    assert result["changed"] is True
    assert Lab().release(OLD).preview()["changed"] is False
    assert lab.session.bodies == []


# -- Lease, journal and death ------------------------------------------------------------------------------------


def test_the_lease_is_renewed_while_nothing_else_happens() -> None:
    lab = Lab(PAUSES)
    record = lab.record()
    lab.after(300, lambda: lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"status": {"pauseConditions": None}}))
    assert lab.release(record=record).run()["outcome"] == "promoted"
    renewals = [call for call in lab.session.calls if call[:2] == ("replace", LEASE)]
    assert len(renewals) > 50


def test_a_run_that_lost_its_lease_stops_and_touches_nothing_more() -> None:
    lab = Lab(PAUSES)
    record = lab.record()
    lab.after(4, lambda: lab.record(force=True))
    with pytest.raises(LeaseLost):
        lab.release(record=record).run()
    assert lab.image() == NEW
    assert not any(isinstance(body, dict) and body.get("status", {}).get("abort") for body in lab.session.bodies)


def test_an_api_server_that_is_away_for_a_moment() -> None:
    lab = Lab(PAUSES)
    away = Unreachable("no answer", reason="NoAnswer")
    lab.after(3, lambda: lab.session.fail_next("patch", away, times=3))
    lab.after(3, lambda: lab.session.fail_next("get", away, times=2))
    assert lab.release(gate=True, record=lab.record()).run()["outcome"] == "promoted"


def kill_at(lab: Lab, number: int) -> Callable[[], int]:
    """The process dies at its ``number``-th write, before or after it is done in turn."""
    count = 0
    original = {name: getattr(lab.session, name) for name in ("patch", "replace", "create")}

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
    ("steps", "value", "answers", "gate", "outcome"),
    [
        (PAUSES, 1.0, [], True, "promoted"),
        (PAUSES, 0.5, [], True, "rolled_back"),
        (STEPS, 1.0, [], False, "promoted"),
        (STEPS, 1.0, ["Successful"] * 4 + ["Failed"], False, "rolled_back"),
    ],
)
def test_killed_at_any_write_and_taken_up_again(
    steps: list[dict[str, Any]], value: float, answers: list[str], gate: bool, outcome: str
) -> None:
    """The next run comes to the same end, with every measurement, and no pause is promoted twice."""
    for number in range(1, 200):
        lab = Lab(steps, answers)
        lab.value = lambda: [value]
        first = lab.record()
        originals = (lab.session.patch, lab.session.replace, lab.session.create)
        count = kill_at(lab, number)
        try:
            lab.release(gate=gate, record=first).run()
        except Killed:
            pass
        if count() < number:
            break
        lab.session.patch, lab.session.replace, lab.session.create = originals  # type: ignore[method-assign]
        lab.clock.sleep(number % 7)  # the controller goes on without us
        result = lab.release(gate=gate, record=lab.record(force=True)).run()
        assert result["outcome"] == outcome, number
        assert lab.image() == (NEW if outcome == "promoted" else OLD), number
        ended = [body["status"] for body in lab.statuses() if isinstance(body, dict)]
        assert ended.count({"pauseConditions": None}) <= 1, number
        assert ended.count({"abort": True}) <= 1, number
        if not gate:
            assert len(result["measurements"]) == (6 if outcome == "promoted" else 5), number
    else:
        pytest.fail("more than 200 writes")
    assert number > 15


def killed_after(lab: Lab, phase: str, number: int = 1) -> None:
    """A run that dies when the journal has its ``number``-th entry of ``phase``."""
    record, note = lab.record(), Record.note
    left = number

    def dying(self: Record, noted: str, **data: Any) -> None:
        nonlocal left
        note(self, noted, **data)
        left -= noted == phase
        if not left:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Record, "note", dying)
        with pytest.raises(Killed):
            lab.release(record=record).run()


def test_what_a_killed_run_has_seen_is_told_by_the_next_one() -> None:
    lab = Lab()
    killed_after(lab, "canary_step", 4)
    pods = Account(lab.record(force=True).journal).pods
    lab.clock.sleep(60)  # promoted while nobody looks, and the controller has tidied up
    for run in lab.session.list(ANALYSIS_RUN, NAMESPACE).items:
        lab.session.delete(ANALYSIS_RUN, run["metadata"]["name"], NAMESPACE)
    result = lab.release(record=lab.record(force=True)).run()
    assert result["outcome"] == "promoted"
    weights = {step["index"]: step["actual_weight"] for step in result["steps"] if step["kind"] == "setWeight"}
    assert None not in (weights[0], weights[2])
    assert [step["index"] for step in result["steps"]] == [0, 1, 2, 3, 4]
    known = result["steps"][:4]
    assert all(step["finished_at"] for step in known)
    assert [step["result"] for step in known] == ["completed", "Successful", "completed", "Successful"]
    assert len(result["measurements"]) == 6
    assert result["conditions"].keys() == {"success-rate"}
    assert pods
    assert result["pods"][: len(pods)] == pods


def test_what_was_seen_of_an_aborted_canary_is_not_lost_with_its_steps() -> None:
    lab = Lab()
    killed_after(lab, "canary_step", 1)
    lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"status": {"abort": True}})
    lab.clock.sleep(5)  # back on step 0 before anybody looks
    result = lab.release(record=lab.record(force=True)).run()
    assert result["outcome"] == "rolled_back"
    assert [(step["index"], step["result"]) for step in result["steps"]] == [(0, "completed")]
    assert result["steps"][0]["actual_weight"] == 33


def hurry(lab: Lab, status: dict[str, Any]) -> None:
    """As the verbs of Argo Rollouts do it."""
    lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"status": status})


def test_a_full_promotion_by_hand_is_named() -> None:
    lab = Lab()
    lab.after(8, lambda: hurry(lab, {"promoteFull": True}))
    result = lab.release(record=lab.record()).run()
    skipped = "step 2 (analysis) skipped, step 3 (setWeight) skipped, step 4 (analysis) skipped"
    assert (result["outcome"], result["reason"][:9]) == ("promoted", "by hand: ")
    assert skipped in result["reason"]
    assert f"promoted by hand: {result['reason'][9:]}" in [entry["text"] for entry in result["timeline"]]
    assert [step["by_hand"] for step in result["steps"]] == [False, True, True, True, True]


def test_a_pause_that_somebody_ended_is_named_and_ours_are_not() -> None:
    lab = Lab(PAUSES)
    lab.after(8, lambda: hurry(lab, {"pauseConditions": None}))
    assert lab.release().run()["reason"] == "by hand: step 2 (pause) ended"
    for ours in (Lab(PAUSES).release(gate=True), Lab().release(promote_full=True)):
        result = ours.run()
        assert (result["reason"], any(step["by_hand"] for step in result["steps"])) == ("", False)


def test_what_was_promoted_by_hand_is_known_to_the_next_run() -> None:
    lab = Lab([*PAUSES[:3], ANALYSIS])
    lab.after(8, lambda: hurry(lab, {"pauseConditions": None}))
    killed_after(lab, "canary_step", 2)
    assert lab.release(record=lab.record(force=True)).run()["reason"] == "by hand: step 2 (pause) ended"
