# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""registries.yaml, merged: what others wrote stays."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils.engines.mirrors import k3s
from ansible_collections.lumen.airgap.plugins.module_utils.engines.mirrors.options import MirrorError, parse
from ansible_collections.lumen.airgap.tests.unit.fakes.mirrors import ENDPOINT, REGISTRY, option

OTHERS = """\
# by hand
mirrors:
  docker.io:
    endpoint:
      - "https://other:5000"  # the old one
configs:
  "other:5000":
    auth:
      username: them
      password: hunter2
"""
FULL = option(
    "docker.io",
    "https://reg:5000",
    username="u",
    password="p",
    client_cert_path="/c.pem",
    client_key_path="/k.pem",
    skip_verify=False,
    rewrite=[{"pattern": "^library/(.*)", "replacement": "hub/$1"}],
)


def merged(text: str | None, *options: dict[str, Any], **ca_paths: str) -> str:
    return k3s.merge(text, parse(options), ca_paths, "registries.yaml")


def test_a_new_file() -> None:
    text = k3s.merge(None, parse([FULL, option("_default")]), {"docker.io": "/ca.pem"}, "f")
    assert yaml.safe_load(text) == {
        "mirrors": {
            "docker.io": {"endpoint": ["https://reg:5000"], "rewrite": {"^library/(.*)": "hub/$1"}},
            "*": {"endpoint": [ENDPOINT]},
        },
        "configs": {
            "reg:5000": {
                "auth": {"username": "u", "password": "p"},
                "tls": {
                    "ca_file": "/ca.pem",
                    "cert_file": "/c.pem",
                    "key_file": "/k.pem",
                    "insecure_skip_verify": False,
                },
            }
        },
    }


def test_others_stay_and_ours_comes_behind() -> None:
    text = merged(OTHERS, FULL, option())
    data = yaml.safe_load(text)
    assert data["mirrors"]["docker.io"]["endpoint"] == ["https://other:5000", "https://reg:5000"]
    assert data["mirrors"][REGISTRY] == {"endpoint": [ENDPOINT]}
    assert data["configs"]["other:5000"]["auth"]["password"] == "hunter2"
    assert "# by hand" in text
    assert "# the old one" in text
    assert merged(text, FULL, option()) == text


def test_nothing_to_do_leaves_the_text_however_it_looks() -> None:
    text = f"mirrors: {{'{REGISTRY}': {{endpoint: ['{ENDPOINT}/']}}}}\n"
    assert merged(text, option()) == text


def test_comments_alone_stay() -> None:
    assert merged("# nothing yet\n", option()).startswith("# nothing yet\nmirrors:\n")


def test_removal_takes_ours_alone() -> None:
    mirrors = parse([FULL, option()])
    after = k3s.remove(merged(OTHERS, FULL, option()), mirrors, "f")
    assert after is not None
    data = yaml.safe_load(after)
    assert data["configs"] == yaml.safe_load(OTHERS)["configs"]
    assert data["mirrors"]["docker.io"]["endpoint"] == ["https://other:5000"]
    assert k3s.remove(OTHERS, mirrors, "f") == OTHERS
    assert k3s.remove(merged(None, FULL, option()), mirrors, "f") is None


def test_an_address_that_another_registry_uses_keeps_its_credentials() -> None:
    other = {**FULL, "registry": "ghcr.io"}
    after = k3s.remove(merged(None, FULL, other), parse([FULL]), "f")
    assert after is not None
    assert yaml.safe_load(after)["configs"]["reg:5000"]["auth"]["username"] == "u"


def test_one_address_is_spoken_to_in_one_way() -> None:
    with pytest.raises(MirrorError, match="k3s has one entry for it"):
        merged(None, FULL, {**FULL, "registry": "ghcr.io", "password": "q"})


def test_secrets_are_hidden() -> None:
    shown = k3s.redact(OTHERS)
    assert "hunter2" not in shown
    assert "them" in shown
    assert k3s.has_secrets(OTHERS)
    assert not k3s.has_secrets(merged(None, option()))


@pytest.mark.parametrize("text", ["- a\n", "mirrors: [a]\n", "password: 'hunter2\n"])
def test_what_is_no_registries_yaml_is_refused(text: str) -> None:
    with pytest.raises(MirrorError, match=r"registries\.yaml (is not|has)") as raised:
        merged(text, option())
    assert "hunter2" not in str(raised.value)
