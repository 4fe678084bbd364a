# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to hold of the playbooks without running them: deadlines, check mode, and variables that are documented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.engines.release_progress import progress
from jinja2 import ChainableUndefined, Environment
from jinja2.nativetypes import NativeEnvironment

ROOT = Path(__file__).parents[2]
PLAYBOOKS = sorted((ROOT / "playbooks").rglob("*.yml"))
# Modules that speak to Git, to Docker or to the registry for as long as these like.
SLOW = {"ansible.builtin.git", "community.docker.docker_image", "lumen.airgap.registry_image"}
# What site.yml and release.yml read beside the site's airgap_*.
RUN = ["version", "retry", "force_unlock", "driver", "target", "release_waves"]
OTHERS = [*RUN, "airgap_gate", "registry_image"]


def tasks(node: Any) -> Iterator[dict[str, Any]]:
    """Every task of a file, in order, those of blocks too."""
    for entry in node or []:
        yield entry
        for key in ("tasks", "block", "rescue", "always"):
            yield from tasks(entry.get(key))


def load(path: Path) -> list[dict[str, Any]]:
    return list(tasks(yaml.safe_load(path.read_text(encoding="utf-8"))))


def place(file: str, name: str) -> int:
    names = [task["name"] for task in load(ROOT / "playbooks" / "tasks" / file)]
    return names.index(name)


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.name)
def test_what_may_hang_has_a_deadline(path: Path) -> None:
    for task in load(path):
        if SLOW & task.keys():
            assert re.fullmatch(r"\{\{ airgap_(git|build)_deadline \}\}", task["timeout"]), task["name"]
        command = task.get("ansible.builtin.command")
        if command:
            assert command["argv"][0] == "timeout", task["name"]


def test_check_mode_fails_before_it_reads_or_writes_a_report() -> None:
    block = next(task for task in load(ROOT / "playbooks" / "tasks" / "release.yml") if "rescue" in task)
    first = block["rescue"][0]
    assert "ansible.builtin.fail" in first
    assert first["when"] == "ansible_check_mode"


def test_the_journal_names_the_phase_before_it_begins() -> None:
    noted, built = place("image.yml", "Write down that the image is next"), place("image.yml", "By the pipeline")
    assert noted < built < place("image.yml", "Write down that the image is there")
    assert place("bump.yml", "Have the manifest name the image") < place("bump.yml", "Have Argo CD bring it")
    assert place("release.yml", "Look before anything is changed") < place(
        "release.yml", "Have its image in the registry"
    )


@pytest.mark.parametrize("by", ["pipeline", "direct"])
@pytest.mark.parametrize("subject", ["gitea/act-runner", "Deployment gitea/act-runner"])
def test_what_is_down_stops_only_what_needs_it(by: str, subject: str) -> None:
    environment = NativeEnvironment()
    environment.tests["match"] = lambda text, pattern: re.match(pattern, text) is not None
    play = yaml.safe_load((ROOT / "playbooks" / "release.yml").read_text(encoding="utf-8"))[0]["vars"]
    findings = [
        {"severity": "error", "code": "workload-down", "subject": name}
        for name in (subject, "Deployment gitea/gitea", "Application argocd/lumen-app", "Application argocd/another")
    ]
    given = {
        "airgap_release_by": by,
        "airgap_application": "lumen-app",
        "airgap_argocd_namespace": "argocd",
        "airgap_gitea": {"namespace": "gitea"},
        "airgap_preflight_findings": ["workload-down"],
        "release_examined": {"findings": findings},
        "release_pipeline_findings": play["release_pipeline_findings"],
    }
    runner = environment.from_string(play["release_runner"]).render(given)
    given["release_other_applications"] = environment.from_string(play["release_other_applications"]).render(given)
    left = environment.from_string(play["release_blocking"]).render(given, release_runner=runner)
    # What Argo CD says of another Application never stops it.
    assert [each["subject"] for each in left] == [each["subject"] for each in findings][by == "direct" : -1]


@pytest.mark.parametrize(
    ("phases", "waits"),
    [(["acquired"], False), (["building"], True), (["building", "pushed"], False), (["building", "found"], False)],
)
def test_a_pipeline_that_was_begun_and_not_seen_to_end_is_waited_for(phases: list[str], waits: bool) -> None:
    (task,) = load(ROOT / "playbooks" / "tasks" / "over.yml")
    environment = NativeEnvironment()
    given = {"airgap_release_by": "pipeline", "over_progress": progress([{"phase": phase} for phase in phases])}
    assert all(environment.from_string(f"{{{{ {each} }}}}").render(given) for each in task["when"]) is waits


def test_no_release_is_closed_before_its_pipeline_was_looked_at() -> None:
    """Whatever it failed of: also where preflight refuses to take it up."""
    seen, stopped = (
        place("end.yml", "See that its pipeline does not go on"),
        place("end.yml", "Stop with the release open while its pipeline goes on"),
    )
    assert (
        seen
        < stopped
        < place("end.yml", "Write down that it goes back")
        < place("end.yml", "Git and the cluster go back")
    )
    given_up = place("abandoned.yml", "See that its pipeline does not go on")
    assert given_up < place("abandoned.yml", "Write its evidence")


