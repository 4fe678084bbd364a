# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is written for k3s is read by k3s' own parser, rancher/wharfie, built from source."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.mirrors import k3s
from ansible_collections.lumen.airgap.plugins.module_utils.engines.mirrors.options import parse
from ansible_collections.lumen.airgap.tests.unit.fakes.mirrors import option

SOURCE = Path(__file__).parent / "wharfie"
_GO = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "-mod=readonly -buildvcs=false"}
FULL = option(
    "docker.io",
    "https://reg.lumen:5000",
    username="nodes",
    password="p: #'\"ä",
    client_cert_path="/c.pem",
    client_key_path="/k.pem",
    skip_verify=True,
    rewrite=[{"pattern": "^library/(.*)$", "replacement": "hub/$1"}],
)
OTHERS = "# by hand\nmirrors:\n  docker.io:\n    endpoint: ['https://other']\n"


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("wharfie") / "wharfie"
    command = ["go", "build", "-trimpath", "-o", str(binary), "."]
    built = subprocess.run(
        command, cwd=SOURCE, env={**os.environ, **_GO}, capture_output=True, text=True, timeout=600, check=False
    )
    assert built.returncode == 0, built.stderr
    return binary


def read(parser: Path, path: Path, text: str) -> dict[str, Any]:
    path.write_text(text, encoding="utf-8")
    answer = subprocess.run([str(parser), str(path)], capture_output=True, text=True, timeout=30, check=True)
    document: dict[str, Any] = json.loads(answer.stdout)
    return document


@pytest.mark.parametrize(("before", "first"), [(None, []), (OTHERS, ["https://other"])])
def test_k3s_reads_what_was_meant(parser: Path, tmp_path: Path, before: str | None, first: list[str]) -> None:
    mirrors = parse([FULL, option(), option("_default")])
    text = k3s.merge(before, mirrors, {"docker.io": "/ca.pem"}, "registries.yaml")
    found = read(parser, tmp_path / "registries.yaml", text)
    assert found["mirrors"] == {
        "docker.io": {"endpoint": [*first, "https://reg.lumen:5000"], "rewrite": {"^library/(.*)$": "hub/$1"}},
        "192.168.2.2:5000": {"endpoint": ["http://192.168.2.2:5000"], "rewrite": None},
        "*": {"endpoint": ["http://192.168.2.2:5000"], "rewrite": None},
    }
    config = found["configs"]["reg.lumen:5000"]
    assert config["auth"] == {"username": "nodes", "password": "p: #'\"ä", "auth": "", "identitytoken": ""}
    assert config["tls"] == {
        "ca_file": "/ca.pem",
        "cert_file": "/c.pem",
        "key_file": "/k.pem",
        "insecure_skip_verify": True,
    }


def test_k3s_reads_what_is_left_after_a_removal(parser: Path, tmp_path: Path) -> None:
    mirrors = parse([FULL])
    after = k3s.remove(k3s.merge(OTHERS, mirrors, {}, "f"), mirrors, "f")
    assert after is not None
    found = read(parser, tmp_path / "registries.yaml", after)
    assert found["mirrors"]["docker.io"]["endpoint"] == ["https://other"]
    assert not found["configs"]
