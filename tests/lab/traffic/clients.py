# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients: short connections and long-lived ones, and who answered."""

from __future__ import annotations

import argparse
import asyncio
import collections
import errno
import itertools
import random
import socket
import statistics
import threading
import time
from typing import Any, Callable, NamedTuple, Optional

from .common import Stop, enlarge_buffers, ready, report


class Tally:
    """What became of many tries."""

    def __init__(self) -> None:
        self.hosts: collections.Counter[str] = collections.Counter()
        self.errors: collections.Counter[str] = collections.Counter()
        self.durations: list[float] = []
        self.bytes = 0

    def result(self, seconds: float) -> dict[str, Any]:
        times = sorted(self.durations) or [0.0]
        return {
            "ok": sum(self.hosts.values()),
            "failed": sum(self.errors.values()),
            "by_host": dict(sorted(self.hosts.items())),
            "errors": dict(self.errors),
            "bytes": self.bytes,
            "seconds": round(seconds, 6),
            "ms": {
                name: round(1000 * value, 3)
                for name, value in (("min", times[0]), ("median", statistics.median(times)), ("max", times[-1]))
            },
        }


def why(error: BaseException) -> str:
    """A short name of what went wrong, the same for all of a kind."""
    if isinstance(error, (socket.timeout, asyncio.TimeoutError)):
        return "timeout"
    if isinstance(error, OSError) and error.errno:
        return errno.errorcode.get(error.errno, str(error.errno))
    return str(error) or type(error).__name__


def _client(arguments: argparse.Namespace, kind: int, source_port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in arguments.address else socket.AF_INET, kind)
    sock.settimeout(arguments.timeout)
    if arguments.source or source_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((arguments.source or "", source_port))
    return sock


def _ask_http(arguments: argparse.Namespace, source_port: int) -> tuple[str, int]:
    """One connection, one request; the name of the host that answered and the bytes of the body."""
    with _client(arguments, socket.SOCK_STREAM, source_port) as sock:
        sock.connect((arguments.address, arguments.port))
        request = f"GET {arguments.path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
        sock.sendall(request.encode())
        data = b""
        while b"\r\n\r\n" not in data:
            more = sock.recv(65536)
            if not more:
                raise ValueError("closed without an answer")
            data += more
        head, _unused, body = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        got, expected = len(body), int(fields[b"content-length"])
        while got < expected:
            count = len(sock.recv(1 << 20))
            if not count:
                raise ValueError("closed in the middle of an answer")
            got += count
        return fields[b"server-host"].decode(), got


def _ask_udp(arguments: argparse.Namespace, source_port: int) -> tuple[str, int]:
    """One datagram from a port of its own; the name of the host that answered and the size of its answer."""
    with _client(arguments, socket.SOCK_DGRAM, source_port) as sock:
        enlarge_buffers(sock)
        sock.connect((arguments.address, arguments.port))
        token = f"{random.getrandbits(64):016x}".encode()
        wish = b"" if arguments.reply_size is None else b" reply %d " % arguments.reply_size
        asked = (token + wish).ljust(arguments.size, b".")
        sock.send(asked)
        answer = sock.recv(65535)
        name, _unused, rest = answer.partition(b" ")
        if rest != (token.ljust(arguments.reply_size, b".") if wish else asked):
            raise ValueError("not what was asked")
        return name.decode(), len(answer)


def connect(arguments: argparse.Namespace) -> None:
    ask = _ask_udp if arguments.protocol == "udp" else _ask_http
    stop = Stop(arguments.seconds)
    tally, lock = Tally(), threading.Lock()
    first, last = arguments.source_ports or (0, 0)
    limit = arguments.count or (10**12 if not last else last - first + 1)
    tries = iter(range(limit))
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            with lock:
                number = next(tries, None)
            if number is None:
                return
            begun = time.monotonic()
            host, error, size = "", "", 0
            try:
                host, size = ask(arguments, first + number % (last - first + 1) if last else 0)
            except (OSError, ValueError, KeyError) as problem:
                error = why(problem)
            with lock:
                tally.durations.append(time.monotonic() - begun)
                tally.bytes += size
                if error:
                    tally.errors[error] += 1
                else:
                    tally.hosts[host] += 1
            if arguments.interval:
                ended.wait(arguments.interval)

    begun = time.monotonic()
    workers = [threading.Thread(target=work, daemon=True) for _unused in range(arguments.concurrency)]
    if arguments.count:
        # As many as were asked for, whatever standard input is.
        for worker in workers:
            worker.start()
    else:
        ready()
        for worker in workers:
            worker.start()
        while not stop.wait():
            pass
        ended.set()
    for worker in workers:
        worker.join()
    report(tally.result(time.monotonic() - begun))


