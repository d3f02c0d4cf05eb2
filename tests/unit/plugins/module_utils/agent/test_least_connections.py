# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steering: what holds for every pool and every course of things, and how near it comes to least connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import compare_least_connections as compare

from ansible_collections.dsr.layer2.plugins.module_utils.agent.least_connections import Settings, Steering, fill
from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import schedule

marks = st.integers(1, 0xDFFFFFFF)
pools = st.dictionaries(marks, st.integers(1, 20), min_size=1, max_size=8)


def pool(size: int) -> dict[int, int]:
    return dict.fromkeys(range(1, size + 1), 1)


@dataclass
class Kernel:
    """A table of turns, a counter, and connections that come at even distances and end by chance."""

    steering: Steering
    random: Random = field(default_factory=lambda: Random(1))
    table: dict[int, Optional[int]] = field(default_factory=dict)
    opened: Counter[int] = field(default_factory=Counter)
    began: Counter[int] = field(default_factory=Counter)
    turn: int = 0
    now: float = 100.0

    def write(self, changes: Mapping[int, Optional[int]]) -> int:
        for slot, mark in changes.items():
            assert 0 <= slot < self.steering.slots
            assert self.table.get(slot) != mark, "nothing changes"
            self.table[slot] = mark
        assert [self.table.get(slot) for slot in range(self.steering.slots)] == self.steering.table
        return len(changes)

    def members(self, weights: Mapping[int, int]) -> int:
        return self.write(self.steering.set_members(weights, self.now))

    def come(self, number: int) -> None:
        for _unused in range(number):
            mark = self.table[self.turn % self.steering.slots]
            assert mark is not None
            self.opened[mark] += 1
            self.began[mark] += 1
            self.turn += 1

    def end(self, share: float) -> None:
        for mark, number in self.opened.items():
            self.opened[mark] -= sum(self.random.random() < share for _unused in range(number))

    def look(self, counted: bool = True, off: int = 0) -> int:
        self.now += 0.2
        began, self.began = self.began, Counter()
        return self.write(self.steering.look(self.now, self.opened, began, self.turn + off if counted else None))

    def run(self, looks: int, number: int, share: float = 0.05, counted: bool = True, off: int = 0) -> list[int]:
        """So many connections between two looks, of which a share ends; answers how many turns changed at each."""
        changed = []
        for _unused in range(looks):
            self.come(number)
            self.end(share)
            changed.append(self.look(counted, off))
        return changed


def kernel(weights: Mapping[int, int], slots: int = 256, **options: float) -> Kernel:
    made = Kernel(Steering(slots, Settings(**{"lead": 0.0, **options})))  # type: ignore[arg-type]
    made.members(weights)
    return made


# -- who has turns

