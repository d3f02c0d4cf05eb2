# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads: the table of `status`, the findings of `verify`."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.dsr.layer2.plugins.filter import reports


def backend(number: int, **more: Any) -> dict[str, Any]:
    return {
        "address": f"192.0.2.2{number}",
        "name": f"b{number}",
        "mac": f"02:00:00:00:00:2{number}",
        "weight": 1,
        "state": "up",
        "packets": 1234 * number,
        "bytes": 98765 * number,
        "flows": number,
        **more,
    }


def vip(name: str = "web", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "address": "192.0.2.100",
        "interface": "eth0",
        "backend_interface": "eth1",
        "protocol": "tcp",
        "ports": ["80", "8000-8100"],
        "scheduler": "source_hash",
        "in_sync": True,
        "differences": [],
        "packets": 5,
        "bytes": 6,
        "backends": [backend(1), backend(2)],
        **more,
    }


def test_the_table() -> None:
    failing = backend(3, healthy=False)
    drained = backend(2, state="drain", name="", weight=65535, packets=123456789, bytes=999949, flows=1048576)
    broken = vip(
        "dns", in_sync=False, differences=["the chain vip_dns is missing"], ports=[], backends=[drained, failing]
    )
    assert reports.status_table([vip(), broken]) == [
        "web: 192.0.2.100 tcp 80,8000-8100, source_hash, in sync",
        "  backend                             state    weight   flows  packets     bytes",
        "  b1 (192.0.2.21)                     up            1       1    1.2 k   98.8 kB",
        "  b2 (192.0.2.22)                     up            1       2    2.5 k  197.5 kB",
        "",
        "dns: 192.0.2.100 tcp all ports, source_hash, DIFFERS FROM ITS CONFIGURATION",
        "  backend                             state    weight   flows  packets     bytes",
        "  192.0.2.22                          drain     65535   1.0 M  123.5 M  999.9 kB",
        "  b3 (192.0.2.23)                     unhealthy     1       3    3.7 k  296.3 kB",
        "  ! the chain vip_dns is missing",
    ]
    assert max(map(len, reports.status_table([vip(), broken]))) <= 80


def test_the_table_of_nothing() -> None:
    assert reports.status_table([]) == ["No VIP is configured."]


@pytest.mark.parametrize(
    ("vips", "protocols", "expected"),
    [
        ([vip()], ["tcp"], [("192.0.2.100", "tcp", 80)]),
        ([vip(ports=["8000-8100"])], ["tcp"], [("192.0.2.100", "tcp", 8000)]),
        ([vip(ports=[])], ["tcp"], []),  # any port could be meant
        ([vip(protocol="udp")], ["tcp"], []),
        ([vip(protocol="udp")], ["tcp", "udp"], [("192.0.2.100", "udp", 80)]),
        ([vip(), vip()], ["tcp"], [("192.0.2.100", "tcp", 80)]),  # of two load balancers
    ],
)
def test_probes_of_vips(vips: Any, protocols: list[str], expected: Any) -> None:
    found = reports.probes(vips, protocols)
    assert [(probe["address"], probe["protocol"], probe["port"]) for probe in found] == expected


def test_probes_of_backends_are_those_in_service() -> None:
    others = [backend(3, state="drain"), backend(4, state="down"), backend(5, mac=None), backend(6, weight=0)]
    found = reports.probes([vip(backends=[backend(1), backend(2), *others])], ["tcp"], each_backend=True)
    assert [(probe["through"], probe["interface"], probe["port"]) for probe in found] == [
        ("02:00:00:00:00:21", "eth1", 80),
        ("02:00:00:00:00:22", "eth1", 80),
    ]
    assert found[0]["label"] == "b1 (192.0.2.21) for the VIP web (192.0.2.100 tcp 80)"


BOTH_ENDS = {"dsr_load_balancers": ["lb"], "dsr_backends": ["b1", "b2"]}
GROUPS = {**BOTH_ENDS, "dsr_clients": ["client"], "dsr_clients_here": ["client"]}
WANTED = [{"name": "web", "address": "192.0.2.100", "backends": [{"address": "192.0.2.21"}, {"address": "192.0.2.22"}]}]


