# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may release, and what the journal remembers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import CONFIG_MAP, LEASE, Kind
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.patience import Patience
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Conflict, Unreachable
from ansible_collections.lumen.airgap.plugins.module_utils.engines.release_progress import progress
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services import process, release_record
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_record import LeaseLost, Record
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession

HERE = {"host": "control", "boot": "b", "pid": 10, "start": 1, "machine": "m", "namespace": "n"}
THERE = {**HERE, "pid": 20}


@pytest.fixture(autouse=True)
def living(monkeypatch: pytest.MonkeyPatch) -> dict[int, bool | None]:
    """Which process ids are alive; None is unknown."""
    pids: dict[int, bool | None] = {10: True, 20: True}
    monkeypatch.setattr(process, "alive", lambda found: pids.get(found.get("pid", 0)))
    return pids


class App:
    """The releases of one app."""

    def __init__(self, session: FakeSession, clock: FakeClock) -> None:
        self.session = session
        self.clock = clock

    def acquire(self, version: str = "v1", run: str = "r1", found: dict[str, Any] = HERE, **options: Any) -> Record:
        return Record.acquire(self.session, self.clock, "lumen", "api", version, run, found, **options)  # type: ignore[arg-type]

    def attach(self, release_id: str, run: str) -> Record:
        return Record.attach(self.session, self.clock, "lumen", "api", release_id, run)  # type: ignore[arg-type]

    def read(self) -> Record | None:
        return Record.read(self.session, self.clock, "lumen", "api")  # type: ignore[arg-type]

    def lose(self, *kinds: Kind) -> None:
        """The answer to the next write of each."""
        for kind in kinds:
            self.session.lose_next(kind, Unreachable("no answer"))

    @property
    def lease(self) -> dict[str, Any]:
        return self.session.get(LEASE, "api-release", "lumen")["spec"]

    @property
    def book(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.session.get(CONFIG_MAP, "api-release", "lumen")["data"]["journal"])
        return loaded


@pytest.fixture
def app(session: FakeSession, clock: FakeClock) -> App:
    return App(session, clock)


def phases(record: Record) -> list[str]:
    return [entry["phase"] for entry in record.journal]


# The ordinary way


def test_the_first_release(app: App) -> None:
    record = app.acquire()
    assert record.release_id == "api-v1-1"
    assert (record.run, record.version, record.resumed, record.changed) == ("r1", "v1", False, True)
    assert record.started_at == "2026-01-01T00:00:00Z"
    assert record.journal == [{"phase": "acquired", "at": "2026-01-01T00:00:00Z", "run": "r1"}]
    assert app.lease == {
        "holderIdentity": "api-v1-1/r1",
        "leaseDurationSeconds": 60,
        "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:00:00.000000Z",
        "leaseTransitions": 0,
    }
    annotations = app.session.get(LEASE, "api-release", "lumen")["metadata"]["annotations"]
    assert json.loads(annotations["lumen.airgap/process"]) == HERE


def test_a_longer_lease(app: App) -> None:
    app.acquire(lease_seconds=900)
    assert app.lease["leaseDurationSeconds"] == 900


def test_notes_and_renewals(app: App) -> None:
    record = app.acquire(lease_seconds=900)
    app.clock.sleep(10)
    record.note("built", image="api:v1")
    assert record.journal[-1] == {"phase": "built", "at": "2026-01-01T00:00:10Z", "run": "r1", "image": "api:v1"}
    assert record.phase == "built"
    assert app.lease["renewTime"] == "2026-01-01T00:00:10.000000Z"
    assert app.lease["leaseDurationSeconds"] == 900
    app.clock.sleep(10.5)
    record.renew()
    assert app.lease["renewTime"] == "2026-01-01T00:00:20.500000Z"
    assert app.lease["leaseDurationSeconds"] == 60


def test_finish_writes_the_outcome_and_gives_the_lease_back(app: App) -> None:
    record = app.acquire()
    app.clock.sleep(100)
    assert record.finish("rolled_back", "success-rate failed") is True
    assert (record.outcome, record.reason, record.finished_at) == (
        "rolled_back",
        "success-rate failed",
        "2026-01-01T00:01:40Z",
    )
    assert phases(record) == ["acquired", "rolled_back"]
    assert "holderIdentity" not in app.lease
    assert app.book["current"]["outcome"] == "rolled_back"


