# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table that VIPs ask for. That packets go where it says is shown in tests/dataplane.

The files in golden/ are the rulesets of typical configurations. After a change that is meant, renew them with

    RENEW_GOLDEN=1 make unit ARGS="-k golden"

and read the difference in git: it is what every load balancer out there will get at its next run.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model, packet_fields, schedule
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.kernel import Kernel
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.naming import names_in_use
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import (
    DRAINING,
    PLAIN,
    RELEASED,
    TRACKED,
    ResolvedVip,
)
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.ruleset import flow_modes, render
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import Names, Table, boot_text, mark, table_text
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import (
    OWN,
    backends,
    backends6,
    mac_of,
    vip,
    vip6,
)
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.memory_nft import MemoryMap, MemoryNft
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.strategies import resolved_vips

GOLDEN = Path(__file__).resolve().with_name("golden")
_LONG = 16  # elements; longer lists are numbers that nobody reads
# What stands before the first '_' in the names of objects that are one VIP's own, and of those that several may share
OF_ONE = frozenset(("vip", "syn", "fin", "fallback", "grace", "error", "fit", "allow", "deny", "newflows", "flows"))
OF_ONE |= {"opened", "closed", "closing", "clients", "switch", "backends", "handout"}
OF_SOME = frozenset(("pool", "poolerror", "poolbackends", "poolhandout", "slots", "turns"))


def resolved(options: Mapping[str, Any], without_mac: Sequence[str] = ()) -> ResolvedVip:
    parsed = model.parse_vip(dict(options), "")
    backend_interface = parsed.backend_interface or "eth0"
    macs = {
        backend.address: backend.mac or mac_of(str(backend.address))
        for backend in parsed.backends
        if str(backend.address) not in without_mac
    }
    return ResolvedVip(parsed, parsed.interface or backend_interface, backend_interface, macs)


def rendered(*vips: Mapping[str, Any], in_use: Optional[Mapping[str, Names]] = None) -> Table:
    return render([resolved(options) for options in vips], OWN, in_use)


# -- golden rulesets

CONFIGURATIONS: dict[str, tuple[list[ResolvedVip], Sequence[str]]] = {
    # name: (VIPs, the maps that the kernel has)
    "source_hash": ([resolved(vip(ports=["80", "443"]))], ()),
    "every_scheduler": (
        [
            # Equal pools share a slot table, whatever the scheduler; hash VIPs the backends, if not on one address.
            resolved(vip("a", scheduler="source_hash")),
            resolved(vip("b", scheduler="connection_hash", address="10.77.0.101", ports=["80", "8000-8100"])),
            resolved(vip("c", scheduler="round_robin", address="10.77.0.102")),
            resolved(
                vip(
                    "d",
                    scheduler="weighted_round_robin",
                    protocol="udp",
                    ports=None,
                    backends=[*backends(21, weight=3), *backends(22)],
                )
            ),
        ],
        (),
    ),
    "least_connections": (
        [
            resolved(vip("a", scheduler="least_connections")),
            resolved(vip("b", scheduler="weighted_least_connections", protocol="udp", persistence_timeout=60)),
            resolved(vip6("six", scheduler="least_connections", backends=backends6(21, 22))),
        ],
        (),
    ),
    "one_pool": (
        [
            # Of two on one address the second cannot have the first one's maps.
            resolved(vip("a")),
            resolved(vip("b", ports=["443"])),
            resolved(vip("c", address="10.77.1.100", backends=[*backends(21, state="down"), *backends(22, 23)])),
            resolved(vip("d", address="10.77.1.101", on_empty="local")),
            resolved(vip("e", address="10.77.1.102", persistence_timeout=60)),
            resolved(vip6("six")),
            resolved(vip6("six-far", address="2001:db8::1")),
        ],
        (),
    ),
    "draining": (
        [
            resolved(vip("tcp", backends=[*backends(21, state="drain"), *backends(22, 23)])),
            resolved(vip("udp", protocol="udp", backends=[*backends(21, 22), *backends(23, weight=0)])),
            resolved(
                vip(
                    "turns",
                    ports=["81"],
                    scheduler="weighted_round_robin",
                    backends=[*backends(21, 22, weight=2), *backends(23, weight=0)],
                )
            ),
        ],
        (),
    ),
    "nobody_is_left": (
        [
            resolved(vip("hash", backends=backends(21, 22, state="down"))),
            resolved(vip("turns", ports=["81"], scheduler="round_robin", backends=backends(21, 22, weight=0))),
            resolved(vip("udp", protocol="udp", backends=backends(21, 22, state="drain"))),
            resolved(vip("silent", ports=["82"], backends=backends(21, 22)), without_mac=["10.77.0.21", "10.77.0.22"]),
        ],
        (),
    ),
    "two_nics": (
        [
            resolved(vip("across", interface="eth1", backend_interface="eth0")),
            resolved(vip("within", interface="eth1", backend_interface="eth1", ports=["81"])),
        ],
        (),
    ),
    "after_a_drain": (
        [resolved(vip("tcp")), resolved(vip("udp", protocol="udp"))],
        ("flows_tcp", "closing_tcp", "flows_udp"),
    ),
    "ipv6": (
        [
            resolved(vip6("hash", ports=["80", "8000-8100"])),
            resolved(vip6("turns", ports=["81"], scheduler="round_robin")),
            resolved(vip6("udp", protocol="udp", ports=["53"], scheduler="round_robin")),
            resolved(vip6("drain", address="fd00:77::101", protocol="udp", backends=backends6(21, state="drain"))),
            # In IPv4 beside it
            resolved(vip("four")),
        ],
        (),
    ),
    "sctp": (
        [
            resolved(vip("hash", protocol="sctp", scheduler="connection_hash")),
            resolved(vip("turns", protocol="sctp", ports=None, scheduler="round_robin", address="10.77.0.101")),
        ],
        (),
    ),
    "any": (
        [
            resolved(vip("rest", protocol="any", ports=None)),
            resolved(vip("tracked", protocol="any", ports=None, scheduler="round_robin", address="10.77.0.101")),
            resolved(vip6("six", protocol="any", ports=None, persistence_timeout=60)),
            resolved(vip("web")),
        ],
        (),
    ),
    "persistence": (
        [
            resolved(vip("hash", persistence_timeout=300)),
            resolved(vip("turns", ports=["81"], scheduler="round_robin", persistence_timeout=300)),
            resolved(vip("udp", protocol="udp", persistence_timeout=300, backends=[*backends(21), *backends(22)])),
            resolved(vip6("six", persistence_timeout=300)),
        ],
        (),
    ),
    "sources": (
        [
            resolved(
                vip(
                    "four",
                    allow_sources=["10.0.0.0/8", "192.0.2.7"],
                    deny_sources=["10.1.0.0/16"],
                    new_flows_per_source="100/second",
                )
            ),
            resolved(vip6("six", allow_sources=["fd00::/8"], deny_sources=["fd01::/16", "fd02::1"])),
            resolved(vip("turns", ports=["81"], scheduler="round_robin", new_flows_per_source="5/minute")),
            resolved(vip6("udp", protocol="udp", ports=["53"], persistence_timeout=60, new_flows_per_source="7/hour")),
        ],
        (),
    ),
    "on_empty": (
        [
            resolved(vip("drop", backends=backends(21, state="down"))),
            resolved(vip("local", ports=["81"], on_empty="local", backends=backends(21, state="down"))),
            resolved(vip("reject", ports=["82"], on_empty="reject", backends=backends(21, state="down"))),
            resolved(vip6("six", on_empty="reject", protocol="udp", backends=backends6(21, state="down"))),
            resolved(vip("turns", ports=["83"], scheduler="round_robin", on_empty="reject", backends=backends(21))),
        ],
        (),
    ),
    "backups": (
        [
            resolved(vip("waiting", backends=[*backends(21, 22), *backends(23, backup=True)])),
            resolved(
                vip(
                    "serving",
                    ports=["81"],
                    backends=[*backends(21, state="down"), *backends(22, state="drain"), *backends(23, backup=True)],
                )
            ),
            resolved(
                vip(
                    "turns",
                    ports=["82"],
                    scheduler="weighted_round_robin",
                    backends=[
                        *backends(21, state="down"),
                        *backends(23, weight=3, backup=True),
                        *backends(24, backup=True),
                    ],
                )
            ),
        ],
        (),
    ),
    "flow_table": (
        [
            resolved(
                vip(
                    "tcp",
                    scheduler="round_robin",
                    flow_table={"size": 1000, "timeouts": {"syn": 5, "established": 600, "closing": 7}},
                )
            ),
            resolved(
                vip(
                    "udp",
                    protocol="udp",
                    flow_table={"size": 2000, "timeouts": {"udp": 30}},
                    backends=[*backends(21, state="drain"), *backends(22)],
                )
            ),
        ],
        (),
    ),
    "health_checks": (
        [
            # Through the VIP, beside one that is asked at its backends, and one through another NIC.
            resolved(vip("through", health_check={"type": "tcp"})),
            resolved(vip("beside", ports=["81"], health_check={"type": "tcp", "via": "backend"})),
            resolved(vip("told", ports=["82"], health_check={"type": "exec", "command": ["/bin/true"]})),
            resolved(vip6("six", scheduler="round_robin", health_check={"type": "icmp"})),
            resolved(vip("across", address="10.77.0.101", interface="eth1", health_check={"type": "http"})),
            # Who fails is not taken away from the others of its pool.
            replace(
                resolved(vip("turns", ports=["83"], scheduler="round_robin", health_check={"type": "icmp"})),
                unhealthy=frozenset([IPv4Address("10.77.0.21")]),
            ),
        ],
        (),
    ),
}


