# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IPv6, SCTP, any protocol, ranges and whole protocols: real connections where this kernel has them, else crafted."""

from __future__ import annotations

from typing import Any

import pytest
from balancer import ADDRESSES6, HASHED, HTTP, TURNS, UDP, WEB, WEB6, Balancer, clean, pool

SCHEDULERS = (*HASHED, *TURNS)
VERSIONS = (4, 6)

# -- IPv6


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_ipv6_connections_and_datagrams(balancer: Balancer, scheduler: str) -> None:
    for protocol, port in (("tcp", HTTP), ("udp", UDP)):
        balancer.serve(scheduler, protocol, (port,), version=6)
        result = balancer.connect(port, 120, "--source-ports", "20000-20119", protocol=protocol)
        assert result["ok"] == 120, result
        expected = 1 if scheduler == "source_hash" else 3
        assert len(result["by_host"]) == expected, result
        if scheduler in TURNS:
            assert max(result["by_host"].values()) - min(result["by_host"].values()) <= 4, result


def test_ipv6_replies_are_direct(balancer: Balancer) -> None:
    balancer.serve("round_robin", version=6)
    sent = balancer.frames_to("--source", WEB6)
    replies = balancer.lab.start_traffic("client", "capture", "eth0", "--source", WEB6, "--direction", "in")
    result = balancer.connect(HTTP, 6, "--path", "/bytes/2000000", "--timeout", 30)
    assert result["ok"] == 6, result
    assert set(replies.stop()["by_source"]) == {balancer.lab.hosts[name].mac for name in ADDRESSES6}
    assert sent.stop()["frames"] == 0


@pytest.mark.parametrize("scheduler", ["connection_hash", "round_robin"])
def test_ipv6_connections_survive_changes_and_a_drain(balancer: Balancer, scheduler: str) -> None:
    balancer.serve(scheduler, version=6)
    held = balancer.hold(40)
    busy = "b1"
    balancer.serve(scheduler, version=6, backends=pool(6, **{busy: {"state": "drain"}}))
    result = balancer.connect(HTTP, 60)
    assert result["ok"] == 60 and busy not in result["by_host"], result
    balancer.serve(scheduler, version=6)
    clean(held.stop())


def test_both_families_side_by_side(balancer: Balancer) -> None:
    other = {"name": "web6", "address": WEB6, "ports": [str(HTTP)], "scheduler": "round_robin", "backends": pool(6)}
    balancer.serve("round_robin", others=[other])
    assert len(balancer.connect(HTTP, 30)["by_host"]) == 3
    balancer.version = 6
    assert len(balancer.connect(HTTP, 30)["by_host"]) == 3
    rows = {vip["name"]: vip for vip in balancer.module.ok("lb", "nft_dsr_vip_info")["vips"]}
    for name in ("web", "web6"):
        packets = [backend["packets"] for backend in rows[name]["backends"]]
        assert all(packets) and sum(packets) == rows[name]["packets"], rows[name]


def test_ipv6_backends_that_hash_alike_are_told_apart(balancer: Balancer) -> None:
    """Two flows of clients that differ in the first 32 bits of their address only share a backend, and live."""
    balancer.serve("round_robin", version=6)
    here = balancer.where(source="fd00:77::11")
    assert balancer.where(source="2001:db8:77::11") in ADDRESSES6
    assert balancer.where(source="fd00:77::11", flags="A") == here


# -- ranges and whole protocols


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("scheduler", ["connection_hash", "round_robin"])
def test_a_range_is_one_element(balancer: Balancer, version: int, protocol: str, scheduler: str) -> None:
    balancer.serve(scheduler, protocol, ("100", "7000-7999"), version=version)  # type: ignore[arg-type]
    listed = balancer.nft("list", "map", "netdev", "nft_dsr", f"ranges{'6' if version == 6 else ''}_eth0")
    assert listed.count("7000-7999") == 1 and "7001" not in listed, listed
    for port, served in ((6999, False), (7000, True), (7500, True), (7999, True), (8000, False), (100, True)):
        assert bool(balancer.where(port=port)) is served, port


@pytest.mark.parametrize("version", VERSIONS)
def test_all_ports_of_a_protocol(balancer: Balancer, version: int) -> None:
    balancer.serve("connection_hash", "udp", None, version=version)
    assert balancer.where(port=1) and balancer.where(port=65535)
    assert balancer.where(protocol="tcp", port=80) == ""
    result = balancer.connect(UDP, 30, protocol="udp")
    assert result["ok"] == 30, result


# -- SCTP, by crafted packets


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_sctp_associations_stay(balancer: Balancer, version: int, scheduler: str) -> None:
    balancer.serve(scheduler, "sctp", version=version)
    for port in (41000, 41001):
        backend = balancer.where(chunks="init", source_port=port)
        assert (
            backend and balancer.where(expected=3, chunks="cookie-echo,data,data", count=3, source_port=port) == backend
        )


