# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all probes have in common, and the one that connects."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import resource
import socket
import threading
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.agent import probe_base, probes
from ansible_collections.dsr.layer2.plugins.module_utils.agent.probes import Outcome, probe
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.agent.probing import (
    LOCAL,
    LOCAL6,
    TIME_WAIT,
    Talk,
    black_hole,
    cleanly,
    client_sockets,
    descriptors,
    free_port,
    health_check,
    run,
    saying,
    serving,
    silence,
    states,
    target,
)


async def ask(talk: Talk, address: str = LOCAL, **options: Any) -> Outcome:
    """What a tcp check says of a server that talks so."""
    async with serving(talk, address) as port:
        return await cleanly(health_check("tcp", **options), target(port, address))


# -- connecting


@pytest.mark.parametrize("address", [LOCAL, LOCAL6])
def test_a_server_that_accepts_is_well(address: str) -> None:
    outcome = run(ask(silence, address))
    assert (outcome.ok, outcome.cause, outcome.own) == (True, "", False)
    assert 0 < outcome.seconds < 20


@pytest.mark.parametrize("address", [LOCAL, LOCAL6])
def test_nobody_listens(address: str) -> None:
    outcome = run(cleanly(health_check("tcp"), target(free_port(address), address)))
    assert (outcome.ok, outcome.cause, outcome.own) == (False, "connection refused", False)


def test_nobody_answers() -> None:
    with black_hole() as port:
        outcome = run(probe(health_check("tcp", timeout=0.2), target(port)))
    assert (outcome.ok, outcome.cause) == (False, "no answer within 0.2 s")
    assert 0.2 <= outcome.seconds < 10


def test_a_connection_leaves_nothing_to_this_host() -> None:
    """The server is told by a reset, so that no state stays behind, and no source port."""

    async def main() -> None:
        ended = asyncio.get_running_loop().create_future()

        async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            try:
                ended.set_result(await reader.read())
            except ConnectionResetError:
                ended.set_result("reset")

        async with serving(talk) as port:
            assert (await probe(health_check("tcp"), target(port))).ok
            assert await ended == "reset"
            assert TIME_WAIT not in states(port)

    run(main())


# -- what the server says first


@pytest.mark.parametrize("close", [True, False])
def test_a_server_says_what_is_expected(close: bool) -> None:
    assert run(ask(saying(b"220 mail.example.net ESMTP\r\n", close), expect="220 ")).ok


def test_a_greeting_may_come_in_pieces_and_in_utf8() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in "grüß Gott".encode():
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        await silence(reader, writer)

    assert run(ask(talk, expect="grüß Gott")).ok


@pytest.mark.parametrize(
    ("said", "close", "cause"),
    [
        (b"421 busy\r\n", False, "server said '421 busy??', wanted '220 '"),
        (b"421 busy", True, "server said '421 busy', wanted '220 '"),
        (b"22", True, "server said '22', wanted '220 '"),
        (b"", True, "connection closed silently"),
        (b"", False, "connected, but nothing more came within 0.2 s"),
        (b"22", False, "connected, but nothing more came within 0.2 s"),
        (
            b"\x1b[31m\xff" * 99,
            False,
            "server said '?[31m\ufffd?[31m\ufffd?[31m\ufffd?[31m\ufffd?[31m\ufffd?[31m\ufffd?...', wanted '220 '",
        ),
    ],
)
def test_a_server_says_something_else(said: bytes, close: bool, cause: str) -> None:
    timeout = 0.2 if "within" in cause else 20
    outcome = run(ask(saying(said, close), expect="220 ", timeout=timeout))
    assert (outcome.ok, outcome.cause) == (False, cause)


# -- how packets leave


