# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that may be wrong with a bundle stops it before anything is written."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle import manifest as engine
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.tests.unit.fakes.bundle import BundleBuilder, at, cut, to_tar
from ansible_collections.lumen.airgap.tests.unit.fakes.keys import Key
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import digest_of

from .conftest import APP, Inside

Call = Callable[..., dict[str, Any]]


def refused(inside: Inside, call: Call, path: Path, says: str, **options: Any) -> None:
    """The call fails with these words, and neither the state nor the registry has been touched."""
    with pytest.raises(AirgapError, match=says):
        call(path, **options)
    assert inside.fake.written == []
    assert not (inside.state / "content").exists()
    assert not (inside.state / "history.json").exists()


def flip(path: Path, at: int = 5) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


# --- what is right


def test_a_whole_bundle(inside: Inside) -> None:
    path = inside.full(7).seal()
    result = inside.verify(path)
    assert not result["changed"]
    assert result["bundle"]["name"] == "lumen"
    assert result["bundle"]["number"] == 7
    assert result["bundle"]["signer"] == "release@lumen"
    assert result["bundle"]["sha256"] == hashlib.sha256((path / "bundle.json").read_bytes()).hexdigest()
    names = [image["name"] for image in result["bundle"]["images"]]
    assert names == ["lumen-api:v1.0.0", "lumen-web:latest", "lumen-airgap/registry:3.1.2"]
    assert result["refusals"] == []
    assert not inside.state_path.exists()


def test_the_same_as_tar_and_as_volumes(inside: Inside) -> None:
    def verified(path: Path) -> dict[str, Any]:
        bundle: dict[str, Any] = inside.verify(path)["bundle"]
        return {**bundle, "path": None}

    path = inside.full().seal()
    tar = to_tar(path, inside.path / "lumen-1.tar")
    assert verified(tar) == verified(path)
    parts = cut(tar, 20_000)
    assert len(parts) > 3
    assert verified(parts[2]) == verified(path)


def test_a_bare_machine_comes_to_the_same_end(inside: Inside) -> None:
    """ssh-keygen and sha256sum alone, as the documentation says it."""
    path = inside.full().seal()
    (inside.path / "allowed").write_text(inside.key.allowed)
    argv = ["ssh-keygen", "-Y", "verify", "-f", str(inside.path / "allowed"), "-I", "release@lumen"]
    argv += ["-n", "lumen-airgap-bundle", "-s", str(path / "SHA256SUMS.sig")]
    with (path / "SHA256SUMS").open("rb") as sums:
        subprocess.run(argv, stdin=sums, check=True, capture_output=True, timeout=20)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=path, check=True, timeout=20)


