# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel was last seen to have: any doubt is no memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model, seen
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.resolved import ResolvedVip
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.ruleset import render
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.seen import Moment, SeenFile
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr.table import Names, Table
from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import OWN, mac_of, vip

pytestmark = pytest.mark.usefixtures("small_tables")


def rendered(**options: Any) -> Table:
    parsed = model.parse_vip(vip(**options), "")
    macs = {backend.address: mac_of(str(backend.address)) for backend in parsed.backends}
    return render([ResolvedVip(parsed, "eth0", "eth0", macs)], OWN)


@pytest.fixture
def moment() -> Moment:
    found = seen.now(7, {"eth0": 2})
    assert found is not None
    return found


@pytest.fixture
def memory(tmp_path: Path) -> SeenFile:
    run = tmp_path / "run"
    return SeenFile(str(run / "seen.json"), (), str(run / "steered.json"))


def test_what_was_seen_is_what_is_wanted(memory: SeenFile, moment: Moment) -> None:
    table = rendered(scheduler="round_robin", persistence_timeout=60, deny_sources=["10.0.0.0/8"])
    memory.write(moment, table)
    found = memory.read(moment)
    assert found is not None and found.names == {"web": Names("vip_web", "slots_web", "backends_web", "turns_web")}
    have, codes, unread = found.compared_with(table)
    assert unread == [] and have.present
    assert {name: (item.kind, item.spec) for name, item in have.maps.items()} == {
        name: (item.kind, item.spec) for name, item in table.maps.items()
    }
    assert have.elements == {name: item.elements for name, item in table.maps.items() if item.elements is not None}
    assert {name: chain.code for name, chain in have.chains.items()} == codes
    assert set(have.chains) == set(table.chains)
    assert have.chains["ingress_eth0"].hook is not None and have.chains["vip_web"].hook is None


@pytest.mark.parametrize(
    ("options", "unread", "rewritten"),
    [
        ({}, [], []),
        ({"deny_sources": ["10.0.0.0/9"]}, ["deny_web"], []),
        ({"flow_table": {"timeouts": {"syn": 5}}}, [], ["syn_web"]),
        ({"scheduler": "weighted_round_robin"}, [], []),
        ({"backends": [{"address": "10.77.0.21"}, {"address": "10.77.0.22"}]}, None, []),
    ],
)
def test_what_differs_is_read_or_rewritten(
    memory: SeenFile, moment: Moment, options: dict[str, Any], unread: Any, rewritten: list[str]
) -> None:
    plain = {"scheduler": "round_robin", "deny_sources": ["10.0.0.0/8"]}
    table = rendered(**plain)
    memory.write(moment, table)
    found = memory.read(moment)
    assert found is not None
    have, codes, to_read = found.compared_with(rendered(**{**plain, **options}))
    assert [name for name, chain in have.chains.items() if codes.get(name) != chain.code] == rewritten
    assert not set(to_read) & set(have.elements), "of what differs nothing is taken for known"
    if unread is not None:
        assert to_read == unread
    else:
        assert {"slots_web", "turns_web", "backends_web"} <= set(to_read)


def test_what_vips_go_through_is_remembered(memory: SeenFile, moment: Moment) -> None:
    """Not the names of the moment, but those that things have had since before."""
    parsed = model.parse_vip(vip(), "")
    macs = {backend.address: mac_of(str(backend.address)) for backend in parsed.backends}
    had = {"web": Names("pool_other", "slots_any", "poolbackends_else")}
    memory.write(moment, render([ResolvedVip(parsed, "eth0", "eth0", macs)], OWN, had))
    found = memory.read(moment)
    assert found is not None and found.names == had


DOUBTS: dict[str, Callable[[Moment], Any]] = {
    "a transaction": lambda moment: replace(moment, generation=moment.generation + 1),
    "one less": lambda moment: replace(moment, generation=moment.generation - 1),
    "a boot": lambda moment: replace(moment, boot="other"),
    "another namespace": lambda moment: replace(moment, namespace=moment.namespace + 1),
    "a NIC made anew": lambda moment: replace(moment, nics={"eth0": 3}),
    "a NIC less": lambda moment: replace(moment, nics={}),
    "another NIC": lambda moment: replace(moment, nics={"eth1": 2}),
    "nobody knows": lambda moment: None,
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_at_any_other_moment_nothing_is_known(memory: SeenFile, moment: Moment, doubt: str) -> None:
    memory.write(moment, rendered())
    assert memory.read(moment) is not None
    assert memory.read(DOUBTS[doubt](moment)) is None


def test_a_nic_that_has_come_since_takes_nothing_from_what_is_known(memory: SeenFile, moment: Moment) -> None:
    memory.write(moment, rendered())
    known = memory.read(moment)
    assert known is not None and memory.read(replace(moment, nics={"eth0": 2, "eth1": 3})) == known


@pytest.mark.parametrize(
    "text",
    ["", "?", "[]", "null", "{}", '{"version": 1}', "\x00", "7", '"x"', "[" * 2000],
)
def test_a_file_that_is_none_is_no_memory(tmp_path: Path, moment: Moment, text: str) -> None:
    path = tmp_path / "seen.json"
    path.write_text(text)
    assert SeenFile(str(path)).read(moment) is None


@pytest.mark.parametrize("key", ["version", "moment", "maps", "chains", "names"])
@pytest.mark.parametrize("value", [None, 9, [], "x", {"web": 1}])
def test_a_file_of_another_form_is_no_memory(tmp_path: Path, moment: Moment, key: str, value: Any) -> None:
    path = tmp_path / "seen.json"
    memory = SeenFile(str(path))
    memory.write(moment, rendered())
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, key: value}))
    assert memory.read(moment) is None
    path.write_text(json.dumps({other: document[other] for other in document if other != key}))
    assert memory.read(moment) is None


