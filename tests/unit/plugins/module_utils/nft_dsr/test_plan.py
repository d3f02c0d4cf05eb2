# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From any table to the wanted one, in one transaction that the kernel takes and that holds only what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.kernel import Kernel
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.plan import Plan, make_plan
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.ruleset import (
    ResolvedVip,
    flow_modes,
    render,
    slot_tables_in_use,
)
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import Table, boot_text
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import OWN, backends, mac_of, vip
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.memory_nft import MemoryNft
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.strategies import resolved_vips

pytestmark = pytest.mark.usefixtures("small_tables")


def wanted_table(vips: Sequence[ResolvedVip], nft: MemoryNft) -> Table:
    have = Kernel(nft).read()
    return render(vips, OWN, slot_tables_in_use(have), flow_modes([item.vip for item in vips], have.maps))


def plan_for(vips: Sequence[ResolvedVip], nft: MemoryNft, recreate: Sequence[str] = ()) -> Plan:
    kernel = Kernel(nft)
    table = wanted_table(vips, nft)
    return make_plan(table, kernel.compile(table), kernel.read(), recreate)


def apply(vips: Sequence[ResolvedVip], nft: MemoryNft) -> Plan:
    plan = plan_for(vips, nft)
    if plan.commands:
        Kernel(nft).apply(plan.text)
    return plan


def contents_of(table: Table) -> dict[str, Any]:
    """What a kernel has that loads this table and nothing else."""
    nft = MemoryNft()
    nft.load(boot_text(table))
    return nft.table.contents() if nft.tables else {}


def contents(nft: MemoryNft) -> dict[str, Any]:
    return nft.table.contents() if nft.tables else {}


def resolved(*vips: Mapping[str, Any]) -> list[ResolvedVip]:
    found = []
    for parsed in model.parse_vips(vips):
        nic = parsed.backend_interface or "eth0"
        macs = {backend.address: backend.mac or mac_of(str(backend.address)) for backend in parsed.backends}
        found.append(ResolvedVip(parsed, parsed.interface or nic, nic, macs))
    return found


# What people do to a table by hand: each takes the table and something to choose by.


def _some(names: Sequence[str], number: int) -> str:
    return sorted(names)[number % len(names)]


def _flush_a_chain(nft: MemoryNft, number: int) -> str:
    return f"flush chain netdev nft_dsr {_some(list(nft.table.chains), number)}"


def _add_a_rule(nft: MemoryNft, number: int) -> str:
    return f"add rule netdev nft_dsr {_some(list(nft.table.chains), number)} counter drop"


def _add_a_chain(nft: MemoryNft, number: int) -> str:
    target = _some([name for name, chain in nft.table.chains.items() if not chain.device], number)
    return f"add chain netdev nft_dsr mine\nadd rule netdev nft_dsr mine goto {target}"


def _hook_a_chain(_nft: MemoryNft, number: int) -> str:
    nic = _some(["eth0", "eth1"], number)
    return f'add chain netdev nft_dsr mine {{ type filter hook ingress device "{nic}" priority 0; policy accept; }}'


def _add_a_map(nft: MemoryNft, number: int) -> str:
    chain = _some([name for name, chain in nft.table.chains.items() if not chain.device], number)
    hook = _some([name for name, chain in nft.table.chains.items() if chain.device], number)
    return (
        "add map netdev nft_dsr mine { type mark : verdict; }\n"
        f"add element netdev nft_dsr mine {{ 0x00000001 : goto {chain} }}\n"
        f"add rule netdev nft_dsr {hook} meta mark vmap @mine"
    )


def _add_a_counter(_nft: MemoryNft, _number: int) -> str:
    return "add counter netdev nft_dsr mine"


def _flush_a_map(nft: MemoryNft, number: int) -> str:
    name = _some(list(nft.table.maps), number)
    return f"flush {nft.table.maps[name].kind} netdev nft_dsr {name}"


def _delete_an_element(nft: MemoryNft, number: int) -> str:
    name = _some([name for name, item in nft.table.maps.items() if item.elements], number)
    return f"delete element netdev nft_dsr {name} {{ {_some(list(nft.table.maps[name].elements), number)} }}"


def _replace_an_element(nft: MemoryNft, number: int) -> str:
    name = _some([name for name in nft.table.maps if name.startswith("slots_")], number)
    key = _some(list(nft.table.maps[name].elements), number)
    return (
        f"delete element netdev nft_dsr {name} {{ {key} }}\nadd element netdev nft_dsr {name} {{ {key} : 0x00000001 }}"
    )


def _redeclare_a_map(nft: MemoryNft, number: int) -> str:
    """As an older version of this collection may have declared it."""
    name = _some([name for name in nft.table.maps if name.startswith("backends_")], number)
    flushed = "".join(f"flush chain netdev nft_dsr {user}\n" for user in nft.table.users_of_map(name))
    return f"{flushed}delete map netdev nft_dsr {name}\nadd map netdev nft_dsr {name} {{ type mark : ether_addr; }}"


