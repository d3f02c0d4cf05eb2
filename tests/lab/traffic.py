# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traffic for hosts of a lab: servers, clients, a counter of frames and a sender of crafted ones.

Run inside a host, with nothing but the standard library. Whatever takes time prints READY when it has begun, ends
when its standard input does (after --seconds where those are given, and on SIGTERM in any case) and prints one line
of JSON as its last.

    traffic.py serve --http 80,8080 --lines 7000 --udp 5300
    traffic.py connect 10.77.0.100 80 --count 300 --concurrency 10
    traffic.py hold 10.77.0.100 7000 --count 40 --interval 0.05
    traffic.py capture eth0 --source 10.77.0.100 --protocol tcp
    traffic.py send eth0 --to-mac 02:d5:00:00:00:02 --source 10.77.0.10 --destination 10.77.0.100 --port 80 --flags S
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import errno
import ipaddress
import itertools
import json
import os
import random
import select
import signal
import socket
import statistics
import struct
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple, Optional

HOSTNAME = socket.gethostname()
IP_PKTINFO = 8  # not in Python's socket module
IPV6_RECVPKTINFO, IPV6_PKTINFO = 49, 50
SO_RCVBUFFORCE = 33
MAX_COUNT, MAX_RATE = 1_000_000, 100_000  # of crafted frames: a lab is no flood


def report(result: dict[str, Any]) -> None:
    print(json.dumps(result), flush=True)


def ready() -> None:
    print("READY", flush=True)


