# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames as data: Ethernet, ARP, IPv4, IPv6, neighbour discovery, TCP, UDP and ICMP errors. Does no I/O.

``pack`` builds the bytes, checksums included; ``parse`` gives None for anything that is not a whole,
well-formed unit of its kind. Parsing does not judge the checksums of TCP and UDP: with checksum
offload the kernel hands over frames whose checksum is yet to be filled in.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Optional, Union

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD

PROTOCOL_ICMP = 1
PROTOCOL_TCP = 6
PROTOCOL_UDP = 17
PROTOCOL_FRAGMENT = 44  # the header of IPv6 that says so
PROTOCOL_ICMPV6 = 58

ARP_REQUEST = 1
ARP_REPLY = 2

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

ICMP_UNREACHABLE = 3
ICMPV6_UNREACHABLE = 1
NEIGHBOUR_SOLICITATION = 135
NEIGHBOUR_ADVERTISEMENT = 136
# Flags of an advertisement: the sender is a router, was asked, wants what was known before forgotten.
NA_ROUTER, NA_SOLICITED, NA_OVERRIDE = 0x80, 0x40, 0x20
# Neighbour discovery that comes with less has passed a router, and is not of this segment (RFC 4861).
NDP_HOP_LIMIT = 255

ETHERNET_HEADER = 14
BROADCAST_MAC = b"\xff" * 6
ZERO_MAC = b"\x00" * 6

ALL_NODES = IPv6Address("ff02::1")

IPAddress = Union[IPv4Address, IPv6Address]

_MAC = re.compile(r"[0-9a-f]{2}([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}")


def mac_to_bytes(text: str) -> bytes:
    """The six bytes of a MAC written with colons or hyphens. ValueError for anything else."""
    if not _MAC.fullmatch(text.lower()):
        raise ValueError(f"'{text}' is not a MAC address")
    return bytes.fromhex(text.replace(":", "").replace("-", ""))


def mac_to_text(mac: bytes) -> str:
    """A MAC in the one form used for comparison: lower case, colons."""
    return ":".join(f"{byte:02x}" for byte in mac)


def is_station(mac: bytes) -> bool:
    """True if ``mac`` can be one host's own address: neither a group address nor all zeros."""
    return len(mac) == 6 and not mac[0] & 1 and mac != ZERO_MAC


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\x00"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True)
class Ethernet:
    """An Ethernet II frame without a VLAN tag."""

    destination: bytes
    source: bytes
    ethertype: int
    payload: bytes

    def pack(self) -> bytes:
        return self.destination + self.source + struct.pack("!H", self.ethertype) + self.payload

    @classmethod
    def parse(cls, data: bytes) -> Optional[Ethernet]:
        if len(data) < ETHERNET_HEADER:
            return None
        return cls(data[0:6], data[6:12], int.from_bytes(data[12:14], "big"), data[ETHERNET_HEADER:])


_ARP = struct.Struct("!HHBBH6s4s6s4s")


@dataclass(frozen=True)
class Arp:
    """An ARP packet for IPv4 over Ethernet (RFC 826)."""

    operation: int
    sender_mac: bytes
    sender_ip: IPv4Address
    target_mac: bytes
    target_ip: IPv4Address

    def pack(self) -> bytes:
        return _ARP.pack(
            1,
            ETHERTYPE_IPV4,
            6,
            4,
            self.operation,
            self.sender_mac,
            self.sender_ip.packed,
            self.target_mac,
            self.target_ip.packed,
        )

    @classmethod
    def parse(cls, data: bytes) -> Optional[Arp]:
        if len(data) < _ARP.size:  # longer is normal: short frames are padded to 60 bytes
            return None
        hardware, protocol, mac_size, ip_size, operation, *rest = _ARP.unpack_from(data)
        if (hardware, protocol, mac_size, ip_size) != (1, ETHERTYPE_IPV4, 6, 4):
            return None
        return cls(operation, rest[0], IPv4Address(rest[1]), rest[2], IPv4Address(rest[3]))


_IPV4 = struct.Struct("!BBHHHBBH4s4s")


