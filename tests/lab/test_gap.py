# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's own gap: what is in its registry came with the signed bundle, or was built on node-1."""

from __future__ import annotations

import json
import tarfile
from typing import Any

import pytest

from .conftest import ROOT, command

REGISTRY = "192.168.2.2:5000"
ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def on_node_1(*argv: str) -> str:
    done = command(["/usr/bin/docker", "exec", "node-1", *argv])
    assert done.returncode == 0, done.stderr
    return done.stdout


def get(path: str) -> Any:
    return json.loads(on_node_1("curl", "-fsS", f"http://{REGISTRY}{path}"))


def digest(name: str) -> str:
    repository, _, tag = name.rpartition(":")
    url = f"http://{REGISTRY}/v2/{repository}/manifests/{tag}"
    headers = on_node_1("curl", "-fsSI", "-H", f"Accept: {ACCEPT}", url)
    found = dict(line.split(": ", 1) for line in headers.splitlines() if ": " in line)
    return {name.lower(): value for name, value in found.items()}["docker-content-digest"].strip()


def bundled() -> dict[str, str]:
    """``{repository:tag: digest}`` of the bundle that the lab was made from."""
    with tarfile.open(ROOT / ".lab" / "bundle" / "lumen-lab.tar") as archive:
        file = archive.extractfile("bundle.json")
        assert file is not None
        return {image["name"]: image["digest"] for image in json.load(file)["images"]}


def test_every_image_of_the_bundle_is_there_as_it_was_signed() -> None:
    images = bundled()
    assert len(images) > 10
    assert {name: digest(name) for name in images} == images


@pytest.mark.alone
def test_any_other_image_was_built_on_node_1() -> None:
    names = {
        f"{repository}:{tag}"
        for repository in get("/v2/_catalog?n=1000")["repositories"]
        for tag in get(f"/v2/{repository}/tags/list")["tags"] or []
    }
    # What its Docker has pushed, it remembers by digest; another tag of the same image is a copy of the manifest.
    pushed = on_node_1("docker", "images", "--digests", "--format", "{{.Digest}}").split()
    assert {name for name in names - set(bundled()) if digest(name) not in pushed} == set()


def test_the_history_names_the_bundle() -> None:
    history = json.loads(on_node_1("cat", "/var/lib/lumen-airgap/bundles/lumen-lab/history.json"))
    assert history[-1]["forced"] is False
    assert history[-1]["by"]
