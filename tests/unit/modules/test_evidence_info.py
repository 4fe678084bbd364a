# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module around the chain, and its docs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.options import KUBE_OPTIONS
from ansible_collections.lumen.airgap.plugins.module_utils.services.evidence_chain import Store, append
from ansible_collections.lumen.airgap.plugins.modules import evidence_info as module
from ansible_collections.lumen.airgap.tests.unit.fakes.kube import FakeSession


def written(tmp_path: Path) -> FakeSession:
    session = FakeSession()
    for number in (1, 2):
        evidence = {"release": f"api-{number}", "app": "api", "namespace": "lumen", "version": "v1"}
        append(Store(session, "lumen", "api"), str(tmp_path), evidence, "control-1")
    return session


def params(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    defaults = {name: option.get("default") for name, option in module.ARGUMENT_SPEC.items()}
    return {**defaults, "directory": str(tmp_path), "app": "api", "host": "control-1", **changes}


def no_cluster() -> Any:
    raise AssertionError("no cluster is asked")


def test_what_is_returned_is_documented(tmp_path: Path) -> None:
    session = written(tmp_path)
    (tmp_path / "api-2.json").unlink()
    result = module.evidence_info(params(tmp_path, namespace="lumen"), lambda: session)
    documented = yaml.safe_load(module.RETURN)
    assert set(result) - {"changed"} == set(documented)
    assert set(result["findings"][0]) == set(documented["findings"]["contains"])
    assert set(result["documents"][0]) == set(documented["documents"]["contains"])
    assert set(result["head"]) == set(documented["head"]["sample"])
    assert (result["changed"], result["intact"]) == (False, False)
    assert result["line"].startswith("BROKEN: api-2.json: the newest document, of the release api-2, is not there")
    assert result["text"][1].startswith("error: api-2.json: ")
    assert result["documents"][0]["state"] == "proven"


def test_without_a_namespace_no_cluster_is_asked(tmp_path: Path) -> None:
    written(tmp_path)
    result = module.evidence_info(params(tmp_path), no_cluster)
    assert (result["intact"], result["head"]) == (True, {})
    assert [each["code"] for each in result["findings"]] == ["head-unknown"]


def test_every_option_is_documented() -> None:
    assert set(yaml.safe_load(module.DOCUMENTATION)["options"]) == set(module.ARGUMENT_SPEC) - set(KUBE_OPTIONS)
