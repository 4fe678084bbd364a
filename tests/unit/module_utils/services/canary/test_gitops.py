# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases of what Git has changed, our limit inside the controller's analyses, and what is left to somebody."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import ANALYSIS_TEMPLATE, ROLLOUT
from ansible_collections.lumen.airgap.plugins.module_utils.engines.argo.ownership import (
    INSTANCE_LABEL,
    TRACKING,
)
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.canary.rollout import RolloutDriver
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_record import Record
from ansible_collections.lumen.airgap.plugins.module_utils.services.rollout import Request, Rollouts
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
from ansible_collections.lumen.airgap.tests.unit.fakes.rollouts import NAME, NAMESPACE
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream


def under_git(lab: Lab) -> Lab:
    """Argo CD keeps the Rollout, and Git has brought `NEW` a moment ago."""
    tracked = {TRACKING: f"lumen-app:argoproj.io/Rollout:{NAMESPACE}/{NAME}"}
    lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"metadata": {"annotations": tracked}})
    bump(lab)
    return lab


def spec_of(lab: Lab) -> Any:
    return lab.session.get(ROLLOUT, NAME, NAMESPACE)["spec"]


def guarded(lab: Lab, limit: int, argo: int = 3, **options: Any) -> dict[str, Any]:
    lab.controller.failure_limit = argo
    driver = RolloutDriver(lab.session, NAMESPACE, NAME, failures_in_a_row=limit)  # type: ignore[arg-type]
    return lab.release(driver=driver, **options).run()


def verb(lab: Lab, name: str) -> None:
    Rollouts(lab.session, NAMESPACE, [NAME], lab.clock, FakeStream()).act(Request(name), 60.0)  # type: ignore[arg-type]


# -- Git -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["", NEW])
def test_what_git_has_brought_is_adopted(image: str) -> None:
    lab = under_git(Lab(PAUSES))
    before = spec_of(lab)
    result = lab.release(image, gate=True).run()
    assert (result["outcome"], result["advice"], result["image"]) == ("promoted", "", NEW)
    assert spec_of(lab) == before
    assert any("following the change to registry/api:v1.1.0" in line for line in lab.out.lines)


def test_a_rollout_that_is_tracked_by_its_label_is_changed_in_git() -> None:
    lab = Lab()
    written = {"managedFields": [{"manager": "argocd-controller", "operation": "Apply"}]}
    lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"metadata": {"labels": {INSTANCE_LABEL: "lumen-app"}, **written}})
    before = spec_of(lab)
    with pytest.raises(AirgapError, match="The Argo CD Application lumen-app keeps"):
        lab.release().run()
    assert spec_of(lab) == before


def test_a_rollout_that_a_controller_has_made_is_refused() -> None:
    lab = Lab()
    owner = {"kind": "Shop", "name": "corner", "uid": "1", "controller": True}
    lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"metadata": {"ownerReferences": [owner]}})
    with pytest.raises(AirgapError, match="belongs to Shop corner"):
        lab.release().run()


@pytest.mark.parametrize("image", ["", NEW])
def test_the_spec_is_never_touched_and_git_has_to_go_back(image: str) -> None:
    lab = under_git(Lab(answers=["Successful", "Failed"]))
    before = spec_of(lab)
    result = lab.release(image).run()
    assert (result["outcome"], result["verified"]["hash"]) == ("rolled_back", "hv100")
    assert spec_of(lab) == before
    assert result["advice"] == (
        f"Git still has {NEW} (Application lumen-app): revert the commit that brought it. Nothing else may touch the "
        "Rollout's spec before, for that starts the aborted version again"
    )
    assert result["msg"].endswith(result["advice"])
    assert all("spec" not in body for body in lab.session.bodies if isinstance(body, dict))
    assert not any(isinstance(body, list) for body in lab.session.bodies)


def test_git_goes_back_meanwhile() -> None:
    lab = under_git(Lab(answers=["Successful", "Failed"]))
    lab.after(7, lambda: bump(lab, OLD))

    class Slow(RolloutDriver):
        """Takes its time to look whether stable is back."""

        def verify(self, *args: Any, **kwargs: Any) -> Any:
            lab.clock.sleep(10)
            return super().verify(*args, **kwargs)

    result = lab.release("", driver=Slow(lab.session, NAMESPACE, NAME)).run()  # type: ignore[arg-type]
    assert (result["outcome"], result["advice"]) == ("rolled_back", "")


def test_without_git_the_template_is_somebody_elses_to_put_back() -> None:
    lab = Lab(answers=["Successful", "Failed"])
    bump(lab)
    result = lab.release("").run()
    assert result["advice"].startswith(f"The template still has {NEW}: set it back to {OLD}")


def test_already_aborted_says_what_can_be_done() -> None:
    lab = under_git(Lab(answers=["Successful", "Failed"]))
    lab.release("").run()
    with pytest.raises(AirgapError) as caught:
        lab.release("").run()
    assert "is already aborted" in caught.value.message
    assert "Revert in Git the commit that brought it (Application lumen-app)" in caught.value.message
    assert "the verb retry of lumen.airgap.rollout" in caught.value.message


