# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts: what any answers at any times can and cannot bring about."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.agent import verdicts
from ansible_collections.dsr.layer2.plugins.module_utils.agent.verdicts import (
    Floor,
    Transition,
    Verdict,
    floor,
)

counts = st.integers(1, 5)
starts = st.sampled_from([None, True, False])
# Seconds from an answer to the next: often at once, so that times don't hinder what could happen.
gaps = st.one_of(st.just(0.0), st.floats(0.01, 10), st.floats(0.01, 1000))
answers = st.lists(st.tuples(gaps, st.booleans()), max_size=200)


def told(verdict: Verdict, given_answers: Sequence[tuple[float, bool]]) -> list[Transition]:
    """What comes of answers, each some seconds after the one before."""
    at = 0.0
    transitions = []
    for gap, ok in given_answers:
        at += gap
        transitions.append(verdict.record(at, ok, "" if ok else "refused"))
    return [transition for transition in transitions if transition is not None]


def in_a_row(ok: bool, number: int, gap: float = 2.0) -> list[tuple[float, bool]]:
    return [(gap, ok)] * number


# -- rise and fall


def test_an_unknown_backend_is_healthy_until_it_has_failed_often_enough() -> None:
    verdict = Verdict(rise=2, fall=3)
    assert (verdict.healthy, verdict.known) == (True, False)
    assert told(verdict, in_a_row(False, 2)) == []
    assert (verdict.healthy, verdict.known, verdict.failing) == (True, False, True)
    assert told(verdict, in_a_row(False, 1)) == [Transition(2.0, False, "refused", 3)]
    assert (verdict.healthy, verdict.known, verdict.cause) == (False, True, "refused")


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_the_first_success_settles_what_was_unknown(failures: int) -> None:
    verdict = Verdict(rise=5, fall=3)
    assert told(verdict, [*in_a_row(False, failures), *in_a_row(True, 1)]) == []
    assert (verdict.healthy, verdict.known, verdict.cause) == (True, True, "")


def test_what_is_settled_is_known_while_it_fails() -> None:
    verdict = Verdict(rise=1, fall=3)
    told(verdict, [*in_a_row(True, 1), *in_a_row(False, 2)])
    assert (verdict.healthy, verdict.known) == (True, True)


def test_a_backend_that_was_made_known_as_down_has_to_rise() -> None:
    verdict = Verdict(rise=3, fall=1, start=False)
    assert (verdict.healthy, verdict.known) == (False, True)
    assert told(verdict, in_a_row(False, 5)) == []
    assert (verdict.healthy, verdict.known) == (False, True)
    assert told(verdict, in_a_row(True, 4)) == [Transition(6.0, True, "", 3)]


def test_a_backend_that_was_made_known_as_up_falls_as_any_other() -> None:
    verdict = Verdict(rise=3, fall=2, start=True)
    assert (verdict.healthy, verdict.known) == (True, True)
    assert told(verdict, in_a_row(False, 2)) == [Transition(4.0, False, "refused", 2)]


@given(counts, counts, starts, answers)
def test_it_changes_by_rows_alone(
    rise: int, fall: int, start: Optional[bool], given_answers: list[tuple[float, bool]]
) -> None:
    """A transition needs its row, and a row of failures is enough at once, however damped it is."""
    verdict = Verdict(rise, fall, start)
    row, last, healthy, at = 0, None, verdict.healthy, 0.0
    for gap, ok in given_answers:
        at += gap
        row = row + 1 if ok == last else 1
        last = ok
        transition = verdict.record(at, ok, "lost")
        if transition is not None:
            assert transition == Transition(at, not healthy, "lost", row)
            assert row >= (rise if ok else fall) and ok != healthy
            healthy = ok
        else:
            assert ok or not healthy or row < fall  # going down is never put off
        assert verdict.healthy == healthy
        assert verdict.consecutive == row


@given(counts, counts, st.integers(1, 6))
def test_who_falls_seldom_is_not_damped(rise: int, fall: int, falls: int) -> None:
    verdict = Verdict(rise, fall)
    once = [(verdicts.FORGIVEN_AFTER, False), *in_a_row(False, fall - 1, 0.1), *in_a_row(True, rise, 0.1)]
    assert [change.healthy for change in told(verdict, once * falls)] == [False, True] * falls


def test_numbers_that_change_apply_from_the_next_answer_on() -> None:
    verdict = Verdict(rise=2, fall=5)
    assert told(verdict, in_a_row(False, 4)) == []
    verdict.fall = 2
    assert verdict.healthy
    assert [change.consecutive for change in told(verdict, in_a_row(False, 1))] == [5]


# -- damping

WINDOW, MOST = 600.0, 14


def busiest(times: Sequence[float]) -> int:
    """How many transitions came in the worst ten minutes."""
    return max((bisect.bisect_left(times, since + WINDOW) - index for index, since in enumerate(times)), default=0)


@given(counts, counts, starts, answers)
def test_no_answers_make_a_backend_flap(
    rise: int, fall: int, start: Optional[bool], given_answers: list[tuple[float, bool]]
) -> None:
    """Not more than 14 transitions in any 10 minutes."""
    at = 0.0
    times = []
    verdict = Verdict(rise, fall, start)
    for gap, ok in given_answers:
        at += gap
        if verdict.record(at, ok) is not None:
            times.append(at)
    assert busiest(times) <= MOST


