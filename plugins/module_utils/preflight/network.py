# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's network is at the time of the preflight, read once. Thin: judging is done elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Optional

from ..common.iproute import HeldAddress, IPAddress, Iproute, Link, Route

# Somewhere far off in each family: the kernel is asked for its way there, and nothing is sent.
FAR = (ip_address("1.0.0.1"), ip_address("2000::1"))


@dataclass(frozen=True)
class Network:
    """Links, addresses, and the routes to whom the preflight is about."""

    links: Mapping[str, Link]
    held: tuple[HeldAddress, ...]
    routes: Mapping[IPAddress, Optional[Route]] = field(default_factory=dict)

    @property
    def nics(self) -> dict[str, Link]:
        """The links that have neighbours."""
        return {name: link for name, link in self.links.items() if link.mac and not link.loopback}

    def holders(self, address: IPAddress) -> list[HeldAddress]:
        return [entry for entry in self.held if entry.ip == address]

    def nic_of(self, addresses: Iterable[IPAddress]) -> str:
        """The NIC that holds the first of these addresses that any NIC holds, or ''."""
        return next(
            (entry.link for address in addresses for entry in self.holders(address) if entry.link in self.nics), ""
        )

    def main_addresses(self) -> set[str]:
        """The addresses that this host speaks from when it is told no other."""
        ways = (self.routes.get(address) for address in FAR)
        return {way.source for way in ways if way is not None and way.source}

    def sources(self, targets: Iterable[IPAddress]) -> dict[str, str]:
        """For each target the address from which this host would speak to it."""
        ways = {target: self.routes.get(target) for target in targets}
        return {
            str(target): way.source
            for target, way in ways.items()
            if way is not None and way.source and way.kind == "unicast"
        }


def read(iproute: Iproute, targets: Iterable[IPAddress]) -> Network:
    """The network of this host, with its routes to the targets."""
    asked = dict.fromkeys([*FAR, *(address for address in targets if not address.is_link_local)])
    return Network(iproute.links(), tuple(iproute.addresses()), iproute.routes_to(asked))
