# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Docker daemon's words as errors a user can act on, over a client in memory."""

from __future__ import annotations

import threading
from pathlib import Path

import docker
import pytest
import requests
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.docker import (
    Container,
    Docker,
    DockerError,
    Execution,
    is_local,
    read_push,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.docker import URL, FakeDockerClient
from docker import errors

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def client() -> FakeDockerClient:
    return FakeDockerClient()


@pytest.fixture
def daemon(client: FakeDockerClient) -> Docker:
    return Docker(client, URL)


# --- the connection


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("unix:///var/run/docker.sock", True),
        ("unix:///run/user/1000/docker.sock", True),
        ("tcp://127.0.0.1:2375", True),
        ("tcp://[::1]:2375", True),
        ("tcp://192.168.2.2:2375", False),
        ("ssh://node-1", False),
    ],
)
def test_which_daemon_is_of_this_machine(url: str, local: bool) -> None:
    assert is_local(url) is local


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("('Connection aborted.', FileNotFoundError(2, 'No such file or directory'))", "there is no such socket"),
        (
            "('Connection aborted.', PermissionError(13, 'Permission denied'))",
            "permission denied. Run the task with bec",
        ),
        ("('Connection aborted.', ConnectionRefusedError(111, 'Connection refused'))", "nobody listens"),
        ("client version 1.99 is too new", "client version 1.99 is too new"),
    ],
)
def test_why_the_daemon_does_not_answer(monkeypatch: pytest.MonkeyPatch, reason: str, message: str) -> None:
    def refuse(**_: object) -> None:
        raise errors.DockerException(f"Error while fetching server API version: {reason}")

    monkeypatch.setattr(docker, "APIClient", refuse)
    with pytest.raises(DockerError, match=f"no Docker daemon answers at {URL}: .*{message}") as error:
        Docker.connect(URL)
    assert error.value.details == {"docker_host": URL}


def test_a_daemon_that_dies_in_between(daemon: Docker, client: FakeDockerClient) -> None:
    client.failures["inspect_image"] = requests.exceptions.ConnectionError("Connection aborted.")
    with pytest.raises(DockerError, match=f"the Docker daemon at {URL} went away: Connection aborted"):
        daemon.image("app")


def test_a_refusal_has_dockers_words(daemon: Docker, client: FakeDockerClient) -> None:
    client.refuse("start", "driver failed")
    with pytest.raises(DockerError, match="Docker refused to start registry: driver failed"):
        daemon.start("registry")
    client.refuse("inspect_container", "broken")
    with pytest.raises(DockerError, match="Docker refused to inspect registry: broken"):
        daemon.container("registry")


# --- images


def test_what_is_not_there_is_none(daemon: Docker) -> None:
    assert daemon.image("app") is None
    assert daemon.container("registry") is None


def test_load_names_what_it_loaded(daemon: Docker, client: FakeDockerClient, tmp_path: Path) -> None:
    archive = tmp_path / "registry.tar"
    archive.touch()
    client.archives[str(archive)] = ["registry:3"]
    assert daemon.load(str(archive)) == ["registry:3"]


def test_load_of_an_archive_that_is_not_there(daemon: Docker, tmp_path: Path) -> None:
    with pytest.raises(DockerError, match=r"archive .*none\.tar cannot be read: No such file"):
        daemon.load(str(tmp_path / "none.tar"))


@pytest.mark.parametrize("line", [{"error": "invalid tar header"}, {"message": "invalid tar header"}])
def test_load_of_a_broken_archive(
    daemon: Docker, client: FakeDockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: dict[str, str]
) -> None:
    (tmp_path / "a.tar").touch()
    monkeypatch.setattr(client, "load_image", lambda file: iter([line]))
    with pytest.raises(DockerError, match=r"cannot load .*a\.tar: invalid tar header"):
        daemon.load(str(tmp_path / "a.tar"))


