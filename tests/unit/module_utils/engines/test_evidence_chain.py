# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The chain: what is told of each way to tamper with it, and of what is no tampering."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines import evidence_chain
from ansible_collections.lumen.airgap.plugins.module_utils.engines.evidence_chain import (
    Entry,
    File,
    Ledger,
    LedgerError,
    Report,
    digest,
    fits,
    of_cluster,
    read_file,
    read_ledger,
    verify,
)

HOST, OTHER = "control-1", "control-2"
HERE, THERE = "https://here:6443", "https://there:6443"


class Chain:
    """Some documents, and the ledger that knows them."""

    def __init__(self, count: int, hosts: Callable[[int], str] = lambda _number: HOST) -> None:
        self.ledger = Ledger("chain-a")
        self.files: dict[str, bytes] = {}
        for number in range(1, count + 1):
            name = f"api-{number}.json"
            self.files[name] = json.dumps({"release": f"api-{number}", "chain": self.ledger.link()}).encode()
            entry = Entry(number, name, digest(self.files[name]), f"api-{number}", hosts(number))
            self.ledger = self.ledger.appended(entry)

    def edit(self, number: int, **changes: Any) -> None:
        document = {**self.document(number), **changes}
        self.files[f"api-{number}.json"] = json.dumps(document).encode()

    def document(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.files[f"api-{number}.json"])
        return found

    def remove(self, number: int) -> None:
        del self.files[f"api-{number}.json"]

    def found(self, **options: Any) -> Report:
        files = [read_file(name, content) for name, content in self.files.items()]
        return verify(options.pop("ledger", self.ledger), files, HOST, **options)


def told(report: Report) -> list[tuple[str, str, str]]:
    return [(finding.code, finding.severity, finding.where) for finding in report.findings]