def abridged(text: str) -> str:
    """The text with a summary in place of long lists of elements."""

    def summary(match: re.Match[str]) -> str:
        elements = [line.strip().rstrip(",") for line in match[1].splitlines()]
        if len(elements) <= _LONG:
            return match[0]
        shares = Counter(element.partition(" : ")[2] for element in elements)
        counts = ", ".join(f"{value} {number}" for value, number in sorted(shares.items()))
        digest = hashlib.sha256(match[1].encode()).hexdigest()[:16]
        return f"\t\t# {len(elements)} elements ({counts}), sha256 {digest}\n"

    return re.sub(r"\t\telements = \{\n(.*?)\t\t\}\n", summary, text, flags=re.DOTALL)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_golden_ruleset(name: str) -> None:
    vips, existing = CONFIGURATIONS[name]
    text = abridged(table_text(render(vips, OWN, modes=flow_modes([item.vip for item in vips], existing))))
    path = GOLDEN / f"{name}.nft"
    if os.environ.get("RENEW_GOLDEN"):
        path.write_text(text)
    assert path.exists(), f"{path} is missing; make it as this file's head says"
    assert text == path.read_text()


def test_every_golden_file_has_its_configuration() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CONFIGURATIONS)


# -- what holds for all configurations


def owner_of(name: str) -> tuple[str, str]:
    """Of an object's name: what it is, and whose alone. Rules of NICs are nobody's, nor is what VIPs share."""
    kind, _underscore, owner = name.partition("_")
    return kind, owner if kind in OF_ONE else ""


def elements_of(table: Table, name: str, address: Any) -> dict[str, str]:
    """What a VIP's own map has, or one of its pool for the VIP's address, by what else is in the key."""
    whose = f"{address} . " if name.startswith("pool") else ""
    elements = table.maps[name].elements or {}
    return {key[len(whose) :]: value for key, value in elements.items() if key.startswith(whose)}


def uses(rule: str) -> list[str]:
    """The maps and sets that a rule names."""
    return re.findall(r"@((?!(?:ll|nh|th),)\S+)", rule)


def chains_of(table: Table, name: str) -> Iterator[tuple[str, Sequence[str]]]:
    """The chains of a VIP, its own and those that it shares: what each is, and its rules."""
    shared = (table.names[name].chain, table.names[name].error)
    for chain in table.chains.values():
        kind, owner = owner_of(chain.name)
        if owner == name or chain.name in shared:
            yield kind, chain.rules


@given(resolved_vips())
def test_it_loads_and_is_what_it_is_said_to_be(vips: list[ResolvedVip]) -> None:
    """Every map that a rule uses is there and takes its keys, every chain leads somewhere: nft in memory sees to it."""
    table = render(
        vips, OWN, modes=flow_modes([item.vip for item in vips], [f"flows_{item.vip.name}" for item in vips])
    )
    nft = MemoryNft()
    nft.load(boot_text(table))
    nft.load(boot_text(table))  # whatever was there
    if not vips:
        assert nft.tables == {}
        return
    assert list(nft.table.chains) == list(table.chains) and list(nft.table.maps) == list(table.maps)
    # Where nobody takes new flows, none is counted, remembered or falls back on anybody.
    idle = {item.vip.name for item in vips if not item.takers}
    for name, item in table.maps.items():
        declared = MemoryMap.declared(item.kind, item.declaration)
        assert (declared.key, declared.value, declared.size) == (item.spec.key, item.spec.value, item.spec.size)
        assert declared.flags - {"dynamic"} == item.spec.flags
        assert (declared.counter, declared.timeout) == (item.spec.counter, item.spec.timeout)
        assert ("dynamic" in declared.flags) is (item.elements is None and not item.initial)
        kind, owner = owner_of(name)
        # Who the VIPs are is asked where VIPs share their rules; others name their own.
        unasked = name in {item.family.vips for item in vips} and not any(
            table.names[item.vip.name].pooled for item in vips if item.family.vips == name
        )
        assert nft.table.users_of_map(name) or unasked or (kind in ("newflows", "fit", "opened") and owner in idle), (
            f"{name} is used by no rule"
        )
    for name, chain in nft.table.chains.items():
        assert chain.rules, f"{name} is empty"
        assert chain.device or nft.table.users_of_chain(name) or owner_of(name)[1] in idle, f"nothing leads to {name}"


