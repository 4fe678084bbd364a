# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module around the evidence service, and its docs."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import CONFIG_MAP
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Unreachable
from ansible_collections.lumen.airgap.plugins.module_utils.entry import Task
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.options import KUBE_OPTIONS, PATIENCE_OPTIONS
from ansible_collections.lumen.airgap.plugins.modules import evidence as module
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import EPOCH, FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream

RELEASE = {
    "id": "api-v1-1",
    "app": "api",
    "namespace": "lumen",
    "version": "v1",
    "started_at": "2026-01-01T00:00:00Z",
    "finished_at": "2026-01-01T00:02:00Z",
    "outcome": "promoted",
    "journal": [{"phase": "acquired", "at": "2026-01-01T00:00:00Z", "run": "r1"}],
}


def params(directory: Path, **changes: Any) -> dict[str, Any]:
    defaults = {name: option.get("default") for name, option in module.ARGUMENT_SPEC.items()}
    return {**defaults, "directory": str(directory), "release": RELEASE, **changes}


def test_writes_and_returns_the_document(tmp_path: Path) -> None:
    result = module.evidence(params(tmp_path, image="reg/api:v1"), EPOCH, dry_run=False)
    assert result["changed"]
    assert result["path"] == str(tmp_path / "api-v1-1.json")
    assert json.loads(Path(result["path"]).read_text()) == result["evidence"]
    assert result["text"] == ["api v1: promoted after 2:00 (api-v1-1)", "  0:00  acquired"]
    assert module.evidence(params(tmp_path, image="reg/api:v1"), EPOCH + 9, dry_run=False)["changed"] is False


def test_a_page_lies_beside_it(tmp_path: Path) -> None:
    result = module.evidence(params(tmp_path), EPOCH, dry_run=False)
    page = Path(result["page"])
    assert page == tmp_path / "api-v1-1.html"
    assert page.stat().st_mode & 0o777 == 0o644
    written = page.read_text()
    assert "<h1>api v1</h1>" in written
    page.write_text("edited")
    assert module.evidence(params(tmp_path), EPOCH, dry_run=True)["changed"]
    assert module.evidence(params(tmp_path), EPOCH, dry_run=False)["changed"]
    assert page.read_text() == written
    assert module.evidence(params(tmp_path / "more", page=False), EPOCH, dry_run=False)["page"] == ""
    assert [path.name for path in (tmp_path / "more").iterdir()] == ["api-v1-1.json"]


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    assert module.evidence(params(tmp_path / "new"), EPOCH, dry_run=True)["changed"]
    assert list(tmp_path.iterdir()) == []


def test_something_else_than_a_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AirgapError, match="lacks app, namespace, version: give what release_record returned"):
        module.evidence(params(tmp_path, release={"id": "x"}), EPOCH, dry_run=False)


@pytest.mark.parametrize(
    "name", ["../../x-1", "/etc/x-1", "a/b-1", "..", ".x-1", "", "a\\b", "a\0b", "a\n", None, ["x"], "x" * 241]
)
def test_an_id_that_leads_elsewhere_is_refused(name: Any, tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    with pytest.raises(AirgapError, match="cannot be a file's name"):
        module.evidence(params(directory, release={**RELEASE, "id": name}), EPOCH, dry_run=False)
    assert list(tmp_path.iterdir()) == []


def test_return_documents_what_is_returned(tmp_path: Path) -> None:
    result = module.evidence(params(tmp_path), EPOCH, dry_run=True)
    documented = yaml.safe_load(module.RETURN)
    assert set(result) - {"changed"} == set(documented)
    assert set(result["evidence"]) == set(documented["evidence"]["contains"])


def test_every_option_is_documented() -> None:
    shared = {*KUBE_OPTIONS, *PATIENCE_OPTIONS}
    assert set(yaml.safe_load(module.DOCUMENTATION)["options"]) == set(module.ARGUMENT_SPEC) - shared


@pytest.mark.parametrize("before", [[], [{**RELEASE, "id": "api-v0-1", "version": "v0"}]])
def test_in_the_chain_it_is_once_through_an_api_server_that_restarts(
    tmp_path: Path,
    session: FakeSession,
    clock: FakeClock,
    stream: FakeStream,
    monkeypatch: pytest.MonkeyPatch,
    before: list[dict[str, Any]],
) -> None:
    monkeypatch.setattr(module.Session, "connect", lambda *_args: session)
    monkeypatch.setattr(module, "SystemClock", lambda: clock)
    for release in before:
        module.evidence(params(tmp_path, release=release, chain=True), EPOCH, False, lambda: session)
    session.fail_next("find", Unreachable("no answer"), times=30)
    session.lose_next(CONFIG_MAP, Unreachable("no answer"))
    given = params(tmp_path, chain=True)
    result = module.work(Task(given, False, stream.line, nullcontext, stream.line, stream.check))
    assert (result["changed"], result["evidence"]["chain"]["number"]) == (True, len(before) + 1)
    assert json.loads(Path(result["path"]).read_text()) == result["evidence"]
    assert len(list(tmp_path.glob("*.json"))) == len(before) + 1
    assert clock.monotonic() == 31


def test_in_the_chain_a_release_has_one_document(tmp_path: Path) -> None:
    session = FakeSession()
    options = params(tmp_path, chain=True, scan={"HIGH": 1}, who={"user": "deploy", "host": "control-1"})
    planned = module.evidence(options, EPOCH, True, lambda: session)
    assert (planned["changed"], planned["evidence"]["chain"]["number"]) == (True, 1)
    assert session.bodies == []
    assert list(tmp_path.iterdir()) == []
    result = module.evidence(options, EPOCH, False, lambda: session)
    assert result["changed"]
    assert result["evidence"]["who"] == {"user": "deploy", "host": "control-1"}
    assert json.loads(Path(result["path"]).read_text()) == result["evidence"]
    assert "deploy on control-1" in Path(result["page"]).read_text()
    again = module.evidence({**options, "scan": {}}, EPOCH + 60, False, lambda: session)
    assert (again["changed"], again["evidence"]) == (False, result["evidence"])
    Path(result["path"]).unlink()
    gone = module.evidence(options, EPOCH, False, lambda: session)
    assert (gone["path"], gone["page"], gone["changed"]) == ("", "", False)
    assert gone["warnings"] == ["The document of api-v1-1 was written as api-v1-1.json, and is not there any more"]
