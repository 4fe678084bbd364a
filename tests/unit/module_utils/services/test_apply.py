# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A batch of objects: what is applied, what is left alone, what a dry run says, and what is deleted."""

from __future__ import annotations

import copy
import datetime
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import (
    CONFIG_MAP,
    CUSTOM_RESOURCE_DEFINITION,
    NETWORK_POLICY,
    SECRET,
    Kind,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import (
    Conflict,
    Forbidden,
    Unreachable,
)
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.apply import Prune, apply, remove
from ansible_collections.lumen.airgap.plugins.module_utils.services.waiting import NotReady
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession

THING = Kind("lumen.example/v1", "Thing")


def config(name: str = "settings", namespace: str = "lumen", **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": {"set": "ours"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data or {"key": "value"}}


def policy(number: int, namespace: str = "lumen") -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"policy-{number}", "namespace": namespace},
        "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]},
    }


def definition() -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.lumen.example"},
        "spec": {"group": "lumen.example", "names": {"kind": "Thing", "plural": "things"}},
    }


def thing() -> dict[str, Any]:
    return {"apiVersion": "lumen.example/v1", "kind": "Thing", "metadata": {"name": "one", "namespace": "lumen"}}


def writes(session: FakeSession) -> list[tuple[str, str]]:
    return [(method, name) for method, _kind, _namespace, name in session.calls if method in ("apply", "delete")]


def test_the_second_time_nothing_is_written() -> None:
    session = FakeSession()
    first = apply(session, [config()])
    assert [str(change) for change in first.changes] == ["ConfigMap lumen/settings created"]
    session.calls.clear()
    second = apply(session, [config()])
    assert not second.changed
    assert second.diff == []
    assert writes(session) == []


def test_many_objects_of_a_kind_take_one_list() -> None:
    session = FakeSession()
    policies = [policy(number, namespace) for namespace in ("lumen", "gitea") for number in range(5)]
    apply(session, policies)
    session.calls.clear()
    assert not apply(session, policies).changed
    assert session.calls == [("list", NETWORK_POLICY, None, "")]


def test_who_may_not_list_all_namespaces_lists_those_of_the_batch() -> None:
    session = FakeSession()
    policies = [policy(number, namespace) for namespace in ("lumen", "gitea") for number in range(5)]
    apply(session, policies)
    session.fail_next("list", Forbidden("no", 403))
    session.calls.clear()
    assert not apply(session, policies).changed
    assert [call[2] for call in session.calls] == [None, "gitea", "lumen"]


def test_what_somebody_changed_is_put_back_when_forced_and_named_when_not() -> None:
    session = FakeSession()
    apply(session, [config()])
    session.owns("kubectl-edit", CONFIG_MAP, "settings", "lumen", {"data": {"key": "other"}})
    with pytest.raises(Conflict, match=r"\.data\.key \(kubectl-edit\)"):
        apply(session, [config()])
    outcome = apply(session, [config()], force=True)
    assert [change.action for change in outcome.changes] == ["updated"]
    assert session.get(CONFIG_MAP, "settings", "lumen")["data"] == {"key": "value"}


def test_a_field_that_was_left_out_goes() -> None:
    session = FakeSession()
    apply(session, [config(one="1", two="2")])
    outcome = apply(session, [config(one="1")])
    assert outcome.changed
    assert session.get(CONFIG_MAP, "settings", "lumen")["data"] == {"one": "1"}
    assert '"two"' in outcome.diff[0]["before"]
    assert '"two"' not in outcome.diff[0]["after"]


def test_a_dry_run_says_what_would_be_and_does_nothing() -> None:
    session = FakeSession(config("there", key="old"))
    outcome = apply(session, [config("there", key="new"), config("new")], dry_run=True)
    assert sorted(str(change) for change in outcome.changes) == [
        "ConfigMap lumen/new created",
        "ConfigMap lumen/there updated",
    ]
    assert session.get(CONFIG_MAP, "there", "lumen")["data"] == {"key": "old"}
    assert session.find(CONFIG_MAP, "new", "lumen") is None


def test_a_dry_run_without_namespace_or_kind_predicts_from_what_would_be_sent() -> None:
    session = FakeSession()
    session.namespaces = set()
    session.unknown_kinds = {THING}
    outcome = apply(session, [config(), definition(), thing()], dry_run=True)
    assert {(change.kind, change.action, change.verified) for change in outcome.changes} == {
        ("ConfigMap", "created", False),
        ("CustomResourceDefinition", "created", True),
        ("Thing", "created", False),
    }
    assert str(outcome.changes[-1]) == "Thing lumen/one created (unverified)"


def test_a_run_without_the_namespace_fails() -> None:
    session = FakeSession()
    session.namespaces = set()
    with pytest.raises(AirgapError, match='namespaces "lumen" not found'):
        apply(session, [config()])


def test_definitions_are_established_before_what_needs_them() -> None:
    session = FakeSession()
    clock = FakeClock()
    condition = {"type": "Established", "status": "True"}
    clock.at(2, lambda: session.edit(CUSTOM_RESOURCE_DEFINITION, "things.lumen.example", None, _status(condition)))
    apply(session, [thing(), definition()], clock=clock)
    assert writes(session) == [("apply", "things.lumen.example"), ("apply", "one")]