@given(resolved_vips())
def test_the_order_of_vips_and_backends_means_nothing(vips: list[ResolvedVip]) -> None:
    turned = [
        ResolvedVip(
            model.parse_vip(
                {
                    **item.vip.options(),
                    **{
                        key: item.vip.options()[key][::-1]
                        for key in ("backends", "allow_sources", "deny_sources")
                        if item.vip.options()[key]
                    },
                },
                "",
            ),
            item.interface,
            item.backend_interface,
            dict(reversed(list(item.macs.items()))),
            unhealthy=item.unhealthy,
        )
        for item in reversed(vips)
    ]
    straight, backward = render(vips, OWN), render(turned, OWN)
    assert list(straight.maps) == list(backward.maps)
    assert straight == backward


@given(resolved_vips())
def test_packets_go_to_nobody_who_is_not_to_have_them(vips: list[ResolvedVip]) -> None:
    table = render(vips, OWN)
    for item in vips:
        name = item.vip.name
        names = table.names[name]
        usable, takers, pool = (
            {mark(item.mark(backend)) for backend in group}
            for group in (
                [backend for backend in item.vip.backends if item.usable(backend)],
                item.takers,
                [backend for backend in item.vip.backends if not backend.backup],
            )
        )
        assert set(elements_of(table, names.backends, item.vip.address)) == usable
        assert set(elements_of(table, names.handout, item.vip.address).values()) <= takers
        owned = set((table.maps[slot_tables_of(table)[name]].elements or {}).values())
        assert owned == pool
        guarded = {*item.macs.values(), OWN[item.interface], OWN[item.backend_interface], "00:00:00:00:00:00"}
        guard = table.maps[item.family.guard].elements or {}
        assert {f"{mac} . {item.vip.address}" for mac in guarded} <= set(guard)
        if not item.vip.hashed:
            turns = table.maps[names.turns].elements or {} if names.turns else {}
            assert set(turns.values()) == takers
        if item.vip.persistence_timeout:
            assert set(table.maps[f"fit_{name}"].elements or {}) == takers


@given(resolved_vips())
def test_a_shared_map_has_what_its_vips_have_and_no_more(vips: list[ResolvedVip]) -> None:
    """An element that nobody put there would send a VIP's packets to one who is not its backend."""
    table = render(vips, OWN)
    for kind in ("backends", "handout"):
        users: dict[str, list[ResolvedVip]] = {}
        for item in vips:
            users.setdefault(getattr(table.names[item.vip.name], kind), []).append(item)
        assert set(users) == {name for name in table.maps if name.startswith((f"{kind}_", f"pool{kind}_"))}
        for name, group in users.items():
            alone = [render([item], OWN) for item in group]
            elements = [
                one.maps[getattr(one.names[item.vip.name], kind)].elements or {} for one, item in zip(alone, group)
            ]
            assert sum(len(mine) for mine in elements) == len(table.maps[name].elements or {})
            assert {key: value for mine in elements for key, value in mine.items()} == table.maps[name].elements


@given(resolved_vips())
def test_the_vips_are_all_of_them(vips: list[ResolvedVip]) -> None:
    table = render(vips, OWN)
    found = {key for name, item in table.maps.items() if name.startswith("vips_") for key in item.elements or {}}
    assert found == {str(item.vip.address) for item in vips}


@given(resolved_vips())
def test_what_is_guarded_against_is_a_station_of_some_vip_at_its_address(vips: list[ResolvedVip]) -> None:
    table = render(vips, OWN)
    known = {
        f"{mac} . {item.vip.address}"
        for item in vips
        for mac in [*item.macs.values(), OWN[item.interface], OWN[item.backend_interface], "00:00:00:00:00:00"]
    }
    guards = [item for name, item in table.maps.items() if name.startswith("guard_")]
    assert {key for item in guards for key in item.elements or {}} == known


@given(resolved_vips())
def test_who_gets_new_flows(vips: list[ResolvedVip]) -> None:
    """Who is up; of the pool, or if nobody there is, of the backups.

    Not who drains, is down, fails its check or has no known MAC.
    """
    for item in vips:
        able = [
            backend
            for backend in item.vip.backends
            if backend.state == "up"
            and backend.weight > 0
            and backend.address in item.macs
            and backend.address not in item.unhealthy
        ]
        assert item.takers == ([backend for backend in able if not backend.backup] or able)


@given(resolved_vips())
def test_no_hash_without_a_seed_and_none_beyond_its_table(vips: list[ResolvedVip]) -> None:
    """Without a seed the kernel draws one at each load, and all flows move."""
    table = render(vips, OWN)
    # Where all fail their checks, nobody's turn comes, and the rules stay.
    idle = {table.names[item.vip.name].turns for item in vips if not item.takers}
    for chain in table.chains.values():
        for rule in chain.rules:
            assert rule.count("jhash") == rule.count(f"seed {packet_fields.SEED:#x}")
            indexed = re.findall(r"mod (\d+)(?: seed \w+)? map @((?:slots|turns)_\S+)", rule)
            for size, name in indexed:
                assert int(size) == table.maps[name].spec.size
                assert len(table.maps[name].elements or {}) == (0 if name in idle else int(size))
            # A slot that is handed out is looked up as a mark; it is the same hash.
            again = r"meta mark set (?:ip6? daddr \. )?meta mark"
            handed = re.findall(rf"mod (\d+) seed \w+ {again} map @((?:pool)?handout_\S+)", rule)
            for size, name in handed:
                assert all(int(key.split(" . ")[-1], 16) < int(size) for key in table.maps[name].elements or {})
            assert len(indexed) + len(handed) == len(re.findall("map @(?:slots|turns|handout|poolhandout)_", rule))


@given(resolved_vips())
def test_what_is_recorded_is_sent_in_the_same_rule(vips: list[ResolvedVip]) -> None:
    """An update of a full table ends its rule: were the frame sent by another one, flows would fall apart."""
    modes = flow_modes([item.vip for item in vips], [f"flows_{item.vip.name}" for item in vips])
    for chain in render(vips, OWN, modes=modes).chains.values():
        for rule in chain.rules:
            recorded = re.findall(r"update @((?:flows|closing|clients)_\S+) \{", rule)
            if recorded:
                assert re.search(r" set meta mark map @backends_\S+ .*goto output6?_\S+\Z", rule)
                assert rule.index("map @backends_") < rule.index("update @"), (
                    "nothing is recorded of a backend that is gone"
                )
            if "numgen" in rule:
                assert re.search(r"update @flows_\S+ \{.*\} .*goto output6?_", rule), "a choice per packet breaks flows"


@given(resolved_vips())
def test_no_chain_reads_headers_of_the_other_family(vips: list[ResolvedVip]) -> None:
    table = render(vips, OWN)
    others = {
        4: r"\bip6 |icmpv6|@nh,64,|@th,(?:256|288|384|400),",
        6: r"\bip |\bicmp |(?<!@nh,64,32 \. )@nh,96,32|@th,192,32",
    }
    for item in vips:
        for _kind, rules in chains_of(table, item.vip.name):
            assert not re.search(others[item.vip.address.version], "\n".join(rules))


def normal(name: str, table: Table) -> Any:
    item = table.maps.get(name)
    return item if item is not None else table.chains.get(name)


def but_for_sources(rules: Sequence[str]) -> list[str]:
    """Rules without the one that says which addresses are VIPs: it follows who shares the rules."""
    return [rule for rule in rules if "@vips_" not in rule]


