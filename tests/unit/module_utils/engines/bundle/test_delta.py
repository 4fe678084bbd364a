# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inventories read and written, and bundles divided by them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle import delta
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle.delta import (
    HeldBlob,
    HeldBundle,
    HeldFile,
    Inventory,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle.manifest import (
    AbsentBlob,
    BundleError,
    BundleFile,
    canonical,
)
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci.image import Descriptor, Image

A, B, C, D = "a" * 64, "b" * 64, "c" * 64, "d" * 64
INVENTORY = Inventory(
    registry="192.168.2.2:5000",
    taken="2026-01-01T00:00:00Z",
    bundles=(HeldBundle("lumen", 41, D),),
    blobs={f"sha256:{A}": HeldBlob(1000, ("base", "app")), f"sha256:{B}": HeldBlob(10, ("app",))},
    images={"app:v1": f"sha256:{C}"},
    files={"lumen/manifests/argo.yaml": HeldFile(D, 50)},
)


def blob(hexadecimal: str, size: int) -> BundleFile:
    return BundleFile(f"blobs/sha256/{hexadecimal}", hexadecimal, size)


def test_what_is_written_is_read() -> None:
    body = INVENTORY.to_bytes()
    read = delta.parse(body)
    assert read.to_bytes() == body
    assert read.blobs[f"sha256:{A}"] == HeldBlob(1000, ("app", "base"))
    assert json.loads(body)["bundles"] == [{"name": "lumen", "number": 41, "sha256": D}]


def test_what_is_held_is_left_out_and_counted() -> None:
    files = [blob(A, 1000), blob(C, 300), blob(B, 10), BundleFile("manifests/argo.yaml", D, 50)]
    split = delta.split("lumen", files, {f"sha256:{A}", f"sha256:{C}"}, INVENTORY)
    assert split.absent_blobs == (AbsentBlob(f"sha256:{A}", 1000, ("base", "app")),)
    assert split.absent_files == (BundleFile("manifests/argo.yaml", D, 50),)
    # B is held, but it is not among what may be left out: a manifest.
    assert split.packed == (blob(B, 10), blob(C, 300))
    assert split.saved == 1050


@pytest.mark.parametrize(
    "file",
    [
        blob(A, 999),  # another size: not the blob that the inventory means
        BundleFile("manifests/argo.yaml", A, 50),
        BundleFile("manifests/other.yaml", D, 50),
        BundleFile(f"files/{A}", A, 1000),
    ],
)
def test_what_differs_is_packed(file: BundleFile) -> None:
    split = delta.split("lumen", [file], {f"sha256:{A}"}, INVENTORY)
    assert split == ((file,), (), (), 0)


def test_files_of_another_bundle_do_not_count() -> None:
    file = BundleFile("manifests/argo.yaml", D, 50)
    assert delta.split("other", [file], set(), INVENTORY).packed == (file,)


def image(root: str, *blobs: str) -> Image:
    item = Descriptor("m", f"sha256:{root}", 1)
    return Image(item, (item,), tuple(Descriptor("b", f"sha256:{blob}", 1) for blob in blobs))


def test_manifests_are_never_left_out() -> None:
    assert delta.leavable([("x:1", image(C, A, B))], None, INVENTORY) == {f"sha256:{A}", f"sha256:{B}"}
    both = delta.leavable([("x:1", image(C, A, B)), ("y:1", image(A, B))], None, INVENTORY)
    assert both == {f"sha256:{B}"}


def test_a_changed_image_of_the_registry_stays_whole() -> None:
    images = [("app:v1", image(D, A)), ("x:1", image(C, A, B))]
    assert delta.leavable(images, "app:v1", INVENTORY) == {f"sha256:{B}"}
    same = [("app:v1", image(C, A)), ("x:1", image(D, A, B))]
    assert delta.leavable(same, "app:v1", INVENTORY) == {f"sha256:{A}", f"sha256:{B}"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(schema=2), "has schema 2"),
        (lambda d: d.update(taken="yesterday"), "is not a time like"),
        (lambda d: d.pop("blobs"), "has no blobs"),
        (lambda d: d["blobs"].update({"sha512:1": {"size": 1, "repositories": ["x"]}}), "is not a sha256 digest"),
        (lambda d: d["blobs"].update({"sha256:1": {"size": 1, "repositories": ["x"]}}), "64 lower-case hex"),
        (lambda d: d["blobs"][f"sha256:{A}"].update(repositories=["A"]), "not named repository:tag"),
        (lambda d: d["blobs"][f"sha256:{A}"].update(size=None), "size is not a number"),
        (lambda d: d["images"].update(app=f"sha256:{A}"), "not named repository:tag"),
        (lambda d: d["files"].update({"lumen/../x": {"sha256": A, "size": 1}}), "not a relative path"),
        (lambda d: d["files"].update({"x": {"sha256": A, "size": 1}}), "not a relative path"),
        (lambda d: d["bundles"][0].update(name=".."), "cannot be the name of a bundle"),
    ],
)
def test_what_is_wrong_is_named(change: Callable[[dict[str, Any]], Any], says: str) -> None:
    document = json.loads(INVENTORY.to_bytes())
    change(document)
    with pytest.raises(BundleError, match=says):
        delta.parse(canonical(document))
