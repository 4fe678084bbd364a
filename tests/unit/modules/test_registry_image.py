# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module registry_image through its arguments and results, and the shared options of registries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.doc_fragments.registry import ModuleDocFragment
from ansible_collections.lumen.airgap.plugins.module_utils.adapters import registry as registry_adapter
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.docker import DEFAULT_HOST
from ansible_collections.lumen.airgap.plugins.module_utils.options import REGISTRY_OPTIONS, SOURCE_REGISTRIES_OPTIONS
from ansible_collections.lumen.airgap.plugins.modules import registry_image, registry_image_info
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.docker import FakeDockerClient
from ansible_collections.lumen.airgap.tests.unit.fakes.layout import LayoutBuilder
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, FakeRegistry
from ansible_collections.lumen.airgap.tests.unit.modules.conftest import Run

REGISTRY = {"host": HOST, "scheme": "http"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody waits, and the journal is this test's own."""
    monkeypatch.setattr(registry_adapter, "SystemClock", FakeClock)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


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
        ({"daemon": "a", "layout": "/b"}, "mutually exclusive: daemon|layout|registry"),
        ({"registry": "a:v1", "ref": "b"}, "mutually exclusive: registry|ref"),
        ({"daemon": "a", "ref": "b"}, "mutually exclusive: daemon|ref"),
        ({"ref": "b"}, "one of the following is required: daemon, layout, registry"),
    ],
)
def test_registry_image_takes_one_source(run: Run, source: dict[str, str], message: str) -> None:
    result = run(registry_image, images=[{"source": source, "repository": "a", "tags": ["v1"]}])
    assert message in result["msg"]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"repository": "a"}, "state is present but all of the following are missing: source, tags"),
        (
            {"repository": "a", "state": "absent", "tags": ["v1"], "digest": "sha256:1"},
            "mutually exclusive: tags|digest",
        ),
        ({"repository": "a", "state": "absent"}, "named by tags or by a digest"),
    ],
)
def test_registry_image_says_what_an_entry_lacks(
    run: Run, fake_registry: FakeRegistry, image: dict[str, Any], message: str
) -> None:
    assert message in run(registry_image, registry=REGISTRY, images=[image])["msg"]


def test_registry_image_copies_deletes_and_prunes(run: Run, fake_registry: FakeRegistry) -> None:
    digest = fake_registry.add_image("app", "v1.0.0", [b"one"])
    fake_registry.add_image("app", "v2.0.0", [b"two"])
    images = [
        {"source": {"registry": f"{HOST}/app:v1.0.0"}, "repository": "copy", "tags": ["v1.0.0"]},
        {"repository": "app", "tags": ["v1.0.0"], "state": "absent"},
    ]
    prune = [{"repository": "app", "tags": "v*", "keep": 0}]
    foreseen = run(registry_image, check=True, registry=REGISTRY, images=images, prune=prune)
    result = run(registry_image, registry=REGISTRY, images=images, prune=prune)
    assert (foreseen["diff"], foreseen["pruned"]) == (result["diff"], result["pruned"])
    assert fake_registry.tags == {"app": {}, "copy": {"v1.0.0": digest}}
    assert result["pruned"][0]["tags"] == ["v2.0.0"]


@pytest.mark.parametrize("workers", [0, 11])
def test_registry_image_takes_a_sensible_number_of_workers(run: Run, workers: int) -> None:
    assert "The option workers must be from 1 to 10" in run(registry_image, workers=workers)["msg"]


def test_registry_image_wants_the_registrys_own_storage(run: Run, fake_registry: FakeRegistry, tmp_path: Path) -> None:
    result = run(registry_image, registry=REGISTRY, storage_path=str(tmp_path))
    assert "is not the storage of a registry" in result["msg"]


def test_registry_image_without_docker(run: Run, fake_registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise docker.errors.DockerException("Connection aborted, FileNotFoundError(2, 'No such file or directory')")

    monkeypatch.setattr(docker, "APIClient", refuse)
    image = {"source": {"daemon": "a"}, "repository": "a", "tags": ["v1"]}
    result = run(registry_image, registry=REGISTRY, docker_host="unix:///none.sock", images=[image])
    assert "no Docker daemon answers at unix:///none.sock: there is no such socket" in result["msg"]


def test_registry_image_keeps_passwords_to_itself(run: Run, fake_registry: FakeRegistry) -> None:
    fake_registry.user = ("ann", "s3cret-word")
    login = {"username": "ann", "password": "s3cret-word"}
    assert "s3cret-word" not in json.dumps(run(registry_image, registry={**REGISTRY, **login}))
    refused = run(registry_image, registry={**REGISTRY, **login, "password": "wr0ng-word"})
    assert refused["status"] == 401
    assert "wr0ng-word" not in json.dumps(refused)
    assert run(registry_image, registry={**REGISTRY, "username": "ann"})["failed"]


def test_docker_is_looked_for_where_it_usually_is() -> None:
    """Said twice, because the module does not load Docker's SDK before it is needed."""
    assert registry_image.ARGUMENT_SPEC["docker_host"]["default"] == DEFAULT_HOST


@pytest.mark.parametrize("module", [registry_image, registry_image_info])
def test_the_registry_option_is_the_shared_one(module: Any) -> None:
    assert module.ARGUMENT_SPEC["registry"] == REGISTRY_OPTIONS["registry"]
    assert "lumen.airgap.registry" in yaml.safe_load(module.DOCUMENTATION)["extends_documentation_fragment"]


@pytest.mark.parametrize(
    ("name", "text", "spec"),
    [
        ("registry", ModuleDocFragment.DOCUMENTATION, REGISTRY_OPTIONS),
        ("registries", ModuleDocFragment.SOURCES, SOURCE_REGISTRIES_OPTIONS),
    ],
)
def test_the_fragment_documents_what_the_argument_spec_takes(name: str, text: str, spec: dict[str, Any]) -> None:
    documented = yaml.safe_load(text)["options"][name]["suboptions"]
    taken = spec[name]["options"]
    facts = ("type", "default", "choices")
    assert {name: {fact: option.get(fact) for fact in facts} for name, option in documented.items()} == {
        name: {fact: option.get(fact) for fact in facts} for name, option in taken.items()
    }
