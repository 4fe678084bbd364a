# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines in a file, and nothing that happens to the file stops the work."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.lumen.airgap.plugins.module_utils.progress import progress_to


def test_each_line_is_there_at_once(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    progress = progress_to(str(file))
    progress("1 of 2 images")
    assert file.read_text() == "1 of 2 images\n"
    progress("2 of 2 images")
    assert file.read_text() == "1 of 2 images\n2 of 2 images\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_one_call_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    progress_to(str(file))("cannot push:\nno space\r\nleft")
    assert file.read_text() == "cannot push: no space left\n"


def test_any_text_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    progress_to(str(file))("größe \udcff")
    assert file.read_text(encoding="utf-8") == "größe ?\n"


def test_lines_of_threads_do_not_mix(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    progress = progress_to(str(file))
    lines = [f"{number} " + "x" * 2000 for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(progress, lines))
    assert sorted(file.read_text().splitlines()) == sorted(lines)


def test_without_a_path_nothing_is_written() -> None:
    progress_to(None)("said to nobody")


def test_a_file_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    progress_to(str(tmp_path / "gone" / "lines"))("lost")
    progress_to("/dev/full")("lost too")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / "lines").symlink_to(target)
    progress_to(str(tmp_path / "lines"))("lost")
    assert not target.exists()
