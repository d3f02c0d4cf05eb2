# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host adds to a VIP, and what it can't: NICs, broadcast domains, MAC addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.common.iproute import Iproute
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolve import resolve
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import (
    OWN,
    Network,
    backends,
    backends6,
    mac_of,
    vip,
    vip6,
)

ONE_DOMAIN = "L2 DSR needs one broadcast domain (for routed networks use L3 DSR)"
LEARNT = "02:00:00:00:00:99"


def ask(
    network: Network, *vips: Mapping[str, Any], known: Sequence[ResolvedVip] = (), one: bool = False
) -> tuple[list[ResolvedVip], list[str]]:
    parsed = [model.parse_vip(dict(options), "") for options in vips]
    places = ["" if one else f"vips[{number}]." for number in range(len(parsed))]
    by_name = {item.vip.name: item for item in known}
    return resolve(parsed, places, Iproute(network.ip), network.resolve, by_name)


def error_of(network: Network, *vips: Mapping[str, Any], known: Sequence[ResolvedVip] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        ask(network, *vips, known=known)
    return str(caught.value)


def macs_of(item: ResolvedVip) -> dict[str, str]:
    return {str(address): mac for address, mac in item.macs.items()}


def known_as(options: Mapping[str, Any], macs: Mapping[str, str], nic: str = "eth0") -> ResolvedVip:
    parsed = model.parse_vip(dict(options), "")
    return ResolvedVip(parsed, nic, nic, {ipaddress.ip_address(address): mac for address, mac in macs.items()})


# -- NICs


@pytest.mark.parametrize(
    ("options", "nics"),
    [
        ({}, ("eth0", "eth0")),
        ({"backends": [{"address": "10.78.0.21"}]}, ("eth1", "eth1")),
        ({"interface": "eth1"}, ("eth1", "eth0")),
        ({"backend_interface": "eth0"}, ("eth0", "eth0")),
        # Named, it is believed: the backends of eth0's network may be reached through eth1 as well.
        ({"backend_interface": "eth1"}, ("eth1", "eth1")),
        ({"backend_interface": "eth1", "interface": "eth0"}, ("eth0", "eth1")),
        ({"backends": [*backends(21), {"address": "10.78.0.21"}], "backend_interface": "eth1"}, ("eth1", "eth1")),
    ],
)
def test_the_nics_of_a_vip(options: dict[str, Any], nics: tuple[str, str]) -> None:
    resolved, warnings = ask(Network(), vip(**options))
    assert [(item.interface, item.backend_interface) for item in resolved] == [nics]
    assert warnings == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"interface": "eth9"}, "vips[0].interface: this host has no interface 'eth9'; it has: eth0, eth1"),
        ({"backend_interface": "eth9"}, "vips[0].backend_interface: this host has no interface 'eth9'; it has: eth0,"),
        ({"interface": "lo"}, "vips[0].interface: lo is no Ethernet interface; L2 DSR rewrites MAC addresses"),
        (
            {"backends": [*backends(21), {"address": "10.78.0.21"}]},
            "vips[0].backends: they are reached through more than one interface (10.77.0.21 through eth0, 10.78.0.21 "
            f"through eth1); {ONE_DOMAIN}",
        ),
        (
            {"backends": [*backends(21), {"address": "192.0.2.21"}]},
            "vips[0].backends[1].address: 192.0.2.21 is not on this host's segments: it is reached through the router "
            f"10.77.0.1 (eth0); {ONE_DOMAIN}",
        ),
        (
            {"backends": backends(21, 2)},
            "vips[0].backends[1].address: 10.77.0.2 is an address of this load balancer (eth0); a backend is another",
        ),
        (
            {"backends": [{"address": "10.78.0.2"}]},
            "vips[0].backends[0].address: 10.78.0.2 is an address of this load balancer (eth1); a backend is another",
        ),
        (
            {"backends": backends(21, 0)},
            "vips[0].backends[1].address: 10.77.0.0 is the network address of 10.77.0.0/24 (eth0); give an address",
        ),
        (
            {"backends": backends(255)},
            "vips[0].backends[0].address: 10.77.0.255 is the broadcast address of 10.77.0.0/24 (eth0); give an address",
        ),
        (
            {"address": "10.77.0.2"},
            "vips[0].address: 10.77.0.2 is this load balancer's own address (10.77.0.2/24 on eth0); give the VIP an",
        ),
        (
            {"address": "10.78.0.255"},
            "vips[0].address: 10.78.0.255 is the broadcast address of 10.78.0.0/24 (eth1); give an address that",
        ),
        (
            {"backends": backends(21, mac=OWN["eth1"])},
            "vips[0].backends[0].mac: 02:d5:00:00:01:02 is this load balancer's own MAC address (eth1); give the",
        ),
    ],
)
def test_what_cannot_work_on_this_host(options: dict[str, Any], error: str) -> None:
    assert error_of(Network(), vip(**options)).startswith(error)


