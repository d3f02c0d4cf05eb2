# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backend looks like to somebody who asks by ARP: its links, their settings, the addresses they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..common.iproute import HeldAddress, IPAddress, Link
from . import arp
from .host import Host


def speaks_arp(link: Link) -> bool:
    """Whether requests that reach ``link`` are answered by it. A port of a bridge or bond leaves that to its master."""
    return is_nic(link) and link.up and not link.master


def is_nic(link: Link) -> bool:
    """Whether ``link`` is on a segment, with neighbours that may ask it for an address."""
    return bool(link.mac) and not link.loopback and "NOARP" not in link.flags


@dataclass(frozen=True)
class Observed:
    """One look at the host."""

    links: dict[str, Link]
    held: list[HeldAddress]
    interfaces: list[arp.Interface]
    all_ignore: int
    all_announce: int

    def holders(self, address: IPAddress) -> list[HeldAddress]:
        return [entry for entry in self.held if entry.ip == address]

    def who_answers(self, address: IPAddress) -> list[str]:
        """The NICs that would answer ARP for an address of this host. IPv6 asks the receiving NIC alone, too."""
        if address.version == 6:
            return sorted(entry.link for entry in self.holders(address) if speaks_arp(self.links[entry.link]))
        held = [arp.Held(entry.link, str(entry.ip), entry.scope == "host") for entry in self.held]
        return arp.who_answers(str(address), self.all_ignore, self.interfaces, held)

    def presence(self) -> dict[str, bool]:
        return {interface.name: interface.speaks_arp for interface in self.interfaces}


def observe(host: Host) -> Observed:
    links = host.links()
    return Observed(
        links=links,
        held=[entry for entry in host.addresses() if entry.link in links],
        interfaces=[
            arp.Interface(
                name=name,
                speaks_arp=speaks_arp(link),
                ignore=host.sysctl(name, arp.IGNORE) or 0,
                announce=host.sysctl(name, arp.ANNOUNCE) or 0,
            )
            for name, link in sorted(links.items())
        ],
        all_ignore=host.sysctl("all", arp.IGNORE) or 0,
        all_announce=host.sysctl("all", arp.ANNOUNCE) or 0,
    )


def deaf_nics(observed: Observed) -> Sequence[str]:
    """NICs that answer no ARP at all (arp_ignore 8), not even for the host's own address."""
    return [
        interface.name
        for interface in observed.interfaces
        if interface.speaks_arp and max(observed.all_ignore, interface.ignore) == 8
    ]
