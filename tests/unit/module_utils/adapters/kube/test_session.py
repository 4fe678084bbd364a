# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests as they go out, answers and errors as they come back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube import kinds
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.patience import Patience
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import (
    Conflict,
    Event,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    Session,
    Unreachable,
)
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.transport import Response, TransportFailure
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock

CORE = {
    "resources": [
        {"name": "pods", "kind": "Pod", "namespaced": True},
        {"name": "pods/log", "kind": "Pod", "namespaced": True},
        {"name": "configmaps", "kind": "ConfigMap", "namespaced": True},
        {"name": "namespaces", "kind": "Namespace", "namespaced": False},
        {"name": "serviceaccounts", "kind": "ServiceAccount", "namespaced": True},
    ]
}
ARGO = {"resources": [{"name": "rollouts", "kind": "Rollout", "namespaced": True}]}


class FakeLines:
    def __init__(self, *entries: Any) -> None:
        self.entries = entries
        self.closed = False

    def __iter__(self) -> Any:
        for entry in self.entries:
            if isinstance(entry, BaseException):
                raise entry
            yield entry if isinstance(entry, bytes) else json.dumps(entry).encode()

    def close(self) -> None:
        self.closed = True


class FakeTransport:
    """Answers from a list in order; discovery on its own."""

    server = "https://192.168.2.2:6443"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[Any, ...]] = []
        self.discovered: list[str] = []

    def request(self, method: str, path: str, query: Any = None, body: Any = None, content_type: str = "", timeout: float = 0) -> Response:  # fmt: skip  # noqa: E501
        if path in ("/api/v1", "/apis/argoproj.io/v1alpha1"):
            self.discovered.append(path)
            return Response(200, json.dumps(CORE if path == "/api/v1" else ARGO).encode())
        self.requests.append(
            (method, path, dict(query or {}), json.loads(body) if body else None, content_type, timeout)
        )
        return self._answer()

    def stream(self, path: str, query: Any, timeout: float, silence: float) -> Any:
        self.requests.append(("STREAM", path, dict(query), None, timeout, silence))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _answer(self) -> Response:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Response) else Response(200, json.dumps(answer).encode())


def status(code: int, reason: str, message: str) -> Response:
    return Response(code, json.dumps({"kind": "Status", "code": code, "reason": reason, "message": message}).encode())


def connect(*answers: Any) -> tuple[Session, FakeTransport]:
    transport = FakeTransport(*answers)
    return Session(transport, timeout=7.0), transport  # type: ignore[arg-type]


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "lumen"}}


def test_get_asks_for_the_plural_with_a_timeout() -> None:
    session, transport = connect(POD)
    assert session.get(kinds.POD, "a", "lumen") == POD
    assert transport.requests == [("GET", "/api/v1/namespaces/lumen/pods/a", {}, None, "application/json", 7.0)]


def test_discovery_is_asked_once_for_a_group_and_version() -> None:
    session, transport = connect(POD, POD, POD)
    session.get(kinds.POD, "a", "lumen")
    session.get(kinds.CONFIG_MAP, "a", "lumen")
    session.get(kinds.ROLLOUT, "a", "lumen")
    assert transport.discovered == ["/api/v1", "/apis/argoproj.io/v1alpha1"]


def test_a_kind_that_comes_later_is_discovered_again() -> None:
    session, transport = connect(POD)
    session.get(kinds.POD, "a", "lumen")
    with pytest.raises(NotFound):
        session.find(kinds.SECRET, "a", "lumen")
    CORE["resources"].append({"name": "secrets", "kind": "Secret", "namespaced": True})
    try:
        transport.answers.append(POD)
        assert session.get(kinds.SECRET, "a", "lumen") == POD
    finally:
        CORE["resources"].pop()


def test_a_missing_crd_is_named() -> None:
    session, _transport = connect()
    with pytest.raises(NotFound) as caught:
        session.get(kinds.ANALYSIS_RUN, "a", "lumen")
    assert "AnalysisRun of argoproj.io/v1alpha1" in caught.value.message
    assert "https://192.168.2.2:6443" in caught.value.message
    assert caught.value.reason == "UnknownKind"


