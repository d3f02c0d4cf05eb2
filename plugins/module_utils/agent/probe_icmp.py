# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe that sends a ping.

Every raw socket gets the answer to every ping. A socket for each probe would make hundreds of them read hundreds of
answers each, so all probes of one family and one source address share one, as long as any of them waits.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from ipaddress import ip_address
from typing import NamedTuple, Optional

from ..common.packet import PROTOCOL_ICMP, PROTOCOL_ICMPV6, IPAddress, checksum
from ..nft_dsr.health_check import HealthCheck
from .probe_base import READ_SIZE, Failure, Progress, Target, open_socket, set_mark, socket_address

_ECHO = struct.Struct("!BBHHH")
_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}
# The level and the number of the option that says which types are let in; Python does not name them.
_FILTER = {4: (255, 1), 6: (PROTOCOL_ICMPV6, 1)}
_PAYLOAD = 16  # random bytes: who has not got them cannot answer
_BUFFER = 4 << 20  # the answers of some thousand pings
_TURN = 128  # answers that are read before others have their turn


class _Echo(NamedTuple):
    """What the answer to a ping has to have, and who waits for it."""

    address: bytes
    payload: bytes
    answered: asyncio.Future[None]


async def ask(_check: HealthCheck, target: Target, _progress: Progress) -> None:
    await Pinger.of(target).ping(target)


class Pinger:
    """A raw socket and the pings that wait for answers on it."""

    _open: dict[tuple[asyncio.AbstractEventLoop, int, Optional[IPAddress]], Pinger] = {}  # noqa: RUF012 -- shared

    @classmethod
    def of(cls, target: Target) -> Pinger:
        """The one for this target, opened if there is none."""
        key = (asyncio.get_running_loop(), target.connect_to.version, target.source)
        found = cls._open.get(key)
        if found is None:
            found = cls._open[key] = cls(target, key)
        return found

    def __init__(self, target: Target, key: tuple[asyncio.AbstractEventLoop, int, Optional[IPAddress]]) -> None:
        self._key = key
        self._loop, self._version, _source = key
        self._mark = target.mark
        self._number = secrets.randbits(16)
        self._sequence = 0
        self._waiting: dict[int, _Echo] = {}
        self._socket = open_socket(target, socket.SOCK_RAW, PROTOCOL_ICMP if self._version == 4 else PROTOCOL_ICMPV6)
        try:
            self._socket.setsockopt(*_FILTER[self._version], only_answers(self._version))
            _enlarge(self._socket)
            self._loop.add_reader(self._socket.fileno(), self._read)
        except BaseException:
            self._socket.close()
            raise

    async def ping(self, target: Target) -> None:
        """Return when the answer has come."""
        self._sequence = sequence = (self._sequence + 1) % (1 << 16)
        echo = _Echo(target.connect_to.packed, secrets.token_bytes(_PAYLOAD), self._loop.create_future())
        self._waiting[sequence] = echo
        try:
            self._send(target, sequence, echo.payload)
            await echo.answered
        finally:
            del self._waiting[sequence]
            if not self._waiting:
                self._close()

    def _send(self, target: Target, sequence: int, payload: bytes) -> None:
        kind = _REQUEST[self._version]
        data = _ECHO.pack(kind, 0, 0, self._number, sequence) + payload
        if self._version == 4:  # of ICMPv6 the kernel makes it
            data = _ECHO.pack(kind, 0, checksum(data), self._number, sequence) + payload
        try:
            if self._mark != target.mark:
                set_mark(self._socket, target.mark)
                self._mark = target.mark
        except OSError as error:
            raise Failure(f"this host: {error.strerror}", own=True) from None
        self._socket.sendto(data, socket_address(target.connect_to, 0))

    def _read(self) -> None:
        for _answer in range(_TURN):
            try:
                data, sender = self._socket.recvfrom(READ_SIZE)
            except OSError:  # there are no more, or an ICMP error has come in, after which the next may be read
                return
            self._take(data, sender[0])

    def _take(self, data: bytes, sender: str) -> None:
        if self._version == 4:
            data = data[(data[0] & 0xF) * 4 :]  # behind the header of IPv4, which IPv6 leaves out
        if len(data) < _ECHO.size:
            return
        kind, _code, _sum, number, sequence = _ECHO.unpack_from(data)
        echo = self._waiting.get(sequence)
        if echo is None or (kind, number) != (_REPLY[self._version], self._number) or echo.answered.done():
            return
        if data[_ECHO.size :] == echo.payload and ip_address(sender.partition("%")[0]).packed == echo.address:
            echo.answered.set_result(None)

    def _close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        del self._open[self._key]


def only_answers(version: int) -> bytes:
    """A filter that lets in nothing but answers to pings: a bit for each type, 0 for those that may pass."""
    if version == 4:
        return struct.pack("=I", 0xFFFFFFFF & ~(1 << _REPLY[4]))
    words = [0xFFFFFFFF] * 8
    words[_REPLY[6] >> 5] &= ~(1 << (_REPLY[6] & 31))
    return struct.pack("=8I", *words)


def _enlarge(opened: socket.socket) -> None:
    """Room for the answers of pings that are sent at once."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, 33, _BUFFER)  # SO_RCVBUFFORCE, for which a permission is needed
    except OSError:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
