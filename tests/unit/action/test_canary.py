# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action canary: options to a release, release to result."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lumen.airgap.plugins.action import canary as action
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import LEASE, ROLLOUT
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_record import LeaseLost, Record
from ansible_collections.lumen.airgap.plugins.modules import canary as documentation
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.deployments import FakeDeployments, new_deployment
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.fakes.rollouts import NAME, NAMESPACE, FakeRollouts, new_rollout
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream
from ansible_collections.lumen.airgap.tests.unit.fakes.watcher import FakeWatcher

OLD, NEW = "registry/api:v1.0.0", "registry/api:v1.1.0"
STEPS: list[dict[str, Any]] = [{"setWeight": 20}, {"pause": {}}, {"setWeight": 100}]
GATE = {
    "metrics": [
        {
            "name": "success-rate",
            "successCondition": "result[0] >= 0.95",
            "provider": {"prometheus": {"query": "up"}},
        }
    ]
}


class Site:
    """A cluster with an app, its controller and a Prometheus that always answers the same."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, value: str = "1") -> None:
        self.session = FakeSession(new_rollout(OLD, STEPS))
        self.clock = FakeClock()
        self.controller = FakeRollouts(self.session, self.clock)
        result = [{"metric": {}, "value": [0, value]}]
        answer = {"status": "success", "data": {"resultType": "vector", "result": result}}
        self.session.proxy = lambda *_arguments: json.dumps(answer).encode()
        monkeypatch.setattr(Session, "connect", lambda *_args, **_kwargs: self.session)
        monkeypatch.setattr(action, "Watcher", lambda session, wanted: FakeWatcher(session, wanted, self.clock))

    def perform(self, check_mode: bool = False, **options: Any) -> tuple[dict[str, Any], list[str]]:
        module = object.__new__(action.ActionModule)
        module.clock, module.check_mode = self.clock, check_mode
        given = {"name": NAME, "namespace": NAMESPACE, "image": NEW, **options}
        validation = ArgumentSpecValidator(action.ActionModule.ARGUMENT_SPEC).validate(given)
        assert not validation.error_messages
        out = FakeStream()
        return module.run_streaming(validation.validated_parameters, out), out.lines


def test_promoted_through_our_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    result, lines = Site(monkeypatch).perform(gate=GATE, query="outcome")
    assert (result["outcome"], result["query_result"], result["driver"]) == ("promoted", "promoted", "rollout")
    assert any(line.endswith("setWeight 20 → 1 canary / 2 stable (33 % actual)") for line in lines)
    assert any(line.endswith("  check 1/1 success-rate 1 ✔") for line in lines)


def test_the_gate_takes_what_the_analysis_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extensions, and fields of the app as arguments."""
    site = Site(monkeypatch, "NaN")
    asked: list[str] = []
    answer = site.session.proxy

    def proxy(*request: Any) -> bytes:
        asked.append(request[-1]["query"])
        return answer(*request)

    site.session.proxy = proxy
    metric = {**GATE["metrics"][0], "provider": {"prometheus": {"query": "up{app='{{args.app}}'}"}}}
    args = {"app": {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}}
    result, lines = site.perform(gate={"metrics": [metric], "args": args, "on_nan": "pass"})
    assert result["outcome"] == "promoted"
    assert asked == [f"up{{app='{NAME}'}}"]
    assert any("1 check, on_nan: pass (ours)" in line for line in lines)
    assert any(line.endswith("success-rate NaN ✔ NaN in the result, on_nan: pass (ours)") for line in lines)


def test_a_secret_of_the_gate_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)
    metadata = {"name": "token", "namespace": NAMESPACE}
    site.session.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"key": "aHVudGVyMg=="}})
    refused = {"status": "error", "errorType": "bad_data", "error": "unexpected hunter2 in up{token='hunter2'}"}
    site.session.proxy = lambda *_asked: json.dumps(refused).encode()
    metric = {**GATE["metrics"][0], "provider": {"prometheus": {"query": "up{token='{{args.token}}'}"}}}
    args = {"token": {"valueFrom": {"secretKeyRef": {"name": "token", "key": "key"}}}}
    record = Record.acquire(site.session, site.clock, NAMESPACE, NAME, "v1.1.0", "a", {})  # type: ignore[arg-type]
    gate = {"metrics": [metric], "args": args}
    result, lines = site.perform(gate=gate, release={"id": record.release_id, "run": "a"})
    assert "unexpected ***** in up" in result["msg"]
    assert any("unexpected ***** in up" in line for line in lines)
    assert "gate at step" in str(site.session.bodies)  # the journal
    assert "hunter2" not in str([result, lines, site.session.bodies])


def test_rolled_back_fails_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _lines = Site(monkeypatch, "0.5").perform(gate=GATE)
    assert (result["outcome"], result["failed"]) == ("rolled_back", True)
    assert result["msg"].startswith("rolled_back: gate at step 2: Failed")


def plain_site(monkeypatch: pytest.MonkeyPatch, value: str = "1") -> Site:
    site = Site(monkeypatch, value)
    site.session = FakeSession(new_deployment(OLD))
    site.clock = FakeClock()
    FakeDeployments(site.session, site.clock)
    result = [{"metric": {}, "value": [0, value]}]
    answer = {"status": "success", "data": {"resultType": "vector", "result": result}}
    site.session.proxy = lambda *_arguments: json.dumps(answer).encode()
    return site


