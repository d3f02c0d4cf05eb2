# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Neighbour discovery against a segment made of data: who is asked, in whose name, who is believed.

When it ends and how often it asks is the same as for ARP and tested there. (Real NICs: tests/dataplane.)
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Optional

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common import ndp, packet
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError, HostError
from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import Iproute
from ansible_collections.dsr.layer2.plugins.module_utils.common.packet import NeighbourMessage
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.common.segment import (
    B1,
    B2,
    OTHER_NIC,
    OWN,
    NdpSegment,
    iproute,
)

B1_ADDRESS, B2_ADDRESS, ABSENT = "fd00:77::21", "fd00:77::22", "fd00:77::99"
LINK_LOCAL = IPv6Address("fe80::2")


@pytest.fixture
def segment(monkeypatch: pytest.MonkeyPatch) -> NdpSegment:
    made = NdpSegment()
    monkeypatch.setattr(ndp, "PacketSocket", lambda *_: made)
    monkeypatch.setattr("time.monotonic", made.monotonic)
    return made


def resolve(*addresses: str, network: Optional[Iproute] = None, **how: Any) -> dict[str, frozenset[str]]:
    return ndp.resolve("eth0", addresses, iproute=network or iproute(), **how)


def test_everyone_who_is_there_is_found_and_who_is_silent_is_asked_again(segment: NdpSegment) -> None:
    segment.hold(B1_ADDRESS, B1)
    segment.hold(B2_ADDRESS, B2)
    segment.deaf[B2_ADDRESS] = 1
    assert resolve(B1_ADDRESS, B2_ADDRESS, ABSENT, attempts=3) == {
        B1_ADDRESS: frozenset({B1}),
        B2_ADDRESS: frozenset({B2}),
    }
    assert [segment.asked(address) for address in (B1_ADDRESS, B2_ADDRESS, ABSENT)] == [1, 2, 3]
    assert segment.closed


def test_nothing_asked_nothing_sent(segment: NdpSegment) -> None:
    assert resolve() == {}
    assert segment.sent == []


def test_a_second_holder_is_found_by_whoever_waits(segment: NdpSegment) -> None:
    segment.hold(B1_ADDRESS, B1, 0.001)
    segment.hold(B1_ADDRESS, B2, 0.050)
    assert resolve(B1_ADDRESS) == {B1_ADDRESS: frozenset({B1})}
    assert resolve(B1_ADDRESS, settle=0.1) == {B1_ADDRESS: frozenset({B1, B2})}


def test_an_address_may_be_written_in_any_way_and_is_asked_once(segment: NdpSegment) -> None:
    segment.hold(B1_ADDRESS, B1)
    assert resolve("FD00:77:0:0::0021", B1_ADDRESS) == {B1_ADDRESS: frozenset({B1})}
    assert segment.asked(B1_ADDRESS) == 1


def test_a_question_goes_to_those_who_may_have_the_address(segment: NdpSegment) -> None:
    """Byte by byte: to the group of the address's last three bytes, with the asker's MAC in it."""
    frames = []
    segment.send = lambda frame, _deadline: frames.append(frame)  # type: ignore[method-assign]
    resolve("fd00:77::12:3456", attempts=1)
    (frame,) = frames
    assert frame[:22].hex(" ", 2) == "3333 ff12 3456 02d5 0000 0002 86dd 6000 0000 0020 3aff"
    assert IPv6Address(frame[22:38]) == LINK_LOCAL
    assert IPv6Address(frame[38:54]) == IPv6Address("ff02::1:ff12:3456")
    assert frame[54:56] == b"\x87\0" and frame[58:62] == bytes(4)
    assert IPv6Address(frame[62:78]) == IPv6Address("fd00:77::12:3456")
    assert frame[78:].hex(" ", 2) == "0101 02d5 0000 0002"


def message(**changes: Any) -> NeighbourMessage:
    usual = {"kind": packet.NEIGHBOUR_ADVERTISEMENT, "target": IPv6Address(B1_ADDRESS), "mac": packet.mac_to_bytes(B2)}
    return NeighbourMessage(**{**usual, **changes})


@pytest.mark.parametrize(
    "why, changes, how",
    [
        ("of all zeros", {"mac": bytes(6)}, {}),
        ("a group address", {"mac": b"\x33\x33\0\0\0\1"}, {}),
        ("none at all", {"mac": None}, {}),
        ("about an address not asked for", {"target": IPv6Address("fd00:77::77")}, {}),
        ("in a question", {"kind": packet.NEIGHBOUR_SOLICITATION}, {}),
        ("of this host's NIC", {"mac": packet.mac_to_bytes(OWN)}, {}),
        ("of another NIC of this host", {"mac": packet.mac_to_bytes(OTHER_NIC)}, {}),
        ("from behind a router", {}, {"hop_limit": 254}),
    ],
)
def test_an_answer_is_not_believed(segment: NdpSegment, why: str, changes: dict[str, Any], how: dict[str, Any]) -> None:
    segment.put(0.001, segment.frame_of(message(**changes), LINK_LOCAL, **how))
    assert resolve(B1_ADDRESS, attempts=1) == {}, why
    segment.hold(B1_ADDRESS, B1)
    assert resolve(B1_ADDRESS) == {B1_ADDRESS: frozenset({B1})}


def test_the_same_answer_is_believed_when_nothing_is_wrong_with_it(segment: NdpSegment) -> None:
    segment.put(0.001, segment.frame_of(message(), LINK_LOCAL))
    assert resolve(B1_ADDRESS, attempts=1) == {B1_ADDRESS: frozenset({B2})}


