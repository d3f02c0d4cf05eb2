# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dsr_probe keeps connections open while backends go, drain and come: what breaks, moves and stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from balancer import HTTP, LINES, TCP_AND_UDP, UDP, Balancer, pool
from lab import Lab

COUNT = 30
B1, B2, B3 = (f"02:d5:00:00:00:{last}" for last in ("15", "16", "17"))
FAMILIES = (4, 6)


class Holding:
    """A hold that is under way in the lab's client."""

    def __init__(self, future: Future[dict[str, Any]]) -> None:
        self._future = future

    def result(self) -> dict[str, Any]:
        """What came of it. Everything that the test did must have happened while connections were held."""
        assert not self._future.done(), self._future.result()
        return self._future.result()


@contextmanager
def holding(balancer: Balancer, port: int, protocol: str = "tcp", **options: Any) -> Iterator[Holding]:
    """Connections that dsr_probe keeps open, all of which stand."""
    asked = {
        "address": balancer.address,
        "port": port,
        "protocol": protocol,
        "connections": COUNT,
        "hold": 6.0,
        "interval": 0.1,
        **options,
    }
    with ThreadPoolExecutor(1) as pool_of_one:
        future = pool_of_one.submit(balancer.module, "client", "dsr_probe", asked)
        peer = balancer.address if balancer.version == 4 else f"[{balancer.address}]"
        listed = ["ss", "-Hn", "-t" if protocol == "tcp" else "-u", "state", "established", "dst", peer]
        until = time.monotonic() + 20
        while len(balancer.lab.run("client", listed).stdout.splitlines()) < COUNT:
            assert time.monotonic() < until and not future.done(), future
        yield Holding(future)


def clean(result: dict[str, Any]) -> None:
    assert not result["failed"], result["msg"]
    counts = {key: result[key] for key in ("answered", "held", "broken", "closed", "moved")}
    assert counts == {"answered": COUNT, "held": COUNT, "broken": 0, "closed": 0, "moved": 0}
    assert result["direct"] == COUNT and result["breaks"] == result["moves"] == []


def by_mac(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["mac"]: entry for entry in result["backends"]}


@pytest.mark.parametrize("version", FAMILIES)
@pytest.mark.parametrize(("protocol", "port"), TCP_AND_UDP)
def test_a_drain_breaks_and_moves_none(balancer: Balancer, protocol: str, port: int, version: int) -> None:
    balancer.serve("round_robin", protocol, (port,), version=version)
    with holding(balancer, port, protocol) as held:
        drained = pool(version, b1={"state": "drain"})
        balancer.serve("round_robin", protocol, (port,), drained, version=version)
        result = held.result()
    clean(result)
    assert {mac: entry["held"] for mac, entry in by_mac(result).items()} == {B1: 10, B2: 10, B3: 10}
    # TCP keepalives come once a second, and datagrams as told.
    assert 50 < result["longest_gap_ms"] < (2500 if protocol == "tcp" else 1000), result["longest_gap_ms"]


def test_the_tcp_connections_of_a_backend_that_goes_break(balancer: Balancer) -> None:
    balancer.serve("round_robin")
    with holding(balancer, LINES) as held:
        balancer.serve("round_robin", backends=pool(b1={"state": "down"}))
        result = held.result()
    assert result["failed"] is True
    assert f"10 of {COUNT} connections to" in result["msg"] and "broke, and max_broken is 0: " in result["msg"]
    assert "which is not the backend that it was with" in result["msg"]
    assert (result["held"], result["broken"], result["moved"], result["closed"]) == (20, 10, 0, 0)
    found = {mac: (entry["held"], entry["broken"]) for mac, entry in by_mac(result).items()}
    assert found == {B1: (0, 10), B2: (10, 0), B3: (10, 0)}
    assert all(event["first_at"] > result["hold_began"] for event in result["breaks"])
    assert sum(event["connections"] for event in result["breaks"]) == 10


def test_the_flows_of_a_backend_that_leaves_the_hash_move(balancer: Balancer) -> None:
    balancer.serve("connection_hash", "udp", (UDP,), version=6)
    with holding(balancer, UDP, "udp") as held:
        balancer.serve("connection_hash", "udp", (UDP,), pool(6, b3=None), version=6)
        result = held.result()
    moved = by_mac(result)[B3]["connections"]
    assert result["failed"] is True
    assert f"{moved} of {COUNT} flows to" in result["msg"]
    assert "moved to another backend, and max_moved is 0: " in result["msg"]
    assert (result["held"], result["broken"], result["moved"]) == (COUNT, 0, moved)
    assert {event["from"] for event in result["moves"]} == {B3}
    assert by_mac(result)[B3]["moved_away"] == moved == sum(entry["moved_here"] for entry in by_mac(result).values())
    assert by_mac(result)[B3]["held"] == 0


