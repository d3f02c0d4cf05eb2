# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of probes share: checks, targets, and servers that behave as they are told."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Coroutine
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar

from ansible_collections.dsr.layer2.plugins.module_utils.agent.probes import Outcome, Target, probe
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.health_check import HealthCheck, parse_health_check

LOCAL = "127.0.0.1"
LOCAL6 = "::1"
VIP, BACKEND = ipaddress.ip_address("10.77.0.100"), ipaddress.ip_address("10.77.0.21")
VIP6, BACKEND6 = ipaddress.ip_address("fd00:77::100"), ipaddress.ip_address("fd00:77::21")

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_Result = TypeVar("_Result")


def health_check(type: str, **options: Any) -> HealthCheck:
    """A check with a timeout that is long enough for any machine, unless another is given."""
    port = {} if type == "icmp" else {"port": 1}
    timing = {"interval": 30, "timeout": 20}
    return parse_health_check(
        {"type": type, **port, **timing, **options}, "health_check", address=VIP, protocol="tcp", ports=()
    )


def target(port: int = 0, address: str = LOCAL, **other: Any) -> Target:
    connect_to = ipaddress.ip_address(address)
    vip, backend = (VIP, BACKEND) if connect_to.version == 4 else (VIP6, BACKEND6)
    return Target(backend=backend, vip=vip, connect_to=connect_to, port=port, **other)


def run(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run to the end, after which nothing may be left open, nor a thread."""
    before, threads = descriptors(), threading.active_count()
    result = asyncio.run(coroutine)
    assert descriptors() == before
    assert threading.active_count() == threads
    return result


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def cleanly(check: HealthCheck, wanted: Target) -> Outcome:
    """Probe, and see to it that nothing is open as soon as that is done."""
    outcome = await probe(check, wanted)
    assert client_sockets(wanted) == 0
    return outcome


def client_sockets(wanted: Target) -> int:
    """How many sockets of this process are connected, or about to be, to the target."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=int(name)) as opened:
            try:
                internet = opened.family in (socket.AF_INET, socket.AF_INET6)
                found += internet and opened.getpeername()[1] == wanted.port
            finally:
                opened.detach()
    return found


def states(port: int) -> list[str]:
    """The states that the kernel has for clients' connections to a port."""
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]:
            _number, _local, remote, state = line.split()[:4]
            if int(remote.rpartition(":")[2], 16) == port:
                found.append(state)
    return found


TIME_WAIT = "06"


@contextlib.asynccontextmanager
async def serving(talk: Talk, address: str = LOCAL, tls: Optional[ssl.SSLContext] = None) -> AsyncIterator[int]:
    """A server on a port of its own, which talks to each client in its own way."""
    talks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def carry() -> None:
            try:
                await talk(reader, writer)
            except ConnectionError:
                pass
            finally:
                writer.transport.abort()

        task = asyncio.get_running_loop().create_task(carry())
        talks.add(task)
        task.add_done_callback(talks.discard)

    server = await asyncio.start_server(accept, address, 0, ssl=tls, backlog=1024)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(talks):
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted is closed in the loop's next turn
        await server.wait_closed()


async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    while await reader.read(65536):
        pass


def saying(data: bytes, close: bool = True, wait_for: bytes = b"") -> Talk:
    """Say this, perhaps after a question, and close or go on listening."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if wait_for:
            await reader.readuntil(wait_for)
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()
            await writer.wait_closed()
        else:
            await silence(reader, writer)

    return talk


def free_port(address: str = LOCAL, kind: int = socket.SOCK_STREAM) -> int:
    """One where nobody listens."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as opened:
        opened.bind((address, 0))
        port: int = opened.getsockname()[1]
        return port


@contextlib.contextmanager
def black_hole() -> Any:
    """A port of which no answer comes: its queue is full, so that the kernel drops whoever else begins."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server((LOCAL, 0), backlog=0))
        port = server.getsockname()[1]
        for _client in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect((LOCAL, port))
        yield port
