# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of what talks to a registry (argument spec: REGISTRY_OPTIONS) or to the Docker daemon beside it."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments ``lumen.airgap.registry`` and ``lumen.airgap.registry.docker``."""

    DOCUMENTATION = r"""
options:
  registry:
    description: The registry to talk to.
    type: dict
    suboptions:
      host:
        description: Address of the registry as C(host:port), as it stands in the names of its images.
        type: str
        default: 192.168.2.2:5000
      scheme:
        description: How the registry is spoken to.
        type: str
        choices: [http, https]
        default: http
requirements:
  - requests (Python library)
notes:
  - Proxies of the process' environment are not used, the registry is asked directly.
"""

    DOCKER = r"""
options:
  docker_host:
    description: Address of the Docker daemon.
    type: str
    default: unix:///var/run/docker.sock
requirements:
  - docker (Python library)
"""
