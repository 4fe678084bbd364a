# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module rollout_info on a cluster in memory."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session, Unreachable
from ansible_collections.lumen.airgap.plugins.modules import rollout_info as module
from ansible_collections.lumen.airgap.tests.unit.fakes.canary_lab import Lab
from ansible_collections.lumen.airgap.tests.unit.fakes.rollouts import NAME, NAMESPACE
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run


@pytest.fixture(autouse=True)
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    found = Lab()
    monkeypatch.setattr(Session, "connect", lambda *_args, **_kwargs: found.session)
    return found


@pytest.mark.parametrize("which", [{"name": NAME}, {"names": [NAME]}, {}])
@pytest.mark.parametrize("check", [True, False])
def test_shown(run: Run, which: dict[str, Any], check: bool) -> None:
    result = run(module, check, namespace=NAMESPACE, query="rollouts[].phase", **which)
    assert (result["changed"], result["missing"], result["query_result"]) == (False, [], ["Healthy"])
    assert result["rollouts"][0]["tree"].splitlines()[2] == "Status:          ✔ Healthy"


def test_an_api_server_that_restarts_is_asked_again(run: Run, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SystemClock", lambda: lab.clock)
    for failing in ("list", "get", "find"):
        lab.session.fail_next(failing, Unreachable("no answer"), times=10)
    assert run(module, namespace=NAMESPACE, name=NAME)["rollouts"][0]["name"] == NAME
    assert run(module, namespace=NAMESPACE, patience=-1)["msg"].startswith("The option patience must be from 0")


def test_what_is_not_there(run: Run) -> None:
    result = run(module, namespace=NAMESPACE, names=["other", NAME])
    assert (result["missing"], [each["name"] for each in result["rollouts"]]) == (["other"], [NAME])
    assert run(module, namespace=NAMESPACE, name="other")["missing"] == ["other"]
    assert run(module, namespace=NAMESPACE, names=[])["rollouts"] == []


def test_only_read(run: Run, lab: Lab) -> None:
    run(module, namespace=NAMESPACE)
    assert lab.session.bodies == []


def test_every_value_is_documented(run: Run) -> None:
    documented = yaml.safe_load(module.RETURN)
    result = run(module, namespace=NAMESPACE)
    assert set(result) - {"changed", "invocation"} == set(documented) - {"query_result"}
    assert set(result["rollouts"][0]) == set(documented["rollouts"]["contains"])


def test_documentation_and_argument_spec_agree() -> None:
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert set(options) == set(module.ARGUMENT_SPEC) - {"kubeconfig", "context", "patience"}
    for name, option in options.items():
        for key in ("type", "elements", "default", "required"):
            assert option.get(key) == module.ARGUMENT_SPEC[name].get(key), (name, key)
