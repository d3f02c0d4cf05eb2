# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a probe on this host: which way, the connections themselves, what they found."""

from __future__ import annotations

import select
import time
from typing import Any, Callable, Optional

from ..common import neighbours
from ..common.errors import HostError
from ..common.iproute import Iproute, Link
from ..common.packet import mac_to_bytes
from ..common.packet_socket import ethernet_link
from . import held, report
from .exchange import Exchange, FrameTcp, FrameUdp, KernelTcp, KernelUdp, Wire
from .hold import hold
from .observer import Observer
from .report import Attempt, Path
from .request import Request
from .way import Way, find_way

CONCURRENCY = 50
_ASK_TIMEOUT = 0.5
_ASK_ATTEMPTS = 3
# How long a second host may take to answer for the VIP after the first one did.
_ASK_SETTLE = 0.1


def probe(request: Request, iproute: Optional[Iproute] = None) -> tuple[dict[str, Any], str]:
    """Make the probe. Returns the figures and what contradicts direct return ('' if nothing does)."""
    iproute = iproute or Iproute()
    way = find_way(request, iproute)
    link = ethernet_link(iproute, way.interface)
    answering = _answering(way, iproute)
    if request.hold:
        return _keep(request, way, link, answering, iproute)
    with Observer(link, request.address, request.protocol, request.port) as observer:
        attempts = run(request.connections, _maker(request, way, link, observer), observer)
    sent_to = None if request.through else _neighbour(way, iproute)
    lb_mac = request.lb_mac or _load_balancer(way, link, answering, sent_to)
    path = Path(way.interface, lb_mac, answering, way.gateway, sent_to)
    return report.figures(request, path, attempts), report.problem(request, path, attempts)


def _keep(
    request: Request, way: Way, link: Link, answering: tuple[str, ...], iproute: Iproute
) -> tuple[dict[str, Any], str]:
    """The same with connections that are kept open."""
    with Observer(link, request.address, request.protocol, request.port) as observer:
        kept, clock = hold(request, observer)
    lb_mac = request.lb_mac or _load_balancer(way, link, answering, _neighbour(way, iproute))
    # The VIP may have moved to another load balancer meanwhile, so the entry of now says nothing about that of before.
    path = Path(way.interface, lb_mac, answering, way.gateway, sent_to=None)
    return held.figures(request, path, kept, clock), held.problem(request, path, kept)


def _answering(way: Way, iproute: Iproute) -> tuple[str, ...]:
    """Who answers for the next hop, which is the VIP itself on its segment."""
    if way.own:
        return ()
    found = neighbours.resolve(way.interface, [way.next_hop], _ASK_TIMEOUT, _ASK_ATTEMPTS, _ASK_SETTLE, iproute)
    return tuple(sorted(found.get(way.next_hop, ())))


def _neighbour(way: Way, iproute: Iproute) -> Optional[str]:
    """The MAC that the kernel has for the next hop."""
    entries = iproute.neighbours(way.interface)
    return next((entry.mac for entry in entries if str(entry.address) == way.next_hop and entry.mac), None)


def _load_balancer(way: Way, link: Link, answering: tuple[str, ...], sent_to: Optional[str]) -> Optional[str]:
    """The load balancer's MAC as far as this host can tell; None when several hosts could be it."""
    if way.own:
        return link.mac
    if not answering:
        return sent_to  # a permanent entry, perhaps
    return answering[0] if len(answering) == 1 else None


def _maker(request: Request, way: Way, link: Link, observer: Observer) -> Callable[[], Exchange]:
    if not request.through:
        return lambda: KernelTcp(request) if request.protocol == "tcp" else KernelUdp(request)
    source = way.source
    if source is None:
        raise HostError(
            f"interface '{link.name}' has no IPv{request.address.version} address of its own, beside the probed one,"
            " to send the probe from"
        )
    macs = mac_to_bytes(link.mac), mac_to_bytes(request.through)
    wire = Wire(observer.channel, *macs, source, link.mtu, link.index)
    return lambda: FrameTcp(request, wire) if request.protocol == "tcp" else FrameUdp(request, wire)


def run(count: int, make: Callable[[], Exchange], observer: Observer) -> list[Attempt]:
    """Carry out ``count`` exchanges, CONCURRENCY of them at a time."""
    attempts: list[Attempt] = []
    active: list[Exchange] = []
    try:
        while len(attempts) < count:
            while len(active) < CONCURRENCY and len(attempts) + len(active) < count:
                active.append(make())
                active[-1].start()
            _advance(active, observer)
            for exchange in [exchange for exchange in active if exchange.finished]:
                active.remove(exchange)
                exchange.close()
                attempts.append(exchange.result)
    finally:
        for exchange in active:
            exchange.close()
    return attempts


def _advance(active: list[Exchange], observer: Observer) -> None:
    """Wait for news about any exchange and take them in."""
    poller = select.poll()
    poller.register(observer.channel, select.POLLIN)
    by_descriptor: dict[int, Exchange] = {}
    for exchange in active:
        if not exchange.finished and exchange.events():
            poller.register(exchange.fileno(), exchange.events())
            by_descriptor[exchange.fileno()] = exchange
    left = min(exchange.deadline for exchange in active) - time.monotonic()
    over = any(exchange.finished for exchange in active)
    for descriptor, _events in poller.poll(0 if over or left <= 0 else int(left * 1000) + 1):
        if descriptor in by_descriptor:
            by_descriptor[descriptor].on_socket()
    # Frames second: what a socket reported above has its frame in this queue already.
    by_port = {exchange.port: exchange for exchange in active}
    for reply in observer.replies():
        exchange_of = by_port.get(reply.port)
        if exchange_of is not None:
            exchange_of.on_reply(reply)
    now = time.monotonic()
    for exchange in active:
        if not exchange.finished:
            exchange.judge()
        if exchange.deadline <= now:
            exchange.on_deadline()