@given(resolved_vips(), st.data())
def test_a_vip_more_changes_nothing_that_others_have(vips: list[ResolvedVip], data: st.DataObject) -> None:
    """What it shares with others is as it was for these."""
    assume(vips)
    new = data.draw(st.sampled_from(vips))
    others = [item for item in vips if item is not new]
    nft = MemoryNft()
    before = render(others, OWN)
    nft.load(boot_text(before))
    after = render(vips, OWN, names_in_use([item.vip for item in vips], Kernel(nft).read()))
    assert {item.vip.name: after.names[item.vip.name] for item in others} == before.names
    for name in (*before.maps, *before.chains):
        if owner_of(name)[1] or name.startswith(("slots_", "turns_")):
            assert normal(name, before) == normal(name, after), f"{name} is another VIP's"
        elif name.startswith(("pool_", "poolerror_")):
            assert but_for_sources(before.chains[name].rules) == but_for_sources(after.chains[name].rules)
            if after.names[new.vip.name].chain != name:
                assert before.chains[name] == after.chains[name]
        elif name in before.maps and not name.startswith("orphans"):
            # Of a NIC's maps and shared ones it has elements, and takes none away (a fragment may be an orphan of
            # one VIP only).
            assert before.maps[name].spec == after.maps[name].spec
            assert (before.maps[name].elements or {}).items() <= (after.maps[name].elements or {}).items()
    mine = {name for name in (*after.maps, *after.chains) if owner_of(name)[1] == new.vip.name}
    mine |= {f"{kind}_{new.vip.name}" for kind in OF_SOME}
    assert not mine & {*before.maps, *before.chains}


@given(resolved_vips(), st.data())
def test_a_change_of_membership_edits_elements_and_no_rule(vips: list[ResolvedVip], data: st.DataObject) -> None:
    """A backend that goes down, drains, becomes a backup, gets another weight, or comes back.

    Two things do change rules: a hash VIP tracks while a backend drains, and one without anybody to take new flows
    says what becomes of them.
    """
    assume(vips)
    old = data.draw(st.sampled_from(vips))
    options = old.vip.options()
    backend = data.draw(st.sampled_from(options["backends"]))
    change = data.draw(
        st.sampled_from([{"state": "up"}, {"state": "down"}, {"state": "drain"}, {"weight": 1}, {"weight": 0}])
        | st.just({"backup": not backend["backup"]})
    )
    pool = [{**other, **(change if other is backend else {})} for other in options["backends"]]
    try:
        vip_then = model.parse_vip({**options, "backends": pool}, "")
    except ConfigError:
        assume(False)
    new = ResolvedVip(vip_then, old.interface, old.backend_interface, old.macs)
    existing = [f"flows_{old.vip.name}"]
    modes = [flow_modes([item.vip], existing) for item in (old, new)]
    assume(modes[0] == modes[1] and bool(old.takers) == bool(new.takers))
    before, after = render([old], OWN, modes=modes[0]), render([new], OWN, modes=modes[1])
    assert before.chains == after.chains
    assert [(item.name, item.spec) for item in before.maps.values()] == [
        (item.name, item.spec) for item in after.maps.values()
    ]


# -- parts


@pytest.mark.parametrize(
    ("options", "existing", "mode"),
    [
        ({}, (), PLAIN),
        ({}, ("flows_web",), RELEASED),
        ({}, ("flows_other",), PLAIN),
        ({"backends": backends(21, weight=0)}, (), DRAINING),
        ({"backends": backends(21, state="drain")}, ("flows_web",), DRAINING),
        ({"backends": backends(21, state="down")}, (), PLAIN),
        ({"backends": [*backends(21), *backends(22, state="drain", backup=True)]}, (), DRAINING),
        ({"scheduler": "connection_hash"}, (), PLAIN),
        ({"scheduler": "round_robin"}, (), TRACKED),
        ({"scheduler": "weighted_round_robin", "backends": backends(21, weight=0)}, (), TRACKED),
        ({"persistence_timeout": 1}, (), TRACKED),
        ({"persistence_timeout": 1, "backends": backends(21, state="drain")}, ("flows_web",), TRACKED),
        # A flow table by itself is no reason to track.
        ({"flow_table": {"size": 1000}}, (), PLAIN),
    ],
)
def test_how_flows_are_tracked(options: dict[str, Any], existing: Sequence[str], mode: str) -> None:
    assert flow_modes([model.parse_vip(vip(**options), "")], existing) == {"web": mode}


def test_equal_pools_share_a_slot_table_and_others_do_not() -> None:
    same = backends(23, 22, 21)
    other = [*backends(21, weight=2), *backends(22, 23)]
    table = rendered(vip("b"), vip("a", ports=["81"], backends=same), vip("c", ports=["82"], backends=other))
    assert [name for name in table.maps if name.startswith("slots_")] == ["slots_a", "slots_c"]
    assert any("@slots_a" in rule for rule in table.chains[table.names["b"].chain].rules)


OTHER_POOL = backends(24)


def slot_tables_of(table: Table) -> dict[str, str]:
    """Which slot table the rules of each VIP look up: all of them the same."""
    found = {}
    for name in table.names:
        (found[name],) = {
            slots for _kind, rules in chains_of(table, name) for slots in re.findall(r"@(slots_\S+)", " ".join(rules))
        }
    return found


@pytest.mark.parametrize(
    ("vips", "in_use", "names"),
    [
        # Named after the first; kept from whoever had it; kept although its first VIP left.
        ([vip("b"), vip("a", ports=["81"])], {}, {"a": "slots_a", "b": "slots_a"}),
        ([vip("b"), vip("a", ports=["81"])], {"b": "slots_b"}, {"a": "slots_b", "b": "slots_b"}),
        ([vip("b")], {"a": "slots_a", "b": "slots_a"}, {"b": "slots_a"}),
        # Where the pools part, the larger part keeps the table.
        (
            [vip("a", backends=OTHER_POOL), vip("b", ports=["81"]), vip("c", ports=["82"])],
            {"a": "slots_a", "b": "slots_a", "c": "slots_a"},
            {"a": "slots_a.2", "b": "slots_a", "c": "slots_a"},
        ),
        # Where they come together, one table goes.
        ([vip("a"), vip("b", ports=["81"])], {"a": "slots_a", "b": "slots_b"}, {"a": "slots_a", "b": "slots_a"}),
        # A table that bears another VIP's name.
        (
            [vip("a", backends=OTHER_POOL), vip("b", ports=["81"])],
            {"a": "slots_b", "b": "slots_a"},
            {"a": "slots_b", "b": "slots_a"},
        ),
    ],
)
def test_a_slot_table_keeps_its_name_while_it_is_in_use(
    vips: list[dict[str, Any]], in_use: dict[str, str], names: dict[str, str]
) -> None:
    table = rendered(*vips, in_use={owner: Names(slots=name) for owner, name in in_use.items()})
    assert {name for name in table.maps if name.startswith("slots_")} == set(names.values())
    assert slot_tables_of(table) == names


