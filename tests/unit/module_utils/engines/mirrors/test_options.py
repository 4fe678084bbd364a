# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mirrors that make no sense are refused, with the part at fault."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.mirrors.options import MirrorError, parse
from ansible_collections.lumen.airgap.tests.unit.fakes.mirrors import CA, ENDPOINT, REGISTRY, option


def test_what_is_not_given_is_none() -> None:
    (mirror,) = parse([option()])
    assert (mirror.registry, mirror.endpoints) == (REGISTRY, (ENDPOINT,))
    assert set(mirror[2:-1]) == {None}
    assert (mirror.basic, mirror.prefix) == (None, None)


def test_basic_authentication_as_rfc_7617_has_it() -> None:
    (mirror,) = parse([option(username="Aladdin", password="open sesame")])
    assert mirror.basic == "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (option("http://host"), "is no registry"),
        (option("../etc"), "is no registry"),
        (option("docker.io/library"), "is no registry"),
        (option(REGISTRY, "192.168.2.2:5000"), "is no endpoint"),
        (option(REGISTRY, "http://host:99999"), "is no endpoint"),
        (option(REGISTRY, "http://user:secret@host"), "has credentials in it"),
        (option(REGISTRY, ENDPOINT, ENDPOINT + "/"), "names an endpoint twice"),
        ({**option(), "endpoints": []}, "has no endpoints"),
        (option(server="ftp://host"), "is no endpoint"),
        (option(ca_content="AAAA"), "is no certificate in PEM"),
        (option(ca_path="ca.pem"), "give an absolute path"),
        (option(username="a:b", password="c"), "has a colon"),
        (option(rewrite=[{"pattern": "(", "replacement": "x"}]), "is no regular expression"),
    ],
)
def test_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(MirrorError, match=message) as raised:
        parse([given])
    assert "secret" not in str(raised.value)


def test_a_registry_twice_is_refused() -> None:
    with pytest.raises(MirrorError, match="listed twice"):
        parse([option(ca_content=CA), option()])


@pytest.mark.parametrize("pattern", ["(.*)", "^(.*)$"])
def test_a_path_in_front(pattern: str) -> None:
    (mirror,) = parse([option(rewrite=[{"pattern": pattern, "replacement": "hub/cache/$1"}])])
    assert mirror.prefix == "hub/cache"


@pytest.mark.parametrize("rule", [("^library/(.*)", "hub/$1"), ("(.*)", "$1/hub"), ("(.*)", "/$1")])
def test_no_other_rewrite_is_a_path(rule: tuple[str, str]) -> None:
    (mirror,) = parse([option(rewrite=[{"pattern": rule[0], "replacement": rule[1]}])])
    with pytest.raises(MirrorError, match="cannot be said to containerd"):
        _ = mirror.prefix
