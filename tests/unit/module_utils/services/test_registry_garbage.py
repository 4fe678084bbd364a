# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collecting garbage, and what a registry is after a collection that went wrong."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.docker import Docker, DockerError
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry import RegistryContainer, Settings
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry_garbage import Collection
from ansible_collections.lumen.airgap.tests.unit.fakes.docker import URL

from .test_registry import NEW, World, config_of

GARBAGE = {"a" * 64: 100, "b" * 64: 20}
COLLECTED = ["switch to read-only", "collect", "switch back"]


class Registry(World):
    """A registry that runs, with two blobs in its storage that nothing refers to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.run()
        self.data = Path(self.settings.storage_path, "docker", "registry", "v2")
        (self.data / "repositories").mkdir(parents=True)
        for name, size in {**GARBAGE, "c" * 64: 5000}.items():
            self.blob(name).parent.mkdir(parents=True)
            self.blob(name).write_bytes(bytes(size))
        self.client.on_execute = self.collector
        # What was run in the container, and whether the registry took writes then.
        self.executed: list[tuple[list[str], bool]] = []
        self.failure: Any = None

    def blob(self, name: str) -> Path:
        return self.data / "blobs" / "sha256" / name[:2] / name / "data"

    def collector(self, argv: list[str]) -> tuple[bytes, bytes, int]:
        self.executed.append((argv, "maintenance" not in config_of(self)["storage"]))
        there = [name for name in GARBAGE if self.blob(name).exists()]
        lines = [f"blob eligible for deletion: sha256:{name}" for name in there]
        if "--dry-run" not in argv:
            if isinstance(self.failure, BaseException):
                raise self.failure
            if self.failure:
                return b"app\n", b"starting\nfailed to garbage collect: disk full\n", self.failure
            for name in there:
                self.blob(name).unlink()
        return "\n".join(("app", f"1 blobs marked, {len(there)} blobs eligible", *lines)).encode(), b"log\n", 0

    def collect(self, check_mode: bool = False, timeout: float = 5.0) -> dict[str, Any]:
        self.client.calls.clear()
        docker = Docker(self.client, URL)

        def ensure(settings: Settings) -> dict[str, Any]:
            return RegistryContainer(settings, docker, self.node, self.clock, check_mode, self.probe).ensure("started")

        return Collection(self.settings, ensure, docker, self.node, timeout, check_mode).run()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def test_garbage_is_collected_while_nobody_can_write(registry: Registry) -> None:
    foreseen = registry.collect(check_mode=True)
    assert registry.client.calls == []
    done = registry.collect()
    assert done["actions"] == foreseen["actions"] == COLLECTED
    assert done["diff"] == foreseen["diff"]
    assert done["diff"]["before"]["garbage"] == {"blobs": 2, "bytes": 120}
    assert done["garbage"] == foreseen["garbage"] == {"blobs": 2, "bytes": 120}
    assert done["changed"]
    assert foreseen["changed"]
    look, collect = ["registry", "garbage-collect", "--dry-run"], ["registry", "garbage-collect"]
    inside = "/etc/distribution/config.yml"
    assert registry.executed == [([*look, inside], True), ([*look, inside], True), ([*collect, inside], False)]
    assert "maintenance" not in config_of(registry)["storage"]
    assert done["container"]["status"] == "running"
    assert not registry.run()["changed"]


def test_without_garbage_nothing_is_stopped(registry: Registry) -> None:
    registry.collect()
    again = registry.collect()
    assert (again["changed"], again["actions"], again["garbage"]) == (False, [], {"blobs": 0, "bytes": 0})
    assert registry.client.calls == []
    assert again["diff"]["before"] == again["diff"]["after"]


def test_a_registry_that_is_read_only_stays_so(registry: Registry) -> None:
    registry.run(read_only=True)
    done = registry.collect()
    assert done["actions"] == ["collect"]
    assert done["garbage"]["bytes"] == 120
    assert registry.client.calls == []


def test_a_registry_that_has_to_be_started_first(registry: Registry) -> None:
    registry.run("stopped")
    foreseen = registry.collect(check_mode=True)
    assert (foreseen["actions"], foreseen["garbage"]) == (["start"], None)
    assert registry.collect()["actions"] == ["start", *COLLECTED]


def test_nothing_was_ever_pushed(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.run("absent", purge=True)
    done = registry.collect()
    assert (done["actions"], done["garbage"]) == (NEW, {"blobs": 0, "bytes": 0})
    assert registry.executed == []


@pytest.mark.parametrize(
    ("code", "words"), [(1, ": failed to garbage collect: disk full"), (137, ".*option memory too small")]
)
def test_a_collection_that_fails_switches_back(registry: Registry, code: int, words: str) -> None:
    registry.failure = code
    with pytest.raises(AirgapError, match=f"in the container registry failed with exit code {code}{words}") as error:
        registry.collect()
    assert error.value.details["log"] == ["starting", "failed to garbage collect: disk full"]
    assert "maintenance" not in config_of(registry)["storage"]
    assert not registry.run()["changed"]


def test_a_collection_that_fails_and_cannot_switch_back(registry: Registry) -> None:
    def collector(argv: list[str]) -> tuple[bytes, bytes, int]:
        if "--dry-run" not in argv:
            registry.client.refuse("start", "no space left on device")
            return b"", b"damaged", 1
        return registry.collector(argv)

    registry.client.on_execute = collector
    with pytest.raises(AirgapError, match=r"damaged\. .* not be brought back .*no space left on device.*again"):
        registry.collect()


@pytest.mark.parametrize(("number", "ending"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, AirgapError)])
def test_a_run_that_is_ended_while_it_collects_switches_back(
    registry: Registry, number: signal.Signals, ending: type[BaseException]
) -> None:
    def ended(argv: list[str]) -> tuple[bytes, bytes, int]:
        if "--dry-run" not in argv:
            assert "maintenance" in config_of(registry)["storage"]
            os.kill(os.getpid(), number)
        return registry.collector(argv)

    registry.client.on_execute = ended
    with pytest.raises(ending):
        registry.collect()
    assert "maintenance" not in config_of(registry)["storage"]


def test_a_run_that_was_killed_while_it_collected(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Docker, name: str, argv: list[str], timeout: float) -> Any:
        if "--dry-run" in argv:
            return execute(self, name, argv, timeout)
        raise SystemExit

    execute = Docker.execute
    monkeypatch.setattr(Docker, "execute", killed)
    # SIGKILL leaves no time to switch back.
    monkeypatch.setattr(Collection, "_switch_back", lambda self, reason: None)
    with pytest.raises(SystemExit):
        registry.collect()
    assert "maintenance" in config_of(registry)["storage"]
    assert registry.run()["actions"] == ["write configuration", "remove", "create", "start"]
    assert "maintenance" not in config_of(registry)["storage"]


def test_a_collector_that_does_not_end(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(self: Docker, name: str, argv: list[str], timeout: float) -> Any:
        raise DockerError(f"garbage-collect did not end within {timeout:g} s")

    monkeypatch.setattr(Docker, "execute", late)
    with pytest.raises(AirgapError, match="did not end within 7 s"):
        registry.collect(timeout=7)
    assert not registry.run()["changed"]


def test_a_container_that_somebody_removes_meanwhile(registry: Registry) -> None:
    registry.probe = registry.client.containers_by_name.clear  # type: ignore[method-assign]
    with pytest.raises(AirgapError, match="was removed by somebody else while its garbage was collected"):
        registry.collect()


def test_the_images_own_entrypoint_is_used(registry: Registry) -> None:
    registry.container.update(Path="/entrypoint.sh", Args=["--", *registry.container["Args"]])
    registry.collect(check_mode=True)
    assert registry.executed[0][0][:3] == ["/entrypoint.sh", "--", "garbage-collect"]
