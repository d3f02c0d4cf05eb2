# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which NIC, next hop and source address a probe uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ..common.errors import ConfigError, HostError
from ..common.iproute import HeldAddress, IPAddress, Iproute
from .request import Request


@dataclass(frozen=True)
class Way:
    """How this host's frames reach the probed address.

    ``own`` is true when the address is this host's own. ``source`` is the address that frames made
    here are sent from.
    """

    interface: str
    gateway: Optional[str]
    next_hop: str
    source: Optional[IPAddress]
    own: bool


def find_way(request: Request, iproute: Iproute) -> Way:
    """The way to the probed address. ConfigError or HostError if there is none to probe by."""
    held = iproute.addresses()
    own = any(entry.ip == request.address for entry in held)
    if own and not request.through:
        raise ConfigError(
            "address",
            f"this host holds {request.address} itself, so its own packets to it never reach the segment and prove"
            " nothing about the load balancer; probe from another host of the segment, or give 'through'",
        )
    interface, gateway = _leave_by(request, own, iproute, held)
    return Way(interface, gateway, gateway or str(request.address), _source(request, interface, held), own)


def _leave_by(request: Request, own: bool, iproute: Iproute, held: list[HeldAddress]) -> tuple[str, Optional[str]]:
    route = None if own else iproute.route_to(request.address)
    if route is not None and route.kind == "unicast" and request.interface in (None, route.link):
        return route.link, route.gateway
    if route is not None and route.kind == "broadcast":
        raise ConfigError("address", f"{request.address} is the broadcast address of {route.link}")
    if request.interface:
        return request.interface, None  # bound to a NIC without a route, the kernel takes the address for on-link
    candidates = interfaces_of(request.address, held, iproute) if own else set()
    if request.through and not candidates:
        candidates = {entry.link for entry in iproute.neighbours() if entry.mac == request.through}
    if len(candidates) == 1:
        return candidates.pop(), None
    if candidates:
        raise ConfigError("interface", f"is needed: any of {', '.join(sorted(candidates))} could be meant")
    if request.through:
        raise ConfigError("interface", f"is needed: nothing tells by which NIC {request.through} is reached")
    raise HostError(f"this host has no route to {request.address}; give 'interface' if it is on one of its segments")


def interfaces_of(address: IPAddress, held: list[HeldAddress], iproute: Iproute) -> set[str]:
    """The NICs, loopback not among them, that hold ``address``."""
    links = iproute.links()
    return {entry.link for entry in held if entry.ip == address and not links[entry.link].loopback}


def _source(request: Request, interface: str, held: list[HeldAddress]) -> Optional[IPAddress]:
    """An address of ``interface`` that is not the probed one; best of its network, at least not a lone /32 or /128.

    Those addresses of a load balancer's NIC are VIPs: an answer to one of them would be scheduled.
    """
    values = [
        entry.value
        for entry in held
        if entry.link == interface
        and entry.ip.version == request.address.version
        and entry.ip != request.address
        and entry.usable
    ]
    values.sort(
        key=lambda value: (
            request.address not in value.network,
            value.network.prefixlen == value.max_prefixlen,
            # One that routers know goes first. (IPv4 has no better one beside it.)
            value.version == 6 and value.ip.is_link_local,
        )
    )
    return values[0].ip if values else None
