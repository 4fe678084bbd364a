# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Go's sort.Sort, swap by swap: where elements are equal, or NaN, their order is the algorithm's.

Copies the pattern-defeating quicksort of Go's sort/zsortinterface.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

Less = Callable[[Any, Any], bool]

_MAX_INSERTION = 12
_MAX_SHIFTS = 5
_SHORTEST_SHIFTING = 50
_SHORTEST_NINTHER = 50
_MAX_SWAPS = 12


def order(keys: Sequence[Any], less: Less) -> list[int]:
    """The places of ``keys`` in the order that Go would bring them into."""
    sorting = _Sorting(keys, less)
    size = len(keys)
    if size > 1:
        sorting.sort(0, size, size.bit_length())
    return sorting.places


class _Sorting:
    def __init__(self, keys: Sequence[Any], less: Less) -> None:
        self.keys = list(keys)
        self.places = list(range(len(self.keys)))
        self._less = less

    def less(self, one: int, other: int) -> bool:
        return self._less(self.keys[one], self.keys[other])

    def swap(self, one: int, other: int) -> None:
        for values in (self.keys, self.places):
            values[one], values[other] = values[other], values[one]

    def sort(self, start: int, end: int, limit: int) -> None:
        balanced = partitioned = True
        while True:
            length = end - start
            if length <= _MAX_INSERTION:
                self.insertion_sort(start, end)
                return
            if limit == 0:
                self.heap_sort(start, end)
                return
            if not balanced:
                self.break_patterns(start, end)
                limit -= 1
            pivot, swaps = self.choose_pivot(start, end)
            if swaps == _MAX_SWAPS:
                self.reverse(start, end)
                pivot = end - 1 - (pivot - start)
                swaps = 0
            if balanced and partitioned and swaps == 0 and self.partial_insertion_sort(start, end):
                return
            if start > 0 and not self.less(start - 1, pivot):
                start = self.partition_equal(start, end, pivot)
                continue
            middle, partitioned = self.partition(start, end, pivot)
            left, right = middle - start, end - middle
            balanced = min(left, right) >= length // 8
            if left < right:
                self.sort(start, middle, limit)
                start = middle + 1
            else:
                self.sort(middle + 1, end, limit)
                end = middle

    def insertion_sort(self, start: int, end: int) -> None:
        for first in range(start + 1, end):
            place = first
            while place > start and self.less(place, place - 1):
                self.swap(place, place - 1)
                place -= 1

    def heap_sort(self, start: int, end: int) -> None:
        size = end - start
        for root in range((size - 1) // 2, -1, -1):
            self.sift_down(root, size, start)
        for last in range(size - 1, -1, -1):
            self.swap(start, start + last)
            self.sift_down(0, last, start)

    def sift_down(self, root: int, end: int, first: int) -> None:
        while True:
            child = 2 * root + 1
            if child >= end:
                return
            if child + 1 < end and self.less(first + child, first + child + 1):
                child += 1
            if not self.less(first + root, first + child):
                return
            self.swap(first + root, first + child)
            root = child

    def partition(self, start: int, end: int, pivot: int) -> tuple[int, bool]:
        """Where the pivot comes to stand, and whether nothing had to be moved."""
        self.swap(start, pivot)
        low, high = self.narrowed(start, start + 1, end - 1)
        if low > high:
            self.swap(high, start)
            return high, True
        while low <= high:
            self.swap(low, high)
            low, high = self.narrowed(start, low + 1, high - 1)
        self.swap(high, start)
        return high, False

    def narrowed(self, pivot: int, low: int, high: int) -> tuple[int, int]:
        """The next two that stand on the wrong sides of the pivot."""
        while low <= high and self.less(low, pivot):
            low += 1
        while low <= high and not self.less(high, pivot):
            high -= 1
        return low, high

    def partition_equal(self, start: int, end: int, pivot: int) -> int:
        self.swap(start, pivot)
        low, high = start + 1, end - 1
        while True:
            while low <= high and not self.less(start, low):
                low += 1
            while low <= high and self.less(start, high):
                high -= 1
            if low > high:
                return low
            self.swap(low, high)
            low += 1
            high -= 1

    def partial_insertion_sort(self, start: int, end: int) -> bool:
        """Whether a few shifts were enough."""
        place = start + 1
        for _shift in range(_MAX_SHIFTS):
            while place < end and not self.less(place, place - 1):
                place += 1
            if place == end:
                return True
            if end - start < _SHORTEST_SHIFTING:
                return False
            self.swap(place, place - 1)
            if place - start >= 2:
                for left in range(place - 1, 0, -1):
                    if not self.less(left, left - 1):
                        break
                    self.swap(left, left - 1)
            if end - place >= 2:
                for right in range(place + 1, end):
                    if not self.less(right, right - 1):
                        break
                    self.swap(right, right - 1)
        return False

    def break_patterns(self, start: int, end: int) -> None:
        length = end - start
        if length < 8:
            return
        random, modulus = length, 1 << length.bit_length()
        middle = start + (length // 4) * 2
        for place in (middle - 1, middle, middle + 1):
            random ^= random << 13 & (2**64 - 1)
            random ^= random >> 7
            random ^= random << 17 & (2**64 - 1)
            other = random & (modulus - 1)
            self.swap(place, start + (other - length if other >= length else other))

    def choose_pivot(self, start: int, end: int) -> tuple[int, int]:
        """A pivot, and how many swaps it took: none means rising, the most means falling."""
        length = end - start
        swaps = 0
        low, middle, high = (start + length // 4 * part for part in (1, 2, 3))
        if length >= 8:
            if length >= _SHORTEST_NINTHER:
                low, more = self.median(low - 1, low, low + 1)
                swaps += more
                middle, more = self.median(middle - 1, middle, middle + 1)
                swaps += more
                high, more = self.median(high - 1, high, high + 1)
                swaps += more
            middle, more = self.median(low, middle, high)
            swaps += more
        return middle, swaps

    def median(self, one: int, two: int, three: int) -> tuple[int, int]:
        swaps = 0
        if self.less(two, one):
            one, two, swaps = two, one, swaps + 1
        if self.less(three, two):
            two, three, swaps = three, two, swaps + 1
        if self.less(two, one):
            one, two, swaps = two, one, swaps + 1
        return two, swaps

    def reverse(self, start: int, end: int) -> None:
        end -= 1
        while start < end:
            self.swap(start, end)
            start += 1
            end -= 1