@dataclass(frozen=True)
class IPv4:
    """An IPv4 packet. Options are skipped when parsed and never built."""

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    payload: bytes
    ttl: int = 64
    identification: int = 0
    dont_fragment: bool = True
    more_fragments: bool = False
    fragment_offset: int = 0  # in units of 8 bytes

    def pack(self) -> bytes:
        flags = self.dont_fragment << 14 | self.more_fragments << 13 | self.fragment_offset
        header = _IPV4.pack(
            0x45,
            0,
            _IPV4.size + len(self.payload),
            self.identification,
            flags,
            self.ttl,
            self.protocol,
            0,
            self.source.packed,
            self.destination.packed,
        )
        return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + self.payload

    @classmethod
    def parse(cls, data: bytes, whole: bool = True) -> Optional[IPv4]:
        """``whole=False`` allows a payload that was cut off, as in the quotation of an ICMP error."""
        if len(data) < _IPV4.size:
            return None
        version, _tos, length, identification, flags, ttl, protocol, _sum, source, destination = _IPV4.unpack_from(data)
        header = (version & 0x0F) * 4
        if version >> 4 != 4 or header < _IPV4.size or length < header or len(data) < header:
            return None
        if whole and len(data) < length:
            return None
        return cls(
            IPv4Address(source),
            IPv4Address(destination),
            protocol,
            data[header:length],  # what follows is the frame's padding
            ttl,
            identification,
            bool(flags & 0x4000),
            bool(flags & 0x2000),
            flags & 0x1FFF,
        )


_IPV6 = struct.Struct("!IHBB16s16s")
_EXTENSIONS = (0, 43, 60)  # hop-by-hop options, routing, destination options: their length is in the second byte


@dataclass(frozen=True)
class IPv6:
    """An IPv6 packet. Extension headers are skipped when parsed, but for what a fragment header says; none is built.

    ``protocol`` is that of the payload behind them.
    """

    source: IPv6Address
    destination: IPv6Address
    protocol: int
    payload: bytes
    hop_limit: int = 64
    more_fragments: bool = False
    fragment_offset: int = 0  # in units of 8 bytes

    def pack(self) -> bytes:
        header = _IPV6.pack(
            6 << 28, len(self.payload), self.protocol, self.hop_limit, self.source.packed, self.destination.packed
        )
        return header + self.payload

    @classmethod
    def parse(cls, data: bytes, whole: bool = True) -> Optional[IPv6]:
        """``whole=False`` allows a payload that was cut off, as in the quotation of an ICMP error."""
        if len(data) < _IPV6.size:
            return None
        version, length, protocol, hop_limit, source, destination = _IPV6.unpack_from(data)
        if version >> 28 != 6 or (whole and len(data) < _IPV6.size + length):
            return None
        rest = data[_IPV6.size : _IPV6.size + length]  # what follows is the frame's padding
        more, offset = False, 0
        while protocol in _EXTENSIONS or protocol == PROTOCOL_FRAGMENT:
            size = 8 if protocol == PROTOCOL_FRAGMENT else 8 * (rest[1] + 1) if len(rest) > 1 else 8
            if len(rest) < size:
                return None
            if protocol == PROTOCOL_FRAGMENT:
                place = int.from_bytes(rest[2:4], "big")
                more, offset = bool(place & 1), place >> 3
            protocol, rest = rest[0], rest[size:]
            if offset:
                break  # what follows is the middle of something
        return cls(IPv6Address(source), IPv6Address(destination), protocol, rest, hop_limit, more, offset)


def _pseudo_header(source: IPAddress, destination: IPAddress, protocol: int, length: int) -> bytes:
    tail = struct.pack("!BBH", 0, protocol, length) if source.version == 4 else struct.pack("!II", length, protocol)
    return source.packed + destination.packed + tail


_TCP = struct.Struct("!HHIIBBHHH")


@dataclass(frozen=True)
class Tcp:
    """A TCP segment. ``options`` is raw and its length a multiple of four."""

    source_port: int
    destination_port: int
    sequence: int
    acknowledgement: int
    flags: int
    window: int = 65535
    options: bytes = b""
    payload: bytes = b""

    def pack(self, source: IPAddress, destination: IPAddress) -> bytes:
        header = _TCP.pack(
            self.source_port,
            self.destination_port,
            self.sequence,
            self.acknowledgement,
            (_TCP.size + len(self.options)) // 4 << 4,
            self.flags,
            self.window,
            0,
            0,
        )
        data = header + self.options + self.payload
        total = checksum(_pseudo_header(source, destination, PROTOCOL_TCP, len(data)) + data)
        return data[:16] + struct.pack("!H", total) + data[18:]

    @classmethod
    def parse(cls, data: bytes) -> Optional[Tcp]:
        if len(data) < _TCP.size:
            return None
        source, destination, sequence, acknowledgement, offset, flags, window, _sum, _urgent = _TCP.unpack_from(data)
        header = (offset >> 4) * 4
        if header < _TCP.size or len(data) < header:
            return None
        return cls(
            source, destination, sequence, acknowledgement, flags, window, data[_TCP.size : header], data[header:]
        )


_UDP = struct.Struct("!HHHH")


