# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The life of a runner between the cluster and Gitea; the test plays the kubelet and the runner."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.gitea import Gitea, NotFound, Refused
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    POD,
    SECRET,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Forbidden, Unreachable
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.modules import act_runner as module
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.gitea import TOKEN, URL, FakeGitea
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession

READY = {"status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "readyReplicas": 1}}


class Lab:
    """Gitea, the cluster, and a runner that comes up ``delay`` seconds after its Deployment was applied."""

    def __init__(self, session: FakeSession, clock: FakeClock) -> None:
        self.session = session
        self.clock = clock
        self.gitea = FakeGitea()
        self.lines: list[str] = []
        self.delay: float | None = 3.0
        self._apply = session.apply
        session.apply = self._applied  # type: ignore[method-assign]

    def _applied(self, body: Any, manager: str, force: bool = False, dry_run: bool = False) -> Any:
        result = self._apply(body, manager, force, dry_run)
        if body["kind"] == "Deployment" and not dry_run and self.delay is not None:
            self.clock.at(self.clock.time() - self.clock.start + self.delay, self.come_up)
        return result

    def come_up(self) -> None:
        """The kubelet starts the pod; the runner registers unless it has, and declares its labels."""
        live = self.session.get(DEPLOYMENT, "act-runner", "gitea")
        generation = live["metadata"]["generation"]
        self.session.edit(
            DEPLOYMENT, "act-runner", "gitea", {"status": {**READY["status"], "observedGeneration": generation}}
        )
        config = json.loads(self.session.get(CONFIG_MAP, "act-runner", "gitea")["data"]["config.yaml"])
        names = [label.partition(":")[0] for label in config["runner"]["labels"]]
        ours = next((r for r in self.gitea.runners if r.get("state") == config["runner"]["file"]), None)
        if ours is None:
            ours = self.gitea.add_runner(state=config["runner"]["file"])
        ours.update(status="online", labels=[{"id": 0, "name": name, "type": "custom"} for name in names])

    def run(self, dry_run: bool = False, **params: Any) -> dict[str, Any]:
        given = {name: option.get("default") for name, option in module.ARGUMENT_SPEC.items()}
        given |= {"scope": "lumen/lumen", "gitea": {"url": URL, "validate_certs": True}, **params}
        gitea = Gitea.connect({"url": URL, "token": TOKEN}, self.gitea.session())
        return module.run(given, self.session, gitea, self.clock, self.lines.append, dry_run)  # type: ignore[arg-type]

    def secret(self) -> dict[str, str]:
        data = self.session.get(SECRET, "act-runner", "gitea")["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


@pytest.fixture
def lab(session: FakeSession, clock: FakeClock) -> Lab:
    return Lab(session, clock)


def test_it_comes_online_and_a_second_run_changes_nothing(lab: Lab) -> None:
    first = lab.run()
    assert first["changed"]
    assert first["runner"] == {"id": 2, "name": "act-runner", "status": "online", "labels": ["ubuntu-latest"]}
    assert [change["action"] for change in first["changes"]] == ["created"] * 3
    assert lab.secret()["token"] == lab.gitea.registration["lumen/lumen"]
    assert any("no runner of the name act-runner" in line for line in lab.lines) or lab.lines
    second = lab.run()
    assert not second["changed"]
    assert second["diff"] == []


def test_the_token_is_in_no_result_and_no_line(lab: Lab) -> None:
    result = lab.run()
    token = lab.gitea.registration["lumen/lumen"]
    encoded = base64.b64encode(token.encode()).decode()
    said = json.dumps(result) + "\n".join(lab.lines)
    assert token not in said
    assert encoded not in said


def test_check_mode_predicts_and_touches_nothing(lab: Lab) -> None:
    predicted = lab.run(dry_run=True)
    assert predicted["changed"]
    assert [change["action"] for change in predicted["changes"]] == ["created"] * 3
    assert lab.gitea.written == []
    assert lab.session.find(SECRET, "act-runner", "gitea") is None
    lab.run()
    before = list(lab.gitea.written)
    again = lab.run(dry_run=True)
    assert (again["changed"], again["runner"]["id"]) == (False, 2)
    assert lab.gitea.written == before


def test_a_new_pod_is_the_same_runner(lab: Lab) -> None:
    first = lab.run()["runner"]
    lab.come_up()
    assert lab.run()["runner"] == first
    assert len(lab.gitea.runners) == 1


def test_another_label_is_declared_by_the_same_runner(lab: Lab) -> None:
    first = lab.run()["runner"]
    lab.delay = 10
    changed = lab.run(labels=["ubuntu-latest:docker://x/y:z", "extra:host"])
    assert changed["changed"]
    assert changed["runner"] == {**first, "labels": ["extra", "ubuntu-latest"]}
    assert changed["pruned"] == []


def test_dead_records_of_its_name_alone_are_removed(lab: Lab) -> None:
    dead = lab.gitea.add_runner(status="offline")
    lab.gitea.add_runner(status="offline", name="somebody-else")
    lab.gitea.add_runner(status="offline", scope="other/other")
    assert lab.run(dry_run=True)["pruned"] == [dead["id"]]
    assert lab.run()["pruned"] == [dead["id"]]
    assert sorted(runner["name"] for runner in lab.gitea.runners) == ["act-runner", "act-runner", "somebody-else"]
    assert lab.run()["changed"] is False


def test_one_of_its_name_that_is_online_is_not_removed(lab: Lab) -> None:
    lab.run()
    other = lab.gitea.add_runner(labels=[])
    assert lab.run()["pruned"] == []
    assert other in lab.gitea.runners


def test_a_runner_that_gitea_has_forgotten_registers_anew(lab: Lab) -> None:
    lab.run()
    before = lab.secret()["registration"]
    lab.gitea.runners.clear()
    again = lab.run()
    assert again["changed"]
    assert lab.secret()["registration"] != before
    assert again["runner"]["status"] == "online"


def test_another_url_is_another_registration_and_the_old_record_goes(lab: Lab, clock: FakeClock) -> None:
    old = lab.run()["runner"]["id"]
    record = lab.gitea.runners[0]
    clock.at(clock.time() - clock.start + 60, lambda: record.update(status="offline"))
    moved = lab.run(instance_url="http://192.168.2.2:30301")
    assert moved["runner"]["id"] != old
    assert moved["pruned"] == [old]
    assert not lab.run(instance_url="http://192.168.2.2:30301")["changed"]


def test_a_token_that_gitea_has_reset_is_taken_over(lab: Lab) -> None:
    lab.run()
    lab.gitea.registration["lumen/lumen"] = "registration-new"
    result = lab.run()
    assert result["changed"]
    assert [c["kind"] for c in result["changes"] if c["action"] != "unchanged"] == ["Secret"]
    assert "registration-new" not in json.dumps(result)


def test_a_runner_that_was_left_disabled_is_enabled(lab: Lab) -> None:
    lab.run()
    lab.gitea.runners[0]["disabled"] = True
    assert lab.run(dry_run=True)["changed"]
    assert lab.run()["changed"]
    assert not lab.gitea.runners[0]["disabled"]


def test_one_that_never_comes_online_is_told_with_what_was_seen(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def come_up() -> None:
        live = lab.session.get(DEPLOYMENT, "act-runner", "gitea")
        status = {**READY["status"], "observedGeneration": live["metadata"]["generation"]}
        lab.session.edit(DEPLOYMENT, "act-runner", "gitea", {"status": status})
        lab.gitea.add_runner(labels=[{"name": "other"}])

    monkeypatch.setattr(lab, "come_up", come_up)
    with pytest.raises(AirgapError) as error:
        lab.run(wait_timeout=30)
    assert "online with the labels ubuntu-latest after 30 s" in error.value.message
    assert "Last seen: runner 2 is online, its labels are other" in error.value.message
    assert "logs deployment/act-runner" in error.value.message
    assert error.value.details["runners"][0]["labels"] == ["other"]


def test_a_node_that_does_not_exist_is_told_within_seconds(
    lab: Lab, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def see() -> None:
        lab.session.edit(DEPLOYMENT, "act-runner", "gitea", {"status": {"observedGeneration": 1, "replicas": 1}})

    monkeypatch.setattr(lab, "come_up", see)
    message = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
    lab.session.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "act-runner-x", "namespace": "gitea", "labels": {"app": "act-runner"}},
            "status": {
                "phase": "Pending",
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
                ],
            },
        }
    )
    with pytest.raises(AirgapError, match="didn't match Pod's node affinity/selector"):
        lab.run(node="node-9")
    assert clock.monotonic() < 15


