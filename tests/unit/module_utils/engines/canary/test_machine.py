# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a canary executed, over random faults, and that they end within their limits."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.machine import (
    BACKGROUND,
    Action,
    Course,
    Place,
    Pods,
    Verdict,
    decide,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.replicas import Counts, Scale, fenceposts
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.steps import read_steps

ANALYSIS: dict[str, Any] = {"analysis": {"templates": [{"templateName": "success-rate"}]}}
SEED: list[dict[str, Any]] = [{"setWeight": 20}, ANALYSIS, {"setWeight": 80}, ANALYSIS, {"setWeight": 100}]
GOOD = Verdict("Successful")


def course(steps: list[dict[str, Any]], replicas: int = 4, surge: Any = "25%", unavailable: Any = "25%") -> Course:
    return Course(read_steps({"steps": steps}), replicas, surge, unavailable)


def pods(canary: int, stable: int, moved: bool = False) -> Pods:
    return Pods(Scale(canary, canary), Scale(stable, stable), moved)


def test_a_weight_grows_the_canary_first_and_is_over_when_its_pods_are_available() -> None:
    steps = course([{"setWeight": 20}])
    assert decide(steps, Place(), pods(0, 4), 0.0) == Action("scale", Counts(1, 4))
    assert decide(steps, Place(), Pods(Scale(1, 0), Scale(4, 4)), 0.0).kind == "wait"
    assert decide(steps, Place(), pods(1, 4), 0.0) == Action("advance")


def test_nothing_is_decided_while_the_last_change_is_on_its_way() -> None:
    looking = replace(pods(0, 4), settled=False)
    assert decide(course(SEED), Place(), looking, 0.0).kind == "wait"


def test_a_pause_is_over_after_its_duration_and_without_one_when_somebody_says_so() -> None:
    timed, open_ended = course([{"pause": {"duration": "5s"}}]), course([{"pause": {}}])
    place = Place(since=100.0)
    assert decide(timed, place, pods(0, 4), 104.9) == Action("wait", reason="pause")
    assert decide(timed, place, pods(0, 4), 105.0) == Action("advance")
    assert decide(open_ended, place, pods(0, 4), 1e9) == Action("wait", reason="pause")


@pytest.mark.parametrize(
    ("verdict", "action"),
    [
        (None, Action("measure")),
        (GOOD, Action("advance")),
        (Verdict("Failed", "too many"), Action("abort", reason="too many")),
        (Verdict("Error", "no answer"), Action("abort", reason="no answer")),
        (Verdict("Inconclusive", "neither"), Action("wait", reason="inconclusive")),
    ],
)
def test_an_analysis_decides(verdict: Verdict | None, action: Action) -> None:
    place = Place(verdicts={} if verdict is None else {0: verdict})
    assert decide(course([ANALYSIS]), place, pods(0, 4), 0.0) == action


def test_what_is_measured_beside_the_steps_ends_them() -> None:
    place = Place(verdicts={BACKGROUND: Verdict("Failed", "too many")})
    assert decide(course(SEED), place, pods(0, 4), 0.0) == Action("abort", reason="too many")
    assert decide(course(SEED), replace(place, aborted=True), pods(0, 4), 0.0) == Action("remove")


def test_promotion_changes_the_template_while_the_stable_workload_has_no_pods() -> None:
    steps, end = course([{"setWeight": 50}]), Place(index=1)
    assert decide(steps, end, pods(2, 2), 0.0) == Action("scale", Counts(3, 1))
    assert decide(steps, end, pods(4, 0), 0.0) == Action("move")
    assert decide(steps, end, pods(4, 0, moved=True), 0.0).kind == "scale"
    assert decide(steps, end, pods(0, 4, moved=True), 0.0) == Action("remove")


def test_taking_back_after_the_template_was_changed_makes_room_and_changes_it_back() -> None:
    steps, back = course(SEED), Place(index=5, aborted=True)
    broken = Pods(Scale(4, 4), Scale(1, 0), moved=True)
    assert decide(steps, back, broken, 0.0) == Action("scale", Counts(4, 0))
    assert decide(steps, back, pods(4, 0, moved=True), 0.0) == Action("restore")
    assert decide(steps, back, pods(3, 2, moved=True), 0.0) == Action("scale", Counts(2, 2))


def test_what_somebody_else_rolls_out_is_not_waited_for_and_never_changed_back() -> None:
    steps = course(SEED)
    for back in (Place(index=1), Place(index=5, aborted=True)):
        for moved in (False, True):
            stuck = Pods(Scale(1, 1), Scale(3, 2), moved, settled=False, foreign=True)
            assert decide(steps, back, stuck, 0.0) == Action("scale", Counts(0, 4))
            assert decide(steps, back, replace(stuck, canary=Scale(0, 1), stable=Scale(4, 2)), 0.0) == Action("remove")
            scaled = replace(stuck, canary=Scale(0, 0), stable=Scale(9, 2))
            assert decide(steps, back, scaled, 0.0) == Action("remove")


def test_what_is_let_pass_in_advance_holds_up_no_other_step() -> None:
    steps, both = course([{"pause": {}}, {"setWeight": 20}, {"pause": {}}]), frozenset({1, 3})
    assert decide(steps, Place(allowed=both), pods(0, 4), 0.0) == Action("advance")
    assert decide(steps, Place(index=2, allowed=both), pods(1, 4), 0.0) == Action("advance")
    assert decide(steps, Place(allowed=frozenset({3})), pods(0, 4), 0.0) == Action("wait", reason="pause")


