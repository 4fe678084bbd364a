# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a registry can do without."""

from __future__ import annotations

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci import prune
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci.prune import Deletion, KeptError, Rule, Tag


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        (["v1.9.0", "v1.10.0", "v1.2.0"], ["v1.9.0", "v1.10.0"]),
        (["v2.0.0", "v2.0.0-rc.1", "v1.9.9"], ["v2.0.0-rc.1", "v2.0.0"]),
        (["v1.0.0-rc.9", "v1.0.0-rc.10", "v1.0.0-beta"], ["v1.0.0-rc.9", "v1.0.0-rc.10"]),
        (["v1.0.0-alpha", "v1.0.0-alpha.1", "v1.0.0-1"], ["v1.0.0-alpha", "v1.0.0-alpha.1"]),
    ],
)
def test_versions_are_ordered_as_such(tags: list[str], kept: list[str]) -> None:
    gone = prune.surplus(2, [Tag(tag) for tag in tags])
    assert [tag for tag in kept if tag in gone] == []
    assert len(gone) == 1


def test_other_tags_are_ordered_by_the_age_of_their_image() -> None:
    tags = [Tag("abc", 30.0), Tag("fff", 10.0), Tag("111", 20.0), Tag("aaa", 0.0)]
    assert prune.surplus(2, tags) == ["aaa", "fff"]
    assert prune.surplus(0, tags) == ["aaa", "fff", "111", "abc"]
    assert prune.surplus(9, tags) == []


def test_a_version_is_newer_than_what_is_none() -> None:
    assert prune.surplus(1, [Tag("v0.0.1", 1.0), Tag("latest", 99.0)]) == ["latest"]


def test_the_first_rule_that_matches_a_tag_decides() -> None:
    rules = [Rule("lumen-*", "v*", 1), Rule("*", "*", 2), Rule("other", "*", 0)]
    parts = prune.divide(rules, "lumen-api", ["v1", "abc", "v2"])
    assert parts == [(rules[0], ["v1", "v2"]), (rules[1], ["abc"])]
    assert prune.divide(rules[:1], "other", ["v1"]) == []
    assert prune.divide([Rule("team/*", "*", 1)], "team/a/b", ["x"]) == [(Rule("team/*", "*", 1), ["x"])]


def test_a_manifest_with_another_tag_stays() -> None:
    tags = {"v1": "A", "latest": "A", "v0": "B"}
    assert prune.plan(tags, {"v1", "v0"}, {}) == Deletion(("v1", "v0"), ("B",))


def test_what_a_kept_index_is_made_of_stays() -> None:
    tags = {"v1": "I1", "v2": "I2", "amd64": "a"}
    children = {"I1": ["a", "b"], "I2": ["a", "c"]}
    assert prune.plan(tags, {"v1", "amd64"}, children) == Deletion(("v1", "amd64"), ("I1", "b"))


def test_an_index_goes_before_its_children() -> None:
    children = {"outer": ["inner", "x"], "inner": ["x", "y"]}
    manifests = prune.plan({"child": "inner", "v1": "outer"}, {"child", "v1"}, children).manifests
    assert sorted(manifests) == ["inner", "outer", "x", "y"]
    assert all(manifests.index(parent) < manifests.index(child) for parent in children for child in children[parent])


def test_a_digest_that_something_needs_stays() -> None:
    tags, children = {"v1": "I", "v2": "A"}, {"I": ["c", "d"], "J": ["c"]}
    with pytest.raises(KeptError, match=r"it is a part of the index I \(v1\)"):
        prune.plan_digest("c", tags, children, True)
    with pytest.raises(KeptError, match="v2 points to it: delete the tag, or set force"):
        prune.plan_digest("A", tags, children, False)
    assert prune.plan_digest("A", tags, children, True) == Deletion(("v2",), ("A",))
    assert prune.plan_digest("J", tags, children, False) == Deletion((), ("J",))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T01:01:00.5+01:00", 60.5),
        ("1970-01-01T00:00:00.123456789Z", 0.123456789),
        ("yesterday", 0.0),
        ("1970-13-01T00:00:00Z", 0.0),
        (None, 0.0),
    ],
)
def test_the_age_that_an_image_states(text: str | None, seconds: float) -> None:
    assert prune.epoch(text) == seconds
