# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back from a backend to the clients, and rp_filter, which drops what came by another way. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from ..common.iproute import IPAddress
from .finding import OK, WARNING, Finding, listed, serious
from .network import FAR, Network

CHECK = "way back"
_STRICT = 1


def judge(
    nic: str,
    versions: Iterable[int],
    clients: Iterable[IPAddress],
    network: Network,
    rp_filter: int,
    in_service: bool = True,
) -> list[Finding]:
    """``nic``: where frames from the load balancer come in. ``versions``: of the families that have VIPs.

    ``rp_filter``: the higher of that of the NIC and that of all, as the kernel takes it.
    """
    wanted = set(versions)
    strict = rp_filter == _STRICT
    elsewhere: dict[str, list[IPAddress]] = {}
    lost = []
    found: list[Finding] = []
    known = [address for address in clients if address.version in wanted]
    for client in known:
        route = network.routes.get(client)
        if route is None or route.kind != "unicast":
            lost.append(client)
        elif route.link != nic:
            elsewhere.setdefault(route.link, []).append(client)
    if lost:
        found.append(
            Finding(
                CHECK,
                serious(in_service),
                f"no route to {listed(lost)}: replies can't leave, what comes is dropped",
                f"a route by the segment's router: ip route add default via ROUTER dev {nic}",
            )
        )
    for link, some in sorted(elsewhere.items()):
        v4 = [client for client in some if client.version == 4]
        if v4 and strict:
            found.append(
                Finding(
                    CHECK,
                    serious(in_service),
                    f"rp_filter of {nic} is strict, and the way back to {listed(v4)} is by {link}: what comes on {nic} "
                    "is dropped",
                    f"sysctl -w net.ipv4.conf.{nic}.rp_filter=2 (and in /etc/sysctl.d), or a route by {nic}",
                )
            )
    # What other clients there may be: all those of the Internet.
    for far in FAR:
        route = network.routes.get(far)
        if far.version not in wanted or route is None or route.kind != "unicast" or route.link == nic:
            continue
        if far.version == 4 and strict:
            found.append(
                Finding(
                    CHECK,
                    WARNING,
                    f"rp_filter of {nic} is strict and the default route is by {route.link}: clients on that way "
                    "are dropped",
                    f"sysctl -w net.ipv4.conf.{nic}.rp_filter=2 (and in /etc/sysctl.d), or the default route by {nic}",
                )
            )
        else:
            found.append(
                Finding(
                    CHECK,
                    WARNING,
                    f"frames come on {nic} and the IPv{far.version} default route is by {route.link}: the networks on "
                    "that way have to let packets from the VIPs pass",
                    f"the default route by {nic}, unless that is meant",
                )
            )
    if not found:
        to = f"to {listed(known)} " if known else ""
        mode = {0: "off", _STRICT: "strict"}.get(rp_filter, "loose")
        found.append(Finding(CHECK, OK, f"{to}by {listed(elsewhere) or nic}; rp_filter {mode}"))
    return found


def number(text: Optional[str]) -> int:
    """A setting of the kernel as it is read from /proc."""
    return int(text) if text and text.strip().isdigit() else 0
