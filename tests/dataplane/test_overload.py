# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Floods, full tables, limits, sources that may not come; and what packets get when nobody is left."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest
from balancer import ADDRESSES, HASHED, HTTP, LINES, TURNS, UDP, Balancer, clean, pool

SCHEDULERS = (*HASHED, *TURNS)
VERSIONS = (4, 6)


def entries(balancer: Balancer, name: str) -> int:
    listed = json.loads(balancer.nft("-j", "list", "map", "netdev", "nft_dsr", name))
    return len(listed["nftables"][1]["map"].get("elem", []))


# -- floods


@pytest.mark.parametrize("version", VERSIONS)
def test_a_flood_of_spoofed_syns(balancer: Balancer, version: int) -> None:
    """100,000 SYNs of as many clients against a table of 1,000: old connections live, new ones come in and live."""
    balancer.serve("round_robin", version=version, flow_table={"size": 1000})
    before = balancer.hold(50)
    source = {4: "198.18.0.0", 6: "2001:db8:1::"}[version]
    balancer.send(source=source, sources=50000, source_port="1024-1025", count=100_000, rate=100_000)
    assert entries(balancer, "flows_web") == 1000
    during = balancer.hold(50)
    result = balancer.connect(HTTP, 100)
    assert result["ok"] == 100, result
    # Half of them were in the table before it was full, the others go by the hash, and all stay.
    balancer.send(source=source, sources=50000, source_port="1024-1025", count=20_000, rate=100_000)
    clean(before.stop())
    clean(during.stop())
    assert re.search(r"counter packets [1-9]\d* .*goto fallback_web", balancer.nft(
        "list", "chain", "netdev", "nft_dsr", "syn_web"
    ))  # fmt: skip


def test_a_flood_of_datagrams(balancer: Balancer) -> None:
    balancer.serve("round_robin", "udp", (UDP,), flow_table={"size": 1000})
    before = balancer.hold(30, UDP, "udp")
    balancer.send(source="198.18.0.0", sources=5000, port=UDP, count=5000, rate=50_000, flags=None)
    during = balancer.hold(30, UDP, "udp")
    result = balancer.connect(UDP, 60, protocol="udp")
    assert result["ok"] == 60, result
    clean(before.stop())
    clean(during.stop())


# -- life times


def test_life_times_of_their_own(balancer: Balancer) -> None:
    times = {"syn": 7, "established": 77, "closing": 17}
    balancer.serve("round_robin", flow_table={"timeouts": times})

    def left(name: str) -> int:
        listed = json.loads(balancer.nft("-j", "list", "map", "netdev", "nft_dsr", name))
        (entry,) = listed["nftables"][1]["map"]["elem"]
        return int(entry[0]["elem"]["expires"])

    balancer.where()
    assert 4 <= left("flows_web") <= 7
    balancer.where(flags="A")
    assert 70 <= left("flows_web") <= 77
    balancer.where(flags="FA")
    assert 13 <= left("closing_web") <= 17
    balancer.serve("round_robin", "udp", (UDP,), flow_table={"timeouts": {"udp": 33}})
    balancer.where(port=UDP)
    assert 29 <= left("flows_web") <= 33


def test_new_life_times_keep_the_flows(balancer: Balancer) -> None:
    balancer.serve("round_robin")
    held = balancer.hold(30)
    result = balancer.serve("round_robin", flow_table={"timeouts": {"established": 3600}})
    assert not [command for command in result["commands"] if re.match(r"(add|delete) map", command)]
    clean(held.stop())


# -- sources


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scheduler", ["source_hash", "round_robin"])
def test_allowed_and_denied_sources(balancer: Balancer, version: int, scheduler: str) -> None:
    allow = {4: ["10.77.0.0/28", "198.18.0.0/15"], 6: ["fd00:77::/112", "2001:db8::/32"]}[version]
    deny = {4: ["198.18.7.0/24", "10.77.0.12"], 6: ["2001:db8:7::/48", "fd00:77::12"]}[version]
    balancer.serve(scheduler, version=version, allow_sources=allow, deny_sources=deny)
    good = {4: ["10.77.0.11", "198.18.6.255", "198.18.8.0"], 6: ["fd00:77::11", "2001:db8:6::1"]}[version]
    bad = {4: ["10.77.0.16", "198.18.7.1", "10.77.0.12"], 6: ["fd00:78::11", "2001:db8:7::1", "fd00:77::12"]}[version]
    for source in good:
        assert balancer.where(source=source), source
    for source in bad:
        assert balancer.where(source=source) == "", source


def test_a_source_that_is_denied_now_is_cut_off(balancer: Balancer) -> None:
    balancer.serve("round_robin")
    assert balancer.where()
    balancer.serve("round_robin", deny_sources=["10.77.0.11/32"])
    assert balancer.where(flags="A") == ""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_new_flows_of_one_source_are_limited(balancer: Balancer, version: int, scheduler: str) -> None:
    balancer.serve(scheduler, version=version, new_flows_per_source="10/hour")
    out = balancer.frames_to("--destination", balancer.address)
    balancer.send(source_port="42000-42049", count=50)
    assert out.stop()["frames"] == 10
    other = {4: "10.77.0.12", 6: "fd00:77::12"}[version]
    assert balancer.where(source=other)  # another source is another matter
    assert balancer.where(flags="A", source_port=42000)  # and flows go on


