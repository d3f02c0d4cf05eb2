# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packet sockets (AF_PACKET): the NIC to use, the socket on it, frames in and out."""

from __future__ import annotations

import ctypes
import errno
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import bpf
from .errors import HostError
from .iproute import Iproute, Link

ALL_PROTOCOLS = 0x0003  # ETH_P_ALL

# Not in Python's socket module; the values of every architecture but a few that are long gone.
_SO_ATTACH_FILTER = 26
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_SOL_PACKET, _ADD_MEMBERSHIP, _ALL_MULTICAST = 263, 1, 2

_RECEIVE_BUFFER = 4 * 1024 * 1024
_LARGEST_FRAME = 65536 + 64
_TIMESPEC = struct.Struct("@ll")


def ethernet_link(iproute: Iproute, interface: str) -> Link:
    """The NIC called ``interface``, if frames can be sent and received on it. HostError if not."""
    links = iproute.links()
    link = links.get(interface)
    if link is None:
        raise HostError(f"interface '{interface}' does not exist on this host; it has {', '.join(sorted(links))}")
    if not link.mac or link.loopback:
        raise HostError(f"interface '{interface}' is not an Ethernet interface: it has no MAC address to send from")
    if not link.up:
        raise HostError(f"interface '{interface}' is down; bring it up first (ip link set {interface} up)")
    if "NO-CARRIER" in link.flags or "LOWER_UP" not in link.flags:
        raise HostError(f"interface '{interface}' has no carrier: is its cable, or its peer, connected?")
    return link


@contextmanager
def _explained(interface: str) -> Iterator[None]:
    """Turn what the kernel says about a packet socket into an error that names the NIC."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise HostError(
                f"no permission to send and see frames on '{interface}': this needs root or CAP_NET_RAW"
                " (use become: true)"
            ) from error
        if error.errno in (errno.ENETDOWN, errno.ENODEV, errno.ENXIO):
            raise HostError(f"interface '{interface}' went down or away during the exchange of frames") from error
        raise HostError(f"interface '{interface}': frames cannot be exchanged: {error.strerror}") from error


def attach_filter(channel: socket.socket, program: bpf.Program) -> None:
    """Let through only what the program takes. OSError as the kernel says."""
    code = ctypes.create_string_buffer(bpf.encode(program))
    channel.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


class PacketSocket:
    """Sends whole frames out of one NIC and receives those that a filter lets through."""

    def __init__(self, link: Link, protocol: int, program: bpf.Program) -> None:
        self._interface = link.name
        with _explained(link.name):
            # Protocol 0 receives nothing, so no frame gets in before the filter is there.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
            try:
                self._prepare(link, protocol, program)
            except BaseException:
                self._socket.close()
                raise

    def _prepare(self, link: Link, protocol: int, program: bpf.Program) -> None:
        attach_filter(self._socket, program)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:  # CAP_NET_RAW alone does not allow more than the system's bound
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setblocking(False)
        self._socket.bind((link.name, protocol))

    def hear_all_multicast(self) -> None:
        """Have the NIC let frames to all groups in while this socket is open."""
        with _explained(self._interface):
            wanted = struct.pack("@iHH8s", socket.if_nametoindex(self._interface), _ALL_MULTICAST, 0, b"")
            self._socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, wanted)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> PacketSocket:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def send(self, frame: bytes, deadline: float) -> None:
        """Send one frame, waiting for room in the NIC's queue until ``deadline`` (monotonic clock)."""
        with _explained(self._interface):
            while True:
                try:
                    self._socket.send(frame)
                    return
                except OSError as error:
                    left = deadline - time.monotonic()
                    if error.errno not in (errno.EAGAIN, errno.ENOBUFS) or left <= 0:
                        raise
                    # A full NIC queue (ENOBUFS) raises no event: look again after a moment.
                    select.select([], [self._socket] if error.errno == errno.EAGAIN else [], [], min(left, 0.002))

    def frames(self) -> Iterator[tuple[bytes, float]]:
        """Every frame that is waiting, each with the wall-clock time at which the kernel received it."""
        while True:
            with _explained(self._interface):
                try:
                    frame, ancillary, _flags, _address = self._socket.recvmsg(
                        _LARGEST_FRAME, socket.CMSG_SPACE(_TIMESPEC.size)
                    )
                except BlockingIOError:
                    return
                except InterruptedError:
                    continue
            yield frame, _timestamp(ancillary)

    def wait(self, deadline: float) -> bool:
        """Wait for a frame until ``deadline`` (monotonic clock); False when none came."""
        left = deadline - time.monotonic()
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        # Rounded up: rounding down would spin through the last millisecond.
        return bool(poller.poll(max(0, int(left * 1000) + 1 if left > 0 else 0)))


def _timestamp(ancillary: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and len(data) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return int(seconds) + int(nanoseconds) / 1e9
    return time.time()
