# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of packet sockets, run by a small machine of our own (tests/dataplane has them run by the kernel)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.common import bpf, packet
from ansible_collections.dsr.layer2.plugins.module_utils.common.packet import (
    Arp,
    Ethernet,
    IPv4,
    IPv6,
    NeighbourMessage,
    Tcp,
    Udp,
)

VIP = IPv4Address("10.77.0.100")
CLIENT = IPv4Address("10.77.0.10")
MAC = bytes.fromhex("02d500000015")
OWN = bytes.fromhex("02d50000000a")
BROADCAST, MULTICAST, OTHER_HOST, OUTGOING = 1, 2, 3, 4


def accepts(program: bpf.Program, frame: bytes, packet_type: int = bpf.PACKET_HOST, tagged: bool = False) -> bool:
    """What the kernel would do: a load beyond the end of the frame drops it."""
    ancillary = {bpf.PACKET_TYPE: packet_type, bpf.VLAN_TAG_PRESENT: int(tagged)}
    accumulator = index = position = 0
    for _step in range(len(program)):
        step = program[position]
        position += 1
        if step.code == bpf.RETURN:
            return step.k > 0
        if step.code in (bpf.JUMP_EQUAL, bpf.JUMP_SET, bpf.JUMP_GREATER):
            true = {
                bpf.JUMP_EQUAL: accumulator == step.k,
                bpf.JUMP_SET: bool(accumulator & step.k),
                bpf.JUMP_GREATER: accumulator > step.k,
            }[step.code]
            position += step.if_true if true else step.if_false
            continue
        if step.k in ancillary:
            assert step.code == bpf.LOAD_BYTE
            accumulator = ancillary[step.k]
            continue
        size = {bpf.LOAD_WORD: 4, bpf.LOAD_WORD_AT_X: 4, bpf.LOAD_HALF: 2, bpf.LOAD_HALF_AT_X: 2}.get(step.code, 1)
        start = step.k + (index if step.code in (bpf.LOAD_WORD_AT_X, bpf.LOAD_HALF_AT_X, bpf.LOAD_BYTE_AT_X) else 0)
        if start + size > len(frame):
            return False
        value = int.from_bytes(frame[start : start + size], "big")
        if step.code == bpf.LOAD_X_HEADER:
            index = 4 * (value & 0x0F)
        else:
            assert step.code in (
                *(bpf.LOAD_WORD, bpf.LOAD_HALF, bpf.LOAD_BYTE),
                *(bpf.LOAD_WORD_AT_X, bpf.LOAD_HALF_AT_X, bpf.LOAD_BYTE_AT_X),
            )
            accumulator = value
    raise AssertionError("the program ran past its end")


def ethernet(payload: bytes, ethertype: int = packet.ETHERTYPE_IPV4) -> bytes:
    return Ethernet(OWN, MAC, ethertype, payload).pack()


def tcp(source: IPv4Address = VIP, port: int = 80, **how: object) -> bytes:
    content = Tcp(port, 40000, 1, 2, packet.SYN | packet.ACK).pack(source, CLIENT)
    return ethernet(IPv4(source, CLIENT, 6, content, **how).pack())  # type: ignore[arg-type]


def udp(source: IPv4Address = VIP, port: int = 80) -> bytes:
    return ethernet(IPv4(source, CLIENT, 17, Udp(port, 40000, b"x").pack(source, CLIENT)).pack())


def unreachable(about: IPv4Address = VIP, port: int = 80, protocol: int = 6, kind: int = 3) -> bytes:
    quoted = IPv4(CLIENT, about, protocol, struct.pack("!HHI", 40000, port, 0)).pack()
    router = IPv4Address("10.77.0.1")
    return ethernet(IPv4(router, CLIENT, 1, bytes([kind, 1, 0, 0, 0, 0, 0, 0]) + quoted).pack())


def with_ip_options(frame: bytes) -> bytes:
    return frame[:14] + b"\x47" + frame[15:34] + b"\x01" * 8 + frame[34:]


@pytest.mark.parametrize(
    "what, frame, expected",
    [
        ("the reply", tcp(), True),
        ("the reply with IP options", with_ip_options(tcp()), True),
        ("the first fragment", tcp(more_fragments=True), True),
        ("a later fragment", tcp(fragment_offset=1), False),
        ("another source", tcp(source=IPv4Address("10.77.0.101")), False),
        ("another port", tcp(port=81), False),
        ("another protocol", udp(), False),
        ("an error about it", unreachable(), True),
        ("an error about another address", unreachable(about=IPv4Address("10.77.0.101")), False),
        ("an error about another port", unreachable(port=81), False),
        ("an error about another protocol", unreachable(protocol=17), False),
        ("an ICMP message of another kind", unreachable(kind=11), False),
        ("ARP", ethernet(tcp()[14:], packet.ETHERTYPE_ARP), False),
        ("IPv6", ethernet(tcp()[14:], 0x86DD), False),
        ("a frame that is cut off", tcp()[:35], False),
        ("nothing", b"", False),
    ],
)
def test_replies_of_a_tcp_service(what: str, frame: bytes, expected: bool) -> None:
    assert accepts(bpf.replies_from(VIP, packet.PROTOCOL_TCP, 80), frame) is expected, what


