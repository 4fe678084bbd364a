# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read of PromQL: types, windows, selectors and divisions, with their places in the text."""

from __future__ import annotations

import contextlib
import random

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.analysis.promql import (
    MATRIX,
    MAX_DEPTH,
    SCALAR,
    STRING,
    VECTOR,
    QueryError,
    duration_text,
    read_query,
    seconds_of,
)

SEED = """sum(rate(http_requests_total{app="lumen-api",status!~"5.."}[2m]))
/
sum(rate(http_requests_total{app="lumen-api"}[2m]))
"""


@pytest.mark.parametrize(
    ("query", "type_"),
    [
        ("up", VECTOR),
        ("job:up:sum", VECTOR),
        ('{__name__="up"}', VECTOR),
        ('{"a.b",x="1"}', VECTOR),
        ("scalar(up)", SCALAR),
        ("scalar(up) * 2 > bool 1", SCALAR),
        ("-(1 + 2) ^ 0x1f", SCALAR),
        ("NaN", SCALAR),
        ("time() - 1h", SCALAR),
        ("1 - up", VECTOR),
        ("vector(1)", VECTOR),
        (SEED, VECTOR),
        ("sum by (app) (up) / on (app) group_left (node) sum(up) by (app)", VECTOR),
        ("up and b or c unless d", VECTOR),
        ("topk(3, up)", VECTOR),
        ('count_values("x", up)', VECTOR),
        ("histogram_quantile(0.9, sum by (le) (rate(a[1m])))", VECTOR),
        ("max_over_time(rate(a[1m])[10m:30s])", VECTOR),
        ("(a)[5m:]", MATRIX),
        ("a[5m] offset -1m @ end()", MATRIX),
        ("a @ 123", VECTOR),
        ('"text"', STRING),
        ("up{x='}'} # the brace is text, [5m] a comment\n+ b", VECTOR),
        ("{{args.metric}}{x='1'}", VECTOR),
        ("{{args.two}} * 2", SCALAR),
    ],
)
def test_types(query: str, type_: str) -> None:
    assert read_query(query, {"two": "2"}).type == type_


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "ends early"),
        ("sum(up", "ends early"),
        ("up{x}", "'x' is not expected"),
        ("up{x=1}", "a label's value"),
        ("up[", "a duration"),
        ("rate(up[2q])", "'q' is not expected"),
        ("1 2", "'2' is not expected"),
        ("up)", "'\\)' is not expected"),
        ('"x', "a string without an end"),
        ("up ? 1", "the character '\\?'"),
        ("1[5m]", "a window belongs"),
        ("(" * 5000, "nested more than"),
    ],
)
def test_what_is_no_query(query: str, reason: str) -> None:
    with pytest.raises(QueryError, match=reason) as raised:
        read_query(query)
    assert 0 <= raised.value.at <= len(query)


def test_windows_have_their_place_and_their_seconds() -> None:
    query = "max_over_time(rate(a[{{args.window}}])[10m:1m]) + rate(b[1h30m]) + rate(c[{{args.unknown}}])"
    found = read_query(query, {"window": "90s"})
    assert [(window.seconds, window.subquery) for window in found.windows] == [
        (90.0, False),
        (600.0, True),
        (5400.0, False),
        (None, False),
    ]
    assert [query[window.at : window.end] for window in found.windows] == [
        "{{args.window}}",
        "10m",
        "1h30m",
        "{{args.unknown}}",
    ]
    assert found.reach == 5400 + 600
    assert read_query("up").reach == 0


@pytest.mark.parametrize(
    ("query", "added"),
    [
        ("up", "up{h=1}"),
        ("sum(up) by (x)", "sum(up{h=1}) by (x)"),
        ("up{}", "up{h=1}"),
        ("up{a='b'}", "up{a='b',h=1}"),
        ("up{a='b', }", "up{a='b', h=1}"),
        ("up{a='b'}[5m]", "up{a='b',h=1}[5m]"),
    ],
)
def test_where_another_matcher_goes(query: str, added: str) -> None:
    (selector,) = read_query(query).selectors
    matcher = "{h=1}" if selector.joint == "{" else f"{selector.joint}h=1"
    assert query[: selector.at] + matcher + query[selector.at :] == added


