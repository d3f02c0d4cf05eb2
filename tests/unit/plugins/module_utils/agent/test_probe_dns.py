# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS servers, well and ill."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.agent import probe_dns
from ansible_collections.dsr.layer2.plugins.module_utils.agent.probes import Outcome, probe
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.agent.probing import (
    LOCAL,
    LOCAL6,
    cleanly,
    descriptors,
    free_port,
    health_check,
    run,
    target,
)

A, CNAME, AAAA = 1, 5, 28
QUESTION = b"\7example\3net\0"  # as it is asked for in these tests
POINTER = b"\xc0\x0c"  # to the name of the question
Answers = Callable[[bytes], list[bytes]]


def record(kind: int, content: bytes, name: bytes = POINTER, network: int = 1) -> bytes:
    return name + struct.pack("!HHIH", kind, network, 60, len(content)) + content


def address(text: str, name: bytes = POINTER) -> bytes:
    packed = ipaddress.ip_address(text).packed
    return record(A if len(packed) == 4 else AAAA, packed, name)


def answer(query: bytes, *records: bytes, rcode: int = 0, flags: int = 0x8180, count: int = -1) -> bytes:
    header = struct.pack("!HHHHH", flags | rcode, 1, len(records) if count < 0 else count, 0, 0)
    return query[:2] + header + query[12:] + b"".join(records)


@contextlib.asynccontextmanager
async def serving(answers: Answers, at: str = LOCAL) -> AsyncIterator[int]:
    """A server that answers each query with these datagrams."""

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            for datagram in answers(data):
                self.transport.sendto(datagram, addr)

    transport, _server = await asyncio.get_running_loop().create_datagram_endpoint(Server, local_addr=(at, 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()
        await asyncio.sleep(0)


async def ask(answers: Answers, at: str = LOCAL, **options: Any) -> Outcome:
    async with serving(answers, at) as port:
        return await cleanly(health_check("dns", **{"query": "example.net", **options}), target(port, at))


def test_what_a_server_is_asked() -> None:
    queries: list[bytes] = []

    def answers(query: bytes) -> list[bytes]:
        queries.append(query)
        return [answer(query, address("192.0.2.10"))]

    for options in ({}, {"query": "example.net/TXT"}, {"query": "."}):
        assert run(ask(answers, **options)).ok
    assert [query[2:] for query in queries] == [
        b"\1\0\0\1\0\0\0\0\0\0" + QUESTION + b"\0\1\0\1",
        b"\1\0\0\1\0\0\0\0\0\0" + QUESTION + b"\0\20\0\1",
        b"\1\0\0\1\0\0\0\0\0\0\0\0\1\0\1",
    ]
    assert len({query[:2] for query in queries}) > 1, "the number is drawn"


@pytest.mark.parametrize(
    ("answers", "options"),
    [
        (lambda query: [answer(query, address("192.0.2.10"))], {}),
        (lambda query: [answer(query, address("192.0.2.10"))], {"expect": "192.0.2.10"}),
        (lambda query: [answer(query, address("192.0.2.1"), address("192.0.2.10"))], {"expect": "192.0.2.10"}),
        (
            lambda query: [answer(query, record(CNAME, b"\1a" + POINTER), address("192.0.2.10", b"\1a" + POINTER))],
            {"expect": "192.0.2.10"},
        ),
        (
            lambda query: [answer(query, address("2001:db8::10"))],
            {"query": "example.net/AAAA", "expect": "2001:db8::10"},
        ),
        (lambda query: [answer(query, record(16, b"\2hi"))], {"query": "example.net/TXT"}),
        (lambda query: [answer(query, address("192.0.2.10"), flags=0x8580)], {}),  # with authority
        (lambda query: [answer(query.upper(), address("192.0.2.10"))[2:].join([query[:2], b""])], {}),
    ],
)
def test_a_server_is_well(answers: Answers, options: dict[str, Any]) -> None:
    outcome = run(ask(answers, **options))
    assert (outcome.ok, outcome.cause) == (True, "")


def test_a_server_is_well_in_ipv6() -> None:
    assert run(ask(lambda query: [answer(query, address("192.0.2.10"))], LOCAL6)).ok


@pytest.mark.parametrize(
    ("answers", "options", "cause"),
    [
        (lambda query: [answer(query, rcode=2)], {}, "answered SERVFAIL"),
        (lambda query: [answer(query, rcode=3)], {}, "answered NXDOMAIN"),
        (lambda query: [answer(query, rcode=5)], {}, "answered REFUSED"),
        (lambda query: [answer(query, rcode=11)], {}, "answered with the code 11"),
        (lambda query: [query[:2] + b"\x80\1\0\0\0\0\0\0\0\0"], {}, "answered FORMERR"),  # and no question
        (lambda query: [answer(query)], {}, "answered, but without a record for example.net/A"),
        (
            lambda query: [answer(query, address("192.0.2.1"), address("192.0.2.2"))],
            {"expect": "192.0.2.10"},
            "answered 192.0.2.1, 192.0.2.2, wanted 192.0.2.10",
        ),
        (
            lambda query: [answer(query, record(CNAME, b"\1a" + POINTER))],
            {"expect": "192.0.2.10"},
            "answered without an address, wanted 192.0.2.10",
        ),
        (
            lambda query: [answer(query, record(A, b"\xc0\0\2\x0a", network=3))],  # of Chaosnet
            {"expect": "192.0.2.10"},
            "answered without an address, wanted 192.0.2.10",
        ),
        (
            lambda query: [answer(query, address("192.0.2.10")[:-1])],
            {"expect": "192.0.2.10"},
            "answered without an address, wanted 192.0.2.10",
        ),
    ],
)
def test_a_server_is_ill(answers: Answers, options: dict[str, Any], cause: str) -> None:
    outcome = run(ask(answers, **options))
    assert (outcome.ok, outcome.cause, outcome.own) == (False, cause, False)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda query: b"",
        lambda query: b"\0",
        lambda query: query,  # itself
        lambda query: bytes([query[0] ^ 1]) + answer(query, rcode=2)[1:],
        lambda query: answer(query, rcode=2, flags=0xA180),  # to something else than a query
        lambda query: answer(query[:12] + b"\7another\3net\0\0\1\0\1", rcode=2),
        lambda query: answer(query[:-4] + b"\0\x1c\0\1", rcode=2),
        lambda query: query[:2] + b"\x80\0\0\0\0\0\0\0\0\0",  # no question, and no error
        lambda query: answer(query, rcode=2)[:20],
    ],
)
def test_what_answers_something_else_does_not_count(wrong: Callable[[bytes], bytes]) -> None:
    assert run(ask(lambda query: [wrong(query), answer(query, address("192.0.2.10"))])).ok
    assert run(ask(lambda query: [wrong(query)], timeout=0.1)).cause == "no answer within 0.1 s"


