# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New connections go where the fewest are, though the kernel only knows turns. Pure arithmetic, no clock of its own.

The kernel's counter walks a table of turns. Several times a second the agent looks how many flows each backend has
open, and rewrites turns, so that the connections until the next look come where least connections would have sent
them. The state is seen whole at each look, so what was missed since the last one is made up for at once; it is never
sent anywhere as a herd, as turns are dealt out one by one, each to the backend that is emptiest by then.

*Turns ahead.* Where the caller knows how many turns the kernel has taken, the turns that come next are the very
sequence that least connections would choose if connections came and ended as they did lately. It serves however many
come: each beginning of it is as good. Only these turns are rewritten, in short stretches, and within a stretch a
backend keeps the turns that it has anyway.

*Shares.* When the counter goes round faster than the agent looks, or nobody knows where it stands, each backend gets
that share of the whole table by which all would be level at the next look (water filling). Turns change hands only as
far as shares changed, evenly over the table.

docs/least_connections.md has the figures beside exact least connections, and what else was tried.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ..nft_dsr.schedule import turn_table

Changes = dict[int, Optional[int]]  # turn to backend; None: the turn is taken out of the table

_GOLDEN = (math.sqrt(5) - 1) / 2
# Where nothing is known of a backend, how long its connections last is taken to be what it is in its pool: for so
# many connections that were looked at for a second.
_PRIOR = 4.0


@dataclass(frozen=True)
class Settings:
    """How the steering behaves. Times are seconds."""

    interval: float = 0.2  # from look to look
    lead: float = 0.01  # from a look until the kernel has what came of it
    slow_start: float = 30.0  # how long the weight of a backend that joins grows; 0: not at all
    first_share: float = 0.05  # the share of its weight that it begins with
    memory: float = 1.0  # over which the rate of new connections is averaged
    life_memory: float = 10.0  # over which it is averaged how many connections end
    ahead: float = 1.5  # how many turns are planned, in those that are expected until the next look
    ahead_least: int = 4  # and so many more, for bursts
    stretches: int = 4  # of the turns that are expected; each is rewritten as a whole
    stretch: int = 8  # turns that a stretch has at least
    missed: float = 64.0  # a backend that had none of so many turns that it would have had by weight alone gets one
    doubt: float = 0.2  # the part of the connections that may go elsewhere than the turns say
    doubt_time: float = 60.0  # how long the caller's count of turns is not believed after that


@dataclass
class _Member:
    """What is remembered of a backend that may get connections."""

    weight: int
    joined: Optional[float]  # None: it was always there
    open: int = 0
    ended: float = 0.0  # connections that ended lately, and over how many seconds of connections
    watched: float = 0.0
    missed: float = 0.0


