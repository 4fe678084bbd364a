# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is waived, until when, and where."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.trivy import waivers
from ansible_collections.lumen.airgap.plugins.module_utils.engines.trivy.report import Finding
from ansible_collections.lumen.airgap.plugins.module_utils.engines.trivy.waivers import Waiver, WaiverError

NEW_YEARS_EVE = datetime(2026, 12, 31, tzinfo=UTC).timestamp()


def finding(**fields: str) -> Finding:
    texts = {**dict.fromkeys(Finding._fields, ""), "id": "CVE-0000-0001", "severity": "HIGH", **fields}
    return Finding(**texts)


def test_lines() -> None:
    text = "# why\n\nCVE-0000-0001\n  CVE-0000-0002 exp:2026-12-31\nCVE-0000-0003 # some exp:2026-12-31 words\n"
    text += "CVE-0000-0004 #exp:2026-12-31 is a comment\n"
    assert waivers.parse_lines(text) == [
        Waiver("CVE-0000-0001"),
        Waiver("CVE-0000-0002", expires=NEW_YEARS_EVE),
        Waiver("CVE-0000-0003", expires=NEW_YEARS_EVE),
        Waiver("CVE-0000-0004"),
    ]


@pytest.mark.parametrize("field", ["exp=2020-01-01", "EXP:2020-01-01", "2020-01-01", "why"])
def test_a_field_that_may_be_a_mistyped_date_is_not_passed_over(field: str) -> None:
    with pytest.raises(WaiverError, match=f"line 2: '{field}' is not understood"):
        waivers.parse_lines(f"CVE-0000-0001 exp:2026-12-31\nCVE-0000-0002 {field} # a comment\n")


@pytest.mark.parametrize("text", ["exp:31.12.2026", "exp:", "exp:2026-02-30"])
def test_a_line_whose_date_is_none_is_not_passed_over(text: str) -> None:
    with pytest.raises(WaiverError, match=r"line 2: .* is not a date"):
        waivers.parse_lines(f"CVE-0000-0001\nCVE-0000-0002 {text}\n")


def test_a_document() -> None:
    document = {
        "vulnerabilities": [
            {
                "id": "CVE-0000-0001",
                "paths": ["usr/**"],
                "expired_at": date(2026, 12, 31),
                "statement": "not reachable",
            },
            {"id": "CVE-0000-0002", "purls": ["pkg:deb/debian/zlib1g"], "expired_at": "2026-12-31"},
            {"id": "CVE-0000-0003", "expired_at": datetime(2026, 12, 31)},  # noqa: DTZ001 - as YAML reads it
        ],
        "secrets": [{"id": "aws"}],
    }
    assert waivers.parse_document(document) == [
        Waiver("CVE-0000-0001", ("usr/**",), (), NEW_YEARS_EVE, "not reachable"),
        Waiver("CVE-0000-0002", (), ("pkg:deb/debian/zlib1g",), NEW_YEARS_EVE),
        Waiver("CVE-0000-0003", expires=NEW_YEARS_EVE),
    ]
    assert waivers.parse_document(None) == []


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "not a mapping"),
        ({"vulnerability": []}, "the key vulnerability is not known"),
        ({"vulnerabilities": {}}, None),
        ({"vulnerabilities": "CVE"}, "not a list"),
        ({"vulnerabilities": [{"paths": []}]}, r"vulnerabilities\[0\]: a waiver has an id"),
        ({"vulnerabilities": ["CVE-0000-0001"]}, "has an id"),
        ({"vulnerabilities": [{"id": "C", "path": ["a"]}]}, "the key path is not known"),
        ({"vulnerabilities": [{"id": "C", "paths": "a"}]}, "paths is not a list"),
        ({"vulnerabilities": [{"id": "C", "paths": ["[a"]}]}, "is not a pattern"),
        ({"vulnerabilities": [{"id": "C", "paths": ["{a"]}]}, "is not a pattern"),
        ({"vulnerabilities": [{"id": "C", "purls": ["zlib"]}]}, "no package URL"),
        ({"vulnerabilities": [{"id": "C", "expired_at": "soon"}]}, "expired_at is 'soon'"),
        ({"vulnerabilities": [{"id": "C", "expired_at": 5}]}, "expired_at is 5"),
    ],
)
def test_documents_that_are_none(document: Any, says: str | None) -> None:
    if says is None:
        assert waivers.parse_document(document) == []
        return
    with pytest.raises(WaiverError, match=says):
        waivers.parse_document(document)


