# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reply frame is taken for."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.common import packet
from ansible_collections.dsr.layer2.plugins.module_utils.common.packet import Ethernet, IPv4, IPv6, Tcp, Udp
from ansible_collections.dsr.layer2.plugins.module_utils.probe.observer import Kind, Reply, read_reply

VIP, CLIENT = IPv4Address("10.77.0.100"), IPv4Address("10.77.0.10")
MAC = "02:d5:00:00:00:15"
SYN, ACK, RST, FIN, PSH = packet.SYN, packet.ACK, packet.RST, packet.FIN, packet.PSH


def frame(protocol: int, payload: bytes, source: IPv4Address = VIP) -> bytes:
    ip = IPv4(source, CLIENT, protocol, payload).pack()
    return Ethernet(bytes(6), packet.mac_to_bytes(MAC), packet.ETHERTYPE_IPV4, ip).pack()


@pytest.mark.parametrize(
    "flags, kind",
    [
        (SYN | ACK, Kind.ACCEPTED),
        (ACK, Kind.FOLLOWED),
        (ACK | PSH, Kind.FOLLOWED),
        (ACK | FIN, Kind.FOLLOWED),
        (RST | ACK, Kind.ABORTED),
        (RST, Kind.REFUSED),
    ],
)
def test_tcp(flags: int, kind: Kind) -> None:
    segment = Tcp(80, 40000, 7, 8, flags).pack(VIP, CLIENT)
    assert read_reply(frame(6, segment), 5.0) == Reply(40000, MAC, kind, 5.0, sequence=7, acknowledgement=8)


def test_udp() -> None:
    assert read_reply(frame(17, Udp(53, 40000, b"answer").pack(VIP, CLIENT)), 5.0) == Reply(40000, MAC, Kind.DATA, 5.0)


def test_the_first_fragment_of_a_long_answer() -> None:
    cut = Udp(53, 40000, bytes(3000)).pack(VIP, CLIENT)[:1480]
    assert read_reply(frame(17, cut), 5.0) == Reply(40000, MAC, Kind.DATA, 5.0)


def test_an_icmp_error() -> None:
    quoted = IPv4(CLIENT, VIP, 17, struct.pack("!HHI", 40000, 53, 0)).pack()
    error = frame(1, bytes([3, 3, 0, 0, 0, 0, 0, 0]) + quoted, IPv4Address("10.77.0.21"))
    assert read_reply(error, 5.0) == Reply(40000, MAC, Kind.UNREACHABLE, 5.0, code=3)


VIP6, CLIENT6 = IPv6Address("fd00:77::100"), IPv6Address("fd00:77::10")


def frame6(protocol: int, payload: bytes, source: IPv6Address = VIP6) -> bytes:
    ip = IPv6(source, CLIENT6, protocol, payload).pack()
    return Ethernet(bytes(6), packet.mac_to_bytes(MAC), packet.ETHERTYPE_IPV6, ip).pack()


def test_ipv6() -> None:
    segment = Tcp(80, 40000, 7, 8, SYN | ACK).pack(VIP6, CLIENT6)
    accepted = Reply(40000, MAC, Kind.ACCEPTED, 5.0, sequence=7, acknowledgement=8)
    assert read_reply(frame6(6, segment), 5.0) == accepted
    datagram = Udp(53, 40000, bytes(3000)).pack(VIP6, CLIENT6)
    assert read_reply(frame6(17, datagram), 5.0) == Reply(40000, MAC, Kind.DATA, 5.0)
    first_fragment = struct.pack("!BxHI", 17, 1, 4711) + datagram[:1448]
    assert read_reply(frame6(44, first_fragment), 5.0) == Reply(40000, MAC, Kind.DATA, 5.0)


def test_an_icmpv6_error() -> None:
    quoted = IPv6(CLIENT6, VIP6, 17, struct.pack("!HHI", 40000, 53, 0)).pack()
    error = frame6(58, bytes([1, 4, 0, 0, 0, 0, 0, 0]) + quoted, IPv6Address("fd00:77::21"))
    assert read_reply(error, 5.0) == Reply(40000, MAC, Kind.UNREACHABLE, 5.0, code=4)
    too_big = frame6(58, bytes([2, 0, 0, 0, 0, 0, 5, 120]) + quoted, IPv6Address("fd00:77::21"))
    assert read_reply(too_big, 5.0) is None


@pytest.mark.parametrize(
    "data", [b"", bytes(14), frame(6, bytes(5)), frame(17, bytes(3)), frame(1, b"\x03"), frame(47, b"")]
)
def test_what_tells_nothing(data: bytes) -> None:
    assert read_reply(data, 5.0) is None


@given(st.sampled_from([1, 6, 17]), st.binary(max_size=80))
def test_no_frame_makes_it_fail(protocol: int, payload: bytes) -> None:
    read_reply(frame(protocol, payload), 5.0)
    read_reply(frame6({1: 58}.get(protocol, protocol), payload), 5.0)
    read_reply(payload, 5.0)
