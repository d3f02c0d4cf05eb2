# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ARP on one NIC: who answers for an address, and telling the segment about our own.

We ask by our own frames and do not read the kernel's neighbour table: its entries may be stale, hold
one MAC where two hosts answer, and none for an address that this host owns itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface
from typing import Optional

from . import bpf
from .asking import SEND_LIMIT, ask
from .errors import ConfigError, HostError
from .iproute import HeldAddress, Iproute, Link
from .packet import (
    ARP_REPLY,
    ARP_REQUEST,
    BROADCAST_MAC,
    ETHERTYPE_ARP,
    ZERO_MAC,
    Arp,
    Ethernet,
    is_station,
    mac_to_bytes,
    mac_to_text,
)
from .packet_socket import PacketSocket, ethernet_link

_NOBODY = IPv4Address("0.0.0.0")


def resolve(
    interface: str,
    addresses: Iterable[str],
    timeout: float = 1.0,
    attempts: int = 3,
    settle: float = 0.0,
    iproute: Optional[Iproute] = None,
) -> dict[str, frozenset[str]]:
    """Every MAC that answers ARP for each of the IPv4 ``addresses`` on the segment of ``interface``.

    An address that nobody answers for is absent. All are asked at once; those that stay silent are
    asked again every ``timeout`` seconds, ``attempts`` times in all. Returns as soon as each has an
    answer, or ``settle`` seconds after that, which leaves time for a second host to answer for an
    address that the first one has too. This host does not answer itself: for an address of its own,
    the answers are those of the others.
    """
    iproute = iproute or Iproute()
    targets = _ipv4s(addresses)
    link = _arp_link(iproute, interface)
    own_macs = {mac_to_bytes(other.mac) for other in iproute.links().values() if other.mac}
    held = _held(iproute, interface)
    requests = {target: _request(link, _sender_for(target, held), target) for target in targets}
    if not requests:
        return {}

    def read(frame: bytes) -> Optional[tuple[IPv4Address, bytes]]:
        answer = _answer(frame)
        return None if answer is None or answer.sender_mac in own_macs else (answer.sender_ip, answer.sender_mac)

    with PacketSocket(link, ETHERTYPE_ARP, bpf.arp_replies()) as channel:
        answers = ask(channel, requests, read, timeout, attempts, settle)
    return {str(target): frozenset(map(mac_to_text, answers[target])) for target in requests if target in answers}


def announce(interface: str, addresses: Iterable[str], iproute: Optional[Iproute] = None) -> None:
    """Tell the segment of ``interface`` that the IPv4 ``addresses`` are at its MAC (gratuitous ARP).

    Both forms are sent, since hosts differ in which one they heed: the request of an announcement
    (RFC 5227) and the unasked reply.
    """
    own = _ipv4s(addresses)
    link = _arp_link(iproute or Iproute(), interface)
    mac = mac_to_bytes(link.mac)
    with PacketSocket(link, ETHERTYPE_ARP, bpf.nothing()) as channel:
        for address in own:
            for packet in (
                Arp(ARP_REQUEST, mac, address, ZERO_MAC, address),
                Arp(ARP_REPLY, mac, address, BROADCAST_MAC, address),
            ):
                frame = Ethernet(BROADCAST_MAC, mac, ETHERTYPE_ARP, packet.pack())
                channel.send(frame.pack(), time.monotonic() + SEND_LIMIT)


def questions(link: Link, held: Iterable[HeldAddress], targets: Iterable[IPv4Address]) -> dict[IPv4Address, bytes]:
    """The frame that asks the segment of a NIC, which holds the addresses ``held``, for each of the targets."""
    own = [entry.value for entry in held if isinstance(entry.value, IPv4Interface)]
    return {target: _request(link, _sender_for(target, own), target) for target in targets}


def _ipv4s(addresses: Iterable[str]) -> list[IPv4Address]:
    """The addresses in the order given, each of them once."""
    found: dict[IPv4Address, None] = {}
    for index, text in enumerate(addresses):
        try:
            found[IPv4Address(text)] = None
        except ValueError:
            raise ConfigError(f"addresses[{index}]", f"'{text}' is not an IPv4 address; ARP is for IPv4 only") from None
    return list(found)


def _arp_link(iproute: Iproute, interface: str) -> Link:
    link = ethernet_link(iproute, interface)
    if "NOARP" in link.flags:
        raise HostError(f"interface '{interface}' does no ARP (it has the flag NOARP)")
    return link


def _held(iproute: Iproute, interface: str) -> list[IPv4Interface]:
    return [held.value for held in iproute.addresses(interface) if isinstance(held.value, IPv4Interface)]


def _sender_for(target: IPv4Address, held: Iterable[IPv4Interface]) -> Optional[IPv4Address]:
    return next((own.ip for own in held if target in own.network and own.ip != target), None)


def _request(link: Link, sender: Optional[IPv4Address], target: IPv4Address) -> bytes:
    # Without an address on the target's network we ask with 0.0.0.0 (an ARP probe, RFC 5227): a
    # foreign sender address would be ignored by hosts that check it, or learnt by those that do not.
    mac = mac_to_bytes(link.mac)
    packet = Arp(ARP_REQUEST, mac, sender or _NOBODY, ZERO_MAC, target)
    return Ethernet(BROADCAST_MAC, mac, ETHERTYPE_ARP, packet.pack()).pack()


def _answer(frame: bytes) -> Optional[Arp]:
    """The ARP reply in ``frame`` if it is one that tells a usable MAC. (The filter saw to it that it came to us.)"""
    outer = Ethernet.parse(frame)
    if outer is None or outer.ethertype != ETHERTYPE_ARP:
        return None
    packet = Arp.parse(outer.payload)
    if packet is None or packet.operation != ARP_REPLY or not is_station(packet.sender_mac):
        return None
    return packet
