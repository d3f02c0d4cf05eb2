# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where in a packet things stand, in nft's words: for IPv4 and IPv6, and in the packet that an ICMP error quotes. Pure.

Maps that an ordinary packet and a quoting ICMP error both look up are keyed by raw payloads, as nft
compares types and the quoted fields have none. nft cannot fill maps whose keys are over 16 bytes in all
its versions, so an IPv6 flow is the last 96 bits of its source and a hash of its ports.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .dialect import Dialect
from .model import IPAddress

# Fixed, so that every load and every load balancer hashes alike; 0 would mean "draw one".
SEED = 0x2D5A1B0D
IP_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
# As many values as jhash gives.
_WHOLE = f"mod 4294967295 seed {SEED:#x}"


@dataclass(frozen=True)
class Packet:
    """A packet of a flow as a rule sees it: its own headers, or those that an ICMP error quotes."""

    client: str  # the client's address, whole
    client_port: str
    flow: str  # what tells a flow: client, its port, the service's port
    alone: str  # the same where a client is all that tells one
    joined: str = ""  # the client's address where it stands beside something else, if that is another word

    def hashed(self, with_port: bool) -> str:
        """What a hash scheduler hashes."""
        return f"{self.joined or self.client} . {self.client_port}" if with_port else self.client


@dataclass(frozen=True)
class Family:
    """IPv4 or IPv6."""

    version: int
    suffix: str  # of the names of what a NIC has for both
    address_type: str
    address_size: int  # bits
    saddr: str
    daddr: str
    source_at: int  # where the source stands in the header, in bits
    protocol: str
    icmp: str  # the protocol's name
    guard: str  # the set of stations that must not send to a VIP
    vips: str  # the set of VIPs
    packet: Packet
    flow_declaration: str
    flow_types: tuple[str, ...]
    alone_declaration: str
    alone_types: tuple[str, ...]
    impossible: tuple[str, ...]  # conditions of rules: a source that no client has
    is_fragment: str
    is_later_fragment: str
    fragment_key: str  # what fragments of one datagram have in common
    fragment_declaration: str
    fragment_types: tuple[str, ...]
    is_error: tuple[str, ...]  # this ICMP message quotes a packet, with its ports where we look
    quoted: Packet
    quoted_protocol: str
    quoted_service_port: str
    steers: bool = True  # fragments and ICMP errors can be sent after their flow

    def source_is(self, address: IPAddress) -> str:
        """A condition: the packet says that it comes from there. Raw, so that nft checks nothing twice."""
        return f"{self.packet.client} {int(address):#0{self.address_size // 4 + 2}x}"

    def source_is_vip(self, addresses: Iterable[IPAddress]) -> str:
        """A condition: the packet says that it comes from a VIP. Looked up are those like ``addresses``.

        Of these, 24 bits at most are compared (32 of an IPv6 address), so that VIPs come and go without
        another rule. Four bytes, which is what the kernel compares fast.
        """
        first = {int(address) >> (self.address_size - 32) for address in addresses}
        mask = 0xFFFFFF00 if self.version == 4 else 0xFFFFFFFF
        while len({bits & mask for bits in first}) > 1:
            mask = mask << 1 & 0xFFFFFFFF
        near = f"@nh,{self.source_at},32 & {mask:#010x} == {min(first) & mask:#010x} " if mask else ""
        return f"{near}{self.saddr} @{self.vips}"


