# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Directories, tars and volumes, with everything in them that must not be."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import store as module
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.store import (
    DirectoryStore,
    Store,
    StoreError,
    TarStore,
    open_store,
)

FILES = {"bundle.json": b"{}", "blobs/sha256/" + "a" * 64: os.urandom(3000), "files/" + "deep/" * 30 + "x": b"x" * 700}


def read(store: Store, name: str) -> bytes:
    with store.open(name) as file:
        return file.read()


def pack(path: Path, form: int = tarfile.PAX_FORMAT, change: Callable[[tarfile.TarInfo], Any] = lambda _: None) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            change(member)
            tar.addfile(member, io.BytesIO(data))
    return path


def cut(path: Path, size: int) -> list[Path]:
    body = path.read_bytes()
    parts = [body[begin : begin + size] for begin in range(0, len(body), size)]
    names = [path.with_name(f"{path.name}.{number:03d}") for number in range(1, len(parts) + 1)]
    for name, part in zip(names, parts, strict=True):
        name.write_bytes(part)
    path.unlink()
    return names


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "bundle"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


# --- what is read


def check(store: Store) -> None:
    with store:
        assert sorted(store.names()) == sorted(FILES)
        for name, data in FILES.items():
            assert store.size(name) == len(data)
            assert read(store, name) == data
        assert store.size("none") is None
        with pytest.raises(StoreError, match="none is missing in"):
            store.open("none")


def test_a_directory(directory: Path) -> None:
    check(open_store(str(directory)))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_tar(tmp_path: Path, form: int) -> None:
    check(open_store(str(pack(tmp_path / "lumen-1.tar", form))))


@pytest.mark.parametrize("size", [100, 512, 1000, 5000, 1 << 20])
def test_volumes_are_one_tar_whatever_is_named(tmp_path: Path, size: int) -> None:
    parts = cut(pack(tmp_path / "lumen-1.tar"), size)
    for named in (parts[0], parts[-1], tmp_path, tmp_path / "lumen-1.tar"):
        check(open_store(str(named)))


def test_the_tar_of_a_directory_made_by_hand(tmp_path: Path, directory: Path) -> None:
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.add(directory, ".")
    check(open_store(str(tmp_path / "b.tar")))


def test_a_directory_that_holds_one_tar(tmp_path: Path) -> None:
    pack(tmp_path / "lumen-1.tar")
    check(open_store(str(tmp_path)))
    pack(tmp_path / "lumen-2.tar")
    with pytest.raises(StoreError, match=r"several names: lumen-1\.tar, lumen-2\.tar"):
        open_store(str(tmp_path))


def test_a_stream_can_be_read_again_and_beside_others(tmp_path: Path) -> None:
    cut(pack(tmp_path / "lumen-1.tar"), 700)
    name = list(FILES)[1]
    with open_store(str(tmp_path)) as store, store.open(name) as one, store.open(name) as other:
        assert one.read(1500) == other.read(1500) == FILES[name][:1500]
        assert one.seek(-10, os.SEEK_END) == 2990
        assert one.read() == FILES[name][-10:]
        assert one.seek(5) == one.tell() == 5
        buffer = bytearray(4000)
        assert one.readinto(buffer) == 2995  # type: ignore[attr-defined]
        assert other.read() == FILES[name][1500:]


# --- what is refused in a tar


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a character device"),
        (tarfile.BLKTYPE, "a block device"),
        (tarfile.FIFOTYPE, "a named pipe"),
        (tarfile.GNUTYPE_SPARSE, "of the type b'S'"),
    ],
)
def test_a_tar_with_something_else_than_files(tmp_path: Path, kind: bytes, says: str) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        member = tarfile.TarInfo("files/x")
        member.type, member.linkname = kind, "/etc/shadow"
        tar.addfile(member)
    with pytest.raises(StoreError, match=f"files/x is {says}, where a plain file is expected"):
        open_store(str(tmp_path / "x.tar"))


