# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames: known ones byte by byte, any of them there and back, damaged ones refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.common import packet
from ansible_collections.dsr.layer2.plugins.module_utils.common.packet import (
    Arp,
    Ethernet,
    IPv4,
    IPv6,
    NeighbourMessage,
    Tcp,
    Udp,
    Unreachable,
)

macs = st.binary(min_size=6, max_size=6)
ips = st.integers(0, 2**32 - 1).map(IPv4Address)
ip6s = st.integers(0, 2**128 - 1).map(IPv6Address)
pairs = st.one_of(st.tuples(ips, ips), st.tuples(ip6s, ip6s))  # of addresses that can speak to each other
ports = st.integers(0, 65535)
payloads = st.binary(max_size=80)
words = st.integers(0, 2**32 - 1)

ethernets = st.builds(Ethernet, macs, macs, ports, payloads)
arps = st.builds(Arp, ports, macs, ips, macs, ips)
tcps = st.builds(
    Tcp,
    ports,
    ports,
    words,
    words,
    st.integers(0, 255),
    ports,
    st.integers(0, 10).flatmap(lambda size: st.binary(min_size=4 * size, max_size=4 * size)),
    payloads,
)
udps = st.builds(Udp, ports, ports, payloads)
ipv4s = st.builds(
    IPv4,
    ips,
    ips,
    st.integers(0, 255),
    payloads,
    ttl=st.integers(0, 255),
    identification=ports,
    dont_fragment=st.booleans(),
    more_fragments=st.booleans(),
    fragment_offset=st.integers(0, 0x1FFF),
)
ipv6s = st.builds(
    IPv6,
    ip6s,
    ip6s,
    st.sampled_from([6, 17, 58, 59, 132, 255]),
    payloads,
    hop_limit=st.integers(0, 255),
)
messages = st.builds(
    NeighbourMessage, st.sampled_from([135, 136]), ip6s, st.one_of(st.none(), macs), flags=st.integers(0, 255)
)
padding = st.integers(0, 46).map(bytes)


@pytest.mark.parametrize(
    "text, value",
    [
        ("02:d5:00:00:00:0a", "02d50000000a"),
        ("02-D5-00-00-00-0A", "02d50000000a"),
        ("FF:ff:FF:ff:FF:ff", "ffffffffffff"),
    ],
)
def test_a_mac_is_read(text: str, value: str) -> None:
    assert packet.mac_to_bytes(text).hex() == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:d5:00:00:00",
        "02:d5:00:00:00:0a:0b",
        "02:d5-00:00:00:0a",
        "02d50000000a",
        "02:d5:00:00:00:0g",
        "2:d5:0:0:0:a",
        " 02:d5:00:00:00:0a",
        "02:d5:00:00:00:0a\n",
        "٠٢:d5:00:00:00:0a",
    ],
)
def test_what_is_no_mac_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a MAC address"):
        packet.mac_to_bytes(text)


@given(macs)
def test_a_mac_there_and_back(mac: bytes) -> None:
    assert packet.mac_to_bytes(packet.mac_to_text(mac)) == mac


@pytest.mark.parametrize(
    "mac, station",
    [
        ("02:d5:00:00:00:01", True),
        ("00:00:00:00:00:01", True),
        ("fe:ff:ff:ff:ff:ff", True),
        ("00:00:00:00:00:00", False),
        ("ff:ff:ff:ff:ff:ff", False),
        ("01:00:5e:00:00:01", False),
        ("33:33:00:00:00:01", False),
    ],
)
def test_only_a_unicast_mac_is_a_stations(mac: str, station: bool) -> None:
    assert packet.is_station(packet.mac_to_bytes(mac)) is station


def test_an_arp_request_byte_by_byte() -> None:
    mac = packet.mac_to_bytes("02:d5:00:00:00:02")
    request = Arp(packet.ARP_REQUEST, mac, IPv4Address("10.77.0.2"), packet.ZERO_MAC, IPv4Address("10.77.0.21"))
    frame = Ethernet(packet.BROADCAST_MAC, mac, packet.ETHERTYPE_ARP, request.pack()).pack()
    assert frame.hex(" ", 2) == (
        "ffff ffff ffff 02d5 0000 0002 0806 0001 0800 0604 0001 02d5 0000 0002 0a4d 0002 0000 0000 0000 0a4d 0015"
    )


def test_an_ipv4_header_of_the_textbook() -> None:
    header = bytes.fromhex("450000730000400040 11b861c0a80001c0a800c7".replace(" ", ""))
    built = IPv4(IPv4Address("192.168.0.1"), IPv4Address("192.168.0.199"), 17, bytes(0x73 - 20)).pack()
    assert built[:20] == header


