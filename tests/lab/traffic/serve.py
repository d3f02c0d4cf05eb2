# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that answer with the name of their host."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import socket
import struct
from collections.abc import Sequence
from typing import Callable

from .common import Stop, enlarge_buffers, ready, report

HOSTNAME = socket.gethostname()
# Not in Python's socket module
IP_PKTINFO = 8
IPV6_RECVPKTINFO, IPV6_PKTINFO = 49, 50


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A small HTTP/1.1 server: GET / is answered with the host's name, GET /bytes/N with N bytes."""
    name = HOSTNAME.encode()
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            method, path, *_unused = head[0].split()
            length = int(path[7:]) if path.startswith(b"/bytes/") else None
            close = any(line.lower().replace(b" ", b"") == b"connection:close" for line in head[1:])
            body = name + b"\n" if length is None else b""
            fields = [
                b"HTTP/1.1 200 OK" if method == b"GET" else b"HTTP/1.1 405 Method Not Allowed",
                b"Server-Host: " + name,
                b"Content-Type: text/plain",
                b"Content-Length: %d" % (len(body) if length is None else length),
                b"Connection: close" if close else b"Connection: keep-alive",
            ]
            writer.write(b"\r\n".join(fields) + b"\r\n\r\n" + body)
            left = length or 0
            while left > 0:
                await writer.drain()
                writer.write(bytes(min(left, 65536)))
                left -= 65536
            await writer.drain()
            if close:
                break
    writer.close()


async def _lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Each line is answered with the host's name and the line."""
    with contextlib.suppress(OSError, ValueError):
        async for line in reader:
            writer.write(HOSTNAME.encode() + b" " + line)
            await writer.drain()
    writer.close()


def _udp_server(sock: socket.socket) -> Callable[[], None]:
    kind = (socket.IPPROTO_IP, IP_PKTINFO) if sock.family == socket.AF_INET else (socket.IPPROTO_IPV6, IPV6_PKTINFO)

    def answer() -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, control, _unused, peer = sock.recvmsg(65535, 256)
                asked = [(level, what, value) for level, what, value in control if (level, what) == kind]
                if sock.family == socket.AF_INET:
                    # in_pktinfo: index, address to use, address in the header. Index 0: the route decides.
                    asked = [(level, what, struct.pack("=i4s4x", 0, value[8:12])) for level, what, value in asked]
                else:
                    asked = [(level, what, value[:16] + bytes(4)) for level, what, value in asked]
                wish = re.match(rb"(.*) reply (\d+) ", data)
                if wish:
                    data = wish[1].ljust(int(wish[2]), b".")
                with contextlib.suppress(OSError):
                    sock.sendmsg([HOSTNAME.encode() + b" " + data], asked, 0, peer)

    return answer


def _listener(kind: int, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if kind == socket.SOCK_DGRAM:
        # The answer must come from the address that was asked, of many; the kernel would choose its own.
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        enlarge_buffers(sock)
    sock.bind((address, port))
    if kind == socket.SOCK_STREAM:
        sock.listen(4096)
    sock.setblocking(False)
    return sock


def serve(arguments: argparse.Namespace) -> None:
    addresses = arguments.bind or ["0.0.0.0", *(["::"] if os.path.exists("/proc/net/if_inet6") else [])]

    def listeners(kind: int, ports: Sequence[int]) -> list[socket.socket]:
        return [_listener(kind, address, port) for address in addresses for port in ports]

    streams = [(_http, sock) for sock in listeners(socket.SOCK_STREAM, arguments.http)]
    streams += [(_lines, sock) for sock in listeners(socket.SOCK_STREAM, arguments.lines)]
    datagrams = listeners(socket.SOCK_DGRAM, arguments.udp)
    ready()
    if arguments.background:
        if os.fork():
            os._exit(0)
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
    stop = Stop(arguments.seconds, watch_input=not arguments.background)

    async def until_stopped() -> None:
        # Servers that nothing refers to may be collected.
        servers = [await asyncio.start_server(handler, sock=sock, backlog=4096) for handler, sock in streams]
        for sock in datagrams:
            asyncio.get_running_loop().add_reader(sock, _udp_server(sock))
        await stop.come()
        for server in servers:
            server.close()

    asyncio.run(until_stopped())
    report({"served": True})
