# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where backends are: signs, questions, answers, in a time of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dsr.layer2.plugins.module_utils.agent.whereabouts import (
    AT_ONCE,
    MOST_QUESTIONS,
    WINDOW,
    Move,
    Place,
    Sought,
    Whereabouts,
)

B1 = ip_address("10.77.0.21")
OLD, NEW, THIRD, OURS = (f"02:00:00:00:00:0{number}" for number in (1, 2, 3, 9))
PLACE: Place = ("eth0", B1)
WEB1 = Sought("eth0", B1, "b1 (10.77.0.21)", 2.0, OLD)
STEP = 0.01


class Segment:
    """A segment on which stations answer for addresses; every hundredth of a second it is looked at."""

    def __init__(self, *sought: Sought) -> None:
        self.now = 1000.0
        self.whereabouts = Whereabouts()
        self.whereabouts.own = {OURS}
        self.answering: dict[Place, set[str]] = {}
        self.delay: dict[str, float] = {}
        self.deaf: Callable[[str, int], bool] = lambda _mac, _question: False
        self.asked: list[tuple[float, Place]] = []
        self.moves: list[tuple[float, Move]] = []
        self.lines: list[str] = []
        self._coming: list[tuple[float, Place, str]] = []
        self.whereabouts.set_sought(self.now, sought or [WEB1])

    def answers(self, *macs: str, place: Place = PLACE) -> None:
        self.answering[place] = set(macs)

    def announce(self, mac: str, place: Place = PLACE) -> None:
        self.lines += self.whereabouts.heard(self.now, place, mac, False)

    def go(self, seconds: float) -> Segment:
        until = self.now + seconds
        while self.now < until:
            self.now += STEP
            for coming in [coming for coming in self._coming if coming[0] <= self.now]:
                self._coming.remove(coming)
                self.lines += self.whereabouts.heard(self.now, coming[1], coming[2], True)
            done = self.whereabouts.tick(self.now)
            self.moves += [(self.now, move) for move in done.moves]
            self.lines += done.lines
            for place in done.questions:
                self.asked.append((self.now, place))
                for mac in sorted(self.answering.get(place, ())):
                    if not self.deaf(mac, len(self.asked)):
                        self._coming.append((self.now + self.delay.get(mac, 0.0), place, mac))
        return self

    def quiet(self) -> Segment:
        """Let the first questions pass, up to a moment at which nothing goes on."""
        self.go(3.0)
        while self.now - self.asked[-1][0] <= WINDOW + STEP:
            self.go(STEP)
        self.asked.clear()
        return self

    @property
    def mac(self) -> Optional[str]:
        return self.whereabouts.macs[PLACE]


def settled(*macs: str, sought: Sought = WEB1) -> Segment:
    segment = Segment(sought)
    segment.answers(*macs, place=sought.place)
    return segment.quiet()


# -- who moves, and who stays


def test_who_announces_itself_and_answers_alone_is_followed() -> None:
    segment = settled(OLD)
    segment.answers(NEW)
    begun = segment.now
    segment.announce(NEW)
    segment.go(3)
    [(at, move)] = segment.moves
    assert at - begun <= 2 * WINDOW + 5 * STEP
    assert str(move) == f"b1 (10.77.0.21): MAC address {OLD} is now {NEW} (announced by itself)"
    assert segment.mac == NEW and segment.lines == []


def test_who_moves_in_silence_is_found_within_the_interval() -> None:
    segment = settled(OLD)
    segment.answers(NEW)
    begun = segment.now
    segment.go(5)
    [(at, move)] = segment.moves
    assert at - begun <= 2.0 + 2 * WINDOW + 5 * STEP
    assert str(move).endswith("(found when asked)") and segment.lines == []


@pytest.mark.parametrize("first", [OLD, NEW])
def test_while_the_one_in_use_answers_it_stays(first: str) -> None:
    """Whoever is faster."""
    segment = settled(OLD)
    segment.answers(OLD, NEW)
    segment.delay = {mac: 0.0 if mac == first else WINDOW / 2 for mac in (OLD, NEW)}
    for _again in range(50):
        segment.announce(NEW)
        segment.go(0.3)
    assert segment.moves == [] and segment.lines == [
        f"warning: b1 (10.77.0.21): two stations answer for it on eth0, {OLD} and {NEW}; it stays at {OLD}. Find the "
        "duplicate address"
    ]
    segment.go(5000)
    assert len(segment.lines) == 1, "as long as it goes on, nothing is to be added"
    segment.answers(OLD)
    segment.go(1000)
    segment.answers(OLD, NEW)
    segment.go(10)
    assert len(segment.lines) == 2, "that it begins anew is news"


def test_who_claims_an_address_and_does_not_answer_gets_nothing() -> None:
    segment = settled(OLD)
    for _again in range(50):
        segment.announce(NEW)
        segment.go(0.3)
    assert segment.moves == [] and segment.lines == [
        f"warning: b1 (10.77.0.21): {NEW} claims its address on eth0, while {OLD} answers for it; it stays at {OLD}"
    ]


