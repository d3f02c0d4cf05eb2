# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch on a segment made of data, in a time of its own; only the sockets that wake it are real."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Callable, Optional, cast

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.agent.neighbour_watch import NeighbourWatch
from ansible_collections.dsr.layer2.plugins.module_utils.agent.whereabouts import Move, Sought
from ansible_collections.dsr.layer2.plugins.module_utils.common import bpf, packet
from ansible_collections.dsr.layer2.plugins.module_utils.common.command import Completed
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import HostError
from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import Iproute, Link
from ansible_collections.dsr.layer2.plugins.module_utils.common.nics import Nic
from ansible_collections.dsr.layer2.plugins.module_utils.common.packet import (
    Arp,
    Ethernet,
    IPv6,
    NeighbourMessage,
    mac_to_bytes,
)
from ansible_collections.dsr.layer2.plugins.module_utils.common.packet_socket import PacketSocket
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.agent import test_checking
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.agent.test_agent import _Loop

OWN = "02:d5:00:00:00:02"
OLD, NEW = "02:d5:00:00:00:15", "02:d5:00:00:00:99"
B1, SIX = ip_address("10.77.0.21"), ip_address("fd00:77::21")
NIC, ANEW = Nic(2, OWN), Nic(7, "02:d5:00:00:00:03")


class Channel:
    """A packet socket of which frames come that tests put there; those that are sent go to the segment."""

    def __init__(self, segment: Segment, link: Link, protocol: int) -> None:
        self._segment = segment
        self.link = link
        self.protocol = protocol
        self.waiting: list[bytes] = []
        self.down = False
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)

    def fileno(self) -> int:
        return self._near.fileno()

    def put(self, frame: bytes) -> None:
        self.waiting.append(frame)
        self._far.send(b".")

    def frames(self) -> Iterator[tuple[bytes, float]]:
        if self.down:
            self._near.recv(100)
            raise HostError("interface 'eth0' went down")
        while self.waiting:
            self._near.recv(1)
            yield self.waiting.pop(0), 0.0

    def send(self, frame: bytes, deadline: float) -> None:
        assert deadline == 0.0, "it never waits"
        if self.down:
            raise HostError("interface 'eth0' went down")
        self._segment.sent(self, frame)

    def close(self) -> None:
        self._near.close()
        self._far.close()
        self._segment.channels.remove(self)


class Segment:
    """What is behind the NICs of a host, and what `ip` says of these."""

    def __init__(self) -> None:
        self.nics: dict[str, Nic] = {"eth0": NIC}
        self.addresses = ["10.77.0.2/24", "fe80::2/64"]
        self.holders: dict[Any, set[str]] = {}
        self.channels: list[Channel] = []
        self.asked: list[tuple[float, Any]] = []
        self.moves: list[Move] = []
        self.said: list[str] = []
        self.refused = ""

    def ip(self, argv: Sequence[str], _input: Optional[str] = None) -> Completed:
        rows: list[dict[str, Any]] = [
            {
                "ifname": name,
                "ifindex": nic.number,
                "flags": ["UP", "LOWER_UP"],
                "link_type": "ether",
                "address": nic.mac,
                "addr_info": [
                    {"local": address, "prefixlen": int(length), "scope": "global"}
                    for address, _slash, length in (text.partition("/") for text in self.addresses)
                ],
            }
            for name, nic in self.nics.items()
        ]
        return Completed(tuple(argv), 0, json.dumps(rows), "")

    def open(self, link: Link, protocol: int, program: bpf.Program) -> PacketSocket:
        if self.refused:
            raise HostError(self.refused)
        wanted = bpf.arp_messages() if protocol == packet.ETHERTYPE_ARP else bpf.neighbour_messages()
        assert program == wanted
        channel = Channel(self, link, protocol)
        self.channels.append(channel)
        return cast(PacketSocket, channel)

    def sent(self, channel: Channel, frame: bytes) -> None:
        outer = Ethernet.parse(frame)
        assert outer is not None and outer.source == mac_to_bytes(channel.link.mac)
        if channel.protocol == packet.ETHERTYPE_ARP:
            question = Arp.parse(outer.payload)
            assert question is not None and question.operation == packet.ARP_REQUEST
            target: Any = question.target_ip
        else:
            inner = IPv6.parse(outer.payload)
            message = NeighbourMessage.parse(inner) if inner else None
            assert message is not None and message.kind == packet.NEIGHBOUR_SOLICITATION
            target = message.target
        self.asked.append((test_checking.now(), target))
        for mac in sorted(self.holders.get(target, ())):
            channel.put(answer(target, mac, channel.link.mac))

    def announce(self, address: Any, mac: str) -> None:
        """To everybody who listens."""
        kind = packet.ETHERTYPE_ARP if address.version == 4 else packet.ETHERTYPE_IPV6
        for channel in self.channels:
            if channel.protocol == kind:
                channel.put(announcement(address, mac))

    def tell(self, story: Callable[[NeighbourWatch], Awaitable[None]]) -> None:
        async def whole() -> None:
            watch = NeighbourWatch(self.moves.append, self.said.append, Iproute(self.ip), self.open)
            try:
                await story(watch)
            finally:
                watch.close()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(test_checking, "_Loop", _Loop)
            test_checking.run(whole())
        assert self.channels == [], "nothing stays open"

    async def go(self, watch: NeighbourWatch, seconds: float, nics: Optional[Mapping[str, Nic]] = None) -> None:
        """As the agent's look does."""
        until = test_checking.now() + seconds
        while test_checking.now() < until:
            await watch.keep_up(self.nics if nics is None else nics)
            await asyncio.sleep(0.25)


