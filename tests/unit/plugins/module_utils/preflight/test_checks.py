# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of one host that need no packet: segment, addresses, way back, offloads, sysctl files, nftables."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_interface
from typing import Any, Optional

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.command import Completed
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import HeldAddress, Link, Route
from ansible_collections.dsr.layer2.plugins.module_utils.loopback import arp
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.kernel import Kernel
from ansible_collections.dsr.layer2.plugins.module_utils.preflight import (
    addresses,
    nftables,
    offloads,
    request,
    returning,
    segment,
    settings,
)
from ansible_collections.dsr.layer2.plugins.module_utils.preflight.finding import Finding, listed
from ansible_collections.dsr.layer2.plugins.module_utils.preflight.network import FAR, Network
from ansible_collections.dsr.layer2.plugins.module_utils.preflight.request import Backend, Pool, Vip

VIP = ip_address("192.0.2.100")
B1, B2 = (Backend(ip_address(f"192.0.2.2{number}"), f"b{number}") for number in (1, 2))


def link(name: str, *flags: str, mac: str = "02:00:00:00:00:01", master: str = "") -> Link:
    return Link(name, 1, mac, 1500, frozenset({"UP", *flags}), "UP", master)


def route(nic: str = "eth0", gateway: Optional[str] = None, kind: str = "unicast", source: str = "192.0.2.2") -> Route:
    return Route(nic, gateway, source, kind)


def network(held: Iterable[str] = (), **routes: Optional[Route]) -> Network:
    """eth0, eth1 and lo; ``held`` as in "192.0.2.2/24 eth0"; routes by the name of whom they lead to."""
    names = {"b1": B1.address, "b2": B2.address, "far": FAR[0], "far6": FAR[1], "client": ip_address("198.51.100.7")}
    return Network(
        {"eth0": link("eth0"), "eth1": link("eth1"), "lo": link("lo", "LOOPBACK", mac="")},
        tuple(HeldAddress(place.split()[1], ip_interface(place.split()[0]), "global") for place in held),
        {names[name]: way for name, way in routes.items()},
    )


def told(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(one.result, one.what) for one in findings]


# --- segment


def test_the_nic_of_a_pool() -> None:
    pool = Pool((), (B1, B2))
    assert segment.interface_of(pool, network(b1=route(), b2=route())) == ("eth0", [])
    nic, found = segment.interface_of(pool, network(b1=route(), b2=route(gateway="192.0.2.1")))
    assert (nic, told(found)) == (
        "eth0",
        [("FAILED", "b2 (192.0.2.22) is reached through the router 192.0.2.1 (eth0)")],
    )
    assert told(segment.interface_of(pool, network(b1=route()))[1]) == [
        ("FAILED", "b2 (192.0.2.22) has no on-link route")
    ]
    ways = network(b1=route(), b2=route("eth1"))
    assert told(segment.interface_of(pool, ways)[1]) == [
        (
            "FAILED",
            "the backends of one pool are reached through several NICs: b1 (192.0.2.21) through eth0; b2 (192.0.2.22) "
            "through eth1",
        )
    ]
    assert segment.interface_of(Pool((), (B1, B2), backend_interface="eth1"), ways) == ("eth1", [])
    (given,) = segment.interface_of(Pool((), (B1,), backend_interface="eth7"), ways)[1]
    assert given.what == "there is no Ethernet NIC eth7; there are: eth0, eth1"
    own = network(b1=route("lo", kind="local"), b2=route(), held=["192.0.2.21/24 eth0"])
    assert "is an address of this load balancer" in segment.interface_of(pool, own)[1][0].what


def test_a_backend_out_of_service_never_fails() -> None:
    gone = Backend(B2.address, "b2", in_service=False)
    assert [one.result for one in segment.interface_of(Pool((), (B1, gone)), network(b1=route()))[1]] == ["warning"]
    found = list(segment.judge({"eth0": [gone]}, {}))
    assert [one.result for one in found] == ["warning"]
    macs = frozenset({"02:00:00:00:00:22", "02:00:00:00:00:23"})
    assert [one.result for one in segment.judge({"eth0": [gone]}, {("eth0", gone.address): macs})] == ["warning"]


