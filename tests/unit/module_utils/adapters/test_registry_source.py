# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registries that images come from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry_source import Registries, Repository
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, MANIFEST, FakeRegistry


def test_each_host_is_spoken_to_as_its_option_says_and_once() -> None:
    opened: list[Any] = []
    known = Registry(HOST, session=FakeRegistry().session())

    def connect(options: dict[str, Any]) -> Any:
        opened.append(options)
        return object()

    option = {"host": "a:5000", "scheme": "http", "username": "ann"}
    registries = Registries([option], [known], connect)
    assert registries.session(HOST) is known
    assert registries.session("a:5000") is registries.session("a:5000")
    registries.session("b.example.com")
    assert opened == [option, {"host": "b.example.com", "scheme": "https"}]


def test_an_image_is_read_and_verified() -> None:
    fake = FakeRegistry()
    digest = fake.add_image("app", "v1", [b"layer"])
    repository = Repository(Registry(HOST, session=fake.session(), clock=FakeClock()), "app")
    image = repository.image("v1")
    assert image.root.digest == digest
    assert json.loads(repository.manifest(image.root))["layers"][0]["size"] == 5
    assert repository.open(image.blobs[1]).read() == b"layer"
    with pytest.raises(AirgapError, match=r"app:v2 is not in its registry \(there is v1\)"):
        repository.image("v2")
    fake.put("app", "odd", MANIFEST, b'{"layers": 1}')
    with pytest.raises(AirgapError, match="odd cannot be understood"):
        repository.image("odd")
