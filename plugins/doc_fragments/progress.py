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
      - Absolute path of a file of the node to which a line is appended for each step of the work. It is made when it
        does not exist.
      - For whoever wants to keep the lines. Without it they go to a temporary file that is removed at the end.
    type: path
  quiet:
    description: Do not print the progress. The module then runs as any other, not as a job.
    type: bool
    default: false
attributes:
  action:
    description: Runs the module as a job of the node, and prints its progress while it runs.
    support: full
    details:
      - The job is ended when the task is, by its C(timeout), an interrupt, or the death of C(ansible-playbook). On a
        node that cannot be reached at that moment it goes on to its own end.
      - Nothing is printed in check mode or with C(no_log).
  async:
    description: Supports being used with the C(async) keyword.
    support: full
    details:
      - No progress is printed then. Name a O(progress_path) to have it.
  delegation:
    description: Can be used with C(delegate_to).
    support: full
"""