def test_garbage_among_the_answers_does_no_harm(segment: NdpSegment, monkeypatch: pytest.MonkeyPatch) -> None:
    segment.hold(B1_ADDRESS, B1)
    frames = segment.frames
    good = segment.frame_of(message(mac=packet.mac_to_bytes(B2)), LINK_LOCAL)

    def with_garbage() -> Iterator[tuple[bytes, float]]:
        for bad in (b"", bytes(13), b"\xff" * 90, bytes(12) + b"\x86\xdd" + bytes(10), good[:-1] + b"\xff", good[:70]):
            yield bad, 0.0
        yield from frames()

    monkeypatch.setattr(segment, "frames", with_garbage)
    assert resolve(B1_ADDRESS) == {B1_ADDRESS: frozenset({B1})}


@pytest.mark.parametrize(
    "why, addresses, tentative, sender",
    [
        ("link-local first", ["fd00:77::2/64", "fe80::2/64"], [], "fe80::2"),
        ("one of the same network", ["fd00:1::2/64", "fd00:77::2/64"], [], "fd00:77::2"),
        ("else any", ["fd00:1::2/64"], [], "fd00:1::2"),
        ("not a VIP", ["fd00:77::100/128", "fd00:77::2/64"], [], "fd00:77::2"),
        ("not one that another may have", ["fe80::2/64", "fd00:77::2/64"], ["fe80::2/64"], "fd00:77::2"),
        ("not the one asked for", ["fd00:77::21/64", "fd00:77::2/64"], [], "fd00:77::2"),
    ],
)
def test_in_whose_name_it_asks(
    segment: NdpSegment, why: str, addresses: list[str], tentative: list[str], sender: str
) -> None:
    resolve(B1_ADDRESS, network=iproute(addresses=addresses, tentative=tentative), attempts=1)
    ((_when, question),) = segment.sent
    assert str(question.source) == sender, why


@pytest.mark.parametrize(
    "addresses, tentative, why",
    [
        (["10.77.0.2/24"], [], "not even a link-local one (is IPv6 disabled there?"),
        (["fd00:77::100/128"], [], "not even a link-local one"),
        (["fe80::2/64"], ["fe80::2/64"], "it is still looking for duplicates of those that it has"),
        ([f"{B1_ADDRESS}/64"], [], "not even a link-local one"),
    ],
)
def test_a_nic_without_an_address_to_ask_from_says_so(
    segment: NdpSegment, addresses: list[str], tentative: list[str], why: str
) -> None:
    with pytest.raises(HostError) as caught:
        resolve(B1_ADDRESS, network=iproute(addresses=addresses, tentative=tentative))
    said = f"interface 'eth0' has no IPv6 address of its own to ask its neighbours from: {why}"
    assert str(caught.value).startswith(said)
    assert segment.sent == []


@pytest.mark.parametrize("forwards, flags", [("0", packet.NA_OVERRIDE), ("1", packet.NA_OVERRIDE | packet.NA_ROUTER)])
def test_an_announcement_goes_to_all(
    segment: NdpSegment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, forwards: str, flags: int
) -> None:
    setting = tmp_path / "forwarding"
    setting.write_text(f"{forwards}\n")
    real = open
    monkeypatch.setattr("builtins.open", lambda path, **how: real(setting if "forwarding" in path else path, **how))
    ndp.announce("eth0", ["fd00:77::100", "fd00:77::101"], iproute())
    own = packet.mac_to_bytes(OWN)
    for (_when, sent), address in zip(segment.sent, ("fd00:77::100", "fd00:77::101"), strict=True):
        assert (str(sent.source), sent.destination) == (address, packet.ALL_NODES)
        advertisement = NeighbourMessage(packet.NEIGHBOUR_ADVERTISEMENT, IPv6Address(address), own, flags)
        assert NeighbourMessage.parse(sent) == advertisement


@pytest.mark.parametrize(
    "interface, network, message",
    [
        ("eth7", iproute(), "interface 'eth7' does not exist on this host; it has eth0, eth1, lo"),
        ("lo", iproute(), "interface 'lo' is not an Ethernet interface"),
        ("eth0", iproute(flags=["BROADCAST"]), "interface 'eth0' is down; bring it up first (ip link set eth0 up)"),
        ("eth0", iproute(flags=["NOARP", "UP", "LOWER_UP"]), "interface 'eth0' does no neighbour discovery"),
    ],
)
@pytest.mark.parametrize("act", [ndp.resolve, ndp.announce])
def test_a_nic_that_will_not_do_is_named(
    segment: NdpSegment, act: Any, interface: str, network: Iproute, message: str
) -> None:
    with pytest.raises(HostError) as caught:
        act(interface, [B1_ADDRESS], iproute=network)
    assert message in str(caught.value)
    assert segment.sent == []


@pytest.mark.parametrize("act", [ndp.resolve, ndp.announce])
@pytest.mark.parametrize("text", ["10.77.0.21", "b1", "fd00:77::21/64", "fd00::77::21", ""])
def test_what_is_no_ipv6_address_is_named(segment: NdpSegment, act: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        act("eth0", [B1_ADDRESS, text], iproute=iproute())
    assert caught.value.path == "addresses[1]"
    assert segment.sent == []


def test_what_a_linux_host_answers_is_understood(segment: NdpSegment) -> None:
    """The other answers are built by the code under test; this is a frame as it came."""
    frame = "02d500000002 02d500000015 86dd 60000000 0020 3a ff fd000077000000000000000000000021"
    frame += "fe8000000000000000d500fffe000002 88 00 1930 60000000 fd000077000000000000000000000021 0201 02d500000015"
    segment.put(0.001, bytes.fromhex(frame))
    assert resolve(B1_ADDRESS, attempts=1) == {B1_ADDRESS: frozenset({B1})}
