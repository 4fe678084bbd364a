# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The document, its lines, and the file."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.evidence import build, ran_by, text, write
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import EPOCH


def release(**changes: Any) -> dict[str, Any]:
    return {
        "id": "api-v1-1",
        "run": "r1",
        "app": "api",
        "namespace": "lumen",
        "version": "v1",
        "started_at": "2026-01-01T00:00:00Z",
        "finished_at": "2026-01-01T00:02:00Z",
        "resumed": False,
        "phase": "promoted",
        "outcome": "promoted",
        "reason": None,
        "journal": [
            {"phase": "acquired", "at": "2026-01-01T00:00:00Z", "run": "r1"},
            {"phase": "pushed", "at": "2026-01-01T00:00:30Z", "run": "r1", "digest": "sha256:1", "bytes": 7},
            {"phase": "canary_step", "at": "2026-01-01T00:01:10Z", "run": "r1"},
            {"phase": "promoted", "at": "2026-01-01T00:02:00Z", "run": "r1"},
        ],
        **changes,
    }


def canary(**changes: Any) -> dict[str, Any]:
    return {
        "outcome": "promoted",
        "driver": "rollout",
        "reason": "",
        "image": "reg/api:v1",
        "started_at": "2026-01-01T00:01:00Z",
        "finished_at": "2026-01-01T00:01:50Z",
        "steps": [{"index": 0, "kind": "setWeight", "weight": 20}],
        "measurements": [{"run": "x", "metric": "m", "value": "[1]", "phase": "Successful"}],
        "timeline": [
            {"at": "2026-01-01T00:01:00Z", "text": "weight 20"},
            {"at": "2026-01-01T00:01:50Z", "text": "Healthy"},
        ],
        "verified": {"hash": "abc", "endpoints": {"api": ["api-1"]}, "digests": []},
        **changes,
    }


def test_what_git_has_said_and_when_it_went_back() -> None:
    journal = [
        {"phase": "pushed", "at": "2026-01-01T00:00:09Z", "text": "pushed", "pipeline": {"url": "http://gitea/1"}},
        {"phase": "bumped", "at": "2026-01-01T00:00:10Z", "commit": "b1"},
        {
            "phase": "canary_started",
            "at": "2026-01-01T00:00:11Z",
            "text": "canary",
            "stable_image": "r/app:v0",
            "stable_hash": "5f7d",
        },
        {"phase": "reverted", "at": "2026-01-01T00:03:00Z", "commit": "b2", "text": "Git is back"},
    ]
    ended = {"finished_at": "2026-01-01T00:02:00Z", "outcome": "rolled_back", "verified": {"hash": "abc"}}
    document = build(release(outcome=None, finished_at=None, journal=journal), ended, EPOCH)
    assert document["git"] == {"bump": "b1", "revert": "b2"}
    assert document["before"] == {"image": "r/app:v0", "hash": "5f7d"}
    assert document["pipeline"] == {"url": "http://gitea/1"}
    assert document["finished_at"] == "2026-01-01T00:03:00Z"
    assert document["timeline"][-1]["text"] == "Git is back"


def test_a_promoted_release() -> None:
    who, scan = {"user": "deploy", "host": "control-1"}, {"CRITICAL": 0, "HIGH": 1}
    document = build(release(), canary(), EPOCH, digest="sha256:1", commit="4be01c9", who=who, scan=scan)
    assert document == {
        "release": "api-v1-1",
        "app": "api",
        "namespace": "lumen",
        "version": "v1",
        "outcome": "promoted",
        "reason": "",
        "driver": "rollout",
        "started_at": "2026-01-01T00:00:00Z",
        "finished_at": "2026-01-01T00:02:00Z",
        "image": "reg/api:v1",
        "digest": "sha256:1",
        "commit": "4be01c9",
        "pipeline": {},
        "git": {},
        "before": {},
        "who": who,
        "scan": scan,
        "steps": canary()["steps"],
        "by_hand": [],
        "measurements": canary()["measurements"],
        "conditions": {},
        "pods": [],
        "timeline": [
            {"at": "2026-01-01T00:00:00Z", "text": "acquired"},
            {"at": "2026-01-01T00:00:30Z", "text": "pushed: digest sha256:1, bytes 7"},
            {"at": "2026-01-01T00:01:00Z", "text": "weight 20"},
            {"at": "2026-01-01T00:01:50Z", "text": "Healthy"},
            {"at": "2026-01-01T00:02:00Z", "text": "promoted"},
        ],
        "verified": {"hash": "abc", "endpoints": {"api": ["api-1"]}, "digests": []},
        "chain": {},
    }


