# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What moves, what stays and what is refused."""

from __future__ import annotations

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci import plan
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci.image import Descriptor, Image
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci.plan import Identity, Inventory, Published

NEW, OLD, CONFIG, OTHER = ("sha256:" + letter * 64 for letter in "abcd")


def blobs(*letters: str) -> Image:
    root = Descriptor("manifest", NEW, 3)
    return Image(root, (root,), tuple(Descriptor("layer", letter, 10) for letter in letters))


def test_tags_that_are_right_are_kept_and_the_others_put_in_order() -> None:
    published = {"v1.0.0": Published(NEW), "latest": Published(OLD), "abc1234": None}
    tags = plan.plan_tags("r/app", ["v1.0.0", "latest", "abc1234"], Identity(NEW), published)
    assert tags == (("latest", "abc1234"), ("v1.0.0",))


def test_a_release_of_another_digest_is_refused_with_both_named() -> None:
    with pytest.raises(plan.TagRefusedError) as refusal:
        plan.plan_tags("r/app", ["latest", "v1.0.0"], Identity(NEW), {"v1.0.0": Published(OLD)})
    assert "r/app:v1.0.0 is a release" in str(refusal.value)
    assert OLD in str(refusal.value)
    assert NEW in str(refusal.value)


def test_a_release_of_another_docker_image_is_refused_with_both_named() -> None:
    with pytest.raises(plan.TagRefusedError) as refusal:
        plan.plan_tags("r/app", ["v1.0.0"], Identity(config=CONFIG), {"v1.0.0": Published(OLD, OTHER)})
    assert f"{OLD} (image ID {OTHER})" in str(refusal.value)
    assert f"image ID {CONFIG}" in str(refusal.value)


def test_force_moves_a_release() -> None:
    tags = plan.plan_tags("r/app", ["v1.0.0"], Identity(NEW), {"v1.0.0": Published(OLD)}, force=True)
    assert tags.put == ("v1.0.0",)


@pytest.mark.parametrize(
    ("identity", "published", "same"),
    [
        (Identity(digest=NEW), Published(NEW), True),
        (Identity(digest=NEW), Published(OLD), False),
        (Identity(config=CONFIG), Published(OLD, CONFIG), True),
        (Identity(config=CONFIG), Published(OLD, OTHER), False),
        # containerd's image store: the image ID is the manifest's digest
        (Identity(config=NEW), Published(NEW, CONFIG), True),
        (Identity(config=CONFIG), Published(OLD), False),
        (Identity(), Published(OLD), False),
    ],
)
def test_identity(identity: Identity, published: Published, same: bool) -> None:
    assert identity.matches(published) is same


def test_a_tag_for_two_images_is_refused() -> None:
    with pytest.raises(plan.TagRefusedError, match=r"r/app:v1 is wanted for two images"):
        plan.check_batch([("r/app", "v1", Identity(NEW)), ("r/app", "v1", Identity(OLD))])


def test_a_tag_twice_for_the_same_image_or_in_two_repositories_is_fine() -> None:
    plan.check_batch([("r/app", "v1", Identity(NEW)), ("r/app", "v1", Identity(NEW)), ("r/b", "v1", Identity(OLD))])


def test_blobs_are_skipped_mounted_or_uploaded() -> None:
    inventory = Inventory()
    inventory.note("app", "here")
    inventory.add("base", "elsewhere")
    blob_plan = plan.plan_blobs("app", blobs("here", "elsewhere", "nowhere"), inventory)
    assert [blob.digest for blob in blob_plan.skip] == ["here"]
    assert [(blob.digest, source) for blob, source in blob_plan.mount] == [("elsewhere", "base")]
    assert [blob.digest for blob in blob_plan.upload] == ["nowhere"]
    assert blob_plan.bytes_to_send == 10


def test_a_later_image_of_the_list_counts_on_an_earlier_one() -> None:
    inventory = Inventory()
    assert len(plan.plan_blobs("one", blobs("base", "x"), inventory).upload) == 2
    assert plan.plan_blobs("one", blobs("base"), inventory).skip
    second = plan.plan_blobs("two", blobs("base", "y"), inventory)
    assert [source for _, source in second.mount] == ["one"]
    assert [blob.digest for blob in second.upload] == ["y"]


def test_what_was_heard_of_a_repository_does_not_save_sending() -> None:
    inventory = Inventory()
    inventory.add("app", "x")
    inventory.add("old", "x")
    assert not inventory.has("app", "x")
    inventory.note("base", "x")
    assert inventory.holder("x") == "base"  # certainty comes before hearsay


def test_what_is_broken_is_sent_once_and_mounted_from_then_on() -> None:
    inventory = Inventory()
    inventory.add("old", "x")
    assert [blob.digest for blob in plan.plan_blobs("one", blobs("x"), inventory, {"x"}).upload] == ["x"]
    assert [source for _, source in plan.plan_blobs("two", blobs("x"), inventory, {"x"}).mount] == ["one"]
