# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that are kept, step by step: real sockets on loopback, the frames told by the test."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import HostError
from ansible_collections.dsr.layer2.plugins.module_utils.probe import hold
from ansible_collections.dsr.layer2.plugins.module_utils.probe.held import Outcome
from ansible_collections.dsr.layer2.plugins.module_utils.probe.hold import Kept, KeptTcp, KeptUdp
from ansible_collections.dsr.layer2.plugins.module_utils.probe.observer import Kind, Reply
from ansible_collections.dsr.layer2.plugins.module_utils.probe.request import Request

B1, B2 = "02:d5:00:00:00:15", "02:d5:00:00:00:16"


def request(port: int, protocol: str = "tcp", payload: bytes = b"", interval: float = 0.2) -> Request:
    first = (IPv4Address("127.0.0.1"), port, protocol, 1, 5.0, None, True, None, None, payload)
    return Request(*first, hold=60.0, interval=interval)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(5)
        yield made


@contextlib.contextmanager
def standing(server: socket.socket, **options: Any) -> Iterator[tuple[KeptTcp, socket.socket]]:
    """A connection that stands, and the server's side of it."""
    tcp = KeptTcp(request(server.getsockname()[1], **options))
    tcp.start()
    accepted, _peer = server.accept()
    try:
        with accepted:
            news(tcp)
            reply(tcp, Kind.ACCEPTED)
            tcp.judge()
            assert tcp.opened and not tcp.finished
            yield tcp, accepted
    finally:
        tcp.close()


def news(kept: Kept) -> None:
    poller = select.epoll()
    poller.register(kept.fileno(), kept.events())
    assert poller.poll(5), "the socket is silent"
    poller.close()
    kept.on_socket()


def reply(kept: Kept, kind: Kind, mac: str = B1, acknowledgement: int = 1) -> None:
    kept.on_reply(Reply(kept.port, mac, kind, time.time(), acknowledgement=acknowledgement))


def reset(accepted: socket.socket) -> None:
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    accepted.close()


def told(kept: Kept) -> tuple[Any, str]:
    kept.judge()
    assert kept.finished
    return kept.held.outcome, kept.held.cause


def test_it_holds_if_its_close_is_answered(server: socket.socket) -> None:
    with standing(server) as (tcp, accepted):
        tcp.judge()
        assert not tcp.finished
        tcp.end(time.monotonic())
        assert accepted.recv(10) == b"", "a FIN came"
        tcp.judge()
        assert not tcp.finished, "what was answered before the close counts for nothing"
        reply(tcp, Kind.FOLLOWED)
        assert told(tcp) == (Outcome.HELD, "")
        assert tcp.held.ended is None


def test_silence_at_the_end_breaks(server: socket.socket) -> None:
    with standing(server) as (tcp, _accepted):
        tcp.end(time.monotonic())
        tcp.on_deadline()
        assert told(tcp) == (Outcome.BROKEN, "silent at the end of the hold, for more than 5 s")
        assert tcp.held.gap is not None and tcp.held.gap > 0


def test_a_close_in_order_is_none(server: socket.socket) -> None:
    with standing(server) as (tcp, accepted):
        accepted.close()
        news(tcp)
        reply(tcp, Kind.FOLLOWED)
        assert told(tcp) == (Outcome.CLOSED, "")
        assert tcp.held.ended is not None


@pytest.mark.parametrize(
    "kind, mac, cause",
    [
        (Kind.ABORTED, B1, f"reset by {B1}"),
        (Kind.REFUSED, B2, f"reset by {B2}, which is not the backend that it was with"),
    ],
)
def test_a_reset_breaks(server: socket.socket, kind: Kind, mac: str, cause: str) -> None:
    with standing(server) as (tcp, accepted):
        reset(accepted)
        news(tcp)
        reply(tcp, kind, mac)
        assert told(tcp) == (Outcome.BROKEN, cause)
        assert tcp.held.moves == (), "a refusal is no answer"
        assert tcp.held.attempt.macs == (B1,)


def test_a_reset_frame_that_the_kernel_does_not_take_breaks_nothing(server: socket.socket) -> None:
    with standing(server) as (tcp, _accepted):
        reply(tcp, Kind.REFUSED, B2)
        tcp.judge()
        assert not tcp.finished


@pytest.mark.parametrize("mac, outcome", [(B1, Outcome.HELD), (B2, Outcome.BROKEN)])
def test_a_service_may_answer_our_close_with_a_reset(server: socket.socket, mac: str, outcome: Outcome) -> None:
    with standing(server) as (tcp, accepted):
        tcp.end(time.monotonic())
        reset(accepted)
        news(tcp)
        reply(tcp, Kind.ABORTED, mac)
        assert told(tcp)[0] is outcome