@pytest.mark.parametrize(
    ("options", "nics"),
    [
        ({}, ("eth0", "eth0")),
        ({"backends": [{"address": "fd00:78::21"}]}, ("eth1", "eth1")),
        ({"interface": "eth1"}, ("eth1", "eth0")),
        # Of a link-local address only a user can say on which segment it is.
        ({"backends": [{"address": "fe80::21"}], "backend_interface": "eth1"}, ("eth1", "eth1")),
        ({"backends": [*backends6(21), {"address": "fe80::21"}], "backend_interface": "eth0"}, ("eth0", "eth0")),
    ],
)
def test_the_nics_of_a_vip_in_ipv6(options: dict[str, Any], nics: tuple[str, str]) -> None:
    network = Network()
    resolved, warnings = ask(network, vip6(**options))
    assert [(item.interface, item.backend_interface) for item in resolved] == [nics]
    assert warnings == []
    assert macs_of(resolved[0]) == {
        str(backend.address): mac_of(str(backend.address)) for backend in resolved[0].vip.backends
    }
    assert [nic for nic, _addresses in network.asked] == [nics[1]]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            {"backends": [*backends6(21), {"address": "2001:db8::21"}]},
            "vips[0].backends[1].address: 2001:db8::21 is not on this host's segments: it is reached through the "
            f"router fd00:77::1 (eth0); {ONE_DOMAIN}",
        ),
        (
            {"backends": [*backends6(21), {"address": "fd00:78::21"}]},
            "vips[0].backends: they are reached through more than one interface (fd00:77::21 through eth0, "
            f"fd00:78::21 through eth1); {ONE_DOMAIN}",
        ),
        (
            {"backends": backends6(21, 2)},
            "vips[0].backends[1].address: fd00:77::2 is an address of this load balancer (eth0); a backend is another",
        ),
        (
            {"backends": [{"address": "fe80::1:2"}], "backend_interface": "eth1"},
            "vips[0].backends[0].address: fe80::1:2 is an address of this load balancer (eth1); a backend is another",
        ),
        (
            {"backends": [*backends6(21), {"address": "fd00:77::"}]},
            "vips[0].backends[1].address: fd00:77:: is the subnet's router anycast address of fd00:77::/64 (eth0); "
            "give an address that a host can have",
        ),
        (
            {"address": "fd00:78::"},
            "vips[0].address: fd00:78:: is the subnet's router anycast address of fd00:78::/64 (eth1); give an address",
        ),
        (
            {"address": "fd00:77::2"},
            "vips[0].address: fd00:77::2 is this load balancer's own address (fd00:77::2/64 on eth0); give the VIP an",
        ),
        (
            {"backends": backends6(21, mac=OWN["eth0"])},
            "vips[0].backends[0].mac: 02:d5:00:00:00:02 is this load balancer's own MAC address (eth0); give the",
        ),
        ({"backend_interface": "lo"}, "vips[0].backend_interface: lo is no Ethernet interface; L2 DSR rewrites MAC"),
    ],
)
def test_what_cannot_work_on_this_host_in_ipv6(options: dict[str, Any], error: str) -> None:
    assert error_of(Network(), vip6(**options)).startswith(error)


def test_the_last_address_of_an_ipv6_network_is_one_as_any_other() -> None:
    last = "fd00:77::ffff:ffff:ffff:ffff"
    assert macs_of(ask(Network(), vip6(backends=[{"address": last}]))[0][0]) == {last: mac_of(last)}


def test_an_ipv6_vip_may_stand_on_the_host_or_off_its_networks() -> None:
    assert ask(Network(), vip6("a", address="fd00:77::100"), vip6("b", address="2001:db8::"))[1] == []


def test_a_backend_in_ipv6_without_any_route() -> None:
    network = Network()
    del network.routers[6]
    error = error_of(network, vip(), vip6("b", backends=[*backends6(21), {"address": "2001:db8::21"}]))
    assert error.startswith(f"vips[1].backends[1].address: this host has no route to 2001:db8::21; {ONE_DOMAIN}")


