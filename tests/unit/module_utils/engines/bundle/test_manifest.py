# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""bundle.json read and written, and the rules by which a bundle is let in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle import manifest as engine
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle.manifest import (
    AbsentBlob,
    Base,
    BundleError,
    BundleFile,
    BundleImage,
    BundleManifest,
    Imported,
    RefusedError,
    Wheelhouse,
)

A, B, C = "a" * 64, "b" * 64, "c" * 64
CREATED, EXPIRES = "2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z"
NOW = engine.seconds("2026-02-01T00:00:00Z")
OCI = "application/vnd.oci.image.manifest.v1+json"

BUNDLE = BundleManifest(
    name="lumen",
    number=42,
    created=CREATED,
    expires=EXPIRES,
    base=Base("192.168.2.2:5000", "2025-12-31T00:00:00Z", C),
    images=(BundleImage("lumen-api:v1.0.0", f"sha256:{A}", OCI, "docker://lumen-api:v1.0.0"),),
    files=(
        BundleFile(f"blobs/sha256/{A}", A, 400),
        BundleFile("index.json", B, 20),
        BundleFile("oci-layout", B, 30),
        BundleFile("files/run.sh", B, 5, "0755"),
        BundleFile("wheels/node/x.whl", C, 9),
        BundleFile("collections/lumen-airgap-0.1.0.tar.gz", C, 7),
    ),
    registry_image="lumen-api:v1.0.0",
    wheelhouses={"node": Wheelhouse("3.11", ("manylinux2014_x86_64",), "wheels/node")},
    collection="collections/lumen-airgap-0.1.0.tar.gz",
    absent_blobs=(AbsentBlob(f"sha256:{C}", 1000, ("lumen-api", "base")),),
    absent_files=(BundleFile("manifests/argo.yaml", C, 50),),
)


def changed(change: Callable[[dict[str, Any]], Any]) -> bytes:
    document = BUNDLE.to_document()
    change(document)
    return engine.canonical(document)


def test_what_is_written_is_read() -> None:
    body = BUNDLE.to_bytes()
    read = engine.parse(body)
    assert read.to_bytes() == body
    assert read.name == "lumen"
    assert read.absent_blobs == (AbsentBlob(f"sha256:{C}", 1000, ("base", "lumen-api")),)
    assert body.endswith(b"}\n")
    assert json.loads(body)["files"][0]["path"] == f"blobs/sha256/{A}"


def test_the_order_of_building_does_not_matter() -> None:
    assert replace(BUNDLE, files=BUNDLE.files[::-1]).to_bytes() == BUNDLE.to_bytes()


def test_what_goes_into_a_directory() -> None:
    assert [file.path for file in BUNDLE.unpacked] == [
        "collections/lumen-airgap-0.1.0.tar.gz",
        "files/run.sh",
        "manifests/argo.yaml",
        "wheels/node/x.whl",
    ]
    assert BUNDLE.packed_bytes == 471


def test_the_checksums_are_those_of_coreutils() -> None:
    body = BUNDLE.to_bytes()
    lines = engine.checksums(BUNDLE, body, hashlib.sha256).decode().splitlines()
    assert lines[0] == f"{A}  blobs/sha256/{A}"
    assert lines[1] == f"{hashlib.sha256(body).hexdigest()}  bundle.json"
    assert len(lines) == 1 + len(BUNDLE.files)


