# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module refuses before it asks anybody, and its docs. What it does: services/test_act_runner.py."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.modules import act_runner as module
from ansible_collections.lumen.airgap.tests.unit.fakes.gitea import TOKEN, URL
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run

WHERE: dict[str, Any] = {"gitea": {"url": URL, "token": TOKEN}, "scope": "lumen/lumen"}


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    session = FakeSession()
    monkeypatch.setattr(module.Session, "connect", lambda *_arguments: session)
    return session


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capacity": 0}, "The option capacity must be at least 1, not 0"),
        ({"drain_timeout": 0}, "The option drain_timeout must be more than 0"),
        ({"wait_timeout": -1}, "The option wait_timeout must be"),
        ({"state_path": "data"}, "The option state_path must be an absolute path"),
        ({"scope": "a/b/c"}, "'a/b/c' is no scope"),
        ({"labels": []}, "labels is empty"),
        ({"labels": ["a:vm"]}, "'a:vm' in labels is none"),
        ({"instance_url": "http://gitea-http.gitea.svc.cluster.local:3000"}, "Give the URL of Gitea's NodePort"),
        ({"gitea": {"url": "gitea.test", "token": TOKEN}}, "gitea.url must be http://host"),
        ({"gitea": {"url": f"http://x:{TOKEN}@gitea.test", "token": TOKEN}}, "credentials do not belong into a URL"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str, run: Run, cluster: FakeSession) -> None:
    result = run(module, **{**WHERE, **options})
    assert result["failed"]
    assert message in result["msg"]
    assert TOKEN not in str(result)
    assert cluster.bodies == []


def test_every_option_is_documented() -> None:
    documentation = yaml.safe_load(module.DOCUMENTATION)["options"]
    fragments = {"kubeconfig", "context", "gitea", "progress_path", "quiet"}
    assert set(documentation) | fragments == set(module.ARGUMENT_SPEC)
    for name, option in documentation.items():
        assert option.get("default") == module.ARGUMENT_SPEC[name].get("default"), name
