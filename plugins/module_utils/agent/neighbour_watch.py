# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The eyes and ears for whereabouts.py: sockets that hear ARP and neighbour discovery, questions, one timer.

Each segment of backends has a socket for ARP and one for IPv6. They take these protocols alone, so frames that the
rules send on at the ingress hook never come by; and a filter in the kernel holds back what is no neighbour discovery.
The kernel's neighbour table would not do: it has only those whom this host itself speaks to, knows one MAC where two
answer, and keeps what it has for as long as somebody up the stack says that all is well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import Callable, Optional, Protocol

from ..common import arp, bpf, ndp
from ..common.errors import DsrError, HostError
from ..common.iproute import HeldAddress, Iproute, Link
from ..common.nics import Nic
from ..common.packet import ETHERTYPE_ARP, ETHERTYPE_IPV6, IPAddress, mac_to_bytes
from ..common.packet_socket import PacketSocket
from ..common.sightings import sighting
from .whereabouts import Move, Sought, Whereabouts

_GRAIN = 0.02  # seconds: what is due about the same time is done together
_FRAMES_AT_ONCE = 256  # that are read before others have their turn
_FRESH = 30.0  # seconds for which this host's own addresses are taken as known
_AGAIN = 1.0  # and where one is missing that could ask

Opening = Callable[[Link, int, bpf.Program], PacketSocket]


class Watch(Protocol):
    """What the agent needs of a watch."""

    def set_sought(self, sought: Iterable[Sought]) -> None: ...
    def suspect(self, address: IPAddress) -> None: ...
    async def keep_up(self, nics: Mapping[str, Nic]) -> None: ...
    def close(self) -> None: ...


@dataclass(eq=False)
class _Segment:
    """A NIC as it was when it was opened."""

    nic: Nic
    mac: bytes
    channels: dict[int, PacketSocket] = field(default_factory=dict)
    questions: dict[IPAddress, bytes] = field(default_factory=dict)


