# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls side by side."""

from __future__ import annotations

import threading

import pytest
from ansible_collections.lumen.airgap.plugins.module_utils.services.parallel import each


def test_results_are_in_the_order_of_the_items() -> None:
    both = threading.Barrier(2, timeout=10)

    def call(item: int) -> int:
        both.wait()  # passes only when two are under way at once
        return item * 2

    assert each(2, call, [1, 2, 3, 4]) == [2, 4, 6, 8]
    assert each(4, lambda item: item, []) == []


def test_the_first_failure_ends_it() -> None:
    begun: list[int] = []

    def call(item: int) -> None:
        begun.append(item)
        raise ValueError(str(item))

    for workers in (1, 2):
        begun.clear()
        with pytest.raises(ValueError, match=r"^[01]$"):
            each(workers, call, list(range(100)))
        assert len(begun) <= workers
