# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping connections open while something else happens, and hearing what becomes of each.

A TCP connection is asked by what the user gave as payload or, as nothing is known of the service's protocol
otherwise, by TCP keepalives, which any TCP answers and no application hears of. Either comes from the kernel's own
socket, so it follows a load balancer that moves to another host, and is sent again when it is lost, as any client's
packets are. What ends the hold is the last question: a FIN, or one more datagram, has to be answered.
"""

from __future__ import annotations

import errno
import heapq
import math
import os
import resource
import select
import socket
import time
from typing import Optional

from ..common.errors import HostError
from .exchange import CHUNK, KernelExchange, refusal, stuck
from .held import Answers, Clock, Held, Outcome
from .observer import Kind, Observer, Reply
from .report import Attempt
from .request import Request

_AT_A_TIME = 50  # handshakes under way
_MOST_KEEPALIVES = 127  # that may be lost before the kernel gives up; more cannot be set
_LONGEST_KEEPALIVE = 32767
_DESCRIPTORS_BESIDE = 64


class Kept(KernelExchange):
    """A connection that is opened, asked again and again, and closed at last.

    ``opened`` once it was answered; ``finished`` once nothing more is to be learnt of it.
    """

    def __init__(self, request: Request, kind: int) -> None:
        super().__init__(request, kind)
        self.opened = False
        self.answers = Answers()
        self._code = 0
        self._ending: Optional[float] = None
        self._outcome: Optional[Outcome] = None
        self._cause = ""
        self._ended: Optional[float] = None

    @property
    def held(self) -> Held:
        answers = self.answers
        return Held(
            attempt=Attempt(self.port, tuple(self._macs), self._rtt, self._error),
            outcome=self._outcome,
            cause=self._cause,
            ended=self._ended,
            mac=answers.mac,
            moves=tuple(answers.moves),
            gap=None if answers.last is None else answers.gap,
            gap_from=answers.gap_from,
        )

    def ask(self) -> None:
        """Send something that has to be answered."""

    def end(self, now: float) -> None:
        """The hold is over: ask for the last time."""
        self._ending = now
        self.deadline = now + self.request.timeout

    def _answered(self, reply: Reply) -> None:
        self._saw(reply)
        self._timed(reply)
        # The frame's own time, and not when this process came to read it; by the clock that nobody sets.
        ago = max(0.0, time.time() - reply.when)
        self.answers.heard(reply.mac, time.monotonic() - ago)

    @property
    def _answered_at_the_end(self) -> bool:
        return self._ending is not None and self.answers.last is not None and self.answers.last >= self._ending

    def _become(self, outcome: Outcome, cause: str = "") -> None:
        self._outcome, self._cause = outcome, cause
        self.finished = True
        if outcome is not Outcome.HELD:
            self._ended = time.monotonic()

    def on_deadline(self) -> None:
        if self.finished:
            return
        if not self.opened:
            self._fail(self._overdue())
            return
        if self.answers.last is None:
            self._become(Outcome.HELD)  # no frame was seen at all: the wrong NIC is watched, as the report says
            return
        self.answers.silent_until(time.monotonic())
        self._become(Outcome.BROKEN, self._silence())

    def _silence(self) -> str:
        return f"silent at the end of the hold, for more than {self.request.timeout:g} s"


class KeptTcp(Kept):
    """A connection that stands, and is seen to."""

    def __init__(self, request: Request) -> None:
        super().__init__(request, socket.SOCK_STREAM)
        self._closed = False
        self._first: Optional[int] = None  # what the SYN-ACK acknowledges
        self._sent = 0

    def _begin(self) -> None:
        self._connect()

    def events(self) -> int:
        return select.EPOLLIN if self._connected else select.EPOLLOUT

    def on_socket(self) -> None:
        self._code = self._code or self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if self._code:
            return
        if not self._connected:
            self._connected = True
            self._keep_alive()
            return
        try:
            while True:
                if not self._socket.recv(CHUNK):
                    self._closed = True
                    return
        except BlockingIOError:
            pass
        except OSError as error:
            self._code = error.errno or errno.EIO

    def _keep_alive(self) -> None:
        own = self._socket
        if self.request.payload:
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return
        every = min(_LONGEST_KEEPALIVE, max(1, math.ceil(self.request.interval)))
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, every)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, every)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _MOST_KEEPALIVES)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def on_reply(self, reply: Reply) -> None:
        if reply.kind in (Kind.ACCEPTED, Kind.FOLLOWED):
            if self._is_ours(reply):
                self._answered(reply)
        elif reply.kind is not Kind.UNREACHABLE or not self.opened:
            self._refused = reply  # (An ICMP error breaks no connection that stands.)

    def _is_ours(self, reply: Reply) -> bool:
        """Whether it acknowledges what was sent here, and not by an earlier connection of the same port.

        A backend that still has such a one (a connection that broke for us, perhaps) answers our SYN by its numbers.
        """
        if reply.kind is Kind.ACCEPTED and not self.opened:
            self._first = reply.acknowledgement
        # The FIN counts as one.
        return self._first is not None and (reply.acknowledgement - self._first) % 2**32 <= self._sent + 1

    def judge(self) -> None:
        if not self.opened:
            if self._code:
                self._failed(self._code)
            else:
                self.opened = self._connected
        elif self._code:
            self._judge_failure()
        elif self._closed and self._ending is None:
            self._become(Outcome.CLOSED)
        elif self._answered_at_the_end:
            self._become(Outcome.HELD)

    def _judge_failure(self) -> None:
        refused = self._refused
        if refused is None:
            timed_out = self._code == errno.ETIMEDOUT
            if timed_out:
                self.answers.silent_until(time.monotonic())
            cause = (
                "silent until this host gave up" if timed_out else f"failed on this host ({os.strerror(self._code)})"
            )
            self._become(Outcome.BROKEN, cause)
            return
        stranger = bool(self.answers.mac) and refused.mac != self.answers.mac
        if self._ending is not None and refused.kind is Kind.ABORTED and not stranger:
            self._become(Outcome.HELD)  # so do some services close
            return
        cause = f"reset by {refused.mac}"
        self._become(Outcome.BROKEN, f"{cause}, which is not the backend that it was with" if stranger else cause)

    def ask(self) -> None:
        if not self.request.payload or self._ending is not None:
            return
        try:
            self._sent += self._socket.send(self.request.payload)
        except OSError:
            pass  # full while nobody answers, or over, of which the socket tells

    def end(self, now: float) -> None:
        super().end(now)
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._code = self._code or error.errno or errno.EIO

    def _overdue(self) -> str:
        return stuck(self._macs[0]) if self._macs else super()._overdue()


class KeptUdp(Kept):
    """The same ports asked again and again. It breaks by being unanswered at the end; before, that is a gap."""

    def __init__(self, request: Request) -> None:
        super().__init__(request, socket.SOCK_DGRAM)
        self._received = False

    def _begin(self) -> None:
        self._connect_and_send()

    def events(self) -> int:
        return select.EPOLLIN

    def on_socket(self) -> None:
        try:
            while True:
                self._socket.recv(CHUNK)
                self._received = True
        except BlockingIOError:
            pass
        except OSError as error:
            self._code = error.errno or errno.EIO

    def on_reply(self, reply: Reply) -> None:
        if reply.kind is Kind.DATA:
            self._refused = None
            self._answered(reply)
        else:
            self._refused = reply

    def judge(self) -> None:
        if not self.opened:
            if self._received:
                self.opened = True
            elif self._code:
                self._failed(self._code)
        elif self._answered_at_the_end:
            self._become(Outcome.HELD)

    def ask(self) -> None:
        try:
            self._socket.send(self.request.payload)
        except OSError:
            pass  # an ICMP error of before, or nobody answers ARP for now: what counts is the answer to a later one

    def end(self, now: float) -> None:
        super().end(now)
        self.ask()

    def _silence(self) -> str:
        if self._refused:
            return f"{refusal(self._refused, self.request.address.version)} at the end of the hold"
        return super()._silence()


class _Turns:
    """Waits for what comes first: news of a socket, a frame, the next question that is due."""

    def __init__(self, request: Request, observer: Observer) -> None:
        self._interval = request.interval
        self._observer = observer
        self._poll = select.epoll()
        self._poll.register(observer.channel.fileno(), select.EPOLLIN)
        self._by_descriptor: dict[int, Kept] = {}
        self._by_port: dict[int, Kept] = {}
        self._due: list[tuple[float, int]] = []

    def add(self, kept: Kept) -> None:
        self._by_port[kept.port] = kept
        self._by_descriptor[kept.fileno()] = kept
        self._poll.register(kept.fileno(), kept.events())

    def remove(self, kept: Kept) -> None:
        """It is over."""
        self._poll.unregister(kept.fileno())
        del self._by_descriptor[kept.fileno()]
        del self._by_port[kept.port]
        kept.close()

    def close(self) -> None:
        for kept in self._by_descriptor.values():
            kept.close()
        self._poll.close()

    @property
    def alive(self) -> list[Kept]:
        return list(self._by_port.values())

    def keep(self, until: float) -> None:
        """Take news until a time of the monotonic clock, or as long as there is anything to keep."""
        while self._by_port and time.monotonic() < until:
            self.take(until)

    def take(self, until: float) -> None:
        """Wait for news until a time of the monotonic clock, and take them in."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            due, port = heapq.heappop(self._due)
            kept = self._by_port.get(port)
            if kept is not None:
                kept.ask()
                # One that is late is not made up for by two at once.
                heapq.heappush(self._due, (max(due + self._interval, now), port))
        wake = min(until, self._due[0][0]) if self._due else until
        touched: dict[int, Kept] = {}
        for descriptor, _events in self._poll.poll(max(0.0, wake - time.monotonic())):
            kept = self._by_descriptor.get(descriptor)
            if kept is not None:
                kept.on_socket()
                touched[kept.port] = kept
        # Frames second: what a socket reported above has its frame in this queue already.
        for reply in self._observer.replies():
            kept = self._by_port.get(reply.port)
            if kept is not None:
                kept.on_reply(reply)
                touched[kept.port] = kept
        for kept in touched.values():
            self._judge(kept)

    def _judge(self, kept: Kept) -> None:
        opened = kept.opened
        if not kept.finished:
            kept.judge()
        if kept.finished:
            self.remove(kept)
        elif kept.opened and not opened:
            self._poll.modify(kept.fileno(), kept.events())
            heapq.heappush(self._due, (time.monotonic() + self._interval, kept.port))

    def finish(self, kept: Kept) -> None:
        """Its time is over."""
        kept.on_deadline()
        self.remove(kept)