class Steering:
    """The turn table of one pool, and what it has to become.

    ``slots`` is the size of the table and ``table`` what the kernel has in it now, if it is known. What the methods
    return is to be written to the kernel; they take it for granted that it was.
    """

    def __init__(
        self, slots: int, settings: Optional[Settings] = None, table: Optional[Mapping[int, int]] = None
    ) -> None:
        self.settings = settings or Settings()
        self.slots = slots
        self.rate = 0.0  # new connections in a second
        self._table: list[Optional[int]] = [(table or {}).get(slot) for slot in range(slots)]
        self._members: dict[int, _Member] = {}
        self._started = False
        self._looks = 0
        self._seen_at = 0.0
        self._looked_at = 0.0
        self._spacing = self.settings.interval
        self._turn: Optional[int] = None
        self._astray = 0.0
        self._believed_from = -math.inf

    @property
    def table(self) -> list[Optional[int]]:
        """Whose turn each is; None where there is none."""
        return list(self._table)

    def take_table(self, table: Mapping[int, int]) -> None:
        """Somebody else has written the table: go on from what is there now."""
        self._table = [table.get(slot) for slot in range(self.slots)]

    def believes(self, now: float) -> bool:
        """Whether the count of turns is in keeping with where connections went."""
        return now >= self._believed_from

    def set_members(self, weights: Mapping[int, int], now: float) -> Changes:
        """Who may get connections, each with its weight (1 or more): whoever is there, healthy and not draining.

        A backend that joins starts slowly. Those that are there from the beginning don't: the agent may have been
        started anew, and they long before.
        """
        joined = now if self._started and self.settings.slow_start > 0 else None
        self._started = self._started or bool(weights)
        known = self._members
        self._members = {mark: known.get(mark) or _Member(weight, joined) for mark, weight in sorted(weights.items())}
        for mark, member in self._members.items():
            member.weight = weights[mark]
        gone = [slot for slot, mark in enumerate(self._table) if mark not in self._members]
        if not weights:
            self._looks = 0
            return self._write({slot: None for slot in gone if self._table[slot] is not None})
        # One that joins is not met by all that another one leaves.
        shares = {mark: max(1, round(1000 * self._weight(member, now))) for mark, member in self._members.items()}
        return self._write(dict(zip(gone, turn_table(shares, len(gone)))))

    def look(
        self, now: float, opened: Mapping[int, int], began: Mapping[int, int], turn: Optional[int] = None
    ) -> Changes:
        """The turns that change by what was seen ``now`` (monotonic seconds).

        ``opened`` is how many flows each backend has open, ``began`` how many of its flows began since the last
        look, and ``turn`` how many turns the kernel has taken since it began at slot 0, if the caller can tell for
        sure; a multiple of the size of the table may be left off.
        """
        settings = self.settings
        if not self._members:
            return {}
        if self._looks:
            self._spacing += 0.2 * (min(now - self._looked_at, 10 * settings.interval) - self._spacing)
        self._looked_at = now
        if self._idle(opened, began, turn):
            return {}
        came = sum(began.get(mark, 0) for mark in self._members)
        self._compare_turns(now, began, came, turn)
        self._learn(now, opened, began, came)
        if self._looks == 1:
            return {}
        weights = [self._weight(member, now) for member in self._members.values()]
        self._count_missed(began, came, weights)
        expected = max(1.0, self.rate * self._spacing)
        planned = int(expected * settings.ahead) + settings.ahead_least
        if turn is not None and planned <= self.slots and self.believes(now):
            return self._write(self._turns_ahead(turn, expected, planned, weights))
        return self._write(self._shares(expected, weights))

    # -- what is learned

    def _idle(self, opened: Mapping[int, int], began: Mapping[int, int], turn: Optional[int]) -> bool:
        """Nothing came and nothing ended, so everything stays; most VIPs of many are like that at most times."""
        return (
            self._looks > 1
            and turn == self._turn
            and not any(began.values())
            and all(
                member.open == opened.get(mark, 0) and member.joined is None for mark, member in self._members.items()
            )
        )

    def _compare_turns(self, now: float, began: Mapping[int, int], came: int, turn: Optional[int]) -> None:
        """Did connections go where the turns say? If not, the count of turns is wrong, and of no use for a while."""
        before, self._turn = self._turn, turn
        if turn is None or before is None:
            return
        taken = (turn - before) % self.slots
        # Nothing can be told when the counter went round, or when much of what began took no turn.
        if not taken or abs(came - taken) > 1 + 0.1 * taken:
            return
        left = dict(began)
        for slot in range(before, before + taken):
            mark = self._table[slot % self.slots]
            if mark is not None and left.get(mark, 0):
                left[mark] -= 1
        astray = sum(left.get(mark, 0) for mark in self._members)
        self._astray += min(1.0, taken / 100) * (max(0, astray - 1) / taken - self._astray)
        if self._astray > self.settings.doubt and self.believes(now):
            self._believed_from = now + self.settings.doubt_time
            self._astray = 0.0

    def _learn(self, now: float, opened: Mapping[int, int], began: Mapping[int, int], came: int) -> None:
        """The rate of new connections, and how long they last with each."""
        settings = self.settings
        elapsed = now - self._seen_at
        self._seen_at = now
        self._looks += 1
        if self._looks == 1 or elapsed <= 0:
            for mark, member in self._members.items():
                member.open = opened.get(mark, 0)
            return
        weight = 1.0 if self._looks == 2 else 1 - math.exp(-elapsed / settings.memory)
        self.rate += weight * (came / elapsed - self.rate)
        fade = math.exp(-elapsed / settings.life_memory)
        for mark, member in self._members.items():
            is_open = opened.get(mark, 0)
            member.ended = member.ended * fade + max(0, member.open + began.get(mark, 0) - is_open)
            member.watched = member.watched * fade + elapsed * (member.open + is_open) / 2
            member.open = is_open
            if member.joined is not None and now - member.joined >= settings.slow_start:
                member.joined = None

    def _count_missed(self, began: Mapping[int, int], came: int, weights: Sequence[float]) -> None:
        total = sum(weights)
        for (mark, member), weight in zip(self._members.items(), weights):
            member.missed = 0.0 if began.get(mark) else member.missed + came * weight / total

    def _weight(self, member: _Member, now: float) -> float:
        """Its weight now: one that joins begins with a small share of it, which grows evenly."""
        settings = self.settings
        if member.joined is None or settings.slow_start <= 0:
            return member.weight
        return member.weight * min(1.0, max(settings.first_share, (now - member.joined) / settings.slow_start))

    def _losses(self) -> list[float]:
        """How many connections of each are expected to end until the next look."""
        members = self._members.values()
        watched = sum(member.watched for member in members)
        usual = sum(member.ended for member in members) / watched if watched else 0.0
        return [
            member.open * (1 - math.exp(-self._spacing * (member.ended + _PRIOR * usual) / (member.watched + _PRIOR)))
            for member in members
        ]

    def _overdue(self) -> Optional[int]:
        """The place of the one that has waited longest for a turn, if that is too long, until it had one."""
        missed, place = max((member.missed, -place) for place, member in enumerate(self._members.values()))
        return -place if missed >= self.settings.missed else None

    # -- what becomes of it

    def _turns_ahead(self, turn: int, expected: float, planned: int, weights: Sequence[float]) -> Changes:
        """The turns that come next, in stretches."""
        settings = self.settings
        members = list(self._members.values())
        marks = list(self._members)
        places: dict[Optional[int], int] = {mark: place for place, mark in enumerate(marks)}
        steps = [1 / weight for weight in weights]
        # What is compared is how full each would be with one connection more.
        full = [(member.open + 1) * step for member, step in zip(members, steps)]
        ending = [loss * step / expected for loss, step in zip(self._losses(), steps)]
        # What may be taken before this is written stays: the mean, and twice its deviation.
        taken = self.rate * settings.lead
        first = min(planned, round(taken + 2 * math.sqrt(taken)))
        for ahead in range(first):
            place = places[self._table[(turn + ahead) % self.slots]]
            full[place] += steps[place]
        size = max(settings.stretch, int(expected / settings.stretches))
        overdue = self._overdue()
        changes: Changes = {}
        for start in range(first, planned, size):
            stop = min(planned, start + size)
            middle = min(expected, (start + stop) / 2)
            heap = [(height - middle * loss, place) for place, (height, loss) in enumerate(zip(full, ending))]
            heapq.heapify(heap)
            plan = []
            for _unused in range(start, stop):
                height, place = heap[0]
                plan.append(place)
                heapq.heapreplace(heap, (height + steps[place], place))
                full[place] += steps[place]
            if start == first and overdue is not None and overdue not in plan:
                plan[-1] = overdue
            slots = [(turn + ahead) % self.slots for ahead in range(start, stop)]
            changes.update(self._rewritten(slots, [marks[place] for place in plan]))
        return changes

    def _rewritten(self, slots: Sequence[int], plan: Sequence[int]) -> Changes:
        """A stretch of turns as planned, but in such an order that most of them stay what they are."""
        wanted: dict[Optional[int], int] = dict.fromkeys(plan, 0)
        for mark in plan:
            wanted[mark] += 1
        free = []
        for slot in slots:
            owner = self._table[slot]
            if wanted.get(owner, 0):
                wanted[owner] -= 1
            else:
                free.append(slot)
        changes: Changes = {}
        left = iter(free)
        for mark in plan if free else ():
            if wanted[mark]:
                wanted[mark] -= 1
                changes[next(left)] = mark
        return changes

    def _shares(self, expected: float, weights: Sequence[float]) -> Changes:
        """The whole table by shares that make all level at the next look."""
        marks = list(self._members)
        left = [member.open - loss for member, loss in zip(self._members.values(), self._losses())]
        counts = _rounded(fill(left, weights, expected), self.slots)
        overdue = self._overdue()
        if overdue is not None and not counts[overdue]:
            counts[max(range(len(counts)), key=lambda place: (counts[place], -place))] -= 1
            counts[overdue] += 1
        turns: dict[Optional[int], list[int]] = {mark: [] for mark in marks}
        for slot, mark in enumerate(self._table):
            turns[mark].append(slot)
        # Who has too many gives up turns at even distances, each time others; they are dealt out evenly again.
        phase = self._looks * _GOLDEN % 1
        freed: list[int] = []
        wanted = {}
        for mark, count in zip(marks, counts):
            have = len(turns[mark])
            if have > count:
                freed += [turns[mark][int((turn + phase) * have / (have - count))] for turn in range(have - count)]
            elif have < count:
                wanted[mark] = count - have
        return dict(zip(sorted(freed), turn_table(wanted, len(freed))))

    def _write(self, changes: Changes) -> Changes:
        for slot, mark in changes.items():
            self._table[slot] = mark
        return changes


def fill(opened: Sequence[float], weights: Sequence[float], number: float) -> list[float]:
    """How much of ``number`` each gets, so that the emptiest for their weights rise to one level (water filling)."""
    order = sorted(range(len(opened)), key=lambda place: (opened[place] / weights[place], place))
    content, width, level = number, 0.0, 0.0
    for rank, place in enumerate(order):
        content += opened[place]
        width += weights[place]
        level = content / width
        if rank + 1 < len(order) and level <= opened[order[rank + 1]] / weights[order[rank + 1]]:
            break
    return [max(0.0, level * weight - have) for weight, have in zip(weights, opened)]


def _rounded(parts: Sequence[float], slots: int) -> list[int]:
    """Whole turns by the largest remainder."""
    total = sum(parts)
    exact = [slots * part / total for part in parts]
    counts = [int(part) for part in exact]
    order = sorted(range(len(parts)), key=lambda place: (counts[place] - exact[place], place))
    for place in order[: slots - sum(counts)]:
        counts[place] += 1
    return counts
