# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IPv6 neighbour discovery on one NIC: who answers for an address, and telling the segment about our own.

As with ARP, we ask by our own frames and do not read the kernel's neighbour table.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Interface
from typing import Optional

from . import bpf
from .asking import SEND_LIMIT, ask
from .errors import ConfigError, HostError
from .iproute import HeldAddress, Iproute, Link
from .packet import (
    ALL_NODES,
    ETHERTYPE_IPV6,
    NA_OVERRIDE,
    NA_ROUTER,
    NDP_HOP_LIMIT,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SOLICITATION,
    PROTOCOL_ICMPV6,
    Ethernet,
    IPv6,
    NeighbourMessage,
    group_mac,
    is_station,
    mac_to_bytes,
    mac_to_text,
    solicited_node,
)
from .packet_socket import PacketSocket, ethernet_link


def resolve(
    interface: str,
    addresses: Iterable[str],
    timeout: float = 1.0,
    attempts: int = 3,
    settle: float = 0.0,
    iproute: Optional[Iproute] = None,
) -> dict[str, frozenset[str]]:
    """Every MAC that answers neighbour solicitations for each of the IPv6 ``addresses`` on a NIC's segment.

    In all else it is arp.resolve(): asked at once and again, silent ones absent, no answer of this host itself. Nobody
    answers a question without a sender, so the NIC needs an IPv6 address; its link-local one will do.
    """
    iproute = iproute or Iproute()
    targets = _ipv6s(addresses)
    link = _ndp_link(iproute, interface)
    if not targets:
        return {}
    own_macs = {mac_to_bytes(other.mac) for other in iproute.links().values() if other.mac}
    held = [entry for entry in iproute.addresses(interface) if isinstance(entry.value, IPv6Interface)]
    senders = _senders(held)
    questions = {}
    for target in targets:
        sender = _sender_for(target, senders)
        if sender is None:
            raise HostError(_no_sender(interface, held))
        questions[target] = _solicitation(link, sender, target)

    def read(frame: bytes) -> Optional[tuple[IPv6Address, bytes]]:
        answer = _answer(frame)
        return None if answer is None or answer[1] in own_macs else answer

    with PacketSocket(link, ETHERTYPE_IPV6, bpf.neighbour_advertisements()) as channel:
        answers = ask(channel, questions, read, timeout, attempts, settle)
    return {str(target): frozenset(map(mac_to_text, answers[target])) for target in targets if target in answers}


def announce(interface: str, addresses: Iterable[str], iproute: Optional[Iproute] = None) -> None:
    """Tell the segment of ``interface`` that the IPv6 ``addresses`` are at its MAC (unsolicited advertisement)."""
    own = _ipv6s(addresses)
    link = _ndp_link(iproute or Iproute(), interface)
    mac = mac_to_bytes(link.mac)
    # Hosts that have us for their router would forget us by an advertisement that does not say so.
    flags = NA_OVERRIDE | (NA_ROUTER if _forwards(interface) else 0)
    with PacketSocket(link, ETHERTYPE_IPV6, bpf.nothing()) as channel:
        for address in own:
            message = NeighbourMessage(NEIGHBOUR_ADVERTISEMENT, address, mac, flags)
            channel.send(_frame(link, address, ALL_NODES, message), time.monotonic() + SEND_LIMIT)


def questions(link: Link, held: Iterable[HeldAddress], targets: Iterable[IPv6Address]) -> dict[IPv6Address, bytes]:
    """The frame that asks the segment of a NIC, which holds the addresses ``held``, for each of the targets.

    Targets are absent while the NIC has no address to ask from.
    """
    senders = _senders([entry for entry in held if isinstance(entry.value, IPv6Interface)])
    asking = {target: _sender_for(target, senders) for target in targets}
    return {target: _solicitation(link, sender, target) for target, sender in asking.items() if sender is not None}


def _ipv6s(addresses: Iterable[str]) -> list[IPv6Address]:
    """The addresses in the order given, each of them once."""
    found: dict[IPv6Address, None] = {}
    for index, text in enumerate(addresses):
        try:
            found[IPv6Address(text)] = None
        except ValueError:
            problem = f"'{text}' is not an IPv6 address; neighbour discovery is for IPv6 only"
            raise ConfigError(f"addresses[{index}]", problem) from None
    return list(found)


def _ndp_link(iproute: Iproute, interface: str) -> Link:
    link = ethernet_link(iproute, interface)
    if "NOARP" in link.flags:
        raise HostError(f"interface '{interface}' does no neighbour discovery (it has the flag NOARP)")
    return link


def _senders(held: list[HeldAddress]) -> list[IPv6Interface]:
    """The addresses of a NIC that questions can be asked from, the best first: any host answers a link-local one.

    Not a lone /128: those of a load balancer's NIC are VIPs.
    """
    usable = (entry.value for entry in held if entry.usable)
    values = [value for value in usable if isinstance(value, IPv6Interface) and value.network.prefixlen < 128]
    return sorted(values, key=lambda value: not value.ip.is_link_local)


def _sender_for(target: IPv6Address, senders: list[IPv6Interface]) -> Optional[IPv6Address]:
    own = [value for value in senders if value.ip != target]
    if not own or own[0].ip.is_link_local:
        return own[0].ip if own else None
    return next((value.ip for value in own if target in value.network), own[0].ip)


def _no_sender(interface: str, held: list[HeldAddress]) -> str:
    why = (
        f"not even a link-local one (is IPv6 disabled there? see sysctl net.ipv6.conf.{interface}.disable_ipv6 and "
        "addr_gen_mode)"
    )
    if any("tentative" in entry.states and "dadfailed" not in entry.states for entry in held):
        why = "it is still looking for duplicates of those that it has, which takes a second or two; try again then"
    return f"interface '{interface}' has no IPv6 address of its own to ask its neighbours from: {why}"


def _solicitation(link: Link, sender: IPv6Address, target: IPv6Address) -> bytes:
    message = NeighbourMessage(NEIGHBOUR_SOLICITATION, target, mac_to_bytes(link.mac))
    return _frame(link, sender, solicited_node(target), message)


def _frame(link: Link, sender: IPv6Address, group: IPv6Address, message: NeighbourMessage) -> bytes:
    content = message.pack(sender, group)
    packet = IPv6(sender, group, PROTOCOL_ICMPV6, content, hop_limit=NDP_HOP_LIMIT)
    return Ethernet(group_mac(group), mac_to_bytes(link.mac), ETHERTYPE_IPV6, packet.pack()).pack()


def _answer(frame: bytes) -> Optional[tuple[IPv6Address, bytes]]:
    """Which address is at which MAC, as ``frame`` tells; None if that is no usable advertisement."""
    outer = Ethernet.parse(frame)
    packet = IPv6.parse(outer.payload) if outer is not None and outer.ethertype == ETHERTYPE_IPV6 else None
    message = None if packet is None else NeighbourMessage.parse(packet)
    if message is None or message.kind != NEIGHBOUR_ADVERTISEMENT or message.mac is None or not is_station(message.mac):
        return None
    return message.target, message.mac


def _forwards(interface: str) -> bool:
    """Whether this host is a router on this NIC."""
    try:
        with open(f"/proc/sys/net/ipv6/conf/{interface}/forwarding", encoding="ascii") as handle:
            return handle.read().strip() != "0"
    except OSError:
        return False
