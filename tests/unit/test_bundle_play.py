# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What playbooks/bundle.yml says, and where it looks for what is named by a relative path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.lumen.airgap.tests.unit.fakes.keys import make_key

ROOT = Path(__file__).parents[2]
COLLECTIONS = next(entry for entry in sys.path if (Path(entry) / "ansible_collections" / "lumen").is_dir())
SPEC = "schema: 1\nname: small\nvalid_days: 9\nfiles: [{source: note.txt, path: note.txt}]\n"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """The directory that a person works in, outside of the checkout."""
    make_key(tmp_path, "builder")
    (tmp_path / "bundle.yml").write_text(SPEC)
    (tmp_path / "note.txt").write_text("a note\n")
    (tmp_path / "hosts.yml").write_text("connected: {hosts: {desk: {}}}\n")
    groups = tmp_path / "group_vars"
    groups.mkdir()
    (groups / "connected.yml").symlink_to(ROOT / "inventories" / "airgap" / "group_vars" / "connected.yml")
    return tmp_path


def play(desk: Path, *arguments: str) -> str:
    wanted = {"spec": "bundle.yml", "output": "out/small.tar", "key": "key", "cache": "cache"}
    variables = [part for name, value in wanted.items() for part in ("-e", f"airgap_bundle_{name}={value}")]
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.yml"]
    argv += [str(ROOT / "playbooks" / "bundle.yml"), *variables, *arguments]
    settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": os.path.abspath(COLLECTIONS)}
    done = subprocess.run(
        argv,
        cwd=desk,
        env={**os.environ, **settings, "PWD": str(desk), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_check_mode_says_what_would_be_and_a_run_what_is(desk: Path) -> None:
    foreseen = play(desk, "--check")
    assert "bundle small 1 would be built" in foreseen
    assert "to pack: " in foreseen
    # There is nothing to carry yet, and what is made later has another hash.
    assert "carry: " not in foreseen
    assert "sha256" not in foreseen
    assert not (desk / "out").exists()

    built = play(desk)
    assert "bundle small 1 is built" in built
    # Relative paths are those of the person, not of the playbook's directory.
    assert f"carry: {desk}/out/small.tar" in built
    assert (desk / "cache").is_dir()

    assert "bundle small 1 is there already" in play(desk, "--check")