class Stop:
    """Says when to end: at a signal, and after some seconds or else at the end of standard input."""

    def __init__(self, seconds: Optional[float], watch_input: bool = True) -> None:
        self.until = time.monotonic() + seconds if seconds else None
        self._watch_input = watch_input and not seconds
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_unused: None)

    def left(self) -> Optional[float]:
        """Seconds left; None when there is no limit."""
        return None if self.until is None else max(0.0, self.until - time.monotonic())

    def wait(self, others: Sequence[Any] = ()) -> bool:
        """Wait until one of ``others`` can be read (False) or it is time to end (True)."""
        mine = [self._read, 0] if self._watch_input else [self._read]
        readable, _unused, _unused = select.select([*mine, *others], [], [], self.left())
        if self._read in readable or (0 in readable and not os.read(0, 4096)):
            return True
        return self.until is not None and time.monotonic() >= self.until

    async def come(self) -> None:
        """Wait for it in a loop of asyncio."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def look() -> None:
            if not os.read(0, 4096):
                loop.remove_reader(0)
                done.set()

        if self._watch_input:
            # Standard input may be a file or /dev/null, which epoll does not take; that is its end.
            try:
                loop.add_reader(0, look)
            except PermissionError:
                done.set()
        loop.add_reader(self._read, done.set)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(done.wait(), self.left())


# -- serve


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
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind((address, port))
    if kind == socket.SOCK_STREAM:
        sock.listen(4096)
    sock.setblocking(False)
    return sock


def _serve(arguments: argparse.Namespace) -> None:
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

    async def serve() -> None:
        # Servers that nothing refers to may be collected.
        servers = [await asyncio.start_server(handler, sock=sock, backlog=4096) for handler, sock in streams]
        for sock in datagrams:
            asyncio.get_running_loop().add_reader(sock, _udp_server(sock))
        await stop.come()
        for server in servers:
            server.close()

    asyncio.run(serve())
    report({"served": True})


# -- connect


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
        sock.connect((arguments.address, arguments.port))
        asked = f"{random.getrandbits(64):016x}".encode().ljust(arguments.size, b".")
        sock.send(asked)
        answer = sock.recv(65535)
        name, _unused, rest = answer.partition(b" ")
        if rest != asked:
            raise ValueError("not what was asked")
        return name.decode(), len(answer)


def _connect(arguments: argparse.Namespace) -> None:
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


async def _hold_tcp(arguments: argparse.Namespace, source_port: int) -> Held:
    local = (arguments.source or None, source_port) if arguments.source or source_port else None
    reader, writer = await asyncio.open_connection(arguments.address, arguments.port, local_addr=local)

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
        local_addr=(arguments.source or "0.0.0.0", source_port) if arguments.source or source_port else None,
    )

    async def ask(text: bytes) -> str:
        transport.sendto(text)
        while True:
            name, _unused, rest = (await answers.get()).partition(b" ")
            if rest == text:  # else one that came too late
                return name.decode()

    return Held(ask, transport.close)


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


# -- capture

ETH_P_ALL, ETH_P_IP, ETH_P_ARP, ETH_P_IPV6, ETH_P_VLAN = 0x0003, 0x0800, 0x0806, 0x86DD, 0x8100
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_STATISTICS, PACKET_MR_PROMISC, PACKET_OUTGOING = 263, 1, 6, 1, 4
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}
NAMES = {number: name for name, number in PROTOCOLS.items()}
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32}
HEAD = 256  # of each frame, enough for all headers and quoted ones


def mac_text(value: bytes) -> str:
    return value.hex(":")


def decode(frame: bytes, length: int, outgoing: bool) -> dict[str, Any]:
    """The fields of a frame by which frames are chosen and told apart; its length is that on the wire."""
    fields: dict[str, Any] = {
        "to_mac": mac_text(frame[0:6]),
        "from_mac": mac_text(frame[6:12]),
        "length": length,
        "direction": "out" if outgoing else "in",
        "protocol": "other",
    }
    (kind,) = struct.unpack_from("!H", frame, 12)
    if kind == ETH_P_ARP and len(frame) >= 42:
        operation, sender, target = struct.unpack_from("!H6x4s6x4s", frame, 20)
        fields.update(
            protocol="arp",
            operation={1: "request", 2: "reply"}.get(operation, str(operation)),
            source=socket.inet_ntoa(sender),
            destination=socket.inet_ntoa(target),
        )
    elif kind == ETH_P_IP and len(frame) >= 34:
        identity, fragment, ttl, protocol, source, destination = struct.unpack_from("!4xHHBB2x4s4s", frame, 14)
        fields.update(
            source=socket.inet_ntoa(source),
            destination=socket.inet_ntoa(destination),
            protocol=NAMES.get(protocol, str(protocol)),
            id=identity,
            ttl=ttl,
            fragment=(fragment & 0x1FFF) * 8,
            more_fragments=bool(fragment & 0x2000),
        )
        if not fragment & 0x1FFF:
            _decode_transport(fields, frame[14 + 4 * (frame[14] & 15) :])
    elif kind == ETH_P_IPV6 and len(frame) >= 54:
        following, hops, source, destination = struct.unpack_from("!BB16s16s", frame, 20)
        rest = frame[54:]
        if following == 44 and len(rest) >= 8:  # fragment header
            following, offset, identity = struct.unpack_from("!BxHI", rest)
            fields.update(id=identity, fragment=offset & 0xFFF8, more_fragments=bool(offset & 1))
            rest = b"" if offset & 0xFFF8 else rest[8:]
        fields.update(
            source=socket.inet_ntop(socket.AF_INET6, source),
            destination=socket.inet_ntop(socket.AF_INET6, destination),
            protocol=NAMES.get(following, str(following)),
            ttl=hops,
        )
        _decode_transport(fields, rest)
    return fields


def _decode_transport(fields: dict[str, Any], rest: bytes) -> None:
    if fields["protocol"] in ("tcp", "udp", "sctp") and len(rest) >= 4:
        fields["source_port"], fields["port"] = struct.unpack_from("!HH", rest)
        if fields["protocol"] == "tcp" and len(rest) >= 14:
            fields["flags"] = "".join(name for name, bit in FLAGS.items() if rest[13] & bit)
    elif fields["protocol"] in ("icmp", "icmpv6") and len(rest) >= 2:
        fields["type"], fields["code"] = rest[0], rest[1]


def _wanted(arguments: argparse.Namespace) -> Callable[[dict[str, Any]], bool]:
    names = ("source", "destination", "protocol", "source_port", "port", "operation", "direction", "from_mac", "to_mac")
    equal = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return lambda fields: (
        all(fields.get(name) == value for name, value in equal.items())
        and (arguments.arp is None or fields["protocol"] == "arp")
        and (arguments.arp is None or arguments.arp in (fields["source"], fields["destination"]))
    )


def _capture(arguments: argparse.Namespace) -> None:
    stop = Stop(arguments.seconds)
    wanted = _wanted(arguments)
    counts: dict[tuple[str, str], list[int]] = collections.defaultdict(lambda: [0, 0])
    records: list[dict[str, Any]] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        sock.bind((arguments.interface, ETH_P_ALL))
        index = socket.if_nametoindex(arguments.interface)
        if arguments.promiscuous:
            member = struct.pack("iHH8s", index, PACKET_MR_PROMISC, 0, bytes(8))
            sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, member)
        sock.setblocking(False)
        buffer = bytearray(HEAD)
        ready()
        ending = False
        while not ending:
            ending = stop.wait([sock])
            # What came until now is counted, at the end too.
            with contextlib.suppress(BlockingIOError):
                while True:
                    # The size that the frame has, not the part of it that is looked at.
                    length, (_unused, _unused, kind, *_unused) = sock.recvfrom_into(buffer, 0, socket.MSG_TRUNC)
                    fields = decode(bytes(buffer[: min(length, HEAD)]), length, kind == PACKET_OUTGOING)
                    if wanted(fields):
                        count = counts[fields["from_mac"], fields["to_mac"]]
                        count[0] += 1
                        count[1] += length
                        if len(records) < arguments.records:
                            records.append(fields)
        _unused, dropped = struct.unpack("II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    report({**_totals(counts), "missed": dropped, "records": records})


def _totals(counts: dict[tuple[str, str], list[int]]) -> dict[str, Any]:
    totals: dict[str, Any] = {"frames": 0, "bytes": 0, "by_source": {}, "by_destination": {}, "pairs": []}
    for (source, destination), (frames, size) in sorted(counts.items()):
        totals["frames"] += frames
        totals["bytes"] += size
        totals["pairs"].append({"from_mac": source, "to_mac": destination, "frames": frames, "bytes": size})
        for way, mac in (("by_source", source), ("by_destination", destination)):
            entry = totals[way].setdefault(mac, {"frames": 0, "bytes": 0})
            entry["frames"] += frames
            entry["bytes"] += size
    return totals


# -- send


def checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def tcp_segment(source: bytes, destination: bytes, ports: tuple[int, int], flags: str, payload: bytes) -> bytes:
    bits = sum(FLAGS[flag] for flag in flags)
    head = struct.pack("!HHIIBBHHH", *ports, 1, 1 if "A" in flags else 0, 5 << 4, bits, 65535, 0, 0)
    pseudo = source + destination + struct.pack("!BBH", 0, 6, len(head) + len(payload))
    return head[:16] + struct.pack("!H", checksum(pseudo + head + payload)) + head[18:] + payload


def udp_datagram(source: bytes, destination: bytes, ports: tuple[int, int], payload: bytes) -> bytes:
    length = 8 + len(payload)
    head = struct.pack("!HHHH", *ports, length, 0)
    pseudo = source + destination + struct.pack("!BBH", 0, 17, length)
    return head[:6] + struct.pack("!H", checksum(pseudo + head + payload) or 0xFFFF) + payload


def ipv4_packets(
    source: bytes, destination: bytes, protocol: int, body: bytes, identity: int, ttl: int, size: int = 0
) -> Iterator[bytes]:
    """One packet, or its fragments of at most ``size`` bytes of the body each."""
    step = size & ~7 if size else max(len(body), 1)
    for offset in range(0, max(len(body), 1), step):
        part = body[offset : offset + step]
        more = 0x2000 if offset + step < len(body) else 0
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(part), identity, more | offset // 8, ttl, protocol, 0)
        head += source + destination
        yield head[:10] + struct.pack("!H", checksum(head)) + head[12:] + part


def _frames(arguments: argparse.Namespace, own_mac: bytes) -> Iterator[bytes]:
    """All frames in order: every source address, of it every source port, of it every step of --flags."""
    ethernet = bytes.fromhex(arguments.to_mac.replace(":", ""))
    ethernet += bytes.fromhex(arguments.from_mac.replace(":", "")) if arguments.from_mac else own_mac
    ethernet += struct.pack("!H", ETH_P_IP)
    destination = socket.inet_aton(arguments.destination)
    first = int(ipaddress.IPv4Address(arguments.source))
    low, high = arguments.source_ports or (40000, 40000)
    payload = bytes(arguments.size)
    identity = random.getrandbits(16)
    while True:
        for address in range(first, first + arguments.sources):
            source = struct.pack("!I", address)
            for port in range(low, high + 1):
                for flags in arguments.flags.split(",") if arguments.protocol == "tcp" else ("",):
                    ports = (port, arguments.port)
                    if arguments.protocol == "tcp":
                        body = tcp_segment(source, destination, ports, flags, payload)
                    else:
                        body = udp_datagram(source, destination, ports, payload)
                    identity = (identity + 1) & 0xFFFF
                    number = PROTOCOLS[arguments.protocol]
                    for packet in ipv4_packets(
                        source, destination, number, body, identity, arguments.ttl, arguments.fragment_size
                    ):
                        yield (ethernet + packet).ljust(60, b"\0")


def _send(arguments: argparse.Namespace) -> None:
    if not 1 <= arguments.count <= MAX_COUNT or not 0 < arguments.rate <= MAX_RATE:
        sys.exit(f"traffic: send at most {MAX_COUNT} frames, at most {MAX_RATE} in a second")
    unknown = set(arguments.flags) - set(FLAGS) - {","}
    if unknown:
        sys.exit(f"traffic: unknown TCP flags {''.join(sorted(unknown))}; they are {''.join(FLAGS)}")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((arguments.interface, 0))
        frames = itertools.islice(_frames(arguments, sock.getsockname()[4]), arguments.count)
        begun, sent = time.monotonic(), 0
        while True:
            # In small bursts: one timer tick is too long for one frame at high rates.
            burst = list(itertools.islice(frames, max(1, int(arguments.rate * 0.002))))
            if not burst:
                break
            for frame in burst:
                sock.send(frame)
            sent += len(burst)
            ahead = begun + sent / arguments.rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
        report({"sent": sent, "seconds": round(time.monotonic() - begun, 6)})


# -- command line


def _ports(text: str) -> list[int]:
    return [int(port) for port in text.split(",") if port]


def _port_range(text: str) -> tuple[int, int]:
    low, _unused, high = text.partition("-")
    return int(low), int(high or low)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    serve = actions.add_parser("serve", help="answer with this host's name")
    serve.add_argument("--http", type=_ports, default=[], help="HTTP on these TCP ports")
    serve.add_argument("--lines", type=_ports, default=[], help="lines on these TCP ports")
    serve.add_argument("--udp", type=_ports, default=[], help="datagrams on these ports")
    serve.add_argument("--bind", action="append", default=[], help="only on this address (may be repeated)")
    serve.add_argument("--background", action="store_true", help="go on after this command has returned")
    serve.set_defaults(action=_serve)

    connect = actions.add_parser("connect", help="short connections, and who answered")
    connect.add_argument("--count", type=int, default=1, help="how many; 0: until stopped")
    connect.add_argument("--concurrency", type=int, default=1)
    connect.add_argument("--path", default="/", help="what to get, such as /bytes/1000000")
    connect.add_argument("--size", type=int, default=16, help="of each datagram")
    connect.add_argument("--interval", type=float, default=0.0, help="seconds from one to the next")
    connect.set_defaults(action=_connect)

    hold = actions.add_parser("hold", help="long-lived connections, and whether they live")
    hold.add_argument("--count", type=int, default=10)
    hold.add_argument("--interval", type=float, default=0.1, help="seconds between two lines of a connection")
    hold.set_defaults(action=lambda arguments: asyncio.run(_hold(arguments)))

    for action in (connect, hold):
        action.add_argument("address")
        action.add_argument("port", type=int)
        action.add_argument("--protocol", choices=("tcp", "udp"), default="tcp")
        action.add_argument("--timeout", type=float, default=2.0, help="seconds to wait for an answer")
        action.add_argument("--source", help="own address")
        action.add_argument("--source-ports", type=_port_range, metavar="LOW-HIGH", help="own ports, in turn")

    capture = actions.add_parser("capture", help="count frames by their MACs")
    capture.add_argument("interface")
    capture.add_argument("--source-port", type=int)
    capture.add_argument("--port", type=int, help="destination port")
    capture.add_argument("--arp", help="ARP that asks for or speaks of this address")
    capture.add_argument("--operation", choices=("request", "reply"), help="of ARP")
    capture.add_argument("--direction", choices=("in", "out"))
    capture.add_argument("--protocol", choices=(*PROTOCOLS, "arp"))
    capture.add_argument("--source")
    capture.add_argument("--destination")
    capture.add_argument("--to-mac", type=str.lower)
    capture.add_argument("--promiscuous", action="store_true", help="frames for other hosts too")
    capture.add_argument("--records", type=int, default=0, help="report the fields of the first so many frames")
    capture.set_defaults(action=_capture)

    send = actions.add_parser("send", help="send crafted IPv4 frames")
    send.add_argument("interface")
    send.add_argument("--to-mac", required=True)
    send.add_argument("--source", required=True, help="the first source address")
    send.add_argument("--sources", type=int, default=1, help="how many addresses from there on")
    send.add_argument("--source-ports", type=_port_range, metavar="LOW-HIGH")
    send.add_argument("--destination", required=True)
    send.add_argument("--port", type=int, required=True)
    send.add_argument("--protocol", choices=("tcp", "udp"), default="tcp")
    send.add_argument("--flags", default="S", help="of TCP, letters of FSRPAU; with commas: one frame each, in turn")
    send.add_argument("--size", type=int, default=0, help="of the payload")
    send.add_argument("--fragment-size", type=int, default=0, help="send in fragments of this size")
    send.add_argument("--ttl", type=int, default=64)
    send.add_argument("--count", type=int, default=1)
    send.add_argument("--rate", type=float, default=1000.0, help="frames in a second")
    send.set_defaults(action=_send)

    for action in (capture, send):
        action.add_argument("--from-mac", type=str.lower)
    for action in (serve, connect, hold, capture):
        action.add_argument("--seconds", type=float, help="end after so long")
    return parser


def main(argv: Optional[Sequence[str]] = None) -> None:
    arguments = _parser().parse_args(argv)
    try:
        arguments.action(arguments)
    except OSError as error:
        sys.exit(f"traffic: {error}")


if __name__ == "__main__":
    main()