@given(resolved_vips(), resolved_vips())
def test_a_slot_table_serves_equal_pools_and_no_others(before: list[ResolvedVip], after: list[ResolvedVip]) -> None:
    nft = MemoryNft()
    nft.load(boot_text(render(before, OWN)))
    have = Kernel(nft).read()
    in_use = names_in_use([item.vip for item in before], have)
    assert {name: names.slots for name, names in in_use.items()} == slot_tables_of(render(before, OWN))
    table = render(after, OWN, names_in_use([item.vip for item in after], have))
    used = slot_tables_of(table)
    for item in after:
        wanted = {str(slot): mark(owner) for slot, owner in enumerate(schedule.hash_table(item.weights()))}
        assert table.maps[used[item.vip.name]].elements == wanted
    assert len(set(used.values())) == len({tuple(sorted(item.weights().items())) for item in after})


def test_a_drained_backend_keeps_its_slots_in_the_table_of_owners() -> None:
    """Else the flows that it has would be somebody else's at once."""
    drained = [*backends(21, state="drain"), *backends(22, 23)]
    before, after = rendered(vip()), rendered(vip(backends=drained))
    assert before.maps["slots_web"] == after.maps["slots_web"]
    owned = {slot for slot, owner in (before.maps["slots_web"].elements or {}).items() if owner == "0x0a4d0015"}
    assert set(after.maps["handout_web"].elements or {}) == {mark(int(slot)) for slot in owned}


def test_a_hash_vip_looks_its_new_flows_up_in_the_handout_first() -> None:
    """While the owner of a slot drains, new flows of the slot go to who has it meanwhile."""
    rules = rendered(vip(backends=[*backends(21, state="drain"), *backends(22)])).chains["syn_web"].rules
    choices = [match[0] for rule in rules for match in [re.search(r"@(handout|slots|flows)_web", rule)] if match]
    assert choices[:3] == ["@flows_web", "@handout_web", "@slots_web"]


ADDRESS = {4: ("@nh,96,32", "@th,192,32"), 6: ("@nh,64,128", "@th,256,128")}
QUOTED_PORT = {4: "@th,240,16", 6: "@th,400,16"}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("scheduler", "protocol", "with_port"),
    [
        ("source_hash", "tcp", False),
        ("source_hash", "udp", False),
        ("source_hash", "any", False),
        ("connection_hash", "tcp", True),
        ("connection_hash", "udp", True),
        ("connection_hash", "sctp", True),
        # What can't be recorded, by the finer of the hashes
        ("round_robin", "tcp", True),
        ("weighted_round_robin", "udp", True),
        ("round_robin", "any", False),
    ],
)
def test_what_is_hashed(version: int, scheduler: str, protocol: str, with_port: bool) -> None:
    """By a packet, and alike by an ICMP error that quotes the answer to it."""
    write = vip if version == 4 else vip6
    table = rendered(write(scheduler=scheduler, protocol=protocol, ports=None))
    own, quoted = ADDRESS[version]
    for chain, hashed in {
        ("fallback_web" if "fallback_web" in table.chains else "pool_web"): f"{own} . th sport" if with_port else own,
        table.names["web"].error: f"{quoted} . {QUOTED_PORT[version]}" if with_port else quoted,
    }.items():
        again = r"(?:meta mark set (?:ip6? daddr \. )?meta mark )?"
        looked_up = rf"jhash (.*?) mod \d+ seed \w+ {again}map @(?:pool)?(slots|handout)_"
        found = re.findall(looked_up, "\n".join(table.chains[chain].rules))
        assert found == [(hashed, "slots"), (hashed, "handout")]


def test_a_hash_counts_to_the_size_of_its_table() -> None:
    many = [{"address": f"10.77.0.{octet}"} for octet in range(21, 30)]
    table = rendered(vip(backends=many, scheduler="round_robin"))
    slots, turns = schedule.hash_slots(9), schedule.turn_slots(9)
    assert table.maps["slots_web"].spec.size == slots
    assert len(table.maps["slots_web"].elements or {}) == slots
    assert len(table.maps["turns_web"].elements or {}) == turns
    assert f"mod {slots} " in table.chains["fallback_web"].rules[-2]
    assert f"numgen inc mod {turns} " in table.chains["syn_web"].rules[-2]


@pytest.mark.parametrize("write", [vip, vip6])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp", "any"])
def test_an_error_finds_the_flow_that_it_quotes(write: Any, protocol: str) -> None:
    """Its rules look the same tables up that packets do, in the same order; a closing flow is one too."""
    table = rendered(write(protocol=protocol, ports=None, scheduler="round_robin"))
    looked_up = [re.findall(r"map @([a-z]+)_web", rule) for rule in table.chains["error_web"].rules]
    tables = ["flows", "closing"] if protocol in ("tcp", "sctp") else ["flows"]
    assert looked_up == [
        [],
        *([kind, "backends"] for kind in tables),
        *[["slots", "backends"], ["handout", "backends"]],
        [],
    ]
    assert not re.search("update|delete", "\n".join(table.chains["error_web"].rules)), "an error keeps no flow alive"


def rules_of(table: Table, chain: str) -> str:
    return "\n".join(table.chains[chain].rules)


@pytest.mark.parametrize("protocol", ["tcp", "sctp"])
def test_the_life_times_of_connections(protocol: str) -> None:
    times = {"syn": 5, "established": 600, "closing": 7}
    table = rendered(vip(protocol=protocol, scheduler="round_robin", flow_table={"size": 1000, "timeouts": times}))
    life = {
        (chain, kind): {int(seconds) for seconds in re.findall(rf"update @{kind}_web {{[^}}]* timeout (\d+)s", rules)}
        for chain in ("syn", "vip", "fin")
        for rules in [rules_of(table, f"{chain}_web")]
        for kind in ("flows", "closing")
    }
    assert life == {
        ("syn", "flows"): {5},
        ("syn", "closing"): set(),
        ("vip", "flows"): {600},
        ("vip", "closing"): {7},  # once closing, never established again
        ("fin", "flows"): set(),
        ("fin", "closing"): {7},
    }
    assert table.maps["flows_web"].spec.size == table.maps["closing_web"].spec.size == 1000


@pytest.mark.parametrize("options", [{"protocol": "udp"}, {"protocol": "any", "ports": None}])
def test_the_life_time_of_datagrams(options: dict[str, Any]) -> None:
    table = rendered(vip(scheduler="round_robin", flow_table={"size": 1000, "timeouts": {"udp": 30}}, **options))
    assert set(re.findall(r"update @flows_web {[^}]* timeout (\d+)s", rules_of(table, "vip_web"))) == {"30"}
    assert table.maps["flows_web"].spec.size == 1000 and "closing_web" not in table.maps


def test_a_flow_of_any_protocol_is_a_client() -> None:
    table = rendered(vip(protocol="any", ports=None, scheduler="round_robin"))
    assert table.maps["flows_web"].spec.key == ("integer",)
    assert table.maps["flows_web"].declaration[0] == "typeof @nh,96,32 : meta mark"