@pytest.mark.parametrize("last", ["abort", "shutdown-complete"])
def test_an_sctp_association_that_ended_is_scheduled_anew(balancer: Balancer, last: str) -> None:
    balancer.serve("round_robin", "sctp")
    first = balancer.where(chunks="init")
    assert balancer.where(chunks="data") == balancer.where(chunks=last) == balancer.where(chunks="data") == first
    again = balancer.where(chunks="init")
    assert again != first and balancer.where(chunks="data") == again


def test_an_sctp_packet_of_no_association_goes_by_the_hash(balancer: Balancer) -> None:
    balancer.serve("round_robin", "sctp")
    assert len({balancer.where(chunks="data") for _unused in range(4)}) == 1


# -- any protocol

GRE, ESP = 47, 50


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scheduler", ["source_hash", *TURNS])
def test_any_protocol_goes_by_the_clients_address(balancer: Balancer, version: int, scheduler: str) -> None:
    balancer.serve(scheduler, "any", None, version=version)
    client = {4: "10.77.0.{}", 6: "fd00:77::{}"}[version]
    for number in (11, 12):
        source = client.format(number)
        went = {
            balancer.where(source=source, protocol=GRE, size=40, port=None, source_ports=None),
            balancer.where(source=source, protocol=ESP, size=40, port=None, source_ports=None),
            balancer.where(source=source, protocol="tcp", port=80),
            balancer.where(source=source, protocol="udp", port=9, source_port=5),
        }
        assert len(went) == 1 and "" not in went


@pytest.mark.parametrize("version", VERSIONS)
def test_any_takes_what_other_vips_of_the_address_leave(balancer: Balancer, version: int) -> None:
    rest = {
        "name": "rest",
        "address": WEB if version == 4 else WEB6,
        "protocol": "any",
        "backends": pool(version, b1=None, b2=None),
    }
    only = pool(version, b2=None, b3=None)
    balancer.serve("source_hash", "tcp", (HTTP,), version=version, backends=only, others=[rest])
    assert balancer.where(port=HTTP) == "b1"
    assert balancer.where(port=HTTP + 1) == "b3"
    assert balancer.where(protocol=GRE, size=20, port=None, source_ports=None) == "b3"
    assert balancer.where(protocol="udp") == "b3"
    # Echo stays the load balancer's.
    balancer.lab.run("client", ["ping", "-c", "1", "-W", "1", balancer.address])


# -- frames that are not for us, sources that nobody has


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scheduler", ["connection_hash", "round_robin"])
def test_impossible_sources_are_dropped(balancer: Balancer, version: int, scheduler: str) -> None:
    balancer.serve(scheduler, version=version)
    bad = {
        4: [WEB, "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"],
        6: [WEB6, "::", "::1", "::ffff:10.77.0.11", "ff02::1", "ff0e::1"],
    }
    for source in bad[version]:
        assert balancer.where(source=source) == "", source
    fine = {4: ["1.0.0.1", "126.1.1.1", "128.0.0.1", "223.255.255.254"], 6: ["64:ff9b::1", "fe80::11"]}
    for source in fine[version]:
        assert balancer.where(source=source), source


def test_impossible_stations_are_dropped(balancer: Balancer) -> None:
    balancer.serve("connection_hash")
    own = balancer.lab.hosts["lb"].mac
    # A bridge lets neither a group's address nor its own port's through; at the hook itself, then.
    rules = balancer.nft("list", "chain", "netdev", "nft_dsr", "pool_web")
    assert "@ll,48,32 & 0x1000000 != 0x0" in rules
    guard = balancer.nft("list", "set", "netdev", "nft_dsr", "guard_ip")
    assert f"{own} . {WEB}" in guard and f"00:00:00:00:00:00 . {WEB}" in guard


def test_backends_of_one_vip_may_be_clients_of_another(balancer: Balancer) -> None:
    """A loop guard that looked at all backends would cut them off."""
    other = {"name": "other", "address": "10.77.0.102", "ports": [str(HTTP)], "backends": pool(b1=None, b2=None)}
    balancer.serve("source_hash", backends=pool(b3=None), others=[other])
    lab = balancer.lab
    lab.ip("b1", "address delete 10.77.0.102/32 dev lo")
    try:
        result: dict[str, Any] = lab.traffic("b1", "connect", "10.77.0.102", HTTP, "--count", 5)
    finally:
        lab.ip("b1", "address add 10.77.0.102/32 dev lo")
    assert result["ok"] == 5 and set(result["by_host"]) == {"b3"}, result
