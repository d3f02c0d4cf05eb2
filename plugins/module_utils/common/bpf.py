# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Classic BPF programs for packet sockets, so that a busy host's other frames never wake us. Does no I/O.

Offsets are those of a packet socket of type SOCK_RAW: the Ethernet header comes first.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Union

from .packet import (
    ARP_REPLY,
    ETHERNET_HEADER,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ICMP_UNREACHABLE,
    ICMPV6_UNREACHABLE,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SOLICITATION,
    PROTOCOL_FRAGMENT,
    PROTOCOL_ICMP,
    PROTOCOL_ICMPV6,
    PROTOCOL_UDP,
    IPAddress,
)

# Operations (linux/filter.h)
LOAD_WORD, LOAD_HALF, LOAD_BYTE = 0x20, 0x28, 0x30  # A = packet[k]
LOAD_HALF_AT_X, LOAD_BYTE_AT_X, LOAD_WORD_AT_X = 0x48, 0x50, 0x40  # A = packet[X + k]
LOAD_X_HEADER = 0xB1  # X = 4 * (packet[k] & 0xf), the length of an IPv4 header
JUMP_EQUAL, JUMP_SET, JUMP_GREATER = 0x15, 0x45, 0x25  # A == k, A & k, A > k
RETURN = 0x06

# What the kernel knows about a frame beside its bytes is read at these "offsets".
ANCILLARY = 0xFFFFF000
PACKET_TYPE = ANCILLARY + 4
VLAN_TAG_PRESENT = ANCILLARY + 48

PACKET_HOST = 0  # addressed to this NIC, coming in
PACKET_MULTICAST = 2  # 1 is a broadcast
PACKET_OTHER_HOST = 3  # what is above goes out

_WHOLE_FRAME = 0x40000

_IP = ETHERNET_HEADER
_ICMP_QUOTED = _IP + 8  # from X = end of the IPv4 header: the header quoted by an ICMP error
_IP6_PAYLOAD = _IP + 40
_ICMPV6_QUOTED = _IP6_PAYLOAD + 8


@dataclass(frozen=True)
class Instruction:
    """One instruction; the jumps count the instructions to skip."""

    code: int
    k: int
    if_true: int = 0
    if_false: int = 0


Program = tuple[Instruction, ...]


@dataclass(frozen=True)
class _Test:
    """Load something, compare it; when the answer is not ``wanted``, go to the label ``otherwise``."""

    load: Instruction
    operation: int
    value: int
    wanted: bool = True
    otherwise: str = "drop"


def _equal(code: int, where: int, value: int, otherwise: str = "drop") -> _Test:
    return _Test(Instruction(code, where), JUMP_EQUAL, value, True, otherwise)


_Step = Union[str, Instruction, _Test]


def _assemble(steps: Sequence[_Step]) -> Program:
    """Turn tests and labels (plain text) into instructions with counted jumps."""
    labels: dict[str, int] = {}
    position = 0
    for step in steps:
        if isinstance(step, str):
            labels[step] = position
        else:
            position += 2 if isinstance(step, _Test) else 1
    program: list[Instruction] = []
    for step in steps:
        if isinstance(step, Instruction):
            program.append(step)
        elif isinstance(step, _Test):
            program.append(step.load)
            skip = labels[step.otherwise] - len(program) - 1
            program.append(
                Instruction(step.operation, step.value, 0, skip)
                if step.wanted
                else Instruction(step.operation, step.value, skip, 0)
            )
    return tuple(program)


_ACCEPT: list[_Step] = [Instruction(RETURN, _WHOLE_FRAME)]
_DROP: list[_Step] = ["drop", Instruction(RETURN, 0)]


def _coming_in(ethertype: int) -> list[_Step]:
    """Only frames to this NIC, without a VLAN tag (those belong to another segment)."""
    return [
        _equal(LOAD_BYTE, PACKET_TYPE, PACKET_HOST),
        _equal(LOAD_BYTE, VLAN_TAG_PRESENT, 0),
        _equal(LOAD_HALF, 12, ethertype),
    ]


