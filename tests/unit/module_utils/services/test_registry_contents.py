# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look-ups by name, and the search for damage, in a registry in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry_contents import describe
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry_image import publish
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.layout import OCI_INDEX, LayoutBuilder
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, FakeRegistry, digest_of

APP, NEXT = b"a" * 2_000, b"n" * 3_000


class World:
    def __init__(self, path: Path) -> None:
        self.fake = FakeRegistry()
        self.layout = LayoutBuilder(path / "layout")
        self.registry = Registry(HOST, session=self.fake.session(), clock=FakeClock())

    def describe(self, *names: str, verify: bool = False) -> list[dict[str, Any]]:
        return describe(names, self.registry, verify)

    def publish(self, ref: str, tag: str) -> None:
        source = {"layout": str(self.layout.path), "ref": ref}
        publish([{"source": source, "repository": "app", "tags": [tag]}], self.registry, lambda: None)  # type: ignore


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_image_and_its_labels(world: World) -> None:
    digest = world.fake.add_image("app", "v1.0.0", [APP], Labels={"org.opencontainers.image.revision": "abc1234"})
    tagged, by_digest = world.describe("app:v1.0.0", f"{HOST}/app@{digest}")
    assert tagged["exists"]
    assert (tagged["name"], tagged["digest"], tagged["message"]) == (f"{HOST}/app:v1.0.0", digest, None)
    assert tagged["labels"] == by_digest["labels"] == {"org.opencontainers.image.revision": "abc1234"}
    assert by_digest["tag"] is None


def test_an_image_without_labels(world: World) -> None:
    world.fake.add_image("app", "v1.0.0", [APP])
    assert world.describe("app:v1.0.0")[0]["labels"] == {}


def test_the_labels_of_an_index_are_its_first_images(world: World) -> None:
    child = world.layout.manifest([APP], {"version": "1"})
    world.layout.add("app", world.layout.index([child]))
    world.publish("app", "v1.0.0")
    (image,) = world.describe("app:v1.0.0")
    assert (image["media_type"], image["labels"]) == (OCI_INDEX, {"version": "1"})
    del world.fake.manifests["app"][child["digest"]]
    assert world.describe("app:v1.0.0")[0]["labels"] == {}


def test_a_missing_image_in_the_words_of_a_pod(world: World) -> None:
    world.fake.add_image("app", "v1.0.0", [APP])
    tag, repository = world.describe("app:v9", "other:v1")
    assert not tag["exists"]
    assert tag["message"].startswith(
        f"{HOST}/app:v9 is not in the registry (app has the tags v1.0.0): a pod that wants it gets ErrImagePull"
    )
    assert "the registry has no repository other" in repository["message"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("App:v1", "App:v1: 'App' is not a repository"),
        ("elsewhere:5000/app:v1", f"names the registry elsewhere:5000, but {HOST} is the one"),
        ("app", "app has neither tag nor digest"),
    ],
)
def test_names_that_cannot_be_looked_up(world: World, name: str, message: str) -> None:
    with pytest.raises(AirgapError, match=message):
        world.describe(name)


def test_a_manifest_that_cannot_be_understood(world: World) -> None:
    world.fake.put("app", "v1", OCI_INDEX, json.dumps({"manifests": []}).encode())
    with pytest.raises(AirgapError, match="cannot be understood: the index has no image for any platform"):
        world.describe("app:v1")


# --- whether it is whole


def test_what_is_whole_is_verified(world: World) -> None:
    child = world.layout.manifest([APP, NEXT], {"version": "1"})
    digest = world.layout.add("app", world.layout.index([child]))
    world.publish("app", "v1.0.0")
    image, missing = world.describe("app:v1.0.0", "app:v9", verify=True)
    assert (image["digest"], image["corrupt"], image["labels"]) == (digest, [], {"version": "1"})
    assert (missing["exists"], missing["corrupt"]) == (False, [])
    assert world.describe("app:v1.0.0")[0]["corrupt"] is None


def test_each_damaged_part_is_named(world: World) -> None:
    whole, other = world.layout.manifest([APP]), world.layout.manifest([APP, NEXT, b"third", b"fourth"])
    digest = world.layout.add("app", world.layout.index([whole, other]))
    world.publish("app", "v1.0.0")
    blobs = world.fake.blobs["app"]
    changed = NEXT[:-1] + b"x"
    blobs[digest_of(NEXT)] = changed
    blobs[digest_of(b"third")] = b"th"
    del blobs[digest_of(b"fourth")]
    del world.fake.manifests["app"][whole["digest"]]
    (image,) = world.describe("app:v1.0.0", verify=True)
    assert (image["exists"], image["digest"]) == (True, digest)
    assert image["corrupt"] == [
        {"digest": whole["digest"], "reason": "is missing"},
        {"digest": digest_of(NEXT), "reason": f"has the content {digest_of(changed)}"},
        {"digest": digest_of(b"third"), "reason": "ends after 2 of 5 bytes"},
        {"digest": digest_of(b"fourth"), "reason": "is missing"},
    ]
    assert "app:v1.0.0 is damaged in the registry's storage (4 of its parts)" in image["message"]


def test_a_damaged_manifest_is_named(world: World) -> None:
    digest = world.fake.add_image("app", "v1.0.0", [APP])
    kind, body = world.fake.manifests["app"][digest]
    world.fake.manifests["app"][digest] = (kind, body.replace(b"2000", b"2001"))
    (image,) = world.describe("app:v1.0.0", verify=True)
    assert image["corrupt"] == [{"digest": digest, "reason": "is no longer what its digest says"}]
