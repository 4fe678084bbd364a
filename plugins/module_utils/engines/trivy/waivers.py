# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is waived until when: Trivy's .trivyignore and .trivyignore.yaml, read as Trivy 0.58 reads them.

We apply them ourselves, since Trivy drops an expired waiver without a word, and passes over a line whose date it does
not understand. Here both are said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timezone
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from .report import Finding

_KNOWN = ("id", "paths", "purls", "expired_at", "statement")
#: Sections of .trivyignore.yaml for what is not scanned for here.
_OTHER_SECTIONS = ("misconfigurations", "secrets", "licenses")


class WaiverError(ValueError):
    """A waiver that cannot be understood. The text goes on a sentence that names the file."""


class Waiver(NamedTuple):
    """Findings of ``id`` in ``paths`` (patterns; none: everywhere) of ``purls`` (none: all packages) do not count,
    until ``expires`` (epoch seconds)."""

    id: str
    paths: tuple[str, ...] = ()
    purls: tuple[str, ...] = ()
    expires: float | None = None
    statement: str = ""

    def expired(self, now: float) -> bool:
        """Whether its time is over. A date is over when it begins, in UTC, as for Trivy."""
        return self.expires is not None and self.expires < now

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is meant."""
        return (
            self.id == finding.id
            and (not self.paths or any(_matches(pattern, finding) for pattern in self.paths))
            and (not self.purls or any(_same_package(purl, finding.purl) for purl in self.purls))
        )


class Waived(NamedTuple):
    """A finding that does not count, and why."""

    finding: Finding
    waiver: Waiver


class Outcome(NamedTuple):
    """``findings`` that count, those that are ``waived``, the ``expired`` waivers with how many of the findings each
    would have covered, and the ``unused`` ones, which cover nothing."""

    findings: tuple[Finding, ...]
    waived: tuple[Waived, ...]
    expired: tuple[tuple[Waiver, int], ...]
    unused: tuple[Waiver, ...]


def parse_lines(text: str) -> list[Waiver]:
    """Read a .trivyignore: ``CVE-2026-0001 exp:2026-12-31``, comments behind a ``#``. Raises WaiverError.

    Trivy passes over every other word, so that a waiver whose ``exp:`` is mistyped would never end.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        comment = next((index for index, field in enumerate(fields) if field.startswith("#")), len(fields))
        for field in fields[1:comment]:
            if not field.startswith("exp:"):
                raise WaiverError(
                    f"line {number}: {field!r} is not understood. Behind the identifier comes exp:2026-12-31, "
                    "and a comment behind a #"
                )
        # Trivy reads an exp: in the comment as well.
        dates = [field[4:] for field in fields[1:] if field.startswith("exp:")]
        try:
            found.append(Waiver(fields[0], expires=_date(dates[0]) if dates else None))
        except ValueError:
            raise WaiverError(
                f"line {number}: {dates[0]!r} is not a date like 2026-12-31. Trivy itself would pass over the line"
            ) from None
    return found


def parse_document(document: Any) -> list[Waiver]:
    """Read the parsed .trivyignore.yaml; of its sections ``vulnerabilities`` alone is about what is scanned for here.

    Raises WaiverError.
    """
    if document is None:
        return []
    if not isinstance(document, dict):
        raise WaiverError("it is not a mapping with the key vulnerabilities")
    unknown = sorted(str(key) for key in document if key not in ("vulnerabilities", *_OTHER_SECTIONS))
    if unknown:
        raise WaiverError(f"the key {unknown[0]} is not known; known is vulnerabilities")
    entries = document.get("vulnerabilities") or []
    if not isinstance(entries, list):
        raise WaiverError("vulnerabilities is not a list")
    return [parse_entry(entry, f"vulnerabilities[{index}]") for index, entry in enumerate(entries)]


