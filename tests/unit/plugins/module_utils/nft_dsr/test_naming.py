# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who shares which maps and chains with whom, and what these are called while VIPs come, change and go."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model, schedule
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.kernel import Kernel
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.naming import choose_names, names_in_use, users
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import PLAIN, ResolvedVip
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.ruleset import flow_modes, render
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import KernelTable, Names, Table, boot_text
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import (
    OWN,
    backends,
    mac_of,
    vip,
    vip6,
)
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.memory_nft import MemoryNft
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.strategies import (
    resolved_vips,
    sharing_vips,
)

pytestmark = pytest.mark.usefixtures("small_tables")

KINDS = ("chain", "error", "slots", "backends", "handout", "turns")
ADDRESSES = {name: f"10.77.0.{101 + number}" for number, name in enumerate("abcdef")}
OTHER = backends(21, 22)
DRAINING = [*backends(21, state="drain"), *backends(22, 23)]


def at(name: str, **options: Any) -> dict[str, Any]:
    """A VIP at an address of its own."""
    return vip(name, **{"address": ADDRESSES[name], **options})


def resolved(*vips: Mapping[str, Any]) -> list[ResolvedVip]:
    found = []
    for parsed in model.parse_vips(vips):
        nic = parsed.backend_interface or "eth0"
        macs = {backend.address: mac_of(str(backend.address)) for backend in parsed.backends}
        found.append(ResolvedVip(parsed, parsed.interface or nic, nic, macs))
    return found


def loaded(table: Table) -> KernelTable:
    nft = MemoryNft()
    nft.load(boot_text(table))
    return Kernel(nft).read()


def read(vips: Sequence[ResolvedVip], have: KernelTable) -> dict[str, Names]:
    return names_in_use([item.vip for item in vips], have)


def pool(owner: str, slots: str = "", backends_of: str = "") -> Names:
    """The names of a VIP that hashes like others: chain, slots and backends, by whom these are called."""
    return Names(f"pool_{owner}", f"slots_{slots or owner}", f"poolbackends_{backends_of or owner}")


def own(name: str, slots: str = "", turns: str = "") -> Names:
    """The names of a VIP that has rules and backends of its own."""
    return Names(f"vip_{name}", f"slots_{slots or name}", f"backends_{name}", f"turns_{turns}" if turns else "")


# -- who shares


