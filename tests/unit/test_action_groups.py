# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action group names exactly what takes the options of a cluster, so that module_defaults fit all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.plugin_docs import read_docstring

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for path in (ROOT / "plugins" / "modules").glob("*.py") if path.stem != "__init__")


def documentation(path: Path) -> dict[str, Any]:
    doc: dict[str, Any] = read_docstring(str(path))["doc"]
    return doc


def group() -> list[str]:
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())
    names: list[str] = runtime["action_groups"]["cluster"]
    return names


def test_the_group_names_exactly_what_uses_the_kube_fragment() -> None:
    users = [
        path.stem
        for path in MODULES
        if "lumen.airgap.kube" in documentation(path).get("extends_documentation_fragment", [])
    ]
    assert group() == users


def test_what_uses_the_kube_fragment_states_its_group() -> None:
    for path in MODULES:
        fragments = documentation(path).get("extends_documentation_fragment", [])
        assert ("lumen.airgap.kube" in fragments) == ("lumen.airgap.attributes.cluster" in fragments), path.stem


def test_every_module_states_its_attributes() -> None:
    for path in MODULES:
        doc = documentation(path)
        assert "lumen.airgap.attributes" in doc.get("extends_documentation_fragment", []), path.stem
        assert {"check_mode", "diff_mode", "idempotent"} <= doc.get("attributes", {}).keys(), path.stem


def test_every_action_has_a_module_that_documents_it() -> None:
    documented = {path.stem for path in MODULES}
    actions = {path.stem for path in (ROOT / "plugins" / "action").glob("*.py")} - {"__init__"}
    assert actions <= documented
