# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module trivy_db: databases into a cache, as Trivy would find them there."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.modules import trivy_db as module
from ansible_collections.lumen.airgap.tests.unit.fakes.layout import LayoutBuilder
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, FakeRegistry
from ansible_collections.lumen.airgap.tests.unit.fakes.trivy import (
    DB,
    JAVA_DB,
    archive,
    artifact,
    bolt,
    directory,
    files,
    metadata,
)

from .conftest import Run


def ago(days: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000001Z", time.gmtime(time.time() - days * 86400))


def tree(path: Path) -> dict[str, str]:
    """Everything under a directory but the lock, which says who had it last: links and the hashes of files."""
    found = {}
    for entry in sorted(path.rglob("*")):
        name = str(entry.relative_to(path))
        if name == ".versions/lock":
            continue
        if entry.is_symlink():
            found[name] = f"-> {os.readlink(entry)}"
        elif entry.is_file():
            found[name] = hashlib.sha256(entry.read_bytes()).hexdigest()
    return found


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def options(cache: Path) -> dict[str, Any]:
    return {"cache_path": str(cache), "registry": {"host": HOST}, "db": {}}


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(module.AnsibleModule, "warn", lambda _module, text: texts.append(text))
    return texts


def documented(result: dict[str, Any]) -> None:
    about = yaml.safe_load(module.RETURN)
    assert set(result) - {"changed", "diff", "warnings", "invocation"} <= set(about)
    for found in result["databases"].values():
        assert set(found) == set(about["databases"]["contains"]["db"]["contains"])


# --- delivered


def test_delivered_from_the_registry(
    run: Run, options: dict[str, Any], fake_registry: FakeRegistry, cache: Path
) -> None:
    digest = artifact(fake_registry, updated=ago(1))
    artifact(fake_registry, JAVA_DB, updated=ago(2))
    wanted = {**options, "java_db": {}}
    foreseen = run(module, check=True, **wanted)
    assert foreseen["changed"]
    assert not cache.exists(), "check mode writes nothing"
    result = run(module, **wanted)
    assert result["changed"]
    documented(result)
    ignored = ("delivered_at", "age_days")
    for key in ("db", "java_db"):
        said, done = foreseen["databases"][key], result["databases"][key]
        assert {k: v for k, v in said.items() if k not in ignored} == {
            k: v for k, v in done.items() if k not in ignored
        }
    found = result["databases"]["db"]
    assert (found["kind"], found["schema"], found["verdict"]) == ("trivy-db", 2, "fresh")
    assert (found["digest"], found["source"]) == (digest, f"{HOST}/trivy-db:2")
    assert (cache / "db" / "trivy.db").read_bytes() == bolt(b"one")
    assert (cache / "java-db" / "metadata.json").exists()
    assert stat.S_IMODE((cache / "db" / "trivy.db").stat().st_mode) == 0o644
    assert not os.readlink(cache / "db").startswith("/"), "the link also holds where the cache is mounted"

    fake_registry.requests.clear()
    before = tree(cache)
    again = run(module, **wanted)
    assert not again["changed"]
    assert not any("/blobs/" in path for _method, path in fake_registry.requests), "nothing is read again"
    assert tree(cache) == before


def test_the_next_one_takes_its_place_and_the_one_before_stays(
    run: Run, options: dict[str, Any], fake_registry: FakeRegistry, cache: Path
) -> None:
    artifact(fake_registry, updated=ago(9), content=b"one")
    run(module, **options)
    with open(cache / "db" / "trivy.db", "rb") as scanning:
        artifact(fake_registry, updated=ago(5), content=b"two")
        assert run(module, **options)["changed"]
        assert scanning.read() == bolt(b"one"), "who has it open keeps it"
    assert (cache / "db" / "trivy.db").read_bytes() == bolt(b"two")
    artifact(fake_registry, updated=ago(1), content=b"three")
    run(module, **options)
    kept = list((cache / ".versions" / "db").iterdir())
    assert sorted((path / "trivy.db").read_bytes()[8192:8197] for path in kept) == [b"three", b"two\0\0"]
    artifact(fake_registry, updated=ago(0), content=b"four")
    run(module, keep_previous=False, **options)
    assert len(list((cache / ".versions" / "db").iterdir())) == 1


@pytest.mark.parametrize("where", ["layout", "archive", "directory", "cache"])
def test_delivered_from_elsewhere(where: str, run: Run, options: dict[str, Any], tmp_path: Path, cache: Path) -> None:
    about = {"updated": ago(1)}
    source: dict[str, Any]
    if where == "layout":
        layout = LayoutBuilder(tmp_path / "layout")
        manifest = layout.manifest([archive(files(**about))])
        text = layout.file(manifest["digest"]).read_text()
        body = text.replace("application/vnd.oci.image.layer.v1.tar+gzip", DB.media_type).encode()
        layout.add("trivy-db:2", layout.blob(body, manifest["mediaType"]))
        source = {"layout": str(layout.path)}
    elif where == "archive":
        path = tmp_path / "db.tar.gz"
        path.write_bytes(archive({f"./{name}": body for name, body in files(**about).items()}))
        source = {"archive": str(path), "checksum": hashlib.sha256(path.read_bytes()).hexdigest()}
    else:
        directory(tmp_path / "made" / "db", **about)
        source = {"directory": str(tmp_path / "made" / ("db" if where == "directory" else ""))}
    wanted = {**options, "db": source}
    assert run(module, check=True, **wanted)["changed"]
    result = run(module, **wanted)
    assert result["changed"]
    documented(result)
    assert (cache / "db" / "trivy.db").read_bytes() == bolt(b"one")
    assert not run(module, **wanted)["changed"]
    assert not run(module, check=True, **wanted)["changed"]


def test_the_same_content_from_elsewhere_is_the_same(
    run: Run, options: dict[str, Any], fake_registry: FakeRegistry, tmp_path: Path
) -> None:
    about = {"updated": ago(1)}
    artifact(fake_registry, **about)
    run(module, **options)
    made = directory(tmp_path / "made", **about)
    assert not run(module, **{**options, "db": {"directory": str(made)}})["changed"]


def test_what_trivy_itself_has_made_becomes_the_version_before(
    run: Run, options: dict[str, Any], fake_registry: FakeRegistry, cache: Path
) -> None:
    directory(cache / "db", content=b"by hand", updated=ago(20))
    artifact(fake_registry, updated=ago(1))
    assert run(module, **options)["changed"]
    assert (cache / "db" / "trivy.db").read_bytes() == bolt(b"one")
    assert run(module, state="rolled_back", **options)["changed"]
    assert (cache / "db" / "trivy.db").read_bytes() == bolt(b"by hand")


# --- refused


def refused(run: Run, options: dict[str, Any], cache: Path, **more: Any) -> str:
    before = tree(cache)
    for check in (True, False):
        result = run(module, check=check, **{**options, **more})
        assert result.get("failed"), result
        assert tree(cache) == before
    return str(result["msg"])


@pytest.fixture
def delivered(run: Run, options: dict[str, Any], fake_registry: FakeRegistry, cache: Path) -> Path:
    """A cache with a database, which every refusal leaves as it is."""
    artifact(fake_registry, updated=ago(10), content=b"good")
    run(module, **options)
    return cache


GOOD = files(updated="2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (archive(GOOD)[:-30], "is no whole tar.gz"),
        (archive(GOOD)[:-8] + b"\0" * 8, "is no whole tar.gz: CRC check failed"),
        (b"<html>", "is no whole tar.gz"),
        (archive(GOOD) + b"more", "is no whole tar.gz|goes on behind its end"),
        (archive({"metadata.json": GOOD["metadata.json"]}), "has no trivy.db: it is no trivy-db"),
        (archive({"trivy.db": GOOD["trivy.db"]}), "has no metadata.json"),
        (archive({**GOOD, "../escape": b"x"}), "has '../escape'"),
        (archive({**GOOD, "/etc/cron.d/x": b"x"}), "has '/etc/cron.d/x'"),
        (archive(files(JAVA_DB)), "has 'trivy-java.db', but a trivy-db holds"),
        (archive({**GOOD, "trivy.db": b""}), "trivy.db in .* is empty"),
        (archive({**GOOD, "trivy.db": bolt()[:-100]}), "trivy.db in .* is cut short"),
        (archive({**GOOD, "trivy.db": b"x" * 9000}), "trivy.db in .* is no database of Trivy"),
        (archive({**GOOD, "metadata.json": b"{"}), "metadata.json in .* is not JSON"),
        (archive({**GOOD, "metadata.json": b" " * 100_000}), "metadata.json of 100000 bytes"),
        (archive({**GOOD, "metadata.json": metadata(version=1)}), "has schema 1, but Trivy reads schema 2"),
        (archive({**GOOD, "metadata.json": metadata(version=3)}), "bring a newer Trivy"),
    ],
)
def test_content_that_is_refused(
    layer: bytes, says: str, run: Run, options: dict[str, Any], fake_registry: FakeRegistry, delivered: Path
) -> None:
    artifact(fake_registry, layer=layer)
    message = refused(run, options, delivered)
    assert re.search(says, message), message
    assert f"{HOST}/trivy-db:2" in message, "it says where that came from"