SHARED: dict[str, tuple[list[dict[str, Any]], dict[str, Names]]] = {
    "equal pools": ([at("b"), at("a", backends=backends(23, 22, 21))], {"a": pool("a"), "b": pool("a")}),
    "it does not matter where packets come in": (
        [at("a"), at("b", interface="eth1", backend_interface="eth0")],
        {"a": pool("a"), "b": pool("a")},
    ),
    "nor who is up": (
        [at("a"), at("b", backends=[*backends(21, state="down"), *backends(22, 23)])],
        {"a": pool("a"), "b": pool("a")},
    ),
    "nor who stands by": (
        [at("a"), at("b", backends=[*backends(21, 22, 23), *backends(24, backup=True)])],
        {"a": pool("a"), "b": pool("a")},
    ),
    "nor which ports": (
        [at("a"), at("b", ports=["1-9"]), at("c", ports=None)],
        {"a": pool("a"), "b": pool("a"), "c": pool("a")},
    ),
    "other backends": ([at("a"), at("b", backends=OTHER)], {"a": pool("a"), "b": pool("b")}),
    "other weights": (
        [at("a"), at("b", backends=[*backends(21, weight=2), *backends(22, 23)])],
        {"a": pool("a"), "b": pool("b")},
    ),
    "another NIC": ([at("a"), at("b", backend_interface="eth1")], {"a": pool("a"), "b": pool("b", slots="a")}),
    "another family": (
        [at("a"), vip6("b"), vip6("c", address="fd00:77::101")],
        {"a": pool("a"), "b": pool("b"), "c": pool("b")},
    ),
    # Two VIPs on one address would be one in the maps.
    "one address": (
        [vip("a"), vip("b", ports=["81"]), vip("c", ports=["82"])],
        {"a": pool("a"), "b": pool("b", slots="a"), "c": pool("c", slots="a")},
    ),
    "one address and others": (
        [vip("a"), vip("b", ports=["81"]), at("c"), at("d")],
        {"a": pool("a"), "b": pool("b", slots="a"), "c": pool("a"), "d": pool("a")},
    ),
    # Other rules, over the same backends
    "another hash": (
        [at("a"), at("b", scheduler="connection_hash"), at("c", scheduler="connection_hash")],
        {"a": pool("a"), "b": pool("b", "a", "a"), "c": pool("b", "a", "a")},
    ),
    "another protocol": ([at("a"), at("b", protocol="udp")], {"a": pool("a"), "b": pool("b", "a", "a")}),
    "another end": ([at("a"), at("b", on_empty="reject")], {"a": pool("a"), "b": pool("b", "a", "a")}),
    # Rules of its own
    "who drains": (
        [at("a", backends=DRAINING), at("b"), at("c"), at("d", backends=DRAINING)],
        {"a": own("a"), "b": pool("b", slots="a"), "c": pool("b", slots="a"), "d": own("d", slots="a")},
    ),
    "who keeps clients": (
        [at("a"), at("b", persistence_timeout=60), at("c")],
        {"a": pool("a"), "b": own("b", slots="a"), "c": pool("a")},
    ),
    "who denies": ([at("a"), at("b", deny_sources=["10.0.0.0/8"])], {"a": pool("a"), "b": own("b", slots="a")}),
    "who denies nobody": ([at("a"), at("b", deny_sources=[])], {"a": pool("a"), "b": pool("a")}),
    "who allows": ([at("a"), at("b", allow_sources=["10.0.0.0/8"])], {"a": pool("a"), "b": own("b", slots="a")}),
    "who limits": ([at("a"), at("b", new_flows_per_source="1/hour")], {"a": pool("a"), "b": own("b", slots="a")}),
    # Turns are shared by whom they go round alike.
    "turns": (
        [
            at("a"),
            at("b", scheduler="round_robin"),
            at("c", scheduler="weighted_round_robin"),
            at("d", scheduler="round_robin", backends=OTHER),
        ],
        {
            "a": pool("a"),
            "b": own("b", "a", turns="b"),
            "c": own("c", "a", turns="b"),
            "d": own("d", turns="d"),
        },
    ),
    "turns of those who are up": (
        [
            at("a", scheduler="round_robin"),
            at("b", scheduler="round_robin", backends=[*backends(21, 22), *backends(23, state="down")]),
            at("c", scheduler="round_robin", backends=[*backends(21, 22), *backends(24, state="down")]),
        ],
        {"a": own("a", turns="a"), "b": own("b", "a", turns="b"), "c": own("c", turns="b")},
    ),
    "turns of nobody": (
        [at("a", scheduler="round_robin", backends=backends(21, state="down")), at("b", scheduler="round_robin")],
        {"a": own("a"), "b": own("b", turns="b")},
    ),
}


@pytest.mark.parametrize("case", SHARED)
def test_who_shares_what(case: str) -> None:
    vips, names = SHARED[case]
    table = render(resolved(*vips), OWN)
    assert table.names == names
    assert read(resolved(*vips), loaded(table)) == names