def test_what_may_move_can_be_said(balancer: Balancer) -> None:
    balancer.serve("round_robin", "udp", (UDP,))
    with holding(balancer, UDP, "udp", max_moved=10) as held:
        balancer.serve("round_robin", "udp", (UDP,), pool(b1={"state": "down"}))
        result = held.result()
    assert not result["failed"], result["msg"]
    assert (result["held"], result["broken"], result["moved"]) == (COUNT, 0, 10)


@pytest.mark.parametrize(("protocol", "port"), TCP_AND_UDP)
def test_a_backend_that_falls_silent(balancer: Balancer, protocol: str, port: int) -> None:
    balancer.serve("round_robin", protocol, (port,))
    chain = f"chain incoming {{ type filter hook input priority 0; {protocol} dport {port} drop; }}"
    try:
        with holding(balancer, port, protocol, timeout=1.5) as held:
            balancer.lab.run("b2", ["nft", "-f", "-"], input=f"table ip dead {{ {chain}; }}")
            result = held.result()
    finally:
        balancer.lab.run("b2", ["nft", "delete", "table", "ip", "dead"], check=False)
    assert (result["held"], result["broken"], by_mac(result)[B2]["broken"]) == (20, 10, 10)
    assert "10 silent at the end of the hold, for more than 1.5 s" in result["msg"]
    assert result["longest_gap_ms"] > 1500


@pytest.mark.parametrize(("protocol", "port", "payload"), [("udp", UDP, None), ("tcp", LINES, "hello\n")])
def test_a_gap_is_measured(balancer: Balancer, protocol: str, port: int, payload: Any) -> None:
    """The load balancer is gone for a while: nothing breaks, and it is told for how long and when."""
    balancer.serve("connection_hash", protocol, (port,))
    with holding(balancer, port, protocol, payload=payload) as held:
        gone = "table netdev gone { chain incoming { type filter hook ingress device eth0 priority -300;"
        balancer.nft("-f", "-", text=f"{gone} meta l4proto {protocol} drop; }}; }}")
        began = time.time()
        time.sleep(1.5)  # the outage itself
        balancer.nft("delete", "table", "netdev", "gone")
        result = held.result()
    clean(result)
    assert 1400 < result["longest_gap_ms"] < 6000
    assert result["longest_gap_at"][:17] in {
        time.strftime("%Y-%m-%dT%H:%M:", time.gmtime(moment)) for moment in (began - 1, began)
    }


def test_a_service_that_closes_breaks_nothing_and_proves_nothing(balancer: Balancer) -> None:
    balancer.serve("round_robin")
    wish = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
    asked = {"address": balancer.address, "port": HTTP, "payload": wish, "hold": 30.0}
    result = balancer.module("client", "dsr_probe", asked)
    assert result["failed"] is True
    assert (result["answered"], result["held"], result["broken"], result["closed"]) == (30, 0, 0, 30)
    assert "the service closed all 30 connections" in result["msg"] and "broke" not in result["msg"]


def test_nobody_listens(balancer: Balancer) -> None:
    balancer.serve("round_robin", ports=None)
    result = balancer.module("client", "dsr_probe", {"address": balancer.address, "port": 81, "hold": 30.0})
    assert (result["answered"], result["unanswered"], result["held"], result["broken"]) == (0, 30, 0, 0)
    assert "30 connections" in result["msg"] and "refused (TCP RST)" in result["msg"]
    assert result["longest_gap_ms"] is None


def test_in_check_mode_too_and_more_than_at_a_time(balancer: Balancer, lab: Lab) -> None:
    """As many as need more descriptors than are usual, all at once."""
    balancer.serve("round_robin")
    asked = {"address": balancer.address, "port": LINES, "connections": 1200, "hold": 2.5}
    result = balancer.module.ok("client", "dsr_probe", asked, check=True)
    assert (result["answered"], result["held"]) == (1200, 1200)
    # (A backend that still has a connection of the same port, from another test, costs a second turn.)
    assert all(abs(entry["held"] - 400) < 30 for entry in result["backends"]), result["backends"]
    assert lab.run("client", ["ss", "-Htn", "state", "established"]).stdout == ""
