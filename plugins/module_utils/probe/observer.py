# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reply frames of the probed service, as they arrive at the NIC."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional, Union

from ..common import bpf
from ..common.iproute import IPAddress, Link
from ..common.packet import (
    ACK,
    ETHERTYPE_IPV6,
    PROTOCOL_ICMP,
    PROTOCOL_ICMPV6,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    RST,
    SYN,
    Ethernet,
    IPv4,
    IPv6,
    Tcp,
    Udp,
    Unreachable,
    mac_to_text,
)
from ..common.packet_socket import ALL_PROTOCOLS, PacketSocket

PROTOCOL_NUMBERS = {"tcp": PROTOCOL_TCP, "udp": PROTOCOL_UDP}


class Kind(enum.Enum):
    """What a reply frame says."""

    ACCEPTED = "SYN-ACK"
    FOLLOWED = "a later segment of an accepted connection"
    ABORTED = "RST of a connection that the sender knows"
    REFUSED = "RST of a connection that the sender does not know"
    DATA = "UDP datagram"
    UNREACHABLE = "ICMP error"


@dataclass(frozen=True)
class Reply:
    """A frame that came in about our ``port``. ``when`` is wall-clock time as stamped by the kernel."""

    port: int
    mac: str
    kind: Kind
    when: float
    sequence: int = 0
    acknowledgement: int = 0
    code: int = 0


def read_reply(frame: bytes, when: float) -> Optional[Reply]:
    """What ``frame`` tells about one of our ports; None if nothing. Pure."""
    outer = Ethernet.parse(frame)
    if outer is None:
        return None
    version = 6 if outer.ethertype == ETHERTYPE_IPV6 else 4
    packet: Union[IPv4, IPv6, None] = IPv6.parse(outer.payload) if version == 6 else IPv4.parse(outer.payload)
    if packet is None:
        return None
    mac = mac_to_text(outer.source)
    if packet.protocol == PROTOCOL_TCP:
        segment = Tcp.parse(packet.payload)
        if segment is None:
            return None
        return Reply(
            segment.destination_port,
            mac,
            _tcp_kind(segment),
            when,
            sequence=segment.sequence,
            acknowledgement=segment.acknowledgement,
        )
    if packet.protocol == PROTOCOL_UDP:
        # The first fragment of a long answer is cut off, but its ports are there.
        datagram = Udp.parse(packet.payload)
        port = datagram.destination_port if datagram else int.from_bytes(packet.payload[2:4], "big")
        return Reply(port, mac, Kind.DATA, when) if len(packet.payload) >= 4 else None
    if packet.protocol == (PROTOCOL_ICMP if version == 4 else PROTOCOL_ICMPV6):
        error = Unreachable.parse(packet.payload, version)
        return Reply(error.source_port, mac, Kind.UNREACHABLE, when, code=error.code) if error else None
    return None


def _tcp_kind(segment: Tcp) -> Kind:
    if segment.flags & RST:
        # A host answers a SYN that it does not want with RST+ACK, and a later segment of a connection
        # that it does not have with a bare RST; RST+ACK there means that it had the connection.
        return Kind.ABORTED if segment.flags & ACK else Kind.REFUSED
    return Kind.ACCEPTED if segment.flags & SYN else Kind.FOLLOWED


class Observer:
    """Sees the frames that come in on a NIC from one service. A context manager."""

    def __init__(self, link: Link, address: IPAddress, protocol: str, port: int) -> None:
        program = bpf.replies_from(address, PROTOCOL_NUMBERS[protocol], port)
        # ETH_P_ALL sees frames before the NIC's ingress rules do: what was on the wire, not what was let in.
        self.channel = PacketSocket(link, ALL_PROTOCOLS, program)

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *_error: object) -> None:
        self.channel.close()

    def replies(self) -> Iterator[Reply]:
        """The replies that have arrived since the last call."""
        for frame, when in self.channel.frames():
            reply = read_reply(frame, when)
            if reply is not None:
                yield reply