@pytest.mark.parametrize(
    ("kind", "name"), [(tarfile.SYMTYPE, "trivy.db"), (tarfile.LNKTYPE, "trivy.db"), (tarfile.CHRTYPE, "x")]
)
def test_members_that_are_no_files(
    kind: bytes,
    name: str,
    run: Run,
    options: dict[str, Any],
    fake_registry: FakeRegistry,
    delivered: Path,
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    artifact(fake_registry, layer=archive({"metadata.json": GOOD["metadata.json"]}, [member]))
    message = refused(run, options, delivered)
    assert "no plain file" in message or "alone" in message


def test_a_corrupt_blob(run: Run, options: dict[str, Any], fake_registry: FakeRegistry, delivered: Path) -> None:
    digest = artifact(fake_registry, updated=ago(1), content=b"bad")
    body = fake_registry.blobs["trivy-db"][digest]
    # Another gzip stream of the same length: only the digest tells.
    fake_registry.blobs["trivy-db"][digest] = body[:4] + b"\1" + body[5:]
    assert f"@{digest} is corrupt" in refused(run, options, delivered)


@pytest.mark.parametrize("days", [91, 400])
def test_a_fresh_import_of_an_old_database_is_refused(
    days: float, run: Run, options: dict[str, Any], fake_registry: FakeRegistry, delivered: Path
) -> None:
    artifact(fake_registry, updated=ago(days), content=b"old")
    message = refused(run, options, delivered)
    assert f"{days}.0 days ago, and may have 90" in message
    assert "Nothing was changed" in message


def test_old_enough_for_a_warning(
    run: Run, options: dict[str, Any], fake_registry: FakeRegistry, warned: list[str]
) -> None:
    artifact(fake_registry, updated=ago(40))
    artifact(fake_registry, JAVA_DB, updated=ago(40))
    result = run(module, **{**options, "java_db": {"warn_days": 50}})
    assert [result["databases"][key]["verdict"] for key in ("db", "java_db")] == ["aging", "fresh"]
    assert len(warned) == 1
    assert "a newer one is due after 30" in warned[0]
    assert result["reasons"] == warned


def test_it_does_not_go_back_unless_it_must(
    run: Run, options: dict[str, Any], fake_registry: FakeRegistry, delivered: Path, warned: list[str]
) -> None:
    artifact(fake_registry, updated=ago(20), content=b"older")
    assert "it would go back" in refused(run, options, delivered)
    assert run(module, force=True, **options)["changed"]
    assert (delivered / "db" / "trivy.db").read_bytes() == bolt(b"older")
    assert "it would go back" in warned[0]


def test_a_database_of_the_future_is_a_matter_of_clocks(
    run: Run, options: dict[str, Any], fake_registry: FakeRegistry, delivered: Path
) -> None:
    artifact(fake_registry, updated=ago(-3), content=b"new")
    assert "but the clock of this machine says" in refused(run, options, delivered)


def test_all_or_nothing(run: Run, options: dict[str, Any], fake_registry: FakeRegistry, delivered: Path) -> None:
    artifact(fake_registry, updated=ago(1), content=b"new")
    artifact(fake_registry, JAVA_DB, updated=ago(1), version=7)
    assert "schema 7" in refused(run, options, delivered, java_db={})


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"image": "trivy-db:9"}, f"{HOST}/trivy-db:9 does not exist; the registry has trivy-db with the tags 2"),
        ({"image": "nothing:1"}, "the registry has no nothing"),
        ({"image": "trivy-db"}, "repository:tag"),
        ({"image": "other.test/trivy-db:2"}, "repository:tag in the registry that registry.host names"),
        ({"image": "app:v1"}, "is no trivy-db: that has one layer of application/vnd.aquasec.trivy.db"),
        ({"layout": "/nowhere"}, "/nowhere is not an OCI layout"),
        ({"archive": "/nowhere.tar.gz"}, "/nowhere.tar.gz cannot be read: No such file"),
        ({"directory": "/nowhere"}, "there is no /nowhere/"),
    ],
)
def test_sources_that_are_none(
    source: dict[str, Any], says: str, run: Run, options: dict[str, Any], fake_registry: FakeRegistry, delivered: Path
) -> None:
    fake_registry.add_image("app", "v1", [b"layer"])
    assert says in refused(run, options, delivered, db=source)


