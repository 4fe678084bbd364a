# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action argo_application: the module on the node, in sight."""

from __future__ import annotations

from ansible_collections.lumen.airgap.plugins.action.argo_application import ActionModule
from ansible_collections.lumen.airgap.plugins.module_utils.options import PROGRESS_OPTIONS
from ansible_collections.lumen.airgap.plugins.modules import argo_application as module
from ansible_collections.lumen.airgap.plugins.plugin_utils.background import BackgroundAction


def test_the_module_takes_what_the_action_adds() -> None:
    assert issubclass(ActionModule, BackgroundAction)
    assert PROGRESS_OPTIONS.items() <= module.ARGUMENT_SPEC.items()