def parse_entry(entry: Any, where: str) -> Waiver:
    """Read one waiver. Raises WaiverError that says ``where``."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
        raise WaiverError(f"{where}: a waiver has an id, the identifier of a vulnerability")
    # A key that is not understood may have been meant to narrow the waiver: it must not waive everything instead.
    unknown = sorted(str(key) for key in entry if key not in _KNOWN)
    if unknown:
        raise WaiverError(f"{where}: the key {unknown[0]} is not known; known are {', '.join(_KNOWN)}")
    expires = entry.get("expired_at")
    try:
        until = None if expires in (None, "") else _date(expires)
    except ValueError:
        raise WaiverError(f"{where}: expired_at is {expires!r}, not a date like 2026-12-31") from None
    paths = _texts(entry, "paths", where)
    for pattern in paths:
        try:
            _glob(pattern)
        except re.error:
            raise WaiverError(f"{where}: the path {pattern!r} is not a pattern") from None
    purls = _texts(entry, "purls", where)
    for purl in purls:
        if not purl.startswith("pkg:") or "/" not in purl:
            raise WaiverError(f"{where}: {purl!r} is no package URL like pkg:deb/debian/zlib1g")
    return Waiver(entry["id"], paths, purls, until, str(entry.get("statement") or ""))


def apply(waivers: Sequence[Waiver], findings: Iterable[Finding], now: float) -> Outcome:
    """Sort findings into those that count and those that are waived."""
    valid = [waiver for waiver in waivers if not waiver.expired(now)]
    counting: list[Finding] = []
    waived: list[Waived] = []
    for finding in findings:
        waiver = next((waiver for waiver in valid if waiver.covers(finding)), None)
        if waiver is None:
            counting.append(finding)
        else:
            waived.append(Waived(finding, waiver))
    expired = [
        (waiver, sum(waiver.covers(finding) for finding in counting)) for waiver in waivers if waiver.expired(now)
    ]
    used = {item.waiver for item in waived}
    unused = [
        waiver for waiver in valid if waiver not in used and not any(waiver.covers(item.finding) for item in waived)
    ]
    return Outcome(tuple(counting), tuple(waived), tuple(expired), tuple(unused))


def _date(value: Any) -> float:
    """Epoch seconds of a date or time, as text or as YAML reads it; without a zone it is UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith("Z") else value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=timezone.utc).timestamp()
    raise ValueError(value)


def _texts(entry: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = entry.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise WaiverError(f"{where}: {key} is not a list of texts")
    return tuple(value)


# --- patterns of paths -----------------------------------------------------------------------------------------------


def _matches(pattern: str, finding: Finding) -> bool:
    """Whether the path pattern means the finding: the target, or the file of the package in it."""
    expression = _glob(pattern)
    return any(expression.fullmatch(path) for path in (finding.target, finding.path))


def _glob(pattern: str) -> re.Pattern[str]:
    """A pattern of the Go library doublestar: ``*`` and ``?`` stay within a directory, ``**`` as a whole component
    goes over any number of them, ``[a-z]`` and ``{a,b}`` choose. Raises ``re.error``."""
    parts: list[str] = []
    index, depth = 0, 0
    while index < len(pattern):
        rest = pattern[index:]
        begins = index == 0 or pattern[index - 1] == "/"
        if begins and rest.startswith("**/"):
            parts.append("(?:.*/)?")
            index += 3
            continue
        if begins and rest == "**":
            # `a/**` also matches `a`.
            if parts and parts[-1] == "/":
                parts[-1] = "(?:/.*)?"
            else:
                parts.append(".*")
            break
        character = pattern[index]
        index += 1
        if character == "*":
            index += len(pattern[index:]) - len(pattern[index:].lstrip("*"))
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[":
            end = pattern.find("]", index + 1)
            if end < 0:
                raise re.error("a [ without its ]")
            content = pattern[index:end]
            negated = content[0] in "!^"
            content = re.sub(r"([\[\\])", r"\\\1", content[1:] if negated else content)
            parts.append(f"(?!/)[{'^' if negated else ''}{content}]")
            index = end + 1
        elif character == "{":
            depth += 1
            parts.append("(?:")
        elif character == "}" and depth:
            depth -= 1
            parts.append(")")
        elif character == "," and depth:
            parts.append("|")
        elif character == "\\" and index < len(pattern):
            parts.append(re.escape(pattern[index]))
            index += 1
        else:
            parts.append(re.escape(character))
    if depth:
        raise re.error("a { without its }")
    return re.compile("".join(parts), re.DOTALL)


# --- package URLs ----------------------------------------------------------------------------------------------------


def _same_package(wanted: str, found: str) -> bool:
    """Whether the package URL ``wanted`` means the package ``found``: version, subpath and qualifiers count only when
    they are wanted. A package without a URL is meant by every one, as for Trivy."""
    if not found:
        return True
    want, have = _purl(wanted), _purl(found)
    return (
        want[0] == have[0]
        and want[1] in ("", have[1])
        and want[2] in ("", have[2])
        and all(have[3].get(key) == value for key, value in want[3].items())
    )


def _purl(text: str) -> tuple[str, str, str, dict[str, str]]:
    """(type with namespace and name, version, subpath, qualifiers) of ``pkg:type/namespace/name@version?q=v#path``."""
    rest, _hash, subpath = text.partition("#")
    rest, _mark, query = rest.partition("?")
    name, _at, version = rest.rpartition("@") if "@" in rest.rpartition("/")[2] else (rest, "", "")
    return unquote(name), unquote(version), unquote(subpath), dict(parse_qsl(query, keep_blank_values=True))
