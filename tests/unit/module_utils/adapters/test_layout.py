# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Layouts on disk, whole, truncated and corrupt."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import layout as module
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.layout import Layout, LayoutError
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.store import TarStore
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci.image import Descriptor
from ansible_collections.lumen.airgap.tests.unit.fakes.layout import LayoutBuilder
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import digest_of


@pytest.fixture
def builder(tmp_path: Path) -> LayoutBuilder:
    return LayoutBuilder(tmp_path / "layout")


def layout(builder: LayoutBuilder) -> Layout:
    return Layout(str(builder.path))


def test_an_index_with_children_is_read_whole(builder: LayoutBuilder) -> None:
    amd64, arm64 = builder.manifest([b"base", b"amd64"]), builder.manifest([b"base", b"arm64", b"more"])
    digest = builder.add("app", builder.index([amd64, arm64]))
    image = layout(builder).image("app")
    assert [item.digest for item in image.manifests] == [amd64["digest"], arm64["digest"], digest]
    assert len(image.blobs) == 6


def test_not_a_layout(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"is not an OCI layout: it has no index\.json"):
        Layout(str(tmp_path)).image(None)


def test_an_index_that_is_not_json(builder: LayoutBuilder) -> None:
    (builder.path / "index.json").write_text("{")
    with pytest.raises(LayoutError, match=r"index\.json cannot be read"):
        layout(builder).image(None)


def test_a_missing_layer_is_named(builder: LayoutBuilder) -> None:
    builder.add("app", builder.manifest([b"layer"]))
    builder.file(digest_of(b"layer")).unlink()
    with pytest.raises(LayoutError, match=f"{digest_of(b'layer')} .* is missing in .*: copy it again"):
        layout(builder).image("app")


def test_a_truncated_layer_is_named(builder: LayoutBuilder) -> None:
    builder.add("app", builder.manifest([b"layer"]))
    builder.file(digest_of(b"layer")).write_bytes(b"lay")
    with pytest.raises(LayoutError, match="has 3 bytes, its descriptor says 5"):
        layout(builder).image("app")


def test_a_flipped_byte_in_a_manifest(builder: LayoutBuilder) -> None:
    manifest = builder.manifest([b"layer"])
    builder.add("app", manifest)
    path = builder.file(manifest["digest"])
    path.write_bytes(path.read_bytes().replace(b'"size": 5', b'"size": 6'))
    with pytest.raises(LayoutError, match="is corrupt: its content is sha256:"):
        layout(builder).image("app")


def test_a_manifest_that_is_cut_after_its_size_was_looked_at(
    builder: LayoutBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder.add("app", builder.manifest([b"layer"]))
    found = layout(builder).image("app")
    builder.file(found.root.digest).write_bytes(b"{}")
    monkeypatch.setattr(Layout, "_check_size", lambda self, item: None)
    with pytest.raises(LayoutError, match="is corrupt: its content is sha256:"):
        layout(builder).manifest(found.root)


def test_an_index_that_is_given_counts_instead_of_the_file(builder: LayoutBuilder) -> None:
    wanted, other = builder.manifest([b"layer"]), builder.manifest([b"other"])
    builder.add("app", other)
    entry = {**wanted, "annotations": {"org.opencontainers.image.ref.name": "app"}}
    image = Layout(str(builder.path), index={"manifests": [entry]}).image("app")
    assert image.root.digest == wanted["digest"]


def test_a_manifest_that_is_not_json(builder: LayoutBuilder) -> None:
    builder.add("app", builder.blob(b"no json", "application/vnd.oci.image.manifest.v1+json"))
    with pytest.raises(LayoutError, match="is not JSON"):
        layout(builder).image("app")


def test_a_manifest_larger_than_registries_take(builder: LayoutBuilder) -> None:
    with pytest.raises(LayoutError, match="more than a registry takes"):
        layout(builder).manifest(Descriptor("m", digest_of(b""), 5 * 1024 * 1024))


def test_a_digest_cannot_lead_out_of_the_layout(builder: LayoutBuilder) -> None:
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:../../../secret", "size": 1}
    (builder.path / "index.json").write_text(json.dumps({"manifests": [entry]}))
    with pytest.raises(LayoutError, match="no usable digest"):
        layout(builder).image(None)


def test_a_reader_hands_out_everything_but_the_end_of_a_corrupt_blob(builder: LayoutBuilder) -> None:
    descriptor = builder.blob(b"0123456789")
    builder.file(descriptor["digest"]).write_bytes(b"012345678X")
    item = Descriptor("layer", descriptor["digest"], 10)
    with layout(builder).open(item) as reader:
        assert len(reader) == 10
        assert reader.read(5) == b"01234"
        with pytest.raises(LayoutError, match="is corrupt"):
            reader.read(5)


def test_an_index_without_limit_is_not_read(builder: LayoutBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    builder.add("app", builder.manifest([b"layer"]))
    monkeypatch.setattr(module, "INDEX_LIMIT", 10)
    with pytest.raises(LayoutError, match=r"index\.json has \d+ bytes, more than 10"):
        layout(builder).index()


def test_blobs_may_be_links_where_a_user_names_the_layout(builder: LayoutBuilder, tmp_path: Path) -> None:
    builder.add("app", builder.manifest([b"layer"]))
    builder.blobs.rename(tmp_path / "shared")
    builder.blobs.symlink_to(tmp_path / "shared")
    assert len(layout(builder).image("app").blobs) == 2


def test_a_layout_is_read_through_a_tar(builder: LayoutBuilder, tmp_path: Path) -> None:
    manifest = builder.manifest([b"layer"])
    builder.add("app", manifest)
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(builder.path, "./")
    with TarStore([str(tmp_path / "x.tar")]) as store:
        found = Layout("bundle", store)
        (config, layer) = found.image("app").blobs
        with found.open(layer) as reader:
            assert reader.read() == b"layer"
        assert found.parsed(found.image("app").root)["config"]["digest"] == config.digest


def test_what_a_delta_leaves_out_is_no_fault_until_it_is_read(builder: LayoutBuilder) -> None:
    builder.add("app", builder.manifest([b"layer"]))
    builder.file(digest_of(b"layer")).unlink()
    delta = Layout(str(builder.path), absent={digest_of(b"layer")})
    (_config, layer) = delta.image("app").blobs
    assert layer.digest == digest_of(b"layer")
    with pytest.raises(LayoutError, match=r"was left out .* build a full bundle"):
        delta.open(layer)


def test_a_file_that_shrinks_while_it_is_read(builder: LayoutBuilder) -> None:
    descriptor = builder.blob(b"0123456789")
    with layout(builder).open(Descriptor("layer", descriptor["digest"], 10)) as reader:
        builder.file(descriptor["digest"]).write_bytes(b"0123")
        with pytest.raises(LayoutError, match="is corrupt"):
            list(reader)
