# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rollouts read, promoted and waited for, against a controller in memory and against scripted ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    ANALYSIS_RUN,
    EXPERIMENT,
    POD,
    REPLICA_SET,
    ROLLOUT,
    Kind,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import (
    Conflict,
    Forbidden,
    NotFound,
    Unreachable,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.watcher import Observation, Subscription
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.rollout import (
    Act,
    NotThere,
    Request,
    Rollouts,
    Wanted,
    _Fleet,
    statuses,
)
from ansible_collections.lumen.airgap.plugins.plugin_utils.streaming import ParentGone
from ansible_collections.lumen.airgap.tests.unit.fakes.canary_lab import NEW, OLD, PAUSES, Lab, bump
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.fakes.rollouts import NAME, NAMESPACE
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream
from ansible_collections.lumen.airgap.tests.unit.fakes.watcher import FakeWatcher

STEPS: list[dict[str, Any]] = [{"setWeight": 20}, {"analysis": {"templates": []}}, {"pause": {}}, {"setWeight": 100}]


class Site:
    """What one task sees: Rollouts of a namespace, with the controller of ``lab`` or none."""

    def __init__(self, session: FakeSession, clock: FakeClock, *names: str) -> None:
        self.session = session
        self.clock = clock
        self.out = FakeStream()
        self.watches: list[list[Subscription]] = []
        self.rollouts = Rollouts(session, NAMESPACE, names or [NAME], clock, self.out)  # type: ignore[arg-type]

    def act(self, verb: str, dry_run: bool = False, seconds: float = 60.0, **more: Any) -> list[Act]:
        return self.rollouts.act(Request(verb, **more), seconds, dry_run)

    def wait(self, *ends: str, seconds: float = 300.0, **more: Any) -> None:
        self.rollouts.wait(Wanted(frozenset(ends), **more), seconds, self._watch)

    def _watch(self, wanted: Sequence[Subscription]) -> FakeWatcher:
        self.watches.append(list(wanted))
        return FakeWatcher(self.session, wanted, self.clock)


def site(lab: Lab) -> Site:
    return Site(lab.session, lab.clock)


def paused(lab: Lab) -> Site:
    """At the indefinite pause of `PAUSES`."""
    bump(lab)
    found = site(lab)
    found.wait("Paused")
    return found


def status(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = lab.session.get(ROLLOUT, NAME, NAMESPACE)["status"]
    return found


def scripted(name: str, index: int = 2, **more: Any) -> dict[str, Any]:
    """A Rollout that no controller looks at; by default at the pause of `STEPS`."""
    known = {"observedGeneration": "1", "currentPodHash": "new", "stableRS": "old", "currentStepIndex": index}
    waiting = {"phase": "Paused", "controllerPause": True, "pauseConditions": [{"reason": "CanaryPauseStep"}]}
    return {
        "apiVersion": ROLLOUT.api_version,
        "kind": ROLLOUT.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"strategy": {"canary": {"steps": STEPS}}, "template": {"spec": {"containers": [{"image": NEW}]}}},
        "status": {**known, **waiting, **more},
    }


# -- verbs -----------------------------------------------------------------------------------------------------------


def test_promoted_once_however_often_it_is_asked_for() -> None:
    lab = Lab(PAUSES)
    here = paused(lab)
    [first] = here.act("promote", at_step=1)
    [second] = here.act("promote", at_step=1)
    assert (first.changed, second.changed) == (True, False)
    assert first.before == {"status": {"pauseConditions": status_before(first)}}
    assert first.after == {"status": {"pauseConditions": None}}
    here.wait("promoted")
    [third] = here.act("promote")
    assert (third.changed, third.patch.text) == (False, "nothing to promote: hv110 is stable")


def test_a_verb_that_the_controller_has_lost_on_its_cache_is_done_all_the_same() -> None:
    lab = Lab(PAUSES)
    here = paused(lab)
    lab.controller.lose_next_verb()
    assert here.act("promote")[0].changed is True
    assert here.out.lines[-2:] == ["ends the pause at step 2/4 pause", "the controller was silent: nudged"]
    spec = here.session.get(ROLLOUT, NAME, NAMESPACE)["spec"]
    here.wait("promoted", seconds=60)
    assert here.session.get(ROLLOUT, NAME, NAMESPACE)["spec"] == spec


def test_a_controller_that_is_away_is_nudged_a_few_times_and_not_waited_for() -> None:
    here = Site(FakeSession(scripted(NAME)), FakeClock())
    first, second = here.act("promote") + here.act("promote")
    assert (first.changed, second.changed) == (True, False)
    assert second.patch.text == "it has been promoted already, and the controller has not reacted yet"
    assert here.clock.monotonic() < 10
    assert [line for line in here.out.lines if "nudged" in line] == ["the controller was silent: nudged"] * 3


def test_who_may_not_nudge_has_done_the_verb() -> None:
    here = Site(FakeSession(scripted(NAME)), FakeClock())
    patch = here.session.patch

    def refuse(*args: Any, **more: Any) -> dict[str, Any]:
        if more.get("subresource") != "status":
            raise Forbidden("not yours", status=403)
        return patch(*args, **more)

    here.session.patch = refuse  # type: ignore[method-assign]
    assert here.act("abort")[0].changed is True
    assert here.out.lines == ["aborts new"]


def status_before(act: Act) -> Any:
    assert act.before["status"]["pauseConditions"][0]["reason"] == "CanaryPauseStep"
    return act.before["status"]["pauseConditions"]


def test_aborted_and_retried() -> None:
    lab = Lab(PAUSES)
    here = paused(lab)
    assert [act.changed for act in here.act("abort") + here.act("abort")] == [True, False]
    here.wait("aborted")
    assert status(lab)["phase"] == "Degraded"
    assert here.act("abort")[0].changed is False
    with pytest.raises(AirgapError, match="Rollout lumen/api: it is aborted, and cannot be promoted: retry it"):
        here.act("promote")


def test_check_mode_reads_alone() -> None:
    lab = Lab(PAUSES)
    here = paused(lab)
    before = len(lab.session.bodies)
    [act] = here.act("promote", dry_run=True)
    assert (act.changed, act.patch.text) == (True, "ends the pause at step 2/4 pause")
    assert len(lab.session.bodies) == before


def test_what_an_analysis_is_skipped_by_is_said() -> None:
    run = {"currentStepAnalysisRunStatus": {"name": "api-new-2-1", "status": "Running"}}
    plain = {"phase": "Progressing", "pauseConditions": None, "controllerPause": None}
    here = Site(FakeSession(scripted(NAME, 1, canary=run, **plain)), FakeClock())
    [act] = here.act("promote")
    assert act.as_dict()["skipped_steps"] == [{"index": 1, "kind": "analysis", "run": "api-new-2-1"}]
    assert here.out.lines[0] == "skips step 2/4 analysis"
    body = here.session.bodies[0]
    assert body["status"] == {"pauseConditions": None, "currentStepIndex": 2}
    assert body["metadata"]["resourceVersion"]


def test_refused_for_one_and_done_to_none() -> None:
    aborted = {"abort": True, "phase": "Degraded", "pauseConditions": None, "controllerPause": None}
    here = Site(FakeSession(scripted("a"), scripted("b", 0, **aborted)), FakeClock(), "a", "b")
    with pytest.raises(AirgapError, match="Rollout lumen/b: it is aborted"):
        here.act("promote")
    assert here.session.bodies == []
    with pytest.raises(AirgapError, match="Rollout lumen/c does not exist"):
        Site(here.session, here.clock, "a", "c").act("promote")


def test_read_again_when_somebody_was_faster() -> None:
    here = Site(FakeSession(scripted(NAME)), FakeClock())
    here.session.fail_next("patch", Conflict("modified", status=409))
    assert here.act("promote")[0].changed is True
    here = Site(FakeSession(scripted(NAME)), FakeClock())
    here.session.fail_next("patch", Conflict("modified", status=409), times=5)
    with pytest.raises(AirgapError, match="changes all the time; promote was not done"):
        here.act("promote")


def test_somebody_promotes_first() -> None:
    here = Site(FakeSession(scripted(NAME)), FakeClock())

    class Late(Conflict):
        """By the time it is refused, the pause is over."""

        def __init__(self) -> None:
            super().__init__("modified", status=409)

    here.session.fail_next("patch", Late())
    here.session.edit(ROLLOUT, NAME, NAMESPACE, {"status": {"pauseConditions": None}})
    assert here.act("promote")[0].changed is False


def test_written_or_not_before_the_api_server_went_away() -> None:
    """A promotion that was perhaps written is not written a second time."""
    here = Site(FakeSession(scripted(NAME)), FakeClock())
    real = here.session.patch

    def lost(*args: Any, **kwargs: Any) -> Any:
        here.session.patch = real  # type: ignore[method-assign]
        real(*args, **kwargs)
        raise Unreachable("no answer")

    here.session.patch = lost  # type: ignore[method-assign]
    [act] = here.act("promote")
    assert act.changed is True
    assert len(here.session.bodies) == 1


def test_not_written_before_the_api_server_went_away() -> None:
    here = Site(FakeSession(scripted(NAME)), FakeClock())
    here.session.fail_next("get", Unreachable("no answer"), times=2)
    here.session.fail_next("patch", Unreachable("no answer"), times=3)
    assert here.act("promote")[0].changed is True
    assert here.session.get(ROLLOUT, NAME, NAMESPACE)["status"].get("pauseConditions") is None
    here = Site(FakeSession(scripted(NAME)), FakeClock())
    here.session.fail_next("patch", Unreachable("no answer"), times=99)
    with pytest.raises(Unreachable):
        here.act("promote", seconds=5.0)


@pytest.mark.parametrize(("verb", "field"), [("abort", "abort"), ("promote_full", "promoteFull")])
def test_lost_while_the_steps_go_on(verb: str, field: str) -> None:
    """What can be done twice is done again, wherever the Rollout has come to meanwhile."""
    here = Site(FakeSession(scripted(NAME)), FakeClock())
    goes_on = {"currentStepIndex": 3, "phase": "Progressing", "pauseConditions": None, "controllerPause": None}
    here.clock.at(0.5, lambda: here.session.edit(ROLLOUT, NAME, NAMESPACE, {"status": goes_on}))
    here.session.fail_next("patch", Unreachable("no answer"))
    assert here.act(verb)[0].changed is True
    assert here.session.get(ROLLOUT, NAME, NAMESPACE)["status"].get(field) is True


def test_without_a_status_subresource_as_the_plugin_does() -> None:
    here = Site(FakeSession(scripted(NAME)), FakeClock())
    here.session.edit(ROLLOUT, NAME, NAMESPACE, {"spec": {"paused": True}, "status": {"observedGeneration": "2"}})
    here.session.fail_next("patch", NotFound("no such subresource", status=404))
    assert here.act("promote")[0].changed is True
    body = {key: value for key, value in here.session.bodies[1].items() if key != "metadata"}
    assert body == {"spec": {"paused": False}, "status": {"pauseConditions": None}}


def test_a_pause_by_hand_ends_too() -> None:
    here = Site(FakeSession(scripted(NAME)), FakeClock())
    here.session.edit(ROLLOUT, NAME, NAMESPACE, {"spec": {"paused": True}, "status": {"observedGeneration": "2"}})
    here.act("promote")
    assert here.session.get(ROLLOUT, NAME, NAMESPACE)["spec"]["paused"] is False


def test_restarted() -> None:
    at = {"restart_at": "2026-01-01T00:00:00Z"}
    here = Site(FakeSession(scripted(NAME)), FakeClock())
    assert here.act("restart", **at)[0].changed is True
    assert here.session.get(ROLLOUT, NAME, NAMESPACE)["spec"]["restartAt"] == at["restart_at"]
    here.session.edit(ROLLOUT, NAME, NAMESPACE, {"status": {"observedGeneration": "2"}})
    assert here.act("restart", **at)[0].changed is False


def test_a_verb_waits_until_the_controller_has_looked() -> None:
    lab = Lab(PAUSES)
    bump(lab)
    here = site(lab)
    assert here.act("abort")[0].patch.text == "aborts hv110"
    assert here.out.lines[0] == "waiting for the controller to look at generation 2"
    lab = Lab(PAUSES)
    lab.controller.running = False
    bump(lab)
    with pytest.raises(AirgapError, match=r"has not looked at generation 2 for 60 s\. Is Argo Rollouts running"):
        site(lab).act("abort")


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_a_promotion_is_followed_to_its_end() -> None:
    lab = Lab()
    bump(lab)
    here = site(lab)
    here.wait("promoted")
    assert status(lab)["stableRS"] == "hv110"
    assert "step 2/5 analysis success-rate" in here.out.lines
    assert sum("check" in line for line in here.out.lines) == 6
    assert here.out.lines[-2:] == ["promoted: hv110 is stable", "is Healthy"]


def test_not_healthy_before_the_controller_has_observed_the_change() -> None:
    lab = Lab()
    bump(lab)
    assert status(lab)["phase"] == "Healthy"
    started = lab.clock.time()
    site(lab).wait("Healthy")
    assert lab.clock.time() > started + 10
    assert status(lab)["stableRS"] == "hv110"


def test_not_paused_any_more_right_after_a_promotion() -> None:
    lab = Lab([{"setWeight": 20}, {"pause": {}}, {"setWeight": 60}, {"pause": {}}])
    here = paused(lab)
    here.act("promote")
    here.wait("Paused")
    assert status(lab)["currentStepIndex"] == 3


def test_not_degraded_any_more_right_after_a_retry() -> None:
    waiting = {"pauseConditions": None, "controllerPause": None}
    degraded = {"phase": "Degraded", "message": "RolloutAborted: so", "abort": True, **waiting}
    here = Site(FakeSession(scripted(NAME, 0, **degraded)), FakeClock())
    here.act("retry")
    fails = {"status": {"phase": "Degraded", "message": "ProgressDeadlineExceeded: late"}}
    here.clock.at(7, lambda: here.session.edit(ROLLOUT, NAME, NAMESPACE, fails))
    here.wait("Degraded")
    assert here.clock.monotonic() == 7


def test_a_step() -> None:
    lab = Lab()
    bump(lab)
    site(lab).wait(step=2)
    assert status(lab)["currentStepIndex"] >= 2
    assert status(lab)["stableRS"] == "hv100"


def test_an_image_that_git_has_not_brought_yet() -> None:
    lab = Lab()
    lab.after(20, lambda: bump(lab))
    site(lab).wait("promoted", image=NEW)
    assert lab.image() == NEW
    with pytest.raises(NotThere, match=f"is not promoted with {OLD} after 5 s"):
        site(lab).wait("promoted", image=OLD, seconds=5.0)


def test_what_is_aborted_meanwhile_is_not_waited_for() -> None:
    lab = Lab(answers=["Failed"])
    bump(lab)
    with pytest.raises(NotThere) as caught:
        site(lab).wait("Healthy")
    assert "Rollout lumen/api is not Healthy and will not become so, for it was aborted; last seen: Degraded" in str(
        caught.value
    )
    assert lab.clock.monotonic() < 60


def test_a_revert_of_what_was_aborted_is_waited_for() -> None:
    lab = Lab(answers=["Failed"])
    bump(lab)
    here = site(lab)
    here.wait("aborted")
    lab.after(30, lambda: bump(lab, OLD))
    here.wait("Healthy")
    assert status(lab)["stableRS"] == "hv100"


def test_the_deadline_says_what_was_seen_last() -> None:
    lab = Lab(PAUSES)
    bump(lab)
    with pytest.raises(NotThere) as caught:
        site(lab).wait("Healthy", "Degraded", seconds=30.0)
    assert caught.value.message == (
        "Rollout lumen/api is not Healthy or Degraded after 30 s; last seen: Paused CanaryPauseStep; "
        "1 updated of 3 pods, 3 available"
    )
    assert caught.value.details == {"waiting": ["api"]}


def test_pods_that_cannot_start_are_named_at_the_deadline() -> None:
    lab = Lab()
    lab.controller.broken[NEW] = "ErrImagePull: not found"
    bump(lab)
    with pytest.raises(NotThere, match=r"is not Healthy after 30 s; .*; pod api-hv110-0, container api: ErrImag"):
        site(lab).wait("Healthy", seconds=30.0)


def test_deleted_meanwhile() -> None:
    lab = Lab(PAUSES)
    bump(lab)
    lab.after(5, lambda: lab.session.remove(ROLLOUT, NAME, NAMESPACE))
    with pytest.raises(NotThere, match="Rollout lumen/api was deleted while it was waited for"):
        site(lab).wait("Healthy")


def test_an_api_server_that_is_away_for_a_minute() -> None:
    lab = Lab()
    bump(lab)
    here = site(lab)
    watchers: list[FakeWatcher] = []

    class Away(FakeWatcher):
        """Silent from the 3rd to the 63rd second; what happened meanwhile comes afterwards."""

        def next(self, timeout: float) -> Any:
            if 3 <= lab.clock.monotonic() < 63:
                lab.clock.sleep(timeout)
                return None
            return super().next(timeout)

    def watch(wanted: Sequence[Subscription]) -> FakeWatcher:
        watchers.append(Away(lab.session, wanted, lab.clock))
        watchers[0].say("LOST", "no answer")
        lab.after(64, lambda: watchers[0].say("BACK", "answers again"))
        return watchers[0]

    here.rollouts.wait(Wanted(frozenset({"promoted"})), 300.0, watch)
    assert lab.clock.monotonic() >= 63
    assert here.out.lines[0] == "the API server does not answer: no answer"
    assert sum("check" in line for line in here.out.lines) == 6
    assert here.out.lines[-1] == "is Healthy"


def test_what_the_watch_has_missed_is_looked_at_before_the_deadline_speaks() -> None:
    lab = Lab()
    bump(lab)
    here = site(lab)

    class Deaf(FakeWatcher):
        """Hangs after the first objects."""

        def next(self, timeout: float) -> Any:
            if lab.clock.monotonic() > 1:
                lab.clock.sleep(timeout)
                return None
            return super().next(timeout)

    here.rollouts.wait(Wanted(frozenset({"promoted"})), 60.0, lambda wanted: Deaf(lab.session, wanted, lab.clock))
    assert lab.clock.monotonic() == pytest.approx(60, abs=2)


def test_nobody_listens_any_more() -> None:
    lab = Lab(PAUSES)
    bump(lab)
    here = site(lab)
    lab.after(5, here.out.die)
    with pytest.raises(ParentGone):
        here.wait("Healthy")


def fleet(count: int) -> tuple[Site, list[str]]:
    names = [f"app-{number}" for number in range(count)]
    running = {"phase": "Progressing", "pauseConditions": None, "controllerPause": None}
    session, clock = FakeSession(*(scripted(name, 0, **running) for name in names)), FakeClock()
    return Site(session, clock, *names), names


def healthy(here: Site, name: str) -> None:
    ended = {"status": {"phase": "Healthy", "stableRS": "new", "currentStepIndex": 4}}
    here.session.edit(ROLLOUT, name, NAMESPACE, ended)


def run_of(name: str, number: int) -> dict[str, Any]:
    measured = [{"phase": "Successful", "value": "[1]", "finishedAt": f"2026-01-01T00:00:0{n}Z"} for n in range(number)]
    return {
        "apiVersion": ANALYSIS_RUN.api_version,
        "kind": ANALYSIS_RUN.kind,
        "metadata": {
            "name": f"{name}-run",
            "namespace": NAMESPACE,
            "labels": {"rollouts-pod-template-hash": "new"},
            "annotations": {},
            "ownerReferences": [{"kind": "Rollout", "name": name}],
        },
        "spec": {"metrics": [{"name": "m", "count": 3}]},
        "status": {"metricResults": [{"name": "m", "count": number, "measurements": measured}]},
    }


def test_fifty_over_one_shared_watch_without_losing_an_event() -> None:
    here, names = fleet(50)

    def advance(name: str, index: int) -> None:
        here.session.edit(ROLLOUT, name, NAMESPACE, {"status": {"currentStepIndex": index}})
        here.session.put(run_of(name, index))

    for position, name in enumerate(names):
        for index in (1, 2, 3):
            here.clock.at(index * 2 + position * 0.01, partial(advance, name, index))
        here.clock.at(9 + position * 0.01, partial(healthy, here, name))
    here.wait("promoted")
    assert [[each.kind.kind for each in watch] for watch in here.watches] == [
        ["Rollout", "AnalysisRun", "ReplicaSet", "Pod"]
    ]
    for name in names:
        mine = [line.partition("] ")[2] for line in here.out.lines if line.startswith(f"[{name}] ")]
        assert [line for line in mine if line.startswith("step ")] == [
            "step 1/4 setWeight 20",
            "step 2/4 analysis",
            "step 3/4 pause",
            "step 4/4 setWeight 100",
        ]
        assert [line for line in mine if "check" in line] == [f"  check {n}/3 m 1 ✔" for n in (1, 2, 3)]
        assert mine[-2:] == ["promoted: new is stable", "is Healthy"]


def pod_of(owner: str, number: int) -> dict[str, Any]:
    owners = [{"kind": "ReplicaSet", "name": owner}] if owner else []
    return {"metadata": {"uid": f"{owner}-pod", "resourceVersion": str(number), "ownerReferences": owners}}


def test_of_pods_that_belong_to_nobody_yet_the_newest_alone_are_kept() -> None:
    fleet = _Fleet([NAME], Wanted(), lambda _name, _text: None)

    def see(kind: Kind, obj: dict[str, Any], event: str = "MODIFIED") -> None:
        fleet.see(Observation(kind, event, obj, 0.0))

    for number in range(1, 10):
        see(POD, pod_of("theirs", number))
        see(POD, pod_of("gone", number))
        see(POD, pod_of("", number))
    assert [len(pods) for pods in fleet._homeless.values()] == [1, 1]
    see(POD, pod_of("gone", 10), "DELETED")
    see(REPLICA_SET, {"metadata": {"name": "theirs", "ownerReferences": [{"kind": "Deployment", "name": NAME}]}})
    see(POD, pod_of("theirs", 10))
    assert not any(fleet._homeless.values())


def test_all_that_the_watch_has_missed_is_looked_at() -> None:
    here, names = fleet(4)

    class Deaf(FakeWatcher):
        """Delivers nothing."""

        def next(self, timeout: float) -> Any:
            here.clock.sleep(timeout)

    for name in names:
        here.clock.at(3, partial(healthy, here, name))
    here.rollouts.wait(Wanted(frozenset({"promoted"})), 20.0, lambda wanted: Deaf(here.session, wanted, here.clock))
    assert [line for line in here.out.lines if line.endswith("is Healthy")] == [
        f"[{name}] is Healthy" for name in names
    ]


def test_one_of_many_is_late() -> None:
    here, names = fleet(3)
    for name in names[:2]:
        here.clock.at(3, partial(healthy, here, name))
    with pytest.raises(NotThere) as caught:
        here.wait("Healthy", seconds=20.0)
    assert caught.value.details == {"waiting": ["app-2"]}
    assert caught.value.message.startswith("Rollout lumen/app-2 is not Healthy after 20 s")


# -- status ------------------------------------------------------------------------------------------------------------


def test_the_status_with_its_tree() -> None:
    lab = Lab(PAUSES)
    paused(lab)
    [found] = statuses(lab.session, NAMESPACE, [NAME], lab.clock.time())  # type: ignore[arg-type]
    assert (found["phase"], found["step"], found["set_weight"]) == ("Paused", {"index": 1, "count": 4}, 20)
    assert found["tree"].startswith(
        f"Name:            {NAME}\nNamespace:       {NAMESPACE}\nStatus:          ॥ Paused\n"
    )


def test_all_of_a_namespace_and_those_that_are_not_there() -> None:
    here, names = fleet(3)
    session: Any = here.session
    assert [each["name"] for each in statuses(session, NAMESPACE, [], 0.0)] == names
    assert [each["name"] for each in statuses(session, NAMESPACE, ["app-2", "app-9", "app-0"], 0.0)] == [
        "app-2",
        "app-0",
    ]
    assert statuses(session, NAMESPACE, ["app-9"], 0.0) == []


@pytest.mark.parametrize("known", [True, False])
def test_experiments_that_cannot_be_listed(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    lab = Lab()
    real = lab.session.list

    def refused(kind: Any, *args: Any) -> Any:
        if kind == EXPERIMENT:
            raise Forbidden("not allowed", status=403)
        return real(kind, *args)

    if known:
        monkeypatch.setattr(lab.session, "list", refused)
    else:
        lab.session.unknown_kinds.add(EXPERIMENT)
    assert statuses(lab.session, NAMESPACE, [NAME], 0.0)[0]["experiments"] == []  # type: ignore[arg-type]
