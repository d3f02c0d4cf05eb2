# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ARP against a segment made of data: who is asked, who is believed, when it ends. (Real NICs: tests/dataplane.)"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any, Optional

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common import arp, packet, packet_socket
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError, HostError
from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import Iproute
from ansible_collections.dsr.layer2.plugins.module_utils.common.packet import Arp
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.common.segment import (
    B1,
    B2,
    OTHER_NIC,
    OWN,
    ArpSegment,
    iproute,
)


@pytest.fixture
def segment(monkeypatch: pytest.MonkeyPatch) -> ArpSegment:
    made = ArpSegment()
    monkeypatch.setattr(arp, "PacketSocket", lambda *_: made)
    monkeypatch.setattr(arp.time, "monotonic", made.monotonic)
    return made


def resolve(*addresses: str, network: Optional[Iproute] = None, **how: Any) -> dict[str, frozenset[str]]:
    return arp.resolve("eth0", addresses, iproute=network or iproute(), **how)


def test_everyone_who_is_there_is_found(segment: ArpSegment) -> None:
    segment.hold("10.77.0.21", B1)
    segment.hold("10.77.0.22", B2)
    started = segment.now
    assert resolve("10.77.0.21", "10.77.0.22") == {"10.77.0.21": frozenset({B1}), "10.77.0.22": frozenset({B2})}
    assert segment.now - started < 0.1, "it returns when it has all answers"
    assert segment.closed


def test_nothing_asked_nothing_sent(segment: ArpSegment) -> None:
    assert resolve() == {}
    assert segment.sent == []


def test_who_does_not_answer_is_absent_and_was_asked_as_often_as_told(segment: ArpSegment) -> None:
    segment.hold("10.77.0.21", B1)
    started = segment.now
    assert resolve("10.77.0.21", "10.77.0.99", timeout=0.5, attempts=4) == {"10.77.0.21": frozenset({B1})}
    assert segment.asked("10.77.0.21") == 1, "who has answered is left in peace"
    assert segment.asked("10.77.0.99") == 4
    assert segment.now - started == pytest.approx(4 * 0.5, abs=0.1)


def test_a_lost_request_is_made_up_for(segment: ArpSegment) -> None:
    segment.hold("10.77.0.21", B1)
    segment.deaf["10.77.0.21"] = 2
    assert resolve("10.77.0.21", attempts=2) == {}
    segment.deaf["10.77.0.21"] = 2
    assert resolve("10.77.0.21", attempts=3) == {"10.77.0.21": frozenset({B1})}


def test_a_second_holder_is_found_by_whoever_waits(segment: ArpSegment) -> None:
    segment.hold("10.77.0.21", B1, 0.001)
    segment.hold("10.77.0.21", B2, 0.050)
    assert resolve("10.77.0.21", settle=0.1) == {"10.77.0.21": frozenset({B1, B2})}


def test_without_settling_it_does_not_wait_for_a_second_holder(segment: ArpSegment) -> None:
    segment.hold("10.77.0.21", B1, 0.001)
    segment.hold("10.77.0.21", B2, 0.050)
    assert resolve("10.77.0.21") == {"10.77.0.21": frozenset({B1})}


def test_many_are_asked_in_bursts_with_gaps(segment: ArpSegment) -> None:
    addresses = [f"10.77.{number // 250}.{number % 250 + 1}" for number in range(300)]
    for address in addresses:
        segment.hold(address, B1, 0.02)
    answers = resolve(*addresses)
    assert list(answers) == addresses
    moments = [when for when, _request in segment.sent]
    assert len(moments) == 300
    largest = max(moments.count(moment) for moment in set(moments))
    assert largest <= 64


def test_an_address_that_is_named_twice_is_asked_once(segment: ArpSegment) -> None:
    segment.hold("10.77.0.21", B1)
    assert resolve("10.77.0.21", "10.77.0.21") == {"10.77.0.21": frozenset({B1})}
    assert segment.asked("10.77.0.21") == 1


@pytest.mark.parametrize(
    "why, sender_mac, sender_ip, operation",
    [
        ("of all zeros", "00:00:00:00:00:00", "10.77.0.21", 2),
        ("a group address", "01:00:5e:00:00:01", "10.77.0.21", 2),
        ("the broadcast address", "ff:ff:ff:ff:ff:ff", "10.77.0.21", 2),
        ("about an address not asked for", B2, "10.77.0.77", 2),
        ("in a request", B2, "10.77.0.21", 1),
        ("of this host's NIC", OWN, "10.77.0.21", 2),
        ("of another NIC of this host", OTHER_NIC, "10.77.0.21", 2),
    ],
)
def test_an_answer_is_not_believed(
    segment: ArpSegment, why: str, sender_mac: str, sender_ip: str, operation: int
) -> None:
    own, asker = packet.mac_to_bytes(OWN), IPv4Address("10.77.0.2")
    reply = Arp(operation, packet.mac_to_bytes(sender_mac), IPv4Address(sender_ip), own, asker)
    segment.put(0.001, segment.frame_of(reply))
    assert resolve("10.77.0.21", attempts=1) == {}, why
    segment.hold("10.77.0.21", B1)
    assert resolve("10.77.0.21") == {"10.77.0.21": frozenset({B1})}