def test_a_syn_byte_by_byte() -> None:
    built = Tcp(40000, 80, 0x01020304, 0, packet.SYN, 65535, bytes.fromhex("020405b4")).pack(
        IPv4Address("10.77.0.10"), IPv4Address("10.77.0.100")
    )
    assert built[:16].hex(" ", 2) == "9c40 0050 0102 0304 0000 0000 6002 ffff"
    assert built[18:].hex(" ", 2) == "0000 0204 05b4"


@given(ethernets)
def test_ethernet_there_and_back(frame: Ethernet) -> None:
    assert Ethernet.parse(frame.pack()) == frame


@given(arps, padding)
def test_arp_there_and_back(arp: Arp, pad: bytes) -> None:
    assert Arp.parse(arp.pack() + pad) == arp


@given(ipv4s, padding)
def test_ipv4_there_and_back(ip: IPv4, pad: bytes) -> None:
    assert IPv4.parse(ip.pack() + pad) == ip


@given(ipv4s)
def test_the_checksum_of_an_ipv4_header_holds(ip: IPv4) -> None:
    assert packet.checksum(ip.pack()[:20]) == 0


@given(ipv6s, padding)
def test_ipv6_there_and_back(ip: IPv6, pad: bytes) -> None:
    assert IPv6.parse(ip.pack() + pad) == ip


@given(tcps, pairs)
def test_tcp_there_and_back(tcp: Tcp, ends: tuple[packet.IPAddress, packet.IPAddress]) -> None:
    assert Tcp.parse(tcp.pack(*ends)) == tcp


@given(udps, pairs, padding)
def test_udp_there_and_back(udp: Udp, ends: tuple[packet.IPAddress, packet.IPAddress], pad: bytes) -> None:
    assert Udp.parse(udp.pack(*ends) + pad) == udp


def pseudo_header(source: packet.IPAddress, destination: packet.IPAddress, protocol: int, size: int) -> bytes:
    """RFC 9293, and RFC 8200 for IPv6."""
    shape, fields = ("!BBH", (0, protocol, size)) if source.version == 4 else ("!IBBBB", (size, 0, 0, 0, protocol))
    return source.packed + destination.packed + struct.pack(shape, *fields)


@given(st.one_of(tcps, udps), pairs)
def test_the_checksum_of_a_segment_covers_its_pseudo_header(
    content: packet.Tcp | packet.Udp, ends: tuple[packet.IPAddress, packet.IPAddress]
) -> None:
    data = content.pack(*ends)
    number = 6 if isinstance(content, Tcp) else 17
    assert packet.checksum(pseudo_header(*ends, number, len(data)) + data) == 0


@given(messages, ip6s, ip6s)
def test_a_neighbour_message_there_and_back(
    message: NeighbourMessage, source: IPv6Address, destination: IPv6Address
) -> None:
    data = message.pack(source, destination)
    assert packet.checksum(pseudo_header(source, destination, 58, len(data)) + data) == 0
    assert NeighbourMessage.parse(IPv6(source, destination, 58, data, hop_limit=255)) == message


ASKER, TARGET = IPv6Address("fe80::2"), IPv6Address("fd00:77::21")
ADVERTISEMENT = NeighbourMessage(136, TARGET, b"\2\xd5\0\0\0\x15", packet.NA_SOLICITED | packet.NA_OVERRIDE)


def advertised(change: Callable[[bytearray], object], **how: Any) -> IPv6:
    """The advertisement with a change in its bytes, and the checksum right again."""
    data = bytearray(ADVERTISEMENT.pack(TARGET, ASKER))
    change(data)
    data[2:4] = bytes(2)
    data[2:4] = struct.pack("!H", packet.checksum(pseudo_header(TARGET, ASKER, 58, len(data)) + bytes(data)))
    return IPv6(TARGET, ASKER, 58, bytes(data), **{"hop_limit": 255, **how})


@pytest.mark.parametrize(
    "why, whole",
    [
        ("it passed a router", advertised(lambda data: None, hop_limit=254)),
        ("another protocol", IPv6(TARGET, ASKER, 17, ADVERTISEMENT.pack(TARGET, ASKER), hop_limit=255)),
        ("a fragment", advertised(lambda data: None, more_fragments=True)),
        ("another type", advertised(lambda data: data.__setitem__(0, 134))),
        ("a code", advertised(lambda data: data.__setitem__(1, 1))),
        ("too short", advertised(lambda data: data.__delitem__(slice(20, None)))),
        ("an option without a length", advertised(lambda data: data.__setitem__(25, 0))),
        ("an option that is cut off", advertised(lambda data: data.__setitem__(25, 2))),
        ("a damaged one", IPv6(TARGET, ASKER, 58, ADVERTISEMENT.pack(ASKER, ASKER), hop_limit=255)),
    ],
)
def test_a_neighbour_message_that_nobody_may_heed(why: str, whole: IPv6) -> None:
    assert NeighbourMessage.parse(advertised(lambda data: None)) == ADVERTISEMENT
    assert NeighbourMessage.parse(whole) is None, why


