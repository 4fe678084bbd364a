# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What crossed the gap, seen without our own modules: through curl, containerd's client and Debian's own tools."""

from __future__ import annotations

import json
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

REGISTRY = "192.168.2.2:5003"
CONTENT = "/var/lib/molecule-bundle/bundles/scenario/content"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def node_1() -> Host:
    return testinfra.get_host("docker://node-1")


@pytest.fixture
def node_2() -> Host:
    return testinfra.get_host("docker://node-2")


def curl(host: Host, path: str, accept: str = "application/json") -> Any:
    return json.loads(host.check_output("curl -fsS -H %s %s", f"Accept: {accept}", f"http://{REGISTRY}{path}"))


def test_the_registry_runs_from_the_image_of_the_bundle(node_1: Host) -> None:
    found = json.loads(node_1.check_output("docker inspect registry-bundle"))[0]
    assert found["Config"]["Image"] == "molecule-bundle/registry:1"
    assert found["State"]["Status"] == "running"


def test_the_registry_has_every_image_of_both_bundles_and_no_other(node_1: Host) -> None:
    names = {"molecule-bundle/registry", "probe", "scenario/both", "scenario/one", "scenario/two"}
    assert set(curl(node_1, "/v2/_catalog")["repositories"]) == names


def test_an_index_crossed_whole(node_1: Host) -> None:
    index = curl(node_1, "/v2/scenario/both/manifests/v1.0.0", INDEX)
    assert {child["platform"]["architecture"] for child in index["manifests"]} == {"amd64", "arm64"}
    for child in index["manifests"]:
        manifest = curl(node_1, f"/v2/scenario/both/manifests/{child['digest']}", child["mediaType"])
        for blob in (manifest["config"], *manifest["layers"]):
            head = f"http://{REGISTRY}/v2/scenario/both/blobs/{blob['digest']}"
            node_1.check_output("curl -fsSI %s", head)


def test_the_environment_of_node_1_came_from_the_wheels(node_1: Host) -> None:
    packages = json.loads(node_1.check_output("/opt/molecule-bundle/venv/bin/python -m pip list --format json"))
    assert {"docker", "requests", "PyYAML", "bcrypt"} <= {package["name"] for package in packages}


def test_files_have_their_modes(node_1: Host) -> None:
    assert node_1.file(f"{CONTENT}/files/notes.txt").mode == 0o600
    assert node_1.file(f"{CONTENT}/manifests/pod.yaml").mode == 0o644


def test_the_history_says_what_when_and_by_whom(node_1: Host) -> None:
    history = json.loads(node_1.file("/var/lib/molecule-bundle/bundles/scenario/history.json").content_string)
    assert [(entry["number"], entry["forced"]) for entry in history] == [(1, False), (2, False), (1, True)]
    assert all(entry["by"] and entry["imported_at"] and len(entry["sha256"]) == 64 for entry in history)


def test_node_2_pulls_from_it_and_from_nowhere_else(node_2: Host) -> None:
    assert node_2.check_output("ip route show default") == ""
    reference = f"{REGISTRY}/probe:lab"
    node_2.run("ctr --namespace k8s.io images rm %s", reference)
    node_2.check_output(
        "timeout 60 ctr --namespace k8s.io images pull --hosts-dir /etc/containerd/certs.d %s", reference
    )
    assert reference in node_2.check_output("ctr --namespace k8s.io images ls --quiet")
