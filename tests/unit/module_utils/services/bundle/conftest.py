# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of bundles share: keys, a bundle with images and files, and ways to bring it in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry
from ansible_collections.lumen.airgap.plugins.module_utils.services.bundle import importing
from ansible_collections.lumen.airgap.plugins.module_utils.services.bundle.images import ImageImport
from ansible_collections.lumen.airgap.plugins.module_utils.services.bundle.importing import Request
from ansible_collections.lumen.airgap.tests.unit.fakes.bundle import BundleBuilder
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.keys import Key, make_key
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, FakeRegistry

BASE, APP, NEXT = b"b" * 50_000, b"a" * 2_000, b"n" * 3_000
REGISTRY = "lumen-airgap/registry:3.1.2"


class Inside:
    """A node with its clock, its state directory and a registry."""

    def __init__(self, path: Path, key: Key, clock: FakeClock) -> None:
        self.path = path
        self.key = key
        self.clock = clock
        self.state_path = path / "state"
        self.state = self.state_path / "lumen"
        self.fake = FakeRegistry()
        self.lines: list[str] = []

    def builder(self, number: int = 1, directory: str | None = None, **fields: Any) -> BundleBuilder:
        builder = BundleBuilder(self.path / (directory or f"bundle-{number}"), self.key, number=number)
        builder.fields.update(fields)
        return builder

    def full(self, number: int = 1, directory: str | None = None, **fields: Any) -> BundleBuilder:
        """A bundle with everything: two images that share a layer, the registry's, manifests, wheels, a script."""
        builder = self.builder(number, directory, **fields)
        builder.image("lumen-api:v1.0.0", [BASE, APP])
        builder.image("lumen-web:latest", [BASE, b"web" * 100])
        builder.image(REGISTRY, [b"registry" * 200])
        builder.fields["registry_image"] = REGISTRY
        builder.file("manifests/argo.yaml", b"kind: List\n")
        builder.file("manifests/deep/er/rollouts.yaml", b"kind: Deployment\n")
        builder.file("wheels/node/x-1.0-py3-none-any.whl", b"wheel")
        builder.file("wheels/node/requirements.txt", b"x==1.0\n")
        builder.file("files/run.sh", f"#!/bin/sh\necho {number}\n".encode(), "0755")
        return builder

    def request(self, path: Path, **options: Any) -> Request:
        request = Request(str(path), self.key.allowed, state_path=str(self.state_path), by="ops@node-1")
        return replace(request, **options)

    def verify(self, path: Path, **options: Any) -> dict[str, Any]:
        return importing.verified(self.request(path, **options), self.lines.append, self.clock)

    def unpack(self, path: Path, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        self.lines.clear()
        return importing.bring_in(self.request(path, **options), self.lines.append, self.clock, check_mode)

    def bring_in(
        self, path: Path, check_mode: bool = False, storage_path: str | None = None, **options: Any
    ) -> dict[str, Any]:
        self.lines.clear()
        self.fake.requests.clear()
        registry = Registry(HOST, session=self.fake.session())
        images = ImageImport(registry, bool(options.get("force")), storage_path, 1, self.lines.append)
        return importing.bring_in(self.request(path, **options), self.lines.append, self.clock, check_mode, images)


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return make_key(tmp_path_factory.mktemp("key"), "release@lumen")


@pytest.fixture(scope="session")
def other_key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return make_key(tmp_path_factory.mktemp("other"), "other@lumen")


@pytest.fixture
def inside(tmp_path: Path, key: Key, clock: FakeClock) -> Inside:
    return Inside(tmp_path, key, clock)


@pytest.fixture(params=["verify", "bring_in"])
def call(request: pytest.FixtureRequest, inside: Inside) -> Callable[..., dict[str, Any]]:
    """The ways to use a bundle (unpacking is importing without a registry): what is wrong with it stops them."""
    method: Callable[..., dict[str, Any]] = getattr(inside, request.param)
    return method