def answer(address: Any, mac: str, to: str) -> bytes:
    own, other = mac_to_bytes(to), mac_to_bytes(mac)
    if isinstance(address, IPv4Address):
        content = Arp(packet.ARP_REPLY, other, address, own, IPv4Address("10.77.0.2")).pack()
        return Ethernet(own, other, packet.ETHERTYPE_ARP, content).pack()
    flags = packet.NA_SOLICITED | packet.NA_OVERRIDE
    return _advertisement(address, mac, flags, IPv6Address("fe80::2"), own)


def announcement(address: Any, mac: str) -> bytes:
    other = mac_to_bytes(mac)
    if isinstance(address, IPv4Address):
        content = Arp(packet.ARP_REQUEST, other, address, packet.ZERO_MAC, address).pack()
        return Ethernet(packet.BROADCAST_MAC, other, packet.ETHERTYPE_ARP, content).pack()
    return _advertisement(address, mac, packet.NA_OVERRIDE, packet.ALL_NODES, packet.group_mac(packet.ALL_NODES))


def _advertisement(address: IPv6Address, mac: str, flags: int, to: IPv6Address, to_mac: bytes) -> bytes:
    content = NeighbourMessage(packet.NEIGHBOUR_ADVERTISEMENT, address, mac_to_bytes(mac), flags).pack(address, to)
    payload = IPv6(address, to, packet.PROTOCOL_ICMPV6, content, hop_limit=255).pack()
    return Ethernet(to_mac, mac_to_bytes(mac), packet.ETHERTYPE_IPV6, payload).pack()


def sought(address: Any = B1, interface: str = "eth0", interval: float = 2.0) -> Sought:
    return Sought(interface, address, str(address), interval, OLD)


@pytest.mark.parametrize("address", [B1, SIX])
@pytest.mark.parametrize("announced", [True, False])
def test_a_backend_is_followed(address: Any, announced: bool) -> None:
    segment = Segment()
    segment.holders[address] = {OLD}

    async def story(watch: NeighbourWatch) -> None:
        watch.set_sought([sought(address)])
        await segment.go(watch, 10)
        assert segment.moves == [] and 4 <= len(segment.asked) <= 7
        assert [channel.protocol for channel in segment.channels] == [0x0806 if address == B1 else 0x86DD]
        segment.holders[address] = {NEW}
        if announced:
            segment.announce(address, NEW)
        await segment.go(watch, 0.75 if announced else 3)
        assert [(move.after, move.announced) for move in segment.moves] == [(NEW, announced)]

    segment.tell(story)


def test_two_that_answer_are_spoken_of() -> None:
    segment = Segment()
    segment.holders[B1] = {OLD, NEW}

    async def story(watch: NeighbourWatch) -> None:
        watch.set_sought([sought()])
        await segment.go(watch, 60)
        assert segment.moves == [] and len(segment.said) == 1 and "two stations answer" in segment.said[0]

    segment.tell(story)


def test_this_host_itself_is_no_backend() -> None:
    segment = Segment()
    segment.holders[B1] = {OWN}

    async def story(watch: NeighbourWatch) -> None:
        watch.set_sought([sought()])
        await segment.go(watch, 10)
        assert segment.asked and segment.moves == []

    segment.tell(story)


def test_a_suspicion_is_looked_into() -> None:
    segment = Segment()
    segment.holders[B1] = {NEW}

    async def story(watch: NeighbourWatch) -> None:
        watch.set_sought([sought(interval=1000.0)])
        segment.holders[B1] = {OLD}
        await segment.go(watch, 5)
        segment.holders[B1] = {NEW}
        watch.suspect(B1)
        await segment.go(watch, 0.75)
        assert len(segment.moves) == 1

    segment.tell(story)


