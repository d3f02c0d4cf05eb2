# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pings. The kernel of this machine answers those to itself."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.agent import probe_icmp
from ansible_collections.dsr.layer2.plugins.module_utils.agent.probe_icmp import Pinger
from ansible_collections.dsr.layer2.plugins.module_utils.agent.probes import Outcome, probe
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.agent.probing import (
    LOCAL,
    LOCAL6,
    descriptors,
    health_check,
    run,
    target,
)


def may_ping() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    except PermissionError:
        return False
    return True


needs_raw_sockets = pytest.mark.skipif(not may_ping(), reason="raw sockets take CAP_NET_RAW")


class Wire:
    """In place of the network: keeps what is sent, and answers what the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[tuple[bytes, Any]] = []
        self.pinger: Any = None
        self.came = asyncio.Event()
        wire = self

        def spy(pinger: Pinger, asked: Any, sequence: int, payload: bytes) -> None:
            wire.pinger = pinger
            wire.sent.append((struct.pack("!HH", pinger._number, sequence), payload))
            wire.came.set()

        monkeypatch.setattr(Pinger, "_send", spy)

    def answer(self, version: int, number: bytes, payload: bytes, sender: str, kind: int = -1) -> None:
        """As the kernel hands it over: with the header of IPv4, without that of IPv6."""
        kind = {4: 0, 6: 129}[version] if kind < 0 else kind
        header = b"\x46" + bytes(23) if version == 4 else b""  # with options
        self.pinger._take(header + bytes([kind, 0, 0, 0]) + number + payload, sender)


@needs_raw_sockets
@pytest.mark.parametrize("address", [LOCAL, LOCAL6])
def test_a_host_answers(address: str) -> None:
    outcome = run(probe(health_check("icmp"), target(0, address)))
    assert (outcome.ok, outcome.cause) == (True, "")


@needs_raw_sockets
@pytest.mark.parametrize("address", [LOCAL, LOCAL6])
def test_many_at_once_share_a_socket(address: str) -> None:
    async def main() -> list[Outcome]:
        before = descriptors()
        tasks = [asyncio.create_task(probe(health_check("icmp"), target(0, address))) for _number in range(500)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert descriptors() == before + 1
        outcomes = await asyncio.gather(*tasks)
        assert descriptors() == before
        return outcomes

    assert all(outcome.ok for outcome in run(main()))


@needs_raw_sockets
def test_each_source_has_its_own_socket() -> None:
    async def main() -> list[Outcome]:
        before = descriptors()
        sources = [None, *(ipaddress.ip_address(f"127.0.0.{number}") for number in (2, 3))]
        tasks = [asyncio.create_task(probe(health_check("icmp"), target(0, source=source))) for source in sources * 5]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert descriptors() == before + 3
        return await asyncio.gather(*tasks)

    assert all(outcome.ok for outcome in run(main()))


@needs_raw_sockets
@pytest.mark.parametrize(("version", "address"), [(4, LOCAL), (6, LOCAL6)])
def test_an_answer_has_all_that_was_sent(version: int, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Outcome:
        wire = Wire(monkeypatch)
        task = asyncio.create_task(probe(health_check("icmp"), target(0, address)))
        await wire.came.wait()
        ((number, payload),) = wire.sent
        other = bytes([number[0] ^ 1]) + number[1:], number[:3] + bytes([number[3] ^ 1])
        (echo,) = wire.pinger._waiting.values()
        for wrong in (
            {"number": other[0]},
            {"number": other[1]},
            {"payload": payload[:-1] + bytes([payload[-1] ^ 1])},
            {"payload": payload[:-1]},
            {"sender": {4: "127.0.0.2", 6: "::2"}[version]},
            {"kind": {4: 8, 6: 128}[version]},
            {"number": b"", "payload": b""},
        ):
            wire.answer(version, **{"number": number, "payload": payload, "sender": address, **wrong})
            assert not echo.answered.done(), wrong
        wire.answer(version, number, payload, address)
        assert echo.answered.done()
        wire.answer(version, number, payload, address)  # twice, as broken networks do
        return await task

    assert run(main()).ok


@needs_raw_sockets
def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Outcome:
        Wire(monkeypatch)
        return await probe(health_check("icmp", timeout=0.1), target())

    outcome = run(main())
    assert (outcome.ok, outcome.cause) == (False, "no answer within 0.1 s")


@needs_raw_sockets
def test_a_probe_that_is_cancelled_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        wire = Wire(monkeypatch)
        before = descriptors()
        tasks = [asyncio.create_task(probe(health_check("icmp"), target())) for _number in range(2)]
        await wire.came.wait()
        for left in (1, 0):
            task = tasks.pop()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert descriptors() == before + left, "the last one closes"

    run(main())


@needs_raw_sockets
def test_each_ping_bears_its_own_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though they share a socket."""
    marks: dict[int, int] = {}

    class Watched(socket.socket):
        def sendto(self, data: bytes, address: Any) -> int:  # type: ignore[override]
            marks[len(marks)] = self.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) % (1 << 32)
            return super().sendto(data, address)

    async def main() -> list[Outcome]:
        monkeypatch.setattr(socket, "socket", Watched)
        asked = [target(0, mark=mark) for mark in (7, 7, 0, 7, 0xF0000001)]
        return await asyncio.gather(*(probe(health_check("icmp"), one) for one in asked))

    try:
        with socket.socket() as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1)
    except PermissionError:
        pytest.skip("to mark packets takes CAP_NET_ADMIN")
    assert all(outcome.ok for outcome in run(main()))
    assert list(marks.values()) == [7, 7, 0, 7, 0xF0000001]


@needs_raw_sockets
def test_nothing_but_answers_comes_in() -> None:
    """Of the ping to this host itself, the kernel has both the question and the answer."""

    async def main() -> list[int]:
        pinger = Pinger.of(target())
        kinds: list[int] = []
        pinger._take = lambda data, sender: kinds.append(data[20])  # type: ignore[method-assign]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(pinger.ping(target()), 0.1)
        return kinds

    assert set(run(main())) == {0}


def test_without_the_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    async def main() -> Outcome:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", refuse)
            return await probe(health_check("icmp"), target())

    outcome = run(main())
    assert (outcome.ok, outcome.own, outcome.cause) == (False, True, "this host: Operation not permitted")
    assert not Pinger._open


@needs_raw_sockets
def test_what_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(socket.socket):
        def sendto(self, *_arguments: Any) -> int:
            raise OSError(105, "No buffer space available")

    async def main() -> Outcome:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Full)
            return await probe(health_check("icmp"), target())

    outcome = run(main())
    assert (outcome.ok, outcome.own, outcome.cause) == (False, True, "this host: No buffer space available")
    assert not Pinger._open


def test_filters_let_one_type_through() -> None:
    for version, passes in ((4, 0), (6, 129)):
        data = probe_icmp.only_answers(version)
        words = struct.unpack(f"={len(data) // 4}I", data)
        blocked = {kind for kind in range(32 * len(words)) if words[kind // 32] >> kind % 32 & 1}
        assert set(range(32 * len(words))) - blocked == {passes}
