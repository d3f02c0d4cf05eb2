# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which NIC, next hop and source address a probe takes on hosts of several kinds."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Optional

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.command import Completed
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError, DsrError, HostError
from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import Iproute
from ansible_collections.dsr.layer2.plugins.module_utils.probe.neighbours import neighbour_info
from ansible_collections.dsr.layer2.plugins.module_utils.probe.request import Request
from ansible_collections.dsr.layer2.plugins.module_utils.probe.way import Way, find_way

VIP, VIP6 = "10.77.0.100", "fd00:77::100"
B1 = "02:d5:00:00:00:15"


def host(
    addresses: dict[str, Sequence[str]],
    route: Optional[dict[str, Any]] = None,
    neighbours: Sequence[tuple[str, str, str]] = (),
) -> Iproute:
    """A host with these addresses, this one route and these neighbours (address, NIC, MAC)."""

    def ip(argv: Sequence[str], questions: Optional[str] = None) -> Completed:
        what: Any
        if "-batch" in argv:
            asked = [line.split()[-1] for line in (questions or "").splitlines()]
            answers = [json.dumps([{**route, "dst": address}]) for address in asked] if route else []
            return Completed(tuple(argv), 0 if route else 2, "\n".join(answers), "")
        if argv[2] == "link":
            what = [
                {
                    "ifname": name,
                    "ifindex": number,
                    "flags": ["LOOPBACK"] if name == "lo" else ["UP"],
                    "link_type": "loopback" if name == "lo" else "ether",
                }
                for number, name in enumerate(addresses, 1)
            ]
        elif argv[2] == "address":
            what = [
                {
                    "ifname": name,
                    "addr_info": [
                        {"local": str(one.ip), "prefixlen": one.network.prefixlen, "scope": "global"}
                        for one in map(ipaddress.ip_interface, texts)
                    ],
                }
                for name, texts in addresses.items()
            ]
        else:
            what = [{"dst": address, "dev": name, "lladdr": mac} for address, name, mac in neighbours]
        return Completed(tuple(argv), 0, json.dumps(what), "")

    return Iproute(ip)


def request(interface: Optional[str] = None, through: Optional[str] = None, vip: str = VIP) -> Request:
    return Request(ipaddress.ip_address(vip), 80, "tcp", 1, 1.0, interface, True, None, through, b"")


CLIENT = {"lo": ["127.0.0.1/8"], "eth0": ["10.77.0.10/24", "2001:db8::10/64"], "eth1": ["192.0.2.10/24"]}
LB = {"lo": ["127.0.0.1/8"], "eth0": ["10.77.0.101/32", "10.77.0.100/32", "10.77.0.2/24"], "eth1": ["192.0.2.2/24"]}
BACKEND = {"lo": ["127.0.0.1/8", "10.77.0.100/32"], "eth0": ["10.77.0.21/24"]}
TWO_NICS = {"lo": ["127.0.0.1/8"], "eth0": ["10.77.0.100/32"], "eth1": ["10.77.0.100/32"]}
ON_LINK = {"dev": "eth0", "prefsrc": "10.77.0.10"}
CLIENT6 = {"lo": ["::1/128"], "eth0": ["10.77.0.10/24", "fe80::a/64", "2001:db8::a/64", "fd00:77::a/64"]}
LB6 = {"lo": ["::1/128"], "eth0": [f"{VIP6}/128", "fd00:77::101/128", "10.77.0.2/24", "fd00:77::2/64", "fe80::2/64"]}
LB6_ALONE = {"lo": ["::1/128"], "eth0": [f"{VIP6}/128", "fd00:77::101/128", "10.77.0.2/24", "fe80::2/64"]}
NO_IPV6 = {"lo": ["127.0.0.1/8"], "eth0": ["10.77.0.2/24"]}
BY_GATEWAY = {"gateway": "10.77.0.1", "dev": "eth0", "prefsrc": "10.77.0.10"}


@pytest.mark.parametrize(
    "what, on, asked, expected",
    [
        (
            "a client",
            host(CLIENT, ON_LINK),
            request(),
            Way("eth0", None, VIP, IPv4Address("10.77.0.10"), False),
        ),
        (
            "a client whose route goes by a gateway",
            host(CLIENT, BY_GATEWAY),
            request(),
            Way("eth0", "10.77.0.1", "10.77.0.1", IPv4Address("10.77.0.10"), False),
        ),
        (
            "a client told the NIC of the route",
            host(CLIENT, BY_GATEWAY),
            request("eth0"),
            Way("eth0", "10.77.0.1", "10.77.0.1", IPv4Address("10.77.0.10"), False),
        ),
        (
            "a client told another NIC",
            host(CLIENT, BY_GATEWAY),
            request("eth1"),
            Way("eth1", None, VIP, IPv4Address("192.0.2.10"), False),
        ),
        (
            "a client without a route, told the NIC",
            host(CLIENT),
            request("eth1"),
            Way("eth1", None, VIP, IPv4Address("192.0.2.10"), False),
        ),
        (
            "the load balancer, which sends from no VIP",
            host(LB),
            request(through=B1),
            Way("eth0", None, VIP, IPv4Address("10.77.0.2"), True),
        ),
        (
            "a host that holds it on lo, which knows the MAC",
            host(BACKEND, neighbours=[("10.77.0.22", "eth0", B1), ("10.77.0.23", "eth0", "02:d5:00:00:00:17")]),
            request(through=B1),
            Way("eth0", None, VIP, IPv4Address("10.77.0.21"), True),
        ),
        (
            "a host that holds it on lo, told the NIC",
            host(BACKEND),
            request("eth0", through=B1),
            Way("eth0", None, VIP, IPv4Address("10.77.0.21"), True),
        ),
        (
            "a client of IPv6",
            host(CLIENT6, ON_LINK),
            request(vip=VIP6),
            Way("eth0", None, VIP6, IPv6Address("fd00:77::a"), False),
        ),
        (
            "a client of IPv6 whose VIP is behind a router",
            host(CLIENT6, {"gateway": "fe80::1", "dev": "eth0"}),
            request(vip="2001:db8:9::100"),
            Way("eth0", "fe80::1", "fe80::1", IPv6Address("2001:db8::a"), False),
        ),
        (
            "the load balancer of IPv6, which sends from no VIP",
            host(LB6),
            request(through=B1, vip=VIP6),
            Way("eth0", None, VIP6, IPv6Address("fd00:77::2"), True),
        ),
        (
            "one that has nothing better than its link-local address",
            host(LB6_ALONE),
            request(through=B1, vip=VIP6),
            Way("eth0", None, VIP6, IPv6Address("fe80::2"), True),
        ),
        (
            "a NIC without IPv6",
            host(NO_IPV6),
            request("eth0", through=B1, vip=VIP6),
            Way("eth0", None, VIP6, None, False),
        ),
        (
            "a NIC without any other address",
            host(TWO_NICS),
            request("eth1", through=B1),
            Way("eth1", None, VIP, None, True),
        ),
    ],
)
def test_the_way(what: str, on: Iproute, asked: Request, expected: Way) -> None:
    assert find_way(asked, on) == expected, what


