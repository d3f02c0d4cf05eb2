# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an inventory to pools and to the VIPs of a backend."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.filter import pools

WEB = {"name": "web", "address": "192.0.2.100", "ports": ["80"]}
DNS = {"name": "dns", "address": "192.0.2.101", "protocol": "udp", "backends": [{"address": "192.0.2.22"}]}
# The facts of a host with a default route, of one without, and of one with two NICs and no default route
ROUTED = {
    "ansible_facts": {"default_ipv4": {"address": "192.0.2.21"}, "all_ipv4_addresses": ["192.0.2.21", "10.0.0.1"]}
}
ISOLATED = {
    "ansible_facts": {
        "default_ipv4": {},
        "all_ipv4_addresses": ["192.0.2.22", "192.0.2.100"],
        "interfaces": ["lo", "br-lan"],
        "lo": {"type": "loopback", "ipv4": {"address": "127.0.0.1"}, "ipv4_secondaries": [{"address": "192.0.2.100"}]},
        "br_lan": {"type": "bridge", "ipv4": {"address": "192.0.2.22"}},
    }
}
TWO_NICS = {
    "ansible_facts": {
        "interfaces": ["eth0", "eth1"],
        "eth0": {"type": "ether", "ipv4": {"address": "192.0.2.23"}},
        "eth1": {"type": "ether", "ipv4": {"address": "198.51.100.23"}},
    }
}


def hosts(*variables: dict[str, Any]) -> list[dict[str, Any]]:
    """Backends b1 and on with these variables."""
    named = {f"b{number}": of_host for number, of_host in enumerate(variables, 1)}
    return pools.backend_hosts(named, named)


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"dsr_backend_address": "192.0.2.50"}, "192.0.2.50"),
        ({"dsr_backend_address": " 192.0.2.50 "}, "192.0.2.50"),
        (ROUTED, "192.0.2.21"),
        ({**ROUTED, "dsr_backend_address": "192.0.2.50"}, "192.0.2.50"),
        ({**ROUTED, "dsr_backend_address": ""}, "192.0.2.21"),
        ({**ROUTED, "dsr_backend_address": None}, "192.0.2.21"),
        # An address of the other family says nothing about this one.
        ({**ROUTED, "dsr_backend_address": "2001:db8::1"}, "192.0.2.21"),
        (ISOLATED, "192.0.2.22"),
    ],
)
def test_the_address_of_a_host(variables: dict[str, Any], address: str) -> None:
    (backend,) = pools.pools([WEB], hosts(variables))[0]["backends"]
    assert backend["address"] == address


WEB6 = {"name": "web6", "address": "2001:db8::100", "ports": ["80"]}
FACTS6 = {
    "default_ipv6": {"address": "2001:db8::21"},
    "all_ipv6_addresses": ["2001:db8::21", "2001:db8::100", "fe80::21"],
}
BOTH = {"ansible_facts": {**ROUTED["ansible_facts"], **FACTS6}}
ISOLATED6 = {
    "ansible_facts": {
        "interfaces": ["lo", "eth0", "dummy0"],
        "lo": {"type": "loopback", "ipv6": [{"address": "::1", "prefix": "128", "scope": "host"}]},
        "dummy0": {"type": "ether", "ipv6": [{"address": "2001:db8::100", "prefix": "128", "scope": "global"}]},
        "eth0": {
            "type": "ether",
            "ipv4": {"address": "192.0.2.22"},
            "ipv6": [
                {"address": "2001:db8::22", "prefix": "64", "scope": "global"},
                {"address": "fe80::22", "prefix": "64", "scope": "link"},
            ],
        },
    }
}


@pytest.mark.parametrize(
    ("variables", "address", "address6"),
    [
        (BOTH, "192.0.2.21", "2001:db8::21"),
        (ISOLATED6, "192.0.2.22", "2001:db8::22"),
        ({**BOTH, "dsr_backend_address": "192.0.2.50"}, "192.0.2.50", "2001:db8::21"),
        ({**BOTH, "dsr_backend_address": "2001:DB8:0::50"}, "192.0.2.21", "2001:db8::50"),
        ({"dsr_backend_address": ["2001:db8::50", " 192.0.2.50 "]}, "192.0.2.50", "2001:db8::50"),
        ({**BOTH, "dsr_backend_address": ["2001:db8::50", ""]}, "192.0.2.21", "2001:db8::50"),
        ({**BOTH, "dsr_backend_address": []}, "192.0.2.21", "2001:db8::21"),
    ],
)
def test_each_vip_takes_the_addresses_of_its_family(variables: dict[str, Any], address: str, address6: str) -> None:
    both = pools.pools([WEB, WEB6], hosts(variables))
    assert [vip["backends"][0]["address"] for vip in both] == [address, address6]