def test_finishing_twice_changes_nothing(app: App) -> None:
    record = app.acquire()
    record.finish("promoted")
    assert record.finish("promoted") is False
    assert phases(record) == ["acquired", "promoted"]


def test_the_next_release_counts_on_and_remembers_the_one_before(app: App) -> None:
    app.acquire().finish("promoted", "all good")
    record = app.acquire("v2", "r2")
    assert record.release_id == "api-v2-2"
    assert phases(record) == ["acquired"]
    assert app.lease["leaseTransitions"] == 1
    assert [(old["id"], old["outcome"]) for old in app.book["previous"]] == [("api-v1-1", "promoted")]


def test_attach_gives_the_action_what_the_module_acquired(app: App) -> None:
    acquired = app.acquire()
    record = app.attach(acquired.release_id, "r1")
    assert (record.version, record.resumed, phases(record)) == ("v1", False, ["acquired"])
    record.note("canary")
    assert phases(app.attach(acquired.release_id, "r1")) == ["acquired", "canary"]


def test_read(app: App) -> None:
    assert app.read() is None
    app.acquire()
    latest = app.read()
    assert latest is not None
    assert latest.as_dict() == {
        "id": "api-v1-1",
        "run": "r1",
        "app": "api",
        "namespace": "lumen",
        "version": "v1",
        "started_at": "2026-01-01T00:00:00Z",
        "finished_at": None,
        "resumed": False,
        "phase": "acquired",
        "outcome": None,
        "reason": None,
        "journal": [{"phase": "acquired", "at": "2026-01-01T00:00:00Z", "run": "r1"}],
        "progress": progress(latest.journal),
    }


# Again with the same version


def test_a_promoted_version_is_not_released_again(app: App) -> None:
    app.acquire().finish("promoted")
    writes = len(app.session.bodies)
    record = app.acquire(run="r2", found=THERE)
    assert (record.release_id, record.outcome, record.changed) == ("api-v1-1", "promoted", False)
    assert phases(record) == ["acquired", "promoted"]
    assert len(app.session.bodies) == writes


def test_retry_goes_past_a_promoted_version(app: App) -> None:
    app.acquire().finish("promoted")
    record = app.acquire(run="r2", retry=True)
    assert (record.release_id, record.outcome, record.changed) == ("api-v1-2", None, True)


def test_a_rolled_back_version_needs_retry(app: App) -> None:
    app.acquire().finish("rolled_back", "too many errors")
    with pytest.raises(AirgapError) as caught:
        app.acquire(run="r2")
    assert "api-v1-1: too many errors" in caught.value.message
    assert "set retry" in caught.value.message
    record = app.acquire(run="r2", retry=True)
    assert (record.release_id, record.resumed) == ("api-v1-2", False)


def test_a_rolled_back_version_needs_retry_after_another_release_too(app: App) -> None:
    app.acquire().finish("rolled_back")
    app.acquire("v2").finish("promoted")
    with pytest.raises(AirgapError, match="rolled back before"):
        app.acquire("v1")


def test_a_rolled_back_version_needs_retry_also_when_another_try_did_not_reach_the_cluster(app: App) -> None:
    app.acquire().finish("rolled_back", "too many errors")
    app.acquire(run="r2", retry=True).finish("failed", "the tag is on another commit")
    with pytest.raises(AirgapError, match="api-v1-1: too many errors"):
        app.acquire(run="r3")


@pytest.mark.parametrize("ending", ["rolled_back", "given up", "unverified"])
def test_what_was_tried_and_never_promoted_is_not_brought_out_unmeasured(app: App, ending: str) -> None:
    app.acquire("v0").finish("promoted")
    bad = app.acquire("v1")
    if ending == "given up":
        app.acquire("v2", run="r2", force_unlock=True).finish("rolled_back")
    elif ending == "rolled_back":
        bad.finish("rolled_back", "too many errors")
    else:
        bad.note("canary_started")
        bad.finish("failed", "stable could not be verified")
    with pytest.raises(AirgapError, match=r"v1 of api was never promoted, and .* -e analyse=true"):
        app.acquire("v1", run="r3", retry=True, unmeasured=True)
    # What nobody remembers, what was promoted once, and what is measured may come.
    for version, unmeasured in (("v9", True), ("v0", True), ("v1", False)):
        app.acquire(version, run="r3", retry=True, unmeasured=unmeasured).finish("failed", "only asked")


