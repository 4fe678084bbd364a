# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All checks together, and what a user reads."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.lumen.airgap.plugins.module_utils.engines.doctor.diagnosis import CHECKS, diagnose, text
from ansible_collections.lumen.airgap.plugins.module_utils.engines.doctor.facts import Facts, Finding, how
from ansible_collections.lumen.airgap.tests.unit.module_utils.engines.doctor.conftest import healthy, pod


def test_a_check_that_stumbles_does_not_keep_the_others_from_being_made() -> None:
    def check_odd(facts: Facts) -> Iterator[Finding]:
        yield Finding("before", "info", "t", "s", "c")
        raise KeyError("spec")

    found = diagnose(healthy(), [check_odd, lambda facts: iter([Finding("after", "error", "t", "s", "c")])])
    assert [finding.code for finding in found] == ["after", "not-understood", "before"]
    assert "check_odd" in found[1].subject


def test_an_object_of_an_odd_shape_is_a_finding() -> None:
    odd = pod()
    odd["status"]["containerStatuses"] = ["?"]
    assert [finding.code for finding in diagnose(healthy(pods=[odd]))] == ["not-understood"]


def test_all_checks_are_made() -> None:
    assert len(CHECKS) == len(set(CHECKS)) == 12


FINDINGS = [
    Finding(
        "aborted",
        "error",
        "Something is wrong",
        "Rollout lumen/api",
        "a " * 80 + "long cause",
        ["first", "second\nwith a line break " + "b " * 60],
        [how("Do this:", "kubectl " + "--option " * 20 + "end", "and that"), "Or wait."],
    ),
    Finding("paused", "info", "Somebody is waited for", "Rollout lumen/api", "c", [], ["Only this."]),
]


def test_what_a_user_reads() -> None:
    lines = text("lumen-api in lumen", FINDINGS, ["the Rollout", "pods"])
    assert lines[0] == "lumen-api in lumen: 1 error, 1 note"
    assert lines[2] == "\u2716 Something is wrong  [aborted]"
    assert lines[3] == "        Rollout lumen/api"
    assert lines[4].startswith("  cause a a")
    assert "  seen  - first" in lines
    assert "  do    1. Do this:" in lines
    command = next(line for line in lines if "kubectl" in line)
    assert command == "           $ kubectl " + "--option " * 20 + "end"
    assert "        2. Or wait." in lines
    assert "  do    Only this." in lines
    assert lines[-1] == "looked at: the Rollout, pods"
    assert all(len(line) <= 110 for line in lines if "$ " not in line)


def test_nothing_is_wrong() -> None:
    assert text("x", [], ["pods"]) == ["x: nothing is wrong", "", "looked at: pods"]
    assert text("x", FINDINGS[:1] * 2, [])[0] == "x: 2 errors"


def test_as_data() -> None:
    data = FINDINGS[0].as_dict()
    assert list(data) == ["code", "severity", "title", "subject", "cause", "evidence", "remedy"]
    assert isinstance(data["evidence"], list)
