# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of everything that talks to a Kubernetes cluster (argument spec: KUBE_OPTIONS, PATIENCE_OPTIONS)."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments ``lumen.airgap.kube`` and ``lumen.airgap.kube.patience``."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of the kubeconfig file.
      - Without it, the file that the environment variable E(KUBECONFIG) names, or V(~/.kube/config).
    type: path
  context:
    description:
      - Name of the context in the kubeconfig file.
      - Without it, the current context of the file.
    type: str
requirements:
  - kubernetes (Python library)
"""

    PATIENCE = r"""
options:
  patience:
    description:
      - For how long a request is made again, in seconds, while the API server does not answer, as when it restarts.
      - V(0) fails at once.
    type: float
    default: 60
    version_added: 0.5.0
"""
