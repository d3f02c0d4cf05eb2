# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slot tables: fair, the same everywhere, and moving little."""

from __future__ import annotations

import hashlib
import itertools
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import schedule

_FIRST = 0x0A4D0015  # 10.77.0.21

numbers = st.integers(1, 0xDFFFFFFF)
small_pools = st.dictionaries(numbers, st.integers(1, 20), min_size=1, max_size=8)
any_pools = st.dictionaries(numbers, st.integers(1, 65535), min_size=1, max_size=16)


def pool(size: int, first: int = _FIRST) -> dict[int, int]:
    return dict.fromkeys(range(first, first + size), 1)


def without(weights: Mapping[int, int], *gone: int) -> dict[int, int]:
    return {backend: weight for backend, weight in weights.items() if backend not in gone}


def moved(before: Sequence[int], after: Sequence[int], but: int) -> float:
    """The share of the others' slots that changed hands. A slot of a smaller table is a stretch of the larger one's."""
    slots = max(len(before), len(after))
    others = [
        (before[slot * len(before) // slots], after[slot * len(after) // slots])
        for slot in range(slots)
        if before[slot * len(before) // slots] != but
    ]
    return sum(old != new for old, new in others) / len(others)


def removals(size: int, first: int = _FIRST, gone: Sequence[int] = ()) -> list[float]:
    """What taking one backend away moves of the others', for each that is named (by default for every one)."""
    weights = pool(size, first)
    before = schedule.hash_table(weights)
    return [
        moved(before, schedule.hash_table(without(weights, first + place)), first + place)
        for place in gone or range(size)
    ]


def busiest(weights: Mapping[int, int], table: Sequence[int]) -> float:
    """The largest load for its share."""
    counts, total = Counter(table), sum(weights.values())
    return max(counts[backend] * total / (len(table) * weight) for backend, weight in weights.items())


def digest(table: Sequence[int]) -> str:
    return hashlib.sha256(",".join(map(str, table)).encode()).hexdigest()[:16]


# -- hash slots


@given(any_pools, st.randoms(use_true_random=False))
def test_the_order_of_a_pool_means_nothing(weights: dict[int, int], random: object) -> None:
    shuffled = list(weights.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert schedule.hash_table(dict(shuffled)) == schedule.hash_table(weights)
    assert schedule.turn_table(dict(shuffled), 256) == schedule.turn_table(weights, 256)


@given(any_pools)
def test_every_backend_has_a_slot_and_nobody_else(weights: dict[int, int]) -> None:
    table = schedule.hash_table(weights)
    assert set(table) == set(weights)
    assert len(table) == schedule.hash_slots(len(weights))


@pytest.mark.parametrize("size", [17, 24, 31, 1024])
def test_every_backend_of_a_large_pool_has_a_slot(size: int) -> None:
    """One of them outweighs all others by far."""
    assert set(schedule.hash_table({**pool(size - 1), 1: 65535})) == {1, *pool(size - 1)}


def test_no_pool_has_no_slots() -> None:
    assert schedule.hash_table({}) == []
    assert schedule.turn_table({}, 256) == []
    assert schedule.handout({}, []) == {}


@pytest.mark.parametrize(
    ("size", "slots", "turns"),
    [
        (1, 384, 256),
        (4, 384, 256),
        (5, 384, 1024),
        (16, 384, 1024),
        (17, 24576, 4096),
        (64, 24576, 4096),
        (65, 24576, 65536),
        (1024, 24576, 65536),
    ],
)
def test_tables_grow_with_the_pool(size: int, slots: int, turns: int) -> None:
    assert (schedule.hash_slots(size), schedule.turn_slots(size)) == (slots, turns)
    assert 24576 % 384 == 0  # so that slots of one are slots of the other, split


def test_a_table_of_another_size() -> None:
    weights = pool(3)
    table = schedule.hash_table(weights, 24576)
    assert len(table) == 24576
    assert busiest(weights, table) < 1.02
    assert set(schedule.hash_table(pool(200), 384)) == set(pool(200))
    assert len(schedule.hash_table(pool(500), 384)) == 384  # more backends than slots: not everybody can have one


GOLDEN = {
    "3 of different weights": ({_FIRST: 1, _FIRST + 1: 2, _FIRST + 2: 3}, "8069760103f797db"),
    "9": (pool(9), "6b2bab5723daee94"),
    "20, where the large table begins": (pool(20), "ad25eaadb95d6143"),
    "33, where bounds are met": (pool(33), "342e0dccd2674f24"),
}


@pytest.mark.parametrize("what", GOLDEN)
def test_every_machine_and_every_version_has_the_same_table(what: str) -> None:
    """A table that changes with an update of this collection would break every connection of a pool."""
    weights, expected = GOLDEN[what]
    assert digest(schedule.hash_table(weights)) == expected


def test_every_machine_and_every_version_has_the_same_turns() -> None:
    assert digest(schedule.turn_table({_FIRST: 1, _FIRST + 1: 2, _FIRST + 2: 3}, 256)) == "fc64c8136c20d8e4"


@given(small_pools, st.integers(1, 3000))
def test_only_the_proportion_of_weights_counts(weights: dict[int, int], factor: int) -> None:
    scaled = {backend: weight * factor for backend, weight in weights.items()}
    assert schedule.hash_table(scaled) == schedule.hash_table(weights)
    assert schedule.handout(scaled, list(scaled)[1:]) == schedule.handout(weights, list(weights)[1:])


def bids(backend: int, slots: int, number: int) -> list[int]:
    """The slots that a backend bids for: 16 bits for each, as a network has them."""
    stream = hashlib.shake_128(b"dsr.layer2 slots %d" % backend).digest(2 * number)
    return [int.from_bytes(stream[2 * bid : 2 * bid + 2], "big") % slots for bid in range(number)]


def race(weights: Mapping[int, int], slots: int, headroom: float) -> list[int]:
    """The race told in the plainest way: all bids sorted by time, in fractions, one after the other."""
    total = sum(weights.values())
    order = sorted(weights)
    all_bids = sorted(
        (Fraction(2 * bid + 1, weights[backend]), -place if bid % 2 else place, backend, slot)
        for place, backend in enumerate(order)
        for bid, slot in enumerate(bids(backend, slots, -(-60 * slots * weights[backend] // total)))
    )
    room = {
        backend: max(1, math.ceil(slots * weight / total + headroom * math.sqrt(slots * weight / total)))
        for backend, weight in weights.items()
    }
    owners: dict[int, int] = {}
    for _time, _place, backend, slot in all_bids:
        if slot not in owners and room[backend]:
            owners[slot] = backend
            room[backend] -= 1
    return [owners[slot] for slot in range(slots)]


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(numbers, st.integers(1, 5), min_size=2, max_size=8))
def test_a_table_is_the_outcome_of_the_race(weights: dict[int, int]) -> None:
    assert schedule.hash_table(weights) == race(weights, 384, 2.4)


@settings(max_examples=5, deadline=None)
@given(numbers)
def test_a_table_of_equals_is_the_outcome_of_the_race(first: int) -> None:
    assert schedule.hash_table(pool(16, first)) == race(pool(16, first), 384, 1.6)


# -- shares


@given(st.integers(1, 8), numbers)
def test_a_bound_on_the_busiest_of_up_to_8(size: int, first: int) -> None:
    table = schedule.hash_table(pool(size, first))
    share = len(table) / size
    assert max(Counter(table).values()) <= math.ceil(share + 2.4 * math.sqrt(share))


def test_the_busiest_of_8_has_15_percent_more_than_its_share_on_average() -> None:
    assert mean(busiest(pool(8, 9 * n), schedule.hash_table(pool(8, 9 * n))) for n in range(1, 200)) <= 1.155


@pytest.mark.parametrize("first", [_FIRST, 0xC0A80001])
def test_the_busiest_of_32_has_two_and_a_half_percent_more_than_its_share(first: int) -> None:
    weights = pool(32, first)
    assert busiest(weights, schedule.hash_table(weights)) <= 1.025


@pytest.mark.parametrize(
    ("size", "most"), [(16, 1.35), (17, 1.025), (20, 1.025), (30, 1.025), (128, 1.05), (256, 1.075), (1024, 1.17)]
)
def test_the_busiest_of_larger_pools(size: int, most: float) -> None:
    assert busiest(pool(size), schedule.hash_table(pool(size))) <= most


@given(any_pools)
def test_shares_follow_the_weights(weights: dict[int, int]) -> None:
    table = schedule.hash_table(weights)
    counts, total = Counter(table), sum(weights.values())
    for backend, weight in weights.items():
        share = len(table) * weight / total
        assert 1 <= counts[backend] <= max(1, math.ceil(share + 2.4 * math.sqrt(share)))


def test_shares_follow_the_weights_on_average() -> None:
    """The bound alone would let a heavy backend have what a light one has."""
    counts: Counter[int] = Counter()
    for first in range(0, 1600, 4):
        table = schedule.hash_table({first + weight: weight for weight in (1, 2, 3)})
        counts.update(owner - first for owner in table)
    for weight in (1, 2, 3):
        assert abs(counts[weight] / counts.total() - weight / 6) < 0.005, counts


def test_one_that_weighs_next_to_nothing_has_a_slot_all_the_same() -> None:
    counts = Counter(schedule.hash_table({1: 1, 2: 65535, 3: 65535}))
    assert counts[1] == 1 and abs(counts[2] - counts[3]) < 0.4 * counts[2]
    counts = Counter(schedule.hash_table({**pool(7, 1), 8: 65535}))
    assert [counts[backend] for backend in range(1, 8)] == [1] * 7


# -- slots of backends that are not available


@given(any_pools, st.data())
def test_a_handout_touches_slots_of_the_unavailable_alone(weights: dict[int, int], data: st.DataObject) -> None:
    available = data.draw(st.sets(st.sampled_from(sorted(weights))))
    strangers = data.draw(st.sets(numbers, max_size=2)) - set(weights)
    table = schedule.hash_table(weights)
    given_out = schedule.handout(weights, available | strangers)
    if not available:
        assert given_out == {}
        return
    assert set(given_out) == {slot for slot, owner in enumerate(table) if owner not in available}
    assert set(given_out.values()) <= available


def served(weights: Mapping[int, int], available: Sequence[int]) -> list[int]:
    """The table as packets meet it."""
    homes = schedule.handout(weights, available)
    return [homes.get(slot, owner) for slot, owner in enumerate(schedule.hash_table(weights))]


@given(any_pools.filter(lambda weights: len(weights) > 2), st.data())
def test_one_more_that_fails_moves_its_own_slots_alone(weights: dict[int, int], data: st.DataObject) -> None:
    """And, read the other way round, one that comes back gets exactly its own."""
    order = data.draw(st.permutations(sorted(weights)))
    number = data.draw(st.integers(1, len(order) - 2))
    before, after = served(weights, order[number:]), served(weights, order[number + 1 :])
    for old, new in zip(before, after):
        assert new == old or old == order[number]
    assert order[number] not in after


@pytest.mark.parametrize("size", [20, 40])
def test_one_more_that_fails_in_a_large_pool_moves_its_own_slots_alone(size: int) -> None:
    weights = pool(size)
    order = list(weights)
    for number in (0, 1, 5, size - 2):
        before, after = served(weights, order[number:]), served(weights, order[number + 1 :])
        assert all(new == old or old == order[number] for old, new in zip(before, after))
        assert order[number] not in after


@pytest.mark.parametrize("size", [8, 20, 32])
def test_a_handout_spreads_over_everybody(size: int) -> None:
    """So that the one that takes most of it has little more than the others in the end."""
    weights = pool(size)
    available = list(weights)[1:]
    given_out = Counter(schedule.handout(weights, available).values())
    assert set(given_out) == set(available)
    assert busiest(without(weights, _FIRST), served(weights, available)) < {8: 1.35, 20: 1.2, 32: 1.05}[size]


# -- backups


@given(any_pools, any_pools, st.data())
def test_backups_serve_only_when_nobody_else_can(
    weights: dict[int, int], backups: dict[int, int], data: st.DataObject
) -> None:
    for backend in weights:
        backups.pop(backend, None)
    up = data.draw(st.sets(st.sampled_from(sorted(weights))))
    spare = data.draw(st.sets(st.sampled_from(sorted(backups)))) if backups else set()
    given_out = schedule.handout(weights, up | spare, backups)
    if up or not spare:
        assert given_out == schedule.handout(weights, up)
        return
    slots = schedule.hash_slots(len(weights))
    assert sorted(given_out) == list(range(slots))
    assert set(given_out.values()) <= spare
    for slot, owner in enumerate(schedule.hash_table(backups, slots)):
        assert given_out[slot] == owner or owner not in spare


def test_backups_have_their_shares_and_lose_their_own_alone() -> None:
    backups = {1: 1, 2: 1, 3: 2}
    everybody = schedule.handout(pool(8), backups, backups)
    assert [round(Counter(everybody.values())[number] / len(everybody), 1) for number in backups] == [0.2, 0.3, 0.5]
    fewer = schedule.handout(pool(8), [1, 3], backups)
    assert all(fewer[slot] == owner for slot, owner in everybody.items() if owner != 2)
    assert set(fewer.values()) == {1, 3}


# -- a backend leaves the configuration, or comes


def test_taking_1_of_8_away_moves_next_to_nothing_of_the_others() -> None:
    shares = [share for first in range(_FIRST, _FIRST + 240, 8) for share in removals(8, first)]
    assert mean(shares) <= 0.0001
    assert max(shares) <= 0.005


def test_taking_1_of_16_away_moves_a_tenth_of_a_percent_of_the_others_on_average() -> None:
    assert mean(share for first in range(_FIRST, _FIRST + 160, 16) for share in removals(16, first)) <= 0.001


def test_taking_1_of_32_away_moves_a_quarter_of_a_percent_of_the_others_at_most() -> None:
    assert max(removals(32, gone=range(0, 32, 3))) <= 0.0025


@pytest.mark.parametrize("size", [33, 64, 128, 256])
def test_taking_one_of_a_larger_pool_away_moves_no_more(size: int) -> None:
    assert max(removals(size, gone=[0, size // 2])) <= 0.0025


def test_the_9th_backend_moves_its_own_share() -> None:
    assert mean(removals(9)) <= 0.002


@pytest.mark.parametrize("size", range(9, 33))
def test_no_size_but_17_deals_flows_anew(size: int) -> None:
    """From 16 to 17 backends the table becomes a larger one; at every other size the next one is much the same."""
    share = removals(size, gone=[size // 2])[0]
    assert (share > 0.5) if size == 17 else (share <= 0.012), share


def test_what_a_lost_backend_had_goes_to_many() -> None:
    weights = pool(8)
    before, after = schedule.hash_table(weights), schedule.hash_table(without(weights, _FIRST))
    takers = Counter(new for old, new in zip(before, after) if old == _FIRST)
    assert set(takers) == set(weights) - {_FIRST}


def test_a_thousand_pools_of_8_take_no_two_seconds() -> None:
    since = time.process_time()
    for first in range(1 << 24, (1 << 24) + 8 * 250, 8):
        schedule.hash_table(pool(8, first))
    assert 4 * (time.process_time() - since) < 2


# -- turns


def fair_counts(weights: Mapping[int, int], slots: int) -> dict[int, int]:
    """Largest remainder with one at least, in another way: seats are given one by one to who lacks most."""
    total = sum(weights.values())
    quota = {backend: Fraction(slots * weight, total) for backend, weight in weights.items()}
    counts = {backend: max(1, int(share)) for backend, share in quota.items()}
    while sum(counts.values()) < slots:
        neediest = min(counts, key=lambda backend: (counts[backend] - quota[backend], backend))
        counts[neediest] += 1
    while sum(counts.values()) > slots:
        counts[max(counts, key=lambda backend: (counts[backend], backend))] -= 1
    return counts


@given(any_pools)
def test_turns_go_by_the_largest_remainder(weights: dict[int, int]) -> None:
    slots = schedule.turn_slots(len(weights))
    table = schedule.turn_table(weights, slots)
    assert len(table) == slots
    counts = Counter(table)
    assert counts == fair_counts(weights, slots)
    assert min(counts.values()) >= 1 and set(counts) == set(weights)


@pytest.mark.parametrize(
    ("weights", "slots", "counts"),
    [
        ({1: 1, 2: 1}, 256, {1: 128, 2: 128}),
        ({1: 1, 2: 1, 3: 1}, 256, {1: 86, 2: 85, 3: 85}),
        ({1: 5, 2: 1, 3: 1}, 256, {1: 183, 2: 37, 3: 36}),
        ({1: 1, 2: 65535}, 256, {1: 1, 2: 255}),
        # A share of 0.9 of a turn is rounded up to one, and has its remainder with that.
        ({1: 1, 2: 142, 3: 142}, 256, {1: 1, 2: 128, 3: 127}),
        ({**pool(7, 1), 8: 65535}, 1024, {**pool(7, 1), 8: 1017}),
        ({1: 3}, 256, {1: 256}),
    ],
)
def test_turns_of_some_pools(weights: dict[int, int], slots: int, counts: dict[int, int]) -> None:
    assert Counter(schedule.turn_table(weights, slots)) == counts


@given(any_pools)
def test_turns_are_smooth(weights: dict[int, int]) -> None:
    """In every stretch of turns a backend has its share, give or take little.

    How little: let q be a backend's share of S turns and N the number of backends. Its turns are due at even
    distances 1/(qS), so a stretch of time t has qSt of them, give or take less than 1, and likewise all others. Then
    a stretch of W turns has taken a time of W/S, give or take less than N/S, and more exactly the backend's own
    error counts for 1 - q of it and the others' N - 1 for q each: less than (1 - q) + q (N - 1) in all.
    """
    slots = schedule.turn_slots(len(weights))
    table = schedule.turn_table(weights, slots)
    for backend, count in Counter(table).items():
        share = Fraction(count, slots)
        ahead = [
            done - share * turn
            for turn, done in enumerate(itertools.accumulate((owner == backend for owner in table), initial=0))
        ]
        # The counter goes round, and as the table holds exactly its share, so does this: every stretch is in it.
        assert max(ahead) - min(ahead) < (1 - share) + share * (len(weights) - 1) or len(weights) == 1


@given(any_pools)
def test_nobody_waits_long_for_a_turn(weights: dict[int, int]) -> None:
    """Two turns of a backend are at most as far apart as its share says and one turn of each of the others.

    That follows from the bound above: a stretch of W turns without one of its own is W q behind.
    """
    slots = schedule.turn_slots(len(weights))
    table = schedule.turn_table(weights, slots)
    for backend, count in Counter(table).items():
        turns = [turn for turn, owner in enumerate(table) if owner == backend]
        gaps = [later - turn for turn, later in zip(turns, [*turns[1:], turns[0] + slots])]
        assert max(gaps) <= slots / count + len(weights) - 1


@pytest.mark.parametrize(
    ("weights", "longest"),
    [
        ({1: 1, 2: 1}, 1),
        ({1: 1, 2: 1, 3: 1}, 1),
        (pool(8, 1), 1),
        ({1: 2, 2: 1}, 3),  # 171 turns, parted by 85
        ({1: 5, 2: 1, 3: 1}, 4),
        ({1: 5, 2: 5, 3: 1}, 2),
        ({1: 10, 2: 10, 3: 10, 4: 1}, 2),
        ({1: 9, 2: 1}, 10),  # its 230 turns are parted by the other's 26
    ],
)
def test_nobody_has_many_turns_in_a_row(weights: dict[int, int], longest: int) -> None:
    table = schedule.turn_table(weights, schedule.turn_slots(len(weights)))
    assert max(len(list(run)) for _backend, run in itertools.groupby(table)) <= longest


@settings(max_examples=10)
@given(st.dictionaries(numbers, st.integers(1, 65535), min_size=9, max_size=64))
def test_turns_of_large_pools(weights: dict[int, int]) -> None:
    slots = schedule.turn_slots(len(weights))
    assert Counter(schedule.turn_table(weights, slots)) == fair_counts(weights, slots)