def test_a_missing_group_is_a_missing_crd_too() -> None:
    session, transport = connect(status(404, "NotFound", "the server could not find the requested resource"))
    with pytest.raises(NotFound, match="Lease of coordination"):
        session.find(kinds.LEASE, "a", "lumen")
    assert transport.requests[0][1] == "/apis/coordination.k8s.io/v1"


def test_a_cluster_scoped_kind_has_no_namespace_in_its_path() -> None:
    session, transport = connect(POD)
    session.get(kinds.NAMESPACE, "lumen", "ignored")
    assert transport.requests[0][1] == "/api/v1/namespaces/lumen"


def test_find_returns_none_for_what_does_not_exist() -> None:
    session, _transport = connect(status(404, "NotFound", 'pods "a" not found'))
    assert session.find(kinds.POD, "a", "lumen") is None


def test_list_reads_all_pages_and_names_the_kind_of_the_items() -> None:
    first = {"metadata": {"resourceVersion": "5", "continue": "more"}, "items": [{"metadata": {"name": "a"}}]}
    second = {"metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"name": "b"}}]}
    session, transport = connect(first, second)
    listing = session.list(kinds.POD, "lumen", label_selector="app=x", field_selector="spec.nodeName=n")
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b"]
    assert {item["kind"] for item in listing.items} == {"Pod"}
    assert listing.resource_version == "5"
    assert transport.requests[0][2]["labelSelector"] == "app=x"
    assert transport.requests[0][2]["fieldSelector"] == "spec.nodeName=n"
    assert transport.requests[1][2]["continue"] == "more"


def test_list_of_all_namespaces() -> None:
    session, transport = connect({"metadata": {}, "items": None})
    assert session.list(kinds.POD).items == []
    assert transport.requests[0][1] == "/api/v1/pods"


def test_create_and_replace() -> None:
    session, transport = connect(POD, POD)
    session.create(POD)
    session.replace(POD)
    assert [request[:2] for request in transport.requests] == [
        ("POST", "/api/v1/namespaces/lumen/pods"),
        ("PUT", "/api/v1/namespaces/lumen/pods/a"),
    ]
    assert transport.requests[0][3] == POD


@pytest.mark.parametrize(
    ("patch_type", "content_type"),
    [("merge", "application/merge-patch+json"), ("json", "application/json-patch+json")],
)
def test_patch(patch_type: str, content_type: str) -> None:
    session, transport = connect(POD)
    session.patch(kinds.ROLLOUT, "a", "lumen", {"status": {"abort": True}}, patch_type, "status", dry_run=True)
    assert transport.requests == [
        (
            "PATCH",
            "/apis/argoproj.io/v1alpha1/namespaces/lumen/rollouts/a/status",
            {"dryRun": "All"},
            {"status": {"abort": True}},
            content_type,
            7.0,
        )
    ]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, Invalid),
        (401, Forbidden),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (422, Invalid),
        (429, Unreachable),
        (500, Unreachable),
        (408, Unreachable),
        (503, Unreachable),
    ],
)
def test_an_error_says_what_where_and_why(code: int, error: type[KubeError]) -> None:
    session, _transport = connect(status(code, "SomeReason", "the reason in words"))
    with pytest.raises(KubeError) as caught:
        session.get(kinds.POD, "a", "lumen")
    assert type(caught.value) is error
    assert caught.value.message == (
        f"get Pod lumen/a: https://192.168.2.2:6443 answered {code} SomeReason: the reason in words"
    )
    assert (caught.value.status, caught.value.reason) == (code, "SomeReason")


def test_an_api_server_that_does_not_answer() -> None:
    session, _transport = connect(TransportFailure("Connection refused"))
    with pytest.raises(Unreachable) as caught:
        session.list(kinds.POD, "lumen")
    assert caught.value.message == (
        "list Pod in namespace lumen: no answer from https://192.168.2.2:6443: Connection refused"
    )
    assert caught.value.status is None