HOSTS = [{"name": f"b{number}", "own_addresses": [f"192.0.2.2{number}"]} for number in (1, 2)]


def everything() -> dict[str, dict[str, Any]]:
    """What a run registers where all is well."""
    holds = {"vips": [{"address": "192.0.2.100", "interface": "lo"}], "problems": []}
    probe = {
        "item": reports.probes([vip()], ["tcp"])[0],
        "direct": 30,
        "backends": [{"mac": "02:00:00:00:00:22", "connections": 30}],
    }
    return {
        "lb": {
            "__dsr_seen_vips": {"vips": [vip()]},
            "__dsr_seen_addresses": {"results": [{"item": {"key": "eth0"}, "msg": "192.0.2.100 on eth0", "steps": []}]},
            "__dsr_seen_neighbours": {"answers": [{"address": "192.0.2.100", "macs": []}]},
            "__dsr_seen_probes": {"skipped": True},
        },
        "b1": {"__dsr_seen_loopback": deepcopy(holds)},
        "b2": {"__dsr_seen_loopback": deepcopy(holds)},
        "client": {"__dsr_seen_probes": {"results": [probe]}},
    }


def test_all_is_well() -> None:
    found = reports.verification(WANTED, HOSTS, everything(), GROUPS)
    assert found["problems"] == []
    assert found["summary"] == [
        "lb: web (192.0.2.100 tcp 80,8000-8100) has 2 of 2 backends in service",
        "b1: holds 192.0.2.100 and leaves it to the load balancer to answer for it",
        "b2: holds 192.0.2.100 and leaves it to the load balancer to answer for it",
        "client: the VIP web (192.0.2.100 tcp 80): 30 connections answered directly (b2 30)",
    ]


def test_without_a_client_it_says_so() -> None:
    seen = everything()
    seen["lb"]["__dsr_seen_probes"] = {
        "results": [{"item": item} for item in reports.probes([vip()], ["tcp"], each_backend=True)]
    }
    found = reports.verification(WANTED, HOSTS, seen, BOTH_ENDS)
    assert found["problems"] == []
    assert found["summary"][-3:] == [
        "lb: b1 (192.0.2.21) for the VIP web (192.0.2.100 tcp 80): answers",
        "lb: b2 (192.0.2.22) for the VIP web (192.0.2.100 tcp 80): answers",
        "The clients' path was NOT tested: no host of the group dsr_clients took part.",
    ]


def test_what_was_not_tried_is_named() -> None:
    seen = everything()
    udp = vip("dns", protocol="udp", ports=["53"])
    seen["lb"]["__dsr_seen_vips"]["vips"].append(udp)
    found = reports.verification([*WANTED, {**WANTED[0], "name": "dns", "protocol": "udp"}], HOSTS, seen, GROUPS)
    assert found["problems"] == []
    assert found["summary"][-1].startswith("Not tried: dns, as ")


def test_a_backend_of_which_nothing_is_known_is_an_error() -> None:
    with pytest.raises(AnsibleFilterError, match="the host b2 of dsr_backends: its addresses are not known"):
        reports.verification(WANTED, HOSTS[:1], everything(), GROUPS)


def test_a_host_that_took_no_part_is_named() -> None:
    seen = everything()
    seen["b2"] = {}
    found = reports.verification(WANTED, HOSTS, seen, GROUPS)
    assert found["summary"][-1] == "Not checked, as not reached or outside the limit: b2"


