# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hundreds of backends in one process: each has a network namespace, a NIC with a MAC of its own, and the VIP on lo.

farm.py NIC VIP PORT ADDRESS...: runs in a host of the lab. It prints READY when all listen, takes connections on PORT,
answers HTTP, and notes when each came. When a line comes on its standard input it forgets what it noted; at the end of
that it reports, as JSON: of each backend how many connections came, and the longest and shortest time between two.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time

_CLONE_NEWNET = 0x40000000
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"


class Backend:
    """One of them: when it was asked."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.times: list[float] = []

    def report(self) -> dict[str, object]:
        gaps = [later - sooner for sooner, later in zip(self.times, self.times[1:])]
        return {
            "address": self.address,
            "checks": len(self.times),
            "longest_gap": max(gaps, default=0.0),
            "shortest_gap": min(gaps, default=0.0),
        }


class _Connection(asyncio.Protocol):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._backend.times.append(time.monotonic())

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER)
        self._transport.close()


def _ip(*lines: str, outside: bool = False) -> None:
    where = ["nsenter", "--target", "1", "--net"] if outside else []
    subprocess.run([*where, "ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)


def _listener(number: int, nic: str, vip: str, port: int, address: str) -> socket.socket:
    """Move to a namespace of its own, which lives as long as the socket that is made there."""
    name = f"mv{number}"
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    packed = socket.inet_aton(address)
    mac = f"02:d5:01:00:{packed[2]:02x}:{packed[3]:02x}"
    _ip(
        f"link add {name} link {nic} address {mac} type macvlan mode bridge",
        f"link set {name} netns {os.getpid()}",
        outside=True,
    )
    for setting, value in (("ipv6/conf/all/disable_ipv6", "1"), ("ipv4/conf/all/arp_ignore", "1")):
        with open(f"/proc/sys/net/{setting}", "w", encoding="ascii") as file:
            file.write(value)
    _ip(
        "link set lo up",
        f"address add {vip}/32 dev lo",
        f"address add {address}/24 dev {name}",
        f"link set {name} up",
    )
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("0.0.0.0", port))
    sock.listen(64)
    sock.setblocking(False)
    return sock


def main(nic: str, vip: str, port: int, addresses: list[str]) -> None:
    backends = [Backend(address) for address in addresses]
    sockets = [_listener(number, nic, vip, port, address) for number, address in enumerate(addresses)]

    async def work() -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for backend, sock in zip(backends, sockets):
            await loop.create_server(lambda backend=backend: _Connection(backend), sock=sock)  # type: ignore[misc]

        def listen() -> None:
            for _line in sys.stdin:
                for backend in backends:
                    backend.times.clear()
            loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=listen, daemon=True).start()
        print("READY", flush=True)
        await ended.wait()

    asyncio.run(work())
    print(json.dumps([backend.report() for backend in backends]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
