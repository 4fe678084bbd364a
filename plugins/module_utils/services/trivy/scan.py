# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A scan with the databases of the airgap: they are judged first, then Trivy runs, then waivers and gate have a say."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable

from ...adapters.trivy import Database, Job, Run, last_words, tidy
from ...engines.trivy import database, report, waivers
from ...engines.trivy.database import KINDS
from ...engines.trivy.report import Finding, ReportError
from ...engines.trivy.waivers import Outcome, Waived, Waiver, WaiverError
from ...errors import AirgapError
from ...times import Clock
from .cache import Cache, Version
from .databases import Wanted, describe_version, usable

try:
    import yaml
except ImportError:
    YAML_TRACEBACK: str | None = traceback.format_exc()
else:
    YAML_TRACEBACK = None

#: Seconds between two looks at Trivy.
_TICK = 0.2
#: Seconds beyond its own time limit after which Trivy is killed.
_GRACE = 10.0
_LIMIT = 1024 * 1024
#: What Trivy says, and what that means. The first that fits counts.
_MEANINGS = (
    (
        ("DB schema",),
        "The database has another schema than this Trivy reads. Bring the two that belong together",
    ),
    (("invalid database", "checksum error", "unexpected fault address"), "The database is damaged. Bring it again"),
    (("Java DB", "java-db"), "The image holds Java archives, and Trivy needs the Java database (java_db) for them"),
    (
        ("MANIFEST_UNKNOWN", "NAME_UNKNOWN", "No such image"),
        "The image is not there: is its name right, and was it pushed?",
    ),
    (("connection refused", "no route to host", "i/o timeout"), "The registry or Docker did not answer"),
    (("UNAUTHORIZED", "authentication required"), "The registry wants a user (registry.username, registry.password)"),
    (("certificate",), "Name the CA of the registry (registry.ca_path)"),
    (("permission denied",), "Trivy has to write to the database to lock it: run the task with become"),
    (("deadline exceeded",), "The image needs more time (timeout), or another Trivy holds the database"),
)


@dataclass(frozen=True)
class Gate:
    """Which findings refuse an image."""

    enabled: bool = False
    severities: tuple[str, ...] = ("HIGH", "CRITICAL")
    fixable_only: bool = False


@dataclass(frozen=True)
class Request:
    """What is scanned (a Job without its databases), with which databases, and by which rules."""

    job: Job
    cache: Cache
    wanted: Sequence[Wanted]
    gate: Gate = field(default_factory=Gate)
    waivers: Sequence[Waiver] = ()


