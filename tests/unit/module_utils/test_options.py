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
from ansible_collections.lumen.airgap.plugins.module_utils.errors import AirgapError

SHOWN = ("type", "default", "choices", "elements", "required")
FRAGMENTS = "ansible_collections.lumen.airgap.plugins.doc_fragments"
UNDOCUMENTED = (
    *("apply_defaults", "no_log", "options"),
    *("mutually_exclusive", "required_by", "required_one_of", "required_together"),
)


def documented(suboptions: dict[str, Any]) -> dict[str, Any]:
    """Documented options in the form of an argument spec."""
    spec: dict[str, Any] = {}
    for name, option in suboptions.items():
        entry = {key: option[key] for key in SHOWN if key in option}
        if "suboptions" in option:
            entry["options"] = documented(option["suboptions"])
        spec[name] = entry
    return spec


def declared(spec: dict[str, Any]) -> dict[str, Any]:
    """An argument spec without what documentation does not show."""
    shown: dict[str, Any] = {}
    for name, option in spec.items():
        entry = {key: value for key, value in option.items() if key not in UNDOCUMENTED}
        if "options" in option:
            entry["options"] = declared(option["options"])
        shown[name] = entry
    return shown


@pytest.mark.parametrize(
    ("fragment", "part", "spec"),
    [
        ("kube", "DOCUMENTATION", options.KUBE_OPTIONS),
        ("prometheus", "DOCUMENTATION", options.PROMETHEUS_OPTIONS),
        ("gate", "DOCUMENTATION", options.GATE_OPTIONS),
        ("gate", "SUBOPTIONS", {"gate": {"type": "dict", "options": options.GATE_OPTIONS}}),
    ],
)
def test_fragment_and_spec_agree(fragment: str, part: str, spec: dict[str, Any]) -> None:
    text = getattr(importlib.import_module(f"{FRAGMENTS}.{fragment}").ModuleDocFragment, part)
    assert documented(yaml.safe_load(text)["options"]) == declared(spec)


RANGES = {"wait": options.SECONDS, "path": options.ABSOLUTE, **options.PROMETHEUS_RANGES}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"wait": None, "prometheus": None},
        {"wait": 0.1, "path": "/srv", "prometheus": {"port": 1, "timeout": 1}},
        {"prometheus": {"port": 65535}},
    ],
)
def test_in_range(params: dict[str, Any]) -> None:
    options.check_ranges(params, RANGES)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"wait": 0}, "The option wait must be more than 0 and at most 31536000 seconds, not 0"),
        ({"wait": -1.5}, "The option wait must be"),
        ({"wait": float("nan")}, "not nan"),
        ({"wait": float("inf")}, "not inf"),
        ({"path": "srv/images"}, "The option path must be an absolute path, not 'srv/images'"),
        ({"prometheus": {"port": 0}}, r"The option prometheus\.port must be a port from 1 to 65535, not 0"),
        ({"prometheus": {"port": 65536}}, r"The option prometheus\.port"),
        ({"prometheus": {"timeout": 0.0}}, r"The option prometheus\.timeout"),
    ],
)
def test_out_of_range(params: dict[str, Any], message: str) -> None:
    with pytest.raises(AirgapError, match=message):
        options.check_ranges(params, RANGES)
