# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cache of builds: whole blobs, notes, one build at a time."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.blob_cache import (
    KEEP,
    LOCK_DEADLINE,
    BlobCache,
    CacheError,
)
from ansible_collections.lumen.airgap.plugins.module_utils.times import SystemClock
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import digest_of


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    return BlobCache(str(tmp_path / "cache"))


def test_a_blob_has_the_name_of_its_content(cache: BlobCache) -> None:
    blob = cache.put(b"content")
    assert blob == (digest_of(b"content"), 7)
    assert cache.has(blob.digest, 7)
    assert not cache.has(blob.digest, 8)
    assert cache.read(blob.digest) == b"content"


def test_a_draft_that_is_left_is_gone(cache: BlobCache) -> None:
    with cache.draft() as draft:
        draft.write(b"half")
    assert os.listdir(os.path.join(cache.path, "tmp")) == []
    assert not cache.has(digest_of(b"half"))


def test_notes(cache: BlobCache) -> None:
    assert cache.note("layers", "ab") is None
    cache.remember("layers", "ab", {"size": 1})
    assert cache.note("layers", "ab") == {"size": 1}
    Path(cache.path, "layers", "ab.json").write_text("{half")
    assert cache.note("layers", "ab") is None


def test_a_blob_that_is_missing(cache: BlobCache) -> None:
    with pytest.raises(CacheError, match=f"{digest_of(b'x')[7:]} cannot be read"):
        cache.open(digest_of(b"x"))


def test_what_a_killed_build_left_and_what_is_old_goes(cache: BlobCache) -> None:
    old, new = cache.put(b"old"), cache.put(b"new")
    os.utime(cache.blob_path(old.digest), (1, time.time() - KEEP - 60))
    scratch = cache.scratch()
    with cache.locked(SystemClock()):
        assert not os.path.exists(scratch)
    assert not cache.has(old.digest)
    assert cache.has(new.digest)


def test_one_build_waits_for_the_other_and_gives_up(cache: BlobCache) -> None:
    os.makedirs(cache.path)
    with open(os.path.join(cache.path, "lock"), "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        clock = FakeClock()
        begin = clock.monotonic()
        with pytest.raises(CacheError, match="another build has used the cache"), cache.locked(clock):
            pass
        assert clock.monotonic() - begin >= LOCK_DEADLINE


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(CacheError, match="cannot be written"),
        BlobCache(str(tmp_path / "file" / "cache")).locked(SystemClock()),
    ):
        pass