def test_packets_come_from_the_source_that_is_wanted() -> None:
    async def main() -> str:
        peer = asyncio.get_running_loop().create_future()

        async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer.set_result(writer.get_extra_info("peername")[0])

        async with serving(talk) as port:
            assert (await probe(health_check("tcp"), target(port, source=ipaddress.ip_address("127.0.0.2")))).ok
            found: str = await peer
            return found

    assert run(main()) == "127.0.0.2"


def test_a_source_that_is_not_here() -> None:
    outcome = run(cleanly(health_check("tcp"), target(9, source=ipaddress.ip_address("192.0.2.1"))))
    assert outcome.cause == "this host: Cannot assign requested address"
    assert outcome.own and not outcome.ok


def may_mark() -> bool:
    with socket.socket() as opened:
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1)
        except PermissionError:
            return False
    return True


@pytest.mark.skipif(not may_mark(), reason="to mark packets takes CAP_NET_ADMIN")
@pytest.mark.parametrize("mark", [0, 7, 0xF0000001, 0xFFFFFFFF])
def test_packets_bear_the_mark(mark: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first one on."""

    async def main() -> list[int]:
        loop, marks = asyncio.get_running_loop(), []
        connect = loop.sock_connect

        async def spy(opened: socket.socket, address: Any) -> None:
            marks.append(opened.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) % (1 << 32))
            await connect(opened, address)

        monkeypatch.setattr(loop, "sock_connect", spy)
        async with serving(silence) as port:
            assert (await probe(health_check("tcp"), target(port, mark=mark))).ok
        return marks

    assert run(main()) == [mark]


def test_without_the_permission_to_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    async def main() -> Outcome:
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "setsockopt", refuse)
            return await probe(health_check("tcp"), target(9, mark=7))

    outcome = run(main())
    assert (outcome.ok, outcome.own, outcome.cause) == (False, True, "this host: Operation not permitted")


def test_without_descriptors() -> None:
    """It is this host that is not well, and not the backends."""

    async def main() -> Outcome:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        with contextlib.ExitStack() as stack:
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
            with contextlib.suppress(OSError):
                while True:
                    stack.callback(os.close, os.dup(0))
            return await probe(health_check("tcp"), target(9))

    outcome = run(main())
    assert (outcome.ok, outcome.own, outcome.cause) == (False, True, "this host: Too many open files")


def test_a_link_local_address_has_its_nic() -> None:
    index, name = socket.if_nameindex()[0]
    assert probe_base.socket_address(ipaddress.ip_address(f"fe80::21%{name}"), 80) == ("fe80::21", 80, 0, index)
    assert probe_base.socket_address(ipaddress.ip_address("fe80::21"), 80) == ("fe80::21", 80, 0, 0)
    assert probe_base.socket_address(ipaddress.ip_address("192.0.2.1"), 80) == ("192.0.2.1", 80)


def test_a_nic_that_is_not_here() -> None:
    outcome = run(cleanly(health_check("tcp"), target(80, "fe80::21%nosuchnic0")))
    assert (outcome.ok, outcome.own, outcome.cause) == (False, True, "this host: no NIC nosuchnic0")


@pytest.mark.parametrize(
    ("number", "cause", "own"),
    [
        (errno.ECONNREFUSED, "connection refused", False),
        (errno.ECONNRESET, "connection reset", False),
        (errno.EPIPE, "connection reset", False),
        (errno.EHOSTUNREACH, "host unreachable", False),
        (errno.ENETUNREACH, "this host: Network is unreachable", True),
        (errno.ETIMEDOUT, "no answer", False),
        (errno.EPROTO, "protocol error", False),
        (errno.EPERM, "this host: Operation not permitted", True),
        (errno.ENOBUFS, "this host: No buffer space available", True),
    ],
)
def test_errors_are_told_in_a_persons_words(number: int, cause: str, own: bool) -> None:
    failure = probe_base.Failure.of(OSError(number, "Connect call failed"))
    assert (str(failure), failure.own) == (cause, own)


# -- an end in all cases


async def cancelled_at(talking: asyncio.Event, task: asyncio.Task[Outcome]) -> None:
    await talking.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("options", [{"expect": "220 "}, {}])
def test_a_probe_that_is_cancelled_leaves_nothing_open(options: dict[str, Any]) -> None:
    async def main() -> None:
        with black_hole() as hole:
            begun = descriptors()
            tasks = [asyncio.create_task(probe(health_check("tcp", **options), target(hole))) for _number in range(20)]
            while descriptors() != begun + 20:
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
            assert descriptors() == begun, "closed as soon as it is cancelled"

    run(main())


def test_a_probe_that_is_cancelled_while_it_reads() -> None:
    async def main() -> None:
        talking = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            talking.set()
            await silence(reader, writer)

        async with serving(talk) as port:
            asked = target(port)
            task = asyncio.create_task(probe(health_check("tcp", expect="220 "), asked))
            await cancelled_at(talking, task)
            assert client_sockets(asked) == 0

    run(main())


def test_a_probe_that_is_cancelled_before_it_begins() -> None:
    async def main() -> None:
        task = asyncio.create_task(probe(health_check("tcp"), target(9)))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


@pytest.mark.parametrize("cancel", [True, False])
def test_nothing_goes_on_after_a_probe(cancel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many turns its parts take to close."""

    async def main() -> None:
        asked, closed = asyncio.Event(), []

        async def slow_to_close(*_arguments: Any) -> None:
            try:
                asked.set()
                await asyncio.Event().wait()
            finally:
                for turn in range(5):
                    await asyncio.sleep(0)
                    closed.append(turn)

        monkeypatch.setattr(probes, "_KINDS", {"tcp": slow_to_close})
        task = asyncio.create_task(probe(health_check("tcp", timeout=20 if cancel else 0.05), target(9)))
        await asked.wait()
        if cancel:
            task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError if cancel else Outcome)
        assert len(closed) == 5

    run(main())


