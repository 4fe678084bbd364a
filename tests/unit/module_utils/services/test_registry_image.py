# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists of images from layouts and from Docker into a registry in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.docker import Docker
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry, RegistryError
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry_image import publish
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.docker import URL, FakeDockerClient
from ansible_collections.lumen.airgap.tests.unit.fakes.layout import OCI_INDEX, LayoutBuilder
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import HOST, FakeRegistry, digest_of

BASE, APP, NEXT = b"b" * 50_000, b"a" * 2_000, b"n" * 3_000


class World:
    def __init__(self, path: Path) -> None:
        self.fake = FakeRegistry()
        self.client = FakeDockerClient(self.fake)
        self.layout = LayoutBuilder(path / "layout")

    def publish(self, *images: dict[str, Any], check_mode: bool = False, **keywords: Any) -> dict[str, Any]:
        self.fake.requests.clear()
        self.client.calls.clear()
        keywords.setdefault("workers", 1)
        return publish(images, self.registry(), lambda: Docker(self.client, URL), check_mode, **keywords)

    def registry(self) -> Registry:
        return Registry(HOST, session=self.fake.session(), clock=FakeClock())

    def from_layout(self, ref: str, repository: str, *tags: str, force: bool = False) -> dict[str, Any]:
        source = {"layout": str(self.layout.path), "ref": ref, "daemon": None}
        return {"source": source, "repository": repository, "tags": list(tags), "force": force}

    @property
    def untouched(self) -> bool:
        return self.fake.written == self.client.calls == []


def from_daemon(ref: str, repository: str, *tags: str, force: bool = False) -> dict[str, Any]:
    source = {"daemon": ref, "layout": None, "ref": None}
    return {"source": source, "repository": repository, "tags": list(tags), "force": force}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- from a layout


def test_a_layouts_image_under_three_tags(world: World) -> None:
    digest = world.layout.add("app", world.layout.manifest([BASE, APP]))
    result = world.publish(world.from_layout("app", "lumen-api", "v1.0.0", "abc1234", "latest"))
    (image,) = result["images"]
    config = next(data for data in world.fake.blobs["lumen-api"].values() if data not in (BASE, APP))
    assert image == {
        "repository": "lumen-api",
        "digest": digest,
        "tags": ["v1.0.0", "abc1234", "latest"],
        "bytes_sent": len(BASE) + len(APP) + len(config),
        "blobs_skipped": 0,
        "mounted": 0,
        "mended": [],
        "changed": True,
    }
    assert world.fake.tags["lumen-api"] == dict.fromkeys(("v1.0.0", "abc1234", "latest"), digest)
    assert result["diff"]["before"][f"{HOST}/lumen-api:latest"] is None
    assert result["diff"]["after"][f"{HOST}/lumen-api:latest"] == digest


def test_the_second_run_asks_for_tags_alone(world: World) -> None:
    world.layout.add("app", world.layout.manifest([BASE, APP]))
    wanted = world.from_layout("app", "lumen-api", "v1.0.0", "latest")
    world.publish(wanted)
    result = world.publish(wanted)
    assert not result["changed"]
    assert result["diff"]["before"] == result["diff"]["after"]
    assert (result["images"][0]["bytes_sent"], result["images"][0]["blobs_skipped"]) == (0, 3)
    assert world.fake.requests == [("HEAD", f"/v2/lumen-api/manifests/{tag}") for tag in ("v1.0.0", "latest")]


def test_another_tag_moves_the_manifest_alone(world: World) -> None:
    world.layout.add("app", world.layout.manifest([BASE, APP]))
    world.publish(world.from_layout("app", "lumen-api", "v1.0.0"))
    result = world.publish(world.from_layout("app", "lumen-api", "latest"))
    assert result["images"][0]["bytes_sent"] == 0
    assert world.fake.written == [("PUT", "/v2/lumen-api/manifests/latest")]


