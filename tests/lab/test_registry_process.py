# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What we configure means to the real registry what we think it means.

The registry is the lab's program, run as a process of this machine in place of a container: everything but Docker is
the real thing, so that certificates, users, garbage and restarts are proved in seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import health, tls
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.docker import Container, Docker, Execution
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.htpasswd import User
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.node import Node
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry import (
    CONFIG_INSIDE,
    RegistryContainer,
    Settings,
    Tls,
)
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry_garbage import Collection
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock
from ansible_collections.lumen.airgap.tests.unit.fakes import certificates

pytestmark = pytest.mark.loopback

CACHE = Path(os.environ.get("LUMEN_LAB_CACHE", "~/.cache/lumen-airgap")).expanduser()
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


class ProcessDocker(Docker):
    """One container, whose program runs as a process of this machine with the mounted paths put in their place."""

    def __init__(self, program: Path, work: Path) -> None:
        super().__init__(None, "unix:///none")
        self._program = str(program)
        self._config = work / "translated.yml"
        self._log = work / "registry.log"
        self._spec: Container | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.executed: list[list[str]] = []

    def image(self, reference: str) -> dict[str, Any] | None:
        return {"Id": "sha256:1"}

    def container(self, name: str) -> dict[str, Any] | None:
        spec = self._spec
        if spec is None:
            return None
        code = self._process.poll() if self._process else 0
        return {
            "Id": "one",
            "Image": "sha256:1",
            "Path": self._program,
            "Args": list(spec.command),
            "Config": {"Image": spec.image, "Labels": spec.labels},
            "HostConfig": {
                "PortBindings": {f"{inside}/tcp": [{"HostPort": port}] for inside, port in spec.ports.items()},
                "RestartPolicy": {"Name": spec.restart_policy},
            },
            "Mounts": [{"Source": source, "Destination": target} for source, target, _fixed in spec.mounts],
            "State": {"Status": "running" if code is None else "exited", "ExitCode": code or 0},
        }

    def create(self, name: str, container: Container) -> None:
        self._spec, self._process = container, None

    def start(self, name: str) -> None:
        spec = self._spec
        assert spec is not None
        sources = {target: source for source, target, _fixed in spec.mounts}
        text = Path(sources[CONFIG_INSIDE]).read_text()
        for target, source in sources.items():
            text = text.replace(target, source)
        self._config.write_text(text.replace("addr: :5000", f"addr: 127.0.0.1:{spec.ports[5000]}"))
        with self._log.open("ab") as log:
            argv = [self._program, "serve", str(self._config)]
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, **spec.environment})
        self.starts += 1

    def stop(self, name: str) -> None:
        if self._process:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(10)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)

    def remove(self, name: str) -> None:
        self.kill()
        self._spec = self._process = None

    def logs(self, name: str, lines: int) -> list[str]:
        return self._log.read_text().splitlines()[-lines:]

    def execute(self, name: str, argv: list[str], timeout: float) -> Execution:
        self.executed.append(argv)
        translated = [str(self._config) if argument == CONFIG_INSIDE else argument for argument in argv]
        environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
        done = subprocess.run(translated, capture_output=True, text=True, timeout=timeout, check=False, env=environment)
        return Execution(done.returncode, done.stdout, done.stderr)