def test_gitea_may_go_away_while_it_is_waited_for(lab: Lab) -> None:
    lab.delay = 3
    lab.gitea.break_with("GET", "xxx", (503, "x"), times=0)
    original = lab.come_up

    def come_up() -> None:
        original()
        lab.gitea.break_with("GET", "/runners", (503, "starting"), times=3)

    lab.come_up = come_up  # type: ignore[method-assign]
    assert lab.run()["runner"]["status"] == "online"
    assert any("HTTP 503: starting" in line for line in lab.lines)


def test_without_rights_nothing_is_applied(lab: Lab) -> None:
    lab.gitea.owners[TOKEN] = ("admin", {"read:repository"})
    with pytest.raises(Refused, match="lacks the scope write:repository"):
        lab.run()
    assert lab.session.find(DEPLOYMENT, "act-runner", "gitea") is None


def test_without_the_repository_nothing_is_applied(lab: Lab) -> None:
    with pytest.raises(NotFound, match="there is no repository lumen/none"):
        lab.run(scope="lumen/none")
    assert lab.session.find(SECRET, "act-runner", "gitea") is None


def test_an_api_server_that_forbids_is_told(lab: Lab) -> None:
    lab.session.fail_next("get", Forbidden("get Secret gitea/act-runner: forbidden", 403, "Forbidden"))
    with pytest.raises(Forbidden):
        lab.run()


