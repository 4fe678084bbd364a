# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of what talks to Gitea (argument spec: GITEA_OPTIONS)."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment ``lumen.airgap.gitea``."""

    DOCUMENTATION = r"""
options:
  gitea:
    description: The Gitea to talk to, and as whom.
    type: dict
    required: true
    suboptions:
      url:
        description:
          - Its address, as in V(http://192.168.2.2:30300).
          - Without a user or a password in it.
        type: str
        required: true
      token:
        description: An access token. Each module says which scopes it needs.
        type: str
      username:
        description: User to log in as. Together with O(gitea.password).
        type: str
      password:
        description: Password of O(gitea.username), in place of O(gitea.token).
        type: str
      ca_path:
        description: PEM file of the CAs that may have signed Gitea's certificate. Without it, the machine's.
        type: path
      validate_certs:
        description: Whether to check the certificate of an C(https) address.
        type: bool
        default: true
      timeout:
        description: How long one request may take, in seconds, more than 0.
        type: float
        default: 10.0
requirements:
  - requests (Python library)
notes:
  - Proxies of the process' environment are not used, Gitea is asked directly.
"""