class World:
    """The module's service on this machine, and a client of the registry that it runs."""

    def __init__(self, program: Path, path: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.docker = ProcessDocker(program, path)
        self.client = requests.Session()
        self.client.trust_env = False
        self.settings = Settings(
            name="registry",
            image="registry:3",
            archive=None,
            port=port,
            storage_path=str(path / "storage"),
            config_path=str(path / "etc" / "config.yml"),
            log_level="info",
            restart_policy="no",
            wait_timeout=15.0,
        )

    def run(self, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        self.settings = replace(self.settings, **options)
        return self._ensure(self.settings, check_mode)

    def collect(self, check_mode: bool = False) -> dict[str, Any]:
        def ensure(settings: Settings) -> dict[str, Any]:
            return self._ensure(settings, check_mode)

        return Collection(self.settings, ensure, self.docker, Node(), 20.0, check_mode).run()

    def _ensure(self, settings: Settings, check_mode: bool) -> dict[str, Any]:
        return RegistryContainer(settings, self.docker, Node(), SystemClock(), check_mode).ensure("started")

    # --- a client's side -------------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, **request: Any) -> requests.Response:
        scheme = "https" if self.settings.tls else "http"
        url = path if "://" in path else f"{scheme}://127.0.0.1:{self.settings.port}{path}"
        return self.client.request(method, url, timeout=10, **request)

    def upload(self, repository: str, data: bytes) -> dict[str, Any]:
        started = self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        assert started.status_code == 202, started.text
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        done = self.ask("PUT", f"{started.headers['Location']}&digest={digest}", data=data)
        assert done.status_code == 201, done.text
        return {"mediaType": "application/octet-stream", "digest": digest, "size": len(data)}

    def put(self, repository: str, reference: str | None, document: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        headers = {"Content-Type": document["mediaType"]}
        done = self.ask("PUT", f"/v2/{repository}/manifests/{reference or digest}", data=body, headers=headers)
        assert done.status_code == 201, done.text
        return {"mediaType": document["mediaType"], "digest": digest, "size": len(body)}

    def image(self, repository: str, tag: str | None, *layers: bytes) -> dict[str, Any]:
        config = {**self.upload(repository, b"{}"), "mediaType": "application/vnd.oci.image.config.v1+json"}
        blobs = [self.upload(repository, layer) for layer in layers]
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": blobs}
        return {**self.put(repository, tag, document), "layers": [blob["digest"] for blob in blobs]}

    def index(self, repository: str, tag: str, *children: dict[str, Any]) -> dict[str, Any]:
        descriptors = [{key: child[key] for key in ("mediaType", "digest", "size")} for child in children]
        return self.put(repository, tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors})

    def pullable(self, repository: str, child: dict[str, Any]) -> bool:
        headers = {"Accept": f"{MANIFEST}, {INDEX}"}
        answers = [self.ask("GET", f"/v2/{repository}/manifests/{child['digest']}", headers=headers)]
        answers += [self.ask("GET", f"/v2/{repository}/blobs/{layer}") for layer in child["layers"]]
        return all(answer.status_code == 200 for answer in answers)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    programs = sorted((CACHE / "programs").glob("registry-*/registry"))
    assert programs, "the lab has no registry yet: make lab"
    world = World(programs[-1], tmp_path)
    yield world
    world.client.close()
    world.docker.kill()


def certificate(directory: Path, days: int = 1) -> Tls:
    return Tls(*certificates.make(directory, "registry.lumen.example", days))


def test_it_starts_once(world: World) -> None:
    assert world.run()["actions"] == ["write configuration", "create", "start"]
    assert world.ask("GET", "/v2/").status_code == 200
    assert not world.run()["changed"]
    assert world.docker.starts == 1
    world.run(log_level="debug")
    assert world.docker.starts == 2


def test_tls_with_a_name_that_is_not_the_address(world: World, tmp_path: Path) -> None:
    world.run(tls=certificate(tmp_path))
    assert not world.run()["changed"]
    other = certificate(tmp_path / "other")
    with pytest.raises(health.HealthError, match="does not have the certificate that it was given"):
        health.ask(world.settings.port, tls.client_context(other.certificate), False)
    # A renewed certificate in the same place is taken up, once.
    certificate(tmp_path)
    assert world.run()["actions"] == ["remove", "create", "start"]
    assert not world.run()["changed"]


def test_an_expired_certificate_does_not_take_the_place_of_a_good_one(world: World, tmp_path: Path) -> None:
    world.run(tls=certificate(tmp_path))
    certificate(tmp_path, days=-1)
    with pytest.raises(AirgapError, match="certificate has expired"):
        world.run()
    assert world.docker.starts == 1


def test_users_come_and_go_without_a_restart(world: World) -> None:
    world.run(users=(User("ci", "first"), User("nodes", "other")))
    assert world.ask("GET", "/v2/").status_code == 401
    assert world.ask("GET", "/v2/", auth=("ci", "first")).status_code == 200
    assert not world.run()["changed"]
    assert world.run(users=(User("ci", "second"),))["actions"] == ["write users"]
    asked = [("ci", "first"), ("ci", "second"), ("nodes", "other")]
    assert [world.ask("GET", "/v2/", auth=user).status_code for user in asked] == [401, 200, 401]
    assert world.docker.starts == 1
    assert world.run(users=())["actions"] == ["write configuration", "remove", "create", "start", "remove users"]
    assert world.ask("GET", "/v2/").status_code == 200


def test_read_only_and_delete(world: World) -> None:
    world.run()
    image = world.image("app", "v1", b"layer")
    world.run(read_only=True)
    assert world.ask("POST", "/v2/app/blobs/uploads/").status_code == 405
    assert world.ask("DELETE", f"/v2/app/manifests/{image['digest']}").status_code == 405
    assert world.pullable("app", image)
    world.run(read_only=False, delete_enabled=False)
    assert world.ask("DELETE", f"/v2/app/manifests/{image['digest']}").status_code == 405
    world.run(delete_enabled=True)
    assert world.ask("DELETE", f"/v2/app/manifests/{image['digest']}").status_code == 202


def test_an_upload_goes_on_after_a_restart(world: World) -> None:
    world.run()
    data = os.urandom(300_000)
    started = world.ask("POST", "/v2/app/blobs/uploads/")
    half = world.ask("PATCH", started.headers["Location"], data=data[:150_000])
    assert half.status_code == 202
    world.run(log_level="debug")
    location = half.headers["Location"].replace("://[::1]", "://127.0.0.1")
    rest = world.ask("PATCH", location, data=data[150_000:], headers={"Content-Range": "150000-299999"})
    assert rest.status_code == 202, rest.text
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    done = world.ask("PUT", f"{rest.headers['Location']}&digest={digest}")
    assert done.status_code == 201, done.text
    assert world.ask("GET", f"/v2/app/blobs/{digest}").content == data


def test_garbage_is_freed_and_a_live_index_stays_whole(world: World) -> None:
    world.run()
    children = [world.image("app", None, os.urandom(1000), b"shared") for _child in range(2)]
    world.index("app", "v1", *children)
    layer = os.urandom(50_000)
    gone = world.image("app", "v0", layer, b"shared")
    assert world.ask("DELETE", f"/v2/app/manifests/{gone['digest']}").status_code == 202

    foreseen = world.collect(check_mode=True)
    assert (foreseen["changed"], foreseen["garbage"]["blobs"], world.docker.starts) == (True, 2, 1)
    done = world.collect()
    assert (done["actions"], done["diff"]) == (foreseen["actions"], foreseen["diff"])
    assert done["garbage"] == foreseen["garbage"]
    assert done["garbage"]["bytes"] == len(layer) + gone["size"]
    assert world.docker.starts == 3
    assert all(world.pullable("app", child) for child in children)
    # A registry that remembered the layer would tell the next push that it need not be sent.
    assert world.ask("HEAD", f"/v2/app/blobs/{gone['layers'][0]}").status_code == 404
    assert world.pullable("app", world.image("app", "v0", layer, b"shared"))

    again = world.collect()
    assert (again["changed"], again["garbage"]) == (False, {"blobs": 0, "bytes": 0})
    assert world.docker.starts == 3


def test_nothing_was_ever_pushed(world: World) -> None:
    assert world.run()["changed"]
    assert world.collect()["garbage"] == {"blobs": 0, "bytes": 0}


def test_a_collection_that_fails_leaves_a_registry_that_takes_images(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run()
    gone = world.image("app", "v0", b"layer")
    kept = world.image("app", "v1", b"another")
    world.ask("DELETE", f"/v2/app/manifests/{gone['digest']}")
    execute = world.docker.execute

    def damaged(name: str, argv: list[str], timeout: float) -> Execution:
        # The collector gives up at a manifest that it cannot read, rather than take its layers away.
        if "--dry-run" not in argv:
            name = kept["digest"][7:]
            blobs = Path(world.settings.storage_path, "docker/registry/v2/blobs/sha256")
            (blobs / name[:2] / name / "data").write_bytes(b"damaged")
        return execute(name, argv, timeout)

    monkeypatch.setattr(world.docker, "execute", damaged)
    with pytest.raises(AirgapError, match=r"garbage collection .* failed with exit code 1: .*retrieve manifest"):
        world.collect()
    assert world.pullable("app", world.image("app", "v2", b"third"))
    assert not world.run()["changed"]


def test_why_the_collectors_own_delete_untagged_is_not_used(world: World) -> None:
    """The children of a live index lose their layers when another repository has the index without them."""
    world.run()
    layer = os.urandom(1000)
    children = {name: world.image(name, None, layer) for name in ("a", "b")}
    for name, child in children.items():
        world.index(name, "v1", child)
    assert world.ask("DELETE", f"/v2/a/manifests/{children['a']['digest']}").status_code == 202
    assert world.collect()["garbage"]["blobs"] == 0
    assert world.pullable("b", children["b"])
    program = world.docker.container("registry")["Path"]  # type: ignore[index]
    world.docker.execute("registry", [program, "garbage-collect", "--delete-untagged", CONFIG_INSIDE], 20)
    world.docker.kill()
    world.run()
    assert not world.pullable("b", children["b"]), "mended upstream: services/registry_garbage.py may use it"
