# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of a node in memory: what is written, with what mode, and when the runtime is restarted."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.engines.mirrors.options import parse
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError
from ansible_collections.lumen.airgap.plugins.module_utils.services.registry_mirrors import Settings, apply
from ansible_collections.lumen.airgap.tests.unit.fakes.mirrors import CA, FakeNode, option

CERTS, CONFIG, K3S = "/etc/containerd/certs.d", "/etc/containerd/config.toml", "/etc/rancher/k3s/registries.yaml"
MARKER = "/run/lumen-airgap/registry_mirrors-{}.pending"


def run(node: FakeNode, *options: dict[str, Any], check: bool = False, **given: Any) -> dict[str, Any]:
    wanted = {"present": True, "runtime": "auto", "restart": True, **given}
    return apply(
        Settings(
            parse(options or (option(),)), wanted["present"], wanted["runtime"], CERTS, CONFIG, K3S, wanted["restart"]
        ),
        node,
        check,
    )


def test_a_new_node_is_restarted_once_for_config_path() -> None:
    node = FakeNode()
    hosts = f"{CERTS}/192.168.2.2:5000/hosts.toml"
    planned = run(node, check=True)
    assert (node.files, node.done) == ({}, [])
    assert run(node) == planned
    assert planned["files"] == [hosts, CONFIG]
    assert planned["restarted"] == "containerd"
    assert node.done == [
        f"write {MARKER.format('containerd')}",
        f"write {hosts}",
        f"write {CONFIG}",
        "restart containerd",
        f"remove {MARKER.format('containerd')}",
    ]
    again = run(node)
    assert (again["changed"], again["diff"], again["restarted"]) == (False, [], None)


def test_another_mirror_needs_no_restart_of_containerd() -> None:
    node = FakeNode()
    run(node)
    result = run(node, option("docker.io"))
    assert (result["changed"], result["restarted"]) == (True, None)


def test_the_directory_that_wins_is_written() -> None:
    node = FakeNode()
    node.put(f"{CERTS}/192.168.2.2_5000_/hosts.toml", "")
    assert run(node)["files"][0] == f"{CERTS}/192.168.2.2_5000_/hosts.toml"


def test_secrets_are_private_and_not_in_the_diff() -> None:
    node = FakeNode()
    path = f"{CERTS}/docker.io/hosts.toml"
    secret = option("docker.io", username="u", password="hunter2")
    result = run(node, secret)
    assert node.files[path][1] == 0o600
    assert "hunter2" not in str(result)
    assert "dTpodW50ZXIy" not in str(result)
    changed = run(node, {**secret, "password": "hunter3"})
    assert changed["changed"]
    assert changed["diff"][0]["after_header"].endswith("(secrets are not shown)")
    node.put(path, node.files[path][0], 0o644)
    assert run(node, {**secret, "password": "hunter3"})["changed"]
    assert node.files[path][1] == 0o600


def test_absent_leaves_no_empty_directory_and_removes_the_ca() -> None:
    node = FakeNode()
    ours = option("docker.io", ca_content=CA)
    run(node, ours)
    result = run(node, ours, present=False)
    directory = f"{CERTS}/docker.io"
    assert result["files"] == [f"{directory}/hosts.toml", f"{directory}/lumen-airgap-ca.pem"]
    assert list(node.files) == [CONFIG]
    assert node.done[-1] == f"remove {directory}"
    assert not run(node, ours, present=False)["changed"]


def test_absent_keeps_a_directory_with_files_of_others() -> None:
    node = FakeNode()
    run(node)
    node.put(f"{CERTS}/192.168.2.2:5000/mine.crt", "")
    run(node, present=False)
    assert f"remove {CERTS}/192.168.2.2:5000" not in node.done


@pytest.mark.parametrize("unit", ["k3s", "k3s-agent"])
def test_k3s_is_restarted_when_its_file_changed(unit: str) -> None:
    node = FakeNode(("containerd", unit))
    ours = option(ca_content=CA, username="u", password="p")
    result = run(node, ours)
    assert (result["runtime"], result["restarted"]) == ("k3s", unit)
    assert node.files[K3S][1] == 0o600
    assert node.files["/etc/rancher/k3s/lumen-airgap-ca-192.168.2.2_5000.pem"] == (CA, 0o644)
    assert not run(node, ours)["changed"]
    assert run(node, ours, present=False)["restarted"] == unit
    assert node.files == {}


def test_k3s_has_one_ca_for_an_address() -> None:
    node = FakeNode(("k3s",))
    other = CA.replace("AAAA", "BBBB")
    with pytest.raises(AirgapError, match=r"a\.test and b\.test speak to 192\.168\.2\.2:5000 with different TLS"):
        run(node, option("a.test", ca_content=CA), option("b.test", ca_content=other))
    assert node.done == []
    # Neither white space around it nor the name of its file is a difference.
    url = "https://192.168.2.2:5000"
    same = [option("a.test", "https://first.test", url, ca_content=CA), option("b.test", url, ca_content=CA.strip())]
    assert run(node, *same)["changed"]
    assert not run(node, *same)["changed"]


def test_k3s_that_is_not_installed_yet_needs_no_restart() -> None:
    result = run(FakeNode(()), runtime="k3s")
    assert (result["changed"], result["restarted"]) == (True, None)


def test_a_restart_that_did_not_happen_is_made_up_for() -> None:
    node = FakeNode()
    node.restart_fails = True
    with pytest.raises(AirgapError, match="does not start"):
        run(node)
    node.restart_fails = False
    result = run(node)
    assert (result["changed"], result["diff"], result["restarted"]) == (True, [], "containerd")
    assert not run(node)["changed"]


def test_no_restart_when_told() -> None:
    node = FakeNode()
    assert run(node, restart=False)["restarted"] is None
    assert "restart containerd" not in node.done


def test_nothing_is_written_when_one_file_makes_no_sense() -> None:
    node = FakeNode()
    node.put(CONFIG, 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry.mirrors."a"]\nendpoint = []\n')
    with pytest.raises(AirgapError, match="does not start with these beside config_path"):
        run(node)
    assert node.done == []


def test_a_node_without_a_runtime_is_refused() -> None:
    with pytest.raises(AirgapError, match="no unit k3s, k3s-agent or containerd"):
        run(FakeNode(()))