def test_something_else_than_an_api_server() -> None:
    session, _transport = connect(Response(200, b"<html>Welcome"))
    with pytest.raises(KubeError, match="is it an API server"):
        session.get(kinds.POD, "a", "lumen")


def test_watch_yields_events_and_bookmarks() -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}
    lines = FakeLines({"type": "ADDED", "object": POD}, bookmark)
    session, transport = connect(lines)
    watch = session.watch(kinds.POD, "lumen", "5", label_selector="app=x", timeout=30)
    assert list(watch) == [Event("ADDED", POD), Event("BOOKMARK", bookmark["object"])]  # type: ignore[arg-type]
    _method, path, query, _body, timeout, silence = transport.requests[0]
    assert path == "/api/v1/namespaces/lumen/pods"
    assert query == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": 30,
        "resourceVersion": "5",
        "labelSelector": "app=x",
    }
    assert (timeout, silence) == (7.0, 37.0)
    watch.close()
    assert lines.closed


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "old"}}, Gone),
        ({"type": "ERROR", "object": {"kind": "Status", "code": 500, "reason": "X", "message": "y"}}, KubeError),
        (TransportFailure("Connection reset"), Unreachable),
        (b'{"type": "ADD', Unreachable),
    ],
)
def test_a_watch_that_breaks(entry: Any, error: type[KubeError]) -> None:
    session, _transport = connect(FakeLines({"type": "ADDED", "object": POD}, entry))
    watch = iter(session.watch(kinds.POD, "lumen", "5"))
    assert next(watch).type == "ADDED"
    with pytest.raises(error, match="watch Pod in namespace lumen"):
        next(watch)


@pytest.mark.parametrize(
    ("answer", "error"),
    [(status(410, "Expired", "too old"), Gone), (TransportFailure("refused"), Unreachable)],
)
def test_a_watch_that_does_not_begin(answer: Any, error: type[KubeError]) -> None:
    session, _transport = connect(answer)
    with pytest.raises(error):
        session.watch(kinds.POD, "lumen", "5")


def test_service_proxy() -> None:
    session, transport = connect(Response(200, b"body"))
    body = session.service_proxy("monitoring", "prometheus", 9090, "/api/v1/query", {"query": "up"}, timeout=3.0)
    assert body == b"body"
    method, path, query, _body, _type, timeout = transport.requests[0]
    assert (method, timeout) == ("GET", 3.0)
    assert path == "/api/v1/namespaces/monitoring/services/prometheus:9090/proxy/api/v1/query"
    assert query == {"query": "up"}


@pytest.mark.parametrize(
    ("answer", "error", "body"),
    [
        (status(404, "NotFound", 'services "prometheus" not found'), NotFound, ""),
        (status(403, "Forbidden", "cannot get services/proxy"), Forbidden, ""),
        (status(503, "ServiceUnavailable", "no endpoints available"), KubeError, ""),
        (Response(404, b"404 page not found"), KubeError, "404 page not found"),
        (Response(400, b'{"error":"parse error"}'), KubeError, '{"error":"parse error"}'),
        (Response(302, b"Found"), KubeError, "Found"),
        (TransportFailure("timed out"), Unreachable, ""),
    ],
)  # fmt: skip
def test_service_proxy_tells_its_own_errors_from_those_of_the_service(
    answer: Any, error: type[KubeError], body: str
) -> None:
    session, _transport = connect(answer)
    with pytest.raises(KubeError) as caught:
        session.service_proxy("monitoring", "prometheus", 9090, "api/v1/query", {})
    assert type(caught.value) is error
    assert caught.value.body == body
    assert "Service monitoring/prometheus:9090 api/v1/query" in caught.value.message


