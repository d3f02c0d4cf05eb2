# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all kinds of probes share: whom they ask, how they fail, and sockets that leave nothing behind.

A probe may be cancelled at any of its waits. All that it opens is closed without waiting, so that it is gone by then.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any, Optional

from ..common.packet import IPAddress

READ_SIZE = 65536
_CAUSE_LENGTH = 160

# What comes of this host's own state, and says nothing of the host that was to be asked.
_OWN = frozenset(
    {
        errno.EACCES,
        errno.EADDRINUSE,
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
        errno.EAGAIN,
        errno.EINVAL,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENETUNREACH,  # no route: backends are on this host's own segments
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENODEV,
        errno.ENOMEM,
        errno.EPERM,
        errno.EPROTONOSUPPORT,
    }
)
_WORDS = {
    errno.ECONNABORTED: "connection reset",
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "host unreachable",
    errno.EPIPE: "connection reset",
    errno.ETIMEDOUT: "no answer",
}


@dataclass(frozen=True)
class Target:
    """Whom a check is about, and how to get there.

    ``connect_to`` is where packets are addressed to: the VIP or the backend, or what stands for it. A link-local
    address has its NIC as its zone. ``mark`` is that of the packets, by which this host sends them on their way;
    0 is none.
    """

    backend: IPAddress
    vip: IPAddress
    connect_to: IPAddress
    port: int = 0
    source: Optional[IPAddress] = None
    mark: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a check went. ``cause`` is '' when it went well.

    ``own`` is true if this host could not ask: it lacks a permission, a descriptor, a source address. The
    backend may be as well as it ever was.
    """

    ok: bool
    cause: str
    seconds: float
    own: bool = False


class Failure(Exception):
    """The check failed; the text says in a few words why."""

    def __init__(self, cause: str, own: bool = False) -> None:
        super().__init__(cause)
        self.own = own

    @classmethod
    def of(cls, error: OSError) -> Failure:
        """The same in a person's words."""
        number = error.errno or 0
        if number in _OWN:
            return cls(f"this host: {os.strerror(number)}", own=True)
        return cls(_WORDS.get(number) or (os.strerror(number).lower() if number else str(error)))


class Progress:
    """How far a probe came: what is to be said if its time is over now."""

    def __init__(self) -> None:
        self.lacking = "no answer"


def printable(text: str, length: int = _CAUSE_LENGTH) -> str:
    """What a stranger sent, fit for a log: of one line, without control characters, not too long."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in text[: length + 1])
    return clean if len(clean) <= length else f"{clean[: length - 3]}..."


def socket_address(address: IPAddress, port: int) -> tuple[Any, ...]:
    """What the kernel's sockets take: numbers alone, so that nothing has to be looked up."""
    if isinstance(address, IPv6Address):
        zone = address.scope_id
        try:
            index = socket.if_nametoindex(zone) if zone else 0
        except OSError:
            raise Failure(f"this host: no NIC {zone}", own=True) from None
        return str(address).partition("%")[0], port, 0, index
    return str(address), port


def open_socket(target: Target, kind: int, protocol: int = 0) -> socket.socket:
    """A socket for packets to the target. Raises Failure where this host cannot have one."""
    family = socket.AF_INET if target.connect_to.version == 4 else socket.AF_INET6
    try:
        opened = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        raise Failure(f"this host: {error.strerror}", own=True) from None
    try:
        if target.mark:
            set_mark(opened, target.mark)
        if target.source is not None:
            opened.bind(socket_address(target.source, 0))
    except OSError as error:
        opened.close()
        raise Failure(f"this host: {error.strerror}", own=True) from None
    except BaseException:
        opened.close()
        raise
    return opened


def set_mark(opened: socket.socket, mark: int) -> None:
    """Mark the packets that are sent from now on; of a number Python would take no more than 31 bits."""
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))


class Connection:
    """A TCP connection that this host forgets as soon as it is closed.

    Who closes first has the connection in TIME_WAIT for a minute, and with it a source port. With hundreds of
    backends and a check every two seconds there would be tens of thousands of these. So a server that has closed
    gets the usual end, and one that has not gets a reset.
    """

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._loop = asyncio.get_running_loop()
        self._ended = False
        self._received = False

    @classmethod
    async def to(cls, target: Target) -> Connection:
        connection = cls(open_socket(target, socket.SOCK_STREAM))
        try:
            address = socket_address(target.connect_to, target.port)
            await connection._loop.sock_connect(connection._socket, address)
        except BaseException:
            connection.close()
            raise
        return connection

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def receive(self) -> bytes:
        """What has come, at least a byte of it; b'' when the server has closed."""
        if self._received:
            await asyncio.sleep(0)  # who sends faster than it is read must not keep everybody else waiting
        self._received = True
        data = await self._loop.sock_recv(self._socket, READ_SIZE)
        self._ended = not data
        return data

    def close(self) -> None:
        if not self._ended and self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
