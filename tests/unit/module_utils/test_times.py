# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Times of reports and Leases."""

from __future__ import annotations

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.times import parse_rfc3339, rfc3339, rfc3339_micro


def test_forms() -> None:
    assert rfc3339(1767225600.9) == "2026-01-01T00:00:00Z"
    assert rfc3339_micro(1767225600.25) == "2026-01-01T00:00:00.250000Z"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-01T00:00:00Z", 1767225600.0),
        ("2026-01-01T00:00:00.250000Z", 1767225600.25),
        ("2026-01-01T01:00:00+01:00", 1767225600.0),
    ],
)
def test_parse(text: str, seconds: float) -> None:
    assert parse_rfc3339(text) == seconds


def test_parse_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="yesterday"):
        parse_rfc3339("yesterday")
