# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of what talks to a registry (argument spec: REGISTRY_OPTIONS) or to the Docker daemon beside it."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments ``lumen.airgap.registry``, ``lumen.airgap.registry.sources`` and ``lumen.airgap.registry.docker``."""

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
      ca_path:
        description: PEM file of the CAs that may have signed the registry's certificate. Without it, the machine's.
        type: path
      username:
        description: User to log in as. Together with O(registry.password).
        type: str
      password:
        description: Password of O(registry.username).
        type: str
requirements:
  - requests (Python library)
notes:
  - Proxies of the process' environment are not used, the registry is asked directly.
"""

    SOURCES = r"""
options:
  registries:
    description:
      - How registries that images come from are spoken to.
      - One that is not named here is asked over HTTPS, with the machine's CAs and without a user.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: Address of the registry, as it stands in the references of its images.
        type: str
        required: true
      scheme:
        description: How the registry is spoken to.
        type: str
        choices: [http, https]
        default: https
      ca_path:
        description: PEM file of the CAs that may have signed the registry's certificate. Without it, the machine's.
        type: path
      username:
        description: User to log in as. Together with O(registries[].password).
        type: str
      password:
        description: Password of O(registries[].username).
        type: str
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