def test_replies_of_a_udp_service() -> None:
    program = bpf.replies_from(VIP, packet.PROTOCOL_UDP, 53)
    assert accepts(program, udp(port=53))
    assert accepts(program, unreachable(port=53, protocol=17))
    assert not accepts(program, udp(port=54))
    assert not accepts(program, tcp(port=53))


@pytest.mark.parametrize("program", [bpf.replies_from(VIP, packet.PROTOCOL_TCP, 80), bpf.arp_replies()])
def test_only_what_comes_in_for_this_host_without_a_tag(program: bpf.Program) -> None:
    reply = ethernet(Arp(packet.ARP_REPLY, MAC, VIP, OWN, CLIENT).pack(), packet.ETHERTYPE_ARP)
    frame = tcp() if accepts(program, tcp()) else reply
    assert accepts(program, frame)
    assert not accepts(program, frame, packet_type=OUTGOING)
    assert not accepts(program, frame, packet_type=OTHER_HOST)
    assert not accepts(program, frame, tagged=True)


def test_arp_replies() -> None:
    def arp(operation: int) -> bytes:
        return ethernet(Arp(operation, MAC, VIP, OWN, CLIENT).pack(), packet.ETHERTYPE_ARP)

    assert accepts(bpf.arp_replies(), arp(packet.ARP_REPLY))
    assert not accepts(bpf.arp_replies(), arp(packet.ARP_REQUEST))
    assert not accepts(bpf.arp_replies(), tcp())


VIP6 = IPv6Address("fd00:77::100")
CLIENT6 = IPv6Address("fd00:77::10")
OTHERS = [  # that differ from the VIP in one of their words each
    IPv6Address(int(VIP6) ^ 1 << bit) for bit in (0, 32, 64, 96, 127)
]


def ethernet6(source: IPv6Address, protocol: int, payload: bytes) -> bytes:
    return ethernet(IPv6(source, CLIENT6, protocol, payload).pack(), packet.ETHERTYPE_IPV6)


def tcp6(source: IPv6Address = VIP6, port: int = 80) -> bytes:
    return ethernet6(source, 6, Tcp(port, 40000, 1, 2, packet.SYN | packet.ACK).pack(source, CLIENT6))


def udp6(source: IPv6Address = VIP6, port: int = 80) -> bytes:
    return ethernet6(source, 17, Udp(port, 40000, b"x").pack(source, CLIENT6))


def fragment6(frame: bytes, offset: int) -> bytes:
    """The frame as a fragment."""
    header = struct.pack("!BxHI", frame[20], offset << 3 | 1, 4711)
    return frame[:18] + struct.pack("!HB", len(frame) - 54 + 8, 44) + frame[21:54] + header + frame[54:]


def unreachable6(about: IPv6Address = VIP6, port: int = 80, protocol: int = 6, kind: int = 1) -> bytes:
    quoted = IPv6(CLIENT6, about, protocol, struct.pack("!HHI", 40000, port, 0)).pack()
    return ethernet6(IPv6Address("fd00:77::1"), 58, bytes([kind, 4, 0, 0, 0, 0, 0, 0]) + quoted)


@pytest.mark.parametrize(
    "what, frame, expected",
    [
        ("the reply", tcp6(), True),
        ("the first fragment", fragment6(tcp6(), 0), True),
        ("a later fragment", fragment6(tcp6(), 1), False),
        ("the first fragment from another port", fragment6(tcp6(port=81), 0), False),
        ("the first fragment of another protocol", fragment6(udp6(), 0), False),
        *((f"another source, {other}", tcp6(source=other), False) for other in OTHERS),
        *((f"a fragment from another source, {other}", fragment6(tcp6(source=other), 0), False) for other in OTHERS),
        *((f"an error about another address, {other}", unreachable6(about=other), False) for other in OTHERS),
        ("another port", tcp6(port=81), False),
        ("another protocol", udp6(), False),
        ("an error about it", unreachable6(), True),
        ("an error about another port", unreachable6(port=81), False),
        ("an error about another protocol", unreachable6(protocol=17), False),
        ("an ICMPv6 message of another kind", unreachable6(kind=2), False),
        ("IPv4", ethernet(tcp6()[14:], packet.ETHERTYPE_IPV4), False),
        ("a frame that is cut off", tcp6()[:55], False),
    ],
)
def test_replies_of_a_tcp_service_of_ipv6(what: str, frame: bytes, expected: bool) -> None:
    assert accepts(bpf.replies_from(VIP6, packet.PROTOCOL_TCP, 80), frame) is expected, what


