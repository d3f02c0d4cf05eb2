# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections step by step: real sockets on loopback, the frames told by the test."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Callable, Optional

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common import packet
from ansible_collections.dsr.layer2.plugins.module_utils.common.packet import Ethernet, IPv4, IPv6, Tcp, Udp
from ansible_collections.dsr.layer2.plugins.module_utils.probe import run as running
from ansible_collections.dsr.layer2.plugins.module_utils.probe.exchange import (
    Exchange,
    FrameTcp,
    FrameUdp,
    KernelTcp,
    KernelUdp,
    Wire,
)
from ansible_collections.dsr.layer2.plugins.module_utils.probe.observer import Kind, Reply
from ansible_collections.dsr.layer2.plugins.module_utils.probe.report import Attempt
from ansible_collections.dsr.layer2.plugins.module_utils.probe.request import Request

LOOPBACK = IPv4Address("127.0.0.1")
B1, B2 = "02:d5:00:00:00:15", "02:d5:00:00:00:16"


def request(port: int, protocol: str = "tcp", timeout: float = 5.0, payload: bytes = b"") -> Request:
    return Request(LOOPBACK, port, protocol, 1, timeout, None, True, None, B1, payload)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(5)
        yield made


@pytest.fixture
def datagrams() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(5)
        yield made


def news(exchange: Exchange) -> None:
    """Let the exchange learn what its socket has to tell, and there must be something."""
    poller = select.poll()
    poller.register(exchange.fileno(), exchange.events())
    assert poller.poll(5000), "the socket is silent"
    exchange.on_socket()


def reply(exchange: Exchange, kind: Kind, mac: str = B1, delay: float = 0.0, **how: Any) -> None:
    exchange.on_reply(Reply(exchange.port, mac, kind, time.time() + delay, **how))


@contextlib.contextmanager
def started(exchange: Exchange) -> Iterator[Exchange]:
    exchange.start()
    try:
        yield exchange
    finally:
        exchange.close()


def test_a_connection_that_ends_well(server: socket.socket) -> None:
    with started(KernelTcp(request(server.getsockname()[1]))) as tcp:
        accepted, peer = server.accept()
        with accepted:
            news(tcp)
            reply(tcp, Kind.ACCEPTED, delay=0.001)
            tcp.judge()
            assert not tcp.finished, "the handshake alone proves nothing"
            assert accepted.recv(10) == b"", "we close first"
            reply(tcp, Kind.FOLLOWED, delay=5.0)
            tcp.judge()
        assert tcp.finished
        assert (tcp.result.source_port, tcp.result.macs, tcp.result.error) == (peer[1], (B1,), "")
        assert tcp.result.rtt_ms is not None
        assert 1.0 <= tcp.result.rtt_ms < 1000.0, "the first reply counts"


def test_a_payload_arrives(server: socket.socket) -> None:
    with started(KernelTcp(request(server.getsockname()[1], payload=b"HELO"))) as tcp:
        accepted, _peer = server.accept()
        with accepted:
            news(tcp)
            assert accepted.recv(10) == b"HELO"


@pytest.mark.parametrize(
    "what, kind, mac, error",
    [
        ("it does not know the connection", Kind.REFUSED, B1, f"reset after the handshake by {B1}"),
        ("another host does not", Kind.REFUSED, B2, f"reset after the handshake by {B2}"),
        ("another host ends it", Kind.ABORTED, B2, f"reset after the handshake by {B2}"),
        ("the server itself ends it", Kind.ABORTED, B1, ""),
    ],
)
def test_a_reset_after_the_handshake(server: socket.socket, what: str, kind: Kind, mac: str, error: str) -> None:
    with started(KernelTcp(request(server.getsockname()[1]))) as tcp:
        news(tcp)
        reply(tcp, Kind.ACCEPTED)
        reply(tcp, kind, mac)
        tcp.judge()
        assert tcp.finished
        assert tcp.result.error == error, what


