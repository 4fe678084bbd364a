# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cluster in memory behaves like the real one where tests rely on it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import ANALYSIS_RUN, POD, ROLLOUT
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import (
    Conflict,
    Gone,
    NotFound,
    Session,
    Unreachable,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.watcher import Subscription
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import EPOCH, FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.fakes.watcher import FakeWatcher


def thing(kind: Any = ROLLOUT, name: str = "api", **parts: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "lumen", **parts.pop("metadata", {})}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **parts}


@pytest.mark.parametrize(
    "name",
    [
        "get",
        "find",
        "list",
        "create",
        "replace",
        "patch",
        "apply",
        "delete",
        "namespaced",
        "watch",
        "pod_log",
        "service_proxy",
        "ask",
        "request_token",
    ],
)
def test_signatures_are_those_of_the_real_session(name: str) -> None:
    real = inspect.signature(getattr(Session, name)).parameters
    fake = inspect.signature(getattr(FakeSession, name)).parameters
    assert [(p.name, p.default, p.kind) for p in real.values()] == [(p.name, p.default, p.kind) for p in fake.values()]


def test_replace_conflicts_on_an_old_version(session: FakeSession) -> None:
    old = session.create(thing(spec={"a": 1}))
    session.replace({**old, "spec": {"a": 2}})
    with pytest.raises(Conflict):
        session.replace({**old, "spec": {"a": 3}})


def test_generation_counts_changes_of_the_spec_alone(session: FakeSession) -> None:
    session.create(thing(spec={"a": 1}))
    session.patch(ROLLOUT, "api", "lumen", {"metadata": {"labels": {"x": "y"}}})
    assert session.get(ROLLOUT, "api", "lumen")["metadata"]["generation"] == 1
    assert session.patch(ROLLOUT, "api", "lumen", {"spec": {"a": 2}})["metadata"]["generation"] == 2


def test_status_is_a_subresource(session: FakeSession) -> None:
    created = session.create(thing(spec={"a": 1}, status={"phase": "x"}))
    assert "status" not in created
    session.patch(ROLLOUT, "api", "lumen", {"status": {"phase": "ignored"}})
    assert "status" not in session.get(ROLLOUT, "api", "lumen")
    session.patch(ROLLOUT, "api", "lumen", {"status": {"abort": True}, "spec": {"a": 9}}, subresource="status")
    current = session.get(ROLLOUT, "api", "lumen")
    assert (current["status"], current["spec"]) == ({"abort": True}, {"a": 1})
    session.patch(ROLLOUT, "api", "lumen", {"status": {"abort": None}}, subresource="status")
    assert session.get(ROLLOUT, "api", "lumen")["status"] == {}


def test_an_analysis_run_has_no_status_subresource(session: FakeSession) -> None:
    session.create(thing(ANALYSIS_RUN, status={"phase": "Running"}))
    assert session.get(ANALYSIS_RUN, "api", "lumen")["status"] == {"phase": "Running"}
    with pytest.raises(NotFound):
        session.patch(ANALYSIS_RUN, "api", "lumen", {"status": {}}, subresource="status")


def test_json_patch(session: FakeSession) -> None:
    session.put(thing(spec={"list": ["a", "b"], "x/y": 1}))
    operations = [
        {"op": "test", "path": "/spec/list/0", "value": "a"},
        {"op": "add", "path": "/spec/list/-", "value": "c"},
        {"op": "remove", "path": "/spec/list/0"},
        {"op": "replace", "path": "/spec/x~1y", "value": 2},
    ]
    assert session.patch(ROLLOUT, "api", "lumen", operations, "json")["spec"] == {"list": ["b", "c"], "x/y": 2}


def test_dry_run_changes_nothing(session: FakeSession) -> None:
    session.put(thing(spec={"a": 1}))
    assert session.patch(ROLLOUT, "api", "lumen", {"spec": {"a": 2}}, dry_run=True)["spec"] == {"a": 2}
    assert session.get(ROLLOUT, "api", "lumen")["spec"] == {"a": 1}