@pytest.mark.parametrize("schema", [0, 2, "1", True, None])
def test_an_unknown_schema_is_named(schema: Any) -> None:
    with pytest.raises(BundleError, match=rf"bundle.json has schema {schema!r}, .* knows schema 1: use the collection"):
        engine.parse(changed(lambda document: document.update(schema=schema)))


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_not_json(body: bytes) -> None:
    with pytest.raises(BundleError, match=r"bundle\.json is not JSON"):
        engine.parse(body)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("name"), "has no name"),
        (lambda d: d.update(name="../etc"), "cannot be the name of a bundle"),
        (lambda d: d.update(name="x" * 65), "cannot be the name of a bundle"),
        (lambda d: d.update(number="42"), "number is not a number"),
        (lambda d: d.update(number=True), "number is True"),
        (lambda d: d.update(number=-1), "number is -1"),
        (lambda d: d.update(number=2**60), "from 0 to 2"),
        (lambda d: d.update(number=0), "first bundle of a name has number 1"),
        (lambda d: d.update(created="2026-01-01"), "is not a time like"),
        (lambda d: d.update(created="2026-01-01T00:00:00+00:00"), "is not a time like"),
        (lambda d: d.update(expires=CREATED), "expires at .*, before it was created"),
        (lambda d: d.update(files={}), "files is not a list"),
        (lambda d: d.update(files=["x"]), r"files\[0\] is not an object"),
        (lambda d: d["files"][0].update(size=-1), r"files\[0\]: size is -1"),
        (lambda d: d["files"][1].update(mode="4755"), "mode '4755'"),
        (lambda d: d["files"][1].update(sha256="A" * 64), "is not a sha256"),
        (lambda d: d["files"][0].update(sha256=B), "is not named after its content"),
        (lambda d: d["files"].append(d["files"][0]), "twice"),
        (lambda d: d["files"][1].update(path="bundle.json.sig"), "never one of its files"),
        (lambda d: d["files"][1].update(path="files"), "as a file and as a directory"),
        (lambda d: d["absent"]["files"][0].update(path="index.json"), "twice|image layout"),
        (lambda d: d["absent"]["files"][0].update(path=f"blobs/sha256/{C}"), "image layout"),
        (lambda d: d["absent"]["blobs"][0].update(digest=f"sha256:{A}"), "left out and there"),
        (lambda d: d["absent"]["blobs"][0].update(repositories=[]), "no repository is named"),
        (lambda d: d["absent"]["blobs"][0].update(repositories=["../x"]), "not named repository:tag"),
        (lambda d: d["absent"]["blobs"][0].update(repositories=[1]), "not a list of texts"),
        (lambda d: d["absent"]["blobs"][0].update(digest="md5:1"), "is not a sha256"),
        (lambda d: d.update(base=None), "names no base"),
        (lambda d: d["base"].update(sha256="x"), "base: 'x' is not a sha256"),
        (lambda d: d["images"][0].update(name="lumen-api"), "not named repository:tag"),
        (lambda d: d["images"][0].update(name="Lumen:v1"), "not named repository:tag"),
        (lambda d: d["images"][0].update(kind="chart"), "kind 'chart'"),
        (lambda d: d["images"][0].update(digest=f"sha256:{B}"), "is not among its files"),
        (lambda d: d["images"].append(d["images"][0]), "names the image lumen-api:v1.0.0 twice"),
        (lambda d: d["files"].pop(4), "not index.json and oci-layout among its files"),
        (lambda d: d.update(registry_image="other:1"), "registry's image other:1 is not among its images"),
        (lambda d: d.update(registry_image=7), "registry_image is not a text"),
        (lambda d: d.update(collection="x.tar.gz"), "the collection x.tar.gz is not among its files"),
        (lambda d: d["wheelhouses"]["node"].update(path="wheels/x"), "no files under wheels/x"),
        (lambda d: d.update(more=1), "not in its canonical form"),
    ],
)
def test_what_is_wrong_is_named(change: Callable[[dict[str, Any]], Any], says: str) -> None:
    with pytest.raises(BundleError, match=says):
        engine.parse(changed(change))


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a\\b", "a\nb", "a\0b", "a\x1b[31m", "é" * 600],
)
def test_unsafe_paths(path: str) -> None:
    with pytest.raises(BundleError, match=r"the path .* is not a relative path|the path .* has a backslash"):
        engine.parse(changed(lambda document: document["files"][1].update(path=path)))


def test_what_would_not_be_read_is_not_written() -> None:
    with pytest.raises(BundleError, match="is not among its images"):
        replace(BUNDLE, images=()).to_bytes()


# --- letting in


def imported(number: int, sha256: str, name: str = "lumen") -> Imported:
    return Imported(name, number, CREATED, "2026-01-20T08:00:00Z", "root@node-1", sha256)


def test_the_first_the_next_and_the_same_are_let_in() -> None:
    assert engine.check(BUNDLE, A, [], NOW) == ()
    assert engine.check(BUNDLE, A, [imported(41, B)], NOW) == ()
    assert engine.check(BUNDLE, A, [imported(42, A)], NOW) == ()


def test_a_rollback_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"lumen 42 .* is a rollback: number 43 .* at 2026-01-20T08:00:00Z by root@"):
        engine.check(BUNDLE, A, [imported(43, B)], NOW)


def test_what_counts_is_the_last_import_of_that_name() -> None:
    history = [imported(50, B), imported(41, C), imported(99, B, "other")]
    assert engine.check(BUNDLE, A, history, NOW) == ()
    assert engine.last_import("lumen", history) == imported(41, C)
    assert engine.last_import("third", history) is None


def test_the_same_number_with_another_content_is_refused() -> None:
    with pytest.raises(RefusedError, match=f"another content .* with {B[:12]}, this one is {A[:12]}"):
        engine.check(BUNDLE, A, [imported(42, B)], NOW)


def test_an_expired_bundle_is_refused_with_both_times() -> None:
    with pytest.raises(RefusedError, match=f"expired at {EXPIRES}, and the clock of this machine says {EXPIRES}"):
        engine.check(BUNDLE, A, [], engine.seconds(EXPIRES))
    assert engine.check(BUNDLE, A, [], engine.seconds(EXPIRES) - 1) == ()


def test_a_clock_that_is_wrong_by_years() -> None:
    with pytest.raises(RefusedError, match=f"created at {CREATED}, but the clock .* says 1970-01-01T00:00:00Z"):
        engine.check(BUNDLE, A, [], 0)
    assert engine.check(BUNDLE, A, [], engine.seconds(CREATED) - 3600) == ()


def test_force_lets_in_and_says_what_it_overrode() -> None:
    reasons = engine.check(BUNDLE, A, [imported(43, B)], engine.seconds(EXPIRES), force=True)
    assert [("expired" in reason, "rollback" in reason) for reason in reasons] == [(True, False), (False, True)]
