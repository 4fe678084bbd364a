# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives of both of Docker's generations, and archives that are none."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.blob_cache import BlobCache
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.docker_archive import (
    ArchiveError,
    SavedImage,
    compressed_layer,
    convert,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.docker_archive import (
    Archive,
    chunks,
    config_of,
    layer,
    legacy,
    modern,
)
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import digest_of

BASE, TOP, OTHER = layer(base="base" * 1000), layer(top="top"), layer(other="other")
IMAGES = {"app:v1": [BASE, TOP], "app:v2": [BASE, OTHER]}


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    return BlobCache(str(tmp_path / "cache"))


def read(cache: BlobCache, *archives: bytes) -> list[SavedImage]:
    return convert([chunks(body) for body in archives], cache, lambda done: None)


def manifest(cache: BlobCache, saved: SavedImage) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(cache.read(saved.root.digest))
    return loaded


@pytest.mark.parametrize("save", [legacy, modern])
def test_images_become_oci_images_with_their_layers(cache: BlobCache, save: Callable[..., bytes]) -> None:
    first, second = read(cache, save(IMAGES))
    assert (first.names, second.names) == (("app:v1",), ("app:v2",))
    assert first.identity == digest_of(config_of([BASE, TOP], of="app:v1"))
    content = manifest(cache, first)
    assert content["config"]["digest"] == first.identity
    layers = content["layers"]
    assert [item["mediaType"] for item in layers] == ["application/vnd.oci.image.layer.v1.tar+gzip"] * 2
    assert [gzip.decompress(cache.read(item["digest"])) for item in layers] == [BASE, TOP]
    assert manifest(cache, second)["layers"][0] == layers[0]
    assert os.listdir(os.path.join(cache.path, "tmp")) == []


def test_both_generations_and_every_build_give_one_digest(cache: BlobCache, tmp_path: Path) -> None:
    other = BlobCache(str(tmp_path / "other"))
    assert read(cache, legacy(IMAGES)) == read(other, modern(IMAGES))


def test_archives_one_after_the_other(cache: BlobCache) -> None:
    counted: list[int] = []
    bodies = [legacy({"a:1": [BASE]}), legacy({"b:1": [TOP]})]
    saved = convert([chunks(body) for body in bodies], cache, counted.append)
    assert [item.names for item in saved] == [("a:1",), ("b:1",)]
    assert sum(counted) == sum(map(len, bodies))


def test_a_layer_that_is_known_is_not_compressed_again(cache: BlobCache) -> None:
    read(cache, legacy(IMAGES))
    known = compressed_layer(cache, digest_of(BASE))
    assert known is not None
    before = os.stat(cache.blob_path(known.digest)).st_ino
    read(cache, legacy({"app:v3": [BASE, layer(new="new")]}))
    assert os.stat(cache.blob_path(known.digest)).st_ino == before


def test_a_layer_that_comes_compressed_stays_as_it_is(cache: BlobCache) -> None:
    """Docker with containerd's image store saves what it pulled."""
    packed = gzip.compress(TOP, mtime=5)
    archive = Archive()
    name = f"blobs/sha256/{digest_of(packed)[7:]}"
    archive.file(name, packed)
    archive.file("config.json", config_of([TOP]))
    archive.file("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": None, "Layers": [name]}]).encode())
    (saved,) = read(cache, archive.bytes())
    assert manifest(cache, saved)["layers"][0]["digest"] == digest_of(packed)


def test_a_layer_that_looks_like_json_is_still_a_layer(cache: BlobCache) -> None:
    odd = layer(**{"{}": "x"})
    (saved,) = read(cache, modern({"odd:1": [odd]}))
    assert gzip.decompress(cache.read(manifest(cache, saved)["layers"][0]["digest"])) == odd


def test_a_stream_that_ends_early(cache: BlobCache) -> None:
    body = legacy(IMAGES)
    with pytest.raises(ArchiveError, match=r"cut off|no manifest\.json"):
        read(cache, body[: len(body) // 2])
    assert os.listdir(os.path.join(cache.path, "tmp")) == []


def test_no_archive_at_all(cache: BlobCache) -> None:
    with pytest.raises(ArchiveError, match=r"cut off or no archive"):
        read(cache, b"<html>" * 1000)


def test_layers_of_another_image(cache: BlobCache) -> None:
    archive = Archive()
    archive.file("x/layer.tar", OTHER)
    archive.file("c.json", config_of([TOP]))
    archive.file(
        "manifest.json", json.dumps([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["x/layer.tar"]}]).encode()
    )
    with pytest.raises(ArchiveError, match=r"layers of \['a:1'\] .* are not those of its config"):
        read(cache, archive.bytes())


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ({}, "no list"),
        ([{"Config": "c.json", "Layers": ["gone/layer.tar"]}], "lacks what its manifest.json names: 'gone/layer.tar'"),
        ([{"Layers": []}], "lacks what its manifest.json names: 'Config'"),
    ],
)
def test_a_manifest_that_leads_nowhere(cache: BlobCache, listed: Any, message: str) -> None:
    archive = Archive()
    archive.file("c.json", config_of([]))
    archive.file("manifest.json", json.dumps(listed).encode())
    with pytest.raises(ArchiveError, match=message):
        read(cache, archive.bytes())


@pytest.mark.parametrize("target", ["../../etc/passwd", "/etc/passwd"])
def test_a_link_out_of_the_archive(cache: BlobCache, target: str) -> None:
    archive = Archive()
    archive.link("x/layer.tar", target)
    with pytest.raises(ArchiveError, match="leads out of it"):
        read(cache, archive.bytes())


def test_a_device(cache: BlobCache) -> None:
    archive = Archive()
    archive.link("x/layer.tar", "", tarfile.CHRTYPE)
    with pytest.raises(ArchiveError, match="neither a file nor a link"):
        read(cache, archive.bytes())


def test_a_circle_of_links(cache: BlobCache) -> None:
    archive = Archive()
    archive.link("a/layer.tar", "../b/layer.tar")
    archive.link("b/layer.tar", "../a/layer.tar")
    archive.file("c.json", config_of([TOP]))
    archive.file("manifest.json", json.dumps([{"Config": "c.json", "Layers": ["a/layer.tar"]}]).encode())
    with pytest.raises(ArchiveError, match="lacks what"):
        read(cache, archive.bytes())