def test_only_missing_blobs_are_sent(world: World) -> None:
    world.layout.add("one", world.layout.manifest([BASE, APP]))
    world.layout.add("two", world.layout.manifest([BASE, NEXT]))
    world.publish(world.from_layout("one", "app", "v1.0.0"))
    # The configs are equal, so the next layer is all there is to send.
    foreseen = world.publish(world.from_layout("two", "app", "v1.1.0"), check_mode=True)
    assert world.untouched
    result = world.publish(world.from_layout("two", "app", "v1.1.0"))
    assert result == foreseen
    assert (result["images"][0]["bytes_sent"], result["images"][0]["blobs_skipped"]) == (len(NEXT), 2)


def test_blobs_of_another_repository_are_mounted(world: World) -> None:
    digest = world.layout.add("app", world.layout.manifest([BASE, APP]))
    first, second = world.from_layout("app", "one", "v1.0.0"), world.from_layout("app", "two", "v1.0.0")
    foreseen = world.publish(first, second, check_mode=True)
    result = world.publish(first, second)
    assert result == foreseen
    assert (result["images"][1]["bytes_sent"], result["images"][1]["blobs_skipped"]) == (0, 3)
    assert world.fake.tags["two"]["v1.0.0"] == digest
    third = world.publish(second, world.from_layout("app", "three", "v1.0.0"))
    assert (third["images"][1]["bytes_sent"], third["images"][1]["blobs_skipped"]) == (0, 3)


def test_a_declined_mount_is_counted_as_sent(world: World) -> None:
    world.layout.add("app", world.layout.manifest([BASE, APP]))
    world.fake.mounts = False
    result = world.publish(world.from_layout("app", "one", "v1"), world.from_layout("app", "two", "v1"))
    assert result["images"][0]["bytes_sent"] == result["images"][1]["bytes_sent"]
    assert result["images"][1]["blobs_skipped"] == 0


def test_an_index_survives_whole_and_its_children_come_first(world: World) -> None:
    amd64, arm64 = world.layout.manifest([BASE, APP]), world.layout.manifest([BASE, NEXT, b"more"])
    digest = world.layout.add("app", world.layout.index([amd64, arm64]))
    world.publish(world.from_layout("app", "app", "v1.0.0"))
    written = [path.rpartition("/")[2] for path in world.fake.asked("PUT") if "manifests" in path]
    assert written == [amd64["digest"], arm64["digest"], "v1.0.0"]
    assert world.fake.manifests["app"][digest][0] == OCI_INDEX
    assert not world.publish(world.from_layout("app", "app", "v1.0.0"))["changed"]


def test_a_release_of_another_digest_stops_the_whole_list(world: World) -> None:
    old = world.layout.add("old", world.layout.manifest([BASE, APP]))
    new = world.layout.add("new", world.layout.manifest([BASE, NEXT]))
    world.publish(world.from_layout("old", "app", "v1.0.0"))
    for check_mode in (True, False):
        with pytest.raises(AirgapError, match=f"{HOST}/app:v1.0.0 is a release .*{old}, the source is {new}"):
            world.publish(
                world.from_layout("new", "other", "v1.0.0"),
                world.from_layout("new", "app", "latest", "v1.0.0"),
                check_mode=check_mode,
            )
        assert world.untouched
    result = world.publish(world.from_layout("new", "app", "v1.0.0", force=True))
    assert world.fake.tags["app"]["v1.0.0"] == new
    assert result["diff"] == {"before": {f"{HOST}/app:v1.0.0": old}, "after": {f"{HOST}/app:v1.0.0": new}}


def test_a_tag_that_moves(world: World) -> None:
    world.layout.add("old", world.layout.manifest([APP]))
    new = world.layout.add("new", world.layout.manifest([NEXT]))
    world.publish(world.from_layout("old", "app", "latest"))
    assert world.publish(world.from_layout("new", "app", "latest"))["changed"]
    assert world.fake.tags["app"]["latest"] == new