def test_a_mistake_of_ours_is_not_a_hosts_illness(monkeypatch: pytest.MonkeyPatch) -> None:
    async def mistaken(*_arguments: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(probes, "_KINDS", {"tcp": mistaken})
    with pytest.raises(ZeroDivisionError):
        run(probe(health_check("tcp"), target(9)))


def test_many_at_once() -> None:
    """In one thread, and those who wait hold up nobody."""

    async def main() -> None:
        async with serving(saying(b"220 hello\r\n", close=False)) as port, serving(silence) as mute:
            well = [probe(health_check("tcp", expect="220 "), target(port)) for _number in range(200)]
            ill = [probe(health_check("tcp", expect="220 ", timeout=2), target(mute)) for _number in range(100)]
            outcomes = await asyncio.gather(*well, *ill)
            assert [outcome.ok for outcome in outcomes] == [True] * 200 + [False] * 100
            assert {outcome.cause for outcome in outcomes[200:]} == {"connected, but nothing more came within 2 s"}
            assert threading.active_count() == 1

    run(main())


def test_who_sends_without_end_holds_up_nobody() -> None:
    """A probe that always finds something to read lets others have their turn, and its own time run out."""

    async def main() -> None:
        class Full:
            turns = 0

            async def sock_recv(self, _socket: Any, _size: int) -> bytes:
                Full.turns += 1
                return b"x"

        with socket.socket() as opened:
            connection = probe_base.Connection(opened)
            connection._loop = Full()  # type: ignore[assignment]

            async def read() -> None:
                while True:
                    await connection.receive()

            task = asyncio.create_task(read())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert Full.turns <= 3
            task.cancel()

    run(main())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fine", "fine"),
        ("two\nlines", "two?lines"),
        ("\x1b[31m", "?[31m"),
        ("a" * 20, "a" * 20),
        ("a" * 21, "a" * 17 + "..."),
    ],
)
def test_a_strangers_text_is_fit_for_a_log(text: str, shown: str) -> None:
    assert probe_base.printable(text, 20) == shown