@pytest.mark.parametrize("protocol", ["udp", "sctp"])
def test_new_flows_of_other_protocols_are_limited(balancer: Balancer, protocol: str) -> None:
    balancer.serve("round_robin", protocol, new_flows_per_source="5/hour")
    out = balancer.frames_to("--destination", balancer.address)
    balancer.send(source_port="42000-42019", count=20)
    assert out.stop()["frames"] == 5
    assert balancer.where(source_port=42000, chunks="data" if protocol == "sctp" else None)


# -- states


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_no_packet_goes_to_a_backend_that_is_down(balancer: Balancer, version: int, scheduler: str) -> None:
    balancer.serve(scheduler, version=version)
    held = balancer.hold(30)
    down = "b1"
    capture = balancer.frames_to("--to-mac", balancer.lab.hosts[down].mac, "--destination", balancer.address)
    balancer.serve(scheduler, version=version, backends=pool(version, **{down: {"state": "down"}}))
    count = capture.stop()["frames"]  # of before the transaction
    capture = balancer.frames_to("--to-mac", balancer.lab.hosts[down].mac, "--destination", balancer.address)
    result = balancer.connect(HTTP, 30)
    assert result["ok"] == 30 and down not in result["by_host"], result
    assert capture.stop()["frames"] == 0 and count >= 0
    stayed = held.stop()
    assert set(stayed["broken_by_host"]) <= {down}, stayed  # nobody else's connection


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_backups_serve_when_nobody_else_can(balancer: Balancer, version: int, scheduler: str) -> None:
    def serve(**states: str) -> dict[str, Any]:
        changes: dict[str, Any] = {name: {"state": state} for name, state in states.items()}
        changes["b3"] = {**changes.get("b3", {}), "backup": True}
        return balancer.serve(scheduler, version=version, backends=pool(version, **changes))

    def hosts() -> set[str]:
        result = balancer.connect(HTTP, 24, "--source-ports", "20000-20023")
        assert result["ok"] == 24, result
        return set(result["by_host"])

    serve()
    held = balancer.hold(20)
    assert "b3" not in hosts()
    serve(b1="down")
    assert hosts() == {"b2"}
    serve(b1="down", b2="drain")
    assert hosts() == {"b3"}
    serve(b1="down", b2="down")
    assert hosts() == {"b3"}
    serve()
    assert "b3" not in hosts()
    stayed = held.stop()
    assert "b3" not in stayed["by_host"], stayed


def test_adding_a_backup_moves_nothing(balancer: Balancer) -> None:
    balancer.serve("connection_hash", backends=pool(b3=None))
    before = [balancer.where(source_port=41000 + number, flags="A") for number in range(8)]
    result = balancer.serve("connection_hash", backends=pool(b3={"backup": True}))
    assert [balancer.where(source_port=41000 + number, flags="A") for number in range(8)] == before
    assert not any("slots_web" in command for command in result["commands"])


EVERYBODY_DOWN = {name: {"state": "down"} for name in ADDRESSES}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scheduler", ["connection_hash", "round_robin"])
def test_on_empty(balancer: Balancer, version: int, scheduler: str) -> None:
    nobody = pool(version, **EVERYBODY_DOWN)
    lab = balancer.lab
    server = lab.start_traffic("lb", "serve", "--http", HTTP, "--udp", UDP, wait=False)
    server.wait_for("READY")
    try:
        # The load balancer has a server of its own on the VIP: only `local` lets anybody see it.
        expected: dict[tuple[str, str], dict[str, int]] = {
            ("tcp", "drop"): {"timeout": 2},
            ("tcp", "reject"): {"ECONNREFUSED": 2},
            ("tcp", "local"): {},
            ("udp", "drop"): {"timeout": 2},
            ("udp", "reject"): {"ECONNREFUSED": 2},
            ("udp", "local"): {},
        }
        for (protocol, on_empty), errors in expected.items():
            port = HTTP if protocol == "tcp" else UDP
            balancer.serve(scheduler, protocol, (port,), nobody, version=version, on_empty=on_empty)
            result = balancer.connect(port, 2, "--timeout", 0.4, protocol=protocol)
            assert result["errors"] == errors, (protocol, on_empty, result)
            if on_empty == "local":
                assert result["by_host"] == {"lb": 2}, result
    finally:
        server.stop()


def test_on_empty_is_for_an_empty_pool_only(balancer: Balancer) -> None:
    balancer.serve("round_robin", ports=(HTTP, LINES), on_empty="reject")
    assert balancer.connect(HTTP, 30)["ok"] == 30
    held = balancer.hold(20)
    draining = pool(**{name: {"state": "drain"} for name in ADDRESSES})
    balancer.serve("round_robin", ports=(HTTP, LINES), backends=draining, on_empty="reject")
    assert balancer.connect(HTTP, 3, "--timeout", 0.4)["errors"] == {"ECONNREFUSED": 3}
    clean(held.stop())


def test_a_flow_table_of_another_size_keeps_its_flows(balancer: Balancer) -> None:
    """Where the kernel can resize a map in place (this one says whether it can)."""
    balancer.serve("round_robin", flow_table={"size": 1000})
    held = balancer.hold(30)
    tracked = entries(balancer, "flows_web")
    balancer.serve("round_robin", flow_table={"size": 5000})
    assert "size 5000" in balancer.nft("-t", "list", "map", "netdev", "nft_dsr", "flows_web")
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if release >= (6, 18):
        assert entries(balancer, "flows_web") >= tracked == 30
        clean(held.stop())
