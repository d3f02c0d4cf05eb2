# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From any table to the wanted one, in one transaction that the kernel takes and that holds only what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.kernel import Kernel
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.naming import names_in_use, users
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.plan import Plan, make_plan
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.ruleset import flow_modes, render
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import Counter, Table, boot_text
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import (
    OWN,
    backends,
    backends6,
    mac_of,
    vip,
    vip6,
)
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.memory_nft import MemoryNft
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.strategies import (
    resolved_vips,
    sharing_vips,
)

# Of client 10.77.0.10, from port 4000 to port 80
FLOW = "172818442 . 4000 . 80"

pytestmark = pytest.mark.usefixtures("small_tables")


def wanted_table(vips: Sequence[ResolvedVip], nft: MemoryNft) -> Table:
    have = Kernel(nft).read()
    asked = [item.vip for item in vips]
    return render(vips, OWN, names_in_use(asked, have), flow_modes(asked, have.maps))


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
    name = _some([name for name, item in nft.table.maps.items() if item.elements], number)
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
    name = _some([name for name in nft.table.maps if name.startswith(("backends_", "poolbackends_"))], number)
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


@settings(max_examples=90)
@given(st.lists(resolved_vips() | sharing_vips(), min_size=2, max_size=3))
def test_each_plan_leads_to_exactly_the_wanted_table(steps: list[list[ResolvedVip]]) -> None:
    nft = MemoryNft()
    for vips in steps:
        table = wanted_table(vips, nft)
        apply(vips, nft)
        assert contents(nft) == contents_of(table)
        assert plan_for(vips, nft) == Plan((), ()), "a second run finds nothing to do"