def test_replies_of_a_udp_service_of_ipv6() -> None:
    program = bpf.replies_from(VIP6, packet.PROTOCOL_UDP, 53)
    assert accepts(program, udp6(port=53)) and accepts(program, fragment6(udp6(port=53), 0))
    assert accepts(program, unreachable6(port=53, protocol=17))
    assert not accepts(program, tcp6(port=53)) and not accepts(program, udp6(port=54))
    for wrong in ({"packet_type": OUTGOING}, {"packet_type": OTHER_HOST}, {"tagged": True}):
        assert not accepts(program, udp6(port=53), **wrong)  # type: ignore[arg-type]


def test_neighbour_advertisements() -> None:
    def message(kind: int) -> bytes:
        return ethernet6(VIP6, 58, NeighbourMessage(kind, VIP6, MAC).pack(VIP6, CLIENT6))

    program = bpf.neighbour_advertisements()
    assert accepts(program, message(packet.NEIGHBOUR_ADVERTISEMENT))
    assert not accepts(program, message(packet.NEIGHBOUR_SOLICITATION))
    assert not accepts(program, tcp6())
    assert not accepts(program, message(packet.NEIGHBOUR_ADVERTISEMENT), packet_type=OTHER_HOST)


@pytest.mark.parametrize(
    "packet_type, expected",
    [(bpf.PACKET_HOST, True), (BROADCAST, True), (MULTICAST, True), (OTHER_HOST, False), (OUTGOING, False)],
)
def test_what_a_nic_hears_of_its_neighbours(packet_type: int, expected: bool) -> None:
    for operation in (packet.ARP_REQUEST, packet.ARP_REPLY):
        frame = ethernet(Arp(operation, MAC, VIP, OWN, CLIENT).pack(), packet.ETHERTYPE_ARP)
        assert accepts(bpf.arp_messages(), frame, packet_type) is expected
        assert not accepts(bpf.arp_messages(), frame, packet_type, tagged=True)
        assert not accepts(bpf.neighbour_messages(), frame, packet_type)
    for kind in (packet.NEIGHBOUR_ADVERTISEMENT, packet.NEIGHBOUR_SOLICITATION):
        frame = ethernet6(VIP6, 58, NeighbourMessage(kind, VIP6, MAC).pack(VIP6, CLIENT6))
        assert accepts(bpf.neighbour_messages(), frame, packet_type) is expected
        assert not accepts(bpf.neighbour_messages(), frame, packet_type, tagged=True)
        assert not accepts(bpf.arp_messages(), frame, packet_type)
    for frame in (tcp(), tcp6(), ethernet6(VIP6, 58, bytes([128]) + bytes(30))):
        assert not accepts(bpf.neighbour_messages(), frame) and not accepts(bpf.arp_messages(), frame)


def test_nothing_lets_nothing_through() -> None:
    assert not accepts(bpf.nothing(), tcp())


few = st.sampled_from([VIP, IPv4Address("10.77.0.101"), IPv4Address("255.255.255.255"), IPv4Address("0.0.0.0")])
few_ports = st.sampled_from([1, 80, 81, 65535])


@given(few, few_ports, st.sampled_from([6, 17]), few, few_ports, st.sampled_from([6, 17]))
@example(VIP, 80, 6, VIP, 80, 6)
def test_the_filter_takes_what_the_parser_would(
    wanted: IPv4Address, wanted_port: int, wanted_protocol: int, source: IPv4Address, port: int, protocol: int
) -> None:
    frame = tcp(source, port) if protocol == 6 else udp(source, port)
    expected = (source, port, protocol) == (wanted, wanted_port, wanted_protocol)
    assert accepts(bpf.replies_from(wanted, wanted_protocol, wanted_port), frame) is expected


@given(st.binary(max_size=100))
def test_no_frame_makes_a_program_run_on(frame: bytes) -> None:
    programs = [bpf.replies_from(vip, 6, 80) for vip in (VIP, VIP6)]
    for program in (*programs, bpf.arp_replies(), bpf.neighbour_advertisements(), bpf.neighbour_messages()):
        accepts(program, frame)


def test_the_code_for_the_kernel() -> None:
    """struct sock_filter: u16 code, u8 jt, u8 jf, u32 k, in the byte order of the host."""
    program = bpf.arp_replies()
    code = bpf.encode(program)
    assert len(code) == 8 * len(program)
    assert [bpf.Instruction(*(row[0], row[3], row[1], row[2])) for row in struct.iter_unpack("=HBBI", code)] == list(
        program
    )