def test_a_host_without_an_ipv6_address_is_missed_by_vips_of_ipv6_alone() -> None:
    assert pools.pools([WEB], hosts(ROUTED))
    assert pools.hosts_without_address([WEB], hosts(ROUTED)) == []
    assert pools.hosts_without_address([WEB, WEB6], hosts(ROUTED)) == ["b1"]
    with pytest.raises(AnsibleFilterError, match=r"host b1 .*its IPv6 address is not known.*a list of an IPv4 and"):
        pools.pools([WEB, WEB6], hosts(ROUTED))


def test_a_backend_holds_vips_of_both_families() -> None:
    vips = pools.pools([WEB, {**WEB6, "address": "2001:DB8::0100"}], hosts(BOTH))
    assert pools.vips_of_host(vips, hosts(BOTH), "b1") == ["192.0.2.100", "2001:db8::100"]


@pytest.mark.parametrize("variables", [{}, {"ansible_facts": {}}, TWO_NICS])
def test_an_unknown_address_is_an_error_that_names_the_host(variables: dict[str, Any]) -> None:
    both = hosts(ROUTED, variables)
    with pytest.raises(AnsibleFilterError, match=r"host b2 .*Set dsr_backend_address"):
        pools.pools([WEB], both)
    assert pools.hosts_without_address([WEB], both) == ["b2"]


def test_no_host_is_needed_for_a_vip_that_lists_its_backends() -> None:
    assert pools.pools([DNS], hosts({})) == [DNS]
    assert pools.hosts_without_address([DNS], hosts({})) == []


def test_a_pool_is_all_hosts_with_names_and_weights() -> None:
    both = hosts(ROUTED, {**ISOLATED, "dsr_backend_weight": "3"})
    assert pools.pools([WEB], both)[0]["backends"] == [
        {"address": "192.0.2.21", "name": "b1", "weight": 1},
        {"address": "192.0.2.22", "name": "b2", "weight": 3},
    ]
    assert "backends" not in WEB  # the inventory's own list is left alone


@pytest.mark.parametrize(
    ("vips", "variables", "problem"),
    [
        (None, ROUTED, "dsr_vips: is not defined"),
        ("", ROUTED, "dsr_vips: is not defined"),  # a survey's way not to say anything
        ([], ROUTED, "dsr_vips: is an empty list"),
        ("web", ROUTED, "dsr_vips: must be a list"),
        (WEB, ROUTED, "dsr_vips: must be a list"),
        (["web"], ROUTED, "dsr_vips[0]: must be a dictionary"),
        ([WEB, {**WEB, "name": "two"}], ROUTED, "dsr_vips[1].ports: 192.0.2.100 tcp port 80 belongs to the VIP 'web'"),
        ([{**WEB, "scheduler": "fastest"}], ROUTED, "dsr_vips[0].scheduler: 'fastest' is not known"),
        ([{**DNS, "backends": []}], ROUTED, "dsr_vips[0].backends: the list is empty"),
        ([{**DNS, "backends": [{"address": "192.0.2.9", "weight": -1}]}], {}, "dsr_vips[0].backends[0].weight: -1"),
        ([WEB], {**ROUTED, "dsr_backend_weight": "many"}, "dsr_backend_weight of the host b1: 'many' is not a weight"),
        ([WEB], {**ROUTED, "dsr_backend_weight": 65536}, "dsr_backend_weight of the host b1"),
        ([WEB], {"dsr_backend_address": "web1"}, "dsr_backend_address of the host b1: 'web1' is not an IP address"),
        (
            [WEB],
            {"dsr_backend_address": ["192.0.2.21", "192.0.2.22"]},
            "dsr_backend_address of the host b1: 192.0.2.22 is a second IPv4 address beside 192.0.2.21",
        ),
        ([WEB], {"dsr_backend_address": ["192.0.2.21", "x"]}, "dsr_backend_address of the host b1: 'x' is not"),
        # Nothing is silently ignored, whether a VIP needs it or not.
        ([DNS], {"dsr_backend_address": "web1"}, "dsr_backend_address of the host b1: 'web1' is not an IP address"),
        # What the user did not write as an entry of a list is named by its host.
        (
            [{**WEB, "scheduler": "round_robin"}],
            {**ROUTED, "dsr_backend_weight": 2},
            "dsr_vips[0].backends[0].weight (the host b1): the scheduler round_robin",
        ),
        (
            [WEB],
            {"dsr_backend_address": "192.0.2.100"},
            "dsr_vips[0].backends[0].address (the host b1): 192.0.2.100 is",
        ),
    ],
)
def test_a_problem_names_its_place(vips: Any, variables: dict[str, Any], problem: str) -> None:
    assert pools.pools_problem(vips, hosts(variables), ["lb"]).startswith(problem)
    assert isinstance(pools.hosts_without_address(vips, hosts(variables)), list)
    if vips != []:
        with pytest.raises(AnsibleFilterError):
            pools.pools(vips, hosts(variables))