@dataclass(frozen=True)
class Udp:
    """A UDP datagram."""

    source_port: int
    destination_port: int
    payload: bytes

    def pack(self, source: IPAddress, destination: IPAddress) -> bytes:
        length = _UDP.size + len(self.payload)
        data = _UDP.pack(self.source_port, self.destination_port, length, 0) + self.payload
        # 0 would mean "no checksum", so a sum that comes out as 0 is sent as its other form.
        total = checksum(_pseudo_header(source, destination, PROTOCOL_UDP, length) + data) or 0xFFFF
        return data[:6] + struct.pack("!H", total) + data[8:]

    @classmethod
    def parse(cls, data: bytes) -> Optional[Udp]:
        if len(data) < _UDP.size:
            return None
        source, destination, length, _sum = _UDP.unpack_from(data)
        if length < _UDP.size or len(data) < length:
            return None
        return cls(source, destination, data[_UDP.size : length])


@dataclass(frozen=True)
class Unreachable:
    """An ICMP "destination unreachable" and the ports of the packet that it quotes."""

    code: int
    source: IPAddress
    destination: IPAddress
    protocol: int
    source_port: int
    destination_port: int

    @classmethod
    def parse(cls, data: bytes, version: int = 4) -> Optional[Unreachable]:
        """``version`` is that of the IP packet which carries it, and so of the one quoted."""
        if len(data) < 8 or data[0] != (ICMP_UNREACHABLE if version == 4 else ICMPV6_UNREACHABLE):
            return None
        quoted = IPv4.parse(data[8:], whole=False) if version == 4 else IPv6.parse(data[8:], whole=False)
        if quoted is None or quoted.fragment_offset or len(quoted.payload) < 4:
            return None
        ports = struct.unpack_from("!HH", quoted.payload)
        return cls(data[1], quoted.source, quoted.destination, quoted.protocol, *ports)


_NDP = struct.Struct("!BBHI16s")
_LINK_ADDRESS_OPTION = {NEIGHBOUR_SOLICITATION: 1, NEIGHBOUR_ADVERTISEMENT: 2}


@dataclass(frozen=True)
class NeighbourMessage:
    """A neighbour solicitation or advertisement of IPv6 (RFC 4861).

    ``mac`` is whose a solicitation is, or where the target of an advertisement is; None if it does not say.
    """

    kind: int
    target: IPv6Address
    mac: Optional[bytes]
    flags: int = 0

    def pack(self, source: IPv6Address, destination: IPv6Address) -> bytes:
        data = _NDP.pack(self.kind, 0, 0, self.flags << 24, self.target.packed)
        if self.mac is not None:
            data += bytes([_LINK_ADDRESS_OPTION[self.kind], 1]) + self.mac
        total = checksum(_pseudo_header(source, destination, PROTOCOL_ICMPV6, len(data)) + data)
        return data[:2] + struct.pack("!H", total) + data[4:]

    @classmethod
    def parse(cls, packet: IPv6) -> Optional[NeighbourMessage]:
        """The message in ``packet``, if that is one which its receiver may heed: from this segment, and undamaged."""
        data = packet.payload
        if packet.protocol != PROTOCOL_ICMPV6 or packet.hop_limit != NDP_HOP_LIMIT or len(data) < _NDP.size:
            return None
        if packet.more_fragments or packet.fragment_offset:
            return None  # RFC 6980
        kind, code, _sum, flags, target = _NDP.unpack_from(data)
        if kind not in _LINK_ADDRESS_OPTION or code:
            return None
        if checksum(_pseudo_header(packet.source, packet.destination, PROTOCOL_ICMPV6, len(data)) + data):
            return None
        mac = None
        options = data[_NDP.size :]
        while options:
            size = 8 * options[1] if len(options) > 1 else 0
            if not size or len(options) < size:
                return None
            if options[0] == _LINK_ADDRESS_OPTION[kind] and size == 8:
                mac = options[2:8]
            options = options[size:]
        return cls(kind, IPv6Address(target), mac, flags >> 24)


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The group that every host which holds ``address`` listens to."""
    return IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(address) & 0xFFFFFF)


def group_mac(group: IPv6Address) -> bytes:
    """Where frames for a multicast address go (RFC 2464)."""
    return b"\x33\x33" + group.packed[-4:]


def ip_frame(
    destination: bytes, source: bytes, sender: IPAddress, receiver: IPAddress, content: Union[Tcp, Udp]
) -> bytes:
    """A whole Ethernet frame that carries ``content`` from ``sender`` to ``receiver``."""
    protocol = PROTOCOL_TCP if isinstance(content, Tcp) else PROTOCOL_UDP
    data = content.pack(sender, receiver)
    if isinstance(sender, IPv6Address) and isinstance(receiver, IPv6Address):
        return Ethernet(destination, source, ETHERTYPE_IPV6, IPv6(sender, receiver, protocol, data).pack()).pack()
    if isinstance(sender, IPv4Address) and isinstance(receiver, IPv4Address):
        return Ethernet(destination, source, ETHERTYPE_IPV4, IPv4(sender, receiver, protocol, data).pack()).pack()
    raise ValueError(f"{sender} and {receiver} are not of one family")
