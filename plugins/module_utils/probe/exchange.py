# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One connection of a probe, step by step: by the kernel's own sockets, or by frames made here.

An exchange learns from two sides: what the kernel says about its socket, and the reply frames that
the observer saw. Whatever the kernel has digested was seen by the observer before.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import socket
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Optional, Union

from ..common.iproute import IPAddress
from ..common.neighbours import question_of
from ..common.packet import ACK, RST, SYN, Tcp, Udp, ip_frame
from ..common.packet_socket import PacketSocket
from .observer import Kind, Reply
from .report import Attempt
from .request import Request

_UNREACHABLE = {
    4: {0: "network", 1: "host", 2: "protocol", 3: "port", 13: "communication prohibited"},
    6: {0: "no route", 1: "communication prohibited", 3: "address", 4: "port"},
}
# What a TCP segment's headers take, and the largest segment that any NIC of 1500 bytes takes.
_HEADERS = {4: 20 + 20, 6: 40 + 20}
_USUAL_MTU = 1500
CHUNK = 65536  # bytes that are read at once


class Exchange(ABC):
    """A connection, or a datagram and its answer. It is over when ``finished`` is true."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.port = 0
        self.finished = False
        self.deadline = 0.0
        self._started = 0.0
        self._macs: list[str] = []
        self._rtt: Optional[float] = None
        self._error = ""

    @property
    def result(self) -> Attempt:
        return Attempt(self.port, tuple(self._macs), self._rtt, self._error)

    def start(self) -> None:
        """Send the first packet."""
        self.deadline = time.monotonic() + self.request.timeout
        self._started = time.time()
        self._begin()

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Give back the port and the socket. Does nothing if it is done already."""

    def fileno(self) -> int:
        """The kernel socket to watch, -1 if there is none."""
        return -1

    def events(self) -> int:
        """The poll events to watch for."""
        return 0

    def on_socket(self) -> None:
        """The kernel has news about the socket."""
        raise NotImplementedError  # never called where there is no socket to watch

    @abstractmethod
    def on_reply(self, reply: Reply) -> None:
        """A reply frame was seen."""

    def judge(self) -> None:  # noqa: B027 -- where frames alone decide, on_reply has done so
        """Called after the news of both sides were taken in."""

    def on_deadline(self) -> None:
        """Time is over."""
        if not self.finished:
            self._fail(self._overdue())

    def _overdue(self) -> str:
        return f"without an answer within {self.request.timeout:g} s"

    def _saw(self, reply: Reply) -> None:
        if reply.mac not in self._macs:
            self._macs.append(reply.mac)

    def _timed(self, reply: Reply) -> None:
        if self._rtt is None:
            # The wall clock may have been set back meanwhile.
            self._rtt = round(max(0.0, reply.when - self._started) * 1000, 3)

    def _fail(self, error: str) -> None:
        self._error = error
        self.finished = True


def _family(request: Request) -> int:
    return socket.AF_INET if request.address.version == 4 else socket.AF_INET6


def refusal(reply: Reply, version: int) -> str:
    if reply.kind is Kind.UNREACHABLE:
        what = _UNREACHABLE[version].get(reply.code, f"code {reply.code}")
        return f"refused (ICMP unreachable: {what}) by {reply.mac}"
    return f"refused (TCP RST) by {reply.mac}"


def stuck(mac: str) -> str:
    return f"stuck: the SYN-ACK of {mac} was seen but this host dropped it (reverse path filter or firewall?)"


