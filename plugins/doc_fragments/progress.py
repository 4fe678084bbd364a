# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of a module whose action prints what it does while it runs (argument spec: PROGRESS_OPTIONS)."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment ``lumen.airgap.progress``."""

    DOCUMENTATION = r"""
options:
  progress_path:
    description:
      - A file of the node to which a line is appended for each step of the work. It is made when it does not exist.
      - Without it, a temporary one that is removed at the end. It is there for whoever wants to keep the lines.
    type: path
  quiet:
    description: Do not print what is done while the task runs.
    type: bool
    default: false
attributes:
  action:
    description: Runs the module as a job of the node, and prints its progress while it runs.
    support: full
  async:
    description: Supports being used with the C(async) keyword.
    support: full
    details:
      - No progress is printed then. Name a O(progress_path) to have it.
  delegation:
    description: Can be used with C(delegate_to).
    support: full
"""
