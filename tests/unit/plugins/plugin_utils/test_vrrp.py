# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which load balancer has which VIP, and what is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.filter.vrrp import vrrp_plan, vrrp_problem
from ansible_collections.dsr.layer2.plugins.plugin_utils.vrrp import assign

NAMES = ("lb1", "lb2", "lb3")
VIPS = [{"name": f"v{number}", "address": f"192.0.2.{100 + number}"} for number in range(6)]
VIPS += [{"name": "tls", "address": "192.0.2.100"}, {"name": "six", "address": "2001:db8:0::1"}]


def hosts(**changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "dsr_interface": "eth0",
            "high_availability_address": f"192.0.2.{2 + place}",
            "ansible_facts": {},
            **changes.get(name, {}),
        }
        for place, name in enumerate(NAMES)
    }


def problem(options: Any = None, names: Any = NAMES, seen: Any = None, config: str = "", **changes: Any) -> str:
    return vrrp_problem(VIPS, "lb1", names, hosts(**changes), options or {}, seen, config)


def test_each_address_is_first_on_one_load_balancer_and_all_plans_agree() -> None:
    plans = {name: vrrp_plan(VIPS, name, NAMES, hosts(), {}) for name in NAMES}
    first = plans["lb1"]
    assert [one["router_id"] for one in first["instances"]] == [100, 101, 102]
    assert first["peers"] == ["192.0.2.3", "192.0.2.4"]
    spread = [one["addresses"] for one in first["instances"]]
    assert sorted(itertools.chain(*spread)) == sorted({f"192.0.2.{100 + n}/32" for n in range(6)} | {"2001:db8::1/128"})
    assert {len(one) for one in spread} == {2, 3}
    for place in range(3):
        instances = [plans[name]["instances"][place] for name in NAMES]
        assert len({one["priority"] for one in instances}) == 3
        assert max(instances, key=lambda one: one["priority"]) == plans[NAMES[place]]["instances"][place]
        for key in ("name", "owner", "router_id", "marker", "addresses"):
            assert len({str(one[key]) for one in instances}) == 1


def test_one_instance_by_priority() -> None:
    given = {name: {"high_availability_priority": 110 + place} for place, name in enumerate(NAMES)}
    plan = vrrp_plan(VIPS, "lb1", NAMES, hosts(**given), {"spread": False})
    (only,) = plan["instances"]
    assert (only["owner"], only["priority"], len(only["addresses"])) == ("lb3", 110, 7)


def test_what_is_checked() -> None:
    (rules,) = vrrp_plan(VIPS, "lb1", NAMES, hosts(), {})["checks"]
    assert rules["command"] == "/usr/sbin/nft -c add rule netdev nft_dsr ingress_eth0 continue"
    assert rules["weight"] == 0
    plan = vrrp_plan(VIPS, "lb1", NAMES, hosts(), {"agent": True})
    lowest = min(one["priority"] for one in plan["instances"])
    highest = max(one["priority"] for one in plan["instances"])
    # Without its agent, the best one is behind the worst that has one, and still above 0.
    assert 0 < highest + plan["checks"][1]["weight"] < lowest