@settings(max_examples=90)
@given(
    (resolved_vips() | sharing_vips()).filter(bool),
    resolved_vips() | sharing_vips(),
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


# One of everything that a table can have
EVERYTHING = [
    vip(
        "web",
        scheduler="round_robin",
        persistence_timeout=60,
        allow_sources=["10.0.0.0/8", "192.0.2.7"],
        deny_sources=["10.1.0.0/16"],
        new_flows_per_source="100/second",
        on_empty="reject",
        backends=[*backends(21, 22), *backends(23, backup=True)],
    ),
    vip("hash", ports=["81", "8000-8100"], protocol="sctp"),
    vip("dns", protocol="udp", ports=["53"], backends=[*backends(21, state="drain"), *backends(22)]),
    vip("all", address="10.77.0.101", protocol="udp", ports=None),
    vip("any", address="10.77.0.102", protocol="any", ports=None),
    vip6("six", ports=["80", "90-99"], deny_sources=["fd01::/16"]),
    vip6("six-udp", address="fd00:77::101", protocol="udp", ports=None, scheduler="round_robin"),
    vip6("six-any", protocol="any", ports=None, persistence_timeout=60),
]
OBJECTS = [
    "slots_all",
    "poolhandout_all",
    "poolbackends_all",
    "handout_web",
    "turns_web",
    "backends_web",
    "guard_ip",
    "guard_ip6",
    "vips_ip",
    "vips_ip6",
    "fit_web",
    "allow_web",
    "deny_web",
]
OBJECTS += ["deny_six", "stations_all", "services_eth0", "ranges_eth0", "allports_eth0", "any_eth0", "orphans_eth0"]
OBJECTS += ["errors_eth0", "errorranges_eth0", "errorall_eth0", "errorany_eth0", "services6_eth0", "ranges6_eth0"]
OBJECTS += [
    "allports6_eth0",
    "any6_eth0",
    "orphans6_eth0",
    "errors6_eth0",
    "errorranges6_eth0",
    "errorall6_eth0",
    "errorany6_eth0",
]
FILLED = ["flows_web", "closing_web", "clients_web", "newflows_web", "fragments_eth0", "fragments6_eth0", "switch_dns"]
CHAINS = [
    "ingress_eth0",
    "icmp_eth0",
    "icmp6_eth0",
    "fragment_eth0",
    "fragment6_eth0",
    "output_eth0",
    "output6_eth0",
    "guard_all",
]
CHAINS += ["vip_web"]
CHAINS += ["syn_web", "fin_web", "fallback_web", "error_web", "vip_six", "error_six", "grace_dns"]
CHAINS += ["pool_all", "poolerror_all", "pool_any"]


def everything() -> MemoryNft:
    nft = MemoryNft()
    apply(resolved(*EVERYTHING), nft)
    return nft


def test_everything_is_everything() -> None:
    nft = everything()
    kinds = {name.partition("_")[0] for name in (*nft.table.maps, *nft.table.chains)}
    listed = {name.partition("_")[0] for name in (*OBJECTS, *FILLED, *CHAINS)}
    assert kinds == listed
    assert plan_for(resolved(*EVERYTHING), nft) == Plan((), ())


def put_right(nft: MemoryNft, before: dict[str, Any]) -> Plan:
    """The plan that makes everything what it was."""
    assert contents(nft) != before
    plan = apply(resolved(*EVERYTHING), nft)
    assert contents(nft) == before and plan.reasons
    assert plan_for(resolved(*EVERYTHING), nft) == Plan((), ())
    return plan


@pytest.mark.parametrize("name", OBJECTS)
def test_an_element_less_is_seen_in_each_map(name: str) -> None:
    nft = everything()
    before = contents(nft)
    item = nft.table.maps[name]
    if not item.elements:
        slots = {"handout_web": "0x00000000", "poolhandout_all": "10.77.0.101 . 0x00000000"}
        slot = slots[name]  # what is handed out is nothing while all are up
        nft.load(f"add element netdev nft_dsr {name} {{ {slot} : 0x0a4d0015 }}")
    else:
        nft.load(f"delete element netdev nft_dsr {name} {{ {next(iter(item.elements))} }}")
    assert put_right(nft, before).reasons == (f"{item.kind} {name}: 1 of {max(1, len(item.elements))} elements differ",)


def _without(nft: MemoryNft, name: str) -> str:
    """Commands that take a map out of the table, and first what uses it."""
    users = "".join(f"flush chain netdev nft_dsr {user}\n" for user in nft.table.users_of_map(name))
    kind = nft.table.maps[name].kind
    return f"{users}flush {kind} netdev nft_dsr {name}\ndelete {kind} netdev nft_dsr {name}\n"


@pytest.mark.parametrize("name", [*OBJECTS, *FILLED])
def test_each_map_is_missed(name: str) -> None:
    nft = everything()
    before, kind = contents(nft), nft.table.maps[name].kind
    nft.load(_without(nft, name))
    assert f"{kind} {name}: missing" in put_right(nft, before).reasons


@pytest.mark.parametrize(
    ("name", "line", "other"),
    [
        ("flows_web", "size 1048576", "size 1000"),
        ("clients_web", "size 1048576", "size 1000"),
        ("newflows_web", "timeout 10s", "timeout 11s"),
        ("newflows_web", "size 65536", "size 65535"),
        ("fragments_eth0", "timeout 30s", "timeout 300s"),
        ("fragments6_eth0", "timeout 30s", ""),
        ("fragments_eth0", "size 65536", "size 1024"),
        ("deny_web", "flags interval", "flags constant"),
        ("any_eth0", "counter", ""),
        ("services6_eth0", "type ipv6_addr . inet_proto . inet_service : verdict", "type ipv6_addr : verdict"),
        ("errors_eth0", "typeof ip daddr . @th,136,8 . @th,224,16 : verdict", "type ipv4_addr : verdict"),
        ("switch_dns", "type ether_type : verdict", "type inet_proto : verdict"),
    ],
)
def test_a_declaration_that_drifted_is_seen(name: str, line: str, other: str) -> None:
    nft = everything()
    before, item = contents(nft), nft.table.maps[name]
    assert line in item.declaration
    lines = [other if text == line else text for text in item.declaration]
    nft.load(_without(nft, name))
    nft.load(f"add {item.kind} netdev nft_dsr {name} {{ {' '.join(f'{text};' for text in lines if text)} }}")
    how = "has another size" if line.startswith("size ") else "declared differently"
    assert f"{item.kind} {name}: {how}" in put_right(nft, before).reasons


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("hand", ["flush", "more", "less", "order"])
def test_a_rule_that_drifted_is_seen_in_each_chain(name: str, hand: str) -> None:
    nft = everything()
    before = contents(nft)
    rules = list(nft.table.chains[name].rules)
    rules = {"flush": [], "more": [*rules, "counter"], "less": rules[:-1], "order": [*rules[1:], rules[0]]}[hand]
    added = "".join(f"add rule netdev nft_dsr {name} {rule}\n" for rule in rules)
    nft.load(f"flush chain netdev nft_dsr {name}\n{added}")
    if len(rules) == 1 and hand == "order":
        assert contents(nft) == before
        return
    assert put_right(nft, before).reasons == (f"chain {name}: rules differ",)


def test_what_rules_fill_is_nobodys_drift() -> None:
    """Flows, clients, sources and fragments come and go; none of that is a difference, and no run takes it away."""
    nft = everything()
    filled = {
        "flows_web": f"{FLOW} timeout 900s : 0x0a4d0015",
        "closing_web": f"{FLOW} timeout 60s : 0x0a4d0015",
        "clients_web": "10.77.0.10 timeout 60s : 0x0a4d0015",
        "newflows_web": "10.77.0.10 timeout 10s",
        "fragments_eth0": "10.77.0.10 . 10.77.0.100 . 7 . udp timeout 30s : 02:d5:00:00:00:15",
        "fragments6_eth0": "1 . 12345 timeout 30s : 02:d5:00:06:00:21",
    }
    for name, element in filled.items():
        nft.load(f"add element netdev nft_dsr {name} {{ {element} }}")
    assert plan_for(resolved(*EVERYTHING), nft) == Plan((), ())
    apply(resolved(*EVERYTHING, vip("more", ports=["99"])), nft)
    assert all(len(nft.table.maps[name].elements) == 1 for name in filled)


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


@settings(max_examples=60)
@given((resolved_vips() | sharing_vips()).filter(bool), st.data())
def test_what_is_nobodys_business_is_not_touched(vips: list[ResolvedVip], data: st.DataObject) -> None:
    """A VIP that leaves takes along nothing that another one has: of what they share its own elements."""
    gone = data.draw(st.sampled_from(vips))
    # Unless one on its address, which kept the two apart, can share with others now.
    assume(not any(item.vip.address == gone.vip.address and item is not gone for item in vips))
    nft = MemoryNft()
    before = wanted_table(vips, nft)
    apply(vips, nft)
    uses = users(before)
    left = [item for item in vips if item is not gone]
    after = wanted_table(left, nft)
    for command in apply(left, nft).commands:
        words = command.partition("{")[0].split()
        name = words[4] if len(words) > 4 else ""
        others = uses.get(name, set()) - {gone.vip.name}
        if not others or name.startswith(("stations_", "vips_")):
            continue
        assert gone.vip.name in uses[name], f"{command} is not its business"
        if words[1] == "element":
            keys = command.partition("{ ")[2].rpartition(" }")[0].split(", ")
            assert words[0] == "delete" and all(key.startswith(f"{gone.vip.address} . ") for key in keys)
        else:
            # Which addresses are VIPs is asked of fewer now.
            rules = [[rule for rule in table.chains[name].rules if "@vips_" not in rule] for table in (before, after)]
            assert name.startswith("pool_") and rules[0] == rules[1]


def test_a_member_less_edits_elements_and_no_rule() -> None:
    nft = MemoryNft()
    apply(resolved(vip(scheduler="round_robin")), nft)
    commands = apply(resolved(vip(scheduler="round_robin", backends=backends(21, 22))), nft).commands
    assert commands and all(command.split()[1] == "element" for command in commands)


def test_one_more_vip_adds_its_own_and_an_element() -> None:
    nft = MemoryNft()
    apply(resolved(vip()), nft)
    other = vip("other", address="10.77.0.101", ports=["81"], backends=backends(24))
    commands = apply(resolved(vip(), other), nft).commands
    assert all(command.startswith("add ") for command in commands)
    others = sorted(command for command in commands if "_other" not in command)
    assert [command.partition(" { ")[0].split()[4] for command in others] == ["guard_ip", "stations_all", "vips_ip"]
    assert others[0].count(" . 10.77.0.101") == 3 and mac_of("10.77.0.24") in others[1]
    assert others[2] == "add element netdev nft_dsr vips_ip { 10.77.0.101 }"
    assert [command for command in commands if "_eth0 " in command and " rule " not in command] == [
        "add element netdev nft_dsr services_eth0 { 10.77.0.101 . tcp . 81 : goto pool_other }",
        "add element netdev nft_dsr orphans_eth0 { 10.77.0.101 . tcp : goto pool_other }",
        "add element netdev nft_dsr errors_eth0 { 10.77.0.101 . 6 . 81 : goto poolerror_other }",
    ]


def test_one_more_vip_of_a_pool_adds_elements_and_nothing_else() -> None:
    """However many VIPs there are: that is what makes a thousand of them load fast."""
    nft = MemoryNft()
    apply(resolved(vip("b")), nft)
    other = vip("a", address="10.77.0.101", ports=["81"], backends=[*backends(21, 22), *backends(23, state="down")])
    commands = apply(resolved(vip("b"), other), nft).commands
    touched = [command.split()[:2] + command.split()[4:5] for command in commands]
    assert touched == [
        ["add", "element", name]
        for name in (
            "guard_ip",
            "vips_ip",
            "poolbackends_b",
            "poolhandout_b",
            "services_eth0",
            "orphans_eth0",
            "errors_eth0",
        )
    ]
    backends_of, handout = commands[2:4]
    assert backends_of.count("10.77.0.101 . 0x") == 2 and "10.77.0.100" not in backends_of + handout
    assert commands[4].endswith("{ 10.77.0.101 . tcp . 81 : goto pool_b }")
    gone = apply(resolved(vip("b")), nft).commands
    assert [command.split()[:2] + command.split()[4:5] for command in gone] == [
        ["delete", *words[1:]] for words in touched
    ]


def test_a_vip_far_from_the_others_of_its_pool_changes_one_rule() -> None:
    """The one that says which sources may be VIPs."""
    nft = MemoryNft()
    apply(resolved(vip("a")), nft)
    plan = apply(resolved(vip("a"), vip("b", address="10.79.0.100")), nft)
    rules = [command for command in plan.commands if command.split()[1] != "element"]
    assert rules[0] == "flush chain netdev nft_dsr pool_a" and all(
        command.startswith("add rule netdev nft_dsr pool_a ") for command in rules[1:]
    )
    assert "chain pool_a: rules differ" in plan.reasons and not any("poolerror" in reason for reason in plan.reasons)
    assert "@nh,96,32 & 0xfffc0000 == 0x0a4c0000 ip saddr @vips_ip counter drop" in nft.table.chains["pool_a"].rules


def test_a_dispatch_map_is_emptied_before_it_goes_and_its_chains_after_it() -> None:
    """Linux before 6.4 counts what the elements of a map lead to until the map is gone for good."""
    nft = MemoryNft()
    apply(resolved(vip(), vip("other", ports=["90-99"])), nft)
    commands = apply(resolved(vip()), nft).commands
    steps = ["flush map netdev nft_dsr ranges_eth0", "delete map netdev nft_dsr ranges_eth0"]
    steps.append("delete chain netdev nft_dsr pool_other")
    assert [command for command in commands if command in steps] == steps


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[MemoryNft, list[str]]:
    """The kernel after the second of two configurations of a VIP with a flow, and what was touched for it."""
    nft = MemoryNft()
    apply(resolved(before), nft)
    key = "1 . 2" if nft.table.maps["flows_web"].key == ("integer", "integer") else FLOW
    nft.load(f"add element netdev nft_dsr flows_web {{ {key} timeout 900s : 0x0a4d0015 }}")
    touched = {
        " ".join(command.split()[0:2] + command.split()[4:5])
        for command in apply(resolved(after), nft).commands
        if not command.startswith("add rule")
    }
    return nft, sorted(touched)


TRACKED = vip(scheduler="round_robin")
TIMES = {"syn": 5, "established": 600, "closing": 7}


@pytest.mark.parametrize(
    ("change", "touched"),
    [
        # Life times stand in rules alone.
        ({"flow_table": {"timeouts": TIMES}}, ["flush chain fin_web", "flush chain syn_web", "flush chain vip_web"]),
        ({"flow_table": {"timeouts": {"syn": 5}}}, ["flush chain syn_web"]),
        ({"scheduler": "weighted_round_robin"}, []),
        (
            {"ports": ["443"]},
            [
                "add element errors_eth0",
                "add element services_eth0",
                "delete element errors_eth0",
                "delete element services_eth0",
            ],
        ),
        ({"on_empty": "local"}, ["flush chain error_web", "flush chain fallback_web"]),
        ({"deny_sources": ["10.0.0.0/8"]}, ["add element deny_web", "add set deny_web", "flush chain vip_web"]),
        ({"new_flows_per_source": "1/hour"}, ["add set newflows_web", "flush chain syn_web"]),
        # From one scheduler that tracks to a hash, whose flows are honoured on; its turns go.
        (
            {"scheduler": "source_hash"},
            [
                "add element orphans_eth0",
                "add map orphans_eth0",
                "delete map turns_web",
                "flush chain error_web",
                "flush chain fallback_web",
                "flush chain fragment_eth0",
                "flush chain syn_web",
            ],
        ),
    ],
)
def test_flows_survive_what_does_not_concern_them(change: dict[str, Any], touched: list[str]) -> None:
    nft, found = changes(TRACKED, {**TRACKED, **change})
    assert nft.table.maps["flows_web"].elements, "a flow is tracked on"
    assert [text for text in found if "orphans" not in text and text != "flush chain fragment_eth0"] == [
        text for text in touched if "orphans" not in text and text != "flush chain fragment_eth0"
    ]


def test_a_client_that_is_to_stay_needs_nothing_but_its_own_maps() -> None:
    nft, touched = changes(TRACKED, {**TRACKED, "persistence_timeout": 60})
    assert nft.table.maps["flows_web"].elements
    assert touched == [
        "add element fit_web",
        "add map clients_web",
        "add set fit_web",
        "flush chain syn_web",
        "flush chain vip_web",
    ]


@pytest.mark.parametrize(
    ("change", "remade"),
    [
        ({"protocol": "any", "ports": None}, {"flows_web"}),
        ({"address": "fd00:77::100", "backends": backends6(21, 22, 23)}, {"flows_web", "closing_web"}),
    ],
)
def test_a_flow_table_with_keys_of_another_form_is_made_anew(change: dict[str, Any], remade: set[str]) -> None:
    nft, touched = changes(TRACKED, {**TRACKED, **change})
    assert not nft.table.maps["flows_web"].elements
    assert {f"add map {name}" for name in remade} <= set(touched)
    assert {f"delete map {name}" for name in remade} <= set(touched)


def test_a_flow_table_is_resized_where_it_stands() -> None:
    nft, touched = changes(TRACKED, {**TRACKED, "flow_table": {"size": 1000}})
    assert touched == ["add map closing_web", "add map flows_web"]
    assert (nft.table.maps["flows_web"].size, len(nft.table.maps["flows_web"].elements)) == (1000, 1)


def test_a_plan_says_which_maps_are_resized() -> None:
    """Not every kernel does it; who applies the plan has to look."""
    nft = MemoryNft()
    nft.resizes = False
    apply(resolved(TRACKED), nft)
    smaller = resolved({**TRACKED, "flow_table": {"size": 1000}})
    plan = apply(smaller, nft)
    assert plan.resized == ("flows_web", "closing_web")
    assert plan.reasons == ("map flows_web: has another size", "map closing_web: has another size")
    assert nft.table.maps["flows_web"].size == 1048576
    again = plan_for(smaller, nft, recreate=plan.resized)
    assert again.resized == ()
    Kernel(nft).apply(again.text)
    assert nft.table.maps["flows_web"].size == 1000 and plan_for(smaller, nft) == Plan((), ())


def test_a_backend_that_fails_over_to_its_backup_edits_elements_and_no_rule() -> None:
    nft = MemoryNft()
    pool = {"up": [*backends(21), *backends(22, backup=True)]}
    pool["down"] = [*backends(21, state="down"), *backends(22, backup=True)]
    for options in ({}, {"scheduler": "round_robin"}, {"protocol": "udp"}, {"persistence_timeout": 60}):
        apply([], nft)
        apply(resolved(vip(backends=pool["up"], **options)), nft)
        for state in ("down", "up"):
            commands = apply(resolved(vip(backends=pool[state], **options)), nft).commands
            assert commands and all(command.split()[1] == "element" for command in commands)


def test_sources_that_change_edit_elements_and_no_rule() -> None:
    nft = MemoryNft()
    apply(resolved(vip(allow_sources=["10.0.0.0/8", "192.0.2.7"])), nft)
    assert apply(resolved(vip(allow_sources=["10.0.0.0/8", "192.0.2.0/24"])), nft) == Plan(
        (
            "delete element netdev nft_dsr allow_web { 192.0.2.7 }",
            "add element netdev nft_dsr allow_web { 192.0.2.0/24 }",
        ),
        ("set allow_web: 2 of 3 elements differ",),
    )


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


def test_long_lists_are_cut_into_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.plan._ELEMENTS_PER_COMMAND", 64)
    nft = MemoryNft()
    commands = apply(resolved(vip()), nft).commands
    slots = [command for command in commands if " slots_web {" in command and " element " in command]
    assert [command.count(" : ") for command in slots] == [64, 32]


def test_a_backend_with_another_mac_goes_on_counting() -> None:
    nft = MemoryNft()
    apply(resolved(vip()), nft)
    counted = nft.table.maps["poolbackends_web"].elements["10.77.0.100 . 0x0a4d0015"]
    counted.packets, counted.bytes = 7, 700
    other = [{"address": "10.77.0.21", "mac": "02:00:00:00:00:99"}, *backends(22, 23)]
    apply(resolved(vip(backends=other)), nft)
    now = nft.table.maps["poolbackends_web"].elements["10.77.0.100 . 0x0a4d0015"]
    assert (now.value, now.packets, now.bytes) == ("0x02000000009902d500000002", 7, 700)


def test_what_is_carried_is_what_elements_count_from() -> None:
    """As those of a VIP that leaves its pool's map; also where another VIP's element is that it takes over."""
    nft = MemoryNft()
    apply(resolved(vip("a"), vip("b", address="10.77.0.101")), nft)
    mine = nft.table.maps["poolbackends_a"].elements["10.77.0.100 . 0x0a4d0015"]
    mine.packets, mine.bytes = 7, 700
    more = [*backends(21, mac="02:00:00:00:00:99"), *backends(22, 23), *backends(24, backup=True)]
    table = wanted_table(
        resolved(vip("a", backends=more), vip("b", address="10.77.0.101", persistence_timeout=60)), nft
    )
    carried = {
        "backends_b": {"0x0a4d0015": Counter(3, 300), "0x0a4d0016": Counter(0, 0), "0x0a4d0099": Counter(9, 900)},
        "poolbackends_a": {"10.77.0.100 . 0x0a4d0015": Counter(1, 100), "10.77.0.100 . 0x0a4d0018": Counter(2, 200)},
        "backends_gone": {"0x0a4d0015": Counter(4, 400)},
    }
    kernel = Kernel(nft)
    plan = make_plan(table, kernel.compile(table), kernel.read(), carried=carried)
    kernel.apply(plan.text)
    counters = kernel.read().counters
    assert counters["backends_b"] == {
        "0x0a4d0015": Counter(3, 300),
        "0x0a4d0016": Counter(),
        "0x0a4d0017": Counter(),
    }
    assert counters["poolbackends_a"] == {
        "10.77.0.100 . 0x0a4d0015": Counter(1, 100),
        "10.77.0.100 . 0x0a4d0016": Counter(),
        "10.77.0.100 . 0x0a4d0017": Counter(),
        "10.77.0.100 . 0x0a4d0018": Counter(2, 200),
    }
    assert plan.text.count(" counter packets ") == 3


def test_tracked_flows_survive_what_does_not_concern_them() -> None:
    nft = MemoryNft()
    apply(resolved(vip(scheduler="round_robin")), nft)
    nft.load(f"add element netdev nft_dsr flows_web {{ {FLOW} timeout 900s : 0x0a4d0015 }}")
    apply(resolved(vip(scheduler="round_robin", backends=backends(21, 22)), vip("other", ports=["81"])), nft)
    assert list(nft.table.maps["flows_web"].elements) == [FLOW]


def test_the_switch_of_a_drain_that_starts_again_is_made_anew() -> None:
    nft = MemoryNft()
    vips = resolved(vip("dns", protocol="udp", backends=[*backends(21, state="drain"), *backends(22)]))
    apply(vips, nft)
    nft.load("flush map netdev nft_dsr switch_dns")  # its time is over
    assert plan_for(vips, nft) == Plan((), ()), "a switch that turned itself off is no drift"
    plan = plan_for(vips, nft, recreate=["switch_dns"])
    Kernel(nft).apply(plan.text)
    assert nft.table.maps["switch_dns"].elements["ip"].value == "goto grace_dns"
    assert plan.reasons == ("map switch_dns: declared differently",)


def test_a_chain_that_lost_its_nic_is_hooked_again() -> None:
    nft = MemoryNft()
    apply(resolved(vip()), nft)
    nft.table.chains["ingress_eth0"].device = None
    plan = apply(resolved(vip()), nft)
    assert plan.reasons == ("chain ingress_eth0: hooked differently",)
    assert nft.table.chains["ingress_eth0"].device == "eth0"


WITHOUT_HANDOUT = (
    "flush chain netdev nft_dsr pool_web\nflush chain netdev nft_dsr poolerror_web\n"
    "delete map netdev nft_dsr poolhandout_web"
)


@pytest.mark.parametrize(
    ("hand", "reasons"),
    [
        ("flush chain netdev nft_dsr pool_web", ("chain pool_web: rules differ",)),
        ("add chain netdev nft_dsr mine", ("chain mine: not wanted",)),
        ("add counter netdev nft_dsr mine", ("counter mine: not wanted",)),
        ("add set netdev nft_dsr mine { type ipv4_addr; }", ("set mine: not wanted",)),
        ("flush set netdev nft_dsr guard_ip", ("set guard_ip: 5 of 5 elements differ",)),
        (
            "add element netdev nft_dsr guard_ip { 02:00:00:00:00:01 . 10.77.0.100 }",
            ("set guard_ip: 1 of 6 elements differ",),
        ),
        (
            WITHOUT_HANDOUT,
            ("chain poolerror_web: rules differ", "chain pool_web: rules differ", "map poolhandout_web: missing"),
        ),
        (
            f"{WITHOUT_HANDOUT}\n"
            "add map netdev nft_dsr poolhandout_web { typeof numgen inc mod 256 : meta mark; size 256; }",
            (
                "chain poolerror_web: rules differ",
                "chain pool_web: rules differ",
                "map poolhandout_web: declared differently",
            ),
        ),
        (
            "flush map netdev nft_dsr services_eth0\nflush map netdev nft_dsr orphans_eth0\n"
            "delete chain netdev nft_dsr pool_web",
            (
                "chain pool_web: missing",
                "map services_eth0: 1 of 1 elements differ",
                "map orphans_eth0: 1 of 1 elements differ",
            ),
        ),
    ],
)
def test_a_plan_says_in_words_what_differs(hand: str, reasons: tuple[str, ...]) -> None:
    nft = MemoryNft()
    apply(resolved(vip()), nft)
    nft.load(hand)
    assert apply(resolved(vip()), nft).reasons == reasons
    assert contents(nft) == contents_of(wanted_table(resolved(vip()), nft))


# -- turns that an agent gives out

LEAST = {"scheduler": "least_connections", "backends": backends(21, 22)}


def steered_plan(nft: MemoryNft, steering: bool = True, **options: Any) -> Plan:
    """What has to change while an agent runs, or when none does any more."""
    vips = resolved(vip(**{**LEAST, **options}))
    have = Kernel(nft).read()
    asked = [item.vip for item in vips]
    table = render(vips, OWN, names_in_use(asked, have), flow_modes(asked, have.maps), steering=steering)
    return make_plan(table, Kernel(nft).compile(table), have)


def give(nft: MemoryNft, *turns: tuple[int, str]) -> None:
    """As the agent does."""
    item = nft.table.maps["turns_web"]
    for turn, owner in turns:
        item.elements[str(turn)] = replace(item.elements[str(turn)], value=owner)


def test_turns_that_an_agent_gave_out_are_right_whosever_they_are() -> None:
    nft = MemoryNft()
    Kernel(nft).apply(steered_plan(nft).text)
    give(nft, *((turn, "0x0a4d0016") for turn in range(200)))
    assert steered_plan(nft) == Plan((), ())
    assert steered_plan(nft, steering=False).reasons[0].startswith("map turns_web: "), "nobody gives them out any more"


def test_turns_of_nobody_who_serves_are_given_to_others_at_once_and_the_rest_stays() -> None:
    nft = MemoryNft()
    Kernel(nft).apply(steered_plan(nft).text)
    give(nft, (0, "0x0a4d0063"), *((turn, "0x0a4d0016") for turn in range(1, 256)))
    nft.load("delete element netdev nft_dsr turns_web { 7 }")
    plan = steered_plan(nft)
    assert plan.reasons == ("map turns_web: 2 of 256 elements differ",)
    Kernel(nft).apply(plan.text)
    drained = [*backends(21), *backends(22, state="drain")]
    Kernel(nft).apply(steered_plan(nft, backends=drained).text)
    assert {element.value for element in nft.table.maps["turns_web"].elements.values()} == {"0x0a4d0015"}
    joined = steered_plan(nft, backends=[*drained, *backends(24)])
    assert not any("turns_web" in reason for reason in joined.reasons), "who joins gets turns of the agent"


def test_turns_are_counted_anew_with_the_rule_that_takes_them() -> None:
    """The kernel begins with the first turn then, and the agent has to know which is next."""
    nft = MemoryNft()
    Kernel(nft).apply(steered_plan(nft).text)
    for name in ("opened_web", "closed_web"):
        nft.table.maps[name].elements["0x0a4d0015"].packets = 9
    plan = steered_plan(nft, new_flows_per_source="5/second")
    assert "set opened_web: counts anew" in plan.reasons
    Kernel(nft).apply(plan.text)
    assert nft.table.maps["opened_web"].elements["0x0a4d0015"].packets == 0
    assert nft.table.maps["closed_web"].elements["0x0a4d0015"].packets == 9
    assert steered_plan(nft, new_flows_per_source="5/second") == Plan((), ())
