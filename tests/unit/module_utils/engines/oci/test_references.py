# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The grammar of image references."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci import references
from ansible_collections.lumen.airgap.plugins.module_utils.engines.oci.references import (
    InvalidReferenceError,
    Reference,
)

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lumen-api", Reference(None, "lumen-api", None, None)),
        ("lumen-api:v1.1.0", Reference(None, "lumen-api", "v1.1.0", None)),
        ("192.168.2.2:5000/lumen-api:v1.1.0", Reference("192.168.2.2:5000", "lumen-api", "v1.1.0", None)),
        ("localhost/a/b", Reference("localhost", "a/b", None, None)),
        ("team/app:1", Reference(None, "team/app", "1", None)),
        (f"registry.local/a/b__c@{DIGEST}", Reference("registry.local", "a/b__c", None, DIGEST)),
        (f"r.local:5000/app:v1@{DIGEST}", Reference("r.local:5000", "app", "v1", DIGEST)),
        ("[fd00::1]:5000/app:v1", Reference("[fd00::1]:5000", "app", "v1", None)),
    ],
)
def test_parse_and_back(text: str, expected: Reference) -> None:
    assert references.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "'' is not a repository"),
        ("Lumen-API:v1", "'Lumen-API' is not a repository"),
        ("app:", "'' is not a tag"),
        ("app:-v1", "'-v1' is not a tag"),
        ("app:" + "x" * 129, "is not a tag"),
        ("app@sha256:123", "'sha256:123' is not a digest"),
        ("app@", "'' is not a digest"),
        ("a//b", "'a//b' is not a repository"),
        ("../etc/passwd", "is not a repository|is no address"),
        ("a..b/x/y", "no address of a registry"),
        ("app_", "'app_' is not a repository"),
        ("a" * 256, "is not a repository"),
        ("app:v1\n", "is not a tag"),
        ("http://192.168.2.2:5000/app", "is no|is not"),
    ],
)
def test_parse_names_what_is_wrong(text: str, named: str) -> None:
    with pytest.raises(InvalidReferenceError, match=named):
        references.parse(text)


@pytest.mark.parametrize("host", ["192.168.2.2:5000", "registry", "a-b.c:1", "[::1]:5000"])
def test_hosts(host: str) -> None:
    assert references.check_host(host) == host


@pytest.mark.parametrize("host", ["", "http://x", "x/y", "x:0", "x:65536", "x:", "-x", "a b", "x:5000\n"])
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(InvalidReferenceError, match="no address of a registry"):
        references.check_host(host)


@pytest.mark.parametrize("tag", ["v1.2.3", "1.2.3", "v0.0.0", "v1.2.3-rc.1", "3.6.5-0"])
def test_releases(tag: str) -> None:
    assert references.is_release(tag)


@pytest.mark.parametrize("tag", ["latest", "abc1234", "v1", "v1.2", "v01.2.3", "1.2.3.4", "v1.2.3_x", "builder"])
def test_tags_that_move(tag: str) -> None:
    assert not references.is_release(tag)


def test_precedence_is_that_of_semantic_versions() -> None:
    """The example of semver.org, and that a leading v means nothing."""
    order = ["1.0.0-alpha", "v1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "v1.0.0-beta.2", "1.0.0-beta.11"]
    order += ["1.0.0-rc.1", "v1.0.0", "1.0.1", "v1.2.0", "1.10.0", "v2.0.0"]
    keys = [references.precedence(tag) for tag in order]
    assert all(older < newer for older, newer in itertools.pairwise(keys))