def test_no_table_and_no_moment_leave_no_memory(memory: SeenFile, moment: Moment) -> None:
    for table, at in ((Table({}, {}), moment), (rendered(), None)):
        memory.write(moment, rendered())
        memory.write(at, table)
        assert memory.read(moment) is None


def test_a_memory_can_be_read_by_the_agent(tmp_path: Path, moment: Moment) -> None:
    """It is another user, and nothing in there is a secret."""
    path = tmp_path / "seen.json"
    SeenFile(str(path)).write(moment, rendered())
    assert path.stat().st_mode & 0o777 == 0o644


def test_another_memory_serves_as_well(tmp_path: Path, moment: Moment) -> None:
    """Whoever had the last transaction has the one that holds."""
    mine, other = (SeenFile(str(tmp_path / name), (str(tmp_path / of),)) for name, of in (("a", "b"), ("b", "a")))
    later = replace(moment, generation=moment.generation + 1)
    mine.write(moment, rendered())
    assert mine.read(moment) is not None
    assert other.read(moment) == mine.read(moment)
    other.write(later, rendered())
    assert mine.read(later) is not None and mine.read(replace(later, generation=9999)) is None


@pytest.mark.parametrize("word", ["x; flush ruleset", 'x\ninclude "/etc/shadow"', "x { }", "$x", "x#"])
@pytest.mark.parametrize("where", ["maps", "chains", "names", "kind", "backends"])
def test_anothers_words_are_names_and_nothing_else(tmp_path: Path, moment: Moment, word: str, where: str) -> None:
    """They end up in what root has nft do."""
    other = tmp_path / "other.json"
    SeenFile(str(other)).write(moment, rendered())
    document = json.loads(other.read_text())
    if where in document:
        document[where][word] = next(iter(document[where].values()))
    else:
        next(iter(document["maps" if where == "kind" else "names"].values()))[where] = word
    other.write_text(json.dumps(document))
    assert SeenFile(str(other)).read(moment) is not None, "of a file of its own it is no question"
    assert SeenFile(str(tmp_path / "mine.json"), (str(other),)).read(moment) is None


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_anothers_tricks(tmp_path: Path, moment: Moment, kind: str) -> None:
    other, real = tmp_path / "other.json", tmp_path / "real.json"
    SeenFile(str(real)).write(moment, rendered())
    if kind == "link":
        other.symlink_to(real)
    elif kind == "pipe":
        os.mkfifo(other)
    else:
        other.mkdir()
    assert SeenFile(str(tmp_path / "mine.json"), (str(other),)).read(moment) is None


def test_a_kernel_that_does_not_tell_is_no_moment() -> None:
    assert seen.now(None, {"eth0": 2}) is None


def at(moment: Moment, generation: int) -> Moment:
    return replace(moment, generation=generation)


def steered_table() -> Table:
    table = rendered(scheduler="least_connections")
    return replace(table, maps={**table.maps, "turns_web": replace(table.maps["turns_web"], steered=True)})


def test_turns_that_were_given_out_since_change_nothing_that_is_remembered(memory: SeenFile, moment: Moment) -> None:
    memory.write(moment, steered_table())
    for number in range(7, 12):
        memory.advance(number, number + 1)
        assert memory.read(at(moment, number + 1)) is not None
    assert memory.read(at(moment, 11)) is None and memory.read(at(moment, 13)) is None
    memory.write(at(moment, 12), steered_table())  # a module looked, and changed nothing
    memory.advance(12, 13)
    assert memory.read(at(moment, 13)) is not None


def test_a_foreign_transaction_among_them_is_a_doubt(memory: SeenFile, moment: Moment) -> None:
    memory.write(moment, steered_table())
    memory.advance(7, 8)
    memory.advance(9, 10)
    assert memory.read(at(moment, 10)) is None
    memory.write(at(moment, 10), steered_table())
    memory.advance(10, 11)
    assert memory.read(at(moment, 11)) is not None


def test_of_turns_that_are_steered_only_whose_they_may_be_is_remembered() -> None:
    table, other = rendered(scheduler="least_connections"), rendered(scheduler="least_connections")
    item = replace(table.maps["turns_web"], steered=True)
    turned = replace(item, elements=dict(zip(item.elements or {}, reversed((item.elements or {}).values()))))
    assert seen.digest_of_map(item) == seen.digest_of_map(turned) != seen.digest_of_map(other.maps["turns_web"])
    fewer = replace(item, elements=dict.fromkeys(item.elements or {}, "0x0a4d0015"))
    assert seen.digest_of_map(fewer) != seen.digest_of_map(item)


def test_who_remembers_whose_each_turn_was_knows_nothing_after_turns_were_given_out(
    memory: SeenFile, moment: Moment
) -> None:
    """As a run before the agent came."""
    memory.write(moment, rendered(scheduler="least_connections"))
    memory.advance(7, 8)
    assert memory.read(at(moment, 8)) is None