def scan(
    request: Request, start: Callable[[Job], Run], clock: Clock, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Scan, and return what was found. Raises AirgapError, with all of that as its details, when the gate refuses."""
    found = [usable(request.cache, item, clock.time()) for item in request.wanted]
    versions = [version for version, _age in found]
    versions += _others(request, versions)
    for version, age in found:
        progress(f"{version.kind.name} was made {age.days:.1f} days ago" if age.days is not None else age.reason)
    job = request.job._replace(databases=tuple(_database(version) for version in versions))
    body = _run(job, start, clock, progress, versions)
    try:
        parsed = report.parse(body)
    except ReportError as error:
        raise AirgapError(str(error)) from None
    outcome = waivers.apply(request.waivers, parsed.findings, clock.time())
    verdict = report.judge(outcome.findings, request.gate.enabled, request.gate.severities, request.gate.fixable_only)
    result = {
        "changed": False,
        "image": job.image or job.input,
        "image_id": parsed.image_id or None,
        "os": parsed.os or None,
        "end_of_life": parsed.end_of_life,
        "packages_in": list(parsed.packages_in),
        "counts": report.counts(outcome.findings),
        "findings": [_finding(item) for item in outcome.findings],
        "waived": [_waived(item) for item in outcome.waived],
        "waivers_expired": [{**_waiver(waiver), "findings": count} for waiver, count in outcome.expired],
        "waivers_unused": [_waiver(waiver) for waiver in outcome.unused],
        "databases": {version.kind.key: describe_version(version, age) for version, age in found},
        "gate": verdict.verdict,
        "refused": [item.id for item in verdict.refused],
        "reasons": [*(age.reason for _version, age in found if age.reason), *_about_waivers(outcome, clock.time())],
    }
    progress(_summary(result))
    if verdict.verdict == "refused":
        raise AirgapError(_refusal(job.image or job.input, verdict.refused, request.gate), **result)
    return result


def looked_after(request: Request, clock: Clock) -> dict[str, Any]:
    """What can be said without a scan: whether the databases are fit for one. Raises AirgapError."""
    found = [usable(request.cache, item, clock.time()) for item in request.wanted]
    return {
        "databases": {version.kind.key: describe_version(version, age) for version, age in found},
        "reasons": [age.reason for _version, age in found if age.reason],
    }


def read_waivers(path: str) -> list[Waiver]:
    """Read a .trivyignore, or by its name a .trivyignore.yaml. Raises AirgapError: one that is named is there."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LIMIT + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise AirgapError(f"the waivers in {path} cannot be read: {error}") from error
    if len(text) > _LIMIT:
        raise AirgapError(f"{path} has more than {_LIMIT} characters: it is no list of waivers")
    try:
        if path.endswith((".yaml", ".yml")):
            return waivers.parse_document(yaml.safe_load(text))
        return waivers.parse_lines(text)
    except yaml.YAMLError as error:
        raise AirgapError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except WaiverError as error:
        raise AirgapError(f"{path}: {error}") from None


def given_waivers(entries: Sequence[Mapping[str, Any]]) -> list[Waiver]:
    """Waivers from the option of a module. Raises AirgapError."""
    try:
        return [
            waivers.parse_entry({key: value for key, value in entry.items() if value is not None}, f"waivers[{index}]")
            for index, entry in enumerate(entries)
        ]
    except WaiverError as error:
        raise AirgapError(str(error)) from None


def _others(request: Request, versions: Sequence[Version]) -> list[Version]:
    """The databases that nobody asked for, but that are there: Trivy may use them as well."""
    asked = {version.kind.key for version in versions}
    found = []
    for kind in KINDS.values():
        path = None if kind.key in asked else request.cache.present(kind)
        if path is not None:
            found.append(request.cache.version(kind, path))
    return found


def _database(version: Version) -> Database:
    # SQLite is content with a file that it can only read; bbolt, as Trivy opens it, is not.
    return Database(version.kind.directory, version.path, version.kind.file, writable=version.kind.key == "db")


def _run(
    job: Job,
    start: Callable[[Job], Run],
    clock: Clock,
    progress: Callable[[str], None],
    versions: Sequence[Version],
) -> bytes:
    before = [_identity(version.file) for version in versions]
    said = 0
    with _ended_well():
        run = start(job)
        try:
            deadline = clock.monotonic() + job.timeout + _GRACE
            while True:
                code = run.poll()
                lines = run.lines()
                for line in lines[said:]:
                    progress(tidy(line))
                said = len(lines)
                if code is not None:
                    break
                if clock.monotonic() > deadline:
                    raise AirgapError(
                        f"Trivy has not ended within {job.timeout:g} s and was killed{_busy(versions)}. "
                        f"It last said: {last_words(lines) or 'nothing'}",
                        log=lines[-20:],
                    )
                clock.sleep(_TICK)
            if code != 0:
                raise _failure(job, code, lines, versions)
            for version, identity in zip(versions, before):
                if _identity(version.file) != identity:
                    raise AirgapError(
                        f"{version.file} was written to during the scan, so what was found says nothing. Bring the "
                        "database again, and see who writes to it"
                    )
            return run.report()
        finally:
            run.close()


def _failure(job: Job, code: int, lines: Sequence[str], versions: Sequence[Version]) -> AirgapError:
    words = last_words(lines) or f"exit code {code}"
    text = "\n".join(lines)
    meaning = next((meaning for marks, meaning in _MEANINGS if any(mark in text for mark in marks)), "")
    hint = f". {meaning}" if meaning else ""
    return AirgapError(
        f"Trivy could not scan {job.image or job.input}: {words}{hint}{_busy(versions)}", log=list(lines[-20:]), rc=code
    )


def _busy(versions: Sequence[Version]) -> str:
    """Whether another Trivy holds a database now, which makes every other wait."""
    for version in versions:
        try:
            with open(version.file, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return f" ({version.file} is locked: another Trivy has it open, and they wait for each other)"
        except OSError:
            continue
    return ""


def _identity(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise AirgapError(f"{path} cannot be looked at: {error.strerror}") from error
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def _ended_well() -> Iterator[None]:
    """Let SIGTERM raise, so that a task that is interrupted leaves neither a container nor files."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: object) -> None:
        raise SystemExit(143)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _finding(item: Finding) -> dict[str, Any]:
    return {name: value or None if name != "id" else value for name, value in item._asdict().items()}


def _waiver(item: Waiver) -> dict[str, Any]:
    return {
        "id": item.id,
        "paths": list(item.paths),
        "purls": list(item.purls),
        "expired_at": None if item.expires is None else database.text(item.expires),
        "statement": item.statement or None,
    }


def _waived(item: Waived) -> dict[str, Any]:
    return {**_finding(item.finding), "waiver": _waiver(item.waiver)}


def _about_waivers(outcome: Outcome, now: float) -> list[str]:
    return [
        f"the waiver of {waiver.id} has expired at {database.text(waiver.expires or now)}, and does not cover the "
        f"{count} finding{'s' if count > 1 else ''} that it is about"
        for waiver, count in outcome.expired
        if count
    ]


def _summary(result: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} {severity}" for severity, count in result["counts"].items() if count) or "nothing"
    waived = f", {len(result['waived'])} waived" if result["waived"] else ""
    return f"found {counts}{waived}; gate {result['gate']}"


def _refusal(image: str, refused: Sequence[Finding], gate: Gate) -> str:
    first = "; ".join(report.summary(finding) for finding in refused[:5])
    more = f"; and {len(refused) - 5} more" if len(refused) > 5 else ""
    rule = f"{' or '.join(gate.severities)}{' with a fix' if gate.fixable_only else ''}"
    return (
        f"{image} is refused for {len(refused)} finding{'s' if len(refused) > 1 else ''} ({rule}): {first}{more}. "
        "Mend the image, or waive what cannot hurt it, with a date"
    )