def test_who_is_known_to_claim_an_address_is_not_asked_about_all_the_time() -> None:
    segment = settled(OLD)
    for _again in range(1000):
        segment.announce(NEW)
        segment.go(STEP)
    assert len(segment.asked) <= 10 / 0.5


def test_who_falls_silent_stays_where_it_was() -> None:
    segment = settled(OLD)
    segment.answers()
    segment.go(20)
    segment.announce(NEW)
    segment.go(20)
    assert segment.moves == [] and segment.lines == [] and segment.mac == OLD


def test_one_answer_is_not_enough() -> None:
    segment = settled(OLD)
    segment.answers(NEW)
    segment.deaf = lambda mac, question: question % 2 == 0
    segment.go(200)
    assert segment.moves == []


def test_two_strangers_are_none_too_many_to_choose_from() -> None:
    segment = settled(OLD)
    segment.answers(NEW, THIRD)
    segment.go(20)
    assert segment.moves == [] and segment.lines == [
        f"warning: b1 (10.77.0.21): more than one station answers for it on eth0: {NEW} and {THIRD}; it stays at {OLD}"
        ". Find the duplicate address"
    ]


def test_what_was_answered_before_a_sign_says_nothing_of_what_is_now() -> None:
    """The question had just been answered by the old station when the new one came."""
    segment = settled(OLD)
    while not segment.asked:
        segment.go(STEP)
    segment.go(2 * STEP)
    segment.answers(NEW)
    begun = segment.now
    segment.announce(NEW)
    segment.go(2)
    assert [at - begun <= 2 * WINDOW + 5 * STEP for at, _move in segment.moves] == [True]


def test_it_may_come_back_and_move_again() -> None:
    segment = settled(OLD)
    for mac in (NEW, OLD, THIRD, NEW):
        segment.answers(mac)
        segment.go(0.01).announce(mac)
        segment.go(1)
        assert segment.mac == mac
    assert segment.lines == []


def test_an_old_rival_that_takes_over_is_followed() -> None:
    segment = settled(OLD)
    segment.answers(OLD, NEW)
    segment.go(10)
    segment.answers(NEW)
    begun = segment.now
    segment.announce(NEW)
    segment.go(5)
    [(at, _move)] = segment.moves
    assert at - begun <= 2.0 + 2 * WINDOW + 5 * STEP


def test_our_own_mac_is_no_backends() -> None:
    segment = settled(OLD)
    segment.answers(OURS)
    segment.announce(OURS)
    segment.go(10)
    assert segment.moves == [] and segment.lines == []


def test_two_addresses_may_be_at_one_mac() -> None:
    other = replace(WEB1, address=ip_address("10.77.0.22"))
    segment = Segment(WEB1, other)
    segment.answers(NEW)
    segment.answers(NEW, place=other.place)
    segment.go(5)
    assert sorted(move.sought.address for _at, move in segment.moves) == [B1, other.address]


def test_who_is_not_known_comes_in_when_it_answers() -> None:
    segment = settled(sought=replace(WEB1, mac=None))
    segment.answers(OLD, NEW)
    segment.go(5)
    assert segment.moves == [] and "it is left out of service" in segment.lines[0]
    segment.answers(NEW)
    segment.go(5)
    [(_at, move)] = segment.moves
    assert str(move) == f"b1 (10.77.0.21): MAC address {NEW} (found when asked), it comes into service"


def test_who_is_pinned_is_not_asked_and_others_are_spoken_of_once() -> None:
    segment = Segment(replace(WEB1, asked=False))
    segment.answers(NEW)
    segment.whereabouts.suspect(segment.now, B1)
    segment.announce(OLD)
    for _again in range(10):
        segment.announce(NEW)
        segment.go(5)
    assert segment.asked == [] and segment.moves == [] and segment.mac == OLD
    assert segment.lines == [
        f"warning: b1 (10.77.0.21): its MAC address is pinned to {OLD}, but {NEW} says on eth0 that it has the address"
        "; correct or remove 'mac' if it has moved"
    ]


def test_a_suspicion_is_looked_into_at_once() -> None:
    segment = settled(OLD, sought=replace(WEB1, interval=60.0))
    segment.answers(NEW)
    begun = segment.now
    segment.whereabouts.suspect(begun, B1)
    segment.go(2)
    assert [at - begun <= 2 * WINDOW + 5 * STEP for at, _move in segment.moves] == [True]


def test_a_suspicion_of_who_is_silent_is_asked_a_few_times_and_no_more() -> None:
    segment = settled(OLD, sought=replace(WEB1, interval=60.0))
    segment.answers()
    for _check in range(9):
        segment.whereabouts.suspect(segment.now, B1)
        segment.go(0.1)
    segment.go(1)
    assert len(segment.asked) == MOST_QUESTIONS


def test_what_nobody_looks_for_is_not_heeded() -> None:
    segment = settled(OLD)
    segment.announce(NEW, ("eth1", B1))
    segment.announce(NEW, ("eth0", ip_address("10.77.0.99")))
    segment.go(STEP)
    assert segment.asked == [] and segment.whereabouts.macs == {PLACE: OLD}