def test_another_archive_than_its_checksum(run: Run, options: dict[str, Any], tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "db.tar.gz"
    path.write_bytes(archive(files(updated=ago(1))))
    result = run(module, **{**options, "db": {"archive": str(path), "checksum": "sha256:" + "0" * 64}})
    assert "it is corrupt, or another one" in result["msg"]
    assert not (cache / "db").exists()


def test_thresholds_that_make_no_sense(run: Run, options: dict[str, Any]) -> None:
    result = run(module, **{**options, "db": {"warn_days": 30, "fail_days": 10}})
    assert "db.warn_days (30) is more than db.fail_days (10)" in result["msg"]


def test_two_at_the_same_time(run: Run, options: dict[str, Any], fake_registry: FakeRegistry, delivered: Path) -> None:
    artifact(fake_registry, updated=ago(1), content=b"new")
    with open(delivered / ".versions" / "lock", "w") as lock:
        lock.write("process 7 on node-1")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run(module, **options)
    assert "is being written by process 7 on node-1" in result["msg"]


# --- damage


def test_damage_that_shows_is_mended(
    run: Run, options: dict[str, Any], fake_registry: FakeRegistry, delivered: Path
) -> None:
    with open(delivered / "db" / "trivy.db", "r+b") as file:
        file.seek(9000)
        file.write(b"!")
    result = run(module, state="verified", **options)
    assert "is not what was brought there" in result["msg"]
    assert run(module, check=True, **options)["changed"]
    assert run(module, **options)["changed"]
    assert (delivered / "db" / "trivy.db").read_bytes() == bolt(b"good")
    assert not run(module, state="verified", **options).get("failed")


def test_damage_that_does_not_show_is_found_by_the_hash(
    run: Run, options: dict[str, Any], fake_registry: FakeRegistry, delivered: Path
) -> None:
    path = delivered / "db" / "trivy.db"
    before = path.stat()
    with open(path, "r+b") as file:
        file.seek(9000)
        file.write(b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not run(module, **options)["changed"]
    assert "with force" in run(module, state="verified", **options)["msg"]
    assert run(module, force=True, **options)["changed"]
    assert path.read_bytes() == bolt(b"good")


def test_what_a_killed_run_has_left_goes(
    run: Run, options: dict[str, Any], fake_registry: FakeRegistry, delivered: Path
) -> None:
    (delivered / ".versions" / "db" / ".new-0123").mkdir()
    artifact(fake_registry, updated=ago(1), content=b"new")
    assert run(module, **options)["changed"]
    assert not [path for path in (delivered / ".versions" / "db").iterdir() if path.name.startswith(".new")]


# --- verified, rolled back


def test_verified(run: Run, options: dict[str, Any], delivered: Path) -> None:
    result = run(module, state="verified", **options)
    assert not result["changed"]
    documented(result)
    assert result["databases"]["db"]["sha256"] == hashlib.sha256(bolt(b"good")).hexdigest()


def test_verified_what_somebody_else_brought(run: Run, options: dict[str, Any], cache: Path) -> None:
    directory(cache / "db", updated=ago(3))
    found = run(module, state="verified", **options)["databases"]["db"]
    assert found["sha256"] == hashlib.sha256(bolt(b"one")).hexdigest()
    assert (found["delivered_at"], found["digest"]) == (None, None)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"java_db": {}}, "there is no trivy-java-db in"),
        ({"db": {"warn_days": 1, "fail_days": 5}}, "10.0 days ago, and may have 5"),
        ({"db": {"schema": 3}}, "has schema 2, but Trivy reads schema 3"),
    ],
)
def test_not_verified(more: dict[str, Any], says: str, run: Run, options: dict[str, Any], delivered: Path) -> None:
    assert says in run(module, state="verified", **{**options, **more})["msg"]


