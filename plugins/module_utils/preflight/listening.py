# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames sent, and heard on another host meanwhile: a listener in the background, which ends by itself.

The listener is there when `listen` returns, so nobody has to guess when to send. It keeps no file: whoever collects
comes by a socket whose name is in the host's network namespace, and has to be of the same user.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from ..common import bpf, neighbours
from ..common.errors import ConfigError, HostError
from ..common.iproute import IPAddress, Iproute, Link
from ..common.packet import mac_to_bytes
from ..common.packet_socket import ALL_PROTOCOLS, PacketSocket, attach_filter, ethernet_link
from . import frames

MAX_SECONDS = 3600.0
_BUFFER = 4 * 1024 * 1024
_SO_RCVBUFFORCE = 33
_FRAME = 2048
_CREDENTIALS = struct.Struct("3i")
# As with questions by ARP: switches and small hosts drop long bursts.
_BURST, _GAP = 64, 0.005
_ROUNDS, _PAUSE = 2, 0.1
_SEND_LIMIT = 2.0
_SETTLE = 0.3  # seconds for the last frame to arrive
_SILENCE = 10.0  # seconds to wait for a listener to say what it heard


def _name(marker: str) -> str:
    return f"\0dsr.layer2/preflight/{marker}"


# --- listening


def listen(marker: str, seconds: float) -> None:
    """Have a process in the background hear frames from now on. Returns when it does."""
    if not 0 < seconds <= MAX_SECONDS:
        raise ConfigError("seconds", f"is {seconds:g}; use a time above 0, up to {MAX_SECONDS:g}")
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
        try:
            server.bind(_name(marker))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise HostError(f"somebody listens with the marker {marker} already; use another one") from None
            raise HostError(f"cannot listen: {error.strerror}") from error
        server.listen(1)
        channel = opened.enter_context(_channel())
        held = [opened.enter_context(one) for one in _held_ports()]
        if os.fork() == 0:
            try:
                _detach([server, channel, *held])
                _serve(server, channel, marker, time.monotonic() + seconds)
            finally:
                os._exit(0)  # nothing of what this process inherited is its to clean up


def _channel() -> socket.socket:
    """Hears the marked frames on all NICs, before any firewall of this host does."""
    try:
        # Bound to no NIC it hears all of them. What came before the filter was there is told apart when it is read.
        kinds = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        channel = socket.socket(socket.AF_PACKET, kinds, socket.htons(ALL_PROTOCOLS))
    except PermissionError:
        raise HostError("no permission to see frames: this needs root or CAP_NET_RAW (use become: true)") from None
    attach_filter(channel, bpf.marked_datagrams(frames.PORT, frames.MARK))
    try:
        channel.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except OSError:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    channel.setblocking(False)
    return channel


def _held_ports() -> list[socket.socket]:
    """The discard port of both families, so that this host does not answer for it that nobody is there."""
    found = []
    for family, anywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            held = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        except OSError:
            continue  # no IPv6 here
        try:
            if family == socket.AF_INET6:
                held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            held.bind((anywhere, frames.PORT))
            found.append(held)
        except OSError:
            held.close()  # somebody has it, and takes what comes
    return found


def _detach(kept: Sequence[socket.socket]) -> None:
    """Become a process of its own, which keeps nobody waiting for its output."""
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    mine = {0, 1, 2, *(one.fileno() for one in kept)}
    for entry in os.listdir("/proc/self/fd"):
        if int(entry) not in mine:
            with contextlib.suppress(OSError):
                os.close(int(entry))


def _serve(server: socket.socket, channel: socket.socket, marker: str, until: float) -> None:
    seen: set[tuple[str, frames.Seen]] = set()
    poller = select.poll()
    for one in (server, channel):
        poller.register(one, select.POLLIN)
    while True:
        left = until - time.monotonic()
        if left <= 0:
            return
        ready = {descriptor for descriptor, _events in poller.poll(int(left * 1000) + 1)}
        _drain(channel, marker, seen)
        if server.fileno() in ready:
            caller, _address = server.accept()
            with caller:
                if _user_of(caller) not in (0, os.geteuid()):
                    continue
                caller.settimeout(_SILENCE)
                caller.sendall(json.dumps(frames.grouped(seen)).encode())
            return


def _drain(channel: socket.socket, marker: str, seen: set[tuple[str, frames.Seen]]) -> None:
    while True:
        try:
            data, address = channel.recvfrom(_FRAME)
        except BlockingIOError:
            return
        except OSError:
            return  # a NIC went down
        one = frames.read(data, marker)
        if one is not None:
            seen.add((str(address[0]), one))


def _user_of(caller: socket.socket) -> int:
    given = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(given)[1]
    return user


def heard(marker: str) -> list[dict[str, Any]]:
    """What the listener of this marker heard; it ends with that."""
    time.sleep(_SETTLE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(_SILENCE)
        try:
            channel.connect(_name(marker))
            said = b"".join(iter(lambda: channel.recv(65536), b""))
        except OSError as error:
            raise HostError(
                f"nobody listens with the marker {marker} (any more): {error}; listen anew, for more seconds"
            ) from error
    try:
        found: list[dict[str, Any]] = json.loads(said)
    except ValueError as error:
        raise HostError("the listener ended before it said what it heard; run it again") from error
    return found


# --- sending


def send(
    marker: str, sender: str, orders: Iterable[frames.Order], iproute: Optional[Iproute] = None
) -> tuple[int, list[str]]:
    """How many different frames were sent, each of them twice, and why others were not."""
    iproute = iproute or Iproute()
    ready: dict[str, list[bytes]] = {}
    links: dict[str, Link] = {}
    problems = []
    told = frames.content(marker, sender)
    for order in orders:
        for destination in order.destinations:
            try:
                link, mac, near = _way(order, destination, iproute, links)
            except HostError as error:
                problems.append(f"{destination}: {error}")
                continue
            own = mac_to_bytes(link.mac)
            ready.setdefault(link.name, []).extend(
                frames.build(own, mac, source, destination, told, near) for source in order.sources
            )
    for name, made in ready.items():
        _send(links[name], made)
    return sum(map(len, ready.values())), problems


def _way(
    order: frames.Order, destination: IPAddress, iproute: Iproute, links: dict[str, Link]
) -> tuple[Link, bytes, bool]:
    """The NIC, the MAC to send to, and whether the destination itself is there."""
    if order.mac and order.interface:
        return _link(order.interface, iproute, links), mac_to_bytes(order.mac), True
    route = iproute.route_to(destination)
    if route is None or route.kind != "unicast":
        raise HostError("there is no route to it")
    link = _link(order.interface or route.link, iproute, links)
    if order.mac:
        return link, mac_to_bytes(order.mac), True
    hop = route.gateway or str(destination)
    macs = neighbours.resolve(link.name, [hop], iproute=iproute).get(hop, frozenset())
    if not macs:
        raise HostError(f"{hop} does not answer on {link.name}")
    return link, mac_to_bytes(min(macs)), route.gateway is None


def _link(name: str, iproute: Iproute, links: dict[str, Link]) -> Link:
    if name not in links:
        links[name] = ethernet_link(iproute, name)
    return links[name]


def _send(link: Link, made: Sequence[bytes]) -> None:
    """All frames, and once more after a while: one may be lost."""
    with PacketSocket(link, ALL_PROTOCOLS, bpf.nothing()) as channel:
        for again in range(_ROUNDS):
            if again:
                time.sleep(_PAUSE)
            for index, frame in enumerate(made):
                if index and index % _BURST == 0:
                    time.sleep(_GAP)
                channel.send(frame, time.monotonic() + _SEND_LIMIT)