def test_turns_of_tables_of_another_size_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same take turns, but one VIP has so many backends that its table is larger."""
    monkeypatch.setattr(schedule, "turn_slots", lambda pool_size: 32 * pool_size)
    few = at("a", scheduler="round_robin", backends=backends(21))
    many = at("b", scheduler="round_robin", backends=[*backends(21), *backends(22, state="down")])
    assert {name: names.turns for name, names in render(resolved(few, many), OWN).names.items()} == {
        "a": "turns_a",
        "b": "turns_b",
    }


def test_the_name_of_the_handout_and_of_the_chain_of_errors_follow() -> None:
    """They are shared just as the backends and the chain of packets are."""
    assert (pool("a", backends_of="b.2").handout, pool("a").error) == ("poolhandout_b.2", "poolerror_a")
    assert (own("a").handout, own("a").error) == ("handout_a", "error_a")


def test_in_a_pool_the_address_of_a_vip_tells_whose_a_backend_is() -> None:
    address = ipaddress.ip_address("10.77.0.100")
    assert pool("a").pooled and not own("a").pooled and not Names().pooled
    assert pool("a").key(address, 21) == "10.77.0.100 . 0x00000015"
    assert own("a").key(address, 21) == "0x00000015"


# -- what it is called in the course of time


HISTORIES: dict[str, list[tuple[list[dict[str, Any]], dict[str, Names]]]] = {
    "whose name it bears leaves and comes back": [
        ([at("a"), at("b"), at("c")], {"a": pool("a"), "b": pool("a"), "c": pool("a")}),
        ([at("b"), at("c")], {"b": pool("a"), "c": pool("a")}),
        ([at("a"), at("b"), at("c")], {"a": pool("a"), "b": pool("a"), "c": pool("a")}),
    ],
    "whose name it bears comes back with other backends": [
        ([at("a"), at("b")], {"a": pool("a"), "b": pool("a")}),
        ([at("b")], {"b": pool("a")}),
        ([at("a", backends=OTHER), at("b")], {"a": pool("a.2"), "b": pool("a")}),
        # and once more, as somebody else now uses that too
        (
            [at("c", backends=OTHER), at("a", backends=OTHER), at("b")],
            {"a": pool("a.2"), "b": pool("a"), "c": pool("a.2")},
        ),
        ([at("c", backends=OTHER), at("b")], {"b": pool("a"), "c": pool("a.2")}),
        (
            [at("c", backends=OTHER), at("a", backends=backends(24)), at("b")],
            {"a": pool("a.3"), "b": pool("a"), "c": pool("a.2")},
        ),
    ],
    "one who comes first by name": [
        ([at("b"), at("c")], {"b": pool("b"), "c": pool("b")}),
        ([at("a"), at("b"), at("c")], {"a": pool("b"), "b": pool("b"), "c": pool("b")}),
    ],
    "the larger part keeps it": [
        ([at("a"), at("b"), at("c")], {"a": pool("a"), "b": pool("a"), "c": pool("a")}),
        ([at("a", backends=OTHER), at("b"), at("c")], {"a": pool("a.2"), "b": pool("a"), "c": pool("a")}),
    ],
    "of equal parts the first": [
        ([at("a"), at("b")], {"a": pool("a"), "b": pool("a")}),
        ([at("a"), at("b", backends=OTHER)], {"a": pool("a"), "b": pool("b")}),
    ],
    "groups that meet have what most of them had": [
        ([at("a", backends=OTHER), at("b"), at("c")], {"a": pool("a"), "b": pool("b"), "c": pool("b")}),
        ([at("a"), at("b"), at("c")], {"a": pool("b"), "b": pool("b"), "c": pool("b")}),
    ],
    "of as many the first": [
        ([at("a", backends=OTHER), at("b")], {"a": pool("a"), "b": pool("b")}),
        ([at("a"), at("b")], {"a": pool("a"), "b": pool("a")}),
    ],
    # As where each VIP is changed by a run of its own
    "all move, one after the other": [
        ([at("a"), at("b"), at("c")], {"a": pool("a"), "b": pool("a"), "c": pool("a")}),
        ([at("a", backends=OTHER), at("b"), at("c")], {"a": pool("a.2"), "b": pool("a"), "c": pool("a")}),
        (
            [at("a", backends=OTHER), at("b", backends=OTHER), at("c")],
            {"a": pool("a.2"), "b": pool("a.2"), "c": pool("a")},
        ),
        (
            [at("a", backends=OTHER), at("b", backends=OTHER), at("c", backends=OTHER)],
            {"a": pool("a.2"), "b": pool("a.2"), "c": pool("a.2")},
        ),
    ],
    "one who drains leaves the others and comes back to them": [
        ([at("a"), at("b"), at("c")], {"a": pool("a"), "b": pool("a"), "c": pool("a")}),
        (
            [at("a", backends=DRAINING), at("b"), at("c")],
            {"a": own("a"), "b": pool("a"), "c": pool("a")},
        ),
        ([at("a"), at("b"), at("c")], {"a": pool("a"), "b": pool("a"), "c": pool("a")}),
    ],
    "all drain, and come back one after the other": [
        ([at("a"), at("b")], {"a": pool("a"), "b": pool("a")}),
        (
            [at("a", backends=DRAINING), at("b", backends=DRAINING)],
            {"a": own("a"), "b": own("b", "a")},
        ),
        ([at("a", backends=DRAINING), at("b")], {"a": own("a"), "b": pool("b", "a")}),
        ([at("a"), at("b")], {"a": pool("b", "a", "b"), "b": pool("b", "a", "b")}),
    ],
    "on one address each stays with its own": [
        (
            [vip("a"), vip("b", ports=["81"]), at("c")],
            {"a": pool("a"), "b": pool("b", "a"), "c": pool("a")},
        ),
        (
            [vip("a"), vip("b", ports=["81"]), at("c"), at("d")],
            {"a": pool("a"), "b": pool("b", "a"), "c": pool("a"), "d": pool("a")},
        ),
        ([vip("a"), vip("b", ports=["81"])], {"a": pool("a"), "b": pool("b", "a")}),
        ([vip("b", ports=["81"])], {"b": pool("b", "a")}),
    ],
    "turns": [
        (
            [at("a", scheduler="round_robin"), at("b", scheduler="round_robin")],
            {"a": own("a", turns="a"), "b": own("b", "a", turns="a")},
        ),
        ([at("b", scheduler="round_robin")], {"b": own("b", "a", turns="a")}),
        (
            [at("b", scheduler="round_robin", backends=backends(21, 22, 23, state="down"))],
            {"b": own("b", "a")},
        ),
        ([at("b", scheduler="round_robin")], {"b": own("b", "a", turns="b")}),
    ],
    "from a hash to turns and back": [
        ([at("a"), at("b")], {"a": pool("a"), "b": pool("a")}),
        ([at("a"), at("b", scheduler="round_robin")], {"a": pool("a"), "b": own("b", "a", turns="b")}),
        ([at("a"), at("b")], {"a": pool("a"), "b": pool("a")}),
    ],
}


@pytest.mark.parametrize("case", HISTORIES)
def test_what_is_shared_keeps_its_name_while_it_is_in_use(case: str) -> None:
    """And it is the same whether the last run is remembered or the kernel is asked."""
    remembered: Mapping[str, Names] = {}
    have = KernelTable()
    for vips, names in HISTORIES[case]:
        items = resolved(*vips)
        table = render(items, OWN, remembered)
        assert table.names == names
        assert render(items, OWN, read(items, have)) == table
        remembered, have = table.names, loaded(table)


TOGETHER: dict[str, tuple[list[dict[str, Any]], dict[str, str], list[str]]] = {
    # What they had; and who is together now
    "who comes goes where there is room": (
        [vip("a"), vip("b", ports=["81"]), at("c")],
        {"b": "b", "c": "a"},
        ["ac", "b"],
    ),
    "and to most, and moves nobody": (
        [vip("a"), vip("b", ports=["81"]), at("c"), at("d")],
        {"a": "x", "b": "y", "c": "y"},
        ["a", "bcd"],
    ),
    "a map that is not needed goes": (
        [vip("a"), vip("b", ports=["81"]), at("c"), vip("d", address=ADDRESSES["c"], ports=["81"]), at("e")],
        {"a": "x", "b": "y", "c": "x", "d": "z", "e": "z"},
        ["ac", "bde"],
    ),
    "of which nobody is left at the same address": (
        [at("a"), at("b"), at("c"), at("d")],
        {"a": "x", "b": "x", "c": "y", "d": "z"},
        ["abcd"],
    ),
    "who moved to another one's address": (
        [vip("a"), vip("b", ports=["81"]), at("c")],
        {"a": "x", "b": "x", "c": "x"},
        ["ac", "b"],
    ),
    # Each two share an address, but no three
    "in as few as there are on one address": (
        [
            *(vip("a", ports=["81"]), at("b", ports=["81"])),
            *(vip("c", ports=["82"]), at("d", ports=["82"])),
            *(at("e", address=ADDRESSES["b"], ports=["83"]), at("f", address=ADDRESSES["d"], ports=["83"])),
        ],
        {"a": "x", "b": "x", "c": "y", "d": "y", "e": "z", "f": "z"},
        ["abf", "cde"],
    ),
}


@pytest.mark.parametrize("case", TOGETHER)
def test_vips_on_one_address_are_kept_apart_and_others_together(case: str) -> None:
    vips, had, together = TOGETHER[case]
    table = render(resolved(*vips), OWN, {name: pool(owner, "s", owner) for name, owner in had.items()})
    found: dict[str, str] = {}
    for name, names in sorted(table.names.items()):
        found[names.backends] = found.get(names.backends, "") + name
    assert sorted(found.values()) == together
    chains: dict[str, set[str]] = {}
    for names in table.names.values():
        chains.setdefault(names.chain, set()).add(names.backends)
    assert len(chains) == len(found), "and so are their rules"


def test_a_name_of_one_kind_is_no_name_of_another() -> None:
    """Whatever is said to be in use: only a pool's chain is kept as one."""
    (item,) = resolved(at("a"))
    claimed = {"a": Names("vip_b", "turns_b", "slots_b", "backends_b")}
    assert choose_names([item], {"a": PLAIN}, claimed) == {"a": pool("a")}


