# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where backends are, by what is heard of them: whom to ask when, and what the answers mean. Pure, time is given.

Whoever says something unasked may say anything: that is a *sign*, and no more than a reason to ask. Everybody is
asked, so the station in use has its say, and while it answers it stays: no announcement, however often it is made,
takes an address away from a host that answers for it. Only when it has stayed silent twice running, while one other
station, and always the same, answered both times, is that one followed. Who answers first does not matter, as each
question is given its whole time. A host that nobody answers for stays where it was.

Without any sign each backend is asked once in its interval. The questions lie evenly in it, however many they are.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Optional

from ..common.packet import IPAddress

WINDOW = 0.2  # seconds that answers to one question have
MOST_QUESTIONS = 4  # that follow each other where answers are missing, or differ
BEGIN_AFTER, BEGIN_WITHIN = 0.1, 1.0  # seconds until a backend that is new here is asked for the first time
AT_ONCE = 64  # questions without a break in between: switches and small hosts drop long bursts
_QUIET = 0.5  # seconds after an answer in which those that were found to claim the address as well are no sign
_SAID_FOR = 600.0  # seconds until what was said is worth being said again
# Whoever makes MACs up fills neither memory nor journal: so many are heeded in one inquiry, and spoken of in all.
_MOST_CLAIMS = 4
_MOST_SAID = 32
_GOLDEN = (5**0.5 - 1) / 2
_LONG_AGO = float("-inf")

Place = tuple[str, IPAddress]


@dataclass(frozen=True)
class Sought:
    """A backend that is to be found.

    ``mac`` is the one in use; None if none is known. One that is not ``asked`` has a MAC that the user gave, and is
    only listened for. ``name`` is what people call it.
    """

    interface: str
    address: IPAddress
    name: str
    interval: float
    mac: Optional[str]
    asked: bool = True

    @property
    def place(self) -> Place:
        return self.interface, self.address


@dataclass(frozen=True)
class Move:
    """A backend is elsewhere from now on; ``before`` is None for one that was not known."""

    sought: Sought
    before: Optional[str]
    after: str
    announced: bool

    def __str__(self) -> str:
        how = "announced by itself" if self.announced else "found when asked"
        if self.before is None:
            return f"{self.sought.name}: MAC address {self.after} ({how}), it comes into service"
        return f"{self.sought.name}: MAC address {self.before} is now {self.after} ({how})"


@dataclass
class Due:
    """What is to be done now."""

    questions: list[Place] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(eq=False)
