# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that show whether a network lets those of VIPs pass: a datagram to the discard port, with a mark. Does no I/O.

They must harm nobody, on a live VIP either. Port 9 is there to be thrown away. Between hosts of one segment they have a
time to live of 1: whoever would forward them, as a backend that has lost the VIP, drops them, so that none goes round.
Nobody answers them, as the listener holds the port.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple, Optional

from ..common.errors import ConfigError
from ..common.iproute import IPAddress
from ..common.packet import (
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    PROTOCOL_UDP,
    Ethernet,
    IPv4,
    IPv6,
    Udp,
    is_station,
    mac_to_bytes,
)

PORT = 9  # discard (RFC 863)
MARK = b"DSR?"
_PREFIX = MARK + b" dsr.layer2 preflight "
_MARKER = re.compile(r"[0-9a-f]{8,32}")
_SENDER = re.compile(r"[!-~]{0,128}")
NEAR, FAR = 1, 64  # times to live


class Seen(NamedTuple):
    """A frame of ours that came in."""

    sender: str
    source: str
    destination: str


@dataclass(frozen=True)
class Order:
    """Frames to be sent, from each of the sources to each of the destinations. ``mac``: '' where it has to be asked."""

    sources: tuple[IPAddress, ...]
    destinations: tuple[IPAddress, ...]
    mac: str = ""
    interface: str = ""


def parse_marker(text: Any) -> str:
    """What tells the frames of one run from those of others."""
    if not _MARKER.fullmatch(str(text)):
        raise ConfigError("marker", f"{text!r} must be 8 to 32 of the characters 0-9 and a-f")
    return str(text)


def parse_sender(text: Any) -> str:
    """Who a frame says that it is of: its MAC address is another one behind a router."""
    if not _SENDER.fullmatch(str(text)):
        raise ConfigError("sender", f"{text!r} must be characters of ASCII that can be seen, 128 at most")
    return str(text)


def parse_orders(orders: Iterable[Mapping[str, Any]]) -> list[Order]:
    """The option `frames`."""
    return [_order(order, f"frames[{index}]") for index, order in enumerate(orders)]


def _order(order: Mapping[str, Any], place: str) -> Order:
    sources, destinations = (_addresses(order[key], f"{place}.{key}") for key in ("sources", "destinations"))
    if len({address.version for address in (*sources, *destinations)}) > 1:
        raise ConfigError(place, "has addresses of both families; make two of it")
    mac = str(order.get("mac") or "")
    try:
        usable = not mac or is_station(mac_to_bytes(mac))
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{place}.mac", f"{mac!r} is not the MAC address of a host")
    return Order(sources, destinations, mac, str(order.get("interface") or ""))


def _addresses(texts: Sequence[Any], place: str) -> tuple[IPAddress, ...]:
    found = []
    for index, text in enumerate(texts):
        try:
            address = ip_address(str(text))
        except ValueError:
            raise ConfigError(f"{place}[{index}]", f"{text!r} is not an IP address") from None
        if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
            raise ConfigError(f"{place}[{index}]", f"{address} is no address of one host")
        found.append(address)
    return tuple(found)


def content(marker: str, sender: str) -> bytes:
    """What stands in a datagram."""
    return _PREFIX + f"{marker} {sender}".encode()


def build(own: bytes, mac: bytes, source: IPAddress, destination: IPAddress, told: bytes, near: bool = True) -> bytes:
    """One frame with this content. ``near``: its receiver is on the segment."""
    datagram = Udp(PORT, PORT, told).pack(source, destination)
    hops = NEAR if near else FAR
    if isinstance(source, IPv4Address) and isinstance(destination, IPv4Address):
        packet = IPv4(source, destination, PROTOCOL_UDP, datagram, ttl=hops).pack()
        return Ethernet(mac, own, ETHERTYPE_IPV4, packet).pack()
    if isinstance(source, IPv6Address) and isinstance(destination, IPv6Address):
        packet = IPv6(source, destination, PROTOCOL_UDP, datagram, hop_limit=hops).pack()
        return Ethernet(mac, own, ETHERTYPE_IPV6, packet).pack()
    raise ValueError(f"{source} and {destination} are not of one family")


def read(frame: bytes, marker: str) -> Optional[Seen]:
    """What a frame tells, if it is one of this run."""
    outer = Ethernet.parse(frame)
    if outer is None:
        return None
    packet = IPv4.parse(outer.payload) if outer.ethertype == ETHERTYPE_IPV4 else IPv6.parse(outer.payload)
    if packet is None or packet.protocol != PROTOCOL_UDP:
        return None
    datagram = Udp.parse(packet.payload)
    prefix = content(marker, "")
    if datagram is None or not datagram.payload.startswith(prefix):
        return None
    sender = datagram.payload[len(prefix) :].decode("ascii", "replace")
    return Seen(sender, str(packet.source), str(packet.destination))


def grouped(seen: Iterable[tuple[str, Seen]]) -> list[dict[str, Any]]:
    """What came in, by interface and sender, in the words of tcpdump(8)."""
    found: dict[tuple[str, str], list[str]] = {}
    for interface, one in seen:
        found.setdefault((interface, one.sender), []).append(f"{one.source} > {one.destination}")
    return [
        {"interface": interface, "sender": sender, "packets": sorted(packets)}
        for (interface, sender), packets in sorted(found.items())
    ]


def pairs(order: Order) -> Iterator[tuple[IPAddress, IPAddress]]:
    """Each source with each destination."""
    for destination in order.destinations:
        for source in order.sources:
            yield source, destination
