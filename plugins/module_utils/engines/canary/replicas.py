# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many canary and stable pods a weight means, as Argo Rollouts' basic canary counts them.

Without a traffic router the weight is only approximated by pod counts. Behaviour follows Argo Rollouts 1.8,
utils/replicaset/canary.go and replicaset.go, answer for answer. Weights are whole percentages from 0 to 100.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Union

IntOrPercent = Union[int, str]

# Kubernetes' int32.
_MOST_PODS = 2**31 - 1
_PERCENT = re.compile(r"[+-]?[0-9]{1,9}")

DEFAULT_FENCEPOST = "25%"
"""Argo's default of both maxSurge and maxUnavailable (utils/defaults/defaults.go)."""


class ReplicaError(ValueError):
    """A number of pods, a weight or a percentage that Argo Rollouts would not take."""


class Counts(NamedTuple):
    """Pods of the two ReplicaSets."""

    canary: int
    stable: int

    @property
    def weight(self) -> int:
        """The canary's share of all pods in whole percent: what the weight really is without a router."""
        total = self.canary + self.stable
        return round(100 * self.canary / total) if total else 0


class Scale(NamedTuple):
    """A ReplicaSet as it is now: ``spec.replicas`` and ``status.availableReplicas``."""

    spec: int
    available: int


class Fenceposts(NamedTuple):
    """maxSurge and maxUnavailable in pods."""

    surge: int
    unavailable: int


class Goal(NamedTuple):
    """What the Rollout asks for: its replicas, the weight in force and its limits in pods."""

    replicas: int
    weight: int
    limits: Fenceposts


def goal(
    replicas: int,
    weight: int,
    max_surge: IntOrPercent = DEFAULT_FENCEPOST,
    max_unavailable: IntOrPercent = DEFAULT_FENCEPOST,
) -> Goal:
    """Check the numbers of a Rollout and resolve its limits. Raises ReplicaError."""
    _pod_count("replicas", replicas)
    if not (_whole(weight) and 0 <= weight <= 100):
        raise ReplicaError(f"weight is {weight!r}; it must be a whole number from 0 to 100")
    return Goal(replicas, weight, fenceposts(replicas, max_surge, max_unavailable))


def read_scale(name: str, given: Any) -> Scale:
    """A ReplicaSet as ``{spec, available}``. Raises ReplicaError, naming ``name``."""
    if not isinstance(given, Mapping) or set(given) != {"spec", "available"}:
        raise ReplicaError(f"{name} is {given!r}; it must be {{spec, available}}")
    return Scale(*(_pod_count(f"{name}.{key}", given[key]) for key in ("spec", "available")))