def test_apply_is_strict_and_says_whether_it_created() -> None:
    session, transport = connect(Response(201, json.dumps(POD).encode()), POD)
    assert session.apply(POD, "us") == (POD, True)
    assert session.apply(POD, "us", force=True, dry_run=True) == (POD, False)
    query = {"fieldManager": "us", "force": "false", "fieldValidation": "Strict"}
    path, content_type = "/api/v1/namespaces/lumen/pods/a", "application/apply-patch+yaml"
    assert transport.requests == [
        ("PATCH", path, query, POD, content_type, 7.0),
        ("PATCH", path, {**query, "force": "true", "dryRun": "All"}, POD, content_type, 7.0),
    ]


def test_an_apply_that_would_take_fields_from_others_names_them() -> None:
    cause = {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "kubectl-edit" using apps/v1 at 2026-01-01T00:00:00Z',
        "field": ".spec.replicas",
    }
    answer = {
        "kind": "Status",
        "code": 409,
        "reason": "Conflict",
        "message": "1 conflict",
        "details": {"causes": [cause]},
    }
    session, _transport = connect(Response(409, json.dumps(answer).encode()))
    with pytest.raises(Conflict) as caught:
        session.apply(POD, "us")
    assert caught.value.details["conflicts"] == [{"manager": "kubectl-edit", "field": ".spec.replicas"}]


def test_delete_says_what_becomes_of_what_belongs_to_it() -> None:
    session, transport = connect({"kind": "Status", "status": "Success"}, POD, POD)
    session.delete(kinds.POD, "a", "lumen")
    session.delete(kinds.POD, "a", "lumen", "Orphan", dry_run=True)
    session.delete(kinds.POD, "a", "lumen", only={"metadata": {"name": "a", "uid": "u", "resourceVersion": "7"}})
    assert [request[3] for request in transport.requests] == [
        {"propagationPolicy": "Background"},
        {"propagationPolicy": "Orphan", "dryRun": ["All"]},
        {"propagationPolicy": "Background", "preconditions": {"uid": "u", "resourceVersion": "7"}},
    ]


def test_which_kinds_have_namespaces() -> None:
    session, _transport = connect()
    assert session.namespaced(kinds.POD)
    assert not session.namespaced(kinds.NAMESPACE)


REVIEW = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": {"question": "?"}}


def test_a_review_is_asked_for_without_a_name() -> None:
    session, transport = connect({**REVIEW, "status": {"allowed": True}})
    assert session.ask(REVIEW)["status"]["allowed"]
    assert transport.requests[0][:4] == ("POST", "/apis/argoproj.io/v1alpha1/rollouts", {}, REVIEW)


def test_a_token_is_requested_and_comes_back_alone() -> None:
    session, transport = connect({"status": {"token": "abc", "expirationTimestamp": "2026-01-01T00:00:00Z"}})
    assert session.request_token("release", "lumen", 600.5) == "abc"
    method, path, _query, body, *_rest = transport.requests[0]
    assert (method, path) == ("POST", "/api/v1/namespaces/lumen/serviceaccounts/release/token")
    assert body["spec"] == {"expirationSeconds": 600}


def test_an_unknown_field_in_an_apply_is_no_failure_of_the_server() -> None:
    text = 'failed to create typed patch object (lumen/a; /v1, Kind=Pod): .spec.containers[name="a"].imge: not declared'
    session, _transport = connect(status(500, "", text))
    with pytest.raises(Invalid, match="imge"):
        session.apply(POD, "us")


# An API server that restarts


def test_a_patient_session_makes_a_request_again_as_it_was(clock: FakeClock) -> None:
    session, transport = connect(TransportFailure("refused"), status(503, "ServiceUnavailable", "starting"), POD)
    assert session.patient(Patience(clock, 60.0)).replace(POD) == POD
    assert len(transport.requests) == 3
    assert transport.requests[0] == transport.requests[2]
    assert clock.monotonic() == 2


def test_another_session_leaves_that_to_its_caller() -> None:
    session, transport = connect(TransportFailure("refused"), POD)
    with pytest.raises(Unreachable):
        session.replace(POD)
    assert len(transport.requests) == 1