def test_an_icmp_error_breaks_no_connection_that_stands(server: socket.socket) -> None:
    with standing(server) as (tcp, accepted):
        reply(tcp, Kind.UNREACHABLE, B2)
        reset(accepted)
        news(tcp)
        assert told(tcp) == (Outcome.BROKEN, "failed on this host (Connection reset by peer)")


@pytest.mark.parametrize("interval, every", [(0.2, 1), (1.0, 1), (2.5, 3)])
def test_without_a_payload_the_kernel_asks(server: socket.socket, interval: float, every: int) -> None:
    with standing(server, interval=interval) as (tcp, accepted):
        own = socket.socket(fileno=socket.dup(tcp.fileno()))
        with own:
            assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)
            assert [own.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [every, every]
        tcp.ask()
        accepted.setblocking(False)
        with pytest.raises(BlockingIOError):
            accepted.recv(10)


def test_a_payload_is_sent_until_the_end(server: socket.socket) -> None:
    with standing(server, payload=b"HELO\n") as (tcp, accepted):
        tcp.ask()
        assert accepted.recv(10) == b"HELO\n"
        tcp.end(time.monotonic())
        tcp.ask()
        assert accepted.recv(10) == b""


def test_what_an_earlier_connection_of_the_port_gets_is_no_answer(server: socket.socket) -> None:
    tcp = KeptTcp(request(server.getsockname()[1], payload=b"HELO\n"))
    tcp.start()
    with contextlib.closing(tcp), server.accept()[0]:
        news(tcp)
        reply(tcp, Kind.FOLLOWED, B2, 77)
        reply(tcp, Kind.ACCEPTED, B1, 2**32 - 1)
        tcp.judge()
        reply(tcp, Kind.FOLLOWED, B2, 77)
        reply(tcp, Kind.FOLLOWED, B2, 2**32 - 2)
        assert (tcp.held.mac, tcp.held.moves, tcp.held.attempt.macs) == (B1, (), (B1,))
        reply(tcp, Kind.FOLLOWED, B2, 4)
        assert not tcp.held.moves, "nothing was sent that this could acknowledge"
        tcp.ask()
        reply(tcp, Kind.FOLLOWED, B2, 4)
        assert tcp.held.moves, "it acknowledges the payload"


@contextlib.contextmanager
def flow() -> Iterator[tuple[KeptUdp, socket.socket]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind(("127.0.0.1", 0))
        service.settimeout(5)
        udp = KeptUdp(request(service.getsockname()[1], "udp", b"ping"))
        udp.start()
        try:
            data, peer = service.recvfrom(100)
            assert (data, peer[1]) == (b"ping", udp.port)
            service.sendto(b"pong", peer)
            news(udp)
            reply(udp, Kind.DATA)
            udp.judge()
            assert udp.opened and not udp.finished
            yield udp, service
        finally:
            udp.close()


def test_a_flow_holds_if_the_last_question_is_answered() -> None:
    with flow() as (udp, service):
        udp.ask()
        assert service.recv(10) == b"ping"
        reply(udp, Kind.DATA, B2)
        udp.judge()
        assert not udp.finished
        udp.end(time.monotonic())
        assert service.recv(10) == b"ping"
        udp.judge()
        assert not udp.finished
        reply(udp, Kind.DATA, B2)
        assert told(udp) == (Outcome.HELD, "")
        assert [(move.source, move.target) for move in udp.held.moves] == [(B1, B2)]


def test_a_flow_that_is_refused_breaks_at_the_end_alone() -> None:
    with flow() as (udp, _service):
        udp.on_reply(Reply(udp.port, B2, Kind.UNREACHABLE, time.time(), code=3))
        udp.judge()
        assert not udp.finished
        udp.end(time.monotonic())
        udp.on_deadline()
        assert told(udp) == (Outcome.BROKEN, f"refused (ICMP unreachable: port) by {B2} at the end of the hold")


def test_a_flow_that_was_refused_for_a_while_is_silent_then() -> None:
    with flow() as (udp, _service):
        udp.on_reply(Reply(udp.port, B2, Kind.UNREACHABLE, time.time(), code=3))
        reply(udp, Kind.DATA)
        udp.end(time.monotonic())
        udp.on_deadline()
        assert told(udp) == (Outcome.BROKEN, "silent at the end of the hold, for more than 5 s")


def test_too_few_descriptors_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_unused: Any) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (256, 256))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    hold._make_room(100)
    with pytest.raises(HostError, match=r"allows 256 open files a process, and 1000 connections .* take 1064"):
        hold._make_room(1000)
