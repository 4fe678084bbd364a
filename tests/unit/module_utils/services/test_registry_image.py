# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists of images from layouts and from Docker into a registry in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.docker import Docker
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry import Registry, RegistryError
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.registry_source import Registries
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci.plan import Inventory
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry_image import publish
from ansible_collections.lumen.airgap.tests.unit.fakes.clock import FakeClock
from ansible_collections.lumen.airgap.tests.unit.fakes.docker import URL, FakeDockerClient
from ansible_collections.lumen.airgap.tests.unit.fakes.layout import OCI_INDEX, LayoutBuilder
from ansible_collections.lumen.airgap.tests.unit.fakes.registry import (
    HOST,
    MANIFEST,
    FakeRegistry,
    digest_of,
    docker_manifest,
)

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


def test_docker_pushes_with_the_user_of_the_registry(world: World) -> None:
    world.client.build("app:build", [APP])
    registry = Registry(HOST, session=world.fake.session(), login=("ci", "secret"))
    publish([from_daemon("app:build", "app", "v1.0.0")], registry, lambda: Docker(world.client, URL))
    assert world.client.auth_config == {"username": "ci", "password": "secret"}


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


# --- from another registry


def other_registry(world: World) -> tuple[FakeRegistry, Registries]:
    other = FakeRegistry()
    session = Registry("other.test:5000", session=other.session(), clock=FakeClock())
    return other, Registries([], [session, world.registry()])


def from_registry(reference: str, repository: str, *tags: str, force: bool = False) -> dict[str, Any]:
    return {"source": {"registry": reference}, "repository": repository, "tags": list(tags), "force": force}


def test_an_image_of_another_registry(world: World) -> None:
    other, registries = other_registry(world)
    digest = other.add_image("team/tool", "v2.0.0", [BASE, APP])
    for name in ("other.test:5000/team/tool:v2.0.0", f"other.test:5000/team/tool@{digest}"):
        result = world.publish(from_registry(name, "tool", "v2.0.0"), registries=registries)
        assert result["images"][0]["digest"] == digest == world.fake.tags["tool"]["v2.0.0"]
    assert set(world.fake.blobs["tool"].values()) >= {BASE, APP}
    assert not result["changed"]
    with pytest.raises(AirgapError, match="team/tool:v9 is not in its registry"):
        world.publish(from_registry("other.test:5000/team/tool:v9", "tool", "v9"), registries=registries)
    for bad, message in (("other.test:5000/Tool:v1", "is not a repository"), ("tool", "neither tag nor digest")):
        with pytest.raises(AirgapError, match=message):
            world.publish(from_registry(bad, "tool", "v9"), registries=registries)


def test_naming_an_image_once_more_moves_its_manifest_alone(world: World) -> None:
    digest = world.fake.add_image("app", "v1.0.0", [BASE])
    for name in ("app:v1.0.0", f"{HOST}/app:v1.0.0"):
        registry = world.registry()
        world.publish(from_registry(name, "app", "stable"), registries=Registries([], [registry]))
        assert world.fake.tags["app"].pop("stable") == digest
        assert world.fake.written == [("PUT", "/v2/app/manifests/stable")]


def test_an_image_for_another_repository_is_mounted(world: World) -> None:
    world.fake.add_image("app", "v1.0.0", [BASE])
    result = world.publish(from_registry("app:v1.0.0", "copy", "v1.0.0"))
    assert (result["images"][0]["bytes_sent"], result["images"][0]["mounted"]) == (0, 2)
    assert world.fake.received == 0


def test_blobs_that_a_repository_is_said_to_have_are_mounted(world: World) -> None:
    world.layout.add("app", world.layout.manifest([BASE, APP]))
    world.fake.blobs["old"] = {digest_of(BASE): BASE}
    inventory = Inventory()
    for data in (BASE, APP):  # the second is not there: it is sent
        inventory.add("old", digest_of(data))
    result = world.publish(world.from_layout("app", "app", "v1.0.0"), inventory=inventory)
    assert (result["images"][0]["mounted"], world.fake.blobs["app"][digest_of(APP)]) == (1, APP)


# --- many at once


