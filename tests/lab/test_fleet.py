# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One version on two clusters, in waves. Two namespaces of the lab with an Application each stand for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .release_site import APP, FIRST, ReleaseSite, standing_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleaseSite]:
    with standing_site(tmp_path_factory.mktemp("fleet"), "fleet-test", ["first", "second"]) as site:
        yield site


def test_a_wave_that_fails_stops_the_ones_after_it(site: ReleaseSite) -> None:
    first, second = site.clusters
    version = site.version()
    site.verdict(first, good=False)
    before = site.rollout(second)
    code, output = site.release(version).end()
    print(output)
    assert code != 0
    assert not site.unsettled(first, site.image(FIRST))
    assert site.holder(first) == ""
    assert site.holder(second) is None
    assert site.journal(second) is None
    assert site.in_git(second) == site.image(FIRST)
    assert site.rollout(second)["spec"] == before["spec"]
    [evidence] = site.evidence(version)
    assert (evidence["outcome"], evidence["namespace"]) == ("rolled_back", first.namespace)
    ending = " ".join(output[output.index("PLAY [What came of it]") :].split())
    assert f"{version} of {APP} in first: rolled back, " in ending
    assert f"{version} of {APP} in second: not begun, it failed in first" in ending


def test_a_good_version_reaches_both_one_after_the_other(site: ReleaseSite) -> None:
    version = site.version()
    for cluster in site.clusters:
        site.verdict(cluster, good=True)
    code, output = site.release(version).end()
    print(output)
    assert code == 0, output[-6000:]
    assert not any(site.unsettled(cluster, site.image(version)) for cluster in site.clusters)
    assert [site.holder(cluster) for cluster in site.clusters] == ["", ""]
    first, second = sorted(site.evidence(version), key=lambda each: str(each["started_at"]))
    assert [each["outcome"] for each in (first, second)] == ["promoted", "promoted"]
    assert [each["namespace"] for each in (first, second)] == [cluster.namespace for cluster in site.clusters]
    assert first["finished_at"] <= second["started_at"]
    ending = " ".join(output[output.index("PLAY [What came of it]") :].split())
    for cluster in site.clusters:
        assert f"{version} of {APP} in {cluster.host}: promoted" in ending


def test_both_at_once_where_that_is_asked_for(site: ReleaseSite) -> None:
    version = site.version()
    code, output = site.release(version, release_waves="100%").end()
    assert code == 0, output[-6000:]
    assert not any(site.unsettled(cluster, site.image(version)) for cluster in site.clusters)
    first, second = sorted(site.evidence(version), key=lambda each: str(each["started_at"]))
    assert second["started_at"] < first["finished_at"]
