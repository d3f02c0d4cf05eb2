# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VRRP adverts (RFC 3768, RFC 5798) as they come from a segment. Does no I/O."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Optional

from .packet import ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPAddress

PROTOCOL_VRRP = 112
_ADVERTISEMENT = 1


@dataclass(frozen=True)
class Advert:
    """One advert: who sent it, for which virtual router, with what priority; the interval is in seconds."""

    source: IPAddress
    version: int
    router_id: int
    priority: int
    interval: float

    def told(self) -> dict[str, Any]:
        return {
            "source": str(self.source),
            "version": self.version,
            "router_id": self.router_id,
            "priority": self.priority,
            "interval": self.interval,
        }


def parse(frame: bytes) -> Optional[Advert]:
    """The advert in a frame; None when it holds none, or one that is damaged."""
    if len(frame) < ETHERNET_HEADER + 20:
        return None
    (ethertype,) = struct.unpack_from("!H", frame, 12)
    packet = frame[ETHERNET_HEADER:]
    source: IPAddress
    if ethertype == ETHERTYPE_IPV4 and packet[0] >> 4 == 4:
        header, (length,) = 4 * (packet[0] & 0xF), struct.unpack_from("!H", packet, 2)
        (fragment,) = struct.unpack_from("!H", packet, 6)
        if packet[9] != PROTOCOL_VRRP or fragment & 0x3FFF or not 20 <= header <= length <= len(packet):
            return None
        source, message = IPv4Address(packet[12:16]), packet[header:length]
        pseudo = packet[12:20] + struct.pack("!BBH", 0, PROTOCOL_VRRP, len(message))
    elif ethertype == ETHERTYPE_IPV6 and packet[0] >> 4 == 6 and len(packet) >= 40:
        (length,) = struct.unpack_from("!H", packet, 4)
        if packet[6] != PROTOCOL_VRRP or 40 + length > len(packet):
            return None
        source, message = IPv6Address(packet[8:24]), packet[40 : 40 + length]
        pseudo = packet[8:40] + struct.pack("!IHBB", len(message), 0, 0, PROTOCOL_VRRP)
    else:
        return None
    return _advert(source, message, pseudo)


def _advert(source: IPAddress, message: bytes, pseudo: bytes) -> Optional[Advert]:
    if len(message) < 8 or message[0] & 0xF != _ADVERTISEMENT or message[1] == 0:
        return None
    version = message[0] >> 4
    if version == 2 and source.version == 4:
        # Of version 2, the checksum has no pseudo header, and the seconds are whole.
        if _checksum(message) != 0:
            return None
        interval = float(message[5])
    elif version == 3:
        # With IPv4, some leave the pseudo header out, as RFC 5798 can be read either way.
        if _checksum(pseudo + message) != 0 and (source.version == 6 or _checksum(message) != 0):
            return None
        interval = (struct.unpack_from("!H", message, 4)[0] & 0xFFF) / 100
    else:
        return None
    return Advert(source, version, message[1], message[2], interval)


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 over data that holds its own, if it is right."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
