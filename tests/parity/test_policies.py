# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reachability against what cyclonus once answered, and against a second, naive implementation of the rules."""

from __future__ import annotations

from typing import Any

import pytest
from cases import Case, generate
from compare_policies import KEPT, as_cyclonus_reads, ask_ours, read_recorded
from naive import naive_verdicts
from reachability import World, answer


def test_ours_equal_the_recorded_answers() -> None:
    cases, cyclonus = zip(*read_recorded(), strict=True)
    assert len(cases) == KEPT
    ours = ask_ours([as_cyclonus_reads(case) for case in cases])
    assert [row for row in zip(cases, cyclonus, ours, strict=True) if row[1] != row[2]] == []


def test_recorded_verdicts_are_of_both_kinds_and_some_depart() -> None:
    cases, cyclonus = zip(*read_recorded(), strict=True)
    flows = [verdict for each in cyclonus for verdict in each["verdicts"]]
    assert min(flows.count("allow"), flows.count("deny")) > len(flows) / 5
    departing = [one for one, other in zip(cyclonus, ask_ours(list(cases)), strict=True) if one != other]
    assert 0 < len(departing) < KEPT / 10


@pytest.mark.parametrize(
    ("selector", "ours", "cyclonus"),
    [
        # The docs of Kubernetes: resources without the key match NotIn, and an empty value is a value.
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}, "allow", "deny"),
        ({"matchLabels": {"tier": ""}}, "deny", "allow"),
    ],
)
def test_where_cyclonus_departs(selector: Any, ours: str, cyclonus: str) -> None:
    spec = {"ingress": [{"from": [{"podSelector": selector}]}]}
    case = {
        "resources": [
            {"kind": "Pod", "metadata": {"name": "x"}},
            {"kind": "Pod", "metadata": {"name": "y"}},
            {"kind": "NetworkPolicy", "metadata": {"name": "n"}, "spec": spec},
        ],
        "flows": [{"from": "default/x", "to": "default/y", "port": 80}],
    }
    assert (answer(case)["verdicts"], naive_verdicts(case)) == ([ours], [ours])
    assert answer(as_cyclonus_reads(case))["verdicts"] == [cyclonus]


def differing(seed: int, count: int) -> list[tuple[Case, list[str], list[str]]]:
    """Cases where the engine and the naive implementation disagree; one pod in six has lost its address."""
    found = []
    for place, case in enumerate(generate("reachability", count, seed)):
        pods = [each for each in case["resources"] if each["kind"] == "Pod"]
        asked = {flow[end] for flow in case["flows"] for end in ("from", "to")}
        for number, pod in enumerate(pods):
            if (place + number) % 6 == 0 and pod["status"]["podIP"] not in asked:
                del pod["status"]["podIP"]
        ours, naive = answer(case)["verdicts"], naive_verdicts(case)
        if ours != naive:
            found.append((case, ours, naive))
    return found


@pytest.mark.parametrize("seed", [2, 3])
def test_engine_and_naive_agree(seed: int) -> None:
    assert differing(seed, 700)[:1] == []


def test_the_comparison_finds_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "allows", lambda *_flow: True)
    assert differing(2, 50)


def test_matrix_and_single_flows_agree() -> None:
    """Both ways through the engine."""
    for case in generate("reachability", 150, 4):
        world = World.of(case["resources"])
        for flow in case["flows"][:3]:
            port, protocol = flow["port"], flow.get("protocol", "TCP")
            matrix = world.matrix(port, protocol)
            found = list(matrix)
            pairs = [(one, other) for one in world.pods for other in world.pods]
            assert found == [(one, other, world.allows(one, other, port, protocol)) for one, other in pairs]
            assert matrix.allowed == sum(allowed for _source, _target, allowed in found)