def arp_replies() -> Program:
    """ARP replies addressed to this NIC."""
    return _assemble([*_coming_in(ETHERTYPE_ARP), _equal(LOAD_HALF, 20, ARP_REPLY), *_ACCEPT, *_DROP])


def neighbour_advertisements() -> Program:
    """Advertisements of IPv6 neighbour discovery addressed to this NIC. (None has extension headers.)"""
    return _assemble(
        [
            *_coming_in(ETHERTYPE_IPV6),
            _equal(LOAD_BYTE, _IP + 6, PROTOCOL_ICMPV6),
            _equal(LOAD_BYTE, _IP6_PAYLOAD, NEIGHBOUR_ADVERTISEMENT),
            *_ACCEPT,
            *_DROP,
        ]
    )


def _heard(ethertype: int) -> list[_Step]:
    """Only frames that come in, to this NIC or to all or many, without a VLAN tag."""
    return [
        _Test(Instruction(LOAD_BYTE, PACKET_TYPE), JUMP_GREATER, PACKET_MULTICAST, wanted=False),
        _equal(LOAD_BYTE, VLAN_TAG_PRESENT, 0),
        _equal(LOAD_HALF, 12, ethertype),
    ]


def arp_messages() -> Program:
    """All of ARP that this NIC hears: questions, answers, announcements."""
    return _assemble([*_heard(ETHERTYPE_ARP), *_ACCEPT, *_DROP])


def neighbour_messages() -> Program:
    """Solicitations and advertisements of IPv6 neighbour discovery that this NIC hears."""
    return _assemble(
        [
            *_heard(ETHERTYPE_IPV6),
            _equal(LOAD_BYTE, _IP + 6, PROTOCOL_ICMPV6),
            _equal(LOAD_BYTE, _IP6_PAYLOAD, NEIGHBOUR_ADVERTISEMENT, otherwise="solicitation"),
            *_ACCEPT,
            "solicitation",
            _equal(LOAD_BYTE, _IP6_PAYLOAD, NEIGHBOUR_SOLICITATION),
            *_ACCEPT,
            *_DROP,
        ]
    )


def replies_from(source: IPAddress, protocol: int, port: int) -> Program:
    """Frames that ``source`` sent from ``port``, and ICMP errors about packets sent to it there."""
    if isinstance(source, IPv6Address):
        return _ipv6_replies_from(source, protocol, port)
    return _ipv4_replies_from(source, protocol, port)


def _ipv4_replies_from(source: IPv4Address, protocol: int, port: int) -> Program:
    address = int(source)
    return _assemble(
        [
            *_coming_in(ETHERTYPE_IPV4),
            # A later fragment has no ports.
            _Test(Instruction(LOAD_HALF, _IP + 6), JUMP_SET, 0x1FFF, wanted=False),
            Instruction(LOAD_X_HEADER, _IP),
            _equal(LOAD_BYTE, _IP + 9, protocol, otherwise="icmp"),
            _equal(LOAD_WORD, _IP + 12, address),
            _equal(LOAD_HALF_AT_X, _IP, port),
            *_ACCEPT,
            "icmp",
            _equal(LOAD_BYTE, _IP + 9, PROTOCOL_ICMP),
            _equal(LOAD_BYTE_AT_X, _IP, ICMP_UNREACHABLE),
            _equal(LOAD_BYTE_AT_X, _ICMP_QUOTED + 9, protocol),
            _equal(LOAD_WORD_AT_X, _ICMP_QUOTED + 16, address),
            # Our own packets have no options, so the quoted header is 20 bytes long.
            _equal(LOAD_HALF_AT_X, _ICMP_QUOTED + 20 + 2, port),
            *_ACCEPT,
            *_DROP,
        ]
    )


