# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines about bytes."""

from __future__ import annotations

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.services.bundle.meter import Meter, size
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (412 << 20, "412 MiB"), (3 << 30, "3.0 GiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_a_line_each_two_seconds(clock: FakeClock) -> None:
    lines: list[str] = []
    meter = Meter("checking", 1000, lines.append, clock)
    for _ in range(10):
        clock.sleep(0.5)
        meter.add(100, "a file")
    assert lines == ["checking: 400 bytes of 1000 bytes, a file", "checking: 800 bytes of 1000 bytes, a file"]
