# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way of a container from any state into any other, run twice and foreseen by check mode."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import tls
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.docker import Docker
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.health import HealthError
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.htpasswd import User, matches, parse
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.node import Node
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry import (
    LABEL,
    RegistryContainer,
    Settings,
    Tls,
    render,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.docker import URL, FakeDockerClient

IMAGE = "lumen-airgap/registry:3.1.2"
NEW = ["write configuration", "create", "start"]
AGAIN = ["write configuration", "remove", "create", "start"]


class FakeNode(Node):
    """Real files under a temporary directory, ports by declaration."""

    def __init__(self) -> None:
        self.taken: set[int] = set()

    def port_free(self, port: int) -> bool:
        return port not in self.taken


class World:
    """A node with Docker, on which the module is run again and again."""

    def __init__(self, path: Path) -> None:
        self.client = FakeDockerClient()
        self.client.build(IMAGE, [b"registry"])
        self.node = FakeNode()
        self.clock = FakeClock()
        self.answers_after = 0.0
        self.settings = Settings(
            name="registry",
            image=IMAGE,
            archive=None,
            port=5000,
            storage_path=str(path / "storage"),
            config_path=str(path / "etc" / "config.yml"),
            log_level="info",
            restart_policy="always",
            wait_timeout=30.0,
        )

    def run(self, state: str = "started", check_mode: bool = False, **options: Any) -> dict[str, Any]:
        self.client.calls.clear()
        self.settings = replace(self.settings, **options)
        docker = Docker(self.client, URL)
        return RegistryContainer(self.settings, docker, self.node, self.clock, check_mode, self.probe).ensure(state)

    def probe(self) -> None:
        if self.clock.time() - self.clock.start < self.answers_after:
            raise HealthError("not yet")

    @property
    def container(self) -> dict[str, Any]:
        return self.client.containers_by_name["registry"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def config_of(world: World) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(world.node.read(world.settings.config_path) or "")
    return config


def secret_of(world: World) -> str:
    return str(config_of(world)["http"]["secret"])


def test_a_new_registry(world: World) -> None:
    world.answers_after = 1.0
    result = world.run()
    assert result["changed"]
    assert result["actions"] == NEW
    assert result["container"]["status"] == "running"
    assert result["diff"]["before"] == {}
    assert result["diff"]["after"]["state"] == "running"
    assert Path(world.settings.storage_path).is_dir()
    assert world.container["Config"]["Cmd"] == ["serve", "/etc/distribution/config.yml"]
    assert world.container["environment"] == {"OTEL_TRACES_EXPORTER": "none"}
    assert world.container["Mounts"][1]["RW"] is False
    assert world.container["Config"]["Labels"][LABEL].startswith("sha256:")


def test_the_second_run_changes_nothing(world: World) -> None:
    world.run()
    result = world.run()
    assert not result["changed"]
    assert result["diff"]["before"] == result["diff"]["after"]
    assert result["actions"] == world.client.calls == []


@pytest.mark.parametrize(
    ("option", "value", "actions"),
    [
        ("port", 5001, ["remove", "create", "start"]),
        ("log_level", "debug", AGAIN),
        ("restart_policy", "no", ["remove", "create", "start"]),
        ("delete_enabled", False, AGAIN),
        ("read_only", True, AGAIN),
        ("memory", 256 * 1024 * 1024, ["remove", "create", "start"]),
        ("cpus", 1.5, ["remove", "create", "start"]),
        ("wait_timeout", 5.0, []),
        ("archive", "/some.tar", []),
    ],
)
def test_a_changed_option_recreates_once(world: World, option: str, value: Any, actions: list[str]) -> None:
    world.run()
    foreseen = world.run(check_mode=True, **{option: value})
    assert world.client.calls == []
    done = world.run()
    assert done["actions"] == foreseen["actions"] == actions
    assert done["diff"] == foreseen["diff"]
    assert done["changed"] == foreseen["changed"] == bool(actions)
    assert not world.run()["changed"]


def test_another_storage_path(world: World, tmp_path: Path) -> None:
    world.run()
    assert world.run(storage_path=str(tmp_path / "new"))["actions"] == ["remove", "create", "start"]
    assert (tmp_path / "new").is_dir()
    assert (tmp_path / "storage").is_dir()


def test_a_name_that_is_another_image_now(world: World) -> None:
    world.run()
    world.client.build(IMAGE, [b"rebuilt"])
    result = world.run()
    assert result["actions"] == ["remove", "create", "start"]
    assert result["diff"]["before"]["image_id"] != result["diff"]["after"]["image_id"]
    assert not world.run()["changed"]


def test_a_configuration_that_somebody_edited(world: World) -> None:
    world.run()
    world.node.write(world.settings.config_path, "log: {level: error}\n")
    result = world.run()
    assert result["actions"] == AGAIN
    assert "level: error" in result["diff"]["before"]["config"]
    text = world.node.read(world.settings.config_path)
    assert text == render(world.settings, secret_of(world))


def test_a_run_that_was_killed_between_the_file_and_the_container(world: World) -> None:
    world.run()
    text = render(replace(world.settings, log_level="debug"), secret_of(world))
    world.node.write(world.settings.config_path, text, 0o600)
    result = world.run(log_level="debug")
    assert result["actions"] == ["remove", "create", "start"]


def test_check_mode_of_a_new_registry_touches_nothing(world: World, tmp_path: Path) -> None:
    foreseen = world.run(check_mode=True)
    assert (foreseen["changed"], foreseen["actions"], foreseen["container"]) == (True, NEW, None)
    assert world.client.calls == list(tmp_path.iterdir()) == []
    assert world.run()["diff"] == foreseen["diff"]


@pytest.mark.parametrize("status", ["exited", "created", "dead"])
def test_a_container_that_was_killed_is_started_again(world: World, status: str) -> None:
    world.run()
    world.container["State"] = {"Status": status, "ExitCode": 137}
    assert world.run(check_mode=True)["actions"] == ["start"]
    result = world.run()
    assert (result["changed"], result["actions"]) == (True, ["start"])
    assert world.client.calls == ["start"]


# --- the image


def test_the_image_comes_from_the_archive(world: World, tmp_path: Path) -> None:
    archive = tmp_path / "registry.tar"
    archive.touch()
    world.client.images.clear()
    world.client.archives[str(archive)] = [IMAGE]
    foreseen = world.run(check_mode=True, archive=str(archive))
    assert foreseen["actions"] == ["load image", *NEW]
    assert world.client.calls == []
    assert world.run()["actions"] == ["load image", *NEW]
    assert not world.run()["changed"]


def test_without_image_and_archive(world: World) -> None:
    world.client.images.clear()
    with pytest.raises(AirgapError, match=f"the image {IMAGE} is not in the Docker daemon at {URL}.*give archive"):
        world.run(check_mode=True)


def test_an_archive_that_is_not_there(world: World) -> None:
    world.client.images.clear()
    with pytest.raises(AirgapError, match=r"neither is its archive /none\.tar"):
        world.run(check_mode=True, archive="/none.tar")


def test_an_archive_of_something_else(world: World, tmp_path: Path) -> None:
    archive = tmp_path / "other.tar"
    archive.touch()
    world.client.images.clear()
    world.client.archives[str(archive)] = ["other:1"]
    with pytest.raises(AirgapError, match=f"other.tar holds other:1, not {IMAGE}"):
        world.run(archive=str(archive))
    assert not world.client.containers_by_name


def test_a_running_container_needs_no_name_of_its_image(world: World) -> None:
    world.run()
    world.client.images.clear()
    assert not world.run()["changed"]


# --- the port


def test_a_port_of_another_process(world: World, tmp_path: Path) -> None:
    world.node.taken.add(5000)
    with pytest.raises(AirgapError, match=r"port 5000 is taken by a process of this host \(ss -ltnp"):
        world.run()
    assert world.client.calls == list(tmp_path.iterdir()) == []


def test_a_port_of_another_container(world: World, tmp_path: Path) -> None:
    world.run(name="other", config_path=str(tmp_path / "other.yml"))
    world.node.taken.add(5000)
    with pytest.raises(AirgapError, match="port 5000 is taken by the container other"):
        world.run(name="registry")


def test_our_own_port_is_no_conflict(world: World) -> None:
    world.run()
    world.node.taken.add(5000)
    assert not world.run()["changed"]
    assert world.run(log_level="debug")["changed"]


def test_moving_to_a_taken_port_leaves_the_old_one_running(world: World) -> None:
    world.run()
    world.node.taken |= {5000, 5001}
    with pytest.raises(AirgapError, match="port 5001 is taken"):
        world.run(port=5001)
    assert world.container["State"]["Status"] == "running"


@pytest.mark.parametrize(
    "words",
    ["listen tcp4 0.0.0.0:5000: bind: address already in use", "Bind for :5000 failed: port is already allocated"],
)
def test_a_port_that_is_taken_in_between(world: World, words: str) -> None:
    world.client.refuse("start", words)
    with pytest.raises(AirgapError, match="port 5000 is taken"):
        world.run()
    assert not world.client.containers_by_name


def test_another_refusal_to_start(world: World) -> None:
    world.client.refuse("start", "no such runtime")
    with pytest.raises(AirgapError, match="Docker refused to start registry: no such runtime"):
        world.run()
    assert not world.client.containers_by_name


# --- health


def test_a_registry_that_never_answers(world: World) -> None:
    world.answers_after = 1e9
    world.client.log = b"".join(b"line %d\n" % number for number in range(30))
    with pytest.raises(AirgapError, match=r"did not answer .* within 30 s \(it is running, exit code 0\)") as error:
        world.run()
    assert world.clock.time() - world.clock.start == pytest.approx(30.0, abs=0.3)
    assert error.value.details["log"] == [f"line {number}" for number in range(10, 30)]
    assert error.value.details["container"]["status"] == "running"
    assert error.value.details["last_answer"] == "not yet"


def test_a_registry_that_ends_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(name: str) -> None:
        world.client.containers_by_name[name]["State"] = {"Status": "exited", "ExitCode": 1}

    monkeypatch.setattr(world.client, "start", start)
    world.answers_after = 1e9
    world.client.log = b"configuration error: cannot parse\n"
    with pytest.raises(AirgapError, match=r"ended instead of answering.*exit code 1.*last words: configuration error"):
        world.run()
    assert world.clock.time() == world.clock.start


def test_a_container_that_somebody_removes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.client, "start", world.client.containers_by_name.pop)
    world.answers_after = 1e9
    with pytest.raises(AirgapError, match=r"ended instead of answering \(it is gone\)") as error:
        world.run()
    assert error.value.details["log"] == []


# --- the other states


def test_stopped(world: World) -> None:
    assert not world.run("stopped")["changed"]
    world.run()
    foreseen = world.run("stopped", check_mode=True)
    assert world.container["State"]["Status"] == "running"
    result = world.run("stopped")
    assert result["diff"] == foreseen["diff"]
    assert (result["actions"], result["container"]["status"]) == (["stop"], "exited")
    assert not world.run("stopped")["changed"]
    assert world.run()["actions"] == ["start"]


def test_a_paused_container_goes_on(world: World) -> None:
    world.run()
    world.container["State"] = {"Status": "paused"}
    # A paused container still has its port.
    world.node.taken.add(5000)
    assert world.run(check_mode=True)["actions"] == ["unpause"]
    result = world.run()
    assert (result["actions"], world.client.calls) == (["unpause"], ["unpause"])
    assert result["diff"]["before"]["state"] == "paused"
    assert not world.run()["changed"]


def test_a_paused_container_is_not_stopped(world: World) -> None:
    world.run()
    world.container["State"] = {"Status": "paused"}
    assert world.run("stopped")["actions"] == ["stop"]
    assert not world.run("stopped")["changed"]


# --- a container of this name that the module did not make


@pytest.fixture
def foreign(world: World, tmp_path: Path) -> World:
    """A registry that somebody started with docker run, its images elsewhere."""
    world.run(storage_path=str(tmp_path / "theirs"))
    world.container["Config"]["Labels"] = {}
    world.settings = replace(world.settings, storage_path=str(tmp_path / "storage"))
    return world


@pytest.mark.parametrize("state", ["started", "absent"])
@pytest.mark.parametrize("check_mode", [True, False])
def test_a_foreign_container_is_left_alone(foreign: World, tmp_path: Path, state: str, check_mode: bool) -> None:
    with pytest.raises(AirgapError, match=r"container registry .* was not made by this module") as error:
        foreign.run(state, check_mode=check_mode)
    assert f"keeps its images in {tmp_path / 'theirs'}, and storage_path is {tmp_path / 'storage'}" in str(error.value)
    assert f"another name, or set storage_path to {tmp_path / 'theirs'}" in str(error.value)
    assert foreign.client.calls == []
    assert foreign.container["State"]["Status"] == "running"


def test_a_foreign_container_without_storage(foreign: World) -> None:
    foreign.container["Mounts"] = []
    with pytest.raises(AirgapError, match=r"nothing mounted on .*another name, or remove that container"):
        foreign.run()


def test_a_foreign_container_is_stopped(foreign: World) -> None:
    assert foreign.run("stopped")["actions"] == ["stop"]


def test_a_foreign_container_with_the_same_storage_is_taken_over(foreign: World, tmp_path: Path) -> None:
    assert foreign.run(storage_path=str(tmp_path / "theirs"))["actions"] == ["remove", "create", "start"]
    assert not foreign.run()["changed"]


def test_a_foreign_container_with_the_same_storage_is_removed(foreign: World, tmp_path: Path) -> None:
    assert foreign.run("absent", storage_path=str(tmp_path / "theirs"))["actions"][0] == "remove"


def test_absent_keeps_the_images(world: World) -> None:
    assert not world.run("absent")["changed"]
    world.run()
    stored = Path(world.settings.storage_path) / "blob"
    stored.touch()
    foreseen = world.run("absent", check_mode=True)
    assert world.container
    result = world.run("absent")
    assert result["diff"] == foreseen["diff"]
    assert result["actions"] == foreseen["actions"] == ["remove", "remove configuration"]
    assert result["container"] is None
    assert stored.exists()
    assert not Path(world.settings.config_path).exists()
    assert not world.run("absent")["changed"]


def test_absent_removes_a_configuration_that_was_left(world: World) -> None:
    world.node.write(world.settings.config_path, "x")
    result = world.run("absent")
    assert (result["changed"], result["actions"]) == (True, ["remove configuration"])


def test_purge_removes_what_the_registry_stored(world: World) -> None:
    world.run()
    storage = Path(world.settings.storage_path)
    blob = storage / "docker" / "registry" / "v2" / "blobs" / "data"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"12345")
    foreseen = world.run("absent", check_mode=True, purge=True)
    assert blob.exists()
    result = world.run("absent")
    assert result["diff"] == foreseen["diff"]
    assert result["diff"]["before"]["stored_bytes"] == 5
    assert result["actions"] == foreseen["actions"] == ["remove", "remove configuration", "purge"]
    assert not storage.exists()
    assert not world.run("absent")["changed"]


