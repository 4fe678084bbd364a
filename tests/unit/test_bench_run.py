# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runner of the benchmarks: what it reads, what it calls a failure."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).parents[1] / "bench" / "run.py"


def run(directory: Path, *names: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(RUNNER, directory)
    return subprocess.run(
        [sys.executable, str(directory / "run.py"), *names], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    ("program", "code", "row"),
    [
        ("""print('{"name": "a", "value": 1.5, "unit": "s", "limit": 2}')""", 0, ["a", "1.5 s", "2 s", "ok"]),
        ("""print('{"name": "a", "value": 2.5, "unit": "s", "limit": 2}')""", 1, ["a", "2.5 s", "2 s", "too slow"]),
        ("""print('{"name": "a", "value": 7, "unit": "MiB"}')""", 0, ["a", "7 MiB", "ok"]),
        ("""print("nothing of note")""", 1, ["measured nothing"]),
        ("""raise SystemExit(3)""", 1, ["exit code 3"]),
    ],
)
def test_rows_and_exit_code(tmp_path: Path, program: str, code: int, row: list[str]) -> None:
    (tmp_path / "one.py").write_text(program, encoding="utf-8")
    ended = run(tmp_path)
    assert ended.returncode == code
    line = ended.stdout.splitlines()[1]
    assert [cell.strip() for cell in line.split("  ") if cell.strip()] == ["one", *row]


def test_unknown_benchmark_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("", encoding="utf-8")
    ended = run(tmp_path, "two")
    assert ended.returncode == 2
    assert "two" in ended.stderr
