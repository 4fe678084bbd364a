# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module doctor through its arguments and results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import APPLICATION, ROLLOUT
from ansible_collections.lumen.airgap.plugins.modules import doctor as module
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, FakeRegistry
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run

ARGUMENTS: dict[str, Any] = {
    "app": "api",
    "namespace": "lumen",
    "registry": {"host": HOST},
    "argocd_namespace": "",
    "rollouts_namespace": "",
    "gitea_namespace": "",
}


@pytest.fixture(autouse=True)
def cluster(session: FakeSession, fake_registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    monkeypatch.setattr(module.Session, "connect", lambda kubeconfig=None, context=None: session)
    status = {"observedGeneration": "1", "phase": "Healthy", "currentPodHash": "a", "stableRS": "a"}
    session.put(
        {
            "apiVersion": ROLLOUT.api_version,
            "kind": "Rollout",
            "metadata": {"name": "api", "namespace": "lumen"},
            "spec": {"selector": {"matchLabels": {"app": "api"}}},
            "status": status,
        }
    )
    return session


def test_all_is_well(run: Run) -> None:
    result = run(module, **ARGUMENTS)
    assert (result["changed"], result["findings"], result["worst"]) == (False, [], "none")
    assert result["text"][0] == "api in lumen (https://fake:6443): nothing is wrong"
    assert "the registry" in result["looked_at"]
    assert run(module, check=True, fail_on="info", **ARGUMENTS) == result | {
        "invocation": run(module, check=True, fail_on="info", **ARGUMENTS)["invocation"]
    }


def test_a_kubeconfig_that_is_not_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    result = run(module, kubeconfig="/nowhere", gitea={"url": "http://127.0.0.1:1", "token": "secret"}, **ARGUMENTS)
    assert "failed" not in result
    assert "kubeconfig /nowhere does not exist" in result["findings"][0]["cause"]


def test_what_is_found_is_returned(run: Run, session: FakeSession) -> None:
    session.remove(ROLLOUT, "api", "lumen")
    result = run(module, **ARGUMENTS)
    assert [finding["code"] for finding in result["findings"]] == ["rollout-absent"]
    assert result["worst"] == "error"
    assert any("rollout-absent" in line for line in result["text"])


@pytest.mark.parametrize(("fail_on", "fails"), [("never", False), ("error", True), ("warning", True), ("info", True)])
def test_when_it_fails(fail_on: str, fails: bool, run: Run, session: FakeSession) -> None:
    session.edit(ROLLOUT, "api", "lumen", {"spec": {"paused": True}})
    session.edit(ROLLOUT, "api", "lumen", {"status": {"observedGeneration": "2"}})
    result = run(module, fail_on=fail_on, **ARGUMENTS)
    assert result.get("failed", False) is fails
    assert [finding["code"] for finding in result["findings"]] == ["rollout-stopped"]
    if fails:
        assert "The Rollout was paused by hand" in result["msg"]


def test_argo_cd_is_looked_at_unless_its_namespace_is_empty(run: Run, session: FakeSession) -> None:
    session.unknown_kinds.add(APPLICATION)
    result = run(module, **{**ARGUMENTS, "argocd_namespace": "argocd"})
    assert "not-reached" in [finding["code"] for finding in result["findings"]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prometheus": {"port": 0}}, "The option prometheus.port"),
        ({"gitea": {"url": "http://gitea.test", "token": "x", "timeout": 0}}, "The option gitea.timeout"),
        ({"gitea": {"url": "http://gitea.test"}}, "one of the following is required: token, password"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], says: str, run: Run) -> None:
    result = run(module, **{**ARGUMENTS, **options})
    assert result["failed"]
    assert says in result["msg"]


def test_every_code_is_in_the_troubleshooting_table() -> None:
    returned = yaml.safe_load(module.RETURN)["findings"]["contains"]["code"]["description"]
    codes = re.findall(r"V\(([a-z-]+)\)", " ".join(returned))
    table = (Path(__file__).parents[3] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert len(codes) > 30
    assert [code for code in codes if f"`{code}`" not in table] == []
