# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection that ansible-galaxy builds: the same bytes whenever it is built."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.collection import CollectionError, build
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.wheels import Finished


class Galaxy:
    """ansible-galaxy: every build has another time and order."""

    def __init__(self) -> None:
        self.builds = 0
        self.answer = Finished(0, "", "")
        self.fault: Exception | None = None

    def run(self, argv: Sequence[str], environment: Mapping[str, str], timeout: float) -> Finished:
        if self.fault:
            raise self.fault
        self.builds += 1
        names = ["MANIFEST.json", "plugins/a.py"][:: 1 if self.builds % 2 else -1]
        output = argv[argv.index("--output-path") + 1]
        if not self.answer.code:
            with tarfile.open(Path(output, "lumen-airgap-0.1.0.tar.gz"), "w:gz") as archive:
                for name in names:
                    info = tarfile.TarInfo(name)
                    info.size, info.mtime, info.uid, info.mode = 2, 1000 + self.builds, self.builds, 0o755
                    archive.addfile(info, io.BytesIO(b"{}"))
        return self.answer


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "galaxy.yml").write_text("name: airgap\n")
    return tmp_path


def test_the_same_files_are_the_same_bytes(checkout: Path) -> None:
    galaxy, bodies = Galaxy(), []
    for name in ("one", "two"):
        (checkout / name).mkdir()
        path = Path(build(str(checkout), str(checkout / name), galaxy.run))
        bodies.append(path.read_bytes())
        assert path.name == "lumen-airgap-0.1.0.tar.gz"
    assert bodies[0] == bodies[1]
    with tarfile.open(path) as archive:
        assert [(item.name, item.mtime, item.uid, item.mode) for item in archive] == [
            ("MANIFEST.json", 0, 0, 0o755),
            ("plugins/a.py", 0, 0, 0o755),
        ]


def test_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"has no galaxy\.yml"):
        build(str(tmp_path), str(tmp_path), Galaxy().run)


def test_galaxys_own_words(checkout: Path) -> None:
    galaxy = Galaxy()
    galaxy.answer = Finished(1, "", "ERROR! Invalid collection name\n")
    with pytest.raises(CollectionError, match="ERROR! Invalid collection name"):
        build(str(checkout), str(checkout), galaxy.run)


@pytest.mark.parametrize(
    ("fault", "message"),
    [(subprocess.TimeoutExpired("x", 1), "not done"), (FileNotFoundError(2, "No such file"), "cannot be run: No such")],
)
def test_galaxy_that_hangs_or_is_missing(checkout: Path, fault: Exception, message: str) -> None:
    galaxy = Galaxy()
    galaxy.fault = fault
    with pytest.raises(CollectionError, match=message):
        build(str(checkout), str(checkout), galaxy.run)
