# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How health checks get to a VIP on one backend, and what health changes in the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import ConfigError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model, probing
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.kernel import Kernel
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.naming import names_in_use
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.probing import PROBE_MARK, PROBE_MASK, probe_marks
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.ruleset import flow_modes, render
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import Table, boot_text, mark
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

pytestmark = pytest.mark.usefixtures("small_tables")

B1, B2, B3 = (IPv4Address(f"10.77.0.{number}") for number in (21, 22, 23))
CHECK = {"type": "icmp"}


def resolved(options: Mapping[str, Any], *unhealthy: Any) -> ResolvedVip:
    parsed = model.parse_vip(dict(options), "")
    nic = parsed.backend_interface or "eth0"
    macs = {backend.address: mac_of(str(backend.address)) for backend in parsed.backends}
    return ResolvedVip(parsed, parsed.interface or nic, nic, macs, unhealthy=frozenset(unhealthy))


def through(name: str = "web", **options: Any) -> ResolvedVip:
    """A VIP that is checked through itself."""
    return resolved(vip(name, **{"health_check": CHECK, **options}))


def elements(table: Table, name: str) -> dict[str, str]:
    return dict(table.maps[name].elements or {})


# -- marks

_addresses = st.lists(st.ip_addresses(v=4) | st.ip_addresses(v=6), unique=True, max_size=20)


@given(_addresses, _addresses)
def test_a_vip_keeps_its_mark_when_others_come_and_go(some: list[Any], others: list[Any]) -> None:
    marks = probe_marks(some)
    both = probe_marks([*others, *some])
    assert list(marks) == sorted(some, key=lambda address: (address.version, int(address)))
    assert {address: both[address] for address in some} == marks
    assert probe_marks(reversed([*some, *some])) == marks


@given(_addresses)
def test_marks_are_distinct_and_of_their_kind(some: list[Any]) -> None:
    marks = probe_marks(some)
    assert len(set(marks.values())) == len(marks) == len(some)
    assert {number & PROBE_MASK for number in marks.values()} <= {PROBE_MARK}
    assert all(number < 2**32 for number in marks.values())


def test_marks_outlast_a_release() -> None:
    """An agent and a module of two releases have to mean the same."""
    marks = probe_marks([IPv4Address("10.77.0.100"), IPv6Address("fd00:77::100")])
    assert {str(address): hex(number) for address, number in marks.items()} == {
        "10.77.0.100": "0xf5a1c950",
        "fd00:77::100": "0xf5af39bb",
    }


def test_vips_that_hash_alike_have_marks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Alike:
        def __init__(self, _data: bytes) -> None:
            pass

        def digest(self, length: int) -> bytes:
            return b"\xff" * length

    monkeypatch.setattr(probing.hashlib, "shake_128", Alike)
    marks = probe_marks(IPv4Address("10.77.0.1") + number for number in range(3))
    assert list(marks.values()) == [0xF5AFFFFF, 0xF5A00000, 0xF5A00001], "they begin again at the end"


def test_no_backend_has_such_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames to it would be addressed to a VIP on their way out."""
    for number in (PROBE_MARK, PROBE_MARK | 0xFFFFF):
        with pytest.raises(ConfigError, match="backends"):
            resolved(vip(backends=[{"address": str(IPv4Address(number))}]))

        class Hashed:
            def __init__(self, _data: bytes) -> None:
                pass

            def digest(self, length: int, number: int = number) -> bytes:
                return number.to_bytes(length, "big")

        monkeypatch.setattr(model.hashlib, "shake_128", Hashed)
        item = resolved(vip6(backends=backends6(*range(21, 25))))
        assert not any(item.mark(backend) & PROBE_MASK == PROBE_MARK for backend in item.vip.backends)
        assert len({item.mark(backend) for backend in item.vip.backends}) == 4
        monkeypatch.undo()


# -- the way there and back


def test_a_check_is_addressed_to_the_vip_on_its_way_out_and_answered_by_the_backend() -> None:
    item = through()
    table = render([item], OWN)
    number = probe_marks([item.vip.address])[item.vip.address]
    chain = table.chains["egress_eth0"]
    assert (chain.device, chain.hook) == ("eth0", "egress")
    assert chain.rules == (
        "meta mark & 0xfff00000 != 0xf5a00000 accept",
        "ip daddr set meta mark map @probes_eth0",
    )
    assert elements(table, "probes_eth0") == {mark(number): "10.77.0.100"}
    assert table.chains["ingress_eth0"].rules[-1] == (
        "fib daddr type local ip saddr set ether saddr . ip saddr map @answers_eth0"
    )
    assert elements(table, "answers_eth0") == {
        f"{mac_of(str(address))} . 10.77.0.100": str(address) for address in (B1, B2, B3)
    }
    assert table.chains["ingress_eth0"].hook == "ingress"


def test_answers_come_through_the_nic_of_the_backends() -> None:
    """Whichever one the VIP's clients come through."""
    table = render([through(interface="eth1", backend_interface="eth0")], OWN)
    assert {name for name in table.chains if name.startswith("egress")} == {"egress_eth0"}
    assert "answers_eth0" in table.chains["ingress_eth0"].rules[-1]
    assert table.chains["ingress_eth0"].rules[0] == "meta pkttype != host accept"
    assert len(table.chains["ingress_eth0"].rules) == 2, "no client of the VIP comes through it"
    assert not any("fib" in rule for rule in table.chains["ingress_eth1"].rules)
    nft = MemoryNft()
    nft.load(boot_text(table))
    assert {name: (chain.device, chain.hook) for name, chain in nft.table.chains.items() if chain.device} == {
        "ingress_eth0": ("eth0", "ingress"),
        "ingress_eth1": ("eth1", "ingress"),
        "egress_eth0": ("eth0", "egress"),
    }


