# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module registry through its arguments and results."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils import basic
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import health
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.health import HealthError
from ansible_collections.lumen.airgap.plugins.modules import registry
from ansible_collections.lumen.airgap.tests.unit.fakes import certificates
from ansible_collections.lumen.airgap.tests.unit.fakes.docker import FakeDockerClient
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is free, and a registry that answers there."""
    monkeypatch.setattr(registry.Node, "port_free", lambda self, port: True)
    monkeypatch.setattr(health, "ask", lambda port, context, users: None)


def test_registry_starts_and_says_so(
    run: Run,
    fake_docker: FakeDockerClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_docker.build("lumen-airgap/registry:3.1.2", [b"registry"])
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
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_docker.build("lumen-airgap/registry:3.1.2", [b"registry"])
    fake_docker.log = b"panic: no storage\n"

    def refuse(port: int, context: object, users: bool) -> None:
        raise HealthError(f"port {port} answered HTTP 503")

    monkeypatch.setattr(health, "ask", refuse)
    result = run(registry, wait_timeout=0.001, storage_path=f"{tmp_path}/data", config_path=f"{tmp_path}/config.yml")
    assert result["failed"]
    assert result["log"] == ["panic: no storage"]
    assert "503" in result["last_answer"]
    assert result["container"]["status"] == "running"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("port", 0),
        ("port", 70000),
        ("wait_timeout", 0),
        ("storage_path", "images"),
        ("config_path", "c.yml"),
        ("tls", {"certificate": "a.crt", "key": "/a.key"}),
        ("memory", "1M"),
        ("cpus", 0),
        ("garbage_collect_timeout", 0),
    ],
)
def test_nonsense_is_refused_before_docker_is_asked(
    option: str, value: object, run: Run, fake_docker: FakeDockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.Docker, "connect", lambda *_: pytest.fail("connected"))
    result = run(registry, **{option: value})
    assert result["failed"]
    assert result["msg"].startswith(f"The option {option}")
    assert " must be " in result["msg"]


@pytest.mark.parametrize(("option", "state"), [("purge", "started"), ("garbage_collect", "absent")])
def test_options_of_another_state_are_refused(option: str, state: str, run: Run, fake_docker: FakeDockerClient) -> None:
    result = run(registry, state=state, **{option: True})
    assert result["failed"]
    assert f"The option {option} goes with state" in result["msg"]


def test_registry_with_everything(run: Run, fake_docker: FakeDockerClient, tmp_path: Path) -> None:
    fake_docker.build("lumen-airgap/registry:3.1.2", [b"registry"])
    pair = certificates.make(tmp_path, "registry")
    arguments = {
        "storage_path": f"{tmp_path}/data",
        "config_path": f"{tmp_path}/config.yml",
        "tls": {"certificate": pair.certificate, "key": pair.key},
        "users": [{"name": "ci", "password": "hush-hush"}],
        "memory": "512M",
        "cpus": 2,
        "garbage_collect": True,
    }
    foreseen = run(registry, check=True, **arguments)
    result = run(registry, **arguments)
    assert foreseen["garbage"] is None
    assert result["garbage"] == {"blobs": 0, "bytes": 0}
    assert result["actions"] == ["write users", "write configuration", "create", "start"]
    assert result["diff"]["after"]["memory"] == 512 * 1024 * 1024
    assert "hush-hush" not in repr(result).replace(repr(result["invocation"]), "")
    assert result["invocation"]["module_args"]["users"][0]["password"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
    assert not run(registry, **arguments)["changed"]


def test_a_missing_library_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "DOCKER_TRACEBACK", "ImportError: No module named docker")
    result = run(registry)
    assert result["failed"]
    assert basic.missing_required_lib("docker").split(" on ")[0] in result["msg"]


def test_a_daemon_of_another_machine_is_refused(run: Run) -> None:
    result = run(registry, docker_host="tcp://192.168.2.3:2375")
    assert result["failed"]
    assert "docker_host is tcp://192.168.2.3:2375, a daemon of another machine" in result["msg"]


def test_bcrypt_is_needed_for_users_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "BCRYPT_TRACEBACK", "ImportError: No module named bcrypt")
    result = run(registry, users=[{"name": "ci", "password": "one"}])
    assert result["failed"]
    assert "bcrypt" in result["msg"]
    assert "bcrypt" not in run(registry, docker_host="tcp://192.168.2.3:2375")["msg"]