def test_an_answer_that_nobody_asked_for_stands_for_none_that_was(segment: ArpSegment) -> None:
    own, asker = packet.mac_to_bytes(OWN), IPv4Address("10.77.0.2")
    unasked = Arp(packet.ARP_REPLY, packet.mac_to_bytes(B2), IPv4Address("10.77.0.77"), own, asker)
    segment.put(0.001, segment.frame_of(unasked))
    segment.hold("10.77.0.21", B1, 0.01)
    assert resolve("10.77.0.21", attempts=1) == {"10.77.0.21": frozenset({B1})}


def test_garbage_among_the_answers_does_no_harm(segment: ArpSegment, monkeypatch: pytest.MonkeyPatch) -> None:
    segment.hold("10.77.0.21", B1)
    frames = segment.frames

    def with_garbage() -> Iterator[tuple[bytes, float]]:
        for bad in (b"", bytes(13), bytes(14), b"\xff" * 60, bytes(12) + b"\x08\x06" + bytes(10)):
            yield bad, 0.0
        yield from frames()

    monkeypatch.setattr(segment, "frames", with_garbage)
    assert resolve("10.77.0.21") == {"10.77.0.21": frozenset({B1})}


@pytest.mark.parametrize(
    "why, addresses, target, sender",
    [
        ("on the same network", ["10.77.0.2/24"], "10.77.0.21", "10.77.0.2"),
        ("the one on the same network", ["192.0.2.7/24", "10.77.0.2/24"], "10.77.0.21", "10.77.0.2"),
        ("on none: a probe", ["192.0.2.7/24"], "10.77.0.21", "0.0.0.0"),
        ("none at all: a probe", [], "10.77.0.21", "0.0.0.0"),
        ("a VIP of this host, by its other address", ["10.77.0.100/32", "10.77.0.2/24"], "10.77.0.100", "10.77.0.2"),
        ("its own address: a probe", ["10.77.0.2/24"], "10.77.0.2", "0.0.0.0"),
        ("a lone VIP is no sender", ["10.77.0.100/32"], "10.77.0.21", "0.0.0.0"),
    ],
)
def test_in_whose_name_it_asks(segment: ArpSegment, why: str, addresses: list[str], target: str, sender: str) -> None:
    resolve(target, network=iproute(addresses=addresses), attempts=1)
    (request,) = {request for _when, request in segment.sent}
    expected = Arp(
        packet.ARP_REQUEST,
        packet.mac_to_bytes(OWN),
        IPv4Address(sender),
        packet.ZERO_MAC,
        IPv4Address(target),
    )
    assert request == expected, why


def test_an_announcement_goes_out_in_both_forms(segment: ArpSegment) -> None:
    arp.announce("eth0", ["10.77.0.100", "10.77.0.101"], iproute())
    own = packet.mac_to_bytes(OWN)
    assert [request for _when, request in segment.sent] == [
        Arp(operation, own, IPv4Address(address), target, IPv4Address(address))
        for address in ("10.77.0.100", "10.77.0.101")
        for operation, target in ((packet.ARP_REQUEST, packet.ZERO_MAC), (packet.ARP_REPLY, packet.BROADCAST_MAC))
    ]


@pytest.mark.parametrize(
    "interface, network, message",
    [
        ("eth7", iproute(), "interface 'eth7' does not exist on this host; it has eth0, eth1, lo"),
        ("lo", iproute(), "interface 'lo' is not an Ethernet interface"),
        ("eth0", iproute(link_type="none"), "interface 'eth0' is not an Ethernet interface"),
        ("eth0", iproute(flags=["BROADCAST"]), "interface 'eth0' is down; bring it up first (ip link set eth0 up)"),
        ("eth0", iproute(flags=["NO-CARRIER", "UP"]), "interface 'eth0' has no carrier"),
        ("eth0", iproute(flags=["NOARP", "UP", "LOWER_UP"]), "interface 'eth0' does no ARP"),
    ],
)
@pytest.mark.parametrize("act", [arp.resolve, arp.announce])
def test_a_nic_that_will_not_do_is_named(
    segment: ArpSegment, act: Any, interface: str, network: Iproute, message: str
) -> None:
    with pytest.raises(HostError) as caught:
        act(interface, ["10.77.0.21"], iproute=network)
    assert message in str(caught.value)
    assert segment.sent == []


@pytest.mark.parametrize("act", [arp.resolve, arp.announce])
@pytest.mark.parametrize("text", ["2001:db8::1", "b1", "10.77.0.21/24", "10.77.0.256", ""])
def test_what_is_no_ipv4_address_is_named(segment: ArpSegment, act: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        act("eth0", ["10.77.0.21", text], iproute=iproute())
    assert caught.value.path == "addresses[1]"
    assert segment.sent == []


@pytest.mark.parametrize(
    "number, message",
    [
        (1, "no permission to send and see frames on 'eth0': this needs root or CAP_NET_RAW"),
        (100, "interface 'eth0' went down or away"),
        (19, "interface 'eth0' went down or away"),
        (22, "interface 'eth0': frames cannot be exchanged: Invalid argument"),
    ],
)
def test_what_the_kernel_refuses_is_explained(monkeypatch: pytest.MonkeyPatch, number: int, message: str) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "Invalid argument")

    monkeypatch.setattr(packet_socket.socket, "socket", refuse)
    with pytest.raises(HostError) as caught:
        resolve("10.77.0.21")
    assert message in str(caught.value)