def test_rolled_back(run: Run, options: dict[str, Any], fake_registry: FakeRegistry, delivered: Path) -> None:
    assert "no trivy-db of before" in run(module, state="rolled_back", **options)["msg"]
    artifact(fake_registry, updated=ago(1), content=b"bad")
    run(module, **options)
    before = tree(delivered)
    assert run(module, check=True, state="rolled_back", **options)["changed"]
    assert tree(delivered) == before
    result = run(module, state="rolled_back", **options)
    assert result["changed"]
    documented(result)
    assert (delivered / "db" / "trivy.db").read_bytes() == bolt(b"good")
    assert not run(module, state="rolled_back", **options)["changed"]
    assert run(module, **options)["changed"], "and forward again, from what is kept"
    assert (delivered / "db" / "trivy.db").read_bytes() == bolt(b"bad")


# --- packed


def test_packed_as_a_layout_that_can_be_delivered(
    run: Run, options: dict[str, Any], tmp_path: Path, cache: Path
) -> None:
    about = {"updated": ago(1)}
    directory(tmp_path / "made" / "db", **about)
    directory(tmp_path / "made" / "java-db", JAVA_DB, **about)
    source = {"directory": str(tmp_path / "made")}
    out = tmp_path / "out"
    wanted = {"state": "packed", "path": str(out), "db": source, "java_db": source}
    assert run(module, check=True, **wanted)["changed"]
    assert not out.exists()
    result = run(module, **wanted)
    assert result["changed"]
    documented(result)
    before = tree(out)
    assert not run(module, **wanted)["changed"]
    assert tree(out) == before
    layout = {"layout": str(out)}
    run(module, **{**options, "db": layout, "java_db": layout})
    assert (cache / "db" / "trivy.db").read_bytes() == bolt(b"one")
    assert (cache / "java-db" / "metadata.json").read_bytes() == (tmp_path / "made/java-db/metadata.json").read_bytes()

    directory(tmp_path / "made" / "db", content=b"two", **about)
    assert run(module, **wanted)["changed"]
    assert len(list((out / "blobs" / "sha256").iterdir())) == 5, "two layers, two manifests and a config"
    other = tmp_path / "other"
    run(module, **{**wanted, "path": str(other)})
    assert tree(other) == tree(out), "the same content makes the same bytes"