def test_a_backend_without_any_route() -> None:
    network = Network()
    network.routers.clear()
    message = error_of(network, vip(), vip("b", ports=["81"], backends=[*backends(21), {"address": "192.0.2.21"}]))
    assert message.startswith(f"vips[1].backends[1].address: this host has no route to 192.0.2.21; {ONE_DOMAIN}")


def test_a_nic_without_a_mac_is_no_way_to_backends() -> None:
    network = Network()
    network.links["eth0"] = None
    network.addresses["eth0"] = ["10.77.0.2/24"]
    assert error_of(network, vip()).startswith("vips[0].backend_interface: eth0 is no Ethernet interface;")


def test_the_place_of_one_vip_alone_has_no_list_before_it() -> None:
    with pytest.raises(ConfigError) as caught:
        ask(Network(), vip(backends=backends(21, 2)), one=True)
    assert caught.value.path == "backends[1].address"


def test_a_vip_may_stand_on_the_host_or_off_its_networks() -> None:
    """As /32 it is what the role puts on the NIC; and one of another network may end in .0."""
    assert ask(Network(), vip(address="10.77.0.100"), vip("b", address="192.0.2.0"))[1] == []


# -- MAC addresses


def test_every_backend_is_asked_once_for_each_nic() -> None:
    network = Network()
    resolved, _warnings = ask(
        network,
        vip("a"),
        vip("b", ports=["81"], backends=[*backends(23, 24), *backends(25, mac=LEARNT), *backends(26, state="down")]),
        vip("c", ports=["82"], backends=[{"address": "10.78.0.21"}]),
        vip("d", ports=["83"], backends=[*backends(21, state="drain"), *backends(22, weight=0)]),
    )
    assert sorted(network.asked) == [
        ("eth0", ("10.77.0.21", "10.77.0.22", "10.77.0.23", "10.77.0.24")),
        ("eth1", ("10.78.0.21",)),
    ]
    assert macs_of(resolved[0]) == {f"10.77.0.{octet}": mac_of(f"10.77.0.{octet}") for octet in (21, 22, 23)}
    assert macs_of(resolved[1]) == {
        "10.77.0.23": mac_of("10.77.0.23"),
        "10.77.0.24": mac_of("10.77.0.24"),
        "10.77.0.25": LEARNT,
    }
    assert macs_of(resolved[3]) == {"10.77.0.21": mac_of("10.77.0.21"), "10.77.0.22": mac_of("10.77.0.22")}


def test_both_families_are_asked_for_at_once() -> None:
    network = Network()
    resolved, _warnings = ask(network, vip(backends=backends(22, 21)), vip6("six", backends=backends6(21)))
    assert network.asked == [("eth0", ("10.77.0.21", "10.77.0.22", "fd00:77::21"))]
    assert [sorted(macs_of(item)) for item in resolved] == [["10.77.0.21", "10.77.0.22"], ["fd00:77::21"]]


def test_a_backup_is_asked_for_and_drained_and_down_as_any_other() -> None:
    network = Network()
    pool = [*backends(21), *backends(22, backup=True), *backends(23, backup=True, state="down")]
    resolved, _warnings = ask(network, vip(backends=pool))
    assert network.asked == [("eth0", ("10.77.0.21", "10.77.0.22"))]
    assert set(macs_of(resolved[0])) == {"10.77.0.21", "10.77.0.22"}


def test_a_backend_in_ipv6_that_does_not_answer() -> None:
    network = Network()
    network.silence("fd00:77::21")
    wanted = vip6(backends=backends6(21, name="b1"))
    assert error_of(network, wanted).startswith(
        "vips[0].backends[0].address: fd00:77::21 does not answer neighbour solicitations on eth0, so its MAC address"
    )
    known = known_as(wanted, {"fd00:77::21": LEARNT})
    resolved, warnings = ask(network, wanted, known=[known])
    assert macs_of(resolved[0]) == {"fd00:77::21": LEARNT}
    assert warnings == [
        "web: the backend fd00:77::21 (b1) does not answer neighbour solicitations on eth0; it keeps the MAC address "
        "02:00:00:00:00:99 that it had"
    ]
    resolved, warnings = ask(network, {**wanted, "require_mac": False})
    assert macs_of(resolved[0]) == {} and warnings[0].endswith("it is left out of service until a later run finds it")


def test_nobody_is_asked_where_all_are_pinned() -> None:
    network = Network()
    ask(network, vip(backends=backends(21, mac=LEARNT)))
    assert network.asked == []