def test_progress_is_told_and_threads_give_the_same_result(world: World) -> None:
    for number in range(8):
        world.layout.add(f"i{number}", world.layout.manifest([BASE, b"%d" % number * 1000]))
    wanted = [world.from_layout(f"i{number}", f"app{number}", "v1.0.0") for number in range(8)]
    lines: list[str] = []
    result = world.publish(*wanted, workers=8, progress=lines.append)
    assert all("v1.0.0" in tags for tags in world.fake.tags.values())
    assert sum(image["bytes_sent"] for image in result["images"]) == world.fake.received
    assert lines[0] == f"looking up 8 images in {HOST}"
    assert lines[-1].startswith("8 of 8 images, 0 of 0 MiB, app")
    assert not world.publish(*wanted, workers=8)["changed"]
    world.publish(wanted[0], progress=lines.append)
    assert f"looking up 1 image in {HOST}" in lines


def test_a_failure_ends_the_other_uploads(world: World) -> None:
    world.layout.add("good", world.layout.manifest([BASE]))
    world.layout.add("bad", world.layout.manifest([APP]))
    world.layout.file(digest_of(APP)).write_bytes(APP[:-1] + b"x")
    with pytest.raises(AirgapError, match="is corrupt"):
        world.publish(world.from_layout("good", "good", "v1"), world.from_layout("bad", "bad", "v1"), workers=2)
    assert world.fake.tags == {}


# --- force


def test_force_without_the_storage_finds_damage_and_says_where_to_run(world: World) -> None:
    world.layout.add("app", world.layout.manifest([BASE, APP]))
    world.publish(world.from_layout("app", "app", "v1.0.0"))
    assert not world.publish(world.from_layout("app", "app", "v1.0.0", force=True))["changed"]
    world.fake.blobs["app"][digest_of(APP)] = APP[:-1] + b"x"
    with pytest.raises(AirgapError, match="registry's node, with storage_path") as refusal:
        world.publish(world.from_layout("app", "app", "v1.0.0", force=True))
    assert [text.split()[0] for text in refusal.value.details["damaged"]] == [f"app@{digest_of(APP)}"]
    assert world.untouched


def test_force_finds_damage_in_what_docker_pushed(world: World) -> None:
    world.client.build("app:build", [BASE, APP])
    world.publish(from_daemon("app:build", "app", "v1.0.0"))
    world.fake.blobs["app"][digest_of(APP)] = APP[:-1] + b"x"
    with pytest.raises(AirgapError, match="registry's node, with storage_path"):
        world.publish(from_daemon("app:build", "app", "v1.0.0", force=True))


def test_a_release_tag_that_somebody_takes_meanwhile_is_left_to_them(world: World) -> None:
    world.layout.add("app", world.layout.manifest([APP]))

    class Late(Registry):
        def upload(self, *args: Any, **named: Any) -> Any:
            world.fake.add_image("app", "v1.0.0", [NEXT])
            return super().upload(*args, **named)

    registry = Late(HOST, session=world.fake.session())
    with pytest.raises(AirgapError, match=r"app:v1\.0\.0 is a release and does not move"):
        publish([world.from_layout("app", "app", "latest", "v1.0.0")], registry, lambda: None)
    assert list(world.fake.tags["app"]) == ["v1.0.0"]


# --- what is to be absent


def absent(repository: str, **named: Any) -> dict[str, Any]:
    return {"repository": repository, "state": "absent", **named}


def test_a_manifest_goes_with_its_last_tag(world: World) -> None:
    digest, other = world.fake.add_image("app", "v1.0.0", [APP]), world.fake.add_image("app", "v2.0.0", [NEXT])
    result = world.publish(absent("app", tags=["v1.0.0"]))
    assert list(world.fake.manifests["app"]) == [other]
    assert result["diff"]["before"] == {f"{HOST}/app:v1.0.0": digest, f"{HOST}/app@{digest}": digest}