def test_options_of_neighbour_messages_that_we_do_not_know_are_skipped() -> None:
    nonce = bytes([14, 1]) + bytes(6)
    whole = advertised(lambda data: data.__setitem__(slice(24, 24), nonce))
    assert NeighbourMessage.parse(whole) == ADVERTISEMENT
    no_address = advertised(lambda data: data.__setitem__(slice(24, None), nonce))
    assert NeighbourMessage.parse(no_address) == NeighbourMessage(136, TARGET, None, ADVERTISEMENT.flags)


@pytest.mark.parametrize(
    "address, group, mac",
    [
        ("fd00:77::21", "ff02::1:ff00:21", "33:33:ff:00:00:21"),
        ("2001:db8::a1b2:c3d4", "ff02::1:ffb2:c3d4", "33:33:ff:b2:c3:d4"),
    ],
)
def test_where_a_solicitation_goes(address: str, group: str, mac: str) -> None:
    assert packet.solicited_node(IPv6Address(address)) == IPv6Address(group)
    assert packet.mac_to_text(packet.group_mac(IPv6Address(group))) == mac


def test_a_udp_checksum_that_comes_out_as_zero_is_sent_as_its_other_form() -> None:
    """0 would say that there is none."""
    source, destination = IPv4Address("10.77.0.10"), IPv4Address("10.77.0.100")
    sum_without = Udp(40000, 53, b"\0\0").pack(source, destination)[6:8]
    assert Udp(40000, 53, sum_without).pack(source, destination)[6:8] == b"\xff\xff"


def test_the_checksum_of_an_odd_number_of_bytes() -> None:
    assert packet.checksum(b"\x01\x02\x03") == packet.checksum(b"\x01\x02\x03\x00") == 0xFFFF - 0x0402


@given(st.binary(max_size=120))
def test_no_bytes_make_a_parser_fail(data: bytes) -> None:
    for kind in (Ethernet, Arp, IPv4, IPv6, Tcp, Udp, Unreachable):
        kind.parse(data)
    IPv4.parse(data, whole=False)
    IPv6.parse(b"\x60" + data[1:], whole=False)
    Unreachable.parse(b"\1" + data, 6)
    whole = IPv6(ASKER, ASKER, 58, b"\x88\0" + data, hop_limit=255)
    NeighbourMessage.parse(whole)


@given(st.lists(st.tuples(st.sampled_from([0, 43, 44, 60, 6]), st.binary(max_size=24))))
def test_no_extension_headers_make_a_parser_fail(headers: list[tuple[int, bytes]]) -> None:
    data = b"".join(bytes([kind]) + rest for kind, rest in headers)
    IPv6.parse(IPv6(ASKER, TARGET, headers[0][0] if headers else 0, data).pack())


@given(st.one_of(arps.map(Arp.pack), ipv4s.map(IPv4.pack), ipv6s.map(IPv6.pack)), st.data())
def test_what_is_cut_off_is_refused(data: bytes, choice: st.DataObject) -> None:
    kind = {0x45: IPv4, 0x60: IPv6}.get(data[0], Arp)
    assert kind.parse(data[: choice.draw(st.integers(0, len(data) - 1))]) is None


@pytest.mark.parametrize(
    "what, data",
    [
        ("IPv6", b"\x65" + bytes(60)),
        ("a header of 16 bytes", b"\x44\0\0\x20" + bytes(60)),
        ("a header longer than the packet", b"\x4f\0\0\x20" + bytes(60)),
        ("a header that is cut off", b"\x4f\0\0\x3c" + bytes(30)),
    ],
)
def test_a_damaged_ipv4_header_is_refused(what: str, data: bytes) -> None:
    assert IPv4.parse(data) is None, what


