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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given

from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model, ruleset, schedule
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.kernel import Kernel
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.ruleset import (
    ResolvedVip,
    flow_modes,
    render,
    slot_tables_in_use,
)
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import Table, boot_text, table_text
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import OWN, backends, mac_of, vip
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.memory_nft import MemoryMap, MemoryNft
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.strategies import resolved_vips

GOLDEN = Path(__file__).resolve().with_name("golden")
_LONG = 16  # elements; longer lists are numbers that nobody reads


def resolved(options: Mapping[str, Any], without_mac: Sequence[str] = ()) -> ResolvedVip:
    parsed = model.parse_vip(dict(options), "")
    backend_interface = parsed.backend_interface or "eth0"
    macs = {
        backend.address: backend.mac or mac_of(str(backend.address))
        for backend in parsed.backends
        if str(backend.address) not in without_mac
    }
    return ResolvedVip(parsed, parsed.interface or backend_interface, backend_interface, macs)


def rendered(*vips: Mapping[str, Any], slot_tables: Optional[Mapping[str, str]] = None) -> Table:
    return render([resolved(options) for options in vips], OWN, slot_tables)


# -- golden rulesets

CONFIGURATIONS: dict[str, tuple[list[ResolvedVip], Sequence[str]]] = {
    # name: (VIPs, the maps that the kernel has)
    "source_hash": ([resolved(vip(ports=["80", "443"]))], ()),
    "every_scheduler": (
        [
            # Equal pools share a slot table, whatever the scheduler.
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


@given(resolved_vips())
def test_it_loads_and_is_what_it_is_said_to_be(vips: list[ResolvedVip]) -> None:
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
    for name, item in table.maps.items():
        declared = MemoryMap.declared(item.kind, item.declaration)
        assert (declared.key, declared.value, declared.size) == (item.spec.key, item.spec.value, item.spec.size)
        assert declared.flags - {"dynamic"} == item.spec.flags and declared.counter == item.spec.counter
        # The turns of nobody are looked up by nobody.
        assert nft.table.users_of_map(name) or item.elements == {}, f"{name} is used by no rule"
    # Where nobody takes new flows, no new UDP flow falls back on anybody.
    unused = {
        f"fallback_{item.vip.name}"
        for item in vips
        if item.vip.protocol == "udp" and not any(item.eligible(backend) for backend in item.vip.backends)
    }
    for name, chain in nft.table.chains.items():
        assert chain.rules, f"{name} is empty"
        assert chain.device or nft.table.users_of_chain(name) or name in unused, f"nothing leads to {name}"


@given(resolved_vips())
def test_the_order_of_vips_and_backends_means_nothing(vips: list[ResolvedVip]) -> None:
    turned = [
        ResolvedVip(
            model.parse_vip({**item.vip.options(), "backends": item.vip.options()["backends"][::-1]}, ""),
            item.interface,
            item.backend_interface,
            dict(reversed(list(item.macs.items()))),
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
        usable = {f"0x{backend.mark:08x}" for backend in item.vip.backends if item.usable(backend)}
        eligible = {f"0x{backend.mark:08x}" for backend in item.vip.backends if item.eligible(backend)}
        assert set(table.maps[f"backends_{name}"].elements or {}) == usable
        assert set((table.maps[f"handout_{name}"].elements or {}).values()) <= eligible
        assert set(table.maps[f"guard_{name}"].elements or {}) == set(item.macs.values())
        if not item.vip.hashed:
            assert set((table.maps[f"turns_{name}"].elements or {}).values()) == eligible


@given(resolved_vips())
def test_no_hash_without_a_seed_and_no_turn_without_a_record(vips: list[ResolvedVip]) -> None:
    for chain in render(vips, OWN).chains.values():
        for rule in chain.rules:
            assert rule.count("jhash") == rule.count(f"seed {ruleset._SEED:#x}")
            if "numgen" in rule:
                assert re.search(r"update @flows_\S+ \{.*\} goto output_", rule), "a choice per packet breaks flows"


# -- parts


@pytest.mark.parametrize(
    ("options", "existing", "mode"),
    [
        ({}, (), ruleset.PLAIN),
        ({}, ("flows_web",), ruleset.RELEASED),
        ({}, ("flows_other",), ruleset.PLAIN),
        ({"backends": backends(21, weight=0)}, (), ruleset.DRAINING),
        ({"backends": backends(21, state="drain")}, ("flows_web",), ruleset.DRAINING),
        ({"backends": backends(21, state="down")}, (), ruleset.PLAIN),
        ({"scheduler": "connection_hash"}, (), ruleset.PLAIN),
        ({"scheduler": "round_robin"}, (), ruleset.TRACKED),
        ({"scheduler": "weighted_round_robin", "backends": backends(21, weight=0)}, (), ruleset.TRACKED),
    ],
)
def test_how_flows_are_tracked(options: dict[str, Any], existing: Sequence[str], mode: str) -> None:
    assert flow_modes([model.parse_vip(vip(**options), "")], existing) == {"web": mode}


def test_equal_pools_share_a_slot_table_and_others_do_not() -> None:
    same = backends(23, 22, 21)
    other = [*backends(21, weight=2), *backends(22, 23)]
    table = rendered(vip("b"), vip("a", ports=["81"], backends=same), vip("c", ports=["82"], backends=other))
    assert [name for name in table.maps if name.startswith("slots_")] == ["slots_a", "slots_c"]
    assert any("@slots_a" in rule for rule in table.chains["vip_b"].rules)


OTHER_POOL = backends(24)


def slot_tables_of(table: Table) -> dict[str, str]:
    """Which slot table the rules of each VIP look up."""
    found = {}
    for name, chain in table.chains.items():
        kind, _underscore, owner = name.partition("_")
        tables = set(re.findall(r"@(slots_\S+)", " ".join(chain.rules)))
        if kind in ("vip", "fallback") and tables:
            (found[owner],) = tables
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
    table = rendered(*vips, slot_tables=in_use)
    assert {name for name in table.maps if name.startswith("slots_")} == set(names.values())
    assert slot_tables_of(table) == names


@given(resolved_vips(), resolved_vips())
def test_a_slot_table_serves_equal_pools_and_no_others(before: list[ResolvedVip], after: list[ResolvedVip]) -> None:
    nft = MemoryNft()
    nft.load(boot_text(render(before, OWN)))
    in_use = slot_tables_in_use(Kernel(nft).read())
    assert in_use == slot_tables_of(render(before, OWN))
    table = render(after, OWN, in_use)
    used = slot_tables_of(table)
    for item in after:
        wanted = {str(slot): f"0x{owner:08x}" for slot, owner in enumerate(schedule.hash_table(item.weights))}
        assert table.maps[used[item.vip.name]].elements == wanted
    assert len(set(used.values())) == len({tuple(sorted(item.weights.items())) for item in after})


def test_a_drained_backend_keeps_its_slots_in_the_table_of_owners() -> None:
    """Else the flows that it has would be somebody else's at once."""
    drained = [*backends(21, state="drain"), *backends(22, 23)]
    before, after = rendered(vip()), rendered(vip(backends=drained))
    assert before.maps["slots_web"] == after.maps["slots_web"]
    owned = {slot for slot, owner in (before.maps["slots_web"].elements or {}).items() if owner == "0x0a4d0015"}
    assert set(after.maps["handout_web"].elements or {}) == owned


def test_a_hash_vip_looks_its_new_flows_up_in_the_handout_first() -> None:
    """While the owner of a slot drains, new flows of the slot go to who has it meanwhile."""
    rules = rendered(vip(backends=[*backends(21, state="drain"), *backends(22)])).chains["syn_web"].rules
    choices = [match[0] for rule in rules for match in [re.search(r"@(handout|slots|flows)_web", rule)] if match]
    assert choices[:3] == ["@flows_web", "@handout_web", "@slots_web"]


@pytest.mark.parametrize(
    ("scheduler", "protocol", "hashed"),
    [
        ("source_hash", "tcp", "jhash ip saddr mod"),
        ("source_hash", "udp", "jhash ip saddr mod"),
        ("connection_hash", "tcp", "jhash ip saddr . tcp sport mod"),
        ("connection_hash", "udp", "jhash ip saddr . udp sport mod"),
        ("round_robin", "tcp", "jhash ip saddr . tcp sport mod"),
        ("weighted_round_robin", "udp", "jhash ip saddr . udp sport mod"),
    ],
)
def test_what_is_hashed(scheduler: str, protocol: str, hashed: str) -> None:
    table = rendered(vip(scheduler=scheduler, protocol=protocol))
    chain = table.chains.get("fallback_web") or table.chains["vip_web"]
    assert sum(hashed in rule for rule in chain.rules) == 2


def test_a_hash_counts_to_the_size_of_its_table() -> None:
    many = [{"address": f"10.77.0.{octet}"} for octet in range(21, 30)]
    table = rendered(vip(backends=many, scheduler="round_robin"))
    slots, turns = schedule.hash_slots(9), schedule.turn_slots(9)
    assert table.maps["slots_web"].spec.size == table.maps["handout_web"].spec.size == slots
    assert len(table.maps["slots_web"].elements or {}) == slots
    assert len(table.maps["turns_web"].elements or {}) == turns
    assert f"mod {slots} " in table.chains["fallback_web"].rules[0]
    assert f"numgen inc mod {turns} " in table.chains["syn_web"].rules[1]


def test_ports_ranges_and_all_ports_are_dispatched_apart() -> None:
    table = rendered(
        vip("a", ports=["80", "8000-8100"]),
        vip("b", ports=None, protocol="udp"),
        vip("c", ports=["81"], interface="eth1"),
    )
    elements = {name: dict(item.elements or {}) for name, item in table.maps.items() if name.endswith(("eth0", "eth1"))}
    assert elements == {
        "services_eth0": {"10.77.0.100 . tcp . 80": "goto vip_a"},
        "ranges_eth0": {"10.77.0.100 . tcp . 8000-8100": "goto vip_a"},
        "allports_eth0": {"10.77.0.100 . udp": "goto vip_b"},
        "services_eth1": {"10.77.0.100 . tcp . 81": "goto vip_c"},
    }


def test_flooded_frames_are_left_alone_before_anything_else() -> None:
    for chain in rendered(vip(), vip("other", interface="eth1", ports=["81"])).chains.values():
        if chain.device:
            assert chain.rules[0] == "meta pkttype != host accept"


@given(resolved_vips())
def test_frames_from_a_backend_to_its_vip_are_dropped_before_anything_else(vips: list[ResolvedVip]) -> None:
    table = render(vips, OWN)
    for item in vips:
        assert table.chains[f"vip_{item.vip.name}"].rules[0] == f"ether saddr @guard_{item.vip.name} counter drop"


def test_a_udp_drain_begins_with_a_switch_that_turns_itself_off() -> None:
    table = rendered(vip("udp", protocol="udp", backends=[*backends(21, state="drain"), *backends(22)]))
    assert table.maps["switch_udp"].initial == {"udp timeout 120s": "goto grace_udp"}
    assert not any(name.startswith("switch_") for name in rendered(vip(protocol="udp")).maps)


def test_the_file_for_the_boot_replaces_whatever_is_there() -> None:
    nft = MemoryNft()
    nft.load(boot_text(rendered(vip(scheduler="round_robin"), vip("other", ports=["81"]))))
    nft.load("table netdev somebody_elses")
    nft.load(boot_text(rendered(vip())))
    assert "vip_other" not in nft.table.chains and "flows_web" not in nft.table.maps
    nft.load(boot_text(rendered()))
    assert list(nft.tables) == ["somebody_elses"], "without a VIP there is no table, and a run finds nothing to do"
