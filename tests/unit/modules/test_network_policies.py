# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module's options and results, and its docs."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.kinds import JOB, NETWORK_POLICY
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session
from ansible_collections.lumen.airgap.plugins.modules import network_policies as module
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run

DNS = {"name": "dns", "from": {"namespace": "lumen"}, "to": "dns"}
OPEN = {"name": "open", "from": "anywhere", "to": {"namespace": "lumen"}, "ports": ["8080"]}


@pytest.fixture(name="session")
def connected(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    fake = FakeSession({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lumen"}})
    monkeypatch.setattr(Session, "connect", lambda *_args, **_options: fake)
    return fake


def test_a_set_comes_and_goes(session: FakeSession, run: Run) -> None:
    arguments: dict[str, Any] = {"namespaces": ["lumen"], "flows": [DNS, OPEN]}
    predicted = run(module, check=True, **arguments)
    assert session.list(NETWORK_POLICY).items == []
    first = run(module, **arguments)
    assert first["changes"] == predicted["changes"]
    assert (first["changed"], first["policies"], first["unchanged"]) == (True, 3, 0)
    assert [change["name"] for change in first["changes"]] == [
        "airgap-open-ingress",
        "airgap-dns-egress",
        "airgap-default-deny",
    ]
    assert (first["enforcement"], first["probes"]) == ("unknown", [])
    second = run(module, **arguments)
    assert (second["changed"], second["changes"], second["unchanged"]) == (False, [], 3)
    gone = run(module, state="absent", **arguments)
    assert (gone["changed"], gone["policies"], len(gone["changes"])) == (True, 0, 3)


def test_flows_that_have_no_part_are_told(session: FakeSession, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(module.AnsibleModule, "warn", lambda _self, text, **_options: told.append(text))
    result = run(module, namespaces=["lumen"], flows=[DNS, {**DNS, "name": "other", "from": {"namespace": "x"}}])
    assert result["unused_flows"] == ["other"]
    assert told == ["No namespace that is denied has a part in: other"]


def test_a_refusal_has_its_violations_beside_the_message(session: FakeSession, run: Run) -> None:
    result = run(module, namespaces=["lumen"])
    assert result["failed"]
    assert result["msg"].startswith("Nothing was applied. DNS would be cut: lumen/(any pod)")
    assert result["violations"][0]["policies"] == ["lumen/airgap-default-deny"]
    assert run(module, namespaces=["lumen"], allow_dns_cut=True)["dns_cut"] == ["lumen/(any pod)"]


def test_a_probe_needs_its_image_and_a_flow_that_fits(session: FakeSession, run: Run) -> None:
    assert "probe_image" in run(module, probe=True)["msg"]
    result = run(module, namespaces=["lumen"], flows=[DNS], probe=True, probe_image="probe", probe_flows=["dns"])
    assert "dns, which cannot be proved" in result["msg"]
    assert session.list(NETWORK_POLICY).items == []
    result = run(module, probe=True, probe_image="probe", probe_deadline=0)
    assert result["msg"].startswith("The option probe_deadline must be more than 0")


def test_check_mode_probes_nothing(session: FakeSession, run: Run) -> None:
    flow = {"name": "scrape", "from": {"namespace": "x"}, "to": {"namespace": "lumen"}, "ports": [8080]}
    arguments: dict[str, Any] = {"namespaces": ["lumen"], "flows": [DNS, flow], "probe": True, "probe_image": "probe"}
    result = run(module, check=True, **arguments)
    assert (result["enforcement"], result["probes"]) == ("unknown", [])
    assert session.list(JOB).items == []


def test_a_misspelt_option_of_a_flow(session: FakeSession, run: Run) -> None:
    result = run(module, namespaces=["lumen"], flows=[{**DNS, "port": 5}])
    assert "port. Supported parameters include" in result["msg"]


def test_the_options_are_the_documented_ones() -> None:
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert set(options) | {"kubeconfig", "context"} == set(module.ARGUMENT_SPEC)
    for name, option in options.items():
        spec = module.ARGUMENT_SPEC[name]
        assert (option["type"], option.get("default")) == (spec["type"], spec.get("default")), name