def test_purge_leaves_what_is_not_the_registrys(world: World) -> None:
    storage = Path(world.settings.storage_path)
    (storage / "docker" / "registry").mkdir(parents=True)
    (storage / "other").touch()
    result = world.run("absent", purge=True)
    assert (result["changed"], result["actions"]) == (True, ["purge"])
    assert [item.name for item in storage.iterdir()] == ["other"]


# --- the configuration


def test_the_configuration_is_the_registrys(world: World) -> None:
    world.run(log_level="warn")
    config = config_of(world)
    assert config["version"] == 0.1
    assert config["log"]["level"] == "warn"
    assert config["storage"]["filesystem"] == {"rootdirectory": "/var/lib/registry"}
    assert config["storage"]["delete"] == {"enabled": True}
    assert config["http"]["addr"] == ":5000"
    assert not {"maintenance", "auth", "tls"} & {*config, *config["storage"], *config["http"]}
    world.run(read_only=True, delete_enabled=False)
    assert config_of(world)["storage"]["maintenance"] == {"readonly": {"enabled": True}}
    assert config_of(world)["storage"]["delete"] == {"enabled": False}


def test_the_secret_is_made_once_and_told_to_nobody(world: World) -> None:
    results = [world.run()]
    secret = secret_of(world)
    assert re.fullmatch(r"[0-9a-f]{64}", secret)
    results += [world.run(log_level="debug", check_mode=True), world.run(), world.run("absent")]
    assert secret not in repr(results)
    assert "secret: (hidden)" in results[2]["diff"]["after"]["config"]
    world.run()
    assert secret_of(world) != secret


