# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slot tables: fair, the same everywhere, and moving little."""

from __future__ import annotations

import hashlib
import itertools
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
any_pools = st.dictionaries(numbers, st.integers(1, 65535), min_size=1, max_size=8)


def pool(size: int, first: int = _FIRST) -> dict[int, int]:
    return dict.fromkeys(range(first, first + size), 1)


def without(weights: Mapping[int, int], *gone: int) -> dict[int, int]:
    return {backend: weight for backend, weight in weights.items() if backend not in gone}


def moved(before: Sequence[int], after: Sequence[int], but: int) -> float:
    """The share of the others' slots that changed hands."""
    others = [(old, new) for old, new in zip(before, after) if old != but]
    return sum(old != new for old, new in others) / len(others)


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


def test_no_pool_has_no_slots() -> None:
    assert schedule.hash_table({}) == []
    assert schedule.turn_table({}, 256) == []
    assert schedule.handout({}, []) == {}


@pytest.mark.parametrize(
    ("size", "slots", "turns"),
    [
        (1, 512, 256),
        (4, 512, 256),
        (5, 512, 1024),
        (8, 512, 1024),
        (9, 16384, 1024),
        (17, 16384, 4096),
        (32, 16384, 4096),
        (33, 65536, 4096),
        (65, 65536, 65536),
        (1024, 65536, 65536),
    ],
)
def test_tables_grow_with_the_pool(size: int, slots: int, turns: int) -> None:
    assert (schedule.hash_slots(size), schedule.turn_slots(size)) == (slots, turns)


def test_every_machine_and_every_version_has_the_same_table() -> None:
    """A table that changes with an update of this collection would break every connection of a pool."""
    weights = {_FIRST: 1, _FIRST + 1: 2, _FIRST + 2: 3}
    assert digest(schedule.hash_table(weights)) == "bdc982fd964e7df8"
    nine = schedule.hash_table(pool(9))  # the bound on a backend's share is met in this one
    assert digest(nine) == "d6bc68fb5495b0a7"
    assert digest(schedule.turn_table(weights, 256)) == "fc64c8136c20d8e4"


@given(small_pools, st.integers(1, 3000))
def test_only_the_proportion_of_weights_counts(weights: dict[int, int], factor: int) -> None:
    scaled = {backend: weight * factor for backend, weight in weights.items()}
    assert schedule.hash_table(scaled) == schedule.hash_table(weights)
    assert schedule.handout(scaled, list(scaled)[1:]) == schedule.handout(weights, list(weights)[1:])


@given(st.integers(1, 8), numbers)
def test_the_busiest_of_up_to_8_has_20_percent_more_than_its_share(size: int, first: int) -> None:
    table = schedule.hash_table(pool(size, first))
    # A slot is 0.2 % of the table: the bound is rounded up to whole ones.
    assert max(Counter(table).values()) <= -(-len(table) * 120 // (size * 100))


@pytest.mark.parametrize("first", [_FIRST, 0xC0A80001])
def test_the_busiest_of_32_has_two_and_a_half_percent_more_than_its_share(first: int) -> None:
    table = schedule.hash_table(pool(32, first))
    assert max(Counter(table).values()) <= len(table) / 32 * 1.025


@given(small_pools)
def test_shares_follow_the_weights(weights: dict[int, int]) -> None:
    table = schedule.hash_table(weights)
    counts, total = Counter(table), sum(weights.values())
    for backend, weight in weights.items():
        assert 1 <= counts[backend] <= max(1, -(-len(table) * weight * 120 // (total * 100)))


def test_one_that_weighs_next_to_nothing_has_a_slot_all_the_same() -> None:
    counts = Counter(schedule.hash_table({1: 1, 2: 65535, 3: 65535}))
    assert counts[1] == 1 and abs(counts[2] - counts[3]) < 0.2 * counts[2]
    counts = Counter(schedule.hash_table({**pool(7, 1), 8: 65535}))
    assert [counts[backend] for backend in range(1, 8)] == [1] * 7


# -- slots of backends that are not available


@given(small_pools, st.data())
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


@given(small_pools.filter(lambda weights: len(weights) > 2), st.data())
def test_one_more_that_fails_moves_its_own_slots_alone(weights: dict[int, int], data: st.DataObject) -> None:
    """And, read the other way round, one that comes back gets exactly its own."""
    order = data.draw(st.permutations(sorted(weights)))
    table = schedule.hash_table(weights)
    before = schedule.handout(weights, order[1:])
    after = schedule.handout(weights, order[2:])
    for slot, owner in enumerate(table):
        if before.get(slot, owner) != order[1]:
            assert after.get(slot) == before.get(slot)


def test_a_handout_spreads_over_everybody() -> None:
    weights = pool(8)
    given_out = schedule.handout(weights, list(weights)[1:])
    counts = Counter(given_out.values())
    assert len(counts) == 7 and max(counts.values()) < 3 * min(counts.values())


# -- a backend leaves the configuration


def test_taking_1_of_8_away_moves_half_a_percent_of_the_others_on_average() -> None:
    shares = []
    for first in (_FIRST, 0xC0A80001, 0xAC100A64):
        weights = pool(8, first)
        before = schedule.hash_table(weights)
        shares += [moved(before, schedule.hash_table(without(weights, gone)), gone) for gone in weights]
    assert mean(shares) <= 0.001
    assert max(shares) <= 0.005


def test_taking_1_of_32_away_moves_a_quarter_of_a_percent_of_the_others_on_average() -> None:
    weights = pool(32)
    before = schedule.hash_table(weights)
    gone = [_FIRST, _FIRST + 17]
    shares = [moved(before, schedule.hash_table(without(weights, backend)), backend) for backend in gone]
    assert mean(shares) <= 0.0025


def test_what_a_lost_backend_had_goes_to_many() -> None:
    weights = pool(8)
    before, after = schedule.hash_table(weights), schedule.hash_table(without(weights, _FIRST))
    takers = Counter(new for old, new in zip(before, after) if old == _FIRST)
    assert set(takers) == set(weights) - {_FIRST}


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