def test_going_back_once_more_after_it_has_failed_is_not_refused(app: App) -> None:
    app.acquire("v0").finish("promoted")
    app.acquire("v0", run="r2", retry=True, unmeasured=True).finish("rolled_back", "a node was away")
    again = app.acquire("v0", run="r3", retry=True, unmeasured=True)
    assert (again.release_id, again.journal[0].get("unmeasured")) == ("api-v0-3", True)


def test_of_a_dead_holder_it_is_said_that_nobody_will_end_its_release(app: App, living: dict[int, bool | None]) -> None:
    app.acquire()
    living[10] = False
    with pytest.raises(AirgapError, match=r"process is dead, so nobody ends the release api-v1-1: .*abort\.yml"):
        app.acquire("v2", run="r2", found=THERE)


def test_a_version_that_never_reached_the_cluster_may_simply_be_tried_again(app: App) -> None:
    app.acquire().finish("failed", "registry down")
    assert app.acquire(run="r2").release_id == "api-v1-2"


def test_what_ended_on_the_version_before_does_not_make_it_an_older_one(app: App) -> None:
    app.acquire().finish("promoted")
    app.acquire("v2").finish("rolled_back")
    app.acquire("v3").finish("failed", "registry down")
    writes = len(app.session.bodies)
    record = app.acquire(run="r2", found=THERE)
    assert (record.release_id, record.outcome, record.changed) == ("api-v1-1", "promoted", False)
    assert (record.version, record.journal) == ("v1", [])
    assert len(app.session.bodies) == writes


def test_an_older_version_is_gone_back_to_and_not_released(app: App) -> None:
    app.acquire().finish("promoted")
    app.acquire("v2").finish("promoted")
    with pytest.raises(AirgapError, match=r"promoted before.*\(api-v1-1\), and v2 after it\. .*rollback\.yml -e to=v1"):
        app.acquire("v1")
    assert app.acquire("v1", retry=True).release_id == "api-v1-3"


def test_what_was_given_up_tells_nobody_which_version_is_out(app: App) -> None:
    app.acquire().finish("promoted")
    app.acquire("v2")
    app.acquire("v3", run="r2", force_unlock=True).finish("rolled_back")
    assert app.acquire("v1").release_id == "api-v1-4"


def test_a_canary_that_ended_nobody_knows_how_tells_nothing_of_what_is_out(app: App) -> None:
    app.acquire().finish("promoted")
    record = app.acquire("v2")
    record.note("canary_started", text="canary of v2")
    record.finish("failed", "stable could not be verified")
    assert app.acquire("v1").release_id == "api-v1-3"


# After a killed run


def test_a_run_whose_process_is_dead_is_taken_over_at_once(app: App, living: dict[int, bool | None]) -> None:
    app.acquire().note("built")
    living[10] = False
    app.clock.sleep(1)
    record = app.acquire(run="r2", found=THERE)
    assert (record.release_id, record.run, record.resumed) == ("api-v1-1", "r2", True)
    assert phases(record) == ["acquired", "built", "resumed"]
    assert record.journal[-1]["taken_from"] == "api-v1-1/r1"
    assert app.lease["holderIdentity"] == "api-v1-1/r2"
    assert app.lease["leaseTransitions"] == 1
    assert app.attach("api-v1-1", "r2").resumed


@pytest.mark.parametrize("life", [True, None])
def test_a_run_that_lives_or_may_live_is_taken_over_once_its_lease_has_expired(
    app: App, living: dict[int, bool | None], life: bool | None
) -> None:
    app.acquire()
    living[10] = life
    app.clock.sleep(59)
    with pytest.raises(AirgapError) as caught:
        app.acquire(run="r2", found=THERE)
    message = caught.value.message
    assert "belongs to api-v1-1/r1 (process 10 on control)" in message
    assert "last renewed 59 s ago at 2026-01-01T00:00:00Z, held for another 1 s" in message
    assert "force_unlock" in message
    assert caught.value.details["holder"] == "api-v1-1/r1"
    app.clock.sleep(1)
    assert app.acquire(run="r2", found=THERE).resumed


