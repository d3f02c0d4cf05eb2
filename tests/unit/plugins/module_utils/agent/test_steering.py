# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When counters are read and turns are written, and when not; the kernel is a few dictionaries."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.agent import steering
from ansible_collections.dsr.layer2.plugins.module_utils.agent.steering import INTERVAL, Steerer, pools_of
from ansible_collections.dsr.layer2.plugins.module_utils.common.errors import CommandError
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.batch import Overtaken, Turns
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.elements import Element
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.schedule import turn_table
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.seen import SeenFile
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.steered import TURNS_TAKEN
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import Counter, Names
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import backends, mac_of, vip

B1, B2 = 0x0A4D0015, 0x0A4D0016


def served(name: str = "web", **options: Any) -> ResolvedVip:
    wanted = {"scheduler": "least_connections", "backends": backends(21, 22), **options}
    parsed = model.parse_vip(vip(name, **wanted), "")
    macs = {backend.address: mac_of(str(backend.address)) for backend in parsed.backends}
    return ResolvedVip(parsed, "eth0", "eth0", macs)


def names_of(*items: ResolvedVip) -> dict[str, Names]:
    return {item.vip.name: Names(f"vip_{item.vip.name}", turns=f"turns_{item.vip.name}") for item in items}


class Site:
    """The kernel, the clock, and a steerer at work on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 7
        self.now = 100.0
        self.maps: dict[str, dict[int, int]] = {}
        self.counters: dict[str, dict[int, int]] = {}
        self.written: list[Mapping[str, Turns]] = []
        self.refuse: Optional[CommandError] = None
        self.said: list[str] = []
        self.read: list[str] = []
        self.sampled: list[str] = []
        self.steerer = Steerer(
            self.said.append,
            str(folder / "lock"),
            SeenFile(str(folder / "seen.json"), (), str(folder / "steered.json")),
            clock=lambda: self.now,
        )

    def raise_vip(self, *items: ResolvedVip) -> None:
        for item in items:
            numbers = item.vip.marks.values()
            self.maps[f"turns_{item.vip.name}"] = dict(enumerate(turn_table(dict.fromkeys(numbers, 1), 256)))
            self.maps[f"flows_{item.vip.name}"] = {}
            self.counters[f"opened_{item.vip.name}"] = dict.fromkeys([*numbers, TURNS_TAKEN], 0)
            self.counters[f"closed_{item.vip.name}"] = dict.fromkeys(numbers, 0)
        self.steerer.set_pools(pools_of(items, names_of(*items)))

    def come(self, name: str, number: int, to: int) -> None:
        """So many new flows."""
        self.counters[f"opened_{name}"][to] += number
        self.counters[f"opened_{name}"][TURNS_TAKEN] += number

    def look(self, after: float = INTERVAL) -> int:
        self.now += after
        self.number, self.pause = self.steerer.look(self.number)
        return len(self.written)

    # what the kernel is asked

    def elements(self, name: str) -> list[Element]:
        self.read.append(name)
        rows = [(key, 0, count) for key, count in self.counters.get(name, {}).items()]
        rows += [(key, value, 0) for key, value in self.maps.get(name, {}).items()]
        return [
            Element(key.to_bytes(4, sys.byteorder), value.to_bytes(4, sys.byteorder), Counter(count, 0))
            for key, value, count in rows
        ]

    def sample(self, name: str, at_most: int) -> tuple[dict[bytes, int], bool]:
        self.sampled.append(name)
        owners = list(self.maps[name].values())
        return {owner.to_bytes(4, sys.byteorder): owners.count(owner) for owner in set(owners)}, True

    def give_turns(self, changes: Mapping[str, Turns], number: int) -> int:
        if self.refuse is not None:
            raise self.refuse
        assert number == self.number
        for name, turns in changes.items():
            for turn, (there, owner) in turns.items():
                assert (turn in self.maps[name]) is there, "what is deleted has to be there"
                self.maps[name].pop(turn, None)
                if owner is not None:
                    self.maps[name][turn] = owner
        self.written.append(changes)
        return number + 1


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site(tmp_path)
    monkeypatch.setattr(steering, "generation", lambda: site.number)
    monkeypatch.setattr(steering, "elements", site.elements)
    monkeypatch.setattr(steering, "sample_by_value", site.sample)
    monkeypatch.setattr(steering, "give_turns", site.give_turns)
    yield site


def share(site: Site, mark: int, name: str = "web") -> float:
    turns = list(site.maps[f"turns_{name}"].values())
    return turns.count(mark) / len(turns)


def test_turns_go_to_who_has_fewer(site: Site) -> None:
    site.raise_vip(served())
    site.look()
    assert not site.written, "nothing has happened yet"
    for _look in range(10):
        site.come("web", 40, B1)
        site.look()
    assert site.written and share(site, B2) > 0.9
    assert site.number == 7 + len(site.written)


def test_nothing_is_written_where_nothing_happens_and_little_is_read(site: Site) -> None:
    site.raise_vip(served())
    site.look()
    site.read.clear()
    for _look in range(50):
        site.look()
    assert not site.written
    assert 2 * 9 <= len(site.read) <= 2 * 14, "once a second"
    site.come("web", 40, B1)
    site.look(1.0)
    site.read.clear()
    for _look in range(5):
        site.come("web", 40, B1)
        site.look()
    assert len(site.read) == 2 * 5


def test_who_is_gone_gets_no_turn_and_who_joins_starts_slowly(site: Site) -> None:
    site.raise_vip(served())
    for _look in range(3):
        site.come("web", 20, B1)
        site.come("web", 20, B2)
        site.look()
    gone = served(backends=[*backends(21), *backends(22, state="drain")])
    site.steerer.set_pools(pools_of([gone], names_of(gone)))
    site.look()
    assert share(site, B1) == 1
    back = served()
    site.steerer.set_pools(pools_of([back], names_of(back)))
    for _look in range(5):
        site.come("web", 40, B1)
        site.look()
    assert share(site, B2) < 0.2
    for _look in range(160):
        site.come("web", 40, B1)
        site.look()
    assert share(site, B2) > 0.9


def test_what_the_rules_comparison_wrote_is_taken_over(site: Site) -> None:
    """A module or the agent's own repair writes turns too; nobody's turn is deleted that is not there."""
    site.raise_vip(served())
    site.look()
    site.maps["turns_web"] = {0: B1}
    site.steerer.set_pools(pools_of([served()], names_of(served())))
    site.look()
    assert len(site.maps["turns_web"]) == 256 and 0.4 < share(site, B1) < 0.6


def test_while_a_module_is_at_work_nothing_is_written(site: Site) -> None:
    site.raise_vip(served())
    site.look()
    descriptor = os.open(site.folder / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    site.read.clear()
    site.come("web", 40, B1)
    assert site.look() == 0 and not site.read
    os.close(descriptor)
    site.look()
    site.come("web", 40, B1)
    assert site.look() > 0


def test_after_a_foreign_transaction_the_rules_are_compared_first(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.raise_vip(served())
    site.look()
    monkeypatch.setattr(steering, "generation", lambda: site.number + 1)
    site.read.clear()
    site.come("web", 40, B1)
    assert site.look() == 0 and not site.read


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (Overtaken("another transaction came first"), []),
        (CommandError("no memory"), ["turns cannot be given out, trying again: no memory"]),
    ],
)
def test_turns_that_were_not_taken_are_read_again(site: Site, refusal: CommandError, said: list[str]) -> None:
    site.raise_vip(served())
    site.look()
    site.refuse = refusal
    for _look in range(4):
        site.come("web", 40, B1)
        site.look()
    assert not site.written
    site.refuse = None
    site.come("web", 40, B1)
    site.read.clear()
    assert site.look() == 1 and "turns_web" in site.read
    assert site.said == said


def test_a_set_that_is_gone_is_told_once_and_stops_nobody_else(site: Site) -> None:
    site.raise_vip(served(), served("api", address="10.77.0.101"))
    site.look()
    kept = site.counters.pop("opened_web")
    for _look in range(4):
        site.come("api", 40, B1)
        site.look()
    assert site.said == ["web: its turns cannot be steered now: the set opened_web is not there"]
    assert share(site, B2, "api") > 0.9
    site.counters["opened_web"] = kept
    for _look in range(20):
        site.come("web", 40, B1)
        site.look()
    assert share(site, B2) > 0.9


def test_flows_are_counted_at_first_and_every_ten_seconds(site: Site) -> None:
    site.raise_vip(served())
    site.maps["flows_web"] = dict.fromkeys(range(30), B1)
    site.look()
    site.steerer.recount()
    site.steerer.recount()
    assert site.sampled == ["flows_web"]
    site.look(1.0)
    assert site.steerer.open_flows() == {"web": {B1: 30, B2: 0}}
    site.now += 10
    site.steerer.recount()
    assert len(site.sampled) == 2


def test_one_that_comes_back_is_counted_at_once(site: Site) -> None:
    """The flows that it had are its own again."""
    site.raise_vip(served())
    site.look()
    site.steerer.recount()
    gone = served(backends=[*backends(21), *backends(22, state="down")])
    site.steerer.set_pools(pools_of([gone], names_of(gone)))
    site.look()
    site.steerer.recount()
    assert len(site.sampled) == 2


def test_what_it_wrote_is_nobodys_change(site: Site) -> None:
    """What a module remembers of the kernel stays true."""
    site.raise_vip(served())
    site.look()
    for _look in range(4):
        site.come("web", 40, B1)
        site.look()
    assert json.loads((site.folder / "steered.json").read_text()) == [7, site.number]


def test_only_vips_with_turns_are_steered() -> None:
    items = [
        served("a"),
        served("b", scheduler="round_robin", address="10.77.0.101"),
        served("c", address="10.77.0.102", protocol="udp"),
    ]
    names = {**names_of(*items), "c": Names("vip_c")}
    assert [(pool.item.vip.name, dict(pool.weights)) for pool in pools_of(items, names)] == [("a", {B1: 1, B2: 1})]


def test_a_protocol_without_connections_has_no_ends_to_be_counted(site: Site) -> None:
    site.raise_vip(served(protocol="udp"))
    site.counters["opened_web"].update({B1: 5, TURNS_TAKEN: 5})
    site.look()
    assert "closed_web" not in site.read and site.steerer.open_flows() == {"web": {B1: 5, B2: 0}}
