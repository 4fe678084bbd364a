# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a report of Trivy says, and what the gate makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.trivy import report
from ansible_collections.lumen.airgap.plugins.module_utils.engines.trivy.report import Finding, ReportError


def vulnerability(**fields: Any) -> dict[str, Any]:
    return {
        "VulnerabilityID": "CVE-0000-0001",
        "PkgName": "zlib1g",
        "InstalledVersion": "1:1.2.13",
        "FixedVersion": "1:1.2.14",
        "Status": "fixed",
        "Severity": "HIGH",
        "Title": "zlib: something",
        "PrimaryURL": "https://avd.aquasec.com/nvd/cve-0000-0001",
        "PkgIdentifier": {"PURL": "pkg:deb/debian/zlib1g@1:1.2.13?arch=amd64"},
        **fields,
    }


def body(*vulnerabilities: dict[str, Any], **fields: Any) -> bytes:
    document = {
        "SchemaVersion": 2,
        "ArtifactName": "app:v1",
        "Metadata": {"ImageID": "sha256:abc", "OS": {"Family": "debian", "Name": "12.4"}},
        "Results": [{"Target": "app:v1 (debian 12.4)", "Type": "debian", "Vulnerabilities": list(vulnerabilities)}],
        **fields,
    }
    return json.dumps(document).encode()


def finding(**fields: Any) -> Finding:
    (found,) = report.parse(body(vulnerability(**fields))).findings
    return found


def test_a_report() -> None:
    found = report.parse(body(vulnerability(Severity="LOW"), vulnerability(VulnerabilityID="CVE-0000-0002")))
    assert found.artifact == "app:v1"
    assert found.image_id == "sha256:abc"
    assert (found.os, found.end_of_life, found.packages_in) == ("debian 12.4", False, ("debian",))
    assert [item.id for item in found.findings] == ["CVE-0000-0002", "CVE-0000-0001"], "the worst first"
    assert found.findings[0] == Finding(
        id="CVE-0000-0002",
        severity="HIGH",
        package="zlib1g",
        installed_version="1:1.2.13",
        fixed_version="1:1.2.14",
        status="fixed",
        target="app:v1 (debian 12.4)",
        path="",
        title="zlib: something",
        url="https://avd.aquasec.com/nvd/cve-0000-0001",
        purl="pkg:deb/debian/zlib1g@1:1.2.13?arch=amd64",
    )


def test_an_image_without_anything_in_it() -> None:
    found = report.parse(b'{"SchemaVersion": 2, "ArtifactName": "pause:3.10.1", "Metadata": {}}')
    assert found.findings == ()
    assert (found.os, found.packages_in) == ("", ())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "is not JSON"),
        (b"[]", "SchemaVersion 'list'"),
        (b'{"SchemaVersion": 1}', "SchemaVersion 1, known is 2"),
        (b'{"SchemaVersion": 2, "Results": 5}', "Results that is no list"),
        (b'{"SchemaVersion": 2, "Results": [5]}', "Results that is no list"),
        (b'{"SchemaVersion": 2, "Metadata": []}', "Metadata that is no object"),
    ],
)
def test_what_is_no_report(text: bytes, says: str) -> None:
    with pytest.raises(ReportError, match=says):
        report.parse(text)


def test_counts_have_every_severity_and_unknown_ones_are_unknown() -> None:
    found = [finding(), finding(Severity="CRITICAL"), finding(Severity="critical"), finding(Severity="odd")]
    assert report.counts(found) == {"CRITICAL": 2, "HIGH": 1, "MEDIUM": 0, "LOW": 0, "UNKNOWN": 1}


HIGH, UNFIXED, LOW = finding(), finding(Severity="CRITICAL", FixedVersion=""), finding(Severity="LOW")


@pytest.mark.parametrize(
    ("findings", "enabled", "fixable_only", "verdict", "refused"),
    [
        ([HIGH, UNFIXED, LOW], False, False, "off", ()),
        ([HIGH, UNFIXED, LOW], True, False, "refused", (HIGH, UNFIXED)),
        ([HIGH, UNFIXED, LOW], True, True, "refused", (HIGH,)),
        ([UNFIXED], True, True, "passed", ()),
        ([LOW], True, False, "passed", ()),
        ([], True, False, "passed", ()),
    ],
)
def test_the_gate(
    findings: list[Finding], enabled: bool, fixable_only: bool, verdict: str, refused: tuple[Finding, ...]
) -> None:
    assert report.judge(findings, enabled, ["HIGH", "CRITICAL"], fixable_only) == (verdict, refused)


def test_a_finding_in_a_line() -> None:
    assert report.summary(HIGH) == "HIGH CVE-0000-0001 zlib1g 1:1.2.13 (fixed in 1:1.2.14)"
    assert report.summary(UNFIXED).endswith("(no fix)")