@pytest.mark.parametrize(
    "what, on, asked, kind, said",
    [
        ("its own VIP", host(LB), request(), ConfigError, "address: this host holds 10.77.0.100 itself"),
        ("its own VIP on lo", host(BACKEND), request("eth0"), ConfigError, "address: this host holds"),
        ("no route", host(CLIENT), request(), HostError, "this host has no route to 10.77.0.100; give 'interface'"),
        (
            "a route into nowhere",
            host(CLIENT, {"type": "unreachable", "dev": "lo"}),
            request(),
            HostError,
            "this host has no route to 10.77.0.100",
        ),
        (
            "a broadcast address",
            host(CLIENT, {"type": "broadcast", "dev": "eth0"}),
            request(),
            ConfigError,
            "address: 10.77.0.100 is the broadcast address of eth0",
        ),
        (
            "a broadcast address, the NIC given",
            host(CLIENT, {"type": "broadcast", "dev": "eth0"}),
            request("eth0"),
            ConfigError,
            "address: 10.77.0.100 is the broadcast address of eth0",
        ),
        (
            "two NICs that hold it",
            host(TWO_NICS),
            request(through=B1),
            ConfigError,
            "interface: is needed: any of eth0, eth1 could be meant",
        ),
        (
            "a MAC that nobody knows",
            host(BACKEND),
            request(through=B1),
            ConfigError,
            f"interface: is needed: nothing tells by which NIC {B1} is reached",
        ),
    ],
)
def test_no_way(what: str, on: Iproute, asked: Request, kind: type[DsrError], said: str) -> None:
    with pytest.raises(kind) as caught:
        find_way(asked, on)
    assert said in str(caught.value), what


def test_its_own_vip_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="probe from another host of the segment, or give 'through'"):
        find_way(request(), host(LB))


@pytest.mark.parametrize(
    "changed, on, said",
    [
        ({"addresses": ["10.77.0.21", "b1"]}, host(CLIENT, ON_LINK), "addresses[1]: 'b1' is not an IP address"),
        ({"addresses": ["10.77.0.21"]}, host(CLIENT, BY_GATEWAY), "addresses[0]: 10.77.0.21 is not on a segment"),
        ({"addresses": ["10.77.0.21"]}, host(CLIENT), "addresses[0]: this host has no route to 10.77.0.21"),
        ({"addresses": [VIP]}, host(BACKEND), "addresses[0]: this host holds 10.77.0.100 itself"),
        ({"addresses": [VIP]}, host(TWO_NICS), "addresses[0]: this host holds 10.77.0.100 itself"),
        ({"addresses": ["fe80::1"]}, host(CLIENT6, ON_LINK), "addresses[0]: fe80::1 is a link-local address"),
        ({"addresses": ["fd00::1%eth0"]}, host(CLIENT6, ON_LINK), "addresses[0]: 'fd00::1%eth0' names a zone"),
        ({"addresses": ["fd00:77::15"]}, host(CLIENT6), "addresses[0]: this host has no route to fd00:77::15"),
        ({"timeout": 0.0}, host(CLIENT, ON_LINK), "timeout: 0 is not"),
        ({"settle": -0.1}, host(CLIENT, ON_LINK), "settle: -0.1 is not"),
        ({"attempts": 0}, host(CLIENT, ON_LINK), "attempts: 0 is not"),
        ({"interface": "eth7"}, host(CLIENT, ON_LINK), "interface 'eth7' does not exist"),
    ],
)
def test_neighbours_that_cannot_be_asked(changed: dict[str, Any], on: Iproute, said: str) -> None:
    defaults = {"addresses": [VIP], "interface": None, "timeout": 1.0, "attempts": 3, "settle": 0.3}
    with pytest.raises(DsrError) as caught:
        neighbour_info({**defaults, **changed}, on)
    assert said in str(caught.value)


def test_no_neighbours_asked_for() -> None:
    nobody = {"addresses": [], "interface": None, "timeout": 1.0, "attempts": 3, "settle": 0.0}
    assert neighbour_info(nobody, host(CLIENT, ON_LINK)) == []