class _Station:
    sought: Sought
    mac: Optional[str]
    phase: float  # the place of its questions in its interval, 0 to 1
    due: float
    # Of the inquiry that runs
    questions: int = 0  # 0: none runs
    urgent: bool = False  # there was a sign, so silence is asked again
    answers: set[str] = field(default_factory=set)  # to the last question
    rivals: set[str] = field(default_factory=set)  # who answered any, beside the one in use
    claims: set[str] = field(default_factory=set)  # whose signs it was begun for
    announced: set[str] = field(default_factory=set)
    alone: Optional[str] = None  # who alone answered the question before the last
    # Of all
    answered_at: float = _LONG_AGO  # the one in use
    suspected_at: float = _LONG_AGO
    said: dict[str, float] = field(default_factory=dict)

    def begin(self, now: float, urgent: bool) -> None:
        """Ask as soon as that may be, and forget what was answered before."""
        self.due, self.questions, self.urgent, self.alone = now, 0, urgent, None
        self.rivals = set()

    def end(self, now: float) -> None:
        self.questions, self.urgent, self.alone = 0, False, None
        self.answers, self.rivals, self.claims, self.announced = set(), set(), set(), set()
        self.due = self.next_due(now)

    def next_due(self, now: float) -> float:
        """The next of its moments, which are fixed once and for all so that they stay evenly spread."""
        interval = self.sought.interval
        turns = (now + interval / 100) / interval - self.phase
        return min(now + interval, (turns // 1 + 1 + self.phase) * interval)

    def news(self, now: float, macs: Collection[str]) -> list[str]:
        """Those of the MACs that were not spoken of lately."""
        self.said = {mac: at for mac, at in self.said.items() if now - at <= _SAID_FOR}
        new = sorted(mac for mac in macs if mac not in self.said)[: max(0, _MOST_SAID - len(self.said))]
        self.said.update((mac, now) for mac in (*new, *macs) if mac in self.said or mac in new)
        return new


class Whereabouts:
    """All backends that are looked for."""

    def __init__(self) -> None:
        self._stations: dict[Place, _Station] = {}
        self._queue: list[tuple[float, int, _Station]] = []
        self._serial = 0
        self._phase = 0.0
        self.own: Collection[str] = frozenset()  # MACs of this host, where no backend can be

    def set_sought(self, now: float, sought: Iterable[Sought]) -> None:
        """Look for these and no others. Who is looked for already is not asked anew."""
        before = self._stations
        self._stations = {}
        for item in sought:
            station = before.get(item.place)
            if station is None:
                self._phase = (self._phase + _GOLDEN) % 1
                wait = BEGIN_AFTER + self._phase * (min(BEGIN_WITHIN, item.interval) - BEGIN_AFTER)
                station = _Station(item, item.mac, self._phase, now + wait)
            elif item.mac != station.mac or item.asked != station.sought.asked:
                station.mac = item.mac
                station.end(now)
                station.begin(now, False)
            elif item.interval != station.sought.interval and not station.questions:
                station.sought = item
                station.due = min(station.due, station.next_due(now))
            station.sought = item
            self._stations[item.place] = station
        self._queue = []
        for station in self._stations.values():
            self._put(station)

    @property
    def macs(self) -> Mapping[Place, Optional[str]]:
        return {place: station.mac for place, station in self._stations.items()}

    @property
    def next(self) -> Optional[float]:
        """When something is due; None if never."""
        while self._queue and self._queue[0][0] != self._queue[0][2].due:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def _put(self, station: _Station) -> None:
        if station.sought.asked:
            self._serial += 1
            heapq.heappush(self._queue, (station.due, self._serial, station))

    # -- what is heard

    def heard(self, now: float, place: Place, mac: str, answers: bool) -> list[str]:
        """Somebody says that he is there: unasked, or as he ``answers``. What of it is to be told people."""
        station = self._stations.get(place)
        if station is None or mac in self.own:
            return []
        if mac == station.mac:
            if answers:
                station.answers.add(mac)
                station.answered_at = now
            return []
        if not station.sought.asked:
            return self._other_than_pinned(now, station, mac)
        if answers and station.questions:
            if len(station.answers) < _MOST_CLAIMS:
                station.answers.add(mac)
            return []
        self._sign(now, station, mac, not answers)
        return []

    def _sign(self, now: float, station: _Station, mac: str, announced: bool) -> None:
        if mac in station.said and now - station.answered_at < _QUIET:
            return
        if mac in station.claims or len(station.claims) >= _MOST_CLAIMS:
            return
        # What was answered before the sign says nothing of what is now.
        station.claims.add(mac)
        if announced:
            station.announced.add(mac)
        station.begin(now, True)
        self._put(station)

    @staticmethod
    def _other_than_pinned(now: float, station: _Station, mac: str) -> list[str]:
        if not station.news(now, [mac]):
            return []
        sought = station.sought
        return [
            f"warning: {sought.name}: its MAC address is pinned to {sought.mac}, but {mac} says on "
            f"{sought.interface} that it has the address; correct or remove 'mac' if it has moved"
        ]

    def suspect(self, now: float, address: IPAddress) -> None:
        """A backend with this address may not be where it was."""
        for place in [place for place in self._stations if place[1] == address]:
            station = self._stations[place]
            if station.questions or not station.sought.asked or now - station.suspected_at < BEGIN_WITHIN:
                continue
            station.suspected_at = now
            station.begin(now, True)
            self._put(station)

    # -- what is due

    def tick(self, now: float) -> Due:
        """What is due by now; if that is too much at once, the rest still is due after it."""
        done = Due()
        while len(done.questions) < AT_ONCE:
            due = self.next
            if due is None or due > now:
                break
            station = heapq.heappop(self._queue)[2]
            if station.questions and not self._goes_on(now, station, done):
                station.end(now)
            else:
                station.alone = self._sole(station) if station.questions else None
                station.questions += 1
                station.answers = set()
                station.due = now + WINDOW
                done.questions.append(station.sought.place)
            self._put(station)
        return done

    @staticmethod
    def _sole(station: _Station) -> Optional[str]:
        return next(iter(station.answers)) if len(station.answers) == 1 else None

    def _goes_on(self, now: float, station: _Station, done: Due) -> bool:
        """Whether it has to be asked again, after the time of a question is over."""
        sole = self._sole(station)
        station.rivals |= station.answers - {station.mac or ""}
        if station.mac is not None and station.mac in station.answers:
            done.lines += self._contested(now, station)
            return False
        if sole is not None and sole == station.alone:
            move = Move(station.sought, station.mac, sole, sole in station.announced)
            station.mac, station.answered_at = sole, now
            done.moves.append(move)
            return False
        if station.questions < MOST_QUESTIONS and (station.urgent or station.rivals):
            return True
        if len(station.rivals) > 1:
            done.lines += self._undecided(now, station)
        return False

    @staticmethod
    def _contested(now: float, station: _Station) -> list[str]:
        name, mac = station.sought.name, station.mac
        lines = [
            f"warning: {name}: two stations answer for it on {station.sought.interface}, {mac} and {other}; "
            f"it stays at {mac}. Find the duplicate address"
            for other in station.news(now, station.rivals)
        ]
        lines += [
            f"warning: {name}: {other} claims its address on {station.sought.interface}, while {mac} answers for it; "
            f"it stays at {mac}"
            for other in station.news(now, station.claims - station.rivals)
        ]
        return lines

    @staticmethod
    def _undecided(now: float, station: _Station) -> list[str]:
        if not station.news(now, station.rivals):
            return []
        stays = f"it stays at {station.mac}" if station.mac else "it is left out of service"
        listed = " and ".join(sorted(station.rivals))
        return [
            f"warning: {station.sought.name}: more than one station answers for it on {station.sought.interface}: "
            f"{listed}; {stays}. Find the duplicate address"
        ]
