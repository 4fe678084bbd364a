# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inventories of a registry in memory and of directories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle import delta
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle.delta import HeldBlob, HeldBundle
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle.manifest import BundleFile
from ansible_collections.lumen.airgap.plugins.module_utils.services.bundle import inventory
from ansible_collections.lumen.airgap.tests.unit.fakes.bundle import at
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, digest_of

from .conftest import APP, BASE, Inside


def take(inside: Inside, path: Path, check_mode: bool = False) -> dict[str, Any]:
    registry = Registry(HOST, session=inside.fake.session())
    return inventory.write(registry, str(inside.state_path), str(path), inside.lines.append, inside.clock, check_mode)


def test_what_was_imported_is_held(inside: Inside) -> None:
    builder = inside.full(7)
    children = [builder.layout.manifest([BASE, b"amd64"]), builder.layout.manifest([BASE, b"arm64"])]
    builder.named("tool:v2", builder.layout.index(children))
    bundle = builder.seal()
    inside.bring_in(bundle)
    path = inside.path / "inventory.json"
    result = take(inside, path)
    found = delta.parse(path.read_bytes())
    assert found.registry == HOST
    assert found.taken == at(0)
    assert found.bundles == (HeldBundle("lumen", 7, result["diff"]["after"].split()[3]),)
    assert found.images == {image.name: image.digest for image in builder.images}
    assert found.blobs[digest_of(BASE)] == HeldBlob(len(BASE), ("lumen-api", "lumen-web", "tool"))
    assert found.blobs[digest_of(b"arm64")] == HeldBlob(5, ("tool",))
    # Manifests are no blobs that a delta could leave out.
    assert not found.blobs.keys() & {image.digest for image in builder.images}
    assert sorted(found.files) == [
        "lumen/files/run.sh",
        "lumen/manifests/argo.yaml",
        "lumen/manifests/deep/er/rollouts.yaml",
        "lumen/wheels/node/requirements.txt",
        "lumen/wheels/node/x-1.0-py3-none-any.whl",
    ]
    assert result["held"]["images"] == 4
    assert path.stat().st_mode & 0o777 == 0o644
    # And so a bundle of the same leaves out everything but its manifests and the layout.
    listed = [BundleFile(**file) for file in json.loads((bundle / "bundle.json").read_bytes())["files"]]
    split = delta.split("lumen", listed, found.blobs.keys(), found)
    assert {file.path for file in split.packed} == {
        "index.json",
        "oci-layout",
        *(f"blobs/sha256/{item['digest'][7:]}" for item in children),
        *(f"blobs/sha256/{image.digest[7:]}" for image in builder.images),
    }


def test_nothing_new_leaves_the_document(inside: Inside) -> None:
    inside.fake.add_image("app", "v1", [APP])
    path = inside.path / "inventory.json"
    assert take(inside, path, check_mode=True)["changed"]
    assert not path.exists()
    assert take(inside, path)["changed"]
    inside.clock.jump(3600)
    again = take(inside, path)
    assert not again["changed"]
    assert again["taken"] == at(0)
    assert again["diff"]["before"] == again["diff"]["after"]
    inside.fake.add_image("app", "v2", [BASE])
    result = take(inside, path)
    assert result["changed"]
    assert "image app:v2" in result["diff"]["after"]
    assert "image app:v2" not in result["diff"]["before"]


@pytest.mark.parametrize("damaged", ["", "{", '{"schema": 2}'])
def test_a_document_that_cannot_be_read_is_written_anew(inside: Inside, damaged: str) -> None:
    path = inside.path / "inventory.json"
    path.write_text(damaged)
    assert take(inside, path)["changed"]
    assert delta.parse(path.read_bytes()).images == {}


def test_an_index_whose_images_are_not_all_there(inside: Inside) -> None:
    builder = inside.builder()
    children = [builder.layout.manifest([b"amd64"]), builder.layout.manifest([b"arm64"])]
    builder.named("tool:v2", builder.layout.index(children))
    inside.bring_in(builder.seal())
    del inside.fake.manifests["tool"][children[1]["digest"]]
    path = inside.path / "inventory.json"
    take(inside, path)
    found = delta.parse(path.read_bytes())
    assert digest_of(b"amd64") in found.blobs
    assert digest_of(b"arm64") not in found.blobs


def test_a_link_in_the_content_is_not_held(inside: Inside) -> None:
    inside.unpack(inside.full().seal())
    run = inside.state / "content" / "files" / "run.sh"
    run.unlink()
    run.symlink_to("/etc/passwd")
    path = inside.path / "inventory.json"
    take(inside, path)
    assert "lumen/files/run.sh" not in delta.parse(path.read_bytes()).files


def test_what_no_bundle_brought_does_not_spoil_the_document(inside: Inside) -> None:
    inside.unpack(inside.full().seal())
    (inside.state / "content" / "files" / "a\\b").write_text("x")
    (inside.state_path / "Not a bundle" / "content").mkdir(parents=True)
    (inside.state_path / "Not a bundle" / "content" / "x").write_text("x")
    inside.fake.put("odd", "v1", "application/vnd.oci.image.manifest.v1+json", b"{}")
    path = inside.path / "inventory.json"
    take(inside, path)
    found = delta.parse(path.read_bytes())
    assert len(found.files) == 5
    assert list(found.images) == ["odd:v1"]
    assert any("odd@sha256:" in line and "is left out" in line for line in inside.lines)
