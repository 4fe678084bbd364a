# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action of the module rollout_info: does its work in ansible-playbook where that is the same."""

from __future__ import annotations

from ..module_utils.adapters.kube.transport import preload
from ..modules import rollout_info
from ..plugin_utils.in_process import InProcessAction

preload()


class ActionModule(InProcessAction):
    """The module of the same name."""

    SPEC = rollout_info.SPEC
    work = staticmethod(rollout_info.work)