def test_a_backend_that_never_answered_fails_the_call() -> None:
    network = Network()
    network.silence("10.77.0.22")
    assert error_of(network, vip("a"), vip("b", ports=["81"], backends=backends(22))).startswith(
        "vips[0].backends[1].address: 10.77.0.22 does not answer ARP on eth0, so its MAC address is not known; start "
        "the host, correct the address, give its 'mac', or set 'state: down' (or 'require_mac: false' for the VIP)"
    )


@pytest.mark.parametrize(
    ("options", "known", "mac", "warning"),
    [
        (
            {},
            {"10.77.0.21": LEARNT},
            LEARNT,
            "web: the backend 10.77.0.21 (b1) does not answer ARP on eth0; it keeps the MAC address 02:00:00:00:00:99",
        ),
        (
            {"require_mac": False},
            {"10.77.0.21": LEARNT},
            LEARNT,
            "web: the backend 10.77.0.21 (b1) does not answer ARP on eth0; it keeps the MAC address 02:00:00:00:00:99",
        ),
        (
            {"require_mac": False},
            {},
            None,
            "web: the backend 10.77.0.21 (b1) does not answer ARP on eth0; it is left out of service until a later run",
        ),
        ({"backends": backends(21, state="down")}, {}, None, None),
        ({"backends": backends(21, state="down")}, {"10.77.0.21": LEARNT}, LEARNT, None),
        ({"backends": backends(21, mac="02:00:00:00:00:77")}, {"10.77.0.21": LEARNT}, "02:00:00:00:00:77", None),
    ],
)
def test_a_backend_that_does_not_answer(
    options: dict[str, Any], known: dict[str, str], mac: Optional[str], warning: Optional[str]
) -> None:
    network = Network()
    network.silence("10.77.0.21")
    wanted = vip(**{"backends": backends(21, name="b1"), **options})
    resolved, warnings = ask(network, wanted, known=[known_as(vip(), known)])
    assert macs_of(resolved[0]).get("10.77.0.21") == mac
    assert len(warnings) == (1 if warning else 0) and all(text.startswith(str(warning)) for text in warnings)


def test_what_one_vip_has_learnt_serves_another_on_the_same_nic() -> None:
    network = Network()
    network.silence("10.77.0.21")
    known = known_as(vip("a"), {"10.77.0.21": LEARNT})
    resolved, _warnings = ask(network, vip("b", backends=backends(21)), known=[known])
    assert macs_of(resolved[0]) == {"10.77.0.21": LEARNT}
    error_of(network, vip("b", backends=backends(21)), known=[known_as(vip("a"), {"10.77.0.21": LEARNT}, nic="eth1")])


def test_a_mac_that_was_pinned_once_was_never_learnt() -> None:
    network = Network()
    network.silence("10.77.0.21")
    pinned = known_as(vip(backends=backends(21, mac=LEARNT)), {"10.77.0.21": LEARNT})
    assert "does not answer ARP" in error_of(network, vip(backends=backends(21)), known=[pinned])


def test_an_answer_counts_more_than_memory() -> None:
    known = known_as(vip(), {"10.77.0.21": LEARNT})
    resolved, warnings = ask(Network(), vip(backends=backends(21)), known=[known])
    assert macs_of(resolved[0]) == {"10.77.0.21": mac_of("10.77.0.21")} and warnings == []


def test_two_hosts_with_one_address() -> None:
    network = Network()
    network.answers["10.77.0.21"] = frozenset({"02:00:00:00:00:02", "02:00:00:00:00:01"})
    both = "02:00:00:00:00:01 and 02:00:00:00:00:02"
    assert error_of(network, vip()).startswith(
        f"vips[0].backends[0].address: more than one host on eth0 answers for 10.77.0.21: {both}; remove the duplicate "
        "address, or pin the right one with 'mac'"
    )
    known = known_as(vip(), {"10.77.0.21": "02:00:00:00:00:02"})
    resolved, warnings = ask(network, vip(), known=[known])
    assert macs_of(resolved[0])["10.77.0.21"] == "02:00:00:00:00:02"
    assert warnings == [
        f"web: more than one host on eth0 answers for the backend 10.77.0.21: {both}; "
        "it stays at 02:00:00:00:00:02. Find the duplicate address"
    ]
    stranger = known_as(vip(), {"10.77.0.21": LEARNT})
    assert "more than one host" in error_of(network, vip(), known=[stranger])