def test_packed_as_one_file(run: Run, tmp_path: Path, fake_registry: FakeRegistry) -> None:
    digest = artifact(fake_registry, updated=ago(1))
    out = tmp_path / "sub" / "db.tar.gz"
    wanted = {"state": "packed", "path": str(out), "registry": {"host": HOST}, "db": {}}
    assert run(module, **wanted)["changed"]
    assert out.read_bytes() == fake_registry.blobs["trivy-db"][digest]
    assert not run(module, **wanted)["changed"]
    assert [path.name for path in out.parent.iterdir()] == ["db.tar.gz"]


def test_not_packed(run: Run, tmp_path: Path) -> None:
    made = {"directory": str(directory(tmp_path / "made", updated=ago(100)))}
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    wanted = {"state": "packed", "db": made}
    assert "and may have 90" in run(module, path=str(tmp_path / "out"), **wanted)["msg"]
    assert "is not empty, and no OCI layout" in run(module, path=str(tmp_path / "full"), **wanted)["msg"]
    both = run(module, path=str(tmp_path / "x.tar.gz"), **wanted, java_db=made)
    assert "holds one database, but 2 are asked for" in both["msg"]
    layout = LayoutBuilder(tmp_path / "layout")
    layout.add("app:v1", layout.manifest([b"layer"]))
    assert "holds app:v1" in run(module, path=str(layout.path), **wanted)["msg"]
    assert not (tmp_path / "out").exists()