def test_the_webhook_tells_the_clusters_of_a_fleet_apart() -> None:
    """They share the id of the release, and a receiver drops what has come before."""
    sent = next(
        task for task in load(ROOT / "playbooks" / "tasks" / "tell.yml") if task["name"] == "Send it the evidence"
    )

    def delivery(host: str, **document: Any) -> str:
        told = {"release": "api-v1-1", "outcome": "promoted", **document}
        environment = Environment(undefined=ChainableUndefined)  # as Ansible's is
        template = environment.from_string(sent["lumen.airgap.notify"]["id"])
        return template.render(told_document=told, inventory_hostname=host)

    first, second = ({"id": name, "number": 1} for name in "ab")
    assert delivery("one", chain=first) != delivery("two", chain=second)
    assert delivery("one", chain=first) == delivery("another", chain={**first, "previous": "", "cluster": "x"})
    assert delivery("one", chain=first) != delivery("one", chain=first, outcome="failed")
    assert delivery("one", chain={}) == delivery("one") != delivery("two")


def test_what_a_scan_has_found_is_in_the_journal_whatever_it_was() -> None:
    block = load(ROOT / "playbooks" / "tasks" / "scan.yml")[0]
    (noted,) = block["always"]
    assert noted["lumen.airgap.release_record"]["phase"] == "scanned"
    scan = next(
        task for task in load(ROOT / "playbooks" / "tasks" / "release.yml") if "Look at the image" in task["name"]
    )
    assert "not release_progress.scan or release_progress.scan.failed is defined" in scan["when"]


def test_the_evidence_of_what_was_given_up_comes_before_anything_else_is_done() -> None:
    taken = place("release.yml", "Take the release, or take it up where a killed run has left it")
    left = place("release.yml", "Leave the evidence of what was given up")
    assert taken < left < place("release.yml", "From the tag to the promotion")
    written, reported = (
        place("abandoned.yml", "Write its evidence"),
        place("abandoned.yml", "Write down that it has its evidence"),
    )
    assert place("abandoned.yml", "Git names what is stable") < written < reported


def rollouts(stable: str, newest: str, aborted: bool) -> dict[str, Any]:
    """What rollout_info returns of an app, as far as it is read."""
    images = {"newest_images": ["sidecar:1", newest], "stable_images": ["sidecar:1", stable]}
    return {"rollouts": [{"aborted": aborted, **images}]}


@pytest.mark.parametrize(
    ("aborted", "with_aborted", "taken_back"),
    [(False, True, ["r/app:v3"]), (True, True, ["r/app:v3", "r/app:v2@d"]), (True, False, ["r/app:v3"])],
)
def test_git_goes_back_to_what_is_stable(aborted: bool, with_aborted: bool, taken_back: list[str]) -> None:
    play = load(ROOT / "playbooks" / "release.yml")[0]["vars"]
    task = load(ROOT / "playbooks" / "tasks" / "unbump.yml")[-1]
    given: dict[str, Any] = {"airgap_app_image": "r/app", "unbump_version": "v3", "unbump_aborted": with_aborted}
    given["unbump_was"] = ""
    given["unbump_rollout"] = rollouts("r/app:v1", "r/app:v2@d", aborted)

    def rendered(text: str) -> Any:
        environment = NativeEnvironment()
        environment.tests["match"] = lambda value, pattern: re.match(pattern, value) is not None
        environment.filters["flatten"] = lambda lists: [each for inner in lists for each in inner]
        return environment.from_string(text).render(given)

    given["unbump_canary"] = rendered(task["vars"]["unbump_canary"])
    assert rendered(play["unbump_stable"]) == "r/app:v1"
    given["unbump_was"] = "r/app:v0"
    assert rendered(play["unbump_stable"]) == "r/app:v0"
    assert rendered(task["loop"]) == taken_back


@pytest.mark.parametrize(
    ("rollback", "aborting", "left_out"), [(False, False, True), (True, False, False), (False, True, False)]
)
def test_after_a_failure_elsewhere_nothing_begins_and_what_has_begun_ends(
    rollback: bool, aborting: bool, left_out: bool
) -> None:
    block = next(task for task in load(ROOT / "playbooks" / "release.yml") if "Release it in" in task["name"])
    given = {"release_failed_before": ["a"], "release_rollback": rollback, "aborting": aborting}
    said = block["vars"]["release_left_out"].replace("| bool", "")
    assert NativeEnvironment().from_string(said).render(given) is left_out


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ("ansible.builtin.fail", "aborted by hand"),
        ("ansible.builtin.assert", "aborted by hand"),
        ("ansible.builtin.command", "Run its tests: aborted by hand; FAIL"),
        ("lumen.airgap.pipeline", "Run its tests: aborted by hand; FAIL"),
    ],
)
def test_a_reason_names_the_task_where_its_message_does_not_speak_for_itself(action: str, why: str) -> None:
    given = load(ROOT / "playbooks" / "release.yml")[0]["vars"]
    failed = {"name": "Run its tests", "action": action}
    lines = [] if why == "aborted by hand" else ["FAIL"]
    known = {"ansible_failed_task": failed, "release_what": "aborted by hand", "release_last_lines": lines}
    doing = Environment().from_string(given["release_doing"]).render(known)
    assert Environment().from_string(given["release_why"]).render(known, release_doing=doing) == why


