# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of what works with Trivy's databases (argument spec: TRIVY_OPTIONS)."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment ``lumen.airgap.trivy``."""

    DOCUMENTATION = r"""
options:
  cache_path:
    description: Trivy's cache directory on the node, in which C(db) and C(java-db) are.
    type: path
    default: /var/cache/trivy
  db:
    description: The database of vulnerabilities.
    type: dict
    suboptions:
      warn_days:
        description:
          - Age in days from which on there is a warning; V(0) for never.
          - The age counts from when the database was made, not from when it was brought here.
        type: float
        default: 30
      fail_days:
        description: Age in days from which on the database is refused; V(0) for never.
        type: float
        default: 90
      schema:
        description: Schema that the Trivy in use reads.
        type: int
        default: 2
  java_db:
    description:
      - The database of Java archives, which Trivy needs for images that have any. When this is not given it need not be
        there.
    type: dict
    suboptions:
      warn_days:
        description: As O(db.warn_days).
        type: float
        default: 30
      fail_days:
        description: As O(db.fail_days).
        type: float
        default: 90
      schema:
        description: As O(db.schema).
        type: int
        default: 1
"""