def test_progress_has_bytes(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    path = inside.full().seal()
    monkeypatch.setattr(inside.clock, "monotonic", iter(range(0, 10_000, 3)).__next__)
    inside.verify(path)
    assert inside.lines[0] == f"bundle lumen 1, created {at(-1)}, is signed by release@lumen"
    assert any(line.startswith("checking bundle lumen 1: ") and " KiB of " in line for line in inside.lines)


def test_what_an_import_would_refuse_is_said(inside: Inside) -> None:
    result = inside.verify(inside.full(expires=at(-0.5)).seal())
    assert ["expired at" in reason for reason in result["refusals"]] == [True]


# --- signatures


@pytest.mark.parametrize("name", ["bundle.json.sig", "SHA256SUMS.sig"])
def test_unsigned(inside: Inside, call: Call, name: str) -> None:
    path = inside.full().seal()
    (path / name).unlink()
    refused(inside, call, path, f"is not signed: it has no {name}")


@pytest.mark.parametrize("name", ["bundle.json.sig", "SHA256SUMS.sig"])
def test_wrongly_signed(inside: Inside, call: Call, name: str) -> None:
    path = inside.full().seal()
    (path / name).write_bytes((inside.full(2).seal() / name).read_bytes())
    refused(inside, call, path, f"the signature of {name[:-4]} of .*bundle-1 is wrong: .*incorrect signature")


def test_signed_by_an_unknown_key(inside: Inside, call: Call, other_key: Key) -> None:
    builder = inside.full()
    builder.seal()
    builder.resign(other_key)
    refused(inside, call, builder.path, "by a key that is not among the allowed signers")


def test_signed_by_somebody_else_who_may(inside: Inside, call: Call, other_key: Key) -> None:
    builder = inside.full()
    builder.seal()
    builder.resign(other_key)
    allowed = inside.key.allowed + other_key.allowed
    refused(inside, call, builder.path, "but release@lumen is wanted", allowed_signers=allowed, signer="release@lumen")


def test_another_bundle_than_the_expected(inside: Inside, call: Call) -> None:
    refused(inside, call, inside.full().seal(), "is the bundle lumen, but prod is expected", name="prod")


def test_mix_and_match_of_two_signed_files(inside: Inside, call: Call) -> None:
    one, two = inside.full(1).seal(), inside.full(2).seal()
    for name in ("SHA256SUMS", "SHA256SUMS.sig"):
        (one / name).write_bytes((two / name).read_bytes())
    refused(inside, call, one, r"SHA256SUMS and bundle\.json are of two different bundles")


# --- content


def test_truncated(inside: Inside, call: Call) -> None:
    path = inside.full().seal()
    layer = path / "blobs" / "sha256" / digest_of(APP)[7:]
    layer.write_bytes(APP[:-1])
    refused(inside, call, path, r"blobs/sha256/\w+ of .* has 1999 bytes instead of 2000: copy it again")


def test_a_truncated_tar(inside: Inside, call: Call) -> None:
    tar = to_tar(inside.full().seal(), inside.path / "x.tar")
    os.truncate(tar, tar.stat().st_size - 20_000)
    refused(inside, call, tar, r"x\.tar is truncated")


def test_a_missing_volume(inside: Inside, call: Call) -> None:
    parts = cut(to_tar(inside.full().seal(), inside.path / "x.tar"), 20_000)
    parts[1].unlink()
    refused(inside, call, parts[0], r"the volume .*x\.tar\.002 is missing")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("bundle.json", "signature of bundle.json .* is wrong"),
        ("SHA256SUMS", "signature of SHA256SUMS .* is wrong"),
        ("index.json", "index.json of .* is corrupt"),
        ("oci-layout", "oci-layout of .* is corrupt"),
        ("manifests/argo.yaml", "manifests/argo.yaml of .* is corrupt"),
        (f"blobs/sha256/{digest_of(APP)[7:]}", f"{digest_of(APP)[7:]} of .* is corrupt: its sha256 is .*Copy it again"),
    ],
)
@pytest.mark.parametrize("form", ["directory", "tar"])
def test_one_flipped_byte(inside: Inside, call: Call, name: str, says: str, form: str) -> None:
    path = inside.full().seal()
    flip(path / name)
    refused(inside, call, path if form == "directory" else to_tar(path, inside.path / "x.tar"), says)


def test_a_flipped_byte_in_an_images_manifest(inside: Inside, call: Call) -> None:
    builder = inside.full()
    path = builder.seal()
    flip(builder.layout.file(builder.images[0].digest), 40)
    refused(inside, call, path, "is corrupt")


def test_a_file_that_is_not_listed(inside: Inside, call: Call) -> None:
    path = inside.full().seal()
    (path / "files" / "extra").write_text("x")
    refused(inside, call, path, r"has files/extra, which bundle\.json does not list")


def test_a_file_that_is_listed_and_missing(inside: Inside, call: Call) -> None:
    path = inside.full().seal()
    (path / "files" / "run.sh").unlink()
    refused(inside, call, path, r"lacks files/run\.sh, which its bundle\.json lists")


def test_a_link_out_of_the_bundle(inside: Inside, call: Call) -> None:
    path = inside.full().seal()
    run = path / "files" / "run.sh"
    run.unlink()
    run.symlink_to("/etc/passwd")
    refused(inside, call, path, "files/run.sh is a symbolic link")
    tar = to_tar(path, inside.path / "x.tar")
    refused(inside, call, tar, "files/run.sh is a symbolic link")


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil"])
def test_a_tar_with_a_path_that_leads_out(inside: Inside, call: Call, name: str) -> None:
    tar = to_tar(inside.full().seal(), inside.path / "x.tar")
    with tarfile.open(tar, "a") as more:
        more.addfile(tarfile.TarInfo(name))
    refused(inside, call, tar, "is not a relative path inside the bundle")


