# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The chain of evidence documents: what links one to the one before, and what does not fit.

A document's hash is the SHA-256 of the exact bytes of its file, so that ``sha256sum`` is all an auditor needs; a
canonical form of JSON would make two files the same that a reader sees as different. Each document names number and
hash of the one before:

    "chain": {"id": "5f0c…", "number": 4, "previous": "<64 hex digits>", "previous_name": "api-v1.0.0-3.json",
              "cluster": "https://192.168.2.1:6443"}

The newest one is named by the ledger, which is kept elsewhere than the files: by it a document that was removed at the
end of the chain, which no other names, is missed. A ledger begun anew has another ``id``. ``cluster`` is the API server
that keeps it: clusters may share a directory, and a chain of another one is none that this one has lost. Documents
written before it was said have none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

ERROR, WARNING, INFO = "error", "warning", "info"
#: How many documents the ledger knows by name and hash. Older ones are known by the links alone.
REMEMBERED = 200

#: Code of the finding that the ledger could not be asked for, which says nothing of the documents.
UNREACHED = "head-unreached"

#: What `verify` says of a document.
PROVEN, LINKED, EDITED, UNKNOWN, OUTSIDE = "proven", "linked", "edited", "unknown", "outside"


class LedgerError(ValueError):
    """The ledger is not one of ours."""


class Entry(NamedTuple):
    """What the ledger knows of one document. ``host``: the control host that it was written on. ``outcome`` is empty
    where the ledger does not say it."""

    number: int
    name: str
    sha256: str
    release: str
    host: str
    outcome: str = ""


class Ledger(NamedTuple):
    """The chain's identity, and its newest documents, newest first."""

    id: str
    entries: tuple[Entry, ...] = ()

    @property
    def head(self) -> Entry | None:
        """The newest document; None before the first."""
        return self.entries[0] if self.entries else None

    def of(self, release: str) -> Entry | None:
        """What it knows of a release's document, the last one where it has several."""
        return next((entry for entry in self.entries if entry.release == release), None)

    def link(self) -> dict[str, Any]:
        """``chain`` of the document that comes next."""
        head = self.head
        return {
            "id": self.id,
            "number": head.number + 1 if head else 1,
            "previous": head.sha256 if head else "",
            "previous_name": head.name if head else "",
        }

    def appended(self, entry: Entry) -> Ledger:
        """With one document more. The oldest is forgotten where there are too many."""
        return Ledger(self.id, (entry, *self.entries)[:REMEMBERED])

    def as_data(self) -> dict[str, str]:
        """The ``data`` of a ConfigMap: ``head`` for readers, ``ledger`` with all of it."""
        every = [entry._asdict() for entry in self.entries]
        head = every[0] if every else {}
        return {
            "head": json.dumps(head, indent=1),
            "ledger": json.dumps({"id": self.id, "entries": every}, separators=(",", ":")),
        }


def read_ledger(data: Mapping[str, str] | None) -> Ledger:
    """From the ``data`` of a ConfigMap. Raises LedgerError."""
    text = (data or {}).get("ledger")
    if text is None:
        raise LedgerError("it has no ledger")
    try:
        found = json.loads(text)
        entries = tuple(_entry(each) for each in found["entries"])
        ledger = Ledger(_text(found["id"]), entries)
        said = json.loads((data or {}).get("head") or "{}")
        head = _entry(said) if said else None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LedgerError(f"its ledger cannot be read ({type(error).__name__}: {error})") from error
    numbers = [entry.number for entry in entries]
    if not ledger.id or (numbers and numbers != list(range(numbers[0], numbers[0] - len(numbers), -1))):
        raise LedgerError("its ledger has gaps, or no identity")
    if head != ledger.head:
        raise LedgerError("its head is another one than its ledger says")
    return ledger