def test_the_secret_outlives_another_configuration(world: World) -> None:
    world.run()
    secret = secret_of(world)
    world.run(log_level="debug")
    assert secret_of(world) == secret


def test_a_secret_that_is_none_is_made_again(world: World) -> None:
    world.node.write(world.settings.config_path, "http:\n  secret: changeme\n")
    world.run()
    assert len(secret_of(world)) == 64


def test_a_file_that_everybody_could_read(world: World) -> None:
    world.run()
    config = Path(world.settings.config_path)
    assert config.stat().st_mode & 0o777 == 0o600
    config.chmod(0o644)
    foreseen = world.run(check_mode=True)
    result = world.run()
    # The registry has nothing of it: it goes on.
    assert result["actions"] == foreseen["actions"] == ["write configuration"]
    assert result["changed"]
    assert result["diff"] == foreseen["diff"]
    assert config.stat().st_mode & 0o777 == 0o600
    assert not world.run()["changed"]


def test_limits(world: World) -> None:
    world.run(memory=64 * 1024 * 1024, cpus=0.5)
    assert world.container["HostConfig"]["Memory"] == 64 * 1024 * 1024
    assert world.container["HostConfig"]["NanoCpus"] == 500_000_000
    assert world.run(memory=None, cpus=None)["actions"] == ["remove", "create", "start"]


