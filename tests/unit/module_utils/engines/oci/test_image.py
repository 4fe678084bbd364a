# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Descriptors, manifests and indexes, good and malformed."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci import image
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci.image import Descriptor, ImageError


def sha(letter: str) -> str:
    return "sha256:" + letter * 64


def raw(media_type: str, letter: str, size: int = 7, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha(letter), "size": size, **more}


def manifest(config: str, *layers: str, media_type: str = image.OCI_MANIFEST) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": raw("config", config),
        "layers": [raw("layer", layer) for layer in layers],
    }


def named(name: str, letter: str, key: str = image.NAME_ANNOTATIONS[0]) -> dict[str, Any]:
    return raw(image.OCI_MANIFEST, letter, annotations={key: name})


def test_an_image_is_found_by_either_annotation_or_digest() -> None:
    index = {"manifests": [named("app:v1", "a"), named("r.local/app:v2", "b", "io.containerd.image.name")]}
    assert image.select(index, "app:v1").digest == sha("a")
    assert image.select(index, "r.local/app:v2").digest == sha("b")
    assert image.select(index, sha("b")).digest == sha("b")


def test_a_name_is_not_needed_for_the_only_image() -> None:
    assert image.select({"manifests": [named("app:v1", "a"), named("latest", "a")]}, None).digest == sha("a")


@pytest.mark.parametrize(
    ("index", "name", "message"),
    [
        ({"manifests": [named("app:v1", "a")]}, "app:v2", "no image app:v2; it has: app:v1, sha256:aaaa"),
        ({"manifests": [named("one", "a"), named("two", "b")]}, None, "2 images: name one of them by ref"),
        ({"manifests": [named("one", "a"), named("one", "b")]}, "one", "2 images are named one"),
        ({"manifests": []}, None, "the layout has no image; it has: none"),
        ({}, None, "index.json has no list of manifests"),
        ([], None, "index.json has no list of manifests"),
        ({"manifests": ["x"]}, None, "index.json has no list of manifests"),
    ],
)
def test_select_refuses(index: Any, name: str | None, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        image.select(index, name)


def test_children_come_before_their_index_and_blobs_once() -> None:
    documents = {
        sha("1"): {"manifests": [raw(image.OCI_INDEX, "2"), raw(image.DOCKER_MANIFEST, "5")]},
        sha("2"): {"manifests": [raw(image.OCI_MANIFEST, "3"), raw(image.OCI_MANIFEST, "4")]},
        sha("3"): manifest("a", "b", "c"),
        sha("4"): manifest("d", "b"),
        sha("5"): manifest("e", "f", media_type=image.DOCKER_MANIFEST),
    }
    found = image.collect(Descriptor(image.OCI_INDEX, sha("1"), 7), lambda item: documents[item.digest])
    assert [item.digest for item in found.manifests] == [sha("3"), sha("4"), sha("2"), sha("5"), sha("1")]
    assert [blob.digest for blob in found.blobs] == [sha(letter) for letter in "abcdef"]
    assert found.root == found.manifests[-1]


def test_a_child_that_two_indexes_share_is_written_once() -> None:
    documents = {
        sha("1"): {"manifests": [raw(image.OCI_MANIFEST, "3"), raw(image.OCI_MANIFEST, "3")]},
        sha("3"): manifest("a"),
    }
    found = image.collect(Descriptor(image.OCI_INDEX, sha("1"), 7), lambda item: documents[item.digest])
    assert [item.digest for item in found.manifests] == [sha("3"), sha("1")]


@pytest.mark.parametrize(
    ("document", "media_type", "message"),
    [
        ([], image.OCI_MANIFEST, "expected, not list"),
        ({"mediaType": image.OCI_INDEX}, image.OCI_MANIFEST, "says it is .*index.*its descriptor says .*manifest"),
        ({"layers": []}, image.OCI_MANIFEST, "a descriptor is expected, not None"),
        ({"config": raw("c", "a")}, image.OCI_MANIFEST, "a manifest has no list of layers"),
        ({}, image.DOCKER_LIST, "an index has no list of manifests"),
        ({}, "application/vnd.docker.distribution.manifest.v1+prettyjws", "neither an image manifest nor an index"),
        ({"config": {"digest": "sha256:x"}, "layers": []}, image.OCI_MANIFEST, "no usable digest"),
        ({"config": raw("c", "a", size=-1), "layers": []}, image.OCI_MANIFEST, "no usable size: -1"),
        ({"config": raw("c", "a", size=True), "layers": []}, image.OCI_MANIFEST, "no usable size: True"),
        ({"config": raw("", "a"), "layers": []}, image.OCI_MANIFEST, "has no media type"),
    ],
)
def test_parts_refuses(document: Any, media_type: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        image.parts(document, media_type)


def test_the_runnable_child_is_no_attestation() -> None:
    attestation = raw(image.OCI_MANIFEST, "a", platform={"os": "unknown", "architecture": "unknown"})
    linux = raw(image.OCI_MANIFEST, "b", platform={"os": "linux", "architecture": "amd64"})
    assert image.runnable({"manifests": [attestation, linux]}).digest == sha("b")
    with pytest.raises(ImageError, match="no image for any platform"):
        image.runnable({"manifests": [attestation]})