# -- what the kernel has


def test_of_a_vip_that_the_kernel_does_not_have_nothing_is_known() -> None:
    have = loaded(render(resolved(at("a")), OWN))
    assert read(resolved(at("a"), at("b")), have) == {"a": pool("a")}
    assert read(resolved(at("a")), KernelTable()) == {}


def test_what_somebody_emptied_is_not_in_use() -> None:
    nft = MemoryNft()
    nft.load(boot_text(render(resolved(at("a")), OWN)))
    nft.load("flush chain netdev nft_dsr pool_a")
    assert read(resolved(at("a")), Kernel(nft).read()) == {"a": Names("pool_a")}
    nft.load("flush map netdev nft_dsr services_eth0")
    assert read(resolved(at("a")), Kernel(nft).read()) == {}, "nobody says where its packets go"


@pytest.mark.parametrize("protocol", ["tcp", "udp", "any"])
@pytest.mark.parametrize("write", [vip, vip6])
@pytest.mark.parametrize("ports", [["80"], ["80", "90-99"], ["90-99"], None])
def test_a_vip_is_found_by_whatever_leads_to_it(write: Any, protocol: str, ports: Any) -> None:
    asked = None if protocol == "any" else ports
    items = resolved(write("a", protocol=protocol, ports=asked, interface="eth1", backend_interface="eth0"))
    assert read(items, loaded(render(items, OWN, {"a": pool("x")}))) == {"a": pool("x")}