def test_who_releases_may_be_said() -> None:
    here = ran_by(None)
    assert here["user"]
    assert here["host"]
    assert ran_by({"user": "deploy", "host": None}) == {"user": "deploy", "host": here["host"]}


def test_lines_are_aligned_and_count_from_the_start() -> None:
    document = build(release(), canary(reason="all checks passed"), EPOCH)
    document["timeline"].append({"at": "2026-01-01T00:12:00Z", "text": "late"})
    assert text(document) == [
        "api v1: promoted after 2:00 (api-v1-1)",
        "reason: all checks passed",
        "   0:00  acquired",
        "   0:30  pushed: digest sha256:1, bytes 7",
        "   1:00  weight 20",
        "   1:50  Healthy",
        "   2:00  promoted",
        "  12:00  late",
    ]


def test_a_journal_entry_may_bring_its_own_words() -> None:
    journal = [{"phase": "pushed", "at": "2026-01-01T00:00:30Z", "run": "r1", "text": "3 tags pushed", "bytes": 7}]
    assert build(release(journal=journal), {}, EPOCH)["timeline"] == [
        {"at": "2026-01-01T00:00:30Z", "text": "3 tags pushed"}
    ]


def test_a_task_that_failed_before_the_canary() -> None:
    document = build(release(outcome=None, finished_at=None), {"failed": True, "msg": "registry down"}, EPOCH + 60)
    assert (document["outcome"], document["reason"]) == ("failed", "registry down")
    assert document["finished_at"] == "2026-01-01T00:01:00Z"
    assert (document["steps"], document["measurements"], document["verified"]) == ([], [], {})
    assert document["driver"] == "rollout"


@pytest.mark.parametrize(
    ("claimed", "verified", "outcome"),
    [
        ("rolled_back", {"hash": "a", "endpoints": {"api": ["api-1"]}}, "rolled_back"),
        ("rolled_back", {"hash": "a", "endpoints": {}}, "rolled_back"),
        ("rolled_back", {"hash": "", "endpoints": {}}, "failed"),
        ("rolled_back", {}, "failed"),
        ("rolled_back", None, "failed"),
        ("failed", {}, "failed"),
        (None, {}, "failed"),
        ("abandoned", {}, "failed"),
    ],
)
def test_rolled_back_needs_a_verified_stable_version(claimed: Any, verified: Any, outcome: str) -> None:
    result = canary(outcome=claimed, verified=verified)
    assert build(release(outcome=claimed), result, EPOCH)["outcome"] == outcome


def test_the_outcome_may_be_overridden() -> None:
    assert build(release(), canary(), EPOCH, outcome="rolled_back")["outcome"] == "rolled_back"


def test_the_file_is_named_after_the_release_and_readable(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    document = build(release(), canary(), EPOCH)
    old = os.umask(0o077)
    try:
        path, changed = write(str(directory), document)
    finally:
        os.umask(old)
    assert (path, changed) == (str(directory / "api-v1-1.json"), True)
    assert json.loads(Path(path).read_text()) == document
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644


def test_a_name_is_never_used_twice(tmp_path: Path) -> None:
    (tmp_path / "api-v1-1.json").write_text("something else")
    (tmp_path / "api-v1-2.json").mkdir()
    os.symlink("/nowhere", tmp_path / "api-v1-3.json")
    path, changed = write(str(tmp_path), build(release(), canary(), EPOCH))
    assert (path, changed) == (str(tmp_path / "api-v1-4.json"), True)
    assert (tmp_path / "api-v1-1.json").read_text() == "something else"


def test_the_same_document_is_not_written_twice(tmp_path: Path) -> None:
    document = build(release(), canary(), EPOCH)
    first = write(str(tmp_path), document)
    assert write(str(tmp_path), document) == (first[0], False)
    assert len(list(tmp_path.iterdir())) == 1


def test_check_mode_names_the_file_and_writes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "new"
    document = build(release(), canary(), EPOCH)
    assert write(str(directory), document, dry_run=True) == (str(directory / "api-v1-1.json"), True)
    assert not directory.exists()
    write(str(directory), document)
    assert write(str(directory), document, dry_run=True) == (str(directory / "api-v1-1.json"), False)
    other = build(release(), canary(reason="other"), EPOCH)
    assert write(str(directory), other, dry_run=True) == (str(directory / "api-v1-2.json"), True)


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AirgapError, match="cannot be written to"):
        write(str(tmp_path / "file"), build(release(), canary(), EPOCH))


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, descriptor: int, mode: str) -> None:
            self.descriptor = descriptor

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_exception: object) -> None:
            os.close(self.descriptor)

        def write(self, content: bytes) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdopen", Full)
    with pytest.raises(AirgapError, match="No space left"):
        write(str(tmp_path), build(release(), canary(), EPOCH))
    assert list(tmp_path.iterdir()) == []


