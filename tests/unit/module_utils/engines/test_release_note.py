# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our part of a release note."""

from __future__ import annotations

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.release_note import verdict, with_part

OURS = "<!-- lumen.airgap/release -->\n{}\n<!-- /lumen.airgap/release -->"
NAME = "lumen.airgap/release"


def test_a_verdict_in_words() -> None:
    assert verdict("success", "", "") == "**promoted**"
    assert verdict("failure", "3 > 2 & <b>", "http://x/y") == "**not promoted**: 3 > 2 &amp; &lt;b>\n\nhttp://x/y"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{OURS.format('new')}\n"),
        (" \n", f"{OURS.format('new')}\n"),
        ("What is new:\r\n- this\r\n", f"What is new:\r\n- this\n\n{OURS.format('new')}\n"),
        (f"above\n{OURS.format('old')}\nbelow", f"above\n{OURS.format('new')}\nbelow"),
        # Somebody has taken the end away: what comes behind may be theirs.
        ("<!-- lumen.airgap/release -->\nold", f"<!-- lumen.airgap/release -->\nold\n\n{OURS.format('new')}\n"),
    ],
)
def test_ours_alone_is_written(before: str, after: str) -> None:
    assert with_part(before, NAME, "new") == after


@pytest.mark.parametrize("before", ["", "words", f"a{OURS.format('new')}b"])
def test_written_twice_is_written_once(before: str) -> None:
    once = with_part(before, NAME, "new\n")
    assert with_part(once, NAME, "new") == once


def test_parts_of_several_stand_beside_each_other() -> None:
    two = with_part(with_part("", NAME, "one"), "another -- verdict", "two")
    assert with_part(with_part(two, NAME, "one"), "another -- verdict", "two") == two
    assert "-- verdict" not in two