IPV4 = Family(
    version=4,
    suffix="",
    address_type="ipv4_addr",
    address_size=32,
    saddr="ip saddr",
    daddr="ip daddr",
    source_at=96,
    protocol="ip protocol",
    icmp="icmp",
    guard="guard_ip",
    vips="vips_ip",
    packet=Packet("@nh,96,32", "th sport", "@nh,96,32 . @nh,160,16 . @nh,176,16", "@nh,96,32"),
    # Ports by their place after 20 bytes of header, as nft turns raw ports into named ones.
    flow_declaration="typeof @nh,96,32 . @nh,160,16 . @nh,176,16 : meta mark",
    flow_types=("integer", "integer", "integer"),
    alone_declaration="typeof @nh,96,32 : meta mark",
    alone_types=("integer",),
    # 224/3 (multicast and above), 0/8, 127/8. Four bytes at a time, which is what the kernel compares fast.
    impossible=(
        "@nh,96,32 & 0xe0000000 == 0xe0000000",
        "@nh,96,32 & 0xff000000 == 0",
        "@nh,96,32 & 0xff000000 == 0x7f000000",
    ),
    is_fragment="@nh,32,32 & 0x00003fff != 0",
    is_later_fragment="ip frag-off & 0x1fff != 0",
    fragment_key="ip saddr . ip daddr . ip id . ip protocol",
    fragment_declaration="typeof ip saddr . ip daddr . ip id . ip protocol : ether daddr",
    fragment_types=("ipv4_addr", "ipv4_addr", "integer", "inet_proto"),
    # Destination unreachable, time exceeded, parameter problem; about a packet without IP options.
    is_error=("icmp type 3 @th,64,8 0x45", "icmp type 11-12 @th,64,8 0x45"),
    # After 8 bytes of ICMP and 20 of the quoted header. What the backend sent: source and destination
    # are the other way round.
    quoted=Packet("@th,192,32", "@th,240,16", "@th,192,32 . @th,240,16 . @th,224,16", "@th,192,32"),
    quoted_protocol="@th,136,8",
    quoted_service_port="@th,224,16",
)

IPV6 = Family(
    version=6,
    suffix="6",
    address_type="ipv6_addr",
    address_size=128,
    saddr="ip6 saddr",
    daddr="ip6 daddr",
    source_at=64,
    protocol="meta l4proto",
    icmp="ipv6-icmp",
    guard="guard_ip6",
    vips="vips_ip6",
    packet=Packet(
        "@nh,64,128",
        "th sport",
        f"@nh,96,96 . jhash th sport . th dport {_WHOLE}",
        "@nh,64,32 . @nh,96,32 . @nh,128,32 . @nh,160,32",
    ),
    flow_declaration="typeof @nh,96,96 . @th,0,32 : meta mark",
    flow_types=("integer", "integer"),
    # In four, so that it is not taken for a map of another kind of flow: nft lists raw keys without their lengths.
    alone_declaration="typeof @nh,64,32 . @nh,96,32 . @nh,128,32 . @nh,160,32 : meta mark",
    alone_types=("integer", "integer", "integer", "integer"),
    # ::/16 has the unspecified, the loopback and the mapped addresses; ff00::/8 is multicast.
    impossible=("@nh,64,32 & 0xffff0000 == 0", "@nh,64,32 & 0xff000000 == 0xff000000"),
    # Where the fragment header is the first of the extension headers, which is where hosts put it.
    is_fragment="@nh,48,8 44",
    is_later_fragment="ip6 nexthdr 44 @nh,336,16 & 0xfff8 != 0",
    fragment_key=f"@nh,96,96 . jhash @nh,352,32 . ip6 daddr {_WHOLE}",
    fragment_declaration="typeof @nh,96,96 . @th,0,32 : ether daddr",
    fragment_types=("integer", "integer"),
    # Destination unreachable, packet too big, time exceeded, parameter problem.
    is_error=("icmpv6 type 1-4",),
    quoted=Packet(
        "@th,256,128",
        "@th,400,16",
        f"@th,288,96 . jhash @th,400,16 . @th,384,16 {_WHOLE}",
        "@th,256,32 . @th,288,32 . @th,320,32 . @th,352,32",
    ),
    quoted_protocol="@th,112,8",
    quoted_service_port="@th,384,16",
)


def family_of(version: int, dialect: Dialect) -> Family:
    """The family of IP version 4 or 6, as this host's nft can say it."""
    family = IPV4 if version == 4 else IPV6
    if dialect.raw_concatenations:
        return family
    if version == 6:
        return replace(
            family,
            packet=replace(family.packet, joined=family.saddr, alone=family.packet.client),
            alone_declaration="typeof @nh,64,128 : meta mark",
            alone_types=("integer",),
            steers=False,
        )
    return replace(
        family,
        packet=replace(family.packet, joined=family.saddr, flow="ip saddr . th sport . th dport"),
        flow_declaration="type ipv4_addr . inet_service . inet_service : mark",
        flow_types=("ipv4_addr", "inet_service", "inet_service"),
        steers=False,
    )