steps = st.lists(st.tuples(pools, st.integers(0, 400), st.floats(0, 1), st.booleans(), st.integers(1, 3)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(steps, st.sampled_from([16, 256]))
def test_all_turns_belong_to_those_who_are_there(
    course: list[tuple[dict[int, int], int, float, bool, int]], slots: int
) -> None:
    """Whoever comes and goes, however much comes, whether turns are counted or not."""
    made = Kernel(Steering(slots))
    for weights, number, share, counted, looks in course:
        made.members(weights)
        for _unused in range(looks):
            assert set(made.table.values()) <= set(weights)
            assert sorted(made.table) == list(range(slots))
            made.run(1, number, share, counted)


def test_it_begins_as_round_robin_does() -> None:
    weights = {1: 1, 2: 5, 3: 2}
    assert kernel(weights).steering.table == schedule.turn_table(weights, 256)


def test_what_the_kernel_has_already_is_not_written_again() -> None:
    table = dict(enumerate(schedule.turn_table({1: 1, 2: 1, 9: 1}, 256)))
    changes = Steering(256, table=table).set_members({1: 1, 2: 1}, 0.0)
    assert sorted(changes) == [slot for slot, mark in table.items() if mark == 9]
    assert abs(2 * list(changes.values()).count(1) - len(changes)) <= 1


def test_one_that_leaves_has_no_turn_and_no_others_move() -> None:
    made = kernel(pool(4))
    made.run(10, 20)
    before = dict(made.table)
    had = [slot for slot, mark in before.items() if mark == 2]
    assert made.members({1: 1, 3: 1, 4: 1}) == len(had) > 0
    assert {slot for slot in before if made.table[slot] != before[slot]} == set(had)
    assert set(Counter(made.table[slot] for slot in had)) == {1, 3, 4}


def test_when_nobody_is_left_there_are_no_turns() -> None:
    made = kernel(pool(2))
    made.run(5, 20)
    assert made.members({}) == 256
    assert set(made.table.values()) == {None}
    assert made.steering.look(made.now + 1, {}, {}, made.turn) == {}
    assert made.members({7: 1}) == 256
    made.run(5, 20)
    assert set(made.table.values()) == {7}


def test_the_same_course_gives_the_same_turns() -> None:
    def course() -> list[Optional[int]]:
        made = kernel({3: 1, 1: 2, 2: 1})
        made.run(20, 17)
        made.members({2: 1, 4: 3, 3: 1})
        made.run(20, 300, counted=False)
        return made.steering.table

    assert course() == course()


# -- turns ahead


def emptiest(weights: Mapping[int, int], opened: Mapping[int, int], number: int) -> list[int]:
    """What least connections does with so many new ones, in order."""
    counts = dict(opened)
    order = []
    for _unused in range(number):
        mark = min(sorted(weights), key=lambda mark: (counts[mark] + 1) / weights[mark])
        counts[mark] += 1
        order.append(mark)
    return order


openings = st.lists(st.integers(0, 40), min_size=8, max_size=8)


# With these weights no rounding decides between two that are equally full.
binary_pools = st.dictionaries(marks, st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=8)


@given(binary_pools, openings, st.integers(1, 120), st.integers(0, 1000))
def test_the_next_turns_are_what_least_connections_does(
    weights: dict[int, int], counts: list[int], number: int, turn: int
) -> None:
    """In every stretch, as long as nothing ends; and planned are half as many again as came lately, and four."""
    made = kernel(weights, interval=0.25, doubt=2.0)
    opened = dict(zip(sorted(weights), counts))
    made.steering.look(100.0, opened, {}, turn - number)
    opened[min(weights)] += number
    made.table.update(made.steering.look(100.25, opened, {min(weights): number}, turn))
    planned = number * 3 // 2 + 4
    order = emptiest(weights, opened, planned)
    length = max(8, number // 4)
    for start in range(0, planned, length):
        stop = min(planned, start + length)
        turns = [made.table[(turn + step) % 256] for step in range(start, stop)]
        assert Counter(turns) == Counter(order[start:stop])


def test_what_is_wanted_anyway_is_not_written() -> None:
    """As much changes as has to: no turn more than the difference of what is there and what is wanted."""
    made = kernel(pool(8))
    made.run(100, 10)
    assert sum(made.run(50, 10)) / 50 < 9  # of 15 that are planned


def test_it_reckons_with_what_will_end() -> None:
    """Two are level, but the connections of one end ten times as fast: by the next look it will be the emptier one."""
    made = kernel({1: 1, 2: 1})
    steering = made.steering
    steering.look(0.0, {1: 100, 2: 100}, {}, 0)
    for look in range(1, 60):
        steering.look(0.2 * look, {1: 100, 2: 100}, {1: 20, 2: 2}, 22 * look)
    table, turn = steering.table, 22 * 59
    following = Counter(table[(turn + step) % 256] for step in range(22))
    assert following[1] > 3 * following[2] > 0


def test_turns_that_are_about_to_be_taken_stay() -> None:
    for lead, kept in ((0.0, 0), (0.01, 3), (0.1, 16)):
        made = kernel(pool(2), lead=lead)
        made.steering.look(0.0, {1: 50, 2: 50}, {}, 0)
        before = made.steering.table
        made.steering.look(0.2, {1: 150, 2: 50}, {1: 10, 2: 10}, 20)
        after = made.steering.table
        assert after[20 : 20 + kept] == before[20 : 20 + kept]
        assert set(after[20 + kept : 40]) == {2}


@pytest.mark.parametrize(("number", "counted"), [(10, True), (10, False), (800, True), (800, False)])
def test_a_herd_never_comes(number: int, counted: bool) -> None:
    """A backend that is emptier by a little gets a little more, not everything."""
    made = kernel(pool(4))
    made.run(40, number, counted=counted)
    few = min(made.opened.values())
    made.opened = Counter({mark: few - (number // 10 + 1 if mark == 1 else 0) for mark in pool(4)})
    made.look(counted)
    made.come(number)
    assert 0.25 * number < made.began[1] <= 0.25 * number + number / 10 + 3
    assert min(made.began.values()) >= 0.1 * number


# -- shares


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0.1, 100)), min_size=1, max_size=20), st.floats(0.1, 5000))
def test_water_finds_its_level(vessels: list[tuple[float, float]], number: float) -> None:
    opened, weights = zip(*vessels)
    parts = fill(opened, weights, number)
    assert sum(parts) == pytest.approx(number)
    levels = [(have + part) / weight for have, part, weight in zip(opened, parts, weights)]
    lowest = min(levels)
    for level, part in zip(levels, parts):
        assert level == pytest.approx(lowest) if part else level >= lowest * (1 - 1e-9)


@pytest.mark.parametrize("counted", [True, False])
def test_shares_level_at_the_next_look(counted: bool) -> None:
    made = kernel({1: 1, 2: 1, 3: 2}, slots=64)
    made.run(1, 400, 0.0, counted)
    made.opened.update({1: 100})
    made.run(1, 400, 0.0, counted)  # it sees
    made.run(1, 400, 0.0, counted)  # it has steered
    assert sum(made.opened.values()) == 1300
    assert {mark: round(made.opened[mark] / weight) for mark, weight in ((1, 1), (2, 1), (3, 2))} == {
        mark: pytest.approx(325, abs=7) for mark in (1, 2, 3)
    }


def test_shares_change_hands_only_as_far_as_they_must() -> None:
    made = kernel(pool(8))
    made.run(20, 2000, 0.05)
    for _unused in range(20):
        before = Counter(made.table.values())
        changed = made.run(1, 2000, 0.05)[0]
        after = Counter(made.table.values())
        assert changed == sum((after - before).values())
        assert changed < 26


def test_shares_stay_spread() -> None:
    """Hundreds of small changes heap up nobody's turns: in each quarter of the table it has a quarter of its turns."""
    made = kernel(pool(8))
    made.run(500, 2000, 0.05)
    whole = Counter(made.table.values())
    for start in range(0, 256, 64):
        part = Counter(made.table[slot] for slot in range(start, start + 64))
        assert all(abs(part[mark] - whole[mark] / 4) <= 5 for mark in pool(8))


# -- nobody is forgotten


@pytest.mark.parametrize(("number", "counted"), [(10, True), (10, False), (1000, True)])
def test_one_that_is_always_fullest_gets_one_now_and_then(number: int, counted: bool) -> None:
    """One for every 64 that its weight alone would give it."""
    made = kernel(pool(4))
    made.run(2, number, 0.9, counted)
    got = turns = 0
    for _unused in range(4000 // number + 40):
        made.come(number)
        turns += number
        got += made.began[1]
        made.opened[1] = 0
        made.end(0.5)
        made.opened[1] = 100000
        made.look(counted)
    fair = turns / 4
    worth = max(1, number / 256)
    assert 0.5 * fair / 64 <= got <= 2 * worth * fair / 64


# -- slow start


def test_a_backend_that_joins_starts_slowly() -> None:
    made = kernel(pool(4))
    made.run(100, 100, 0.05)
    made.members(pool(5))
    assert 5 not in made.table.values()
    shares = []
    for _unused in range(8):
        before = made.now
        got = 0
        while made.now < before + 5:
            made.come(100)
            got += made.began[5]
            made.end(0.05)
            made.look()
        shares.append(got / 2500)
    assert shares[0] < 0.06
    assert all(later > sooner for sooner, later in zip(shares[:5], shares[1:6]))
    assert shares[7] == pytest.approx(0.2, abs=0.02)
    assert max(shares) < 0.3


def test_without_a_slow_start_it_catches_up_at_once() -> None:
    made = kernel(pool(4), slow_start=0)
    made.run(100, 100, 0.05)
    made.members(pool(5))
    made.run(10, 100, 0.05)
    assert made.opened[5] == pytest.approx(sum(made.opened.values()) / 5, rel=0.1)


def test_those_that_are_there_from_the_beginning_start_at_once() -> None:
    made = kernel(pool(4))
    made.run(20, 100, 0.05)
    assert max(made.opened.values()) - min(made.opened.values()) < 0.1 * max(made.opened.values())


def test_one_that_comes_back_starts_slowly_again() -> None:
    made = kernel(pool(4))
    made.run(300, 100, 0.05)
    made.members({1: 1, 2: 1, 3: 1})
    made.run(50, 100, 0.05)
    assert made.opened[4] < 50
    made.members(pool(4))
    made.run(10, 100, 0.05)
    assert made.opened[4] < 0.2 * made.opened[1]


def test_a_weight_that_changes_does_not_start_anew() -> None:
    made = kernel(pool(4))
    made.run(100, 40, 0.05)
    assert made.members({**pool(4), 1: 3}) == 0
    made.run(60, 40, 0.05)
    assert made.opened[1] / 3 == pytest.approx(made.opened[2], rel=0.15)


# -- what the caller says


def test_a_wrong_count_is_noticed() -> None:
    """Then shares are used, which concern the whole table and not the 19 turns that seem to come next."""
    made = kernel(pool(8))
    made.run(20, 10)
    assert made.steering.believes(made.now)
    assert max(made.run(20, 10)) <= 19
    made.run(100, 10, off=13)
    assert not made.steering.believes(made.now)
    assert min(made.run(10, 10, off=13)) > 19
    assert made.steering.believes(made.now + 60)


def test_what_took_no_turn_says_nothing_about_the_count() -> None:
    """Such as flows of clients that stay with their backend."""
    made = kernel(pool(8))
    for _unused in range(100):
        made.began[1] += 20
        made.opened[1] += 20
        made.run(1, 10, 0.2)
        assert made.steering.believes(made.now)


def test_turns_that_were_taken_for_nothing_count() -> None:
    made = kernel(pool(4))
    made.run(10, 10)
    made.opened[2] = 0
    made.look()
    made.turn += 50
    made.look()
    made.come(4)
    assert made.began == {2: 4}


def test_a_right_count_is_believed_whatever_happens() -> None:
    made = kernel(pool(8))
    for step in range(40):
        made.run(10, (10, 0, 60, 3)[step % 4], 0.1)
        made.members(pool(2 + step % 7))
        assert made.steering.believes(made.now)


@pytest.mark.parametrize("counted", [True, False])
def test_nothing_happens_where_nothing_happens(counted: bool) -> None:
    made = kernel(pool(8))
    made.run(20, 10, counted=counted)
    assert made.run(50, 0, 0.0, counted)[1:] == [0] * 49


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 50)), max_size=20))
def test_looks_may_come_when_they_like(course: list[tuple[float, int]]) -> None:
    """Late, or twice at the same time."""
    made = kernel(pool(3))
    for pause, number in course:
        made.come(number)
        made.end(0.1)
        made.now += pause - 0.2
        made.look()
    assert made.steering.rate >= 0


