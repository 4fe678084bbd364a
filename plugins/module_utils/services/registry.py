# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The registry's container on a node: what it should be, what it is, and the way from one to the other."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import secrets
import traceback
from dataclasses import dataclass
from typing import Any, Callable

from ..adapters import health, htpasswd, tls
from ..adapters.docker import Container, Docker, DockerError, nano_cpus
from ..adapters.health import HealthError
from ..adapters.htpasswd import User
from ..adapters.node import Node
from ..errors import AirgapError
from ..times import Clock

try:
    import yaml
except ImportError:
    YAML_TRACEBACK: str | None = traceback.format_exc()
else:
    YAML_TRACEBACK = None

LABEL = "lumen.airgap.registry/configuration"
LABEL_CERTIFICATE = "lumen.airgap.registry/certificate"
LOG_LINES = 20
# Where the image of the distribution project (version 3) looks, and where it listens.
CONFIG_INSIDE = "/etc/distribution/config.yml"
STORAGE_INSIDE = "/var/lib/registry"
CERTIFICATE_INSIDE = "/etc/distribution/tls/registry.crt"
KEY_INSIDE = "/etc/distribution/tls/registry.key"
USERS_INSIDE = "/etc/distribution/auth"
USERS_FILE = "htpasswd"
PORT_INSIDE = 5000
COMMAND = ("serve", CONFIG_INSIDE)
# Version 3 exports traces to localhost:4318 unless told otherwise, and fills its log with the failures.
ENVIRONMENT = {"OTEL_TRACES_EXPORTER": "none"}
# Both files hold what nobody but root should know.
PRIVATE = "0600"
# Seconds that requests under way get when the registry is stopped. Docker kills it after ten.
DRAIN = "5s"

PROBE_INTERVAL = 0.2

_SECRET = re.compile(r"^( *secret: )(.*)$", re.MULTILINE)
_SECRET_FORM = re.compile(r"[0-9a-f]{64}")
_HIDDEN = "(hidden)"
# What a diff says of a user's password.
_THE_ONE_GIVEN, _ANOTHER = "the password given", "another password"
# What can be different without the container being made again: the registry reads its users at each request.
_OUTSIDE = {"state", "config_mode", "users", "users_mode"}


@dataclass(frozen=True)
class Tls:
    """Paths of the node: the server's certificate, with those between it and its CA behind it, and its key."""

    certificate: str
    key: str


@dataclass(frozen=True)
class Settings:
    """The options of the module; ``wait_timeout`` is in seconds, ``memory`` in bytes, all paths are the node's."""

    name: str
    image: str
    archive: str | None
    port: int
    storage_path: str
    config_path: str
    log_level: str
    restart_policy: str
    wait_timeout: float
    tls: Tls | None = None
    users: tuple[User, ...] = ()
    delete_enabled: bool = True
    read_only: bool = False
    memory: int | None = None
    cpus: float | None = None
    purge: bool = False

    @property
    def users_directory(self) -> str:
        """The directory that holds the users, beside the configuration file."""
        return f"{os.path.splitext(self.config_path)[0]}.auth"

    @property
    def users_path(self) -> str:
        """The file with the users."""
        return os.path.join(self.users_directory, USERS_FILE)


