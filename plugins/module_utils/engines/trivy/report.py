# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Trivy's JSON report says, and whether the gate lets the image through."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

#: As Trivy orders them, the worst last.
SEVERITIES = ("UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL")
#: The report's own format, which has not changed since Trivy 0.20.
SCHEMA = 2


class ReportError(ValueError):
    """Something that is no report of Trivy."""


class Finding(NamedTuple):
    """One vulnerability of one package. ``target`` is what the package was found in, ``path`` its file in there (of
    packages of a language); ``fixed_version`` is empty when there is none."""

    id: str
    severity: str
    package: str
    installed_version: str
    fixed_version: str
    status: str
    target: str
    path: str
    title: str
    url: str
    purl: str


class Report(NamedTuple):
    """The findings, the worst first. ``os`` is the distribution, empty when there is none; ``end_of_life`` says that
    nobody looks after it any more; ``packages_in`` are the kinds of packages that Trivy looked into."""

    artifact: str
    image_id: str
    os: str
    end_of_life: bool
    packages_in: tuple[str, ...]
    findings: tuple[Finding, ...]


class Verdict(NamedTuple):
    """What the gate says: ``off``, ``passed`` or ``refused``, and the findings that it refuses for."""

    verdict: str
    refused: tuple[Finding, ...]


def parse(body: bytes) -> Report:
    """Read a report in JSON. Raises ReportError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"Trivy's report is not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("SchemaVersion") != SCHEMA:
        found = document.get("SchemaVersion") if isinstance(document, dict) else type(document).__name__
        raise ReportError(f"Trivy's report has SchemaVersion {found!r}, known is {SCHEMA}")
    metadata = _mapping(document, "Metadata")
    system = _mapping(metadata, "OS")
    results = _list(document, "Results")
    findings = [finding for result in results for finding in _findings(result)]
    return Report(
        artifact=str(document.get("ArtifactName", "")),
        image_id=str(metadata.get("ImageID", "")),
        os=" ".join(str(system[key]) for key in ("Family", "Name") if system.get(key)),
        end_of_life=bool(system.get("EOSL", False)),
        packages_in=tuple(dict.fromkeys(str(result.get("Type", "")) for result in results if result.get("Type"))),
        findings=tuple(sorted(findings, key=_order)),
    )


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """How many findings each severity has, the worst first; also those that have none."""
    severities = [finding.severity for finding in findings]
    return {severity: severities.count(severity) for severity in reversed(SEVERITIES)}


def judge(findings: Sequence[Finding], enabled: bool, severities: Collection[str], fixable_only: bool) -> Verdict:
    """Whether an image with these findings (what is waived is not among them) may pass."""
    if not enabled:
        return Verdict("off", ())
    refused = tuple(
        finding
        for finding in findings
        if finding.severity in severities and (finding.fixed_version or not fixable_only)
    )
    return Verdict("refused" if refused else "passed", refused)


def summary(finding: Finding) -> str:
    """A finding in a line for people."""
    mended = f"fixed in {finding.fixed_version}" if finding.fixed_version else "no fix"
    return f"{finding.severity} {finding.id} {finding.package} {finding.installed_version} ({mended})"


def _findings(result: dict[str, Any]) -> Iterable[Finding]:
    for item in _list(result, "Vulnerabilities"):
        severity = str(item.get("Severity", "UNKNOWN")).upper()
        yield Finding(
            id=str(item.get("VulnerabilityID", "")),
            severity=severity if severity in SEVERITIES else "UNKNOWN",
            package=str(item.get("PkgName", "")),
            installed_version=str(item.get("InstalledVersion", "")),
            fixed_version=str(item.get("FixedVersion", "")),
            status=str(item.get("Status", "")),
            target=str(result.get("Target", "")),
            path=str(item.get("PkgPath", "")),
            title=str(item.get("Title", "")),
            url=str(item.get("PrimaryURL", "")),
            purl=str(_mapping(item, "PkgIdentifier").get("PURL", "")),
        )


def _order(finding: Finding) -> tuple[Any, ...]:
    return (-SEVERITIES.index(finding.severity), finding.id, finding.target, finding.package, finding.path)


def _list(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ReportError(f"Trivy's report has a {key} that is no list of objects")
    return value


def _mapping(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ReportError(f"Trivy's report has a {key} that is no object")
    return value