def test_the_path_is_told_without_detours(tmp_path: Path) -> None:
    (tmp_path / "inventories").mkdir()
    path, _written = write(str(tmp_path / "inventories" / ".." / "reports"), {"release": "app-v1.0.0-1"})
    assert path == str(tmp_path / "reports" / "app-v1.0.0-1.json")


def test_what_was_promoted_by_hand() -> None:
    steps = [
        {"index": 0, "kind": "setWeight", "result": "completed", "by_hand": False},
        {"index": 1, "kind": "analysis", "result": "skipped", "by_hand": True},
        {"index": 2, "kind": "pause", "result": "completed", "by_hand": True},
    ]
    document = build(release(), canary(steps=steps), EPOCH)
    skipped = {"index": 1, "kind": "analysis", "what": "skipped"}
    assert document["by_hand"] == [skipped, {"index": 2, "kind": "pause", "what": "ended"}]


def test_what_runs_before_have_known_stands_in_the_journal() -> None:
    step = {"index": 2, "kind": "setWeight", "weight": 80, "actual_weight": 67, "result": "completed"}
    made = {"run": "x", "metric": "m", "at": "2026-01-01T00:00:40Z", "value": "[1]", "phase": "Successful"}
    pods = {"at": "2026-01-01T00:00:41Z", "canary": 1, "stable": 2}
    seen = {"hash": "h", "steps": [step], "measurements": [made], "pods": [pods], "conditions": {"m": "result > 0"}}
    image = {"image": "r/app:v1", "digest": "sha256:1", "commit": "c1"}
    journal = [
        {"phase": "pushed", "at": "2026-01-01T00:00:09Z", **image},
        {"phase": "scanned", "at": "2026-01-01T00:00:10Z", "scan": {"HIGH": 1}, "text": "Trivy has found HIGH 1"},
        {"phase": "canary_started", "at": "2026-01-01T00:00:11Z", "text": "canary", "driver": "deployment"},
        {"phase": "canary_step", "at": "2026-01-01T00:00:42Z", "text": "setWeight 80", "seen": seen},
    ]
    document = build(release(journal=journal), {}, EPOCH)
    assert document["scan"] == {"HIGH": 1}
    assert {key: document[key] for key in image} == image
    assert (document["steps"], document["measurements"], document["pods"]) == ([step], [made], [pods])
    assert (document["conditions"], document["driver"]) == ({"m": "result > 0"}, "deployment")
    assert "seen" not in json.dumps(document["timeline"])
    assert build(release(journal=journal), canary(), EPOCH, scan={"HIGH": 0})["scan"] == {"HIGH": 0}
    assert build(release(journal=journal), canary(), EPOCH)["steps"] == canary()["steps"]


def test_a_release_that_was_given_up_says_so() -> None:
    given_up = release(outcome="abandoned", reason="given up for api-v2-2", finished_at="2026-01-01T00:09:00Z")
    document = build(given_up, {}, EPOCH)
    assert (document["outcome"], document["reason"]) == ("abandoned", "given up for api-v2-2")
    assert document["finished_at"] == "2026-01-01T00:09:00Z"
    assert [entry["text"] for entry in document["timeline"]][-1] == "promoted"
    assert text(document)[0].startswith("api v1: abandoned after 9:00")


def test_who_takes_a_canary_up_and_what_was_scanned_meanwhile_stand_among_what_the_canary_tells() -> None:
    journal = [
        {"phase": "canary_started", "at": "2026-01-01T00:01:00Z", "text": "begun"},
        {"phase": "resumed", "at": "2026-01-01T00:01:20Z", "text": "taken up by the run r2"},
        {"phase": "canary_step", "at": "2026-01-01T00:01:30Z", "text": "a step"},
        {"phase": "scanned", "at": "2026-01-01T00:01:40Z", "text": "Trivy has found nothing"},
    ]
    told = [entry["text"] for entry in build(release(journal=journal), canary(), EPOCH)["timeline"]]
    assert told == ["weight 20", "taken up by the run r2", "Trivy has found nothing", "Healthy"]
