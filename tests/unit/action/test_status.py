# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action status: options to a screen, once and live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lumen.airgap.plugins.action import status as action
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.session import Session
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.options import KUBE_OPTIONS
from ansible_collections.lumen.airgap.plugins.module_utils.services.release_record import Record
from ansible_collections.lumen.airgap.plugins.modules import status as documentation
from ansible_collections.lumen.airgap.tests.unit.fakes.canary_lab import PAUSES, Lab
from ansible_collections.lumen.airgap.tests.unit.fakes.rollouts import NAME, NAMESPACE
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream
from ansible_collections.lumen.airgap.tests.unit.fakes.watcher import FakeWatcher


class Site:
    """An app, and the action."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lab = Lab(PAUSES)
        monkeypatch.setattr(Session, "connect", lambda *_args, **_kwargs: self.lab.session)
        monkeypatch.setattr(action, "Watcher", lambda session, wanted: FakeWatcher(session, wanted, self.lab.clock))

    def perform(self, check_mode: bool = False, **options: Any) -> tuple[dict[str, Any], list[str]]:
        module = object.__new__(action.ActionModule)
        module.clock, module.check_mode = self.lab.clock, check_mode
        validation = ArgumentSpecValidator(action.ActionModule.ARGUMENT_SPEC).validate(
            {"app": NAME, "namespace": NAMESPACE, **options}
        )
        assert not validation.error_messages
        out = FakeStream()
        return module.run_streaming(validation.validated_parameters, out), out.lines


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(monkeypatch)


def test_once(site: Site, tmp_path: Path) -> None:
    result, lines = site.perform(directory=str(tmp_path))
    assert (result["changed"], result["ended"], result["text"]) == (False, False, lines)
    assert set(result) - {"changed"} == set(yaml.safe_load(documentation.RETURN))
    assert result["evidence"]["intact"]
    assert site.lab.writes() == []


def test_live_ends_with_the_release(site: Site) -> None:
    held = Record.acquire(site.lab.session, site.lab.clock, NAMESPACE, NAME, "v1", "r1", {}, lease_seconds=600)  # type: ignore[arg-type]
    site.lab.after(20, lambda: held.finish("promoted"))
    result, lines = site.perform(watch=True)
    assert (result["ended"], result["release"]["outcome"]) == (True, "promoted")
    assert "  release   v1 (api-v1-1) in progress" in lines
    assert lines[-len(result["text"]) :] == result["text"]
    assert any(line.endswith("  v1 of api promoted") for line in lines)


def test_the_deadline_and_check_mode(site: Site) -> None:
    result, lines = site.perform(watch=True, deadline=10)
    assert not result["ended"]
    assert lines[-1].endswith("nothing more within 10 s")
    now = site.lab.clock.time()
    site.perform(check_mode=True, watch=True)
    assert site.lab.clock.time() == now
    with pytest.raises(AirgapError, match="The option deadline must be"):
        site.perform(watch=True, deadline=0)


def test_every_option_is_documented() -> None:
    assert set(yaml.safe_load(documentation.DOCUMENTATION)["options"]) == set(action.ActionModule.ARGUMENT_SPEC) - set(
        KUBE_OPTIONS
    )
