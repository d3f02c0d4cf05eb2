# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fragments follow the first of their datagram, ICMP errors the flow that they quote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from balancer import ADDRESSES, HASHED, HTTP, LINES, TURNS, UDP, Balancer, clean, pool
from lab import Lab
from lab.standard import build_routed, forget_path_mtu, hold_vips, serve

SCHEDULERS = (*HASHED, *TURNS)
VERSIONS = (4, 6)

# -- fragments


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_large_datagrams_arrive_whole(balancer: Balancer, version: int, scheduler: str) -> None:
    balancer.serve(scheduler, "udp", (UDP,), version=version)
    for size in (4000, 60000):
        result = balancer.connect(UDP, 30, "--size", size, protocol="udp")
        assert result["ok"] == 30, result
        if scheduler != "source_hash":
            assert len(result["by_host"]) == 3, result


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scheduler", ["connection_hash", "round_robin"])
def test_all_ports_and_any_take_large_datagrams(balancer: Balancer, version: int, scheduler: str) -> None:
    balancer.serve(scheduler, "udp", None, version=version)
    result = balancer.connect(UDP, 20, "--size", 4000, protocol="udp")
    assert result["ok"] == 20 and len(result["by_host"]) == 3, result
    if scheduler == "round_robin":
        balancer.serve(scheduler, "any", None, version=version)
        # One after the other: a client's first packets, at once on several processors, may each be scheduled.
        result = balancer.connect(UDP, 20, "--size", 4000, "--concurrency", 1, protocol="udp")
        assert result["ok"] == 20 and len(result["by_host"]) == 1, result


@pytest.mark.parametrize("version", VERSIONS)
def test_fragments_beside_whole_datagrams_of_the_same_flow(balancer: Balancer, version: int) -> None:
    """One flow, small and large datagrams in turn: all of them to one backend."""
    balancer.serve("round_robin", "udp", (UDP,), version=version)
    for port in (42000, 42001):
        hosts = set()
        for size in (16, 9000, 100, 4000, 16):
            result = balancer.connect(
                UDP, 2, "--size", size, "--source-ports", f"{port}-{port}", "--concurrency", 1, protocol="udp"
            )
            assert result["ok"] == 2, result
            hosts |= set(result["by_host"])
        assert len(hosts) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_number_used_again_belongs_to_the_new_datagram(balancer: Balancer, version: int) -> None:
    """Datagrams' numbers come round; the entry of the old one must not catch the new one's fragments."""
    balancer.serve("round_robin", "udp", version=version)
    went = []
    for port in (41000, 41001, 41002, 41003):
        went.append(balancer.where(expected=4, count=4, source_port=port, size=4000, fragment_size=1200, id=7))
    assert len(set(went)) == 3, went


@pytest.mark.parametrize("version", VERSIONS)
def test_later_fragments_alone(balancer: Balancer, version: int) -> None:
    """Without their first one they go nowhere, except where the client's address alone says who has them."""
    balancer.serve("connection_hash", "udp", version=version)
    assert balancer.where(expected=2, count=2, size=4000, fragment_size=1200, fragment_order="1,2", id=8) == ""
    balancer.serve("source_hash", "udp", version=version)
    one = balancer.where(size=100)
    assert balancer.where(expected=2, count=2, size=4000, fragment_size=1200, fragment_order="2,1", id=9) == one
    assert balancer.where(expected=4, count=4, size=4000, fragment_size=1200, fragment_order="3,2,1,0", id=10) == one


@pytest.mark.parametrize("version", VERSIONS)
def test_fragments_of_a_forwarding_backend_make_no_storm(balancer: Balancer, version: int) -> None:
    """What a backend sends back has its MAC as the source, and does not match what the client sent."""
    balancer.serve("connection_hash", "udp", version=version)
    backend = balancer.where(expected=4, count=4, size=4000, fragment_size=1200, id=11)
    back = balancer.lab.hosts[backend].mac
    capture = balancer.frames_to("--destination", balancer.address)
    balancer.send(size=4000, fragment_size=1200, count=4, id=11, from_mac=back)
    assert capture.stop()["frames"] == 0


def test_fragments_of_the_load_balancers_own_services_are_left_alone(balancer: Balancer) -> None:
    balancer.serve("connection_hash", "udp", (UDP,))
    balancer.lab.run("client", ["ping", "-c", "2", "-W", "1", "-s", "4000", balancer.address])


# -- ICMP errors, crafted

ERRORS = {
    4: ("frag-needed", "unreachable", "time-exceeded", "param-problem"),
    6: ("packet-too-big", "unreachable", "time-exceeded", "param-problem"),
}
ROUTER = {4: "10.77.0.99", 6: "fd00:77::99"}


