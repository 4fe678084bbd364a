# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hosts.toml and config.toml, merged: what others wrote stays."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.mirrors import containerd
from ansible_collections.lumen.airgap.plugins.module_utils.engines.mirrors.options import Mirror, MirrorError, parse
from ansible_collections.lumen.airgap.tests.unit.fakes.mirrors import ENDPOINT, REGISTRY, option

NODES = Path(__file__).parents[5] / "lab" / "nodes" / "rootfs" / "etc" / "containerd"
OTHERS = """\
# written by hand
server = "https://registry-1.docker.io"

[host."https://other:5000"]  # the old one
  capabilities = ["pull"]
  dial_timeout = "3s"
"""
V2 = 'version = 2\n\n[plugins."io.containerd.grpc.v1.cri"] # cri\n  sandbox_image = "pause"\n'


def mirror(*args: str, **given: Any) -> Mirror:
    return parse([option(*args, **given)])[0]


def merged(text: str | None, *args: str, ca: str | None = None, **given: Any) -> str:
    return containerd.merge(text, mirror(*args, **given), ca, "hosts.toml")


def test_the_labs_nodes_have_it_already() -> None:
    hosts = (NODES / "certs.d" / REGISTRY / "hosts.toml").read_text()
    assert merged(hosts) == hosts
    config = (NODES / "config.toml").read_text()
    assert containerd.configure(config, "/etc/containerd/certs.d", "config.toml") == config


def test_a_new_file() -> None:
    text = merged(
        None,
        "docker.io",
        "https://reg:5000",
        ca="/ca.pem",
        client_cert_path="/c.pem",
        client_key_path="/k.pem",
        skip_verify=False,
        username="u",
        password="p",
        rewrite=[{"pattern": "(.*)", "replacement": "hub/$1"}],
    )
    assert tomllib.loads(text) == {
        "host": {
            "https://reg:5000/v2/hub": {
                "capabilities": ["pull", "resolve"],
                "ca": "/ca.pem",
                "client": [["/c.pem", "/k.pem"]],
                "skip_verify": False,
                "override_path": True,
                "header": {"Authorization": "Basic dTpw"},
            }
        }
    }
    assert "dTpw" not in containerd.redact(text)
    assert containerd.has_secrets(text)
    assert not containerd.has_secrets(OTHERS)


def test_others_stay_and_ours_comes_behind() -> None:
    text = merged(OTHERS, "docker.io", skip_verify=True)
    assert text.startswith(OTHERS)
    assert list(tomllib.loads(text)["host"]) == ["https://other:5000", ENDPOINT]
    assert merged(text, "docker.io", skip_verify=True) == text


def test_what_is_not_given_stays() -> None:
    ours = f'[host."{ENDPOINT}"]\ncapabilities = ["pull"] # no resolve\nca = "/mine.pem"\n'
    assert merged(ours, "docker.io") == ours
    assert 'ca = "/new.pem"' in merged(ours, "docker.io", ca="/new.pem")


def test_the_server_is_ours_when_told_or_when_it_is_the_registry() -> None:
    assert tomllib.loads(merged(None))["server"] == ENDPOINT
    assert "server" not in tomllib.loads(merged(None, "docker.io"))
    assert tomllib.loads(merged(OTHERS, "docker.io", server="https://s"))["server"] == "https://s"
    # A file with tables alone: the key must not land in one of them.
    assert tomllib.loads(merged('[host."https://a"]\n'))["server"] == ENDPOINT


def test_removal_takes_ours_alone() -> None:
    there = merged(OTHERS, "docker.io")
    assert containerd.remove(there, mirror("docker.io"), "f").rstrip() == OTHERS.rstrip()  # type: ignore[union-attr]
    assert containerd.remove(OTHERS, mirror("docker.io"), "f") == OTHERS
    assert containerd.remove(merged(None), mirror(), "f") is None


def test_the_directory_that_containerd_prefers() -> None:
    assert containerd.directories(REGISTRY) == ("192.168.2.2_5000_", REGISTRY)
    assert containerd.directories("docker.io") == ("docker.io",)


def test_broken_toml_is_refused() -> None:
    with pytest.raises(MirrorError, match=r"hosts\.toml is not TOML, and nothing was changed"):
        merged("[host")


@pytest.mark.parametrize(
    ("text", "section"),
    [
        (None, "io.containerd.grpc.v1.cri"),
        ("disabled_plugins = []\n", "cri"),
        (V2, "io.containerd.grpc.v1.cri"),
        ("version = 3\n", "io.containerd.cri.v1.images"),
        (
            'version = 3\n[plugins."io.containerd.cri.v1.images".registry]\n  config_path = ""\n',
            "io.containerd.cri.v1.images",
        ),
    ],
)
def test_config_path_is_set_in_the_section_of_the_version(text: str | None, section: str) -> None:
    after = containerd.configure(text, "/certs", "config.toml")
    assert tomllib.loads(after)["plugins"][section]["registry"] == {"config_path": "/certs"}
    assert containerd.configure(after, "/certs", "config.toml") == after


def test_the_rest_of_the_configuration_stays() -> None:
    after = containerd.configure(V2, "/certs", "config.toml")
    assert after.startswith(V2)
    assert tomllib.loads(after)["plugins"]["io.containerd.grpc.v1.cri"]["sandbox_image"] == "pause"


@pytest.mark.parametrize(
    ("registry", "message"),
    [
        ('[{0}.mirrors."docker.io"]\nendpoint = ["http://m"]', "has mirrors of docker.io"),
        ('[{0}.configs."reg:5000".tls]\nca_file = "/ca"', "has configs with tls of reg:5000"),
        ('[{0}]\nconfig_path = "/elsewhere"', "give that as certs_path"),
    ],
)
def test_what_containerd_does_not_start_with_is_refused(registry: str, message: str) -> None:
    text = "version = 2\n" + registry.format('plugins."io.containerd.grpc.v1.cri".registry') + "\n"
    with pytest.raises(MirrorError, match=message):
        containerd.configure(text, "/certs", "config.toml")


def test_credentials_beside_config_path_are_fine_and_hidden() -> None:
    table = 'plugins."io.containerd.grpc.v1.cri".registry.configs."r".auth'
    text = f'version = 2\n[{table}]\nusername = "u"\npassword = "hunter2"\n'
    after = containerd.configure(text, "/certs", "config.toml")
    assert "hunter2" in after
    assert "hunter2" not in containerd.redact(after)


def test_one_of_several_directories_will_do() -> None:
    text = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/a:/certs/"\n'
    assert containerd.configure(text, "/certs", "config.toml") == text