def test_another_version_is_refused_even_after_the_lease_has_expired(app: App, living: dict[int, bool | None]) -> None:
    app.acquire()
    living[10] = False
    app.clock.sleep(600)
    with pytest.raises(AirgapError) as caught:
        app.acquire("v2", "r2", THERE)
    assert "v2 of api cannot be released" in caught.value.message
    assert "api-v1-1/r1" in caught.value.message
    assert "expired 540 s ago" in caught.value.message
    assert "run it again to finish it" in caught.value.message


def test_force_unlock_takes_the_same_release_from_a_living_run(app: App) -> None:
    app.acquire()
    record = app.acquire(run="r2", found=THERE, force_unlock=True)
    assert (record.release_id, record.resumed) == ("api-v1-1", True)


def test_force_unlock_gives_another_release_up(app: App) -> None:
    app.acquire()
    record = app.acquire("v2", "r2", THERE, force_unlock=True)
    assert (record.release_id, record.resumed) == ("api-v2-2", False)
    assert app.book["previous"][0]["outcome"] == "abandoned"
    assert record.journal[0]["taken_from"] == "api-v1-1/r1"


def test_a_run_that_acquires_twice_keeps_what_it_has(app: App) -> None:
    app.acquire()
    app.clock.sleep(30)
    again = app.acquire(run="made-up", lease_seconds=90)
    assert (again.run, again.resumed, again.changed) == ("r1", False, False)
    assert phases(again) == ["acquired"]
    assert app.lease["renewTime"] == "2026-01-01T00:00:30.000000Z"
    assert app.lease["leaseDurationSeconds"] == 90
    assert app.lease["leaseTransitions"] == 0


def test_runs_without_a_known_process_are_told_apart_by_their_names(app: App) -> None:
    app.acquire(found={})
    assert app.acquire(found={}).changed is False
    with pytest.raises(AirgapError, match="belongs to api-v1-1/r1, last renewed"):
        app.acquire(run="r2", found={})


def test_killed_between_lease_and_journal(app: App, living: dict[int, bool | None]) -> None:
    app.acquire().finish("promoted")
    killer = app.session.replace
    count = 0

    def dies_at_the_journal(body: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return killer(body)

    app.session.replace = dies_at_the_journal  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        app.acquire("v2", "r2")
    app.session.replace = killer  # type: ignore[method-assign]
    with pytest.raises(AirgapError, match="api-v2-2/r2"):
        app.acquire("v3", "r3", THERE)
    living[10] = False
    record = app.acquire("v2", "r4", THERE)
    assert (record.release_id, record.resumed, phases(record)) == ("api-v2-2", False, ["acquired"])


def test_killed_between_outcome_and_giving_the_lease_back(app: App) -> None:
    record = app.acquire()
    record._lock.release = lambda identity: None  # type: ignore[method-assign]
    record.finish("rolled_back")
    assert app.lease["holderIdentity"] == "api-v1-1/r1"
    assert app.acquire("v2", "r2", THERE).release_id == "api-v2-2"


def test_a_deleted_lease_frees_the_release(app: App) -> None:
    app.acquire()
    app.session.remove(LEASE, "api-release", "lumen")
    assert app.acquire(run="r2", found=THERE).resumed


# What a run that lost its Lease may do


def test_a_run_that_was_replaced_stops(app: App) -> None:
    old = app.acquire()
    app.acquire(run="r2", found=THERE, force_unlock=True)
    for action in (old.renew, lambda: old.note("x"), lambda: old.finish("promoted")):
        with pytest.raises(LeaseLost, match="no longer held by api-v1-1/r1: it belongs to api-v1-1/r2"):
            action()
    with pytest.raises(LeaseLost):
        app.attach("api-v1-1", "r1")
    assert app.book["current"]["outcome"] is None


def test_a_run_whose_lease_was_deleted_stops(app: App) -> None:
    record = app.acquire()
    app.session.remove(LEASE, "api-release", "lumen")
    with pytest.raises(LeaseLost, match="nobody holds it"):
        record.renew()


def test_an_expired_lease_that_nobody_took_is_still_ours(app: App) -> None:
    record = app.acquire()
    app.clock.sleep(500)
    record.renew()
    assert app.lease["renewTime"] == "2026-01-01T00:08:20.000000Z"


# Conflicts and failures


def test_a_race_for_the_lease_is_decided_anew(app: App) -> None:
    app.acquire().finish("promoted")
    replace = app.session.replace

    def first_somebody_else(body: Any) -> Any:
        app.session.replace = replace  # type: ignore[method-assign]
        app.acquire("v9", "r9", THERE)
        return replace(body)

    app.session.replace = first_somebody_else  # type: ignore[method-assign]
    with pytest.raises(AirgapError, match="belongs to api-v9-2/r9"):
        app.acquire("v2", "r2")


def test_a_race_for_the_first_lease(app: App) -> None:
    app.session.fail_next("create", Conflict("it exists", 409, "AlreadyExists"))
    assert app.acquire().release_id == "api-v1-1"


def test_a_renewal_survives_conflicts_but_not_for_ever(app: App) -> None:
    record = app.acquire()
    app.session.fail_next("replace", Conflict("changed", 409), times=2)
    record.renew()
    app.session.fail_next("replace", Conflict("changed", 409), times=5)
    with pytest.raises(AirgapError, match="all the time"):
        record.renew()


def test_an_api_server_that_is_away_is_the_callers_to_wait_for(app: App) -> None:
    record = app.acquire()
    app.session.fail_next("replace", Unreachable("no answer"))
    with pytest.raises(Unreachable):
        record.renew()
    record.renew()


@pytest.fixture
def patient(app: App) -> App:
    """Whose requests are made again when they got no answer."""
    return App(app.session.patient(Patience(app.clock, 60.0)), app.clock)  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [True, False])