def quoting(balancer: Balancer, error: str, port: int, protocol: str, **more: Any) -> str:
    """To which backend an ICMP error goes that quotes what a backend sent to the client's port."""
    options = {
        "source": ROUTER[balancer.version],
        "icmp_error": error,
        "quoted_source": balancer.address,
        "quoted_source_port": LINES,
        "quoted_destination": {4: "10.77.0.11", 6: "fd00:77::11"}[balancer.version],
        "quoted_destination_port": port,
        "quoted_protocol": protocol,
        "source_ports": None,
        "port": None,
        "protocol": None,
        **more,
    }
    return balancer.where(**options)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_icmp_errors_reach_the_backend_of_the_flow(balancer: Balancer, version: int, scheduler: str) -> None:
    for protocol in ("tcp", "udp"):
        balancer.serve(scheduler, protocol, version=version)
        wrong = []
        for number, error in enumerate(ERRORS[version]):
            port = 41000 + number
            backend = balancer.where(source_port=port)
            steered = quoting(balancer, error, port, protocol)
            if not backend or steered != backend:
                wrong.append((error, backend, steered))
        assert not wrong


@pytest.mark.parametrize("version", VERSIONS)
def test_icmp_errors_of_closing_draining_and_other_flows(balancer: Balancer, version: int) -> None:
    balancer.serve("round_robin", version=version)
    backend = balancer.where()
    balancer.where(flags="FA")
    assert quoting(balancer, "unreachable", 41000, "tcp") == backend  # closing
    balancer.serve("round_robin", version=version, backends=pool(version, **{backend: {"state": "drain"}}))
    assert quoting(balancer, "unreachable", 41000, "tcp") == backend
    balancer.serve("round_robin", version=version, backends=pool(version, **{backend: {"state": "down"}}))
    assert quoting(balancer, "unreachable", 41000, "tcp") not in ("", backend)
    # What quotes no flow of a VIP is the load balancer's own: another port, another protocol.
    assert quoting(balancer, "unreachable", 41000, "udp") == ""
    assert quoting(balancer, "unreachable", 41000, "tcp", quoted_source_port=9) == ""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocol", ["range", "all", "any", "sctp"])
def test_icmp_errors_of_ranges_whole_protocols_and_any(balancer: Balancer, version: int, protocol: str) -> None:
    ports: Any = {"range": ("7000-7100",), "sctp": (LINES,)}.get(protocol)
    name = {"range": "udp", "all": "udp"}.get(protocol, protocol)
    sent = "udp" if protocol == "any" else name
    for scheduler in ("source_hash", "round_robin"):
        balancer.serve(scheduler, name, ports, version=version)
        backend = balancer.where(protocol=sent)
        assert backend and quoting(balancer, "unreachable", 41000, sent) == backend


@pytest.mark.parametrize("version", VERSIONS)
def test_a_host_scheduled_by_its_drain_gets_its_errors(balancer: Balancer, version: int) -> None:
    """Tracked during a drain, on a hash VIP: the entry decides, not the hash."""
    balancer.serve("connection_hash", version=version)
    before = balancer.where(source_port=41000)
    balancer.serve("connection_hash", version=version, backends=pool(version, **{before: {"state": "drain"}}))
    now = balancer.where(source_port=41000)
    assert now not in ("", before)
    assert quoting(balancer, "unreachable", 41000, "tcp") == now


# -- a smaller path MTU, with real routers and real transfers


@pytest.fixture
def routed(bare_lab: Lab, lab_module: Any) -> Iterator[Balancer]:
    build_routed(bare_lab)
    hold_vips(bare_lab)
    serve(bare_lab)
    yield Balancer(bare_lab, lab_module)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_smaller_path_mtu_stalls_no_transfer(routed: Balancer, version: int) -> None:
    """The client is behind a link of 1,400 bytes; without the router's errors to the VIP, downloads stand still."""
    lab = routed.lab
    for scheduler in ("connection_hash", "round_robin"):
        routed.serve(scheduler, version=version)
        forget_path_mtu(lab)
        result = routed.connect(HTTP, 9, "--path", "/bytes/500000", "--timeout", 10)
        assert result["ok"] == 9, (scheduler, result)
    # Without the errors the same transfer stalls: this test can fail.
    family = "icmp" if version == 4 else "icmp6"
    routed.nft("flush", "chain", "netdev", "nft_dsr", f"{family}_eth0")
    forget_path_mtu(lab)
    result = routed.connect(HTTP, 3, "--path", "/bytes/500000", "--timeout", 1)
    assert result["ok"] == 0, result


def test_connections_go_on_while_datagrams_are_cut(balancer: Balancer) -> None:
    other = {
        "name": "datagrams",
        "address": balancer.address,
        "protocol": "udp",
        "ports": [str(UDP)],
        "scheduler": "round_robin",
        "backends": pool(),
    }
    balancer.serve("round_robin", others=[other])
    held = balancer.hold(20, LINES)
    result = balancer.connect(UDP, 60, "--size", 20000, protocol="udp")
    assert result["ok"] == 60 and set(result["by_host"]) == set(ADDRESSES), result
    clean(held.stop())
