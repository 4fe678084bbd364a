# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One release on a site of its own, from what runs before it to how it has ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .plays import Run
from .release_site import Cluster, ReleaseSite, standing_site

#: What a release prints when its canary is there, and its first measurement.
CHECK = r"check 1/4"


class Stage:
    """The site before a test: ``before`` is the version that runs, ``version`` is a new one."""

    def __init__(self, site: ReleaseSite) -> None:
        self.site = site
        self.cluster: Cluster = site.clusters[0]
        self.before = site.in_git(self.cluster).rpartition(":")[2]
        site.settle(self.before, 150)
        self.version = site.version()
        site.verdict(self.cluster, good=True)

    def release(self, **variables: str) -> Run:
        return self.site.release(self.version, **variables)

    def ended(self, run: Run, outcome: str = "promoted") -> dict[str, Any]:
        """Assert that it has ended in this way; its evidence."""
        code, output = run.end()
        assert (code == 0) == (outcome == "promoted"), output[-6000:]
        return self.site.ended(self.cluster, self.version, self.before, outcome)

    def ended_somehow(self, run: Run) -> dict[str, Any]:
        """Assert that it has ended promoted or rolled back, whichever; its evidence."""
        code, output = run.end()
        outcome = "promoted" if code == 0 else "rolled_back"
        try:
            return self.site.ended(self.cluster, self.version, self.before, outcome)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{output[-6000:]}") from error


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleaseSite]:
    """One cluster, under the name of the module: modules run side by side."""
    name = request.path.stem.removeprefix("test_").replace("_", "-")
    with standing_site(tmp_path_factory.mktemp(name), name, ["one"]) as site:
        yield site


@pytest.fixture
def stage(site: ReleaseSite) -> Stage:
    """A new version of it."""
    return Stage(site)