def test_a_waiver_is_over_when_its_day_begins() -> None:
    waiver = Waiver("C", expires=NEW_YEARS_EVE)
    assert not waiver.expired(NEW_YEARS_EVE - 1)
    assert waiver.expired(NEW_YEARS_EVE + 1)
    assert not Waiver("C").expired(NEW_YEARS_EVE)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("usr/bin/app", "usr/bin/app", True),
        ("usr/*/app", "usr/bin/app", True),
        ("usr/*", "usr/bin/app", False),
        ("usr/**", "usr/bin/app", True),
        ("usr/**", "usr", True),
        ("**/app", "usr/bin/app", True),
        ("**/app", "app", True),
        ("usr/**/app", "usr/app", True),
        ("**/*.jar", "opt/lib/demo.jar", True),
        ("**", "anything/at/all", True),
        ("b?n/app", "bin/app", True),
        ("b?n", "b/n", False),
        ("[a-c]pp", "app", True),
        ("[!a]pp", "app", False),
        ("{usr,opt}/app", "opt/app", True),
        ("{usr,opt}/app", "etc/app", False),
        ("a+b(c)", "a+b(c)", True),
        (r"a\*b", "a*b", True),
        (r"a\*b", "axb", False),
    ],
)
def test_patterns(pattern: str, path: str, matches: bool) -> None:
    assert Waiver("CVE-0000-0001", (pattern,)).covers(finding(path=path, target="image")) is matches


def test_the_target_is_a_path_as_well() -> None:
    assert Waiver("CVE-0000-0001", ("usr/local/bin/*",)).covers(finding(target="usr/local/bin/registry"))


DEB = "pkg:deb/debian/zlib1g@1:1.2.13?arch=amd64&distro=debian-12.4"


@pytest.mark.parametrize(
    ("purl", "found", "covers"),
    [
        ("pkg:deb/debian/zlib1g", DEB, True),
        ("pkg:deb/debian/zlib1g@1:1.2.13", DEB, True),
        ("pkg:deb/debian/zlib1g@1:1.2.14", DEB, False),
        ("pkg:deb/debian/zlib1g?arch=amd64", DEB, True),
        ("pkg:deb/debian/zlib1g?arch=arm64", DEB, False),
        ("pkg:deb/ubuntu/zlib1g", DEB, False),
        ("pkg:npm/%40angular/core", "pkg:npm/%40angular/core@1.0", True),
        ("pkg:golang/a/b#sub", "pkg:golang/a/b@v1", False),
        ("pkg:deb/debian/zlib1g", "", True),
    ],
)
def test_package_urls(purl: str, found: str, covers: bool) -> None:
    assert Waiver("CVE-0000-0001", (), (purl,)).covers(finding(purl=found)) is covers


def test_applied() -> None:
    one, two = finding(), finding(id="CVE-0000-0002")
    valid = Waiver("CVE-0000-0001", statement="not reachable")
    expired = Waiver("CVE-0000-0002", expires=NEW_YEARS_EVE)
    unused = Waiver("CVE-0000-0009")
    found = waivers.apply([valid, expired, unused], [one, two], NEW_YEARS_EVE + 1)
    assert found.findings == (two,)
    assert found.waived == ((one, valid),)
    assert found.expired == ((expired, 1),), "what has expired does not waive, and is told"
    assert found.unused == (unused,)
    before = waivers.apply([valid, expired, unused], [one, two], NEW_YEARS_EVE - 1)
    assert (before.findings, before.expired) == ((), ())


def test_a_second_waiver_for_the_same_is_not_called_unused() -> None:
    found = waivers.apply([Waiver("CVE-0000-0001"), Waiver("CVE-0000-0001", ("**",))], [finding()], 0)
    assert found.unused == ()