def test_load_while_the_daemon_dies(daemon: Docker, client: FakeDockerClient, tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    client.failures["load_image"] = requests.exceptions.ConnectionError("Broken pipe")
    with pytest.raises(DockerError, match="went away: Broken pipe"):
        daemon.load(str(tmp_path / "a.tar"))


def test_what_a_push_sent() -> None:
    lines = [
        {"status": "The push refers to repository [r:5000/app]"},
        {"status": "Preparing", "id": "aaaaaaaaaaaa"},
        {"status": "Waiting", "id": "bbbbbbbbbbbb"},
        {"status": "Layer already exists", "id": "aaaaaaaaaaaa"},
        {"status": "Pushing", "id": "bbbbbbbbbbbb", "progressDetail": {"current": 1, "total": 9}},
        {"status": "Pushed", "id": "bbbbbbbbbbbb"},
        {"status": "Mounted from base", "id": "cccccccccccc"},
        {"status": f"v1: digest: {DIGEST} size: 100"},
        {"progressDetail": {}, "aux": {"Tag": "v1", "Digest": DIGEST, "Size": 100}},
    ]
    assert read_push(lines, "r:5000/app:v1") == (DIGEST, frozenset({"bbbbbbbbbbbb"}))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("http: server gave HTTP response to HTTPS client", "insecure-registries"),
        ("dial tcp 192.168.2.2:5000: connect: connection refused", "Is the registry running"),
        ("received unexpected HTTP status: 500 Internal Server Error", "500 Internal Server Error$"),
    ],
)
def test_a_push_that_fails(error: str, message: str) -> None:
    with pytest.raises(DockerError, match=f"could not push r:5000/app:v1: .*{message}"):
        read_push([{"status": "Preparing", "id": "a"}, {"errorDetail": {}, "error": error}], "r:5000/app:v1")


def test_a_push_that_ends_without_a_digest() -> None:
    with pytest.raises(DockerError, match="without naming a digest"):
        read_push([{"status": "Pushing", "id": "a"}], "r:5000/app:v1")


# --- containers


def test_the_life_of_a_container(daemon: Docker, client: FakeDockerClient) -> None:
    identity = client.build("registry:3", [b"layer"])
    container = Container(
        image="registry:3",
        command=("serve", "/config.yml"),
        environment={"A": "b"},
        ports={5000: 5001},
        mounts=(("/data", "/var/lib/registry", False), ("/etc/c.yml", "/config.yml", True)),
        restart_policy="always",
        labels={"l": "1"},
        memory=1 << 26,
        cpus=0.5,
    )
    daemon.create("registry", container)
    assert daemon.publisher(5001) is None
    daemon.start("registry")
    there = daemon.container("registry")
    assert there is not None
    assert there["Image"] == identity
    assert there["HostConfig"]["PortBindings"] == {"5000/tcp": [{"HostIp": "", "HostPort": "5001"}]}
    assert (there["HostConfig"]["Memory"], there["HostConfig"]["NanoCpus"]) == (1 << 26, 500_000_000)
    assert [mount["RW"] for mount in there["Mounts"]] == [True, False]
    assert there["Config"]["Cmd"] == ["serve", "/config.yml"]
    assert daemon.publisher(5001) == "registry"
    client.log = b"one\ntwo\nthree \xff\n"
    assert daemon.logs("registry", 2) == ["two", "three \ufffd"]
    daemon.stop("registry")
    daemon.remove("registry")
    assert daemon.container("registry") is None


def test_a_command_in_a_container(daemon: Docker, client: FakeDockerClient) -> None:
    client.on_execute = lambda argv: (f"{argv} and more".encode(), b"bad \xff", 3)
    assert daemon.execute("registry", ["ls"], 5) == Execution(3, "['ls'] and more", "bad \ufffd")


def test_a_command_that_does_not_end(daemon: Docker, client: FakeDockerClient) -> None:
    end = threading.Event()
    client.on_execute = lambda argv: (b"", b"", 0) if end.wait(10) else (b"", b"", 1)
    with pytest.raises(DockerError, match=r"sleep 9 in the container registry did not end within 0\.01 s"):
        daemon.execute("registry", ["sleep", "9"], 0.01)
    end.set()


def test_a_command_that_docker_refuses(daemon: Docker, client: FakeDockerClient) -> None:
    client.refuse("exec_start", "container is paused")
    with pytest.raises(DockerError, match="Docker refused to execute registry: container is paused"):
        daemon.execute("registry", ["ls"], 5)