def test_a_release_whose_answers_were_lost_is_begun_once(app: App, patient: App, first: bool) -> None:
    if not first:
        app.acquire("v0", "r0").finish("promoted")
    app.lose(LEASE, CONFIG_MAP)
    record = patient.acquire()
    assert (record.release_id[:-2], record.changed, phases(record)) == ("api-v1", True, ["acquired"])
    assert app.book["number"] == len(app.book["previous"]) + 1
    assert "abandoned" not in app.book


def test_a_release_that_is_taken_up_with_the_answer_lost_is_told_as_taken_up(
    app: App, patient: App, living: dict[int, bool | None]
) -> None:
    app.acquire()
    living[10] = False
    app.lose(LEASE, CONFIG_MAP)
    record = patient.acquire(run="r2", found=THERE)
    assert (record.resumed, phases(record)) == (True, ["acquired", "resumed"])
    assert record.journal[-1]["taken_from"] == "api-v1-1/r1"
    assert app.lease["leaseTransitions"] == 1


def test_what_is_noted_with_the_answer_lost_stands_in_the_journal_once(app: App, patient: App) -> None:
    record = patient.acquire()
    app.lose(LEASE, CONFIG_MAP)
    record.note("bumped", commit="abc", pipeline={"id": 7, "jobs": [1, 2]})
    assert phases(record) == ["acquired", "bumped"]
    assert [entry["phase"] for entry in app.book["entries"]] == ["acquired", "bumped"]
    record.note("bumped", commit="abc", pipeline={"id": 7, "jobs": [1, 2]})
    assert phases(record) == ["acquired", "bumped", "bumped"]


def test_an_entry_of_somebody_else_in_between_does_not_hide_ours(app: App, patient: App) -> None:
    record = patient.acquire()
    record.renew()
    beside = app.attach(record.release_id, record.run)
    replace = app.session.replace

    def first_somebody_else(body: Any) -> Any:
        if body["kind"] == "ConfigMap":
            app.session.replace = replace  # type: ignore[method-assign]
            beside.note("scanned")
        return replace(body)

    app.session.replace = first_somebody_else  # type: ignore[method-assign]
    record.note("bumped")
    assert phases(record) == ["acquired", "scanned", "bumped"]


def test_an_end_with_the_answers_lost_is_one_end(app: App, patient: App) -> None:
    record = patient.acquire()
    app.lose(LEASE, CONFIG_MAP)
    assert record.finish("failed", "why")
    assert [entry["phase"] for entry in app.book["entries"]] == ["acquired", "failed"]
    assert "holderIdentity" not in app.lease