@pytest.mark.parametrize(("value", "outcome"), [("1", "promoted"), ("0.5", "rolled_back")])
def test_a_deployment_goes_the_same_way(monkeypatch: pytest.MonkeyPatch, value: str, outcome: str) -> None:
    site = plain_site(monkeypatch, value)
    result, lines = site.perform(driver="deployment", steps=STEPS, gate=GATE)
    assert (result["outcome"], result["driver"]) == (outcome, "deployment")
    assert any(line.endswith("setWeight 20 → 1 canary / 2 stable (33 % actual)") for line in lines)


def test_the_steps_of_a_deployment_are_those_that_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AirgapError, match="Give them with 'steps'") as caught:
        plain_site(monkeypatch).perform(driver="deployment")
    assert caught.value.details["driver"] == "deployment"
    planned, _lines = plain_site(monkeypatch).perform(check_mode=True, driver="deployment", steps=STEPS)
    assert [step["weight"] for step in planned["planned"]] == [20, 20, 100]


def test_the_steps_of_a_rollout_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Site(monkeypatch).perform(steps=STEPS, gate=GATE)[0]["outcome"] == "promoted"
    for options in ({"steps": STEPS[:1]}, {"analysis": {"templates": [{"templateName": "a"}]}}):
        site = Site(monkeypatch)
        with pytest.raises(AirgapError, match="the controller runs its own"):
            site.perform(**options)
        assert site.session.bodies == []


def test_a_refusal_says_that_the_release_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)
    site.session.remove(ROLLOUT, NAME, NAMESPACE)
    with pytest.raises(AirgapError, match="does not exist") as raised:
        site.perform()
    assert raised.value.details["outcome"] == "failed"
    assert raised.value.details["driver"] == "rollout"


def test_check_mode_takes_no_lease_and_touches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)
    result, lines = site.perform(check_mode=True, release={"id": "api-v1.1.0-1", "run": "a"})
    assert [planned["actual_weight"] for planned in result["planned"]] == [33, 33, 100]
    assert [found["rule"] for found in result["lint"]] == ["service-without-router"]
    assert lines[0].startswith("00:00 warning: service-without-router: Rollout lumen/api, spec.strategy.canary.stable")
    assert lines[1:] == [
        "setWeight 20 → 1 canary / 2 stable",
        "pause → 1 canary / 2 stable",
        "setWeight 100 → 2 canary / 0 stable",
    ]
    assert site.session.bodies == []
    assert not any(kind == LEASE for _method, kind, _namespace, _name in site.session.calls)


def test_the_release_must_hold_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)
    with pytest.raises(LeaseLost):
        site.perform(release={"id": "api-v1.1.0-1", "run": "a"})
    Record.acquire(site.session, site.clock, NAMESPACE, NAME, "v1.1.0", "a", {})  # type: ignore[arg-type]
    result, _lines = site.perform(gate=GATE, release={"id": "api-v1.1.0-1", "run": "a"})
    assert result["outcome"] == "promoted"
    with pytest.raises(LeaseLost):
        site.perform(release={"id": "api-v1.1.0-1", "run": "b"})


@pytest.mark.parametrize(
    "options",
    [
        {"gate": {}},
        {"gate": {"template": "a", "metrics": [{}]}},
        {"on_failure": "pray"},
        {"release": {"id": "only"}},
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any]) -> None:
    given = {"name": NAME, "namespace": NAMESPACE, **options}
    assert ArgumentSpecValidator(action.ActionModule.ARGUMENT_SPEC).validate(given).error_messages


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"step_deadline": 0}, "step_deadline"),
        ({"step_deadline": "inf"}, "step_deadline"),
        ({"prometheus": {"timeout": 0}}, "prometheus.timeout"),
        ({"prometheus": {"port": 0}}, "prometheus.port"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)
    with pytest.raises(AirgapError, match=f"The option {name} must be"):
        site.perform(**options)
    assert site.session.calls == []


def test_documentation_and_argument_spec_agree() -> None:
    options = yaml.safe_load(documentation.DOCUMENTATION)["options"]
    shared = {"kubeconfig", "context", "prometheus", "gate"}
    assert set(options) | shared == set(action.ActionModule.ARGUMENT_SPEC)
    for name, option in options.items():
        compare(option, action.ActionModule.ARGUMENT_SPEC[name])


def compare(documented: dict[str, Any], specified: dict[str, Any]) -> None:
    for key in ("type", "default", "choices", "elements"):
        assert documented.get(key) == specified.get(key)
    assert documented.get("required", False) == specified.get("required", False)
    assert set(documented.get("suboptions", {})) == set(specified.get("options", {}))
    for name, option in documented.get("suboptions", {}).items():
        compare(option, specified["options"][name])


def test_everything_that_is_returned_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    documented = set(yaml.safe_load(documentation.RETURN)) | {"changed", "failed", "msg"}
    site = Site(monkeypatch, "0.5")
    planned, _lines = site.perform(check_mode=True)
    result, _lines = site.perform(gate=GATE)
    assert set(planned) | set(result) <= documented