def test_each_family_has_its_own() -> None:
    items = [resolved(vip6("six", health_check=CHECK)), through("four"), resolved(vip("plain", ports=["81"]))]
    table = render(items, OWN)
    assert table.chains["egress_eth0"].rules[1:] == (
        "ip daddr set meta mark map @probes_eth0",
        "ip6 daddr set meta mark map @probes6_eth0",
    )
    assert [rule for rule in table.chains["ingress_eth0"].rules if "fib" in rule] == [
        "fib daddr type local ip saddr set ether saddr . ip saddr map @answers_eth0",
        "fib daddr type local ip6 saddr set ether saddr . ip6 saddr map @answers6_eth0",
    ]
    assert set(elements(table, "answers6_eth0").values()) == {f"fd00:77::{number}" for number in (21, 22, 23)}
    assert len(elements(table, "answers_eth0")) == 3


@pytest.mark.parametrize(
    "check",
    [
        None,
        {"type": "tcp", "via": "backend"},
        {"type": "icmp", "via": "backend"},
        {"type": "exec", "command": ["/bin/true"]},
    ],
)
def test_what_does_not_go_through_the_vip_needs_nothing(check: Any) -> None:
    table = render([resolved(vip(health_check=check))], OWN)
    assert not [name for name in (*table.maps, *table.chains) if name.startswith(("egress", "probes", "answers"))]
    assert not any("fib" in rule for chain in table.chains.values() for rule in chain.rules)


def test_who_is_unhealthy_is_asked_all_the_same() -> None:
    """Or it would never come back; nobody is answered for whose MAC is not known, or that another VIP has."""
    item = through(backends=[*backends(21, 22), *backends(23, backup=True)])
    without = replace(item, unhealthy=frozenset([B1]), macs={B1: mac_of("10.77.0.21"), B2: mac_of("10.77.0.22")})
    table = render([without, resolved(vip("plain", ports=["81"], backends=backends(24)))], OWN)
    assert set(elements(table, "answers_eth0").values()) == {"10.77.0.21", "10.77.0.22"}


# -- what health changes


def test_an_unhealthy_backend_is_out_of_its_vip_only() -> None:
    items = [
        through(),
        through("api", address="10.77.0.101"),
        through("turns", ports=["81"], scheduler="round_robin"),
    ]
    failing = [replace(items[0], unhealthy=frozenset([B1])), items[1], replace(items[2], unhealthy=frozenset([B2]))]
    before, after = render(items, OWN), render(failing, OWN)
    assert before.names == after.names
    backend = mark(int(B1))
    lost = set(elements(before, before.names["web"].backends)) - set(elements(after, after.names["web"].backends))
    assert lost == {f"10.77.0.100 . {backend}"}
    instead = elements(after, after.names["web"].handout)
    assert instead and set(instead.values()) <= {mark(int(B2)), mark(int(B3))}
    assert {key.split(" . ")[0] for key in instead} == {"10.77.0.100"}
    turns = set(elements(after, after.names["turns"].turns).values())
    assert turns == {mark(int(B1)), mark(int(B3))}
    assert mark(int(B2)) not in elements(after, after.names["turns"].backends)


