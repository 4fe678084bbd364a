# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action trivy_db: the module as a job of the node."""

from __future__ import annotations

from ansible_collections.lumen.airgap.plugins.action.trivy_db import ActionModule
from ansible_collections.lumen.airgap.plugins.modules import trivy_db as module
from ansible_collections.lumen.airgap.plugins.plugin_utils.background import BackgroundAction


def test_it_follows_its_module() -> None:
    assert issubclass(ActionModule, BackgroundAction)
    assert {"progress_path", "quiet"} <= set(module.ARGUMENT_SPEC)