def test_what_comes_out_is_a_copy(session: FakeSession) -> None:
    session.put(thing(spec={"a": 1}))
    session.get(ROLLOUT, "api", "lumen")["spec"]["a"] = 2
    assert session.get(ROLLOUT, "api", "lumen")["spec"] == {"a": 1}


def test_selectors(session: FakeSession) -> None:
    session.put(thing(POD, "a", metadata={"labels": {"app": "api", "tier": "x"}}, spec={"nodeName": "n1"}))
    session.put(thing(POD, "b", metadata={"labels": {"app": "api"}}))

    def names(label: str | None = None, field: str | None = None) -> list[str]:
        return [item["metadata"]["name"] for item in session.list(POD, "lumen", label, field).items]

    assert names("app=api") == ["a", "b"]
    assert names("app=api,tier=x") == ["a"]
    assert names("tier!=x") == ["b"]
    assert names("tier") == ["a"]
    assert names(field="spec.nodeName=n1") == ["a"]
    assert session.list(POD, "other").items == []


def test_planned_failures_change_nothing(session: FakeSession) -> None:
    session.put(thing(spec={"a": 1}))
    session.fail_next("patch", Unreachable("away"), times=2)
    for _attempt in range(2):
        with pytest.raises(Unreachable):
            session.patch(ROLLOUT, "api", "lumen", {"spec": {"a": 2}})
    assert session.get(ROLLOUT, "api", "lumen")["spec"] == {"a": 1}
    session.patch(ROLLOUT, "api", "lumen", {"spec": {"a": 2}})


def test_an_unknown_kind_is_no_missing_object(session: FakeSession) -> None:
    session.unknown_kinds.add(ROLLOUT)
    with pytest.raises(NotFound, match="does not know the kind Rollout"):
        session.find(ROLLOUT, "api", "lumen")
    assert session.find(POD, "api", "lumen") is None


def test_watch_replays_what_happened_since(session: FakeSession) -> None:
    session.put(thing(spec={"a": 1}))
    version = session.list(ROLLOUT, "lumen").resource_version
    session.edit(ROLLOUT, "api", "lumen", {"status": {"phase": "x"}})
    session.edit(ROLLOUT, "api", "lumen", {"status": {"phase": "x"}})  # nothing new, no event
    session.remove(ROLLOUT, "api", "lumen")
    assert [event.type for event in session.watch(ROLLOUT, "lumen", version)] == ["MODIFIED", "DELETED"]
    session.compact()
    with pytest.raises(Gone):
        session.watch(ROLLOUT, "lumen", version)


def test_planned_things_happen_while_somebody_sleeps(clock: FakeClock) -> None:
    seen: list[tuple[str, float]] = []
    clock.at(5, lambda: seen.append(("b", clock.time() - EPOCH)))
    clock.at(3, lambda: seen.append(("a", clock.time() - EPOCH)))
    clock.sleep(4)
    assert seen == [("a", 3.0)]
    clock.sleep(4)
    assert seen == [("a", 3.0), ("b", 5.0)]
    assert clock.time() == EPOCH + 8


def test_the_watcher_waits_in_the_time_of_the_clock(session: FakeSession, clock: FakeClock) -> None:
    session.put(thing(spec={"a": 1}))
    watcher = FakeWatcher(session, [Subscription(ROLLOUT, "lumen"), Subscription(POD, "lumen")], clock)
    watcher.start()
    clock.at(2, lambda: session.put(thing(POD, "a")))
    clock.at(2, lambda: session.edit(ROLLOUT, "api", "lumen", {"status": {"phase": "x"}}))
    first = watcher.next(1)
    assert first is not None
    assert (first.type, first.kind) == ("ADDED", ROLLOUT)
    assert watcher.next(1) is None
    assert clock.time() == EPOCH + 1
    second = watcher.next(5)
    assert second is not None
    assert (second.type, second.kind, second.at) == ("ADDED", POD, EPOCH + 2)
    third = watcher.next(5)
    assert third is not None
    assert (third.type, third.kind) == ("MODIFIED", ROLLOUT)
    watcher.say("LOST", "away")
    lost = watcher.next(0)
    assert lost is not None
    assert lost.type == "LOST"
