# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which failures go away by themselves."""

from __future__ import annotations

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.adapters.kube.errors import (
    BY_STATUS,
    Forbidden,
    KubeError,
    Unreachable,
)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_the_server_cannot_do_at_the_moment_may_succeed_later(status: int) -> None:
    assert BY_STATUS[status] is Unreachable
    assert KubeError("etcdserver: leader changed", status=status).passing


def test_no_answer_may_become_one_and_a_refusal_stays() -> None:
    assert Unreachable("no answer").passing
    assert not Forbidden("no", status=403).passing
    assert not KubeError("what?").passing
