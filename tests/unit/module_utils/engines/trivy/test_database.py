# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a database is whole and young, from its bytes alone."""

from __future__ import annotations

import json

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.trivy import database
from ansible_collections.lumen.airgap.plugins.module_utils.engines.trivy.database import (
    DAY,
    HEAD,
    DatabaseError,
    Gate,
    Metadata,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.trivy import DB, JAVA_DB, bolt, metadata, sqlite

NOW = 1_790_000_000.0
GATE = Gate(7, 30)


def made(days: float, version: int = 2) -> Metadata:
    return Metadata(version, NOW - days * DAY, None, None)


# --- metadata


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-01T00:00:00Z", 1767225600.0),
        ("2026-01-01T00:00:00.123456789Z", 1767225600.123456789),
        ("2026-01-01T02:00:00.5+02:00", 1767225600.5),
        ("0001-01-01T00:00:00Z", None),
    ],
)
def test_times_as_go_writes_them(text: str, seconds: float | None) -> None:
    assert database.parse_time(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-01", "2026-13-01T00:00:00Z", 5, None])
def test_what_is_no_time(text: object) -> None:
    with pytest.raises(DatabaseError, match="is not a time"):
        database.parse_time(text)


def test_metadata() -> None:
    found = database.parse_metadata(metadata("2026-01-01T00:00:00.5Z"))
    assert found == Metadata(2, 1767225600.5, 1767225600.5, None)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is not JSON"),
        (b"[]", "not a JSON object"),
        (b"[" * 100_000, "is not JSON"),
        (json.dumps({"Version": "2"}).encode(), "Version that is no number"),
        (json.dumps({"Version": 2, "UpdatedAt": "soon"}).encode(), "has a UpdatedAt that is none"),
    ],
)
def test_metadata_that_is_none(body: bytes, says: str) -> None:
    with pytest.raises(DatabaseError, match=says):
        database.parse_metadata(body)


@pytest.mark.parametrize(
    ("version", "says"), [(1, "bring a database of"), (3, "bring a newer Trivy"), (0, "trivy-db:2")]
)
def test_another_schema_says_what_to_replace(version: int, says: str) -> None:
    with pytest.raises(DatabaseError, match=says) as caught:
        database.check_schema(DB, made(0, version), 2)
    assert f"has schema {version}, but Trivy reads schema 2" in str(caught.value)


def test_the_schema_that_is_wanted_is_fine() -> None:
    database.check_schema(JAVA_DB, made(0, 1), 1)


# --- age


@pytest.mark.parametrize(
    ("days", "verdict", "refused"),
    [(0, "fresh", False), (7, "fresh", False), (7.5, "aging", False), (30, "aging", False), (31, "old", True)],
)
def test_age(days: float, verdict: str, refused: bool) -> None:
    found = database.age(DB, made(days), NOW, GATE)
    assert (found.days, found.verdict) == (pytest.approx(days), verdict)
    assert database.refused(found, GATE) is refused
    assert bool(found.reason) == (verdict != "fresh")


def test_a_year_old_says_when_it_was_made_and_what_to_do() -> None:
    found = database.age(DB, made(365), NOW, GATE)
    assert "trivy-db was made at 2025-09-21T14:13:20Z, 365.0 days ago, and may have 30" in found.reason
    assert "bring a newer one" in found.reason


def test_a_fresh_download_of_an_old_one_is_old() -> None:
    old = Metadata(2, NOW - 100 * DAY, NOW + DAY, NOW)
    assert database.age(DB, old, NOW, GATE).verdict == "old"


def test_gates_that_are_off() -> None:
    assert database.age(DB, made(4000), NOW, Gate(0, 0)).verdict == "fresh"


def test_clocks_may_differ_a_little() -> None:
    assert database.age(DB, made(-0.02), NOW, GATE) == (0.0, "fresh", "")


@pytest.mark.parametrize("metadata", [made(-2), Metadata(2, None, None, None)])
def test_an_age_that_cannot_be_told_is_refused_where_age_matters(metadata: Metadata) -> None:
    found = database.age(DB, metadata, NOW, GATE)
    assert (found.days, found.verdict) == (None, "unknown")
    assert "Set the clock" in found.reason or "does not say when" in found.reason
    assert database.refused(found, GATE)
    assert not database.refused(found, Gate(7, 0))


@pytest.mark.parametrize(("gate", "says"), [(Gate(-1, 3), "not less"), (Gate(10, 5), "would never warn")])
def test_thresholds_that_make_no_sense(gate: Gate, says: str) -> None:
    with pytest.raises(DatabaseError, match=says):
        database.check_gate(gate, "db")


# --- the files


@pytest.mark.parametrize("page_size", [4096, 16384])
def test_a_whole_bolt_file(page_size: int) -> None:
    body = bolt(page_size=page_size)
    database.check_file(DB, len(body), body[:HEAD])


@pytest.mark.parametrize("offset", [20, 4096 + 20, 60, 4096 + 60])
def test_bolt_would_go_back_to_what_was_before_a_damaged_meta_page(offset: int) -> None:
    body = bytearray(bolt())
    body[offset] ^= 1
    with pytest.raises(DatabaseError, match="first pages are damaged"):
        database.check_file(DB, len(body), bytes(body[:HEAD]))


def test_a_whole_sqlite_file() -> None:
    body = sqlite()
    database.check_file(JAVA_DB, len(body), body[:HEAD])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is empty"),
        (b"<html>404</html>", "no database of Trivy"),
        (bolt()[:-1], "is cut short: it has 28671 of 28672 bytes"),
        (bolt()[:50], "no database of Trivy"),
        (bytes(20) + bolt()[20:4096] + bytes(5000), "no database of Trivy"),
        (bolt(pages=4), "holds nothing"),
        (sqlite(), "no database of Trivy"),
    ],
)
def test_a_bolt_file_that_is_not_whole(body: bytes, says: str) -> None:
    with pytest.raises(DatabaseError, match=says):
        database.check_file(DB, len(body), body[:HEAD])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is empty"),
        (bolt(), "no Java database"),
        (sqlite()[:-1], "is cut short"),
        (sqlite()[:60], "no Java database"),
        (sqlite(pages=1), "holds nothing"),
    ],
)
def test_a_sqlite_file_that_is_not_whole(body: bytes, says: str) -> None:
    with pytest.raises(DatabaseError, match=says):
        database.check_file(JAVA_DB, len(body), body[:HEAD])


# --- members of an archive


def test_members() -> None:
    seen: set[str] = set()
    assert database.check_member(DB, "./", False, True, seen) is None
    assert database.check_member(DB, "./trivy.db", True, False, seen) == "trivy.db"
    assert database.check_member(DB, "metadata.json", True, False, seen) == "metadata.json"


@pytest.mark.parametrize(
    ("name", "regular", "directory", "says"),
    [
        ("../trivy.db", True, False, "holds metadata.json and trivy.db alone"),
        ("/etc/passwd", True, False, "alone"),
        ("db/trivy.db", True, False, "alone"),
        ("trivy-java.db", True, False, "alone"),
        ("trivy.db", False, False, "no plain file"),
        ("db", False, True, "alone"),
        ("./metadata.json", True, False, "twice"),
    ],
)
def test_members_that_have_no_place(name: str, regular: bool, directory: bool, says: str) -> None:
    with pytest.raises(DatabaseError, match=says):
        database.check_member(DB, name, regular, directory, {"metadata.json"})