# -- hold


class Held(NamedTuple):
    """One long-lived connection: how to ask over it."""

    ask: Callable[[bytes], Any]  # awaitable: the name of the host that answered
    close: Callable[[], None]


def _local(arguments: argparse.Namespace, source_port: int) -> Optional[tuple[str, int]]:
    """The own address to use; None where the kernel may choose it all."""
    if not arguments.source and not source_port:
        return None
    return arguments.source or ("::" if ":" in arguments.address else "0.0.0.0"), source_port


async def _hold_tcp(arguments: argparse.Namespace, source_port: int) -> Held:
    reader, writer = await asyncio.open_connection(
        arguments.address, arguments.port, local_addr=_local(arguments, source_port)
    )

    async def ask(text: bytes) -> str:
        writer.write(text + b"\n")
        answer = await reader.readline()
        name, _unused, rest = answer.partition(b" ")
        if rest != text + b"\n":
            raise ValueError("not what was asked" if answer else "closed")
        return name.decode()

    return Held(ask, writer.close)


async def _hold_udp(arguments: argparse.Namespace, source_port: int) -> Held:
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            answers.put_nowait(data)

    transport, _unused = await asyncio.get_running_loop().create_datagram_endpoint(
        Protocol,
        remote_addr=(arguments.address, arguments.port),
        local_addr=_local(arguments, source_port),
    )

    async def ask(text: bytes) -> str:
        transport.sendto(text)
        while True:
            name, _unused, rest = (await answers.get()).partition(b" ")
            if rest == text:  # else one that came too late
                return name.decode()

    return Held(ask, transport.close)


def hold(arguments: argparse.Namespace) -> None:
    asyncio.run(_hold(arguments))


async def _hold(arguments: argparse.Namespace) -> None:
    stop = Stop(arguments.seconds)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    open_one = _hold_udp if arguments.protocol == "udp" else _hold_tcp
    first = arguments.source_ports[0] if arguments.source_ports else 0
    hosts: dict[int, str] = {}
    moved: collections.Counter[str] = collections.Counter()
    errors: collections.Counter[str] = collections.Counter()
    broken_at: dict[int, str] = {}
    lost = sent = 0
    longest = 0.0

    async def open_and_ask(number: int) -> Optional[Held]:
        try:
            held = await asyncio.wait_for(open_one(arguments, first + number if first else 0), arguments.timeout)
            hosts[number] = await asyncio.wait_for(held.ask(b"%d hello" % number), arguments.timeout)
            return held
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            errors[why(error)] += 1
            return None

    async def talk(number: int, held: Held) -> None:
        nonlocal lost, sent, longest
        for line in itertools.count():
            await asyncio.sleep(arguments.interval)
            if ended.is_set():
                return  # wait_for() of Python 3.11 and before may have swallowed the cancelling
            begun = loop.time()
            sent += 1
            try:
                host = await asyncio.wait_for(held.ask(b"%d %d" % (number, line)), arguments.timeout)
            except (OSError, ValueError, asyncio.TimeoutError) as error:
                errors[why(error)] += 1
                # A datagram may be lost; a connection that does not answer is broken.
                if arguments.protocol == "udp":
                    lost += 1
                    continue
                broken_at[number] = hosts[number]
                return
            longest = max(longest, loop.time() - begun)
            if host != hosts[number]:
                moved[f"{hosts[number]} > {host}"] += 1
                hosts[number] = host

    gate = asyncio.Semaphore(50)

    async def opened(number: int) -> Optional[Held]:
        async with gate:
            return await open_and_ask(number)

    held = await asyncio.gather(*(opened(number) for number in range(arguments.count)))
    spread = collections.Counter(hosts.values())
    ready()
    tasks = [loop.create_task(talk(number, one)) for number, one in enumerate(held) if one is not None]
    await stop.come()
    ended.set()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for one in held:
        if one is not None:
            one.close()
    report(
        {
            "connections": arguments.count,
            "opened": len(hosts),
            "broken": len(broken_at),
            "broken_by_host": dict(sorted(collections.Counter(broken_at.values()).items())),
            "moved": sum(moved.values()),
            "moves": dict(moved),
            "lost": lost,
            "by_host": dict(sorted(spread.items())),
            "lines": sent,
            "longest_gap": round(longest, 6),
            "errors": dict(errors),
        }
    )
