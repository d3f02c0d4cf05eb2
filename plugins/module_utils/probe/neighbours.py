# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who answers for a list of addresses on the segment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ..common import neighbours
from ..common.errors import ConfigError
from ..common.iproute import HeldAddress, IPAddress, Iproute, Route
from .request import attempts, seconds, unicast
from .way import interfaces_of


def neighbour_info(options: Mapping[str, Any], iproute: Optional[Iproute] = None) -> list[dict[str, Any]]:
    """For each address asked, in the order asked: the NIC it was asked on, and the MACs that answered."""
    iproute = iproute or Iproute()
    asked = [unicast(f"addresses[{index}]", text) for index, text in enumerate(options["addresses"])]
    timeout = seconds("timeout", options["timeout"])
    settle = seconds("settle", options["settle"]) if options["settle"] else 0.0
    times = attempts("attempts", options["attempts"])
    held = iproute.addresses()
    routes = {} if options["interface"] else iproute.routes_to(asked)
    ways = {
        address: options["interface"] or _interface_to(f"addresses[{index}]", address, held, routes[address], iproute)
        for index, address in enumerate(asked)
    }
    answers: dict[str, frozenset[str]] = {}
    for interface in sorted(set(ways.values())):
        there = [str(address) for address in ways if ways[address] == interface]
        answers.update(neighbours.resolve(interface, there, timeout, times, settle, iproute))
    return [
        {"address": str(address), "interface": ways[address], "macs": sorted(answers.get(str(address), ()))}
        for address in asked
    ]


def _interface_to(
    option: str, address: IPAddress, held: list[HeldAddress], route: Optional[Route], iproute: Iproute
) -> str:
    if address.version == 6 and address.is_link_local:
        raise ConfigError(option, f"{address} is a link-local address, which any segment may have; give 'interface'")
    if any(entry.ip == address for entry in held):
        nics = interfaces_of(address, held, iproute)
        if len(nics) == 1:
            return nics.pop()
        raise ConfigError(option, f"this host holds {address} itself, so 'interface' must say which segment to ask on")
    if route is None or route.kind != "unicast":
        raise ConfigError(option, f"this host has no route to {address}; give 'interface'")
    if route.gateway:
        raise ConfigError(
            option,
            f"{address} is not on a segment of this host: the route to it goes by the router {route.gateway}."
            " Give 'interface' if it is on the segment of one",
        )
    return route.link