def test_a_pool_of_no_hosts_names_the_group() -> None:
    assert pools.pools_problem([WEB], [], ["lb"]).startswith("dsr_backends: ")
    assert pools.pools_problem([DNS], [], ["lb"]) == ""
    assert pools.pools_problem([DNS], [], []).startswith("dsr_load_balancers: ")


def test_what_is_fine_is_no_problem() -> None:
    assert pools.pools_problem([WEB, DNS], hosts(ROUTED), ["lb"]) == ""
    assert pools.pools_problem([], hosts(ROUTED), ["lb"], allow_empty=True) == ""


def test_a_backend_holds_the_vips_of_the_pools_that_it_is_in() -> None:
    both = hosts(ROUTED, ISOLATED)
    vips = pools.pools([WEB, DNS, {**WEB, "name": "tls", "ports": ["443"]}], both)
    assert pools.vips_of_host(vips, both, "b1") == ["192.0.2.100"]
    assert pools.vips_of_host(vips, both, "b2") == ["192.0.2.100", "192.0.2.101"]


def test_any_address_of_a_host_counts() -> None:
    vips = [{**DNS, "backends": [{"address": "10.0.0.1"}]}]
    assert pools.vips_of_host(vips, hosts(ROUTED), "b1") == ["192.0.2.101"]
    assert pools.vips_of_host(vips, hosts({"dsr_backend_address": "10.0.0.1"}), "b1") == ["192.0.2.101"]


def test_a_host_of_which_nothing_is_known_is_no_host_without_vips() -> None:
    with pytest.raises(AnsibleFilterError, match="the host b1 of dsr_backends: its addresses are not known"):
        pools.vips_of_host([DNS], hosts({}), "b1")


def test_vips_of_a_host_without_their_pools() -> None:
    both = hosts(ROUTED, ISOLATED)
    vips = [WEB, DNS, {**WEB, "name": "tls", "ports": ["443"]}]
    whole = pools.pools(vips, both)
    for given_vips in (vips, whole):
        assert pools.vips_of_host(given_vips, both, "b1") == ["192.0.2.100"]
        assert pools.vips_of_host(given_vips, both, "b1", give="names") == ["web", "tls"]
        assert pools.vips_of_host(given_vips, both, "b2", give="names") == ["web", "dns", "tls"]
        assert pools.vips_of_host(given_vips, both, "b1", give="vips") == [whole[0], whole[2]]


def test_what_was_checked_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    both = hosts(ROUTED, ISOLATED)
    whole = pools.pools([WEB, DNS], both)
    monkeypatch.setattr(pools.model, "parse_vips", None)
    assert pools.vips_of_host(whole, both, "b1") == ["192.0.2.100"]