@dataclass
class Workload:
    """A Deployment as its controller leaves it: pods are True once they are available."""

    spec: int
    pods: list[bool] = field(default_factory=list)
    image: str = "old"
    images: list[str] = field(default_factory=list)

    def scale(self) -> Scale:
        return Scale(self.spec, sum(self.pods))

    @property
    def settled(self) -> bool:
        return len(self.pods) <= self.spec and all(image == self.image for image in self.images)


class Cluster:
    """Two workloads whose controllers act whenever chance lets them; ``unready`` images never become available."""

    def __init__(self, chance: random.Random, replicas: int, limits: tuple[Any, Any]) -> None:
        self.chance = chance
        self.replicas = replicas
        self.surge, self.unavailable = limits
        self.stable = Workload(replicas, [True] * replicas, images=["old"] * replicas)
        self.canary: Workload | None = Workload(0, image="new")
        self.unready: set[str] = set()

    def workloads(self) -> list[Workload]:
        return [each for each in (self.canary, self.stable) if each is not None]

    def look(self) -> Pods:
        canary = self.canary or Workload(0)
        return Pods(
            canary.scale(),
            self.stable.scale(),
            self.stable.image == "new",
            all(each.settled for each in self.workloads()),
        )

    def controllers(self) -> None:
        for each in self.workloads():
            if self.chance.random() < 0.7:
                self._reconcile(each)
            for number, image in enumerate(each.images):
                if image not in self.unready and self.chance.random() < 0.5:
                    each.pods[number] = True

    def _reconcile(self, each: Workload) -> None:
        old = [number for number, image in enumerate(each.images) if image != each.image]
        limits = fenceposts(each.spec, self.surge, self.unavailable)
        if not old:
            while len(each.pods) > each.spec:
                self._remove(each, range(len(each.pods)))
            while len(each.pods) < each.spec:
                self._add(each)
        elif sum(each.pods) > each.spec - limits.unavailable or not all(each.pods[number] for number in old):
            self._remove(each, old)
        elif len(each.pods) < each.spec + limits.surge:
            self._add(each)

    def _add(self, each: Workload) -> None:
        each.pods.append(False)
        each.images.append(each.image)

    def _remove(self, each: Workload, among: Any) -> None:
        number = min(among, key=lambda one: each.pods[one])  # what does not serve goes first
        del each.pods[number], each.images[number]

    def total(self) -> int:
        return sum(len(each.pods) for each in self.workloads())

    def available(self) -> int:
        return sum(sum(each.pods) for each in self.workloads())


def run(seed: int) -> tuple[str, Cluster]:
    chance = random.Random(seed)
    replicas = chance.choice([0, 1, 1, 2, 3, 4, 5, 10])
    limits = chance.choice([("25%", "25%"), (1, 0), (0, 1), ("100%", 0), (2, 1), ("25%", 0), (0, "50%")])
    steps = [{"setWeight": chance.randint(0, 100)} for _number in range(chance.randint(0, 4))]
    steps += [ANALYSIS] if chance.random() < 0.5 else []
    way = course(steps, replicas, *limits)
    cluster, place = Cluster(chance, replicas, limits), Place()
    posts = fenceposts(replicas, *limits)
    floor = replicas - posts.unavailable
    if chance.random() < 0.3:
        cluster.unready.add("new")
    for tick in range(2000):
        cluster.controllers()
        assert cluster.total() <= replicas + posts.surge, f"seed {seed}, tick {tick}"
        assert cluster.available() >= floor, f"seed {seed}, tick {tick}"
        if chance.random() < 0.02 or (tick > 1000 and place.index < len(way.steps)) or tick > 1500:
            place = replace(place, aborted=True)
        if chance.random() < 0.02:
            cluster.unready.add("new")  # from now on no pod of it starts
        action = decide(way, place, cluster.look(), float(tick))
        if action.kind == "remove":
            assert cluster.canary is not None
            assert not cluster.canary.spec
            cluster.canary = None
            assert cluster.stable.image == ("old" if place.aborted else "new"), f"seed {seed}"
            return ("stable" if place.aborted else "promoted"), cluster
        if action.kind == "restore":
            # A version that came through all steps and then starts no more: rolling it back has the workload's own
            # limits, on top of what is missing already.
            floor -= posts.unavailable
        place = _act(chance, cluster, place, action)
    raise AssertionError(f"seed {seed}: no end; {place}, {cluster.look()}")


def _act(chance: random.Random, cluster: Cluster, place: Place, action: Action) -> Place:
    """Do it, or only half of it: the process may be killed at any moment."""
    assert cluster.canary is not None
    if action.kind == "scale" and action.counts:
        if chance.random() < 0.9:
            cluster.canary.spec = action.counts.canary
        if chance.random() < 0.9:
            cluster.stable.spec = action.counts.stable
    elif action.kind in ("move", "restore"):
        cluster.stable.image = "new" if action.kind == "move" else "old"
    elif action.kind == "advance" and chance.random() < 0.9:
        return replace(place, index=place.index + 1)
    elif action.kind == "abort":
        return replace(place, aborted=True)
    elif action.kind == "measure":
        phase = chance.choice(["Successful", "Successful", "Failed", "Inconclusive"])
        return replace(place, verdicts={place.index: Verdict(phase)})
    return place


def test_whatever_happens_it_ends_promoted_or_stable_and_within_its_limits() -> None:
    ends = [run(seed) for seed in range(1500)]
    assert {end for end, _cluster in ends} == {"promoted", "stable"}
    for _end, cluster in ends:
        assert cluster.stable.spec == cluster.replicas == cluster.available()
