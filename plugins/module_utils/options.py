# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Option groups that several modules and actions share, beside the doc fragments of the same names.

Each constant is a part of an argument spec: ``{**KUBE_OPTIONS, "name": {...}}``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from .errors import AirgapError


class Range(NamedTuple):
    """What values an option may have beyond its type, and how that is said."""

    text: str
    holds: Callable[[Any], bool]


_YEAR = 365 * 86400
SECONDS = Range(f"more than 0 and at most {_YEAR} seconds", lambda value: 0 < value <= _YEAR)
NOT_NEGATIVE = Range(f"from 0 to {_YEAR} seconds", lambda value: 0 <= value <= _YEAR)
PORT = Range("a port from 1 to 65535", lambda value: 1 <= value <= 65535)
WORKERS = Range("from 1 to 10, as many connections as a session keeps", lambda value: 1 <= value <= 10)
ABSOLUTE = Range("an absolute path", os.path.isabs)

#: Fragment ``lumen.airgap.kube.patience``, beside ``lumen.airgap.kube``.
PATIENCE_OPTIONS: dict[str, Any] = {
    "patience": {"type": "float", "default": 60.0},
}

#: The ranges of PATIENCE_OPTIONS.
PATIENCE_RANGES = {"patience": NOT_NEGATIVE}

#: The ranges of PROMETHEUS_OPTIONS.
PROMETHEUS_RANGES = {"prometheus.port": PORT, "prometheus.timeout": SECONDS}


def check_ranges(params: Mapping[str, Any], ranges: Mapping[str, Range]) -> None:
    """Refuse an option out of its range, before anything is done. ``ranges`` has a dot for each suboption.

    Options that are not given are fine. Raises AirgapError with the option's name.
    """
    for name, allowed in ranges.items():
        value: Any = params
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None and not allowed.holds(value):
            raise AirgapError(f"The option {name} must be {allowed.text}, not {value!r}")


#: Fragment ``lumen.airgap.kube``.
KUBE_OPTIONS: dict[str, Any] = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
}

#: Fragment ``lumen.airgap.prometheus``.
PROMETHEUS_OPTIONS: dict[str, Any] = {
    "prometheus": {
        "type": "dict",
        "apply_defaults": True,
        "options": {
            "namespace": {"type": "str", "default": "monitoring"},
            "service": {"type": "str", "default": "kube-prometheus-stack-prometheus"},
            "port": {"type": "int", "default": 9090},
            "url": {"type": "str"},
            "ca_path": {"type": "path"},
            "client_cert_path": {"type": "path"},
            "client_key_path": {"type": "path"},
            "validate_certs": {"type": "bool", "default": True},
            "token": {"type": "str", "no_log": True},
            "token_path": {"type": "path"},
            "username": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "timeout": {"type": "float", "default": 10.0},
        },
        "mutually_exclusive": [("token", "token_path", "password")],
        "required_together": [("username", "password")],
        "required_by": {
            "client_key_path": ["client_cert_path"],
            **{name: ["url"] for name in ("ca_path", "client_cert_path", "token", "token_path", "password")},
        },
    },
}

_VERDICTS = ["pass", "fail", "inconclusive", "error"]

#: Fragment ``lumen.airgap.gate``: one analysis. The same as suboptions of ``gate`` in ``lumen.airgap.gate.suboptions``.
GATE_OPTIONS: dict[str, Any] = {
    "template": {"type": "str"},
    "cluster_template": {"type": "bool", "default": False},
    "file": {"type": "path"},
    "metrics": {"type": "list", "elements": "dict"},
    "args": {"type": "dict", "default": {}},
    "dry_run": {"type": "list", "elements": "str", "default": []},
    "consecutive_failure_limit": {"type": "int"},
    "on_empty": {"type": "str", "choices": _VERDICTS},
    "on_nan": {"type": "str", "choices": _VERDICTS},
    "min_samples": {
        "type": "dict",
        "options": {
            "query": {"type": "str", "required": True},
            "at_least": {"type": "float", "required": True},
        },
    },
    "extensions": {"type": "dict", "default": {}},
}

#: What of GATE_OPTIONS goes together.
GATE_CONSTRAINTS: dict[str, Any] = {
    "required_one_of": [["template", "file", "metrics"]],
    "mutually_exclusive": [["template", "metrics"], ["file", "metrics"], ["file", "cluster_template"]],
}

_REGISTRY_ACCESS: dict[str, Any] = {
    "ca_path": {"type": "path"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
}

#: Fragment ``lumen.airgap.registry``.
REGISTRY_OPTIONS: dict[str, Any] = {
    "registry": {
        "type": "dict",
        "apply_defaults": True,
        "options": {
            "host": {"type": "str", "default": "192.168.2.2:5000"},
            "scheme": {"type": "str", "choices": ["http", "https"], "default": "http"},
            **_REGISTRY_ACCESS,
        },
        "required_together": [("username", "password")],
    },
}

#: Fragment ``lumen.airgap.registry.sources``: how the registries that images come from are spoken to.
SOURCE_REGISTRIES_OPTIONS: dict[str, Any] = {
    "registries": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "host": {"type": "str", "required": True},
            "scheme": {"type": "str", "choices": ["http", "https"], "default": "https"},
            **_REGISTRY_ACCESS,
        },
        "required_together": [("username", "password")],
    },
}

#: Fragment ``lumen.airgap.progress``. The action of the module prints what is written to progress_path, unless quiet.
PROGRESS_OPTIONS: dict[str, Any] = {
    "progress_path": {"type": "path"},
    "quiet": {"type": "bool", "default": False},
}

#: Fragment ``lumen.airgap.gitea``.
GITEA_OPTIONS: dict[str, Any] = {
    "gitea": {
        "type": "dict",
        "required": True,
        "options": {
            "url": {"type": "str", "required": True},
            "token": {"type": "str", "no_log": True},
            "username": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "ca_path": {"type": "path"},
            "validate_certs": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 10.0},
        },
        "mutually_exclusive": [("token", "password")],
        "required_one_of": [("token", "password")],
        "required_by": {"password": ["username"]},
    },
}

#: The ranges of GITEA_OPTIONS.
GITEA_RANGES = {"gitea.timeout": SECONDS}


def _trivy_gate(schema: int) -> dict[str, Any]:
    return {
        "warn_days": {"type": "float", "default": 30.0},
        "fail_days": {"type": "float", "default": 90.0},
        "schema": {"type": "int", "default": schema},
    }


#: Fragment ``lumen.airgap.trivy``: Trivy's cache, and how old a database in it may be.
TRIVY_OPTIONS: dict[str, Any] = {
    "cache_path": {"type": "path", "default": "/var/cache/trivy"},
    "db": {"type": "dict", "apply_defaults": True, "options": _trivy_gate(2)},
    "java_db": {"type": "dict", "options": _trivy_gate(1)},
}