def test_ipv4_options_are_skipped() -> None:
    plain = IPv4(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"), 17, b"payload").pack()
    with_options = b"\x46" + plain[1:2] + struct.pack("!H", 20 + 4 + 7) + plain[4:20] + b"\x01" * 4 + plain[20:]
    parsed = IPv4.parse(with_options)
    assert parsed is not None
    assert parsed.payload == b"payload"


def test_ipv6_extension_headers_are_skipped() -> None:
    hop_by_hop = bytes([60, 0]) + bytes(6)
    options = bytes([44, 1]) + bytes(14)
    fragment = struct.pack("!BxHI", 17, 1, 4711)
    whole = IPv6(ASKER, TARGET, 0, hop_by_hop + options + fragment + b"payload").pack()
    assert IPv6.parse(whole) == IPv6(ASKER, TARGET, 17, b"payload", more_fragments=True)
    assert IPv6.parse(IPv6(ASKER, TARGET, 0, hop_by_hop + options[:-1]).pack()) is None, "cut off"
    assert IPv6.parse(IPv6(ASKER, TARGET, 0, b"").pack()) is None


def test_the_middle_of_an_ipv6_packet_is_no_header() -> None:
    later = IPv6(ASKER, TARGET, 44, struct.pack("!BxHI", 60, 1448 | 1, 4711) + bytes(20)).pack()
    assert IPv6.parse(later) == IPv6(ASKER, TARGET, 60, bytes(20), more_fragments=True, fragment_offset=181)


@pytest.mark.parametrize("change", [{0: 0, 1: 6}, {2: 0x86, 3: 0xDD}, {4: 8}, {5: 16}])
def test_arp_of_another_kind_is_refused(change: dict[int, int]) -> None:
    data = bytearray(Arp(2, bytes(6), IPv4Address(0), bytes(6), IPv4Address(0)).pack())
    for index, value in change.items():
        data[index] = value
    assert Arp.parse(bytes(data)) is None


@given(udps, ips, ips, st.integers(0, 15))
def test_an_icmp_error_names_the_ports_it_is_about(
    udp: Udp, source: IPv4Address, destination: IPv4Address, code: int
) -> None:
    about = IPv4(source, destination, 17, udp.pack(source, destination)).pack()
    error = Unreachable.parse(bytes([3, code, 0, 0, 0, 0, 0, 0]) + about[:28])
    assert error == Unreachable(code, source, destination, 17, udp.source_port, udp.destination_port)
    assert Unreachable.parse(bytes([11, code, 0, 0, 0, 0, 0, 0]) + about[:28]) is None, "time exceeded"


@given(udps, ip6s, ip6s, st.integers(0, 6))
def test_an_icmpv6_error_names_the_ports_it_is_about(
    udp: Udp, source: IPv6Address, destination: IPv6Address, code: int
) -> None:
    about = IPv6(source, destination, 17, udp.pack(source, destination)).pack()
    error = Unreachable.parse(bytes([1, code, 0, 0, 0, 0, 0, 0]) + about[:48], 6)
    assert error == Unreachable(code, source, destination, 17, udp.source_port, udp.destination_port)
    assert Unreachable.parse(bytes([2, code, 0, 0, 0, 0, 5, 120]) + about[:48], 6) is None, "packet too big"


def test_an_icmp_error_about_a_later_fragment_names_no_ports() -> None:
    about = IPv4(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"), 17, bytes(8), fragment_offset=3).pack()
    assert Unreachable.parse(bytes([3, 3, 0, 0, 0, 0, 0, 0]) + about) is None


@given(st.one_of(tcps, udps), macs, macs, ip6s, ip6s)
def test_a_whole_frame_of_ipv6(
    content: packet.Tcp | packet.Udp, destination: bytes, source: bytes, sender: IPv6Address, receiver: IPv6Address
) -> None:
    frame = Ethernet.parse(packet.ip_frame(destination, source, sender, receiver, content))
    assert frame is not None
    assert (frame.destination, frame.source, frame.ethertype) == (destination, source, packet.ETHERTYPE_IPV6)
    ip = IPv6.parse(frame.payload)
    assert ip is not None
    assert (ip.source, ip.destination, ip.hop_limit) == (sender, receiver, 64)
    assert type(content).parse(ip.payload) == content


def test_a_frame_between_two_families_is_none() -> None:
    with pytest.raises(ValueError, match="are not of one family"):
        packet.ip_frame(bytes(6), bytes(6), IPv4Address("10.0.0.1"), TARGET, Udp(1, 2, b""))


@given(st.one_of(tcps, udps), macs, macs, ips, ips)
def test_a_whole_frame(
    content: packet.Tcp | packet.Udp, destination: bytes, source: bytes, sender: IPv4Address, receiver: IPv4Address
) -> None:
    frame = Ethernet.parse(packet.ip_frame(destination, source, sender, receiver, content))
    assert frame is not None
    assert (frame.destination, frame.source, frame.ethertype) == (destination, source, packet.ETHERTYPE_IPV4)
    ip = IPv4.parse(frame.payload)
    assert ip is not None
    assert (ip.source, ip.destination, ip.ttl, ip.dont_fragment) == (sender, receiver, 64, True)
    assert type(content).parse(ip.payload) == content
