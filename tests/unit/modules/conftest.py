# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules as Ansible calls them, arguments in and one JSON result out, with registry and Docker in memory."""

from __future__ import annotations

import json
from typing import Any, Protocol

import docker
import pytest
import requests
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lumen.airgap.tests.unit.fakes.docker import FakeDockerClient
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import FakeRegistry


class Run(Protocol):
    """Runs a module's main() once and returns its result."""

    def __call__(self, module: Any, check: bool = False, **arguments: Any) -> dict[str, Any]: ...


@pytest.fixture
def fake_registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    fake = FakeRegistry()
    session = fake.session()
    monkeypatch.setattr(requests, "Session", lambda: session)
    return fake


@pytest.fixture
def fake_docker(monkeypatch: pytest.MonkeyPatch, fake_registry: FakeRegistry) -> FakeDockerClient:
    client = FakeDockerClient(fake_registry)
    monkeypatch.setattr(docker, "APIClient", lambda **_: client)
    return client


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(module: Any, check: bool = False, **arguments: Any) -> dict[str, Any]:
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call
