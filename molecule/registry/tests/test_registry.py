# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the scenario left on node-1, seen without our own modules: through Docker's client and curl."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from testinfra.host import Host

testinfra_hosts = ["docker://node-1"]

NAME = "registry-molecule"
ADDRESS = "http://127.0.0.1:5001"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def inspect(host: Host, name: str) -> dict[str, Any]:
    return json.loads(host.check_output("docker inspect %s", name))[0]


def curl(host: Host, path: str, accept: str = "application/json") -> Any:
    return json.loads(host.check_output("curl -fsS -H %s %s", f"Accept: {accept}", f"{ADDRESS}{path}"))


def test_the_container_runs_as_it_was_asked_for(host: Host) -> None:
    container = inspect(host, NAME)
    assert container["State"]["Status"] == "running"
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "always"
    mounts = {mount["Destination"]: (mount["Source"], mount["RW"]) for mount in container["Mounts"]}
    assert mounts["/var/lib/registry"] == ("/var/lib/registry-molecule", True)
    assert mounts["/etc/distribution/config.yml"] == ("/etc/docker-registry/molecule.yml", False)


def test_the_configuration_is_a_file_of_ours(host: Host) -> None:
    file = host.file("/etc/docker-registry/molecule.yml")
    assert (file.user, file.mode) == ("root", 0o600)
    assert yaml.safe_load(file.content_string)["storage"]["filesystem"]["rootdirectory"] == "/var/lib/registry"


def test_the_labs_own_registry_was_left_alone(host: Host) -> None:
    container = inspect(host, "registry")
    assert container["State"]["Status"] == "running"
    assert container["HostConfig"]["PortBindings"]["5000/tcp"][0]["HostPort"] == "5000"


def test_nothing_is_left_of_the_registry_that_could_not_start(host: Host) -> None:
    names = host.check_output("docker ps --all --format %s", "{{.Names}}").splitlines()
    assert NAME in names
    assert f"{NAME}-second" not in names


@pytest.mark.parametrize(("repository", "media_type"), [("from-docker", MANIFEST), ("from-layout", INDEX)])
def test_three_tags_have_one_digest(host: Host, repository: str, media_type: str) -> None:
    tags = curl(host, f"/v2/{repository}/tags/list")["tags"]
    assert sorted(tags) == ["abc1234", "latest", "v1.0.0"]
    documents = [curl(host, f"/v2/{repository}/manifests/{tag}", media_type) for tag in tags]
    assert documents[0]["mediaType"] == media_type
    assert documents[0] == documents[1] == documents[2]


def test_docker_shows_the_digest_that_the_registry_has(host: Host) -> None:
    headers = host.check_output(
        "curl -fsSI -H %s %s", f"Accept: {MANIFEST}", f"{ADDRESS}/v2/from-docker/manifests/latest"
    )
    digest = next(line.split()[1] for line in headers.splitlines() if line.lower().startswith("docker-content-digest"))
    assert f"127.0.0.1:5001/from-docker@{digest}" in inspect(host, "molecule-registry:one")["RepoDigests"]


def test_an_index_is_there_with_all_its_children(host: Host) -> None:
    index = curl(host, "/v2/from-layout/manifests/v1.0.0", INDEX)
    assert len(index["manifests"]) == 2
    for child in index["manifests"]:
        assert curl(host, f"/v2/from-layout/manifests/{child['digest']}", child["mediaType"])["layers"]


def test_docker_pulls_what_was_published(host: Host) -> None:
    host.check_output("docker pull 127.0.0.1:5001/mounted/from-layout:v1.0.0")
