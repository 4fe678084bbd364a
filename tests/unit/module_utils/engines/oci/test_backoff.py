# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a request is asked again."""

from __future__ import annotations

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci import backoff


def test_each_wait_is_longer_up_to_a_limit() -> None:
    assert [backoff.delay(attempt, 1.0) for attempt in (0, 1, 2, 5, 99)] == [0.5, 1, 2, 15, 15]
    assert backoff.delay(0, 0.0) == 0.25


def test_what_may_pass() -> None:
    statuses = (200, 401, 404, 416, 429, 500, 501, 502, 503, 504, 507)
    assert [status for status in statuses if backoff.is_transient(status)] == [429, 500, 502, 503, 504]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("soon", None),
        (None, None),
    ],
)
def test_what_a_registry_asks_for(header: str | None, seconds: float | None) -> None:
    assert backoff.retry_after(header, 10.0) == seconds
