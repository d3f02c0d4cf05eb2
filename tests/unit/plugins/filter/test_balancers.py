# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which load balancers are worked on."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.filter import balancers

VIPS = (
    {"name": "web", "address": "192.0.2.100"},
    {"name": "tls", "address": "192.0.2.100"},
    {"name": "api", "address": "192.0.2.101"},
    {"name": "web6", "address": "2001:db8:0::100"},
)


def host(*addresses: str, vips: Any = VIPS) -> dict[str, Any]:
    facts = {"all_ipv4_addresses": [one for one in addresses if "." in one]}
    facts["all_ipv6_addresses"] = [one for one in addresses if ":" in one]
    return {"ansible_facts": facts, "dsr_vips": vips}


@pytest.mark.parametrize(
    ("hosts", "order"),
    [
        ({"lb1": host("192.0.2.2"), "lb2": host("192.0.2.3")}, ["lb1", "lb2"]),
        ({"lb1": host("192.0.2.2", "192.0.2.100"), "lb2": host("192.0.2.3")}, ["lb2", "lb1"]),
        ({"lb1": host("2001:db8::100"), "lb2": host("192.0.2.3")}, ["lb2", "lb1"]),
        # both work: the one with fewer
        ({"lb1": host("192.0.2.100", "2001:db8::100"), "lb2": host("192.0.2.101")}, ["lb2", "lb1"]),
        # each of many holds all of them: as the inventory says
        ({"lb3": host("192.0.2.100"), "lb1": host("192.0.2.100")}, ["lb3", "lb1"]),
        # nothing is known of the first
        ({"lb1": {"dsr_vips": VIPS}, "lb2": host("192.0.2.100")}, ["lb2", "lb1"]),
        ({"lb1": host("192.0.2.100", vips=None), "lb2": host(vips=["web", {"address": "x"}, {}])}, ["lb1", "lb2"]),
        ({}, []),
    ],
)
def test_those_that_hold_least_come_first(hosts: dict[str, Any], order: list[str]) -> None:
    assert balancers.standby_first(list(hosts), hosts) == order
