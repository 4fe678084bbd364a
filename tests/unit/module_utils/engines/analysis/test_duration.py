# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Go durations."""

from __future__ import annotations

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.duration import (
    DurationError,
    parse_duration,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("+0", 0),
        ("30s", 30),
        ("1m", 60),
        ("1h30m5s", 5405),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1.s", 1),
        ("500ms", 0.5),
        ("1us", 1e-6),
        ("1\u00b5s", 1e-6),
        ("-5s", -5),
        ("+5s", 5),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "-", "5", "s", ".s", "5d", "5 s", "1m 2s", "1s5", "--5s", "9999999h", "five", "\u0665s"]
)
def test_not_a_duration(text: str) -> None:
    with pytest.raises(DurationError):
        parse_duration(text)