def test_a_vip_with_a_port_more_is_found_by_the_others() -> None:
    have = loaded(render(resolved(at("b")), OWN, {"b": pool("a")}))
    assert read(resolved(at("b", ports=["70", "80"])), have) == {"b": pool("a")}


def test_a_name_within_a_name_is_not_looked_up() -> None:
    """Names of VIPs may look like those of maps."""
    items = resolved(
        at("a", scheduler="round_robin"),
        {**at("b", scheduler="round_robin", backends=OTHER), "name": "b-slots_a"},
        {**at("c", scheduler="round_robin", backends=backends(24)), "name": "c-backends_a"},
        {**at("d", scheduler="round_robin", backends=backends(25)), "name": "d-turns_a"},
    )
    table = render(items, OWN)
    assert read(items, loaded(table)) == table.names


# -- whose business it is


def test_who_uses_what() -> None:
    """The maps and chains that are there; of the NIC's own, what rules of VIPs ask."""
    table = render(
        resolved(
            vip("a"),
            vip("b", ports=["81"], scheduler="round_robin", persistence_timeout=60),
            at("c"),
            at("d", protocol="udp", backends=DRAINING, deny_sources=["10.0.0.0/8"]),
        ),
        OWN,
    )
    found = {name: "".join(sorted(vips)) for name, vips in users(table).items()}
    assert {name: vips for name, vips in found.items() if name in (*table.maps, *table.chains)} == {
        "pool_a": "ac",
        "poolerror_a": "ac",
        "poolbackends_a": "ac",
        "poolhandout_a": "ac",
        "slots_a": "abcd",
        "vips_ip": "ac",
        "stations_all": "abcd",
        **{f"{kind}_b": "b" for kind in ("vip", "syn", "fin", "fallback", "error")},
        **{f"{kind}_b": "b" for kind in ("backends", "handout", "turns", "flows", "closing", "clients", "fit")},
        **{f"{kind}_d": "d" for kind in ("vip", "grace", "fallback", "error")},
        **{f"{kind}_d": "d" for kind in ("backends", "handout", "flows", "deny", "switch")},
    }


