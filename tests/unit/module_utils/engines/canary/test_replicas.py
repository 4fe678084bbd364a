# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replica arithmetic: the table of the design, odd states, limits, refusals."""

from __future__ import annotations

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.replicas import (
    Counts,
    Fenceposts,
    ReplicaError,
    Scale,
    fenceposts,
    goal,
    read_scale,
    settle,
    step,
    weighted,
)


@pytest.mark.parametrize(
    ("replicas", "at_20", "at_80"),
    [
        (1, (1, 1), (1, 1)),
        (2, (1, 2), (2, 1)),
        (3, (1, 3), (3, 1)),
        (4, (1, 4), (4, 1)),
        (5, (1, 4), (4, 1)),
        (10, (2, 8), (8, 2)),
    ],
)
def test_orderly_start_with_default_limits(replicas: int, at_20: tuple[int, int], at_80: tuple[int, int]) -> None:
    for weight, expected in ((20, at_20), (80, at_80)):
        assert settle(goal(replicas, weight), Scale(0, 0), Scale(replicas, replicas)) == Counts(*expected)


def test_all_or_nothing() -> None:
    assert settle(goal(3, 100), Scale(0, 0), Scale(3, 3)) == Counts(3, 0)
    assert settle(goal(3, 0), Scale(2, 2), Scale(1, 1)) == Counts(0, 3)
    assert settle(goal(0, 50), Scale(0, 0), Scale(0, 0)) == Counts(0, 0)


def test_one_of_ten_surges_where_argos_comment_says_nine() -> None:
    assert weighted(10, 5, surge=1) == Counts(1, 10)


def test_tie_takes_the_larger_canary() -> None:
    assert weighted(3, 50, surge=0) == Counts(2, 1)


def test_actual_weight() -> None:
    assert Counts(1, 2).weight == 33
    assert Counts(0, 0).weight == 0


@pytest.mark.parametrize(
    ("surge", "unavailable", "expected"),
    [("25%", "25%", (3, 2)), (0, 0, (0, 1)), ("1%", "1%", (1, 0)), (2, 20, (2, 10)), ("25", 0, (3, 0))],
)
def test_fenceposts_of_ten(surge: object, unavailable: object, expected: tuple[int, int]) -> None:
    assert fenceposts(10, surge, unavailable) == Fenceposts(*expected)  # type: ignore[arg-type]


def test_without_surge_stable_gives_way_first() -> None:
    assert step(goal(10, 30, 0, 5), Scale(0, 0), Scale(10, 10)) == Counts(0, 7)


def test_older_pods_hold_up_scaling_down_and_take_room() -> None:
    wanted = goal(10, 50, 2, 0)
    assert step(wanted, Scale(5, 5), Scale(7, 7), [Scale(1, 1)]) == Counts(5, 7)
    assert step(wanted, Scale(0, 0), Scale(10, 10), [Scale(2, 0)]) == Counts(0, 10)


def test_a_broken_canary_is_taken_away_all_the_same() -> None:
    assert step(goal(4, 0), Scale(4, 0), Scale(1, 1)) == Counts(2, 1)
    assert step(goal(4, 0), Scale(1, 0), Scale(4, 4)) == Counts(0, 4)


def test_refusals() -> None:
    for arguments in ((1, 101), (1, -1), (-1, 20), (1.0, 20), (True, 20), (1, 20.0), (1, True), (2**31, 20)):
        with pytest.raises(ReplicaError):
            goal(*arguments)  # type: ignore[arg-type]
    with pytest.raises(ReplicaError, match=r"stable\.spec is 1\.0"):
        read_scale("stable", {"spec": 1.0, "available": 1})
    with pytest.raises(ReplicaError, match="maxSurge"):
        goal(1, 20, "many")
    with pytest.raises(ReplicaError, match="negative"):
        goal(1, 20, -1)
