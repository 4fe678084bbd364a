# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action analysis: what it returns, prints and refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lumen.airgap.plugins.action import analysis as action
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.options import GATE_OPTIONS
from ansible_collections.lumen.airgap.plugins.modules import analysis as documentation
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream

ROLLOUT = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Rollout",
    "metadata": {"name": "lumen-api", "namespace": "lumen"},
    "status": {"currentPodHash": "64bdf7c984", "stableRS": "b67698557"},
}
TEMPLATE = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "AnalysisTemplate",
    "metadata": {"name": "success-rate", "namespace": "lumen"},
    "spec": {
        "args": [{"name": "hash"}],
        "metrics": [
            {
                "name": "success-rate",
                "interval": "1m",
                "count": 3,
                "failureLimit": 1,
                "successCondition": "result[0] >= 0.95",
                "provider": {"prometheus": {"query": 'rate({hash="{{args.hash}}"})'}},
            }
        ],
    },
}
LATEST = {"hash": {"valueFrom": {"podTemplateHashValue": "Latest"}}}


class Cluster(FakeSession):
    """With a Prometheus that always answers the same."""

    def __init__(self, value: str) -> None:
        super().__init__(ROLLOUT, TEMPLATE)
        self.queries: list[str] = []
        self.value = value
        self.proxy = self.measure

    def measure(self, _namespace: str, _service: str, _port: int, _path: str, query: dict[str, str]) -> bytes:
        self.queries.append(query["query"])
        result = [{"metric": {}, "value": [1767225600, self.value]}]
        return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


def perform(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster, check_mode: bool = False, **options: Any
) -> tuple[dict[str, Any], list[str]]:
    monkeypatch.setattr(Session, "connect", lambda *_args, **_kwargs: cluster)
    module = object.__new__(action.ActionModule)
    module.clock, module.check_mode = FakeClock(), check_mode
    given = {"template": "success-rate", "namespace": "lumen", "rollout": "lumen-api", "args": LATEST, **options}
    validation = ArgumentSpecValidator(action.ActionModule.ARGUMENT_SPEC).validate(given)
    assert not validation.error_messages
    out = FakeStream()
    return module.run_streaming(validation.validated_parameters, out), out.lines


def test_success(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("0.98")
    result, lines = perform(monkeypatch, cluster, query="measurements[].value")
    assert (result["phase"], result["changed"], "failed" in result) == ("Successful", False, False)
    assert result["query_result"] == ["[0.98]"] * 3
    assert cluster.queries == ['rate({hash="64bdf7c984"})'] * 3
    assert lines == [
        "analysis AnalysisTemplate lumen/success-rate: success-rate, 3 checks every 60 s",
        "check 1/3 success-rate 0.98 \u2714",
        "check 2/3 success-rate 0.98 \u2714",
        "check 3/3 success-rate 0.98 \u2714",
        "analysis AnalysisTemplate lumen/success-rate: Successful",
    ]


def test_failure_fails_the_task_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _lines = perform(monkeypatch, Cluster("0.5"))
    assert (result["failed"], result["phase"]) == (True, "Failed")
    assert result["msg"] == (
        "Analysis AnalysisTemplate lumen/success-rate ended Failed: "
        'Metric "success-rate" assessed Failed due to failed (2) > failureLimit (1). success-rate measured [0.5], [0.5]'
    )
    assert [one["value"] for one in result["measurements"]] == ["[0.5]", "[0.5]"]


def test_error_fails_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _lines = perform(monkeypatch, Cluster("nonsense"))
    assert (result["failed"], result["phase"]) == (True, "Error")
    assert "success-rate measured error, error, error, error, error" in result["msg"]


def test_check_mode_asks_once_and_gives_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("0.5")
    result, lines = perform(monkeypatch, cluster, check_mode=True)
    assert result == {
        "changed": False,
        "name": "AnalysisTemplate lumen/success-rate",
        "phase": None,
        "answers": [{"metric": "success-rate", "query": 'rate({hash="64bdf7c984"})', "value": "[0.5]"}],
    }
    assert (len(cluster.queries), lines) == (1, ["success-rate is [0.5] now (check mode: no verdict)"])


def test_a_wrong_query_is_found_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("1")
    with pytest.raises(AirgapError, match="JMESPath"):
        perform(monkeypatch, cluster, query="[")
    assert (cluster.calls, cluster.queries) == ([], [])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"deadline": 0}, "deadline"),
        ({"prometheus": {"timeout": -1}}, "prometheus.timeout"),
        ({"prometheus": {"port": 70000}}, "prometheus.port"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("1")
    with pytest.raises(AirgapError, match=f"The option {name} must be"):
        perform(monkeypatch, cluster, **options)
    assert cluster.calls == []


def test_what_cannot_succeed_before_the_deadline_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("1")
    for check_mode in (False, True):
        with pytest.raises(AirgapError, match="needs 120 s to be Successful, and the option deadline gives it 90 s"):
            perform(monkeypatch, cluster, check_mode, deadline=90)
    assert cluster.queries == []


def test_no_verdict_before_the_deadline_fails_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("1")
    good, bad = cluster.measure, iter([True, False, True, False, True])
    cluster.proxy = lambda *asked: b"" if next(bad, False) else good(*asked)
    result, _lines = perform(monkeypatch, cluster, deadline=125)
    assert (result["failed"], result["phase"]) == (True, "Error")
    assert "no verdict within the deadline of 125 s; last seen: success-rate" in result["msg"]


def test_unknown_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AirgapError, match="The Rollout lumen/other does not exist"):
        perform(monkeypatch, Cluster("1"), rollout="other")


