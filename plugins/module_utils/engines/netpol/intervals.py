# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sets of whole numbers as sorted ranges, and IP addresses as such numbers.

However many blocks and ports a policy lists, asking for one address or port is one binary search.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network

Range = tuple[int, int]

# IPv6 addresses are numbered behind the IPv4 ones, so that the families never meet.
_FIRST_IPV6 = 1 << 32
# Of an IPv6 network whose addresses are IPv4 ones (::ffff:0:0/96).
_MAPPED_PREFIX = 96
# Python would also take netmasks, and an address for a network of one.
_CIDR = re.compile(r"[0-9A-Fa-f.:]+/(0|[1-9][0-9]{0,2})", re.ASCII)


class Intervals:
    """A set of numbers, given as ranges with both their ends."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(ranges):
            if self._ends and start <= self._ends[-1] + 1:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._starts, self._ends)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._starts, number)
        return place > 0 and number <= self._ends[place - 1]


def without(block: Range, holes: Iterable[Range]) -> Iterator[Range]:
    """What is left of a range; the holes are inside it."""
    start, last = block
    for hole_start, hole_end in Intervals(holes):
        if start < hole_start:
            yield start, hole_start - 1
        start = hole_end + 1
    if start <= last:
        yield start, last


def places(ordered: list[int], ranges: Iterable[Range]) -> Iterator[Range]:
    """Of a sorted list of numbers, first place and place after the last of those that are in each range."""
    for start, end in ranges:
        yield bisect_left(ordered, start), bisect_right(ordered, end)


def address_number(text: str) -> int:
    """An IP address as a number. Raises ValueError."""
    if not isinstance(text, str):  # ipaddress would take numbers and bytes too
        raise ValueError(f"{type(text).__name__} is no address")
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError(f"{text!r} has a zone")
        mapped = address.ipv4_mapped
        return _FIRST_IPV6 + int(address) if mapped is None else int(mapped)
    return int(address)


def block_range(text: str) -> Range:
    """The addresses of a CIDR, whose host bits may be set as in Kubernetes. Raises ValueError."""
    if not _CIDR.fullmatch(text):
        raise ValueError(f"{text!r} is no CIDR")
    network = ip_network(text, strict=False)
    first, last = int(network.network_address), int(network.broadcast_address)
    if isinstance(network, IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= _MAPPED_PREFIX:
            return int(mapped), int(mapped) + last - first
        return _FIRST_IPV6 + first, _FIRST_IPV6 + last
    return first, last
