# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Attributes that every module and action states."""

from __future__ import annotations


class ModuleDocFragment:
    """Use ``lumen.airgap.attributes`` with the others; a module states the support of the first three itself."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
  diff_mode:
    description: Returns details on what has changed, or would change in C(check_mode), when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system that is controlled or queried has not changed in a relevant way.
"""

    # For everything that uses the fragment kube.
    CLUSTER = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/lumen.airgap.cluster) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - lumen.airgap.cluster
"""

    # For actions.
    ACTION = r"""
options: {}
attributes:
  action:
    description: Runs where C(ansible-playbook) runs, and prints its progress while it runs.
    support: full
  async:
    description: Supports being used with the C(async) keyword.
    support: none
  delegation:
    description: Can be used with C(delegate_to).
    support: none
    details:
      - The work is done where C(ansible-playbook) runs. A host with another connection than V(local) is refused.
"""