def test_a_lease_that_was_given_back_with_the_answer_lost_is_given_back(app: App, patient: App) -> None:
    patient.acquire().finish("failed")
    given_back = patient.attach(patient.acquire("v2", "r2").release_id, "r2")
    release = app.session.replace

    def at_last(body: Any) -> Any:
        if body["kind"] == "Lease" and "holderIdentity" not in body["spec"]:
            app.session.replace = release  # type: ignore[method-assign]
            app.lose(LEASE)
        return release(body)

    app.session.replace = at_last  # type: ignore[method-assign]
    assert given_back.finish("failed")
    assert "holderIdentity" not in app.lease


def test_who_has_lost_the_lease_is_told_who_has_it(app: App) -> None:
    record = app.acquire()
    app.acquire(run="r2", found=THERE, force_unlock=True)
    with pytest.raises(LeaseLost) as caught:
        app.attach(record.release_id, "r1")
    assert caught.value.details["holder"] == "api-v1-1/r2"
    assert caught.value.details.keys() == {"holder", "renewed_at", "expires_at"}


def test_a_renewal_is_one_request_as_long_as_nobody_else_writes(app: App) -> None:
    record = app.acquire()
    record.renew()
    before = len(app.session.calls)
    record.renew()
    assert [call[0] for call in app.session.calls[before:]] == ["replace"]


def test_check_mode_decides_and_refuses_and_writes_nothing(app: App) -> None:
    record = app.acquire(dry_run=True)
    assert (record.release_id, record.changed, record.journal) == ("api-v1-1", True, [])
    assert app.session.bodies == []
    app.acquire()
    with pytest.raises(AirgapError, match="belongs to"):
        app.acquire("v2", "r2", THERE, dry_run=True)


@pytest.mark.parametrize("version", ["", "../x", "v1/2", "v 1", "-v1", "x" * 129])
def test_a_version_that_cannot_be_one(app: App, version: str) -> None:
    with pytest.raises(AirgapError, match="cannot be a version"):
        app.acquire(version)


def test_a_journal_that_was_broken_by_hand(app: App) -> None:
    app.acquire()
    app.session.edit(CONFIG_MAP, "api-release", "lumen", {"data": {"journal": "{oops"}})
    with pytest.raises(AirgapError, match=r"ConfigMap lumen/api-release: data\.journal is not what was written"):
        app.acquire()


def test_a_process_annotation_that_was_broken_by_hand_leaves_the_time_to_tell(app: App) -> None:
    app.acquire()
    broken = {"metadata": {"annotations": {"lumen.airgap/process": "[]"}}}
    app.session.edit(LEASE, "api-release", "lumen", broken)
    with pytest.raises(AirgapError, match="belongs to api-v1-1/r1, last"):
        app.acquire(run="r2", found=THERE)


# Bounds


