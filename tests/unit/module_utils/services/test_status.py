# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases looked at and followed, with the controllers in memory, while other runs do them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    APPLICATION,
    CONFIG_MAP,
    DEPLOYMENT,
    LEASE,
    ROLLOUT,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Forbidden, Unreachable
from ansible_collections.lumen.airgap.plugins.module_utils.services import release_record
from ansible_collections.lumen.airgap.plugins.module_utils.services.evidence_chain import Store, append
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_record import Record
from ansible_collections.lumen.airgap.plugins.module_utils.services.status import Status, Wanted
from ansible_collections.lumen.airgap.plugins.plugin_utils.streaming import ParentGone
from ansible_collections.lumen.airgap.tests.unit.fakes.canary_lab import OLD, PAUSES, STEPS, Lab, bump
from ansible_collections.lumen.airgap.tests.unit.fakes.deployments import DeploymentLab
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.fakes.rollouts import NAME, NAMESPACE
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream
from ansible_collections.lumen.airgap.tests.unit.fakes.watcher import FakeWatcher

PROCESS = {"host": "control-1", "boot": "b", "pid": 7, "start": 1}


class Site:
    """An app, whoever releases it, and who only looks."""

    def __init__(self, lab: Lab, **wanted: Any) -> None:
        self.lab, self.session, self.clock = lab, lab.session, lab.clock
        self.out = FakeStream()
        self.status = Status(self.session, self.clock, Wanted(NAME, NAMESPACE, **wanted))  # type: ignore[arg-type]

    def take(self, version: str = "v1.1.0", run: str = "r1", **more: Any) -> Record:
        return Record.acquire(
            self.session,  # type: ignore[arg-type]
            self.clock,
            NAMESPACE,
            NAME,
            version,
            run,
            PROCESS,
            **more,
        )

    def look(self) -> dict[str, Any]:
        found = self.status.look()
        assert self.writes() == self.written
        return found

    def writes(self) -> int:
        return sum(call[0] in ("create", "replace", "patch", "apply", "delete") for call in self.session.calls)

    def follow(self, seconds: float = 600.0) -> tuple[bool, list[str]]:
        self.out = FakeStream()
        ended = self.status.follow(self.out, lambda kinds: FakeWatcher(self.session, kinds, self.clock), seconds)
        return ended, self.out.lines

    @property
    def written(self) -> int:
        return self.writes()


@pytest.fixture
def site() -> Site:
    return Site(Lab(PAUSES))


def words(lines: list[str]) -> list[str]:
    """Without the times."""
    return [line[10:] for line in lines]


def test_before_the_first_release(site: Site) -> None:
    found = site.look()
    assert (found["release"]["state"], found["previous"], found["problems"]) == ("none", [], [])
    assert found["rollout"]["phase"] == "Healthy"
    assert found["text"][1] == "  release   none yet"
    assert site.writes() == 0