def test_requests_get_time_to_end(world: World) -> None:
    world.run()
    world.run(log_level="debug")
    assert world.client.calls == ["stop", "remove_container", "create_container", "start"]
    assert config_of(world)["http"]["draintimeout"] == "5s"


# --- users


def test_users(world: World) -> None:
    foreseen = world.run(check_mode=True, users=(User("ci", "one"), User("alice", "two")))
    result = world.run()
    assert result["actions"] == foreseen["actions"] == ["write users", *NEW]
    assert result["diff"] == foreseen["diff"]
    file = Path(world.settings.users_path)
    assert file == Path(world.settings.config_path).with_name("config.auth") / "htpasswd"
    assert file.stat().st_mode & 0o777 == 0o600
    digests = parse(file.read_text())
    assert matches(digests["ci"], "one")
    assert matches(digests["alice"], "two")
    assert config_of(world)["auth"]["htpasswd"] == {"realm": "registry", "path": "/etc/distribution/auth/htpasswd"}
    mount = next(mount for mount in world.container["Mounts"] if mount["Destination"] == "/etc/distribution/auth")
    assert (mount["Source"], mount["RW"]) == (str(file.parent), False)
    written = file.read_text()
    assert not world.run(users=(User("alice", "two"), User("ci", "one")))["changed"]
    assert file.read_text() == written


