# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading steps, refusing what cannot be followed, planning pods."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.replicas import Counts
from ansible_collections.lumen.airgap.plugins.module_utils.engines.canary.steps import (
    StepError,
    after_verdict,
    plan,
    read_steps,
)

SEED = [
    {"setWeight": 20},
    {"analysis": {"templates": [{"templateName": "success-rate"}]}},
    {"setWeight": 80},
    {"pause": {}},
    {"pause": {"duration": "1m30s"}},
    {"setWeight": 100},
]


def test_reads_kinds_weights_and_durations() -> None:
    steps = read_steps({"steps": SEED})
    assert [step.label for step in steps] == [
        "setWeight 20",
        "analysis success-rate",
        "setWeight 80",
        "pause",
        "pause 90 s",
        "setWeight 100",
    ]
    assert [step.weight for step in steps] == [20, 20, 80, 80, 80, 100]
    assert [step.indefinite for step in steps] == [False, False, False, True, False, False]
    assert steps[1].templates == (("success-rate", False),)


@pytest.mark.parametrize(("value", "seconds"), [(30, 30.0), ("30", 30.0), ("1h", 3600.0), ("500ms", 0.0), ("1.5m", 90)])
def test_pause_durations_as_argo_reads_them(value: object, seconds: float) -> None:
    assert read_steps({"steps": [{"pause": {"duration": value}}]})[0].duration == seconds


def test_plan_gives_the_pods_of_each_step() -> None:
    counts = [planned.counts for planned in plan(read_steps({"steps": SEED}), 2)]
    assert counts == [Counts(1, 2), Counts(1, 2), Counts(2, 1), Counts(2, 1), Counts(2, 1), Counts(2, 0)]


@pytest.mark.parametrize(
    ("canary", "message"),
    [
        ({"steps": [{"setWeight": 20}, {"setWeight": 101}]}, r"steps\[1\]: setWeight is 101"),
        ({"steps": [{"setWeight": -1}]}, "setWeight is -1"),
        ({"steps": [{"setWeight": "20"}]}, "setWeight is '20'"),
        ({"steps": [{"setWeight": True}]}, "setWeight is True"),
        ({"steps": [{}]}, "has none"),
        ({"steps": [{"setWeight": 1, "pause": {}}]}, "has setWeight, pause"),
        ({"steps": [{"pause": {"duration": "soon"}}]}, "pause duration 'soon'"),
        ({"steps": [{"analysis": {"templates": [{}]}}]}, "templateName"),
        ({"steps": [{"setCanaryScale": {"weight": 5}}]}, "setCanaryScale needs a traffic router"),
        ({"steps": [{"setHeaderRoute": {"name": "x"}}]}, "setHeaderRoute needs a traffic router"),
        ({"steps": [{"setMirrorRoute": {"name": "x"}}]}, "setMirrorRoute needs a traffic router"),
        ({"steps": [{"pause": 30}]}, r"steps\[0\]\.pause is 30; it must be a mapping such as {duration: 10m}"),
        ({"steps": [{"pause": "30s"}]}, r"pause is '30s'; it must be a mapping"),
        ({"steps": [{"pause": []}]}, r"pause is \[\]; it must be a mapping"),
        ({"steps": [{"analysis": "success-rate"}]}, r"steps\[0\]\.analysis is 'success-rate'; it must be a mapping"),
        ({"steps": [{"analysis": {"templates": "t"}}]}, r"analysis\.templates must be a list"),
        ({"steps": [{"analysis": {"templates": {"templateName": "t"}}}]}, r"analysis\.templates must be a list"),
        ({"steps": [{"analysis": {"templates": ["t"]}}]}, r"templates is 't'; it must be a mapping"),
        ({"steps": ["setWeight"]}, r"steps\[0\] is 'setWeight'; it must be a mapping such as {setWeight: 20}"),
        ({"steps": {"setWeight": 20}}, "steps must be a list"),
        ({"steps": [{"dance": {}}]}, "unknown kind of step 'dance'"),
        ({"trafficRouting": {"nginx": {}}, "steps": []}, "traffic router is not supported"),
    ],
)
def test_refusals_name_the_place(canary: dict[str, Any], message: str) -> None:
    with pytest.raises(StepError, match=message):
        read_steps(canary)


def test_experiments_and_plugins_are_followed_only() -> None:
    steps = read_steps({"steps": [{"setWeight": 20}, {"experiment": {"templates": []}}, {"plugin": {"name": "x/y"}}]})
    assert [(step.kind, step.weight) for step in steps] == [("setWeight", 20), ("experiment", 20), ("plugin", 20)]


def test_only_a_success_promotes() -> None:
    assert [after_verdict(phase) for phase in ("Successful", "Failed", "Error", "Inconclusive", "Running")] == [
        "promote",
        "abort",
        "abort",
        "abort",
        "abort",
    ]