def test_backends_of_a_vip() -> None:
    both = hosts({**ROUTED, "dsr_backend_weight": 3}, {**ISOLATED, "dsr_backend_address": "192.0.2.50"})
    assert pools.backends_of_vip([WEB, DNS], both, "web") == [
        {"address": "192.0.2.21", "name": "b1", "mac": None, "weight": 3, "state": "up", "backup": False, "host": "b1"},
        {"address": "192.0.2.50", "name": "b2", "mac": None, "weight": 1, "state": "up", "backup": False, "host": "b2"},
    ]
    # An address of another NIC of a host, and one that is no host's
    listed = {**DNS, "backends": [{"address": "10.0.0.1", "weight": "2"}, {"address": "192.0.2.99", "state": "drain"}]}
    assert pools.backends_of_vip([listed, WEB], both, "dns") == [
        {"address": "10.0.0.1", "name": "", "mac": None, "weight": 2, "state": "up", "backup": False, "host": "b1"},
        {"address": "192.0.2.99", "name": "", "mac": None, "weight": 1, "state": "drain", "backup": False, "host": ""},
    ]


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(1, 4), min_size=1), min_size=1, max_size=6))
def test_backends_and_vips_tell_the_same(members: list[set[int]]) -> None:
    known = hosts(*({"dsr_backend_address": f"192.0.2.{number}"} for number in (1, 2, 3, 4)))
    vips = [
        {"name": f"v{index}", "address": f"198.51.100.{index}", "ports": ["80"],
         "backends": [{"address": f"192.0.2.{number}"} for number in sorted(pool)]}
        for index, pool in enumerate(members, 1)
    ]  # fmt: skip
    for host in known:
        name = host["name"]
        pools_of = {vip["name"]: pools.backends_of_vip(vips, known, vip["name"]) for vip in vips}
        ours = [vip for vip, pool in pools_of.items() if name in [backend["host"] for backend in pool]]
        assert pools.vips_of_host(vips, known, name, give="names") == ours


@pytest.mark.parametrize(
    ("vips", "name", "problem"),
    [
        (None, "web", "dsr_vips: must be a list of VIPs"),
        ([WEB, {**DNS, "backends": [{"name": "b"}]}], "web", r"dsr_vips\[1\].backends\[0\].address: is missing"),
        ([{**DNS, "name": None}, {"address": "192.0.2.9", "backends": []}], "x", r"dsr_vips\[0\].name: is missing"),
        ([{"address": "192.0.2.9", "backends": DNS["backends"]}], "x", r"dsr_vips\[0\].name: is missing"),
        ([{**DNS, "address": "dns"}], "dns", r"dsr_vips\[0\].address: 'dns' is not an IP address"),
        ([{**DNS, "backends": "b1"}], "dns", r"dsr_vips\[0\].backends: 'b1' is not a list"),
        (["web"], "web", r"dsr_vips\[0\]: must be a dictionary"),
    ],
)
def test_what_is_wrong_in_vips_is_named(vips: Any, name: str, problem: str) -> None:
    known = hosts(ROUTED)
    for ask in (lambda: pools.vips_of_host(vips, known, "b1"), lambda: pools.backends_of_vip(vips, known, name)):
        with pytest.raises(AnsibleFilterError, match=problem):
            ask()


def test_what_is_asked_for_and_not_there_is_named() -> None:
    known = hosts(ROUTED, ISOLATED)
    for problem, ask in {
        "dsr_vips: there is no VIP 'wbe'; did you mean 'web'": lambda: pools.backends_of_vip([WEB], known, "wbe"),
        "dsr_vips: there is no VIP 'x'; there are: web, dns": lambda: pools.backends_of_vip([WEB, DNS], known, "x"),
        "dsr_backends: there is no host 'lb'; there are: b1, b2": lambda: pools.vips_of_host([WEB], known, "lb"),
        "give: 'hosts' is not known; choose one of": lambda: pools.vips_of_host([WEB], known, "b1", give="hosts"),
        r"backends\[0\]: 'b1' is not a host as": lambda: pools.vips_of_host([WEB], ["b1"], "b1"),
        r"backends\[0\]: None is not a host as": lambda: pools.backends_of_vip([WEB], None, "web"),
    }.items():
        with pytest.raises(AnsibleFilterError, match=problem):
            ask()


@pytest.mark.parametrize(
    ("vip", "interface", "result"),
    [
        ({}, "", {}),
        ({"interface": "eth0"}, "", {"interface": "eth0"}),
        ({"interface": None, "scheduler": ""}, "", {}),
        ({}, "eth1", {"interface": "eth1", "backend_interface": "eth1"}),
        ({"interface": ""}, "eth1", {"interface": "eth1", "backend_interface": "eth1"}),
        ({"interface": "eth0"}, "eth1", {"interface": "eth0", "backend_interface": "eth1"}),
        ({"backend_interface": "eth0", "require_mac": False}, "eth1", {
            "interface": "eth1", "backend_interface": "eth0", "require_mac": False}),
    ],
)  # fmt: skip
def test_the_nic_of_vips_that_name_none(vip: dict[str, Any], interface: str, result: dict[str, Any]) -> None:
    assert pools.vip_defaults([vip], interface) == [result]
