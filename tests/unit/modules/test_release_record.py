# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""States of the module, and its docs."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import LEASE
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Forbidden, Unreachable
from ansible_collections.lumen.airgap.plugins.module_utils.entry import Task
from ansible_collections.lumen.airgap.plugins.module_utils.services import process
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_record import LeaseLost
from ansible_collections.lumen.airgap.plugins.modules import release_record as module
from ansible_collections.lumen.airgap.plugins.plugin_utils.streaming import ParentGone
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run

HERE = {"host": "control", "boot": "b", "pid": 10, "start": 1}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find", lambda: dict(HERE))
    monkeypatch.setattr(process, "alive", lambda _process: True)


@pytest.fixture
def call(session: FakeSession, clock: FakeClock) -> Any:
    def run(dry_run: bool = False, **params: Any) -> dict[str, Any]:
        defaults = {name: option.get("default") for name, option in module.ARGUMENT_SPEC.items()}
        given = {**defaults, "app": "api", "namespace": "lumen", **params}
        return module.record(given, session, clock, dry_run)  # type: ignore[arg-type]

    return run


def test_the_life_of_a_release(call: Any, session: FakeSession, clock: FakeClock) -> None:
    acquired = call(version="v1", lease_seconds=900)
    assert acquired["changed"]
    release = {key: acquired["release"][key] for key in ("id", "run")}
    assert release["id"] == "api-v1-1"
    assert len(release["run"]) == 8

    assert call(version="v1")["changed"] is False

    clock.sleep(5)
    assert call(state="renewed", release=release, lease_seconds=30)["changed"] is False
    assert session.get(LEASE, "api-release", "lumen")["spec"]["leaseDurationSeconds"] == 30

    noted = call(state="noted", release=release, phase="built", data={"image": "api:v1"})
    assert noted["changed"]
    assert noted["release"]["phase"] == "built"
    assert noted["release"]["journal"][-1]["image"] == "api:v1"

    finished = call(state="finished", release=release, outcome="promoted", reason="fine")
    assert finished["changed"]
    assert (finished["release"]["outcome"], finished["release"]["reason"]) == ("promoted", "fine")

    again = call(version="v1")
    assert (again["changed"], again["release"]["outcome"]) == (False, "promoted")
    assert call(state="read")["release"]["outcome"] == "promoted"