@pytest.mark.parametrize(
    ("host", "registered", "value", "problem"),
    [
        ("lb", "vips", {"msg": "nft is not installed"}, "lb: nft is not installed"),
        ("lb", "vips", {"vips": []}, "lb: the VIP web of dsr_vips is not configured; run dsr.layer2.site"),
        (
            "lb",
            "vips",
            {"vips": [vip(address="192.0.2.99")]},
            "lb: the VIP web differs from dsr_vips: address is 192.0.2.99, not 192.0.2.100; run dsr.layer2.site",
        ),
        (
            "lb",
            "vips",
            {"vips": [vip(scheduler="round_robin")]},
            "lb: the VIP web differs from dsr_vips: scheduler is round_robin, not source_hash; run dsr.layer2.site",
        ),
        (
            "lb",
            "vips",
            {"vips": [vip(backends=[backend(1)])]},
            "lb: the VIP web differs from dsr_vips: its backends are 192.0.2.21, not 192.0.2.21, 192.0.2.22; "
            "run dsr.layer2.site",
        ),
        (
            "lb",
            "vips",
            {"vips": [vip(), vip("old")]},
            "lb: the VIP old is configured and not in dsr_vips; run dsr.layer2.site to remove it",
        ),
        (
            "lb",
            "vips",
            {"vips": [vip(in_sync=False, differences=["the table is missing"])]},
            "lb: the VIP web is not in force as configured (the table is missing); run dsr.layer2.site",
        ),
        ("lb", "addresses", {"results": [{"msg": "no such NIC"}]}, "lb: no such NIC"),
        (
            "lb",
            "addresses",
            {"results": [{"item": {"key": "eth0"}, "msg": "well", "steps": ["write a", "ip address replace b"]}]},
            "lb: the addresses on eth0, or what brings them back at boot, are not as they should be "
            "(write a; ip address replace b); run dsr.layer2.site",
        ),
        ("lb", "neighbours", {"msg": "no such NIC"}, "lb: no such NIC"),
        (
            "lb",
            "neighbours",
            {"answers": [{"address": "192.0.2.100", "macs": ["02:00:00:00:00:21"]}]},
            "lb: 02:00:00:00:00:21 answers ARP for the VIP 192.0.2.100 as well. "
            "That is its backend b1: ARP is not suppressed there",
        ),
        (
            "lb",
            "neighbours",
            {"answers": [{"address": "192.0.2.100", "macs": ["02:00:00:00:00:99"]}]},
            "lb: 02:00:00:00:00:99 answers ARP for the VIP 192.0.2.100 as well. "
            "That is another host: two hosts must not hold one address",
        ),
        ("b1", "loopback", {"msg": "no root"}, "b1: no root"),
        # It knows more about what is missing than we do.
        ("b1", "loopback", {"vips": [], "problems": ["192.0.2.100 is not on lo"]}, "b1: 192.0.2.100 is not on lo"),
        (
            "b1",
            "loopback",
            {"vips": [], "problems": []},
            "b1: does not hold the VIP 192.0.2.100; run dsr.layer2.site",
        ),
        (
            "client",
            "probes",
            {
                "results": [
                    {"item": {"label": "the VIP web"}, "msg": "30 refused by 02:00:00:00:00:22 for 02:00:00:00:00:99"}
                ]
            },
            "client: the VIP web: 30 refused by b2 (02:00:00:00:00:22) for 02:00:00:00:00:99",
        ),
        (
            "lb",
            "probes",
            {"results": [{"item": {"label": "b1 for the VIP web"}, "msg": "refused"}]},
            "lb: b1 for the VIP web: is a service listening there? refused",
        ),
    ],
)
def test_a_problem(host: str, registered: str, value: Any, problem: str) -> None:
    seen = everything()
    seen[host][f"__dsr_seen_{registered}"] = value
    found = reports.verification(WANTED, HOSTS, seen, GROUPS)
    assert found["problems"] == [problem]
    assert found["summary"] == []


def pair(*heard: str) -> dict[str, dict[str, Any]]:
    """Two load balancers between which something else moves the VIP, and whom each hears answer for it."""
    seen = everything()
    for name, mac, answer in zip(("lb", "lb2"), ("02:00:00:00:00:0A", "02:00:00:00:00:0B"), heard):
        seen[name] = deepcopy(everything()["lb"])
        seen[name].update(
            ansible_facts={"interfaces": ["lo", "eth0"], "lo": {}, "eth0": {"macaddress": mac}},
            load_balancer_manage_address=False,
        )
        seen[name]["__dsr_seen_neighbours"] = {
            "answers": [{"address": "192.0.2.100", "macs": [answer] if answer else []}]
        }
    return seen


PAIR = {**GROUPS, "dsr_load_balancers": ["lb", "lb2"]}


def test_a_standby_hears_the_active_one() -> None:
    assert reports.verification(WANTED, HOSTS, pair("", "02:00:00:00:00:0a"), PAIR)["problems"] == []