def _ipv6_replies_from(source: IPv6Address, protocol: int, port: int) -> Program:
    # Nobody sends extension headers with TCP or UDP, but for the one that makes fragments.
    return _assemble(
        [
            *_coming_in(ETHERTYPE_IPV6),
            _equal(LOAD_BYTE, _IP + 6, protocol, otherwise="fragment"),
            *_same_address(_IP + 8, source),
            _equal(LOAD_HALF, _IP6_PAYLOAD, port),
            *_ACCEPT,
            "fragment",
            _equal(LOAD_BYTE, _IP + 6, PROTOCOL_FRAGMENT, otherwise="icmp"),
            _equal(LOAD_BYTE, _IP6_PAYLOAD, protocol),
            # A later fragment has no ports.
            _Test(Instruction(LOAD_HALF, _IP6_PAYLOAD + 2), JUMP_SET, 0xFFF8, wanted=False),
            *_same_address(_IP + 8, source),
            _equal(LOAD_HALF, _IP6_PAYLOAD + 8, port),
            *_ACCEPT,
            "icmp",
            _equal(LOAD_BYTE, _IP + 6, PROTOCOL_ICMPV6),
            _equal(LOAD_BYTE, _IP6_PAYLOAD, ICMPV6_UNREACHABLE),
            _equal(LOAD_BYTE, _ICMPV6_QUOTED + 6, protocol),
            *_same_address(_ICMPV6_QUOTED + 24, source),
            _equal(LOAD_HALF, _ICMPV6_QUOTED + 40 + 2, port),
            *_ACCEPT,
            *_DROP,
        ]
    )


def _same_address(where: int, address: IPv6Address) -> list[_Step]:
    words = struct.unpack("!4I", address.packed)
    return [_equal(LOAD_WORD, where + 4 * index, word) for index, word in enumerate(words)]


def marked_datagrams(port: int, mark: bytes) -> Program:
    """Datagrams of UDP to a port whose content begins with four certain bytes, to this NIC, of either family."""
    (word,) = struct.unpack("!I", mark)
    return _assemble(
        [
            _equal(LOAD_BYTE, PACKET_TYPE, PACKET_HOST),
            _equal(LOAD_BYTE, VLAN_TAG_PRESENT, 0),
            _equal(LOAD_HALF, 12, ETHERTYPE_IPV4, otherwise="ipv6"),
            _equal(LOAD_BYTE, _IP + 9, PROTOCOL_UDP),
            _Test(Instruction(LOAD_HALF, _IP + 6), JUMP_SET, 0x1FFF, wanted=False),
            Instruction(LOAD_X_HEADER, _IP),
            _equal(LOAD_HALF_AT_X, _IP + 2, port),
            _equal(LOAD_WORD_AT_X, _IP + 8, word),
            *_ACCEPT,
            "ipv6",
            _equal(LOAD_HALF, 12, ETHERTYPE_IPV6),
            _equal(LOAD_BYTE, _IP + 6, PROTOCOL_UDP),
            _equal(LOAD_HALF, _IP6_PAYLOAD + 2, port),
            _equal(LOAD_WORD, _IP6_PAYLOAD + 8, word),
            *_ACCEPT,
            *_DROP,
        ]
    )


def adverts(protocol: int) -> Program:
    """Packets of a protocol that this NIC hears, to it or to many, of either family."""
    return _assemble(
        [
            _Test(Instruction(LOAD_BYTE, PACKET_TYPE), JUMP_GREATER, PACKET_OTHER_HOST, wanted=False),
            _equal(LOAD_BYTE, VLAN_TAG_PRESENT, 0),
            _equal(LOAD_HALF, 12, ETHERTYPE_IPV4, otherwise="ipv6"),
            _equal(LOAD_BYTE, _IP + 9, protocol),
            *_ACCEPT,
            "ipv6",
            _equal(LOAD_HALF, 12, ETHERTYPE_IPV6),
            _equal(LOAD_BYTE, _IP + 6, protocol),
            *_ACCEPT,
            *_DROP,
        ]
    )


def nothing() -> Program:
    """Drops everything."""
    return (Instruction(RETURN, 0),)


def encode(program: Program) -> bytes:
    """The program as an array of the kernel's ``struct sock_filter``, in host byte order."""
    return b"".join(struct.pack("=HBBI", step.code, step.if_true, step.if_false, step.k) for step in program)