@given(starts, st.lists(st.floats(0, 700), max_size=40), st.sampled_from([0.1, 1.0, 7.0]))
def test_not_even_answers_that_are_made_for_it(start: Optional[bool], pauses: list[float], step: float) -> None:
    """Each answer is the one that brings the next transition soonest; now and then the backend is left in peace."""
    verdict = Verdict(1, 1, start)
    at = 0.0
    times = []
    for pause in [*pauses, *[0.0] * 40]:
        while verdict.record(at, not verdict.healthy) is None:
            at += step
        times.append(at)
        at += pause
    assert busiest(times) <= MOST


def test_the_worst_that_can_be_done_to_it() -> None:
    """The bound is met, so it is not looser than need be; then it falls once in 320 seconds."""
    verdict = Verdict(1, 1, False)
    at = 0.0
    times, falls = [], []
    while at < 4000:
        transition = verdict.record(at, not verdict.healthy)
        if transition is None:
            at += 0.5
            continue
        times.append(at)
        if not transition.healthy:
            falls.append(at)
    assert busiest(times) == MOST
    gaps_between = [later - sooner for sooner, later in zip(falls, falls[1:])]
    assert gaps_between[:7] == [0, 10, 20, 40, 80, 160, 320]
    assert set(gaps_between[7:]) == {320}


def test_its_hold_doubles_and_is_forgiven_step_by_step() -> None:
    verdict = Verdict(1, 1)
    holds = []
    for _unused in range(9):
        verdict.record(0.0, False)
        holds.append(verdict.hold(0.0))
        verdict = _raised(verdict)
    assert holds == [0, 10, 20, 40, 80, 160, 320, 320, 320]
    forgiven = [verdict.hold(verdicts.FORGIVEN_AFTER * step) for step in range(8)]
    assert forgiven == [320, 160, 80, 40, 20, 10, 0, 0]


def _raised(verdict: Verdict) -> Verdict:
    """The same, up again, whatever hold it had."""
    verdict.healthy = True
    return verdict


def test_a_damped_backend_has_to_answer_all_the_while() -> None:
    verdict = Verdict(1, 1)
    fallen_twice = [(1.0, False), (0.0, True), (0.0, False)]
    assert [change.healthy for change in told(verdict, fallen_twice)] == [False, True, False]
    assert verdict.record(2.0, True) is None
    assert verdict.record(11.9, True) is None
    assert verdict.record(11.95, False) is None  # all is to do again
    assert verdict.record(12.0, True) is None
    assert verdict.record(21.9, True) is None
    assert verdict.record(22.0, True) == Transition(22.0, True, "", 3)


# -- the floor of a pool


@pytest.mark.parametrize(
    ("min_healthy", "weights", "healthy", "ignored"),
    [
        (0.0, {"a": 1}, "", False),  # no floor: all of them may be down
        (0.5, {"a": 1, "b": 1}, "a", False),
        (0.5, {"a": 1, "b": 1}, "", True),
        (0.5, {"a": 1, "b": 3}, "a", True),
        (0.5, {"a": 1, "b": 3}, "b", False),
        (0.7, dict.fromkeys("abcdefghij", 1), "abcdefg", False),  # though 0.7 * 10 is a bit more than 7
        (0.7, dict.fromkeys("abcdefghij", 1), "abcdef", True),
        (1.0, {"a": 1, "b": 1}, "ab", False),
        (1.0, {"a": 1, "b": 1}, "a", True),
        (1.0, {}, "", False),
        (0.5, {"a": 1, "b": 1}, "xyz", True),  # the health of others counts for nothing
    ],
)
def test_the_floor_of_some_pools(min_healthy: float, weights: dict[str, int], healthy: str, ignored: bool) -> None:
    assert floor(min_healthy, weights, set(healthy)) is ignored


pools = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 100), min_size=1)
changing = st.lists(st.sets(st.sampled_from("abcdefgh")), max_size=20)


@given(st.integers(0, 100), pools, changing)
def test_the_floor_is_told_once_when_it_begins_and_ends(
    percent: int, weights: dict[str, int], healthy_then: list[set[str]]
) -> None:
    rule: Floor[str] = Floor(percent / 100)
    ignored = False
    for at, healthy in enumerate(healthy_then):
        serving, change = rule.judge(float(at), weights, healthy)
        up = sum(weight for name, weight in weights.items() if name in healthy)
        under = 100 * up < percent * sum(weights.values())
        assert serving == (set(weights) if under else healthy & set(weights))
        assert (change is not None) is (under != ignored)
        if change is not None:
            share = up / sum(weights.values())
            assert (change.at, change.ignored, change.min_healthy) == (float(at), under, percent / 100)
            assert change.share == pytest.approx(share)
        ignored = under
        assert rule.ignoring is ignored
    assert not percent or not weights or rule.judge(99.0, weights, set())[0] == set(weights)  # all down fails open


def test_what_the_floor_says() -> None:
    rule: Floor[str] = Floor(0.5)
    weights = {"a": 1, "b": 1, "c": 1, "d": 1}
    begins = rule.judge(1.0, weights, {"a"})[1]
    ends = rule.judge(2.0, weights, {"a", "b"})[1]
    assert str(begins) == ("25% of the pool are healthy, the floor is 50%: health is ignored, all backends serve")
    assert str(ends) == "50% of the pool are healthy, the floor is 50%: health is heeded again"