def test_load_balancers_that_both_hold_a_vip() -> None:
    seen = pair("02:00:00:00:00:0b", "02:00:00:00:00:0a")
    assert reports.verification(WANTED, HOSTS, seen, PAIR)["problems"] == [
        "lb: 02:00:00:00:00:0b answers ARP for the VIP 192.0.2.100 as well. "
        "That is lb2: only one load balancer may hold it at a time",
        "lb2: 02:00:00:00:00:0a answers ARP for the VIP 192.0.2.100 as well. "
        "That is lb: only one load balancer may hold it at a time",
    ]


def test_a_load_balancer_that_has_its_addresses_from_here_shares_none() -> None:
    seen = pair("", "02:00:00:00:00:0a")
    del seen["lb"]["load_balancer_manage_address"]
    (problem,) = reports.verification(WANTED, HOSTS, seen, PAIR)["problems"]
    assert "two hosts must not hold one address" in problem


VIP6 = "2001:db8::100"


def everything6() -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """The same with addresses of IPv6, which the user has written in his own way."""
    names = {"192.0.2.100": VIP6, "192.0.2.21": "2001:db8::21", "192.0.2.22": "2001:db8::22"}

    def other(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: other(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [other(inner) for inner in value]
        return names.get(value, value)

    wanted = other(deepcopy(WANTED))
    wanted[0]["address"] = "2001:DB8:0::0100"
    wanted[0]["backends"] = [{**entry, "address": entry["address"].upper()} for entry in wanted[0]["backends"]]
    return wanted, other(deepcopy(HOSTS)), other(everything())


def test_ipv6_however_it_is_written() -> None:
    wanted, hosts, seen = everything6()
    found = reports.verification(wanted, hosts, seen, GROUPS)
    assert found["problems"] == []
    assert any(line.startswith(f"lb: web ({VIP6} tcp ") for line in found["summary"])


def test_a_backend_that_answers_for_an_ipv6_vip() -> None:
    wanted, hosts, seen = everything6()
    seen["lb"]["__dsr_seen_neighbours"] = {"answers": [{"address": VIP6, "macs": ["02:00:00:00:00:21"]}]}
    assert reports.verification(wanted, hosts, seen, GROUPS)["problems"] == [
        f"lb: 02:00:00:00:00:21 answers neighbour solicitations for the VIP {VIP6} as well. "
        "That is its backend b1: it holds the VIP on its NIC as well"
    ]


@pytest.mark.parametrize("told", ["2001:db8::1001 is not on lo", "fd2001:db8::100 is not on lo", "2001:db8::100:1: no"])
def test_a_problem_with_another_address_hides_none(told: str) -> None:
    wanted, hosts, seen = everything6()
    seen["b1"]["__dsr_seen_loopback"] = {"vips": [], "problems": [told]}
    lacking = f"b1: does not hold the VIP {VIP6}; run dsr.layer2.site"
    assert reports.verification(wanted, hosts, seen, GROUPS)["problems"] == [f"b1: {told}", lacking]
    for same in (f"{VIP6} is not on lo", f"nobody has {VIP6}", f"vips[0]: {VIP6}: it is missing", f"{VIP6}."):
        seen["b1"]["__dsr_seen_loopback"] = {"vips": [], "problems": [same]}
        assert reports.verification(wanted, hosts, seen, GROUPS)["problems"] == [f"b1: {same}"]


def test_a_long_address_has_a_line_of_its_own_in_the_table() -> None:
    long = "2001:db8:1234:5678:9abc:def0:1234:5678"
    table = reports.status_table([vip(address=VIP6, backends=[backend(1, address=long)])])
    assert table[2:] == [
        f"  b1 ({long})",
        "                                      up            1       1    1.2 k   98.8 kB",
    ]
    assert max(map(len, table)) <= 80


def test_vips_beside_dsr_vips_are_fine_where_nothing_is_purged() -> None:
    seen = everything()
    seen["lb"]["__dsr_seen_vips"] = {"vips": [vip(), vip("other")]}
    seen["lb"]["load_balancer_purge"] = False
    assert reports.verification(WANTED, HOSTS, seen, GROUPS)["problems"] == []