class NeighbourWatch:
    """Looks for backends until it is closed; to be made and used in a running event loop.

    ``moved`` is called with each move, ``tell`` with what people are to read.
    """

    def __init__(
        self,
        moved: Callable[[Move], None],
        tell: Callable[[str], None],
        iproute: Optional[Iproute] = None,
        opening: Opening = PacketSocket,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._moved = moved
        self._say = tell
        self._iproute = iproute or Iproute()
        self._opening = opening
        self._whereabouts = Whereabouts()
        self._wanted: dict[str, list[IPAddress]] = {}
        self._segments: dict[str, _Segment] = {}
        self._timer: Optional[asyncio.TimerHandle] = None
        self._timer_at = 0.0
        self._nics: Mapping[str, Nic] = {}
        self._stale_at = 0.0
        self._complaint = ""

    def set_sought(self, sought: Iterable[Sought]) -> None:
        """Look for these and no others; whose NIC is not open yet is asked when it is."""
        found = list(sought)
        self._wanted = {}
        for item in found:
            self._wanted.setdefault(item.interface, []).append(item.address)
        self._whereabouts.set_sought(self._loop.time(), found)
        self._stale_at = 0.0
        self._arm()

    def suspect(self, address: IPAddress) -> None:
        """A backend with this address may not be where it was."""
        self._whereabouts.suspect(self._loop.time(), address)
        self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for interface in list(self._segments):
            self._shut(interface)

    # -- NICs

    async def keep_up(self, nics: Mapping[str, Nic]) -> None:
        """Listen on the NICs that there are, as they are now, and ask in the name of the addresses that they have."""
        for interface, segment in list(self._segments.items()):
            if interface not in self._wanted or nics.get(interface) != segment.nic:
                self._shut(interface)
        if nics != self._nics:
            self._nics, self._stale_at = dict(nics), 0.0
        if self._loop.time() < self._stale_at or not self._wanted.keys() & nics.keys():
            return
        try:
            links, held = await self._loop.run_in_executor(None, self._look_at_host)
            whole = self._open(nics, links, held)
            self._complaint = ""
        except DsrError as error:
            if str(error) != self._complaint:
                self._say(f"backends cannot be looked for, trying again: {error}")
            self._complaint = str(error)
            whole = False
        self._stale_at = self._loop.time() + (_FRESH if whole else _AGAIN)

    def _look_at_host(self) -> tuple[dict[str, Link], list[HeldAddress]]:
        return self._iproute.links(), self._iproute.addresses()

    def _open(self, nics: Mapping[str, Nic], links: Mapping[str, Link], held: Iterable[HeldAddress]) -> bool:
        """Whether everybody can be asked now."""
        self._whereabouts.own = frozenset(link.mac for link in links.values() if link.mac)
        by_link: dict[str, list[HeldAddress]] = {}
        for entry in held:
            by_link.setdefault(entry.link, []).append(entry)
        whole = True
        for interface, addresses in self._wanted.items():
            link = links.get(interface)
            if link is None or interface not in nics or nics[interface] != (link.index, link.mac):
                whole = whole and interface not in nics
                continue
            segment = self._segments.setdefault(interface, _Segment(nics[interface], mac_to_bytes(link.mac)))
            own = by_link.get(interface, [])
            four = [address for address in addresses if isinstance(address, IPv4Address)]
            six = [address for address in addresses if isinstance(address, IPv6Address)]
            segment.questions = {}
            segment.questions.update(arp.questions(link, own, four).items())
            segment.questions.update(ndp.questions(link, own, six).items())
            for protocol, program, used in (
                (ETHERTYPE_ARP, bpf.arp_messages(), four),
                (ETHERTYPE_IPV6, bpf.neighbour_messages(), six),
            ):
                self._listen(segment, link, protocol, program, bool(used))
            whole = whole and len(segment.questions) == len(addresses)
        return whole

    def _listen(self, segment: _Segment, link: Link, protocol: int, program: bpf.Program, used: bool) -> None:
        channel = segment.channels.get(protocol)
        if used and channel is None:
            segment.channels[protocol] = channel = self._opening(link, protocol, program)
            self._loop.add_reader(channel.fileno(), self._read, segment, channel, link.name)
        elif channel is not None and not used:
            del segment.channels[protocol]
            self._end(channel)

    def _shut(self, interface: str) -> None:
        for channel in self._segments.pop(interface).channels.values():
            self._end(channel)

    def _end(self, channel: PacketSocket) -> None:
        self._loop.remove_reader(channel.fileno())
        channel.close()

    # -- frames

    def _read(self, segment: _Segment, channel: PacketSocket, interface: str) -> None:
        now = self._loop.time()
        try:
            for frame, _when in islice(channel.frames(), _FRAMES_AT_ONCE):
                found = sighting(frame, segment.mac)
                if found is not None:
                    for line in self._whereabouts.heard(now, (interface, found.address), found.mac, found.answers):
                        self._say(line)
        except HostError:
            pass  # The NIC went down, which the kernel says once; it is heard again as soon as it is up.
        self._arm()

    def _ask(self, interface: str, address: IPAddress) -> None:
        segment = self._segments.get(interface)
        if segment is None:
            return
        question = segment.questions.get(address)
        channel = segment.channels.get(ETHERTYPE_ARP if address.version == 4 else ETHERTYPE_IPV6)
        if question is None or channel is None:
            return
        try:
            # One that does not fit into the NIC's queue is lost: there will be another.
            channel.send(question, 0.0)
        except HostError:
            pass

    # -- time

    def _arm(self) -> None:
        due = self._whereabouts.next
        if due is None:
            return
        at = max(self._loop.time(), (due // _GRAIN + 1) * _GRAIN)
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(at, self._tick), at

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        done = self._whereabouts.tick(now)
        for interface, address in done.questions:
            self._ask(interface, address)
        due = self._whereabouts.next
        if due is not None and due <= now:
            # More than may go out at once.
            self._timer_at = now + _GRAIN
            self._timer = self._loop.call_at(self._timer_at, self._tick)
        self._arm()
        for line in done.lines:
            self._say(line)
        for move in done.moves:
            self._moved(move)
