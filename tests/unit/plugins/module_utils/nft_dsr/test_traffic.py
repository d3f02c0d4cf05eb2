# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose counters and flows those are that maps have."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model, ruleset
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import Counter
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.traffic import (
    count_flows,
    read_counters,
    service_keys,
)
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import backends, mac_of, vip, vip6

OWN = "02:00:00:00:00:02"


def resolved(options: dict[str, Any], interface: str = "eth0") -> ResolvedVip:
    parsed = model.parse_vip(options, "")
    macs = {backend.address: mac_of(str(backend.address)) for backend in parsed.backends}
    return ResolvedVip(parsed, interface, "eth0", macs)


def key_of(text: str) -> bytes:
    """A key in nft's words as the kernel's bytes: addresses, protocols, ports, marks."""
    numbers = {"tcp": 6, "udp": 17, "sctp": 132}
    found = b""
    for word in text.split(" . "):
        if word.startswith("0x"):
            found += struct.pack("=I", int(word, 16))
        elif word in numbers:
            found += bytes([numbers[word], 0, 0, 0])
        elif word.partition("-")[0].isdigit():
            found += struct.pack(">HH", int(word.partition("-")[0]), 0)
        else:
            found += ip_address(word).packed
    return found


class Rendered:
    """A kernel that has the table for these VIPs, in which each element has counted another number of packets."""

    def __init__(self, *items: ResolvedVip) -> None:
        self.table = ruleset.render(items, {"eth0": OWN, "eth1": OWN})
        self.expected: dict[tuple[str, str], Counter] = {}
        self.read: list[str] = []
        number = 0
        for name, item in self.table.maps.items():
            for key in item.elements or {}:
                number += 1
                self.expected[name, key] = Counter(number, number * 100)

    def __call__(self, name: str) -> list[tuple[bytes, Counter]]:
        self.read.append(name)
        return [(key_of(key), counter) for (owner, key), counter in self.expected.items() if owner == name]


@pytest.mark.parametrize(
    "options",
    [
        vip(),
        vip(ports=["80", "443", "8000-8100"]),
        vip(ports=["53"], protocol="udp", scheduler="round_robin"),
        vip(ports=None),
        vip(ports=None, protocol="any"),
        vip6(ports=["80", "1-79"]),
        vip6(ports=None, protocol="any"),
        vip6(ports=None, protocol="sctp", scheduler="round_robin"),
        vip(backends=[*backends(21, state="drain"), *backends(22)]),
    ],
)
def test_counters_are_found_where_the_ruleset_has_them(options: dict[str, Any]) -> None:
    """Beside another VIP with the same backends."""
    item = resolved(options)
    other = resolved({**options, "name": "other", "address": f"{options['address'][:-1]}7"})
    kernel = Rendered(item, other)
    vips, counters = read_counters([item, other], kernel.table.names, kernel)
    for each in (item, other):
        services = [
            counter
            for (name, key), counter in kernel.expected.items()
            if name.partition("_")[0].rstrip("6") in ("services", "ranges", "allports", "any")
            and key.split(" . ")[0] == str(each.vip.address)
        ]
        assert services and vips[each.vip.name] == sum(services, Counter())
        names = kernel.table.names[each.vip.name]
        for backend in each.vip.backends:
            key = names.key(each.vip.address, each.mark(backend))
            assert counters[each.vip.name, backend.address] == kernel.expected[names.backends, key]
    assert len(kernel.read) == len(set(kernel.read)), "each map is read once"


def test_a_vip_that_the_kernel_does_not_know_yet_has_counted_nothing() -> None:
    item = resolved(vip())
    assert read_counters([item], {}, lambda _name: []) == ({"web": Counter()}, {})


def test_flows_are_counted_of_those_that_track() -> None:
    tracked = resolved(vip(scheduler="round_robin"))
    draining = resolved(
        vip("drains", ports=["53"], protocol="udp", backends=[*backends(21, state="drain"), *backends(22)])
    )
    plain = resolved(vip("plain", ports=["81"]))
    first, second = (struct.pack("=I", tracked.mark(backend)) for backend in tracked.vip.backends[:2])
    there = {"flows_web": {first: 3, second: 1}, "closing_web": {first: 2}, "flows_drains": {first: 9, b"gone": 1}}
    flows = count_flows([tracked, draining, plain], lambda name: there[name])
    assert {(name, str(address)): number for (name, address), number in flows.items()} == {
        ("web", "10.77.0.21"): 5,
        ("web", "10.77.0.22"): 1,
        ("web", "10.77.0.23"): 0,
        ("drains", "10.77.0.21"): 9,
        ("drains", "10.77.0.22"): 0,
    }


def test_keys_fill_up_fields_of_four_bytes() -> None:
    parsed = model.parse_vip(vip(ports=["80", "90-99"]), "")
    address = bytes([10, 77, 0, 100])
    assert service_keys(parsed) == [
        ("services", address + b"\6\0\0\0" + b"\0\x50\0\0"),
        ("ranges", address + b"\6\0\0\0" + b"\0\x5a\0\0"),
    ]