def test_matchers_divisions_and_functions() -> None:
    found = read_query('sum(a{x="1",y!~"5.."}) / sum(b) + c % 0 + d / {{args.zero}}', {"zero": "0"})
    assert [(each.name, [tuple(matcher) for matcher in each.matchers]) for each in found.selectors] == [
        ("a", [("x", "=", "1"), ("y", "!~", "5..")]),
        ("b", []),
        ("c", []),
        ("d", []),
    ]
    assert [division.constant for division in found.divisions] == [None, 0.0, 0.0]
    assert found.functions == {"sum"}


@pytest.mark.parametrize(
    "query",
    [
        "a / b",
        "a % b",
        "1 % b",
        "1 - a / b",
        "sum(a) / sum(b) * 100",
        "a / (b > bool 0)",
        "a / (b >= 0)",
        "a / (b > 0) + c / d",
        "clamp_min(a / b, 0)",
        "clamp_max(a / b, 1)",
        "a / clamp_min(b, 0)",
        "a / b and on() (count(up) > 0)",
        "a / b and c > 0",
        "a / b unless c == 0",
        "(a / b) != 0",
        "a / b or c",
        "c < 1 or a / b",
        "a / b * (c > 0)",
        "avg(a / b)",
        "sqrt(a)",
        "stddev(a)",
        "histogram_fraction(0, 1, a)",
        "histogram_avg(a)",
        "histogram_stddev(a)",
        "histogram_stdvar(a)",
        "histogram_quantile(0.9, a)",
        "scalar(a)",
        "a / {{args.unknown}}",
    ],
)
def test_nan_is_possible(query: str) -> None:
    assert read_query(query).may_be_nan


@pytest.mark.parametrize(
    "query",
    [
        "a",
        "a / 100",
        "1 / b",
        "a / (b > 0)",
        "a / (0 < b)",
        "a / (b != 0)",
        "a / (b >= 0.5)",
        "a / (b + 1)",
        "a / clamp_min(b, 1)",
        "a / {{args.two}}",
        "a / b < 2",
        "a / b >= 0",
        "0.5 < a / b",
        "a / b == 1",
        "a / b > bool 0.5",
        "(a / b) and (b > 0)",
        "a / sum(b) and on(x) sum(b) != 0",
        "a / b unless b == 0",
        "count(up == 1) / count(up)",
        "count(a / b)",
        "a / count_over_time(b[5m])",
        "vector(1) / vector(0.5)",
        "histogram_quantile(0.9, a) > 0",
        "sum(rate(a[2m]))",
    ],
)
def test_nan_is_not_possible(query: str) -> None:
    assert not read_query(query, {"two": "2"}).may_be_nan


def test_durations() -> None:
    assert [seconds_of(text) for text in ("2m", "1h30m", "500ms", "1d", "90", "2q", "")] == [
        120.0,
        5400.0,
        0.5,
        86400.0,
        90.0,
        None,
        None,
    ]
    assert [duration_text(seconds) for seconds in (120, 90, 0.2)] == ["2m", "90s", "1s"]


def test_anything_ends_in_a_query_or_an_error() -> None:
    pieces = (
        *"(){}[],:=<>!~+-*/%^@\"'`#\n 09.mshdx",
        "sum",
        "rate",
        " by ",
        " on ",
        "{{args.x}}",
        "[5m]",
        "offset",
        "{a='b'}",
    )
    chance = random.Random(7)
    for _case in range(3000):
        text = "".join(chance.choices(pieces, k=chance.randint(0, 40)))
        with contextlib.suppress(QueryError):
            read_query(text)
    deep = "(" * (MAX_DEPTH - 2) + "1" + ")" * (MAX_DEPTH - 2)
    assert read_query(deep).type == SCALAR