# -- what holds for all configurations


def some_vips() -> st.SearchStrategy[list[ResolvedVip]]:
    return sharing_vips() | resolved_vips()


def named(vips: Sequence[ResolvedVip], kind: str, table: Table) -> dict[str, list[ResolvedVip]]:
    """Who has what of this kind."""
    found: dict[str, list[ResolvedVip]] = {}
    for item in vips:
        found.setdefault(getattr(table.names[item.vip.name], kind), []).append(item)
    found.pop("", None)
    return found


def plain(item: ResolvedVip) -> bool:
    """It asks for nothing but a hash."""
    vip_of = item.vip
    return not (
        vip_of.tracks
        or vip_of.draining
        or vip_of.deny_sources
        or vip_of.allow_sources is not None
        or vip_of.new_flows_per_source
    )


@settings(max_examples=100)
@given(st.lists(some_vips(), min_size=1, max_size=3))
def test_nothing_is_renamed_while_nothing_changes(steps: list[list[ResolvedVip]]) -> None:
    """Whatever was before: what is read from the kernel is what was asked for, and asks for the same again."""
    names: Mapping[str, Names] = {}
    for vips in steps:
        table = render(vips, OWN, names)
        assert set(table.names) == {item.vip.name for item in vips}
        in_use = read(vips, loaded(table)) if vips else {}
        assert in_use == table.names
        assert render(vips, OWN, in_use) == table
        names = in_use


@given(some_vips(), some_vips(), st.randoms(use_true_random=False))
def test_the_order_of_vips_means_nothing(before: list[ResolvedVip], after: list[ResolvedVip], random: Any) -> None:
    names = render(before, OWN).names
    table = render(after, OWN, names)
    shuffled = random.sample(after, len(after))
    turned = dict(random.sample(list(names.items()), len(names)))
    assert render(shuffled, OWN, turned) == table


@settings(max_examples=100)
@given(some_vips(), some_vips())
def test_who_shares_is_what_they_are_and_not_what_was(before: list[ResolvedVip], after: list[ResolvedVip]) -> None:
    """Names have a history; who is together with whom has none, but where VIPs have one address."""
    table = render(after, OWN, render(before, OWN).names)
    slots = {frozenset(item.vip.name for item in group) for group in named(after, "slots", table).values()}
    weights: dict[Any, set[str]] = {}
    for item in after:
        weights.setdefault(frozenset(item.weights().items()), set()).add(item.vip.name)
    assert slots == {frozenset(group) for group in weights.values()}
    # No two VIPs of one map have one address, and there are no more maps than that takes.
    pools: dict[Any, list[ResolvedVip]] = {}
    for item in filter(plain, after):
        key = (frozenset(item.weights().items()), item.backend_interface, item.family)
        pools.setdefault(key, []).append(item)
    for group in pools.values():
        most = max(Counter(item.vip.address for item in group).values())
        assert len({table.names[item.vip.name].backends for item in group}) == most
    for group in named(after, "backends", table).values():
        assert len({item.vip.address for item in group}) == len(group)
        assert len({(item.backend_interface, item.family, frozenset(item.weights().items())) for item in group}) == 1
        assert all(plain(item) for item in group) or len(group) == 1
    for group in named(after, "turns", table).values():
        takers = {(len(i.vip.backends), *((b.address, b.weight) for b in i.takers)) for i in group}
        assert len({(number, frozenset(rest)) for number, *rest in takers}) == 1
    assert {item.vip.name for item in after if table.names[item.vip.name].turns} == {
        item.vip.name for item in after if not item.vip.hashed and item.could_serve
    }


