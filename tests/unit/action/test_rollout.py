# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action rollout: options to a verb and a wait, and what comes of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lumen.airgap.plugins.action import rollout as action
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.modules import rollout as documentation
from ansible_collections.lumen.airgap.tests.unit.fakes.canary_lab import NEW, PAUSES, Lab, bump
from ansible_collections.lumen.airgap.tests.unit.fakes.rollouts import NAME, NAMESPACE
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream
from ansible_collections.lumen.airgap.tests.unit.fakes.watcher import FakeWatcher


class Site:
    """A Rollout at its first pause, and the action."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lab = Lab(PAUSES)
        monkeypatch.setattr(Session, "connect", lambda *_args, **_kwargs: self.lab.session)
        monkeypatch.setattr(action, "Watcher", lambda session, wanted: FakeWatcher(session, wanted, self.lab.clock))
        bump(self.lab)
        self.perform(wait=["Paused"])

    def perform(
        self, check_mode: bool = False, diff_mode: bool = False, **options: Any
    ) -> tuple[dict[str, Any], list[str]]:
        module = object.__new__(action.ActionModule)
        module.clock, module.check_mode, module.diff_mode = self.lab.clock, check_mode, diff_mode
        validator = ArgumentSpecValidator(action.ActionModule.ARGUMENT_SPEC, **action.ActionModule.CONSTRAINTS)
        validation = validator.validate(given(options))
        assert not validation.error_messages
        out = FakeStream()
        return module.run_streaming(validation.validated_parameters, out), out.lines


def given(options: dict[str, Any]) -> dict[str, Any]:
    every = {"name": NAME, "namespace": NAMESPACE, **options}
    return {key: value for key, value in every.items() if value is not None}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(monkeypatch)


def test_promoted_and_waited_for(site: Site) -> None:
    result, lines = site.perform(verb="promote", wait=["promoted"], diff_mode=True, query="rollouts[0].status.phase")
    assert (result["changed"], result["query_result"]) == (True, "Healthy")
    [found] = result["rollouts"]
    assert (found["changed"], found["message"]) == (True, "ends the pause at step 2/4 pause")
    assert found["status"]["images"] == [{"image": NEW, "tags": ["stable"]}]
    assert found["status"]["tree"].startswith("Name:            api\n")
    assert lines[0] == "ends the pause at step 2/4 pause"
    assert lines[-1] == "is Healthy"
    [diff] = result["diff"]
    assert diff["after"] == {"status": {"pauseConditions": None}}
    again, _lines = site.perform(verb="promote", wait=["promoted"], diff_mode=True)
    assert (again["changed"], again["diff"]) == (False, [])


def test_check_mode_predicts_and_waits_for_nothing(site: Site) -> None:
    before = len(site.lab.session.bodies)
    result, lines = site.perform(check_mode=True, verb="abort", wait=["aborted"])
    assert (result["changed"], lines) == (True, ["aborts hv110"])
    assert len(site.lab.session.bodies) == before


def test_a_failed_wait_says_what_was_done_and_is_there(site: Site) -> None:
    with pytest.raises(AirgapError, match="is not promoted and will not become so, for it was aborted") as raised:
        site.perform(verb="abort", wait=["promoted"])
    details = raised.value.details
    assert (details["changed"], details["waiting"]) == (True, [NAME])
    assert details["rollouts"][0]["status"]["phase"] == "Degraded"


def test_only_waited_for(site: Site) -> None:
    result, lines = site.perform(names=[NAME], name=None, wait_step=1)
    assert (result["changed"], result["rollouts"][0]["message"]) == (False, "")
    assert lines[-1] == "is Paused CanaryPauseStep"


@pytest.mark.parametrize(
    "options",
    [
        {"name": None, "names": ["a"], "verb": "pause"},
        {"names": ["a"], "verb": "abort"},
        {"name": None, "verb": "abort"},
        {"wait": ["Fine"]},
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any]) -> None:
    validator = ArgumentSpecValidator(action.ActionModule.ARGUMENT_SPEC, **action.ActionModule.CONSTRAINTS)
    assert validator.validate(given(options)).error_messages


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"wait": ["Healthy"], "timeout": 0}, "The option timeout must be"),
        ({"wait_step": -1}, "The option wait_step must be"),
        ({"verb": "promote", "at_step": -1}, "The option at_step must be"),
        ({"verb": "abort", "at_step": 1}, "at_step is for the verb promote"),
        ({"verb": "abort", "restart_at": "2026-01-01T00:00:00Z"}, "restart_at is for the verb restart"),
        ({"verb": "restart", "restart_at": "tomorrow"}, "The option restart_at must be"),
        ({"verb": "restart", "restart_at": "2026-01-01"}, "The option restart_at must be"),
        ({}, "there is nothing to do"),
        ({"verb": "abort", "image": "a"}, "image is for a wait"),
        ({"name": None, "names": [], "verb": "abort"}, "names must name at least one Rollout"),
        ({"name": None, "names": ["a", ""], "verb": "abort"}, "names must name at least one Rollout"),
    ],
)
def test_options_that_make_no_sense(site: Site, options: dict[str, Any], said: str) -> None:
    calls = len(site.lab.session.calls)
    with pytest.raises(AirgapError, match=said):
        site.perform(**options)
    assert len(site.lab.session.calls) == calls


def test_documentation_and_argument_spec_agree() -> None:
    options = yaml.safe_load(documentation.DOCUMENTATION)["options"]
    fragment = {"kubeconfig", "context"}
    assert set(options) == set(action.ActionModule.ARGUMENT_SPEC) - fragment
    for name, option in options.items():
        spec = action.ActionModule.ARGUMENT_SPEC[name]
        for key in ("type", "default", "choices", "elements"):
            assert option.get(key) == spec.get(key), (name, key)
