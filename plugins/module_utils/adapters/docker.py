# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Docker daemon through its SDK: the few calls we make, with errors a user can act on."""

from __future__ import annotations

import functools
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

from ..errors import AirgapError

try:
    import docker
    import requests
    from docker import errors as docker_errors
except ImportError:
    DOCKER_TRACEBACK: str | None = traceback.format_exc()
else:
    DOCKER_TRACEBACK = None

DEFAULT_HOST = "unix:///var/run/docker.sock"
# Seconds between two pieces of progress: a push is silent while the registry hashes a layer.
TIMEOUT = 300
_NOT_SENT = ("Layer already exists", "Mounted from")

Method = TypeVar("Method", bound=Callable[..., Any])


class DockerError(AirgapError):
    """The Docker daemon could not be asked, or said no."""


class Push(NamedTuple):
    """What Docker said about a push: the manifest's ``digest``, and the short ids (the first twelve hex digits of
    the diff ID) of the layers that it sent."""

    digest: str
    sent: frozenset[str]


class Container(NamedTuple):
    """How a container is to be created. ``mounts`` is (path on the host, path inside, read-only)."""

    image: str
    command: tuple[str, ...]
    environment: dict[str, str]
    ports: dict[int, int]  # port inside → port on the host
    mounts: tuple[tuple[str, str, bool], ...]
    restart_policy: str
    labels: dict[str, str]
    memory: int | None = None  # bytes, no limit when None
    cpus: float | None = None  # CPUs' worth of time, no limit when None
    network: str | None = None  # none, host or the name of a network; Docker's own when None
    user: str | None = None  # the image's own when None
    directory: str | None = None  # that the command runs in; the image's own when None


class Execution(NamedTuple):
    """How a command in a container ended, and what it wrote."""

    exit_code: int
    output: str
    errors: str


