# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The registry's container on a node: what it should be, what it is, and the way from one to the other."""

from __future__ import annotations

import hashlib
import json
import traceback
from dataclasses import dataclass
from typing import Any, Callable

from ..adapters.docker import Container, Docker, DockerError
from ..adapters.node import Node
from ..adapters.registry import Registry, RegistryError
from ..errors import AirgapError
from ..times import Clock

try:
    import yaml
except ImportError:
    YAML_TRACEBACK: str | None = traceback.format_exc()
else:
    YAML_TRACEBACK = None

LABEL = "lumen.airgap.registry/configuration"
LOG_LINES = 20
# Where the image of the distribution project (version 3) looks, and where it listens.
CONFIG_INSIDE = "/etc/distribution/config.yml"
STORAGE_INSIDE = "/var/lib/registry"
PORT_INSIDE = 5000
COMMAND = ("serve", CONFIG_INSIDE)
# Version 3 exports traces to localhost:4318 unless told otherwise, and fills its log with the failures.
ENVIRONMENT = {"OTEL_TRACES_EXPORTER": "none"}

PROBE_SECONDS = 2.0
PROBE_INTERVAL = 0.2


@dataclass(frozen=True)
class Settings:
    """The options of the module; ``wait_timeout`` is in seconds, ``archive`` a path on the node."""

    name: str
    image: str
    archive: str | None
    port: int
    storage_path: str
    config_path: str
    log_level: str
    restart_policy: str
    wait_timeout: float


