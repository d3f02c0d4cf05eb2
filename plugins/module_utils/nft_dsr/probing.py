# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the agent's checks get to a VIP on one certain backend, by this host's own TCP and UDP. Pure.

The agent connects to the backend's own address, so the kernel finds its way and its MAC, and marks the
packets. On the way out the mark says for which VIP they are, and the destination becomes that VIP. What
comes back from that VIP, from that backend's MAC, becomes an answer of the backend's own address. So a
backend that lost the VIP does not answer, and an answer of any other backend is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from .model import IPAddress
from .packet_fields import Family
from .resolved import ResolvedVip
from .table import Spec, TableBuilder, mark

# No backend has such a number: as an IPv4 address it is reserved, and of IPv6 addresses none is numbered like that.
PROBE_MARK, PROBE_MASK = 0xF5A00000, 0xFFF00000


def probe_marks(addresses: Iterable[IPAddress]) -> dict[IPAddress, int]:
    """The mark of packets that are to go to each of these VIPs.

    A VIP keeps its mark when others come or go, but for two in a million that hash alike.
    """
    marks: dict[IPAddress, int] = {}
    taken: set[int] = set()
    for address in sorted(set(addresses), key=lambda address: (address.version, int(address))):
        number = int.from_bytes(hashlib.shake_128(b"dsr.layer2 probe " + address.packed).digest(4), "big")
        number &= ~PROBE_MASK
        while number in taken:
            number = (number + 1) & ~PROBE_MASK & 0xFFFFFFFF
        taken.add(number)
        marks[address] = PROBE_MARK | number
    return marks


def probed(items: Iterable[ResolvedVip]) -> list[ResolvedVip]:
    """The VIPs that are checked through themselves."""
    return [item for item in items if item.vip.health_check is not None and item.vip.health_check.through_vip]


def marks_of(items: Iterable[ResolvedVip]) -> dict[str, int]:
    """The mark of the packets that check each VIP through itself; of the others there is none."""
    groups: dict[tuple[str, int], list[ResolvedVip]] = {}
    for item in probed(items):
        groups.setdefault((item.backend_interface, item.vip.address.version), []).append(item)
    return {
        item.vip.name: marks[item.vip.address]
        for group in groups.values()
        for marks in [probe_marks(item.vip.address for item in group)]
        for item in group
    }


def outgoing(build: TableBuilder, interface: str, items: Sequence[ResolvedVip], families: Sequence[Family]) -> None:
    """The chain that addresses the agent's packets to VIPs; ``items`` are those of this NIC that are probed."""
    # Whatever else leaves, forwarded frames above all, is done here.
    rules = [f"meta mark & {PROBE_MASK:#010x} != {PROBE_MARK:#010x} accept"]
    marks = marks_of(items)
    by_address = sorted(items, key=lambda item: int(item.vip.address))
    for family in families:
        name = build.map(
            f"probes{family.suffix}_{interface}",
            (f"type mark : {family.address_type}",),
            Spec(("mark",), family.address_type),
            {mark(marks[item.vip.name]): str(item.vip.address) for item in by_address if item.family == family},
        )
        rules.append(f"{family.daddr} set meta mark map @{name}")
    build.chain(f"egress_{interface}", rules, device=interface, hook="egress")


def incoming(build: TableBuilder, interface: str, items: Sequence[ResolvedVip], family: Family) -> str:
    """The rule that makes a VIP's answer one of the backend whose MAC it has. Only of what is for this host itself."""
    types = ("ether_addr", family.address_type)
    name = build.map(
        f"answers{family.suffix}_{interface}",
        (f"type {' . '.join(types)} : {family.address_type}",),
        Spec(types, family.address_type),
        {
            f"{item.macs[backend.address]} . {item.vip.address}": str(backend.address)
            for item in items
            for backend in item.vip.backends
            if backend.address in item.macs
        },
    )
    return f"fib daddr type local {family.saddr} set ether saddr . {family.saddr} map @{name}"