@pytest.mark.parametrize(
    ("said", "arguments"),
    [
        ("dsr_ha: vrrp needs two load balancers", {"names": ("lb1",)}),
        (
            "lb2.high_availability_address: 192.0.2.2 is the address of lb1",
            {"lb2": {"high_availability_address": "192.0.2.2"}},
        ),
        ("lb2.high_availability_address: 'lb2' is no IPv4", {"lb2": {"high_availability_address": "lb2"}}),
        ("lb2.high_availability_address: the load balancer's own", {"lb2": {"high_availability_address": ""}}),
        ("lb3.high_availability_interface: the NIC", {"lb3": {"dsr_interface": ""}}),
        ("lb3.high_availability_interface: 'eth0; x' is no name", {"lb3": {"dsr_interface": "eth0; x"}}),
        ("lb1.high_availability_priority: VIPs are spread", {"lb1": {"high_availability_priority": 150}}),
        (
            "lb2.high_availability_priority: 150 is the priority of lb1",
            {"options": {"spread": False}, **{name: {"high_availability_priority": 150} for name in NAMES}},
        ),
        (
            "lb2.high_availability_priority: is missing",
            {"options": {"spread": False}, "lb1": {"high_availability_priority": 150}},
        ),
        (
            "lb1.high_availability_priority: 100 is no whole number from 101 to 200",
            {"options": {"spread": False}, "lb1": {"high_availability_priority": 100}},
        ),
        ("high_availability_router_id: '0' is no whole number", {"options": {"router_id": "0"}}),
        ("high_availability_router_id: 254: 3 load balancers", {"options": {"router_id": 254}}),
        (
            "high_availability_router_ids.lb2: 7 is the router id of lb1",
            {"options": {"router_ids": {"lb1": 7, "lb2": 7}}},
        ),
        ("high_availability_router_ids.lb2: 256", {"options": {"router_ids": {"lb2": 256}}}),
        ("high_availability_router_ids: is not a dictionary", {"options": {"router_ids": [1]}}),
        ("high_availability_transport: 'any'", {"options": {"transport": "any"}}),
        ("high_availability_version: 4", {"options": {"version": 4}}),
        ("high_availability_advert_interval: 0 s", {"options": {"advert_interval": 0}}),
        ("high_availability_advert_interval: is not a number", {"options": {"advert_interval": "soon"}}),
        ("high_availability_advert_interval: 0.1 s: VRRP version 2", {"options": {"version": 2}}),
        ("high_availability_password: VRRP version 3 has no", {"options": {"password": "secret"}}),
        (
            "high_availability_password: takes 1 to 8",
            {"options": {"version": 2, "advert_interval": 1, "password": "two words"}},
        ),
        (
            "high_availability_router_id: 101 is in use on the segment of eth0 by 192.0.2.9",
            {"seen": [{"router_id": 101, "source": "192.0.2.9"}]},
        ),
        (
            "/etc/keepalived/keepalived.conf: it has the VIP 192.0.2.103 too",
            {"config": "vrrp_instance x {\n virtual_ipaddress {\n  192.0.2.103/24 dev eth0\n }\n}"},
        ),
    ],
)
def test_what_is_refused(said: str, arguments: dict[str, Any]) -> None:
    found = problem(**arguments)
    assert found.startswith(said), found
    # The password, if there is one, is in no message.
    assert "secret" not in found and "two words" not in found


def test_what_is_none_of_our_business() -> None:
    seen = [{"router_id": 101, "source": "192.0.2.3"}, {"router_id": 50, "source": "192.0.2.9"}]
    assert problem(seen=seen, config="# 192.0.2.103\nvirtual_ipaddress { 192.0.2.99 }") == ""


def test_facts_are_enough() -> None:
    facts = {
        "default_ipv4": {"interface": "eth0.5", "address": "192.0.2.2"},
        "eth0_5": {"ipv4": {"address": "192.0.2.2"}},
    }
    given = hosts(lb1={"dsr_interface": "", "high_availability_address": "", "ansible_facts": facts})
    plan = vrrp_plan(VIPS, "lb1", NAMES, given, {})
    assert (plan["interface"], plan["address"]) == ("eth0.5", "192.0.2.2")


def test_a_problem_ends_the_plan_as_an_error_of_the_filter() -> None:
    with pytest.raises(AnsibleFilterError, match="dsr_ha"):
        vrrp_plan(VIPS, "lb1", ["lb1"], hosts(), {})
    assert vrrp_problem(VIPS, "lb9", NAMES, hosts(), {}).startswith("high_availability_group: lb9")


ADDRESSES = st.sets(st.integers(0, 255).map(lambda number: f"192.0.2.{number}"), max_size=60)


@given(ADDRESSES, st.integers(1, 6))
def test_addresses_are_spread_evenly(addresses: set[str], count: int) -> None:
    names = [f"lb{number}" for number in range(count)]
    held = assign(sorted(addresses), names)
    assert sorted(itertools.chain(*held.values())) == sorted(addresses)
    assert max(map(len, held.values())) - min(map(len, held.values())) <= 1


def test_few_addresses_move_when_one_is_added() -> None:
    addresses = [f"192.0.2.{number}" for number in range(200)]
    before, after = assign(addresses[:-1], NAMES), assign(addresses, NAMES)
    moved = sum(len(set(before[name]) - set(after[name])) for name in NAMES)
    print(f"one VIP more beside 199: {moved} others move")
    assert moved <= 10