def test_no_cluster_is_needed_for_inline_metrics_and_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "connect", lambda *_args: pytest.fail("connected"))
    module = object.__new__(action.ActionModule)
    args = {"template": None, "file": None, "namespace": None, "prometheus": {"url": "http://prometheus:9090"}}
    assert module._session(args) is None


def test_options_are_documented() -> None:
    documented = set(yaml.safe_load(documentation.DOCUMENTATION)["options"])
    fragments = {"kubeconfig", "context", "prometheus", *GATE_OPTIONS}
    assert documented | fragments == set(action.ActionModule.ARGUMENT_SPEC)


def answer(result: Any, kind: str = "vector", **more: Any) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}, **more}).encode()


def test_extensions_are_shown_and_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    result, lines = perform(monkeypatch, Cluster("0.5"), consecutive_failure_limit=1, on_nan="inconclusive")
    assert lines[0] == (
        "analysis AnalysisTemplate lumen/success-rate: success-rate, 3 checks every 60 s, "
        "consecutive_failure_limit: 1, on_nan: inconclusive (ours)"
    )
    assert len(lines) == 3
    assert "consecutiveFailures (1) >= consecutive_failure_limit (1) (ours)" in result["msg"]
    result, _lines = perform(monkeypatch, Cluster("NaN"), extensions={"success-rate": {"on_nan": "pass"}})
    assert result["phase"] == "Successful"


def test_warnings_of_prometheus_are_ansibles(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("1")
    cluster.proxy = lambda *_asked: answer([{"value": [1, "1"]}], warnings=["partial answer"])
    result, _lines = perform(monkeypatch, cluster)
    assert result["warnings"] == ["Prometheus warns: partial answer"]
    result, _lines = perform(monkeypatch, cluster, check_mode=True)
    assert result["warnings"] == ["Prometheus warns: partial answer"]


def test_a_secret_is_nowhere_in_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("1")
    metadata = {"name": "token", "namespace": "lumen"}
    cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"key": "aHVudGVyMg=="}})
    args = {"hash": {"valueFrom": {"secretKeyRef": {"name": "token", "key": "key"}}}}
    told: list[Any] = [perform(monkeypatch, cluster, args=args), perform(monkeypatch, cluster, True, args=args)]
    assert cluster.queries[0] == 'rate({hash="hunter2"})'
    refused = {"status": "error", "errorType": "bad_data", "error": f"no such thing as {cluster.queries[0]}"}
    cluster.proxy = lambda *_asked: json.dumps(refused).encode()
    told.append(perform(monkeypatch, cluster, args=args))
    assert "no such thing as rate" in str(told[-1])
    assert "hunter2" not in str(told)


def test_fields_of_a_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("1")
    cluster.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api", "namespace": "lumen"}})
    args = {"hash": {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}}
    perform(monkeypatch, cluster, rollout=None, deployment="api", args=args)
    assert cluster.queries[0] == 'rate({hash="api"})'
    perform(monkeypatch, cluster, args=args)
    assert cluster.queries[-1] == 'rate({hash="lumen-api"})'


def test_what_is_wrong_is_said_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for options, reason in (
        ({"template": "nowhere"}, "does not exist"),
        ({"args": {}}, "args.hash was not resolved"),
        ({"on_nan": "fail", "extensions": {"rate": {}}}, "no such metric"),
        ({"min_samples": {"query": "up", "at_least": 0}}, "at_least must be more than 0"),
        ({"consecutive_failure_limit": -1}, "consecutive_failure_limit must be a whole number"),
    ):
        cluster = Cluster("1")
        with pytest.raises(AirgapError, match=reason):
            perform(monkeypatch, cluster, **options)
        assert cluster.queries == []