def test_who_answers_on_the_segment() -> None:
    mac = "02:00:00:00:00:21"
    answers = {("eth0", B1.address): frozenset({mac})}
    assert told(segment.judge({"eth0": [B1, B2]}, answers)) == [
        ("FAILED", "b2 (192.0.2.22): no answer to ARP on eth0"),
        ("ok", "1 of 2 backends answer on eth0"),
    ]
    two = {("eth0", B1.address): frozenset({mac, "02:00:00:00:00:99"})}
    assert told(segment.judge({"eth0": [B1]}, two)) == [
        ("FAILED", f"{mac} and 02:00:00:00:00:99 both answer for the backend b1 (192.0.2.21) on eth0")
    ]
    pinned = Backend(B1.address, "b1", "02:00:00:00:00:77")
    assert ("warning", f"b1 (192.0.2.21) answers from {mac}, and is pinned to 02:00:00:00:00:77") in told(
        segment.judge({"eth0": [pinned]}, answers)
    )


# --- addresses


@pytest.mark.parametrize(
    ("end", "held", "result"),
    [
        ("load_balancer", "192.0.2.100/32 eth0", "ok"),
        ("load_balancer", "192.0.2.100/24 eth0", "FAILED"),
        ("backend", "192.0.2.100/32 lo", "ok"),
        ("backend", "192.0.2.100/32 eth0", "FAILED"),
        ("backend", "192.0.2.100/24 eth0", "FAILED"),
        ("client", "192.0.2.100/32 lo", "FAILED"),
    ],
)
def test_where_a_vip_may_be(end: str, held: str, result: str) -> None:
    found = [one.result for one in addresses.judge(end, [VIP], network([held]))]
    assert found[0] == result
    assert addresses.held_well(end, [VIP], network([held])) == (["192.0.2.100"] if result == "ok" else [])


def test_a_vip_that_is_the_hosts_main_address() -> None:
    """Some clouds give every host a /32."""
    (found, _nothing_held) = addresses.judge(
        "load_balancer", [VIP], network(["192.0.2.100/32 eth0"], far=route(source="192.0.2.100"))
    )
    assert (found.result, found.what) == (
        "FAILED",
        "the VIP 192.0.2.100 is this host's own address (192.0.2.100/32 on eth0)",
    )


# --- the way back


@pytest.mark.parametrize(
    ("ways", "rp_filter", "expected"),
    [
        ({"client": route(), "far": route()}, 1, ["ok"]),
        ({"client": route("eth1")}, 1, ["FAILED"]),
        ({"client": route("eth1")}, 2, ["ok"]),
        ({"client": route("eth1")}, 0, ["ok"]),
        ({"client": None}, 0, ["FAILED"]),
        ({"client": route(kind="unreachable")}, 2, ["FAILED"]),
        ({"client": route(), "far": route("eth1")}, 1, ["warning"]),
        ({"client": route(), "far": route("eth1")}, 2, ["warning"]),
        ({"client": route(), "far": None}, 1, ["ok"]),
        ({"client": route(), "far6": route("eth1")}, 1, ["ok"]),  # no VIP is of IPv6
    ],
)
def test_the_way_back(ways: dict[str, Any], rp_filter: int, expected: list[str]) -> None:
    clients = [ip_address("198.51.100.7"), ip_address("2001:db8::7")]
    found = returning.judge("eth0", [4], clients, network(**ways), rp_filter)
    assert [one.result for one in found] == expected
    spared = returning.judge("eth0", [4], clients, network(**ways), rp_filter, in_service=False)
    assert "FAILED" not in [one.result for one in spared]


# --- offloads


@pytest.mark.parametrize(("flags", "on"), [(0, False), (1 << 15, True), (1 << 15 | 1 << 7, True), (1 << 14, False)])
def test_lro_is_read_from_what_the_driver_answers(flags: int, on: bool) -> None:
    asked = []

    def driver(nic: str, command: int) -> Optional[int]:
        asked.append((nic, command))
        return flags

    assert offloads.lro("eth0", driver) is on
    assert asked == [("eth0", 0x25)]
    assert offloads.lro("eth0", lambda nic, command: None) is None


def test_what_is_said_of_lro() -> None:
    found = list(offloads.judge({"eth0": True, "eth1": False, "eth2": None}))
    assert [one.result for one in found] == ["FAILED", "not tested", "ok"]
    assert found[0].do.startswith("ethtool -K eth0 lro off")
    links = {"bond0": link("bond0"), "eth0": link("eth0", master="bond0"), "eth1": link("eth1")}
    assert offloads.with_ports(["bond0"], links) == ["bond0", "eth0"]


# --- sysctl