def test_one_tag_for_two_images_is_refused(world: World) -> None:
    world.layout.add("one", world.layout.manifest([APP]))
    world.layout.add("two", world.layout.manifest([NEXT]))
    with pytest.raises(AirgapError, match=f"{HOST}/app:latest is wanted for two images"):
        world.publish(world.from_layout("one", "app", "latest"), world.from_layout("two", "app", "latest"))
    assert world.fake.requests == []


def test_a_corrupt_layer_publishes_no_tag(world: World) -> None:
    world.layout.add("app", world.layout.manifest([BASE, APP]))
    world.layout.file(digest_of(APP)).write_bytes(APP[:-1] + b"x")
    with pytest.raises(AirgapError, match=f"{digest_of(APP)[7:]} is corrupt"):
        world.publish(world.from_layout("app", "app", "v1.0.0"))
    assert world.fake.tags == {}


def test_a_missing_layer_is_found_before_anything_is_asked(world: World) -> None:
    world.layout.add("app", world.layout.manifest([BASE, APP]))
    world.layout.file(digest_of(APP)).unlink()
    with pytest.raises(AirgapError, match="is missing in"):
        world.publish(world.from_layout("app", "app", "v1.0.0"))
    assert world.fake.requests == []


def test_a_registry_that_fails_in_between_has_no_tag(world: World) -> None:
    world.layout.add("app", world.layout.manifest([BASE, APP]))
    world.fake.break_with("PUT", "blobs", 500)
    with pytest.raises(RegistryError, match=f"{HOST}/app: .*HTTP 500 when asked to upload the blob"):
        world.publish(world.from_layout("app", "app", "v1.0.0"))
    assert world.fake.tags == {}


@pytest.mark.parametrize(
    ("repository", "tags", "message"),
    [
        ("App", ["v1"], "'App' is not a repository"),
        ("app", ["v 1"], "'v 1' is not a tag"),
        ("app", [], "app has no tags"),
    ],
)
def test_names_no_registry_accepts(world: World, repository: str, tags: list[str], message: str) -> None:
    with pytest.raises(AirgapError, match=message):
        world.publish(world.from_layout("app", repository, *tags))
    assert world.fake.requests == []


# --- from the Docker daemon


def test_docker_pushes_once_and_the_other_tags_are_copies(world: World) -> None:
    world.client.build("lumen-api:build", [BASE, APP])
    wanted = from_daemon("lumen-api:build", "lumen-api", "v1.0.0", "abc1234", "latest")
    foreseen = world.publish(wanted, check_mode=True)
    assert world.untouched
    (planned,) = foreseen["images"]
    assert (planned["changed"], planned["digest"], planned["bytes_sent"]) == (True, None, None)
    result = world.publish(wanted)
    assert world.client.calls == ["tag", "push"]
    assert world.fake.written == [("PUT", f"/v2/lumen-api/manifests/{tag}") for tag in ("abc1234", "latest")]
    (image,) = result["images"]
    assert set(world.fake.tags["lumen-api"].values()) == {image["digest"]}
    assert (image["bytes_sent"], image["blobs_skipped"]) == (len(BASE) + len(APP), 0)
    assert result["diff"]["after"][f"{HOST}/lumen-api:latest"] == image["digest"]


def test_nothing_to_do_for_an_image_that_is_there(world: World) -> None:
    world.client.build("app:build", [BASE, APP])
    wanted = from_daemon("app:build", "app", "v1.0.0", "latest")
    first = world.publish(wanted)
    result = world.publish(wanted)
    assert not result["changed"]
    assert world.untouched
    assert result["images"][0]["digest"] == first["images"][0]["digest"]
    assert (result["images"][0]["bytes_sent"], result["images"][0]["blobs_skipped"]) == (0, 3)