def _translated(method: Method) -> Method:
    @functools.wraps(method)
    def call(self: Docker, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except docker_errors.APIError as error:
            what = method.__name__.strip("_")
            subject = f" {args[0]}" if args and isinstance(args[0], str) else ""
            raise DockerError(f"Docker refused to {what}{subject}: {error.explanation or error}") from error
        except (docker_errors.DockerException, requests.exceptions.RequestException) as error:
            raise DockerError(f"the Docker daemon at {self.url} went away: {error}") from error

    return cast(Method, call)


def is_local(url: str) -> bool:
    """Whether the daemon at this address is one of this machine."""
    parts = urlsplit(url)
    return parts.scheme in ("unix", "http+unix") or parts.hostname in ("localhost", "127.0.0.1", "::1")


class Docker:
    """One connection with one daemon. ``client`` is a ``docker.APIClient``."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self.url = url

    @classmethod
    def connect(cls, url: str = DEFAULT_HOST) -> Docker:
        """Connect; raises DockerError that names the socket when no daemon answers there."""
        try:
            return cls(docker.APIClient(base_url=url, version="auto", timeout=TIMEOUT), url)
        except (docker_errors.DockerException, requests.exceptions.RequestException) as error:
            raise DockerError(f"no Docker daemon answers at {url}: {_reason(error)}", docker_host=url) from error

    # --- images ----------------------------------------------------------------------------------------------------

    def image(self, reference: str) -> dict[str, Any] | None:
        """Inspect an image by name or ID, None when it is not there."""
        return self._inspect(reference, self._client.inspect_image)

    @_translated
    def load(self, archive: str) -> list[str]:
        """Load an archive made by ``docker save``; returns the names of the images in it."""
        names = []
        try:
            with open(archive, "rb") as file:
                for line in self._client.load_image(file):
                    # The SDK does not look at the status of this answer: a refusal is a line with a message.
                    failure = line.get("error") or line.get("message")
                    if failure:
                        raise DockerError(f"Docker cannot load {archive}: {failure}")
                    kind, _colon, name = str(line.get("stream", "")).strip().partition(": ")
                    if kind in ("Loaded image", "Loaded image ID"):
                        names.append(name)
        except OSError as error:
            # A requests exception is an OSError too, but one without a file name.
            if error.filename is None:
                raise
            raise DockerError(f"the image archive {archive} cannot be read: {error.strerror}") from error
        return names

    def save(self, names: Sequence[str]) -> Iterator[bytes]:
        """One archive of these images (names or IDs) in the form of ``docker save``, in chunks."""
        client = self._client
        url = f"{client.base_url}/v{client.api_version}/images/get"
        try:
            with client.get(url, params={"names": list(names)}, stream=True, timeout=TIMEOUT) as answer:
                if answer.status_code != 200:
                    raise DockerError(f"Docker refused to save {', '.join(names)}: {answer.text.strip()}")
                yield from answer.iter_content(1 << 20)
        except requests.exceptions.RequestException as error:
            raise DockerError(f"the Docker daemon at {self.url} went away: {error}") from error

    @_translated
    def pull(self, reference: str, login: tuple[str, str] | None = None) -> None:
        """Pull an image by ``host/repository:tag`` or ``@digest``; raises DockerError with Docker's words."""
        proof = {"auth_config": {"username": login[0], "password": login[1]}} if login else {}
        for line in self._client.pull(reference, stream=True, decode=True, **proof):
            if line.get("error"):
                raise DockerError(f"Docker could not pull {reference}: {line['error']}{_push_advice(line['error'])}")

    @_translated
    def tag(self, image: str, repository: str, tag: str) -> None:
        """Name an image ``repository:tag``; ``repository`` includes the registry's host."""
        self._client.tag(image, repository, tag, force=True)

    @_translated
    def push(self, repository: str, tag: str, login: tuple[str, str] | None = None) -> Push:
        """Push one tag and return what Docker said; raises DockerError with its words when it fails.

        ``login`` is (user, password); without it, what ``docker login`` has left counts.
        """
        proof = {"auth_config": {"username": login[0], "password": login[1]}} if login else {}
        lines = self._client.push(repository, tag=tag, stream=True, decode=True, **proof)
        return read_push(lines, f"{repository}:{tag}")

    # --- containers ------------------------------------------------------------------------------------------------

    def container(self, name: str) -> dict[str, Any] | None:
        """Inspect a container, None when it is not there."""
        return self._inspect(name, self._client.inspect_container)

    @_translated
    def create(self, name: str, container: Container) -> None:
        """Create a container; it is not started."""
        client = self._client
        host = client.create_host_config(
            binds=[f"{source}:{target}:{'ro' if fixed else 'rw'}" for source, target, fixed in container.mounts],
            port_bindings={f"{inside}/tcp": outside for inside, outside in container.ports.items()},
            restart_policy={"Name": container.restart_policy},
            mem_limit=container.memory,
            nano_cpus=None if container.cpus is None else nano_cpus(container.cpus),
            network_mode=container.network,
        )
        client.create_container(
            image=container.image,
            name=name,
            command=list(container.command),
            environment=container.environment,
            ports=[(inside, "tcp") for inside in container.ports],
            labels=container.labels,
            host_config=host,
            user=container.user,
            working_dir=container.directory,
        )

    @_translated
    def start(self, name: str) -> None:
        """Start a container; nothing happens when it runs."""
        self._client.start(name)

    @_translated
    def unpause(self, name: str) -> None:
        """Let a paused container go on."""
        self._client.unpause(name)

    @_translated
    def stop(self, name: str) -> None:
        """Stop a container, running or paused, killing it after Docker's ten seconds."""
        self._client.stop(name)

    @_translated
    def remove(self, name: str) -> None:
        """Remove a container, running or not; its bind mounts stay."""
        self._client.remove_container(name, force=True)

    @_translated
    def ended(self, label: str) -> list[str]:
        """The IDs of the containers with a label that do not run any more."""
        found = self._client.containers(all=True, filters={"label": [label], "status": ["created", "exited", "dead"]})
        return [str(container["Id"]) for container in found]

    @_translated
    def logs(self, name: str, lines: int) -> list[str]:
        """The last lines that a container wrote."""
        text = self._client.logs(name, stdout=True, stderr=True, tail=lines)
        return cast("list[str]", text.decode("utf-8", "replace").splitlines())

    @_translated
    def execute(self, name: str, argv: list[str], timeout: float) -> Execution:
        """Run a command in a running container and wait for its end.

        Raises DockerError after ``timeout`` seconds; Docker has no way to end the command then, but whoever stops
        the container does.
        """
        identity = self._client.exec_create(name, argv)["Id"]
        outputs: tuple[list[bytes], list[bytes]] = ([], [])
        failures: list[BaseException] = []

        # The SDK switches the time limit of this one stream off: only another thread can stop waiting for it.
        def read() -> None:
            try:
                for parts in self._client.exec_start(identity, stream=True, demux=True):
                    for part, so_far in zip(parts, outputs):
                        so_far.append(part or b"")
                # What it wrote may be at its end a moment before the command is.
                while self._client.exec_inspect(identity)["Running"]:
                    time.sleep(0.05)
            except Exception as error:
                failures.append(error)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(timeout)
        if reader.is_alive():
            raise DockerError(f"{' '.join(argv)} in the container {name} did not end within {timeout:g} s")
        if failures:
            raise failures[0]
        code = int(self._client.exec_inspect(identity)["ExitCode"])
        output, errors = (b"".join(parts).decode("utf-8", "replace") for parts in outputs)
        return Execution(code, output, errors)

    @_translated
    def publisher(self, port: int) -> str | None:
        """The name of the running container that publishes a TCP port of the host."""
        for container in self._client.containers():
            if any(
                item.get("PublicPort") == port and item.get("Type") == "tcp" for item in container.get("Ports") or []
            ):
                return str(container["Names"][0]).lstrip("/")
        return None

    @_translated
    def _inspect(self, name: str, call: Callable[[str], dict[str, Any]]) -> dict[str, Any] | None:
        try:
            return call(name)
        except docker_errors.NotFound:
            return None


def nano_cpus(cpus: float) -> int:
    """CPUs' worth of time as Docker counts it."""
    return round(cpus * 1_000_000_000)


def read_push(lines: Iterable[dict[str, Any]], target: str) -> Push:
    """Read the progress of a push (a stream of JSON objects). Raises DockerError when it says error, or no digest."""
    states: dict[str, str] = {}
    digest = None
    for line in lines:
        if line.get("error"):
            raise DockerError(f"Docker could not push {target}: {line['error']}{_push_advice(str(line['error']))}")
        if line.get("id"):
            states[line["id"]] = str(line.get("status", ""))
        digest = (line.get("aux") or {}).get("Digest", digest)
    if digest is None:
        raise DockerError(f"Docker pushed {target} without naming a digest: was the push interrupted? Run again")
    sent = frozenset(layer for layer, state in states.items() if not state.startswith(_NOT_SENT))
    return Push(digest, sent)


def _push_advice(error: str) -> str:
    if "HTTP response to HTTPS client" in error:
        return ". Name the registry under insecure-registries in the daemon's daemon.json, or give it TLS"
    if "connection refused" in error:
        return ". Is the registry running? The module lumen.airgap.registry starts it"
    return ""


def _reason(error: BaseException) -> str:
    text = str(error)
    if "FileNotFoundError" in text or "No such file" in text:
        return "there is no such socket. Is the daemon running (systemctl status docker)?"
    if "PermissionError" in text or "Permission denied" in text:
        return "permission denied. Run the task with become, or as a member of the group docker"
    if "ConnectionRefused" in text or "Connection refused" in text:
        return "the socket is there but nobody listens. Is the daemon running (systemctl status docker)?"
    return text
