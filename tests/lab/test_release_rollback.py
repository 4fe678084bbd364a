# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""rollback.yml: from what is promoted, from a canary on its way, killed and run again, and failing itself.

And the way back from what was promoted and is not what is found then.
"""

from __future__ import annotations

import json
from typing import Any

from .plays import Run
from .release_site import APP, kubectl
from .release_stage import CHECK, Stage, site, stage

__all__ = ["site", "stage"]


def back(stage: Stage, to: str, **variables: str) -> Run:
    return stage.site.start("playbooks/rollback.yml", to=to, **variables)


def ended(stage: Stage, run: Run, version: str, outcome: str, runs: str) -> dict[str, Any]:
    """Assert how a release of ``version`` has ended, and which one runs alone, in Git and in the cluster."""
    code, output = run.end()
    assert (code == 0) == (outcome == "promoted"), output[-6000:]
    assert stage.site.unsettled(stage.cluster, stage.site.image(runs)) == "", output[-6000:]
    assert stage.site.holder(stage.cluster) == ""
    evidence = max(stage.site.evidence(version), key=lambda each: int(each["chain"]["number"]))
    assert evidence["outcome"] == outcome, evidence["reason"]
    return evidence


def killed_in_its_canary(stage: Stage) -> None:
    """Its analysis lasts, so that nothing promotes it meanwhile."""
    stage.site.verdict(stage.cluster, good=True, checks=40)
    run = stage.release()
    assert run.until(r"check 1/40"), run.text[-6000:]
    run.kill()


def test_from_what_is_promoted_and_again(stage: Stage) -> None:
    first, second = stage.version, stage.site.version()
    ended(stage, stage.release(), first, "promoted", first)
    ended(stage, stage.site.release(second), second, "promoted", second)
    # An analysis would fail now: going back does not wait for one.
    stage.site.verdict(stage.cluster, good=False)
    evidence = ended(stage, back(stage, first), first, "promoted", first)
    assert (set(evidence["git"]), evidence["reason"]) == ({"bump"}, "gone back to it, with its steps skipped")
    # With one it goes back to where it came from.
    again = ended(stage, back(stage, second, analyse="true"), second, "rolled_back", first)
    assert set(again["git"]) == {"bump", "revert"}


def test_to_one_that_was_never_promoted_only_with_its_analyses(stage: Stage) -> None:
    bad, before = stage.version, stage.before
    stage.site.verdict(stage.cluster, good=False)
    ended(stage, stage.release(), bad, "rolled_back", before)
    code, said = back(stage, bad).end()
    assert code != 0
    assert f"{bad} of fault-app was never promoted" in " ".join(said.split())
    assert stage.site.unsettled(stage.cluster, stage.site.image(before)) == ""
    stage.site.verdict(stage.cluster, good=True)
    assert ended(stage, back(stage, bad, analyse="true"), bad, "promoted", bad)["reason"] == ""


def test_from_a_canary_on_its_way_and_killed_twice(stage: Stage) -> None:
    older, bad = stage.before, stage.version
    stable = stage.site.version()
    ended(stage, stage.site.release(stable), stable, "promoted", stable)
    killed_in_its_canary(stage)
    refused, said = back(stage, older).end()
    assert refused != 0
    assert "belongs to" in " ".join(said.split())
    for phase in (r"TASK \[Have Argo CD bring it", r"TASK \[Bring it out as a canary"):
        run = back(stage, older, force_unlock="true")
        assert run.until(phase), run.text[-6000:]
        run.kill()
    ended(stage, back(stage, older), older, "promoted", older)
    [given_up] = stage.site.evidence(bad)
    assert (given_up["outcome"], set(given_up["git"])) == ("abandoned", {"bump", "revert"})


def test_one_that_fails_from_a_canary_on_its_way_ends_on_stable(stage: Stage) -> None:
    older, bad = stage.before, stage.version
    stable = stage.site.version()
    ended(stage, stage.site.release(stable), stable, "promoted", stable)
    killed_in_its_canary(stage)
    stage.site.verdict(stage.cluster, good=False)
    ended(stage, back(stage, older, force_unlock="true", analyse="true"), older, "rolled_back", stable)
    assert stage.site.commits(bad) == (1, 1)


def test_back_from_a_promotion_that_is_not_verified_waits_for_no_analysis(stage: Stage) -> None:
    """A pod that is nobody's gets traffic of the Service, until Git is taken back."""
    run = stage.release()
    assert run.until(CHECK), run.text[-6000:]
    namespace = stage.cluster.namespace
    container = {"name": APP, "image": stage.site.image(stage.before), "args": ["serve", ":8080"]}
    stranger = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "namespace": namespace, "labels": {"app": APP}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }
    try:
        kubectl("apply", "-f", "-", stdin=json.dumps(stranger))
        assert run.until(r"TASK \[Take the bump back"), run.text[-6000:]
        # The canary that brings the old version would not pass.
        stage.site.verdict(stage.cluster, good=False)
    finally:
        kubectl("-n", namespace, "delete", "pod", "stranger", "--ignore-not-found")
    evidence = ended(stage, run, stage.version, "rolled_back", stage.before)
    assert "still sends to stranger" in evidence["reason"]
    assert stage.site.commits(stage.version) == (1, 1)