class RegistryContainer:
    """One registry container on one node. ``probe`` raises RegistryError as long as the registry does not answer."""

    def __init__(
        self,
        settings: Settings,
        docker: Docker,
        node: Node,
        clock: Clock,
        check_mode: bool = False,
        probe: Callable[[], None] | None = None,
    ) -> None:
        self._settings = settings
        self._docker = docker
        self._node = node
        self._clock = clock
        self._check_mode = check_mode
        self._probe = probe or Registry(f"127.0.0.1:{settings.port}", read_timeout=PROBE_SECONDS).ping
        self._actions: list[str] = []

    def ensure(self, state: str) -> dict[str, Any]:
        """Bring the container into ``state`` (started, stopped, absent).

        Returns ``changed``, ``diff``, ``actions`` and ``container`` (None when there is none). In check mode the
        same, with ``container`` as it is now. Raises AirgapError; one about a container that does not become
        healthy carries ``container`` and the last lines of its ``log``. A container of that name that was not made
        here is replaced or removed only when its images are under ``storage_path``.
        """
        before = self._actual()
        if state != "stopped":
            self._check_ours(before)
        wanted = {"started": self._started, "stopped": self._stopped, "absent": self._absent}[state]
        after = wanted(before)
        return {
            "changed": before != after,
            "diff": {"before": before, "after": after},
            "actions": self._actions,
            "container": self._state(),
        }

    # --- the three states: each returns what `before` becomes, having made it so unless in check mode ---------------

    def _started(self, before: dict[str, Any]) -> dict[str, Any]:
        after = self._wanted(before)
        holds_port = before.get("state") in ("running", "paused") and before.get("port") == after["port"]
        if after != before and not holds_port:
            self._check_port()
        if after["image_id"] is None:
            after["image_id"] = self._load()
        if _configuration(before) != _configuration(after):
            self._recreate(after, existed=bool(before))
        elif before["state"] == "paused":
            self._do("unpause", lambda: self._docker.unpause(self._settings.name))
        elif before["state"] != "running":
            self._do("start", self._start)
        if not self._check_mode:
            self._wait()
        return after

    def _stopped(self, before: dict[str, Any]) -> dict[str, Any]:
        if before.get("state") in (None, "stopped"):
            return before
        self._do("stop", lambda: self._docker.stop(self._settings.name))
        return {**before, "state": "stopped"}

    def _absent(self, before: dict[str, Any]) -> dict[str, Any]:
        if before:
            self._do("remove", lambda: self._docker.remove(self._settings.name))
        if self._node.exists(self._settings.config_path):
            before.setdefault("config_path", self._settings.config_path)
            self._do("remove configuration", lambda: self._node.remove(self._settings.config_path))
        return {}

    # --- what is and what should be --------------------------------------------------------------------------------

    def _actual(self) -> dict[str, Any]:
        container = self._docker.container(self._settings.name)
        if container is None:
            return {}
        ports = container["HostConfig"].get("PortBindings") or {}
        published = ports.get(f"{PORT_INSIDE}/tcp") or [{}]
        mounts = {mount.get("Destination"): mount.get("Source") for mount in container.get("Mounts") or []}
        return {
            "state": _status(container["State"]),
            "image": container["Config"]["Image"],
            "image_id": container["Image"],
            "port": int(published[0].get("HostPort") or 0),
            "storage_path": mounts.get(STORAGE_INSIDE),
            "config_path": mounts.get(CONFIG_INSIDE),
            "restart_policy": container["HostConfig"].get("RestartPolicy", {}).get("Name") or "no",
            "configuration": (container["Config"].get("Labels") or {}).get(LABEL),
            "config": self._node.read(self._settings.config_path),
        }

    def _wanted(self, before: dict[str, Any]) -> dict[str, Any]:
        settings = self._settings
        wanted = {
            "image": settings.image,
            "port": settings.port,
            "storage_path": settings.storage_path,
            "config_path": settings.config_path,
            "restart_policy": settings.restart_policy,
            "config": render(settings.log_level),
        }
        # The label tells what the container was created with: a file written by a run that was killed before it
        # recreated the container would otherwise hide that the registry still runs with the old one.
        wanted["configuration"] = _hash({**wanted, "command": COMMAND, "environment": ENVIRONMENT})
        return {"state": "running", **wanted, "image_id": self._image_id(before)}

    def _image_id(self, before: dict[str, Any]) -> str | None:
        image = self._docker.image(self._settings.image)
        if image is not None:
            return str(image["Id"])
        # A container outlives the name of its image: there is nothing to load while it runs what is wanted.
        return before["image_id"] if before.get("image") == self._settings.image else None

    def _check_ours(self, actual: dict[str, Any]) -> None:
        """Ours on another path would take the place of a registry whose images somebody pulls."""
        settings = self._settings
        if not actual or actual["configuration"] or actual["storage_path"] == settings.storage_path:
            return
        theirs = actual["storage_path"]
        keeps = f"keeps its images in {theirs}" if theirs else f"has nothing mounted on {STORAGE_INSIDE}"
        way = f", or set storage_path to {theirs} to take it over" if theirs else ", or remove that container yourself"
        raise AirgapError(
            f"the container {settings.name} (image {actual['image']}) was not made by this module: it {keeps}, and "
            f"storage_path is {settings.storage_path}. Choose another name{way}"
        )

    # --- the ways there --------------------------------------------------------------------------------------------

    def _do(self, action: str, call: Callable[[], None]) -> None:
        self._actions.append(action)
        if not self._check_mode:
            call()

    def _check_port(self) -> None:
        if not self._node.port_free(self._settings.port):
            raise self._port_taken()

    def _port_taken(self) -> AirgapError:
        port = self._settings.port
        holder = self._docker.publisher(port)
        by = f"by the container {holder}" if holder else f"by a process of this host (ss -ltnp 'sport = :{port}')"
        return AirgapError(f"port {port} is taken {by}: stop that, or give the registry another port")

    def _load(self) -> str | None:
        settings = self._settings
        if not settings.archive:
            raise AirgapError(
                f"the image {settings.image} is not in the Docker daemon at {self._docker.url}, and inside the airgap "
                "there is no registry yet to pull it from: give archive, the path of a tar made by docker save"
            )
        if not self._node.exists(settings.archive):
            raise AirgapError(f"the image {settings.image} is not here, and neither is its archive {settings.archive}")
        self._do("load image", self._load_archive)
        image = self._docker.image(settings.image)
        return str(image["Id"]) if image else None

    def _load_archive(self) -> None:
        settings = self._settings
        names = self._docker.load(str(settings.archive))
        if self._docker.image(settings.image) is None:
            there = ", ".join(names) or "no image"
            raise AirgapError(f"{settings.archive} holds {there}, not {settings.image}")

    def _recreate(self, after: dict[str, Any], existed: bool) -> None:
        settings = self._settings
        if self._node.read(settings.config_path) != after["config"]:
            self._do("write configuration", lambda: self._node.write(settings.config_path, after["config"]))
        if existed:
            self._do("remove", lambda: self._docker.remove(settings.name))
        self._do("create", lambda: self._create(after))
        self._do("start", self._start_new)

    def _create(self, after: dict[str, Any]) -> None:
        settings = self._settings
        self._node.make_directory(settings.storage_path)
        container = Container(
            image=settings.image,
            command=COMMAND,
            environment=ENVIRONMENT,
            ports={PORT_INSIDE: settings.port},
            mounts=((settings.storage_path, STORAGE_INSIDE, False), (settings.config_path, CONFIG_INSIDE, True)),
            restart_policy=settings.restart_policy,
            labels={LABEL: after["configuration"]},
        )
        self._docker.create(settings.name, container)

    def _start(self) -> None:
        try:
            self._docker.start(self._settings.name)
        except DockerError as error:
            if "address already in use" in error.message or "port is already allocated" in error.message:
                raise self._port_taken() from error
            raise

    def _start_new(self) -> None:
        try:
            self._start()
        except AirgapError:
            # A container that never ran has no log to look at, and its name would be in the way.
            self._docker.remove(self._settings.name)
            raise

    # --- health ----------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        deadline = self._clock.time() + self._settings.wait_timeout
        while True:
            try:
                return self._probe()
            except RegistryError as error:
                last = error
            state = self._state()
            if state is None or state["status"] in ("exited", "dead"):
                raise self._unhealthy("ended instead of answering", state, last)
            if self._clock.time() >= deadline:
                waited = f"did not answer on /v2/ within {self._settings.wait_timeout:g} s"
                raise self._unhealthy(waited, state, last)
            self._clock.sleep(PROBE_INTERVAL)

    def _unhealthy(self, what: str, state: dict[str, Any] | None, last: AirgapError) -> AirgapError:
        log = self._docker.logs(self._settings.name, LOG_LINES) if state else []
        is_now = f"{state['status']}, exit code {state['exit_code']}" if state else "gone"
        said = f"; its last words: {log[-1]}" if log else ""
        message = f"the registry container {self._settings.name} {what} (it is {is_now}){said}"
        return AirgapError(message, container=state, log=log, last_answer=last.message)

    def _state(self) -> dict[str, Any] | None:
        container = self._docker.container(self._settings.name)
        if container is None:
            return None
        state = container["State"]
        return {
            "name": self._settings.name,
            "id": container["Id"],
            "image": container["Config"]["Image"],
            "status": state["Status"],
            "exit_code": state.get("ExitCode", 0),
            "error": state.get("Error", ""),
            "started_at": state.get("StartedAt", ""),
            "restarts": container.get("RestartCount", 0),
        }


def render(log_level: str) -> str:
    """The registry's configuration file (distribution version 3) as YAML text."""
    configuration = {
        "version": 0.1,
        "log": {"level": log_level, "fields": {"service": "registry"}},
        "storage": {
            "cache": {"blobdescriptor": "inmemory"},
            "filesystem": {"rootdirectory": STORAGE_INSIDE},
            "delete": {"enabled": False},
        },
        # Upload locations without a host: they are right under every name that the registry is reached by.
        "http": {"addr": f":{PORT_INSIDE}", "relativeurls": True, "headers": {"X-Content-Type-Options": ["nosniff"]}},
        "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
    }
    text: str = yaml.safe_dump(configuration, sort_keys=False)
    return f"# Written by the module lumen.airgap.registry: changes made here are undone.\n{text}"


def _configuration(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != "state"}


def _status(state: dict[str, Any]) -> str:
    """``running``, ``paused`` or ``stopped``; one that Docker keeps restarting is Docker's business to start."""
    if state["Status"] == "paused":
        return "paused"
    return "running" if state["Status"] in ("running", "restarting") else "stopped"


def _hash(configuration: dict[str, Any]) -> str:
    text = json.dumps(configuration, sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