def _delete_the_table(_nft: MemoryNft, _number: int) -> str:
    return "delete table netdev nft_dsr"


HANDS: list[Callable[[MemoryNft, int], str]] = [
    _flush_a_chain,
    _add_a_rule,
    _add_a_chain,
    _hook_a_chain,
    _add_a_map,
    _add_a_counter,
    _flush_a_map,
    _delete_an_element,
    _replace_an_element,
    _redeclare_a_map,
    _delete_the_table,
]


# -- any table to any other


@given(st.lists(resolved_vips(), min_size=2, max_size=3))
def test_each_plan_leads_to_exactly_the_wanted_table(steps: list[list[ResolvedVip]]) -> None:
    nft = MemoryNft()
    for vips in steps:
        table = wanted_table(vips, nft)
        apply(vips, nft)
        assert contents(nft) == contents_of(table)
        assert plan_for(vips, nft) == Plan((), ()), "a second run finds nothing to do"


@given(
    resolved_vips().filter(bool),
    resolved_vips(),
    st.lists(st.tuples(st.sampled_from(HANDS), st.integers(0, 10_000)), min_size=1, max_size=3),
)
def test_what_was_changed_by_hand_is_put_right(
    before: list[ResolvedVip], after: list[ResolvedVip], hands: list[tuple[Callable[[MemoryNft, int], str], int]]
) -> None:
    nft = MemoryNft()
    apply(before, nft)
    for hand, number in hands:
        if nft.tables and "mine" not in (*nft.table.chains, *nft.table.maps):
            nft.load(hand(nft, number))
    table = wanted_table(after, nft)
    apply(after, nft)
    assert contents(nft) == contents_of(table)


@pytest.mark.parametrize("hand", HANDS, ids=lambda hand: hand.__name__.strip("_"))
def test_each_kind_of_drift_is_seen_and_put_right(hand: Callable[[MemoryNft, int], str]) -> None:
    vips = resolved(vip(scheduler="round_robin"), vip("dns", protocol="udp", ports=["53", "5300-5400"]))
    nft = MemoryNft()
    apply(vips, nft)
    before = contents(nft)
    nft.load(hand(nft, 1))
    assert contents(nft) != before
    plan = apply(vips, nft)
    assert plan.reasons and contents(nft) == before


# -- only what differs


@settings(max_examples=30)
@given(resolved_vips().filter(bool), st.data())
def test_what_is_nobodys_business_is_not_touched(vips: list[ResolvedVip], data: st.DataObject) -> None:
    """A VIP that leaves takes along nothing that another one has for itself."""
    nft = MemoryNft()
    apply(vips, nft)
    gone = data.draw(st.sampled_from(vips))
    others = {item.vip.name for item in vips if item is not gone}
    for command in apply([item for item in vips if item is not gone], nft).commands:
        touched = command.partition("{")[0].split()[4:5]
        assert not {name.partition("_")[2] for name in touched} & others or touched[0].startswith("slots_")


def test_a_member_less_edits_elements_and_no_rule() -> None:
    nft = MemoryNft()
    apply(resolved(vip(scheduler="round_robin")), nft)
    commands = apply(resolved(vip(scheduler="round_robin", backends=backends(21, 22))), nft).commands
    assert commands and all(command.split()[1] == "element" for command in commands)


def test_one_more_vip_adds_its_own_and_an_element() -> None:
    nft = MemoryNft()
    apply(resolved(vip()), nft)
    commands = apply(resolved(vip(), vip("other", ports=["81"], backends=backends(24))), nft).commands
    assert all(command.startswith("add ") for command in commands)
    others = [command for command in commands if "_other" not in command]
    assert others == []
    assert "add element netdev nft_dsr services_eth0 { 10.77.0.100 . tcp . 81 : goto vip_other }" in commands


def test_a_dispatch_map_is_emptied_before_it_goes_and_its_chains_after_it() -> None:
    """Linux before 6.4 counts what the elements of a map lead to until the map is gone for good."""
    nft = MemoryNft()
    apply(resolved(vip(), vip("other", ports=["90-99"])), nft)
    commands = apply(resolved(vip()), nft).commands
    steps = ["flush map netdev nft_dsr ranges_eth0", "delete map netdev nft_dsr ranges_eth0"]
    steps.append("delete chain netdev nft_dsr vip_other")
    assert [command for command in commands if command in steps] == steps


def test_a_table_from_nothing_and_back() -> None:
    nft = MemoryNft()
    assert plan_for([], nft) == Plan((), ())
    plan = apply(resolved(vip()), nft)
    assert plan.commands[0] == "add table netdev nft_dsr" and plan.reasons == ("the table is missing",)
    assert apply([], nft) == Plan(("delete table netdev nft_dsr",), ("the table is not wanted any more",))
    assert nft.tables == {}


