# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What others do to a release through Git: abort it by hand, begin another one, look for its login."""

from __future__ import annotations

import base64
import re
import subprocess

import pytest

from .conftest import eventually
from .release_site import APP, token
from .release_stage import CHECK, Stage, site, stage

__all__ = ["site", "stage"]


# -- aborted by hand ---------------------------------------------------------------------------------------------------


def test_what_was_killed_before_its_canary_is_aborted_and_not_released(stage: Stage) -> None:
    run = stage.release()
    assert run.until(r"TASK \[Write down what Git says"), run.text[-6000:]
    run.kill()
    output = stage.site.must_play("playbooks/abort.yml")
    evidence = stage.site.ended(stage.cluster, stage.version, stage.before, "failed")
    assert "aborted by hand" in evidence["reason"], output[-3000:]


def test_the_run_that_works_takes_back_what_is_aborted(stage: Stage) -> None:
    run = stage.release()
    assert run.until(CHECK), run.text[-6000:]
    assert "is at work: it takes" in " ".join(stage.site.must_play("playbooks/abort.yml").split())
    assert stage.ended(run, "rolled_back")["reason"] == "somebody has aborted it"


# -- given up by force -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [r"TASK \[Have Argo CD bring it", r"check 1/40"], ids=["bumped", "in its canary"])
def test_what_is_given_up_is_taken_back_and_not_what_the_next_one_goes_back_to(stage: Stage, phase: str) -> None:
    given_up = stage.version
    # It lasts, so that nothing promotes it meanwhile.
    stage.site.verdict(stage.cluster, good=True, checks=40)
    run = stage.release()
    assert run.until(phase), run.text[-6000:]
    run.kill()
    stage.version = stage.site.version()
    stage.site.verdict(stage.cluster, good=False)
    stage.ended(stage.release(force_unlock="true"), "rolled_back")
    [evidence] = stage.site.evidence(given_up)
    assert evidence["outcome"] == "abandoned"
    assert set(evidence["git"]) == {"bump", "revert"}
    assert stage.site.commits(given_up) == (1, 1)


def test_what_is_stable_is_not_taken_back_with_a_release_of_it_that_fails(stage: Stage) -> None:
    stage.ended(stage.release())
    # It fails behind the point where it has begun to make its image.
    code, output = stage.release(retry="true", airgap_app_repository="http://127.0.0.1:1/away.git").end()
    assert code != 0
    assert stage.site.unsettled(stage.cluster, stage.site.image(stage.version)) == "", output[-6000:]
    again = max(stage.site.evidence(stage.version), key=lambda each: int(each["chain"]["number"]))
    assert (again["outcome"], again["git"]) == ("failed", {}), again["reason"]
    assert "unless the registry has it" in again["timeline"][1]["text"]


# -- in Git, by hand ---------------------------------------------------------------------------------------------------


def test_what_somebody_puts_in_its_place_is_left_to_its_own_analysis(stage: Stage) -> None:
    others = stage.site.version()
    stage.site.verdict(stage.cluster, good=True, checks=40)
    run = stage.release()
    assert run.until(CHECK), run.text[-6000:]
    stage.site.verdict(stage.cluster, good=False)
    stage.site.by_hand(stage.cluster, stage.site.image(others))
    try:
        code, output = run.end()
        assert code != 0
        assert "somebody else has changed it" in " ".join(output.split()), output[-6000:]
        eventually("it is aborted", lambda: bool(stage.site.rollout(stage.cluster)["status"].get("abort")), 60)
        [evidence] = stage.site.evidence(stage.version)
        assert evidence["outcome"] == "failed", evidence["reason"]
    finally:
        stage.site.by_hand(stage.cluster, stage.site.image(stage.before))
        stage.site.settle(stage.before)


# -- two at once -------------------------------------------------------------------------------------------------------


def test_of_two_at_once_one_is_refused_and_told_whose_turn_it_is(stage: Stage) -> None:
    runs = [stage.release(), stage.release()]
    codes = sorted(run.end()[0] for run in runs)
    texts = [run.text for run in runs if run.process.returncode != 0]
    assert codes[0] == 0, runs[0].text[-3000:] + runs[1].text[-3000:]
    assert codes[1] != 0
    assert re.search(rf"belongs to {APP}-{re.escape(stage.version)}-\d+/", texts[0].replace("\n", " ")), texts[0]
    stage.site.ended(stage.cluster, stage.version, stage.before, "promoted")


# -- the login of the repository ---------------------------------------------------------------------------------------

WATCH = """
import base64, os, sys, time
token = sys.stdin.read().strip()
secrets = [token.encode(), base64.b64encode(f"git:{token}".encode())]
files, seen, end = set(), set(), time.time() + 600
while time.time() < end and not os.path.exists("/tmp/seen-enough"):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                text = open(f"/proc/{pid}/{name}", "rb").read()
            except OSError:
                continue
            if any(secret in text for secret in secrets):
                seen.add(name)
    if os.path.exists(sys.argv[1]):
        files.add(oct(os.stat(sys.argv[1]).st_mode & 0o777))
    time.sleep(0.01)
print(sorted(seen), sorted(files))
"""


def test_the_login_of_the_repository_is_seen_by_nobody_and_not_left_behind(stage: Stage) -> None:
    from driver.nodes import on

    login = f"/var/cache/lumen-airgap/build/{stage.site.name}-{stage.cluster.host}.gitconfig"
    argv = ["docker", "exec", "-i", "node-1", "python3", "-c", WATCH, login]
    on("node-1", "rm", "-f", "/tmp/seen-enough")
    watcher = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert watcher.stdin is not None
    watcher.stdin.write(token())
    watcher.stdin.close()
    watcher.stdin = None
    try:
        run = stage.release()
        stage.ended(run)
    finally:
        on("node-1", "touch", "/tmp/seen-enough")
        said = watcher.communicate(timeout=30)[0]
        on("node-1", "rm", "-f", "/tmp/seen-enough")
    assert said.strip() == "[] ['0o600']"
    assert token() not in run.text
    assert base64.b64encode(f"git:{token()}".encode()).decode() not in run.text
    assert on("node-1", "sh", "-c", f"ls {login} 2>/dev/null || true").strip() == ""
