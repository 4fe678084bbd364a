# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.lumen.airgap.tests.unit.fakes.canary_lab import NEW, OLD
from ansible_collections.lumen.airgap.tests.unit.fakes.deployments import DeploymentLab


def test_a_good_version_is_promoted_and_nothing_is_left_behind() -> None:
    lab = DeploymentLab()
    before = lab.deployment()
    result = lab.release().run()
    print("\n".join(lab.out.lines))
    assert (result["outcome"], result["driver"]) == ("promoted", "deployment")
    assert lab.image() == NEW
    assert not lab.has_canary()
    after = lab.deployment()
    assert after["spec"]["replicas"] == before["spec"]["replicas"]
