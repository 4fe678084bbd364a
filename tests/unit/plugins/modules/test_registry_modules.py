# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The three modules as Ansible calls them: arguments in, one JSON result out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lumen.airgap.plugins.doc_fragments.registry import ModuleDocFragment
from ansible_collections.lumen.airgap.plugins.module_utils.options import REGISTRY_OPTIONS
from ansible_collections.lumen.airgap.plugins.modules import registry, registry_image, registry_image_info
from ansible_collections.lumen.airgap.tests.unit.fakes.docker import FakeDockerClient
from ansible_collections.lumen.airgap.tests.unit.fakes.layout import LayoutBuilder
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, FakeRegistry

REGISTRY = {"host": HOST, "scheme": "http"}

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    fake = FakeRegistry()
    session = fake.session()
    monkeypatch.setattr(requests, "Session", lambda: session)
    return fake


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, fake: FakeRegistry) -> FakeDockerClient:
    client = FakeDockerClient(fake)
    monkeypatch.setattr(docker, "APIClient", lambda **_: client)
    return client


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(module: Any, check: bool = False, **arguments: Any) -> dict[str, Any]:
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


def test_registry_starts_and_says_so(
    run: Run, client: FakeDockerClient, fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.build("lumen-airgap/registry:3.1.2", [b"registry"])
    monkeypatch.setattr(registry.Node, "port_free", lambda self, port: True)
    # A slash at the end must not make the next run see another path.
    paths = {"storage_path": f"{tmp_path}/data/", "config_path": f"{tmp_path}/config.yml"}
    foreseen = run(registry, check=True, **paths)
    result = run(registry, **paths)
    assert result["actions"] == foreseen["actions"] == ["write configuration", "create", "start"]
    assert result["diff"] == foreseen["diff"]
    assert not run(registry, **paths)["changed"]
    assert run(registry, state="absent", **paths)["container"] is None


def test_registry_fails_with_the_log(
    run: Run, client: FakeDockerClient, fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.build("lumen-airgap/registry:3.1.2", [b"registry"])
    client.log = b"panic: no storage\n"
    fake.break_with("GET", "/v2/", 503)
    monkeypatch.setattr(registry.Node, "port_free", lambda self, port: True)
    result = run(registry, wait_timeout=0, storage_path=f"{tmp_path}/data", config_path=f"{tmp_path}/config.yml")
    assert result["failed"]
    assert result["log"] == ["panic: no storage"]
    assert "503" in result["last_answer"]
    assert result["container"]["status"] == "running"


def test_registry_image_publishes_from_both_sources(
    run: Run, client: FakeDockerClient, fake: FakeRegistry, tmp_path: Path
) -> None:
    layout = LayoutBuilder(tmp_path / "layout")
    digest = layout.add("app", layout.manifest([b"layer"]))
    client.build("app:build", [b"layer"])
    images = [
        {"source": {"layout": str(layout.path)}, "repository": "one", "tags": ["v1.0.0"]},
        {"source": {"daemon": "app:build"}, "repository": "two", "tags": ["v1.0.0"]},
    ]
    result = run(registry_image, registry=REGISTRY, images=images)
    assert result["changed"]
    assert result["images"][0]["digest"] == digest == fake.tags["one"]["v1.0.0"]
    assert fake.tags["two"]["v1.0.0"] == result["images"][1]["digest"]
    assert not run(registry_image, registry=REGISTRY, images=images)["changed"]


def test_registry_image_fails_with_the_registrys_answer(run: Run, fake: FakeRegistry) -> None:
    fake.break_with("GET", "/v2/", 500)
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


def test_registry_image_info(run: Run, fake: FakeRegistry) -> None:
    digest = fake.add_image("app", "v1.0.0", [b"layer"], Labels={"a": "b"})
    result = run(registry_image_info, registry=REGISTRY, names=["app:v1.0.0", "app:v2.0.0"])
    assert not result["changed"]
    assert [(image["exists"], image["digest"]) for image in result["images"]] == [(True, digest), (False, None)]


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


def test_a_missing_library_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "DOCKER_TRACEBACK", "ImportError: No module named docker")
    result = run(registry)
    assert result["failed"]
    assert basic.missing_required_lib("docker").split(" on ")[0] in result["msg"]