class RegistryContainer:
    """One registry container on one node. ``probe`` raises HealthError as long as the registry does not answer."""

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
        self._probe = probe or functools.partial(_probe, settings)
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
        if self._settings.tls:
            tls.check_pair(self._settings.tls.certificate, self._settings.tls.key)
        htpasswd.check(self._settings.users)
        after = self._wanted(before)
        holds_port = before.get("state") in ("running", "paused") and before.get("port") == after["port"]
        if after != before and not holds_port:
            self._check_port()
        if after["image_id"] is None:
            after["image_id"] = self._load()
        self._write_files(after)
        if _configuration(before) != _configuration(after):
            self._recreate(before, after)
        elif before["state"] == "paused":
            self._do("unpause", lambda: self._docker.unpause(self._settings.name))
        elif before["state"] != "running":
            self._do("start", self._start)
        if not after["users"] and self._node.exists(self._settings.users_path):
            self._do("remove users", lambda: self._node.remove_tree(self._settings.users_directory))
        if not self._check_mode:
            self._wait()
        return after

    def _stopped(self, before: dict[str, Any]) -> dict[str, Any]:
        if before.get("state") in (None, "stopped"):
            return before
        self._do("stop", lambda: self._docker.stop(self._settings.name))
        return {**before, "state": "stopped"}

    def _absent(self, before: dict[str, Any]) -> dict[str, Any]:
        settings = self._settings
        if before:
            self._do("remove", lambda: self._remove(before))
        if self._node.exists(settings.config_path):
            before.setdefault("config_path", settings.config_path)
            self._do("remove configuration", lambda: self._node.remove(settings.config_path))
        if self._node.exists(settings.users_directory):
            before.setdefault("users", self._users())
            self._do("remove users", lambda: self._node.remove_tree(settings.users_directory))
        if settings.purge and self._node.exists(stored(settings.storage_path)):
            before["stored_bytes"] = self._node.size(stored(settings.storage_path))
            self._do("purge", self._purge)
        return {}

    # --- what is and what should be --------------------------------------------------------------------------------

    def _actual(self) -> dict[str, Any]:
        container = self._docker.container(self._settings.name)
        if container is None:
            return {}
        host = container["HostConfig"]
        published = (host.get("PortBindings") or {}).get(f"{PORT_INSIDE}/tcp") or [{}]
        mounts = {mount.get("Destination"): mount.get("Source") for mount in container.get("Mounts") or []}
        labels = container["Config"].get("Labels") or {}
        config = self._node.read(self._settings.config_path)
        return {
            "state": _status(container["State"]),
            "image": container["Config"]["Image"],
            "image_id": container["Image"],
            "port": int(published[0].get("HostPort") or 0),
            "storage_path": mounts.get(STORAGE_INSIDE),
            "config_path": mounts.get(CONFIG_INSIDE),
            "certificate_path": mounts.get(CERTIFICATE_INSIDE),
            "key_path": mounts.get(KEY_INSIDE),
            "certificate": labels.get(LABEL_CERTIFICATE),
            "restart_policy": host.get("RestartPolicy", {}).get("Name") or "no",
            "memory": host.get("Memory") or None,
            "nano_cpus": host.get("NanoCpus") or None,
            "configuration": labels.get(LABEL),
            "config": config and _hide(config),
            "config_mode": self._node.mode(self._settings.config_path),
            "users": self._users(),
            "users_mode": self._node.mode(self._settings.users_path),
        }

    def _users(self) -> dict[str, str]:
        """Who is in the file of the users, and whether with the password that the options give."""
        given = {user.name: user.password for user in self._settings.users}
        return {
            name: _THE_ONE_GIVEN if name in given and htpasswd.matches(digest, given[name]) else _ANOTHER
            for name, digest in sorted(self._known().items())
        }

    def _known(self) -> dict[str, str]:
        return htpasswd.parse(self._node.read(self._settings.users_path) or "")

    def _wanted(self, before: dict[str, Any]) -> dict[str, Any]:
        settings = self._settings
        pair = settings.tls
        wanted = {
            "image": settings.image,
            "port": settings.port,
            "storage_path": settings.storage_path,
            "config_path": settings.config_path,
            "certificate_path": pair.certificate if pair else None,
            "key_path": pair.key if pair else None,
            # The registry reads it once: another one in the same place has to be taken up.
            "certificate": _hash(self._node.read(pair.certificate)) if pair else None,
            "restart_policy": settings.restart_policy,
            "memory": settings.memory,
            "nano_cpus": settings.cpus and nano_cpus(settings.cpus),
            "config": render(settings, _HIDDEN),
        }
        # The label tells what the container was created with: a file written by a run that was killed before it
        # recreated the container would otherwise hide that the registry still runs with the old one.
        wanted["configuration"] = _hash({**wanted, "command": COMMAND, "environment": ENVIRONMENT})
        files = {
            "config_mode": PRIVATE,
            "users": {user.name: _THE_ONE_GIVEN for user in sorted(settings.users)},
            "users_mode": PRIVATE if settings.users else None,
        }
        return {"state": "running", **wanted, **files, "image_id": self._image_id(before)}

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

    def _write_files(self, after: dict[str, Any]) -> None:
        settings = self._settings
        # Read again: without a container nothing was said of the files that an earlier run may have left.
        config = self._node.read(settings.config_path)
        users = (self._users(), self._node.mode(settings.users_path))
        if settings.users and users != (after["users"], after["users_mode"]):
            self._do("write users", self._write_users)
        there = (config and _hide(config), self._node.mode(settings.config_path))
        if there != (after["config"], after["config_mode"]):
            self._do("write configuration", lambda: self._write_config(config or ""))

    def _write_users(self) -> None:
        settings = self._settings
        given = {user.name: user.password for user in settings.users}
        known = {
            name: digest
            for name, digest in self._known().items()
            if name in given and htpasswd.matches(digest, given[name])
        }
        self._node.make_directory(os.path.dirname(settings.users_directory))
        self._node.make_directory(settings.users_directory, 0o700)
        text = htpasswd.render(sorted(settings.users), known)
        self._node.write(settings.users_path, text, int(PRIVATE, 8))

    def _write_config(self, old: str) -> None:
        """Write it with the secret that it had, so that an upload goes on after the registry was made again."""
        found = _SECRET.search(old)
        secret = found.group(2) if found and _SECRET_FORM.fullmatch(found.group(2)) else secrets.token_hex(32)
        text = render(self._settings, secret)
        self._node.write(self._settings.config_path, text, int(PRIVATE, 8))

    def _recreate(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        if before:
            self._do("remove", lambda: self._remove(before))
        self._do("create", lambda: self._create(after))
        self._do("start", self._start_new)

    def _remove(self, before: dict[str, Any]) -> None:
        # Removing it would kill it: what is being written gets the time that it needs.
        if before["state"] == "running":
            self._docker.stop(self._settings.name)
        self._docker.remove(self._settings.name)

    def _purge(self) -> None:
        """Remove what a registry wrote, and the directories around it unless they hold something else."""
        path = stored(self._settings.storage_path)
        self._node.remove_tree(path)
        self._node.remove_empty(os.path.dirname(path))
        self._node.remove_empty(self._settings.storage_path)

    def _create(self, after: dict[str, Any]) -> None:
        settings = self._settings
        self._node.make_directory(settings.storage_path)
        mounts = [(settings.storage_path, STORAGE_INSIDE, False), (settings.config_path, CONFIG_INSIDE, True)]
        if settings.tls:
            mounts += [(settings.tls.certificate, CERTIFICATE_INSIDE, True), (settings.tls.key, KEY_INSIDE, True)]
        if settings.users:
            # The directory: a file that is replaced stays the old one where it alone is mounted.
            mounts.append((settings.users_directory, USERS_INSIDE, True))
        labels = {LABEL: after["configuration"]}
        if after["certificate"]:
            labels[LABEL_CERTIFICATE] = after["certificate"]
        container = Container(
            image=settings.image,
            command=COMMAND,
            environment=ENVIRONMENT,
            ports={PORT_INSIDE: settings.port},
            mounts=tuple(mounts),
            restart_policy=settings.restart_policy,
            labels=labels,
            memory=settings.memory,
            cpus=settings.cpus,
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
        deadline = self._clock.monotonic() + self._settings.wait_timeout
        while True:
            try:
                return self._probe()
            except HealthError as error:
                last = error
            state = self._state()
            if state is None or state["status"] in ("exited", "dead"):
                raise self._unhealthy("ended instead of answering", state, last)
            if self._clock.monotonic() >= deadline:
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


def render(settings: Settings, secret: str) -> str:
    """The registry's configuration file (distribution version 3) as YAML text.

    ``secret`` signs the state of uploads that clients hold: with another one none of them can go on.
    """
    storage: dict[str, Any] = {
        "cache": {"blobdescriptor": "inmemory"},
        "filesystem": {"rootdirectory": STORAGE_INSIDE},
        "delete": {"enabled": settings.delete_enabled},
    }
    if settings.read_only:
        storage["maintenance"] = {"readonly": {"enabled": True}}
    # Upload locations without a host: they are right under every name that the registry is reached by.
    http: dict[str, Any] = {
        "addr": f":{PORT_INSIDE}",
        "relativeurls": True,
        "secret": secret,
        "draintimeout": DRAIN,
        "headers": {"X-Content-Type-Options": ["nosniff"]},
    }
    if settings.tls:
        http["tls"] = {"certificate": CERTIFICATE_INSIDE, "key": KEY_INSIDE, "minimumtls": "tls1.2"}
    configuration: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": settings.log_level, "fields": {"service": "registry"}},
        "storage": storage,
        "http": http,
    }
    if settings.users:
        configuration["auth"] = {"htpasswd": {"realm": "registry", "path": f"{USERS_INSIDE}/{USERS_FILE}"}}
    configuration["health"] = {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}}
    text: str = yaml.safe_dump(configuration, sort_keys=False)
    return f"# Written by the module lumen.airgap.registry: changes made here are undone.\n{text}"


def stored(storage_path: str) -> str:
    """The directory under ``storage_path`` that holds all that a registry wrote."""
    return os.path.join(storage_path, "docker", "registry")


def _probe(settings: Settings) -> None:
    context = tls.client_context(settings.tls.certificate) if settings.tls else None
    health.ask(settings.port, context, bool(settings.users))


def _hide(config: str) -> str:
    """A configuration file as everybody may see it."""
    return _SECRET.sub(rf"\g<1>{_HIDDEN}", config)


def _configuration(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in _OUTSIDE}


def _status(state: dict[str, Any]) -> str:
    """``running``, ``paused`` or ``stopped``; one that Docker keeps restarting is Docker's business to start."""
    if state["Status"] == "paused":
        return "paused"
    return "running" if state["Status"] in ("running", "restarting") else "stopped"


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
