# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests on the real lab. They need `make lab`, and fail rather than skip without it."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import xdist

from .api_server import ApiServer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "lab"))


#: How many times longer anything may take than on a machine that does nothing else: the tests' own deadlines are for
#: such a machine, and files run side by side. What a module is told to keep to is not stretched.
LOAD = 2.0

#: Files that take minutes, the longest first. Where files run side by side they begin in this order and before all
#: others, so that none of them is waited for.
LONG = (
    "test_site",
    "test_fleet",
    "test_canary_deployment",
    "test_release_others",
    "test_release_killed",
    "test_release_built",
    "test_rollout",
    "test_doctor",
    "test_doctor_argocd",
)


def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    if xdist.is_xdist_worker(session):
        items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Say so here where tests run side by side: of a process that runs them nobody hears why it has ended."""
    if session.config.getoption("numprocesses", None):
        need_the_lab()


@pytest.fixture(scope="session", autouse=True)
def lab() -> None:
    """Nothing may be sent to the lab's addresses unless its network exists."""
    need_the_lab()


def need_the_lab() -> None:
    """End everything without it."""
    from driver import host

    if not host.network_exists():
        pytest.exit("the lab's Docker network does not exist: `make lab` first", returncode=2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server of this module's own, empty and on loopback."""
    server = ApiServer(tmp_path_factory.mktemp("api-server"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace of this test's own, gone afterwards."""
    from driver.cluster import kubectl

    name = f"lab-test-{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def command(argv: Sequence[str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command; its exit code is for the test to judge."""
    return subprocess.run(
        list(argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )


def eventually(what: str, probe: Callable[[], bool], deadline: float) -> None:
    """Wait until ``probe`` is true; AssertionError naming ``what`` after ``deadline`` seconds, and more under load."""
    deadline *= LOAD
    end = time.monotonic() + deadline
    while not probe():
        assert time.monotonic() < end, f"{what}: not within {deadline:g} s"
        time.sleep(0.5)