def test_another_image_than_git_has_is_refused() -> None:
    lab = under_git(Lab())
    lab.release("").run()
    with pytest.raises(AirgapError, match=r"keeps registry/api:v1\.1\.0 as it stands in Git"):
        lab.release(OTHER).run()


def test_killed_at_any_moment_and_taken_up_without_a_second_promotion() -> None:
    """Under Git, with a gate at the pause; killed at each line that is told, and run again."""
    told = 0
    while True:
        lab = under_git(Lab(PAUSES))
        if not killed_at(lab, told):
            assert told > 8
            return
        result = lab.release(NEW, gate=True, record=lab.record(force=True)).run()
        assert (result["outcome"], result["image"]) == ("promoted", NEW), told
        promotions = [body for body in lab.statuses() if "pauseConditions" in body.get("status", {})]
        assert len(promotions) == 1, told
        told += 1


@pytest.mark.parametrize("line", [0, 3, 6])
def test_a_canary_that_ended_while_nobody_looked_is_told_all_the_same(line: int) -> None:
    lab = under_git(Lab())
    record = lab.record()
    record.note("bumped", text="Git names it")
    assert killed_at(lab, line, record)
    lab.clock.sleep(600)
    result = lab.release(NEW, record=lab.record(force=True)).run()
    assert (result["outcome"], result["image"]) == ("promoted", NEW)
    assert {each["phase"] for each in result["measurements"]} == {"Successful"}
    kinds = ["setWeight", "analysis", "setWeight", "analysis", "setWeight"]
    assert [step["kind"] for step in result["steps"]] == kinds


def test_a_canary_that_was_aborted_before_anybody_looked_is_taken_back() -> None:
    lab = under_git(Lab(answers=["Failed"] * 9))
    record = lab.record()
    record.note("bumped", text="Git names it")
    bump(lab)
    lab.clock.sleep(600)
    assert lab.session.get(ROLLOUT, NAME, NAMESPACE)["status"]["abort"] is True
    result = lab.release(NEW, record=record).run()
    assert result["outcome"] == "rolled_back"
    assert "assessed Failed" in result["reason"]
    # Who has bumped it takes it back next, and nobody is sent to do so.
    assert result["advice"] == ""
    assert any("it is taken back there next" in line for line in lab.out.lines)


def killed_at(lab: Lab, line: int, record: Record | None = None) -> bool:
    """Run until the line with this number is told; whether it came to that."""
    release = lab.release(NEW, gate=True, record=record or lab.record())
    real = lab.out.line

    def tell(text: str) -> None:
        if len(lab.out.lines) >= line:
            raise Killed
        real(text)

    lab.out.line = tell  # type: ignore[method-assign]
    try:
        release.run()
    except Killed:
        return True
    return False


# -- our limit inside the controller's analysis ----------------------------------------------------------------------

THREE = ["Failed", "Failed", "Failed"]


def test_three_in_a_row_abort_at_the_third() -> None:
    lab = Lab(answers=THREE)
    result = guarded(lab, 3)
    assert result["outcome"] == "rolled_back"
    assert result["reason"] == (
        'Metric "success-rate" of api-hv110-2-1 assessed Failed due to consecutiveFailures (3) >= '
        "consecutive_failure_limit (3) (ours)"
    )
    assert len(result["measurements"]) == 3
    assert lab.image() == OLD


def test_at_once_and_not_when_the_run_ends() -> None:
    lab = Lab(answers=THREE)
    result = guarded(lab, 2)
    assert [each["phase"] for each in result["measurements"]] == ["Failed", "Failed"]
    assert "consecutiveFailures (2)" in result["reason"]
    failed = next(line for line in lab.out.lines if "failed: Metric" in line)
    measured = next(line for line in lab.out.lines if "check 2/3" in line)
    assert failed[:5] == measured[:5]


@pytest.mark.parametrize("answers", [["Failed", "Failed", "Successful"], ["Failed", "Successful", "Failed"]])
def test_a_row_that_is_broken_is_none(answers: list[str]) -> None:
    assert guarded(Lab(answers=answers), 3)["outcome"] == "promoted"


def test_a_row_does_not_go_on_in_the_next_run() -> None:
    answers = ["Successful", "Failed", "Failed", "Failed", "Successful", "Successful"]
    assert guarded(Lab(answers=answers), 3)["outcome"] == "promoted"


def test_without_the_limit_argo_alone_decides() -> None:
    assert guarded(Lab(answers=THREE), 0)["outcome"] == "promoted"


def test_killed_before_the_third_and_taken_up() -> None:
    lab = Lab(answers=THREE)
    lab.controller.failure_limit = 3
    driver = RolloutDriver(lab.session, NAMESPACE, NAME, failures_in_a_row=3)  # type: ignore[arg-type]
    release = lab.release(driver=driver, record=lab.record())
    real = lab.out.line

    def tell(text: str) -> None:
        real(text)
        if "check 2/3" in text:
            raise Killed

    lab.out.line = tell  # type: ignore[method-assign]
    with pytest.raises(Killed):
        release.run()
    result = guarded(lab, 3, record=lab.record(force=True))
    assert (result["outcome"], "consecutiveFailures (3)" in result["reason"]) == ("rolled_back", True)