def test_a_new_tag_for_an_image_that_is_there_needs_no_push(world: World) -> None:
    world.client.build("app:build", [BASE, APP])
    world.publish(from_daemon("app:build", "app", "abc1234"))
    for tags in (("abc1234", "v1.0.0"), ("latest",)):
        foreseen = world.publish(from_daemon("app:build", "app", *tags), check_mode=True)
        result = world.publish(from_daemon("app:build", "app", *tags))
        assert result == foreseen
        assert world.client.calls == []
        assert world.fake.written == [("PUT", f"/v2/app/manifests/{tags[-1]}")]


def test_docker_sends_only_new_layers(world: World) -> None:
    world.client.build("app:1", [BASE, APP])
    world.client.build("app:2", [BASE, NEXT])
    world.publish(from_daemon("app:1", "app", "v1.0.0"))
    result = world.publish(from_daemon("app:2", "app", "v1.1.0"))
    assert (result["images"][0]["bytes_sent"], result["images"][0]["blobs_skipped"]) == (len(NEXT), 1)


def test_a_rebuilt_release_is_refused_before_docker_pushes(world: World) -> None:
    old = world.client.build("app:build", [BASE, APP])
    digest = world.publish(from_daemon("app:build", "app", "v1.0.0"))["images"][0]["digest"]
    new = world.client.build("app:build", [BASE, NEXT])
    for check_mode in (True, False):
        with pytest.raises(AirgapError) as refusal:
            world.publish(from_daemon("app:build", "app", "v1.0.0", "latest"), check_mode=check_mode)
        assert f"{digest} (image ID {old}), the source is image ID {new}" in str(refusal.value)
        assert world.untouched
    assert world.publish(from_daemon("app:build", "app", "v1.0.0", force=True))["changed"]
    assert world.fake.tags["app"]["v1.0.0"] != digest


def test_an_image_that_docker_does_not_have(world: World) -> None:
    with pytest.raises(AirgapError, match=f"the image app:none is not in the Docker daemon at {URL}"):
        world.publish(from_daemon("app:none", "app", "v1.0.0"))


def test_a_push_that_fails_leaves_no_tag(world: World) -> None:
    world.client.build("app:build", [APP])
    world.client.push_lines = [{"error": "connect: connection refused"}]
    with pytest.raises(AirgapError, match=f"could not push {HOST}/app:v1.0.0: connect: connection refused"):
        world.publish(from_daemon("app:build", "app", "v1.0.0", "latest"))
    assert world.fake.tags == {}


def test_a_push_that_reads_back_otherwise(world: World) -> None:
    world.client.build("app:build", [APP])
    there = world.fake.add_image("app", "latest", [NEXT])
    said = "sha256:" + "1" * 64
    world.client.push_lines = [{"aux": {"Digest": said}}]
    with pytest.raises(AirgapError, match=f"pushed as {said} but reads back as {there}"):
        world.publish(from_daemon("app:build", "app", "latest"))


def test_a_tag_that_somebody_deletes_after_the_push(world: World) -> None:
    world.client.build("app:build", [APP])
    world.client.push_lines = [{"aux": {"Digest": "sha256:" + "1" * 64}}]
    with pytest.raises(AirgapError, match="latest was there a moment ago and is gone"):
        world.publish(from_daemon("app:build", "app", "latest"))


def test_docker_is_not_needed_for_layouts(world: World) -> None:
    world.layout.add("app", world.layout.manifest([APP]))

    def unexpected() -> Docker:
        raise AssertionError("nobody asked for Docker")

    registry = world.registry()
    assert publish([world.from_layout("app", "app", "v1.0.0")], registry, unexpected)["changed"]


def test_sources_may_be_mixed(world: World) -> None:
    world.layout.add("app", world.layout.manifest([APP]))
    world.client.build("app:build", [BASE])
    result = world.publish(from_daemon("app:build", "one", "v1"), world.from_layout("app", "two", "v1"))
    assert [image["repository"] for image in result["images"]] == ["one", "two"]
    with pytest.raises(AirgapError, match=f"{HOST}/one:v1 is wanted for two images"):
        world.publish(from_daemon("app:build", "one", "v1"), world.from_layout("app", "one", "v1"))