@pytest.fixture(autouse=True)
def short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three documents are known by name, the others by links alone."""
    monkeypatch.setattr(evidence_chain, "REMEMBERED", 3)


def test_what_was_left_alone_is_intact() -> None:
    report = Chain(6).found()
    assert (told(report), report.intact) == ([], True)
    assert set(report.states.values()) == {"proven"}
    assert report.line == "intact: 6 of 6 documents here fit, the newest is api-6.json"
    assert report.text == [report.line]


def test_nothing_yet() -> None:
    assert verify(None, [], HOST).line == "intact: no document in the chain yet"
    assert Chain(0).found().intact


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
def test_an_edited_one_shows(number: int) -> None:
    chain = Chain(6)
    chain.edit(number, outcome="promoted")
    report = chain.found()
    assert ("edited", "error", f"api-{number}.json") in told(report)
    assert report.states[f"api-{number}.json"] == "edited"
    assert not report.intact
    assert report.line.startswith(f"BROKEN: api-{number}.json: it is not as it was written: its SHA-256 is ")


def test_another_space_is_an_edit_too() -> None:
    chain = Chain(2)
    chain.files["api-1.json"] += b"\n"
    assert told(chain.found()) == [("edited", "error", "api-1.json")]


@pytest.mark.parametrize("number", [4, 5])
def test_a_missing_one_is_told_by_name(number: int) -> None:
    chain = Chain(6)
    chain.remove(number)
    report = chain.found()
    assert told(report) == [("missing", "error", f"api-{number}.json")]
    assert f"document {number} of 6, of the release api-{number}" in report.findings[0].what
    assert digest(Chain(6).files[f"api-{number}.json"]) in report.findings[0].next


@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_that_is_older_than_the_memory_is_told_by_the_links(number: int) -> None:
    chain = Chain(6)
    chain.remove(number)
    assert told(chain.found()) == [("missing", "error", f"api-{number}.json")]


def test_of_a_gap_every_number_is_told() -> None:
    chain = Chain(6)
    chain.remove(2)
    chain.remove(3)
    report = chain.found()
    assert told(report) == [("missing", "error", "api-3.json"), ("missing", "error", "document 2")]
    assert report.states["api-1.json"] == "linked"


def test_the_newest_removed_shows() -> None:
    chain = Chain(6)
    chain.remove(6)
    assert told(chain.found()) == [("newest-removed", "error", "api-6.json")]
    chain.remove(5)
    assert told(chain.found()) == [("newest-removed", "error", "api-6.json"), ("missing", "error", "api-5.json")]
    chain.files.clear()
    assert told(chain.found())[0] == ("newest-removed", "error", "api-6.json")
    assert not chain.found().intact


def test_what_another_host_has_written_is_not_missed() -> None:
    chain = Chain(6, lambda number: OTHER if number % 2 else HOST)
    for number in (1, 3, 5):
        chain.remove(number)
    report = chain.found()
    assert told(report) == [
        ("elsewhere", "info", "api-5.json"),
        ("missing", "warning", "api-3.json"),
        ("missing", "warning", "api-1.json"),
    ]
    assert report.intact
    assert report.line.startswith("intact, but see: api-3.json: document 3 of 6 is not here")


def test_one_that_was_put_there_shows() -> None:
    chain = Chain(3)
    chain.files["api-x.json"] = json.dumps({"chain": {"id": "chain-a", "number": 2, "previous": "a"}}).encode()
    chain.files["api-y.json"] = json.dumps({"chain": {"id": "chain-a", "number": 9, "previous": "a"}}).encode()
    chain.files["api-z.json"] = json.dumps({"chain": {"id": "chain-a", "number": 0, "previous": "a"}}).encode()
    report = chain.found()
    assert sorted(told(report)) == [
        ("fork", "error", "api-x.json"),
        ("unknown", "error", "api-y.json"),
        ("unknown", "error", "api-z.json"),
    ]
    assert report.states["api-x.json"] == "unknown"


def test_a_fork_among_the_old_shows() -> None:
    chain = Chain(6)
    chain.files["api-x.json"] = json.dumps({**chain.document(2), "outcome": "promoted"}).encode()
    assert told(chain.found()) == [("fork", "error", "api-x.json")]


def test_a_ledger_that_was_set_back_shows() -> None:
    chain = Chain(6)
    before = Ledger("chain-a", chain.ledger.entries[1:])
    assert told(chain.found(ledger=before)) == [("unknown", "error", "api-6.json")]


def test_a_ledger_that_was_changed_with_a_document_shows() -> None:
    """Who edits a document, and its hash in the ledger, has left the hash in the document after it."""
    chain = Chain(6)
    chain.edit(5, outcome="promoted")
    changed = digest(chain.files["api-5.json"])
    entries = tuple(each._replace(sha256=changed) if each.number == 5 else each for each in chain.ledger.entries)
    report = chain.found(ledger=Ledger("chain-a", entries))
    assert told(report) == [("link", "error", "api-5.json")]


def test_a_ledger_that_was_deleted_shows() -> None:
    report = Chain(3).found(ledger=None)
    assert told(report) == [("head-missing", "error", "the cluster")]


def test_documents_of_a_chain_before_show() -> None:
    report = Chain(3).found(ledger=Ledger("chain-b"))
    assert told(report) == [("other-chain", "warning", "api-1.json and 2 more")]


def said(name: str, chain: str, cluster: str | None, number: int = 1) -> File:
    link = {**Ledger(chain).link(), "number": number, **({"cluster": cluster} if cluster else {})}
    return read_file(name, json.dumps({"chain": link}).encode())


def test_a_chain_of_another_cluster_is_none_of_this_one() -> None:
    files = [
        said("own.json", "a", HERE),
        said("own-before.json", "b", HERE),
        said("old.json", "c", None),
        said("there.json", "d", THERE),
        said("there-old.json", "d", None),  # a document after it says whose they are
        File("half.json", "x", None, "it is not JSON"),
        read_file("alone.json", b"{}"),
    ]
    left = {file.name for file in files} - {"there.json", "there-old.json"}
    for ledger in (None, Ledger("a")):
        assert {file.name for file in of_cluster(files, ledger, HERE)} == left


def test_nobody_hides_a_document_by_what_it_says_of_its_cluster() -> None:
    files = [said("1.json", "a", HERE), said("2.json", "a", THERE, 2)]
    assert of_cluster(files, None, HERE) == files
    # The cluster has another address than when they were written.
    assert of_cluster(files[1:], Ledger("a"), HERE) == files[1:]
    # Another chain's identity as well: the ledger knows its name.
    ledger = Ledger("b", (Entry(2, "2.json", "x", "2", HOST),))
    assert of_cluster(files[1:], ledger, HERE) == files[1:]


def test_without_a_cluster_the_links_alone_are_held() -> None:
    chain = Chain(4)
    chain.remove(4)
    assert told(chain.found(ledger=None, asked=False)) == [("head-unknown", "info", "the newest document")]
    chain.edit(2, outcome="promoted")
    assert ("edited", "error", "api-2.json") in told(chain.found(ledger=None, asked=False))
    chain.remove(2)
    assert ("missing", "error", "api-2.json") in told(chain.found(ledger=None, asked=False))


def test_a_renamed_one_is_itself_and_a_copy_is_one_too() -> None:
    chain = Chain(3)
    chain.files["api-copy.json"] = chain.files["api-2.json"]
    assert told(chain.found()) == []
    chain.remove(2)
    assert told(chain.found()) == [("renamed", "warning", "api-copy.json")]


def test_what_is_no_document() -> None:
    chain = Chain(2)
    chain.files["api-old.json"] = b'{"release": "api-old"}'
    chain.files["api-half.json"] = b'{"release": '
    chain.files["api-list.json"] = b"[]"
    report = chain.found()
    assert sorted(told(report)) == [
        ("not-chained", "info", "api-old.json"),
        ("unreadable", "warning", "api-half.json"),
        ("unreadable", "warning", "api-list.json"),
    ]
    chain.files["api-2.json"] = b"\xff"
    assert ("edited", "error", "api-2.json") in told(chain.found())


def test_the_first_one_has_none_before_it() -> None:
    chain = Chain(0)
    content = json.dumps({"chain": {"id": "chain-a", "number": 1, "previous": "a" * 64}}).encode()
    chain.files["api-1.json"] = content
    ledger = Ledger("chain-a").appended(Entry(1, "api-1.json", digest(content), "api-1", HOST))
    assert told(chain.found(ledger=ledger)) == [("link", "error", "api-1.json")]


def test_a_ledger_is_written_and_read() -> None:
    ledger = Chain(6).ledger
    assert [entry.number for entry in ledger.entries] == [6, 5, 4]
    assert read_ledger(ledger.as_data()) == ledger
    assert json.loads(ledger.as_data()["head"])["name"] == "api-6.json"
    assert read_ledger(Ledger("a").as_data()) == Ledger("a")
    without = {
        key: text.replace(', "outcome": ""', "").replace(',"outcome":""', "") for key, text in ledger.as_data().items()
    }
    assert "outcome" not in without["ledger"]
    assert read_ledger(without) == ledger
    assert ledger.of("api-5") == ledger.entries[1]
    assert ledger.of("api-1") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("ledger"),
        lambda data: data.update(ledger="{"),
        lambda data: data.update(ledger="[]"),
        lambda data: data.update(ledger='{"id": "", "entries": []}', head="{}"),
        lambda data: data.update(ledger='{"id": 1, "entries": []}', head="{}"),
        lambda data: data.update(ledger=data["ledger"].replace('"number":5', '"number":3')),
        lambda data: data.update(ledger=data["ledger"].replace('"number":5', '"number":"5"')),
        lambda data: data.update(ledger=data["ledger"].replace('"outcome":""', '"outcome":1')),
        lambda data: data.update(head="{}"),
    ],
)
def test_another_ledger_is_refused(change: Callable[[dict[str, str]], Any]) -> None:
    data = Chain(6).ledger.as_data()
    change(data)
    with pytest.raises(LedgerError):
        read_ledger(data)


def test_what_fits() -> None:
    ledger = Chain(2).ledger
    assert fits(ledger.link(), ledger)
    assert not fits({**ledger.link(), "previous": "a"}, ledger)
    assert not fits({**ledger.link(), "id": "chain-b"}, ledger)
    assert fits(Ledger("any").link(), None)
    assert not fits(ledger.link(), None)
    assert not fits(None, None)
    assert not fits({"id": "a", "number": True, "previous": ""}, None)


def test_a_file_without_a_link_has_no_number() -> None:
    assert (File("a", "b", {"chain": "x"}).number, File("a", "b", None).chain) == (0, {})
