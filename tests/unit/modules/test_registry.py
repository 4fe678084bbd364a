# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module registry through its arguments and results."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils import basic
from ansible_collections.lumen.airgap.plugins.modules import registry
from ansible_collections.lumen.airgap.tests.unit.fakes.docker import FakeDockerClient
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import FakeRegistry
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run


def test_registry_starts_and_says_so(
    run: Run,
    fake_docker: FakeDockerClient,
    fake_registry: FakeRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_docker.build("lumen-airgap/registry:3.1.2", [b"registry"])
    monkeypatch.setattr(registry.Node, "port_free", lambda self, port: True)
    # A slash at the end must not make the next run see another path.
    paths = {"storage_path": f"{tmp_path}/data/", "config_path": f"{tmp_path}/config.yml"}
    foreseen = run(registry, check=True, **paths)
    result = run(registry, **paths)
    assert result["actions"] == foreseen["actions"] == ["write configuration", "create", "start"]
    assert result["diff"] == foreseen["diff"]
    assert not run(registry, **paths)["changed"]
    assert run(registry, state="absent", **paths)["container"] is None


def test_registry_fails_with_the_log(
    run: Run,
    fake_docker: FakeDockerClient,
    fake_registry: FakeRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_docker.build("lumen-airgap/registry:3.1.2", [b"registry"])
    fake_docker.log = b"panic: no storage\n"
    fake_registry.break_with("GET", "/v2/", 503)
    monkeypatch.setattr(registry.Node, "port_free", lambda self, port: True)
    result = run(registry, wait_timeout=0.001, storage_path=f"{tmp_path}/data", config_path=f"{tmp_path}/config.yml")
    assert result["failed"]
    assert result["log"] == ["panic: no storage"]
    assert "503" in result["last_answer"]
    assert result["container"]["status"] == "running"


@pytest.mark.parametrize(
    ("option", "value"),
    [("port", 0), ("port", 70000), ("wait_timeout", 0), ("storage_path", "images"), ("config_path", "c.yml")],
)
def test_nonsense_is_refused_before_docker_is_asked(
    option: str, value: object, run: Run, fake_docker: FakeDockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.Docker, "connect", lambda *_: pytest.fail("connected"))
    result = run(registry, **{option: value})
    assert result["failed"]
    assert result["msg"].startswith(f"The option {option} must be")


def test_a_missing_library_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "DOCKER_TRACEBACK", "ImportError: No module named docker")
    result = run(registry)
    assert result["failed"]
    assert basic.missing_required_lib("docker").split(" on ")[0] in result["msg"]


def test_a_daemon_of_another_machine_is_refused(run: Run) -> None:
    result = run(registry, docker_host="tcp://192.168.2.3:2375")
    assert result["failed"]
    assert "docker_host is tcp://192.168.2.3:2375, a daemon of another machine" in result["msg"]
