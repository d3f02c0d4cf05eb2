# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bulk TCP, on a lab host: `serve PORT CPU` takes whatever comes, `send PORT CPU ADDRESS...` sends when told to.

The sender reads lines NUMBER SECONDS from its standard input: send to that address for so long. It answers
with what was acknowledged in that time: bytes and seconds.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import threading
import time

_CONNECTIONS = 2  # to each address
_CHUNK = memoryview(bytes(1 << 20))
_WARM = 0.05
_BYTES_ACKED = 120  # where it is in struct tcp_info; tcpi_unacked before it
_UNACKED = 24


def _take(connection: socket.socket) -> None:
    room = bytearray(1 << 20)
    # What came is thrown away in the kernel: this program is not what is measured.
    while connection.recv_into(room, len(room), socket.MSG_TRUNC):
        pass


def serve(port: int) -> None:
    listener = socket.create_server(("", port), backlog=64)
    print("READY", flush=True)
    while True:
        connection, _peer = listener.accept()
        threading.Thread(target=_take, args=(connection,), daemon=True).start()


def _information(connection: socket.socket) -> bytes:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)


def _acknowledged(connections: list[socket.socket]) -> int:
    return sum(struct.unpack_from("Q", _information(connection), _BYTES_ACKED)[0] for connection in connections)


def _send_until(connections: list[socket.socket], until: float) -> None:
    while time.monotonic() < until:
        for connection in select.select([], connections, [], 0.05)[1]:
            try:
                connection.send(_CHUNK)
            except BlockingIOError:
                pass


def send(port: int, addresses: list[str]) -> None:
    groups = []
    for address in addresses:
        connections = [socket.create_connection((address, port), timeout=5.0) for _unused in range(_CONNECTIONS)]
        for connection in connections:
            connection.setblocking(False)
        groups.append(connections)
    print("READY", flush=True)
    for line in sys.stdin:
        number, seconds = line.split()
        connections = groups[int(number)]
        _send_until(connections, time.monotonic() + _WARM)
        begun, before = time.monotonic(), _acknowledged(connections)
        _send_until(connections, begun + float(seconds))
        ended, after = time.monotonic(), _acknowledged(connections)
        # Nothing of it is to be under way when the next one begins.
        while any(struct.unpack_from("I", _information(connection), _UNACKED)[0] for connection in connections):
            time.sleep(0.001)
        print(after - before, ended - begun, flush=True)


def main() -> None:
    what, port, processor, *addresses = sys.argv[1:]
    os.sched_setaffinity(0, {int(processor)})
    if what == "serve":
        serve(int(port))
    else:
        send(int(port), addresses)


if __name__ == "__main__":
    main()
