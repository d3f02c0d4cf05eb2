# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A segment made of data, with hosts that answer ARP or neighbour solicitations, in a time of its own."""

from __future__ import annotations

import heapq
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address
from typing import Generic, Optional, TypeVar

from ansible_collections.dsr.layer2.plugins.module_utils.common import packet
from ansible_collections.dsr.layer2.plugins.module_utils.common.command import Completed
from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import Iproute
from ansible_collections.dsr.layer2.plugins.module_utils.common.packet import Arp, Ethernet, IPv6, NeighbourMessage

OWN = "02:d5:00:00:00:02"
OTHER_NIC = "02:d5:00:00:00:03"
B1, B2 = "02:d5:00:00:00:15", "02:d5:00:00:00:16"
UP = ("BROADCAST", "MULTICAST", "UP", "LOWER_UP")

Message = TypeVar("Message", Arp, IPv6)


def iproute(
    flags: Sequence[str] = UP,
    link_type: str = "ether",
    addresses: Sequence[str] = ("10.77.0.2/24", "fd00:77::2/64", "fe80::2/64"),
    tentative: Sequence[str] = (),
) -> Iproute:
    """A host with two NICs, of which eth0 has these flags and addresses."""
    links = [
        {"ifname": "lo", "ifindex": 1, "flags": ["LOOPBACK", "UP", "LOWER_UP"], "link_type": "loopback"},
        {"ifname": "eth0", "ifindex": 2, "flags": list(flags), "link_type": link_type, "address": OWN},
        {"ifname": "eth1", "ifindex": 3, "flags": list(UP), "link_type": "ether", "address": OTHER_NIC},
    ]
    held = []
    for text in addresses:
        address, _slash, length = text.partition("/")
        entry = {"local": address, "prefixlen": int(length), "scope": "global"}
        held.append({**entry, "tentative": True} if text in tentative else entry)

    def ip(argv: Sequence[str], _input: Optional[str] = None) -> Completed:
        answer = links if argv[2] == "link" else [{"ifname": "eth0", "addr_info": held}]
        return Completed(tuple(argv), 0, json.dumps(answer), "")

    return Iproute(ip)


class Segment(ABC, Generic[Message]):
    """The hosts behind a NIC. It stands in for the clock and for the packet socket."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sent: list[tuple[float, Message]] = []
        self.holders: dict[str, list[tuple[str, float]]] = {}  # address -> (MAC, seconds until it answers)
        self.deaf: dict[str, int] = {}  # address -> how many questions get lost
        self.closed = False
        self._queue: list[tuple[float, int, bytes]] = []

    @abstractmethod
    def read(self, frame: Ethernet) -> tuple[Message, Optional[str]]:
        """What was sent, and the address that it asks for; None where it asks nothing."""

    @abstractmethod
    def answer(self, question: Message, mac: bytes) -> bytes:
        """What the host of this MAC answers."""

    def monotonic(self) -> float:
        return self.now

    def __enter__(self) -> Segment[Message]:
        return self

    def __exit__(self, *_error: object) -> None:
        self.closed = True

    def put(self, delay: float, frame: bytes) -> None:
        heapq.heappush(self._queue, (self.now + delay, len(self._queue), frame))

    def send(self, frame: bytes, deadline: float) -> None:
        assert deadline > self.now
        outer = Ethernet.parse(frame)
        assert outer is not None and outer.source == packet.mac_to_bytes(OWN)
        message, asked = self.read(outer)
        self.sent.append((self.now, message))
        if asked is None:
            return
        if self.deaf.get(asked, 0) > 0:
            self.deaf[asked] -= 1
            return
        for mac, delay in self.holders.get(asked, []):
            self.put(delay, self.answer(message, packet.mac_to_bytes(mac)))

    def wait(self, deadline: float) -> bool:
        if self._queue and self._queue[0][0] <= max(deadline, self.now):
            self.now = max(self.now, self._queue[0][0])
            return True
        self.now = max(self.now, deadline)
        return False

    def frames(self) -> Iterator[tuple[bytes, float]]:
        while self._queue and self._queue[0][0] <= self.now:
            yield heapq.heappop(self._queue)[2], 0.0

    def hold(self, address: str, mac: str, delay: float = 0.001) -> None:
        self.holders.setdefault(address, []).append((mac, delay))

    def asked(self, address: str) -> int:
        return sum(self.target_of(message) == address for _when, message in self.sent)

    @abstractmethod
    def target_of(self, message: Message) -> str:
        """The address that a message is about."""


class ArpSegment(Segment[Arp]):
    """Its hosts answer ARP."""

    def read(self, frame: Ethernet) -> tuple[Arp, Optional[str]]:
        assert frame.destination == packet.BROADCAST_MAC
        request = Arp.parse(frame.payload)
        assert request is not None
        asks = request.operation == packet.ARP_REQUEST and request.sender_ip != request.target_ip
        return request, str(request.target_ip) if asks else None

    def answer(self, question: Arp, mac: bytes) -> bytes:
        return self.frame_of(Arp(packet.ARP_REPLY, mac, question.target_ip, question.sender_mac, question.sender_ip))

    def frame_of(self, reply: Arp) -> bytes:
        return Ethernet(packet.mac_to_bytes(OWN), reply.sender_mac, packet.ETHERTYPE_ARP, reply.pack()).pack()

    def target_of(self, message: Arp) -> str:
        return str(message.target_ip)


class NdpSegment(Segment[IPv6]):
    """Its hosts answer neighbour solicitations."""

    def read(self, frame: Ethernet) -> tuple[IPv6, Optional[str]]:
        whole = IPv6.parse(frame.payload)
        assert whole is not None
        assert frame.destination == b"\x33\x33" + whole.destination.packed[-4:]
        message = NeighbourMessage.parse(whole)
        assert message is not None
        return whole, str(message.target) if message.kind == packet.NEIGHBOUR_SOLICITATION else None

    def answer(self, question: IPv6, mac: bytes) -> bytes:
        target = IPv6Address(self.target_of(question))
        flags = packet.NA_SOLICITED | packet.NA_OVERRIDE
        message = NeighbourMessage(packet.NEIGHBOUR_ADVERTISEMENT, target, mac, flags)
        return self.frame_of(message, question.source)

    def frame_of(
        self, message: NeighbourMessage, asker: IPv6Address, sender: Optional[IPv6Address] = None, hop_limit: int = 255
    ) -> bytes:
        content = message.pack(sender or message.target, asker)
        whole = IPv6(sender or message.target, asker, packet.PROTOCOL_ICMPV6, content, hop_limit)
        mac = message.mac or packet.mac_to_bytes(B1)
        return Ethernet(packet.mac_to_bytes(OWN), mac, packet.ETHERTYPE_IPV6, whole.pack()).pack()

    def target_of(self, message: IPv6) -> str:
        read = NeighbourMessage.parse(message)
        assert read is not None
        return str(read.target)
