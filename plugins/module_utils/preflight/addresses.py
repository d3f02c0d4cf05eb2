# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VIPs' addresses where they must not be: on a backend's NIC, on a client, as a host's own. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Optional

from ..common.iproute import HeldAddress, IPAddress
from .finding import FAILED, OK, Finding, listed
from .network import Network
from .request import BACKEND, CLIENT

CHECK = "address"


def judge(end: str, vips: Iterable[IPAddress], network: Network) -> Iterator[Finding]:
    """What this host holds of the VIPs, and must not."""
    main = network.main_addresses()
    right = []
    for vip in vips:
        for entry in network.holders(vip):
            problem = _problem(end, entry, network, str(vip) in main)
            if problem is None:
                right.append(vip)
            else:
                yield problem
    if end != CLIENT:
        yield Finding(CHECK, OK, f"holds {listed(right)}" if right else "holds no VIP yet")


def held_well(end: str, vips: Iterable[IPAddress], network: Network) -> list[str]:
    """The VIPs that this host holds as it should."""
    main = network.main_addresses()
    return [
        str(vip)
        for vip in vips
        if any(_problem(end, entry, network, str(vip) in main) is None for entry in network.holders(vip))
    ]


def _problem(end: str, entry: HeldAddress, network: Network, main: bool) -> Optional[Finding]:
    vip, place = entry.ip, f"{entry.value} on {entry.link}"
    if main or entry.value.network.prefixlen < vip.max_prefixlen:
        return Finding(
            CHECK,
            FAILED,
            f"the VIP {vip} is this host's own address ({place})",
            "give the VIP an address that no host has: 'address' in dsr_vips",
        )
    if end == CLIENT:
        return Finding(
            CHECK,
            FAILED,
            f"the client holds the VIP {vip} ({place})",
            f"ip address delete {entry.value} dev {entry.link}",
        )
    if end == BACKEND and entry.link in network.nics and "NOARP" not in network.links[entry.link].flags:
        return Finding(
            CHECK,
            FAILED,
            f"the VIP {vip} is on the NIC {entry.link}, where this backend answers for it",
            f"ip address delete {entry.value} dev {entry.link}, there and in the configuration that put it there; "
            "dsr.layer2.site puts it on lo",
        )
    return None
