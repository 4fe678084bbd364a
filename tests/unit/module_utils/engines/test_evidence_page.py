# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The evidence as a page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.evidence_page import render, threshold

CONDITION = "len(result) > 0 && !isNaN(result[0]) && result[0] >= 0.95"


def at(seconds: int) -> str:
    return f"2026-01-01T00:{seconds // 60:02d}:{seconds % 60:02d}Z"


def measured(seconds: int, value: str | None, phase: str, **more: Any) -> dict[str, Any]:
    return {"run": "r", "metric": "success-rate", "at": at(seconds), "value": value, "phase": phase, **more}


def document(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "release": "api-v1-1",
        "app": "api",
        "namespace": "lumen",
        "version": "v1",
        "outcome": "rolled_back",
        "reason": 'Metric "success-rate" assessed Failed due to failed (2) > failureLimit (1)',
        "driver": "rollout",
        "started_at": at(0),
        "finished_at": at(70),
        "image": "r:5000/api:v1",
        "digest": None,
        "commit": None,
        "steps": [
            {"index": 0, "kind": "setWeight", "weight": 20, "started_at": at(5), "finished_at": at(20), "result": "x"},
            {"index": 1, "kind": "analysis", "weight": 20, "started_at": at(20), "finished_at": None, "result": ""},
        ],
        "measurements": [
            measured(25, "[0.98]", "Successful"),
            measured(35, "[0.5,NaN]", "Failed"),
            measured(45, None, "Error", message="refused"),
            measured(55, "0.94", "Inconclusive"),
        ],
        "conditions": {"success-rate": CONDITION},
        "pods": [{"at": at(3), "canary": 0, "stable": 3}, {"at": at(9), "canary": 1, "stable": 2}],
        "timeline": [{"at": at(2), "text": "image a → b"}],
        "verified": {"hash": "abc", "endpoints": {"api": ["p1", "p2"]}, "digests": [], "missing": []},
    }
    return {**made, **changes}


def parsed(page: str) -> ElementTree.Element:
    """The page as XML, which is stricter than a browser: every element closed, every text escaped."""
    text = page.partition("<!DOCTYPE html>\n")[2]
    return ElementTree.fromstring(re.sub(r"(<meta [^>]*)>", r"\1/>", text))


def test_every_measurement_step_and_word_is_there() -> None:
    page = render(document())
    words = " ".join(parsed(page).itertext())
    for told in ("Rolled back", "after 1 min 10 s", "failed (2) > failureLimit (1)", "0.5, nan", "refused", "p1, p2"):
        assert told in words
    for phase, mark in (("Successful", "circle"), ("Failed", "polygon"), ("Inconclusive", "polygon")):
        assert page.count(f'<{mark} class="{phase}"') == 2  # wide and narrow
    assert "image a → b" in words


def test_who_scan_digest_and_chain_are_shown() -> None:
    made = document(
        digest="sha256:1",
        who={"user": "deploy", "host": "control-1"},
        scan={"CRITICAL": 0, "HIGH": 1},
        chain={"id": "a", "number": 2, "previous": "4bd1", "previous_name": "api-v0-1.json"},
    )
    words = " ".join(parsed(render(made)).itertext())
    for told in (
        "sha256:1",
        "deploy on control-1",
        "critical 0, high 1",
        "document 2 of the chain",
        "api-v0-1.json 4bd1",
    ):
        assert told in words
    assert "of the chain" not in " ".join(parsed(render(document(chain={}))).itertext())


def test_it_needs_no_other_file_and_runs_nothing() -> None:
    page = render(document())
    assert not re.search(r"<script|<link|<img|url\(|src=|href=|@import|javascript:", page)


@pytest.mark.parametrize("field", ["app", "version", "reason", "image", "namespace", "outcome", "driver", "release"])
def test_what_others_wrote_stays_text(field: str) -> None:
    evil = "<script>alert('\"&')</script>"
    page = render(document(**{field: evil}))
    assert "<script" not in page
    assert evil in " ".join(parsed(page).itertext())


def test_text_of_steps_metrics_and_timeline_is_escaped_too() -> None:
    evil = '"><b>'
    made = document(
        steps=[{"index": 0, "kind": evil, "weight": 1, "started_at": at(1), "finished_at": at(60), "result": evil}],
        measurements=[{**measured(5, "1", evil), "metric": evil, "run": evil}],
        conditions={evil: evil},
        timeline=[{"at": at(1), "text": evil}],
        verified={"hash": evil, "endpoints": {evil: [evil]}, "digests": [evil], "missing": [evil]},
        scan={evil: evil},
        chain={"number": evil, "previous": evil, "previous_name": evil},
        who={"user": evil, "host": evil},
    )
    assert "<b>" not in render(made)
    parsed(render(made))


def test_the_threshold_is_drawn_and_points_stay_inside() -> None:
    page = render(document())
    assert page.count('class="limit"') == 2
    for chart in parsed(page).iter("svg"):
        _x, _y, width, height = map(float, chart.attrib["viewBox"].split())
        for mark in chart.iter("circle"):
            assert 0 <= float(mark.attrib["cx"]) <= width
            assert 0 <= float(mark.attrib["cy"]) <= height


def test_a_release_that_never_began_has_no_charts() -> None:
    page = render(document(steps=[], measurements=[], pods=[], timeline=[], verified={}, outcome="failed"))
    assert "<svg" not in page
    assert "Course" not in page
    parsed(page)


def test_values_that_are_no_numbers_are_in_the_table_alone() -> None:
    page = render(document(measurements=[measured(5, "[NaN]", "Failed"), measured(6, "[]", "Failed")], pods=[]))
    assert "<svg" not in page
    assert ">nan<" in page
    assert ">no value<" in page


def test_large_and_equal_values_have_an_axis() -> None:
    for value in ("0", "1234567", "1e-9", "-3"):
        parsed(render(document(measurements=[measured(5, value, "Failed")])))


def test_a_document_from_before_has_a_page_too() -> None:
    made = document()
    for key in ("conditions", "pods"):
        del made[key]
    parsed(render(made))


@pytest.mark.parametrize(
    ("condition", "number"),
    [
        (CONDITION, 0.95),
        ("result[0] < 0.05", 0.05),
        ("(result <= 2)", 2.0),
        ("result[0] >= result[1]", None),
        ("isNaN(result)", None),
        ("", None),
    ],
)
def test_the_threshold_of_a_condition(condition: str, number: float | None) -> None:
    assert threshold(condition) == number


def test_who_was_in_a_hurry_is_named() -> None:
    promoted = [{"index": 1, "kind": "analysis", "what": "skipped"}, {"index": 3, "kind": "pause", "what": "ended"}]
    step = {"index": 1, "kind": "analysis", "weight": 20, "result": "skipped", "by_hand": True}
    page = render(document(by_hand=promoted, steps=[step]))
    assert "<dt>Promoted by hand</dt><dd>step 2 (analysis) skipped, step 4 (pause) ended</dd>" in page
    assert "skipped by hand" in page
    assert "by hand" not in render(document())


def test_a_table_that_is_wider_than_a_phone_shows_it_by_day_and_by_night() -> None:
    page = render(document())
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    (scroll,) = re.findall(r"\.scroll \{(.*?)\}", style, re.DOTALL)
    assert scroll.count(" local ") == scroll.count(" scroll ") == 2
    dark = style[style.index("prefers-color-scheme: dark") : style.index("box-sizing")]
    assert re.findall(r"--shade: ([^;]+);", style) == ["#00000052", "#ffffff5c", "transparent"]  # day, night, print
    assert "--shade: #ffffff5c" in dark
    assert "<script" not in page