def judged(*texts: tuple[str, str], own: str = "/etc/sysctl.d/99-dsr.conf", **how: Any) -> list[tuple[str, str]]:
    interfaces = [arp.Interface("eth0", True, how.pop("ignore", 0), 0)]
    files = [arp.SysctlFile(path, text) for path, text in texts]
    return told(settings.judge(interfaces, how.pop("all_ignore", 0), files, None, own, **how))


def test_what_undoes_the_arp_settings() -> None:
    assert judged() == [("ok", "nothing undoes the ARP settings")]
    # Before the role's own file: that one wins, although it is not there yet.
    assert judged(("/etc/sysctl.d/10-x.conf", "net.ipv4.conf.all.arp_ignore=0"))[0][0] == "ok"
    (late,) = judged(("/etc/sysctl.d/zz-x.conf", "net.ipv4.conf.all.arp_ignore=0"))
    assert late[0] == "FAILED" and late[1].startswith(
        "/etc/sysctl.d/zz-x.conf line 1 sets net.ipv4.conf.all.arp_ignore"
    )
    (nic,) = judged(("/etc/sysctl.d/10-x.conf", "net.ipv4.conf.eth0.arp_ignore=3"))
    assert nic[0] == "FAILED" and "arp_ignore of eth0 to 3" in nic[1]
    (now,) = judged(ignore=3)
    assert now[0] == "FAILED" and now[1].startswith("net.ipv4.conf.eth0.arp_ignore is 3")
    assert judged(ignore=3, in_service=False)[0][0] == "warning"


# --- nftables


def nft(version: str = "1.0.6", refused: str = "") -> Kernel:
    def runner(argv: Any, text: Optional[str]) -> Completed:
        if "--version" in argv:
            return Completed(tuple(argv), 0, f"nftables v{version} (Name)\n", "")
        if refused and refused in (text or ""):
            return Completed(tuple(argv), 1, "", "Error: Could not process rule: Operation not supported")
        return Completed(tuple(argv), 0, "", "")

    return Kernel(runner)


def test_nft_and_the_kernel() -> None:
    def found(kernel: Kernel, installs: bool = True, there: bool = True) -> list[tuple[str, str]]:
        return told(nftables.judge(installs, kernel, lambda name: "/usr/sbin/nft" if there else None))

    assert found(nft()) == [("ok", "nft 1.0.6, netdev ingress hook")]
    assert found(nft("0.9.3")) == [("FAILED", "nft 0.9.3 is too old; version 1.0.2 or later is needed")]
    assert found(nft(), there=False) == [("warning", "nft is not installed")]
    assert found(nft(), installs=False, there=False) == [("FAILED", "nft is not installed")]
    (hook,) = found(nft(refused="hook ingress"))
    assert hook[0] == "FAILED" and "the kernel takes no rules at the netdev ingress hook" in hook[1]
    old = found(nft(refused="typeof @nh"))
    assert [result for result, _what in old] == ["warning", "ok"]


# --- the question


def test_the_question_is_checked() -> None:
    def parse(**options: Any) -> request.Request:
        given = {"end": "backend", "pools": [], "clients": [], "ask": True, "timeout": 1.0, "sysctl_file": "",
                 "installs": True}  # fmt: skip
        return request.parse({**given, **options})

    vips = [{"address": "192.0.2.100", "ports": ["80", "8000-8100"]}]
    (pool,) = parse(pools=[{"vips": vips, "backends": [{"address": "192.0.2.21"}]}]).pools
    assert pool.vips == (Vip("192.0.2.100", VIP, "tcp", ((80, 80), (8000, 8100))),)
    for wrong, message in (
        ({"pools": [{"vips": [{"address": "192.0.2.100/32"}]}]}, "pools[0].vips[0].address: '192.0.2.100/32' is not"),
        (
            {"pools": [{"vips": [{"address": "192.0.2.100", "ports": ["x"]}]}]},
            "pools[0].vips[0].ports[0]: 'x' is no port",
        ),
        (
            {"pools": [{"vips": [], "backends": [{"address": "192.0.2.21", "mac": "ff:ff:ff:ff:ff:ff"}]}]},
            "backends[0].mac",
        ),
        ({"clients": ["client"]}, "clients[0]: 'client' is not an IP address"),
        ({"timeout": 0}, "timeout: is 0"),
    ):
        with pytest.raises(ConfigError) as error:
            parse(**wrong)
        assert message in str(error.value)


def test_many_names_in_a_sentence() -> None:
    assert listed(["b1", "b2", "b1"]) == "b1, b2"
    assert listed(f"b{number}" for number in range(100)) == "b0, b1, b2, b3, b4 and 95 more"
