# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a frame of ARP or neighbour discovery tells of who has which address. Does no I/O."""

from __future__ import annotations

from typing import NamedTuple, Optional

from .packet import (
    ARP_REPLY,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV6,
    NA_SOLICITED,
    NEIGHBOUR_ADVERTISEMENT,
    Arp,
    Ethernet,
    IPAddress,
    IPv6,
    NeighbourMessage,
    is_station,
    mac_to_text,
)


class Sighting(NamedTuple):
    """Somebody with this MAC says that the address is there.

    ``answers``: to a question of ours. All else may be said by anybody at any time: questions, announcements.
    """

    address: IPAddress
    mac: str
    answers: bool


def sighting(frame: bytes, own_mac: bytes) -> Optional[Sighting]:
    """What ``frame``, which a NIC with this MAC received, tells; None if nothing, or no MAC that a host can have."""
    outer = Ethernet.parse(frame)
    if outer is None:
        return None
    found = _arp(outer) if outer.ethertype == ETHERTYPE_ARP else _neighbour(outer)
    if found is None or not is_station(found[1]):
        return None
    address, mac, answers = found
    return Sighting(address, mac_to_text(mac), answers and outer.destination == own_mac)


def _arp(outer: Ethernet) -> Optional[tuple[IPAddress, bytes, bool]]:
    packet = Arp.parse(outer.payload)
    return None if packet is None else (packet.sender_ip, packet.sender_mac, packet.operation == ARP_REPLY)


def _neighbour(outer: Ethernet) -> Optional[tuple[IPAddress, bytes, bool]]:
    packet = IPv6.parse(outer.payload) if outer.ethertype == ETHERTYPE_IPV6 else None
    message = None if packet is None else NeighbourMessage.parse(packet)
    if packet is None or message is None or message.mac is None:
        return None
    if message.kind == NEIGHBOUR_ADVERTISEMENT:
        return message.target, message.mac, bool(message.flags & NA_SOLICITED)
    return packet.source, message.mac, False
