# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random configurations that are valid, for tests of what holds for all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import mac_of

_NAMES = ("a", "b-1", "c_2")
_SEGMENTS = {4: "10.77.0.", 6: "fd00:77::"}
# For VIPs that may share: two of them near each other
_ADDRESSES = {
    4: ("10.77.0.100", "10.77.0.101", "10.79.0.100"),
    6: ("fd00:77::100", "fd00:77::101", "fd00:79::100"),
}
_SOURCES = {
    4: ("0.0.0.0/0", "10.0.0.0/8", "192.0.2.0/25", "192.0.2.128/25", "198.51.100.7", "10.77.0.0/24"),
    6: ("::/0", "2001:db8::/32", "2001:db9::/64", "2001:db9:0:1::/64", "fd00:77::10", "FD00:77::/64"),
}


@st.composite
def backend_options(draw: st.DrawFn, version: int, number: int, weights: st.SearchStrategy[int]) -> dict[str, Any]:
    return {
        "address": f"{_SEGMENTS[version]}{number}",
        "name": draw(st.sampled_from(["", f"host-{number}", f"H{number}.example_net"])),
        "mac": draw(st.sampled_from([None, f"02-AA-00-00-00-{number:02X}"])),
        "weight": draw(weights),
        "state": draw(st.sampled_from(model.BACKEND_STATES)),
        "backup": draw(st.sampled_from([False, False, True])),
    }


@st.composite
def flow_tables(draw: st.DrawFn, protocol: str) -> dict[str, Any]:
    """Of any option that the protocol knows, or none."""
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["size"] = draw(st.sampled_from([1000, 65536, model.MAX_FLOWS]))
    known = st.sampled_from(sorted(model.TIMEOUTS[protocol]))
    options["timeouts"] = draw(st.dictionaries(known, st.sampled_from([1, 90, model.MAX_TIMEOUT]), max_size=3))
    return options


@st.composite
def health_checks(draw: st.DrawFn) -> dict[str, Any]:
    """Of every type that matters here: those that go through the VIP, and those that don't."""
    kind = draw(st.sampled_from(["tcp", "http", "icmp", "exec"]))
    options: dict[str, Any] = {"type": kind, "min_healthy": draw(st.sampled_from([None, 0.5, "25%"]))}
    if kind in ("tcp", "http"):
        options["port"] = 80
    if kind == "exec":
        return {**options, "command": ["/bin/true"]}
    return {**options, "via": draw(st.sampled_from([None, "vip", "backend"]))}


@st.composite
def vip_options(draw: st.DrawFn, name: str, number: int) -> dict[str, Any]:
    """A VIP that can stand beside those of other numbers: they share an address at most, and no port."""
    version = draw(st.sampled_from([4, 6]))
    protocol = draw(st.sampled_from(model.PROTOCOLS))
    scheduler = draw(st.sampled_from([s for s in model.SCHEDULERS if (protocol, s) != ("any", "connection_hash")]))
    ranges = [(0, 1), (1, 5)] if scheduler in model.HASH_SCHEDULERS else [(0, 5 if "weighted" in scheduler else 1)]
    weights = st.integers(*draw(st.sampled_from(ranges)))
    base = 1000 * (number + 1)
    ports = draw(
        st.lists(
            st.sampled_from([f"{base}", f"{base + 1}", f"{base + 2}-{base + 9}", f"{base + 24}-{base + 255}"]),
            max_size=0 if protocol == "any" else 4,
            unique=True,
        )
    )
    shared = bool(ports) and draw(st.booleans())
    numbers = draw(st.lists(st.integers(21, 26), min_size=1, max_size=6, unique=True))
    pool = [draw(backend_options(version, backend, weights)) for backend in numbers]
    pool[0]["backup"] = False  # a pool of backups alone is none
    persistence = draw(st.sampled_from([0, 0, 300]))
    tracks = persistence > 0 or scheduler in model.TURN_SCHEDULERS
    sources = st.lists(st.sampled_from(_SOURCES[version]), unique=True, max_size=3)
    rate = st.sampled_from([None, "100/second", "1/minute", "5 / hour", "1000000/day"])
    return {
        "name": name,
        "address": _SEGMENTS[version] + ("100" if shared else f"{101 + number}"),
        "interface": draw(st.sampled_from([None, "eth0", "eth1"])),
        "backend_interface": draw(st.sampled_from([None, "eth0", "eth1"])),
        "protocol": protocol,
        "ports": ports or None,
        "scheduler": scheduler,
        "persistence_timeout": persistence,
        "flow_table": draw(st.none() | flow_tables(protocol)),
        "backends": pool,
        "require_mac": draw(st.booleans()),
        "on_empty": draw(st.sampled_from(model.ON_EMPTY)),
        "allow_sources": draw(sources) or None,
        "deny_sources": draw(st.none() | sources),
        "new_flows_per_source": draw(rate) if tracks or protocol in ("tcp", "sctp") else None,
        "health_check": draw(st.none() | health_checks()),
    }


