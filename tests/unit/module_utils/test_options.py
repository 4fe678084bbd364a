# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Option groups and doc fragments say the same."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import yaml
from ansible_collections.lumen.airgap.plugins.module_utils import options

FRAGMENTS = "ansible_collections.lumen.airgap.plugins.doc_fragments"


def documented(suboptions: dict[str, Any]) -> dict[str, Any]:
    """Documented options in the form of an argument spec."""
    spec: dict[str, Any] = {}
    for name, option in suboptions.items():
        entry = {key: option[key] for key in ("type", "default", "choices", "required") if key in option}
        if "suboptions" in option:
            entry["options"] = documented(option["suboptions"])
        spec[name] = entry
    return spec


def declared(spec: dict[str, Any]) -> dict[str, Any]:
    """An argument spec without what documentation does not show."""
    shown: dict[str, Any] = {}
    for name, option in spec.items():
        entry = {key: value for key, value in option.items() if key not in ("apply_defaults", "no_log", "options")}
        if "options" in option:
            entry["options"] = declared(option["options"])
        shown[name] = entry
    return shown


@pytest.mark.parametrize(
    ("fragment", "spec"), [("kube", options.KUBE_OPTIONS), ("prometheus", options.PROMETHEUS_OPTIONS)]
)
def test_fragment_and_spec_agree(fragment: str, spec: dict[str, Any]) -> None:
    text = importlib.import_module(f"{FRAGMENTS}.{fragment}").ModuleDocFragment.DOCUMENTATION
    assert documented(yaml.safe_load(text)["options"]) == declared(spec)