def test_another_password_needs_no_restart(world: World) -> None:
    world.run(users=(User("ci", "secret-one"), User("alice", "secret-two")))
    before = parse(world.node.read(world.settings.users_path) or "")
    foreseen = world.run(check_mode=True, users=(User("ci", "secret-one"), User("alice", "secret-three")))
    result = world.run()
    assert result["actions"] == foreseen["actions"] == ["write users"]
    assert result["diff"] == foreseen["diff"]
    assert result["diff"]["before"]["users"] == {"alice": "another password", "ci": "the password given"}
    assert "secret-" not in repr(result)
    after = parse(world.node.read(world.settings.users_path) or "")
    assert after["ci"] == before["ci"]
    assert matches(after["alice"], "secret-three")
    assert world.client.calls == []
    assert not world.run()["changed"]


def test_no_users_any_more(world: World) -> None:
    world.run(users=(User("ci", "one"),))
    assert world.run(users=())["actions"] == [*AGAIN, "remove users"]
    assert not Path(world.settings.users_directory).exists()
    assert "auth" not in config_of(world)
    assert not world.run()["changed"]


def test_a_file_of_users_that_was_left_without_a_container(world: World) -> None:
    world.node.write(world.settings.users_path, "ci:$2b$10$x\n")
    assert world.run()["actions"] == [*NEW, "remove users"]
    assert not world.run()["changed"]