class KernelExchange(Exchange):
    """By a socket of the kernel."""

    def __init__(self, request: Request, kind: int) -> None:
        super().__init__(request)
        self._refused: Optional[Reply] = None
        self._connected = False  # as a connection of TCP is
        self._socket = socket.socket(_family(request), kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def _connect(self) -> None:
        try:
            if self.request.interface:
                device = self.request.interface.encode() + b"\0"
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            self._socket.connect((str(self.request.address), self.request.port))
        except BlockingIOError:
            pass
        except OSError as error:
            self._failed(error.errno or 0)
        self.port = self._socket.getsockname()[1]

    def _connect_and_send(self) -> None:
        self._connect()
        if not self.finished:
            try:
                self._socket.send(self.request.payload)
            except OSError as error:
                self._failed(error.errno or 0)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        if self._connected and self._socket.fileno() >= 0:
            try:
                self._socket.recv(CHUNK)  # closing with data unread would send RST in place of FIN
            except OSError:
                pass
        self._socket.close()

    def _failed(self, code: int) -> None:
        """The kernel gave up. ``_refused`` is whoever made it do so, if anybody did."""
        if self._refused:
            self._fail(refusal(self._refused, self.request.address.version))
        elif code == errno.EHOSTUNREACH:
            question = question_of(self.request.address.version)
            self._fail(f"unreachable from this host (nobody answers {question}, or there is no route)")
        else:
            self._fail(f"failed on this host ({os.strerror(code)})")


class KernelTcp(KernelExchange):
    """Connect, then close, and see that both the handshake and what follows reach the same host.

    A SYN-ACK alone proves little: with a scheduler that picks a backend per packet it comes as well,
    and it is the next packet that another backend answers with RST.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request, socket.SOCK_STREAM)
        self._settled = False  # the kernel has nothing more to tell
        self._code = 0
        self._later: Optional[Reply] = None

    def _begin(self) -> None:
        self._connect()

    def events(self) -> int:
        if self._settled:
            return 0
        return select.POLLIN if self._connected else select.POLLOUT

    def on_socket(self) -> None:
        self._code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if self._connected or self._code:
            self._settled = True
            return
        self._connected = True
        try:
            if self.request.payload:
                self._socket.send(self.request.payload)
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._settled = True  # reset meanwhile: the frame tells by whom

    def on_reply(self, reply: Reply) -> None:
        self._saw(reply)
        if reply.kind is Kind.ACCEPTED:
            self._timed(reply)
        elif reply.kind is Kind.UNREACHABLE or not self._accepted:
            self._refused = reply
        elif self._later is None:
            self._later = reply

    @property
    def _accepted(self) -> bool:
        return self._rtt is not None

    def judge(self) -> None:
        if not self._connected and not self._code:
            return
        if self._accepted and self._later:
            stranger = self._later.mac != self._macs[0]
            if self._later.kind is Kind.REFUSED or (self._later.kind is Kind.ABORTED and stranger):
                self._fail(f"reset after the handshake by {self._later.mac}")
            self.finished = True
        elif self._code:
            self._failed(self._code)
        elif not self._accepted or self._settled:
            # It is connected, or even over, but not by frames that came in on this NIC.
            self.finished = True

    def _overdue(self) -> str:
        if self._connected:
            return f"silent after the handshake for {self.request.timeout:g} s"
        return stuck(self._macs[0]) if self._accepted else super()._overdue()


class KernelUdp(KernelExchange):
    """Send one datagram, wait for one."""

    def __init__(self, request: Request) -> None:
        super().__init__(request, socket.SOCK_DGRAM)
        self._answered = False
        self._code = 0

    def _begin(self) -> None:
        self._connect_and_send()

    def events(self) -> int:
        return select.POLLIN

    def on_socket(self) -> None:
        try:
            self._socket.recv(CHUNK)
            self._answered = True
        except BlockingIOError:
            pass
        except OSError as error:
            self._code = error.errno or errno.EIO

    def on_reply(self, reply: Reply) -> None:
        self._saw(reply)
        if reply.kind is Kind.DATA:
            self._timed(reply)
        else:
            self._refused = reply

    def judge(self) -> None:
        if self._answered:
            self.finished = True
        elif self._code:
            self._failed(self._code)


@dataclass(frozen=True)
class Wire:
    """Where frames made here go out, and in whose name."""

    channel: PacketSocket
    mac: bytes
    next_mac: bytes
    source: IPAddress
    mtu: int
    index: int = 0  # of the NIC, which a link-local source is one of


class _FrameExchange(Exchange):
    """By frames addressed to one MAC, whatever this host's own routes say."""

    def __init__(self, request: Request, wire: Wire, kind: int) -> None:
        super().__init__(request)
        self._wire = wire
        # Bound and never used: it only keeps the port from everybody else on this host.
        self._reserved = socket.socket(_family(request), kind | socket.SOCK_CLOEXEC)

    def _reserve(self) -> None:
        try:
            own: tuple[object, ...] = (str(self._wire.source), 0)
            if self._wire.source.version == 6:
                own += (0, self._wire.index if self._wire.source.is_link_local else 0)
            self._reserved.bind(own)
            self.port = self._reserved.getsockname()[1]
        except OSError as error:
            self._fail(f"failed on this host (no free port: {os.strerror(error.errno or 0)})")

    def _send(self, content: Union[Tcp, Udp]) -> None:
        wire = self._wire
        frame = ip_frame(wire.next_mac, wire.mac, wire.source, self.request.address, content)
        wire.channel.send(frame, self.deadline)

    def close(self) -> None:
        self._reserved.close()


class FrameTcp(_FrameExchange):
    """SYN, SYN-ACK, RST: the backend's TCP answers for the VIP, its application never hears of us."""

    def __init__(self, request: Request, wire: Wire) -> None:
        super().__init__(request, wire, socket.SOCK_STREAM)
        self._sequence = secrets.randbits(32)

    def _begin(self) -> None:
        self._reserve()
        if not self.finished:
            headers = _HEADERS[self.request.address.version]
            largest = (min(self._wire.mtu, _USUAL_MTU) - headers).to_bytes(2, "big")
            self._send(Tcp(self.port, self.request.port, self._sequence, 0, SYN, options=b"\x02\x04" + largest))

    def on_reply(self, reply: Reply) -> None:
        following = (self._sequence + 1) % 2**32
        if reply.kind is not Kind.UNREACHABLE and reply.acknowledgement != following:
            return  # it is not about this SYN
        self._saw(reply)
        if reply.kind is Kind.ACCEPTED:
            self._timed(reply)
            self.finished = True
            expected = (reply.sequence + 1) % 2**32
            self._send(Tcp(self.port, self.request.port, following, expected, RST | ACK))
        elif reply.kind is not Kind.FOLLOWED:
            self._fail(refusal(reply, self.request.address.version))


class FrameUdp(_FrameExchange):
    """One datagram, one answer."""

    def __init__(self, request: Request, wire: Wire) -> None:
        super().__init__(request, wire, socket.SOCK_DGRAM)

    def _begin(self) -> None:
        self._reserve()
        if not self.finished:
            self._send(Udp(self.port, self.request.port, self.request.payload))

    def on_reply(self, reply: Reply) -> None:
        self._saw(reply)
        if reply.kind is Kind.DATA:
            self._timed(reply)
            self.finished = True
        else:
            self._fail(refusal(reply, self.request.address.version))