def test_a_definition_whose_names_are_taken_stops_the_batch_before_what_needs_it() -> None:
    session = FakeSession()
    taken = {"type": "NamesAccepted", "status": "False", "message": "plural things is in use"}
    clock = FakeClock()
    clock.at(1, lambda: session.edit(CUSTOM_RESOURCE_DEFINITION, "things.lumen.example", None, _status(taken)))
    with pytest.raises(NotReady, match="plural things is in use"):
        apply(session, [thing(), definition()], clock=clock)
    assert writes(session) == [("apply", "things.lumen.example")]


def _status(condition: dict[str, Any]) -> dict[str, Any]:
    return {"status": {"conditions": [condition]}}


def test_prune_deletes_what_is_ours_and_not_wanted() -> None:
    foreign = config("foreign")
    foreign["metadata"]["labels"] = {}
    session = FakeSession(foreign)
    apply(session, [config("one"), config("two")])
    prune = Prune([CONFIG_MAP], "set=ours")
    predicted = apply(session, [config("one")], prune=prune, dry_run=True)
    assert session.find(CONFIG_MAP, "two", "lumen") is not None
    outcome = apply(session, [config("one")], prune=prune)
    assert outcome.changes == predicted.changes
    assert [str(change) for change in outcome.changes] == [
        "ConfigMap lumen/one unchanged",
        "ConfigMap lumen/two deleted",
    ]
    assert session.find(CONFIG_MAP, "foreign", "lumen") is not None


def test_remove_deletes_what_is_there() -> None:
    session = FakeSession()
    apply(session, [config("one")])
    assert [change.name for change in remove(session, [config("one"), config("two")]).changes] == ["one"]
    assert not remove(session, [config("one"), config("two")]).changed


def test_a_failure_in_the_middle_says_what_was_done_before() -> None:
    session = FakeSession()
    workload = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api", "namespace": "lumen"}}
    apply(session, [config()], workers=1)
    refused = Forbidden("apply Deployment lumen/api: not you", 403)
    original = session.apply

    def refusing(body: Any, *rest: Any) -> Any:
        if body["kind"] == "Deployment":
            raise refused
        return original(body, *rest)

    session.apply = refusing  # type: ignore[method-assign]
    with pytest.raises(Forbidden) as caught:
        apply(session, [config(key="new"), workload])
    assert [entry["name"] for entry in caught.value.details["applied"]] == ["settings"]


def test_what_a_secret_holds_is_never_shown() -> None:
    session = FakeSession()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "token", "namespace": "gitea"},
        "stringData": {"token": "hunter2"},
        "data": {"user": "bHVtZW4="},
    }
    first = apply(session, [secret])
    assert session.get(SECRET, "token", "gitea")["data"] == {"user": "bHVtZW4=", "token": "aHVudGVyMg=="}
    assert not apply(session, [secret]).changed
    second = apply(session, [{**copy.deepcopy(secret), "stringData": {"token": "hunter3"}}])
    for outcome in (first, second):
        text = str(outcome.diff)
        assert "hunter" not in text
        assert "aHVudGVy" not in text
    assert '"token": "(hidden, changed)"' in second.diff[0]["after"]
    assert '"user": "(hidden)"' in second.diff[0]["after"]


def test_an_object_twice_is_refused() -> None:
    session = FakeSession()
    with pytest.raises(AirgapError, match="ConfigMap lumen/settings comes twice"):
        apply(session, [config(), config()])
    assert writes(session) == []


@pytest.mark.parametrize(
    "broken", [{}, {"kind": "ConfigMap"}, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": None}]
)
def test_what_is_no_object_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(AirgapError, match="not an object"):
        apply(FakeSession(), [broken])


def test_an_object_without_its_namespace_is_refused() -> None:
    body = config()
    del body["metadata"]["namespace"]
    with pytest.raises(AirgapError, match="has no namespace"):
        apply(FakeSession(), [body])


def test_what_was_applied_beside_the_one_that_failed_is_told() -> None:
    session = FakeSession()
    original = session.apply

    def failing(body: Any, *rest: Any) -> Any:
        if body["metadata"]["name"] == "policy-3":
            raise Unreachable("gone", 500)
        return original(body, *rest)

    session.apply = failing  # type: ignore[method-assign]
    with pytest.raises(Unreachable) as caught:
        apply(session, [policy(number) for number in range(5)], workers=1)
    assert [entry["name"] for entry in caught.value.details["applied"]] == ["policy-0", "policy-1", "policy-2"]


@pytest.mark.parametrize(
    "broken",
    [
        {**config(), "metadata": {"name": "x", "namespace": "y", "annotations": {"on": datetime.date(2026, 1, 1)}}},
        {**config(), "kind": "Secret", "stringData": "text"},
        {**definition(), "spec": {}},
    ],
)
def test_an_object_of_the_wrong_form_is_named(broken: dict[str, Any]) -> None:
    with pytest.raises(AirgapError, match=f"{broken['kind']} .* is no valid object"):
        apply(FakeSession(), [broken])