def test_tags_are_deleted_and_a_manifest_that_another_tag_has_stays(world: World) -> None:
    digest = world.fake.add_image("app", "v1.0.0", [APP])
    world.fake.tags["app"]["latest"] = digest
    wanted = absent("app", tags=["latest", "v9"])
    foreseen = world.publish(wanted, check_mode=True)
    assert world.untouched
    result = world.publish(wanted)
    assert result == foreseen
    assert (result["images"][0]["tags"], world.fake.tags["app"]) == (["latest"], {"v1.0.0": digest})
    assert result["diff"] == {"before": {f"{HOST}/app:latest": digest}, "after": {f"{HOST}/app:latest": None}}
    assert not world.publish(wanted)["changed"]
    assert not world.publish(absent("none", tags=["v1"]))["changed"]


def test_a_manifest_is_deleted_unless_it_is_needed(world: World) -> None:
    digest = world.fake.add_image("app", "v1.0.0", [APP])
    with pytest.raises(AirgapError, match=f"app@{digest} is not deleted: v1.0.0 points to it"):
        world.publish(absent("app", digest=digest))
    result = world.publish(absent("app", digest=digest, force=True))
    assert (result["changed"], world.fake.tags["app"], world.fake.manifests["app"]) == (True, {}, {})
    assert not world.publish(absent("app", digest=digest))["changed"]


def test_results_keep_the_order_of_the_list(world: World) -> None:
    world.fake.add_image("app", "old", [BASE])
    world.layout.add("app", world.layout.manifest([APP]))
    result = world.publish(absent("app", tags=["old"]), world.from_layout("app", "app", "new"))
    assert [image["tags"] for image in result["images"]] == [["old"], ["new"]]
    assert list(world.fake.tags["app"]) == ["new"]


def test_one_tag_cannot_be_present_and_absent(world: World) -> None:
    world.layout.add("app", world.layout.manifest([APP]))
    with pytest.raises(AirgapError, match=f"{HOST}/app:old is wanted, and is to be absent"):
        world.publish(absent("app", tags=["old"]), world.from_layout("app", "app", "old", "new"))
    assert world.fake.requests == []


@pytest.mark.parametrize("named", [{}, {"tags": ["v1"], "digest": "sha256:" + "1" * 64}, {"digest": "sha256:1"}])
def test_what_is_to_be_absent_has_to_be_named(world: World, named: dict[str, Any]) -> None:
    with pytest.raises(AirgapError, match=r"by tags or by a digest|is not a digest"):
        world.publish(absent("app", **named))


def test_a_registry_that_does_not_delete_says_so(world: World) -> None:
    world.fake.add_image("app", "v1.0.0", [APP])
    world.fake.deletes = False
    with pytest.raises(RegistryError, match="deleting is disabled"):
        world.publish(absent("app", tags=["v1.0.0"]))


# --- rules


def test_rules_keep_the_last_and_check_mode_knows_what_this_run_adds(world: World) -> None:
    for number in range(3):
        world.fake.add_image("app", f"v1.{number}.0", [b"%d" % number])
    world.fake.add_image("other", "v1.0.0", [APP])
    world.layout.add("new", world.layout.manifest([NEXT]))
    new, rules = world.from_layout("new", "app", "v1.3.0"), [{"repository": "a*", "tags": "v*", "keep": 2}]
    foreseen = world.publish(new, check_mode=True, prune=rules)
    assert world.untouched
    result = world.publish(new, prune=rules)
    assert result == foreseen
    assert sorted(world.fake.tags["app"]) == ["v1.2.0", "v1.3.0"]
    assert result["pruned"][0]["tags"] == ["v1.0.0", "v1.1.0"]
    assert len(world.fake.manifests["app"]) == 2
    assert world.fake.tags["other"]
    assert not world.publish(prune=rules)["changed"]


def test_rules_order_commits_by_the_age_of_their_images(world: World) -> None:
    for tag, day in (("fff", 1), ("aaa", 3), ("bbb", 2)):
        raw = json.dumps({"created": f"2026-01-0{day}T00:00:00Z"}).encode()
        world.fake.blobs.setdefault("app", {})[digest_of(raw)] = raw
        world.fake.put("app", tag, MANIFEST, json.dumps(docker_manifest(raw, [])).encode())
    world.publish(prune=[{"repository": "*", "tags": "*", "keep": 1}])
    assert list(world.fake.tags["app"]) == ["aaa"]
    with pytest.raises(AirgapError, match="from 0 on, not -1"):
        world.publish(prune=[{"repository": "*", "tags": "*", "keep": -1}])