@settings(max_examples=100)
@given(some_vips(), some_vips())
def test_names_are_of_their_kind_and_of_one_thing_each(before: list[ResolvedVip], after: list[ResolvedVip]) -> None:
    table = render(after, OWN, render(before, OWN).names)
    for kind in KINDS:
        found = set(named(after, kind, table))
        things: Any = table.chains if kind in ("chain", "error") else table.maps
        words = {"chain": ("vip", "pool"), "slots": ("slots",), "turns": ("turns",)}.get(kind, (kind, f"pool{kind}"))
        assert {name.partition("_")[0] for name in found} <= set(words)
        assert found == {name for name in things if name.partition("_")[0] in words}
    for name, names in table.names.items():
        mine = (f"vip_{name}", f"error_{name}", f"backends_{name}", f"handout_{name}")
        found_names = (names.chain, names.error, names.backends, names.handout)
        assert found_names == mine or all(found.startswith("pool") for found in found_names)
    # Who uses the name of another one does so because that one has it, or had it before.
    owners = {name.partition("_")[2].partition(".")[0] for kind in KINDS for name in named(after, kind, table)}
    assert owners <= {item.vip.name for item in (*before, *after)}


def own_words(rules: Sequence[str], names: Names) -> list[str]:
    """Rules with the kinds of things in place of their names, without the one that says which addresses are VIPs."""
    said = [rule for rule in rules if "@vips_" not in rule]
    for kind in KINDS:
        if getattr(names, kind):
            said = [
                " ".join(f"@{kind}" if word == f"@{getattr(names, kind)}" else word for word in rule.split())
                for rule in said
            ]
    return said


@settings(max_examples=100)
@given(some_vips(), some_vips())
def test_vips_of_one_chain_have_the_rules_that_each_has_alone(
    before: list[ResolvedVip], after: list[ResolvedVip]
) -> None:
    table = render(after, OWN, render(before, OWN).names)
    modes = flow_modes([item.vip for item in after], ())
    for name, group in named(after, "chain", table).items():
        assert name.startswith("pool_") is all(plain(item) for item in group)
        assert len(group) == 1 or {modes[item.vip.name] for item in group} == {PLAIN}
        for item in group:
            together = table.names[item.vip.name]
            alone = render([item], OWN)
            mine = alone.names[item.vip.name]
            for kind in ("chain", "error"):
                shared = table.chains[getattr(together, kind)].rules
                single = alone.chains[getattr(mine, kind)].rules
                assert own_words(shared, together) == own_words(single, mine)
                assert len(shared) == len(single)
    # And who asks for the same over the same maps shares them.
    for group in named(after, "backends", table).values():
        chains: dict[Any, set[str]] = {}
        for item in group:
            asked = (item.vip.scheduler, item.vip.protocol, item.vip.on_empty)
            chains.setdefault(asked, set()).add(table.names[item.vip.name].chain)
        assert all(len(found) == 1 for found in chains.values())


@settings(max_examples=100)
@given(some_vips(), st.data())
def test_what_one_looks_up_is_what_it_has_alone(vips: list[ResolvedVip], data: st.DataObject) -> None:
    assume(vips)
    table, item = render(vips, OWN), data.draw(st.sampled_from(vips))
    alone = render([item], OWN)
    names, mine = table.names[item.vip.name], alone.names[item.vip.name]
    for kind in ("slots", "turns"):
        if getattr(mine, kind):
            assert table.maps[getattr(names, kind)].elements == alone.maps[getattr(mine, kind)].elements
    for kind in ("backends", "handout"):
        elements = table.maps[getattr(names, kind)].elements or {}
        whose = f"{item.vip.address} . " if plain(item) else ""
        found = {key: value for key, value in elements.items() if key.startswith(whose)}
        assert found == alone.maps[getattr(mine, kind)].elements


@given(some_vips())
def test_who_uses_a_thing_is_whom_it_concerns(vips: list[ResolvedVip]) -> None:
    table = render(vips, OWN)
    found = users(table)
    for kind in KINDS:
        for name, group in named(vips, kind, table).items():
            assert found[name] == {item.vip.name for item in group}
    for name, vips_of in found.items():
        kind, _underscore, owner = name.partition("_")
        if kind in ("flows", "closing", "clients", "fit", "allow", "deny", "newflows", "switch"):
            assert vips_of == {owner}