def test_nobody_listens() -> None:
    port = free_port(kind=socket.SOCK_DGRAM)
    outcome = run(cleanly(health_check("dns", query="example.net"), target(port)))
    assert (outcome.ok, outcome.cause) == (False, "connection refused")


def test_a_stranger_is_not_listened_to() -> None:
    """Who answers from another port, however well."""

    def answers(query: bytes, sender: Any) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(answer(query, address("192.0.2.10")), sender)

    async def main() -> Outcome:
        class Server(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                answers(data, addr)

        transport, _server = await asyncio.get_running_loop().create_datagram_endpoint(Server, local_addr=(LOCAL, 0))
        asked = target(transport.get_extra_info("sockname")[1])
        outcome = await probe(health_check("dns", query="example.net", timeout=0.1), asked)
        transport.close()
        await asyncio.sleep(0)
        return outcome

    assert run(main()).cause == "no answer within 0.1 s"


def test_a_probe_that_is_cancelled_leaves_nothing_open() -> None:
    async def main() -> None:
        asked = asyncio.Event()

        def answers(_query: bytes) -> list[bytes]:
            asked.set()
            return []

        async with serving(answers) as port:
            before = descriptors()
            task = asyncio.create_task(probe(health_check("dns", query="example.net"), target(port)))
            await asked.wait()
            assert descriptors() == before + 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert descriptors() == before

    run(main())


def test_many_at_once() -> None:
    async def main() -> list[Outcome]:
        async with serving(lambda query: [answer(query, address("192.0.2.10"))]) as port:
            asked = health_check("dns", query="example.net", expect="192.0.2.10")
            return await asyncio.gather(*(probe(asked, target(port)) for _number in range(200)))

    assert all(outcome.ok for outcome in run(main()))


@given(st.binary(max_size=80), st.integers(0, 15), st.integers(0, 70))
def test_no_answer_is_too_strange(rest: bytes, rcode: int, cut: int) -> None:
    query = probe_dns.query(7, "example.net", A)
    whole = answer(query, rest, rcode=rcode, count=65535)
    probe_dns.parse(whole[: len(whole) - cut], 7, "example.net", A)
