# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VIPs with one pool share rules and maps; what happens to one of them happens to no other."""

from __future__ import annotations

import re
from typing import Any

import pytest
from balancer import HTTP, OTHER, OTHER6, WEB, WEB6, Balancer, pool

SECOND = {4: OTHER, 6: OTHER6}
FIRST = {4: WEB, 6: WEB6}
BOTH_FAMILIES = pytest.mark.parametrize("version", [4, 6])


def serve(balancer: Balancer, version: int, scheduler: str = "connection_hash", **second: Any) -> dict[str, Any]:
    """Two VIPs with equal pools but for what is said of the second."""
    other = {
        "name": "other",
        "address": SECOND[version],
        "ports": [str(HTTP)],
        "scheduler": scheduler,
        "backends": pool(version),
        **second,
    }
    return balancer.serve(scheduler, ports=(HTTP,), version=version, others=[other])


def chains(balancer: Balancer, version: int) -> dict[str, str]:
    """Which chain each VIP's packets go to."""
    name = "services6_eth0" if version == 6 else "services_eth0"
    found = re.findall(r"(\S+) \. tcp \. 80 .*? : goto (\w+)", balancer.nft("list", "map", "netdev", "nft_dsr", name))
    return dict(found)


def figures(balancer: Balancer) -> dict[str, dict[str, Any]]:
    return {vip["name"]: vip for vip in balancer.module.ok("lb", "nft_dsr_vip_info", {})["vips"]}


def who_serves(balancer: Balancer, address: str, **packet: Any) -> list[str]:
    return [balancer.where(destination=address, port=HTTP, source_port=43000 + number, **packet) for number in range(8)]


@BOTH_FAMILIES
@pytest.mark.parametrize("scheduler", ["source_hash", "connection_hash"])
def test_one_pool_has_one_chain(balancer: Balancer, scheduler: str, version: int) -> None:
    serve(balancer, version, scheduler)
    assert chains(balancer, version) == {FIRST[version]: "pool_other", SECOND[version]: "pool_other"}
    assert who_serves(balancer, FIRST[version]) == who_serves(balancer, SECOND[version])


@BOTH_FAMILIES
def test_each_vip_counts_for_itself(balancer: Balancer, version: int) -> None:
    serve(balancer, version)
    sent = who_serves(balancer, SECOND[version])
    found = figures(balancer)
    assert found["other"]["packets"] == len(sent)
    assert {backend["name"]: backend["packets"] for backend in found["other"]["backends"]} == {
        name: sent.count(name) for name in ("b1", "b2", "b3")
    }
    assert found["web"]["packets"] == sum(backend["packets"] for backend in found["web"]["backends"]) == 0


@BOTH_FAMILIES
@pytest.mark.parametrize("state", ["down", "drain"])
def test_a_backend_that_leaves_one_vip_stays_with_the_other(balancer: Balancer, version: int, state: str) -> None:
    serve(balancer, version)
    before = who_serves(balancer, FIRST[version], flags="S")
    assert "b1" in before
    counted = figures(balancer)
    serve(balancer, version, backends=pool(version, b1={"state": state}))
    # Who shares rules shares no states; counts go with a VIP that gets rules of its own.
    assert who_serves(balancer, FIRST[version], flags="S") == before
    after = who_serves(balancer, SECOND[version], flags="S")
    assert "b1" not in after
    assert [host for host, old in zip(after, before) if old != "b1"] == [host for host in before if host != "b1"]
    b1 = figures(balancer)["other"]["backends"][0]
    assert b1["packets"] == (counted["other"]["backends"][0]["packets"] if state == "drain" else 0)
    serve(balancer, version)
    # Flows that began during a drain stay where they began.
    assert who_serves(balancer, SECOND[version], flags="A") == (after if state == "drain" else before)


@BOTH_FAMILIES
def test_no_vip_of_the_pool_is_a_source(balancer: Balancer, version: int) -> None:
    serve(balancer, version)
    for address in (FIRST[version], SECOND[version]):
        for source in (FIRST[version], SECOND[version]):
            assert balancer.where(destination=address, port=HTTP, source=source) == "", (address, source)
        assert balancer.where(destination=address, port=HTTP)


def test_connections_live_while_others_come_and_go(balancer: Balancer) -> None:
    balancer.serve("connection_hash", ports=(HTTP, 7000))
    held = balancer.hold(20)
    more: list[dict[str, Any]] = []
    for number in range(1, 5):
        more.append({"name": f"a{number}", "address": f"10.77.{number}.1", "ports": ["80", "7000"],
                     "scheduler": "connection_hash", "backends": pool()})  # fmt: skip
        balancer.serve("connection_hash", ports=(HTTP, 7000), others=more)
    balancer.serve("connection_hash", ports=(HTTP, 7000))
    result = held.stop()
    assert (result["opened"], result["broken"], result["moved"]) == (20, 0, 0), result
