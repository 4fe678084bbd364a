# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A version that nobody has built, by the registry node: its tests, the build and the push there, a bump of our own."""

from __future__ import annotations

import re

from .release_site import APP, FIRST, ReleaseSite
from .release_stage import site

__all__ = ["site"]

BROKEN = """package main

import "testing"

func TestThatFails(t *testing.T) { t.Fatal("the answer is wrong") }
"""


def test_a_version_whose_tests_fail_changes_nothing(site: ReleaseSite) -> None:
    version, [cluster] = site.unbuilt(**{"service_test.go": BROKEN}), site.clusters
    code, output = site.release(version).end()
    assert code != 0
    assert "the answer is wrong" in output
    [evidence] = site.evidence(version)
    assert evidence["outcome"] == "failed"
    assert "Run its tests in the builder image" in evidence["reason"]
    assert site.commits(version) == (0, 0)
    assert not site.unsettled(cluster, site.image(FIRST))
    assert site.holder(cluster) == ""


def test_a_good_version_is_built_scanned_pushed_bumped_and_promoted_however_often_it_is_killed(
    site: ReleaseSite,
) -> None:
    version, [cluster] = site.unbuilt(), site.clusters
    gated = {"airgap_release_scan": "true", "airgap_release_scan_gate": "true"}
    for phase in (r"TASK \[Run its tests", r"TASK \[Build the image", r"TASK \[Push it under its three tags"):
        run = site.release(version, **gated)
        assert run.until(phase), run.text[-6000:]
        run.kill()
    code, output = site.release(version, **gated).end()
    assert code == 0, output[-6000:]
    evidence = site.ended(cluster, version, FIRST, "promoted")
    told = [entry["text"] for entry in evidence["timeline"]]
    scanned = max(place for place, text in enumerate(told) if text.startswith("Trivy has found"))
    # The push may have ended although the run that had begun it was killed.
    assert re.search("(tested, built and pushed|was built before), commit", told[scanned + 1])
    assert "failed" not in evidence["scan"]
    again = " ".join(site.must_play("playbooks/release.yml", version=version).split())
    assert f"{version} of {APP} is already promoted" in again
    assert site.commits(version) == (1, 0)