def _pod_count(name: str, value: Any) -> int:
    if not (_whole(value) and 0 <= value <= _MOST_PODS):
        raise ReplicaError(f"{name} is {value!r}; it must be a whole number of pods, 0 or more")
    return int(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def fenceposts(replicas: int, max_surge: IntOrPercent, max_unavailable: IntOrPercent) -> Fenceposts:
    """Percentages to pods: surge rounds up, unavailable down; both zero means one pod may be unavailable."""
    surge = _pods("maxSurge", max_surge, replicas, round_up=True)
    unavailable = _pods("maxUnavailable", max_unavailable, replicas, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Fenceposts(surge, min(unavailable, replicas))


def _pods(name: str, value: IntOrPercent, replicas: int, round_up: bool) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        pods = value
    else:
        # A string is a percentage even without the sign, as in apimachinery's intstr.
        percent = value.replace("%", "") if isinstance(value, str) else ""
        if not _PERCENT.fullmatch(percent):
            raise ReplicaError(f"{name} is {value!r}; it must be a number of pods or a percentage such as 25%")
        share = int(percent) * replicas / 100
        pods = math.ceil(share) if round_up else math.floor(share)
    if pods < 0:
        raise ReplicaError(f"{name} is {value!r}; it must not be negative")
    if pods > _MOST_PODS:
        raise ReplicaError(f"{name} is {value!r}; it must not be more than {_MOST_PODS} pods")
    return pods


def weighted(replicas: int, weight: int, surge: int) -> Counts:
    """The pair of counts nearest to the weight, over ``replicas`` pods or, when surging is allowed, one more.

    A weight from 1 to 99 never leaves a side without pods when there is room for both.
    """
    if replicas == 0:
        return Counts(0, 0)
    ceil = math.ceil(replicas * weight / 100)
    floor = math.floor(replicas * weight / 100)
    zero_allowed = weight in (0, 100) or (replicas == 1 and surge == 0)
    floor_allowed = floor != 0 or zero_allowed

    options: list[tuple[int, int]] = []
    if ceil < replicas or zero_allowed:
        options.append((ceil, replicas))
    if floor_allowed and not _tied(weight, replicas):
        options.append((floor, replicas))
    if surge > 0:
        options.append((ceil, replicas + 1))
        if floor_allowed and not _tied(weight, replicas + 1):
            options.append((floor, replicas + 1))
    if not options:
        return Counts(0, replicas)
    # min() keeps the first of equals, which is Argo's order of preference.
    canary, total = min(options, key=lambda option: abs(option[0] * 100 / option[1] - weight))
    return Counts(canary, total - canary)


def _tied(weight: int, total: int) -> bool:
    # The same order of floating-point operations as Argo's, so that .5 is hit in the same cases.
    return math.modf(total * (weight / 100))[0] == 0.5


def step(wanted: Goal, canary: Scale, stable: Scale, older: Sequence[Scale] = ()) -> Counts:
    """The counts the controller sets next, from ReplicaSets in any state: one reconciliation, not the end."""
    target = weighted(wanted.replicas, wanted.weight, wanted.limits.surge)
    ceiling = wanted.replicas + wanted.limits.surge
    grown = _grow(target, ceiling, canary, stable, older)
    if sum(scale.spec for scale in older) > 0:
        return grown  # older pods go before any of these two is made smaller
    return _shrink(target, grown, ceiling, wanted.replicas - wanted.limits.unavailable, canary, stable)


def _grow(target: Counts, ceiling: int, canary: Scale, stable: Scale, older: Sequence[Scale]) -> Counts:
    """Growing takes what is left under the ceiling, the stable side first."""
    room = ceiling - canary.spec - stable.spec - sum(scale.spec for scale in older)
    grown_stable, grown_canary = stable.spec, canary.spec
    if stable.spec < target.stable and room > 0:
        grown_stable = min(stable.spec + room, target.stable)
        room -= grown_stable - stable.spec
    if canary.spec < target.canary and room > 0:
        grown_canary = min(canary.spec + room, target.canary)
    return Counts(grown_canary, grown_stable)


def _shrink(target: Counts, grown: Counts, ceiling: int, floor: int, canary: Scale, stable: Scale) -> Counts:
    """Shrinking drains one side only: the stable one while the canary grows, else the canary.

    The drained side's own unavailable pods do not hold it up, or a broken canary could never be taken away.
    """
    increasing = target.canary >= canary.spec
    counted = _countable(canary, not increasing) + _countable(stable, increasing)
    if counted <= floor:
        return grown
    spare = counted - floor
    if increasing:
        drained = _drain(stable.spec, target.stable, spare, grown.stable)
        kept_stable, kept_canary = _within_limits(stable, canary, drained, grown.canary, ceiling, floor)
        return Counts(kept_canary, kept_stable)
    drained = _drain(canary.spec, target.canary, spare, grown.canary)
    kept_canary, kept_stable = _within_limits(canary, stable, drained, grown.stable, ceiling, floor)
    return Counts(kept_canary, kept_stable)


def _countable(scale: Scale, ignore_availability: bool) -> int:
    if scale.spec < scale.available or ignore_availability:
        return scale.spec  # pods on their way out do not count as available
    return scale.available


def _drain(now: int, target: int, spare: int, unchanged: int) -> int:
    return max(target, now - spare) if now > target else unchanged


def _within_limits(
    drain: Scale, keep: Scale, drain_count: int, keep_count: int, ceiling: int, floor: int
) -> tuple[int, int]:
    """Bring the total under the ceiling, first from the kept side as far as availability allows, then the drained."""
    over = max(0, keep_count + drain_count - ceiling)
    keep_count -= over
    available = min(drain.available, drain_count) + min(keep.available, keep_count)
    lost = max(0, keep.available - keep_count)
    keep_count += min(lost, max(0, floor - available))
    over = max(0, keep_count + drain_count - ceiling)
    return drain_count - over, keep_count


def settle(wanted: Goal, canary: Scale, stable: Scale) -> Counts:
    """Repeat `step` with every pod available until nothing changes: where an orderly weight ends."""
    counts, before = Counts(canary.spec, stable.spec), None
    seen: set[Counts] = set()
    while counts != before and counts not in seen:
        seen.add(counts)
        before = counts
        counts = step(wanted, Scale(counts.canary, counts.canary), Scale(counts.stable, counts.stable))
    return counts
