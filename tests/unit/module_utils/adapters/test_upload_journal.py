# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where interrupted uploads are remembered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.upload_journal import UploadJournal
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError

NAMES = ("host:5000", "app", "sha256:1")
LONG, SHORT = "http://host:5000/v2/app/blobs/uploads/1?_state=" + "x" * 300, "http://host:5000/2"


def test_what_was_saved_is_there_for_the_next_run(tmp_path: Path) -> None:
    directory = tmp_path / "private" / "uploads"
    journal = UploadJournal(str(directory))
    with journal.entry(*NAMES) as entry:
        assert entry.location is None
        entry.save(LONG)
        entry.save(SHORT)
    (file,) = directory.iterdir()
    assert (file.stat().st_mode & 0o777, directory.stat().st_mode & 0o777) == (0o600, 0o700)
    with journal.entry("host:5000", "other", "sha256:1") as entry:
        assert entry.location is None
        entry.done()
    with UploadJournal(str(directory)).entry(*NAMES) as entry:
        assert entry.location == SHORT
        entry.done()
    assert list(directory.iterdir()) == []


def test_an_entry_is_one_runs_own(tmp_path: Path) -> None:
    journal = UploadJournal(str(tmp_path))
    with journal.entry(*NAMES) as mine:
        mine.save(SHORT)
        with journal.entry(*NAMES) as other:
            assert other.location is None
            other.save(LONG)
            other.done()
    with journal.entry(*NAMES) as entry:
        assert entry.location == SHORT


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"location": '])
def test_what_was_cut_short_counts_as_none(tmp_path: Path, content: bytes) -> None:
    journal = UploadJournal(str(tmp_path))
    with journal.entry(*NAMES) as entry:
        entry.save(SHORT)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    with journal.entry(*NAMES) as entry:
        assert entry.location is None


def test_what_nobody_came_back_for_is_removed(tmp_path: Path) -> None:
    journal = UploadJournal(str(tmp_path))
    with journal.entry(*NAMES) as entry:
        entry.save(SHORT)
    (file,) = tmp_path.iterdir()
    os.utime(file, (0, 0))
    with journal.entry("host:5000", "other", "sha256:2"):
        assert not file.exists()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    journal, victim = UploadJournal(str(tmp_path / "uploads")), tmp_path / "victim"
    with journal.entry(*NAMES) as entry:
        entry.save(SHORT)
    (file,) = (tmp_path / "uploads").iterdir()
    file.unlink()
    victim.write_text("mine")
    file.symlink_to(victim)
    with pytest.raises(AirgapError, match=r"cannot be noted in .*journal_path"), journal.entry(*NAMES):
        pass
    assert victim.read_text() == "mine"