def test_a_slot_that_changes_hands_is_deleted_and_added_in_one_transaction() -> None:
    nft = MemoryNft()
    apply(resolved(vip()), nft)
    slot, owner = next((slot, item.value) for slot, item in nft.table.maps["slots_web"].elements.items())
    nft.load(
        f"delete element netdev nft_dsr slots_web {{ {slot} }}\n"
        f"add element netdev nft_dsr slots_web {{ {slot} : 0x00000001 }}"
    )
    assert apply(resolved(vip()), nft) == Plan(
        (
            f"delete element netdev nft_dsr slots_web {{ {slot} }}",
            f"add element netdev nft_dsr slots_web {{ {slot} : {owner} }}",
        ),
        ("map slots_web: 1 of 96 elements differ",),
    )


def test_long_lists_are_cut_into_commands() -> None:
    nft = MemoryNft()
    commands = apply(resolved(vip()), nft).commands
    slots = [command for command in commands if " slots_web {" in command and " element " in command]
    assert [command.count(" : ") for command in slots] == [64, 32]


def test_a_backend_with_another_mac_goes_on_counting() -> None:
    nft = MemoryNft()
    apply(resolved(vip()), nft)
    counted = nft.table.maps["backends_web"].elements["0x0a4d0015"]
    counted.packets, counted.bytes = 7, 700
    other = [{"address": "10.77.0.21", "mac": "02:00:00:00:00:99"}, *backends(22, 23)]
    apply(resolved(vip(backends=other)), nft)
    now = nft.table.maps["backends_web"].elements["0x0a4d0015"]
    assert (now.value, now.packets, now.bytes) == ("02:00:00:00:00:99", 7, 700)


def test_tracked_flows_survive_what_does_not_concern_them() -> None:
    nft = MemoryNft()
    apply(resolved(vip(scheduler="round_robin")), nft)
    nft.load("add element netdev nft_dsr flows_web { 10.77.0.10 . 4000 . 80 timeout 900s : 0x0a4d0015 }")
    apply(resolved(vip(scheduler="round_robin", backends=backends(21, 22)), vip("other", ports=["81"])), nft)
    assert list(nft.table.maps["flows_web"].elements) == ["10.77.0.10 . 4000 . 80"]


def test_the_switch_of_a_drain_that_starts_again_is_made_anew() -> None:
    nft = MemoryNft()
    vips = resolved(vip("dns", protocol="udp", backends=[*backends(21, state="drain"), *backends(22)]))
    apply(vips, nft)
    nft.load("flush map netdev nft_dsr switch_dns")  # its time is over
    assert plan_for(vips, nft) == Plan((), ()), "a switch that turned itself off is no drift"
    plan = plan_for(vips, nft, recreate=["switch_dns"])
    Kernel(nft).apply(plan.text)
    assert nft.table.maps["switch_dns"].elements["udp"].value == "goto grace_dns"
    assert plan.reasons == ("map switch_dns: declared differently",)


def test_a_chain_that_lost_its_nic_is_hooked_again() -> None:
    nft = MemoryNft()
    apply(resolved(vip()), nft)
    nft.table.chains["ingress_eth0"].device = None
    plan = apply(resolved(vip()), nft)
    assert plan.reasons == ("chain ingress_eth0: hooked differently",)
    assert nft.table.chains["ingress_eth0"].device == "eth0"


@pytest.mark.parametrize(
    ("hand", "reasons"),
    [
        ("flush chain netdev nft_dsr vip_web", ("chain vip_web: rules differ",)),
        ("add chain netdev nft_dsr mine", ("chain mine: not wanted",)),
        ("add counter netdev nft_dsr mine", ("counter mine: not wanted",)),
        ("add set netdev nft_dsr mine { type ipv4_addr; }", ("set mine: not wanted",)),
        ("flush set netdev nft_dsr guard_web", ("set guard_web: 3 of 3 elements differ",)),
        (
            "add element netdev nft_dsr guard_web { 02:00:00:00:00:01 }",
            ("set guard_web: 1 of 4 elements differ",),
        ),
        (
            "flush chain netdev nft_dsr vip_web\ndelete map netdev nft_dsr handout_web",
            ("chain vip_web: rules differ", "map handout_web: missing"),
        ),
        (
            "flush chain netdev nft_dsr vip_web\ndelete map netdev nft_dsr handout_web\n"
            "add map netdev nft_dsr handout_web { typeof numgen inc mod 256 : meta mark; size 256; }",
            ("chain vip_web: rules differ", "map handout_web: declared differently"),
        ),
        (
            "flush map netdev nft_dsr services_eth0\ndelete chain netdev nft_dsr vip_web",
            ("chain vip_web: missing", "map services_eth0: 1 of 1 elements differ"),
        ),
    ],
)
def test_a_plan_says_in_words_what_differs(hand: str, reasons: tuple[str, ...]) -> None:
    nft = MemoryNft()
    apply(resolved(vip()), nft)
    nft.load(hand)
    assert apply(resolved(vip()), nft).reasons == reasons
    assert contents(nft) == contents_of(wanted_table(resolved(vip()), nft))
