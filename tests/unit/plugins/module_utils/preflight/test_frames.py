# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frames that are sent: harmless, and told from others."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.common.packet import Ethernet, IPv4, IPv6, Udp
from ansible_collections.dsr.layer2.plugins.module_utils.preflight import frames

OWN, OTHER = b"\x02\x00\x00\x00\x00\x02", b"\x02\x00\x00\x00\x00\x21"
MARKER = "0123456789abcdef"


@pytest.mark.parametrize(("source", "destination"), [("192.0.2.2", "192.0.2.100"), ("2001:db8::2", "2001:db8::100")])
def test_a_frame_goes_no_further_than_the_segment(source: str, destination: str) -> None:
    told = frames.content(MARKER, "lb1")
    for near, hops in ((True, 1), (False, 64)):
        frame = frames.build(OWN, OTHER, ip_address(source), ip_address(destination), told, near)
        outer = Ethernet.parse(frame)
        assert outer is not None and (outer.destination, outer.source) == (OTHER, OWN)
        packet = IPv4.parse(outer.payload) if "." in source else IPv6.parse(outer.payload)
        assert packet is not None
        assert (packet.ttl if isinstance(packet, IPv4) else packet.hop_limit) == hops
        datagram = Udp.parse(packet.payload)
        assert datagram is not None and (datagram.source_port, datagram.destination_port) == (9, 9)
        assert frames.read(frame, MARKER) == frames.Seen("lb1", source, destination)
        assert frames.read(frame, "fedcba9876543210") is None
        assert frames.read(frame[:-12], MARKER) is None


def test_what_came_in_is_grouped() -> None:
    seen = [frames.Seen("lb1", "192.0.2.2", f"192.0.2.{number}") for number in (100, 21)]
    assert frames.grouped(("eth0", one) for one in seen) == [
        {"interface": "eth0", "sender": "lb1", "packets": ["192.0.2.2 > 192.0.2.100", "192.0.2.2 > 192.0.2.21"]}
    ]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({"sources": ["192.0.2.2"], "destinations": ["2001:db8::1"]}, "frames[0]: has addresses of both families"),
        (
            {"sources": ["192.0.2.2"], "destinations": ["224.0.0.1"]},
            "frames[0].destinations[0]: 224.0.0.1 is no address",
        ),
        ({"sources": ["x"], "destinations": []}, "frames[0].sources[0]: 'x' is not an IP address"),
        ({"sources": [], "destinations": [], "mac": "ff:ff:ff:ff:ff:ff"}, "frames[0].mac: 'ff:ff:ff:ff:ff:ff' is not"),
    ],
)
def test_what_is_to_be_sent_is_checked(order: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        frames.parse_orders([order])
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("marker", ["", "0123", "0123456G", "0" * 33])
def test_the_marker_is_checked(marker: str) -> None:
    with pytest.raises(ConfigError):
        frames.parse_marker(marker)
    with pytest.raises(ConfigError):
        frames.parse_sender("two words")