@pytest.fixture
def work(session: FakeSession, clock: FakeClock, stream: FakeStream, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module as its action runs it."""
    monkeypatch.setattr(module.Session, "connect", lambda *_args: session)
    monkeypatch.setattr(module, "SystemClock", lambda: clock)

    def run(check_mode: bool = False, **params: Any) -> dict[str, Any]:
        defaults = {name: option.get("default") for name, option in module.ARGUMENT_SPEC.items()}
        given = {**defaults, "app": "api", "namespace": "lumen", **params}
        return module.work(Task(given, check_mode, stream.line, nullcontext, stream.line, stream.check))

    return run


AWAY = Unreachable("find Lease lumen/api-release: no answer")


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    "state",
    [
        {"state": "renewed"},
        {"state": "noted", "phase": "bumped"},
        {"state": "reported", "abandoned": "api-v0-1"},
        {"state": "finished", "outcome": "failed"},
        {"state": "read"},
    ],
)
def test_in_the_middle_of_a_release_an_api_server_that_restarts_is_waited_for(
    work: Any, session: FakeSession, clock: FakeClock, stream: FakeStream, state: dict[str, Any], check_mode: bool
) -> None:
    acquired = work(version="v1", lease_seconds=900)["release"]
    session.fail_next("find", AWAY, times=40)
    release = {key: acquired[key] for key in ("id", "run")}
    assert work(check_mode, **state, release=release)["release"]["id"] == "api-v1-1"
    assert clock.monotonic() == 40
    assert stream.lines == [f"{AWAY.message}; it is asked again for up to 60 s"]


def test_one_that_stays_away_fails_the_task_after_that(work: Any, session: FakeSession, clock: FakeClock) -> None:
    work(version="v1")
    session.fail_next("find", AWAY, times=1000)
    with pytest.raises(Unreachable, match="asked again for 20 s"):
        work(state="read", patience=20.0)
    assert clock.monotonic() == 20


def test_a_release_does_not_begin_by_waiting_and_waits_once_it_was_answered(
    work: Any, session: FakeSession, clock: FakeClock
) -> None:
    session.fail_next("find", AWAY)
    with pytest.raises(Unreachable):
        work(version="v1")
    assert clock.monotonic() == 0
    session.fail_next("create", AWAY, times=5)
    assert work(version="v1")["changed"]


def test_who_may_not_is_told_at_once(work: Any, session: FakeSession, clock: FakeClock) -> None:
    work(version="v1")
    session.fail_next("find", Forbidden("leases is forbidden", 403))
    with pytest.raises(Forbidden):
        work(state="read")
    assert clock.monotonic() == 0


def test_nothing_is_noted_for_an_ansible_playbook_that_is_gone(
    work: Any, session: FakeSession, clock: FakeClock, stream: FakeStream
) -> None:
    acquired = work(version="v1")["release"]
    session.fail_next("find", AWAY, times=20)
    clock.at(10, stream.die)
    with pytest.raises(ParentGone):
        work(state="noted", phase="bumped", release={key: acquired[key] for key in ("id", "run")})
    session._failures["find"].clear()
    stream._pid = 1000
    assert work(state="read")["release"]["phase"] == "acquired"


@pytest.mark.parametrize("seconds", [0, -60])
def test_a_lease_that_has_run_out_before_it_begins_is_refused(seconds: int, run: Run) -> None:
    result = run(module, app="api", namespace="lumen", version="v1", lease_seconds=seconds)
    assert result["failed"]
    assert result["msg"].startswith("The option lease_seconds must be more than 0")


def test_what_was_given_up_is_returned_until_it_is_reported(call: Any) -> None:
    call(version="v1")
    acquired = call(version="v2", force_unlock=True)
    assert [each["id"] for each in acquired["abandoned"]] == ["api-v1-1"]
    release = {key: acquired["release"][key] for key in ("id", "run")}
    reported = {"state": "reported", "release": release, "abandoned": "api-v1-1"}
    assert call(**reported)["changed"] is True
    assert call(**reported)["changed"] is False
    assert call(version="v2")["abandoned"] == []


def test_read_before_there_was_a_release(call: Any) -> None:
    assert call(state="read") == {"changed": False, "release": {}}


def test_somebody_who_does_not_hold_it(call: Any) -> None:
    call(version="v1")
    with pytest.raises(LeaseLost):
        call(state="noted", release={"id": "api-v1-1", "run": "other"}, phase="x")


def test_check_mode_writes_nothing(call: Any, session: FakeSession) -> None:
    assert call(dry_run=True, version="v1")["release"]["id"] == "api-v1-1"
    release = {"id": "api-v1-1", "run": "r"}
    assert call(dry_run=True, state="renewed", release=release)["changed"] is False
    assert call(dry_run=True, state="noted", release=release, phase="x") == {"changed": True, "release": {}}
    assert call(dry_run=True, state="finished", release=release, outcome="promoted")["changed"] is True
    assert session.bodies == []


def test_finished_twice_changes_nothing_and_check_mode_says_so(call: Any, session: FakeSession) -> None:
    release = {key: call(version="v1")["release"][key] for key in ("id", "run")}
    ending = {"state": "finished", "release": release, "outcome": "promoted"}
    assert call(dry_run=True, **ending)["changed"] is True
    call(**ending)
    written = len(session.bodies)
    assert call(dry_run=True, **ending)["changed"] is False
    assert call(**ending)["changed"] is False
    assert len(session.bodies) == written


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_has_ended_is_ended(call: Any, dry_run: bool) -> None:
    release = {key: call(version="v1")["release"][key] for key in ("id", "run")}
    call(state="finished", release=release, outcome="promoted")
    with pytest.raises(LeaseLost):
        call(dry_run=dry_run, state="finished", release=release, outcome="failed")
    with pytest.raises(LeaseLost):
        call(dry_run=dry_run, state="noted", release=release, phase="x")


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("release_id", ["api-v1-7", "other-v1-1", "nothing"])
def test_a_release_that_does_not_exist_is_refused(call: Any, release_id: str, dry_run: bool) -> None:
    with pytest.raises(LeaseLost):
        call(dry_run=dry_run, state="noted", release={"id": release_id, "run": "r"}, phase="x")


def test_return_documents_what_is_returned(call: Any) -> None:
    documented = yaml.safe_load(module.RETURN)["release"]["contains"]
    assert set(call(version="v1")["release"]) == set(documented)


def test_every_option_is_documented() -> None:
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert set(options) | {"kubeconfig", "context"} == set(module.ARGUMENT_SPEC)