def test_a_nic_that_is_made_anew_is_listened_to() -> None:
    """With another MAC, which questions then come from."""
    segment = Segment()
    segment.holders[B1] = {OLD}

    async def story(watch: NeighbourWatch) -> None:
        watch.set_sought([sought()])
        await segment.go(watch, 3)
        segment.nics = {}
        await segment.go(watch, 3)
        assert segment.channels == []
        segment.asked.clear()
        segment.nics = {"eth0": ANEW}
        await segment.go(watch, 0.25)
        assert [channel.link.mac for channel in segment.channels] == [ANEW.mac]
        await segment.go(watch, 3)
        segment.holders[B1] = {NEW}
        segment.announce(B1, NEW)
        await segment.go(watch, 0.75)
        assert segment.asked and len(segment.moves) == 1
        segment.nics = {"eth0": NIC}
        await segment.go(watch, 0.25)
        assert [channel.link.mac for channel in segment.channels] == [NIC.mac], "at one look it goes and comes"

    segment.tell(story)


def test_a_nic_that_is_down_is_heard_again_when_it_is_up() -> None:
    segment = Segment()
    segment.holders[B1] = {OLD}

    async def story(watch: NeighbourWatch) -> None:
        watch.set_sought([sought()])
        await segment.go(watch, 3)
        [channel] = segment.channels
        channel.down = True
        channel.put(b"")
        await segment.go(watch, 3)
        channel.down = False
        channel.waiting.clear()
        segment.holders[B1] = {NEW}
        await segment.go(watch, 3)
        assert len(segment.moves) == 1 and segment.said == []

    segment.tell(story)


def test_an_address_to_ask_from_that_comes_later_is_found() -> None:
    """Nobody answers a solicitation without a sender."""
    segment = Segment()
    segment.addresses = ["10.77.0.2/24"]
    segment.holders[SIX] = {NEW}

    async def story(watch: NeighbourWatch) -> None:
        watch.set_sought([sought(SIX)])
        await segment.go(watch, 5)
        assert segment.asked == []
        segment.addresses.append("fe80::2/64")
        await segment.go(watch, 4)
        assert len(segment.moves) == 1

    segment.tell(story)


def test_a_host_that_lets_nobody_listen_says_so_once_and_is_asked_again() -> None:
    segment = Segment()
    segment.refused = "no permission"
    segment.holders[B1] = {NEW}

    async def story(watch: NeighbourWatch) -> None:
        watch.set_sought([sought()])
        await segment.go(watch, 10)
        assert segment.said == ["backends cannot be looked for, trying again: no permission"]
        segment.refused = ""
        await segment.go(watch, 5)
        assert len(segment.moves) == 1

    segment.tell(story)


def test_what_is_not_wanted_any_more_is_closed() -> None:
    segment = Segment()

    async def story(watch: NeighbourWatch) -> None:
        watch.set_sought([sought(), sought(SIX)])
        await segment.go(watch, 1)
        assert len(segment.channels) == 2
        watch.set_sought([sought(SIX)])
        await segment.go(watch, 1)
        assert [channel.protocol for channel in segment.channels] == [0x86DD]
        watch.set_sought([])
        await segment.go(watch, 1)
        assert segment.channels == []
        number = len(segment.asked)
        await segment.go(watch, 60)
        assert len(segment.asked) == number

    segment.tell(story)


def test_the_host_is_looked_at_now_and_then_and_not_all_the_time() -> None:
    segment = Segment()
    looks: list[Sequence[str]] = []
    ip = segment.ip

    def counted(argv: Sequence[str], stdin: Optional[str] = None) -> Completed:
        looks.append(argv)
        return ip(argv, stdin)

    segment.ip = counted  # type: ignore[method-assign]

    async def story(watch: NeighbourWatch) -> None:
        watch.set_sought([sought()])
        await segment.go(watch, 300)
        assert len(looks) <= 2 * 11

    segment.tell(story)


def test_on_this_machine_nothing_stays_open() -> None:
    """With the sockets that there are; lo is none of those that can be listened on."""
    before = len(os.listdir("/proc/self/fd"))

    async def story() -> None:
        watch = NeighbourWatch(lambda _move: None, lambda _text: None)
        watch.set_sought([sought(interface="none0")])
        await watch.keep_up({})
        watch.close()

    asyncio.run(story())
    assert len(os.listdir("/proc/self/fd")) == before