def test_backups_serve_while_all_others_fail() -> None:
    pool = [*backends(21, 22), *backends(23, backup=True)]
    item = replace(through(backends=pool), unhealthy=frozenset([B1, B2]))
    assert [backend.address for backend in item.takers] == [B3]
    table = render([item], OWN)
    assert set(elements(table, table.names["web"].handout).values()) == {mark(int(B3))}


@pytest.mark.parametrize("scheduler", ["source_hash", "round_robin"])
def test_nobody_left_is_nobody_served(scheduler: str) -> None:
    item = replace(through(scheduler=scheduler), unhealthy=frozenset([B1, B2, B3]))
    table = render([item], OWN)
    names = table.names["web"]
    assert item.could_serve and item.takers == []
    assert elements(table, names.backends) == {} and elements(table, names.handout) == {}
    assert not names.turns or elements(table, names.turns) == {}


def test_who_was_never_to_serve_does_not_by_being_healthy() -> None:
    assert not resolved(vip(health_check=CHECK, backends=backends(21, 22, state="down"))).could_serve
    assert not resolved(vip(health_check=CHECK, backends=backends(21, weight=0))).could_serve


def test_turns_of_vips_that_are_checked_are_their_own() -> None:
    """Equal now, and another's with the next answer; VIPs that nobody checks share theirs."""
    options = {"scheduler": "round_robin", "backends": backends(21, 22)}
    items = [
        resolved(vip("a", ports=["1"], health_check=CHECK, **options)),
        resolved(vip("b", ports=["2"], health_check=CHECK, **options)),
        resolved(vip("c", ports=["3"], **options)),
        resolved(vip("d", ports=["4"], **options)),
    ]
    names = render(items, OWN).names
    assert len({names[name].turns for name in "abc"}) == 3 and names["c"].turns == names["d"].turns
    assert len({names[name].slots for name in "abcd"}) == 1, "slots are everybody's, whoever serves"


@given(resolved_vips() | sharing_vips(), st.data())
def test_no_combination_of_health_changes_a_rule_or_a_map(vips: list[ResolvedVip], data: st.DataObject) -> None:
    """Elements of its own VIP's maps alone, so that a change is small, and cannot fail halfway."""
    assume(any(item.vip.health_check for item in vips))
    modes = flow_modes([item.vip for item in vips], ())
    well = [replace(item, unhealthy=frozenset()) for item in vips]
    checked = data.draw(st.sampled_from([item for item in well if item.vip.health_check]))
    addresses = st.sampled_from([backend.address for backend in checked.vip.backends])
    failing = data.draw(st.frozensets(addresses, min_size=1))
    ill = [replace(item, unhealthy=failing) if item is checked else item for item in vips]
    before = render(well, OWN, modes=modes)
    nft = MemoryNft()
    nft.load(boot_text(before))
    for after in (
        render(ill, OWN, modes=modes),
        render(ill, OWN, names_in_use([item.vip for item in ill], Kernel(nft).read()), modes),
    ):
        assert after.names == before.names
        assert after.chains == before.chains and list(after.chains) == list(before.chains)
        assert {name: (item.kind, item.declaration, item.spec) for name, item in after.maps.items()} == {
            name: (item.kind, item.declaration, item.spec) for name, item in before.maps.items()
        }


@given(resolved_vips() | sharing_vips(), st.data())
def test_health_is_each_vips_own(vips: list[ResolvedVip], data: st.DataObject) -> None:
    """Of what others look up nothing is another's by the health of one."""
    assume(any(item.vip.health_check for item in vips))
    checked = data.draw(st.sampled_from([item for item in vips if item.vip.health_check]))
    well = replace(checked, unhealthy=frozenset())
    ill = replace(checked, unhealthy=frozenset(backend.address for backend in checked.vip.backends[:1]))
    modes = flow_modes([item.vip for item in vips], ())
    tables = [render([new if item is checked else item for item in vips], OWN, modes=modes) for new in (well, ill)]
    mine = tables[0].names[checked.vip.name]
    own = {mine.backends, mine.handout, mine.turns, f"fit_{checked.vip.name}"}
    for name, item in tables[0].maps.items():
        if name not in own:
            assert item == tables[1].maps[name], name
        elif name.startswith("pool"):
            prefix = f"{checked.vip.address} . "
            before, after = (
                {key: value for key, value in elements(table, name).items() if not key.startswith(prefix)}
                for table in tables
            )
            assert before == after
