# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action of the module argo: runs it on the node and prints its progress."""

from __future__ import annotations

from ..plugin_utils.background import BackgroundAction


class ActionModule(BackgroundAction):
    """The module of the same name."""