def test_the_journal_keeps_the_last_entries(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    assert release_record._ENTRIES == 500
    monkeypatch.setattr(release_record, "_ENTRIES", 10)
    record = app.acquire()
    for number in range(20):
        record.note("tick", number=number)
    assert [entry["number"] for entry in app.book["entries"]] == list(range(10, 20))
    assert len(record.journal) == 10


@pytest.mark.parametrize("bound", [("_ENTRIES", 10), ("_BYTES", 1500)])
def test_what_a_canary_has_noted_is_never_given_up(
    app: App, monkeypatch: pytest.MonkeyPatch, bound: tuple[str, int]
) -> None:
    monkeypatch.setattr(release_record, *bound)
    record = app.acquire()
    record.note("canary_started", stable_hash="old")
    for number in range(20):
        record.note("tick", number=number)
    assert record.journal[0]["stable_hash"] == "old"
    assert record.journal[-1]["number"] == 19
    assert len(record.journal) < 20


def test_the_journal_fits_into_a_config_map(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_record, "_BYTES", 4000)
    record = app.acquire()
    for number in range(30):
        record.note("big", number=number, text="x" * 500)
    text = app.session.get(CONFIG_MAP, "api-release", "lumen")["data"]["journal"]
    assert len(text) <= 4000
    assert app.book["entries"][-1]["number"] == 29


def test_a_measurement_that_is_too_large_costs_the_journal_no_more_than_that(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_record, "_BYTES", 4000)
    record = app.acquire()
    record.note("canary_observed", hash="abc", seen={"measurements": [{"value": "old"}]})
    record.note("canary_step", seen={"measurements": [{"value": "x" * 5000}]})
    record.note("canary_step", seen={"measurements": [{"value": "new"}]})
    assert len(app.session.get(CONFIG_MAP, "api-release", "lumen")["data"]["journal"]) <= 4000
    told = [entry for entry in app.book["entries"] if entry["phase"].startswith("canary_")]
    assert [entry.get("hash") for entry in told] == ["abc", None, None]
    assert told[-1]["seen"] == {"measurements": [{"value": "new"}]}


def test_twenty_releases_are_remembered(app: App) -> None:
    for number in range(25):
        app.acquire(f"v{number}").finish("promoted")
    assert [old["version"] for old in app.book["previous"]] == [f"v{number}" for number in range(23, 3, -1)]
    assert app.book["number"] == 25


def test_an_unknown_outcome_is_a_mistake_of_the_caller(app: App) -> None:
    with pytest.raises(ValueError, match="great"):
        app.acquire().finish("great")


# What was given up


def test_a_release_that_is_given_up_is_kept_until_it_has_its_evidence(app: App) -> None:
    app.acquire().note("pushed", image="i")
    app.clock.sleep(5)
    record = app.acquire("v2", "r2", THERE, force_unlock=True)
    (kept,) = record.abandoned
    assert (kept["id"], kept["app"], kept["namespace"], kept["version"]) == ("api-v1-1", "api", "lumen", "v1")
    assert (kept["outcome"], kept["reason"]) == ("abandoned", "given up for api-v2-2")
    assert kept["finished_at"] == record.started_at
    assert [entry["phase"] for entry in kept["journal"]] == ["acquired", "pushed"]
    # Killed before it was written: whoever takes the release up has it, and whoever gives that one up has both.
    assert app.acquire("v2", "r3", HERE, force_unlock=True).abandoned == [kept]
    third = app.acquire("v3", "r4", HERE, force_unlock=True)
    assert [each["id"] for each in third.abandoned] == ["api-v1-1", "api-v2-2"]
    assert third.reported("api-v1-1") is True
    assert third.reported("api-v1-1") is False
    held = app.attach("api-v3-3", "r4")
    assert [each["id"] for each in held.abandoned] == ["api-v2-2"]
    assert phases(held) == ["acquired", "reported"]
    assert held.reported("api-v2-2") is True
    assert "abandoned" not in app.book


def test_a_release_that_has_ended_is_not_given_up(app: App) -> None:
    app.acquire().finish("promoted")
    assert app.acquire("v2", "r2").abandoned == []


def test_what_was_given_up_makes_room_for_what_goes_on(app: App) -> None:
    app.acquire().note("pushed", text="x" * 500_000)
    record = app.acquire("v2", "r2", THERE, force_unlock=True)
    record.note("pushed", text="y" * 500_000)
    assert phases(record) == ["acquired", "pushed"]
    assert [each["id"] for each in record.abandoned] == ["api-v1-1"]
    assert len(json.dumps(app.book)) < 900_000


def test_of_what_was_given_up_the_newest_is_kept(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    record = app.acquire()
    for number in range(20):
        record.note("pushed", number=number, text="x" * 200)
    record.note("bumped", commit="abc")
    record.note("canary_started")
    record.note("canary_observed", seen={"measurements": [{"value": "x" * 3000}]})
    record.note("canary_ended", outcome="promoted")
    monkeypatch.setattr(release_record, "_BYTES", 5000)
    (kept,) = app.acquire("v2", "r2", THERE, force_unlock=True).abandoned
    assert len(app.session.get(CONFIG_MAP, "api-release", "lumen")["data"]["journal"]) <= 5000
    assert kept["progress"]["git"] == {"bump": "abc"}
    assert kept["progress"]["canary"]["outcome"] == "promoted"
    assert [each["number"] for each in kept["journal"] if each["phase"] == "pushed"][-1] == 19


def test_a_journal_that_nothing_makes_smaller_is_written_as_it_is(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.acquire().note("canary_ended", outcome="promoted")
    monkeypatch.setattr(release_record, "_BYTES", 10)
    (kept,) = app.acquire("v2", "r2", THERE, force_unlock=True).abandoned
    assert [each["phase"] for each in kept["journal"]] == ["canary_ended"]
