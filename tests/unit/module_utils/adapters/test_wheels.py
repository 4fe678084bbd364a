# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wheels for a target: what uv and pip are asked, and what becomes of their answers."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import wheels
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.wheels import Finished, WheelError, Wheels, inputs
from ansible_collections.lumen.airgap.plugins.module_utils.engines.bundle.spec import WheelSource

TARGET = WheelSource("node", "3.9", ("manylinux_2_36_x86_64",), ("requests",), None, ())
SECRET = "https://user:s3cret@index.test/simple"
PINS = "requests==2.32.5 \\\n    --hash=sha256:aa\nruamel-yaml==0.19.1 \\\n    --hash=sha256:bb\n"


class Programs:
    """uv and pip: remembers what was asked, and puts wheels where pip would."""

    def __init__(self) -> None:
        self.argv: dict[str, list[str]] = {}
        self.environment: dict[str, Mapping[str, str]] = {}
        self.compiled = Finished(0, PINS, "")
        self.downloaded = Finished(0, "", "")
        self.files = {
            "requests-2.32.5-py3-none-any.whl": b"r",
            "ruamel_yaml-0.19.1-1-cp39-cp39-manylinux_2_17_x86_64.whl": b"y",
        }
        self.fault: Exception | None = None

    def run(self, argv: Sequence[str], environment: Mapping[str, str], timeout: float) -> Finished:
        name = "compile" if "compile" in argv else "download" if "download" in argv else "config"
        assert timeout > 0
        self.argv[name], self.environment[name] = list(argv), environment
        if name == "config":
            listing = f"global.index-url='{SECRET}'\nglobal.find-links='/a /b'\n:env:.find-links='/wheels'\nbroken\n"
            return Finished(0, listing, "")
        if self.fault:
            raise self.fault
        if name == "compile":
            return self.compiled
        for file, body in self.files.items():
            Path(argv[argv.index("--dest") + 1], file).write_bytes(body)
        return self.downloaded


@pytest.fixture
def programs() -> Programs:
    return Programs()


def fetch(programs: Programs, folder: Path) -> str:
    target = folder / "wheels"
    target.mkdir()
    Wheels(programs.run, "/venv/bin/python", "/venv/bin/uv", {"HOME": "/root"}).fetch(
        TARGET, "requirements.in", str(target)
    )
    return (target / "requirements.txt").read_text()


def test_the_target_decides_not_the_builder(programs: Programs, tmp_path: Path) -> None:
    fetch(programs, tmp_path)
    resolved, downloaded = " ".join(programs.argv["compile"]), " ".join(programs.argv["download"])
    assert (
        "--python-version 3.9 --python-platform x86_64-manylinux_2_36 --only-binary :all: requirements.in" in resolved
    )
    assert "--no-deps --require-hashes --only-binary :all:" in downloaded
    assert "--python-version 3.9 --implementation cp --abi cp39 --platform manylinux_2_36_x86_64" in downloaded
    assert "--platform manylinux2014_x86_64" in downloaded


def test_what_was_fetched_is_pinned_by_its_own_hash(programs: Programs, tmp_path: Path) -> None:
    assert fetch(programs, tmp_path) == (
        f"requests==2.32.5 --hash=sha256:{hashlib.sha256(b'r').hexdigest()}\n"
        f"ruamel-yaml==0.19.1 --hash=sha256:{hashlib.sha256(b'y').hexdigest()}\n"
    )


def test_uv_looks_where_pip_looks_and_nobody_sees_the_password(programs: Programs, tmp_path: Path) -> None:
    fetch(programs, tmp_path)
    environment = programs.environment["compile"]
    assert environment["UV_DEFAULT_INDEX"] == SECRET
    assert environment["UV_FIND_LINKS"] == "/wheels"
    assert environment["HOME"] == "/root"
    assert not [part for argv in programs.argv.values() for part in argv if "s3cret" in part]


def test_no_index_is_handed_on() -> None:
    settings = wheels.pip_settings("global.no-index='true'\nuser.extra-index-url='https://a https://b'\n")
    assert wheels.uv_options(settings) == ["--no-index"]
    assert wheels.uv_options({"no-index": "false"}) == []
    assert wheels.uv_environment(settings)["UV_INDEX"] == "https://a https://b"


@pytest.mark.parametrize(
    ("platform", "known"),
    [
        ("manylinux_2_36_x86_64", 36),
        ("manylinux_2_30_x86_64", 28),
        ("manylinux2014_x86_64", 17),
        ("manylinux_2_5_x86_64", 17),
    ],
)
def test_the_newest_platform_that_uv_knows(platform: str, known: int) -> None:
    assert wheels.uv_platform((platform,)) == f"x86_64-manylinux_2_{known}"


def test_a_requirement_without_a_wheel_is_named(programs: Programs, tmp_path: Path) -> None:
    programs.compiled = Finished(1, "", "no\n  Because sdist-only has no wheels, it cannot be used\n")
    with pytest.raises(WheelError, match=r"wheels\.node \(Python 3\.9, .*Because sdist-only has no wheels"):
        fetch(programs, tmp_path)


def test_a_download_that_fails(programs: Programs, tmp_path: Path) -> None:
    programs.downloaded = Finished(1, "", "ERROR: No matching distribution found for requests==2.32.5\n")
    with pytest.raises(WheelError, match=r"No matching distribution found for requests==2\.32\.5"):
        fetch(programs, tmp_path)


def test_a_pin_that_was_not_fetched(programs: Programs, tmp_path: Path) -> None:
    del programs.files["requests-2.32.5-py3-none-any.whl"]
    with pytest.raises(WheelError, match=r"no wheel was fetched for requests==2\.32\.5"):
        fetch(programs, tmp_path)


def test_something_else_than_a_wheel(programs: Programs, tmp_path: Path) -> None:
    programs.files["x-1.0.tar.gz"] = b""
    with pytest.raises(WheelError, match=r"x-1\.0\.tar\.gz was fetched, which is no wheel"):
        fetch(programs, tmp_path)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (subprocess.TimeoutExpired("uv", 1), "uv was not done after 1800 s"),
        (FileNotFoundError(2, "No such file"), "/venv/bin/uv cannot be run: No such file"),
    ],
)
def test_programs_that_hang_or_are_missing(programs: Programs, tmp_path: Path, fault: Exception, message: str) -> None:
    programs.fault = fault
    with pytest.raises(WheelError, match=message):
        fetch(programs, tmp_path)


def test_the_key_covers_the_target_and_every_included_file(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("a==1\n")
    file = tmp_path / "requirements.txt"
    file.write_text("-c constraints.txt\na\n")
    before = inputs(TARGET, str(file))
    assert inputs(TARGET, str(file)) == before
    assert inputs(TARGET._replace(python="3.10"), str(file)) != before
    (tmp_path / "constraints.txt").write_text("a==2\n")
    assert inputs(TARGET, str(file)) != before


def test_requirements_that_are_missing_or_include_themselves(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("-r requirements.txt\n")
    with pytest.raises(WheelError, match="include themselves"):
        inputs(TARGET, str(file))
    file.write_text("--requirement gone.txt\n")
    with pytest.raises(WheelError, match=r"gone\.txt cannot be read"):
        inputs(TARGET, str(file))


def test_a_command_has_nobody_to_ask() -> None:
    done = wheels.run(["sh", "-c", "cat; echo said >&2; exit 3"], {"PATH": "/usr/bin:/bin"}, 10)
    assert done == Finished(3, "", "said\n")