def test_a_client_that_stays_is_known_before_anybody_is_chosen() -> None:
    """And in the table of who gets new flows: one that drains has the flow and not the next one."""
    for options in ({}, {"scheduler": "round_robin"}):
        table = rendered(vip(persistence_timeout=300, **options))
        opening = [rule for rule in table.chains["syn_web"].rules if not rule.endswith("counter drop")]
        assert "map @flows_web" in opening[0], "a SYN sent again stays with its backend"
        assert re.match(
            r"meta mark set ip saddr map @clients_web meta mark @fit_web "
            r"@ll,0,96 set meta mark map @backends_web ",
            opening[1],
        )
        for rule in opening[1:-1]:
            assert "update @flows_web {" in rule, "a client that stays has its flows tracked"
        assert "update @clients_web { ip saddr timeout 300s : meta mark }" in opening[2]
        # Each packet of a flow renews its client, and goes on when the table of clients is full.
        known = [rule for rule in table.chains["vip_web"].rules if "map @flows_web" in rule]
        assert ["update @clients_web" in rule for rule in known] == [True, False]


def test_a_client_is_remembered_for_as_long_as_asked_and_in_a_table_of_the_same_size() -> None:
    table = rendered(vip6(persistence_timeout=42, flow_table={"size": 1000}))
    text = "\n".join(rule for chain in table.chains.values() for rule in chain.rules)
    assert set(re.findall(r"update @clients_web {[^}]* timeout (\d+)s", text)) == {"42"}
    assert table.maps["clients_web"].spec.size == 1000
    assert table.maps["clients_web"].declaration[0] == "type ipv6_addr : mark"


@pytest.mark.parametrize(
    ("options", "allowed", "denied"),
    [
        ({}, None, None),
        ({"allow_sources": ["10.0.0.0/8", "192.0.2.7/32"]}, {"10.0.0.0/8", "192.0.2.7"}, None),
        ({"deny_sources": ["10.1.0.0/16"]}, None, {"10.1.0.0/16"}),
        ({"deny_sources": []}, None, None),
        (
            {"allow_sources": ["0.0.0.0/0"], "deny_sources": ["192.0.2.0/25", "192.0.2.128/25"]},
            {"0.0.0.0/0"},
            {"192.0.2.0/24"},
        ),
    ],
)
@pytest.mark.parametrize("scheduler", ["source_hash", "round_robin"])
def test_who_may_come_is_asked_before_anybody_is_chosen(
    scheduler: str, options: dict[str, Any], allowed: Optional[set[str]], denied: Optional[set[str]]
) -> None:
    table = rendered(vip(scheduler=scheduler, **options))
    rules = table.chains[table.names["web"].chain].rules
    wanted = [
        *(["ip saddr @deny_web counter drop"] if denied else []),  # it wins over what is allowed
        *(["ip saddr != @allow_web counter drop"] if allowed else []),
    ]
    places = [rules.index(rule) for rule in wanted]
    first_choice = next(place for place, rule in enumerate(rules) if re.search("goto|map", rule))
    assert places == sorted(places) and all(place < first_choice for place in places)
    for kind, networks in (("allow", allowed), ("deny", denied)):
        assert (f"{kind}_web" in table.maps) is (networks is not None)
        assert networks is None or set(table.maps[f"{kind}_web"].elements or {}) == networks
        assert sum(f"@{kind}_web" in rule for rule in rules) == (1 if networks else 0)


@pytest.mark.parametrize(
    ("options", "chain"),
    [
        ({}, "vip"),
        ({"scheduler": "round_robin"}, "syn"),
        ({"backends": backends(21, 22, state="drain")}, "syn"),
        ({"protocol": "udp", "scheduler": "round_robin"}, "vip"),
        ({"protocol": "any", "ports": None, "scheduler": "round_robin"}, "vip"),
        ({"protocol": "sctp"}, "vip"),
    ],
)
def test_new_flows_of_a_source_are_counted_once(options: dict[str, Any], chain: str) -> None:
    table = rendered(vip(new_flows_per_source="100/minute", **options))
    ((kind, rules),) = [(kind, rules) for kind, rules in chains_of(table, "web") if "@newflows_web" in "".join(rules)]
    assert kind == chain
    (place,) = [number for number, rule in enumerate(rules) if "@newflows_web" in rule]
    limit = "update @newflows_web { ip saddr limit rate over 100/minute burst 100 packets } counter drop"
    opens = {"tcp": "@th,96,32 & 0x00170000 == 0x00020000 ", "sctp": "@th,96,8 1 "}
    # Where no chain of its own has the packets that begin flows, the rule says which they are.
    tracked = chain == "syn" or "scheduler" in options
    assert rules[place] == ("" if tracked else opens[options.get("protocol", "tcp")]) + limit
    # After what is dropped, and what is known where datagrams tell nothing; before anybody is chosen.
    assert all(re.search("counter drop|guard_all|map @flows_web", rule) for rule in rules[:place])
    assert re.search("map @(slots|handout|turns|flows)_web|counter drop", rules[place + 1])
    chosen = [number for number, rule in enumerate(rules) if re.search("map @(slots|handout|turns)_web", rule)]
    assert all(place < number for number in chosen)


@pytest.mark.parametrize(
    ("rate", "seconds"), [("1/second", 10), ("1/minute", 120), ("1/hour", 7200), ("1/day", 172800)]
)
def test_a_source_is_remembered_for_longer_than_its_limit_looks_back(rate: str, seconds: int) -> None:
    assert rendered(vip(new_flows_per_source=rate)).maps["newflows_web"].spec.timeout == seconds


@pytest.mark.parametrize(
    ("options", "packet", "error"),
    [
        ({}, "counter drop", "counter drop"),
        ({"on_empty": "drop"}, "counter drop", "counter drop"),
        ({"on_empty": "local"}, "counter accept", "counter accept"),
        ({"on_empty": "reject"}, "counter reject with tcp reset", "counter drop"),
        ({"on_empty": "reject", "protocol": "udp"}, "counter reject with icmpx port-unreachable", "counter drop"),
        ({"on_empty": "reject", "protocol": "sctp"}, "counter reject with icmpx port-unreachable", "counter drop"),
        (
            {"on_empty": "reject", "protocol": "any", "ports": None},
            "counter reject with icmpx port-unreachable",
            "counter drop",
        ),
    ],
)
@pytest.mark.parametrize("tracking", [{}, {"scheduler": "round_robin"}, {"persistence_timeout": 60}])
@pytest.mark.parametrize("state", ["up", "down"])
def test_what_becomes_of_a_packet_when_nobody_is_left(
    options: dict[str, Any], tracking: dict[str, Any], state: str, packet: str, error: str
) -> None:
    table = rendered(vip(**options, **tracking, backends=backends(21, 22, state=state)))
    assert table.chains[table.names["web"].error].rules[-1] == error
    assert table.chains["fallback_web" if tracking else "pool_web"].rules[-1] == packet
    if tracking and state == "down":
        opening = "syn_web" if "syn_web" in table.chains else "vip_web"
        assert table.chains[opening].rules[-1] == packet, "a new flow, for which nobody is left either"


def backed_up(**states: Any) -> dict[str, Any]:
    """Two backends and two backups, in these states."""
    first, second = states.get("pool", ("up", "up"))
    third, fourth = states.get("backups", ("up", "up"))
    return {
        "backends": [
            *backends(21, state=first),
            *backends(22, state=second),
            *backends(23, state=third, backup=True),
            *backends(24, state=fourth, backup=True, weight=states.get("weight", 1)),
        ]
    }


