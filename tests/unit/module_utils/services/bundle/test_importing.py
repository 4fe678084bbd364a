# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bundles that come in: once, twice, as deltas, older than they should be, and after runs that were killed."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import signature
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle import manifest as engine
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.bundle import docker_load, importing, space
from ansible_collections.lumen.airgap.plugins.module_utils.services.bundle.state import make_directory
from ansible_collections.lumen.airgap.tests.unit.fakes.bundle import DAY, BundleBuilder, at, cut, to_tar, tree
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import FakeRegistry, digest_of

from .conftest import BASE, NEXT, REGISTRY, Inside


def history(inside: Inside) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((inside.state / "history.json").read_bytes())
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256((path / "bundle.json").read_bytes()).hexdigest()


# --- a whole import, and the same once more


def test_everything_comes_in(inside: Inside) -> None:
    builder = inside.full(7)
    path = builder.seal()
    result = inside.bring_in(path)
    assert result["changed"]
    assert tree(inside.state / "content") == {
        "files/run.sh": ("0755", b"#!/bin/sh\necho 7\n"),
        "manifests/argo.yaml": ("0644", b"kind: List\n"),
        "manifests/deep/er/rollouts.yaml": ("0644", b"kind: Deployment\n"),
        "wheels/node/requirements.txt": ("0644", b"x==1.0\n"),
        "wheels/node/x-1.0-py3-none-any.whl": ("0644", b"wheel"),
    }
    assert inside.fake.tags == {image.repository: {image.tag: image.digest} for image in builder.images}
    assert history(inside) == [
        {
            "name": "lumen",
            "number": 7,
            "created": at(-1),
            "imported_at": at(0),
            "by": "ops@node-1",
            "sha256": sha256(path),
            "forced": False,
        }
    ]
    assert (result["files_written"], result["files_removed"]) == (5, 0)
    assert result["bytes_sent"] == sum(
        len(blob) for blob in {blob for held in inside.fake.blobs.values() for blob in held.values()}
    )
    assert result["diff"]["before"]["imported"] is None
    assert result["diff"]["after"]["imported"] == f"lumen 7 {sha256(path)}"
    assert sorted(os.listdir(inside.state)) == ["content", "history.json", "lock", "registry.json", "registry.tar"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(inside: Inside, umask: int) -> None:
    path = inside.full().seal()
    before = os.umask(umask)
    try:
        inside.bring_in(path)
    finally:
        os.umask(before)
    modes = {name: oct(os.stat(inside.state / name).st_mode & 0o777) for name in os.listdir(inside.state)}
    assert modes.pop("content") == "0o755"
    modes.pop("lock")
    assert set(modes.values()) == {"0o644"}
    assert os.stat(inside.state / "content" / "manifests" / "deep").st_mode & 0o777 == 0o755


def test_the_second_run_reads_little_and_writes_nothing(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = to_tar(inside.full().seal(), inside.path / "x.tar")
    inside.bring_in(tar)
    before = tree(inside.state)
    monkeypatch.setattr(importing, "check_hashes", lambda *_: pytest.fail("read the whole bundle again"))
    result = inside.bring_in(tar)
    assert not result["changed"]
    assert result["diff"]["before"] == result["diff"]["after"]
    assert (result["files_written"], result["bytes_written"], result["bytes_sent"]) == (0, 0, 0)
    assert inside.fake.written == []
    assert [entry["number"] for entry in history(inside)] == [1]
    assert {**tree(inside.state), "lock": 0} == {**before, "lock": 0}


def test_unpacking_needs_no_registry_and_makes_no_history(inside: Inside) -> None:
    path = inside.full().seal()
    result = inside.unpack(path)
    assert result["changed"]
    assert result["images"] == []
    assert (inside.state / "content" / "files" / "run.sh").exists()
    assert not inside.unpack(path)["changed"]
    assert not (inside.state / "history.json").exists()
    # The import that follows finds the files in place.
    imported = inside.bring_in(path)
    assert imported["changed"]
    assert imported["files_written"] == 0
    assert len(history(inside)) == 1


def test_check_mode_says_what_would_be_done(inside: Inside) -> None:
    path = inside.full().seal()
    foreseen = inside.bring_in(path, check_mode=True)
    assert not inside.state_path.exists()
    assert inside.fake.written == []
    assert inside.bring_in(path) == foreseen
    newer = inside.full(2).seal()
    before = tree(inside.state)
    foreseen = inside.bring_in(newer, check_mode=True)
    assert tree(inside.state) == before
    assert inside.bring_in(newer) == foreseen
    assert foreseen["diff"]["before"]["files"].keys() == {"files/run.sh"}


def test_check_mode_finds_what_is_corrupt(inside: Inside) -> None:
    path = inside.full().seal()
    (path / "manifests" / "argo.yaml").write_bytes(b"kind: LisT\n")
    with pytest.raises(AirgapError, match="is corrupt"):
        inside.bring_in(path, check_mode=True)


def test_volumes_go_straight_into_the_registry(inside: Inside) -> None:
    builder = inside.full()
    parts = cut(to_tar(builder.seal(), inside.path / "x.tar"), 7_000)
    inside.bring_in(parts[0])
    assert inside.fake.tags["lumen-api"]["v1.0.0"] == builder.images[0].digest
    assert inside.fake.blobs["lumen-api"][digest_of(BASE)] == BASE


# --- the next one


def test_the_next_bundle_replaces_the_content(inside: Inside) -> None:
    inside.bring_in(inside.full(1).seal())
    builder = inside.builder(2)
    builder.image("lumen-api:v1.1.0", [BASE, NEXT])
    builder.file("manifests/argo.yaml", b"kind: List\n", "0600")
    builder.file("manifests/new.yaml", b"new")
    result = inside.bring_in(builder.seal())
    assert tree(inside.state / "content") == {
        "manifests/argo.yaml": ("0600", b"kind: List\n"),
        "manifests/new.yaml": ("0644", b"new"),
    }
    assert (result["files_written"], result["files_removed"]) == (1, 4)
    assert [entry["number"] for entry in history(inside)] == [1, 2]
    # It says nothing of the registry's own image, so that one stays.
    assert (inside.state / "registry.tar").exists()
    assert result["registry_archive"] is None


def test_a_file_may_become_a_directory(inside: Inside) -> None:
    first = inside.builder(1)
    first.file("files/a", b"file")
    inside.bring_in(first.seal())
    second = inside.builder(2)
    second.file("files/a/b", b"inside")
    inside.bring_in(second.seal())
    assert tree(inside.state / "content") == {"files/a/b": ("0644", b"inside")}


@pytest.mark.parametrize("what", ["changed", "missing", "extra", "link", "mode"])
def test_content_that_somebody_changed_is_mended(inside: Inside, what: str) -> None:
    path = inside.full().seal()
    inside.bring_in(path)
    run = inside.state / "content" / "files" / "run.sh"
    before = tree(inside.state / "content")
    if what == "changed":
        run.write_bytes(run.read_bytes().replace(b"echo", b"curl"))
    elif what == "extra":
        run.with_name("extra").write_text("x")
    elif what == "mode":
        run.chmod(0o4777)
    else:
        run.unlink()
        if what == "link":
            run.symlink_to("/etc/passwd")
    result = inside.bring_in(path)
    assert result["changed"]
    assert result["bytes_sent"] == 0
    assert tree(inside.state / "content") == before
    assert not run.is_symlink()
    assert not inside.bring_in(path)["changed"]


def test_an_image_that_the_registry_lost_is_brought_again(inside: Inside) -> None:
    path = inside.full().seal()
    inside.bring_in(path)
    del inside.fake.tags["lumen-api"]["v1.0.0"]
    result = inside.bring_in(path)
    assert result["changed"]
    assert inside.fake.tags["lumen-api"]["v1.0.0"]


# --- rules


def test_a_rollback_is_refused_unless_forced(inside: Inside) -> None:
    old, new = inside.full(1).seal(), inside.full(2).seal()
    inside.bring_in(new)
    before = tree(inside.state)
    with pytest.raises(
        AirgapError, match=r"lumen 1 .* is a rollback: number 2 .*ops@node-1.* force lets it in"
    ) as said:
        inside.bring_in(old)
    assert len(said.value.details["refusals"]) == 1
    assert {**tree(inside.state), "lock": 0} == {**before, "lock": 0}
    assert inside.fake.written == []
    with pytest.raises(AirgapError, match="is a rollback"):
        inside.unpack(old)
    with pytest.raises(AirgapError, match="is a rollback"):
        inside.bring_in(old, check_mode=True)
    result = inside.bring_in(old, force=True)
    assert result["changed"]
    assert "rollback" in result["refusals"][0]
    assert [(entry["number"], entry["forced"]) for entry in history(inside)] == [(2, False), (1, True)]
    # From there on the way is up again.
    inside.bring_in(new)


def test_freeze_is_refused_unless_forced(inside: Inside) -> None:
    path = inside.full().seal()
    inside.clock.jump(91 * DAY)
    with pytest.raises(AirgapError, match=f"expired at {at(90)}, and the clock of this machine says {at(91)}"):
        inside.bring_in(path)
    assert inside.bring_in(path, force=True)["changed"]


def test_a_bundle_that_expired_since_may_stay_but_gives_nothing_more(inside: Inside) -> None:
    path = inside.full().seal()
    inside.bring_in(path)
    inside.clock.jump(91 * DAY)
    result = inside.bring_in(path)
    assert not result["changed"]
    assert "expired" in result["refusals"][0]
    (inside.state / "content" / "files" / "run.sh").unlink()
    with pytest.raises(AirgapError, match="expired"):
        inside.bring_in(path)


def test_a_clock_that_is_wrong_by_years(inside: Inside) -> None:
    path = inside.full().seal()
    inside.clock.jump(-50 * 365 * DAY)
    with pytest.raises(AirgapError, match=f"created at {at(-1)}, but the clock of this machine says 1976-"):
        inside.bring_in(path)


def test_the_same_number_with_another_content(inside: Inside) -> None:
    inside.bring_in(inside.full(1).seal())
    other = inside.full(1, "other")
    other.file("files/more", b"more")
    with pytest.raises(AirgapError, match="another content than the one of that number"):
        inside.bring_in(other.seal())


def test_each_name_has_its_own_numbers(inside: Inside) -> None:
    inside.bring_in(inside.full(9).seal())
    other = inside.builder(1, "other", name="trivy")
    other.file("files/x", b"x")
    inside.bring_in(other.seal())
    assert (inside.state_path / "trivy" / "content" / "files" / "x").exists()


def test_a_damaged_history_is_not_taken_for_none(inside: Inside) -> None:
    path = inside.full().seal()
    inside.bring_in(path)
    for damaged in ("{", '[{"name": "lumen"}]', "7"):
        (inside.state / "history.json").write_text(damaged)
        with pytest.raises(AirgapError, match=r"history\.json (is damaged|cannot be read)"):
            inside.bring_in(path)


def test_a_release_tag_of_another_image_stops_before_anything(inside: Inside) -> None:
    inside.fake.add_image("lumen-api", "v1.0.0", [b"other"])
    path = inside.full().seal()
    with pytest.raises(AirgapError, match=r"lumen-api:v1\.0\.0 is a release and does not move"):
        inside.bring_in(path)
    assert inside.fake.written == []
    assert not (inside.state / "content").exists()
    assert inside.bring_in(path, force=True)["changed"]


# --- deltas


def delta(inside: Inside, number: int = 2) -> BundleBuilder:
    """The next version of lumen-api on the same base, without the base, and one file that has not changed."""
    builder = inside.builder(number)
    builder.image("lumen-api:v1.1.0", [BASE, NEXT])
    builder.file("manifests/argo.yaml", b"kind: List\n")
    builder.file("manifests/new.yaml", b"new")
    builder.leave_out(digest_of(BASE), "lumen-api", "lumen-web")
    builder.leave_out_file("manifests/argo.yaml")
    return builder


def test_a_delta_takes_the_rest_from_the_inside(inside: Inside) -> None:
    inside.bring_in(inside.full(1).seal())
    builder = delta(inside)
    path = builder.seal()
    assert [inside.verify(path)["bundle"][key] for key in ("absent_blobs", "absent_files")] == [1, 1]
    result = inside.bring_in(path)
    assert inside.fake.tags["lumen-api"]["v1.1.0"] == builder.images[0].digest
    assert result["bytes_sent"] == len(NEXT)  # the configs are equal
    assert tree(inside.state / "content") == {
        "manifests/argo.yaml": ("0644", b"kind: List\n"),
        "manifests/new.yaml": ("0644", b"new"),
    }
    assert not inside.bring_in(path)["changed"]


def test_a_blob_of_a_delta_is_mounted_from_another_repository(inside: Inside) -> None:
    inside.bring_in(inside.full(1).seal())
    builder = inside.builder(2)
    builder.image("brand-new:v1.0.0", [BASE, NEXT])
    builder.leave_out(digest_of(BASE), "gone", "lumen-web")
    result = inside.bring_in(builder.seal())
    assert inside.fake.blobs["brand-new"][digest_of(BASE)] == BASE
    assert result["bytes_sent"] < len(BASE)


def test_a_missing_base_is_named_before_anything_is_written(inside: Inside) -> None:
    inside.bring_in(inside.full(1).seal())
    for blobs in inside.fake.blobs.values():
        blobs.pop(digest_of(BASE), None)
    before = tree(inside.state)
    says = rf"lumen 2 leaves out {digest_of(BASE)} \(50000 bytes\) of lumen-api:v1\.1\.0, because lumen-api, lumen-web "
    with pytest.raises(AirgapError, match=says + r"of registry\.test:5000 .*build a full bundle") as said:
        inside.bring_in(delta(inside).seal())
    assert said.value.details == {"image": "lumen-api:v1.1.0", "digest": digest_of(BASE)}
    assert inside.fake.written == []
    assert {**tree(inside.state), "lock": 0} == {**before, "lock": 0}


@pytest.mark.parametrize(("left", "says"), [(b"other", digest_of(b"other")[7:]), (None, "no such file")])
def test_a_missing_base_file_is_named(inside: Inside, left: bytes | None, says: str) -> None:
    inside.bring_in(inside.full(1).seal())
    base = inside.state / "content" / "manifests" / "argo.yaml"
    if left is None:
        base.unlink()
    else:
        base.write_bytes(left)
    with pytest.raises(AirgapError, match=rf"leaves out manifests/argo\.yaml .* that has {says}: build a full bundle"):
        inside.bring_in(delta(inside).seal())
    assert inside.fake.written == []


def test_a_delta_on_an_empty_inside(inside: Inside) -> None:
    with pytest.raises(AirgapError, match="leaves out"):
        inside.bring_in(delta(inside).seal())
    assert inside.fake.written == []
    assert not (inside.state / "content").exists()


# --- the registry's own image


def loaded(path: Path) -> tuple[dict[str, Any], list[bytes]]:
    with tarfile.open(path) as tar:

        def read(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

        (entry,) = json.loads(read("manifest.json"))
        json.loads(read(entry["Config"]))
        return entry, [read(name) for name in entry["Layers"]]


def test_the_registrys_image_as_docker_loads_it(inside: Inside) -> None:
    path = inside.full().seal()
    inside.unpack(path)
    entry, layers = loaded(inside.state / "registry.tar")
    assert entry["RepoTags"] == [REGISTRY]
    assert layers == [b"registry" * 200]
    (inside.state / "registry.tar").write_bytes(b"damaged")
    assert inside.unpack(path)["changed"]
    assert loaded(inside.state / "registry.tar") == (entry, layers)


def platform(builder: BundleBuilder, architecture: str, layers: list[bytes]) -> dict[str, Any]:
    return {**builder.layout.manifest(layers), "platform": {"os": "linux", "architecture": architecture}}


def test_of_an_index_this_machines_image_is_loaded(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = inside.builder()
    children = [platform(builder, "amd64", [b"x86"]), platform(builder, "arm64", [b"arm", b"arm"])]
    builder.named(REGISTRY, builder.layout.index(children))
    builder.fields["registry_image"] = REGISTRY
    path = builder.seal()
    machine = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*machine[:4], "aarch64")))
    inside.unpack(path)
    assert loaded(inside.state / "registry.tar")[1] == [b"arm", b"arm"]
    (inside.state / "registry.tar").unlink()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*machine[:4], "riscv64")))
    with pytest.raises(AirgapError, match=r"nothing for linux/riscv64, .* it has linux/amd64, linux/arm64"):
        inside.unpack(path)


