# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that stay with their backend: with each scheduler, over ports, through changes, drains and a full table."""

from __future__ import annotations

import json
from typing import Any

import pytest
from balancer import ADDRESSES, HASHED, HTTP, TURNS, Balancer, clean, pool

SCHEDULERS = (*HASHED, *TURNS)
VERSIONS = (4, 6)
CLIENTS = {4: [f"10.77.0.{number}" for number in (11, 12, 13, 14, 15)], 6: [f"fd00:77::{n}" for n in (11, 12, 13)]}


def clients(balancer: Balancer) -> list[list[Any]]:
    listed = json.loads(balancer.nft("-j", "list", "map", "netdev", "nft_dsr", "clients_web"))
    return listed["nftables"][1]["map"].get("elem", [])  # type: ignore[no-any-return]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_all_flows_of_a_client_go_to_one_backend(balancer: Balancer, version: int, scheduler: str) -> None:
    balancer.serve(scheduler, ports=("80", "7000-7001"), version=version, persistence_timeout=300)  # type: ignore[arg-type]
    went = []
    for client in CLIENTS[version]:
        flows = {
            balancer.where(source=client, source_port=port, port=service)
            for port, service in ((41000, 7000), (41001, 7001), (41002, 80))
        }
        assert len(flows) == 1 and "" not in flows, (client, flows)
        went += flows
    if scheduler in TURNS:
        assert len(set(went)) == 3, went  # new clients are spread
    assert len(clients(balancer)) == len(CLIENTS[version])


@pytest.mark.parametrize("protocol", ["udp", "sctp", "any"])
def test_persistence_of_other_protocols(balancer: Balancer, protocol: str) -> None:
    ports = None if protocol == "any" else (7000,)
    balancer.serve("source_hash" if protocol == "any" else "round_robin", protocol, ports, persistence_timeout=300)
    sent = "udp" if protocol == "any" else protocol
    assert len({balancer.where(protocol=sent, source_port=port) for port in (41000, 41001, 41002)}) == 1


def test_a_changed_pool_moves_no_client(balancer: Balancer) -> None:
    """That is what persistence adds to a hash: a client stays where the hash would say otherwise by now."""
    balancer.serve("source_hash", backends=pool(b3=None), persistence_timeout=300)
    before = {client: balancer.where(source=client) for client in CLIENTS[4]}
    for number in range(21, 24):
        changed = pool(**{name: {"weight": (number * 7 + index) % 5 + 1} for index, name in enumerate(ADDRESSES)})
        balancer.serve("source_hash", backends=changed, persistence_timeout=300)
        assert {client: balancer.where(source=client, source_port=41000 + number) for client in CLIENTS[4]} == before


@pytest.mark.parametrize("scheduler", ["connection_hash", "round_robin"])
def test_a_draining_backend_gets_no_new_flow_of_its_clients(balancer: Balancer, scheduler: str) -> None:
    balancer.serve(scheduler, persistence_timeout=300)
    first = balancer.where(source_port=41000)
    balancer.serve(scheduler, backends=pool(**{first: {"state": "drain"}}), persistence_timeout=300)
    assert balancer.where(source_port=41000, flags="A") == first  # the flow stays
    second = balancer.where(source_port=41001)
    assert second not in ("", first)
    # The client's entry has moved: it does not come back with the backend.
    assert balancer.where(source_port=41000, flags="A") == first
    balancer.serve(scheduler, persistence_timeout=300)
    assert balancer.where(source_port=41002) == second
    assert balancer.where(source_port=41000, flags="A") == first


def test_a_client_of_a_backend_that_is_down_moves(balancer: Balancer) -> None:
    balancer.serve("round_robin", persistence_timeout=300)
    first = balancer.where(source_port=41000)
    balancer.serve("round_robin", backends=pool(**{first: {"state": "down"}}), persistence_timeout=300)
    moved = balancer.where(source_port=41001)
    assert moved not in ("", first)
    balancer.serve("round_robin", persistence_timeout=300)
    assert balancer.where(source_port=41002) == moved


def test_every_packet_keeps_the_client(balancer: Balancer) -> None:
    balancer.serve("round_robin", persistence_timeout=300)
    backend = balancer.where()
    balancer.nft("flush", "map", "netdev", "nft_dsr", "clients_web")
    balancer.where(flags="A")
    assert len(clients(balancer)) == 1
    assert balancer.where(source_port=41001) == backend


def test_a_full_table_of_clients_breaks_nothing(balancer: Balancer) -> None:
    """Two clients are remembered, the others are scheduled like anybody; flows stay whole in any case."""
    balancer.serve("round_robin", persistence_timeout=300)
    text = balancer.lab.read("lb", "/etc/nft-dsr/ruleset.nft")  # what nft lists it does not always take again
    head, clients_map, rest = text.partition("map clients_web {")
    balancer.nft("-f", "-", text=head + clients_map + rest.replace("size 1048576", "size 2", 1))
    for client in CLIENTS[4]:
        backend = balancer.where(source=client)
        assert backend and balancer.where(expected=3, count=3, source=client, flags="A") == backend
        assert balancer.where(source=client, flags="FA") == balancer.where(source=client, flags="A") == backend
    assert len(clients(balancer)) == 2


def test_real_connections_of_one_client(balancer: Balancer) -> None:
    """Many at once, on all processors; the first one has been there before, so that all know where to go."""
    balancer.serve("round_robin", persistence_timeout=300)
    balancer.connect(HTTP, 1)
    held = balancer.hold(30)
    result = balancer.connect(HTTP, 600)
    assert result["ok"] == 600 and len(result["by_host"]) == 1, result
    stayed = held.stop()
    clean(stayed)
    assert set(stayed["by_host"]) == set(result["by_host"])


def test_turning_it_on_and_off_moves_no_flow(balancer: Balancer) -> None:
    for scheduler in ("connection_hash", "round_robin"):
        balancer.serve(scheduler)
        held = balancer.hold(30)
        balancer.serve(scheduler, persistence_timeout=60)
        later = balancer.hold(30)
        balancer.serve(scheduler, persistence_timeout=120)
        balancer.serve(scheduler)
        assert balancer.connect(HTTP, 30)["ok"] == 30
        clean(held.stop())
        clean(later.stop())