def test_refused(server: socket.socket) -> None:
    port = server.getsockname()[1]
    server.close()
    with started(KernelTcp(request(port))) as tcp:
        news(tcp)
        reply(tcp, Kind.ABORTED, B2)
        tcp.judge()
        assert tcp.result == Attempt(tcp.port, (B2,), None, f"refused (TCP RST) by {B2}")


def test_refused_without_a_frame_seen(server: socket.socket) -> None:
    port = server.getsockname()[1]
    server.close()
    with started(KernelTcp(request(port))) as tcp:
        news(tcp)
        tcp.judge()
        assert tcp.result.error == "failed on this host (Connection refused)"


def test_answered_by_frames_that_came_in_elsewhere(server: socket.socket) -> None:
    with started(KernelTcp(request(server.getsockname()[1]))) as tcp:
        news(tcp)
        tcp.judge()
        assert tcp.finished
        assert (tcp.result.macs, tcp.result.error) == ((), "")


@pytest.mark.parametrize(
    "what, replies, error",
    [
        ("nothing came", [], "without an answer within 0.2 s"),
        ("it came and was dropped", [Kind.ACCEPTED], f"stuck: the SYN-ACK of {B1} was seen but this host dropped it"),
    ],
)
def test_time_is_over_before_the_kernel_connects(what: str, replies: list[Kind], error: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        tcp = KernelTcp(request(server.getsockname()[1], timeout=0.2))
        with started(tcp):
            for kind in replies:
                reply(tcp, kind)
            tcp.judge()
            assert not tcp.finished
            tcp.on_deadline()
            assert tcp.result.error.startswith(error), what


def test_silence_after_the_handshake(server: socket.socket) -> None:
    with started(KernelTcp(request(server.getsockname()[1], timeout=0.2))) as tcp:
        news(tcp)
        reply(tcp, Kind.ACCEPTED)
        tcp.judge()
        tcp.on_deadline()
        assert tcp.result.error == "silent after the handshake for 0.2 s"


def test_data_of_the_server_is_taken_before_the_close(server: socket.socket) -> None:
    """Else the close would be a reset."""
    with started(KernelTcp(request(server.getsockname()[1]))) as tcp:
        accepted, _peer = server.accept()
        with accepted:
            accepted.sendall(b"220 welcome\r\n")
            news(tcp)
            news(tcp)
            reply(tcp, Kind.ACCEPTED)
            reply(tcp, Kind.FOLLOWED)
            tcp.judge()
            assert tcp.finished
            tcp.close()
            assert accepted.recv(10) == b""
            accepted.sendall(b"more")  # fails after a reset


def test_a_datagram_and_its_answer(datagrams: socket.socket) -> None:
    with started(KernelUdp(request(datagrams.getsockname()[1], "udp", payload=b"ping"))) as udp:
        data, peer = datagrams.recvfrom(100)
        assert (data, peer[1]) == (b"ping", udp.port)
        datagrams.sendto(b"pong", peer)
        news(udp)
        reply(udp, Kind.DATA)
        udp.judge()
        assert udp.finished
        assert (udp.result.macs, udp.result.error) == ((B1,), "")


def test_a_datagram_that_is_refused(datagrams: socket.socket) -> None:
    port = datagrams.getsockname()[1]
    datagrams.close()
    with started(KernelUdp(request(port, "udp", payload=b"ping"))) as udp:
        news(udp)
        reply(udp, Kind.UNREACHABLE, code=3)
        udp.judge()
        assert udp.result.error == f"refused (ICMP unreachable: port) by {B1}"


class Sent:
    """A packet socket that keeps what is sent."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, frame: bytes, deadline: float) -> None:
        self.frames.append(frame)

    def content(self, number: int) -> tuple[Ethernet, IPv4]:
        outer = Ethernet.parse(self.frames[number])
        assert outer is not None
        ip = IPv4.parse(outer.payload)
        assert ip is not None
        return outer, ip


def wire(channel: Any, source: packet.IPAddress = LOOPBACK) -> Wire:
    return Wire(channel, packet.mac_to_bytes("02:d5:00:00:00:02"), packet.mac_to_bytes(B1), source, 1500)


def test_a_handshake_of_frames() -> None:
    sent = Sent()
    with started(FrameTcp(request(80), wire(sent))) as tcp:
        outer, ip = sent.content(0)
        syn = Tcp.parse(ip.payload)
        assert syn is not None
        assert (packet.mac_to_text(outer.destination), packet.mac_to_text(outer.source)) == (B1, "02:d5:00:00:00:02")
        assert (syn.source_port, syn.destination_port, syn.flags) == (tcp.port, 80, packet.SYN)
        assert syn.options == b"\x02\x04\x05\xb4"
        reply(tcp, Kind.ACCEPTED, sequence=2**32 - 1, acknowledgement=(syn.sequence + 2) % 2**32)
        assert not tcp.finished, "it is not about our SYN"
        reply(tcp, Kind.ACCEPTED, sequence=2**32 - 1, acknowledgement=(syn.sequence + 1) % 2**32)
        assert tcp.finished
        assert (tcp.result.macs, tcp.result.error) == ((B1,), "")
        assert len(sent.frames) == 2
        outer, ip = sent.content(1)
        reset = Tcp.parse(ip.payload)
        assert reset is not None
        assert packet.mac_to_text(outer.destination) == B1
        assert reset.flags == packet.RST | packet.ACK
        assert (reset.sequence, reset.acknowledgement) == ((syn.sequence + 1) % 2**32, 0)


@pytest.mark.parametrize("kind, error", [(Kind.ABORTED, "TCP RST"), (Kind.UNREACHABLE, "ICMP unreachable: host")])
def test_a_handshake_of_frames_refused(kind: Kind, error: str) -> None:
    sent = Sent()
    with started(FrameTcp(request(80), wire(sent))) as tcp:
        syn = Tcp.parse(sent.content(0)[1].payload)
        assert syn is not None
        reply(tcp, kind, B2, acknowledgement=(syn.sequence + 1) % 2**32, code=1)
        assert tcp.finished
        assert tcp.result.error == f"refused ({error}) by {B2}"
        assert len(sent.frames) == 1


def test_a_handshake_of_ipv6_frames() -> None:
    """Its headers are longer, so that less fits in a segment; its port is kept from everybody else in IPv6."""
    asked = Request(IPv6Address("::1"), 80, "tcp", 1, 5.0, None, True, None, B1, b"")
    sent = Sent()
    with started(FrameTcp(asked, wire(sent, IPv6Address("::1")))) as tcp:
        outer = Ethernet.parse(sent.frames[0])
        assert outer is not None and outer.ethertype == packet.ETHERTYPE_IPV6
        ip = IPv6.parse(outer.payload)
        assert ip is not None and (str(ip.source), str(ip.destination)) == ("::1", "::1")
        syn = Tcp.parse(ip.payload)
        assert syn is not None and syn.options == b"\x02\x04\x05\xa0"
        with socket.socket(socket.AF_INET6) as other, pytest.raises(OSError):
            other.bind(("::1", tcp.port))


def test_a_connection_of_ipv6_that_ends_well() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        with started(KernelTcp(Request(IPv6Address("::1"), port, "tcp", 1, 5.0, None, True, None, None, b""))) as tcp:
            accepted, peer = server.accept()
            accepted.close()
            news(tcp)
            assert tcp.port == peer[1]


def test_refusals_are_told_in_the_words_of_their_family() -> None:
    for address, source, code, said in (("127.0.0.1", LOOPBACK, 4, "code 4"), ("::1", IPv6Address("::1"), 4, "port")):
        asked = Request(ip_address(address), 9, "udp", 1, 5.0, None, True, None, B1, b"x")
        with started(FrameUdp(asked, wire(Sent(), source))) as udp:
            reply(udp, Kind.UNREACHABLE, B2, code=code)
            assert udp.result.error == f"refused (ICMP unreachable: {said}) by {B2}"


def test_a_datagram_of_frames() -> None:
    sent = Sent()
    with started(FrameUdp(request(53, "udp", payload=b"ping"), wire(sent))) as udp:
        assert Udp.parse(sent.content(0)[1].payload) == Udp(udp.port, 53, b"ping")
        reply(udp, Kind.DATA)
        assert udp.finished
        assert udp.result.macs == (B1,)


def test_the_port_of_frames_is_taken_as_long_as_it_is_used() -> None:
    exchange = FrameTcp(request(80), wire(Sent()))
    with started(exchange), socket.socket() as other, pytest.raises(OSError):
        other.bind(("127.0.0.1", exchange.port))
    with socket.socket() as other:
        other.bind(("127.0.0.1", exchange.port))


class Scripted(Exchange):
    """Ends as told: at the first reply to it, or never."""

    alive = 0
    most_alive = 0
    _next_port = 0

    def _begin(self) -> None:
        Scripted._next_port += 1
        self.port = Scripted._next_port
        Scripted.alive += 1
        Scripted.most_alive = max(Scripted.most_alive, Scripted.alive)

    def on_reply(self, reply: Reply) -> None:
        self._saw(reply)
        self.finished = True

    def close(self) -> None:
        Scripted.alive -= 1


class Feed:
    """An observer whose replies come from the test."""

    def __init__(self, replies: Callable[[], Iterator[Reply]], awake: bool = True) -> None:
        self.replies = replies
        self.channel, self._write = os.pipe()
        if awake:
            os.write(self._write, b"x")

    def __enter__(self) -> Feed:
        Scripted.alive = Scripted.most_alive = Scripted._next_port = 0
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self.channel)
        os.close(self._write)


def carry_out(
    count: int, feed: Any, timeout: float = 5.0, make: Optional[Callable[[], Exchange]] = None
) -> list[Attempt]:
    return running.run(count, make or (lambda: Scripted(request(80, timeout=timeout))), feed)


def test_all_are_carried_out_and_not_all_at_once() -> None:
    def everyone() -> Iterator[Reply]:
        return iter([Reply(port, B1, Kind.ACCEPTED, 0.0) for port in range(1, 1000)])

    with Feed(everyone) as feed:
        attempts = carry_out(170, feed)
    assert sorted(attempt.source_port for attempt in attempts) == list(range(1, 171))
    assert Scripted.most_alive == running.CONCURRENCY
    assert Scripted.alive == 0


def test_replies_find_their_connection_and_strangers_none() -> None:
    told = [Reply(99, B2, Kind.ACCEPTED, 0.0), Reply(2, B2, Kind.ACCEPTED, 0.0), Reply(1, B1, Kind.ACCEPTED, 0.0)]
    with Feed(lambda: iter(told)) as feed:
        attempts = carry_out(2, feed)
    assert {(attempt.source_port, attempt.macs) for attempt in attempts} == {(1, (B1,)), (2, (B2,))}


def test_silence_is_waited_for_once_for_all() -> None:
    with Feed(lambda: iter(()), awake=False) as feed:
        began = time.monotonic()
        attempts = carry_out(20, feed, timeout=0.2)
        took = time.monotonic() - began
    assert [attempt.error for attempt in attempts] == ["without an answer within 0.2 s"] * 20
    assert 0.2 <= took < 1.0
    assert Scripted.alive == 0


def test_a_failure_on_the_way_leaves_nothing_open() -> None:
    def fail() -> Iterator[Reply]:
        raise RuntimeError("the NIC is gone")

    with Feed(fail) as feed, pytest.raises(RuntimeError, match="the NIC is gone"):
        carry_out(20, feed)
    assert Scripted.alive == 0
