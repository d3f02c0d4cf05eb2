# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things stand in a packet, worked out from the headers' layouts (RFC 791, 792, 8200, 4443)."""

from __future__ import annotations

import re

import pytest

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
