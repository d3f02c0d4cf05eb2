# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things stand in a packet, worked out from the headers' layouts (RFC 791, 792, 8200, 4443)."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.packet_fields import IPV4, IPV6, Family

# In bits: the size of the header, and where source, destination and protocol stand in it
HEADERS = {4: (160, 96, 128, 72), 6: (320, 64, 192, 48)}
ICMP_HEADER = 64  # before the packet that an error quotes


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_addresses_and_ports_in_a_packet_and_in_one_that_is_quoted(family: Family) -> None:
    """What is quoted was sent by a backend: the client is its destination."""
    header, source, destination, protocol = HEADERS[family.version]
    size = family.address_size
    assert family.packet.client == f"@nh,{source},{size}"
    assert family.quoted.client == f"@th,{ICMP_HEADER + destination},{size}"
    assert family.quoted.client_port == f"@th,{ICMP_HEADER + header + 16},16"
    assert family.quoted_service_port == f"@th,{ICMP_HEADER + header},16"
    assert family.quoted_protocol == f"@th,{ICMP_HEADER + protocol},8"
    assert family.alone_declaration == f"typeof {family.packet.alone} : meta mark"
    for packet, first in ((family.packet, f"@nh,{source}"), (family.quoted, f"@th,{ICMP_HEADER + destination}")):
        assert packet.alone.startswith(f"{first},32")
        assert sum(int(bits) for bits in re.findall(r",(\d+)(?: |$)", packet.alone)) == size


def test_a_flow_and_its_quotation_have_one_key() -> None:
    """Client, its port, the service's port; in IPv6 the last 96 bits of the client, and both ports hashed alike."""
    header, source, destination, _protocol = HEADERS[4]
    assert IPV4.packet.flow == f"@nh,{source},32 . @nh,{header},16 . @nh,{header + 16},16"
    quoted = ICMP_HEADER + header
    assert IPV4.quoted.flow == f"@th,{ICMP_HEADER + destination},32 . @th,{quoted + 16},16 . @th,{quoted},16"
    header, source, destination, _protocol = HEADERS[6]
    own = re.fullmatch(rf"@nh,{source + 32},96 \. jhash th sport \. th dport (mod \d+ seed \w+)", IPV6.packet.flow)
    quoted = ICMP_HEADER + header
    quotation = re.fullmatch(
        rf"@th,{ICMP_HEADER + destination + 32},96 \. jhash @th,{quoted + 16},16 \. @th,{quoted},16 (mod \d+ seed \w+)",
        IPV6.quoted.flow,
    )
    assert own and quotation and own[1] == quotation[1]


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_what_a_hash_scheduler_hashes(family: Family) -> None:
    for packet in (family.packet, family.quoted):
        assert packet.hashed(with_port=False) == packet.client
        assert packet.hashed(with_port=True) == f"{packet.client} . {packet.client_port}"


def test_no_kind_of_flow_is_taken_for_another() -> None:
    """nft lists raw keys without their lengths, so it takes their number to tell a VIP's new map from its old one."""
    types = [family.flow_types for family in (IPV4, IPV6)] + [family.alone_types for family in (IPV4, IPV6)]
    assert len(set(types)) == 4


@pytest.mark.parametrize(
    ("addresses", "condition"),
    [
        # One VIP, or some near each other: the first three bytes, so that others come and go without another rule
        (["10.77.0.100"], "@nh,96,32 & 0xffffff00 == 0x0a4d0000 ip saddr @vips_ip"),
        (["10.77.0.0", "10.77.0.255"], "@nh,96,32 & 0xffffff00 == 0x0a4d0000 ip saddr @vips_ip"),
        # Farther apart: what they have in common
        (["10.77.0.100", "10.77.1.100"], "@nh,96,32 & 0xfffffe00 == 0x0a4d0000 ip saddr @vips_ip"),
        (["10.77.1.100", "10.77.2.100"], "@nh,96,32 & 0xfffffc00 == 0x0a4d0000 ip saddr @vips_ip"),
        (["10.79.0.1", "10.77.0.100", "10.78.3.4"], "@nh,96,32 & 0xfffc0000 == 0x0a4c0000 ip saddr @vips_ip"),
        (["192.0.2.1", "203.0.113.1"], "@nh,96,32 & 0xf0000000 == 0xc0000000 ip saddr @vips_ip"),
        (["128.0.0.1", "223.0.0.1"], "@nh,96,32 & 0x80000000 == 0x80000000 ip saddr @vips_ip"),
        # Nothing
        (["10.77.0.100", "192.0.2.1"], "ip saddr @vips_ip"),
        # Of IPv6 the first four bytes, whatever follows
        (["fd00:77::100"], "@nh,64,32 & 0xffffffff == 0xfd000077 ip6 saddr @vips_ip6"),
        (
            ["fd00:77::100", "fd00:77:ffff:ffff::1"],
            "@nh,64,32 & 0xffffffff == 0xfd000077 ip6 saddr @vips_ip6",
        ),
        (["fd00:77::100", "fd00:78::100"], "@nh,64,32 & 0xfffffff0 == 0xfd000070 ip6 saddr @vips_ip6"),
        (["2001:db8::1", "2001:db9::1"], "@nh,64,32 & 0xfffffffe == 0x20010db8 ip6 saddr @vips_ip6"),
        (["fd00:77::100", "2001:db8::1"], "ip6 saddr @vips_ip6"),
    ],
)
def test_what_is_compared_before_a_source_is_looked_up_among_the_vips(addresses: list[str], condition: str) -> None:
    parsed = [ipaddress.ip_address(text) for text in addresses]
    family = IPV4 if parsed[0].version == 4 else IPV6
    assert family.source_is_vip(parsed) == condition
    assert family.source_is_vip(reversed(parsed)) == condition
    assert f"@nh,{HEADERS[family.version][1]},32" in condition or condition.startswith(family.saddr)


@given(st.lists(st.ip_addresses(v=4), min_size=1, max_size=4) | st.lists(st.ip_addresses(v=6), min_size=1, max_size=4))
def test_no_vip_is_missed_by_what_is_compared_and_no_bit_more_could_be(addresses: list[ipaddress.IPv4Address]) -> None:
    """Up to the bits that are left for VIPs to come."""
    version = addresses[0].version
    family, most = (IPV4, 24) if version == 4 else (IPV6, 32)
    found = re.match(r"@nh,\d+,32 & 0x(\w{8}) == 0x(\w{8}) ", family.source_is_vip(addresses))
    mask, value = (int(text, 16) for text in found.groups()) if found else (0, 0)
    first = [int.from_bytes(address.packed[:4], "big") for address in addresses]
    assert {bits & mask for bits in first} == {value}
    length = f"{mask:032b}".rstrip("0").count("1")
    assert mask == (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF, "as a network's"
    assert length == most or len({bits >> (31 - length) for bits in first}) > 1