# -- how well, and how fast


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return compare.DOCUMENT.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("kind", "rate", "size"),
    [
        ("equal backends", 50, 8),
        ("one slow, 10 times longer", 1000, 8),
        ("weights 10:1, half each", 1000, 64),
        ("short and long mixed", 50, 8),
    ],
)
def test_it_compares_as_documented(lines: list[str], kind: str, rate: int, size: int) -> None:
    assert compare.comparison_row(kind, rate, size) in lines
    scenario = compare.KINDS[kind](size, rate)
    exact, steered = (compare.figures(way, scenario) for way in (compare.Exact, compare.Steered))
    assert steered.deviation - exact.deviation < compare.GOAL
    assert steered.fullest - exact.fullest < compare.GOAL


def test_one_that_joins_does_as_documented(lines: list[str]) -> None:
    assert compare.joining_row(1000, 8) in lines


def test_the_text_of_the_document_is_that_of_the_script(lines: list[str]) -> None:
    document = "\n".join(lines)
    for text in (
        compare._INTRODUCTION,
        compare._JOINING,
        compare._VARIANTS,
        compare._VARIANTS_SAY,
        compare._COST,
        compare._ON_THE_WIRE,
    ):
        assert text.strip() in document


def test_tables_are_as_large_as_they_need_to_be() -> None:
    assert [schedule.steered_slots(size) for size in (1, 16, 17, 64, 65, 1024)] == [
        256, 256, 1024, 1024, 4096, 4096,
    ]  # fmt: skip