def test_an_archive_cannot_be_made_of_what_is_left_out(inside: Inside) -> None:
    inside.bring_in(inside.full(1).seal())
    builder = inside.full(2)
    builder.leave_out(digest_of(b"registry" * 200), "lumen-airgap/registry")
    path = builder.seal()
    assert inside.bring_in(path)["changed"]
    (inside.state / "registry.tar").unlink()
    with pytest.raises(AirgapError, match=r"of the registry's image .* has to be made anew: build a full bundle"):
        inside.bring_in(path)


def test_the_archive_is_the_same_each_time(inside: Inside, tmp_path: Path) -> None:
    path = inside.full().seal()
    inside.unpack(path)
    first = (inside.state / "registry.tar").read_bytes()
    shutil.rmtree(inside.state)
    inside.unpack(path)
    assert (inside.state / "registry.tar").read_bytes() == first
    assert docker_load.ARCHITECTURES["x86_64"] == "amd64"


# --- space


class Disk:
    def __init__(self, free: int) -> None:
        self.f_bavail, self.f_frsize = free, 1


def test_not_enough_space(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = inside.full()
    path = builder.seal()
    storage = inside.path / "registry"
    storage.mkdir()
    monkeypatch.setattr(space.os, "statvfs", lambda _: Disk(50_000))
    says = (
        r"not enough space: \d+ KiB are needed and 49 KiB are free .*for files under .*for images under .*Nothing was"
    )
    with pytest.raises(AirgapError, match=says) as said:
        inside.bring_in(path, storage_path=str(storage))
    assert said.value.details["free_bytes"] == 50_000
    assert inside.fake.written == []
    assert not (inside.state / "content").exists()
    with pytest.raises(AirgapError, match="not enough space"):
        inside.bring_in(path, check_mode=True, storage_path=str(storage))
    # Without the registry's storage there is enough for the files alone.
    assert inside.bring_in(path, storage_path="/nonexistent")["changed"]
    assert any("/nonexistent is not on this machine" in line for line in inside.lines)


# --- two at once


def test_two_at_once(inside: Inside) -> None:
    path = inside.full().seal()
    inside.state.mkdir(parents=True)
    with (inside.state / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("alice@node-1, process 7 on node-1, since 2026-01-01T00:00:00Z\n")
        other.flush()
        with pytest.raises(AirgapError, match=r"is being written by alice@node-1, process 7 .*: wait for it to end"):
            inside.bring_in(path)
        assert inside.fake.written == []
        assert inside.bring_in(path, check_mode=True)["bytes_written"] > 0
    assert inside.bring_in(path)["changed"]


def test_the_lock_names_its_holder(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    path = inside.full().seal()
    seen: list[str] = []

    def second(*_: Any) -> None:
        run = Inside(inside.path, inside.key, inside.clock)
        with pytest.raises(AirgapError) as said:
            run.bring_in(path)
        seen.append(str(said.value))

    monkeypatch.setattr(importing, "check_hashes", second)
    inside.bring_in(path)
    assert f"is being written by ops@node-1, process {os.getpid()} on " in seen[0]
    assert f"since {at(0)}" in seen[0]


# --- killed


class Killed(BaseException):
    """What no ``except Exception`` sees, as nothing sees a SIGKILL."""


WRITES = (
    (os, "replace"),
    (os, "rename"),
    (os, "link"),
    (os, "mkdir"),
    (os, "chmod"),
    (os, "fsync"),
    (os, "unlink"),
    (shutil, "rmtree"),
)


@contextmanager
def killed_at(step: int, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Every write counts, before and after it is done; the ``step``-th of those moments is the last."""
    count = 0
    lock = threading.Lock()

    def moment() -> None:
        nonlocal count
        with lock:
            count += 1
            if count == step:
                raise Killed

    def around(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            moment()
            result = call(*args, **options)
            moment()
            return result

        return wrapped

    with monkeypatch.context() as patch:
        for module, name in WRITES:
            patch.setattr(module, name, around(getattr(module, name)))
        send = fake.send

        def sending(request: Any, *args: Any, **options: Any) -> Any:
            return (send if request.method in ("GET", "HEAD") else around(send))(request, *args, **options)

        patch.setattr(fake, "send", sending)
        yield lambda: count


def outcome(inside: Inside) -> Any:
    state = tree(inside.state)
    state.pop("lock")
    entries = [{**entry, "imported_at": ""} for entry in json.loads(state.pop("history.json")[1])]
    return state, entries, inside.fake.tags, inside.fake.blobs


@pytest.fixture
def two(inside: Inside) -> tuple[Path, Path]:
    """A bundle that is there, and the next one, which changes a bit of everything."""
    first, second = inside.full(1), inside.builder(2)
    second.image("lumen-api:v1.1.0", [BASE, NEXT])
    second.image("lumen-airgap/registry:3.1.3", [b"registry" * 300])
    second.fields["registry_image"] = "lumen-airgap/registry:3.1.3"
    second.file("manifests/argo.yaml", b"kind: List\n")
    second.file("manifests/new.yaml", b"new", "0600")
    second.file("files/run.sh", b"#!/bin/sh\necho 2\n", "0755")
    return first.seal(), second.seal()


def test_a_killed_import_is_continued(inside: Inside, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """At every write, before and after it: the second run ends where an undisturbed one does."""
    first, second = two
    inside.bring_in(first)
    # Some two hundred runs of ssh-keygen more would show nothing.
    monkeypatch.setattr(signature, "verify", lambda *_: "release@lumen")
    start = inside.path / "start"
    shutil.copytree(inside.state_path, start, symlinks=True)
    start_tags, start_blobs = (
        json.dumps(inside.fake.tags),
        {name: dict(held) for name, held in inside.fake.blobs.items()},
    )
    start_manifests = {name: dict(held) for name, held in inside.fake.manifests.items()}

    def again() -> Inside:
        shutil.rmtree(inside.state_path)
        shutil.copytree(start, inside.state_path, symlinks=True)
        run = Inside(inside.path, inside.key, inside.clock)
        run.fake.tags = json.loads(start_tags)
        run.fake.blobs = {name: dict(held) for name, held in start_blobs.items()}
        run.fake.manifests = {name: dict(held) for name, held in start_manifests.items()}
        return run

    undisturbed = again()
    with killed_at(0, undisturbed.fake, monkeypatch) as steps:
        undisturbed.bring_in(second)
        total = steps()
    wanted = outcome(undisturbed)
    assert total > 60
    continued = 0
    for step in range(1, total + 1):
        run = again()
        with killed_at(step, run.fake, monkeypatch) as _, pytest.raises(Killed):
            run.bring_in(second)
        run.bring_in(second)
        continued += any("continuing the run of" in line for line in run.lines)
        assert outcome(run) == wanted, f"killed at {step} of {total}"
    assert continued > total / 2


def test_a_killed_process_is_continued(inside: Inside, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with a process that is gone at once, with its locks and without any cleaning up."""
    first, second = two
    inside.unpack(first)
    moments = 0

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal moments
            moments += 1
            if moments == 12:
                os._exit(9)
            return call(*args, **options)

        return wrapped

    pid = os.fork()
    if pid == 0:
        for module, name in WRITES:
            setattr(module, name, deadly(getattr(module, name)))
        try:
            inside.unpack(second)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert (inside.state / "journal.json").exists()
    inside.unpack(second)
    assert "continuing the run of" in inside.lines[1]
    assert sorted(tree(inside.state / "content")) == ["files/run.sh", "manifests/argo.yaml", "manifests/new.yaml"]
    assert sorted(os.listdir(inside.state)) == ["content", "lock", "registry.json", "registry.tar"]


def test_the_leftovers_of_another_bundles_run_do_not_get_in(
    inside: Inside, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    with killed_at(40, inside.fake, monkeypatch) as _, pytest.raises(Killed):
        inside.unpack(first)
    assert (inside.state / "content.new").exists()
    inside.unpack(second)
    assert sorted(tree(inside.state / "content")) == ["files/run.sh", "manifests/argo.yaml", "manifests/new.yaml"]
    assert not (inside.state / "content.new").exists()


def test_what_another_bundles_run_left_is_no_base(
    inside: Inside, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that a delta leaves out must be in the content; the leftovers go away before anything is written."""
    first, _second = two
    with killed_at(40, inside.fake, monkeypatch) as _, pytest.raises(Killed):
        inside.unpack(first)
    assert (inside.state / "content.new" / "files" / "run.sh").exists()
    builder = inside.builder(3)
    builder.file("files/run.sh", b"#!/bin/sh\necho 1\n", "0755")
    builder.leave_out_file("files/run.sh")
    with pytest.raises(AirgapError, match=r"leaves out files/run\.sh .* no such file"):
        inside.unpack(builder.seal())


def test_a_bundle_that_changes_while_it_is_read_does_no_harm(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the check of the hashes and the writing somebody swaps a file of the medium."""
    path = inside.full().seal()
    check = importing.check_hashes

    def swap(*args: Any) -> None:
        check(*args)
        (path / "files" / "run.sh").write_bytes(b"#!/bin/sh\necho 9\n")

    monkeypatch.setattr(importing, "check_hashes", swap)
    with pytest.raises(AirgapError, match=r"files/run\.sh of .* is corrupt"):
        inside.bring_in(path)
    assert not (inside.state / "content").exists()
    assert inside.fake.tags == {}


def test_an_index_that_changes_while_it_is_read_brings_no_other_image(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who can write to the medium waits for the checks to end, then names an image that nobody signed."""
    builder = inside.full()
    path = builder.seal()
    signed = {image.name: image.digest for image in builder.images}
    check = importing.check_files

    def swap(bundle: Any) -> None:
        check(bundle)
        (path / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
        builder.layout.add("lumen-api:v1.0.0", builder.layout.manifest([b"evil"]))

    monkeypatch.setattr(importing, "check_files", swap)
    monkeypatch.setattr(importing, "check_hashes", lambda *args: None)
    result = inside.bring_in(path)
    assert {f"{item['repository']}:{item['tags'][0]}": item["digest"] for item in result["images"]} == signed


def test_a_file_that_grows_while_it_is_read_does_not_fill_the_disk(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = inside.full().seal()
    check = importing.check_hashes

    def grow(*args: Any) -> None:
        check(*args)
        with (path / "files" / "run.sh").open("ab") as file:
            file.write(b"x" * 100_000)

    monkeypatch.setattr(importing, "check_hashes", grow)
    inside.bring_in(path)
    assert (inside.state / "content" / "files" / "run.sh").read_bytes() == b"#!/bin/sh\necho 1\n"


@pytest.mark.parametrize("name", ["content", "content.old"])
def test_nothing_is_written_or_removed_through_a_link(inside: Inside, name: str) -> None:
    elsewhere = inside.path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("stays")
    inside.state.mkdir(parents=True)
    (inside.state / name).symlink_to(elsewhere)
    path = inside.full().seal()
    with pytest.raises(AirgapError, match=r"is a symbolic link, .*: remove the link"):
        inside.bring_in(path)
    assert not (inside.state / "history.json").exists()
    assert inside.fake.written == []
    (inside.state / name).unlink()
    (inside.state / "content.new").symlink_to(elsewhere)  # of no run that could be continued: it goes away
    inside.bring_in(path)
    assert [item.name for item in elsewhere.iterdir()] == ["precious"]
    assert (inside.state / "content" / "files" / "run.sh").exists()


def test_a_directory_that_another_run_makes_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = os.mkdir

    def both(path: str) -> None:
        mkdir(path)
        mkdir(path)

    monkeypatch.setattr(os, "mkdir", both)
    make_directory(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(AirgapError, match="file cannot be made: a file has its name"):
        make_directory(str(tmp_path / "file"))


def test_memory_does_not_grow_with_the_bundle(inside: Inside) -> None:
    builder = inside.builder()
    builder.file("files/big", bytes(64 << 20))
    tar = to_tar(builder.seal(), inside.path / "x.tar")
    tracemalloc.start()
    try:
        inside.unpack(tar)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 << 20


def test_who_imports_is_known_without_being_said(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "carol")
    inside.bring_in(inside.full().seal(), by="")
    assert history(inside)[0]["by"].startswith("carol@")


def test_the_state_is_readable_by_people(inside: Inside) -> None:
    inside.bring_in(inside.full().seal())
    body = (inside.state / "history.json").read_bytes()
    assert body == engine.canonical(json.loads(body))
    assert io.BytesIO(body).readline() == b"[\n"