def test_a_tar_with_a_member_twice(inside: Inside, call: Call) -> None:
    tar = to_tar(inside.full().seal(), inside.path / "x.tar")
    with tarfile.open(tar, "a") as more:
        more.addfile(tarfile.TarInfo("bundle.json"))
    refused(inside, call, tar, r"has bundle\.json twice")


def test_a_device_in_a_tar(inside: Inside, call: Call) -> None:
    tar = to_tar(inside.full().seal(), inside.path / "x.tar")
    member = tarfile.TarInfo("files/sda")
    member.type = tarfile.BLKTYPE
    with tarfile.open(tar, "a") as more:
        more.addfile(member)
    refused(inside, call, tar, "files/sda is a block device")


def changed(builder: BundleBuilder, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A bundle.json that its own signer signed, but that is not what bundles are."""
    document = json.loads((builder.path / "bundle.json").read_bytes())
    change(document)
    (builder.path / "bundle.json").write_bytes(engine.canonical(document))
    builder.resign()
    return builder.path


def test_an_unknown_schema_version(inside: Inside, call: Call) -> None:
    builder = inside.full()
    builder.seal()
    path = changed(builder, lambda document: document.update(schema=2))
    refused(inside, call, path, r"bundle\.json has schema 2, this version of the collection knows schema 1")


def test_a_signed_path_that_leads_out(inside: Inside, call: Call) -> None:
    builder = inside.full()
    builder.seal()
    path = changed(builder, lambda document: document["files"][-1].update(path="../../etc/cron.d/x"))
    refused(inside, call, path, r"'\.\./\.\./etc/cron\.d/x' is not a relative path")


@pytest.mark.parametrize("name", ["bundle.json", "bundle.json.sig", "SHA256SUMS"])
def test_endless_data_is_not_read(inside: Inside, call: Call, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = inside.full().seal()
    with (path / name).open("r+b") as file:
        file.truncate(10 << 30)
    refused(inside, call, path, f"{name} has {10 << 30} bytes, more than the")


# --- index.json against bundle.json


def reindexed(builder: BundleBuilder, change: Callable[[list[dict[str, Any]]], Any]) -> Path:
    """The builder made an index.json that disagrees with its bundle.json, and signed both."""
    index = builder.path / "index.json"
    document = json.loads(index.read_bytes())
    change(document["manifests"])
    index.write_text(json.dumps(document))
    return builder.seal()


def rename(entries: list[dict[str, Any]]) -> None:
    entries[0]["annotations"]["org.opencontainers.image.ref.name"] = "evil:v1"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rename, "index.json names the image evil:v1, which bundle.json does not have"),
        (lambda entries: entries.append({**entries[0], "annotations": {}}), "None is in one of index.json"),
        (lambda entries: entries.append(entries[0]), "lumen-api:v1.0.0 is in one of"),
        (lambda entries: entries.pop(), "lumen-airgap/registry:3.1.2 is in one of index.json and bundle.json"),
        (
            lambda entries: entries[0].update(digest=entries[1]["digest"]),
            "index.json has sha256:.* as lumen-api:v1.0.0",
        ),
        (lambda entries: entries[0].update(digest="x"), "index.json is no index of images"),
        (lambda entries: entries.append("x"), "index.json is no index of images"),
    ],
)
def test_an_index_that_says_something_else(
    inside: Inside, call: Call, change: Callable[[list[dict[str, Any]]], Any], says: str
) -> None:
    refused(inside, call, reindexed(inside.full(), change), says)


def test_an_image_that_is_not_whole(inside: Inside, call: Call) -> None:
    builder = inside.full()
    builder.layout.file(digest_of(APP)).unlink()
    refused(inside, call, builder.seal(), f"{digest_of(APP)} .* is missing in")