@st.composite
def vips_options(draw: st.DrawFn) -> list[dict[str, Any]]:
    """What a user may ask of a load balancer."""
    names = draw(st.lists(st.sampled_from(_NAMES), max_size=3, unique=True))
    return [draw(vip_options(name, _NAMES.index(name))) for name in names]


@st.composite
def resolved_vips(draw: st.DrawFn) -> list[ResolvedVip]:
    """The same with what the host adds, and the agent: of some the MAC is not known, some are unhealthy."""
    resolved = []
    for vip in model.parse_vips(draw(vips_options())):
        unknown = draw(st.sets(st.sampled_from([backend.address for backend in vip.backends]), max_size=1))
        backend_interface = vip.backend_interface or "eth0"
        macs = {
            backend.address: backend.mac or mac_of(str(backend.address))
            for backend in vip.backends
            if backend.mac or backend.address not in unknown
        }
        item = ResolvedVip(vip, vip.interface or backend_interface, backend_interface, macs)
        resolved.append(draw(with_health(item)))
    return resolved


@st.composite
def with_health(draw: st.DrawFn, item: ResolvedVip) -> ResolvedVip:
    """The VIP while some of its backends fail their check, if it has one."""
    if item.vip.health_check is None:
        return item
    failing = st.sampled_from([backend.address for backend in item.vip.backends])
    return replace(item, unhealthy=draw(st.frozensets(failing)))


_POOLS: tuple[tuple[dict[str, Any], ...], ...] = (
    ({}, {}, {}),
    ({}, {}, {}),
    ({"state": "down"}, {}, {}),
    ({"weight": 0}, {}, {}),
    ({}, {}),
    ({}, {}, {"backup": True}),
    ({"state": "down"}, {"state": "down"}),
)
_WAYS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"scheduler": "connection_hash"},
    {"scheduler": "round_robin"},
    {"scheduler": "weighted_round_robin"},
    {"scheduler": "weighted_least_connections"},
    {"protocol": "udp"},
    {"on_empty": "local"},
    {"persistence_timeout": 60},
    {"deny_sources": ["::/16", "1.0.0.0/8"]},
    {"backend_interface": "eth1"},
    {"interface": "eth1"},
    {"health_check": {"type": "icmp"}},
    {"health_check": {"type": "icmp", "via": "backend"}, "scheduler": "round_robin"},
)


@st.composite
def sharing_vips(draw: st.DrawFn) -> list[ResolvedVip]:
    """VIPs of a few kinds, over a few pools, at a few addresses: many share what they look up."""
    usual = draw(st.sampled_from(_POOLS))
    resolved = []
    for name in draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=6)):
        version = draw(st.sampled_from([4, 4, 4, 6]))
        pool = draw(st.sampled_from((usual, usual, *_POOLS)))
        way = dict(draw(st.sampled_from(_WAYS)))
        if "deny_sources" in way:
            way["deny_sources"] = [way["deny_sources"][version == 4]]
        vip = model.parse_vip(
            {
                "name": name,
                "address": draw(st.sampled_from(_ADDRESSES[version])),
                "ports": [str(80 + ord(name))],
                "backends": [
                    {"address": f"{_SEGMENTS[version]}{21 + number}", **options} for number, options in enumerate(pool)
                ],
                **way,
            },
            "",
        )
        macs = {backend.address: mac_of(str(backend.address)) for backend in vip.backends}
        if draw(st.sampled_from([False, False, True])):
            del macs[vip.backends[-1].address]
        nic = vip.backend_interface or "eth0"
        resolved.append(draw(with_health(ResolvedVip(vip, vip.interface or nic, nic, macs))))
    return resolved