# -- when


@pytest.mark.parametrize("number", [3, 200, 1000])
def test_questions_are_spread_evenly(number: int) -> None:
    everybody = [replace(WEB1, address=IPv4Address(int(B1) + index)) for index in range(number)]
    segment = Segment(*everybody)
    for item in everybody:
        segment.answers(OLD, place=item.place)
    segment.go(1.0)
    assert {place for _at, place in segment.asked} == {item.place for item in everybody}, "within a second of the start"
    segment.go(4.0)
    segment.asked.clear()
    segment.go(20.0)
    times: dict[Place, list[float]] = {}
    for at, place in segment.asked:
        times.setdefault(place, []).append(at)
    gaps = [after - before for each in times.values() for before, after in zip(each, each[1:])]
    assert len(times) == number and max(gaps) <= 2.0 + 2 * STEP and min(gaps) >= 2.0 - 2 * STEP
    bursts = [len(list(group)) for _at, group in itertools.groupby(at for at, _place in segment.asked)]
    assert max(bursts) <= 2 + 2 * number * STEP / 2.0


def test_whatever_is_due_at_once_goes_out_in_small_bursts() -> None:
    everybody = [replace(WEB1, address=IPv4Address(int(B1) + index)) for index in range(500)]
    segment = Segment(*everybody)
    segment.go(5)
    segment.asked.clear()
    for item in everybody:
        segment.announce(NEW, item.place)
    segment.go(0.5)
    bursts = [len(list(group)) for _at, group in itertools.groupby(at for at, _place in segment.asked)]
    assert max(bursts) == AT_ONCE and {place for _at, place in segment.asked} == {item.place for item in everybody}


def test_a_flood_of_announcements_makes_no_flood_of_questions() -> None:
    segment = settled(OLD)
    for number in range(1000):
        segment.announce(f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}")
        segment.go(STEP)
    assert len(segment.asked) <= 10 * 5 / WINDOW
    assert len(segment.lines) <= 40, "nor of lines"


# -- what is wanted


def test_a_configuration_that_says_the_same_changes_nothing() -> None:
    segment = settled(OLD)
    segment.answers(NEW)
    segment.announce(NEW)
    segment.go(1)
    before = segment.whereabouts.next
    segment.whereabouts.set_sought(segment.now, [replace(WEB1, mac=NEW)])
    assert segment.whereabouts.next == before and segment.mac == NEW


def test_a_mac_that_is_configured_is_taken_and_asked_for() -> None:
    segment = settled(OLD)
    segment.whereabouts.set_sought(segment.now, [replace(WEB1, mac=THIRD)])
    assert segment.mac == THIRD
    segment.go(1)
    assert segment.mac == OLD, "as that is who answers"


def test_a_shorter_interval_holds_at_once() -> None:
    segment = settled(OLD, sought=replace(WEB1, interval=600.0))
    segment.whereabouts.set_sought(segment.now, [replace(WEB1, interval=1.0)])
    segment.go(1 + STEP)
    assert len(segment.asked) == 1


def test_who_is_not_looked_for_any_more_is_not_asked() -> None:
    segment = settled(OLD)
    segment.whereabouts.set_sought(segment.now, [])
    assert segment.whereabouts.next is None
    segment.go(10)
    assert segment.asked == []


# -- whatever happens


def _stories() -> st.SearchStrategy[list[tuple[str, str, float]]]:
    deeds = st.sampled_from(["announce", "join", "leave", "suspect", "nothing"])
    return st.lists(st.tuples(deeds, st.sampled_from([NEW, THIRD, OURS]), st.floats(0, 1.0)), max_size=40)


@given(_stories(), st.floats(0, WINDOW - 3 * STEP))
def test_a_station_that_keeps_answering_is_never_lost_to_another(
    story: list[tuple[str, str, float]], delay: float
) -> None:
    """Whatever others do, and however fast they are, as long as its answers come in time."""
    segment = settled(OLD)
    segment.delay = {OLD: delay}
    others: set[str] = set()
    for deed, mac, pause in story:
        if deed == "announce":
            segment.announce(mac)
        elif deed == "suspect":
            segment.whereabouts.suspect(segment.now, B1)
        elif deed == "join":
            others.add(mac)
        elif deed == "leave":
            others.discard(mac)
        segment.answers(OLD, *others)
        segment.go(pause)
    segment.go(3)
    assert segment.moves == [] and segment.mac == OLD
    assert len(segment.lines) <= 4, "two ways of two others"


@given(_stories())
def test_who_is_left_alone_is_found_in_the_end(story: list[tuple[str, str, float]]) -> None:
    segment = settled(OLD)
    present = {OLD}
    for deed, mac, pause in story:
        if deed == "announce":
            segment.announce(mac)
        elif deed == "join":
            present.add(mac)
        elif deed == "leave":
            present.discard(OLD)
        segment.answers(*present)
        segment.go(pause)
    segment.answers(THIRD)
    segment.go(2.0 + 2 * WINDOW + MOST_QUESTIONS * WINDOW + 0.1)
    assert segment.mac == THIRD