@pytest.mark.parametrize("name", ["/etc/cron.d/x", "../x", "files/../../x", "files//x", "files/\x1bx", "f\udcff", "./"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_tar_with_a_path_that_leads_out(tmp_path: Path, name: str, form: int) -> None:
    path = pack(tmp_path / "x.tar", form, lambda member: setattr(member, "name", name))
    with pytest.raises(StoreError, match=r"the path .* is not a relative path|cannot be printed|surrogates|hdrcharset"):
        open_store(str(path))


def test_a_directory_member_that_leads_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        member = tarfile.TarInfo("../out")
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
    with pytest.raises(StoreError, match="not a relative path"):
        open_store(str(tmp_path / "x.tar"))


def test_a_member_that_comes_twice(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar", change=lambda member: setattr(member, "name", "./bundle.json"))
    with pytest.raises(StoreError, match=r"has bundle\.json twice"):
        open_store(str(path))


def test_a_header_without_limit_is_not_read(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 1 << 33
    (tmp_path / "x.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(StoreError, match=f"a header of {1 << 33} bytes"):
        open_store(str(tmp_path / "x.tar"))


@pytest.mark.parametrize(
    "record", [b"99 path=x\n", b"path=x\n", b"0 a=b\n", b"20 GNU.sparse.map=0\n", b"9" * 5000 + b" a=b\n"]
)
def test_an_extended_header_that_lies(tmp_path: Path, record: bytes) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, len(record)
    (tmp_path / "x.tar").write_bytes(member.tobuf() + record + bytes(-len(record) % 512))
    with pytest.raises(StoreError, match=r"cannot be understood|unknown key 'GNU.sparse.map'"):
        open_store(str(tmp_path / "x.tar"))


@pytest.mark.parametrize("size", [b"-5", b"1e9", b"99999999999", b"9" * 5000])
def test_a_size_that_lies(tmp_path: Path, size: bytes) -> None:
    record = b"size=" + size + b"\n"
    record = str(len(record) + (3 if len(record) < 90 else 5)).encode() + b" " + record
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, len(record)
    body = member.tobuf() + record + bytes(-len(record) % 512) + tarfile.TarInfo("y").tobuf() + bytes(1024)
    (tmp_path / "x.tar").write_bytes(body)
    with pytest.raises(StoreError, match=r"the size of y is|is truncated: y ends at byte"):
        open_store(str(tmp_path / "x.tar"))


def test_endless_members_are_not_counted_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "x.tar")
    monkeypatch.setattr(module, "_MEMBERS_LIMIT", 2)
    with pytest.raises(StoreError, match="has more than 2 files"):
        open_store(str(path))


def test_a_compressed_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x" * 99), None)
        member = tarfile.TarInfo("data")
        member.size = 4000
        tar.addfile(member, io.BytesIO(os.urandom(4000)))
    with pytest.raises(StoreError, match="is compressed, or no tar"):
        open_store(str(tmp_path / "x.tar"))


@pytest.mark.parametrize("at", [0, 300, 512, 1100, 2600, 5000])
def test_a_truncated_tar(tmp_path: Path, at: int) -> None:
    path = pack(tmp_path / "x.tar")
    path.write_bytes(path.read_bytes()[:at])
    with pytest.raises(StoreError, match=r"x\.tar is truncated: .* its size is \d+ bytes. Copy it again"):
        open_store(str(path))


# --- volumes


def test_a_missing_volume_is_named(tmp_path: Path) -> None:
    parts = cut(pack(tmp_path / "lumen-1.tar"), 1000)
    parts[0].unlink()
    with pytest.raises(StoreError, match=r"lumen-1\.tar\.001 is missing"):
        open_store(str(parts[1]))


def test_a_missing_volume_in_the_middle(tmp_path: Path) -> None:
    parts = cut(pack(tmp_path / "lumen-1.tar"), 1000)
    parts[2].unlink()
    with pytest.raises(StoreError, match=r"lumen-1\.tar\.003 is missing"):
        open_store(str(tmp_path))


def test_the_missing_last_volume_is_named(tmp_path: Path) -> None:
    parts = cut(pack(tmp_path / "lumen-1.tar"), 2000)
    for part in parts[2:]:
        part.unlink()
    with pytest.raises(StoreError, match=r"is truncated: .* Is .*lumen-1\.tar\.003 missing\?"):
        open_store(str(parts[0]))


def test_a_volume_that_was_cut(tmp_path: Path) -> None:
    parts = cut(pack(tmp_path / "lumen-1.tar"), 2000)
    parts[1].write_bytes(parts[1].read_bytes()[:1500])
    with pytest.raises(StoreError, match=r"\.002 has 1500 bytes, its neighbours have 2000"):
        open_store(str(parts[0]))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no bundle at"):
        open_store(str(tmp_path / "none"))
    with pytest.raises(StoreError, match=r"has no bundle\.json, and holds no bundle"):
        open_store(str(tmp_path))
    with pytest.raises(StoreError, match="is no plain file"):
        TarStore(["/dev/null"])


# --- what is refused in a directory


def test_a_link_in_a_directory(directory: Path) -> None:
    (directory / "files" / "link").symlink_to("/etc/shadow")
    store = DirectoryStore(str(directory))
    with pytest.raises(StoreError, match="files/link is a symbolic link"):
        list(store.names())
    with pytest.raises(StoreError, match="files/link is a symbolic link"):
        store.size("files/link")
    with pytest.raises(StoreError, match="files/link cannot be read"):
        store.open("files/link")


def test_a_directory_that_is_a_link(directory: Path, tmp_path: Path) -> None:
    (directory / "manifests").symlink_to(tmp_path)
    (tmp_path / "secret").write_text("x")
    store = DirectoryStore(str(directory))
    with pytest.raises(StoreError, match="manifests is a symbolic link"):
        list(store.names())
    for use in (store.size, store.open):
        with pytest.raises(StoreError, match="manifests is a symbolic link"):
            use("manifests/secret")


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "files/../../x"])
def test_a_name_that_leads_out(directory: Path, name: str) -> None:
    for use in (DirectoryStore(str(directory)).open, DirectoryStore(str(directory)).size):
        with pytest.raises(StoreError, match="not a relative path"):
            use(name)


def test_a_pipe_in_a_directory(directory: Path) -> None:
    os.mkfifo(directory / "files" / "pipe")
    store = DirectoryStore(str(directory))
    for use in (lambda: list(store.names()), lambda: store.open("files/pipe"), lambda: store.size("files/pipe")):
        with pytest.raises(StoreError, match="files/pipe is a device"):
            use()


def test_a_directory_is_no_file(directory: Path) -> None:
    with pytest.raises(StoreError, match="files is a directory"):
        DirectoryStore(str(directory)).open("files")
