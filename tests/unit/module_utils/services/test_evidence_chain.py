# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documents on their way into the chain: killed anywhere, raced, of two clusters and hosts; and the chain looked at."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import CONFIG_MAP
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Conflict, Forbidden, Unreachable
from ansible_collections.lumen.airgap.plugins.module_utils.engines.evidence_chain import Report, digest
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services import evidence_chain as service
from ansible_collections.lumen.airgap.plugins.module_utils.services.evidence_chain import (
    Store,
    Written,
    append,
    documents,
    inspect,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession

APP, NAMESPACE, HOST = "api", "lumen", "control-1"
HERE, THERE = "https://here:6443", "https://there:6443"


class Killed(BaseException):
    """The process is gone."""


class Site:
    """A cluster, and a control host with its directory."""

    def __init__(self, path: Path, server: str = HERE) -> None:
        self.session = FakeSession()
        self.session.server = server
        self.path = path

    def append(self, number: int, directory: Path | None = None, host: str = HOST, **changes: Any) -> Written:
        evidence = {"release": f"api-v{number}-{number}", "app": APP, "namespace": NAMESPACE, **changes}
        return append(Store(self.session, NAMESPACE, APP), str(directory or self.path), evidence, host)

    def found(self, directory: Path | None = None, host: str = HOST) -> tuple[Report, list[dict[str, Any]]]:
        return inspect(str(directory or self.path), APP, NAMESPACE, Store(self.session, NAMESPACE, APP), host)

    def head(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.session.get(CONFIG_MAP, "api-evidence", NAMESPACE)["data"]["head"])
        return found

    def files(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "reports")


@pytest.fixture
def other(site: Site) -> Site:
    """Another cluster of the same fleet: the same control host, the same directory."""
    return Site(site.path, THERE)


def killed(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, before: bool = True) -> Callable[[], None]:
    """Killed at the next call of ``target.name``, before or after it; returns what brings it back to life."""
    real = getattr(target, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        if not before:
            real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(target, name, call)
    return lambda: monkeypatch.setattr(target, name, real)


def test_each_names_the_one_before(site: Site) -> None:
    first, second = site.append(1), site.append(2)
    assert (first.changed, second.changed) == (True, True)
    content = Path(first.path).read_bytes()
    assert json.loads(content) == first.document
    assert second.document["chain"] == {
        "id": first.document["chain"]["id"],
        "number": 2,
        "previous": digest(content),
        "previous_name": "api-v1-1.json",
        "cluster": HERE,
    }
    assert site.head() == {
        "number": 2,
        "name": "api-v2-2.json",
        "sha256": digest(Path(second.path).read_bytes()),
        "release": "api-v2-2",
        "host": HOST,
        "outcome": "",
    }
    assert os.stat(second.path).st_mode & 0o777 == 0o644
    assert site.files() == ["api-v1-1.json", "api-v2-2.json"]
    report, found = site.found()
    assert report.line == "intact: 2 of 2 documents here fit, the newest is api-v2-2.json"
    assert [(each["name"], each["state"]) for each in found] == [
        ("api-v1-1.json", "proven"),
        ("api-v2-2.json", "proven"),
    ]


def test_a_release_has_one_document(site: Site) -> None:
    first = site.append(1, reason="a")
    site.append(2)
    again = site.append(1, reason="b")
    assert (again.changed, again.path, again.document) == (False, first.path, first.document)
    assert site.head()["number"] == 2


def test_a_release_that_ends_otherwise_after_all_has_one_more(site: Site) -> None:
    """Its failure was written, its run killed before the record had it; the next run took it up and promoted it."""
    failed = site.append(1, outcome="failed")
    promoted = site.append(1, outcome="promoted")
    assert (failed.document["outcome"], promoted.document["outcome"]) == ("failed", "promoted")
    assert promoted.document["chain"]["previous_name"] == "api-v1-1.json"
    assert site.files() == ["api-v1-1.json", "api-v1-2.json"]
    assert not site.append(1, outcome="promoted").changed
    assert site.found()[0].findings == []


@pytest.mark.parametrize("name", ["write", "link"])
def test_what_a_killed_run_said_does_not_outlive_the_truth(
    name: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    revive = killed(monkeypatch, service.Store if name == "write" else service.os, name)
    with pytest.raises(Killed):
        site.append(1, outcome="failed")
    revive()
    made = site.append(1, outcome="promoted")
    assert made.document["outcome"] == "promoted"
    assert made.document["chain"]["number"] == (1 if name == "write" else 2)
    assert site.found()[0].findings == []
    assert site.head()["outcome"] == "promoted"


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    ("target", "name", "before"),
    [
        (service.Node, "write", True),
        (service.Node, "write", False),
        (service, "_sync", False),
        (service.os, "symlink", True),
        (service.os, "symlink", False),
        (service.Store, "write", True),
        (service.Store, "write", False),
        (service.os, "link", True),
        (service.os, "link", False),
        (service.Node, "remove", True),
        (service.Node, "remove", False),
    ],
)
def test_killed_anywhere_the_next_run_ends_it(
    number: int, target: Any, name: str, before: bool, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    if number == 2:
        site.append(1)
    revive = killed(monkeypatch, target, name, before)
    with pytest.raises(Killed):
        site.append(number, reason="first run")
    revive()
    intact = site.found()[0].line
    made = site.append(number, reason="second run")
    assert site.files() == [f"api-v{each}-{each}.json" for each in range(1, number + 1)]
    assert json.loads(Path(made.path).read_bytes()) == made.document
    assert site.head()["sha256"] == digest(Path(made.path).read_bytes())
    written = name == "write" and before and target is service.Node
    assert made.document["reason"] == ("second run" if written else "first run")
    assert site.found()[0].findings == []
    assert intact.startswith("intact") or site.head()["number"] == number
    assert not site.append(number).changed
    assert site.append(number + 1).document["chain"]["number"] == number + 1
    assert site.found()[0].intact


def test_what_a_killed_run_has_left_is_written_anew_when_others_went_before(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    revive = killed(monkeypatch, service.Store, "write")
    with pytest.raises(Killed):
        site.append(1)
    revive()
    site.append(2)
    made = site.append(1)
    assert made.document["chain"]["number"] == 2
    assert site.files() == ["api-v1-1.json", "api-v2-2.json"]
    assert site.found()[0].findings == []


def test_two_at_once_come_one_after_the_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is faster between reading the head and moving it."""
    real, raced = Store.write, []

    def write(store: Store, ledger: Any) -> None:
        if not raced:
            raced.append(True)
            site.append(2)
        real(store, ledger)

    monkeypatch.setattr(Store, "write", write)
    assert site.append(1).document["chain"]["number"] == 2
    assert site.head()["name"] == "api-v1-1.json"
    assert site.found()[0].findings == []


def during(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, what: Callable[[], object]) -> None:
    """Before the next call of ``target.name``, ``what`` is done."""
    real = getattr(target, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(target, name, real)
        what()
        return real(*args, **kwargs)

    monkeypatch.setattr(target, name, call)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    ("target", "name"),
    [(service.Node, "write"), (service.os, "symlink"), (service.Store, "write"), (service.os, "link")],
)
def test_two_clusters_at_once_have_a_document_each(
    number: int, target: Any, name: str, site: Site, other: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Released together, they have the same id of the release."""
    if number == 2:
        site.append(1, reason="here")
        other.append(1, reason="there")
    made: list[Written] = []
    during(monkeypatch, target, name, lambda: made.append(other.append(number, reason="there")))
    made.append(site.append(number, reason="here"))
    for each, reason in zip(made, ("there", "here"), strict=True):
        assert (each.changed, each.document["reason"], each.warnings) == (True, reason, [])
        assert json.loads(Path(each.path).read_bytes()) == each.document
    assert len(site.files()) == 2 * number
    for cluster in (site, other):
        report, found = cluster.found()
        assert report.findings == []
        assert [each["state"] for each in found] == ["proven"] * number


@pytest.mark.parametrize(("target", "name"), [(service.os.path, "lexists"), (service.os, "symlink")])
def test_a_name_that_another_cluster_reserves_at_the_last_moment(
    target: Any, name: str, site: Site, other: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reserve() -> None:
        revive = killed(monkeypatch, service.Store, "write")
        with pytest.raises(Killed):
            other.append(1, reason="there")
        revive()

    during(monkeypatch, target, name, reserve)
    here, there = site.append(1, reason="here"), other.append(1, reason="second run")
    assert (here.document["reason"], there.document["reason"]) == ("here", "there")
    assert (Path(here.path).name, Path(there.path).name) == ("api-v1-2.json", "api-v1-1.json")
    assert len(site.files()) == 2
    assert site.found()[0].findings == other.found()[0].findings == []


@pytest.mark.parametrize(
    ("target", "name"),
    [(service.os, "symlink"), (service.Store, "write"), (service.os, "link"), (service.Node, "remove")],
)
def test_what_a_killed_run_has_left_is_its_own_clusters(
    target: Any, name: str, site: Site, other: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    revive = killed(monkeypatch, target, name)
    with pytest.raises(Killed):
        site.append(1, reason="here")
    revive()
    there = other.append(1, reason="there")
    assert there.document["reason"] == "there"
    here = site.append(1, reason="second run")
    assert here.document["reason"] == "here"
    assert site.files() == ["api-v1-1.json", "api-v1-2.json"]
    assert site.found()[0].findings == other.found()[0].findings == []


def test_the_clusters_of_a_fleet_have_nothing_to_say_of_each_other(site: Site, other: Site) -> None:
    for number in (1, 2):
        assert [each.append(number).warnings for each in (site, other)] == [[], []]
    assert Path(other.append(2).path).name == "api-v2-3.json"
    for cluster in (site, other):
        report, found = cluster.found()
        assert report.line.startswith("intact: 2 of 2 documents here fit")
        assert (report.findings, len(found)) == ([], 2)
    # A third one that has not released yet has lost nothing.
    assert Site(site.path, "https://third:6443").found()[0].findings == []
    # What is missed of one is missed by that one.
    (site.path / "api-v2-3.json").unlink()
    assert [each.code for each in other.found()[0].findings] == ["newest-removed"]
    assert site.found()[0].findings == []


def test_a_head_that_was_deleted_shows_in_a_fleet(site: Site, other: Site) -> None:
    site.append(1)
    other.append(1)
    site.session.remove(CONFIG_MAP, "api-evidence", NAMESPACE)
    (missing,) = site.found()[0].findings
    assert (missing.code, missing.what) == ("head-missing", "it keeps no head, but 1 document of a chain are here")
    assert "(api-v1-1.json): a new chain begins" in site.append(2).warnings[0]
    (left,) = site.found()[0].findings
    assert (left.code, left.where) == ("other-chain", "api-v1-1.json")


def unsaid(path: Path, site: Site) -> bytes:
    """The newest document of a site as it was written before documents said their cluster."""
    document = json.loads(path.read_bytes())
    del document["chain"]["cluster"]
    content = service.as_bytes(document)
    data = site.session.get(CONFIG_MAP, "api-evidence", NAMESPACE)["data"]
    head = {**json.loads(data["head"]), "sha256": digest(content)}
    ledger = json.loads(data["ledger"])
    ledger["entries"][0] = head
    changed = {"head": json.dumps(head), "ledger": json.dumps(ledger)}
    site.session.edit(CONFIG_MAP, "api-evidence", NAMESPACE, {"data": changed})
    return content


def test_documents_of_before_are_checked_as_they_were(site: Site, other: Site) -> None:
    for each in (site, other):
        path = Path(each.append(1).path)
        path.write_bytes(unsaid(path, each))
    # Whose it is, only a later document of its chain says.
    assert [each.code for each in site.found()[0].findings] == ["other-chain"]
    other.append(2)
    assert site.found()[0].findings == []
    site.append(2)
    assert site.found()[0].line == "intact: 2 of 2 documents here fit, the newest is api-v2-3.json"
    (site.path / "api-v1-1.json").unlink()
    assert [(each.code, each.where) for each in site.found()[0].findings] == [("missing", "api-v1-1.json")]
    assert other.found()[0].findings == []


def test_what_was_pending_by_the_name_of_before_gets_its_own(site: Site) -> None:
    path = Path(site.append(1, reason="first run").path)
    content = unsaid(path, site)
    path.unlink()
    (site.path / ".api-v1-1.json.pending").write_bytes(content)
    assert site.append(1, reason="second run").document["reason"] == "first run"
    assert site.files() == ["api-v1-1.json"]
    assert site.found()[0].findings == []


def test_an_answer_that_was_lost(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Store.write

    def write(store: Store, ledger: Any) -> None:
        real(store, ledger)
        raise Unreachable("replace: no answer")

    monkeypatch.setattr(Store, "write", write)
    with pytest.raises(Unreachable):
        site.append(1)
    monkeypatch.setattr(Store, "write", real)
    assert site.append(1).document["chain"]["number"] == 1
    assert site.files() == ["api-v1-1.json"]
    assert site.head()["number"] == 1


def test_others_that_never_stop(site: Site) -> None:
    site.append(1)
    site.session.fail_next("replace", Conflict("modified", status=409), times=99)
    with pytest.raises(AirgapError, match="ConfigMap lumen/api-evidence: others change it all the time"):
        site.append(2)


def test_two_control_hosts(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "other"
    first = site.append(1)
    site.append(2, other, "control-2")
    site.append(3)
    report, found = site.found()
    assert [(each.code, each.where) for each in report.findings] == [("elsewhere", "api-v2-2.json")]
    assert report.intact
    assert [each["state"] for each in found] == ["proven", "proven"]
    again = site.append(2)
    assert (again.path, again.changed) == ("", False)
    assert again.document["chain"] == {"id": first.document["chain"]["id"], "number": 2, "cluster": HERE}
    assert again.warnings == ["The document of api-v2-2 is on control-2, which has written it as api-v2-2.json"]
    assert site.files() == ["api-v1-1.json", "api-v3-3.json"]


def test_what_was_edited_or_removed_is_not_written_again(site: Site) -> None:
    made = site.append(1)
    Path(made.path).write_text("{}")
    again = site.append(1)
    assert (again.path, again.changed) == ("", False)
    assert "is not as it was written: its SHA-256 has to be" in again.warnings[0]
    assert Path(made.path).read_text() == "{}"
    assert [(each.code, each.where) for each in site.found()[0].findings] == [("edited", "api-v1-1.json")]
    Path(made.path).unlink()
    assert "is not there any more" in site.append(1).warnings[0]
    assert [each.code for each in site.found()[0].findings] == ["newest-removed"]


def test_a_head_that_was_deleted_begins_a_chain_that_shows(site: Site) -> None:
    site.append(1)
    site.session.remove(CONFIG_MAP, "api-evidence", NAMESPACE)
    assert [each.code for each in site.found()[0].findings] == ["head-missing"]
    made = site.append(2)
    assert made.document["chain"]["number"] == 1
    assert "a new chain begins" in made.warnings[0]
    assert [each.code for each in site.found()[0].findings] == ["other-chain"]


def test_a_head_that_cannot_be_read(site: Site) -> None:
    site.append(1)
    site.session.edit(CONFIG_MAP, "api-evidence", NAMESPACE, {"data": {"ledger": "{"}})
    with pytest.raises(AirgapError, match="does not say where the chain of evidence ends"):
        site.append(2)
    report, _found = site.found()
    assert [(each.code, each.severity) for each in report.findings] == [("head-unreadable", "error")]
    assert not report.intact
    site.session.fail_next("find", Forbidden("get ConfigMap: forbidden", status=403))
    report, _found = site.found()
    assert [(each.code, each.what) for each in report.findings] == [("head-unreached", "get ConfigMap: forbidden")]
    assert (report.intact, report.line.partition(":")[0]) == (False, "NOT CHECKED")


def test_a_name_that_is_taken_is_left_alone(site: Site) -> None:
    site.path.mkdir()
    (site.path / "api-v1-1.json").write_text('{"app": "api", "namespace": "lumen", "release": "api-v1-1"}')
    assert site.append(1).path.endswith("/api-v1-2.json")
    assert [each.code for each in site.found()[0].findings] == ["not-chained"]


def test_files_of_others_are_left_alone(site: Site) -> None:
    assert documents(str(site.path), APP, NAMESPACE) == []
    site.append(1)
    (site.path / "web-v1-1.json").write_text('{"app": "web", "namespace": "lumen"}')
    (site.path / "there.json").write_text('{"app": "api", "namespace": "elsewhere"}')
    (site.path / "notes.json").write_text("no JSON")
    (site.path / "folder.json").mkdir()
    assert [file.name for file in documents(str(site.path), APP, NAMESPACE)] == ["api-v1-1.json"]
    assert len(documents(str(site.path), APP, "")) == 2


def test_a_directory_that_is_a_file(site: Site) -> None:
    site.path.write_text("")
    with pytest.raises(AirgapError, match="Not a directory"):
        site.append(1)
    with pytest.raises(AirgapError, match="cannot be read"):
        site.found()


def test_a_name_that_is_taken_at_the_last_moment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Store.write

    def write(store: Store, ledger: Any) -> None:
        real(store, ledger)
        (site.path / "api-v1-1.json").mkdir()

    monkeypatch.setattr(Store, "write", write)
    with pytest.raises(AirgapError, match="Make room for it, and run this again"):
        site.append(1)
    (site.path / "api-v1-1.json").rmdir()
    assert site.append(1).changed


def test_a_document_that_waits_for_its_name_is_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    during(monkeypatch, service.os, "link", lambda: (site.path / "api-v1-1.json").write_text("{}"))
    for _run in range(2):
        with pytest.raises(AirgapError, match="Make room for it, and run this again"):
            site.append(1, reason="kept")
    (site.path / "api-v1-1.json").unlink()
    assert site.append(1).document["reason"] == "kept"
    assert site.files() == ["api-v1-1.json"]


def test_a_mark_that_is_none_of_ours_reserves_its_name(site: Site) -> None:
    site.path.mkdir()
    (site.path / ".api-v1-1.json.reserved").write_text("somebody")
    assert Path(site.append(1).path).name == "api-v1-2.json"