def _entry(each: Mapping[str, Any]) -> Entry:
    number = each["number"]
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"{number!r} is no number of a document")
    name, sha256, release, host = (_text(each[key]) for key in ("name", "sha256", "release", "host"))
    return Entry(number, name, sha256, release, host, _text(each.get("outcome", "")))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def digest(content: bytes) -> str:
    """The hash of a document: of the bytes of its file, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def is_link(chain: Any) -> bool:
    """Whether this can be the ``chain`` of a document."""
    if not isinstance(chain, Mapping):
        return False
    number = chain.get("number")
    texts = (chain.get("id"), chain.get("previous"))
    return isinstance(number, int) and not isinstance(number, bool) and all(isinstance(each, str) for each in texts)


def fits(chain: Any, ledger: Ledger | None) -> bool:
    """Whether a document with this ``chain`` can come next. Without a ledger, it can begin one."""
    if not is_link(chain):
        return False
    if ledger is None:
        return (chain["number"], chain["previous"]) == (1, "")
    link = ledger.link()
    return all(chain[key] == link[key] for key in ("id", "number", "previous"))


class File(NamedTuple):
    """A file that may be a document. ``content`` is None where it is not JSON, and ``problem`` says why."""

    name: str
    sha256: str
    content: Mapping[str, Any] | None
    problem: str = ""

    @property
    def chain(self) -> Mapping[str, Any]:
        """Its link; empty without a proper one."""
        chain = (self.content or {}).get("chain")
        return chain if isinstance(chain, Mapping) and is_link(chain) else {}

    @property
    def number(self) -> int:
        """In its chain; 0 without one."""
        return int(self.chain.get("number", 0))

    @property
    def cluster(self) -> str:
        """The one that keeps its chain; empty where it does not say so."""
        return str(self.chain.get("cluster") or "")


def read_file(name: str, content: bytes) -> File:
    """A file of the directory of reports."""
    try:
        found = json.loads(content)
        problem = "" if isinstance(found, dict) else "it is no JSON object"
    except ValueError as error:  # a UnicodeDecodeError too
        found, problem = None, f"it is not JSON ({error})"
    return File(name, digest(content), found if isinstance(found, dict) else None, problem)


def of_cluster(files: Sequence[File], ledger: Ledger | None, cluster: str) -> list[File]:
    """The files without the chains of other clusters.

    A chain is another's when documents in it say so, and none says ``cluster``: one that was edited does not take the
    others away. What the ledger names, or has the identity of, is always this cluster's.
    """
    own = {ledger.id} if ledger else set()
    names = {entry.name for entry in ledger.entries} if ledger else set()
    said: dict[str, set[str]] = {}
    for file in files:
        if file.cluster:
            said.setdefault(str(file.chain["id"]), set()).add(file.cluster)
    others = {chain for chain, clusters in said.items() if cluster not in clusters} - own
    return [file for file in files if file.name in names or file.chain.get("id") not in others]


@dataclass(frozen=True)
class Finding:
    """Something that does not fit: what, where, and what next. ``code`` is for programs."""

    code: str
    severity: str
    where: str
    what: str
    next: str

    def as_dict(self) -> dict[str, str]:
        """As modules return it."""
        return dict(self.__dict__)

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.next}."


@dataclass
class Report:
    """What a chain is found to be. ``states``: of each file by name. ``top``: the highest number that is known of."""

    findings: list[Finding] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    top: int = 0
    head: Entry | None = None

    @property
    def intact(self) -> bool:
        """Nothing is wrong, as far as can be told."""
        return all(finding.severity != ERROR for finding in self.findings)

    @property
    def line(self) -> str:
        """All of it in one line."""
        good = sum(state in (PROVEN, LINKED) for state in self.states.values())
        many = f"{good} of {self.top} documents here fit" if self.top else "no document in the chain yet"
        newest = f", the newest is {self.head.name}" if self.head else ""
        worst = sorted(self.findings, key=lambda each: (ERROR, WARNING, INFO).index(each.severity))
        told = [each for each in worst if each.severity != INFO] or worst
        word = self._word(told)
        if word == "intact":
            rest = f"; {told[0].where}: {told[0].what}" if told else ""
            return f"{word}: {many}{newest}{rest}"
        more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
        return f"{word}: {told[0].where}: {told[0].what}{more}"

    def _word(self, told: Sequence[Finding]) -> str:
        errors = {each.code for each in told if each.severity == ERROR}
        if errors:
            return "NOT CHECKED" if errors == {UNREACHED} else "BROKEN"
        return "intact, but see" if told and told[0].severity != INFO else "intact"

    @property
    def text(self) -> list[str]:
        """The line, and each finding with what to do, the worst first."""
        worst = sorted(self.findings, key=lambda each: (ERROR, WARNING, INFO).index(each.severity))
        return [self.line, *(f"{each.severity}: {each}" for each in worst)]

    def as_dict(self) -> dict[str, Any]:
        """As modules return it."""
        return {
            "intact": self.intact,
            "line": self.line,
            "text": self.text,
            "head": self.head._asdict() if self.head else {},
            "findings": [finding.as_dict() for finding in self.findings],
        }


def verify(ledger: Ledger | None, files: Iterable[File], host: str = "", asked: bool = True) -> Report:
    """Hold files against the ledger and against each other.

    ``ledger`` is None where there is none; ``asked`` is False where nobody could look, and then the files are held
    against each other alone. ``host`` is this control host: a document that another one has written is not missed
    here. Files of other apps, and of other clusters, have to be left out before.
    """
    there = sorted(files, key=lambda file: file.name)
    report = Report(head=ledger.head if ledger else None, states={file.name: OUTSIDE for file in there})
    identity = ledger.id if ledger else ""
    chains: dict[str, list[File]] = {}
    for file in there:
        if file.chain:
            chains.setdefault(str(file.chain["id"]), []).append(file)
    _outside(report, there, ledger)
    if ledger is not None or not asked:
        names = [identity] if ledger is not None else sorted(chains)
        for name in names:
            _Walk(report, chains.get(name, []), there, ledger, host).run()
    elif chains:
        report.findings.append(
            Finding(
                "head-missing",
                ERROR,
                "the cluster",
                f"it keeps no head, but {_count(sum(map(len, chains.values())), 'document')} of a chain are here",
                "Whoever deleted the ConfigMap could have removed the newest documents too; restore it from a backup. "
                "Left as it is, the next release begins a chain anew",
            )
        )
    if ledger is not None:
        for name in sorted(set(chains) - {identity}):
            report.findings.append(_other_chain(name, chains[name]))
    if not asked and chains:
        report.findings.append(
            Finding(
                "head-unknown",
                INFO,
                "the newest document",
                "whether it was removed cannot be told without the cluster's head",
                "Name the namespace and a kubeconfig to ask for it",
            )
        )
    return report


def _outside(report: Report, there: Sequence[File], ledger: Ledger | None) -> None:
    """Files that are in no chain."""
    known = {entry.name for entry in ledger.entries} if ledger else set()
    without = [file for file in there if file.content is not None and not file.chain and file.name not in known]
    if without:
        report.findings.append(
            Finding(
                "not-chained",
                INFO,
                _names(without),
                "of no chain",
                "Documents of before the chain are so, and those of evidence without it; nothing proves them",
            )
        )
    for file in there:
        if file.content is None and file.name not in known:
            report.findings.append(
                Finding(
                    "unreadable",
                    WARNING,
                    file.name,
                    f"{file.problem}, so it proves nothing",
                    "Look who has put it there, and move it away",
                )
            )


def _other_chain(name: str, files: Sequence[File]) -> Finding:
    return Finding(
        "other-chain",
        WARNING,
        _names(files),
        f"of another chain ({name}) than the one that the cluster keeps",
        "It is so after the cluster was made anew, or its ConfigMap deleted. Keep them elsewhere once you know which; "
        "whether they are complete nobody can tell any more",
    )


def _names(files: Sequence[File]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return files[0].name + more


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


class _Walk:
    """From the newest document of a chain to its first."""

    def __init__(
        self, report: Report, files: Sequence[File], there: Sequence[File], ledger: Ledger | None, host: str
    ) -> None:
        self._report = report
        self._ledger = ledger
        self._host = host
        self._entries = {entry.number: entry for entry in ledger.entries} if ledger else {}
        self._head = ledger.head.number if ledger and ledger.head else 0
        self._by_name = {file.name: file for file in there}
        self._by_hash = {file.sha256: file for file in there}
        self._numbered: dict[int, list[File]] = {}
        for file in files:
            self._numbered.setdefault(file.number, []).append(file)

    def run(self) -> None:
        """Fill the report."""
        top = max([self._head] if self._ledger is not None else [0, *self._numbered])
        self._report.top = max(self._report.top, top)
        for number in sorted(self._numbered, reverse=True):
            if number > top or number < 1:
                self._say_unknown(self._numbered[number])
        expected, name = "", ""
        gap: list[tuple[int, str]] = []
        for number in range(top, 0, -1):
            entry = self._entries.get(number)
            if entry is not None and expected and expected != entry.sha256:
                self._add(
                    "link",
                    ERROR,
                    entry.name,
                    f"the document after it says {expected[:12]}…, and the ledger {entry.sha256[:12]}…: one is changed",
                    "Compare the file with a copy kept elsewhere; who writes to the ConfigMap is in the audit log",
                )
            file = self._one(number, entry, entry.sha256 if entry else expected)
            if file is None:
                if entry is None and not self._numbered.get(number):
                    gap.append((number, name))
                expected, name = "", ""
                continue
            self._say_gap(gap)
            gap = []
            expected, name = str(file.chain.get("previous", "")), str(file.chain.get("previous_name", ""))
            if number == 1 and expected:
                self._add(
                    "link",
                    ERROR,
                    file.name,
                    "the first document names one before it",
                    "Compare it with a copy kept elsewhere",
                )
        self._say_gap(gap)

    def _one(self, number: int, entry: Entry | None, expected: str) -> File | None:
        """The document with this number, if it is there and as it was; says what is not."""
        if entry is not None:
            return self._of_ledger(entry)
        candidates = self._numbered.get(number, [])
        if not expected:  # nothing says which it was
            self._say_fork(number, candidates[1:], candidates[:1])
            for file in candidates:
                self._report.states[file.name] = LINKED
            return candidates[0] if candidates else None
        good = [file for file in candidates if file.sha256 == expected]
        others = [file for file in candidates if file.sha256 != expected]
        for file in good:
            self._report.states[file.name] = PROVEN if self._ledger is not None else LINKED
        if good:
            self._say_fork(number, others, good)
            return good[0]
        for file in others:
            self._say_edited(file, expected, "the document after it")
        return None

    def _of_ledger(self, entry: Entry) -> File | None:
        file = self._by_name.get(entry.name)
        numbered = self._numbered.get(entry.number, [])
        self._say_fork(entry.number, [f for f in numbered if f.sha256 != entry.sha256 and f is not file])
        for copy in numbered:
            if copy.sha256 == entry.sha256:
                self._report.states[copy.name] = PROVEN
        same = file if file is not None and file.sha256 == entry.sha256 else self._by_hash.get(entry.sha256)
        if same is not None:
            if same.name != entry.name:
                self._add(
                    "renamed",
                    WARNING,
                    same.name,
                    f"it was written as {entry.name}, and its content is as it was",
                    "Give it its name back",
                )
            return same
        if file is not None:
            self._say_edited(file, entry.sha256, "the cluster's ledger")
        else:
            self._say_missing(entry)
        return None

    # -- words -------------------------------------------------------------------------------------------------------

    def _add(self, code: str, severity: str, where: str, what: str, next: str) -> None:
        self._report.findings.append(Finding(code, severity, where, what, next))

    def _say_missing(self, entry: Entry) -> None:
        newest = entry.number == self._head
        title = "the newest document" if newest else f"document {entry.number} of {self._head}"
        if entry.host and self._host and entry.host != self._host:
            self._add(
                "elsewhere",
                INFO,
                entry.name,
                f"{title}, not here: {entry.host} has written it",
                f"Copy it from there to check it: its SHA-256 has to be {entry.sha256}",
            )
            return
        self._add(
            "newest-removed" if newest else "missing",
            ERROR,
            entry.name,
            f"{title}, of the release {entry.release}, is not there any more",
            f"Restore it from a backup: its SHA-256 has to be {entry.sha256}",
        )

    def _say_gap(self, gap: Sequence[tuple[int, str]]) -> None:
        """Documents that are older than what the ledger remembers, so that nobody knows their hosts."""
        others = {entry.host for entry in self._entries.values()} - {self._host, ""}
        for number, name in gap:
            self._add(
                "missing",
                WARNING if others else ERROR,
                name or f"document {number}",
                f"document {number} of {self._report.top} is not here; older ones cannot be proven without it",
                "Restore it from a backup, or copy it from the control host that has written it",
            )

    def _say_edited(self, file: File, expected: str, by: str) -> None:
        self._report.states[file.name] = EDITED
        self._add(
            "edited",
            ERROR,
            file.name,
            f"it is not as it was written: its SHA-256 is {file.sha256[:12]}…, and {by} says {expected[:12]}…",
            "Restore it from a backup, and keep the edited one to see what was changed",
        )

    def _say_fork(self, number: int, others: Sequence[File], right: Sequence[File] = ()) -> None:
        for file in others:
            self._report.states[file.name] = UNKNOWN
            than = f" beside {right[0].name}" if right else ""
            self._add(
                "fork",
                ERROR,
                file.name,
                f"it says that it is document {number}{than}, and is not the one that the chain goes on from",
                "Look who has put it there, and move it away",
            )

    def _say_unknown(self, files: Sequence[File]) -> None:
        for file in files:
            self._report.states[file.name] = UNKNOWN
            self._add(
                "unknown",
                ERROR,
                file.name,
                f"it says that it is document {file.number}, and the cluster's head is document {self._head}",
                "Either somebody made it, or the ConfigMap was set back: compare both with copies kept elsewhere",
            )