def test_absent_removes_the_users(world: World) -> None:
    world.run(users=(User("ci", "one"),))
    assert world.run("absent")["actions"] == ["remove", "remove configuration", "remove users"]
    assert not world.run("absent")["changed"]


def test_a_user_that_cannot_be(world: World, tmp_path: Path) -> None:
    with pytest.raises(AirgapError, match="'a:b'"):
        world.run(users=(User("a:b", "one"),))
    assert world.client.calls == list(tmp_path.iterdir()) == []


# --- TLS


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tls:
    monkeypatch.setattr(tls, "check_pair", lambda certificate, key: None)
    pair = Tls(str(tmp_path / "a.crt"), str(tmp_path / "a.key"))
    Path(pair.certificate).write_text("one")
    return pair


def test_tls(world: World, pair: Tls) -> None:
    foreseen = world.run(check_mode=True, tls=pair)
    result = world.run()
    assert result["diff"] == foreseen["diff"]
    assert config_of(world)["http"]["tls"] == {
        "certificate": "/etc/distribution/tls/registry.crt",
        "key": "/etc/distribution/tls/registry.key",
        "minimumtls": "tls1.2",
    }
    mounts = {mount["Destination"]: (mount["Source"], mount["RW"]) for mount in world.container["Mounts"]}
    assert mounts["/etc/distribution/tls/registry.crt"] == (pair.certificate, False)
    assert mounts["/etc/distribution/tls/registry.key"] == (pair.key, False)
    assert not world.run()["changed"]
    assert world.run(tls=None)["actions"] == AGAIN


def test_another_certificate_in_the_same_place(world: World, pair: Tls) -> None:
    world.run(tls=pair)
    Path(pair.certificate).write_text("two")
    result = world.run()
    assert result["actions"] == ["remove", "create", "start"]
    assert result["diff"]["before"]["certificate"] != result["diff"]["after"]["certificate"]
    assert not world.run()["changed"]


def test_a_certificate_that_is_no_good_changes_nothing(world: World, tmp_path: Path) -> None:
    world.run()
    with pytest.raises(AirgapError, match=r"none\.crt cannot be read"):
        world.run(tls=Tls(str(tmp_path / "none.crt"), str(tmp_path / "none.key")))
    assert world.client.calls == []
