# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames as bytes: crafted ones built, seen ones read. Does no I/O."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional, Union

IPAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

ETH_P_IP, ETH_P_ARP, ETH_P_IPV6 = 0x0800, 0x0806, 0x86DD
ICMP, TCP, UDP, FRAGMENT, ICMPV6, SCTP = 1, 6, 17, 44, 58, 132
PROTOCOLS = {"icmp": ICMP, "tcp": TCP, "udp": UDP, "icmpv6": ICMPV6, "sctp": SCTP}
NAMES = {number: name for name, number in PROTOCOLS.items()}
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32}
CHUNKS = {
    "data": 0, "init": 1, "init-ack": 2, "sack": 3, "heartbeat": 4, "heartbeat-ack": 5, "abort": 6, "shutdown": 7,
    "shutdown-ack": 8, "error": 9, "cookie-echo": 10, "cookie-ack": 11, "shutdown-complete": 14,
}  # fmt: skip
CHUNK_NAMES = {number: name for name, number in CHUNKS.items()}
# Type and code of each error, by IP version.
ICMP_ERRORS = {
    4: {"unreachable": (3, 1), "frag-needed": (3, 4), "time-exceeded": (11, 0), "param-problem": (12, 0)},
    6: {"unreachable": (1, 3), "packet-too-big": (2, 0), "time-exceeded": (3, 0), "param-problem": (4, 0)},
}
_ICMP_ERROR_TYPES = {4: (3, 4, 5, 11, 12), 6: (1, 2, 3, 4)}
_DISCOVERY = {135: "solicitation", 136: "advertisement"}
_OPTION_HEADERS = (0, 43, 60)  # hop-by-hop, routing, destination
_LARGE = 1400  # what a quoted packet says its payload was


# -- building


def checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _crc32c_table() -> list[int]:
    table = []
    for value in range(256):
        for _unused in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """The checksum of SCTP."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC32C[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def _pseudo_header(source: IPAddress, destination: IPAddress, protocol: int, length: int) -> bytes:
    shape = "!BBH" if source.version == 4 else "!xxHxxxB"
    fields = (0, protocol, length) if source.version == 4 else (length, protocol)
    return source.packed + destination.packed + struct.pack(shape, *fields)


def tcp_segment(
    source: IPAddress, destination: IPAddress, ports: tuple[int, int], flags: str, payload: bytes = b""
) -> bytes:
    bits = sum(FLAGS[flag] for flag in flags)
    head = struct.pack("!HHIIBBHHH", *ports, 1, 1 if "A" in flags else 0, 5 << 4, bits, 65535, 0, 0)
    pseudo = _pseudo_header(source, destination, TCP, len(head) + len(payload))
    return head[:16] + struct.pack("!H", checksum(pseudo + head + payload)) + head[18:] + payload


def udp_datagram(source: IPAddress, destination: IPAddress, ports: tuple[int, int], payload: bytes = b"") -> bytes:
    length = 8 + len(payload)
    head = struct.pack("!HHHH", *ports, length, 0)
    pseudo = _pseudo_header(source, destination, UDP, length)
    return head[:6] + struct.pack("!H", checksum(pseudo + head + payload) or 0xFFFF) + payload


def sctp_packet(ports: tuple[int, int], chunk: str, payload: bytes = b"") -> bytes:
    """One chunk of this type; its association exists nowhere."""
    if chunk in ("init", "init-ack"):
        # Our tag, the window, streams out and in, the first sequence number.
        content = struct.pack("!IIHHI", 1, 65536, 10, 10, 1)
    elif chunk == "data":
        content = struct.pack("!IHHI", 1, 0, 0, 0) + (payload or b"\0")
    else:
        content = payload
    whole = 3 if chunk == "data" else 0  # an unfragmented message
    tag = 0 if chunk == "init" else 1
    head = struct.pack("!HHII", *ports, tag, 0)
    body = struct.pack("!BBH", CHUNKS[chunk], whole, 4 + len(content)) + content + bytes(-len(content) % 4)
    return head[:8] + struct.pack("<I", crc32c(head + body)) + body


def echo_request(source: IPAddress, destination: IPAddress, identity: int, payload: bytes = b"") -> bytes:
    kind = 8 if source.version == 4 else 128
    return _icmp(source, destination, struct.pack("!BBHHH", kind, 0, 0, identity, 1) + payload)


def icmp_error(
    source: IPAddress, destination: IPAddress, kind: str, quoted: bytes, code: Optional[int] = None, mtu: int = 0
) -> bytes:
    """The error of this kind about the packet that begins with ``quoted``. KeyError for one of the other family."""
    number, usual = ICMP_ERRORS[source.version][kind]
    rest = mtu if kind in ("frag-needed", "packet-too-big") else 0
    head = struct.pack("!BBHI", number, usual if code is None else code, 0, rest)
    return _icmp(source, destination, head + quoted)


def _icmp(source: IPAddress, destination: IPAddress, data: bytes) -> bytes:
    pseudo = _pseudo_header(source, destination, ICMPV6, len(data)) if source.version == 6 else b""
    return data[:2] + struct.pack("!H", checksum(pseudo + data)) + data[4:]


def quotation(
    source: IPAddress, destination: IPAddress, protocol: int, ports: tuple[int, int], more: bytes = b""
) -> bytes:
    """The beginning of a full-sized packet, as an error quotes it: its header, eight bytes (RFC 792) and ``more``."""
    if protocol in (TCP, UDP, SCTP):
        begun = struct.pack("!HHI", *ports, _LARGE << 16 if protocol == UDP else 1)
    else:
        begun = bytes(8)
    (head,) = ip_packets(source, destination, protocol, bytes(_LARGE), identity=1, ttl=63)
    return head[: 20 if source.version == 4 else 40] + begun + more


def ip_packets(
    source: IPAddress, destination: IPAddress, protocol: int, body: bytes, identity: int, ttl: int, size: int = 0
) -> Iterator[bytes]:
    """One packet, or its fragments of at most ``size`` bytes of the body each."""
    step = size & ~7 if size else max(len(body), 1)
    for offset in range(0, max(len(body), 1), step):
        part = body[offset : offset + step]
        more = offset + step < len(body)
        if source.version == 4:
            place = more << 13 | offset // 8
            head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(part), identity & 0xFFFF, place, ttl, protocol, 0)
            head += source.packed + destination.packed
            yield head[:10] + struct.pack("!H", checksum(head)) + head[12:] + part
            continue
        following = protocol
        if size:
            part = struct.pack("!BxHI", protocol, offset | more, identity) + part
            following = FRAGMENT
        head = struct.pack("!IHBB", 6 << 28, len(part), following, ttl)
        yield head + source.packed + destination.packed + part


# -- reading


class Packet(NamedTuple):
    """An IP packet, or what is there of it. ``offset`` None: it is no fragment."""

    source: str
    destination: str
    protocol: int
    ttl: int
    identity: Optional[int]
    offset: Optional[int]
    more: bool
    rest: bytes


def read_ip(data: bytes) -> Optional[Packet]:
    if len(data) >= 20 and data[0] >> 4 == 4:
        identity, fragment, ttl, protocol, source, destination = struct.unpack_from("!4xHHBB2x4s4s", data)
        offset, more = (fragment & 0x1FFF) * 8, bool(fragment & 0x2000)
        rest = b"" if offset else data[4 * (data[0] & 15) :]
        addresses = socket.inet_ntoa(source), socket.inet_ntoa(destination)
        return Packet(*addresses, protocol, ttl, identity, offset if offset or more else None, more, rest)
    if len(data) >= 40 and data[0] >> 4 == 6:
        following, ttl, source, destination = struct.unpack_from("!BB16s16s", data, 6)
        rest = data[40:]
        number: Optional[int] = None
        place: Optional[int] = None
        more = False
        while following in (*_OPTION_HEADERS, FRAGMENT) and len(rest) >= 8:
            if following != FRAGMENT:
                following, rest = rest[0], rest[8 + 8 * rest[1] :]
                continue
            following, at, number = struct.unpack_from("!BxHI", rest)
            place, more = at & 0xFFF8, bool(at & 1)
            rest = rest[8:]
            if place:
                rest = b""
                break
        texts = (socket.inet_ntop(socket.AF_INET6, source), socket.inet_ntop(socket.AF_INET6, destination))
        return Packet(*texts, following, ttl, number, place, more, rest)
    return None


def decode(frame: bytes, length: int, outgoing: bool) -> dict[str, Any]:
    """The fields of a frame by which frames are chosen and told apart; its length is that on the wire."""
    fields: dict[str, Any] = {
        "to_mac": frame[0:6].hex(":"),
        "from_mac": frame[6:12].hex(":"),
        "length": length,
        "direction": "out" if outgoing else "in",
        "protocol": "other",
    }
    (kind,) = struct.unpack_from("!H", frame, 12)
    if kind == ETH_P_ARP and len(frame) >= 42:
        operation, sender, target = struct.unpack_from("!H6x4s6x4s", frame, 20)
        fields.update(
            protocol="arp",
            operation={1: "request", 2: "reply"}.get(operation, str(operation)),
            source=socket.inet_ntoa(sender),
            destination=socket.inet_ntoa(target),
        )
    elif kind in (ETH_P_IP, ETH_P_IPV6):
        packet = read_ip(frame[14:])
        if packet is not None:
            fields.update(
                source=packet.source,
                destination=packet.destination,
                protocol=NAMES.get(packet.protocol, str(packet.protocol)),
                ttl=packet.ttl,
                id=packet.identity,
                fragment=packet.offset or 0,
                more_fragments=packet.more,
                piece="none" if packet.offset is None else "later" if packet.offset else "first",
            )
            _decode_transport(fields, packet.rest)
    return fields


def _decode_transport(fields: dict[str, Any], rest: bytes) -> None:
    if fields["protocol"] in ("tcp", "udp", "sctp") and len(rest) >= 4:
        fields["source_port"], fields["port"] = struct.unpack_from("!HH", rest)
        if fields["protocol"] == "tcp" and len(rest) >= 14:
            fields["flags"] = "".join(name for name, bit in FLAGS.items() if rest[13] & bit)
        elif fields["protocol"] == "sctp" and len(rest) >= 13:
            fields["chunk"] = CHUNK_NAMES.get(rest[12], str(rest[12]))
    elif fields["protocol"] in ("icmp", "icmpv6") and len(rest) >= 8:
        version = 4 if fields["protocol"] == "icmp" else 6
        fields["type"], fields["code"] = rest[0], rest[1]
        if version == 6 and rest[0] in _DISCOVERY and len(rest) >= 24:
            fields["operation"] = _DISCOVERY[rest[0]]
            fields["target"] = socket.inet_ntop(socket.AF_INET6, rest[8:24])
        elif rest[0] in _ICMP_ERROR_TYPES[version]:
            if (version, rest[0], rest[1]) == (4, 3, 4) or (version, rest[0]) == (6, 2):
                fields["mtu"] = struct.unpack_from("!I", rest, 4)[0]
            _decode_quotation(fields, read_ip(rest[8:]))


def _decode_quotation(fields: dict[str, Any], packet: Optional[Packet]) -> None:
    if packet is None:
        return
    fields.update(
        quoted_source=packet.source,
        quoted_destination=packet.destination,
        quoted_protocol=NAMES.get(packet.protocol, str(packet.protocol)),
    )
    if packet.protocol in (TCP, UDP, SCTP) and len(packet.rest) >= 4:
        fields["quoted_source_port"], fields["quoted_destination_port"] = struct.unpack_from("!HH", packet.rest)
