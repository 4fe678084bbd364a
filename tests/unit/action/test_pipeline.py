# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action pipeline: options to a pipeline, and its result."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lumen.airgap.plugins.action import pipeline as action
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.gitea import Gitea
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.modules import pipeline as documentation
from ansible_collections.lumen.airgap.tests.unit.fakes.gitea import TOKEN, URL
from ansible_collections.lumen.airgap.tests.unit.fakes.stream import FakeStream
from ansible_collections.lumen.airgap.tests.unit.module_utils.services.test_pipeline import HEAD, OTHER, Site


def perform(
    site: Site, monkeypatch: pytest.MonkeyPatch, check_mode: bool = False, **options: Any
) -> tuple[dict[str, Any], list[str]]:
    made = Gitea(URL, token=TOKEN, session=site.gitea.session())
    monkeypatch.setattr(Gitea, "connect", lambda *_args, **_kwargs: made)
    module = object.__new__(action.ActionModule)
    module.clock, module.check_mode = site.clock, check_mode
    given = {"gitea": {"url": URL, "token": TOKEN}, "owner": "lumen", "name": "lumen", "tag": "v1", **options}
    validation = ArgumentSpecValidator(action.ActionModule.ARGUMENT_SPEC, **action.ActionModule.CONSTRAINTS).validate(
        given
    )
    if validation.error_messages:
        raise ValueError("; ".join(validation.error_messages))
    out = FakeStream()
    return module.run_streaming(validation.validated_parameters, out), out.lines


def test_a_version_by_its_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    result, lines = perform(Site(), monkeypatch, target=OTHER, query="run.conclusion")
    assert (result["changed"], result["commit"], result["query_result"]) == (True, OTHER, "success")
    assert lines[0] == "tag v1 → bbbbbbbbbb in lumen/lumen"
    assert lines[-1] == "release ✔ 7 s"


def test_without_a_target_the_branch_is_tagged_and_check_mode_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    result, lines = perform(site, monkeypatch, check_mode=True)
    assert (result["changed"], result["commit"], lines) == (True, HEAD, [])
    assert site.gitea.written == []


def test_the_manifest_and_its_image_belong_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="required together"):
        perform(Site(), monkeypatch, manifest="a.yaml")
    with pytest.raises(AirgapError, match="more than 0"):
        perform(Site(), monkeypatch, deadline=0)


def test_documentation_has_every_option() -> None:
    described = yaml.safe_load(documentation.DOCUMENTATION)["options"]
    assert set(described) | {"gitea"} == set(action.ActionModule.ARGUMENT_SPEC)