def test_the_first_cause_is_remembered_before_anything_else_can_fail() -> None:
    remembered, held = (
        place("release.yml", "Remember what went wrong"),
        place("release.yml", "See that the release is still this run's"),
    )
    assert held == remembered + 1


TAKEN = {"release": {"id": "api-v1-1", "outcome": None}}
NO_ANSWER = "no answer from https://192.168.2.2:6443 (asked again for 60 s)"
AGAIN = ". Run it again: it is taken up where it was."


@pytest.mark.parametrize(
    ("given", "said"),
    [
        # Refused before there was a release.
        (
            {"result": {"msg": "v1 was rolled back before."}, "taken": {"msg": "v1 was rolled back before."}},
            "v1 was rolled back before",
        ),
        # The API server was away twice, and was so from the beginning of the end.
        ({"failure": f"Write down: {NO_ANSWER}."}, f"Write down: {NO_ANSWER}. {NO_ANSWER}{AGAIN}"),
        ({"failure": "the sync failed"}, f"the sync failed. {NO_ANSWER}{AGAIN}"),
        ({}, f"{NO_ANSWER}{AGAIN}"),
        # What tells both by itself.
        ({"failure": "no", "result": {"msg": "v1 stopped: no. Run it again: x"}}, "v1 stopped: no. Run it again: x"),
        # Another run has it.
        ({"failure": "no", "result": {"msg": "lost.", "holder": "api-v1-1/b"}}, "no. lost"),
        ({"taken": {"release": {"outcome": "promoted"}}}, NO_ANSWER),
        ({"check": True}, NO_ANSWER),
    ],
)
def test_what_stops_a_release_hides_no_cause_and_says_when_to_run_it_again(given: dict[str, Any], said: str) -> None:
    block = next(task for task in load(ROOT / "playbooks" / "release.yml") if "Release it in" in task["name"])
    environment = NativeEnvironment(undefined=ChainableUndefined)
    environment.filters["regex_replace"] = lambda text, pattern, new: re.sub(pattern, new, text)
    known: dict[str, Any] = {
        "ansible_failed_result": given.get("result", {"msg": NO_ANSWER}),
        "ansible_check_mode": given.get("check", False),
        "release_taken": given.get("taken", TAKEN),
    }
    if "failure" in given:
        known["release_failure"] = {"outcome": "failed", "reason": given["failure"]}
    for name in ("release_said", "release_stopped", "release_left_open"):
        known[name] = environment.from_string(block["vars"][name]).render(known)
    reason = block["rescue"][0]["ansible.builtin.set_fact"]["release_ended"]["reason"]
    assert environment.from_string(reason).render(known) == said


def read_by_plays() -> set[str]:
    files = [*PLAYBOOKS, *(ROOT / "roles").rglob("*.yml")]
    found = {name for path in files for name in re.findall(r"\bairgap_[a-z_]+\b", path.read_text(encoding="utf-8"))}
    # airgap_build is what tasks/build.yml returns, bootstrap_taken what roles/bootstrap does.
    return found - {"airgap_build", "bootstrap_taken"} | set(OTHERS)


def test_every_variable_is_documented() -> None:
    page = (ROOT / "docs" / "site.md").read_text(encoding="utf-8")
    assert {name for name in read_by_plays() if f"| `{name}` |" not in page} == set()
    rows = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    assert rows <= read_by_plays()


def test_the_inventory_sets_what_the_plays_read() -> None:
    folder = ROOT / "inventories" / "airgap"
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.yml"))
    # These belong to one run; a gate and a Deployment are the exception; the roles know their own image and place.
    optional = {*OTHERS}
    optional |= {"airgap_canary_steps", "airgap_canary_analysis"}
    optional |= {"airgap_consecutive_failure_limit", "airgap_on_inconclusive", "airgap_release_who"}
    optional |= {"airgap_bundle_force", "airgap_bundle_state_path"}
    wanted = read_by_plays() - optional
    assert {name for name in wanted if not re.search(rf"^\s*{name}:", text, re.MULTILINE)} == set()
    everything = set(re.findall(r"^\s*(airgap_[a-z_]+):", text, re.MULTILINE))
    assert everything <= wanted | {"airgap_app_image_repository"}, "nobody reads these"


def test_whoever_has_an_image_built_has_it_pushed() -> None:
    """The scan stands between the two in a release, and nothing does anywhere else."""
    building = [
        path
        for folder in ("playbooks", "lab/playbooks", "molecule")
        for path in (ROOT / folder).rglob("*.yml")
        if re.search(r"include_tasks: \S*\bbuild\.yml|import_tasks: \S*\bbuild\.yml", path.read_text(encoding="utf-8"))
    ]
    assert sorted(path.name for path in building) == ["image.yml", "published.yml"]
    assert all("push.yml" in path.read_text(encoding="utf-8") for path in building)