@pytest.mark.parametrize("scheduler", ["source_hash", "weighted_round_robin"])
def test_a_backup_moves_nothing_while_it_waits(scheduler: str) -> None:
    without = rendered(vip(scheduler=scheduler, backends=backends(21, 22)))
    waiting = rendered(vip(scheduler=scheduler, **backed_up()))
    moved = [name for name, item in without.maps.items() if item != waiting.maps[name]]
    assert sorted(moved) == sorted([without.names["web"].backends, "guard_ip", "stations_all"]), (
        "it is known, and its own frames are guarded against"
    )
    assert waiting.chains == without.chains


@pytest.mark.parametrize(
    ("states", "takers"),
    [
        ({}, {21, 22}),
        ({"pool": ("down", "up")}, {22}),
        ({"pool": ("drain", "down")}, {23, 24}),
        ({"pool": ("down", "down")}, {23, 24}),
        ({"pool": ("down", "down"), "backups": ("down", "up")}, {24}),
        ({"pool": ("down", "down"), "backups": ("drain", "down")}, set()),
        ({"backups": ("down", "drain")}, {21, 22}),
    ],
)
def test_backups_serve_while_no_other_is_available(states: dict[str, Any], takers: set[int]) -> None:
    marks = {f"0x0a4d00{number:02x}" for number in takers}
    hashed, turns = (rendered(vip(scheduler=s, **backed_up(**states))) for s in ("source_hash", "round_robin"))
    if marks:
        assert set((turns.maps["turns_web"].elements or {}).values()) == marks
    else:
        assert "turns_web" not in turns.maps, "where nobody takes new flows there are no turns"
    slots = hashed.maps["slots_web"].elements or {}
    handout = elements_of(hashed, hashed.names["web"].handout, "10.77.0.100")
    owner_first = {slot: handout.get(mark(int(slot)), owner) for slot, owner in slots.items()}
    assert set(owner_first.values()) == marks if marks else handout == {}
    assert hashed.maps["slots_web"] == rendered(vip(backends=backends(21, 22))).maps["slots_web"]


def test_a_draining_primary_keeps_its_flows_while_a_backup_takes_new_ones() -> None:
    table = rendered(vip(**backed_up(pool=("drain", "down"))))
    assert {"0x0a4d0015", "0x0a4d0017", "0x0a4d0018"} == set(table.maps["backends_web"].elements or {})
    assert set((table.maps["handout_web"].elements or {}).values()) == {"0x0a4d0017", "0x0a4d0018"}
    chosen = next(rule for rule in table.chains["syn_web"].rules if not rule.endswith("counter drop"))
    assert chosen.startswith("meta mark set @nh,96,32 . @nh,160,16 . @nh,176,16 map @flows_web")


@pytest.mark.parametrize(
    ("vips", "orphans"),
    [
        ([vip()], {"10.77.0.100 . tcp": "goto pool_web"}),
        ([vip(protocol="udp", ports=["53", "1-5"])], {"10.77.0.100 . udp": "goto pool_web"}),
        ([vip(ports=None)], {"10.77.0.100 . tcp": "goto pool_web"}),
        # The port would have to be known: of a connection's hash, of an entry, and where two VIPs share the address.
        ([vip(scheduler="connection_hash")], {}),
        ([vip(scheduler="round_robin")], {}),
        ([vip(scheduler="round_robin", protocol="udp", ports=None)], {}),
        ([vip(persistence_timeout=60)], {}),
        ([vip(backends=backends(21, 22, state="drain"))], {}),
        ([vip(), vip("other", ports=["81"])], {}),
        (
            [vip(), vip("other", protocol="udp")],
            {"10.77.0.100 . tcp": "goto pool_web", "10.77.0.100 . udp": "goto pool_other"},
        ),
        # It gets them by its own map.
        ([vip(protocol="any", ports=None)], {}),
    ],
)
def test_where_a_fragment_goes_whose_first_one_was_not_seen(
    vips: list[dict[str, Any]], orphans: dict[str, str]
) -> None:
    table = rendered(*vips)
    assert table.maps["orphans_eth0"].elements == orphans
    rules = table.chains["fragment_eth0"].rules
    rest = ["any_eth0"] if "any" in {options.get("protocol") for options in vips} else []
    assert [uses(rule) for rule in rules] == [
        ["stations_all"],
        ["fragments_eth0"],
        ["orphans_eth0"],
        *([rest] if rest else []),
    ]
    # What has no ports meets no rule that would take its payload for ports.
    assert "ip frag-off & 0x1fff != 0 goto fragment_eth0" in table.chains["ingress_eth0"].rules


def test_fragments_are_remembered_at_the_nic_that_their_first_left_by() -> None:
    table = rendered(
        vip("a", interface="eth1", backend_interface="eth0"), vip6("b", interface="eth1", backend_interface="eth1")
    )
    assert {name for name in table.maps if name.startswith("fragments")} == {"fragments_eth0", "fragments6_eth1"}
    assert [uses(rule) for rule in table.chains["output_eth0"].rules] == [["fragments_eth0"] * 2, []]
    assert [uses(rule) for rule in table.chains["output6_eth1"].rules] == [["fragments6_eth1"] * 2, []]
    # They come in where the VIP's traffic arrives, and follow.
    assert table.chains["fragment_eth1"].rules[1].endswith(f'ether saddr set {OWN["eth0"]} fwd to "eth0"')
    assert table.chains["fragment6_eth1"].rules[1].endswith(f'ether saddr set {OWN["eth1"]} fwd to "eth1"')


@pytest.mark.parametrize(("write", "suffix"), [(vip, ""), (vip6, "6")])
def test_what_the_first_fragment_leaves_is_what_the_others_look_up(write: Any, suffix: str) -> None:
    table = rendered(write(protocol="udp"))
    (left,) = [rule for rule in table.chains[f"output{suffix}_eth0"].rules if "update @" in rule]
    (looked_up,) = [rule for rule in table.chains[f"fragment{suffix}_eth0"].rules if "map @fragments" in rule]
    keys = re.findall(rf"@fragments{suffix}_eth0 {{ (.*?) : ether daddr }}", left)
    assert keys == [re.findall(r"ether daddr set (.*?) map @fragments", looked_up)[0]] * 2
    # The frame's own addresses have been written by then.
    assert not re.search("ether|@ll", keys[0])