# --- absent ----------------------------------------------------------------------------------------------------------


def test_it_is_drained_and_removed(lab: Lab, clock: FakeClock) -> None:
    lab.run()
    record = lab.gitea.runners[0]
    lab.gitea.jobs.append({"id": 9, "name": "test", "runner_id": record["id"]})
    seen: list[Any] = []

    def finish() -> None:
        seen.append((record["disabled"], lab.session.find(DEPLOYMENT, "act-runner", "gitea") is not None))
        lab.gitea.jobs.clear()

    clock.at(clock.time() - clock.start + 30, finish)
    gone = lab.run(state="absent")
    assert seen == [(True, True)]
    assert gone["changed"]
    assert gone["pruned"] == [record["id"]]
    assert lab.gitea.runners == []
    for kind in (DEPLOYMENT, SECRET, CONFIG_MAP):
        assert lab.session.find(kind, "act-runner", "gitea") is None
    assert any("takes no more jobs; waiting for test (job 9)" in line for line in lab.lines)
    assert lab.run(state="absent")["changed"] is False


def test_check_mode_of_a_removal(lab: Lab) -> None:
    lab.run()
    before = list(lab.gitea.written)
    predicted = lab.run(dry_run=True, state="absent")
    assert (predicted["changed"], predicted["pruned"]) == (True, [2])
    assert lab.gitea.written == before
    assert lab.session.find(DEPLOYMENT, "act-runner", "gitea") is not None
    done = lab.run(state="absent")
    assert {key: done[key] for key in ("pruned", "changes")} == {key: predicted[key] for key in ("pruned", "changes")}


def test_a_job_that_does_not_end_keeps_the_runner_disabled(lab: Lab) -> None:
    lab.run()
    lab.gitea.runners[0]["busy"] = True
    with pytest.raises(AirgapError, match="still busy after 60 s with a job that has just ended"):
        lab.run(state="absent", drain_timeout=60)
    assert lab.gitea.runners[0]["disabled"]
    assert lab.session.find(DEPLOYMENT, "act-runner", "gitea") is not None


def test_somebody_else_s_runner_of_that_name_stays(lab: Lab) -> None:
    lab.gitea.add_runner()
    assert lab.run(state="absent")["changed"] is False
    assert len(lab.gitea.runners) == 1


def test_it_stays_also_when_our_own_is_down(lab: Lab) -> None:
    lab.run()
    lab.gitea.runners[0]["status"] = "offline"
    lab.gitea.add_runner()
    lab.session.edit(DEPLOYMENT, "act-runner", "gitea", {"status": {"readyReplicas": None}})
    other = lab.gitea.runners[-1]["id"]
    lab.run(state="absent")
    assert [record["id"] for record in lab.gitea.runners] == [other]
    assert not lab.gitea.runners[0].get("disabled")


def test_a_removal_that_was_broken_off_is_taken_up(lab: Lab) -> None:
    lab.run()
    lab.session.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "gitea", "labels": {"app": "act-runner"}},
        }
    )
    with pytest.raises(AirgapError, match="pod p of the runner has not ended"):
        lab.run(state="absent", drain_timeout=1)
    assert len(lab.gitea.runners) == 1
    lab.session.remove(POD, "p", "gitea")
    assert lab.run(state="absent")["pruned"] == [2]
    assert lab.session.find(SECRET, "act-runner", "gitea") is None


def test_an_api_server_that_is_away_for_a_moment_is_waited_for(lab: Lab) -> None:
    lab.run()
    lab.session.fail_next("list", Unreachable("list Pod: no answer"), times=2)
    assert lab.run(state="absent")["changed"]
