# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module registry_image through its arguments and results, and the shared options of registries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.doc_fragments.registry import ModuleDocFragment
from ansible_collections.lumen.airgap.plugins.module_utils.options import REGISTRY_OPTIONS
from ansible_collections.lumen.airgap.plugins.modules import registry_image, registry_image_info
from ansible_collections.lumen.airgap.tests.unit.fakes.docker import FakeDockerClient
from ansible_collections.lumen.airgap.tests.unit.fakes.layout import LayoutBuilder
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, FakeRegistry
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run

REGISTRY = {"host": HOST, "scheme": "http"}


def test_registry_image_publishes_from_both_sources(
    run: Run, fake_docker: FakeDockerClient, fake_registry: FakeRegistry, tmp_path: Path
) -> None:
    layout = LayoutBuilder(tmp_path / "layout")
    digest = layout.add("app", layout.manifest([b"layer"]))
    fake_docker.build("app:build", [b"layer"])
    images = [
        {"source": {"layout": str(layout.path)}, "repository": "one", "tags": ["v1.0.0"]},
        {"source": {"daemon": "app:build"}, "repository": "two", "tags": ["v1.0.0"]},
    ]
    result = run(registry_image, registry=REGISTRY, images=images)
    assert result["changed"]
    assert result["images"][0]["digest"] == digest == fake_registry.tags["one"]["v1.0.0"]
    assert fake_registry.tags["two"]["v1.0.0"] == result["images"][1]["digest"]
    assert not run(registry_image, registry=REGISTRY, images=images)["changed"]


def test_registry_image_fails_with_the_registrys_answer(run: Run, fake_registry: FakeRegistry) -> None:
    fake_registry.break_with("GET", "/v2/", 500)
    image = {"source": {"daemon": "app:build"}, "repository": "app", "tags": ["v1"]}
    result = run(registry_image, registry=REGISTRY, images=[image])
    assert result["failed"]
    assert (result["registry"], result["repository"], result["status"]) == (HOST, None, 500)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"daemon": "a", "layout": "/b"}, "mutually exclusive: daemon|layout"),
        ({"daemon": "a", "ref": "b"}, "mutually exclusive: daemon|ref"),
        ({"ref": "b"}, "one of the following is required: daemon, layout"),
    ],
)
def test_registry_image_takes_one_source(run: Run, source: dict[str, str], message: str) -> None:
    result = run(registry_image, images=[{"source": source, "repository": "a", "tags": ["v1"]}])
    assert message in result["msg"]


@pytest.mark.parametrize("module", [registry_image, registry_image_info])
def test_the_registry_option_is_the_shared_one(module: Any) -> None:
    assert module.ARGUMENT_SPEC["registry"] == REGISTRY_OPTIONS["registry"]
    assert "lumen.airgap.registry" in yaml.safe_load(module.DOCUMENTATION)["extends_documentation_fragment"]


def test_the_fragment_documents_what_the_argument_spec_takes() -> None:
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]["registry"]["suboptions"]
    taken = REGISTRY_OPTIONS["registry"]["options"]
    facts = ("type", "default", "choices")
    assert {name: {fact: option.get(fact) for fact in facts} for name, option in documented.items()} == {
        name: {fact: option.get(fact) for fact in facts} for name, option in taken.items()
    }
