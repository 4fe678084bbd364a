# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Range queries: what of Argo's expressions of time is read."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.metric import TemplateError
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.window import RangeQuery, read_range


def read(**fields: Any) -> RangeQuery:
    return read_range({"start": "now() - duration('1h')", "end": "now()", "step": "1m", **fields}, "rangeQuery")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now()", 0),
        ('now()-duration("1h")', -3600),
        (" now( ) - duration( '90s' ) ", -90),
        ("now() - duration('1h') + duration('10m')", -3000),
        ("now() - duration('1h') - duration('0.5s')", -3600.5),
    ],
)
def test_moments(text: str, seconds: float) -> None:
    assert read(start=text) == RangeQuery(seconds, 0, 60)


def test_a_window_ends_now() -> None:
    assert read().at(10_000) == (6_400, 10_000, 60)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"start": "hello"}, "'hello' is not read, only now"),
        ({"start": "date('2026-01-01')"}, "is not read"),
        ({"start": "now() - 5"}, "is not read"),
        ({"start": "now() -- duration('1h')"}, "is not read"),
        ({"start": "now() - duration('1 parsec')"}, "rangeQuery.start: invalid duration '1 parsec'"),
        ({"start": 5}, "rangeQuery.start must be a string"),
        ({"end": None}, "rangeQuery.end must be a string"),
        ({"end": "now() - duration('2h')"}, "the end is before the start"),
        ({"step": "0s"}, "rangeQuery.step must be more than 0"),
        ({"step": "often"}, "rangeQuery.step: invalid duration"),
    ],
)
def test_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        read(**fields)


def test_shape() -> None:
    with pytest.raises(TemplateError, match="rangeQuery must be a mapping with start, end and step"):
        read_range("now()", "rangeQuery")