# -- inconclusive ----------------------------------------------------------------------------------------------------


def test_inconclusive_is_bad_by_default() -> None:
    lab = Lab(answers=["Inconclusive"])
    result = lab.release().run()
    assert (result["outcome"], result["reason"]) == ("rolled_back", "the analysis was inconclusive")


def test_inconclusive_waits_for_somebody_to_promote() -> None:
    lab = Lab(answers=["Inconclusive"])
    lab.after(40, lambda: verb(lab, "promote"))
    result = lab.release(on_inconclusive="pause", step_deadline=60.0).run()
    assert result["outcome"] == "promoted"
    assert any("the analysis was inconclusive: waits 60 s for somebody" in line for line in lab.out.lines)
    assert [step["result"] for step in result["steps"]][1] == "Inconclusive"


def test_inconclusive_waits_for_somebody_to_abort() -> None:
    lab = Lab(answers=["Inconclusive"])
    lab.after(40, lambda: verb(lab, "abort"))
    result = lab.release(on_inconclusive="pause", step_deadline=60.0).run()
    assert (result["outcome"], result["reason"]) == ("rolled_back", "somebody has aborted it")


def test_inconclusive_has_the_steps_deadline() -> None:
    lab = Lab(answers=["Inconclusive"])
    result = lab.release(on_inconclusive="pause", step_deadline=60.0).run()
    assert result["outcome"] == "rolled_back"
    assert "took longer than 60 s; last seen: Paused InconclusiveAnalysisRun" in result["reason"]
    waited = [line[:5] for line in lab.out.lines if "inconclusive: waits" in line or "failed: step" in line]
    assert minutes(waited[1]) - minutes(waited[0]) >= 60


def minutes(stamp: str) -> int:
    return int(stamp[:2]) * 60 + int(stamp[3:])


def undecided() -> Lab:
    """Our gate at a pause measures what is neither good nor bad."""
    lab = Lab(PAUSES)
    both = {**METRIC, "failureCondition": "result[0] < 0.5"}
    lab.session.edit(ANALYSIS_TEMPLATE, "success-rate", NAMESPACE, {"spec": {"metrics": [both]}})
    lab.value = lambda: [0.7]
    return lab


def test_our_gate_can_be_inconclusive_too() -> None:
    assert undecided().release(gate=True).run()["reason"].startswith("gate at step 2: Inconclusive")
    lab = undecided()
    lab.after(60, lambda: verb(lab, "promote"))
    result = lab.release(gate=True, on_inconclusive="pause").run()
    assert (result["outcome"], len(lab.queries)) == ("promoted", 1)
    assert any("the gate was inconclusive: waits 900 s" in line for line in lab.out.lines)


def test_a_gate_that_was_inconclusive_is_not_run_again_by_who_takes_up() -> None:
    lab = undecided()
    release = lab.release(gate=True, on_inconclusive="pause", record=lab.record())
    real = lab.out.line

    def tell(text: str) -> None:
        real(text)
        if "the gate was inconclusive" in text:
            raise Killed

    lab.out.line = tell  # type: ignore[method-assign]
    with pytest.raises(Killed):
        release.run()
    lab.after(60, lambda: verb(lab, "promote"))
    result = lab.release(gate=True, on_inconclusive="pause", record=lab.record(force=True)).run()
    assert (result["outcome"], len(lab.queries)) == ("promoted", 1)


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"setWeight": 80}, {"setWeight": 20}], r"steps\[1\].setWeight: setWeight goes down from 80 to 20"),
        ([{"setWeight": 120}], r"steps\[0\].setWeight: setWeight is 120; it must be a whole number from 0 to 100"),
        ([{"setWeight": 20}, {"analysis": {"templates": []}}], "an analysis without templates measures nothing"),
        ([{"setWeight": 20}, {"analysis": {}}], "an analysis without templates measures nothing"),
    ],
)
def test_steps_that_cannot_be_released_with(steps: list[dict[str, Any]], said: str) -> None:
    lab = Lab(steps)
    with pytest.raises(AirgapError, match=said):
        lab.release().run()
    assert lab.image() == OLD


def test_blue_green_is_refused() -> None:
    lab = Lab()
    lab.session.edit(ROLLOUT, NAME, NAMESPACE, {"spec": {"strategy": {"canary": None, "blueGreen": {}}}})
    with pytest.raises(AirgapError, match=r"has the strategy blueGreen; only spec\.strategy\.canary is supported"):
        lab.release().run()


def test_equal_weights_are_fine() -> None:
    assert Lab([{"setWeight": 20}, ANALYSIS, {"setWeight": 20}, *STEPS[2:]]).release().run()["outcome"] == "promoted"
