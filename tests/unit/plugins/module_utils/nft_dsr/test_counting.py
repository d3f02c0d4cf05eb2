# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is counted of a VIP and its backends stays theirs, whatever maps they are in from now on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dsr.layer2.tests.unit.plugins.module_utils.nft_dsr.hosts import Host, backends, vip

pytestmark = pytest.mark.usefixtures("small_tables")

POOL = [vip("a", address="10.77.0.101"), vip("b", address="10.77.0.102"), vip("c", address="10.77.0.103")]


def apply(host: Host, *vips: dict[str, Any]) -> None:
    host.load_balancer.set_vips(list(vips), True, False)


def count(host: Host) -> None:
    """Each VIP and each of its backends gets a number of packets that no other one has."""
    elements = [
        element
        for name, item in host.nft.table.maps.items()
        if name.partition("_")[0] in ("backends", "poolbackends", "services")
        for element in item.elements.values()
    ]
    for number, element in enumerate(elements, 1):
        element.packets, element.bytes = number, 100 * number


def counted(host: Host) -> dict[tuple[str, str], int]:
    """By VIP and backend, and by VIP alone."""
    found = {}
    for info in host.load_balancer.info()[1]:
        found[info["name"], ""] = info["packets"]
        assert info["bytes"] == 100 * info["packets"]
        for backend in info["backends"]:
            found[info["name"], backend["address"]] = backend["packets"]
            assert backend["bytes"] == 100 * backend["packets"]
    return found


@pytest.fixture(params=[False, True], ids=["remembered", "forgotten"])
def host(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """One that knows what its last run left, or one that reads everything."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return Host(tmp_path, forgetful=request.param)


@pytest.mark.parametrize(("size", "place"), [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
@pytest.mark.parametrize(
    "change",
    [
        {"backends": [*backends(21, state="drain"), *backends(22, 23)]},
        {"scheduler": "round_robin"},
        {"scheduler": "connection_hash"},
        {"deny_sources": ["192.0.2.0/24"]},
        {"on_empty": "local"},
        {"backends": backends(21, 22, 23, 24)},
    ],
    ids=["drain", "turns", "hash", "deny", "empty", "pool"],
)
def test_a_vip_that_leaves_the_others_and_comes_back_counts_on(
    host: Host, change: dict[str, Any], size: int, place: int
) -> None:
    """Whoever keeps the maps that they shared, nobody's numbers are lost, and nobody has another one's."""
    together = POOL[:size]
    apart = [{**options, **change} if number == place else options for number, options in enumerate(together)]
    apply(host, *together)
    count(host)
    before = counted(host)
    assert len(set(before.values())) == len(before) == 4 * size and 0 not in before.values()
    apply(host, *apart)
    after = counted(host)
    assert {key: after[key] for key in before} == before
    assert all(after[key] == 0 for key in after if key not in before)
    apply(host, *together)
    assert counted(host) == before


def test_who_is_on_the_same_address_has_numbers_of_its_own(host: Host) -> None:
    both = [vip("a"), vip("b", ports=["81"])]
    apply(host, *both)
    count(host)
    before = counted(host)
    assert len(set(before.values())) == 8
    apply(host, *both, vip("c", ports=["82"]))
    after = counted(host)
    assert {key: after[key] for key in before} == before
    assert {number for (name, _backend), number in after.items() if name == "c"} == {0}


def test_one_who_comes_for_one_who_goes_counts_from_zero(host: Host) -> None:
    """On the same address and over the same backends, and yet somebody else."""
    apply(host, vip("a"), POOL[1])
    count(host)
    apply(host, vip("z", ports=["81"]), POOL[1])
    assert {number for (name, _backend), number in counted(host).items() if name == "z"} == {0}


def test_one_who_gets_the_map_of_one_who_goes_keeps_its_own_numbers(host: Host) -> None:
    """Two on one address were kept apart; now one map is enough."""
    apply(host, vip("a"), vip("b", ports=["81"]), vip("c", address="10.77.0.102"))
    count(host)
    before = counted(host)
    apply(host, vip("b", ports=["81"]), vip("c", address="10.77.0.102"))
    after = counted(host)
    assert after == {key: before[key] for key in after}