def hold(request: Request, observer: Observer) -> tuple[list[Held], Clock]:
    """Open connections, keep them for as long as asked, close them."""
    _make_room(request.connections)
    turns = _Turns(request, observer)
    try:
        every = _open(request, turns)
        clock = Clock(time.monotonic(), time.time())
        turns.keep(clock.monotonic + request.hold)
        now = time.monotonic()
        for kept in turns.alive:
            kept.end(now)
        turns.keep(now + request.timeout)
        for kept in turns.alive:
            turns.finish(kept)
    finally:
        turns.close()
    return [kept.held for kept in every], clock


def _open(request: Request, turns: _Turns) -> list[Kept]:
    every: list[Kept] = []
    opening: list[Kept] = []
    while opening or len(every) < request.connections:
        while len(opening) < _AT_A_TIME and len(every) < request.connections:
            kept: Kept = KeptTcp(request) if request.protocol == "tcp" else KeptUdp(request)
            every.append(kept)
            kept.start()
            if kept.finished:
                kept.close()
                continue
            turns.add(kept)
            opening.append(kept)
        if opening:
            turns.take(min(kept.deadline for kept in opening))
        now = time.monotonic()
        for kept in opening:
            if kept.deadline <= now and not kept.opened and not kept.finished:
                turns.finish(kept)
        opening = [kept for kept in opening if not kept.opened and not kept.finished]
    return every


def _make_room(connections: int) -> None:
    """Each connection takes a file descriptor for as long as it is kept."""
    needed = connections + _DESCRIPTORS_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard if hard == -1 else max(hard, needed)))
    except (ValueError, OSError):
        raise HostError(
            f"this host allows {hard} open files a process, and {connections} connections that are kept open take"
            f" {needed}; keep fewer ('connections'), or raise the limit (ulimit -n)"
        ) from None
