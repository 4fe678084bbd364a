# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Both inventories are of one shape, so that what runs on the lab runs on the cluster it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

INVENTORIES = Path(__file__).parents[2] / "inventories"


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def groups(name: str) -> dict[str, Any]:
    found: dict[str, Any] = load(INVENTORIES / name / "hosts.yml")["all"]["children"]
    return found


def test_both_have_the_same_groups() -> None:
    assert set(groups("lab")) == set(groups("airgap")) == {"clusters", "nodes", "registry_node", "connected"}


def test_both_have_the_same_nodes() -> None:
    for group in ("nodes", "registry_node"):
        assert set(groups("lab")[group]["hosts"]) == set(groups("airgap")[group]["hosts"])


def test_every_variable_of_the_cluster_is_one_of_the_lab() -> None:
    lab, airgap = (load(INVENTORIES / name / "group_vars" / "all.yml") for name in ("lab", "airgap"))
    of_lab = {name for name in lab if name.startswith("airgap_")}
    # The lab makes the application, which a cluster has.
    assert set(airgap) == of_lab - {"airgap_app_replicas", "airgap_app_analysis"}


def test_a_cluster_is_spoken_to_from_here() -> None:
    for name in ("lab", "airgap"):
        assert load(INVENTORIES / name / "group_vars" / "clusters.yml")["ansible_connection"] == "local"
        for host in groups(name)["clusters"]["hosts"].values():
            assert set(host) == {"airgap_kubeconfig", "airgap_registry_node"}
