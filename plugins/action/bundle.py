# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of the same name and prints what it says while it works."""

from __future__ import annotations

from ..plugin_utils.background import BackgroundAction


class ActionModule(BackgroundAction):
    """The action ``lumen.airgap.bundle``."""