def test_ports_ranges_and_all_ports_are_dispatched_apart() -> None:
    table = rendered(
        vip("a", ports=["80", "8000-8100"]),
        vip("b", ports=None, protocol="udp"),
        vip("c", ports=["81"], interface="eth1"),
        vip("d", ports=None, protocol="any"),
        vip6("e", ports=["9"], protocol="sctp", scheduler="connection_hash"),
    )
    elements = {name: dict(item.elements or {}) for name, item in table.maps.items() if name.endswith(("eth0", "eth1"))}
    assert elements == {
        "services_eth0": {"10.77.0.100 . tcp . 80": "goto pool_a"},
        "ranges_eth0": {"10.77.0.100 . tcp . 8000-8100": "goto pool_a"},
        "allports_eth0": {"10.77.0.100 . udp": "goto pool_b"},
        "any_eth0": {"10.77.0.100": "goto pool_d"},
        "orphans_eth0": {"10.77.0.100 . tcp": "goto pool_a", "10.77.0.100 . udp": "goto pool_b"},
        "orphans6_eth0": {},
        "errors_eth0": {"10.77.0.100 . 6 . 80": "goto poolerror_a"},
        "errorranges_eth0": {"10.77.0.100 . 6 . 8000-8100": "goto poolerror_a"},
        "errorall_eth0": {"10.77.0.100 . 17": "goto poolerror_b"},
        "errorany_eth0": {"10.77.0.100": "goto poolerror_d"},
        "services6_eth0": {"fd00:77::100 . sctp . 9": "goto pool_e"},
        "errors6_eth0": {"fd00:77::100 . 132 . 9": "goto poolerror_e"},
        "services_eth1": {"10.77.0.100 . tcp . 81": "goto pool_c"},
        "orphans_eth1": {"10.77.0.100 . tcp": "goto pool_c"},
        "errors_eth1": {"10.77.0.100 . 6 . 81": "goto poolerror_c"},
        "fragments_eth0": {},  # c goes out of it too
        "fragments6_eth0": {},
    }
    # What is narrower comes first, and what has no ports of its own before what needs none.
    order = [re.search(r"(?:vmap @|jump |goto )(\S+)", rule) for rule in table.chains["ingress_eth0"].rules]
    assert [match[1] for match in order if match] == [
        "services_eth0",
        "ranges_eth0",
        "services6_eth0",
        "fragment_eth0",
        "icmp_eth0",
        "icmp_eth0",
        "fragment6_eth0",
        "icmp6_eth0",
        "allports_eth0",
        "any_eth0",
    ]
    assert table.chains["ingress_eth0"].rules[-1].startswith("ip protocol != icmp "), "echo is the load balancer's"


def test_flooded_frames_are_left_alone_before_anything_else() -> None:
    for chain in rendered(vip(), vip("other", interface="eth1", ports=["81"])).chains.values():
        if chain.device:
            assert chain.rules[0] == "meta pkttype != host accept"


@given(resolved_vips())
def test_frames_from_a_backend_to_its_vip_are_dropped_before_anything_else(vips: list[ResolvedVip]) -> None:
    """By whichever of its chains they come in: packets of their own, and ICMP errors."""
    table = render(vips, OWN)
    stations = set(table.maps["stations_all"].elements or {}) if vips else set()
    guards = table.chains["guard_all"].rules if vips else ()
    for item in vips:
        ip, guard = {4: ("ip", "guard_ip"), 6: ("ip6", "guard_ip6")}[item.vip.address.version]
        names = table.names[item.vip.name]
        for name in (names.chain, names.error):
            assert table.chains[name].rules[0] == "ether saddr @stations_all jump guard_all"
        assert f"ether saddr . {ip} daddr @{guard} counter drop" in guards
        # The first question is there to spare the second one for clients, and must not miss anybody.
        assert {key.partition(" . ")[0] for key in table.maps[guard].elements or {}} <= stations


VIP_AS_SOURCE = "the VIP itself"
# As rules say it that VIPs share, and as a VIP's own rules do
SOURCES_OF_VIPS = {
    vip: ("@nh,96,32 & 0xffffff00 == 0x0a4d0000 ip saddr @vips_ip", "@nh,96,32 0x0a4d0064"),
    vip6: (
        "@nh,64,32 & 0xffffffff == 0xfd000077 ip6 saddr @vips_ip6",
        "@nh,64,128 0xfd000077000000000000000000000100",
    ),
}


@pytest.mark.parametrize(
    ("write", "conditions"),
    [
        (
            vip,
            [
                "@ll,48,32 & 0x01000000 != 0",  # a group's MAC
                VIP_AS_SOURCE,
                "@nh,96,32 & 0xe0000000 == 0xe0000000",  # 224/3
                "@nh,96,32 & 0xff000000 == 0",
                "@nh,96,32 & 0xff000000 == 0x7f000000",
            ],
        ),
        (
            vip6,
            [
                "@ll,48,32 & 0x01000000 != 0",
                VIP_AS_SOURCE,
                "@nh,64,32 & 0xffff0000 == 0",  # ::/16: unspecified, loopback, mapped
                "@nh,64,32 & 0xff000000 == 0xff000000",  # ff00::/8
            ],
        ),
    ],
)
@pytest.mark.parametrize("scheduler", ["source_hash", "round_robin"])
def test_sources_that_no_client_has_are_dropped(scheduler: str, write: Any, conditions: list[str]) -> None:
    """Before anybody is chosen for them: of a flow that is known, they were asked when it began."""
    chains = rendered(write(scheduler=scheduler)).chains
    shared, own = (
        [f"{text if condition == VIP_AS_SOURCE else condition} counter drop" for condition in conditions]
        for text in SOURCES_OF_VIPS[write]
    )
    if scheduler == "source_hash":
        assert list(chains["pool_web"].rules[1 : 1 + len(conditions)]) == shared
        # Plain too, but with rules of its own
        denying = rendered(write(scheduler=scheduler, deny_sources=["::/1" if write is vip6 else "1.0.0.0/8"])).chains
        assert list(denying["vip_web"].rules[2 : 2 + len(conditions)]) == own
        return
    wanted = own
    for name in ("syn_web", "fallback_web"):
        assert list(chains[name].rules[: len(conditions)]) == wanted
    datagrams = rendered(write(protocol="udp", scheduler=scheduler)).chains["vip_web"].rules
    assert list(datagrams[2 : 2 + len(conditions)]) == wanted


def test_a_udp_drain_begins_with_a_switch_that_turns_itself_off() -> None:
    table = rendered(vip("udp", protocol="udp", backends=[*backends(21, state="drain"), *backends(22)]))
    assert table.maps["switch_udp"].initial == {"ip timeout 120s": "goto grace_udp"}
    assert not any(name.startswith("switch_") for name in rendered(vip(protocol="udp")).maps)
    six = vip6(
        "six",
        protocol="any",
        ports=None,
        backends=[*backends6(21, weight=0), *backends6(22)],
        flow_table={"timeouts": {"udp": 30}},
    )
    assert rendered(six).maps["switch_six"].initial == {"ip6 timeout 30s": "goto grace_six"}
    # One that tracks anyway knows its flows, and connections tell by themselves when they begin.
    for options in ({"protocol": "udp", "scheduler": "round_robin"}, {"protocol": "tcp"}, {"protocol": "sctp"}):
        drained = rendered(vip(**options, backends=[*backends(21, state="drain"), *backends(22)]))
        assert not any(name.startswith("switch_") for name in drained.maps)


def test_the_file_for_the_boot_replaces_whatever_is_there() -> None:
    nft = MemoryNft()
    nft.load(boot_text(rendered(vip(scheduler="round_robin"), vip("other", ports=["81"]))))
    nft.load("table netdev somebody_elses")
    nft.load(boot_text(rendered(vip())))
    assert not [name for name in (*nft.table.chains, *nft.table.maps) if name.endswith("_other")]
    assert "flows_web" not in nft.table.maps
    nft.load(boot_text(rendered()))
    assert list(nft.tables) == ["somebody_elses"], "without a VIP there is no table, and a run finds nothing to do"
