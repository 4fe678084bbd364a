# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Docker daemon in memory: the part of ``docker.APIClient`` that the adapter calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import requests
from docker import errors

from .registry import MANIFEST, FakeRegistry, digest_of, docker_manifest

URL = "unix:///fake/docker.sock"


class FakeDockerClient:
    """``calls`` holds the names of the calls that change something; what is in ``failures`` is raised instead."""

    def __init__(self, registry: FakeRegistry | None = None) -> None:
        self.registry = registry
        self.images: dict[str, dict[str, Any]] = {}
        self.archives: dict[str, list[str]] = {}
        self.containers_by_name: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.failures: dict[str, Exception] = {}
        self.push_lines: list[dict[str, Any]] | None = None
        self.log = b""
        self.pullable: set[str] = set()
        # Called when a container starts, with what it was made of: (command, mounts, environment, network).
        self.on_start: Callable[[dict[str, Any]], None] = lambda container: None
        # What a command in a container writes and how it ends: (stdout, stderr, exit code), or an exception.
        self.on_execute: Callable[[list[str]], tuple[bytes, bytes, int]] = lambda argv: (b"", b"", 0)
        self._executions: list[tuple[list[str], int | None]] = []
        self._content: dict[str, tuple[bytes, dict[str, bytes]]] = {}

    # --- what tests use --------------------------------------------------------------------------------------------

    def build(self, name: str, layers: list[bytes]) -> str:
        """Make an image; returns its ID, which is the digest of its config."""
        config = json.dumps({"config": {}, "of": [digest_of(layer) for layer in layers]}).encode()
        identity = digest_of(config)
        # Diff IDs are digests before compression: anything but the layers' own.
        diffs = {digest_of(b"uncompressed " + layer): layer for layer in layers}
        image = self.images.get(identity) or {"Id": identity, "RepoDigests": [], "RootFS": {"Layers": list(diffs)}}
        self.images[name] = self.images[identity] = image
        self._content[identity] = (config, diffs)
        return identity

    def refuse(self, call: str, message: str, status: int = 500) -> None:
        response = requests.Response()
        response.status_code = status
        self.failures[call] = errors.APIError(message, response=response, explanation=message)

    # --- images ----------------------------------------------------------------------------------------------------

    def inspect_image(self, name: str) -> dict[str, Any]:
        self._fail("inspect_image")
        if name not in self.images:
            raise errors.ImageNotFound(f"No such image: {name}")
        return self.images[name]

    def load_image(self, file: Any) -> Iterator[dict[str, Any]]:
        self._changes("load_image")
        for name in self.archives[file.name]:
            self.build(name, [name.encode()])
            yield {"stream": f"Loaded image: {name}\n"}

    def pull(
        self, reference: str, stream: bool, decode: bool, auth_config: dict[str, str] | None = None
    ) -> Iterator[dict[str, Any]]:
        self._changes("pull")
        self.auth_config = auth_config
        if reference not in self.pullable:
            yield {"error": f"manifest for {reference} not found: manifest unknown"}
            return
        self.build(reference, [reference.encode()])
        yield {"status": "Download complete", "id": "abc"}

    def tag(self, image: str, repository: str, tag: str, force: bool) -> None:
        self._changes("tag")
        self.images[f"{repository}:{tag}"] = self.images[image]

    def push(
        self, repository: str, tag: str, stream: bool, decode: bool, auth_config: dict[str, str] | None = None
    ) -> Iterator[dict[str, Any]]:
        self._changes("push")
        self.auth_config = auth_config
        if self.push_lines is not None:
            yield from self.push_lines
            return
        assert self.registry is not None
        name = repository.partition("/")[2]
        image = self.images[f"{repository}:{tag}"]
        config, layers_by_diff = self._content[image["Id"]]
        there = self.registry.blobs.setdefault(name, {})
        for diff, layer in layers_by_diff.items():
            known = digest_of(layer) in there
            yield {"id": diff[7:19], "status": "Pushing"}
            yield {"id": diff[7:19], "status": "Layer already exists" if known else "Pushed"}
            there[digest_of(layer)] = layer
        there[digest_of(config)] = config
        body = json.dumps(docker_manifest(config, list(layers_by_diff.values()))).encode()
        digest = self.registry.put(name, tag, MANIFEST, body)
        image["RepoDigests"].append(f"{repository}@{digest}")
        yield {"status": f"{tag}: digest: {digest} size: {len(body)}"}
        yield {"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": len(body)}}

    # --- containers ------------------------------------------------------------------------------------------------

    def inspect_container(self, name: str) -> dict[str, Any]:
        self._fail("inspect_container")
        if name not in self.containers_by_name:
            raise errors.NotFound(f"No such container: {name}")
        return self.containers_by_name[name]

    def create_host_config(self, **config: Any) -> dict[str, Any]:
        return config

    def create_container(self, **spec: Any) -> None:
        self._changes("create_container")
        host = spec["host_config"]
        self.containers_by_name[spec["name"]] = {
            "Id": f"id-of-{spec['name']}",
            "Image": self.images[spec["image"]]["Id"],
            "Path": "registry",
            "Args": spec["command"],
            "Config": {"Image": spec["image"], "Labels": spec["labels"], "Cmd": spec["command"]},
            "HostConfig": {
                "PortBindings": {
                    inside: [{"HostIp": "", "HostPort": str(outside)}]
                    for inside, outside in host["port_bindings"].items()
                },
                "RestartPolicy": host["restart_policy"],
                "Memory": host["mem_limit"] or 0,
                "NanoCpus": host["nano_cpus"] or 0,
            },
            "Mounts": [
                {"Source": source, "Destination": target, "RW": mode == "rw"}
                for source, target, mode in (bind.split(":") for bind in host["binds"])
            ],
            "State": {"Status": "created", "ExitCode": 0},
            "environment": spec["environment"],
            "network": host.get("network_mode"),
            "user": spec.get("user"),
            "directory": spec.get("working_dir"),
        }

    def start(self, name: str) -> None:
        self._changes("start")
        self.containers_by_name[name]["State"] = {"Status": "running", "ExitCode": 0, "StartedAt": "now"}
        self.on_start(self.containers_by_name[name])

    def unpause(self, name: str) -> None:
        self._changes("unpause")
        self.containers_by_name[name]["State"] = {"Status": "running", "ExitCode": 0}

    def stop(self, name: str) -> None:
        self._changes("stop")
        self.containers_by_name[name]["State"] = {"Status": "exited", "ExitCode": 0}

    def remove_container(self, name: str, force: bool) -> None:
        self._changes("remove_container")
        del self.containers_by_name[name]

    def logs(self, name: str, stdout: bool, stderr: bool, tail: int) -> bytes:
        return b"".join(self.log.splitlines(keepends=True)[-tail:])

    def exec_create(self, name: str, argv: list[str]) -> dict[str, Any]:
        self._executions.append((argv, None))
        return {"Id": str(len(self._executions) - 1)}

    def exec_start(self, identity: str, stream: bool, demux: bool) -> Iterator[tuple[bytes | None, bytes | None]]:
        self._fail("exec_start")
        argv = self._executions[int(identity)][0]
        output, errors, code = self.on_execute(argv)
        self._executions[int(identity)] = (argv, code)
        # As Docker sends it: in pieces, of one stream each.
        yield output[:10], None
        yield None, errors
        yield output[10:], None

    def exec_inspect(self, identity: str) -> dict[str, Any]:
        return {"Running": False, "ExitCode": self._executions[int(identity)][1]}

    def containers(self, all: bool = False, filters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        if filters is not None:
            return [
                {"Id": name}
                for name, container in self.containers_by_name.items()
                if all
                and container["State"]["Status"] in filters["status"]
                and set(filters["label"]) <= {f"{key}={value}" for key, value in container["Config"]["Labels"].items()}
            ]
        return [
            {
                "Names": [f"/{name}"],
                "Ports": [
                    {"PublicPort": int(published[0]["HostPort"]), "Type": "tcp"}
                    for published in container["HostConfig"]["PortBindings"].values()
                ],
            }
            for name, container in self.containers_by_name.items()
            if container["State"]["Status"] == "running"
        ]

    def _changes(self, call: str) -> None:
        self.calls.append(call)
        self._fail(call)

    def _fail(self, call: str) -> None:
        if call in self.failures:
            raise self.failures[call]
