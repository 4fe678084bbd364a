# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Option groups that several modules and actions share, beside the doc fragments of the same names.

Each constant is a part of an argument spec: ``{**KUBE_OPTIONS, "name": {...}}``.
"""

from __future__ import annotations

from typing import Any

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
            "timeout": {"type": "float", "default": 10.0},
        },
    },
}

#: Fragment ``lumen.airgap.registry``.
REGISTRY_OPTIONS: dict[str, Any] = {
    "registry": {
        "type": "dict",
        "apply_defaults": True,
        "options": {
            "host": {"type": "str", "default": "192.168.2.2:5000"},
            "scheme": {"type": "str", "choices": ["http", "https"], "default": "http"},
        },
    },
}
