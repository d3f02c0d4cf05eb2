# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What frames tell of who has which address."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.common import packet
from ansible_collections.dsr.layer2.plugins.module_utils.common.packet import Arp, Ethernet, IPv6, NeighbourMessage
from ansible_collections.dsr.layer2.plugins.module_utils.common.sightings import Sighting, sighting

B1, ME = IPv4Address("10.77.0.21"), IPv4Address("10.77.0.2")
B1_6, ME_6 = IPv6Address("fd00:77::21"), IPv6Address("fe80::2")
MAC, OWN, ELSE = (bytes.fromhex(f"02d5000000{number:02x}") for number in (0x15, 0x02, 0x77))
SOLICITED = packet.NA_SOLICITED | packet.NA_OVERRIDE


def arp(operation: int, to: bytes = OWN, mac: bytes = MAC, source: IPv4Address = B1) -> bytes:
    return Ethernet(to, ELSE, packet.ETHERTYPE_ARP, Arp(operation, mac, source, OWN, ME).pack()).pack()


def neighbour(
    kind: int, to: bytes = OWN, mac: Optional[bytes] = MAC, flags: int = 0, hops: int = 255, source: IPv6Address = B1_6
) -> bytes:
    target = B1_6 if kind == packet.NEIGHBOUR_ADVERTISEMENT else ME_6
    content = NeighbourMessage(kind, target, mac, flags).pack(source, ME_6)
    payload = IPv6(source, ME_6, packet.PROTOCOL_ICMPV6, content, hop_limit=hops).pack()
    return Ethernet(to, ELSE, packet.ETHERTYPE_IPV6, payload).pack()


NA, NS = packet.NEIGHBOUR_ADVERTISEMENT, packet.NEIGHBOUR_SOLICITATION
HERE = "02:d5:00:00:00:15"


@pytest.mark.parametrize(
    "what, frame, expected",
    [
        ("an answer", arp(packet.ARP_REPLY), Sighting(B1, HERE, True)),
        ("an answer to somebody else", arp(packet.ARP_REPLY, ELSE), Sighting(B1, HERE, False)),
        ("an announcement", arp(packet.ARP_REPLY, packet.BROADCAST_MAC), Sighting(B1, HERE, False)),
        ("a question", arp(packet.ARP_REQUEST, packet.BROADCAST_MAC), Sighting(B1, HERE, False)),
        ("a question to us", arp(packet.ARP_REQUEST), Sighting(B1, HERE, False)),
        ("a MAC that no host has", arp(packet.ARP_REPLY, mac=packet.BROADCAST_MAC), None),
        ("no MAC", arp(packet.ARP_REPLY, mac=packet.ZERO_MAC), None),
        ("half a frame", arp(packet.ARP_REPLY)[:30], None),
        ("an answer of IPv6", neighbour(NA, flags=SOLICITED), Sighting(B1_6, HERE, True)),
        ("not asked for", neighbour(NA, flags=packet.NA_OVERRIDE), Sighting(B1_6, HERE, False)),
        ("to everybody", neighbour(NA, bytes.fromhex("333300000001"), flags=SOLICITED), Sighting(B1_6, HERE, False)),
        ("without a MAC", neighbour(NA, mac=None, flags=SOLICITED), None),
        ("from beyond a router", neighbour(NA, flags=SOLICITED, hops=254), None),
        ("a solicitation", neighbour(NS), Sighting(B1_6, HERE, False)),
        ("one without a MAC", neighbour(NS, mac=None), None),
        ("a group", neighbour(NS, mac=bytes.fromhex("333300000001")), None),
        ("something else", Ethernet(OWN, MAC, packet.ETHERTYPE_IPV4, bytes(40)).pack(), None),
        ("nothing", b"", None),
    ],
)
def test_what_a_frame_tells(what: str, frame: bytes, expected: Optional[Sighting]) -> None:
    assert sighting(frame, OWN) == expected, what


@given(st.binary(max_size=120), st.sampled_from([packet.ETHERTYPE_ARP, packet.ETHERTYPE_IPV6]))
def test_no_frame_is_too_odd(data: bytes, kind: int) -> None:
    sighting(data, OWN)
    sighting(Ethernet(OWN, MAC, kind, data).pack(), OWN)