def test_a_release_in_progress(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.take().note("building", text="the image is next")
    monkeypatch.setattr(release_record.processes, "alive", lambda _process: True)
    before = site.writes()
    found = site.status.look()
    assert site.writes() == before
    assert found["release"]["state"] == "running"
    assert found["release"]["holder"] == {
        "run": "r1",
        "host": "control-1",
        "pid": 7,
        "renewed": site.clock.time(),
        "expires": site.clock.time() + 60,
    }
    assert found["text"][1:4] == [
        "  release   v1.1.0 (api-v1.1.0-1) in progress",
        "  phase     the image is next, 0s ago; begun 0s ago",
        "  held by   run r1, process 7 on control-1, renewed 0 s ago, for another 60 s",
    ]


def test_one_that_nobody_works_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.take()
    site.clock.sleep(61)
    assert site.status.look()["release"]["state"] == "expired"
    monkeypatch.setattr(release_record.processes, "alive", lambda _process: False)
    assert site.status.look()["release"]["state"] == "dead"
    site.session.edit(LEASE, "api-release", NAMESPACE, {"spec": {"holderIdentity": None}})
    assert site.status.look()["release"]["state"] == "open"


def test_releases_before(site: Site) -> None:
    site.take().finish("promoted")
    site.take("v1.2.0").finish("rolled_back", "bad")
    found = site.status.look()
    assert (found["release"]["outcome"], found["release"]["holder"]) == ("rolled_back", {})
    assert [each["version"] for each in found["previous"]] == ["v1.1.0"]


def test_measurements_of_the_analysis_that_runs() -> None:
    site = Site(Lab(STEPS))
    bump(site.lab)
    site.clock.sleep(14)
    checks = site.status.look()["checks"]
    assert checks
    assert "success-rate" in checks[0]


def test_the_application_is_the_one_that_the_rollout_names(site: Site) -> None:
    site.status = Status(site.session, site.clock, Wanted(NAME, NAMESPACE, "argocd"))  # type: ignore[arg-type]
    assert site.status.look()["application"] is None
    mark = {"argocd.argoproj.io/tracking-id": "lumen-app:argoproj.io/Rollout:lumen/api"}
    site.session.edit(ROLLOUT, NAME, NAMESPACE, {"metadata": {"annotations": mark}})
    assert site.status.look()["application"] == {"name": "lumen-app", "text": "not there, in argocd"}
    site.session.put(
        {
            "apiVersion": APPLICATION.api_version,
            "kind": APPLICATION.kind,
            "metadata": {"name": "lumen-app", "namespace": "argocd"},
            "status": {"sync": {"status": "Synced", "revision": "0123456789"}, "health": {"status": "Healthy"}},
        }
    )
    assert site.status.look()["application"]["text"] == "Synced at 01234567, Healthy"


def test_the_chain_of_evidence(site: Site, tmp_path: Path) -> None:
    wanted = Wanted(NAME, NAMESPACE, directory=str(tmp_path), host="control-1")
    status = Status(site.session, site.clock, wanted)  # type: ignore[arg-type]
    evidence = {"release": "api-v1.1.0-1", "app": NAME, "namespace": NAMESPACE}
    made = append(Store(site.session, NAMESPACE, NAME), str(tmp_path), evidence, "control-1")  # type: ignore[arg-type]
    assert "  evidence  intact: 1 of 1 documents here fit, the newest is api-v1.1.0-1.json" in status.look()["text"]
    Path(made.path).unlink()
    found = status.look()
    assert not found["evidence"]["intact"]
    assert any(line.startswith("  evidence  BROKEN: api-v1.1.0-1.json") for line in found["text"])


def test_what_cannot_be_read_keeps_nothing_else_back(site: Site) -> None:
    site.session.fail_next("find", Forbidden("get ConfigMap: forbidden", status=403))
    found = site.status.look()
    assert found["problems"] == ["release record: get ConfigMap: forbidden"]
    assert (found["release"], found["rollout"]["phase"]) == (None, "Healthy")


def test_a_cluster_without_rollouts() -> None:
    session = FakeSession()
    session.unknown_kinds.add(ROLLOUT)
    found = Status(session, Lab().clock, Wanted(NAME, NAMESPACE)).look()  # type: ignore[arg-type]
    assert (found["rollout"], found["deployments"], found["problems"]) == (None, [], [])


def test_a_plain_deployment_and_its_canary() -> None:
    lab = DeploymentLab(steps=PAUSES)
    site = Site(lab)
    found = site.status.look()
    [stable] = found["deployments"]
    assert (stable["role"], stable["available"], len(stable["pods"])) == ("stable", 2, 2)
    assert stable["images"] == [OLD]
    held = lab.record()
    seen: list[dict[str, Any]] = []
    lab.clock.at(6, lambda: seen.append(site.status.look()))

    def die() -> None:
        lab.out.die()

    lab.clock.at(8, die)
    with pytest.raises(ParentGone):
        lab.release(record=held).run()
    canary = seen[0]["deployments"][1]
    assert (canary["role"], canary["step"]["count"]) == ("canary", 4)
    assert any("(canary, step 2/4)" in line for line in seen[0]["text"])


def test_followed_to_its_end(site: Site) -> None:
    held = site.take(lease_seconds=600)
    held.note("building", text="the image is next")
    site.lab.after(3, lambda: bump(site.lab))
    site.lab.after(4, lambda: held.note("canary_started", text="told by the objects"))
    site.lab.after(6, lambda: held.note("pushed", text="the image is there"))
    site.lab.after(20, lambda: held.finish("rolled_back", "bad"))
    ended, lines = site.follow()
    assert ended
    told = words(lines)
    assert "step 1/4 setWeight 20" in told
    assert "the image is there" in told
    assert "the image is next" not in told  # the first screen has shown it
    assert "told by the objects" not in told
    assert told[-1] == "v1.1.0 of api rolled back: bad"
    assert lines[-1].startswith("00:00:2")


def test_with_none_in_progress_the_next_one_is_waited_for(site: Site) -> None:
    site.take().finish("promoted")

    def begin() -> None:
        site.take("v1.2.0")

    def end() -> None:
        Record.attach(site.session, site.clock, NAMESPACE, NAME, "api-v1.2.0-2", "r1").finish("promoted")  # type: ignore[arg-type]

    site.lab.after(30, begin)
    site.lab.after(60, end)
    ended, lines = site.follow()
    assert ended
    told = words(lines)
    assert told[0] == "no release is in progress: waiting for one to begin"
    assert told[1:3] == ["release api-v1.2.0-2 begins", "acquired"]
    assert told[-1] == "v1.2.0 of api promoted"


def test_the_deadline_is_no_failure(site: Site) -> None:
    ended, lines = site.follow(30)
    assert not ended
    assert words(lines) == ["no release is in progress: waiting for one to begin", "nothing more within 30 s"]


def test_a_run_that_dies_meanwhile_is_told_once(site: Site) -> None:
    site.take()
    ended, lines = site.follow(120)
    assert not ended
    assert sum("the Lease has expired" in line for line in lines) == 1


def test_an_api_server_that_is_away_for_a_while(site: Site) -> None:
    held = site.take(lease_seconds=600)

    def away() -> None:
        site.session.fail_next("find", Unreachable("get ConfigMap: no answer"), times=4)

    site.lab.after(10, away)
    site.lab.after(40, lambda: held.finish("promoted"))
    ended, lines = site.follow()
    assert ended
    assert sum("the record cannot be read: get ConfigMap: no answer" in line for line in lines) == 1


def test_who_releases_rollouts_may_not_read_deployments(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    find = site.session.find

    def refuse(kind: Any, *words: Any) -> Any:
        if kind == DEPLOYMENT:
            raise Forbidden("get Deployment: forbidden", status=403)
        return find(kind, *words)

    monkeypatch.setattr(site.session, "find", refuse)
    held = site.take(lease_seconds=600)
    site.lab.after(3, lambda: bump(site.lab))
    site.lab.after(20, lambda: held.finish("promoted"))
    ended, lines = site.follow()
    assert ended
    assert "step 1/4 setWeight 20" in words(lines)


def test_what_will_not_pass_ends_it(site: Site) -> None:
    site.take(lease_seconds=600)
    site.lab.after(10, lambda: site.session.fail_next("find", Forbidden("forbidden", status=403)))
    with pytest.raises(Forbidden):
        site.follow()


def test_it_stops_when_nobody_listens(site: Site) -> None:
    def die() -> None:
        site.out.die()

    site.lab.after(5, die)
    with pytest.raises(ParentGone):
        site.follow()


def test_a_deployment_is_followed_by_its_pods() -> None:
    lab = DeploymentLab(steps=[{"setWeight": 50}, {"pause": {"duration": 5}}])
    site = Site(lab)
    held = site.take(lease_seconds=600)
    lab.after(5, lambda: held.note("canary_step", text="step told"))
    lab.after(9, lambda: lab.session.edit(DEPLOYMENT, NAME, NAMESPACE, {"spec": {"replicas": 4}}))
    lab.after(20, lambda: held.finish("promoted"))
    ended, lines = site.follow()
    assert ended
    told = words(lines)
    assert "step told" in told
    assert any(line.startswith("  pods available: stable 4/4") for line in told)


def test_a_journal_that_is_not_ours_is_a_problem(site: Site) -> None:
    site.take()
    site.session.edit(CONFIG_MAP, "api-release", NAMESPACE, {"data": {"journal": "{"}})
    assert "data.journal is not what was written there" in site.status.look()["problems"][0]
